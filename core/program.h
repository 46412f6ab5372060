/* Programs: what a graph becomes for one purpose on one device.
 *
 *   graph --lower--> ops over numbered buffers --fuse--> --plan memory--> --prepare--> kernels
 *
 * Lowering is device-independent; fusion asks the backend; planning gives each temporary an offset in one arena by
 * its lifetime; preparing makes the kernels. */
#ifndef CNN_CORE_PROGRAM_H
#define CNN_CORE_PROGRAM_H

#include "cnn/backend.h"
#include "cnn/session.h"
#include "core/memory.h"
#include "core/model.h"

/* Where a buffer lives. Everything but ARENA and CONST is memory of the session, shared by its programs. */
typedef enum cnn_place {
    CNN_PLACE_ARENA,       /* temporary, planned */
    CNN_PLACE_CONST,       /* made by lowering from host bytes: tables, multipliers */
    CNN_PLACE_PARAM,       /* a parameter: f32 master, or i8 / i32 of a quantized model */
    CNN_PLACE_HALF,        /* f16/bf16 copy of a parameter in training */
    CNN_PLACE_GRAD,        /* f32 gradient of a parameter that trains */
    CNN_PLACE_MOMENTUM,    /* f32 */
    CNN_PLACE_SQUARES,     /* f32 means of squared gradients */
    CNN_PLACE_EMA,         /* average of those in PARAM that train */
    CNN_PLACE_RUNNING,     /* running BN statistics: of one node mean, then variance, each padded to 16 */
    CNN_PLACE_EMA_RUNNING, /* average of RUNNING */
    CNN_PLACE_BATCH,       /* BN statistics of the batch, laid out likewise */
    CNN_PLACE_IMAGES,      /* bound at run: u8 images */
    CNN_PLACE_INDEX,       /* i32 which images, in order; a batch begins at the state's cursor */
    CNN_PLACE_LABELS,      /* u8 */
    CNN_PLACE_TEACHER,     /* f32 [images,1,1,K] what a teacher answers to each */
    CNN_PLACE_STATE,       /* cnn_train_state */
    CNN_PLACE_RATES,       /* f32 learning rates */
    CNN_PLACE_SEGMENTS,    /* i32 offsets of the segments */
    CNN_PLACE_FLAGS,       /* i32 nonfinite flag a segment */
    CNN_PLACE_LOGITS,      /* bound at run: f32 [N,1,1,K] */
    CNN_PLACE_RESULT,      /* f32 [2] loss and correct answers */
    CNN_PLACE_AUGMENT,     /* u8, cnn_augment_params of the images of the next step */
    CNN_PLACE_REPORTS,     /* u8 ring of cnn_step_report, which the host reads */
    CNN_PLACE_MASK,        /* u8, 0 for each pruned one of the trainable values; only in models with masks */
    CNN_PLACE_PIXELS,      /* f32 [N,H,W,C] normalized images whose gradient is asked for ... */
    CNN_PLACE_TARGETS,     /* ... and u8 [N] their labels */
    CNN_PLACE_COUNT
} cnn_place;

typedef struct cnn_buffer {
    cnn_tensor_desc desc;
    cnn_place place;
    int node;            /* whose value, gradient or parameter; -1: the whole memory of its place */
    cnn_param_role role; /* PARAM, HALF, GRAD, RUNNING, BATCH with node >= 0 */
    size_t offset;       /* bytes: ARENA in the arena, CONST in the program's constants */
    int first, last;     /* ARENA: instructions that write it first and use it last */
} cnn_buffer;

typedef struct cnn_instruction {
    cnn_op_desc desc;
    int arg[CNN_ARG_COUNT]; /* buffer numbers, -1 where absent */
    int node;               /* graph node whose value (or gradient) it ends in; -1: none */
    cnn_kernel *kernel;     /* after cnn_program_prepare */
} cnn_instruction;

/* What a program is for. */
typedef enum cnn_goal {
    CNN_GOAL_INFER,   /* images -> logits; INT8 when the model is quantized */
    CNN_GOAL_OBSERVE, /* the same, unfused and with every node's value kept */
    CNN_GOAL_TRAIN,   /* one whole training step */
    CNN_GOAL_GRADIENT /* normalized pixels and labels -> logits, loss and the gradient of the pixels; as in inference,
                         f32, unfused: every node's value is there */
} cnn_goal;

