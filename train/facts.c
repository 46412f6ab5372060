/* What a run is, and sentences about two runs that are not the same. */
#include "train/facts.h"

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file.h"
#include "core/optimizers.h"
#include "train/augment.h"
#include "train/schedule.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANEW "or leave out --resume to start anew"

/* ---- Options ---- */

/* Prints the field of cnn_train_options that `value` points to. */
typedef void (*print_fn)(const void *value, char *text, size_t bytes);

static void print_int(const void *value, char *text, size_t bytes)
{
    snprintf(text, bytes, "%d", *(const int *)value);
}

static void print_bool(const void *value, char *text, size_t bytes)
{
    snprintf(text, bytes, "%s", *(const bool *)value ? "on" : "off");
}

static void print_u64(const void *value, char *text, size_t bytes)
{
    snprintf(text, bytes, "%" PRIu64, *(const uint64_t *)value);
}

/* The fewest digits that give the same number again. */
static void print_float(const void *value, char *text, size_t bytes)
{
    const double number = (double)*(const float *)value;
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, bytes, "%.*g", digits, number);
        if ((double)strtof(text, NULL) == number)
            return;
    }
}

static void print_double(const void *value, char *text, size_t bytes)
{
    const double number = *(const double *)value;
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, bytes, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            return;
    }
}

static void print_optimizer(const void *value, char *text, size_t bytes)
{
    snprintf(text, bytes, "%s", cnn_optimizer_names[*(const cnn_optimizer *)value]);
}

static void print_schedule(const void *value, char *text, size_t bytes)
{
    snprintf(text, bytes, "%s", cnn_schedule_names[*(const cnn_schedule *)value]);
}

static void print_amp(const void *value, char *text, size_t bytes)
{
    const cnn_dtype storage = *(const cnn_dtype *)value;
    snprintf(text, bytes, "%s", storage == CNN_F16 ? "fp16" : storage == CNN_BF16 ? "bf16" : "off");
}

/* Of the whole struct: where the scale starts and whether it moves. */
static void print_loss_scale(const void *value, char *text, size_t bytes)
{
    const cnn_train_options *options = value;
    cnn_train_state state;
    char scale[32];
    cnn_scaler_start(options, &state);
    print_float(&state.loss_scale, scale, sizeof scale);
    snprintf(text, bytes, "%s%s", scale, state.dynamic ? " that moves" : "");
}

#define OPTION(field) offsetof(cnn_train_options, field)

/* Every option that the result depends on, in the order in which differences are told. */
static const struct {
    const char *name;
    print_fn print;
    size_t offset;
} options_told[] = {
    {"--epochs", print_double, OPTION(epochs)},
    {"--batch", print_int, OPTION(batch)},
    {"--lr", print_float, OPTION(learning_rate)},
    {"--optimizer", print_optimizer, OPTION(optimizer)},
    {"--beta1", print_double, OPTION(beta1)},
    {"--beta2", print_double, OPTION(beta2)},
    {"--adam-eps", print_double, OPTION(eps)},
    {"--momentum", print_float, OPTION(momentum)},
    {"--nesterov", print_bool, OPTION(nesterov)},
    {"--weight-decay", print_float, OPTION(weight_decay)},
    {"--clip-norm", print_float, OPTION(clip_norm)},
    {"--label-smoothing", print_float, OPTION(label_smoothing)},
    {"--ema", print_double, OPTION(ema_decay)},
    {"--schedule", print_schedule, OPTION(schedule)},
    {"--warmup", print_double, OPTION(warmup)},
    {"--lr-step", print_double, OPTION(lr_step)},
    {"--lr-gamma", print_float, OPTION(lr_gamma)},
    {"--amp", print_amp, OPTION(storage)},
    {"--loss-scale", print_loss_scale, 0},
    {"--tf32", print_bool, OPTION(tf32)},
    {"--autotune", print_bool, OPTION(autotune)},
    {"--augment", print_double, OPTION(augment)},
    {"--all-images", print_bool, OPTION(all_images)},
    {"--adversarial", print_double, OPTION(adversarial)},
    {"--adversarial-step", print_double, OPTION(adversarial_step)},
    {"--adversarial-steps", print_int, OPTION(adversarial_steps)},
    {"--seed", print_u64, OPTION(seed)},
};

/* Told apart: augmentation, freeze, teacher with distill and temperature. Not told: device (the fact "device" is more),
 * progress, progress_context, answers, checkpoint, checkpoint_every, resume, and edit with its kin, which exclude
 * checkpoints.
 */
_Static_assert(sizeof(void *) != 8 || sizeof(cnn_train_options) == 272,
               "a new option that changes results needs a row in `options_told`; then put this number right");

