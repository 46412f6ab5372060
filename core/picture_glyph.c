/* One digit on planes of its own: cut out, brought to a size that can be worked with, its strokes made as wide as
 * MNIST's. */
#include "core/picture.h"

#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    HALO = 2,   /* soft ink stays this far around a digit's parts */
    SMALL = 80, /* glyphs whose longest side is less are enlarged by a whole number, */
    LARGE = 512 /* and longer ones are shrunk to this */
};

/* Stroke widths in pixels of the 20-pixel box: outside thin..thick a width becomes the one beside. */
static const double thin = 1.6, thickened = 2.4, thick = 3.8, thinned = 3.4;

static cnn_status glyph_alloc(int32_t height, int32_t width, cnn_glyph *glyph)
{
    size_t count = (size_t)height * (size_t)width;
    *glyph = (cnn_glyph){height, width, cnn_calloc(count, sizeof(float)), cnn_calloc(count, 1)};
    if (glyph->ink && glyph->mask)
        return CNN_OK;
    cnn_glyph_free(glyph);
    return CNN_ERR_MEMORY;
}

void cnn_glyph_free(cnn_glyph *glyph)
{
    free(glyph->ink);
    free(glyph->mask);
    *glyph = (cnn_glyph){0};
}

static int32_t longest_side(const cnn_glyph *glyph)
{
    return glyph->height > glyph->width ? glyph->height : glyph->width;
}

/* ---- Cutting out ---- */

static bool near_digit(const cnn_parts *parts, int32_t digit, int32_t x, int32_t y)
{
    for (int32_t v = y - HALO; v <= y + HALO; v++)
        for (int32_t u = x - HALO; u <= x + HALO; u++)
            if (v >= 0 && v < parts->height && u >= 0 && u < parts->width && cnn_parts_digit_at(parts, u, v) == digit)
                return true;
    return false;
}

cnn_status cnn_glyph_cut(const float *ink, const cnn_parts *parts, int32_t digit, cnn_box box, cnn_glyph *glyph)
{
    cnn_status status = glyph_alloc(box.y1 - box.y0, box.x1 - box.x0, glyph);
    if (status != CNN_OK)
        return status;
    for (int32_t y = box.y0; y < box.y1; y++)
        for (int32_t x = box.x0; x < box.x1; x++) {
            size_t to = (size_t)(y - box.y0) * (size_t)glyph->width + (size_t)(x - box.x0);
            float value = ink[(size_t)y * (size_t)parts->width + (size_t)x];
            glyph->mask[to] = cnn_parts_digit_at(parts, x, y) == digit;
            glyph->ink[to] = value > 0 && (glyph->mask[to] || near_digit(parts, digit, x, y)) ? value : 0;
        }
    return CNN_OK;
}

/* ---- Masks and boxes ---- */

/* Makes the mask from the ink: where it is more than half of full or, when it is nowhere, of the most there is. */
static void mask_ink(cnn_glyph *glyph)
{
    size_t count = (size_t)glyph->height * (size_t)glyph->width;
    float most = 0;
    for (size_t i = 0; i < count; i++)
        most = glyph->ink[i] > most ? glyph->ink[i] : most;
    float cut = most > 0.5f ? 0.5f : 0.5f * most;
    for (size_t i = 0; i < count; i++)
        glyph->mask[i] = glyph->ink[i] > cut;
}

/* Crops the glyph to its mask, in place. It stays as it is when the mask is empty. */
static void crop(cnn_glyph *glyph)
{
    cnn_box box = {glyph->width, glyph->height, 0, 0};
    for (int32_t y = 0; y < glyph->height; y++)
        for (int32_t x = 0; x < glyph->width; x++) {
            if (!glyph->mask[(size_t)y * (size_t)glyph->width + (size_t)x])
                continue;
            box.x0 = x < box.x0 ? x : box.x0;
            box.y0 = y < box.y0 ? y : box.y0;
            box.x1 = x >= box.x1 ? x + 1 : box.x1;
            box.y1 = y >= box.y1 ? y + 1 : box.y1;
        }
    if (box.x1 == 0)
        return;
    int32_t height = box.y1 - box.y0, width = box.x1 - box.x0;
    for (int32_t y = 0; y < height; y++) {
        size_t to = (size_t)y * (size_t)width;
        size_t from = (size_t)(y + box.y0) * (size_t)glyph->width + (size_t)box.x0;
        memmove(glyph->ink + to, glyph->ink + from, (size_t)width * sizeof *glyph->ink);
        memmove(glyph->mask + to, glyph->mask + from, (size_t)width);
    }
    glyph->height = height;
    glyph->width = width;
}

/* Replaces the glyph by one with `margin` empty pixels on every side. */
static cnn_status pad(cnn_glyph *glyph, int32_t margin)
{
    cnn_glyph wide;
    cnn_status status = glyph_alloc(glyph->height + 2 * margin, glyph->width + 2 * margin, &wide);
    if (status != CNN_OK)
        return status;
    for (int32_t y = 0; y < glyph->height; y++) {
        size_t to = (size_t)(y + margin) * (size_t)wide.width + (size_t)margin;
        size_t from = (size_t)y * (size_t)glyph->width;
        memcpy(wide.ink + to, glyph->ink + from, (size_t)glyph->width * sizeof *wide.ink);
        memcpy(wide.mask + to, glyph->mask + from, (size_t)glyph->width);
    }
    cnn_glyph_free(glyph);
    *glyph = wide;
    return CNN_OK;
}

/* ---- Size ---- */

