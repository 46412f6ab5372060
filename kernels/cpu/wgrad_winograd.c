/* Weight gradients of 5x5 convolutions at stride 1 by Winograd F(4x4, 5x5).
 *
 *   dw = G' [ sum over tiles (A dy A') * (B' x B) ] G      for every pair of channels
 *
 * For each chunk of images: transform tiles of x to V [64][tiles][C] and tiles of dy to D [64][tiles][K], then add
 * D' V to the sums U [64][K][C]. At the end each filter is transformed back. */
#include "kernels/cpu/columns.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/winograd.h"

#include <string.h>

typedef struct wino_wgrad {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype dtype;
    int32_t c_pitch, k_pitch; /* whole vectors */
    cnn_wino_tiles tiles;
    ptrdiff_t v_pitch, v_point, d_pitch, d_point, u_pitch, u_point;
    size_t v_bytes, d_bytes, u_bytes, slot_bytes;
    int slots;
    cnn_columns bias; /* for db */
} wino_wgrad;

typedef struct wino_run {
    const wino_wgrad *kernel;
    void *const *args;
    float *v, *d, *u;
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
    const int32_t image = task / tiles->down, row = task % tiles->down, outputs = tiles->across * CNN_WINO_OUTPUTS;
    const int32_t inputs = outputs + CNN_WINO_TAPS - 1, y = row * CNN_WINO_OUTPUTS;
    const int64_t tile = (int64_t)image * tiles->all + row * tiles->across;
    const ptrdiff_t c = kernel->c_pitch, k = kernel->k_pitch;
    const cnn_wino_source x = {kernel->loops, kernel->dtype, run->args[CNN_ARG_SRC], shape->h,
                               shape->w,      shape->c,      kernel->c_pitch};
    const cnn_wino_source dy = {kernel->loops, kernel->dtype, run->args[CNN_ARG_SRC2], shape->p,
                                shape->q,      shape->k,      kernel->k_pitch};
    float *band = scratch_of(run, worker);
    cnn_wino_stage(&x, run->first + image, y - shape->pad, CNN_WINO_POINTS, -shape->pad, inputs, band);
    for (int32_t i = 0; i < tiles->across; i++)
        kernel->loops->wino_input(band + i * CNN_WINO_OUTPUTS * c, inputs * c, c, kernel->c_pitch,
                                  run->v + (tile + i) * kernel->v_pitch, kernel->v_point);
    cnn_wino_stage(&dy, run->first + image, y, CNN_WINO_OUTPUTS, 0, outputs, band);
    for (int32_t i = 0; i < tiles->across; i++)
        kernel->loops->wino_output_grad(band + i * CNN_WINO_OUTPUTS * k, outputs * k, k, kernel->k_pitch,
                                        run->d + (tile + i) * kernel->d_pitch, kernel->d_point);
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
    const int taps = CNN_WINO_TAPS * CNN_WINO_TAPS;
    const int32_t channels = kernel->shape.c;
    float *filter = scratch_of(run, worker); /* [25][c_pitch] */
    float *dw = (float *)run->args[CNN_ARG_DST] + (int64_t)k * taps * channels;
    kernel->loops->wino_filter_grad(run->u + k * kernel->u_pitch, kernel->u_point, kernel->c_pitch, filter,
                                    kernel->c_pitch);
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
    run.scratch = memory + kernel->u_bytes + kernel->v_bytes + kernel->d_bytes;
    for (int chunk = 0; chunk < kernel->tiles.chunks; chunk++) {
        run.images = cnn_wino_chunk(&kernel->tiles, kernel->shape.n, chunk, &run.first);
        run.add = chunk > 0;
        cnn_cpu_parallel(host, run.images * kernel->tiles.down, kernel->slots, transform_task, &run);
        host->parallel(CNN_WINO_PRODUCTS, product_task, &run);
    }
    cnn_cpu_parallel(host, kernel->shape.k, kernel->slots, filter_task, &run);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE)
        cnn_columns_bias_grad(&kernel->bias, workspace, args[CNN_ARG_SRC2], args[CNN_ARG_DST2]);
    return CNN_OK;
}

bool cnn_cpu_wgrad_winograd_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    return cnn_wino_suits(desc, why);
}

static void choose_memory(wino_wgrad *kernel)
{
    const size_t floats = sizeof(float), products = CNN_WINO_PRODUCTS;
    const ptrdiff_t tiles = kernel->tiles.images * kernel->tiles.all;
    const size_t inputs = (size_t)(kernel->tiles.across * CNN_WINO_OUTPUTS + CNN_WINO_TAPS - 1);
    const size_t x_band = CNN_WINO_POINTS * inputs * (size_t)kernel->c_pitch;
    const size_t dy_band = CNN_WINO_OUTPUTS * inputs * (size_t)kernel->k_pitch;
    const size_t filter = (size_t)(CNN_WINO_TAPS * CNN_WINO_TAPS) * (size_t)kernel->c_pitch;
    size_t scratch = x_band > dy_band ? x_band : dy_band;
    scratch = filter > scratch ? filter : scratch;
    kernel->v_pitch = kernel->c_pitch + CNN_WINO_PITCH_EXTRA;
    kernel->d_pitch = kernel->k_pitch + CNN_WINO_PITCH_EXTRA;
    kernel->u_pitch = kernel->c_pitch + CNN_WINO_PITCH_EXTRA;
    kernel->v_point = tiles * kernel->v_pitch + CNN_WINO_POINT_EXTRA;
    kernel->d_point = tiles * kernel->d_pitch + CNN_WINO_POINT_EXTRA;
    kernel->u_point = kernel->shape.k * kernel->u_pitch + CNN_WINO_POINT_EXTRA;
    kernel->v_bytes = cnn_cpu_aligned(products * (size_t)kernel->v_point * floats);
    kernel->d_bytes = cnn_cpu_aligned(products * (size_t)kernel->d_point * floats);
    kernel->u_bytes = cnn_cpu_aligned(products * (size_t)kernel->u_point * floats);
    kernel->slot_bytes = cnn_cpu_aligned(scratch * floats);
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes =
        kernel->u_bytes + kernel->v_bytes + kernel->d_bytes + (size_t)kernel->slots * kernel->slot_bytes;
    if (kernel->bias.workspace_bytes > kernel->cpu.base.workspace_bytes)
        kernel->cpu.base.workspace_bytes = kernel->bias.workspace_bytes;
}

cnn_status cnn_cpu_wgrad_winograd_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    wino_wgrad *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->shape = cnn_conv_shape_of(desc);
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->c_pitch = cnn_wino_pad(kernel->loops, kernel->shape.c);
    kernel->k_pitch = cnn_wino_pad(kernel->loops, kernel->shape.k);
    kernel->tiles = cnn_wino_tiles_of(kernel->shape.n, kernel->shape.p, kernel->shape.q);
    kernel->bias = cnn_columns_plan(device, kernel->dtype, (int64_t)kernel->shape.n * kernel->shape.p * kernel->shape.q,
                                    kernel->shape.k);
    kernel->cpu.base.run = wino_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_wgrad_winograd", kernel->dtype);
    choose_memory(kernel);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
