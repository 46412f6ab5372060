/* cuBLASLt on the CPU: D = epilogue(op(A) op(B)), column-major, alpha 1, beta 0, sums in f32 (i32 of i8), the sum over
 * k from 0 up. What is not modelled is reported; what cuBLASLt refuses is refused with its status.
 *
 * An algorithm belongs to the problem that the heuristics were asked for; cublasLtMatmul must be called with the same
 * one, with pointers as aligned as was promised, and with its workspace, which is overwritten with garbage. */
#include "tests/cudasim/matmul.h"
#include "tests/cudasim/runtime.h"

#include <cstring>
#include <initializer_list>

struct cublasLtContext {
    int device;
};

namespace
{

constexpr size_t WORKSPACE_BYTES = 12345; /* not round, so that who rounds it up badly is found */
constexpr uint64_t ALGORITHM = UINT64_C(0x637564617369);

struct preference : cublasLtMatmulPreferenceOpaque_t {
    uint64_t workspace_bytes = 0;
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
    uint32_t alignment[4] = {256, 256, 256, 256}; /* A, B, C, D */
};

/* What an algorithm was found for, in cublasLtMatmulAlgo_t.data. */
struct problem {
    uint64_t mark, shapes, workspace_bytes;
    uint32_t alignment[4];
};
static_assert(sizeof(problem) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm has room for its problem");

bool dtype_of(cudaDataType_t type, cnn_dtype *dtype)
{
    switch (type) {
    case CUDA_R_32F:
        *dtype = CNN_F32;
        return true;
    case CUDA_R_16F:
        *dtype = CNN_F16;
        return true;
    case CUDA_R_16BF:
        *dtype = CNN_BF16;
        return true;
    case CUDA_R_8I:
        *dtype = CNN_I8;
        return true;
    case CUDA_R_32I:
        *dtype = CNN_I32;
        return true;
    default:
        return false;
    }
}

template <typename T> T *make(int device)
{
    if (cudasim_refuse())
        return nullptr;
    T *made = new T();
    cudasim_add(CUDASIM_BLAS_DESCRIPTOR, made, device);
    return made;
}

template <typename T> cublasStatus_t destroy(T *descriptor, const char *call)
{
    CUDASIM_LOCKED;
    cudasim_remove(CUDASIM_BLAS_DESCRIPTOR, descriptor, call);
    delete descriptor;
    return CUBLAS_STATUS_SUCCESS;
}

/* Copies a value whose size must be right. */
template <typename T> cublasStatus_t take(T *to, const void *from, size_t bytes)
{
    if (!from || bytes != sizeof *to)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, sizeof *to);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t take_operation(bool *transposed, const void *from, size_t bytes)
{
    cublasOperation_t operation;
    const cublasStatus_t status = take(&operation, from, bytes);
    if (status == CUBLAS_STATUS_SUCCESS && operation != CUBLAS_OP_N && operation != CUBLAS_OP_T)
        cudasim_report("cublasLtMatmulDescSetAttribute: operation %d is not modelled", static_cast<int>(operation));
    if (status == CUBLAS_STATUS_SUCCESS)
        *transposed = operation == CUBLAS_OP_T;
    return status;
}

/* ---- What cuBLASLt multiplies ---- */

/* Whether the shapes fit together; with m, n and k. */
bool shapes_fit(const cudasim_product &p, const cudasim_matrix_layout &a, const cudasim_matrix_layout &b,
                const cudasim_matrix_layout &d, cudasim_multiplication *out)
{
    out->m = p.a_transposed ? a.columns : a.rows;
    out->k = p.a_transposed ? a.rows : a.columns;
    out->n = p.b_transposed ? b.rows : b.columns;
    return (p.b_transposed ? b.columns : b.rows) == out->k && d.rows == out->m && d.columns == out->n;
}

/* Types, and for i8 what its tensor cores need: A transposed, B not, multiples of 4. */
bool types_fit(const cudasim_product &p, const cudasim_matrix_layout &a, const cudasim_matrix_layout &b,
               const cudasim_matrix_layout &d)
{
    if (a.dtype != b.dtype)
        return false;
    if (a.dtype == CNN_I8)
        return p.compute == CUBLAS_COMPUTE_32I && p.scale == CUDA_R_32I && d.dtype == CNN_I32 && p.a_transposed &&
               !p.b_transposed && a.pitch % 4 == 0 && b.pitch % 4 == 0 && d.pitch % 4 == 0 &&
               p.epilogue == CUBLASLT_EPILOGUE_DEFAULT;
    const bool computes =
        p.compute == CUBLAS_COMPUTE_32F || (p.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a.dtype == CNN_F32);
    return computes && p.scale == CUDA_R_32F && a.dtype != CNN_I32 && (d.dtype == CNN_F32 || d.dtype == a.dtype);
}

/* A number that is the same for the same problem. The bias pointer is not part of it. */
uint64_t shapes_of(const cudasim_product &p, const cudasim_matrix_layout &a, const cudasim_matrix_layout &b,
                   const cudasim_matrix_layout &d)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    const int64_t numbers[] = {p.compute, p.a_transposed, p.b_transposed, p.epilogue, a.dtype,   a.rows,
                               a.columns, a.pitch,        b.dtype,        b.rows,     b.columns, b.pitch,
                               d.dtype,   d.rows,         d.columns,      d.pitch};
    for (int64_t number : numbers)
        hash = (hash ^ static_cast<uint64_t>(number)) * UINT64_C(0x100000001b3);
    return hash;
}

/* The factors must be 1 and 0, in the type of the scale. */
void need_factors(const cudasim_product &p, const void *alpha, const void *beta)
{
    const bool good = p.scale == CUDA_R_32I
                          ? *static_cast<const int32_t *>(alpha) == 1 && *static_cast<const int32_t *>(beta) == 0
                          : *static_cast<const float *>(alpha) == 1.0f && *static_cast<const float *>(beta) == 0.0f;
    if (!good)
        cudasim_report("cublasLtMatmul: alpha is not 1 or beta not 0: not modelled");
}

bool aligned(const cudasim_multiplication &x, const problem &asked)
{
    const void *const pointers[4] = {x.a_data, x.b_data, x.d_data, x.d_data};
    for (int i = 0; i < 4; i++)
        if (reinterpret_cast<uintptr_t>(pointers[i]) % asked.alignment[i] != 0)
            return false;
    return true;
}

} // namespace

