/* What is changed in an image: the parameters that train/augment_draw.c draws and the steps of this folder apply. */
#ifndef CNN_AUGMENT_PARAMS_H
#define CNN_AUGMENT_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

/* The elastic field is a uniform cubic B-spline over 4x4 cells. One axis has 4 cells and 7 nodes: cell i lies between
 * nodes i+1 and i+2 and is bent by nodes i to i+3. */
enum { CNN_AUGMENT_CELLS = 4, CNN_AUGMENT_NODES = CNN_AUGMENT_CELLS + 3 };

/* Strokes added to a digit. Lengths are shares of the digit's height, directions (x, y) with y down have length 1. */
typedef struct cnn_augment_serif {
    bool flag, foot, bar;
    float flag_length;
    float flag_turn[2];   /* cosine and sine of the angle between flag and stem */
    float foot_length[2]; /* left and right of the stem */
    float foot_along[2];
    float bar_height; /* 0: top of the digit, 1: bottom */
    float bar_length; /* to both sides */
    float bar_along[2];
    float width; /* of all of them, as a share of the digit's own stroke width */
} cnn_augment_serif;

typedef struct cnn_augment_params {
    bool augmented; /* false: the image stays as it is, whatever stands below */
    float turn[2][2];
    float move[2]; /* x, y in pixels: where the image goes */
    bool flows;
    float flow[2][CNN_AUGMENT_NODES][CNN_AUGMENT_NODES]; /* x, y in pixels at the nodes, row by row */
    float stroke;                                        /* pixels by which strokes get wider; < 0: thinner */
    cnn_augment_serif serif;
    float blur;         /* > 0: share of the image smoothed by (1 2 1)/4; < 0: sharpened by as much */
    float contrast;     /* factor of brightness, about 0, or with `mirror` about 127.5 */
    float cutout;       /* side of the square in pixels; 0: none */
    float cutout_at[2]; /* its centre, x and y, as shares of the image */
} cnn_augment_params;

typedef struct cnn_augment_shape {
    int32_t height, width, channels;
} cnn_augment_shape;

#endif
