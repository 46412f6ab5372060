/* INPUT: bytes of a data set, gathered by INDEX, through a table of 256 values a channel.
 *
 * A batch is small beside a layer (64 MNIST digits: 50 KB in, 100 KB out in f16). The table has 1 KB a channel; lookups
 * go to the L1 cache, where it stays. Bytes are read and values written 4 neighbours at a time when images begin at
 * multiples of 4 and dst has no padding channels; INT8 pixels that are padded to 16 channels are written whole. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256, FLAT = 4, PADDED = 16 };

struct batch {
    const uint8_t *src; /* [M, pixels, c] */
    const int32_t *index;
    const cnn_train_state *state; /* holds the place in index where the batch begins; NULL: 0 */
    int32_t images, pixels, c, c_pad;
};

__device__ inline int64_t image_of(const batch &b, int32_t n)
{
    return b.index ? b.index[(b.state ? b.state->cursor : 0) + n] : n;
}

__device__ inline int8_t value_as(int8_t value, int8_t)
{
    return value;
}

template <typename T> __device__ inline T value_as(float value, T)
{
    return cnn_from_float<T>(value);
}

/* c_pad = c: an image is one array of pixels*c values; V of them a thread. */
template <typename T, typename TABLE, int V>
__global__ void __launch_bounds__(THREADS) k_input(batch b, const TABLE *table, T *dst)
{
    const int32_t length = b.pixels * b.c;
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < b.images; n += static_cast<int32_t>(gridDim.y)) {
        const uint8_t *image = b.src + image_of(b, n) * length;
        for (int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x) * V; i < length;
             i += static_cast<int32_t>(gridDim.x * blockDim.x) * V) {
            const cnn_vec<uint8_t, V> bytes = *reinterpret_cast<const cnn_vec<uint8_t, V> *>(image + i);
            cnn_vec<T, V> values;
            int32_t c = i % b.c;
#pragma unroll
            for (int v = 0; v < V; v++) {
                values.at[v] = value_as(__ldg(table + c * 256 + bytes.at[v]), T());
                c = c + 1 == b.c ? 0 : c + 1;
            }
            *reinterpret_cast<cnn_vec<T, V> *>(dst + static_cast<int64_t>(n) * length + i) = values;
        }
    }
}

/* c_pad > c: V of a pixel's channels a thread, padding channels 0. */
template <int V> __global__ void __launch_bounds__(THREADS) k_input_padded(batch b, const int8_t *table, int8_t *dst)
{
    const int32_t vectors = b.c_pad / V;
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < b.images; n += static_cast<int32_t>(gridDim.y)) {
        const uint8_t *image = b.src + image_of(b, n) * b.pixels * b.c;
        int8_t *out = dst + static_cast<int64_t>(n) * b.pixels * b.c_pad;
        for (int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x); i < b.pixels * vectors;
             i += static_cast<int32_t>(gridDim.x * blockDim.x)) {
            const int32_t pixel = i / vectors, first = i % vectors * V;
            cnn_vec<int8_t, V> values = {};
#pragma unroll
            for (int v = 0; v < V; v++)
                if (first + v < b.c)
                    values.at[v] = __ldg(table + (first + v) * 256 + image[pixel * b.c + first + v]);
            *reinterpret_cast<cnn_vec<int8_t, V> *>(out + i * V) = values;
        }
    }
}

/* Blocks' y goes over images. */
dim3 grid_of(const batch &b, int32_t items)
{
    return dim3(cnn_blocks(items, THREADS), static_cast<unsigned>(b.images < 65535 ? b.images : 65535));
}

template <typename T, typename TABLE>
cudaError_t launch(const batch &b, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const TABLE *table = static_cast<const TABLE *>(arg[CNN_ARG_TABLE]);
    T *dst = static_cast<T *>(arg[CNN_ARG_DST]);
    const int32_t length = b.pixels * b.c;
    if (length % FLAT == 0)
        return CNN_LAUNCH((k_input<T, TABLE, FLAT>), grid_of(b, length / FLAT), THREADS, 0, stream, b, table, dst);
    return CNN_LAUNCH((k_input<T, TABLE, 1>), grid_of(b, length), THREADS, 0, stream, b, table, dst);
}

cudaError_t launch_padded(const batch &b, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const int8_t *table = static_cast<const int8_t *>(arg[CNN_ARG_TABLE]);
    int8_t *dst = static_cast<int8_t *>(arg[CNN_ARG_DST]);
    const int32_t length = b.pixels * b.c_pad;
    if (b.c_pad % PADDED == 0)
        return CNN_LAUNCH(k_input_padded<PADDED>, grid_of(b, length / PADDED), THREADS, 0, stream, b, table, dst);
    return CNN_LAUNCH(k_input_padded<1>, grid_of(b, length), THREADS, 0, stream, b, table, dst);
}

} // namespace

cudaError_t cnn_cuda_input(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    batch b = {};
    b.src = static_cast<const uint8_t *>(arg[CNN_ARG_SRC]);
    b.index = static_cast<const int32_t *>(arg[CNN_ARG_INDEX]);
    b.state = static_cast<const cnn_train_state *>(arg[CNN_ARG_STATE]);
    b.images = dst->n;
    b.pixels = dst->h * dst->w;
    b.c = dst->c;
    b.c_pad = dst->c_pad;
    switch (dst->dtype) {
    case CNN_F32:
        return launch<float, float>(b, arg, queue->stream);
    case CNN_F16:
        return launch<__half, float>(b, arg, queue->stream);
    case CNN_BF16:
        return launch<__nv_bfloat16, float>(b, arg, queue->stream);
    case CNN_I8:
        return b.c_pad != b.c ? launch_padded(b, arg, queue->stream) : launch<int8_t, int8_t>(b, arg, queue->stream);
    default:
        return cudaErrorInvalidValue;
    }
}
