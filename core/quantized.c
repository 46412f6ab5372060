/* Host-made constants of programs: input tables, INT8 multipliers and biases (formulas: cnn/quant.h). */
#include "core/quantized.h"

#include "cnn/quant.h"
#include "core/error.h"
#include "core/layers.h"

#include <math.h>
#include <stdlib.h>

float cnn_normalize_byte(const cnn_normalization *normalization, int channel, int x)
{
    return (float)((x / 255.0 - (double)normalization->mean[channel]) / (double)normalization->std[channel]);
}

/* The ReLU that alone reads a node; -1: none. */
static int sole_relu(const cnn_model *model, int node)
{
    int reader = -1;
    bool sole = cnn_model_readers(model, node, &reader) == 1 && model->nodes[reader].type->id == CNN_LAYER_RELU;
    return sole ? reader : -1;
}

int cnn_int8_relu(const cnn_model *model, int node)
{
    return model->nodes[node].param[CNN_PARAM_WEIGHT].desc.dtype != CNN_NONE ? sole_relu(model, node) : -1;
}

int cnn_int8_scale_reader(const cnn_model *model, int node)
{
    return model->nodes[node].type->id == CNN_LAYER_ADD ? sole_relu(model, node) : cnn_int8_relu(model, node);
}

static void fail(cnn_lowering *lowering)
{
    if (lowering->status == CNN_OK)
        lowering->status = CNN_ERR_MEMORY;
}

int cnn_lower_input_table(cnn_lowering *lowering, cnn_dtype dtype, int32_t channels)
{
    const cnn_model *model = lowering->model;
    size_t size = cnn_dtype_bytes(dtype);
    uint8_t *table = cnn_calloc((size_t)channels * 256, size);
    if (!table) {
        fail(lowering);
        return 0;
    }
    for (int c = 0; c < channels; c++)
        for (int x = 0; x < 256; x++) {
            float value = cnn_normalize_byte(&model->normalization, c, x);
            if (dtype == CNN_F32)
                ((float *)(void *)table)[c * 256 + x] = value;
            else
                ((int8_t *)table)[c * 256 + x] = cnn_quant_value(value, model->nodes[0].out_scale);
        }
    int buffer = cnn_lower_constant(lowering, cnn_desc(dtype, 1, 1, channels, 256), table);
    free(table);
    return buffer;
}

int cnn_lower_int8_bias(cnn_lowering *lowering, int node)
{
    int buffer = cnn_lower_param(lowering, node, CNN_PARAM_BIAS, CNN_PLACE_PARAM);
    if (buffer >= 0)
        return buffer;
    int32_t count = lowering->model->nodes[node].out.c;
    int32_t *zeros = cnn_calloc((size_t)count, sizeof *zeros);
    if (!zeros) {
        fail(lowering);
        return 0;
    }
    buffer = cnn_lower_constant(lowering, cnn_desc_vector(CNN_I32, count), zeros);
    free(zeros);
    return buffer;
}

int cnn_lower_int8_multipliers(cnn_lowering *lowering, int gemm, int target)
{
    const cnn_model *model = lowering->model;
    const cnn_node *node = &model->nodes[gemm];
    float s_in = model->nodes[node->input[0]].out_scale;
    float *multipliers = cnn_calloc((size_t)node->out.c, sizeof *multipliers);
    if (!multipliers) {
        fail(lowering);
        return 0;
    }
    for (int k = 0; k < node->out.c; k++) {
        float s_w = node->param[CNN_PARAM_WEIGHT].scale[k];
        float m = target < 0 ? cnn_quant_logit_multiplier(s_in, s_w)
                             : cnn_quant_multiplier(s_in, s_w, model->nodes[target].out_scale);
        if (!isnormal(m) && lowering->status == CNN_OK)
            lowering->status =
                cnn_error(CNN_ERR_NUMERIC,
                          "layer %s, channel %d: the INT8 multiplier %g is not a normal number; quantize "
                          "the model again with other calibration data",
                          node->name, k, (double)m);
        multipliers[k] = m;
    }
    int buffer = cnn_lower_constant(lowering, cnn_desc_vector(CNN_F32, node->out.c), multipliers);
    free(multipliers);
    return buffer;
}
