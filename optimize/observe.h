/* A range observer: what calibration remembers of one tensor, in fixed memory. */
#ifndef CNN_OPTIMIZE_OBSERVE_H
#define CNN_OPTIMIZE_OBSERVE_H

#include "cnn/optimize.h"

enum { CNN_RANGE_BINS = 4096 };

/* A histogram of |x|. Bin k counts values in (k*width, (k+1)*width], width = 2^exponent, the smallest power of two
 * with which the largest value so far still fits: 2049 to 4096 bins span the range. Bins merge in pairs when it grows,
 * so counts stay exact and the result does not depend on the order of the values. Zero-initialize. */
typedef struct cnn_range {
    int64_t count, zeros, not_finite;
    float max; /* of |x|, exact */
    int exponent;
    int64_t bin[CNN_RANGE_BINS];
} cnn_range;

void cnn_range_add(cnn_range *range, const float *values, int64_t count);

/* The smallest bin edge (or the maximum, if that is less) with at least `percentile` per cent of the values other than
 * 0 at or below it: within max/2048 of the exact percentile. Zeros do not count, or a sparse ReLU would clip most of
 * what it lets through. */
float cnn_range_percentile(const cnn_range *range, double percentile);

/* Share of values above `limit`, a bin edge or the maximum. */
double cnn_range_clipped(const cnn_range *range, float limit);

/* The range that an observer picks, a bin edge or the maximum; 0 when all values are 0. `percentile` is of the observer
 * of that name. CNN_OBSERVER_AUTO picks none by itself: CNN_ERR_USAGE. */
cnn_status cnn_observer_range(const cnn_range *range, cnn_observer observer, double percentile, float *limit);

/* "max", "percentile", "entropy", "mse", "auto"; NULL for an unknown one. */
const char *cnn_observer_name(cnn_observer observer);

#endif
