/* Large linear layers in bf16 with AMX: y = x W', dx = dy W, dW = dy' x, where W is [K][C].
 *
 * In amx_product.h's words, "pixels" x "weights":
 *
 *   forward   rows of W as they lie x pairs of x along C, transposed beforehand; y comes out transposed
 *   dgrad     rows of dy, in whole tiles x pairs of rows of W
 *   wgrad     dy transposed, pairs along images x pairs of images of x
 *
 * As in linear.c it is W, or dW, that is cut into tasks: some outputs in the forward pass, some columns in the others.
 * Each sum is made by one task in one order. */
#include "kernels/cpu/columns.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/shape.h"

#if defined(CNN_CPU_AMX_BUILT)

#include "kernels/cpu/amx_pairs.h"

#include <string.h>

enum {
    LEAST_DEPTH = 256,  /* C */
    LEAST_OUTPUTS = 32, /* K */
    LEAST_IMAGES = 8,
    PIECE = 64,         /* forward: steps before sums are put aside for other images */
    TASK_OUTPUTS = 32,  /* forward */
    TASK_COLUMNS = 256, /* dgrad, wgrad */
    TASK_PANELS = TASK_COLUMNS / CNN_AMX_OUTPUTS
};

typedef struct amx_linear {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    int32_t n, c, k;
    int32_t panels; /* of 16 images */
    int32_t steps;
    size_t step_bytes, tile_bytes; /* of a tile that is prepared */
    int tasks, slots;
    size_t shared_bytes; /* what is prepared before the tasks */
    size_t weights_bytes, sums_bytes, slot_bytes;
    cnn_columns bias; /* for db */
} amx_linear;

typedef struct linear_run {
    const amx_linear *kernel;
    void *const *args;
    uint8_t *shared, *scratch;
} linear_run;

static uint8_t *scratch_of(const linear_run *run, int worker)
{
    return run->scratch + (size_t)worker * run->kernel->slot_bytes;
}

/* Row `row` of a tensor [rows][width] of bf16; NULL beyond the last. */
static const uint16_t *row_at(const void *data, int32_t row, int32_t rows, int32_t width)
{
    return row < rows ? (const uint16_t *)data + (int64_t)row * width : NULL;
}

/* Pairs of 16 columns from `column` on, of which `count` are there, of two rows. */
CNN_AMX_VECTORS static inline __m512i pair_of(const uint16_t *even, const uint16_t *odd, int32_t column, int32_t count)
{
    const __mmask16 some = cnn_amx_lanes(count);
    return cnn_amx_pairs(even ? even + column : NULL, even ? some : 0, odd ? odd + column : NULL, odd ? some : 0);
}

