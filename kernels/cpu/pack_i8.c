/* Packing INT8 weights: [K,R,S,C] to panels [K/16][depth/group][16][group], and what each sum starts with. */
#include "kernels/cpu/pack_i8.h"

#include <string.h>

cnn_i8_packed cnn_cpu_packed_i8(const cnn_cpu_gemm_i8 *gemm, int32_t k, int32_t depth)
{
    cnn_i8_packed packed;
    packed.panels = (k + CNN_I8_PANEL - 1) / CNN_I8_PANEL;
    packed.depth = (depth + gemm->depth - 1) / gemm->depth * gemm->depth;
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

/* The same for all outputs of a panel whose weights lie in the order of the depth: group by group, so that memory is
 * written in order. */
static void pack_flat(int32_t group, int32_t depth, int32_t outputs, const int8_t *weights, int8_t *lanes,
                      int32_t sum[CNN_I8_PANEL])
{
    for (int32_t d = 0; d < depth; d += group) {
        const size_t count = (size_t)(depth - d < group ? depth - d : group);
        for (int32_t lane = 0; lane < outputs; lane++, lanes += group) {
            const int8_t *src = weights + (size_t)lane * (size_t)depth + d;
            if (count == 4) /* a constant: one move */
                memcpy(lanes, src, 4);
            else
                memcpy(lanes, src, count);
        }
        lanes += (CNN_I8_PANEL - outputs) * group;
    }
    for (int32_t lane = 0; lane < outputs; lane++)
        for (int32_t d = 0; d < depth; d++)
            sum[lane] += weights[(size_t)lane * (size_t)depth + (size_t)d];
}

void cnn_cpu_pack_i8(const cnn_cpu_gemm_i8 *gemm, const cnn_i8_packed *packed, const cnn_tensor_desc *desc,
                     const int8_t *weights, int32_t image_channels, int32_t panel, void *memory)
{
    const int32_t group = gemm->group ? gemm->group : packed->depth;
    const int32_t depth = desc->h * desc->w * desc->c_pad, first = panel * CNN_I8_PANEL;
    const int32_t outputs = desc->n - first < CNN_I8_PANEL ? desc->n - first : CNN_I8_PANEL;
    int8_t *lanes = (int8_t *)memory + (size_t)panel * packed->panel_bytes;
    int32_t *start = (int32_t *)((int8_t *)memory + (size_t)packed->panels * packed->panel_bytes) + first;
    int32_t sum[CNN_I8_PANEL] = {0};
    weights += (size_t)first * (size_t)depth;
    if (packed->depth > depth || outputs < CNN_I8_PANEL)
        memset(lanes, 0, packed->panel_bytes);
    if (desc->c == desc->c_pad && desc->c == image_channels && gemm->group) {
        pack_flat(group, depth, outputs, weights, lanes, sum);
    } else {
        memset(lanes, 0, packed->panel_bytes);
        for (int32_t lane = 0; lane < outputs; lane++)
            sum[lane] = pack_output(group, desc, weights + (size_t)lane * (size_t)depth, image_channels,
                                    lanes + (size_t)lane * (size_t)group);
    }
    for (int32_t lane = 0; lane < CNN_I8_PANEL; lane++)
        start[lane] = gemm->offset ? -128 * sum[lane] : 0;
}
