/* How long a parallel region takes to start, and how training scales. Compiled and run by bench/pool.
 *
 *   pool MODEL STEPS THREADS
 *
 * A region of as many tasks as there are threads: each task notes when it began and waits for the others, so that every
 * thread takes one. The region has started with the last of them. */
#define _POSIX_C_SOURCE 200809L
#include "core/pool.h"

#include <cnn/cnn.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 64, MOST_THREADS = 256, MOST_STEPS = 1000, WARM_UP = 2, SPINNING = 4000, ASLEEP = 400 };

static double now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return 1e6 * (double)time.tv_sec + 1e-3 * (double)time.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value below which a share of them lies. */
static double quantile(double *values, int count, double share)
{
    qsort(values, (size_t)count, sizeof *values, ascending);
    return values[(int)(share * (count - 1))];
}

/* ---- Regions ---- */

typedef struct region {
    int tasks;
    double began[MOST_THREADS];
    atomic_int arrived;
} region;

static void task(void *context, int number, int worker)
{
    region *own = context;
    (void)worker;
    own->began[number] = now_us();
    atomic_fetch_add(&own->arrived, 1);
    while (atomic_load(&own->arrived) < own->tasks)
        ;
}

static void wait_us(double us)
{
    for (const double start = now_us(); now_us() < start + us;)
        ;
}

static void sleep_ms(long ms)
{
    const struct timespec time = {.tv_nsec = ms * 1000000};
    nanosleep(&time, NULL);
}

/* Prints how long the last thread took to begin, and how long the whole region took. */
static void measure_regions(const char *what, int count, int threads, bool asleep)
{
    static double start[SPINNING], whole[SPINNING];
    static region own;
    for (int i = 0; i < count; i++) {
        if (asleep)
            sleep_ms(2);
        else
            wait_us(5);
        own.tasks = threads;
        atomic_store(&own.arrived, 0);
        const double called = now_us();
        double last = called;
        cnn_parallel(threads, task, &own);
        whole[i] = now_us() - called;
        for (int t = 0; t < threads; t++)
            last = own.began[t] > last ? own.began[t] : last;
        start[i] = last - called;
    }
    printf("%-38s %7.2f us (9 of 10: %.2f); to its end %.2f us\n", what, quantile(start, count, 0.5),
           quantile(start, count, 0.9), quantile(whole, count, 0.5));
}

/* ---- Training ---- */

static cnn_session *open_session(const char *name, const cnn_dataset *data)
{
    const float rate = 0.01f;
    const cnn_session_options options = {.device = "cpu", .batch = BATCH, .train = true, .storage = CNN_F32};
    const cnn_train_state state = {.momentum = 0.9f,
                                   .growth = 2,
                                   .backoff = 0.5f,
                                   .floor = 1,
                                   .ceiling = 1,
                                   .growth_interval = 2000,
                                   .loss_scale = 1,
                                   .first_overflow = -1,
                                   .last_overflow = -1};
    cnn_model *model;
    cnn_session *session;
    if (cnn_model_create(name, &model) != CNN_OK)
        return NULL;
    cnn_model_init(model, 1);
    if (cnn_session_open(model, &options, &session) != CNN_OK || cnn_session_set_data(session, data) != CNN_OK ||
        cnn_session_set_schedule(session, &rate, 1) != CNN_OK || cnn_session_set_state(session, &state) != CNN_OK)
        return NULL;
    return session;
}

/* Milliseconds of a step; < 0 when one failed. */
static double one_step(cnn_session *session, int step)
{
    int32_t index[BATCH];
    float result[2];
    for (int i = 0; i < BATCH; i++)
        index[i] = (step * BATCH + i) % 4000;
    const double start = now_us();
    return cnn_session_step(session, index, BATCH, result) == CNN_OK ? 1e-3 * (now_us() - start) : -1;
}

/* Steps in turn, a pair at a time, so that what slows the machine down slows both. */
static cnn_status measure_training(const char *name, int steps, int threads)
{
    static double ms[2][MOST_STEPS], ratio[MOST_STEPS];
    const int used[2] = {1, threads};
    const cnn_dataset_options fetch = {.fetch = true};
    cnn_dataset *data;
    cnn_session *session[2];
    if (cnn_dataset_load("mnist", CNN_SUBSET_TRAIN, &fetch, &data) != CNN_OK)
        return CNN_ERR_IO;
    for (int i = 0; i < 2; i++)
        if (cnn_set_threads(used[i]) != CNN_OK || !(session[i] = open_session(name, data)))
            return CNN_ERR_UNSUPPORTED;
    for (int step = 0; step < steps + WARM_UP; step++) {
        for (int i = 0; i < 2; i++) {
            cnn_set_threads(used[i]);
            one_step(session[i], step); /* the threads' caches */
            const double took = one_step(session[i], step);
            if (took < 0)
                return CNN_ERR_UNSUPPORTED;
            if (step >= WARM_UP)
                ms[i][step - WARM_UP] = took;
        }
        if (step >= WARM_UP)
            ratio[step - WARM_UP] = ms[0][step - WARM_UP] / ms[1][step - WARM_UP];
    }
    const double one = quantile(ms[0], steps, 0.5), all = quantile(ms[1], steps, 0.5);
    printf(
        "%s, batch of %d, FP32: %.1f ms a step with 1 thread, %.1f with %d: %.2fx (median of %d pairs; of the times: "
        "%.2fx)\n",
        name, BATCH, one, all, threads, quantile(ratio, steps, 0.5), steps, one / all);
    return CNN_OK;
}

int main(int argc, char **argv)
{
    const int steps = argc == 4 ? atoi(argv[2]) : 0, asked = argc == 4 ? atoi(argv[3]) : -1;
    if (steps < 1 || steps > MOST_STEPS || asked < 0 || asked > MOST_THREADS) {
        fprintf(stderr, "pool: MODEL STEPS THREADS, with 1 to %d steps; see bench/pool --help\n", MOST_STEPS);
        return 2;
    }
    cnn_set_threads(asked);
    const int threads = cnn_get_threads();
    if (threads < 2 || threads > MOST_THREADS) {
        fprintf(stderr, "pool: %d threads: there must be 2 to %d\n", threads, MOST_THREADS);
        return 1;
    }
    printf("%d threads\n", threads);
    measure_regions("region starts, workers spin:", SPINNING, threads, false);
    measure_regions("region starts, workers sleep:", ASLEEP, threads, true);
    if (measure_training(argv[1], steps, threads) != CNN_OK) {
        fprintf(stderr, "pool: %s\n", cnn_last_error());
        return 1;
    }
    return 0;
}
