/* Exact Euclidean distances, in columns by counting, then in rows by lower envelopes of parabolas (Felzenszwalb and
 * Huttenlocher, Distance Transforms of Sampled Functions, 2012). */
#include "core/picture.h"

#include "core/memory.h"
#include "core/wide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Squared distances in a picture stay below this: it stands for "there is none". */
static const float nowhere = 1e12f;

typedef struct envelope {
    float *height;   /* [size] of the parabola that stands at each place */
    int32_t *vertex; /* [size] of the parabolas that are lowest somewhere, from left to right */
    double *from;    /* [size] where each of them begins to be the lowest */
} envelope;

/* Where the parabola at q comes below the one at p < q. Halving, for neighbours, is no slow division. */
static double crossing(const float *height, int32_t p, int32_t q)
{
    const double rise = (double)height[q] - (double)height[p] + (double)q * q - (double)p * p;
    return q - p == 1 ? rise * 0.5 : rise / (2.0 * (q - p));
}

/* values[i] becomes min over k of (i - k)^2 + values[k], i, k < size */
static void transform_run(envelope *lower, float *values, int32_t size)
{
    int32_t last = 0;
    for (int32_t i = 0; i < size; i++)
        lower->height[i] = values[i];
    lower->vertex[0] = 0;
    lower->from[0] = -INFINITY;
    for (int32_t q = 1; q < size; q++) {
        double at = crossing(lower->height, lower->vertex[last], q);
        while (at <= lower->from[last])
            at = crossing(lower->height, lower->vertex[--last], q);
        lower->vertex[++last] = q;
        lower->from[last] = at;
    }
    for (int32_t i = 0, k = 0; i < size; i++) {
        while (k < last && lower->from[k + 1] < i)
            k++;
        float away = (float)(i - lower->vertex[k]);
        values[i] = away * away + lower->height[lower->vertex[k]];
    }
}

/* Distances of a row from those in columns. Each run between two targets is a row of its own: what lies beyond is
 * farther away than they are. */
static void transform_row(envelope *lower, float *row, int32_t size)
{
    for (int32_t i = 0, end; i < size; i = end + 1) {
        for (end = i; end < size && row[end] > 0; end++)
            row[end] = row[end] < nowhere ? row[end] * row[end] : nowhere;
        if (end == i)
            continue;
        const int32_t first = i > 0 ? i - 1 : 0, last = end < size ? end + 1 : size;
        transform_run(lower, row + first, last - first);
        for (int32_t k = i; k < end; k++)
            row[k] = sqrtf(row[k]);
    }
}

/* distance [height,width] = how far the nearest target lies above or below, row by row; nowhere, or more, if none. */
CNN_WIDE_BODY void columns_body(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance)
{
    for (int32_t y = 0; y < height; y++) {
        const uint8_t *row = mask + (size_t)y * (size_t)width;
        float *to = distance + (size_t)y * (size_t)width;
        for (int32_t x = 0; x < width; x++) {
            const float above = y > 0 ? to[x - width] + 1 : nowhere;
            to[x] = row[x] == target ? 0 : above;
        }
    }
    for (int32_t y = height - 2; y >= 0; y--) {
        float *to = distance + (size_t)y * (size_t)width;
        for (int32_t x = 0; x < width; x++) {
            const float below = to[x + width] + 1;
            to[x] = below < to[x] ? below : to[x];
        }
    }
}

CNN_WIDE(static, transform_columns, columns_body,
         (const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance),
         (mask, target, height, width, distance))

cnn_status cnn_distance(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance)
{
    size_t size = (size_t)width;
    envelope lower = {cnn_calloc(size, sizeof(float)), cnn_calloc(size, sizeof(int32_t)),
                      cnn_calloc(size, sizeof(double))};
    cnn_status status = lower.height && lower.vertex && lower.from ? CNN_OK : CNN_ERR_MEMORY;
    if (status == CNN_OK) {
        transform_columns(mask, target, height, width, distance);
        for (int32_t y = 0; y < height; y++)
            transform_row(&lower, distance + (size_t)y * (size_t)width, width);
    }
    free(lower.height);
    free(lower.vertex);
    free(lower.from);
    return status;
}

/* near = min over |k| <= reach of k^2 + far[i + k], for reach <= i < size - reach */
CNN_WIDE_BODY void near_body(const float *far, int32_t size, int32_t reach, float *near)
{
    memcpy(near, far, (size_t)size * sizeof *near);
    for (int32_t k = 1; k <= reach; k++) {
        const float square = (float)(k * k);
        for (int32_t i = reach; i < size - reach; i++) {
            const float side = far[i - k] < far[i + k] ? far[i - k] : far[i + k];
            near[i] = side + square < near[i] ? side + square : near[i];
        }
    }
    for (int32_t i = reach; i < size - reach; i++)
        near[i] = sqrtf(near[i]);
}

CNN_WIDE(static, find_near, near_body, (const float *far, int32_t size, int32_t reach, float *near),
         (far, size, reach, near))

cnn_status cnn_distance_near(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, int32_t reach,
                             float *distance)
{
    const int32_t size = width + 2 * reach;
    float *far = cnn_calloc((size_t)size, sizeof *far), *near = cnn_calloc((size_t)size, sizeof *near);
    cnn_status status = far && near ? CNN_OK : CNN_ERR_MEMORY;
    if (status == CNN_OK)
        transform_columns(mask, target, height, width, distance);
    for (int32_t i = 0; status == CNN_OK && i < size; i++)
        far[i] = nowhere;
    for (int32_t y = 0; status == CNN_OK && y < height; y++) {
        float *row = distance + (size_t)y * (size_t)width;
        for (int32_t x = 0; x < width; x++)
            far[reach + x] = row[x] < nowhere ? row[x] * row[x] : nowhere;
        find_near(far, size, reach, near);
        memcpy(row, near + reach, (size_t)width * sizeof *row);
    }
    free(far);
    free(near);
    return status;
}
