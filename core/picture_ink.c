/* From colours to ink: projection, smoothing, Otsu's threshold.
 *
 * The paper's colour is the median of a frame around the picture. Every pixel's difference d from it is projected on
 * the direction u that is the main axis of sum |d|^2 d d'; the sign of u makes the sum of cubes positive, since a
 * drawing is less area than its paper. So dark on light, light on dark and red on blue all come out alike. */
#include "core/picture.h"

#include "core/wide.h"

#include <math.h>
#include <string.h>

static const float least_contrast = 1.0f / 128; /* less than this is nothing drawn */

enum { BLOCK = 8 }; /* pixels that are looked at together */

/* ---- Projection ---- */

/* The frame is 3 % of the shorter side wide. */
static int32_t frame_width(int32_t height, int32_t width)
{
    const int32_t frame = (int32_t)(0.03 * (height < width ? height : width) + 0.5);
    return frame < 1 ? 1 : frame;
}

/* Gathers one channel of the frame; returns how many pixels it has. values:
 * [height,width] */
static size_t gather_frame(const float *channel, int32_t height, int32_t width, float *values)
{
    const int32_t frame = frame_width(height, width);
    size_t count = 0;
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

/* Whether BLOCK pixels are all paper. */
CNN_WIDE_BODY bool is_paper(const float *rgb, const float *papers)
{
    int differ = 0;
    for (int i = 0; i < 3 * BLOCK; i++)
        differ |= rgb[i] != papers[i];
    return !differ;
}

typedef double four_doubles __attribute__((vector_size(4 * sizeof(double))));

/* Differences of up to BLOCK pixels from the paper, channel by channel. */
typedef struct differences {
    double of[3][BLOCK];
} differences;

CNN_WIDE_BODY void take_apart(const float *rgb, const float *papers, differences *d)
{
    for (int c = 0; c < 3; c++)
        for (int p = 0; p < BLOCK; p++)
            d->of[c][p] = (double)rgb[3 * p + c] - (double)papers[c];
}

/* The pixels from `first` on, at most BLOCK, in a whole block: beyond the last one it is paper. */
CNN_WIDE_BODY const float *block_at(const float *rgb, size_t first, size_t count, const float *papers, float *room)
{
    if (first + BLOCK <= count)
        return rgb + 3 * first;
    memcpy(room, papers, 3 * BLOCK * sizeof *room);
    memcpy(room, rgb + 3 * first, 3 * (count - first) * sizeof *room);
    return room;
}

/* sums = rr, rg, rb, gg, gb, bb of sum over pixels of |d|^2 d d', d = pixel - paper. Paper adds nothing. */
CNN_WIDE_BODY void weigh_body(const float *rgb, size_t count, const float *papers, double sums[6])
{
    four_doubles first_sums = {0}, last_sums = {0}; /* rr, rg, rb, gg; gb, bb */
    float room[3 * BLOCK];
    for (size_t first = 0; first < count; first += BLOCK) {
        const float *block = block_at(rgb, first, count, papers, room);
        if (is_paper(block, papers))
            continue;
        for (int p = 0; p < BLOCK; p++) {
            const double r = (double)block[3 * p] - (double)papers[0];
            const double g = (double)block[3 * p + 1] - (double)papers[1];
            const double b = (double)block[3 * p + 2] - (double)papers[2], weight = r * r + g * g + b * b;
            const double of_r = weight * r, of_g = weight * g, of_b = weight * b;
            first_sums += (four_doubles){of_r, of_r, of_r, of_g} * (four_doubles){r, g, b, g};
            last_sums += (four_doubles){of_g, of_b, 0, 0} * (four_doubles){b, b, 0, 0};
        }
    }
    memcpy(sums, &first_sums, 4 * sizeof *sums);
    memcpy(sums + 4, &last_sums, 2 * sizeof *sums);
}

CNN_WIDE(static, weigh_directions, weigh_body, (const float *rgb, size_t count, const float *papers, double *sums),
         (rgb, count, papers, sums))

/* ink = how far a pixel lies from the paper along the axis; *cubes = their sum of cubes. */
CNN_WIDE_BODY void project_body(const float *rgb, size_t count, const float *papers, const double *axis, float *ink,
                                double *cubes)
{
    const double a = axis[0], b = axis[1], c = axis[2];
    double sum = 0, cube[BLOCK];
    float room[3 * BLOCK], along[BLOCK];
    differences d;
    for (size_t first = 0; first < count; first += BLOCK) {
        const size_t pixels = first + BLOCK < count ? BLOCK : count - first;
        const float *block = block_at(rgb, first, count, papers, room);
        if (is_paper(block, papers)) {
            memset(ink + first, 0, pixels * sizeof *ink);
            continue;
        }
        take_apart(block, papers, &d);
        for (int p = 0; p < BLOCK; p++) {
            const double here = 0.0 + d.of[0][p] * a + d.of[1][p] * b + d.of[2][p] * c;
            along[p] = (float)here;
            cube[p] = here * here * here;
        }
        if (pixels == BLOCK) /* a constant: one move */
            memcpy(ink + first, along, BLOCK * sizeof *ink);
        else
            memcpy(ink + first, along, pixels * sizeof *ink);
        for (int p = 0; p < BLOCK; p++)
            sum += cube[p];
    }
    *cubes = sum;
}

CNN_WIDE(static, project, project_body,
         (const float *rgb, size_t count, const float *papers, const double *axis, float *ink, double *cubes),
         (rgb, count, papers, axis, ink, cubes))

bool cnn_ink_project(const float *rgb, int32_t height, int32_t width, float *ink)
{
    size_t count = (size_t)height * (size_t)width;
    float papers[3 * BLOCK]; /* the paper's colour, again and again */
    float low, high;
    double s[6], axis[3], cubes;
    for (size_t c = 0; c < 3; c++)
        papers[c] = cnn_median(ink, gather_frame(rgb + c, height, width, ink));
    for (size_t i = 3; i < 3 * BLOCK; i++)
        papers[i] = papers[i - 3];
    weigh_directions(rgb, count, papers, s);
    double m[3][3] = {{s[0], s[1], s[2]}, {s[1], s[3], s[4]}, {s[2], s[4], s[5]}};
    if (!main_axis(m, axis))
        return false;
    project(rgb, count, papers, axis, ink, &cubes);
    if (cubes < 0)
        for (size_t p = 0; p < count; p++)
            ink[p] = -ink[p];
    cnn_extremes(ink, count, &low, &high);
    return (high > 0 ? high : 0) - (low < 0 ? low : 0) >= least_contrast;
}

/* ---- Projection of a picture with an index ---- */

/* Counts the colours of a frame as wide as gather_frame's, and of all of the view. */
static void count_view(const cnn_picture *picture, cnn_box view, uint32_t *frame, uint32_t *all)
{
    const int32_t height = view.y1 - view.y0, width = view.x1 - view.x0, wide = frame_width(height, width);
    const cnn_box inside = {view.x0 + wide, view.y0 + wide, view.x1 - wide, view.y1 - wide};
    const cnn_box sides[] = {{view.x0, view.y0, view.x1, inside.y0},
                             {view.x0, inside.y1, view.x1, view.y1},
                             {view.x0, inside.y0, inside.x0, inside.y1},
                             {inside.x1, inside.y0, view.x1, inside.y1}};
    uint32_t some[CNN_PICTURE_COLOURS];
    cnn_picture_count_colours(picture, view, all);
    memcpy(frame, all, CNN_PICTURE_COLOURS * sizeof *frame);
    if (inside.x0 >= inside.x1 || inside.y0 >= inside.y1)
        return;
    memset(frame, 0, CNN_PICTURE_COLOURS * sizeof *frame);
    for (size_t side = 0; side < sizeof sides / sizeof *sides; side++) {
        cnn_picture_count_colours(picture, sides[side], some);
        for (int i = 0; i < CNN_PICTURE_COLOURS; i++)
            frame[i] += some[i];
    }
}

/* The matrix that main_axis takes, summed over colours; each pixel counts. */
static void weigh_colours(float rgb[CNN_PICTURE_COLOURS][3], const uint32_t *times, const float *paper, double m[3][3])
{
    memset(m, 0, 9 * sizeof **m);
    for (int i = 0; i < CNN_PICTURE_COLOURS; i++) {
        double d[3], weight = 0;
        for (int c = 0; c < 3; c++) {
            d[c] = (double)rgb[i][c] - (double)paper[c];
            weight += d[c] * d[c];
        }
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++)
                m[a][b] += times[i] * (weight * d[a] * d[b]);
    }
}

