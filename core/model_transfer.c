/* Starting from a trained model: taking over its weights, layer by layer. */
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same_shape(const cnn_tensor_desc *a, const cnn_tensor_desc *b)
{
    return a->dtype == b->dtype && a->n == b->n && a->h == b->h && a->w == b->w && a->c == b->c;
}

/* The first parameter of a node that the other has not, or has in another shape; -1: none. */
static int first_difference(const cnn_node *a, const cnn_node *b)
{
    for (int role = 0; role < CNN_PARAM_STORED; role++)
        if (!same_shape(&a->param[role].desc, &b->param[role].desc))
            return role;
    return -1;
}

bool cnn_node_has_params(const cnn_node *node)
{
    for (int role = 0; role < CNN_PARAM_STORED; role++)
        if (node->param[role].desc.dtype != CNN_NONE)
            return true;
    return false;
}

void cnn_model_list(const cnn_model *model, const bool *which, bool value, cnn_text *text)
{
    bool first = true;
    for (int i = 0; i < model->node_count; i++)
        if (cnn_node_has_params(&model->nodes[i]) && (!which || which[i] == value)) {
            cnn_text_append(text, "%s%s", first ? "" : ", ", model->nodes[i].name);
            first = false;
        }
    if (first)
        cnn_text_append(text, "none");
}

static const char *print_shape(const cnn_tensor_desc *desc, char text[64])
{
    if (desc->dtype == CNN_NONE)
        snprintf(text, 64, "none");
    else
        snprintf(text, 64, "%dx%dx%dx%d", desc->n, desc->h, desc->w, desc->c);
    return text;
}

/* Checks node `i` against its namesake: CNN_OK and *take when it can be taken, an error when it should be and cannot.
 */
static cnn_status check_node(const cnn_model *model, int i, const cnn_model *from, bool *take)
{
    const cnn_node *node = &model->nodes[i];
    const int other = cnn_model_find(from, node->name);
    char ours[64], theirs[64];
    *take = false;
    if (!cnn_node_has_params(node) || other < 0)
        return CNN_OK;
    const int role = first_difference(node, &from->nodes[other]);
    *take = role < 0;
    if (*take || i == model->node_count - 1)
        return CNN_OK;
    return cnn_error(
        CNN_ERR_SHAPE,
        "layer %s: its %s is %s (out, height, width, in), but that of %s is %s; use the same network, or give "
        "the layer another name to train it anew",
        node->name, cnn_param_role_name((cnn_param_role)role), print_shape(&node->param[role].desc, ours), from->name,
        print_shape(&from->nodes[other].param[role].desc, theirs));
}

/* Both nodes have the same parameters; masks are held again. */
static cnn_status copy_params(cnn_node *node, const cnn_node *from)
{
    for (int role = 0; role < CNN_PARAM_STORED; role++) {
        cnn_param *to = &node->param[role];
        const cnn_param *source = &from->param[role];
        if (to->desc.dtype == CNN_NONE)
            continue;
        const size_t elements = (size_t)cnn_desc_elements(&to->desc);
        if (source->mask && !to->mask && !(to->mask = cnn_aligned_alloc(elements)))
            return CNN_ERR_MEMORY;
        if (source->mask)
            memcpy(to->mask, source->mask, elements);
        to->desc.structure = source->desc.structure;
        memcpy(to->data, source->data, cnn_desc_bytes(&to->desc));
    }
    return CNN_OK;
}

cnn_status cnn_model_transfer(cnn_model *model, const cnn_model *from, bool *taken)
{
    cnn_status status = CNN_OK;
    bool *take = NULL;
    int count = 0;
    if (cnn_model_is_quantized(from))
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "model %s is quantized to INT8 and cannot be trained; take the model it was made from", from->name);
    take = cnn_calloc((size_t)model->node_count, sizeof *take);
    if (!take)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++) {
        CNN_TRY(check_node(model, i, from, &take[i]));
        count += take[i];
    }
    if (count == 0)
        CNN_FAIL(CNN_ERR_SHAPE,
                 "no layer of %s has the name and the shape of one of %s: there is nothing to start from", model->name,
                 from->name);
    for (int i = 0; i < model->node_count; i++)
        if (take[i])
            CNN_TRY(copy_params(&model->nodes[i], &from->nodes[cnn_model_find(from, model->nodes[i].name)]));
    model->normalization = from->normalization;
    model->split_seed = from->split_seed;
    if (taken)
        memcpy(taken, take, (size_t)model->node_count * sizeof *take);
out:
    free(take);
    return status;
}
