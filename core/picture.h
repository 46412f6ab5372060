/* Steps of picture preparation, in the order in which picture_prepare.c takes them. Planes are float, row by row; ink
 * is 0 (paper) to 1 (full ink). */
#ifndef CNN_CORE_PICTURE_H
#define CNN_CORE_PICTURE_H

#include "cnn/picture.h"

#include <string.h>

enum {
    CNN_DIGIT_BOX = 20,       /* longest side of the drawing in CNN_DIGIT_SIDE */
    CNN_PICTURE_WORK = 512,   /* longest side that preparation works on */
    CNN_PICTURE_COLOURS = 256 /* of a picture with an index */
};

/* Half-open box: x0 <= x < x1, y0 <= y < y1. */
typedef struct cnn_box {
    int32_t x0, y0, x1, y1;
} cnn_box;

static inline int32_t cnn_box_longest(const cnn_box *box)
{
    int32_t width = box->x1 - box->x0, height = box->y1 - box->y0;
    return width > height ? width : height;
}

/* ---- Colours ---- */

/* Writes row y of the source: row [width, channels] */
typedef void (*cnn_row_fn)(const void *source, int32_t y, float *row);

/* Resamples a source of height x width x channels (<= 4), read row by row in order, to dst [dst_height, dst_width,
 * channels]: where it shrinks each value is the mean of the area it covers, where it grows it is interpolated
 * bilinearly. */
cnn_status cnn_resample(cnn_row_fn read_row, const void *source, int32_t height, int32_t width, int32_t channels,
                        int32_t dst_height, int32_t dst_width, float *dst);

/* The colour [3] that shows where the picture is transparent (black where it nowhere is): where it is mostly opaque the
 * median opaque colour; else white under a dark drawing, black under a bright one. */
cnn_status cnn_picture_paper(const cnn_picture *picture, float *paper);

/* Puts what the view shows of the picture on its paper and resamples it to rgb [height, width, 3], 0..1. */
cnn_status cnn_picture_compose(const cnn_picture *picture, const float *paper, cnn_box view, int32_t height,
                               int32_t width, float *rgb);

/* The colours of a picture with an index, on its paper: rgb 0..1. */
void cnn_picture_compose_colours(const cnn_picture *picture, const float *paper, float rgb[CNN_PICTURE_COLOURS][3]);

/* How many pixels of the view have each of the colours of a picture with an index. */
void cnn_picture_count_colours(const cnn_picture *picture, cnn_box view, uint32_t counts[CNN_PICTURE_COLOURS]);

/* ---- Statistics ---- */

/* The value below which the share of values [count] lies; 0 when there are none. Exact to 1/4096 of their range. */
float cnn_quantile(const float *values, size_t count, double share);
float cnn_median(const float *values, size_t count);

/* The least and the greatest of count > 0 values. */
void cnn_extremes(const float *values, size_t count, float *low, float *high);

/* The median of values [n], each of which is there so many times. */
float cnn_median_of_counts(const float *values, const uint32_t *times, int n);

/* The medians of the values that are at most `cut` and of those that are more; false when one of the two has none. */
bool cnn_medians_beside(const float *values, size_t count, float cut, float *below, float *above);

/* Standard deviation of the values where mask equals `want`; 0 when there are none. */
float cnn_deviation(const float *values, size_t count, const uint8_t *mask, uint8_t want);

/* Otsu's threshold: the cut between 256 bins that makes the variance between the two sides largest, the middle one of
 * equally good cuts. */
float cnn_otsu(const float *values, size_t count);

/* ---- Ink ---- */

/* Pixels that the header of a PNG file promises; 0 when it cannot be read. */
int64_t cnn_picture_count_pixels(const char *path);

/* Gray of an RGB pixel: (77 R + 150 G + 29 B + 128) / 256, which of a gray is itself. */
uint8_t cnn_picture_gray(const uint8_t *rgb);

/* Ink without polarity: each pixel's difference from the paper, projected on the main colour direction.
 * rgb: [height,width,3]; ink: [height,width], positive for dark and bright drawings alike. False when nothing is
 * drawn. */
bool cnn_ink_project(const float *rgb, int32_t height, int32_t width, float *ink);

/* The same from a picture with an index: what the view shows, as large as it is there. */
bool cnn_ink_project_colours(const cnn_picture *picture, const float *paper, cnn_box view, float *ink);

/* Smooths by a Gaussian that suits the size: none under 56 px, 0.7 px, 1 px from 200 px. scratch:
 * [CNN_SMOOTH_ROWS,width] */
