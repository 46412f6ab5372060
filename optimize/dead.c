/* Units that carry nothing any more: channels of convolutions and outputs of linear layers.
 *
 * A unit is dead when no layer reads it with a weight other than 0, and when no weight other than 0 makes it: what it
 * gives is then the same for every image. One death brings others: the weights that read a dead unit fall, and with
 * them perhaps all that another one is read by. Units are those of channel groups (channels.h), so that batch norms,
 * pooling and adds go along, and depthwise convolutions: where the filter of one is all 0, nothing makes the unit.
 *
 * Masking, in the middle of training, drops the constant that a unit without inputs gives: training goes on, and biases
 * take it over. Removing changes no answer. There the constant goes into the biases of the layers that read it. Where
 * it cannot, because padding has no such constant, or a batch norm or an add stands between, the unit stays. */
#include "cnn/optimize.h"

#include "core/error.h"
#include "core/file.h"
#include "core/layers.h"
#include "core/memory.h"
#include "optimize/channels.h"

#include <stdlib.h>
#include <string.h>

typedef struct life {
    cnn_model *model;
    cnn_channel_map map;
    bool **made, **read; /* [group][channel]: some weight other than 0 makes it, reads it */
} life;

/* ---- Who lives ---- */

/* The input channel that weight i of output k reads. */
static int32_t input_of(const cnn_node *node, int32_t k, int64_t i)
{
    const cnn_tensor_desc *desc = &node->param[CNN_PARAM_WEIGHT].desc;
    return k / (desc->n / cnn_node_groups(node)) * desc->c + (int32_t)(i % desc->c);
}

/* Whether all weights of output k are 0. */
static bool is_silent(const cnn_node *node, int32_t k)
{
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
    for (int64_t i = 0; i < row; i++)
        if (!cnn_param_is_zero(weight, k * row + i))
            return false;
    return true;
}

/* Notes which outputs of a layer have a weight, and which inputs. */
static void look_at(life *l, int index)
{
    const cnn_node *node = &l->model->nodes[index];
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
    bool *made = l->made[l->map.group[index]], *read = l->read[l->map.group[node->input[0]]];
    for (int32_t k = 0; k < weight->desc.n; k++)
        for (int64_t i = 0; i < row; i++)
            if (!cnn_param_is_zero(weight, k * row + i))
                made[k] = read[input_of(node, k, i)] = true;
}

/* Where all that a group's layers make goes through a depthwise convolution, its filters decide, too. */
static void look_through(life *l, int index)
{
    const int group = l->map.group[index];
    for (int i = 0; i < l->model->node_count; i++)
        if (l->map.group[i] == group && l->model->nodes[i].type->id == CNN_LAYER_ADD)
            return;
    for (int32_t c = 0; c < l->map.groups[group].channels; c++)
        if (!l->map.groups[group].fixed && is_silent(&l->model->nodes[index], c))
            l->made[group][c] = false;
}

/* What reads a concat reads its pieces, and what makes them makes it. */
static void look_into_concats(life *l)
{
    for (int i = l->model->node_count - 1; i > 0; i--) { /* a concat may be a piece of a later one */
        const cnn_node *node = &l->model->nodes[i];
        int32_t first = 0;
        for (int j = 0; node->type->id == CNN_LAYER_CONCAT && j < node->input_count; j++) {
            const int piece = l->map.group[node->input[j]];
            for (int32_t c = 0; c < l->map.groups[piece].channels; c++)
                l->read[piece][c] |= l->read[l->map.group[i]][first + c];
            first += l->map.groups[piece].channels;
        }
    }
    for (int i = 0; i < l->model->node_count; i++) {
        const cnn_node *node = &l->model->nodes[i];
        int32_t first = 0;
        for (int j = 0; node->type->id == CNN_LAYER_CONCAT && j < node->input_count; j++) {
            const int piece = l->map.group[node->input[j]];
            for (int32_t c = 0; c < l->map.groups[piece].channels; c++)
                l->made[l->map.group[i]][first + c] |= l->made[piece][c];
            first += l->map.groups[piece].channels;
        }
    }
}

static void look_around(life *l)
{
    for (int g = 0; g < l->map.group_count; g++) {
        const cnn_channel_group *group = &l->map.groups[g];
        memset(l->made[g], group->fixed, (size_t)group->channels * sizeof(bool));
        memset(l->read[g], group->fixed, (size_t)group->channels * sizeof(bool));
    }
    for (int i = 0; i < l->model->node_count; i++)
        if (cnn_node_has_weights(&l->model->nodes[i]) && !cnn_node_is_depthwise(&l->model->nodes[i]))
            look_at(l, i);
    look_into_concats(l);
    for (int i = 0; i < l->model->node_count; i++)
        if (cnn_node_is_depthwise(&l->model->nodes[i]))
            look_through(l, i);
}

