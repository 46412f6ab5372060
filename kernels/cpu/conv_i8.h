/* CONV and LINEAR in INT8: conv_i8.c. */
#ifndef CNN_CPU_CONV_I8_H
#define CNN_CPU_CONV_I8_H

#include "kernels/cpu/cpu.h"

bool cnn_cpu_conv_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_conv_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

/* CONV without im2col, and CONV and LINEAR with zero blocks: conv_i8_direct.c. */
bool cnn_cpu_conv_i8_direct_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_conv_i8_direct_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

#endif
