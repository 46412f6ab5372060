/* The loss scaler's state machine, as cnn_train_state in cnn/ops.h has it: for the CPU and, on one thread, for CUDA.
 * The reference has its own. */
#ifndef CNN_CPU_LOSS_SCALER_H
#define CNN_CPU_LOSS_SCALER_H

#include "cnn/ops.h"

#include <math.h>

/* A step with an overflow: counts it, notes where it began, backs the scale off. */
CNN_HOST_DEVICE void cnn_loss_scaler_overflow(cnn_train_state *state, const int32_t *flags, int32_t segments)
{
    int32_t segment = segments - 1;
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
}

CNN_HOST_DEVICE void cnn_loss_scaler_clean(cnn_train_state *state)
{
    state->step++;
    state->overflows_in_row = 0;
    state->clean_steps++;
    if (state->dynamic && state->clean_steps == state->growth_interval) {
        state->loss_scale = fminf(state->loss_scale * state->growth, state->ceiling);
        state->clean_steps = 0;
    }
}

/* All of a step but its report and the cursor. flags: [segments] of GRAD_STATS. */
CNN_HOST_DEVICE void cnn_loss_scaler_step(cnn_train_state *state, const int32_t *flags, int32_t segments)
{
    if (state->found_nonfinite)
        cnn_loss_scaler_overflow(state, flags, segments);
    else
        cnn_loss_scaler_clean(state);
    state->scale_min = fminf(state->scale_min, state->loss_scale);
    state->scale_max = fmaxf(state->scale_max, state->loss_scale);
    state->found_nonfinite = 0;
}

#endif
