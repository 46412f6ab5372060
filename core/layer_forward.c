/* How each layer type becomes the ops that compute its value.
 *
 * INT8. A convolution or linear layer gives an i32 accumulator. Who requantizes it: the output node makes f32 logits
 * (DEQUANTIZE); a ReLU that is its only reader takes the accumulator and clamps at 0 and at its end, if it has one;
 * otherwise the layer itself. */
#include "core/layer_parts.h"

#include "cnn/quant.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/quantized.h"

#include <math.h>

cnn_status cnn_layer_forward_input(cnn_lowering *lowering, int node)
{
    const cnn_model *model = lowering->model;
    const cnn_tensor_desc *out = &model->nodes[node].out;
    cnn_dtype dtype = lowering->int8 ? CNN_I8 : lowering->storage;
    cnn_dtype table_dtype = lowering->int8 ? CNN_I8 : CNN_F32;
    cnn_args args = cnn_args_none();
    if (lowering->goal == CNN_GOAL_GRADIENT) {
        cnn_lower_set_value(lowering, node, cnn_lower_pixels(lowering));
        return lowering->status;
    }
    args.buffer[CNN_ARG_SRC] = cnn_lower_images(lowering);
    if (lowering->goal == CNN_GOAL_TRAIN) {
        args.buffer[CNN_ARG_INDEX] = cnn_lower_index(lowering);
        args.buffer[CNN_ARG_STATE] = cnn_lower_state(lowering);
        if (lowering->step.augment)
            args.buffer[CNN_ARG_SRC2] = cnn_lower_augmentation(lowering);
    }
    args.buffer[CNN_ARG_TABLE] = cnn_lower_input_table(lowering, table_dtype, out->c);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, node, dtype);
    cnn_lower_op(lowering, CNN_OP_INPUT, node, &args)->desc.mirror =
        args.buffer[CNN_ARG_SRC2] >= 0 && lowering->step.mirror;
    cnn_lower_set_value(lowering, node, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

/* The largest INT8 value that a node gives. */
static float highest(const cnn_node *node)
{
    const float max = cnn_node_relu_max(node);
    return max > 0 ? cnn_quant_cap(max, node->out_scale) : 127.0f;
}

/* Appends what turns the accumulator of GEMM node `gemm` into the value of `node` (itself or its ReLU). */
static void requantize(cnn_lowering *lowering, int gemm, int node, int accumulator, bool relu)
{
    bool logits = node == lowering->model->node_count - 1;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = accumulator;
    args.buffer[CNN_ARG_BIAS] = cnn_lower_int8_bias(lowering, gemm);
    args.buffer[CNN_ARG_MULT] = cnn_lower_int8_multipliers(lowering, gemm, logits ? -1 : node);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, node, logits ? CNN_F32 : CNN_I8);
    cnn_instruction *op = cnn_lower_op(lowering, logits ? CNN_OP_DEQUANTIZE : CNN_OP_REQUANTIZE, node, &args);
    if (!logits) {
        op->desc.lo = relu ? 0.0f : -127.0f;
        op->desc.hi = highest(&lowering->model->nodes[node]);
    }
    cnn_lower_set_value(lowering, node, args.buffer[CNN_ARG_DST]);
}

cnn_op cnn_layer_gemm_op(const cnn_node *node, cnn_op conv)
{
    if (node->type->id == CNN_LAYER_LINEAR)
        return (cnn_op)(CNN_OP_LINEAR + (conv - CNN_OP_CONV));
    return cnn_node_groups(node) > 1 ? (cnn_op)(CNN_OP_GROUP_CONV + (conv - CNN_OP_CONV)) : conv;
}

void cnn_layer_set_window(cnn_instruction *op, const cnn_node *node)
{
    bool conv = node->type->id == CNN_LAYER_CONV;
    op->desc.stride = conv ? cnn_node_int(node, "stride") : 1;
    op->desc.pad = conv ? cnn_node_int(node, "pad") : 0;
}

