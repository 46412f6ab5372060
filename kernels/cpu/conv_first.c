/* Convolutions of stride 1 with few input channels in float: first layers.
 *
 * An im2col of so few channels is many times larger than the image. In NHWC the terms of one filter row stand beside
 * each other in a line of the image, so that a register tile of pixels x output channels takes them straight from
 * there:
 *
 *   sums[x][k] = sum over r and (s,c) of line[y + r - pad][(x - pad)*C + (s,c)] * weight[(r,s,c)][k]
 *
 * Lines are copied where they have no zeros around them or are not f32. Filter rows outside the image are left out. Two
 * lines that are pooled by 2x2 are summed and pooled together where all filter rows are inside (loops_pool_lines.h). A
 * task is some lines of an image, all of them when the batch is large. Weights are packed by every run: they are few.
 */
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"
#include "kernels/cpu/shape.h"

#include <string.h>

enum {
    MOST_IMAGE = 16384,      /* floats of an image */
    MOST_WEIGHTS = 16384,    /* floats */
    MOST_WEIGHTS_ROW = 1170, /* of each pixel of a tile, which shares reading them, where runs are not short either */
    LEAST_TASKS = 16
};

typedef struct first_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype dtype, weight_dtype;
    ptrdiff_t pitch; /* floats between lines, with zeros left and right */
    bool in_place;   /* lines are read from SRC */
    int32_t width;   /* output channels, in whole vectors */
    bool pools;
    bool pools_in_tiles; /* where all rows of the filter meet the image */
    int32_t rows;        /* of outputs, pooled or not */
    int chunks;          /* tasks of an image */
    int slots;
    size_t weights_bytes, wide_bytes; /* of the workspace, then the slots */
    size_t image_bytes, sums_bytes, pool_bytes, slot_bytes;
} first_kernel;

typedef struct first_run {
    const first_kernel *kernel;
    void *const *args;
    float *weights; /* [R*S*C][width] */
    char *slots;    /* a slot: lines of the image, sums of a tile's pixels, lines to pool */
} first_run;

/* ---- One line of outputs ---- */

/* The sums of `count` pixels over `rows` filter rows, for which `from` is where their first term lies. No more than
 * CNN_TILE_PIECE products are summed in a row. */
static void multiply(const first_run *run, const float *from, const float *weights, int count, int32_t rows,
                     float *sums)
{
    const first_kernel *kernel = run->kernel;
    const int32_t terms = kernel->shape.s * kernel->shape.c;
    const int32_t group = terms < CNN_TILE_PIECE ? CNN_TILE_PIECE / terms : 1;
    const int32_t steps = terms < CNN_TILE_PIECE ? terms : CNN_TILE_PIECE;
    for (int32_t k = 0; k < kernel->shape.k; k += 2 * kernel->loops->lanes) {
        const cnn_lines_fn tile = kernel->loops->tile_by_lines[kernel->shape.k - k > kernel->loops->lanes][count - 1];
        for (int32_t r = 0; r < rows; r += group)
            for (int32_t t = 0; t < terms; t += steps)
                tile(from + r * kernel->pitch + t, kernel->shape.c, kernel->pitch, rows - r < group ? rows - r : group,
                     terms - t < steps ? terms - t : steps, weights + (ptrdiff_t)(r * terms + t) * kernel->width + k,
                     kernel->width, sums + k, kernel->width, r > 0 || t > 0);
    }
}

/* Output line y of image n. lines: from the image's line `first` on. pooled: where sums with their bias go that are to
 * be pooled, or NULL. */
static void compute_line(const first_run *run, int64_t n, int32_t y, int32_t first, const float *lines, float *sums,
                         float *pooled)
{
    const first_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t row = y - shape->pad, low = row < 0 ? -row : 0;
    const int32_t high = shape->h - row < shape->r ? shape->h - row : shape->r;
    const float *from = lines + (row + low - first) * kernel->pitch;
    const float *weights = run->weights + (ptrdiff_t)low * shape->s * shape->c * kernel->width;
    const int tiles = (shape->q + kernel->loops->tile_rows - 1) / kernel->loops->tile_rows;
    for (int t = 0; t < tiles; t++) {
        const int32_t x = shape->q * t / tiles, count = shape->q * (t + 1) / tiles - x;
        const int64_t pixel = (n * shape->p + y) * shape->q + x;
        if (high > low)
            multiply(run, from + (ptrdiff_t)x * shape->c, weights, count, high - low, sums);
        else
            memset(sums, 0, kernel->sums_bytes);
        if (pooled)
            kernel->loops->store_rows(CNN_F32, sums, kernel->width, count, shape->k, run->args[CNN_ARG_BIAS], false,
                                      pooled + (ptrdiff_t)x * shape->k, shape->k);
        else
            cnn_epilogue_store_pixels(kernel->loops, &kernel->cpu.base.desc, run->args, sums, kernel->width, pixel,
                                      count, 0, shape->k);
    }
}

/* A line of pooled outputs by tiles that pool. from: where the first term of its upper line lies. scratch: room for the
 * line. */
