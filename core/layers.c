/* The layer types: attributes, shapes, MACs, and how each becomes ops.
 *
 * INT8. A convolution or linear layer gives an i32 accumulator. Who requantizes it: the output node makes f32 logits
 * (DEQUANTIZE); a ReLU that is its only reader takes the accumulator and clamps at 0; otherwise the layer itself. */
#include "core/layers.h"

#include "cnn/quant.h"
#include "core/error.h"
#include "core/quantized.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Shapes ---- */

static void set_param(cnn_node *node, cnn_param_role role, cnn_tensor_desc desc)
{
    node->param[role].desc = desc;
}

/* Sets the height and width of what a window gives. */
static cnn_status set_sides(const cnn_tensor_desc *in, int32_t kernel, int32_t stride, int32_t pad,
                            cnn_tensor_desc *out)
{
    out->h = cnn_window_count(in->h, kernel, stride, pad);
    out->w = cnn_window_count(in->w, kernel, stride, pad);
    if (out->h < 1 || out->w < 1)
        return cnn_error(CNN_ERR_SHAPE, "a %dx%d window does not fit its input of %dx%d (pad %d); use a smaller kernel",
                         kernel, kernel, in->h, in->w, pad);
    return CNN_OK;
}

static cnn_status infer_input(cnn_node *node, const cnn_tensor_desc *in)
{
    (void)in;
    node->out =
        cnn_desc(CNN_F32, 1, cnn_node_int(node, "height"), cnn_node_int(node, "width"), cnn_node_int(node, "channels"));
    return CNN_OK;
}

static void set_gemm_params(cnn_node *node, int32_t out, int32_t h, int32_t w, int32_t c)
{
    bool quantized = node->param[CNN_PARAM_WEIGHT].desc.dtype == CNN_I8;
    set_param(node, CNN_PARAM_WEIGHT, cnn_desc(quantized ? CNN_I8 : CNN_F32, out, h, w, c));
    if (cnn_node_int(node, "bias"))
        set_param(node, CNN_PARAM_BIAS, cnn_desc_vector(quantized ? CNN_I32 : CNN_F32, out));
    if (node->param[CNN_PARAM_STEP].data)
        set_param(node, CNN_PARAM_STEP, cnn_desc_vector(CNN_F32, 1));
}

static cnn_status infer_conv(cnn_node *node, const cnn_tensor_desc *in)
{
    int32_t out = cnn_node_int(node, "out"), kernel = cnn_node_int(node, "kernel");
    node->out = cnn_desc(CNN_F32, 1, 0, 0, out);
    cnn_status status = set_sides(in, kernel, cnn_node_int(node, "stride"), cnn_node_int(node, "pad"), &node->out);
    if (status == CNN_OK)
        set_gemm_params(node, out, kernel, kernel, in->c);
    return status;
}

static cnn_status infer_linear(cnn_node *node, const cnn_tensor_desc *in)
{
    int32_t out = cnn_node_int(node, "out");
    node->out = cnn_desc(CNN_F32, 1, 1, 1, out);
    set_gemm_params(node, out, in->h, in->w, in->c);
    return CNN_OK;
}

static cnn_status infer_bn(cnn_node *node, const cnn_tensor_desc *in)
{
    node->out = *in;
    for (int role = CNN_PARAM_GAMMA; role <= CNN_PARAM_RUNNING_VAR; role++)
        set_param(node, (cnn_param_role)role, cnn_desc_vector(CNN_F32, in->c));
    return CNN_OK;
}

static cnn_status infer_same(cnn_node *node, const cnn_tensor_desc *in)
{
    node->out = *in;
    return CNN_OK;
}

static int32_t pool_stride(const cnn_node *node)
{
    int32_t stride = cnn_node_int(node, "stride");
    return stride ? stride : cnn_node_int(node, "kernel");
}

static cnn_status infer_maxpool(cnn_node *node, const cnn_tensor_desc *in)
{
    const int32_t kernel = cnn_node_int(node, "kernel"), pad = cnn_node_int(node, "pad");
    if (pad >= kernel)
        return cnn_error(CNN_ERR_SHAPE, "its pad of %d leaves no pixel in a window of %d; it must be smaller", pad,
                         kernel);
    node->out = *in;
    return set_sides(in, kernel, pool_stride(node), pad, &node->out);
}