/* Where the working copy of weights is: f16/bf16 in mixed-precision training, else the parameter itself. */
static cnn_place weight_place(const cnn_lowering *lowering)
{
    return lowering->goal == CNN_GOAL_TRAIN && lowering->storage != CNN_F32 ? CNN_PLACE_HALF : CNN_PLACE_PARAM;
}

bool cnn_layer_on_grid(const cnn_node *node)
{
    return node->param[CNN_PARAM_STEP].desc.dtype != CNN_NONE;
}

void cnn_layer_set_grid(cnn_instruction *op, const cnn_node *node)
{
    op->desc.levels = node->param[CNN_PARAM_WEIGHT].levels;
    op->desc.step = node->param[CNN_PARAM_WEIGHT].step;
}

/* The weights that a layer computes with: of weights that train on a grid the nearest points of it, a temporary. */
static int working_weights(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    if (!cnn_layer_on_grid(node))
        return cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, weight_place(lowering));
    cnn_tensor_desc points = node->param[CNN_PARAM_WEIGHT].desc;
    points.dtype = lowering->storage;
    points.structure = CNN_DENSE;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_param(lowering, index, CNN_PARAM_STEP, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_DST] = cnn_lower_temporary(lowering, points, index);
    cnn_layer_set_grid(cnn_lower_op(lowering, CNN_OP_GRID, index, &args), node);
    return args.buffer[CNN_ARG_DST];
}

cnn_status cnn_layer_forward_gemm(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    bool logits = index == lowering->model->node_count - 1;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_WEIGHT] = working_weights(lowering, index);
    if (lowering->int8) {
        cnn_tensor_desc accumulator = node->out;
        accumulator.dtype = CNN_I32;
        accumulator.n = lowering->batch;
        args.buffer[CNN_ARG_DST] = cnn_lower_temporary(lowering, accumulator, index);
    } else {
        args.buffer[CNN_ARG_BIAS] = cnn_lower_param(lowering, index, CNN_PARAM_BIAS, CNN_PLACE_PARAM);
        args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, logits ? CNN_F32 : lowering->storage);
    }
    cnn_instruction *op = cnn_lower_op(lowering, cnn_layer_gemm_op(node, CNN_OP_CONV), index, &args);
    cnn_layer_set_window(op, node);
    op->desc.constant_weights = lowering->constant_weights && !cnn_layer_on_grid(node);
    if (args.buffer[CNN_ARG_BIAS] >= 0)
        cnn_lower_epilogue(op, CNN_EPILOGUE_BIAS);
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    if (lowering->int8 && (logits || cnn_int8_relu(lowering->model, index) < 0))
        requantize(lowering, index, index, args.buffer[CNN_ARG_DST], false);
    return lowering->status;
}

/* A frozen batch norm normalizes with its running statistics in training too. */
static bool normalizes_by_batch(const cnn_lowering *lowering, const cnn_node *node)
{
    return cnn_lower_trains(lowering, node);
}

cnn_status cnn_layer_forward_bn(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    bool train = normalizes_by_batch(lowering, node);
    cnn_place statistics = train ? CNN_PLACE_BATCH : CNN_PLACE_RUNNING;
    if (lowering->int8)
        return cnn_error(CNN_ERR_UNSUPPORTED, "layer %s: a quantized model cannot hold batch norms; fold them first",
                         node->name);
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_GAMMA] = cnn_lower_param(lowering, index, CNN_PARAM_GAMMA, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_BETA] = cnn_lower_param(lowering, index, CNN_PARAM_BETA, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_MEAN] = cnn_lower_param(lowering, index, CNN_PARAM_RUNNING_MEAN, statistics);
    args.buffer[CNN_ARG_VAR] = cnn_lower_param(lowering, index, CNN_PARAM_RUNNING_VAR, statistics);
    if (train)
        args.buffer[CNN_ARG_INVSTD] = cnn_lower_temporary(lowering, cnn_desc_vector(CNN_F32, node->out.c), index);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, lowering->storage);
    cnn_instruction *op = cnn_lower_op(lowering, train ? CNN_OP_BN_TRAIN : CNN_OP_BN_INFER, index, &args);
    op->desc.eps = (float)cnn_node_attr(node, "eps");
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

