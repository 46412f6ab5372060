/* ReLU, its gradient, and addition in float. */
#include "kernels/cpu/flat.h"
#include "kernels/cpu/floats.h"

typedef struct flat_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_dtype dtype;
    int64_t count;
} flat_kernel;

typedef struct flat_run {
    const flat_kernel *kernel;
    void *const *args;
} flat_run;

static void float_task(void *context, int task, int worker)
{
    const flat_run *run = context;
    const flat_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    float src_block[CNN_FLAT_BLOCK], src2_block[CNN_FLAT_BLOCK], dst_block[CNN_FLAT_BLOCK];
    int64_t first, last = cnn_flat_range(task, kernel->count, &first);
    void *dst = run->args[CNN_ARG_DST];
    (void)worker;
    for (; first < last; first += CNN_FLAT_BLOCK) {
        int64_t count = last - first < CNN_FLAT_BLOCK ? last - first : CNN_FLAT_BLOCK;
        const float *a = cnn_flat_read(loops, kernel->dtype, run->args[CNN_ARG_SRC], first, count, src_block);
        float *out = cnn_flat_write(kernel->dtype, dst, first, dst_block);
        if (kernel->cpu.base.desc.op == CNN_OP_RELU) {
            loops->relu(a, out, count);
        } else {
            const float *b = cnn_flat_read(loops, kernel->dtype, run->args[CNN_ARG_SRC2], first, count, src2_block);
            if (kernel->cpu.base.desc.op == CNN_OP_RELU_GRAD)
                loops->relu_grad(a, b, out, count);
            else
                loops->add(a, b, out, count);
        }
        cnn_flat_store(loops, kernel->dtype, dst, first, count, out);
    }
}

static cnn_status flat_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const flat_kernel *kernel = (const flat_kernel *)base;
    flat_run run = {kernel, args};
    (void)workspace;
    kernel->cpu.device->host->parallel(cnn_flat_tasks(kernel->count), float_task, &run);
    return CNN_OK;
}

bool cnn_cpu_flat_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype))
        return cnn_refuse(why, "src must be float");
    return cnn_unpadded(desc, why);
}

cnn_status cnn_cpu_flat_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    flat_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->count = cnn_desc_elements(&desc->arg[CNN_ARG_SRC]);
    kernel->cpu.base.run = flat_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, kernel->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
