/* Statistics of planes: medians, spread, Otsu's threshold. */
#include "core/picture.h"

#include <math.h>

enum { QUANTILE_BINS = 4096, OTSU_BINS = 256 };

static bool counts_in(const uint8_t *mask, size_t i, uint8_t want)
{
    return !mask || mask[i] == want;
}

static int bin_of(float value, float low, float scale)
{
    return (int)((value - low) * scale);
}

float cnn_quantile(const float *values, size_t count, size_t stride, const uint8_t *mask, uint8_t want, double share)
{
    uint32_t bins[QUANTILE_BINS] = {0};
    float low = 0, high = 0;
    size_t total = 0, seen = 0, inside = 0;
    for (size_t i = 0; i < count; i++)
        if (counts_in(mask, i, want)) {
            float value = values[i * stride];
            low = total == 0 || value < low ? value : low;
            high = total == 0 || value > high ? value : high;
            total++;
        }
    float scale = (QUANTILE_BINS - 1) / (high - low);
    if (total == 0 || high <= low || !isfinite(scale))
        return low;
    for (size_t i = 0; i < count; i++)
        if (counts_in(mask, i, want))
            bins[bin_of(values[i * stride], low, scale)]++;
    int at = 0;
    while (at < QUANTILE_BINS - 1 && (double)(seen + bins[at]) < share * (double)total)
        seen += bins[at++];
    double sum = 0; /* the mean of the bin: exact where the paper has one colour */
    for (size_t i = 0; i < count; i++)
        if (counts_in(mask, i, want) && bin_of(values[i * stride], low, scale) == at) {
            sum += (double)values[i * stride];
            inside++;
        }
    return inside ? (float)(sum / (double)inside) : low;
}

float cnn_median(const float *values, size_t count, size_t stride, const uint8_t *mask, uint8_t want)
{
    return cnn_quantile(values, count, stride, mask, want, 0.5);
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
    float low = values[0], high = values[0];
    for (size_t i = 1; i < count; i++) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    if (!(high > low))
        return high;
    double bins[OTSU_BINS] = {0}, between[OTSU_BINS], total = 0, weight = 0, moment = 0, best = 0;
    float scale = OTSU_BINS / (high - low);
    for (size_t i = 0; i < count; i++) {
        int bin = (int)((values[i] - low) * scale);
        bins[bin < OTSU_BINS ? bin : OTSU_BINS - 1]++;
    }
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
