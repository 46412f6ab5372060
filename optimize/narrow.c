/* Narrowing a model to a budget of weights and MACs: channels go one by one, or down to the next multiple of so many,
 * always those whose scores are least for what goes with them, the weights and MACs that make them and those that read
 * them as things stand then. So wide layers, whose channels are dear, give most. Where both are too many, each counts
 * as its share of what must still go. The last ones may take more than that; then channels come back, those with the
 * largest scores first, as long as the budget allows. Scores are those of the model as it is given: a long way is
 * better gone in several passes with training between. */
#include "cnn/optimize.h"

#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "optimize/channels.h"
#include "optimize/score.h"

#include <math.h>
#include <stdlib.h>

enum { LEAST_CHANNELS = 4 };

typedef struct ranked {
    double score;
    int32_t channel;
} ranked;

typedef struct narrowing {
    const cnn_model *model;
    cnn_channel_map map;
    ranked **order; /* [group]: its channels, the least first */
    int32_t *kept;  /* [group] */
    int32_t multiple;
} narrowing;

static int compare(const void *left, const void *right)
{
    const ranked *a = left, *b = right;
    if (a->score != b->score)
        return a->score < b->score ? -1 : 1;
    return (a->channel < b->channel) - (a->channel > b->channel); /* of equal ones the last goes first */
}

static cnn_status rank(narrowing *n, const cnn_scores *scores)
{
    for (int i = 0; i < n->model->node_count; i++) {
        cnn_channel_group *group = &n->map.groups[n->map.group[i]];
        for (int32_t c = 0; !group->fixed && scores->of[i] && c < group->channels; c++)
            group->score[c] += scores->of[i][c];
    }
    for (int g = 0; g < n->map.group_count; g++) {
        const cnn_channel_group *group = &n->map.groups[g];
        n->kept[g] = group->channels;
        n->order[g] = cnn_calloc((size_t)group->channels, sizeof **n->order);
        if (!n->order[g])
            return CNN_ERR_MEMORY;
        for (int32_t c = 0; c < group->channels; c++)
            n->order[g][c] = (ranked){group->score[c], c};
        qsort(n->order[g], (size_t)group->channels, sizeof **n->order, compare);
    }
    return CNN_OK;
}

/* How many channels a group has as widths stand: a concat's as many as its inputs'. */
static int32_t kept_of(const narrowing *n, int group)
{
    int32_t kept = 0;
    if (!n->map.groups[group].derived || n->map.groups[group].fixed)
        return n->kept[group];
    for (int i = 0; i < n->model->node_count; i++) {
        const cnn_node *node = &n->model->nodes[i];
        for (int j = 0; n->map.group[i] == group && node->type->id == CNN_LAYER_CONCAT && j < node->input_count; j++)
            kept += kept_of(n, n->map.group[node->input[j]]);
    }
    return kept;
}

/* Weights of a layer as widths stand. */
static int64_t weights_of(const narrowing *n, int index)
{
    const cnn_node *node = &n->model->nodes[index];
    const cnn_tensor_desc *desc = &node->param[CNN_PARAM_WEIGHT].desc;
    const int32_t inputs = cnn_node_groups(node) > 1 ? desc->c : kept_of(n, n->map.group[node->input[0]]);
    return (int64_t)kept_of(n, n->map.group[index]) * desc->h * desc->w * inputs;
}

/* What all layers cost. Each weight is read once for every pixel of its layer's output. */
static cnn_prune_budget count(const narrowing *n)
{
    cnn_prune_budget sum = {0};
    for (int i = 0; i < n->model->node_count; i++)
        if (cnn_node_has_weights(&n->model->nodes[i])) {
            const cnn_tensor_desc *out = &n->model->nodes[i].out;
            const int64_t weights = weights_of(n, i);
            sum.weights += weights;
            sum.macs += weights * out->h * out->w;
        }
    return sum;
}

static bool exceeds(int64_t cost, int64_t most)
{
    return most > 0 && cost > most;
}

static bool keeps_to(const cnn_prune_budget *cost, const cnn_prune_budget *budget)
{
    return !exceeds(cost->weights, budget->weights) && !exceeds(cost->macs, budget->macs);
}

/* How many channels a group has when it loses the next ones. */
static int32_t next_width(const narrowing *n, int group)
{
    return (n->kept[group] - 1) / n->multiple * n->multiple;
}

/* How many it has when the last ones that it lost come back. */
static int32_t last_width(const narrowing *n, int group)
{
    const int32_t width = (n->kept[group] / n->multiple + 1) * n->multiple, all = n->map.groups[group].channels;
    return width < all ? width : all;
}

