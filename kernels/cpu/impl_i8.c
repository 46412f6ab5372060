/* Table of the INT8 and input implementations, best first. The convolutions choose by ISA level among the matrix
 * products of gemm_i8.h and are named after what they chose. */
#include "kernels/cpu/conv_i8.h"
#include "kernels/cpu/depthwise.h"
#include "kernels/cpu/elementwise_i8.h"

const cnn_cpu_impl cnn_cpu_i8_impls[] = {
#if defined(__x86_64__)
    {CNN_OP_CONV, "cnn_cpu_conv_i8_few_avx512vnni", CNN_CPU_AVX512VNNI, cnn_cpu_conv_i8_few_suits,
     cnn_cpu_conv_i8_few_make},
#endif
#if defined(CNN_CPU_AMX_BUILT)
    {CNN_OP_CONV, "cnn_cpu_conv_i8_direct_amx", CNN_CPU_AMX, cnn_cpu_conv_i8_amx_suits, cnn_cpu_conv_i8_amx_make},
#endif
    {CNN_OP_CONV, "cnn_cpu_conv_i8_direct", CNN_CPU_PORTABLE, cnn_cpu_conv_i8_direct_suits,
     cnn_cpu_conv_i8_direct_make},
    {CNN_OP_LINEAR, "cnn_cpu_linear_i8_blocks", CNN_CPU_PORTABLE, cnn_cpu_conv_i8_direct_suits,
     cnn_cpu_conv_i8_direct_make},
    {CNN_OP_LINEAR, "cnn_cpu_gemv_i8", CNN_CPU_PORTABLE, cnn_cpu_gemv_i8_suits, cnn_cpu_gemv_i8_make},
    {CNN_OP_CONV, "cnn_cpu_conv_i8", CNN_CPU_PORTABLE, cnn_cpu_conv_i8_suits, cnn_cpu_conv_i8_make},
    {CNN_OP_LINEAR, "cnn_cpu_linear_i8", CNN_CPU_PORTABLE, cnn_cpu_conv_i8_suits, cnn_cpu_conv_i8_make},
    {CNN_OP_GROUP_CONV, "cnn_cpu_depthwise_i8", CNN_CPU_PORTABLE, cnn_cpu_depthwise_i8_suits,
     cnn_cpu_depthwise_i8_make},
    {CNN_OP_MAXPOOL, "cnn_cpu_maxpool_i8", CNN_CPU_PORTABLE, cnn_cpu_maxpool_i8_suits, cnn_cpu_maxpool_i8_make},
    {CNN_OP_AVGPOOL, "cnn_cpu_avgpool_i8", CNN_CPU_PORTABLE, cnn_cpu_i8_suits, cnn_cpu_avgpool_i8_make},
    {CNN_OP_ADD, "cnn_cpu_add_i8", CNN_CPU_PORTABLE, cnn_cpu_i8_suits, cnn_cpu_add_i8_make},
    {CNN_OP_RELU, "cnn_cpu_relu_i8", CNN_CPU_PORTABLE, cnn_cpu_i8_suits, cnn_cpu_relu_i8_make},
    {CNN_OP_CLIP, "cnn_cpu_clip_i8", CNN_CPU_PORTABLE, cnn_cpu_i8_suits, cnn_cpu_relu_i8_make},
    {CNN_OP_LEAKY_RELU, "cnn_cpu_leaky_relu_i8", CNN_CPU_PORTABLE, cnn_cpu_i8_suits, cnn_cpu_leaky_relu_i8_make},
    {CNN_OP_CONCAT, "cnn_cpu_concat", CNN_CPU_PORTABLE, NULL, cnn_cpu_concat_make},
    {CNN_OP_CONCAT_GRAD, "cnn_cpu_concat_grad", CNN_CPU_PORTABLE, NULL, cnn_cpu_concat_make},
    {CNN_OP_INPUT, "cnn_cpu_input", CNN_CPU_PORTABLE, cnn_cpu_input_suits, cnn_cpu_input_make},
    {CNN_OP_REQUANTIZE, "cnn_cpu_requantize", CNN_CPU_PORTABLE, NULL, cnn_cpu_requantize_make},
    {CNN_OP_DEQUANTIZE, "cnn_cpu_dequantize", CNN_CPU_PORTABLE, NULL, cnn_cpu_requantize_make},
    {CNN_OP_NONE, NULL, CNN_CPU_PORTABLE, NULL, NULL},
};
