/* Batch normalization with ReLU and max-pooling in one: BN_TRAIN [RELU] MAXPOOL, and the BN_GRAD behind it.
 *
 * All three are bound by memory. Alone they write and read the wide tensor four times, together they read it once for
 * the statistics and once for the windows. The gradient of the pooled tensor reaches one pixel of a window at most, so
 * that its sums visit windows, not pixels. A task takes some rows of windows; it needs the image's rows below them as
 * f32, in place or converted. Windows do not overlap; pixels under no window get no gradient. */
#include "kernels/cpu/bn.h"
#include "kernels/cpu/floats.h"

#include <string.h>

enum { MAX_TAPS = 64, MAX_CHUNKS = 128, VECTORS = 4 };

typedef struct bn_pool_kernel {
    cnn_cpu_kernel cpu;
    cnn_columns columns;     /* of x, for the statistics */
    cnn_tensor_desc wide;    /* x and dx [N,H,W,C] */
    cnn_tensor_desc pooled;  /* y and dy [N,P,Q,C] */
    int32_t window, stride;  /* of the pooling */
    int taps;                /* window * window */
    ptrdiff_t tap[MAX_TAPS]; /* offsets of a window's pixels from its first */
    bool relu;
    int chunks, slots;   /* tasks; of N*P rows of windows */
    size_t vector_bytes; /* of one [channels] f32 vector; VECTORS of them begin the workspace */
    size_t sums_bytes;   /* of the gradient's sums [chunks + 1][2][channels], double, behind them */
    size_t band_bytes, row_bytes, slot_bytes; /* a slot: two bands of the image's rows, three rows of outputs */
} bn_pool_kernel;

typedef struct bn_pool_run {
    const bn_pool_kernel *kernel;
    void *const *args;
    float *vector[VECTORS];
    double *sums;
    char *slots;
} bn_pool_run;

/* ---- Rows as f32 ---- */

static char *element_at(const cnn_tensor_desc *desc, void *data, int64_t element)
{
    return (char *)data + (size_t)element * cnn_dtype_bytes(desc->dtype);
}

/* `count` elements from `element` on, in place or converted into `scratch`. */
static const float *read_row(const bn_pool_run *run, const cnn_tensor_desc *desc, cnn_arg role, int64_t element,
                             int64_t count, float *scratch)
{
    const char *from = element_at(desc, run->args[role], element);
    if (desc->dtype == CNN_F32)
        return (const float *)(const void *)from;
    run->kernel->columns.loops->to_f32(desc->dtype, from, scratch, count);
    return scratch;
}

/* Where to compute elements of DST; store_row() then rounds what is not in place. */
static float *write_row(const bn_pool_run *run, const cnn_tensor_desc *desc, int64_t element, float *scratch)
{
    return desc->dtype == CNN_F32 ? (float *)(void *)element_at(desc, run->args[CNN_ARG_DST], element) : scratch;
}

static void store_row(const bn_pool_run *run, const cnn_tensor_desc *desc, int64_t element, int64_t count,
                      const float *row)
{
    if (desc->dtype != CNN_F32)
        run->kernel->columns.loops->from_f32(desc->dtype, row, element_at(desc, run->args[CNN_ARG_DST], element),
                                             count);
}

/* ---- Tasks: some rows of windows ---- */

/* One row of windows: where it lies, and a worker's scratch. */
typedef struct window_row {
    int64_t wide, pooled; /* first element of its first window, of its first output */
    int64_t wide_count;   /* elements of the image's rows that its windows reach */
    float *band, *band2, *row, *value, *gradient;
} window_row;

static window_row row_at(const bn_pool_run *run, int64_t number, int worker)
{
    const bn_pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *wide = &kernel->wide, *pooled = &kernel->pooled;
    const int64_t line = (int64_t)wide->w * wide->c;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    float *row = (float *)(void *)(slot + 2 * kernel->band_bytes);
    const size_t floats = kernel->row_bytes / sizeof *row;
    return (window_row){.wide = (number / pooled->h * wide->h + number % pooled->h * kernel->stride) * line,
                        .pooled = number * pooled->w * pooled->c,
                        .wide_count = kernel->window * line,
                        .band = (float *)(void *)slot,
                        .band2 = (float *)(void *)(slot + kernel->band_bytes),
                        .row = row,
                        .value = row + floats,
                        .gradient = row + 2 * floats};
}

