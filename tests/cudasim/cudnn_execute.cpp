/* cuDNN on the CPU: what its operations compute.
 *
 * Every tensor becomes an array of f32 (i32 where it holds sums of int8), is computed on, and is rounded once where it
 * is stored. Convolutions of floats are the kernels of kernels/cpu in f32, those of int8 plain loops; batch norm sums
 * in double. */
#include "tests/cudasim/cudnn_inside.h"

#include "tests/cudasim/numbers.h"

#include "cnn/backend.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace
{

/* ---- What fits together ---- */

const cudasim_tensor *part(const cudasim_operation &operation, cudnnBackendAttributeName_t name)
{
    auto found = operation.tensors.find(name);
    return found == operation.tensors.end() ? nullptr : &found->second;
}

struct convolution_parts {
    const cudasim_tensor *x, *w, *y; /* image, filter, output: values or gradients */
};

bool is_convolution(cudnnBackendDescriptorType_t type)
{
    return type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
           type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ||
           type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
}

convolution_parts convolution_of(const cudasim_operation &o)
{
    switch (o.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        return {part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X),
                part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
                part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y)};
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return {part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX),
                part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W),
                part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY)};
    default:
        return {part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X),
                part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW),
                part(o, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY)};
    }
}

bool is_sum_of_bytes(const convolution_parts &p)
{
    return p.x->dtype == CNN_I8;
}

const char *refuse_convolution(const cudasim_operation &o)
{
    const convolution_parts p = convolution_of(o);
    if (!p.x || !p.w || !p.y)
        return "a convolution lacks a tensor";
    if (p.w->c != p.x->c || p.w->n != p.y->c || p.y->n != p.x->n)
        return "the channels or images of a convolution do not fit";
    if (p.y->h != cnn_window_count(p.x->h, p.w->h, o.stride, o.pad) ||
        p.y->w != cnn_window_count(p.x->w, p.w->w, o.stride, o.pad))
        return "the output of a convolution has another size";
    if (is_sum_of_bytes(p) && (o.type != CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
                               p.w->dtype != CNN_I8 || p.y->dtype != CNN_I32 || o.compute != CUDNN_DATA_INT32))
        return "an int8 convolution that does not give int32";
    if (!is_sum_of_bytes(p) && (p.w->dtype == CNN_I8 || o.compute != CUDNN_DATA_FLOAT))
        return "a convolution of mixed types";
    /* As the real one: sums come out as f32 only through another operation. */
    if (o.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR && !p.w->is_virtual &&
        p.w->dtype != p.x->dtype)
        return "a weight gradient of another type than its image";
    return nullptr;
}

/* b is of the same shape, or one value a channel. */
bool broadcasts(const cudasim_tensor &x, const cudasim_tensor &b)
{
    return b.c == x.c && ((b.n == x.n && b.h == x.h && b.w == x.w) || (b.n == 1 && b.h == 1 && b.w == 1));
}