typedef struct cnn_program {
    cnn_goal goal;
    int batch;
    cnn_instruction *instructions;
    int instruction_count, instruction_capacity;
    cnn_buffer *buffers;
    int buffer_count, buffer_capacity;
    uint8_t *constants; /* host bytes of CONST buffers */
    size_t constant_bytes, constant_capacity;
    void *device_constants;   /* where kernels read them; == constants on host-memory backends */
    bool ran;                 /* once, so that libraries have loaded what they need */
    cnn_recording *recording; /* of all its instructions; NULL: none yet */
    size_t arena_bytes, workspace_bytes;
    int node_count;     /* of the model */
    int *value;         /* [node_count] buffer of each node's value, -1 where fused away */
    int pixel_gradient; /* buffer of that of the pixels (CNN_GOAL_GRADIENT); else -1 */
} cnn_program;

/* State of lowering one model; layer types append to it. */
typedef struct cnn_lowering {
    const cnn_model *model;
    cnn_program *program;
    cnn_goal goal;
    int batch;
    cnn_dtype storage;     /* dtype of float activations and working weights */
    cnn_step_options step; /* of CNN_GOAL_TRAIN */
    bool int8;             /* lower to INT8 ops */
    bool constant_weights; /* inference outside of training: kernels may pack weights once */
    const cnn_backend *backend;
    cnn_device *device; /* for channel_align */
    int data_count;
    int rate_count;
    int index_count;
    int report_count;
    bool *needs;           /* [node_count] whether the gradient of the node's value is needed: it or a node before it
                              trains (training) */
    int *gradient;         /* [node_count] buffer of the gradient of each node's value, -1: none yet (training) */
    cnn_status status;     /* first failure; the functions below then do nothing that matters */
    cnn_instruction spare; /* what cnn_lower_op returns after a failure */
} cnn_lowering;

/* All arguments absent; set the roles you need. */
typedef struct cnn_args {
    int buffer[CNN_ARG_COUNT];
} cnn_args;
static inline cnn_args cnn_args_none(void)
{
    cnn_args args;
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        args.buffer[role] = -1;
    return args;
}

/* ---- For layer types ---- */

/* A new buffer for node's value, or one more of its shape: with the batch, channels padded as the backend wants. The
 * output node's f32 value lies in LOGITS. */
int cnn_lower_value(cnn_lowering *lowering, int node, cnn_dtype dtype);
/* A new buffer like that of node's value, with so many channels. */
int cnn_lower_channels(cnn_lowering *lowering, int node, cnn_dtype dtype, int32_t channels);
/* A fresh temporary. */
int cnn_lower_temporary(cnn_lowering *lowering, cnn_tensor_desc desc, int node);
/* The buffer of a parameter in a place; -1 when the node has none. */
int cnn_lower_param(cnn_lowering *lowering, int node, cnn_param_role role, cnn_place place);
/* A buffer of constant bytes (copied). */
int cnn_lower_constant(cnn_lowering *lowering, cnn_tensor_desc desc, const void *bytes);
/* The images and, in training, the index that the program is run with. */
int cnn_lower_images(cnn_lowering *lowering);
int cnn_lower_pixels(cnn_lowering *lowering); /* CNN_GOAL_GRADIENT, in their place */
int cnn_lower_index(cnn_lowering *lowering);
/* The training state. */
int cnn_lower_state(cnn_lowering *lowering);
/* How the images of the next step are augmented. */
int cnn_lower_augmentation(cnn_lowering *lowering);
/* Whether the program trains the parameters of a node. */
static inline bool cnn_lower_trains(const cnn_lowering *lowering, const cnn_node *node)
{
    return lowering->goal == CNN_GOAL_TRAIN && !node->frozen;
}
/* The gradient of `node`'s value, which backward() of the node reads. */
int cnn_lower_gradient(cnn_lowering *lowering, int node);
/* Where backward() writes its share of the gradient of input `node`; finish with cnn_lower_gradient_done, which adds
 * it to what other readers gave. -1 when the input needs no gradient. */
