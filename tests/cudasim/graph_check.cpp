/* What cuDNN documents of tensors, operations and graphs, checked when they are finalized; what is beyond the model is
 * reported. Stricter than cuDNN: two tensors of a graph never share an id, and results that are virtual are used. */
#include "tests/cudasim/descriptor.h"

#include <set>

namespace
{

#define TYPE(name) CUDNN_BACKEND_##name##_DESCRIPTOR
#define IN(name)                                 \
    {                                            \
        CUDNN_ATTR_OPERATION_##name, false, true \
    }
#define OUT(name)                               \
    {                                           \
        CUDNN_ATTR_OPERATION_##name, true, true \
    }
#define END                           \
    {                                 \
        CUDASIM_NO_PORT, false, false \
    }

const cudasim_port forward_ports[] = {IN(CONVOLUTION_FORWARD_X), IN(CONVOLUTION_FORWARD_W), OUT(CONVOLUTION_FORWARD_Y),
                                      END};
const cudasim_port data_ports[] = {IN(CONVOLUTION_BWD_DATA_DY), IN(CONVOLUTION_BWD_DATA_W),
                                   OUT(CONVOLUTION_BWD_DATA_DX), END};
const cudasim_port filter_ports[] = {IN(CONVOLUTION_BWD_FILTER_X), IN(CONVOLUTION_BWD_FILTER_DY),
                                     OUT(CONVOLUTION_BWD_FILTER_DW), END};
const cudasim_port pointwise_ports[] = {
    IN(POINTWISE_XDESC), {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, false, false}, OUT(POINTWISE_YDESC), END};
const cudasim_port norm_ports[] = {IN(NORM_FWD_XDESC),
                                   IN(NORM_FWD_SCALE_DESC),
                                   IN(NORM_FWD_BIAS_DESC),
                                   IN(NORM_FWD_EPSILON_DESC),
                                   IN(NORM_FWD_EXP_AVG_FACTOR_DESC),
                                   IN(NORM_FWD_INPUT_RUNNING_MEAN_DESC),
                                   IN(NORM_FWD_INPUT_RUNNING_VAR_DESC),
                                   OUT(NORM_FWD_OUTPUT_RUNNING_MEAN_DESC),
                                   OUT(NORM_FWD_OUTPUT_RUNNING_VAR_DESC),
                                   OUT(NORM_FWD_MEAN_DESC),
                                   OUT(NORM_FWD_INV_VARIANCE_DESC),
                                   OUT(NORM_FWD_YDESC),
                                   END};
const cudasim_port norm_grad_ports[] = {IN(NORM_BWD_XDESC),
                                        IN(NORM_BWD_DYDESC),
                                        IN(NORM_BWD_SCALE_DESC),
                                        IN(NORM_BWD_MEAN_DESC),
                                        IN(NORM_BWD_INV_VARIANCE_DESC),
                                        OUT(NORM_BWD_DSCALE_DESC),
                                        OUT(NORM_BWD_DBIAS_DESC),
                                        OUT(NORM_BWD_DXDESC),
                                        END};

cudnnStatus_t wrong(const char *what)
{
    return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH, "%s", what);
}

/* ---- Tensors ---- */

int64_t dim(const cudasim_descriptor &tensor, int64_t i)
{
    return tensor.get<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS, i);
}

bool same_dims(const cudasim_descriptor &a, const cudasim_descriptor &b)
{
    for (int i = 0; i < 4; i++)
        if (dim(a, i) != dim(b, i))
            return false;
    return true;
}

cudnnDataType_t dtype(const cudasim_descriptor &tensor)
{
    return tensor.get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
}

bool is_virtual(const cudasim_descriptor &tensor)
{
    return tensor.get_or(CUDNN_ATTR_TENSOR_IS_VIRTUAL, false);
}

/* [1,c,1,1] */
bool is_channels(const cudasim_descriptor &tensor, int64_t channels)
{
    return dim(tensor, 0) == 1 && dim(tensor, 1) == channels && dim(tensor, 2) == 1 && dim(tensor, 3) == 1;
}

