/* Running an operation graph: tensors come from memory as dense f32 [n,h,w,c] (i8 and i32 as they are), operations
 * compute f32, and a result is rounded to its dtype when it goes to memory. Virtual tensors stay f32. Sums of batch
 * norms are double.
 *
 * All memory is checked twice: when the graph is called and when it runs. Operands must have been written, results lie
 * apart from all other tensors, the workspace is overwritten with garbage. */
#include "tests/cudasim/descriptor.h"

#include "tests/cudasim/cpu_conv.h"
#include "tests/cudasim/numbers.h"

#include <cmath>

namespace
{

#define TYPE(name) CUDNN_BACKEND_##name##_DESCRIPTOR

struct tensor {
    cnn_dtype dtype = CNN_F32;
    int64_t n = 1, h = 1, w = 1, c = 1;
    int64_t stride[4] = {}; /* of n, c, h, w, in elements */
    bool is_virtual = false, by_value = false, written = false;
    void *memory = nullptr;
    std::vector<float> floats; /* [n,h,w,c] */
    std::vector<int8_t> bytes;
    std::vector<int32_t> sums;

    int64_t elements() const
    {
        return n * h * w * c;
    }
    int64_t extent() const
    {
        return (n - 1) * stride[0] + (c - 1) * stride[1] + (h - 1) * stride[2] + (w - 1) * stride[3] + 1;
    }
    size_t extent_bytes() const
    {
        return static_cast<size_t>(extent()) * cnn_dtype_bytes(dtype);
    }
};

/* A call: the graph with its tensors by id. */
struct execution {
    cudasim_shared graph;
    int64_t engine = 0;
    std::map<int64_t, tensor> tensors;
    void *workspace = nullptr;
    size_t workspace_bytes = 0;

    tensor &of(const cudasim_descriptor &op, cudnnBackendAttributeName_t port)
    {
        return tensors.at(op.child(port).get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID));
    }
};

cnn_dtype dtype_of(cudnnDataType_t type)
{
    switch (type) {
    case CUDNN_DATA_FLOAT:
        return CNN_F32;
    case CUDNN_DATA_HALF:
        return CNN_F16;
    case CUDNN_DATA_BFLOAT16:
        return CNN_BF16;
    case CUDNN_DATA_INT8:
        return CNN_I8;
    case CUDNN_DATA_INT32:
        return CNN_I32;
    default:
        cudasim_report("cuDNN: data type %d is not modelled", static_cast<int>(type));
    }
}

/* ---- Between memory and dense arrays ---- */

template <typename F> void each_element(const tensor &t, F &&visit)
{
    int64_t dense = 0;
    for (int64_t n = 0; n < t.n; n++)
        for (int64_t h = 0; h < t.h; h++)
            for (int64_t w = 0; w < t.w; w++)
                for (int64_t c = 0; c < t.c; c++, dense++)
                    visit(dense, n * t.stride[0] + c * t.stride[1] + h * t.stride[2] + w * t.stride[3]);
}

/* TF32: 10 bits of mantissa, ties away from zero, as the tensor cores' conversion rounds. */
float to_tf32(float x)
{
    return std::isfinite(x) ? cnn_cpu_from_bits((cnn_cpu_bits(x) + 0x1000u) & ~UINT32_C(0x1fff)) : x;
}

void load(tensor *t, const char *call)
{
    if (t->is_virtual || t->by_value)
        return;
    cudasim_need_written(t->memory, t->extent_bytes(), call);
    if (t->dtype == CNN_I8) {
        t->bytes.resize(static_cast<size_t>(t->elements()));
        each_element(*t, [t](int64_t dense, int64_t at) {
            t->bytes[static_cast<size_t>(dense)] = static_cast<const int8_t *>(t->memory)[at];
        });
        return;
    }
    t->floats.resize(static_cast<size_t>(t->elements()));
    each_element(*t, [t](int64_t dense, int64_t at) {
        t->floats[static_cast<size_t>(dense)] = cudasim_load(t->memory, t->dtype, at);
    });
}

