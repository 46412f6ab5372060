/* The passes of cnn-opt in their order: prune, fine-tune, fold batch norms, calibrate and quantize, save. After each
 * one the model is measured on the validation split that it was trained without; the test set is never read. */
#include "optimize/facts.h"
#include "optimize/precision.h"

#include "cli/interrupt.h"
#include "cli/message.h"
#include "cli/model_files.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "core/dataset.h"
#include "core/error.h"
#include "core/layers.h"
#include "train/augment.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Beginning ---- */

cnn_status opt_load(cnn_cli *cli, const opt_settings *settings, cnn_model **model)
{
    const char *path = settings->input;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return cnn_error(CNN_ERR_IO, "%s: there is no such file; make one with cnn-train, or name another", path);
    if (settings->from_torch)
        return cnn_cli_load_weights(cli, settings->network, path, model);
    return cnn_cli_load_model(cli, path, model);
}

static cnn_status load_data(opt_job *job)
{
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_cli_load_data_of(job->cli, job->model, job->settings->input, CNN_SUBSET_TRAIN, &job->data));
    if (job->model->dataset == CNN_DATASET_NONE) /* what came from elsewhere knows its data from now on */
        CNN_TRY(cnn_model_set_data(job->model, job->data));
    CNN_TRY(cnn_model_split(job->model, job->data, &job->split));
    job->account->val_images = job->split.validation_count;
    if (job->settings->all_images) {
        CNN_TRY(cnn_split_train_on_all(&job->split));
        cnn_message_notice(job->cli, "all images are trained on: accuracies of the validation images, which are among "
                                     "them, promise nothing for others");
    }
out:
    return status;
}

static cnn_status load_teacher(opt_job *job)
{
    const opt_settings *settings = job->settings;
    if (!(settings->distill > 0))
        return CNN_OK;
    if (!settings->teacher)
        return cnn_model_clone(job->model, &job->teacher);
    cnn_status status = cnn_cli_load_model(job->cli, settings->teacher, &job->teacher);
    if (status == CNN_OK)
        status = cnn_model_check_data(job->teacher, job->data);
    return status == CNN_OK ? CNN_OK : cnn_error_prefix(status, "--teacher");
}

/* Images change as they did when the model was trained, unless the settings say otherwise, or that they change so as to
 * fool the model. */
static cnn_status set_augmentation(opt_job *job)
{
    cnn_status status = CNN_OK;
    const opt_settings *settings = job->settings;
    const bool known = settings->augment < 0 && settings->adversarial == 0;
    cnn_train_options options;
    cnn_augment_recipe recipe;
    cnn_finetune_options_init(&options, job->model, job->data);
    job->augment = known ? options.augment : fmax(settings->augment, 0);
    const char *kinds = settings->augmentation ? settings->augmentation : known ? options.augmentation : NULL;
    if (settings->augmentation && !(job->augment > 0))
        CNN_FAIL(CNN_ERR_USAGE,
                 "--augmentation says how images are changed; say how many too: --augment 0.5 is every second");
    if (kinds && strlen(kinds) >= sizeof job->augmentation)
        CNN_FAIL(CNN_ERR_USAGE, "--augmentation has more than %zu characters", sizeof job->augmentation - 1);
    if (kinds)
        CNN_TRY(cnn_augment_parse(kinds, job->augment, job->data, &recipe)); /* now, not when the first pass is over */
    snprintf(job->augmentation, sizeof job->augmentation, "%s", kinds ? kinds : "");
    if (known && job->augment > 0 && opt_fine_tunes(settings))
        cnn_message_notice(job->cli, "fine-tuning changes %g %% of the images, %s training did", 100 * job->augment,
                           settings->augmentation ? "as many as" : "as");
out:
    return status;
}

/* ---- Passes ---- */

static bool has_batchnorm(const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].type->id == CNN_LAYER_BN)
            return true;
    return false;
}

cnn_status opt_fold(opt_job *job, bool *folded)
{
    *folded = false;
    if (!has_batchnorm(job->model))
        return CNN_OK;
    cnn_status status = cnn_fold_batchnorm(job->model);
    if (status == CNN_ERR_UNSUPPORTED && !job->settings->int8) {
        cnn_message_notice(job->cli, "batch norms stay: %s", cnn_last_error());
        return CNN_OK;
    }
    *folded = status == CNN_OK;
    return status;
}

cnn_status opt_remove_dead(opt_job *job)
{
    int64_t units;
    const opt_settings *settings = job->settings;
    if (settings->structure != OPT_STRUCTURE_WEIGHT && !(settings->structure < 0 && opt_has_goal(settings)))
        return CNN_OK;
    cnn_status status = cnn_remove_dead(job->model, &units);
    if (status == CNN_OK && units > 0)
        cnn_message_notice(job->cli, "%lld channel%s had no weight left and %s taken out", (long long)units,
                           units == 1 ? "" : "s", units == 1 ? "was" : "were");
    return status;
}

typedef struct quantize_watch {
    cnn_cli *cli;
    cnn_progress progress;
    bool begun;
} quantize_watch;

