/* MAXPOOL, AVGPOOL, ADD, RELU, CLIP and LEAKY_RELU on int8 tensors: plain loops over channels, which compilers
 * vectorize. A task is one line of an image. */
#include "kernels/cpu/elementwise_i8.h"
#include "kernels/cpu/gemm_i8.h"
#include "kernels/cpu/loops.h"

#include <string.h>

typedef struct job_i8 {
    const cnn_op_desc *desc;
    const cnn_cpu_loops *loops;
    void *const *args;
} job_i8;

static cnn_status run_lines(cnn_kernel *base, void *const args[CNN_ARG_COUNT], cnn_task_fn line)
{
    const cnn_tensor_desc *dst = &base->desc.arg[CNN_ARG_DST];
    cnn_device *device = ((cnn_cpu_kernel *)base)->device;
    job_i8 job = {&base->desc, cnn_cpu_loops_get(device->isa), args};
    device->host->parallel(dst->n * dst->h, line, &job);
    return CNN_OK;
}

static cnn_status make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made,
                       cnn_status (*run)(cnn_kernel *, void *const *, void *))
{
    cnn_cpu_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->base.run = run;
    *made = &kernel->base;
    return CNN_OK;
}

/* ---- MAXPOOL ---- */

/* One more pixel of a window. The first maximum counts: only a larger value replaces it. */
static void take(const int8_t *value, uint8_t position, int32_t channels, int8_t *max, uint8_t *first)
{
    if (first)
        for (int32_t c = 0; c < channels; c++)
            first[c] = value[c] > max[c] ? position : first[c];
    for (int32_t c = 0; c < channels; c++)
        max[c] = value[c] > max[c] ? value[c] : max[c];
}

static void maxpool_line(void *context, int task, int worker)
{
    (void)worker;
    const job_i8 *job = context;
    const cnn_op_desc *desc = job->desc;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const cnn_tensor_desc *index = &desc->arg[CNN_ARG_INDEX];
    const int32_t n = task / dst->h;
    const int32_t p = task % dst->h;
    for (int32_t q = 0; q < dst->w; q++) {
        const size_t pixel = (size_t)task * (size_t)dst->w + (size_t)q;
        int8_t *max = (int8_t *)job->args[CNN_ARG_DST] + pixel * (size_t)dst->c_pad;
        uint8_t *first =
            index->dtype == CNN_NONE ? NULL : (uint8_t *)job->args[CNN_ARG_INDEX] + pixel * (size_t)index->c_pad;
        memset(max, INT8_MIN, (size_t)dst->c);
        memset(max + dst->c, 0, (size_t)(dst->c_pad - dst->c));
        if (first)
            memset(first, 0, (size_t)index->c_pad);
        for (int32_t r = 0; r < desc->kernel; r++)
            for (int32_t s = 0; s < desc->kernel; s++) {
                const int32_t h = p * desc->stride + r - desc->pad, w = q * desc->stride + s - desc->pad;
                if (h < 0 || h >= src->h || w < 0 || w >= src->w)
                    continue;
                const int64_t from = ((int64_t)n * src->h + h) * src->w + w;
                take((const int8_t *)job->args[CNN_ARG_SRC] + from * src->c_pad, (uint8_t)(r * desc->kernel + s),
                     dst->c, max, first);
            }
    }
}

static cnn_status maxpool_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    return run_lines(base, args, maxpool_line);
}

bool cnn_cpu_maxpool_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_I8)
        return cnn_refuse(why, "src is not i8");
    if (desc->kernel * desc->kernel > UINT8_MAX + 1)
        return cnn_refuse(why, "a window has more than 256 pixels");
    return true;
}

cnn_status cnn_cpu_maxpool_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel)
{
    return make(device, desc, kernel, maxpool_run);
}

/* ---- AVGPOOL ---- */

enum { AVERAGED = 256 }; /* channels at a time */

/* sum += the window's pixels, `channels` of each. */
static void add_window(const job_i8 *job, int64_t corner, int32_t c, int32_t channels, int32_t *sum)
{
    const cnn_tensor_desc *src = &job->desc->arg[CNN_ARG_SRC];
    const int32_t kernel = job->desc->kernel, height = kernel ? kernel : src->h, width = kernel ? kernel : src->w;
    for (int32_t r = 0; r < height; r++)
        for (int32_t s = 0; s < width; s++) {
            const int64_t pixel = corner + (int64_t)r * src->w + s;
            const int8_t *x = (const int8_t *)job->args[CNN_ARG_SRC] + pixel * src->c_pad + c;
            for (int32_t i = 0; i < channels; i++)
                sum[i] += x[i];
        }
}