static cnn_status open_life(cnn_model *model, life *l)
{
    cnn_status status = CNN_OK;
    l->model = model;
    CNN_TRY(cnn_channel_map_make(model, &l->map));
    l->made = cnn_calloc((size_t)l->map.group_count, sizeof *l->made);
    l->read = cnn_calloc((size_t)l->map.group_count, sizeof *l->read);
    if (!l->made || !l->read)
        CNN_TRY(CNN_ERR_MEMORY);
    for (int g = 0; g < l->map.group_count; g++) {
        l->made[g] = cnn_calloc((size_t)l->map.groups[g].channels, sizeof **l->made);
        l->read[g] = cnn_calloc((size_t)l->map.groups[g].channels, sizeof **l->read);
        if (!l->made[g] || !l->read[g])
            CNN_TRY(CNN_ERR_MEMORY);
    }
    look_around(l);
out:
    return status;
}

static void close_life(life *l)
{
    for (int g = 0; g < l->map.group_count; g++) {
        if (l->made)
            free(l->made[g]);
        if (l->read)
            free(l->read[g]);
    }
    free(l->made);
    free(l->read);
    cnn_channel_map_free(&l->map);
}

/* ---- Masking ---- */

/* Prunes element i; returns whether it lived. */
static bool prune_element(cnn_param *weight, int64_t i)
{
    const bool lived = weight->mask[i] != 0;
    weight->mask[i] = 0;
    ((float *)weight->data)[i] = 0;
    return lived;
}

/* Prunes what makes dead units and what reads them. */
static bool prune_node(life *l, int index)
{
    const cnn_node *node = &l->model->nodes[index];
    cnn_param *weight = &l->model->nodes[index].param[CNN_PARAM_WEIGHT];
    const int own = l->map.group[index], from = l->map.group[node->input[0]];
    const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
    bool any = false;
    if (!weight->mask)
        return false;
    for (int32_t k = 0; k < weight->desc.n; k++)
        for (int64_t i = 0; i < row; i++) {
            const int32_t c = input_of(node, k, i);
            if (!l->made[own][k] || !l->read[own][k] || !l->made[from][c] || !l->read[from][c])
                any |= prune_element(weight, k * row + i);
        }
    return any;
}

static int64_t count_dead(const life *l)
{
    int64_t dead = 0;
    for (int g = 0; g < l->map.group_count; g++)
        for (int32_t c = 0; c < l->map.groups[g].channels && !l->map.groups[g].derived; c++)
            dead += !l->made[g][c] || !l->read[g][c];
    return dead;
}

cnn_status cnn_mask_dead(cnn_model *model, int64_t *units)
{
    cnn_status status = CNN_OK;
    life l = {0};
    CNN_TRY(open_life(model, &l));
    for (bool again = true; again;) {
        again = false;
        for (int i = 0; i < model->node_count; i++)
            if (cnn_node_has_weights(&model->nodes[i]))
                again |= prune_node(&l, i);
        look_around(&l);
    }
    if (units)
        *units = count_dead(&l);
out:
    close_life(&l);
    return status;
}

/* ---- Removing ---- */

/* What a node makes of a constant that reaches it; false: not the same at all pixels, or not known here. */
static bool pass_on(const cnn_node *node, float *value)
{
    switch (node->type->id) {
    case CNN_LAYER_RELU:
        *value = *value > 0 ? *value : 0;
        if (cnn_node_relu_max(node) > 0 && *value > cnn_node_relu_max(node))
            *value = cnn_node_relu_max(node);
        return true;
    case CNN_LAYER_LEAKY_RELU:
        *value *= *value > 0 ? 1.0f : (float)cnn_node_attr(node, "slope");
        return true;
    case CNN_LAYER_MAXPOOL:
    case CNN_LAYER_AVGPOOL:
    case CNN_LAYER_GLOBALAVGPOOL:
    case CNN_LAYER_DROPOUT:
        return true;
    default:
        return false;
    }
}

static bool pads(const cnn_node *node)
{
    return node->type->id == CNN_LAYER_CONV && cnn_node_int(node, "pad") > 0;
}

/* A layer that reads other channels than it makes. */
static bool is_reader(const life *l, int index, int group)
{
    const cnn_node *node = &l->model->nodes[index];
    return cnn_node_has_weights(node) && !cnn_node_is_depthwise(node) && l->map.group[node->input[0]] == group;
}

/* Whether all that read a group read what its last layer makes. */
static bool readers_at_end(const life *l, int group)
{
    int last = 0;
    for (int i = 0; i < l->model->node_count; i++)
        last = l->map.group[i] == group ? i : last;
    for (int i = 0; i < l->model->node_count; i++)
        if (is_reader(l, i, group) && l->model->nodes[i].input[0] != last)
            return false;
    return true;
}

