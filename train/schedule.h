/* Learning-rate schedules, computed for all updates before training starts. */
#ifndef CNN_TRAIN_SCHEDULE_H
#define CNN_TRAIN_SCHEDULE_H

#include "cnn/train.h"

/* Entries that a schedule needs for `updates` updates: the last entry also serves all updates after it. */
int32_t cnn_schedule_length(cnn_schedule schedule, int32_t updates);

/* Fills rates [cnn_schedule_length()]. constant: learning_rate. cosine: update t of T has
 * learning_rate * (1 + cos(pi t/T)) / 2, which starts at learning_rate and would reach 0 at update T. */
void cnn_schedule_fill(cnn_schedule schedule, float learning_rate, int32_t updates, float *rates);

#endif