const char *refuse_pointwise(const cudasim_operation &o)
{
    const cudasim_tensor *x = part(o, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    const cudasim_tensor *b = part(o, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    const cudasim_tensor *y = part(o, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    if (!x || !y || (o.mode == CUDNN_POINTWISE_ADD) != (b != nullptr))
        return "a pointwise operation lacks a tensor, or has one too many";
    if (x->n != y->n || x->c != y->c || x->h != y->h || x->w != y->w || (b && !broadcasts(*x, *b)))
        return "the shapes of a pointwise operation do not fit";
    if (o.mode != CUDNN_POINTWISE_ADD && o.mode != CUDNN_POINTWISE_RELU_FWD && o.mode != CUDNN_POINTWISE_IDENTITY)
        return "a pointwise mode that is not modelled";
    return nullptr;
}

const char *refuse_norm(const cudasim_operation &o)
{
    static const cudnnBackendAttributeName_t forward[] = {CUDNN_ATTR_OPERATION_NORM_FWD_XDESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC,
                                                          CUDNN_ATTR_OPERATION_NORM_FWD_YDESC};
    static const cudnnBackendAttributeName_t backward[] = {CUDNN_ATTR_OPERATION_NORM_BWD_XDESC,
                                                           CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC,
                                                           CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC,
                                                           CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC,
                                                           CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC,
                                                           CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC,
                                                           CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC,
                                                           CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC};
    const bool is_forward = o.type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR;
    const cudnnBackendAttributeName_t *wanted = is_forward ? forward : backward;
    const size_t count = is_forward ? sizeof forward / sizeof *forward : sizeof backward / sizeof *backward;
    for (size_t i = 0; i < count; i++) {
        const cudasim_tensor *t = part(o, wanted[i]);
        if (!t)
            return "a normalization lacks a tensor";
        if (!t->by_value && t->c != part(o, wanted[0])->c)
            return "the channels of a normalization do not fit";
    }
    return nullptr;
}

/* ---- Values ---- */

struct values {
    std::vector<float> f;
    std::vector<int32_t> i;
};

typedef std::map<int64_t, values> value_map;

[[noreturn]] void missing(const cudasim_tensor &t)
{
    cudasim_report("cudnnBackendExecute: tensor %lld is not in the variant pack, and no operation before it makes it",
                   static_cast<long long>(t.id));
}

size_t bytes_of(const cudasim_tensor &t)
{
    return static_cast<size_t>(t.elements()) * cudasim_number_bytes(t.dtype);
}

const values &load(const cudasim_tensor &t, const cudasim_pack &pack, value_map *map)
{
    auto known = map->find(t.id);
    if (known != map->end())
        return known->second;
    auto memory = pack.memory.find(t.id);
    if (t.is_virtual || memory == pack.memory.end())
        missing(t);
    cudasim_need_written(memory->second, bytes_of(t), "cudnnBackendExecute, a tensor that is read");
    values &v = (*map)[t.id];
    const int64_t count = t.elements();
    if (t.dtype == CNN_I8) {
        const auto *bytes = static_cast<const int8_t *>(memory->second);
        v.i.assign(bytes, bytes + count);
    } else {
        v.f.resize(static_cast<size_t>(count));
        for (int64_t k = 0; k < count; k++)
            v.f[static_cast<size_t>(k)] = cudasim_load(memory->second, t.dtype, k);
    }
    return v;
}

/* Keeps a result and stores it; what a later operation reads is what was stored. */
void store(const cudasim_tensor &t, values v, const cudasim_pack &pack, value_map *map)
{
    if (!t.is_virtual) {
        auto memory = pack.memory.find(t.id);
        if (memory == pack.memory.end())
            missing(t);
        if (t.dtype == CNN_I32) {
            memcpy(memory->second, v.i.data(), v.i.size() * sizeof v.i[0]);
        } else {
            for (size_t k = 0; k < v.f.size(); k++) {
                cudasim_store(memory->second, t.dtype, static_cast<int64_t>(k), v.f[k]);
                v.f[k] = cudasim_load(memory->second, t.dtype, static_cast<int64_t>(k));
            }
        }
    }
    (*map)[t.id] = std::move(v);
}

/* ---- Convolutions ---- */

int host_threads()
{
    return 1;
}

void host_parallel(int tasks, cnn_task_fn run, void *context)
{
    for (int task = 0; task < tasks; task++)
        run(context, task, 0);
}

void *host_alloc(size_t bytes)
{
    return aligned_alloc(CNN_ALIGN, (bytes + CNN_ALIGN) / CNN_ALIGN * CNN_ALIGN);
}

cnn_status host_error(cnn_status status, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cudasim_report("cudnnBackendExecute: %s", text);
    return status;
}

const cnn_host host = {CNN_BACKEND_VERSION, host_threads, host_parallel, host_alloc, free, host_error};

/* Copies with the alignment that kernels rely on. */
struct aligned {
    explicit aligned(const std::vector<float> &from) : data(static_cast<float *>(host_alloc(from.size() * 4)))
    {
        memcpy(data, from.data(), from.size() * 4);
    }
    explicit aligned(size_t count) : data(static_cast<float *>(host_alloc(count * 4)))
    {
    }
    ~aligned()
    {
        free(data);
    }
    aligned(const aligned &) = delete;
    aligned &operator=(const aligned &) = delete;
    float *data;
};

void run_on_cpu(const cnn_op_desc &desc, void *const args[CNN_ARG_COUNT])
{
    cnn_device *device = nullptr;
    cnn_kernel *kernel = nullptr;
    char why[CNN_REASON_BYTES];
    (void)cnn_backend_cpu.open(&host, nullptr, &device);
    (void)cnn_backend_cpu.prepare(device, &desc, &kernel, why);
    void *workspace = host_alloc(kernel->workspace_bytes);
    (void)kernel->run(kernel, args, workspace);
    free(workspace);
    kernel->destroy(kernel);
    cnn_backend_cpu.close(device);
}

std::vector<int32_t> sum_bytes(const cudasim_operation &o, const convolution_parts &p, const std::vector<int32_t> &x,
                               const std::vector<int32_t> &w)
{
    const int32_t channels = p.x->c;
    std::vector<int32_t> y(static_cast<size_t>(p.y->elements()));
    size_t at = 0;
    for (int32_t n = 0; n < p.y->n; n++)
        for (int32_t i = 0; i < p.y->h; i++)
            for (int32_t j = 0; j < p.y->w; j++)
                for (int32_t k = 0; k < p.y->c; k++) {
                    int32_t sum = 0;
                    for (int32_t r = 0; r < p.w->h; r++)
                        for (int32_t s = 0; s < p.w->w; s++) {
                            const int32_t h = i * o.stride + r - o.pad, v = j * o.stride + s - o.pad;
                            if (h < 0 || h >= p.x->h || v < 0 || v >= p.x->w)
                                continue;
                            const int32_t *a = &x[static_cast<size_t>(((n * p.x->h + h) * p.x->w + v) * channels)];
                            const int32_t *b = &w[static_cast<size_t>(((k * p.w->h + r) * p.w->w + s) * channels)];
                            for (int32_t c = 0; c < channels; c++)
                                sum += a[c] * b[c];
                        }
                    y[at++] = sum;
                }
    return y;
}

void run_convolution(const cudasim_operation &o, const cudasim_pack &pack, value_map *map)
{
    const convolution_parts p = convolution_of(o);
    values out;
    if (is_sum_of_bytes(p)) {
        out.i = sum_bytes(o, p, load(*p.x, pack, map).i, load(*p.w, pack, map).i);
        store(*p.y, std::move(out), pack, map);
        return;
    }
    cnn_op_desc desc = {};
    void *args[CNN_ARG_COUNT] = {};
    const cudasim_tensor *in[2], *to;
    cnn_arg roles[2];
    desc.stride = o.stride;
    desc.pad = o.pad;
    switch (o.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        desc.op = CNN_OP_CONV;
        in[0] = p.x, in[1] = p.w, to = p.y;
        roles[0] = CNN_ARG_SRC, roles[1] = CNN_ARG_WEIGHT;
        break;
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        desc.op = CNN_OP_CONV_DGRAD;
        in[0] = p.y, in[1] = p.w, to = p.x;
        roles[0] = CNN_ARG_SRC, roles[1] = CNN_ARG_WEIGHT;
        break;
    default:
        desc.op = CNN_OP_CONV_WGRAD;
        in[0] = p.x, in[1] = p.y, to = p.w;
        roles[0] = CNN_ARG_SRC, roles[1] = CNN_ARG_SRC2;
    }
    const aligned first(load(*in[0], pack, map).f), second(load(*in[1], pack, map).f);
    const aligned result(static_cast<size_t>(to->elements()));
    desc.arg[roles[0]] = in[0]->desc(CNN_F32);
    desc.arg[roles[1]] = in[1]->desc(CNN_F32);
    desc.arg[CNN_ARG_DST] = to->desc(CNN_F32);
    args[roles[0]] = first.data;
    args[roles[1]] = second.data;
    args[CNN_ARG_DST] = result.data;
    run_on_cpu(desc, args);
    out.f.assign(result.data, result.data + to->elements());
    store(*to, std::move(out), pack, map);
}

/* ---- Element by element ---- */

void run_pointwise(const cudasim_operation &o, const cudasim_pack &pack, value_map *map)
{
    const cudasim_tensor &x = *part(o, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
    const cudasim_tensor *b = part(o, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    values out;
    out.f = load(x, pack, map).f;
    if (b) {
        const std::vector<float> other = load(*b, pack, map).f;
        for (size_t k = 0; k < out.f.size(); k++)
            out.f[k] += other[k % other.size()]; /* channels are innermost */
    }
    if (o.mode == CUDNN_POINTWISE_RELU_FWD)
        for (float &value : out.f)
            value = value <= 0 ? 0 : value;
    store(*part(o, CUDNN_ATTR_OPERATION_POINTWISE_YDESC), std::move(out), pack, map);
}

/* ---- Batch norm ---- */

float scalar(const cudasim_tensor &t, const cudasim_pack &pack)
{
    auto found = pack.scalar.find(t.id);
    if (found == pack.scalar.end())
        missing(t);
    return found->second;
}

void run_norm_forward(const cudasim_operation &o, const cudasim_pack &pack, value_map *map)
{
    const cudasim_tensor &x = *part(o, CUDNN_ATTR_OPERATION_NORM_FWD_XDESC);
    const size_t channels = static_cast<size_t>(x.c), pixels = static_cast<size_t>(x.elements()) / channels;
    const std::vector<float> in = load(x, pack, map).f;
    const std::vector<float> scale = load(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC), pack, map).f;
    const std::vector<float> bias = load(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC), pack, map).f;
    const double eps = static_cast<double>(scalar(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC), pack));
    const double factor =
        static_cast<double>(scalar(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_EXP_AVG_FACTOR_DESC), pack));
    values y, mean, invstd, running_mean, running_var;
    /* With a factor of 1 what was before counts for nothing, and need not have been written. */
    std::vector<float> old_mean(channels), old_var(channels);
    if (factor != 1) {
        old_mean = load(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_MEAN_DESC), pack, map).f;
        old_var = load(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_INPUT_RUNNING_VAR_DESC), pack, map).f;
    }
    y.f.resize(in.size());
    for (size_t c = 0; c < channels; c++) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < pixels; i++)
            sum += static_cast<double>(in[i * channels + c]);
        const double average = sum / static_cast<double>(pixels);
        for (size_t i = 0; i < pixels; i++) {
            const double distance = static_cast<double>(in[i * channels + c]) - average;
            squares += distance * distance;
        }
        const double inverse = 1 / std::sqrt(squares / static_cast<double>(pixels) + eps);
        const double unbiased = squares / static_cast<double>(pixels > 1 ? pixels - 1 : 1);
        for (size_t i = 0; i < pixels; i++)
            y.f[i * channels + c] = static_cast<float>((static_cast<double>(in[i * channels + c]) - average) * inverse *
                                                           static_cast<double>(scale[c]) +
                                                       static_cast<double>(bias[c]));
        mean.f.push_back(static_cast<float>(average));
        invstd.f.push_back(static_cast<float>(inverse));
        running_mean.f.push_back(
            static_cast<float>((1 - factor) * static_cast<double>(old_mean[c]) + factor * average));
        running_var.f.push_back(static_cast<float>((1 - factor) * static_cast<double>(old_var[c]) + factor * unbiased));
    }
    store(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_YDESC), std::move(y), pack, map);
    store(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC), std::move(mean), pack, map);
    store(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC), std::move(invstd), pack, map);
    store(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_MEAN_DESC), std::move(running_mean), pack, map);
    store(*part(o, CUDNN_ATTR_OPERATION_NORM_FWD_OUTPUT_RUNNING_VAR_DESC), std::move(running_var), pack, map);
}

