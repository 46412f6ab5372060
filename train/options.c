/* The command line of cnn-train: its options, their defaults, and what they mean to the library. */
#include "core/error.h"
#include "core/optimizers.h"
#include "train/schedule.h"
#include "train/tool.h"

#include <float.h>
#include <stddef.h>
#include <string.h>

/* Values of --amp and what they are stored as. */
static const char *const amp_types[] = {"fp16", "bf16", NULL};
static const cnn_dtype amp_storage[] = {CNN_F16, CNN_BF16};
enum { AMP_FP16 = 0 };

static const char *const preparations[] = {"digit", "resize", NULL}; /* as cnn_preparation, from 1 */

static const cnn_option table[] = {
    {.group = "Model",
     .letter = 'm',
     .name = "model",
     .argument = "NAME|FILE.cfg",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(train_settings, model),
     .basic = true,
     .complete = CNN_COMPLETE_NETWORK,
     .help = "convnet, lenet5, lenet5-caffe, lenet300, resnet20, resnet56, vgg16, mobilenet-small, or the path of a "
             "description",
     .standard = "convnet; with --init its network"},
    {.name = "init",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(train_settings, init),
     .help = "start from this trained model, .cnn or .onnx, or with --model from weights in .safetensors: layers of "
             "equal name and shape take its weights; when the data has another number of classes, the last layer "
             "starts anew"},
    {.name = "freeze",
     .argument = "LAYER,...|all",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(train_settings, freeze),
     .help = "with --init: leave these layers exactly as they are, batch norms with their statistics; all: every layer "
             "but the last one with weights"},
    {.letter = 'o',
     .name = "output",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(train_settings, output),
     .basic = true,
     .complete = CNN_COMPLETE_MODEL,
     .help = "where the trained model goes; rewritten after every epoch",
     .standard = "model.cnn"},
    {.group = "Pictures in folders (with --data png:DIR)",
     .name = "image-size",
     .argument = "N|HxW",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(train_settings, image_size),
     .help = "height and width in pixels that pictures are fitted into, proportions kept",
     .standard = "that of the network's input in a FILE.cfg, else 28"},
    {.name = "prepare",
     .argument = "HOW",
     .kind = CNN_OPTION_CHOICE,
     .choices = preparations,
     .offset = offsetof(train_settings, prepare),
     .help = "how a picture becomes an image: resize, the whole picture; or digit, one drawn digit as in MNIST. "
             "cnn-infer prepares pictures in the same way",
     .standard = "resize"},
    {.group = "Training",
     .name = "epochs",
     .argument = "N",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1e6,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(train_settings, epochs),
     .basic = true,
     .help = "passes over the training images; fractions are allowed",
     .standard = "10"},
    {.letter = 'b',
     .name = "batch",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = 65536,
     .offset = offsetof(train_settings, batch),
     .help = "images in one step",
     .standard = "64"},
    {.name = "optimizer",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = cnn_optimizer_names,
     .offset = offsetof(train_settings, optimizer),
     .help = "sgd, with momentum; adam, with weight decay in the gradient; adamw, with weight decay beside it",
     .standard = "sgd"},
    {.name = "lr",
     .argument = "R",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1e6,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(train_settings, rate),
     .basic = true,
     .help = "learning rate",
     .standard = "0.01; with adam and adamw 0.001"},
    {.name = "momentum",
     .argument = "M",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MAX,
     .offset = offsetof(train_settings, momentum),
     .help = "with sgd: share of the last update that the next one keeps",
     .standard = "0.9"},
    {.name = "nesterov",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(train_settings, nesterov),
     .help = "with sgd: look ahead along the momentum (Nesterov's form of it)"},
    {.name = "beta1",
     .argument = "B",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MAX,
     .offset = offsetof(train_settings, beta1),
     .help = "with adam and adamw: share that the mean of the gradients keeps in a step",
     .standard = "0.9"},
    {.name = "beta2",
     .argument = "B",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MAX,
     .offset = offsetof(train_settings, beta2),
     .help = "the same of the mean of their squares",
     .standard = "0.999"},
    {.name = "adam-eps",
     .argument = "E",
     .kind = CNN_OPTION_DOUBLE,
     .min = (double)FLT_MIN,
     .max = 1,
     .offset = offsetof(train_settings, adam_eps),
     .help = "what is added to the root of that mean, which the step is divided by",
     .standard = "1e-8"},
    {.name = "weight-decay",
     .argument = "D",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1e6,
     .offset = offsetof(train_settings, decay),
     .help = "pull of all weights towards 0",
     .standard = "0"},
    {.name = "clip-norm",
     .argument = "N",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = (double)FLT_MAX,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(train_settings, clip_norm),
     .help = "scale gradients down to this norm, taken over all parameters together, where theirs is larger",
     .standard = "none"},
    {.name = "label-smoothing",
     .argument = "E",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MAX,
     .offset = offsetof(train_settings, label_smoothing),
     .help = "spread this share of the target evenly over all classes; the training loss shown includes it",
     .standard = "0"},
    {.name = "ema",
     .argument = "DECAY",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_BOTH,
     .offset = offsetof(train_settings, ema),
     .help = "validate and save the moving average of the weights, which keeps this share of itself in every step "
             "(less in the first); 0.999 suits some thousand steps",
     .standard = "off"},
    {.name = "schedule",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = cnn_schedule_names,
     .offset = offsetof(train_settings, schedule),
     .help = "learning rate over the run: constant; cosine, which falls to 0; step, which falls at once every so many "
             "epochs; one-cycle, which rises from R/25 to R and falls to R/10000",
     .standard = "constant"},
    {.name = "warmup",
     .argument = "EPOCHS",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1e6,
     .offset = offsetof(train_settings, warmup),
     .help = "epochs at the start in which the learning rate rises linearly; fractions are allowed",
     .standard = "0; with one-cycle 0.3 of the run"},
    {.name = "lr-step",
     .argument = "EPOCHS",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1e6,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(train_settings, lr_step),
     .help = "with --schedule step: epochs between two drops",
     .standard = "a third of the run"},
    {.name = "lr-gamma",
     .argument = "G",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(train_settings, lr_gamma),
     .help = "with --schedule step: what a drop leaves of the learning rate",
     .standard = "0.1"},
    {.group = "Augmentation",
     .name = "augment",
     .argument = "P",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .offset = offsetof(train_settings, augment),
     .basic = true,
     .help = "share of each epoch's images that is changed at random",
     .standard = "0"},
    {.name = "augmentation",
     .argument = "KIND[=N],...",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(train_settings, augmentation),
     .help = "how, and how strongly: shift, rotate, scale, shear, elastic, stroke (thinner or wider), blur, contrast, "
             "crop, flip, cutout, serif (1s with flag and foot, 7s with a bar)",
     .standard = "what suits the data, as flip,crop does photographs; --verbose shows it"},
    {.group = "Attacks",
     .name = "adversarial",
     .argument = "EPS",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MIN,
     .bare = "0.1",
     .offset = offsetof(train_settings, adversarial),
     .help =
         "learn from images that are changed, by up to EPS a pixel (pixels are from 0 to 1), so that the network of "
         "now gets them wrong: it then withstands such changes ('cnn-infer --attack' measures how well)",
     .standard = "off; --adversarial alone: 0.1"},
    {.name = "adversarial-steps",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = 1000,
     .offset = offsetof(train_settings, adversarial_steps),
     .help = "steps up the loss for each image; each takes about as long as a training step does",
     .standard = "3"},
    {.name = "adversarial-step",
     .argument = "S",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(train_settings, adversarial_step),
     .help = "change of a pixel in one step",
     .standard = "2.5/N of EPS, at most 1.25"},
    {.group = "Interruptions",
     .name = "resume",
     .basic = true,
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(train_settings, resume),
     .help = "go on with the run that was interrupted: the same options and data end with the same bits as if it had "
             "not been. Where there is no checkpoint, start from the beginning"},
    {.name = "checkpoint",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(train_settings, checkpoint),
     .help = "what --resume goes on from; rewritten after every epoch and on Ctrl-C, removed at the end",
     .standard = "OUTPUT.ckpt"},
    {.name = "checkpoint-every",
     .argument = "STEPS",
     .kind = CNN_OPTION_INT64,
     .int_min = 1,
     .int_max = INT32_MAX,
     .offset = offsetof(train_settings, checkpoint_every),
     .help = "rewrite it after so many steps as well"},
    {.name = "log",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(train_settings, log),
     .help = "write one JSON object a line: all options, the loss every 100 steps, each epoch, the result",
     .standard = "none"},
    {.name = "log-every",
     .argument = "STEPS",
     .kind = CNN_OPTION_INT64,
     .int_min = 1,
     .int_max = INT32_MAX,
     .offset = offsetof(train_settings, log_every),
     .help = "steps between two losses in the log",
     .standard = "100"},
    {.name = "dump-program",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(train_settings, dump_program),
     .help = "print every operation of a training step as the device runs it, instead of training"},
    {.group = "Mixed precision",
     .name = "amp",
     .argument = "TYPE",
     .kind = CNN_OPTION_CHOICE,
     .choices = amp_types,
     .bare = "fp16",
     .offset = offsetof(train_settings, amp),
     .basic = true,
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
     .word_value = TRAIN_SCALE_DYNAMIC,
     .offset = offsetof(train_settings, loss_scale),
     .help =
         "with --amp=fp16: factor that keeps small gradients above 0 in FP16; dynamic halves it when a step overflows "
         "and doubles it after 2000 clean steps, a number stays fixed",
     .standard = "dynamic"},
    {.name = "loss-scale-start",
     .argument = "N",
     .kind = CNN_OPTION_DOUBLE,
     .min = 1,
     .max = 16777216,
     .offset = offsetof(train_settings, loss_scale_start),
     .help = "where the dynamic loss scale starts",
     .standard = "65536"},
    {.name = NULL}};