static cnn_status infer_pool(cnn_node *node, const cnn_tensor_desc *in)
{
    node->out = *in;
    return set_sides(in, cnn_node_int(node, "kernel"), pool_stride(node), 0, &node->out);
}

/* The sum of a window's int8 values and the count of its pixels fit 32 bits, and a float holds the count. */
enum { MOST_AVERAGED = 1 << 24 };

static cnn_status infer_globalavgpool(cnn_node *node, const cnn_tensor_desc *in)
{
    if ((int64_t)in->h * in->w > MOST_AVERAGED)
        return cnn_error(CNN_ERR_SHAPE, "its input of %dx%d has more than %d pixels to average; pool it before", in->h,
                         in->w, MOST_AVERAGED);
    node->out = *in;
    node->out.h = node->out.w = 1;
    return CNN_OK;
}

static cnn_status infer_add(cnn_node *node, const cnn_tensor_desc *in)
{
    if (in[0].h != in[1].h || in[0].w != in[1].w || in[0].c != in[1].c)
        return cnn_error(CNN_ERR_SHAPE, "its inputs are %dx%dx%d and %dx%dx%d; an add needs equal shapes", in[0].h,
                         in[0].w, in[0].c, in[1].h, in[1].w, in[1].c);
    node->out = in[0];
    return CNN_OK;
}

static int64_t macs_gemm(const cnn_node *node, const cnn_tensor_desc *in)
{
    (void)in;
    return cnn_desc_elements(&node->param[CNN_PARAM_WEIGHT].desc) * node->out.h * node->out.w;
}

/* ---- Forward ---- */

static cnn_status forward_input(cnn_lowering *lowering, int node)
{
    const cnn_model *model = lowering->model;
    const cnn_tensor_desc *out = &model->nodes[node].out;
    cnn_dtype dtype = lowering->int8 ? CNN_I8 : lowering->storage;
    cnn_dtype table_dtype = lowering->int8 ? CNN_I8 : CNN_F32;
    cnn_args args = cnn_args_none();
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
        op->desc.hi = 127.0f;
    }
    cnn_lower_set_value(lowering, node, args.buffer[CNN_ARG_DST]);
}

static cnn_op gemm_op(const cnn_node *node, cnn_op conv, cnn_op linear)
{
    return node->type->id == CNN_LAYER_CONV ? conv : linear;
}

static void set_window(cnn_instruction *op, const cnn_node *node)
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

static bool on_grid(const cnn_node *node)
{
    return node->param[CNN_PARAM_STEP].desc.dtype != CNN_NONE;
}

static void set_grid(cnn_instruction *op, const cnn_node *node)
{
    op->desc.levels = node->param[CNN_PARAM_WEIGHT].levels;
    op->desc.step = node->param[CNN_PARAM_WEIGHT].step;
}

/* The weights that a layer computes with: of weights that train on a grid the nearest points of it, a temporary. */
static int working_weights(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    if (!on_grid(node))
        return cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, weight_place(lowering));
    cnn_tensor_desc points = node->param[CNN_PARAM_WEIGHT].desc;
    points.dtype = lowering->storage;
    points.structure = CNN_DENSE;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_param(lowering, index, CNN_PARAM_STEP, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_DST] = cnn_lower_temporary(lowering, points, index);
    set_grid(cnn_lower_op(lowering, CNN_OP_GRID, index, &args), node);
    return args.buffer[CNN_ARG_DST];
}

static cnn_status forward_gemm(cnn_lowering *lowering, int index)
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
    cnn_instruction *op = cnn_lower_op(lowering, gemm_op(node, CNN_OP_CONV, CNN_OP_LINEAR), index, &args);
    set_window(op, node);
    op->desc.constant_weights = lowering->constant_weights && !on_grid(node);
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
    return lowering->goal == CNN_GOAL_TRAIN && !node->frozen;
}

static cnn_status forward_bn(cnn_lowering *lowering, int index)
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

