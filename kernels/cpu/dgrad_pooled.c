/* Data gradients of convolutions with few input channels, from the gradient of what was pooled behind them, in float.
 *
 *   dx[n, h+r-pad, w+s-pad][c] += the pooling of dy[n,p,q][k] * weight[k][r][(s,c)]
 *
 * where (h,w) is the pixel of window (p,q) that INDEX names. Of the pixels of a window one at most has a gradient in a
 * channel, so that most products of the plain sum are left out. In NHWC the terms (s,c) of one filter line stand beside
 * each other in a line of dx; vectors run along them. A task is one image: for each pixel of a window the channels
 * whose gradient arrives there are summed in registers, then added to dx, which lies there with the padding around.
 * Weights are packed by every run: they are few. */
#include "kernels/cpu/floats.h"
#include "kernels/cpu/loops.h"
#include "kernels/cpu/shape.h"

#include <string.h>

enum {
    FEW_CHANNELS = 16,    /* C below it */
    MOST_IMAGE = 16384,   /* floats of a padded image */
    MOST_OUTPUTS = 512,   /* K */
    MOST_WEIGHTS = 16384, /* floats */
    MOST_TAPS = 225,
    SLACK = 64 /* whole vectors of terms that are written beyond an image */
};

typedef struct pooled_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype dtype, weight_dtype;
    int32_t p, q; /* pooled pixels */
    int32_t window, step;
    int32_t line;  /* floats of a padded line of dx */
    int32_t lines; /* of a padded image */
    int32_t terms; /* S*C */
    int32_t width; /* the floats of whole vectors that hold them */
    int slots;
    size_t weights_bytes, wide_bytes;     /* of the workspace, then the slots */
    size_t x_bytes, dy_bytes, slot_bytes; /* a slot: dx, a pixel of dy as f32 */
} pooled_kernel;

typedef struct pooled_run {
    const pooled_kernel *kernel;
    void *const *args;
    const float *weights; /* [K][R][width] */
    char *slots;
} pooled_run;

/* Adds what all pixels of an image give to dx. */
static void add_products(const pooled_run *run, int64_t n, const int32_t *tap, float *dx, float *wide)
{
    const pooled_kernel *kernel = run->kernel;
    const int32_t k = kernel->shape.k, taps = kernel->window * kernel->window;
    for (int32_t p = 0; p < kernel->p; p++)
        for (int32_t q = 0; q < kernel->q; q++) {
            const int64_t from = ((n * kernel->p + p) * kernel->q + q) * k;
            const float *dy = (const float *)run->args[CNN_ARG_SRC] + from;
            if (kernel->dtype != CNN_F32) {
                kernel->loops->to_f32(kernel->dtype, (const uint16_t *)run->args[CNN_ARG_SRC] + from, wide, k);
                dy = wide;
            }
            kernel->loops->pooled_spread(dy, (const uint8_t *)run->args[CNN_ARG_INDEX] + from, k, run->weights,
                                         kernel->shape.r, kernel->width, tap, taps, kernel->line,
                                         dx + (p * kernel->line + q * kernel->shape.c) * kernel->step);
        }
}

static void image_task(void *context, int task, int worker)
{
    const pooled_run *run = context;
    const pooled_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const cnn_dtype dtype = kernel->cpu.base.desc.arg[CNN_ARG_DST].dtype;
    const int64_t count = (int64_t)shape->w * shape->c;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    char *to = (char *)run->args[CNN_ARG_DST] + (size_t)(task * shape->h * count) * cnn_dtype_bytes(dtype);
    float *dx = (float *)(void *)slot;
    int32_t tap[MOST_TAPS];
    for (int32_t t = 0; t < kernel->window * kernel->window; t++)
        tap[t] = t / kernel->window * kernel->line + t % kernel->window * shape->c;
    memset(dx, 0, kernel->x_bytes);
    add_products(run, task, tap, dx, (float *)(void *)(slot + kernel->x_bytes));
    for (int32_t h = 0; h < shape->h; h++, to += (size_t)count * cnn_dtype_bytes(dtype))
        kernel->loops->from_f32(dtype, dx + (int64_t)(h + shape->pad) * kernel->line + shape->pad * shape->c, to,
                                count);
}

/* ---- The kernel ---- */

/* packed[k][r][(s,c)] of w [K,R,S,C], and 0 beyond the last term. */
static void pack_weights(const pooled_kernel *kernel, const float *w, float *packed)
{
    for (int32_t i = 0; i < kernel->shape.k * kernel->shape.r; i++, w += kernel->terms, packed += kernel->width) {
        memcpy(packed, w, (size_t)kernel->terms * sizeof *packed);
        memset(packed + kernel->terms, 0, (size_t)(kernel->width - kernel->terms) * sizeof *packed);
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
    cnn_cpu_parallel(kernel->cpu.device->host, kernel->shape.n, kernel->slots, image_task, &run);
    return CNN_OK;
}

static void choose_sizes(pooled_kernel *kernel, const cnn_op_desc *desc, const cnn_cpu_loops *loops)
{
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    kernel->loops = loops;
    kernel->shape = shape;
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->weight_dtype = desc->arg[CNN_ARG_WEIGHT].dtype;
    kernel->p = desc->arg[CNN_ARG_SRC].h;
    kernel->q = desc->arg[CNN_ARG_SRC].w;
    kernel->window = desc->pool_kernel;
    kernel->step = desc->pool_stride;
    kernel->line = (shape.w + 2 * shape.pad) * shape.c;
    kernel->lines = shape.h + 2 * shape.pad;
    kernel->terms = shape.s * shape.c;
    kernel->width = (int32_t)cnn_cpu_vectors(kernel->terms, loops->lanes) * loops->lanes;
}

bool cnn_cpu_dgrad_pooled_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    if (!cnn_op_is_pooled_grad(desc))
        return cnn_refuse(why, "nothing was pooled");
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype) || !cnn_cpu_is_float(desc->arg[CNN_ARG_DST].dtype))
        return cnn_refuse(why, "src and dst must be float");
    if (!cnn_unpadded(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    if (desc->stride != 1)
        return cnn_refuse(why, "its stride is not 1");
    pooled_kernel sizes;
    choose_sizes(&sizes, desc, cnn_cpu_loops_get(isa));
    if (sizes.shape.c >= FEW_CHANNELS || (int64_t)sizes.lines * sizes.line > MOST_IMAGE ||
        sizes.shape.k > MOST_OUTPUTS || (int64_t)sizes.shape.k * sizes.shape.r * sizes.width > MOST_WEIGHTS)
        return cnn_refuse(why, "more channels, larger images or more weights than stay in cache");
    return true;
}

static void choose_memory(pooled_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const size_t floats = sizeof(float), rows = (size_t)shape->k * (size_t)shape->r;
    kernel->weights_bytes = cnn_cpu_aligned(rows * (size_t)kernel->width * floats);
    kernel->wide_bytes = kernel->weight_dtype == CNN_F32 ? 0 : cnn_cpu_aligned(rows * (size_t)kernel->terms * floats);
    kernel->x_bytes = cnn_cpu_aligned(((size_t)kernel->lines * (size_t)kernel->line + SLACK) * floats);
    kernel->dy_bytes = kernel->dtype == CNN_F32 ? 0 : cnn_cpu_aligned((size_t)shape->k * floats);
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
    choose_sizes(kernel, desc, cnn_cpu_loops_get(device->isa));
    choose_memory(kernel);
    kernel->cpu.base.run = pooled_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "conv_dgrad_pooled", kernel->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
