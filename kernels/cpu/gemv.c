/* Linear layers on a few images: dot products over weights in place, read once. Memory-bound, so nothing is packed. */
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/shape.h"

#include <string.h>

enum {
    MOST_IMAGES = CNN_DOT_IMAGES,
    TASK_OUTPUTS = 8, /* a multiple of CNN_DOT_OUTPUTS */
    PIECE = 512       /* inputs converted to f32 at a time */
};

typedef struct gemv_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_dtype dtype;
    int32_t images, outputs;
    int64_t inputs;
} gemv_kernel;

typedef struct gemv_run {
    const gemv_kernel *kernel;
    void *const *args;
    const float *x; /* [images][inputs] */
} gemv_run;

/* Weights of the outputs from `first` on, inputs i .. i+count-1, as f32; outputs beyond the last repeat it. */
static void load_rows(const gemv_run *run, int32_t first, int64_t i, int count, float rows[CNN_DOT_OUTPUTS * PIECE])
{
    const gemv_kernel *kernel = run->kernel;
    const size_t bytes = cnn_dtype_bytes(kernel->dtype);
    for (int o = 0; o < CNN_DOT_OUTPUTS; o++) {
        const int64_t row = first + o < kernel->outputs ? first + o : kernel->outputs - 1;
        const char *from = (const char *)run->args[CNN_ARG_WEIGHT] + (size_t)(row * kernel->inputs + i) * bytes;
        kernel->loops->to_f32(kernel->dtype, from, rows + o * PIECE, count);
    }
}

/* sums[o][n] of CNN_DOT_OUTPUTS outputs from `first` on; outputs beyond the last repeat it. Weights in f32 are read
 * where they lie, whole rows at once. */
static void dot_outputs(const gemv_run *run, int32_t first, float sums[CNN_DOT_OUTPUTS][CNN_DOT_IMAGES])
{
    const gemv_kernel *kernel = run->kernel;
    const ptrdiff_t pitch = (ptrdiff_t)kernel->inputs;
    float rows[CNN_DOT_OUTPUTS * PIECE];
    memset(sums, 0, sizeof(float) * CNN_DOT_OUTPUTS * CNN_DOT_IMAGES);
    if (kernel->dtype == CNN_F32 && first + CNN_DOT_OUTPUTS <= kernel->outputs) {
        const float *weights = (const float *)run->args[CNN_ARG_WEIGHT] + first * kernel->inputs;
        kernel->loops->dot(weights, pitch, run->x, pitch, kernel->images, (int)kernel->inputs, sums);
        return;
    }
    for (int64_t i = 0; i < kernel->inputs; i += PIECE) {
        const int count = kernel->inputs - i < PIECE ? (int)(kernel->inputs - i) : PIECE;
        load_rows(run, first, i, count, rows);
        kernel->loops->dot(rows, PIECE, run->x + i, pitch, kernel->images, count, sums);
    }
}

static void gemv_task(void *context, int task, int worker)
{
    const gemv_run *run = context;
    const gemv_kernel *kernel = run->kernel;
    int32_t last = (task + 1) * TASK_OUTPUTS < kernel->outputs ? (task + 1) * TASK_OUTPUTS : kernel->outputs;
    (void)worker;
    for (int32_t first = task * TASK_OUTPUTS; first < last; first += CNN_DOT_OUTPUTS) {
        float sums[CNN_DOT_OUTPUTS][CNN_DOT_IMAGES], row[CNN_DOT_OUTPUTS];
        int32_t count = last - first < CNN_DOT_OUTPUTS ? last - first : CNN_DOT_OUTPUTS;
        dot_outputs(run, first, sums);
        for (int32_t n = 0; n < kernel->images; n++) {
            for (int32_t o = 0; o < count; o++)
                row[o] = sums[o][n];
            cnn_epilogue_store(kernel->loops, &kernel->cpu.base.desc, run->args, row, n, first, count);
        }
    }
}

static cnn_status gemv_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const gemv_kernel *kernel = (const gemv_kernel *)base;
    gemv_run run = {kernel, args, args[CNN_ARG_SRC]};
    if (kernel->dtype != CNN_F32) {
        kernel->loops->to_f32(kernel->dtype, args[CNN_ARG_SRC], workspace, kernel->images * kernel->inputs);
        run.x = workspace;
    }
    kernel->cpu.device->host->parallel((kernel->outputs + TASK_OUTPUTS - 1) / TASK_OUTPUTS, gemv_task, &run);
    return CNN_OK;
}

bool cnn_cpu_gemv_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype) || !cnn_cpu_is_float(desc->arg[CNN_ARG_DST].dtype))
        return cnn_refuse(why, "src and dst must be float");
    if (desc->arg[CNN_ARG_SRC].n > MOST_IMAGES)
        return cnn_refuse(why, "more than %d images", (int)MOST_IMAGES);
    return cnn_unpadded(desc, why) && cnn_epilogue_suits(desc, why) && cnn_conv_shape_fits(desc, why);
}

cnn_status cnn_cpu_gemv_float_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    gemv_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    cnn_conv_shape shape = cnn_conv_shape_of(desc);
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->images = shape.n;
    kernel->outputs = shape.k;
    kernel->inputs = shape.c;
    if (kernel->dtype != CNN_F32)
        kernel->cpu.base.workspace_bytes = (size_t)(kernel->images * kernel->inputs) * sizeof(float);
    kernel->cpu.base.run = gemv_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "gemv", kernel->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
