/* Range observers over a streaming histogram of absolute values. */
#include "optimize/observe.h"

#include "core/error.h"

#include <math.h>
#include <string.h>

enum { LOG2_BINS = 11 };
_Static_assert(CNN_RANGE_BINS == 1 << LOG2_BINS, "the number of bins is a power of two");

/* ---- The histogram ---- */

/* Smallest e with max <= CNN_RANGE_BINS * 2^e. */
static int exponent_for(float max)
{
    int exponent;
    float mantissa = frexpf(max, &exponent); /* max = mantissa * 2^exponent, mantissa in [0.5,1) */
    if (mantissa == 0.5f)
        exponent--;
    return exponent - LOG2_BINS;
}

static void grow(cnn_range *range, int exponent)
{
    int shift = exponent - range->exponent;
    if (shift > LOG2_BINS)
        shift = LOG2_BINS;
    for (int k = 0; k < CNN_RANGE_BINS; k++) {
        int64_t count = range->bin[k];
        range->bin[k] = 0;
        range->bin[k >> shift] += count;
    }
    range->exponent = exponent;
}

/* Largest finite |x| of a block. */
static float block_max(const float *values, int64_t count)
{
    float max = 0;
    for (int64_t i = 0; i < count; i++) {
        float magnitude = fabsf(values[i]);
        if (magnitude > max && magnitude < INFINITY)
            max = magnitude;
    }
    return max;
}

void cnn_range_add(cnn_range *range, const float *values, int64_t count)
{
    float max = block_max(values, count);
    if (max > range->max) {
        if (range->max == 0)
            range->exponent = exponent_for(max);
        else if (exponent_for(max) > range->exponent)
            grow(range, exponent_for(max));
        range->max = max;
    }
    double per_width = ldexp(1, -range->exponent);
    for (int64_t i = 0; i < count; i++) {
        float magnitude = fabsf(values[i]);
        if (magnitude == 0) {
            range->zeros++;
        } else if (magnitude < INFINITY) {
            double position = magnitude * per_width; /* exact: a power of two */
            int k = (int)position;
            range->bin[k - (position == k)]++;
        } else {
            range->not_finite++;
        }
    }
    range->count += count;
}

static float edge_of(const cnn_range *range, int bin)
{
    double edge = ldexp(bin + 1, range->exponent);
    return edge < (double)range->max ? (float)edge : range->max;
}

float cnn_range_percentile(const cnn_range *range, double percentile)
{
    double wanted = percentile / 100 * (double)(range->count - range->zeros - range->not_finite);
    int64_t seen = 0;
    for (int k = 0; k < CNN_RANGE_BINS; k++) {
        seen += range->bin[k];
        if (range->bin[k] > 0 && (double)seen >= wanted)
            return edge_of(range, k);
    }
    return range->max;
}

double cnn_range_clipped(const cnn_range *range, float limit)
{
    int64_t above = 0;
    for (int k = CNN_RANGE_BINS - 1; k >= 0 && ldexp(k, range->exponent) >= (double)limit; k--)
        above += range->bin[k];
    return range->count ? (double)above / (double)range->count : 0;
}

/* ---- Observers ---- */

static float pick_max(const cnn_range *range, const cnn_quantize_options *options)
{
    (void)options;
    return range->max;
}

static float pick_percentile(const cnn_range *range, const cnn_quantize_options *options)
{
    return cnn_range_percentile(range, options->percentile);
}

static const struct {
    cnn_observer observer;
    const char *name;
    float (*pick)(const cnn_range *range, const cnn_quantize_options *options);
} observers[] = {
    {CNN_OBSERVER_MAX, "max", pick_max},
    {CNN_OBSERVER_PERCENTILE, "percentile", pick_percentile},
};

enum { OBSERVER_COUNT = sizeof observers / sizeof observers[0] };

cnn_status cnn_observer_range(const cnn_range *range, const cnn_quantize_options *options, float *limit)
{
    for (int i = 0; i < OBSERVER_COUNT; i++)
        if (observers[i].observer == options->observer) {
            *limit = observers[i].pick(range, options);
            return CNN_OK;
        }
    return cnn_error(CNN_ERR_USAGE, "unknown observer %d", (int)options->observer);
}

const char *cnn_observer_name(cnn_observer observer)
{
    for (int i = 0; i < OBSERVER_COUNT; i++)
        if (observers[i].observer == observer)
            return observers[i].name;
    return NULL;
}

bool cnn_observer_find(const char *name, cnn_observer *observer)
{
    for (int i = 0; i < OBSERVER_COUNT; i++)
        if (strcmp(observers[i].name, name) == 0) {
            *observer = observers[i].observer;
            return true;
        }
    return false;
}
