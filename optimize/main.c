/* cnn-opt: makes a trained model small and fast. */
#include "optimize/job.h"

#include "cli/model_files.h"
#include "core/error.h"
#include "core/optimizers.h"

#include <stddef.h>
#include <string.h>

static const char *const amp_types[] = {"fp16", "bf16", NULL};                       /* in the order of opt_amp */
static const char *const packs[] = {"auto", "raw", "smallest", NULL};                /* in the order of cnn_pack */
static const char *const structures[] = {"channel", "block", "weight", "2:4", NULL}; /* in the order of opt_structure */
static const char *const schedules[] = {"one-shot", "iterative", "cubic", NULL};     /* in the order of opt_schedule */
static const char *const criteria[] = {"l1", "l2", "bn", "taylor", "random", "lamp", NULL};   /* as cnn_criterion */
static const char *const observers[] = {"max", "percentile", "entropy", "mse", "auto", NULL}; /* as cnn_observer */
static const char *const roundings[] = {"nearest", "adaptive", NULL}; /* in the order of cnn_rounding */
static const char *const switches[] = {"off", "on", NULL};

static const cnn_option options[] = {
    {.group = "Pruning",
     .letter = 'p',
     .name = "prune",
     .argument = "R",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, prune),
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_BOTH,
     .basic = true,
     .help = "remove this share of the output channels of every layer but the last, or with --structure block or "
             "weight of the weights of every layer, those that matter least"},
    {.name = "keep",
     .argument = "LIST",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(opt_settings, keep),
     .help = "instead of --prune: exact numbers of output channels, as in conv1=7,conv2=14,fc1=30; other layers stay "
             "whole. The criterion is taylor unless it is given"},
    {.name = "structure",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = structures,
     .offset = offsetof(opt_settings, structure),
     .help =
         "what to remove: channel, whole output channels, which makes the model smaller and faster everywhere; "
         "block, blocks of 16 outputs x 4 inputs, which the CPU skips in INT8 (layers with fewer stay whole); weight, "
         "single weights of every layer, which makes the smallest file and no speed; 2:4, 2 of every 4 inputs of each "
         "output, half of the weights without --prune, from which only sparse tensor cores gain speed. Searches for a "
         "goal take channels and "
         "weights by turns, whichever makes the smaller file, unless one is named",
     .standard = "channel; in searches both"},
    {.name = "global",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(opt_settings, global),
     .help = "with --prune: remove the share from all layers together, more where they matter less"},
    {.name = "criterion",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = criteria,
     .offset = offsetof(opt_settings, criterion),
     .help = "what says that a channel, block or weight matters least: l1 or l2, the size of its weights; bn, the "
             "factor of the batch norm behind a channel; taylor, how much the loss on training images would change; "
             "random, by seed; lamp, the size of a weight beside the larger ones of its layer, made for --global",
     .standard = "l1"},
    {.name = "prune-schedule",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = schedules,
     .offset = offsetof(opt_settings, schedule),
     .help = "one-shot: prune, then fine-tune; iterative: in equal steps, with an equal part of the fine-tuning after "
             "each; cubic: while training goes on, much at first and little at the end (blocks and weights only)",
     .standard = "one-shot"},
    {.name = "prune-steps",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .offset = offsetof(opt_settings, prune_steps),
     .int_min = 2,
     .int_max = 1000,
     .help = "how many steps an iterative or cubic schedule has",
     .standard = "3 iterative, 10 cubic"},
    {.name = "regrow",
     .argument = "R",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, regrow),
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_BOTH,
     .help = "with --prune-schedule cubic: at each step this share of what goes comes back elsewhere, among what went "
             "before where the gradient is largest, and as much more goes",
     .standard = "none comes back"},
    {.group = "Fine-tuning",
     .letter = 'f',
     .name = "finetune",
     .argument = "N",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, finetune),
     .min = 0,
     .max = 1e6,
     .basic = true,
     .help = "train the model for N epochs after pruning; fractions are allowed, 0 is none",
     .standard = "0; with --prune or --keep 1 to 10, the more the smaller the network, or more where images are few"},
    {.name = "optimizer",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = cnn_optimizer_names,
     .offset = offsetof(opt_settings, optimizer),
     .help = "how weights follow their gradients: sgd, adam or adamw, as in cnn-train",
     .standard = "sgd"},
    {.name = "lr",
     .argument = "RATE",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, learning_rate),
     .min = 0,
     .max = 1e6,
     .open = CNN_OPEN_MIN,
     .help = "learning rate at the start; it falls to 0 along a cosine",
     .standard = "0.01, or 0.001 with adam and adamw"},
    {.letter = 'b',
     .name = "batch",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .offset = offsetof(opt_settings, batch),
     .int_min = 1,
     .int_max = 65536,
     .help = "images in one training step",
     .standard = "64"},
    {.name = "amp",
     .argument = "TYPE",
     .kind = CNN_OPTION_CHOICE,
     .choices = amp_types,
     .bare = "fp16",
     .offset = offsetof(opt_settings, amp),
     .help = "fine-tune in mixed precision: fp16 or bf16",
     .standard = "off: FP32; --amp alone: fp16"},
    {.name = "augment",
     .argument = "P",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, augment),
     .min = 0,
     .max = 1,
     .help = "share of the images that fine-tuning changes a little, as cnn-train --augment does",
     .standard = "as when the model was trained"},
    {.name = "adversarial",
     .argument = "EPS",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MIN,
     .bare = "0.1",
     .offset = offsetof(opt_settings, adversarial),
     .help = "fine-tune against attacks, as cnn-train --adversarial trains: else a model forgets how to withstand them",
     .standard = "off; --adversarial alone: 0.1"},
    {.name = "distill",
     .argument = "MIX",
     .kind = CNN_OPTION_DOUBLE,
     .bare = "0.5",
     .offset = offsetof(opt_settings, distill),
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MIN,
     .help = "let fine-tuning learn what the model as given answers, too: MIX is the share of the loss that compares "
             "with it, the rest is that of the labels",
     .standard = "off; --distill alone: 0.5"},
    {.name = "temperature",
     .argument = "T",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, temperature),
     .min = 0,
     .max = 1000,
     .open = CNN_OPEN_MIN,
     .help = "with --distill: by what scores are divided before they are compared; large ones tell more of unlikely "
             "classes",
     .standard = "4"},
    {.group = "Quantization",
     .name = "int8",
     .basic = true,
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(opt_settings, int8),
     .help = "quantize weights and activations to 8-bit integers"},
    {.name = "bits",
     .argument = "B",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(opt_settings, bits),
     .help = "with --int8: weights of B bits, 2 to 8 (2: -1, 0 and 1 times a step), which make small files and run as "
             "fast as those of 8. Or mixed precision: layer by layer, as in conv1=8,fc1=3 or 4,conv1=8 (4 for the "
             "others); auto:AVG, as in auto:3.5, for at most AVG bits a weight on average, more of them where rounding "
             "changes the scores most. Fine-tuning then trains the weights on that grid, and its step with them; "
             "without --finetune they are only rounded, which costs accuracy below 4 bits",
     .standard = "8"},
    {.name = "codebook",
     .argument = "K",
     .kind = CNN_OPTION_INT,
     .offset = offsetof(opt_settings, codebook),
     .int_min = 1,
     .int_max = 4,
     .help =
         "with --int8, instead of --bits: the weights of a layer take one of 2^K numbers that suit them best, 1 to 4 "
         "(k-means), times a step of their output channel",
     .standard = "none"},
    {.name = "round",
     .argument = "HOW",
     .kind = CNN_OPTION_CHOICE,
     .choices = roundings,
     .offset = offsetof(opt_settings, rounding),
     .help = "with --int8: how weights that did not train on their grid come onto it: nearest; or adaptive, up or down "
             "as changes what the layer gives on training images least (AdaRound), which is for few bits without "
             "--finetune",
     .standard = "nearest"},
    {.name = "observer",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = observers,
     .offset = offsetof(opt_settings, observer),
     .help = "how the range of each layer's values is found: max; percentile, which clips rare large values; entropy, "
             "which keeps the distribution; mse, which keeps the squared error small; or auto, which tries them layer "
             "by layer and takes what changes the scores least",
     .standard = "auto"},
    {.name = "percentile",
     .argument = "P",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, percentile),
     .min = 0,
     .max = 100,
     .open = CNN_OPEN_MIN,
     .help = "share of the values, in per cent, that the percentile observer keeps in range",
     .standard = "99.99"},
    {.name = "bias-correction",
     .argument = "on|off",
     .kind = CNN_OPTION_CHOICE,
     .choices = switches,
     .offset = offsetof(opt_settings, bias_correction),
     .help = "shift biases so that the mean of each channel is that of the FP32 model on the calibration images",
     .standard = "on"},
    {.name = "equalization",
     .argument = "on|off",
     .kind = CNN_OPTION_CHOICE,
     .choices = switches,
     .offset = offsetof(opt_settings, equalization),
     .help = "scale channels between layers so that none is small beside the others, which changes no answer of the "
             "FP32 model and helps INT8 where channels differ much in range",
     .standard = "off"},
    {.group = "Goals",
     .name = "max-drop",
     .argument = "P",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, max_drop),
     .min = 0,
     .max = 100,
     .basic = true,
     .help =
         "search for the smallest model that loses at most P points of accuracy (of 100), with 90 % certainty by the "
         "validation images; fails when none can be promised"},
    {.name = "target-size",
     .argument = "BYTES",
     .kind = CNN_OPTION_INT64,
     .offset = offsetof(opt_settings, target_size),
     .int_min = 1,
     .int_max = INT64_MAX,
     .help =
         "search for a model whose file has at most so many bytes; with --structure weight --int8 the most accurate "
         "one that single weights of few bits make: best with --pack smallest (--finetune: 100 there)"},
    {.name = "target-ms",
     .argument = "MS",
     .kind = CNN_OPTION_DOUBLE,
     .offset = offsetof(opt_settings, target_ms),
     .min = 0,
     .max = 1e6,
     .open = CNN_OPEN_MIN,
     .help = "search for a model that takes at most so many milliseconds for one image, on this machine"},
    {.name = "search",
     .argument = "DIR",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(opt_settings, search),
     .help =
         "folder that keeps the points of a search, with a list of them in points.csv; the same command goes on with "
         "what it holds",
     .standard = "the output's name with -search"},
    {.name = "pick",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .offset = offsetof(opt_settings, pick),
     .int_min = 0,
     .int_max = 1000,
     .help = "make point N of a search the output; give the options that the search had, goals aside"},
    {.group = "PyTorch",
     .name = "from-torch",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(opt_settings, from_torch),
     .help = "instead of a model: weights from PyTorch, a .safetensors file, for the network that --model names; "
             "-o FILE.safetensors gives them back"},
    {.name = "model",
     .argument = "NAME|FILE.cfg",
     .kind = CNN_OPTION_STRING,
     .complete = CNN_COMPLETE_NETWORK,
     .offset = offsetof(opt_settings, network),
     .help =
         "with --from-torch: the network, a built-in name or a description, whose layers have PyTorch's names; without "
         "any of them layers take the weights in order"},
    {.group = "Result",
     .letter = 'o',
     .name = "output",
     .basic = true,
     .complete = CNN_COMPLETE_MODEL,
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(opt_settings, output),
     .help = "the result, .cnn or .onnx",
     .standard = "model-opt.cnn"},
    {.name = "pack",
     .argument = "HOW",
     .kind = CNN_OPTION_CHOICE,
     .choices = packs,
     .offset = offsetof(opt_settings, pack),
     .help = "how the file holds the weights: raw, as they are, those in 2:4 as sparse tensor cores take them; auto, "
             "those with many zeros or few levels in a form "
             "that is quick to read; "
             "smallest, the smallest form of each, and no names or free text",
     .standard = "auto"},
    {.name = "report",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(opt_settings, report),
     .help = "write what was done and what came of it: FILE.html is a page with tables, charts, what each layer bears, "
             "and the pictures that are answered otherwise than before; FILE.json holds the same for programs"},
    {.name = "explain",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(opt_settings, explain),
     .help = "say in one paragraph what was removed, what suffered most, and what to try next"},
    {.name = NULL}};

