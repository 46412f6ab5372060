/* Progress of long work on standard error: a bar with rate and time left on a terminal, plain lines now and then
 * elsewhere, nothing with --quiet.
 *
 *     epoch 2  [##########--------]  56 %  1240 images/s  0:14 left  loss 0.081
 */
#ifndef CNN_CLI_PROGRESS_H
#define CNN_CLI_PROGRESS_H

#include "cli/cli.h"

typedef struct cnn_progress {
    cnn_cli *cli;
    char label[64];
    char note[64];
    const char *unit; /* "images", a string that lives as long as this; NULL: no rate is shown */
    double total;
    double before, before_s; /* from where and when the rate counts */
    double start_s, shown_s; /* cnn_clock() */
    bool enabled, terminal, any, under_way;
} cnn_progress;

/* total and the amounts of cnn_progress_update are in `unit`s ("images"). After half a second plain output says how
 * long all of it will take, unless it is about to end. The rate counts from the first update: what comes before may
 * have made plans and buffers. */
void cnn_progress_begin(cnn_progress *progress, cnn_cli *cli, const char *label, double total, const char *unit);

/* Cheap: draws at most ten times a second on a terminal, otherwise a line every ten seconds. note may be NULL. */
void cnn_progress_update(cnn_progress *progress, double done, const char *note);

/* Says, before the first update, how much an earlier run did: it counts as done, not for the rate. */
void cnn_progress_skip(cnn_progress *progress, double before);

/* Changes what stands before the bar: "epoch 3". */
void cnn_progress_label(cnn_progress *progress, const char *label);

/* Removes the bar. */
void cnn_progress_end(cnn_progress *progress);

#endif
