/* The backward pass of batch normalization with ReLU and max-pooling in one; what it moves and how, bn_pool.cu says. */
#include "kernels/cuda/bn_pool.cuh"

namespace
{

/* Sums of dy*xhat and of dy, of a channel. */
struct gradients {
    float dgamma, dbeta;
};

/* Where they go. */
struct gradient_sums {
    int64_t slice_windows;
    gradients *part;       /* [slices, c] */
    float *dgamma, *dbeta; /* [c] */
};

/* Adds parts first, first + step, ... < end, GROUP at most, of channel k, as join() does. */
__device__ inline gradients add_parts(const gradient_sums &to, int32_t channels, int first, int end, int step,
                                      int32_t k, int thread, int width, float *sums)
{
    enum { EACH = GROUP / (THREADS / MOST_WIDTH) };
    gradients part[EACH] = {}, sum = {0, 0};
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int slice = first + (thread / width + i * (THREADS / width)) * step;
        if (k < channels && slice < end)
            part[i] = to.part[(int64_t)slice * channels + k];
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        sum.dgamma += part[i].dgamma;
        sum.dbeta += part[i].dbeta;
    }
    sum.dgamma = cnn_add_rows<THREADS>(sum.dgamma, thread, width, sums);
    sum.dbeta = cnn_add_rows<THREADS>(sum.dbeta, thread, width, sums);
    return sum;
}

/* Adds the slices of this block's tile once they are all there, as join_slices() does. */
__device__ inline void add_slices(const gradient_sums &to, int32_t channels, unsigned *tickets, int thread, int width,
                                  float *sums)
{
    const int slices = (int)gridDim.y, groups = (int)tickets_of(gridDim.y) - 1, group = (int)blockIdx.y / GROUP;
    const int first = group * GROUP, end = first + GROUP < slices ? first + GROUP : slices;
    const int32_t k = (int32_t)blockIdx.x * width + thread % width;
    const bool mine = thread < width && k < channels;
    if (!cnn_last_block(tickets + group, (unsigned)(end - first)))
        return;
    gradients all = add_parts(to, channels, first, end, 1, k, thread, width, sums);
    if (groups > 1) {
        if (mine) /* each thread has read its parts */
            to.part[(int64_t)first * channels + k] = all;
        if (!cnn_last_block(tickets + groups, (unsigned)groups))
            return;
        all = add_parts(to, channels, 0, slices, GROUP, k, thread, width, sums);
    }
    if (mine) {
        to.dgamma[k] = all.dgamma;
        to.dbeta[k] = all.dbeta;
    }
}

/* Block (channel tile, slice of windows) leaves its part. tickets: (groups + 1) a tile. K as in k_bn_pool. */
template <typename T, int V, int K>
__global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    k_bn_pool_sums(bn_pool b, const T *x, const T *dy, const uint8_t *index, const float *mean, const float *invstd,
                   gradient_sums to, unsigned *tickets)
{
    typedef cnn_vec<T, V> vec;
    __shared__ float tile[2][V * THREADS]; /* [dgamma, dbeta][V][rows][lanes] */
    const int lanes = (int)blockDim.x, rows = (int)blockDim.y, lane = (int)threadIdx.x, row = (int)threadIdx.y;
    const int32_t first = ((int32_t)blockIdx.x * lanes + lane) * V;
    const int32_t kernel = K ? K : b.kernel, stride = K ? K : b.stride;
    const int32_t windows = b.n * b.p * b.q, begin = (int32_t)(blockIdx.y * to.slice_windows);
    const int32_t end = (int32_t)(begin + to.slice_windows < windows ? begin + to.slice_windows : windows);
    const int thread = row * lanes + lane;
    float m[V], s[V], dgamma[V] = {}, dbeta[V] = {};
    load_channels<V>(m, mean, first, b.c);
    load_channels<V>(s, invstd, first, b.c);

    for (int32_t window = begin + row; first < b.c && window < end; window += rows) {
        const cell at = cell_at(window, b.p, b.q);
        const T *corner = x + (((int64_t)at.n * b.h + at.p * stride) * b.w + at.q * stride) * b.c + first;
        const vec gradient = *reinterpret_cast<const vec *>(dy + (int64_t)window * b.c + first);
        const cnn_vec<uint8_t, V> places =
            *reinterpret_cast<const cnn_vec<uint8_t, V> *>(index + (int64_t)window * b.c + first);
        vec chosen = {}; /* the values that were the maxima */
        const auto take = [&](int32_t i, const vec &values) {
#pragma unroll
            for (int v = 0; v < V; v++)
                chosen.at[v] = places.at[v] == i ? values.at[v] : chosen.at[v];
        };
        take_window<T, V, K>(b, corner, take);
#pragma unroll
        for (int v = 0; v < V; v++)
            if (places.at[v] < kernel * kernel) {
                const float d = cnn_to_float(gradient.at[v]);
                dgamma[v] = fmaf(d, (cnn_to_float(chosen.at[v]) - m[v]) * s[v], dgamma[v]);
                dbeta[v] += d;
            }
    }
#pragma unroll
    for (int v = 0; v < V; v++) {
        tile[0][v * THREADS + thread] = dgamma[v];
        tile[1][v * THREADS + thread] = dbeta[v];
    }
    for (int half = rows / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half)
#pragma unroll
            for (int v = 0; v < V; v++) {
                const int at = v * THREADS + thread;
                tile[0][at] += tile[0][at + half * lanes];
                tile[1][at] += tile[1][at + half * lanes];
            }
    }
    if (row == 0)
