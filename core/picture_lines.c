/* Lines of ruled and checkered paper that are as dark as the writing and run through it.
 *
 * Pixels whose run of ink up and down is short form pieces of lines. Pieces that follow each other from the left border
 * to the right one, in one direction, make a line; the gaps between them are where strokes cross it. Strokes are higher
 * than a line is thick, so they stay. Erased are two lines and more: a single one may be a stroke of a tightly cropped
 * digit. Lines that run down are found on the transposed picture. */
#include "core/picture.h"

#include "core/memory.h"

#include <math.h>
#include <stdlib.h>

enum {
    THICKNESS = 3,        /* of a line, pixels; */
    THICKNESS_SHARE = 80, /* or one in so many of the picture's shorter side, when that is more */
    PIECE_SHARE = 40,     /* a piece is at least one in so many of the picture's width long */
    PIECE_ASPECT = 3,     /* and so many times longer than high */
    BORDER = 3,           /* a line begins and ends so close to the border */
    LEAST_LINES = 2
};

static const double widest_gap = 0.4;     /* between pieces, as a share of the picture's width */
static const double least_coverage = 0.5; /* of the picture's width by the pieces of a line */

typedef struct piece {
    double left_y, right_y; /* where its ends are */
    int32_t next;           /* piece of the same line to the right; -1: none */
    bool erased, usable;
} piece;

typedef struct line_finder {
    int32_t height, width, thickness;
    cnn_parts parts; /* of the pixels whose runs are short */
    int32_t *label;  /* [height,width] of them */
    piece *piece;    /* [parts.count] */
} line_finder;

/* thin [height,width] = 1 where a run of the mask, up and down, is not longer than `thickness`. */
static void mark_short_runs(const uint8_t *mask, int32_t height, int32_t width, int32_t thickness, uint8_t *thin)
{
    for (int32_t x = 0; x < width; x++)
        for (int32_t y = 0, end; y < height; y = end) {
            size_t first = (size_t)y * (size_t)width + (size_t)x;
            for (end = y + 1; end < height && mask[(size_t)end * (size_t)width + (size_t)x] == mask[first]; end++)
                ;
            for (int32_t k = y; k < end; k++)
                thin[(size_t)k * (size_t)width + (size_t)x] = mask[first] && end - y <= thickness;
        }
}

/* Mean row of a piece's pixels in column x; it has some in every column of its box. */
static double row_at(const line_finder *f, int32_t index, int32_t x)
{
    const cnn_box *box = &f->parts.part[index].box;
    double sum = 0, count = 0;
    for (int32_t y = box->y0; y < box->y1; y++)
        if (f->parts.label[(size_t)y * (size_t)f->width + (size_t)x] == index + 1) {
            sum += y;
            count++;
        }
    return count > 0 ? sum / count : box->y0;
}

static cnn_status find_pieces(line_finder *f, const uint8_t *thin)
{
    f->label = cnn_calloc((size_t)f->height * (size_t)f->width, sizeof *f->label);
    if (!f->label)
        return CNN_ERR_MEMORY;
    cnn_status status = cnn_parts_find(thin, f->height, f->width, f->label, &f->parts);
    if (status != CNN_OK)
        return status;
    f->piece = cnn_calloc((size_t)f->parts.count, sizeof *f->piece);
    if (!f->piece)
        return CNN_ERR_MEMORY;
    for (int32_t i = 0; i < f->parts.count; i++) {
        const cnn_box *box = &f->parts.part[i].box;
        int32_t width = box->x1 - box->x0, height = box->y1 - box->y0;
        f->piece[i].usable = width * PIECE_SHARE >= f->width && width >= PIECE_ASPECT * height;
        f->piece[i].next = -1;
        if (!f->piece[i].usable)
            continue;
        f->piece[i].left_y = row_at(f, i, box->x0);
        f->piece[i].right_y = row_at(f, i, box->x1 - 1);
    }
    return CNN_OK;
}

/* The nearest piece that goes on with the line whose last piece is `last` and whose first is `first`; -1: none. */
static int32_t next_piece(const line_finder *f, int32_t first, int32_t last)
{
    const cnn_box *from = &f->parts.part[last].box;
    double run = from->x1 - f->parts.part[first].box.x0;
    double slope = (f->piece[last].right_y - f->piece[first].left_y) / run;
    int32_t nearest = -1;
    for (int32_t i = 0; i < f->parts.count; i++) {
        const cnn_box *box = &f->parts.part[i].box;
        int32_t gap = box->x0 - from->x1;
        if (!f->piece[i].usable || gap < -f->thickness || i == last || gap > widest_gap * f->width ||
            box->x1 <= from->x1)
            continue;
        double expected = f->piece[last].right_y + slope * gap;
        if (fabs(f->piece[i].left_y - expected) > f->thickness)
            continue;
        if (nearest < 0 || box->x0 < f->parts.part[nearest].box.x0)
            nearest = i;
    }
    return nearest;
}

