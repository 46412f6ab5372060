/* Pruning single weights: those with the smallest scores become 0 and get a mask that holds them there.
 *
 * A layer of n weights loses n*R of them, rounded to the nearest number, halves up, and keeps at least one. Weights
 * that are pruned already count as lost, so a larger share later only adds to a smaller one.
 *
 * With `global`, weights of all layers compete by score / mean score of their layer until the share R of all is gone.
 * No layer keeps fewer than an eighth of what each would keep without `global`: an emptied layer carries nothing on. */
#include "cnn/optimize.h"

#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "optimize/channels.h"
#include "optimize/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST_PART = 8 };

/* One prunable layer. */
typedef struct layer {
    cnn_param *weight;
    const double *score; /* [count] */
    int64_t count;
    int64_t gone;   /* pruned before */
    int64_t remove; /* to be pruned in all */
    int64_t most;   /* that may be pruned in all */
    double mean;    /* of the scores */
    bool full;      /* global: at its limit */
} layer;

static bool is_live(const layer *l, int64_t i)
{
    return !l->weight->mask || l->weight->mask[i];
}

/* ---- The layers ---- */

static int64_t share_of(int64_t count, double ratio)
{
    int64_t share = (int64_t)floor((double)count * ratio + 0.5);
    return share < count - 1 ? share : count - 1;
}

static int64_t limit_of(int64_t count, const cnn_prune_options *options)
{
    if (!options->global)
        return count - 1;
    int64_t least = (int64_t)((double)count * (1 - options->ratio) / SMALLEST_PART) + 1;
    return least < count ? count - least : 0;
}

static int list_layers(cnn_model *model, const cnn_scores *scores, const cnn_prune_options *options, layer *list)
{
    int layers = 0;
    for (int i = 0; i < model->node_count; i++) {
        if (!(model->nodes[i].type->flags & CNN_LAYER_PRUNABLE))
            continue;
        layer *l = &list[layers++];
        *l = (layer){.weight = &model->nodes[i].param[CNN_PARAM_WEIGHT], .score = scores->of[i]};
        l->count = cnn_desc_elements(&l->weight->desc);
        l->most = limit_of(l->count, options);
        for (int64_t e = 0; e < l->count; e++) {
            l->gone += !is_live(l, e);
            l->mean += l->score[e] / (double)l->count;
        }
    }
    return layers;
}

/* ---- Selection ---- */

/* The `rank`-th smallest (from 0) of values that are not negative, by their bits from the highest byte down: such
 * doubles are ordered as their bits are. */
static double select_smallest(const double *values, int64_t count, int64_t rank)
{
    uint64_t prefix = 0;
    for (int shift = 56; shift >= 0; shift -= 8) {
        int64_t histogram[256] = {0};
        for (int64_t i = 0; i < count; i++) {
            uint64_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            if (shift == 56 || bits >> (shift + 8) == prefix)
                histogram[bits >> shift & 255]++;
        }
        unsigned byte = 0;
        while (rank >= histogram[byte])
            rank -= histogram[byte++];
        prefix = prefix << 8 | byte;
    }
    double value;
    memcpy(&value, &prefix, sizeof value);
    return value;
}

static double normalized(const layer *l, int64_t i)
{
    return l->mean > 0 ? l->score[i] / l->mean : 0;
}

/* Sets l->remove of the layers that are not full, `need` live weights going from them in all. Among equal scores those
 * of the last layers go first. pool: scratch for the scores of all layers. */
static void take_smallest(layer *list, int layers, int64_t need, double *pool)
{
    int64_t pooled = 0, below = 0;
    for (int n = 0; n < layers; n++)
        for (int64_t i = 0; !list[n].full && i < list[n].count; i++)
            if (is_live(&list[n], i))
                pool[pooled++] = normalized(&list[n], i);
    bool any = need > 0 && pooled > 0;
    double threshold = any ? select_smallest(pool, pooled, (need < pooled ? need : pooled) - 1) : 0;
    for (int64_t i = 0; any && i < pooled; i++)
        below += pool[i] < threshold;
    int64_t equal = any ? need - below : 0;
    for (int n = layers - 1; n >= 0; n--) {
        layer *l = &list[n];
        if (l->full)
            continue;
        l->remove = l->gone;
        for (int64_t i = 0; any && i < l->count; i++) {
            if (!is_live(l, i) || normalized(l, i) > threshold)
                continue;
            if (normalized(l, i) == threshold && equal-- <= 0)
                continue;
            l->remove++;
        }
    }
}

