/* Graphs as data, and the cuDNN descriptors made of them. */
#include "kernels/cuda/cudnn_graph.h"

#include "kernels/cuda/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What a kind of node is in cuDNN: its descriptor and the attribute of each port, 0 where there is none. */
typedef struct node_info {
    const char *name;
    cudnnBackendDescriptorType_t type;
    int output; /* the port that the text shows as the node's result */
    int ports[CNN_CUDNN_PORTS];
} node_info;

#define POINTWISE_PORTS                                                             \
    {                                                                               \
        CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, \
            CUDNN_ATTR_OPERATION_POINTWISE_YDESC                                    \
    }

static const node_info infos[CNN_CUDNN_KIND_COUNT] = {
    [CNN_CUDNN_CONV] = {"conv",
                        CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                        2,
                        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y}},
    [CNN_CUDNN_DGRAD] = {"dgrad",
                         CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                         0,
                         {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY}},
    [CNN_CUDNN_WGRAD] = {"wgrad",
                         CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                         1,
                         {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY}},
    [CNN_CUDNN_ADD] = {"add", CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, 2, POINTWISE_PORTS},
    [CNN_CUDNN_RELU] = {"relu", CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, 2, POINTWISE_PORTS},
    [CNN_CUDNN_IDENTITY] = {"convert", CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, 2, POINTWISE_PORTS},
    [CNN_CUDNN_BN_TRAIN] =
        {"bn_train",
         CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR,
         11,
         {CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC,
          CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC,
          CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC,
          CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC, CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC,
          CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC, CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC,
          CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC, CUDNN_ATTR_OPERATION_NORM_FWD_YDESC}},
    [CNN_CUDNN_BN_GRAD] = {"bn_grad",
                           CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR,
                           7,
                           {CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC,
                            CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC, CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC,
                            CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC, CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC,
                            CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC, CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC}},
};

/* ---- Graphs ---- */

cudnnDataType_t cnn_cudnn_dtype(cnn_dtype dtype)
{
    switch (dtype) {
    case CNN_F16:
        return CUDNN_DATA_HALF;
    case CNN_BF16:
        return CUDNN_DATA_BFLOAT16;
    case CNN_I8:
        return CUDNN_DATA_INT8;
    case CNN_I32:
        return CUDNN_DATA_INT32;
    default:
        return CUDNN_DATA_FLOAT;
    }
}

static const char *dtype_name(cudnnDataType_t dtype)
{
    switch (dtype) {
    case CUDNN_DATA_HALF:
        return "f16";
    case CUDNN_DATA_BFLOAT16:
        return "bf16";
    case CUDNN_DATA_INT8:
        return "i8";
    case CUDNN_DATA_INT32:
        return "i32";
    default:
        return "f32";
    }
}

int cnn_cudnn_add_tensor(cnn_cudnn_graph *graph, const char *name, const cnn_tensor_desc *desc)
{
    cnn_cudnn_tensor *tensor = &graph->tensors[graph->tensor_count];
    *tensor = (cnn_cudnn_tensor){.dtype = cnn_cudnn_dtype(desc->dtype),
                                 .n = desc->n,
                                 .h = desc->h,
                                 .w = desc->w,
                                 .c = desc->c_pad,
                                 .pitch = desc->c_pad};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    return graph->tensor_count++;
}

int cnn_cudnn_add_virtual(cnn_cudnn_graph *graph, cudnnDataType_t dtype, int like)
{
    cnn_cudnn_tensor *tensor = &graph->tensors[graph->tensor_count];
    *tensor = graph->tensors[like];
    tensor->dtype = dtype;
    tensor->is_virtual = true;
    snprintf(tensor->name, sizeof tensor->name, "v%d", graph->tensor_count);
    return graph->tensor_count++;
}

int cnn_cudnn_add_scalar(cnn_cudnn_graph *graph, const char *name)
{
    const cnn_tensor_desc scalar = cnn_desc_vector(CNN_F32, 1);
    int number = cnn_cudnn_add_tensor(graph, name, &scalar);
    graph->tensors[number].by_value = true;
    return number;
}

cnn_cudnn_node *cnn_cudnn_add_node(cnn_cudnn_graph *graph, cnn_cudnn_kind kind, cudnnDataType_t compute, int count,
                                   const int *tensors)
{
    cnn_cudnn_node *node = &graph->nodes[graph->node_count++];
    *node = (cnn_cudnn_node){.kind = kind, .compute = compute};
    for (int port = 0; port < CNN_CUDNN_PORTS; port++)
        node->port[port] = port < count ? tensors[port] : -1;
    return node;
}

/* ---- Text ---- */

static void append(char *text, const char *format, ...) CNN_PRINTF(2, 3);

static void append(char *text, const char *format, ...)
{
    size_t length = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + length, CNN_CUDNN_TEXT_BYTES - length, format, args);
    va_end(args);
}

