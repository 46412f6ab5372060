/* Vectors of floats for the code that is compiled once for each ISA level.
 *
 * The including file defines one of CNN_SIMD_PORTABLE, CNN_SIMD_AVX2, CNN_SIMD_AVX512 and is compiled with the options
 * of that level. `vec` holds VEC_LANES floats, `vec_lanes` names the first few of them: nothing beyond is read or
 * stored. VEC_TILE_ROWS is how many rows of two vectors the registers hold as accumulators. */
#ifndef CNN_CPU_SIMD_H
#define CNN_CPU_SIMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VEC_INLINE static inline __attribute__((always_inline, unused))

/* Unrolls the next loop, whose count is a constant of at most 16. */
#if defined(__clang__)
#define VEC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VEC_UNROLL _Pragma("GCC unroll 16")
#endif

/* A pointer from which offsets count, in its register: gcc otherwise adds it to each of them apart. */
#define VEC_BASE(pointer) __asm__("" : "+r"(pointer))

#if defined(CNN_SIMD_AVX512)
#include <immintrin.h>

enum { VEC_LANES = 16, VEC_TILE_ROWS = 14 };
typedef __m512 vec;
#define VEC_ISA avx512

VEC_INLINE vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

VEC_INLINE void vec_store(float *p, vec x)
{
    _mm512_storeu_ps(p, x);
}

VEC_INLINE vec vec_set(float x)
{
    return _mm512_set1_ps(x);
}

VEC_INLINE vec vec_zero(void)
{
    return _mm512_setzero_ps();
}

VEC_INLINE vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

VEC_INLINE vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

VEC_INLINE vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

/* a*b + c */
VEC_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* a*b - c */
VEC_INLINE vec vec_fms(vec a, vec b, vec c)
{
    return _mm512_fmsub_ps(a, b, c);
}

/* Keeps an accumulator in its register: gcc 12 otherwise spills some of a full tile in every step. */
#define VEC_KEEP(x) __asm__("" : "+v"(x))

/* x <= 0 ? 0 : x; NaN stays */
VEC_INLINE vec vec_relu(vec x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLE_UQ), x);
}

VEC_INLINE vec vec_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p)), 16));
}

VEC_INLINE vec vec_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

VEC_INLINE void vec_store_f16(uint16_t *p, vec x)
{
    _mm256_storeu_si256((void *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* As cnn_cpu_bf16_from_f32. */
VEC_INLINE void vec_store_bf16(uint16_t *p, vec x)
{
    const __m512i bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i half = _mm512_mask_mov_epi32(_mm512_srli_epi32(sum, 16), nan, quiet);
    _mm256_storeu_si256((void *)p, _mm512_cvtepi32_epi16(half));
}

/* Some lanes, the first ones. */
typedef __mmask16 vec_lanes;

/* `count` lanes, which may be more than there are. */
VEC_INLINE vec_lanes vec_first(int count)
{
    return (__mmask16)(count < VEC_LANES ? (1u << count) - 1 : 0xffff);
}

/* Lanes that are not loaded are 0. */
VEC_INLINE vec vec_load_some(const float *p, vec_lanes lanes)
{
    return lanes == 0xffff ? vec_load(p) : _mm512_maskz_loadu_ps(lanes, p);
}

VEC_INLINE void vec_store_some(float *p, vec x, vec_lanes lanes)
{
    if (lanes == 0xffff)
        vec_store(p, x); /* what is loaded again soon is there sooner */
    else
        _mm512_mask_storeu_ps(p, lanes, x);
}

#elif defined(CNN_SIMD_AVX2)
#include <immintrin.h>

enum { VEC_LANES = 8, VEC_TILE_ROWS = 6 };
typedef __m256 vec;
#define VEC_ISA avx2

VEC_INLINE vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

VEC_INLINE void vec_store(float *p, vec x)
{
    _mm256_storeu_ps(p, x);
}

VEC_INLINE vec vec_set(float x)
{
    return _mm256_set1_ps(x);
}

VEC_INLINE vec vec_zero(void)
{
    return _mm256_setzero_ps();
}

VEC_INLINE vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

VEC_INLINE vec vec_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

VEC_INLINE vec vec_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

/* a*b + c */
VEC_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* a*b - c */
VEC_INLINE vec vec_fms(vec a, vec b, vec c)
{
    return _mm256_fmsub_ps(a, b, c);
}

#define VEC_KEEP(x) __asm__("" : "+x"(x))

VEC_INLINE vec vec_relu(vec x)
{
    return _mm256_and_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NLE_UQ), x);
}

VEC_INLINE vec vec_load_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p)), 16));
}

VEC_INLINE vec vec_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *)p));
}

