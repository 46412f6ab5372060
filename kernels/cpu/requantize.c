/* REQUANTIZE and DEQUANTIZE as ops of their own: the formulas at the end of INT8 products, on sums from memory.
 *
 * A task is some pixels. Channels go in panels of 16; the last panel, which may be smaller, is first copied to where 16
 * can be read. */
#include "kernels/cpu/elementwise_i8.h"
#include "kernels/cpu/gemm_i8.h"

#include <stdio.h>
#include <string.h>

enum { TASK_PIXELS = 64 };

typedef struct requantize_job {
    const cnn_op_desc *desc;
    void *const *args;
    const cnn_cpu_gemm_i8 *gemm;
} requantize_job;

static void run_panel(const requantize_job *job, int64_t first, int32_t pixels, int32_t k0)
{
    const cnn_op_desc *desc = job->desc;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const int32_t *sums = (const int32_t *)job->args[CNN_ARG_SRC] + (size_t)(first * src->c_pad + k0);
    const int32_t channels = src->c - k0 < CNN_I8_PANEL ? src->c - k0 : CNN_I8_PANEL;
    int32_t copy[TASK_PIXELS][CNN_I8_PANEL] = {{0}};
    int32_t bias[CNN_I8_PANEL] = {0};
    float mult[CNN_I8_PANEL] = {0};
    memcpy(bias, (const int32_t *)job->args[CNN_ARG_BIAS] + k0, (size_t)channels * sizeof *bias);
    memcpy(mult, (const float *)job->args[CNN_ARG_MULT] + k0, (size_t)channels * sizeof *mult);
    const bool whole = channels == CNN_I8_PANEL;
    for (int32_t i = 0; i < pixels && !whole; i++)
        memcpy(copy[i], sums + (size_t)i * (size_t)src->c_pad, (size_t)channels * sizeof *sums);
    const cnn_i8_finish finish = {
        .sums = whole ? sums : copy[0],
        .stride = whole ? (size_t)src->c_pad : CNN_I8_PANEL,
        .outputs = pixels,
        .area = 1,
        .bias = bias,
        .mult = mult,
        .lo = desc->lo,
        .hi = desc->hi,
        .dst = (uint8_t *)job->args[CNN_ARG_DST] + (size_t)(first * dst->c_pad + k0) * cnn_dtype_bytes(dst->dtype),
        .dst_stride = (size_t)dst->c_pad,
        .channels = channels,
    };
    if (desc->op == CNN_OP_REQUANTIZE)
        job->gemm->requantize(&finish);
    else
        job->gemm->dequantize(&finish);
}

static void run_task(void *context, int task, int worker)
{
    (void)worker;
    const requantize_job *job = context;
    const cnn_tensor_desc *dst = &job->desc->arg[CNN_ARG_DST];
    const int64_t first = (int64_t)task * TASK_PIXELS;
    const int64_t left = cnn_desc_pixels(dst) - first;
    const int32_t pixels = left < TASK_PIXELS ? (int32_t)left : TASK_PIXELS;
    const size_t pixel_bytes = (size_t)dst->c_pad * cnn_dtype_bytes(dst->dtype);
    if (dst->c_pad > dst->c)
        memset((uint8_t *)job->args[CNN_ARG_DST] + (size_t)first * pixel_bytes, 0, (size_t)pixels * pixel_bytes);
    for (int32_t k0 = 0; k0 < dst->c; k0 += CNN_I8_PANEL)
        run_panel(job, first, pixels, k0);
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_device *device = ((cnn_cpu_kernel *)base)->device;
    requantize_job job = {&base->desc, args, cnn_cpu_gemm_i8_get(device->isa)};
    const int64_t pixels = cnn_desc_pixels(&base->desc.arg[CNN_ARG_DST]);
    device->host->parallel((int)((pixels + TASK_PIXELS - 1) / TASK_PIXELS), run_task, &job);
    return CNN_OK;
}

cnn_status cnn_cpu_requantize_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    cnn_cpu_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    snprintf(kernel->name, sizeof kernel->name, "cnn_cpu_%s_%s",
             desc->op == CNN_OP_REQUANTIZE ? "requantize" : "dequantize", cnn_cpu_gemm_i8_get(device->isa)->name);
    kernel->base.name = kernel->name;
    kernel->base.run = run;
    *made = &kernel->base;
    return CNN_OK;
}
