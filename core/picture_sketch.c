/* Finding what is drawn in a picture.
 *
 * Look at the picture (compose, project the ink, smooth), first to find a sheet of paper to look at alone. Split ink
 * from paper in the way that leaves the least doubt, find the parts and which of them make a digit. Digits that are
 * small in a large picture are looked at once more from close up. */
#include "core/picture.h"

#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SHEETS = 2, LEAST_VIEW = 20 };

/* Ways to tell ink from paper, tried in this order until one leaves little doubt. The later ones are for shadows with
 * hard edges. */
typedef struct ink_way {
    enum { AS_IT_IS, FIT_LIGHT, TOPHAT } light;
    double tophat_share; /* side of the square, as a share of the longest side */
    cnn_cut cut;
    /* Ink is what is less of the picture, or what differs most from the median (a shadow may lie on most of it), or the
     * other side. */
    enum { LESS, MOST, OTHER } ink;
} ink_way;

static const ink_way ink_ways[] = {
    {FIT_LIGHT, 0, CNN_CUT_OTSU, LESS},  {AS_IT_IS, 0, CNN_CUT_HALF, MOST},  {FIT_LIGHT, 0, CNN_CUT_HALF, MOST},
    {TOPHAT, 0.4, CNN_CUT_OTSU, MOST},   {TOPHAT, 0.12, CNN_CUT_OTSU, MOST}, {TOPHAT, 0.12, CNN_CUT_HALF, MOST},
    {AS_IT_IS, 0, CNN_CUT_HALF, OTHER},  {TOPHAT, 0.4, CNN_CUT_OTSU, OTHER}, {TOPHAT, 0.12, CNN_CUT_OTSU, OTHER},
    {TOPHAT, 0.12, CNN_CUT_HALF, OTHER},
};

enum { LEAST_TOPHAT = 24 }; /* a smaller square takes strokes away, too */

/* Digits whose longest side is at most this share of the planes' are looked at closer, with this margin around them. */
static const double closer_share = 0.33, closer_margin = 0.6;

static const double little_doubt = 0.1, clearly_less = 0.05;

void cnn_sketch_free(cnn_sketch *s)
{
    cnn_aligned_free(s->ink);
    cnn_aligned_free(s->rgb);
    cnn_aligned_free(s->plain);
    s->ink = s->rows = s->rgb = s->plain = NULL;
    s->label = NULL;
    s->mask = NULL;
    cnn_parts_free(&s->parts);
}

static int32_t working_size(int32_t side, int32_t longest)
{
    if (longest <= CNN_PICTURE_WORK)
        return side;
    int32_t result = (int32_t)((2 * (int64_t)side * CNN_PICTURE_WORK + longest) / (2 * (int64_t)longest));
    return result < 1 ? 1 : result;
}

static cnn_status alloc_planes(cnn_sketch *s)
{
    int32_t width = s->view.x1 - s->view.x0, height = s->view.y1 - s->view.y0;
    int32_t longest = width > height ? width : height;
    cnn_sketch_free(s);
    s->width = working_size(width, longest);
    s->height = working_size(height, longest);
    size_t count = (size_t)s->width * (size_t)s->height;
    size_t rows = CNN_SMOOTH_ROWS * (size_t)s->width;
    /* What all pictures need lies together: it may be a huge page. */
    s->ink = cnn_aligned_alloc((count + rows) * sizeof *s->ink + count * sizeof *s->label + count);
    if (!s->ink)
        return CNN_ERR_MEMORY;
    s->rows = s->ink + count;
    s->label = (int32_t *)(void *)(s->rows + rows);
    s->mask = (uint8_t *)(s->label + count);
    return CNN_OK;
}

/* Makes planes that only some pictures need. */
static cnn_status need_planes(const cnn_sketch *s, size_t planes, float **memory)
{
    if (!*memory)
        *memory = cnn_aligned_alloc(planes * (size_t)s->height * (size_t)s->width * sizeof **memory);
    return *memory ? CNN_OK : CNN_ERR_MEMORY;
}

static cnn_status compose(cnn_sketch *s)
{
    const cnn_status status = need_planes(s, 3, &s->rgb);
    return status == CNN_OK ? cnn_picture_compose(s->picture, s->paper, s->view, s->height, s->width, s->rgb) : status;
}

