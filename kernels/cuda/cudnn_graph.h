/* Graphs for cuDNN 9: what one op descriptor becomes, as plain data, and the descriptors that cuDNN makes of it.
 *
 * A graph is a list of tensors and of nodes over them; nothing of it knows a device, so it can be printed, compared and
 * hashed. Two graphs are the same exactly when their texts are. Plans are made and run by cudnn_plan.h.
 *
 * All that the backend uses of cuDNN's backend API, for whoever stands in for cuDNN:
 *
 * | descriptor                      | attributes set, always in this form                                          |
 * |---------------------------------|------------------------------------------------------------------------------|
 * | TENSOR                          | UNIQUE_ID (tensor number + 1), DATA_TYPE, DIMENSIONS and STRIDES (4: n c h w), |
 * |                                 | BYTE_ALIGNMENT 16, IS_VIRTUAL or IS_BY_VALUE where true                      |
 * | CONVOLUTION                     | COMP_TYPE, CONV_MODE (cross correlation), SPATIAL_DIMS 2, PRE_PADDINGS,      |
 * |                                 | POST_PADDINGS, FILTER_STRIDES, DILATIONS 1                                   |
 * | OPERATION_CONVOLUTION_FORWARD,  | CONV_DESC, X, W, Y, ALPHA 1, BETA 0 (float); DX, W, DY; X, DW, DY            |
 * | _BACKWARD_DATA, _BACKWARD_FILTER|                                                                              |
 * | POINTWISE                       | MODE (ADD, RELU_FWD, IDENTITY), MATH_PREC                                    |
 * | OPERATION_POINTWISE             | PW_DESCRIPTOR, XDESC, BDESC where the mode takes two, YDESC                  |
 * | OPERATION_NORM_FORWARD          | MODE batch, PHASE training, XDESC, SCALE, BIAS, EPSILON and EXP_AVG_FACTOR   |
 * |                                 | (f32 by value), INPUT_ and OUTPUT_RUNNING_MEAN, _VAR, MEAN, INV_VARIANCE, YDESC |
 * | OPERATION_NORM_BACKWARD         | MODE batch, XDESC, DYDESC, SCALE, MEAN, INV_VARIANCE, DSCALE, DBIAS, DXDESC  |
 * | OPERATIONGRAPH                  | HANDLE (not for a described device), OPS                                     |
 * | ENGINEHEUR                      | OPERATION_GRAPH, MODE (A, then FALLBACK), DEVICEPROP for a described device; |
 * |                                 | RESULTS is read: first how many, then into ENGINECFG descriptors             |
 * | ENGINECFG                       | read: ENGINE                                                                 |
 * | ENGINE                          | read: GLOBAL_INDEX, NUMERICAL_NOTE, BEHAVIOR_NOTE                            |
 * | EXECUTION_PLAN                  | HANDLE (DEVICEPROP for a described device), and ENGINE_CONFIG or, from the   |
 * |                                 | plan cache, JSON_REPRESENTATION; read: WORKSPACE_SIZE and, for the plan      |
 * |                                 | cache, JSON_REPRESENTATION (whoever has none answers NOT_SUPPORTED)          |
 * | VARIANT_PACK                    | UNIQUE_IDS, DATA_POINTERS (by value: host pointers), WORKSPACE               |
 * | DEVICEPROP                      | JSON_REPRESENTATION, for a described device                                  |
 *
 * Calls: cudnnCreate, cudnnSetStream, cudnnDestroy, cudnnGetVersion, cudnnGetErrorString, cudnnGetLastErrorString,
 * cudnnBackendCreateDescriptor, SetAttribute, GetAttribute, Finalize, DestroyDescriptor, Execute. Beside them
 * cudaMalloc, cudaFree, cudaMemsetAsync and cudaMemcpy2DAsync on the device, and for --autotune events and
 * cudaEventElapsedTime. */
#ifndef CNN_CUDA_CUDNN_GRAPH_H
#define CNN_CUDA_CUDNN_GRAPH_H

#include "kernels/cuda/cuda.h"

#if CUDNN_VERSION < 90800
#error "cuDNN 9.8 or newer is needed: it is the first that plans for a described device"
#endif

enum { CNN_CUDNN_TENSORS = 16, CNN_CUDNN_NODES = 5, CNN_CUDNN_PORTS = 12, CNN_CUDNN_TEXT_BYTES = 1024 };

