/* Serifs: a 1 gets the flag, and often the foot, that Europeans write; a 7 a bar through its stem. A network that has
 * seen plain 1s alone reads a 1 with a long flag as 7.
 *
 * The stem of a 1 is the main axis of its ink: the eigenvector of its covariance. The flag falls from its upper end,
 * turned away from it to the left but never as flat as the top of a 7; the foot lies across its lower end. The bar
 * crosses a 7 where its ink is between half height and two thirds. Strokes have soft edges, the digit's own width and
 * its brightest value, and cover what lies under them only where they are brighter. */
#include "train/augment_plane.h"

#include <math.h>

typedef struct point {
    float x, y;
} point;

/* Half of the width of a stroke's edge in pixels, as in MNIST. */
static const float edge = 0.7f;
static const float flattest = 0.42f; /* sine of the least angle between flag and horizon, 25 degrees */
enum { FAINT = 64, THINNEST = 1, THICKEST = 5 };

typedef struct digit {
    float ink, top_value;
    point centre;
    point along; /* the main axis, downwards, length 1 */
    float width; /* of strokes */
} digit;

/* ---- Measuring ---- */

float cnn_plane_stroke_width(const cnn_plane *plane)
{
    const int32_t channels = plane->channels;
    float ink = 0.0f, edges = 0.0f;
    for (int32_t y = -1; y < plane->height; y++) {
        const float *row = cnn_plane_at(plane, y, -1), *below = cnn_plane_at(plane, y + 1, -1);
        for (int32_t i = 0; i < (plane->width + 1) * channels; i++) {
            const float dx = row[i + channels] - row[i], dy = below[i] - row[i];
            ink += row[i];
            edges += sqrtf(dx * dx + dy * dy);
        }
    }
    return edges > 0.0f ? 2.0f * ink / edges : 0.0f;
}

static digit measure(const cnn_plane *plane)
{
    digit d = {.along = {0, 1}};
    float x_sum = 0, y_sum = 0, xx = 0, xy = 0, yy = 0;
    for (int32_t y = 0; y < plane->height; y++)
        for (int32_t x = 0; x < plane->width; x++) {
            const float value = *cnn_plane_at(plane, y, x);
            d.ink += value;
            d.top_value = value > d.top_value ? value : d.top_value;
            x_sum += value * (float)x;
            y_sum += value * (float)y;
            xx += value * (float)(x * x);
            xy += value * (float)(x * y);
            yy += value * (float)(y * y);
        }
    if (!(d.ink > 0.0f))
        return d;
    d.centre = (point){x_sum / d.ink, y_sum / d.ink};
    /* (difference, twice the mixed moment) points at twice the axis' angle from x; halve it. */
    const float difference = xx / d.ink - d.centre.x * d.centre.x - (yy / d.ink - d.centre.y * d.centre.y);
    const float mixed = 2.0f * (xy / d.ink - d.centre.x * d.centre.y);
    const float length = sqrtf(difference * difference + mixed * mixed);
    if (length > 0.0f) {
        const float cosine = difference / length;
        d.along.x = sqrtf(cnn_higher(0.0f, 0.5f * (1.0f + cosine))) * (mixed < 0.0f ? -1.0f : 1.0f);
        d.along.y = sqrtf(cnn_higher(0.0f, 0.5f * (1.0f - cosine)));
    }
    d.width = cnn_lower(cnn_higher(cnn_plane_stroke_width(plane), THINNEST), THICKEST);
    return d;
}

/* Ink between two distances from the centre along a direction: its centre, and how far it reaches across. */
typedef struct slice {
    point centre;
    float across[2];
    bool any;
} slice;

static slice cut(const cnn_plane *plane, point centre, point along, float from, float to)
{
    slice found = {.across = {INFINITY, -INFINITY}};
    float ink = 0.0f;
    for (int32_t y = 0; y < plane->height; y++)
        for (int32_t x = 0; x < plane->width; x++) {
            const float dx = (float)x - centre.x, dy = (float)y - centre.y, value = *cnn_plane_at(plane, y, x);
            const float at = dx * along.x + dy * along.y, across = dx * along.y - dy * along.x;
            if (value < FAINT || at < from || at > to)
                continue;
            ink += value;
            found.centre.x += value * (float)x;
            found.centre.y += value * (float)y;
            found.across[0] = cnn_lower(found.across[0], across);
            found.across[1] = cnn_higher(found.across[1], across);
        }
    found.any = ink > 0.0f;
    if (found.any)
        found.centre = (point){found.centre.x / ink, found.centre.y / ink};
    return found;
}

