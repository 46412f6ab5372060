/* What ends a training step: gradient statistics, SGD and Adam, BN running statistics, averages, the loss scaler.
 *
 * The update is f32 arithmetic, rounded after each operation in the order that ops.h writes it. */
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* running = running + momentum*(batch - running) */
static void update_running(const cnn_real *batch, cnn_real *running, int32_t count, float momentum)
{
    for (int32_t i = 0; i < count; i++)
        running[i] = running[i] + (cnn_real)momentum * (batch[i] - running[i]);
}

void cnn_ref_grad_stats(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    cnn_train_state *state = arg[CNN_ARG_STATE];
    const int32_t *offset = arg[CNN_ARG_INDEX]; /* [T+1] */
    state->found_nonfinite = 0;
    state->grad_sumsq = 0;
    for (int32_t t = 0; t < desc->arg[CNN_ARG_DST].c; t++) {
        bool nonfinite = false;
        for (int32_t i = offset[t]; i < offset[t + 1]; i++) {
            double g = cnn_ref_get(&desc->arg[CNN_ARG_SRC], arg[CNN_ARG_SRC], 0, i);
            nonfinite = nonfinite || !isfinite(g);
            state->grad_sumsq += g * g;
        }
        cnn_ref_put(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST], 0, t, nonfinite);
        if (nonfinite)
            state->found_nonfinite = 1;
    }
    cnn_ref_clear_padding(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST]);
    if (arg[CNN_ARG_SRC2] && !state->found_nonfinite)
        update_running(arg[CNN_ARG_SRC2], arg[CNN_ARG_DST2], desc->arg[CNN_ARG_SRC2].c, desc->momentum);
}

/* What gradients are divided by: unscales and clips. */
static cnn_real gradient_divisor(const cnn_train_state *state)
{
    double scale = (double)state->loss_scale;
    double norm = sqrt(state->grad_sumsq) / scale;
    if (state->clip_norm > 0)
        scale *= fmax(1, (norm + 1e-6) / (double)state->clip_norm);
    return (cnn_real)scale;
}

static cnn_real learning_rate(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT])
{
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    const cnn_real *rates = arg[CNN_ARG_TABLE];
    int32_t steps = desc->arg[CNN_ARG_TABLE].c;
    return rates[state->step < steps ? state->step : steps - 1];
}

/* The half-precision copy of parameter i. */
static void store_copy(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t i, cnn_real value)
{
    if (desc->arg[CNN_ARG_DST3].dtype != CNN_NONE)
        cnn_ref_put(&desc->arg[CNN_ARG_DST3], arg[CNN_ARG_DST3], 0, i, (double)value);
}

void cnn_ref_sgd(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    const cnn_real *g = arg[CNN_ARG_SRC];
    cnn_real *w = arg[CNN_ARG_DST];
    cnn_real *v = arg[CNN_ARG_DST2];
    if (state->found_nonfinite)
        return;

    cnn_real rate = learning_rate(desc, arg);
    cnn_real divisor = gradient_divisor(state);
    cnn_real decay = (cnn_real)state->weight_decay;
    cnn_real momentum = (cnn_real)state->momentum;
    for (int32_t i = 0; i < desc->arg[CNN_ARG_SRC].c; i++) {
        cnn_real gradient = g[i] / divisor + decay * w[i];
        v[i] = momentum * v[i] + gradient;
        w[i] = w[i] - rate * (state->nesterov ? gradient + momentum * v[i] : v[i]);
        store_copy(desc, arg, i, w[i]);
    }
}

