/* Batch normalization over N, H, W for each channel: training, inference, gradient.
 *
 * Tensors are [M, C] arrays, M = N*H*W. Statistics in two stages whose partition follows from the shape: a block takes
 * a slice of pixels of some channels and leaves mean and sum of squared distances from it (two passes, the second over
 * registers, so that channels far from 0 lose nothing), then one block of threads for each 32 channels joins the
 * slices, in double:
 *   mean = sum n_s mean_s / M        M2 = sum (M2_s + n_s (mean_s - mean)^2)
 * Bound by memory: training reads the tensor twice and writes it once, the gradient reads x and dy twice. A thread
 * loads 16 bytes, neighbours in a row of the block the channels beside it. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256, VECTOR_BYTES = 16, PASSES = 8, FINISH_LANES = 32, FINISH_ROWS = 8 };

/* How an array is cut: lanes*vector channels and rows*PASSES pixels a block. */
struct cut {
    int64_t pixels, slice_pixels;
    int32_t channels, vector, lanes, rows, slices;

    dim3 block() const
    {
        return dim3(static_cast<unsigned>(lanes), static_cast<unsigned>(rows));
    }
    unsigned tiles() const
    {
        return static_cast<unsigned>((channels + lanes * vector - 1) / (lanes * vector));
    }
};

cut cut_of(const cnn_tensor_desc *src)
{
    cut c = {};
    c.pixels = cnn_desc_pixels(src);
    c.channels = src->c;
    c.vector = VECTOR_BYTES / static_cast<int32_t>(cnn_dtype_bytes(src->dtype));
    if (c.channels % c.vector != 0)
        c.vector = 1;
    c.lanes = 1;
    while (c.lanes < 32 && c.lanes * c.vector < c.channels)
        c.lanes *= 2;
    c.rows = THREADS / c.lanes;
    c.slice_pixels = static_cast<int64_t>(c.rows) * PASSES;
    c.slices = static_cast<int32_t>((c.pixels + c.slice_pixels - 1) / c.slice_pixels);
    return c;
}

/* First of the V channels of this thread. */
template <int V> __device__ inline int32_t first_channel()
{
    return static_cast<int32_t>((blockIdx.y * blockDim.x + threadIdx.x) * V);
}

/* Adds value[] over the rows of the block: sums[v*lanes + lane] holds what row 0 would have. Ends with a barrier;
 * sums [rows*V*lanes]. */
template <int V> __device__ inline void add_rows(const float *value, float *sums)
{
    const int lanes = static_cast<int>(blockDim.x), lane = static_cast<int>(threadIdx.x);
    const int row = static_cast<int>(threadIdx.y);
    __syncthreads(); /* sums of before have been read */
#pragma unroll
    for (int v = 0; v < V; v++)
        sums[(row * V + v) * lanes + lane] = value[v];
    __syncthreads();
    for (int half = static_cast<int>(blockDim.y) / 2; half > 0; half /= 2) {
        if (row < half)
#pragma unroll
            for (int v = 0; v < V; v++)
                sums[(row * V + v) * lanes + lane] += sums[((row + half) * V + v) * lanes + lane];
        __syncthreads();
    }
}

/* ---- Statistics ---- */

/* Block (slice, channel tile): parts[slice][0][c] = mean, parts[slice][1][c] = squared distances. */
template <typename T, int V> __global__ void __launch_bounds__(THREADS) k_bn_stats(cut c, const T *src, float *parts)
{
    __shared__ float sums[THREADS * V];
    typedef cnn_vec<T, V> vec;
    const int32_t first = first_channel<V>();
    const int lanes = static_cast<int>(blockDim.x), lane = static_cast<int>(threadIdx.x);
    const int64_t begin = blockIdx.x * c.slice_pixels, end = min(begin + c.slice_pixels, c.pixels);
    const float count = static_cast<float>(end - begin);
    vec kept[PASSES];
    float mean[V] = {}, squares[V] = {};
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
        const int64_t pixel = begin + pass * c.rows + threadIdx.y;
        if (first >= c.channels || pixel >= end)
            continue;
        kept[pass] = *reinterpret_cast<const vec *>(src + pixel * c.channels + first);
#pragma unroll
        for (int v = 0; v < V; v++)
            mean[v] += cnn_to_float(kept[pass].at[v]);
    }
    add_rows<V>(mean, sums);
#pragma unroll
    for (int v = 0; v < V; v++)
        mean[v] = sums[v * lanes + lane] / count;
#pragma unroll
    for (int pass = 0; pass < PASSES; pass++) {
        const int64_t pixel = begin + pass * c.rows + threadIdx.y;
        if (first >= c.channels || pixel >= end)
            continue;
#pragma unroll
        for (int v = 0; v < V; v++) {
            const float distance = cnn_to_float(kept[pass].at[v]) - mean[v];
            squares[v] = fmaf(distance, distance, squares[v]);
        }
    }
    add_rows<V>(squares, sums);
    if (threadIdx.y != 0 || first >= c.channels)
        return;
    float *part = parts + static_cast<int64_t>(blockIdx.x) * 2 * c.channels;