void store(tensor *t)
{
    if (t->is_virtual)
        return;
    each_element(*t, [t](int64_t dense, int64_t at) {
        if (t->dtype == CNN_I32)
            static_cast<int32_t *>(t->memory)[at] = t->sums[static_cast<size_t>(dense)];
        else
            cudasim_store(t->memory, t->dtype, at, t->floats[static_cast<size_t>(dense)]);
    });
}

/* ---- Operations ---- */

struct conv_ports {
    cnn_op op;
    cudnnBackendAttributeName_t conv, x, w, y;
};

cnn_tensor_desc desc_of(const tensor &t, cnn_dtype dtype)
{
    return cnn_desc(dtype, static_cast<int32_t>(t.n), static_cast<int32_t>(t.h), static_cast<int32_t>(t.w),
                    static_cast<int32_t>(t.c));
}

/* Operands as the tensor cores read f32. */
std::vector<float> operand(const execution &e, const tensor &t)
{
    std::vector<float> floats = t.floats;
    if (e.engine == CUDASIM_ENGINE_TENSOR && t.dtype == CNN_F32)
        for (float &x : floats)
            x = to_tf32(x);
    return floats;
}

void run_convolution_i8(execution &e, const cudasim_descriptor &op, cnn_op_desc desc)
{
    tensor &x = e.of(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X);
    tensor &w = e.of(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W);
    tensor &y = e.of(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y);
    void *args[CNN_ARG_COUNT] = {};
    y.sums.resize(static_cast<size_t>(y.elements()));
    desc.arg[CNN_ARG_SRC] = desc_of(x, CNN_I8);
    desc.arg[CNN_ARG_WEIGHT] = desc_of(w, CNN_I8);
    desc.arg[CNN_ARG_DST] = desc_of(y, CNN_I32);
    desc.constant_weights = true;
    args[CNN_ARG_SRC] = x.bytes.data();
    args[CNN_ARG_WEIGHT] = w.bytes.data();
    args[CNN_ARG_DST] = y.sums.data();
    cudasim_cpu_conv(&desc, args);
}

void run_convolution(execution &e, const cudasim_descriptor &op, const conv_ports &ports)
{
    tensor &x = e.of(op, ports.x), &w = e.of(op, ports.w), &y = e.of(op, ports.y);
    const cudasim_descriptor &conv = op.child(ports.conv);
    cnn_op_desc desc = {};
    void *args[CNN_ARG_COUNT] = {};
    desc.op = ports.op;
    desc.stride = static_cast<int32_t>(conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES));
    desc.pad = static_cast<int32_t>(conv.get<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS));
    if (x.dtype == CNN_I8) {
        run_convolution_i8(e, op, desc);
        return;
    }
    tensor &result = ports.op == CNN_OP_CONV ? y : ports.op == CNN_OP_CONV_DGRAD ? x : w;
    result.floats.resize(static_cast<size_t>(result.elements()));
    std::vector<float> x_data, w_data, y_data;
    const cnn_arg x_role = ports.op == CNN_OP_CONV_DGRAD ? CNN_ARG_DST : CNN_ARG_SRC;
    const cnn_arg w_role = ports.op == CNN_OP_CONV_WGRAD ? CNN_ARG_DST : CNN_ARG_WEIGHT;
    const cnn_arg y_role = ports.op == CNN_OP_CONV         ? CNN_ARG_DST
                           : ports.op == CNN_OP_CONV_DGRAD ? CNN_ARG_SRC
                                                           : CNN_ARG_SRC2;
    const struct {
        cnn_arg role;
        tensor *t;
        std::vector<float> *data;
    } operands[] = {{x_role, &x, &x_data}, {w_role, &w, &w_data}, {y_role, &y, &y_data}};
    for (const auto &one : operands) {
        desc.arg[one.role] = desc_of(*one.t, CNN_F32);
        if (one.t != &result)
            *one.data = operand(e, *one.t);
        args[one.role] = one.t == &result ? result.floats.data() : one.data->data();
    }
    cudasim_cpu_conv(&desc, args);
}

