/* Images to network input: each byte goes through its channel's table of 256 values. */
#include "kernels/ref/ref.h"

void cnn_ref_input(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    const int32_t *index = arg[CNN_ARG_INDEX];
    if (index && state)
        index += state->cursor;
    for (int32_t n = 0; n < dst->n; n++) {
        int32_t image = index ? index[n] : n;
        for (int32_t h = 0; h < dst->h; h++)
            for (int32_t w = 0; w < dst->w; w++)
                for (int32_t c = 0; c < dst->c; c++) {
                    double byte = cnn_ref_get(src, arg[CNN_ARG_SRC], cnn_ref_pixel(src, image, h, w), c);
                    double value = cnn_ref_get(&desc->arg[CNN_ARG_TABLE], arg[CNN_ARG_TABLE], c, (int32_t)byte);
                    cnn_ref_put(dst, arg[CNN_ARG_DST], cnn_ref_pixel(dst, n, h, w), c, value);
                }
    }
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
}
