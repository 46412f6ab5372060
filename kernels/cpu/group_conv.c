/* GROUP_CONV* of any shape: group by group through the convolutions that there are for so few channels.
 *
 * Channels of a group lie apart in memory, so they are gathered to dense tensors and what comes out is dealt to its
 * place. Weights of a group are one piece. Kernels of constant weights are packed, one a group; else one does for all.
 */
#include "kernels/cpu/conv_i8.h"
#include "kernels/cpu/floats.h"

#include <stdio.h>
#include <string.h>

/* Activations of a group; the others are vectors or weights. */
static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_SRC2, CNN_ARG_DST};
enum { ACTIVATIONS = sizeof activations / sizeof activations[0], TASK_BYTES = 1 << 15 };

typedef struct group_kernel {
    cnn_cpu_kernel cpu;
    cnn_kernel **inner; /* [count] */
    int32_t groups, count;
    cnn_op_desc one; /* of a group */
    size_t bytes[ACTIVATIONS], inner_bytes;
} group_kernel;

/* ---- Gathering and dealing ---- */

typedef struct copy_job {
    char *wide, *dense;
    size_t wide_pitch, pitch; /* bytes of a pixel */
    size_t padding;           /* bytes of zeros behind the group's channels */
    int64_t pixels, task_pixels;
    bool gather;
} copy_job;

static void copy_task(void *context, int task, int worker)
{
    const copy_job *job = context;
    const int64_t first = task * job->task_pixels;
    const int64_t last = first + job->task_pixels < job->pixels ? first + job->task_pixels : job->pixels;
    (void)worker;
    for (int64_t i = first; i < last; i++) {
        char *wide = job->wide + (size_t)i * job->wide_pitch, *dense = job->dense + (size_t)i * job->pitch;
        memcpy(job->gather ? dense : wide, job->gather ? wide : dense, job->pitch);
        if (!job->gather && job->padding)
            memset(wide + job->pitch, 0, job->padding);
    }
}

/* Between channels of group g of an activation and a dense tensor. */
static void copy_group(const group_kernel *kernel, cnn_arg role, void *wide, void *dense, int32_t g)
{
    const cnn_tensor_desc *all = &kernel->cpu.base.desc.arg[role], *one = &kernel->one.arg[role];
    const size_t bytes = cnn_dtype_bytes(all->dtype);
    copy_job job = {.wide = (char *)wide + (size_t)(g * one->c) * bytes,
                    .dense = dense,
                    .wide_pitch = (size_t)all->c_pad * bytes,
                    .pitch = (size_t)one->c * bytes,
                    .padding = g == kernel->groups - 1 ? (size_t)(all->c_pad - all->c) * bytes : 0,
                    .pixels = cnn_desc_pixels(all),
                    .gather = role != CNN_ARG_DST};
    job.task_pixels = job.pitch < TASK_BYTES ? (int64_t)(TASK_BYTES / job.pitch) : 1;
    kernel->cpu.device->host->parallel((int)((job.pixels + job.task_pixels - 1) / job.task_pixels), copy_task, &job);
}

static bool is_activation(const group_kernel *kernel, cnn_arg role)
{
    const bool dw = role == CNN_ARG_DST && cnn_op_is_wgrad(kernel->one.op);
    return kernel->one.arg[role].dtype != CNN_NONE && !dw;
}

/* Group g of weights, biases, multipliers or their gradients. */
static void *part_of(const group_kernel *kernel, cnn_arg role, void *all, int32_t g)
{
    const size_t bytes = cnn_desc_bytes(&kernel->one.arg[role]);
    return all && kernel->one.arg[role].dtype != CNN_NONE ? (char *)all + (size_t)g * bytes : NULL;
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const group_kernel *kernel = (const group_kernel *)base;
    cnn_status status = CNN_OK;
    for (int32_t g = 0; g < kernel->groups && status == CNN_OK; g++) {
        cnn_kernel *inner = kernel->inner[kernel->count > 1 ? g : 0];
        char *memory = (char *)workspace + kernel->inner_bytes;
        void *part[CNN_ARG_COUNT];
        for (int role = 0; role < CNN_ARG_COUNT; role++)
            part[role] = part_of(kernel, (cnn_arg)role, args[role], g);
        for (int i = 0; i < ACTIVATIONS; memory += kernel->bytes[i++]) {
            if (!is_activation(kernel, activations[i]))
                continue;
            part[activations[i]] = memory;
            if (activations[i] != CNN_ARG_DST)
                copy_group(kernel, activations[i], args[activations[i]], memory, g);
        }
        status = inner->run(inner, part, workspace);
        if (status == CNN_OK && is_activation(kernel, CNN_ARG_DST))
            copy_group(kernel, CNN_ARG_DST, args[CNN_ARG_DST], part[CNN_ARG_DST], g);
    }
    return status;
}

/* ---- The kernel ---- */