cudnnStatus_t check_tensor(const cudasim_descriptor &tensor)
{
    const int64_t count = tensor.count(CUDNN_ATTR_TENSOR_DIMENSIONS);
    const int64_t alignment = tensor.get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    if (count != tensor.count(CUDNN_ATTR_TENSOR_STRIDES))
        return wrong("a tensor has as many strides as dimensions");
    if (count != 4)
        cudasim_report("cuDNN: a tensor of %d dimensions is not modelled", static_cast<int>(count));
    for (int i = 0; i < 4; i++)
        if (dim(tensor, i) < 1 || tensor.get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, i) < 1)
            return wrong("dimensions and strides are at least 1");
    if (alignment < 1 || (alignment & (alignment - 1)) != 0)
        return wrong("an alignment is a power of 2");
    if (is_virtual(tensor) && tensor.get_or(CUDNN_ATTR_TENSOR_IS_BY_VALUE, false))
        return wrong("a tensor is virtual or by value");
    return CUDNN_STATUS_SUCCESS;
}

/* ---- Convolutions ---- */

cudnnStatus_t check_convolution(const cudasim_descriptor &conv)
{
    const cudnnBackendAttributeName_t arrays[] = {
        CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS,
        CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_ATTR_CONVOLUTION_DILATIONS};
    for (cudnnBackendAttributeName_t name : arrays)
        if (conv.count(name) != conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS))
            return wrong("a convolution has as many pads, strides and dilations as spatial dimensions");
    if (conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) != 2 ||
        conv.get<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) != CUDNN_CROSS_CORRELATION)
        cudasim_report("cuDNN: only 2-dimensional cross correlations are modelled");
    const int64_t pad = conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const int64_t stride = conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    for (int i = 0; i < 2; i++)
        if (conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, i) != pad ||
            conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, i) != pad ||
            conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, i) != stride ||
            conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_DILATIONS, i) != 1)
            cudasim_report("cuDNN: pads or strides that differ, or dilations: not modelled");
    return pad >= 0 && stride >= 1 ? CUDNN_STATUS_SUCCESS : wrong("pads are at least 0, strides at least 1");
}

/* x [n,c,h,w], w [k,c,r,s], y [n,k,p,q] */
cudnnStatus_t check_convolution_shapes(const cudasim_descriptor &conv, const cudasim_descriptor &x,
                                       const cudasim_descriptor &w, const cudasim_descriptor &y)
{
    const int64_t pad = conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const int64_t stride = conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES);
    if (dim(x, 0) != dim(y, 0))
        return wrong("x and y of a convolution have as many images");
    if (dim(x, 1) != dim(w, 1) || dim(w, 0) != dim(y, 1))
        return wrong("channels of a convolution's x, w and y do not fit");
    for (int i = 2; i < 4; i++) {
        const int64_t room = dim(x, i) + 2 * pad - dim(w, i);
        if (room < 0 || dim(y, i) != room / stride + 1)
            return wrong("the size of a convolution's y does not follow from x, w, pad and stride");
    }
    return CUDNN_STATUS_SUCCESS;
}

void need_factors(const cudasim_descriptor &op, cudnnBackendAttributeName_t alpha, cudnnBackendAttributeName_t beta)
{
    if (op.get_or(alpha, 1.0f) != 1.0f || op.get_or(beta, 0.0f) != 0.0f)
        cudasim_report("cuDNN: alpha is not 1 or beta not 0: not modelled");
}

/* ---- Other operations ---- */

