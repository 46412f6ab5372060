/* Pruning to 2:4 (Mishra et al., "Accelerating sparse deep neural networks", 2021): of every 4 consecutive inputs of an
 * output, the 2 with the largest scores stay. Sparse tensor cores skip the others; everything else computes them.
 *
 * Weights that are pruned already go first, whatever their score; among equal scores the first stay. A group that a
 * layer's end cuts to 3 loses 1, one of 2 or 1 none. */
#include "cnn/optimize.h"

#include "core/error.h"
#include "core/layers.h"
#include "optimize/channels.h"
#include "optimize/score.h"

#include <stdio.h>
#include <string.h>

/* Whether weight i of a group is worth more than weight j. */
static bool beats(const cnn_param *weight, const double *score, int64_t i, int64_t j)
{
    const bool live_i = weight->mask[i] != 0, live_j = weight->mask[j] != 0;
    if (live_i != live_j)
        return live_i;
    return score[i] != score[j] ? score[i] > score[j] : i < j;
}

/* Prunes what is not among the best of its group. score: [elements of the weights] */
static void prune_group(cnn_param *weight, const double *score, const cnn_weight_block *group)
{
    bool stays[CNN_GROUP_INPUTS];
    for (int32_t i = 0; i < group->columns; i++) {
        int better = 0;
        for (int32_t j = 0; j < group->columns; j++)
            better += j != i && beats(weight, score, group->first + j, group->first + i);
        stays[i] = better < CNN_GROUP_NONZEROS;
    }
    for (int32_t i = 0; i < group->columns; i++) {
        if (stays[i])
            continue;
        weight->mask[group->first + i] = 0;
        ((float *)weight->data)[group->first + i] = 0;
    }
}

static cnn_status prune_layer(cnn_node *node, const double *score, cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const int64_t count = cnn_desc_elements(&weight->desc);
    const cnn_block_grid grid = cnn_block_grid_of(node, 1, CNN_GROUP_INPUTS);
    const int64_t groups = cnn_block_count(&grid);
    if (grid.inputs < CNN_GROUP_INPUTS) {
        if (result->narrow++ == 0)
            snprintf(result->narrow_name, sizeof result->narrow_name, "%s", node->name);
        return CNN_OK;
    }
    CNN_TRY(cnn_prune_add_mask(weight));
    for (int64_t g = 0; g < groups; g++) {
        const cnn_weight_block group = cnn_block_get(&grid, g);
        prune_group(weight, score, &group);
    }
    weight->desc.structure = CNN_SPARSE_2_4;
    result->candidates += count;
    for (int64_t i = 0; i < count; i++)
        result->removed += !weight->mask[i];
out:
    return status;
}

cnn_status cnn_prune_two_of_four(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    cnn_scores scores = {0};
    cnn_model *copy = NULL;
    cnn_prune_result made = {0};
    CNN_TRY(cnn_prune_check_float(model));
    if (options->global)
        CNN_FAIL(CNN_ERR_USAGE, "2:4 takes 2 of every 4 weights, so layers have no shares to compete for; prune single "
                                "weights or blocks of all layers together");
    CNN_TRY(cnn_scores_make(model, CNN_SCORE_WEIGHTS, options, &scores));
    CNN_TRY(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count; i++) {
        cnn_node *node = &copy->nodes[i];
        if (node->type->flags & CNN_LAYER_PRUNABLE && (!options->only || strcmp(node->name, options->only) == 0))
            CNN_TRY(prune_layer(node, scores.of[i], &made));
    }
    if (made.candidates == 0)
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "model '%s' has no layer of %d inputs or more, which is one group of 2:4; prune channels or single "
                 "weights",
                 model->name, CNN_GROUP_INPUTS);
    cnn_model_swap(model, copy);
    if (result)
        *result = made;
out:
    cnn_model_free(copy);
    cnn_scores_free(&scores);
    return status;
}
