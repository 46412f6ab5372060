/* The training loop: epochs of batches in hashed order, validation after each epoch. */
#include "cnn/train.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"
#include "train/order.h"
#include "train/scaler.h"
#include "train/schedule.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

typedef struct trainer {
    cnn_model *model;
    const cnn_dataset *data;
    const cnn_train_options *options;
    cnn_split split;
    cnn_session *session;
    cnn_order_key *keys; /* [split.train_count] */
    int32_t *order;      /* [split.train_count] images of this epoch, first to last */
    int batch;
    cnn_scaler_watch watch;
    cnn_train_state state; /* after the last step */
    cnn_train_progress progress;
    double loss_sum;     /* this epoch: of loss*images ... */
    int64_t loss_images; /* ... over images in steps whose loss was finite */
} trainer;

void cnn_train_options_init(cnn_train_options *options)
{
    *options = (cnn_train_options){
        .device = "auto",
        .batch = 64,
        .epochs = 10.0,
        .learning_rate = 0.01f,
        .momentum = 0.9f,
        .schedule = CNN_SCHEDULE_CONSTANT,
        .warmup = -1.0,
        .lr_step = 3.0,
        .lr_gamma = 0.1f,
        .storage = CNN_F32,
        .seed = 1,
    };
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static cnn_status check_schedule(const cnn_train_options *options)
{
    const double gamma = (double)options->lr_gamma;
    if ((unsigned)options->schedule >= CNN_SCHEDULE_COUNT)
        return cnn_error(CNN_ERR_USAGE, "schedule %d is not known", (int)options->schedule);
    if (isnan(options->warmup) || (options->warmup > 0.0 && options->warmup >= options->epochs))
        return cnn_error(CNN_ERR_USAGE, "a warm-up of %g epochs: it must be shorter than the run of %g",
                         options->warmup, options->epochs);
    if (options->schedule == CNN_SCHEDULE_STEP && !(options->lr_step > 0.0 && isfinite(options->lr_step)))
        return cnn_error(CNN_ERR_USAGE, "a step of %g epochs: a positive number is needed", options->lr_step);
    if (options->schedule == CNN_SCHEDULE_STEP && !(gamma > 0.0 && gamma <= 1.0))
        return cnn_error(CNN_ERR_USAGE, "a step to %g of the learning rate: it must be in (0, 1]", gamma);
    return CNN_OK;
}

static cnn_status check_options(const cnn_train_options *options)
{
    const double rate = (double)options->learning_rate, momentum = (double)options->momentum;
    const double decay = (double)options->weight_decay;
    if (options->batch < 1)
        return cnn_error(CNN_ERR_USAGE, "batch %d: it must be at least 1", options->batch);
    if (!isfinite(options->epochs) || options->epochs <= 0.0)
        return cnn_error(CNN_ERR_USAGE, "epochs %g: a positive number is needed", options->epochs);
    if (!isfinite(rate) || rate <= 0.0)
        return cnn_error(CNN_ERR_USAGE, "learning rate %g: a positive number is needed", rate);
    if (!(momentum >= 0.0 && momentum < 1.0))
        return cnn_error(CNN_ERR_USAGE, "momentum %g: it must be in [0, 1)", momentum);
    if (!isfinite(decay) || decay < 0.0)
        return cnn_error(CNN_ERR_USAGE, "weight decay %g: it must be 0 or more", decay);
    if (options->storage != CNN_F32 && options->storage != CNN_F16 && options->storage != CNN_BF16)
        return cnn_error(CNN_ERR_USAGE, "training stores values in f32, f16 or bf16, not in %s",
                         cnn_dtype_name(options->storage));
    const cnn_status status = check_schedule(options);
    return status == CNN_OK ? cnn_scaler_check(options) : status;
}

static cnn_status check_data(const cnn_model *model, const cnn_dataset *data)
{
    if (cnn_model_is_quantized(model))
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "model %s is INT8 and cannot be trained; train the one that it was made from", model->name);
    cnn_status status = cnn_model_check_data(model, data);
    return status == CNN_OK ? CNN_OK : cnn_error_prefix(status, "model %s", model->name);
}

