/* The model inside: nodes in topological order, each of a layer type, and parameters.
 *
 * Node 0 is the input. The last node is the output and must be [1,1,1,classes]. A softmax behind it is noted, no node.
 */
#ifndef CNN_CORE_MODEL_H
#define CNN_CORE_MODEL_H

#include "cnn/model.h"
#include "core/input_file.h"
#include "core/memory.h"

enum {
    CNN_MAX_INPUTS = 8,
    CNN_MAX_ATTRS = 8,
    CNN_NAME_BYTES = 64,
    CNN_MAX_NODES = 4096,
    CNN_AUGMENTATION_BYTES = 256,
    CNN_MAX_CHANNELS = 1 << 24,
    CNN_MAX_SIDE = 1 << 16
};

/* Roles of parameters; a node has at most one of each. Ids of those in front of CNN_PARAM_STORED are part of the .cnn
 * format: append only. */
typedef enum cnn_param_role {
    CNN_PARAM_WEIGHT = 0,              /* [K,R,S,C] */
    CNN_PARAM_BIAS = 1,                /* [K] */
    CNN_PARAM_GAMMA = 2,               /* [C] */
    CNN_PARAM_BETA = 3,                /* [C] */
    CNN_PARAM_RUNNING_MEAN = 4,        /* [C], not trained by gradient */
    CNN_PARAM_RUNNING_VAR = 5,         /* [C] */
    CNN_PARAM_STORED,                  /* files hold those before it */
    CNN_PARAM_STEP = CNN_PARAM_STORED, /* [1], of weights that train on a grid: ln(step / their cnn_param.step) */
    CNN_PARAM_COUNT
} cnn_param_role;

/* Whether training moves it along with the batches' statistics, not by its gradient. */
static inline bool cnn_param_is_statistic(cnn_param_role role)
{
    return role == CNN_PARAM_RUNNING_MEAN || role == CNN_PARAM_RUNNING_VAR;
}

/* A parameter on the host. f32, or for a quantized layer weight i8 with scale[K] and bias i32.
 *
 * Weights of few levels lie on a grid, whole numbers in [-levels, levels] times a step. In training the node has the
 * role CNN_PARAM_STEP: the values are what is trained, and what computes are their nearest points on the grid of this
 * layer. Later the node has none: the values are the points themselves, and each output channel has its step. */
typedef struct cnn_param {
    cnn_tensor_desc desc; /* dtype CNN_NONE: the node has no such parameter */
    void *data;           /* 64-byte aligned, cnn_aligned_free unless in_file */
    float *scale;         /* [K] of i8 weights, else NULL; cnn_aligned_free */
    uint8_t *mask;        /* 1 byte an element, 0 = pruned and held at zero; NULL: all live; cnn_aligned_free */
    int32_t levels;       /* of f32 weights on a grid; 0: any value */
    float step;           /* of a grid in training: where role CNN_PARAM_STEP is 0 */
    float *grid;          /* [K] steps after it, else NULL; cnn_aligned_free */
    bool in_file;         /* data is read only and lies in the model's file */
} cnn_param;

typedef enum cnn_attr_type { CNN_ATTR_INT, CNN_ATTR_FLOAT, CNN_ATTR_BOOL } cnn_attr_type;

/* One attribute of a layer type, as written in .cfg and stored in .cnn (by its position: append only). */
typedef struct cnn_attr_spec {
    const char *name;
    cnn_attr_type type;
    bool required;
    double standard; /* default; unused when required */
    double min, max;
} cnn_attr_spec;

struct cnn_layer_type; /* core/layers.h */

typedef struct cnn_node {
    const struct cnn_layer_type *type;
    char name[CNN_NAME_BYTES];
    int input_count;
    int input[CNN_MAX_INPUTS]; /* node numbers, smaller than this node's */
    double attr[CNN_MAX_ATTRS];
    cnn_tensor_desc out; /* one image, n = 1, f32, c_pad = c */
    cnn_param param[CNN_PARAM_COUNT];
    float out_scale; /* INT8: scale of this node's output; 0 for logits and unquantized models */
    int line;        /* of the .cfg; 0 when unknown */
    bool frozen;     /* training leaves its parameters and statistics as they are; not stored in files */
    int32_t levels;  /* that its weights are to have on either side of 0; 0: as many as others; not stored in files */
} cnn_node;

