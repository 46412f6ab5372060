/* Weight gradients of convolutions with few input channels whose filter lines fill vectors, in float.
 *
 *   dw[k][r][(s,c)] = sum over pixels (n,p,q) of dy[n,p,q][k] * x[n, p*stride+r-pad, q*stride+s-pad][c]
 *
 * In NHWC the terms (s,c) of one filter line stand beside each other in a line of x, so that vectors run along them and
 * nothing is interleaved. For some rows of an image the lines of x under them are copied as f32 with the padding
 * around; each register tile, some output channels by one or two vectors of terms, then sums over all their pixels.
 *
 * Rows are divided into slices that follow from the shape; their sums are added in order. */
#include "kernels/cpu/columns.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"

enum {
    MOST_PIECE = 8192, /* floats of x or dy that are summed at a time: they stay in the nearest cache */
    MOST_SUMS = 32768, /* floats */
    MOST_SLICES = 16,
    LEAST_SLICE = 256, /* pixels */
    SLACK = 32         /* two vectors: what is read beyond a piece */
};

typedef struct lines_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype dtype;
    int32_t line;  /* floats of a padded line of x */
    int32_t terms; /* S*C */
    int32_t width; /* the floats of whole vectors that hold them */
    int32_t pitch; /* floats between channels' sums: R*width */
    int32_t rows;  /* of output pixels in a piece */
    int slices, slots;
    size_t sums_bytes, offsets_bytes;       /* of the workspace, then the slots */
    size_t x_bytes, wide_bytes, slot_bytes; /* a slot: x, then dy as f32 or a line of x */
    cnn_columns bias;                       /* for db */
} lines_kernel;

typedef struct lines_run {
    const lines_kernel *kernel;
    void *const *args;
    char *sums;      /* [slices] of [k][r][width] */
    int32_t *offset; /* of a piece's pixels in its lines of x */
    char *slots;
} lines_run;

/* ---- One piece: some rows of output pixels of an image ---- */

/* The lines of x under rows [p, p + rows) of image n. Their left and right padding is 0 already. */
static void copy_lines(const lines_run *run, int64_t n, int32_t p, int32_t rows, float *x)
{
    const lines_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int64_t count = (int64_t)shape->w * shape->c;
    const int32_t first = p * shape->stride - shape->pad, lines = (rows - 1) * shape->stride + shape->r;
    for (int32_t h = first; h < first + lines; h++, x += kernel->line) {
        float *to = x + shape->pad * shape->c;
        const int64_t from = (n * shape->h + h) * count;
        if (h < 0 || h >= shape->h)
            memset(to, 0, (size_t)count * sizeof *to);
        else
            kernel->loops->to_f32(kernel->dtype,
                                  (const char *)run->args[CNN_ARG_SRC] + (size_t)from * cnn_dtype_bytes(kernel->dtype),
                                  to, count);
    }
}

/* dy of `pixels` pixels from `first` on, in place or as f32. */
static const float *read_dy(const lines_run *run, int64_t first, int32_t pixels, float *wide)
{
    const lines_kernel *kernel = run->kernel;
    const int64_t from = first * kernel->shape.k;
    if (kernel->dtype == CNN_F32)
        return (const float *)run->args[CNN_ARG_SRC2] + from;
    kernel->loops->to_f32(kernel->dtype, (const uint16_t *)run->args[CNN_ARG_SRC2] + from, wide,
                          (int64_t)pixels * kernel->shape.k);
    return wide;
}

/* sums[k][r][(s,c)] += the products of `pixels` pixels. */
static void multiply(const lines_run *run, const float *dy, const float *x, int32_t pixels, float *sums)
{
    const lines_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    const int32_t k = kernel->shape.k;
    const int tiles = (k + loops->tile_rows - 1) / loops->tile_rows;
    for (int32_t r = 0; r < kernel->shape.r; r++)
        for (int32_t j = 0; j < kernel->width; j += 2 * loops->lanes) {
            const cnn_taps_fn *tile = loops->tile_by_taps[kernel->width - j > loops->lanes];
            for (int t = 0; t < tiles; t++) {
                const int first = k * t / tiles, count = k * (t + 1) / tiles - first;
                tile[count - 1](dy + first, k, x + r * kernel->line + j, run->offset,
                                sums + first * kernel->pitch + r * kernel->width + j, kernel->pitch, pixels, true);
            }
        }
}

static void slice_task(void *context, int task, int worker)
{
    const lines_run *run = context;
    const lines_kernel *kernel = run->kernel;
    const int32_t p_count = kernel->shape.p, q = kernel->shape.q;
    const int64_t all = (int64_t)kernel->shape.n * p_count, last = all * (task + 1) / kernel->slices;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    float *x = (float *)(void *)slot, *wide = (float *)(void *)(slot + kernel->x_bytes);
    float *sums = (float *)(void *)(run->sums + (size_t)task * kernel->sums_bytes);
    memset(sums, 0, kernel->sums_bytes);
    memset(x, 0, kernel->x_bytes);
    for (int64_t row = all * task / kernel->slices; row < last;) {
        const int32_t p = (int32_t)(row % p_count), rest = p_count - p;
        int32_t rows = rest < kernel->rows ? rest : kernel->rows;
        rows = last - row < rows ? (int32_t)(last - row) : rows;
        copy_lines(run, row / p_count, p, rows, x);
        multiply(run, read_dy(run, row * q, rows * q, wide), x, rows * q, sums);
        row += rows;
    }
}

