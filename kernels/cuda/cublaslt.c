/* Linear layers by cuBLASLt: forward, data gradient, weight gradient with the bias gradient.
 *
 * cuBLASLt is column-major: a row-major [rows, columns] matrix is its [columns, rows] with leading dimension `columns`.
 * With x [N,L] (L = H*W*C), w [K,L], y and dy [N,K], all row-major, that makes
 *
 *   forward         D [K,N] = w' x     m = K, n = N, k = L   A = w transposed
 *   data gradient   D [L,N] = w  dy    m = L, n = N, k = K
 *   weight gradient D [L,K] = x  dy'   m = L, n = K, k = N   B = dy transposed, its row sums are db (BGRADB)
 *
 * Sums are f32 (i32 for i8). Where D is f32, bias and ReLU are the library's epilogue. Into f16 and bf16 the library
 * adds only a bias of that type, and ours is f32: the sums then go to the workspace and one kernel of ours adds,
 * rectifies and rounds once (N*K values: 131 KB of convnet's 64x512, beside 12.8 MB of weights). i8 goes the same way,
 * through the requantizing kernel. Algorithms come from the library's heuristics, asked once a kernel; those that add
 * partial sums in place, in any order, are left out. */
#include "kernels/cuda/device.h"
#include "kernels/cuda/kernels.h"
#include "kernels/refuse.h"

#include <string.h>

typedef struct blas_kernel {
    cnn_cuda_kernel cuda;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algorithm;
    size_t algorithm_bytes; /* of workspace; behind it the sums that a kernel of ours goes on with */
    size_t sums_bytes;
    int32_t pitch; /* of those sums */
    cnn_arg a_role, b_role;
} blas_kernel;

/* One matrix: rows and columns as cuBLASLt counts them. */
typedef struct matrix {
    cudaDataType_t type;
    int64_t rows, columns;
    bool transposed;
} matrix;

typedef struct product {
    matrix a, b, d;
    bool sums_apart; /* D goes to the workspace */
    cublasLtEpilogue_t epilogue;
    cnn_arg bias; /* of the epilogue: BIAS is read, DST2 written */
} product;

static cnn_status check(const cnn_device *device, cublasStatus_t status, const char *call)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return CNN_OK;
    return device->host->error(status == CUBLAS_STATUS_ALLOC_FAILED ? CNN_ERR_MEMORY : CNN_ERR_DEVICE,
                               "device " CNN_CUDA_NAME ": %s failed: %s", call, cublasLtGetStatusString(status));
}

/* ---- What is multiplied ---- */

static cudaDataType_t type_of(cnn_dtype dtype)
{
    switch (dtype) {
    case CNN_F16:
        return CUDA_R_16F;
    case CNN_BF16:
        return CUDA_R_16BF;
    case CNN_I8:
        return CUDA_R_8I;
    case CNN_I32:
        return CUDA_R_32I;
    default:
        return CUDA_R_32F;
    }
}

/* Values of a row of x: H*W*C, padding channels included. */
static int64_t row_length(const cnn_tensor_desc *x)
{
    return (int64_t)x->h * x->w * x->c_pad;
}

static int32_t round_up(int32_t value, int32_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

/* Rows of packed i8 weights, and pitch of their sums: a multiple of what the tensor cores take. */
static int32_t padded_outputs(const cnn_op_desc *desc)
{
    return round_up(desc->arg[CNN_ARG_WEIGHT].n, 16);
}

static product forward_product(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC], *dst = &desc->arg[CNN_ARG_DST];
    const bool is_i8 = x->dtype == CNN_I8;
    const int64_t outputs = is_i8 ? padded_outputs(desc) : dst->c, length = row_length(x);
    const bool bias = cnn_op_has_epilogue(desc, CNN_EPILOGUE_BIAS), relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    product p = {.a = {type_of(x->dtype), length, outputs, true},
                 .b = {type_of(x->dtype), length, x->n, false},
                 .d = {is_i8 ? CUDA_R_32I : CUDA_R_32F, outputs, x->n, false},
                 .epilogue = CUBLASLT_EPILOGUE_DEFAULT,
                 .bias = CNN_ARG_BIAS};
    p.sums_apart = is_i8 || (dst->dtype != CNN_F32 && bias);
    if (p.sums_apart)
        return p;
    p.d.type = type_of(dst->dtype);
    p.epilogue = bias && relu ? CUBLASLT_EPILOGUE_RELU_BIAS
                 : bias       ? CUBLASLT_EPILOGUE_BIAS
                 : relu       ? CUBLASLT_EPILOGUE_RELU
                              : CUBLASLT_EPILOGUE_DEFAULT;
    return p;
}

