/* The thread pool: every task once, workers unique, nesting, many regions, changing the number of threads. */
#define _GNU_SOURCE /* usleep, CPU_SET */
#include "core/pool.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif

enum { MOST_TASKS = 1000, MOST_WORKERS = 8 };

typedef struct counts {
    atomic_int runs[MOST_TASKS];
    atomic_int busy[MOST_WORKERS]; /* calls that run now, by worker */
    atomic_int clashes;            /* two calls at a time with the same worker, or a worker out of range */
    atomic_int most_worker;
} counts;

static void count_task(void *context, int task, int worker)
{
    counts *c = context;
    atomic_fetch_add(&c->runs[task], 1);
    if (worker < 0 || worker >= cnn_get_threads() || worker >= MOST_WORKERS) {
        atomic_fetch_add(&c->clashes, 1);
        return;
    }
    if (atomic_fetch_add(&c->busy[worker], 1) != 0)
        atomic_fetch_add(&c->clashes, 1);
    for (volatile int i = 0; i < 50; i++)
        ;
    atomic_fetch_sub(&c->busy[worker], 1);
    int most = atomic_load(&c->most_worker);
    while (worker > most && !atomic_compare_exchange_weak(&c->most_worker, &most, worker))
        ;
}

static void check_region(int tasks)
{
    counts *c = calloc(1, sizeof *c);
    ck_assert_ptr_nonnull(c);
    cnn_parallel(tasks, count_task, c);
    for (int i = 0; i < MOST_TASKS; i++)
        ck_assert_int_eq(c->runs[i], i < tasks);
    ck_assert_int_eq(c->clashes, 0);
    free(c);
}

START_TEST(test_every_task_once)
{
    static const int tasks[] = {0, 1, 2, 3, 7, 64, MOST_TASKS};
    for (int threads = 1; threads <= MOST_WORKERS; threads++) {
        ck_assert_int_eq(cnn_set_threads(threads), CNN_OK);
        ck_assert_int_eq(cnn_get_threads(), threads);
        for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++)
            check_region(tasks[i]);
    }
}
END_TEST

/* Tasks that end only when `wanted` of them run at the same time. */
typedef struct meeting {
    int wanted;
    atomic_int arrived;
    counts seen;
} meeting;

static void meet_task(void *context, int task, int worker)
{
    meeting *m = context;
    atomic_fetch_add(&m->arrived, 1);
    while (atomic_load(&m->arrived) < m->wanted)
        sched_yield();
    count_task(&m->seen, task, worker);
}

START_TEST(test_all_workers_take_part)
{
    ck_assert_int_eq(cnn_set_threads(4), CNN_OK);
    meeting *m = calloc(1, sizeof *m);
    m->wanted = 4;
    cnn_parallel(4, meet_task, m);
    ck_assert_int_eq(m->arrived, 4);
    ck_assert_int_eq(m->seen.most_worker, 3);
    ck_assert_int_eq(m->seen.clashes, 0);
    free(m);
}
END_TEST

typedef struct nested {
    atomic_int inner;
    atomic_int moved; /* inner tasks that ran on another worker or thread */
    int outer_worker;
    pthread_t outer_thread;
    struct nested *shared;
} nested;

static void inner_task(void *context, int task, int worker)
{
    (void)task;
    nested *outer = context;
    atomic_fetch_add(&outer->shared->inner, 1);
    if (worker != outer->outer_worker || !pthread_equal(pthread_self(), outer->outer_thread))
        atomic_fetch_add(&outer->shared->moved, 1);
}

static void outer_task(void *context, int task, int worker)
{
    (void)task;
    nested own = {.outer_worker = worker, .outer_thread = pthread_self(), .shared = context};
    cnn_parallel(10, inner_task, &own);
}

/* Of 8 tasks and two workers, the one that has task 0 waits for the other, which begins with its own share. */
enum { SHARED_TASKS = 8 };
typedef struct shares {
    atomic_int done;
    int order[SHARED_TASKS]; /* of tasks but 0 */
} shares;

