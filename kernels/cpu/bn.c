/* Batch normalization: training, inference and gradient.
 *
 * Mean and variance come from one pass over the batch: sums of x - shift and (x - shift)^2 in double, where shift is
 * the channel's first value. A channel that is constant has variance 0 exactly, and E[(x-shift)^2] - E[x-shift]^2
 * keeps all the digits that matter unless the first value lies 10^7 standard deviations away from the others. */
#include "kernels/cpu/bn.h"
#include "kernels/cpu/floats.h"

#include <math.h>

typedef struct bn_kernel {
    cnn_cpu_kernel cpu;
    cnn_columns columns;
    cnn_dtype dst_dtype;
    size_t vector_bytes; /* of one [channels] f32 vector in front of the columns' workspace */
} bn_kernel;

/* What a pass reads besides its pixels; vectors are [channels]. */
typedef struct bn_pass {
    cnn_dtype dst_dtype;
    bool relu;
    const void *x, *dy;
    const float *mean, *invstd, *gamma, *beta;
    const float *shift, *scale, *mean_dy, *mean_dot;
    void *dst;
} bn_pass;

/* ---- Passes over a block of pixels ---- */

static void add_moments(const cnn_columns *columns, const void *context, int64_t first, int64_t count,
                        float *const scratch[CNN_COLUMN_BLOCKS], double *sum, double *sum2)
{
    const bn_pass *pass = context;
    const float *x = cnn_columns_read(columns, pass->x, first, count, scratch[0]);
    columns->loops->column_moments(x, pass->shift, count, columns->channels, sum, sum2);
}

static void normalize(const cnn_columns *columns, const void *context, int64_t first, int64_t count,
                      float *const scratch[CNN_COLUMN_BLOCKS], double *sum, double *sum2)
{
    const bn_pass *pass = context;
    (void)sum;
    (void)sum2;
    const float *x = cnn_columns_read(columns, pass->x, first, count, scratch[0]);
    float *y = cnn_columns_write(columns, pass->dst_dtype, pass->dst, first, scratch[1]);
    columns->loops->bn_apply(x, pass->mean, pass->invstd, pass->gamma, pass->beta, count, columns->channels, y);
    if (pass->relu)
        columns->loops->relu(y, y, count * columns->channels);
    cnn_columns_store(columns, pass->dst_dtype, pass->dst, first, count, y);
}

static void add_gradients(const cnn_columns *columns, const void *context, int64_t first, int64_t count,
                          float *const scratch[CNN_COLUMN_BLOCKS], double *sum, double *sum2)
{
    const bn_pass *pass = context;
    const float *x = cnn_columns_read(columns, pass->x, first, count, scratch[0]);
    const float *dy = cnn_columns_read(columns, pass->dy, first, count, scratch[1]);
    columns->loops->bn_grad_sums(x, dy, pass->mean, pass->invstd, count, columns->channels, sum, sum2);
}

static void apply_gradient(const cnn_columns *columns, const void *context, int64_t first, int64_t count,
                           float *const scratch[CNN_COLUMN_BLOCKS], double *sum, double *sum2)
{
    const bn_pass *pass = context;
    (void)sum;
    (void)sum2;
    const float *x = cnn_columns_read(columns, pass->x, first, count, scratch[0]);
    const float *dy = cnn_columns_read(columns, pass->dy, first, count, scratch[1]);
    float *dx = cnn_columns_write(columns, pass->dst_dtype, pass->dst, first, scratch[2]);
    columns->loops->bn_grad_apply(x, dy, pass->mean, pass->invstd, pass->scale, pass->mean_dy, pass->mean_dot, count,
                                  columns->channels, dx);
    cnn_columns_store(columns, pass->dst_dtype, pass->dst, first, count, dx);
}

/* ---- Running ---- */

/* Vector `i` of those in front of the columns' workspace. */
static float *vector_at(const bn_kernel *kernel, void *workspace, int i)
{
    return (float *)(void *)((char *)workspace + (size_t)i * kernel->vector_bytes);
}

void cnn_bn_statistics(const cnn_columns *columns, void *workspace, float *shift, float eps,
                       void *const args[CNN_ARG_COUNT])
{
    float *mean = args[CNN_ARG_MEAN], *var = args[CNN_ARG_VAR], *invstd = args[CNN_ARG_INVSTD];
    columns->loops->to_f32(columns->dtype, args[CNN_ARG_SRC], shift, columns->channels);
    for (int32_t c = 0; c < columns->channels; c++)
        shift[c] = isfinite(shift[c]) ? shift[c] : 0.0f;
    const bn_pass pass = {.x = args[CNN_ARG_SRC], .shift = shift};
    const double *sum = cnn_columns_reduce(columns, workspace, add_moments, &pass);
    const double *sum2 = sum + columns->channels;
    double m = (double)columns->pixels;
    for (int32_t c = 0; c < columns->channels; c++) {
        double average = sum[c] / m;
        double variance = sum2[c] / m - average * average;
        variance = variance < 0 ? 0 : variance; /* NaN stays */
        mean[c] = (float)(average + (double)shift[c]);
        var[c] = (float)(m > 1 ? variance * (m / (m - 1)) : variance);
        invstd[c] = (float)(1 / sqrt(variance + (double)eps));
    }
}

