/* Products of tiles with AMX: INT8 to int32 sums, bf16 to f32 sums.
 *
 *   sums[p][k] = sum over d of pixel p's value d * weight d of output k
 *
 * tdpbssd (tdpbf16ps) multiplies a tile of 16 pixels x 64 bytes with one of 64 bytes x 16 outputs and adds the products
 * to a tile of 16 x 16 sums. A tile of weights is [16 groups][16 outputs][4 bytes], 4 int8 or 2 bf16 of an output
 * together; steps may also be shorter than 64 bytes, all of them alike. Two tiles of pixels and two panels of 16
 * outputs are multiplied at once: 4 tiles of sums, 2 of pixels and 2 of weights are all there are, and each is used
 * twice when it has been loaded. 16 pixels are read and 16 rows of sums written, whatever is wanted of them.
 *
 * The pixels of a tile lie at any one distance from each other, and so do the runs of steps that a pixel sees:
 * rows of im2col, or pixels of a line of an image and lines of a filter. */
#ifndef CNN_CPU_AMX_PRODUCT_H
#define CNN_CPU_AMX_PRODUCT_H

#include "kernels/cpu/isa.h"

#if defined(CNN_CPU_AMX_BUILT)

#include <stdbool.h>

enum {
    CNN_AMX_PIXELS = 16, /* of a tile */
    CNN_AMX_OUTPUTS = 16,
    CNN_AMX_STEP_BYTES = 64, /* at most */
    CNN_AMX_GROUP_BYTES = 4,
    CNN_AMX_SUMS = 2 * CNN_AMX_OUTPUTS, /* of a row, 32-bit each: both panels */
    CNN_AMX_SUMS_BYTES = CNN_AMX_SUMS * 4
};

/* In how many steps of the same length a run of 16-bit floats is cut: as few as possible that come out even, so that
 * none reaches beyond it (zero weights would not take out an infinity there), or 0 when that takes a quarter more. */
static inline int32_t cnn_amx_even_steps(size_t run_bytes)
{
    const int32_t least = (int32_t)((run_bytes + CNN_AMX_STEP_BYTES - 1) / CNN_AMX_STEP_BYTES);
    for (int32_t steps = least; steps <= least + least / 4 + 1; steps++)
        if (run_bytes % ((size_t)steps * CNN_AMX_GROUP_BYTES) == 0)
            return steps;
    return 0;
}

typedef struct cnn_amx_product {
    const uint8_t *pixels[2];  /* the first pixel of each tile */
    size_t pixel_bytes;        /* from a pixel to the next, ... */
    size_t pixel_step_bytes;   /* ... from a step to the next, ... */
    size_t line_bytes;         /* ... from a run to the next */
    int32_t runs, steps;       /* steps of a run */
    const uint8_t *weights;    /* tiles; those of the second panel at panel_bytes */
    size_t weights_step_bytes; /* from a tile to the next, ... */
    size_t weights_line_bytes; /* ... from a run to the next */
    size_t panel_bytes;
    void *sums[2];     /* of each tile: [16][both panels] int32 or f32 */
    size_t sums_bytes; /* from a row of sums to the next */
    int32_t tiles, panels;
    bool add; /* to what sums hold */
} cnn_amx_product;

typedef void (*cnn_amx_multiply_fn)(const cnn_amx_product *product);

/* Tiles keep their shapes, for steps of step_bytes, between these two, in this thread. The system saves the tiles of a
 * thread whenever it switches it, until they are released. */
void cnn_amx_begin(size_t step_bytes);
void cnn_amx_end(void);

/* Between begin and end. */
void cnn_amx_multiply_i8(const cnn_amx_product *product);
void cnn_amx_multiply_bf16(const cnn_amx_product *product);

#endif
#endif