static int32_t smaller(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

/* ---- Forward ---- */

/* Task: a step of x, transposed to [panels][steps][pairs along C][16 images]. */
CNN_AMX_VECTORS static void transpose_task(void *context, int step, int worker)
{
    const linear_run *run = context;
    const amx_linear *kernel = run->kernel;
    const int32_t pairs = (int32_t)kernel->step_bytes / CNN_AMX_GROUP_BYTES;
    (void)worker;
    for (int32_t panel = 0; panel < kernel->panels; panel++) {
        uint8_t *dst = run->shared + (size_t)(panel * kernel->steps + step) * kernel->tile_bytes;
        __m512i row[CNN_AMX_OUTPUTS];
        for (int32_t i = 0; i < CNN_AMX_OUTPUTS; i++) {
            const uint16_t *x = row_at(run->args[CNN_ARG_SRC], panel * CNN_AMX_OUTPUTS + i, kernel->n, kernel->c);
            const __mmask16 some = (__mmask16)((1u << pairs) - 1u);
            row[i] = x ? _mm512_maskz_loadu_epi32(some, x + (ptrdiff_t)step * pairs * 2) : _mm512_setzero_si512();
        }
        cnn_amx_transpose(row);
        for (int32_t i = 0; i < pairs; i++)
            _mm512_store_si512(dst + i * CNN_AMX_STEP_BYTES, row[i]);
    }
}

/* y of outputs [first, first+TASK_OUTPUTS), without the first `skip` of them, from sums [two panels of images]
 * [TASK_OUTPUTS][32 images]. */
static void store_outputs(const linear_run *run, int32_t first, int32_t skip, const float *sums)
{
    const amx_linear *kernel = run->kernel;
    float outputs[TASK_OUTPUTS];
    for (int32_t n = 0; n < kernel->n; n++) {
        const float *from = sums + (ptrdiff_t)(n / CNN_AMX_SUMS) * TASK_OUTPUTS * CNN_AMX_SUMS + n % CNN_AMX_SUMS;
        for (int32_t i = skip; i < TASK_OUTPUTS; i++)
            outputs[i] = from[i * CNN_AMX_SUMS];
        cnn_epilogue_store(kernel->loops, &kernel->cpu.base.desc, run->args, outputs + skip, n, first + skip,
                           TASK_OUTPUTS - skip);
    }
}

/* Task: up to 32 outputs. Where fewer are left, those before them are summed once more and left out. */
static void forward_task(void *context, int task, int worker)
{
    const linear_run *run = context;
    const amx_linear *kernel = run->kernel;
    const int32_t first = smaller(task * TASK_OUTPUTS, kernel->k - TASK_OUTPUTS);
    const size_t row_bytes = (size_t)kernel->c * sizeof(uint16_t);
    const uint8_t *w = (const uint8_t *)run->args[CNN_ARG_WEIGHT] + (size_t)first * row_bytes;
    float *sums = (float *)(void *)scratch_of(run, worker);
    cnn_amx_begin(kernel->step_bytes);
    for (int32_t step = 0; step < kernel->steps; step += PIECE)
        for (int32_t panel = 0; panel < kernel->panels; panel += 2) {
            const uint8_t *rows = w + (size_t)step * kernel->step_bytes;
            float *to = sums + (ptrdiff_t)(panel / 2) * TASK_OUTPUTS * CNN_AMX_SUMS;
            const cnn_amx_product product = {
                .pixels = {rows, rows + CNN_AMX_PIXELS * row_bytes},
                .pixel_bytes = row_bytes,
                .pixel_step_bytes = kernel->step_bytes,
                .runs = 1,
                .steps = smaller(kernel->steps - step, PIECE),
                .weights = run->shared + (size_t)(panel * kernel->steps + step) * kernel->tile_bytes,
                .weights_step_bytes = kernel->tile_bytes,
                .panel_bytes = (size_t)kernel->steps * kernel->tile_bytes,
                .sums = {to, to + CNN_AMX_PIXELS * CNN_AMX_SUMS},
                .sums_bytes = CNN_AMX_SUMS_BYTES,
                .tiles = 2,
                .panels = smaller(kernel->panels - panel, 2),
                .add = step > 0,
            };
            cnn_amx_multiply_bf16(&product);
        }
    cnn_amx_end();
    store_outputs(run, first, task * TASK_OUTPUTS - first, sums);
}

/* ---- Gradients ---- */

/* Pairs of rows of columns [first, first+columns) of a matrix [rows][C] as tiles [column panels][steps][pairs][16]. */
CNN_AMX_VECTORS static void pack_columns(const amx_linear *kernel, const void *data, int32_t rows, int32_t first,
                                         int32_t columns, uint8_t *dst)
{
    const int32_t pairs = (int32_t)kernel->step_bytes / CNN_AMX_GROUP_BYTES;
    const size_t panel_bytes = (size_t)kernel->steps * kernel->tile_bytes;
    for (int32_t i = 0; i < kernel->steps * pairs; i++) {
        const uint16_t *even = row_at(data, 2 * i, rows, kernel->c), *odd = row_at(data, 2 * i + 1, rows, kernel->c);
        uint8_t *to = dst + (size_t)i * CNN_AMX_STEP_BYTES;
        for (int32_t j = 0; j < columns; j += CNN_AMX_OUTPUTS, to += panel_bytes)
            _mm512_store_si512(to, pair_of(even, odd, first + j, columns - j));
    }
}

/* Task: 16 images of dy [n][K], as they lie; zeros beyond the last. */
static void copy_dy_task(void *context, int panel, int worker)
{
    const linear_run *run = context;
    const amx_linear *kernel = run->kernel;
    const size_t row_bytes = (size_t)kernel->k * sizeof(uint16_t);
    (void)worker;
    for (int32_t n = panel * CNN_AMX_PIXELS; n < (panel + 1) * CNN_AMX_PIXELS; n++)
        if (n < kernel->n)
            memcpy(run->shared + (size_t)n * row_bytes, (const uint8_t *)run->args[CNN_ARG_SRC] + (size_t)n * row_bytes,
                   row_bytes);
        else
            memset(run->shared + (size_t)n * row_bytes, 0, row_bytes);
}

/* Task: columns of dx. */
static void dgrad_task(void *context, int task, int worker)
{
    const linear_run *run = context;
    const amx_linear *kernel = run->kernel;
    const int32_t first = task * TASK_COLUMNS, columns = smaller(kernel->c - first, TASK_COLUMNS);
    const int32_t c_panels = (columns + CNN_AMX_OUTPUTS - 1) / CNN_AMX_OUTPUTS;
    const size_t row_bytes = (size_t)kernel->k * sizeof(uint16_t),
                 panel_bytes = (size_t)kernel->steps * kernel->tile_bytes;
    uint8_t *w = scratch_of(run, worker);
    float *sums = (float *)(void *)(w + kernel->weights_bytes); /* [images][TASK_COLUMNS] */
    pack_columns(kernel, run->args[CNN_ARG_WEIGHT], kernel->k, first, columns, w);
    cnn_amx_begin(kernel->step_bytes);
    for (int32_t panel = 0; panel < kernel->panels; panel += 2)
        for (int32_t j = 0; j < c_panels; j += 2) {
            const uint8_t *rows = run->shared + (size_t)(panel * CNN_AMX_PIXELS) * row_bytes;
            float *to = sums + (ptrdiff_t)panel * CNN_AMX_PIXELS * TASK_COLUMNS + j * CNN_AMX_OUTPUTS;
            const cnn_amx_product product = {
                .pixels = {rows, rows + CNN_AMX_PIXELS * row_bytes},
                .pixel_bytes = row_bytes,
                .pixel_step_bytes = kernel->step_bytes,
                .runs = 1,
                .steps = kernel->steps,
                .weights = w + (size_t)j * panel_bytes,
                .weights_step_bytes = kernel->tile_bytes,
                .panel_bytes = panel_bytes,
                .sums = {to, to + CNN_AMX_PIXELS * TASK_COLUMNS},
                .sums_bytes = TASK_COLUMNS * sizeof(float),
                .tiles = smaller(kernel->panels - panel, 2),
                .panels = smaller(c_panels - j, 2),
            };
            cnn_amx_multiply_bf16(&product);
        }
    cnn_amx_end();
    for (int32_t n = 0; n < kernel->n; n++)
        cnn_epilogue_store(kernel->loops, &kernel->cpu.base.desc, run->args, sums + (ptrdiff_t)n * TASK_COLUMNS, n,
                           first, columns);
}

/* Task: 16 outputs of dy, transposed to [K/16][steps][16 outputs][16 pairs of images]. */
CNN_AMX_VECTORS static void transpose_dy_task(void *context, int panel, int worker)
{
    const linear_run *run = context;
    const amx_linear *kernel = run->kernel;
    const int32_t k = panel * CNN_AMX_PIXELS;
    uint8_t *dst = run->shared + (size_t)(panel * kernel->steps) * kernel->tile_bytes;
    (void)worker;
    for (int32_t step = 0; step < kernel->steps; step++, dst += kernel->tile_bytes) {
        __m512i row[CNN_AMX_PIXELS];
        for (int32_t i = 0; i < CNN_AMX_PIXELS; i++) {
            const int32_t n = 2 * (step * CNN_AMX_PIXELS + i);
            const uint16_t *even = row_at(run->args[CNN_ARG_SRC2], n, kernel->n, kernel->k);
            const uint16_t *odd = row_at(run->args[CNN_ARG_SRC2], n + 1, kernel->n, kernel->k);
            row[i] = pair_of(even, odd, k, kernel->k - k);
        }
        cnn_amx_transpose(row);
        for (int32_t i = 0; i < CNN_AMX_PIXELS; i++)
            _mm512_store_si512(dst + i * CNN_AMX_STEP_BYTES, row[i]);
    }
}

/* Sums of 32 outputs by 32 columns to DST: what is there of them. */
static void store_gradient(const linear_run *run, const float *sums, int32_t k, int32_t c)
{
    const amx_linear *kernel = run->kernel;
    float *dw = (float *)run->args[CNN_ARG_DST] + (int64_t)k * kernel->c + c;
    const int32_t rows = smaller(kernel->k - k, CNN_AMX_SUMS), columns = smaller(kernel->c - c, CNN_AMX_SUMS);
    for (int32_t i = 0; i < rows; i++)
        memcpy(dw + (ptrdiff_t)i * kernel->c, sums + (ptrdiff_t)i * CNN_AMX_SUMS, (size_t)columns * sizeof *dw);
}

/* Task: columns of dw. Whole tiles are summed in DST. */
static void wgrad_task(void *context, int task, int worker)
{
    const linear_run *run = context;
    const amx_linear *kernel = run->kernel;
    const int32_t first = task * TASK_COLUMNS, columns = smaller(kernel->c - first, TASK_COLUMNS);
    const size_t panel_bytes = (size_t)kernel->steps * kernel->tile_bytes;
    uint8_t *x = scratch_of(run, worker);
    float *apart = (float *)(void *)(x + kernel->weights_bytes); /* [32][32] */
    pack_columns(kernel, run->args[CNN_ARG_SRC], kernel->n, first, columns, x);
    cnn_amx_begin(kernel->step_bytes);
    for (int32_t k = 0; k < kernel->k; k += CNN_AMX_SUMS)
        for (int32_t j = 0; j < columns; j += CNN_AMX_SUMS) {
            const bool whole = kernel->k - k >= CNN_AMX_SUMS && columns - j >= CNN_AMX_SUMS;
            const int32_t pitch = whole ? kernel->c : CNN_AMX_SUMS;
            float *to = whole ? (float *)run->args[CNN_ARG_DST] + (int64_t)k * kernel->c + first + j : apart;
            const uint8_t *dy = run->shared + (size_t)(k / CNN_AMX_PIXELS) * panel_bytes;
            const cnn_amx_product product = {
                .pixels = {dy, dy + panel_bytes},
                .pixel_bytes = CNN_AMX_STEP_BYTES,
                .pixel_step_bytes = kernel->tile_bytes,
                .runs = 1,
                .steps = kernel->steps,
                .weights = x + (size_t)(j / CNN_AMX_OUTPUTS) * panel_bytes,
                .weights_step_bytes = kernel->tile_bytes,
                .panel_bytes = panel_bytes,
                .sums = {to, to + (ptrdiff_t)CNN_AMX_PIXELS * pitch},
                .sums_bytes = (size_t)pitch * sizeof *to,
                .tiles = kernel->k - k > CNN_AMX_PIXELS ? 2 : 1,
                .panels = columns - j > CNN_AMX_OUTPUTS ? 2 : 1,
            };
            cnn_amx_multiply_bf16(&product);
            if (!whole)
                store_gradient(run, apart, k, first + j);
        }
    cnn_amx_end();
}

/* ---- The kernels ---- */

static linear_run run_of(const amx_linear *kernel, void *const args[CNN_ARG_COUNT], void *workspace)
{
    return (linear_run){kernel, args, workspace, (uint8_t *)workspace + kernel->shared_bytes};
}

static cnn_status forward_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const amx_linear *kernel = (const amx_linear *)base;
    const cnn_host *host = kernel->cpu.device->host;
    linear_run run = run_of(kernel, args, workspace);
    cnn_cpu_parallel(host, kernel->steps, kernel->slots, transpose_task, &run);
    cnn_cpu_parallel(host, kernel->tasks, kernel->slots, forward_task, &run);
    return CNN_OK;
}