enum { CNN_SMOOTH_ROWS = 9 };
void cnn_ink_smooth(float *ink, int32_t height, int32_t width, float *scratch);

/* Takes uneven light out of ink [height,width]; even light is left as it is. */
cnn_status cnn_ink_flatten(float *ink, int32_t height, int32_t width);

/* Leaves of ink [height,width] what is narrower than `side`: strokes, also under shadows with hard edges.
 * scratch: [height,width] */
cnn_status cnn_ink_tophat(float *ink, int32_t height, int32_t width, int32_t side, float *scratch);

/* 1, or -1 when what differs most from the median of ink [count] lies below it. */
float cnn_ink_sign(const float *ink, size_t count);

/* Where ink and paper are split: by Otsu's threshold, or at half the highest contrast. */
typedef enum cnn_cut { CNN_CUT_OTSU, CNN_CUT_HALF } cnn_cut;

/* mask [count] = 1 where ink is more than cut, else 0 */
void cnn_ink_mask(const float *ink, size_t count, float cut, uint8_t *mask);

/* Splits ink from paper: mask [count] = 1 where ink; ink becomes soft, 0 at a quarter and 1 at three quarters of the
 * way from the median paper to the median ink. False when there is only one side. */
bool cnn_ink_threshold(float *ink, size_t count, cnn_cut kind, uint8_t *mask);

/* Erases the lines of ruled or checkered paper that the mask holds, two and more in a direction, from ink and mask
 * [height,width]; strokes that cross them stay. */
cnn_status cnn_lines_erase(float *ink, uint8_t *mask, int32_t height, int32_t width);

/* ---- Parts ---- */

enum { CNN_NO_DIGIT = -1 };

typedef struct cnn_part {
    cnn_box box;
    int32_t first;     /* pixel, in row order */
    int32_t size;      /* pixels */
    int32_t edge;      /* of them on the picture's border */
    int32_t outline;   /* of them close to a side of the box */
    int32_t digit;     /* that it belongs to, from left to right, or CNN_NO_DIGIT */
    int32_t bridge;    /* the same for parts that soft ink joins */
    bool kept;         /* it was written, as far as one can tell */
    bool surroundings; /* of the paper, or a line on it */
} cnn_part;

typedef struct cnn_parts {
    int32_t height, width;
    int32_t *label; /* [height,width] 0: paper, else 1 + index of the part; the caller's */
    cnn_part *part; /* [count] */
    int32_t count;
} cnn_parts;

/* Finds the 8-connected parts of mask [height,width]; the caller frees them. label: [height,width], which the parts
 * refer to */
cnn_status cnn_parts_find(const uint8_t *mask, int32_t height, int32_t width, int32_t *label, cnn_parts *parts);
void cnn_parts_free(cnn_parts *parts);

/* How many there are. */
cnn_status cnn_parts_count(const uint8_t *mask, int32_t height, int32_t width, int32_t *count);

/* The box around all parts; empty when there are none. */
cnn_box cnn_parts_box(const cnn_parts *parts);

/* Sets `kept`: parts of at least 5 % of the largest one's pixels, and 3 pixels; but none that come in from the border
 * along much of it or as a thin line, unless hardly anything remains without them. */
void cnn_parts_select(const uint8_t *mask, cnn_parts *parts);

/* Sets `bridge`, so that strokes which are faint in places stay one. scratch: [height,width] */
cnn_status cnn_parts_join(cnn_parts *parts, const float *ink, uint8_t *scratch);

/* The first pixel from i on where the mask is not 0, or end; eight are passed over at a time. */
static inline int32_t cnn_next_inked(const uint8_t *mask, int32_t i, int32_t end)
{
    uint64_t eight;
    for (; i + 8 <= end; i += 8) {
        memcpy(&eight, mask + i, sizeof eight);
        if (eight)
            break;
    }
    while (i < end && !mask[i])
        i++;
    return i;
}

/* Whether a part lies along the picture's border, as a table under a sheet or a shadow does. */
bool cnn_part_lies_along_border(const cnn_part *part);

/* How doubtful it is that what is kept was written; 0: not at all. Writing is thin, does not run along the picture's
 * border, has sharp edges and few parts, and is more than what lies scattered around it. ink, mask: [height,width] */
cnn_status cnn_parts_doubt(const cnn_parts *parts, const float *ink, const uint8_t *mask, double *doubt);

static inline int32_t cnn_parts_digit_at(const cnn_parts *parts, int32_t x, int32_t y)
{
    int32_t label = parts->label[(size_t)y * (size_t)parts->width + (size_t)x];
    return label ? parts->part[label - 1].digit : CNN_NO_DIGIT;
}