void run_pointwise(execution &e, const cudasim_descriptor &op)
{
    const auto mode =
        op.child(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR).get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    tensor &x = e.of(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC), &y = e.of(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    y.floats = x.floats;
    if (mode == CUDNN_POINTWISE_RELU_FWD)
        for (float &value : y.floats)
            value = value > 0 || std::isnan(value) ? value : 0;
    if (mode != CUDNN_POINTWISE_ADD)
        return;
    const tensor &b = e.of(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    int64_t at = 0;
    for (int64_t n = 0; n < y.n; n++)
        for (int64_t h = 0; h < y.h; h++)
            for (int64_t w = 0; w < y.w; w++)
                for (int64_t c = 0; c < y.c; c++, at++)
                    y.floats[static_cast<size_t>(at)] += b.floats[static_cast<size_t>(
                        (((b.n > 1 ? n : 0) * b.h + (b.h > 1 ? h : 0)) * b.w + (b.w > 1 ? w : 0)) * b.c +
                        (b.c > 1 ? c : 0))];
}

void run_norm_forward(execution &e, const cudasim_descriptor &op)
{
    tensor &x = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_XDESC), &y = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_YDESC);
    const tensor &scale = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC);
    const tensor &bias = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC);
    const float eps = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC).floats[0];
    const float factor = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC).floats[0];
    const tensor &old_mean = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC);
    const tensor &old_var = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC);
    tensor &mean = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC);
    tensor &invstd = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC);
    tensor &new_mean = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC);
    tensor &new_var = e.of(op, CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC);
    const size_t channels = static_cast<size_t>(x.c), count = static_cast<size_t>(x.elements()) / channels;
    y.floats.resize(x.floats.size());
    for (tensor *statistics : {&mean, &invstd, &new_mean, &new_var})
        statistics->floats.resize(channels);
    for (size_t c = 0; c < channels; c++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < count; i++)
            sum += static_cast<double>(x.floats[i * channels + c]);
        const double m = sum / static_cast<double>(count);
        for (size_t i = 0; i < count; i++) {
            const double d = static_cast<double>(x.floats[i * channels + c]) - m;
            squares += d * d;
        }
        const double var = squares / static_cast<double>(count);
        const double unbiased = squares / static_cast<double>(count - 1);
        mean.floats[c] = static_cast<float>(m);
        invstd.floats[c] = static_cast<float>(1 / std::sqrt(var + static_cast<double>(eps)));
        new_mean.floats[c] = (1 - factor) * old_mean.floats[c] + factor * static_cast<float>(m);
        new_var.floats[c] = (1 - factor) * old_var.floats[c] + factor * static_cast<float>(unbiased);
        for (size_t i = c; i < x.floats.size(); i += channels)
            y.floats[i] = (x.floats[i] - mean.floats[c]) * invstd.floats[c] * scale.floats[c] + bias.floats[c];
    }
}

/* dx = scale*invstd*(dy - dbias/m - xhat*dscale/m) */
void run_norm_backward(execution &e, const cudasim_descriptor &op)
{
    const tensor &x = e.of(op, CUDNN_ATTR_OPERATION_NORM_BWD_XDESC),
                 &dy = e.of(op, CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC);
    const tensor &scale = e.of(op, CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC);
    const tensor &mean = e.of(op, CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC);
    const tensor &invstd = e.of(op, CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC);
    tensor &dscale = e.of(op, CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC);
    tensor &dbias = e.of(op, CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC);
    tensor &dx = e.of(op, CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC);
    const size_t channels = static_cast<size_t>(x.c);
    const double count = static_cast<double>(x.elements()) / static_cast<double>(channels);
    dx.floats.resize(x.floats.size());
    dscale.floats.resize(channels);
    dbias.floats.resize(channels);
    for (size_t c = 0; c < channels; c++) {
        double sum = 0, products = 0;
        auto xhat = [&](size_t i) {
            return (static_cast<double>(x.floats[i]) - static_cast<double>(mean.floats[c])) *
                   static_cast<double>(invstd.floats[c]);
        };
        for (size_t i = c; i < x.floats.size(); i += channels) {
            sum += static_cast<double>(dy.floats[i]);
            products += static_cast<double>(dy.floats[i]) * xhat(i);
        }
        dbias.floats[c] = static_cast<float>(sum);
        dscale.floats[c] = static_cast<float>(products);
        const double factor = static_cast<double>(scale.floats[c]) * static_cast<double>(invstd.floats[c]);
        for (size_t i = c; i < x.floats.size(); i += channels)
            dx.floats[i] = static_cast<float>(
                factor * (static_cast<double>(dy.floats[i]) - sum / count - xhat(i) * products / count));
    }
}

