/* Separable resampling, one source row at a time, so that a large picture is never held twice.
 *
 * Shrinking, output pixel i covers the source interval [i*scale, (i+1)*scale) and is its mean, with parts of pixels
 * counted by their share. Growing, it is interpolated between the two source pixels whose middles surround its own. */
#include "core/picture.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

/* Output pixel i is the sum of weight[k] * source[first + k] over k < count. */
typedef struct axis_weights {
    int32_t *first, *count; /* [dst_size] */
    float *weight;          /* [dst_size, taps] */
    int32_t taps;
} axis_weights;

static void axis_free(axis_weights *axis)
{
    free(axis->first);
    free(axis->count);
    free(axis->weight);
}

static void cover(axis_weights *axis, int32_t i, int32_t size, double scale)
{
    double from = i * scale, to = (i + 1) * scale;
    if (to > size)
        to = size;
    int32_t first = (int32_t)from, last = (int32_t)to;
    if (last >= to)
        last--;
    if (last < first)
        last = first;
    axis->first[i] = first;
    axis->count[i] = last - first + 1;
    for (int32_t k = first; k <= last; k++) {
        double low = k > from ? k : from, high = k + 1 < to ? k + 1 : to;
        axis->weight[(size_t)i * (size_t)axis->taps + (size_t)(k - first)] = (float)((high - low) / (to - from));
    }
}

static void interpolate(axis_weights *axis, int32_t i, int32_t size, double scale)
{
    double at = (i + 0.5) * scale - 0.5;
    at = at < 0 ? 0 : at > size - 1 ? size - 1 : at;
    int32_t first = (int32_t)at;
    float second = (float)(at - first);
    axis->first[i] = first;
    axis->count[i] = first + 1 < size ? 2 : 1;
    axis->weight[(size_t)i * (size_t)axis->taps] = 1.0f - second;
    axis->weight[(size_t)i * (size_t)axis->taps + 1] = second;
}

static cnn_status axis_make(axis_weights *axis, int32_t size, int32_t dst_size)
{
    double scale = (double)size / dst_size;
    axis->taps = size > dst_size ? size / dst_size + 3 : 2;
    axis->first = cnn_calloc((size_t)dst_size, sizeof *axis->first);
    axis->count = cnn_calloc((size_t)dst_size, sizeof *axis->count);
    axis->weight = cnn_calloc((size_t)dst_size * (size_t)axis->taps, sizeof *axis->weight);
    if (!axis->first || !axis->count || !axis->weight)
        return CNN_ERR_MEMORY;
    for (int32_t i = 0; i < dst_size; i++)
        if (size > dst_size)
            cover(axis, i, size, scale);
        else
            interpolate(axis, i, size, scale);
    return CNN_OK;
}

/* dst [dst_width, channels] from row [width, channels] */
static void resample_row(const axis_weights *axis, const float *row, int32_t channels, int32_t dst_width, float *dst)
{
    for (int32_t i = 0; i < dst_width; i++)
        for (int32_t c = 0; c < channels; c++) {
            const float *weight = axis->weight + (size_t)i * (size_t)axis->taps;
            const float *from = row + (size_t)axis->first[i] * (size_t)channels + (size_t)c;
            float sum = 0;
            for (int32_t k = 0; k < axis->count[i]; k++)
                sum += weight[k] * from[(size_t)k * (size_t)channels];
            dst[(size_t)i * (size_t)channels + (size_t)c] = sum;
        }
}

cnn_status cnn_resample(cnn_row_fn read_row, const void *source, int32_t height, int32_t width, int32_t channels,
                        int32_t dst_height, int32_t dst_width, float *dst)
{
    cnn_status status = CNN_OK;
    if (height == dst_height && width == dst_width) {
        for (int32_t y = 0; y < height; y++)
            read_row(source, y, dst + (size_t)y * (size_t)width * (size_t)channels);
        return CNN_OK;
    }
    axis_weights across = {0}, down = {0};
    size_t row_values = (size_t)dst_width * (size_t)channels;
    float *row = cnn_calloc((size_t)width * (size_t)channels, sizeof *row);
    float *narrow = cnn_calloc(row_values, sizeof *narrow);
    if (!row || !narrow)
        status = CNN_ERR_MEMORY;
    if (status == CNN_OK)
        status = axis_make(&across, width, dst_width);
    if (status == CNN_OK)
        status = axis_make(&down, height, dst_height);
    if (status == CNN_OK)
        memset(dst, 0, (size_t)dst_height * row_values * sizeof *dst);
    int32_t done = 0; /* output rows that no later source row reaches */
    for (int32_t y = 0; y < height && status == CNN_OK; y++) {
        read_row(source, y, row);
        resample_row(&across, row, channels, dst_width, narrow);
        for (int32_t i = done; i < dst_height && down.first[i] <= y; i++) {
            if (y >= down.first[i] + down.count[i]) {
                done = i + 1;
                continue;
            }
            float weight = down.weight[(size_t)i * (size_t)down.taps + (size_t)(y - down.first[i])];
            for (size_t k = 0; k < row_values; k++)
                dst[(size_t)i * row_values + k] += weight * narrow[k];
        }
    }
    axis_free(&across);
    axis_free(&down);
    free(row);
    free(narrow);
    return status;
}
