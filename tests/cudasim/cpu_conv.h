/* Convolutions for the CPU's cuDNN, by the kernels of the CPU backend: the direct ones, whose error is that of a sum.
 */
#ifndef CNN_CUDASIM_CPU_CONV_H
#define CNN_CUDASIM_CPU_CONV_H

#include "cnn/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs CONV, CONV_DGRAD or CONV_WGRAD with f32 tensors, or CONV from i8 to i32. Reports and aborts when it cannot. */
void cudasim_cpu_conv(const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT]);

#ifdef __cplusplus
}
#endif
#endif
