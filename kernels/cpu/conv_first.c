/* Convolutions of stride 1 with few input channels in float: first layers.
 *
 * An im2col of so few channels is many times larger than the image. Here the image's lines are dealt into planes
 * (planes.h), where neighbouring pixels have neighbouring terms, so that a register tile of pixels x output channels
 * takes each of its terms straight from them:
 *
 *   sums[x][k] = sum over (r,s,c) of plane[y + r - pad][c][x + s] * weight[(r,s,c)][k]
 *
 * Filter rows outside the image are left out. A task is some lines of an image, all of them when the batch is large.
 * Weights are packed by every run: they are few. */
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"
#include "kernels/cpu/planes.h"

enum {
    MOST_PLANES = 16384,     /* floats of an image's planes */
    MOST_WEIGHTS = 16384,    /* floats */
    MOST_WEIGHTS_ROW = 1170, /* of each pixel of a tile, which shares reading them, where runs are not short either */
    LEAST_TASKS = 16
};

typedef struct first_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype weight_dtype;
    cnn_planes planes;
    int32_t width; /* output channels, in whole vectors */
    bool pools;
    int32_t rows; /* of outputs, pooled or not */
    int chunks;   /* tasks of an image */
    int slots;
    size_t weights_bytes, wide_bytes, offsets_bytes; /* of the workspace, then the slots */
    size_t planes_bytes, sums_bytes, line_bytes, pool_bytes, slot_bytes;
} first_kernel;

typedef struct first_run {
    const first_kernel *kernel;
    void *const *args;
    float *weights;  /* [R*S*C][width] */
    int32_t *offset; /* of a term in the planes */
    char *slots;     /* a slot: planes, sums of a tile's pixels, a line of the image, lines to pool */
} first_run;

/* ---- One line of outputs ---- */

/* The sums of `count` pixels, for which plane is where their first term lies. */
static void multiply(const first_run *run, const float *plane, const float *weights, int count, int32_t depth,
                     float *sums, ptrdiff_t pitch)
{
    const first_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    for (int32_t k = 0; k < kernel->shape.k; k += 2 * loops->lanes)
        loops->tile_by_pixels[kernel->shape.k - k > loops->lanes][count - 1](
            plane, run->offset, weights + k, kernel->width, sums + k, pitch, depth, false);
}

/* Output line y of image n. planes: from the image's line `first` on. line: where sums with their bias go that are to
 * be pooled, or NULL. */
static void compute_line(const first_run *run, int64_t n, int32_t y, int32_t first, const float *planes, float *sums,
                         float *line)
{
    const first_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t row = y - shape->pad, low = row < 0 ? -row : 0, terms = shape->s * shape->c;
    const int32_t high = shape->h - row < shape->r ? shape->h - row : shape->r;
    const int32_t depth = high > low ? (high - low) * terms : 0;
    const float *plane = planes + (row + low - first) * shape->c * kernel->planes.pitch;
    const float *weights = run->weights + (ptrdiff_t)low * terms * kernel->width;
    const int tiles = (shape->q + kernel->loops->tile_rows - 1) / kernel->loops->tile_rows;
    for (int t = 0; t < tiles; t++) {
        const int32_t x = shape->q * t / tiles, count = shape->q * (t + 1) / tiles - x;
        const int64_t pixel = (n * shape->p + y) * shape->q + x;
        if (depth > 0)
            multiply(run, plane + x, weights, count, depth, sums, kernel->width);
        else
            memset(sums, 0, kernel->sums_bytes);
        if (line)
            kernel->loops->store_rows(CNN_F32, sums, kernel->width, count, shape->k, run->args[CNN_ARG_BIAS], false,
                                      line + (ptrdiff_t)x * shape->k, shape->k);
        else
            cnn_epilogue_store_pixels(kernel->loops, &kernel->cpu.base.desc, run->args, sums, kernel->width, pixel,
                                      count, 0, shape->k);
    }
}

static void lines_task(void *context, int task, int worker)
{
    const first_run *run = context;
    const first_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int64_t n = task / kernel->chunks;
    const int32_t chunk = task % kernel->chunks;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    const int32_t rows = kernel->rows, height = kernel->pools ? desc->pool_kernel : 1;
    const int32_t step = kernel->pools ? desc->pool_stride : 1;
    const int32_t begin = rows * chunk / kernel->chunks, end = rows * (chunk + 1) / kernel->chunks;
    int32_t first = begin * step - shape->pad, last = (end - 1) * step + height - 1 - shape->pad + shape->r;
    first = first < 0 ? 0 : first;
    last = last > shape->h ? shape->h : last;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    float *planes = (float *)(void *)slot, *sums = (float *)(void *)(slot + kernel->planes_bytes);
    float *line = (float *)(void *)(slot + kernel->planes_bytes + kernel->sums_bytes);
    float *lines = (float *)(void *)(slot + kernel->planes_bytes + kernel->sums_bytes + kernel->line_bytes);
    const ptrdiff_t count = (ptrdiff_t)shape->q * shape->k;
    memset(planes, 0, kernel->planes_bytes);
    if (last > first)
        cnn_planes_fill(&kernel->planes, run->args[CNN_ARG_SRC], n, first, last - first, planes, line);
    for (int32_t y = begin; y < end; y++) {
        for (int32_t r = 0; r < height; r++)
            compute_line(run, n, y * step + r, first, planes, sums, kernel->pools ? lines + r * count : NULL);
        if (kernel->pools)
            cnn_epilogue_store_pooled(kernel->loops, desc, run->args, lines, count, n * rows + y);
    }
}

/* ---- The kernel ---- */

