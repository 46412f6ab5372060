/* From op descriptors to cuDNN graphs, and the kernels that run them. */
#ifndef CNN_CUDA_CUDNN_OPS_H
#define CNN_CUDA_CUDNN_OPS_H

#include "kernels/cuda/cudnn_plan.h"

/* Where a tensor of a graph lies: below CNN_ARG_COUNT in the op's argument of that role, else here. */
enum {
    CNN_CUDNN_SUMS = CNN_ARG_COUNT, /* i32 sums of an INT8 convolution, in the workspace */
    CNN_CUDNN_UNUSED,               /* a result that nobody reads, in the workspace */
    CNN_CUDNN_EPS,                  /* scalars, in the kernel */
    CNN_CUDNN_FACTOR,
    CNN_CUDNN_BETWEEN /* virtual */
};

/* A graph and the place of each of its tensors. */
typedef struct cnn_cudnn_op {
    cnn_cudnn_graph graph;
    int place[CNN_CUDNN_TENSORS];
} cnn_cudnn_op;

/* The graph of a descriptor that a row of cnn_cuda_cudnn_impls suits. */
void cnn_cudnn_op_graph(const cnn_op_desc *desc, cnn_cudnn_op *op);

/* INT8 weights lie in device memory of the kernel, with padding channels; else they are read where they are. */
bool cnn_cudnn_packs(const cnn_op_desc *desc);

/* The `suits` of the rows; a reason in `why`. */
bool cnn_cudnn_suits_conv(const cnn_op_desc *desc, const cnn_device *device, char *why);
bool cnn_cudnn_suits_conv_grad(const cnn_op_desc *desc, const cnn_device *device, char *why);
bool cnn_cudnn_suits_conv_i8(const cnn_op_desc *desc, const cnn_device *device, char *why);
bool cnn_cudnn_suits_bn(const cnn_op_desc *desc, const cnn_device *device, char *why);

/* The `make` of the rows: a kernel that begins with this. */
typedef struct cnn_cudnn_kernel {
    cnn_cuda_kernel base;
    cnn_cudnn_plan *plan;
    int place[CNN_CUDNN_TENSORS];
    float eps, factor;
    size_t behind; /* bytes of cuDNN's workspace; what we need ourselves lies behind it */
} cnn_cudnn_kernel;
cnn_status cnn_cudnn_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

#endif
