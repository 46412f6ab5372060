/* Runs a tool in this folder again and again; in run n the n-th request for memory fails (wrap.c). main() of the tool
 * is called tool_main here.
 *
 *     oom_cnn-train [--every K] [--only N] [--output FILE]... -- ARGUMENT...
 *
 * A run that was refused memory must end with exit code 1 and one sentence on standard error; every file in the folder
 * must be as it was; an --output may also be as in an undisturbed run, or a model, checkpoint or log that is whole.
 * Runs go on until none is refused any more; --every K takes only each K-th. Leaks are the address sanitizer's to find.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "tests/oom/oom.h"

#include "cnn/model.h"
#include "tests/oom/folder.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_OUTPUTS = 8, MOST_FAILURES = 10, TEXT_BYTES = 4096, SANITIZER_CODE = 99 };

typedef struct harness {
    long every, only;
    const char *outputs[MAX_OUTPUTS];
    int output_count;
    char **argv; /* of the tool, its name first */
    int argc;
    const char *out, *err; /* files outside of the folder */
    oom_folder before, after;
    long runs, failures;
} harness;

static void die(const char *what)
{
    fprintf(stderr, "oom: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void redirect(const char *path, int fd)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0 || dup2(file, fd) < 0)
        die(path);
    close(file);
}

/* Runs the tool with the n-th request failing. Its exit code; 128 + the signal that ended it. */
static int run(const harness *h, long n)
{
    int result;
    oom_shared->count = 0;
    oom_shared->failed[0] = '\0';
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        redirect(h->out, STDOUT_FILENO);
        redirect(h->err, STDERR_FILENO);
        oom_shared->fail_at = n;
        int code = tool_main(h->argc, h->argv);
        oom_shared->fail_at = 0;
        exit(code);
    }
    while (waitpid(child, &result, 0) < 0)
        if (errno != EINTR)
            die("waitpid");
    oom_shared->fail_at = 0;
    return WIFSIGNALED(result) ? 128 + WTERMSIG(result) : WEXITSTATUS(result);
}

static const char *read_text(const char *path)
{
    static char text[TEXT_BYTES];
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[length] = '\0';
    if (file)
        fclose(file);
    return text;
}

