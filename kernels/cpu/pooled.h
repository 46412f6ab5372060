/* What the gradients of a convolution share that begin with the gradient of what was pooled behind it (wgrad_pooled.c,
 * dgrad_pooled.c): sizes, and for which shapes they are. */
#ifndef CNN_CPU_POOLED_H
#define CNN_CPU_POOLED_H

#include "kernels/cpu/floats.h"
#include "kernels/cpu/loops.h"
#include "kernels/cpu/shape.h"

enum {
    CNN_POOLED_IMAGE = 16384, /* most floats of a padded image */
    CNN_POOLED_SLACK = 64     /* floats behind an image: whole vectors of terms are read and written */
};

typedef struct cnn_pooled {
    cnn_conv_shape shape;
    cnn_dtype dtype;      /* of dy */
    int32_t p, q;         /* pooled pixels */
    int32_t window, step; /* of the pooling */
    int32_t line, lines;  /* of an image with the padding around, [lines][line] f32 */
    int32_t terms;        /* S*C: of one filter line, which lie beside each other in a line of the image */
    int32_t width;        /* the floats of whole vectors that hold them */
} cnn_pooled;

static inline cnn_pooled cnn_pooled_of(const cnn_op_desc *desc, int lanes)
{
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    const cnn_tensor_desc *dy = &desc->arg[cnn_op_is_dgrad(desc->op) ? CNN_ARG_SRC : CNN_ARG_SRC2];
    const int32_t terms = shape.s * shape.c;
    return (cnn_pooled){.shape = shape,
                        .dtype = dy->dtype,
                        .p = dy->h,
                        .q = dy->w,
                        .window = desc->pool_kernel,
                        .step = desc->pool_stride,
                        .line = (shape.w + 2 * shape.pad) * shape.c,
                        .lines = shape.h + 2 * shape.pad,
                        .terms = terms,
                        .width = (int32_t)cnn_cpu_vectors(terms, lanes) * lanes};
}

static inline size_t cnn_pooled_image_bytes(const cnn_pooled *pooled)
{
    return cnn_cpu_aligned(((size_t)pooled->lines * (size_t)pooled->line + CNN_POOLED_SLACK) * sizeof(float));
}

/* What both ask for. They go where an index points, which pays only for few channels. */
static inline bool cnn_pooled_suits(const cnn_op_desc *desc, char *why)
{
    if (!cnn_op_is_pooled_grad(desc))
        return cnn_refuse(why, "nothing was pooled");
    if (!cnn_conv_goes_by_lines(desc, why))
        return false;
    const cnn_pooled pooled = cnn_pooled_of(desc, 1);
    return (pooled.shape.c < CNN_FEW_CHANNELS && (int64_t)pooled.lines * pooled.line <= CNN_POOLED_IMAGE) ||
           cnn_refuse(why, "more channels or larger images than stay in cache");
}

#endif
