/* Weight gradients of convolutions with few input channels, from the gradient of what was pooled behind them, in float.
 *
 *   dw[k][r][(s,c)] = sum over pixels (n,p,q) of the pooling of dy[n,p,q][k] * x[n, h+r-pad, w+s-pad][c]
 *
 * where (h,w) is the pixel of the window that INDEX names: of the pixels of a window one at most has a gradient, so
 * that most products of the plain sum are left out. In NHWC the terms (s,c) of one filter line stand beside each other
 * in a line of x; vectors run along them. Each image is copied as f32 with the padding around; a small one as what a
 * filter line sees at each pixel, whole vectors, so that none of them crosses a line of the cache. Where INDEX names
 * none, the gradient becomes 0.
 *
 * Images are divided into slices that follow from the shape; their sums are added in order. */
#include "kernels/cpu/pooled.h"

#include <string.h>

enum {
    MOST_PIXELS = 16384, /* values of the pooled gradient of an image */
    MOST_SUMS = 32768,   /* floats */
    LEAST_SLICES = 8,    /* but no more than images */
    MOST_SLICES = 16,
    SLICE_IMAGES = 8,           /* or more: each slice's sums have to be added */
    PIECE = 64,                 /* products that are summed in a row */
    MOST_COLUMNS = 64,          /* of images that are copied so */
    MOST_SEEN_BYTES = 24 * 1024 /* of an image as filter lines see it */
};

typedef struct pooled_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    const cnn_cpu_loops *sums; /* of the level whose vectors the terms fill best */
    cnn_pooled pooled;
    bool seen;           /* images are copied as filter lines see them */
    int32_t pixel, line; /* floats from a pixel of the copy to the next, and from a line */
    int slices, slots;
    size_t sums_bytes, base_bytes, bias_bytes;                      /* of the workspace, then the slots */
    size_t x_bytes, row_bytes, dy_bytes, offsets_bytes, slot_bytes; /* a slot */
} pooled_kernel;

typedef struct pooled_run {
    const pooled_kernel *kernel;
    void *const *args;
    char *sums;                  /* [slices] of [k][r][width] */
    int32_t *base;               /* [p][q][k]: where the terms of a window's first pixel lie in x */
    int32_t start[MOST_COLUMNS]; /* of what a filter line sees of a padded line, pixel by pixel */
    double *bias;                /* [slices][k] */
    char *slots;
} pooled_run;

/* What a task works on. */
typedef struct image {
    float *x;        /* [lines][line] */
    float *row;      /* a line with the padding around */
    float *dy;       /* [p][q][k], 0 where there is none */
    int32_t *offset; /* [p][q][k]: where the terms of the pixel that it belongs to lie in x */
} image;

/* ---- One image ---- */

/* The padding of x, or of `row`, is 0 already. */
static void copy_image(const pooled_run *run, int64_t n, const image *at)
{
    const pooled_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->pooled.shape;
    const int64_t count = (int64_t)shape->w * shape->c;
    const char *from =
        (const char *)run->args[CNN_ARG_SRC] + (size_t)(n * shape->h * count) * cnn_dtype_bytes(kernel->pooled.dtype);
    float *to = at->x + (int64_t)shape->pad * kernel->line;
    for (int32_t h = 0; h < shape->h; h++, from += (size_t)count * cnn_dtype_bytes(kernel->pooled.dtype)) {
        float *row = kernel->seen ? at->row : to;
        kernel->loops->to_f32(kernel->pooled.dtype, from, row + shape->pad * shape->c, count);
        if (kernel->seen)
            kernel->sums->deal(row, run->start, shape->q, kernel->pixel, to, kernel->pixel);
        to += kernel->line;
    }
}

/* The gradients of an image as f32, and the offsets that their indices mean. */
static void read_gradients(const pooled_run *run, int64_t n, image *at, double *bias)
{
    const pooled_kernel *kernel = run->kernel;
    const int32_t k = kernel->pooled.shape.k, pixels = kernel->pooled.p * kernel->pooled.q;
    const int64_t count = (int64_t)pixels * k, from = n * count;
    const float *dy = (const float *)run->args[CNN_ARG_SRC2] + from;
    if (kernel->pooled.dtype != CNN_F32) {
        kernel->loops->to_f32(kernel->pooled.dtype, (const uint16_t *)run->args[CNN_ARG_SRC2] + from, at->dy, count);
        dy = at->dy;
    }
    kernel->loops->pooled_offsets(dy, (const uint8_t *)run->args[CNN_ARG_INDEX] + from, count, kernel->pooled.window,
                                  kernel->line, kernel->pixel, run->base, at->dy, at->offset);
    kernel->loops->column_sums(at->dy, pixels, k, bias);
}

