/* ReLU and its relatives, their gradients, and addition in float. */
#include "kernels/cpu/flat.h"
#include "kernels/cpu/floats.h"

typedef struct flat_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_dtype dtype;
    int64_t count;
    float hi; /* of a CLIP_GRAD, as its dtype holds it; of others as it is */
} flat_kernel;

typedef struct flat_run {
    const flat_kernel *kernel;
    void *const *args;
} flat_run;

static void one_operand(const flat_kernel *kernel, const float *a, float *out, int64_t count)
{
    const cnn_cpu_loops *loops = kernel->loops;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    if (desc->op == CNN_OP_RELU)
        loops->relu(a, out, count);
    else if (desc->op == CNN_OP_CLIP)
        loops->clip(a, out, count, kernel->hi);
    else
        loops->leaky_relu(a, out, count, desc->slope);
}

static void two_operands(const flat_kernel *kernel, const float *a, const float *b, float *out, int64_t count)
{
    const cnn_cpu_loops *loops = kernel->loops;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    if (desc->op == CNN_OP_RELU_GRAD)
        loops->relu_grad(a, b, out, count);
    else if (desc->op == CNN_OP_CLIP_GRAD)
        loops->clip_grad(a, b, out, count, kernel->hi);
    else if (desc->op == CNN_OP_LEAKY_RELU_GRAD)
        loops->leaky_relu_grad(a, b, out, count, desc->slope);
    else
        loops->add(a, b, out, count);
}

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
        if (run->args[CNN_ARG_SRC2])
            two_operands(kernel, a,
                         cnn_flat_read(loops, kernel->dtype, run->args[CNN_ARG_SRC2], first, count, src2_block), out,
                         count);
        else
            one_operand(kernel, a, out, count);
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
    kernel->hi = desc->hi;
    if (desc->op == CNN_OP_CLIP_GRAD) {
        uint32_t rounded;
        kernel->loops->from_f32(kernel->dtype, &desc->hi, &rounded, 1);
        kernel->loops->to_f32(kernel->dtype, &rounded, &kernel->hi, 1);
    }
    kernel->cpu.base.run = flat_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, kernel->dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
