/* Pruning and the fine-tuning that belongs to it, at once or in steps:
 *
 *   one-shot   prune the share R, then fine-tune
 *   iterative  N times: prune to the share R*i/N, then fine-tune for a N-th of the epochs
 *   cubic      weights and blocks of them: prune N times while training goes on, to the share s_i = R*(1 - (1 -
 * i/N)^3), the first time before the first step and the last time before two thirds of the training are over; from
 * there on the masks rest (Zhu and Gupta, "To prune, or not to prune", 2017) */
#include "optimize/job.h"

#include "cli/message.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/model.h"

#include <stdio.h>

static const double cubic_span = 2.0 / 3;
enum { ITERATIVE_STEPS = 3, CUBIC_STEPS = 10 };

/* ---- One step ---- */

typedef struct shrinker {
    opt_job *job;
    cnn_model *original; /* before the first of several steps; NULL: one step */
    int steps;
    cnn_prune_result result; /* of the last step */
} shrinker;

/* In the order of opt_structure. */
static const struct {
    cnn_status (*prune)(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);
    const char *of;    /* "prune 50 %" of what */
    const char *unit;  /* a share of its ... */
    bool masks;        /* the model keeps its shapes and gets masks, */
    const char *use;   /* this is what its zeros are good for, */
    const char *least; /* and this is what keeps a layer whole */
} structures[] = {
    {cnn_prune_channels, "", "channels", false, NULL, NULL},
    {cnn_prune_blocks, " in blocks", "weights in blocks", true, ", in whole blocks: the CPU skips those in INT8",
     "a block has 16 outputs and 4 inputs"},
    {cnn_prune_weights, " of weights", "weights", true,
     ": that gives the smallest file and no speed, for zeros are computed like other numbers", NULL},
    {cnn_prune_two_of_four, " as 2:4", "weights as 2:4", true,
     ", 2 of every 4: the file gets smaller, but only sparse tensor cores gain speed from that, and no kernel here "
     "uses them",
     "a group has 4 inputs"},
};

int opt_structure_of(const opt_settings *settings)
{
    return settings->structure < 0 ? OPT_STRUCTURE_CHANNEL : settings->structure;
}

static int structure_of(const opt_job *job)
{
    return opt_structure_of(job->settings);
}

const char *opt_structure_name(int structure)
{
    static const char *const names[OPT_STRUCTURES] = {"channel", "block", "weight", "2:4"};
    return structure < 0 ? "none" : names[structure];
}

opt_prune_fn opt_prune_function(opt_structure structure)
{
    return structures[structure].prune;
}

const char *opt_prune_unit(const opt_settings *settings)
{
    return structures[opt_structure_of(settings)].unit;
}

static cnn_prune_options options_of(const opt_job *job)
{
    const opt_settings *settings = job->settings;
    cnn_prune_options options = {.global = settings->global,
                                 .seed = (uint64_t)job->cli->common.seed,
                                 .data = job->data,
                                 .device = job->cli->common.device};
    if (settings->criterion >= 0)
        options.criterion = (cnn_criterion)settings->criterion;
    return options;
}

/* Prunes to this share of what the model was before the first step. */
static cnn_status prune_to(shrinker *s, double share, bool last)
{
    cnn_prune_options options = options_of(s->job);
    options.ratio = share;
    options.original = s->original;
    options.on_the_way = !last;
    options.regrow = s->job->settings->regrow;
    return structures[structure_of(s->job)].prune(s->job->model, &options, &s->result);
}

/* What the user would not expect otherwise. */
static void explain(const shrinker *s)
{
    const cnn_prune_result *result = &s->result;
    char removed[CNN_UNIT_BYTES], candidates[CNN_UNIT_BYTES];
    if (result->fallbacks > 0)
        cnn_message_notice(s->job->cli, "criterion bn: %s%s no batch norm behind %s, so l2 took its place",
                           result->fallback, result->fallbacks == 1 ? " has" : " and other layers have",
                           result->fallbacks == 1 ? "it" : "them");
    if (result->narrow > 0)
        cnn_message_notice(s->job->cli, "%s%s whole: %s, and %s narrower", result->narrow_name,
                           result->narrow == 1 ? " stays" : " and other layers stay",
                           structures[structure_of(s->job)].least, result->narrow == 1 ? "it is" : "they are");
    if (!structures[structure_of(s->job)].masks)
        return;
    cnn_message_notice(s->job->cli, "%s of %s weights are 0 now%s", cnn_format_count(removed, result->removed),
                       cnn_format_count(candidates, result->candidates), structures[structure_of(s->job)].use);
}

