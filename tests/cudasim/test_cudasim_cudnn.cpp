/* The CPU's cuDNN: it computes a graph, refuses what cuDNN refuses, and wrong uses are found. */
#include "tests/cudasim/descriptor.h"
#include "tests/cudasim/faults.h"

#include <cmath>

namespace
{

#define TYPE(name) CUDNN_BACKEND_##name##_DESCRIPTOR
#define SET(descriptor, name, type, count, values) \
    cudnnBackendSetAttribute(descriptor, CUDNN_ATTR_##name, CUDNN_TYPE_##type, count, values)
#define GOOD(call) CHECK((call) == CUDNN_STATUS_SUCCESS)

typedef cudnnBackendDescriptor_t descriptor;

/* y = relu(conv(x, w) + b): x [1,4,3,3], w [2,4,1,1], b [1,2,1,1], y [1,2,3,3], all NHWC. */
enum { X = 1, W, B, SUMS, BIASED, Y, IDS };
constexpr int64_t DIMS[IDS][4] = {{0, 0, 0, 0}, {1, 4, 3, 3}, {2, 4, 1, 1}, {1, 2, 1, 1},
                                  {1, 2, 3, 3}, {1, 2, 3, 3}, {1, 2, 3, 3}};

descriptor made(cudnnBackendDescriptorType_t type)
{
    descriptor d = nullptr;
    GOOD(cudnnBackendCreateDescriptor(type, &d));
    return d;
}

descriptor tensor(int64_t id, cudnnDataType_t type, bool is_virtual)
{
    const int64_t *dims = DIMS[id], alignment = 16;
    const int64_t strides[4] = {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]};
    descriptor d = made(TYPE(TENSOR));
    GOOD(SET(d, TENSOR_UNIQUE_ID, INT64, 1, &id));
    GOOD(SET(d, TENSOR_DATA_TYPE, DATA_TYPE, 1, &type));
    GOOD(SET(d, TENSOR_DIMENSIONS, INT64, 4, dims));
    GOOD(SET(d, TENSOR_STRIDES, INT64, 4, strides));
    GOOD(SET(d, TENSOR_BYTE_ALIGNMENT, INT64, 1, &alignment));
    GOOD(SET(d, TENSOR_IS_VIRTUAL, BOOLEAN, 1, &is_virtual));
    GOOD(cudnnBackendFinalize(d));
    return d;
}

descriptor convolution(int64_t pad)
{
    const int64_t two = 2, pads[2] = {pad, pad}, ones[2] = {1, 1};
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    descriptor d = made(TYPE(CONVOLUTION));
    GOOD(SET(d, CONVOLUTION_COMP_TYPE, DATA_TYPE, 1, &compute));
    GOOD(SET(d, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, 1, &mode));
    GOOD(SET(d, CONVOLUTION_SPATIAL_DIMS, INT64, 1, &two));
    GOOD(SET(d, CONVOLUTION_PRE_PADDINGS, INT64, 2, pads));
    GOOD(SET(d, CONVOLUTION_POST_PADDINGS, INT64, 2, pads));
    GOOD(SET(d, CONVOLUTION_FILTER_STRIDES, INT64, 2, ones));
    GOOD(SET(d, CONVOLUTION_DILATIONS, INT64, 2, ones));
    GOOD(cudnnBackendFinalize(d));
    return d;
}

descriptor forward(descriptor conv, descriptor x, descriptor w, descriptor y)
{
    descriptor d = made(TYPE(OPERATION_CONVOLUTION_FORWARD));
    GOOD(SET(d, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, BACKEND_DESCRIPTOR, 1, &conv));
    GOOD(SET(d, OPERATION_CONVOLUTION_FORWARD_X, BACKEND_DESCRIPTOR, 1, &x));
    GOOD(SET(d, OPERATION_CONVOLUTION_FORWARD_W, BACKEND_DESCRIPTOR, 1, &w));
    GOOD(SET(d, OPERATION_CONVOLUTION_FORWARD_Y, BACKEND_DESCRIPTOR, 1, &y));
    return d;
}

descriptor pointwise(cudnnPointwiseMode_t mode, descriptor x, descriptor b, descriptor y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    descriptor what = made(TYPE(POINTWISE)), d = made(TYPE(OPERATION_POINTWISE));
    GOOD(SET(what, POINTWISE_MODE, POINTWISE_MODE, 1, &mode));
    GOOD(SET(what, POINTWISE_MATH_PREC, DATA_TYPE, 1, &compute));
    GOOD(cudnnBackendFinalize(what));
    GOOD(SET(d, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, &what));
    GOOD(SET(d, OPERATION_POINTWISE_XDESC, BACKEND_DESCRIPTOR, 1, &x));
    if (b)
        GOOD(SET(d, OPERATION_POINTWISE_BDESC, BACKEND_DESCRIPTOR, 1, &b));
    GOOD(SET(d, OPERATION_POINTWISE_YDESC, BACKEND_DESCRIPTOR, 1, &y));
    GOOD(cudnnBackendFinalize(d));
    return d;
}

/* A handle, the graph above, memory for its tensors, and a plan. */
struct scene {
    cudaStream_t stream = nullptr;
    cudnnHandle_t handle = nullptr;
    descriptor graph = nullptr, plan = nullptr;
    char *memory = nullptr; /* a tensor every 256 bytes, then the workspace */
    static constexpr size_t BYTES = 256 * IDS + 65536;
    int64_t workspace_bytes = 0;

