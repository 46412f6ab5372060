/* What cnn-train prints: the start, each epoch, the end, and the loss scaler's account. */
#include "cli/json.h"
#include "cli/message.h"
#include "cli/units.h"
#include "core/optimizers.h"
#include "train/schedule.h"
#include "train/tool.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A line for standard output; with --json it goes to standard error. The bar is cleared first. */
CNN_PRINTF(2, 3)
static void print_result(cnn_cli *cli, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (cli->common.json) {
        cnn_message_notice(cli, "%s", text);
        return;
    }
    if (cli->bar)
        fputs("\r\033[K", stderr);
    cli->bar = false;
    printf("%s\n", text);
    fflush(stdout);
}

static const char *storage_name(cnn_dtype storage)
{
    return storage == CNN_F16 ? "FP16 mixed precision" : storage == CNN_BF16 ? "BF16 mixed precision" : "FP32";
}

/* The steps and how they move the weights. */
static void print_recipe(train_run *run, const cnn_train_progress *progress)
{
    const cnn_train_options *options = &run->options;
    char own[96];
    if (options->optimizer == CNN_OPTIMIZER_SGD)
        snprintf(own, sizeof own, "momentum %g%s", (double)options->momentum, options->nesterov ? " (Nesterov)" : "");
    else
        snprintf(own, sizeof own, "betas %g and %g", options->beta1, options->beta2);
    cnn_message_detail(run->cli, "%lld steps of %d images; %s: learning rate %g, %s, weight decay %g, %s schedule",
                       (long long)progress->steps, options->batch, cnn_optimizer_names[options->optimizer],
                       (double)options->learning_rate, own, (double)options->weight_decay,
                       cnn_schedule_names[options->schedule]);
    if (options->clip_norm > 0.0f)
        cnn_message_detail(run->cli, "gradients are clipped at norm %g", (double)options->clip_norm);
    if (options->label_smoothing > 0.0f)
        cnn_message_detail(run->cli, "label smoothing %g: the loss of training is that of smoothed labels",
                           (double)options->label_smoothing);
    if (options->adversarial > 0.0)
        cnn_message_detail(run->cli, "each step learns from images changed by up to %g, in %d steps",
                           options->adversarial, options->adversarial_steps);
    if (options->ema_decay > 0.0)
        cnn_message_detail(run->cli, "validated and saved are weights averaged with decay %g", options->ema_decay);
}

void train_report_start(train_run *run, const cnn_train_progress *progress)
{
    char train[CNN_UNIT_BYTES], held_out[CNN_UNIT_BYTES], weights[CNN_UNIT_BYTES];
    cnn_message_notice(run->cli, "%s: %s weights; %s: %s images to train on, %s held out; %s; %s",
                       train_network(run->set), cnn_format_count(weights, cnn_model_weight_count(run->model)),
                       run->cli->common.data ? run->cli->common.data : cnn_dataset_name(run->data->id),
                       cnn_format_count(train, progress->train_images),
                       cnn_format_count(held_out, progress->val_images), storage_name(run->storage), progress->device);
    print_recipe(run, progress);
    if (progress->augmentation)
        cnn_message_detail(run->cli, "augmentation of %g %% of the images: %s", 100 * run->set->augment,
                           progress->augmentation);
    if (progress->resumed)
        cnn_message_notice(run->cli, "going on from %s after step %lld of %lld, %d of %g epochs", run->checkpoint,
                           (long long)progress->step, (long long)progress->steps, progress->whole_epochs,
                           progress->epochs);
    else if (run->set->resume)
        cnn_message_notice(run->cli, "there is no checkpoint %s: starting from the beginning", run->checkpoint);
    if (run->storage == CNN_F16 && strstr(progress->device, " amx,"))
        cnn_message_notice(
            run->cli,
            "this CPU multiplies bf16 in tiles (AMX): layers of 16 channels and more train faster with --amp=bf16");
    run->images = progress->images;
    run->seconds = progress->seconds;
    cnn_progress_begin(&run->bar, run->cli, "epoch 1", (double)progress->images_in_all, "images");
    cnn_progress_skip(&run->bar, (double)progress->images);
}