/* Sets how many images and steps the run has. */
static cnn_status count_steps(trainer *t)
{
    const int32_t epoch_images = t->split.train_count;
    const double wanted = t->options->epochs * (double)epoch_images;
    if (epoch_images < 1)
        return cnn_error(CNN_ERR_SHAPE, "there are no images to train on");
    t->batch = t->options->batch < epoch_images ? t->options->batch : epoch_images;
    const int64_t epoch_steps = (epoch_images + t->batch - 1) / t->batch;
    if (wanted / (double)epoch_images * (double)epoch_steps >= (double)INT32_MAX)
        return cnn_error(CNN_ERR_USAGE, "epochs %g: more than 2^31 steps", t->options->epochs);
    t->progress.images_in_all = wanted < 1.0 ? 1 : (int64_t)llround(wanted);
    const int64_t rest = t->progress.images_in_all % epoch_images;
    t->progress.steps = t->progress.images_in_all / epoch_images * epoch_steps + (rest + t->batch - 1) / t->batch;
    t->progress.epochs = t->options->epochs;
    return CNN_OK;
}

static cnn_status set_schedule(trainer *t)
{
    cnn_status status = CNN_OK;
    const int32_t epoch_updates = (t->split.train_count + t->batch - 1) / t->batch;
    const cnn_schedule_plan plan = cnn_schedule_plan_make(t->options, (int32_t)t->progress.steps, epoch_updates);
    const int32_t length = cnn_schedule_length(&plan);
    float *rates = cnn_calloc((size_t)length, sizeof *rates);
    if (!rates)
        return CNN_ERR_MEMORY;
    cnn_schedule_fill(&plan, rates);
    status = cnn_session_set_schedule(t->session, rates, length);
    free(rates);
    return status;
}

static cnn_status prepare(trainer *t)
{
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_dataset_split(t->data, t->model->split_seed, &t->split));
    CNN_TRY(count_steps(t));
    t->keys = cnn_calloc((size_t)t->split.train_count, sizeof *t->keys);
    t->order = cnn_calloc((size_t)t->split.train_count, sizeof *t->order);
    if (!t->keys || !t->order) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    const cnn_session_options session = {
        .device = t->options->device, .batch = t->batch, .train = true, .storage = t->options->storage};
    CNN_TRY(cnn_session_open(t->model, &session, &t->session));
    CNN_TRY(cnn_session_set_data(t->session, t->data));
    CNN_TRY(set_schedule(t));
    cnn_scaler_start(t->options, &t->state);
    t->watch.scale = t->state.loss_scale;
    t->progress.loss_scale = t->state.loss_scale;
    CNN_TRY(cnn_session_set_state(t->session, &t->state));
    t->progress.device = cnn_session_device(t->session);
    t->progress.train_images = t->split.train_count;
    t->progress.val_images = t->split.validation_count;
out:
    return status;
}

/* Tells the caller how far training is; CNN_ERR_CANCELLED, with the model current, when it asks to stop. */
static cnn_status report(trainer *t)
{
    cnn_status status = CNN_OK;
    if (!t->options->progress || t->options->progress(t->options->progress_context, &t->progress))
        return CNN_OK;
    CNN_TRY(cnn_session_pull(t->session));
    CNN_FAIL(CNN_ERR_CANCELLED, "training was stopped after %" PRId64 " of %" PRId64 " steps", t->progress.step,
             t->progress.steps);
out:
    return status;
}

