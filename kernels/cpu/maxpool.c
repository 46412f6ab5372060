/* Max-pooling and its gradient in float.
 *
 * A task is some rows of what is written. With many channels, vectors run over those of one window, in pieces that stay
 * in cache as f32. The gradient is gathered: each input pixel adds dy of the windows whose first maximum it was, in
 * window order, and rounds once.
 *
 * Windows that reach beyond the image are cut at its edge.
 *
 * With few channels so little is done for a pixel that runs of neighbouring windows are taken at once, in the gradient
 * where windows touch but do not overlap. Pixels are then read and written as whole vectors, in place where there is
 * something behind them. */
#include "kernels/cpu/floats.h"

#include <string.h>

enum {
    PIECE = 256,        /* channels */
    FEW_CHANNELS = 64,  /* at most so many are taken in runs of windows */
    RUN = 512,          /* most floats of a run's outputs */
    BAND = 2048,        /* most floats of the image under a run */
    SLACK = 16,         /* a vector: what is read and written beyond them */
    TASK_FLOATS = 16384 /* about so many are read or written by a task */
};

typedef struct pool_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_tensor_desc big, small; /* [N,H,W,C] and [N,P,Q,C] */
    int32_t kernel, stride, pad;
    int32_t task_rows;
    int32_t run_windows; /* 0: channels are taken window by window */
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

/* The rows or columns first .. returned - 1 of a window that lie inside of `size` pixels. */
static int32_t inside(const pool_kernel *kernel, int32_t window, int32_t size, int32_t *first)
{
    const int32_t begin = window * kernel->stride - kernel->pad;
    *first = begin < 0 ? -begin : 0;
    return size - begin < kernel->kernel ? size - begin : kernel->kernel;
}

