/* Direct INT8 convolutions: what an instruction set implements, and what the driver in conv_i8_direct.c gives it.
 *
 * An image is laid out in planes [C/4][H][W + 2 pad][4] of bytes x + 128, so that the 4 channels of a group of
 * neighbouring pixels lie side by side. A tile is some neighbouring output pixels of one row, with one or two panels of
 * 16 outputs, or of two rows with one panel; its sums stay in registers over all filter taps. Filter rows outside the
 * image are left out; pixels of a large tile that a tap column takes from the padding are left out too. Every product
 * that is made has the offset of 128, and `start` takes out exactly those. */
#ifndef CNN_CPU_DIRECT_I8_H
#define CNN_CPU_DIRECT_I8_H

#include "kernels/cpu/gemm_i8.h"

enum {
    CNN_I8_GROUP = 4,                                 /* channels */
    CNN_I8_GROUP_BYTES = CNN_I8_PANEL * CNN_I8_GROUP, /* weights of a group for a panel */
    CNN_I8_MOST_SKIP = 2,                             /* pixels that a tile leaves out on either side */
    CNN_I8_LINES = 2                                  /* most output rows of a tile */
};

typedef struct cnn_i8_tile {
    const uint8_t *x; /* of the first pixel at the first tap; each tap column is a pixel, each filter row a line on */
    size_t line_bytes, plane_bytes;
    int32_t rows, columns, groups; /* filter rows inside the image, filter columns, groups of channels */
    const int8_t *weights; /* of the first tap: [taps][groups][16][4], the next panel at panel_bytes; blocks: all */
    size_t panel_bytes;
    /* With blocks x is that of filter row 0, and a tile may have two output rows, the second a line below the first. */
    const int32_t
        *begin; /* [columns][all_rows], the first block of each tap; of the next panel's, or the end, at last */
    const uint32_t *offset;                          /* where each finds its channels, from x on, in bytes */
    int32_t all_rows, lines;                         /* lines: output rows */
    int32_t top[CNN_I8_LINES], bottom[CNN_I8_LINES]; /* of each the filter rows inside the image: top .. bottom-1 */
    int32_t left, right;                             /* see cnn_i8_skip */
    int32_t pixels, panels;
    const int32_t *start[CNN_I8_LINES]; /* of each row: [pixels][CNN_I8_SUMS] */
    int32_t *sums;                      /* the same, the next row's at line_sums */
    size_t line_sums;
} cnn_i8_tile;

typedef struct cnn_cpu_direct_i8 {
    const char *name;   /* "avx512vnni" */
    int32_t tile;       /* most pixels of a tile, of each of its rows */
    int32_t lines;      /* most rows of a tile of blocks */
    int32_t least_skip; /* pixels of the least tile that leaves any out */
    void (*dense)(const cnn_i8_tile *tile);
    void (*blocks)(const cnn_i8_tile *tile); /* one panel; weights that are not listed are 0 */
    /* The two loops below, compiled for the level. */
    void (*fill_start)(const cnn_i8_tile *tile, const int32_t *tap_sums, int32_t *start);
    void (*pool)(const int32_t *rows, int32_t row_pixels, int32_t size, int32_t stride, int32_t windows,
                 int32_t *pooled);
} cnn_cpu_direct_i8;

/* Pixels of a tile that tap column `s` takes from the padding and leaves out: [0, *first) and [*last, pixels). The
 * first pixel sees `left` columns of padding, the last one `right`. Tiles of fewer than `least` pixels leave none out,
 * others at one end. */
static inline void cnn_i8_skip(int32_t least, int32_t pixels, int32_t left, int32_t right, int32_t columns, int32_t s,
                               int32_t *first, int32_t *last)
{
    const int32_t low = left - s, high = right - (columns - 1 - s);
    *first = 0;
    *last = pixels;
    if (pixels < least || (low > 0 && high > 0))
        return;
    if (low > 0)
        *first = low < CNN_I8_MOST_SKIP ? low : CNN_I8_MOST_SKIP;
    if (high > 0)
        *last = pixels - (high < CNN_I8_MOST_SKIP ? high : CNN_I8_MOST_SKIP);
}

typedef int32_t cnn_i8_panel_sums __attribute__((vector_size(CNN_I8_PANEL * sizeof(int32_t))));

