/* Pruning single weights, or whole blocks of them: those with the smallest scores become 0 and get a mask that holds
 * them there. A single weight is a block of 1 x 1.
 *
 * A layer of n weights loses n*R of them, rounded to the nearest number, halves up, and keeps at least one block.
 * Blocks that are pruned already count as lost, so a larger share later only adds to a smaller one. With regrowth a
 * layer that is to lose n in a step loses n + m, and m of those that were pruned before the step come back, at 0.
 *
 * With `global`, blocks of all layers compete by score / mean score of their layer, by lamp as they are, until the
 * share R of all weights is gone. No layer keeps fewer weights than an eighth of what each would keep without `global`:
 * an emptied layer carries nothing on. Layers narrower than a block keep their weights, and those do not count. */
#include "cnn/optimize.h"

#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "optimize/channels.h"
#include "optimize/score.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST_PART = 8 };

/* One prunable layer. */
typedef struct layer {
    cnn_param *weight;
    cnn_block_grid grid;
    const double *score;   /* [blocks] */
    uint8_t *size;         /* [blocks] weights that go with a block; 0: pruned before */
    int64_t blocks, zeros; /* all, and those that are pruned */
    int64_t count;         /* weights */
    int64_t gone;          /* weights pruned before */
    int64_t remove;        /* weights to be pruned in all */
    int64_t back;          /* of those that are gone come back, while as many others go */
    const double *slope;   /* [count] gradients; NULL: nothing comes back */
    int64_t most;          /* that may be pruned in all */
    double mean;           /* of the scores */
    bool full;             /* global: at its limit */
} layer;

typedef struct layer_list {
    layer *of;
    int count;
    double *score; /* scratch for the scores and sizes of all layers' blocks */
    uint8_t *size;
    int narrow;              /* layers narrower than a block ... */
    const cnn_node *narrow1; /* ... and the first of them */
} layer_list;

/* ---- The layers ---- */

/* The share of weights, at least `least` of which stay. */
static int64_t share_of(int64_t count, double ratio, int64_t least)
{
    int64_t share = (int64_t)floor((double)count * ratio + 0.5);
    return share < count - least ? share : count - least;
}

static int64_t block_size(const layer *l)
{
    return (int64_t)l->grid.high * l->grid.wide;
}

static int64_t limit_of(const layer *l, const cnn_prune_options *options)
{
    if (!options->global)
        return l->count - block_size(l);
    int64_t least = (int64_t)((double)l->count * (1 - options->ratio) / SMALLEST_PART) + block_size(l);
    return least < l->count ? l->count - least : 0;
}

/* Whether nothing of a block is live. */
static bool is_gone(const cnn_param *weight, const cnn_weight_block *block)
{
    if (!weight->mask)
        return false;
    for (int32_t row = 0; row < block->rows; row++)
        for (int32_t column = 0; column < block->columns; column++)
            if (weight->mask[block->first + row * block->stride + column])
                return false;
    return true;
}

static cnn_status measure_layer(layer *l, const cnn_prune_options *options)
{
    l->blocks = cnn_block_count(&l->grid);
    l->count = cnn_desc_elements(&l->weight->desc);
    l->most = limit_of(l, options);
    l->size = cnn_calloc((size_t)l->blocks, sizeof *l->size);
    if (!l->size)
        return CNN_ERR_MEMORY;
    for (int64_t i = 0; i < l->blocks; i++) {
        const cnn_weight_block block = cnn_block_get(&l->grid, i);
        const int32_t size = block.rows * block.columns;
        const bool gone = is_gone(l->weight, &block);
        l->size[i] = (uint8_t)(gone ? 0 : size);
        l->gone += gone ? size : 0;
        l->zeros += gone;
        l->mean += l->score[i] / (double)l->blocks;
    }
    return CNN_OK;
}

