/* What a weight costs in a file, and scores for each bit of it.
 *
 * The file of --pack smallest holds a decision for each weight whether it is 0, and behind the others a sign and a
 * magnitude. With the chance p that the coder gives a weight of not being 0, keeping it takes
 *
 *   log2(1/p) + value bits, and dropping it log2(1/(1-p)):
 *
 * the difference is its price. Among zeros a lone weight costs six bits or more, among others two. Of what is to be
 * saved the least accuracy goes when that weight goes first which scores least for each bit, not the one that scores
 * least. Prices change with every weight that goes, so they are asked for anew before each step. */
#include "optimize/score.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/weight_coder.h"
#include "kernels/cpu/exp_log.h"
#include "optimize/grid.h"

#include <math.h>
#include <stdlib.h>

static const double least_bits = 1; /* where all weights are there, one that is missing would cost more than it saves */

/* Of a sign and a magnitude: 2.2 of 3 levels, as files have them. */
static double value_bits(int32_t levels)
{
    return 1 + 0.75 * log2((double)levels);
}

static double bits_of(uint16_t chance, double value)
{
    const double p = fmax((double)chance, 1) / 65536;
    return fmax(cnn_log((1 - p) / p) / 0x1.62e42fefa39efp-1 + value, least_bits);
}

cnn_status cnn_scores_per_bit(const cnn_model *model, cnn_scores *scores)
{
    cnn_status status = CNN_OK;
    int8_t *numbers = NULL;
    uint16_t *chances = NULL;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
        if (!scores->of[i])
            continue;
        if (node->param[CNN_PARAM_STEP].desc.dtype == CNN_NONE)
            CNN_FAIL(CNN_ERR_USAGE,
                     "layer '%s' has weights on no grid, which have no price in bits: begin training on a grid first",
                     node->name);
        const int64_t count = cnn_desc_elements(&weight->desc);
        const double value = value_bits(weight->levels);
        free(numbers);
        free(chances);
        numbers = cnn_calloc((size_t)count, sizeof *numbers);
        chances = cnn_calloc((size_t)count, sizeof *chances);
        if (!numbers || !chances)
            CNN_TRY(CNN_ERR_MEMORY);
        cnn_grid_numbers(node, numbers);
        CNN_TRY(cnn_weights_chances(&weight->desc, numbers, chances));
        for (int64_t w = 0; w < count; w++)
            scores->of[i][w] /= bits_of(chances[w], value);
    }
out:
    free(numbers);
    free(chances);
    return status;
}
