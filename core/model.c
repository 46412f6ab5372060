/* The graph: adding nodes, inferring shapes, finding nodes and readers, copying, freeing.
 *
 * Rules that hold for every model that went through cnn_model_infer_shapes: node 0 is the only input; inputs of a
 * node come before it; names differ; every node but the last has a reader; the last one is [1,1,1,classes]; no
 * tensor has more than 2^31 - 1 values, nor have all parameters together. */
#include "core/model.h"

#include "core/class_names.h"
#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Making and freeing ---- */

cnn_model *cnn_model_new(void)
{
    cnn_model *model = cnn_calloc(1, sizeof *model);
    if (!model)
        return NULL;
    model->normalization = *cnn_dataset_normalization(CNN_DATASET_NONE);
    model->split_seed = CNN_SPLIT_SEED;
    return model;
}

void cnn_model_free(cnn_model *model)
{
    if (!model)
        return;
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++)
            cnn_param_free(&model->nodes[i].param[role]);
    free(model->nodes);
    free(model->class_names);
    free(model->text);
    cnn_input_close(&model->file);
    free(model);
}

cnn_status cnn_param_alloc(cnn_param *param, cnn_tensor_desc desc)
{
    assert(!param->data);
    size_t bytes = cnn_desc_bytes(&desc);
    param->data = cnn_aligned_alloc(bytes);
    if (!param->data)
        return CNN_ERR_MEMORY;
    memset(param->data, 0, bytes);
    param->desc = desc;
    return CNN_OK;
}

void cnn_param_free(cnn_param *param)
{
    if (!param->in_file)
        cnn_aligned_free(param->data);
    cnn_aligned_free(param->scale);
    cnn_aligned_free(param->mask);
    cnn_aligned_free(param->grid);
    *param = (cnn_param){0};
}

/* A copy of `bytes` bytes in aligned memory, or NULL for NULL. */
static cnn_status copy_bytes(const void *src, size_t bytes, void **dst)
{
    *dst = NULL;
    if (!src)
        return CNN_OK;
    *dst = cnn_aligned_alloc(bytes);
    if (!*dst)
        return CNN_ERR_MEMORY;
    memcpy(*dst, src, bytes);
    return CNN_OK;
}

static cnn_status clone_param(const cnn_param *src, cnn_param *dst)
{
    cnn_status status = CNN_OK;
    void *scale = NULL, *mask = NULL, *grid = NULL;
    dst->desc = src->desc;
    dst->levels = src->levels;
    dst->step = src->step;
    CNN_TRY(copy_bytes(src->data, cnn_desc_bytes(&src->desc), &dst->data));
    CNN_TRY(copy_bytes(src->scale, (size_t)src->desc.n * sizeof(float), &scale));
    dst->scale = scale;
    CNN_TRY(copy_bytes(src->mask, (size_t)cnn_desc_elements(&src->desc), &mask));
    dst->mask = mask;
    CNN_TRY(copy_bytes(src->grid, (size_t)src->desc.n * sizeof(float), &grid));
    dst->grid = grid;
out:
    return status;
}

cnn_status cnn_model_clone(const cnn_model *model, cnn_model **copy)
{
    cnn_status status = CNN_OK;
    cnn_model *clone = cnn_calloc(1, sizeof *clone);
    if (!clone)
        return CNN_ERR_MEMORY;
    *clone = *model;
    clone->text = NULL;
    clone->class_names = NULL;
    clone->file = (cnn_input_file){0};
    clone->node_count = 0;
    clone->node_capacity = model->node_count;
    clone->nodes = cnn_calloc((size_t)model->node_count, sizeof *clone->nodes);
    if (!clone->nodes)
        CNN_TRY(CNN_ERR_MEMORY);
    for (int i = 0; i < model->node_count; i++) {
        clone->nodes[i] = model->nodes[i];
        memset(clone->nodes[i].param, 0, sizeof clone->nodes[i].param);
        clone->node_count = i + 1;
        for (int role = 0; role < CNN_PARAM_COUNT; role++)
            CNN_TRY(clone_param(&model->nodes[i].param[role], &clone->nodes[i].param[role]));
    }
    if (model->class_names &&
        !(clone->class_names = cnn_class_names_copy(model->class_names, cnn_model_output(model).c)))
        CNN_TRY(CNN_ERR_MEMORY);
    if (model->text && !(clone->text = cnn_strdup(model->text)))
        CNN_TRY(CNN_ERR_MEMORY);
    *copy = clone;
    clone = NULL;
out:
    cnn_model_free(clone);
    return status;
}

