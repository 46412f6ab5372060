/* Models from outside: initial weights, sizes and counts, printing as .cfg text. */
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- Initial weights ---- */

/* values[i] uniform in [-bound, bound), each a hash of (seed, ordinal of the parameter, i). */
static void fill_uniform(float *values, int64_t count, float bound, uint64_t seed, uint64_t ordinal)
{
    for (int64_t i = 0; i < count; i++) {
        float unit = cnn_hash_uniform(cnn_hash(seed, CNN_PURPOSE_INIT, ordinal, (uint64_t)i));
        values[i] = (2.0f * unit - 1.0f) * bound;
    }
}

static void fill_constant(float *values, int64_t count, float value)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = value;
}

void cnn_model_init(cnn_model *model, uint64_t seed)
{
    uint64_t ordinal = 0;
    for (int i = 0; i < model->node_count; i++) {
        cnn_node *node = &model->nodes[i];
        const cnn_tensor_desc *weight = &node->param[CNN_PARAM_WEIGHT].desc;
        float bound = (float)(1.0 / sqrt((double)weight->h * weight->w * weight->c));
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            cnn_param *param = &node->param[role];
            if (!param->data || param->desc.dtype != CNN_F32)
                continue;
            int64_t count = cnn_desc_elements(&param->desc);
            if (role == CNN_PARAM_WEIGHT || role == CNN_PARAM_BIAS)
                fill_uniform(param->data, count, bound, seed, ordinal);
            else
                fill_constant(param->data, count,
                              role == CNN_PARAM_GAMMA || role == CNN_PARAM_RUNNING_VAR ? 1.0f : 0.0f);
            ordinal++;
        }
    }
}

/* ---- Sizes ---- */

cnn_tensor_desc cnn_model_input(const cnn_model *model)
{
    return model->nodes[0].out;
}

cnn_tensor_desc cnn_model_output(const cnn_model *model)
{
    return model->nodes[model->node_count - 1].out;
}

int64_t cnn_node_weight_count(const cnn_node *node)
{
    int64_t count = 0;
    for (int role = 0; role < CNN_PARAM_STORED; role++)
        if (node->param[role].desc.dtype != CNN_NONE)
            count += cnn_desc_elements(&node->param[role].desc);
    return count;
}

int64_t cnn_model_weight_count(const cnn_model *model)
{
    int64_t count = 0;
    for (int i = 0; i < model->node_count; i++)
        count += cnn_node_weight_count(&model->nodes[i]);
    return count;
}

int64_t cnn_node_macs(const cnn_model *model, int i)
{
    const cnn_node *node = &model->nodes[i];
    cnn_tensor_desc in[CNN_MAX_INPUTS] = {{0}};
    for (int k = 0; k < node->input_count; k++)
        in[k] = model->nodes[node->input[k]].out;
    return node->type->macs ? node->type->macs(node, in) : 0;
}

int64_t cnn_model_macs(const cnn_model *model)
{
    int64_t sum = 0;
    for (int i = 0; i < model->node_count; i++) {
        const int64_t macs = cnn_node_macs(model, i);
        sum = macs > INT64_MAX - sum ? INT64_MAX : sum + macs;
    }
    return sum;
}

bool cnn_model_is_quantized(const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].param[CNN_PARAM_WEIGHT].desc.dtype == CNN_I8)
            return true;
    return false;
}

bool cnn_model_softmax(const cnn_model *model)
{
    return model->softmax;
}

void cnn_model_set_softmax(cnn_model *model, bool softmax)
{
    model->softmax = softmax;
}

/* ---- Layers ---- */

int cnn_model_layer_count(const cnn_model *model)
{
    return model->node_count;
}

cnn_layer_info cnn_model_layer(const cnn_model *model, int layer)
{
    const cnn_node *node = &model->nodes[layer];
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    cnn_layer_info info = {.name = node->name,
                           .type = node->type->name,
                           .output = node->out,
                           .weights = cnn_node_weight_count(node),
                           .macs = cnn_node_macs(model, layer),
                           .dtype = weight->desc.dtype};
    const int64_t count = cnn_node_has_weights(node) ? cnn_desc_elements(&weight->desc) : 0;
    for (int64_t i = 0; i < count; i++)
        info.zeros += cnn_param_is_zero(weight, i);
    return info;
}

/* ---- Printing ---- */

/* The shortest decimal that reads back as the same number. */
static void append_number(cnn_text *text, double value)
{
    char digits[40];
    for (int precision = 1; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    cnn_text_append(text, "%s", digits);
}

static void print_node(const cnn_model *model, const cnn_node *node, cnn_text *text)
{
    const cnn_layer_type *type = node->type;
    const char *separator = "";
    cnn_text_append(text, "%s = %s(", node->name, type->name);
    for (int i = 0; i < node->input_count; i++) {
        cnn_text_append(text, "%s%s", separator, model->nodes[node->input[i]].name);
        separator = ", ";
    }
    for (int i = 0; i < CNN_MAX_ATTRS && type->attr[i].name; i++) {
        if (!type->attr[i].required && node->attr[i] == type->attr[i].standard)
            continue;
        cnn_text_append(text, "%s%s=", separator, type->attr[i].name);
        if (type->attr[i].type == CNN_ATTR_FLOAT)
            append_number(text, node->attr[i]);
        else
            cnn_text_append(text, "%.0f", node->attr[i]);
        separator = ", ";
    }
    cnn_text_append(text, ")\n");
}

/* "softmax", with a number when a layer is called so. */
static void print_softmax(const cnn_model *model, cnn_text *text)
{
    char name[CNN_NAME_BYTES] = "softmax";
    for (int i = 1; cnn_model_find(model, name) >= 0; i++)
        snprintf(name, sizeof name, "softmax%d", i);
    cnn_text_append(text, "%s = softmax(%s)\n", name, model->nodes[model->node_count - 1].name);
}

cnn_status cnn_model_print(const cnn_model *model, char **text)
{
    cnn_text out = {0};
    if (model->name[0])
        cnn_text_append(&out, "# %s\n", model->name);
    for (int i = 0; i < model->node_count; i++)
        print_node(model, &model->nodes[i], &out);
    if (model->softmax)
        print_softmax(model, &out);
    if (out.failed) {
        cnn_text_free(&out);
        return CNN_ERR_MEMORY;
    }
    *text = out.data;
    return CNN_OK;
}
