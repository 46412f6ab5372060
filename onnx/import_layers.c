/* Reading convolutions, linear layers, batch norms and ReLUs: layers with their parameters. */
#include "cnn/quant.h"
#include "core/channels_first.h"
#include "core/error.h"
#include "core/file.h"
#include "core/memory.h"
#include "onnx/layers.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_TRIES = 100 };

/* ---- Names ---- */

/* Writes the part of a name that a layer may have; false when nothing is left. */
static bool clean_name(const char *text, size_t length, char name[CNN_NAME_BYTES - 8])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char all[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789./:-";
    size_t made = 0;
    while (length > 0 && !memchr(letters, *text, sizeof letters - 1)) {
        text++;
        length--;
    }
    for (size_t i = 0; i < length && made < CNN_NAME_BYTES - 9; i++)
        name[made++] = memchr(all, text[i], sizeof all - 1) ? text[i] : '_';
    name[made] = '\0';
    return made > 0;
}

/* "/layer1/layer1.0/conv1/Conv" is what conv1 of the module layer1.0 does: layer1.0.conv1. Folders are modules, whose
 * names begin with those around them where they are parts of a list; the last one is the operator. */
static bool module_name(const char *text, const char *operator, char name[CNN_NAME_BYTES - 8])
{
    char whole[2 * CNN_NAME_BYTES] = "";
    size_t made = 0, outer = 0; /* where the last folder begins in `whole` */
    while (*text == '/')
        text++;
    for (size_t length; *text; text += length + (text[length] == '/')) {
        length = strcspn(text, "/");
        if (made > 0 && text[length] == '\0' && strncmp(text, operator, strlen(operator)) == 0)
            break;
        const size_t around = made - outer;
        if (around > 0 && length > around && text[around] == '.' && memcmp(text, whole + outer, around) == 0)
            made = outer;
        else if (made > 0 && made + 1 < sizeof whole)
            whole[made++] = '.';
        outer = made;
        const size_t room = sizeof whole - made;
        memcpy(whole + made, text, length < room ? length : room);
        made += length < room ? length : room;
    }
    return clean_name(whole, made, name);
}

/* The name of a layer: that of its weights, "conv1.weight", else that of its node, else its type and number. */
static cnn_status name_layer(const cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_layer_type *type,
                             const cnn_onnx_constant *weight, char name[CNN_NAME_BYTES])
{
    static const char ending[] = ".weight";
    const size_t suffix = sizeof ending - 1, length = weight ? strlen(weight->name) : 0;
    char base[CNN_NAME_BYTES - 8];
    const char *text = node->name ? node->name : "";
    bool named = length > suffix && strcmp(weight->name + length - suffix, ending) == 0 &&
                 clean_name(weight->name, length - suffix, base);
    if (!named)
        named = import->ours ? clean_name(text, strlen(text), base) : module_name(text, node->operator_, base);
    if (named)
        snprintf(name, CNN_NAME_BYTES, "%s", base);
    else
        cnn_file_default_name(import->model, type, import->model->node_count, name);
    for (int i = 0; cnn_model_find(import->model, name) >= 0; i++) {
        if (i == NAME_TRIES)
            return cnn_error(CNN_ERR_UNSUPPORTED, "too many nodes are called alike; give them names");
        snprintf(name, CNN_NAME_BYTES, "%s_%d", named ? base : type->name, import->model->node_count + i);
    }
    return CNN_OK;
}

/* ---- Layers ---- */

cnn_node cnn_onnx_draft(int layer)
{
    cnn_node draft = {.type = cnn_layer_by_id((unsigned)layer)};
    for (int i = 0; i < CNN_MAX_ATTRS && draft.type->attr[i].name; i++)
        draft.attr[i] = draft.type->attr[i].standard;
    return draft;
}

cnn_status cnn_onnx_put_layer(cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_node *draft,
                              cnn_onnx_value *const *inputs, const cnn_onnx_constant *weight, int *made)
{
    cnn_status status = CNN_OK;
    char name[CNN_NAME_BYTES];
    int input[CNN_MAX_INPUTS];
    const int count = draft->input_count ? draft->input_count : draft->type->max_inputs;
    CNN_TRY(name_layer(import, node, draft->type, weight, name));
    for (int i = 0; i < count; i++)
        input[i] = inputs[i]->node;
    *made = cnn_model_add(import->model, draft->type, name, input, count, draft->attr);
    if (*made < 0)
        CNN_TRY((cnn_status) - *made);
    CNN_TRY(cnn_model_infer_node(import->model, *made));
    cnn_onnx_value *output = cnn_onnx_output_of(import, node);
    output->kind = CNN_ONNX_LAYER;
    output->node = *made;
    output->flat = inputs[0]->flat;
out:
    return status;
}

