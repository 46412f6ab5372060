/* Batch normalization with ReLU and max-pooling in one: BN_TRAIN [RELU] MAXPOOL, and the BN_GRAD behind it.
 *
 * All are bound by memory, so what counts is how often the wide tensors are touched. For convnet's first block, x
 * [64,28,28,128] in f16 = 12.8 MB, pooled 3.2 MB, index 1.6 MB (one op a step | fused):
 *   forward   statistics 12.8, normalize 25.7, ReLU 25.7, pool 17.7             82 MB | 12.8 + 17.7           30 MB
 *   backward  pool 17.7, ReLU 38.5, sums 25.7, dx 38.5                         120 MB | 17.7 + 30.5           48 MB
 * 202 MB become 79 MB a step: 130 us and 51 us at the A100's 1.555 TB/s, 60 us and 23 us at the H100's 3.35 TB/s.
 *
 *   k_bn_statistics  slices of pixels -> mean and sum of squared distances (Chan's merge, in a tree); x is read once;
 *                    slices -> MEAN, VAR, INVSTD
 *   k_bn_pool        windows -> the pooled tensor and the index of the maximum, 255 where ReLU cut it off
 *   k_bn_pool_sums   windows -> sums of dy and dy*xhat: dy is not 0 at one pixel of a window at most;
 *                    slices -> dgamma, dbeta
 *   k_bn_pool_grad   cells of stride x stride pixels -> dx
 *
 * The last block of some channels joins their slices. A block takes no more than 128 bytes of channels, which is what
 * memory is read in, so that there are several such blocks and each has little to read: in the first block 196 slices
 * of 64 channels, 100 KB from L2, 1.1 us of an A100's SM, twice at a time. All in f32: a GPU may have few double units.
 *
 * A thread handles V neighbouring channels (16 bytes of x); a warp's threads lie side by side in the channels, then in
 * the pixels. Partitions and orders follow from the shape. Windows do not overlap. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"

namespace
{

enum { THREADS = 256, HELD = 8, MOST_SLICES = 256, ROW_BYTES = 128, NO_INDEX = 255 };

/* The op: x [n,h,w,c], pooled [n,p,q,c]. */
struct bn_pool {
    int32_t n, h, w, c, p, q, kernel, stride;
    float eps;
    bool relu;
};

/* How rows of channels are cut into blocks of lanes x rows threads and into slices. */
struct cut {
    int lanes, rows, tiles; /* tiles of lanes * V channels */
    int64_t slice;          /* rows of the tensor */
    int slices;
};

cut cut_of(int64_t length, int32_t channels, int vector, int per_thread)
{
    const int most = vector > 1 ? ROW_BYTES / 16 : 32;
    cut c;
    c.lanes = 1;
    while (c.lanes < most && c.lanes * vector < channels)
        c.lanes *= 2;
    c.rows = THREADS / c.lanes;
    c.tiles = (channels + c.lanes * vector - 1) / (c.lanes * vector);
    c.slice = (int64_t)c.rows * per_thread;
    while ((length + c.slice - 1) / c.slice > MOST_SLICES)
        c.slice *= 2;
    c.slices = (int)((length + c.slice - 1) / c.slice);
    return c;
}

/* ---- Statistics ---- */

/* Of a channel's values less its first one, so that the mean is small and rounding it costs little. */
struct moments {
    float mean, squares; /* of the distances to the mean */
};

/* Of na and nb values, together; either may be none. */
__device__ inline moments merge(const moments &a, float na, const moments &b, float nb)
{
    if (nb <= 0)
        return a;
    if (na <= 0)
        return b;
    const float distance = b.mean - a.mean, share = nb / (na + nb);
    moments both;
    both.mean = a.mean + distance * share;
    both.squares = a.squares + b.squares + distance * distance * na * share;
    return both;
}

/* Values that row `row` of `rows` got of [begin, end), one in `rows`. */
__device__ inline int64_t dealt(int64_t begin, int64_t end, int row, int rows)
{
    return begin + row >= end ? 0 : (end - begin - row + rows - 1) / rows;
}

