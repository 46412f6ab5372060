/* An ONNX graph on its way into a model.
 *
 * Nodes are read in the order of the file, in which every value is given before it is read. Each name of the graph
 * stands for a value: what a layer computes, a constant, or the sizes of a tensor. */
#ifndef CNN_ONNX_IMPORT_H
#define CNN_ONNX_IMPORT_H

#include "core/layers.h"
#include "onnx/format.h"

/* A constant: its elements as they lie in the file, or a block of ours. */
typedef struct cnn_onnx_constant {
    const char *name; /* of the initializer that it began as; "" when it has none */
    cnn_onnx_type type;
    int rank;
    int64_t dims[CNN_ONNX_MAX_RANK];
    int64_t count;                         /* elements, the product of dims */
    const uint8_t *data;                   /* [count], little-endian */
    const struct cnn_onnx_constant *scale; /* after DequantizeLinear: float, one or [dims[axis]]; else NULL */
    int axis;
} cnn_onnx_constant;

typedef enum cnn_onnx_kind {
    CNN_ONNX_NOT_GIVEN, /* no node before this one gives it */
    CNN_ONNX_CONSTANT,
    CNN_ONNX_LAYER,
    CNN_ONNX_SIZES
} cnn_onnx_kind;

/* Stands for the number of images among sizes. */
#define CNN_ONNX_BATCH INT64_MIN

typedef struct cnn_onnx_value {
    const char *name;
    size_t producer; /* the node that gives it; none for inputs and initializers */
    size_t readers;  /* how often nodes that the output needs read it */
    cnn_onnx_kind kind;
    cnn_onnx_constant constant;
    int node;                        /* CNN_ONNX_LAYER: the number of the layer */
    bool flat;                       /* [N,values], else [N,C,H,W] */
    bool codes;                      /* INT8 numbers, between QuantizeLinear and DequantizeLinear */
    bool finished;                   /* after a softmax: only the output may read it */
    bool bare;                       /* a MatMul, which has no bias yet */
    cnn_normalization normalization; /* of layer 0: what was done to the pixels so far */
    int size_count;                  /* CNN_ONNX_SIZES */
    bool scalar;                     /* one size, as a number */
    int64_t sizes[CNN_ONNX_MAX_RANK];
} cnn_onnx_value;

typedef struct cnn_onnx_import {
    const char *path;
    const cnn_onnx_graph *graph;
    int64_t opset;
    int64_t batch; /* images of the input; 0: any number */
    cnn_onnx_value *values;
    size_t value_count; /* sorted by name */
    cnn_model *model;
    bool image_read; /* a layer has read the image, so that its normalization is settled */
    bool ours;       /* cnnkit wrote the file: nodes are called like layers */
    struct cnn_onnx_blocks {
        void **list;
        size_t count;
    } blocks;                           /* memory that goes with the import */
    struct cnn_onnx_external *external; /* files beside it that are open (import_file.c) */
} cnn_onnx_import;

/* ---- import_values.c ---- */

/* Cleared memory that goes with the import; NULL and an error without any. */
void *cnn_onnx_block(cnn_onnx_import *import, size_t count, size_t size);

/* Text of a file as it may be shown: at most 80 bytes, other than printable ASCII as '?'. */
const char *cnn_onnx_shown(const char *text, char shown[96]);

/* Makes the list of all names; two of one name are refused. */
cnn_status cnn_onnx_list_values(cnn_onnx_import *import);
cnn_onnx_value *cnn_onnx_find(const cnn_onnx_import *import, const char *name); /* NULL: there is none */

/* Input i of a node, NULL when it is left out; output 0. Both exist: the caller of `read` checked it. */
cnn_onnx_value *cnn_onnx_input_of(const cnn_onnx_import *import, const cnn_onnx_node *node, size_t i);
cnn_onnx_value *cnn_onnx_output_of(const cnn_onnx_import *import, const cnn_onnx_node *node);
/* Output 0 becomes another name of the value. */
void cnn_onnx_pass(const cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_onnx_value *value);

/* Input i as a constant; as a value of floats that layers compute with, and which has pixels, or is flat. The errors
 * say what it is. */
cnn_status cnn_onnx_constant_of(const cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, const char *what,
                                const cnn_onnx_constant **constant);
