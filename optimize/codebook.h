/* Codebooks: a layer's weights share few whole numbers, each times the step of its output channel. */
#ifndef CNN_OPTIMIZE_CODEBOOK_H
#define CNN_OPTIMIZE_CODEBOOK_H

#include "core/model.h"

enum { CNN_CODEBOOK_MOST_BITS = 4, CNN_CODEBOOK_MOST = 1 << CNN_CODEBOOK_MOST_BITS };

typedef struct cnn_codebook {
    int count;
    int8_t value[CNN_CODEBOOK_MOST]; /* ascending, in [-127,127] */
} cnn_codebook;

/* The 2^bits whole numbers (or fewer), and the steps [K] of the output channels, with which the nearest ones to f32
 * weights [K,R,S,C] have a small squared error (optimize/codebook.c). With pruned weights 0 is one of the numbers.
 * Channels of zeros get step 1. */
cnn_status cnn_codebook_fit(const cnn_param *weight, int bits, cnn_codebook *book, float *step);

/* The number of the book nearest to w/step. */
int cnn_codebook_nearest(const cnn_codebook *book, float w, float step);

#endif
