/* The INT8 arithmetic, as a specification: every backend gives these results bit for bit.
 *
 * Weights are int8 in [-127,127] with zero point 0 and one scale per output channel; activations int8 with zero
 * point 0 and one scale per tensor. Products accumulate in int32, the bias is int32 with scale s_in*s_w[k].
 * Everything is f32 arithmetic, rounded after each operation in the order written. Implemented in
 * kernels/ref/quant.c. */
#ifndef CNN_QUANT_H
#define CNN_QUANT_H

#include "cnn/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Scale of an output channel: max(max|w|/127, |bias|/(s_in * 2^30)); 1 when weights and bias are all 0. */
CNN_API float cnn_quant_weight_scale(const float *weights, int64_t count, float bias, float s_in);

/* clamp(rint(value / scale), -127, 127), ties to even. */
CNN_API int8_t cnn_quant_value(float value, float scale);

/* rint(bias / (s_in * s_w)), computed in double. |result| <= 2^30 by the choice of s_w. */
CNN_API int32_t cnn_quant_bias(float bias, float s_in, float s_w);

/* (s_in * s_w) / s_out. The caller refuses a result that is not normal and finite. */
CNN_API float cnn_quant_multiplier(float s_in, float s_w, float s_out);

/* Multiplier of logits: s_in * s_w. */
CNN_API float cnn_quant_logit_multiplier(float s_in, float s_w);

/* rint(clamp(float(acc) * multiplier, lo, hi)); acc already includes the bias. */
CNN_API int8_t cnn_quant_requantize(int32_t acc, float multiplier, float lo, float hi);

/* rint(clamp((a*s_a + b*s_b) / s_out, lo, hi)): the residual add. It, the leaky ReLU and the concat are what
 * DequantizeLinear, the op in f32 and QuantizeLinear give. */
CNN_API int8_t cnn_quant_add(int8_t a, int8_t b, float s_a, float s_b, float s_out, float lo, float hi);

/* clamp(rint(max / scale), 1, 127): where a ReLU that is cut off at `max` ends in the scale of its values. It is the hi
 * of what requantizes to them. */
CNN_API float cnn_quant_cap(float max, float scale);

/* v = x*s_in, below 0 then v*slope; rint(clamp(v / s_out, lo, hi)): the leaky ReLU. */
CNN_API int8_t cnn_quant_leaky_relu(int8_t x, float s_in, float slope, float s_out, float lo, float hi);

/* rint(clamp(x*s_in / s_out, lo, hi)): a value that a concat takes to its output's scale. */
CNN_API int8_t cnn_quant_rescale(int8_t x, float s_in, float s_out, float lo, float hi);

/* (s_in / s_out) / count: what the sum of `count` pixels is multiplied by in an average pool, whose result is then
 * cnn_quant_requantize(sum, multiplier, -127, 127). The caller refuses a multiplier that is not normal and finite. */
CNN_API float cnn_quant_average_multiplier(float s_in, float s_out, int32_t count);

/* True when k products of [-127,127] values and this bias cannot overflow int32: k*127^2 + |bias| < 2^31. */
CNN_API bool cnn_quant_fits(int64_t k, int32_t bias);

#ifdef __cplusplus
}
#endif
#endif
