/* The table of operators, by name. Layers are written as the operator whose row names them. */
#include "onnx/operators.h"

#include "onnx/layers.h"

#include <string.h>

const cnn_onnx_operator cnn_onnx_operators[] = {
    {"Add", CNN_LAYER_ADD, 2, 2, cnn_onnx_read_add, cnn_onnx_write_add},
    {"AveragePool", CNN_LAYER_AVGPOOL, 1, 1, cnn_onnx_read_avgpool, cnn_onnx_write_avgpool},
    {"BatchNormalization", CNN_LAYER_BN, 5, 5, cnn_onnx_read_bn, cnn_onnx_write_bn},
    {"Clip", CNN_ONNX_NO_LAYER, 1, 3, cnn_onnx_read_clip, NULL}, /* a ReLU with an end is written so */
    {"Concat", CNN_LAYER_CONCAT, 1, SIZE_MAX, cnn_onnx_read_concat, cnn_onnx_write_concat}, /* of sizes, too */
    {"Constant", CNN_ONNX_NO_LAYER, 0, 0, cnn_onnx_read_constant, NULL},
    {"Conv", CNN_LAYER_CONV, 2, 3, cnn_onnx_read_conv, cnn_onnx_write_conv},
    {"DequantizeLinear", CNN_ONNX_NO_LAYER, 2, 3, cnn_onnx_read_dequantize, NULL},
    {"Div", CNN_ONNX_NO_LAYER, 2, 2, cnn_onnx_read_div, NULL},
    {"Dropout", CNN_LAYER_DROPOUT, 1, 3, cnn_onnx_read_dropout, cnn_onnx_write_dropout},
    {"Flatten", CNN_ONNX_NO_LAYER, 1, 1, cnn_onnx_read_flatten, NULL},
    {"Gather", CNN_ONNX_NO_LAYER, 2, 2, cnn_onnx_read_gather, NULL}, /* of sizes */
    {"Gemm", CNN_LAYER_LINEAR, 2, 3, cnn_onnx_read_gemm, cnn_onnx_write_linear},
    {"GlobalAveragePool", CNN_LAYER_GLOBALAVGPOOL, 1, 1, cnn_onnx_read_globalavgpool, cnn_onnx_write_globalavgpool},
    {"Identity", CNN_ONNX_NO_LAYER, 1, 1, cnn_onnx_read_same, NULL},
    {"LeakyRelu", CNN_LAYER_LEAKY_RELU, 1, 1, cnn_onnx_read_leaky_relu, cnn_onnx_write_leaky_relu},
    {"LogSoftmax", CNN_ONNX_NO_LAYER, 1, 1, cnn_onnx_read_softmax, NULL},
    {"MatMul", CNN_ONNX_NO_LAYER, 2, 2, cnn_onnx_read_matmul, NULL},
    {"MaxPool", CNN_LAYER_MAXPOOL, 1, 1, cnn_onnx_read_maxpool, cnn_onnx_write_maxpool},
    {"Mul", CNN_ONNX_NO_LAYER, 2, 2, cnn_onnx_read_mul, NULL},
    {"QuantizeLinear", CNN_ONNX_NO_LAYER, 2, 3, cnn_onnx_read_quantize, NULL},
    {"ReduceMean", CNN_ONNX_NO_LAYER, 1, 2, cnn_onnx_read_mean, NULL},
    {"Relu", CNN_LAYER_RELU, 1, 1, cnn_onnx_read_relu, cnn_onnx_write_relu},
    {"Reshape", CNN_ONNX_NO_LAYER, 2, 2, cnn_onnx_read_reshape, NULL},
    {"Shape", CNN_ONNX_NO_LAYER, 1, 1, cnn_onnx_read_shape, NULL},
    {"Softmax", CNN_ONNX_NO_LAYER, 1, 1, cnn_onnx_read_softmax, NULL},
    {"Squeeze", CNN_ONNX_NO_LAYER, 1, 2, cnn_onnx_read_squeeze, NULL},
    {"Sub", CNN_ONNX_NO_LAYER, 2, 2, cnn_onnx_read_sub, NULL},
    {"Transpose", CNN_ONNX_NO_LAYER, 1, 1, cnn_onnx_read_transpose, NULL}, /* of constants */
    {"Unsqueeze", CNN_ONNX_NO_LAYER, 1, 2, cnn_onnx_read_unsqueeze, NULL},
    {.name = NULL},
};

const cnn_onnx_operator *cnn_onnx_operator_find(const char *name)
{
    for (const cnn_onnx_operator *row = cnn_onnx_operators; row->name; row++)
        if (strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

const cnn_onnx_operator *cnn_onnx_operator_of(const cnn_layer_type *type)
{
    for (const cnn_onnx_operator *row = cnn_onnx_operators; row->name; row++)
        if (row->layer == type->id)
            return row;
    return NULL;
}
