/* What cuDNN does. Convolutions of few channels come before these rows, from our own kernels. */
#include "kernels/cuda/cudnn_ops.h"

const cnn_cuda_impl cnn_cuda_cudnn_impls[] = {
    {CNN_OP_CONV, "cnn_cuda_conv_cudnn", cnn_cudnn_suits_conv, NULL, NULL, cnn_cudnn_make},
    {CNN_OP_CONV, "cnn_cuda_conv_i8_cudnn", cnn_cudnn_suits_conv_i8, NULL, NULL, cnn_cudnn_make},
    {CNN_OP_CONV_DGRAD, "cnn_cuda_conv_dgrad_cudnn", cnn_cudnn_suits_conv_grad, NULL, NULL, cnn_cudnn_make},
    {CNN_OP_CONV_WGRAD, "cnn_cuda_conv_wgrad_cudnn", cnn_cudnn_suits_conv_grad, NULL, NULL, cnn_cudnn_make},
    {CNN_OP_BN_TRAIN, "cnn_cuda_bn_train_cudnn", cnn_cudnn_suits_bn, NULL, NULL, cnn_cudnn_make},
    {CNN_OP_BN_GRAD, "cnn_cuda_bn_grad_cudnn", cnn_cudnn_suits_bn, NULL, NULL, cnn_cudnn_make},
    {CNN_OP_NONE, NULL, NULL, NULL, NULL, NULL},
};