static const char *const usage[] = {"[OPTION]... [MODEL]", NULL};

static const cnn_example examples[] = {
    {"cnn-opt --prune 0.5 --int8", "halve all layers of model.cnn, train an epoch to repair them, go to INT8"},
    {"cnn-opt --int8 -o small.cnn big.cnn", "only quantize: no training, done in seconds"},
    {"cnn-opt net.onnx --data mnist --int8 -o small.onnx", "quantize a network of another tool, and give it back"},
    {"cnn-opt --prune 0.7 --global --finetune 3 --amp", "prune hard and train longer in mixed precision"},
    {"cnn-opt --prune 0.9 --structure weight --finetune 5 --int8 --bits 3",
     "a small file: few weights, and each of them -3 to 3 times a step"},
    {"cnn-opt --max-drop 0.3 --int8", "as small as it gets without losing more than 0.3 points of accuracy"},
    {"cnn-opt --target-size 2100 --structure weight --int8 --pack smallest", "a network of hundreds of kB in 2.1 kB"},
    {"cnn-opt --prune 0.75 --structure block --int8", "keep all channels, and a quarter of the weights in blocks"},
    {"cnn-opt --keep conv1=24,fc1=100 --int8", "as narrow as you say, the channels that matter least gone"},
    {"cnn-opt --structure 2:4 --int8", "zero 2 of every 4 weights, the pattern of sparse tensor cores"},
    {"cnn-opt --prune 0.5 --int8 --report report.html", "the same as the first, with a page that shows what it did"},
    {NULL, NULL}};