static int64_t rows_of(const bn_pool_kernel *kernel, int task, int64_t *first)
{
    const int64_t rows = (int64_t)kernel->pooled.n * kernel->pooled.h;
    *first = rows * task / kernel->chunks;
    return rows * (task + 1) / kernel->chunks;
}

static void pool_task(void *context, int task, int worker)
{
    const bn_pool_run *run = context;
    const bn_pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *pooled = &kernel->pooled;
    const int32_t channels = pooled->c;
    const ptrdiff_t step = (ptrdiff_t)kernel->stride * channels;
    int64_t number, last = rows_of(kernel, task, &number);
    for (; number < last; number++) {
        const window_row at = row_at(run, number, worker);
        const int64_t outputs = (int64_t)pooled->w * channels;
        const float *x = read_row(run, &kernel->wide, CNN_ARG_SRC, at.wide, at.wide_count, at.band);
        float *y = write_row(run, pooled, at.pooled, at.row);
        uint8_t *index = (uint8_t *)run->args[CNN_ARG_INDEX] + at.pooled;
        for (int32_t q = 0; q < pooled->w; q++)
            kernel->columns.loops->bn_pool(x + q * step, kernel->tap, kernel->taps, run->args[CNN_ARG_MEAN],
                                           run->args[CNN_ARG_INVSTD], run->args[CNN_ARG_GAMMA], run->args[CNN_ARG_BETA],
                                           channels, kernel->relu, y + (ptrdiff_t)q * channels,
                                           index + (ptrdiff_t)q * channels);
        store_row(run, pooled, at.pooled, outputs, y);
    }
}

static void sums_task(void *context, int task, int worker)
{
    const bn_pool_run *run = context;
    const bn_pool_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->columns.loops;
    const cnn_tensor_desc *pooled = &kernel->pooled;
    const int32_t channels = pooled->c;
    const ptrdiff_t step = (ptrdiff_t)kernel->stride * channels;
    double *sum = run->sums + (int64_t)task * 2 * channels;
    int64_t number, last = rows_of(kernel, task, &number);
    memset(sum, 0, 2 * (size_t)channels * sizeof *sum);
    for (; number < last; number++) {
        const window_row at = row_at(run, number, worker);
        const float *x = read_row(run, &kernel->wide, CNN_ARG_SRC, at.wide, at.wide_count, at.band);
        const float *dy = read_row(run, pooled, CNN_ARG_SRC2, at.pooled, (int64_t)pooled->w * channels, at.row);
        const uint8_t *index = (const uint8_t *)run->args[CNN_ARG_INDEX] + at.pooled;
        for (int32_t q = 0; q < pooled->w; q++) {
            const ptrdiff_t output = (ptrdiff_t)q * channels;
            loops->pool_select(x + q * step, kernel->tap, kernel->taps, dy + output, index + output, channels,
                               at.value + output, at.gradient + output);
        }
        loops->bn_grad_sums(at.value, at.gradient, run->args[CNN_ARG_MEAN], run->args[CNN_ARG_INVSTD], pooled->w,
                            channels, sum, sum + channels);
    }
}

/* dx of pixels that no window reaches: `count` of them from element `element` on. */
static void apply_alone(const bn_pool_run *run, const float *x, float *dx, int64_t count)
{
    const bn_pool_kernel *kernel = run->kernel;
    const float *scale = run->vector[0], *mean_dy = run->vector[1], *mean_dot = run->vector[2];
    for (int64_t pixel = 0; pixel < count; pixel++, x += kernel->wide.c, dx += kernel->wide.c)
        kernel->columns.loops->bn_grad_apply(x, run->vector[3], run->args[CNN_ARG_MEAN], run->args[CNN_ARG_INVSTD],
                                             scale, mean_dy, mean_dot, 1, kernel->wide.c, dx);
}