/* ---- Facts ---- */

CNN_PRINTF(3, 4)
static void tell(cnn_facts *facts, const char *name, const char *format, ...)
{
    if (facts->count == CNN_CHECKPOINT_MAX_FACTS)
        return;
    cnn_fact *fact = &facts->fact[facts->count++];
    va_list args;
    va_start(args, format);
    snprintf(fact->name, sizeof fact->name, "%s", name);
    vsnprintf(fact->value, sizeof fact->value, format, args);
    va_end(args);
}

static void tell_data(cnn_facts *facts, const cnn_dataset *data)
{
    const char *name = cnn_dataset_name(data->id);
    const size_t count = (size_t)data->count;
    const size_t image = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
    tell(facts, "data", "%s: %d images of %dx%dx%d in %d classes", name ? name : "unnamed", data->count, data->height,
         data->width, data->channels, data->classes);
    tell(facts, "images", "%08" PRIx32, cnn_crc32c(0, data->images, count * image));
    tell(facts, "labels", "%08" PRIx32, cnn_crc32c(0, data->labels, count));
}

/* Kinds and strengths in full: a standard strength may be another in another version. */
static cnn_status tell_augmentation(cnn_facts *facts, const cnn_dataset *data, const cnn_train_options *options)
{
    char text[CNN_CHECKPOINT_VALUE_BYTES] = "none";
    if (options->augment > 0.0) {
        cnn_augment_recipe recipe;
        cnn_status status = cnn_augment_parse(options->augmentation, options->augment, data, &recipe);
        if (status != CNN_OK)
            return status;
        cnn_augment_print(&recipe, text, sizeof text);
    }
    tell(facts, "--augmentation", "%s", text);
    return CNN_OK;
}

/* Names of the frozen layers in the order of the network, however the option wrote them. */
static cnn_status tell_frozen(cnn_facts *facts, const cnn_model *model)
{
    char *names;
    cnn_status status = cnn_model_frozen(model, &names);
    if (status != CNN_OK)
        return status;
    if (strlen(names) < CNN_CHECKPOINT_VALUE_BYTES)
        tell(facts, "--freeze", "%s", names);
    else
        tell(facts, "--freeze", "%.80s... (checksum %08" PRIx32 ")", names, cnn_crc32c(0, names, strlen(names)));
    free(names);
    return CNN_OK;
}

/* Grids that weights train on, which files do not hold. */
static void tell_grids(cnn_facts *facts, const cnn_model *model)
{
    uint32_t crc = 0;
    int32_t most = 0;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_param *weight = &model->nodes[i].param[CNN_PARAM_WEIGHT];
        crc = cnn_crc32c(crc, &weight->levels, sizeof weight->levels);
        crc = cnn_crc32c(crc, &weight->step, sizeof weight->step);
        most = weight->levels > most ? weight->levels : most;
    }
    if (most > 0)
        tell(facts, "weights", "on grids of up to %d levels (checksum %08" PRIx32 ")", 2 * most + 1, crc);
}

/* Without the checksum at its end: that of anything followed by its own is always the same. */
static uint32_t checksum_of(const cnn_file_image *image)
{
    uint32_t crc = cnn_crc32c(0, image->head.data, image->head.length - 4);
    for (int i = 0; i < image->section_count; i++)
        crc = cnn_crc32c(crc, image->sections[i].data, image->sections[i].bytes);
    return crc;
}

/* What answers beside the labels. */
static cnn_status tell_teacher(cnn_facts *facts, const cnn_train_options *options)
{
    cnn_file_image image;
    char mix[32], temperature[32];
    if (!options->teacher)
        return CNN_OK;
    cnn_status status = cnn_file_encode(options->teacher, &(cnn_file_options){0}, &image);
    if (status != CNN_OK)
        return status;
    print_float(&options->distill, mix, sizeof mix);
    print_float(&options->temperature, temperature, sizeof temperature);
    tell(facts, "--distill", "%s at temperature %s from teacher %08" PRIx32, mix, temperature, checksum_of(&image));
    cnn_file_image_free(&image);
    return CNN_OK;
}

/* The checksum of the model as a file: metadata, names and weights at the start. */
static cnn_status tell_start(cnn_facts *facts, const cnn_model *model)
{
    cnn_file_image image;
    cnn_status status = cnn_file_encode(model, &(cnn_file_options){0}, &image);
    if (status != CNN_OK)
        return status;
    tell(facts, "start", "%08" PRIx32, checksum_of(&image));
    cnn_file_image_free(&image);
    return CNN_OK;
}

