/* INT8 products with AVX-512 but without VNNI: rows and weights are widened to int16, and vpmaddwd multiplies pairs and
 * adds the two products exactly. (vpmaddubsw would saturate.) Also the formulas at the end of both AVX-512 ways. */
#if defined(__x86_64__)

#include "kernels/cpu/gemm_i8_avx512.h"

enum {
    TILE = 12, /* x 2 panels: 24 registers of sums; products need registers too */
    GROUP = 2,
    BLOCK = CNN_I8_BLOCK_BYTES / 2 /* values */
};

CNN_AVX512 static void convert(const cnn_i8_convert *a)
{
    for (int32_t p = 0; p < a->pixels; p++) {
        const int8_t *src = a->bytes + (size_t)p * a->row_bytes;
        size_t tile_bytes = (size_t)a->blocks * TILE * CNN_I8_BLOCK_BYTES;
        uint8_t *dst = (uint8_t *)a->rows + (size_t)(p / TILE) * tile_bytes + (size_t)(p % TILE) * CNN_I8_BLOCK_BYTES;
        for (int32_t b = 0; b < a->blocks; b++) {
            __m256i x = _mm256_loadu_si256((const __m256i *)(src + (size_t)b * BLOCK));
            _mm512_storeu_si512(dst + (size_t)b * TILE * CNN_I8_BLOCK_BYTES, _mm512_cvtepi8_epi16(x));
        }
    }
}

/* One group of every pixel. row: pixel 0's; weights: [16][GROUP] of the first panel. */
CNN_AVX512 CNN_INLINE void step(cnn_i8_sums *sums, int part, const uint8_t *row, const int8_t *weights,
                                size_t panel_bytes, int pixels, int panels)
{
    __m512i w[CNN_I8_PANELS];
    CNN_UNROLL
    for (int j = 0; j < panels; j++)
        w[j] = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(weights + (size_t)j * panel_bytes)));
    CNN_UNROLL
    for (int p = 0; p < pixels; p++) {
        __m512i x = _mm512_set1_epi32(cnn_i8_load_group(row + p * CNN_I8_BLOCK_BYTES));
        CNN_UNROLL
        for (int j = 0; j < panels; j++)
            sums->part[part][j][p] = _mm512_add_epi32(sums->part[part][j][p], _mm512_madd_epi16(x, w[j]));
    }
    cnn_i8_sums_keep(sums, part, pixels, panels);
}

CNN_AVX512 CNN_INLINE void multiply(const cnn_i8_product *a, const uint8_t *rows, int32_t *dst, int pixels, int panels)
{
    cnn_i8_sums sums;
    const int split = cnn_i8_split(pixels);
    const int8_t *weights = a->weights;
    cnn_i8_sums_start(&sums, a->start, pixels, panels, split);
    for (int32_t left = a->depth / GROUP; left > 0; left -= CNN_I8_GROUPS) {
        const int32_t groups = left < CNN_I8_GROUPS ? left : CNN_I8_GROUPS;
        for (int32_t i = 0; i < groups; i += split)
            CNN_UNROLL
        for (int s = 0; s < split; s++) {
            if (s > 0 && i + s >= groups)
                break;
            step(&sums, s, rows + 4 * (i + s), weights, a->panel_bytes, pixels, panels);
            weights += CNN_I8_PANEL * GROUP;
            cnn_i8_prefetch(weights, a->panel_bytes, panels);
        }
        rows += TILE * CNN_I8_BLOCK_BYTES;
    }
    CNN_UNROLL
    for (int s = 0; s < split; s++)
        cnn_i8_sums_keep(&sums, s, pixels, panels);
    cnn_i8_sums_store(&sums, dst, pixels, panels, split);
}

#define CASE(PIXELS)                            \
    case PIXELS:                                \
        multiply(a, rows, dst, PIXELS, panels); \
        return;

