/* What lowering makes on the host: input tables, INT8 multipliers and biases. */
#ifndef CNN_CORE_QUANTIZED_H
#define CNN_CORE_QUANTIZED_H

#include "core/program.h"

/* TABLE of op INPUT: [channels,256] f32 normalized values, or i8 at the input node's scale. */
int cnn_lower_input_table(cnn_lowering *lowering, cnn_dtype dtype, int32_t channels);

/* i32 bias [K] of a quantized GEMM node; zeros when it has none. */
int cnn_lower_int8_bias(cnn_lowering *lowering, int node);

/* f32 multipliers [K] that take the accumulator of `gemm` to the scale of node `target`, or to logits for -1. */
int cnn_lower_int8_multipliers(cnn_lowering *lowering, int gemm, int target);

/* The ReLU that alone reads the accumulator of node `node`, a layer with weights, and so requantizes it; -1: none. */
int cnn_int8_relu(const cnn_model *model, int node);

/* The ReLU that alone reads node `node`, a layer with weights or a sum, and whose scale the node takes: what the ReLU
 * cuts off needs no room. -1: none. */
int cnn_int8_scale_reader(const cnn_model *model, int node);

/* The normalized value of byte x: (x/255 - mean)/std in double, rounded once. */
float cnn_normalize_byte(const cnn_normalization *normalization, int channel, int x);

#endif
