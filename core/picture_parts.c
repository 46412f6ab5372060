/* The connected parts of a drawing, and which of them belong to what was written: specks of dust and the lines of ruled
 * paper do not. */
#include "core/picture.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    LEAST_PIXELS = 3,  /* of a part that is kept... */
    TINY_DRAWING = 20, /* ...unless the largest part has no more than this many */
    LEAST_SHARE = 20,  /* one part in so many of the largest */
    LINE_ASPECT = 4,   /* a line is so many times longer than thick */
    OUTLINE_BAND = 12  /* a printed box lies in bands of one in so many of its shorter side */
};

/* A part lies along the border when so much of its longest side is on it. */
static const double edge_share = 0.6;
/* A printed box has at least this share of its pixels in these bands, and at most this share of the area is ink. */
static const double outline_share = 0.9, hollow_share = 0.4;
/* Ink of this softness joins parts. */
static const float soft_ink = 0.15f;
/* The surroundings are dropped when the longest other part has this share of the picture's shorter side. */
static const double rest_share = 0.15;

/* Starts another part with its first pixel; CNN_ERR_MEMORY when there is no room. */
static cnn_status add_part(cnn_parts *parts, int32_t first, int32_t *capacity)
{
    if (parts->count == *capacity) {
        int32_t more = *capacity ? 2 * *capacity : 64;
        cnn_part *grown = cnn_realloc(parts->part, (size_t)more, sizeof *grown);
        if (!grown)
            return CNN_ERR_MEMORY;
        parts->part = grown;
        *capacity = more;
    }
    parts->part[parts->count++] =
        (cnn_part){.box = {INT32_MAX, INT32_MAX, 0, 0}, .digit = CNN_NO_DIGIT, .first = first, .bridge = parts->count};
    return CNN_OK;
}

static void include(cnn_parts *parts, cnn_part *part, int32_t x, int32_t y)
{
    part->size++;
    part->edge += x == 0 || y == 0 || x == parts->width - 1 || y == parts->height - 1;
    part->box.x0 = x < part->box.x0 ? x : part->box.x0;
    part->box.y0 = y < part->box.y0 ? y : part->box.y0;
    part->box.x1 = x >= part->box.x1 ? x + 1 : part->box.x1;
    part->box.y1 = y >= part->box.y1 ? y + 1 : part->box.y1;
}

/* Labels the part that holds pixel `start`. stack: [height,width] pixels still to visit */
static void flood(cnn_parts *parts, const uint8_t *mask, int32_t height, int32_t width, int32_t start, int32_t *stack)
{
    int32_t depth = 0, number = parts->count;
    stack[depth++] = start;
    parts->label[start] = number;
    while (depth > 0) {
        int32_t at = stack[--depth], x = at % width, y = at / width;
        include(parts, &parts->part[number - 1], x, y);
        for (int32_t v = y > 0 ? y - 1 : 0; v <= y + 1 && v < height; v++)
            for (int32_t u = x > 0 ? x - 1 : 0; u <= x + 1 && u < width; u++) {
                int32_t next = v * width + u;
                if (mask[next] && !parts->label[next]) {
                    parts->label[next] = number;
                    stack[depth++] = next;
                }
            }
    }
}

/* The first inked pixel from i on, or count; paper is passed over eight pixels at a time. */
static int32_t next_inked(const uint8_t *mask, int32_t i, int32_t count)
{
    uint64_t eight;
    for (; i + 8 <= count; i += 8) {
        memcpy(&eight, mask + i, sizeof eight);
        if (eight)
            break;
    }
    while (i < count && !mask[i])
        i++;
    return i;
}

cnn_status cnn_parts_find(const uint8_t *mask, int32_t height, int32_t width, cnn_parts *parts)
{
    size_t count = (size_t)height * (size_t)width;
    int32_t capacity = 0, *stack = cnn_calloc(count, sizeof *stack);
    *parts = (cnn_parts){.height = height, .width = width, .label = cnn_calloc(count, sizeof(int32_t))};
    cnn_status status = stack && parts->label ? CNN_OK : CNN_ERR_MEMORY;
    for (int32_t i = 0; status == CNN_OK && i < (int32_t)count; i++) {
        i = next_inked(mask, i, (int32_t)count);
        if (i == (int32_t)count || parts->label[i])
            continue;
        status = add_part(parts, i, &capacity);
        if (status == CNN_OK)
            flood(parts, mask, height, width, i, stack);
    }
    free(stack);
    if (status != CNN_OK)
        cnn_parts_free(parts);
    return status;
}

void cnn_parts_free(cnn_parts *parts)
{
    free(parts->label);
    free(parts->part);
    *parts = (cnn_parts){0};
}

