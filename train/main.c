/* cnn-train: trains a network and saves it after every epoch. */
#include "cnn/train.h"

#include "cli/cli.h"
#include "cli/json.h"
#include "cli/message.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "cnn/session.h"
#include "core/error.h"
#include "core/save.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* Values of --amp and what they are stored as. */
static const char *const amp_types[] = {"fp16", "bf16", NULL};
static const cnn_dtype amp_storage[] = {CNN_F16, CNN_BF16};
enum { AMP_FP16 = 0, AMP_OFF = -1 };

static const char *const schedules[] = {"constant", "cosine", NULL}; /* as cnn_schedule */

enum { SCALE_DYNAMIC = 0, NOT_GIVEN = -1 };

typedef struct settings {
    const char *model, *output;
    int amp; /* in amp_types, or AMP_OFF */
    int batch, schedule;
    double epochs, rate, momentum, decay;
    double loss_scale;       /* fixed; or SCALE_DYNAMIC, NOT_GIVEN */
    double loss_scale_start; /* or NOT_GIVEN */
} settings;

static const cnn_option options[] = {
    {.group = "Model",
     .letter = 'm',
     .name = "model",
     .argument = "NAME|FILE.cfg",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(settings, model),
     .help = "convnet, lenet5, lenet5-caffe, lenet300, or the path of a description",
     .standard = "convnet"},
    {.letter = 'o',
     .name = "output",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(settings, output),
     .help = "where the trained model goes; rewritten after every epoch",
     .standard = "model.cnn"},
    {.group = "Training",
     .name = "epochs",
     .argument = "N",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1e6,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(settings, epochs),
     .help = "passes over the training images; fractions are allowed",
     .standard = "10"},
    {.letter = 'b',
     .name = "batch",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = 65536,
     .offset = offsetof(settings, batch),
     .help = "images in one step",
     .standard = "64"},
    {.name = "lr",
     .argument = "R",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1e6,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(settings, rate),
     .help = "learning rate",
     .standard = "0.01"},
    {.name = "momentum",
     .argument = "M",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MAX,
     .offset = offsetof(settings, momentum),
     .help = "share of the last update that the next one keeps",
     .standard = "0.9"},
    {.name = "weight-decay",
     .argument = "D",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1e6,
     .offset = offsetof(settings, decay),
     .help = "pull of all weights towards 0",
     .standard = "0"},
    {.name = "schedule",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = schedules,
     .offset = offsetof(settings, schedule),
     .help = "learning rate over time: constant, or cosine (falls to 0 over the run)",
     .standard = "constant"},
    {.group = "Mixed precision",
     .name = "amp",
     .argument = "TYPE",
     .kind = CNN_OPTION_CHOICE,
     .choices = amp_types,
     .bare = "fp16",
     .offset = offsetof(settings, amp),
     .help =
         "store activations, their gradients and working weights in 16 bits: fp16 (with loss scaling) or bf16; sums "
         "and master weights stay in FP32",
     .standard = "off: FP32; --amp alone: fp16"},
    {.name = "loss-scale",
     .argument = "dynamic|N",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = (double)FLT_MAX,
     .open = CNN_OPEN_MIN,
     .word = "dynamic",
     .word_value = SCALE_DYNAMIC,
     .offset = offsetof(settings, loss_scale),
     .help =
         "with --amp=fp16: factor that keeps small gradients above 0 in FP16; dynamic halves it when a step overflows "
         "and doubles it after 2000 clean steps, a number stays fixed",
     .standard = "dynamic"},
    {.name = "loss-scale-start",
     .argument = "N",
     .kind = CNN_OPTION_DOUBLE,
     .min = 1,
     .max = 16777216,
     .offset = offsetof(settings, loss_scale_start),
     .help = "where the dynamic loss scale starts",
     .standard = "65536"},
    {.name = NULL}};

static const char *const usage[] = {"[OPTION]...", NULL};

static const cnn_example examples[] = {
    {"cnn-train --amp", "train convnet on MNIST for 10 epochs with FP16 mixed precision, save model.cnn"},
    {"cnn-train --model lenet5 --epochs 3 -o lenet5.cnn", "train LeNet-5 in FP32"},
    {"cnn-train --data fashion-mnist --schedule cosine --epochs 5", "other data, and a learning rate that falls"},
    {NULL, NULL}};

