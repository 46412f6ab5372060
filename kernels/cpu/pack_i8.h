/* Packing INT8 weights into the panels of gemm_i8.h. */
#ifndef CNN_CPU_PACK_I8_H
#define CNN_CPU_PACK_I8_H

#include "kernels/cpu/gemm_i8.h"

/* Packed weights: panels, and how each sum starts. */
typedef struct cnn_i8_packed {
    int32_t panels;
    int32_t depth; /* packed: rounded up to whole groups */
    size_t panel_bytes;
    size_t bytes; /* of all: panels, then start [panels*16] int32 */
} cnn_i8_packed;

/* How k outputs of `depth` inputs are packed. */
cnn_i8_packed cnn_cpu_packed_i8(const cnn_cpu_gemm_i8 *gemm, int32_t k, int32_t depth);

static inline const int32_t *cnn_cpu_packed_i8_start(const cnn_i8_packed *packed, const void *memory)
{
    return (const int32_t *)((const int8_t *)memory + (size_t)packed->panels * packed->panel_bytes);
}

/* Packs panel `panel` of weights [K,R,S,C]; a pixel of the image has image_channels >= C values in memory. */
void cnn_cpu_pack_i8(const cnn_cpu_gemm_i8 *gemm, const cnn_i8_packed *packed, const cnn_tensor_desc *desc,
                     const int8_t *weights, int32_t image_channels, int32_t panel, void *memory);

#endif
