/* What the Winograd kernels for convolutions at stride 1 share: the choice of a form, tiles, pixels.
 *
 * An image of P x Q outputs is cut into tiles of m x m; a tile needs n x n inputs and has n x n points. For some images
 * at a time ("a chunk"): transform the inputs of all tiles, multiply point by point (n x n matrix products over
 * channels), transform back. Between the steps the values of a point lie together:
 *
 *   V [points][tiles of the chunk][channels in]     M [points][tiles of the chunk][channels out]
 *
 * with pitches that keep the streams of the points out of each other's cache sets. Partition and order follow from the
 * shape alone. */
#ifndef CNN_CPU_WINOGRAD_H
#define CNN_CPU_WINOGRAD_H

#include "kernels/cpu/ask.h"
#include "kernels/cpu/loops.h"
#include "kernels/cpu/shape.h"

enum {
    CNN_WINO_MAX_PIXELS = CNN_WINO_MAX_POINTS * CNN_WINO_MAX_POINTS,
    CNN_WINO_PITCH_EXTRA = 16 /* floats between rows, beyond what they hold */
};

typedef struct cnn_wino_tiles {
    int32_t down, across, all; /* of one image */
    int32_t images;            /* of a chunk */
    int chunks;
} cnn_wino_tiles;

/* The form that takes the least work for a CONV, CONV_DGRAD or CONV_WGRAD, or NULL where a direct sum takes less. */
const cnn_wino_form *cnn_wino_choose(const cnn_op_desc *desc, const cnn_cpu_loops *loops, char *why);

/* Tiles that cover height x width outputs of n images; chunks of about equal size. */
cnn_wino_tiles cnn_wino_tiles_of(const cnn_wino_form *form, int32_t n, int32_t height, int32_t width);

/* Images [*first, *first + returned) of a chunk. */
int32_t cnn_wino_chunk(const cnn_wino_tiles *tiles, int32_t n, int chunk, int32_t *first);

/* Floats between points that hold `floats` each: an odd number of cache lines, so that the points of a tile, which are
 * read and written one after the other, do not share cache sets. */
static inline ptrdiff_t cnn_wino_point(ptrdiff_t floats)
{
    enum { LINE = 16 };
    return ((floats + LINE - 1) / LINE | 1) * LINE;
}

/* gcc drops calls of functions that do nothing but prefetch. */
#define CNN_WINO_INLINE static inline __attribute__((always_inline))

/* Asks for `rows` rows of `floats` floats, `pitch` apart: the products of a chunk stream through more memory than the
 * second cache holds, at many places at once. */
CNN_WINO_INLINE void cnn_wino_prefetch(const float *first, ptrdiff_t pitch, int rows, int floats)
{
    const ptrdiff_t size = (ptrdiff_t)sizeof *first;
    cnn_cpu_ask(first, pitch * size, rows, floats * size);
}

/* Channels rounded up to whole vectors. */
static inline int32_t cnn_wino_pad(const cnn_cpu_loops *loops, int32_t channels)
{
    return (channels + loops->lanes - 1) / loops->lanes * loops->lanes;
}

/* A tensor [n,h,w,c] of a float dtype. */
typedef struct cnn_wino_image {
    cnn_dtype dtype;
    void *data;
    int32_t h, w, c;
    void *outside; /* stands for each pixel outside the image, from channel 0 on; may be NULL */
} cnn_wino_image;

/* The size x size pixels of image n from row y and column x on, each from channel `channel` on. */
void cnn_wino_pixels(const cnn_wino_image *image, int32_t n, int32_t y, int32_t x, int size, int32_t channel,
                     void *pixel[CNN_WINO_MAX_PIXELS]);

#endif