static const cnn_tool tool = {
    .name = "cnn-train",
    .usage = usage,
    .summary = "Train a convolutional network and save it as a .cnn file.",
    .description =
        "Some training images are held out: validation accuracy after each epoch is measured on them. At the "
        "end the saved model is tested on the data's own test set.",
    .options = options,
    .examples = examples,
};

/* What the progress callback works with. */
typedef struct run_state {
    cnn_cli *cli;
    const settings *set;
    cnn_model *model;
    const cnn_dataset *data;
    cnn_dtype storage;
    cnn_progress bar;
    int64_t images; /* counters when this epoch began */
    double seconds;
    int64_t steps;        /* done */
    size_t file_bytes;    /* of the model saved last; 0: none yet */
    cnn_status saved;     /* of the last save ... */
    char save_error[512]; /* ... and its sentence */
} run_state;

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

static void print_start(run_state *run, const cnn_train_progress *progress)
{
    char train[CNN_UNIT_BYTES], held_out[CNN_UNIT_BYTES], weights[CNN_UNIT_BYTES];
    cnn_message_notice(run->cli, "%s: %s weights; %s: %s images to train on, %s held out; %s; %s", run->set->model,
                       cnn_format_count(weights, cnn_model_weight_count(run->model)), cnn_dataset_name(run->data->id),
                       cnn_format_count(train, progress->train_images),
                       cnn_format_count(held_out, progress->val_images), storage_name(run->storage), progress->device);
    cnn_message_detail(run->cli, "%lld steps of %d images, learning rate %g, momentum %g, weight decay %g, %s schedule",
                       (long long)progress->steps, run->set->batch, run->set->rate, run->set->momentum, run->set->decay,
                       schedules[run->set->schedule]);
    cnn_progress_begin(&run->bar, run->cli, "epoch 1", (double)progress->images_in_all, "images");
}

static void print_epoch(run_state *run, const cnn_train_progress *progress)
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

static bool save(run_state *run)
{
    run->saved = cnn_model_save(run->model, run->set->output, &run->file_bytes);
    if (run->saved != CNN_OK)
        snprintf(run->save_error, sizeof run->save_error, "%s", cnn_last_error());
    return run->saved == CNN_OK;
}

static bool show_progress(void *context, const cnn_train_progress *progress)
{
    run_state *run = context;
    char text[64];
    run->steps = progress->step;
    if (progress->epoch_done) {
        print_epoch(run, progress);
        return save(run);
    }
    if (progress->step == 0) {
        print_start(run, progress);
        return true;
    }
    snprintf(text, sizeof text, "epoch %d", progress->epoch);
    cnn_progress_label(&run->bar, text);
    snprintf(text, sizeof text, "loss %.4f", progress->loss);
    cnn_progress_update(&run->bar, (double)progress->images, text);
    return true;
}

/* Options that contradict each other. */
static cnn_status check_settings(const settings *set)
{
    const bool scale_given = set->loss_scale != NOT_GIVEN, start_given = set->loss_scale_start != NOT_GIVEN;
    if ((scale_given || start_given) && set->amp != AMP_FP16)
        return cnn_error(CNN_ERR_USAGE, "--loss-scale%s is for --amp=fp16; %s", scale_given ? "" : "-start",
                         set->amp == AMP_OFF ? "FP32 training needs none" : "bf16 needs none");
    if (start_given && scale_given && set->loss_scale != SCALE_DYNAMIC)
        return cnn_error(CNN_ERR_USAGE, "--loss-scale %.8g stays fixed, so --loss-scale-start has no meaning",
                         set->loss_scale);
    return CNN_OK;
}

/* Shows before training starts that the result can be written. */
static cnn_status check_output(const char *path)
{
    cnn_save probe = {0};
    cnn_status status = cnn_save_begin(&probe, path);
    cnn_save_abort(&probe);
    return status;
}

static void make_options(run_state *run, cnn_train_options *train)
{
    const settings *set = run->set;
    cnn_train_options_init(train);
    train->device = run->cli->common.device;
    train->batch = set->batch;
    train->epochs = set->epochs;
    train->learning_rate = (float)set->rate;
    train->momentum = (float)set->momentum;
    train->weight_decay = (float)set->decay;
    train->schedule = (cnn_schedule)set->schedule;
    train->storage = run->storage;
    train->static_loss_scale = set->loss_scale > SCALE_DYNAMIC;
    if (train->static_loss_scale)
        train->loss_scale = (float)set->loss_scale;
    else if (set->loss_scale_start != NOT_GIVEN)
        train->loss_scale = (float)set->loss_scale_start;
    train->seed = (uint64_t)run->cli->common.seed;
    train->progress = show_progress;
    train->progress_context = run;
}

