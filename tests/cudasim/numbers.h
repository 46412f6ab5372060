/* Numbers of the dtypes that cuDNN and cuBLASLt are called with, as f32. C++17. */
#ifndef CNN_CUDASIM_NUMBERS_H
#define CNN_CUDASIM_NUMBERS_H

#include "cnn/tensor.h"
#include "kernels/cpu/half.h"

#include <cstdint>

/* Number i of an array of floats. */
static inline float cudasim_load(const void *array, cnn_dtype dtype, int64_t i)
{
    if (dtype == CNN_F32)
        return static_cast<const float *>(array)[i];
    const uint16_t bits = static_cast<const uint16_t *>(array)[i];
    return dtype == CNN_F16 ? cnn_cpu_f16_to_f32(bits) : cnn_cpu_bf16_to_f32(bits);
}

/* Rounded once, to nearest even. */
static inline void cudasim_store(void *array, cnn_dtype dtype, int64_t i, float value)
{
    if (dtype == CNN_F32)
        static_cast<float *>(array)[i] = value;
    else
        static_cast<uint16_t *>(array)[i] =
            dtype == CNN_F16 ? cnn_cpu_f16_from_f32(value) : cnn_cpu_bf16_from_f32(value);
}

#endif