/* Lists the layers that are no narrower than a block, with scratch memory for all of them. */
static cnn_status list_layers(cnn_model *model, const cnn_scores *scores, const cnn_scores *gradients,
                              cnn_score_unit unit, const cnn_prune_options *options, layer_list *list)
{
    cnn_status status = CNN_OK;
    size_t blocks = 0;
    list->of = cnn_calloc((size_t)model->node_count, sizeof *list->of);
    if (!list->of)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        const cnn_block_grid grid = cnn_score_grid(node, unit);
        if (!(node->type->flags & CNN_LAYER_PRUNABLE) || (options->only && strcmp(node->name, options->only) != 0))
            continue;
        if (grid.outputs < grid.high || grid.inputs < grid.wide) {
            list->narrow1 = list->narrow++ == 0 ? node : list->narrow1;
            continue;
        }
        layer *l = &list->of[list->count++];
        *l = (layer){.weight = &model->nodes[i].param[CNN_PARAM_WEIGHT], .grid = grid, .score = scores->of[i]};
        l->slope = gradients->of ? gradients->of[i] : NULL;
        CNN_TRY(measure_layer(l, options));
        if (options->criterion == CNN_CRITERION_LAMP)
            l->mean = 1; /* the scores of different layers compare as they are */
        blocks += (size_t)l->blocks;
    }
    list->score = cnn_calloc(blocks + 1, sizeof *list->score);
    list->size = cnn_calloc(blocks + 1, sizeof *list->size);
    if (!list->score || !list->size)
        status = CNN_ERR_MEMORY;
out:
    return status;
}

static void free_layers(layer_list *list)
{
    for (int i = 0; i < list->count; i++)
        free(list->of[i].size);
    free(list->of);
    free(list->score);
    free(list->size);
}

/* ---- Selection ---- */

/* The smallest of `count` values up to which their sizes add to `need` > 0, or the largest. Values are not negative and
 * found by their bits from the highest byte down: such doubles are ordered as their bits are. */
static double select_smallest(const double *values, const uint8_t *sizes, int64_t count, int64_t need)
{
    uint64_t prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        int64_t histogram[256] = {0};
        unsigned byte = 0, largest = 0;
        for (int64_t i = 0; i < count; i++) {
            uint64_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            if (shift == 56 || bits >> (shift + 8) == prefix)
                histogram[bits >> shift & 255] += sizes[i];
        }
        for (unsigned i = 0; i < 256; i++)
            largest = histogram[i] > 0 ? i : largest;
        while (byte < largest && need > histogram[byte])
            need -= histogram[byte++];
        prefix = prefix << 8 | byte;
    }
    double value;
    memcpy(&value, &prefix, sizeof value);
    return value;
}

/* What goes: blocks with scores below the threshold, and of those at it as many as `equal` weights are, to the nearest
 * block. */
typedef struct score_cut {
    double threshold;
    int64_t equal;
} score_cut;

static score_cut make_cut(const double *values, const uint8_t *sizes, int64_t count, int64_t need)
{
    score_cut cut = {.threshold = -1, .equal = 0};
    if (need <= 0 || count == 0)
        return cut;
    cut.threshold = select_smallest(values, sizes, count, need);
    cut.equal = need;
    for (int64_t i = 0; i < count; i++)
        cut.equal -= values[i] < cut.threshold ? sizes[i] : 0;
    return cut;
}

static bool is_cut(score_cut *cut, double score, uint8_t size)
{
    if (size == 0 || score > cut->threshold)
        return false;
    if (score < cut->threshold)
        return true;
    if (2 * cut->equal < size)
        return false;
    cut->equal -= size;
    return true;
}

static double normalized(const layer *l, int64_t i)
{
    return l->mean > 0 ? l->score[i] / l->mean : 0;
}

/* Sets remove of the layers that are not full, `need` live weights going from them in all. Among equal scores those of
 * the last layers go first. */
static void take_smallest(layer_list *list, int64_t need)
{
    int64_t pooled = 0;
    for (int n = 0; n < list->count; n++) {
        const layer *l = &list->of[n];
        for (int64_t i = 0; !l->full && i < l->blocks; i++)
            if (l->size[i]) {
                list->score[pooled] = normalized(l, i);
                list->size[pooled++] = l->size[i];
            }
    }
    score_cut cut = make_cut(list->score, list->size, pooled, need);
    for (int n = list->count - 1; n >= 0; n--) {
        layer *l = &list->of[n];
        if (l->full)
            continue;
        l->remove = l->gone;
        for (int64_t i = 0; i < l->blocks; i++)
            if (is_cut(&cut, normalized(l, i), l->size[i]))
                l->remove += l->size[i];
    }
}

