/* The criteria of pruning, one row each. Scores of a channel k with weights w [R,S,C]:
 *
 *   l1      sum |w|
 *   l2      sqrt(sum w^2)                       Li et al. 2017 compare both
 *   bn      |gamma[k]| of the batch norm behind the layer (Liu et al. 2017), l2 where there is none
 *   taylor  what the loss would change by, to first order (Molchanov et al. 2019; optimize/taylor.c)
 *   lamp    w^2 over the sum of those of its layer that are not smaller (optimize/lamp.c); not of channels
 *   random  a hash of (seed, layer, channel): what any other criterion has to beat
 *
 * A block of n weights scores by l1 the mean of |w|, by l2 the root of the mean of w^2, so that one that is cut short
 * competes with whole ones. A single weight is a block of 1 and scores |w| by both. bn knows only channels. */
#include "optimize/score.h"

#include "core/error.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>

/* Score of unit `i` of a node; grid: of its blocks, for channels of no meaning. */
typedef double (*score_fn)(const cnn_model *model, int node, const cnn_block_grid *grid, int64_t i, uint64_t seed);
/* Scores all nodes at once, into score[node], which is 0 at first. */
typedef cnn_status (*score_all_fn)(cnn_model *model, cnn_score_unit unit, const cnn_prune_options *options,
                                   double **score);

static const cnn_param *weights_of(const cnn_model *model, int node)
{
    return &model->nodes[node].param[CNN_PARAM_WEIGHT];
}

/* The weights of output channel k, and how many they are. */
static const float *row_of(const cnn_model *model, int node, int64_t k, int64_t *count)
{
    const cnn_param *weight = weights_of(model, node);
    *count = cnn_desc_elements(&weight->desc) / weight->desc.n;
    return (const float *)weight->data + k * *count;
}

static double channel_l1(const cnn_model *model, int node, const cnn_block_grid *grid, int64_t k, uint64_t seed)
{
    int64_t count;
    const float *w = row_of(model, node, k, &count); /* [R,S,C] */
    double sum = 0;
    (void)grid, (void)seed;
    for (int64_t i = 0; i < count; i++)
        sum += fabs((double)w[i]);
    return sum;
}

static double channel_l2(const cnn_model *model, int node, const cnn_block_grid *grid, int64_t k, uint64_t seed)
{
    int64_t count;
    const float *w = row_of(model, node, k, &count); /* [R,S,C] */
    double sum = 0;
    (void)grid, (void)seed;
    for (int64_t i = 0; i < count; i++)
        sum += (double)w[i] * (double)w[i];
    return sqrt(sum);
}

int cnn_batchnorm_behind(const cnn_model *model, int node)
{
    int only;
    if (cnn_model_readers(model, node, &only) != 1)
        return -1;
    return model->nodes[only].type->id == CNN_LAYER_BN ? only : -1;
}

static double channel_bn(const cnn_model *model, int node, const cnn_block_grid *grid, int64_t k, uint64_t seed)
{
    int bn = cnn_batchnorm_behind(model, node);
    if (bn < 0)
        return channel_l2(model, node, grid, k, seed);
    return fabs((double)((const float *)model->nodes[bn].param[CNN_PARAM_GAMMA].data)[k]);
}

static double block_l1(const cnn_model *model, int node, const cnn_block_grid *grid, int64_t i, uint64_t seed)
{
    const float *w = weights_of(model, node)->data;
    const cnn_weight_block block = cnn_block_get(grid, i);
    double sum = 0;
    (void)seed;
    for (int32_t row = 0; row < block.rows; row++)
        for (int32_t column = 0; column < block.columns; column++)
            sum += fabs((double)w[block.first + row * block.stride + column]);
    return sum / (block.rows * block.columns);
}

static double block_l2(const cnn_model *model, int node, const cnn_block_grid *grid, int64_t i, uint64_t seed)
{
    const float *w = weights_of(model, node)->data;
    const cnn_weight_block block = cnn_block_get(grid, i);
    double sum = 0;
    (void)seed;
    for (int32_t row = 0; row < block.rows; row++)
        for (int32_t column = 0; column < block.columns; column++) {
            double value = (double)w[block.first + row * block.stride + column];
            sum += value * value;
        }
    return sqrt(sum / (block.rows * block.columns));
}

static double any_random(const cnn_model *model, int node, const cnn_block_grid *grid, int64_t i, uint64_t seed)
{
    (void)model, (void)grid;
    return (double)(cnn_hash(seed, CNN_PURPOSE_PRUNE, (uint64_t)node, (uint64_t)i) >> 11);
}

static const struct {
    cnn_criterion criterion;
    score_fn channel, block; /* NULL: `all` scores */
    score_all_fn all;
    bool only_channels, only_weights;
} criteria[] = {
    {CNN_CRITERION_L1, channel_l1, block_l1, NULL, false, false},
    {CNN_CRITERION_L2, channel_l2, block_l2, NULL, false, false},
    {CNN_CRITERION_BN, channel_bn, NULL, NULL, true, false},
    {CNN_CRITERION_TAYLOR, NULL, NULL, cnn_score_taylor, false, false},
    {CNN_CRITERION_RANDOM, any_random, any_random, NULL, false, false},
    {CNN_CRITERION_LAMP, NULL, NULL, cnn_score_lamp, false, true},
};

/* ---- All layers ---- */

cnn_block_grid cnn_score_grid(const cnn_node *node, cnn_score_unit unit)
{
    return unit == CNN_SCORE_BLOCKS ? cnn_block_grid_of(node, CNN_BLOCK_OUTPUTS, CNN_BLOCK_INPUTS)
                                    : cnn_block_grid_of(node, 1, 1);
}

