/* Gathering what reports tell. Everything that is measured here follows from model, data, seed and instruction set, but
 * for nothing that takes time: times come from the account. */
#include "optimize/facts.h"

#include "cli/progress.h"
#include "core/error.h"
#include "core/file.h"
#include "core/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool opt_facts_wanted(const opt_settings *settings)
{
    return settings->report || settings->explain;
}

cnn_status opt_facts_begin(opt_job *job)
{
    return opt_facts_wanted(job->settings) ? cnn_model_clone(job->model, &job->given) : CNN_OK;
}

/* ---- The run ---- */

/* True when a shell takes the word as it is. */
static bool is_plain(const char *word)
{
    return *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_")];
}

static void append_word(cnn_text *text, const char *word)
{
    if (is_plain(word)) {
        cnn_text_append(text, " %s", word);
        return;
    }
    cnn_text_append(text, " '");
    for (const char *c = word; *c; c++) {
        if (*c == '\'')
            cnn_text_append(text, "'\\''");
        else
            cnn_text_append(text, "%c", *c);
    }
    cnn_text_append(text, "'");
}

static cnn_status describe_run(opt_job *job, opt_facts *facts)
{
    cnn_text command = {0};
    cnn_text_append(&command, "%s", job->cli->tool->name);
    for (int i = 1; i < job->cli->argc; i++)
        append_word(&command, job->cli->argv[i]);
    facts->command = command.data;
    if (command.failed)
        return CNN_ERR_MEMORY;
    snprintf(facts->model, sizeof facts->model, "%s", job->model->name);
    const char *data = job->cli->common.data ? job->cli->common.data : cnn_dataset_name(job->data->id);
    snprintf(facts->data, sizeof facts->data, "%s", data ? data : "");
    return CNN_OK;
}

static opt_point point_of(const cnn_measurement *figures, const char *name)
{
    opt_point point = {.accuracy = figures->accuracy,
                       .file_bytes = figures->file_bytes,
                       .macs = figures->macs,
                       .ms_per_image = figures->ms_per_image,
                       .share = NAN,
                       .drop_at_most = NAN};
    snprintf(point.name, sizeof point.name, "%s", name);
    return point;
}

static void list_passes(const opt_account *account, opt_facts *facts)
{
    for (int i = 0; i < account->stage_count; i++) {
        opt_point *point = &facts->points[facts->point_count++];
        *point = point_of(&account->stages[i].figures, account->stages[i].name);
        snprintf(point->label, sizeof point->label, "%d", i + 1);
        point->chosen = i == account->stage_count - 1;
    }
}

static void list_search(const opt_account *account, opt_facts *facts)
{
    char name[32];
    facts->points[facts->point_count] = point_of(&account->stages[0].figures, account->stages[0].name);
    snprintf(facts->points[facts->point_count++].label, sizeof facts->points->label, "given");
    for (int i = 0; i < account->front->count; i++) {
        const opt_visit *visit = &account->front->visits[i];
        opt_point *point = &facts->points[facts->point_count++];
        snprintf(name, sizeof name, "point %d", i);
        *point = point_of(&visit->figures, name);
        snprintf(point->label, sizeof point->label, "%d", i);
        point->chosen = i == account->chosen;
        point->share = visit->share;
        point->drop_at_most = cnn_paired_bound(&visit->paired);
    }
}

static cnn_status list_points(opt_job *job, opt_facts *facts)
{
    const opt_account *account = job->account;
    const int most = account->front ? 1 + account->front->count : account->stage_count;
    facts->points = cnn_calloc((size_t)most, sizeof *facts->points);
    if (!facts->points)
        return CNN_ERR_MEMORY;
    (account->front ? list_search : list_passes)(account, facts);
    return CNN_OK;
}

/* ---- Layers ---- */