/* Shares of layers that compete. A layer that would fall below its limit stops there, and the others go on. */
static void compete(layer_list *list, double ratio)
{
    int64_t total = 0;
    bool again = list->count > 0;
    for (int n = 0; n < list->count; n++)
        total += list->of[n].count;
    while (again) {
        int64_t need = share_of(total, ratio, block_size(&list->of[0]));
        for (int n = 0; n < list->count; n++)
            need -= list->of[n].full ? list->of[n].remove : list->of[n].gone;
        take_smallest(list, need);
        again = false;
        for (int n = 0; n < list->count; n++) {
            layer *l = &list->of[n];
            if (l->full || l->remove <= l->most)
                continue;
            l->remove = l->most > l->gone ? l->most : l->gone;
            l->full = again = true;
        }
    }
}

/* ---- Masks ---- */

cnn_status cnn_prune_add_mask(cnn_param *weight)
{
    const size_t count = (size_t)cnn_desc_elements(&weight->desc);
    if (weight->mask)
        return CNN_OK;
    weight->mask = cnn_aligned_alloc(count);
    if (!weight->mask)
        return CNN_ERR_MEMORY;
    memset(weight->mask, 1, count);
    return CNN_OK;
}

static void clear_block(cnn_param *weight, const cnn_weight_block *block)
{
    float *w = weight->data;
    for (int32_t row = 0; row < block->rows; row++) {
        const int64_t first = block->first + row * block->stride;
        memset(weight->mask + first, 0, (size_t)block->columns);
        for (int32_t column = 0; column < block->columns; column++)
            w[first + column] = 0;
    }
}

/* Prunes l->remove weights in all and sets it to what came of it; of blocks with equal scores the last go first. */
static cnn_status mask_layer(layer *l, double *score, uint8_t *size)
{
    cnn_status status = CNN_OK;
    int64_t pooled = 0, need = l->remove - l->gone + l->back;
    l->remove = l->gone;
    if (need <= 0)
        return CNN_OK;
    for (int64_t i = 0; i < l->blocks; i++)
        if (l->size[i]) {
            score[pooled] = l->score[i];
            size[pooled++] = l->size[i];
        }
    score_cut cut = make_cut(score, size, pooled, need);
    CNN_TRY(cnn_prune_add_mask(l->weight));
    for (int64_t i = l->blocks - 1; i >= 0; i--) {
        if (!is_cut(&cut, l->score[i], l->size[i]))
            continue;
        const cnn_weight_block block = cnn_block_get(&l->grid, i);
        clear_block(l->weight, &block);
        l->remove += l->size[i];
        l->zeros++;
    }
out:
    return status;
}

/* ---- Regrowth ---- */

/* Mean gradient of a block. */
static double slope_of(const layer *l, const cnn_weight_block *block)
{
    double sum = 0;
    for (int32_t row = 0; row < block->rows; row++)
        for (int32_t column = 0; column < block->columns; column++)
            sum += l->slope[block->first + row * block->stride + column];
    return sum / (block->rows * block->columns);
}

