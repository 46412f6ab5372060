/* cuDNN's backend API on the CPU: descriptors with their attributes, from tensors to plans.
 *
 * Attributes are kept as they were set, with type and count, and looked at when the descriptor is finalized. There is
 * one engine for every graph; its plan has a workspace, so that it is passed along. */
#include "tests/cudasim/cudnn_inside.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace
{

constexpr int64_t WORKSPACE_BYTES = 4096;

struct attribute {
    cudnnBackendAttributeType_t type;
    int64_t count;
    std::vector<uint8_t> bytes;
};

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<cudnnBackendAttributeName_t, attribute> attributes;
    cudasim_tensor tensor;                            /* finalized TENSOR */
    cudasim_operation operation;                      /* finalized operations, CONVOLUTION and POINTWISE: their share */
    std::shared_ptr<const cudasim_cudnn_graph> graph; /* finalized OPERATIONGRAPH, and all that is made of it */
    cudasim_pack pack;                                /* finalized VARIANT_PACK */
};

char last_error[256];

cudnnStatus_t refuse(cudnnStatus_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));

cudnnStatus_t refuse(cudnnStatus_t status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(last_error, sizeof last_error, format, args);
    va_end(args);
    return status;
}

descriptor *need(cudnnBackendDescriptor_t handle, const char *call)
{
    cudasim_need(CUDASIM_CUDNN_DESCRIPTOR, handle, call);
    return static_cast<descriptor *>(handle);
}

size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN:
        return sizeof(bool);
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
        return 8;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
        return sizeof(void *);
    case CUDNN_TYPE_CHAR:
        return 1;
    default: /* enumerations, float */
        return 4;
    }
}

/* ---- Reading attributes ---- */

const attribute *find(const descriptor &d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type)
{
    auto found = d.attributes.find(name);
    if (found == d.attributes.end())
        return nullptr;
    if (found->second.type != type)
        cudasim_report("cudnnBackendFinalize: attribute %d has type %d instead of %d", static_cast<int>(name),
                       static_cast<int>(found->second.type), static_cast<int>(type));
    return &found->second;
}

/* The first value of an attribute; false when it is not set. */
template <typename T>
bool read(const descriptor &d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, T *value)
{
    const attribute *found = find(d, name, type);
    if (!found || found->bytes.size() < sizeof *value)
        return false;
    memcpy(value, found->bytes.data(), sizeof *value);
    return true;
}

std::vector<int64_t> integers(const descriptor &d, cudnnBackendAttributeName_t name)
{
    const attribute *found = find(d, name, CUDNN_TYPE_INT64);
    std::vector<int64_t> values(found ? static_cast<size_t>(found->count) : 0);
    if (found)
        memcpy(values.data(), found->bytes.data(), found->bytes.size());
    return values;
}

/* Finalized descriptors of one type behind an attribute. */
std::vector<descriptor *> descriptors(const descriptor &d, cudnnBackendAttributeName_t name)
{
    const attribute *found = find(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR);
    std::vector<descriptor *> values;
    for (int64_t i = 0; found && i < found->count; i++) {
        cudnnBackendDescriptor_t handle;
        memcpy(&handle, found->bytes.data() + static_cast<size_t>(i) * sizeof handle, sizeof handle);
        values.push_back(need(handle, "cudnnBackendFinalize, a descriptor in an attribute"));
        if (!values.back()->finalized)
            cudasim_report("cudnnBackendFinalize: attribute %d names a descriptor that is not finalized",
                           static_cast<int>(name));
    }
    return values;
}

bool dtype_of(cudnnDataType_t type, cnn_dtype *dtype)
{
    switch (type) {
    case CUDNN_DATA_FLOAT:
        *dtype = CNN_F32;
        return true;
    case CUDNN_DATA_HALF:
        *dtype = CNN_F16;
        return true;
    case CUDNN_DATA_BFLOAT16:
        *dtype = CNN_BF16;
        return true;
    case CUDNN_DATA_INT8:
        *dtype = CNN_I8;
        return true;
    case CUDNN_DATA_INT32:
        *dtype = CNN_I32;
        return true;
    default:
        return false;
    }
}