/* ---- The kernel ---- */

/* dw[k][r][(s,c)] = the sums of all slices. */
static void combine(const lines_run *run, float *dw)
{
    const lines_kernel *kernel = run->kernel;
    float *sums = (float *)(void *)run->sums;
    for (int slice = 1; slice < kernel->slices; slice++)
        kernel->loops->add(sums, (const float *)(void *)(run->sums + (size_t)slice * kernel->sums_bytes), sums,
                           (int64_t)kernel->shape.k * kernel->pitch);
    for (int32_t i = 0; i < kernel->shape.k * kernel->shape.r; i++)
        memcpy(dw + (ptrdiff_t)i * kernel->terms, sums + (ptrdiff_t)i * kernel->width,
               (size_t)kernel->terms * sizeof *dw);
}

static cnn_status lines_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const lines_kernel *kernel = (const lines_kernel *)base;
    const cnn_conv_shape *shape = &kernel->shape;
    char *offsets = (char *)workspace + (size_t)kernel->slices * kernel->sums_bytes;
    lines_run run = {kernel, args, workspace, (int32_t *)(void *)offsets, offsets + kernel->offsets_bytes};
    int32_t *offset = run.offset;
    for (int32_t p = 0; p < kernel->rows; p++)
        for (int32_t q = 0; q < shape->q; q++)
            *offset++ = (p * kernel->line + q * shape->c) * shape->stride;
    cnn_cpu_parallel(kernel->cpu.device->host, kernel->slices, kernel->slots, slice_task, &run);
    combine(&run, args[CNN_ARG_DST]);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE)
        cnn_columns_bias_grad(&kernel->bias, workspace, args[CNN_ARG_SRC2], args[CNN_ARG_DST2]);
    return CNN_OK;
}

/* Floats of the lines of x under `rows` rows. */
static int64_t piece_floats(const cnn_conv_shape *shape, int64_t rows)
{
    return ((rows - 1) * shape->stride + shape->r) * ((int64_t)shape->w + 2 * shape->pad) * shape->c;
}

bool cnn_cpu_wgrad_lines_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype))
        return cnn_refuse(why, "src must be float");
    if (!cnn_unpadded(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    const int32_t lanes = cnn_cpu_loops_get(isa)->lanes;
    const int64_t terms = (int64_t)shape.s * shape.c, width = cnn_cpu_vectors(terms, lanes) * lanes;
    if (shape.c >= CNN_FEW_CHANNELS || piece_floats(&shape, 1) > MOST_PIECE ||
        (int64_t)shape.q * shape.k > MOST_PIECE || shape.k * shape.r * width > MOST_SUMS)
        return cnn_refuse(why, "more channels, longer rows or more weights than stay in cache");
    const int64_t along_taps = shape.k * cnn_cpu_vectors(terms * shape.r, lanes);
    const int64_t along_channels = terms * shape.r * cnn_cpu_vectors(shape.k, lanes);
    const int64_t other = along_taps < along_channels ? along_taps : along_channels;
    if (10 * shape.k * shape.r * (width / lanes) > 11 * other) /* a tenth is what sums of whole pieces gain */
        return cnn_refuse(why, "vectors of a filter's line would be emptier than others");
    return true;
}

static void choose_sizes(lines_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t lanes = kernel->loops->lanes;
    kernel->line = (shape->w + 2 * shape->pad) * shape->c;
    kernel->terms = shape->s * shape->c;
    kernel->width = (int32_t)cnn_cpu_vectors(kernel->terms, lanes) * lanes;
    kernel->pitch = shape->r * kernel->width;
    kernel->rows = 1;
    while (kernel->rows < shape->p && piece_floats(shape, kernel->rows + 1) <= MOST_PIECE &&
           (kernel->rows + 1) * (int64_t)shape->q * shape->k <= MOST_PIECE)
        kernel->rows++;
    const int64_t rows = (int64_t)shape->n * shape->p, wanted = rows * shape->q / LEAST_SLICE;
    const int64_t slices = wanted < rows ? wanted : rows;
    kernel->slices = slices < 1 ? 1 : slices > MOST_SLICES ? MOST_SLICES : (int)slices;
    kernel->slots = kernel->cpu.device->host->threads();
}

static void choose_memory(lines_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const size_t floats = sizeof(float), pixels = (size_t)kernel->rows * (size_t)shape->q;
    kernel->sums_bytes = cnn_cpu_aligned((size_t)shape->k * (size_t)kernel->pitch * floats);
    kernel->offsets_bytes = cnn_cpu_aligned(pixels * sizeof(int32_t));
    kernel->x_bytes = cnn_cpu_aligned(((size_t)piece_floats(shape, kernel->rows) + SLACK) * floats);
    kernel->wide_bytes = kernel->dtype == CNN_F32 ? 0 : cnn_cpu_aligned(pixels * (size_t)shape->k * floats);
    kernel->slot_bytes = kernel->x_bytes + kernel->wide_bytes;
    kernel->cpu.base.workspace_bytes = (size_t)kernel->slices * kernel->sums_bytes + kernel->offsets_bytes +
                                       (size_t)kernel->slots * kernel->slot_bytes;
    kernel->bias = cnn_columns_plan_bias(&kernel->cpu);
}

cnn_status cnn_cpu_wgrad_lines_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    lines_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->shape = cnn_conv_shape_of(desc);
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    choose_sizes(kernel);
    choose_memory(kernel);
    kernel->cpu.base.run = lines_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_wgrad_lines", kernel->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
