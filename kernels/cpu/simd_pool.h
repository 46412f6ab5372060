/* What max-pooling wants of vectors: maxima with their numbers, lanes chosen by number. See simd.h. */
#ifndef CNN_CPU_SIMD_POOL_H
#define CNN_CPU_SIMD_POOL_H

#include "kernels/cpu/simd.h"

#if defined(CNN_SIMD_AVX512)

/* A number for each lane, of bytes. */
typedef __m512i vec_at;

VEC_INLINE vec_at vec_load_at(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p));
}

/* b where the number is t, else a */
VEC_INLINE vec vec_choose(vec a, vec b, vec_at at, int t)
{
    return _mm512_mask_mov_ps(a, _mm512_cmpeq_epi32_mask(at, _mm512_set1_epi32(t)), b);
}

VEC_INLINE void vec_store_at(uint8_t *p, vec_at at)
{
    _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(at));
}

VEC_INLINE vec_at vec_at_zero(void)
{
    return _mm512_setzero_si512();
}

/* The number where x > 0, else t */
VEC_INLINE vec_at vec_where_positive(vec_at at, vec x, int t)
{
    return _mm512_mask_mov_epi32(_mm512_set1_epi32(t), _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), at);
}

/* Where x is greater than max, or the first NaN, max becomes x and the number t. */
VEC_INLINE void vec_take_greater(vec *max, vec_at *at, vec x, int t)
{
    const __mmask16 ordered = _mm512_cmp_ps_mask(*max, *max, _CMP_ORD_Q);
    const __mmask16 takes = _mm512_mask_cmp_ps_mask(ordered, x, *max, _CMP_NLE_UQ);
    *max = _mm512_mask_mov_ps(*max, takes, x);
    *at = _mm512_mask_mov_epi32(*at, takes, _mm512_set1_epi32(t));
}

/* As vec_take_greater and vec_where_positive, for numbers that are floats. */
VEC_INLINE void vec_number_greater(vec *max, vec *number, vec x, float t)
{
    const __mmask16 ordered = _mm512_cmp_ps_mask(*max, *max, _CMP_ORD_Q);
    const __mmask16 takes = _mm512_mask_cmp_ps_mask(ordered, x, *max, _CMP_NLE_UQ);
    *max = _mm512_mask_mov_ps(*max, takes, x);
    *number = _mm512_mask_mov_ps(*number, takes, _mm512_set1_ps(t));
}

VEC_INLINE vec vec_pick_positive(vec number, vec x, float t)
{
    return _mm512_mask_mov_ps(_mm512_set1_ps(t), _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ), number);
}

/* Lanes 0, 2, 4, ... of a, then of b; lanes 1, 3, 5, ... */
VEC_INLINE vec vec_even(vec a, vec b)
{
    const __m512i at = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, at, b);
}

VEC_INLINE vec vec_odd(vec a, vec b)
{
    const __m512i at = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(a, at, b);
}

/* x where the number is below t, else 0 */
VEC_INLINE vec vec_below(vec x, vec_at at, int t)
{
    return _mm512_maskz_mov_ps(_mm512_cmplt_epi32_mask(at, _mm512_set1_epi32(t)), x);
}

/* Bits of the lanes among the first ones whose number is t. */
VEC_INLINE unsigned vec_equal(vec_at at, int t, vec_lanes lanes)
{
    return _mm512_mask_cmpeq_epi32_mask(lanes, at, _mm512_set1_epi32(t));
}

VEC_INLINE vec_at vec_load_at_some(const uint8_t *p, vec_lanes lanes)
{
    return lanes == 0xffff ? vec_load_at(p) : _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, p));
}

VEC_INLINE void vec_store_at_some(uint8_t *p, vec_at at, vec_lanes lanes)
{
    _mm_mask_storeu_epi8(p, lanes, _mm512_cvtepi32_epi8(at));
}

#elif defined(CNN_SIMD_AVX2)

typedef __m256i vec_at;

VEC_INLINE vec_at vec_load_at(const uint8_t *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)p));
}

VEC_INLINE vec vec_choose(vec a, vec b, vec_at at, int t)
{
    return _mm256_blendv_ps(a, b, _mm256_castsi256_ps(_mm256_cmpeq_epi32(at, _mm256_set1_epi32(t))));
}

VEC_INLINE void vec_store_at(uint8_t *p, vec_at at)
{
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(at), _mm256_extracti128_si256(at, 1));
    _mm_storel_epi64((void *)p, _mm_packus_epi16(words, words));
}

VEC_INLINE vec_at vec_at_zero(void)
{
    return _mm256_setzero_si256();
}

VEC_INLINE vec_at vec_where_positive(vec_at at, vec x, int t)
{
    const __m256i positive = _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
    return _mm256_blendv_epi8(_mm256_set1_epi32(t), at, positive);
}

VEC_INLINE void vec_take_greater(vec *max, vec_at *at, vec x, int t)
{
    const __m256 takes = _mm256_and_ps(_mm256_cmp_ps(*max, *max, _CMP_ORD_Q), _mm256_cmp_ps(x, *max, _CMP_NLE_UQ));
    *max = _mm256_blendv_ps(*max, x, takes);
    *at = _mm256_blendv_epi8(*at, _mm256_set1_epi32(t), _mm256_castps_si256(takes));
}

