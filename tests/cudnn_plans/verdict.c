/* Verdicts of the real cuDNN. A worker process asks for one GPU, subject after subject; two run at a time. A subject on
 * which cuDNN crashes or that takes too long ends its worker, and another one goes on behind it. */
#include "tests/cudnn_plans/plans.h"

#include "core/pool.h"
#include "kernels/cuda/device.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, SECONDS = 300 };

/* What all workers share. */
typedef struct work {
    const char *subjects;
    int count;
    size_t subject_bytes;
    verdict_fn *run;
    verdict *results; /* [count][GPUS] */
} work;

typedef struct worker {
    pid_t process;
    int pipe; /* verdicts come through it; -1: idle */
    int gpu, next;
} worker;

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool skipped(const work *all, int subject, int gpu)
{
    return all->results[subject * GPUS + gpu].skipped;
}

/* In the child. */
static void judge(const work *all, int gpu, int first, int pipe)
{
    char json[GPU_JSON_BYTES];
    cnn_device *device = NULL;
    cnn_status opened =
        cnn_cuda_open_described(cnn_host_get(), gpus[gpu].name, gpu_describe(&gpus[gpu], json), &device);
    for (int i = first; i < all->count; i++) {
        verdict result;
        const double start = seconds_now();
        memset(&result, 0, sizeof result);
        result.status = opened;
        result.skipped = skipped(all, i, gpu);
        alarm(SECONDS);
        if (opened == CNN_OK && !result.skipped)
            all->run(all->subjects + (size_t)i * all->subject_bytes, device, &result);
        if (result.status != CNN_OK)
            snprintf(result.error, sizeof result.error, "%s", cnn_last_error());
        result.seconds = seconds_now() - start;
        if (write(pipe, &result, sizeof result) != (ssize_t)sizeof result)
            _exit(1);
    }
    cnn_cuda_close(device);
    _exit(0);
}

static void start(worker *idle, const work *all, int gpu, int first)
{
    int ends[2] = {-1, -1};
    if (pipe(ends) != 0)
        return;
    pid_t process = fork();
    if (process == 0) {
        close(ends[0]);
        judge(all, gpu, first, ends[1]);
    }
    close(ends[1]);
    *idle = (worker){.process = process, .pipe = ends[0], .gpu = gpu, .next = first};
}

/* Reads one verdict, or sees that the worker has ended; it starts another when subjects are left. */
static void attend(worker *busy, const work *all)
{
    verdict result;
    int status = 0;
    if (read(busy->pipe, &result, sizeof result) == (ssize_t)sizeof result) {
        all->results[busy->next++ * GPUS + busy->gpu] = result;
        return;
    }
    close(busy->pipe);
    busy->pipe = -1;
    waitpid(busy->process, &status, 0);
    if (busy->next == all->count)
        return;
    verdict *lost = &all->results[busy->next * GPUS + busy->gpu];
    lost->status = CNN_ERR_DEVICE;
    snprintf(lost->error, sizeof lost->error, "cuDNN ended the process: %s %d",
             WIFSIGNALED(status) ? "signal" : "exit code",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    if (busy->next + 1 < all->count)
        start(busy, all, busy->gpu, busy->next + 1);
}

void verdicts_run(const void *subjects, int count, size_t subject_bytes, verdict_fn *run, verdict *results)
{
    const work all = {subjects, count, subject_bytes, run, results};
    worker workers[WORKERS];
    int gpu = 0, busy = 1;
    fflush(NULL); /* or each child would print it again */
    for (int i = 0; i < WORKERS; i++)
        workers[i] = (worker){.pipe = -1};
    while (busy > 0) {
        struct pollfd polled[WORKERS];
        busy = 0;
        for (int i = 0; i < WORKERS; i++) {
            if (workers[i].pipe < 0 && gpu < GPUS)
                start(&workers[i], &all, gpu++, 0);
            polled[i] = (struct pollfd){.fd = workers[i].pipe, .events = POLLIN};
            busy += workers[i].pipe >= 0;
        }
        if (busy == 0 || poll(polled, WORKERS, -1) < 0)
            return;
        for (int i = 0; i < WORKERS; i++)
            if (polled[i].revents)
                attend(&workers[i], &all);
    }
}
