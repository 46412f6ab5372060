/* Dropout: what stays is scaled up, so that sums stay what they are on average. */
#include "kernels/ref/ref.h"

void cnn_ref_dropout(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *dst = &desc->arg[CNN_ARG_DST];
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    const int32_t *index = arg[CNN_ARG_INDEX];
    const float scale = 1.0f / (1.0f - desc->rate);
    const int64_t pixels = (int64_t)dst->h * dst->w;
    (void)workspace;
    for (int32_t n = 0; n < dst->n; n++) {
        const uint64_t key = cnn_dropout_key(desc->seed, state->epoch, index ? index[state->cursor + n] : n);
        for (int64_t pixel = 0; pixel < pixels; pixel++)
            for (int32_t c = 0; c < dst->c; c++) {
                const bool keeps = cnn_dropout_keeps(key, pixel * dst->c + c, desc->rate);
                const double x = cnn_ref_get(src, arg[CNN_ARG_SRC], n * pixels + pixel, c);
                cnn_ref_put(dst, arg[CNN_ARG_DST], n * pixels + pixel, c, keeps ? x * (double)scale : 0);
            }
    }
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
}
