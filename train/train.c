/* The training loop: epochs of batches in hashed order, validation after each epoch. */
#include "cnn/train.h"

#include "core/dataset.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"
#include "core/session.h"
#include "train/adversarial.h"
#include "train/augment.h"
#include "train/check.h"
#include "train/order.h"
#include "train/resume.h"
#include "train/scaler.h"
#include "train/schedule.h"
#include "train/teacher.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A step under way: its images. */
typedef struct step_batch {
    const int32_t *index;
    int count;
} step_batch;

typedef struct trainer {
    cnn_model *model;
    const cnn_dataset *data;
    const cnn_train_options *options;
    cnn_split split;
    cnn_session *session;
    cnn_augment_recipe recipe; /* with augmentation ... */
    cnn_augment_params *draws; /* ... [run.batch] how the images of the next step are changed */
    char augmentation[256];
    cnn_adversary adversary; /* with adversarial training */
    cnn_teacher teacher;     /* with distillation */
    cnn_order_key *keys;     /* [split.train_count] */
    int32_t *order;          /* [split.train_count] images of this epoch, first to last */
    cnn_run_length run;
    float *rates; /* [rate_count] learning rate by update; the last serves all updates after it */
    int32_t rate_count;
    cnn_keeper keeper;
    cnn_train_point at; /* where the run is, as far as steps were reported; the loop remembers nothing else ... */
    int edits;          /* ... but in a run that the caller edits, how often he was called */
    step_batch queue[CNN_MARKS]; /* steps that the device was given and has not reported, the oldest first */
    int queued;
    cnn_train_progress progress;
} trainer;

void cnn_train_options_init(cnn_train_options *options)
{
    *options = (cnn_train_options){
        .device = "auto",
        .batch = 64,
        .epochs = 10.0,
        .learning_rate = 0.01f,
        .momentum = 0.9f,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .eps = 1e-8,
        .distill = 0.5f,
        .temperature = 4.0f,
        .schedule = CNN_SCHEDULE_CONSTANT,
        .warmup = -1.0,
        .lr_step = 3.0,
        .lr_gamma = 0.1f,
        .adversarial_steps = 3,
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
    t->run.batch = t->options->batch < epoch_images ? t->options->batch : epoch_images;
    t->run.epoch_images = epoch_images;
    if (wanted / (double)epoch_images * (double)cnn_run_batches(&t->run, epoch_images) >= (double)INT32_MAX)
        return cnn_error(CNN_ERR_USAGE, "epochs %g: more than 2^31 steps", t->options->epochs);
    t->run.images = wanted < 1.0 ? 1 : (int64_t)llround(wanted);
    t->progress.images_in_all = t->run.images;
    t->progress.steps = cnn_run_steps(&t->run, cnn_run_epochs(&t->run));
    t->progress.epochs = t->options->epochs;
    return CNN_OK;
}

static cnn_status set_schedule(trainer *t)
{
    const int32_t epoch_updates = (int32_t)cnn_run_batches(&t->run, t->run.epoch_images);
    const cnn_schedule_plan plan = cnn_schedule_plan_make(t->options, (int32_t)t->progress.steps, epoch_updates);
    t->rate_count = cnn_schedule_length(&plan);
    t->rates = cnn_calloc((size_t)t->rate_count, sizeof *t->rates);
    if (!t->rates)
        return CNN_ERR_MEMORY;
    cnn_schedule_fill(&plan, t->rates);
    return cnn_session_set_schedule(t->session, t->rates, t->rate_count);
}

static bool augments(const trainer *t)
{
    return t->options->augment > 0.0;
}

static cnn_status set_augmentation(trainer *t)
{
    cnn_status status = CNN_OK;
    if (!augments(t))
        return CNN_OK;
    CNN_TRY(cnn_augment_parse(t->options->augmentation, t->options->augment, t->data, &t->recipe));
    t->draws = cnn_calloc((size_t)t->run.batch, sizeof *t->draws);
    if (!t->draws)
        return CNN_ERR_MEMORY;
    cnn_augment_print(&t->recipe, t->augmentation, sizeof t->augmentation);
    t->progress.augmentation = t->augmentation;
out:
    return status;
}

static cnn_status prepare(trainer *t)
{
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_dataset_split(t->data, t->model->split_seed, &t->split));
    if (t->options->all_images)
        CNN_TRY(cnn_split_train_on_all(&t->split));
    CNN_TRY(count_steps(t));
    t->keys = cnn_calloc((size_t)t->split.train_count, sizeof *t->keys);
    t->order = cnn_calloc((size_t)t->split.train_count, sizeof *t->order);
    if (!t->keys || !t->order) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(set_augmentation(t));
    const cnn_session_options session = {.device = t->options->device,
                                         .batch = t->run.batch,
                                         .train = true,
                                         .storage = t->options->storage,
                                         .tf32 = t->options->tf32,
                                         .autotune = t->options->autotune,
                                         .step = {.optimizer = t->options->optimizer,
                                                  .label_smoothing = t->options->label_smoothing,
                                                  .distill = t->options->teacher ? t->options->distill : 0.0f,
                                                  .temperature = t->options->temperature,
                                                  .augment = augments(t),
                                                  .mirror = t->recipe.mirror,
                                                  .dropout = true,
                                                  .seed = t->options->seed,
                                                  .ema = t->options->ema_decay > 0.0}};
    CNN_TRY(cnn_session_open(t->model, &session, &t->session));
    if (t->options->adversarial > 0.0)
        CNN_TRY(cnn_adversary_begin(&t->adversary, t->session, t->data, t->options, t->run.batch));
    CNN_TRY(cnn_session_set_data(t->session, t->options->adversarial > 0.0 ? &t->adversary.changed : t->data));
    if (t->options->teacher)
        CNN_TRY(cnn_teacher_begin(&t->teacher, t->session, t->data, t->options, augments(t) ? &t->recipe : NULL,
                                  t->run.batch));
    CNN_TRY(set_schedule(t));
    t->at = (cnn_train_point){.val_accuracy = NAN, .val_loss = NAN};
    cnn_scaler_start(t->options, &t->at.state);
    t->at.watch.scale = t->at.state.loss_scale;
    CNN_TRY(cnn_session_set_state(t->session, &t->at.state));
    t->progress.device = cnn_session_device(t->session);
    t->progress.train_images = t->split.train_count;
    t->progress.val_images = t->split.validation_count;
out:
    return status;
}

