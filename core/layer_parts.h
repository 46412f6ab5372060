/* What the files of the layer types share: the functions that the table in layers.c names, and what forward and
 * backward have in common. */
#ifndef CNN_CORE_LAYER_PARTS_H
#define CNN_CORE_LAYER_PARTS_H

#include "core/layers.h"

/* ---- Shapes: layer_shapes.c ---- */

typedef cnn_status cnn_layer_infer(cnn_node *node, const cnn_tensor_desc *in);
cnn_layer_infer cnn_layer_infer_input, cnn_layer_infer_conv, cnn_layer_infer_linear, cnn_layer_infer_bn,
    cnn_layer_infer_same, cnn_layer_infer_maxpool, cnn_layer_infer_pool, cnn_layer_infer_globalavgpool,
    cnn_layer_infer_add, cnn_layer_infer_concat;
int64_t cnn_layer_macs_gemm(const cnn_node *node, const cnn_tensor_desc *in);

/* The stride of a pool, which is its window's side unless it says otherwise. */
int32_t cnn_layer_pool_stride(const cnn_node *node);

/* ---- Ops: layer_forward.c, layer_backward.c ---- */

typedef cnn_status cnn_layer_lower(cnn_lowering *lowering, int node);
cnn_layer_lower cnn_layer_forward_input, cnn_layer_forward_gemm, cnn_layer_forward_bn, cnn_layer_forward_relu,
    cnn_layer_forward_leaky_relu, cnn_layer_forward_maxpool, cnn_layer_forward_avgpool, cnn_layer_forward_add,
    cnn_layer_forward_concat, cnn_layer_forward_dropout;
cnn_layer_lower cnn_layer_backward_gemm, cnn_layer_backward_frozen_bn, cnn_layer_backward_bn, cnn_layer_backward_relu,
    cnn_layer_backward_leaky_relu, cnn_layer_backward_maxpool, cnn_layer_backward_avgpool, cnn_layer_backward_add,
    cnn_layer_backward_concat, cnn_layer_backward_dropout, cnn_layer_backward_input;

/* CNN_OP_CONV, CNN_OP_CONV_DGRAD or CNN_OP_CONV_WGRAD, or what it is called for a convolution in groups or a linear
 * layer. */
cnn_op cnn_layer_gemm_op(const cnn_node *node, cnn_op conv);
/* The stride and padding of such an op. */
void cnn_layer_set_window(cnn_instruction *op, const cnn_node *node);
/* Whether the weights train on a grid, and that grid. */
bool cnn_layer_on_grid(const cnn_node *node);
void cnn_layer_set_grid(cnn_instruction *op, const cnn_node *node);
/* Whether a dropout layer does anything, and the op by which it drops the same of `src` each time. */
bool cnn_layer_drops(const cnn_lowering *lowering, const cnn_node *node);
void cnn_layer_put_dropout(cnn_lowering *lowering, int node, int src, int dst);
/* The window of a max-pool. */
void cnn_layer_set_maxima(cnn_instruction *op, const cnn_node *node);
/* That of an average pool: kernel 0 stands for the whole image. */
void cnn_layer_set_average(cnn_instruction *op, const cnn_node *node);

#endif
