/* Kernels over plans: cuDNN's part, then what our own kernels add to it.
 *
 * The workspace is cuDNN's, and behind it ours: the i32 sums of an INT8 convolution, the scratch of a bias gradient, or
 * the result that nobody reads. */
#include "kernels/cuda/cudnn_ops.h"
#include "kernels/cuda/kernels.h"

#include <string.h>

static size_t align_up(size_t bytes)
{
    return (bytes + CNN_ALIGN - 1) / CNN_ALIGN * CNN_ALIGN;
}

/* ---- Weights ---- */

/* [K,R,S,C] becomes [K16,R,S,c_pad], the padding 0. */
static cnn_status pack(cnn_kernel *base, const void *weights)
{
    cnn_cudnn_kernel *kernel = (cnn_cudnn_kernel *)base;
    const cnn_device *device = kernel->base.device;
    const cnn_tensor_desc *weight = &base->desc.arg[CNN_ARG_WEIGHT];
    const cnn_cudnn_tensor *packed = &kernel->plan->graph.tensors[kernel->plan->graph.nodes[0].port[1]];
    const size_t bytes = (size_t)(packed->n * packed->h * packed->w * packed->pitch);
    cnn_status status = cnn_cuda_check(device, cudaMalloc(&kernel->base.packed, bytes), "cudaMalloc");
    if (status == CNN_OK)
        status = cnn_cuda_check(device,
                                cnn_cuda_pad_weights(weight, weights, (int32_t)packed->n, (int32_t)packed->pitch,
                                                     kernel->base.packed, device->queue.stream),
                                "cnn_cuda_pad_weights");
    return status;
}

/* ---- Running ---- */

static void find_pointers(cnn_cudnn_kernel *kernel, void *const *args, void *ours, void **pointers)
{
    for (int i = 0; i < kernel->plan->graph.tensor_count; i++) {
        const int place = kernel->place[i];
        pointers[i] = place == CNN_CUDNN_EPS                                 ? &kernel->eps
                      : place == CNN_CUDNN_FACTOR                            ? &kernel->factor
                      : place == CNN_ARG_WEIGHT && kernel->base.packed       ? kernel->base.packed
                      : place == CNN_CUDNN_SUMS || place == CNN_CUDNN_UNUSED ? ours
                      : place < CNN_ARG_COUNT                                ? args[place]
                                                                             : NULL;
    }
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    cnn_cudnn_kernel *kernel = (cnn_cudnn_kernel *)base;
    const cnn_device *device = kernel->base.device;
    const cnn_op_desc *desc = &base->desc;
    void *pointers[CNN_CUDNN_TENSORS], *ours = (char *)workspace + kernel->behind;
    find_pointers(kernel, args, ours, pointers);
    cnn_status status = cnn_cudnn_plan_run(kernel->plan, pointers, workspace);
    if (status != CNN_OK)
        return status;
    if (desc->op == CNN_OP_CONV && desc->arg[CNN_ARG_SRC].dtype == CNN_I8) {
        const int32_t pitch = (int32_t)kernel->plan->graph.tensors[kernel->plan->graph.nodes[0].port[2]].pitch;
        return cnn_cuda_check(device, cnn_cuda_i32_epilogue(desc, args, ours, pitch, device->queue.stream),
                              "cnn_cuda_i32_epilogue");
    }
    if (desc->op == CNN_OP_CONV_WGRAD && desc->arg[CNN_ARG_DST2].dtype != CNN_NONE) {
        const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC2];
        return cnn_cuda_check(device,
                              cnn_cuda_column_sum(args[CNN_ARG_SRC2], dy->dtype, cnn_desc_pixels(dy), dy->c, dy->c_pad,
                                                  args[CNN_ARG_DST2], ours, &device->queue),
                              "cnn_cuda_column_sum");
    }
    return CNN_OK;
}

/* ---- Making ---- */

/* Bytes behind cuDNN's workspace. */
static size_t own_bytes(const cnn_op_desc *desc, const cnn_cudnn_op *op)
{
    size_t bytes = 0;
    for (int i = 0; i < op->graph.tensor_count; i++) {
        const cnn_cudnn_tensor *tensor = &op->graph.tensors[i];
        if (op->place[i] == CNN_CUDNN_SUMS || op->place[i] == CNN_CUDNN_UNUSED)
            bytes = 4 * (size_t)(tensor->n * tensor->h * tensor->w * tensor->pitch);
    }
    if (desc->op == CNN_OP_CONV_WGRAD && desc->arg[CNN_ARG_DST2].dtype != CNN_NONE) {
        const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC2];
        bytes = cnn_cuda_column_sum_workspace(cnn_desc_pixels(dy), dy->c);
    }
    return bytes;
}

static void destroy(cnn_kernel *base)
{
    if (base)
        cnn_cudnn_plan_free(((cnn_cudnn_kernel *)base)->plan);
    cnn_cuda_kernel_destroy(base);
}

cnn_status cnn_cudnn_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    cnn_cudnn_kernel *kernel = NULL;
    cnn_cudnn_op op;
    char subject[CNN_CUDNN_SUBJECT_BYTES];
    cnn_cudnn_op_graph(desc, &op);
    cnn_status status = cnn_cuda_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->base.base.destroy = destroy;
    kernel->base.base.run = run;
    kernel->base.base.pack = cnn_cudnn_packs(desc) ? pack : NULL;
    kernel->eps = desc->eps;
    kernel->factor = 1;
    memcpy(kernel->place, op.place, sizeof kernel->place);
    status = cnn_cudnn_plan_make(device, &op.graph, cnn_op_desc_print(desc, subject, sizeof subject), &kernel->plan);
    if (status != CNN_OK) {
        destroy(&kernel->base.base);
        return status;
    }
    kernel->behind = align_up(kernel->plan->workspace_bytes);
    kernel->base.base.workspace_bytes = kernel->behind + own_bytes(desc, &op);
    *made = &kernel->base.base;
    return CNN_OK;
}
