/* How much accuracy a changed model loses for certain: both models' answers to the same images. */
#ifndef CNN_OPTIMIZE_PROMISE_H
#define CNN_OPTIMIZE_PROMISE_H

#include <stdint.h>

typedef struct cnn_paired {
    int32_t images;
    int32_t broken; /* right before, wrong now */
    int32_t mended; /* wrong before, right now */
} cnn_paired;

/* Accuracy lost on these images, a fraction of 1; negative when it gained. */
double cnn_paired_drop(const cnn_paired *paired);

/* What the loss on all such images stays below in 90 of 100 cases: the one-sided upper bound of the difference of
 * matched proportions, with half an image added to each cell of the table (Agresti and Min, "Simple improved confidence
 * intervals for comparing matched proportions", Statistics in Medicine 24, 2005). With 0 images it is 1. */
double cnn_paired_bound(const cnn_paired *paired);

#endif
