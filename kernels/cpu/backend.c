/* The CPU backend: opens the device and chooses an implementation for each op from two tables. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static cnn_status cpu_open(const cnn_host *host, const cnn_device_options *options, cnn_device **device)
{
    cnn_cpu_isa isa;
    cnn_status status = cnn_cpu_isa_choose(host, options ? options->variant : NULL, &isa);
    if (status != CNN_OK)
        return status;
    cnn_device *opened = host->alloc(sizeof *opened);
    if (!opened)
        return host->error(CNN_ERR_MEMORY, "device cpu: out of memory");
    char model[64];
    cnn_cpu_model_name(model, sizeof model);
    opened->host = host;
    opened->isa = isa;
    snprintf(opened->description, sizeof opened->description, "%s, %s, %d thread%s", model, cnn_cpu_isa_name(isa),
             host->threads(), host->threads() == 1 ? "" : "s");
    *device = opened;
    return CNN_OK;
}

static void cpu_close(cnn_device *device)
{
    if (device)
        device->host->free(device);
}

static const char *cpu_describe(cnn_device *device)
{
    return device->description;
}

static const char *cpu_level(cnn_device *device)
{
    return cnn_cpu_isa_name(device->isa);
}

static void *cpu_alloc(cnn_device *device, size_t bytes)
{
    return device->host->alloc(bytes);
}

static void cpu_free(cnn_device *device, void *memory)
{
    device->host->free(memory);
}

static cnn_status cpu_copy(cnn_device *device, void *dst, const void *src, size_t bytes, cnn_copy kind)
{
    (void)device;
    (void)kind;
    memmove(dst, src, bytes);
    return CNN_OK;
}

static cnn_status cpu_sync(cnn_device *device)
{
    (void)device;
    return CNN_OK;
}

/* The kernels handle every channel count, so nothing is padded. */
static int cpu_channel_align(cnn_device *device, cnn_dtype dtype)
{
    (void)device;
    (void)dtype;
    return 1;
}

cnn_status cnn_cpu_kernel_new(cnn_device *device, const cnn_op_desc *desc, size_t struct_bytes, void *kernel_out)
{
    cnn_cpu_kernel *kernel = device->host->alloc(struct_bytes);
    if (!kernel)
        return device->host->error(CNN_ERR_MEMORY, "device cpu: out of memory for a kernel");
    memset(kernel, 0, struct_bytes);
    kernel->base.desc = *desc;
    kernel->base.destroy = cnn_cpu_kernel_destroy;
    kernel->device = device;
    memcpy(kernel_out, &kernel, sizeof kernel);
    return CNN_OK;
}

void cnn_cpu_kernel_destroy(cnn_kernel *base)
{
    cnn_cpu_kernel *kernel = (cnn_cpu_kernel *)base;
    if (!kernel)
        return;
    const cnn_host *host = kernel->device->host;
    host->free(kernel->packed);
    host->free(kernel);
}

/* A region of `slots` tasks, each of which takes tasks of the real region until there are none left. */
typedef struct slotted {
    cnn_task_fn run;
    void *context;
    int tasks;
    atomic_int next;
} slotted;

static void run_slot(void *context, int slot, int worker)
{
    slotted *region = context;
    (void)worker;
    for (int task; (task = atomic_fetch_add(&region->next, 1)) < region->tasks;)
        region->run(region->context, task, slot);
}

void cnn_cpu_parallel(const cnn_host *host, int tasks, int slots, cnn_task_fn run, void *context)
{
    if (host->threads() <= slots) {
        host->parallel(tasks, run, context);
        return;
    }
    slotted region = {run, context, tasks, 0};
    host->parallel(slots, run_slot, &region);
}

/* Of convolutions' gradients these alone know what an index of pooled pixels says. */
static bool reads_index(const cnn_cpu_impl *impl)
{
    return impl->suits == cnn_cpu_dgrad_pooled_suits || impl->suits == cnn_cpu_wgrad_pooled_suits;
}

/* The first row of the table that suits, or NULL with the reasons of those that do not added to `why`. */
static const cnn_cpu_impl *choose(const cnn_cpu_impl *table, const cnn_device *device, const cnn_op_desc *desc,
                                  char *why)
{
    for (const cnn_cpu_impl *impl = table; impl->op != CNN_OP_NONE; impl++) {
        if (impl->op != desc->op)
            continue;
        char reason[CNN_REASON_BYTES] = "";
        if (!cnn_cpu_isa_holds(device->isa, impl->isa))
            snprintf(reason, sizeof reason, "needs level %s", cnn_cpu_isa_name(impl->isa));
        else if (cnn_op_is_pooled_grad(desc) && !reads_index(impl))
            snprintf(reason, sizeof reason, "reads no index");
        else if (!impl->suits || impl->suits(desc, device->isa, reason))
            return impl;
        cnn_add_reason(why, impl->name, reason);
    }
    return NULL;
}

/* Pooling moves into a convolution only where it would have that kernel without it, too. */
static bool pools_well(const cnn_device *device, const cnn_op_desc *desc, const cnn_cpu_impl *impl, char *why)
{
    cnn_op_desc plain;
    char reasons[CNN_REASON_BYTES] = "";
    if (desc->op != CNN_OP_CONV || !cnn_epilogue_unpool(desc, &plain) ||
        choose(cnn_cpu_float_impls, device, &plain, reasons) == impl)
        return true;
    return cnn_refuse(why, "the convolution is faster without the pooling");
}

static cnn_status cpu_prepare(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel, char *why)
{
    char reasons[CNN_REASON_BYTES] = "";
    /* There are kernels for it, but who asks whether to merge a sum is better off without: a few channels of a pixel at
     * a time take longer than a pass over what is still in cache. */
    if (!kernel && cnn_op_has_epilogue(desc, CNN_EPILOGUE_ADD)) {
        if (why)
            snprintf(why, CNN_REASON_BYTES, "sums are faster as passes of their own");
        return CNN_ERR_UNSUPPORTED;
    }
    const cnn_cpu_impl *impl = choose(cnn_cpu_i8_impls, device, desc, reasons);
    if (!impl)
        impl = choose(cnn_cpu_float_impls, device, desc, reasons);
    if (!kernel && impl && !pools_well(device, desc, impl, reasons))
        impl = NULL;
    if (!impl && !*reasons)
        snprintf(reasons, sizeof reasons, "there is no implementation of this op");
    if (why)
        memcpy(why, reasons, sizeof reasons);
    if (!kernel) /* only asked: a no is not a failure to record */
        return impl ? CNN_OK : CNN_ERR_UNSUPPORTED;
    if (!impl) {
        const cnn_op_info *info = cnn_op_info_get(desc->op);
        return device->host->error(CNN_ERR_UNSUPPORTED, "device cpu cannot run %s: %s", info ? info->name : "this op",
                                   reasons);
    }
    cnn_status status = impl->make(device, desc, kernel);
    if (status == CNN_OK && !(*kernel)->name)
        (*kernel)->name = impl->name;
    return status;
}

const cnn_backend cnn_backend_cpu = {
    .version = CNN_BACKEND_VERSION,
    .name = "cpu",
    .summary = "this computer's processor",
    .host_memory = true,
    .variants = cnn_cpu_isa_built,
    .open = cpu_open,
    .close = cpu_close,
    .describe = cpu_describe,
    .level = cpu_level,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .copy = cpu_copy,
    .sync = cpu_sync,
    .channel_align = cpu_channel_align,
    .prepare = cpu_prepare,
};
