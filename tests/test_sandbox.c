/* The sandbox: what still works in it, and what does not. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "cli/sandbox.h"
#include "cnn/session.h"
#include "core/pool.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PASSED = 0, SKIPPED = 77 };

#define NEED(condition)               \
    do {                              \
        if (!(condition))             \
            return __LINE__ % 70 + 1; \
    } while (0)

static bool refused(long result)
{
    return result == -1 && errno == EPERM;
}

static void count(void *context, int task, int worker)
{
    (void)worker;
    ((int *)context)[task] = task;
}

static bool threads_work(void)
{
    int done[8] = {0};
    cnn_parallel(8, count, done);
    return done[7] == 7;
}

static void *open_there(void *context)
{
    *(int *)context = open("/dev/null", O_RDONLY) == -1 && errno == EPERM;
    return NULL;
}

static void *wait_then_open(void *context)
{
    char byte;
    int *const pipes = context;
    if (read(pipes[0], &byte, 1) == 0) /* closed: the filter is there */
        open_there(&pipes[2]);
    return NULL;
}

/* What begin forbids. */
static int outside(void)
{
    const int readable = open("/dev/null", O_RDONLY);
    NEED(readable >= 0);
    NEED(refused(open("sandbox.new", O_WRONLY | O_CREAT, 0666)));
    NEED(refused(open("/dev/null", O_WRONLY)));
    NEED(refused(open("/dev/null", O_RDWR)));
    NEED(refused(open("/dev/null", O_RDONLY | O_TRUNC)));
    NEED(refused(unlink("sandbox.new")));
    NEED(refused(rename("sandbox.old", "sandbox.new")));
    NEED(refused(mkdir("sandbox.new", 0777)));
    NEED(refused(chmod("/dev/null", 0666)));
    NEED(refused(socket(AF_INET, SOCK_STREAM, 0)));
    NEED(refused(socket(AF_UNIX, SOCK_STREAM, 0)));
    NEED(refused(fork()));
    NEED(refused(execl("/bin/true", "true", (char *)NULL)));
    NEED(refused(kill(getpid(), 0)));
    NEED(refused(write(readable, "x", 1)));
    NEED(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == EPERM);
    return PASSED;
}

static int run_inside(void)
{
    int pipes[3] = {0}, there = 0;
    pthread_t early, late;
    char byte;
    NEED(cnn_set_threads(2) == CNN_OK && threads_work());
    NEED(pipe(pipes) == 0 && pthread_create(&early, NULL, wait_then_open, pipes) == 0);
    if (cnn_sandbox_begin() == CNN_ERR_UNSUPPORTED)
        return SKIPPED;
    const int result = outside();
    if (result != PASSED)
        return result;
    const int zero = open("/dev/zero", O_RDONLY);
    NEED(zero >= 0 && cnn_sandbox_seal() == CNN_OK);
    close(pipes[1]);
    NEED(pthread_join(early, NULL) == 0 && pipes[2] == 1); /* a thread that was there before */
    NEED(pthread_create(&late, NULL, open_there, &there) == 0 && pthread_join(late, NULL) == 0 && there == 1);
    NEED(refused(open("/dev/null", O_RDONLY)));
    NEED(read(zero, &byte, 1) == 1 && byte == 0);
    void *memory = malloc(10 << 20);
    NEED(memory && threads_work());
    free(memory);
    NEED(write(STDOUT_FILENO, "", 0) == 0);
    return PASSED;
}

START_TEST(test_sandbox)
{
    int status;
    const pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0)
        _exit(run_inside());
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    if (WEXITSTATUS(status) != SKIPPED)
        ck_assert_int_eq(WEXITSTATUS(status), PASSED); /* else a line of this file, less a multiple of 70, and 1 */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sandbox");
    TCase *tests = tcase_create("sandbox");
    tcase_add_test(tests, test_sandbox);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
