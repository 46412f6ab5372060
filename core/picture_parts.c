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

/* ---- Finding ---- */

/* Inked pixels side by side. */
typedef struct run {
    int32_t first, end; /* pixels, half open */
    int32_t parent;     /* a run of the same part that begins before it; itself when none is known */
    int32_t label;      /* of its part */
} run;

typedef struct run_list {
    run *of;
    int32_t count, capacity;
} run_list;

static cnn_status add_run(run_list *runs, int32_t first, int32_t end)
{
    if (runs->count == runs->capacity) {
        int32_t more = runs->capacity ? 2 * runs->capacity : 1024;
        run *grown = cnn_realloc(runs->of, (size_t)more, sizeof *grown);
        if (!grown)
            return CNN_ERR_MEMORY;
        runs->of = grown;
        runs->capacity = more;
    }
    runs->of[runs->count] = (run){.first = first, .end = end, .parent = runs->count};
    runs->count++;
    return CNN_OK;
}

/* The first run of the part that a run belongs to, as far as is known. */
static int32_t root_of(const run_list *runs, int32_t index)
{
    while (runs->of[index].parent != index) {
        run *here = &runs->of[index];
        here->parent = runs->of[here->parent].parent;
        index = here->parent;
    }
    return index;
}

/* Joins the runs [here, end) of a row with those [above, here) of the row above that they touch, also by a corner. */
static void join_rows(run_list *runs, int32_t above, int32_t here, int32_t end, int32_t width)
{
    for (int32_t i = here; i < end; i++) {
        const run *low = &runs->of[i];
        while (above < here && runs->of[above].end + width < low->first)
            above++;
        for (int32_t k = above; k < here && runs->of[k].first + width <= low->end; k++) {
            const int32_t a = root_of(runs, k), b = root_of(runs, i);
            runs->of[a > b ? a : b].parent = a > b ? b : a;
        }
    }
}

static cnn_status list_runs(const uint8_t *mask, int32_t height, int32_t width, run_list *runs)
{
    int32_t above = 0;
    for (int32_t y = 0; y < height; y++) {
        const int32_t here = runs->count, end = (y + 1) * width;
        int32_t at = cnn_next_inked(mask, y * width, end);
        while (at < end) {
            const int32_t first = at;
            while (at < end && mask[at])
                at++;
            if (add_run(runs, first, at) != CNN_OK)
                return CNN_ERR_MEMORY;
            at = cnn_next_inked(mask, at, end);
        }
        join_rows(runs, above, here, runs->count, width);
        above = here;
    }
    return CNN_OK;
}

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
    parts->part[parts->count] =
        (cnn_part){.box = {INT32_MAX, INT32_MAX, 0, 0}, .digit = CNN_NO_DIGIT, .first = first, .bridge = parts->count};
    parts->count++;
    return CNN_OK;
}

static void include(cnn_parts *parts, cnn_part *part, const run *row)
{
    const int32_t y = row->first / parts->width, x0 = row->first % parts->width, length = row->end - row->first;
    const bool left = x0 == 0, right = x0 + length == parts->width && (length > 1 || !left);
    part->size += length;
    part->edge += y == 0 || y == parts->height - 1 ? length : left + right;
    part->box.x0 = x0 < part->box.x0 ? x0 : part->box.x0;
    part->box.y0 = y < part->box.y0 ? y : part->box.y0;
    part->box.x1 = x0 + length > part->box.x1 ? x0 + length : part->box.x1;
    part->box.y1 = y + 1;
}

/* Finds the parts that runs make, numbered by their first pixels, and labels their pixels where there is a plane for
 * it. */
static cnn_status label_runs(run_list *runs, cnn_parts *parts)
{
    int32_t capacity = 0;
    for (int32_t i = 0; i < runs->count; i++) {
        run *here = &runs->of[i];
        const int32_t root = root_of(runs, i);
        if (root == i && add_part(parts, here->first, &capacity) != CNN_OK)
            return CNN_ERR_MEMORY;
        here->label = root == i ? parts->count : runs->of[root].label;
        for (int32_t at = here->first; parts->label && at < here->end; at++)
            parts->label[at] = here->label;
        include(parts, &parts->part[here->label - 1], here);
    }
    return CNN_OK;
}

