/* Data gradient of a linear layer with few outputs, and of the ReLU before it: the classes of a network.
 *
 *   dx[n,l] = sum_k dy[n,k] * w[k,l], then 0 where y[n,l] is not above 0
 *
 * Bound by memory: K multiplications for each value that it writes and the one of y that it reads, 4 bytes in f16; an
 * A100 has time for 25 (9.7 T a second, 1.555 TB/s). convnet's last layer, K = 10, at batch 64: 10 KB of
 * weights and 128 KB of y and dx, below the 2 us that any launch takes; it saves one. A thread takes 16 bytes of
 * neighbouring l in ROWS images, so that it reads the weights once for them. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 128, ROWS = 4 };

struct linear {
    int32_t images, outputs;
    int64_t vectors; /* of V values, in a row of dx */
};

/* Block (vectors, images) of lanes x rows threads. y: NULL without a ReLU. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) k_linear_dgrad(linear s, const T *dy, const T *w, const T *y, T *dx)
{
    typedef cnn_vec<T, V> vec;
    const int64_t l = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    const vec *filter = reinterpret_cast<const vec *>(w) + l;
    if (l >= s.vectors)
        return;
    for (int32_t first = (int32_t)(blockIdx.y * blockDim.y + threadIdx.y) * ROWS; first < s.images;
         first += (int32_t)(gridDim.y * blockDim.y) * ROWS) {
        float sum[ROWS][V] = {};
#pragma unroll 4
        for (int32_t k = 0; k < s.outputs; k++) {
            const vec weight = filter[k * s.vectors];
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                const int32_t n = first + i < s.images ? first + i : first;
                const float gradient = cnn_to_float(dy[(int64_t)n * s.outputs + k]);
#pragma unroll
                for (int v = 0; v < V; v++)
                    sum[i][v] = fmaf(gradient, cnn_to_float(weight.at[v]), sum[i][v]);
            }
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int64_t at = (first + i) * s.vectors + l;
            if (first + i >= s.images)
                break;
            vec result, passes;
            if (y)
                passes = reinterpret_cast<const vec *>(y)[at];
#pragma unroll
            for (int v = 0; v < V; v++)
                result.at[v] = cnn_from_float<T>(!y || cnn_to_float(passes.at[v]) > 0.0f ? sum[i][v] : 0.0f);
            reinterpret_cast<vec *>(dx)[at] = result;
        }
    }
}

template <typename T, int V>
cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const cnn_tensor_desc *dx = &desc->arg[CNN_ARG_DST];
    const linear s = {dx->n, desc->arg[CNN_ARG_SRC].c, (int64_t)dx->h * dx->w * dx->c / V};
    unsigned lanes = 1;
    while (lanes < THREADS && (int64_t)lanes < s.vectors)
        lanes *= 2;
    const unsigned rows = THREADS / lanes, images = static_cast<unsigned>((s.images + ROWS - 1) / ROWS);
    const unsigned blocks = (images + rows - 1) / rows;
    return CNN_LAUNCH((k_linear_dgrad<T, V>),
                      dim3(static_cast<unsigned>((s.vectors + lanes - 1) / lanes), blocks < 65535 ? blocks : 65535),
                      dim3(lanes, rows), 0, stream, s, static_cast<const T *>(arg[CNN_ARG_SRC]),
                      static_cast<const T *>(arg[CNN_ARG_WEIGHT]),
                      cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU_GRAD) ? static_cast<const T *>(arg[CNN_ARG_SRC2])
                                                                        : nullptr,
                      static_cast<T *>(arg[CNN_ARG_DST]));
}

} // namespace

cudaError_t cnn_cuda_linear_dgrad_few(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                                      const cnn_cuda_queue *queue)
{
    const cnn_tensor_desc *dx = &desc->arg[CNN_ARG_DST];
    const int64_t length = (int64_t)dx->h * dx->w * dx->c;
    switch (dx->dtype) {
    case CNN_F16:
        return (length % 8 ? launch<__half, 1> : launch<__half, 8>)(desc, arg, queue->stream);
    case CNN_BF16:
        return (length % 8 ? launch<__nv_bfloat16, 1> : launch<__nv_bfloat16, 8>)(desc, arg, queue->stream);
    default:
        return (length % 4 ? launch<float, 1> : launch<float, 4>)(desc, arg, queue->stream);
    }
}
