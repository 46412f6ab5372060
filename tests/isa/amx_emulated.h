/* AMX's tile instructions in C, after Intel's Architecture Instruction Set Extensions reference: what they compute, and
 * the conditions under which the CPU would raise an exception, which end the program here.
 *
 * Included by a source that is compiled with CNN_CPU_EMULATED, which gets tiles of its own, those of a thread apart. */
#ifndef CNN_TESTS_AMX_EMULATED_H
#define CNN_TESTS_AMX_EMULATED_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EMULATED_TILES = 8, EMULATED_ROWS = 16, EMULATED_ROW_BYTES = 64, EMULATED_CONFIG_BYTES = 64 };

typedef struct emulated_tile {
    int rows, row_bytes; /* 0: not configured */
    uint8_t data[EMULATED_ROWS][EMULATED_ROW_BYTES];
} emulated_tile;

static _Thread_local emulated_tile emulated_tiles[EMULATED_TILES];

static inline void emulated_require(int condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "AMX: exception: %s\n", what);
    abort();
}

static inline emulated_tile *emulated_get(int number)
{
    emulated_require(number >= 0 && number < EMULATED_TILES, "there are 8 tiles");
    emulated_require(emulated_tiles[number].rows > 0, "the tile is not configured");
    return &emulated_tiles[number];
}

/* Byte 0: palette, 1: start row, 2 to 15: 0; from 16 on 16-bit bytes in a row, from 48 on rows, of 16 tiles each. */
static inline void emulated_loadconfig(const void *config)
{
    const uint8_t *bytes = config;
    emulated_require(bytes[0] == 1, "palette 1 is the only one");
    emulated_require(bytes[1] == 0, "it starts with row 0");
    for (int i = 2; i < 16; i++)
        emulated_require(bytes[i] == 0, "reserved bytes are 0");
    for (int i = 0; i < EMULATED_CONFIG_BYTES / 4; i++) {
        const int row_bytes = bytes[16 + 2 * i] | bytes[17 + 2 * i] << 8, rows = bytes[48 + i];
        emulated_require(i < EMULATED_TILES || (row_bytes == 0 && rows == 0), "tiles beyond 8 are 0");
        if (i >= EMULATED_TILES)
            continue;
        emulated_require(row_bytes <= EMULATED_ROW_BYTES && rows <= EMULATED_ROWS, "16 rows of 64 bytes at most");
        emulated_require((row_bytes == 0) == (rows == 0), "rows and bytes in a row are both 0 or neither");
        memset(&emulated_tiles[i], 0, sizeof emulated_tiles[i]);
        emulated_tiles[i].rows = rows;
        emulated_tiles[i].row_bytes = row_bytes;
    }
}

static inline void emulated_release(void)
{
    memset(emulated_tiles, 0, sizeof emulated_tiles);
}

static inline void emulated_zero(int number)
{
    memset(emulated_get(number)->data, 0, sizeof emulated_tiles[number].data);
}

static inline void emulated_loadd(int number, const void *base, size_t stride)
{
    emulated_tile *tile = emulated_get(number);
    memset(tile->data, 0, sizeof tile->data);
    for (int i = 0; i < tile->rows; i++)
        memcpy(tile->data[i], (const uint8_t *)base + (size_t)i * stride, (size_t)tile->row_bytes);
}

static inline void emulated_stored(int number, void *base, size_t stride)
{
    const emulated_tile *tile = emulated_get(number);
    for (int i = 0; i < tile->rows; i++)
        memcpy((uint8_t *)base + (size_t)i * stride, tile->data[i], (size_t)tile->row_bytes);
}

static inline float emulated_bf16(uint16_t bits)
{
    const uint32_t wide =
        (bits & 0x7f80u) ? (uint32_t)bits << 16 : (uint32_t)(bits & 0x8000u) << 16; /* no subnormals */
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* c[m][n] += a[m][k] * b[k][n], pairs of bf16 and f32 sums. The instruction sums a pair's first values over all of k,
 * then the second ones, then both: each with one rounding; subnormal numbers are taken for 0, and results become 0. */
static inline void emulated_dpbf16ps(int c_number, int a_number, int b_number)
{
    emulated_tile *c = emulated_get(c_number);
    const emulated_tile *a = emulated_get(a_number), *b = emulated_get(b_number);
    const int depth = a->row_bytes / 4, columns = b->row_bytes / 4;
    emulated_require(c_number != a_number && c_number != b_number && a_number != b_number, "three different tiles");
    emulated_require(c->rows == a->rows && c->row_bytes == b->row_bytes,
                     "a product's shape is rows of a by columns of b");
    emulated_require(b->rows == depth, "b has as many rows as a has groups in a row");
    for (int m = 0; m < a->rows; m++)
        for (int n = 0; n < columns; n++) {
            float sum[2] = {0, 0}, start;
            for (int k = 0; k < depth; k++) {
                uint16_t x[2], w[2];
                memcpy(x, a->data[m] + 4 * k, sizeof x);
                memcpy(w, b->data[k] + 4 * n, sizeof w);
                for (int i = 0; i < 2; i++)
                    sum[i] = fmaf(emulated_bf16(x[i]), emulated_bf16(w[i]), sum[i]);
            }
            memcpy(&start, c->data[m] + 4 * n, sizeof start);
            start += sum[0] + sum[1];
            memcpy(c->data[m] + 4 * n, &start, sizeof start);
        }
}

/* c[m][n] += sum over k of the products of 4 signed bytes a[m][k] and b[k][n]. */
static inline void emulated_dpbssd(int c_number, int a_number, int b_number)
{
    emulated_tile *c = emulated_get(c_number);
    const emulated_tile *a = emulated_get(a_number), *b = emulated_get(b_number);
    const int depth = a->row_bytes / 4, columns = b->row_bytes / 4;
    emulated_require(c_number != a_number && c_number != b_number && a_number != b_number, "three different tiles");
    emulated_require(c->rows == a->rows && c->row_bytes == b->row_bytes,
                     "a product's shape is rows of a by columns of b");
    emulated_require(a->row_bytes % 4 == 0 && b->row_bytes % 4 == 0, "whole groups of 4 bytes");
    emulated_require(b->rows == depth, "b has as many rows as a has groups in a row");
    for (int m = 0; m < a->rows; m++) {
        uint32_t sums[EMULATED_ROW_BYTES / 4];
        memcpy(sums, c->data[m], sizeof sums);
        for (int k = 0; k < depth; k++) {
            int8_t x[4], w[EMULATED_ROW_BYTES];
            memcpy(x, a->data[m] + 4 * k, sizeof x);
            memcpy(w, b->data[k], sizeof w);
            for (int n = 0; n < columns; n++)
                for (int i = 0; i < 4; i++)
                    sums[n] += (uint32_t)(x[i] * w[4 * n + i]); /* wraps as the instruction does */
        }
        memcpy(c->data[m], sums, sizeof sums);
    }
}

#endif