static cnn_status dgrad_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const amx_linear *kernel = (const amx_linear *)base;
    const cnn_host *host = kernel->cpu.device->host;
    linear_run run = run_of(kernel, args, workspace);
    cnn_cpu_parallel(host, kernel->panels, kernel->slots, copy_dy_task, &run);
    cnn_cpu_parallel(host, kernel->tasks, kernel->slots, dgrad_task, &run);
    return CNN_OK;
}

static cnn_status wgrad_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const amx_linear *kernel = (const amx_linear *)base;
    const cnn_host *host = kernel->cpu.device->host;
    linear_run run = run_of(kernel, args, workspace);
    cnn_cpu_parallel(host, (kernel->k + CNN_AMX_PIXELS - 1) / CNN_AMX_PIXELS, kernel->slots, transpose_dy_task, &run);
    cnn_cpu_parallel(host, kernel->tasks, kernel->slots, wgrad_task, &run);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE)
        cnn_columns_bias_grad(&kernel->bias, workspace, args[CNN_ARG_SRC2], args[CNN_ARG_DST2]);
    return CNN_OK;
}

/* Bytes of the steps of a row of `values`; 0: there are none. */
static size_t step_bytes_of(int32_t values)
{
    const size_t bytes = (size_t)values * sizeof(uint16_t);
    const int32_t steps = cnn_amx_even_steps(bytes);
    return steps > 0 ? bytes / (size_t)steps : 0;
}

