/* INT8 products with AMX: rows are im2col's as they are, both sides signed, so that no offset has to come out of the
 * sums again. The panels of gemm_i8.h consist of tiles of weights. */
#include "kernels/cpu/amx_product.h"

#if defined(CNN_CPU_AMX_BUILT)

#include "kernels/cpu/gemm_i8.h"
#include "kernels/cpu/gemm_i8_avx512.h"

enum { TILE = 2 * CNN_AMX_PIXELS };

static void product(const cnn_i8_product *a)
{
    for (int32_t p = 0; p < a->pixels; p += TILE) {
        const uint8_t *rows = (const uint8_t *)a->rows + (size_t)p * (size_t)a->depth;
        int32_t *sums = a->sums + (size_t)p * CNN_I8_SUMS;
        const cnn_amx_product tiles = {
            .pixels = {rows, rows + (size_t)CNN_AMX_PIXELS * (size_t)a->depth},
            .pixel_bytes = (size_t)a->depth,
            .runs = 1,
            .steps = a->depth / CNN_AMX_STEP_BYTES,
            .pixel_step_bytes = CNN_AMX_STEP_BYTES,
            .weights = (const uint8_t *)a->weights,
            .weights_step_bytes = CNN_AMX_STEP_BYTES * CNN_AMX_OUTPUTS,
            .panel_bytes = a->panel_bytes,
            .sums = {sums, sums + CNN_AMX_PIXELS * CNN_I8_SUMS},
            .sums_bytes = CNN_AMX_SUMS_BYTES,
            .tiles = a->pixels - p > CNN_AMX_PIXELS ? 2 : 1,
            .panels = a->panels,
        };
        cnn_amx_multiply_i8(&tiles);
    }
}

static void begin(void)
{
    cnn_amx_begin(CNN_AMX_STEP_BYTES);
}

const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_amx = {
    .name = "amx",
    .isa = CNN_CPU_AMX,
    .tile = TILE,
    .group = CNN_AMX_GROUP_BYTES,
    .depth = CNN_AMX_STEP_BYTES,
    .value_bytes = 1,
    .offset = false,
    .convert = NULL,
    .begin = begin,
    .product = product,
    .end = cnn_amx_end,
    .requantize = cnn_cpu_requantize_i8_avx512,
    .dequantize = cnn_cpu_dequantize_i8_avx512,
};

#else
typedef int cnn_cpu_gemm_i8_amx_not_here; /* ISO C wants a declaration */
#endif
