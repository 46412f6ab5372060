/* What the .cu files export to the C files: launch functions of the tables, and building blocks for other kernels.
 *
 * All enqueue on the stream, of the queue where they take one, and return cudaGetLastError(); pointers are device
 * pointers. */
#ifndef CNN_CUDA_KERNELS_H
#define CNN_CUDA_KERNELS_H

#include "kernels/augment/params.h"
#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Sums over pixels: column_sum.cu ---- */

/* dst[k] = sum over pixels of src[pixel*pitch + k], k in [0, channels): the bias gradient. src is f32, f16 or bf16 and
 * 64-byte aligned. The order of the sum follows from the numbers alone. */
size_t cnn_cuda_column_sum_workspace(int64_t pixels, int32_t channels);
cudaError_t cnn_cuda_column_sum(const void *src, cnn_dtype dtype, int64_t pixels, int32_t channels, int32_t pitch,
                                float *dst, void *workspace, const cnn_cuda_queue *queue);

/* ---- Convolutions of 1 to 4 channels: conv_first.cu, conv_first_wgrad.cu ---- */

cnn_cuda_launch cnn_cuda_conv_first, cnn_cuda_conv_first_wgrad;
size_t cnn_cuda_conv_first_wgrad_workspace(const cnn_op_desc *desc);

/* ---- Weight gradients of convolutions in f16 and bf16: conv_wgrad.cu ---- */

cnn_cuda_launch cnn_cuda_conv_wgrad_mma;
size_t cnn_cuda_conv_wgrad_mma_workspace(const cnn_op_desc *desc);
bool cnn_cuda_conv_wgrad_mma_suits(const cnn_op_desc *desc, const cnn_device *device, char *why);

/* ---- Linear layers with few outputs ---- */

enum { CNN_CUDA_FEW_OUTPUTS = 16 };

cnn_cuda_launch cnn_cuda_linear_dgrad_few; /* and the ReLU before: linear_dgrad.cu */
cnn_cuda_launch cnn_cuda_linear_wgrad_few; /* linear_wgrad.cu */
size_t cnn_cuda_linear_wgrad_few_workspace(const cnn_op_desc *desc);

/* ---- Batch norm, ReLU and max-pooling in one: bn_pool.cu, bn_pool_grad.cu ---- */

/* Slices are joined in groups of so many: each group takes a ticket, and their sum another. */
enum { CNN_CUDA_BN_POOL_MOST_SLICES = 256, CNN_CUDA_BN_POOL_GROUP = 16 };

cnn_cuda_launch cnn_cuda_bn_pool, cnn_cuda_bn_pool_grad;
size_t cnn_cuda_bn_pool_workspace(const cnn_op_desc *desc);
size_t cnn_cuda_bn_pool_grad_workspace(const cnn_op_desc *desc);

/* ---- Augmentation: augment.cu ---- */

/* Image n of the batch, with first = state ? state->cursor : 0, is images[index ? index[first + n] : n] changed
 * as params[n] says: the bytes that cnn_augment_apply makes on the CPU. */
typedef struct cnn_cuda_augmentation {
    cnn_augment_shape shape;
    bool mirror;           /* of the recipe */
    const uint8_t *images; /* [M,H,W,C] */
    const int32_t *index;  /* or NULL */
    const cnn_augment_params *params;
    const cnn_train_state *state; /* or NULL */
    int32_t count;                /* images of the batch */
    const float *table;           /* [C,256]: what becomes of a byte; not read where dst is u8 */
    cnn_dtype dtype;              /* of dst: u8, f32, f16, bf16 */
    void *dst;                    /* [count,H,W,C] */
    float *planes;                /* cnn_cuda_augment_workspace bytes; not read where that is 0 */
} cnn_cuda_augmentation;

/* Images that are too large for a block's shared memory are worked on in device memory. */
size_t cnn_cuda_augment_workspace(cnn_augment_shape shape, int32_t count);
cudaError_t cnn_cuda_augment(const cnn_cuda_augmentation *augmentation, cudaStream_t stream);

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

/* ---- One kernel an op: rows of cnn_cuda_kernel_impls, whose suits() say what they take ---- */

cnn_cuda_launch cnn_cuda_conv, cnn_cuda_conv_wgrad;              /* conv.cu; LINEAR*, too */
cnn_cuda_launch cnn_cuda_group_conv, cnn_cuda_group_conv_wgrad;  /* group_conv.cu */
cnn_cuda_launch cnn_cuda_relu, cnn_cuda_relu_grad, cnn_cuda_add; /* elementwise.cu */
cnn_cuda_launch cnn_cuda_clip, cnn_cuda_clip_grad, cnn_cuda_leaky_relu, cnn_cuda_leaky_relu_grad;
cnn_cuda_launch cnn_cuda_bn;                                                   /* bn.cu: its three ops */
cnn_cuda_launch cnn_cuda_maxpool, cnn_cuda_maxpool_grad;                       /* maxpool.cu */
cnn_cuda_launch cnn_cuda_avgpool, cnn_cuda_avgpool_grad;                       /* avgpool.cu */
cnn_cuda_launch cnn_cuda_dropout;                                              /* dropout.cu */
cnn_cuda_launch cnn_cuda_concat, cnn_cuda_concat_grad;                         /* concat.cu */
cnn_cuda_launch cnn_cuda_input;                                                /* input.cu */
cnn_cuda_launch cnn_cuda_input_augmented;                                      /* augment.cu */
cnn_cuda_launch cnn_cuda_loss;                                                 /* loss.cu */
cnn_cuda_launch cnn_cuda_mask;                                                 /* mask.cu */
cnn_cuda_launch cnn_cuda_grad_stats;                                           /* grad_stats.cu */
cnn_cuda_launch cnn_cuda_sgd, cnn_cuda_adam, cnn_cuda_bn_update, cnn_cuda_ema; /* optimizer.cu */
cnn_cuda_launch cnn_cuda_loss_scale;
cnn_cuda_launch cnn_cuda_grid, cnn_cuda_grid_grad; /* weight_grid.cu */
size_t cnn_cuda_conv_workspace(const cnn_op_desc *desc);
size_t cnn_cuda_group_conv_workspace(const cnn_op_desc *desc);
size_t cnn_cuda_bn_workspace(const cnn_op_desc *desc);
size_t cnn_cuda_loss_workspace(const cnn_op_desc *desc);
size_t cnn_cuda_grad_stats_workspace(const cnn_op_desc *desc);
size_t cnn_cuda_grid_grad_workspace(const cnn_op_desc *desc);

#ifdef __cplusplus
}
#endif
#endif
