/* Histograms of weights. */
#include "optimize/histogram.h"

#include <math.h>

static double value_of(const cnn_param *weight, int64_t row_values, int64_t i)
{
    if (weight->desc.dtype == CNN_I8)
        return ((const int8_t *)weight->data)[i] * (double)weight->scale[i / row_values];
    return (double)((const float *)weight->data)[i];
}

static int bin_of(double value, double limit)
{
    const int middle = CNN_HISTOGRAM_BINS / 2;
    double at = limit > 0 ? rint(value / limit * middle) : 0;
    return middle + (int)fmax(-middle, fmin(middle, at));
}

void cnn_histogram_make(const cnn_param *weight, double limit, cnn_histogram *histogram)
{
    const int64_t count = cnn_desc_elements(&weight->desc), row_values = count / weight->desc.n;
    double squares = 0;
    *histogram = (cnn_histogram){.limit = limit};
    for (int64_t i = 0; i < count; i++) {
        double value = value_of(weight, row_values, i);
        if (value == 0) {
            histogram->zeros++;
            continue;
        }
        histogram->bin[bin_of(value, limit)]++;
        histogram->largest = fmax(histogram->largest, fabs(value));
        squares += value * value;
    }
    if (histogram->zeros < count)
        histogram->deviation = sqrt(squares / (double)(count - histogram->zeros));
}