static const cnn_tool tool = {
    .name = "cnn-opt",
    .usage = usage,
    .summary = "Make a trained model (default: model.cnn, or FILE.onnx) small and fast.",
    .description = "The passes run in this order: prune, fine-tune, fold batch norms, calibrate, quantize, save. After "
                   "each the model is measured on the validation images, which training never saw; the test set is "
                   "never read. ms/image is the median time of one image alone, images/s the rate in batches of 64.",
    .options = options,
    .examples = examples,
    .max_operands = 1,
    .complete = CNN_COMPLETE_MODEL,
    .operand = "one model"};

/* 2:4 knows one share and one step. Sets that share. */
static cnn_status check_two_of_four(opt_settings *settings)
{
    cnn_status status = CNN_OK;
    if (settings->structure != OPT_STRUCTURE_TWO_OF_FOUR)
        return CNN_OK;
    if (opt_has_goal(settings))
        CNN_FAIL(CNN_ERR_USAGE, "a search removes more and more, and 2:4 is always half of the weights: take "
                                "--structure channel, block or weight");
    if (settings->prune > 0 && settings->prune != OPT_TWO_OF_FOUR_SHARE)
        CNN_FAIL(CNN_ERR_USAGE, "--structure 2:4 always takes half of the weights: leave out --prune %g",
                 settings->prune);
    if (settings->global || settings->schedule > OPT_SCHEDULE_ONE_SHOT)
        CNN_FAIL(CNN_ERR_USAGE, "--structure 2:4 takes 2 of every 4 weights at once: leave out %s%s",
                 settings->global ? "--global" : "--prune-schedule ",
                 settings->global ? "" : schedules[settings->schedule]);
    settings->prune = OPT_TWO_OF_FOUR_SHARE;
out:
    return status;
}

