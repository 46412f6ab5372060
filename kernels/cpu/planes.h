/* Images dealt into planes, for convolutions of stride 1 that read single channels of a line. */
#ifndef CNN_CPU_PLANES_H
#define CNN_CPU_PLANES_H

#include "kernels/cpu/loops.h"

enum { CNN_PLANES_SLACK = 8 };

/* Lines of an image [H,W,C] as f32 in planes [line][channel][column], with zeros left and right. */
typedef struct cnn_planes {
    const cnn_cpu_loops *loops;
    cnn_dtype dtype;
    int32_t h, w, c;
    int32_t pad;     /* columns of zeros left of a line */
    ptrdiff_t pitch; /* floats from line to line, the zeros included: pad + w or more */
} cnn_planes;

/* Fills lines [first, first + lines) of image n of src. Zeros must stand: they are not written. line: room for w*c
 * + CNN_PLANES_SLACK floats. */
void cnn_planes_fill(const cnn_planes *planes, const void *src, int64_t n, int32_t first, int32_t lines, float *dst,
                     float *line);

/* Where term (r,s,c) of an output's sum lies, from the first line on; in the order of r, s, c. */
void cnn_planes_offsets(const cnn_planes *planes, int32_t r, int32_t s, int32_t *offset);

#endif
