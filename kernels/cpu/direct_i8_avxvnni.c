/* Tiles of direct INT8 convolutions with AVX-VNNI. See direct_i8.h, gemm_i8_avxvnni.h.
 *
 * A tile does its panels one after the other. A step takes 4 channels of every pixel: one broadcast load a pixel, two
 * multiplications. */
#include "kernels/cpu/isa.h"

#if defined(CNN_CPU_AVXVNNI_BUILT)

#include "kernels/cpu/direct_i8.h"
#include "kernels/cpu/gemm_i8_avxvnni.h"

enum {
    TILE = CNN_I8_TILE,
    LEAST_SKIP = 4, /* images of 14 pixels have tiles of 4 and 5 */
    SPLIT = 4       /* of a single pixel's sums */
};

typedef struct sums {
    __m256i of[CNN_I8_HALVES][TILE];
} sums;

CNN_AVXVNNI CNN_INLINE void load(__m256i w[CNN_I8_HALVES], const int8_t *weights)
{
    CNN_UNROLL
    for (int h = 0; h < CNN_I8_HALVES; h++)
        w[h] = _mm256_loadu_si256((const __m256i *)(weights + h * CNN_I8_LANES * CNN_I8_GROUP));
}

/* A group of a pixel, whose sums are number p. The empty asm keeps each in its register. */
CNN_AVXVNNI CNN_INLINE void step(sums *sum, int p, const uint8_t *x, const __m256i w[CNN_I8_HALVES])
{
    const __m256i group = cnn_i8_group(x);
    CNN_UNROLL
    for (int h = 0; h < CNN_I8_HALVES; h++) {
        sum->of[h][p] = CNN_DPBUSD(sum->of[h][p], group, w[h]);
        __asm__("" : "+x"(sum->of[h][p]));
    }
}

CNN_AVXVNNI CNN_INLINE void multiply(sums *sum, const uint8_t *x, const int8_t *weights, int first, int last)
{
    __m256i w[CNN_I8_HALVES];
    load(w, weights);
    CNN_UNROLL
    for (int p = first; p < last; p++)
        step(sum, p, x + p * CNN_I8_GROUP, w);
}

/* All groups of one tap, for pixels first .. last-1. */
CNN_AVXVNNI CNN_INLINE void tap_dense(sums *sum, const cnn_i8_tile *a, const uint8_t *x, const int8_t *weights,
                                      int first, int last)
{
    for (int32_t g = 0; g < a->groups; g++) {
        multiply(sum, x, weights, first, last);
        x += a->plane_bytes;
        weights += CNN_I8_GROUP_BYTES;
    }
}

/* Blocks b .. end-1. A single pixel's sums are split, so that the latency of an addition does not show. */
CNN_AVXVNNI CNN_INLINE void some_blocks(sums *sum, const cnn_i8_tile *a, const uint8_t *x, int32_t b, int32_t end,
                                        int first, int last, int pixels)
{
    for (; pixels == 1 && b + SPLIT <= end; b += SPLIT) {
        CNN_UNROLL
        for (int i = 0; i < SPLIT; i++) {
            __m256i w[CNN_I8_HALVES];
            load(w, a->weights + (size_t)(b + i) * CNN_I8_GROUP_BYTES);
            step(sum, i, x + a->offset[b + i], w);
        }
    }
    for (; b < end; b++)
        multiply(sum, x + a->offset[b], a->weights + (size_t)b * CNN_I8_GROUP_BYTES, first, last);
}

/* One column of the filter, for pixels first .. last-1. weights: of the panel, when it is dense. */
CNN_AVXVNNI CNN_INLINE void column(sums *sum, const cnn_i8_tile *a, const int8_t *weights, bool blocks, int32_t s,
                                   int first, int last, int pixels)
{
    const uint8_t *x = a->x + (size_t)s * CNN_I8_GROUP;
    const size_t tap_bytes = (size_t)a->groups * CNN_I8_GROUP_BYTES;
    if (blocks) {
        const int32_t *begin = a->begin + s * a->all_rows;
        some_blocks(sum, a, x, begin[a->top[0]], begin[a->bottom[0]], first, last, pixels);
        return;
    }
    for (int32_t r = 0; r < a->rows; r++)
        tap_dense(sum, a, x + (size_t)r * a->line_bytes, weights + (size_t)(r * a->columns + s) * tap_bytes, first,
                  last);
}

