/* Data gradients of convolutions with few input channels, from the gradient of what was pooled behind them, in float.
 *
 *   dx[n, h+r-pad, w+s-pad][c] += the pooling of dy[n,p,q][k] * weight[k][r][(s,c)]
 *
 * where (h,w) is the pixel of window (p,q) that INDEX names. Of the pixels of a window one at most has a gradient in a
 * channel, so that most products of the plain sum are left out. In NHWC the terms (s,c) of one filter line stand beside
 * each other in a line of dx; vectors run along them. A task is one image: for each pixel of a window the channels
 * whose gradient arrives there are summed in registers, then added to dx, which lies there with the padding around. Of
 * small windows registers hold all pixels. Weights are packed by every run: they are few. */
#include "kernels/cpu/pooled.h"

#include <string.h>

enum {
    MOST_OUTPUTS = 512,   /* K */
    MOST_WEIGHTS = 16384, /* floats */
    MOST_TAPS = 225,
    MOST_RIGHT = 3 /* vectors of a row that registers hold of a window of 2x2 */
};

typedef struct pooled_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_dtype weight_dtype;
    cnn_pooled pooled;
    int left, right; /* vectors of a row of weights for windows of 2x2 as a whole; 0: each pixel by itself */
    int slots;
    size_t weights_bytes, wide_bytes;     /* of the workspace, then the slots */
    size_t x_bytes, dy_bytes, slot_bytes; /* a slot: dx, a pixel of dy as f32 */
} pooled_kernel;

typedef struct pooled_run {
    const pooled_kernel *kernel;
    void *const *args;
    const float *weights; /* [K][R][width], or as pooled_spread_2x2 reads them */
    char *slots;
} pooled_run;

/* Adds what all pixels of an image give to dx. */
static void add_products(const pooled_run *run, int64_t n, const int32_t *tap, float *dx, float *wide)
{
    const pooled_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    const int32_t k = kernel->pooled.shape.k, taps = kernel->pooled.window * kernel->pooled.window;
    const int32_t rows = kernel->pooled.shape.r, line = kernel->pooled.line;
    for (int32_t p = 0; p < kernel->pooled.p; p++)
        for (int32_t q = 0; q < kernel->pooled.q; q++) {
            const int64_t from = ((n * kernel->pooled.p + p) * kernel->pooled.q + q) * k;
            const float *dy = (const float *)run->args[CNN_ARG_SRC] + from;
            const uint8_t *index = (const uint8_t *)run->args[CNN_ARG_INDEX] + from;
            float *to = dx + (p * line + q * kernel->pooled.shape.c) * kernel->pooled.step;
            if (kernel->pooled.dtype != CNN_F32) {
                loops->to_f32(kernel->pooled.dtype, (const uint16_t *)run->args[CNN_ARG_SRC] + from, wide, k);
                dy = wide;
            }
            if (kernel->left > 0)
                loops->pooled_spread_2x2(dy, index, k, run->weights, rows, kernel->left, kernel->right, line, to);
            else
                loops->pooled_spread(dy, index, k, run->weights, rows, kernel->pooled.width, tap, taps, line, to);
        }
}

static void image_task(void *context, int task, int worker)
{
    const pooled_run *run = context;
    const pooled_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->pooled.shape;
    const cnn_dtype dtype = kernel->cpu.base.desc.arg[CNN_ARG_DST].dtype;
    const int64_t count = (int64_t)shape->w * shape->c;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    char *to = (char *)run->args[CNN_ARG_DST] + (size_t)(task * shape->h * count) * cnn_dtype_bytes(dtype);
    float *dx = (float *)(void *)slot;
    int32_t tap[MOST_TAPS];
    for (int32_t t = 0; t < kernel->pooled.window * kernel->pooled.window; t++)
        tap[t] = t / kernel->pooled.window * kernel->pooled.line + t % kernel->pooled.window * shape->c;
    memset(dx, 0, kernel->x_bytes);
    add_products(run, task, tap, dx, (float *)(void *)(slot + kernel->x_bytes));
    for (int32_t h = 0; h < shape->h; h++, to += (size_t)count * cnn_dtype_bytes(dtype))
        kernel->loops->from_f32(dtype, dx + (int64_t)(h + shape->pad) * kernel->pooled.line + shape->pad * shape->c, to,
                                count);
}

/* ---- The kernel ---- */