static void shares_task(void *context, int task, int worker)
{
    shares *s = context;
    (void)worker;
    while (task == 0 && atomic_load(&s->done) < SHARED_TASKS - 1)
        usleep(100);
    if (task != 0) {
        s->order[atomic_load(&s->done)] = task;
        atomic_fetch_add(&s->done, 1);
    }
}

START_TEST(test_own_share_first_then_what_is_left)
{
    static const int expected[] = {4, 5, 6, 7, 1, 2, 3};
    shares s = {0};
    ck_assert_int_eq(cnn_set_threads(2), CNN_OK);
    cnn_parallel(SHARED_TASKS, shares_task, &s);
    for (int i = 0; i < SHARED_TASKS - 1; i++)
        ck_assert_int_eq(s.order[i], expected[i]);
}
END_TEST

START_TEST(test_nested_regions_run_serially)
{
    nested shared = {.outer_worker = 0};
    ck_assert_int_eq(cnn_set_threads(3), CNN_OK);
    cnn_parallel(20, outer_task, &shared);
    ck_assert_int_eq(shared.inner, 200);
    ck_assert_int_eq(shared.moved, 0);
}
END_TEST

static void add_task(void *context, int task, int worker)
{
    (void)worker;
    long *values = context;
    values[task]++; /* not atomic: a task that ran twice at a time, or unordered regions, would show under tsan */
}

START_TEST(test_many_small_regions)
{
    enum { REGIONS = 20000, TASKS = 3 };
    long values[TASKS] = {0};
    ck_assert_int_eq(cnn_set_threads(2), CNN_OK);
    for (int i = 0; i < REGIONS; i++)
        cnn_parallel(TASKS, add_task, values);
    for (int i = 0; i < TASKS; i++)
        ck_assert_int_eq(values[i], REGIONS);
}
END_TEST

START_TEST(test_regions_after_sleep)
{
    ck_assert_int_eq(cnn_set_threads(3), CNN_OK);
    for (int i = 0; i < 20; i++) {
        check_region(5);
        usleep(3000); /* long enough for workers to fall asleep */
    }
}
END_TEST

typedef struct places {
    atomic_int arrived;
    cpu_set_t allowed[2]; /* of each worker */
} places;

static void place_task(void *context, int task, int worker)
{
    places *p = context;
    (void)task;
    sched_getaffinity(0, sizeof p->allowed[worker], &p->allowed[worker]);
    atomic_fetch_add(&p->arrived, 1);
    while (atomic_load(&p->arrived) < 2)
        sched_yield();
}

/* A worker that is woken may run wherever its caller does not; where the caller may run is its own affair. A worker
 * that has not fallen asleep yet stays where it is, so there are several tries. */
static void check_apart(int cpu, const cpu_set_t *all)
{
    cpu_set_t one, others = *all;
    places p = {.arrived = 0};
    CPU_ZERO(&one);
    CPU_SET((unsigned)cpu, &one);
    CPU_CLR((unsigned)cpu, &others);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    for (int tries = 0; tries < 500 && (tries == 0 || !CPU_EQUAL(&p.allowed[1], &others)); tries++) {
        usleep(3000);
        atomic_store(&p.arrived, 0);
        cnn_parallel(2, place_task, &p);
    }
    ck_assert(CPU_EQUAL(&p.allowed[1], &others));
    ck_assert(CPU_EQUAL(&p.allowed[0], &one));
}

START_TEST(test_workers_keep_off_their_callers_cpu)
{
    cpu_set_t all;
    ck_assert_int_eq(sched_getaffinity(0, sizeof all, &all), 0);
    if (CPU_COUNT(&all) < 2)
        return;
    ck_assert_int_eq(cnn_set_threads(2), CNN_OK);
    check_region(5); /* the workers come into being, for all CPUs */
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE && seen < 2; cpu++)
        if (CPU_ISSET((unsigned)cpu, &all)) {
            check_apart(cpu, &all);
            seen++;
        }
    ck_assert_int_eq(sched_setaffinity(0, sizeof all, &all), 0);
}
END_TEST