/* Exact widths are of channels, in one step. Sets the criterion. */
static cnn_status check_keep(opt_settings *settings)
{
    cnn_status status = CNN_OK;
    if (!settings->keep)
        return CNN_OK;
    const char *other = settings->prune > 0                           ? "--prune"
                        : settings->global                            ? "--global"
                        : settings->structure > OPT_STRUCTURE_CHANNEL ? "--structure"
                        : settings->schedule > OPT_SCHEDULE_ONE_SHOT  ? "--prune-schedule"
                        : settings->prune_steps > 0                   ? "--prune-steps"
                        : settings->max_drop >= 0                     ? "--max-drop"
                        : settings->target_size > 0                   ? "--target-size"
                        : settings->target_ms > 0                     ? "--target-ms"
                        : settings->pick >= 0                         ? "--pick"
                                                                      : NULL;
    if (other)
        CNN_FAIL(CNN_ERR_USAGE, "--keep says which layers keep how many channels: leave out %s", other);
    if (settings->criterion < 0)
        settings->criterion = CNN_CRITERION_TAYLOR;
out:
    return status;
}

/* Weights and a network come together. Sets the input. */
static cnn_status check_from_torch(const cnn_cli *cli, opt_settings *settings)
{
    cnn_status status = CNN_OK;
    if (!settings->from_torch && !settings->network)
        return CNN_OK;
    if (!settings->from_torch)
        CNN_FAIL(CNN_ERR_USAGE,
                 "--model %.100s names the network of --from-torch: give that with it, or the model alone",
                 settings->network);
    if (!settings->network)
        CNN_FAIL(CNN_ERR_USAGE, "--from-torch %.100s holds weights alone: give --model with it, a name or a .cfg file",
                 settings->from_torch);
    if (cli->operands.count > 0)
        CNN_FAIL(CNN_ERR_USAGE, "'%.100s' and --from-torch %.100s are two models: give one of them", settings->input,
                 settings->from_torch);
    if (!cnn_cli_is_weights(settings->from_torch))
        CNN_FAIL(CNN_ERR_USAGE, "--from-torch takes a .safetensors file, not '%.100s'", settings->from_torch);
    settings->input = settings->from_torch;
out:
    return status;
}

