/* Searching for the model that meets a goal: --max-drop, --target-size, --target-ms, alone or together.
 *
 * A path of ever smaller models: each one begins with the weights of the one before, loses a part of what is left of
 * its channels (or weights, or blocks), chosen over all layers together, and is fine-tuned. What of it would be
 * shipped, folded and in INT8 when the run makes that, is measured beside the given model on the validation images:
 * size, time, and the largest loss of accuracy that these images leave room for (promise.h).
 *
 *   a target alone          the path ends with the first model that meets it
 *   with --max-drop         ... which must also be good enough; two in a row that are not end the path
 *   --max-drop alone        the path goes on until two in a row are not good enough. The way between the last good one
 *                           and the next is halved REFINEMENTS times. Of all good ones the smallest file is taken
 *
 * Every point is kept (front.h), so that the same command goes on after an interruption, another goal costs only what
 * it needs beyond, and --pick takes another point. */
#include "optimize/facts.h"
#include "optimize/front.h"

#include "cli/message.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "core/crc32c.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/input_file.h"
#include "core/memory.h"
#include "core/model.h"
#include "optimize/answers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_STEPS = 24, BAD_IN_A_ROW = 2, REFINEMENTS = 2 };
static const double most_share = 0.99, least_step = 0.005;

typedef struct explorer {
    opt_job *job;
    cnn_model *given;
    opt_front *front;
    bool *right; /* [validation images] what the given model answers */
    double epochs;
    double start; /* of the search, in seconds */
} explorer;

/* What a step leaves of what there is, in the order of opt_structure. */
static const double left_by_step[] = {0.75, 0.75, 0.5};

bool opt_has_goal(const opt_settings *settings)
{
    return settings->max_drop >= 0 || settings->target_size > 0 || settings->target_ms > 0 || settings->pick >= 0;
}

/* ---- What points follow from ---- */

/* Of the model's file and of every option that changes a point; goals do not. */
static cnn_status make_key(const opt_job *job, uint32_t *key)
{
    cnn_status status = CNN_OK;
    const opt_settings *s = job->settings;
    cnn_input_file file = {0};
    char text[512];
    const char *data = job->cli->common.data, *normalize = job->cli->common.normalize;
    CNN_TRY(cnn_input_open(&file, s->input, "a model", (uint64_t)1 << 34));
    snprintf(text, sizeof text, "%d %d %d %.17g %d %.17g %d %d %.17g %d %d %.17g %d %lld %.17g %.17g %s %s", s->int8,
             opt_structure_of(s), s->criterion, s->finetune, s->optimizer, s->learning_rate, s->batch, s->amp,
             s->augment, s->pack, s->observer, s->percentile, s->bias_correction, (long long)job->cli->common.seed,
             s->distill, s->temperature, data ? data : "", normalize ? normalize : "");
    *key = cnn_crc32c(cnn_crc32c(0, file.data, file.size), text, strlen(text));
out:
    cnn_input_close(&file);
    return status;
}

/* "small-search" for "small.cnn" */
static void default_folder(const char *output, char *folder, size_t bytes)
{
    const char *slash = strrchr(output, '/'), *dot = strrchr(slash ? slash : output, '.');
    const size_t stem = dot && dot != output ? (size_t)(dot - output) : strlen(output);
    snprintf(folder, bytes, "%.*s-search", (int)stem, output);
}

/* ---- One point ---- */

static cnn_status answer(explorer *e, cnn_model *model, bool *right)
{
    cnn_status status = CNN_OK;
    const opt_job *job = e->job;
    const cnn_image_list images = {job->data, job->split.validation, job->split.validation_count};
    const int32_t classes = cnn_model_output(model).c;
    cnn_session *session = NULL;
    float *logits = cnn_calloc((size_t)images.count * (size_t)classes + 1, sizeof *logits);
    if (!logits)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = job->cli->common.device}, &session));
    CNN_TRY(cnn_answers_logits(session, &images, classes, NULL, NULL, logits));
    for (int32_t i = 0; i < images.count; i++)
        right[i] = cnn_answers_best(logits + (int64_t)i * classes, classes) == job->data->labels[images.index[i]];
out:
    cnn_session_close(session);
    free(logits);
    return status;
}

