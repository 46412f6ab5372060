/* Range observers over a streaming histogram of absolute values.
 *
 * INT8 is symmetric: [-127,127], behind a ReLU [0,127]. Either way a magnitude has 128 levels, 0 to 127, so all
 * observers see |x|.
 *
 *   max         the largest value: nothing is clipped
 *   percentile  a stated share of the values other than 0
 *   entropy     the range whose 128 levels tell most of the distribution: least Kullback-Leibler divergence
 *               (S. Migacz, "8-bit inference with TensorRT", GTC 2017)
 *   mse         the range with the smallest squared error of rounding and clipping together */
#include "optimize/observe.h"

#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOG2_BINS = 12 };
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

/* ---- Entropy ----
 *
 * Migacz's definition. A candidate keeps the first i bins, i from 128. P is their counts, with all that lies beyond
 * added to the last one. Q is what 128 levels can tell of the counts without that addition: the bins are cut into 128
 * groups, bin j in group floor(j*128/i), and each group's sum is spread evenly over those of its bins that are not
 * empty. Both are normalized; the candidate with the least KL(P||Q) = sum P log(P/Q) wins, the larger of equal ones.
 * One whose last bin is empty while something lies beyond has an infinite divergence. Zeros are left out, every range
 * holds them.
 *
 * With T = sum P, S = sum Q, g a group of sum C_g and n_g bins that are not empty, o = T - S what lies beyond:
 *     KL = (sum_j P_j log P_j - sum_g C_g log(C_g/n_g) - o log Q_last) / T - log T + log S
 * so prefix sums make a candidate cost one logarithm a level. */

enum { LEVELS = 128 };

/* ln x for x > 0, from operations that every machine rounds alike: 2 atanh((m-1)/(m+1)), m in [sqrt(1/2), sqrt(2)). */
static double natural_log(double x)
{
    int exponent;
    double m = frexp(x, &exponent); /* in [1/2, 1) */
    if (m < 0.70710678118654752) {
        m *= 2;
        exponent--;
    }
    double t = (m - 1) / (m + 1), square = t * t, sum = 0;
    for (int k = 23; k > 0; k -= 2)
        sum = sum * square + 1.0 / k;
    return 2 * t * sum + exponent * 0.69314718055994531;
}

static double count_log_count(int64_t count)
{
    return count > 0 ? (double)count * natural_log((double)count) : 0;
}

/* Of bins 0..i-1: values, bins that are not empty, sum of count*log(count). */
typedef struct prefix_sums {
    int64_t values[CNN_RANGE_BINS + 1];
    int32_t filled[CNN_RANGE_BINS + 1];
    double entropy[CNN_RANGE_BINS + 1];
} prefix_sums;

static void add_up(const cnn_range *range, prefix_sums *upto)
{
    for (int j = 0; j < CNN_RANGE_BINS; j++) {
        upto->values[j + 1] = upto->values[j] + range->bin[j];
        upto->filled[j + 1] = upto->filled[j] + (range->bin[j] > 0);
        upto->entropy[j + 1] = upto->entropy[j] + count_log_count(range->bin[j]);
    }
}

/* Bins that span the range. */
static int used_bins(const cnn_range *range)
{
    return (int)ceil(ldexp((double)range->max, -range->exponent));
}

/* KL(P||Q) of the first `bins` bins. */
static double divergence(const cnn_range *range, const prefix_sums *upto, int bins)
{
    int64_t total = upto->values[CNN_RANGE_BINS], kept = upto->values[bins], beyond = total - kept;
    int64_t last = range->bin[bins - 1];
    if (beyond > 0 && last == 0)
        return INFINITY;
    double sum = upto->entropy[bins] - count_log_count(last) + count_log_count(last + beyond);
    for (int level = 0; level < LEVELS; level++) {
        int begin = (level * bins + LEVELS - 1) / LEVELS, end = ((level + 1) * bins + LEVELS - 1) / LEVELS;
        int64_t values = upto->values[end] - upto->values[begin];
        if (values == 0)
            continue;
        double each = natural_log((double)values / (upto->filled[end] - upto->filled[begin]));
        sum -= ((double)values + (level == LEVELS - 1 ? (double)beyond : 0)) * each;
    }
    return sum / (double)total - natural_log((double)total) + natural_log((double)kept);
}

