/* Max-pooling over square windows, of which a part may lie outside the image, and its gradient.
 *
 * Bound by memory. A thread makes V channels of one pixel, 16 bytes of it where the channel count allows; threads of a
 * row of the block (x) go over the channels, so that each load of a warp is contiguous, and rows (y) over the pixels
 * of one image. Windows that overlap are read again from the L1 cache.
 *
 * The gradient gathers: a thread looks at the windows that hold its pixel, in their order, and adds the dy of those
 * whose INDEX names it. Nothing is added by two threads, so there are no atomics and one order. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/pools.cuh"

namespace
{

enum { THREADS = 256, VECTOR_BYTES = 16 };

/* Images [N, big_h, big_w, pitch] are pooled to [N, small_h, small_w, pitch]. */
struct pool_shape {
    int32_t n, big_h, big_w, small_h, small_w, channels, pitch, kernel, stride, pad;
};

__device__ inline float as_float(int8_t x)
{
    return static_cast<float>(x);
}

template <typename T> __device__ inline float as_float(T x)
{
    return cnn_to_float(x);
}

/* ---- Forward ---- */

/* The first maximum of a window in row order; the first NaN if there is one. */
template <typename T, int V> struct window_max {
    cnn_vec<T, V> max;
    cnn_vec<uint8_t, V> index;

    __device__ void take(const cnn_vec<T, V> &x, int32_t place, bool begins)
    {
#pragma unroll
        for (int v = 0; v < V; v++) {
            const float now = as_float(max.at[v]), next = as_float(x.at[v]);
            if (begins || next > now || (next != next && now == now)) {
                max.at[v] = x.at[v];
                index.at[v] = static_cast<uint8_t>(place);
            }
        }
    }
};

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 1) k_maxpool(pool_shape s, const T *src, T *dst, uint8_t *index)
{
    typedef cnn_vec<T, V> vec;
    const int32_t pixels = s.small_h * s.small_w;
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < s.n; n += static_cast<int32_t>(gridDim.y))
        for (int32_t at = static_cast<int32_t>(blockIdx.x * blockDim.y + threadIdx.y); at < pixels;
             at += static_cast<int32_t>(gridDim.x * blockDim.y)) {
            const int32_t p = at / s.small_w, q = at % s.small_w;
            const int64_t out = (static_cast<int64_t>(n) * pixels + at) * s.pitch;
            /* The window's corner, which may lie outside, and its rows and columns inside. */
            const int32_t h = p * s.stride - s.pad, w = q * s.stride - s.pad;
            const int32_t top = max(-h, 0), bottom = min(s.big_h - h, s.kernel);
            const int32_t left = max(-w, 0), right = min(s.big_w - w, s.kernel);
            const int64_t corner = ((static_cast<int64_t>(n) * s.big_h + h) * s.big_w + w) * s.pitch;
            for (int32_t c = static_cast<int32_t>(threadIdx.x) * V; c < s.pitch;
                 c += static_cast<int32_t>(blockDim.x) * V) {
                window_max<T, V> window = {};
                for (int32_t r = top; r < bottom; r++)
                    for (int32_t column = left; column < right; column++) {
                        const int64_t offset = (static_cast<int64_t>(r) * s.big_w + column) * s.pitch;
                        window.take(*reinterpret_cast<const vec *>(src + corner + offset + c), r * s.kernel + column,
                                    r == top && column == left);
                    }
                *reinterpret_cast<vec *>(dst + out + c) = window.max;
                if (!index)
                    continue;
#pragma unroll
                for (int v = 0; v < V; v++) /* a window may begin in its second row, but padding channels are 0 */
                    if (c + v >= s.channels)
                        window.index.at[v] = 0;
                *reinterpret_cast<cnn_vec<uint8_t, V> *>(index + out + c) = window.index;
            }
        }
}