/* Brings the counters that the caller sees up to where the run is. */
static void show_point(trainer *t)
{
    const cnn_train_point *at = &t->at;
    cnn_train_progress *progress = &t->progress;
    progress->whole_epochs = at->epochs;
    progress->step = at->step;
    progress->images = cnn_run_images_at(&t->run, at->epochs, at->step);
    progress->seconds = at->seconds;
    progress->loss = at->loss_images ? at->loss_sum / (double)at->loss_images : NAN;
    const int32_t last = at->state.step > 0 ? at->state.step - 1 : 0; /* update */
    progress->learning_rate = t->rates[last < t->rate_count ? last : t->rate_count - 1];
    progress->loss_scale = at->state.loss_scale;
    progress->skipped_steps = at->state.skipped;
    progress->val_accuracy = at->val_accuracy;
    progress->val_loss = at->val_loss;
}

/* Takes in what the oldest step under way reports, which waits for it. */
static cnn_status collect(trainer *t)
{
    cnn_status status = CNN_OK;
    cnn_train_point *at = &t->at;
    cnn_step_report result;
    const double start = seconds_now();
    cnn_scaler_batch batch = {.data = t->data, .index = t->queue[0].index, .count = t->queue[0].count};
    CNN_TRY(cnn_session_report(t->session, &result));
    t->queued--;
    memmove(t->queue, t->queue + 1, (size_t)t->queued * sizeof *t->queue);
    at->seconds += seconds_now() - start;
    at->step++;
    at->state = result.state;
    batch.loss = (double)result.loss;
    if (isfinite(result.loss)) {
        at->loss_sum += batch.loss * batch.count;
        at->loss_images += batch.count;
    }
    t->progress.step_loss = batch.loss;
    if (!cnn_scaler_goes_on(&at->watch, &at->state, batch.loss)) {
        CNN_TRY(cnn_scaler_explain(t->session, t->model, t->options, &at->state, &batch));
    }
out:
    return status;
}

