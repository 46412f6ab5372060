/* cnn-train: trains a network and saves it after every epoch. */
#include "cli/interrupt.h"
#include "cli/message.h"
#include "cli/model_files.h"
#include "cli/progress.h"
#include "cnn/session.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/save.h"
#include "train/checkpoint.h"
#include "train/tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { TEST_CHUNK = 512 }; /* images between two looks at the bar; whole batches */

/* Remembers the sentence of a failure in the callback, which can only ask training to stop. */
static bool keep_going(train_run *run, cnn_status status)
{
    run->failed = status;
    if (status != CNN_OK)
        snprintf(run->failure, sizeof run->failure, "%s", cnn_last_error());
    return status == CNN_OK && !cnn_interrupt_came();
}

static cnn_status save(train_run *run)
{
    return cnn_cli_save_model(run->model, run->set->output, CNN_PACK_AUTO, &run->file_bytes);
}

/* A run that goes on saves the model of the last whole epoch again: it may have been lost, or not be written yet. */
static cnn_status begin(train_run *run, const cnn_train_progress *progress)
{
    train_report_start(run, progress);
    const cnn_status status = train_log_begin(run, progress);
    return status == CNN_OK && progress->whole_epochs > 0 ? save(run) : status;
}

static void show_step(train_run *run, const cnn_train_progress *progress)
{
    char text[64];
    train_log_step(run, progress);
    snprintf(text, sizeof text, "epoch %d", progress->epoch);
    cnn_progress_label(&run->bar, text);
    snprintf(text, sizeof text, "loss %.4f", progress->loss);
    cnn_progress_update(&run->bar, (double)progress->images, text);
}

static bool show_progress(void *context, const cnn_train_progress *progress)
{
    train_run *run = context;
    cnn_status status = CNN_OK;
    run->at = *progress;
    if (progress->begin) {
        status = begin(run, progress);
    } else if (progress->epoch_done) {
        train_log_epoch(run, progress);
        train_report_epoch(run, progress);
        status = save(run);
    } else {
        show_step(run, progress);
    }
    return keep_going(run, status);
}

/* Right answers on the test set, chunk by chunk behind a bar. */
static cnn_status evaluate(train_run *run, cnn_session *session, const cnn_dataset *test, int64_t *correct)
{
    cnn_status status = CNN_OK;
    cnn_progress progress;
    int32_t index[TEST_CHUNK];
    *correct = 0;
    cnn_progress_begin(&progress, run->cli, "test", test->count, "images");
    for (int32_t done = 0; done < test->count;) {
        int32_t chunk = test->count - done < TEST_CHUNK ? test->count - done : TEST_CHUNK;
        int64_t right;
        for (int32_t i = 0; i < chunk; i++)
            index[i] = done + i;
        CNN_TRY(cnn_session_evaluate(session, test, index, chunk, &right, NULL));
        *correct += right;
        done += chunk;
        cnn_progress_update(&progress, done, NULL);
    }
out:
    cnn_progress_end(&progress);
    return status;
}

/* Accuracy of the file just written, so that anyone who reads it gets the same. */
static cnn_status test_saved(train_run *run, const cnn_dataset *test, int64_t *correct)
{
    cnn_status status = CNN_OK;
    cnn_model *model = NULL;
    cnn_session *session = NULL;
    const cnn_session_options inference = {.device = run->cli->common.device};
    CNN_TRY(cnn_cli_load_saved(run->set->output, &model));
    CNN_TRY(cnn_session_open(model, &inference, &session));
    CNN_TRY(evaluate(run, session, test, correct));
out:
    cnn_session_close(session);
    cnn_model_free(model);
    return status;
}

/* Where the checkpoint is kept: as --checkpoint says, else beside the model, if that is a file. */
static cnn_status choose_checkpoint(train_run *run)
{
    struct stat info;
    const char *output = run->set->output;
    if (run->set->checkpoint)
        run->checkpoint = cnn_strdup(run->set->checkpoint);
    else if (stat(output, &info) != 0 || S_ISREG(info.st_mode))
        run->checkpoint = cnn_format("%s.ckpt", output);
    else if (run->set->resume || run->set->checkpoint_every)
        return cnn_error(CNN_ERR_USAGE, "%s is no file that a checkpoint could lie beside; name one with --checkpoint",
                         output);
    else
        return CNN_OK;
    return run->checkpoint ? CNN_OK : CNN_ERR_MEMORY;
}

/* Shows before training starts that all results can be written. */
static cnn_status check_outputs(train_run *run)
{
    cnn_status status = CNN_OK;
    bool there = false;
    if (cnn_cli_is_weights(run->set->output))
        CNN_FAIL(CNN_ERR_USAGE,
                 "%s would hold weights without a network: write model.cnn, and 'cnn-opt -o %s' makes it of "
                 "that",
                 run->set->output, run->set->output);
    CNN_TRY(cnn_cli_check_output(run->set->output));
    CNN_TRY(choose_checkpoint(run));
    if (run->checkpoint) {
        CNN_TRY(cnn_cli_check_output(run->checkpoint));
        CNN_TRY(cnn_checkpoint_find(run->checkpoint, &there));
    }
    CNN_TRY(train_log_open(&run->log, run->set->log));
    if (there && !run->set->resume)
        cnn_message_warning(run->cli,
                            "%s is of a run that was interrupted and --resume would go on with; this one "
                            "starts anew and will replace it",
                            run->checkpoint);
out:
    return status;
}

