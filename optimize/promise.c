/* Bounds for accuracy that is lost. */
#include "optimize/promise.h"

#include <math.h>

static const double normal_90 = 1.2815515655446004; /* the normal distribution's 90th percentile */

double cnn_paired_drop(const cnn_paired *paired)
{
    return paired->images > 0 ? (double)(paired->broken - paired->mended) / paired->images : 0;
}

double cnn_paired_bound(const cnn_paired *paired)
{
    if (paired->images <= 0)
        return 1;
    const double images = paired->images + 2.0, broken = paired->broken + 0.5, mended = paired->mended + 0.5;
    const double drop = (broken - mended) / images;
    const double variance = (broken + mended) / images - drop * drop;
    const double bound = drop + normal_90 * sqrt(variance / images);
    return bound < 1 ? bound : 1;
}
