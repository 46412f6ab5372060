/* The table of layer types: attributes and functions. Shapes are in layer_shapes.c, ops in layer_forward.c and
 * layer_backward.c. */
#include "core/layer_parts.h"

#include <assert.h>
#include <string.h>

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
     cnn_layer_infer_input,
     NULL,
     cnn_layer_forward_input,
     cnn_layer_backward_input},
    {CNN_LAYER_CONV,
     "conv",
     "convolution, square filter",
     1,
     1,
     {{"out", CNN_ATTR_INT, true, 0, 1, CNN_MAX_CHANNELS},
      {"kernel", CNN_ATTR_INT, true, 0, 1, 1024},
      {"stride", CNN_ATTR_INT, false, 1, 1, 1024},
      {"pad", CNN_ATTR_INT, false, 0, 0, 1024},
      {"bias", CNN_ATTR_BOOL, false, 1, 0, 1},
      {"groups", CNN_ATTR_INT, false, 1, 1, CNN_MAX_CHANNELS}},
     CNN_LAYER_PRUNABLE | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_conv,
     cnn_layer_macs_gemm,
     cnn_layer_forward_gemm,
     cnn_layer_backward_gemm},
    {CNN_LAYER_LINEAR,
     "linear",
     "fully connected layer over all of its input",
     1,
     1,
     {{"out", CNN_ATTR_INT, true, 0, 1, CNN_MAX_CHANNELS}, {"bias", CNN_ATTR_BOOL, false, 1, 0, 1}},
     CNN_LAYER_PRUNABLE | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_linear,
     cnn_layer_macs_gemm,
     cnn_layer_forward_gemm,
     cnn_layer_backward_gemm},
    {CNN_LAYER_BN,
     "bn",
     "batch normalization per channel",
     1,
     1,
     {{"eps", CNN_ATTR_FLOAT, false, 1e-5, 1e-12, 1}, {"momentum", CNN_ATTR_FLOAT, false, 0.1, 0, 1}},
     CNN_LAYER_KEEPS_CHANNELS,
     cnn_layer_infer_bn,
     NULL,
     cnn_layer_forward_bn,
     cnn_layer_backward_bn},
    {CNN_LAYER_RELU,
     "relu",
     "max(x, 0), with max=6 no more than 6",
     1,
     1,
     {{"max", CNN_ATTR_FLOAT, false, 0, 0, 1e6}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_same,
     NULL,
     cnn_layer_forward_relu,
     cnn_layer_backward_relu},
    {CNN_LAYER_MAXPOOL,
     "maxpool",
     "maximum of a square window",
     1,
     1,
     {{"kernel", CNN_ATTR_INT, true, 0, 1, 15},
      {"stride", CNN_ATTR_INT, false, 0, 0, 1024},
      {"pad", CNN_ATTR_INT, false, 0, 0, 14}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_KEEPS_SCALE | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_maxpool,
     NULL,
     cnn_layer_forward_maxpool,
     cnn_layer_backward_maxpool},
    {CNN_LAYER_ADD,
     "add",
     "sum of two layers, as in residual blocks",
     2,
     2,
     {{0}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_add,
     NULL,
     cnn_layer_forward_add,
     cnn_layer_backward_add},
    {CNN_LAYER_AVGPOOL,
     "avgpool",
     "average of a square window",
     1,
     1,
     {{"kernel", CNN_ATTR_INT, true, 0, 1, 1024}, {"stride", CNN_ATTR_INT, false, 0, 0, 1024}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_pool,
     NULL,
     cnn_layer_forward_avgpool,
     cnn_layer_backward_avgpool},
    {CNN_LAYER_GLOBALAVGPOOL,
     "globalavgpool",
     "average of each channel",
     1,
     1,
     {{0}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_globalavgpool,
     NULL,
     cnn_layer_forward_avgpool,
     cnn_layer_backward_avgpool},
    {CNN_LAYER_LEAKY_RELU,
     "leaky_relu",
     "x, below 0 multiplied by a slope",
     1,
     1,
     {{"slope", CNN_ATTR_FLOAT, false, 0.01, 0, 1}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_same,
     NULL,
     cnn_layer_forward_leaky_relu,
     cnn_layer_backward_leaky_relu},
    {CNN_LAYER_CONCAT,
     "concat",
     "channels of layers side by side",
     2,
     CNN_MAX_INPUTS,
     {{0}},
     CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_concat,
     NULL,
     cnn_layer_forward_concat,
     cnn_layer_backward_concat},
    {CNN_LAYER_DROPOUT,
     "dropout",
     "in training drops values at random and scales up the others",
     1,
     1,
     {{"rate", CNN_ATTR_FLOAT, true, 0, 0, 0.99}},
     CNN_LAYER_KEEPS_CHANNELS | CNN_LAYER_KEEPS_SCALE | CNN_LAYER_QUANTIZABLE,
     cnn_layer_infer_same,
     NULL,
     cnn_layer_forward_dropout,
     cnn_layer_backward_dropout},
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

float cnn_node_relu_max(const cnn_node *node)
{
    return node->type->id == CNN_LAYER_RELU ? (float)cnn_node_attr(node, "max") : 0.0f;
}

double cnn_node_attr(const cnn_node *node, const char *name)
{
    return node->attr[attr_index(node, name)];
}

void cnn_node_set_attr(cnn_node *node, const char *name, double value)
{
    node->attr[attr_index(node, name)] = value;
}

int32_t cnn_node_groups(const cnn_node *node)
{
    return node->type->id == CNN_LAYER_CONV ? cnn_node_int(node, "groups") : 1;
}

bool cnn_node_is_depthwise(const cnn_node *node)
{
    const cnn_tensor_desc *weight = &node->param[CNN_PARAM_WEIGHT].desc;
    return cnn_node_groups(node) > 1 && weight->c == 1 && cnn_node_groups(node) == weight->n;
}
