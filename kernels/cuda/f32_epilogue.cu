/* What follows the f32 sums of a linear layer whose result is f16 or bf16: bias, ReLU, one rounding.
 *
 * Bound by memory: 4 bytes in and 2 out for two operations. convnet's first linear layer at batch 64, [64,512]: 131 KB
 * in, 66 KB out, below the 2 us that any launch takes. A thread makes neighbouring values 4 at a time where K allows.
 */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256 };

template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    k_f32_epilogue(const float *sums, const float *bias, T *dst, int64_t count, int32_t outputs, bool relu)
{
    for (int64_t i = cnn_first_item(); i * V < count; i += cnn_item_step()) {
        const cnn_vec<float, V> in = reinterpret_cast<const cnn_vec<float, V> *>(sums)[i];
        const int32_t k = static_cast<int32_t>(i * V % outputs);
        cnn_vec<T, V> out;
#pragma unroll
        for (int v = 0; v < V; v++) {
            float value = bias ? in.at[v] + bias[k + v] : in.at[v];
            if (relu && value <= 0.0f) /* NaN stays NaN */
                value = 0.0f;
            out.at[v] = cnn_from_float<T>(value);
        }
        reinterpret_cast<cnn_vec<T, V> *>(dst)[i] = out;
    }
}

template <typename T>
cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], const float *sums, cudaStream_t stream)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    const float *bias =
        cnn_op_has_epilogue(desc, CNN_EPILOGUE_BIAS) ? static_cast<const float *>(arg[CNN_ARG_BIAS]) : nullptr;
    const int64_t count = cnn_desc_elements(dst);
    T *out = static_cast<T *>(arg[CNN_ARG_DST]);
    if (dst->c % 4 == 0)
        return CNN_LAUNCH((k_f32_epilogue<T, 4>), cnn_blocks(count / 4, THREADS), THREADS, 0, stream, sums, bias, out,
                          count, dst->c, relu);
    return CNN_LAUNCH((k_f32_epilogue<T, 1>), cnn_blocks(count, THREADS), THREADS, 0, stream, sums, bias, out, count,
                      dst->c, relu);
}

} // namespace

cudaError_t cnn_cuda_f32_epilogue(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], const float *sums,
                                  cudaStream_t stream)
{
    return desc->arg[CNN_ARG_DST].dtype == CNN_F16 ? launch<__half>(desc, arg, sums, stream)
                                                   : launch<__nv_bfloat16>(desc, arg, sums, stream);
}
