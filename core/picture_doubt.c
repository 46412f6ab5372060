/* Whether the ink that was found can be writing, so that another way to find it is tried when it can hardly be.
 *
 * Shadows, tables under sheets and what a light that was fitted badly leaves are solid, run along the border, or fade
 * out where writing ends sharply; noise is scattered. */
#include "core/picture.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

enum { FEW_PARTS = 3, EDGE_REACH = 2 };

static const double solid_share = 0.5;    /* writing is not thicker than this share of its longest side */
static const double thick_share = 0.3;    /* nor, where it is cropped tightly, than this one */
static const double wide_share = 0.4;     /* surroundings with this share of their box's area are no strip or frame */
static const double faint_quantile = 0.2; /* of the steps at the edges of what was written this one... */
static const double sharp_step = 0.5;     /* ...is at least so large; ink is 1 */
static const double part_doubt = 0.15;    /* for each part beyond FEW_PARTS */

/* Sets thickness [count]: twice the largest distance of a part's pixels from the paper. What lies outside of the box
 * around all parts is paper; a margin of it stands for the rest. */
static cnn_status measure_thickness(const cnn_parts *parts, const uint8_t *mask, float *thickness)
{
    cnn_box all = cnn_parts_box(parts);
    all = (cnn_box){all.x0 > 0 ? all.x0 - 1 : 0, all.y0 > 0 ? all.y0 - 1 : 0,
                    all.x1 < parts->width ? all.x1 + 1 : parts->width,
                    all.y1 < parts->height ? all.y1 + 1 : parts->height};
    const int32_t height = all.y1 - all.y0, width = all.x1 - all.x0;
    float *distance = cnn_calloc((size_t)height * (size_t)width, sizeof *distance);
    uint8_t *cut = cnn_calloc((size_t)height * (size_t)width, 1);
    cnn_status status = distance && cut ? CNN_OK : CNN_ERR_MEMORY;
    for (int32_t y = 0; status == CNN_OK && y < height; y++)
        memcpy(cut + (size_t)y * (size_t)width, mask + (size_t)(all.y0 + y) * (size_t)parts->width + (size_t)all.x0,
               (size_t)width);
    if (status == CNN_OK)
        status = cnn_distance(cut, 0, height, width, distance);
    for (int32_t y = 0; status == CNN_OK && y < height; y++) {
        const uint8_t *row = cut + (size_t)y * (size_t)width;
        for (int32_t x = cnn_next_inked(row, 0, width); x < width; x = cnn_next_inked(row, x + 1, width)) {
            const int32_t label = parts->label[(size_t)(all.y0 + y) * (size_t)parts->width + (size_t)(all.x0 + x)];
            const float thick = 2 * distance[(size_t)y * (size_t)width + (size_t)x];
            if (thick > thickness[label - 1])
                thickness[label - 1] = thick;
        }
    }
    free(distance);
    free(cut);
    return status;
}

static bool is_kept(const cnn_parts *parts, size_t i)
{
    return parts->label[i] && parts->part[parts->label[i] - 1].kept;
}

/* The difference between most and least ink around a pixel. */
static float step_at(const cnn_parts *parts, const float *ink, int32_t x, int32_t y)
{
    float low = 1, high = 0;
    for (int32_t v = y > EDGE_REACH ? y - EDGE_REACH : 0; v <= y + EDGE_REACH && v < parts->height; v++)
        for (int32_t u = x > EDGE_REACH ? x - EDGE_REACH : 0; u <= x + EDGE_REACH && u < parts->width; u++) {
            float value = ink[(size_t)v * (size_t)parts->width + (size_t)u];
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
    return high - low;
}

/* The step that the faintest edges of what is kept have; 1 when nothing has an edge. */
static cnn_status faintest_step(const cnn_parts *parts, const float *ink, const uint8_t *mask, double *step)
{
    size_t width = (size_t)parts->width, edges = 0, kept = 0;
    for (int32_t i = 0; i < parts->count; i++)
        kept += parts->part[i].kept ? (size_t)parts->part[i].size : 0;
    float *steps = cnn_calloc(kept, sizeof *steps);
    if (!steps)
        return CNN_ERR_MEMORY;
    const cnn_box all = cnn_parts_box(parts);
    const int32_t first = all.x0 > 1 ? all.x0 : 1, end = all.x1 < parts->width ? all.x1 : parts->width - 1;
    for (int32_t y = all.y0 > 1 ? all.y0 : 1; y < all.y1 && y + 1 < parts->height; y++) {
        const uint8_t *row = mask + (size_t)y * width;
        for (int32_t x = cnn_next_inked(row, first, end); x < end; x = cnn_next_inked(row, x + 1, end)) {
            size_t i = (size_t)y * width + (size_t)x;
            if (is_kept(parts, i) &&
                !(parts->label[i - 1] && parts->label[i + 1] && parts->label[i - width] && parts->label[i + width]))
                steps[edges++] = step_at(parts, ink, x, y);
        }
    }
    *step = edges ? (double)cnn_quantile(steps, edges, faint_quantile) : 1;
    free(steps);
    return CNN_OK;
}

/* A solid part, or one that lies along the border and is no tightly cropped digit. */
static bool is_doubtful(const cnn_part *part, double thickness)
{
    double longest = cnn_box_longest(&part->box);
    return thickness > solid_share * longest || part->edge > longest ||
           (cnn_part_lies_along_border(part) && thickness > thick_share * longest);
}

/* Whether a part lies in wide surroundings: then these are the paper, and the part is what a digit surrounds. */
static bool is_hole(const cnn_parts *parts, const cnn_part *part)
{
    int32_t x = (part->box.x0 + part->box.x1) / 2, y = (part->box.y0 + part->box.y1) / 2;
    for (int32_t i = 0; i < parts->count; i++) {
        const cnn_part *other = &parts->part[i];
        const cnn_box *box = &other->box;
        double area = (double)(box->x1 - box->x0) * (box->y1 - box->y0);
        if (other->surroundings && other->size > wide_share * area && x >= box->x0 && x < box->x1 && y >= box->y0 &&
            y < box->y1)
            return true;
    }
    return false;
}

cnn_status cnn_parts_doubt(const cnn_parts *parts, const float *ink, const uint8_t *mask, double *doubt)
{
    cnn_status status = CNN_OK;
    double kept = 0, doubtful = 0, specks = 0, step = 1;
    int32_t kept_count = 0;
    float *thickness = cnn_calloc((size_t)parts->count, sizeof *thickness);
    status = thickness ? measure_thickness(parts, mask, thickness) : CNN_ERR_MEMORY;
    for (int32_t i = 0; status == CNN_OK && i < parts->count; i++) {
        const cnn_part *part = &parts->part[i];
        if (!part->kept) {
            specks += part->surroundings ? 0 : part->size;
            continue;
        }
        kept += part->size;
        kept_count++;
        doubtful += is_doubtful(part, (double)thickness[i]) || is_hole(parts, part) ? part->size : 0;
    }
    free(thickness);
    if (status == CNN_OK)
        status = faintest_step(parts, ink, mask, &step);
    *doubt = kept > 0 ? doubtful / kept : 2;
    *doubt += specks > kept ? 1 : 0;
    *doubt += kept_count > FEW_PARTS ? part_doubt * (kept_count - FEW_PARTS) : 0;
    *doubt += step < sharp_step ? (sharp_step - step) / sharp_step : 0;
    return status;
}
