/* Values of the convolutions that are ours: float dtypes as f32, INT8 as int32, and one product added. */
#ifndef CNN_CUDA_VALUES_CUH
#define CNN_CUDA_VALUES_CUH

#include "kernels/cuda/cuda.cuh"

__device__ inline float value_of(float x, float)
{
    return x;
}

__device__ inline float value_of(__half x, float)
{
    return __half2float(x);
}

__device__ inline float value_of(__nv_bfloat16 x, float)
{
    return __bfloat162float(x);
}

__device__ inline int32_t value_of(int8_t x, int32_t)
{
    return x;
}

__device__ inline float multiply_add(float a, float b, float sum)
{
    return fmaf(a, b, sum);
}

__device__ inline int32_t multiply_add(int32_t a, int32_t b, int32_t sum)
{
    return sum + a * b;
}

#endif
