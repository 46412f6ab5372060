/* The thread pool: workers that spin briefly for the next region, then sleep.
 *
 * One region runs at a time. Its caller is worker 0 and takes tasks like the others. A region is open or closed:
 * a worker first counts itself in (`inside`), then looks whether the region is open; the caller first closes the
 * region, then waits until nobody is inside. All of these are sequentially consistent, so that either the worker sees
 * the region closed or the caller sees the worker inside. A worker that wakes late therefore costs nothing: the
 * caller never waits for it.
 *
 * Each worker begins with a share of the tasks, neighbours in order of their numbers, and then takes what is left of
 * the others'. Kernels number tasks by images or by rows, so that most of what a worker reads is what it wrote in the
 * region before, and lies in its own cache. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "core/pool.h"

#include "core/error.h"
#include "core/memory.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

/* SPIN_PAUSES is 20 to 100 microseconds: longer than what lies between two kernels, shorter than a time slice. */
enum { MAX_THREADS = 512, SPIN_PAUSES = 2000, CACHE_LINE = 64 };

static struct {
    pthread_mutex_t region;  /* held by the caller of the region that runs, and while workers come and go */
    pthread_mutex_t sleep;   /* guards the two conditions */
    pthread_cond_t wake;     /* a region opened or workers are to stop */
    pthread_cond_t finished; /* nobody is inside */
    atomic_int threads;      /* 0: not decided yet */
    int workers;             /* that exist, not counting callers */
    int spins;
    bool fork_handled;
    bool apart;     /* there is a CPU for each thread, so that workers are kept off the caller's */
    int avoided;    /* the CPU that they were last kept off, -1 before */
    cpu_set_t cpus; /* that this process may run on */
    pthread_t worker[MAX_THREADS];

    cnn_task_fn run; /* the region; written while it is closed and nobody is inside */
    void *context;

    struct {
        _Alignas(CACHE_LINE) atomic_llong next; /* task to take */
        long long end;                          /* written as the region's others are */
    } share[MAX_THREADS];

    _Alignas(CACHE_LINE) atomic_int inside;
    _Alignas(CACHE_LINE) atomic_uint opened; /* counts regions */
    atomic_bool open;
    atomic_bool stop;
    atomic_int sleepers;
    atomic_bool caller_sleeps;
} pool = {
    .region = PTHREAD_MUTEX_INITIALIZER,
    .sleep = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .finished = PTHREAD_COND_INITIALIZER,
    .avoided = -1,
};

/* Worker number of the task that this thread runs, -1 outside of tasks. */
static _Thread_local int current_worker = -1;

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* CPUs that this process may run on. */
static int available_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than cpu_set_t holds */
    return online < 1 ? 1 : (int)online;
}

/* The worker's own share, then the others', from its neighbour's on. */
static void take_tasks(int worker)
{
    const int shares = pool.workers + 1;
    current_worker = worker;
    for (int i = 0; i < shares; i++) {
        const int from = worker + i < shares ? worker + i : worker + i - shares;
        const long long end = pool.share[from].end;
        while (atomic_load_explicit(&pool.share[from].next, memory_order_relaxed) < end) {
            const long long task = atomic_fetch_add(&pool.share[from].next, 1);
            if (task < end)
                pool.run(pool.context, (int)task, worker);
        }
    }
    current_worker = -1;
}

/* Waits for a region after number `seen`, or for the end. */
static void wait_for_region(unsigned seen, int spins)
{
    for (int i = 0; i < spins; i++) {
        if (atomic_load(&pool.opened) != seen || atomic_load(&pool.stop))
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.sleepers, 1);
    while (atomic_load(&pool.opened) == seen && !atomic_load(&pool.stop))
        pthread_cond_wait(&pool.wake, &pool.sleep);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.sleep);
}

static void *worker_main(void *number)
{
    int worker = (int)(intptr_t)number;
    int spins = pool.spins; /* written before this thread was made */
    unsigned seen = 0;
    while (!atomic_load(&pool.stop)) {
        atomic_fetch_add(&pool.inside, 1);
        seen = atomic_load(&pool.opened);
        if (atomic_load(&pool.open))
            take_tasks(worker);
        if (atomic_fetch_sub(&pool.inside, 1) == 1 && atomic_load(&pool.caller_sleeps)) {
            pthread_mutex_lock(&pool.sleep);
            pthread_cond_signal(&pool.finished);
            pthread_mutex_unlock(&pool.sleep);
        }
        wait_for_region(seen, spins);
    }
    return NULL;
}

/* In the child of a fork only the forking thread exists. */
static void forget_workers(void)
{
    pthread_mutex_init(&pool.region, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.finished, NULL);
    pool.workers = 0;
    pool.avoided = -1;
    atomic_store(&pool.open, false);
    atomic_store(&pool.inside, 0);
    atomic_store(&pool.sleepers, 0);
    atomic_store(&pool.caller_sleeps, false);
}

/* Keeps workers off this thread's CPU before they are woken or begin. Where Linux is a guest it takes a halted virtual
 * CPU for one that the host has stopped, and wakes them behind their caller, to run a time slice later, while others
 * idle. If the system refuses, they stay where they may be. */