/* What only a run with passes could tell. */
static cnn_status check_conversion(const opt_settings *settings)
{
    if (settings->report || settings->explain)
        return cnn_error(CNN_ERR_USAGE,
                         "%s tells what was done to a model, and converting a file does nothing to it: give "
                         "--prune R, --int8, or both with it",
                         settings->report ? "--report" : "--explain");
    return CNN_OK;
}

/* What only fine-tuning reads. */
static cnn_status check_finetuning(const opt_settings *settings)
{
    cnn_status status = CNN_OK;
    if (settings->augment > 0 && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE,
                 "--augment changes images of fine-tuning, and there is none: give --finetune N with it");
    if (settings->adversarial > 0 && (!opt_fine_tunes(settings) || settings->augment > 0))
        CNN_FAIL(CNN_ERR_USAGE, settings->augment > 0
                                    ? "--adversarial looks for changes of the images as they are: leave out --augment"
                                    : "--adversarial is for fine-tuning, and there is none: give --finetune N with it");
    if (settings->optimizer != CNN_OPTIMIZER_SGD && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "--optimizer is for fine-tuning, and there is none: give --finetune N with it");
    if (settings->distill > 0 && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "--distill is for fine-tuning, and there is none: give --finetune N with it");
    if (settings->temperature > 0 && !(settings->distill > 0))
        CNN_FAIL(CNN_ERR_USAGE, "--temperature is that of --distill: give --distill with it");
out:
    return status;
}

