/* The float loops for level portable: any CPU. */
#define CNN_SIMD_PORTABLE
#include "kernels/cpu/loops_gemm.h"
#include "kernels/cpu/loops_winograd.h"
#include "kernels/cpu/loops_depthwise.h"
#include "kernels/cpu/loops_activations.h"
#include "kernels/cpu/loops_pool.h"
#include "kernels/cpu/loops_pool_lines.h"
#include "kernels/cpu/loops_bn.h"
#include "kernels/cpu/loops_rows.h"
