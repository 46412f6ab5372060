/* Large linear layers in training: y = x W', dx = dy W, dW = dy' x, where W [K][C] changes in every step.
 *
 * Each pass reads or writes W once, and all else is small beside it; so it is W that is cut into tasks, and what meets
 * it is prepared once, before the tasks:
 *
 *   forward   some outputs at a time: rows of W times x transposed [C][images]; y is written transposed back
 *   dgrad     some columns at a time: dy times columns of W
 *   wgrad     some columns at a time: dy transposed, as it lies, times columns of x; sums go straight to DST
 *
 * Rows of W lie far apart, where no CPU foresees them: while one piece is multiplied, the next one is asked for.
 *
 * Panels of B are as in conv.c: two vectors of columns, row by row. Each sum is made by one task in one order. */
#include "kernels/cpu/columns.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/shape.h"

#include <string.h>

enum {
    PIECE = 64,         /* steps of one product: rows of W and what meets them stay in the first cache */
    LEAST_DEPTH = 256,  /* C of layers that are large */
    LEAST_OUTPUTS = 32, /* K */
    TASK_TILES = 4,     /* forward: tiles of outputs of a task, which share a piece of x */
    TASK_COLUMNS = 256, /* dgrad, wgrad: at most */
    LEAST_TASKS = 4,    /* of nearly equal size, so that a few threads have as much to do */
    MAX_ROWS = TASK_TILES * CNN_TILE_MAX_ROWS
};

typedef struct linear_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    int32_t n, c, k;
    cnn_dtype dtype; /* of x or dy, and of W */
    int32_t panel;   /* columns: two vectors */
    int32_t images;  /* n in whole panels */
    int tasks, slots;
    size_t shared_bytes; /* what is prepared before the tasks */
    size_t a_bytes, b_bytes, c_bytes, slot_bytes;
    cnn_columns bias; /* for db */
} linear_kernel;

typedef struct linear_run {
    const linear_kernel *kernel;
    void *const *args;
    float *shared;
    char *scratch;
} linear_run;

/* A share, number `part` of `parts`, of the rows [row, row+rows) x columns [first, first+columns) of W or dw is asked
 * for, to be read or written soon. Inlined by force: gcc drops calls that only prefetch. */
static inline __attribute__((always_inline)) void ask(const void *data, cnn_dtype dtype, int32_t pitch, int32_t row,
                                                      int32_t rows, int32_t first, int32_t columns, int part, int parts,
                                                      const int write)
{
    enum { LINE_BYTES = 64 };
    const int64_t bytes = (int64_t)cnn_dtype_bytes(dtype), length = columns * bytes;
    for (int32_t i = row + rows * part / parts; i < row + rows * (part + 1) / parts; i++) {
        const char *at = (const char *)data + ((int64_t)i * pitch + first) * bytes;
        for (int64_t byte = 0; byte < length; byte += LINE_BYTES)
            if (write) /* clang wants constants */
                __builtin_prefetch(at + byte, 1, 2);
            else
                __builtin_prefetch(at + byte, 0, 2);
    }
}

static int pieces_of(int32_t depth)
{
    return (depth + CNN_GEMM_DEPTH - 1) / CNN_GEMM_DEPTH;
}

static int32_t at_most(int32_t count, int32_t most)
{
    return count < most ? count : most;
}

static int32_t piece_length(int32_t depth, int piece)
{
    return at_most(depth - piece * CNN_GEMM_DEPTH, CNN_GEMM_DEPTH);
}

static const void *element(cnn_dtype dtype, const void *data, int64_t index)
{
    return (const char *)data + (size_t)index * cnn_dtype_bytes(dtype);
}

/* `columns` floats of each of `rows` rows to dst[i*CNN_GEMM_PITCH]. */
static void pack_rows(const linear_kernel *kernel, const void *data, int32_t pitch, int32_t row, int32_t rows,
                      int32_t first, int32_t columns, float *dst)
{
    for (int32_t i = 0; i < rows; i++)
        kernel->loops->to_f32(kernel->dtype, element(kernel->dtype, data, (int64_t)(row + i) * pitch + first),
                              dst + (ptrdiff_t)i * CNN_GEMM_PITCH, columns);
}

