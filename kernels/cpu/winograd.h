/* What the Winograd kernels for 5x5 convolutions at stride 1 share: tiles, padding, staging.
 *
 * An image of P x Q outputs is cut into tiles of 4x4; a tile needs 8x8 inputs and has 64 points. For some images at a
 * time ("a chunk"): transform the inputs of all tiles, multiply point by point (64 matrix products over channels),
 * transform back. Between the steps the values of a point lie together:
 *
 *   V [64][tiles of the chunk][channels in]     M [64][tiles of the chunk][channels out]
 *
 * with pitches that keep the 64 streams out of each other's cache sets. Channels are padded with zeros to whole
 * vectors. Partition and order follow from the shape alone. */
#ifndef CNN_CPU_WINOGRAD_H
#define CNN_CPU_WINOGRAD_H

#include "kernels/cpu/loops.h"
#include "kernels/cpu/shape.h"

enum {
    CNN_WINO_PITCH_EXTRA = 16, /* floats between rows, and ... */
    CNN_WINO_POINT_EXTRA = 48  /* ... between points, beyond what they hold */
};

typedef struct cnn_wino_tiles {
    int32_t down, across, all; /* of one image */
    int32_t images;            /* of a chunk */
    int chunks;
} cnn_wino_tiles;

/* Tiles that cover height x width outputs of n images; chunks of about equal size. */
cnn_wino_tiles cnn_wino_tiles_of(int32_t n, int32_t height, int32_t width);

/* Images [*first, *first + returned) of a chunk. */
int32_t cnn_wino_chunk(const cnn_wino_tiles *tiles, int32_t n, int chunk, int32_t *first);

/* Whether the transforms pay: 5x5 at stride 1, enough channels and pixels to fill tiles and vectors. */
bool cnn_wino_suits(const cnn_op_desc *desc, char *why);

/* Channels rounded up to whole vectors. */
static inline int32_t cnn_wino_pad(const cnn_cpu_loops *loops, int32_t channels)
{
    return (channels + loops->lanes - 1) / loops->lanes * loops->lanes;
}

/* A tensor [n,h,w,c] of a float dtype from which bands of rows are staged. */
typedef struct cnn_wino_source {
    const cnn_cpu_loops *loops;
    cnn_dtype dtype;
    const void *data;
    int32_t h, w, c, pitch; /* pitch: floats between staged pixels, >= c */
} cnn_wino_source;

/* Writes rows [y, y+rows) x columns [x, x+columns) of image n to band [rows][columns][pitch] as f32; what lies outside
 * the image, and channels beyond c, are 0. */
void cnn_wino_stage(const cnn_wino_source *source, int32_t n, int32_t y, int32_t rows, int32_t x, int32_t columns,
                    float *band);

#endif
