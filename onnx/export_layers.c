/* How each layer is written: the `write` functions of the table. */
#include "core/error.h"
#include "onnx/layers.h"

#include <string.h>

cnn_status cnn_onnx_write_input(cnn_onnx_export *export)
{
    const cnn_node *image = &export->model->nodes[0];
    const cnn_normalization *normalization = &export->model->normalization;
    cnn_onnx_memory *memory = &export->memory;
    const int64_t dims[4] = {1, image->out.c, 1, 1};
    const size_t bytes = (size_t)image->out.c * sizeof(float);
    bool identity = true;
    for (int32_t c = 0; c < image->out.c; c++)
        identity &= normalization->mean[c] == 0.0f && normalization->std[c] == 1.0f;
    if (identity)
        return CNN_OK;
    const char *mean = cnn_onnx_put_constant(export, cnn_onnx_text(memory, "%s.mean", image->name), CNN_ONNX_FLOAT, 4,
                                             dims, normalization->mean, bytes);
    const char *std = cnn_onnx_put_constant(export, cnn_onnx_text(memory, "%s.std", image->name), CNN_ONNX_FLOAT, 4,
                                            dims, normalization->std, bytes);
    const char *centred = cnn_onnx_text(memory, "%s.centred", image->name);
    const char *normalized = cnn_onnx_text(memory, "%s.normalized", image->name);
    cnn_onnx_put_node(export, "Sub", cnn_onnx_text(memory, "%s.subtract", image->name), centred, 2, image->name, mean);
    cnn_onnx_put_node(export, "Div", cnn_onnx_text(memory, "%s.divide", image->name), normalized, 2, centred, std);
    export->made[0].name = normalized;
    return CNN_OK;
}

/* Appends a layer's own node, with its bias as the third input where it has one. */
static cnn_onnx_node *put_gemm(cnn_onnx_export *export, const char *operator, int node, const char *input)
{
    const char *name = export->model->nodes[node].name, *output = cnn_onnx_result(export, node);
    const char *weight = cnn_onnx_put_param(export, node, CNN_PARAM_WEIGHT);
    const char *bias = cnn_onnx_put_param(export, node, CNN_PARAM_BIAS);
    return cnn_onnx_put_node(export, operator, name, output, bias ? 3 : 2, input, weight, bias);
}

cnn_status cnn_onnx_write_conv(cnn_onnx_export *export, int node)
{
    const cnn_node *conv = &export->model->nodes[node];
    cnn_onnx_node *made = put_gemm(export, "Conv", node, cnn_onnx_spatial(export, node, 0));
    cnn_onnx_put_ints(export, made, "kernel_shape", 2, cnn_node_int(conv, "kernel"));
    cnn_onnx_put_ints(export, made, "strides", 2, cnn_node_int(conv, "stride"));
    cnn_onnx_put_ints(export, made, "pads", 4, cnn_node_int(conv, "pad"));
    if (cnn_node_groups(conv) > 1)
        cnn_onnx_put_int(export, made, "group", cnn_node_groups(conv));
    return CNN_OK;
}

cnn_status cnn_onnx_write_linear(cnn_onnx_export *export, int node)
{
    cnn_onnx_node *made = put_gemm(export, "Gemm", node, cnn_onnx_flat(export, node, 0));
    cnn_onnx_put_int(export, made, "transB", 1);
    export->made[node].flat = true;
    return CNN_OK;
}

/* The value of input 0 in whatever form it has, which the layer keeps. */
static const char *same_form(cnn_onnx_export *export, int node)
{
    const cnn_onnx_made *from = &export->made[export->model->nodes[node].input[0]];
    export->made[node].flat = from->flat;
    return from->name;
}

