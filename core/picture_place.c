/* Puts the ink of one digit into 28x28 as the makers of MNIST did: longest side 20 px, proportions kept, centre of
 * mass in the middle. */
#include "core/picture.h"

#include "core/error.h"

#include <string.h>

enum { BOX_VALUES = CNN_DIGIT_BOX * CNN_DIGIT_BOX, MIDDLE = CNN_DIGIT_SIDE / 2 };

static void ink_row(const void *source, int32_t y, float *row)
{
    const cnn_glyph *glyph = source;
    memcpy(row, glyph->ink + (size_t)y * (size_t)glyph->width, (size_t)glyph->width * sizeof *row);
}

/* Length of a side when the longest becomes CNN_DIGIT_BOX. */
static int32_t scaled(int32_t side, int32_t longest)
{
    int32_t result = (2 * side * CNN_DIGIT_BOX + longest) / (2 * longest);
    return result < 1 ? 1 : result;
}

/* The value below which 90 % of the inked values lie, interpolated between neighbours. Inked is more than a tenth of
 * the brightest. */
static float ninetieth(const float *values, int32_t count)
{
    float sorted[BOX_VALUES], brightest = 0;
    int32_t inked = 0;
    for (int32_t i = 0; i < count; i++)
        brightest = values[i] > brightest ? values[i] : brightest;
    for (int32_t i = 0; i < count; i++) {
        if (values[i] <= 0.1f * brightest)
            continue;
        int32_t k = inked++;
        for (; k > 0 && sorted[k - 1] > values[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = values[i];
    }
    if (inked == 0)
        return 0;
    float at = 0.9f * (float)(inked - 1);
    int32_t below = (int32_t)at, above = below + 1 < inked ? below + 1 : below;
    return sorted[below] + (at - (float)below) * (sorted[above] - sorted[below]);
}

/* First row or column so that the centre of mass comes closest to the middle and all fits. */
static int32_t offset(double centre, int32_t side)
{
    int32_t first = (int32_t)(MIDDLE + 0.5 - centre); /* centre <= 19: not negative, so this rounds */
    int32_t last = CNN_DIGIT_SIDE - side;
    return first < 0 ? 0 : first > last ? last : first;
}

cnn_status cnn_glyph_place(const cnn_glyph *glyph, uint8_t *pixels)
{
    float small[BOX_VALUES];
    int32_t longest = glyph->height > glyph->width ? glyph->height : glyph->width;
    int32_t rows = scaled(glyph->height, longest), columns = scaled(glyph->width, longest);
    cnn_status status = cnn_resample(ink_row, glyph, glyph->height, glyph->width, 1, rows, columns, small);
    if (status != CNN_OK)
        return status;
    float full = ninetieth(small, rows * columns);
    if (!(full > 0))
        return cnn_error(CNN_ERR_FORMAT, "no ink stands out from the paper");
    double mass = 0, mass_x = 0, mass_y = 0;
    for (int32_t i = 0; i < rows * columns; i++) {
        small[i] = small[i] < full ? small[i] / full : 1.0f;
        mass += (double)small[i];
        mass_x += (double)small[i] * (i % columns);
        mass_y += (double)small[i] * (i / columns);
    }
    int32_t left = offset(mass_x / mass, columns), top = offset(mass_y / mass, rows);
    memset(pixels, 0, CNN_DIGIT_SIDE * CNN_DIGIT_SIDE);
    for (int32_t i = 0; i < rows * columns; i++)
        pixels[(top + i / columns) * CNN_DIGIT_SIDE + left + i % columns] = (uint8_t)(small[i] * 255.0f + 0.5f);
    return CNN_OK;
}
