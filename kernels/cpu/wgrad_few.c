/* Weight gradients of convolutions with few input channels in float.
 *
 *   dw[k][(r,s,c)] = sum over pixels (n,p,q) of dy[n,p,q][k] * x[n, p*stride+r-pad, q*stride+s-pad][c]
 *
 * For a row (n,p) of output pixels the R lines of x under it are interleaved into a band [column][r][c], with zeros
 * outside the image. The taps (s,r,c) of pixel q are then contiguous, from column q*stride on, so that the row is a
 * matrix product over its pixels straight from the band and from dy. The next row's band is the same memory, some lines
 * on, so that only lines that are new to it are written. Whichever wastes fewer lanes runs along vectors:
 *
 *   output channels   sums [tap][k], taps broadcast
 *   taps              sums [k][tap], dy broadcast
 *
 * Rows are divided into slices that follow from the shape; their sums are added in order. */
#include "kernels/cpu/columns.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"

enum {
    MOST_BAND = 8192,  /* floats of a band: it stays in the nearest cache */
    MOST_SUMS = 32768, /* floats */
    MOST_SLICES = 16,
    LEAST_SLICE = 1024, /* pixels */
    SLACK = 32          /* two vectors: what is read and written beyond rows */
};

typedef struct few_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype dtype;
    bool taps_along; /* vectors run along taps */
    bool dy_in_place;
    int32_t columns, taps; /* of the band; R*S*C */
    int32_t rows, width;   /* of the sums: broadcast, along vectors */
    int32_t pitch;         /* floats between rows of sums */
    int slices, slots;
    size_t sums_bytes, band_bytes, line_bytes, slot_bytes;
    cnn_columns bias; /* for db */
} few_kernel;

typedef struct few_run {
    const few_kernel *kernel;
    void *const *args;
    char *sums;  /* [slices] */
    char *slots; /* a slot: band, then a line of x or dy as f32 */
} few_run;

/* ---- One row of output pixels ---- */

/* Line h of image n becomes lines `to`, to + R*C, ... of a band: a column after the other, 0 outside the image. */
static void fill_line(const few_run *run, int64_t n, int32_t h, float *to, float *line)
{
    const few_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t c = shape->c, step = shape->r * c;
    const int32_t right = shape->pad + shape->w < kernel->columns ? shape->pad + shape->w : kernel->columns;
    const bool inside = h >= 0 && h < shape->h;
    const int32_t left = inside ? shape->pad < right ? shape->pad : right : kernel->columns;
    for (int32_t column = 0; column < left; column++, to += step)
        for (int32_t i = 0; i < c; i++)
            to[i] = 0.0f;
    if (!inside)
        return;
    const int64_t first = (n * shape->h + h) * (int64_t)shape->w * c;
    const float *from = (const float *)run->args[CNN_ARG_SRC] + first;
    if (kernel->dtype != CNN_F32) {
        kernel->loops->to_f32(kernel->dtype, (const uint16_t *)run->args[CNN_ARG_SRC] + first, line,
                              (int64_t)shape->w * c);
        from = line;
    }
    if (c == 1)
        for (int32_t column = left; column < right; column++, to += step)
            *to = *from++;
    else
        for (int32_t column = left; column < right; column++, to += step, from += c)
            cnn_gather_copy(to, from, (size_t)c);
    for (int32_t column = right > left ? right : left; column < kernel->columns; column++, to += step)
        for (int32_t i = 0; i < c; i++)
            to[i] = 0.0f;
}

/* The band of row (n,p), where `band` is that of row (n,0). It begins stride lines behind that of the row before, whose
 * lines it shares: what one line writes was the column to the right of lines that no row needs any more. `fresh`: there
 * is no such row. */