static cnn_status forward_relu(cnn_lowering *lowering, int node)
{
    int input = lowering->model->nodes[node].input[0];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, node, 0);
    if (lowering->int8 && cnn_int8_relu(lowering->model, input) == node) {
        requantize(lowering, input, node, args.buffer[CNN_ARG_SRC], true);
        return lowering->status;
    }
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, node, value_dtype(lowering, node));
    cnn_lower_op(lowering, CNN_OP_RELU, node, &args);
    cnn_lower_set_value(lowering, node, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

static void set_maxima(cnn_instruction *op, const cnn_node *node)
{
    op->desc.kernel = cnn_node_int(node, "kernel");
    op->desc.stride = pool_stride(node);
    op->desc.pad = cnn_node_int(node, "pad");
}

static cnn_status forward_maxpool(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, value_dtype(lowering, index));
    if (lowering->goal == CNN_GOAL_TRAIN)
        args.buffer[CNN_ARG_INDEX] = cnn_lower_value(lowering, index, CNN_U8);
    set_maxima(cnn_lower_op(lowering, CNN_OP_MAXPOOL, index, &args), node);
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

/* What a window of an average pool is: kernel 0 stands for the whole image. */
static void set_average(cnn_instruction *op, const cnn_node *node)
{
    const bool whole = node->type->id == CNN_LAYER_GLOBALAVGPOOL;
    op->desc.kernel = whole ? 0 : cnn_node_int(node, "kernel");
    op->desc.stride = whole ? 0 : pool_stride(node);
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

static cnn_status forward_avgpool(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, value_dtype(lowering, index));
    cnn_instruction *op = cnn_lower_op(lowering, CNN_OP_AVGPOOL, index, &args);
    set_average(op, node);
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    cnn_status status = lowering->status;
    return status == CNN_OK && lowering->int8 ? set_average_scale(op, lowering->model, node) : status;
}

static cnn_status forward_add(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_input(lowering, index, 1);
    args.buffer[CNN_ARG_DST] = cnn_lower_value(lowering, index, value_dtype(lowering, index));
    cnn_instruction *op = cnn_lower_op(lowering, CNN_OP_ADD, index, &args);
    for (int i = 0; lowering->int8 && i < 2; i++)
        op->desc.scale[i] = lowering->model->nodes[node->input[i]].out_scale / node->out_scale;
    if (lowering->int8) {
        op->desc.lo = -127.0f;
        op->desc.hi = 127.0f;
    }
    cnn_lower_set_value(lowering, index, args.buffer[CNN_ARG_DST]);
    return lowering->status;
}

/* ---- Backward ---- */

/* The gradient of points on a grid becomes that of the weights, and its step gets one. */
static void backward_grid(cnn_lowering *lowering, int index)
{
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_param(lowering, index, CNN_PARAM_STEP, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_DST] = cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, CNN_PLACE_GRAD);
    args.buffer[CNN_ARG_DST2] = cnn_lower_param(lowering, index, CNN_PARAM_STEP, CNN_PLACE_GRAD);
    set_grid(cnn_lower_op(lowering, CNN_OP_GRID_GRAD, index, &args), &lowering->model->nodes[index]);
}

static cnn_status backward_gemm(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int dy = cnn_lower_gradient(lowering, index);
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_SRC2] = dy;
    if (!node->frozen) {
        args.buffer[CNN_ARG_DST] = cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, CNN_PLACE_GRAD);
        args.buffer[CNN_ARG_DST2] = cnn_lower_param(lowering, index, CNN_PARAM_BIAS, CNN_PLACE_GRAD);
        set_window(cnn_lower_op(lowering, gemm_op(node, CNN_OP_CONV_WGRAD, CNN_OP_LINEAR_WGRAD), index, &args), node);
        if (on_grid(node))
            backward_grid(lowering, index);
    }

    int dx = cnn_lower_gradient_begin(lowering, node->input[0]);
    if (dx < 0)
        return lowering->status;
    args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = dy;
    args.buffer[CNN_ARG_WEIGHT] =
        cnn_lower_forward_arg(lowering, index, gemm_op(node, CNN_OP_CONV, CNN_OP_LINEAR), CNN_ARG_WEIGHT);
    args.buffer[CNN_ARG_DST] = dx;
    set_window(cnn_lower_op(lowering, gemm_op(node, CNN_OP_CONV_DGRAD, CNN_OP_LINEAR_DGRAD), index, &args), node);
    cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

