/* What may undo a small change of an image, before a model reads it (Xu et al., "Feature squeezing", 2018). */
#include "cnn/robust.h"

#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 3, INSIDE = WINDOW * WINDOW };

typedef struct plane {
    int32_t height, width, channels;
} plane;

static int32_t clamp(int32_t x, int32_t size)
{
    return x < 0 ? 0 : x >= size ? size - 1 : x;
}

static uint8_t median_of(uint8_t *value)
{
    for (int i = 1; i < INSIDE; i++)
        for (int j = i; j > 0 && value[j - 1] > value[j]; j--) {
            const uint8_t kept = value[j];
            value[j] = value[j - 1];
            value[j - 1] = kept;
        }
    return value[INSIDE / 2];
}

/* The median of 3x3 pixels, channel by channel; beyond the border its pixels go on. */
static void filter(const plane *p, const uint8_t *src, uint8_t *dst)
{
    for (int32_t y = 0; y < p->height; y++)
        for (int32_t x = 0; x < p->width; x++)
            for (int32_t c = 0; c < p->channels; c++) {
                uint8_t value[INSIDE];
                for (int i = 0; i < INSIDE; i++) {
                    const int32_t row = clamp(y + i / WINDOW - 1, p->height);
                    const int32_t column = clamp(x + i % WINDOW - 1, p->width);
                    value[i] = src[(row * p->width + column) * p->channels + c];
                }
                dst[(y * p->width + x) * p->channels + c] = median_of(value);
            }
}

/* The nearest of 2^bits levels from 0 to 255. */
static void reduce(int bits, uint8_t *values, size_t count)
{
    uint8_t table[256];
    const int most = (1 << bits) - 1;
    for (int x = 0; x < 256; x++)
        table[x] = (uint8_t)(((2 * x * most + 255) / 510 * 255 + most / 2) / most);
    for (size_t i = 0; i < count; i++)
        values[i] = table[values[i]];
}

/* How far the centre of mass lies from the middle, in whole pixels. */
static int32_t away(double moment, double mass, int32_t size)
{
    return (int32_t)lrint(moment / mass - ((double)size - 1.0) / 2.0);
}

/* Moves what is bright so that its centre of mass lies in the middle, as MNIST has it; dark comes in from outside. */
static void centre(const plane *p, const uint8_t *src, uint8_t *dst)
{
    double mass = 0, rows = 0, columns = 0;
    for (int32_t y = 0; y < p->height; y++)
        for (int32_t x = 0; x < p->width; x++) {
            const double value = src[y * p->width + x];
            mass += value;
            rows += value * y;
            columns += value * x;
        }
    const int32_t down = mass > 0 ? away(rows, mass, p->height) : 0;
    const int32_t right = mass > 0 ? away(columns, mass, p->width) : 0;
    for (int32_t y = 0; y < p->height; y++)
        for (int32_t x = 0; x < p->width; x++) {
            const int32_t row = y + down, column = x + right;
            const bool inside = row >= 0 && row < p->height && column >= 0 && column < p->width;
            dst[y * p->width + x] = inside ? src[row * p->width + column] : 0;
        }
}

cnn_status cnn_sanitize(const cnn_sanitize_options *options, const cnn_tensor_desc *shape, const uint8_t *images,
                        int64_t count, uint8_t *sanitized)
{
    const plane p = {shape->h, shape->w, shape->c};
    const size_t bytes = (size_t)p.height * (size_t)p.width * (size_t)p.channels;
    if (options->bits < 0 || options->bits > 8)
        return cnn_error(CNN_ERR_USAGE, "%d bits a pixel; give a number from 1 to 8, or 0 to keep all", options->bits);
    uint8_t *one = cnn_calloc(bytes, 1);
    if (!one)
        return CNN_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        uint8_t *to = sanitized + (size_t)i * bytes;
        memcpy(to, images + (size_t)i * bytes, bytes);
        if (options->median) {
            memcpy(one, to, bytes);
            filter(&p, one, to);
        }
        if (options->bits)
            reduce(options->bits, to, bytes);
        if (options->centre && p.channels == 1) {
            memcpy(one, to, bytes);
            centre(&p, one, to);
        }
    }
    free(one);
    return CNN_OK;
}