    explicit scene(cudnnDataType_t type = CUDNN_DATA_FLOAT)
    {
        OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        OK(cudaMalloc(reinterpret_cast<void **>(&memory), BYTES));
        GOOD(cudnnCreate(&handle));
        GOOD(cudnnSetStream(handle, stream));
        descriptor conv = forward(convolution(0), tensor(X, type, false), tensor(W, type, false),
                                  tensor(SUMS, CUDNN_DATA_FLOAT, true));
        GOOD(cudnnBackendFinalize(conv));
        descriptor add = pointwise(CUDNN_POINTWISE_ADD, tensor(SUMS, CUDNN_DATA_FLOAT, true),
                                   tensor(B, CUDNN_DATA_FLOAT, false), tensor(BIASED, CUDNN_DATA_FLOAT, true));
        descriptor relu = pointwise(CUDNN_POINTWISE_RELU_FWD, tensor(BIASED, CUDNN_DATA_FLOAT, true), nullptr,
                                    tensor(Y, type, false));
        const descriptor operations[3] = {conv, add, relu};
        graph = made(TYPE(OPERATIONGRAPH));
        GOOD(SET(graph, OPERATIONGRAPH_HANDLE, HANDLE, 1, &handle));
        GOOD(SET(graph, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 3, operations));
        GOOD(cudnnBackendFinalize(graph));
    }
    void *at(int64_t id) const
    {
        return memory + 256 * id;
    }
    void *workspace() const
    {
        return memory + 256 * IDS;
    }
    /* A plan for an engine, as from a cache: by its number. */
    void choose(int64_t number)
    {
        int64_t count = 0;
        descriptor engine = made(TYPE(ENGINE)), config = made(TYPE(ENGINECFG));
        GOOD(SET(engine, ENGINE_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, &graph));
        GOOD(SET(engine, ENGINE_GLOBAL_INDEX, INT64, 1, &number));
        GOOD(cudnnBackendFinalize(engine));
        GOOD(SET(config, ENGINECFG_ENGINE, BACKEND_DESCRIPTOR, 1, &engine));
        GOOD(cudnnBackendFinalize(config));
        plan = made(TYPE(EXECUTION_PLAN));
        GOOD(SET(plan, EXECUTION_PLAN_HANDLE, HANDLE, 1, &handle));
        GOOD(SET(plan, EXECUTION_PLAN_ENGINE_CONFIG, BACKEND_DESCRIPTOR, 1, &config));
        GOOD(cudnnBackendFinalize(plan));
        GOOD(cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                      &workspace_bytes));
    }
    cudnnStatus_t execute(void *x, void *w, void *b, void *y, void *scratch, int64_t count = 4)
    {
        const int64_t ids[4] = {X, W, B, Y};
        void *const pointers[4] = {x, w, b, y};
        descriptor pack = made(TYPE(VARIANT_PACK));
        GOOD(SET(pack, VARIANT_PACK_UNIQUE_IDS, INT64, count, ids));
        GOOD(SET(pack, VARIANT_PACK_DATA_POINTERS, VOID_PTR, count, pointers));
        GOOD(SET(pack, VARIANT_PACK_WORKSPACE, VOID_PTR, 1, &scratch));
        GOOD(cudnnBackendFinalize(pack));
        return cudnnBackendExecute(handle, plan, pack);
    }
    cudnnStatus_t execute()
    {
        return execute(at(X), at(W), at(B), at(Y), workspace());
    }
    void put(int64_t id, const float *values, size_t count)
    {
        OK(cudaMemcpyAsync(at(id), values, count * sizeof *values, cudaMemcpyHostToDevice, stream));
    }
    /* x = 1 + 2^-12 and -1 in turn, w = 1 for channel 0 and -1 for channel 1 of the output, b = 0.5. */
    void fill()
    {
        float x[36], w[8], b[2] = {0.5f, 0.5f};
        for (int i = 0; i < 36; i++)
            x[i] = i % 4 == 3 ? -1.0f : 1.0f + 0x1p-12f;
        for (int i = 0; i < 8; i++)
            w[i] = i < 4 ? 1.0f : -1.0f;
        put(X, x, 36);
        put(W, w, 8);
        put(B, b, 2);
    }
};

