/* Bringing bf16 values into the order of AMX's tiles: pairs that a product takes together, 16 of them in 64 bytes. */
#ifndef CNN_CPU_AMX_PAIRS_H
#define CNN_CPU_AMX_PAIRS_H

#include "kernels/cpu/amx_product.h"

#if defined(CNN_CPU_AMX_BUILT)

#include <immintrin.h>
#include <stdint.h>

#define CNN_AMX_VECTORS __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512dq")))

/* The first `count` of 16 lanes. */
static inline __mmask16 cnn_amx_lanes(int32_t count)
{
    return (__mmask16)(count < 16 ? (1u << count) - 1u : 0xffffu);
}

/* {even[i], odd[i]} of 16 values. Only those in the masks are read, others are 0. */
CNN_AMX_VECTORS static inline __m512i cnn_amx_pairs(const uint16_t *even, __mmask16 in_even, const uint16_t *odd,
                                                    __mmask16 in_odd)
{
    const __m256i low = _mm256_maskz_loadu_epi16(in_even, even), high = _mm256_maskz_loadu_epi16(in_odd, odd);
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}

/* 16 x 16 pairs: row[i][j] to row[j][i]. */
CNN_AMX_VECTORS static inline void cnn_amx_transpose(__m512i row[16])
{
    __m512i half[16];
    for (int i = 0; i < 16; i += 2) {
        half[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        half[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        row[i] = _mm512_unpacklo_epi64(half[i], half[i + 2]);
        row[i + 1] = _mm512_unpackhi_epi64(half[i], half[i + 2]);
        row[i + 2] = _mm512_unpacklo_epi64(half[i + 1], half[i + 3]);
        row[i + 3] = _mm512_unpackhi_epi64(half[i + 1], half[i + 3]);
    }
    for (int i = 0; i < 4; i++) { /* quarters of 4 rows each */
        half[i] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0x88);
        half[i + 4] = _mm512_shuffle_i32x4(row[i], row[i + 4], 0xdd);
        half[i + 8] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0x88);
        half[i + 12] = _mm512_shuffle_i32x4(row[i + 8], row[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        row[i] = _mm512_shuffle_i32x4(half[i], half[i + 8], 0x88);
        row[i + 8] = _mm512_shuffle_i32x4(half[i], half[i + 8], 0xdd);
        row[i + 4] = _mm512_shuffle_i32x4(half[i + 4], half[i + 12], 0x88);
        row[i + 12] = _mm512_shuffle_i32x4(half[i + 4], half[i + 12], 0xdd);
    }
}

#endif
#endif
