/* The steps of this folder by one thread. */
#include "kernels/augment/apply.h"

#include "kernels/augment/image.h"

#include <string.h>

static size_t plane_floats(cnn_augment_shape shape)
{
    return ((size_t)shape.height + 2) * ((size_t)shape.width + 2) * (size_t)shape.channels;
}

size_t cnn_augment_scratch(cnn_augment_shape shape)
{
    return 2 * plane_floats(shape);
}

void cnn_augment_apply(const cnn_augment_params *params, bool mirror, cnn_augment_shape shape, const uint8_t *src,
                       uint8_t *dst, float *scratch)
{
    const int32_t values = shape.width * shape.channels;
    cnn_plane plane = {scratch, shape.height, shape.width, shape.channels}, spare = plane;
    float sums[CNN_AUGMENT_SUMS];
    spare.pixels = scratch + plane_floats(shape);
    if (!params->augmented) {
        memcpy(dst, src, (size_t)shape.height * (size_t)values);
        return;
    }
    augment_image(params, mirror, src, &plane, &spare, sums);
    for (int32_t y = 0; y < shape.height; y++) {
        const float *row = cnn_plane_at(&plane, y, 0);
        for (int32_t i = 0; i < values; i++)
            dst[(ptrdiff_t)y * values + i] = augment_byte(row[i]);
    }
}