/* Descriptors are left as they are: these processes end with leaks, which test_cudasim.cpp covers. */
void computes(int64_t engine, float expected)
{
    scene s;
    float y[18] = {};
    s.fill();
    s.choose(engine);
    GOOD(s.execute());
    OK(cudaMemcpyAsync(y, s.at(Y), sizeof y, cudaMemcpyDeviceToHost, s.stream));
    OK(cudaStreamSynchronize(s.stream));
    for (int i = 0; i < 18; i++)
        CHECK(y[i] == (i % 2 == 0 ? expected : 0.0f));
}

/* 3 (1 + 2^-12) - 1 + 0.5; a tensor core reads 1 + 2^-12 as 1. */
void test_computes()
{
    computes(CUDASIM_ENGINE_PLAIN, 2.5f + 3 * 0x1p-12f);
    computes(CUDASIM_ENGINE_TENSOR, 2.5f);
}

/* ---- What cuDNN refuses ---- */

void test_attributes()
{
    const int64_t one = 1;
    const float number = 1;
    descriptor d = made(TYPE(TENSOR)), op = made(TYPE(OPERATION_POINTWISE)), other = made(TYPE(POINTWISE));
    CHECK(SET(d, TENSOR_UNIQUE_ID, FLOAT, 1, &number) == CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
    CHECK(SET(d, TENSOR_UNIQUE_ID, INT64, 2, &one) == CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND);
    CHECK(SET(d, TENSOR_UNIQUE_ID, INT64, 1, nullptr) == CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
    CHECK(SET(op, OPERATION_POINTWISE_PW_DESCRIPTOR, BACKEND_DESCRIPTOR, 1, &other) ==
          CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
    CHECK(cudnnBackendFinalize(d) == CUDNN_STATUS_BAD_PARAM);
    d = tensor(X, CUDNN_DATA_FLOAT, false);
    CHECK(SET(d, TENSOR_UNIQUE_ID, INT64, 1, &one) == CUDNN_STATUS_NOT_INITIALIZED);
}

void test_graphs()
{
    scene s;
    descriptor conv = forward(convolution(1), tensor(X, CUDNN_DATA_FLOAT, false), tensor(W, CUDNN_DATA_FLOAT, false),
                              tensor(Y, CUDNN_DATA_FLOAT, false));
    CHECK(cudnnBackendFinalize(conv) == CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
    conv = forward(convolution(0), tensor(X, CUDNN_DATA_FLOAT, false), tensor(W, CUDNN_DATA_FLOAT, false),
                   tensor(SUMS, CUDNN_DATA_FLOAT, true));
    GOOD(cudnnBackendFinalize(conv));
    descriptor graph = made(TYPE(OPERATIONGRAPH));
    GOOD(SET(graph, OPERATIONGRAPH_HANDLE, HANDLE, 1, &s.handle));
    GOOD(SET(graph, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, &conv));
    CHECK(cudnnBackendFinalize(graph) == CUDNN_STATUS_BAD_PARAM); /* its result is virtual and nobody reads it */
    char text[256];
    cudnnGetLastErrorString(text, sizeof text);
    CHECK(std::string(text) == "virtual tensor 4 is not read");
}

/* f16 gradients straight to f32: no engine. */
void test_no_engine()
{
    scene s;
    int64_t count = -1;
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    descriptor conv = convolution(0), x = tensor(X, CUDNN_DATA_HALF, false), dy = tensor(Y, CUDNN_DATA_HALF, false);
    descriptor dw = tensor(W, CUDNN_DATA_FLOAT, false), d = made(TYPE(OPERATION_CONVOLUTION_BACKWARD_FILTER));
    GOOD(SET(d, OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, BACKEND_DESCRIPTOR, 1, &conv));
    GOOD(SET(d, OPERATION_CONVOLUTION_BWD_FILTER_X, BACKEND_DESCRIPTOR, 1, &x));
    GOOD(SET(d, OPERATION_CONVOLUTION_BWD_FILTER_DW, BACKEND_DESCRIPTOR, 1, &dw));
    GOOD(SET(d, OPERATION_CONVOLUTION_BWD_FILTER_DY, BACKEND_DESCRIPTOR, 1, &dy));
    GOOD(cudnnBackendFinalize(d));
    descriptor graph = made(TYPE(OPERATIONGRAPH)), heuristic = made(TYPE(ENGINEHEUR));
    GOOD(SET(graph, OPERATIONGRAPH_HANDLE, HANDLE, 1, &s.handle));
    GOOD(SET(graph, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, 1, &d));
    GOOD(cudnnBackendFinalize(graph));
    GOOD(SET(heuristic, ENGINEHEUR_OPERATION_GRAPH, BACKEND_DESCRIPTOR, 1, &graph));
    GOOD(SET(heuristic, ENGINEHEUR_MODE, HEUR_MODE, 1, &mode));
    GOOD(cudnnBackendFinalize(heuristic));
    GOOD(cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                  nullptr));
    CHECK(count == 0);
}

void test_executions()
{
    scene s;
    s.fill();
    s.choose(CUDASIM_ENGINE_TENSOR);
    CHECK(s.workspace_bytes > 0);
    CHECK(s.execute(s.at(X), s.at(W), s.at(B), s.at(Y), nullptr) == CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
    CHECK(s.execute(s.at(X), s.at(W), s.at(B), static_cast<char *>(s.at(Y)) + 4, s.workspace()) ==
          CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
    CHECK(s.execute(s.at(X), s.at(W), s.at(B), s.at(Y), s.workspace(), 3) == CUDNN_STATUS_BAD_PARAM);
    GOOD(s.execute());
}

/* ---- Wrong uses ---- */

const struct {
    const char *name, *sentence;
    void (*use)(scene &s);
} wrong_uses[] = {
    {"a result over an operand", "result 6 overlaps with tensor 1",
     [](scene &s) { (void)s.execute(s.at(X), s.at(W), s.at(B), static_cast<char *>(s.at(X)) + 16, s.workspace()); }},
    {"a result over the workspace", "tensor 6 overlaps with the workspace",
     [](scene &s) { (void)s.execute(s.at(X), s.at(W), s.at(B), s.workspace(), s.workspace()); }},
    {"a workspace that is too small", "bytes at byte",
     [](scene &s) { (void)s.execute(s.at(X), s.at(W), s.at(B), s.at(Y), s.memory + scene::BYTES - 512); }},
    {"an operand in host memory", "is not device memory",
     [](scene &s) {
         alignas(16) static float w[8];
         (void)s.execute(s.at(X), w, s.at(B), s.at(Y), s.workspace());
     }},
    {"an operand that was never written", "which was never written",
     [](scene &s) {
         (void)s.execute(s.at(SUMS), s.at(W), s.at(B), s.at(Y), s.workspace());
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"the workspace is garbage afterwards", "which was never written",
     [](scene &s) {
         float host[4];
         OK(cudaMemsetAsync(s.workspace(), 0, 65536, s.stream));
         GOOD(s.execute());
         (void)cudaMemcpyAsync(host, s.workspace(), sizeof host, cudaMemcpyDeviceToHost, s.stream);
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"memory that was freed", "memory that was freed",
     [](scene &s) {
         OK(cudaFree(s.memory));
         (void)s.execute();
     }},
    {"an engine that is not deterministic", "the engine is not deterministic",
     [](scene &s) {
         s.choose(CUDASIM_ENGINE_NONDETERMINISTIC);
         (void)s.execute();
     }},
    {"a plan that was destroyed", "is no cuDNN descriptor",
     [](scene &s) {
         GOOD(cudnnBackendDestroyDescriptor(s.plan));
         (void)s.execute();
     }},
};

void test_wrong_uses()
{
    for (const auto &wrong : wrong_uses)
        must_be_found(wrong.name, wrong.sentence, [&wrong] {
            scene s;
            s.fill();
            s.choose(CUDASIM_ENGINE_TENSOR);
            wrong.use(s);
        });
}

} // namespace

int main()
{
    test_wrong_uses();
    test_computes();
    test_attributes();
    test_graphs();
    test_no_engine();
    test_executions();
    const int code = report();
    fflush(stdout);
    _exit(code); /* what the scenes leave is no leak to tell */
}
