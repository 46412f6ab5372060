/* CONV_WGRAD in bf16 with AMX.
 *
 *   dw[k][r][s][c] = sum over pixels (n,p,q) of dy[n,p,q][k] * x[n, p*stride+r-pad, q*stride+s-pad][c]
 *
 * The depth of these products are pixels. A step takes up to 32 of them: pairs of neighbours of a line of outputs and,
 * where lines are short, the same line of several images, a "group" of them. What a step needs lies together:
 *
 *   dy   [group][K/16][P][steps][16 k][16 pairs]            a tile of "pixels" in amx_product.h's words
 *   x    [group][copies][C/16][H][pairs][images][16 c]     tiles of weights
 *
 * so that a run is the steps of a line, and only lines of x that lie inside the image are met. At stride 1 there are
 * two copies of x, of pairs that begin at even and at odd columns: a column of the filter sees one of them from some
 * pair on. At other strides each column has a copy of its own. Sums of 2 x 2 tiles stay with their task,
 * [K/32][R][S][C/32][2][16][32], through all groups, which come in their order. Some groups at a time (a "chunk") are
 * laid out, then multiplied, so that they are still in a near cache. */
#include "kernels/cpu/columns.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/shape.h"

#if defined(CNN_CPU_AMX_BUILT)

#include "kernels/cpu/amx_pairs.h"

#include <string.h>

enum {
    MOST_PAIRS = 16,      /* of a step */
    DY_TILE_BYTES = 1024, /* room; fewer pairs leave the end of each row */
    SUMS_BYTES = 2 * CNN_AMX_PIXELS * CNN_AMX_SUMS * 4,
    CHUNK_BYTES = 24 << 20,
    TASK_BLOCKS = 2,      /* of 32 filters, whose sums stay in L2 */
    VISIT = 4,            /* groups that are summed in registers, where a line is one step */
    TASKS_PER_THREAD = 2, /* at least, if there are enough: then each line of the filter is a task of its own */
    LEAST_DEPTH = 64      /* pixels */
};

typedef struct amx_wgrad {
    cnn_cpu_kernel cpu;
    cnn_conv_shape shape;
    int32_t images, groups;       /* of a group */
    int32_t pairs, steps;         /* of an image's line in a step; of a line */
    int32_t copies, lead;         /* of x; columns before the image with which copy 0 begins */
    int32_t x_pairs;              /* of a line of a copy */
    int32_t k_panels, c_panels;   /* of 16 */
    int32_t k_blocks, c_blocks;   /* of 32 */
    int32_t blocks, lines, tasks; /* of a task: blocks of filters, lines of the filter */
    int32_t chunk;                /* groups */
    int slots;
    size_t x_tile, x_line, x_panel, x_bytes; /* of a step; of a line; of a panel; of a group */
    size_t dy_panel, dy_bytes;
    size_t sums_bytes;
    cnn_columns bias; /* for db */
} amx_wgrad;

typedef struct wgrad_run {
    const amx_wgrad *kernel;
    void *const *args;
    uint8_t *x, *dy; /* of a chunk */
    float *sums;
    int32_t first, count; /* groups of the chunk */
} wgrad_run;

/* ---- Layout ---- */

/* A pixel of a line [width][channels], where it begins; outside it is zeros, which are read nowhere. */
typedef struct pixel {
    const uint16_t *at;
    __mmask16 lanes; /* none outside */
} pixel;

static inline pixel pixel_at(const uint16_t *line, int32_t q, int32_t width, int32_t channels)
{
    const bool inside = line && q >= 0 && q < width;
    return (pixel){inside ? line + (ptrdiff_t)q * channels : NULL, (__mmask16)(inside ? 0xffffu : 0u)};
}

/* The pair of 16 channels from `channel` on, of which `count` are there. */
CNN_AMX_VECTORS static inline __m512i pair_of(pixel even, pixel odd, int32_t channel, int32_t count)
{
    const __mmask16 some = cnn_amx_lanes(count);
    return cnn_amx_pairs(even.lanes ? even.at + channel : NULL, even.lanes & some, odd.lanes ? odd.at + channel : NULL,
                         odd.lanes & some);
}

/* Line `y` of an image of a tensor [n,height,width,channels]; NULL beyond the last image. */
static const uint16_t *line_at(const void *data, int32_t n, int32_t image, int32_t y, int32_t height, int32_t width,
                               int32_t channels)
{
    return image < n ? (const uint16_t *)data + (((int64_t)image * height + y) * width) * channels : NULL;
}

