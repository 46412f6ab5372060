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

/* Gathers one channel of the frame, 3 % of the shorter side wide; returns how many pixels it has. values:
 * [height,width] */
static size_t gather_frame(const float *channel, int32_t height, int32_t width, float *values)
{
    int32_t frame = (int32_t)(0.03 * (height < width ? height : width) + 0.5);
    size_t count = 0;
    if (frame < 1)
        frame = 1;
    for (int32_t y = 0; y < height; y++) {
        const float *row = channel + 3 * (size_t)y * (size_t)width;
        const bool whole = y < frame || y >= height - frame || 2 * frame >= width;
        for (int32_t x = 0; x < width; x++) {
            if (!whole && x == frame)
                x = width - frame;
            values[count++] = row[3 * x];
        }
    }
    return count;
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

/* m = sum over pixels of |d|^2 d d', d = pixel - paper; symmetric */
static void weigh_directions(const float *rgb, size_t count, const float *paper, double m[3][3])
{
    double rr = 0, rg = 0, rb = 0, gg = 0, gb = 0, bb = 0;
    for (size_t p = 0; p < count; p++) {
        const double r = (double)rgb[3 * p] - (double)paper[0], g = (double)rgb[3 * p + 1] - (double)paper[1];
        const double b = (double)rgb[3 * p + 2] - (double)paper[2], weight = r * r + g * g + b * b;
        rr += weight * r * r;
        rg += weight * r * g;
        rb += weight * r * b;
        gg += weight * g * g;
        gb += weight * g * b;
        bb += weight * b * b;
    }
    const double sums[3][3] = {{rr, rg, rb}, {rg, gg, gb}, {rb, gb, bb}};
    memcpy(m, sums, sizeof sums);
}

bool cnn_ink_project(const float *rgb, int32_t height, int32_t width, float *ink)
{
    size_t count = (size_t)height * (size_t)width;
    float paper[3], low = 0, high = 0;
    double m[3][3] = {{0}}, axis[3], cubes = 0;
    for (size_t c = 0; c < 3; c++)
        paper[c] = cnn_median(ink, gather_frame(rgb + c, height, width, ink));
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

static float sum_of(const gauss_taps *gauss)
{
    float sum = gauss->tap[0];
    for (int k = 1; k <= gauss->radius; k++)
        sum += 2.0f * gauss->tap[k];
    return sum;
}

/* dst[i] from the neighbours of src[i] in its row, first <= i < last. inside: all of them lie in the row */
static void smooth_span(const gauss_taps *gauss, float sum, const float *src, int32_t size, int32_t first, int32_t last,
                        bool inside, float *dst)
{
    for (int32_t i = first; i < last; i++) {
        float value = src[i];
        for (int k = 1; k <= gauss->radius; k++)
            value += gauss->tap[k] *
                     (inside ? src[i - k] + src[i + k] : src[mirror(i - k, size)] + src[mirror(i + k, size)]);
        dst[i] = value / sum;
    }
}

static void smooth_across(const gauss_taps *gauss, const float *src, int32_t height, int32_t width, float *dst)
{
    const float sum = sum_of(gauss);
    const int32_t radius = gauss->radius;
    for (int32_t y = 0; y < height; y++, src += width, dst += width) {
        smooth_span(gauss, sum, src, width, 0, radius, false, dst);
        smooth_span(gauss, sum, src, width, radius, width - radius, true, dst);
        smooth_span(gauss, sum, src, width, width - radius, width, false, dst);
    }
}

/* Row by row, which reads memory in its order. */
static void smooth_down(const gauss_taps *gauss, const float *src, int32_t height, int32_t width, float *dst)
{
    const float sum = sum_of(gauss);
    for (int32_t y = 0; y < height; y++) {
        const float *here = src + (size_t)y * (size_t)width;
        float *to = dst + (size_t)y * (size_t)width;
        memcpy(to, here, (size_t)width * sizeof *to);
        for (int k = 1; k <= gauss->radius; k++) {
            const float *above = src + (size_t)mirror(y - k, height) * (size_t)width;
            const float *below = src + (size_t)mirror(y + k, height) * (size_t)width;
            for (int32_t x = 0; x < width; x++)
                to[x] += gauss->tap[k] * (above[x] + below[x]);
        }
        for (int32_t x = 0; x < width; x++)
            to[x] /= sum;
    }
}

void cnn_ink_smooth(float *ink, int32_t height, int32_t width, float *scratch)
{
    int32_t shorter = height < width ? height : width, longer = height < width ? width : height;
    if (shorter < SMALL_SIDE)
        return;
    const gauss_taps *gauss = longer < LARGE_SIDE ? &gauss_small : &gauss_large;
    smooth_across(gauss, ink, height, width, scratch);
    smooth_down(gauss, scratch, height, width, ink);
}

/* ---- Threshold ---- */

static const double nearly_all = 0.9995; /* share of the pixels below the highest value, noise left out */

float cnn_ink_sign(const float *ink, size_t count)
{
    float middle = cnn_median(ink, count);
    float above = cnn_quantile(ink, count, nearly_all) - middle;
    float below = middle - cnn_quantile(ink, count, 1 - nearly_all);
    return above >= below ? 1 : -1;
}

/* Half of the way from the median to nearly the highest value. */
static float half_contrast(const float *ink, size_t count)
{
    return 0.5f * (cnn_median(ink, count) + cnn_quantile(ink, count, nearly_all));
}

bool cnn_ink_threshold(float *ink, size_t count, cnn_cut kind, uint8_t *mask, float *scratch)
{
    if (cnn_range(ink, count) < least_contrast)
        return false;
    float cut = kind == CNN_CUT_OTSU ? cnn_otsu(ink, count) : half_contrast(ink, count);
    for (size_t i = 0; i < count; i++)
        mask[i] = ink[i] > cut;
    size_t inked = cnn_partition(ink, count, mask, scratch);
    if (inked == 0 || inked == count)
        return false;
    float full = cnn_median(scratch, inked), paper = cnn_median(scratch + inked, count - inked);
    for (size_t i = 0; i < count; i++) {
        float soft = ((ink[i] - paper) / (full - paper) - 0.25f) * 2.0f;
        ink[i] = soft < 0 ? 0 : soft > 1 ? 1 : soft;
    }
    return true;
}