static cnn_status train_batch(trainer *t, const int32_t *index, int count)
{
    cnn_status status = CNN_OK;
    float result[2]; /* mean loss, correct answers */
    const double start = seconds_now();
    CNN_TRY(cnn_session_step(t->session, index, count, result));
    CNN_TRY(cnn_session_get_state(t->session, &t->state));
    cnn_train_progress *progress = &t->progress;
    progress->seconds += seconds_now() - start;
    progress->step++;
    progress->images += count;
    if (isfinite(result[0])) {
        t->loss_sum += (double)result[0] * count;
        t->loss_images += count;
    }
    progress->loss = t->loss_images ? t->loss_sum / (double)t->loss_images : NAN;
    progress->loss_scale = t->state.loss_scale;
    progress->skipped_steps = t->state.skipped;
    if (!cnn_scaler_goes_on(&t->watch, &t->state, (double)result[0])) {
        const cnn_scaler_batch batch = {.data = t->data, .index = index, .count = count, .loss = (double)result[0]};
        CNN_TRY(cnn_scaler_explain(t->session, t->model, t->options, &t->state, &batch));
    }
    CNN_TRY(report(t));
out:
    return status;
}

/* Accuracy and loss on the held-out images, NaN when there are none; then the caller's turn. */
static cnn_status end_epoch(trainer *t)
{
    cnn_status status = CNN_OK;
    cnn_train_progress *progress = &t->progress;
    progress->val_accuracy = NAN;
    progress->val_loss = NAN;
    if (t->split.validation_count > 0) {
        int64_t correct;
        CNN_TRY(cnn_session_evaluate(t->session, t->data, t->split.validation, t->split.validation_count, &correct,
                                     &progress->val_loss));
        progress->val_accuracy = (double)correct / (double)t->split.validation_count;
    }
    CNN_TRY(cnn_session_pull(t->session));
    progress->epoch_done = true;
    status = report(t);
    progress->epoch_done = false;
out:
    return status;
}

static cnn_status train_epochs(trainer *t)
{
    cnn_status status = CNN_OK;
    CNN_TRY(report(t));
    while (t->progress.images < t->progress.images_in_all) {
        const int64_t left = t->progress.images_in_all - t->progress.images;
        const int32_t images = left < t->split.train_count ? (int32_t)left : t->split.train_count;
        t->progress.epoch++;
        t->loss_sum = 0.0;
        t->loss_images = 0;
        cnn_order_epoch(t->options->seed, t->progress.epoch, t->split.train, t->split.train_count, t->keys, t->order);
        for (int32_t first = 0; first < images; first += t->batch) {
            const int count = images - first < t->batch ? images - first : t->batch;
            CNN_TRY(train_batch(t, t->order + first, count));
        }
        CNN_TRY(end_epoch(t));
    }
out:
    return status;
}

static void write_result(const trainer *t, cnn_train_result *result)
{
    const cnn_train_progress *progress = &t->progress;
    *result = (cnn_train_result){
        .loss = progress->loss,
        .val_accuracy = progress->val_accuracy,
        .epochs = (double)progress->images / (double)t->split.train_count,
        .images_per_s = progress->seconds > 0.0 ? (double)progress->images / progress->seconds : 0.0,
        .images = progress->images,
        .skipped_steps = t->state.skipped,
        .loss_scale_min = t->state.scale_min,
        .loss_scale_max = t->state.scale_max,
    };
    const char *layer = cnn_session_segment_layer(t->session, t->state.first_overflow);
    if (t->state.skipped > 0 && layer)
        snprintf(result->first_overflow, sizeof result->first_overflow, "%s", layer);
}

cnn_status cnn_train(cnn_model *model, const cnn_dataset *data, const cnn_train_options *options,
                     cnn_train_result *result)
{
    cnn_status status = CNN_OK;
    trainer t = {.model = model, .data = data, .options = options};
    t.progress.loss = NAN;
    t.progress.val_accuracy = NAN;
    t.progress.val_loss = NAN;
    CNN_TRY(check_options(options));
    CNN_TRY(check_data(model, data));
    CNN_TRY(prepare(&t));
    CNN_TRY(cnn_model_set_data(model, data));
    CNN_TRY(train_epochs(&t));
out:
    if (result && (status == CNN_OK || status == CNN_ERR_CANCELLED))
        write_result(&t, result);
    cnn_session_close(t.session);
    free(t.order);
    free(t.keys);
    cnn_split_free(&t.split);
    return status;
}
