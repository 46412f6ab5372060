/* Checkpoints of a run: writing them, and going on from one. */
#ifndef CNN_TRAIN_RESUME_H
#define CNN_TRAIN_RESUME_H

#include "train/checkpoint.h"
#include "train/length.h"

/* Zero-initialize. */
typedef struct cnn_keeper {
    const char *path; /* NULL: no checkpoints are kept, and the functions below do nothing */
    cnn_session *session;
    cnn_model *model; /* as after the last whole epoch */
    cnn_facts facts;
} cnn_keeper;

/* Before the first step. Refuses a path where something else than a checkpoint is. */
cnn_status cnn_keeper_begin(cnn_keeper *keeper, cnn_session *session, cnn_model *model, const cnn_dataset *data,
                            const cnn_train_options *options);

/* Writes where the run is. */
cnn_status cnn_keeper_write(const cnn_keeper *keeper, const cnn_train_point *point);

/* When there is a checkpoint, sets the session's memories and state, the model and *point to what they were when it
 * was written, and *found. `point` is that of a run which has not begun. A checkpoint of another run is refused;
 * nothing is changed then. */
cnn_status cnn_keeper_resume(const cnn_keeper *keeper, const cnn_run_length *run, cnn_train_point *point, bool *found);

#endif
