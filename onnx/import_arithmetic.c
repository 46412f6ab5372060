/* Reading sums, differences, products and quotients: residual adds, biases that stand alone, and what is done to the
 * pixels before the first layer, which becomes the model's normalization. */
#include "core/error.h"
#include "onnx/layers.h"

#include <string.h>

/* x' = (x - mean)/std after each of these is again one of its kind. */
typedef enum step { STEP_ADD, STEP_SUB, STEP_MUL, STEP_DIV } step;

static void take_step(step kind, double value, float *mean, float *std)
{
    switch (kind) {
    case STEP_ADD:
        *mean = (float)((double)*mean - value * (double)*std);
        break;
    case STEP_SUB:
        *mean = (float)((double)*mean + value * (double)*std);
        break;
    case STEP_MUL:
        *std = (float)((double)*std / value);
        break;
    case STEP_DIV:
        *std = (float)((double)*std * value);
        break;
    }
}

static cnn_status normalize_image(cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_onnx_value *image,
                                  const cnn_onnx_constant *constant, step kind)
{
    const float *values;
    const int32_t channels = import->model->nodes[0].out.c;
    if (!cnn_onnx_is_per_channel(constant, false, channels))
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "normalizes the image by %lld values in %d dimensions; one for all or one for each of its %d "
                         "channels is supported",
                         (long long)constant->count, constant->rank, channels);
    cnn_status status = cnn_onnx_floats(import, constant, &values);
    if (status != CNN_OK)
        return status;
    cnn_onnx_pass(import, node, image);
    cnn_normalization *normalization = &cnn_onnx_output_of(import, node)->normalization;
    for (int32_t c = 0; c < 4; c++) {
        const int32_t from = c < channels ? c : channels - 1;
        if (c < channels)
            take_step(kind, (double)values[constant->count == 1 ? 0 : c], &normalization->mean[c],
                      &normalization->std[c]);
        normalization->mean[c] = normalization->mean[from];
        normalization->std[c] = normalization->std[from];
    }
    return CNN_OK;
}

/* Whether a value is the image as it comes in, or normalized so far. */
static bool is_image(const cnn_onnx_value *value)
{
    return value && value->kind == CNN_ONNX_LAYER && value->node == 0 && !value->flat && !value->codes;
}

static bool is_constant(const cnn_onnx_value *value)
{
    return value && value->kind == CNN_ONNX_CONSTANT;
}

/* A constant that is added behind a convolution or linear layer without a bias becomes its bias. */
static cnn_status add_bias(cnn_onnx_import *import, const cnn_onnx_node *node, size_t layer_input)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    const cnn_onnx_constant *constant = &cnn_onnx_input_of(import, node, 1 - layer_input)->constant;
    CNN_TRY(cnn_onnx_layer_of(import, node, layer_input, &value));
    const int32_t channels = import->model->nodes[value->node].out.c;
    if (!value->bare || value->readers != 1 || !cnn_onnx_is_per_channel(constant, value->flat, channels))
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "adds a constant; cnnkit can do that only right behind a convolution or linear layer "
                 "without a bias, one value for each output");
    CNN_TRY(cnn_onnx_put_bias(import, value->node, constant, 1.0f));
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->bare = false;
out:
    return status;
}

static cnn_status add_layers(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *values[2];
    int made;
    for (size_t i = 0; i < 2; i++)
        CNN_TRY(cnn_onnx_layer_of(import, node, i, &values[i]));
    if (values[0]->flat != values[1]->flat)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "adds a flat value to one that is [N,C,H,W]");
    const cnn_node draft = cnn_onnx_draft(CNN_LAYER_ADD);
    CNN_TRY(cnn_onnx_put_layer(import, node, &draft, values, NULL, &made));
out:
    return status;
}

cnn_status cnn_onnx_read_add(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    const cnn_onnx_value *a = cnn_onnx_input_of(import, node, 0), *b = cnn_onnx_input_of(import, node, 1);
    if (is_image(a) && is_constant(b))
        return normalize_image(import, node, a, &b->constant, STEP_ADD);
    if (is_image(b) && is_constant(a))
        return normalize_image(import, node, b, &a->constant, STEP_ADD);
    if (is_constant(a) != is_constant(b))
        return add_bias(import, node, is_constant(a) ? 1 : 0);
    return add_layers(import, node);
}

static cnn_status only_of_image(void)
{
    return cnn_error(CNN_ERR_UNSUPPORTED, "is supported only on the image, with a constant, as its normalization");
}

/* The image is the first operand, or with `either` any. */
static cnn_status read_step(cnn_onnx_import *import, const cnn_onnx_node *node, step kind, bool either)
{
    const cnn_onnx_value *a = cnn_onnx_input_of(import, node, 0), *b = cnn_onnx_input_of(import, node, 1);
    if (is_image(a) && is_constant(b))
        return normalize_image(import, node, a, &b->constant, kind);
    if (either && is_image(b) && is_constant(a))
        return normalize_image(import, node, b, &a->constant, kind);
    return only_of_image();
}

cnn_status cnn_onnx_read_sub(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    return read_step(import, node, STEP_SUB, false);
}

cnn_status cnn_onnx_read_mul(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    return read_step(import, node, STEP_MUL, true);
}

cnn_status cnn_onnx_read_div(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    return read_step(import, node, STEP_DIV, false);
}
