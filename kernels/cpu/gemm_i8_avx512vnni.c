/* INT8 products with AVX-512 VNNI: vpdpbusd multiplies 4 unsigned by 4 signed bytes and adds the products to a sum.
 *
 * Rows hold x + 128 as bytes; sums start with -128 * sum(w), see gemm_i8.h. */
#if defined(__x86_64__)

#include "kernels/cpu/gemm_i8_avx512.h"

#define VNNI __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

enum {
    TILE = 14, /* x 2 panels: sums take 28 of the 32 registers, weights 2, a pixel 1 */
    GROUP = 4
};

VNNI static void convert(const cnn_i8_convert *a)
{
    const __m512i offset = _mm512_set1_epi8((char)0x80);
    for (int32_t p = 0; p < a->pixels; p++) {
        const int8_t *src = a->bytes + (size_t)p * a->row_bytes;
        size_t tile_bytes = (size_t)a->blocks * TILE * CNN_I8_BLOCK_BYTES;
        uint8_t *dst = (uint8_t *)a->rows + (size_t)(p / TILE) * tile_bytes + (size_t)(p % TILE) * CNN_I8_BLOCK_BYTES;
        for (int32_t b = 0; b < a->blocks; b++) {
            __m512i x = _mm512_loadu_si512(src + (size_t)b * CNN_I8_BLOCK_BYTES);
            _mm512_storeu_si512(dst + (size_t)b * TILE * CNN_I8_BLOCK_BYTES, _mm512_xor_si512(x, offset));
        }
    }
}

/* One group of every pixel. row: pixel 0's; weights: [16][GROUP] of the first panel. */
VNNI CNN_INLINE void step(cnn_i8_sums *sums, int part, const uint8_t *row, const int8_t *weights, size_t panel_bytes,
                          int pixels, int panels)
{
    __m512i w[CNN_I8_PANELS];
    CNN_UNROLL
    for (int j = 0; j < panels; j++)
        w[j] = _mm512_loadu_si512(weights + (size_t)j * panel_bytes);
    CNN_UNROLL
    for (int p = 0; p < pixels; p++) {
        __m512i x = _mm512_set1_epi32(cnn_i8_load_group(row + p * CNN_I8_BLOCK_BYTES));
        CNN_UNROLL
        for (int j = 0; j < panels; j++)
            sums->part[part][j][p] = _mm512_dpbusd_epi32(sums->part[part][j][p], x, w[j]);
    }
    cnn_i8_sums_keep(sums, part, pixels, panels);
}

VNNI CNN_INLINE void multiply(const cnn_i8_product *a, const uint8_t *rows, int32_t *dst, int pixels, int panels)
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

VNNI CNN_INLINE void multiply_any(const cnn_i8_product *a, const uint8_t *rows, int32_t *dst, int pixels, int panels)
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
        CASE(12)
        CASE(13)
    default:
        multiply(a, rows, dst, TILE, panels);
    }
}

VNNI static void product(const cnn_i8_product *a)
{
    const size_t blocks = ((size_t)a->depth + CNN_I8_BLOCK_BYTES - 1) / CNN_I8_BLOCK_BYTES;
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

const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_avx512vnni = {
    .name = "avx512vnni",
    .isa = CNN_CPU_AVX512VNNI,
    .tile = TILE,
    .group = GROUP,
    .depth = GROUP,
    .value_bytes = 1,
    .offset = true,
    .convert = convert,
    .product = product,
    .requantize = cnn_cpu_requantize_i8_avx512,
    .dequantize = cnn_cpu_dequantize_i8_avx512,
};

#else
typedef int cnn_cpu_gemm_i8_avx512vnni_not_here; /* ISO C wants a declaration */
#endif