/* ---- Gradient ---- */

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) k_maxpool_grad(pool_shape s, const uint8_t *index, const T *dy, T *dx)
{
    const int32_t pixels = s.big_h * s.big_w;
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < s.n; n += static_cast<int32_t>(gridDim.y))
        for (int32_t at = static_cast<int32_t>(blockIdx.x * blockDim.y + threadIdx.y); at < pixels;
             at += static_cast<int32_t>(gridDim.x * blockDim.y)) {
            const int32_t h = at / s.big_w + s.pad, w = at % s.big_w + s.pad;
            const cnn_windows rows = cnn_windows_over(h, s.kernel, s.stride, s.small_h);
            const cnn_windows columns = cnn_windows_over(w, s.kernel, s.stride, s.small_w);
            for (int32_t c = static_cast<int32_t>(threadIdx.x) * V; c < s.pitch;
                 c += static_cast<int32_t>(blockDim.x) * V) {
                float sum[V] = {};
                for (int32_t p = rows.first; p <= rows.last; p++)
                    for (int32_t q = columns.first; q <= columns.last; q++) {
                        const int64_t from = ((static_cast<int64_t>(n) * s.small_h + p) * s.small_w + q) * s.pitch + c;
                        const int32_t place = (h - p * s.stride) * s.kernel + w - q * s.stride;
                        const cnn_vec<uint8_t, V> named = *reinterpret_cast<const cnn_vec<uint8_t, V> *>(index + from);
                        const cnn_vec<T, V> arrived = *reinterpret_cast<const cnn_vec<T, V> *>(dy + from);
#pragma unroll
                        for (int v = 0; v < V; v++)
                            if (named.at[v] == place)
                                sum[v] += cnn_to_float(arrived.at[v]);
                    }
                cnn_vec<T, V> result;
#pragma unroll
                for (int v = 0; v < V; v++)
                    result.at[v] = cnn_from_float<T>(sum[v]);
                *reinterpret_cast<cnn_vec<T, V> *>(dx + (static_cast<int64_t>(n) * pixels + at) * s.pitch + c) = result;
            }
        }
}

/* ---- Launches ---- */

pool_shape shape_of(const cnn_op_desc *desc, cnn_arg big_role, cnn_arg small_role)
{
    const cnn_tensor_desc *big = &desc->arg[big_role], *small = &desc->arg[small_role];
    pool_shape s = {big->n, big->h,     big->w,       small->h,     small->w,
                    big->c, big->c_pad, desc->kernel, desc->stride, desc->pad};
    return s;
}

/* Whether pixels lie 16 bytes apart or a multiple of them. */
template <typename T> bool in_vectors(const pool_shape &s)
{
    return s.pitch % (VECTOR_BYTES / static_cast<int>(sizeof(T))) == 0;
}

template <typename T, int V>
cudaError_t forward(const pool_shape &s, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const cnn_tiles tiles = cnn_image_tiles(s.n, s.small_h * s.small_w, s.pitch / V, THREADS);
    return CNN_LAUNCH((k_maxpool<T, V>), tiles.grid, tiles.block, 0, stream, s,
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<T *>(arg[CNN_ARG_DST]),
                      static_cast<uint8_t *>(arg[CNN_ARG_INDEX]));
}

template <typename T, int V>
cudaError_t backward(const pool_shape &s, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const cnn_tiles tiles = cnn_image_tiles(s.n, s.big_h * s.big_w, s.pitch / V, THREADS);
    return CNN_LAUNCH((k_maxpool_grad<T, V>), tiles.grid, tiles.block, 0, stream, s,
                      static_cast<const uint8_t *>(arg[CNN_ARG_INDEX]), static_cast<const T *>(arg[CNN_ARG_SRC2]),
                      static_cast<T *>(arg[CNN_ARG_DST]));
}

template <typename T> cudaError_t forward_of(const pool_shape &s, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    constexpr int V = VECTOR_BYTES / static_cast<int>(sizeof(T));
    return in_vectors<T>(s) ? forward<T, V>(s, arg, stream) : forward<T, 1>(s, arg, stream);
}

template <typename T> cudaError_t backward_of(const pool_shape &s, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    constexpr int V = VECTOR_BYTES / static_cast<int>(sizeof(T));
    return in_vectors<T>(s) ? backward<T, V>(s, arg, stream) : backward<T, 1>(s, arg, stream);
}

} // namespace

cudaError_t cnn_cuda_maxpool(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                             const cnn_cuda_queue *queue)
{
    const pool_shape s = shape_of(desc, CNN_ARG_SRC, CNN_ARG_DST);
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return forward_of<float>(s, arg, queue->stream);
    case CNN_F16:
        return forward_of<__half>(s, arg, queue->stream);
    case CNN_BF16:
        return forward_of<__nv_bfloat16>(s, arg, queue->stream);
    case CNN_I8:
        return forward_of<int8_t>(s, arg, queue->stream);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t cnn_cuda_maxpool_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                                  const cnn_cuda_queue *queue)
{
    const pool_shape s = shape_of(desc, CNN_ARG_DST, CNN_ARG_SRC2);
    switch (desc->arg[CNN_ARG_DST].dtype) {
    case CNN_F32:
        return backward_of<float>(s, arg, queue->stream);
    case CNN_F16:
        return backward_of<__half>(s, arg, queue->stream);
    case CNN_BF16:
        return backward_of<__nv_bfloat16>(s, arg, queue->stream);
    default:
        return cudaErrorInvalidValue;
    }
}