/* A line of a copy of x. Row j*images + g holds pair j of image g: columns `column` + 2*stride*j and one stride on. */
CNN_AMX_VECTORS static void lay_x_line(const wgrad_run *run, int32_t group, int32_t column, int32_t y, uint8_t *dst)
{
    const amx_wgrad *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    for (int32_t g = 0; g < kernel->images; g++) {
        const uint16_t *line =
            line_at(run->args[CNN_ARG_SRC], shape->n, group * kernel->images + g, y, shape->h, shape->w, shape->c);
        for (int32_t j = 0; j < kernel->x_pairs; j++) {
            const int32_t at = column + 2 * j * shape->stride;
            const pixel even = pixel_at(line, at, shape->w, shape->c);
            const pixel odd = pixel_at(line, at + shape->stride, shape->w, shape->c);
            uint8_t *row = dst + (size_t)(j * kernel->images + g) * CNN_AMX_STEP_BYTES;
            for (int32_t c = 0; c < shape->c; c += CNN_AMX_OUTPUTS, row += kernel->x_panel)
                _mm512_store_si512(row, pair_of(even, odd, c, shape->c - c));
        }
    }
}

/* The tiles of line p of dy, of all filters. */
CNN_AMX_VECTORS static void lay_dy_line(const wgrad_run *run, int32_t group, int32_t p, uint8_t *dst)
{
    const amx_wgrad *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    for (int32_t step = 0; step < kernel->steps; step++, dst += DY_TILE_BYTES) {
        pixel even[MOST_PAIRS], odd[MOST_PAIRS];
        for (int32_t i = 0; i < MOST_PAIRS; i++) {
            const int32_t g = i % kernel->images, j = i / kernel->images, q = 2 * (step * kernel->pairs + j);
            const uint16_t *line = j < kernel->pairs
                                       ? line_at(run->args[CNN_ARG_SRC2], shape->n, group * kernel->images + g, p,
                                                 shape->p, shape->q, shape->k)
                                       : NULL;
            even[i] = pixel_at(line, q, shape->q, shape->k);
            odd[i] = pixel_at(line, q + 1, shape->q, shape->k);
        }
        uint8_t *tile = dst;
        for (int32_t k = 0; k < shape->k; k += CNN_AMX_PIXELS, tile += kernel->dy_panel) {
            __m512i row[MOST_PAIRS];
            for (int32_t i = 0; i < MOST_PAIRS; i++)
                row[i] = pair_of(even[i], odd[i], k, shape->k - k);
            cnn_amx_transpose(row);
            for (int32_t i = 0; i < CNN_AMX_PIXELS; i++)
                _mm512_store_si512(tile + i * CNN_AMX_STEP_BYTES, row[i]);
        }
    }
}

/* Task: a group of the chunk. */
static void lay_task(void *context, int number, int worker)
{
    const wgrad_run *run = context;
    const amx_wgrad *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t group = run->first + number;
    uint8_t *x = run->x + (size_t)number * kernel->x_bytes, *dy = run->dy + (size_t)number * kernel->dy_bytes;
    (void)worker;
    for (int32_t copy = 0; copy < kernel->copies; copy++, x += (size_t)kernel->c_panels * kernel->x_panel)
        for (int32_t y = 0; y < shape->h; y++)
            lay_x_line(run, group, copy - kernel->lead, y, x + (size_t)y * kernel->x_line);
    for (int32_t p = 0; p < shape->p; p++, dy += (size_t)kernel->steps * DY_TILE_BYTES)
        lay_dy_line(run, group, p, dy);
}

/* ---- Products ---- */

static float *sums_of(const wgrad_run *run, int32_t block, int32_t r, int32_t s, int32_t c_block)
{
    const cnn_conv_shape *shape = &run->kernel->shape;
    const int64_t number = (((int64_t)block * shape->r + r) * shape->s + s) * run->kernel->c_blocks + c_block;
    return run->sums + number * (SUMS_BYTES / (int)sizeof(float));
}

