/* Statistics of planes: medians, spread, Otsu's threshold. */
#include "core/picture.h"

#include "core/wide.h"

#include <math.h>
#include <string.h>

enum {
    QUANTILE_BINS = 4096,
    OTSU_BINS = 256,
    LANES = 32, /* of values that are looked at side by side */
    EIGHT = 8,  /* values that are sorted into bins together */
    /* Counters for each bin, so that equal values in a row do not wait for each other: more where bins are few. */
    QUANTILE_COUNTERS = 2,
    OTSU_COUNTERS = 8
};

/* Values that are more than `above` and at most `most`. */
typedef struct range {
    float above, most;
} range;

static const range everything = {-INFINITY, INFINITY};

CNN_WIDE_BODY bool is_in(range in, float value)
{
    return value > in.above && value <= in.most;
}

/* The least and the greatest of the values in a range; INFINITY and -INFINITY when there are none. */
CNN_WIDE_BODY void range_in_body(const float *values, size_t count, range in, float *low, float *high)
{
    float least[LANES], most[LANES];
    size_t i = 0;
    for (size_t k = 0; k < LANES; k++) {
        least[k] = INFINITY;
        most[k] = -INFINITY;
    }
    for (; i + LANES <= count; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            const float value = values[i + k], to_low = is_in(in, value) ? value : INFINITY;
            const float to_high = is_in(in, value) ? value : -INFINITY;
            least[k] = to_low < least[k] ? to_low : least[k];
            most[k] = to_high > most[k] ? to_high : most[k];
        }
    for (; i < count; i++)
        if (is_in(in, values[i])) {
            least[0] = values[i] < least[0] ? values[i] : least[0];
            most[0] = values[i] > most[0] ? values[i] : most[0];
        }
    for (size_t k = 1; k < LANES; k++) {
        least[0] = least[k] < least[0] ? least[k] : least[0];
        most[0] = most[k] > most[0] ? most[k] : most[0];
    }
    *low = least[0];
    *high = most[0];
}

CNN_WIDE(static, extremes_in, range_in_body, (const float *values, size_t count, range in, float *low, float *high),
         (values, count, in, low, high))

void cnn_extremes(const float *values, size_t count, float *low, float *high)
{
    extremes_in(values, count, everything, low, high);
}

/* Bins are numbered from `low` on. */
CNN_WIDE_BODY int bin_of(float value, float low, float scale)
{
    return (int)((value - low) * scale);
}

typedef float eight_floats __attribute__((vector_size(EIGHT * sizeof(float))));
typedef int32_t eight_ints __attribute__((vector_size(EIGHT * sizeof(int32_t))));

/* The bins of EIGHT values, and which are in a range: -1, else 0. The values need not be aligned. */
typedef struct eight {
    eight_ints bin, inside;
} eight;

CNN_WIDE_BODY void take_eight(const float *values, range in, float low, float scale, eight *here)
{
    eight_floats value;
    memcpy(&value, values, sizeof value);
    here->inside = (value > in.above) & (value <= in.most);
    const eight_ints at =
        (eight_ints)((value - low) * scale) & here->inside; /* else 0: it may be too large for a bin */
    here->bin = __builtin_convertvector((eight_floats)at, eight_ints);
}

CNN_WIDE_BODY bool is_any(const eight_ints *flags)
{
    uint64_t pair[EIGHT / 2];
    memcpy(pair, flags, sizeof pair);
    return (pair[0] | pair[1] | pair[2] | pair[3]) != 0;
}

/* Counts the values in a range in `bins` bins; what lies above them all is counted in another one, behind the last.
 * counts: [counters][bins + 1], added to; the counters of a bin are summed in the first one. */