/* Accuracy of the file just written, so that anyone who reads it gets the same. */
static cnn_status test_saved(run_state *run, const cnn_dataset *test, int64_t *correct)
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

/* The scaler's account, one sentence. */
static void print_scaler(run_state *run, const cnn_train_result *result)
{
    const double low = (double)result->loss_scale_min, high = (double)result->loss_scale_max;
    const long long steps = (long long)run->steps;
    if (run->storage != CNN_F16 || run->cli->common.quiet)
        return;
    if (result->skipped_steps == 0)
        print_result(run->cli, "loss scale: none of %lld steps was skipped; lowest %.8g, highest %.8g", steps, low,
                     high);
    else if (run->set->loss_scale > SCALE_DYNAMIC)
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

static void print_json(const run_state *run, const cnn_train_result *result, const cnn_dataset *test, int64_t correct)
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

static void print_end(run_state *run, const cnn_train_result *result, const cnn_dataset *test, int64_t correct)
{
    char right[CNN_UNIT_BYTES], all[CNN_UNIT_BYTES], bytes[CNN_UNIT_BYTES];
    print_scaler(run, result);
    print_result(run->cli, "test accuracy %.2f %% (%s of %s)", 100 * (double)correct / (double)test->count,
                 cnn_format_count(right, correct), cnn_format_count(all, test->count));
    cnn_message_notice(run->cli, "saved %s, %s", run->set->output, cnn_format_bytes(bytes, (int64_t)run->file_bytes));
    if (run->cli->common.json)
        print_json(run, result, test, correct);
}

/* Trains, with the sentence of a failed save instead of "training was stopped". */
static cnn_status train(run_state *run, cnn_train_result *result)
{
    cnn_train_options train_options;
    make_options(run, &train_options);
    cnn_status status = cnn_train(run->model, run->data, &train_options, result);
    if (run->bar.cli)
        cnn_progress_end(&run->bar);
    if (status == CNN_ERR_CANCELLED && run->saved != CNN_OK)
        return cnn_error(run->saved, "%s", run->save_error);
    if (status != CNN_OK && run->file_bytes > 0)
        cnn_message_notice(run->cli, "%s holds the last whole epoch", run->set->output);
    return status;
}

static cnn_status run_tool(cnn_cli *cli, const settings *set)
{
    cnn_status status = CNN_OK;
    run_state run = {.cli = cli, .set = set, .storage = set->amp == AMP_OFF ? CNN_F32 : amp_storage[set->amp]};
    const char *name = cli->common.data ? cli->common.data : "mnist";
    cnn_dataset *data = NULL, *test = NULL;
    cnn_train_result result;
    int64_t correct;
    CNN_TRY(check_settings(set));
    CNN_TRY(check_output(set->output));
    CNN_TRY(cnn_model_create(set->model, &run.model));
    cnn_model_init(run.model, (uint64_t)cli->common.seed);
    CNN_TRY(cnn_cli_load_data(cli, name, CNN_SUBSET_TRAIN, &data));
    CNN_TRY(cnn_cli_load_data(cli, name, CNN_SUBSET_TEST, &test));
    run.data = data;
    CNN_TRY(train(&run, &result));
    CNN_TRY(test_saved(&run, test, &correct));
    print_end(&run, &result, test, correct);
out:
    cnn_dataset_free(test);
    cnn_dataset_free(data);
    cnn_model_free(run.model);
    return status;
}

int main(int argc, char **argv)
{
    settings set = {
        .model = "convnet",
        .output = "model.cnn",
        .amp = AMP_OFF,
        .batch = 64,
        .schedule = CNN_SCHEDULE_CONSTANT,
        .epochs = 10,
        .rate = 0.01,
        .momentum = 0.9,
        .loss_scale = NOT_GIVEN,
        .loss_scale_start = NOT_GIVEN,
    };
    cnn_cli cli;
    int code;
    if (!cnn_cli_begin(&cli, &tool, &set, argc, argv, &code))
        return code;
    return cnn_cli_end(&cli, run_tool(&cli, &set));
}