/* Rows [row, row+rows) x columns [first, first+columns) as panels, each of `rows` rows; zeros beyond the columns. The
 * rows lie far apart: what comes some rows later is asked for. */
static void pack_panels(const linear_kernel *kernel, const void *data, int32_t pitch, int32_t row, int32_t rows,
                        int32_t first, int32_t columns, float *dst)
{
    enum { AHEAD = 4, LINE_BYTES = 64 };
    const int32_t panel = kernel->panel, whole = columns / panel * panel;
    const int64_t bytes = (int64_t)cnn_dtype_bytes(kernel->dtype);
    for (int32_t i = 0; i < rows; i++) {
        const char *from = element(kernel->dtype, data, (int64_t)(row + i) * pitch + first);
        float *to = dst + (ptrdiff_t)i * panel;
        for (int64_t at = 0; i + AHEAD < rows && at < columns * bytes; at += LINE_BYTES)
            __builtin_prefetch(from + AHEAD * pitch * bytes + at);
        for (int32_t j = 0; j < whole; j += panel)
            kernel->loops->to_f32(kernel->dtype, from + j * bytes, to + (ptrdiff_t)j * rows, panel);
        if (whole < columns) {
            memset(to + (ptrdiff_t)whole * rows, 0, (size_t)panel * sizeof *to);
            kernel->loops->to_f32(kernel->dtype, from + whole * bytes, to + (ptrdiff_t)whole * rows, columns - whole);
        }
    }
}

static float *scratch_of(const linear_run *run, int worker)
{
    return (float *)(void *)(run->scratch + (size_t)worker * run->kernel->slot_bytes);
}

/* Columns of a task of the gradients, in whole panels but for the last one: its first, and how many. */
static int32_t task_columns(const linear_kernel *kernel, int task, int32_t *first)
{
    const int64_t panels = (kernel->c + kernel->panel - 1) / kernel->panel;
    const int32_t end = (int32_t)(panels * (task + 1) / kernel->tasks) * kernel->panel;
    *first = (int32_t)(panels * task / kernel->tasks) * kernel->panel;
    return (end < kernel->c ? end : kernel->c) - *first;
}

/* ---- Forward ---- */

/* Task: a piece of the depth of x, transposed to [panels of images][c][panel]. */
static void transpose_task(void *context, int piece, int worker)
{
    const linear_run *run = context;
    const linear_kernel *kernel = run->kernel;
    const int32_t first = piece * PIECE, length = at_most(kernel->c - first, PIECE);
    float *rows = scratch_of(run, worker);
    for (int32_t image = 0; image < kernel->n; image += kernel->panel) {
        const int32_t count = kernel->n - image < kernel->panel ? kernel->n - image : kernel->panel;
        pack_rows(kernel, run->args[CNN_ARG_SRC], kernel->c, image, count, first, length, rows);
        kernel->loops->transpose(rows, CNN_GEMM_PITCH, count, length,
                                 run->shared + (ptrdiff_t)image * kernel->c + (ptrdiff_t)first * kernel->panel,
                                 kernel->panel);
    }
}

/* y of outputs [first, first+rows), from sums [rows][images]. */
static void store_outputs(const linear_run *run, int32_t first, int32_t rows, const float *sums)
{
    const linear_kernel *kernel = run->kernel;
    float outputs[MAX_ROWS];
    for (int32_t n = 0; n < kernel->n; n++) {
        for (int32_t i = 0; i < rows; i++)
            outputs[i] = sums[(ptrdiff_t)i * kernel->images + n];
        cnn_epilogue_store(kernel->loops, &kernel->cpu.base.desc, run->args, outputs, n, first, rows);
    }
}

