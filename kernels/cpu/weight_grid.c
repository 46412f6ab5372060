/* GRID, GRID_GRAD: weights on a grid whose step is learned. Tasks of a fixed number of weights; the sums of their
 * shares of the step's gradient are added in order. */
#include "kernels/cpu/exp_log.h"
#include "kernels/cpu/flat.h"
#include "kernels/cpu/floats.h"

typedef struct grid_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    int64_t count;
} grid_kernel;

typedef struct grid_run {
    const grid_kernel *kernel;
    void *const *args;
    double *sums; /* one a task */
    float step, levels;
} grid_run;

static grid_run run_of(const grid_kernel *kernel, void *const *args, void *workspace)
{
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    const float theta = *(const float *)args[CNN_ARG_SRC2];
    return (grid_run){.kernel = kernel,
                      .args = args,
                      .sums = workspace,
                      .step = (float)((double)desc->step * cnn_exp((double)theta)),
                      .levels = (float)desc->levels};
}

static void grid_task(void *context, int task, int worker)
{
    const grid_run *run = context;
    const cnn_cpu_loops *loops = run->kernel->loops;
    const cnn_dtype dtype = run->kernel->cpu.base.desc.arg[CNN_ARG_DST].dtype;
    float block[CNN_FLAT_BLOCK];
    int64_t first, last = cnn_flat_range(task, run->kernel->count, &first);
    (void)worker;
    for (; first < last; first += CNN_FLAT_BLOCK) {
        int64_t count = last - first < CNN_FLAT_BLOCK ? last - first : CNN_FLAT_BLOCK;
        float *point = cnn_flat_write(dtype, run->args[CNN_ARG_DST], first, block);
        loops->grid((const float *)run->args[CNN_ARG_SRC] + first, point, count, run->step, run->levels);
        cnn_flat_store(loops, dtype, run->args[CNN_ARG_DST], first, count, point);
    }
}

static cnn_status grid_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const grid_kernel *kernel = (const grid_kernel *)base;
    grid_run run = run_of(kernel, args, workspace);
    kernel->cpu.device->host->parallel(cnn_flat_tasks(kernel->count), grid_task, &run);
    return CNN_OK;
}

static void gradient_task(void *context, int task, int worker)
{
    const grid_run *run = context;
    int64_t first, last = cnn_flat_range(task, run->kernel->count, &first);
    (void)worker;
    run->sums[task] =
        run->kernel->loops->grid_grad((const float *)run->args[CNN_ARG_SRC] + first,
                                      (float *)run->args[CNN_ARG_DST] + first, last - first, run->step, run->levels);
}

static cnn_status gradient_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const grid_kernel *kernel = (const grid_kernel *)base;
    const int tasks = cnn_flat_tasks(kernel->count);
    grid_run run = run_of(kernel, args, workspace);
    double sum = 0;
    kernel->cpu.device->host->parallel(tasks, gradient_task, &run);
    for (int i = 0; i < tasks; i++)
        sum += run.sums[i];
    *(float *)args[CNN_ARG_DST2] = (float)sum;
    return CNN_OK;
}

bool cnn_cpu_grid_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    return cnn_unpadded(desc, why);
}

cnn_status cnn_cpu_grid_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    grid_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    cnn_kernel *base = &kernel->cpu.base;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->count = cnn_desc_elements(&desc->arg[CNN_ARG_SRC]);
    base->run = desc->op == CNN_OP_GRID ? grid_run_kernel : gradient_run_kernel;
    if (desc->op == CNN_OP_GRID_GRAD)
        base->workspace_bytes = (size_t)cnn_flat_tasks(kernel->count) * sizeof(double);
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, desc->arg[CNN_ARG_DST].dtype);
    *made = base;
    return CNN_OK;
}
