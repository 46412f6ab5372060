/* Batch normalization over N, H, W for each channel: training, inference, gradient. */
#include "kernels/ref/ref.h"

#include <math.h>

/* Channel c of a vector in a role. */
static double vector_at(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cnn_arg role, int32_t c)
{
    return cnn_ref_get(&desc->arg[role], arg[role], 0, c);
}

static void vector_set(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cnn_arg role, int32_t c, double value)
{
    cnn_ref_put(&desc->arg[role], arg[role], 0, c, value);
}

/* DST = (SRC - mean)*invstd*gamma + beta of channel c, by way of [RELU] MAXPOOL; INDEX, where there is one, as
 * cnn/ops.h says. */
static void normalize_pooled(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t c, double mean,
                             double invstd)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *dst = &desc->arg[CNN_ARG_DST];
    const bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    const double gamma = vector_at(desc, arg, CNN_ARG_GAMMA, c), beta = vector_at(desc, arg, CNN_ARG_BETA, c);
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(dst); pixel++) {
        int32_t q = (int32_t)(pixel % dst->w), p = (int32_t)(pixel / dst->w % dst->h);
        int32_t n = (int32_t)(pixel / dst->w / dst->h), first = -1;
        double max = 0;
        for (int32_t i = 0; i < desc->pool_kernel * desc->pool_kernel; i++) {
            int64_t at = cnn_ref_pixel(src, n, p * desc->pool_stride + i / desc->pool_kernel,
                                       q * desc->pool_stride + i % desc->pool_kernel);
            double y = (cnn_ref_get(src, arg[CNN_ARG_SRC], at, c) - mean) * invstd * gamma + beta;
            y = relu && y <= 0 ? 0 : y;
            if (first < 0 || y > max || (isnan(y) && !isnan(max))) {
                max = y;
                first = i;
            }
        }
        cnn_ref_put(dst, arg[CNN_ARG_DST], pixel, c, max);
        if (desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE)
            cnn_ref_put(&desc->arg[CNN_ARG_INDEX], arg[CNN_ARG_INDEX], pixel, c, relu && !(max > 0) ? 255 : first);
    }
}

/* DST = (SRC - mean)*invstd*gamma + beta [RELU], channel c. */
static void normalize(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t c, double mean, double invstd)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    double gamma = vector_at(desc, arg, CNN_ARG_GAMMA, c);
    double beta = vector_at(desc, arg, CNN_ARG_BETA, c);
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(src); pixel++) {
        double y = (cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c) - mean) * invstd * gamma + beta;
        cnn_ref_put(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST], pixel, c, relu && y <= 0 ? 0 : y);
    }
}

void cnn_ref_bn_train(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    static const cnn_arg written[] = {CNN_ARG_DST, CNN_ARG_MEAN, CNN_ARG_VAR, CNN_ARG_INVSTD, CNN_ARG_INDEX};
    const bool pools = desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    int64_t m = cnn_desc_pixels(src);
    for (int32_t c = 0; c < src->c; c++) {
        double sum = 0;
        for (int64_t pixel = 0; pixel < m; pixel++)
            sum += cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c);
        double mean = sum / (double)m;

        double squares = 0;
        for (int64_t pixel = 0; pixel < m; pixel++) {
            double distance = cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c) - mean;
            squares += distance * distance;
        }
        double variance = squares / (double)m;
        double invstd = 1 / sqrt(variance + (double)desc->eps);

        (pools ? normalize_pooled : normalize)(desc, arg, c, mean, invstd);
        vector_set(desc, arg, CNN_ARG_MEAN, c, mean);
        vector_set(desc, arg, CNN_ARG_VAR, c, m > 1 ? squares / (double)(m - 1) : variance);
        vector_set(desc, arg, CNN_ARG_INVSTD, c, invstd);
    }
    for (int i = 0; i < (pools ? 5 : 4); i++)
        cnn_ref_clear_padding(&desc->arg[written[i]], arg[written[i]]);
}

void cnn_ref_bn_infer(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const bool pools = cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL);
    for (int32_t c = 0; c < desc->arg[CNN_ARG_SRC].c; c++) {
        double invstd = 1 / sqrt(vector_at(desc, arg, CNN_ARG_VAR, c) + (double)desc->eps);
        (pools ? normalize_pooled : normalize)(desc, arg, c, vector_at(desc, arg, CNN_ARG_MEAN, c), invstd);
    }
    cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST]);
}

/* The gradient that reaches `pixel` of y: SRC2, or its share of the pooled tensor's. */
static double gradient_at(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    if (desc->arg[CNN_ARG_INDEX].dtype == CNN_NONE)
        return cnn_ref_get(&desc->arg[CNN_ARG_SRC2], arg[CNN_ARG_SRC2], pixel, c);
    return cnn_ref_pool_gradient(desc, arg, desc->pool_kernel, desc->pool_stride, (int32_t)(pixel / src->w / src->h),
                                 (int32_t)(pixel / src->w % src->h), (int32_t)(pixel % src->w), c);
}

void cnn_ref_bn_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    static const cnn_arg written[] = {CNN_ARG_DST, CNN_ARG_DST2, CNN_ARG_DST3};
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    int64_t m = cnn_desc_pixels(src);
    for (int32_t c = 0; c < src->c; c++) {
        double gamma = vector_at(desc, arg, CNN_ARG_GAMMA, c);
        double mean = vector_at(desc, arg, CNN_ARG_MEAN, c);
        double invstd = vector_at(desc, arg, CNN_ARG_INVSTD, c);
        double dgamma = 0, dbeta = 0;
        for (int64_t pixel = 0; pixel < m; pixel++) {
            double xhat = (cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c) - mean) * invstd;
            double dy = gradient_at(desc, arg, pixel, c);
            dgamma += dy * xhat;
            dbeta += dy;
        }
        for (int64_t pixel = 0; pixel < m; pixel++) {
            double xhat = (cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c) - mean) * invstd;
            double dy = gradient_at(desc, arg, pixel, c);
            double dx = gamma * invstd * (dy - dbeta / (double)m - xhat * dgamma / (double)m);
            cnn_ref_put(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST], pixel, c, dx);
        }
        vector_set(desc, arg, CNN_ARG_DST2, c, dgamma);
        vector_set(desc, arg, CNN_ARG_DST3, c, dbeta);
    }
    for (int i = 0; i < 3; i++)
        cnn_ref_clear_padding(&desc->arg[written[i]], arg[written[i]]);
}
