/* How each layer type becomes the ops that hand its gradient on. */
#include "core/layer_parts.h"

#include <stdlib.h>

/* The gradient of points on a grid becomes that of the weights, and its step gets one. */
static void backward_grid(cnn_lowering *lowering, int index)
{
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_param(lowering, index, CNN_PARAM_STEP, CNN_PLACE_PARAM);
    args.buffer[CNN_ARG_DST] = cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, CNN_PLACE_GRAD);
    args.buffer[CNN_ARG_DST2] = cnn_lower_param(lowering, index, CNN_PARAM_STEP, CNN_PLACE_GRAD);
    cnn_layer_set_grid(cnn_lower_op(lowering, CNN_OP_GRID_GRAD, index, &args), &lowering->model->nodes[index]);
}

cnn_status cnn_layer_backward_gemm(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int dy = cnn_lower_gradient(lowering, index);
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_input(lowering, index, 0);
    args.buffer[CNN_ARG_SRC2] = dy;
    if (cnn_lower_trains(lowering, node)) {
        args.buffer[CNN_ARG_DST] = cnn_lower_param(lowering, index, CNN_PARAM_WEIGHT, CNN_PLACE_GRAD);
        args.buffer[CNN_ARG_DST2] = cnn_lower_param(lowering, index, CNN_PARAM_BIAS, CNN_PLACE_GRAD);
        cnn_layer_set_window(cnn_lower_op(lowering, cnn_layer_gemm_op(node, CNN_OP_CONV_WGRAD), index, &args), node);
        if (cnn_layer_on_grid(node))
            backward_grid(lowering, index);
    }

    int dx = cnn_lower_gradient_begin(lowering, node->input[0]);
    if (dx < 0)
        return lowering->status;
    args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = dy;
    args.buffer[CNN_ARG_WEIGHT] =
        cnn_lower_forward_arg(lowering, index, cnn_layer_gemm_op(node, CNN_OP_CONV), CNN_ARG_WEIGHT);
    args.buffer[CNN_ARG_DST] = dx;
    cnn_layer_set_window(cnn_lower_op(lowering, cnn_layer_gemm_op(node, CNN_OP_CONV_DGRAD), index, &args), node);
    cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

/* Of fixed statistics y is linear in x: dx = dy*gamma/sqrt(var + eps), which is BN_INFER with mean and beta of 0. */
cnn_status cnn_layer_backward_frozen_bn(cnn_lowering *lowering, int index)
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

cnn_status cnn_layer_backward_bn(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    if (!cnn_lower_trains(lowering, node))
        return cnn_layer_backward_frozen_bn(lowering, index);
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

/* Gradients that follow from a layer's output: of a ReLU with an end at hi (0: none), or leaky. */
static cnn_status backward_activation(cnn_lowering *lowering, int index, cnn_op op, float hi, float slope)
{
    int input = lowering->model->nodes[index].input[0];
    int dx = cnn_lower_gradient_begin(lowering, input);
    if (dx < 0)
        return lowering->status;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = lowering->program->value[index];
    args.buffer[CNN_ARG_SRC2] = cnn_lower_gradient(lowering, index);
    args.buffer[CNN_ARG_DST] = dx;
    cnn_instruction *made = cnn_lower_op(lowering, op, index, &args);
    made->desc.hi = hi;
    made->desc.slope = slope;
    cnn_lower_gradient_done(lowering, input, dx);
    return lowering->status;
}

cnn_status cnn_layer_backward_relu(cnn_lowering *lowering, int index)
{
    const float max = cnn_node_relu_max(&lowering->model->nodes[index]);
    return backward_activation(lowering, index, max > 0 ? CNN_OP_CLIP_GRAD : CNN_OP_RELU_GRAD, max, 0.0f);
}

cnn_status cnn_layer_backward_leaky_relu(cnn_lowering *lowering, int index)
{
    const float slope = (float)cnn_node_attr(&lowering->model->nodes[index], "slope");
    return backward_activation(lowering, index, CNN_OP_LEAKY_RELU_GRAD, 0.0f, slope);
}

cnn_status cnn_layer_backward_maxpool(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int dx = cnn_lower_gradient_begin(lowering, node->input[0]);
    if (dx < 0)
        return lowering->status;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_INDEX] = cnn_lower_forward_arg(lowering, index, CNN_OP_MAXPOOL, CNN_ARG_INDEX);
    args.buffer[CNN_ARG_SRC2] = cnn_lower_gradient(lowering, index);
    args.buffer[CNN_ARG_DST] = dx;
    cnn_layer_set_maxima(cnn_lower_op(lowering, CNN_OP_MAXPOOL_GRAD, index, &args), node);
    cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

cnn_status cnn_layer_backward_avgpool(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int dx = cnn_lower_gradient_begin(lowering, node->input[0]);
    if (dx < 0)
        return lowering->status;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = cnn_lower_gradient(lowering, index);
    args.buffer[CNN_ARG_DST] = dx;
    cnn_layer_set_average(cnn_lower_op(lowering, CNN_OP_AVGPOOL_GRAD, index, &args), node);
    cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

/* d(a+b) = dy for both: the gradient's buffer itself is handed on. */
cnn_status cnn_layer_backward_add(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    for (int i = 0; i < 2; i++)
        if (lowering->needs[node->input[i]])
            cnn_lower_gradient_done(lowering, node->input[i], cnn_lower_gradient(lowering, index));
    return lowering->status;
}

/* Where the gradient of a concat's input goes; somewhere in any case, for the op writes it. */
static int piece_of(cnn_lowering *lowering, int input)
{
    const int dx = cnn_lower_gradient_begin(lowering, input);
    return dx >= 0 ? dx : cnn_lower_channels(lowering, input, lowering->storage, lowering->model->nodes[input].out.c);
}

/* The last input's share comes off first. */
cnn_status cnn_layer_backward_concat(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int rest = cnn_lower_gradient(lowering, index);
    int32_t channels = node->out.c;
    for (int i = node->input_count - 1; i > 0; i--) {
        const int input = node->input[i], first = node->input[0];
        channels -= lowering->model->nodes[input].out.c;
        cnn_args args = cnn_args_none();
        args.buffer[CNN_ARG_SRC] = rest;
        args.buffer[CNN_ARG_DST] = rest =
            i == 1 ? piece_of(lowering, first) : cnn_lower_channels(lowering, index, lowering->storage, channels);
        args.buffer[CNN_ARG_DST2] = piece_of(lowering, input);
        cnn_lower_op(lowering, CNN_OP_CONCAT_GRAD, index, &args);
        if (lowering->needs[input])
            cnn_lower_gradient_done(lowering, input, args.buffer[CNN_ARG_DST2]);
        if (i == 1 && lowering->needs[first])
            cnn_lower_gradient_done(lowering, first, rest);
    }
    return lowering->status;
}

cnn_status cnn_layer_backward_dropout(cnn_lowering *lowering, int index)
{
    const cnn_node *node = &lowering->model->nodes[index];
    int dx = cnn_lower_gradient(lowering, index);
    if (!lowering->needs[node->input[0]])
        return lowering->status;
    if (cnn_layer_drops(lowering, node)) {
        const int dy = dx;
        dx = cnn_lower_gradient_begin(lowering, node->input[0]);
        cnn_layer_put_dropout(lowering, index, dy, dx);
    }
    cnn_lower_gradient_done(lowering, node->input[0], dx);
    return lowering->status;
}

cnn_status cnn_layer_backward_input(cnn_lowering *lowering, int index)
{
    (void)index;
    return lowering->status;
}