/* Projects what the view shows to ink [height,width] and smooths it. */
static cnn_status draw(cnn_sketch *s, float *ink)
{
    cnn_status status = CNN_OK;
    bool drawn;
    if (s->picture->index && s->height == s->view.y1 - s->view.y0 && s->width == s->view.x1 - s->view.x0) {
        drawn = cnn_ink_project_colours(s->picture, s->paper, s->view, ink);
    } else {
        CNN_TRY(compose(s));
        drawn = cnn_ink_project(s->rgb, s->height, s->width, ink);
    }
    if (!drawn)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: nothing is drawn in it, the picture is all one colour", s->path);
    cnn_ink_smooth(ink, s->height, s->width, s->rows);
out:
    return status;
}

/* Gives plain ink to be split. Most pictures are split once, from the plane that was drawn; for those that are split
 * again another one is drawn and kept. */
static cnn_status take_ink(cnn_sketch *s)
{
    cnn_status status = CNN_OK;
    if (s->state == CNN_INK_PLAIN) {
        s->state = CNN_INK_SPLIT;
        return CNN_OK;
    }
    CNN_TRY(need_planes(s, 1, &s->plain));
    if (s->state == CNN_INK_SPLIT)
        CNN_TRY(draw(s, s->plain));
    s->state = CNN_INK_KEPT;
    memcpy(s->ink, s->plain, (size_t)s->height * (size_t)s->width * sizeof *s->ink);
out:
    return status;
}

static int32_t tophat_side(const cnn_sketch *s, const ink_way *way)
{
    return (int32_t)(way->tophat_share * (s->height > s->width ? s->height : s->width));
}

/* Splits ink from paper in one way, and the ink into parts. *found is false when the way finds no ink. */
static cnn_status split(cnn_sketch *s, const ink_way *way, bool *found)
{
    cnn_status status = CNN_OK;
    size_t count = (size_t)s->height * (size_t)s->width;
    cnn_parts_free(&s->parts);
    CNN_TRY(take_ink(s));
    float sign = way->ink == LESS ? 1 : cnn_ink_sign(s->ink, count) * (way->ink == MOST ? 1.0f : -1.0f);
    for (size_t i = 0; i < count && sign < 0; i++)
        s->ink[i] = -s->ink[i];
    if (way->light == TOPHAT) {
        CNN_TRY(need_planes(s, 3, &s->rgb));
        CNN_TRY(cnn_ink_tophat(s->ink, s->height, s->width, tophat_side(s, way), s->rgb));
    } else if (way->light == FIT_LIGHT) {
        CNN_TRY(cnn_ink_flatten(s->ink, s->height, s->width));
    }
    *found = cnn_ink_threshold(s->ink, count, way->cut, s->mask);
    if (!*found)
        goto out;
    CNN_TRY(cnn_lines_erase(s->ink, s->mask, s->height, s->width));
    CNN_TRY(cnn_parts_find(s->mask, s->height, s->width, s->label, &s->parts));
    cnn_parts_select(s->mask, &s->parts);
    *found = s->parts.count > 0; /* else there were lines and nothing else */
out:
    return status;
}

/* Splits ink from paper in the way that leaves the least doubt. */
static cnn_status split_best(cnn_sketch *s)
{
    enum { WAYS = sizeof ink_ways / sizeof *ink_ways };
    cnn_status status = CNN_OK;
    double least = INFINITY;
    int best = 0, last = 0;
    bool found;
    for (int i = 0; i < WAYS && least > little_doubt; i++) {
        double doubt;
        if (ink_ways[i].light == TOPHAT && tophat_side(s, &ink_ways[i]) < LEAST_TOPHAT)
            continue;
        last = i;
        CNN_TRY(split(s, &ink_ways[i], &found));
        if (!found && i == 0)
            CNN_FAIL(CNN_ERR_FORMAT, "%s: nothing is drawn in it that could be a digit", s->path);
        if (!found)
            continue;
        CNN_TRY(cnn_parts_doubt(&s->parts, s->ink, s->mask, &doubt));
        if (doubt < least - clearly_less) {
            least = doubt;
            best = i;
        }
    }
    if (last != best)
        CNN_TRY(split(s, &ink_ways[best], &found));
out:
    return status;
}

