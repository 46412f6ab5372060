/* Softmax and cross entropy: mean loss, count of right answers, gradient of the logits. */
#include "kernels/ref/ref.h"

#include <math.h>

/* The first maximum of row n; NaN is no maximum. */
static int32_t argmax(const cnn_tensor_desc *src, const void *data, int32_t n)
{
    int32_t best = 0;
    for (int32_t k = 1; k < src->c; k++)
        if (cnn_ref_get(src, data, n, k) > cnn_ref_get(src, data, n, best))
            best = k;
    return best;
}

/* Target probability of class k. */
static double target(const cnn_op_desc *desc, int32_t k, int32_t label)
{
    double smoothing = (double)desc->smoothing;
    return (k == label ? 1 - smoothing : 0) + smoothing / desc->arg[CNN_ARG_SRC].c;
}

/* sum_k t[k] z[k] of row n. */
static double target_score(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t n, int32_t label)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    double sum = 0;
    if (desc->smoothing == 0) /* 0 * inf would be NaN */
        return cnn_ref_get(src, arg[CNN_ARG_SRC], n, label);
    for (int32_t k = 0; k < src->c; k++)
        sum += target(desc, k, label) * cnn_ref_get(src, arg[CNN_ARG_SRC], n, k);
    return sum;
}

/* dlogits = (softmax(z) - t) * scale for row n. */
static void row_gradient(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t n, int32_t label,
                         double log_sum, double scale)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    for (int32_t k = 0; k < src->c; k++) {
        double probability = exp(cnn_ref_get(src, arg[CNN_ARG_SRC], n, k) - log_sum);
        cnn_ref_put(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST], n, k, (probability - target(desc, k, label)) * scale);
    }
}

void cnn_ref_loss(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    const uint8_t *labels = arg[CNN_ARG_LABELS];
    const int32_t *index = arg[CNN_ARG_INDEX];
    double scale = (state ? (double)state->loss_scale : 1) / src->n;
    double loss = 0;
    int32_t right = 0;
    if (index && state)
        index += state->cursor;

    for (int32_t n = 0; n < src->n; n++) {
        int32_t label = labels[index ? index[n] : n];
        int32_t best = argmax(src, arg[CNN_ARG_SRC], n);
        double max = cnn_ref_get(src, arg[CNN_ARG_SRC], n, best);
        double sum = 0;
        for (int32_t k = 0; k < src->c; k++)
            sum += exp(cnn_ref_get(src, arg[CNN_ARG_SRC], n, k) - max);
        double log_sum = max + log(sum);
        loss += log_sum - target_score(desc, arg, n, label);
        right += best == label;
        if (desc->arg[CNN_ARG_DST].dtype != CNN_NONE)
            row_gradient(desc, arg, n, label, log_sum, scale);
    }
    if (desc->arg[CNN_ARG_DST].dtype != CNN_NONE)
        cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST]);
    cnn_ref_put(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2], 0, 0, loss / src->n);
    cnn_ref_put(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2], 0, 1, right);
    cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2]);
}
