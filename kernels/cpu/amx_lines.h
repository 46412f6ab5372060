/* Convolutions with AMX by lines of the filter: what those of INT8 and of bf16 share.
 *
 * Images are copied with zeros around them, [H + 2 pad][W + 2 pad][C]. What a line of the filter sees of them for an
 * output pixel is then one run of S*C values, and the next pixel's run begins stride*C values on: tiles of 16 pixels
 * are read as they lie there, without im2col. A run is cut into steps of the same length; where that does not come out
 * even, the last one reaches beyond the run, where weights are zeros: only integers may be multiplied so, since zero
 * times infinity is not zero.
 *
 * Output rows are made in bands. Either each row of a band is cut into tiles of 16 pixels; or, where rows would leave
 * too much of their tiles empty, the image is "flat": a band holds all of it, and tiles run through the ends of lines,
 * whose sums beyond the row nobody reads. A 1x1 convolution sees the image as a single line.
 *
 * Work is cut into items: some images by a range of pairs of panels, 32 outputs each. */
#ifndef CNN_CPU_AMX_LINES_H
#define CNN_CPU_AMX_LINES_H

#include "kernels/cpu/amx_product.h"

#if defined(CNN_CPU_AMX_BUILT)

#include "kernels/cpu/cpu.h"

typedef struct cnn_amx_shape {
    int32_t n, h, w, c; /* images; c values of a pixel in memory */
    int32_t k, r, s, stride, pad;
    int32_t out_h, out_w;         /* before pooling */
    int32_t pool, pool_stride;    /* 1, 1 without */
    int32_t windows_h, windows_w; /* what is left: out_h and out_w without */
    int32_t value_bytes;
} cnn_amx_shape;

typedef struct cnn_amx_lines {
    cnn_amx_shape shape;
    bool flat;
    int32_t steps; /* of a run */
    size_t step_bytes;
    int32_t pitch;          /* pixels of sums from an output row to the next */
    int32_t windows, bands; /* rows of windows of a band */
    int32_t panels, pairs;
    int32_t images, groups;                      /* images of an item; so many groups of them */
    int32_t range, ranges;                       /* pairs of an item */
    int32_t lanes;                               /* threads that share the work */
    size_t pixel_bytes, line_bytes, image_bytes; /* of the copy */
    size_t panel_bytes, packed_bytes;            /* weights: [panels][R][steps] tiles of [step_bytes/4][16][4] */
    size_t lines_bytes, sums_bytes;              /* of a lane */
    cnn_amx_multiply_fn multiply;
} cnn_amx_lines;

/* False when a convolution does not go so: then `why` says it. */
bool cnn_amx_lines_suit(const cnn_amx_shape *shape, char *why);

/* Fills in all that follows from `shape`. */
void cnn_amx_lines_plan(cnn_amx_lines *lines, const cnn_amx_shape *shape, cnn_amx_multiply_fn multiply,
                        const cnn_host *host);

/* Packs a panel of weights [K][R][S*C]. packed: all panels. */
void cnn_amx_lines_pack(const cnn_amx_lines *lines, const void *weights, int32_t panel, void *packed);

/* What a lane does with the sums of a band, for one pair of panels. Row i of windows of the band begins at
 * sums + i * pool_stride * pitch pixels of CNN_AMX_SUMS each. */
typedef struct cnn_amx_band {
    int32_t image, panel, panels;
    int32_t first, windows; /* rows of windows */
    void *sums;             /* int32 or f32 */
    void *spare;            /* spare_bytes of the lane */
} cnn_amx_band;

typedef void (*cnn_amx_finish_fn)(void *context, const cnn_amx_band *band);

/* A whole convolution. src: [n,h,w,c]. memory: lanes * (lines_bytes + sums_bytes + spare_bytes), aligned. */
typedef struct cnn_amx_job {
    const cnn_amx_lines *lines;
    const void *src, *packed;
    void *memory;
    size_t spare_bytes;
    cnn_amx_finish_fn finish;
    void *context;
} cnn_amx_job;

void cnn_amx_lines_run(const cnn_amx_job *job, const cnn_host *host);

#endif
#endif