/* What single options cannot tell. */
static cnn_status check(const opt_settings *settings)
{
    cnn_status status = CNN_OK;
    const bool goal = opt_has_goal(settings);
    if (settings->pack != CNN_PACK_AUTO && cnn_cli_is_foreign(settings->output))
        CNN_FAIL(CNN_ERR_USAGE, "--pack is for .cnn files: leave it out, or name one with --output");
    if (opt_converts(settings))
        CNN_TRY(check_conversion(settings));
    else if (!opt_prunes(settings) && !settings->int8 && !goal)
        CNN_FAIL(CNN_ERR_USAGE, "nothing to do: give --prune R (such as --prune 0.5), --int8, or both");
    if (settings->prune > 0 && goal)
        CNN_FAIL(CNN_ERR_USAGE, "--prune says how much to remove, and a search finds that out: leave one of them out");
    if (settings->search && !goal)
        CNN_FAIL(CNN_ERR_USAGE, "--search keeps the points of a search: give --max-drop, --target-size, --target-ms or "
                                "--pick with it");
    if (goal && (settings->schedule >= 0 || settings->prune_steps > 0 || settings->global))
        CNN_FAIL(CNN_ERR_USAGE, "a search prunes step by step over all layers: leave out %s",
                 settings->schedule >= 0     ? "--prune-schedule"
                 : settings->prune_steps > 0 ? "--prune-steps"
                                             : "--global");
    if (settings->report && !opt_report_is_html(settings->report) && !opt_report_is_json(settings->report))
        CNN_FAIL(CNN_ERR_USAGE, "--report writes .html or .json; '%.200s' ends in neither", settings->report);
    if (settings->report && strcmp(settings->report, settings->output) == 0)
        CNN_FAIL(CNN_ERR_USAGE, "--report and --output name the same file, '%.200s'", settings->output);
    const char *how = settings->global            ? "--global"
                      : settings->schedule >= 0   ? "--prune-schedule"
                      : settings->prune_steps > 0 ? "--prune-steps"
                      : settings->structure >= 0  ? "--structure"
                      : settings->criterion >= 0  ? "--criterion"
                                                  : NULL;
    if (how && !opt_prunes(settings) && !goal)
        CNN_FAIL(CNN_ERR_USAGE, "%s says how to prune: give --prune R with it", how);
    if (settings->prune_steps > 0 && settings->schedule <= OPT_SCHEDULE_ONE_SHOT)
        CNN_FAIL(CNN_ERR_USAGE, "--prune-steps needs --prune-schedule iterative or cubic: one-shot has one step");
    if (settings->regrow > 0 && settings->schedule != OPT_SCHEDULE_CUBIC)
        CNN_FAIL(CNN_ERR_USAGE, "--regrow brings weights back while training goes on: give --prune-schedule cubic with "
                                "it, and --structure weight or block");
    if (settings->schedule == OPT_SCHEDULE_CUBIC && settings->structure <= OPT_STRUCTURE_CHANNEL)
        CNN_FAIL(CNN_ERR_USAGE, "--prune-schedule cubic prunes while training goes on, which channels cannot: give "
                                "--structure block or weight with it, or take iterative");
    if (settings->schedule > OPT_SCHEDULE_ONE_SHOT && settings->finetune == 0.0)
        CNN_FAIL(CNN_ERR_USAGE, "--prune-schedule %s fine-tunes between its steps: leave out --finetune 0",
                 schedules[settings->schedule]);
    CNN_TRY(check_finetuning(settings));
    if (settings->structure > OPT_STRUCTURE_CHANNEL && settings->criterion == CNN_CRITERION_BN)
        CNN_FAIL(CNN_ERR_USAGE, "--criterion bn scores whole channels; with --structure %s take l1, taylor or random",
                 structures[settings->structure]);
    if (settings->structure <= OPT_STRUCTURE_CHANNEL && settings->criterion == CNN_CRITERION_LAMP)
        CNN_FAIL(CNN_ERR_USAGE,
                 "--criterion lamp scores weights: give --structure weight, block or 2:4 with it, or take "
                 "another criterion for channels");
    if ((settings->observer >= 0 || settings->percentile > 0 || settings->bias_correction >= 0) && !settings->int8)
        CNN_FAIL(CNN_ERR_USAGE,
                 "--observer, --percentile and --bias-correction say how to quantize: give --int8 with them");
    if (settings->percentile > 0 && settings->observer >= 0 && settings->observer != CNN_OBSERVER_PERCENTILE &&
        settings->observer != CNN_OBSERVER_AUTO)
        CNN_FAIL(CNN_ERR_USAGE, "--percentile is of no use with --observer %s; leave one of them out",
                 observers[settings->observer]);
out:
    return status;
}

static cnn_status run(cnn_cli *cli, opt_settings *settings)
{
    cnn_status status = CNN_OK;
    opt_account account = {0};
    if (cli->operands.count > 0)
        settings->input = cli->operands.list[0];
    CNN_TRY(check_from_torch(cli, settings));
    CNN_TRY(check_keep(settings));
    CNN_TRY(check_two_of_four(settings));
    CNN_TRY(check(settings));
    CNN_TRY(opt_check_quantizer(settings));
    if (opt_converts(settings)) {
        status = opt_convert(cli, settings);
        goto out;
    }
    CNN_TRY(opt_run(cli, settings, &account));
    CNN_TRY(opt_report(cli, settings, &account));
    if (settings->report)
        CNN_TRY(opt_report_save(cli, settings, &account));
out:
    opt_account_free(&account);
    return status;
}

int main(int argc, char **argv)
{
    opt_settings settings = {.schedule = -1,
                             .structure = -1,
                             .criterion = -1,
                             .finetune = -1,
                             .augment = -1,
                             .amp = OPT_AMP_OFF,
                             .batch = 64,
                             .observer = -1,
                             .bias_correction = -1,
                             .equalization = -1,
                             .rounding = -1,
                             .max_drop = -1,
                             .pick = -1,
                             .output = "model-opt.cnn",
                             .input = "model.cnn"};
    cnn_cli cli;
    int code;
    if (!cnn_cli_begin(&cli, &tool, &settings, argc, argv, &code))
        return code;
    return cnn_cli_end(&cli, run(&cli, &settings));
}
