/* INT8 products with AVX2: rows and weights are widened to int16, and vpmaddwd multiplies pairs and adds the two
 * products exactly. (vpmaddubsw would saturate.) A panel of 16 outputs is two registers.
 *
 * Converted rows are blocked: [pixels/TILE][blocks][TILE][64 bytes], so that the pixels of a tile lie at constant
 * distances. `pixels` is a constant wherever a function is inlined; the empty asm keeps each sum in its register. */
#if defined(__x86_64__)

#include "kernels/cpu/gemm_i8.h"

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    TILE = 6,   /* x 2 halves: sums take 12 of the 16 registers, weights 2, a pixel 1, a product 1 */
    HALVES = 2, /* of a panel */
    LANES = CNN_I8_PANEL / HALVES,
    GROUP = 2,
    GROUPS = 16,                   /* in a block */
    BLOCK = CNN_I8_BLOCK_BYTES / 2 /* values */
};

AVX2 static void convert(const cnn_i8_convert *a)
{
    for (int32_t p = 0; p < a->pixels; p++) {
        const int8_t *src = a->bytes + (size_t)p * a->row_bytes;
        size_t tile_bytes = (size_t)a->blocks * TILE * CNN_I8_BLOCK_BYTES;
        uint8_t *dst = (uint8_t *)a->rows + (size_t)(p / TILE) * tile_bytes + (size_t)(p % TILE) * CNN_I8_BLOCK_BYTES;
        for (int32_t b = 0; b < a->blocks * 2; b++) {
            __m128i x = _mm_loadu_si128((const __m128i *)(src + (size_t)b * (BLOCK / 2)));
            size_t offset = (size_t)(b / 2) * TILE * CNN_I8_BLOCK_BYTES + (size_t)(b % 2) * BLOCK;
            _mm256_storeu_si256((__m256i *)(dst + offset), _mm256_cvtepi8_epi16(x));
        }
    }
}

/* One group of every pixel. row: pixel 0's; weights: [16][GROUP]. */
AVX2 INLINE void step(__m256i (*sums)[TILE], const uint8_t *row, const int8_t *weights, int pixels)
{
    __m256i w[HALVES];
    UNROLL
    for (int j = 0; j < HALVES; j++)
        w[j] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(weights + j * LANES * GROUP)));
    UNROLL
    for (int p = 0; p < pixels; p++) {
        int32_t group;
        memcpy(&group, row + p * CNN_I8_BLOCK_BYTES, sizeof group);
        __m256i x = _mm256_set1_epi32(group);
        UNROLL
        for (int j = 0; j < HALVES; j++) {
            sums[j][p] = _mm256_add_epi32(sums[j][p], _mm256_madd_epi16(x, w[j]));
            __asm__("" : "+x"(sums[j][p]));
        }
    }
}

AVX2 INLINE void multiply(const cnn_i8_product *a, const int8_t *weights, const uint8_t *rows, int32_t *dst, int pixels)
{
    __m256i sums[HALVES][TILE];
    UNROLL
    for (int j = 0; j < HALVES; j++)
        UNROLL
    for (int p = 0; p < pixels; p++)
        sums[j][p] = _mm256_setzero_si256();
    for (int32_t left = a->depth / GROUP; left > 0; left -= GROUPS) {
        const int32_t groups = left < GROUPS ? left : GROUPS;
        for (int32_t i = 0; i < groups; i++) {
            step(sums, rows + 4 * i, weights, pixels);
            weights += CNN_I8_PANEL * GROUP;
        }
        rows += TILE * CNN_I8_BLOCK_BYTES;
    }
    UNROLL
    for (int j = 0; j < HALVES; j++)
        UNROLL
    for (int p = 0; p < pixels; p++)
        _mm256_storeu_si256((__m256i *)(dst + p * CNN_I8_SUMS + j * LANES), sums[j][p]);
}

