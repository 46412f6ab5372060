/* INT8 convolutions of images of few channels, as first layers are: what an instruction set implements, and what the
 * driver in conv_i8_few.c gives it.
 *
 * A line of the filter, S * C bytes, is one to three groups of 4. Where one byte is left over, as 5 and 9 leave it,
 * those of four lines make a group: 25 bytes are 7 groups, not 10. Lanes are 16 neighbouring output pixels: a load and
 * two shuffles make a group of all of them, which is then multiplied with the same group of each output's weights. So
 * there is no im2col, sums stay in registers, and pooling windows are reduced there. */
#ifndef CNN_CPU_FEW_I8_H
#define CNN_CPU_FEW_I8_H

#include "kernels/cpu/cpu.h"

enum {
    CNN_I8_FEW_LANES = 16,
    CNN_I8_FEW_GROUP = 4,
    CNN_I8_FEW_GROUPS = 3,                                        /* most of a line */
    CNN_I8_FEW_STEP = 4,                                          /* most channels */
    CNN_I8_FEW_BEYOND = 64 + CNN_I8_FEW_GROUP * CNN_I8_FEW_GROUPS /* bytes that may be read from a pixel's first on */
};

/* A line of outputs. */
typedef struct cnn_i8_few {
    const uint8_t *x; /* what the filter's first line sees of the first pixel: x + 128, with the padding */
    size_t line_bytes;
    int32_t rows, groups; /* of the filter: 3 or 5 lines; of one of its lines */
    int32_t downs;        /* groups of bytes left over: 0, of 3 lines 1, of 5 lines 2; see below */
    int32_t pool;         /* 1, or 2: windows of 2x2 become one output */
    int32_t step;         /* bytes from a pixel to the next: channels */
    int32_t pixels;       /* of the line, before pooling; a multiple of pool */
    int32_t outputs;
    /* [outputs][rows * groups + downs][4]. Group d of downs ends at line rows - downs + d; those behind the first have
     * but that line's byte. */
    const int8_t *weights;
    const int32_t *start; /* [outputs] bias - 128 * sum of the weights */
    const float *mult;    /* [outputs] */
    float lo, hi;
    int8_t *dst; /* [pixels / pool][dst_stride] */
    size_t dst_stride;
} cnn_i8_few;

#if defined(__x86_64__)
void cnn_cpu_few_i8_avx512vnni(const cnn_i8_few *line);
#endif

#endif
