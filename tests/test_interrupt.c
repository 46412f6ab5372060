/* Signals put off: the first is remembered, the second ends the process, ignored ones stay ignored. */
#include "cli/interrupt.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

/* Runs `body` in a process of its own; returns the signal that ended it, 0 when it came to its end. */
static int ended_by(void (*body)(int), int number)
{
    int status;
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
            signal(signals[i], SIG_DFL); /* Check has handlers of its own */
        body(number);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void take_one(int number)
{
    cnn_interrupt_hold(NULL);
    if (cnn_interrupt_came() != 0)
        abort();
    raise(number);
    if (cnn_interrupt_came() != number || cnn_interrupt_take() != number)
        abort();
}

static void two(int number)
{
    cnn_interrupt_hold(NULL);
    raise(number);
    raise(number);
}

static void two_kinds(int number)
{
    cnn_interrupt_hold(NULL);
    raise(number == SIGINT ? SIGTERM : SIGINT);
    raise(number);
}

static void release_with(int number)
{
    cnn_interrupt_hold(NULL);
    raise(number);
    cnn_interrupt_release();
}

static void release_without(int number)
{
    (void)number;
    cnn_interrupt_hold(NULL);
    cnn_interrupt_release();
}

static void after_release(int number)
{
    release_without(number);
    raise(number);
}

static void ignored(int number)
{
    signal(number, SIG_IGN);
    two(number);
    if (cnn_interrupt_came() != 0 || cnn_interrupt_take() != 0)
        abort();
    raise(number);
}

static void again(int number)
{
    take_one(number);
    take_one(number);
}

START_TEST(signals_wait)
{
    const int number = signals[_i];
    ck_assert_int_eq(ended_by(take_one, number), 0);
    ck_assert_int_eq(ended_by(again, number), 0);
    ck_assert_int_eq(ended_by(two, number), number);
    ck_assert_int_eq(ended_by(two_kinds, number), number);
    ck_assert_int_eq(ended_by(release_with, number), number);
    ck_assert_int_eq(ended_by(release_without, number), 0);
    ck_assert_int_eq(ended_by(after_release, number), number);
    ck_assert_int_eq(ended_by(ignored, number), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("interrupt");
    TCase *tests = tcase_create("interrupt");
    tcase_add_loop_test(tests, signals_wait, 0, sizeof signals / sizeof *signals);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