cnn_box cnn_parts_box(const cnn_parts *parts)
{
    cnn_box all = {0, 0, 0, 0};
    for (int32_t i = 0; i < parts->count; i++) {
        const cnn_box *box = &parts->part[i].box;
        all.x0 = i == 0 || box->x0 < all.x0 ? box->x0 : all.x0;
        all.y0 = i == 0 || box->y0 < all.y0 ? box->y0 : all.y0;
        all.x1 = box->x1 > all.x1 ? box->x1 : all.x1;
        all.y1 = box->y1 > all.y1 ? box->y1 : all.y1;
    }
    return all;
}

/* A line that comes in from the picture's border: across half of the picture, or up and down nearly all of it at its
 * left or right side. */
static bool is_ruled_line(const cnn_parts *parts, const cnn_box *box)
{
    int32_t width = box->x1 - box->x0, height = box->y1 - box->y0;
    bool side = box->x0 == 0 || box->x1 == parts->width;
    bool border = side || box->y0 == 0 || box->y1 == parts->height;
    bool across = width > LINE_ASPECT * height && 2 * width > parts->width;
    bool down = height > LINE_ASPECT * width && 10 * (int64_t)height > 9 * (int64_t)parts->height;
    return border && (across || (down && side));
}

bool cnn_part_lies_along_border(const cnn_part *part)
{
    return part->edge > edge_share * cnn_box_longest(&part->box);
}

/* Counts the pixels of each part that lie close to a side of its own box. */
static void count_outline(cnn_parts *parts)
{
    const cnn_box all = cnn_parts_box(parts);
    for (int32_t y = all.y0; y < all.y1; y++)
        for (int32_t x = all.x0; x < all.x1; x++) {
            int32_t label = parts->label[(size_t)y * (size_t)parts->width + (size_t)x];
            if (label == 0)
                continue;
            cnn_part *part = &parts->part[label - 1];
            int32_t width = part->box.x1 - part->box.x0, height = part->box.y1 - part->box.y0;
            int32_t band = (width < height ? width : height) / OUTLINE_BAND;
            part->outline += x - part->box.x0 <= band || part->box.x1 - 1 - x <= band || y - part->box.y0 <= band ||
                             part->box.y1 - 1 - y <= band;
        }
}

/* A printed box around the digit: a hollow part, all of it beside the sides of its own box, half as large as the
 * picture at least. */
static bool is_printed_box(const cnn_parts *parts, const cnn_part *part)
{
    int32_t width = part->box.x1 - part->box.x0, height = part->box.y1 - part->box.y0;
    double area = (double)width * height;
    return 2 * width > parts->width && 2 * height > parts->height && part->outline > outline_share * part->size &&
           part->size < hollow_share * area;
}

static bool is_surroundings(const cnn_parts *parts, const cnn_part *part)
{
    return cnn_part_lies_along_border(part) || is_ruled_line(parts, &part->box) || is_printed_box(parts, part);
}

/* The surroundings are dropped where something of a digit's size remains. */
static void drop_surroundings(cnn_parts *parts)
{
    int32_t shorter = parts->height < parts->width ? parts->height : parts->width, rest = 0;
    for (int32_t i = 0; i < parts->count; i++) {
        const cnn_part *part = &parts->part[i];
        if (!is_surroundings(parts, part) && cnn_box_longest(&part->box) > rest)
            rest = cnn_box_longest(&part->box);
    }
    if (rest < rest_share * shorter)
        return;
    for (int32_t i = 0; i < parts->count; i++)
        parts->part[i].surroundings = is_surroundings(parts, &parts->part[i]);
}

void cnn_parts_select(cnn_parts *parts)
{
    int32_t largest = 0;
    count_outline(parts);
    drop_surroundings(parts);
    for (int32_t i = 0; i < parts->count; i++)
        if (!parts->part[i].surroundings && parts->part[i].size > largest)
            largest = parts->part[i].size;
    int32_t least = largest > TINY_DRAWING ? LEAST_PIXELS : 1;
    for (int32_t i = 0; i < parts->count; i++) {
        cnn_part *part = &parts->part[i];
        part->kept = !part->surroundings && part->size >= least && (int64_t)part->size * LEAST_SHARE >= largest;
    }
}

cnn_status cnn_parts_join(cnn_parts *parts, const float *ink, uint8_t *scratch)
{
    cnn_parts soft;
    const cnn_box all = cnn_parts_box(parts);
    for (size_t i = 0; i < (size_t)parts->height * (size_t)parts->width; i++)
        scratch[i] = ink[i] > soft_ink;
    for (int32_t y = all.y0; y < all.y1; y++)
        for (int32_t x = all.x0; x < all.x1; x++) {
            const size_t i = (size_t)y * (size_t)parts->width + (size_t)x;
            if (parts->label[i] && parts->part[parts->label[i] - 1].kept)
                scratch[i] = 1;
        }
    cnn_status status = cnn_parts_find(scratch, parts->height, parts->width, &soft);
    if (status != CNN_OK)
        return status;
    for (int32_t i = 0; i < parts->count; i++)
        if (parts->part[i].kept)
            parts->part[i].bridge = soft.label[parts->part[i].first];
    cnn_parts_free(&soft);
    return CNN_OK;
}