/* Orders doubles that are not negative the other way round. */
static double reversed(double value)
{
    const double largest = DBL_MAX;
    uint64_t bits, top;
    memcpy(&bits, &value, sizeof bits);
    memcpy(&top, &largest, sizeof top);
    bits = top - bits;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Brings back l->back weights of blocks that were pruned before this step; of equal gradients the first. */
static void regrow_layer(layer *l, double *score, uint8_t *size)
{
    int64_t pooled = 0;
    for (int64_t i = 0; i < l->blocks; i++)
        if (!l->size[i]) {
            const cnn_weight_block block = cnn_block_get(&l->grid, i);
            score[pooled] = reversed(slope_of(l, &block));
            size[pooled++] = (uint8_t)(block.rows * block.columns);
        }
    score_cut cut = make_cut(score, size, pooled, l->back);
    pooled = 0;
    for (int64_t i = 0; i < l->blocks; i++) {
        if (l->size[i])
            continue;
        const uint8_t weights = size[pooled];
        if (!is_cut(&cut, score[pooled++], weights))
            continue;
        const cnn_weight_block block = cnn_block_get(&l->grid, i);
        for (int32_t row = 0; row < block.rows; row++)
            memset(l->weight->mask + block.first + row * block.stride, 1, (size_t)block.columns);
        l->remove -= weights;
        l->zeros--;
    }
}

/* How much of a layer comes back. */
static int64_t share_back(const layer *l, double share)
{
    const int64_t goes = l->remove - l->gone;
    const int64_t back = goes > 0 ? (int64_t)floor((double)goes * share + 0.5) : 0;
    return back < l->gone ? back : l->gone;
}

/* More zeros break no promise that was given before; block structure asks for enough zero blocks. */
static void set_structure(layer *l, cnn_score_unit unit)
{
    cnn_structure *structure = &l->weight->desc.structure;
    if (l->remove > l->gone && *structure == CNN_DENSE)
        *structure = CNN_SPARSE;
    if (l->back > 0 && *structure != CNN_DENSE) /* some zeros are none any more */
        *structure = CNN_SPARSE;
    if (unit == CNN_SCORE_BLOCKS && l->zeros * CNN_BLOCK_SHARE >= l->blocks)
        *structure = CNN_BLOCK_16X4;
}

static cnn_status mask_layers(layer_list *list, cnn_score_unit unit, const cnn_prune_options *options,
                              cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    for (int n = 0; n < list->count; n++) {
        layer *l = &list->of[n];
        result->candidates += l->count;
        l->remove = share_of(l->count, options->ratio, block_size(l));
    }
    if (options->global)
        compete(list, options->ratio);
    for (int n = 0; n < list->count; n++) {
        layer *l = &list->of[n];
        l->back = l->slope ? share_back(l, options->regrow) : 0;
        CNN_TRY(mask_layer(l, list->score, list->size));
        if (l->back > 0)
            regrow_layer(l, list->score, list->size);
        set_structure(l, unit);
        result->removed += l->remove;
    }
out:
    return status;
}

/* ---- The pass ---- */

/* Fails unless something goes, now or in a step before. what: "weight". */
static cnn_status check_removed(const cnn_model *model, const layer_list *list, const cnn_prune_options *options,
                                const cnn_prune_result *made, const char *what)
{
    cnn_status status = CNN_OK;
    if (list->count == 0)
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "model '%s' has no layer of %d outputs and %d inputs or more, which is one block; prune channels or "
                 "single weights",
                 model->name, CNN_BLOCK_OUTPUTS, CNN_BLOCK_INPUTS);
    if (made->removed == 0 && !options->on_the_way)
        CNN_FAIL(CNN_ERR_USAGE,
                 "a share of %g removes no %s from model '%s': its largest layer is too small for it; give a larger "
                 "share",
                 options->ratio, what, model->name);
out:
    return status;
}

static cnn_status prune(cnn_model *model, cnn_score_unit unit, const char *what, const cnn_prune_options *options,
                        cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    cnn_scores scores = {0}, gradients = {0};
    cnn_model *copy = NULL;
    layer_list list = {0};
    cnn_prune_result made = {0};
    CNN_TRY(cnn_prune_check(model, options, "weights"));
    if (!(options->regrow >= 0 && options->regrow < 1))
        CNN_FAIL(CNN_ERR_USAGE, "the share of weights that come back is %g; it must be at least 0 and less than 1",
                 options->regrow);
    CNN_TRY(cnn_scores_make(model, unit, options, &scores));
    if (options->per_bit && unit == CNN_SCORE_WEIGHTS)
        CNN_TRY(cnn_scores_per_bit(model, &scores));
    if (options->regrow > 0 && cnn_model_has_masks(model))
        CNN_TRY(cnn_gradients_make(model, options, &gradients));
    CNN_TRY(cnn_model_clone(model, &copy));
    CNN_TRY(list_layers(copy, &scores, &gradients, unit, options, &list));
    CNN_TRY(mask_layers(&list, unit, options, &made));
    CNN_TRY(check_removed(model, &list, options, &made, what));
    made.narrow = list.narrow;
    if (list.narrow1)
        snprintf(made.narrow_name, sizeof made.narrow_name, "%s", list.narrow1->name);
    cnn_model_swap(model, copy);
    if (result)
        *result = made;
out:
    free_layers(&list);
    cnn_model_free(copy);
    cnn_scores_free(&gradients);
    cnn_scores_free(&scores);
    return status;
}

cnn_status cnn_prune_weights(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result)
{
    return prune(model, CNN_SCORE_WEIGHTS, "weight", options, result);
}

cnn_status cnn_prune_blocks(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result)
{
    return prune(model, CNN_SCORE_BLOCKS, "block", options, result);
}