/* dx under one row of windows: the windows, then what lies between and behind them. */
static void apply_row(const bn_pool_run *run, const window_row *at, const float *x, float *dx)
{
    const bn_pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *pooled = &kernel->pooled;
    const int32_t channels = pooled->c, width = kernel->wide.w;
    const ptrdiff_t step = (ptrdiff_t)kernel->stride * channels;
    const float *dy = read_row(run, pooled, CNN_ARG_SRC2, at->pooled, (int64_t)pooled->w * channels, at->row);
    const uint8_t *index = (const uint8_t *)run->args[CNN_ARG_INDEX] + at->pooled;
    for (int32_t q = 0; q < pooled->w; q++)
        kernel->columns.loops->bn_pool_grad_apply(x + q * step, kernel->tap, kernel->taps, dy + (ptrdiff_t)q * channels,
                                                  index + (ptrdiff_t)q * channels, run->args[CNN_ARG_MEAN],
                                                  run->args[CNN_ARG_INVSTD], run->vector[0], run->vector[1],
                                                  run->vector[2], channels, dx + q * step);
    for (int32_t q = 0; q < pooled->w; q++) {
        const int32_t from = q * kernel->stride + kernel->window;
        const int32_t to = q + 1 < pooled->w ? (q + 1) * kernel->stride : width;
        for (int32_t r = 0; r < kernel->window && from < to; r++) {
            const ptrdiff_t gap = ((ptrdiff_t)r * width + from) * channels;
            apply_alone(run, x + gap, dx + gap, to - from);
        }
    }
}

static void gradient_task(void *context, int task, int worker)
{
    const bn_pool_run *run = context;
    const bn_pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *wide = &kernel->wide;
    const int64_t line = (int64_t)wide->w * wide->c;
    int64_t number, last = rows_of(kernel, task, &number);
    for (; number < last; number++) {
        const window_row at = row_at(run, number, worker);
        const float *x = read_row(run, wide, CNN_ARG_SRC, at.wide, at.wide_count, at.band);
        float *dx = write_row(run, wide, at.wide, at.band2);
        apply_row(run, &at, x, dx);
        store_row(run, wide, at.wide, at.wide_count, dx);
        const int32_t p = (int32_t)(number % kernel->pooled.h);
        const int32_t lines = p + 1 < kernel->pooled.h ? kernel->stride : wide->h - p * kernel->stride;
        for (int32_t r = kernel->window; r < lines; r++) {
            const int64_t element = at.wide + r * line;
            x = read_row(run, wide, CNN_ARG_SRC, element, line, at.band);
            dx = write_row(run, wide, element, at.band2);
            apply_alone(run, x, dx, wide->w);
            store_row(run, wide, element, line, dx);
        }
    }
}

/* ---- Running ---- */

static bn_pool_run run_of(const bn_pool_kernel *kernel, void *const args[CNN_ARG_COUNT], void *workspace)
{
    bn_pool_run run = {.kernel = kernel, .args = args};
    char *memory = workspace;
    for (int i = 0; i < VECTORS; i++, memory += kernel->vector_bytes)
        run.vector[i] = (float *)(void *)memory;
    run.sums = (double *)(void *)memory;
    run.slots = memory + kernel->sums_bytes;
    return run;
}

static void run_tasks(const bn_pool_run *run, cnn_task_fn task)
{
    bn_pool_run copy = *run;
    cnn_cpu_parallel(run->kernel->columns.host, run->kernel->chunks, run->kernel->slots, task, &copy);
}

static cnn_status train_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const bn_pool_kernel *kernel = (const bn_pool_kernel *)base;
    const bn_pool_run run = run_of(kernel, args, workspace);
    cnn_bn_statistics(&kernel->columns, run.sums, run.vector[0], base->desc.eps, args);
    run_tasks(&run, pool_task);
    return CNN_OK;
}