/* Compares the job's model with the given one. */
static cnn_status compare(explorer *e, cnn_paired *paired)
{
    cnn_status status = CNN_OK;
    const int32_t images = e->job->split.validation_count;
    bool *right = cnn_calloc((size_t)images + 1, sizeof *right);
    if (!right)
        return CNN_ERR_MEMORY;
    *paired = (cnn_paired){.images = images};
    CNN_TRY(answer(e, e->job->model, right));
    for (int32_t i = 0; i < images; i++) {
        paired->broken += e->right[i] && !right[i];
        paired->mended += !e->right[i] && right[i];
    }
out:
    free(right);
    return status;
}

/* Makes of the job's model what would be shipped. */
static cnn_status finish(explorer *e, cnn_quantize_row **rows, int *row_count)
{
    cnn_status status = CNN_OK;
    bool folded;
    CNN_TRY(opt_fold(e->job, &folded));
    CNN_TRY(opt_remove_dead(e->job));
    if (e->job->settings->int8)
        CNN_TRY(opt_quantize(e->job, rows, row_count));
out:
    return status;
}

/* Loads the float model of a point into the job; -1: the given one. */
static cnn_status load(explorer *e, int number)
{
    char path[1100];
    cnn_model_free(e->job->model);
    e->job->model = NULL;
    if (number < 0)
        return cnn_model_clone(e->given, &e->job->model);
    opt_front_model(e->front, number, path, sizeof path);
    return cnn_model_load(path, &e->job->model);
}

/* Prunes the job's model to a share of the given one; *removed: whether anything more goes. */
static cnn_status shrink(explorer *e, double share, bool *removed)
{
    const opt_settings *settings = e->job->settings;
    const int structure = opt_structure_of(settings);
    cnn_prune_result result = {0};
    cnn_prune_options options = {.ratio = share, .global = true, .on_the_way = true};
    options.criterion = settings->criterion >= 0             ? (cnn_criterion)settings->criterion
                        : structure == OPT_STRUCTURE_CHANNEL ? CNN_CRITERION_TAYLOR
                                                             : CNN_CRITERION_LAMP;
    options.original = structure == OPT_STRUCTURE_CHANNEL ? e->given : NULL;
    options.seed = (uint64_t)e->job->cli->common.seed;
    options.data = e->job->data;
    options.device = e->job->cli->common.device;
    const int64_t before = opt_live_weights(e->job->model);
    cnn_status status = opt_prune_function(settings)(e->job->model, &options, &result);
    *removed = status == CNN_OK && opt_live_weights(e->job->model) < before;
    return status;
}

static cnn_status train(explorer *e, int number)
{
    cnn_train_options options;
    char label[32];
    if (e->epochs <= 0)
        return CNN_OK;
    opt_train_options(e->job, e->epochs, &options);
    options.seed = cnn_hash(options.seed, CNN_PURPOSE_PRUNE, (uint64_t)number, 0); /* other images first */
    snprintf(label, sizeof label, "point %d", number);
    return opt_train(e->job, &options, label);
}

static void tell(const explorer *e, int number)
{
    const opt_visit *visit = &e->front->visits[number];
    char bytes[CNN_UNIT_BYTES], spent[CNN_UNIT_BYTES];
    cnn_message_notice(
        e->job->cli,
        "point %d: %.0f %% removed, %.2f %% of the validation images right, at most %.2f points lost, %s, %.3g ms "
        "per image; %s so far",
        number, 100 * visit->share, 100 * visit->figures.accuracy, 100 * cnn_paired_bound(&visit->paired),
        cnn_format_bytes(bytes, visit->figures.file_bytes), visit->figures.ms_per_image,
        cnn_format_time(spent, cnn_clock() - e->start));
}