CNN_WIDE_BODY void count_body(const float *values, size_t count, range in, float low, float scale, int bins,
                              size_t counters, uint32_t *counts)
{
    const size_t stride = (size_t)bins + 1;
    size_t i = 0;
    for (; i + EIGHT <= count; i += EIGHT) {
        eight here;
        int32_t bin[EIGHT];
        take_eight(values + i, in, low, scale, &here);
        if (!is_any(&here.inside))
            continue;
        const eight_ints each = here.bin + (~here.inside & bins); /* what is not in the range: the last one */
        memcpy(bin, &each, sizeof bin);
        for (size_t k = 0; k < EIGHT; k++)
            counts[k % counters * stride + (size_t)bin[k]]++;
    }
    for (; i < count; i++)
        if (is_in(in, values[i]))
            counts[bin_of(values[i], low, scale)]++;
    for (size_t b = 0; b < stride; b++)
        for (size_t k = 1; k < counters; k++)
            counts[b] += counts[k * stride + b];
}

CNN_WIDE_BODY void count_quantile_body(const float *values, size_t count, range in, float low, float scale,
                                       uint32_t *counts)
{
    count_body(values, count, in, low, scale, QUANTILE_BINS, QUANTILE_COUNTERS, counts);
}

CNN_WIDE(static, count_for_quantile, count_quantile_body,
         (const float *values, size_t count, range in, float low, float scale, uint32_t *counts),
         (values, count, in, low, scale, counts))

CNN_WIDE_BODY void count_otsu_body(const float *values, size_t count, float low, float scale, uint32_t *counts)
{
    count_body(values, count, everything, low, scale, OTSU_BINS, OTSU_COUNTERS, counts);
}

CNN_WIDE(static, count_for_otsu, count_otsu_body,
         (const float *values, size_t count, float low, float scale, uint32_t *counts),
         (values, count, low, scale, counts))

/* *mean = the mean of the values in a range and a bin; it stays what it was when there are none. */
CNN_WIDE_BODY void mean_body(const float *values, size_t count, range in, float low, float scale, int bin, float *mean)
{
    double sum = 0;
    size_t inside = 0, i = 0;
    for (size_t end; i < count; i = end) {
        end = i + EIGHT < count ? i + EIGHT : count;
        if (end - i == EIGHT) {
            eight here;
            take_eight(values + i, in, low, scale, &here);
            const eight_ints found = (here.bin == bin) & here.inside;
            if (!is_any(&found))
                continue;
        }
        for (size_t k = i; k < end; k++) {
            const bool counts = is_in(in, values[k]) && bin_of(values[k], low, scale) == bin;
            sum += counts ? (double)values[k] : 0;
            inside += counts;
        }
    }
    *mean = inside ? (float)(sum / (double)inside) : *mean;
}

CNN_WIDE(static, mean_of_bin, mean_body,
         (const float *values, size_t count, range in, float low, float scale, int bin, float *mean),
         (values, count, in, low, scale, bin, mean))

/* The first of the bins at which the share of `count` values is reached. */
static int bin_at(const uint32_t *bins, size_t count, double share)
{
    size_t seen = 0;
    int at = 0;
    while (at < QUANTILE_BINS - 1 && (double)(seen + bins[at]) < share * (double)count)
        seen += bins[at++];
    return at;
}

/* The quantile of the values in a range, of which there are so many. */
static float quantile_in(const float *values, size_t count, range in, size_t inside, double share)
{
    uint32_t bins[QUANTILE_COUNTERS * (QUANTILE_BINS + 1)] = {0};
    float low, high;
    if (inside == 0)
        return 0;
    extremes_in(values, count, in, &low, &high);
    float scale = (QUANTILE_BINS - 1) / (high - low);
    if (high <= low || !isfinite(scale))
        return low;
    count_for_quantile(values, count, in, low, scale, bins);
    float mean = low;
    mean_of_bin(values, count, in, low, scale, bin_at(bins, inside, share),
                &mean); /* exact where the paper has one colour */
    return mean;
}