/* A row of `width` floats that has the terms from `first` on, else 0. */
static float *pack_row(const pooled_kernel *kernel, const float *w, int32_t first, int32_t width, float *packed)
{
    memset(packed, 0, (size_t)width * sizeof *packed);
    memcpy(packed + first, w, (size_t)kernel->pooled.terms * sizeof *packed);
    return packed + width;
}

/* w [K,R,S,C] */
static void pack_weights(const pooled_kernel *kernel, const float *w, float *packed)
{
    const cnn_conv_shape *shape = &kernel->pooled.shape;
    const int32_t lanes = kernel->loops->lanes, terms = kernel->pooled.terms;
    for (int32_t k = 0; k < shape->k; k++, w += shape->r * terms) {
        const int32_t width = kernel->left > 0 ? kernel->left * lanes : kernel->pooled.width;
        for (int32_t r = 0; r < shape->r; r++)
            packed = pack_row(kernel, w + r * terms, 0, width, packed);
        for (int32_t r = 0; r < shape->r && kernel->left > 0; r++)
            packed = pack_row(kernel, w + r * terms, shape->c, kernel->right * lanes, packed);
    }
}

static cnn_status pooled_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const pooled_kernel *kernel = (const pooled_kernel *)base;
    float *packed = workspace, *wide = (float *)(void *)((char *)workspace + kernel->weights_bytes);
    const float *w = args[CNN_ARG_WEIGHT];
    if (kernel->weight_dtype != CNN_F32) {
        kernel->loops->to_f32(kernel->weight_dtype, args[CNN_ARG_WEIGHT], wide,
                              cnn_desc_elements(&base->desc.arg[CNN_ARG_WEIGHT]));
        w = wide;
    }
    pack_weights(kernel, w, packed);
    pooled_run run = {kernel, args, packed, (char *)wide + kernel->wide_bytes};
    cnn_cpu_parallel(kernel->cpu.device->host, kernel->pooled.shape.n, kernel->slots, image_task, &run);
    return CNN_OK;
}

bool cnn_cpu_dgrad_pooled_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    if (!cnn_pooled_suits(desc, why))
        return false;
    const cnn_pooled pooled = cnn_pooled_of(desc, cnn_cpu_loops_get(isa)->lanes);
    return (pooled.shape.k <= MOST_OUTPUTS &&
            (int64_t)pooled.shape.k * pooled.shape.r * pooled.width <= MOST_WEIGHTS) ||
           cnn_refuse(why, "more weights than stay in cache");
}

/* Whether registers hold a window. */
static void choose_form(pooled_kernel *kernel)
{
    const cnn_pooled *pooled = &kernel->pooled;
    const int lanes = kernel->loops->lanes, rows = pooled->shape.r;
    const int left = pooled->width / lanes;
    const int right = (int)cnn_cpu_vectors(pooled->terms + pooled->shape.c, lanes);
    if (!kernel->loops->pooled_spread_2x2 || pooled->window != 2 || (rows != 3 && rows != 5) || right > MOST_RIGHT)
        return;
    kernel->left = left;
    kernel->right = right;
}

static void choose_memory(pooled_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->pooled.shape;
    const size_t floats = sizeof(float), rows = (size_t)shape->k * (size_t)shape->r;
    const int32_t both = (kernel->left + kernel->right) * kernel->loops->lanes; /* floats of a row */
    kernel->weights_bytes = cnn_cpu_aligned(rows * (size_t)(kernel->left > 0 ? both : kernel->pooled.width) * floats);
    kernel->wide_bytes =
        kernel->weight_dtype == CNN_F32 ? 0 : cnn_cpu_aligned(rows * (size_t)kernel->pooled.terms * floats);
    kernel->x_bytes = cnn_pooled_image_bytes(&kernel->pooled);
    kernel->dy_bytes = kernel->pooled.dtype == CNN_F32 ? 0 : cnn_cpu_aligned((size_t)shape->k * floats);
    kernel->slot_bytes = kernel->x_bytes + kernel->dy_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes =
        kernel->weights_bytes + kernel->wide_bytes + (size_t)kernel->slots * kernel->slot_bytes;
}

cnn_status cnn_cpu_dgrad_pooled_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    pooled_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->pooled = cnn_pooled_of(desc, kernel->loops->lanes);
    kernel->weight_dtype = desc->arg[CNN_ARG_WEIGHT].dtype;
    choose_form(kernel);
    choose_memory(kernel);
    kernel->cpu.base.run = pooled_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_dgrad_pooled", kernel->pooled.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
