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

/* log sum_k exp(z[k]/temperature) of a row. */
static double log_sum_of(const cnn_tensor_desc *desc, const void *data, int32_t row, double temperature)
{
    const double max = cnn_ref_get(desc, data, row, argmax(desc, data, row)) / temperature;
    double sum = 0;
    for (int32_t k = 0; k < desc->c; k++)
        sum += exp(cnn_ref_get(desc, data, row, k) / temperature - max);
    return max + log(sum);
}

/* Logits of a row over the temperature, and the logarithm of the sum of their exps. */
typedef struct soft_row {
    const cnn_tensor_desc *desc;
    const void *data;
    int32_t row;
    double temperature, log_sum;
} soft_row;

static soft_row soften(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cnn_arg role, int32_t row)
{
    soft_row soft = {&desc->arg[role], arg[role], row, (double)desc->temperature, 0};
    soft.log_sum = log_sum_of(soft.desc, soft.data, row, soft.temperature);
    return soft;
}

static double log_probability(const soft_row *soft, int32_t k)
{
    return cnn_ref_get(soft->desc, soft->data, soft->row, k) / soft->temperature - soft->log_sum;
}

/* sum_k p (log p - log q) */
static double divergence(const soft_row *p, const soft_row *q)
{
    double sum = 0;
    for (int32_t k = 0; k < p->desc->c; k++)
        sum += exp(log_probability(p, k)) * (log_probability(p, k) - log_probability(q, k));
    return sum;
}

/* dlogits of row n; p and q with a teacher, else NULL. */
static void row_gradient(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t n, int32_t label,
                         double log_sum, double scale, const soft_row *p, const soft_row *q)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const double mix = (double)desc->mix;
    for (int32_t k = 0; k < src->c; k++) {
        double gradient = exp(cnn_ref_get(src, arg[CNN_ARG_SRC], n, k) - log_sum) - target(desc, k, label);
        if (p)
            gradient =
                (1 - mix) * gradient + mix * p->temperature * (exp(log_probability(q, k)) - exp(log_probability(p, k)));
        cnn_ref_put(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST], n, k, gradient * scale);
    }
}

/* The loss of row n, which shows image `image`; its gradient when that is asked for. */
static double row_loss(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t n, int32_t image, double scale)
{
    const int32_t label = ((const uint8_t *)arg[CNN_ARG_LABELS])[image];
    const double log_sum = log_sum_of(&desc->arg[CNN_ARG_SRC], arg[CNN_ARG_SRC], n, 1), mix = (double)desc->mix;
    double loss = log_sum - target_score(desc, arg, n, label);
    const bool teacher = desc->arg[CNN_ARG_SRC2].dtype != CNN_NONE;
    soft_row p, q;
    if (teacher) {
        p = soften(desc, arg, CNN_ARG_SRC2, image);
        q = soften(desc, arg, CNN_ARG_SRC, n);
        loss = (1 - mix) * loss + mix * p.temperature * p.temperature * divergence(&p, &q);
    }
    if (desc->arg[CNN_ARG_DST].dtype != CNN_NONE)
        row_gradient(desc, arg, n, label, log_sum, scale, teacher ? &p : NULL, teacher ? &q : NULL);
    return loss;
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
        const int32_t image = index ? index[n] : n;
        loss += row_loss(desc, arg, n, image, scale);
        right += argmax(src, arg[CNN_ARG_SRC], n) == labels[image];
    }
    if (desc->arg[CNN_ARG_DST].dtype != CNN_NONE)
        cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST]);
    cnn_ref_put(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2], 0, 0, loss / src->n);
    cnn_ref_put(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2], 0, 1, right);
    cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2]);
}
