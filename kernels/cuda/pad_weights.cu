/* i8 weights [K,R,S,C] copied to [K',R,S,C'], zeros around them: the multiples that tensor cores take. Once a model. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256 };

/* src has `channels` values of every `pitch`. */
__global__ void __launch_bounds__(THREADS)
    k_pad_weights(const int8_t *src, int64_t outputs, int64_t taps, int32_t channels, int32_t pitch, int32_t padded,
                  int8_t *dst, int64_t count)
{
    for (int64_t i = cnn_first_item(); i < count; i += cnn_item_step()) {
        const int32_t c = static_cast<int32_t>(i % padded);
        const int64_t tap = i / padded; /* k*R*S + r*S + s */
        dst[i] = c < channels && tap < outputs * taps ? src[tap * pitch + c] : static_cast<int8_t>(0);
    }
}

} // namespace

cudaError_t cnn_cuda_pad_weights(const cnn_tensor_desc *weight, const void *src, int32_t outputs, int32_t channels,
                                 void *dst, cudaStream_t stream)
{
    const int64_t taps = static_cast<int64_t>(weight->h) * weight->w;
    const int64_t count = outputs * taps * channels;
    return CNN_LAUNCH(k_pad_weights, cnn_blocks(count, THREADS), THREADS, 0, stream, static_cast<const int8_t *>(src),
                      weight->n, taps, weight->c, weight->c_pad, channels, static_cast<int8_t *>(dst), count);
}
