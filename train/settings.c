/* What the options of cnn-train mean: which go together, and what they are to the library. */
#include "core/error.h"
#include "core/optimizers.h"
#include "train/schedule.h"
#include "train/tool.h"

#include <string.h>

/* What the types of --amp are stored as, in the order of their names (options.c). */
static const cnn_dtype amp_storage[] = {CNN_F16, CNN_BF16};
enum { AMP_FP16 = 0 };

static cnn_status check_optimizer(const train_settings *settings)
{
    const bool sgd = settings->optimizer == CNN_OPTIMIZER_SGD;
    const struct {
        const char *name;
        bool given, fits;
    } own[] = {{"--momentum", settings->momentum != TRAIN_NOT_GIVEN, sgd},
               {"--nesterov", settings->nesterov, sgd},
               {"--beta1", settings->beta1 != TRAIN_NOT_GIVEN, !sgd},
               {"--beta2", settings->beta2 != TRAIN_NOT_GIVEN, !sgd},
               {"--adam-eps", settings->adam_eps != TRAIN_NOT_GIVEN, !sgd}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i].given && !own[i].fits)
            return cnn_error(CNN_ERR_USAGE, "%s is for --optimizer %s, not for %s", own[i].name,
                             sgd ? "adam and adamw" : "sgd", cnn_optimizer_names[settings->optimizer]);
    if (settings->nesterov && settings->momentum == 0)
        return cnn_error(CNN_ERR_USAGE, "--nesterov looks ahead along the momentum, and --momentum is 0");
    return CNN_OK;
}

static cnn_status check_schedule(const train_settings *settings)
{
    const char *name = settings->lr_step != TRAIN_NOT_GIVEN    ? "--lr-step"
                       : settings->lr_gamma != TRAIN_NOT_GIVEN ? "--lr-gamma"
                                                               : NULL;
    if (name && settings->schedule != CNN_SCHEDULE_STEP)
        return cnn_error(CNN_ERR_USAGE, "%s is for --schedule step, not for %s", name,
                         cnn_schedule_names[settings->schedule]);
    if (settings->warmup > 0 && settings->warmup >= settings->epochs)
        return cnn_error(CNN_ERR_USAGE, "--warmup %g: it must be less than --epochs, %g", settings->warmup,
                         settings->epochs);
    return CNN_OK;
}

/* No two files may be the same. */
static cnn_status check_files(const train_settings *settings)
{
    const char *const name[] = {"--output", "--checkpoint", "--log"};
    const char *const file[] = {settings->output, settings->checkpoint, settings->log};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < i; j++)
            if (file[i] && file[j] && strcmp(file[i], file[j]) == 0)
                return cnn_error(CNN_ERR_USAGE, "%s and %s both name %s; give each a file of its own", name[j], name[i],
                                 file[i]);
    return CNN_OK;
}

cnn_status train_settings_check(const train_settings *settings)
{
    const bool scale_given = settings->loss_scale != TRAIN_NOT_GIVEN,
               start_given = settings->loss_scale_start != TRAIN_NOT_GIVEN;
    if ((scale_given || start_given) && settings->amp != AMP_FP16)
        return cnn_error(CNN_ERR_USAGE, "--loss-scale%s is for --amp=fp16; %s", scale_given ? "" : "-start",
                         settings->amp == TRAIN_AMP_OFF ? "FP32 training needs none" : "bf16 needs none");
    if (start_given && scale_given && settings->loss_scale != TRAIN_SCALE_DYNAMIC)
        return cnn_error(CNN_ERR_USAGE, "--loss-scale %.8g stays fixed, so --loss-scale-start has no meaning",
                         settings->loss_scale);
    if (settings->freeze && !settings->init)
        return cnn_error(CNN_ERR_USAGE,
                         "--freeze %s: a new network would keep random weights; start from a trained "
                         "model with --init",
                         settings->freeze);
    if (settings->augmentation && settings->augment == TRAIN_NOT_GIVEN)
        return cnn_error(CNN_ERR_USAGE,
                         "--augmentation says how images are changed; say how many too: --augment 0.5 is every second");
    if (settings->adversarial == 0 && (settings->adversarial_step != 0 || settings->adversarial_steps))
        return cnn_error(CNN_ERR_USAGE,
                         "--adversarial-step%s says how images are changed; say how far too: "
                         "--adversarial=0.1",
                         settings->adversarial_steps ? "s" : "");
    if (settings->adversarial > 0 && settings->augment > 0)
        return cnn_error(CNN_ERR_USAGE,
                         "--adversarial looks for changes of the images as they are: leave out --augment");
    cnn_status status = check_optimizer(settings);
    if (status == CNN_OK)
        status = check_schedule(settings);
    return status == CNN_OK ? check_files(settings) : status;
}

