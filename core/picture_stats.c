/* Statistics of planes: medians, spread, Otsu's threshold. */
#include "core/picture.h"

#include "core/wide.h"

#include <math.h>
#include <string.h>

enum {
    QUANTILE_BINS = 4096,
    OTSU_BINS = 256,
    LANES = 32,   /* of values that are looked at side by side */
    BLOCK = 16,   /* values that are counted together */
    EIGHT = 8,    /* mask bytes that are looked at together */
    COUNTERS = 4, /* for each bin, so that equal values in a row do not wait for each other */
};

/* The least and the greatest of count > 0 values. */
CNN_WIDE_BODY void range_body(const float *values, size_t count, float *low, float *high)
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

CNN_WIDE(, cnn_extremes, range_body, (const float *values, size_t count, float *low, float *high),
         (values, count, low, high))

CNN_WIDE_BODY int bin_of(float value, float low, float scale)
{
    return (int)((value - low) * scale);
}

/* Counts values in `bins` bins from `low` on, the last one takes what lies above. counts: [COUNTERS][bins], added to;
 * the counters of a bin are summed in the first one. */
CNN_WIDE_BODY void count_body(const float *values, size_t count, float low, float scale, int bins, uint32_t *counts)
{
    const size_t blocks = count / BLOCK * BLOCK;
    int bin[BLOCK];
    for (size_t i = 0; i < blocks; i += BLOCK) {
        for (size_t k = 0; k < BLOCK; k++) {
            bin[k] = bin_of(values[i + k], low, scale);
            bin[k] = bin[k] < bins ? bin[k] : bins - 1;
        }
        for (size_t k = 0; k < BLOCK; k++)
            counts[(size_t)(k % COUNTERS) * (size_t)bins + (size_t)bin[k]]++;
    }
    for (size_t i = blocks; i < count; i++) {
        const int last = bin_of(values[i], low, scale);
        counts[last < bins ? last : bins - 1]++;
    }
    for (int b = 0; b < bins; b++)
        for (int k = 1; k < COUNTERS; k++)
            counts[b] += counts[k * bins + b];
}

CNN_WIDE(static, count_in_bins, count_body,
         (const float *values, size_t count, float low, float scale, int bins, uint32_t *counts),
         (values, count, low, scale, bins, counts))

/* Bit k is set where value k of `count` <= BLOCK lies in a bin. */
CNN_WIDE_BODY uint32_t find_in_bin(const float *values, size_t count, float low, float scale, int bin)
{
    uint32_t found = 0;
    for (size_t k = 0; k < count; k++)
        found |= (uint32_t)(bin_of(values[k], low, scale) == bin) << k;
    return found;
}

/* *mean = the mean of the values in a bin; it stays what it was when there are none. */
CNN_WIDE_BODY void mean_body(const float *values, size_t count, float low, float scale, int bin, float *mean)
{
    const size_t blocks = count / BLOCK * BLOCK;
    double sum = 0;
    size_t inside = 0;
    for (size_t first = 0; first < count; first += BLOCK) {
        uint32_t found = first < blocks ? find_in_bin(values + first, BLOCK, low, scale, bin)
                                        : find_in_bin(values + first, count - first, low, scale, bin);
        for (; found; found &= found - 1, inside++)
            sum += (double)values[first + (size_t)__builtin_ctz(found)];
    }
    *mean = inside ? (float)(sum / (double)inside) : *mean;
}

CNN_WIDE(static, mean_of_bin, mean_body,
         (const float *values, size_t count, float low, float scale, int bin, float *mean),
         (values, count, low, scale, bin, mean))

float cnn_quantile(const float *values, size_t count, double share)
{
    uint32_t bins[COUNTERS * QUANTILE_BINS] = {0};
    float low, high;
    size_t seen = 0;
    if (count == 0)
        return 0;
    cnn_extremes(values, count, &low, &high);
    float scale = (QUANTILE_BINS - 1) / (high - low);
    if (high <= low || !isfinite(scale))
        return low;
    count_in_bins(values, count, low, scale, QUANTILE_BINS, bins);
    int at = 0;
    while (at < QUANTILE_BINS - 1 && (double)(seen + bins[at]) < share * (double)count)
        seen += bins[at++];
    float mean = low;
    mean_of_bin(values, count, low, scale, at, &mean); /* exact where the paper has one colour */
    return mean;
}

float cnn_median(const float *values, size_t count)
{
    return cnn_quantile(values, count, 0.5);
}

/* 0 or 1 when all of EIGHT mask bytes are, else neither. */
static uint64_t same_mask(const uint8_t *mask)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t eight;
    memcpy(&eight, mask, sizeof eight);
    return eight == 0 ? 0 : eight == ones ? 1 : 2;
}

size_t cnn_partition(const float *values, size_t count, const uint8_t *mask, float *parts)
{
    size_t split = 0, ones = 0, zeros = 0;
    for (size_t i = 0; i < count; i++)
        split += mask[i];
    for (size_t first = 0; first < count; first += EIGHT) {
        const uint64_t same = first + EIGHT <= count ? same_mask(mask + first) : 2;
        if (same <= 1) {
            memcpy(parts + (same ? ones : split + zeros), values + first, EIGHT * sizeof *parts);
            ones += same ? EIGHT : 0;
            zeros += same ? 0 : EIGHT;
            continue;
        }
        for (size_t i = first; i < first + EIGHT && i < count; i++) {
            parts[mask[i] ? ones : split + zeros] = values[i];
            ones += mask[i];
            zeros += !mask[i];
        }
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
    cnn_extremes(values, count, &low, &high);
    if (!(high > low))
        return high;
    uint32_t counts[COUNTERS * OTSU_BINS] = {0};
    double bins[OTSU_BINS], between[OTSU_BINS], total = 0, weight = 0, moment = 0, best = 0;
    float scale = OTSU_BINS / (high - low);
    count_in_bins(values, count, low, scale, OTSU_BINS, counts);
    for (int b = 0; b < OTSU_BINS; b++)
        bins[b] = (double)counts[b];
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