/* Whether Otsu's threshold leaves so much of ink [count] that a sheet may be among it. */
bool cnn_sheet_may_be(const float *ink, size_t count);

/* The inside of what may be a sheet of paper: a solid part that fills much of the picture. False when there is none. */
bool cnn_sheet_find(const cnn_parts *parts, cnn_box *sheet);

/* Whether something is drawn in the box of rgb [height,width,3], which becomes scratch memory. */
bool cnn_sheet_is_drawn_on(float *rgb, int32_t width, cnn_box box);

/* ---- Digits ---- */

/* Sets the digit of each kept part: joined parts and parts above each other are one digit, small ones belong to a digit
 * beside them or to none, as does what is not in the row of the highest one; with `one` set everything is one digit.
 * Returns how many there are; boxes: [CNN_MOST_DIGITS]. */
int32_t cnn_digits_group(cnn_parts *parts, bool one, cnn_box *boxes);

/* Whether a digit is so wide that it may be two that touch. */
bool cnn_digit_touches(const cnn_box *box);

/* ---- What is drawn in a picture ---- */

/* The part of a picture that is looked at, and the planes of that. */
typedef struct cnn_sketch {
    const cnn_picture *picture;
    const char *path;
    float paper[3];
    cnn_box view;          /* in the picture */
    int32_t height, width; /* of the planes: at most CNN_PICTURE_WORK a side */
    float *ink;            /* [height,width] */
    float *rows;           /* [CNN_SMOOTH_ROWS,width] scratch */
    float *rgb;            /* [height,width,3] before the ink is projected, then scratch; may be NULL */
    float *plain;          /* [height,width] ink as it was projected and smoothed; may be NULL */
    enum { CNN_INK_PLAIN, CNN_INK_SPLIT, CNN_INK_KEPT } state; /* ink is plain; it is not; and plain is */
    uint8_t *mask;                                             /* [height,width] */
    int32_t *label;                                            /* [height,width] of the parts */
    cnn_parts parts;                                           /* of the mask */
    bool one;                                                  /* everything is one digit */
    int32_t digits;                                            /* 1 at least */
    cnn_box boxes[CNN_MOST_DIGITS];                            /* [digits] in the planes */
} cnn_sketch;

/* Finds what is drawn in s->picture: s->view (at first all of the picture) narrows to a sheet or to small digits in it,
 * ink and parts are those of the view. A picture of one colour, or of lines alone, is CNN_ERR_FORMAT, named by s->path.
 * The caller frees the planes with cnn_sketch_free, also after a failure. */
cnn_status cnn_sketch_draw(cnn_sketch *s);
void cnn_sketch_free(cnn_sketch *s);

/* A box of the planes, in pixels of the picture. */
cnn_box cnn_sketch_to_picture(const cnn_sketch *s, cnn_box box);

/* ---- One digit ---- */

/* A digit on planes of its own. */
typedef struct cnn_glyph {
    int32_t height, width;
    float *ink;    /* [height,width] */
    uint8_t *mask; /* [height,width] 1: ink */
} cnn_glyph;

/* Cuts a digit out, with the ink that is not more than 2 px from its parts; the caller frees the glyph, also when a
 * later step fails. */
cnn_status cnn_glyph_cut(const float *ink, const cnn_parts *parts, int32_t digit, cnn_box box, cnn_glyph *glyph);
void cnn_glyph_free(cnn_glyph *glyph);

/* Brings the longest side to 80 pixels at least, by a whole number of times, and to 512 at most. */
cnn_status cnn_glyph_resize(cnn_glyph *glyph);

/* Widens thin strokes and narrows thick ones: in a box of 20 pixels a mean width below 1.6 becomes 2.4, one above 3.8
 * becomes 3.4. */
cnn_status cnn_glyph_set_stroke(cnn_glyph *glyph);

/* Distance of each pixel to the nearest where mask [height,width] is `target`; 1e6 where there is none. */
cnn_status cnn_distance(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, float *distance);

/* The same where it is at most reach; elsewhere something larger. */
cnn_status cnn_distance_near(const uint8_t *mask, uint8_t target, int32_t height, int32_t width, int32_t reach,
                             float *distance);

/* Puts a glyph into 28x28: longest side 20 px, the 90th percentile of ink is full brightness, centre of mass at
 * (14, 14). pixels: [28,28]. Soft ink may be nowhere in the glyph: CNN_ERR_FORMAT. */
cnn_status cnn_glyph_place(const cnn_glyph *glyph, uint8_t *pixels);

#endif
