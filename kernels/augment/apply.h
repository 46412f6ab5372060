/* Augmentation of an image on the CPU: the steps of this folder, by one thread. */
#ifndef CNN_AUGMENT_APPLY_H
#define CNN_AUGMENT_APPLY_H

#include "kernels/augment/params.h"

#include <stddef.h>

/* Floats of scratch space that one image needs. */
size_t cnn_augment_scratch(cnn_augment_shape shape);

/* src, dst: [height,width,channels], not the same memory. mirror: what lies outside of an image is its mirror image. */
void cnn_augment_apply(const cnn_augment_params *params, bool mirror, cnn_augment_shape shape, const uint8_t *src,
                       uint8_t *dst, float *scratch);

#endif
