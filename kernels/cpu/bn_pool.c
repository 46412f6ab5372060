/* Batch normalization with ReLU and max-pooling in one: BN_TRAIN [RELU] MAXPOOL and the BN_GRAD behind it, and BN_INFER
 * [RELU] MAXPOOL.
 *
 * All three are bound by memory. Alone they write and read the wide tensor four times, together they read it once for
 * the statistics, which inference has, and once for the windows. The gradient of the pooled tensor reaches one pixel of
 * a window at most, so that its sums visit windows, not pixels. A task takes some rows of windows. It needs the pixels
 * under them as f32, a few windows at a time, which stay in the nearest cache: in place, or converted. Windows do not
 * overlap; pixels under no window get no gradient. */
#include "kernels/cpu/ask.h"
#include "kernels/cpu/bn.h"
#include "kernels/cpu/floats.h"

#include <string.h>

enum {
    MAX_TAPS = 64,
    MAX_CHUNKS = 128,
    VECTORS = 4,
    PIECE_FLOATS = 1024 /* under the windows that are taken at a time */
};

typedef struct bn_pool_kernel {
    cnn_cpu_kernel cpu;
    cnn_columns columns;     /* of x, for the statistics */
    cnn_tensor_desc wide;    /* x and dx [N,H,W,C] */
    cnn_tensor_desc pooled;  /* y and dy [N,P,Q,C] */
    int32_t window, stride;  /* of the pooling */
    int taps;                /* window * window */
    int32_t piece;           /* most windows at a time */
    int32_t pixels;          /* of a line under them, at most */
    ptrdiff_t pitch;         /* floats between lines of x as f32 */
    ptrdiff_t tap[MAX_TAPS]; /* offsets of a window's pixels from its first, as f32 */
    bool relu, infer;
    int chunks, slots;   /* tasks; of N*P rows of windows */
    size_t vector_bytes; /* of one [channels] f32 vector; VECTORS of them begin the workspace */
    size_t sums_bytes;   /* of the gradient's sums [chunks + 1][2][channels], double, behind them */
    size_t band_bytes, row_bytes, slot_bytes; /* a slot: x and dx as f32, a row of outputs, sums */
} bn_pool_kernel;

typedef struct bn_pool_run {
    const bn_pool_kernel *kernel;
    void *const *args;
    const float *invstd; /* [channels] */
    float *vector[VECTORS];
    double *sums;
    char *slots;
} bn_pool_run;

/* ---- Pieces as f32 ---- */

/* Some windows of a row: where they lie, and a worker's scratch. */
typedef struct piece {
    int64_t wide, pooled; /* first element of the first window, of its output */
    int32_t windows;
    int32_t pixels; /* of each line: those of the windows and of what lies between and, at the end of a row, behind */
    float *band, *band2, *row;
    float *some; /* [2*channels] */
} piece;

static piece piece_at(const bn_pool_run *run, int64_t number, int32_t q, int worker)
{
    const bn_pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *wide = &kernel->wide, *pooled = &kernel->pooled;
    const int64_t line = (int64_t)wide->w * wide->c;
    const int32_t left = q * kernel->stride, rest = pooled->w - q;
    const bool last = rest <= kernel->piece;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    float *row = (float *)(void *)(slot + 2 * kernel->band_bytes);
    return (piece){.wide = (number / pooled->h * wide->h + number % pooled->h * kernel->stride) * line +
                           (int64_t)left * wide->c,
                   .pooled = (number * pooled->w + q) * pooled->c,
                   .windows = last ? rest : kernel->piece,
                   .pixels = last ? wide->w - left : kernel->piece * kernel->stride,
                   .band = (float *)(void *)slot,
                   .band2 = (float *)(void *)(slot + kernel->band_bytes),
                   .row = row,
                   .some = (float *)(void *)((char *)row + kernel->row_bytes)};
}

static char *element_at(const cnn_tensor_desc *desc, void *data, int64_t element)
{
    return (char *)data + (size_t)element * cnn_dtype_bytes(desc->dtype);
}

/* `lines` of `count` elements of an image or of outputs, from `element` on: in place or converted into `scratch`, whose
 * lines are kernel->pitch apart. */