void run_operation(execution &e, const cudasim_descriptor &op)
{
    static const conv_ports forward = {
        CNN_OP_CONV, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
        CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y};
    static const conv_ports data = {CNN_OP_CONV_DGRAD, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                                    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY};
    static const conv_ports filter = {CNN_OP_CONV_WGRAD, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY};
    switch (op.type) {
    case TYPE(OPERATION_CONVOLUTION_FORWARD):
        return run_convolution(e, op, forward);
    case TYPE(OPERATION_CONVOLUTION_BACKWARD_DATA):
        return run_convolution(e, op, data);
    case TYPE(OPERATION_CONVOLUTION_BACKWARD_FILTER):
        return run_convolution(e, op, filter);
    case TYPE(OPERATION_POINTWISE):
        return run_pointwise(e, op);
    case TYPE(OPERATION_NORM_FORWARD):
        return run_norm_forward(e, op);
    default:
        return run_norm_backward(e, op);
    }
}

/* ---- Calls ---- */

template <typename F> void each_port(const execution &e, F &&visit)
{
    for (int64_t i = 0; i < e.graph->count(CUDNN_ATTR_OPERATIONGRAPH_OPS); i++) {
        const cudasim_descriptor &op = e.graph->child(CUDNN_ATTR_OPERATIONGRAPH_OPS, i);
        for (const cudasim_port *port = cudasim_ports(op.type); port->name != CUDASIM_NO_PORT; port++)
            if (op.has(port->name))
                visit(op, *port);
    }
}

void need_memory(const execution &e)
{
    for (const auto &entry : e.tensors)
        if (!entry.second.is_virtual && !entry.second.by_value)
            cudasim_need_device(entry.second.memory, entry.second.extent_bytes(), "cudnnBackendExecute, a tensor");
    cudasim_need_device(e.workspace, e.workspace_bytes, "cudnnBackendExecute, workspace");
}

/* What is written overlaps with no other tensor and not with the workspace. */
void need_apart(const execution &e)
{
    for (const auto &one : e.tensors) {
        if (!one.second.written || one.second.is_virtual)
            continue;
        const char *first = static_cast<const char *>(one.second.memory), *end = first + one.second.extent_bytes();
        const char *workspace = static_cast<const char *>(e.workspace);
        if (e.workspace_bytes && first < workspace + e.workspace_bytes && workspace < end)
            cudasim_report("cudnnBackendExecute: tensor %d overlaps with the workspace", static_cast<int>(one.first));
        for (const auto &other : e.tensors) {
            const char *start = static_cast<const char *>(other.second.memory);
            if (&one != &other && !other.second.is_virtual && !other.second.by_value && start < end &&
                first < start + other.second.extent_bytes())
                cudasim_report("cudnnBackendExecute: result %d overlaps with tensor %d", static_cast<int>(one.first),
                               static_cast<int>(other.first));
        }
    }
}

void run(execution &e)
{
    need_memory(e);
    for (auto &entry : e.tensors)
        if (!entry.second.written)
            load(&entry.second, "cudnnBackendExecute");
    if (e.workspace_bytes)
        cudasim_unwrite(e.workspace, e.workspace_bytes);
    for (int64_t i = 0; i < e.graph->count(CUDNN_ATTR_OPERATIONGRAPH_OPS); i++)
        run_operation(e, e.graph->child(CUDNN_ATTR_OPERATIONGRAPH_OPS, i));
    for (auto &entry : e.tensors)
        if (entry.second.written)
            store(&entry.second);
}

