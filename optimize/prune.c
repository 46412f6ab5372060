/* Channel pruning: the output channels with the smallest scores go, with everything that depends on them.
 *
 * How many stay. A layer of n channels keeps n*(1-R), rounded to the nearest multiple of a step and never below its
 * floor. The step is 8 where n >= 64, else the largest power of two that divides the layer in 8 parts or more (1
 * for 6 channels, 2 for 16, 4 for 50): whole vectors and INT8 tiles where it matters, R where the layer is small.
 * The floor is 1/8 of the channels and 4 of them, all where there are fewer.
 *
 * Exact widths are not rounded and know no floor.
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
#include <string.h>

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
    CNN_TRY(cnn_prune_check_float(model));
out:
    return status;
}

cnn_status cnn_prune_check_float(const cnn_model *model)
{
    cnn_status status = CNN_OK;
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
        result->removed += group->derived ? 0 : group->original - cnn_channel_group_kept(group);
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

/* ---- Exact widths ---- */

/* What a list of widths asks for. */
typedef struct width_list {
    const cnn_model *model;
    cnn_channel_map map;
    int32_t *kept;   /* [group]; 0: it stays whole */
    const char **by; /* [group] the layer that was named for it */
} width_list;

/* The layer of this name; NULL unless it can lose channels. */
static const cnn_node *find_width_layer(const width_list *list, const char *name, int *group)
{
    const int node = cnn_model_find(list->model, name);
    if (node < 0 || !(list->model->nodes[node].type->flags & CNN_LAYER_PRUNABLE))
        return NULL;
    *group = list->map.group[node];
    return prunable(&list->map.groups[*group]) ? &list->model->nodes[node] : NULL;
}

/* The refusal of a name, with those that there are. */
static cnn_status refuse_width_name(const width_list *list, const char *name)
{
    cnn_status status = CNN_OK;
    cnn_text names = {0};
    int group;
    for (int i = 0; i < list->model->node_count; i++)
        if (find_width_layer(list, list->model->nodes[i].name, &group))
            cnn_text_append(&names, "%s%s", names.length > 0 ? ", " : "", list->model->nodes[i].name);
    if (names.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_FAIL(CNN_ERR_USAGE, "%s has no layer '%s' that can lose channels; those that can are %s", list->model->name,
             name, names.length > 0 ? names.data : "none: only its last layer has weights");
out:
    cnn_text_free(&names);
    return status;
}

static cnn_status set_width(width_list *list, const char *name, long width)
{
    cnn_status status = CNN_OK;
    int g = 0;
    const cnn_node *node = find_width_layer(list, name, &g);
    if (!node)
        return refuse_width_name(list, name);
    if (width < 1 || width > list->map.groups[g].channels)
        CNN_FAIL(CNN_ERR_USAGE, "%s is to keep %ld channels, and has %d: it can keep 1 to %d", name, width,
                 (int)list->map.groups[g].channels, (int)list->map.groups[g].channels);
    if (list->kept[g] > 0 && list->kept[g] != width)
        CNN_FAIL(CNN_ERR_USAGE, "%s is to keep %ld channels and %s %d, but %s", name, width, list->by[g],
                 (int)list->kept[g],
                 strcmp(list->by[g], node->name) == 0 ? "it is one layer" : "they can only lose channels together");
    list->kept[g] = (int32_t)width;
    list->by[g] = node->name;
out:
    return status;
}

/* Reads "LAYER=N,LAYER=N". */
static cnn_status read_widths(width_list *list, const char *text)
{
    cnn_status status = CNN_OK;
    for (const char *at = text; at;) {
        char name[CNN_NAME_BYTES], *end = NULL;
        const size_t length = strcspn(at, ","), before = strcspn(at, ",=");
        const bool digits = before + 1 < length && strspn(at + before + 1, "0123456789") == length - before - 1;
        if (before == 0 || before >= sizeof name || !digits || length - before > 9)
            CNN_FAIL(CNN_ERR_USAGE, "'%.*s' is no width: write LAYER=N, as in conv1=7,conv2=14",
                     (int)(length < CNN_NAME_BYTES ? length : CNN_NAME_BYTES), at);
        memcpy(name, at, before);
        name[before] = '\0';
        CNN_TRY(set_width(list, name, strtol(at + before + 1, &end, 10)));
        at = at[length] ? at + length + 1 : NULL;
    }
out:
    return status;
}

/* Clears `keep` of what goes, and counts it. */
static cnn_status keep_widths(width_list *list, cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    size_t total = 0;
    for (int g = 0; g < list->map.group_count; g++)
        total += (size_t)list->map.groups[g].channels;
    candidate *scratch = cnn_calloc(total, sizeof *scratch);
    if (!scratch)
        return CNN_ERR_MEMORY;
    for (int g = 0; g < list->map.group_count; g++) {
        cnn_channel_group *group = &list->map.groups[g];
        result->candidates += prunable(group) ? group->channels : 0;
        if (list->kept[g] == 0)
            continue;
        keep_best(group, list->kept[g], scratch);
        result->removed += group->channels - list->kept[g];
    }
    if (result->removed == 0)
        CNN_FAIL(CNN_ERR_USAGE, "%s has these numbers of channels already; keep fewer", list->model->name);
out:
    free(scratch);
    return status;
}

cnn_status cnn_prune_to_widths(cnn_model *model, const char *widths, const cnn_prune_options *options,
                               cnn_prune_result *result)
{
    cnn_status status = CNN_OK;
    width_list list = {.model = model};
    cnn_prune_result made = {0};
    cnn_model *copy = NULL;
    CNN_TRY(cnn_prune_check_float(model));
    CNN_TRY(cnn_channel_map_make(model, &list.map));
    list.kept = cnn_calloc((size_t)list.map.group_count, sizeof *list.kept);
    list.by = cnn_calloc((size_t)list.map.group_count, sizeof *list.by);
    if (!list.kept || !list.by)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(read_widths(&list, widths));
    CNN_TRY(score_groups(model, options, &list.map, &made));
    CNN_TRY(keep_widths(&list, &made));
    CNN_TRY(cnn_model_clone(model, &copy));
    CNN_TRY(cnn_channels_remove(copy, &list.map));
    cnn_model_swap(model, copy);
    if (result)
        *result = made;
out:
    cnn_model_free(copy);
    cnn_channel_map_free(&list.map);
    free(list.kept);
    free(list.by);
    return status;
}
