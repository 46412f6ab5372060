/* Fine-tuning: training that lets the remaining weights make up for those that pruning took. */
#include "optimize/job.h"

#include "cli/progress.h"
#include "core/model.h"
#include "optimize/precision.h"

#include <math.h>
#include <stdio.h>

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

void opt_train_options(opt_job *job, double epochs, cnn_train_options *options)
{
    cnn_finetune_options_init(options, job->model, job->data);
    options->device = job->cli->common.device;
    options->tf32 = job->cli->common.tf32;
    options->autotune = job->cli->common.autotune;
    options->batch = job->settings->batch;
    options->epochs = epochs;
    options->optimizer = (cnn_optimizer)job->settings->optimizer;
    if (job->settings->learning_rate > 0)
        options->learning_rate = (float)job->settings->learning_rate;
    else if (options->optimizer != CNN_OPTIMIZER_SGD)
        options->learning_rate = 0.001f;
    if (job->settings->rate_schedule >= 0)
        options->schedule = (cnn_schedule)job->settings->rate_schedule;
    options->nesterov = job->settings->nesterov;
    options->weight_decay = (float)job->settings->weight_decay;
    options->label_smoothing = (float)job->settings->label_smoothing;
    options->storage = storage_of(job->settings->amp);
    options->all_images = job->settings->all_images;
    options->augment = job->augment;
    options->augmentation = job->augmentation[0] ? job->augmentation : NULL;
    options->adversarial = job->settings->adversarial;
    options->seed = (uint64_t)job->cli->common.seed;
    if (job->settings->distill > 0) {
        options->teacher = job->teacher;
        options->answers = &job->answers;
        options->distill = (float)job->settings->distill;
    }
    if (job->settings->temperature > 0)
        options->temperature = (float)job->settings->temperature;
}

double opt_epochs(const opt_settings *settings, const cnn_model *given, const cnn_dataset *data)
{
    if (settings->finetune >= 0)
        return settings->finetune;
    return opt_prunes(settings) ? cnn_finetune_epochs(given, data) : 0;
}

bool opt_fine_tunes(const opt_settings *settings)
{
    return settings->finetune > 0 || (settings->finetune < 0 && (opt_prunes(settings) || opt_has_goal(settings)));
}

static bool on_grid(const cnn_model *model)
{
    bool found = false;
    for (int i = 0; i < model->node_count; i++)
        found = found || model->nodes[i].param[CNN_PARAM_STEP].data;
    return found;
}

/* With --bits the first training puts the weights on their grid, where later ones go on. The recipe of the smallest
 * files does that in its own time. */
static cnn_status begin_grid(opt_job *job)
{
    const bool wanted = job->settings->bits && !opt_squeezes(job->settings);
    if (!wanted || on_grid(job->model))
        return CNN_OK;
    cnn_status status = opt_choose_bits(job);
    return status == CNN_OK ? cnn_qat_begin(job->model, cnn_levels_of_bits(CNN_MOST_BITS)) : status;
}

cnn_status opt_train(opt_job *job, cnn_train_options *options, const char *label)
{
    finetune_watch watch;
    cnn_status status = begin_grid(job);
    if (status != CNN_OK)
        return status;
    options->progress = show_finetuning;
    options->progress_context = &watch;
    cnn_progress_begin(&watch.progress, job->cli, label, options->epochs * job->split.train_count, "images");
    status = cnn_train(job->model, job->data, options, NULL);
    cnn_progress_end(&watch.progress);
    options->progress = NULL;
    options->progress_context = NULL;
    return status;
}

cnn_status opt_finetune(opt_job *job, double epochs)
{
    cnn_train_options options;
    opt_train_options(job, epochs, &options);
    cnn_status status = opt_train(job, &options, "fine-tune");
    return status == CNN_OK ? opt_measure(job, "fine-tune %g epoch%s", epochs, epochs == 1 ? "" : "s") : status;
}