/* Tells the caller how far training is. When it asks to stop: CNN_ERR_CANCELLED, with a checkpoint of now and the
 * model current. */
static cnn_status report(trainer *t)
{
    cnn_status status = CNN_OK;
    show_point(t);
    if (!t->options->progress || t->options->progress(t->options->progress_context, &t->progress))
        return CNN_OK;
    while (t->queued > 0)
        CNN_TRY(collect(t));
    show_point(t);
    if (!t->progress.begin)
        CNN_TRY(cnn_keeper_write(&t->keeper, &t->at));
    CNN_TRY(cnn_session_pull(t->session));
    CNN_FAIL(CNN_ERR_CANCELLED, "training was stopped after %" PRId64 " of %" PRId64 " steps", t->progress.step,
             t->progress.steps);
out:
    return status;
}

/* Until nothing is under way: `at` is then what the device holds. */
static cnn_status catch_up(trainer *t)
{
    cnn_status status = CNN_OK;
    while (t->queued > 0) {
        CNN_TRY(collect(t));
        CNN_TRY(report(t));
    }
out:
    return status;
}

/* Lets the caller change the model in front of a step for which an edit is due. */
static cnn_status edit_model(trainer *t)
{
    cnn_status status = CNN_OK;
    const cnn_train_options *options = t->options;
    const int before = t->edits;
    while (options->edit && t->edits < options->edits &&
           (double)t->edits * options->edit_span * (double)t->progress.steps / options->edits <=
               (double)(t->at.step + t->queued))
        t->edits++;
    if (t->edits == before)
        return CNN_OK;
    CNN_TRY(catch_up(t));
    CNN_TRY(cnn_session_pull(t->session));
    CNN_TRY(options->edit(options->edit_context, t->model, t->edits - 1));
    CNN_TRY(cnn_session_push(t->session));
out:
    return status;
}

/* Gives the device the next batch and takes in what an earlier one reports, if the device is far enough behind. */
static cnn_status train_batch(trainer *t, const int32_t *index, int count)
{
    cnn_status status = CNN_OK;
    const double start = seconds_now();
    if (augments(t)) {
        cnn_augment_draw_batch(&t->recipe, t->options->seed, t->progress.epoch, t->data, index, count, t->draws);
        CNN_TRY(cnn_session_augment(t->session, t->draws, count));
    }
    if (t->options->teacher)
        CNN_TRY(cnn_teacher_answer(&t->teacher, t->draws, index, count));
    if (t->options->adversarial > 0.0)
        CNN_TRY(cnn_adversary_change(&t->adversary, t->progress.epoch, index, count));
    CNN_TRY(cnn_session_submit(t->session, count));
    t->queue[t->queued++] = (step_batch){index, count};
    t->at.seconds += seconds_now() - start;
    if (t->queued == cnn_session_depth(t->session)) {
        CNN_TRY(collect(t));
        CNN_TRY(report(t));
    }
out:
    return status;
}

/* Accuracy and loss on the held-out images, NaN when there are none; then the caller's turn, who saves the model, and
 * last the checkpoint, so that it is never newer than what the caller keeps. */
static cnn_status end_epoch(trainer *t)
{
    cnn_status status = CNN_OK;
    cnn_train_point *at = &t->at;
    at->val_accuracy = NAN;
    at->val_loss = NAN;
    if (t->split.validation_count > 0) {
        int64_t correct;
        CNN_TRY(cnn_session_evaluate(t->session, t->data, t->split.validation, t->split.validation_count, &correct,
                                     &at->val_loss));
        at->val_accuracy = (double)correct / (double)t->split.validation_count;
    }
    CNN_TRY(cnn_session_pull(t->session));
    at->epochs++;
    t->progress.epoch_done = true;
    CNN_TRY(report(t));
    CNN_TRY(cnn_keeper_write(&t->keeper, at));
out:
    t->progress.epoch_done = false;
    return status;
}