/* ---- Handles ---- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    CUDASIM_LOCKED;
    if (cudasim_broken() != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (cudasim_refuse())
        return CUBLAS_STATUS_ALLOC_FAILED;
    *handle = new cublasLtContext{cudasim_device()};
    cudasim_add(CUDASIM_BLAS_HANDLE, *handle, cudasim_device());
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    CUDASIM_LOCKED;
    cudasim_remove(CUDASIM_BLAS_HANDLE, handle, "cublasLtDestroy");
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
#define ROW(name) \
    case name:    \
        return #name
    switch (status) {
        ROW(CUBLAS_STATUS_SUCCESS);
        ROW(CUBLAS_STATUS_NOT_INITIALIZED);
        ROW(CUBLAS_STATUS_ALLOC_FAILED);
        ROW(CUBLAS_STATUS_INVALID_VALUE);
        ROW(CUBLAS_STATUS_EXECUTION_FAILED);
        ROW(CUBLAS_STATUS_NOT_SUPPORTED);
        ROW(CUBLAS_STATUS_INTERNAL_ERROR);
    default:
        return "<unknown>";
    }
#undef ROW
}

/* ---- Descriptors ---- */

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t pitch)
{
    CUDASIM_LOCKED;
    cnn_dtype dtype;
    if (!dtype_of(type, &dtype) || rows == 0 || columns == 0 || pitch < static_cast<int64_t>(rows))
        return CUBLAS_STATUS_INVALID_VALUE;
    auto *made = make<cudasim_matrix_layout>(cudasim_device());
    if (!made)
        return CUBLAS_STATUS_ALLOC_FAILED;
    made->dtype = dtype;
    made->rows = static_cast<int64_t>(rows);
    made->columns = static_cast<int64_t>(columns);
    made->pitch = pitch;
    *layout = made;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    return destroy(static_cast<cudasim_matrix_layout *>(layout), "cublasLtMatrixLayoutDestroy");
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute, cudaDataType_t scale)
{
    CUDASIM_LOCKED;
    auto *made = make<cudasim_product>(cudasim_device());
    if (!made)
        return CUBLAS_STATUS_ALLOC_FAILED;
    made->compute = compute;
    made->scale = scale;
    *desc = made;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc)
{
    return destroy(static_cast<cudasim_product *>(desc), "cublasLtMatmulDescDestroy");
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t bytes)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_BLAS_DESCRIPTOR, desc, "cublasLtMatmulDescSetAttribute");
    auto *p = static_cast<cudasim_product *>(desc);
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take_operation(&p->a_transposed, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take_operation(&p->b_transposed, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(&p->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(&p->bias, value, bytes);
    default:
        cudasim_report("cublasLtMatmulDescSetAttribute: attribute %d is not modelled", static_cast<int>(attribute));
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference_out)
{
    CUDASIM_LOCKED;
    auto *made = make<preference>(cudasim_device());
    if (!made)
        return CUBLAS_STATUS_ALLOC_FAILED;
    *preference_out = made;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wanted)
{
    return destroy(static_cast<preference *>(wanted), "cublasLtMatmulPreferenceDestroy");
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wanted,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                                    size_t bytes)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_BLAS_DESCRIPTOR, wanted, "cublasLtMatmulPreferenceSetAttribute");
    auto *w = static_cast<preference *>(wanted);
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(&w->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        return take(&w->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return take(&w->alignment[0], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return take(&w->alignment[1], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return take(&w->alignment[2], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(&w->alignment[3], value, bytes);
    default:
        cudasim_report("cublasLtMatmulPreferenceSetAttribute: attribute %d is not modelled",
                       static_cast<int>(attribute));
    }
}

/* ---- Multiplying ---- */

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a_layout, cublasLtMatrixLayout_t b_layout,
                                              cublasLtMatrixLayout_t c_layout, cublasLtMatrixLayout_t d_layout,
                                              cublasLtMatmulPreference_t wanted, int most,
                                              cublasLtMatmulHeuristicResult_t results[], int *count)
{
    CUDASIM_LOCKED;
    const char *call = "cublasLtMatmulAlgoGetHeuristic";
    cudasim_need(CUDASIM_BLAS_HANDLE, handle, call);
    for (const void *descriptor :
         std::initializer_list<const void *>{desc, a_layout, b_layout, c_layout, d_layout, wanted})
        cudasim_need(CUDASIM_BLAS_DESCRIPTOR, descriptor, call);
    const auto &p = *static_cast<cudasim_product *>(desc);
    const auto &a = *static_cast<cudasim_matrix_layout *>(a_layout),
               &b = *static_cast<cudasim_matrix_layout *>(b_layout);
    const auto &d = *static_cast<cudasim_matrix_layout *>(d_layout);
    const auto &w = *static_cast<preference *>(wanted);
    cudasim_multiplication x = {};
    *count = 0;
    if (most < 1 || c_layout != d_layout || !shapes_fit(p, a, b, d, &x))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_fit(p, a, b, d) || ((cudasim_adds_bias(p.epilogue) || cudasim_sums_operand(p.epilogue)) && !p.bias))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p.epilogue != CUBLASLT_EPILOGUE_DEFAULT && !cudasim_adds_bias(p.epilogue) && !cudasim_rectifies(p.epilogue) &&
        !cudasim_sums_operand(p.epilogue))
        cudasim_report("%s: epilogue %d is not modelled", call, static_cast<int>(p.epilogue));
    problem found = {ALGORITHM, shapes_of(p, a, b, d), w.workspace_bytes < WORKSPACE_BYTES ? 0 : WORKSPACE_BYTES, {}};
    memcpy(found.alignment, w.alignment, sizeof found.alignment);
    memset(results, 0, sizeof *results);
    memcpy(&results->algo, &found, sizeof found);
    results->workspaceSize = found.workspace_bytes;
    results->state = CUBLAS_STATUS_SUCCESS;
    *count = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream)
{
    CUDASIM_LOCKED;
    problem asked;
    cudasim_need(CUDASIM_BLAS_HANDLE, handle, "cublasLtMatmul");
    for (const void *descriptor : std::initializer_list<const void *>{desc, a_layout, b_layout, c_layout, d_layout})
        cudasim_need(CUDASIM_BLAS_DESCRIPTOR, descriptor, "cublasLtMatmul");
    cudasim_need_stream(stream, "cublasLtMatmul");
    cudasim_multiplication x = {*static_cast<cudasim_product *>(desc),
                                *static_cast<cudasim_matrix_layout *>(a_layout),
                                *static_cast<cudasim_matrix_layout *>(b_layout),
                                *static_cast<cudasim_matrix_layout *>(d_layout),
                                a,
                                b,
                                d,
                                workspace,
                                workspace_bytes,
                                0,
                                0,
                                0};
    if (!algorithm || c != d || c_layout != d_layout || !shapes_fit(x.p, x.a, x.b, x.d, &x))
        return CUBLAS_STATUS_INVALID_VALUE;
    need_factors(x.p, alpha, beta);
    memcpy(&asked, algorithm, sizeof asked);
    if (asked.mark != ALGORITHM || asked.shapes != shapes_of(x.p, x.a, x.b, x.d))
        cudasim_report("cublasLtMatmul: the algorithm was not found for this problem");
    if (workspace_bytes < asked.workspace_bytes || !aligned(x, asked))
        return CUBLAS_STATUS_INVALID_VALUE;
    x.workspace_bytes = asked.workspace_bytes;
    cudasim_need_operands(x);
    return cudasim_enqueue(stream, [x] { cudasim_multiply(x); }) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                                : CUBLAS_STATUS_EXECUTION_FAILED;
}
