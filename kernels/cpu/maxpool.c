/* Max-pooling and its gradient in float.
 *
 * A task is one output row of one image; channels are taken in pieces that stay in cache as f32. The gradient is
 * gathered: each input pixel adds dy of the windows whose first maximum it was, in window order, and rounds once. */
#include "kernels/cpu/floats.h"

#include <string.h>

enum { PIECE = 256 /* channels */ };

typedef struct pool_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_tensor_desc big, small; /* [N,H,W,C] and [N,P,Q,C] */
    int32_t kernel, stride;
} pool_kernel;

typedef struct pool_run {
    const pool_kernel *kernel;
    void *const *args;
} pool_run;

/* Element offset of channel c of pixel (n,h,w). */
static int64_t offset_of(const cnn_tensor_desc *desc, int64_t n, int32_t h, int32_t w, int32_t c)
{
    return ((n * desc->h + h) * desc->w + w) * desc->c + c;
}

/* Channels from an element on as f32: in place or converted. */
static const float *read_piece(const pool_kernel *kernel, const void *data, int64_t offset, int count, float *piece)
{
    cnn_dtype dtype = kernel->big.dtype;
    if (dtype == CNN_F32)
        return (const float *)data + offset;
    kernel->loops->to_f32(dtype, (const char *)data + (size_t)offset * cnn_dtype_bytes(dtype), piece, count);
    return piece;
}

static void write_piece(const pool_kernel *kernel, void *data, int64_t offset, int count, const float *piece)
{
    cnn_dtype dtype = kernel->big.dtype;
    kernel->loops->from_f32(dtype, piece, (char *)data + (size_t)offset * cnn_dtype_bytes(dtype), count);
}

/* `count` channels from c on of the window of output pixel (n,p,q). */
static void pool_window(const pool_run *run, int64_t n, int32_t p, int32_t q, int32_t c, int count)
{
    const pool_kernel *kernel = run->kernel;
    float max[PIECE], piece[PIECE];
    int32_t first[PIECE];
    for (int32_t r = 0; r < kernel->kernel; r++)
        for (int32_t s = 0; s < kernel->kernel; s++) {
            int64_t from = offset_of(&kernel->big, n, p * kernel->stride + r, q * kernel->stride + s, c);
            const float *value = read_piece(kernel, run->args[CNN_ARG_SRC], from, count, piece);
            if (r == 0 && s == 0) {
                memcpy(max, value, (size_t)count * sizeof *max);
                memset(first, 0, (size_t)count * sizeof *first);
            } else {
                kernel->loops->pool_step(value, r * kernel->kernel + s, max, first, count);
            }
        }
    int64_t to = offset_of(&kernel->small, n, p, q, c);
    write_piece(kernel, run->args[CNN_ARG_DST], to, count, max);
    if (kernel->cpu.base.desc.arg[CNN_ARG_INDEX].dtype != CNN_NONE) {
        uint8_t *index = (uint8_t *)run->args[CNN_ARG_INDEX] + to;
        for (int i = 0; i < count; i++)
            index[i] = (uint8_t)first[i];
    }
}

static void maxpool_task(void *context, int task, int worker)
{
    const pool_run *run = context;
    const cnn_tensor_desc *dst = &run->kernel->small;
    int64_t n = task / dst->h;
    int32_t p = task % dst->h;
    (void)worker;
    for (int32_t q = 0; q < dst->w; q++)
        for (int32_t c = 0; c < dst->c; c += PIECE)
            pool_window(run, n, p, q, c, dst->c - c < PIECE ? dst->c - c : PIECE);
}

/* First and last window that covers position i: both in `first` and the returned value, last < first where none does.
 */
static int32_t covering(int32_t i, int32_t kernel, int32_t stride, int32_t windows, int32_t *first)
{
    *first = i < kernel ? 0 : (i - kernel) / stride + 1;
    return i / stride < windows ? i / stride : windows - 1;
}

/* dx of input pixel (n,h,w), `count` channels from c on. */
static void gradient_pixel(const pool_run *run, int64_t n, int32_t h, int32_t w, int32_t c, int count)
{
    const pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *dy = &kernel->small;
    float sum[PIECE] = {0}, piece[PIECE];
    int32_t p_first, q_first;
    int32_t p_last = covering(h, kernel->kernel, kernel->stride, dy->h, &p_first);
    int32_t q_last = covering(w, kernel->kernel, kernel->stride, dy->w, &q_first);
    for (int32_t p = p_first; p <= p_last; p++)
        for (int32_t q = q_first; q <= q_last; q++) {
            int64_t from = offset_of(dy, n, p, q, c);
            int position = (h - p * kernel->stride) * kernel->kernel + (w - q * kernel->stride);
            const float *value = read_piece(kernel, run->args[CNN_ARG_SRC2], from, count, piece);
            kernel->loops->pool_grad_step(value, (const uint8_t *)run->args[CNN_ARG_INDEX] + from, position, sum,
                                          count);
        }
    write_piece(kernel, run->args[CNN_ARG_DST], offset_of(&kernel->big, n, h, w, c), count, sum);
}

static void maxpool_grad_task(void *context, int task, int worker)
{
    const pool_run *run = context;
    const cnn_tensor_desc *dx = &run->kernel->big;
    int64_t n = task / dx->h;
    int32_t h = task % dx->h;
    (void)worker;
    for (int32_t w = 0; w < dx->w; w++)
        for (int32_t c = 0; c < dx->c; c += PIECE)
            gradient_pixel(run, n, h, w, c, dx->c - c < PIECE ? dx->c - c : PIECE);
}

static cnn_status pool_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const pool_kernel *kernel = (const pool_kernel *)base;
    bool grad = base->desc.op == CNN_OP_MAXPOOL_GRAD;
    const cnn_tensor_desc *written = grad ? &kernel->big : &kernel->small;
    pool_run run = {kernel, args};
    (void)workspace;
    kernel->cpu.device->host->parallel(written->n * written->h, grad ? maxpool_grad_task : maxpool_task, &run);
    return CNN_OK;
}

bool cnn_cpu_maxpool_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_DST].dtype))
        return cnn_refuse(why, "dst must be float");
    return cnn_unpadded(desc, why);
}

cnn_status cnn_cpu_maxpool_float_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    pool_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    bool grad = desc->op == CNN_OP_MAXPOOL_GRAD;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->big = desc->arg[grad ? CNN_ARG_DST : CNN_ARG_SRC];
    kernel->small = desc->arg[grad ? CNN_ARG_SRC2 : CNN_ARG_DST];
    kernel->kernel = desc->kernel;
    kernel->stride = desc->stride;
    kernel->cpu.base.run = pool_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, kernel->big.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
