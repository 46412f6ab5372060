/* --target-size with --structure weight: the smallest files there are.
 *
 * One run, from a dense model to a file of at most so many bytes:
 *
 * - Narrow: channels go, by their Taylor scores for each weight that goes with them, in passes with training between,
 *   until the model has so many times the weights that the file can hold as suits its kind (density_of). With
 *   --target-macs multiplications count, too, the passes bring both down together, and widths are those that kernels
 *   like.
 * - Repair: batch norms are put in (behind linear layers only where few weights stay), and all weights train.
 * - Prune: weights lie on a grid of few levels from here on; those with the least LAMP scores for each bit that they
 *   take in the file go, on a cubic schedule, and units that have none left go with them.
 * - Settle: what is left trains while the rate falls to 0 along a cosine.
 * - Ship: batch norms fold away, activations become INT8, the file is packed.
 *
 * How many weights the file can hold is measured on the way: now and then what is left is packed as if it were shipped.
 * Should the file come out too large all the same, more weights go and the rest settles again, shorter. All training is
 * Adam. */
#include "optimize/facts.h"
#include "optimize/precision.h"

#include "cli/message.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    STANDARD_BITS = 3,  /* of a weight: 3 levels on either side of 0 */
    PRUNE_EVERY = 20,   /* training steps */
    MOST_EDITS = 20000, /* of a run */
    MOST_FITS = 6,      /* times that a file may turn out too large */
    OVERHEAD_BYTES = 150,
    CHECKS = 12, /* of the size, in a run of pruning */
    CHECK_IMAGES = 64,
    QUICK_MULTIPLE = 4 /* of channels: INT8 products come in groups of 4, those of bf16 in pairs */
};
static const double standard_epochs = 100, bits_of_a_weight = 4.7, narrow_to = 1.0 / 3;
static const int64_t few_weights = 10000; /* in the file: below, each unit of a linear layer gets a step of its own */
static const double checks_from = 0.25;   /* of a run of pruning */
static const double first_aim = 0.995;
static const double repair_share = 0.1, prune_share = 0.4, settle_share = 0.5, refit_share = 0.2;
static const double between_passes = 0.25; /* epochs of training between passes of narrowing */
static const double rate = 2e-3;
static const double beta2 = 0.99; /* of Adam: short runs */

typedef struct squeezer {
    opt_job *job;
    double epochs;
    int64_t target;  /* bytes */
    double aim;      /* share of them that pruning goes for */
    int64_t dense;   /* weights of the narrow model */
    int64_t live;    /* weights other than 0 to keep, at the end of the pruning that runs */
    int64_t started; /* where that pruning began */
    int edits, trainings;
    int checks; /* of the size, in the pruning that runs */
} squeezer;

bool opt_squeezes(const opt_settings *settings)
{
    return settings->target_size > 0 && settings->structure == OPT_STRUCTURE_WEIGHT && settings->int8 &&
           settings->max_drop < 0 && settings->pick < 0;
}

/* ---- Counting ---- */

static int64_t count_weights(const cnn_model *model)
{
    int64_t weights = 0;
    for (int i = 0; i < model->node_count; i++)
        if (cnn_node_has_weights(&model->nodes[i]))
            weights += cnn_desc_elements(&model->nodes[i].param[CNN_PARAM_WEIGHT].desc);
    return weights;
}

/* Weights of the narrow model for each one that stays in the end. Found on validation images: lenet5-caffe in 2.1 kB is
 * best at 3 to 5 (0.8 % wrong; 1.0 % at 9), lenet300 in 4.6 kB at 12 (1.5 %; 1.9 % at 4.5 and at 40): without
 * convolutions each unit chooses its few inputs among all pixels, and many units are worth more than many inputs. */
static double density_of(const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].type->id == CNN_LAYER_CONV)
            return 4.5;
    return 12;
}

/* "7-14-30", the outputs of the layers with weights but the last. */
static void describe_widths(const cnn_model *model, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < model->node_count - 1 && used < bytes; i++)
        if (cnn_node_has_weights(&model->nodes[i]))
            used += (size_t)snprintf(text + used, bytes - used, "%s%d", used ? "-" : "", model->nodes[i].out.c);
}

/* ---- Training ---- */

static void options_of(squeezer *s, double epochs, cnn_schedule schedule, cnn_train_options *options)
{
    opt_train_options(s->job, epochs, options);
    options->optimizer = CNN_OPTIMIZER_ADAM;
    if (!(s->job->settings->learning_rate > 0))
        options->learning_rate = (float)rate;
    options->beta2 = beta2;
    options->schedule = schedule;
    options->warmup = epochs < 0.1 ? 0 : 0.05;
    options->seed = cnn_hash(options->seed, CNN_PURPOSE_PRUNE, (uint64_t)++s->trainings, 1); /* other images first */
}

static cnn_status train(squeezer *s, double epochs, cnn_schedule schedule, const char *label)
{
    cnn_train_options options;
    options_of(s, epochs, schedule, &options);
    return opt_train(s->job, &options, label);
}