struct cnn_model {
    char name[CNN_NAME_BYTES]; /* "convnet" */
    cnn_node *nodes;
    int node_count;
    int node_capacity; /* of nodes, for cnn_model_add */
    bool softmax;      /* one ends the network, behind the last node: it is no node, so that scores are the output */
    cnn_dataset_id dataset;
    cnn_normalization normalization;           /* mean and deviation 0.5 by default */
    uint64_t split_seed;                       /* of cnn_dataset_split; CNN_SPLIT_SEED by default */
    cnn_preparation preparation;               /* of pictures; CNN_PREPARE_UNKNOWN: cnn_model_form decides */
    char **class_names;                        /* [classes] of its own, a list as core/class_names.h has it, or NULL */
    double augment;                            /* share of the images that its last training changed, 0 to 1 ... */
    char augmentation[CNN_AUGMENTATION_BYTES]; /* ... and how, as cnn_train_options has it; "": as suits the data */
    char *text;                                /* free text for people (how it was made), or NULL */
    bool is_signed;                            /* its file has a signature, which was checked by who asked for it */
    cnn_input_file file;                       /* that parameters lie in; closed when none does */
};

#define CNN_SPLIT_SEED 20260u

/* What networks made for a data set do to its pixels; mean and deviation 0.5 where it has nothing of its own. Lives for
 * ever. */
const cnn_normalization *cnn_dataset_normalization(cnn_dataset_id id);

/* Appends a node and returns its number, or on failure -status (-CNN_ERR_SHAPE, -CNN_ERR_MEMORY), error recorded.
 * `attr` may be NULL for defaults. The node's name, inputs and attributes are checked; shapes and parameters come with
 * cnn_model_finish. */
int cnn_model_add(cnn_model *model, const struct cnn_layer_type *type, const char *name, const int *input,
                  int input_count, const double *attr);

/* Infers shapes of all nodes and allocates (zeroed) every parameter that is missing. A parameter that is there keeps
 * its dtype and must have the shape that the graph asks for. Errors name node and line. */
cnn_status cnn_model_finish(cnn_model *model, const char *source);

/* Shapes of one node, whose inputs have theirs; the error names no place. For readers that need them on the way. */
cnn_status cnn_model_infer_node(cnn_model *model, int node);

/* Shapes only: for readers that bring their own parameters. */
cnn_status cnn_model_infer_shapes(cnn_model *model, const char *source);

/* A model with no nodes and default metadata. */
cnn_model *cnn_model_new(void);

/* Allocates desc's bytes, zeroed, into param (which must be empty). */
cnn_status cnn_param_alloc(cnn_param *param, cnn_tensor_desc desc);
void cnn_param_free(cnn_param *param);

/* True when a parameter has a mask. */
bool cnn_model_has_masks(const cnn_model *model);

/* Whether it is a convolution or linear layer, which has weights. */
static inline bool cnn_node_has_weights(const cnn_node *node)
{
    return node->param[CNN_PARAM_WEIGHT].desc.dtype != CNN_NONE;
}

/* Whether a node has weights or other parameters. */
bool cnn_node_has_params(const cnn_node *node);
int64_t cnn_node_weight_count(const cnn_node *node); /* stored values, as cnn_model_weight_count */
int64_t cnn_node_macs(const cnn_model *model, int node);

/* Checks that every channel's mean is finite and deviation positive. */
cnn_status cnn_normalization_check(const cnn_normalization *normalization);

/* Freezes the layers that `names` lists, "conv1,bn1", and no others; "all" is every layer with parameters but the last
 * one with weights; NULL: none. Refused, with nothing changed: unknown names, layers without parameters, and a
 * list that leaves nothing to train. */
cnn_status cnn_model_freeze(cnn_model *model, const char *names);
void cnn_model_thaw(cnn_model *model);
/* "conv1, bn1", those that are frozen; "none". Free with free(). */
cnn_status cnn_model_frozen(const cnn_model *model, char **names);

/* Appends "conv1, bn1", the layers with parameters for which which[i] is `value`, or all when `which` is NULL; "none".
 */
void cnn_model_list(const cnn_model *model, const bool *which, bool value, cnn_text *text);

/* A float model with the weights that an INT8 model's integers stand for, node by node the same: s_w[k] * q, and
 * (s_in * s_w[k]) * q of biases. */
cnn_status cnn_model_dequantize(const cnn_model *model, cnn_model **twin);

/* Number of the node with this name, or -1. */
int cnn_model_find(const cnn_model *model, const char *name);

/* Readers of node `node`'s value; returns their count and, if it is 1, the reader in *only. */
int cnn_model_readers(const cnn_model *model, int node, int *only);

/* "conv1.weight" */
const char *cnn_param_role_name(cnn_param_role role);

#endif