/* Where the ink begins and ends along a direction. */
static void reach(const cnn_plane *plane, point centre, point along, float range[2])
{
    range[0] = INFINITY;
    range[1] = -INFINITY;
    for (int32_t y = 0; y < plane->height; y++)
        for (int32_t x = 0; x < plane->width; x++) {
            const float at = ((float)x - centre.x) * along.x + ((float)y - centre.y) * along.y;
            if (*cnn_plane_at(plane, y, x) < FAINT)
                continue;
            range[0] = cnn_lower(range[0], at);
            range[1] = cnn_higher(range[1], at);
        }
}

/* ---- Drawing ---- */

/* A straight stroke with round ends. */
static void draw_stroke(cnn_plane *plane, point a, point b, float width, float value)
{
    const float dx = b.x - a.x, dy = b.y - a.y, square = dx * dx + dy * dy;
    for (int32_t y = 0; y < plane->height; y++)
        for (int32_t x = 0; x < plane->width; x++) {
            const float px = (float)x - a.x, py = (float)y - a.y;
            const float share = square > 0.0f ? cnn_lower(cnn_higher((px * dx + py * dy) / square, 0.0f), 1.0f) : 0.0f;
            const float ex = px - share * dx, ey = py - share * dy;
            const float inside = (0.5f * width + edge - sqrtf(ex * ex + ey * ey)) / (2.0f * edge);
            const float ink = value * cnn_lower(cnn_higher(inside, 0.0f), 1.0f);
            float *pixel = cnn_plane_at(plane, y, x);
            *pixel = ink > *pixel ? ink : *pixel;
        }
}

static point go(point from, const float along[2], float length)
{
    return (point){from.x + along[0] * length, from.y + along[1] * length};
}

/* The stem's direction turned to the left and kept from lying flat. */
static void flag_direction(const cnn_augment_serif *serif, point stem, float along[2])
{
    const float cosine = serif->flag_turn[0], sine = serif->flag_turn[1];
    along[0] = stem.x * cosine - stem.y * sine;
    along[1] = stem.x * sine + stem.y * cosine;
    if (along[1] < flattest) {
        along[0] = -sqrtf(1.0f - flattest * flattest);
        along[1] = flattest;
    }
}

static void draw_on_one(const cnn_augment_serif *serif, const digit *d, cnn_plane *plane)
{
    float range[2];
    reach(plane, d->centre, d->along, range);
    const float height = range[1] - range[0], width = d->width * serif->width;
    const slice top = cut(plane, d->centre, d->along, range[0], range[0] + d->width);
    const slice bottom = cut(plane, d->centre, d->along, range[1] - d->width, range[1]);
    const slice upper = cut(plane, d->centre, d->along, range[0], range[0] + 0.45f * height);
    if (!top.any || !bottom.any)
        return;
    if (serif->flag && upper.across[1] - upper.across[0] < 3.0f * d->width) { /* it has none yet */
        float along[2];
        flag_direction(serif, d->along, along);
        draw_stroke(plane, top.centre, go(top.centre, along, serif->flag_length * height), width, d->top_value);
    }
    if (serif->foot && bottom.across[1] - bottom.across[0] < 2.5f * d->width)
        draw_stroke(plane, go(bottom.centre, serif->foot_along, -serif->foot_length[0] * height),
                    go(bottom.centre, serif->foot_along, serif->foot_length[1] * height), width, d->top_value);
}

static void draw_on_seven(const cnn_augment_serif *serif, const digit *d, cnn_plane *plane)
{
    const point down = {0, 1};
    float range[2];
    reach(plane, d->centre, down, range);
    const float height = range[1] - range[0], at = range[0] + serif->bar_height * height;
    const slice stem = cut(plane, d->centre, down, at - 1.0f, at + 1.0f);
    if (!stem.any || stem.across[1] - stem.across[0] > 2.5f * d->width) /* it has a bar, or no stem there */
        return;
    draw_stroke(plane, go(stem.centre, serif->bar_along, -serif->bar_length * height),
                go(stem.centre, serif->bar_along, serif->bar_length * height), d->width * serif->width, d->top_value);
}

cnn_plane_shift cnn_augment_draw_serif(const cnn_augment_serif *serif, cnn_plane *plane)
{
    const digit before = measure(plane);
    if (!(before.ink > 0.0f))
        return (cnn_plane_shift){0, 0};
    if (serif->flag || serif->foot)
        draw_on_one(serif, &before, plane);
    if (serif->bar)
        draw_on_seven(serif, &before, plane);
    const digit after = measure(plane);
    return (cnn_plane_shift){after.centre.x - before.centre.x, after.centre.y - before.centre.y};
}
