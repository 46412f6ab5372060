/* The CUDA backend: opens a GPU and chooses an implementation for each op from the tables. */
#include "kernels/cuda/device.h"
#include "kernels/refuse.h"

#include <stdio.h>
#include <string.h>

const cnn_cuda_impl *const cnn_cuda_tables[] = {cnn_cuda_tensor_impls, cnn_cuda_cudnn_impls, cnn_cuda_blas_impls,
                                                cnn_cuda_kernel_impls, NULL};

cnn_status cnn_cuda_check(const cnn_device *device, cudaError_t error, const char *call)
{
    if (error == cudaSuccess)
        return CNN_OK;
    return device->host->error(error == cudaErrorMemoryAllocation ? CNN_ERR_MEMORY : CNN_ERR_DEVICE,
                               "device " CNN_CUDA_NAME ": %s failed: %s (%s)", call, cudaGetErrorString(error),
                               cudaGetErrorName(error));
}

/* ---- Kernels ---- */

cnn_status cnn_cuda_kernel_new(cnn_device *device, const cnn_op_desc *desc, size_t struct_bytes, void *kernel_out)
{
    cnn_cuda_kernel *kernel = device->host->alloc(struct_bytes);
    if (!kernel)
        return device->host->error(CNN_ERR_MEMORY, "device " CNN_CUDA_NAME ": out of memory for a kernel");
    memset(kernel, 0, struct_bytes);
    kernel->base.desc = *desc;
    kernel->base.destroy = cnn_cuda_kernel_destroy;
    kernel->device = device;
    memcpy(kernel_out, &kernel, sizeof kernel);
    return CNN_OK;
}

void cnn_cuda_kernel_destroy(cnn_kernel *base)
{
    cnn_cuda_kernel *kernel = (cnn_cuda_kernel *)base;
    if (!kernel)
        return;
    const cnn_host *host = kernel->device->host;
    (void)cudaFree(kernel->packed);
    host->free(kernel);
}

static cnn_status launch(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const cnn_cuda_kernel *kernel = (const cnn_cuda_kernel *)base;
    cudaError_t error = kernel->impl->launch(&base->desc, args, workspace, &kernel->device->queue);
    return error == cudaSuccess ? CNN_OK : cnn_cuda_check(kernel->device, error, kernel->impl->name);
}

static bool left_out(const cnn_device *device, const cnn_cuda_impl *table)
{
    return device->own && (table == cnn_cuda_cudnn_impls || table == cnn_cuda_blas_impls);
}

const cnn_cuda_impl *cnn_cuda_choose(const cnn_device *device, const cnn_op_desc *desc, const cnn_cuda_impl *after,
                                     char *why)
{
    if (cnn_op_is_pooled_grad(desc)) {
        snprintf(why, CNN_REASON_BYTES, "no gradient of a convolution reads an index here");
        return NULL;
    }
    for (int table = 0; cnn_cuda_tables[table]; table++)
        for (const cnn_cuda_impl *impl = cnn_cuda_tables[table]; impl->op != CNN_OP_NONE; impl++) {
            char reason[CNN_REASON_BYTES] = "";
            if (after) {
                after = after == impl ? NULL : after;
                continue;
            }
            if (impl->op != desc->op || left_out(device, cnn_cuda_tables[table]))
                continue;
            if (!impl->suits || impl->suits(desc, device, reason))
                return impl;
            cnn_add_reason(why, impl->name, reason);
        }
    if (!*why)
        snprintf(why, CNN_REASON_BYTES, "there is no implementation of this op");
    return NULL;
}

static cnn_status make_launched(cnn_device *device, const cnn_op_desc *desc, const cnn_cuda_impl *impl,
                                cnn_kernel **kernel)
{
    cnn_status status = cnn_cuda_kernel_new(device, desc, sizeof(cnn_cuda_kernel), kernel);
    if (status == CNN_OK) {
        (*kernel)->run = launch;
        (*kernel)->workspace_bytes = impl->workspace ? impl->workspace(desc) : 0;
    }
    return status;
}

/* Takes the first that suits. A library may still turn out to have nothing for the op on this GPU: then the next. */
static cnn_status cuda_prepare(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel, char *why)
{
    char reasons[CNN_REASON_BYTES] = "";
    const cnn_cuda_impl *impl = cnn_cuda_choose(device, desc, NULL, reasons);
    cnn_status status = impl ? CNN_OK : CNN_ERR_UNSUPPORTED;
    while (impl && kernel) {
        status = impl->make ? impl->make(device, desc, kernel) : make_launched(device, desc, impl, kernel);
        if (status != CNN_ERR_UNSUPPORTED)
            break;
        cnn_add_reason(reasons, impl->name, "its library has nothing for it on this GPU");
        impl = cnn_cuda_choose(device, desc, impl, reasons);
    }
    if (why)
        memcpy(why, reasons, sizeof reasons);
    if (!kernel) /* only asked: a no is not a failure to record */
        return status;
    if (!impl)
        return device->host->error(CNN_ERR_UNSUPPORTED, "device " CNN_CUDA_NAME " cannot run this op: %s", reasons);
    if (status == CNN_OK) {
        ((cnn_cuda_kernel *)*kernel)->impl = impl;
        if (!(*kernel)->name)
            (*kernel)->name = impl->name;
    }
    return status;
}

/* ---- The table ---- */

static const char *cuda_describe(cnn_device *device)
{
    return device->description;
}

static const char *cuda_level(cnn_device *device)
{
    return device->level;
}

/* cuDNN and cuBLASLt read INT8 in vectors of 16 channels; float tensors are as wide as they are. */
static int cuda_channel_align(cnn_device *device, cnn_dtype dtype)
{
    (void)device;
    return dtype == CNN_I8 ? 16 : 1;
}

static const char *const ordinals[] = {"0", "1", "2", "3", "4", "5", "6", "7", NULL};

static const cnn_backend backend = {
    .version = CNN_BACKEND_VERSION,
    .name = CNN_CUDA_NAME,
    .summary = "an NVIDIA GPU",
    .host_memory = false,
    .variants = ordinals,
    .open = cnn_cuda_open,
    .close = cnn_cuda_close,
    .describe = cuda_describe,
    .level = cuda_level,
    .alloc = cnn_cuda_alloc,
    .free = cnn_cuda_free,
    .memory = cnn_cuda_memory,
    .copy = cnn_cuda_copy,
    .sync = cnn_cuda_sync,
    .mark = cnn_cuda_mark,
    .wait = cnn_cuda_wait,
    .alloc_host = cnn_cuda_alloc_host,
    .free_host = cnn_cuda_free_host,
    .copy_async = cnn_cuda_copy_async,
    .record_begin = cnn_cuda_record_begin,
    .record_end = cnn_cuda_record_end,
    .replay = cnn_cuda_replay,
    .recording_free = cnn_cuda_recording_free,
    .channel_align = cuda_channel_align,
    .prepare = cuda_prepare,
};

CNN_API cnn_plugin_fn cnn_plugin;

const cnn_backend *cnn_plugin(void)
{
    return &backend;
}