#pragma unroll
    for (int v = 0; v < V; v++) {
        part[first + v] = mean[v];
        part[c.channels + first + v] = sums[v * lanes + lane];
    }
}

/* Adds over the rows of a block of FINISH_LANES x FINISH_ROWS threads; the same for all rows. */
__device__ inline double finish_sum(double value, double (*sums)[FINISH_LANES])
{
    double sum = 0.0;
    __syncthreads(); /* sums of before have been read */
    sums[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    for (int row = 0; row < FINISH_ROWS; row++)
        sum += sums[row][threadIdx.x];
    return sum;
}

__global__ void __launch_bounds__(FINISH_LANES *FINISH_ROWS)
    k_bn_stats_finish(cut c, const float *parts, float eps, float *mean_dst, float *var_dst, float *invstd_dst)
{
    __shared__ double sums[FINISH_ROWS][FINISH_LANES];
    const int32_t channel = static_cast<int32_t>(blockIdx.x * FINISH_LANES + threadIdx.x);
    const bool mine = channel < c.channels;
    const double all = static_cast<double>(c.pixels);
    double weighted = 0.0, squares = 0.0;
    for (int32_t slice = static_cast<int32_t>(threadIdx.y); mine && slice < c.slices; slice += FINISH_ROWS) {
        const int64_t count = min(c.slice_pixels, c.pixels - slice * c.slice_pixels);
        weighted += static_cast<double>(count) *
                    static_cast<double>(parts[static_cast<int64_t>(slice) * 2 * c.channels + channel]);
    }
    const double mean = finish_sum(weighted, sums) / all;
    for (int32_t slice = static_cast<int32_t>(threadIdx.y); mine && slice < c.slices; slice += FINISH_ROWS) {
        const float *part = parts + static_cast<int64_t>(slice) * 2 * c.channels;
        const int64_t count = min(c.slice_pixels, c.pixels - slice * c.slice_pixels);
        const double distance = static_cast<double>(part[channel]) - mean;
        squares += static_cast<double>(part[c.channels + channel]) + static_cast<double>(count) * distance * distance;
    }
    const double sum = finish_sum(squares, sums);
    if (threadIdx.y != 0 || !mine)
        return;
    mean_dst[channel] = static_cast<float>(mean);
    var_dst[channel] = static_cast<float>(c.pixels > 1 ? sum / (all - 1.0) : sum);
    invstd_dst[channel] = static_cast<float>(1.0 / sqrt(sum / all + static_cast<double>(eps)));
}

/* ---- Normalizing ---- */

struct channel_params {
    const float *gamma, *beta, *mean, *var, *invstd; /* [C]; var in inference, invstd in training */
    float eps;
};

/* dst = (src - mean)*(invstd*gamma) + beta */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) k_bn_apply(cut c, channel_params params, const T *src, T *dst)
{
    typedef cnn_vec<T, V> vec;
    const int32_t first = first_channel<V>();
    float mean[V], scale[V], beta[V];
    if (first >= c.channels)
        return;
#pragma unroll
    for (int v = 0; v < V; v++) {
        const float invstd = params.var ? 1.0f / sqrtf(params.var[first + v] + params.eps) : params.invstd[first + v];
        mean[v] = params.mean[first + v];
        scale[v] = invstd * params.gamma[first + v];
        beta[v] = params.beta[first + v];
    }
    for (int64_t pixel = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; pixel < c.pixels;
         pixel += static_cast<int64_t>(gridDim.x) * blockDim.y) {
        vec x = *reinterpret_cast<const vec *>(src + pixel * c.channels + first);
#pragma unroll
        for (int v = 0; v < V; v++)
            x.at[v] = cnn_from_float<T>(fmaf(cnn_to_float(x.at[v]) - mean[v], scale[v], beta[v]));
        *reinterpret_cast<vec *>(dst + pixel * c.channels + first) = x;
    }
}

/* ---- Gradient ---- */

