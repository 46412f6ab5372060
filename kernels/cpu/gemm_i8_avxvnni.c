/* INT8 products with AVX-VNNI: vpdpbusd on 256-bit registers, see gemm_i8_avxvnni.h.
 *
 * Rows hold x + 128 as bytes; sums start with -128 * sum(w), see gemm_i8.h. They are blocked:
 * [pixels/TILE][blocks][TILE][64 bytes], so that the pixels of a tile lie at constant distances. `pixels` and `split`
 * are constants wherever a function is inlined; the empty asm keeps each sum in its register. */
#include "kernels/cpu/isa.h"

#if defined(CNN_CPU_AVXVNNI_BUILT)

#include "kernels/cpu/gemm_i8_avxvnni.h"

enum {
    TILE = CNN_I8_TILE,
    GROUP = 4,
    GROUPS = CNN_I8_BLOCK_BYTES / GROUP, /* in a block */
    MOST_SPLIT = 4
};

/* With few pixels, the latency of an addition would show: their sums are split, group i going to part i % split. */
typedef struct sums {
    __m256i part[MOST_SPLIT][CNN_I8_HALVES][TILE];
} sums;

CNN_AVXVNNI static void convert(const cnn_i8_convert *a)
{
    enum { STEP = 32, STEPS = CNN_I8_BLOCK_BYTES / STEP };
    const __m256i offset = _mm256_set1_epi8((char)0x80);
    for (int32_t p = 0; p < a->pixels; p++) {
        const int8_t *src = a->bytes + (size_t)p * a->row_bytes;
        const size_t tile_bytes = (size_t)a->blocks * TILE * CNN_I8_BLOCK_BYTES;
        uint8_t *dst = (uint8_t *)a->rows + (size_t)(p / TILE) * tile_bytes + (size_t)(p % TILE) * CNN_I8_BLOCK_BYTES;
        for (int32_t b = 0; b < a->blocks; b++) {
            for (int i = 0; i < STEPS; i++) {
                const __m256i x = _mm256_loadu_si256((const __m256i *)(src + i * STEP));
                _mm256_storeu_si256((__m256i *)(dst + i * STEP), _mm256_xor_si256(x, offset));
            }
            src += CNN_I8_BLOCK_BYTES;
            dst += TILE * CNN_I8_BLOCK_BYTES;
        }
    }
}

/* One group of every pixel. row: pixel 0's; weights: [16][GROUP]. */
CNN_AVXVNNI CNN_INLINE void step(sums *sum, int part, const uint8_t *row, const int8_t *weights, int pixels)
{
    __m256i w[CNN_I8_HALVES];
    CNN_UNROLL
    for (int h = 0; h < CNN_I8_HALVES; h++)
        w[h] = _mm256_loadu_si256((const __m256i *)(weights + h * CNN_I8_LANES * GROUP));
    CNN_UNROLL
    for (int p = 0; p < pixels; p++) {
        const __m256i x = cnn_i8_group(row + p * CNN_I8_BLOCK_BYTES);
        CNN_UNROLL
        for (int h = 0; h < CNN_I8_HALVES; h++) {
            sum->part[part][h][p] = CNN_DPBUSD(sum->part[part][h][p], x, w[h]);
            __asm__("" : "+x"(sum->part[part][h][p]));
        }
    }
}

CNN_AVXVNNI CNN_INLINE void start(sums *sum, const int32_t *from, int pixels, int split)
{
    CNN_UNROLL
    for (int h = 0; h < CNN_I8_HALVES; h++)
        CNN_UNROLL
    for (int p = 0; p < pixels; p++) {
        sum->part[0][h][p] = _mm256_loadu_si256((const __m256i *)(from + h * CNN_I8_LANES));
        CNN_UNROLL
        for (int s = 1; s < split; s++)
            sum->part[s][h][p] = _mm256_setzero_si256();
    }
}

CNN_AVXVNNI CNN_INLINE void store(const sums *sum, int32_t *dst, int pixels, int split)
{
    CNN_UNROLL
    for (int h = 0; h < CNN_I8_HALVES; h++)
        CNN_UNROLL
    for (int p = 0; p < pixels; p++) {
        __m256i total = sum->part[0][h][p];
        CNN_UNROLL
        for (int s = 1; s < split; s++)
            total = _mm256_add_epi32(total, sum->part[s][h][p]);
        _mm256_storeu_si256((__m256i *)(dst + p * CNN_I8_SUMS + h * CNN_I8_LANES), total);
    }
}

/* A tile with panel j. */
CNN_AVXVNNI CNN_INLINE void multiply(const cnn_i8_product *a, int32_t j, const uint8_t *rows, int32_t *dst, int pixels)
{
    sums sum;
    const int split = pixels == 1 ? 4 : pixels <= 3 ? 2 : 1;
    const int8_t *weights = a->weights + (size_t)j * a->panel_bytes;
    start(&sum, a->start + j * CNN_I8_PANEL, pixels, split);
    for (int32_t left = a->depth / GROUP; left > 0; left -= GROUPS) {
        const int32_t groups = left < GROUPS ? left : GROUPS;
        for (int32_t i = 0; i < groups; i += split)
            CNN_UNROLL
        for (int s = 0; s < split; s++) {
            if (s > 0 && i + s >= groups)
                break;
            step(&sum, s, rows + GROUP * (i + s), weights, pixels);
            weights += CNN_I8_PANEL * GROUP;
        }
        rows += TILE * CNN_I8_BLOCK_BYTES;
    }
    store(&sum, dst + j * CNN_I8_PANEL, pixels, split);
}

#define CASE(PIXELS)                       \
    case PIXELS:                           \
        multiply(a, j, rows, dst, PIXELS); \
        return;

CNN_AVXVNNI static void multiply_any(const cnn_i8_product *a, int32_t j, const uint8_t *rows, int32_t *dst, int pixels)
{
    switch (pixels) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
    default:
        multiply(a, j, rows, dst, TILE);
    }
}

CNN_AVXVNNI static void product(const cnn_i8_product *a)
{
    const size_t blocks = ((size_t)a->depth + CNN_I8_BLOCK_BYTES - 1) / CNN_I8_BLOCK_BYTES;
    for (int32_t j = 0; j < a->panels; j++) {
        const uint8_t *rows = a->rows;
        for (int32_t p = 0; p < a->pixels; p += TILE) {
            const int32_t pixels = a->pixels - p < TILE ? a->pixels - p : TILE;
            multiply_any(a, j, rows, a->sums + (size_t)p * CNN_I8_SUMS, pixels);
            rows += blocks * TILE * CNN_I8_BLOCK_BYTES;
        }
    }
}

const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_avxvnni = {
    .name = "avxvnni",
    .isa = CNN_CPU_AVXVNNI,
    .tile = TILE,
    .group = GROUP,
    .depth = GROUP,
    .value_bytes = 1,
    .offset = true,
    .convert = convert,
    .product = product,
    .requantize = cnn_cpu_requantize_i8_avx2,
    .dequantize = cnn_cpu_dequantize_i8_avx2,
};

#else
typedef int cnn_cpu_gemm_i8_avxvnni_not_here; /* ISO C wants a declaration */
#endif