/* ---- Parameters ---- */

/* A parameter of `count` floats, in the order of its shape. */
static cnn_status put_floats(cnn_onnx_import *import, int layer, cnn_param_role role, const char *what,
                             const cnn_onnx_constant *constant)
{
    const float *values;
    cnn_param *param = &import->model->nodes[layer].param[role];
    const cnn_tensor_desc desc = param->desc;
    if (constant->count != desc.c)
        return cnn_error(CNN_ERR_SHAPE, "its %s has %lld values, but there are %d channels", what,
                         (long long)constant->count, desc.c);
    cnn_status status = cnn_onnx_floats(import, constant, &values);
    if (status == CNN_OK)
        status = cnn_param_alloc(param, desc);
    if (status == CNN_OK)
        memcpy(param->data, values, cnn_desc_bytes(&desc));
    return status;
}

/* [in,out] as [out,in]. */
static cnn_status transposed(cnn_onnx_import *import, const cnn_tensor_desc *desc, const void **values)
{
    const cnn_tensor_desc matrix = cnn_desc(desc->dtype, 1, desc->n, 1, (int32_t)(cnn_desc_elements(desc) / desc->n));
    void *made = cnn_onnx_block(import, (size_t)cnn_desc_elements(desc), cnn_dtype_bytes(desc->dtype));
    if (!made)
        return CNN_ERR_MEMORY;
    cnn_channels_from_first(&matrix, *values, made);
    *values = made;
    return CNN_OK;
}

/* The scales [K] of i8 weights. */
static cnn_status put_scales(cnn_param *param, const cnn_onnx_constant *weight, int output_axis)
{
    const int32_t count = param->desc.n;
    if (weight->scale->count != 1 && (weight->axis != output_axis || weight->scale->count != count))
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "its weights have %lld scales along axis %d; one for all or one for each of %d outputs is "
                         "supported",
                         (long long)weight->scale->count, weight->axis, count);
    param->scale = cnn_aligned_alloc((size_t)count * sizeof(float));
    if (!param->scale)
        return CNN_ERR_MEMORY;
    for (int32_t k = 0; k < count; k++)
        param->scale[k] = cnn_onnx_scale_at(weight->scale, k);
    return CNN_OK;
}

/* Weights of a layer whose shapes are known: [out,in,...], or turned [in,out]. They stay i8 where the layer computes in
 * INT8: they are dequantized, and so is its input. */
static cnn_status put_weights(cnn_onnx_import *import, int layer, const cnn_onnx_constant *weight, bool turned,
                              float factor)
{
    cnn_status status = CNN_OK;
    cnn_node *node = &import->model->nodes[layer];
    cnn_param *param = &node->param[CNN_PARAM_WEIGHT];
    cnn_tensor_desc desc = param->desc;
    const void *values;
    const bool input_int8 = import->model->nodes[node->input[0]].out_scale > 0;
    const bool int8 = input_int8 && weight->scale && weight->type == CNN_ONNX_INT8;
    if (weight->count != cnn_desc_elements(&desc))
        CNN_FAIL(CNN_ERR_SHAPE, "its weights have %lld values, but %d inputs of %dx%d and %d outputs ask for %lld",
                 (long long)weight->count, desc.c, desc.h, desc.w, desc.n, (long long)cnn_desc_elements(&desc));
    if (input_int8 && !int8)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its input is quantized but its weights are not INT8; quantize both or neither");
    if (int8 && factor != 1.0f)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its alpha is %g; of INT8 layers only 1 is supported", (double)factor);
    if (int8) {
        desc.dtype = CNN_I8;
        values = weight->data;
    } else {
        const float *floats;
        CNN_TRY(cnn_onnx_floats(import, weight, &floats));
        values = floats;
    }
    if (turned)
        CNN_TRY(transposed(import, &desc, &values));
    CNN_TRY(cnn_param_alloc(param, desc));
    cnn_channels_from_first(&desc, values, param->data);
    for (int64_t i = 0; !int8 && factor != 1.0f && i < cnn_desc_elements(&desc); i++)
        ((float *)param->data)[i] *= factor;
    if (int8)
        CNN_TRY(put_scales(param, weight, turned ? 1 : 0));
out:
    return status;
}