/* ---- Finalizing ---- */

cudnnStatus_t finish_tensor(descriptor *d)
{
    cudasim_tensor *t = &d->tensor;
    cudnnDataType_t type;
    int64_t alignment = 0;
    const std::vector<int64_t> dims = integers(*d, CUDNN_ATTR_TENSOR_DIMENSIONS);
    const std::vector<int64_t> strides = integers(*d, CUDNN_ATTR_TENSOR_STRIDES);
    if (!read(*d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, &t->id) ||
        !read(*d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, &type) || !dtype_of(type, &t->dtype) ||
        !read(*d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, &alignment) || dims.size() != 4 ||
        strides.size() != 4)
        return refuse(CUDNN_STATUS_BAD_PARAM, "a tensor lacks its id, type, alignment, 4 dimensions or 4 strides");
    for (int64_t dim : dims)
        if (dim < 1 || dim > INT32_MAX)
            return refuse(CUDNN_STATUS_BAD_PARAM, "a tensor has a dimension of %lld", static_cast<long long>(dim));
    t->n = static_cast<int32_t>(dims[0]);
    t->c = static_cast<int32_t>(dims[1]);
    t->h = static_cast<int32_t>(dims[2]);
    t->w = static_cast<int32_t>(dims[3]);
    (void)read(*d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, &t->is_virtual);
    (void)read(*d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, &t->by_value);
    const int64_t dense[4] = {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]};
    if (memcmp(dense, strides.data(), sizeof dense) != 0)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "only dense NHWC tensors are modelled");
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finish_convolution(descriptor *d)
{
    cudnnConvolutionMode_t mode;
    int64_t spatial = 0;
    const std::vector<int64_t> before = integers(*d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const std::vector<int64_t> after = integers(*d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
    const std::vector<int64_t> strides = integers(*d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    const std::vector<int64_t> dilations = integers(*d, CUDNN_ATTR_CONVOLUTION_DILATIONS);
    if (!read(*d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, &d->operation.compute) ||
        !read(*d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, &mode) ||
        !read(*d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, &spatial) || spatial != 2 ||
        before.size() != 2 || strides.size() != 2)
        return refuse(CUDNN_STATUS_BAD_PARAM, "a convolution lacks an attribute");
    if (mode != CUDNN_CROSS_CORRELATION || before != after || before[0] != before[1] || strides[0] != strides[1] ||
        dilations != std::vector<int64_t>{1, 1} || before[0] < 0 || strides[0] < 1)
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "only square, undilated cross correlations are modelled");
    d->operation.pad = static_cast<int32_t>(before[0]);
    d->operation.stride = static_cast<int32_t>(strides[0]);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finish_pointwise(descriptor *d)
{
    return read(*d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, &d->operation.mode) &&
                   read(*d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, &d->operation.compute)
               ? CUDNN_STATUS_SUCCESS
               : refuse(CUDNN_STATUS_BAD_PARAM, "a pointwise descriptor lacks its mode or precision");
}

/* What an operation takes from the descriptor of its convolution or pointwise function. */
bool take_settings(descriptor *d)
{
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t settings;
    } rows[] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC},
        {CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR}};
    for (const auto &row : rows) {
        if (row.type != d->type)
            continue;
        const std::vector<descriptor *> settings = descriptors(*d, row.settings);
        if (settings.size() != 1)
            return false;
        d->operation = settings[0]->operation;
    }
    return true;
}