static cnn_status grad_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const bn_pool_kernel *kernel = (const bn_pool_kernel *)base;
    const bn_pool_run run = run_of(kernel, args, workspace);
    const int32_t channels = kernel->wide.c;
    const int64_t row = 2 * (int64_t)channels;
    double *total = run.sums + kernel->chunks * row;
    run_tasks(&run, sums_task);
    memcpy(total, run.sums, (size_t)row * sizeof *total);
    for (int chunk = 1; chunk < kernel->chunks; chunk++)
        for (int64_t i = 0; i < row; i++)
            total[i] += run.sums[chunk * row + i];
    cnn_bn_finish_gradient(channels, cnn_desc_pixels(&kernel->wide), total, total + channels, args, run.vector[0],
                           run.vector[1], run.vector[2]);
    memset(run.vector[3], 0, kernel->vector_bytes);
    run_tasks(&run, gradient_task);
    return CNN_OK;
}

/* ---- The kernels ---- */

bool cnn_cpu_bn_pool_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    const bool train = desc->op == CNN_OP_BN_TRAIN, relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    if (desc->arg[CNN_ARG_INDEX].dtype == CNN_NONE)
        return cnn_refuse(why, "there is no pooling in it");
    if (train && desc->epilogue_count != (relu ? 2 : 1))
        return cnn_refuse(why, "its epilogue is more than relu, max-pool");
    if (desc->pool_stride < desc->pool_kernel || desc->pool_kernel * desc->pool_kernel > MAX_TAPS)
        return cnn_refuse(why, "windows overlap, or have more than %d pixels", MAX_TAPS);
    return cnn_unpadded(desc, why);
}

static void choose_memory(bn_pool_kernel *kernel)
{
    const size_t channels = (size_t)kernel->wide.c;
    kernel->vector_bytes = cnn_cpu_aligned(channels * sizeof(float));
    kernel->band_bytes = cnn_cpu_aligned((size_t)kernel->window * (size_t)kernel->wide.w * channels * sizeof(float));
    kernel->row_bytes = cnn_cpu_aligned((size_t)kernel->pooled.w * channels * sizeof(float));
    kernel->slot_bytes = 2 * kernel->band_bytes + 3 * kernel->row_bytes;
    kernel->sums_bytes = cnn_cpu_aligned((size_t)(kernel->chunks + 1) * 2 * channels * sizeof(double));
    const size_t gradient = kernel->sums_bytes + (size_t)kernel->slots * kernel->slot_bytes;
    const size_t statistics = kernel->columns.workspace_bytes;
    kernel->cpu.base.workspace_bytes = VECTORS * kernel->vector_bytes + (gradient > statistics ? gradient : statistics);
}

cnn_status cnn_cpu_bn_pool_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    bn_pool_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const bool train = desc->op == CNN_OP_BN_TRAIN;
    kernel->wide = desc->arg[CNN_ARG_SRC];
    kernel->pooled = desc->arg[train ? CNN_ARG_DST : CNN_ARG_SRC2];
    kernel->window = desc->pool_kernel;
    kernel->stride = desc->pool_stride;
    kernel->taps = desc->pool_kernel * desc->pool_kernel;
    for (int t = 0; t < kernel->taps; t++)
        kernel->tap[t] = ((ptrdiff_t)(t / kernel->window) * kernel->wide.w + t % kernel->window) * kernel->wide.c;
    kernel->relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    kernel->columns = cnn_columns_plan(device, kernel->wide.dtype, cnn_desc_pixels(&kernel->wide), kernel->wide.c);
    const int64_t rows = (int64_t)kernel->pooled.n * kernel->pooled.h;
    kernel->chunks = (int)(rows < MAX_CHUNKS ? rows : MAX_CHUNKS);
    kernel->slots = device->host->threads();
    choose_memory(kernel);
    kernel->cpu.base.run = train ? train_run : grad_run;
    cnn_cpu_kernel_name_float(&kernel->cpu, train ? "bn_train_pool" : "bn_grad_pool", kernel->wide.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