/* Of fixed statistics y is linear in x: dx = dy*gamma/sqrt(var + eps), which is BN_INFER with mean and beta of 0. */
static cnn_status backward_frozen_bn(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    const cnn_tensor_desc vector = node->param[CNN_PARAM_BETA].desc;
    int dx = cnn_lower_gradient_begin(lowering, node->input[0]);
    if (dx < 0)
        return lowering->status;
    void *zeros = cnn_calloc(cnn_desc_bytes(&vector), 1);
    if (!zeros)
        return CNN_ERR_MEMORY;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_gradient(lowering, index);
    args.buffer[CNN_ARG_GAMMA] = cnn_lower_param(lowering, index, CNN_PARAM_GAMMA, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_VAR] = cnn_lower_param(lowering, index, CNN_PARAM_RUNNING_VAR, CNN_PLACE_RUNNING);
    args.buffer[CNN_ARG_MEAN] = args.buffer[CNN_ARG_BETA] = cnn_lower_constant(lowering, vector, zeros);
    args.buffer[CNN_ARG_DST] = dx;
    free(zeros);
    cnn_lower_op(lowering, CNN_OP_BN_INFER, index, &args)->desc.eps = (float)cnn_node_attr(node, "eps");
    cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

static cnn_status backward_bn(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    if (node->frozen)
        return backward_frozen_bn(lowering, index);
    int dx = cnn_lower_gradient_begin(lowering, node->input[0]);
    /* In front of the first layer that trains there is nobody to hand dx to, but the op computes it all the same. */
    int target = dx >= 0 ? dx : cnn_lower_value(lowering, node->input[0], lowering->storage);
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_gradient(lowering, index);
    args.buffer[CNN_ARG_GAMMA] = cnn_lower_param(lowering, index, CNN_PARAM_GAMMA, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_MEAN] = cnn_lower_param(lowering, index, CNN_PARAM_RUNNING_MEAN, CNN_PLACE_BATCH);
    args.buffer[CNN_ARG_INVSTD] = cnn_lower_forward_arg(lowering, index, CNN_OP_BN_TRAIN, CNN_ARG_INVSTD);
    args.buffer[CNN_ARG_DST] = target;
    args.buffer[CNN_ARG_DST2] = cnn_lower_param(lowering, index, CNN_PARAM_GAMMA, CNN_PLACE_GRAD);
    args.buffer[CNN_ARG_DST3] = cnn_lower_param(lowering, index, CNN_PARAM_BETA, CNN_PLACE_GRAD);
    cnn_lower_op(lowering, CNN_OP_BN_GRAD, index, &args)->desc.eps = (float)cnn_node_attr(node, "eps");
    if (dx >= 0)
        cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

static cnn_status backward_relu(cnn_lowering *lowering, int index)
{
    int input = lowering->model->nodes[index].input[0];
    int dx = cnn_lower_gradient_begin(lowering, input);
    if (dx < 0)
        return lowering->status;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = lowering->program->value[index];
    args.buffer[CNN_ARG_SRC2] = cnn_lower_gradient(lowering, index);
    args.buffer[CNN_ARG_DST] = dx;
    cnn_lower_op(lowering, CNN_OP_RELU_GRAD, index, &args);
    cnn_lower_gradient_done(lowering, input, dx);
    return lowering->status;
}

static cnn_status backward_maxpool(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int dx = cnn_lower_gradient_begin(lowering, node->input[0]);
    if (dx < 0)
        return lowering->status;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_INDEX] = cnn_lower_forward_arg(lowering, index, CNN_OP_MAXPOOL, CNN_ARG_INDEX);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_gradient(lowering, index);
    args.buffer[CNN_ARG_DST] = dx;
    set_maxima(cnn_lower_op(lowering, CNN_OP_MAXPOOL_GRAD, index, &args), node);
    cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

static cnn_status backward_avgpool(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int dx = cnn_lower_gradient_begin(lowering, node->input[0]);
    if (dx < 0)
        return lowering->status;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_gradient(lowering, index);
    args.buffer[CNN_ARG_DST] = dx;
    set_average(cnn_lower_op(lowering, CNN_OP_AVGPOOL_GRAD, index, &args), node);
    cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

/* d(a+b) = dy for both: the gradient's buffer itself is handed on. */
static cnn_status backward_add(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    for (int i = 0; i < 2; i++)
        if (lowering->needs[node->input[i]])
            cnn_lower_gradient_done(lowering, node->input[i], cnn_lower_gradient(lowering, index));
    return lowering->status;
}

static cnn_status backward_input(cnn_lowering *lowering, int index)
{
    (void)index;
    return lowering->status;
}

/* ---- The table ---- */

const cnn_layer_type cnn_layer_types[] = {
    {CNN_LAYER_INPUT,
     "input",
     "the image, bytes normalized",
     0,
     0,
     {{"height", CNN_ATTR_INT, true, 0, 1, CNN_MAX_SIDE},
      {"width", CNN_ATTR_INT, true, 0, 1, CNN_MAX_SIDE},
      {"channels", CNN_ATTR_INT, true, 0, 1, 4}},
     CNN_LAYER_QUANTIZABLE,
     infer_input,
     NULL,
     forward_input,
     backward_input},
    {CNN_LAYER_CONV,
     "conv",
     "convolution, square filter",
     1,
     1,
     {{"out", CNN_ATTR_INT, true, 0, 1, CNN_MAX_CHANNELS},
      {"kernel", CNN_ATTR_INT, true, 0, 1, 1024},
      {"stride", CNN_ATTR_INT, false, 1, 1, 1024},
      {"pad", CNN_ATTR_INT, false, 0, 0, 1024},
      {"bias", CNN_ATTR_BOOL, false, 1, 0, 1}},
     CNN_LAYER_PRUNABLE | CNN_LAYER_QUANTIZABLE,
     infer_conv,
     macs_gemm,
     forward_gemm,
     backward_gemm},
    {CNN_LAYER_LINEAR,
     "linear",
     "fully connected layer over all of its input",
     1,
     1,
     {{"out", CNN_ATTR_INT, true, 0, 1, CNN_MAX_CHANNELS}, {"bias", CNN_ATTR_BOOL, false, 1, 0, 1}},
     CNN_LAYER_PRUNABLE | CNN_LAYER_QUANTIZABLE,
     infer_linear,
     macs_gemm,
     forward_gemm,
     backward_gemm},
    {CNN_LAYER_BN,
     "bn",
     "batch normalization per channel",
     1,
     1,
     {{"eps", CNN_ATTR_FLOAT, false, 1e-5, 1e-12, 1}, {"momentum", CNN_ATTR_FLOAT, false, 0.1, 0, 1}},
     CNN_LAYER_KEEPS_CHANNELS,
     infer_bn,
     NULL,
     forward_bn,
     backward_bn},
    {CNN_LAYER_RELU,
     "relu",
     "max(x, 0)",
     1,
     1,
     {{0}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     infer_same,
     NULL,
     forward_relu,
     backward_relu},
    {CNN_LAYER_MAXPOOL,
     "maxpool",
     "maximum of a square window",
     1,
     1,
     {{"kernel", CNN_ATTR_INT, true, 0, 1, 15},
      {"stride", CNN_ATTR_INT, false, 0, 0, 1024},
      {"pad", CNN_ATTR_INT, false, 0, 0, 14}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_KEEPS_SCALE | CNN_LAYER_QUANTIZABLE,
     infer_maxpool,
     NULL,
     forward_maxpool,
     backward_maxpool},
    {CNN_LAYER_ADD,
     "add",
     "sum of two layers, as in residual blocks",
     2,
     2,
     {{0}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     infer_add,
     NULL,
     forward_add,
     backward_add},
    {CNN_LAYER_AVGPOOL,
     "avgpool",
     "average of a square window",
     1,
     1,
     {{"kernel", CNN_ATTR_INT, true, 0, 1, 1024}, {"stride", CNN_ATTR_INT, false, 0, 0, 1024}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     infer_pool,
     NULL,
     forward_avgpool,
     backward_avgpool},
    {CNN_LAYER_GLOBALAVGPOOL,
     "globalavgpool",
     "average of each channel",
     1,
     1,
     {{0}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     infer_globalavgpool,
     NULL,
     forward_avgpool,
     backward_avgpool},
    {.name = NULL},
};

const cnn_layer_type *cnn_layer_find(const char *name)
{
    for (const cnn_layer_type *type = cnn_layer_types; type->name; type++)
        if (strcmp(type->name, name) == 0)
            return type;
    return NULL;
}

const cnn_layer_type *cnn_layer_by_id(unsigned id)
{
    for (const cnn_layer_type *type = cnn_layer_types; type->name; type++)
        if (type->id == id)
            return type;
    return NULL;
}

static int attr_index(const cnn_node *node, const char *name)
{
    for (int i = 0; i < CNN_MAX_ATTRS && node->type->attr[i].name; i++)
        if (strcmp(node->type->attr[i].name, name) == 0)
            return i;
    assert(0 && "the layer type has no such attribute");
    return 0;
}

double cnn_node_attr(const cnn_node *node, const char *name)
{
    return node->attr[attr_index(node, name)];
}

void cnn_node_set_attr(cnn_node *node, const char *name, double value)
{
    node->attr[attr_index(node, name)] = value;
}
