/* ONNX files: models for other tools, and models from them.
 *
 * The input is float [N,C,H,W], pixels in [0,1]: bytes divided by 255. What else normalizes pixels is part of the
 * graph, as Sub and Div behind the input. The output is float [N,classes], scores, or probabilities
 * where the network ends in a softmax (cnn_model_softmax).
 *
 * INT8 models are written as QuantizeLinear and DequantizeLinear around each value (QDQ): int8, zero point 0, weights
 * with a scale for each output channel, int32 biases with scale input * weight. */
#ifndef CNN_ONNX_H
#define CNN_ONNX_H

#include "cnn/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Writes a model as ONNX, opset 17: to a temporary file beside it, synced, renamed. On failure a file that existed
 * stays whole. */
CNN_API cnn_status cnn_onnx_save(const cnn_model *model, const char *path, size_t *bytes /* or NULL */);

/* Reads a network of opset 7 to 21 with its weights. `input`: what was done to pixels in [0,1] outside of the file's
 * graph; NULL: nothing. Everything is checked
 * before it is used; what cnnkit has no layer for is refused with the name of the node. Weights may lie in a file
 * beside it, as the ONNX file says. */
CNN_API cnn_status cnn_onnx_load(const char *path, const cnn_normalization *input, cnn_model **model);

#ifdef __cplusplus
}
#endif
#endif
