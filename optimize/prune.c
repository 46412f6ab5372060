/* Channel pruning: the output channels with the smallest scores go, with everything that depends on them.
 *
 * How many stay. A layer of n channels keeps n*(1-R), rounded to the nearest multiple of a step and never below its
 * floor. The step is 8 where n >= 64, else the largest power of two that divides the layer in 8 parts or more (1
 * for 6 channels, 2 for 16, 4 for 50): whole vectors and INT8 tiles where it matters, R where the layer is small.
 * The floor is 1/8 of the channels and 4 of them, all where there are fewer.
 *
 * With `global`, channels of all layers compete by score / mean score of their layer until the share R of all is
 * gone; then each layer is rounded by the same rule. */
#include "cnn/optimize.h"

#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "optimize/channels.h"
#include "optimize/score.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { LARGEST_STEP = 8, PARTS_OF_A_LAYER = 8, LEAST_CHANNELS = 4 };

/* ---- Scores ---- */

/* A group's channel scores what its layers say together. */
static cnn_status score_groups(cnn_model *model, const cnn_prune_options *options, cnn_channel_map *map,
                               cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    cnn_scores scores = {0};
    CNN_TRY(cnn_scores_make(model, CNN_SCORE_CHANNELS, options, &scores));
    for (int i = 0; i < model->node_count; i++) {
        cnn_channel_group *group = &map->groups[map->group[i]];
        if (group->fixed || !(model->nodes[i].type->flags & CNN_LAYER_PRUNABLE))
            continue;
        for (int32_t k = 0; k < group->channels; k++)
            group->score[k] += scores.of[i][k];
    }
    result->fallbacks = scores.fallbacks;
    if (scores.fallback_name)
        snprintf(result->fallback, sizeof result->fallback, "%s", scores.fallback_name);
out:
    cnn_scores_free(&scores);
    return status;
}

/* ---- Counts ---- */

static int32_t step_of(int32_t channels)
{
    int32_t step = 1;
    while (step < LARGEST_STEP && 2 * step * PARTS_OF_A_LAYER <= channels)
        step *= 2;
    return step;
}

/* Fewest channels that stay, a multiple of the step unless that is the whole layer. */
static int32_t floor_of(int32_t channels)
{
    int32_t least = (channels + 7) / 8;
    if (least < LEAST_CHANNELS)
        least = LEAST_CHANNELS;
    int32_t step = step_of(channels);
    least = (least + step - 1) / step * step;
    return least < channels ? least : channels;
}

/* The multiple of the step nearest to `wanted`, halves up, within [floor, channels]. */
static int32_t round_kept(double wanted, const cnn_channel_group *group)
{
    int32_t step = step_of(group->original);
    int32_t kept = (int32_t)floor(wanted / step + 0.5) * step;
    if (kept < floor_of(group->original))
        kept = floor_of(group->original);
    return kept < group->channels ? kept : group->channels;
}

/* ---- Selection ---- */

typedef struct candidate {
    double score;
    int group;
    int32_t channel;
} candidate;

/* Smallest score first; among equals the channel with the highest number goes first, so that the first stay. */
static int compare_candidates(const void *left, const void *right)
{
    const candidate *a = left, *b = right;
    if (a->score != b->score)
        return a->score < b->score ? -1 : 1;
    if (a->channel != b->channel)
        return a->channel > b->channel ? -1 : 1;
    return (a->group > b->group) - (a->group < b->group);
}

static bool prunable(const cnn_channel_group *group)
{
    return !group->fixed && group->layers > 0;
}

/* Clears `keep` of all but the `kept` best channels of a group. */
static void keep_best(cnn_channel_group *group, int32_t kept, candidate *scratch /* [channels] */)
{
    for (int32_t c = 0; c < group->channels; c++)
        scratch[c] = (candidate){group->score[c], 0, c};
    qsort(scratch, (size_t)group->channels, sizeof *scratch, compare_candidates);
    for (int32_t i = 0; i < group->channels; i++)
        group->keep[scratch[i].channel] = i >= group->channels - kept;
}

/* Channels of all prunable groups by normalized score; returns how many. */
static int64_t list_candidates(const cnn_channel_map *map, candidate *list)
{
    int64_t count = 0;
    for (int g = 0; g < map->group_count; g++) {
        const cnn_channel_group *group = &map->groups[g];
        if (!prunable(group))
            continue;
        double mean = 0;
        for (int32_t c = 0; c < group->channels; c++)
            mean += group->score[c] / group->channels;
        for (int32_t c = 0; c < group->channels; c++)
            list[count++] = (candidate){mean > 0 ? group->score[c] / mean : 0, g, c};
    }
    return count;
}