/* Measures what the job's float model becomes, and keeps it as a new point. */
static cnn_status keep(explorer *e, int from, double share)
{
    cnn_status status = CNN_OK;
    opt_job *job = e->job;
    opt_visit visit = {.from = from, .share = share};
    const int number = e->front->count;
    char path[1100];
    opt_front_model(e->front, number, path, sizeof path);
    CNN_TRY(cnn_model_save_packed(job->model, path, CNN_PACK_AUTO, NULL));
    CNN_TRY(finish(e, NULL, NULL));
    CNN_TRY(cnn_measure(job->model, (cnn_pack)job->settings->pack, job->data, job->split.validation,
                        job->split.validation_count, job->cli->common.device, NULL, NULL, &visit.figures));
    CNN_TRY(compare(e, &visit.paired));
    CNN_TRY(opt_front_add(e->front, &visit));
    tell(e, number);
out:
    return status;
}

/* Goes from a point to one with that share; *number: which it is, -1: nothing more can be removed. */
static cnn_status visit(explorer *e, int from, double share, int *number)
{
    cnn_status status = CNN_OK;
    bool removed = true;
    *number = opt_front_find(e->front, from, share);
    if (*number >= 0) {
        cnn_message_detail(e->job->cli, "point %d is known", *number);
        return CNN_OK;
    }
    CNN_TRY(load(e, from));
    if (share > 0) {
        CNN_TRY(shrink(e, share, &removed));
        if (!removed)
            goto out;
        CNN_TRY(train(e, e->front->count));
    }
    const int next = e->front->count;
    CNN_TRY(keep(e, from, share));
    *number = next;
out:
    return status;
}

/* ---- The path ---- */

static bool good_enough(const explorer *e, int number)
{
    const double most = e->job->settings->max_drop;
    return most < 0 || cnn_paired_bound(&e->front->visits[number].paired) <= most / 100;
}

static bool meets_targets(const explorer *e, int number)
{
    const opt_settings *settings = e->job->settings;
    const cnn_measurement *figures = &e->front->visits[number].figures;
    return (settings->target_size <= 0 || figures->file_bytes <= settings->target_size) &&
           (settings->target_ms <= 0 || figures->ms_per_image <= settings->target_ms);
}

static bool has_target(const opt_settings *settings)
{
    return settings->target_size > 0 || settings->target_ms > 0;
}

/* Between the last good point and the one behind it. */
static cnn_status refine(explorer *e, int good, int bad)
{
    cnn_status status = CNN_OK;
    double low = e->front->visits[good].share, high = e->front->visits[bad].share;
    for (int i = 0; i < REFINEMENTS && high - low > least_step; i++) {
        const double middle = (low + high) / 2;
        int number;
        CNN_TRY(visit(e, good, middle, &number));
        if (number < 0)
            break;
        if (good_enough(e, number)) {
            good = number;
            low = middle;
        } else {
            high = middle;
        }
    }
out:
    return status;
}

static cnn_status walk(explorer *e)
{
    cnn_status status = CNN_OK;
    const opt_settings *settings = e->job->settings;
    double left = 1;
    int from = -1, good = -1, bad = 0, first_bad = -1;
    for (int step = 0; step < MOST_STEPS; step++) {
        int number;
        CNN_TRY(visit(e, from, 1 - left, &number));
        if (number < 0)
            break;
        if (has_target(settings) && meets_targets(e, number))
            goto out;
        if (good_enough(e, number)) {
            good = number;
            bad = 0;
            first_bad = -1;
        } else {
            first_bad = bad++ == 0 ? number : first_bad;
        }
        if (bad == BAD_IN_A_ROW || 1 - left * left_by_step[opt_structure_of(settings)] > most_share)
            break;
        from = number;
        left *= left_by_step[opt_structure_of(settings)];
    }
    if (!has_target(settings) && good >= 0 && first_bad >= 0)
        CNN_TRY(refine(e, good, first_bad));
out:
    return status;
}

/* The smallest file of those that meet every goal; -1: none does. */
static int choose(const explorer *e)
{
    int best = -1;
    for (int i = 0; i < e->front->count; i++)
        if (good_enough(e, i) && meets_targets(e, i) &&
            (best < 0 || e->front->visits[i].figures.file_bytes < e->front->visits[best].figures.file_bytes))
            best = i;
    return best;
}

