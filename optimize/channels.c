/* Channel groups by union-find over the graph, and slicing of parameters.
 *
 * A node that keeps channels (BN, ReLU, pooling, add) is in the group of its inputs; a convolution or linear layer
 * starts a group and reads another one through the last dimension of its weights [K,R,S,C]. That holds for a
 * linear layer behind a feature map as well: it reads [K,H,W,C].
 *
 * A concat's channels are a group of their own, derived from those of its inputs: what the pieces keep, it keeps. Where
 * such a group would have to agree with another one, behind an add, all of them stay whole.
 *
 * A depthwise convolution keeps channels, too: it loses its filters with them. One of other groups holds the channels
 * it reads and those it makes: all of its groups would have to lose as many. */
#include "optimize/channels.h"

#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- Groups ---- */

static int find_root(const int *parent, int node)
{
    while (parent[node] != node)
        node = parent[node];
    return node;
}

/* The smaller number becomes the root, so that groups are numbered by their first node. */
static void unite(int *parent, int a, int b)
{
    a = find_root(parent, a);
    b = find_root(parent, b);
    if (a < b)
        parent[b] = a;
    else
        parent[a] = b;
}

static bool shares_channels(const cnn_node *node)
{
    return (node->type->flags & CNN_LAYER_KEEPS_CHANNELS) != 0 || cnn_node_is_depthwise(node);
}

static void unite_all(const cnn_model *model, int *parent)
{
    for (int i = 0; i < model->node_count; i++)
        parent[i] = i;
    for (int i = 0; i < model->node_count; i++)
        if (shares_channels(&model->nodes[i]))
            for (int j = 0; j < model->nodes[i].input_count; j++)
                unite(parent, i, model->nodes[i].input[j]);
}

/* Numbers the roots and gives each group its arrays. */
static cnn_status number_groups(const cnn_model *model, const int *parent, cnn_channel_map *map)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < model->node_count; i++) {
        int root = find_root(parent, i);
        if (root != i) {
            map->group[i] = map->group[root];
            continue;
        }
        cnn_channel_group *group = &map->groups[map->group_count];
        map->group[i] = map->group_count++;
        group->channels = model->nodes[i].out.c;
        group->original = group->channels;
        group->keep = cnn_calloc((size_t)group->channels, sizeof *group->keep);
        group->score = cnn_calloc((size_t)group->channels, sizeof *group->score);
        if (!group->keep || !group->score) {
            status = CNN_ERR_MEMORY;
            goto out;
        }
        for (int32_t c = 0; c < group->channels; c++)
            group->keep[c] = true;
    }
out:
    return status;
}

/* A layer that is not prunable holds what it writes, and without weights to slice also what it reads; so do groups. */
static void mark_fixed(const cnn_model *model, cnn_channel_map *map)
{
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        cnn_channel_group *own = &map->groups[map->group[i]];
        if (shares_channels(node))
            continue;
        if (node->type->id == CNN_LAYER_CONCAT) {
            own->derived = true;
            continue;
        }
        const bool groups = cnn_node_groups(node) > 1;
        if (node->type->flags & CNN_LAYER_PRUNABLE && !groups)
            own->layers++;
        else
            own->fixed = true;
        for (int j = 0; (groups || !cnn_node_has_weights(node)) && j < node->input_count; j++)
            map->groups[map->group[node->input[j]]].fixed = true;
    }
    map->groups[map->group[model->node_count - 1]].fixed = true;
}

/* Whether a concat's group has nothing but what comes of that concat. */
static bool is_free(const cnn_model *model, const cnn_channel_map *map, int concat)
{
    const cnn_channel_group *own = &map->groups[map->group[concat]];
    if (own->fixed || own->layers > 0)
        return false;
    for (int i = 0; i < model->node_count; i++)
        if (i != concat && map->group[i] == map->group[concat] &&
            (i < concat || model->nodes[i].type->id == CNN_LAYER_CONCAT))
            return false;
    return true;
}

/* What is put together with what cannot give way holds it. */
static void mark_pieces(const cnn_model *model, cnn_channel_map *map)
{
    for (int i = model->node_count - 1; i > 0; i--) { /* a concat may be a piece of a later one */
        const cnn_node *node = &model->nodes[i];
        if (node->type->id != CNN_LAYER_CONCAT || is_free(model, map, i))
            continue;
        map->groups[map->group[i]].fixed = true;
        for (int j = 0; j < node->input_count; j++)
            map->groups[map->group[node->input[j]]].fixed = true;
    }
}

bool cnn_channel_is_piece(const cnn_model *model, const cnn_channel_map *map, int group)
{
    for (int i = 0; i < model->node_count; i++)
        for (int j = 0; model->nodes[i].type->id == CNN_LAYER_CONCAT && j < model->nodes[i].input_count; j++)
            if (map->group[model->nodes[i].input[j]] == group)
                return true;
    return false;
}

cnn_status cnn_channel_map_make(const cnn_model *model, cnn_channel_map *map)
{
    cnn_status status = CNN_OK;
    size_t count = (size_t)model->node_count;
    int *parent = cnn_calloc(count, sizeof *parent);
    cnn_channel_map made = {0};
    made.group = cnn_calloc(count, sizeof *made.group);
    made.groups = cnn_calloc(count, sizeof *made.groups);
    if (!parent || !made.group || !made.groups) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    unite_all(model, parent);
    CNN_TRY(number_groups(model, parent, &made));
    mark_fixed(model, &made);
    mark_pieces(model, &made);
    *map = made;
    memset(&made, 0, sizeof made);
out:
    cnn_channel_map_free(&made);
    free(parent);
    return status;
}