static void compute_pooled_line(const first_run *run, const float *from, int64_t line, float *scratch)
{
    const first_kernel *kernel = run->kernel;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const int32_t channels = kernel->shape.k, most = kernel->loops->tile_rows / 2, tiles = (dst->w + most - 1) / most;
    const int64_t count = (int64_t)dst->w * channels;
    const float *bias = cnn_op_has_epilogue(desc, CNN_EPILOGUE_BIAS) ? run->args[CNN_ARG_BIAS] : NULL;
    float *y = dst->dtype == CNN_F32 ? (float *)run->args[CNN_ARG_DST] + line * count : scratch;
    uint8_t *index = (uint8_t *)run->args[CNN_ARG_INDEX] + line * count;
    cnn_pool_lines job = {.pixel = kernel->shape.c,
                          .line = kernel->pitch,
                          .rows = kernel->shape.r,
                          .terms = kernel->shape.s * kernel->shape.c,
                          .width = kernel->width,
                          .relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU),
                          .pitch = channels};
    for (int32_t t = 0; t < tiles; t++) {
        const int32_t x = dst->w * t / tiles, windows = dst->w * (t + 1) / tiles - x;
        job.x = from + (ptrdiff_t)2 * x * job.pixel;
        for (int32_t k = 0; k < channels; k += kernel->loops->lanes) {
            job.weights = run->weights + k;
            job.bias = bias ? bias + k : NULL;
            job.y = y + (ptrdiff_t)x * channels + k;
            job.index = index + (ptrdiff_t)x * channels + k;
            kernel->loops->pool_lines[windows - 1](&job);
        }
    }
    if (y == scratch)
        kernel->loops->from_f32(dst->dtype, scratch, (uint16_t *)run->args[CNN_ARG_DST] + line * count, count);
}

/* Lines [first, last) of image n as f32, with their zeros: in place, or copied. */
static const float *read_lines(const first_run *run, int64_t n, int32_t first, int32_t last, float *copy)
{
    const first_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int64_t count = (int64_t)shape->w * shape->c;
    const char *src = run->args[CNN_ARG_SRC];
    src += (size_t)((n * shape->h + first) * count) * cnn_dtype_bytes(kernel->dtype);
    if (kernel->in_place)
        return (const float *)(const void *)src;
    if (shape->pad > 0)
        memset(copy, 0, kernel->image_bytes);
    for (int32_t h = first; h < last; h++, src += (size_t)count * cnn_dtype_bytes(kernel->dtype))
        kernel->loops->to_f32(kernel->dtype, src, copy + (h - first) * kernel->pitch + shape->pad * shape->c, count);
    return copy;
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
    float *copy = (float *)(void *)slot, *sums = (float *)(void *)(slot + kernel->image_bytes);
    float *pooled = (float *)(void *)(slot + kernel->image_bytes + kernel->sums_bytes);
    const float *lines = read_lines(run, n, first, last, copy);
    const ptrdiff_t count = (ptrdiff_t)shape->q * shape->k;
    for (int32_t y = begin; y < end; y++) {
        const int32_t row = y * step - shape->pad; /* that filter row 0 of the upper line meets */
        if (kernel->pools_in_tiles && row >= 0 && row + 1 + shape->r <= shape->h) {
            compute_pooled_line(run, lines + (row - first) * kernel->pitch, n * rows + y, pooled);
            continue;
        }
        for (int32_t r = 0; r < height; r++)
            compute_line(run, n, y * step + r, first, lines, sums, kernel->pools ? pooled + r * count : NULL);
        if (kernel->pools)
            cnn_epilogue_store_pooled(kernel->loops, desc, run->args, pooled, count, n * rows + y);
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
    run.slots = memory + kernel->wide_bytes;
    pack_weights(kernel, w, run.weights);
    cnn_cpu_parallel(kernel->cpu.device->host, (int)kernel->shape.n * kernel->chunks, kernel->slots, lines_task, &run);
    return CNN_OK;
}

static void choose_sizes(first_kernel *kernel, const cnn_op_desc *desc, const cnn_cpu_loops *loops)
{
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    kernel->loops = loops;
    kernel->shape = shape;
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->pitch = (ptrdiff_t)(shape.w + 2 * shape.pad) * shape.c;
    kernel->in_place = kernel->dtype == CNN_F32 && shape.pad == 0;
    kernel->width = (shape.k + loops->lanes - 1) / loops->lanes * loops->lanes;
    kernel->chunks = (int)(shape.n >= LEAST_TASKS ? 1 : (LEAST_TASKS + shape.n - 1) / shape.n);
    kernel->pools = desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE;
    kernel->pools_in_tiles =
        kernel->pools && desc->pool_kernel == 2 && desc->pool_stride == 2 && shape.s * shape.c <= CNN_TILE_PIECE;
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
    if (shape->c >= CNN_FEW_CHANNELS || shape->h * sizes.pitch > MOST_IMAGE || weights > MOST_WEIGHTS ||
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
    kernel->image_bytes = kernel->in_place ? 0 : cnn_cpu_aligned((size_t)shape->h * (size_t)kernel->pitch * floats);
    kernel->sums_bytes = cnn_cpu_aligned((size_t)kernel->loops->tile_rows * (size_t)kernel->width * floats);
    kernel->pool_bytes =
        kernel->pools ? cnn_epilogue_pool_bytes(&kernel->cpu.base.desc, (int64_t)shape->q * shape->k) : 0;
    kernel->slot_bytes = kernel->image_bytes + kernel->sums_bytes + kernel->pool_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes =
        kernel->weights_bytes + kernel->wide_bytes + (size_t)kernel->slots * kernel->slot_bytes;
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
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_first", kernel->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
