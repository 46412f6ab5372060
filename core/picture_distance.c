/* Exact Euclidean distances, in columns by counting, then in rows by lower envelopes of parabolas (Felzenszwalb and
 * Huttenlocher, Distance Transforms of Sampled Functions, 2012). */
#include "core/picture.h"

#include "core/memory.h"

#include <math.h>
#include <stdlib.h>

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

/* values[i] becomes min over k of (i - k)^2 + values[k], i < size */
static void transform_line(envelope *lower, float *values, int32_t size)
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

/* distance [height,width] = the square of how far the nearest target lies above or below, row by row; nowhere if none.
 */
static void transform_columns(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance)
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
    for (size_t i = 0; i < (size_t)height * (size_t)width; i++)
        distance[i] = distance[i] < nowhere ? distance[i] * distance[i] : nowhere;
}

cnn_status cnn_distance(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance)
{
    size_t size = (size_t)width, count = (size_t)height * (size_t)width;
    envelope lower = {cnn_calloc(size, sizeof(float)), cnn_calloc(size, sizeof(int32_t)),
                      cnn_calloc(size, sizeof(double))};
    cnn_status status = lower.height && lower.vertex && lower.from ? CNN_OK : CNN_ERR_MEMORY;
    if (status == CNN_OK) {
        transform_columns(mask, target, height, width, distance);
        for (int32_t y = 0; y < height; y++)
            transform_line(&lower, distance + (size_t)y * (size_t)width, width);
        for (size_t i = 0; i < count; i++)
            distance[i] = sqrtf(distance[i]);
    }
    free(lower.height);
    free(lower.vertex);
    free(lower.from);
    return status;
}
