/* Images dealt into planes. See planes.h. */
#include "kernels/cpu/planes.h"

#include <string.h>

/* The pixels of a line into planes. `behind`: so many floats behind them can be read. */
static void deal_line(const cnn_planes *planes, const float *from, int64_t behind, float *to)
{
    const int32_t channels = planes->c;
    if (channels == 1)
        memcpy(to, from, (size_t)planes->w * sizeof *to);
    else if (channels <= 8 && planes->w >= 8 && behind >= 8 - channels)
        planes->loops->deinterleave(from, channels, planes->w, to, planes->pitch);
    else
        for (int32_t c = 0; c < channels; c++, to += planes->pitch)
            for (int32_t w = 0; w < planes->w; w++)
                to[w] = from[w * channels + c];
}

void cnn_planes_fill(const cnn_planes *planes, const void *src, int64_t n, int32_t first, int32_t lines, float *dst,
                     float *line)
{
    const int64_t count = (int64_t)planes->w * planes->c;
    for (int32_t h = first; h < first + lines; h++, dst += planes->c * planes->pitch) {
        const int64_t element = (n * planes->h + h) * count, behind = (int64_t)(planes->h - 1 - h) * count;
        if (planes->dtype == CNN_F32) {
            deal_line(planes, (const float *)src + element, behind, dst + planes->pad);
        } else {
            planes->loops->to_f32(planes->dtype, (const uint16_t *)src + element, line, count);
            deal_line(planes, line, CNN_PLANES_SLACK, dst + planes->pad);
        }
    }
}

void cnn_planes_offsets(const cnn_planes *planes, int32_t r, int32_t s, int32_t *offset)
{
    for (int32_t i = 0; i < r; i++)
        for (int32_t j = 0; j < s; j++)
            for (int32_t c = 0; c < planes->c; c++)
                *offset++ = (int32_t)((i * planes->c + c) * planes->pitch) + j;
}
