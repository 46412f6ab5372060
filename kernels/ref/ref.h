/* What the files of the reference share.
 *
 * The reference is the specification of every op in cnn/ops.h: plain C, sums in double, one thread, no tricks. Ops
 * read elements as doubles whatever their dtype, compute as the formula says, and round when they store. */
#ifndef CNN_REF_H
#define CNN_REF_H

#include "cnn/backend.h"

#ifdef CNN_REF_DOUBLE
#include "kernels/ref/double.h"
typedef double cnn_real; /* what a CNN_F32 tensor holds */
#else
typedef float cnn_real;
#endif

/* ---- Elements: tensor.c ---- */

/* Element c of pixel (n*H + h)*W + w, as a double. */
double cnn_ref_get(const cnn_tensor_desc *desc, const void *data, int64_t pixel, int32_t c);

/* Stores an element: floats are rounded to f32 and then to the dtype, integers must be integral and in range. */
void cnn_ref_put(const cnn_tensor_desc *desc, void *data, int64_t pixel, int32_t c, double value);

/* Writes 0 to the padding channels. Every op does so with every tensor that it writes. */
void cnn_ref_clear_padding(const cnn_tensor_desc *desc, void *data);

/* What f32 arithmetic makes of an exact result. */
static inline double cnn_ref_round(double value)
{
    return (double)(cnn_real)value;
}

/* Pixel number of (n,h,w). */
static inline int64_t cnn_ref_pixel(const cnn_tensor_desc *desc, int32_t n, int32_t h, int32_t w)
{
    return ((int64_t)n * desc->h + h) * desc->w + w;
}

/* ---- Checks: check.c ---- */

/* True when the descriptor is one that cnn/ops.h defines; else false and why, in one sentence (why may be NULL). */
bool cnn_ref_check(const cnn_op_desc *desc, char *why);

/* ---- Convolutions: conv.c ---- */

/* x [N,H,W,C], w [K,R,S,inputs], y [N,P,Q,K], whatever their roles; P and Q before an epilogue's pooling. `inputs` is
 * C, or with groups the channels of one, which makes group_outputs of K. */
typedef struct cnn_ref_shape {
    int32_t n, h, w, c, k, r, s, p, q, stride, pad;
    int32_t inputs, group_outputs;
} cnn_ref_shape;

/* The shape behind a CONV*, GROUP_CONV* or LINEAR* descriptor; a linear layer is a convolution with R = H, S = W. */
cnn_ref_shape cnn_ref_conv_shape(const cnn_op_desc *desc);
size_t cnn_ref_conv_workspace(const cnn_op_desc *desc);
size_t cnn_ref_input_workspace(const cnn_op_desc *desc); /* with SRC2 */

/* Runs the epilogue chain over sums [N,P,Q,K] and stores DST. Changes sums. */
void cnn_ref_epilogue(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], double *sums);

/* ---- Max-pooling: pool.c ---- */

/* Of pixel (n,h,w) in front of a pooling, counted with the padding before it: the sum of SRC2 over the windows, in
 * order, whose INDEX names it. */
double cnn_ref_pool_gradient(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t kernel, int32_t stride,
                             int32_t n, int32_t h, int32_t w, int32_t c);

/* ---- One function an op. arg and workspace as cnn_kernel.run; the descriptor has passed cnn_ref_check. ---- */

typedef void cnn_ref_op(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace);

cnn_ref_op cnn_ref_conv, cnn_ref_conv_dgrad, cnn_ref_conv_wgrad;
cnn_ref_op cnn_ref_bn_train, cnn_ref_bn_infer, cnn_ref_bn_grad;
cnn_ref_op cnn_ref_relu, cnn_ref_relu_grad, cnn_ref_maxpool, cnn_ref_maxpool_grad, cnn_ref_add;
cnn_ref_op cnn_ref_clip, cnn_ref_clip_grad, cnn_ref_leaky_relu, cnn_ref_leaky_relu_grad;
cnn_ref_op cnn_ref_dropout;
cnn_ref_op cnn_ref_concat, cnn_ref_concat_grad;
cnn_ref_op cnn_ref_avgpool, cnn_ref_avgpool_grad;
cnn_ref_op cnn_ref_input, cnn_ref_loss, cnn_ref_requantize, cnn_ref_dequantize;
cnn_ref_op cnn_ref_mask, cnn_ref_grad_stats, cnn_ref_sgd, cnn_ref_adam, cnn_ref_bn_update, cnn_ref_ema,
    cnn_ref_loss_scale;
cnn_ref_op cnn_ref_grid, cnn_ref_grid_grad;

#endif
