/* Serifs: a 1 gets the flag, and often the foot, that Europeans write; a 7 a bar through its stem. A network that has
 * seen plain 1s alone reads a 1 with a long flag as 7.
 *
 * The stem of a 1 is the main axis of its ink: the eigenvector of its covariance. The flag falls from its upper end,
 * turned away from it to the left but never as flat as the top of a 7; the foot lies across its lower end. The bar
 * crosses a 7 where its ink is between half height and two thirds. Strokes have soft edges, the digit's own width and
 * its brightest value, and cover what lies under them only where they are brighter. */
#ifndef CNN_AUGMENT_SERIF_H
#define CNN_AUGMENT_SERIF_H

#include "kernels/augment/plane.h"

typedef struct augment_point {
    float x, y;
} augment_point;

#define CNN_SERIF_EDGE 0.7f      /* half of the width of a stroke's edge in pixels, as in MNIST */
#define CNN_SERIF_FLATTEST 0.42f /* sine of the least angle between flag and horizon, 25 degrees */
enum { CNN_SERIF_FAINT = 64, CNN_SERIF_THINNEST = 1, CNN_SERIF_THICKEST = 5 };

typedef struct augment_digit {
    float ink, top_value;
    augment_point centre;
    augment_point along; /* the main axis, downwards, length 1 */
    float width;         /* of strokes */
} augment_digit;

CNN_STEP augment_point augment_point_at(float x, float y)
{
    augment_point point;
    point.x = x;
    point.y = y;
    return point;
}

/* ---- Measuring ---- */

/* Sum `kind` of the ink: 0 itself, 1 x, 2 y, 3 x*x, 4 x*y, 5 y*y; 6: the brightest value. */
CNN_STEP float augment_moment(const cnn_plane *plane, int32_t kind)
{
    float total = 0.0f;
    for (int32_t y = 0; y < plane->height; y++)
        for (int32_t x = 0; x < plane->width; x++) {
            const float value = *cnn_plane_at(plane, y, x);
            if (kind == 6) {
                total = value > total ? value : total;
                continue;
            }
            const int32_t factor = kind == 1 ? x : kind == 2 ? y : kind == 3 ? x * x : kind == 4 ? x * y : y * y;
            total += kind == 0 ? value : value * (float)factor;
        }
    return total;
}

CNN_STEP augment_digit augment_measure(const cnn_plane *plane, const cnn_plane *spare, float *sums)
{
    augment_digit d = {0, 0, {0, 0}, {0, 1}, 0};
    for (int32_t kind = CNN_STEP_SUM; kind < 7; kind += CNN_STEP_SUMS)
        sums[kind] = augment_moment(plane, kind);
    CNN_STEP_SYNC();
    const float x_sum = sums[1], y_sum = sums[2], xx = sums[3], xy = sums[4], yy = sums[5];
    d.ink = sums[0];
    d.top_value = sums[6];
    CNN_STEP_SYNC();
    if (!(d.ink > 0.0f))
        return d;
    d.centre = augment_point_at(x_sum / d.ink, y_sum / d.ink);
    /* (difference, twice the mixed moment) points at twice the axis' angle from x; halve it. */
    const float difference = xx / d.ink - d.centre.x * d.centre.x - (yy / d.ink - d.centre.y * d.centre.y);
    const float mixed = 2.0f * (xy / d.ink - d.centre.x * d.centre.y);
    const float length = sqrtf(difference * difference + mixed * mixed);
    if (length > 0.0f) {
        const float cosine = difference / length;
        d.along.x = sqrtf(cnn_higher(0.0f, 0.5f * (1.0f + cosine))) * (mixed < 0.0f ? -1.0f : 1.0f);
        d.along.y = sqrtf(cnn_higher(0.0f, 0.5f * (1.0f - cosine)));
    }
    d.width = cnn_lower(cnn_higher(augment_stroke_width(plane, spare, sums), CNN_SERIF_THINNEST), CNN_SERIF_THICKEST);
    return d;
}