#pragma unroll
        for (int v = 0; v < V; v++)
            if (first + v < b.c)
                to.part[(int64_t)blockIdx.y * b.c + first + v] = {tile[0][v * THREADS + lane],
                                                                  tile[1][v * THREADS + lane]};
    add_slices(to, b.c, tickets + blockIdx.x * tickets_of(gridDim.y), thread, lanes * V, tile[0]);
}

/* dx = gamma*invstd*(dy - dbeta/m - xhat*dgamma/m) = scale*dy - (x - mean)*slope - level, a cell of stride x stride
 * pixels a thread. K as in k_bn_pool. */
template <typename T, int V, int K>
__global__ void __launch_bounds__(THREADS, 2)
    k_bn_pool_grad(bn_pool b, const T *x, const T *dy, const uint8_t *index, const float *gamma, const float *mean,
                   const float *invstd, const float *dgamma, const float *dbeta, T *dx)
{
    typedef cnn_vec<T, V> vec;
    const int32_t first = (int32_t)(blockIdx.y * blockDim.x + threadIdx.x) * V;
    const int32_t kernel = K ? K : b.kernel, stride = K ? K : b.stride;
    const int32_t rows = (b.h + stride - 1) / stride, columns = (b.w + stride - 1) / stride;
    const int64_t cells = (int64_t)b.n * rows * columns, line = (int64_t)b.w * b.c;
    const float share = 1 / (float)((int64_t)b.n * b.h * b.w);
    float m[V], s[V], scale[V], slope[V], level[V];
    if (first >= b.c)
        return;
    load_channels<V>(m, mean, first, b.c);
    load_channels<V>(s, invstd, first, b.c);
    load_channels<V>(scale, gamma, first, b.c);
    load_channels<V>(slope, dgamma, first, b.c);
    load_channels<V>(level, dbeta, first, b.c);
#pragma unroll
    for (int v = 0; v < V; v++) {
        scale[v] *= s[v];
        slope[v] *= scale[v] * s[v] * share;
        level[v] *= scale[v] * share;
    }

    for (int64_t number = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; number < cells;
         number += (int64_t)gridDim.x * blockDim.y) {
        const cell at = cell_at(number, rows, columns);
        const bool window = at.p < b.p && at.q < b.q;
        const int64_t pooled = (((int64_t)at.n * b.p + at.p) * b.q + at.q) * b.c + first;
        const int64_t corner = (((int64_t)at.n * b.h + at.p * stride) * b.w + at.q * stride) * b.c + first;
        const int32_t height = b.h - at.p * stride, width = b.w - at.q * stride; /* what is left of the image */
        vec gradient = {};
        cnn_vec<uint8_t, V> places = {};
        if (window) {
            gradient = *reinterpret_cast<const vec *>(dy + pooled);
            places = *reinterpret_cast<const cnn_vec<uint8_t, V> *>(index + pooled);
        }
        const auto place = [&](int32_t r, int32_t c) { return corner + r * line + c * b.c; };
        const auto put = [&](int32_t r, int32_t c, const vec &values) {
            const int here = window && r < kernel && c < kernel ? r * kernel + c : -1;
            vec result;
#pragma unroll
            for (int v = 0; v < V; v++) {
                const float d = (int)places.at[v] == here ? cnn_to_float(gradient.at[v]) : 0;
                const float rest = fmaf(cnn_to_float(values.at[v]) - m[v], slope[v], level[v]);
                result.at[v] = cnn_from_float<T>(fmaf(scale[v], d, -rest));
            }
            *reinterpret_cast<vec *>(dx + place(r, c)) = result;
        };
        if constexpr (K > 0) {
            vec values[K * K];
#pragma unroll
            for (int i = 0; i < K * K; i++)
                values[i] =
                    i / K < height && i % K < width ? *reinterpret_cast<const vec *>(x + place(i / K, i % K)) : vec{};
#pragma unroll
            for (int i = 0; i < K * K; i++)
                if (i / K < height && i % K < width)
                    put(i / K, i % K, values[i]);
        } else {
            for (int32_t r = 0; r < stride; r++)
                for (int32_t c = 0; c < stride; c++)
                    if (r < height && c < width)
                        put(r, c, *reinterpret_cast<const vec *>(x + place(r, c)));
        }
    }
}