/* What the statistics are of and where they go. */
struct statistics {
    int64_t pixels, slice_pixels;
    int32_t channels;
    float eps;
    float *mean, *var, *invstd; /* [channels] */
    moments *part;              /* [slices, channels] */
};

/* Joins the slices of the `width` channels of this block's tile:
 *   mean = sum n_s mean_s / M        squares = sum (squares_s + n_s (mean_s - mean)^2) */
template <typename T>
__device__ inline void join_slices(const T *x, const statistics &s, int slices, int thread, int width, float *sums)
{
    const int32_t k = (int32_t)blockIdx.x * width + thread % width;
    const int step = THREADS / width, mine = k < s.channels ? slices : 0;
    const float pixels = (float)s.pixels;
    float weighted = 0, squares = 0;
#pragma unroll 8
    for (int slice = thread / width; slice < mine; slice += step) {
        const int64_t rest = s.pixels - slice * s.slice_pixels;
        weighted = fmaf((float)(rest < s.slice_pixels ? rest : s.slice_pixels),
                        s.part[(int64_t)slice * s.channels + k].mean, weighted);
    }
    const float mean = cnn_add_rows<THREADS>(weighted, thread, width, sums) / pixels;
#pragma unroll 8
    for (int slice = thread / width; slice < mine; slice += step) {
        const int64_t rest = s.pixels - slice * s.slice_pixels;
        const moments more = s.part[(int64_t)slice * s.channels + k];
        const float distance = more.mean - mean;
        squares += fmaf((float)(rest < s.slice_pixels ? rest : s.slice_pixels) * distance, distance, more.squares);
    }
    squares = cnn_add_rows<THREADS>(squares, thread, width, sums);
    if (thread >= width || k >= s.channels)
        return;
    const float variance = squares / pixels;
    s.mean[k] = cnn_to_float(x[k]) + mean;
    s.var[k] = s.pixels > 1 ? squares / (float)(s.pixels - 1) : variance;
    s.invstd[k] = 1 / sqrtf(variance + s.eps);
}

/* Block (channel tile, slice) leaves its part. Each thread holds 8 pixels in registers, takes their mean and then their
 * distances, so that nothing cancels however far from 0 the values lie. tickets: one a tile. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 2) k_bn_statistics(const T *x, statistics s, unsigned *tickets)
{
    __shared__ moments tile[V * THREADS]; /* [V][rows][lanes] */
    __shared__ float counts[THREADS];     /* of a row; then sums */
    const int lanes = (int)blockDim.x, rows = (int)blockDim.y, lane = (int)threadIdx.x, row = (int)threadIdx.y;
    const int thread = row * lanes + lane;
    const int32_t channels = s.channels, first = ((int32_t)blockIdx.x * lanes + lane) * V;
    const int64_t begin = (int64_t)blockIdx.y * s.slice_pixels;
    const int64_t end = begin + s.slice_pixels < s.pixels ? begin + s.slice_pixels : s.pixels;
    moments sum[V] = {};
    float origin[V], count = 0;
#pragma unroll
    for (int v = 0; v < V; v++)
        origin[v] = first < channels ? cnn_to_float(x[first + v]) : 0;

    for (int64_t from = begin + row; first < channels && from < end; from += (int64_t)rows * HELD) {
        cnn_vec<T, V> held[HELD] = {};
        int got = 0;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            const int64_t pixel = from + (int64_t)i * rows;
            if (pixel < end) {
                held[i] = *reinterpret_cast<const cnn_vec<T, V> *>(x + pixel * channels + first);
                got++;
            }
        }
#pragma unroll
        for (int v = 0; v < V; v++) {
            moments m = {0, 0};
#pragma unroll
            for (int i = 0; i < HELD; i++)
                m.mean += i < got ? cnn_to_float(held[i].at[v]) - origin[v] : 0;
            m.mean /= (float)got;
#pragma unroll
            for (int i = 0; i < HELD; i++) {
                const float distance = i < got ? cnn_to_float(held[i].at[v]) - origin[v] - m.mean : 0;
                m.squares = fmaf(distance, distance, m.squares);
            }
            sum[v] = merge(sum[v], count, m, (float)got);
        }
        count += (float)got;
    }

    /* The tree: row r takes in row r + half, whose values are known by number. */