/* The name, and when it comes up for the first time all the rest. */
static void append_tensor(const cnn_cudnn_graph *graph, int number, bool *seen, char *text)
{
    const cnn_cudnn_tensor *tensor = &graph->tensors[number];
    append(text, "%s", tensor->name);
    if (seen[number])
        return;
    seen[number] = true;
    append(text, ":%s", dtype_name(tensor->dtype));
    if (tensor->is_virtual || tensor->by_value)
        return;
    if (tensor->n == 1 && tensor->h == 1 && tensor->w == 1)
        append(text, "[%lld]", (long long)tensor->c);
    else
        append(text, "[%lld,%lld,%lld,%lld]", (long long)tensor->n, (long long)tensor->h, (long long)tensor->w,
               (long long)tensor->c);
    if (tensor->pitch != tensor->c)
        append(text, "/%lld", (long long)tensor->pitch);
}

static bool is_convolution(cnn_cudnn_kind kind)
{
    return kind <= CNN_CUDNN_WGRAD;
}

char *cnn_cudnn_graph_print(const cnn_cudnn_graph *graph, char *text)
{
    bool seen[CNN_CUDNN_TENSORS] = {false};
    text[0] = '\0';
    for (int i = 0; i < graph->node_count; i++) {
        const cnn_cudnn_node *node = &graph->nodes[i];
        const node_info *info = &infos[node->kind];
        bool first = true;
        append(text, "%s%s(", i ? "; " : "", info->name);
        for (int port = 0; port < CNN_CUDNN_PORTS; port++) {
            if (node->port[port] < 0 || port == info->output)
                continue;
            append(text, "%s", first ? "" : ", ");
            append_tensor(graph, node->port[port], seen, text);
            first = false;
        }
        if (is_convolution(node->kind))
            append(text, ", pad %lld, stride %lld", (long long)node->pad, (long long)node->stride);
        if (node->compute != CUDNN_DATA_FLOAT)
            append(text, ", sums %s", dtype_name(node->compute));
        append(text, ") ");
        append_tensor(graph, node->port[info->output], seen, text);
    }
    return text;
}

/* ---- Descriptors ---- */

cnn_status cnn_cudnn_check(cnn_cudnn_maker *maker, cudnnStatus_t status, const char *call, const char *what)
{
    char detail[512] = "";
    if (status == CUDNN_STATUS_SUCCESS)
        return CNN_OK;
    cudnnGetLastErrorString(detail, sizeof detail); /* reads and clears */
    cnn_status failure = CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED ? CNN_ERR_UNSUPPORTED
                         : status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                                 status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
                             ? CNN_ERR_MEMORY
                             : CNN_ERR_DEVICE;
    for (char *c = detail; *c; c++)
        if (*c == '\n')
            *c = ' ';
    if (!maker->quiet)
        maker->host->error(failure, "device " CNN_CUDA_NAME ": %s(%s) failed: %s%s%.300s", call, what,
                           cudnnGetErrorString(status), *detail ? ": " : "", detail);
    return failure;
}

cudnnBackendDescriptor_t cnn_cudnn_create(cnn_cudnn_maker *maker, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t descriptor = NULL;
    char what[32];
    if (maker->status != CNN_OK)
        return NULL;
    if (maker->count == CNN_CUDNN_DESCRIPTORS) {
        maker->status = maker->host->error(CNN_ERR_DEVICE, "device " CNN_CUDA_NAME ": %s: more than %d descriptors",
                                           maker->subject, CNN_CUDNN_DESCRIPTORS);
        return NULL;
    }
    snprintf(what, sizeof what, "type %d", (int)type);
    maker->status =
        cnn_cudnn_check(maker, cudnnBackendCreateDescriptor(type, &descriptor), "cudnnBackendCreateDescriptor", what);
    if (maker->status == CNN_OK)
        maker->made[maker->count++] = descriptor;
    return descriptor;
}

void cnn_cudnn_set(cnn_cudnn_maker *maker, cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t attribute,
                   cudnnBackendAttributeType_t type, int64_t count, const void *values, const char *what)
{
    if (maker->status == CNN_OK)
        maker->status = cnn_cudnn_check(maker, cudnnBackendSetAttribute(descriptor, attribute, type, count, values),
                                        "cudnnBackendSetAttribute", what);
}

void cnn_cudnn_finalize(cnn_cudnn_maker *maker, cudnnBackendDescriptor_t descriptor, const char *what)
{
    if (maker->status == CNN_OK)
        maker->status = cnn_cudnn_check(maker, cudnnBackendFinalize(descriptor), "cudnnBackendFinalize", what);
}

void cnn_cudnn_release(cnn_cudnn_maker *maker, int keep)
{
    while (maker->count > keep)
        (void)cudnnBackendDestroyDescriptor(maker->made[--maker->count]);
}

static cudnnBackendDescriptor_t make_tensor(cnn_cudnn_maker *maker, const cnn_cudnn_tensor *tensor, int64_t id)
{
    const int64_t dims[4] = {tensor->n, tensor->c, tensor->h, tensor->w};
    const int64_t strides[4] = {tensor->h * tensor->w * tensor->pitch, 1, tensor->w * tensor->pitch, tensor->pitch};
    const int64_t alignment = 16;
    cudnnBackendDescriptor_t made = cnn_cudnn_create(maker, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &id);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &tensor->dtype);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment);
    if (tensor->is_virtual)
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &tensor->is_virtual);
    if (tensor->by_value)
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &tensor->by_value);
    cnn_cudnn_finalize(maker, made, tensor->name);
    return made;
}

