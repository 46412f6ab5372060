/* Steps of picture preparation. Planes are float, row by row; ink is 0 (paper) to 1 (full ink). */
#ifndef CNN_CORE_PICTURE_H
#define CNN_CORE_PICTURE_H

#include "cnn/picture.h"

enum {
    CNN_DIGIT_SIDE = 28,
    CNN_DIGIT_BOX = 20,    /* longest side of the drawing in it */
    CNN_PICTURE_WORK = 512 /* longest side that preparation works on */
};

/* Half-open box: x0 <= x < x1, y0 <= y < y1. */
typedef struct cnn_box {
    int32_t x0, y0, x1, y1;
} cnn_box;

/* Writes row y of the source: row [width, channels] */
typedef void (*cnn_row_fn)(const void *source, int32_t y, float *row);

/* Resamples a source of height x width x channels (<= 4), read row by row in order, to dst [dst_height, dst_width,
 * channels]: where it shrinks each value is the mean of the area it covers, where it grows it is interpolated
 * bilinearly. */
cnn_status cnn_resample(cnn_row_fn read_row, const void *source, int32_t height, int32_t width, int32_t channels,
                        int32_t dst_height, int32_t dst_width, float *dst);

/* Puts the picture on its paper and resamples it to rgb [height, width, 3], 0..1. Where it is mostly opaque the paper
 * has the median opaque colour; else it is white under a dark drawing, black under a bright one. */
cnn_status cnn_picture_compose(const cnn_picture *picture, int32_t height, int32_t width, float *rgb);

/* Gray of an RGB pixel: (77 R + 150 G + 29 B + 128) / 256, which of a gray is itself. */
uint8_t cnn_picture_gray(const uint8_t *rgb);

/* Ink without polarity: each pixel's difference from the paper, projected on the main colour direction.
 * rgb: [height,width,3]; scratch: [height,width]; ink: [height,width], positive for dark and bright drawings alike.
 * False when nothing is drawn. */
bool cnn_ink_project(const float *rgb, int32_t height, int32_t width, uint8_t *scratch, float *ink);

/* Smooths by a Gaussian that suits the size: none under 56 px, 0.7 px, 1 px from 200 px. scratch: [height,width] */
void cnn_ink_smooth(float *ink, int32_t height, int32_t width, float *scratch);

/* Splits ink from paper (Otsu): mask [count] = 1 where ink; ink becomes soft, 0 at a quarter and 1 at three quarters of
 * the way from the median paper to the median ink. False when there is only one side. */
bool cnn_ink_threshold(float *ink, size_t count, uint8_t *mask);

/* Median of values [count] where mask [count] equals `want` (mask NULL: of all), with `stride` between values; 0 when
 * there are none. */
float cnn_median(const float *values, size_t count, size_t stride, const uint8_t *mask, uint8_t want);

/* Keeps 8-connected parts of the mask with at least 5 % of the largest one's pixels, and 3 pixels; clears ink that is
 * more than 2 px from them; box: what surrounds them. mask must not be empty. */
cnn_status cnn_ink_components(float *ink, uint8_t *mask, int32_t height, int32_t width, cnn_box *box);

/* Puts the ink in the box into 28x28: longest side 20 px, the 90th percentile of ink is full brightness, centre of
 * mass at (14, 14). ink: [height,width]; pixels: [28,28]. Soft ink may be nowhere in the box: CNN_ERR_FORMAT. */
cnn_status cnn_ink_place(const float *ink, int32_t width, cnn_box box, uint8_t *pixels);

#endif
