/* Searching for the model that meets a goal: --max-drop, --target-size, --target-ms,
 * --target-macs, alone or together.
 *
 * From the given model on, in rounds: what may go, which is single weights and channels unless the user names one of
 * them or blocks, goes by a step from the best point so far, chosen over all layers together; the model is fine-tuned,
 * and what of it would be shipped, folded and in INT8 when the run makes that, is measured beside the given model on
 * the validation images: size, time, and the largest loss of accuracy that these images leave room for (promise.h).
 *
 *   with --max-drop    a round goes on from the first step that loses little enough: weights are tried before channels,
 *                      for they save most. What loses too much has its step halved, and after STEP_SIZES such failures
 *                      it is left alone; when all is, the search ends. The smallest good file is taken
 *   without            every kind of step is tried, and the round goes on from the point that lost least for what it
 *                      saves
 *   a target           ends the search with the first good point that meets it
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

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP_SIZES = 3 };

typedef struct explorer {
    opt_job *job;
    cnn_model *given;
    opt_front *front;
    bool *right; /* [validation images] what the given model answers */
    double epochs;
    double start;                /* of the search, in seconds */
    double step[OPT_STRUCTURES]; /* the share of what is left that goes next; 0: nothing of that kind */
    int failures[OPT_STRUCTURES];
    int made; /* points, in this run */
} explorer;

/* In the order of trying: what saves most. */
static const opt_structure order[] = {OPT_STRUCTURE_WEIGHT, OPT_STRUCTURE_BLOCK, OPT_STRUCTURE_CHANNEL};
enum { KINDS = sizeof order / sizeof *order };

static const double first_step[OPT_STRUCTURES] = {
    [OPT_STRUCTURE_CHANNEL] = 0.25, [OPT_STRUCTURE_BLOCK] = 0.25, [OPT_STRUCTURE_WEIGHT] = 0.5};

bool opt_has_goal(const opt_settings *settings)
{
    return settings->max_drop >= 0 || settings->target_size > 0 || settings->target_ms > 0 ||
           settings->target_macs > 0 || settings->pick >= 0;
}

/* ---- What points follow from ---- */

/* Of the model's file and of every option that changes a point; goals do not. */
static cnn_status make_key(const opt_job *job, uint32_t *key)
{
    cnn_status status = CNN_OK;
    const opt_settings *s = job->settings;
    cnn_input_file file = {0}, teacher = {0};
    char text[1024];
    const char *data = job->cli->common.data, *normalize = job->cli->common.normalize;
    CNN_TRY(cnn_input_open(&file, s->input, "a model", (uint64_t)1 << 34));
    snprintf(text, sizeof text, "%d %d %d %.17g %d %.17g %d %d %.17g %d %d %.17g %d %d %s %lld %.17g %.17g %s %s",
             s->int8, s->structure, s->criterion, s->finetune, s->optimizer, s->learning_rate, s->batch, s->amp,
             s->augment, s->pack, s->observer, s->percentile, s->bias_correction, s->equalization,
             s->bits ? s->bits : "", (long long)job->cli->common.seed, s->distill, s->temperature, data ? data : "",
             normalize ? normalize : "");
    if (s->adversarial > 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), " %.17g", s->adversarial);
    if (s->rate_schedule >= 0 || s->nesterov || s->weight_decay > 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), " r%d %d %.17g", s->rate_schedule, s->nesterov,
                 s->weight_decay);
    if (s->label_smoothing > 0)
        snprintf(text + strlen(text), sizeof text - strlen(text), " l%.17g", s->label_smoothing);
    if (s->augmentation)
        snprintf(text + strlen(text), sizeof text - strlen(text), " a%s", s->augmentation);
    if (s->teacher) {
        CNN_TRY(cnn_input_open(&teacher, s->teacher, "a model", (uint64_t)1 << 34));
        snprintf(text + strlen(text), sizeof text - strlen(text), " t%08" PRIx32,
                 cnn_crc32c(0, teacher.data, teacher.size));
    }
    *key = cnn_crc32c(cnn_crc32c(0, file.data, file.size), text, strlen(text));
out:
    cnn_input_close(&file);
    cnn_input_close(&teacher);
    return status;
}

/* "small-search" for "small.cnn" */
static void default_folder(const char *output, char *folder, size_t bytes)
{
    const char *slash = strrchr(output, '/'), *dot = strrchr(slash ? slash : output, '.');
    const size_t stem = dot && dot != output ? (size_t)(dot - output) : strlen(output);
    snprintf(folder, bytes, "%.*s-search", (int)stem, output);
}

/* ---- Progress ---- */