/* Ink between two distances from the centre along a direction: its centre, and how far it reaches across. */
typedef struct augment_slice {
    augment_point centre;
    float across[2];
    bool any;
} augment_slice;

/* Sum `kind` of the slice: 0 ink, 1 x, 2 y; 3, 4: where it begins and ends across. */
CNN_STEP float augment_slice_sum(const cnn_plane *plane, augment_point centre, augment_point along, float from,
                                 float to, int32_t kind)
{
    float total = kind == 3 ? INFINITY : kind == 4 ? -INFINITY : 0.0f;
    for (int32_t y = 0; y < plane->height; y++)
        for (int32_t x = 0; x < plane->width; x++) {
            const float dx = (float)x - centre.x, dy = (float)y - centre.y, value = *cnn_plane_at(plane, y, x);
            const float at = dx * along.x + dy * along.y, across = dx * along.y - dy * along.x;
            if (value < (float)CNN_SERIF_FAINT || at < from || at > to)
                continue;
            if (kind < 3)
                total += kind == 0 ? value : value * (float)(kind == 1 ? x : y);
            else
                total = kind == 3 ? cnn_lower(total, across) : cnn_higher(total, across);
        }
    return total;
}

CNN_STEP augment_slice augment_cut(const cnn_plane *plane, augment_point centre, augment_point along, float from,
                                   float to, float *sums)
{
    augment_slice found;
    for (int32_t kind = CNN_STEP_SUM; kind < 5; kind += CNN_STEP_SUMS)
        sums[kind] = augment_slice_sum(plane, centre, along, from, to, kind);
    CNN_STEP_SYNC();
    const float ink = sums[0];
    found.any = ink > 0.0f;
    found.centre = augment_point_at(sums[1], sums[2]);
    found.across[0] = sums[3];
    found.across[1] = sums[4];
    if (found.any)
        found.centre = augment_point_at(found.centre.x / ink, found.centre.y / ink);
    CNN_STEP_SYNC();
    return found;
}

/* Where the ink begins and ends along a direction. */
CNN_STEP void augment_reach(const cnn_plane *plane, augment_point centre, augment_point along, float *sums,
                            float range[2])
{
    for (int32_t end = CNN_STEP_SUM; end < 2; end += CNN_STEP_SUMS) {
        float most = end == 0 ? INFINITY : -INFINITY;
        for (int32_t y = 0; y < plane->height; y++)
            for (int32_t x = 0; x < plane->width; x++) {
                const float at = ((float)x - centre.x) * along.x + ((float)y - centre.y) * along.y;
                if (*cnn_plane_at(plane, y, x) < (float)CNN_SERIF_FAINT)
                    continue;
                most = end == 0 ? cnn_lower(most, at) : cnn_higher(most, at);
            }
        sums[end] = most;
    }
    CNN_STEP_SYNC();
    range[0] = sums[0];
    range[1] = sums[1];
    CNN_STEP_SYNC();
}

/* ---- Drawing ---- */

/* A straight stroke with round ends. */
CNN_STEP void augment_draw_stroke(const cnn_plane *plane, augment_point a, augment_point b, float width, float value)
{
    const float dx = b.x - a.x, dy = b.y - a.y, square = dx * dx + dy * dy;
    for (int32_t y = CNN_STEP_ROW; y < plane->height; y += CNN_STEP_ROWS)
        for (int32_t x = CNN_STEP_COLUMN; x < plane->width; x += CNN_STEP_COLUMNS) {
            const float px = (float)x - a.x, py = (float)y - a.y;
            const float share = square > 0.0f ? cnn_lower(cnn_higher((px * dx + py * dy) / square, 0.0f), 1.0f) : 0.0f;
            const float ex = px - share * dx, ey = py - share * dy;
            const float inside = (0.5f * width + CNN_SERIF_EDGE - sqrtf(ex * ex + ey * ey)) / (2.0f * CNN_SERIF_EDGE);
            const float ink = value * cnn_lower(cnn_higher(inside, 0.0f), 1.0f);
            float *pixel = cnn_plane_at(plane, y, x);
            *pixel = ink > *pixel ? ink : *pixel;
        }
    CNN_STEP_SYNC();
}