static void ink_row(const void *source, int32_t y, float *row)
{
    const cnn_glyph *glyph = source;
    memcpy(row, glyph->ink + (size_t)y * (size_t)glyph->width, (size_t)glyph->width * sizeof *row);
}

/* Replaces the glyph by itself in another size, with a mask from its ink. */
static cnn_status rescale(cnn_glyph *glyph, int32_t height, int32_t width)
{
    cnn_glyph scaled;
    cnn_status status = glyph_alloc(height, width, &scaled);
    if (status == CNN_OK)
        status = cnn_resample(ink_row, glyph, glyph->height, glyph->width, 1, height, width, scaled.ink);
    if (status != CNN_OK) {
        cnn_glyph_free(&scaled);
        return status;
    }
    cnn_glyph_free(glyph);
    *glyph = scaled;
    mask_ink(glyph);
    crop(glyph);
    return CNN_OK;
}

cnn_status cnn_glyph_resize(cnn_glyph *glyph)
{
    int32_t longest = longest_side(glyph);
    if (longest > LARGE) {
        int32_t height = (int32_t)((int64_t)glyph->height * LARGE / longest);
        int32_t width = (int32_t)((int64_t)glyph->width * LARGE / longest);
        return rescale(glyph, height > 0 ? height : 1, width > 0 ? width : 1);
    }
    if (longest >= SMALL)
        return CNN_OK;
    int32_t times = (SMALL + longest - 1) / longest;
    cnn_status status = pad(glyph, 1);
    return status == CNN_OK ? rescale(glyph, glyph->height * times, glyph->width * times) : status;
}

/* ---- Strokes ---- */

/* Whether the middle one of three rows is at its column not lower than around it. */
static bool is_highest(const float *above, const float *here, const float *below)
{
    float most = 0;
    for (int u = -1; u <= 1; u++) {
        most = above[u] > most ? above[u] : most;
        most = here[u] > most ? here[u] : most;
        most = below[u] > most ? below[u] : most;
    }
    return *here >= most;
}

/* The mean stroke width in pixels: twice the distance to the paper, along the ridge of that distance. */
static double stroke_width(const cnn_glyph *glyph, const float *distance)
{
    const int32_t width = glyph->width, end = width - 1;
    double sum = 0;
    int64_t ridge = 0;
    for (int32_t y = 1; y + 1 < glyph->height; y++) {
        const float *row = distance + (size_t)y * (size_t)width;
        const uint8_t *mask = glyph->mask + (size_t)y * (size_t)width;
        for (int32_t x = cnn_next_inked(mask, 1, end); x < end; x = cnn_next_inked(mask, x + 1, end))
            if (is_highest(row + x - width, row + x, row + x + width)) {
                sum += (double)row[x];
                ridge++;
            }
    }
    return ridge ? 2 * sum / (double)ridge - 1 : 0;
}

static float within(double ink)
{
    return (float)(ink < 0 ? 0 : ink > 1 ? 1 : ink);
}

/* Moves the outline outwards by `reach` pixels. The outline lies half a pixel from the outermost middles. */
static cnn_status grow(cnn_glyph *glyph, double reach)
{
    const int32_t margin = (int32_t)ceil(reach) + 1;
    cnn_status status = pad(glyph, margin);
    if (status != CNN_OK)
        return status;
    size_t count = (size_t)glyph->height * (size_t)glyph->width;
    float *distance = cnn_calloc(count, sizeof *distance);
    if (!distance)
        return CNN_ERR_MEMORY;
    status = cnn_distance_near(glyph->mask, 1, glyph->height, glyph->width, margin, distance);
    for (size_t i = 0; status == CNN_OK && i < count; i++)
        glyph->ink[i] = glyph->mask[i] ? 1 : within(reach - (double)distance[i] + 1);
    mask_ink(glyph);
    free(distance);
    return status;
}

/* Moves the outline inwards by `reach` pixels, or by less where that would break the drawing into more parts or leave
 * nothing of it. distance: from the paper */
static cnn_status shrink(cnn_glyph *glyph, double reach, const float *distance)
{
    enum { TRIES = 3 };
    size_t count = (size_t)glyph->height * (size_t)glyph->width;
    int32_t before, after = 0;
    cnn_status status = cnn_parts_count(glyph->mask, glyph->height, glyph->width, &before);
    for (int try = 0; status == CNN_OK && try < TRIES && (after == 0 || after > before); try++, reach /= 2) {
        for (size_t i = 0; i < count; i++)
            glyph->ink[i] = within((double)distance[i] - reach);
        mask_ink(glyph);
        status = cnn_parts_count(glyph->mask, glyph->height, glyph->width, &after);
    }
    return status;
}

cnn_status cnn_glyph_set_stroke(cnn_glyph *glyph)
{
    double longest = longest_side(glyph), scale = CNN_DIGIT_BOX / longest;
    cnn_status status = pad(glyph, 1);
    if (status != CNN_OK)
        return status;
    float *distance = cnn_calloc((size_t)glyph->height * (size_t)glyph->width, sizeof *distance);
    if (!distance)
        return CNN_ERR_MEMORY;
    status = cnn_distance(glyph->mask, 0, glyph->height, glyph->width, distance);
    double width = stroke_width(glyph, distance) * scale;
    if (status == CNN_OK && width > thick)
        status = shrink(glyph, (width - thinned) / 2 / scale, distance);
    if (status == CNN_OK && width < thin) /* the drawing's longest side grows along, hence not divided by scale */
        status = grow(glyph, (thickened - width) / 2 * longest / (CNN_DIGIT_BOX - thickened + width));
    free(distance);
    crop(glyph);
    return status;
}
