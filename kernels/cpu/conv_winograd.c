/* 3x3 and 5x5 convolutions at stride 1 and their data gradients by Winograd's minimal filtering.
 *
 * The data gradient is the convolution of dy with the filters turned around, input and output channels exchanged, and
 * a padding of taps - 1 - pad. Transformed filters U [points][depth][columns] are kept in panels of two vectors of
 * columns, as conv.c's weights are; they are made once when weights are constant, else at the start of every run. */
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/winograd.h"

#include <string.h>

enum {
    MAX_TAPS = CNN_WINO_MAX_TAPS * CNN_WINO_MAX_TAPS,
    FILTER_CHANNELS = 32, /* channels of one filter that are transformed at a time */
    FILTER_PITCH = FILTER_CHANNELS + 16,
    TAP_EXTRA = 16,    /* floats between taps beyond what they hold, so that they do not share cache sets */
    PACK_FILTERS = 64, /* filters of a task that packs for the data gradient */
    PIECE = 128        /* steps of a product before more memory is asked for */
};

typedef struct wino_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    const cnn_wino_form *form;
    int products;     /* points of a tile: n x n */
    bool dgrad, more; /* more: the epilogue has an ADD or CLIP, and is not the transform's own */
    int32_t n, in_h, in_w, depth, out_h, out_w, columns; /* depth, columns: channels in and out */
    int32_t pad, depth_pitch, column_pitch;
    cnn_dtype src_dtype, weight_dtype;
    cnn_wino_tiles tiles;
    int depths, panel; /* pieces of the depth; columns of a whole panel */
    ptrdiff_t v_point, m_point, m_pitch, u_point;
    size_t u_bytes, v_bytes, m_bytes, outside_bytes, slot_bytes;
    int slots;
} wino_kernel;

typedef struct wino_run {
    const wino_kernel *kernel;
    void *const *args;
    const void *weights;
    float *u, *v, *m;
    void *outside; /* zeros: a pixel of SRC outside the image */
    char *scratch;
    int32_t first, images; /* of the chunk */
} wino_run;

static float *scratch_of(const wino_run *run, int worker)
{
    return (float *)(void *)(run->scratch + (size_t)worker * run->kernel->slot_bytes);
}

static int panel_width(const wino_kernel *kernel, int32_t column)
{
    return kernel->column_pitch - column < kernel->panel ? kernel->loops->lanes : kernel->panel;
}

/* U of a point from a column on: rows of `width` floats, one a depth. */
static float *u_panel(const wino_kernel *kernel, float *u, int point, int32_t column)
{
    return u + point * kernel->u_point + (ptrdiff_t)column * kernel->depth;
}

/* ---- Filters ---- */

/* Channels [first, first+count) of a tap of filter k. */
static void read_tap(const wino_run *run, int32_t k, int tap, int32_t first, int32_t count, float *dst)
{
    const wino_kernel *kernel = run->kernel;
    const int all = kernel->form->taps * kernel->form->taps;
    const int32_t channels = kernel->dgrad ? kernel->columns : kernel->depth;
    const int64_t at = ((int64_t)k * all + tap) * channels + first;
    kernel->loops->to_f32(kernel->weight_dtype,
                          (const char *)run->weights + (size_t)at * cnn_dtype_bytes(kernel->weight_dtype), dst, count);
}