/* ---- Adding nodes ---- */

static bool name_is_valid(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char more[] = "0123456789./:-";
    if (!*name || !strchr(letters, *name))
        return false;
    for (const char *c = name; *c; c++)
        if (!strchr(letters, *c) && !strchr(more, *c))
            return false;
    return strlen(name) < CNN_NAME_BYTES;
}

static cnn_status check_attr(const cnn_layer_type *type, const cnn_attr_spec *spec, double value)
{
    if (value >= spec->min && value <= spec->max && (spec->type == CNN_ATTR_FLOAT || value == floor(value)))
        return CNN_OK;
    if (spec->type == CNN_ATTR_BOOL)
        return cnn_error(CNN_ERR_SHAPE, "%s of %s is %g; it must be 0 or 1", spec->name, type->name, value);
    return cnn_error(CNN_ERR_SHAPE, "%s of %s is %.10g; it must be a %s from %.10g to %.10g", spec->name, type->name,
                     value, spec->type == CNN_ATTR_INT ? "whole number" : "number", spec->min, spec->max);
}

static cnn_status check_inputs(const cnn_model *model, const cnn_layer_type *type, const int *input, int count)
{
    bool first = model->node_count == 0;
    if (first && type->id != CNN_LAYER_INPUT)
        return cnn_error(CNN_ERR_SHAPE,
                         "the first layer must be the input, such as image = input(height=28, width=28, channels=1)");
    if (!first && type->id == CNN_LAYER_INPUT)
        return cnn_error(CNN_ERR_SHAPE, "a model has one input, its first layer");
    if (count < type->min_inputs || count > type->max_inputs) {
        if (type->min_inputs == type->max_inputs)
            return cnn_error(CNN_ERR_SHAPE, "%s takes %d input%s, not %d", type->name, type->min_inputs,
                             type->min_inputs == 1 ? "" : "s", count);
        return cnn_error(CNN_ERR_SHAPE, "%s takes %d to %d inputs, not %d", type->name, type->min_inputs,
                         type->max_inputs, count);
    }
    for (int i = 0; i < count; i++)
        if (input[i] < 0 || input[i] >= model->node_count)
            return cnn_error(CNN_ERR_SHAPE, "an input must be an earlier layer");
    return CNN_OK;
}

static cnn_status check_name(const cnn_model *model, const char *name)
{
    if (!name_is_valid(name))
        return cnn_error(CNN_ERR_SHAPE,
                         "'%.80s' is no layer name: a letter or _, then letters, digits and _ . / : -, in all at most "
                         "%d characters",
                         name, CNN_NAME_BYTES - 1);
    int other = cnn_model_find(model, name);
    if (other < 0)
        return CNN_OK;
    if (model->nodes[other].line)
        return cnn_error(CNN_ERR_SHAPE, "there is a layer '%s' already, in line %d; names must differ", name,
                         model->nodes[other].line);
    return cnn_error(CNN_ERR_SHAPE, "there is a layer '%s' already; names must differ", name);
}

static cnn_status set_attrs(cnn_node *node, const double *attr)
{
    const cnn_layer_type *type = node->type;
    for (int i = 0; i < CNN_MAX_ATTRS && type->attr[i].name; i++) {
        if (!attr && type->attr[i].required)
            return cnn_error(CNN_ERR_SHAPE, "%s needs the attribute %s", type->name, type->attr[i].name);
        node->attr[i] = attr ? attr[i] : type->attr[i].standard;
        cnn_status status = check_attr(type, &type->attr[i], node->attr[i]);
        if (status != CNN_OK)
            return status;
    }
    return CNN_OK;
}