#pragma unroll
    for (int v = 0; v < V; v++)
        tile[v * THREADS + thread] = sum[v];
    if (lane == 0)
        counts[row] = (float)dealt(begin, end, row, rows);
    for (int half = rows / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half)
#pragma unroll
            for (int v = 0; v < V; v++) {
                moments *a = &tile[v * THREADS + thread];
                *a = merge(*a, counts[row], tile[v * THREADS + thread + half * lanes], counts[row + half]);
            }
        __syncthreads();
        if (row < half && lane == 0)
            counts[row] += counts[row + half];
    }
    if (row == 0)
#pragma unroll
        for (int v = 0; v < V; v++)
            if (first + v < channels)
                s.part[(int64_t)blockIdx.y * channels + first + v] = tile[v * THREADS + lane];
    if (cnn_last_block(tickets + blockIdx.x, gridDim.y))
        join_slices(x, s, (int)gridDim.y, thread, lanes * V, counts);
}

/* ---- What threads keep of their channels ---- */

/* value[v] = src[first + v], 0 beyond the last channel. */
template <int V> __device__ inline void load_channels(float *value, const float *src, int32_t first, int32_t channels)
{
#pragma unroll
    for (int v = 0; v < V; v++)
        value[v] = first + v < channels ? src[first + v] : 0;
}

/* Image, row and column of cell `number` in a grid of rows x columns. */
struct cell {
    int32_t n, p, q;
};

__device__ inline cell cell_at(int64_t number, int32_t rows, int32_t columns)
{
    cell at;
    const int32_t line = (int32_t)number / columns; /* suits() keeps pixels below 2^31 */
    at.q = (int32_t)number % columns;
    at.p = line % rows;
    at.n = line / rows;
    return at;
}

/* ---- Forward ---- */

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 2) k_bn_pool(bn_pool b, const T *x, const float *gamma, const float *beta,
                                                        const float *mean, const float *invstd, T *dst, uint8_t *index)
{
    const int32_t first = (int32_t)(blockIdx.y * blockDim.x + threadIdx.x) * V;
    const int64_t windows = (int64_t)b.n * b.p * b.q;
    float m[V], s[V], g[V], o[V];
    if (first >= b.c)
        return;
    load_channels<V>(m, mean, first, b.c);
    load_channels<V>(s, invstd, first, b.c);
    load_channels<V>(g, gamma, first, b.c);
    load_channels<V>(o, beta, first, b.c);

    for (int64_t window = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; window < windows;
         window += (int64_t)gridDim.x * blockDim.y) {
        const cell at = cell_at(window, b.p, b.q);
        const T *corner = x + (((int64_t)at.n * b.h + at.p * b.stride) * b.w + at.q * b.stride) * b.c + first;
        float best[V] = {};
        int where[V] = {};
        for (int32_t i = 0; i < b.kernel * b.kernel; i++) {
            const int64_t offset = (int64_t)(i / b.kernel * b.w + i % b.kernel) * b.c;
            const cnn_vec<T, V> values = *reinterpret_cast<const cnn_vec<T, V> *>(corner + offset);
#pragma unroll
            for (int v = 0; v < V; v++) {
                float y = fmaf((cnn_to_float(values.at[v]) - m[v]) * s[v], g[v], o[v]);
                y = b.relu && y <= 0 ? 0 : y; /* NaN stays */
                if (i == 0 || y > best[v] || (y != y && best[v] == best[v])) {
                    best[v] = y;
                    where[v] = i;
                }
            }
        }
        cnn_vec<T, V> pooled;
        cnn_vec<uint8_t, V> places;
#pragma unroll
        for (int v = 0; v < V; v++) {
            pooled.at[v] = cnn_from_float<T>(best[v]);
            places.at[v] = (uint8_t)(b.relu && !(best[v] > 0) ? (int)NO_INDEX : where[v]);
        }
        *reinterpret_cast<cnn_vec<T, V> *>(dst + window * b.c + first) = pooled;
        *reinterpret_cast<cnn_vec<uint8_t, V> *>(index + window * b.c + first) = places;
    }
}

