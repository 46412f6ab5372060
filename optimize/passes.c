/* The passes of cnn-opt in their order: prune, fine-tune, fold batch norms, calibrate and quantize, save. After each
 * one the model is measured on the validation split that it was trained without; the test set is never read. */
#include "optimize/tool.h"

#include "cli/message.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "cnn/train.h"
#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/save.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a run works on. */
typedef struct opt_job {
    cnn_cli *cli;
    const opt_settings *settings;
    cnn_model *model;
    cnn_dataset *data; /* the training images; the split is of these */
    cnn_split split;
    opt_account *account;
} opt_job;

/* ---- Beginning ---- */

static cnn_status load_model(opt_job *job)
{
    const char *path = job->settings->input;
    if (access(path, F_OK) != 0)
        return cnn_error(CNN_ERR_IO, "%s: there is no such file; make one with cnn-train, or name another", path);
    return cnn_model_load(path, &job->model);
}

static cnn_status load_data(opt_job *job)
{
    cnn_status status = CNN_OK;
    const char *name = job->cli->common.data;
    cnn_dataset_id made_with = cnn_model_dataset(job->model);
    if (!name)
        name = made_with == CNN_DATASET_NONE ? NULL : cnn_dataset_name(made_with);
    if (!name)
        CNN_FAIL(CNN_ERR_USAGE, "%s does not say what data it was trained on; name it with --data",
                 job->settings->input);
    CNN_TRY(cnn_cli_load_data(job->cli, name, CNN_SUBSET_TRAIN, &job->data));
    const cnn_dataset *data = job->data;
    cnn_tensor_desc in = cnn_model_input(job->model);
    int32_t classes = cnn_model_output(job->model).c;
    if (data->height != in.h || data->width != in.w || data->channels != in.c || data->classes != classes)
        CNN_FAIL(CNN_ERR_SHAPE,
                 "%s reads images of %dx%dx%d in %d classes, and %s has %dx%dx%d in %d; name the data that the model "
                 "was trained on with --data",
                 job->settings->input, in.h, in.w, in.c, classes, name, data->height, data->width, data->channels,
                 data->classes);
    CNN_TRY(cnn_dataset_split(data, job->model->split_seed, &job->split));
    job->account->val_images = job->split.validation_count;
out:
    return status;
}

/* Finds out before the work whether its result can be written. */
static cnn_status check_output(const char *path)
{
    cnn_save save = {.fd = -1};
    cnn_status status = cnn_save_begin(&save, path);
    if (status == CNN_OK)
        cnn_save_abort(&save);
    return status;
}

/* ---- The account ---- */

static int64_t node_weights(const cnn_node *node)
{
    return cnn_desc_elements(&node->param[CNN_PARAM_WEIGHT].desc) +
           (node->param[CNN_PARAM_BIAS].desc.dtype ? cnn_desc_elements(&node->param[CNN_PARAM_BIAS].desc) : 0);
}

static int64_t node_macs(const cnn_model *model, const cnn_node *node)
{
    return node->type->macs ? node->type->macs(node, &model->nodes[node->input[0]].out) : 0;
}

/* Notes the layers as they are before any pass. */
static cnn_status list_layers(const cnn_model *model, opt_account *account)
{
    account->layers = cnn_calloc((size_t)model->node_count, sizeof *account->layers);
    if (!account->layers)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        if (node->param[CNN_PARAM_WEIGHT].desc.dtype == CNN_NONE)
            continue;
        opt_layer *layer = &account->layers[account->layer_count++];
        snprintf(layer->name, sizeof layer->name, "%s", node->name);
        layer->type = node->type->name;
        layer->channels_before = node->out.c;
        layer->weights_before = node_weights(node);
        layer->macs_before = node_macs(model, node);
    }
    return CNN_OK;
}

/* Completes the layers with what they are at the end. Passes keep the names of layers with weights. */
static void finish_layers(const cnn_model *model, const cnn_quantize_row *rows, int row_count, opt_account *account)
{
    for (int i = 0; i < account->layer_count; i++) {
        opt_layer *layer = &account->layers[i];
        int index = cnn_model_find(model, layer->name);
        if (index < 0)
            continue;
        layer->channels = model->nodes[index].out.c;
        layer->weights = node_weights(&model->nodes[index]);
        layer->macs = node_macs(model, &model->nodes[index]);
        for (int r = 0; r < row_count; r++)
            if (strcmp(rows[r].layer, layer->name) == 0) {
                layer->scale = rows[r].scale;
                layer->clipped = rows[r].clipped;
            }
    }
}

static cnn_status measure(opt_job *job, const char *format, ...) CNN_PRINTF(2, 3);

/* Adds a stage with the model as it is now. */
static cnn_status measure(opt_job *job, const char *format, ...)
{
    opt_stage *stage = &job->account->stages[job->account->stage_count];
    va_list args;
    va_start(args, format);
    vsnprintf(stage->name, sizeof stage->name, format, args);
    va_end(args);
    cnn_status status = cnn_measure(job->model, job->data, job->split.validation, job->split.validation_count,
                                    job->cli->common.device, &stage->figures);
    if (status != CNN_OK)
        return status;
    job->account->stage_count++;
    char bytes[CNN_UNIT_BYTES];
    cnn_message_notice(job->cli, "%s: %.2f %% of the validation images right, %s, %.3g ms per image", stage->name,
                       100 * stage->figures.accuracy, cnn_format_bytes(bytes, stage->figures.file_bytes),
                       stage->figures.ms_per_image);
    return CNN_OK;
}

