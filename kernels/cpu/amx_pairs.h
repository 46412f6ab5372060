/* Bringing bf16 values into the order of AMX's tiles: pairs that a product takes together, 16 of them in 64 bytes. */
#ifndef CNN_CPU_AMX_PAIRS_H
#define CNN_CPU_AMX_PAIRS_H

#include "kernels/cpu/amx_product.h"

#if defined(CNN_CPU_AMX_BUILT)

#include <immintrin.h>
#include <stdint.h>

#define CNN_AMX_VECTORS __attribute__((target("avx2,avx512f,avx512bw,avx512vl,avx512dq")))

/* {even[i], odd[i]} of 16 values, of which the first `count` are read; NULL stands for zeros. */
CNN_AMX_VECTORS static inline __m512i cnn_amx_pairs(const uint16_t *even, const uint16_t *odd, int32_t count)
{
    const __mmask16 some = (__mmask16)(count < 16 ? (1u << count) - 1u : 0xffffu);
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = even ? _mm256_maskz_loadu_epi16(some, even) : zero;
    const __m256i high = odd ? _mm256_maskz_loadu_epi16(some, odd) : zero;
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