cnn_status cnn_onnx_layer_of(cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, cnn_onnx_value **value);
cnn_status cnn_onnx_spatial_of(cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, cnn_onnx_value **value);
cnn_status cnn_onnx_flat_of(cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, cnn_onnx_value **value);

/* ---- attributes.c: those of a node, with what stands for one that is not there ---- */

const cnn_onnx_attribute *cnn_onnx_attribute_of(const cnn_onnx_node *node, const char *name); /* NULL: not there */
cnn_status cnn_onnx_get_int(const cnn_onnx_node *node, const char *name, int64_t standard, int64_t *value);
cnn_status cnn_onnx_get_real(const cnn_onnx_node *node, const char *name, float standard, float *value);
/* A list of `count` whole numbers, each `standard` when it is not there. */
cnn_status cnn_onnx_get_ints(const cnn_onnx_node *node, const char *name, size_t count, int64_t standard,
                             int64_t *values);
/* An error unless the number has this value, or is not there. */
cnn_status cnn_onnx_want_int(const cnn_onnx_node *node, const char *name, int64_t value);

/* ---- constants.c ---- */

/* Makes a constant of a tensor of the file. */
cnn_status cnn_onnx_read_tensor(cnn_onnx_import *import, const cnn_onnx_tensor *tensor, cnn_onnx_constant *constant);
/* Its elements as floats, dequantized, in a block of the import. */
cnn_status cnn_onnx_floats(cnn_onnx_import *import, const cnn_onnx_constant *constant, const float **values);
/* A list of at most CNN_ONNX_MAX_RANK whole numbers. */
cnn_status cnn_onnx_wholes(const cnn_onnx_constant *constant, int64_t *values, int *count);
size_t cnn_onnx_type_bytes(cnn_onnx_type type);     /* 0: a type that is not read */
const char *cnn_onnx_type_name(cnn_onnx_type type); /* "FLOAT" */
/* Scale `i` of a dequantized constant; element `i` of a list of floats. */
float cnn_onnx_scale_at(const cnn_onnx_constant *constant, int64_t i);

/* ---- import_layers.c ---- */

/* Appends a layer with its attributes in `draft`, reading `inputs`; its shapes are inferred. The node's output becomes
 * its value, flat like its first input. `weight` NULL, or a constant that may name the layer. */
cnn_status cnn_onnx_put_layer(cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_node *draft,
                              cnn_onnx_value *const *inputs, const cnn_onnx_constant *weight, int *made);
/* A layer with the standard attributes of its type, to set. */
cnn_node cnn_onnx_draft(int layer);
/* Whether a constant that is added to a value has one value, or one for each of its channels. */
bool cnn_onnx_is_per_channel(const cnn_onnx_constant *constant, bool flat, int32_t channels);
/* Gives a layer that has none a bias of so many outputs or one for all, times `factor`; i32 where its weights are i8.
 */
cnn_status cnn_onnx_put_bias(cnn_onnx_import *import, int layer, const cnn_onnx_constant *bias, float factor);

/* ---- import_pools.c ---- */

/* Kernel, stride and padding of a convolution or pooling, which are square here. `kernel` is known, or 0. */
typedef struct cnn_onnx_window {
    int64_t kernel, stride, pad;
} cnn_onnx_window;
cnn_status cnn_onnx_read_window(const cnn_onnx_node *node, const cnn_tensor_desc *in, const int64_t kernel[2],
                                cnn_onnx_window *w);

/* ---- import_forms.c ---- */

/* The axes of a node, CNN_ONNX_MAX_RANK at most: an input in newer opsets, before that an attribute. */
cnn_status cnn_onnx_read_axes(const cnn_onnx_import *import, const cnn_onnx_node *node, int64_t *axes, int *count);
/* Whether they are height and width, 2 and 3, also counted from the last one. */
bool cnn_onnx_axes_of_pixels(const int64_t *axes, int count);

/* ---- import_file.c ---- */

/* The bytes of a tensor that lies in a file beside this one. */
cnn_status cnn_onnx_external_data(cnn_onnx_import *import, const cnn_onnx_tensor *tensor, size_t bytes,
                                  const uint8_t **data);
void cnn_onnx_external_close(cnn_onnx_import *import);

/* ---- import.c ---- */

/* Reads a model from the bytes of a file; `path` names it, and the folder of what lies beside it. */
cnn_status cnn_onnx_decode(const uint8_t *data, size_t size, const char *path, const cnn_normalization *input,
                           cnn_model **model);

#endif