cudnnStatus_t finish_operation(descriptor *d)
{
    if (!take_settings(d))
        return refuse(CUDNN_STATUS_BAD_PARAM, "an operation lacks its descriptor");
    d->operation.type = d->type;
    for (const auto &each : d->attributes) {
        if (each.second.type != CUDNN_TYPE_BACKEND_DESCRIPTOR)
            continue;
        const std::vector<descriptor *> named = descriptors(*d, each.first);
        if (named.size() == 1 && named[0]->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR)
            d->operation.tensors[each.first] = named[0]->tensor;
    }
    const char *why = cudasim_refuse_operation(d->operation);
    return why ? refuse(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "%s", why) : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finish_graph(descriptor *d)
{
    auto graph = std::make_shared<cudasim_cudnn_graph>();
    std::map<int64_t, bool> written;
    cudnnHandle_t handle = nullptr;
    if (!read(*d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, &handle))
        return refuse(CUDNN_STATUS_BAD_PARAM, "a graph lacks its handle");
    cudasim_need(CUDASIM_CUDNN_HANDLE, handle, "cudnnBackendFinalize");
    for (const descriptor *operation : descriptors(*d, CUDNN_ATTR_OPERATIONGRAPH_OPS))
        graph->operations.push_back(operation->operation);
    if (graph->operations.empty())
        return refuse(CUDNN_STATUS_BAD_PARAM, "a graph has no operations");
    d->graph = graph;
    return CUDNN_STATUS_SUCCESS;
}

/* Heuristics, engines, configurations and plans: all of them carry their graph on. */
cudnnStatus_t carry_graph(descriptor *d, cudnnBackendAttributeName_t from)
{
    const std::vector<descriptor *> named = descriptors(*d, from);
    if (named.size() != 1 || !named[0]->graph)
        return refuse(CUDNN_STATUS_BAD_PARAM, "a descriptor lacks its graph");
    d->graph = named[0]->graph;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finish_pack(descriptor *d)
{
    const std::vector<int64_t> ids = integers(*d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const attribute *pointers = find(*d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR);
    void *workspace = nullptr;
    if (!pointers || static_cast<size_t>(pointers->count) != ids.size())
        return refuse(CUDNN_STATUS_BAD_PARAM, "a variant pack has not as many pointers as ids");
    for (size_t i = 0; i < ids.size(); i++)
        memcpy(&d->pack.memory[ids[i]], pointers->bytes.data() + i * sizeof(void *), sizeof(void *));
    (void)read(*d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, &workspace);
    d->pack.memory[0] = workspace;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finish(descriptor *d)
{
    switch (d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        return finish_tensor(d);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
        return finish_convolution(d);
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR:
        return finish_pointwise(d);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR:
    case CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR:
        return finish_operation(d);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return finish_graph(d);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        return carry_graph(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
        return carry_graph(d, CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR:
        return carry_graph(d, CUDNN_ATTR_ENGINECFG_ENGINE);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return carry_graph(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return finish_pack(d);
    case CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR:
        return CUDNN_STATUS_SUCCESS;
    default:
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "descriptor type %d is not modelled", static_cast<int>(d->type));
    }
}

/* ---- What is asked of finalized descriptors ---- */

bool rounds_less(const cudasim_cudnn_graph &graph)
{
    for (const auto &operation : graph.operations)
        for (const auto &tensor : operation.tensors)
            if (tensor.second.dtype != CNN_F32 && tensor.second.dtype != CNN_I32)
                return true;
    return false;
}

/* Makes the descriptors that the caller created stand for the one engine, or its only configuration. */
cudnnStatus_t hand_out(const descriptor &from, int64_t room, int64_t *count, void *values)
{
    *count = 1;
    if (room == 0 || !values)
        return CUDNN_STATUS_SUCCESS;
    cudnnBackendDescriptor_t handle;
    memcpy(&handle, values, sizeof handle);
    descriptor *to = need(handle, "cudnnBackendGetAttribute");
    to->graph = from.graph;
    to->finalized = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t give(int64_t value, int64_t room, int64_t *count, void *values)
{
    if (count)
        *count = 1;
    if (room >= 1)
        memcpy(values, &value, sizeof value);
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

/* ---- Calls ---- */

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made)
{
    CUDASIM_LOCKED;
    if (cudasim_refuse())
        return refuse(CUDNN_STATUS_ALLOC_FAILED, "out of memory");
    descriptor *d = new descriptor;
    d->type = type;
    cudasim_add(CUDASIM_CUDNN_DESCRIPTOR, d, cudasim_device());
    *made = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t handle)
{
    CUDASIM_LOCKED;
    cudasim_remove(CUDASIM_CUDNN_DESCRIPTOR, handle, "cudnnBackendDestroyDescriptor");
    delete static_cast<descriptor *>(handle);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    CUDASIM_LOCKED;
    descriptor *d = need(handle, "cudnnBackendSetAttribute");
    if (d->finalized)
        return refuse(CUDNN_STATUS_NOT_INITIALIZED, "the descriptor is finalized and cannot be changed");
    if (count < 1 || !values)
        return refuse(CUDNN_STATUS_BAD_PARAM, "an attribute without a value");
    const auto *bytes = static_cast<const uint8_t *>(values);
    d->attributes[name] = {type, count,
                           std::vector<uint8_t>(bytes, bytes + static_cast<size_t>(count) * size_of(type))};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t handle)
{
    CUDASIM_LOCKED;
    descriptor *d = need(handle, "cudnnBackendFinalize");
    if (d->finalized)
        return refuse(CUDNN_STATUS_BAD_PARAM, "the descriptor is finalized already");
    cudnnStatus_t status = finish(d);
    d->finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t handle, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *values)
{
    CUDASIM_LOCKED;
    const int32_t tensor_core = CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    (void)type;
    const descriptor *d = need(handle, "cudnnBackendGetAttribute");
    if (!d->finalized)
        return refuse(CUDNN_STATUS_NOT_INITIALIZED, "the descriptor is not finalized");
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        return hand_out(*d, room, count, values);
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
        *count = 0;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        *count = rounds_less(*d->graph) ? 1 : 0;
        if (*count && room >= 1)
            memcpy(values, &tensor_core, sizeof tensor_core);
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
        return give(0, room, count, values);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        return give(WORKSPACE_BYTES, room, count, values);
    default:
        return refuse(CUDNN_STATUS_NOT_SUPPORTED, "attribute %d is not modelled", static_cast<int>(name));
    }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan_handle,
                                  cudnnBackendDescriptor_t pack_handle)
{
    CUDASIM_LOCKED;
    const char *call = "cudnnBackendExecute";
    cudasim_need(CUDASIM_CUDNN_HANDLE, handle, call);
    const descriptor *plan = need(plan_handle, call), *given = need(pack_handle, call);
    if (!plan->finalized || plan->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || !given->finalized ||
        given->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return refuse(CUDNN_STATUS_BAD_PARAM, "no finalized plan and variant pack");
    cudasim_need_stream(handle->stream, call);
    cudasim_pack pack = given->pack;
    for (const auto &operation : plan->graph->operations)
        for (const auto &tensor : operation.tensors)
            if (tensor.second.by_value && pack.memory.count(tensor.second.id))
                memcpy(&pack.scalar[tensor.second.id], pack.memory[tensor.second.id], sizeof(float));
    cudasim_need_operands(*plan->graph, pack);
    void *workspace = pack.memory[0];
    cudasim_need_device(workspace, WORKSPACE_BYTES, "cudnnBackendExecute, workspace");
    auto graph = plan->graph;
    cudaError_t error = cudasim_enqueue(handle->stream, [graph, pack, workspace] {
        cudasim_unwrite(workspace, WORKSPACE_BYTES);
        cudasim_need_operands(*graph, pack);
        cudasim_run_graph(*graph, pack);
    });
    return error == cudaSuccess ? CUDNN_STATUS_SUCCESS : refuse(CUDNN_STATUS_EXECUTION_FAILED, "the stream is broken");
}

void cudnnGetLastErrorString(char *message, size_t bytes)
{
    CUDASIM_LOCKED;
    snprintf(message, bytes, "%s", last_error);
}