bool cnn_cpu_linear_bf16_amx_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    const bool wgrad = desc->op == CNN_OP_LINEAR_WGRAD;
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_BF16 || desc->arg[wgrad ? CNN_ARG_SRC2 : CNN_ARG_WEIGHT].dtype != CNN_BF16)
        return cnn_refuse(why, "tensors are not bf16");
    if (!cnn_unpadded(desc, why) || !cnn_epilogue_suits(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    if (shape.c < LEAST_DEPTH || shape.k < LEAST_OUTPUTS || shape.n < LEAST_IMAGES)
        return cnn_refuse(why, "the layer is small, or there are few images");
    return wgrad || step_bytes_of(desc->op == CNN_OP_LINEAR ? shape.c : shape.k) > 0 ||
           cnn_refuse(why, "rows that steps of whole pairs do not fill");
}

static void choose_memory(amx_linear *kernel)
{
    const cnn_op op = kernel->cpu.base.desc.op;
    const size_t images = (size_t)kernel->panels * CNN_AMX_PIXELS;
    const size_t panel_bytes = (size_t)kernel->steps * kernel->tile_bytes;
    if (op == CNN_OP_LINEAR) {
        kernel->shared_bytes = (size_t)kernel->panels * panel_bytes;
        kernel->sums_bytes = (size_t)((kernel->panels + 1) / 2) * TASK_OUTPUTS * CNN_AMX_SUMS_BYTES;
    } else if (op == CNN_OP_LINEAR_DGRAD) {
        kernel->shared_bytes = cnn_cpu_aligned(images * (size_t)kernel->k * sizeof(uint16_t));
        kernel->sums_bytes = images * TASK_COLUMNS * sizeof(float);
    } else {
        /* a second tile is always read, also of the last block */
        kernel->shared_bytes = (size_t)((kernel->k + CNN_AMX_SUMS - 1) / CNN_AMX_SUMS * 2) * panel_bytes;
        kernel->sums_bytes = CNN_AMX_SUMS * CNN_AMX_SUMS_BYTES;
    }
    if (op != CNN_OP_LINEAR)
        kernel->weights_bytes = TASK_PANELS * panel_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->slot_bytes = kernel->weights_bytes + kernel->sums_bytes;
    kernel->cpu.base.workspace_bytes = kernel->shared_bytes + (size_t)kernel->slots * kernel->slot_bytes;
    kernel->bias = cnn_columns_plan_bias(&kernel->cpu);
}

cnn_status cnn_cpu_linear_bf16_amx_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    amx_linear *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    const bool forward = desc->op == CNN_OP_LINEAR, wgrad = desc->op == CNN_OP_LINEAR_WGRAD;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->n = shape.n;
    kernel->c = shape.c;
    kernel->k = shape.k;
    kernel->panels = (shape.n + CNN_AMX_PIXELS - 1) / CNN_AMX_PIXELS;
    kernel->step_bytes = wgrad ? CNN_AMX_STEP_BYTES : step_bytes_of(forward ? shape.c : shape.k);
    kernel->tile_bytes = kernel->step_bytes * CNN_AMX_OUTPUTS;
    const int32_t values = (int32_t)(kernel->step_bytes / sizeof(uint16_t)), depth = forward ? shape.c
                                                                                     : wgrad ? shape.n
                                                                                             : shape.k;
    kernel->steps = (depth + values - 1) / values;
    kernel->tasks = forward ? (shape.k + TASK_OUTPUTS - 1) / TASK_OUTPUTS : (shape.c + TASK_COLUMNS - 1) / TASK_COLUMNS;
    kernel->cpu.base.run = forward ? forward_run : wgrad ? wgrad_run : dgrad_run;
    choose_memory(kernel);
    *made = &kernel->cpu.base;
    return CNN_OK;
}

#else
typedef int cnn_cpu_linear_bf16_amx_not_here; /* ISO C wants a declaration */
#endif