static void avgpool_line(void *context, int task, int worker)
{
    (void)worker;
    const job_i8 *job = context;
    const cnn_op_desc *desc = job->desc;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const int64_t n = task / dst->h, p = task % dst->h;
    for (int32_t q = 0; q < dst->w; q++) {
        int8_t *y = (int8_t *)job->args[CNN_ARG_DST] + ((int64_t)task * dst->w + q) * dst->c_pad;
        const int64_t corner = (n * src->h + p * desc->stride) * src->w + (int64_t)q * desc->stride;
        for (int32_t c = 0; c < dst->c; c += AVERAGED) {
            const int32_t channels = dst->c - c < AVERAGED ? dst->c - c : AVERAGED;
            int32_t sum[AVERAGED] = {0};
            add_window(job, corner, c, channels, sum);
            for (int32_t i = 0; i < channels; i++) {
                float scaled = (float)sum[i] * desc->scale[0];
                scaled = scaled > desc->lo ? scaled : desc->lo;
                scaled = scaled < desc->hi ? scaled : desc->hi;
                y[c + i] = (int8_t)cnn_i8_nearest(scaled);
            }
        }
        memset(y + dst->c, 0, (size_t)(dst->c_pad - dst->c));
    }
}

static cnn_status avgpool_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    return run_lines(base, args, avgpool_line);
}

cnn_status cnn_cpu_avgpool_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel)
{
    return make(device, desc, kernel, avgpool_run);
}

/* ---- ADD ---- */

/* Whether padding channels can be taken as channels: all tensors have them alike, and 0 + 0 is 0. */
static bool is_flat(const cnn_op_desc *desc)
{
    const int32_t c_pad = desc->arg[CNN_ARG_DST].c_pad;
    return desc->arg[CNN_ARG_SRC].c_pad == c_pad && desc->arg[CNN_ARG_SRC2].c_pad == c_pad && desc->lo <= 0 &&
           desc->hi >= 0;
}

static void add_line(void *context, int task, int worker)
{
    (void)worker;
    const job_i8 *job = context;
    const cnn_op_desc *desc = job->desc;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const bool flat = is_flat(desc);
    const int32_t pieces = flat ? 1 : dst->w, count = flat ? dst->w * dst->c_pad : dst->c;
    for (int32_t i = 0; i < pieces; i++) {
        const size_t pixel = (size_t)task * (size_t)dst->w + (size_t)i;
        const int8_t *a = (const int8_t *)job->args[CNN_ARG_SRC] + pixel * (size_t)desc->arg[CNN_ARG_SRC].c_pad;
        const int8_t *b = (const int8_t *)job->args[CNN_ARG_SRC2] + pixel * (size_t)desc->arg[CNN_ARG_SRC2].c_pad;
        int8_t *y = (int8_t *)job->args[CNN_ARG_DST] + pixel * (size_t)dst->c_pad;
        job->loops->add_i8(a, b, y, count, desc->scale, desc->out_scale, desc->lo, desc->hi);
        if (!flat)
            memset(y + dst->c, 0, (size_t)(dst->c_pad - dst->c));
    }
}

static cnn_status add_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    return run_lines(base, args, add_line);
}

bool cnn_cpu_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_I8)
        return cnn_refuse(why, "src is not i8");
    return true;
}

cnn_status cnn_cpu_add_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel)
{
    return make(device, desc, kernel, add_run);
}

/* ---- RELU, CLIP, LEAKY_RELU ---- */

static void relu_line(void *context, int task, int worker)
{
    (void)worker;
    const job_i8 *job = context;
    const cnn_tensor_desc *src = &job->desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &job->desc->arg[CNN_ARG_DST];
    const int8_t hi = job->desc->op == CNN_OP_CLIP ? (int8_t)job->desc->hi : INT8_MAX;
    for (int32_t w = 0; w < dst->w; w++) {
        const size_t pixel = (size_t)task * (size_t)dst->w + (size_t)w;
        const int8_t *x = (const int8_t *)job->args[CNN_ARG_SRC] + pixel * (size_t)src->c_pad;
        int8_t *y = (int8_t *)job->args[CNN_ARG_DST] + pixel * (size_t)dst->c_pad;
        for (int32_t c = 0; c < dst->c; c++) {
            const int8_t above = x[c] < hi ? x[c] : hi;
            y[c] = above > 0 ? above : 0;
        }
        memset(y + dst->c, 0, (size_t)(dst->c_pad - dst->c));
    }
}

static cnn_status relu_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    return run_lines(base, args, relu_line);
}

cnn_status cnn_cpu_relu_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel)
{
    return make(device, desc, kernel, relu_run);
}

static void leaky_relu_line(void *context, int task, int worker)
{
    (void)worker;
    const job_i8 *job = context;
    const cnn_op_desc *desc = job->desc;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *dst = &desc->arg[CNN_ARG_DST];
    for (int32_t w = 0; w < dst->w; w++) {
        const size_t pixel = (size_t)task * (size_t)dst->w + (size_t)w;
        int8_t *y = (int8_t *)job->args[CNN_ARG_DST] + pixel * (size_t)dst->c_pad;
        job->loops->leaky_relu_i8((const int8_t *)job->args[CNN_ARG_SRC] + pixel * (size_t)src->c_pad, y, dst->c,
                                  desc->scale[0], desc->slope, desc->out_scale, desc->lo, desc->hi);
        memset(y + dst->c, 0, (size_t)(dst->c_pad - dst->c));
    }
}

static cnn_status leaky_relu_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    return run_lines(base, args, leaky_relu_line);
}

cnn_status cnn_cpu_leaky_relu_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel)
{
    return make(device, desc, kernel, leaky_relu_run);
}