static product dgrad_product(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC], *dx = &desc->arg[CNN_ARG_DST];
    return (product){.a = {type_of(dy->dtype), row_length(dx), dy->c, false},
                     .b = {type_of(dy->dtype), dy->c, dy->n, false},
                     .d = {type_of(dx->dtype), row_length(dx), dy->n, false},
                     .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
}

static product wgrad_product(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC], *dy = &desc->arg[CNN_ARG_SRC2];
    const bool bias = desc->arg[CNN_ARG_DST2].dtype != CNN_NONE;
    return (product){.a = {type_of(x->dtype), row_length(x), x->n, false},
                     .b = {type_of(x->dtype), dy->c, x->n, true},
                     .d = {CUDA_R_32F, row_length(x), dy->c, false},
                     .epilogue = bias ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_DEFAULT,
                     .bias = CNN_ARG_DST2};
}

static product product_of(const cnn_op_desc *desc)
{
    return desc->op == CNN_OP_LINEAR         ? forward_product(desc)
           : desc->op == CNN_OP_LINEAR_DGRAD ? dgrad_product(desc)
                                             : wgrad_product(desc);
}

/* ---- Descriptors ---- */

static cnn_status make_layout(const cnn_device *device, const matrix *m, cublasLtMatrixLayout_t *layout)
{
    return check(device, cublasLtMatrixLayoutCreate(layout, m->type, (uint64_t)m->rows, (uint64_t)m->columns, m->rows),
                 "cublasLtMatrixLayoutCreate");
}

static cnn_status set(blas_kernel *kernel, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes)
{
    return check(kernel->cuda.device, cublasLtMatmulDescSetAttribute(kernel->product, attribute, value, bytes),
                 "cublasLtMatmulDescSetAttribute");
}

static cublasComputeType_t compute_type(const cnn_device *device, const product *p)
{
    if (p->a.type == CUDA_R_8I)
        return CUBLAS_COMPUTE_32I;
    return p->a.type == CUDA_R_32F && device->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

static bool has_bias(cublasLtEpilogue_t epilogue)
{
    return epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_RELU;
}

static cnn_status describe(blas_kernel *kernel, const product *p)
{
    const cnn_device *device = kernel->cuda.device;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const void *const aligned = (const void *)(uintptr_t)CNN_ALIGN; /* heuristics ask for the alignment alone */
    const cudaDataType_t scale = p->a.type == CUDA_R_8I ? CUDA_R_32I : CUDA_R_32F;
    cnn_status status = make_layout(device, &p->a, &kernel->a);
    if (status == CNN_OK)
        status = make_layout(device, &p->b, &kernel->b);
    if (status == CNN_OK)
        status = make_layout(device, &p->d, &kernel->d);
    if (status == CNN_OK)
        status = check(device, cublasLtMatmulDescCreate(&kernel->product, compute_type(device, p), scale),
                       "cublasLtMatmulDescCreate");
    if (status == CNN_OK && p->a.transposed)
        status = set(kernel, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (status == CNN_OK && p->b.transposed)
        status = set(kernel, CUBLASLT_MATMUL_DESC_TRANSB, &transposed, sizeof transposed);
    if (status == CNN_OK && p->epilogue != CUBLASLT_EPILOGUE_DEFAULT)
        status = set(kernel, CUBLASLT_MATMUL_DESC_EPILOGUE, &p->epilogue, sizeof p->epilogue);
    if (status == CNN_OK && has_bias(p->epilogue))
        status = set(kernel, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &aligned, sizeof aligned);
    return status;
}

/* Tensors begin at multiples of 64 bytes, f16 weights in the contiguous memory of all at multiples of 32. No partial
 * sums in place, whose order is not fixed, and none in the type of D: an f16 result would be rounded more than once. */
static cnn_status set_preference(const cnn_device *device, cublasLtMatmulPreference_t preference)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t workspace = CNN_CUDA_BLAS_WORKSPACE_BYTES;
    const uint32_t alignment = CNN_ALIGN / 2;
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasStatus_t status = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                                 &workspace, sizeof workspace);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                      &reductions, sizeof reductions);
    for (int i = 0; i < 4 && status == CUBLAS_STATUS_SUCCESS; i++)
        status = cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment, sizeof alignment);
    return check(device, status, "cublasLtMatmulPreferenceSetAttribute");
}