static cnn_dtype value_dtype(const cnn_lowering *lowering, int node)
{
    bool logits = node == lowering->model->node_count - 1;
    return lowering->int8 ? CNN_I8 : logits ? CNN_F32 : lowering->storage;
}

cnn_status cnn_layer_forward_relu(cnn_lowering *lowering, int node)
{
    int input = lowering->model->nodes[node].input[0];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, node, 0);
    if (lowering->int8 && cnn_int8_relu(lowering->model, input) == node) {
        requantize(lowering, input, node, args.buffer[CNN_ARG_SRC], true);
        return lowering->status;
    }
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, node, value_dtype(lowering, node));
    const float max = cnn_node_relu_max(&lowering->model->nodes[node]);
    cnn_instruction *op = cnn_lower_op(lowering, max > 0 ? CNN_OP_CLIP : CNN_OP_RELU, node, &args);
    if (max > 0)
        op->desc.hi = lowering->int8 ? highest(&lowering->model->nodes[node]) : max;
    cnn_lower_set_value(lowering, node, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

/* What an op on int8 values takes from the scales: of one input, or two, and of its value. */
static void set_scales(cnn_instruction *op, const cnn_node *node, float s_a, float s_b)
{
    op->desc.scale[0] = s_a;
    op->desc.scale[1] = s_b;
    op->desc.out_scale = node->out_scale;
    op->desc.lo = -127.0f;
    op->desc.hi = 127.0f;
}

cnn_status cnn_layer_forward_leaky_relu(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, value_dtype(lowering, index));
    cnn_instruction *op = cnn_lower_op(lowering, CNN_OP_LEAKY_RELU, index, &args);
    op->desc.slope = (float)cnn_node_attr(node, "slope");
    if (lowering->int8)
        set_scales(op, node, lowering->model->nodes[node->input[0]].out_scale, 0);
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

void cnn_layer_set_maxima(cnn_instruction *op, const cnn_node *node)
{
    op->desc.kernel = cnn_node_int(node, "kernel");
    op->desc.stride = cnn_layer_pool_stride(node);
    op->desc.pad = cnn_node_int(node, "pad");
}

cnn_status cnn_layer_forward_maxpool(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, value_dtype(lowering, index));
    if (lowering->goal == CNN_GOAL_TRAIN || lowering->goal == CNN_GOAL_GRADIENT)
        args.buffer[CNN_ARG_INDEX] = cnn_lower_value(lowering, index, CNN_U8);
    cnn_layer_set_maxima(cnn_lower_op(lowering, CNN_OP_MAXPOOL, index, &args), node);
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

/* What a window of an average pool is: kernel 0 stands for the whole image. */
void cnn_layer_set_average(cnn_instruction *op, const cnn_node *node)
{
    const bool whole = node->type->id == CNN_LAYER_GLOBALAVGPOOL;
    op->desc.kernel = whole ? 0 : cnn_node_int(node, "kernel");
    op->desc.stride = whole ? 0 : cnn_layer_pool_stride(node);
}

static cnn_status set_average_scale(cnn_instruction *op, const cnn_model *model, const cnn_node *node)
{
    const cnn_node *from = &model->nodes[node->input[0]];
    const int32_t pixels = op->desc.kernel ? op->desc.kernel * op->desc.kernel : from->out.h * from->out.w;
    op->desc.scale[0] = cnn_quant_average_multiplier(from->out_scale, node->out_scale, pixels);
    op->desc.lo = -127.0f;
    op->desc.hi = 127.0f;
    if (!isnormal(op->desc.scale[0]))
        return cnn_error(CNN_ERR_NUMERIC,
                         "layer %s: the INT8 multiplier %g is not a normal number; quantize the model again with other "
                         "calibration data",
                         node->name, (double)op->desc.scale[0]);
    return CNN_OK;
}

cnn_status cnn_layer_forward_avgpool(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, value_dtype(lowering, index));
    cnn_instruction *op = cnn_lower_op(lowering, CNN_OP_AVGPOOL, index, &args);
    cnn_layer_set_average(op, node);
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    cnn_status status = lowering->status;
    return status == CNN_OK && lowering->int8 ? set_average_scale(op, lowering->model, node) : status;
}