void train_report_epoch(train_run *run, const cnn_train_progress *progress)
{
    char accuracy[64] = "no images held out", scale[64] = "";
    const double seconds = progress->seconds - run->seconds;
    const double rate = seconds > 0 ? (double)(progress->images - run->images) / seconds : 0;
    if (progress->val_images > 0)
        snprintf(accuracy, sizeof accuracy, "validation accuracy %.2f %%", 100 * progress->val_accuracy);
    if (run->storage == CNN_F16)
        snprintf(scale, sizeof scale, ", loss scale %.8g", (double)progress->loss_scale);
    run->images = progress->images;
    run->seconds = progress->seconds;
    if (!run->cli->common.quiet)
        print_result(run->cli, "epoch %d of %g: loss %.4f, %s, %.0f images/s%s", progress->epoch, progress->epochs,
                     progress->loss, accuracy, rate, scale);
}

/* The scaler's account, one sentence. */
static void print_scaler(train_run *run, const cnn_train_result *result)
{
    const double low = (double)result->loss_scale_min, high = (double)result->loss_scale_max;
    const long long steps = (long long)run->at.step;
    if (run->storage != CNN_F16 || run->cli->common.quiet)
        return;
    if (result->skipped_steps == 0)
        print_result(run->cli, "loss scale: none of %lld steps was skipped; lowest %.8g, highest %.8g", steps, low,
                     high);
    else if (run->set->loss_scale > TRAIN_SCALE_DYNAMIC)
        print_result(
            run->cli,
            "loss scale: fixed at %.8g it was too high: %d of %lld steps overflowed and were skipped, first in "
            "layer %s; use a lower one or --loss-scale dynamic",
            low, result->skipped_steps, steps, result->first_overflow);
    else
        print_result(
            run->cli,
            "loss scale: it was too high and backed off: %d of %lld steps overflowed and were skipped, first in "
            "layer %s; lowest %.8g, highest %.8g",
            result->skipped_steps, steps, result->first_overflow, low, high);
}

static void print_json(const train_run *run, const cnn_train_result *result, const cnn_dataset *test, int64_t correct)
{
    cnn_json json;
    cnn_json_begin(&json, stdout);
    cnn_json_number(&json, "test_accuracy", (double)correct / (double)test->count);
    cnn_json_number(&json, "val_accuracy", result->val_accuracy);
    cnn_json_number(&json, "loss", result->loss);
    cnn_json_number(&json, "epochs", result->epochs);
    cnn_json_integer(&json, "images", result->images);
    cnn_json_number(&json, "images_per_s", result->images_per_s);
    cnn_json_integer(&json, "skipped_steps", result->skipped_steps);
    cnn_json_number(&json, "loss_scale_min", (double)result->loss_scale_min);
    cnn_json_number(&json, "loss_scale_max", (double)result->loss_scale_max);
    cnn_json_string(&json, "first_overflow", result->first_overflow[0] ? result->first_overflow : NULL);
    cnn_json_string(&json, "file", run->set->output);
    cnn_json_integer(&json, "file_bytes", (int64_t)run->file_bytes);
    cnn_json_end(&json);
}

void train_report_end(train_run *run, const cnn_train_result *result, const cnn_dataset *test, int64_t correct)
{
    char right[CNN_UNIT_BYTES], all[CNN_UNIT_BYTES], bytes[CNN_UNIT_BYTES];
    print_scaler(run, result);
    print_result(run->cli, "test accuracy %.2f %% (%s of %s)", 100 * (double)correct / (double)test->count,
                 cnn_format_count(right, correct), cnn_format_count(all, test->count));
    cnn_message_notice(run->cli, "saved %s, %s", run->set->output, cnn_format_bytes(bytes, (int64_t)run->file_bytes));
    if (run->cli->common.json)
        print_json(run, result, test, correct);
}