cnn_status cnn_onnx_write_bn(cnn_onnx_export *export, int node)
{
    const cnn_node *bn = &export->model->nodes[node];
    const char *from = same_form(export, node);
    const char *gamma = cnn_onnx_put_param(export, node, CNN_PARAM_GAMMA);
    const char *beta = cnn_onnx_put_param(export, node, CNN_PARAM_BETA);
    const char *mean = cnn_onnx_put_param(export, node, CNN_PARAM_RUNNING_MEAN);
    const char *var = cnn_onnx_put_param(export, node, CNN_PARAM_RUNNING_VAR);
    cnn_onnx_node *made = cnn_onnx_put_node(export, "BatchNormalization", bn->name, cnn_onnx_result(export, node), 5,
                                            from, gamma, beta, mean, var);
    cnn_onnx_put_real(export, made, "epsilon", (float)cnn_node_attr(bn, "eps"));
    cnn_onnx_put_real(export, made, "momentum", (float)(1.0 - cnn_node_attr(bn, "momentum")));
    return CNN_OK;
}

/* With an end, Clip between two constants. */
static cnn_status write_clip(cnn_onnx_export *export, int node, float max)
{
    const char *name = export->model->nodes[node].name;
    const char *from = same_form(export, node);
    float *ends = cnn_onnx_alloc(&export->memory, 2, sizeof *ends);
    if (!ends)
        return CNN_OK;
    ends[0] = 0.0f;
    ends[1] = max;
    const char *low = cnn_onnx_put_constant(export, cnn_onnx_text(&export->memory, "%s.min", name), CNN_ONNX_FLOAT, 0,
                                            NULL, &ends[0], sizeof ends[0]);
    const char *high = cnn_onnx_put_constant(export, cnn_onnx_text(&export->memory, "%s.max", name), CNN_ONNX_FLOAT, 0,
                                             NULL, &ends[1], sizeof ends[1]);
    cnn_onnx_put_node(export, "Clip", name, cnn_onnx_result(export, node), 3, from, low, high);
    return CNN_OK;
}

cnn_status cnn_onnx_write_leaky_relu(cnn_onnx_export *export, int node)
{
    const cnn_node *leaky = &export->model->nodes[node];
    cnn_onnx_node *made =
        cnn_onnx_put_node(export, "LeakyRelu", leaky->name, cnn_onnx_result(export, node), 1, same_form(export, node));
    cnn_onnx_put_real(export, made, "alpha", (float)cnn_node_attr(leaky, "slope"));
    return CNN_OK;
}

cnn_status cnn_onnx_write_relu(cnn_onnx_export *export, int node)
{
    if (cnn_node_relu_max(&export->model->nodes[node]) > 0)
        return write_clip(export, node, cnn_node_relu_max(&export->model->nodes[node]));
    cnn_onnx_put_node(export, "Relu", export->model->nodes[node].name, cnn_onnx_result(export, node), 1,
                      same_form(export, node));
    return CNN_OK;
}

static cnn_status write_pool(cnn_onnx_export *export, int node, const char *operator, int32_t pad)
{
    const cnn_node *pool = &export->model->nodes[node];
    const int32_t kernel = cnn_node_int(pool, "kernel"), stride = cnn_node_int(pool, "stride");
    cnn_onnx_node *made = cnn_onnx_put_node(export, operator, pool->name, cnn_onnx_result(export, node), 1,
                                            cnn_onnx_spatial(export, node, 0));
    cnn_onnx_put_ints(export, made, "kernel_shape", 2, kernel);
    cnn_onnx_put_ints(export, made, "strides", 2, stride ? stride : kernel);
    if (pad)
        cnn_onnx_put_ints(export, made, "pads", 4, pad);
    return CNN_OK;
}

cnn_status cnn_onnx_write_maxpool(cnn_onnx_export *export, int node)
{
    return write_pool(export, node, "MaxPool", cnn_node_int(&export->model->nodes[node], "pad"));
}

cnn_status cnn_onnx_write_avgpool(cnn_onnx_export *export, int node)
{
    return write_pool(export, node, "AveragePool", 0);
}

cnn_status cnn_onnx_write_globalavgpool(cnn_onnx_export *export, int node)
{
    cnn_onnx_put_node(export, "GlobalAveragePool", export->model->nodes[node].name, cnn_onnx_result(export, node), 1,
                      cnn_onnx_spatial(export, node, 0));
    return CNN_OK;
}

