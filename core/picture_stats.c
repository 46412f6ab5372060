/* Statistics of planes: medians, spread, Otsu's threshold. */
#include "core/picture.h"

#include <math.h>

enum {
    QUANTILE_BINS = 4096,
    OTSU_BINS = 256,
    LANES = 8,    /* of values that are looked at side by side */
    COUNTERS = 4, /* for each bin of Otsu's, so that equal values in a row do not wait for each other */
};

/* The least and the greatest of count > 0 values. */
static void find_range(const float *values, size_t count, float *low, float *high)
{
    float least[LANES], most[LANES];
    size_t i = 0;
    for (size_t k = 0; k < LANES; k++)
        least[k] = most[k] = values[0];
    for (; i + LANES <= count; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            least[k] = values[i + k] < least[k] ? values[i + k] : least[k];
            most[k] = values[i + k] > most[k] ? values[i + k] : most[k];
        }
    for (; i < count; i++) {
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

float cnn_range(const float *values, size_t count)
{
    float low, high;
    find_range(values, count, &low, &high);
    return high - low;
}

static int bin_of(float value, float low, float scale)
{
    return (int)((value - low) * scale);
}

static bool any_in_bin(const float *values, size_t count, float low, float scale, int bin)
{
    int found = 0;
    for (size_t i = 0; i < count; i++)
        found |= bin_of(values[i], low, scale) == bin;
    return found;
}

/* The mean of the values in a bin, `otherwise` when there are none. */
static float mean_of_bin(const float *values, size_t count, float low, float scale, int bin, float otherwise)
{
    enum { STEP = 64 };
    double sum = 0;
    size_t inside = 0;
    for (size_t first = 0; first < count; first += STEP) {
        const size_t last = first + STEP < count ? first + STEP : count;
        if (!any_in_bin(values + first, last - first, low, scale, bin))
            continue;
        for (size_t i = first; i < last; i++)
            if (bin_of(values[i], low, scale) == bin) {
                sum += (double)values[i];
                inside++;
            }
    }
    return inside ? (float)(sum / (double)inside) : otherwise;
}

float cnn_quantile(const float *values, size_t count, double share)
{
    uint32_t bins[2][QUANTILE_BINS] = {{0}};
    float low, high;
    size_t seen = 0, i = 0;
    if (count == 0)
        return 0;
    find_range(values, count, &low, &high);
    float scale = (QUANTILE_BINS - 1) / (high - low);
    if (high <= low || !isfinite(scale))
        return low;
    for (; i + 2 <= count; i += 2) {
        bins[0][bin_of(values[i], low, scale)]++;
        bins[1][bin_of(values[i + 1], low, scale)]++;
    }
    if (i < count)
        bins[0][bin_of(values[i], low, scale)]++;
    int at = 0;
    while (at < QUANTILE_BINS - 1 && (double)(seen + bins[0][at] + bins[1][at]) < share * (double)count) {
        seen += bins[0][at] + bins[1][at];
        at++;
    }
    return mean_of_bin(values, count, low, scale, at, low); /* exact where the paper has one colour */
}

float cnn_median(const float *values, size_t count)
{
    return cnn_quantile(values, count, 0.5);
}

size_t cnn_partition(const float *values, size_t count, const uint8_t *mask, float *parts)
{
    size_t ones = 0, zeros = 0;
    for (size_t i = 0; i < count; i++)
        ones += mask[i];
    const size_t split = ones;
    ones = 0;
    for (size_t i = 0; i < count; i++) {
        parts[mask[i] ? ones : split + zeros] = values[i];
        ones += mask[i];
        zeros += !mask[i];
    }
    return split;
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
    find_range(values, count, &low, &high);
    if (!(high > low))
        return high;
    uint32_t counts[COUNTERS][OTSU_BINS] = {{0}};
    double bins[OTSU_BINS], between[OTSU_BINS], total = 0, weight = 0, moment = 0, best = 0;
    float scale = OTSU_BINS / (high - low);
    for (size_t i = 0; i < count; i++) {
        int bin = bin_of(values[i], low, scale);
        counts[i % COUNTERS][bin < OTSU_BINS ? bin : OTSU_BINS - 1]++;
    }
    for (int b = 0; b < OTSU_BINS; b++)
        bins[b] = (double)counts[0][b] + counts[1][b] + counts[2][b] + counts[3][b];
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
