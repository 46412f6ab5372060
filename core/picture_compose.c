/* Alpha: puts a picture on the paper that its maker most likely saw it on. */
#include "core/picture.h"

#include "core/memory.h"
#include "core/wide.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS = 1 << 16, OPAQUE = 65535, COLOURS = CNN_PICTURE_COLOURS };

/* Luma weights of Rec. 601. */
static const double luma[3] = {0.299, 0.587, 0.114};

typedef struct composed {
    const cnn_picture *picture;
    const float *paper; /* [3] */
    cnn_box view;
    float colour[COLOURS][3]; /* of a picture with an index, on the paper */
} composed;

void cnn_picture_count_colours(const cnn_picture *picture, cnn_box view, uint32_t counts[COLOURS])
{
    enum { COUNTERS = 4 }; /* for each colour, so that equal ones in a row do not wait for each other */
    uint32_t some[COUNTERS][COLOURS] = {{0}};
    for (int32_t y = view.y0; y < view.y1; y++) {
        const uint8_t *row = picture->index + (size_t)y * (size_t)picture->width;
        int32_t x = view.x0;
        for (; x + COUNTERS <= view.x1; x += COUNTERS)
            for (int k = 0; k < COUNTERS; k++)
                some[k][row[x + k]]++;
        for (; x < view.x1; x++)
            some[0][row[x]]++;
    }
    for (int i = 0; i < COLOURS; i++)
        counts[i] = some[0][i] + some[1][i] + some[2][i] + some[3][i];
}

/* Pixels, or the colours of a picture with an index, each as often as it is there. */
typedef struct weighted {
    const uint16_t *rgba; /* [count,4] */
    size_t count;
    const uint32_t *times; /* [count], or NULL: once */
} weighted;

static uint32_t times_of(const weighted *pixels, size_t i)
{
    return pixels->times ? pixels->times[i] : 1;
}

/* Median of a colour channel over pixels that are more than half opaque. counts: [LEVELS] scratch */
static float opaque_median(const weighted *pixels, int channel, uint32_t *counts)
{
    size_t total = 0, seen = 0;
    memset(counts, 0, LEVELS * sizeof *counts);
    for (size_t i = 0; i < pixels->count; i++)
        if (pixels->rgba[4 * i + 3] > OPAQUE / 2) {
            counts[pixels->rgba[4 * i + (size_t)channel]] += times_of(pixels, i);
            total += times_of(pixels, i);
        }
    int32_t level = 0;
    for (; level < LEVELS - 1; level++) {
        seen += counts[level];
        if (2 * seen >= total)
            break;
    }
    return (float)level / OPAQUE;
}

static bool are_opaque(const uint16_t *rgba, size_t pixels)
{
    static const uint16_t opaque[4] = {0, 0, 0, OPAQUE};
    uint64_t all = UINT64_MAX, pixel, alpha;
    memcpy(&alpha, opaque, sizeof alpha);
    for (size_t i = 0; i < pixels; i++) {
        memcpy(&pixel, rgba + 4 * i, sizeof pixel);
        all &= pixel;
    }
    return (all & alpha) == alpha;
}

cnn_status cnn_picture_paper(const cnn_picture *picture, float *paper)
{
    const size_t count = (size_t)picture->width * (size_t)picture->height;
    uint32_t times[COLOURS];
    weighted pixels = {.rgba = picture->rgba, .count = count};
    paper[0] = paper[1] = paper[2] = 0;
    if (picture->index)
        pixels = (weighted){*picture->colour, COLOURS, times};
    if (are_opaque(pixels.rgba, pixels.count))
        return CNN_OK;
    if (picture->index)
        cnn_picture_count_colours(picture, (cnn_box){0, 0, picture->width, picture->height}, times);
    double alpha_sum = 0, luma_sum = 0;
    for (size_t i = 0; i < pixels.count; i++) {
        const uint16_t *p = pixels.rgba + 4 * i;
        double alpha = (double)p[3] / OPAQUE * times_of(&pixels, i);
        alpha_sum += alpha;
        luma_sum += alpha * (luma[0] * p[0] + luma[1] * p[1] + luma[2] * p[2]) / OPAQUE;
    }
    if (alpha_sum <= 0.5 * (double)count) {
        bool dark = luma_sum < 0.5 * alpha_sum;
        paper[0] = paper[1] = paper[2] = dark ? 1.0f : 0.0f;
        return CNN_OK;
    }
    uint32_t *counts = cnn_calloc(LEVELS, sizeof *counts);
    if (!counts)
        return CNN_ERR_MEMORY;
    for (int channel = 0; channel < 3; channel++)
        paper[channel] = opaque_median(&pixels, channel, counts);
    free(counts);
    return CNN_OK;
}

