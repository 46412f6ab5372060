/* Averages of windows that lie wholly inside the image, and their gradient.
 *
 * Bound by memory. A thread makes V channels of one pixel, 16 bytes of what it reads where the channel count allows;
 * threads of a row of the block (x) go over the channels, so that each load of a warp is contiguous, and rows (y) over
 * the pixels of one image. Floats are summed in f32, INT8 in 32 bits, pixel by pixel in row order.
 *
 * The gradient gathers: a thread adds dy of the windows that hold its pixel, in their order. Nothing is added by two
 * threads, so there are no atomics and one order. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/pools.cuh"

namespace
{

enum { THREADS = 256, VECTOR_BYTES = 16 };

/* Images [N, big_h, big_w, pitch] are pooled to [N, small_h, small_w, pitch] by windows of height x width. */
struct average_shape {
    int32_t n, big_h, big_w, small_h, small_w, pitch, height, width, stride;
    float scale, lo, hi; /* of INT8 */
};

/* ---- What is summed, and what becomes of the sum ---- */

template <typename T> struct accumulator {
    typedef float type;
    __device__ static float of(T x)
    {
        return cnn_to_float(x);
    }
};

template <> struct accumulator<int8_t> {
    typedef int32_t type;
    __device__ static int32_t of(int8_t x)
    {
        return x;
    }
};

template <typename D> __device__ inline D finish(float sum, const average_shape &s)
{
    return cnn_from_float<D>(sum / static_cast<float>(s.height * s.width));
}

/* kernels/ref/quant.c, cnn_quant_requantize */
template <typename D> __device__ inline D finish(int32_t sum, const average_shape &s)
{
    const float scaled = static_cast<float>(sum) * s.scale;
    const float clamped = !(scaled > s.lo) ? s.lo : scaled < s.hi ? scaled : s.hi;
    return static_cast<D>(rintf(clamped));
}

/* ---- Forward ---- */

template <typename T, typename D, int V>
__global__ void __launch_bounds__(THREADS, 1) k_avgpool(average_shape s, const T *src, D *dst)
{
    typedef typename accumulator<T>::type sum_type;
    const int32_t pixels = s.small_h * s.small_w;
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < s.n; n += static_cast<int32_t>(gridDim.y))
        for (int32_t at = static_cast<int32_t>(blockIdx.x * blockDim.y + threadIdx.y); at < pixels;
             at += static_cast<int32_t>(gridDim.x * blockDim.y)) {
            const int32_t p = at / s.small_w, q = at % s.small_w;
            const int64_t out = (static_cast<int64_t>(n) * pixels + at) * s.pitch;
            const int64_t corner =
                ((static_cast<int64_t>(n) * s.big_h + p * s.stride) * s.big_w + q * s.stride) * s.pitch;
            for (int32_t c = static_cast<int32_t>(threadIdx.x) * V; c < s.pitch;
                 c += static_cast<int32_t>(blockDim.x) * V) {
                sum_type sum[V] = {};
                for (int32_t r = 0; r < s.height; r++)
                    for (int32_t column = 0; column < s.width; column++) {
                        const int64_t offset = (static_cast<int64_t>(r) * s.big_w + column) * s.pitch;
                        const cnn_vec<T, V> x = *reinterpret_cast<const cnn_vec<T, V> *>(src + corner + offset + c);
#pragma unroll
                        for (int v = 0; v < V; v++)
                            sum[v] += accumulator<T>::of(x.at[v]);
                    }
                cnn_vec<D, V> result;
#pragma unroll
                for (int v = 0; v < V; v++)
                    result.at[v] = finish<D>(sum[v], s);
                *reinterpret_cast<cnn_vec<D, V> *>(dst + out + c) = result;
            }
        }
}

