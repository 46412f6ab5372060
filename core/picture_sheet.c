/* A sheet of paper in a frame or on a table: the part of the picture to look at. Its surroundings are seen on three
 * sides at least; what has them on fewer may be one half of the paper, the other one in a shadow. */
#include "core/picture.h"

#include <math.h>

enum { LEAST_SIDES = 3, LEAST_HEIGHT = 16, LEAST_WIDTH = 8, LEAST_INSET = 2 };

static const double least_area = 0.35, most_area = 0.995; /* of the sheet's box, as shares of the picture */
static const double least_fill = 0.7;                     /* of that box */
static const double inset_share = 0.03;                   /* the sheet's edge is left out */
static const float least_range = 0.15f;                   /* of luma inside: something is drawn on it */

static const cnn_part *largest_part(const cnn_parts *parts)
{
    const cnn_part *largest = &parts->part[0];
    for (int32_t i = 1; i < parts->count; i++)
        if (parts->part[i].size > largest->size)
            largest = &parts->part[i];
    return largest;
}

static bool is_sheet(const cnn_parts *parts, const cnn_part *part)
{
    double area = (double)(part->box.x1 - part->box.x0) * (part->box.y1 - part->box.y0);
    double share = area / ((double)parts->height * parts->width);
    int inside =
        (part->box.x0 > 0) + (part->box.y0 > 0) + (part->box.x1 < parts->width) + (part->box.y1 < parts->height);
    return inside >= LEAST_SIDES && share >= least_area && share <= most_area && part->size >= least_fill * area;
}

bool cnn_sheet_is_drawn_on(float *rgb, int32_t width, cnn_box box)
{
    float *luma = rgb; /* never behind the pixel that is read */
    size_t count = 0;
    for (int32_t y = box.y0; y < box.y1; y++)
        for (int32_t x = box.x0; x < box.x1; x++) {
            const float *p = rgb + 3 * ((size_t)y * (size_t)width + (size_t)x);
            luma[count++] = 0.299f * p[0] + 0.587f * p[1] + 0.114f * p[2];
        }
    return cnn_quantile(luma, count, 0.995) - cnn_quantile(luma, count, 0.005) >= least_range;
}

bool cnn_sheet_may_be(const float *ink, size_t count)
{
    const double spare = 0.99; /* what is_sheet rounds */
    const float cut = cnn_otsu(ink, count);
    size_t inked = 0;
    for (size_t i = 0; i < count; i++)
        inked += ink[i] > cut;
    return (double)inked >= spare * least_fill * least_area * (double)count;
}

bool cnn_sheet_find(const cnn_parts *parts, cnn_box *sheet)
{
    if (parts->count == 0)
        return false;
    const cnn_part *part = largest_part(parts);
    if (!is_sheet(parts, part))
        return false;
    cnn_box box = part->box;
    int32_t rows = box.y1 - box.y0, columns = box.x1 - box.x0;
    int32_t inset = (int32_t)(inset_share * (rows < columns ? rows : columns) + 0.5);
    if (inset < LEAST_INSET)
        inset = LEAST_INSET;
    if (rows - 2 * inset < LEAST_HEIGHT || columns - 2 * inset < LEAST_WIDTH)
        return false;
    *sheet = (cnn_box){box.x0 + inset, box.y0 + inset, box.x1 - inset, box.y1 - inset};
    return true;
}