/* Trains the epoch that the run is in from where it is. */
static cnn_status train_epoch(trainer *t)
{
    cnn_status status = CNN_OK;
    cnn_train_point *at = &t->at;
    const int64_t before = cnn_run_images(&t->run, at->epochs), every = t->options->checkpoint_every;
    const int32_t images = (int32_t)(cnn_run_images(&t->run, (int64_t)at->epochs + 1) - before);
    int32_t first = (int32_t)(cnn_run_images_at(&t->run, at->epochs, at->step) - before);
    t->progress.epoch = at->epochs + 1;
    if (first == 0) {
        at->loss_sum = 0.0;
        at->loss_images = 0;
    }
    cnn_order_epoch(t->options->seed, t->progress.epoch, t->split.train, t->split.train_count, t->keys, t->order);
    CNN_TRY(cnn_session_set_order(t->session, t->order, images, first));
    CNN_TRY(cnn_session_set_epoch(t->session, t->progress.epoch));
    while (first < images) {
        const int count = images - first < t->run.batch ? images - first : t->run.batch;
        CNN_TRY(edit_model(t));
        CNN_TRY(train_batch(t, t->order + first, count));
        first += count;
        if (every > 0 && (at->step + t->queued) % every == 0 && first < images) {
            CNN_TRY(catch_up(t));
            CNN_TRY(cnn_keeper_write(&t->keeper, at));
        }
    }
    CNN_TRY(catch_up(t));
    CNN_TRY(end_epoch(t));
out:
    return status;
}

static cnn_status train_epochs(trainer *t)
{
    cnn_status status = CNN_OK;
    t->progress.step_loss = NAN;
    if (t->options->resume)
        CNN_TRY(cnn_keeper_resume(&t->keeper, &t->run, &t->at, &t->progress.resumed));
    t->progress.epoch = t->at.epochs + (t->at.step > cnn_run_steps(&t->run, t->at.epochs));
    t->progress.begin = true;
    CNN_TRY(report(t));
    t->progress.begin = false;
    while (t->at.epochs < cnn_run_epochs(&t->run))
        CNN_TRY(train_epoch(t));
out:
    return status;
}

static void write_result(const trainer *t, cnn_train_result *result)
{
    const cnn_train_progress *progress = &t->progress;
    const cnn_train_state *state = &t->at.state;
    *result = (cnn_train_result){
        .loss = progress->loss,
        .val_accuracy = progress->val_accuracy,
        .epochs = (double)progress->images / (double)t->split.train_count,
        .images_per_s = progress->seconds > 0.0 ? (double)progress->images / progress->seconds : 0.0,
        .images = progress->images,
        .skipped_steps = state->skipped,
        .loss_scale_min = state->scale_min,
        .loss_scale_max = state->scale_max,
    };
    const char *layer = cnn_session_segment_layer(t->session, state->first_overflow);
    if (state->skipped > 0 && layer)
        snprintf(result->first_overflow, sizeof result->first_overflow, "%s", layer);
}

/* For who trains the model further. Kinds that were not named stay what suits the data. */
static void note_augmentation(const trainer *t)
{
    t->model->augment = t->options->augment;
    snprintf(t->model->augmentation, sizeof t->model->augmentation, "%s",
             augments(t) && t->options->augmentation ? t->augmentation : "");
}

cnn_status cnn_train(cnn_model *model, const cnn_dataset *data, const cnn_train_options *options,
                     cnn_train_result *result)
{
    cnn_status status = CNN_OK;
    trainer t = {.model = model, .data = data, .options = options};
    CNN_TRY(cnn_train_check_options(options));
    CNN_TRY(check_data(model, data));
    CNN_TRY(cnn_teacher_check(data, options));
    CNN_TRY(cnn_model_freeze(model, options->freeze));
    CNN_TRY(prepare(&t));
    CNN_TRY(cnn_model_set_data(model, data));
    note_augmentation(&t);
    CNN_TRY(cnn_keeper_begin(&t.keeper, t.session, model, data, options));
    CNN_TRY(train_epochs(&t));
out:
    if (result && (status == CNN_OK || status == CNN_ERR_CANCELLED))
        write_result(&t, result);
    cnn_session_close(t.session);
    cnn_adversary_free(&t.adversary);
    cnn_teacher_free(&t.teacher);
    cnn_model_thaw(model);
    free(t.draws);
    free(t.rates);
    free(t.order);
    free(t.keys);
    cnn_split_free(&t.split);
    return status;
}
