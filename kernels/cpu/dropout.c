/* DROPOUT: a task is some values of an image. Which are dropped follows from their numbers alone. */
#include "kernels/cpu/flat.h"
#include "kernels/cpu/floats.h"

typedef struct dropout_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    int64_t image; /* values */
    int tasks;     /* of an image */
} dropout_kernel;

typedef struct dropout_run {
    const dropout_kernel *kernel;
    void *const *args;
} dropout_run;

static void dropout_task(void *context, int task, int worker)
{
    const dropout_run *run = context;
    const dropout_kernel *kernel = run->kernel;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    const cnn_dtype dtype = desc->arg[CNN_ARG_SRC].dtype;
    const cnn_train_state *state = run->args[CNN_ARG_STATE];
    const int32_t *index = run->args[CNN_ARG_INDEX];
    const int32_t n = task / kernel->tasks;
    const uint64_t key = cnn_dropout_key(desc->seed, state->epoch, index ? index[state->cursor + n] : n);
    const float scale = 1.0f / (1.0f - desc->rate);
    float src_block[CNN_FLAT_BLOCK], dst_block[CNN_FLAT_BLOCK];
    int64_t first, last = cnn_flat_range(task % kernel->tasks, kernel->image, &first);
    (void)worker;
    for (; first < last; first += CNN_FLAT_BLOCK) {
        const int64_t count = last - first < CNN_FLAT_BLOCK ? last - first : CNN_FLAT_BLOCK;
        const int64_t at = n * kernel->image + first;
        const float *x = cnn_flat_read(kernel->loops, dtype, run->args[CNN_ARG_SRC], at, count, src_block);
        float *y = cnn_flat_write(dtype, run->args[CNN_ARG_DST], at, dst_block);
        kernel->loops->dropout(x, y, count, key + (uint64_t)first, desc->rate, scale);
        cnn_flat_store(kernel->loops, dtype, run->args[CNN_ARG_DST], at, count, y);
    }
}

static cnn_status dropout_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const dropout_kernel *kernel = (const dropout_kernel *)base;
    dropout_run run = {kernel, args};
    (void)workspace;
    kernel->cpu.device->host->parallel(base->desc.arg[CNN_ARG_SRC].n * kernel->tasks, dropout_task, &run);
    return CNN_OK;
}

cnn_status cnn_cpu_dropout_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    dropout_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->image = cnn_desc_elements(src) / src->n;
    kernel->tasks = cnn_flat_tasks(kernel->image);
    kernel->cpu.base.run = dropout_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "dropout", src->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
