/* The thread pool: parallel regions over numbered tasks.
 *
 * One pool for the process; cnn_set_threads (cnn/session.h) sizes it. Results never depend on it: tasks are numbered by
 * shape, workers only take them. */
#ifndef CNN_CORE_POOL_H
#define CNN_CORE_POOL_H

#include "cnn/backend.h"
#include "cnn/session.h"

/* Runs task 0..tasks-1, each once; returns when all are done. A call from inside a task runs them one after another. */
void cnn_parallel(int tasks, cnn_task_fn run, void *context);

/* The table handed to backends: version, pool, allocation, errors. */
const cnn_host *cnn_host_get(void);

#endif