cnn_dtype train_settings_storage(const train_settings *settings)
{
    return settings->amp == TRAIN_AMP_OFF ? CNN_F32 : amp_storage[settings->amp];
}

const char *train_network(const train_settings *settings)
{
    return settings->model ? settings->model : settings->init ? settings->init : "convnet";
}

bool train_starts_as(const train_settings *settings)
{
    return settings->init && !settings->model;
}

static void set_optimizer(const train_settings *settings, cnn_train_options *options)
{
    options->optimizer = (cnn_optimizer)settings->optimizer;
    options->nesterov = settings->nesterov;
    if (settings->rate != TRAIN_NOT_GIVEN)
        options->learning_rate = (float)settings->rate;
    else if (options->optimizer != CNN_OPTIMIZER_SGD)
        options->learning_rate = 0.001f;
    if (settings->momentum != TRAIN_NOT_GIVEN)
        options->momentum = (float)settings->momentum;
    if (settings->beta1 != TRAIN_NOT_GIVEN)
        options->beta1 = settings->beta1;
    if (settings->beta2 != TRAIN_NOT_GIVEN)
        options->beta2 = settings->beta2;
    if (settings->adam_eps != TRAIN_NOT_GIVEN)
        options->eps = settings->adam_eps;
}

static void set_schedule(const train_settings *settings, cnn_train_options *options)
{
    options->schedule = (cnn_schedule)settings->schedule;
    options->lr_step = settings->lr_step != TRAIN_NOT_GIVEN ? settings->lr_step : settings->epochs / 3;
    if (settings->warmup != TRAIN_NOT_GIVEN)
        options->warmup = settings->warmup;
    if (settings->lr_gamma != TRAIN_NOT_GIVEN)
        options->lr_gamma = (float)settings->lr_gamma;
}

void train_settings_options(const train_settings *settings, const cnn_common *common, cnn_train_options *options)
{
    cnn_train_options_init(options);
    options->device = common->device;
    options->tf32 = common->tf32;
    options->autotune = common->autotune;
    options->batch = settings->batch;
    options->epochs = settings->epochs;
    set_optimizer(settings, options);
    options->weight_decay = (float)settings->decay;
    options->clip_norm = settings->clip_norm != TRAIN_NOT_GIVEN ? (float)settings->clip_norm : 0.0f;
    options->ema_decay = settings->ema != TRAIN_NOT_GIVEN ? settings->ema : 0.0;
    options->label_smoothing = (float)settings->label_smoothing;
    set_schedule(settings, options);
    options->storage = train_settings_storage(settings);
    options->static_loss_scale = settings->loss_scale > TRAIN_SCALE_DYNAMIC;
    if (options->static_loss_scale)
        options->loss_scale = (float)settings->loss_scale;
    else if (settings->loss_scale_start != TRAIN_NOT_GIVEN)
        options->loss_scale = (float)settings->loss_scale_start;
    options->augment = settings->augment == TRAIN_NOT_GIVEN ? 0.0 : settings->augment;
    options->augmentation = settings->augmentation;
    options->adversarial = settings->adversarial;
    options->adversarial_step = settings->adversarial_step;
    if (settings->adversarial_steps)
        options->adversarial_steps = settings->adversarial_steps;
    options->freeze = settings->freeze;
    options->seed = (uint64_t)common->seed;
    options->checkpoint_every = settings->checkpoint_every;
    options->resume = settings->resume;
}