/* Room for one more node. */
static cnn_status make_room(cnn_model *model)
{
    if (model->node_count < model->node_capacity)
        return CNN_OK;
    int capacity = model->node_count ? 2 * model->node_count : 16;
    cnn_node *nodes = cnn_realloc(model->nodes, (size_t)capacity, sizeof *nodes);
    if (!nodes)
        return CNN_ERR_MEMORY;
    model->nodes = nodes;
    model->node_capacity = capacity;
    return CNN_OK;
}

int cnn_model_add(cnn_model *model, const cnn_layer_type *type, const char *name, const int *input, int input_count,
                  const double *attr)
{
    cnn_status status = CNN_OK;
    cnn_node node = {.type = type, .input_count = input_count};
    if (model->node_count >= CNN_MAX_NODES)
        CNN_FAIL(CNN_ERR_SHAPE, "a model has at most %d layers", CNN_MAX_NODES);
    CNN_TRY(check_name(model, name));
    CNN_TRY(check_inputs(model, type, input, input_count));
    CNN_TRY(set_attrs(&node, attr));
    memcpy(node.name, name, strlen(name) + 1);
    for (int i = 0; i < input_count; i++)
        node.input[i] = input[i];
    CNN_TRY(make_room(model));
    model->nodes[model->node_count] = node;
    return model->node_count++;
out:
    return -(int)status;
}

/* ---- Shapes ---- */

static cnn_status at_node(cnn_status status, const char *source, const cnn_node *node)
{
    if (node->line)
        return cnn_error_prefix(status, "%s: line %d: layer '%s'", source, node->line, node->name);
    return cnn_error_prefix(status, "%s: layer '%s'", source, node->name);
}

/* Values of a tensor; fails when they are more than int32 can count. */
static cnn_status count_values(const cnn_tensor_desc *desc, const char *what, int64_t *values)
{
    const int32_t dims[4] = {desc->n, desc->h, desc->w, desc->c};
    *values = 1;
    for (int i = 0; i < 4; i++) {
        if (dims[i] < 0 || (dims[i] > 0 && *values > INT32_MAX / dims[i]))
            return cnn_error(CNN_ERR_SHAPE, "%s would be [%d,%d,%d,%d], more than 2^31-1 values; make it smaller", what,
                             dims[0], dims[1], dims[2], dims[3]);
        *values *= dims[i];
    }
    return CNN_OK;
}

/* A parameter that is there must have the shape that the graph asks for. */
static cnn_status check_param(const cnn_param *param, cnn_param_role role, const cnn_tensor_desc *had)
{
    const cnn_tensor_desc *want = &param->desc;
    if (!param->data)
        return CNN_OK;
    if (want->dtype == CNN_NONE)
        return cnn_error(CNN_ERR_SHAPE, "it holds a %s that its attributes do not provide for",
                         cnn_param_role_name(role));
    if (had->n != want->n || had->h != want->h || had->w != want->w || had->c != want->c || had->c_pad != want->c)
        return cnn_error(CNN_ERR_SHAPE, "its %s is [%d,%d,%d,%d], but the layers before it ask for [%d,%d,%d,%d]",
                         cnn_param_role_name(role), had->n, had->h, had->w, had->c, want->n, want->h, want->w, want->c);
    return CNN_OK;
}

/* Shapes of one node. dtype and structure of parameters that are there are theirs; only their shape follows from the
 * graph. */
static cnn_status infer_node(cnn_model *model, cnn_node *node, int64_t *total)
{
    cnn_status status = CNN_OK;
    cnn_tensor_desc in[CNN_MAX_INPUTS] = {{0}}, had[CNN_PARAM_COUNT];
    for (int i = 0; i < node->input_count; i++)
        in[i] = model->nodes[node->input[i]].out;
    for (int role = 0; role < CNN_PARAM_COUNT; role++) {
        had[role] = node->param[role].desc;
        if (!node->param[role].data || role != CNN_PARAM_WEIGHT)
            node->param[role].desc = (cnn_tensor_desc){0};
    }
    CNN_TRY(node->type->infer(node, in));
    int64_t values;
    CNN_TRY(count_values(&node->out, "its output", &values));
    for (int role = 0; role < CNN_PARAM_COUNT; role++) {
        cnn_param *param = &node->param[role];
        CNN_TRY(count_values(&param->desc, cnn_param_role_name((cnn_param_role)role), &values));
        CNN_TRY(check_param(param, (cnn_param_role)role, &had[role]));
        if (param->data) {
            param->desc.dtype = had[role].dtype;
            param->desc.structure = had[role].structure;
        }
        *total += values;
    }
    if (*total > INT32_MAX)
        CNN_FAIL(CNN_ERR_SHAPE, "with it the model has more than 2^31-1 weights; make it smaller");
out:
    return status;
}