bool cnn_ink_project_colours(const cnn_picture *picture, const float *paper, cnn_box view, float *ink)
{
    uint32_t frame[CNN_PICTURE_COLOURS], times[CNN_PICTURE_COLOURS];
    float rgb[CNN_PICTURE_COLOURS][3], channel[CNN_PICTURE_COLOURS], value[CNN_PICTURE_COLOURS], around[3];
    float low = 0, high = 0;
    double m[3][3], axis[3], cubes = 0;
    cnn_picture_compose_colours(picture, paper, rgb);
    count_view(picture, view, frame, times);
    for (int c = 0; c < 3; c++) {
        for (int i = 0; i < CNN_PICTURE_COLOURS; i++)
            channel[i] = rgb[i][c];
        around[c] = cnn_median_of_counts(channel, frame, CNN_PICTURE_COLOURS);
    }
    weigh_colours(rgb, times, around, m);
    if (!main_axis(m, axis))
        return false;
    for (int i = 0; i < CNN_PICTURE_COLOURS; i++) {
        double along = 0;
        for (int c = 0; c < 3; c++)
            along += ((double)rgb[i][c] - (double)around[c]) * axis[c];
        value[i] = (float)along;
        cubes += times[i] * (along * along * along);
    }
    for (int i = 0; i < CNN_PICTURE_COLOURS; i++) {
        value[i] = cubes < 0 ? -value[i] : value[i];
        low = times[i] && value[i] < low ? value[i] : low;
        high = times[i] && value[i] > high ? value[i] : high;
    }
    for (int32_t y = view.y0; y < view.y1; y++) {
        const uint8_t *row = picture->index + (size_t)y * (size_t)picture->width;
        for (int32_t x = view.x0; x < view.x1; x++)
            *ink++ = value[row[x]];
    }
    return high - low >= least_contrast;
}