/* Shares of layers that compete. A layer that would fall below its limit stops there, and the others go on. */
static void compete(layer *list, int layers, double ratio, double *pool)
{
    int64_t total = 0;
    bool again = true;
    for (int n = 0; n < layers; n++)
        total += list[n].count;
    while (again) {
        int64_t need = share_of(total, ratio);
        for (int n = 0; n < layers; n++)
            need -= list[n].full ? list[n].remove : list[n].gone;
        take_smallest(list, layers, need, pool);
        again = false;
        for (int n = 0; n < layers; n++)
            if (!list[n].full && list[n].remove > list[n].most) {
                list[n].remove = list[n].most > list[n].gone ? list[n].most : list[n].gone;
                list[n].full = again = true;
            }
    }
}

/* ---- Masks ---- */

/* Prunes l->remove weights in all; of those with equal scores the last go first. */
static cnn_status mask_layer(layer *l, double *pool)
{
    int64_t pooled = 0, need = l->remove - l->gone, below = 0;
    if (need <= 0)
        return CNN_OK;
    for (int64_t i = 0; i < l->count; i++)
        if (is_live(l, i))
            pool[pooled++] = l->score[i];
    double threshold = select_smallest(pool, pooled, need - 1);
    for (int64_t i = 0; i < pooled; i++)
        below += pool[i] < threshold;
    int64_t equal = need - below;
    if (!l->weight->mask) {
        l->weight->mask = cnn_aligned_alloc((size_t)l->count);
        if (!l->weight->mask)
            return CNN_ERR_MEMORY;
        memset(l->weight->mask, 1, (size_t)l->count);
    }
    float *w = l->weight->data;
    for (int64_t i = l->count - 1; i >= 0; i--) {
        if (!is_live(l, i) || l->score[i] > threshold || (l->score[i] == threshold && equal-- <= 0))
            continue;
        l->weight->mask[i] = 0;
        w[i] = 0;
    }
    l->weight->desc.structure = CNN_SPARSE;
    return CNN_OK;
}

static cnn_status mask_layers(layer *list, int layers, const cnn_prune_options *options, cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    for (int n = 0; n < layers; n++)
        result->candidates += list[n].count;
    double *pool = cnn_calloc((size_t)result->candidates + 1, sizeof *pool);
    if (!pool)
        return CNN_ERR_MEMORY;
    for (int n = 0; n < layers; n++)
        list[n].remove = share_of(list[n].count, options->ratio);
    if (options->global)
        compete(list, layers, options->ratio, pool);
    for (int n = 0; n < layers; n++) {
        CNN_TRY(mask_layer(&list[n], pool));
        result->removed += list[n].remove > list[n].gone ? list[n].remove : list[n].gone;
    }
out:
    free(pool);
    return status;
}

/* ---- The pass ---- */

cnn_status cnn_prune_weights(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    cnn_scores scores = {0};
    cnn_model *copy = NULL;
    layer *list = NULL;
    cnn_prune_result made = {0};
    CNN_TRY(cnn_prune_check(model, options, "weights"));
    CNN_TRY(cnn_scores_make(model, CNN_SCORE_WEIGHTS, options, &scores));
    CNN_TRY(cnn_model_clone(model, &copy));
    list = cnn_calloc((size_t)model->node_count, sizeof *list);
    if (!list) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    int layers = list_layers(copy, &scores, options, list);
    CNN_TRY(mask_layers(list, layers, options, &made));
    if (made.removed == 0 && !options->on_the_way)
        CNN_FAIL(
            CNN_ERR_USAGE,
            "a share of %g removes no weight from model '%s': its largest layer is too small for it; give a larger "
            "share",
            options->ratio, model->name);
    cnn_model_swap(model, copy);
    if (result)
        *result = made;
out:
    free(list);
    cnn_model_free(copy);
    cnn_scores_free(&scores);
    return status;
}
