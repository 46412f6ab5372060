/* The CPU's cuBLASLt: it multiplies, refuses what cuBLASLt refuses, and wrong uses are found. */
#include "tests/cudasim/faults.h"
#include "tests/cudasim/matmul.h"
#include "tests/cudasim/runtime.h"

#include <vector>

namespace
{

#define GOOD(call) CHECK((call) == CUBLAS_STATUS_SUCCESS)

constexpr int64_t M = 5, N = 3, K = 7;
constexpr float ONE = 1, ZERO = 0;

/* D [m,n] = op(A) op(B) in f32 with an epilogue; a vector for the bias. */
struct scene {
    cudaStream_t stream = nullptr;
    cublasLtHandle_t handle = nullptr;
    cublasLtMatmulDesc_t desc = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
    cublasLtMatmulPreference_t preference = nullptr;
    cublasLtMatmulHeuristicResult_t found = {};
    int count = 0;
    char *memory = nullptr; /* A, B, D, bias every 1024 bytes, then the workspace */
    static constexpr size_t BYTES = 4096 + 65536;

    float *at(int i) const
    {
        return reinterpret_cast<float *>(memory + 1024 * i);
    }
    void *workspace() const
    {
        return memory + 4096;
    }
    scene(bool a_transposed, bool b_transposed, cublasLtEpilogue_t epilogue)
    {
        const cublasOperation_t transposed = CUBLAS_OP_T;
        const uint64_t bytes = 32768;
        const uint32_t alignment = 64;
        OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
        OK(cudaMalloc(reinterpret_cast<void **>(&memory), BYTES));
        GOOD(cublasLtCreate(&handle));
        GOOD(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
        if (a_transposed)
            GOOD(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed));
        if (b_transposed)
            GOOD(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &transposed, sizeof transposed));
        GOOD(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
        const void *bias = at(3);
        GOOD(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
        GOOD(cublasLtMatrixLayoutCreate(&a, CUDA_R_32F, a_transposed ? K : M, a_transposed ? M : K, 8));
        GOOD(cublasLtMatrixLayoutCreate(&b, CUDA_R_32F, b_transposed ? N : K, b_transposed ? K : N, 8));
        GOOD(cublasLtMatrixLayoutCreate(&d, CUDA_R_32F, M, N, M));
        GOOD(cublasLtMatmulPreferenceCreate(&preference));
        GOOD(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes,
                                                  sizeof bytes));
        for (auto name : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
            GOOD(cublasLtMatmulPreferenceSetAttribute(preference, name, &alignment, sizeof alignment));
        GOOD(ask(d));
    }
    cublasStatus_t ask(cublasLtMatrixLayout_t result)
    {
        return cublasLtMatmulAlgoGetHeuristic(handle, desc, a, b, result, result, preference, 1, &found, &count);
    }
    cublasStatus_t multiply(const void *from_a, const void *from_b, void *to, void *scratch, size_t scratch_bytes)
    {
        return cublasLtMatmul(handle, desc, &ONE, from_a, a, from_b, b, &ZERO, to, d, to, d, &found.algo, scratch,
                              scratch_bytes, stream);
    }
    cublasStatus_t multiply()
    {
        return multiply(at(0), at(1), at(2), workspace(), found.workspaceSize);
    }
    /* Small whole numbers, so that sums are exact. */
    static float value(int matrix, int64_t i)
    {
        return static_cast<float>((i * 7 + matrix * 5) % 11 - 5);
    }
    void fill()
    {
        for (int matrix : {0, 1, 3}) {
            std::vector<float> values(64);
            for (size_t i = 0; i < values.size(); i++)
                values[i] = value(matrix, static_cast<int64_t>(i));
            OK(cudaMemcpyAsync(at(matrix), values.data(), 256, cudaMemcpyHostToDevice, stream));
        }
    }
    std::vector<float> fetch(int matrix, size_t elements)
    {
        std::vector<float> values(elements);
        OK(cudaMemcpyAsync(values.data(), at(matrix), elements * 4, cudaMemcpyDeviceToHost, stream));
        OK(cudaStreamSynchronize(stream));
        return values;
    }
};

/* ---- It multiplies ---- */

void test_product(bool a_transposed, bool b_transposed, cublasLtEpilogue_t epilogue)
{
    scene s(a_transposed, b_transposed, epilogue);
    auto a = [=](int64_t i, int64_t k) { return scene::value(0, a_transposed ? i * 8 + k : k * 8 + i); };
    auto b = [=](int64_t k, int64_t j) { return scene::value(1, b_transposed ? k * 8 + j : j * 8 + k); };
    s.fill();
    GOOD(s.multiply());
    const std::vector<float> d = s.fetch(2, M * N);
    for (int64_t j = 0; j < N; j++)
        for (int64_t i = 0; i < M; i++) {
            float sum = 0;
            for (int64_t k = 0; k < K; k++)
                sum += a(i, k) * b(k, j);
            sum += cudasim_adds_bias(epilogue) ? scene::value(3, i) : 0;
            sum = cudasim_rectifies(epilogue) && sum < 0 ? 0 : sum;
            CHECK(d[static_cast<size_t>(j * M + i)] == sum);
        }
    if (epilogue != CUBLASLT_EPILOGUE_BGRADB)
        return;
    const std::vector<float> gradient = s.fetch(3, N);
    for (int64_t j = 0; j < N; j++) {
        float sum = 0;
        for (int64_t k = 0; k < K; k++)
            sum += b(k, j);
        CHECK(gradient[static_cast<size_t>(j)] == sum);
    }
}

/* ---- What cuBLASLt refuses ---- */

void test_refusals()
{
    scene s(true, false, CUBLASLT_EPILOGUE_DEFAULT);
    cublasLtMatrixLayout_t other = nullptr;
    const uint64_t none = 0;
    s.fill();
    CHECK(cublasLtMatrixLayoutCreate(&other, CUDA_R_32F, 4, 4, 3) == CUBLAS_STATUS_INVALID_VALUE);
    GOOD(cublasLtMatrixLayoutCreate(&other, CUDA_R_32F, M + 1, N, M + 1));
    CHECK(s.ask(other) == CUBLAS_STATUS_INVALID_VALUE);
    GOOD(cublasLtMatrixLayoutCreate(&other, CUDA_R_16F, M, N, M));
    CHECK(s.ask(other) == CUBLAS_STATUS_NOT_SUPPORTED);
    CHECK(cublasLtMatmulDescSetAttribute(s.desc, CUBLASLT_MATMUL_DESC_TRANSA, &none, sizeof none) ==
          CUBLAS_STATUS_INVALID_VALUE);
    GOOD(s.ask(s.d));
    CHECK(s.multiply(s.at(0) + 1, s.at(1), s.at(2), s.workspace(), s.found.workspaceSize) ==
          CUBLAS_STATUS_INVALID_VALUE);
    CHECK(s.multiply(s.at(0), s.at(1), s.at(2), s.workspace(), s.found.workspaceSize - 1) ==
          CUBLAS_STATUS_INVALID_VALUE);
    GOOD(s.multiply());
}

/* ---- Wrong uses ---- */

const struct {
    const char *name, *sentence;
    void (*use)(scene &s);
} wrong_uses[] = {
    {"D over A", "overlaps with another operand",
     [](scene &s) { (void)s.multiply(s.at(0), s.at(1), s.at(0), s.workspace(), s.found.workspaceSize); }},
    {"D in the workspace", "overlaps with another operand",
     [](scene &s) { (void)s.multiply(s.at(0), s.at(1), s.workspace(), s.workspace(), s.found.workspaceSize); }},
    {"B that was never written", "cublasLtMatmul, B: reads byte 0",
     [](scene &s) {
         (void)s.multiply(s.at(0), s.memory + 3072 + 512, s.at(2), s.workspace(), s.found.workspaceSize);
         (void)cudaStreamSynchronize(s.stream);
     }},
    {"A in host memory", "is not device memory",
     [](scene &s) {
         alignas(64) static float host[64];
         (void)s.multiply(host, s.at(1), s.at(2), s.workspace(), s.found.workspaceSize);
     }},
    {"a workspace behind the block's end", "bytes at byte",
     [](scene &s) {
         (void)s.multiply(s.at(0), s.at(1), s.at(2), s.memory + scene::BYTES - 256, s.found.workspaceSize);
     }},
    {"the algorithm of another problem", "the algorithm was not found for this problem",
     [](scene &s) {
         const cublasLtEpilogue_t relu = CUBLASLT_EPILOGUE_RELU;
         GOOD(cublasLtMatmulDescSetAttribute(s.desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &relu, sizeof relu));
         (void)s.multiply();
     }},
    {"beta that is not 0", "alpha is not 1 or beta not 0",
     [](scene &s) {
         (void)cublasLtMatmul(s.handle, s.desc, &ONE, s.at(0), s.a, s.at(1), s.b, &ONE, s.at(2), s.d, s.at(2), s.d,
                              &s.found.algo, s.workspace(), s.found.workspaceSize, s.stream);
     }},
    {"a layout that was destroyed", "is no cuBLASLt descriptor",
     [](scene &s) {
         GOOD(cublasLtMatrixLayoutDestroy(s.a));
         (void)s.multiply();
     }},
};

void test_wrong_uses()
{
    for (const auto &wrong : wrong_uses)
        must_be_found(wrong.name, wrong.sentence, [&wrong] {
            scene s(true, false, CUBLASLT_EPILOGUE_BIAS);
            s.fill();
            wrong.use(s);
        });
}

} // namespace

int main()
{
    test_wrong_uses();
    for (bool a_transposed : {false, true})
        for (bool b_transposed : {false, true})
            for (auto epilogue : {CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_RELU,
                                  CUBLASLT_EPILOGUE_RELU_BIAS, CUBLASLT_EPILOGUE_BGRADB})
                test_product(a_transposed, b_transposed, epilogue);
    test_refusals();
    const int code = report();
    fflush(stdout);
    _exit(code); /* what the scenes leave is no leak to tell */
}
