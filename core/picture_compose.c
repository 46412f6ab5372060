/* Alpha: puts a picture on the paper that its maker most likely saw it on. */
#include "core/picture.h"

#include "core/memory.h"
#include "core/wide.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS = 1 << 16, OPAQUE = 65535 };

/* Luma weights of Rec. 601. */
static const double luma[3] = {0.299, 0.587, 0.114};

typedef struct composed {
    const cnn_picture *picture;
    const float *paper; /* [3] */
    cnn_box view;
} composed;

/* Median of a colour channel over pixels that are more than half opaque. counts: [LEVELS] scratch */
static float opaque_median(const cnn_picture *picture, int channel, uint32_t *counts)
{
    size_t pixels = (size_t)picture->width * (size_t)picture->height, total = 0, seen = 0;
    memset(counts, 0, LEVELS * sizeof *counts);
    for (size_t i = 0; i < pixels; i++)
        if (picture->rgba[4 * i + 3] > OPAQUE / 2) {
            counts[picture->rgba[4 * i + (size_t)channel]]++;
            total++;
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
    paper[0] = paper[1] = paper[2] = 0;
    size_t pixels = (size_t)picture->width * (size_t)picture->height;
    if (are_opaque(picture->rgba, pixels))
        return CNN_OK;
    double alpha_sum = 0, luma_sum = 0;
    for (size_t i = 0; i < pixels; i++) {
        const uint16_t *p = picture->rgba + 4 * i;
        double alpha = (double)p[3] / OPAQUE;
        alpha_sum += alpha;
        luma_sum += alpha * (luma[0] * p[0] + luma[1] * p[1] + luma[2] * p[2]) / OPAQUE;
    }
    if (alpha_sum <= 0.5 * (double)pixels) {
        bool dark = luma_sum < 0.5 * alpha_sum;
        paper[0] = paper[1] = paper[2] = dark ? 1.0f : 0.0f;
        return CNN_OK;
    }
    uint32_t *counts = cnn_calloc(LEVELS, sizeof *counts);
    if (!counts)
        return CNN_ERR_MEMORY;
    for (int channel = 0; channel < 3; channel++)
        paper[channel] = opaque_median(picture, channel, counts);
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

static void composed_row(const void *source, int32_t y, float *row)
{
    const composed *from = source;
    size_t width = (size_t)from->picture->width;
    const uint16_t *p = from->picture->rgba + ((size_t)(from->view.y0 + y) * width + (size_t)from->view.x0) * 4;
    if (are_opaque(p, (size_t)(from->view.x1 - from->view.x0))) {
        opaque_row(p, from->view.x1 - from->view.x0, row);
        return;
    }
    for (int32_t x = from->view.x0; x < from->view.x1; x++, p += 4, row += 3) {
        float alpha = (float)p[3] * (1.0f / OPAQUE);
        for (int c = 0; c < 3; c++)
            row[c] = (float)p[c] * (1.0f / OPAQUE) * alpha + from->paper[c] * (1.0f - alpha);
    }
}

cnn_status cnn_picture_compose(const cnn_picture *picture, const float *paper, cnn_box view, int32_t height,
                               int32_t width, float *rgb)
{
    composed source = {picture, paper, view};
    return cnn_resample(composed_row, &source, view.y1 - view.y0, view.x1 - view.x0, 3, height, width, rgb);
}