static const float *read_lines(const bn_pool_run *run, const cnn_tensor_desc *desc, cnn_arg role, int64_t element,
                               int32_t lines, int64_t count, float *scratch)
{
    const bn_pool_kernel *kernel = run->kernel;
    const char *from = element_at(desc, run->args[role], element);
    if (desc->dtype == CNN_F32)
        return (const float *)(const void *)from;
    const size_t line = (size_t)desc->w * (size_t)desc->c * cnn_dtype_bytes(desc->dtype);
    for (int32_t r = 0; r < lines; r++)
        kernel->columns.loops->to_f32(desc->dtype, from + (size_t)r * line, scratch + r * kernel->pitch, count);
    return scratch;
}

/* Where to compute lines of DST; store_lines() then rounds what is not in place. */
static float *write_lines(const bn_pool_run *run, const cnn_tensor_desc *desc, int64_t element, float *scratch)
{
    return desc->dtype == CNN_F32 ? (float *)(void *)element_at(desc, run->args[CNN_ARG_DST], element) : scratch;
}

static void store_lines(const bn_pool_run *run, const cnn_tensor_desc *desc, int64_t element, int32_t lines,
                        int64_t count, const float *scratch)
{
    const bn_pool_kernel *kernel = run->kernel;
    if (desc->dtype == CNN_F32)
        return;
    char *to = element_at(desc, run->args[CNN_ARG_DST], element);
    const size_t line = (size_t)desc->w * (size_t)desc->c * cnn_dtype_bytes(desc->dtype);
    for (int32_t r = 0; r < lines; r++)
        kernel->columns.loops->from_f32(desc->dtype, scratch + r * kernel->pitch, to + (size_t)r * line, count);
}

static const float *read_x(const bn_pool_run *run, const piece *at)
{
    return read_lines(run, &run->kernel->wide, CNN_ARG_SRC, at->wide, run->kernel->window,
                      (int64_t)at->pixels * run->kernel->wide.c, at->band);
}

static const float *read_dy(const bn_pool_run *run, const piece *at)
{
    return read_lines(run, &run->kernel->pooled, CNN_ARG_SRC2, at->pooled, 1,
                      (int64_t)at->windows * run->kernel->pooled.c, at->row);
}

/* Asks for the x of a piece, which lies in several lines, each too short for a CPU to foresee what comes next. */
static inline __attribute__((always_inline)) void ask_x(const bn_pool_run *run, const piece *at)
{
    const cnn_tensor_desc *wide = &run->kernel->wide;
    const int64_t size = (int64_t)cnn_dtype_bytes(wide->dtype), pixel = wide->c * size;
    cnn_cpu_ask((const char *)run->args[CNN_ARG_SRC] + at->wide * size, wide->w * pixel, run->kernel->window,
                at->pixels * pixel);
}

/* ---- Tasks: some rows of windows ---- */

/* Calls `visit` for all pieces of the rows of a task. */
static void visit_pieces(const bn_pool_run *run, int task, int worker,
                         void (*visit)(const bn_pool_run *run, const piece *at, double *sum), double *sum)
{
    const bn_pool_kernel *kernel = run->kernel;
    const int64_t rows = (int64_t)kernel->pooled.n * kernel->pooled.h, last = rows * (task + 1) / kernel->chunks;
    for (int64_t number = rows * task / kernel->chunks; number < last; number++)
        for (int32_t q = 0; q < kernel->pooled.w; q += kernel->piece) {
            const piece at = piece_at(run, number, q, worker);
            const bool more = q + kernel->piece < kernel->pooled.w;
            if (more || number + 1 < last) {
                const piece next = piece_at(run, number + !more, more ? q + kernel->piece : 0, worker);
                ask_x(run, &next);
            }
            visit(run, &at, sum);
        }
}

static void pool_piece(const bn_pool_run *run, const piece *at, double *sum)
{
    const bn_pool_kernel *kernel = run->kernel;
    const int32_t channels = kernel->pooled.c;
    const float *x = read_x(run, at);
    float *y = write_lines(run, &kernel->pooled, at->pooled, at->row);
    uint8_t *index = kernel->infer ? NULL : (uint8_t *)run->args[CNN_ARG_INDEX] + at->pooled;
    (void)sum;
    kernel->columns.loops->bn_pool(x, (ptrdiff_t)kernel->stride * channels, kernel->tap, kernel->taps, at->windows,
                                   run->args[CNN_ARG_MEAN], run->invstd, run->args[CNN_ARG_GAMMA],
                                   run->args[CNN_ARG_BETA], channels, kernel->relu, y, index);
    store_lines(run, &kernel->pooled, at->pooled, 1, (int64_t)at->windows * channels, y);
}

