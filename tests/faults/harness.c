/* Runs a tool in this folder again and again; in run n the n-th call fails: a request for memory (memory.c) or one of
 * those that read and write files (calls.c). main() of the tool is called tool_main here.
 *
 *     oom_cnn-train [--every K] [--only N] [--fault KIND] [--output FILE]... -- ARGUMENT...
 *
 * A run in which a call failed must end with exit code 1 and one sentence on standard error; every file in the folder
 * must be as it was; an --output may also be as in an undisturbed run, or a model, checkpoint or log that is whole.
 * Where the tool could do without that call, it ends with 0 and all is as in an undisturbed run: the folder, and
 * standard output when that does not change from run to run. Runs go on until none fails any more; --every K takes only
 * each K-th. Leaks are the address sanitizer's to find.
 *
 * --fault (of system calls): "call" as above; "full": the disk is full after N-th parts of what is written; "short":
 * reads and writes move fewer bytes than they were asked to, and nothing may come of it; "kill": SIGKILL in place of
 * the n-th call: then files are whole, and the same command once more ends with the outputs of an undisturbed run. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "tests/faults/faults.h"

#include "cnn/model.h"
#include "tests/faults/folder.h"
#include "train/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_OUTPUTS = 8, MOST_FAILURES = 10, TEXT_BYTES = 1 << 16, FULL_FEWEST = 3, FULL_MOST = 64 };

static const char *const fault_names[] = {"call", "short", "full", "kill"};

typedef struct harness {
    fault_kind kind;
    long every, only;
    const char *outputs[MAX_OUTPUTS];
    int output_count;
    char **argv; /* of the tool, its name first */
    int argc;
    const char *out, *err; /* files outside of the folder */
    fault_folder before, after;
    bool compare_out; /* --output -: standard output is one of them */
    char *said;       /* there by an undisturbed run; NULL: not compared */
    long written;     /* bytes, by an undisturbed run */
    long runs, failures;
} harness;

fault_state *fault_shared;

void fault_name(const char *call, int fd)
{
    if (atomic_flag_test_and_set(&fault_shared->named))
        return;
    char *at = fault_shared->failed; /* no snprintf: this may be a signal handler */
    while (*call)
        *at++ = *call++;
    if (fd >= 0 && fd < 100) {
        *at++ = '(';
        if (fd >= 10)
            *at++ = (char)('0' + fd / 10);
        *at++ = (char)('0' + fd % 10);
        *at++ = ')';
    }
    *at = '\0';
}