static void *other_thread(void *unused)
{
    (void)unused;
    for (int i = 0; i < 50; i++)
        check_region(20);
    return NULL;
}

START_TEST(test_two_callers)
{
    pthread_t thread;
    ck_assert_int_eq(cnn_set_threads(2), CNN_OK);
    ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, NULL), 0);
    other_thread(NULL);
    pthread_join(thread, NULL);
}
END_TEST

static void set_task(void *context, int task, int worker)
{
    (void)worker;
    if (task == 0)
        *(cnn_status *)context = cnn_set_threads(1);
}

START_TEST(test_number_of_threads)
{
    ck_assert_int_eq(cnn_set_threads(0), CNN_OK);
    ck_assert_int_ge(cnn_get_threads(), 1);
    int threads = cnn_get_threads();
    ck_assert_int_eq(cnn_set_threads(-1), CNN_ERR_USAGE);
    ck_assert_int_eq(cnn_set_threads(1000000), CNN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "1000000 threads"));
    ck_assert_int_eq(cnn_get_threads(), threads);

    ck_assert_int_eq(cnn_set_threads(2), CNN_OK);
    cnn_status status = CNN_OK;
    cnn_parallel(2, set_task, &status);
    ck_assert_int_eq(status, CNN_ERR_USAGE);
    ck_assert_int_eq(cnn_get_threads(), 2);
}
END_TEST

#ifndef UNDER_TSAN
START_TEST(test_works_in_a_forked_child)
{
    ck_assert_int_eq(cnn_set_threads(3), CNN_OK);
    check_region(100);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        meeting *m = calloc(1, sizeof *m);
        m->wanted = 3; /* the child has no workers until it makes its own: without them it would wait for ever */
        alarm(60);
        cnn_parallel(3, meet_task, m);
        _exit(m->seen.most_worker == 2 && m->seen.clashes == 0 ? 0 : 1);
    }
    int result = 0;
    ck_assert_int_eq(waitpid(child, &result, 0), child);
    ck_assert(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    check_region(100);
}
END_TEST
#endif

START_TEST(test_host_table)
{
    const cnn_host *host = cnn_host_get();
    ck_assert_uint_eq(host->version, CNN_BACKEND_VERSION);
    ck_assert_int_eq(host->threads(), cnn_get_threads());
    long values[6] = {0};
    host->parallel(6, add_task, values);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(values[i], 1);
    void *memory = host->alloc(100);
    ck_assert_ptr_nonnull(memory);
    ck_assert_uint_eq((uintptr_t)memory % CNN_ALIGN, 0);
    host->free(memory);
    host->free(NULL);
    ck_assert_int_eq(host->error(CNN_ERR_SHAPE, "layer %d", 3), CNN_ERR_SHAPE);
    ck_assert_str_eq(cnn_last_error(), "layer 3");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pool");
    TCase *tests = tcase_create("pool");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_every_task_once);
    tcase_add_test(tests, test_all_workers_take_part);
    tcase_add_test(tests, test_own_share_first_then_what_is_left);
    tcase_add_test(tests, test_nested_regions_run_serially);
    tcase_add_test(tests, test_many_small_regions);
    tcase_add_test(tests, test_regions_after_sleep);
    tcase_add_test(tests, test_workers_keep_off_their_callers_cpu);
    tcase_add_test(tests, test_two_callers);
    tcase_add_test(tests, test_number_of_threads);
#ifndef UNDER_TSAN /* it does not allow threads in a forked child */
    tcase_add_test(tests, test_works_in_a_forked_child);
#endif
    tcase_add_test(tests, test_host_table);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