/* ---- Gradient ---- */

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 1) k_avgpool_grad(average_shape s, const T *dy, T *dx)
{
    const int32_t pixels = s.big_h * s.big_w;
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < s.n; n += static_cast<int32_t>(gridDim.y))
        for (int32_t at = static_cast<int32_t>(blockIdx.x * blockDim.y + threadIdx.y); at < pixels;
             at += static_cast<int32_t>(gridDim.x * blockDim.y)) {
            const int32_t h = at / s.big_w, w = at % s.big_w;
            const cnn_windows rows = cnn_windows_over(h, s.height, s.stride, s.small_h);
            const cnn_windows columns = cnn_windows_over(w, s.width, s.stride, s.small_w);
            for (int32_t c = static_cast<int32_t>(threadIdx.x) * V; c < s.pitch;
                 c += static_cast<int32_t>(blockDim.x) * V) {
                float sum[V] = {};
                for (int32_t p = rows.first; p <= rows.last; p++)
                    for (int32_t q = columns.first; q <= columns.last; q++) {
                        const int64_t from = ((static_cast<int64_t>(n) * s.small_h + p) * s.small_w + q) * s.pitch + c;
                        const cnn_vec<T, V> arrived = *reinterpret_cast<const cnn_vec<T, V> *>(dy + from);
#pragma unroll
                        for (int v = 0; v < V; v++)
                            sum[v] += cnn_to_float(arrived.at[v]);
                    }
                cnn_vec<T, V> result;
#pragma unroll
                for (int v = 0; v < V; v++)
                    result.at[v] = finish<T>(sum[v], s);
                *reinterpret_cast<cnn_vec<T, V> *>(dx + (static_cast<int64_t>(n) * pixels + at) * s.pitch + c) = result;
            }
        }
}

/* ---- Launches ---- */

average_shape shape_of(const cnn_op_desc *desc, cnn_arg big_role, cnn_arg small_role)
{
    const cnn_tensor_desc *big = &desc->arg[big_role], *small = &desc->arg[small_role];
    average_shape s = {};
    s.n = big->n;
    s.big_h = big->h;
    s.big_w = big->w;
    s.small_h = small->h;
    s.small_w = small->w;
    s.pitch = big->c_pad;
    s.height = desc->kernel ? desc->kernel : big->h;
    s.width = desc->kernel ? desc->kernel : big->w;
    s.stride = desc->kernel ? desc->stride : 1;
    s.scale = desc->scale[0];
    s.lo = desc->lo;
    s.hi = desc->hi;
    return s;
}

template <typename T, typename D, int V>
cudaError_t forward(const average_shape &s, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const cnn_tiles tiles = cnn_image_tiles(s.n, s.small_h * s.small_w, s.pitch / V, THREADS);
    return CNN_LAUNCH((k_avgpool<T, D, V>), tiles.grid, tiles.block, 0, stream, s,
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<D *>(arg[CNN_ARG_DST]));
}

template <typename T, int V>
cudaError_t backward(const average_shape &s, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const cnn_tiles tiles = cnn_image_tiles(s.n, s.big_h * s.big_w, s.pitch / V, THREADS);
    return CNN_LAUNCH((k_avgpool_grad<T, V>), tiles.grid, tiles.block, 0, stream, s,
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<T *>(arg[CNN_ARG_DST]));
}

template <typename T, typename D>
cudaError_t forward_of(const average_shape &s, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    constexpr int V = VECTOR_BYTES / static_cast<int>(sizeof(T));
    return s.pitch % V == 0 ? forward<T, D, V>(s, arg, stream) : forward<T, D, 1>(s, arg, stream);
}

template <typename T>
cudaError_t float_forward(const average_shape &s, const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT],
                          cudaStream_t stream)
{
    return desc->arg[CNN_ARG_DST].dtype == CNN_F32 ? forward_of<T, float>(s, arg, stream)
                                                   : forward_of<T, T>(s, arg, stream);
}

template <typename T>
cudaError_t backward_of(const average_shape &s, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    constexpr int V = VECTOR_BYTES / static_cast<int>(sizeof(T));
    return s.pitch % V == 0 ? backward<T, V>(s, arg, stream) : backward<T, 1>(s, arg, stream);
}

} // namespace

cudaError_t cnn_cuda_avgpool(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                             const cnn_cuda_queue *queue)
{
    const average_shape s = shape_of(desc, CNN_ARG_SRC, CNN_ARG_DST);
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return forward_of<float, float>(s, arg, queue->stream);
    case CNN_F16:
        return float_forward<__half>(s, desc, arg, queue->stream);
    case CNN_BF16:
        return float_forward<__nv_bfloat16>(s, desc, arg, queue->stream);
    case CNN_I8:
        return forward_of<int8_t, int8_t>(s, arg, queue->stream);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t cnn_cuda_avgpool_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                                  const cnn_cuda_queue *queue)
{
    const average_shape s = shape_of(desc, CNN_ARG_DST, CNN_ARG_SRC);
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
