/* Reading QuantizeLinear and DequantizeLinear. cnnkit's INT8 is symmetric: int8, zero point 0, one scale for a value,
 * one for each output of weights. A value's scale becomes that of its layer; constants keep their numbers. */
#include "cnn/quant.h"
#include "core/error.h"
#include "onnx/layers.h"

#include <math.h>
#include <string.h>

/* The scales: positive normal numbers, one or a list. */
static cnn_status read_scale(cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_onnx_constant **scale)
{
    cnn_status status = cnn_onnx_constant_of(import, node, 1, "scale", scale);
    if (status != CNN_OK)
        return status;
    if ((*scale)->type != CNN_ONNX_FLOAT || (*scale)->rank > 1 || (*scale)->count < 1)
        return cnn_error(CNN_ERR_FORMAT, "its scale is %s with %lld values; one FLOAT or a list is expected",
                         cnn_onnx_type_name((*scale)->type), (long long)(*scale)->count);
    for (int64_t i = 0; i < (*scale)->count; i++) {
        const float value = cnn_onnx_scale_at(*scale, i);
        if (!isnormal(value) || value < 0)
            return cnn_error(CNN_ERR_NUMERIC, "its scale %lld is %g; it must be a normal positive number", (long long)i,
                             (double)value);
    }
    return CNN_OK;
}

/* Zero points: 0, of the type that is expected; left out where that type is the standard. */
static cnn_status check_zero(const cnn_onnx_import *import, const cnn_onnx_node *node, cnn_onnx_type type,
                             bool optional)
{
    const cnn_onnx_constant *zero;
    int64_t output;
    if (!cnn_onnx_input_of(import, node, 2)) {
        cnn_status status = cnn_onnx_get_int(node, "output_dtype", 0, &output); /* since opset 21 */
        if (status != CNN_OK || optional || output == (int64_t)type)
            return status;
        return cnn_error(CNN_ERR_UNSUPPORTED, "has no zero point and so makes UINT8; cnnkit's INT8 is signed: quantize "
                                              "symmetrically to INT8");
    }
    cnn_status status = cnn_onnx_constant_of(import, node, 2, "zero point", &zero);
    if (status != CNN_OK)
        return status;
    if (zero->type != type)
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "its zero point is %s; cnnkit's INT8 is signed and symmetric: quantize "
                         "symmetrically to INT8",
                         cnn_onnx_type_name(zero->type));
    for (size_t i = 0; i < (size_t)zero->count * cnn_onnx_type_bytes(type); i++)
        if (zero->data[i] != 0)
            return cnn_error(CNN_ERR_UNSUPPORTED, "its zero point is not 0; cnnkit's INT8 is symmetric: quantize "
                                                  "symmetrically to INT8");
    return CNN_OK;
}

/* Scales of a constant: one, or one for each place along an axis. */
static cnn_status read_axis(const cnn_onnx_node *node, const cnn_onnx_constant *constant,
                            const cnn_onnx_constant *scale, int *axis)
{
    int64_t number;
    cnn_status status = cnn_onnx_want_int(node, "block_size", 0); /* since opset 21 */
    if (status == CNN_OK)
        status = cnn_onnx_get_int(node, "axis", 1, &number);
    if (status != CNN_OK)
        return status;
    if (number < 0)
        number += constant->rank;
    *axis = 0;
    if (scale->count == 1)
        return CNN_OK;
    if (number < 0 || number >= constant->rank || constant->dims[number] != scale->count)
        return cnn_error(CNN_ERR_SHAPE, "its %lld scales do not suit axis %lld of its input", (long long)scale->count,
                         (long long)number);
    *axis = (int)number;
    return CNN_OK;
}