static float *fill_band(const few_run *run, int64_t n, int32_t p, bool fresh, float *band, float *line)
{
    const few_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    float *begin = band + (ptrdiff_t)p * shape->stride * shape->c;
    const int32_t shared = fresh || shape->stride > shape->r ? 0 : shape->r - shape->stride;
    for (int32_t r = shared; r < shape->r; r++)
        fill_line(run, n, p * shape->stride + r - shape->pad, begin + r * shape->c, line);
    return begin;
}

/* dy of row (n,p), in place or as f32 with room behind it. */
static const float *read_dy(const few_run *run, int64_t row, float *line)
{
    const few_kernel *kernel = run->kernel;
    const int64_t count = (int64_t)kernel->shape.q * kernel->shape.k;
    if (kernel->dy_in_place)
        return (const float *)run->args[CNN_ARG_SRC2] + row * count;
    kernel->loops->to_f32(
        kernel->dtype, (const char *)run->args[CNN_ARG_SRC2] + (size_t)(row * count) * cnn_dtype_bytes(kernel->dtype),
        line, count);
    return line;
}

/* sums[rows][width] += a^T b over the pixels of a row. */
static void multiply(const few_kernel *kernel, const float *dy, const float *band, float *sums)
{
    const cnn_cpu_loops *loops = kernel->loops;
    const ptrdiff_t band_step = (ptrdiff_t)kernel->shape.stride * kernel->shape.r * kernel->shape.c;
    const float *a = kernel->taps_along ? dy : band, *b = kernel->taps_along ? band : dy;
    const ptrdiff_t a_step = kernel->taps_along ? kernel->shape.k : band_step;
    const ptrdiff_t b_step = kernel->taps_along ? band_step : kernel->shape.k;
    const int tiles = (kernel->rows + loops->tile_rows - 1) / loops->tile_rows;
    for (int32_t j = 0; j < kernel->width; j += 2 * loops->lanes) {
        const cnn_tile_fn *tile = loops->tile_by_steps[kernel->width - j > loops->lanes];
        for (int t = 0; t < tiles; t++) {
            int first = kernel->rows * t / tiles, count = kernel->rows * (t + 1) / tiles - first;
            tile[count - 1](a + first, a_step, b + j, b_step, sums + first * kernel->pitch + j, kernel->pitch,
                            kernel->shape.q, true);
        }
    }
}

static void slice_task(void *context, int task, int worker)
{
    const few_run *run = context;
    const few_kernel *kernel = run->kernel;
    const int64_t rows = (int64_t)kernel->shape.n * kernel->shape.p, last = rows * (task + 1) / kernel->slices;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    float *band = (float *)(void *)slot, *line = (float *)(void *)(slot + kernel->band_bytes);
    float *sums = (float *)(void *)(run->sums + (size_t)task * kernel->sums_bytes);
    memset(sums, 0, kernel->sums_bytes);
    memset(band, 0, kernel->band_bytes);
    const int64_t first = rows * task / kernel->slices;
    for (int64_t row = first; row < last; row++) {
        const int32_t p = (int32_t)(row % kernel->shape.p);
        const float *taps = fill_band(run, row / kernel->shape.p, p, p == 0 || row == first, band, line);
        multiply(kernel, read_dy(run, row, line), taps, sums);
    }
}

/* ---- The kernel ---- */

/* dw[k][(r,s,c)] = the sums of all slices. */
static void combine(const few_run *run, float *dw)
{
    const few_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    float *sums = (float *)(void *)run->sums;
    for (int slice = 1; slice < kernel->slices; slice++)
        kernel->loops->add(sums, (const float *)(void *)(run->sums + (size_t)slice * kernel->sums_bytes), sums,
                           kernel->rows * kernel->pitch);
    const ptrdiff_t k_step = kernel->taps_along ? kernel->pitch : 1, tap_step = kernel->taps_along ? 1 : kernel->pitch;
    for (int32_t k = 0; k < shape->k; k++)
        for (int32_t r = 0; r < shape->r; r++)
            for (int32_t s = 0; s < shape->s; s++)
                for (int32_t c = 0; c < shape->c; c++)
                    *dw++ = sums[k * k_step + ((s * shape->r + r) * shape->c + c) * tap_step];
}