/* row [count, 3] from count opaque pixels, some at a time: all four channels, of which one is left out. */
CNN_WIDE_BODY void opaque_body(const uint16_t *rgba, int32_t count, float *row)
{
    enum { AT_ONCE = 16 };
    float values[4 * AT_ONCE];
    for (int32_t first = 0; first < count; first += AT_ONCE) {
        const int32_t pixels = count - first < AT_ONCE ? count - first : AT_ONCE;
        const uint16_t *from = rgba + 4 * (ptrdiff_t)first;
        float *to = row + 3 * (ptrdiff_t)first;
        if (pixels == AT_ONCE)
            for (int32_t i = 0; i < 4 * AT_ONCE; i++)
                values[i] = (float)from[i] * (1.0f / OPAQUE);
        else
            for (int32_t i = 0; i < 4 * pixels; i++)
                values[i] = (float)from[i] * (1.0f / OPAQUE);
        for (int32_t p = 0; p + 1 < pixels; p++) /* the fourth goes where the next pixel will */
            memcpy(to + 3 * p, values + 4 * p, 4 * sizeof *to);
        memcpy(to + 3 * (pixels - 1), values + 4 * (pixels - 1), 3 * sizeof *to);
    }
}

CNN_WIDE(static, opaque_row, opaque_body, (const uint16_t *rgba, int32_t count, float *row), (rgba, count, row))

/* rgb [count,3] from pixels [count,4] that may be transparent. */
static void blend(const uint16_t *rgba, size_t count, const float *paper, float *rgb)
{
    for (size_t i = 0; i < count; i++, rgba += 4, rgb += 3) {
        float alpha = (float)rgba[3] * (1.0f / OPAQUE);
        for (int c = 0; c < 3; c++)
            rgb[c] = (float)rgba[c] * (1.0f / OPAQUE) * alpha + paper[c] * (1.0f - alpha);
    }
}

void cnn_picture_compose_colours(const cnn_picture *picture, const float *paper, float rgb[COLOURS][3])
{
    blend(*picture->colour, COLOURS, paper, *rgb);
}

static void composed_row(const void *source, int32_t y, float *row)
{
    const composed *from = source;
    const size_t first = (size_t)(from->view.y0 + y) * (size_t)from->picture->width + (size_t)from->view.x0;
    const int32_t count = from->view.x1 - from->view.x0;
    if (from->picture->index) {
        for (int32_t x = 0; x < count; x++)
            memcpy(row + 3 * (size_t)x, from->colour[from->picture->index[first + (size_t)x]], 3 * sizeof *row);
        return;
    }
    const uint16_t *rgba = from->picture->rgba + 4 * first;
    if (are_opaque(rgba, (size_t)count))
        opaque_row(rgba, count, row);
    else
        blend(rgba, (size_t)count, from->paper, row);
}

cnn_status cnn_picture_compose(const cnn_picture *picture, const float *paper, cnn_box view, int32_t height,
                               int32_t width, float *rgb)
{
    composed source = {.picture = picture, .paper = paper, .view = view};
    if (picture->index)
        cnn_picture_compose_colours(picture, paper, source.colour);
    return cnn_resample(composed_row, &source, view.y1 - view.y0, view.x1 - view.x0, 3, height, width, rgb);
}
