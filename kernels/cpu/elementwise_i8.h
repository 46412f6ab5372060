/* The ops at the edges of INT8 networks: INPUT (any dtype), REQUANTIZE, DEQUANTIZE, and i8 MAXPOOL, AVGPOOL, ADD,
 * RELU, CLIP and LEAKY_RELU; and CONCAT. */
#ifndef CNN_CPU_ELEMENTWISE_I8_H
#define CNN_CPU_ELEMENTWISE_I8_H

#include "kernels/cpu/cpu.h"

bool cnn_cpu_input_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_input_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

cnn_status cnn_cpu_requantize_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

bool cnn_cpu_maxpool_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_maxpool_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

/* Of AVGPOOL, ADD, RELU, CLIP and LEAKY_RELU: src is i8. */
bool cnn_cpu_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_avgpool_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);
cnn_status cnn_cpu_add_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);
cnn_status cnn_cpu_relu_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel); /* and CLIP */
cnn_status cnn_cpu_concat_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);  /* of any dtype */
cnn_status cnn_cpu_leaky_relu_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

#endif