/* ---- Backward ---- */

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

/* Adds the slices of the `width` channels of this block's tile. */
__device__ inline void add_slices(const gradient_sums &to, int32_t channels, int slices, int thread, int width,
                                  float *sums)
{
    const int32_t k = (int32_t)blockIdx.x * width + thread % width;
    gradients sum = {0, 0};
#pragma unroll 8
    for (int slice = thread / width; k < channels && slice < slices; slice += THREADS / width) {
        const gradients more = to.part[(int64_t)slice * channels + k];
        sum.dgamma += more.dgamma;
        sum.dbeta += more.dbeta;
    }
    sum.dgamma = cnn_add_rows<THREADS>(sum.dgamma, thread, width, sums);
    sum.dbeta = cnn_add_rows<THREADS>(sum.dbeta, thread, width, sums);
    if (thread < width && k < channels) {
        to.dgamma[k] = sum.dgamma;
        to.dbeta[k] = sum.dbeta;
    }
}

/* Block (channel tile, slice of windows) leaves its part. tickets: one a tile. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 2)
    k_bn_pool_sums(bn_pool b, const T *x, const T *dy, const uint8_t *index, const float *mean, const float *invstd,
                   gradient_sums to, unsigned *tickets)
{
    __shared__ float tile[2][V * THREADS]; /* [dgamma, dbeta][V][rows][lanes] */
    const int lanes = (int)blockDim.x, rows = (int)blockDim.y, lane = (int)threadIdx.x, row = (int)threadIdx.y;
    const int32_t first = ((int32_t)blockIdx.x * lanes + lane) * V;
    const int64_t windows = (int64_t)b.n * b.p * b.q, begin = (int64_t)blockIdx.y * to.slice_windows;
    const int64_t end = begin + to.slice_windows < windows ? begin + to.slice_windows : windows;
    const int thread = row * lanes + lane;
    float m[V], s[V], dgamma[V] = {}, dbeta[V] = {};
    load_channels<V>(m, mean, first, b.c);
    load_channels<V>(s, invstd, first, b.c);

    for (int64_t window = begin + row; first < b.c && window < end; window += rows) {
        const cell at = cell_at(window, b.p, b.q);
        const T *corner = x + (((int64_t)at.n * b.h + at.p * b.stride) * b.w + at.q * b.stride) * b.c + first;
        const cnn_vec<T, V> gradient = *reinterpret_cast<const cnn_vec<T, V> *>(dy + window * b.c + first);
        const cnn_vec<uint8_t, V> places = *reinterpret_cast<const cnn_vec<uint8_t, V> *>(index + window * b.c + first);
        for (int32_t i = 0; i < b.kernel * b.kernel; i++) {
            const int64_t offset = (int64_t)(i / b.kernel * b.w + i % b.kernel) * b.c;
            const cnn_vec<T, V> values = *reinterpret_cast<const cnn_vec<T, V> *>(corner + offset);
#pragma unroll
            for (int v = 0; v < V; v++)
                if (places.at[v] == i) {
                    const float d = cnn_to_float(gradient.at[v]);
                    dgamma[v] += d * ((cnn_to_float(values.at[v]) - m[v]) * s[v]);
                    dbeta[v] += d;
                }
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
    if (cnn_last_block(tickets + blockIdx.x, gridDim.y))
        add_slices(to, b.c, (int)gridDim.y, thread, lanes * V, tile[0]);
}

/* dx = gamma*invstd*(dy - dbeta/m - xhat*dgamma/m), a cell of stride x stride pixels a thread. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 2)
    k_bn_pool_grad(bn_pool b, const T *x, const T *dy, const uint8_t *index, const float *gamma, const float *mean,
                   const float *invstd, const float *dgamma, const float *dbeta, T *dx)
{
    const int32_t first = (int32_t)(blockIdx.y * blockDim.x + threadIdx.x) * V;
    const int32_t rows = (b.h + b.stride - 1) / b.stride, columns = (b.w + b.stride - 1) / b.stride;
    const int64_t cells = (int64_t)b.n * rows * columns;
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
        slope[v] *= share;
        level[v] *= share;
    }

    for (int64_t number = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; number < cells;
         number += (int64_t)gridDim.x * blockDim.y) {
        const cell at = cell_at(number, rows, columns);
        const bool window = at.p < b.p && at.q < b.q;
        const int64_t pooled = (((int64_t)at.n * b.p + at.p) * b.q + at.q) * b.c + first;
        cnn_vec<T, V> gradient = {};
        cnn_vec<uint8_t, V> places = {};
        if (window) {
            gradient = *reinterpret_cast<const cnn_vec<T, V> *>(dy + pooled);
            places = *reinterpret_cast<const cnn_vec<uint8_t, V> *>(index + pooled);
        }
        for (int32_t r = 0; r < b.stride && at.p * b.stride + r < b.h; r++)
            for (int32_t c = 0; c < b.stride && at.q * b.stride + c < b.w; c++) {
                const int64_t pixel =
                    (((int64_t)at.n * b.h + at.p * b.stride + r) * b.w + at.q * b.stride + c) * b.c + first;
                const int place = window && r < b.kernel && c < b.kernel ? r * b.kernel + c : -1;
                const cnn_vec<T, V> values = *reinterpret_cast<const cnn_vec<T, V> *>(x + pixel);
                cnn_vec<T, V> result;
#pragma unroll
                for (int v = 0; v < V; v++) {
                    const float d = (int)places.at[v] == place ? cnn_to_float(gradient.at[v]) : 0;
                    const float xhat = (cnn_to_float(values.at[v]) - m[v]) * s[v];
                    result.at[v] = cnn_from_float<T>(scale[v] * (d - level[v] - xhat * slope[v]));
                }
                *reinterpret_cast<cnn_vec<T, V> *>(dx + pixel) = result;
            }
    }
}

/* ---- Launches ---- */

bn_pool bn_pool_of(const cnn_op_desc *desc, const cnn_tensor_desc *pooled)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    bn_pool b;
    b.n = x->n, b.h = x->h, b.w = x->w, b.c = x->c;
    b.p = pooled->h, b.q = pooled->w;
    b.kernel = desc->pool_kernel, b.stride = desc->pool_stride;
    b.eps = desc->eps;
    b.relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    return b;
}