int cnn_lower_gradient_begin(cnn_lowering *lowering, int node);
void cnn_lower_gradient_done(cnn_lowering *lowering, int node, int buffer);
/* Appends an instruction whose descs of args are filled from the buffers. */
cnn_instruction *cnn_lower_op(cnn_lowering *lowering, cnn_op op, int node, const cnn_args *args);
/* The buffer of an argument of the op that computes `node` forward: what backward() needs again. */
int cnn_lower_forward_arg(const cnn_lowering *lowering, int node, cnn_op op, cnn_arg role);
/* Appends an epilogue step to an instruction. */
void cnn_lower_epilogue(cnn_instruction *instruction, cnn_epilogue_kind kind);
/* Declares that `buffer` holds the value of `node`. */
void cnn_lower_set_value(cnn_lowering *lowering, int node, int buffer);
/* The buffer of the value of the node's input number `i`. */
int cnn_lower_input(const cnn_lowering *lowering, int node, int i);

/* ---- For sessions ---- */

/* Parameters lie in one contiguous f32 memory, in order of nodes and roles, each padded to 16 elements: first those
 * that train, behind them those of frozen layers. What belongs to training, gradients and what optimizers remember, is
 * as long as the first part, so that no optimizer reaches the second. A segment is one parameter that trains. */
enum { CNN_SEGMENT_ALIGN = 16 };
typedef struct cnn_segments {
    int count;
    int64_t elements; /* of all segments, padding included; lowering for training refuses more than INT32_MAX */
    int64_t all;      /* the same with the parameters of frozen layers */
} cnn_segments;
cnn_segments cnn_model_segments(const cnn_model *model);
/* Number of the segment of a parameter and where it begins; -1 when the node has no such parameter that trains. */
int cnn_model_segment(const cnn_model *model, int node, cnn_param_role role, int64_t *offset);
/* The node of segment number `segment`; -1 when out of range. */
int cnn_model_segment_node(const cnn_model *model, int segment);
/* Where a parameter begins, frozen or not, in elements, or -1 when the node has none in this memory. */
int64_t cnn_model_param(const cnn_model *model, int node, cnn_param_role role);
/* Where a running statistic begins, in elements, or -1; with node = node_count, the length of all. */
int64_t cnn_model_statistic(const cnn_model *model, int node, cnn_param_role role);

/* All of these record an error on failure. cnn_program_free(NULL) is allowed. */
typedef struct cnn_lower_options {
    cnn_goal goal;
    int batch;
    cnn_dtype storage;     /* of CNN_GOAL_TRAIN; the others compute in f32, or INT8 when the model is quantized */
    cnn_step_options step; /* of CNN_GOAL_TRAIN */
    bool constant_weights; /* the session never changes parameters */
    int data_count;        /* images that an index may name (CNN_GOAL_TRAIN) */
    int rate_count;        /* learning rates in RATES (CNN_GOAL_TRAIN) */
    int index_count;       /* images that INDEX names (CNN_GOAL_TRAIN) */
    int report_count;      /* reports in REPORTS (CNN_GOAL_TRAIN) */
    const cnn_backend *backend;
    cnn_device *device;
} cnn_lower_options;
cnn_status cnn_program_lower(const cnn_model *model, const cnn_lower_options *options, cnn_program **program);
/* Merges element-wise ops into the convolution or linear op before them where the backend accepts the merged op. */
cnn_status cnn_program_fuse(cnn_program *program, const cnn_backend *backend, cnn_device *device);
/* Sets arena offsets; buffers whose lifetimes overlap never share bytes. */
cnn_status cnn_program_plan(cnn_program *program);
/* Makes the kernels. The error names node, op and the backend's reasons. */
cnn_status cnn_program_prepare(cnn_program *program, const cnn_model *model, const cnn_backend *backend,
                               cnn_device *device);
/* Puts layer, op and shapes of the instruction before the last error; returns the status. */
cnn_status cnn_program_blame(const cnn_model *model, const cnn_instruction *instruction, cnn_status status);
void cnn_program_free(cnn_program *program, const cnn_backend *backend, cnn_device *device);
/* Text, one instruction a line, then buffers with offsets. */
void cnn_program_print(const cnn_program *program, const cnn_model *model, cnn_text *text);

#endif