/* kept[g] = channels of group g that stay when all compete. A group's channels count once for each layer that makes
 * them, as they do in the share that the user asked for. */
static void compete(const cnn_channel_map *map, double ratio, candidate *list, int32_t *kept)
{
    int64_t count = list_candidates(map, list);
    double total = 0, removed = 0;
    qsort(list, (size_t)count, sizeof *list, compare_candidates);
    for (int g = 0; g < map->group_count; g++) {
        const cnn_channel_group *group = &map->groups[g];
        kept[g] = group->channels;
        total += prunable(group) ? (double)group->original * group->layers : 0;
        removed += prunable(group) ? (double)(group->original - group->channels) * group->layers : 0;
    }
    for (int64_t i = 0; i < count && removed < floor(total * ratio + 0.5); i++) {
        const cnn_channel_group *group = &map->groups[list[i].group];
        if (kept[list[i].group] <= floor_of(group->original))
            continue;
        kept[list[i].group]--;
        removed += group->layers;
    }
}

static cnn_status select_channels(cnn_channel_map *map, const cnn_prune_options *options)
{
    cnn_status status = CNN_OK;
    size_t total = 0;
    for (int g = 0; g < map->group_count; g++)
        total += (size_t)map->groups[g].channels;
    candidate *list = cnn_calloc(total, sizeof *list);
    int32_t *kept = cnn_calloc((size_t)map->group_count, sizeof *kept);
    if (!list || !kept) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    if (options->global)
        compete(map, options->ratio, list, kept);
    for (int g = 0; g < map->group_count; g++) {
        cnn_channel_group *group = &map->groups[g];
        if (!prunable(group))
            continue;
        double wanted = options->global ? kept[g] : group->original * (1 - options->ratio);
        keep_best(group, round_kept(wanted, group), list);
    }
out:
    free(kept);
    free(list);
    return status;
}

/* ---- The pass ---- */

cnn_status cnn_prune_check(const cnn_model *model, const cnn_prune_options *options, const char *what)
{
    cnn_status status = CNN_OK;
    if (!(options->ratio > 0 && options->ratio < 1))
        CNN_FAIL(CNN_ERR_USAGE, "the share of %s to remove is %g; it must lie between 0 and 1, both excluded", what,
                 options->ratio);
    if (cnn_model_is_quantized(model))
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "the model is already INT8, and only float models can be pruned; start from the model that cnn-train "
                 "wrote");
out:
    return status;
}

/* Fails unless something goes, now or in a step before. */
static cnn_status check_selection(const cnn_model *model, const cnn_channel_map *map, const cnn_prune_options *options,
                                  cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    for (int g = 0; g < map->group_count; g++) {
        const cnn_channel_group *group = &map->groups[g];
        result->candidates += prunable(group) ? group->original : 0;
        result->removed += group->original - cnn_channel_group_kept(group);
    }
    if (result->candidates == 0)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "model '%s' has no layer that can lose channels: only its last layer has weights",
                 model->name);
    if (result->removed == 0 && !options->on_the_way)
        CNN_FAIL(CNN_ERR_USAGE,
                 "a share of %g removes no channel from model '%s': its layers lose whole steps of channels (8 where a "
                 "layer has 64 or more) and keep at least 4; give a larger share",
                 options->ratio, model->name);
out:
    return status;
}

/* Holds all groups but that of one layer. */
static void hold_others(const cnn_model *model, cnn_channel_map *map, const char *only)
{
    int node = cnn_model_find(model, only);
    for (int g = 0; g < map->group_count; g++)
        map->groups[g].fixed |= node < 0 || g != map->group[node];
}

cnn_status cnn_prune_channels(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    cnn_channel_map map = {0};
    cnn_prune_result made = {0};
    cnn_model *copy = NULL;
    CNN_TRY(cnn_prune_check(model, options, "channels"));
    CNN_TRY(cnn_channel_map_make(model, &map));
    for (int i = 0; options->original && i < model->node_count; i++)
        map.groups[map.group[i]].original = options->original->nodes[i].out.c;
    if (options->only)
        hold_others(model, &map, options->only);
    CNN_TRY(score_groups(model, options, &map, &made));
    CNN_TRY(select_channels(&map, options));
    CNN_TRY(check_selection(model, &map, options, &made));
    CNN_TRY(cnn_model_clone(model, &copy));
    CNN_TRY(cnn_channels_remove(copy, &map));
    cnn_model_swap(model, copy);
    if (result)
        *result = made;
out:
    cnn_model_free(copy);
    cnn_channel_map_free(&map);
    return status;
}