static cnn_status pick_entropy(const cnn_range *range, double percentile, float *limit)
{
    (void)percentile;
    double least = INFINITY;
    prefix_sums *upto = cnn_calloc(1, sizeof *upto);
    if (!upto)
        return CNN_ERR_MEMORY;
    add_up(range, upto);
    *limit = range->max;
    for (int bins = used_bins(range); bins >= LEVELS; bins--) {
        double kl = divergence(range, upto, bins);
        if (kl < least) {
            least = kl;
            *limit = edge_of(range, bins - 1);
        }
    }
    free(upto);
    return CNN_OK;
}

/* ---- Squared error ----
 *
 * The values of a bin count as spread evenly over it. Then the error of a range with step s = limit/127 is a sum over
 * bins of count * (F(end) - F(begin)) / (end - begin), F being the antiderivative of (x - s*q(x))^2 with q(x) =
 * min(round(x/s), 127): F(x) = q*s^3/12 + (x - s*q)^3/3. Candidates are every eighth bin edge and the maximum. All in
 * units of a bin. */

enum { CANDIDATE_STEP = 8 };

static double error_below(double x, double step)
{
    int q = (int)(x / step + 0.5);
    if (q > 127)
        q = 127;
    double rest = x - step * q;
    return q * step * step * step / 12 + rest * rest * rest / 3;
}

static double squared_error(const cnn_range *range, int used, double limit)
{
    double max = ldexp((double)range->max, -range->exponent), step = limit / 127, sum = 0, below = 0;
    for (int j = 0; j < used; j++) {
        double end = j + 1 < used ? j + 1 : max, upto = error_below(end, step);
        sum += (double)range->bin[j] * (upto - below) / (end - j);
        below = upto;
    }
    return sum;
}

static cnn_status pick_mse(const cnn_range *range, double percentile, float *limit)
{
    (void)percentile;
    int used = used_bins(range);
    double least = squared_error(range, used, ldexp((double)range->max, -range->exponent));
    *limit = range->max;
    for (int bins = (used - 1) / CANDIDATE_STEP * CANDIDATE_STEP; bins > 0; bins -= CANDIDATE_STEP) {
        double error = squared_error(range, used, bins);
        if (error < least) {
            least = error;
            *limit = edge_of(range, bins - 1);
        }
    }
    return CNN_OK;
}

/* ---- Observers ---- */

static cnn_status pick_max(const cnn_range *range, double percentile, float *limit)
{
    (void)percentile;
    *limit = range->max;
    return CNN_OK;
}

static cnn_status pick_percentile(const cnn_range *range, double percentile, float *limit)
{
    *limit = cnn_range_percentile(range, percentile);
    return CNN_OK;
}

/* In the order of cnn_observer. */
static const struct {
    const char *name;
    cnn_status (*pick)(const cnn_range *range, double percentile, float *limit);
} observers[] = {
    [CNN_OBSERVER_MAX] = {"max", pick_max},
    [CNN_OBSERVER_PERCENTILE] = {"percentile", pick_percentile},
    [CNN_OBSERVER_ENTROPY] = {"entropy", pick_entropy},
    [CNN_OBSERVER_MSE] = {"mse", pick_mse},
    [CNN_OBSERVER_AUTO] = {"auto", NULL},
};

enum { OBSERVER_COUNT = sizeof observers / sizeof observers[0] };

cnn_status cnn_observer_range(const cnn_range *range, cnn_observer observer, double percentile, float *limit)
{
    *limit = 0;
    if ((int)observer < 0 || (int)observer >= OBSERVER_COUNT || !observers[observer].pick)
        return cnn_error(CNN_ERR_USAGE, "observer %d picks no range", (int)observer);
    return range->max > 0 ? observers[observer].pick(range, percentile, limit) : CNN_OK;
}

const char *cnn_observer_name(cnn_observer observer)
{
    return (int)observer >= 0 && (int)observer < OBSERVER_COUNT ? observers[observer].name : NULL;
}
