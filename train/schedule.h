/* Learning-rate schedules, computed for all updates before training starts.
 *
 * Update t = 0 .. T-1 of a run of T updates has the rate R * warm-up(t) * share(t), with W updates of warm-up:
 *
 *   warm-up   (t + 1)/(W + 1) for t < W, then 1: linear, never 0, and update W is the first with all of its rate. After
 *             P. Goyal et al., "Accurate, Large Minibatch SGD", 2017.
 *   constant  1
 *   cosine    (1 + cos(pi (t - W)/(T - W)))/2 after the warm-up, 1 during it: starts at 1, would reach 0 at update T.
 *             I. Loshchilov, F. Hutter, "SGDR", 2017, one cycle.
 *   step      gamma^floor(t/S): drops every S updates, counted from the first of the run.
 *   one-cycle its own warm-up, linear from 1/25 at t = 0 to 1 at t = W; then e + (1 - e)(1 + cos(pi (t - W)/(T-1 -
 * W)))/2 with e = 1e-4, which the last update has. L. N. Smith, N. Topin, "Super-Convergence", 2018, with the cosine of
 * later implementations; momentum stays where it is. */
#ifndef CNN_TRAIN_SCHEDULE_H
#define CNN_TRAIN_SCHEDULE_H

#include "cnn/train.h"

typedef struct cnn_schedule_plan {
    cnn_schedule kind;
    float rate;      /* R */
    int32_t updates; /* T */
    int32_t warmup;  /* W, in [0, T) */
    double step;     /* S, of CNN_SCHEDULE_STEP: positive */
    float gamma;     /* of CNN_SCHEDULE_STEP */
} cnn_schedule_plan;

/* Names in the order of cnn_schedule, NULL after the last. */
extern const char *const cnn_schedule_names[];

/* The plan of a run of `updates` updates, `epoch_updates` in an epoch, with options that are valid. */
cnn_schedule_plan cnn_schedule_plan_make(const cnn_train_options *options, int32_t updates, int32_t epoch_updates);

/* Entries that the plan needs: the last entry also serves all updates after it. */
int32_t cnn_schedule_length(const cnn_schedule_plan *plan);

/* Fills rates [cnn_schedule_length()]. */
void cnn_schedule_fill(const cnn_schedule_plan *plan, float *rates);

#endif