cnn_status cnn_parts_find(const uint8_t *mask, int32_t height, int32_t width, int32_t *label, cnn_parts *parts)
{
    run_list runs = {0};
    *parts = (cnn_parts){.height = height, .width = width, .label = label};
    memset(label, 0, (size_t)height * (size_t)width * sizeof *label);
    cnn_status status = list_runs(mask, height, width, &runs);
    if (status == CNN_OK)
        status = label_runs(&runs, parts);
    free(runs.of);
    if (status != CNN_OK)
        cnn_parts_free(parts);
    return status;
}

cnn_status cnn_parts_count(const uint8_t *mask, int32_t height, int32_t width, int32_t *count)
{
    run_list runs = {0};
    cnn_status status = list_runs(mask, height, width, &runs);
    *count = 0;
    for (int32_t i = 0; i < runs.count; i++)
        *count += root_of(&runs, i) == i;
    free(runs.of);
    return status;
}

void cnn_parts_free(cnn_parts *parts)
{
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
static void count_outline(const uint8_t *mask, cnn_parts *parts)
{
    const cnn_box all = cnn_parts_box(parts);
    for (int32_t y = all.y0; y < all.y1; y++) {
        const uint8_t *row = mask + (size_t)y * (size_t)parts->width;
        for (int32_t x = cnn_next_inked(row, all.x0, all.x1); x < all.x1; x = cnn_next_inked(row, x + 1, all.x1)) {
            cnn_part *part = &parts->part[parts->label[(size_t)y * (size_t)parts->width + (size_t)x] - 1];
            int32_t width = part->box.x1 - part->box.x0, height = part->box.y1 - part->box.y0;
            int32_t band = (width < height ? width : height) / OUTLINE_BAND;
            part->outline += x - part->box.x0 <= band || part->box.x1 - 1 - x <= band || y - part->box.y0 <= band ||
                             part->box.y1 - 1 - y <= band;
        }
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

void cnn_parts_select(const uint8_t *mask, cnn_parts *parts)
{
    int32_t largest = 0;
    count_outline(mask, parts);
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

/* The label of the run that holds a pixel. */
static int32_t label_at(const run_list *runs, int32_t pixel)
{
    int32_t low = 0, high = runs->count - 1;
    while (low < high) {
        const int32_t middle = low + (high - low + 1) / 2;
        if (runs->of[middle].first <= pixel)
            low = middle;
        else
            high = middle - 1;
    }
    return runs->of[low].label;
}

cnn_status cnn_parts_join(cnn_parts *parts, const float *ink, uint8_t *scratch)
{
    run_list runs = {0};
    cnn_parts soft = {.height = parts->height, .width = parts->width}; /* no plane of labels */
    const cnn_box all = cnn_parts_box(parts);
    cnn_ink_mask(ink, (size_t)parts->height * (size_t)parts->width, soft_ink, scratch);
    for (int32_t y = all.y0; y < all.y1; y++)
        for (int32_t x = all.x0; x < all.x1; x++) {
            const size_t i = (size_t)y * (size_t)parts->width + (size_t)x;
            if (parts->label[i] && parts->part[parts->label[i] - 1].kept)
                scratch[i] = 1;
        }
    cnn_status status = list_runs(scratch, parts->height, parts->width, &runs);
    if (status == CNN_OK)
        status = label_runs(&runs, &soft);
    for (int32_t i = 0; status == CNN_OK && i < parts->count; i++)
        if (parts->part[i].kept)
            parts->part[i].bridge = label_at(&runs, parts->part[i].first);
    free(runs.of);
    cnn_parts_free(&soft);
    return status;
}