/* Task: one panel of filters, some channels. A transposition of each tap puts the filters side by side. */
static void pack_forward_task(void *context, int task, int worker)
{
    const wino_run *run = context;
    const wino_kernel *kernel = run->kernel;
    const int pieces = (kernel->depth + FILTER_CHANNELS - 1) / FILTER_CHANNELS;
    const int32_t column = task / pieces * kernel->panel, first = task % pieces * FILTER_CHANNELS;
    const int32_t count = kernel->depth - first < FILTER_CHANNELS ? kernel->depth - first : FILTER_CHANNELS;
    const int width = panel_width(kernel, column);
    const int32_t filters = kernel->columns - column < width ? kernel->columns - column : width;
    const ptrdiff_t tap_pitch = FILTER_CHANNELS * kernel->panel + TAP_EXTRA;
    float *rows = scratch_of(run, worker), *taps = rows + kernel->panel * FILTER_PITCH;
    for (int tap = 0; tap < kernel->form->taps * kernel->form->taps; tap++) {
        for (int32_t i = 0; i < filters; i++)
            read_tap(run, column + i, tap, first, count, rows + i * FILTER_PITCH);
        kernel->loops->transpose(rows, FILTER_PITCH, filters, count, taps + tap * tap_pitch, width);
    }
    float *u = u_panel(kernel, run->u, 0, column) + (ptrdiff_t)first * width;
    for (int32_t c = 0; c < count; c++)
        kernel->form->filter(taps + (ptrdiff_t)c * width, tap_pitch, width, u + (ptrdiff_t)c * width, kernel->u_point);
}

/* Task: one panel of input channels, some filters. Here the channels are the columns. */
static void pack_dgrad_task(void *context, int task, int worker)
{
    const wino_run *run = context;
    const wino_kernel *kernel = run->kernel;
    const int pieces = (kernel->depth + PACK_FILTERS - 1) / PACK_FILTERS;
    const int all = kernel->form->taps * kernel->form->taps;
    const int32_t column = task / pieces * kernel->panel, first = task % pieces * PACK_FILTERS;
    const int32_t last = first + PACK_FILTERS < kernel->depth ? first + PACK_FILTERS : kernel->depth;
    const int width = panel_width(kernel, column);
    const int32_t count = kernel->columns - column < width ? kernel->columns - column : width;
    float *taps = scratch_of(run, worker);
    for (int32_t k = first; k < last; k++) {
        for (int tap = 0; tap < all; tap++) {
            float *row = taps + tap * FILTER_PITCH;
            read_tap(run, k, all - 1 - tap, column, count, row); /* turned around */
            memset(row + count, 0, (size_t)(width - count) * sizeof *row);
        }
        kernel->form->filter(taps, FILTER_PITCH, width, u_panel(kernel, run->u, 0, column) + (ptrdiff_t)k * width,
                             kernel->u_point);
    }
}

static void pack_filters(wino_run *run)
{
    const wino_kernel *kernel = run->kernel;
    const int panels = (kernel->column_pitch + kernel->panel - 1) / kernel->panel;
    const int length = kernel->dgrad ? PACK_FILTERS : FILTER_CHANNELS;
    const int pieces = (kernel->depth + length - 1) / length;
    cnn_cpu_parallel(kernel->cpu.device->host, panels * pieces, kernel->slots,
                     kernel->dgrad ? pack_dgrad_task : pack_forward_task, run);
}

/* ---- The three steps of a chunk ---- */

/* Task: a tile of an image of the chunk to V. */
static void input_task(void *context, int task, int worker)
{
    const wino_run *run = context;
    const wino_kernel *kernel = run->kernel;
    const cnn_wino_tiles *tiles = &kernel->tiles;
    const int32_t image = task / tiles->all, step = kernel->form->outputs;
    const int32_t y = task % tiles->all / tiles->across * step, x = task % tiles->across * step;
    const cnn_wino_image src = {kernel->src_dtype, run->args[CNN_ARG_SRC], kernel->in_h,
                                kernel->in_w,      kernel->depth,          run->outside};
    void *pixel[CNN_WINO_MAX_PIXELS];
    (void)worker;
    for (int d = 0; d < kernel->depths; d++) {
        const int32_t first = d * CNN_GEMM_DEPTH, left = kernel->depth - first;
        cnn_wino_pixels(&src, run->first + image, y - kernel->pad, x - kernel->pad, kernel->form->points, first, pixel);
        kernel->form->input(
            kernel->src_dtype, (const void *const *)pixel, left < CNN_GEMM_DEPTH ? left : CNN_GEMM_DEPTH,
            run->v + (ptrdiff_t)d * kernel->products * kernel->v_point + task * CNN_GEMM_PITCH, kernel->v_point);
    }
}