/* Splits ink from paper, and finds which parts make a digit. */
static cnn_status find_digits(cnn_sketch *s)
{
    cnn_status status = split_best(s);
    if (status == CNN_OK)
        status = cnn_parts_join(&s->parts, s->ink, s->mask);
    if (status == CNN_OK)
        s->digits = cnn_digits_group(&s->parts, s->one, s->boxes);
    return status;
}

cnn_box cnn_sketch_to_picture(const cnn_sketch *s, cnn_box box)
{
    int64_t width = s->view.x1 - s->view.x0, height = s->view.y1 - s->view.y0;
    return (cnn_box){s->view.x0 + (int32_t)(box.x0 * width / s->width),
                     s->view.y0 + (int32_t)(box.y0 * height / s->height),
                     s->view.x0 + (int32_t)((box.x1 * width + s->width - 1) / s->width),
                     s->view.y0 + (int32_t)((box.y1 * height + s->height - 1) / s->height)};
}

/* Narrows the view to a sheet of paper in it; *found says whether there is one. */
static cnn_status look_at_sheet(cnn_sketch *s, bool *found)
{
    cnn_box sheet;
    const ink_way plain = {AS_IT_IS, 0, CNN_CUT_OTSU, LESS};
    *found = cnn_sheet_may_be(s->ink, (size_t)s->height * (size_t)s->width);
    if (!*found)
        return CNN_OK;
    cnn_status status = split(s, &plain, found);
    *found = *found && status == CNN_OK && cnn_sheet_find(&s->parts, &sheet);
    if (!*found)
        return status;
    status = compose(s); /* beside the ink */
    *found = status == CNN_OK && cnn_sheet_is_drawn_on(s->rgb, s->width, sheet);
    if (*found)
        s->view = cnn_sketch_to_picture(s, sheet);
    return status;
}

/* Fills the planes from what the view shows of the picture. */
static cnn_status look(cnn_sketch *s)
{
    cnn_status status = CNN_OK;
    CNN_TRY(alloc_planes(s));
    CNN_TRY(draw(s, s->ink));
    s->state = CNN_INK_PLAIN;
out:
    return status;
}

/* Narrows the view to the digits and what surrounds them where they are small in a picture that was shrunk. */
static cnn_status look_closer(cnn_sketch *s)
{
    int32_t view = cnn_box_longest(&s->view), plane = s->height > s->width ? s->height : s->width;
    cnn_box all = s->boxes[0];
    for (int32_t i = 1; i < s->digits; i++) {
        all.x1 = s->boxes[i].x1 > all.x1 ? s->boxes[i].x1 : all.x1;
        all.y0 = s->boxes[i].y0 < all.y0 ? s->boxes[i].y0 : all.y0;
        all.y1 = s->boxes[i].y1 > all.y1 ? s->boxes[i].y1 : all.y1;
    }
    int32_t longest = cnn_box_longest(&all), margin = (int32_t)(closer_margin * longest) + 1;
    if (view <= plane || longest > closer_share * plane)
        return CNN_OK;
    all.x0 = all.x0 > margin ? all.x0 - margin : 0;
    all.y0 = all.y0 > margin ? all.y0 - margin : 0;
    all.x1 = all.x1 < s->width - margin ? all.x1 + margin : s->width;
    all.y1 = all.y1 < s->height - margin ? all.y1 + margin : s->height;
    s->view = cnn_sketch_to_picture(s, all);
    cnn_status status = look(s);
    return status == CNN_OK ? find_digits(s) : status;
}

cnn_status cnn_sketch_draw(cnn_sketch *s)
{
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_picture_paper(s->picture, s->paper));
    CNN_TRY(look(s));
    bool found = true;
    for (int i = 0; i < MOST_SHEETS && found; i++) {
        if (s->view.x1 - s->view.x0 < LEAST_VIEW || s->view.y1 - s->view.y0 < LEAST_VIEW)
            break;
        CNN_TRY(look_at_sheet(s, &found));
        if (found)
            CNN_TRY(look(s));
    }
    CNN_TRY(find_digits(s));
    CNN_TRY(look_closer(s));
out:
    return status;
}