static void pool_task(void *context, int task, int worker)
{
    visit_pieces(context, task, worker, pool_piece, NULL);
}

static void sum_piece(const bn_pool_run *run, const piece *at, double *sum)
{
    const bn_pool_kernel *kernel = run->kernel;
    const int32_t channels = kernel->pooled.c;
    const float *x = read_x(run, at), *dy = read_dy(run, at);
    kernel->columns.loops->bn_pool_grad_sums(x, (ptrdiff_t)kernel->stride * channels, kernel->tap, kernel->taps,
                                             at->windows, dy, (const uint8_t *)run->args[CNN_ARG_INDEX] + at->pooled,
                                             run->args[CNN_ARG_MEAN], run->args[CNN_ARG_INVSTD], channels, at->some,
                                             sum, sum + channels);
}

static void sums_task(void *context, int task, int worker)
{
    const bn_pool_run *run = context;
    const size_t count = 2 * (size_t)run->kernel->pooled.c;
    double *sum = run->sums + (size_t)task * count;
    memset(sum, 0, count * sizeof *sum);
    visit_pieces(run, task, worker, sum_piece, sum);
}

/* dx of pixels that no window reaches: `count` of them. */
static void apply_alone(const bn_pool_run *run, const float *x, float *dx, int64_t count)
{
    const bn_pool_kernel *kernel = run->kernel;
    const float *scale = run->vector[0], *mean_dy = run->vector[1], *mean_dot = run->vector[2];
    for (int64_t pixel = 0; pixel < count; pixel++, x += kernel->wide.c, dx += kernel->wide.c)
        kernel->columns.loops->bn_grad_apply(x, run->vector[3], run->args[CNN_ARG_MEAN], run->args[CNN_ARG_INVSTD],
                                             scale, mean_dy, mean_dot, 1, kernel->wide.c, dx);
}

/* dx under the windows, then of what lies between and behind them. */
static void apply_windows(const bn_pool_run *run, const piece *at, const float *x, float *dx)
{
    const bn_pool_kernel *kernel = run->kernel;
    const int32_t channels = kernel->pooled.c;
    const float *dy = read_dy(run, at);
    const uint8_t *index = (const uint8_t *)run->args[CNN_ARG_INDEX] + at->pooled;
    kernel->columns.loops->bn_pool_grad_apply(x, (ptrdiff_t)kernel->stride * channels, kernel->tap, kernel->taps,
                                              at->windows, dy, index, run->args[CNN_ARG_MEAN],
                                              run->args[CNN_ARG_INVSTD], run->vector[0], run->vector[1], run->vector[2],
                                              channels, dx);
    for (int32_t q = 0; q < at->windows; q++) {
        const int32_t from = q * kernel->stride + kernel->window;
        const int32_t to = q + 1 < at->windows ? (q + 1) * kernel->stride : at->pixels;
        for (int32_t r = 0; r < kernel->window && from < to; r++) {
            const ptrdiff_t gap = r * kernel->pitch + (ptrdiff_t)from * channels;
            apply_alone(run, x + gap, dx + gap, to - from);
        }
    }
}

/* dx below a piece, down to the next row of windows or the end of the image. */
static void apply_below(const bn_pool_run *run, const piece *at)
{
    const bn_pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *wide = &kernel->wide;
    const int64_t line = (int64_t)wide->w * wide->c, count = (int64_t)at->pixels * wide->c;
    const int32_t p = (int32_t)(at->wide / line % wide->h) / kernel->stride;
    const int32_t lines = p + 1 < kernel->pooled.h ? kernel->stride : wide->h - p * kernel->stride;
    for (int32_t r = kernel->window; r < lines; r++) {
        const int64_t element = at->wide + r * line;
        const float *x = read_lines(run, wide, CNN_ARG_SRC, element, 1, count, at->band);
        float *dx = write_lines(run, wide, element, at->band2);
        apply_alone(run, x, dx, at->pixels);
        store_lines(run, wide, element, 1, count, dx);
    }
}

static void gradient_piece(const bn_pool_run *run, const piece *at, double *sum)
{
    const bn_pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *wide = &kernel->wide;
    const float *x = read_x(run, at);
    float *dx = write_lines(run, wide, at->wide, at->band2);
    (void)sum;
    apply_windows(run, at, x, dx);
    store_lines(run, wide, at->wide, kernel->window, (int64_t)at->pixels * wide->c, dx);
    apply_below(run, at);
}

