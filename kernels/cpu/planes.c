/* Images dealt into planes. See planes.h. */
#include "kernels/cpu/planes.h"

#include <string.h>

void cnn_planes_fill(const cnn_planes *planes, const void *src, int64_t n, int32_t first, int32_t lines, float *dst,
                     float *line)
{
    const int64_t count = (int64_t)planes->w * planes->c;
    for (int32_t h = first; h < first + lines; h++, dst += planes->c * planes->pitch) {
        const int64_t element = (n * planes->h + h) * count;
        const float *from = (const float *)src + element;
        if (planes->dtype != CNN_F32) {
            planes->loops->to_f32(planes->dtype, (const uint16_t *)src + element, line, count);
            from = line;
        }
        float *to = dst + planes->pad;
        if (planes->c == 1)
            memcpy(to, from, (size_t)count * sizeof *to);
        else
            for (int32_t c = 0; c < planes->c; c++, to += planes->pitch)
                for (int32_t w = 0; w < planes->w; w++)
                    to[w] = from[w * planes->c + c];
    }
}

void cnn_planes_offsets(const cnn_planes *planes, int32_t r, int32_t s, int32_t *offset)
{
    for (int32_t i = 0; i < r; i++)
        for (int32_t j = 0; j < s; j++)
            for (int32_t c = 0; c < planes->c; c++)
                *offset++ = (int32_t)((i * planes->c + c) * planes->pitch) + j;
}