/* Block (slice, channel tile): parts[slice][0][c] = sum dy, parts[slice][1][c] = sum dy*xhat. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    k_bn_grad(cut c, channel_params params, const T *x, const T *dy, float *parts)
{
    __shared__ float sums[THREADS * V];
    typedef cnn_vec<T, V> vec;
    const int32_t first = first_channel<V>();
    const int lanes = static_cast<int>(blockDim.x), lane = static_cast<int>(threadIdx.x);
    const int64_t begin = blockIdx.x * c.slice_pixels, end = min(begin + c.slice_pixels, c.pixels);
    const bool mine = first < c.channels;
    float sum[V] = {}, weighted[V] = {}, mean[V], invstd[V];
#pragma unroll
    for (int v = 0; v < V; v++) {
        mean[v] = mine ? params.mean[first + v] : 0.0f;
        invstd[v] = mine ? params.invstd[first + v] : 0.0f;
    }
    for (int64_t pixel = begin + threadIdx.y; mine && pixel < end; pixel += c.rows) {
        const vec values = *reinterpret_cast<const vec *>(x + pixel * c.channels + first);
        const vec arrived = *reinterpret_cast<const vec *>(dy + pixel * c.channels + first);
#pragma unroll
        for (int v = 0; v < V; v++) {
            const float gradient = cnn_to_float(arrived.at[v]);
            sum[v] += gradient;
            weighted[v] = fmaf(gradient, (cnn_to_float(values.at[v]) - mean[v]) * invstd[v], weighted[v]);
        }
    }
    add_rows<V>(sum, sums);
#pragma unroll
    for (int v = 0; v < V; v++)
        sum[v] = sums[v * lanes + lane];
    add_rows<V>(weighted, sums);
    if (threadIdx.y != 0 || !mine)
        return;
    float *part = parts + static_cast<int64_t>(blockIdx.x) * 2 * c.channels;
#pragma unroll
    for (int v = 0; v < V; v++) {
        part[first + v] = sum[v];
        part[c.channels + first + v] = sums[v * lanes + lane];
    }
}

__global__ void __launch_bounds__(FINISH_LANES *FINISH_ROWS)
    k_bn_grad_finish(cut c, const float *parts, float *dgamma, float *dbeta)
{
    __shared__ double sums[FINISH_ROWS][FINISH_LANES];
    const int32_t channel = static_cast<int32_t>(blockIdx.x * FINISH_LANES + threadIdx.x);
    const bool mine = channel < c.channels;
    double sum = 0.0, weighted = 0.0;
    for (int32_t slice = static_cast<int32_t>(threadIdx.y); mine && slice < c.slices; slice += FINISH_ROWS) {
        const float *part = parts + static_cast<int64_t>(slice) * 2 * c.channels;
        sum += static_cast<double>(part[channel]);
        weighted += static_cast<double>(part[c.channels + channel]);
    }
    sum = finish_sum(sum, sums);
    weighted = finish_sum(weighted, sums);
    if (threadIdx.y != 0 || !mine)
        return;
    dbeta[channel] = static_cast<float>(sum);
    dgamma[channel] = static_cast<float>(weighted);
}

/* dx = gamma*invstd*(dy - dbeta/M - xhat*dgamma/M) */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) k_bn_grad_apply(cut c, channel_params params, const float *dgamma,
                                                           const float *dbeta, const T *x, const T *dy, T *dx)
{
    typedef cnn_vec<T, V> vec;
    const int32_t first = first_channel<V>();
    const float all = static_cast<float>(c.pixels);
    float mean[V], invstd[V], scale[V], mean_dy[V], mean_weighted[V];
    if (first >= c.channels)
        return;
#pragma unroll
    for (int v = 0; v < V; v++) {
        mean[v] = params.mean[first + v];
        invstd[v] = params.invstd[first + v];
        scale[v] = params.gamma[first + v] * invstd[v];
        mean_dy[v] = dbeta[first + v] / all;
        mean_weighted[v] = dgamma[first + v] / all;
    }
    for (int64_t pixel = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; pixel < c.pixels;
         pixel += static_cast<int64_t>(gridDim.x) * blockDim.y) {
        const vec values = *reinterpret_cast<const vec *>(x + pixel * c.channels + first);
        vec arrived = *reinterpret_cast<const vec *>(dy + pixel * c.channels + first);
#pragma unroll
        for (int v = 0; v < V; v++) {
            const float xhat = (cnn_to_float(values.at[v]) - mean[v]) * invstd[v];
            const float rest = cnn_to_float(arrived.at[v]) - mean_dy[v] - xhat * mean_weighted[v];
            arrived.at[v] = cnn_from_float<T>(scale[v] * rest);
        }
        *reinterpret_cast<vec *>(dx + pixel * c.channels + first) = arrived;
    }
}

/* ---- Launches ---- */

channel_params params_of(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT])
{
    channel_params params = {};
    params.gamma = static_cast<const float *>(arg[CNN_ARG_GAMMA]);
    params.beta = static_cast<const float *>(arg[CNN_ARG_BETA]);
    params.mean = static_cast<const float *>(arg[CNN_ARG_MEAN]);
    params.invstd = static_cast<const float *>(arg[CNN_ARG_INVSTD]);
    if (desc->op == CNN_OP_BN_INFER)
        params.var = static_cast<const float *>(arg[CNN_ARG_VAR]);
    params.eps = desc->eps;
    return params;
}

