/* The image that augmentation works on: floats 0..255 with a border of one pixel. */
#ifndef CNN_TRAIN_AUGMENT_PLANE_H
#define CNN_TRAIN_AUGMENT_PLANE_H

#include "train/augment.h"

typedef struct cnn_plane {
    float *pixels; /* [height+2, width+2, channels], the border included */
    int32_t height, width, channels;
} cnn_plane;

/* Channels of the pixel (x, y); both may be -1 and height or width: the border. */
static inline float *cnn_plane_at(const cnn_plane *plane, int32_t y, int32_t x)
{
    const ptrdiff_t stride = (ptrdiff_t)plane->width + 2;
    return plane->pixels + ((ptrdiff_t)(y + 1) * stride + x + 1) * plane->channels;
}

static inline float cnn_lower(float a, float b)
{
    return a < b ? a : b;
}

static inline float cnn_higher(float a, float b)
{
    return a > b ? a : b;
}

/* Mean width of the strokes in pixels: 2 * ink / length of the edges, which is the sum of all gradients over the
 * brightest pixel. Soft edges count as much as hard ones. 0 when the image is empty. The border must be 0. */
float cnn_plane_stroke_width(const cnn_plane *plane);

/* Where the centre of mass went: x, y. */
typedef struct cnn_plane_shift {
    float x, y;
} cnn_plane_shift;

/* Draws the serif's strokes on a digit, as bright as the brightest pixel. Only on one channel; the border stays 0. */
cnn_plane_shift cnn_augment_draw_serif(const cnn_augment_serif *serif, cnn_plane *plane);

#endif
