/* Weight gradients of 3x3 and 5x5 convolutions at stride 1 by Winograd's minimal filtering.
 *
 *   dw = G' [ sum over tiles (A dy A') * (B' x B) ] G      for every pair of channels
 *
 * For each chunk of images: transform tiles of x to V [points][tiles][C] and tiles of dy to D [points][tiles][K],
 * then add D' V to the sums U [points][K][C]. At the end each filter is transformed back. */
#include "kernels/cpu/columns.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/winograd.h"

#include <string.h>

typedef struct wino_wgrad {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    const cnn_wino_form *form;
    int products; /* points of a tile: n x n */
    cnn_conv_shape shape;
    cnn_dtype dtype;
    int32_t c_pitch, k_pitch; /* whole vectors */
    cnn_wino_tiles tiles;
    ptrdiff_t v_pitch, v_point, d_pitch, d_point, u_pitch, u_point;
    size_t v_bytes, d_bytes, u_bytes, outside_bytes, slot_bytes;
    int slots;
    cnn_columns bias; /* for db */
} wino_wgrad;

typedef struct wino_run {
    const wino_wgrad *kernel;
    void *const *args;
    float *v, *d, *u;
    void *outside; /* zeros: a pixel outside the image */
    char *scratch;
    int32_t first, images; /* of the chunk */
    bool add;              /* to the sums of chunks before */
} wino_run;

static float *scratch_of(const wino_run *run, int worker)
{
    return (float *)(void *)(run->scratch + (size_t)worker * run->kernel->slot_bytes);
}

/* Task: a row of tiles of one image, x to V and dy to D. */
static void transform_task(void *context, int task, int worker)
{
    const wino_run *run = context;
    const wino_wgrad *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const cnn_wino_tiles *tiles = &kernel->tiles;
    const int outputs = kernel->form->outputs, points = kernel->form->points;
    const int32_t image = run->first + task / tiles->down, y = task % tiles->down * outputs;
    const cnn_wino_image x = {kernel->dtype, run->args[CNN_ARG_SRC], shape->h, shape->w, shape->c, run->outside};
    const cnn_wino_image dy = {kernel->dtype, run->args[CNN_ARG_SRC2], shape->p, shape->q, shape->k, run->outside};
    void *pixel[CNN_WINO_MAX_PIXELS];
    (void)worker;
    for (int32_t i = 0; i < tiles->across; i++) {
        const int64_t tile = (int64_t)task * tiles->across + i;
        cnn_wino_pixels(&x, image, y - shape->pad, i * outputs - shape->pad, points, 0, pixel);
        kernel->form->input(kernel->dtype, (const void *const *)pixel, shape->c, run->v + tile * kernel->v_pitch,
                            kernel->v_point);
        cnn_wino_pixels(&dy, image, y, i * outputs, outputs, 0, pixel);
        kernel->form->output_grad(kernel->dtype, (const void *const *)pixel, shape->k, run->d + tile * kernel->d_pitch,
                                  kernel->d_point);
    }
}

/* What comes after filters [k, k + rows) of a column panel: where the next panel's sums go, and a share of the rows of
 * D and V at the next point that this thread is likely to take. */
CNN_WINO_INLINE void prefetch_product(const wino_run *run, int point, int32_t column, int k, int rows, int b,
                                      int blocks)
{
    const wino_wgrad *kernel = run->kernel;
    const int32_t panel = 2 * kernel->loops->lanes;
    const int ahead = point + 1 < kernel->products ? point + 1 : point;
    const bool last = column + panel >= kernel->c_pitch;
    const int next = last ? ahead : point;
    const int32_t next_column = last ? 0 : column + panel;
    const int depth = run->images * kernel->tiles.all;
    cnn_wino_prefetch(run->u + next * kernel->u_point + k * kernel->u_pitch + next_column, kernel->u_pitch, rows,
                      panel);
    const int tile = depth * b / blocks, tiles = depth * (b + 1) / blocks - tile;
    const int panels = (kernel->c_pitch + panel - 1) / panel, part = (kernel->k_pitch + panels - 1) / panels;
    cnn_wino_prefetch(run->v + ahead * kernel->v_point + tile * kernel->v_pitch + column, kernel->v_pitch, tiles,
                      panel);
    cnn_wino_prefetch(run->d + ahead * kernel->d_point + tile * kernel->d_pitch + column / panel * part,
                      kernel->d_pitch, tiles, part);
}

/* Task: U += D' V at one point. */
static void product_task(void *context, int point, int worker)
{
    const wino_run *run = context;
    const wino_wgrad *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    const int32_t filters = kernel->shape.k;
    const int depth = run->images * kernel->tiles.all, blocks = (filters + loops->tile_rows - 1) / loops->tile_rows;
    const float *v = run->v + point * kernel->v_point, *d = run->d + point * kernel->d_point;
    float *u = run->u + point * kernel->u_point;
    (void)worker;
    for (int32_t column = 0; column < kernel->c_pitch; column += 2 * loops->lanes) {
        const cnn_tile_fn *multiply = loops->tile_by_steps[kernel->c_pitch - column > loops->lanes];
        for (int b = 0; b < blocks; b++) {
            const int k = filters * b / blocks, rows = filters * (b + 1) / blocks - k;
            prefetch_product(run, point, column, k, rows, b, blocks);
            multiply[rows - 1](d + k, kernel->d_pitch, v + column, kernel->v_pitch, u + k * kernel->u_pitch + column,
                               kernel->u_pitch, depth, run->add);
        }
    }
}

