/* Connected parts of a drawing: specks of dust and noise are dropped by size. */
#include "core/picture.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    LEAST_PIXELS = 3,  /* of a part that is kept... */
    TINY_DRAWING = 20, /* ...unless the largest part has no more than this many */
    LEAST_SHARE = 20,  /* one part in so many of the largest */
    HALO = 2           /* soft ink stays this far around what is kept */
};

typedef struct part_list {
    int32_t *label; /* [height,width] 0: paper, else number of the part */
    int32_t *stack; /* [height,width] pixels still to visit */
    int32_t *size;  /* [height*width+1] pixels of each part */
    int32_t count;
} part_list;

/* Labels the part that holds pixel `start`. */
static void flood(part_list *parts, const uint8_t *mask, int32_t height, int32_t width, int32_t start)
{
    int32_t depth = 0, number = ++parts->count;
    parts->stack[depth++] = start;
    parts->label[start] = number;
    while (depth > 0) {
        int32_t at = parts->stack[--depth], x = at % width, y = at / width;
        parts->size[number]++;
        for (int32_t dy = -1; dy <= 1; dy++)
            for (int32_t dx = -1; dx <= 1; dx++) {
                if (x + dx < 0 || x + dx >= width || y + dy < 0 || y + dy >= height)
                    continue;
                int32_t next = at + dy * width + dx;
                if (mask[next] && !parts->label[next]) {
                    parts->label[next] = number;
                    parts->stack[depth++] = next;
                }
            }
    }
}

/* Clears small parts from the mask and sets the box around the others. */
static void keep_large(const part_list *parts, uint8_t *mask, int32_t height, int32_t width, cnn_box *box)
{
    int32_t largest = 0;
    for (int32_t i = 1; i <= parts->count; i++)
        largest = parts->size[i] > largest ? parts->size[i] : largest;
    int32_t least = largest > TINY_DRAWING ? LEAST_PIXELS : 1;
    *box = (cnn_box){width, height, 0, 0};
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++) {
            size_t i = (size_t)y * (size_t)width + (size_t)x;
            int32_t size = parts->size[parts->label[i]];
            mask[i] = parts->label[i] && size >= least && (int64_t)size * LEAST_SHARE >= largest;
            if (!mask[i])
                continue;
            box->x0 = x < box->x0 ? x : box->x0;
            box->y0 = y < box->y0 ? y : box->y0;
            box->x1 = x >= box->x1 ? x + 1 : box->x1;
            box->y1 = y >= box->y1 ? y + 1 : box->y1;
        }
}

static bool near_kept(const uint8_t *mask, int32_t height, int32_t width, int32_t x, int32_t y)
{
    for (int32_t v = y - HALO; v <= y + HALO; v++)
        for (int32_t u = x - HALO; u <= x + HALO; u++)
            if (v >= 0 && v < height && u >= 0 && u < width && mask[(size_t)v * (size_t)width + (size_t)u])
                return true;
    return false;
}

cnn_status cnn_ink_components(float *ink, uint8_t *mask, int32_t height, int32_t width, cnn_box *box)
{
    cnn_status status = CNN_OK;
    size_t count = (size_t)height * (size_t)width;
    part_list parts = {.label = cnn_calloc(count, sizeof(int32_t)),
                       .stack = cnn_calloc(count, sizeof(int32_t)),
                       .size = cnn_calloc(count + 1, sizeof(int32_t))};
    if (!parts.label || !parts.stack || !parts.size) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    for (int32_t i = 0; i < (int32_t)count; i++)
        if (mask[i] && !parts.label[i])
            flood(&parts, mask, height, width, i);
    keep_large(&parts, mask, height, width, box);
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++) {
            float *here = ink + (size_t)y * (size_t)width + (size_t)x;
            if (*here > 0 && !near_kept(mask, height, width, x, y))
                *here = 0;
        }
out:
    free(parts.label);
    free(parts.stack);
    free(parts.size);
    return status;
}