static cnn_status choose_algorithm(blas_kernel *kernel)
{
    const cnn_device *device = kernel->cuda.device;
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    char text[256];
    cnn_status status = check(device, cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
    if (status == CNN_OK)
        status = set_preference(device, preference);
    if (status == CNN_OK) {
        cublasStatus_t asked = cublasLtMatmulAlgoGetHeuristic(kernel->handle, kernel->product, kernel->a, kernel->b,
                                                              kernel->d, kernel->d, preference, 1, &found, &count);
        if (asked != CUBLAS_STATUS_SUCCESS || count < 1)
            status =
                device->host->error(CNN_ERR_UNSUPPORTED, "device " CNN_CUDA_NAME ": cuBLASLt has no algorithm for %s",
                                    cnn_op_desc_print(&kernel->cuda.base.desc, text, sizeof text));
    }
    if (status == CNN_OK) {
        kernel->algorithm = found.algo;
        kernel->algorithm_bytes = (found.workspaceSize + CNN_ALIGN - 1) / CNN_ALIGN * CNN_ALIGN;
    }
    if (preference)
        (void)cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

/* ---- Running ---- */

static cnn_status multiply(blas_kernel *kernel, const void *a, const void *b, void *d, void *workspace)
{
    static const float one = 1.0f, zero = 0.0f;
    static const int32_t one_i32 = 1, zero_i32 = 0;
    const bool is_i8 = kernel->cuda.base.desc.arg[CNN_ARG_SRC].dtype == CNN_I8;
    const void *alpha = is_i8 ? (const void *)&one_i32 : &one, *beta = is_i8 ? (const void *)&zero_i32 : &zero;
    return check(kernel->cuda.device,
                 cublasLtMatmul(kernel->handle, kernel->product, alpha, a, kernel->a, b, kernel->b, beta, d, kernel->d,
                                d, kernel->d, &kernel->algorithm, workspace, kernel->algorithm_bytes,
                                kernel->cuda.device->queue.stream),
                 "cublasLtMatmul");
}

static cnn_status finish_sums(const blas_kernel *kernel, void *const args[CNN_ARG_COUNT], void *sums)
{
    const cnn_op_desc *desc = &kernel->cuda.base.desc;
    cudaStream_t stream = kernel->cuda.device->queue.stream;
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        return cnn_cuda_check(kernel->cuda.device, cnn_cuda_i32_epilogue(desc, args, sums, kernel->pitch, stream),
                              "cnn_cuda_i32_epilogue");
    return cnn_cuda_check(kernel->cuda.device, cnn_cuda_f32_epilogue(desc, args, sums, stream),
                          "cnn_cuda_f32_epilogue");
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    blas_kernel *kernel = (blas_kernel *)base;
    const product p = product_of(&base->desc);
    const void *a = kernel->cuda.packed ? kernel->cuda.packed : args[kernel->a_role];
    void *sums = (uint8_t *)workspace + kernel->algorithm_bytes;
    cnn_status status = CNN_OK;
    if (has_bias(p.epilogue))
        status = set(kernel, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &args[p.bias], sizeof args[p.bias]);
    if (status == CNN_OK)
        status = multiply(kernel, a, args[kernel->b_role], p.sums_apart ? sums : args[CNN_ARG_DST], workspace);
    return status == CNN_OK && p.sums_apart ? finish_sums(kernel, args, sums) : status;
}

/* i8 weights [K,H,W,C] become [K16,H,W,C_pad]: the row length of x, and rows of zeros up to a multiple of 16. */
static cnn_status pack(cnn_kernel *base, const void *weights)
{
    blas_kernel *kernel = (blas_kernel *)base;
    cnn_device *device = kernel->cuda.device;
    const int32_t channels = base->desc.arg[CNN_ARG_SRC].c_pad;
    cnn_status status = cnn_cuda_check(
        device,
        cudaMalloc(&kernel->cuda.packed, (size_t)kernel->pitch * (size_t)row_length(&base->desc.arg[CNN_ARG_SRC])),
        "cudaMalloc of packed weights");
    if (status != CNN_OK)
        return status;
    return cnn_cuda_check(device,
                          cnn_cuda_pad_weights(&base->desc.arg[CNN_ARG_WEIGHT], weights, kernel->pitch, channels,
                                               kernel->cuda.packed, device->queue.stream),
                          "cnn_cuda_pad_weights");
}

static void destroy(cnn_kernel *base)
{
    blas_kernel *kernel = (blas_kernel *)base;
    if (!kernel)
        return;
    if (kernel->a)
        (void)cublasLtMatrixLayoutDestroy(kernel->a);
    if (kernel->b)
        (void)cublasLtMatrixLayoutDestroy(kernel->b);
    if (kernel->d)
        (void)cublasLtMatrixLayoutDestroy(kernel->d);
    if (kernel->product)
        (void)cublasLtMatmulDescDestroy(kernel->product);
    cnn_cuda_kernel_destroy(base);
}

/* ---- The table ---- */

/* Chains of epilogue steps that forward knows, in bits of cnn_epilogue_kind. */
static bool known_epilogue(const cnn_op_desc *desc)
{
    unsigned steps = 0;
    for (int i = 0; i < desc->epilogue_count; i++)
        steps |= 1u << desc->epilogue[i];
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        return steps == 0 || steps == 1u << CNN_EPILOGUE_REQUANTIZE || steps == 1u << CNN_EPILOGUE_DEQUANTIZE;
    return (steps & ~(1u << CNN_EPILOGUE_BIAS | 1u << CNN_EPILOGUE_RELU)) == 0;
}

static bool suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const bool is_i8 = desc->arg[CNN_ARG_SRC].dtype == CNN_I8;
    (void)device;
    if (!known_epilogue(desc))
        return cnn_refuse(why, "an epilogue that is not bias, ReLU, requantize or dequantize");
    if (!is_i8)
        return cnn_unpadded(desc, why);
    if (!desc->constant_weights)
        return cnn_refuse(why, "i8 weights must be constant: they are packed once");
    if (desc->arg[CNN_ARG_SRC].c_pad % 16 != 0)
        return cnn_refuse(why, "src has %d channels in memory, no multiple of 16", (int)desc->arg[CNN_ARG_SRC].c_pad);
    return true;
}

static cnn_status make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    blas_kernel *kernel;
    const product p = product_of(desc);
    cnn_status status = cnn_cuda_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->cuda.base.run = run;
    kernel->cuda.base.destroy = destroy;
    kernel->a_role = desc->op == CNN_OP_LINEAR_WGRAD ? CNN_ARG_SRC : CNN_ARG_WEIGHT;
    kernel->b_role = desc->op == CNN_OP_LINEAR_WGRAD ? CNN_ARG_SRC2 : CNN_ARG_SRC;
    kernel->pitch = (int32_t)p.d.rows;
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        kernel->cuda.base.pack = pack;
    status = cnn_cuda_blas(device, &kernel->handle);
    if (status == CNN_OK)
        status = describe(kernel, &p);
    if (status == CNN_OK)
        status = choose_algorithm(kernel);
    if (status != CNN_OK) {
        destroy(&kernel->cuda.base);
        return status;
    }
    kernel->sums_bytes = p.sums_apart ? (size_t)p.d.rows * (size_t)p.d.columns * 4 : 0;
    kernel->cuda.base.workspace_bytes = kernel->algorithm_bytes + kernel->sums_bytes;
    *made = &kernel->cuda.base;
    return CNN_OK;
}

const cnn_cuda_impl cnn_cuda_blas_impls[] = {
    {CNN_OP_LINEAR, "cnn_cuda_linear_cublaslt", suits, NULL, NULL, make},
    {CNN_OP_LINEAR_DGRAD, "cnn_cuda_linear_dgrad_cublaslt", suits, NULL, NULL, make},
    {CNN_OP_LINEAR_WGRAD, "cnn_cuda_linear_wgrad_cublaslt", suits, NULL, NULL, make},
    {CNN_OP_NONE, NULL, NULL, NULL, NULL, NULL},
};
