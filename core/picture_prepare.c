/* The recipes that turn a picture into what a network reads.
 *
 * For digits: look at the picture (compose, project the ink, smooth, take out uneven light, split ink from paper),
 * first to find a sheet of paper to look at more closely; find the parts that were written and which of them make a
 * digit; bring each digit to MNIST's size, stroke width and place. */
#include "core/picture.h"

#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SHEETS = 2, LEAST_VIEW = 20 };

/* The part of a picture that is looked at, and the planes of that. */
typedef struct sketch {
    const cnn_picture *picture;
    const char *path;
    float paper[3];
    cnn_box view;          /* in the picture */
    int32_t height, width; /* of the planes: at most CNN_PICTURE_WORK a side */
    float *rgb;            /* [height,width,3] */
    float *ink, *scratch;  /* [height,width] */
    float *plain;          /* [height,width] ink as it was projected and smoothed */
    uint8_t *mask;         /* [height,width] */
    cnn_parts parts;       /* of the mask */
} sketch;

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

static const double little_doubt = 0.1, clearly_less = 0.05;

static void free_planes(sketch *s)
{
    free(s->rgb);
    free(s->ink);
    free(s->scratch);
    free(s->plain);
    free(s->mask);
    s->rgb = s->ink = s->scratch = s->plain = NULL;
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

static cnn_status alloc_planes(sketch *s)
{
    int32_t width = s->view.x1 - s->view.x0, height = s->view.y1 - s->view.y0;
    int32_t longest = width > height ? width : height;
    free_planes(s);
    s->width = working_size(width, longest);
    s->height = working_size(height, longest);
    size_t count = (size_t)s->width * (size_t)s->height;
    s->rgb = cnn_calloc(count, 3 * sizeof(float));
    s->ink = cnn_calloc(count, sizeof(float));
    s->scratch = cnn_calloc(count, sizeof(float));
    s->plain = cnn_calloc(count, sizeof(float));
    s->mask = cnn_calloc(count, 1);
    return s->rgb && s->ink && s->scratch && s->plain && s->mask ? CNN_OK : CNN_ERR_MEMORY;
}

static int32_t tophat_side(const sketch *s, const ink_way *way)
{
    return (int32_t)(way->tophat_share * (s->height > s->width ? s->height : s->width));
}

/* Splits ink from paper in one way, and the ink into parts. *found is false when the way finds no ink. */
static cnn_status split(sketch *s, const ink_way *way, bool *found)
{
    cnn_status status = CNN_OK;
    size_t count = (size_t)s->height * (size_t)s->width;
    cnn_parts_free(&s->parts);
    float sign = way->ink == LESS ? 1 : cnn_ink_sign(s->plain, count) * (way->ink == MOST ? 1.0f : -1.0f);
    for (size_t i = 0; i < count; i++)
        s->ink[i] = sign * s->plain[i];
    if (way->light == TOPHAT)
        CNN_TRY(cnn_ink_tophat(s->ink, s->height, s->width, tophat_side(s, way), s->scratch));
    else if (way->light == FIT_LIGHT)
        CNN_TRY(cnn_ink_flatten(s->ink, s->height, s->width));
    *found = cnn_ink_threshold(s->ink, count, way->cut, s->mask);
    if (!*found)
        goto out;
    CNN_TRY(cnn_lines_erase(s->ink, s->mask, s->height, s->width));
    CNN_TRY(cnn_parts_find(s->mask, s->height, s->width, &s->parts));
    cnn_parts_select(&s->parts);
out:
    return status;
}

/* Splits ink from paper in the way that leaves the least doubt. */
static cnn_status split_best(sketch *s)
{
    enum { WAYS = sizeof ink_ways / sizeof *ink_ways };
    cnn_status status = CNN_OK;
    double least = INFINITY;
    int best = -1, last = 0;
    bool found;
    for (int i = 0; i < WAYS && least > little_doubt; i++) {
        double doubt;
        if (ink_ways[i].light == TOPHAT && tophat_side(s, &ink_ways[i]) < LEAST_TOPHAT)
            continue;
        last = i;
        CNN_TRY(split(s, &ink_ways[i], &found));
        if (!found)
            continue;
        CNN_TRY(cnn_parts_doubt(&s->parts, s->ink, s->mask, &doubt));
        if (doubt < least - clearly_less) {
            least = doubt;
            best = i;
        }
    }
    if (best < 0)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: nothing is drawn in it, the picture is all one colour", s->path);
    if (last != best)
        CNN_TRY(split(s, &ink_ways[best], &found));
out:
    return status;
}

/* A box of the planes, in pixels of the picture. */
static cnn_box in_picture(const sketch *s, cnn_box box)
{
    int64_t width = s->view.x1 - s->view.x0, height = s->view.y1 - s->view.y0;
    return (cnn_box){s->view.x0 + (int32_t)(box.x0 * width / s->width),
                     s->view.y0 + (int32_t)(box.y0 * height / s->height),
                     s->view.x0 + (int32_t)((box.x1 * width + s->width - 1) / s->width),
                     s->view.y0 + (int32_t)((box.y1 * height + s->height - 1) / s->height)};
}

/* Narrows the view to a sheet of paper in it; *found says whether there is one. */
static cnn_status look_at_sheet(sketch *s, bool *found)
{
    cnn_box sheet;
    const ink_way plain = {AS_IT_IS, 0, CNN_CUT_OTSU, LESS};
    cnn_status status = split(s, &plain, found);
    *found = *found && status == CNN_OK && cnn_sheet_find(&s->parts, s->rgb, s->scratch, &sheet);
    if (*found)
        s->view = in_picture(s, sheet);
    return status;
}

/* Fills the planes from what the view shows of the picture. */
static cnn_status look(sketch *s)
{
    cnn_status status = CNN_OK;
    CNN_TRY(alloc_planes(s));
    CNN_TRY(cnn_picture_compose(s->picture, s->paper, s->view, s->height, s->width, s->rgb));
    if (!cnn_ink_project(s->rgb, s->height, s->width, s->mask, s->plain))
        CNN_FAIL(CNN_ERR_FORMAT, "%s: nothing is drawn in it, the picture is all one colour", s->path);
    cnn_ink_smooth(s->plain, s->height, s->width, s->scratch);
out:
    return status;
}

/* Looks at the picture, at a sheet in it and at a sheet on that one. */
static cnn_status draw_sketch(sketch *s)
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
    CNN_TRY(split_best(s));
out:
    return status;
}

