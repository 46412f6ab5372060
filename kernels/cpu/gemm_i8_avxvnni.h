/* The 256-bit vpdpbusd that the kernels of level avxvnni share.
 *
 * AVX-VNNI encodes it as AVX2 does its instructions (VEX); AVX-512 VNNI has it too, in another encoding (EVEX). With
 * CNN_CPU_EMULATED the kernels take that one, so that tests can run them on CPUs without AVX-VNNI.
 *
 * vpdpbusd multiplies 4 unsigned by 4 signed bytes and adds the products to a sum. A panel of 16 outputs is two
 * registers. */
#ifndef CNN_CPU_GEMM_I8_AVXVNNI_H
#define CNN_CPU_GEMM_I8_AVXVNNI_H

#include "kernels/cpu/gemm_i8.h"

#include <immintrin.h>
#include <string.h>

#if defined(CNN_CPU_EMULATED)
#define CNN_AVXVNNI __attribute__((target("avx2,fma,avx512vl,avx512vnni")))
#define CNN_DPBUSD _mm256_dpbusd_epi32
#else
#define CNN_AVXVNNI __attribute__((target("avx2,fma,avxvnni")))
#define CNN_DPBUSD _mm256_dpbusd_avx_epi32
#endif

#define CNN_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define CNN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CNN_UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    CNN_I8_HALVES = 2, /* of a panel */
    CNN_I8_LANES = CNN_I8_PANEL / CNN_I8_HALVES,
    CNN_I8_TILE = 6 /* pixels x 2 halves: sums take 12 of the 16 registers, weights 2, a pixel 1 */
};

/* 4 bytes to all lanes. */
CNN_AVXVNNI CNN_INLINE __m256i cnn_i8_group(const uint8_t *bytes)
{
    int32_t group;
    memcpy(&group, bytes, sizeof group);
    return _mm256_set1_epi32(group);
}

#endif
