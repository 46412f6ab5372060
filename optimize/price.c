/* What a weight costs in a file, and scores for each bit of it.
 *
 * The file of --pack smallest holds a decision for each weight whether it is 0, and behind the others a sign and a
 * magnitude. With the chance p that the coder gives a weight of not being 0, keeping it takes
 *
 *   log2(1/p) + value bits, and dropping it log2(1/(1-p)):
 *
 * the difference is its price. Value bits are a layer's mean. A lone weight among zeros costs four bits and more, one
 * among others one or two. Of what is to be saved the least accuracy goes when that weight goes first which scores
 * least for each bit, not the one that scores least. Prices change with every weight that goes, so they are asked for
 * anew before each step. */
#include "optimize/score.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/weight_coder.h"
#include "kernels/cpu/exp_log.h"
#include "optimize/grid.h"

#include <math.h>
#include <stdlib.h>

/* Where nearly all weights are there, one that is missing would cost more than it saves; and a sign is a bit. */
static const double least_bits = 1;

typedef struct layer_prices {
    int8_t *numbers; /* of the weights */
    uint16_t *chances;
    double value_bits;
} layer_prices;

static void close_prices(layer_prices *prices)
{
    free(prices->numbers);
    free(prices->chances);
    *prices = (layer_prices){0};
}

static double log2_of(double x)
{
    return cnn_log(x) / 0x1.62e42fefa39efp-1;
}

static double chance_of(uint16_t chance)
{
    return fmax((double)chance, 1) / 65536;
}

/* What is left of a layer's bytes for each nonzero when all places are paid. */
static double value_bits(const layer_prices *prices, int64_t count, size_t bytes)
{
    double left = 8 * (double)bytes;
    int64_t nonzeros = 0;
    for (int64_t i = 0; i < count; i++) {
        const double p = chance_of(prices->chances[i]);
        nonzeros += prices->numbers[i] != 0;
        if (prices->chances[i] > 0)
            left += log2_of(prices->numbers[i] != 0 ? p : 1 - p);
    }
    return nonzeros > 0 ? fmax(left / (double)nonzeros, 0) : 0;
}

static cnn_status open_prices(const cnn_node *node, layer_prices *prices)
{
    cnn_status status = CNN_OK;
    const cnn_tensor_desc *desc = &node->param[CNN_PARAM_WEIGHT].desc;
    const int64_t count = cnn_desc_elements(desc);
    size_t bytes;
    if (node->param[CNN_PARAM_STEP].desc.dtype == CNN_NONE)
        CNN_FAIL(CNN_ERR_USAGE,
                 "layer '%s' has weights on no grid, which have no price in bits: begin training on a grid first",
                 node->name);
    prices->numbers = cnn_calloc((size_t)count, sizeof *prices->numbers);
    prices->chances = cnn_calloc((size_t)count, sizeof *prices->chances);
    if (!prices->numbers || !prices->chances)
        CNN_TRY(CNN_ERR_MEMORY);
    cnn_grid_numbers(node, prices->numbers);
    CNN_TRY(cnn_weights_chances(desc, prices->numbers, prices->chances, &bytes));
    prices->value_bits = value_bits(prices, count, bytes);
out:
    return status;
}

static double price_of(const layer_prices *prices, int64_t weight)
{
    const double p = chance_of(prices->chances[weight]);
    return fmax(log2_of((1 - p) / p) + prices->value_bits, least_bits);
}

cnn_status cnn_scores_per_bit(const cnn_model *model, cnn_scores *scores)
{
    cnn_status status = CNN_OK;
    layer_prices prices = {0};
    for (int i = 0; i < model->node_count; i++) {
        if (!scores->of[i])
            continue;
        CNN_TRY(open_prices(&model->nodes[i], &prices));
        for (int64_t w = 0; w < cnn_desc_elements(&model->nodes[i].param[CNN_PARAM_WEIGHT].desc); w++)
            scores->of[i][w] /= price_of(&prices, w);
        close_prices(&prices);
    }
out:
    close_prices(&prices);
    return status;
}
