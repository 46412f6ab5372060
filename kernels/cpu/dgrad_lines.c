/* Data gradients of convolutions of stride 1 with few input channels, in float.
 *
 * In NHWC the terms (s,c) of one filter line stand beside each other in a line of dx: pixel (p,q) of dy gives S*C of
 * them, from column q - pad on. Vectors run along these terms. A task is one image, of which dy is turned to
 * [column][line][channel], so that for line y of dx
 *
 *   terms[q][(s,c)] = sum over (r,k) of dy[y+pad-r][q][k] * weight[k][r][(s,c)]
 *
 * is a matrix product whose rows, a column of dy each, are contiguous; filter lines outside dy are left out. Terms that
 * meet in a pixel are then added in the order of s. Weights are packed by every run: they are few. */
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"

enum {
    MOST_COLUMNS = 32768, /* floats of dy's columns */
    MOST_WEIGHTS = 16384,
    SLACK = 16 /* a vector, which is read or written beyond pixels */
};

typedef struct lines_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype dtype, weight_dtype;
    int32_t terms; /* S*C */
    int32_t width; /* the floats of whole vectors that hold them */
    int32_t held;  /* lines of dy in a column */
    int slots;
    size_t weights_bytes, wide_bytes;                          /* of the workspace, then the slots */
    size_t columns_bytes, terms_bytes, line_bytes, slot_bytes; /* a slot: columns, terms, a line of dy or dx */
} lines_kernel;

typedef struct lines_run {
    const lines_kernel *kernel;
    void *const *args;
    float *weights; /* [R from the last][K][width] */
    char *slots;
} lines_run;

/* What a task works on: an image, and lines [first, first + held) of its dy in columns. */
typedef struct image {
    int64_t n;
    int32_t first;
    float *columns; /* [Q] of CNN_GEMM_PITCH */
    float *terms;   /* [S-1 + Q + S-1][width]: those around the columns stay 0 */
    float *line;
} image;

/* packed[R-1-r][k][(s,c)] of w [K,R,S,C], and 0 beyond the last term. */
static void pack_weights(const lines_kernel *kernel, const float *w, float *packed)
{
    const cnn_conv_shape *shape = &kernel->shape;
    for (int32_t r = shape->r - 1; r >= 0; r--)
        for (int32_t k = 0; k < shape->k; k++, packed += kernel->width) {
            memcpy(packed, w + (k * shape->r + r) * kernel->terms, (size_t)kernel->terms * sizeof *packed);
            for (int32_t i = kernel->terms; i < kernel->width; i++)
                packed[i] = 0.0f;
        }
}

/* ---- One image ---- */

/* Turns the lines of dy from `first` on. */
static void turn_lines(const lines_run *run, image *at, int32_t first)
{
    const lines_kernel *kernel = run->kernel;
    const int32_t k = kernel->shape.k, q_count = kernel->shape.q;
    const int64_t count = (int64_t)q_count * k;
    const int32_t rest = kernel->shape.p - first, lines = rest < kernel->held ? rest : kernel->held;
    at->first = first;
    for (int32_t i = 0; i < lines; i++) {
        const int64_t from = (at->n * kernel->shape.p + first + i) * count;
        const float *line = (const float *)run->args[CNN_ARG_SRC] + from;
        if (kernel->dtype != CNN_F32) {
            kernel->loops->to_f32(kernel->dtype, (const uint16_t *)run->args[CNN_ARG_SRC] + from, at->line, count);
            line = at->line;
        }
        for (int32_t q = 0; q < q_count; q++)
            cnn_gather_copy(at->columns + q * CNN_GEMM_PITCH + i * k, line + q * k, (size_t)k);
    }
}

/* The terms of line y of dx, of lines [low, low + count) of dy. */
static void multiply(const lines_run *run, const image *at, int32_t y, int32_t low, int32_t count)
{
    const lines_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    const cnn_conv_shape *shape = &kernel->shape;
    const float *a = at->columns + (low - at->first) * shape->k;
    const float *b = run->weights + (low - (y + shape->pad - shape->r + 1)) * shape->k * kernel->width;
    float *terms = at->terms + (shape->s - 1) * kernel->width;
    const int tiles = (shape->q + loops->tile_rows - 1) / loops->tile_rows;
    for (int32_t j = 0; j < kernel->width; j += 2 * loops->lanes) {
        const cnn_tile_fn *tile = loops->tile_by_rows[kernel->width - j > loops->lanes];
        for (int t = 0; t < tiles; t++) {
            const int first = shape->q * t / tiles, rows = shape->q * (t + 1) / tiles - first;
            tile[rows - 1](a + first * CNN_GEMM_PITCH, 1, b + j, kernel->width, terms + first * kernel->width + j,
                           kernel->width, count * shape->k, false);
        }
    }
}

