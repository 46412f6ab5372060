/* MASK: gradients of pruned weights become 0, whatever they held.
 *
 * In place, so that only what is masked is written: 1 byte read and at most 4 written for each weight. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256, VECTOR = 4 };

__global__ void __launch_bounds__(THREADS) k_mask(const uint8_t *live, float *dst, int64_t count)
{
    typedef cnn_vec<uint8_t, VECTOR> bytes;
    typedef cnn_vec<float, VECTOR> floats;
    const int64_t vectors = count / VECTOR;
    for (int64_t i = cnn_first_item(); i < vectors; i += cnn_item_step()) {
        const bytes keep = reinterpret_cast<const bytes *>(live)[i];
        if (!(keep.at[0] | keep.at[1] | keep.at[2] | keep.at[3])) {
            reinterpret_cast<floats *>(dst)[i] = floats{};
            continue;
        }
#pragma unroll
        for (int v = 0; v < VECTOR; v++)
            if (!keep.at[v])
                dst[i * VECTOR + v] = 0.0f;
    }
    for (int64_t i = vectors * VECTOR + cnn_first_item(); i < count; i += cnn_item_step())
        if (!live[i])
            dst[i] = 0.0f;
}

} // namespace

cudaError_t cnn_cuda_mask(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    const int64_t count = desc->arg[CNN_ARG_DST].c;
    return CNN_LAUNCH(k_mask, cnn_blocks(count / VECTOR, THREADS), THREADS, 0, queue->stream,
                      static_cast<const uint8_t *>(arg[CNN_ARG_SRC]), static_cast<float *>(arg[CNN_ARG_DST]), count);
}
