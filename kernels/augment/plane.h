/* The image that augmentation works on: floats 0..255 with a border of one pixel. How its steps are shared out.
 *
 * The steps in this folder are compiled twice: as C11 for one thread (apply.c) and as CUDA for a block of
 * threads (kernels/cuda/augment.cu). Both make the same bytes: a pixel is made by one thread, whichever it is, and a
 * sum is made by one thread in the order of the rows. So the steps say how they may be split, and whoever includes them
 * defines what that means:
 *
 *   CNN_STEP                              qualifiers of a function
 *   CNN_STEP_ROW, CNN_STEP_ROWS           first row of this thread, and the way to its next
 *   CNN_STEP_COLUMN, CNN_STEP_COLUMNS     the same along a row
 *   CNN_STEP_TOGETHER                     columns that a thread takes together, for the vectors of a CPU
 *   CNN_STEP_SUM, CNN_STEP_SUMS           first sum of the whole image of this thread, and the way to its next
 *   CNN_STEP_ALONE                        whether one thread makes all sums
 *   CNN_STEP_SYNC()                       waits until all threads are here
 *
 * All threads call each step. It begins when its inputs are complete and ends when its outputs are. */
#ifndef CNN_AUGMENT_PLANE_H
#define CNN_AUGMENT_PLANE_H

#include "kernels/augment/params.h"

#include <math.h>
#include <stddef.h>

#ifndef CNN_STEP
#define CNN_STEP static inline
#define CNN_STEP_ROW 0
#define CNN_STEP_ROWS 1
#define CNN_STEP_COLUMN 0
#define CNN_STEP_COLUMNS 1
#define CNN_STEP_TOGETHER 32
#define CNN_STEP_SUM 0
#define CNN_STEP_SUMS 1
#define CNN_STEP_ALONE true
#define CNN_STEP_SYNC() ((void)0)
#endif

typedef struct cnn_plane {
    float *pixels; /* [height+2, width+2, channels], the border included */
    int32_t height, width, channels;
} cnn_plane;

/* Where the centre of mass went: x, y. */
typedef struct cnn_plane_shift {
    float x, y;
} cnn_plane_shift;

enum {
    CNN_AUGMENT_SUMS = 8
}; /* floats that the threads share for sums; a step that writes them waits before and after */

/* Channels of the pixel (x, y); both may be -1 and height or width: the border. */
CNN_STEP float *cnn_plane_at(const cnn_plane *plane, int32_t y, int32_t x)
{
    const ptrdiff_t stride = (ptrdiff_t)plane->width + 2;
    return plane->pixels + ((ptrdiff_t)(y + 1) * stride + x + 1) * plane->channels;
}

CNN_STEP float cnn_lower(float a, float b)
{
    return a < b ? a : b;
}

CNN_STEP float cnn_higher(float a, float b)
{
    return a > b ? a : b;
}

/* ---- Sums ---- */

/* Adds a row of a, and of b or its squares, to two sums. Each addition waits for the one before, so one thread alone
 * makes two sums at a time, and leaves out zeros at both ends of the row: they change no sum of what is not negative.
 */
CNN_STEP void augment_add_row(const float *a, const float *b, bool squares, int32_t values, float sums[2])
{
    int32_t first = 0;
    while (first < values && !(a[first] > 0.0f || b[first] > 0.0f))
        first++;
    while (values > first && !(a[values - 1] > 0.0f || b[values - 1] > 0.0f))
        values--;
    float sum_a = sums[0], sum_b = sums[1];
    for (int32_t i = first; i < values; i++) {
        sum_a += a[i];
        sum_b += squares ? b[i] * b[i] : b[i];
    }
    sums[0] = sum_a;
    sums[1] = sum_b;
}

/* Two sums over `values` numbers of each row, both counted from `from`: of a, and of b or its squares. */
CNN_STEP void augment_sum_pair(const cnn_plane *a, const cnn_plane *b, bool squares, int32_t from, int32_t values,
                               float *sums)
{
    if (CNN_STEP_ALONE) {
        float pair[2] = {0.0f, 0.0f};
        for (int32_t y = from; y < a->height; y++)
            augment_add_row(cnn_plane_at(a, y, from), cnn_plane_at(b, y, from), squares, values, pair);
        sums[0] = pair[0];
        sums[1] = pair[1];
        return;
    }
    for (int32_t sum = CNN_STEP_SUM; sum < 2; sum += CNN_STEP_SUMS) {
        float total = 0.0f;
        for (int32_t y = from; y < a->height; y++) {
            const float *row = cnn_plane_at(sum == 0 ? a : b, y, from);
            for (int32_t i = 0; i < values; i++)
                total += sum == 1 && squares ? row[i] * row[i] : row[i];
        }
        sums[sum] = total;
    }
}

/* Mean width of the strokes in pixels: 2 * ink / length of the edges, which is the sum of all gradients over the
 * brightest pixel. Soft edges count as much as hard ones. 0 when the image is empty. The border must be 0. spare is
 * overwritten. */
CNN_STEP float augment_stroke_width(const cnn_plane *plane, const cnn_plane *spare, float *sums)
{
    const int32_t values = (plane->width + 1) * plane->channels;
    for (int32_t y = CNN_STEP_ROW - 1; y < plane->height; y += CNN_STEP_ROWS) {
        const float *row = cnn_plane_at(plane, y, -1), *below = cnn_plane_at(plane, y + 1, -1);
        float *edges = cnn_plane_at(spare, y, -1);
        for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS) {
            const float dx = row[i + plane->channels] - row[i], dy = below[i] - row[i];
            edges[i] = sqrtf(dx * dx + dy * dy);
        }
    }
    CNN_STEP_SYNC();
    augment_sum_pair(plane, spare, false, -1, values, sums);
    CNN_STEP_SYNC();
    const float ink = sums[0], edges = sums[1];
    CNN_STEP_SYNC();
    return edges > 0.0f ? 2.0f * ink / edges : 0.0f;
}

#endif
