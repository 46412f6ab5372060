/* Adaptive rounding of one output channel (Nagel et al., "Up or Down? Adaptive Rounding for Post-Training
 * Quantization", ICML 2020).
 *
 * Of the two numbers around a weight the nearest is not the best: errors of weights add up in the channel's value. With
 * low <= w / step < high, neighbours among the numbers that there are, and inputs x of sample images, minimize over V
 *     mean (f(step * sum (low + h(V) (high - low)) x + bias) - f(wanted))^2 / (that of nearest rounding)
 *         + c / count * sum (1 - |2 h(V) - 1|^beta)
 *     h(V) = clamp(1.2 / (1 + exp(-V)) - 0.1, 0, 1),  f: ReLU where one follows
 * by Adam, beginning where h is where w / step lies between them. The last term pulls h to 0 or 1: it is off at first,
 * then beta falls from 20 to 2. What is left between is rounded. */
#ifndef CNN_OPTIMIZE_ADAROUND_H
#define CNN_OPTIMIZE_ADAROUND_H

#include <stdbool.h>
#include <stdint.h>

enum { CNN_ADAROUND_BATCH = 32, CNN_ADAROUND_ARRAYS = 6 };

typedef struct cnn_adaround {
    const float *x;      /* [blocks][count][BATCH] */
    const float *wanted; /* [blocks*BATCH] the channel's value, before the ReLU */
    int32_t blocks;
    int64_t count;
    const float *w;      /* [count] */
    const uint8_t *mask; /* [count], 0: the weight stays 0; NULL: no weight is pruned. One that is 0 stays so anyway */
    float step, bias;
    const int8_t *number; /* [numbers] that weights can become, ascending */
    int numbers;
    bool relu;
    int8_t *q;      /* [count] in: the nearest whole numbers; out: those that were found, if their error is smaller */
    float *scratch; /* [ARRAYS][count] */
} cnn_adaround;

/* The same bits on every CPU. */
void cnn_adaround_channel(const cnn_adaround *channel);

#endif
