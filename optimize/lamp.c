/* LAMP: layer-adaptive magnitude-based pruning (Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning",
 * 2021). A weight's score is its square over the sum of the squares of all weights of its layer that are not smaller:
 *
 *   score(u) = w[u]^2 / sum over v with w[v]^2 >= w[u]^2 of w[v]^2
 *
 * The largest weight of each layer scores 1, so that no layer is emptied, and scores of different layers compare as
 * they are. Of equal weights the first one counts as the larger. A block counts with the sum of its squares. */
#include "optimize/score.h"

#include "core/memory.h"

#include <stdlib.h>

typedef struct ranked {
    double square;
    int64_t unit;
} ranked;

/* Largest first, of equal ones the first. */
static int compare(const void *left, const void *right)
{
    const ranked *a = left, *b = right;
    if (a->square != b->square)
        return a->square > b->square ? -1 : 1;
    return (a->unit > b->unit) - (a->unit < b->unit);
}

static double square_of(const float *w, const cnn_weight_block *block)
{
    double sum = 0;
    for (int32_t row = 0; row < block->rows; row++)
        for (int32_t column = 0; column < block->columns; column++) {
            const double value = (double)w[block->first + row * block->stride + column];
            sum += value * value;
        }
    return sum;
}

static cnn_status score_node(const cnn_node *node, cnn_score_unit unit, double *score)
{
    const cnn_block_grid grid = cnn_score_grid(node, unit);
    const int64_t count = cnn_block_count(&grid);
    int64_t ranks = 0; /* of those that are not 0: most are, when much is pruned */
    ranked *units = cnn_calloc((size_t)count, sizeof *units);
    if (!units)
        return CNN_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        const cnn_weight_block block = cnn_block_get(&grid, i);
        const double square = square_of(node->param[CNN_PARAM_WEIGHT].data, &block);
        score[i] = 0;
        if (square > 0)
            units[ranks++] = (ranked){square, i};
    }
    qsort(units, (size_t)ranks, sizeof *units, compare);
    double sum = 0;
    for (int64_t i = 0; i < ranks; i++) {
        sum += units[i].square;
        score[units[i].unit] = units[i].square / sum;
    }
    free(units);
    return CNN_OK;
}

cnn_status cnn_score_lamp(cnn_model *model, cnn_score_unit unit, const cnn_prune_options *options, double **score)
{
    (void)options;
    for (int i = 0; i < model->node_count; i++)
        if (score[i] && score_node(&model->nodes[i], unit, score[i]) != CNN_OK)
            return CNN_ERR_MEMORY;
    return CNN_OK;
}
