/* GRID, GRID_GRAD: weights on a grid whose step is learned. */
#include "kernels/ref/ref.h"

#include <math.h>

static cnn_real step_of(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT])
{
    const cnn_real theta = *(const cnn_real *)arg[CNN_ARG_SRC2];
    return (cnn_real)((double)desc->step * exp((double)theta));
}

/* clamp(v, -levels, levels), rounded; NaN stays. */
static cnn_real grid_point(cnn_real v, int32_t levels)
{
    const cnn_real limit = (cnn_real)levels;
    v = v > limit ? limit : v < -limit ? -limit : v;
    return (cnn_real)(rint((double)v) + 0.0); /* 0, and not -0 */
}

void cnn_ref_grid(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *dst = &desc->arg[CNN_ARG_DST];
    const cnn_real step = step_of(desc, arg);
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(src); pixel++)
        for (int32_t c = 0; c < src->c; c++) {
            const cnn_real w = (cnn_real)cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c);
            const cnn_real point = grid_point(w / step, desc->levels) * step;
            cnn_ref_put(dst, arg[CNN_ARG_DST], pixel, c, (double)point);
        }
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
}

void cnn_ref_grid_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *dst = &desc->arg[CNN_ARG_DST];
    const cnn_real step = step_of(desc, arg), limit = (cnn_real)desc->levels;
    double sum = 0;
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(src); pixel++)
        for (int32_t c = 0; c < src->c; c++) {
            const cnn_real w = (cnn_real)cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c), v = w / step;
            const double gradient = cnn_ref_get(dst, arg[CNN_ARG_DST], pixel, c);
            const double point = (double)(grid_point(v, desc->levels) * step);
            const bool inside = v >= -limit && v <= limit;
            sum += gradient * (inside ? point - (double)w : point);
            if (!inside)
                cnn_ref_put(dst, arg[CNN_ARG_DST], pixel, c, 0);
        }
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
    cnn_ref_put(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2], 0, 0, sum);
    cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2]);
}
