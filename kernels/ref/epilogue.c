/* The epilogue chain of CONV and LINEAR. Each step rounds to f32, as a kernel with f32 accumulators does. */
#include "cnn/quant.h"
#include "kernels/ref/ref.h"

#include <math.h>

/* One step on the sum of pixel (of the unpooled output) and channel k. */
static double step(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cnn_epilogue_kind kind, double sum,
                   int64_t pixel, int32_t k)
{
    const cnn_tensor_desc *bias = &desc->arg[CNN_ARG_BIAS];
    const cnn_tensor_desc *mult = &desc->arg[CNN_ARG_MULT];
    switch (kind) {
    case CNN_EPILOGUE_BIAS:
        return cnn_ref_round(sum + cnn_ref_get(bias, arg[CNN_ARG_BIAS], 0, k));
    case CNN_EPILOGUE_ADD:
        return cnn_ref_round(sum + cnn_ref_get(&desc->arg[CNN_ARG_SRC2], arg[CNN_ARG_SRC2], pixel, k));
    case CNN_EPILOGUE_RELU:
        return sum <= 0 ? 0 : sum;
    case CNN_EPILOGUE_CLIP:
        return sum <= 0 ? 0 : sum > (double)desc->hi ? (double)desc->hi : sum;
    case CNN_EPILOGUE_REQUANTIZE:
        return cnn_quant_requantize((int32_t)(sum + cnn_ref_get(bias, arg[CNN_ARG_BIAS], 0, k)),
                                    (float)cnn_ref_get(mult, arg[CNN_ARG_MULT], 0, k), desc->lo, desc->hi);
    case CNN_EPILOGUE_DEQUANTIZE: {
        float acc = (float)(sum + cnn_ref_get(bias, arg[CNN_ARG_BIAS], 0, k));
        return (double)(acc * (float)cnn_ref_get(mult, arg[CNN_ARG_MULT], 0, k));
    }
    default:
        return sum;
    }
}

/* Maximum over the window of output pixel (n,p,q), and which of its pixels is the first; NaN wins. */
static double window_max(const cnn_op_desc *desc, const cnn_ref_shape *shape, const double *sums, int32_t n, int32_t p,
                         int32_t q, int32_t k, int32_t *first)
{
    double max = 0;
    *first = -1;
    for (int32_t r = 0; r < desc->pool_kernel; r++)
        for (int32_t s = 0; s < desc->pool_kernel; s++) {
            int64_t h = (int64_t)n * shape->p + p * desc->pool_stride + r;
            double value = sums[(h * shape->q + q * desc->pool_stride + s) * shape->k + k];
            if (*first < 0 || value > max || (isnan(value) && !isnan(max))) {
                max = value;
                *first = r * desc->pool_kernel + s;
            }
        }
    return max;
}

static void store_pooled(const cnn_op_desc *desc, const cnn_ref_shape *shape, const double *sums,
                         void *const arg[CNN_ARG_COUNT])
{
    const cnn_tensor_desc *out = &desc->arg[CNN_ARG_DST], *index = &desc->arg[CNN_ARG_INDEX];
    const bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    for (int32_t n = 0; n < out->n; n++)
        for (int32_t p = 0; p < out->h; p++)
            for (int32_t q = 0; q < out->w; q++)
                for (int32_t k = 0; k < out->c; k++) {
                    int32_t first;
                    const int64_t pixel = cnn_ref_pixel(out, n, p, q);
                    const double max = window_max(desc, shape, sums, n, p, q, k, &first);
                    cnn_ref_put(out, arg[CNN_ARG_DST], pixel, k, max);
                    if (index->dtype != CNN_NONE)
                        cnn_ref_put(index, arg[CNN_ARG_INDEX], pixel, k, relu && !(max > 0) ? 255 : first);
                }
    if (index->dtype != CNN_NONE)
        cnn_ref_clear_padding(index, arg[CNN_ARG_INDEX]);
}

void cnn_ref_epilogue(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], double *sums)
{
    cnn_ref_shape shape = cnn_ref_conv_shape(desc);
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    int64_t pixels = (int64_t)shape.n * shape.p * shape.q;
    bool is_float = desc->arg[CNN_ARG_SRC].dtype != CNN_I8;

    for (int64_t pixel = 0; pixel < pixels; pixel++)
        for (int32_t k = 0; k < shape.k; k++) {
            double value = sums[pixel * shape.k + k];
            if (is_float)
                value = cnn_ref_round(value);
            for (int32_t i = 0; i < desc->epilogue_count; i++)
                value = step(desc, arg, desc->epilogue[i], value, pixel, k);
            sums[pixel * shape.k + k] = value;
        }

    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL)) {
        store_pooled(desc, &shape, sums, arg);
    } else {
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            for (int32_t k = 0; k < shape.k; k++)
                cnn_ref_put(dst, arg[CNN_ARG_DST], pixel, k, sums[pixel * shape.k + k]);
    }
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
}
