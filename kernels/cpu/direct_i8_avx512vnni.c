/* Tiles of direct INT8 convolutions with AVX-512 VNNI. See direct_i8.h.
 *
 * A step takes 4 channels of every pixel: one broadcast load a pixel, one multiplication a pixel and panel. */
#if defined(__x86_64__)

#include "kernels/cpu/direct_i8.h"
#include "kernels/cpu/gemm_i8_avx512.h"

enum { TILE = 14 }; /* pixels */

#define VNNI __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

typedef struct sums {
    __m512i of[CNN_I8_PANELS][TILE];
} sums;

VNNI CNN_INLINE void keep(sums *sum, int first, int last, int panels)
{
    CNN_UNROLL
    for (int j = 0; j < panels; j++)
        CNN_UNROLL
    for (int p = first; p < last; p++)
        __asm__("" : "+v"(sum->of[j][p]));
}

VNNI CNN_INLINE void multiply(sums *sum, const uint8_t *x, const int8_t *weights, size_t panel_bytes, int first,
                              int last, int panels)
{
    __m512i w[CNN_I8_PANELS];
    CNN_UNROLL
    for (int j = 0; j < panels; j++)
        w[j] = _mm512_loadu_si512(weights + (size_t)j * panel_bytes);
    CNN_UNROLL
    for (int p = first; p < last; p++) {
        const __m512i group = _mm512_set1_epi32(cnn_i8_load_group(x + p * CNN_I8_GROUP));
        CNN_UNROLL
        for (int j = 0; j < panels; j++)
            sum->of[j][p] = _mm512_dpbusd_epi32(sum->of[j][p], group, w[j]);
    }
    keep(sum, first, last, panels);
}

/* All groups of one tap, for pixels first .. last-1. */
VNNI CNN_INLINE void tap_dense(sums *sum, const cnn_i8_tile *a, const uint8_t *x, const int8_t *weights, int first,
                               int last, int panels)
{
    for (int32_t g = 0; g < a->groups; g++) {
        multiply(sum, x, weights, a->panel_bytes, first, last, panels);
        x += a->plane_bytes;
        weights += CNN_I8_GROUP_BYTES;
    }
}

/* Blocks b .. end-1. A single pixel's sums are split, so that the latency of an addition does not show. */
VNNI CNN_INLINE void some_blocks(sums *sum, const cnn_i8_tile *a, const uint8_t *x, int32_t b, int32_t end, int first,
                                 int last, int pixels)
{
    enum { SPLIT = 4 };
    for (; pixels == 1 && b + SPLIT <= end; b += SPLIT) {
        CNN_UNROLL
        for (int i = 0; i < SPLIT; i++) {
            const __m512i w = _mm512_loadu_si512(a->weights + (size_t)(b + i) * CNN_I8_GROUP_BYTES);
            const __m512i group = _mm512_set1_epi32(cnn_i8_load_group(x + a->offset[b + i]));
            sum->of[0][i] = _mm512_dpbusd_epi32(sum->of[0][i], group, w);
        }
        keep(sum, 0, SPLIT, 1);
    }
    for (; b < end; b++) {
        const uint8_t *group = x + a->offset[b];
        __asm__("" : "+r"(group)); /* one address and displacements: gcc otherwise keeps an address for each pixel */
        multiply(sum, group, a->weights + (size_t)b * CNN_I8_GROUP_BYTES, 0, first, last, 1);
    }
}

/* One column of the filter, for pixels first .. last-1. */
VNNI CNN_INLINE void column(sums *sum, const cnn_i8_tile *a, bool blocks, int32_t s, int first, int last, int pixels,
                            int panels)
{
    const uint8_t *x = a->x + (size_t)s * CNN_I8_GROUP;
    const size_t tap_bytes = (size_t)a->groups * CNN_I8_GROUP_BYTES;
    if (blocks) {
        const int32_t *begin = a->begin + s * a->all_rows + a->top;
        some_blocks(sum, a, x, begin[0], begin[a->rows], first, last, pixels);
        return;
    }
    for (int32_t r = 0; r < a->rows; r++)
        tap_dense(sum, a, x + (size_t)r * a->line_bytes, a->weights + (size_t)(r * a->columns + s) * tap_bytes, first,
                  last, panels);
}

VNNI CNN_INLINE void tile(const cnn_i8_tile *a, bool blocks, int pixels, int panels)
{
    sums sum;
    CNN_UNROLL
    for (int p = 0; p < pixels; p++)
        CNN_UNROLL
    for (int j = 0; j < panels; j++)
        sum.of[j][p] = _mm512_loadu_si512(a->start + p * CNN_I8_SUMS + j * CNN_I8_PANEL);
    if (pixels == 1)
        sum.of[0][1] = sum.of[0][2] = sum.of[0][3] = _mm512_setzero_si512();
    for (int32_t s = 0; s < a->columns; s++) {
        int32_t first, last;
        cnn_i8_skip(TILE, pixels, a->left, a->right, a->columns, s, &first, &last);
        if (pixels == TILE && first == 2)
            column(&sum, a, blocks, s, 2, pixels, pixels, panels);
        else if (pixels == TILE && first == 1)
            column(&sum, a, blocks, s, 1, pixels, pixels, panels);
        else if (pixels == TILE && last == pixels - 1)
            column(&sum, a, blocks, s, 0, pixels - 1, pixels, panels);
        else if (pixels == TILE && last == pixels - 2)
            column(&sum, a, blocks, s, 0, pixels - 2, pixels, panels);
        else
            column(&sum, a, blocks, s, 0, pixels, pixels, panels);
        keep(&sum, 0, pixels, panels);
    }
    if (pixels == 1)
        sum.of[0][0] = _mm512_add_epi32(_mm512_add_epi32(sum.of[0][0], sum.of[0][1]),
                                        _mm512_add_epi32(sum.of[0][2], sum.of[0][3]));
    CNN_UNROLL
    for (int p = 0; p < pixels; p++)
        CNN_UNROLL
    for (int j = 0; j < panels; j++)
        _mm512_storeu_si512(a->sums + p * CNN_I8_SUMS + j * CNN_I8_PANEL, sum.of[j][p]);
}

#define CASE(PIXELS)                     \
    case PIXELS:                         \
        tile(a, blocks, PIXELS, panels); \
        return;

VNNI CNN_INLINE void tile_any(const cnn_i8_tile *a, bool blocks, int panels)
{
    switch (a->pixels) {
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
        tile(a, blocks, TILE, panels);
    }
}

VNNI static void dense(const cnn_i8_tile *a)
{
    if (a->panels == CNN_I8_PANELS)
        tile_any(a, false, CNN_I8_PANELS);
    else
        tile_any(a, false, 1);
}

VNNI static void blocks(const cnn_i8_tile *a)
{
    tile_any(a, true, 1);
}

VNNI static void fill_start(const cnn_i8_tile *tile, const int32_t *tap_sums, int32_t *start)
{
    cnn_i8_fill_start(TILE, tile, tap_sums, start);
}

VNNI static void pool(const int32_t *rows, int32_t row_pixels, int32_t size, int32_t stride, int32_t windows,
                      int32_t *pooled)
{
    if (size == 2)
        cnn_i8_pool(rows, row_pixels, 2, stride, windows, pooled);
    else
        cnn_i8_pool(rows, row_pixels, size, stride, windows, pooled);
}

const cnn_cpu_direct_i8 cnn_cpu_direct_i8_avx512vnni = {"avx512vnni", TILE, TILE, dense, blocks, fill_start, pool};

#else
typedef int cnn_cpu_direct_i8_avx512vnni_not_here; /* ISO C wants a declaration */
#endif