cudnnStatus_t check_pointwise(const cudasim_descriptor &op)
{
    const cudasim_descriptor &pointwise = op.child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
    const auto mode = pointwise.get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    const cudasim_descriptor &x = op.child(CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    if (mode != CUDNN_POINTWISE_ADD && mode != CUDNN_POINTWISE_RELU_FWD && mode != CUDNN_POINTWISE_IDENTITY)
        cudasim_report("cuDNN: pointwise mode %d is not modelled", static_cast<int>(mode));
    if ((mode == CUDNN_POINTWISE_ADD) != op.has(CUDNN_ATTR_OPERATION_POINTWISE_BDESC))
        return wrong("ADD takes b, RELU_FWD and IDENTITY do not");
    if (!same_dims(x, op.child(CUDNN_ATTR_OPERATION_POINTWISE_YDESC)))
        return wrong("x and y of a pointwise operation have the same dimensions");
    if (mode == CUDNN_POINTWISE_ADD) {
        const cudasim_descriptor &b = op.child(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        for (int i = 0; i < 4; i++)
            if (dim(b, i) != dim(x, i) && dim(b, i) != 1)
                return wrong("dimensions of b are those of x, or 1");
    }
    return CUDNN_STATUS_SUCCESS;
}

/* All ports but the first few are statistics of C channels, or scalars by value, in f32. */
cudnnStatus_t check_norm(const cudasim_descriptor &op)
{
    const bool forward = op.type == TYPE(OPERATION_NORM_FORWARD);
    const cudasim_descriptor &x =
        op.child(forward ? CUDNN_ATTR_OPERATION_NORM_FWD_XDESC : CUDNN_ATTR_OPERATION_NORM_BWD_XDESC);
    const auto mode = op.get<cudnnBackendNormMode_t>(forward ? CUDNN_ATTR_OPERATION_NORM_FWD_MODE
                                                             : CUDNN_ATTR_OPERATION_NORM_BWD_MODE);
    if (mode != CUDNN_BATCH_NORM ||
        (forward && op.get<cudnnBackendNormFwdPhase_t>(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE) != CUDNN_NORM_FWD_TRAINING))
        cudasim_report("cuDNN: only batch norms in training are modelled");
    for (const cudasim_port *port = cudasim_ports(op.type); port->name != CUDASIM_NO_PORT; port++) {
        const cudasim_descriptor &tensor = op.child(port->name);
        const bool whole =
            port->name == CUDNN_ATTR_OPERATION_NORM_FWD_XDESC || port->name == CUDNN_ATTR_OPERATION_NORM_FWD_YDESC ||
            port->name == CUDNN_ATTR_OPERATION_NORM_BWD_XDESC || port->name == CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC ||
            port->name == CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC;
        const bool scalar = port->name == CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC ||
                            port->name == CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC;
        if (whole ? !same_dims(tensor, x) : !is_channels(tensor, scalar ? 1 : dim(x, 1)))
            return wrong("a tensor of a batch norm does not fit x");
        if (!whole && dtype(tensor) != CUDNN_DATA_FLOAT)
            return wrong("scale, bias and statistics of a batch norm are f32");
        if (scalar && !tensor.get_or(CUDNN_ATTR_TENSOR_IS_BY_VALUE, false))
            return wrong("epsilon and the averaging factor are by value");
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t check_operation(const cudasim_descriptor &op)
{
    switch (op.type) {
    case TYPE(OPERATION_CONVOLUTION_FORWARD):
        need_factors(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA);
        return check_convolution_shapes(op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
    case TYPE(OPERATION_CONVOLUTION_BACKWARD_DATA):
        need_factors(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA);
        return check_convolution_shapes(op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY));
    case TYPE(OPERATION_CONVOLUTION_BACKWARD_FILTER):
        need_factors(op, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA);
        return check_convolution_shapes(op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW),
                                        op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY));
    case TYPE(OPERATION_POINTWISE):
        return check_pointwise(op);
    default:
        return check_norm(op);
    }
}

/* ---- Graphs ---- */

bool same_tensor(const cudasim_descriptor &a, const cudasim_descriptor &b)
{
    if (!same_dims(a, b) || dtype(a) != dtype(b) || is_virtual(a) != is_virtual(b))
        return false;
    for (int i = 0; i < 4; i++)
        if (a.get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, i) != b.get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, i))
            return false;
    return true;
}

/* Operations come in an order in which they can run; every tensor is written once at most, virtual ones before they are
 * read, and are read. */
cudnnStatus_t check_graph(const cudasim_descriptor &graph)
{
    std::map<int64_t, const cudasim_descriptor *> tensors;
    std::set<int64_t> written, unread;
    cudasim_need(CUDASIM_CUDNN_HANDLE, graph.get<cudnnHandle_t>(CUDNN_ATTR_OPERATIONGRAPH_HANDLE),
                 "an operation graph");
    for (int64_t i = 0; i < graph.count(CUDNN_ATTR_OPERATIONGRAPH_OPS); i++) {
        const cudasim_descriptor &op = graph.child(CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
        const cudasim_port *port = cudasim_ports(op.type);
        if (!port)
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE, "an operation graph holds operations");
        for (; port->name != CUDASIM_NO_PORT; port++) {
            if (!op.has(port->name))
                continue;
            const cudasim_descriptor &tensor = op.child(port->name);
            const int64_t id = tensor.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
            if (tensors.count(id) && !same_tensor(*tensors[id], tensor))
                return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "two tensors have the id %d",
                                          static_cast<int>(id));
            tensors[id] = &tensor;
            if (port->written && !written.insert(id).second)
                return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "tensor %d is written twice", static_cast<int>(id));
            if (port->written && is_virtual(tensor))
                unread.insert(id);
            if (!port->written && is_virtual(tensor) && !written.count(id))
                return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "virtual tensor %d is read before it is written",
                                          static_cast<int>(id));
            if (!port->written)
                unread.erase(id);
        }
    }
    return unread.empty() ? CUDNN_STATUS_SUCCESS
                          : cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "virtual tensor %d is not read",
                                               static_cast<int>(*unread.begin()));
}

