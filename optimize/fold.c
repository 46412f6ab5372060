/* Folding batch normalization into the convolution or linear layer before it:
 *
 *     y = (conv(x,w) + b - mean) * g + beta,  g = gamma / sqrt(var + eps)
 *       = conv(x, w*g) + (b - mean)*g + beta
 *
 * with running statistics, computed in double and rounded once. Weights on a grid stay on it: the step of their channel
 * is multiplied by |g|, and g's sign moves to their whole numbers. */
#include "cnn/optimize.h"

#include "core/error.h"
#include "core/layers.h"
#include "optimize/channels.h"

#include <math.h>
#include <string.h>

static const float *values(const cnn_node *node, cnn_param_role role)
{
    return node->param[role].data;
}

/* The BN must sit right behind a layer with weights that nothing else reads. */
static cnn_status check_producer(const cnn_model *model, int bn)
{
    cnn_status status = CNN_OK;
    const cnn_node *node = &model->nodes[bn], *producer = &model->nodes[node->input[0]];
    if (producer->param[CNN_PARAM_WEIGHT].desc.dtype == CNN_NONE)
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "'%s' follows '%s', which is neither a convolution nor a linear layer, so it cannot be folded away",
                 node->name, producer->name);
    if (producer->param[CNN_PARAM_WEIGHT].desc.dtype != CNN_F32)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "'%s' cannot be folded into '%s': its weights are %s, not f32", node->name,
                 producer->name, cnn_dtype_name(producer->param[CNN_PARAM_WEIGHT].desc.dtype));
    if (producer->param[CNN_PARAM_STEP].desc.dtype != CNN_NONE)
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "'%s' cannot be folded into '%s' while its weights train on a grid; end that first", node->name,
                 producer->name);
    int only;
    int readers = cnn_model_readers(model, node->input[0], &only);
    if (readers != 1)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "'%s' cannot be folded into '%s': %d layers read what '%s' makes", node->name,
                 producer->name, readers, producer->name);
out:
    return status;
}

/* Scales the weights of output channel k and returns its new bias. */
static float fold_channel(cnn_node *producer, const cnn_node *bn, int32_t k, double gain)
{
    cnn_param *weight = &producer->param[CNN_PARAM_WEIGHT];
    int64_t count = cnn_desc_elements(&weight->desc) / weight->desc.n;
    float *w = (float *)weight->data + (int64_t)k * count; /* [R,S,C] */
    for (int64_t i = 0; i < count; i++)
        w[i] = (float)(w[i] * gain + 0.0); /* a pruned weight stays 0, and not -0 */
    if (weight->grid)
        weight->grid[k] = (float)(weight->grid[k] * fabs(gain));
    double bias = values(producer, CNN_PARAM_BIAS)[k];
    return (float)((bias - values(bn, CNN_PARAM_RUNNING_MEAN)[k]) * gain + values(bn, CNN_PARAM_BETA)[k]);
}

static cnn_status fold_weights(cnn_model *model, int bn)
{
    cnn_status status = CNN_OK;
    const cnn_node *node = &model->nodes[bn];
    cnn_node *producer = &model->nodes[node->input[0]];
    cnn_param *bias = &producer->param[CNN_PARAM_BIAS];
    if (bias->desc.dtype == CNN_NONE)
        CNN_TRY(cnn_param_alloc(bias, cnn_desc_vector(CNN_F32, producer->out.c)));
    cnn_node_set_attr(producer, "bias", 1);
    double eps = cnn_node_attr(node, "eps");
    for (int32_t k = 0; k < producer->out.c; k++) {
        double gain = values(node, CNN_PARAM_GAMMA)[k] / sqrt(values(node, CNN_PARAM_RUNNING_VAR)[k] + eps);
        float folded = fold_channel(producer, node, k, gain);
        if (!isfinite(gain) || !isfinite(folded))
            CNN_FAIL(CNN_ERR_NUMERIC, "the statistics of '%s' are not finite in channel %d; train the model again",
                     node->name, k);
        ((float *)bias->data)[k] = folded;
    }
out:
    return status;
}

/* Takes a node out; its readers read its input instead. */
static void remove_node(cnn_model *model, int gone)
{
    int replacement = model->nodes[gone].input[0];
    for (int i = gone + 1; i < model->node_count; i++)
        for (int j = 0; j < model->nodes[i].input_count; j++) {
            int *input = &model->nodes[i].input[j];
            if (*input == gone)
                *input = replacement;
            else if (*input > gone)
                --*input;
        }
    for (int role = 0; role < CNN_PARAM_COUNT; role++)
        cnn_param_free(&model->nodes[gone].param[role]);
    size_t behind = (size_t)(model->node_count - gone - 1);
    memmove(&model->nodes[gone], &model->nodes[gone + 1], behind * sizeof *model->nodes);
    model->node_count--;
}

cnn_status cnn_fold_batchnorm(cnn_model *model)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    CNN_TRY(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count;) {
        if (copy->nodes[i].type->id != CNN_LAYER_BN) {
            i++;
            continue;
        }
        CNN_TRY(check_producer(copy, i));
        CNN_TRY(fold_weights(copy, i));
        remove_node(copy, i);
    }
    CNN_TRY(cnn_model_infer_shapes(copy, copy->name));
    cnn_model_swap(model, copy);
out:
    cnn_model_free(copy);
    return status;
}