static const char *const usage[] = {"[OPTION]...", NULL};

static const cnn_example examples[] = {
    {"cnn-train --amp", "train convnet on MNIST for 10 epochs with FP16 mixed precision, save model.cnn"},
    {"cnn-train --model lenet5 --epochs 3 -o lenet5.cnn", "train LeNet-5 in FP32"},
    {"cnn-train --resume", "go on with a run that Ctrl-C or a reboot ended"},
    {"cnn-train --data fashion-mnist --schedule cosine --epochs 5", "other data, and a learning rate that falls"},
    {"cnn-train --augment 0.5 --schedule cosine --lr 0.02",
     "every second image turned, moved, bent and drawn with another pen"},
    {"cnn-train --data cifar10 --augment 1 --schedule cosine --lr 0.1 --batch 128",
     "colour photographs, each mirrored or not and moved by up to 4 pixels"},
    {"cnn-train --data png:shapes --model lenet5 --image-size 32", "your own PNG pictures, a sub-folder a class"},
    {NULL, NULL}};

const cnn_tool train_tool = {
    .name = "cnn-train",
    .usage = usage,
    .summary = "Train a convolutional network and save it as a .cnn file.",
    .description =
        "Some training images are held out: validation accuracy after each epoch is measured on them. At the "
        "end the saved model is tested on the data's own test set.",
    .options = table,
    .examples = examples,
};

void train_settings_init(train_settings *settings)
{
    *settings = (train_settings){
        .output = "model.cnn",
        .log_every = 100,
        .prepare = TRAIN_NOT_GIVEN,
        .amp = TRAIN_AMP_OFF,
        .batch = 64,
        .schedule = CNN_SCHEDULE_CONSTANT,
        .epochs = 10,
        .optimizer = CNN_OPTIMIZER_SGD,
        .rate = TRAIN_NOT_GIVEN,
        .momentum = TRAIN_NOT_GIVEN,
        .beta1 = TRAIN_NOT_GIVEN,
        .beta2 = TRAIN_NOT_GIVEN,
        .adam_eps = TRAIN_NOT_GIVEN,
        .clip_norm = TRAIN_NOT_GIVEN,
        .ema = TRAIN_NOT_GIVEN,
        .warmup = TRAIN_NOT_GIVEN,
        .lr_step = TRAIN_NOT_GIVEN,
        .lr_gamma = TRAIN_NOT_GIVEN,
        .augment = TRAIN_NOT_GIVEN,
        .loss_scale = TRAIN_NOT_GIVEN,
        .loss_scale_start = TRAIN_NOT_GIVEN,
    };
}

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