bool cnn_onnx_is_per_channel(const cnn_onnx_constant *constant, bool flat, int32_t channels)
{
    const int axis = constant->rank - (flat ? 1 : 3);
    if (constant->count == 1)
        return constant->rank <= (flat ? 2 : 4);
    return axis >= 0 && constant->rank <= (flat ? 2 : 4) && constant->count == channels &&
           constant->dims[axis] == channels;
}

/* A bias in whole numbers of s_in*s_w: as it stands in the file where it has that scale. */
static cnn_status quantize_bias(const cnn_node *node, const cnn_onnx_constant *bias, float s_in, const float *floats,
                                int32_t k, int32_t *value)
{
    const float s_w = node->param[CNN_PARAM_WEIGHT].scale[k];
    const int64_t i = bias->count == 1 ? 0 : k;
    const double ratio = (double)floats[i] / ((double)s_in * (double)s_w);
    if (bias->scale && bias->type == CNN_ONNX_INT32 && cnn_onnx_scale_at(bias->scale, i) == s_in * s_w) {
        memcpy(value, bias->data + 4 * (size_t)i, sizeof *value);
        return CNN_OK;
    }
    if (!(fabs(ratio) <= 0x1p30))
        return cnn_error(CNN_ERR_NUMERIC, "the bias of channel %d, %g, is too large for INT8", k, (double)floats[i]);
    *value = cnn_quant_bias(floats[i], s_in, s_w);
    return CNN_OK;
}

cnn_status cnn_onnx_put_bias(cnn_onnx_import *import, int layer, const cnn_onnx_constant *constant, float factor)
{
    cnn_status status = CNN_OK;
    cnn_node *node = &import->model->nodes[layer];
    cnn_param *bias = &node->param[CNN_PARAM_BIAS];
    const bool int8 = node->param[CNN_PARAM_WEIGHT].desc.dtype == CNN_I8;
    const int32_t count = node->param[CNN_PARAM_WEIGHT].desc.n;
    const float *floats;
    if (constant->count != 1 && constant->count != count)
        CNN_FAIL(CNN_ERR_SHAPE, "its bias has %lld values, but there are %d outputs", (long long)constant->count,
                 count);
    CNN_TRY(cnn_onnx_floats(import, constant, &floats));
    cnn_node_set_attr(node, "bias", 1);
    CNN_TRY(cnn_param_alloc(bias, cnn_desc_vector(int8 ? CNN_I32 : CNN_F32, count)));
    for (int32_t k = 0; k < count; k++)
        if (int8)
            CNN_TRY(quantize_bias(node, constant, import->model->nodes[node->input[0]].out_scale, floats, k,
                                  (int32_t *)bias->data + k));
        else
            ((float *)bias->data)[k] = floats[constant->count == 1 ? 0 : k] * factor;
out:
    return status;
}

/* ---- Operators ---- */

cnn_status cnn_onnx_read_conv(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    const cnn_onnx_constant *weight, *bias;
    cnn_onnx_window w;
    int64_t groups;
    int made;
    const bool has_bias = cnn_onnx_input_of(import, node, 2) != NULL;
    CNN_TRY(cnn_onnx_spatial_of(import, node, 0, &value));
    CNN_TRY(cnn_onnx_constant_of(import, node, 1, "weight", &weight));
    CNN_TRY(cnn_onnx_get_int(node, "group", 1, &groups));
    if (groups < 1 || groups > CNN_MAX_CHANNELS)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its group is %lld; it must be a number of channels", (long long)groups);
    if (weight->rank != 4)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its weights have %d dimensions; convolutions of images have 4", weight->rank);
    const cnn_tensor_desc in = import->model->nodes[value->node].out;
    if (in.c % groups != 0 || weight->dims[1] != in.c / groups)
        CNN_FAIL(CNN_ERR_SHAPE, "its weights are for %lld channels, but its input has %d in %lld groups",
                 (long long)weight->dims[1], in.c, (long long)groups);
    CNN_TRY(cnn_onnx_read_window(node, &in, &weight->dims[2], &w));
    cnn_node draft = cnn_onnx_draft(CNN_LAYER_CONV);
    cnn_node_set_attr(&draft, "out", (double)weight->dims[0]);
    cnn_node_set_attr(&draft, "kernel", (double)w.kernel);
    cnn_node_set_attr(&draft, "stride", (double)w.stride);
    cnn_node_set_attr(&draft, "pad", (double)w.pad);
    cnn_node_set_attr(&draft, "bias", 0);
    cnn_node_set_attr(&draft, "groups", (double)groups);
    CNN_TRY(cnn_onnx_put_layer(import, node, &draft, &value, weight, &made));
    CNN_TRY(put_weights(import, made, weight, false, 1.0f));
    cnn_onnx_output_of(import, node)->bare = !has_bias;
    if (has_bias) {
        CNN_TRY(cnn_onnx_constant_of(import, node, 2, "bias", &bias));
        CNN_TRY(cnn_onnx_put_bias(import, made, bias, 1.0f));
    }
out:
    return status;
}

