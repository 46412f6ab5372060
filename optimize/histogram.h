/* How the weights of a layer are distributed. */
#ifndef CNN_OPTIMIZE_HISTOGRAM_H
#define CNN_OPTIMIZE_HISTOGRAM_H

#include "core/model.h"

enum { CNN_HISTOGRAM_BINS = 41 }; /* odd: the middle one is around 0 */

/* Bin b counts the weights nearest to limit * (2b / (BINS-1) - 1), those beyond the limit in the last ones. Weights
 * that are exactly 0 are counted apart, or those that pruning made would hide the others. */
typedef struct cnn_histogram {
    double limit;
    int64_t bin[CNN_HISTOGRAM_BINS];
    int64_t zeros;
    double largest;   /* of |w| */
    double deviation; /* sqrt(mean w^2) of those other than 0; 0 when all are */
} cnn_histogram;

/* Counts weights, f32 or i8 with their scales. limit: as given. */
void cnn_histogram_make(const cnn_param *weight, double limit, cnn_histogram *histogram);

#endif
