/* What follows the i32 sums of an INT8 convolution or GEMM: bias, multiplier, rounding, max-pooling, as cnn/ops.h says.
 *
 * Bit for bit kernels/ref/quant.c: float(acc + bias) rounds once, the product rounds once, clamp, ties to even. Bound
 * by memory: 4 bytes in and 1 (or 4) out for a handful of operations; pooling 2 x 2 reads the same and writes a fourth.
 * A thread makes 4 channels of a pixel, so that a warp reads 512 and writes 128 neighbouring bytes. convnet's second
 * convolution at batch 512, [512,14,14,256] pooled to 7 x 7: 103 MB in, 6.4 MB out, 70 us on an A100, 33 us on an H100.
 */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256 };

/* Sums [images, image, pitch] become dst [images, pixels, dst_pitch]. Without pooling all images count as one. */
struct shape {
    int32_t channels, pitch, dst_pitch;
    int64_t image, pixels;                        /* pixels of an image of the sums and of dst; with pooling 31 bits */
    int32_t columns, out_columns, kernel, stride; /* with pooling: a row of the sums and of dst, the window */
};

/* ---- Epilogues: what they keep of a channel, and how they make an output of a sum ---- */

struct requantize {
    typedef int8_t out;
    const int32_t *bias;
    const float *mult;
    float lo, hi;
    __device__ int8_t operator()(int32_t acc, int32_t k) const
    {
        const float scaled = (float)(acc + bias[k]) * mult[k];
        const float clamped = !(scaled > lo) ? lo : scaled < hi ? scaled : hi; /* NaN counts as lo */
        return (int8_t)rintf(clamped);
    }
};

struct dequantize {
    typedef float out;
    const int32_t *bias;
    const float *mult;
    __device__ float operator()(int32_t acc, int32_t k) const
    {
        return (float)(acc + bias[k]) * mult[k];
    }
};

struct copy {
    typedef int32_t out;
    __device__ int32_t operator()(int32_t acc, int32_t k) const
    {
        (void)k;
        return acc;
    }
};

/* The V outputs of dst's pixel `at`, channels from k on; channels beyond the last are padding. */
template <int V, bool POOL, typename E>
__device__ inline void epilogue(const E &make, const shape &s, const int32_t *sums, int64_t at, int32_t k,
                                typename E::out *dst)
{
    typedef typename E::out out;
    out best[V] = {};
    const int32_t p = POOL ? (int32_t)at / s.out_columns : 0, q = POOL ? (int32_t)at % s.out_columns : 0;
    const int64_t corner = POOL ? (int64_t)p * s.stride * s.columns + q * s.stride : at;
    const int32_t window = k >= s.channels ? 0 : POOL ? s.kernel : 1; /* vectors of padding alone read nothing */
    for (int32_t r = 0; r < window; r++)
        for (int32_t c = 0; c < window; c++) {
            const int32_t *at_sums = sums + (corner + (int64_t)r * s.columns + c) * s.pitch + k;
            const cnn_vec<int32_t, V> acc = *reinterpret_cast<const cnn_vec<int32_t, V> *>(at_sums);
#pragma unroll
            for (int v = 0; v < V; v++) {
                if (k + v >= s.channels)
                    continue;
                const out value = make(acc.at[v], k + v);
                if (!POOL || (r == 0 && c == 0) || value > best[v])
                    best[v] = value;
            }
        }
    cnn_vec<out, V> result;
#pragma unroll
    for (int v = 0; v < V; v++)
        result.at[v] = best[v];
    *reinterpret_cast<cnn_vec<out, V> *>(dst + at * s.dst_pitch + k) = result;
}

/* Blocks of lanes x rows threads: lanes go over the channels, rows over the pixels of image blockIdx.y. */
template <int V, bool POOL, typename E>
__global__ void __launch_bounds__(THREADS, 4)
    k_i32_epilogue(E make, shape s, int32_t images, const int32_t *sums, typename E::out *dst)
{
    for (int64_t n = blockIdx.y; n < images; n += gridDim.y)
        for (int64_t at = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; at < s.pixels;
             at += (int64_t)gridDim.x * blockDim.y)
            for (int32_t k = (int32_t)threadIdx.x * V; k < s.dst_pitch; k += (int32_t)blockDim.x * V)
                epilogue<V, POOL>(make, s, sums + n * s.image * s.pitch, at, k, dst + n * s.pixels * s.dst_pitch);
}

template <int V, bool POOL, typename E>
cudaError_t launch(const E &make, const shape &s, int32_t images, const int32_t *sums, void *dst, cudaStream_t stream)
{
    unsigned lanes = 1;
    while (lanes < 32 && (int32_t)lanes * V < s.dst_pitch)
        lanes *= 2;
    const unsigned rows = THREADS / lanes;
    const int64_t blocks = (s.pixels + rows - 1) / rows;
    const dim3 grid(blocks < 65536 ? (unsigned)blocks : 65536, images < 65535 ? (unsigned)images : 65535);
    return CNN_LAUNCH((k_i32_epilogue<V, POOL, E>), grid, dim3(lanes, rows), 0, stream, make, s, images, sums,
                      static_cast<typename E::out *>(dst));
}

template <bool POOL, typename E>
cudaError_t choose_vector(const E &make, const shape &s, int32_t images, const int32_t *sums, void *dst,
                          cudaStream_t stream)
{
    return s.pitch % 4 == 0 && s.dst_pitch % 4 == 0 ? launch<4, POOL>(make, s, images, sums, dst, stream)
                                                    : launch<1, POOL>(make, s, images, sums, dst, stream);
}

shape shape_of(const cnn_op_desc *desc, int32_t pitch, int32_t *images)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    shape s = {};
    s.channels = dst->c;
    s.pitch = pitch;
    s.dst_pitch = dst->c_pad;
    s.pixels = s.image = cnn_desc_pixels(dst);
    *images = 1;
    if (!cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL))
        return s;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    const bool linear = desc->op == CNN_OP_LINEAR;
    const int32_t stride = linear ? 1 : desc->stride, pad = linear ? 0 : desc->pad;
    *images = dst->n;
    s.pixels = (int64_t)dst->h * dst->w;
    s.out_columns = dst->w;
    s.columns = cnn_window_count(src->w, weight->w, stride, pad);
    s.image = (int64_t)cnn_window_count(src->h, weight->h, stride, pad) * s.columns;
    s.kernel = desc->pool_kernel;
    s.stride = desc->pool_stride;
    return s;
}

} // namespace

cudaError_t cnn_cuda_i32_epilogue(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], const int32_t *sums,
                                  int32_t pitch, cudaStream_t stream)
{
    int32_t images = 1;
    const shape s = shape_of(desc, pitch, &images);
    const int32_t *bias = static_cast<const int32_t *>(arg[CNN_ARG_BIAS]);
    const float *mult = static_cast<const float *>(arg[CNN_ARG_MULT]);
    void *dst = arg[CNN_ARG_DST];
    if (desc->arg[CNN_ARG_DST].dtype == CNN_I8) {
        const requantize make = {bias, mult, desc->lo, desc->hi};
        return cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL)
                   ? choose_vector<true>(make, s, images, sums, dst, stream)
                   : choose_vector<false>(make, s, images, sums, dst, stream);
    }
    if (desc->arg[CNN_ARG_DST].dtype == CNN_F32) {
        const dequantize make = {bias, mult};
        return choose_vector<false>(make, s, images, sums, dst, stream);
    }
    return choose_vector<false>(copy(), s, images, sums, dst, stream);
}
