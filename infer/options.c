/* The command line of cnn-infer: its options, their defaults, and what may go together. */
#include "infer/infer.h"

#include "core/error.h"

#include <stddef.h>

enum { MAX_BATCH = 65536, MAX_TOPK = 1000, MAX_IMAGES = 1000000, MAX_ATTACK_STEPS = 100000 };

static const char *const attacks[] = {"fgsm", "pgd", NULL}; /* as cnn_attack_method counts */
static const char *const attack_starts[] = {"random", "image", NULL};

static const cnn_option options[] = {
    {.group = "Model",
     .letter = 'm',
     .name = "model",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(infer_settings, model),
     .basic = true,
     .complete = CNN_COMPLETE_MODEL,
     .help = "the model to run: .cnn, or .onnx",
     .standard = "model-opt.cnn, else model.cnn"},
    {.name = "require-signature",
     .argument = "NAME.pub",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(infer_settings, require_signature),
     .help =
         "refuse the model, before it is read, unless it is signed by this key and unchanged since (cnn-opt --sign)"},
    {.group = "What to do (without any of these: read the pictures)",
     .letter = 't',
     .name = "test",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(infer_settings, test),
     .basic = true,
     .help = "measure the accuracy on a test set"},
    {.name = "input",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(infer_settings, input),
     .help = "read images that are prepared already from a NumPy array of bytes: (images, height, width, channels) as "
             "the network reads them"},
    {.name = "bench",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(infer_settings, bench),
     .basic = true,
     .help = "measure latency, throughput and the time of each layer; --device cpu,ref puts devices side by side"},
    {.name = "compare",
     .argument = "DEVICE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(infer_settings, compare),
     .basic = true,
     .complete = CNN_COMPLETE_DEVICE,
     .help = "run this device beside --device and name the first layer where they diverge: a byte of an INT8 model, or "
             "an rms of the difference above 1e-5 of the values' for each layer with weights up to there"},
    {.name = "dump-program",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(infer_settings, dump_program),
     .help = "print what will run: operations, buffers, bytes"},
    {.group = "Attacks",
     .name = "attack",
     .argument = "METHOD",
     .kind = CNN_OPTION_CHOICE,
     .choices = attacks,
     .offset = offsetof(infer_settings, attack),
     .help =
         "with --test: change each image by no more than --eps a pixel so that the model gets it wrong, and measure "
         "what accuracy is left; fgsm goes one step along the gradient's signs, pgd many from several random places"},
    {.name = "eps",
     .argument = "E",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(infer_settings, eps),
     .help = "largest change of a pixel; pixels are from 0 to 1",
     .standard = "0.1"},
    {.name = "attack-steps",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = MAX_ATTACK_STEPS,
     .offset = offsetof(infer_settings, attack_steps),
     .help = "with --attack pgd: steps from each place",
     .standard = "40"},
    {.name = "attack-step",
     .argument = "S",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_MIN,
     .offset = offsetof(infer_settings, attack_step),
     .help = "with --attack pgd: change of a pixel in one step",
     .standard = "a tenth of --eps"},
    {.name = "attack-restarts",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = MAX_ATTACK_STEPS,
     .offset = offsetof(infer_settings, attack_restarts),
     .help = "with --attack pgd: places to begin from; one that works is enough",
     .standard = "5; 1 from the image"},
    {.name = "attack-start",
     .argument = "WHERE",
     .kind = CNN_OPTION_CHOICE,
     .choices = attack_starts,
     .offset = offsetof(infer_settings, attack_start),
     .help = "with --attack pgd: begin at random within --eps, or at the image itself",
     .standard = "random"},
    {.name = "attack-from",
     .argument = "MODEL",
     .kind = CNN_OPTION_STRING,
     .complete = CNN_COMPLETE_MODEL,
     .offset = offsetof(infer_settings, attack_from),
     .help = "with --attack: take gradients from another model, as who does not have this one would; an INT8 model has "
             "straight-through gradients of its own",
     .standard = "the model itself"},
    {.name = "attack-sanitized",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(infer_settings, attack_sanitized),
     .help = "with --attack and --sanitize: the attacker knows of it and looks for what fools the model all the same"},
    {.name = "sanitize",
     .argument = "HOW",
     .kind = CNN_OPTION_STRING,
     .bare = INFER_SANITIZE_STANDARD,
     .offset = offsetof(infer_settings, sanitize),
     .help = "change images so that small changes by others get lost, and flag those whose answer then is another: "
             "median (of 3x3 pixels), bits=N (levels of a pixel), centre (the centre of mass into the middle)",
     .standard = "off; --sanitize alone: " INFER_SANITIZE_STANDARD},
    {.group = "Details",
     .letter = 'k',
     .name = "topk",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = MAX_TOPK,
     .offset = offsetof(infer_settings, topk),
     .basic = true,
     .help = "show the N likeliest labels of each picture"},
    {.letter = 's',
     .name = "show",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(infer_settings, show),
     .help = "draw what the network saw of each picture"},
    {.name = "images",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = MAX_IMAGES,
     .offset = offsetof(infer_settings, images),
     .help = "with --compare: take so many training images; with --attack: the first so many of the test set",
     .standard = "16; all"},
    {.name = "sandbox",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(infer_settings, sandbox),
     .help = "with pictures and --input from strangers: first give up writing files, the network and other programs, "
             "and once all is read, opening files too (seccomp); computes on the CPU"},
    {.name = "held-out",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(infer_settings, held_out),
     .help =
         "with --test: measure on the training images that training held out, to choose by; the test set stays unread"},
    {.name = "logits",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(infer_settings, logits),
     .help = "with --test or --input: write the raw scores, little-endian float32 [images, classes]; as a NumPy array "
             "when the name ends in .npy"},
    {.letter = 'b',
     .name = "batch",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = MAX_BATCH,
     .offset = offsetof(infer_settings, batch),
     .help = "images at once",
     .standard = "64, with --bench 1"},
    {.name = NULL}};

