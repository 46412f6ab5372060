/* Fitting a whole picture into the image that a network reads, proportions kept.
 *
 * The picture is composed on its paper and resampled to the largest size that fits, placed in the middle, and what is
 * left beside it takes the median colour of its outermost pixels. Gray is made of the RGB bytes in integers, so that a
 * colour image that holds only grays and its gray form are the same. */
#include "core/picture.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

/* Where the picture lies in the image. */
typedef struct fitted {
    int32_t height, width, top, left;
} fitted;

/* round(side * numerator / denominator), at least 1 */
static int32_t scale_side(int32_t side, int32_t numerator, int32_t denominator)
{
    int64_t scaled = (2 * (int64_t)side * numerator + denominator) / (2 * (int64_t)denominator);
    return scaled < 1 ? 1 : (int32_t)scaled;
}

static fitted fit(const cnn_picture *picture, int32_t height, int32_t width)
{
    fitted place = {.height = height, .width = width};
    if ((int64_t)picture->width * height >= (int64_t)picture->height * width)
        place.height = scale_side(picture->height, width, picture->width);
    else
        place.width = scale_side(picture->width, height, picture->height);
    place.top = (height - place.height) / 2;
    place.left = (width - place.width) / 2;
    return place;
}

/* Median of one channel over the outermost pixels of rgb [height,width,3]. */
static uint8_t edge_median(const uint8_t *rgb, int32_t height, int32_t width, int channel)
{
    int32_t counts[256] = {0}, total = 0, seen = 0;
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x += y == 0 || y == height - 1 || width == 1 ? 1 : width - 1) {
            counts[rgb[3 * ((size_t)y * (size_t)width + (size_t)x) + (size_t)channel]]++;
            total++;
        }
    int level = 0;
    for (; level < 255; level++) {
        seen += counts[level];
        if (2 * seen >= total)
            break;
    }
    return (uint8_t)level;
}

uint8_t cnn_picture_gray(const uint8_t *rgb)
{
    return (uint8_t)((77u * rgb[0] + 150u * rgb[1] + 29u * rgb[2] + 128u) >> 8);
}

/* Puts small [place->height, place->width, 3] into pixels [height,width,channels]. */
static void put(const uint8_t *small, const fitted *place, int32_t height, int32_t width, int32_t channels,
                uint8_t *pixels)
{
    uint8_t paper[3];
    for (int c = 0; c < 3; c++)
        paper[c] = edge_median(small, place->height, place->width, c);
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++, pixels += channels) {
            int32_t from_y = y - place->top, from_x = x - place->left;
            bool inside = from_y >= 0 && from_y < place->height && from_x >= 0 && from_x < place->width;
            const uint8_t *rgb = inside ? small + 3 * ((size_t)from_y * (size_t)place->width + (size_t)from_x) : paper;
            if (channels == 1)
                *pixels = cnn_picture_gray(rgb);
            else
                memcpy(pixels, rgb, 3);
        }
}

cnn_status cnn_picture_resize(const cnn_picture *picture, int32_t height, int32_t width, int32_t channels,
                              uint8_t *pixels)
{
    cnn_status status = CNN_OK;
    fitted place = fit(picture, height, width);
    const cnn_box view = {0, 0, picture->width, picture->height};
    size_t values = 3 * (size_t)place.height * (size_t)place.width;
    float paper[3], *rgb = cnn_calloc(values, sizeof *rgb);
    uint8_t *small = cnn_calloc(values, 1);
    if (!rgb || !small) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    if (channels != 1 && channels != 3)
        CNN_FAIL(CNN_ERR_USAGE, "a picture has 1 or 3 channels, the network reads %d", channels);
    CNN_TRY(cnn_picture_paper(picture, paper));
    CNN_TRY(cnn_picture_compose(picture, paper, view, place.height, place.width, rgb));
    for (size_t i = 0; i < values; i++)
        small[i] = (uint8_t)(rgb[i] * 255.0f + 0.5f);
    put(small, &place, height, width, channels, pixels);
out:
    free(rgb);
    free(small);
    return status;
}

cnn_status cnn_picture_prepare(const cnn_picture *picture, const char *path, const cnn_image_form *form,
                               uint8_t *pixels)
{
    cnn_status status = CNN_OK;
    bool digit_sized = form->height == CNN_DIGIT_SIDE && form->width == CNN_DIGIT_SIDE && form->channels == 1;
    if (form->preparation != CNN_PREPARE_DIGIT)
        status = cnn_picture_resize(picture, form->height, form->width, form->channels, pixels);
    else if (digit_sized)
        return cnn_picture_prepare_digit(picture, path, pixels);
    else
        status = cnn_error(CNN_ERR_USAGE, "digits are prepared as %dx%dx1, not as %dx%dx%d", CNN_DIGIT_SIDE,
                           CNN_DIGIT_SIDE, form->height, form->width, form->channels);
    return status == CNN_OK ? CNN_OK : cnn_error_prefix(status, "%s", path);
}