/* What the layers take in the file of a model; *other: the rest of it. */
static cnn_status measure_bytes(const opt_job *job, const cnn_model *model, cnn_pack pack, bool before, int64_t *other)
{
    cnn_status status = CNN_OK;
    cnn_file_image image = {0};
    const opt_account *account = job->account;
    CNN_TRY(cnn_file_encode(model, &(cnn_file_options){.pack = pack}, &image));
    *other = (int64_t)cnn_file_image_bytes(&image);
    for (int i = 0; i < account->layer_count; i++) {
        opt_layer_facts *layer = &account->facts->layers[i];
        int node = cnn_model_find(model, account->layers[i].name);
        if (node < 0)
            continue;
        int64_t bytes = (int64_t)image.node_bytes[node];
        *(before ? &layer->bytes_before : &layer->bytes) = bytes;
        *other -= bytes;
    }
out:
    cnn_file_image_free(&image);
    return status;
}

/* Both histograms of a layer end where the wider one does, unless few weights are out there: at six deviations. */
static void make_histograms(opt_layer_facts *layer, const cnn_param *before, const cnn_param *after)
{
    const double deviations = 6;
    cnn_histogram_make(before, 0, &layer->before);
    cnn_histogram_make(after, 0, &layer->after);
    double limit = fmax(fmin(layer->before.largest, deviations * layer->before.deviation),
                        fmin(layer->after.largest, deviations * layer->after.deviation));
    cnn_histogram_make(before, limit, &layer->before);
    cnn_histogram_make(after, limit, &layer->after);
}

/* given: with its batch norms folded, where that can be done. */
static void look_at_weights(const opt_job *job, const cnn_model *given)
{
    const opt_account *account = job->account;
    for (int i = 0; i < account->layer_count; i++) {
        opt_layer_facts *layer = &account->facts->layers[i];
        int before = cnn_model_find(given, account->layers[i].name);
        int after = cnn_model_find(job->model, account->layers[i].name);
        if (before < 0 || after < 0)
            continue;
        const cnn_param *old = &given->nodes[before].param[CNN_PARAM_WEIGHT];
        const cnn_param *new = &job->model->nodes[after].param[CNN_PARAM_WEIGHT];
        layer->weight_before = old->desc;
        layer->weight = new->desc;
        make_histograms(layer, old, new);
    }
}

static cnn_status describe_layers(opt_job *job, opt_facts *facts)
{
    cnn_status status = CNN_OK;
    cnn_model *folded = NULL;
    facts->layers = cnn_calloc((size_t)job->account->layer_count, sizeof *facts->layers);
    if (!facts->layers)
        return CNN_ERR_MEMORY;
    CNN_TRY(measure_bytes(job, job->given, CNN_PACK_AUTO, true, &facts->other_bytes_before));
    CNN_TRY(measure_bytes(job, job->model, (cnn_pack)job->settings->pack, false, &facts->other_bytes));
    CNN_TRY(cnn_model_clone(job->given, &folded));
    status = cnn_fold_batchnorm(folded);
    if (status != CNN_ERR_UNSUPPORTED)
        CNN_TRY(status);
    status = CNN_OK;
    look_at_weights(job, folded);
out:
    cnn_model_free(folded);
    return status;
}

/* ---- Sensitivity ---- */

static void name_trial(opt_facts *facts, const char *key, const char *name)
{
    opt_trial *trial = &facts->trials[facts->trial_count++];
    snprintf(trial->key, sizeof trial->key, "%s", key);
    snprintf(trial->name, sizeof trial->name, "%s", name);
}

/* Rounding to 8 and 4 bits, and pruning as the run prunes. */
static void choose_trials(const opt_job *job, opt_facts *facts, cnn_trial *trials)
{
    const opt_settings *settings = job->settings;
    char name[64];
    const bool mixed = job->account->front && settings->structure <= OPT_STRUCTURE_CHANNEL;
    const double share = mixed ? 0 : opt_pruned_share(settings, job->account); /* of weights is not of channels */
    cnn_prune_options pruning = {.ratio = share > 0 ? share : OPT_PRUNE_PER_CENT / 100.0,
                                 .seed = (uint64_t)job->cli->common.seed,
                                 .data = job->data,
                                 .device = job->cli->common.device};
    if (settings->criterion >= 0)
        pruning.criterion = (cnn_criterion)settings->criterion;
    else if (job->account->front)
        pruning.criterion = CNN_CRITERION_TAYLOR; /* as searches do */
    trials[0] = (cnn_trial){.bits = 8};
    trials[1] = (cnn_trial){.bits = 4};
    trials[2] = (cnn_trial){.prune = opt_prune_function((opt_structure)opt_structure_of(settings)), .pruning = pruning};
    name_trial(facts, "weights_8_bits", "weights in 8 bits");
    name_trial(facts, "weights_4_bits", "weights in 4 bits");
    snprintf(name, sizeof name, "%.3g %% of its %s pruned", 100 * pruning.ratio, opt_prune_unit(settings));
    name_trial(facts, "pruned", name);
}

