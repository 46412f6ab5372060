/* From a picture file to the bytes a network reads. */
#ifndef CNN_PICTURE_H
#define CNN_PICTURE_H

#include "cnn/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cnn_picture {
    int32_t width, height;
    uint16_t *rgba; /* [height,width,4], 0..65535, straight alpha */
} cnn_picture;

/* Reads a PNG of any colour type, depth and interlacing. Refused before decoding: more than 64 MiB of file or
 * 64 Mpixel. Errors name the file. The caller frees with cnn_picture_free. */
CNN_API cnn_status cnn_picture_read(const char *path, cnn_picture *picture);
CNN_API void cnn_picture_free(cnn_picture *picture);

/* Prepares a picture of one digit as MNIST was prepared: alpha, ink, crop, 20x20 box, centre of mass in 28x28, ink
 * bright on black. pixels: [28,28]. A picture of one colour is CNN_ERR_FORMAT ("nothing is drawn in it"). */
CNN_API cnn_status cnn_picture_prepare_digit(const cnn_picture *picture, const char *path, uint8_t *pixels);

/* Prepares a picture for a network of another input shape: composed on black or white, resized (box filter or
 * bilinear), gray or RGB. pixels: [height,width,channels]; channels 1 or 3. */
CNN_API cnn_status cnn_picture_resize(const cnn_picture *picture, int32_t height, int32_t width, int32_t channels,
                                      uint8_t *pixels);

#ifdef __cplusplus
}
#endif
#endif
