/* GROUP_CONV in INT8 where it is depthwise: exact int32 sums of a line, then the formula at its end.
 *
 * A task is some lines of an image. Weights are turned to [R*S][C] in 16 bits, once when they are constant. Sums of a
 * line have whole panels of 16 channels in memory, as requantizing reads them. */
#include "kernels/cpu/conv_i8.h"
#include "kernels/cpu/depthwise.h"
#include "kernels/cpu/loops.h"

#include <stdio.h>
#include <string.h>

typedef struct depthwise_i8 {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    const cnn_cpu_gemm_i8 *gemm;
    cnn_depthwise d;
    int32_t lines; /* of a task */
    int32_t pitch; /* of a pixel's sums */
    int slots;
    size_t weights_bytes, line_bytes; /* a slot is a line of sums */
} depthwise_i8;

typedef struct depthwise_i8_job {
    const depthwise_i8 *kernel;
    void *const *args;
    const int16_t *weights; /* [R*S][C] */
    char *slots;
} depthwise_i8_job;

typedef struct line_run {
    const depthwise_i8 *kernel;
    const int8_t *x;
    const int16_t *weights;
    int32_t *sums;
} line_run;

static void run_piece(void *context, const cnn_depthwise_taps *taps, int32_t column)
{
    const line_run *run = context;
    cnn_depthwise_taps wide = *taps;
    wide.y_step = run->kernel->pitch;
    run->kernel->loops->depthwise_i8(&wide, run->x, run->weights, run->sums + (ptrdiff_t)column * run->kernel->pitch);
}

/* The outputs of a line, from DST's pixel `first` on. */
static void finish_line(const depthwise_i8_job *job, const int32_t *sums, int64_t first)
{
    const depthwise_i8 *kernel = job->kernel;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const int32_t count = kernel->d.out_w, channels = kernel->d.channels;
    for (int32_t k0 = 0; k0 < channels; k0 += CNN_I8_PANEL) {
        const int32_t some = channels - k0 < CNN_I8_PANEL ? channels - k0 : CNN_I8_PANEL;
        const size_t bytes = cnn_dtype_bytes(dst->dtype);
        uint8_t *out = (uint8_t *)job->args[CNN_ARG_DST] + (size_t)(first * dst->c_pad + k0) * bytes;
        int32_t bias[CNN_I8_PANEL] = {0};
        float mult[CNN_I8_PANEL] = {0};
        if (desc->epilogue_count == 0) {
            for (int32_t i = 0; i < count; i++)
                memcpy(out + (size_t)i * (size_t)dst->c_pad * bytes, sums + (ptrdiff_t)i * kernel->pitch + k0,
                       (size_t)some * sizeof *sums);
            continue;
        }
        memcpy(bias, (const int32_t *)job->args[CNN_ARG_BIAS] + k0, (size_t)some * sizeof *bias);
        memcpy(mult, (const float *)job->args[CNN_ARG_MULT] + k0, (size_t)some * sizeof *mult);
        const cnn_i8_finish end = {.sums = sums + k0,
                                   .stride = (size_t)kernel->pitch,
                                   .outputs = count,
                                   .area = 1,
                                   .bias = bias,
                                   .mult = mult,
                                   .lo = desc->lo,
                                   .hi = desc->hi,
                                   .dst = out,
                                   .dst_stride = (size_t)dst->c_pad,
                                   .channels = some};
        if (desc->epilogue[0] == CNN_EPILOGUE_REQUANTIZE)
            kernel->gemm->requantize(&end);
        else
            kernel->gemm->dequantize(&end);
    }
    cnn_cpu_clear_padding_i8(dst, job->args[CNN_ARG_DST], first, count);
}