/* Makes what the offset of 128 brings to the sums of a panel: of the products that the tile makes. tap_sums: of its
 * first row, [rows][columns][16]; start: [pixels][CNN_I8_SUMS]; least: as in cnn_i8_skip. */
static inline __attribute__((always_inline)) void cnn_i8_fill_start(int32_t least, const cnn_i8_tile *tile,
                                                                    const int32_t *tap_sums, int32_t *start)
{
    cnn_i8_panel_sums all = {0}, tap;
    for (int32_t t = 0; t < tile->rows * tile->columns; t++) {
        memcpy(&tap, tap_sums + (size_t)t * CNN_I8_PANEL, sizeof tap);
        all += tap;
    }
    for (int32_t p = 0; p < tile->pixels; p++)
        memcpy(start + (size_t)p * CNN_I8_SUMS, &all, sizeof all);
    for (int32_t s = 0; s < tile->columns; s++) {
        int32_t first, last;
        cnn_i8_skip(least, tile->pixels, tile->left, tile->right, tile->columns, s, &first, &last);
        cnn_i8_panel_sums column = {0}, rest;
        for (int32_t r = 0; r < tile->rows && (first > 0 || last < tile->pixels); r++) {
            memcpy(&tap, tap_sums + (size_t)(r * tile->columns + s) * CNN_I8_PANEL, sizeof tap);
            column += tap;
        }
        for (int32_t p = first > 0 ? 0 : last; p < (first > 0 ? first : tile->pixels); p++) { /* that are left out */
            memcpy(&rest, start + (size_t)p * CNN_I8_SUMS, sizeof rest);
            rest -= column;
            memcpy(start + (size_t)p * CNN_I8_SUMS, &rest, sizeof rest);
        }
    }
}

/* The largest sum of each window of size x size: rows [size][row_pixels][CNN_I8_SUMS] to pooled [windows]. */
static inline __attribute__((always_inline)) void cnn_i8_pool(const int32_t *rows, int32_t row_pixels, int32_t size,
                                                              int32_t stride, int32_t windows, int32_t *pooled)
{
    for (int32_t q = 0; q < windows; q++, pooled += CNN_I8_SUMS) {
        int32_t most[CNN_I8_SUMS];
        memcpy(most, rows + (size_t)q * (size_t)stride * CNN_I8_SUMS, sizeof most);
        for (int32_t i = 1; i < size * size; i++) {
            const int32_t pixel = i / size * row_pixels + q * stride + i % size;
            const int32_t *sums = rows + (size_t)pixel * CNN_I8_SUMS;
            for (int32_t c = 0; c < CNN_I8_SUMS; c++)
                most[c] = sums[c] > most[c] ? sums[c] : most[c];
        }
        memcpy(pooled, most, sizeof most);
    }
}

#if defined(__x86_64__)
extern const cnn_cpu_direct_i8 cnn_cpu_direct_i8_avx512vnni;
#endif
#if defined(CNN_CPU_AVXVNNI_BUILT)
extern const cnn_cpu_direct_i8 cnn_cpu_direct_i8_avxvnni;
#endif

/* ---- Packed weights: direct_i8_pack.c ----
 * Dense: panels [rows][columns][groups][16][4]. Blocks: [16][4] each, those of a tap together, taps by columns of the
 * filter (so that the rows inside an image follow each other), panels in order; with `begin` [panels][columns][rows]
 * and the end, the number of the first block of each tap, and `offset` of each block: its plane and its filter row in
 * bytes. Both: `sums` [panels][rows][columns][16] int32, -128 * the sum of the weights of a tap. */
typedef struct cnn_i8_direct {
    const cnn_tensor_desc *weight; /* [k, spots of all taps, c] */
    int32_t rows, columns;         /* of the filter */
    int32_t spots, groups;         /* groups of a tap: those of all its spots */
    int32_t panels;
    size_t line_bytes, plane_bytes, panel_bytes;
    const int8_t *weights;
    const int32_t *sums, *begin;
    const uint32_t *offset;
    void *memory; /* holds them all */
} cnn_i8_direct;

/* (Re)makes the packed weights of `values`; records its error. */
cnn_status cnn_cpu_pack_direct_i8(cnn_i8_direct *direct, const cnn_host *host, const int8_t *values, bool blocks);

#endif