static cudnnBackendDescriptor_t make_convolution(cnn_cudnn_maker *maker, const cnn_cudnn_node *node)
{
    const int64_t spatial = 2, pads[2] = {node->pad, node->pad}, strides[2] = {node->stride, node->stride};
    const int64_t dilations[2] = {1, 1};
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t made = cnn_cudnn_create(maker, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &node->compute);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &spatial);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pads);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilations);
    cnn_cudnn_finalize(maker, made, "convolution");
    return made;
}

static cudnnBackendDescriptor_t make_pointwise(cnn_cudnn_maker *maker, const cnn_cudnn_node *node)
{
    const cudnnPointwiseMode_t mode = node->kind == CNN_CUDNN_ADD    ? CUDNN_POINTWISE_ADD
                                      : node->kind == CNN_CUDNN_RELU ? CUDNN_POINTWISE_RELU_FWD
                                                                     : CUDNN_POINTWISE_IDENTITY;
    cudnnBackendDescriptor_t made = cnn_cudnn_create(maker, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &node->compute);
    cnn_cudnn_finalize(maker, made, infos[node->kind].name);
    return made;
}

/* What a convolution takes beside its tensors: dst = 1*conv + 0*dst. */
static void set_convolution(cnn_cudnn_maker *maker, cudnnBackendDescriptor_t made, const cnn_cudnn_node *node)
{
    static const struct {
        cudnnBackendAttributeName_t conv, alpha, beta;
    } names[] = {
        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    const float one = 1, zero = 0;
    cudnnBackendDescriptor_t conv = make_convolution(maker, node);
    cnn_cudnn_set(maker, made, names[node->kind].conv, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &conv, "CONV_DESC");
    cnn_cudnn_set(maker, made, names[node->kind].alpha, CUDNN_TYPE_FLOAT, 1, &one, "ALPHA");
    cnn_cudnn_set(maker, made, names[node->kind].beta, CUDNN_TYPE_FLOAT, 1, &zero, "BETA");
}

static void set_attributes(cnn_cudnn_maker *maker, cudnnBackendDescriptor_t made, const cnn_cudnn_node *node)
{
    const cudnnBackendNormMode_t batch = CUDNN_BATCH_NORM;
    const cudnnBackendNormFwdPhase_t training = CUDNN_NORM_FWD_TRAINING;
    switch (node->kind) {
    case CNN_CUDNN_CONV:
    case CNN_CUDNN_DGRAD:
    case CNN_CUDNN_WGRAD:
        set_convolution(maker, made, node);
        break;
    case CNN_CUDNN_BN_TRAIN:
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_OPERATION_NORM_FWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &batch);
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_OPERATION_NORM_FWD_PHASE, CUDNN_TYPE_NORM_FWD_PHASE, 1, &training);
        break;
    case CNN_CUDNN_BN_GRAD:
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_OPERATION_NORM_BWD_MODE, CUDNN_TYPE_NORM_MODE, 1, &batch);
        break;
    default: {
        cudnnBackendDescriptor_t pointwise = make_pointwise(maker, node);
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                      &pointwise);
    }
    }
}

static cudnnBackendDescriptor_t make_node(cnn_cudnn_maker *maker, const cnn_cudnn_node *node,
                                          const cudnnBackendDescriptor_t *tensors)
{
    const node_info *info = &infos[node->kind];
    cudnnBackendDescriptor_t made = cnn_cudnn_create(maker, info->type);
    set_attributes(maker, made, node);
    for (int port = 0; port < CNN_CUDNN_PORTS; port++)
        if (node->port[port] >= 0)
            cnn_cudnn_set(maker, made, (cudnnBackendAttributeName_t)info->ports[port], CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                          &tensors[node->port[port]], info->name);
    cnn_cudnn_finalize(maker, made, info->name);
    return made;
}

cudnnBackendDescriptor_t cnn_cudnn_graph_make(cnn_cudnn_maker *maker, const cnn_cudnn_graph *graph,
                                              cudnnHandle_t handle)
{
    cudnnBackendDescriptor_t tensors[CNN_CUDNN_TENSORS], nodes[CNN_CUDNN_NODES];
    for (int i = 0; i < graph->tensor_count; i++)
        tensors[i] = make_tensor(maker, &graph->tensors[i], i + 1);
    for (int i = 0; i < graph->node_count; i++)
        nodes[i] = make_node(maker, &graph->nodes[i], tensors);
    cudnnBackendDescriptor_t made = cnn_cudnn_create(maker, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (handle)
        CNN_CUDNN_SET(maker, made, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    CNN_CUDNN_SET(maker, made, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, graph->node_count, nodes);
    cnn_cudnn_finalize(maker, made, "graph");
    return made;
}