CNN_AVXVNNI CNN_INLINE void columns(sums *sum, const cnn_i8_tile *a, const int8_t *weights, bool blocks, int pixels)
{
    for (int32_t s = 0; s < a->columns; s++) {
        int32_t first, last;
        cnn_i8_skip(LEAST_SKIP, pixels, a->left, a->right, a->columns, s, &first, &last);
        if (pixels >= LEAST_SKIP && first == 2)
            column(sum, a, weights, blocks, s, 2, pixels, pixels);
        else if (pixels >= LEAST_SKIP && first == 1)
            column(sum, a, weights, blocks, s, 1, pixels, pixels);
        else if (pixels >= LEAST_SKIP && last == pixels - 1)
            column(sum, a, weights, blocks, s, 0, pixels - 1, pixels);
        else if (pixels >= LEAST_SKIP && last == pixels - 2)
            column(sum, a, weights, blocks, s, 0, pixels - 2, pixels);
        else
            column(sum, a, weights, blocks, s, 0, pixels, pixels);
    }
}

/* Panel j of a tile. */
CNN_AVXVNNI CNN_INLINE void tile(const cnn_i8_tile *a, int32_t j, bool blocks, int pixels)
{
    sums sum;
    CNN_UNROLL
    for (int h = 0; h < CNN_I8_HALVES; h++) {
        CNN_UNROLL
        for (int p = 0; p < pixels; p++)
            sum.of[h][p] = _mm256_loadu_si256(
                (const __m256i *)(a->start[0] + p * CNN_I8_SUMS + j * CNN_I8_PANEL + h * CNN_I8_LANES));
        if (pixels == 1)
            for (int i = 1; i < SPLIT; i++)
                sum.of[h][i] = _mm256_setzero_si256();
    }
    columns(&sum, a, a->weights + (size_t)j * a->panel_bytes, blocks, pixels);
    CNN_UNROLL
    for (int h = 0; h < CNN_I8_HALVES; h++) {
        if (pixels == 1)
            for (int i = 1; i < SPLIT; i++)
                sum.of[h][0] = _mm256_add_epi32(sum.of[h][0], sum.of[h][i]);
        CNN_UNROLL
        for (int p = 0; p < pixels; p++)
            _mm256_storeu_si256((__m256i *)(a->sums + p * CNN_I8_SUMS + j * CNN_I8_PANEL + h * CNN_I8_LANES),
                                sum.of[h][p]);
    }
}

#define CASE(PIXELS)                \
    case PIXELS:                    \
        tile(a, j, blocks, PIXELS); \
        return;

CNN_AVXVNNI CNN_INLINE void tile_any(const cnn_i8_tile *a, int32_t j, bool blocks)
{
    switch (a->pixels) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
    default:
        tile(a, j, blocks, TILE);
    }
}

CNN_AVXVNNI static void dense_panel(const cnn_i8_tile *a, int32_t j)
{
    tile_any(a, j, false);
}

static void dense(const cnn_i8_tile *a)
{
    for (int32_t j = 0; j < a->panels; j++)
        dense_panel(a, j);
}

CNN_AVXVNNI static void blocks(const cnn_i8_tile *a)
{
    tile_any(a, 0, true);
}

CNN_AVXVNNI static void fill_start(const cnn_i8_tile *tile, const int32_t *tap_sums, int32_t *start)
{
    cnn_i8_fill_start(LEAST_SKIP, tile, tap_sums, start);
}

CNN_AVXVNNI static void pool(const int32_t *rows, int32_t row_pixels, int32_t size, int32_t stride, int32_t windows,
                             int32_t *pooled)
{
    cnn_i8_pool(rows, row_pixels, size, stride, windows, pooled);
}

const cnn_cpu_direct_i8 cnn_cpu_direct_i8_avxvnni = {"avxvnni", TILE, 1, LEAST_SKIP, dense, blocks, fill_start, pool};

#else
typedef int cnn_cpu_direct_i8_avxvnni_not_here; /* ISO C wants a declaration */
#endif