CNN_STEP augment_point augment_go(augment_point from, const float along[2], float length)
{
    return augment_point_at(from.x + along[0] * length, from.y + along[1] * length);
}

/* The stem's direction turned to the left and kept from lying flat. */
CNN_STEP void augment_flag_direction(const cnn_augment_serif *serif, augment_point stem, float along[2])
{
    const float cosine = serif->flag_turn[0], sine = serif->flag_turn[1];
    along[0] = stem.x * cosine - stem.y * sine;
    along[1] = stem.x * sine + stem.y * cosine;
    if (along[1] < CNN_SERIF_FLATTEST) {
        along[0] = -sqrtf(1.0f - CNN_SERIF_FLATTEST * CNN_SERIF_FLATTEST);
        along[1] = CNN_SERIF_FLATTEST;
    }
}

CNN_STEP void augment_draw_on_one(const cnn_augment_serif *serif, const augment_digit *d, const cnn_plane *plane,
                                  float *sums)
{
    float range[2];
    augment_reach(plane, d->centre, d->along, sums, range);
    const float height = range[1] - range[0], width = d->width * serif->width;
    const augment_slice top = augment_cut(plane, d->centre, d->along, range[0], range[0] + d->width, sums);
    const augment_slice bottom = augment_cut(plane, d->centre, d->along, range[1] - d->width, range[1], sums);
    const augment_slice upper = augment_cut(plane, d->centre, d->along, range[0], range[0] + 0.45f * height, sums);
    if (!top.any || !bottom.any)
        return;
    if (serif->flag && upper.across[1] - upper.across[0] < 3.0f * d->width) { /* it has none yet */
        float along[2];
        augment_flag_direction(serif, d->along, along);
        augment_draw_stroke(plane, top.centre, augment_go(top.centre, along, serif->flag_length * height), width,
                            d->top_value);
    }
    if (serif->foot && bottom.across[1] - bottom.across[0] < 2.5f * d->width)
        augment_draw_stroke(plane, augment_go(bottom.centre, serif->foot_along, -serif->foot_length[0] * height),
                            augment_go(bottom.centre, serif->foot_along, serif->foot_length[1] * height), width,
                            d->top_value);
}

CNN_STEP void augment_draw_on_seven(const cnn_augment_serif *serif, const augment_digit *d, const cnn_plane *plane,
                                    float *sums)
{
    const augment_point down = {0, 1};
    float range[2];
    augment_reach(plane, d->centre, down, sums, range);
    const float height = range[1] - range[0], at = range[0] + serif->bar_height * height;
    const augment_slice stem = augment_cut(plane, d->centre, down, at - 1.0f, at + 1.0f, sums);
    if (!stem.any || stem.across[1] - stem.across[0] > 2.5f * d->width) /* it has a bar, or no stem there */
        return;
    augment_draw_stroke(plane, augment_go(stem.centre, serif->bar_along, -serif->bar_length * height),
                        augment_go(stem.centre, serif->bar_along, serif->bar_length * height), d->width * serif->width,
                        d->top_value);
}

/* Draws the serif's strokes on a digit, as bright as the brightest pixel. Only on one channel; the border is 0 and
 * stays it. spare is overwritten. */
CNN_STEP cnn_plane_shift augment_draw_serif(const cnn_augment_serif *serif, const cnn_plane *plane,
                                            const cnn_plane *spare, float *sums)
{
    cnn_plane_shift shift = {0, 0};
    const augment_digit before = augment_measure(plane, spare, sums);
    if (!(before.ink > 0.0f))
        return shift;
    if (serif->flag || serif->foot)
        augment_draw_on_one(serif, &before, plane, sums);
    if (serif->bar)
        augment_draw_on_seven(serif, &before, plane, sums);
    const augment_digit after = augment_measure(plane, spare, sums);
    shift.x = after.centre.x - before.centre.x;
    shift.y = after.centre.y - before.centre.y;
    return shift;
}

#endif