/* Weights that are quantized when the graph runs: now. */
static cnn_status quantize_constant(cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_onnx_constant *from,
                                    const cnn_onnx_constant *scale)
{
    cnn_status status = CNN_OK;
    const float *floats;
    int axis;
    int64_t inner = 1;
    CNN_TRY(read_axis(node, from, scale, &axis));
    CNN_TRY(cnn_onnx_floats(import, from, &floats));
    for (int i = axis + 1; i < from->rank; i++)
        inner *= from->dims[i];
    int8_t *codes = cnn_onnx_block(import, (size_t)from->count, sizeof *codes);
    if (!codes)
        CNN_TRY(CNN_ERR_MEMORY);
    for (int64_t i = 0; i < from->count; i++) {
        if (!isfinite(floats[i]))
            CNN_FAIL(CNN_ERR_NUMERIC, "its input holds %g at element %lld", (double)floats[i], (long long)i);
        codes[i] = cnn_quant_value(floats[i], scale->count == 1 ? cnn_onnx_scale_at(scale, 0)
                                                                : cnn_onnx_scale_at(scale, i / inner % scale->count));
    }
    cnn_onnx_value *output = cnn_onnx_output_of(import, node);
    output->kind = CNN_ONNX_CONSTANT;
    output->constant = *from;
    output->constant.type = CNN_ONNX_INT8;
    output->constant.data = (const uint8_t *)codes;
    output->constant.scale = NULL;
out:
    return status;
}

cnn_status cnn_onnx_read_quantize(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    const cnn_onnx_constant *scale;
    cnn_onnx_value *value = cnn_onnx_input_of(import, node, 0);
    CNN_TRY(read_scale(import, node, &scale));
    CNN_TRY(check_zero(import, node, CNN_ONNX_INT8, false));
    if (value && value->kind == CNN_ONNX_CONSTANT) {
        CNN_TRY(quantize_constant(import, node, &value->constant, scale));
        goto out;
    }
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    if (scale->count != 1)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "has %lld scales; a value has one in cnnkit", (long long)scale->count);
    float *out_scale = &import->model->nodes[value->node].out_scale;
    const float wanted = cnn_onnx_scale_at(scale, 0);
    if (*out_scale != 0.0f && *out_scale != wanted)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "gives layer '%s' the scale %g, but another node gave it %g; a value has one",
                 import->model->nodes[value->node].name, (double)wanted, (double)*out_scale);
    *out_scale = wanted;
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->codes = true;
    cnn_onnx_output_of(import, node)->bare = false;
out:
    return status;
}

static cnn_status dequantize_constant(cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_onnx_value *value,
                                      const cnn_onnx_constant *scale)
{
    cnn_status status = CNN_OK;
    const cnn_onnx_type type = value->constant.type;
    int axis;
    if (type != CNN_ONNX_INT8 && type != CNN_ONNX_INT32)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its input is %s; INT8 weights and INT32 biases are supported",
                 cnn_onnx_type_name(type));
    if (value->constant.scale)
        CNN_FAIL(CNN_ERR_FORMAT, "its input was dequantized before");
    CNN_TRY(check_zero(import, node, type, true));
    CNN_TRY(read_axis(node, &value->constant, scale, &axis));
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->constant.scale = scale;
    cnn_onnx_output_of(import, node)->constant.axis = axis;
out:
    return status;
}

cnn_status cnn_onnx_read_dequantize(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    const cnn_onnx_constant *scale;
    const cnn_onnx_value *value = cnn_onnx_input_of(import, node, 0);
    CNN_TRY(read_scale(import, node, &scale));
    if (value && value->kind == CNN_ONNX_CONSTANT) {
        CNN_TRY(dequantize_constant(import, node, value, scale));
        goto out;
    }
    if (!value || value->kind != CNN_ONNX_LAYER || !value->codes)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its input is not quantized; a QuantizeLinear must stand before it");
    CNN_TRY(check_zero(import, node, CNN_ONNX_INT8, true));
    const cnn_node *layer = &import->model->nodes[value->node];
    if (scale->count != 1 || cnn_onnx_scale_at(scale, 0) != layer->out_scale)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its scale is %g, but '%s' was quantized with %g",
                 (double)cnn_onnx_scale_at(scale, 0), layer->name, (double)layer->out_scale);
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->codes = false;
out:
    return status;
}
