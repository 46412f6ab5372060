/* Averages of windows and their gradient in float.
 *
 * A task is some rows of what is written; vectors run over the channels of one pixel, in pieces that stay in cache as
 * f32. The gradient is gathered: each input pixel adds dy of the windows that hold it, in their order, and divides
 * once. */
#include "kernels/cpu/floats.h"

#include <string.h>

enum {
    PIECE = 256,        /* channels */
    TASK_FLOATS = 16384 /* about so many are read or written by a task */
};

typedef struct average_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_tensor_desc big, small;    /* [N,H,W,C] and [N,P,Q,C] */
    int32_t height, width, stride; /* of a window */
    int32_t task_rows;
} average_kernel;

typedef struct average_run {
    const average_kernel *kernel;
    void *const *args;
} average_run;

/* Where channel c of pixel (n,h,w) lies. */
static void *place_of(const cnn_tensor_desc *desc, void *data, int64_t n, int32_t h, int32_t w, int32_t c)
{
    int64_t offset = ((n * desc->h + h) * desc->w + w) * desc->c + c;
    return (char *)data + (size_t)offset * cnn_dtype_bytes(desc->dtype);
}

/* sum += `count` channels of a tensor from `from` on. */
static void add_piece(const average_kernel *kernel, cnn_dtype dtype, const void *from, int count, float *sum)
{
    float piece[PIECE];
    const float *value = from;
    if (dtype != CNN_F32) {
        kernel->loops->to_f32(dtype, from, piece, count);
        value = piece;
    }
    kernel->loops->add(sum, value, sum, count);
}

/* The sum becomes an average and is stored. */
static void put_piece(const average_kernel *kernel, float *sum, int count, cnn_dtype dtype, void *to)
{
    kernel->loops->divide(sum, (float)(kernel->height * kernel->width), sum, count);
    kernel->loops->from_f32(dtype, sum, to, count);
}

/* ---- Forward ---- */

static void average_window(const average_run *run, int64_t n, int32_t p, int32_t q, int32_t c, int count)
{
    const average_kernel *kernel = run->kernel;
    const cnn_tensor_desc *src = &kernel->big, *dst = &kernel->cpu.base.desc.arg[CNN_ARG_DST];
    float sum[PIECE];
    memset(sum, 0, (size_t)count * sizeof *sum);
    for (int32_t r = 0; r < kernel->height; r++)
        for (int32_t s = 0; s < kernel->width; s++)
            add_piece(kernel, src->dtype,
                      place_of(src, run->args[CNN_ARG_SRC], n, p * kernel->stride + r, q * kernel->stride + s, c),
                      count, sum);
    put_piece(kernel, sum, count, dst->dtype, place_of(dst, run->args[CNN_ARG_DST], n, p, q, c));
}

/* ---- Gradient ---- */

static void gradient_pixel(const average_run *run, int64_t n, int32_t h, int32_t w, int32_t c, int count)
{
    const average_kernel *kernel = run->kernel;
    const cnn_tensor_desc *dy = &kernel->small, *dx = &kernel->big;
    float sum[PIECE];
    int32_t p_first, q_first;
    memset(sum, 0, (size_t)count * sizeof *sum);
    int32_t p_last = cnn_cpu_covering(h, kernel->height, kernel->stride, dy->h, &p_first);
    int32_t q_last = cnn_cpu_covering(w, kernel->width, kernel->stride, dy->w, &q_first);
    for (int32_t p = p_first; p <= p_last; p++)
        for (int32_t q = q_first; q <= q_last; q++)
            add_piece(kernel, dy->dtype, place_of(dy, run->args[CNN_ARG_SRC], n, p, q, c), count, sum);
    put_piece(kernel, sum, count, dx->dtype, place_of(dx, run->args[CNN_ARG_DST], n, h, w, c));
}

/* ---- The kernel ---- */

static void average_task(void *context, int task, int worker)
{
    const average_run *run = context;
    const cnn_op_desc *desc = &run->kernel->cpu.base.desc;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    void (*const one)(const average_run *, int64_t, int32_t, int32_t, int32_t, int) =
        desc->op == CNN_OP_AVGPOOL ? average_window : gradient_pixel;
    const int64_t rows = (int64_t)dst->n * dst->h, first = (int64_t)task * run->kernel->task_rows;
    const int64_t last = first + run->kernel->task_rows < rows ? first + run->kernel->task_rows : rows;
    (void)worker;
    for (int64_t row = first; row < last; row++)
        for (int32_t w = 0; w < dst->w; w++)
            for (int32_t c = 0; c < dst->c; c += PIECE)
                one(run, row / dst->h, (int32_t)(row % dst->h), w, c, dst->c - c < PIECE ? dst->c - c : PIECE);
}

static cnn_status average_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const average_kernel *kernel = (const average_kernel *)base;
    average_run run = {kernel, args};
    (void)workspace;
    const int64_t rows = (int64_t)base->desc.arg[CNN_ARG_DST].n * base->desc.arg[CNN_ARG_DST].h;
    kernel->cpu.device->host->parallel((int)((rows + kernel->task_rows - 1) / kernel->task_rows), average_task, &run);
    return CNN_OK;
}

bool cnn_cpu_avgpool_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype))
        return cnn_refuse(why, "src must be float");
    return cnn_unpadded(desc, why);
}

cnn_status cnn_cpu_avgpool_float_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    average_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const bool grad = desc->op == CNN_OP_AVGPOOL_GRAD;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->big = desc->arg[grad ? CNN_ARG_DST : CNN_ARG_SRC];
    kernel->small = desc->arg[grad ? CNN_ARG_SRC : CNN_ARG_DST];
    kernel->height = desc->kernel ? desc->kernel : kernel->big.h;
    kernel->width = desc->kernel ? desc->kernel : kernel->big.w;
    kernel->stride = desc->kernel ? desc->stride : 1;
    /* Of the rows of the image that belong to a row of what is written. */
    const int64_t image_rows = grad || kernel->small.h > 1 ? 1 : kernel->height;
    const int64_t row_floats = (int64_t)kernel->big.w * kernel->big.c * image_rows;
    kernel->task_rows = row_floats < TASK_FLOATS ? (int32_t)(TASK_FLOATS / row_floats) : 1;
    kernel->cpu.base.run = average_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, kernel->big.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