/* A linear layer with weights [out,in], or turned [in,out]. */
static cnn_status put_linear(cnn_onnx_import *import, const cnn_onnx_node *node, bool turned, float factor, int *made)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    const cnn_onnx_constant *weight;
    CNN_TRY(cnn_onnx_flat_of(import, node, 0, &value));
    CNN_TRY(cnn_onnx_constant_of(import, node, 1, "weight", &weight));
    if (weight->rank != 2)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its weights have %d dimensions; a linear layer's have 2", weight->rank);
    cnn_node draft = cnn_onnx_draft(CNN_LAYER_LINEAR);
    cnn_node_set_attr(&draft, "out", (double)weight->dims[turned ? 1 : 0]);
    cnn_node_set_attr(&draft, "bias", 0);
    CNN_TRY(cnn_onnx_put_layer(import, node, &draft, &value, weight, made));
    CNN_TRY(put_weights(import, *made, weight, turned, factor));
out:
    return status;
}

cnn_status cnn_onnx_read_gemm(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    const cnn_onnx_constant *bias;
    int64_t turned_b;
    float alpha, beta;
    int made;
    CNN_TRY(cnn_onnx_want_int(node, "transA", 0));
    CNN_TRY(cnn_onnx_get_int(node, "transB", 0, &turned_b));
    CNN_TRY(cnn_onnx_get_real(node, "alpha", 1.0f, &alpha));
    CNN_TRY(cnn_onnx_get_real(node, "beta", 1.0f, &beta));
    CNN_TRY(put_linear(import, node, turned_b == 0, alpha, &made));
    if (!cnn_onnx_input_of(import, node, 2)) {
        cnn_onnx_output_of(import, node)->bare = true;
        goto out;
    }
    CNN_TRY(cnn_onnx_constant_of(import, node, 2, "bias", &bias));
    if (!cnn_onnx_is_per_channel(bias, true, import->model->nodes[made].out.c))
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "its bias has %lld values in %d dimensions; one for each of %d outputs is supported",
                 (long long)bias->count, bias->rank, import->model->nodes[made].out.c);
    if (beta != 1.0f && import->model->nodes[made].param[CNN_PARAM_WEIGHT].desc.dtype == CNN_I8)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its beta is %g; of INT8 layers only 1 is supported", (double)beta);
    CNN_TRY(cnn_onnx_put_bias(import, made, bias, beta));
out:
    return status;
}

cnn_status cnn_onnx_read_matmul(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    int made;
    cnn_status status = put_linear(import, node, true, 1.0f, &made);
    if (status == CNN_OK)
        cnn_onnx_output_of(import, node)->bare = true;
    return status;
}

