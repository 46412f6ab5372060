/* The 16-bit floats in plain C, branch-free so that compilers vectorize it: nearest even, overflow to infinity,
 * subnormals kept, NaN stays NaN with its sign and upper payload bits. */
#ifndef CNN_CPU_HALF_H
#define CNN_CPU_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t cnn_cpu_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float cnn_cpu_from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float cnn_cpu_bf16_to_f32(uint16_t h)
{
    return cnn_cpu_from_bits((uint32_t)h << 16);
}

static inline uint16_t cnn_cpu_bf16_from_f32(float x)
{
    uint32_t bits = cnn_cpu_bits(x);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    uint32_t quiet = bits >> 16 | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

/* The exponent is moved by a product with 2^112, which also makes subnormals right. */
static inline float cnn_cpu_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t magnitude = (uint32_t)(h & 0x7fffu) << 13;
    uint32_t finite = cnn_cpu_bits(cnn_cpu_from_bits(magnitude) * 0x1p112f);
    uint32_t quiet = magnitude & 0x007fffffu ? 0x00400000u : 0u;
    uint32_t special = 0x7f800000u | magnitude | quiet;
    return cnn_cpu_from_bits(sign | (magnitude >= 0x7c00u << 13 ? special : finite));
}

/* Normal results: integer rounding of the bits. Subnormal ones: adding 0.5 leaves exactly their 10 bits, rounded to
 * nearest even, at the low end of the sum's mantissa. */
static inline uint16_t cnn_cpu_f16_from_f32(float x)
{
    uint32_t bits = cnn_cpu_bits(x);
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t normal = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    uint32_t subnormal = cnn_cpu_bits(cnn_cpu_from_bits(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t nan = 0x7e00u | (magnitude >> 13 & 0x3ffu);
    uint32_t h = magnitude < 113u << 23 ? subnormal : normal;
    h = magnitude >= 0x477ff000u ? 0x7c00u : h; /* 65520 and above */
    h = magnitude > 0x7f800000u ? nan : h;
    return (uint16_t)(sign | h);
}

#endif
