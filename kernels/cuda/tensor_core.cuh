/* Element types of kernels that multiply on tensor cores: PER elements fill a register of a fragment. */
#ifndef CNN_CUDA_TENSOR_CORE_CUH
#define CNN_CUDA_TENSOR_CORE_CUH

#include "kernels/cuda/cuda.cuh"

namespace
{

struct half_type {
    typedef uint16_t element;
    typedef float sum;
    enum { PER = 2, ONE = 0x3C00 };
    static __device__ inline void mma(float *d, const uint32_t *a, const uint32_t *b)
    {
        cnn_mma_m16n8k16_f16(d, a, b);
    }
    static __device__ inline uint16_t round(float value)
    {
        return __half_as_ushort(__float2half_rn(value));
    }
};

struct bf16_type {
    typedef uint16_t element;
    typedef float sum;
    enum { PER = 2, ONE = 0x3F80 };
    static __device__ inline void mma(float *d, const uint32_t *a, const uint32_t *b)
    {
        cnn_mma_m16n8k16_bf16(d, a, b);
    }
    static __device__ inline uint16_t round(float value)
    {
        return __bfloat16_as_ushort(__float2bfloat16_rn(value));
    }
};

struct i8_type {
    typedef uint8_t element; /* only moved: the sign is the instruction's business */
    typedef int32_t sum;
    enum { PER = 4 };
    static __device__ inline void mma(int32_t *d, const uint32_t *a, const uint32_t *b)
    {
        cnn_mma_m16n8k32_s8(d, a, b);
    }
};

} // namespace

#endif
