/* Max-pooling over square windows, of which a part may lie outside the image, and its gradient. */
#include "kernels/ref/ref.h"

#include <math.h>

/* The window of output pixel (n,p,q): the first maximum in row order, the first NaN if there is one. */
static void pool_window(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t n, int32_t p, int32_t q,
                        int32_t c)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    double max = 0;
    int32_t first = -1;
    for (int32_t r = 0; r < desc->kernel; r++)
        for (int32_t s = 0; s < desc->kernel; s++) {
            const int32_t h = p * desc->stride + r - desc->pad, w = q * desc->stride + s - desc->pad;
            if (h < 0 || h >= src->h || w < 0 || w >= src->w)
                continue;
            int64_t pixel = cnn_ref_pixel(src, n, h, w);
            double value = cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c);
            if (first < 0 || value > max || (isnan(value) && !isnan(max))) {
                max = value;
                first = r * desc->kernel + s;
            }
        }
    cnn_ref_put(dst, arg[CNN_ARG_DST], cnn_ref_pixel(dst, n, p, q), c, max);
    if (desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE)
        cnn_ref_put(&desc->arg[CNN_ARG_INDEX], arg[CNN_ARG_INDEX], cnn_ref_pixel(dst, n, p, q), c, first);
}

void cnn_ref_maxpool(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    for (int32_t n = 0; n < dst->n; n++)
        for (int32_t p = 0; p < dst->h; p++)
            for (int32_t q = 0; q < dst->w; q++)
                for (int32_t c = 0; c < dst->c; c++)
                    pool_window(desc, arg, n, p, q, c);
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
    if (desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE)
        cnn_ref_clear_padding(&desc->arg[CNN_ARG_INDEX], arg[CNN_ARG_INDEX]);
}

double cnn_ref_pool_gradient(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t kernel, int32_t stride,
                             int32_t n, int32_t h, int32_t w, int32_t c)
{
    const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC2];
    double sum = 0;
    for (int32_t p = 0; p < dy->h; p++) {
        int32_t r = h - p * stride;
        if (r < 0 || r >= kernel)
            continue;
        for (int32_t q = 0; q < dy->w; q++) {
            int32_t s = w - q * stride;
            if (s < 0 || s >= kernel)
                continue;
            int64_t pixel = cnn_ref_pixel(dy, n, p, q);
            double index = cnn_ref_get(&desc->arg[CNN_ARG_INDEX], arg[CNN_ARG_INDEX], pixel, c);
            if ((int32_t)index == r * kernel + s)
                sum += cnn_ref_get(dy, arg[CNN_ARG_SRC2], pixel, c);
        }
    }
    return sum;
}

void cnn_ref_maxpool_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_tensor_desc *dx = &desc->arg[CNN_ARG_DST];
    for (int32_t n = 0; n < dx->n; n++)
        for (int32_t h = 0; h < dx->h; h++)
            for (int32_t w = 0; w < dx->w; w++)
                for (int32_t c = 0; c < dx->c; c++)
                    cnn_ref_put(dx, arg[CNN_ARG_DST], cnn_ref_pixel(dx, n, h, w), c,
                                cnn_ref_pool_gradient(desc, arg, desc->kernel, desc->stride, n, h + desc->pad,
                                                      w + desc->pad, c));
    cnn_ref_clear_padding(dx, arg[CNN_ARG_DST]);
}