/* What became of an interrupted run. */
static cnn_status interrupted(const train_run *run)
{
    const cnn_train_progress *at = &run->at;
    if (!run->checkpoint)
        return cnn_error(CNN_ERR_CANCELLED, "interrupted after step %lld of %lld; no checkpoint was kept",
                         (long long)at->step, (long long)at->steps);
    if (at->begin && !at->resumed)
        return cnn_error(CNN_ERR_CANCELLED, "interrupted before the first step");
    return cnn_error(
        CNN_ERR_CANCELLED,
        "interrupted after step %lld of %lld, %d of %g epochs; the same command with --resume goes on from %s",
        (long long)at->step, (long long)at->steps, at->whole_epochs, at->epochs, run->checkpoint);
}

/* Trains. What stopped it, a signal or a failure in the callback, is told instead of "training was stopped". */
static cnn_status train(train_run *run, cnn_train_result *result)
{
    train_settings_options(run->set, &run->cli->common, &run->options);
    run->options.progress = show_progress;
    run->options.progress_context = run;
    run->options.checkpoint = run->checkpoint;
    cnn_interrupt_hold("\r\033[Kstopping after this step; Ctrl-C again ends at once, without a checkpoint\n");
    cnn_status status = cnn_train(run->model, run->data, &run->options, result);
    const int number = cnn_interrupt_take();
    if (run->bar.cli)
        cnn_progress_end(&run->bar);
    if (run->failed != CNN_OK)
        return cnn_error(run->failed, "%s", run->failure);
    if (status != CNN_OK && run->file_bytes > 0)
        cnn_message_notice(run->cli, "%s holds the last whole epoch", run->set->output);
    if (status != CNN_ERR_CANCELLED)
        return status;
    run->signal = number;
    return interrupted(run);
}

/* The checkpoint goes when nothing is left to do for which it would be needed. */
static cnn_status finish(train_run *run, const cnn_train_result *result, const cnn_dataset *test)
{
    cnn_status status = CNN_OK;
    int64_t correct;
    CNN_TRY(test_saved(run, test, &correct));
    train_log_end(run, result, (double)correct / (double)test->count);
    train_report_end(run, result, test, correct);
    if (run->checkpoint && fflush(stdout) == 0 && !ferror(stdout))
        CNN_TRY(cnn_save_remove(run->checkpoint));
out:
    return status;
}

/* Prints what a training step runs, instead of training. */
static cnn_status dump_program(train_run *run)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    char *text = NULL;
    const float rate = 0.0f;
    cnn_train_options *options = &run->options;
    train_settings_options(run->set, &run->cli->common, options);
    const cnn_session_options training = {.device = options->device,
                                          .batch = options->batch,
                                          .train = true,
                                          .storage = options->storage,
                                          .tf32 = options->tf32,
                                          .autotune = options->autotune,
                                          .step = {.optimizer = options->optimizer,
                                                   .label_smoothing = options->label_smoothing,
                                                   .dropout = true,
                                                   .seed = options->seed,
                                                   .ema = options->ema_decay > 0.0}};
    CNN_TRY(cnn_session_open(run->model, &training, &session));
    CNN_TRY(cnn_session_set_data(session, run->data));
    CNN_TRY(cnn_session_set_schedule(session, &rate, 1));
    CNN_TRY(cnn_session_dump(session, true, options->batch, &text));
    fputs(text, stdout);
out:
    free(text);
    cnn_session_close(session);
    return status;
}

static cnn_status run_tool(train_run *run)
{
    cnn_status status = CNN_OK;
    cnn_dataset *data = NULL, *test = NULL;
    cnn_train_result result;
    CNN_TRY(train_settings_check(run->set));
    if (!run->set->dump_program)
        CNN_TRY(check_outputs(run));
    CNN_TRY(train_make_model(run));
    CNN_TRY(train_load_data(run, &data, &test));
    CNN_TRY(train_init_model(run, data));
    run->data = data;
    if (run->set->dump_program) {
        status = dump_program(run);
        goto out;
    }
    CNN_TRY(train(run, &result));
    CNN_TRY(finish(run, &result, test));
out:
    cnn_dataset_free(test);
    cnn_dataset_free(data);
    cnn_model_free(run->model);
    cnn_model_free(run->init);
    train_log_close(&run->log);
    free(run->checkpoint);
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
    train_run run = {.cli = &cli, .set = &set, .storage = train_settings_storage(&set)};
    code = cnn_cli_end(&cli, run_tool(&run));
    return run.signal ? CNN_EXIT_SIGNAL + run.signal : code;
}