int64_t pixels_of(const bn_pool &b)
{
    return (int64_t)b.n * b.h * b.w;
}

int64_t windows_of(const bn_pool &b)
{
    return (int64_t)b.n * b.p * b.q;
}

/* Blocks for `items` rows of work: two a thread, and no more blocks than fill a GPU. */
dim3 loop_grid(int64_t items, const cut &c)
{
    const int64_t blocks = (items + c.rows * 2 - 1) / (c.rows * 2);
    return dim3((unsigned)(blocks < 4096 ? blocks : 4096), (unsigned)c.tiles);
}

template <typename T, int V>
cudaError_t forward(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                    const cnn_cuda_queue *queue)
{
    const bn_pool b = bn_pool_of(desc, &desc->arg[CNN_ARG_DST]);
    const cut c = cut_of(pixels_of(b), b.c, V, HELD);
    const dim3 block((unsigned)c.lanes, (unsigned)c.rows);
    const T *x = static_cast<const T *>(arg[CNN_ARG_SRC]);
    float *mean = static_cast<float *>(arg[CNN_ARG_MEAN]), *invstd = static_cast<float *>(arg[CNN_ARG_INVSTD]);
    const statistics s = {pixels_of(b), c.slice,
                          b.c,          b.eps,
                          mean,         static_cast<float *>(arg[CNN_ARG_VAR]),
                          invstd,       static_cast<moments *>(workspace)};
    cudaError_t error = CNN_LAUNCH((k_bn_statistics<T, V>), dim3((unsigned)c.tiles, (unsigned)c.slices), block, 0,
                                   queue->stream, x, s, queue->tickets);
    if (error == cudaSuccess)
        error =
            CNN_LAUNCH((k_bn_pool<T, V>), loop_grid(windows_of(b), c), block, 0, queue->stream, b, x,
                       static_cast<const float *>(arg[CNN_ARG_GAMMA]), static_cast<const float *>(arg[CNN_ARG_BETA]),
                       mean, invstd, static_cast<T *>(arg[CNN_ARG_DST]), static_cast<uint8_t *>(arg[CNN_ARG_INDEX]));
    return error;
}