static bool show_quantizing(void *context, int64_t done, int64_t all)
{
    quantize_watch *watch = context;
    if (!watch->begun)
        cnn_progress_begin(&watch->progress, watch->cli, "quantize", (double)all, "images");
    watch->begun = true;
    cnn_progress_update(&watch->progress, (double)done, NULL);
    return true;
}

static cnn_status equalize(opt_job *job)
{
    int groups;
    cnn_status status =
        cnn_equalize(job->model, job->data, (uint64_t)job->cli->common.seed, job->cli->common.device, &groups);
    if (status == CNN_OK)
        cnn_message_notice(job->cli, "channels between %d pair%s of layers equalized", groups, groups == 1 ? "" : "s");
    return status;
}

cnn_status opt_quantize(opt_job *job, cnn_quantize_row **rows, int *row_count)
{
    if (job->settings->equalization == 1) {
        cnn_status status = equalize(job);
        if (status != CNN_OK)
            return status;
    }
    quantize_watch watch = {.cli = job->cli};
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    if (job->settings->observer >= 0)
        options.observer = (cnn_observer)job->settings->observer;
    if (job->settings->percentile > 0)
        options.percentile = job->settings->percentile;
    if (job->settings->bias_correction >= 0)
        options.bias_correction = job->settings->bias_correction;
    options.codebook = job->settings->codebook;
    if (job->settings->rounding >= 0)
        options.rounding = (cnn_rounding)job->settings->rounding;
    options.levels = cnn_levels_of_bits(CNN_MOST_BITS);
    options.seed = (uint64_t)job->cli->common.seed;
    options.device = job->cli->common.device;
    options.compact = job->settings->pack == CNN_PACK_SMALLEST;
    options.progress = show_quantizing;
    options.progress_context = &watch;
    cnn_status status = cnn_quantize(job->model, job->data, &options, rows, row_count);
    if (watch.begun)
        cnn_progress_end(&watch.progress);
    return status;
}

cnn_status opt_save(opt_job *job)
{
    size_t bytes;
    cnn_interrupt_hold(NULL); /* Ctrl-C now would leave a temporary file */
    cnn_status status = cnn_cli_save_model(job->model, job->settings->output, (cnn_pack)job->settings->pack, &bytes);
    cnn_interrupt_release();
    if (status == CNN_OK)
        job->account->stages[job->account->stage_count - 1].figures.file_bytes = (int64_t)bytes;
    return status;
}

static cnn_status run_passes(opt_job *job)
{
    cnn_status status = CNN_OK;
    const opt_settings *settings = job->settings;
    cnn_quantize_row *rows = NULL;
    int row_count = 0;
    const double epochs = opt_epochs(settings, job->model, job->data);
    char label[64];
    bool folded;
    CNN_TRY(opt_facts_begin(job));
    CNN_TRY(opt_account_begin(job));
    job->account->epochs = epochs;
    CNN_TRY(opt_measure(job, "as given"));
    if (opt_prunes(settings))
        CNN_TRY(opt_shrink(job, epochs));
    else if (epochs > 0)
        CNN_TRY(opt_finetune(job, epochs));
    CNN_TRY(cnn_qat_end(job->model));
    CNN_TRY(opt_fold(job, &folded));
    CNN_TRY(opt_remove_dead(job));
    if (folded)
        CNN_TRY(opt_measure(job, "fold batch norms"));
    if (settings->int8) {
        CNN_TRY(opt_choose_bits(job));
        opt_describe_bits(job, label, sizeof label);
        CNN_TRY(opt_quantize(job, &rows, &row_count));
        CNN_TRY(opt_measure(job, "%s", label));
    }
    opt_account_end(job, rows, row_count);
    CNN_TRY(opt_save(job));
    CNN_TRY(opt_facts_end(job));
out:
    free(rows);
    return status;
}

cnn_status opt_run(cnn_cli *cli, const opt_settings *settings, opt_account *account)
{
    cnn_status status = CNN_OK;
    opt_job job = {.cli = cli, .settings = settings, .account = account};
    double start = cnn_clock();
    CNN_TRY(opt_load(cli, settings, &job.model));
    CNN_TRY(cnn_cli_check_output(settings->output));
    if (settings->report)
        CNN_TRY(cnn_cli_check_output(settings->report));
    if (cnn_model_is_quantized(job.model))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "%s is already INT8; give the model that cnn-train wrote", settings->input);
    if (settings->keep)
        CNN_TRY(opt_check_keep(&job));
    CNN_TRY(opt_set_bits(&job));
    CNN_TRY(load_data(&job));
    CNN_TRY(set_augmentation(&job));
    CNN_TRY(load_teacher(&job));
    CNN_TRY(opt_squeezes(settings) ? opt_squeeze(&job) : opt_has_goal(settings) ? opt_explore(&job) : run_passes(&job));
    account->seconds = cnn_clock() - start;
out:
    cnn_split_free(&job.split);
    cnn_dataset_free(job.data);
    cnn_model_free(job.given);
    cnn_model_free(job.teacher);
    free(job.answers);
    cnn_model_free(job.model);
    return status;
}