float cnn_quantile(const float *values, size_t count, double share)
{
    return quantile_in(values, count, everything, count, share);
}

float cnn_median(const float *values, size_t count)
{
    return cnn_quantile(values, count, 0.5);
}

bool cnn_medians_beside(const float *values, size_t count, float cut, float *below, float *above)
{
    size_t more = 0;
    for (size_t i = 0; i < count; i++)
        more += values[i] > cut;
    if (more == 0 || more == count)
        return false;
    *below = quantile_in(values, count, (range){-INFINITY, cut}, count - more, 0.5);
    *above = quantile_in(values, count, (range){cut, INFINITY}, more, 0.5);
    return true;
}

/* As quantile_in takes it: the mean of the bin that the middle lies in. */
float cnn_median_of_counts(const float *values, const uint32_t *times, int n)
{
    uint32_t bins[QUANTILE_BINS] = {0};
    float low = INFINITY, high = -INFINITY;
    size_t count = 0, inside = 0;
    for (int i = 0; i < n; i++)
        if (times[i]) {
            low = values[i] < low ? values[i] : low;
            high = values[i] > high ? values[i] : high;
            count += times[i];
        }
    const float scale = (QUANTILE_BINS - 1) / (high - low);
    if (high <= low || !isfinite(scale))
        return count ? low : 0;
    for (int i = 0; i < n; i++)
        if (times[i])
            bins[bin_of(values[i], low, scale)] += times[i];
    const int at = bin_at(bins, count, 0.5);
    double sum = 0;
    for (int i = 0; i < n; i++)
        if (times[i] && bin_of(values[i], low, scale) == at) {
            sum += (double)values[i] * times[i];
            inside += times[i];
        }
    return inside ? (float)(sum / (double)inside) : low;
}

static bool counts_in(const uint8_t *mask, size_t i, uint8_t want)
{
    return !mask || mask[i] == want;
}

float cnn_deviation(const float *values, size_t count, const uint8_t *mask, uint8_t want)
{
    double sum = 0, squares = 0, total = 0;
    for (size_t i = 0; i < count; i++)
        if (counts_in(mask, i, want)) {
            sum += (double)values[i];
            squares += (double)values[i] * (double)values[i];
            total++;
        }
    double variance = total > 0 ? squares / total - sum / total * (sum / total) : 0;
    return variance > 0 ? (float)sqrt(variance) : 0;
}

float cnn_otsu(const float *values, size_t count)
{
    float low, high;
    cnn_extremes(values, count, &low, &high);
    if (!(high > low))
        return high;
    uint32_t counts[OTSU_COUNTERS * (OTSU_BINS + 1)] = {0};
    double bins[OTSU_BINS], between[OTSU_BINS], total = 0, weight = 0, moment = 0, best = 0;
    float scale = OTSU_BINS / (high - low);
    count_for_otsu(values, count, low, scale, counts);
    for (int b = 0; b < OTSU_BINS; b++)
        bins[b] = (double)(counts[b] + (b == OTSU_BINS - 1 ? counts[OTSU_BINS] : 0)); /* the highest value's */
    for (int b = 0; b < OTSU_BINS; b++)
        total += bins[b] * b;
    for (int b = 0; b < OTSU_BINS; b++) {
        weight += bins[b];
        moment += bins[b] * b;
        double rest = (double)count - weight;
        double gap = weight > 0 && rest > 0 ? moment / weight - (total - moment) / rest : 0;
        between[b] = weight * rest * gap * gap;
        best = between[b] > best ? between[b] : best;
    }
    int sum = 0, cuts = 0;
    for (int b = 0; b < OTSU_BINS; b++)
        if (between[b] >= best * (1 - 1e-9)) {
            sum += b;
            cuts++;
        }
    double cut = (double)sum / cuts + 0.5; /* rounded, then the upper edge of that bin */
    return low + (float)((int)cut + 1) * (high - low) / OTSU_BINS;
}
