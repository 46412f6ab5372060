/* One multiplication of the CPU's cuBLASLt. C++17. */
#ifndef CNN_CUDASIM_MATMUL_H
#define CNN_CUDASIM_MATMUL_H

#include "cnn/tensor.h"

#include <cublasLt.h>

struct cudasim_matrix_layout : cublasLtMatrixLayoutOpaque_t {
    cnn_dtype dtype;
    int64_t rows, columns, pitch; /* element (i, j) at j*pitch + i */

    int64_t extent() const
    {
        return (columns - 1) * pitch + rows;
    }
};

struct cudasim_product : cublasLtMatmulDescOpaque_t {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    bool a_transposed = false, b_transposed = false;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void *bias = nullptr;
};

/* All of a multiplication, for later. */
struct cudasim_multiplication {
    cudasim_product p;
    cudasim_matrix_layout a, b, d;
    const void *a_data, *b_data;
    void *d_data, *workspace;
    size_t workspace_bytes;
    int64_t m, n, k;
};

/* Reports operands that are not memory of the device, and results that overlap with anything. */
void cudasim_need_operands(const cudasim_multiplication &x);
/* Does it; checks its operands again. Only while the device works. */
void cudasim_multiply(const cudasim_multiplication &x);

static inline bool cudasim_adds_bias(cublasLtEpilogue_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
}

static inline bool cudasim_rectifies(cublasLtEpilogue_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_RELU || epilogue == CUBLASLT_EPILOGUE_RELU_BIAS;
}

static inline bool cudasim_sums_operand(cublasLtEpilogue_t epilogue)
{
    return epilogue == CUBLASLT_EPILOGUE_BGRADA || epilogue == CUBLASLT_EPILOGUE_BGRADB;
}

#endif
