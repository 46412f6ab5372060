/* Which parts of a drawing make a digit, and the order of the digits from left to right. */
#include "core/picture.h"

#include <stdlib.h>

enum {
    MOST_PARTS = CNN_MOST_DIGITS, /* with more the picture is no number: everything is one digit */
    LEAST_HEIGHT = 2              /* a digit is at least one part in so many as high as the highest */
};

static const double near_gap = 0.5; /* what is too small for a digit belongs to one that is not farther than this
                                       share of the digit's height; what is above or below it, too */
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

/* Pixels between two boxes, across and down; negative where they overlap. */
static int32_t gap_across(const cnn_box *a, const cnn_box *b)
{
    return a->x0 < b->x0 ? b->x0 - a->x1 : a->x0 - b->x1;
}

static int32_t gap_down(const cnn_box *a, const cnn_box *b)
{
    return a->y0 < b->y0 ? b->y0 - a->y1 : a->y0 - b->y1;
}

/* More than half of the narrower one's width lies above or below the other, and not far from it. */
static bool stacked(const cnn_box *a, const cnn_box *b)
{
    int32_t left = a->x0 > b->x0 ? a->x0 : b->x0, right = a->x1 < b->x1 ? a->x1 : b->x1;
    int32_t narrow = width_of(a) < width_of(b) ? width_of(a) : width_of(b);
    int32_t high = height_of(a) > height_of(b) ? height_of(a) : height_of(b);
    return 2 * (right - left) > narrow && gap_down(a, b) <= near_gap * high;
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

/* Takes a group out of the list; its parts belong to no digit. */
static int32_t drop(cnn_parts *parts, group *groups, int32_t count, int32_t index)
{
    for (int32_t i = 0; i < parts->count; i++)
        if (parts->part[i].digit == groups[index].number)
            parts->part[i].digit = CNN_NO_DIGIT;
    groups[index] = groups[count - 1];
    return count - 1;
}

/* Whether a group is a digit of the number that the highest group belongs to: high enough, and in its row. */
static bool in_number(const group *digit, const group *highest)
{
    return LEAST_HEIGHT * height_of(&digit->box) >= height_of(&highest->box) &&
           gap_down(&digit->box, &highest->box) < 0;
}

/* The digit of the number that is nearest to a group, if one is near; else -1. */
static int32_t nearest_digit(const group *groups, int32_t count, int32_t index, const group *highest)
{
    int32_t nearest = -1, least = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t across = gap_across(&groups[i].box, &groups[index].box);
        int32_t down = gap_down(&groups[i].box, &groups[index].box), gap = across > down ? across : down;
        if (i == index || !in_number(&groups[i], highest) || gap > near_gap * height_of(&groups[i].box))
            continue;
        if (nearest < 0 || gap < least) {
            nearest = i;
            least = gap;
        }
    }
    return nearest;
}

/* Leaves the digits of one number: low groups go to the nearest digit when one is near, all others are dropped. */
static int32_t settle(cnn_parts *parts, group *groups, int32_t count)
{
    group highest = groups[0];
    for (int32_t i = 1; i < count; i++)
        if (height_of(&groups[i].box) > height_of(&highest.box))
            highest = groups[i];
    for (int32_t i = count - 1; i >= 0; i--) {
        if (in_number(&groups[i], &highest))
            continue;
        bool low = LEAST_HEIGHT * height_of(&groups[i].box) < height_of(&highest.box);
        int32_t nearest = low ? nearest_digit(groups, count, i, &highest) : -1;
        count = nearest >= 0 ? merge(parts, groups, count, nearest, i) : drop(parts, groups, count, i);
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

/* Index of the group with parts that soft ink joins to this one; -1: none. */
static int32_t joined_group(const cnn_parts *parts, int32_t part)
{
    for (int32_t i = 0; i < part; i++)
        if (parts->part[i].kept && parts->part[i].bridge == parts->part[part].bridge)
            return parts->part[i].digit;
    return -1;
}

int32_t cnn_digits_group(cnn_parts *parts, bool one, cnn_box *boxes)
{
    group groups[MOST_PARTS];
    int32_t count = 0, kept = 0;
    for (int32_t i = 0; i < parts->count; i++)
        kept += parts->part[i].kept;
    if (one || kept > MOST_PARTS) {
        group_all(parts, boxes);
        return 1;
    }
    for (int32_t i = 0; i < parts->count; i++) {
        cnn_part *part = &parts->part[i];
        part->digit = part->kept ? joined_group(parts, i) : CNN_NO_DIGIT;
        if (!part->kept)
            continue;
        if (part->digit >= 0) {
            surround(&groups[part->digit].box, &part->box);
            continue;
        }
        part->digit = count;
        groups[count] = (group){part->box, count};
        count++;
    }
    count = merge_stacked(parts, groups, count);
    count = settle(parts, groups, count);
    number_groups(parts, groups, count, boxes);
    return count;
}

bool cnn_digit_touches(const cnn_box *box)
{
    return width_of(box) > touching * height_of(box);
}
