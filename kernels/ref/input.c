/* Images to network input: augmented or as they are, each byte goes through its channel's table of 256 values. */
#include "kernels/augment/apply.h"
#include "kernels/ref/ref.h"

static cnn_augment_shape shape_of(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    return (cnn_augment_shape){dst->h, dst->w, dst->c};
}

/* An augmented image behind the scratch space of the augmentation. */
size_t cnn_ref_input_workspace(const cnn_op_desc *desc)
{
    const cnn_augment_shape shape = shape_of(desc);
    if (desc->arg[CNN_ARG_SRC2].dtype == CNN_NONE)
        return 0;
    return cnn_augment_scratch(shape) * sizeof(float) +
           (size_t)shape.height * (size_t)shape.width * (size_t)shape.channels;
}

/* Image n of dst from image `image` of bytes. */
static void look_up(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t n, const void *bytes,
                    int32_t image)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    for (int32_t h = 0; h < dst->h; h++)
        for (int32_t w = 0; w < dst->w; w++)
            for (int32_t c = 0; c < dst->c; c++) {
                double byte = cnn_ref_get(src, bytes, cnn_ref_pixel(src, image, h, w), c);
                double value = cnn_ref_get(&desc->arg[CNN_ARG_TABLE], arg[CNN_ARG_TABLE], c, (int32_t)byte);
                cnn_ref_put(dst, arg[CNN_ARG_DST], cnn_ref_pixel(dst, n, h, w), c, value);
            }
}

void cnn_ref_input(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    const cnn_augment_params *params = arg[CNN_ARG_SRC2];
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    const int32_t *index = arg[CNN_ARG_INDEX];
    const cnn_augment_shape shape = shape_of(desc);
    const int64_t image_bytes = (int64_t)shape.height * shape.width * shape.channels;
    uint8_t *augmented = params ? (uint8_t *)((float *)workspace + cnn_augment_scratch(shape)) : NULL;
    if (index && state)
        index += state->cursor;
    for (int32_t n = 0; n < desc->arg[CNN_ARG_DST].n; n++) {
        int32_t image = index ? index[n] : n;
        if (!params) {
            look_up(desc, arg, n, arg[CNN_ARG_SRC], image);
            continue;
        }
        cnn_augment_apply(&params[n], desc->mirror, shape, (const uint8_t *)arg[CNN_ARG_SRC] + image * image_bytes,
                          augmented, workspace);
        look_up(desc, arg, n, augmented, 0);
    }
    cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST]);
}