static int64_t units_of(const cnn_node *node, cnn_score_unit unit)
{
    if (unit == CNN_SCORE_CHANNELS)
        return node->param[CNN_PARAM_WEIGHT].desc.n;
    const cnn_block_grid grid = cnn_score_grid(node, unit);
    return cnn_block_count(&grid);
}

static cnn_status check_weights(const cnn_node *node)
{
    cnn_status status = CNN_OK;
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const float *w = weight->data;
    int64_t count = cnn_desc_elements(&weight->desc), row = count / weight->desc.n;
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(w[i]))
            CNN_FAIL(CNN_ERR_NUMERIC,
                     "layer '%s' has weights that are not finite numbers in output channel %lld; train the model "
                     "again with a smaller learning rate",
                     node->name, (long long)(i / row));
out:
    return status;
}

/* Makes the arrays, 0 everywhere. */
static cnn_status allocate(const cnn_model *model, cnn_score_unit unit, cnn_scores *scores)
{
    cnn_status status = CNN_OK;
    scores->of = cnn_calloc((size_t)model->node_count, sizeof(*scores->of));
    if (!scores->of)
        return CNN_ERR_MEMORY;
    scores->node_count = model->node_count;
    for (int i = 0; i < model->node_count; i++) {
        if (weights_of(model, i)->desc.dtype == CNN_NONE)
            continue;
        CNN_TRY(check_weights(&model->nodes[i]));
        scores->of[i] = cnn_calloc((size_t)units_of(&model->nodes[i], unit), sizeof *scores->of[i]);
        if (!scores->of[i]) {
            status = CNN_ERR_MEMORY;
            goto out;
        }
    }
out:
    return status;
}

static void count_fallbacks(const cnn_model *model, cnn_scores *scores)
{
    for (int i = 0; i < model->node_count; i++) {
        if (!scores->of[i] || i == model->node_count - 1 || cnn_batchnorm_behind(model, i) >= 0)
            continue;
        if (scores->fallbacks++ == 0)
            scores->fallback_name = model->nodes[i].name;
    }
}

static cnn_status check_scores(const cnn_model *model, cnn_score_unit unit, const cnn_scores *scores)
{
    cnn_status status = CNN_OK;
    static const char *const names[] = {"output channel", "weight", "block"}; /* in the order of cnn_score_unit */
    for (int i = 0; i < model->node_count; i++) {
        const int64_t count = scores->of[i] ? units_of(&model->nodes[i], unit) : 0;
        for (int64_t u = 0; u < count; u++)
            if (!isfinite(scores->of[i][u]))
                CNN_FAIL(
                    CNN_ERR_NUMERIC,
                    "layer '%s': the score of %s %lld is not a finite number; train the model again with a smaller "
                    "learning rate",
                    model->nodes[i].name, names[unit], (long long)u);
    }
out:
    return status;
}

/* Scores the units of one node. */
static void score_node(const cnn_model *model, int node, cnn_score_unit unit, score_fn score, uint64_t seed,
                       double *scores)
{
    const int64_t count = units_of(&model->nodes[node], unit);
    const cnn_block_grid grid = cnn_score_grid(&model->nodes[node], unit);
    for (int64_t u = 0; u < count; u++)
        scores[u] = score(model, node, &grid, u, seed);
}

cnn_status cnn_scores_make(cnn_model *model, cnn_score_unit unit, const cnn_prune_options *options, cnn_scores *scores)
{
    cnn_status status = CNN_OK;
    cnn_scores made = {0};
    size_t row = 0;
    while (row < sizeof criteria / sizeof criteria[0] && criteria[row].criterion != options->criterion)
        row++;
    if (row == sizeof criteria / sizeof criteria[0])
        CNN_FAIL(CNN_ERR_USAGE, "unknown pruning criterion %d", (int)options->criterion);
    if (unit != CNN_SCORE_CHANNELS && criteria[row].only_channels)
        CNN_FAIL(CNN_ERR_USAGE, "criterion bn scores whole channels; prune weights or blocks by l1, taylor or random");
    if (unit == CNN_SCORE_CHANNELS && criteria[row].only_weights)
        CNN_FAIL(CNN_ERR_USAGE,
                 "criterion lamp scores weights and blocks of them; prune channels by l1, l2, bn, taylor or "
                 "random");
    CNN_TRY(allocate(model, unit, &made));
    score_fn score = unit == CNN_SCORE_CHANNELS ? criteria[row].channel : criteria[row].block;
    if (criteria[row].all)
        CNN_TRY(criteria[row].all(model, unit, options, made.of));
    for (int i = 0; i < model->node_count; i++)
        if (score && made.of[i])
            score_node(model, i, unit, score, options->seed, made.of[i]);
    if (criteria[row].only_channels)
        count_fallbacks(model, &made);
    CNN_TRY(check_scores(model, unit, &made));
    *scores = made;
    made = (cnn_scores){0};
out:
    cnn_scores_free(&made);
    return status;
}

cnn_status cnn_gradients_make(cnn_model *model, const cnn_prune_options *options, cnn_scores *gradients)
{
    cnn_status status = CNN_OK;
    cnn_scores made = {0};
    CNN_TRY(allocate(model, CNN_SCORE_WEIGHTS, &made));
    CNN_TRY(cnn_score_gradient(model, options, made.of));
    CNN_TRY(check_scores(model, CNN_SCORE_WEIGHTS, &made));
    *gradients = made;
    made = (cnn_scores){0};
out:
    cnn_scores_free(&made);
    return status;
}

void cnn_scores_free(cnn_scores *scores)
{
    for (int i = 0; i < scores->node_count; i++)
        free(scores->of[i]);
    free(scores->of);
    *scores = (cnn_scores){0};
}