VEC_INLINE void vec_number_greater(vec *max, vec *number, vec x, float t)
{
    const __m256 takes = _mm256_and_ps(_mm256_cmp_ps(*max, *max, _CMP_ORD_Q), _mm256_cmp_ps(x, *max, _CMP_NLE_UQ));
    *max = _mm256_blendv_ps(*max, x, takes);
    *number = _mm256_blendv_ps(*number, _mm256_set1_ps(t), takes);
}

VEC_INLINE vec vec_pick_positive(vec number, vec x, float t)
{
    return _mm256_blendv_ps(_mm256_set1_ps(t), number, _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
}

VEC_INLINE vec vec_even(vec a, vec b)
{
    const __m256d pairs = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(pairs, 0xd8));
}

VEC_INLINE vec vec_odd(vec a, vec b)
{
    const __m256d pairs = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd));
    return _mm256_castpd_ps(_mm256_permute4x64_pd(pairs, 0xd8));
}

VEC_INLINE vec vec_below(vec x, vec_at at, int t)
{
    return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(t), at)));
}

VEC_INLINE unsigned vec_equal(vec_at at, int t, vec_lanes lanes)
{
    const __m256i equal = _mm256_cmpeq_epi32(at, _mm256_set1_epi32(t));
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(equal)) & ((1u << lanes.count) - 1);
}

VEC_INLINE vec_at vec_load_at_some(const uint8_t *p, vec_lanes lanes)
{
    uint8_t lane[VEC_LANES] = {0};
    if (lanes.count == VEC_LANES)
        return vec_load_at(p);
    for (int i = 0; i < lanes.count; i++)
        lane[i] = p[i];
    return vec_load_at(lane);
}

VEC_INLINE void vec_store_at_some(uint8_t *p, vec_at at, vec_lanes lanes)
{
    uint8_t lane[VEC_LANES];
    if (lanes.count == VEC_LANES) {
        vec_store_at(p, at);
        return;
    }
    vec_store_at(lane, at);
    for (int i = 0; i < lanes.count; i++)
        p[i] = lane[i];
}

#else

typedef vec_bits vec_at;

VEC_INLINE vec_at vec_load_at(const uint8_t *p)
{
    return (vec_at){p[0], p[1], p[2], p[3]};
}

VEC_INLINE vec vec_choose(vec a, vec b, vec_at at, int t)
{
    return vec_blend(a, b, at == t);
}

VEC_INLINE void vec_store_at(uint8_t *p, vec_at at)
{
    for (int i = 0; i < VEC_LANES; i++)
        p[i] = (uint8_t)at[i];
}

VEC_INLINE vec_at vec_at_zero(void)
{
    return (vec_at){0};
}

VEC_INLINE vec_bits vec_greater(vec x, vec max)
{
    return (x > max) | ((x != x) & (max == max));
}

VEC_INLINE vec_at vec_where_positive(vec_at at, vec x, int t)
{
    const vec_bits positive = x > vec_zero();
    return (at & positive) | (t & ~positive);
}

VEC_INLINE void vec_take_greater(vec *max, vec_at *at, vec x, int t)
{
    const vec_bits takes = vec_greater(x, *max);
    *max = vec_blend(*max, x, takes);
    *at = (*at & ~takes) | (t & takes);
}

VEC_INLINE void vec_number_greater(vec *max, vec *number, vec x, float t)
{
    const vec_bits takes = vec_greater(x, *max);
    *max = vec_blend(*max, x, takes);
    *number = vec_blend(*number, vec_set(t), takes);
}

VEC_INLINE vec vec_pick_positive(vec number, vec x, float t)
{
    return vec_blend(vec_set(t), number, x > vec_zero());
}

VEC_INLINE vec vec_even(vec a, vec b)
{
    return (vec){a[0], a[2], b[0], b[2]};
}

VEC_INLINE vec vec_odd(vec a, vec b)
{
    return (vec){a[1], a[3], b[1], b[3]};
}

VEC_INLINE vec vec_below(vec x, vec_at at, int t)
{
    return vec_blend(vec_zero(), x, at < t);
}

VEC_INLINE unsigned vec_equal(vec_at at, int t, vec_lanes lanes)
{
    unsigned bits = 0;
    for (int i = 0; i < lanes; i++)
        bits |= (unsigned)(at[i] == t) << i;
    return bits;
}

VEC_INLINE vec_at vec_load_at_some(const uint8_t *p, vec_lanes lanes)
{
    if (lanes == VEC_LANES)
        return vec_load_at(p);
    return (vec_at){p[0], lanes > 1 ? p[1] : 0, lanes > 2 ? p[2] : 0, 0};
}

VEC_INLINE void vec_store_at_some(uint8_t *p, vec_at at, vec_lanes lanes)
{
    for (int i = 0; i < lanes; i++)
        p[i] = (uint8_t)at[i];
}

#endif

#endif
