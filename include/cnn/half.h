/* The 16-bit floats on the host: round to nearest even, overflow to infinity, subnormals kept. Implemented in
 * kernels/ref/half.c; every kernel's conversions agree with these bit for bit. */
#ifndef CNN_HALF_H
#define CNN_HALF_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

float cnn_ref_f16_to_f32(uint16_t half);
uint16_t cnn_ref_f16_from_f32(float value);
float cnn_ref_bf16_to_f32(uint16_t half);
uint16_t cnn_ref_bf16_from_f32(float value);

#ifdef __cplusplus
}
#endif
#endif
