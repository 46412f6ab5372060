/* cnn-train: trains a network and saves it after every epoch. */
#include "cli/message.h"
#include "cnn/session.h"
#include "core/error.h"
#include "core/save.h"
#include "train/tool.h"

#include <stdio.h>

static bool save(train_run *run)
{
    run->saved = cnn_model_save(run->model, run->set->output, &run->file_bytes);
    if (run->saved != CNN_OK)
        snprintf(run->save_error, sizeof run->save_error, "%s", cnn_last_error());
    return run->saved == CNN_OK;
}

static bool show_progress(void *context, const cnn_train_progress *progress)
{
    train_run *run = context;
    char text[64];
    run->steps = progress->step;
    if (progress->epoch_done) {
        train_report_epoch(run, progress);
        return save(run);
    }
    if (progress->step == 0) {
        train_report_start(run, progress);
        return true;
    }
    snprintf(text, sizeof text, "epoch %d", progress->epoch);
    cnn_progress_label(&run->bar, text);
    snprintf(text, sizeof text, "loss %.4f", progress->loss);
    cnn_progress_update(&run->bar, (double)progress->images, text);
    return true;
}

/* Shows before training starts that the result can be written. */
static cnn_status check_output(const char *path)
{
    cnn_save probe = {0};
    cnn_status status = cnn_save_begin(&probe, path);
    cnn_save_abort(&probe);
    return status;
}

/* Accuracy of the file just written, so that anyone who reads it gets the same. */
static cnn_status test_saved(train_run *run, const cnn_dataset *test, int64_t *correct)
{
    cnn_status status = CNN_OK;
    cnn_model *model = NULL;
    cnn_session *session = NULL;
    const cnn_session_options inference = {.device = run->cli->common.device};
    CNN_TRY(cnn_model_load(run->set->output, &model));
    CNN_TRY(cnn_session_open(model, &inference, &session));
    CNN_TRY(cnn_session_evaluate(session, test, NULL, test->count, correct, NULL));
out:
    cnn_session_close(session);
    cnn_model_free(model);
    return status;
}

/* Trains, with the sentence of a failed save instead of "training was stopped". */
static cnn_status train(train_run *run, cnn_train_result *result)
{
    cnn_train_options train_options;
    train_settings_options(run->set, &run->cli->common, &train_options);
    train_options.progress = show_progress;
    train_options.progress_context = run;
    cnn_status status = cnn_train(run->model, run->data, &train_options, result);
    if (run->bar.cli)
        cnn_progress_end(&run->bar);
    if (status == CNN_ERR_CANCELLED && run->saved != CNN_OK)
        return cnn_error(run->saved, "%s", run->save_error);
    if (status != CNN_OK && run->file_bytes > 0)
        cnn_message_notice(run->cli, "%s holds the last whole epoch", run->set->output);
    return status;
}

static cnn_status run_tool(cnn_cli *cli, const train_settings *set)
{
    cnn_status status = CNN_OK;
    train_run run = {.cli = cli, .set = set, .storage = train_settings_storage(set)};
    cnn_dataset *data = NULL, *test = NULL;
    cnn_train_result result;
    int64_t correct;
    CNN_TRY(train_settings_check(set));
    CNN_TRY(check_output(set->output));
    CNN_TRY(cnn_model_create(set->model, &run.model));
    CNN_TRY(train_load_data(&run, &data, &test));
    cnn_model_init(run.model, (uint64_t)cli->common.seed);
    run.data = data;
    CNN_TRY(train(&run, &result));
    CNN_TRY(test_saved(&run, test, &correct));
    train_report_end(&run, &result, test, correct);
out:
    cnn_dataset_free(test);
    cnn_dataset_free(data);
    cnn_model_free(run.model);
    return status;
}

int main(int argc, char **argv)
{
    train_settings set;
    cnn_cli cli;
    int code;
    train_settings_init(&set);
    if (!cnn_cli_begin(&cli, &train_tool, &set, argc, argv, &code))
        return code;
    return cnn_cli_end(&cli, run_tool(&cli, &set));
}