static void add_products(const pooled_kernel *kernel, const image *at, float *sums)
{
    const int32_t k = kernel->pooled.shape.k, pixels = kernel->pooled.p * kernel->pooled.q;
    for (int32_t i = 0; i < k; i++, sums += kernel->pooled.shape.r * kernel->pooled.width)
        for (int32_t first = 0; first < pixels; first += PIECE)
            kernel->sums->pooled_sums(at->dy + first * k + i, at->offset + first * k + i, k,
                                      pixels - first < PIECE ? pixels - first : PIECE, at->x, kernel->line,
                                      kernel->pooled.shape.r, kernel->pooled.width, sums);
}

static void slice_task(void *context, int task, int worker)
{
    const pooled_run *run = context;
    const pooled_kernel *kernel = run->kernel;
    const int64_t images = kernel->pooled.shape.n, last = images * (task + 1) / kernel->slices;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    image at = {.x = (float *)(void *)slot,
                .row = (float *)(void *)(slot + kernel->x_bytes),
                .dy = (float *)(void *)(slot + kernel->x_bytes + kernel->row_bytes),
                .offset = (int32_t *)(void *)(slot + kernel->x_bytes + kernel->row_bytes + kernel->dy_bytes)};
    float *sums = (float *)(void *)(run->sums + (size_t)task * kernel->sums_bytes);
    double *bias = run->bias + (ptrdiff_t)task * kernel->pooled.shape.k;
    memset(sums, 0, kernel->sums_bytes);
    memset(bias, 0, (size_t)kernel->pooled.shape.k * sizeof *bias);
    memset(at.x, 0, kernel->x_bytes + kernel->row_bytes);
    for (int64_t n = images * task / kernel->slices; n < last; n++) {
        copy_image(run, n, &at);
        read_gradients(run, n, &at, bias);
        add_products(kernel, &at, sums);
    }
}

/* ---- The kernel ---- */

/* dw[k][r][(s,c)] and db[k] are the sums of all slices. */
static void combine(const pooled_run *run)
{
    const pooled_kernel *kernel = run->kernel;
    float *sums = (float *)(void *)run->sums, *dw = run->args[CNN_ARG_DST], *db = run->args[CNN_ARG_DST2];
    const int64_t count = (int64_t)kernel->pooled.shape.k * kernel->pooled.shape.r;
    for (int slice = 1; slice < kernel->slices; slice++)
        kernel->loops->add(sums, (const float *)(void *)(run->sums + (size_t)slice * kernel->sums_bytes), sums,
                           count * kernel->pooled.width);
    for (int64_t i = 0; i < count; i++)
        memcpy(dw + i * kernel->pooled.terms, sums + i * kernel->pooled.width,
               (size_t)kernel->pooled.terms * sizeof *dw);
    for (int32_t k = 0; kernel->cpu.base.desc.arg[CNN_ARG_DST2].dtype != CNN_NONE && k < kernel->pooled.shape.k; k++) {
        double sum = 0;
        for (int slice = 0; slice < kernel->slices; slice++)
            sum += run->bias[(ptrdiff_t)slice * kernel->pooled.shape.k + k];
        db[k] = (float)sum;
    }
}

static cnn_status pooled_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const pooled_kernel *kernel = (const pooled_kernel *)base;
    char *memory = (char *)workspace + (size_t)kernel->slices * kernel->sums_bytes;
    pooled_run run = {.kernel = kernel, .args = args, .sums = workspace, .base = (int32_t *)(void *)memory};
    run.bias = (double *)(void *)(memory + kernel->base_bytes);
    run.slots = memory + kernel->base_bytes + kernel->bias_bytes;
    int32_t *to = run.base;
    for (int32_t q = 0; kernel->seen && q < kernel->pooled.shape.q; q++)
        run.start[q] = q * kernel->pooled.shape.c;
    for (int32_t p = 0; p < kernel->pooled.p; p++)
        for (int32_t q = 0; q < kernel->pooled.q; q++)
            for (int32_t k = 0; k < kernel->pooled.shape.k; k++)
                *to++ = (p * kernel->line + q * kernel->pixel) * kernel->pooled.step;
    cnn_cpu_parallel(kernel->cpu.device->host, kernel->slices, kernel->slots, slice_task, &run);
    combine(&run);
    return CNN_OK;
}