static cnn_status find_sensitivity(opt_job *job, opt_facts *facts, cnn_measure_fn progress, void *context)
{
    cnn_status status = CNN_OK;
    cnn_trial trials[OPT_MOST_TRIALS];
    cnn_effect *effects = NULL;
    int32_t *index = NULL;
    choose_trials(job, facts, trials);
    CNN_TRY(cnn_sensitivity_pick(&job->split, OPT_TRIAL_IMAGES, (uint64_t)job->cli->common.seed, &index,
                                 &facts->trial_images));
    if (facts->trial_images == 0)
        goto out;
    effects = cnn_calloc((size_t)job->given->node_count * OPT_MOST_TRIALS, sizeof *effects);
    if (!effects)
        CNN_TRY(CNN_ERR_MEMORY);
    const cnn_image_list images = {job->data, index, facts->trial_images};
    CNN_TRY(cnn_sensitivity(job->given, &images, trials, OPT_MOST_TRIALS, job->cli->common.device, progress, context,
                            effects, &facts->trial_right));
    for (int i = 0; i < job->account->layer_count; i++) {
        int node = cnn_model_find(job->given, job->account->layers[i].name);
        for (int t = 0; t < facts->trial_count && node >= 0; t++)
            facts->layers[i].effect[t] = effects[node * OPT_MOST_TRIALS + t];
    }
out:
    free(effects);
    free(index);
    return status;
}

/* ---- All of it ---- */

typedef struct facts_watch {
    cnn_progress progress;
    double before; /* images of the steps that are done */
    int32_t last;  /* of the present one; a smaller number begins the next */
} facts_watch;

static void show_images(void *context, int32_t done)
{
    facts_watch *watch = context;
    watch->before += done < watch->last ? watch->last : 0;
    watch->last = done;
    cnn_progress_update(&watch->progress, watch->before + done, NULL);
}

static cnn_status gather(opt_job *job, opt_facts *facts)
{
    cnn_status status = CNN_OK;
    facts_watch watch = {0};
    const int32_t validation = job->split.validation_count;
    const int32_t tried = validation < OPT_TRIAL_IMAGES ? validation : OPT_TRIAL_IMAGES;
    cnn_progress_begin(&watch.progress, job->cli, "look into it",
                       2.0 * validation + tried * (1.0 + OPT_MOST_TRIALS * job->account->layer_count), "images");
    CNN_TRY(describe_run(job, facts));
    CNN_TRY(list_points(job, facts));
    CNN_TRY(describe_layers(job, facts));
    CNN_TRY(opt_facts_answers(job, show_images, &watch));
    CNN_TRY(find_sensitivity(job, facts, show_images, &watch));
    opt_explain(job->settings, job->account, facts, &facts->explanation);
    if (facts->explanation.failed)
        status = CNN_ERR_MEMORY;
out:
    cnn_progress_end(&watch.progress);
    return status;
}

cnn_status opt_facts_end(opt_job *job)
{
    if (!job->given)
        return CNN_OK;
    job->account->facts = cnn_calloc(1, sizeof *job->account->facts);
    return job->account->facts ? gather(job, job->account->facts) : CNN_ERR_MEMORY;
}

void opt_facts_free(opt_facts *facts)
{
    if (!facts)
        return;
    for (int i = 0; i < facts->picture_count; i++)
        free(facts->pictures[i].png);
    free(facts->command);
    free(facts->points);
    free(facts->layers);
    free(facts->class_names);
    free(facts->confusion_before);
    free(facts->confusion);
    cnn_text_free(&facts->explanation);
    free(facts);
}
