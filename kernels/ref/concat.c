/* Channels of two tensors side by side, and the gradient, which takes them apart. */
#include "cnn/quant.h"
#include "kernels/ref/ref.h"

void cnn_ref_concat(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const int32_t first = desc->arg[CNN_ARG_SRC].c;
    (void)workspace;
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(dst); pixel++)
        for (int32_t c = 0; c < dst->c; c++) {
            const bool second = c >= first;
            const cnn_arg role = second ? CNN_ARG_SRC2 : CNN_ARG_SRC;
            double x = cnn_ref_get(&desc->arg[role], arg[role], pixel, second ? c - first : c);
            if (dst->dtype == CNN_I8)
                x = cnn_quant_rescale((int8_t)x, desc->scale[second], desc->out_scale, desc->lo, desc->hi);
            cnn_ref_put(dst, arg[CNN_ARG_DST], pixel, c, x);
        }
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
}

void cnn_ref_concat_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const int32_t first = desc->arg[CNN_ARG_DST].c;
    (void)workspace;
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(src); pixel++)
        for (int32_t c = 0; c < src->c; c++) {
            const cnn_arg role = c < first ? CNN_ARG_DST : CNN_ARG_DST2;
            cnn_ref_put(&desc->arg[role], arg[role], pixel, c < first ? c : c - first,
                        cnn_ref_get(src, arg[CNN_ARG_SRC], pixel, c));
        }
    cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST]);
    cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2]);
}