/* Whether a value has no negative numbers, so that QuantizeLinear cannot make -128 of it. */
static bool is_rectified(const cnn_model *model, int node)
{
    const cnn_node *from = &model->nodes[node];
    if (from->type->id == CNN_LAYER_RELU)
        return true;
    if (from->input_count == 0 || !(from->type->flags & CNN_LAYER_KEEPS_SCALE))
        return false;
    return is_rectified(model, from->input[0]);
}

/* Input i of a sum: in INT8 cut off at -127, where our values end. A Clip that stood before the QuantizeLinear would
 * keep other tools from running the convolution before it in INT8; sums they compute in float. */
static const char *held(cnn_onnx_export *export, int node, int i, const char *from)
{
    const cnn_node *add = &export->model->nodes[node];
    if (!export->quantized || is_rectified(export->model, add->input[i]))
        return from;
    float *least = cnn_onnx_alloc(&export->memory, 1, sizeof *least);
    if (least)
        *least = -127.0f * export->model->nodes[add->input[i]].out_scale;
    cnn_onnx_memory *memory = &export->memory;
    const char *output = cnn_onnx_text(memory, "%s.held%d", add->name, i + 1);
    const char *low = cnn_onnx_put_constant(export, cnn_onnx_text(memory, "%s.least%d", add->name, i + 1),
                                            CNN_ONNX_FLOAT, 0, NULL, least, sizeof *least);
    cnn_onnx_put_node(export, "Clip", cnn_onnx_text(memory, "%s.hold%d", add->name, i + 1), output, 2, from, low);
    return output;
}

/* Both flat, or both with pixels. */
cnn_status cnn_onnx_write_add(cnn_onnx_export *export, int node)
{
    const cnn_node *add = &export->model->nodes[node];
    const bool flat = export->made[add->input[0]].flat && export->made[add->input[1]].flat;
    const char *a = flat ? cnn_onnx_flat(export, node, 0) : cnn_onnx_spatial(export, node, 0);
    const char *b = flat ? cnn_onnx_flat(export, node, 1) : cnn_onnx_spatial(export, node, 1);
    a = held(export, node, 0, a);
    b = held(export, node, 1, b);
    cnn_onnx_put_node(export, "Add", add->name, cnn_onnx_result(export, node), 2, a, b);
    export->made[node].flat = flat;
    return CNN_OK;
}

/* All with pixels: inputs of a layer without any become so. */
cnn_status cnn_onnx_write_concat(cnn_onnx_export *export, int node)
{
    const cnn_node *concat = &export->model->nodes[node];
    const char *from[CNN_MAX_INPUTS] = {0};
    for (int i = 0; i < concat->input_count; i++)
        from[i] = cnn_onnx_spatial(export, node, i);
    cnn_onnx_node *made =
        cnn_onnx_put_node(export, "Concat", concat->name, cnn_onnx_result(export, node), concat->input_count, from[0],
                          from[1], from[2], from[3], from[4], from[5], from[6], from[7]);
    cnn_onnx_put_int(export, made, "axis", 1);
    return CNN_OK;
}

/* Nothing: files are for inference. */
cnn_status cnn_onnx_write_dropout(cnn_onnx_export *export, int node)
{
    export->made[node] = export->made[export->model->nodes[node].input[0]];
    return CNN_OK;
}

cnn_status cnn_onnx_write_softmax(cnn_onnx_export *export, int last)
{
    static const char output[] = "probabilities";
    cnn_onnx_made *made = &export->made[last];
    if (!export->model->softmax)
        return CNN_OK;
    const bool taken = cnn_model_find(export->model, output) >= 0;
    const char *name = taken ? cnn_onnx_text(&export->memory, "%s.%s", made->name, output) : output;
    cnn_onnx_node *node = cnn_onnx_put_node(export, "Softmax", cnn_onnx_text(&export->memory, "%s.softmax", made->name),
                                            name, 1, made->name);
    cnn_onnx_put_int(export, node, "axis", 1);
    made->name = name;
    return export->memory.failed ? CNN_ERR_MEMORY : CNN_OK;
}