CNN_AVX512 CNN_INLINE void multiply_any(const cnn_i8_product *a, const uint8_t *rows, int32_t *dst, int pixels,
                                        int panels)
{
    switch (pixels) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
        CASE(7)
        CASE(8)
        CASE(9)
        CASE(10)
        CASE(11)
    default:
        multiply(a, rows, dst, TILE, panels);
    }
}

CNN_AVX512 static void product(const cnn_i8_product *a)
{
    const size_t blocks = ((size_t)a->depth + BLOCK - 1) / BLOCK;
    const uint8_t *rows = a->rows;
    for (int32_t p = 0; p < a->pixels; p += TILE) {
        const int32_t pixels = a->pixels - p < TILE ? a->pixels - p : TILE;
        int32_t *dst = a->sums + (size_t)p * CNN_I8_SUMS;
        if (a->panels == CNN_I8_PANELS)
            multiply_any(a, rows, dst, pixels, CNN_I8_PANELS);
        else
            multiply_any(a, rows, dst, pixels, 1);
        rows += blocks * TILE * CNN_I8_BLOCK_BYTES;
    }
}

/* ---- The end ---- */

/* float(largest sum of the window + bias) * mult, of 16 channels. */
CNN_AVX512 CNN_INLINE __m512 scaled(const int32_t *sums, size_t stride, int32_t area, __m512i bias, __m512 mult)
{
    __m512i sum = _mm512_loadu_si512(sums);
    for (int32_t i = 1; i < area; i++)
        sum = _mm512_max_epi32(sum, _mm512_loadu_si512(sums + (size_t)i * stride));
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sum, bias)), mult);
}

CNN_AVX512 void cnn_cpu_requantize_i8_avx512(const cnn_i8_finish *a)
{
    const __m512i bias = _mm512_loadu_si512(a->bias);
    const __m512 mult = _mm512_loadu_ps(a->mult);
    const __m512 lo = _mm512_set1_ps(a->lo);
    const __m512 hi = _mm512_set1_ps(a->hi);
    const __mmask16 channels = (__mmask16)((1u << a->channels) - 1);
    int8_t *dst = a->dst;
    const int32_t *sums = a->sums;
    for (int32_t i = 0; i < a->outputs; i++) {
        __m512 y = scaled(sums, a->stride, a->area, bias, mult);
        y = _mm512_min_ps(_mm512_max_ps(y, lo), hi);
        __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(y)); /* rounds ties to even */
        if (a->channels == CNN_I8_PANEL)
            _mm_storeu_si128((__m128i *)dst, bytes);
        else
            _mm_mask_storeu_epi8(dst, channels, bytes);
        sums += (size_t)a->area * a->stride;
        dst += a->dst_stride;
    }
}

CNN_AVX512 void cnn_cpu_dequantize_i8_avx512(const cnn_i8_finish *a)
{
    const __m512i bias = _mm512_loadu_si512(a->bias);
    const __m512 mult = _mm512_loadu_ps(a->mult);
    const __mmask16 channels = (__mmask16)((1u << a->channels) - 1);
    float *dst = a->dst;
    const int32_t *sums = a->sums;
    for (int32_t i = 0; i < a->outputs; i++) {
        _mm512_mask_storeu_ps(dst, channels, scaled(sums, a->stride, a->area, bias, mult));
        sums += (size_t)a->area * a->stride;
        dst += a->dst_stride;
    }
}

const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_avx512 = {
    .name = "avx512",
    .isa = CNN_CPU_AVX512,
    .tile = TILE,
    .group = GROUP,
    .depth = GROUP,
    .value_bytes = 2,
    .offset = false,
    .convert = convert,
    .product = product,
    .requantize = cnn_cpu_requantize_i8_avx512,
    .dequantize = cnn_cpu_dequantize_i8_avx512,
};

#else
typedef int cnn_cpu_gemm_i8_avx512_not_here; /* ISO C wants a declaration */
#endif