/* 32 filters by 32 channels of a line of the filter, from `visit` groups. */
static void multiply_line(const wgrad_run *run, int32_t number, int32_t visit, int32_t block, int32_t r, int32_t c)
{
    const amx_wgrad *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t above = shape->pad - r, below = shape->h - 1 + shape->pad - r; /* p*stride lies between these */
    const int32_t first = above > 0 ? (above + shape->stride - 1) / shape->stride : 0;
    const int32_t last = below < 0 ? 0 : below / shape->stride + 1, end = last < shape->p ? last : shape->p;
    const uint8_t *dy = run->dy + (size_t)number * kernel->dy_bytes + (size_t)(2 * block) * kernel->dy_panel +
                        (size_t)(first * kernel->steps) * DY_TILE_BYTES;
    const uint8_t *x = run->x + (size_t)number * kernel->x_bytes + (size_t)(2 * c) * kernel->x_panel;
    if (end > first)
        x += (size_t)(first * shape->stride + r - shape->pad) * kernel->x_line;
    cnn_amx_product product = {
        .pixels = {dy, dy + kernel->dy_panel},
        .pixel_bytes = CNN_AMX_STEP_BYTES,
        .pixel_step_bytes = kernel->steps == 1 ? kernel->dy_bytes : DY_TILE_BYTES,
        .line_bytes = (size_t)kernel->steps * DY_TILE_BYTES,
        .runs = end > first ? end - first : 0,
        .steps = kernel->steps == 1 ? visit : kernel->steps,
        .weights_step_bytes = kernel->steps == 1 ? kernel->x_bytes : kernel->x_tile,
        .weights_line_bytes = (size_t)shape->stride * kernel->x_line,
        .panel_bytes = kernel->x_panel,
        .sums_bytes = CNN_AMX_SUMS_BYTES,
        .tiles = kernel->k_panels - 2 * block < 2 ? 1 : 2,
        .panels = kernel->c_panels - 2 * c < 2 ? 1 : 2,
        .add = run->first + number > 0,
    };
    for (int32_t s = 0; s < shape->s; s++) {
        const int32_t column = s - shape->pad + kernel->lead; /* from the start of copy 0 */
        const int32_t copy = column % kernel->copies, pair = column / kernel->copies;
        float *sums = sums_of(run, block, r, s, c);
        product.weights = x + (size_t)(copy * kernel->c_panels) * kernel->x_panel +
                          (size_t)(pair * kernel->images) * CNN_AMX_STEP_BYTES;
        product.sums[0] = sums;
        product.sums[1] = sums + CNN_AMX_PIXELS * CNN_AMX_SUMS;
        cnn_amx_multiply_bf16(&product);
    }
}

typedef struct task_range {
    int32_t block, block_end, r, r_end;
} task_range;

static task_range range_of(const amx_wgrad *kernel, int task)
{
    const int32_t parts = kernel->shape.r / kernel->lines; /* lines: all of them, or 1 */
    const int32_t block = task / parts * kernel->blocks, r = task % parts * kernel->lines;
    const int32_t end = block + kernel->blocks;
    return (task_range){block, end < kernel->k_blocks ? end : kernel->k_blocks, r, r + kernel->lines};
}

/* Task: some filters, all groups of the chunk. */
static void multiply_task(void *context, int task, int worker)
{
    const wgrad_run *run = context;
    const amx_wgrad *kernel = run->kernel;
    const task_range range = range_of(kernel, task);
    (void)worker;
    cnn_amx_begin((size_t)(kernel->images * kernel->pairs) * CNN_AMX_GROUP_BYTES);
    const int32_t visit = kernel->steps == 1 ? VISIT : 1;
    for (int32_t number = 0; number < run->count; number += visit) {
        const int32_t left = run->count - number, count = left < visit ? left : visit;
        for (int32_t block = range.block; block < range.block_end; block++)
            for (int32_t c = 0; c < kernel->c_blocks; c++)
                for (int32_t r = range.r; r < range.r_end; r++)
                    multiply_line(run, number, count, block, r, c);
    }
    cnn_amx_end();
}

/* Task: sums of 32 filters to DST. */
static void store_task(void *context, int block, int worker)
{
    const wgrad_run *run = context;
    const amx_wgrad *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t k = block * CNN_AMX_SUMS, left = shape->k - k, filters = left < CNN_AMX_SUMS ? left : CNN_AMX_SUMS;
    float *dw = run->args[CNN_ARG_DST];
    (void)worker;
    for (int32_t i = 0; i < filters; i++)
        for (int32_t r = 0; r < shape->r; r++)
            for (int32_t s = 0; s < shape->s; s++)
                for (int32_t c = 0; c < kernel->c_blocks; c++) {
                    const int32_t channel = c * CNN_AMX_SUMS, rest = shape->c - channel;
                    const float *sums = sums_of(run, block, r, s, c) + (ptrdiff_t)i * CNN_AMX_SUMS;
                    memcpy(dw + (((int64_t)(k + i) * shape->r + r) * shape->s + s) * shape->c + channel, sums,
                           (size_t)(rest < CNN_AMX_SUMS ? rest : CNN_AMX_SUMS) * sizeof *sums);
                }
}

