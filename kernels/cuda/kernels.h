/* What the .cu files export to the C files: launch functions of the tables, and building blocks for other kernels.
 *
 * All enqueue on the stream and return cudaGetLastError(); pointers are device pointers. */
#ifndef CNN_CUDA_KERNELS_H
#define CNN_CUDA_KERNELS_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Sums over pixels: column_sum.cu ---- */

/* dst[k] = sum over pixels of src[pixel*pitch + k], k in [0, channels): the bias gradient. src is f32, f16 or bf16 and
 * 64-byte aligned. The order of the sum follows from the numbers alone. */
size_t cnn_cuda_column_sum_workspace(int64_t pixels, int32_t channels);
cudaError_t cnn_cuda_column_sum(const void *src, cnn_dtype dtype, int64_t pixels, int32_t channels, int32_t pitch,
                                float *dst, void *workspace, cudaStream_t stream);

/* ---- Convolutions of 1 to 4 channels: conv_first.cu, conv_first_wgrad.cu ---- */

cnn_cuda_launch cnn_cuda_conv_first, cnn_cuda_conv_first_wgrad;
size_t cnn_cuda_conv_first_wgrad_workspace(const cnn_op_desc *desc);

/* ---- Batch norm, ReLU and max-pooling in one: bn_pool.cu ---- */

cnn_cuda_launch cnn_cuda_bn_pool, cnn_cuda_bn_pool_grad;
size_t cnn_cuda_bn_pool_workspace(const cnn_op_desc *desc); /* of either */

/* ---- After an INT8 convolution or GEMM: i32_epilogue.cu ---- */

/* The epilogue of an i8 CONV or LINEAR descriptor, or the ops REQUANTIZE and DEQUANTIZE, over sums i32 [N,P,Q,pitch]
 * (P x Q before pooling), pitch >= K channels in memory. Reads arg[BIAS] and arg[MULT], writes arg[DST] with its
 * padding channels 0; without an epilogue DST is a copy. */
cudaError_t cnn_cuda_i32_epilogue(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], const int32_t *sums,
                                  int32_t pitch, cudaStream_t stream);

/* ---- After a linear layer with f32 sums: f32_epilogue.cu ---- */

/* BIAS and RELU of a LINEAR descriptor over sums f32 [N,K]; writes arg[DST], f16 or bf16 without padding. */
cudaError_t cnn_cuda_f32_epilogue(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], const float *sums,
                                  cudaStream_t stream);

/* ---- Packing: pad_weights.cu ---- */

/* i8 weights [K,R,S,C] without padding become [outputs,R,S,channels] with zeros where there was nothing. */
cudaError_t cnn_cuda_pad_weights(const cnn_tensor_desc *weight, const void *src, int32_t outputs, int32_t channels,
                                 void *dst, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
