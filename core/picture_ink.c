/* From colours to ink: projection, smoothing, Otsu's threshold.
 *
 * The paper's colour is the median of a frame around the picture. Every pixel's difference d from it is projected on
 * the direction u that is the main axis of sum |d|^2 d d'; the sign of u makes the sum of cubes positive, since a
 * drawing is less area than its paper. So dark on light, light on dark and red on blue all come out alike. */
#include "core/picture.h"

#include <math.h>
#include <string.h>

static const float least_contrast = 1.0f / 128; /* less than this is nothing drawn */

/* ---- Projection ---- */

/* Marks the frame, 3 % of the shorter side wide. mask: [height,width] */
static void mark_frame(int32_t height, int32_t width, uint8_t *mask)
{
    int32_t frame = (int32_t)(0.03 * (height < width ? height : width) + 0.5);
    if (frame < 1)
        frame = 1;
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++)
            mask[(size_t)y * (size_t)width + (size_t)x] =
                y < frame || y >= height - frame || x < frame || x >= width - frame;
}

/* axis [3] = the main axis of the symmetric, positive semidefinite matrix m, by squaring it until one column is all
 * that is left. False when m is zero. */
static bool main_axis(double m[3][3], double *axis)
{
    enum { SQUARINGS = 12 }; /* m to the power of 4096 */
    for (int round = 0; round < SQUARINGS; round++) {
        double trace = m[0][0] + m[1][1] + m[2][2], square[3][3];
        if (!(trace > 0))
            return false;
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++) {
                square[i][j] = 0;
                for (int k = 0; k < 3; k++)
                    square[i][j] += m[i][k] / trace * (m[k][j] / trace);
            }
        memcpy(m, square, sizeof square);
    }
    int best = 0;
    for (int i = 1; i < 3; i++)
        if (m[i][i] > m[best][best])
            best = i;
    double length = sqrt(m[0][best] * m[0][best] + m[1][best] * m[1][best] + m[2][best] * m[2][best]);
    for (int i = 0; i < 3; i++)
        axis[i] = m[i][best] / length;
    return length > 0;
}

/* m = sum over pixels of |d|^2 d d', d = pixel - paper */
static void weigh_directions(const float *rgb, size_t count, const float *paper, double m[3][3])
{
    for (size_t p = 0; p < count; p++) {
        double d[3];
        for (int c = 0; c < 3; c++)
            d[c] = (double)rgb[3 * p + (size_t)c] - (double)paper[c];
        double weight = d[0] * d[0] + d[1] * d[1] + d[2] * d[2];
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 3; j++)
                m[i][j] += weight * d[i] * d[j];
    }
}

bool cnn_ink_project(const float *rgb, int32_t height, int32_t width, uint8_t *scratch, float *ink)
{
    size_t count = (size_t)height * (size_t)width;
    float paper[3], low = 0, high = 0;
    double m[3][3] = {{0}}, axis[3], cubes = 0;
    mark_frame(height, width, scratch);
    for (size_t c = 0; c < 3; c++)
        paper[c] = cnn_median(rgb + c, count, 3, scratch, 1);
    weigh_directions(rgb, count, paper, m);
    if (!main_axis(m, axis))
        return false;
    for (size_t p = 0; p < count; p++) {
        double along = 0;
        for (size_t c = 0; c < 3; c++)
            along += ((double)rgb[3 * p + c] - (double)paper[c]) * axis[c];
        ink[p] = (float)along;
        cubes += along * along * along;
        low = ink[p] < low ? ink[p] : low;
        high = ink[p] > high ? ink[p] : high;
    }
    if (cubes < 0)
        for (size_t p = 0; p < count; p++)
            ink[p] = -ink[p];
    return high - low >= least_contrast;
}

/* ---- Smoothing ---- */

enum { MAX_RADIUS = 4, SMALL_SIDE = 56, LARGE_SIDE = 200 };