static cnn_status run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const amx_wgrad *kernel = (const amx_wgrad *)base;
    const cnn_host *host = kernel->cpu.device->host;
    uint8_t *memory = workspace;
    wgrad_run run = {.kernel = kernel,
                     .args = args,
                     .x = memory,
                     .dy = memory + (size_t)kernel->chunk * kernel->x_bytes,
                     .sums = (float *)(void *)(memory + (size_t)kernel->chunk * (kernel->x_bytes + kernel->dy_bytes))};
    for (; run.first < kernel->groups; run.first += kernel->chunk) {
        run.count = kernel->groups - run.first < kernel->chunk ? kernel->groups - run.first : kernel->chunk;
        cnn_cpu_parallel(host, run.count, kernel->slots, lay_task, &run);
        cnn_cpu_parallel(host, kernel->tasks, kernel->slots, multiply_task, &run);
    }
    cnn_cpu_parallel(host, kernel->k_blocks, kernel->slots, store_task, &run);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE)
        cnn_columns_bias_grad(&kernel->bias, workspace, args[CNN_ARG_SRC2], args[CNN_ARG_DST2]);
    return CNN_OK;
}

/* ---- The kernel ---- */

bool cnn_cpu_wgrad_bf16_amx_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_BF16 || desc->arg[CNN_ARG_SRC2].dtype != CNN_BF16)
        return cnn_refuse(why, "x and dy are not bf16");
    if (!cnn_unpadded(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    if (shape.c < CNN_AMX_OUTPUTS / 2 || shape.k < CNN_AMX_PIXELS / 2)
        return cnn_refuse(why, "fewer channels than half a tile");
    return (int64_t)shape.n * shape.p * shape.q >= LEAST_DEPTH || cnn_refuse(why, "too few pixels");
}

static int32_t divide_up(int64_t a, int64_t b)
{
    return (int32_t)((a + b - 1) / b);
}

/* All sizes follow from the shape. */
static void choose_sizes(amx_wgrad *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t pairs = divide_up(shape->q, 2);
    kernel->steps = divide_up(pairs, MOST_PAIRS);
    kernel->pairs = divide_up(pairs, kernel->steps);
    kernel->images = MOST_PAIRS / kernel->pairs < shape->n ? MOST_PAIRS / kernel->pairs : shape->n;
    kernel->groups = divide_up(shape->n, kernel->images);
    kernel->k_panels = divide_up(shape->k, CNN_AMX_PIXELS);
    kernel->c_panels = divide_up(shape->c, CNN_AMX_OUTPUTS);
    kernel->k_blocks = divide_up(kernel->k_panels, 2);
    kernel->c_blocks = divide_up(kernel->c_panels, 2);
    kernel->blocks = kernel->k_blocks < TASK_BLOCKS * TASKS_PER_THREAD * kernel->slots ? 1 : TASK_BLOCKS;
    kernel->lines = kernel->k_blocks < TASKS_PER_THREAD * kernel->slots ? 1 : shape->r;
    kernel->tasks = divide_up(kernel->k_blocks, kernel->blocks) * (shape->r / kernel->lines);
    kernel->copies = shape->stride == 1 ? 2 : shape->s;
    kernel->lead = shape->stride == 1 ? shape->pad + shape->pad % 2 : shape->pad;
    kernel->x_pairs = kernel->steps * kernel->pairs;
    if (shape->stride == 1)
        kernel->x_pairs += (shape->s - 1 - shape->pad + kernel->lead) / 2;
    kernel->x_tile = (size_t)(kernel->images * kernel->pairs) * CNN_AMX_STEP_BYTES;
    kernel->x_line = (size_t)(kernel->images * kernel->x_pairs) * CNN_AMX_STEP_BYTES;
    kernel->x_panel = (size_t)shape->h * kernel->x_line;
    kernel->x_bytes = (size_t)(kernel->copies * kernel->c_panels) * kernel->x_panel;
    kernel->dy_panel = (size_t)(shape->p * kernel->steps) * DY_TILE_BYTES;
    kernel->dy_bytes = (size_t)kernel->k_panels * kernel->dy_panel;
    const size_t fit = CHUNK_BYTES / (kernel->x_bytes + kernel->dy_bytes);
    kernel->chunk = fit < 1 ? 1 : fit < (size_t)kernel->groups ? (int32_t)fit : kernel->groups;
    kernel->sums_bytes = (size_t)kernel->k_blocks * (size_t)(shape->r * shape->s * kernel->c_blocks) * SUMS_BYTES;
}

cnn_status cnn_cpu_wgrad_bf16_amx_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    amx_wgrad *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->shape = cnn_conv_shape_of(desc);
    kernel->slots = device->host->threads();
    choose_sizes(kernel);
    kernel->cpu.base.run = run_kernel;
    kernel->cpu.base.workspace_bytes =
        (size_t)kernel->chunk * (kernel->x_bytes + kernel->dy_bytes) + kernel->sums_bytes;
    kernel->bias = cnn_columns_plan_bias(&kernel->cpu);
    *made = &kernel->cpu.base;
    return CNN_OK;
}

#else
typedef int cnn_cpu_wgrad_bf16_amx_not_here; /* ISO C wants a declaration */
#endif