VEC_INLINE void vec_store_f16(uint16_t *p, vec x)
{
    _mm_storeu_si128((void *)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

VEC_INLINE void vec_store_bf16(uint16_t *p, vec x)
{
    const __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i half = _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), quiet, nan);
    const __m256i halves = _mm256_packus_epi32(half, half); /* in each of its halves */
    _mm_storeu_si128((void *)p, _mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08)));
}

typedef struct vec_lanes {
    int count; /* at most VEC_LANES */
    __m256i mask;
} vec_lanes;

VEC_INLINE vec_lanes vec_first(int count)
{
    const int some = count < VEC_LANES ? count : VEC_LANES;
    return (vec_lanes){some, _mm256_cmpgt_epi32(_mm256_set1_epi32(some), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))};
}

VEC_INLINE vec vec_load_some(const float *p, vec_lanes lanes)
{
    return lanes.count == VEC_LANES ? vec_load(p) : _mm256_maskload_ps(p, lanes.mask);
}

VEC_INLINE void vec_store_some(float *p, vec x, vec_lanes lanes)
{
    if (lanes.count == VEC_LANES)
        vec_store(p, x);
    else
        _mm256_maskstore_ps(p, lanes.mask, x);
}

#elif defined(CNN_SIMD_PORTABLE)
#include "kernels/cpu/half.h"

enum { VEC_LANES = 4, VEC_TILE_ROWS = 6 };
typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_bits __attribute__((vector_size(16))); /* of a comparison: all ones where it holds */
#define VEC_ISA portable

VEC_INLINE vec vec_load(const float *p)
{
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}

VEC_INLINE void vec_store(float *p, vec x)
{
    memcpy(p, &x, sizeof x);
}

VEC_INLINE vec vec_set(float x)
{
    return (vec){x, x, x, x};
}

VEC_INLINE vec vec_zero(void)
{
    return vec_set(0.0f);
}

VEC_INLINE vec vec_add(vec a, vec b)
{
    return a + b;
}

VEC_INLINE vec vec_sub(vec a, vec b)
{
    return a - b;
}

VEC_INLINE vec vec_mul(vec a, vec b)
{
    return a * b;
}

/* a*b + c, rounded twice: not every CPU has a fused form. */
VEC_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return a * b + c;
}

VEC_INLINE vec vec_fms(vec a, vec b, vec c)
{
    return a * b - c;
}

#define VEC_KEEP(x) ((void)0)

/* b where the bits are ones, else a. Comparisons lane by lane become branches. */
VEC_INLINE vec vec_blend(vec a, vec b, vec_bits bits)
{
    return (vec)(((vec_bits)b & bits) | ((vec_bits)a & ~bits));
}

VEC_INLINE vec vec_relu(vec x)
{
    return vec_blend(x, vec_zero(), x <= vec_zero());
}

VEC_INLINE vec vec_load_bf16(const uint16_t *p)
{
    return (vec){cnn_cpu_bf16_to_f32(p[0]), cnn_cpu_bf16_to_f32(p[1]), cnn_cpu_bf16_to_f32(p[2]),
                 cnn_cpu_bf16_to_f32(p[3])};
}

VEC_INLINE vec vec_load_f16(const uint16_t *p)
{
    return (vec){cnn_cpu_f16_to_f32(p[0]), cnn_cpu_f16_to_f32(p[1]), cnn_cpu_f16_to_f32(p[2]),
                 cnn_cpu_f16_to_f32(p[3])};
}

VEC_INLINE void vec_store_f16(uint16_t *p, vec x)
{
    for (int i = 0; i < 4; i++)
        p[i] = cnn_cpu_f16_from_f32(x[i]);
}

VEC_INLINE void vec_store_bf16(uint16_t *p, vec x)
{
    for (int i = 0; i < 4; i++)
        p[i] = cnn_cpu_bf16_from_f32(x[i]);
}

typedef int vec_lanes;

VEC_INLINE vec_lanes vec_first(int count)
{
    return count < VEC_LANES ? count : VEC_LANES;
}

VEC_INLINE vec vec_load_some(const float *p, vec_lanes lanes)
{
    if (lanes == VEC_LANES)
        return vec_load(p);
    return (vec){p[0], lanes > 1 ? p[1] : 0, lanes > 2 ? p[2] : 0, 0};
}

VEC_INLINE void vec_store_some(float *p, vec x, vec_lanes lanes)
{
    if (lanes == VEC_LANES) {
        vec_store(p, x);
        return;
    }
    p[0] = x[0];
    if (lanes > 1)
        p[1] = x[1];
    if (lanes > 2)
        p[2] = x[2];
}

#else
#error "define CNN_SIMD_PORTABLE, CNN_SIMD_AVX2 or CNN_SIMD_AVX512 first"
#endif

/* Sum of the lanes, always in the same order. */
VEC_INLINE float vec_sum(vec x)
{
    float lane[VEC_LANES];
    vec_store(lane, x);
    for (int half = VEC_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

#endif
