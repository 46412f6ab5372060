/* The thread pool: parallel regions over numbered tasks.
 *
 * One pool for the process. Results never depend on it: tasks are numbered by shape, workers only take them. */
#ifndef CNN_CORE_POOL_H
#define CNN_CORE_POOL_H

#include "cnn/backend.h"

/* Threads that regions may use, the caller included. 0: as many as the CPUs this process may run on. Not while a
 * region runs. */
CNN_API cnn_status cnn_set_threads(int threads);
CNN_API int cnn_get_threads(void);

/* Runs task 0..tasks-1, each once; returns when all are done. A call from inside a task runs them one after another. */
void cnn_parallel(int tasks, cnn_task_fn run, void *context);

/* The table handed to backends: version, pool, allocation, errors. */
const cnn_host *cnn_host_get(void);

#endif