cnn_status cnn_layer_forward_add(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_input(lowering, index, 1);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, value_dtype(lowering, index));
    cnn_instruction *op = cnn_lower_op(lowering, CNN_OP_ADD, index, &args);
    const cnn_node *nodes = lowering->model->nodes;
    if (lowering->int8)
        set_scales(op, node, nodes[node->input[0]].out_scale, nodes[node->input[1]].out_scale);
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

/* Two by two: what has been put together is in the concat's own scale already, which keeps it as it is. */
cnn_status cnn_layer_forward_concat(cnn_lowering *lowering, int index)
{
    const cnn_model *model = lowering->model;
    const cnn_node *node = &model->nodes[index];
    const cnn_dtype dtype = value_dtype(lowering, index);
    int whole = cnn_lower_input(lowering, index, 0);
    int32_t channels = model->nodes[node->input[0]].out.c;
    float scale = model->nodes[node->input[0]].out_scale;
    for (int i = 1; i < node->input_count; i++, scale = node->out_scale) {
        channels += model->nodes[node->input[i]].out.c;
        cnn_args args = cnn_args_none();
        args.buffer[CNN_ARG_SRC] = whole;
        args.buffer[CNN_ARG_SRC2] = cnn_lower_input(lowering, index, i);
        args.buffer[CNN_ARG_DST] = whole = i == node->input_count - 1
                                               ? cnn_lower_value(lowering, index, dtype)
                                               : cnn_lower_channels(lowering, index, dtype, channels);
        cnn_instruction *op = cnn_lower_op(lowering, CNN_OP_CONCAT, index, &args);
        if (lowering->int8)
            set_scales(op, node, scale, model->nodes[node->input[i]].out_scale);
    }
    cnn_lower_set_value(lowering, index, whole);
    return lowering->status;
}

bool cnn_layer_drops(const cnn_lowering *lowering, const cnn_node *node)
{
    return lowering->goal == CNN_GOAL_TRAIN && lowering->step.dropout && (float)cnn_node_attr(node, "rate") > 0;
}

void cnn_layer_put_dropout(cnn_lowering *lowering, int node, int src, int dst)
{
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = src;
    args.buffer[CNN_ARG_INDEX] = cnn_lower_index(lowering);
    args.buffer[CNN_ARG_STATE] = cnn_lower_state(lowering);
    args.buffer[CNN_ARG_DST] = dst;
    cnn_instruction *op = cnn_lower_op(lowering, CNN_OP_DROPOUT, node, &args);
    op->desc.rate = (float)cnn_node_attr(&lowering->model->nodes[node], "rate");
    op->desc.seed = cnn_hash(lowering->step.seed, CNN_PURPOSE_DROPOUT, (uint64_t)node, 0);
}

/* Elsewhere its value is its input's. */
cnn_status cnn_layer_forward_dropout(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int value = cnn_lower_input(lowering, index, 0);
    if (cnn_layer_drops(lowering, node)) {
        const int src = value;
        value = cnn_lower_value(lowering, index, lowering->storage);
        cnn_layer_put_dropout(lowering, index, src, value);
    }
    cnn_lower_set_value(lowering, index, value);
    return lowering->status;
}