static void gradient_task(void *context, int task, int worker)
{
    visit_pieces(context, task, worker, gradient_piece, NULL);
}

/* ---- Running ---- */

static bn_pool_run run_of(const bn_pool_kernel *kernel, void *const args[CNN_ARG_COUNT], void *workspace)
{
    bn_pool_run run = {.kernel = kernel, .args = args, .invstd = args[CNN_ARG_INVSTD]};
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

static cnn_status infer_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const bn_pool_kernel *kernel = (const bn_pool_kernel *)base;
    bn_pool_run run = run_of(kernel, args, workspace);
    cnn_bn_invstd(kernel->wide.c, base->desc.eps, args[CNN_ARG_VAR], run.vector[0]);
    run.invstd = run.vector[0];
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
    const bool grad = desc->op == CNN_OP_BN_GRAD, relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    if (grad ? desc->arg[CNN_ARG_INDEX].dtype == CNN_NONE : !cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL))
        return cnn_refuse(why, "there is no pooling in it");
    if (!grad && desc->epilogue_count != (relu ? 2 : 1))
        return cnn_refuse(why, "its epilogue is more than relu, max-pool");
    if (desc->pool_stride < desc->pool_kernel || desc->pool_kernel * desc->pool_kernel > MAX_TAPS)
        return cnn_refuse(why, "windows overlap, or have more than %d pixels", MAX_TAPS);
    return cnn_unpadded(desc, why);
}

/* How many windows are taken at a time, and where their pixels lie as f32. */
static void choose_pieces(bn_pool_kernel *kernel)
{
    const cnn_tensor_desc *wide = &kernel->wide;
    const int64_t floats = (int64_t)kernel->window * kernel->stride * wide->c;
    const int32_t windows = kernel->pooled.w, behind = wide->w - windows * kernel->stride; /* may be negative */
    kernel->piece = windows;
    if (floats * windows > PIECE_FLOATS)
        kernel->piece = floats < PIECE_FLOATS ? (int32_t)(PIECE_FLOATS / floats) : 1;
    kernel->pixels = kernel->piece * kernel->stride + (behind > 0 ? behind : 0);
    kernel->pitch = (ptrdiff_t)(wide->dtype == CNN_F32 ? wide->w : kernel->pixels) * wide->c;
    for (int t = 0; t < kernel->taps; t++)
        kernel->tap[t] = t / kernel->window * kernel->pitch + (ptrdiff_t)(t % kernel->window) * wide->c;
}

static void choose_memory(bn_pool_kernel *kernel)
{
    const size_t channels = (size_t)kernel->wide.c;
    kernel->vector_bytes = cnn_cpu_aligned(channels * sizeof(float));
    kernel->band_bytes = cnn_cpu_aligned((size_t)kernel->window * (size_t)kernel->pitch * sizeof(float));
    kernel->row_bytes = cnn_cpu_aligned((size_t)kernel->piece * channels * sizeof(float));
    kernel->slot_bytes = 2 * kernel->band_bytes + kernel->row_bytes + 2 * kernel->vector_bytes;
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
    const bool grad = desc->op == CNN_OP_BN_GRAD;
    kernel->infer = desc->op == CNN_OP_BN_INFER;
    kernel->wide = desc->arg[CNN_ARG_SRC];
    kernel->pooled = desc->arg[grad ? CNN_ARG_SRC2 : CNN_ARG_DST];
    kernel->window = desc->pool_kernel;
    kernel->stride = desc->pool_stride;
    kernel->taps = desc->pool_kernel * desc->pool_kernel;
    choose_pieces(kernel);
    kernel->relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    kernel->columns = cnn_columns_plan(device, kernel->wide.dtype, cnn_desc_pixels(&kernel->wide), kernel->wide.c);
    const int64_t rows = (int64_t)kernel->pooled.n * kernel->pooled.h;
    kernel->chunks = (int)(rows < MAX_CHUNKS ? rows : MAX_CHUNKS);
    kernel->slots = device->host->threads();
    choose_memory(kernel);
    kernel->cpu.base.run = grad ? grad_run : kernel->infer ? infer_run : train_run;
    cnn_cpu_kernel_name_float(&kernel->cpu,
                              grad            ? "bn_grad_pool"
                              : kernel->infer ? "bn_infer_pool"
                                              : "bn_train_pool",
                              kernel->wide.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
