/* The functions that the table of operators names: what each reads and writes. */
#ifndef CNN_ONNX_LAYERS_H
#define CNN_ONNX_LAYERS_H

#include "onnx/export.h"
#include "onnx/import.h"

/* ---- export_layers.c ---- */

/* The image, normalized as the model says. */
cnn_status cnn_onnx_write_input(cnn_onnx_export *export);
cnn_status cnn_onnx_write_conv(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_linear(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_bn(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_relu(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_leaky_relu(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_concat(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_dropout(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_maxpool(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_avgpool(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_globalavgpool(cnn_onnx_export *export, int node);
cnn_status cnn_onnx_write_add(cnn_onnx_export *export, int node);
/* The softmax behind the scores of the last layer, where the network ends in one: its value is the output then. */
cnn_status cnn_onnx_write_softmax(cnn_onnx_export *export, int last);

/* ---- import_layers.c: what becomes a layer, or part of one ---- */

cnn_status cnn_onnx_read_conv(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_gemm(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_matmul(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_bn(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_relu(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_clip(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_leaky_relu(cnn_onnx_import *import, const cnn_onnx_node *node);

/* ---- import_pools.c ---- */

cnn_status cnn_onnx_read_maxpool(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_avgpool(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_globalavgpool(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_mean(cnn_onnx_import *import, const cnn_onnx_node *node);

/* ---- import_arithmetic.c: sums, biases, and the normalization of pixels ---- */

cnn_status cnn_onnx_read_add(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_sub(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_mul(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_div(cnn_onnx_import *import, const cnn_onnx_node *node);

/* ---- import_forms.c: what changes the form of a value, or nothing ---- */

cnn_status cnn_onnx_read_same(cnn_onnx_import *import, const cnn_onnx_node *node); /* Identity */
cnn_status cnn_onnx_read_dropout(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_softmax(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_constant(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_flatten(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_reshape(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_squeeze(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_unsqueeze(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_transpose(cnn_onnx_import *import, const cnn_onnx_node *node); /* of weights */

/* ---- import_sizes.c: what computes the sizes that a Reshape is given ---- */

cnn_status cnn_onnx_read_shape(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_gather(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_concat(cnn_onnx_import *import, const cnn_onnx_node *node);

/* ---- import_quantized.c ---- */

cnn_status cnn_onnx_read_quantize(cnn_onnx_import *import, const cnn_onnx_node *node);
cnn_status cnn_onnx_read_dequantize(cnn_onnx_import *import, const cnn_onnx_node *node);

#endif