/* ---- Narrow ---- */

/* Where the next pass ends: a third of the weights, or the goal; the MACs arrive at theirs in the last pass. */
static cnn_prune_budget next_of(const cnn_prune_budget *now, const cnn_prune_budget *goal)
{
    const double weights = (double)now->weights / (double)goal->weights,
                 macs = goal->macs > 0 ? (double)now->macs / (double)goal->macs : 0,
                 passes = fmax(1, ceil(log(fmax(weights, macs)) / -log(narrow_to)));
    const int64_t third = (int64_t)((double)now->weights * narrow_to);
    return (cnn_prune_budget){third > goal->weights ? third : goal->weights,
                              macs > 1 ? (int64_t)ceil((double)now->macs * pow(macs, -1 / passes)) : 0};
}

static bool keeps_to(const cnn_prune_budget *now, const cnn_prune_budget *goal)
{
    return now->weights <= goal->weights && (goal->macs <= 0 || now->macs <= goal->macs);
}

static cnn_status narrow(squeezer *s, const cnn_prune_budget *goal)
{
    cnn_status status = CNN_OK;
    cnn_model *model = s->job->model;
    const cnn_prune_options options = {.criterion = CNN_CRITERION_TAYLOR,
                                       .multiple = goal->macs > 0 ? QUICK_MULTIPLE : 1,
                                       .seed = (uint64_t)s->job->cli->common.seed,
                                       .data = s->job->data,
                                       .device = s->job->cli->common.device};
    char widths[128];
    for (cnn_prune_budget now = {count_weights(model), cnn_model_macs(model)}; !keeps_to(&now, goal);) {
        const cnn_prune_budget next = next_of(&now, goal);
        cnn_prune_budget left;
        CNN_TRY(cnn_prune_to_budget(model, &next, &options, &left));
        if (left.weights >= now.weights)
            break;
        now = left;
        describe_widths(model, widths, sizeof widths);
        CNN_TRY(train(s, keeps_to(&now, goal) ? 1 : between_passes, CNN_SCHEDULE_COSINE, widths));
    }
    if (goal->macs > 0 && cnn_model_macs(model) > goal->macs)
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "--target-macs %lld is too few for this network: with 4 channels in each layer it has %lld",
                 (long long)goal->macs, (long long)cnn_model_macs(model));
    s->dense = count_weights(model);
    describe_widths(model, widths, sizeof widths);
    CNN_TRY(opt_measure(s->job, "narrow to %s", widths));
out:
    return status;
}

/* ---- Prune ---- */

/* Bytes of the file that the model would be as it stands. */
static cnn_status size_now(squeezer *s, const cnn_model *model, int64_t *bytes)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    cnn_quantize_options options;
    size_t size;
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MAX;
    options.images = CHECK_IMAGES;
    options.bias_correction = false;
    options.compact = s->job->settings->pack == CNN_PACK_SMALLEST;
    options.device = s->job->cli->common.device;
    CNN_TRY(cnn_model_clone(model, &copy));
    CNN_TRY(cnn_qat_end(copy));
    CNN_TRY(cnn_fold_batchnorm(copy));
    CNN_TRY(cnn_remove_dead(copy, NULL));
    CNN_TRY(cnn_qat_round(copy));
    CNN_TRY(cnn_quantize(copy, s->job->data, &options, NULL, NULL));
    CNN_TRY(cnn_model_save_packed(copy, "/dev/null", (cnn_pack)s->job->settings->pack, &size));
    *bytes = (int64_t)size;
out:
    cnn_model_free(copy);
    return status;
}

/* While weights go: how many the file can hold, by the bytes that those of now would take. */
static cnn_status aim(squeezer *s, const cnn_model *model, int edit)
{
    const double done = (double)(edit + 1) / s->edits;
    int64_t bytes;
    if (done < checks_from + (1 - checks_from) * s->checks / CHECKS)
        return CNN_OK;
    s->checks++;
    const cnn_status status = size_now(s, model, &bytes);
    if (status != CNN_OK) /* what cannot be shipped now may be later */
        return status == CNN_ERR_MEMORY ? status : CNN_OK;
    const double room = fmax(s->aim * (double)s->target - OVERHEAD_BYTES, 1);
    s->live = (int64_t)ceil((double)opt_live_weights(model) * room / fmax((double)(bytes - OVERHEAD_BYTES), 1));
    return CNN_OK;
}

static cnn_status prune_some(void *context, cnn_model *model, int edit)
{
    squeezer *s = context;
    cnn_status status = aim(s, model, edit);
    if (status != CNN_OK)
        return status;
    const double left = 1 - (double)(edit + 1) / s->edits;
    const double live = (double)s->live + (double)(s->started - s->live) * left * left * left;
    const cnn_prune_options options = {.ratio = 1 - live / (double)s->dense,
                                       .global = true,
                                       .criterion = CNN_CRITERION_LAMP,
                                       .per_bit = true,
                                       .on_the_way = true};
    if (!(options.ratio > 0))
        return CNN_OK;
    status = cnn_prune_weights(model, &options, NULL);
    return status == CNN_OK ? cnn_mask_dead(model, NULL) : status;
}

