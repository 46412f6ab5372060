/* The log of a run: one JSON object a line (--log).
 *
 *   {"event": "start", "step": 0, ...}                the data, the device, all options
 *   {"event": "step", "step": 100, "epoch": 1, ...}   every --log-every steps
 *   {"event": "epoch", "step": 844, "epoch": 1, ...}  after each
 *   {"event": "resume", "step": 800, ...}             where a run went on
 *   {"event": "end", "step": 8440, "epoch": 10, ...}  the result
 *
 * Each line is written out as it comes. A run that goes on first cuts off what an interrupted one logged beyond the
 * checkpoint, so no step comes twice; apart from `time`, `seconds`, `images_per_s` and the resume lines the log is
 * then the same as that of an undisturbed run. */
#ifndef CNN_TRAIN_LOG_H
#define CNN_TRAIN_LOG_H

#include "cnn/train.h"

#include <stdio.h>

struct train_run;

typedef struct train_log {
    FILE *file; /* NULL: none is kept */
    const char *path;
    int64_t whole_bytes; /* up to the last line that was written to its end */
} train_log;

/* Opens the file, to show early that it can be written; nothing in it is changed yet. A file that is there must be
 * empty or a log, which is no harm to lose. path NULL: no log, and the functions below do nothing. */
cnn_status train_log_open(train_log *log, const char *path);
void train_log_close(train_log *log);

/* Before the first step: makes the log ready for what this run does. */
cnn_status train_log_begin(struct train_run *run, const cnn_train_progress *progress);

/* A log that cannot be written any more is told of once and ends with its last whole line; training goes on. */
void train_log_step(struct train_run *run, const cnn_train_progress *progress);
void train_log_epoch(struct train_run *run, const cnn_train_progress *progress);
void train_log_end(struct train_run *run, const cnn_train_result *result, double test_accuracy);

#endif