/* `count` channels from c on of the window of output pixel (n,p,q). */
static void pool_window(const pool_run *run, int64_t n, int32_t p, int32_t q, int32_t c, int count)
{
    const pool_kernel *kernel = run->kernel;
    float max[PIECE], piece[PIECE];
    int32_t first[PIECE];
    int32_t top, left;
    const int32_t bottom = inside(kernel, p, kernel->big.h, &top), right = inside(kernel, q, kernel->big.w, &left);
    for (int32_t r = top; r < bottom; r++)
        for (int32_t s = left; s < right; s++) {
            int64_t from = offset_of(&kernel->big, n, p * kernel->stride + r - kernel->pad,
                                     q * kernel->stride + s - kernel->pad, c);
            const float *value = read_piece(kernel, run->args[CNN_ARG_SRC], from, count, piece);
            if (r == top && s == left) {
                memcpy(max, value, (size_t)count * sizeof *max);
                for (int i = 0; i < count; i++)
                    first[i] = top * kernel->kernel + left;
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

/* `lines` of `count` elements of desc's images from `offset` on, with a vector behind each that can be read: in place
 * or as f32 in `band`. *line: floats from one to the next. */
static const float *read_lines(const pool_kernel *kernel, const cnn_tensor_desc *desc, const void *data, int64_t offset,
                               int32_t lines, int32_t count, float *band, ptrdiff_t *line)
{
    const int64_t width = (int64_t)desc->w * desc->c;
    *line = width;
    if (desc->dtype == CNN_F32 && offset + (lines - 1) * width + count + SLACK <= cnn_desc_elements(desc))
        return (const float *)data + offset;
    *line = count;
    const size_t bytes = cnn_dtype_bytes(desc->dtype);
    for (int32_t r = 0; r < lines; r++)
        kernel->loops->to_f32(desc->dtype, (const char *)data + (size_t)(offset + r * width) * bytes, band + r * count,
                              count);
    memset(band + lines * count, 0, SLACK * sizeof *band);
    return band;
}

/* `windows` output pixels from (n,p,q) on, all channels. */
static void pool_windows(const pool_run *run, int64_t n, int32_t p, int32_t q, int32_t windows)
{
    const pool_kernel *kernel = run->kernel;
    const int32_t channels = kernel->small.c, count = windows * channels;
    float band[BAND + SLACK], max[RUN + SLACK];
    uint8_t first[RUN + SLACK];
    ptrdiff_t line;
    const float *x = read_lines(kernel, &kernel->big, run->args[CNN_ARG_SRC],
                                offset_of(&kernel->big, n, p * kernel->stride, q * kernel->stride, 0), kernel->kernel,
                                ((windows - 1) * kernel->stride + kernel->kernel) * channels, band, &line);
    kernel->loops->pool_windows(x, line, kernel->kernel, kernel->stride, windows, channels, false, max, first);
    const int64_t to = offset_of(&kernel->small, n, p, q, 0);
    write_piece(kernel, run->args[CNN_ARG_DST], to, count, max);
    if (kernel->cpu.base.desc.arg[CNN_ARG_INDEX].dtype != CNN_NONE)
        memcpy((uint8_t *)run->args[CNN_ARG_INDEX] + to, first, (size_t)count);
}

/* The rows [first, returned) of a task, counted over all images. */
static int64_t rows_of(const pool_kernel *kernel, const cnn_tensor_desc *written, int task, int64_t *first)
{
    int64_t rows = (int64_t)written->n * written->h;
    *first = (int64_t)task * kernel->task_rows;
    return *first + kernel->task_rows < rows ? *first + kernel->task_rows : rows;
}

static void maxpool_task(void *context, int task, int worker)
{
    const pool_run *run = context;
    const pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *dst = &kernel->small;
    int64_t row, last = rows_of(kernel, dst, task, &row);
    (void)worker;
    for (; row < last; row++) {
        int64_t n = row / dst->h;
        int32_t p = (int32_t)(row % dst->h), step = kernel->run_windows ? kernel->run_windows : 1;
        for (int32_t q = 0; q < dst->w; q += step) {
            if (kernel->run_windows)
                pool_windows(run, n, p, q, dst->w - q < step ? dst->w - q : step);
            else
                for (int32_t c = 0; c < dst->c; c += PIECE)
                    pool_window(run, n, p, q, c, dst->c - c < PIECE ? dst->c - c : PIECE);
        }
    }
}

/* dx of input pixel (n,h,w), `count` channels from c on. */
static void gradient_pixel(const pool_run *run, int64_t n, int32_t h, int32_t w, int32_t c, int count)
{
    const pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *dy = &kernel->small;
    float sum[PIECE], piece[PIECE];
    int32_t p_first, q_first;
    memset(sum, 0, (size_t)count * sizeof *sum);
    const int32_t row = h + kernel->pad, column = w + kernel->pad;
    int32_t p_last = cnn_cpu_covering(row, kernel->kernel, kernel->stride, dy->h, &p_first);
    int32_t q_last = cnn_cpu_covering(column, kernel->kernel, kernel->stride, dy->w, &q_first);
    for (int32_t p = p_first; p <= p_last; p++)
        for (int32_t q = q_first; q <= q_last; q++) {
            int64_t from = offset_of(dy, n, p, q, c);
            int position = (row - p * kernel->stride) * kernel->kernel + (column - q * kernel->stride);
            const float *value = read_piece(kernel, run->args[CNN_ARG_SRC2], from, count, piece);
            kernel->loops->pool_grad_step(value, (const uint8_t *)run->args[CNN_ARG_INDEX] + from, position, sum,
                                          count);
        }
    write_piece(kernel, run->args[CNN_ARG_DST], offset_of(&kernel->big, n, h, w, c), count, sum);
}

/* Row h of dx under `windows` output pixels from (n,p,q) on, which touch but do not overlap. in_place: what is written
 * behind them may be overwritten. */
static void gradient_windows(const pool_run *run, int64_t n, int32_t h, int32_t p, int32_t q, int32_t windows,
                             bool in_place)
{
    const pool_kernel *kernel = run->kernel;
    const int32_t channels = kernel->small.c, count = windows * channels;
    const int64_t from = offset_of(&kernel->small, n, p, q, 0);
    const uint8_t *index = (const uint8_t *)run->args[CNN_ARG_INDEX] + from;
    float piece[RUN + SLACK], band[BAND + SLACK];
    uint8_t last[RUN + SLACK];
    ptrdiff_t line;
    const float *dy = read_lines(kernel, &kernel->small, run->args[CNN_ARG_SRC2], from, 1, count, piece, &line);
    if (from + count + SLACK > cnn_desc_elements(&kernel->small)) {
        memcpy(last, index, (size_t)count);
        memset(last + count, 0, SLACK);
        index = last;
    }
    const int64_t to = offset_of(&kernel->big, n, h, q * kernel->stride, 0);
    float *dx = in_place ? (float *)run->args[CNN_ARG_DST] + to : band;
    kernel->loops->pool_grad_line(dy, index, (h - p * kernel->stride) * kernel->kernel, kernel->kernel, windows,
                                  channels, dx);
    if (!in_place)
        write_piece(kernel, run->args[CNN_ARG_DST], to, windows * kernel->kernel * channels, band);
}

/* Row h of dx in runs of windows; 0 where there are none. `more`: the task writes the next row after it. */
static void gradient_row(const pool_run *run, int64_t n, int32_t h, bool more)
{
    const pool_kernel *kernel = run->kernel;
    const cnn_tensor_desc *dx = &kernel->big, *dy = &kernel->small;
    const int32_t p = h / kernel->stride, step = kernel->run_windows;
    const int32_t covered = p < dy->h ? dy->w * kernel->stride : 0;
    const bool in_place = dx->dtype == CNN_F32 && more && (int64_t)dx->w * dx->c >= SLACK;
    if (p < dy->h)
        for (int32_t q = 0; q < dy->w; q += step)
            gradient_windows(run, n, h, p, q, dy->w - q < step ? dy->w - q : step, in_place);
    const size_t bytes = cnn_dtype_bytes(dx->dtype);
    memset((char *)run->args[CNN_ARG_DST] + (size_t)offset_of(dx, n, h, covered, 0) * bytes, 0,
           (size_t)(dx->w - covered) * (size_t)dx->c * bytes);
}

static void maxpool_grad_task(void *context, int task, int worker)
{
    const pool_run *run = context;
    const cnn_tensor_desc *dx = &run->kernel->big;
    int64_t row, last = rows_of(run->kernel, dx, task, &row);
    (void)worker;
    for (; row < last; row++) {
        int64_t n = row / dx->h;
        int32_t h = (int32_t)(row % dx->h);
        if (run->kernel->run_windows) {
            gradient_row(run, n, h, row + 1 < last);
            continue;
        }
        for (int32_t w = 0; w < dx->w; w++)
            for (int32_t c = 0; c < dx->c; c += PIECE)
                gradient_pixel(run, n, h, w, c, dx->c - c < PIECE ? dx->c - c : PIECE);
    }
}

static cnn_status pool_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const pool_kernel *kernel = (const pool_kernel *)base;
    bool grad = base->desc.op == CNN_OP_MAXPOOL_GRAD;
    const cnn_tensor_desc *written = grad ? &kernel->big : &kernel->small;
    pool_run run = {kernel, args};
    (void)workspace;
    int64_t rows = (int64_t)written->n * written->h;
    kernel->cpu.device->host->parallel((int)((rows + kernel->task_rows - 1) / kernel->task_rows),
                                       grad ? maxpool_grad_task : maxpool_task, &run);
    return CNN_OK;
}

bool cnn_cpu_maxpool_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_DST].dtype))
        return cnn_refuse(why, "dst must be float");
    return cnn_unpadded(desc, why);
}

/* Windows of a run: as many as fit. */
static void choose_run(pool_kernel *kernel, bool grad)
{
    const int32_t channels = kernel->small.c, taps = kernel->kernel, lines = grad ? 1 : taps;
    if (channels > FEW_CHANNELS || lines * taps * channels > BAND || kernel->pad > 0 ||
        (grad && kernel->stride != taps))
        return;
    const int32_t most = RUN / channels, band = (BAND / (lines * channels) - taps) / kernel->stride + 1;
    kernel->run_windows = most < band ? most : band;
    if (kernel->run_windows > kernel->small.w)
        kernel->run_windows = kernel->small.w;
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
    kernel->pad = desc->pad;
    const int64_t row_floats = (int64_t)kernel->big.w * kernel->big.c;
    kernel->task_rows = row_floats < TASK_FLOATS ? (int32_t)(TASK_FLOATS / row_floats) : 1;
    choose_run(kernel, grad);
    kernel->cpu.base.run = pool_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, kernel->big.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
