/* What the training tests share: a network of one convolution, the data set "synth", and a record of callbacks. */
#ifndef CNN_TESTS_TRAIN_CASE_H
#define CNN_TESTS_TRAIN_CASE_H

#include "cnn/session.h"
#include "cnn/train.h"
#include "core/model.h"

enum { SMALL = 100, SMALL_TRAIN = 90, SMALL_BATCH = 32 };

extern cnn_dataset *case_synth;
extern cnn_dataset case_small; /* the first SMALL images of it */

/* Fails the test with the recorded sentence when status is not CNN_OK. */
void case_check(cnn_status status);

/* Fixture: loads and frees the data. */
void case_set_up(void);
void case_tear_down(void);

/* The network with fresh weights, always the same: layers conv1, bn1, relu1, pool1, fc1. */
cnn_model *case_model(void);

/* Whether all parameters are the same, bit for bit. */
bool case_same(const cnn_model *a, const cnn_model *b);

/* What a callback saw. */
typedef struct record {
    int calls, epochs;
    int64_t stop_at; /* step that asks to stop; 0: none */
    double loss[16]; /* by epoch */
    cnn_train_progress last;
} record;

/* One epoch of batches of 32 on cpu, recorded in *r unless it is NULL. */
cnn_train_options case_options(record *r);

/* A scaler at `scale` that moves as `dynamic` says. */
cnn_train_state case_state(float scale, int dynamic);

/* A training session on case_small. */
cnn_session *case_session(cnn_model *model, cnn_dtype storage, const float *rates, int32_t rate_count,
                          const cnn_train_state *state);

/* The same with what its steps do. */
cnn_session *case_session_step(cnn_model *model, cnn_dtype storage, const cnn_step_options *step, const float *rates,
                               int32_t rate_count, const cnn_train_state *state);

#endif
