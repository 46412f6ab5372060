/* launch COUNT COMMAND...: runs a command so often, one after the other, with its output thrown away, and prints for
 * each run the milliseconds from fork to exit and its peak resident memory in KiB. A small process starts it because
 * Linux counts the memory of whoever starts a program as that program's peak until it has loaded. */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    for (long left = strtol(argv[1], NULL, 10); left > 0; left--) {
        const double start = milliseconds();
        const pid_t child = fork();
        if (child == 0) {
            const int null = open("/dev/null", O_WRONLY);
            if (null >= 0)
                dup2(null, STDOUT_FILENO);
            execvp(argv[2], argv + 2);
            perror(argv[2]);
            _exit(127);
        }
        int status = 0;
        struct rusage used;
        if (child < 0 || wait4(child, &status, 0, &used) != child || status != 0) {
            fprintf(stderr, "%s failed\n", argv[2]);
            return 1;
        }
        printf("%.3f %ld\n", milliseconds() - start, used.ru_maxrss);
    }
    return 0;
}