static cnn_status bn_train_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const bn_kernel *kernel = (const bn_kernel *)base;
    void *rest = vector_at(kernel, workspace, 1);
    cnn_bn_statistics(&kernel->columns, rest, vector_at(kernel, workspace, 0), base->desc.eps, args);
    bn_pass pass = {.dst_dtype = kernel->dst_dtype,
                    .x = args[CNN_ARG_SRC],
                    .mean = args[CNN_ARG_MEAN],
                    .invstd = args[CNN_ARG_INVSTD],
                    .gamma = args[CNN_ARG_GAMMA],
                    .beta = args[CNN_ARG_BETA],
                    .dst = args[CNN_ARG_DST]};
    cnn_columns_apply(&kernel->columns, rest, normalize, &pass);
    return CNN_OK;
}

void cnn_bn_invstd(int32_t channels, float eps, const float *var, float *invstd)
{
    for (int32_t c = 0; c < channels; c++)
        invstd[c] = (float)(1 / sqrt((double)var[c] + (double)eps));
}

static cnn_status bn_infer_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const bn_kernel *kernel = (const bn_kernel *)base;
    float *invstd = vector_at(kernel, workspace, 0);
    cnn_bn_invstd(kernel->columns.channels, base->desc.eps, args[CNN_ARG_VAR], invstd);
    bn_pass pass = {.dst_dtype = kernel->dst_dtype,
                    .relu = base->desc.epilogue_count > 0,
                    .x = args[CNN_ARG_SRC],
                    .mean = args[CNN_ARG_MEAN],
                    .invstd = invstd,
                    .gamma = args[CNN_ARG_GAMMA],
                    .beta = args[CNN_ARG_BETA],
                    .dst = args[CNN_ARG_DST]};
    cnn_columns_apply(&kernel->columns, vector_at(kernel, workspace, 1), normalize, &pass);
    return CNN_OK;
}

void cnn_bn_finish_gradient(int32_t channels, int64_t pixels, const double *sum, const double *dot,
                            void *const args[CNN_ARG_COUNT], float *scale, float *mean_dy, float *mean_dot)
{
    const float *gamma = args[CNN_ARG_GAMMA], *invstd = args[CNN_ARG_INVSTD];
    float *dgamma = args[CNN_ARG_DST2], *dbeta = args[CNN_ARG_DST3];
    for (int32_t c = 0; c < channels; c++) {
        dbeta[c] = (float)sum[c];
        dgamma[c] = (float)dot[c];
        scale[c] = gamma[c] * invstd[c];
        mean_dy[c] = (float)(sum[c] / (double)pixels);
        mean_dot[c] = (float)(dot[c] / (double)pixels);
    }
}

static cnn_status bn_grad_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const bn_kernel *kernel = (const bn_kernel *)base;
    const cnn_columns *columns = &kernel->columns;
    float *scale = vector_at(kernel, workspace, 0), *mean_dy = vector_at(kernel, workspace, 1);
    float *mean_dot = vector_at(kernel, workspace, 2);
    void *rest = vector_at(kernel, workspace, 3);
    bn_pass pass = {.dst_dtype = kernel->dst_dtype,
                    .x = args[CNN_ARG_SRC],
                    .dy = args[CNN_ARG_SRC2],
                    .mean = args[CNN_ARG_MEAN],
                    .invstd = args[CNN_ARG_INVSTD],
                    .scale = scale,
                    .mean_dy = mean_dy,
                    .mean_dot = mean_dot,
                    .dst = args[CNN_ARG_DST]};
    const double *sum = cnn_columns_reduce(columns, rest, add_gradients, &pass);
    cnn_bn_finish_gradient(columns->channels, columns->pixels, sum, sum + columns->channels, args, scale, mean_dy,
                           mean_dot);
    cnn_columns_apply(columns, rest, apply_gradient, &pass);
    return CNN_OK;
}

/* ---- The kernels ---- */

bool cnn_cpu_bn_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    const bool relu = desc->op == CNN_OP_BN_INFER && cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    if (desc->epilogue_count > relu || desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE)
        return cnn_refuse(why, "pooling is not part of its batch norm");
    return cnn_unpadded(desc, why);
}

cnn_status cnn_cpu_bn_float_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    bn_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    bool train = desc->op == CNN_OP_BN_TRAIN, infer = desc->op == CNN_OP_BN_INFER;
    kernel->columns = cnn_columns_plan(device, src->dtype, cnn_desc_pixels(src), src->c);
    kernel->dst_dtype = desc->arg[CNN_ARG_DST].dtype;
    kernel->vector_bytes = cnn_cpu_aligned((size_t)src->c * sizeof(float));
    kernel->cpu.base.workspace_bytes = (train   ? 0
                                        : infer ? 1
                                                : 3) *
                                           kernel->vector_bytes +
                                       kernel->columns.workspace_bytes;
    kernel->cpu.base.run = train ? bn_train_run : infer ? bn_infer_run : bn_grad_run;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, src->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