/* What rows [row, end) need after the columns that they are multiplied with, and at the next point that this thread is
 * likely to take: part b of `blocks` of the next panel of U, unless tiles stream through U, where the next sums go,
 * some columns of the next V. Few at a time: the CPU waits for the oldest when too many are under way. */
CNN_WINO_INLINE void prefetch_product(const wino_run *run, int point, int32_t column, int row, int end, int b,
                                      int blocks, bool streams)
{
    const wino_kernel *kernel = run->kernel;
    const int ahead = point + 1 < kernel->products;
    const bool last = column + kernel->panel >= kernel->column_pitch;
    const int next = last ? point + ahead : point;
    const int32_t next_column = last ? 0 : column + kernel->panel;
    const int32_t floats = kernel->depth * kernel->panel / blocks;
    if (!streams)
        cnn_wino_prefetch(u_panel(kernel, run->u, next, next_column) + b * floats, 0, 1, floats);
    cnn_wino_prefetch(run->m + next * kernel->m_point + row * kernel->m_pitch + next_column, kernel->m_pitch, end - row,
                      kernel->panel);
    const int panels = (kernel->column_pitch + kernel->panel - 1) / kernel->panel;
    const int32_t part = (kernel->depth_pitch + panels - 1) / panels, first = column / kernel->panel * part;
    if (first < kernel->depth && kernel->depths == 1)
        cnn_wino_prefetch(run->v + (point + ahead) * kernel->v_point + (ptrdiff_t)row * CNN_GEMM_PITCH + first,
                          CNN_GEMM_PITCH, end - row, part);
}

/* Task: M = V U at one point. */
static void product_task(void *context, int point, int worker)
{
    const wino_run *run = context;
    const wino_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    const int count = run->images * kernel->tiles.all;
    const int blocks = (count + loops->tile_rows - 1) / loops->tile_rows;
    const bool streams = blocks == 1; /* U is read once */
    (void)worker;
    for (int32_t column = 0; column < kernel->column_pitch; column += kernel->panel) {
        const int width = panel_width(kernel, column);
        const bool two = width == kernel->panel;
        const cnn_tile_fn *multiply = streams ? loops->tile_by_stream[two] : loops->tile_by_rows[two];
        for (int d = 0; d < kernel->depths; d++) {
            const int32_t first = d * CNN_GEMM_DEPTH, left = kernel->depth - first;
            const float *u = u_panel(kernel, run->u, point, column) + (ptrdiff_t)first * width;
            const float *v = run->v + ((ptrdiff_t)d * kernel->products + point) * kernel->v_point;
            float *m = run->m + point * kernel->m_point + column;
            const int32_t depth = left < CNN_GEMM_DEPTH ? left : CNN_GEMM_DEPTH;
            const int pieces = (depth + PIECE - 1) / PIECE;
            for (int b = 0; b < blocks; b++) {
                const int row = count * b / blocks, rows = count * (b + 1) / blocks - row;
                for (int piece = 0; piece < pieces; piece++) {
                    const int32_t k = piece * PIECE, steps = depth - k;
                    if (d == 0)
                        prefetch_product(run, point, column, row + rows * piece / pieces,
                                         row + rows * (piece + 1) / pieces, b * pieces + piece, blocks * pieces,
                                         streams);
                    multiply[rows - 1](v + (ptrdiff_t)row * CNN_GEMM_PITCH + k, 1, u + (ptrdiff_t)k * width, width,
                                       m + row * kernel->m_pitch, kernel->m_pitch, steps < PIECE ? steps : PIECE,
                                       d > 0 || piece > 0);
                }
            }
        }
    }
}