static void lines_task(void *context, int task, int worker)
{
    const depthwise_i8_job *job = context;
    const depthwise_i8 *kernel = job->kernel;
    const cnn_depthwise *d = &kernel->d;
    const int32_t tasks = (d->out_h + kernel->lines - 1) / kernel->lines;
    const int32_t n = task / tasks, first = task % tasks * kernel->lines;
    const int32_t last = first + kernel->lines < d->out_h ? first + kernel->lines : d->out_h;
    const int8_t *image = (const int8_t *)job->args[CNN_ARG_SRC] + (ptrdiff_t)n * d->in_h * d->in_w * d->pitch;
    line_run run = {kernel, image, job->weights, (int32_t *)(void *)(job->slots + (size_t)worker * kernel->line_bytes)};
    for (int32_t line = first; line < last; line++) {
        cnn_depthwise_line(d, line, 0, run_piece, &run);
        finish_line(job, run.sums, ((int64_t)n * d->out_h + line) * d->out_w);
    }
}

/* ---- The kernel ---- */

/* [C][R*S], each with its padding, to [R*S][C]. */
static void turn_weights(const depthwise_i8 *kernel, const int8_t *weights, int16_t *turned)
{
    const int32_t taps = kernel->d.r * kernel->d.s, channels = kernel->d.channels;
    const int32_t c_pad = kernel->cpu.base.desc.arg[CNN_ARG_WEIGHT].c_pad;
    for (int32_t c = 0; c < channels; c++)
        for (int32_t t = 0; t < taps; t++)
            turned[(ptrdiff_t)t * channels + c] = weights[((ptrdiff_t)c * taps + t) * c_pad];
}

static cnn_status pack(cnn_kernel *base, const void *weights)
{
    depthwise_i8 *kernel = (depthwise_i8 *)base;
    const cnn_host *host = kernel->cpu.device->host;
    if (!kernel->cpu.packed)
        kernel->cpu.packed = host->alloc(kernel->weights_bytes);
    if (!kernel->cpu.packed)
        return host->error(CNN_ERR_MEMORY, "out of memory: %zu bytes for packed weights", kernel->weights_bytes);
    turn_weights(kernel, weights, kernel->cpu.packed);
    return CNN_OK;
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const depthwise_i8 *kernel = (const depthwise_i8 *)base;
    const int32_t tasks = (kernel->d.out_h + kernel->lines - 1) / kernel->lines;
    depthwise_i8_job job = {kernel, args, kernel->cpu.packed, workspace};
    if (!base->desc.constant_weights) {
        int16_t *turned = workspace;
        turn_weights(kernel, args[CNN_ARG_WEIGHT], turned);
        job.weights = turned;
        job.slots = (char *)workspace + kernel->weights_bytes;
    }
    cnn_cpu_parallel(kernel->cpu.device->host, base->desc.arg[CNN_ARG_SRC].n * tasks, kernel->slots, lines_task, &job);
    return CNN_OK;
}

bool cnn_cpu_depthwise_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_I8)
        return cnn_refuse(why, "src is not i8");
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL))
        return cnn_refuse(why, "pooling is not fused");
    return cnn_depthwise_suits(desc, why);
}

cnn_status cnn_cpu_depthwise_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    depthwise_i8 *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->gemm = cnn_cpu_gemm_i8_get(device->isa);
    kernel->d = cnn_depthwise_of(desc);
    kernel->lines = cnn_depthwise_task_lines(&kernel->d);
    kernel->pitch = (kernel->d.channels + CNN_I8_PANEL - 1) / CNN_I8_PANEL * CNN_I8_PANEL;
    kernel->slots = device->host->threads();
    kernel->weights_bytes =
        cnn_cpu_aligned((size_t)(kernel->d.r * kernel->d.s) * (size_t)kernel->d.channels * sizeof(int16_t));
    kernel->line_bytes = cnn_cpu_aligned((size_t)kernel->d.out_w * (size_t)kernel->pitch * sizeof(int32_t));
    kernel->cpu.base.workspace_bytes =
        (desc->constant_weights ? 0 : kernel->weights_bytes) + (size_t)kernel->slots * kernel->line_bytes;
    kernel->cpu.base.pack = desc->constant_weights ? pack : NULL;
    kernel->cpu.base.run = run;
    snprintf(kernel->cpu.name, sizeof kernel->cpu.name, "cnn_cpu_depthwise_i8_%s", cnn_cpu_loops_isa(device->isa));
    kernel->cpu.base.name = kernel->cpu.name;
    *made = &kernel->cpu.base;
    return CNN_OK;
}
