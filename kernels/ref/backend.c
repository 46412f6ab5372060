/* The reference backend: host memory, and one row an op. It refuses only descriptors that ops.h does not define. */
#include "kernels/ref/ref.h"

#include <string.h>

struct cnn_device {
    const cnn_host *host;
};

typedef struct ref_kernel {
    cnn_kernel base;
    const cnn_host *host;
    cnn_ref_op *compute;
} ref_kernel;

typedef struct ref_row {
    const char *name;
    cnn_ref_op *compute;
    size_t (*workspace)(const cnn_op_desc *desc); /* NULL: none */
} ref_row;

static const ref_row rows[CNN_OP_COUNT] = {
    [CNN_OP_CONV] = {"cnn_ref_conv", cnn_ref_conv, cnn_ref_conv_workspace},
    [CNN_OP_CONV_DGRAD] = {"cnn_ref_conv_dgrad", cnn_ref_conv_dgrad, cnn_ref_conv_workspace},
    [CNN_OP_CONV_WGRAD] = {"cnn_ref_conv_wgrad", cnn_ref_conv_wgrad, cnn_ref_conv_workspace},
    [CNN_OP_GROUP_CONV] = {"cnn_ref_group_conv", cnn_ref_conv, cnn_ref_conv_workspace},
    [CNN_OP_GROUP_CONV_DGRAD] = {"cnn_ref_group_conv_dgrad", cnn_ref_conv_dgrad, cnn_ref_conv_workspace},
    [CNN_OP_GROUP_CONV_WGRAD] = {"cnn_ref_group_conv_wgrad", cnn_ref_conv_wgrad, cnn_ref_conv_workspace},
    [CNN_OP_LINEAR] = {"cnn_ref_linear", cnn_ref_conv, cnn_ref_conv_workspace},
    [CNN_OP_LINEAR_DGRAD] = {"cnn_ref_linear_dgrad", cnn_ref_conv_dgrad, cnn_ref_conv_workspace},
    [CNN_OP_LINEAR_WGRAD] = {"cnn_ref_linear_wgrad", cnn_ref_conv_wgrad, cnn_ref_conv_workspace},
    [CNN_OP_BN_TRAIN] = {"cnn_ref_bn_train", cnn_ref_bn_train, NULL},
    [CNN_OP_BN_INFER] = {"cnn_ref_bn_infer", cnn_ref_bn_infer, NULL},
    [CNN_OP_BN_GRAD] = {"cnn_ref_bn_grad", cnn_ref_bn_grad, NULL},
    [CNN_OP_RELU] = {"cnn_ref_relu", cnn_ref_relu, NULL},
    [CNN_OP_RELU_GRAD] = {"cnn_ref_relu_grad", cnn_ref_relu_grad, NULL},
    [CNN_OP_CLIP] = {"cnn_ref_clip", cnn_ref_clip, NULL},
    [CNN_OP_CLIP_GRAD] = {"cnn_ref_clip_grad", cnn_ref_clip_grad, NULL},
    [CNN_OP_LEAKY_RELU] = {"cnn_ref_leaky_relu", cnn_ref_leaky_relu, NULL},
    [CNN_OP_LEAKY_RELU_GRAD] = {"cnn_ref_leaky_relu_grad", cnn_ref_leaky_relu_grad, NULL},
    [CNN_OP_MAXPOOL] = {"cnn_ref_maxpool", cnn_ref_maxpool, NULL},
    [CNN_OP_MAXPOOL_GRAD] = {"cnn_ref_maxpool_grad", cnn_ref_maxpool_grad, NULL},
    [CNN_OP_AVGPOOL] = {"cnn_ref_avgpool", cnn_ref_avgpool, NULL},
    [CNN_OP_AVGPOOL_GRAD] = {"cnn_ref_avgpool_grad", cnn_ref_avgpool_grad, NULL},
    [CNN_OP_ADD] = {"cnn_ref_add", cnn_ref_add, NULL},
    [CNN_OP_CONCAT] = {"cnn_ref_concat", cnn_ref_concat, NULL},
    [CNN_OP_CONCAT_GRAD] = {"cnn_ref_concat_grad", cnn_ref_concat_grad, NULL},
    [CNN_OP_DROPOUT] = {"cnn_ref_dropout", cnn_ref_dropout, NULL},
    [CNN_OP_INPUT] = {"cnn_ref_input", cnn_ref_input, cnn_ref_input_workspace},
    [CNN_OP_LOSS] = {"cnn_ref_loss", cnn_ref_loss, NULL},
    [CNN_OP_REQUANTIZE] = {"cnn_ref_requantize", cnn_ref_requantize, NULL},
    [CNN_OP_DEQUANTIZE] = {"cnn_ref_dequantize", cnn_ref_dequantize, NULL},
    [CNN_OP_MASK] = {"cnn_ref_mask", cnn_ref_mask, NULL},
    [CNN_OP_GRAD_STATS] = {"cnn_ref_grad_stats", cnn_ref_grad_stats, NULL},
    [CNN_OP_SGD] = {"cnn_ref_sgd", cnn_ref_sgd, NULL},
    [CNN_OP_ADAM] = {"cnn_ref_adam", cnn_ref_adam, NULL},
    [CNN_OP_BN_UPDATE] = {"cnn_ref_bn_update", cnn_ref_bn_update, NULL},
    [CNN_OP_EMA] = {"cnn_ref_ema", cnn_ref_ema, NULL},
    [CNN_OP_LOSS_SCALE] = {"cnn_ref_loss_scale", cnn_ref_loss_scale, NULL},
    [CNN_OP_GRID] = {"cnn_ref_grid", cnn_ref_grid, NULL},
    [CNN_OP_GRID_GRAD] = {"cnn_ref_grid_grad", cnn_ref_grid_grad, NULL},
};

