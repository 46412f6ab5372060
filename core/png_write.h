/* Writing PNG pictures. */
#ifndef CNN_CORE_PNG_WRITE_H
#define CNN_CORE_PNG_WRITE_H

#include "cnn/status.h"

/* A PNG file in fresh memory; free() it. pixels: [height,width,channels], 1 channel gray, 3 RGB. */
cnn_status cnn_png_encode(const uint8_t *pixels, int32_t width, int32_t height, int32_t channels, uint8_t **png,
                          size_t *bytes);

#endif