/* ---- Passes ---- */

static cnn_status prune(opt_job *job)
{
    const opt_settings *settings = job->settings;
    cnn_prune_options options = {.ratio = settings->prune, .global = settings->global, .criterion = CNN_CRITERION_L1};
    cnn_status status = cnn_prune_channels(job->model, &options);
    if (status != CNN_OK)
        return status;
    return measure(job, "prune %g %%", 100 * settings->prune);
}

typedef struct finetune_watch {
    cnn_progress progress;
} finetune_watch;

static bool show_finetuning(void *context, const cnn_train_progress *now)
{
    finetune_watch *watch = context;
    char note[64];
    snprintf(note, sizeof note, "loss %.3f", now->loss);
    cnn_progress_update(&watch->progress, (double)now->images, isfinite(now->loss) ? note : NULL);
    return true;
}

static cnn_dtype storage_of(int amp)
{
    return amp == OPT_AMP_FP16 ? CNN_F16 : amp == OPT_AMP_BF16 ? CNN_BF16 : CNN_F32;
}

static cnn_status finetune(opt_job *job, double epochs)
{
    cnn_status status = CNN_OK;
    finetune_watch watch;
    cnn_train_options options;
    cnn_train_options_init(&options);
    options.device = job->cli->common.device;
    options.batch = job->settings->batch;
    options.epochs = epochs;
    options.learning_rate = (float)job->settings->learning_rate;
    options.schedule = CNN_SCHEDULE_COSINE;
    options.storage = storage_of(job->settings->amp);
    options.seed = (uint64_t)job->cli->common.seed;
    options.progress = show_finetuning;
    options.progress_context = &watch;
    cnn_train_result result;
    cnn_progress_begin(&watch.progress, job->cli, "fine-tune", epochs * job->split.train_count, "images");
    status = cnn_train(job->model, job->data, &options, &result);
    cnn_progress_end(&watch.progress);
    if (status != CNN_OK)
        return status;
    return measure(job, "fine-tune %g epoch%s", epochs, epochs == 1 ? "" : "s");
}

static bool has_batchnorm(const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].type->id == CNN_LAYER_BN)
            return true;
    return false;
}

/* Only INT8 needs the batch norms gone; elsewhere one that cannot be folded stays. */
static cnn_status fold(opt_job *job)
{
    if (!has_batchnorm(job->model))
        return CNN_OK;
    cnn_status status = cnn_fold_batchnorm(job->model);
    if (status == CNN_ERR_UNSUPPORTED && !job->settings->int8) {
        cnn_message_notice(job->cli, "batch norms stay: %s", cnn_last_error());
        return CNN_OK;
    }
    return status == CNN_OK ? measure(job, "fold batch norms") : status;
}

static cnn_status quantize(opt_job *job, cnn_quantize_row **rows, int *row_count)
{
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    if (job->settings->observer >= 0)
        options.observer = (cnn_observer)job->settings->observer;
    if (job->settings->percentile > 0)
        options.percentile = job->settings->percentile;
    options.seed = (uint64_t)job->cli->common.seed;
    options.device = job->cli->common.device;
    cnn_status status = cnn_quantize(job->model, job->data, &options, rows, row_count);
    return status == CNN_OK ? measure(job, "INT8") : status;
}

static cnn_status save(opt_job *job)
{
    size_t bytes;
    cnn_status status = cnn_model_save(job->model, job->settings->output, &bytes);
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
    double epochs = settings->finetune >= 0 ? settings->finetune : settings->prune > 0 ? 1 : 0;
    CNN_TRY(list_layers(job->model, job->account));
    CNN_TRY(measure(job, "as given"));
    if (settings->prune > 0)
        CNN_TRY(prune(job));
    if (epochs > 0)
        CNN_TRY(finetune(job, epochs));
    CNN_TRY(fold(job));
    if (settings->int8)
        CNN_TRY(quantize(job, &rows, &row_count));
    finish_layers(job->model, rows, row_count, job->account);
    CNN_TRY(save(job));
out:
    free(rows);
    return status;
}

cnn_status opt_run(cnn_cli *cli, const opt_settings *settings, opt_account *account)
{
    cnn_status status = CNN_OK;
    opt_job job = {.cli = cli, .settings = settings, .account = account};
    double start = cnn_clock();
    CNN_TRY(load_model(&job));
    CNN_TRY(check_output(settings->output));
    if (cnn_model_is_quantized(job.model))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "%s is already INT8; give the model that cnn-train wrote", settings->input);
    CNN_TRY(load_data(&job));
    CNN_TRY(run_passes(&job));
    account->seconds = cnn_clock() - start;
out:
    cnn_split_free(&job.split);
    cnn_dataset_free(job.data);
    cnn_model_free(job.model);
    return status;
}

void opt_account_free(opt_account *account)
{
    free(account->layers);
    account->layers = NULL;
}