static void forward_task(void *context, int task, int worker)
{
    const linear_run *run = context;
    const linear_kernel *kernel = run->kernel;
    const int32_t first = (int32_t)((int64_t)kernel->k * task / kernel->tasks);
    const int32_t rows = (int32_t)((int64_t)kernel->k * (task + 1) / kernel->tasks) - first;
    const int tiles = (rows + kernel->loops->tile_rows - 1) / kernel->loops->tile_rows;
    float *a = scratch_of(run, worker), *sums = a + kernel->a_bytes / sizeof *a;
    for (int32_t begin = 0; begin < kernel->c; begin += PIECE) {
        const int32_t length = at_most(kernel->c - begin, PIECE), next = begin + length;
        int part = 0;
        pack_rows(kernel, run->args[CNN_ARG_WEIGHT], kernel->c, first, rows, begin, length, a);
        for (int32_t image = 0; image < kernel->images; image += kernel->panel) {
            const float *b = run->shared + (ptrdiff_t)image * kernel->c + (ptrdiff_t)begin * kernel->panel;
            for (int t = 0; t < tiles; t++) {
                const int32_t row = rows * t / tiles, count = rows * (t + 1) / tiles - row;
                ask(run->args[CNN_ARG_WEIGHT], kernel->dtype, kernel->c, first, rows, next,
                    at_most(kernel->c - next, PIECE), part++, tiles * kernel->images / kernel->panel, 0);
                kernel->loops->tile_by_rows[1][count - 1](a + (ptrdiff_t)row * CNN_GEMM_PITCH, 1, b, kernel->panel,
                                                          sums + (ptrdiff_t)row * kernel->images + image,
                                                          kernel->images, length, begin > 0);
            }
        }
    }
    store_outputs(run, first, rows, sums);
}

/* ---- Gradients ---- */

/* Task: a piece of the depth of dy to [pieces][n][CNN_GEMM_PITCH]. */
static void pack_dy_task(void *context, int piece, int worker)
{
    const linear_run *run = context;
    const linear_kernel *kernel = run->kernel;
    (void)worker;
    pack_rows(kernel, run->args[CNN_ARG_SRC], kernel->k, 0, kernel->n, piece * CNN_GEMM_DEPTH,
              piece_length(kernel->k, piece), run->shared + (ptrdiff_t)piece * kernel->n * CNN_GEMM_PITCH);
}

/* Task: columns of dx. Sums go straight to DST where that is f32 and the columns are whole panels. */
static void dgrad_task(void *context, int task, int worker)
{
    const linear_run *run = context;
    const linear_kernel *kernel = run->kernel;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    int32_t first;
    const int32_t panel = kernel->panel, columns = task_columns(kernel, task, &first);
    const int tiles = (kernel->n + kernel->loops->tile_rows - 1) / kernel->loops->tile_rows;
    const bool straight = desc->arg[CNN_ARG_DST].dtype == CNN_F32 && columns % panel == 0 && !desc->epilogue_count;
    float *b = scratch_of(run, worker), *sums = b + kernel->b_bytes / sizeof *b;
    const ptrdiff_t pitch = straight ? kernel->c : TASK_COLUMNS;
    sums = straight ? (float *)run->args[CNN_ARG_DST] + first : sums;
    for (int32_t begin = 0; begin < kernel->k; begin += PIECE) {
        const int32_t length = at_most(kernel->k - begin, PIECE);
        const float *a =
            run->shared + (ptrdiff_t)(begin / CNN_GEMM_DEPTH) * kernel->n * CNN_GEMM_PITCH + begin % CNN_GEMM_DEPTH;
        const bool last = begin + length == kernel->k;
        const int32_t next = last ? 0 : begin + length, ahead = last ? first + columns : first;
        int part = 0, parts = (columns + panel - 1) / panel * tiles;
        pack_panels(kernel, run->args[CNN_ARG_WEIGHT], kernel->c, begin, length, first, columns, b);
        for (int32_t j = 0; j < columns; j += panel)
            for (int t = 0; t < tiles; t++) {
                const int32_t row = kernel->n * t / tiles, count = kernel->n * (t + 1) / tiles - row;
                ask(run->args[CNN_ARG_WEIGHT], kernel->dtype, kernel->c, next, at_most(kernel->k - next, PIECE), ahead,
                    at_most(kernel->c - ahead, columns), part++, parts, 0);
                kernel->loops->tile_by_rows[1][count - 1](a + (ptrdiff_t)row * CNN_GEMM_PITCH, 1,
                                                          b + (ptrdiff_t)j * length, panel, sums + row * pitch + j,
                                                          pitch, length, begin > 0);
            }
    }
    for (int32_t n = 0; n < kernel->n && !straight; n++)
        cnn_epilogue_store(kernel->loops, desc, run->args, sums + n * pitch, n, first, columns);
}