void run_norm_backward(const cudasim_operation &o, const cudasim_pack &pack, value_map *map)
{
    const cudasim_tensor &x = *part(o, CUDNN_ATTR_OPERATION_NORM_BWD_XDESC);
    const size_t channels = static_cast<size_t>(x.c), pixels = static_cast<size_t>(x.elements()) / channels;
    const double m = static_cast<double>(pixels);
    const std::vector<float> in = load(x, pack, map).f;
    const std::vector<float> dy = load(*part(o, CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC), pack, map).f;
    const std::vector<float> scale = load(*part(o, CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC), pack, map).f;
    const std::vector<float> mean = load(*part(o, CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC), pack, map).f;
    const std::vector<float> invstd = load(*part(o, CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC), pack, map).f;
    values dx, dscale, dbias;
    dx.f.resize(in.size());
    for (size_t c = 0; c < channels; c++) {
        const double average = static_cast<double>(mean[c]), inverse = static_cast<double>(invstd[c]);
        double sum = 0, product = 0;
        for (size_t i = 0; i < pixels; i++) {
            const double d = static_cast<double>(dy[i * channels + c]);
            sum += d;
            product += d * (static_cast<double>(in[i * channels + c]) - average) * inverse;
        }
        for (size_t i = 0; i < pixels; i++) {
            const double xhat = (static_cast<double>(in[i * channels + c]) - average) * inverse;
            dx.f[i * channels + c] =
                static_cast<float>(static_cast<double>(scale[c]) * inverse *
                                   (static_cast<double>(dy[i * channels + c]) - sum / m - xhat * product / m));
        }
        dscale.f.push_back(static_cast<float>(product));
        dbias.f.push_back(static_cast<float>(sum));
    }
    store(*part(o, CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC), std::move(dx), pack, map);
    store(*part(o, CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC), std::move(dscale), pack, map);
    store(*part(o, CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC), std::move(dbias), pack, map);
}

} // namespace

