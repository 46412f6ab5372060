/* Start and end of a tool: command line, --help, --version, exit code. */
#include "cli/cli.h"

#include "cli/completion.h"
#include "cli/exit.h"
#include "cli/help.h"
#include "cli/hints.h"
#include "cli/interrupt.h"
#include "cli/message.h"
#include "core/backends.h"
#include "core/error.h"
#include "core/pool.h"
#include "core/save.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { TABLES = 2, DEVICE_BYTES = 128 };

/* A line for each device: how it would run here, and what it may be narrowed down to. */
static void print_device(const cnn_backend *backend)
{
    cnn_device *device = NULL;
    if (backend->open(cnn_host_get(), NULL, &device) == CNN_OK) {
        printf("device %s: %s", backend->name, backend->describe(device));
        backend->close(device);
    } else {
        const char *why = cnn_last_error();
        if (strncmp(why, "device ", 7) != 0) /* most name it themselves */
            printf("device %s: ", backend->name);
        fputs(why, stdout);
    }
    for (int i = 0; backend->host_memory && backend->variants && backend->variants[i]; i++)
        printf("%s%s", i == 0 ? "; levels in this build: " : ", ", backend->variants[i]);
    putchar('\n');
}

static void print_version(const cnn_tool *tool)
{
    printf("%s (cnnkit) %s\n", tool->name, cnn_version());
    const cnn_backend *gpu;
    const char *variant;
    if (cnn_backend_find("cuda", &gpu, &variant) == CNN_OK)
        print_device(gpu);
    else
        printf("%s\n", cnn_last_error());
    for (int i = 0; cnn_backends[i]; i++)
        print_device(cnn_backends[i]);
}

/* The topic may stand behind --help as a word of its own. */
static cnn_status print_help(const cnn_cli *cli, const cnn_option_table *tables)
{
    const char *topic = cli->common.help;
    if (!*topic && cli->operands.count > 0 && cli->operands.list[0][0] != '-')
        topic = cli->operands.list[0];
    return cnn_help_print(stdout, cli->tool, tables, TABLES, topic);
}

cnn_status cnn_cli_check_devices(const char *option, const char *devices, bool several)
{
    const cnn_backend *backend;
    const char *variant;
    char name[DEVICE_BYTES];
    for (const char *at = devices;; at++) {
        size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        cnn_status status = cnn_backend_find(name, &backend, &variant);
        if (status != CNN_OK)
            return status == CNN_ERR_USAGE ? cnn_error_prefix(status, "option %s", option) : status;
        at += length;
        if (!*at)
            return CNN_OK;
        if (!several)
            return cnn_error(CNN_ERR_USAGE, "option %s takes one device, not '%.100s'", option, devices);
    }
}

/* What memory may still grow to is the system's to say, for all that asks: libraries, stacks of threads. */
static cnn_status limit_memory(int64_t megabytes)
{
    const int64_t megabyte = 1000000;
    struct rlimit limit;
    if (megabytes == 0)
        return CNN_OK;
    if (getrlimit(RLIMIT_DATA, &limit) == 0) {
        const rlim_t wanted = (rlim_t)(megabytes * megabyte);
        limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || wanted < limit.rlim_max ? wanted : limit.rlim_max;
        if (setrlimit(RLIMIT_DATA, &limit) == 0)
            return CNN_OK;
    }
    return cnn_error(CNN_ERR_UNSUPPORTED, "--max-memory: this system does not limit memory: %s", strerror(errno));
}

static cnn_status check_usage(const cnn_cli *cli, const cnn_option_table *tables)
{
    char hint[CNN_HINT_BYTES];
    if (cli->common.quiet && cli->common.verbose)
        return cnn_error(CNN_ERR_USAGE, "options --quiet and --verbose contradict each other");
    int most = cli->tool->max_operands;
    if (most >= 0 && cli->operands.count > most) {
        const char *extra = cli->operands.list[most];
        if (most == 0 && *cnn_hint_operand(tables, TABLES, extra, hint))
            return cnn_error(CNN_ERR_USAGE, "'%.100s' is not an option (did you mean %s?)", extra, hint);
        if (most == 0)
            return cnn_error(CNN_ERR_USAGE, "'%.100s' is not an option, and %s takes nothing else", extra,
                             cli->tool->name);
        return cnn_error(CNN_ERR_USAGE, "'%.100s' is one too many: %s takes only %s", extra, cli->tool->name,
                         cli->tool->operand);
    }
    cnn_status status = cnn_cli_check_devices("--device", cli->common.device, cli->tool->device_lists);
    if (status == CNN_OK)
        status = limit_memory(cli->common.max_memory);
    return status == CNN_OK ? cnn_set_threads(cli->common.threads) : status;
}

/* A file over the limit (ulimit -f) is to fail like a full disk, not to end the process. A closed standard stream is
 * filled, so that no file that is opened later takes its number and gets our messages; writing to it still fails. */
static void prepare_process(void)
{
    signal(SIGXFSZ, SIG_IGN);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) == -1 && errno == EBADF && open("/dev/null", O_RDONLY) == -1)
            return;
}

bool cnn_cli_begin(cnn_cli *cli, const cnn_tool *tool, void *settings, int argc, char **argv, int *code)
{
    prepare_process();
    *cli =
        (cnn_cli){.tool = tool, .argc = argc, .argv = argv, .common = {.seed = 1, .device = "auto", .completion = -1}};
    const cnn_option_table tables[TABLES] = {{tool->options, settings}, {cnn_common_options, &cli->common}};
    cnn_status status = cnn_options_parse(tables, TABLES, argc, argv, &cli->operands);
    if (status == CNN_OK && cli->common.help)
        status = print_help(cli, tables);
    else if (status == CNN_OK && cli->common.version)
        print_version(tool);
    else if (status == CNN_OK && cli->common.completion >= 0)
        cnn_completion_print(stdout, tool, tables, TABLES);
    else if (status == CNN_OK && (status = check_usage(cli, tables)) == CNN_OK) {
        if (cnn_backend_remark())
            cnn_message_warning(cli, "%s", cnn_backend_remark());
        return true;
    }
    *code = cnn_cli_end(cli, status);
    return false;
}

/* Writes out what standard output holds: a full disk or a closed pipe shows here at the latest. */
static cnn_status flush_output(void)
{
    bool failed = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) != 0 || failed)
        return cnn_error(CNN_ERR_IO, "cannot write to standard output: %s", strerror(errno ? errno : EIO));
    return CNN_OK;
}

int cnn_cli_end(cnn_cli *cli, cnn_status status)
{
    if (status == CNN_ERR_USAGE)
        cnn_message_error(cli, "%s; try '%s --help'", cnn_last_error(), cli->tool->name);
    else if (status != CNN_OK)
        cnn_message_error(cli, "%s", cnn_last_error());
    cnn_status flushed = flush_output();
    if (flushed != CNN_OK)
        cnn_message_error(cli, "%s", cnn_last_error());
    int code = cnn_exit_code(status != CNN_OK ? status : flushed);
    return code == CNN_EXIT_DONE && cli->failed ? CNN_EXIT_FAILED : code;
}

cnn_status cnn_cli_check_output(const char *path)
{
    cnn_save probe = {0};
    cnn_interrupt_hold(NULL); /* a temporary file is there for a moment */
    cnn_status status = cnn_save_begin(&probe, path);
    cnn_save_abort(&probe);
    cnn_interrupt_release();
    return status;
}
