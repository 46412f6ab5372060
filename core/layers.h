/* Layer types. One row is all that a layer is: adding one means one row in core/layers.c and its functions in the files
 * beside it (layer_parts.h). */
#ifndef CNN_CORE_LAYERS_H
#define CNN_CORE_LAYERS_H

#include "core/model.h"
#include "core/program.h"

typedef enum cnn_layer_flag {
    CNN_LAYER_PRUNABLE = 1,      /* output channels can be removed */
    CNN_LAYER_QUANTIZABLE = 2,   /* runs in INT8 */
    CNN_LAYER_KEEPS_SCALE = 4,   /* its INT8 output has its input's scale (pooling) */
    CNN_LAYER_KEEPS_CHANNELS = 8 /* output channel c depends on input channel c alone */
} cnn_layer_flag;

typedef struct cnn_layer_type {
    uint8_t id;       /* in .cnn files: append only */
    const char *name; /* in .cfg */
    const char *summary;
    int min_inputs, max_inputs;
    cnn_attr_spec attr[CNN_MAX_ATTRS]; /* ends at name = NULL */
    unsigned flags;

    /* Sets node->out from the inputs' shapes, and the desc of each parameter the node has (data untouched). Records
     * an error sentence without place on failure; the caller adds layer and line. */
    cnn_status (*infer)(cnn_node *node, const cnn_tensor_desc *in);
    int64_t (*macs)(const cnn_node *node, const cnn_tensor_desc *in); /* NULL: none */

    /* Appends the node's forward ops to a program (float, training or INT8 as lowering->purpose says). */
    cnn_status (*forward)(cnn_lowering *lowering, int node);
    /* Appends backward ops: reads the gradient of the node's value, adds to those of its inputs and parameters. */
    cnn_status (*backward)(cnn_lowering *lowering, int node);
} cnn_layer_type;

enum {                        /* ids in .cnn files */
       CNN_LAYER_INPUT = 0,   /* height, width, channels */
       CNN_LAYER_CONV = 1,    /* out, kernel, stride = 1, pad = 0, bias = 1, groups = 1 */
       CNN_LAYER_LINEAR = 2,  /* out, bias = 1; takes any [H,W,C] as H*W*C values in that order */
       CNN_LAYER_BN = 3,      /* eps = 1e-5, momentum = 0.1 */
       CNN_LAYER_RELU = 4,    /* max = 0 (no end) */
       CNN_LAYER_MAXPOOL = 5, /* kernel, stride = 0 (as kernel), pad = 0 */
       CNN_LAYER_ADD = 6,     /* two inputs */
       CNN_LAYER_AVGPOOL = 7, /* kernel, stride = 0 (as kernel) */
       CNN_LAYER_GLOBALAVGPOOL = 8,
       CNN_LAYER_LEAKY_RELU = 9, /* slope = 0.01 */
       CNN_LAYER_CONCAT = 10,    /* two to eight inputs */
       CNN_LAYER_DROPOUT = 11    /* rate */
};

/* All types, NULL name after the last. */
extern const cnn_layer_type cnn_layer_types[];

const cnn_layer_type *cnn_layer_find(const char *name); /* NULL when unknown */
const cnn_layer_type *cnn_layer_by_id(unsigned id);     /* NULL when unknown */

/* Value of an attribute by name; the type must have it. */
double cnn_node_attr(const cnn_node *node, const char *name);
static inline int32_t cnn_node_int(const cnn_node *node, const char *name)
{
    return (int32_t)cnn_node_attr(node, name);
}
void cnn_node_set_attr(cnn_node *node, const char *name, double value);

/* What a ReLU cuts off above; 0: nothing, as for any other layer. */
float cnn_node_relu_max(const cnn_node *node);

/* Groups of a convolution; 1 for any other layer. */
int32_t cnn_node_groups(const cnn_node *node);

/* Whether it is a convolution whose groups have one input and one output each: output channel c depends on input
 * channel c alone, though not as with CNN_LAYER_KEEPS_CHANNELS without weights. */
bool cnn_node_is_depthwise(const cnn_node *node);

#endif