AVX2 static void multiply_any(const cnn_i8_product *a, const int8_t *weights, const uint8_t *rows, int32_t *dst,
                              int pixels)
{
    switch (pixels) {
    case 1:
        multiply(a, weights, rows, dst, 1);
        return;
    case 2:
        multiply(a, weights, rows, dst, 2);
        return;
    case 3:
        multiply(a, weights, rows, dst, 3);
        return;
    case 4:
        multiply(a, weights, rows, dst, 4);
        return;
    case 5:
        multiply(a, weights, rows, dst, 5);
        return;
    default:
        multiply(a, weights, rows, dst, TILE);
    }
}

AVX2 static void product(const cnn_i8_product *a)
{
    const size_t blocks = ((size_t)a->depth + BLOCK - 1) / BLOCK;
    for (int32_t j = 0; j < a->panels; j++) {
        const int8_t *weights = a->weights + (size_t)j * a->panel_bytes;
        const uint8_t *rows = a->rows;
        for (int32_t p = 0; p < a->pixels; p += TILE) {
            const int32_t pixels = a->pixels - p < TILE ? a->pixels - p : TILE;
            multiply_any(a, weights, rows, a->sums + (size_t)p * CNN_I8_SUMS + j * CNN_I8_PANEL, pixels);
            rows += blocks * TILE * CNN_I8_BLOCK_BYTES;
        }
    }
}

/* ---- The end ---- */

/* float(largest sum of the window + bias) * mult, of 8 channels. */
AVX2 INLINE __m256 scaled(const int32_t *sums, size_t stride, int32_t area, const int32_t *bias, const float *mult)
{
    __m256i sum = _mm256_loadu_si256((const __m256i *)sums);
    for (int32_t i = 1; i < area; i++)
        sum = _mm256_max_epi32(sum, _mm256_loadu_si256((const __m256i *)(sums + (size_t)i * stride)));
    sum = _mm256_add_epi32(sum, _mm256_loadu_si256((const __m256i *)bias));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(mult));
}

AVX2 INLINE __m256i requantized(const cnn_i8_finish *a, const int32_t *sums, int half)
{
    __m256 y = scaled(sums + half * LANES, a->stride, a->area, a->bias + half * LANES, a->mult + half * LANES);
    y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(a->lo)), _mm256_set1_ps(a->hi));
    return _mm256_cvtps_epi32(y); /* rounds ties to even */
}

AVX2 void cnn_cpu_requantize_i8_avx2(const cnn_i8_finish *a)
{
    int8_t *dst = a->dst;
    const int32_t *sums = a->sums;
    for (int32_t i = 0; i < a->outputs; i++) {
        __m256i low = requantized(a, sums, 0);
        __m256i high = requantized(a, sums, 1);
        /* Packing interleaves the 128-bit halves; the permutation puts the channels in order again. */
        __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
        __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        if (a->channels == CNN_I8_PANEL) {
            _mm_storeu_si128((__m128i *)dst, bytes);
        } else {
            int8_t all[CNN_I8_PANEL];
            _mm_storeu_si128((__m128i *)all, bytes);
            memcpy(dst, all, (size_t)a->channels);
        }
        sums += (size_t)a->area * a->stride;
        dst += a->dst_stride;
    }
}

AVX2 void cnn_cpu_dequantize_i8_avx2(const cnn_i8_finish *a)
{
    float *dst = a->dst;
    const int32_t *sums = a->sums;
    for (int32_t i = 0; i < a->outputs; i++) {
        float all[CNN_I8_PANEL];
        for (int half = 0; half < HALVES; half++)
            _mm256_storeu_ps(all + half * LANES, scaled(sums + half * LANES, a->stride, a->area, a->bias + half * LANES,
                                                        a->mult + half * LANES));
        memcpy(dst, all, (size_t)a->channels * sizeof *dst);
        sums += (size_t)a->area * a->stride;
        dst += a->dst_stride;
    }
}

const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_avx2 = {
    .name = "avx2",
    .isa = CNN_CPU_AVX2,
    .tile = TILE,
    .group = GROUP,
    .depth = GROUP,
    .value_bytes = 2,
    .offset = false,
    .convert = convert,
    .product = product,
    .requantize = cnn_cpu_requantize_i8_avx2,
    .dequantize = cnn_cpu_dequantize_i8_avx2,
};

#else
typedef int cnn_cpu_gemm_i8_avx2_not_here; /* ISO C wants a declaration */
#endif