/* The epilogue of a tile whose outputs lie in `pixels` [outputs x outputs][column_pitch]. */
static void finish_tile(const wino_run *run, int32_t n, int32_t y, int32_t x, float *pixels)
{
    const wino_kernel *kernel = run->kernel;
    const int outputs = kernel->form->outputs;
    for (int i = 0; i < outputs * outputs; i++) {
        const int32_t row = y + i / outputs, column = x + i % outputs;
        if (row < kernel->out_h && column < kernel->out_w)
            cnn_epilogue_store(kernel->loops, &kernel->cpu.base.desc, run->args, pixels + i * kernel->column_pitch,
                               ((int64_t)n * kernel->out_h + row) * kernel->out_w + column, 0, kernel->columns);
    }
}

/* Task: a tile of an image of the chunk from M to DST. */
static void output_task(void *context, int task, int worker)
{
    const wino_run *run = context;
    const wino_kernel *kernel = run->kernel;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    const cnn_wino_tiles *tiles = &kernel->tiles;
    const int outputs = kernel->form->outputs;
    const int32_t image = run->first + task / tiles->all;
    const int32_t y = task % tiles->all / tiles->across * outputs, x = task % tiles->across * outputs;
    const cnn_wino_image dst = {
        desc->arg[CNN_ARG_DST].dtype, run->args[CNN_ARG_DST], kernel->out_h, kernel->out_w, kernel->columns, NULL};
    const cnn_wino_end none = {0},
                       end = {.bias = run->args[CNN_ARG_BIAS], .relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU)};
    const float *m = run->m + task * kernel->m_pitch;
    void *pixel[CNN_WINO_MAX_PIXELS];
    if (kernel->more) {
        float *sums = scratch_of(run, worker);
        for (int i = 0; i < outputs * outputs; i++)
            pixel[i] = sums + i * kernel->column_pitch;
        kernel->form->output(m, kernel->m_point, kernel->columns, CNN_F32, pixel, &none);
        finish_tile(run, image, y, x, sums);
    } else {
        cnn_wino_pixels(&dst, image, y, x, outputs, 0, pixel);
        kernel->form->output(m, kernel->m_point, kernel->columns, dst.dtype, pixel, &end);
    }
}

/* ---- The kernel ---- */

static cnn_status wino_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const wino_kernel *kernel = (const wino_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    char *memory = workspace;
    wino_run run = {.kernel = kernel, .args = args, .weights = args[CNN_ARG_WEIGHT]};
    run.v = (float *)(void *)memory;
    run.m = (float *)(void *)(memory + kernel->v_bytes);
    run.outside = memory + kernel->v_bytes + kernel->m_bytes;
    run.scratch = (char *)run.outside + kernel->outside_bytes;
    memset(run.outside, 0, kernel->outside_bytes);
    if (base->pack) {
        run.u = kernel->cpu.packed;
    } else {
        run.u = (float *)(void *)(run.scratch + (size_t)kernel->slots * kernel->slot_bytes);
        pack_filters(&run);
    }
    for (int chunk = 0; chunk < kernel->tiles.chunks; chunk++) {
        run.images = cnn_wino_chunk(&kernel->tiles, kernel->n, chunk, &run.first);
        cnn_cpu_parallel(host, run.images * kernel->tiles.all, kernel->slots, input_task, &run);
        host->parallel(kernel->products, product_task, &run);
        cnn_cpu_parallel(host, run.images * kernel->tiles.all, kernel->slots, output_task, &run);
    }
    return CNN_OK;
}

static cnn_status wino_pack(cnn_kernel *base, const void *weights)
{
    wino_kernel *kernel = (wino_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    wino_run run = {.kernel = kernel, .weights = weights};
    cnn_status status = CNN_OK;
    if (!kernel->cpu.packed)
        kernel->cpu.packed = host->alloc(kernel->u_bytes);
    run.u = kernel->cpu.packed;
    run.scratch = host->alloc((size_t)kernel->slots * kernel->slot_bytes);
    if (run.u && run.scratch)
        pack_filters(&run);
    else
        status = host->error(CNN_ERR_MEMORY, "device cpu: out of memory for %zu bytes of transformed filters",
                             kernel->u_bytes);
    host->free(run.scratch);
    return status;
}

bool cnn_cpu_conv_winograd_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    return cnn_epilogue_suits(desc, why) && cnn_wino_choose(desc, cnn_cpu_loops_get(isa), why);
}

