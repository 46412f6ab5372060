/* Dropout: which values stay follows from the seed, the epoch, the image and the value's number, as on the CPU.
 *
 * Bound by memory: one pass in and out, and three 64-bit products a value. Threads of a row of the block (x) go over
 * the channels in memory, rows (y) over the pixels of one image, whose key a thread makes once. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256 };

struct dropout_shape {
    int32_t n, pixels, channels, src_pitch, dst_pitch;
    uint64_t seed;
    float rate, scale;
};

template <typename T>
__global__ void __launch_bounds__(THREADS)
    k_dropout(dropout_shape s, const int32_t *index, const cnn_train_state *state, const T *src, T *dst)
{
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < s.n; n += static_cast<int32_t>(gridDim.y)) {
        const uint64_t key = cnn_dropout_key(s.seed, state->epoch, index ? index[state->cursor + n] : n);
        for (int32_t at = static_cast<int32_t>(blockIdx.x * blockDim.y + threadIdx.y); at < s.pixels;
             at += static_cast<int32_t>(gridDim.x * blockDim.y)) {
            const int64_t pixel = static_cast<int64_t>(n) * s.pixels + at;
            for (int32_t c = static_cast<int32_t>(threadIdx.x); c < s.dst_pitch;
                 c += static_cast<int32_t>(blockDim.x)) {
                const bool keeps =
                    c < s.channels && cnn_dropout_keeps(key, static_cast<int64_t>(at) * s.channels + c, s.rate);
                dst[pixel * s.dst_pitch + c] =
                    cnn_from_float<T>(keeps ? cnn_to_float(src[pixel * s.src_pitch + c]) * s.scale : 0.0f);
            }
        }
    }
}

template <typename T> cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *dst = &desc->arg[CNN_ARG_DST];
    dropout_shape s = {};
    s.n = dst->n;
    s.pixels = dst->h * dst->w;
    s.channels = dst->c;
    s.src_pitch = src->c_pad;
    s.dst_pitch = dst->c_pad;
    s.seed = desc->seed;
    s.rate = desc->rate;
    s.scale = 1.0f / (1.0f - desc->rate);
    const cnn_tiles tiles = cnn_image_tiles(s.n, s.pixels, s.dst_pitch, THREADS);
    return CNN_LAUNCH((k_dropout<T>), tiles.grid, tiles.block, 0, stream, s,
                      static_cast<const int32_t *>(arg[CNN_ARG_INDEX]),
                      static_cast<const cnn_train_state *>(arg[CNN_ARG_STATE]),
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<T *>(arg[CNN_ARG_DST]));
}

} // namespace

cudaError_t cnn_cuda_dropout(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                             const cnn_cuda_queue *queue)
{
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return launch<float>(desc, arg, queue->stream);
    case CNN_F16:
        return launch<__half>(desc, arg, queue->stream);
    case CNN_BF16:
        return launch<__nv_bfloat16>(desc, arg, queue->stream);
    default:
        return cudaErrorInvalidValue;
    }
}