const char *cudasim_refuse_operation(const cudasim_operation &operation)
{
    if (is_convolution(operation.type))
        return refuse_convolution(operation);
    return operation.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR ? refuse_pointwise(operation)
                                                                          : refuse_norm(operation);
}

void cudasim_need_operands(const cudasim_cudnn_graph &graph, const cudasim_pack &pack)
{
    for (const auto &operation : graph.operations)
        for (const auto &each : operation.tensors) {
            const cudasim_tensor &t = each.second;
            auto memory = pack.memory.find(t.id);
            if (t.is_virtual || t.by_value || memory == pack.memory.end())
                continue;
            cudasim_need_device(memory->second, bytes_of(t), "cudnnBackendExecute, a tensor");
            if (reinterpret_cast<uintptr_t>(memory->second) % 16 != 0)
                cudasim_report("cudnnBackendExecute: tensor %lld is not aligned to 16 bytes as it says",
                               static_cast<long long>(t.id));
        }
}

void cudasim_run_graph(const cudasim_cudnn_graph &graph, const cudasim_pack &pack)
{
    value_map map;
    for (const auto &operation : graph.operations) {
        if (is_convolution(operation.type))
            run_convolution(operation, pack, &map);
        else if (operation.type == CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)
            run_pointwise(operation, pack, &map);
        else if (operation.type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR)
            run_norm_forward(operation, pack, &map);
        else
            run_norm_backward(operation, pack, &map);
    }
}