/* The level whose vectors the terms fill best. */
static const cnn_cpu_loops *sums_loops(const cnn_op_desc *desc, const cnn_cpu_loops *loops)
{
    return loops->lanes == 16 && cnn_pooled_of(desc, 1).terms <= 8 ? cnn_cpu_loops_get(CNN_CPU_AVX2) : loops;
}

bool cnn_cpu_wgrad_pooled_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    if (!cnn_pooled_suits(desc, why))
        return false;
    const cnn_pooled pooled = cnn_pooled_of(desc, sums_loops(desc, cnn_cpu_loops_get(isa))->lanes);
    return ((int64_t)pooled.p * pooled.q * pooled.shape.k <= MOST_PIXELS &&
            (int64_t)pooled.shape.k * pooled.shape.r * pooled.width <= MOST_SUMS) ||
           cnn_refuse(why, "more gradients or weights than stay in cache");
}

static int slices_of(int32_t images)
{
    const int32_t some = images / SLICE_IMAGES < MOST_SLICES ? images / SLICE_IMAGES : MOST_SLICES;
    const int32_t slices = some < LEAST_SLICES ? LEAST_SLICES : some;
    return slices < images ? slices : images;
}

/* How images are copied. */
static void choose_layout(pooled_kernel *kernel)
{
    const cnn_pooled *pooled = &kernel->pooled;
    const int64_t line = (int64_t)pooled->shape.q * pooled->width;
    kernel->seen = pooled->shape.q <= MOST_COLUMNS && pooled->lines * line * (int64_t)sizeof(float) <= MOST_SEEN_BYTES;
    kernel->pixel = kernel->seen ? pooled->width : pooled->shape.c;
    kernel->line = kernel->seen ? (int32_t)line : pooled->line;
}

static void choose_memory(pooled_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->pooled.shape;
    const size_t floats = sizeof(float),
                 pooled = (size_t)kernel->pooled.p * (size_t)kernel->pooled.q * (size_t)shape->k;
    kernel->sums_bytes = cnn_cpu_aligned((size_t)shape->k * (size_t)shape->r * (size_t)kernel->pooled.width * floats);
    kernel->base_bytes = cnn_cpu_aligned(pooled * sizeof(int32_t));
    kernel->bias_bytes = cnn_cpu_aligned((size_t)kernel->slices * (size_t)shape->k * sizeof(double));
    kernel->x_bytes = cnn_pooled_image_bytes(&kernel->pooled);
    if (kernel->seen) {
        kernel->x_bytes = cnn_cpu_aligned((size_t)kernel->pooled.lines * (size_t)kernel->line * floats);
        kernel->row_bytes = cnn_cpu_aligned(((size_t)kernel->pooled.line + CNN_POOLED_SLACK) * floats);
    }
    kernel->dy_bytes = cnn_cpu_aligned(pooled * floats);
    kernel->offsets_bytes = cnn_cpu_aligned(pooled * sizeof(int32_t));
    kernel->slot_bytes = kernel->x_bytes + kernel->row_bytes + kernel->dy_bytes + kernel->offsets_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes = (size_t)kernel->slices * kernel->sums_bytes + kernel->base_bytes +
                                       kernel->bias_bytes + (size_t)kernel->slots * kernel->slot_bytes;
}

cnn_status cnn_cpu_wgrad_pooled_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    pooled_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->sums = sums_loops(desc, kernel->loops);
    kernel->pooled = cnn_pooled_of(desc, kernel->sums->lanes);
    kernel->slices = slices_of(kernel->pooled.shape.n);
    choose_layout(kernel);
    choose_memory(kernel);
    kernel->cpu.base.run = pooled_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_wgrad_pooled", kernel->pooled.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