static cnn_status prepare_glyph(const sketch *s, int32_t index, cnn_box box, cnn_digit *digit)
{
    cnn_glyph glyph = {0};
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_glyph_cut(s->ink, &s->parts, index, box, &glyph));
    CNN_TRY(cnn_glyph_resize(&glyph));
    CNN_TRY(cnn_glyph_set_stroke(&glyph));
    status = cnn_glyph_place(&glyph, digit->pixels);
    if (status == CNN_ERR_FORMAT)
        cnn_error_prefix(status, "%s", s->path);
    cnn_box where = in_picture(s, box);
    digit->x = where.x0;
    digit->y = where.y0;
    digit->width = where.x1 - where.x0;
    digit->height = where.y1 - where.y0;
    digit->touching = cnn_digit_touches(&box);
out:
    cnn_glyph_free(&glyph);
    return status;
}

static cnn_status prepare(const cnn_picture *picture, const char *path, bool one, cnn_digits *digits)
{
    cnn_status status = CNN_OK;
    sketch s = {.picture = picture, .path = path, .view = {0, 0, picture->width, picture->height}};
    cnn_digits made = {0};
    cnn_box boxes[CNN_MOST_DIGITS];
    CNN_TRY(draw_sketch(&s));
    made.count = cnn_digits_group(&s.parts, one, boxes);
    made.digit = cnn_calloc((size_t)made.count, sizeof *made.digit);
    if (!made.digit) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    for (int32_t i = 0; i < made.count; i++)
        CNN_TRY(prepare_glyph(&s, i, boxes[i], &made.digit[i]));
    *digits = made;
    made.digit = NULL;
out:
    cnn_digits_free(&made);
    free_planes(&s);
    return status;
}

cnn_status cnn_picture_prepare_digits(const cnn_picture *picture, const char *path, cnn_digits *digits)
{
    return prepare(picture, path, false, digits);
}

void cnn_digits_free(cnn_digits *digits)
{
    free(digits->digit);
    *digits = (cnn_digits){0};
}

cnn_status cnn_picture_prepare_digit(const cnn_picture *picture, const char *path, uint8_t *pixels)
{
    cnn_digits digits;
    cnn_status status = prepare(picture, path, true, &digits);
    if (status != CNN_OK)
        return status;
    memcpy(pixels, digits.digit[0].pixels, sizeof digits.digit[0].pixels);
    cnn_digits_free(&digits);
    return CNN_OK;
}