/* Task: one filter from U to dw. */
static void filter_task(void *context, int k, int worker)
{
    const wino_run *run = context;
    const wino_wgrad *kernel = run->kernel;
    const int taps = kernel->form->taps * kernel->form->taps;
    const int32_t channels = kernel->shape.c;
    float *filter = scratch_of(run, worker); /* [taps x taps][c_pitch] */
    float *dw = (float *)run->args[CNN_ARG_DST] + (int64_t)k * taps * channels;
    kernel->form->filter_grad(run->u + k * kernel->u_pitch, kernel->u_point, kernel->c_pitch, filter, kernel->c_pitch);
    for (int tap = 0; tap < taps; tap++)
        memcpy(dw + (int64_t)tap * channels, filter + (ptrdiff_t)tap * kernel->c_pitch, (size_t)channels * sizeof *dw);
}

static cnn_status wino_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const wino_wgrad *kernel = (const wino_wgrad *)base;
    const cnn_host *host = kernel->cpu.device->host;
    char *memory = workspace;
    wino_run run = {.kernel = kernel, .args = args};
    run.u = (float *)(void *)memory;
    run.v = (float *)(void *)(memory + kernel->u_bytes);
    run.d = (float *)(void *)(memory + kernel->u_bytes + kernel->v_bytes);
    run.outside = memory + kernel->u_bytes + kernel->v_bytes + kernel->d_bytes;
    run.scratch = (char *)run.outside + kernel->outside_bytes;
    memset(run.outside, 0, kernel->outside_bytes);
    for (int chunk = 0; chunk < kernel->tiles.chunks; chunk++) {
        run.images = cnn_wino_chunk(&kernel->tiles, kernel->shape.n, chunk, &run.first);
        run.add = chunk > 0;
        host->parallel(run.images * kernel->tiles.down, transform_task, &run);
        host->parallel(kernel->products, product_task, &run);
    }
    cnn_cpu_parallel(host, kernel->shape.k, kernel->slots, filter_task, &run);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE)
        cnn_columns_bias_grad(&kernel->bias, workspace, args[CNN_ARG_SRC2], args[CNN_ARG_DST2]);
    return CNN_OK;
}

bool cnn_cpu_wgrad_winograd_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    return cnn_wino_choose(desc, cnn_cpu_loops_get(isa), why);
}

static void choose_memory(wino_wgrad *kernel)
{
    const size_t floats = sizeof(float), products = (size_t)kernel->products;
    const ptrdiff_t tiles = kernel->tiles.images * kernel->tiles.all;
    const size_t filter = (size_t)(kernel->form->taps * kernel->form->taps) * (size_t)kernel->c_pitch;
    const int32_t widest = kernel->c_pitch > kernel->k_pitch ? kernel->c_pitch : kernel->k_pitch;
    kernel->v_pitch = kernel->c_pitch + CNN_WINO_PITCH_EXTRA;
    kernel->d_pitch = kernel->k_pitch + CNN_WINO_PITCH_EXTRA;
    kernel->u_pitch = kernel->c_pitch + CNN_WINO_PITCH_EXTRA;
    kernel->v_point = cnn_wino_point(tiles * kernel->v_pitch);
    kernel->d_point = cnn_wino_point(tiles * kernel->d_pitch);
    kernel->u_point = cnn_wino_point(kernel->shape.k * kernel->u_pitch);
    kernel->v_bytes = cnn_cpu_aligned(products * (size_t)kernel->v_point * floats);
    kernel->d_bytes = cnn_cpu_aligned(products * (size_t)kernel->d_point * floats);
    kernel->u_bytes = cnn_cpu_aligned(products * (size_t)kernel->u_point * floats);
    kernel->outside_bytes = cnn_cpu_aligned((size_t)widest * floats);
    kernel->slot_bytes = cnn_cpu_aligned(filter * floats);
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes = kernel->u_bytes + kernel->v_bytes + kernel->d_bytes + kernel->outside_bytes +
                                       (size_t)kernel->slots * kernel->slot_bytes;
    kernel->bias = cnn_columns_plan_bias(&kernel->cpu);
}

cnn_status cnn_cpu_wgrad_winograd_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    wino_wgrad *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    char why[CNN_REASON_BYTES];
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->form = cnn_wino_choose(desc, kernel->loops, why);
    kernel->products = kernel->form->points * kernel->form->points;
    kernel->shape = cnn_conv_shape_of(desc);
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->c_pitch = cnn_wino_pad(kernel->loops, kernel->shape.c);
    kernel->k_pitch = cnn_wino_pad(kernel->loops, kernel->shape.k);
    kernel->tiles = cnn_wino_tiles_of(kernel->form, kernel->shape.n, kernel->shape.p, kernel->shape.q);
    kernel->cpu.base.run = wino_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_wgrad_winograd", kernel->dtype);
    choose_memory(kernel);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
