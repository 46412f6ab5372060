/* Ops that treat each element by itself: ReLU and its relatives, their gradients, addition, of floats and of INT8.
 *
 * Bound by memory: 2 (ReLU) or 3 passes over tensors that are dense, padding channels included, so that they are taken
 * as flat arrays. A thread loads and stores 16 bytes at a time; a warp touches 512 neighbouring bytes. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256, VECTOR_BYTES = 16 };

/* ---- What is done to an element: one(a) or two(a, b) ---- */

template <typename T> struct relu {
    __device__ T operator()(T a, T) const
    {
        const float x = cnn_to_float(a);
        return x <= 0.0f ? cnn_from_float<T>(0.0f) : a; /* NaN stays */
    }
};

template <> struct relu<int8_t> {
    __device__ int8_t operator()(int8_t a, int8_t) const
    {
        return a > 0 ? a : int8_t{0};
    }
};

/* a is the ReLU's output, b the gradient that arrives. */
template <typename T> struct relu_grad {
    __device__ T operator()(T a, T b) const
    {
        return cnn_to_float(a) > 0.0f ? b : cnn_from_float<T>(0.0f);
    }
};

/* Cut off at both ends. */
template <typename T> struct clip {
    float hi;
    __device__ T operator()(T a, T) const
    {
        const float x = cnn_to_float(a);
        return x <= 0.0f ? cnn_from_float<T>(0.0f) : x > hi ? cnn_from_float<T>(hi) : a; /* NaN stays */
    }
};

template <> struct clip<int8_t> {
    float hi;
    __device__ int8_t operator()(int8_t a, int8_t) const
    {
        const int8_t most = static_cast<int8_t>(hi);
        return a <= 0 ? int8_t{0} : a > most ? most : a;
    }
};

/* a is the output, b the gradient that arrives. */
template <typename T> struct clip_grad {
    float hi;
    __device__ T operator()(T a, T b) const
    {
        const float y = cnn_to_float(a), most = cnn_to_float(cnn_from_float<T>(hi));
        return y > 0.0f && y < most ? b : cnn_from_float<T>(0.0f);
    }
};

template <typename T> struct leaky_relu {
    float slope;
    __device__ T operator()(T a, T) const
    {
        const float x = cnn_to_float(a);
        return x > 0.0f ? a : cnn_from_float<T>(slope * x);
    }
};

template <typename T> struct leaky_relu_grad {
    float slope;
    __device__ T operator()(T a, T b) const
    {
        return cnn_to_float(a) > 0.0f ? b : cnn_from_float<T>(slope * cnn_to_float(b));
    }
};

/* kernels/ref/quant.c, cnn_quant_leaky_relu */
struct leaky_relu_i8 {
    float s_in, slope, s_out, lo, hi;
    __device__ int8_t operator()(int8_t a, int8_t) const
    {
        const float value = static_cast<float>(a) * s_in;
        const float scaled = (a > 0 ? value : value * slope) / s_out;
        const float clamped = !(scaled > lo) ? lo : scaled < hi ? scaled : hi;
        return static_cast<int8_t>(rintf(clamped));
    }
};

template <typename T> struct add {
    __device__ T operator()(T a, T b) const
    {
        return cnn_from_float<T>(cnn_to_float(a) + cnn_to_float(b));
    }
};

/* kernels/ref/quant.c, cnn_quant_add: each product, the sum and the quotient are rounded once. */
struct add_i8 {
    float s_a, s_b, s_out, lo, hi;
    __device__ int8_t operator()(int8_t a, int8_t b) const
    {
        const float value_a = static_cast<float>(a) * s_a;
        const float value_b = static_cast<float>(b) * s_b;
        const float scaled = (value_a + value_b) / s_out;
        const float clamped = !(scaled > lo) ? lo : scaled < hi ? scaled : hi;
        return static_cast<int8_t>(rintf(clamped));
    }
};

/* ---- The kernel ---- */