/* Blocks of the passes that only map: a thread keeps its channels' constants over several pixels. */
dim3 apply_grid(const cut &c)
{
    const int64_t blocks = (c.pixels + c.rows - 1) / c.rows, most = 2048 / c.tiles() + 1;
    return dim3(static_cast<unsigned>(blocks < most ? blocks : most), c.tiles());
}

dim3 slice_grid(const cut &c)
{
    return dim3(static_cast<unsigned>(c.slices), c.tiles());
}

unsigned finish_blocks(const cut &c)
{
    return static_cast<unsigned>((c.channels + FINISH_LANES - 1) / FINISH_LANES);
}

template <typename T, int V>
cudaError_t apply(const cut &c, const channel_params &params, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    return CNN_LAUNCH((k_bn_apply<T, V>), apply_grid(c), c.block(), 0, stream, c, params,
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<T *>(arg[CNN_ARG_DST]));
}

template <typename T, int V>
cudaError_t train(const cut &c, const channel_params &params, void *const arg[CNN_ARG_COUNT], float *parts,
                  cudaStream_t stream)
{
    cudaError_t error = CNN_LAUNCH((k_bn_stats<T, V>), slice_grid(c), c.block(), 0, stream, c,
                                   static_cast<const T *>(arg[CNN_ARG_SRC]), parts);
    if (error == cudaSuccess)
        error = CNN_LAUNCH(k_bn_stats_finish, finish_blocks(c), dim3(FINISH_LANES, FINISH_ROWS), 0, stream, c, parts,
                           params.eps, static_cast<float *>(arg[CNN_ARG_MEAN]), static_cast<float *>(arg[CNN_ARG_VAR]),
                           static_cast<float *>(arg[CNN_ARG_INVSTD]));
    return error == cudaSuccess ? apply<T, V>(c, params, arg, stream) : error;
}

template <typename T, int V>
cudaError_t gradient(const cut &c, const channel_params &params, void *const arg[CNN_ARG_COUNT], float *parts,
                     cudaStream_t stream)
{
    const T *x = static_cast<const T *>(arg[CNN_ARG_SRC]), *dy = static_cast<const T *>(arg[CNN_ARG_SRC2]);
    float *dgamma = static_cast<float *>(arg[CNN_ARG_DST2]), *dbeta = static_cast<float *>(arg[CNN_ARG_DST3]);
    cudaError_t error = CNN_LAUNCH((k_bn_grad<T, V>), slice_grid(c), c.block(), 0, stream, c, params, x, dy, parts);
    if (error == cudaSuccess)
        error = CNN_LAUNCH(k_bn_grad_finish, finish_blocks(c), dim3(FINISH_LANES, FINISH_ROWS), 0, stream, c, parts,
                           dgamma, dbeta);
    if (error == cudaSuccess)
        error = CNN_LAUNCH((k_bn_grad_apply<T, V>), apply_grid(c), c.block(), 0, stream, c, params, dgamma, dbeta, x,
                           dy, static_cast<T *>(arg[CNN_ARG_DST]));
    return error;
}

template <typename T, int V>
cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace, cudaStream_t stream)
{
    const cut c = cut_of(&desc->arg[CNN_ARG_SRC]);
    const channel_params params = params_of(desc, arg);
    float *parts = static_cast<float *>(workspace);
    if (desc->op == CNN_OP_BN_TRAIN)
        return train<T, V>(c, params, arg, parts, stream);
    if (desc->op == CNN_OP_BN_INFER)
        return apply<T, V>(c, params, arg, stream);
    return gradient<T, V>(c, params, arg, parts, stream);
}

} // namespace

/* [slices][2][C] f32 */
size_t cnn_cuda_bn_workspace(const cnn_op_desc *desc)
{
    const cut c = cut_of(&desc->arg[CNN_ARG_SRC]);
    return static_cast<size_t>(c.slices) * 2 * static_cast<size_t>(c.channels) * sizeof(float);
}

cudaError_t cnn_cuda_bn(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                        const cnn_cuda_queue *queue)
{
    const bool vectors = cut_of(&desc->arg[CNN_ARG_SRC]).vector > 1;
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return vectors ? launch<float, 4>(desc, arg, workspace, queue->stream)
                       : launch<float, 1>(desc, arg, workspace, queue->stream);
    case CNN_F16:
        return vectors ? launch<__half, 8>(desc, arg, workspace, queue->stream)
                       : launch<__half, 1>(desc, arg, workspace, queue->stream);
    case CNN_BF16:
        return vectors ? launch<__nv_bfloat16, 8>(desc, arg, workspace, queue->stream)
                       : launch<__nv_bfloat16, 1>(desc, arg, workspace, queue->stream);
    default:
        return cudaErrorInvalidValue;
    }
}
