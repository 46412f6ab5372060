/* Which loops each ISA level uses. */
#include "kernels/cpu/loops.h"

#include <stdio.h>

const cnn_cpu_loops *cnn_cpu_loops_get(cnn_cpu_isa isa)
{
#if defined(__x86_64__)
    if (cnn_cpu_isa_holds(isa, CNN_CPU_AVX512))
        return &cnn_cpu_loops_avx512;
    if (cnn_cpu_isa_holds(isa, CNN_CPU_AVX2))
        return &cnn_cpu_loops_avx2;
#endif
    (void)isa;
    return &cnn_cpu_loops_portable;
}

const char *cnn_cpu_loops_isa(cnn_cpu_isa isa)
{
    if (cnn_cpu_isa_holds(isa, CNN_CPU_AVX512))
        return "avx512";
    return cnn_cpu_isa_holds(isa, CNN_CPU_AVX2) ? "avx2" : "portable";
}

void cnn_cpu_kernel_name_float(cnn_cpu_kernel *kernel, const char *op, cnn_dtype dtype)
{
    snprintf(kernel->name, sizeof kernel->name, "cnn_cpu_%s_%s_%s", op, cnn_dtype_name(dtype),
             cnn_cpu_loops_isa(kernel->device->isa));
    kernel->base.name = kernel->name;
}
