/* Packing INT8 weights: [K,R,S,C] to panels [K/16][depth/group][16][group], and what each sum starts with. */
#include "kernels/cpu/pack_i8.h"

#include <string.h>

enum { PLAIN_ALIGN = 32 }; /* plain rows (group 0) are multiples of it, as converted rows are */

cnn_i8_packed cnn_cpu_packed_i8(const cnn_cpu_gemm_i8 *gemm, int32_t k, int32_t depth)
{
    const int32_t align = gemm->group ? gemm->group : PLAIN_ALIGN;
    cnn_i8_packed packed;
    packed.panels = (k + CNN_I8_PANEL - 1) / CNN_I8_PANEL;
    packed.depth = (depth + align - 1) / align * align;
    packed.panel_bytes = (size_t)packed.depth * CNN_I8_PANEL;
    packed.bytes = (size_t)packed.panels * (packed.panel_bytes + CNN_I8_PANEL * sizeof(int32_t));
    return packed;
}

/* Writes output k's weights into its lane of a panel; returns their sum. */
static int32_t pack_output(int32_t group, const cnn_tensor_desc *desc, const int8_t *weights, int32_t image_channels,
                           int8_t *lane)
{
    const int32_t taps = desc->h * desc->w;
    int32_t sum = 0;
    for (int32_t tap = 0; tap < taps; tap++) {
        const int8_t *src = weights + (size_t)tap * (size_t)desc->c_pad;
        for (int32_t c = 0; c < desc->c; c++) {
            const int32_t d = tap * image_channels + c;
            lane[(size_t)(d / group) * CNN_I8_PANEL * (size_t)group + (size_t)(d % group)] = src[c];
            sum += src[c];
        }
    }
    return sum;
}

void cnn_cpu_pack_i8(const cnn_cpu_gemm_i8 *gemm, const cnn_i8_packed *packed, const cnn_tensor_desc *desc,
                     const int8_t *weights, int32_t image_channels, int32_t panel, void *memory)
{
    const int32_t group = gemm->group ? gemm->group : packed->depth;
    const size_t output_bytes = (size_t)desc->h * (size_t)desc->w * (size_t)desc->c_pad;
    int8_t *lanes = (int8_t *)memory + (size_t)panel * packed->panel_bytes;
    int32_t *start = (int32_t *)((int8_t *)memory + (size_t)packed->panels * packed->panel_bytes);
    memset(lanes, 0, packed->panel_bytes);
    for (int32_t lane = 0; lane < CNN_I8_PANEL; lane++) {
        const int32_t k = panel * CNN_I8_PANEL + lane;
        int32_t sum = 0;
        if (k < desc->n)
            sum = pack_output(group, desc, weights + (size_t)k * output_bytes, image_channels,
                              lanes + (size_t)lane * (size_t)group);
        start[k] = gemm->offset ? -128 * sum : 0;
    }
}