static void keep_apart(void)
{
    const int cpu = pool.apart ? sched_getcpu() : -1;
    if (cpu < 0 || cpu >= CPU_SETSIZE || cpu == pool.avoided)
        return;
    cpu_set_t others = pool.cpus;
    CPU_CLR((unsigned)cpu, &others);
    for (int i = 0; i < pool.workers; i++)
        pthread_setaffinity_np(pool.worker[i], sizeof others, &others);
    pool.avoided = cpu;
}

/* Makes the workers on first use; with fewer threads than asked for when the system gives no more. */
static void start_workers(void)
{
    if (!pool.fork_handled)
        pool.fork_handled = pthread_atfork(NULL, NULL, forget_workers) == 0;
    int threads = cnn_get_threads();
    pool.spins = threads <= available_cpus() ? SPIN_PAUSES : 0;
    pool.apart = pool.spins > 0 && sched_getaffinity(0, sizeof pool.cpus, &pool.cpus) == 0;
    pool.avoided = -1;
    while (pool.workers < threads - 1) {
        void *number = (void *)(intptr_t)(pool.workers + 1);
        if (pthread_create(&pool.worker[pool.workers], NULL, worker_main, number) != 0)
            break;
        pool.workers++;
    }
    if (pool.workers < threads - 1)
        atomic_store(&pool.threads, pool.workers + 1);
    keep_apart();
}

static void stop_workers(void)
{
    atomic_store(&pool.stop, true);
    pthread_mutex_lock(&pool.sleep);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.sleep);
    for (int i = 0; i < pool.workers; i++)
        pthread_join(pool.worker[i], NULL);
    pool.workers = 0;
    atomic_store(&pool.stop, false);
}

cnn_status cnn_set_threads(int threads)
{
    if (threads < 0 || threads > MAX_THREADS)
        return cnn_error(CNN_ERR_USAGE, "%d threads: use 1 to %d, or 0 for as many as there are CPUs", threads,
                         MAX_THREADS);
    if (current_worker >= 0)
        return cnn_error(CNN_ERR_USAGE, "the number of threads cannot change while a parallel region runs");
    pthread_mutex_lock(&pool.region);
    stop_workers();
    atomic_store(&pool.threads, threads);
    pthread_mutex_unlock(&pool.region);
    return CNN_OK;
}

int cnn_get_threads(void)
{
    int threads = atomic_load(&pool.threads);
    if (threads > 0)
        return threads;
    int cpus = available_cpus();
    cpus = cpus > MAX_THREADS ? MAX_THREADS : cpus;
    /* Another thread may have decided meanwhile; then `threads` becomes what it decided. */
    return atomic_compare_exchange_strong(&pool.threads, &threads, cpus) ? cpus : threads;
}

static void open_region(int tasks, cnn_task_fn run, void *context)
{
    pool.run = run;
    pool.context = context;
    const long long shares = pool.workers + 1;
    for (long long i = 0; i < shares; i++) {
        atomic_store_explicit(&pool.share[i].next, tasks * i / shares, memory_order_relaxed);
        pool.share[i].end = tasks * (i + 1) / shares;
    }
    atomic_store(&pool.open, true);
    atomic_fetch_add(&pool.opened, 1);
    if (atomic_load(&pool.sleepers) == 0)
        return;
    keep_apart();
    pthread_mutex_lock(&pool.sleep);
    if (tasks - 1 >= pool.workers)
        pthread_cond_broadcast(&pool.wake);
    else
        for (int i = 0; i < tasks - 1; i++)
            pthread_cond_signal(&pool.wake);
    pthread_mutex_unlock(&pool.sleep);
}

static void close_region(void)
{
    atomic_store(&pool.open, false);
    for (int i = 0; i < pool.spins; i++) {
        if (atomic_load(&pool.inside) == 0)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool.sleep);
    atomic_store(&pool.caller_sleeps, true);
    while (atomic_load(&pool.inside) != 0)
        pthread_cond_wait(&pool.finished, &pool.sleep);
    atomic_store(&pool.caller_sleeps, false);
    pthread_mutex_unlock(&pool.sleep);
}

static void run_serially(int tasks, cnn_task_fn run, void *context)
{
    int outer = current_worker;
    current_worker = outer < 0 ? 0 : outer;
    for (int task = 0; task < tasks; task++)
        run(context, task, current_worker);
    current_worker = outer;
}

void cnn_parallel(int tasks, cnn_task_fn run, void *context)
{
    /* A second thread that asks while a region runs does its own work instead of waiting. */
    if (tasks <= 1 || current_worker >= 0 || pthread_mutex_trylock(&pool.region) != 0) {
        run_serially(tasks, run, context);
        return;
    }
    if (pool.workers == 0 && cnn_get_threads() > 1)
        start_workers();
    if (pool.workers == 0) {
        run_serially(tasks, run, context);
    } else {
        open_region(tasks, run, context);
        take_tasks(0);
        close_region();
    }
    pthread_mutex_unlock(&pool.region);
}

const cnn_host *cnn_host_get(void)
{
    static const cnn_host host = {
        .version = CNN_BACKEND_VERSION,
        .threads = cnn_get_threads,
        .parallel = cnn_parallel,
        .alloc = cnn_aligned_alloc,
        .free = cnn_aligned_free,
        .error = cnn_error,
    };
    return &host;
}
