/* Tiles of direct INT8 convolutions with AVX-512 VNNI. See direct_i8.h.
 *
 * A step takes 4 channels of every pixel: one broadcast load a pixel, one multiplication a pixel and panel. Sums are
 * those of two panels, or with blocks of two rows, which share the loads of weights. */
#if defined(__x86_64__)

#include "kernels/cpu/direct_i8.h"
#include "kernels/cpu/gemm_i8_avx512.h"

enum {
    TILE = 14, /* pixels */
    SPLIT = 4  /* of a single pixel's sums */
};

#define VNNI __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

typedef struct sums {
    __m512i of[CNN_I8_PANELS][TILE]; /* of each panel or row */
} sums;

VNNI CNN_INLINE void keep(sums *sum, int first, int last, int count)
{
    CNN_UNROLL
    for (int j = 0; j < count; j++)
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

/* A block, for rows row .. end-1 of the tile. */
VNNI CNN_INLINE void multiply_block(sums *sum, const cnn_i8_tile *a, const uint8_t *x, int32_t b, int row, int end,
                                    int first, int last)
{
    const __m512i w = _mm512_loadu_si512(a->weights + (size_t)b * CNN_I8_GROUP_BYTES);
    CNN_UNROLL
    for (int j = row; j < end; j++) {
        const uint8_t *group = x + a->offset[b] + (size_t)j * a->line_bytes;
        __asm__("" : "+r"(group)); /* one address and displacements: gcc otherwise keeps an address for each pixel */
        CNN_UNROLL
        for (int p = first; p < last; p++)
            sum->of[j][p] =
                _mm512_dpbusd_epi32(sum->of[j][p], _mm512_set1_epi32(cnn_i8_load_group(group + p * CNN_I8_GROUP)), w);
    }
    keep(sum, first, last, end);
}

/* Blocks b .. end_block-1 of rows row .. end-1. A single pixel's sums are split, so that the latency of an addition
 * does not show. */
VNNI CNN_INLINE void some_blocks(sums *sum, const cnn_i8_tile *a, const uint8_t *x, int32_t b, int32_t end_block,
                                 int row, int end, int first, int last, bool split)
{
    for (; split && b + SPLIT <= end_block; b += SPLIT) {
        CNN_UNROLL
        for (int i = 0; i < SPLIT; i++) {
            const __m512i w = _mm512_loadu_si512(a->weights + (size_t)(b + i) * CNN_I8_GROUP_BYTES);
            const __m512i group = _mm512_set1_epi32(cnn_i8_load_group(x + a->offset[b + i]));
            sum->of[0][i] = _mm512_dpbusd_epi32(sum->of[0][i], group, w);
        }
        keep(sum, 0, SPLIT, 1);
    }
    for (; b < end_block; b++)
        multiply_block(sum, a, x, b, row, end, first, last);
}

/* The blocks of one column of the filter. The second row's filter begins and ends as far up or further: first come
 * rows of the filter that only it sees, then those of both, then those of the first alone. */
VNNI CNN_INLINE void column_blocks(sums *sum, const cnn_i8_tile *a, int32_t s, int first, int last, int pixels,
                                   int lines)
{
    const uint8_t *x = a->x + (size_t)s * CNN_I8_GROUP;
    const int32_t *begin = a->begin + s * a->all_rows;
    const int32_t top = begin[a->top[0]], bottom = begin[a->bottom[0]];
    if (lines == 1) {
        some_blocks(sum, a, x, top, bottom, 0, 1, first, last, pixels == 1);
        return;
    }
    const int32_t shared = begin[a->bottom[1]];
    some_blocks(sum, a, x, begin[a->top[1]], top, 1, lines, first, last, false);
    some_blocks(sum, a, x, top, shared, 0, lines, first, last, false);
    some_blocks(sum, a, x, shared, bottom, 0, 1, first, last, false);
}

/* One column of the filter, for pixels first .. last-1; count: panels, or with blocks rows. */
VNNI CNN_INLINE void column(sums *sum, const cnn_i8_tile *a, bool blocks, int32_t s, int first, int last, int pixels,
                            int count)
{
    if (blocks) {
        column_blocks(sum, a, s, first, last, pixels, count);
        return;
    }
    const uint8_t *x = a->x + (size_t)s * CNN_I8_GROUP;
    const size_t tap_bytes = (size_t)a->groups * CNN_I8_GROUP_BYTES;
    for (int32_t r = 0; r < a->rows; r++)
        tap_dense(sum, a, x + (size_t)r * a->line_bytes, a->weights + (size_t)(r * a->columns + s) * tap_bytes, first,
                  last, count);
}

VNNI CNN_INLINE void tile(const cnn_i8_tile *a, bool blocks, int pixels, int count)
{
    const size_t next = blocks ? a->line_sums : CNN_I8_PANEL; /* of the sums of each panel or row */
    sums sum;
    CNN_UNROLL
    for (int p = 0; p < pixels; p++)
        CNN_UNROLL
    for (int j = 0; j < count; j++)
        sum.of[j][p] = _mm512_loadu_si512((blocks ? a->start[j] : a->start[0] + j * CNN_I8_PANEL) + p * CNN_I8_SUMS);
    if (pixels == 1 && count == 1)
        sum.of[0][1] = sum.of[0][2] = sum.of[0][3] = _mm512_setzero_si512();
    for (int32_t s = 0; s < a->columns; s++) {
        int32_t first, last;
        cnn_i8_skip(TILE, pixels, a->left, a->right, a->columns, s, &first, &last);
        if (pixels == TILE && first == 2)
            column(&sum, a, blocks, s, 2, pixels, pixels, count);
        else if (pixels == TILE && first == 1)
            column(&sum, a, blocks, s, 1, pixels, pixels, count);
        else if (pixels == TILE && last == pixels - 1)
            column(&sum, a, blocks, s, 0, pixels - 1, pixels, count);
        else if (pixels == TILE && last == pixels - 2)
            column(&sum, a, blocks, s, 0, pixels - 2, pixels, count);
        else
            column(&sum, a, blocks, s, 0, pixels, pixels, count);
        keep(&sum, 0, pixels, count);
    }
    if (pixels == 1 && count == 1)
        sum.of[0][0] = _mm512_add_epi32(_mm512_add_epi32(sum.of[0][0], sum.of[0][1]),
                                        _mm512_add_epi32(sum.of[0][2], sum.of[0][3]));
    CNN_UNROLL
    for (int p = 0; p < pixels; p++)
        CNN_UNROLL
    for (int j = 0; j < count; j++)
        _mm512_storeu_si512(a->sums + p * CNN_I8_SUMS + (size_t)j * next, sum.of[j][p]);
}

#define CASE(PIXELS)                    \
    case PIXELS:                        \
        tile(a, blocks, PIXELS, count); \
        return;

VNNI CNN_INLINE void tile_any(const cnn_i8_tile *a, bool blocks, int count)
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
        tile(a, blocks, TILE, count);
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
    if (a->lines == CNN_I8_LINES)
        tile_any(a, true, CNN_I8_LINES);
    else
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

const cnn_cpu_direct_i8 cnn_cpu_direct_i8_avx512vnni = {"avx512vnni", TILE,   CNN_I8_LINES, TILE,
                                                        dense,        blocks, fill_start,   pool};

#else
typedef int cnn_cpu_direct_i8_avx512vnni_not_here; /* ISO C wants a declaration */
#endif