/* How many more points it takes from `now` to a goal, at the speed of the way from `first` in so many. */
static double points_to(double goal, int points, double first, double now, double unknown)
{
    if (goal <= 0 || now <= goal)
        return 0;
    return now < first ? points * log(now / goal) / log(first / now) : unknown;
}

/* Points that are still to come at least: every kind of step that is open ends in failures, and goals in bytes and MACs
 * are met at the speed of the way so far. */
static double points_left(const explorer *e, int number)
{
    const opt_settings *settings = e->job->settings;
    const cnn_measurement *first = &e->front->visits[0].figures, *now = &e->front->visits[number].figures;
    double points = 0;
    for (int s = 0; s < OPT_STRUCTURES; s++)
        points += e->step[s] > 0 ? STEP_SIZES - e->failures[s] : 0;
    if (number > 0 && (settings->target_size > 0 || settings->target_macs > 0))
        points = fmax(points_to((double)settings->target_size, number, (double)first->file_bytes,
                                (double)now->file_bytes, points),
                      points_to((double)settings->target_macs, number, (double)first->macs, (double)now->macs, points));
    return points;
}

static void tell(const explorer *e, int number)
{
    const opt_visit *visit = &e->front->visits[number];
    char bytes[CNN_UNIT_BYTES], spent[CNN_UNIT_BYTES], left[CNN_UNIT_BYTES], how[80] = "";
    const double seconds = cnn_clock() - e->start;
    if (visit->structure >= 0)
        snprintf(how, sizeof how, "%.3g %% of the %ss of point %d gone, ", 100 * visit->step,
                 opt_structure_name(visit->structure), visit->from);
    cnn_message_notice(e->job->cli,
                       "point %d: %s%.3g %% of the weights left, %.2f %% of the validation images right, at most %.2f "
                       "points lost, %s, %.3g ms per image; %s so far, %s or more "
                       "left",
                       number, how, 100 * (1 - visit->share), 100 * visit->figures.accuracy,
                       100 * cnn_paired_bound(&visit->paired), cnn_format_bytes(bytes, visit->figures.file_bytes),
                       visit->figures.ms_per_image, cnn_format_time(spent, seconds),
                       cnn_format_time(left, points_left(e, number) * seconds / e->made));
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

static cnn_criterion criterion_for(const opt_settings *settings, int structure)
{
    const bool channels = structure == OPT_STRUCTURE_CHANNEL;
    const int unsuitable = channels ? CNN_CRITERION_LAMP : CNN_CRITERION_BN;
    if (settings->criterion >= 0 && settings->criterion != unsuitable)
        return (cnn_criterion)settings->criterion;
    return channels ? CNN_CRITERION_TAYLOR : CNN_CRITERION_LAMP;
}

/* The share of all weights that is 0 when a share of those other than 0 has gone too. */
static double share_of_all(const cnn_model *model, double of_live)
{
    int64_t count = 0;
    for (int i = 0; i < model->node_count; i++)
        if (cnn_node_has_weights(&model->nodes[i]))
            count += cnn_desc_elements(&model->nodes[i].param[CNN_PARAM_WEIGHT].desc);
    return 1 - (1 - of_live) * (double)opt_live_weights(model) / (double)count;
}

/* Takes a step from the job's model: a share of the channels that are left, or of the weights; *removed: weights that
 * went. */
static cnn_status shrink(explorer *e, int structure, double step, int64_t *removed)
{
    cnn_model *model = e->job->model;
    const int64_t before = opt_live_weights(model);
    const cnn_prune_options options = {.ratio = structure == OPT_STRUCTURE_CHANNEL ? step : share_of_all(model, step),
                                       .global = true,
                                       .criterion = criterion_for(e->job->settings, structure),
                                       .on_the_way = true,
                                       .seed = (uint64_t)e->job->cli->common.seed,
                                       .data = e->job->data,
                                       .device = e->job->cli->common.device};
    cnn_status status = opt_prune_function((opt_structure)structure)(model, &options, NULL);
    *removed = before - opt_live_weights(model);
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

/* Measures what the job's float model becomes, and keeps it as a new point. */
static cnn_status keep(explorer *e, int from, int structure, double step)
{
    cnn_status status = CNN_OK;
    opt_job *job = e->job;
    opt_visit visit = {.from = from, .structure = structure, .step = step};
    visit.share = 1 - (double)opt_live_weights(job->model) / (double)opt_live_weights(e->given);
    const int number = e->front->count;
    char path[1100];
    opt_front_model(e->front, number, path, sizeof path);
    CNN_TRY(cnn_model_save_packed(job->model, path, CNN_PACK_AUTO, NULL));
    CNN_TRY(finish(e, NULL, NULL));
    CNN_TRY(cnn_measure(job->model, (cnn_pack)job->settings->pack, job->data, job->split.validation,
                        job->split.validation_count, job->cli->common.device, NULL, NULL, &visit.figures));
    CNN_TRY(compare(e, &visit.paired));
    CNN_TRY(opt_front_add(e->front, &visit));
    e->made++;
    tell(e, number);
out:
    return status;
}

/* Goes a step from a point; *number: the point that it leads to, -1: nothing more can be removed. */
static cnn_status visit(explorer *e, int from, int structure, double step, int *number)
{
    cnn_status status = CNN_OK;
    int64_t removed = 1;
    *number = opt_front_find(e->front, from, structure, step);
    if (*number >= 0) {
        cnn_message_detail(e->job->cli, "point %d is known", *number);
        return CNN_OK;
    }
    CNN_TRY(load(e, from));
    if (structure >= 0) {
        CNN_TRY(shrink(e, structure, step, &removed));
        if (removed == 0)
            goto out;
        CNN_TRY(train(e, e->front->count));
    }
    const int next = e->front->count;
    CNN_TRY(keep(e, from, structure, step));
    *number = next;
out:
    return status;
}

/* ---- Rounds ---- */

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
           (settings->target_ms <= 0 || figures->ms_per_image <= settings->target_ms) &&
           (settings->target_macs <= 0 || figures->macs <= settings->target_macs);
}

static bool has_target(const opt_settings *settings)
{
    return settings->target_size > 0 || settings->target_ms > 0 || settings->target_macs > 0;
}

/* What a point lost of the accuracy, beside what it saved of the bytes. */
static double price(const explorer *e, int number)
{
    const opt_visit *visits = e->front->visits;
    const double saved = log((double)visits[0].figures.file_bytes / (double)visits[number].figures.file_bytes);
    return saved > 0 ? cnn_paired_bound(&visits[number].paired) / saved : INFINITY;
}

/* Takes steps from a point. *best: where the next round begins, -1: nothing was good enough. */
static cnn_status round_from(explorer *e, int from, int *best)
{
    cnn_status status = CNN_OK;
    const bool first_will_do = e->job->settings->max_drop >= 0;
    *best = -1;
    for (int i = 0; i < KINDS && !(first_will_do && *best >= 0); i++) {
        const int s = (int)order[i];
        int number;
        if (e->step[s] <= 0)
            continue;
        CNN_TRY(visit(e, from, s, e->step[s], &number));
        if (number < 0)
            e->step[s] = 0;
        else if (!good_enough(e, number))
            e->step[s] = ++e->failures[s] < STEP_SIZES ? e->step[s] / 2 : 0;
        else if (*best < 0 || price(e, number) < price(e, *best))
            *best = number;
    }
out:
    return status;
}

static bool is_open(const explorer *e)
{
    for (int s = 0; s < OPT_STRUCTURES; s++)
        if (e->step[s] > 0)
            return true;
    return false;
}

/* Single weights cost no time, so goals in milliseconds or MACs take channels alone. */
static void open_steps(explorer *e)
{
    const opt_settings *settings = e->job->settings;
    for (int s = 0; s < OPT_STRUCTURES; s++)
        if (settings->structure >= 0
                ? s == settings->structure
                : s == OPT_STRUCTURE_CHANNEL ||
                      (s == OPT_STRUCTURE_WEIGHT && settings->target_ms <= 0 && settings->target_macs <= 0))
            e->step[s] = first_step[s];
}

static cnn_status walk(explorer *e)
{
    cnn_status status = CNN_OK;
    int at, best;
    open_steps(e);
    CNN_TRY(visit(e, -1, -1, 0, &at));
    while (is_open(e) && e->front->count + OPT_STRUCTURES <= OPT_MOST_POINTS) {
        if (has_target(e->job->settings) && meets_targets(e, at))
            break;
        CNN_TRY(round_from(e, at, &best));
        at = best >= 0 ? best : at;
    }
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
    char bytes[CNN_UNIT_BYTES], macs[CNN_UNIT_BYTES];
    if (settings->max_drop >= 0 && !good_enough(e, closest))
        return cnn_error(
            CNN_ERR_NUMERIC,
            "cannot promise a loss of at most %g points: of %d models the best may lose %.2f (%d of %d "
            "validation images answered worse, %d better); allow more, or fine-tune longer with --finetune",
            settings->max_drop, e->front->count, 100 * cnn_paired_bound(&close->paired), (int)close->paired.broken,
            (int)images, (int)close->paired.mended);
    return cnn_error(
        CNN_ERR_NUMERIC,
        "no model met the goals: the smallest of %d has %s, %s MACs and takes %.3g ms per image%s; ask for less, "
        "or "
        "take one of %s with --pick",
        e->front->count, cnn_format_bytes(bytes, small->figures.file_bytes),
        cnn_format_count(macs, small->figures.macs), small->figures.ms_per_image,
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