/* ---- Schedules ---- */

static cnn_status one_shot(shrinker *s, double epochs)
{
    cnn_status status = CNN_OK;
    CNN_TRY(prune_to(s, s->job->settings->prune, true));
    explain(s);
    CNN_TRY(opt_measure(s->job, "prune %g %%%s", 100 * s->job->settings->prune, structures[structure_of(s->job)].of));
    if (epochs > 0)
        CNN_TRY(opt_finetune(s->job, epochs));
out:
    return status;
}

cnn_status opt_check_keep(const opt_job *job)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    CNN_TRY(cnn_model_clone(job->model, &copy));
    CNN_TRY(cnn_prune_to_widths(copy, job->settings->keep, &(cnn_prune_options){.criterion = CNN_CRITERION_L1}, NULL));
out:
    cnn_model_free(copy);
    return status;
}

/* Exact widths. */
static cnn_status keep(shrinker *s, double epochs)
{
    cnn_status status = CNN_OK;
    const cnn_prune_options options = options_of(s->job);
    CNN_TRY(cnn_prune_to_widths(s->job->model, s->job->settings->keep, &options, &s->result));
    explain(s);
    CNN_TRY(opt_measure(s->job, "keep %.50s", s->job->settings->keep));
    if (epochs > 0)
        CNN_TRY(opt_finetune(s->job, epochs));
out:
    return status;
}

static cnn_status measure_steps(const shrinker *s, double epochs)
{
    explain(s);
    return opt_measure(s->job, "prune %g %% in %d steps, %g epoch%s", 100 * s->job->settings->prune, s->steps, epochs,
                       epochs == 1 ? "" : "s");
}

static cnn_status iterative(shrinker *s, double epochs)
{
    cnn_status status = CNN_OK;
    for (int step = 1; step <= s->steps; step++) {
        cnn_train_options options;
        char label[64];
        CNN_TRY(prune_to(s, s->job->settings->prune * step / s->steps, step == s->steps));
        opt_train_options(s->job, epochs / s->steps, &options);
        if (step > 1) /* other images, in another order */
            options.seed = cnn_hash(options.seed, CNN_PURPOSE_PRUNE, (uint64_t)step, 0);
        snprintf(label, sizeof label, "step %d of %d", step, s->steps);
        CNN_TRY(opt_train(s->job, &options, label));
    }
    CNN_TRY(measure_steps(s, epochs));
out:
    return status;
}

static cnn_status cubic_edit(void *context, cnn_model *model, int edit)
{
    shrinker *s = context;
    double left = 1 - (double)(edit + 1) / s->steps;
    cnn_status status = prune_to(s, s->job->settings->prune * (1 - left * left * left), edit == s->steps - 1);
    return status == CNN_OK && structure_of(s->job) == OPT_STRUCTURE_WEIGHT ? cnn_mask_dead(model, NULL) : status;
}

static cnn_status cubic(shrinker *s, double epochs)
{
    cnn_status status = CNN_OK;
    cnn_train_options options;
    opt_train_options(s->job, epochs, &options);
    options.edit = cubic_edit;
    options.edit_context = s;
    options.edits = s->steps;
    options.edit_span = cubic_span;
    CNN_TRY(opt_train(s->job, &options, "prune and fine-tune"));
    CNN_TRY(measure_steps(s, epochs));
out:
    return status;
}

/* In the order of opt_schedule. */
static const struct {
    int steps; /* unless the user says otherwise */
    cnn_status (*run)(shrinker *s, double epochs);
} schedules[] = {{1, one_shot}, {ITERATIVE_STEPS, iterative}, {CUBIC_STEPS, cubic}};

cnn_status opt_shrink(opt_job *job, double epochs)
{
    cnn_status status = CNN_OK;
    int schedule = job->settings->schedule < 0 ? OPT_SCHEDULE_ONE_SHOT : job->settings->schedule;
    shrinker s = {.job = job, .steps = schedules[schedule].steps};
    if (job->settings->prune_steps > 0)
        s.steps = job->settings->prune_steps;
    if (schedule == OPT_SCHEDULE_ITERATIVE && !structures[structure_of(job)].masks)
        CNN_TRY(cnn_model_clone(job->model, &s.original));
    CNN_TRY(job->settings->keep ? keep(&s, epochs) : schedules[schedule].run(&s, epochs));
out:
    cnn_model_free(s.original);
    return status;
}