/* What a depthwise convolution makes of a constant in channel c; false: not the same at all pixels. */
static bool filter_constant(const cnn_node *node, int32_t c, float bias, float *value)
{
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const int64_t taps = cnn_desc_elements(&weight->desc) / weight->desc.n;
    double sum = 0;
    if (weight->desc.dtype != CNN_F32 || (*value != 0 && pads(node)))
        return false;
    for (int64_t i = 0; i < taps; i++)
        sum += (double)((const float *)weight->data)[c * taps + i];
    *value = (float)((double)bias + sum * (double)*value);
    return true;
}

/* The constant that unit c of a group gives to its readers; false: it cannot be told. */
static bool constant_of(const life *l, int group, int32_t c, float *value)
{
    bool found = false, known = false;
    for (int i = 0; i < l->model->node_count; i++) {
        const cnn_node *node = &l->model->nodes[i];
        if (l->map.group[i] != group)
            continue;
        if (!cnn_node_has_weights(node)) {
            if (known && !pass_on(node, value))
                return false;
            continue;
        }
        const cnn_param *bias = &node->param[CNN_PARAM_BIAS];
        const bool depthwise = cnn_node_is_depthwise(node);
        if ((found && !depthwise) || (bias->desc.dtype != CNN_NONE && bias->desc.dtype != CNN_F32))
            return false;
        const float b = bias->data ? ((const float *)bias->data)[c] : 0;
        if (is_silent(node, c)) {
            *value = b;
            known = true;
        } else if (known && !filter_constant(node, c, b, value))
            return false;
        found = true;
    }
    return known && readers_at_end(l, group) && !cnn_channel_is_piece(l->model, &l->map, group);
}

/* Whether every reader of a group can take a constant into its biases. */
static bool readers_take(const life *l, int group)
{
    for (int i = 0; i < l->model->node_count; i++) {
        const cnn_node *node = &l->model->nodes[i];
        const cnn_param *bias = &node->param[CNN_PARAM_BIAS];
        if (is_reader(l, i, group) && (pads(node) || bias->desc.dtype != CNN_F32))
            return false;
    }
    return true;
}

static void give_to_readers(life *l, int group, int32_t c, float value)
{
    for (int i = 0; i < l->model->node_count; i++) {
        cnn_node *node = &l->model->nodes[i];
        if (!is_reader(l, i, group))
            continue;
        const cnn_tensor_desc *desc = &node->param[CNN_PARAM_WEIGHT].desc;
        const float *w = node->param[CNN_PARAM_WEIGHT].data;
        float *bias = node->param[CNN_PARAM_BIAS].data;
        for (int32_t k = 0; k < desc->n; k++) {
            double sum = 0;
            for (int64_t spot = 0; spot < (int64_t)desc->h * desc->w; spot++)
                sum += (double)w[((int64_t)k * desc->h * desc->w + spot) * desc->c + c];
            bias[k] = (float)((double)bias[k] + sum * (double)value);
        }
    }
}

/* Decides about one unit, and takes what it gives to where it goes. */
static bool can_go(life *l, int group, int32_t c)
{
    float value = 0;
    if (!l->read[group][c])
        return true;
    if (l->made[group][c] || !constant_of(l, group, c, &value))
        return false;
    if (value != 0 && !readers_take(l, group))
        return false;
    if (value != 0)
        give_to_readers(l, group, c, value);
    return true;
}

/* Marks what goes; each group keeps a unit. */
static int64_t mark(life *l)
{
    int64_t going = 0;
    for (int g = 0; g < l->map.group_count; g++) {
        cnn_channel_group *group = &l->map.groups[g];
        int32_t left = group->channels;
        for (int32_t c = 0; c < group->channels && !group->fixed && !group->derived; c++) {
            if ((l->made[g][c] && l->read[g][c]) || left == 1 || !can_go(l, g, c))
                continue;
            group->keep[c] = false;
            left--;
            going++;
        }
    }
    return going;
}

cnn_status cnn_remove_dead(cnn_model *model, int64_t *units)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    life l = {0};
    int64_t removed = 0, going = 1;
    CNN_TRY(cnn_model_clone(model, &copy));
    while (going > 0) { /* what goes may leave others without a reader */
        CNN_TRY(open_life(copy, &l));
        going = mark(&l);
        removed += going;
        if (going > 0)
            CNN_TRY(cnn_channels_remove(copy, &l.map));
        close_life(&l);
        l = (life){0};
    }
    cnn_model_swap(model, copy);
    if (units)
        *units = removed;
out:
    close_life(&l);
    cnn_model_free(copy);
    return status;
}