/* Says why no point will do. */
static cnn_status refuse(const explorer *e)
{
    const opt_settings *settings = e->job->settings;
    const int32_t images = e->job->split.validation_count;
    int smallest = 0, closest = 0;
    for (int i = 1; i < e->front->count; i++) {
        const opt_visit *visit = &e->front->visits[i];
        if (visit->figures.file_bytes < e->front->visits[smallest].figures.file_bytes)
            smallest = i;
        if (cnn_paired_bound(&visit->paired) < cnn_paired_bound(&e->front->visits[closest].paired))
            closest = i;
    }
    const opt_visit *close = &e->front->visits[closest], *small = &e->front->visits[smallest];
    char bytes[CNN_UNIT_BYTES];
    if (settings->max_drop >= 0 && !good_enough(e, closest))
        return cnn_error(
            CNN_ERR_NUMERIC,
            "cannot promise a loss of at most %g points: of %d models the best may lose %.2f (%d of %d "
            "validation images answered worse, %d better); allow more, or fine-tune longer with --finetune",
            settings->max_drop, e->front->count, 100 * cnn_paired_bound(&close->paired), (int)close->paired.broken,
            (int)images, (int)close->paired.mended);
    return cnn_error(
        CNN_ERR_NUMERIC,
        "no model met the goals: the smallest of %d has %s and takes %.3g ms per image%s; ask for less, or "
        "take one of %s with --pick",
        e->front->count, cnn_format_bytes(bytes, small->figures.file_bytes), small->figures.ms_per_image,
        good_enough(e, smallest) ? "" : ", but loses too much", e->front->folder);
}

/* ---- The pass ---- */

static cnn_status deliver(explorer *e, int number)
{
    cnn_status status = CNN_OK;
    opt_job *job = e->job;
    cnn_quantize_row *rows = NULL;
    int row_count = 0;
    CNN_TRY(load(e, number));
    CNN_TRY(finish(e, &rows, &row_count));
    CNN_TRY(opt_measure(job, "point %d of the search", number));
    opt_account_end(job, rows, row_count);
    CNN_TRY(opt_save(job));
out:
    free(rows);
    return status;
}

/* Opens the folder; what cannot be done is refused before any work. */
static cnn_status open_front(explorer *e)
{
    cnn_status status = CNN_OK;
    opt_job *job = e->job;
    const opt_settings *settings = job->settings;
    char folder[1100];
    uint32_t key;
    if (settings->max_drop >= 0 && job->split.validation_count == 0)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "--max-drop compares answers to validation images, and this data has none");
    default_folder(settings->output, folder, sizeof folder);
    e->front = job->account->front = cnn_calloc(1, sizeof *e->front);
    if (!e->front)
        return CNN_ERR_MEMORY;
    CNN_TRY(make_key(job, &key));
    CNN_TRY(opt_front_open(e->front, settings->search ? settings->search : folder, key));
    if (settings->pick >= e->front->count)
        CNN_FAIL(CNN_ERR_USAGE, "--pick %d: %s holds %d points, numbered from 0", settings->pick, e->front->folder,
                 e->front->count);
out:
    return status;
}

static cnn_status begin(explorer *e)
{
    cnn_status status = CNN_OK;
    e->right = cnn_calloc((size_t)e->job->split.validation_count + 1, sizeof *e->right);
    if (!e->right)
        return CNN_ERR_MEMORY;
    CNN_TRY(opt_facts_begin(e->job));
    CNN_TRY(opt_account_begin(e->job));
    CNN_TRY(opt_measure(e->job, "as given"));
    CNN_TRY(cnn_model_clone(e->job->model, &e->given));
    CNN_TRY(answer(e, e->given, e->right));
out:
    return status;
}

cnn_status opt_explore(opt_job *job)
{
    cnn_status status = CNN_OK;
    const opt_settings *settings = job->settings;
    explorer e = {.job = job, .start = cnn_clock()};
    e.epochs = settings->finetune >= 0 ? settings->finetune : 1;
    CNN_TRY(open_front(&e));
    CNN_TRY(begin(&e));
    if (settings->pick < 0)
        CNN_TRY(walk(&e));
    job->account->chosen = settings->pick >= 0 ? settings->pick : choose(&e);
    if (job->account->chosen < 0)
        CNN_TRY(refuse(&e));
    CNN_TRY(deliver(&e, job->account->chosen));
    CNN_TRY(opt_facts_end(job));
out:
    cnn_model_free(e.given);
    free(e.right);
    return status;
}
