/* What the two AVX-512 ways to multiply INT8 matrices share: sums in registers, and the formulas at the end.
 *
 * Converted rows are blocked: [pixels/tile][blocks][tile][64 bytes], so that the pixels of a tile lie at constant
 * distances, which become address offsets. One step of the inner loop takes a group, 4 bytes, of every pixel.
 *
 * `pixels`, `panels` and `split` are constants wherever these functions are inlined. Sums stay in registers over the
 * whole depth; gcc would spill them in the loop if sums_keep did not pin each one. */
#ifndef CNN_CPU_GEMM_I8_AVX512_H
#define CNN_CPU_GEMM_I8_AVX512_H

#include "kernels/cpu/gemm_i8.h"

#include <immintrin.h>
#include <string.h>

#define CNN_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq")))
#define CNN_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define CNN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CNN_UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    CNN_I8_MOST_TILE = 14,
    CNN_I8_MOST_SPLIT = 4,
    CNN_I8_GROUPS = 16, /* in a block */
    CNN_I8_PREFETCH_BYTES = 8192
};

/* With few pixels, the latency of an addition would show: their sums are split, group i going to part i % split. */
typedef struct cnn_i8_sums {
    __m512i part[CNN_I8_MOST_SPLIT][CNN_I8_PANELS][CNN_I8_MOST_TILE];
} cnn_i8_sums;

CNN_INLINE int cnn_i8_split(int pixels)
{
    return pixels == 1 ? 4 : pixels <= 3 ? 2 : 1;
}

CNN_INLINE int32_t cnn_i8_load_group(const uint8_t *bytes)
{
    int32_t group;
    memcpy(&group, bytes, sizeof group);
    return group;
}

CNN_AVX512 CNN_INLINE void cnn_i8_sums_start(cnn_i8_sums *sums, const int32_t *start, int pixels, int panels, int split)
{
    CNN_UNROLL
    for (int j = 0; j < panels; j++)
        CNN_UNROLL
    for (int p = 0; p < pixels; p++) {
        sums->part[0][j][p] = _mm512_loadu_si512(start + j * CNN_I8_PANEL);
        CNN_UNROLL
        for (int s = 1; s < split; s++)
            sums->part[s][j][p] = _mm512_setzero_si512();
    }
}

CNN_AVX512 CNN_INLINE void cnn_i8_sums_keep(cnn_i8_sums *sums, int part, int pixels, int panels)
{
    CNN_UNROLL
    for (int j = 0; j < panels; j++)
        CNN_UNROLL
    for (int p = 0; p < pixels; p++)
        __asm__("" : "+v"(sums->part[part][j][p]));
}

CNN_AVX512 CNN_INLINE void cnn_i8_sums_store(cnn_i8_sums *sums, int32_t *dst, int pixels, int panels, int split)
{
    CNN_UNROLL
    for (int p = 0; p < pixels; p++)
        CNN_UNROLL
    for (int j = 0; j < panels; j++) {
        __m512i sum = sums->part[0][j][p];
        CNN_UNROLL
        for (int s = 1; s < split; s++)
            sum = _mm512_add_epi32(sum, sums->part[s][j][p]);
        _mm512_storeu_si512(dst + p * CNN_I8_SUMS + j * CNN_I8_PANEL, sum);
    }
}

/* The hardware prefetches weights only up to the end of a page. */
CNN_AVX512 CNN_INLINE void cnn_i8_prefetch(const int8_t *weights, size_t panel_bytes, int panels)
{
    for (int j = 0; j < panels; j++)
        _mm_prefetch((const char *)weights + (size_t)j * panel_bytes + CNN_I8_PREFETCH_BYTES, _MM_HINT_T0);
}

void cnn_cpu_requantize_i8_avx512(const cnn_i8_finish *finish);
void cnn_cpu_dequantize_i8_avx512(const cnn_i8_finish *finish);

#endif