static void die(const char *what)
{
    fprintf(stderr, "faults: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void redirect(const char *path, int fd)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0 || dup2(file, fd) < 0)
        die(path);
    close(file);
}

/* Runs the tool with the n-th call failing, or that fault in its way. Its exit code; 128 + the signal that ended it. */
static int run(const harness *h, fault_kind kind, long n, long limit)
{
    int result;
    fault_shared->kind = kind;
    fault_shared->count = 0;
    fault_shared->limit = limit;
    fault_shared->written = 0;
    fault_shared->failed[0] = '\0';
    atomic_flag_clear(&fault_shared->named);
    fflush(stdout);
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        redirect(h->out, STDOUT_FILENO);
        redirect(h->err, STDERR_FILENO);
        fault_shared->fail_at = n;
        int code = fault_run_tool(h->argc, h->argv);
        fault_shared->fail_at = 0;
        exit(code);
    }
    while (waitpid(child, &result, 0) < 0)
        if (errno != EINTR)
            die("waitpid");
    fault_shared->fail_at = 0;
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

/* One line, and no more, begins with the tool's name and is no warning. A log that ended may have been told of before.
 */
static bool one_sentence(const harness *h, const char *text)
{
    char error[64], warning[64];
    int errors = 0, logs = 0;
    snprintf(error, sizeof error, "%s: ", h->argv[0]);
    snprintf(warning, sizeof warning, "%s: warning: ", h->argv[0]);
    for (const char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        if (strncmp(line, error, strlen(error)) != 0 || strncmp(line, warning, strlen(warning)) == 0)
            continue;
        const char *log = strstr(line, "; the log ends here");
        *(log && log < end ? &logs : &errors) += (size_t)(end - line) > strlen(error) + 10;
    }
    return errors == 1 || (errors == 0 && logs == 1);
}

static bool is_output(const harness *h, const char *name)
{
    for (int i = 0; i < h->output_count; i++)
        if (strcmp(h->outputs[i], name) == 0)
            return true;
    return false;
}

static bool has_ending(const fault_file *file, const char *ending)
{
    size_t length = strlen(file->name), bytes = strlen(ending);
    return length > bytes && strcmp(file->name + length - bytes, ending) == 0;
}

static bool closes_with(const fault_file *file, const char *text)
{
    size_t bytes = strlen(text);
    return file->size >= bytes && memcmp(file->bytes + file->size - bytes, text, bytes) == 0;
}

/* A model or a checkpoint that can be read, whole lines of a log, a report to its end. */
static bool is_whole(const fault_file *file)
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

/* What runs that were killed, or could not remove it, leave beside the file that they were writing. */
static bool may_stay(const harness *h, const fault_file *file)
{
    return strstr(file->name, ".tmp-") && (h->kind == FAULT_KILLED || strcmp(fault_shared->failed, "unlink") == 0);
}

/* Figures of time make these differ from run to run. */
static bool varies(const fault_file *file)
{
    return has_ending(file, ".jsonl") || has_ending(file, ".json") || has_ending(file, ".html");
}

static const char *look_at(const harness *h, const fault_file *file, bool done)
{
    const fault_file *old = fault_folder_find(&h->before, file->name);
    const fault_file *good = fault_folder_find(&h->after, file->name);
    if (fault_file_same(file, done ? good : old) || may_stay(h, file))
        return NULL;
    if (!is_output(h, file->name))
        return old ? "changed" : "left behind";
    if (done && !varies(file))
        return "other than in an undisturbed run";
    return fault_file_same(file, good) || is_whole(file) ? NULL : "half-written";
}

/* What is wrong with the folder after a run that failed, or after one that did not (`done`); NULL: nothing. */
static const char *look_around(const harness *h, bool done)
{
    static char text[512];
    const char *problem = NULL;
    fault_folder now = fault_folder_read();
    for (int i = 0; i < now.count && !problem; i++) {
        problem = look_at(h, &now.files[i], done);
        snprintf(text, sizeof text, "%.200s was %s", now.files[i].name, problem ? problem : "");
    }
    for (int i = 0; i < h->before.count && !problem; i++) {
        const char *name = h->before.files[i].name;
        if (!fault_folder_find(&now, name) && (!is_output(h, name) || fault_folder_find(&h->after, name))) {
            problem = "lost";
            snprintf(text, sizeof text, "%.200s was lost", name);
        }
    }
    fault_folder_free(&now);
    return problem ? text : NULL;
}

static void restore(const harness *h)
{
    fault_folder now = fault_folder_read();
    fault_folder_restore(&h->before, &now);
    fault_folder_free(&now);
}

/* Of a run that ended with 0: it did without what failed, all the same. */
static const char *judge_success(const harness *h)
{
    const char *failed = fault_shared->failed;
    if (*failed && !fault_is_tolerable(failed))
        return "it ended with 0";
    if (*failed &&
        strstr(read_text(h->err), "; it is left out\n")) /* a picture of many: what comes of it is another model */
        return look_around(h, false);
    if (h->said && !fault_is_silencing(failed) && strcmp(h->said, read_text(h->out)) != 0)
        return "it printed something else than an undisturbed run";
    return look_around(h, true);
}

/* The run was killed: the same command again. */
static const char *judge_killed(const harness *h)
{
    static char text[256];
    const char *around = look_around(h, false);
    if (around)
        return around;
    const int code = run(h, FAULT_REFUSED, 0, 0);
    if (code == 0)
        return look_around(h, true);
    snprintf(text, sizeof text, "the same command afterwards ended with %d", code);
    return text;
}

/* What is wrong with a run, which ended with `code`; NULL: nothing. */
static const char *judge(const harness *h, int code)
{
    static char text[256];
    const bool served = fault_shared->failed[0] == '\0';
    if (code == FAULT_CODE_SANITIZER)
        return "the sanitizer found a leak or a wrong access";
    if (code == FAULT_CODE_DESCRIPTOR)
        return "it left a file open";
    if (code == 0)
        return judge_success(h);
    if (h->kind == FAULT_KILLED && code == 128 + SIGKILL)
        return judge_killed(h);
    if (served)
        return "nothing failed, and yet it did";
    if (code != 1) {
        snprintf(text, sizeof text, "it ended with %d", code);
        return text;
    }
    if (!one_sentence(h, read_text(h->err)) && !fault_is_silencing(fault_shared->failed))
        return "it did not say one sentence";
    return look_around(h, false);
}

static void report(harness *h, long n, const char *problem)
{
    if (++h->failures > MOST_FAILURES)
        return;
    printf("FAILED: %s %ld, %s: %s\n", fault_names[h->kind], n, fault_shared->failed, problem);
    printf("  it said: %s\n", read_text(h->err));
}

/* The undisturbed run, which shows what the outputs are to be. */
static void run_undisturbed(harness *h)
{
    h->before = fault_folder_read();
    const int code = run(h, FAULT_REFUSED, 0, 0);
    if (code == FAULT_CODE_UNABLE) {
        printf("skipped: system calls cannot be made to fail here\n");
        exit(0);
    }
    if (code != 0) {
        printf("FAILED: an undisturbed run ends with %d: %s\n", code, read_text(h->err));
        exit(1);
    }
    h->said = h->compare_out ? strdup(read_text(h->out)) : NULL;
    h->after = fault_folder_read();
    h->written = fault_shared->written;
    restore(h);
}

static bool run_once(harness *h, long n, long limit)
{
    const int code = run(h, h->kind, n, limit);
    const bool served = fault_shared->failed[0] == '\0';
    const char *problem = judge(h, code);
    h->runs++;
    if (problem)
        report(h, n ? n : limit, problem);
    if (h->only && !problem)
        printf("%s %ld, %s: %s", fault_names[h->kind], n ? n : limit, fault_shared->failed, read_text(h->err));
    restore(h);
    return served;
}

/* The disk is full after no byte, after all but one, and after some parts between. */
static void run_full(harness *h)
{
    const long parts = FULL_MOST / h->every > FULL_FEWEST ? FULL_MOST / h->every : FULL_FEWEST;
    for (long i = 0; i <= parts && i <= h->written; i++)
        run_once(h, 0, i < parts ? h->written / parts * i : h->written - 1);
}

static void run_short(harness *h)
{
    static const long limits[] = {1, 997, 61, 4095};
    const size_t count = sizeof limits / sizeof limits[0];
    for (size_t i = h->every > 1 ? count / 2 : 0; i < count; i++)
        run_once(h, 0, limits[i]);
}

static void run_all(harness *h)
{
    if (h->only)
        run_once(h, h->kind == FAULT_SHORT || h->kind == FAULT_FULL ? 0 : h->only, h->only);
    else if (h->kind == FAULT_FULL)
        run_full(h);
    else if (h->kind == FAULT_SHORT)
        run_short(h);
    else
        for (long n = h->every > 1 ? 1 + h->every / 2 : 1; !run_once(h, n, 0); n += h->every)
            ;
}

static void usage(void)
{
    fprintf(stderr, "usage: FAULTS_TOOL [--every K] [--only N] [--fault call|short|full|kill] [--output FILE]... "
                    "-- ARGUMENT...\n");
    exit(2);
}

static fault_kind find_kind(const char *name)
{
    for (int i = 0; i < (int)(sizeof fault_names / sizeof fault_names[0]); i++)
        if (strcmp(name, fault_names[i]) == 0)
            return (fault_kind)i;
    usage();
    return FAULT_REFUSED;
}

static void parse(harness *h, int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0], *tool = strchr(name, '_');
    int i = 1;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (strcmp(argv[i], "--every") == 0)
            h->every = strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            h->only = strtol(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--fault") == 0)
            h->kind = find_kind(argv[i + 1]);
        else if (strcmp(argv[i], "--output") == 0 && strcmp(argv[i + 1], "-") == 0)
            h->compare_out = true;
        else if (strcmp(argv[i], "--output") == 0 && h->output_count < MAX_OUTPUTS)
            h->outputs[h->output_count++] = argv[i + 1];
    }
    if (i >= argc || h->every < 1 || !tool)
        usage();
    h->argv = argv + i;
    h->argc = argc - i;
    h->argv[0] = argv[0] + (tool + 1 - argv[0]); /* in the place of "--" */
}

int main(int argc, char **argv)
{
    const char *logs = getenv("FAULT_LOGS");
    char out[1024], err[1024];
    harness h = {.every = 1, .out = out, .err = err};
    parse(&h, argc, argv);
    snprintf(out, sizeof out, "%s/out", logs ? logs : "..");
    snprintf(err, sizeof err, "%s/err", logs ? logs : "..");
    fault_shared = mmap(NULL, sizeof *fault_shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fault_shared == MAP_FAILED)
        die("mmap");
    run_undisturbed(&h);
    run_all(&h);
    printf("%s: %ld runs, %ld failed\n", h.argv[0], h.runs, h.failures);
    fault_folder_free(&h.before);
    fault_folder_free(&h.after);
    free(h.said);
    return h.failures != 0;
}
