/* Fine-tuning: training that lets the remaining weights make up for those that pruning took. */
#include "optimize/job.h"

#include "cli/progress.h"
#include "cnn/train.h"

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

cnn_status opt_finetune(opt_job *job, double epochs)
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
    return opt_measure(job, "fine-tune %g epoch%s", epochs, epochs == 1 ? "" : "s");
}