static cnn_status few_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const few_kernel *kernel = (const few_kernel *)base;
    few_run run = {kernel, args, workspace, (char *)workspace + (size_t)kernel->slices * kernel->sums_bytes};
    cnn_cpu_parallel(kernel->cpu.device->host, kernel->slices, kernel->slots, slice_task, &run);
    combine(&run, args[CNN_ARG_DST]);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE)
        cnn_columns_bias_grad(&kernel->bias, workspace, args[CNN_ARG_SRC2], args[CNN_ARG_DST2]);
    return CNN_OK;
}

static int64_t band_columns(const cnn_conv_shape *shape)
{
    return (int64_t)(shape->q - 1) * shape->stride + shape->s;
}

bool cnn_cpu_wgrad_few_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype))
        return cnn_refuse(why, "src must be float");
    if (!cnn_unpadded(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    const int64_t lines = (int64_t)shape.r * shape.c;
    if (shape.c >= CNN_FEW_CHANNELS || band_columns(&shape) * lines > MOST_BAND ||
        (shape.k + SLACK) * (lines * shape.s + SLACK) > MOST_SUMS)
        return cnn_refuse(why, "more channels, longer rows or more weights than stay in cache");
    return true;
}

static void choose_sizes(few_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const int32_t lanes = kernel->loops->lanes;
    kernel->columns = (int32_t)band_columns(shape);
    kernel->taps = shape->r * shape->s * shape->c;
    const int64_t along_taps = (int64_t)shape->k * ((kernel->taps + lanes - 1) / lanes);
    const int64_t along_channels = (int64_t)kernel->taps * ((shape->k + lanes - 1) / lanes);
    kernel->taps_along = along_taps <= along_channels;
    kernel->rows = kernel->taps_along ? shape->k : kernel->taps;
    kernel->width = kernel->taps_along ? kernel->taps : shape->k;
    kernel->pitch = (kernel->width + lanes - 1) / lanes * lanes;
    kernel->dy_in_place = kernel->dtype == CNN_F32 && (kernel->taps_along || shape->k % lanes == 0);
    const int64_t rows = (int64_t)shape->n * shape->p, wanted = rows * shape->q / LEAST_SLICE;
    const int64_t slices = wanted < rows ? wanted : rows;
    kernel->slices = slices < 1 ? 1 : slices > MOST_SLICES ? MOST_SLICES : (int)slices;
    kernel->slots = kernel->cpu.device->host->threads();
}

static void choose_memory(few_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const size_t floats = sizeof(float), x_line = (size_t)shape->w * (size_t)shape->c;
    const size_t dy_line = (size_t)shape->q * (size_t)shape->k;
    kernel->sums_bytes = cnn_cpu_aligned((size_t)kernel->rows * (size_t)kernel->pitch * floats);
    const size_t band_lines =
        (size_t)kernel->columns * (size_t)shape->r + (size_t)(shape->p - 1) * (size_t)shape->stride;
    kernel->band_bytes = cnn_cpu_aligned((band_lines * (size_t)shape->c + SLACK) * floats);
    kernel->line_bytes = cnn_cpu_aligned(((x_line > dy_line ? x_line : dy_line) + SLACK) * floats);
    kernel->slot_bytes = kernel->band_bytes + kernel->line_bytes;
    kernel->cpu.base.workspace_bytes =
        (size_t)kernel->slices * kernel->sums_bytes + (size_t)kernel->slots * kernel->slot_bytes;
    kernel->bias = cnn_columns_plan_bias(&kernel->cpu);
}

cnn_status cnn_cpu_wgrad_few_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    few_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->shape = cnn_conv_shape_of(desc);
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    choose_sizes(kernel);
    choose_memory(kernel);
    kernel->cpu.base.run = few_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_wgrad_few", kernel->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