static void image_task(void *context, int task, int worker)
{
    const lines_run *run = context;
    const lines_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const int64_t count = (int64_t)shape->w * shape->c;
    const cnn_dtype dtype = kernel->cpu.base.desc.arg[CNN_ARG_DST].dtype;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    image at = {.n = task,
                .columns = (float *)(void *)slot,
                .terms = (float *)(void *)(slot + kernel->columns_bytes),
                .line = (float *)(void *)(slot + kernel->columns_bytes + kernel->terms_bytes)};
    memset(at.terms, 0, kernel->terms_bytes);
    turn_lines(run, &at, 0);
    for (int32_t y = 0; y < shape->h; y++) {
        const int32_t end = y + shape->pad + 1, high = end < shape->p ? end : shape->p;
        const int32_t low = end > shape->r ? end - shape->r : 0;
        if (high > at.first + kernel->held)
            turn_lines(run, &at, low);
        void *dst = (char *)run->args[CNN_ARG_DST] + (size_t)((at.n * shape->h + y) * count) * cnn_dtype_bytes(dtype);
        if (high > low) {
            multiply(run, &at, y, low, high - low);
            kernel->loops->fold(at.terms + (shape->pad + shape->s - 1) * kernel->width, kernel->width, shape->s,
                                shape->w, shape->c, at.line);
        } else {
            memset(at.line, 0, (size_t)count * sizeof *at.line);
        }
        kernel->loops->from_f32(dtype, at.line, dst, count);
    }
}

/* ---- The kernel ---- */

static cnn_status lines_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const lines_kernel *kernel = (const lines_kernel *)base;
    char *memory = workspace;
    const float *w = args[CNN_ARG_WEIGHT];
    if (kernel->weight_dtype != CNN_F32) {
        float *wide = (float *)(void *)(memory + kernel->weights_bytes);
        kernel->loops->to_f32(kernel->weight_dtype, args[CNN_ARG_WEIGHT], wide,
                              cnn_desc_elements(&base->desc.arg[CNN_ARG_WEIGHT]));
        w = wide;
    }
    lines_run run = {kernel, args, (float *)(void *)memory, memory + kernel->weights_bytes + kernel->wide_bytes};
    pack_weights(kernel, w, run.weights);
    cnn_cpu_parallel(kernel->cpu.device->host, kernel->shape.n, kernel->slots, image_task, &run);
    return CNN_OK;
}

bool cnn_cpu_dgrad_lines_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    if (!cnn_conv_goes_by_lines(desc, why))
        return false;
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    const int32_t lanes = cnn_cpu_loops_get(isa)->lanes;
    const int64_t terms = (int64_t)shape.s * shape.c, along = cnn_cpu_vectors(terms, lanes);
    if (shape.c >= CNN_FEW_CHANNELS || (int64_t)shape.r * shape.k > CNN_GEMM_DEPTH ||
        (int64_t)shape.q * CNN_GEMM_PITCH > MOST_COLUMNS || shape.r * shape.k * along * lanes > MOST_WEIGHTS)
        return cnn_refuse(why, "more channels, longer lines or more weights than stay in cache");
    if (shape.c < CNN_GATHER_SHORT && shape.q * along > terms * cnn_cpu_vectors(shape.w, lanes)) /* conv_few.c */
        return cnn_refuse(why, "vectors of a filter's line would be emptier than vectors of pixels");
    return true;
}

static void choose_memory(lines_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const size_t floats = sizeof(float), weights = (size_t)shape->r * (size_t)shape->k;
    const size_t columns = (size_t)shape->q + 2 * (size_t)(shape->s - 1);
    const size_t x_line = (size_t)shape->w * (size_t)shape->c, dy_line = (size_t)shape->q * (size_t)shape->k;
    kernel->weights_bytes = cnn_cpu_aligned(weights * (size_t)kernel->width * floats);
    kernel->wide_bytes =
        kernel->weight_dtype == CNN_F32 ? 0 : cnn_cpu_aligned(weights * (size_t)kernel->terms * floats);
    kernel->columns_bytes = cnn_cpu_aligned((size_t)shape->q * CNN_GEMM_PITCH * floats);
    kernel->terms_bytes = cnn_cpu_aligned((columns * (size_t)kernel->width + SLACK) * floats);
    kernel->line_bytes = cnn_cpu_aligned(((x_line > dy_line ? x_line : dy_line) + SLACK) * floats);
    kernel->slot_bytes = kernel->columns_bytes + kernel->terms_bytes + kernel->line_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes =
        kernel->weights_bytes + kernel->wide_bytes + (size_t)kernel->slots * kernel->slot_bytes;
}

cnn_status cnn_cpu_dgrad_lines_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    lines_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->shape = cnn_conv_shape_of(desc);
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->weight_dtype = desc->arg[CNN_ARG_WEIGHT].dtype;
    kernel->terms = kernel->shape.s * kernel->shape.c;
    kernel->width = (int32_t)cnn_cpu_vectors(kernel->terms, kernel->loops->lanes) * kernel->loops->lanes;
    kernel->held = CNN_GEMM_DEPTH / kernel->shape.k;
    choose_memory(kernel);
    kernel->cpu.base.run = lines_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_dgrad_lines", kernel->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