/* Follows the line that begins with a piece at the left border; true when it is one. */
static bool follow_line(line_finder *f, int32_t first)
{
    int32_t last = first, covered = 0;
    for (int32_t i = first; i >= 0; i = f->piece[i].next) {
        covered += f->parts.part[i].box.x1 - f->parts.part[i].box.x0;
        last = i;
        f->piece[i].next = next_piece(f, first, i);
    }
    return covered > least_coverage * f->width && f->parts.part[last].box.x1 >= f->width - BORDER;
}

static int32_t mark_lines(line_finder *f)
{
    int32_t lines = 0;
    for (int32_t i = 0; i < f->parts.count; i++) {
        if (!f->piece[i].usable || f->parts.part[i].box.x0 > BORDER || f->piece[i].erased || !follow_line(f, i))
            continue;
        lines++;
        for (int32_t k = i; k >= 0; k = f->piece[k].next)
            f->piece[k].erased = true;
    }
    return lines;
}

/* Clears the marked pieces, and the soft ink above and below them. */
static void erase(const line_finder *f, float *ink, uint8_t *mask)
{
    size_t count = (size_t)f->height * (size_t)f->width, width = (size_t)f->width;
    for (size_t i = 0; i < count; i++)
        if (f->parts.label[i] && f->piece[f->parts.label[i] - 1].erased)
            mask[i] = 0;
    for (size_t i = 0; i < count; i++) {
        if (!f->parts.label[i] || !f->piece[f->parts.label[i] - 1].erased)
            continue;
        ink[i] = 0;
        if (i >= width && !mask[i - width])
            ink[i - width] = 0;
        if (i + width < count && !mask[i + width])
            ink[i + width] = 0;
    }
}

static bool any_ink(const uint8_t *mask, int32_t width, cnn_box box)
{
    int found = 0;
    for (int32_t y = box.y0; y < box.y1 && !found; y++)
        for (int32_t x = box.x0; x < box.x1; x++)
            found |= mask[(size_t)y * (size_t)width + (size_t)x];
    return found;
}

/* Whether there is ink near both borders that lines across, or down, go from and to. */
static bool may_hold_lines(const uint8_t *mask, int32_t height, int32_t width, bool down)
{
    const int32_t band = BORDER + 1, high = band < height ? band : height, wide = band < width ? band : width;
    const cnn_box first = down ? (cnn_box){0, 0, width, high} : (cnn_box){0, 0, wide, height};
    const cnn_box last = down ? (cnn_box){0, height - high, width, height} : (cnn_box){width - wide, 0, width, height};
    return any_ink(mask, width, first) && any_ink(mask, width, last);
}

/* Erases lines that run across. */
static cnn_status erase_across(float *ink, uint8_t *mask, int32_t height, int32_t width, uint8_t *thin)
{
    int32_t shorter = height < width ? height : width;
    line_finder f = {.height = height, .width = width, .thickness = shorter / THICKNESS_SHARE};
    if (f.thickness < THICKNESS)
        f.thickness = THICKNESS;
    mark_short_runs(mask, height, width, f.thickness, thin);
    cnn_status status = find_pieces(&f, thin);
    if (status == CNN_OK && mark_lines(&f) >= LEAST_LINES)
        erase(&f, ink, mask);
    cnn_parts_free(&f.parts);
    free(f.label);
    free(f.piece);
    return status;
}

/* dst [width,height] = transposed src [height,width], for the ink and the mask. */
static void transpose(const float *ink, const uint8_t *mask, int32_t height, int32_t width, float *dst_ink,
                      uint8_t *dst_mask)
{
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++) {
            size_t from = (size_t)y * (size_t)width + (size_t)x, to = (size_t)x * (size_t)height + (size_t)y;
            dst_ink[to] = ink[from];
            dst_mask[to] = mask[from];
        }
}

static cnn_status erase_down(float *ink, uint8_t *mask, int32_t height, int32_t width, uint8_t *thin)
{
    size_t count = (size_t)height * (size_t)width;
    float *turned_ink = cnn_calloc(count, sizeof *turned_ink);
    uint8_t *turned_mask = cnn_calloc(count, 1);
    cnn_status status = turned_ink && turned_mask ? CNN_OK : CNN_ERR_MEMORY;
    if (status == CNN_OK) {
        transpose(ink, mask, height, width, turned_ink, turned_mask);
        status = erase_across(turned_ink, turned_mask, width, height, thin);
    }
    if (status == CNN_OK)
        transpose(turned_ink, turned_mask, width, height, ink, mask);
    free(turned_ink);
    free(turned_mask);
    return status;
}

cnn_status cnn_lines_erase(float *ink, uint8_t *mask, int32_t height, int32_t width)
{
    const bool across = may_hold_lines(mask, height, width, false), down = may_hold_lines(mask, height, width, true);
    if (!across && !down)
        return CNN_OK;
    uint8_t *thin = cnn_calloc((size_t)height * (size_t)width, 1);
    cnn_status status = thin ? CNN_OK : CNN_ERR_MEMORY;
    if (status == CNN_OK && across)
        status = erase_across(ink, mask, height, width, thin);
    if (status == CNN_OK && down)
        status = erase_down(ink, mask, height, width, thin);
    free(thin);
    return status;
}
