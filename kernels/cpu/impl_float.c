/* Table of the float implementations, best first. The loops inside are of the device's level (loops.h). */
#include "kernels/cpu/floats.h"

#define AMX(op, name, file)                                                                      \
    {                                                                                            \
        CNN_OP_##op, "cnn_cpu_" name, CNN_CPU_AMX, cnn_cpu_##file##_suits, cnn_cpu_##file##_make \
    }

#define ROW(op, name, file)                                                                           \
    {                                                                                                 \
        CNN_OP_##op, "cnn_cpu_" name, CNN_CPU_PORTABLE, cnn_cpu_##file##_suits, cnn_cpu_##file##_make \
    }

const cnn_cpu_impl cnn_cpu_float_impls[] = {
#if defined(CNN_CPU_AMX_BUILT)
    AMX(CONV, "conv_bf16_amx", conv_bf16_amx),
    AMX(CONV_DGRAD, "conv_dgrad_bf16_amx", conv_bf16_amx),
    AMX(CONV_WGRAD, "conv_wgrad_bf16_amx", wgrad_bf16_amx),
    AMX(LINEAR, "linear_bf16_amx", linear_bf16_amx),
    AMX(LINEAR_DGRAD, "linear_dgrad_bf16_amx", linear_bf16_amx),
    AMX(LINEAR_WGRAD, "linear_wgrad_bf16_amx", linear_bf16_amx),
#endif
    ROW(CONV, "conv_few", conv_few),
    ROW(CONV, "conv_first", conv_first),
    ROW(CONV, "conv_winograd", conv_winograd),
    ROW(CONV, "conv_float", conv_float),
    ROW(CONV_DGRAD, "conv_dgrad_pooled", dgrad_pooled),
    ROW(CONV_DGRAD, "conv_dgrad_lines", dgrad_lines),
    ROW(CONV_DGRAD, "conv_dgrad_few", conv_few),
    ROW(CONV_DGRAD, "conv_dgrad_winograd", conv_winograd),
    ROW(CONV_DGRAD, "conv_dgrad_float", conv_float),
    ROW(CONV_WGRAD, "conv_wgrad_pooled", wgrad_pooled),
    ROW(CONV_WGRAD, "conv_wgrad_lines", wgrad_lines),
    ROW(CONV_WGRAD, "conv_wgrad_few", wgrad_few),
    ROW(CONV_WGRAD, "conv_wgrad_winograd", wgrad_winograd),
    ROW(CONV_WGRAD, "conv_wgrad_float", wgrad_float),
    ROW(GROUP_CONV, "depthwise_float", depthwise_float),
    ROW(GROUP_CONV, "group_conv", group_conv),
    ROW(GROUP_CONV_DGRAD, "depthwise_dgrad_float", depthwise_float),
    ROW(GROUP_CONV_DGRAD, "group_conv_dgrad", group_conv),
    ROW(GROUP_CONV_WGRAD, "depthwise_wgrad_float", depthwise_float),
    ROW(GROUP_CONV_WGRAD, "group_conv_wgrad", group_conv),
    ROW(LINEAR, "gemv_float", gemv_float),
    ROW(LINEAR, "linear_train", linear_train),
    ROW(LINEAR, "linear_float", conv_float),
    ROW(LINEAR_DGRAD, "linear_dgrad_train", linear_train),
    ROW(LINEAR_DGRAD, "linear_dgrad_float", conv_float),
    ROW(LINEAR_WGRAD, "linear_wgrad_train", linear_train),
    ROW(LINEAR_WGRAD, "linear_wgrad_float", wgrad_float),
    ROW(BN_TRAIN, "bn_train_pool", bn_pool),
    ROW(BN_TRAIN, "bn_train_float", bn_float),
    ROW(BN_INFER, "bn_infer_pool", bn_pool),
    ROW(BN_INFER, "bn_infer_float", bn_float),
    ROW(BN_GRAD, "bn_grad_pool", bn_pool),
    ROW(BN_GRAD, "bn_grad_float", bn_float),
    ROW(RELU, "relu_float", flat),
    ROW(RELU_GRAD, "relu_grad_float", flat),
    ROW(CLIP, "clip_float", flat),
    ROW(CLIP_GRAD, "clip_grad_float", flat),
    ROW(LEAKY_RELU, "leaky_relu_float", flat),
    ROW(LEAKY_RELU_GRAD, "leaky_relu_grad_float", flat),
    {CNN_OP_DROPOUT, "cnn_cpu_dropout", CNN_CPU_PORTABLE, cnn_cpu_flat_suits, cnn_cpu_dropout_make},
    ROW(MAXPOOL, "maxpool_float", maxpool_float),
    ROW(MAXPOOL_GRAD, "maxpool_grad_float", maxpool_float),
    ROW(AVGPOOL, "avgpool_float", avgpool_float),
    ROW(AVGPOOL_GRAD, "avgpool_grad_float", avgpool_float),
    ROW(ADD, "add_float", flat),
    ROW(LOSS, "loss_float", loss),
    ROW(MASK, "mask", mask),
    ROW(GRAD_STATS, "grad_stats", optimizer),
    ROW(SGD, "sgd", optimizer),
    ROW(ADAM, "adam", optimizer),
    ROW(BN_UPDATE, "bn_update", optimizer),
    ROW(EMA, "ema", optimizer),
    ROW(LOSS_SCALE, "loss_scale", optimizer),
    ROW(GRID, "grid", grid),
    ROW(GRID_GRAD, "grid_grad", grid),
    {CNN_OP_NONE, NULL, CNN_CPU_PORTABLE, NULL, NULL},
};
