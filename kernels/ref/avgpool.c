/* Averages of windows that lie wholly inside the image, and their gradient. */
#include "cnn/quant.h"
#include "kernels/ref/ref.h"

/* The window's height and width: of kernel 0 the whole image's. */
typedef struct window {
    int32_t h, w, stride;
    double count;
} window;

static window window_of(const cnn_op_desc *desc, const cnn_tensor_desc *big)
{
    window of = {.h = desc->kernel, .w = desc->kernel, .stride = desc->stride};
    if (desc->kernel == 0)
        of = (window){.h = big->h, .w = big->w, .stride = 1};
    of.count = (double)of.h * of.w;
    return of;
}

static double sum_window(const cnn_op_desc *desc, const void *src, const window *of, int32_t n, int32_t p, int32_t q,
                         int32_t c)
{
    const cnn_tensor_desc *big = &desc->arg[CNN_ARG_SRC];
    double sum = 0;
    for (int32_t r = 0; r < of->h; r++)
        for (int32_t s = 0; s < of->w; s++)
            sum += cnn_ref_get(big, src, cnn_ref_pixel(big, n, p * of->stride + r, q * of->stride + s), c);
    return sum;
}

void cnn_ref_avgpool(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const window of = window_of(desc, &desc->arg[CNN_ARG_SRC]);
    for (int32_t n = 0; n < dst->n; n++)
        for (int32_t p = 0; p < dst->h; p++)
            for (int32_t q = 0; q < dst->w; q++)
                for (int32_t c = 0; c < dst->c; c++) {
                    const double sum = sum_window(desc, arg[CNN_ARG_SRC], &of, n, p, q, c);
                    const double y = dst->dtype == CNN_I8
                                         ? cnn_quant_requantize((int32_t)sum, desc->scale[0], desc->lo, desc->hi)
                                         : sum / of.count;
                    cnn_ref_put(dst, arg[CNN_ARG_DST], cnn_ref_pixel(dst, n, p, q), c, y);
                }
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
}

/* Sum of dy over the windows that hold pixel (h,w). */
static double sum_windows(const cnn_op_desc *desc, const void *src, const window *of, int32_t n, int32_t h, int32_t w,
                          int32_t c)
{
    const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC];
    double sum = 0;
    for (int32_t p = 0; p < dy->h; p++)
        for (int32_t q = 0; q < dy->w; q++) {
            const int32_t r = h - p * of->stride, s = w - q * of->stride;
            if (r >= 0 && r < of->h && s >= 0 && s < of->w)
                sum += cnn_ref_get(dy, src, cnn_ref_pixel(dy, n, p, q), c);
        }
    return sum;
}

void cnn_ref_avgpool_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_tensor_desc *dx = &desc->arg[CNN_ARG_DST];
    const window of = window_of(desc, dx);
    for (int32_t n = 0; n < dx->n; n++)
        for (int32_t h = 0; h < dx->h; h++)
            for (int32_t w = 0; w < dx->w; w++)
                for (int32_t c = 0; c < dx->c; c++)
                    cnn_ref_put(dx, arg[CNN_ARG_DST], cnn_ref_pixel(dx, n, h, w), c,
                                sum_windows(desc, arg[CNN_ARG_SRC], &of, n, h, w, c) / of.count);
    cnn_ref_clear_padding(dx, arg[CNN_ARG_DST]);
}