/* Task: a piece of dy to f32 [n][k]. */
static void widen_dy_task(void *context, int n, int worker)
{
    const linear_run *run = context;
    const linear_kernel *kernel = run->kernel;
    const int64_t row = (int64_t)n * kernel->k;
    (void)worker;
    kernel->loops->to_f32(kernel->dtype, element(kernel->dtype, run->args[CNN_ARG_SRC2], row), run->shared + row,
                          kernel->k);
}

/* One panel of columns of dw, from images [first, first+length) of dy and their x in `b`. */
static void wgrad_panel(const linear_kernel *kernel, const float *dy, int32_t length, const float *b, float *sums,
                        ptrdiff_t pitch, bool add)
{
    const int tiles = (kernel->k + kernel->loops->tile_rows - 1) / kernel->loops->tile_rows;
    for (int t = 0; t < tiles; t++) {
        const int32_t row = (int32_t)((int64_t)kernel->k * t / tiles);
        const int32_t count = (int32_t)((int64_t)kernel->k * (t + 1) / tiles) - row;
        const int32_t next = row + count, left = kernel->k - next;
        ask(sums, CNN_F32, (int32_t)pitch, next, left < count ? left : count, 0, kernel->panel, 0, 1, 1);
        kernel->loops->tile_by_steps[1][count - 1](dy + row, kernel->k, b, kernel->panel, sums + row * pitch, pitch,
                                                   length, add);
    }
}

/* Task: columns of dw. Those of a last panel that is not full are summed apart, so that no row writes into the next. */
static void wgrad_task(void *context, int task, int worker)
{
    const linear_run *run = context;
    const linear_kernel *kernel = run->kernel;
    int32_t first;
    const int32_t panel = kernel->panel, columns = task_columns(kernel, task, &first);
    const float *dy = kernel->dtype == CNN_F32 ? run->args[CNN_ARG_SRC2] : run->shared;
    float *dw = (float *)run->args[CNN_ARG_DST] + first;
    float *b = scratch_of(run, worker), *apart = b + kernel->b_bytes / sizeof *b;
    const int32_t whole = columns / panel * panel;
    for (int piece = 0; piece < pieces_of(kernel->n); piece++) {
        const int32_t image = piece * CNN_GEMM_DEPTH, length = piece_length(kernel->n, piece);
        const float *from = dy + (ptrdiff_t)image * kernel->k;
        pack_panels(kernel, run->args[CNN_ARG_SRC], kernel->c, image, length, first, columns, b);
        for (int32_t j = 0; j < whole; j += panel)
            wgrad_panel(kernel, from, length, b + (ptrdiff_t)j * length, dw + j, kernel->c, piece > 0);
        if (whole < columns)
            wgrad_panel(kernel, from, length, b + (ptrdiff_t)whole * length, apart, panel, piece > 0);
    }
    for (int32_t k = 0; whole < columns && k < kernel->k; k++)
        memcpy(dw + (ptrdiff_t)k * kernel->c + whole, apart + (ptrdiff_t)k * panel,
               (size_t)(columns - whole) * sizeof *dw);
}

/* ---- The kernels ---- */

static linear_run run_of(const linear_kernel *kernel, void *const args[CNN_ARG_COUNT], void *workspace)
{
    return (linear_run){kernel, args, workspace, (char *)workspace + kernel->shared_bytes};
}

static cnn_status forward_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const linear_kernel *kernel = (const linear_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    linear_run run = run_of(kernel, args, workspace);
    cnn_cpu_parallel(host, (kernel->c + PIECE - 1) / PIECE, kernel->slots, transpose_task, &run);
    cnn_cpu_parallel(host, kernel->tasks, kernel->slots, forward_task, &run);
    return CNN_OK;
}

static cnn_status dgrad_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const linear_kernel *kernel = (const linear_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    linear_run run = run_of(kernel, args, workspace);
    cnn_cpu_parallel(host, pieces_of(kernel->k), kernel->slots, pack_dy_task, &run);
    cnn_cpu_parallel(host, kernel->tasks, kernel->slots, dgrad_task, &run);
    return CNN_OK;
}