static void choose_memory(wino_kernel *kernel)
{
    const size_t floats = sizeof(float), products = (size_t)kernel->products;
    const size_t tiles = (size_t)kernel->tiles.images * (size_t)kernel->tiles.all;
    const size_t outputs = (size_t)(kernel->form->outputs * kernel->form->outputs) * (size_t)kernel->column_pitch;
    const size_t panel = (size_t)kernel->panel;
    const size_t filters = kernel->dgrad ? MAX_TAPS * FILTER_PITCH
                                         : panel * FILTER_PITCH + MAX_TAPS * (FILTER_CHANNELS * panel + TAP_EXTRA);
    const size_t sums = kernel->more ? outputs : 0;
    kernel->v_point = cnn_wino_point((ptrdiff_t)tiles * CNN_GEMM_PITCH);
    kernel->m_pitch = kernel->column_pitch + CNN_WINO_PITCH_EXTRA;
    kernel->m_point = cnn_wino_point((ptrdiff_t)tiles * kernel->m_pitch);
    kernel->u_point = cnn_wino_point((ptrdiff_t)kernel->column_pitch * kernel->depth);
    kernel->v_bytes = cnn_cpu_aligned((size_t)kernel->depths * products * (size_t)kernel->v_point * floats);
    kernel->m_bytes = cnn_cpu_aligned(products * (size_t)kernel->m_point * floats);
    kernel->u_bytes = cnn_cpu_aligned(products * (size_t)kernel->u_point * floats);
    kernel->slot_bytes = cnn_cpu_aligned((sums > filters ? sums : filters) * floats);
    kernel->outside_bytes = cnn_cpu_aligned((size_t)kernel->depth_pitch * floats);
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes = kernel->v_bytes + kernel->m_bytes + kernel->outside_bytes +
                                       (size_t)kernel->slots * kernel->slot_bytes +
                                       (kernel->cpu.base.pack ? 0 : kernel->u_bytes);
}

cnn_status cnn_cpu_conv_winograd_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    wino_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    const bool dgrad = desc->op == CNN_OP_CONV_DGRAD;
    char why[CNN_REASON_BYTES];
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->form = cnn_wino_choose(desc, kernel->loops, why);
    kernel->products = kernel->form->points * kernel->form->points;
    kernel->dgrad = dgrad;
    kernel->more = cnn_op_has_epilogue(desc, CNN_EPILOGUE_ADD) || cnn_op_has_epilogue(desc, CNN_EPILOGUE_CLIP);
    kernel->n = shape.n;
    kernel->in_h = dgrad ? shape.p : shape.h;
    kernel->in_w = dgrad ? shape.q : shape.w;
    kernel->depth = dgrad ? shape.k : shape.c;
    kernel->out_h = dgrad ? shape.h : shape.p;
    kernel->out_w = dgrad ? shape.w : shape.q;
    kernel->columns = dgrad ? shape.c : shape.k;
    kernel->pad = dgrad ? shape.r - 1 - shape.pad : shape.pad;
    kernel->depth_pitch = cnn_wino_pad(kernel->loops, kernel->depth);
    kernel->column_pitch = cnn_wino_pad(kernel->loops, kernel->columns);
    kernel->src_dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->weight_dtype = desc->arg[CNN_ARG_WEIGHT].dtype;
    kernel->tiles = cnn_wino_tiles_of(kernel->form, kernel->n, kernel->out_h, kernel->out_w);
    kernel->depths = (kernel->depth_pitch + CNN_GEMM_DEPTH - 1) / CNN_GEMM_DEPTH;
    kernel->panel = 2 * kernel->loops->lanes;
    kernel->cpu.base.run = wino_run_kernel;
    kernel->cpu.base.pack = desc->constant_weights ? wino_pack : NULL;
    cnn_cpu_kernel_name_float(&kernel->cpu, dgrad ? "conv_dgrad_winograd" : "conv_winograd", kernel->src_dtype);
    choose_memory(kernel);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