cnn_status cnn_facts_of_run(const cnn_model *model, const cnn_dataset *data, const cnn_train_options *options,
                            const cnn_session *session, cnn_facts *facts)
{
    char level[CNN_SESSION_LEVEL_BYTES], value[CNN_CHECKPOINT_VALUE_BYTES];
    facts->count = 0;
    tell(facts, "version", "%s", cnn_version());
    tell_data(facts, data);
    for (size_t i = 0; i < sizeof options_told / sizeof *options_told; i++) {
        options_told[i].print((const char *)options + options_told[i].offset, value, sizeof value);
        tell(facts, options_told[i].name, "%s", value);
    }
    cnn_status status = tell_augmentation(facts, data, options);
    if (status == CNN_OK)
        status = tell_frozen(facts, model);
    if (status == CNN_OK)
        status = tell_teacher(facts, options);
    if (status != CNN_OK)
        return status;
    tell_grids(facts, model);
    cnn_session_level(session, level);
    tell(facts, "device", "%s", level);
    return tell_start(facts, model);
}

/* ---- Differences ---- */

/* Sentences about facts that are no options: %s the path, %s of the checkpoint, %s of this run. */
static cnn_status explain(const char *path, const char *name, const char *then, const char *now)
{
    if (strcmp(name, "version") == 0)
        return cnn_error(CNN_ERR_SHAPE,
                         "%s: was written by cnnkit %s and this is %s, which may round differently; go on with the one "
                         "that wrote it, " ANEW,
                         path, then, now);
    if (strcmp(name, "data") == 0)
        return cnn_error(CNN_ERR_SHAPE,
                         "%s: the interrupted run trained on %s, this one on %s; give it the same --data, " ANEW, path,
                         then, now);
    if (strcmp(name, "images") == 0 || strcmp(name, "labels") == 0)
        return cnn_error(CNN_ERR_SHAPE,
                         "%s: the %s are not those that the interrupted run trained on: their checksum was %s and is "
                         "%s; give it the same data, " ANEW,
                         path, name, then, now);
    if (strcmp(name, "device") == 0)
        return cnn_error(
            CNN_ERR_SHAPE,
            "%s: the interrupted run computed on %s and this one computes on %s, which rounds differently; "
            "go on where it began, with its --device and CNN_CPU_ISA, " ANEW,
            path, then, now);
    if (strcmp(name, "start") == 0)
        return cnn_error(CNN_ERR_SHAPE,
                         "%s: the interrupted run began with another model, whose weights, name or words differ "
                         "(checksum %s, now %s); begin with the same one, " ANEW,
                         path, then, now);
    return cnn_error(CNN_ERR_SHAPE, "%s: the interrupted run had %s %s, this one has %s; give the same, " ANEW, path,
                     name, then, now);
}

static const cnn_fact *find(const cnn_facts *facts, const char *name)
{
    for (int i = 0; i < facts->count; i++)
        if (strcmp(facts->fact[i].name, name) == 0)
            return &facts->fact[i];
    return NULL;
}

cnn_status cnn_facts_compare(const cnn_facts *checkpoint, const cnn_facts *run, const char *path)
{
    for (int i = 0; i < run->count; i++) {
        const cnn_fact *now = &run->fact[i], *then = find(checkpoint, now->name);
        if (!then || strcmp(then->value, now->value) != 0)
            return explain(path, now->name, then ? then->value : "(none)", now->value);
    }
    for (int i = 0; i < checkpoint->count; i++)
        if (!find(run, checkpoint->fact[i].name))
            return explain(path, checkpoint->fact[i].name, checkpoint->fact[i].value, "none");
    return CNN_OK;
}

/* The first line from `text` on that is no comment; *length without its newline. */
static const char *next_layer(const char *text, int *length)
{
    for (;; text += *length + 1) {
        *length = (int)strcspn(text, "\n");
        if (*text != '#' || text[*length] == '\0')
            return text;
    }
}

cnn_status cnn_facts_compare_models(const cnn_model *checkpoint, const cnn_model *run, const char *path)
{
    cnn_status status = CNN_OK;
    char *then = NULL, *now = NULL;
    CNN_TRY(cnn_model_print(checkpoint, &then));
    CNN_TRY(cnn_model_print(run, &now));
    int length, other;
    const char *a = next_layer(then, &length), *b = next_layer(now, &other);
    while (*a || *b) {
        if (length != other || memcmp(a, b, (size_t)length) != 0)
            CNN_FAIL(CNN_ERR_SHAPE,
                     "%s: the interrupted run trained another network: it had '%.*s' where this one has '%.*s'; give "
                     "the same --model, " ANEW,
                     path, length, a, other, b);
        a = next_layer(a + length + (a[length] == '\n'), &length);
        b = next_layer(b + other + (b[other] == '\n'), &other);
    }
out:
    free(then);
    free(now);
    return status;
}
