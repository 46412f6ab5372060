/* From a picture file to the bytes a network reads. */
#ifndef CNN_PICTURE_H
#define CNN_PICTURE_H

#include "cnn/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How a picture becomes the image that a network reads. Ids are part of the .cnn format: append only. */
typedef enum cnn_preparation {
    CNN_PREPARE_UNKNOWN = 0, /* nothing is said */
    CNN_PREPARE_DIGIT = 1,   /* digits as MNIST has them: cnn_picture_prepare_digits */
    CNN_PREPARE_RESIZE = 2   /* the whole picture: cnn_picture_resize */
} cnn_preparation;

/* Either the colour of each pixel, or one of 256 colours by its number, which takes an eighth of the memory. */
typedef struct cnn_picture {
    int32_t width, height;
    uint16_t *rgba;        /* [height,width,4], 0..65535, straight alpha; NULL: there is an index */
    uint8_t *index;        /* [height,width] into colour; NULL: there is rgba */
    uint16_t (*colour)[4]; /* [256] */
} cnn_picture;

/* Reads a PNG of any colour type, depth and interlacing; those with a palette, or grays of 8 bits and less, come with
 * an index unless they are interlaced. Refused before decoding: more than 64 MiB of file or 64 Mpixel. Errors name the
 * file. The caller frees with cnn_picture_free. */
CNN_API cnn_status cnn_picture_read(const char *path, cnn_picture *picture);
CNN_API void cnn_picture_free(cnn_picture *picture);

/* Gives a picture rgba in the place of its index; nothing happens when it has rgba. */
CNN_API cnn_status cnn_picture_expand(cnn_picture *picture);

enum { CNN_DIGIT_SIDE = 28, CNN_MOST_DIGITS = 64 /* of one picture */ };

/* One digit of a picture, prepared as MNIST was: ink bright on black, the drawing's longest side 20 pixels, its centre
 * of mass in the middle of 28x28, strokes of MNIST's width. */
typedef struct cnn_digit {
    uint8_t pixels[CNN_DIGIT_SIDE * CNN_DIGIT_SIDE]; /* [28,28] */
    int32_t x, y, width, height;                     /* where it stands in the picture, in its pixels */
    bool touching;                                   /* so wide that it may be several digits that touch */
} cnn_digit;

/* From left to right. */
typedef struct cnn_digits {
    cnn_digit *digit; /* [count] */
    int32_t count;    /* 1 to CNN_MOST_DIGITS */
} cnn_digits;

/* Finds the digits of a picture and prepares each one. The picture may have any size, colours and polarity; uneven
 * light, a sheet's surroundings, ruled lines and specks are left out. Digits are told apart where paper lies between
 * them; they are not cut where they touch. A picture of one colour, or of lines alone, is CNN_ERR_FORMAT ("nothing is
 * drawn in it"), named by `path`. The caller frees with cnn_digits_free. */
CNN_API cnn_status cnn_picture_prepare_digits(const cnn_picture *picture, const char *path, cnn_digits *digits);
CNN_API void cnn_digits_free(cnn_digits *digits);

/* The same for a picture that is known to show one digit: all that is drawn belongs to it. pixels: [28,28] */
CNN_API cnn_status cnn_picture_prepare_digit(const cnn_picture *picture, const char *path, uint8_t *pixels);

/* Fits a whole picture into an image: composed on its paper, resampled (area means or bilinear) with its proportions
 * kept, in the middle; beside it the median colour of its outermost pixels. pixels: [height,width,channels]; channels
 * 1 (gray) or 3 (RGB). */
CNN_API cnn_status cnn_picture_resize(const cnn_picture *picture, int32_t height, int32_t width, int32_t channels,
                                      uint8_t *pixels);

/* The image that a network reads, and how pictures become it. */
typedef struct cnn_image_form {
    int32_t height, width, channels;
    cnn_preparation preparation;
} cnn_image_form;

/* Prepares a picture as `form` says; digits are 28x28x1. pixels: [height,width,channels]. Errors name `path`. */
CNN_API cnn_status cnn_picture_prepare(const cnn_picture *picture, const char *path, const cnn_image_form *form,
                                       uint8_t *pixels);

#ifdef __cplusplus
}
#endif
#endif