cnn_status cnn_model_infer_node(cnn_model *model, int node)
{
    int64_t total = 0;
    return infer_node(model, &model->nodes[node], &total);
}

static cnn_status check_output(const cnn_model *model, const char *source)
{
    for (int i = 0; i < model->node_count - 1; i++)
        if (cnn_model_readers(model, i, NULL) == 0)
            return at_node(cnn_error(CNN_ERR_SHAPE,
                                     "no later layer reads it; remove it or connect it (the last layer, '%s', is "
                                     "the output)",
                                     model->nodes[model->node_count - 1].name),
                           source, &model->nodes[i]);
    const cnn_node *last = &model->nodes[model->node_count - 1];
    if (last->type->id == CNN_LAYER_INPUT)
        return cnn_error(CNN_ERR_SHAPE, "%s: there is no layer after the input; end with linear(..., out=CLASSES)",
                         source);
    if (last->type->id == CNN_LAYER_DROPOUT)
        return at_node(cnn_error(CNN_ERR_SHAPE, "the last layer gives the scores; a dropout goes before it"), source,
                       last);
    if (last->out.n != 1 || last->out.h != 1 || last->out.w != 1)
        return at_node(cnn_error(CNN_ERR_SHAPE,
                                 "the last layer gives [1,%d,%d,%d], but the output must be [1,1,1,classes]; end with "
                                 "linear(%s, out=CLASSES)",
                                 last->out.h, last->out.w, last->out.c, last->name),
                       source, last);
    return CNN_OK;
}

cnn_status cnn_model_infer_shapes(cnn_model *model, const char *source)
{
    int64_t total = 0;
    if (model->node_count == 0)
        return cnn_error(CNN_ERR_SHAPE,
                         "%s: holds no layer; the first is image = input(height=28, width=28, channels=1)", source);
    for (int i = 0; i < model->node_count; i++) {
        cnn_status status = infer_node(model, &model->nodes[i], &total);
        if (status != CNN_OK)
            return at_node(status, source, &model->nodes[i]);
    }
    return check_output(model, source);
}

cnn_status cnn_model_finish(cnn_model *model, const char *source)
{
    cnn_status status = cnn_model_infer_shapes(model, source);
    for (int i = 0; status == CNN_OK && i < model->node_count; i++)
        for (int role = 0; status == CNN_OK && role < CNN_PARAM_COUNT; role++) {
            cnn_param *param = &model->nodes[i].param[role];
            if (param->desc.dtype != CNN_NONE && !param->data)
                status = cnn_param_alloc(param, param->desc);
        }
    return status;
}

/* ---- Looking around ---- */

int cnn_model_find(const cnn_model *model, const char *name)
{
    for (int i = 0; i < model->node_count; i++)
        if (strcmp(model->nodes[i].name, name) == 0)
            return i;
    return -1;
}

bool cnn_model_has_masks(const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++)
            if (model->nodes[i].param[role].mask)
                return true;
    return false;
}

int cnn_model_readers(const cnn_model *model, int node, int *only)
{
    int count = 0, reader = -1;
    for (int i = node + 1; i < model->node_count; i++)
        for (int k = 0; k < model->nodes[i].input_count; k++)
            if (model->nodes[i].input[k] == node) {
                count++;
                reader = i;
            }
    if (count == 1 && only)
        *only = reader;
    return count;
}

const char *cnn_param_role_name(cnn_param_role role)
{
    static const char *const names[CNN_PARAM_COUNT] = {"weight",       "bias",        "gamma", "beta",
                                                       "running_mean", "running_var", "step"};
    return (unsigned)role < CNN_PARAM_COUNT ? names[role] : "?";
}