/* ---- Device ---- */

static cnn_status ref_open(const cnn_host *host, const cnn_device_options *options, cnn_device **device)
{
    (void)options;
    if (host->version != CNN_BACKEND_VERSION)
        return host->error(CNN_ERR_UNSUPPORTED,
                           "device ref: the library speaks version %u of the backend interface and ref %d",
                           host->version, CNN_BACKEND_VERSION);
    cnn_device *opened = host->alloc(sizeof *opened);
    if (!opened)
        return CNN_ERR_MEMORY;
    opened->host = host;
    *device = opened;
    return CNN_OK;
}

static void ref_close(cnn_device *device)
{
    if (device)
        device->host->free(device);
}

static const char *ref_describe(cnn_device *device)
{
    (void)device;
    return "reference, plain C, one thread";
}

static const char *ref_level(cnn_device *device)
{
    (void)device;
    return "plain C";
}

static void *ref_alloc(cnn_device *device, size_t bytes)
{
    return device->host->alloc(bytes);
}

static void ref_free(cnn_device *device, void *memory)
{
    device->host->free(memory);
}

static cnn_status ref_copy(cnn_device *device, void *dst, const void *src, size_t bytes, cnn_copy kind)
{
    (void)device;
    (void)kind;
    if (bytes > 0)
        memmove(dst, src, bytes);
    return CNN_OK;
}

static cnn_status ref_sync(cnn_device *device)
{
    (void)device;
    return CNN_OK;
}

static int ref_channel_align(cnn_device *device, cnn_dtype dtype)
{
    (void)device;
    (void)dtype;
    return 1;
}

/* ---- Kernels ---- */

static cnn_status kernel_run(cnn_kernel *kernel, void *const args[CNN_ARG_COUNT], void *workspace)
{
    ((ref_kernel *)kernel)->compute(&kernel->desc, args, workspace);
    return CNN_OK;
}

static void kernel_destroy(cnn_kernel *kernel)
{
    const cnn_host *host = ((ref_kernel *)kernel)->host;
    host->free(kernel);
}

static cnn_status ref_prepare(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel, char *why)
{
    if (!cnn_ref_check(desc, why))
        return CNN_ERR_UNSUPPORTED;
    /* It defines such an op but wants no programs of it: training on the reference rounds after each layer. */
    bool pools = (desc->op == CNN_OP_BN_TRAIN || desc->op == CNN_OP_BN_GRAD || desc->op == CNN_OP_CONV) &&
                 desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE;
    if (!kernel && pools && why)
        strcpy(why, "the reference pools in an op of its own");
    if (!kernel)
        return pools ? CNN_ERR_UNSUPPORTED : CNN_OK;
    ref_kernel *made = device->host->alloc(sizeof *made);
    if (!made)
        return CNN_ERR_MEMORY;
    const ref_row *row = &rows[desc->op];
    *made = (ref_kernel){.host = device->host, .compute = row->compute};
    made->base.desc = *desc;
    made->base.name = row->name;
    made->base.workspace_bytes = row->workspace ? row->workspace(desc) : 0;
    made->base.run = kernel_run;
    made->base.destroy = kernel_destroy;
    *kernel = &made->base;
    return CNN_OK;
}

const cnn_backend cnn_backend_ref = {
    .version = CNN_BACKEND_VERSION,
    .name = "ref",
    .summary = "the specification in plain C: slow, for comparison",
    .host_memory = true,
    .open = ref_open,
    .close = ref_close,
    .describe = ref_describe,
    .level = ref_level,
    .alloc = ref_alloc,
    .free = ref_free,
    .copy = ref_copy,
    .sync = ref_sync,
    .channel_align = ref_channel_align,
    .prepare = ref_prepare,
};