/* dst[i] = f(a[i], b[i]); with one operand b is not read. The last count % V elements are taken one by one. */
template <typename T, bool TWO, typename F>
__global__ void __launch_bounds__(THREADS) k_elementwise(F f, const T *a, const T *b, T *dst, int64_t count)
{
    constexpr int V = VECTOR_BYTES / static_cast<int>(sizeof(T));
    typedef cnn_vec<T, V> vec;
    const int64_t vectors = count / V;
    for (int64_t i = cnn_first_item(); i < vectors; i += cnn_item_step()) {
        vec x = reinterpret_cast<const vec *>(a)[i];
        const vec y = TWO ? reinterpret_cast<const vec *>(b)[i] : x;
#pragma unroll
        for (int v = 0; v < V; v++)
            x.at[v] = f(x.at[v], y.at[v]);
        reinterpret_cast<vec *>(dst)[i] = x;
    }
    for (int64_t i = vectors * V + cnn_first_item(); i < count; i += cnn_item_step())
        dst[i] = f(a[i], TWO ? b[i] : a[i]);
}

template <typename T, bool TWO, typename F>
cudaError_t launch(F f, const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const int64_t count = cnn_desc_pixels(dst) * dst->c_pad;
    const int64_t vectors = count / (VECTOR_BYTES / static_cast<int>(sizeof(T)));
    return CNN_LAUNCH((k_elementwise<T, TWO, F>), cnn_blocks(vectors, THREADS), THREADS, 0, stream, f,
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<const T *>(arg[CNN_ARG_SRC2]),
                      static_cast<T *>(arg[CNN_ARG_DST]), count);
}

template <template <typename> class F, bool TWO>
cudaError_t launch_float(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return launch<float, TWO>(F<float>(), desc, arg, stream);
    case CNN_F16:
        return launch<__half, TWO>(F<__half>(), desc, arg, stream);
    case CNN_BF16:
        return launch<__nv_bfloat16, TWO>(F<__nv_bfloat16>(), desc, arg, stream);
    default:
        return cudaErrorInvalidValue;
    }
}

/* The same for what has a number of its own. */
template <template <typename> class F, bool TWO>
cudaError_t launch_with(float number, const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return launch<float, TWO>(F<float>{number}, desc, arg, stream);
    case CNN_F16:
        return launch<__half, TWO>(F<__half>{number}, desc, arg, stream);
    case CNN_BF16:
        return launch<__nv_bfloat16, TWO>(F<__nv_bfloat16>{number}, desc, arg, stream);
    default:
        return cudaErrorInvalidValue;
    }
}

} // namespace

cudaError_t cnn_cuda_clip(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        return launch<int8_t, false>(clip<int8_t>{desc->hi}, desc, arg, queue->stream);
    return launch_with<clip, false>(desc->hi, desc, arg, queue->stream);
}

cudaError_t cnn_cuda_clip_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                               const cnn_cuda_queue *queue)
{
    return launch_with<clip_grad, true>(desc->hi, desc, arg, queue->stream);
}

cudaError_t cnn_cuda_leaky_relu(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                                const cnn_cuda_queue *queue)
{
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8) {
        const leaky_relu_i8 f = {desc->scale[0], desc->slope, desc->out_scale, desc->lo, desc->hi};
        return launch<int8_t, false>(f, desc, arg, queue->stream);
    }
    return launch_with<leaky_relu, false>(desc->slope, desc, arg, queue->stream);
}

cudaError_t cnn_cuda_leaky_relu_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                                     const cnn_cuda_queue *queue)
{
    return launch_with<leaky_relu_grad, true>(desc->slope, desc, arg, queue->stream);
}

cudaError_t cnn_cuda_relu(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        return launch<int8_t, false>(relu<int8_t>(), desc, arg, queue->stream);
    return launch_float<relu, false>(desc, arg, queue->stream);
}

cudaError_t cnn_cuda_relu_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                               const cnn_cuda_queue *queue)
{
    return launch_float<relu_grad, true>(desc, arg, queue->stream);
}

cudaError_t cnn_cuda_add(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8) {
        const add_i8 f = {desc->scale[0], desc->scale[1], desc->out_scale, desc->lo, desc->hi};
        return launch<int8_t, true>(f, desc, arg, queue->stream);
    }
    return launch_float<add, true>(desc, arg, queue->stream);
}