typedef enum cnn_cudnn_kind {
    CNN_CUDNN_CONV,     /* ports x, w, y */
    CNN_CUDNN_DGRAD,    /* dx, w, dy */
    CNN_CUDNN_WGRAD,    /* x, dw, dy */
    CNN_CUDNN_ADD,      /* a, b, y; b may be one value a channel */
    CNN_CUDNN_RELU,     /* x, -, y */
    CNN_CUDNN_IDENTITY, /* x, -, y: a conversion */
    CNN_CUDNN_BN_TRAIN, /* x, scale, bias, eps, factor, running mean and variance before, after, mean, invstd, y */
    CNN_CUDNN_BN_GRAD,  /* x, dy, scale, mean, invstd, dscale, dbias, dx */
    CNN_CUDNN_KIND_COUNT
} cnn_cudnn_kind;

/* Element (n,h,w,c) lies at ((n*H + h)*W + w)*pitch + c: NHWC, weights KRSC with n = output channels. */
typedef struct cnn_cudnn_tensor {
    char name[16]; /* the role's, or "v1" */
    cudnnDataType_t dtype;
    int64_t n, h, w, c, pitch;
    bool is_virtual; /* between nodes only, never in memory */
    bool by_value;   /* one f32 in host memory */
} cnn_cudnn_tensor;

typedef struct cnn_cudnn_node {
    cnn_cudnn_kind kind;
    int port[CNN_CUDNN_PORTS]; /* tensor numbers; -1: absent */
    int64_t pad, stride;       /* convolutions */
    cudnnDataType_t compute;   /* dtype of sums and of pointwise arithmetic */
} cnn_cudnn_node;

typedef struct cnn_cudnn_graph {
    int tensor_count, node_count;
    cnn_cudnn_tensor tensors[CNN_CUDNN_TENSORS];
    cnn_cudnn_node nodes[CNN_CUDNN_NODES];
} cnn_cudnn_graph;

/* CUDNN_DATA_HALF of CNN_F16, ... Only of dtypes that cuDNN has. */
cudnnDataType_t cnn_cudnn_dtype(cnn_dtype dtype);

/* Append a tensor and return its number: in memory with all c_pad channels as channels; like another one but between
 * nodes; one f32 by value. */
int cnn_cudnn_add_tensor(cnn_cudnn_graph *graph, const char *name, const cnn_tensor_desc *desc);
int cnn_cudnn_add_virtual(cnn_cudnn_graph *graph, cudnnDataType_t dtype, int like);
int cnn_cudnn_add_scalar(cnn_cudnn_graph *graph, const char *name);

/* Append a node over `count` tensors in the order of the kind's ports. The caller sets pad and stride. */
cnn_cudnn_node *cnn_cudnn_add_node(cnn_cudnn_graph *graph, cnn_cudnn_kind kind, cudnnDataType_t compute, int count,
                                   const int *tensors);

/* "conv(src:f16[64,14,14,128], weight:f16[256,5,5,128], pad 2, stride 1) v1:f32; relu(v1) dst:f16[64,14,14,256]".
 * Returns text, of CNN_CUDNN_TEXT_BYTES. */
char *cnn_cudnn_graph_print(const cnn_cudnn_graph *graph, char *text);

/* ---- Descriptors ---- */

enum { CNN_CUDNN_DESCRIPTORS = 160 };

/* Descriptors in the order in which they were made, and the first failure: after it the calls below do nothing. */
typedef struct cnn_cudnn_maker {
    const cnn_host *host;
    const char *subject; /* what is being made, for messages: the op and its shapes */
    cnn_status status;
    bool quiet; /* failures are expected and not recorded: candidates */
    int count;
    cudnnBackendDescriptor_t made[CNN_CUDNN_DESCRIPTORS];
} cnn_cudnn_maker;

/* Records a failed call as "device cuda: conv src=...: cudnnBackendFinalize(plan) failed: ..." and returns its status.
 */
cnn_status cnn_cudnn_check(cnn_cudnn_maker *maker, cudnnStatus_t status, const char *call, const char *what);
cudnnBackendDescriptor_t cnn_cudnn_create(cnn_cudnn_maker *maker, cudnnBackendDescriptorType_t type);
void cnn_cudnn_set(cnn_cudnn_maker *maker, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t attribute,
                   cudnnBackendAttributeType_t type, int64_t count, const void *values, const char *what);
void cnn_cudnn_finalize(cnn_cudnn_maker *maker, cudnnBackendDescriptor_t descriptor, const char *what);
/* Destroys those made after the first `keep`, the last one first. */
void cnn_cudnn_release(cnn_cudnn_maker *maker, int keep);

#define CNN_CUDNN_SET(maker, descriptor, attribute, type, count, values) \
    cnn_cudnn_set(maker, descriptor, attribute, type, count, values, #attribute)

/* The finalized operation graph; of a described device when handle is NULL. */
cudnnBackendDescriptor_t cnn_cudnn_graph_make(cnn_cudnn_maker *maker, const cnn_cudnn_graph *graph,
                                              cudnnHandle_t handle);

#endif