static cnn_status prune(squeezer *s, double epochs, const char *label)
{
    cnn_train_options options;
    options_of(s, epochs, CNN_SCHEDULE_CONSTANT, &options);
    const double steps = epochs * s->job->split.train_count / options.batch / PRUNE_EVERY;
    s->edits = steps < 1 ? 1 : steps > MOST_EDITS ? MOST_EDITS : (int)steps;
    s->checks = 0;
    s->started = opt_live_weights(s->job->model);
    options.edit = prune_some;
    options.edit_context = s;
    options.edits = s->edits;
    options.edit_span = 1;
    return opt_train(s->job, &options, label);
}

/* ---- Ship ---- */

/* Makes of the job's model what is shipped, and measures its file. */
static cnn_status ship(opt_job *job, cnn_quantize_row **rows, int *row_count, int64_t *bytes)
{
    cnn_status status = CNN_OK;
    bool folded;
    size_t size;
    CNN_TRY(cnn_qat_end(job->model));
    CNN_TRY(opt_fold(job, &folded));
    CNN_TRY(opt_remove_dead(job));
    CNN_TRY(cnn_qat_round(job->model));
    CNN_TRY(opt_quantize(job, rows, row_count));
    CNN_TRY(cnn_model_save_packed(job->model, "/dev/null", (cnn_pack)job->settings->pack, &size));
    *bytes = (int64_t)size;
out:
    return status;
}

/* Prunes, settles and ships until the file is small enough. */
static cnn_status fit(squeezer *s, cnn_quantize_row **rows, int *row_count)
{
    cnn_status status = CNN_OK;
    opt_job *job = s->job;
    cnn_model *trained = NULL;
    char size[CNN_UNIT_BYTES], wanted[CNN_UNIT_BYTES];
    for (int turn = 0; turn < MOST_FITS; turn++) {
        const double share = turn == 0 ? 1 : refit_share;
        int64_t bytes;
        CNN_TRY(prune(s, s->epochs * prune_share * share, "prune"));
        CNN_TRY(train(s, s->epochs * settle_share * share, CNN_SCHEDULE_COSINE, "settle"));
        cnn_model_free(trained);
        trained = NULL;
        CNN_TRY(cnn_model_clone(job->model, &trained));
        CNN_TRY(ship(job, rows, row_count, &bytes));
        const int64_t live = opt_live_weights(job->model);
        cnn_message_notice(job->cli, "%lld weights take %s; at most %s are wanted", (long long)live,
                           cnn_format_bytes(size, bytes), cnn_format_bytes(wanted, s->target));
        if (bytes <= s->target)
            goto out;
        free(*rows);
        *rows = NULL;
        /* The next runs are shorter, and the files of short runs come near to what was seen on the way, by 1 %. */
        s->aim *= turn == 0 ? 1 : 0.97;
        cnn_model_free(job->model);
        job->model = trained;
        trained = NULL;
    }
    status = cnn_error(CNN_ERR_NUMERIC, "%lld bytes are too few for this model; ask for more", (long long)s->target);
out:
    cnn_model_free(trained);
    return status;
}

cnn_status opt_squeeze(opt_job *job)
{
    cnn_status status = CNN_OK;
    const opt_settings *settings = job->settings;
    squeezer s = {.job = job, .target = settings->target_size, .aim = first_aim};
    cnn_quantize_row *rows = NULL;
    int row_count = 0, added;
    s.epochs = settings->finetune > 0 ? settings->finetune : standard_epochs;
    s.live = (int64_t)((double)(s.target - OVERHEAD_BYTES) * 8 / bits_of_a_weight);
    if (s.target <= OVERHEAD_BYTES)
        CNN_FAIL(CNN_ERR_USAGE, "--target-size %lld leaves no room for weights; ask for more than %d bytes",
                 (long long)s.target, OVERHEAD_BYTES);
    const cnn_prune_budget goal = {(int64_t)(density_of(job->model) * (double)s.live), settings->target_macs};
    CNN_TRY(opt_facts_begin(job));
    CNN_TRY(opt_account_begin(job));
    CNN_TRY(opt_measure(job, "as given"));
    CNN_TRY(narrow(&s, &goal));
    CNN_TRY(cnn_add_batchnorm(job->model, s.live < few_weights, job->data, (uint64_t)job->cli->common.seed,
                              job->cli->common.device, &added));
    CNN_TRY(train(&s, s.epochs * repair_share, CNN_SCHEDULE_CONSTANT, "repair"));
    CNN_TRY(opt_measure(job, "repair"));
    CNN_TRY(cnn_qat_begin(job->model, cnn_levels_of_bits(STANDARD_BITS)));
    CNN_TRY(fit(&s, &rows, &row_count));
    CNN_TRY(opt_measure(job, "prune, settle, INT8"));
    opt_account_end(job, rows, row_count);
    CNN_TRY(opt_save(job));
    CNN_TRY(opt_facts_end(job));
out:
    free(rows);
    return status;
}
