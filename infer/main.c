/* cnn-infer: runs a model on pictures or a test set. */
#include "infer/infer.h"

#include "cli/json.h"
#include "cli/message.h"
#include "cli/model_files.h"
#include "cli/sandbox.h"
#include "core/backends.h"
#include "core/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { TEST_BATCH = 64, BENCH_BATCH = 1 };

/* The model to run: the one that was named, else what the other tools write by default. */
static cnn_status find_model(infer_run *run)
{
    static const char *const standard[] = {"model-opt.cnn", "model.cnn"};
    run->path = run->settings->model;
    for (int i = 0; !run->path && i < 2; i++)
        if (access(standard[i], F_OK) == 0 || errno != ENOENT) /* else opening it says what is wrong */
            run->path = standard[i];
    if (!run->path)
        return cnn_error(CNN_ERR_IO, "there is no model-opt.cnn or model.cnn in this folder: make one with 'cnn-train' "
                                     "or name one with --model");
    return CNN_OK;
}

/* What "auto" stands for here. */
static cnn_status name_automatic(const char **name)
{
    const cnn_backend *backend;
    const char *variant;
    cnn_status status = cnn_backend_find("auto", &backend, &variant);
    if (status == CNN_OK)
        *name = backend->name;
    return status;
}

/* Takes the list of --device apart; only --bench has use for more than one. */
static cnn_status split_devices(infer_run *run)
{
    cnn_status status = CNN_OK;
    snprintf(run->device_text, sizeof run->device_text, "%s", run->cli->common.device);
    char *at = run->device_text;
    while (run->device_count < INFER_MAX_DEVICES && at) {
        char *comma = strchr(at, ',');
        run->device[run->device_count++] = at;
        if (comma)
            *comma++ = '\0';
        if (strcmp(run->device[run->device_count - 1], "auto") == 0)
            CNN_TRY(name_automatic(&run->device[run->device_count - 1]));
        at = comma;
    }
    if (at)
        CNN_FAIL(CNN_ERR_USAGE, "--device %.100s: at most %d devices stand side by side", run->cli->common.device,
                 INFER_MAX_DEVICES);
    if (run->device_count > 1 && !run->settings->bench)
        CNN_FAIL(CNN_ERR_USAGE, "--device %.100s: only --bench puts devices side by side; give one here",
                 run->cli->common.device);
out:
    return status;
}

/* Before a byte of what strangers made is read. */
static cnn_status begin_sandbox(infer_run *run)
{
    const char *given = run->cli->common.device;
    if (strcmp(given, "auto") == 0)
        run->device[0] = "cpu"; /* a GPU's driver would need what is given up */
    else if (strncmp(given, "cpu", 3) != 0 && strcmp(given, "ref") != 0)
        return cnn_error(CNN_ERR_USAGE, "--sandbox computes on the CPU: leave out --device %.100s", given);
    return cnn_sandbox_begin();
}

/* A model that must be signed is of the kind that can be. */
static cnn_status open_signed(infer_run *run)
{
    if (cnn_cli_is_foreign(run->path))
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "%s: is refused: only .cnn files are signed, and a signature by %s is asked for", run->path,
                         run->key.path);
    cnn_status status = cnn_model_load_signed_by(run->path, &run->key, &run->model);
    if (status == CNN_OK)
        cnn_message_detail(run->cli, "signed by %s", run->key.path);
    return status;
}

static cnn_status open_model(infer_run *run)
{
    cnn_status status = CNN_OK;
    CNN_TRY(run->settings->require_signature ? open_signed(run) : cnn_cli_open_model(run->cli, run->path, &run->model));
    run->input = cnn_model_input(run->model);
    run->classes = cnn_model_output(run->model).c;
    run->batch = run->settings->batch ? run->settings->batch : run->settings->bench ? BENCH_BATCH : TEST_BATCH;
    const cnn_common *common = &run->cli->common;
    const cnn_session_options session = {
        .device = run->device[0], .batch = run->batch, .tf32 = common->tf32, .autotune = common->autotune};
    CNN_TRY(cnn_session_open(run->model, &session, &run->session));
    cnn_message_detail(run->cli, "model: %s, %s, %lld weights", run->path,
                       cnn_model_is_quantized(run->model) ? "INT8" : "FP32",
                       (long long)cnn_model_weight_count(run->model));
    cnn_message_detail(run->cli, "device: %s", cnn_session_device(run->session));
out:
    return status;
}

static cnn_status dump_program(infer_run *run)
{
    char *text;
    cnn_status status = cnn_session_dump(run->session, false, run->batch, &text);
    if (status != CNN_OK)
        return status;
    if (run->cli->common.json) {
        cnn_json json;
        cnn_json_begin(&json, stdout);
        cnn_json_string(&json, "program", text);
        cnn_json_end(&json);
    } else {
        fputs(text, stdout);
    }
    free(text);
    return CNN_OK;
}

static cnn_status run_tool(cnn_cli *cli, const infer_settings *settings)
{
    infer_run run = {.cli = cli, .settings = settings};
    cnn_status status = CNN_OK;
    CNN_TRY(infer_settings_check(cli, settings));
    CNN_TRY(split_devices(&run));
    CNN_TRY(find_model(&run));
    if (settings->require_signature)
        CNN_TRY(cnn_public_key_read(settings->require_signature, &run.key));
    if (settings->sandbox)
        CNN_TRY(begin_sandbox(&run));
    if (cli->operands.count > 0) {
        status = infer_pictures(&run, open_model);
        goto out;
    }
    CNN_TRY(open_model(&run));
    if (settings->test && (settings->attack >= 0 || settings->sanitize))
        status = infer_attack(&run);
    else if (settings->test)
        status = infer_evaluate(&run);
    else if (settings->input)
        status = infer_array(&run);
    else if (settings->bench)
        status = infer_bench(&run);
    else if (settings->compare)
        status = infer_compare(&run);
    else
        status = dump_program(&run);
out:
    cnn_session_close(run.session);
    cnn_model_free(run.model);
    return status;
}

/* Planes of pictures come and go, some in one thread and some in another. What was freed is used again, by any of them:
 * memory from the system costs more than the work on it. */
static void keep_memory(void)
{
#ifdef __GLIBC__
    enum { LARGEST_KEPT = 4 << 20, MOST_KEPT = 16 << 20 };
    mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT);
    mallopt(M_TRIM_THRESHOLD, MOST_KEPT);
    mallopt(M_ARENA_MAX, 1);
#endif
}

int main(int argc, char **argv)
{
    keep_memory();
    infer_settings settings;
    cnn_cli cli;
    int code;
    infer_settings_init(&settings);
    if (!cnn_cli_begin(&cli, &infer_tool, &settings, argc, argv, &code))
        return code;
    return cnn_cli_end(&cli, run_tool(&cli, &settings));
}
