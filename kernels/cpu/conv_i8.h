/* CONV and LINEAR in INT8: conv_i8.c. */
#ifndef CNN_CPU_CONV_I8_H
#define CNN_CPU_CONV_I8_H

#include "kernels/cpu/gemm_i8.h"

bool cnn_cpu_conv_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_conv_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

/* The end of both: the outputs of a panel, channels from k0 on, of `count` pixels from number `first` of DST on, as the
 * epilogue has it. sums: [count * area][CNN_I8_SUMS], the largest of each `area` counts. */
void cnn_cpu_finish_i8(const cnn_cpu_gemm_i8 *gemm, const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT],
                       const int32_t *sums, int32_t area, int64_t first, int32_t count, int32_t k0);
/* Writes 0 to the padding channels of those pixels. */
void cnn_cpu_clear_padding_i8(const cnn_tensor_desc *dst, void *data, int64_t first, int64_t count);

/* How many threads share `products`: to wake another one for a few microseconds takes longer than they do. */
static inline int32_t cnn_cpu_lanes_i8(const cnn_host *host, int64_t products)
{
    enum { LEAST_PRODUCTS = 1 << 18 }; /* of a thread, a microsecond or two */
    const int64_t lanes = products / LEAST_PRODUCTS + 1, threads = host->threads();
    return (int32_t)(lanes < threads ? lanes : threads);
}

/* CONV without im2col, and CONV and LINEAR with zero blocks: conv_i8_direct.c. */
bool cnn_cpu_conv_i8_direct_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_conv_i8_direct_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

#if defined(__x86_64__)
/* CONV on images of few channels: conv_i8_few.c. */
bool cnn_cpu_conv_i8_few_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_conv_i8_few_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);
#endif

#if defined(CNN_CPU_AMX_BUILT)
/* CONV with AMX: conv_i8_amx.c. */
bool cnn_cpu_conv_i8_amx_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_conv_i8_amx_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);
#endif

/* LINEAR on a few images, weights in place: gemv_i8.c. */
bool cnn_cpu_gemv_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);
cnn_status cnn_cpu_gemv_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);

#endif
