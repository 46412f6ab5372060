/* From a picture to digits as MNIST has them: finds what is drawn, brings each digit to MNIST's size, stroke width and
 * place. */
#include "core/picture.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

static cnn_status prepare_glyph(const cnn_sketch *s, int32_t index, cnn_digit *digit)
{
    const cnn_box box = s->boxes[index];
    cnn_glyph glyph = {0};
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_glyph_cut(s->ink, &s->parts, index, box, &glyph));
    CNN_TRY(cnn_glyph_resize(&glyph));
    CNN_TRY(cnn_glyph_set_stroke(&glyph));
    status = cnn_glyph_place(&glyph, digit->pixels);
    if (status == CNN_ERR_FORMAT)
        cnn_error_prefix(status, "%s", s->path);
    cnn_box where = cnn_sketch_to_picture(s, box);
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
    cnn_sketch s = {.picture = picture, .path = path, .view = {0, 0, picture->width, picture->height}, .one = one};
    cnn_digits made = {0};
    CNN_TRY(cnn_sketch_draw(&s));
    made.count = s.digits;
    made.digit = cnn_calloc((size_t)made.count, sizeof *made.digit);
    if (!made.digit) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    for (int32_t i = 0; i < made.count; i++)
        CNN_TRY(prepare_glyph(&s, i, &made.digit[i]));
    *digits = made;
    made.digit = NULL;
out:
    cnn_digits_free(&made);
    cnn_sketch_free(&s);
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