/* ---- Smoothing ---- */

enum { SMALL_RADIUS = 3, MAX_RADIUS = 4, SMALL_SIDE = 56, LARGE_SIDE = 200 };

typedef struct gauss_taps {
    int radius;
    float tap[MAX_RADIUS + 1]; /* exp(-i^2 / (2 sigma^2)), not yet divided by their sum */
} gauss_taps;

static const gauss_taps gauss_small = {SMALL_RADIUS,
                                       {1.0f, 0.360447789f, 0.0168798142f, 0.000102702939f, 0.0f}}; /* 0.7 px */
static const gauss_taps gauss_large = {MAX_RADIUS,
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

static float smooth_at(const gauss_taps *gauss, float sum, const float *src, int32_t i, int32_t size)
{
    float value = src[i];
    for (int k = 1; k <= gauss->radius; k++)
        value += gauss->tap[k] * (src[mirror(i - k, size)] + src[mirror(i + k, size)]);
    return value / sum;
}

/* dst = a row [width] smoothed along itself; radius: that of gauss, a constant here. */
CNN_WIDE_BODY void across_row(const gauss_taps *gauss, int radius, float sum, const float *src, int32_t width,
                              float *dst)
{
    for (int32_t i = 0; i < radius; i++)
        dst[i] = smooth_at(gauss, sum, src, i, width);
    for (int32_t i = radius; i < width - radius; i++) {
        float value = src[i];
        for (int k = 1; k <= radius; k++)
            value += gauss->tap[k] * (src[i - k] + src[i + k]);
        dst[i] = value / sum;
    }
    for (int32_t i = width - radius; i < width; i++)
        dst[i] = smooth_at(gauss, sum, src, i, width);
}

/* dst [width] = the middle one of rows smoothed along the columns; above, below: [radius + 1] rows so far from it */
CNN_WIDE_BODY void down_row(const gauss_taps *gauss, int radius, float sum, const float *const *above,
                            const float *const *below, int32_t width, float *dst)
{
    for (int32_t x = 0; x < width; x++) {
        float value = above[0][x];
        for (int k = 1; k <= radius; k++)
            value += gauss->tap[k] * (above[k][x] + below[k][x]);
        dst[x] = value / sum;
    }
}

/* Both ways at once: `rows` [2 * radius + 1, width] are a window of rows that are smoothed along themselves, which
 * moves down ahead of the row that is written. */
CNN_WIDE_BODY void smooth_radius(const gauss_taps *gauss, int radius, float *ink, int32_t height, int32_t width,
                                 float *rows)
{
    const float sum = sum_of(gauss);
    const int32_t window = 2 * radius + 1;
    const float *above[MAX_RADIUS + 1], *below[MAX_RADIUS + 1];
    for (int32_t y = -radius; y < height; y++) {
        const int32_t ahead = y + radius;
        if (ahead < height)
            across_row(gauss, radius, sum, ink + (size_t)ahead * (size_t)width, width,
                       rows + (size_t)(ahead % window) * (size_t)width);
        if (y < 0)
            continue;
        for (int k = 0; k <= radius; k++) {
            above[k] = rows + (size_t)(mirror(y - k, height) % window) * (size_t)width;
            below[k] = rows + (size_t)(mirror(y + k, height) % window) * (size_t)width;
        }
        down_row(gauss, radius, sum, above, below, width, ink + (size_t)y * (size_t)width);
    }
}

CNN_WIDE_BODY void smooth_body(const gauss_taps *gauss, float *ink, int32_t height, int32_t width, float *rows)
{
    if (gauss->radius == MAX_RADIUS)
        smooth_radius(gauss, MAX_RADIUS, ink, height, width, rows);
    else
        smooth_radius(gauss, SMALL_RADIUS, ink, height, width, rows);
}

CNN_WIDE(static, smooth, smooth_body, (const gauss_taps *gauss, float *ink, int32_t height, int32_t width, float *rows),
         (gauss, ink, height, width, rows))

void cnn_ink_smooth(float *ink, int32_t height, int32_t width, float *scratch)
{
    int32_t shorter = height < width ? height : width, longer = height < width ? width : height;
    if (shorter < SMALL_SIDE)
        return;
    const gauss_taps *gauss = longer < LARGE_SIDE ? &gauss_small : &gauss_large;
    smooth(gauss, ink, height, width, scratch);
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

CNN_WIDE_BODY void mask_body(const float *ink, size_t count, float cut, uint8_t *mask)
{
    for (size_t i = 0; i < count; i++)
        mask[i] = ink[i] > cut;
}

CNN_WIDE(, cnn_ink_mask, mask_body, (const float *ink, size_t count, float cut, uint8_t *mask), (ink, count, cut, mask))

/* Ink becomes 0 at a quarter and 1 at three quarters of the way from paper to full. */
CNN_WIDE_BODY void soften_body(float *ink, size_t count, float paper, float full)
{
    for (size_t i = 0; i < count; i++) {
        const float soft = ((ink[i] - paper) / (full - paper) - 0.25f) * 2.0f;
        const float most = soft > 1 ? 1 : soft;
        ink[i] = soft < 0 ? 0 : most;
    }
}

CNN_WIDE(static, soften, soften_body, (float *ink, size_t count, float paper, float full), (ink, count, paper, full))

bool cnn_ink_threshold(float *ink, size_t count, cnn_cut kind, uint8_t *mask)
{
    float low, high, paper, full;
    cnn_extremes(ink, count, &low, &high);
    if (high - low < least_contrast)
        return false;
    float cut = kind == CNN_CUT_OTSU ? cnn_otsu(ink, count) : half_contrast(ink, count);
    if (!cnn_medians_beside(ink, count, cut, &paper, &full))
        return false;
    cnn_ink_mask(ink, count, cut, mask);
    soften(ink, count, paper, full);
    return true;
}