/* ---- Launches ---- */

struct backward {
    template <typename T, int V, int K>
    static cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                              const cnn_cuda_queue *queue)
    {
        const bn_pool b = bn_pool_of(desc, &desc->arg[CNN_ARG_SRC2]);
        const cut c = cut_of(windows_of(b), b.c, V, WINDOWS_EACH);
        const dim3 block((unsigned)c.lanes, (unsigned)c.rows);
        const T *x = static_cast<const T *>(arg[CNN_ARG_SRC]), *dy = static_cast<const T *>(arg[CNN_ARG_SRC2]);
        const uint8_t *index = static_cast<const uint8_t *>(arg[CNN_ARG_INDEX]);
        const float *mean = static_cast<const float *>(arg[CNN_ARG_MEAN]);
        const float *invstd = static_cast<const float *>(arg[CNN_ARG_INVSTD]);
        float *dgamma = static_cast<float *>(arg[CNN_ARG_DST2]), *dbeta = static_cast<float *>(arg[CNN_ARG_DST3]);
        const gradient_sums sums = {c.slice, static_cast<gradients *>(workspace), dgamma, dbeta};
        const dim3 cells =
            loop_grid((int64_t)b.n * ((b.h + b.stride - 1) / b.stride) * ((b.w + b.stride - 1) / b.stride), c);
        cudaError_t error = CNN_LAUNCH((k_bn_pool_sums<T, V, K>), dim3((unsigned)c.tiles, (unsigned)c.slices), block, 0,
                                       queue->stream, b, x, dy, index, mean, invstd, sums, queue->tickets);
        if (error == cudaSuccess)
            error = CNN_LAUNCH((k_bn_pool_grad<T, V, K>), cells, block, 0, queue->stream, b, x, dy, index,
                               static_cast<const float *>(arg[CNN_ARG_GAMMA]), mean, invstd, dgamma, dbeta,
                               static_cast<T *>(arg[CNN_ARG_DST]));
        return error;
    }
};

} // namespace

size_t cnn_cuda_bn_pool_grad_workspace(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    const int64_t windows = cnn_desc_pixels(&desc->arg[CNN_ARG_SRC2]);
    return (size_t)cut_of(windows, x->c, vector_of(x), WINDOWS_EACH).slices * (size_t)x->c * sizeof(gradients);
}

cudaError_t cnn_cuda_bn_pool_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                  const cnn_cuda_queue *queue)
{
    return with_type<backward>(desc, arg, workspace, queue);
}
