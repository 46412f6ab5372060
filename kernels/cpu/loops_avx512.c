/* The float loops for level avx512; compiled for AVX-512 F, BW, VL and DQ, so nothing here runs before that was
 * checked. */
#define CNN_SIMD_AVX512
#include "kernels/cpu/loops_gemm.h"
#include "kernels/cpu/loops_winograd.h"
#include "kernels/cpu/loops_depthwise.h"
#include "kernels/cpu/loops_activations.h"
#include "kernels/cpu/loops_pool.h"
#include "kernels/cpu/loops_pool_lines.h"
#include "kernels/cpu/loops_bn.h"
#include "kernels/cpu/loops_rows.h"