void cnn_ref_adam(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    const cnn_real *g = arg[CNN_ARG_SRC];
    cnn_real *w = arg[CNN_ARG_DST];
    cnn_real *m = arg[CNN_ARG_DST2];
    cnn_real *v = arg[CNN_ARG_VAR];
    if (state->found_nonfinite)
        return;

    double lr = (double)learning_rate(desc, arg), t = state->step + 1.0, decay = (double)state->weight_decay;
    cnn_real rate = (cnn_real)(lr / (1 - pow(state->beta1, t)));
    cnn_real root = (cnn_real)sqrt(1 - pow(state->beta2, t));
    cnn_real shrink = (cnn_real)(desc->decoupled_decay ? 1 - lr * decay : 1);
    cnn_real l2 = (cnn_real)(desc->decoupled_decay ? 0 : decay);
    cnn_real divisor = gradient_divisor(state), eps = (cnn_real)state->eps;
    cnn_real keep1 = (cnn_real)state->beta1, take1 = (cnn_real)(1 - state->beta1);
    cnn_real keep2 = (cnn_real)state->beta2, take2 = (cnn_real)(1 - state->beta2);
    for (int32_t i = 0; i < desc->arg[CNN_ARG_SRC].c; i++) {
        cnn_real gradient = g[i] / divisor + l2 * w[i];
        m[i] = keep1 * m[i] + take1 * gradient;
        v[i] = keep2 * v[i] + take2 * gradient * gradient;
        cnn_real deviation = (cnn_real)sqrt((double)v[i]);
        w[i] = shrink * w[i] - rate * m[i] / (deviation / root + eps);
        store_copy(desc, arg, i, w[i]);
    }
}

void cnn_ref_bn_update(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    if (!state->found_nonfinite)
        update_running(arg[CNN_ARG_SRC], arg[CNN_ARG_DST], desc->arg[CNN_ARG_SRC].c, desc->momentum);
}

void cnn_ref_ema(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const cnn_train_state *state = arg[CNN_ARG_STATE];
    const cnn_real *value = arg[CNN_ARG_SRC];
    cnn_real *average = arg[CNN_ARG_DST];
    double step = state->step;
    cnn_real share = (cnn_real)(1 - fmin(state->ema_decay, (1 + step) / (10 + step)));
    if (state->found_nonfinite)
        return;
    for (int32_t i = 0; i < desc->arg[CNN_ARG_SRC].c; i++)
        average[i] = average[i] + share * (value[i] - average[i]);
}

void cnn_ref_loss_scale(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    cnn_train_state *state = arg[CNN_ARG_STATE];
    const int32_t *flags = arg[CNN_ARG_SRC];     /* [T] */
    cnn_step_report *reports = arg[CNN_ARG_DST]; /* [count] */
    const int32_t number = state->step + state->skipped;
    if (state->found_nonfinite) {
        int32_t segment = desc->arg[CNN_ARG_SRC].c - 1;
        while (segment >= 0 && !flags[segment])
            segment--;
        state->skipped++;
        state->overflows_in_row++;
        state->clean_steps = 0;
        if (state->first_overflow == -1)
            state->first_overflow = segment;
        state->last_overflow = segment;
        if (state->dynamic)
            state->loss_scale = fmaxf(state->loss_scale * state->backoff, state->floor);
    } else {
        state->step++;
        state->overflows_in_row = 0;
        state->clean_steps++;
        if (state->dynamic && state->clean_steps == state->growth_interval) {
            state->loss_scale = fminf(state->loss_scale * state->growth, state->ceiling);
            state->clean_steps = 0;
        }
    }
    state->scale_min = fminf(state->scale_min, state->loss_scale);
    state->scale_max = fmaxf(state->scale_max, state->loss_scale);
    state->found_nonfinite = 0;
    if (reports) {
        const int32_t count = desc->arg[CNN_ARG_DST].c / (int32_t)sizeof *reports;
        cnn_step_report *report = &reports[number % count];
        report->loss = (float)cnn_ref_get(&desc->arg[CNN_ARG_SRC2], arg[CNN_ARG_SRC2], 0, 0);
        report->correct = (float)cnn_ref_get(&desc->arg[CNN_ARG_SRC2], arg[CNN_ARG_SRC2], 0, 1);
        memcpy(&report->state, state, sizeof *state);
    }
    state->cursor += desc->advance;
}