template <typename T, int V>
cudaError_t backward(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                     const cnn_cuda_queue *queue)
{
    const bn_pool b = bn_pool_of(desc, &desc->arg[CNN_ARG_SRC2]);
    const cut c = cut_of(windows_of(b), b.c, V, HELD);
    const dim3 block((unsigned)c.lanes, (unsigned)c.rows);
    const T *x = static_cast<const T *>(arg[CNN_ARG_SRC]), *dy = static_cast<const T *>(arg[CNN_ARG_SRC2]);
    const uint8_t *index = static_cast<const uint8_t *>(arg[CNN_ARG_INDEX]);
    const float *mean = static_cast<const float *>(arg[CNN_ARG_MEAN]);
    const float *invstd = static_cast<const float *>(arg[CNN_ARG_INVSTD]);
    float *dgamma = static_cast<float *>(arg[CNN_ARG_DST2]), *dbeta = static_cast<float *>(arg[CNN_ARG_DST3]);
    const gradient_sums sums = {c.slice, static_cast<gradients *>(workspace), dgamma, dbeta};
    cudaError_t error = CNN_LAUNCH((k_bn_pool_sums<T, V>), dim3((unsigned)c.tiles, (unsigned)c.slices), block, 0,
                                   queue->stream, b, x, dy, index, mean, invstd, sums, queue->tickets);
    if (error == cudaSuccess)
        error = CNN_LAUNCH((k_bn_pool_grad<T, V>), loop_grid(windows_of(b), c), block, 0, queue->stream, b, x, dy,
                           index, static_cast<const float *>(arg[CNN_ARG_GAMMA]), mean, invstd, dgamma, dbeta,
                           static_cast<T *>(arg[CNN_ARG_DST]));
    return error;
}

/* 16 bytes at once where every pixel begins on 16 bytes. */
int vector_of(const cnn_tensor_desc *x)
{
    const int vector = (int)(16 / cnn_dtype_bytes(x->dtype));
    return x->c % vector == 0 ? vector : 1;
}

} // namespace

size_t cnn_cuda_bn_pool_workspace(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    const bool grad = desc->op == CNN_OP_BN_GRAD;
    const int64_t length = cnn_desc_pixels(grad ? &desc->arg[CNN_ARG_SRC2] : x);
    const int slices = cut_of(length, x->c, vector_of(x), HELD).slices;
    static_assert(sizeof(moments) == sizeof(gradients), "both leave two numbers a channel");
    return (size_t)slices * (size_t)x->c * sizeof(moments);
}

cudaError_t cnn_cuda_bn_pool(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                             const cnn_cuda_queue *queue)
{
    const bool vectors = vector_of(&desc->arg[CNN_ARG_SRC]) > 1;
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return (vectors ? forward<float, 4> : forward<float, 1>)(desc, arg, workspace, queue);
    case CNN_F16:
        return (vectors ? forward<__half, 8> : forward<__half, 1>)(desc, arg, workspace, queue);
    default:
        return (vectors ? forward<__nv_bfloat16, 8> : forward<__nv_bfloat16, 1>)(desc, arg, workspace, queue);
    }
}

cudaError_t cnn_cuda_bn_pool_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                  const cnn_cuda_queue *queue)
{
    const bool vectors = vector_of(&desc->arg[CNN_ARG_SRC]) > 1;
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return (vectors ? backward<float, 4> : backward<float, 1>)(desc, arg, workspace, queue);
    case CNN_F16:
        return (vectors ? backward<__half, 8> : backward<__half, 1>)(desc, arg, workspace, queue);
    default:
        return (vectors ? backward<__nv_bfloat16, 8> : backward<__nv_bfloat16, 1>)(desc, arg, workspace, queue);
    }
}
