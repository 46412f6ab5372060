/* Conversions between f32 and the 16-bit floats: round to nearest even, overflow to infinity, subnormals kept,
 * NaN stays NaN (quiet, sign and upper payload bits kept). */
#ifndef CNN_REF_HALF_H
#define CNN_REF_HALF_H

#include <stdint.h>

#ifdef CNN_REF_DOUBLE
#include "kernels/ref/double.h"
#endif

float cnn_ref_f16_to_f32(uint16_t half);
uint16_t cnn_ref_f16_from_f32(float value);
float cnn_ref_bf16_to_f32(uint16_t half);
uint16_t cnn_ref_bf16_from_f32(float value);

#endif