/* packed[(r,s,c)][k] of w [K,R,S,C], and 0 beyond the last channel. */
static void pack_weights(const first_kernel *kernel, const float *w, float *packed)
{
    const int32_t depth = kernel->shape.r * kernel->shape.s * kernel->shape.c;
    for (int32_t i = 0; i < depth; i++, packed += kernel->width) {
        for (int32_t k = 0; k < kernel->shape.k; k++)
            packed[k] = w[(ptrdiff_t)k * depth + i];
        for (int32_t k = kernel->shape.k; k < kernel->width; k++)
            packed[k] = 0.0f;
    }
}

static cnn_status first_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const first_kernel *kernel = (const first_kernel *)base;
    char *memory = workspace;
    first_run run = {.kernel = kernel, .args = args, .weights = (float *)(void *)memory};
    const float *w = args[CNN_ARG_WEIGHT];
    memory += kernel->weights_bytes;
    if (kernel->weight_dtype != CNN_F32) {
        kernel->loops->to_f32(kernel->weight_dtype, args[CNN_ARG_WEIGHT], (float *)(void *)memory,
                              cnn_desc_elements(&base->desc.arg[CNN_ARG_WEIGHT]));
        w = (const float *)(void *)memory;
    }
    memory += kernel->wide_bytes;
    run.offset = (int32_t *)(void *)memory;
    run.slots = memory + kernel->offsets_bytes;
    pack_weights(kernel, w, run.weights);
    cnn_planes_offsets(&kernel->planes, kernel->shape.r, kernel->shape.s, run.offset);
    cnn_cpu_parallel(kernel->cpu.device->host, (int)kernel->shape.n * kernel->chunks, kernel->slots, lines_task, &run);
    return CNN_OK;
}

static void choose_sizes(first_kernel *kernel, const cnn_op_desc *desc, const cnn_cpu_loops *loops)
{
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    kernel->loops = loops;
    kernel->shape = shape;
    kernel->planes = (cnn_planes){.loops = loops,
                                  .dtype = desc->arg[CNN_ARG_SRC].dtype,
                                  .h = shape.h,
                                  .w = shape.w,
                                  .c = shape.c,
                                  .pad = shape.pad,
                                  .pitch = shape.w + 2 * shape.pad};
    kernel->width = (shape.k + loops->lanes - 1) / loops->lanes * loops->lanes;
    kernel->chunks = (int)(shape.n >= LEAST_TASKS ? 1 : (LEAST_TASKS + shape.n - 1) / shape.n);
    kernel->pools = desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE;
    kernel->rows = desc->arg[CNN_ARG_DST].h;
    kernel->chunks = kernel->chunks > kernel->rows ? kernel->rows : kernel->chunks;
}

bool cnn_cpu_conv_first_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    if (!cnn_conv_goes_by_lines(desc, why))
        return false;
    cnn_op_desc plain;
    if (cnn_epilogue_unpool(desc, &plain) && !cnn_epilogue_pool_suits(desc, why))
        return false;
    if (!cnn_epilogue_suits(&plain, why))
        return false;
    first_kernel sizes;
    choose_sizes(&sizes, desc, cnn_cpu_loops_get(isa));
    const cnn_conv_shape *shape = &sizes.shape;
    if (sizes.pools && sizes.width != shape->k)
        return cnn_refuse(why, "it pools whole vectors of channels");
    const int64_t weights = (int64_t)shape->r * shape->s * shape->c * sizes.width;
    if (shape->c >= CNN_FEW_CHANNELS || (int64_t)shape->h * shape->c * sizes.planes.pitch > MOST_PLANES ||
        weights > MOST_WEIGHTS ||
        (shape->c >= CNN_GATHER_SHORT && weights > (int64_t)MOST_WEIGHTS_ROW * sizes.loops->tile_rows))
        return cnn_refuse(why, "more input channels, larger images or more weights than stay in cache");
    return true;
}

static void choose_memory(first_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const size_t floats = sizeof(float), depth = (size_t)shape->r * (size_t)shape->s * (size_t)shape->c;
    kernel->weights_bytes = cnn_cpu_aligned(depth * (size_t)kernel->width * floats);
    kernel->wide_bytes = kernel->weight_dtype == CNN_F32 ? 0 : cnn_cpu_aligned(depth * (size_t)shape->k * floats);
    kernel->offsets_bytes = cnn_cpu_aligned(depth * sizeof(int32_t));
    kernel->planes_bytes = cnn_cpu_aligned((size_t)shape->h * (size_t)shape->c * (size_t)kernel->planes.pitch * floats);
    kernel->sums_bytes = cnn_cpu_aligned((size_t)kernel->loops->tile_rows * (size_t)kernel->width * floats);
    kernel->line_bytes = cnn_cpu_aligned(((size_t)shape->w * (size_t)shape->c + CNN_PLANES_SLACK) * floats);
    kernel->pool_bytes =
        kernel->pools ? cnn_epilogue_pool_bytes(&kernel->cpu.base.desc, (int64_t)shape->q * shape->k) : 0;
    kernel->slot_bytes = kernel->planes_bytes + kernel->sums_bytes + kernel->line_bytes + kernel->pool_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes =
        kernel->weights_bytes + kernel->wide_bytes + kernel->offsets_bytes + (size_t)kernel->slots * kernel->slot_bytes;
}

cnn_status cnn_cpu_conv_first_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    first_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    choose_sizes(kernel, desc, cnn_cpu_loops_get(device->isa));
    kernel->weight_dtype = desc->arg[CNN_ARG_WEIGHT].dtype;
    choose_memory(kernel);
    kernel->cpu.base.run = first_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_first", kernel->planes.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
