/* Convolutions as matrix products without an im2col copy of the batch.
 *
 * Forward and data gradient both compute out[pixel][column] = sum over depth of in[...] * weight[depth][column], where
 * depth runs over (filter row, filter column, input channel). A gather says, for blocks of output pixels, which pieces
 * ("runs") of input rows stand in which order, so that a block's A matrix is packed tile by tile from NHWC memory:
 *
 *   group   output pixels (all images) x (rows y, y+y_step, ...) x (columns x, x+x_step, ...) that use the same taps
 *   depth   a piece of the depth axis, at most CNN_GEMM_DEPTH long, contiguous in the packed weights
 *   run     a piece of one input row: `length` elements from `start`, for row and column 0 of the group
 *
 * Pixels at the border form groups of their own when the batch is large: taps that fall outside cost nothing there.
 * Elsewhere what lies outside the image is packed as 0. The data gradient is the same over dy with the filter turned
 * around; at stride > 1 each residue class of output rows and columns has its own taps. */
#ifndef CNN_CPU_GATHER_H
#define CNN_CPU_GATHER_H

#include "kernels/cpu/loops.h"
#include "kernels/cpu/shape.h"

#include <string.h>

enum { CNN_GATHER_SHORT = 8 }; /* channels below which runs are short */

typedef struct cnn_run {
    int32_t row, start, length;
} cnn_run;

typedef struct cnn_depth {
    int64_t first; /* in the packed weights */
    int32_t length;
    int32_t run_first, run_count;
} cnn_depth;

typedef struct cnn_group {
    int32_t y, y_step, rows;
    int32_t x, x_step, columns;
    int32_t depth_first, depth_count; /* none: these pixels are 0 */
} cnn_group;

/* Consecutive pixels of a group: image-major, then rows, then columns. */
typedef struct cnn_pixel_block {
    int32_t group;
    int32_t count;
    int64_t first;
} cnn_pixel_block;

typedef struct cnn_gather {
    int32_t images, in_h, in_w, in_c, out_h, out_w;
    int32_t in_step; /* input rows (columns) from one row (column) of a group to the next */
    int group_count, depth_count, run_count, block_count;
    cnn_group *groups;
    cnn_depth *depths;
    cnn_run *runs;
    cnn_pixel_block *blocks;
} cnn_gather;

/* Where an output pixel lies, and where its taps start. */
typedef struct cnn_gather_pixel {
    int64_t out;   /* (n*out_h + y)*out_w + x */
    int64_t image; /* element offset of its input image */
    int32_t row;   /* added to a run's row */
    int32_t start; /* added to a run's start */
} cnn_gather_pixel;

/* Plans the forward pass or, with `dgrad`, the data gradient; blocks hold at most block_rows pixels, in all groups of
 * about the same size. Depth order in the packed weights is (r, s, channel of the input side), with r and s counted
 * from the far end for dgrad. */
cnn_status cnn_gather_plan(cnn_gather *gather, const cnn_host *host, const cnn_conv_shape *shape, bool dgrad,
                           int block_rows);
void cnn_gather_free(cnn_gather *gather, const cnn_host *host);

/* The pixels of a block. */
void cnn_gather_pixels(const cnn_gather *gather, const cnn_pixel_block *block, cnn_gather_pixel *pixels);

/* Packs rows [count] of A for one depth: dst[i*CNN_GEMM_PITCH + k], k < depth->length. src: [N,in_h,in_w,in_c]. */
void cnn_gather_pack(const cnn_gather *gather, const cnn_cpu_loops *loops, cnn_dtype dtype, const void *src,
                     const cnn_gather_pixel *pixels, int count, const cnn_depth *depth, float *dst);

/* With few channels, runs are a few elements long, too short to convert one by one: a half-precision image is then
 * widened to f32 as a whole before it is gathered. */
static inline bool cnn_gather_widens(cnn_dtype dtype, int32_t channels)
{
    return dtype != CNN_F32 && channels < CNN_GATHER_SHORT;
}

/* dst[i] = src[i] as f32, in parallel. */
void cnn_gather_widen(const cnn_host *host, const cnn_cpu_loops *loops, cnn_dtype dtype, const void *src, float *dst,
                      int64_t count);

/* memcpy for runs, which are often so short that a call would take longer than the copy. */
static inline void cnn_gather_copy(float *dst, const float *src, size_t count)
{
    if (count > 16) {
        memcpy(dst, src, count * sizeof *dst);
    } else if (count >= 8) { /* two pieces that overlap */
        memcpy(dst, src, 8 * sizeof *dst);
        memcpy(dst + count - 8, src + count - 8, 8 * sizeof *dst);
    } else if (count >= 4) {
        memcpy(dst, src, 4 * sizeof *dst);
        memcpy(dst + count - 4, src + count - 4, 4 * sizeof *dst);
    } else {
        for (size_t i = 0; i < count; i++)
            dst[i] = src[i];
    }
}

/* Copies elements [start, start+length) of an input row of row_length elements to dst as f32; what lies outside, or all
 * of it when the row itself does (row = NULL), is 0. */
static inline void cnn_gather_run(const cnn_cpu_loops *loops, cnn_dtype dtype, const void *row, int64_t row_length,
                                  int64_t start, int64_t length, float *dst)
{
    int64_t low = start < 0 ? -start : 0;
    int64_t high = row_length - start < length ? row_length - start : length;
    if (!row || high <= low) {
        low = high = length;
    }
    for (int64_t i = 0; i < low; i++)
        dst[i] = 0.0f;
    if (high > low) {
        const char *from = (const char *)row + (size_t)(start + low) * cnn_dtype_bytes(dtype);
        if (dtype == CNN_F32)
            cnn_gather_copy(dst + low, (const float *)(const void *)from, (size_t)(high - low));
        else
            loops->to_f32(dtype, from, dst + low, high - low);
    }
    for (int64_t i = high; i < length; i++)
        dst[i] = 0.0f;
}

#endif
