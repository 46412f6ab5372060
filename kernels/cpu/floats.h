/* The float implementations: suits() and make() of each, for the table in impl_float.c. */
#ifndef CNN_CPU_FLOATS_H
#define CNN_CPU_FLOATS_H

#include "kernels/cpu/loops.h"

typedef bool cnn_cpu_suits_fn(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
typedef cnn_status cnn_cpu_make_fn(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

cnn_cpu_suits_fn cnn_cpu_gemv_float_suits; /* gemv.c */
cnn_cpu_make_fn cnn_cpu_gemv_float_make;
cnn_cpu_suits_fn cnn_cpu_linear_train_suits; /* linear.c: LINEAR, LINEAR_DGRAD, LINEAR_WGRAD */
cnn_cpu_make_fn cnn_cpu_linear_train_make;
cnn_cpu_suits_fn cnn_cpu_conv_float_suits; /* conv.c: CONV, CONV_DGRAD, LINEAR, LINEAR_DGRAD */
cnn_cpu_make_fn cnn_cpu_conv_float_make;
cnn_cpu_suits_fn cnn_cpu_dgrad_lines_suits; /* dgrad_lines.c: CONV_DGRAD */
cnn_cpu_make_fn cnn_cpu_dgrad_lines_make;
cnn_cpu_suits_fn cnn_cpu_conv_few_suits; /* conv_few.c: CONV, CONV_DGRAD */
cnn_cpu_make_fn cnn_cpu_conv_few_make;
cnn_cpu_suits_fn cnn_cpu_conv_first_suits; /* conv_first.c: CONV */
cnn_cpu_make_fn cnn_cpu_conv_first_make;
cnn_cpu_suits_fn cnn_cpu_conv_winograd_suits; /* conv_winograd.c: CONV, CONV_DGRAD */
cnn_cpu_make_fn cnn_cpu_conv_winograd_make;
cnn_cpu_suits_fn cnn_cpu_depthwise_float_suits; /* depthwise_float.c: GROUP_CONV, GROUP_CONV_DGRAD, GROUP_CONV_WGRAD */
cnn_cpu_make_fn cnn_cpu_depthwise_float_make;
cnn_cpu_suits_fn cnn_cpu_group_conv_suits; /* group_conv.c: the same, and i8 */
cnn_cpu_make_fn cnn_cpu_group_conv_make;
#if defined(CNN_CPU_AMX_BUILT)
cnn_cpu_suits_fn cnn_cpu_conv_bf16_amx_suits; /* conv_bf16_amx.c: CONV, CONV_DGRAD */
cnn_cpu_make_fn cnn_cpu_conv_bf16_amx_make;
cnn_cpu_suits_fn cnn_cpu_wgrad_bf16_amx_suits; /* wgrad_bf16_amx.c: CONV_WGRAD */
cnn_cpu_make_fn cnn_cpu_wgrad_bf16_amx_make;
cnn_cpu_suits_fn cnn_cpu_linear_bf16_amx_suits; /* linear_bf16_amx.c: LINEAR, LINEAR_DGRAD, LINEAR_WGRAD */
cnn_cpu_make_fn cnn_cpu_linear_bf16_amx_make;
#endif
cnn_cpu_suits_fn cnn_cpu_wgrad_winograd_suits; /* wgrad_winograd.c: CONV_WGRAD */
cnn_cpu_make_fn cnn_cpu_wgrad_winograd_make;
cnn_cpu_suits_fn cnn_cpu_dgrad_pooled_suits; /* dgrad_pooled.c: CONV_DGRAD with INDEX */
cnn_cpu_make_fn cnn_cpu_dgrad_pooled_make;
cnn_cpu_suits_fn cnn_cpu_wgrad_pooled_suits; /* wgrad_pooled.c: CONV_WGRAD with INDEX */
cnn_cpu_make_fn cnn_cpu_wgrad_pooled_make;
cnn_cpu_suits_fn cnn_cpu_wgrad_lines_suits; /* wgrad_lines.c: CONV_WGRAD */
cnn_cpu_make_fn cnn_cpu_wgrad_lines_make;
cnn_cpu_suits_fn cnn_cpu_wgrad_few_suits; /* wgrad_few.c: CONV_WGRAD */
cnn_cpu_make_fn cnn_cpu_wgrad_few_make;
cnn_cpu_suits_fn cnn_cpu_wgrad_float_suits; /* wgrad.c: CONV_WGRAD, LINEAR_WGRAD */
cnn_cpu_make_fn cnn_cpu_wgrad_float_make;
cnn_cpu_suits_fn cnn_cpu_bn_float_suits; /* bn.c: BN_TRAIN, BN_INFER, BN_GRAD */
cnn_cpu_make_fn cnn_cpu_bn_float_make;
cnn_cpu_suits_fn cnn_cpu_bn_pool_suits; /* bn_pool.c: the same with max-pooling */
cnn_cpu_make_fn cnn_cpu_bn_pool_make;
cnn_cpu_suits_fn cnn_cpu_flat_suits; /* elementwise.c: RELU, CLIP, LEAKY_RELU, their gradients, ADD */
cnn_cpu_make_fn cnn_cpu_flat_make;
cnn_cpu_make_fn cnn_cpu_dropout_make;         /* dropout.c; suits as flat */
cnn_cpu_suits_fn cnn_cpu_maxpool_float_suits; /* maxpool.c: MAXPOOL, MAXPOOL_GRAD */
cnn_cpu_make_fn cnn_cpu_maxpool_float_make;
cnn_cpu_suits_fn cnn_cpu_avgpool_float_suits; /* avgpool.c: AVGPOOL, AVGPOOL_GRAD */
cnn_cpu_make_fn cnn_cpu_avgpool_float_make;
cnn_cpu_suits_fn cnn_cpu_loss_suits; /* loss.c */
cnn_cpu_make_fn cnn_cpu_loss_make;
cnn_cpu_suits_fn cnn_cpu_mask_suits; /* mask.c */
cnn_cpu_make_fn cnn_cpu_mask_make;
cnn_cpu_suits_fn cnn_cpu_optimizer_suits; /* optimizer.c: GRAD_STATS, SGD, BN_UPDATE, LOSS_SCALE */
cnn_cpu_make_fn cnn_cpu_optimizer_make;
cnn_cpu_suits_fn cnn_cpu_grid_suits; /* weight_grid.c: GRID, GRID_GRAD */
cnn_cpu_make_fn cnn_cpu_grid_make;

/* First and last window of a pool that covers position i, counted from the padding's edge: both in `first` and the
 * returned value, last < first where none does. */
static inline int32_t cnn_cpu_covering(int32_t i, int32_t kernel, int32_t stride, int32_t windows, int32_t *first)
{
    *first = i < kernel ? 0 : (i - kernel) / stride + 1;
    return i / stride < windows ? i / stride : windows - 1;
}

#endif
