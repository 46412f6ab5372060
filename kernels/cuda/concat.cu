/* Channels of two tensors side by side in one, and apart again.
 *
 * Bound by memory: each value is read and written once. Threads of a row of the block (x) go over the channels in
 * memory of what is written, rows (y) over the pixels of one image; padding channels become 0. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256 };

struct concat_shape {
    int32_t n, pixels, first, second; /* channels */
    int32_t first_pitch, second_pitch, whole_pitch;
};

/* Floats are copied as the bytes that they are. */
template <typename T> struct same {
    __device__ T operator()(T x, bool) const
    {
        return x;
    }
};

/* kernels/ref/quant.c, cnn_quant_rescale */
struct rescale {
    float first, second, s_out, lo, hi;
    __device__ int8_t operator()(int8_t x, bool is_second) const
    {
        const float scaled = static_cast<float>(x) * (is_second ? second : first) / s_out;
        const float clamped = !(scaled > lo) ? lo : scaled < hi ? scaled : hi;
        return static_cast<int8_t>(rintf(clamped));
    }
};

template <typename T, typename F>
__global__ void __launch_bounds__(THREADS) k_concat(concat_shape s, F f, const T *a, const T *b, T *dst)
{
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < s.n; n += static_cast<int32_t>(gridDim.y))
        for (int32_t at = static_cast<int32_t>(blockIdx.x * blockDim.y + threadIdx.y); at < s.pixels;
             at += static_cast<int32_t>(gridDim.x * blockDim.y)) {
            const int64_t pixel = static_cast<int64_t>(n) * s.pixels + at;
            for (int32_t c = static_cast<int32_t>(threadIdx.x); c < s.whole_pitch;
                 c += static_cast<int32_t>(blockDim.x)) {
                const bool second = c >= s.first;
                T value = T();
                if (c < s.first + s.second)
                    value = f(second ? b[pixel * s.second_pitch + c - s.first] : a[pixel * s.first_pitch + c], second);
                dst[pixel * s.whole_pitch + c] = value;
            }
        }
}

/* Threads go over the channels in memory of both pieces, one after the other. */
template <typename T> __global__ void __launch_bounds__(THREADS) k_concat_grad(concat_shape s, const T *dy, T *a, T *b)
{
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < s.n; n += static_cast<int32_t>(gridDim.y))
        for (int32_t at = static_cast<int32_t>(blockIdx.x * blockDim.y + threadIdx.y); at < s.pixels;
             at += static_cast<int32_t>(gridDim.x * blockDim.y)) {
            const int64_t pixel = static_cast<int64_t>(n) * s.pixels + at;
            const T *from = dy + pixel * s.whole_pitch;
            for (int32_t c = static_cast<int32_t>(threadIdx.x); c < s.first_pitch + s.second_pitch;
                 c += static_cast<int32_t>(blockDim.x)) {
                const int32_t k = c - s.first_pitch;
                if (k < 0)
                    a[pixel * s.first_pitch + c] = c < s.first ? from[c] : T();
                else
                    b[pixel * s.second_pitch + k] = k < s.second ? from[s.first + k] : T();
            }
        }
}

concat_shape shape_of(const cnn_tensor_desc *whole, const cnn_tensor_desc *a, const cnn_tensor_desc *b)
{
    concat_shape s = {};
    s.n = whole->n;
    s.pixels = whole->h * whole->w;
    s.first = a->c;
    s.second = b->c;
    s.first_pitch = a->c_pad;
    s.second_pitch = b->c_pad;
    s.whole_pitch = whole->c_pad;
    return s;
}

template <typename T, typename F>
cudaError_t join(F f, const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const concat_shape s = shape_of(&desc->arg[CNN_ARG_DST], &desc->arg[CNN_ARG_SRC], &desc->arg[CNN_ARG_SRC2]);
    const cnn_tiles tiles = cnn_image_tiles(s.n, s.pixels, s.whole_pitch, THREADS);
    return CNN_LAUNCH((k_concat<T, F>), tiles.grid, tiles.block, 0, stream, s, f,
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<const T *>(arg[CNN_ARG_SRC2]),
                      static_cast<T *>(arg[CNN_ARG_DST]));
}

template <typename T> cudaError_t split(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const concat_shape s = shape_of(&desc->arg[CNN_ARG_SRC], &desc->arg[CNN_ARG_DST], &desc->arg[CNN_ARG_DST2]);
    const cnn_tiles tiles = cnn_image_tiles(s.n, s.pixels, s.first_pitch + s.second_pitch, THREADS);
    return CNN_LAUNCH((k_concat_grad<T>), tiles.grid, tiles.block, 0, stream, s,
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<T *>(arg[CNN_ARG_DST]),
                      static_cast<T *>(arg[CNN_ARG_DST2]));
}

} // namespace

cudaError_t cnn_cuda_concat(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                            const cnn_cuda_queue *queue)
{
    switch (cnn_dtype_bytes(desc->arg[CNN_ARG_DST].dtype)) {
    case 4:
        return join<uint32_t>(same<uint32_t>(), desc, arg, queue->stream);
    case 2:
        return join<uint16_t>(same<uint16_t>(), desc, arg, queue->stream);
    default:
        return join<int8_t>(rescale{desc->scale[0], desc->scale[1], desc->out_scale, desc->lo, desc->hi}, desc, arg,
                            queue->stream);
    }
}

cudaError_t cnn_cuda_concat_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                                 const cnn_cuda_queue *queue)
{
    return cnn_dtype_bytes(desc->arg[CNN_ARG_SRC].dtype) == 4 ? split<uint32_t>(desc, arg, queue->stream)
                                                              : split<uint16_t>(desc, arg, queue->stream);
}