void cnn_channel_map_free(cnn_channel_map *map)
{
    for (int g = 0; g < map->group_count; g++) {
        free(map->groups[g].keep);
        free(map->groups[g].score);
    }
    free(map->groups);
    free(map->group);
    memset(map, 0, sizeof *map);
}

int32_t cnn_channel_group_kept(const cnn_channel_group *group)
{
    int32_t kept = 0;
    for (int32_t c = 0; c < group->channels; c++)
        kept += group->keep[c];
    return kept;
}

/* ---- Slicing ---- */

/* Copies the elements of src [n,h,w,c] whose n and c are kept, in order. keep_n or keep_c NULL keeps all. */
static void slice(uint8_t *dst, const uint8_t *src, const cnn_tensor_desc *desc, size_t element_bytes,
                  const bool *keep_n, const bool *keep_c)
{
    for (int32_t n = 0; n < desc->n; n++) {
        if (keep_n && !keep_n[n])
            continue;
        for (int32_t pixel = 0; pixel < desc->h * desc->w; pixel++)
            for (int32_t c = 0; c < desc->c; c++) {
                if (keep_c && !keep_c[c])
                    continue;
                size_t from = ((size_t)n * (size_t)(desc->h * desc->w) + (size_t)pixel) * (size_t)desc->c + (size_t)c;
                memcpy(dst, src + from * element_bytes, element_bytes);
                dst += element_bytes;
            }
    }
}

static int32_t count_kept(const bool *keep, int32_t count)
{
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++)
        kept += !keep || keep[i];
    return kept;
}

/* Replaces a parameter by its slice. Blocks and 2:4 groups do not survive a change of channels: a structured
 * parameter becomes generally sparse. */
static cnn_status slice_param(cnn_param *param, const bool *keep_n, const bool *keep_c)
{
    cnn_status status = CNN_OK;
    cnn_param made = {0};
    cnn_tensor_desc from = param->desc;
    cnn_tensor_desc to = cnn_desc(from.dtype, count_kept(keep_n, from.n), from.h, from.w, count_kept(keep_c, from.c));
    CNN_TRY(cnn_param_alloc(&made, to));
    slice(made.data, param->data, &from, cnn_dtype_bytes(from.dtype), keep_n, keep_c);
    if (param->mask) {
        made.mask = cnn_aligned_alloc((size_t)cnn_desc_elements(&to));
        if (!made.mask) {
            status = CNN_ERR_MEMORY;
            goto out;
        }
        slice(made.mask, param->mask, &from, 1, keep_n, keep_c);
    }
    made.desc.structure = from.structure == CNN_DENSE ? CNN_DENSE : CNN_SPARSE;
    made.levels = param->levels;
    made.step = param->step;
    if (param->grid) {
        made.grid = cnn_aligned_alloc((size_t)to.n * sizeof *made.grid);
        if (!made.grid) {
            status = CNN_ERR_MEMORY;
            goto out;
        }
        const cnn_tensor_desc steps = cnn_desc(CNN_F32, from.n, 1, 1, 1);
        slice((uint8_t *)made.grid, (const uint8_t *)param->grid, &steps, sizeof *made.grid, keep_n, NULL);
    }
    cnn_param old = *param;
    *param = made;
    made = old;
out:
    cnn_param_free(&made);
    return status;
}

static cnn_status slice_node(cnn_model *model, int index, const cnn_channel_map *map)
{
    cnn_status status = CNN_OK;
    cnn_node *node = &model->nodes[index];
    const cnn_channel_group *out_group = &map->groups[map->group[index]];
    const bool depthwise = cnn_node_is_depthwise(node), groups = cnn_node_groups(node) > 1;
    for (int role = 0; role < CNN_PARAM_COUNT; role++) {
        cnn_param *param = &node->param[role];
        if (param->desc.dtype == CNN_NONE || role == CNN_PARAM_STEP)
            continue;
        if (role == CNN_PARAM_WEIGHT)
            CNN_TRY(slice_param(param, out_group->keep, groups ? NULL : map->groups[map->group[node->input[0]]].keep));
        else
            CNN_TRY(slice_param(param, NULL, out_group->keep));
    }
    if (node->type->flags & CNN_LAYER_PRUNABLE)
        cnn_node_set_attr(node, "out", cnn_channel_group_kept(out_group));
    if (depthwise)
        cnn_node_set_attr(node, "groups", cnn_channel_group_kept(out_group));
out:
    return status;
}

/* A concat keeps what its inputs keep. */
static void derive(const cnn_model *model, const cnn_channel_map *map)
{
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        bool *keep = map->groups[map->group[i]].keep;
        for (int j = 0; node->type->id == CNN_LAYER_CONCAT && j < node->input_count; j++) {
            const cnn_channel_group *piece = &map->groups[map->group[node->input[j]]];
            memcpy(keep, piece->keep, (size_t)piece->channels * sizeof *keep);
            keep += piece->channels;
        }
    }
}

cnn_status cnn_channels_remove(cnn_model *model, const cnn_channel_map *map)
{
    cnn_status status = CNN_OK;
    derive(model, map);
    for (int i = 0; i < model->node_count; i++)
        CNN_TRY(slice_node(model, i, map));
    CNN_TRY(cnn_model_infer_shapes(model, model->name));
out:
    return status;
}

void cnn_model_swap(cnn_model *a, cnn_model *b)
{
    cnn_model keep = *a;
    *a = *b;
    *b = keep;
}
