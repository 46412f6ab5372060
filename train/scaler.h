/* The loss scaler as the training loop sees it: how it starts, and when its overflows mean that training is over.
 *
 * The scaler itself is the op LOSS_SCALE, which runs on the device with every step (cnn_train_state in cnn/ops.h). */
#ifndef CNN_TRAIN_SCALER_H
#define CNN_TRAIN_SCALER_H

#include "cnn/session.h"
#include "cnn/train.h"

enum { CNN_SCALER_PATIENCE = 20 }; /* overflows in a row that stop training */

/* The state of a run that starts with `options`, which are valid. */
void cnn_scaler_start(const cnn_train_options *options, cnn_train_state *state);

/* Whether dynamic scales from 1 to 2^24 or any static scale can start at `scale` (0: the default); records why not. */
cnn_status cnn_scaler_check(const cnn_train_options *options);

/* What the watch remembers between steps. Zero-initialize, then set the scale of the first step. */
typedef struct cnn_scaler_watch {
    float scale;     /* that the next step uses */
    int32_t skipped; /* steps so far */
    int32_t stuck;   /* overflows in a row with the scale where it cannot go lower */
} cnn_scaler_watch;

/* Looks at the state after a step whose loss was `loss`. False when training cannot go on: CNN_SCALER_PATIENCE
 * overflows in a row at the floor; without a scale that moves as many skipped steps, or a loss that is not finite. */
bool cnn_scaler_goes_on(cnn_scaler_watch *watch, const cnn_train_state *state, double loss);

/* The batch that could not be trained on. */
typedef struct cnn_scaler_batch {
    const cnn_dataset *data;
    const int32_t *index; /* [count] */
    int count;
    double loss;
} cnn_scaler_batch;

/* Records why training stopped, with the layer and what to try; returns CNN_ERR_NUMERIC. When the loss is not finite,
 * the layer is the first whose values left the range, which one more pass over the batch finds. */
cnn_status cnn_scaler_explain(cnn_session *session, const cnn_model *model, const cnn_train_options *options,
                              const cnn_train_state *state, const cnn_scaler_batch *batch);

#endif