/* One line, and no more, begins with the tool's name and is no warning. */
static bool one_sentence(const harness *h, const char *text)
{
    char error[64], warning[64];
    int errors = 0;
    snprintf(error, sizeof error, "%s: ", h->argv[0]);
    snprintf(warning, sizeof warning, "%s: warning: ", h->argv[0]);
    for (const char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
        errors += strncmp(line, error, strlen(error)) == 0 && strncmp(line, warning, strlen(warning)) != 0 &&
                  (size_t)(end - line) > strlen(error) + 10;
    return errors == 1;
}

static bool is_output(const harness *h, const char *name)
{
    for (int i = 0; i < h->output_count; i++)
        if (strcmp(h->outputs[i], name) == 0)
            return true;
    return false;
}

static bool has_ending(const oom_file *file, const char *ending)
{
    size_t length = strlen(file->name), bytes = strlen(ending);
    return length > bytes && strcmp(file->name + length - bytes, ending) == 0;
}

static bool closes_with(const oom_file *file, const char *text)
{
    size_t bytes = strlen(text);
    return file->size >= bytes && memcmp(file->bytes + file->size - bytes, text, bytes) == 0;
}

/* A model or a checkpoint that can be read, whole lines of a log, a report to its end. */
static bool is_whole(const oom_file *file)
{
    cnn_model *model;
    cnn_checkpoint checkpoint;
    cnn_input_file input;
    if (has_ending(file, ".jsonl"))
        return file->size == 0 || closes_with(file, "\n");
    if (has_ending(file, ".json"))
        return closes_with(file, "}\n");
    if (has_ending(file, ".html"))
        return closes_with(file, "</html>\n");
    if (cnn_model_load(file->name, &model) == CNN_OK) {
        cnn_model_free(model);
        return true;
    }
    if (cnn_checkpoint_load(file->name, &input, &checkpoint) != CNN_OK)
        return false;
    cnn_input_close(&input);
    return true;
}

/* What is wrong with the folder after a run that failed, or after one that did not (`whole`); NULL: nothing. */
static const char *look_around(const harness *h, bool whole)
{
    static char text[512];
    const char *problem = NULL;
    oom_folder now = oom_folder_read();
    for (int i = 0; i < now.count && !problem; i++) {
        const oom_file *file = &now.files[i], *old = oom_folder_find(&h->before, file->name);
        const oom_file *good = oom_folder_find(&h->after, file->name);
        if (oom_file_same(file, whole ? good : old))
            continue;
        if (!is_output(h, file->name))
            problem = old ? "changed" : "left behind";
        else if (!oom_file_same(file, good) && !is_whole(file))
            problem = "half-written";
        snprintf(text, sizeof text, "%.200s was %s", file->name, problem ? problem : "");
    }
    for (int i = 0; i < h->before.count && !problem; i++)
        if (!oom_folder_find(&now, h->before.files[i].name) &&
            (!is_output(h, h->before.files[i].name) || oom_folder_find(&h->after, h->before.files[i].name))) {
            problem = "lost";
            snprintf(text, sizeof text, "%.200s was lost", h->before.files[i].name);
        }
    oom_folder_restore(&h->before, &now);
    oom_folder_free(&now);
    return problem ? text : NULL;
}

/* What is wrong with run n, which ended with `code`; NULL: nothing. */
static const char *judge(const harness *h, int code)
{
    static char text[256];
    bool served = oom_shared->failed[0] == '\0';
    bool tolerable = served || oom_is_tolerable(oom_shared->failed);
    const char *around = look_around(h, code == 0), *said = read_text(h->err);
    if (code == SANITIZER_CODE)
        return "the sanitizer found a leak or a wrong access";
    if (code != 1 && !(code == 0 && tolerable)) {
        snprintf(text, sizeof text, "it ended with %d", code);
        return text;
    }
    if (code == 1 && !one_sentence(h, said))
        return "it did not say one sentence";
    return around;
}

static void report(harness *h, long n, const char *problem)
{
    if (++h->failures > MOST_FAILURES)
        return;
    printf("FAILED: request %ld, %s: %s\n", n, oom_shared->failed, problem);
    printf("  it said: %s\n", read_text(h->err));
}

/* The undisturbed run, which shows what its outputs are to be. */
static void run_undisturbed(harness *h)
{
    h->before = oom_folder_read();
    int code = run(h, 0);
    if (code != 0) {
        printf("FAILED: an undisturbed run ends with %d: %s\n", code, read_text(h->err));
        exit(1);
    }
    h->after = oom_folder_read();
    oom_folder_restore(&h->before, &h->after);
}

static void run_all(harness *h)
{
    long n = h->only ? h->only : h->every > 1 ? 1 + h->every / 2 : 1;
    for (;; n += h->every) {
        int code = run(h, n);
        bool served = oom_shared->failed[0] == '\0';
        const char *problem = served && code != 0 ? "nothing failed, and yet it did" : judge(h, code);
        h->runs++;
        if (problem)
            report(h, n, problem);
        if (h->only && !problem)
            printf("request %ld, %s: %s", n, oom_shared->failed, read_text(h->err));
        if (served || h->only)
            break;
    }
}

static void parse(harness *h, int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
    int i = 1;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (strcmp(argv[i], "--every") == 0)
            h->every = strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            h->only = strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--output") == 0 && h->output_count < MAX_OUTPUTS)
            h->outputs[h->output_count++] = argv[i + 1];
    }
    if (i >= argc || h->every < 1 || strncmp(name, "oom_", 4) != 0) {
        fprintf(stderr, "usage: oom_TOOL [--every K] [--only N] [--output FILE]... -- ARGUMENT...\n");
        exit(2);
    }
    h->argv = argv + i;
    h->argc = argc - i;
    h->argv[0] = argv[0] + (name - argv[0]) + 4; /* in the place of "--" */
}

int main(int argc, char **argv)
{
    const char *logs = getenv("OOM_LOGS");
    char out[1024], err[1024];
    harness h = {.every = 1, .out = out, .err = err};
    parse(&h, argc, argv);
    snprintf(out, sizeof out, "%s/out", logs ? logs : "..");
    snprintf(err, sizeof err, "%s/err", logs ? logs : "..");
    oom_shared = mmap(NULL, sizeof *oom_shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (oom_shared == MAP_FAILED)
        die("mmap");
    run_undisturbed(&h);
    run_all(&h);
    printf("%s: %ld runs, %ld failed\n", h.argv[0], h.runs, h.failures);
    oom_folder_free(&h.before);
    oom_folder_free(&h.after);
    return h.failures != 0;
}