static cnn_status pack(cnn_kernel *base, const void *weights)
{
    const group_kernel *kernel = (const group_kernel *)base;
    const size_t bytes = cnn_desc_bytes(&kernel->one.arg[CNN_ARG_WEIGHT]);
    cnn_status status = CNN_OK;
    for (int32_t g = 0; g < kernel->count && status == CNN_OK; g++)
        status = kernel->inner[g]->pack(kernel->inner[g], (const char *)weights + (size_t)g * bytes);
    return status;
}

static void destroy(cnn_kernel *base)
{
    group_kernel *kernel = (group_kernel *)base;
    if (!kernel)
        return;
    for (int32_t g = 0; kernel->inner && g < kernel->count; g++)
        if (kernel->inner[g])
            kernel->inner[g]->destroy(kernel->inner[g]);
    kernel->cpu.device->host->free(kernel->inner);
    cnn_cpu_kernel_destroy(base);
}

/* The descriptor of one group. */
static cnn_op_desc group_of(const cnn_op_desc *desc, int32_t groups)
{
    cnn_op_desc one = *desc;
    one.op = (cnn_op)(CNN_OP_CONV + (desc->op - CNN_OP_GROUP_CONV));
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        cnn_tensor_desc *t = &one.arg[role];
        const bool weights = role == CNN_ARG_WEIGHT || (role == CNN_ARG_DST && cnn_op_is_wgrad(desc->op));
        if (t->dtype == CNN_NONE)
            continue;
        t->structure = CNN_DENSE; /* what holds for all weights need not hold for a group's */
        if (weights)
            t->n /= groups;
        else
            t->c_pad = t->c /= groups;
    }
    return one;
}

static int32_t groups_of(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *x = &desc->arg[cnn_op_is_dgrad(desc->op) ? CNN_ARG_DST : CNN_ARG_SRC];
    return x->c / desc->arg[cnn_op_is_wgrad(desc->op) ? CNN_ARG_DST : CNN_ARG_WEIGHT].c;
}

bool cnn_cpu_group_conv_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    const cnn_op_desc one = group_of(desc, groups_of(desc));
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL) && desc->arg[CNN_ARG_SRC].dtype != CNN_I8)
        return cnn_refuse(why, "floats are not pooled behind it");
    switch (one.op) {
    case CNN_OP_CONV:
        return one.arg[CNN_ARG_SRC].dtype == CNN_I8 ? cnn_cpu_conv_i8_suits(&one, isa, why)
                                                    : cnn_cpu_conv_float_suits(&one, isa, why);
    case CNN_OP_CONV_DGRAD:
        return cnn_cpu_conv_float_suits(&one, isa, why);
    default:
        return cnn_cpu_wgrad_float_suits(&one, isa, why);
    }
}

static cnn_status make_inner(group_kernel *kernel)
{
    cnn_device *device = kernel->cpu.device;
    const bool packs = kernel->one.constant_weights && kernel->groups > 1;
    cnn_status status = cnn_backend_cpu.prepare(device, &kernel->one, &kernel->inner[0], NULL);
    kernel->count = 1;
    if (status != CNN_OK || !kernel->inner[0]->pack || !packs)
        return status;
    for (; kernel->count < kernel->groups && status == CNN_OK; kernel->count++)
        status = cnn_backend_cpu.prepare(device, &kernel->one, &kernel->inner[kernel->count], NULL);
    return status;
}

cnn_status cnn_cpu_group_conv_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    group_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->cpu.base.destroy = destroy;
    kernel->groups = groups_of(desc);
    kernel->one = group_of(desc, kernel->groups);
    kernel->inner = device->host->alloc((size_t)kernel->groups * sizeof(cnn_kernel *));
    if (!kernel->inner) {
        destroy(&kernel->cpu.base);
        return device->host->error(CNN_ERR_MEMORY, "device cpu: out of memory for a kernel");
    }
    memset(kernel->inner, 0, (size_t)kernel->groups * sizeof(cnn_kernel *));
    status = make_inner(kernel);
    if (status != CNN_OK) {
        destroy(&kernel->cpu.base);
        return status;
    }
    kernel->inner_bytes = cnn_cpu_aligned(kernel->inner[0]->workspace_bytes);
    size_t bytes = kernel->inner_bytes;
    for (int i = 0; i < ACTIVATIONS; i++) {
        kernel->bytes[i] = is_activation(kernel, activations[i])
                               ? cnn_cpu_aligned(cnn_desc_bytes(&kernel->one.arg[activations[i]]))
                               : 0;
        bytes += kernel->bytes[i];
    }
    kernel->cpu.base.workspace_bytes = bytes;
    kernel->cpu.base.pack = desc->constant_weights && kernel->inner[0]->pack ? pack : NULL;
    kernel->cpu.base.run = run;
    snprintf(kernel->cpu.name, sizeof kernel->cpu.name, "cnn_cpu_groups_of_%.44s", kernel->inner[0]->name + 8);
    kernel->cpu.base.name = kernel->cpu.name;
    *made = &kernel->cpu.base;
    return CNN_OK;
}