cudnnStatus_t check_pack(const cudasim_descriptor &pack)
{
    std::set<int64_t> ids;
    const int64_t count = pack.count(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    if (count != pack.count(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS))
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "a variant pack has as many pointers as ids");
    for (int64_t i = 0; i < count; i++)
        if (!ids.insert(pack.get<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i)).second)
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES, "an id comes twice");
    return CUDNN_STATUS_SUCCESS;
}

/* A knob is the one that the engine has. */
cudnnStatus_t check_config(const cudasim_descriptor &config)
{
    for (int64_t i = 0; i < config.count(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES); i++)
        if (config.child(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, i).get<int>(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE) !=
            CUDNN_KNOB_TYPE_TILE_SIZE)
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "the engine has no such knob");
    return CUDNN_STATUS_SUCCESS;
}

/* ---- What cuDNN has engines for ---- */

bool is_half(cudnnDataType_t type)
{
    return type == CUDNN_DATA_HALF || type == CUDNN_DATA_BFLOAT16;
}

/* One that computes i32 of i8, in channels by fours, or f32. From 16-bit operands to an f32 weight gradient there is
 * none but over a virtual tensor, and for even numbers of channels. */
bool convolution_supported(const cudasim_descriptor &conv, const cudasim_descriptor &x, const cudasim_descriptor &w,
                           const cudasim_descriptor &y)
{
    const auto compute = conv.get<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE);
    if (dtype(x) == CUDNN_DATA_INT8)
        return compute == CUDNN_DATA_INT32 && dtype(w) == CUDNN_DATA_INT8 && dtype(y) == CUDNN_DATA_INT32 &&
               dim(x, 1) % 4 == 0 && dim(y, 1) % 4 == 0;
    return compute == CUDNN_DATA_FLOAT;
}

bool operation_supported(const cudasim_descriptor &op)
{
    switch (op.type) {
    case TYPE(OPERATION_CONVOLUTION_FORWARD):
        return convolution_supported(op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC),
                                     op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X),
                                     op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
                                     op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
    case TYPE(OPERATION_CONVOLUTION_BACKWARD_FILTER): {
        const cudasim_descriptor &dw = op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW);
        const cudnnDataType_t from = dtype(op.child(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X));
        const bool even = dim(dw, 0) % 2 == 0 && dim(dw, 1) % 2 == 0;
        return is_half(from) ? even && (is_virtual(dw) || dtype(dw) == from) : dtype(dw) == from;
    }
    default:
        return true;
    }
}

} // namespace

const cudasim_port *cudasim_ports(cudnnBackendDescriptorType_t type)
{
    switch (type) {
    case TYPE(OPERATION_CONVOLUTION_FORWARD):
        return forward_ports;
    case TYPE(OPERATION_CONVOLUTION_BACKWARD_DATA):
        return data_ports;
    case TYPE(OPERATION_CONVOLUTION_BACKWARD_FILTER):
        return filter_ports;
    case TYPE(OPERATION_POINTWISE):
        return pointwise_ports;
    case TYPE(OPERATION_NORM_FORWARD):
        return norm_ports;
    case TYPE(OPERATION_NORM_BACKWARD):
        return norm_grad_ports;
    default:
        return nullptr;
    }
}

cudnnStatus_t cudasim_check_descriptor(const cudasim_descriptor &descriptor)
{
    switch (descriptor.type) {
    case TYPE(TENSOR):
        return check_tensor(descriptor);
    case TYPE(CONVOLUTION):
        return check_convolution(descriptor);
    case TYPE(OPERATIONGRAPH):
        return check_graph(descriptor);
    case TYPE(VARIANT_PACK):
        return check_pack(descriptor);
    case TYPE(ENGINECFG):
        return check_config(descriptor);
    default:
        return cudasim_ports(descriptor.type) ? check_operation(descriptor) : CUDNN_STATUS_SUCCESS;
    }
}

bool cudasim_graph_supported(const cudasim_descriptor &graph)
{
    for (int64_t i = 0; i < graph.count(CUDNN_ATTR_OPERATIONGRAPH_OPS); i++)
        if (!operation_supported(graph.child(CUDNN_ATTR_OPERATIONGRAPH_OPS, i)))
            return false;
    return true;
}
