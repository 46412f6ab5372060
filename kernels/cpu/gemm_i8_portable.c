/* INT8 products in plain C, for any CPU, and the choice between the instruction sets.
 *
 * Rows are int16, weights plain rows of int8 (group 0). The inner loop is a sum of products of int16, which compilers
 * turn into a multiply-add of pairs on SSE2 and into widening multiplies on NEON. */
#include "kernels/cpu/gemm_i8.h"

#include <string.h>

enum {
    TILE = 2,                      /* pixels that share a row of weights */
    BLOCK = CNN_I8_BLOCK_BYTES / 2 /* values; rows are multiples of it */
};

static void convert(const cnn_i8_convert *a)
{
    const size_t values = (size_t)a->blocks * BLOCK;
    for (int32_t p = 0; p < a->pixels; p++) {
        const int8_t *src = a->bytes + (size_t)p * a->row_bytes;
        int16_t *dst = (int16_t *)a->rows + (size_t)p * values;
        for (size_t d = 0; d < values; d++)
            dst[d] = src[d];
    }
}

static int32_t dot(const int16_t *row, const int8_t *weights, int32_t depth)
{
    int32_t sum = 0;
    for (int32_t d = 0; d < depth; d++)
        sum += row[d] * weights[d];
    return sum;
}

static void product(const cnn_i8_product *a)
{
    for (int32_t p0 = 0; p0 < a->pixels; p0 += TILE)
        for (int32_t j = 0; j < a->panels; j++)
            for (int32_t k = 0; k < CNN_I8_PANEL; k++) {
                const int8_t *weights = a->weights + (size_t)j * a->panel_bytes + (size_t)k * (size_t)a->depth;
                for (int32_t p = p0; p < p0 + TILE && p < a->pixels; p++) {
                    const int16_t *row = (const int16_t *)a->rows + (size_t)p * (size_t)a->depth;
                    a->sums[(size_t)p * CNN_I8_SUMS + (size_t)(j * CNN_I8_PANEL + k)] = dot(row, weights, a->depth);
                }
            }
}

/* ---- The end ---- */

/* y[k] = float(largest sum of the window + bias) * mult */
static void scale(const cnn_i8_finish *a, const int32_t *sums, float *y)
{
    int32_t largest[CNN_I8_PANEL];
    memcpy(largest, sums, sizeof largest);
    for (int32_t i = 1; i < a->area; i++)
        for (int k = 0; k < CNN_I8_PANEL; k++) {
            int32_t sum = sums[(size_t)i * a->stride + (size_t)k];
            largest[k] = sum > largest[k] ? sum : largest[k];
        }
    for (int k = 0; k < CNN_I8_PANEL; k++)
        y[k] = (float)(largest[k] + a->bias[k]) * a->mult[k];
}

static void requantize(const cnn_i8_finish *a)
{
    int8_t *dst = a->dst;
    for (int32_t i = 0; i < a->outputs; i++) {
        float y[CNN_I8_PANEL];
        int8_t all[CNN_I8_PANEL];
        scale(a, a->sums + (size_t)i * (size_t)a->area * a->stride, y);
        for (int k = 0; k < CNN_I8_PANEL; k++) {
            float clamped = y[k] > a->lo ? y[k] : a->lo;
            clamped = clamped < a->hi ? clamped : a->hi;
            all[k] = (int8_t)cnn_i8_nearest(clamped);
        }
        memcpy(dst + (size_t)i * a->dst_stride, all, (size_t)a->channels);
    }
}

static void dequantize(const cnn_i8_finish *a)
{
    float *dst = a->dst;
    for (int32_t i = 0; i < a->outputs; i++) {
        float y[CNN_I8_PANEL];
        scale(a, a->sums + (size_t)i * (size_t)a->area * a->stride, y);
        memcpy(dst + (size_t)i * a->dst_stride, y, (size_t)a->channels * sizeof *dst);
    }
}

const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_portable = {
    .name = "portable",
    .isa = CNN_CPU_PORTABLE,
    .tile = TILE,
    .group = 0,
    .depth = BLOCK,
    .value_bytes = 2,
    .offset = false,
    .convert = convert,
    .product = product,
    .requantize = requantize,
    .dequantize = dequantize,
};

const cnn_cpu_gemm_i8 *cnn_cpu_gemm_i8_get(cnn_cpu_isa isa)
{
#if defined(__x86_64__)
    static const cnn_cpu_gemm_i8 *const best_first[] = {
#if defined(CNN_CPU_AMX_BUILT)
        &cnn_cpu_gemm_i8_amx,
#endif
        &cnn_cpu_gemm_i8_avx512vnni,
        &cnn_cpu_gemm_i8_avx512,
#if defined(CNN_CPU_AVXVNNI_BUILT)
        &cnn_cpu_gemm_i8_avxvnni,
#endif
        &cnn_cpu_gemm_i8_avx2,
    };
    for (size_t i = 0; i < sizeof best_first / sizeof best_first[0]; i++)
        if (cnn_cpu_isa_holds(isa, best_first[i]->isa))
            return best_first[i];
#endif
    (void)isa;
    return &cnn_cpu_gemm_i8_portable;
}