static cnn_status wgrad_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const linear_kernel *kernel = (const linear_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    linear_run run = run_of(kernel, args, workspace);
    if (kernel->dtype != CNN_F32)
        cnn_cpu_parallel(host, kernel->n, kernel->slots, widen_dy_task, &run);
    cnn_cpu_parallel(host, kernel->tasks, kernel->slots, wgrad_task, &run);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE)
        cnn_columns_bias_grad(&kernel->bias, workspace, args[CNN_ARG_SRC2], args[CNN_ARG_DST2]);
    return CNN_OK;
}

bool cnn_cpu_linear_train_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype) || !cnn_cpu_is_float(desc->arg[CNN_ARG_DST].dtype))
        return cnn_refuse(why, "src and dst must be float");
    if (desc->op != CNN_OP_LINEAR_WGRAD && desc->constant_weights)
        return cnn_refuse(why, "constant weights are better packed once");
    if (!cnn_unpadded(desc, why) || !cnn_epilogue_suits(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    return (shape.c >= LEAST_DEPTH && shape.k >= LEAST_OUTPUTS) || cnn_refuse(why, "the layer is small");
}

static void choose_memory(linear_kernel *kernel)
{
    const cnn_op op = kernel->cpu.base.desc.op;
    const size_t n = (size_t)kernel->n, k = (size_t)kernel->k, panel = (size_t)kernel->panel, floats = sizeof(float);
    const size_t images = (size_t)kernel->images, columns = TASK_COLUMNS;
    if (op == CNN_OP_LINEAR) {
        const size_t rows = MAX_ROWS > panel ? MAX_ROWS : panel;
        kernel->shared_bytes = cnn_cpu_aligned(images * (size_t)kernel->c * floats);
        kernel->a_bytes = cnn_cpu_aligned(rows * CNN_GEMM_PITCH * floats);
        kernel->c_bytes = cnn_cpu_aligned(MAX_ROWS * images * floats);
    } else {
        const size_t depth = op == CNN_OP_LINEAR_WGRAD && n < CNN_GEMM_DEPTH ? n : CNN_GEMM_DEPTH;
        const size_t rows = op == CNN_OP_LINEAR_WGRAD ? k * panel : n * columns;
        const size_t widened = kernel->dtype == CNN_F32 ? 0 : n * k;
        const size_t packed = (size_t)pieces_of(kernel->k) * n * CNN_GEMM_PITCH;
        kernel->shared_bytes = cnn_cpu_aligned((op == CNN_OP_LINEAR_WGRAD ? widened : packed) * floats);
        kernel->b_bytes = cnn_cpu_aligned(depth * columns * floats);
        kernel->c_bytes = cnn_cpu_aligned(rows * floats);
    }
    kernel->slot_bytes = kernel->a_bytes + kernel->b_bytes + kernel->c_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes = kernel->shared_bytes + (size_t)kernel->slots * kernel->slot_bytes;
    kernel->bias = cnn_columns_plan_bias(&kernel->cpu);
}

cnn_status cnn_cpu_linear_train_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    linear_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    const int32_t rows = TASK_TILES * cnn_cpu_loops_get(device->isa)->tile_rows;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->n = shape.n;
    kernel->c = shape.c;
    kernel->k = shape.k;
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->panel = 2 * kernel->loops->lanes;
    kernel->images = (shape.n + kernel->panel - 1) / kernel->panel * kernel->panel;
    kernel->tasks =
        desc->op == CNN_OP_LINEAR ? (shape.k + rows - 1) / rows : (shape.c + TASK_COLUMNS - 1) / TASK_COLUMNS;
    kernel->tasks = kernel->tasks < LEAST_TASKS ? LEAST_TASKS : kernel->tasks; /* a large layer has enough for them */
    kernel->cpu.base.run = desc->op == CNN_OP_LINEAR         ? forward_run
                           : desc->op == CNN_OP_LINEAR_DGRAD ? dgrad_run
                                                             : wgrad_run;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, kernel->dtype);
    choose_memory(kernel);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