static const char *const usage[] = {"[OPTION]... PICTURE...", "[OPTION]... --input=FILE.npy",
                                    "[OPTION]... --test | --bench | --compare=DEVICE", NULL};

static const cnn_example examples[] = {
    {"cnn-infer digit.png", "say which digit the picture shows, with the smallest model in this folder"},
    {"cnn-infer -m model.cnn --topk 3 *.png", "use another model and show three guesses for each picture"},
    {"cnn-infer --show number.png", "draw what the network saw above what it read"},
    {"cnn-infer --test --json", "test accuracy, for scripts"},
    {"cnn-infer --test --attack pgd --eps 0.1 --sanitize",
     "what accuracy an attacker leaves, and what sanitizing gives back"},
    {"cnn-infer --bench --batch 64 --threads 2", "milliseconds for 64 images with two threads"},
    {NULL, NULL}};

const cnn_tool infer_tool = {
    .name = "cnn-infer",
    .usage = usage,
    .summary = "Run a trained or compressed model on pictures or on a test set.",
    .description =
        "Each PICTURE is a PNG file of any size; digits may be dark on light or light on dark, drawn or "
        "photographed. For each one the label and its probability are printed; under 0.9 the tool says that it is "
        "unsure. Several digits side by side are read as a number; its probability is the product of theirs. "
        "Digits that touch are not cut: the tool says where there may be some.",
    .options = options,
    .examples = examples,
    .max_operands = -1,
    .device_lists = true,
    .complete = CNN_COMPLETE_PICTURE,
    .operand = "pictures"};

void infer_settings_init(infer_settings *settings)
{
    *settings = (infer_settings){.attack = -1, .attack_start = -1};
}

cnn_status infer_settings_check(const cnn_cli *cli, const infer_settings *settings)
{
    const char *mode[5] = {NULL};
    int modes = 0;
    if (settings->test)
        mode[modes++] = "--test";
    if (settings->input)
        mode[modes++] = "--input";
    if (settings->bench)
        mode[modes++] = "--bench";
    if (settings->compare)
        mode[modes++] = "--compare";
    if (settings->dump_program)
        mode[modes++] = "--dump-program";
    if (modes == 0 && cli->operands.count == 0)
        return cnn_error(CNN_ERR_USAGE, "nothing to do: name a picture, or give --test or --bench");
    if (modes > 1)
        return cnn_error(CNN_ERR_USAGE, "%s and %s are two tasks: give one of them", mode[0], mode[1]);
    if (modes > 0 && cli->operands.count > 0)
        return cnn_error(CNN_ERR_USAGE, "'%.100s' is a picture, but %s reads none", cli->operands.list[0], mode[0]);
    if (settings->images && !settings->compare && settings->attack < 0)
        return cnn_error(CNN_ERR_USAGE,
                         "option --images says how many images --compare or --attack takes: give one of them too");
    if (settings->logits && !settings->test && !settings->input)
        return cnn_error(CNN_ERR_USAGE, "option --logits writes the scores of a test set: give --test too");
    if (settings->topk && !cli->operands.count && !settings->input)
        return cnn_error(CNN_ERR_USAGE, "option --topk is for pictures: name at least one");
    if (settings->show && !cli->operands.count && !settings->input)
        return cnn_error(CNN_ERR_USAGE, "option --show is for pictures: name at least one");
    if (settings->logits && (settings->topk || settings->show))
        return cnn_error(CNN_ERR_USAGE, "--logits writes scores instead of showing labels: leave out %s",
                         settings->topk ? "--topk" : "--show");
    if (settings->show && cli->common.json)
        return cnn_error(CNN_ERR_USAGE, "--show draws for people: leave it out with --json");
    if (settings->sandbox && modes > (settings->input != NULL))
        return cnn_error(CNN_ERR_USAGE, "option --sandbox is for pictures and --input");
    if (settings->sandbox && settings->logits)
        return cnn_error(CNN_ERR_USAGE, "--sandbox writes no file: leave out --logits");
    const cnn_status status = infer_check_attack(settings);
    if (status != CNN_OK)
        return status;
    return settings->compare ? cnn_cli_check_devices("--compare", settings->compare, false) : CNN_OK;
}
