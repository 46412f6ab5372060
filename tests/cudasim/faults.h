/* For tests of the CPU's CUDA runtime and libraries: checks, and wrong uses, each in a process of its own that has to
 * end with a given sentence. Included by one file of a test. */
#ifndef CNN_CUDASIM_FAULTS_H
#define CNN_CUDASIM_FAULTS_H

#include <csignal>
#include <cstdio>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

static int failures, checks;

static void check_at(bool good, const char *what, int line)
{
    checks++;
    if (good)
        return;
    printf("FAILED, line %d: %s\n", line, what);
    failures++;
}
#define CHECK(condition) check_at(condition, #condition, __LINE__)
#define OK(call) CHECK((call) == cudaSuccess)

/* Runs it in a process and returns what that says on standard error, and how it ended. */
template <typename F> static std::string said_by(F &&use, int *status)
{
    int ends[2];
    std::string said;
    if (pipe(ends) != 0)
        return "no pipe";
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        use();
        _exit(0);
    }
    close(ends[1]);
    char text[4096];
    for (ssize_t got; (got = read(ends[0], text, sizeof text)) > 0;)
        said.append(text, static_cast<size_t>(got));
    close(ends[0]);
    waitpid(child, status, 0);
    return said;
}

/* It must abort and say the sentence. */
template <typename F> static void must_be_found(const char *name, const char *sentence, F &&use)
{
    int status = 0;
    const std::string said = said_by(use, &status);
    checks++;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && said.find(sentence) != std::string::npos)
        return;
    failures++;
    printf("FAILED: %s: status 0x%x, it said: %s\n", name, static_cast<unsigned>(status), said.c_str());
}

static int report()
{
    printf("%d checks, %d failed\n", checks, failures);
    return failures > 0;
}

#endif
