/* Which parts of a drawing make a digit, and the order of the digits from left to right. */
#include "core/picture.h"

#include <stdlib.h>

enum {
    MOST_PARTS = CNN_MOST_DIGITS, /* with more the picture is no number: everything is one digit */
    LEAST_HEIGHT = 2              /* a digit is at least one part in so many as high as the highest */
};

static const double near_gap = 0.5; /* what is too small for a digit belongs to one that is not farther than this
                                       share of the digit's height */
static const double touching = 1.3; /* wider than so many heights are 2 % of MNIST's digits, but 70 % of pairs */

typedef struct group {
    cnn_box box;
    int32_t number; /* of this group's parts, in cnn_part.digit */
} group;

static int32_t width_of(const cnn_box *box)
{
    return box->x1 - box->x0;
}

static int32_t height_of(const cnn_box *box)
{
    return box->y1 - box->y0;
}

static void surround(cnn_box *box, const cnn_box *other)
{
    box->x0 = other->x0 < box->x0 ? other->x0 : box->x0;
    box->y0 = other->y0 < box->y0 ? other->y0 : box->y0;
    box->x1 = other->x1 > box->x1 ? other->x1 : box->x1;
    box->y1 = other->y1 > box->y1 ? other->y1 : box->y1;
}

/* More than half of the narrower one's width lies above or below the other. */
static bool stacked(const cnn_box *a, const cnn_box *b)
{
    int32_t left = a->x0 > b->x0 ? a->x0 : b->x0, right = a->x1 < b->x1 ? a->x1 : b->x1;
    int32_t narrow = width_of(a) < width_of(b) ? width_of(a) : width_of(b);
    return 2 * (right - left) > narrow;
}

/* Moves the parts of group `from` to group `to` and takes `from` out of the list. */
static int32_t merge(cnn_parts *parts, group *groups, int32_t count, int32_t to, int32_t from)
{
    for (int32_t i = 0; i < parts->count; i++)
        if (parts->part[i].digit == groups[from].number)
            parts->part[i].digit = groups[to].number;
    surround(&groups[to].box, &groups[from].box);
    groups[from] = groups[count - 1];
    return count - 1;
}

/* Merges groups until no two are stacked. */
static int32_t merge_stacked(cnn_parts *parts, group *groups, int32_t count)
{
    bool merged = true;
    while (merged) {
        merged = false;
        for (int32_t a = 0; a < count && !merged; a++)
            for (int32_t b = a + 1; b < count && !merged; b++)
                if (stacked(&groups[a].box, &groups[b].box)) {
                    count = merge(parts, groups, count, a, b);
                    merged = true;
                }
    }
    return count;
}

/* Gives groups that are too low for a digit to the nearest digit, or drops them when none is near. */
static int32_t settle_small(cnn_parts *parts, group *groups, int32_t count)
{
    int32_t highest = 0;
    for (int32_t i = 0; i < count; i++)
        highest = height_of(&groups[i].box) > highest ? height_of(&groups[i].box) : highest;
    for (int32_t i = count - 1; i >= 0; i--) {
        if (LEAST_HEIGHT * height_of(&groups[i].box) >= highest)
            continue;
        int32_t nearest = -1, least = 0;
        for (int32_t k = 0; k < count; k++) {
            const cnn_box *box = &groups[k].box;
            int32_t right = groups[i].box.x0 - box->x1, left = box->x0 - groups[i].box.x1;
            int32_t gap = right > left ? right : left;
            if (k == i || LEAST_HEIGHT * height_of(box) < highest || gap > near_gap * height_of(box))
                continue;
            if (nearest < 0 || gap < least) {
                nearest = k;
                least = gap;
            }
        }
        if (nearest >= 0) {
            count = merge(parts, groups, count, nearest, i);
            continue;
        }
        for (int32_t p = 0; p < parts->count; p++)
            if (parts->part[p].digit == groups[i].number)
                parts->part[p].digit = CNN_NO_DIGIT;
        groups[i] = groups[--count];
    }
    return count;
}

static int by_left(const void *a, const void *b)
{
    const group *x = a, *y = b;
    return x->box.x0 != y->box.x0 ? (x->box.x0 < y->box.x0 ? -1 : 1) : x->number - y->number;
}

/* Everything that is kept is one digit. */
static void group_all(cnn_parts *parts, cnn_box *box)
{
    *box = (cnn_box){INT32_MAX, INT32_MAX, 0, 0};
    for (int32_t i = 0; i < parts->count; i++)
        if (parts->part[i].kept) {
            parts->part[i].digit = 0;
            surround(box, &parts->part[i].box);
        }
}

/* Numbers the groups from left to right. */
static void number_groups(cnn_parts *parts, group *groups, int32_t count, cnn_box *boxes)
{
    int32_t place[MOST_PARTS];
    qsort(groups, (size_t)count, sizeof *groups, by_left);
    for (int32_t i = 0; i < count; i++) {
        place[groups[i].number] = i;
        boxes[i] = groups[i].box;
    }
    for (int32_t i = 0; i < parts->count; i++)
        if (parts->part[i].digit != CNN_NO_DIGIT)
            parts->part[i].digit = place[parts->part[i].digit];
}

int32_t cnn_digits_group(cnn_parts *parts, bool one, cnn_box *boxes)
{
    group groups[MOST_PARTS];
    int32_t count = 0;
    for (int32_t i = 0; i < parts->count; i++) {
        parts->part[i].digit = CNN_NO_DIGIT;
        if (!parts->part[i].kept)
            continue;
        if (one || count == MOST_PARTS) {
            group_all(parts, boxes);
            return 1;
        }
        parts->part[i].digit = count;
        groups[count] = (group){parts->part[i].box, count};
        count++;
    }
    count = merge_stacked(parts, groups, count);
    count = settle_small(parts, groups, count);
    number_groups(parts, groups, count, boxes);
    return count;
}

bool cnn_digit_touches(const cnn_box *box)
{
    return width_of(box) > touching * height_of(box);
}