tensor tensor_of(const cudasim_descriptor &descriptor)
{
    tensor t;
    const cudnnBackendAttributeName_t dims = CUDNN_ATTR_TENSOR_DIMENSIONS;
    t.dtype = dtype_of(descriptor.get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE));
    t.n = descriptor.get<int64_t>(dims, 0);
    t.c = descriptor.get<int64_t>(dims, 1);
    t.h = descriptor.get<int64_t>(dims, 2);
    t.w = descriptor.get<int64_t>(dims, 3);
    for (int i = 0; i < 4; i++)
        t.stride[i] = descriptor.get<int64_t>(CUDNN_ATTR_TENSOR_STRIDES, i);
    t.is_virtual = descriptor.get_or(CUDNN_ATTR_TENSOR_IS_VIRTUAL, false);
    t.by_value = descriptor.get_or(CUDNN_ATTR_TENSOR_IS_BY_VALUE, false);
    return t;
}

/* Gives a tensor its memory; a value is read at once. */
cudnnStatus_t place(tensor *t, int64_t id, int64_t alignment, void *memory)
{
    t->memory = memory;
    if (!memory)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "tensor %d has no memory", static_cast<int>(id));
    if (!t->by_value && reinterpret_cast<uintptr_t>(memory) % static_cast<uintptr_t>(alignment) != 0)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "tensor %d is not aligned to %d bytes",
                                  static_cast<int>(id), static_cast<int>(alignment));
    if (!t->by_value)
        return CUDNN_STATUS_SUCCESS;
    if (cudasim_find(memory, t->extent_bytes(), "cudnnBackendExecute, a value") == CUDASIM_ON_DEVICE)
        cudasim_report("cudnnBackendExecute: tensor %d is by value, but its pointer is device memory",
                       static_cast<int>(id));
    t->floats.assign(1, cudasim_load(memory, t->dtype, 0));
    return CUDNN_STATUS_SUCCESS;
}

/* The pack holds exactly the tensors of the graph that are not virtual. */
cudnnStatus_t place_all(execution *e, const cudasim_descriptor &pack)
{
    std::map<int64_t, int64_t> alignments;
    each_port(*e, [&](const cudasim_descriptor &op, const cudasim_port &port) {
        const cudasim_descriptor &descriptor = op.child(port.name);
        const int64_t id = descriptor.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
        const bool written = port.written || (e->tensors.count(id) && e->tensors[id].written);
        e->tensors[id] = tensor_of(descriptor);
        e->tensors[id].written = written;
        alignments[id] = descriptor.get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    });
    for (int64_t i = 0; i < pack.count(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS); i++) {
        const int64_t id = pack.get<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, i);
        if (!e->tensors.count(id) || e->tensors[id].is_virtual)
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "the graph has no tensor %d in memory",
                                      static_cast<int>(id));
        const cudnnStatus_t status =
            place(&e->tensors[id], id, alignments[id], pack.get<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, i));
        if (status != CUDNN_STATUS_SUCCESS)
            return status;
    }
    for (const auto &entry : e->tensors)
        if (!entry.second.is_virtual && !entry.second.memory)
            return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM, "tensor %d is not in the variant pack",
                                      static_cast<int>(entry.first));
    return CUDNN_STATUS_SUCCESS;
}

} // namespace

cudnnStatus_t cudasim_execute(cudaStream_t stream, const cudasim_descriptor &plan, const cudasim_descriptor &pack)
{
    execution e;
    const cudasim_descriptor &config = plan.child(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const cudasim_descriptor &engine = config.child(CUDNN_ATTR_ENGINECFG_ENGINE);
    e.graph = engine.attributes.at(CUDNN_ATTR_ENGINE_OPERATION_GRAPH).children[0];
    e.engine = engine.get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    if (e.engine == CUDASIM_ENGINE_NONDETERMINISTIC)
        cudasim_report("cudnnBackendExecute: the engine is not deterministic");
    e.workspace = pack.get<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    e.workspace_bytes = static_cast<size_t>(plan.get<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE));
    const cudnnStatus_t status = place_all(&e, pack);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (e.workspace_bytes && !e.workspace)
        return cudasim_cudnn_fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "the plan needs a workspace");
    need_memory(e);
    need_apart(e);
    /* A copy for each run: a recording runs more than once. */
    return cudasim_enqueue(stream,
                           [e] {
                               execution mine = e;
                               run(mine);
                           }) == cudaSuccess
               ? CUDNN_STATUS_SUCCESS
               : cudasim_cudnn_fail(CUDNN_STATUS_EXECUTION_FAILED, "the device is broken");
}