/* What all layers cost when a group has another width. */
static cnn_prune_budget count_with(narrowing *n, int group, int32_t width)
{
    const int32_t kept = n->kept[group];
    n->kept[group] = width;
    const cnn_prune_budget sum = count(n);
    n->kept[group] = kept;
    return sum;
}

/* The share of what must still go, `most` being allowed, that a step removes. */
static double share_of(int64_t before, int64_t after, int64_t most)
{
    return exceeds(before, most) ? fmin(1, (double)(before - after) / (double)(before - most)) : 0;
}

/* How much nearer to the budget the model comes when a group loses the next channels. */
static double gain_of(narrowing *n, int group, const cnn_prune_budget *budget)
{
    const cnn_prune_budget before = count(n), after = count_with(n, group, next_width(n, group));
    return share_of(before.weights, after.weights, budget->weights) + share_of(before.macs, after.macs, budget->macs);
}

/* What channels score together that a group has with `width` and not with `narrow` channels. */
static double score_of(const narrowing *n, int group, int32_t width, int32_t narrow)
{
    double sum = 0;
    for (int32_t kept = width; kept > narrow; kept--)
        sum += n->order[group][n->map.groups[group].channels - kept].score;
    return sum;
}

/* The group that loses channels next; -1: none can. */
static int cheapest(narrowing *n, const cnn_prune_budget *budget)
{
    int best = -1;
    double least = 0;
    for (int g = 0; g < n->map.group_count; g++) {
        const cnn_channel_group *group = &n->map.groups[g];
        const int32_t width = next_width(n, g);
        if (group->fixed || group->layers == 0 || width < LEAST_CHANNELS)
            continue;
        const double score = score_of(n, g, n->kept[g], width) / gain_of(n, g, budget);
        if (best < 0 || score < least) {
            best = g;
            least = score;
        }
    }
    return best;
}

/* The group whose channels come back next: those that score most of what the budget allows; -1: none can. */
static int dearest(narrowing *n, const cnn_prune_budget *budget)
{
    int best = -1;
    double most = 0;
    for (int g = 0; g < n->map.group_count; g++) {
        const int32_t width = last_width(n, g);
        if (width == n->kept[g])
            continue;
        const cnn_prune_budget with = count_with(n, g, width);
        if (!keeps_to(&with, budget))
            continue;
        const double score = score_of(n, g, width, n->kept[g]);
        if (best < 0 || score > most) {
            best = g;
            most = score;
        }
    }
    return best;
}

/* Settles widths; what goes is marked. */
static void choose(narrowing *n, const cnn_prune_budget *budget)
{
    int g;
    for (cnn_prune_budget now = count(n); !keeps_to(&now, budget); now = count(n)) {
        g = cheapest(n, budget);
        if (g < 0)
            break;
        n->kept[g] = next_width(n, g);
    }
    while ((g = dearest(n, budget)) >= 0)
        n->kept[g] = last_width(n, g);
    for (g = 0; g < n->map.group_count; g++) {
        const cnn_channel_group *group = &n->map.groups[g];
        for (int32_t i = 0; i < group->channels - n->kept[g]; i++)
            group->keep[n->order[g][i].channel] = false;
    }
}

static void close_narrowing(narrowing *n)
{
    for (int g = 0; n->order && g < n->map.group_count; g++)
        free(n->order[g]);
    free(n->order);
    free(n->kept);
    cnn_channel_map_free(&n->map);
}

cnn_status cnn_prune_to_budget(cnn_model *model, const cnn_prune_budget *budget, const cnn_prune_options *options,
                               cnn_prune_budget *left)
{
    cnn_status status = CNN_OK;
    narrowing n = {.model = model, .multiple = options->multiple > 1 ? options->multiple : 1};
    cnn_scores scores = {0};
    cnn_model *copy = NULL;
    CNN_TRY(cnn_channel_map_make(model, &n.map));
    n.order = cnn_calloc((size_t)n.map.group_count, sizeof *n.order);
    n.kept = cnn_calloc((size_t)n.map.group_count, sizeof *n.kept);
    if (!n.order || !n.kept)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_scores_make(model, CNN_SCORE_CHANNELS, options, &scores));
    CNN_TRY(rank(&n, &scores));
    choose(&n, budget);
    CNN_TRY(cnn_model_clone(model, &copy));
    CNN_TRY(cnn_channels_remove(copy, &n.map));
    if (left)
        *left = count(&n);
    cnn_model_swap(model, copy);
out:
    cnn_model_free(copy);
    cnn_scores_free(&scores);
    close_narrowing(&n);
    return status;
}