typedef struct gauss_taps {
    int radius;
    float tap[MAX_RADIUS + 1]; /* exp(-i^2 / (2 sigma^2)), not yet divided by their sum */
} gauss_taps;

static const gauss_taps gauss_small = {3, {1.0f, 0.360447789f, 0.0168798142f, 0.000102702939f, 0.0f}}; /* 0.7 px */
static const gauss_taps gauss_large = {4,
                                       {1.0f, 0.606530660f, 0.135335283f, 0.0111089965f, 0.000335462628f}}; /* 1 px */

/* The border is mirrored: ... 1 0 | 0 1 2 ... */
static int32_t mirror(int32_t i, int32_t size)
{
    return i < 0 ? -1 - i : i >= size ? 2 * size - 1 - i : i;
}

/* One dimension: value i of a line lies at line * line_step + i * step. */
static void smooth_lines(const gauss_taps *gauss, const float *src, float *dst, int32_t lines, size_t line_step,
                         int32_t size, size_t step)
{
    float sum = gauss->tap[0];
    for (int k = 1; k <= gauss->radius; k++)
        sum += 2.0f * gauss->tap[k];
    for (int32_t line = 0; line < lines; line++) {
        const float *from = src + (size_t)line * line_step;
        for (int32_t i = 0; i < size; i++) {
            float value = from[(size_t)i * step];
            for (int k = 1; k <= gauss->radius; k++)
                value += gauss->tap[k] *
                         (from[(size_t)mirror(i - k, size) * step] + from[(size_t)mirror(i + k, size) * step]);
            dst[(size_t)line * line_step + (size_t)i * step] = value / sum;
        }
    }
}

void cnn_ink_smooth(float *ink, int32_t height, int32_t width, float *scratch)
{
    int32_t shorter = height < width ? height : width, longer = height < width ? width : height;
    if (shorter < SMALL_SIDE)
        return;
    const gauss_taps *gauss = longer < LARGE_SIDE ? &gauss_small : &gauss_large;
    smooth_lines(gauss, ink, scratch, height, (size_t)width, width, 1);
    smooth_lines(gauss, scratch, ink, width, 1, height, (size_t)width);
}

/* ---- Threshold ---- */

static const double nearly_all = 0.9995; /* share of the pixels below the highest value, noise left out */

float cnn_ink_sign(const float *ink, size_t count)
{
    float middle = cnn_median(ink, count, 1, NULL, 0);
    float above = cnn_quantile(ink, count, 1, NULL, 0, nearly_all) - middle;
    float below = middle - cnn_quantile(ink, count, 1, NULL, 0, 1 - nearly_all);
    return above >= below ? 1 : -1;
}

/* Half of the way from the median to nearly the highest value. */
static float half_contrast(const float *ink, size_t count)
{
    return 0.5f * (cnn_median(ink, count, 1, NULL, 0) + cnn_quantile(ink, count, 1, NULL, 0, nearly_all));
}

bool cnn_ink_threshold(float *ink, size_t count, cnn_cut kind, uint8_t *mask)
{
    float low = ink[0], high = ink[0];
    size_t inked = 0;
    for (size_t i = 1; i < count; i++) {
        low = ink[i] < low ? ink[i] : low;
        high = ink[i] > high ? ink[i] : high;
    }
    if (high - low < least_contrast)
        return false;
    float cut = kind == CNN_CUT_OTSU ? cnn_otsu(ink, count) : half_contrast(ink, count);
    for (size_t i = 0; i < count; i++) {
        mask[i] = ink[i] > cut;
        inked += mask[i];
    }
    if (inked == 0 || inked == count)
        return false;
    float full = cnn_median(ink, count, 1, mask, 1), paper = cnn_median(ink, count, 1, mask, 0);
    for (size_t i = 0; i < count; i++) {
        float soft = ((ink[i] - paper) / (full - paper) - 0.25f) * 2.0f;
        ink[i] = soft < 0 ? 0 : soft > 1 ? 1 : soft;
    }
    return true;
}
