/* The shape behind a CONV* or LINEAR* descriptor. */
#ifndef CNN_CPU_SHAPE_H
#define CNN_CPU_SHAPE_H

#include "kernels/cpu/cpu.h"

/* Channels below which float convolutions have kernels of their own; with more they are Winograd's. */
enum { CNN_FEW_CHANNELS = 16 };

/* x [N,H,W,C], w [K,R,S,C], y [N,P,Q,K], whatever their roles. */
typedef struct cnn_conv_shape {
    int32_t n, h, w, c, k, r, s, p, q, stride, pad;
} cnn_conv_shape;

/* A linear layer becomes a 1x1 convolution over an image of one pixel with H*W*C channels: memory is the same. */
static inline cnn_conv_shape cnn_conv_shape_of(const cnn_op_desc *desc)
{
    bool dgrad = cnn_op_is_dgrad(desc->op), wgrad = cnn_op_is_wgrad(desc->op);
    bool linear = desc->op == CNN_OP_LINEAR || desc->op == CNN_OP_LINEAR_DGRAD || desc->op == CNN_OP_LINEAR_WGRAD;
    const cnn_tensor_desc *x = &desc->arg[dgrad ? CNN_ARG_DST : CNN_ARG_SRC];
    const cnn_tensor_desc *w = &desc->arg[wgrad ? CNN_ARG_DST : CNN_ARG_WEIGHT];
    cnn_conv_shape shape;
    shape.n = x->n;
    shape.h = linear ? 1 : x->h;
    shape.w = linear ? 1 : x->w;
    shape.c = linear ? x->h * x->w * x->c : x->c;
    shape.k = w->n;
    shape.r = linear ? 1 : w->h;
    shape.s = linear ? 1 : w->w;
    shape.stride = linear ? 1 : desc->stride;
    shape.pad = linear ? 0 : desc->pad;
    shape.p = cnn_window_count(shape.h, shape.r, shape.stride, shape.pad);
    shape.q = cnn_window_count(shape.w, shape.s, shape.stride, shape.pad);
    return shape;
}

/* Rows of images and filters are counted in int32: refuses shapes for which that is too short. */
static inline bool cnn_conv_shape_fits(const cnn_op_desc *desc, char *why)
{
    double elements = 1;
    for (int i = 0; i < CNN_ARG_COUNT; i++) {
        const cnn_tensor_desc *t = &desc->arg[i];
        double row = t->dtype == CNN_NONE ? 0 : (double)t->h * t->w * t->c;
        elements = row > elements ? row : elements;
    }
    double start = elements + (double)desc->pad * desc->arg[CNN_ARG_SRC].c;
    return start < 1e9 || cnn_refuse(why, "an image of more than 10^9 elements");
}

/* What float kernels ask for that go along lines of pixels. */
static inline bool cnn_conv_goes_by_lines(const cnn_op_desc *desc, char *why)
{
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype) || !cnn_cpu_is_float(desc->arg[CNN_ARG_DST].dtype))
        return cnn_refuse(why, "src and dst must be float");
    if (!cnn_unpadded(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    return desc->stride == 1 || cnn_refuse(why, "its stride is not 1");
}

#endif
