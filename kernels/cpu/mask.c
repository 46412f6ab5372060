/* MASK: zeros where a mask says so. */
#include "kernels/cpu/flat.h"
#include "kernels/cpu/floats.h"

typedef struct mask_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    int64_t count;
} mask_kernel;

typedef struct mask_run {
    const mask_kernel *kernel;
    void *const *args;
} mask_run;

static void mask_task(void *context, int task, int worker)
{
    const mask_run *run = context;
    int64_t first, last = cnn_flat_range(task, run->kernel->count, &first);
    (void)worker;
    run->kernel->loops->mask((const uint8_t *)run->args[CNN_ARG_SRC] + first, (float *)run->args[CNN_ARG_DST] + first,
                             last - first);
}

static cnn_status mask_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const mask_kernel *kernel = (const mask_kernel *)base;
    mask_run run = {kernel, args};
    (void)workspace;
    kernel->cpu.device->host->parallel(cnn_flat_tasks(kernel->count), mask_task, &run);
    return CNN_OK;
}

bool cnn_cpu_mask_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    return cnn_unpadded(desc, why);
}

cnn_status cnn_cpu_mask_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    mask_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->count = cnn_desc_elements(&desc->arg[CNN_ARG_DST]);
    kernel->cpu.base.run = mask_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, CNN_F32);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
