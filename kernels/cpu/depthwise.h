/* Depthwise convolutions: which inputs reach an output, for all dtypes and directions (depthwise.c), and what the loops
 * get (loops_depthwise.h). */
#ifndef CNN_CPU_DEPTHWISE_H
#define CNN_CPU_DEPTHWISE_H

#include "kernels/cpu/shape.h"

/* Some outputs of a line that all have the same taps, of `channels` channels each; j counts outputs, t taps:
 *
 *   y[j*y_step + c] = sum over t of x[j*x_step + tap[t] + c] * w[weight[t] + c]
 *
 * Steps and places are counted in elements. */
typedef struct cnn_depthwise_taps {
    const ptrdiff_t *tap, *weight; /* [taps] */
    int taps;
    int pixels, channels;
    ptrdiff_t x_step, y_step;
} cnn_depthwise_taps;

enum { CNN_DEPTHWISE_MOST_TAPS = 256 };

/* A depthwise convolution or its data gradient, which reads dy and writes dx. */
typedef struct cnn_depthwise {
    int32_t r, s, stride, pad, channels;
    int32_t in_h, in_w, out_h, out_w; /* of what is read and written */
    int32_t pitch;                    /* of a pixel that is read */
    bool dgrad;
} cnn_depthwise;

/* Of a GROUP_CONV* descriptor. */
cnn_depthwise cnn_depthwise_of(const cnn_op_desc *desc);

/* Whether it is one: each group has one input and one output, and there are not too many taps. */
bool cnn_depthwise_suits(const cnn_op_desc *desc, char *why);

/* The rows that outputs [first, last) of height read: returns their count, 0 when none, the first one in *row. */
int32_t cnn_depthwise_rows(const cnn_depthwise *d, int32_t first, int32_t last, int32_t *row);

/* As many as the rows of `lines` outputs at most. */
int32_t cnn_depthwise_most_rows(const cnn_depthwise *d, int32_t lines);

/* Calls run() for each piece of output line `line`; taps count from the start of input row `base`, weights are
 * [R*S][channels]. column: the first output of the piece. */
typedef void cnn_depthwise_run(void *context, const cnn_depthwise_taps *taps, int32_t column);
void cnn_depthwise_line(const cnn_depthwise *d, int32_t line, int32_t base, cnn_depthwise_run *run, void *context);

/* GROUP_CONV in INT8 where it is depthwise: depthwise_i8.c. */
bool cnn_cpu_depthwise_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_depthwise_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

/* How many lines a task takes: some ten thousand values, or all. */
int32_t cnn_depthwise_task_lines(const cnn_depthwise *d);

#endif