cnn_status cnn_onnx_read_bn(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    static const struct {
        cnn_param_role role;
        const char *what;
    } params[4] = {{CNN_PARAM_GAMMA, "scale"},
                   {CNN_PARAM_BETA, "bias"},
                   {CNN_PARAM_RUNNING_MEAN, "mean"},
                   {CNN_PARAM_RUNNING_VAR, "variance"}};
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    const cnn_onnx_constant *constant;
    float eps, momentum;
    int made;
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    CNN_TRY(cnn_onnx_want_int(node, "training_mode", 0));
    CNN_TRY(cnn_onnx_want_int(node, "spatial", 1)); /* until opset 8 */
    CNN_TRY(cnn_onnx_get_real(node, "epsilon", 1e-5f, &eps));
    CNN_TRY(cnn_onnx_get_real(node, "momentum", 0.9f, &momentum));
    const cnn_tensor_desc *in = &import->model->nodes[value->node].out;
    if (value->flat && (in->h > 1 || in->w > 1))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "normalizes each of %dx%dx%d flattened values; cnnkit normalizes channels", in->h,
                 in->w, in->c);
    CNN_TRY(cnn_onnx_constant_of(import, node, 1, "scale", &constant));
    cnn_node draft = cnn_onnx_draft(CNN_LAYER_BN);
    /* What a float rounded is the decimal number that was meant. */
    cnn_node_set_attr(&draft, "eps", eps == 1e-5f ? 1e-5 : (double)eps);
    cnn_node_set_attr(&draft, "momentum", momentum == 0.9f ? 0.1 : 1.0 - (double)momentum);
    CNN_TRY(cnn_onnx_put_layer(import, node, &draft, &value, constant, &made));
    for (size_t i = 0; i < 4; i++) {
        CNN_TRY(cnn_onnx_constant_of(import, node, i + 1, params[i].what, &constant));
        CNN_TRY(put_floats(import, made, params[i].role, params[i].what, constant));
    }
out:
    return status;
}

cnn_status cnn_onnx_read_relu(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_onnx_value *value;
    int made;
    const cnn_node draft = cnn_onnx_draft(CNN_LAYER_RELU);
    cnn_status status = cnn_onnx_layer_of(import, node, 0, &value);
    return status == CNN_OK ? cnn_onnx_put_layer(import, node, &draft, &value, NULL, &made) : status;
}

/* The number that is one end of a Clip: an input since opset 11, an attribute before; `standard` where there is none.
 */
static cnn_status clip_end(cnn_onnx_import *import, const cnn_onnx_node *node, size_t input, const char *name,
                           float standard, float *value)
{
    cnn_status status = CNN_OK;
    const cnn_onnx_constant *constant;
    const float *values;
    if (import->opset < 11)
        return cnn_onnx_get_real(node, name, standard, value);
    *value = standard;
    if (!cnn_onnx_input_of(import, node, input))
        return CNN_OK;
    CNN_TRY(cnn_onnx_constant_of(import, node, input, name, &constant));
    if (constant->count != 1)
        CNN_FAIL(CNN_ERR_FORMAT, "its %s has %lld values; it must be one number", name, (long long)constant->count);
    CNN_TRY(cnn_onnx_floats(import, constant, &values));
    *value = *values;
out:
    return status;
}

/* The shortest decimal number that is this float: what was meant by 0.1f is 0.1. */
static double meant(float value)
{
    char digits[32];
    for (int precision = 1; precision <= 9; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, (double)value);
        if (strtof(digits, NULL) == value)
            break;
    }
    return strtod(digits, NULL);
}

cnn_status cnn_onnx_read_clip(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    float low, high;
    int made;
    cnn_node draft = cnn_onnx_draft(CNN_LAYER_RELU);
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    CNN_TRY(clip_end(import, node, 1, "min", -INFINITY, &low));
    CNN_TRY(clip_end(import, node, 2, "max", INFINITY, &high));
    const float s = import->model->nodes[value->node].out_scale;
    if (s > 0.0f && low < 0.0f && low <= -127.0f * s && high >= 127.0f * s) { /* all that INT8 has here */
        cnn_onnx_pass(import, node, value);
        goto out;
    }
    if (low != 0.0f || !(high > 0))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "cuts off below %g and above %g; a ReLU begins at 0 and ends above it",
                 (double)low, (double)high);
    if (isfinite(high) && high < FLT_MAX)
        cnn_node_set_attr(&draft, "max", meant(high));
    CNN_TRY(cnn_onnx_put_layer(import, node, &draft, &value, NULL, &made));
out:
    return status;
}

cnn_status cnn_onnx_read_leaky_relu(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    float slope;
    int made;
    cnn_node draft = cnn_onnx_draft(CNN_LAYER_LEAKY_RELU);
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    CNN_TRY(cnn_onnx_get_real(node, "alpha", 0.01f, &slope));
    cnn_node_set_attr(&draft, "slope", meant(slope));
    CNN_TRY(cnn_onnx_put_layer(import, node, &draft, &value, NULL, &made));
out:
    return status;
}
