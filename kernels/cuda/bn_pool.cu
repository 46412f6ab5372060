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
 * The last block of GROUP slices of some channels joins those, and the last of such blocks joins the groups: each has
 * 8 KB to read, all of it at once, where one block alone would read 100 KB in 13 turns (a third of the kernel's time
 * on an H200). A block takes no more than 128 bytes of channels, which is what memory is read in. All in f32: a GPU may
 * have few double units.
 *
 * A thread handles V neighbouring channels (16 bytes of x); a warp's threads lie side by side in the channels, then in
 * the pixels. Where windows are 2 x 2 the compiler knows it (K), so that a thread asks for all pixels of a window
 * before it needs the first. Partitions and orders follow from the shape. Windows do not overlap. */
#include "kernels/cuda/bn_pool.cuh"

namespace
{

/* ---- Statistics ---- */

/* Of a channel's values less its first one, so that the mean is small and rounding it costs little. */
struct moments {
    float mean, squares; /* of the distances to the mean */
};

/* Of na and nb values, together: share = nb / (na + nb), weight = na * share. */
__device__ inline moments merge(const moments &a, const moments &b, float share, float weight)
{
    const float distance = b.mean - a.mean;
    moments both;
    both.mean = fmaf(distance, share, a.mean);
    both.squares = fmaf(distance * distance, weight, a.squares + b.squares);
    return both;
}

/* Values that row `row` of `rows` got of [begin, end), one in `rows`. */
__device__ inline int32_t dealt(int32_t begin, int32_t end, int row, int rows)
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

/* Where a slice's part of channel k lies; slices of one group are neighbours. */
__device__ inline moments *part_of(const statistics &s, int slice, int32_t k)
{
    return s.part + (int64_t)slice * s.channels + k;
}

/* Joins parts first, first + step, ... < end, GROUP at most, of channel k, each of `unit` pixels but the last one:
 *   mean = sum n_s mean_s / M        squares = sum (squares_s + n_s (mean_s - mean)^2)
 * k is thread % width of the tile; all threads of its column get the result. sums [THREADS]. */
__device__ inline moments join(const statistics &s, int first, int end, int step, int64_t unit, int32_t k, int thread,
                               int width, float *sums)
{
    enum { EACH = GROUP / (THREADS / MOST_WIDTH) };
    const int64_t begin = first * s.slice_pixels, stop = end * s.slice_pixels;
    const float pixels = (float)((stop < s.pixels ? stop : s.pixels) - begin);
    moments part[EACH] = {}, all;
    float count[EACH], weighted = 0, squares = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int slice = first + (thread / width + i * (THREADS / width)) * step;
        const int64_t rest = s.pixels - slice * s.slice_pixels;
        count[i] = 0;
        if (k < s.channels && slice < end) {
            count[i] = (float)(rest < unit ? rest : unit);
            part[i] = *part_of(s, slice, k);
        }
        weighted = fmaf(count[i], part[i].mean, weighted);
    }
    all.mean = cnn_add_rows<THREADS>(weighted, thread, width, sums) / pixels;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const float distance = part[i].mean - all.mean;
        squares += count[i] > 0 ? fmaf(count[i] * distance, distance, part[i].squares) : 0;
    }
    all.squares = cnn_add_rows<THREADS>(squares, thread, width, sums);
    return all;
}

/* Joins the slices of this block's tile once they are all there. tickets: of the tile, one a group and one for all. */
template <typename T>
__device__ inline void join_slices(const T *x, const statistics &s, unsigned *tickets, int thread, int width,
                                   float *sums)
{
    const int slices = (int)gridDim.y, groups = (int)tickets_of(gridDim.y) - 1, group = (int)blockIdx.y / GROUP;
    const int first = group * GROUP, end = first + GROUP < slices ? first + GROUP : slices;
    const int32_t k = (int32_t)blockIdx.x * width + thread % width;
    const bool mine = thread < width && k < s.channels;
    if (!cnn_last_block(tickets + group, (unsigned)(end - first)))
        return;
    moments all = join(s, first, end, 1, s.slice_pixels, k, thread, width, sums);
    if (groups > 1) {
        if (mine) /* each thread has read its parts */
            *part_of(s, first, k) = all;
        if (!cnn_last_block(tickets + groups, (unsigned)groups))
            return;
        all = join(s, 0, slices, GROUP, GROUP * s.slice_pixels, k, thread, width, sums);
    }
    if (!mine)
        return;
    const float variance = all.squares / (float)s.pixels;
    s.mean[k] = cnn_to_float(x[k]) + all.mean;
    s.var[k] = s.pixels > 1 ? all.squares / (float)(s.pixels - 1) : variance;
    s.invstd[k] = 1 / sqrtf(variance + s.eps);
}

/* Block (channel tile, slice) leaves its part. Each thread holds some pixels in registers, takes their mean and then
 * their distances, so that nothing cancels however far from 0 the values lie. tickets: (groups + 1) a tile. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) k_bn_statistics(const T *x, statistics s, unsigned *tickets)
{
    __shared__ moments tile[V * THREADS]; /* [V][rows][lanes] */
    __shared__ float counts[THREADS];     /* of a row; then sums */
    const int lanes = (int)blockDim.x, rows = (int)blockDim.y, lane = (int)threadIdx.x, row = (int)threadIdx.y;
    const int thread = row * lanes + lane;
    const int32_t channels = s.channels, first = ((int32_t)blockIdx.x * lanes + lane) * V;
    const int32_t begin = (int32_t)(blockIdx.y * s.slice_pixels); /* suits() keeps pixels below 2^30 */
    const int32_t end = (int32_t)(begin + s.slice_pixels < s.pixels ? begin + s.slice_pixels : s.pixels);
    moments sum[V] = {};
    float origin[V], count = 0;
#pragma unroll
    for (int v = 0; v < V; v++)
        origin[v] = first < channels ? cnn_to_float(x[first + v]) : 0;

    for (int32_t from = begin + row; first < channels && from < end; from += rows * HELD) {
        cnn_vec<T, V> held[HELD] = {};
        int got = 0;
#pragma unroll
        for (int i = 0; i < HELD; i++) {
            if (from < end - i * rows) {
                held[i] = *reinterpret_cast<const cnn_vec<T, V> *>(x + (int64_t)(from + i * rows) * channels + first);
                got++;
            }
        }
        const float more = (float)got, inverse = 1 / more, share = more / (count + more), weight = count * share;
#pragma unroll
        for (int v = 0; v < V; v++) {
            moments m = {0, 0};
#pragma unroll
            for (int i = 0; i < HELD; i++)
                m.mean += i < got ? cnn_to_float(held[i].at[v]) - origin[v] : 0;
            m.mean *= inverse;
#pragma unroll
            for (int i = 0; i < HELD; i++) {
                const float distance = i < got ? cnn_to_float(held[i].at[v]) - origin[v] - m.mean : 0;
                m.squares = fmaf(distance, distance, m.squares);
            }
            sum[v] = count > 0 ? merge(sum[v], m, share, weight) : m;
        }
        count += more;
    }

    /* The tree: row r takes in row r + half, whose values are known by number. */
#pragma unroll
    for (int v = 0; v < V; v++)
        tile[v * THREADS + thread] = sum[v];
    if (lane == 0)
        counts[row] = (float)dealt(begin, end, row, rows);
    for (int half = rows / 2; half > 0; half /= 2) {
        __syncthreads();
        const float more = row < half ? counts[row + half] : 0;
        if (more > 0) { /* then row has some, too */
            const float share = more / (counts[row] + more), weight = counts[row] * share;
#pragma unroll
            for (int v = 0; v < V; v++) {
                moments *a = &tile[v * THREADS + thread];
                *a = merge(*a, tile[v * THREADS + thread + half * lanes], share, weight);
            }
        }
        __syncthreads();
        if (row < half && lane == 0)
            counts[row] += more;
    }
    if (row == 0)
#pragma unroll
        for (int v = 0; v < V; v++)
            if (first + v < channels)
                s.part[(int64_t)blockIdx.y * channels + first + v] = tile[v * THREADS + lane];
    join_slices(x, s, tickets + blockIdx.x * tickets_of(gridDim.y), thread, lanes * V, counts);
}

/* ---- Forward ---- */

/* K: windows are K x K, K apart; 0: as b says. */
template <typename T, int V, int K>
__global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
    k_bn_pool(bn_pool b, const T *x, const float *gamma, const float *beta, const float *mean, const float *invstd,
              T *dst, uint8_t *index)
{
    typedef cnn_vec<T, V> vec;
    const int32_t first = (int32_t)(blockIdx.y * blockDim.x + threadIdx.x) * V;
    const int32_t stride = K ? K : b.stride;
    const int64_t windows = (int64_t)b.n * b.p * b.q;
    float m[V], scale[V], o[V], gain[V];
    if (first >= b.c)
        return;
    load_channels<V>(m, mean, first, b.c);
    load_channels<V>(scale, invstd, first, b.c);
    load_channels<V>(gain, gamma, first, b.c);
    load_channels<V>(o, beta, first, b.c);
#pragma unroll
    for (int v = 0; v < V; v++)
        scale[v] *= gain[v];

    for (int64_t window = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; window < windows;
         window += (int64_t)gridDim.x * blockDim.y) {
        const cell at = cell_at(window, b.p, b.q);
        const T *corner = x + (((int64_t)at.n * b.h + at.p * stride) * b.w + at.q * stride) * b.c + first;
        float best[V] = {};
        int where[V] = {};
        const auto take = [&](int32_t i, const vec &values) {
#pragma unroll
            for (int v = 0; v < V; v++) {
                float y = fmaf(cnn_to_float(values.at[v]) - m[v], scale[v], o[v]);
                y = b.relu && y <= 0 ? 0 : y; /* NaN stays */
                if (i == 0 || y > best[v] || (y != y && best[v] == best[v])) {
                    best[v] = y;
                    where[v] = i;
                }
            }
        };
        take_window<T, V, K>(b, corner, take);
        vec pooled;
        cnn_vec<uint8_t, V> places;
#pragma unroll
        for (int v = 0; v < V; v++) {
            pooled.at[v] = cnn_from_float<T>(best[v]);
            places.at[v] = (uint8_t)(b.relu && !(best[v] > 0) ? (int)NO_INDEX : where[v]);
        }
        *reinterpret_cast<vec *>(dst + window * b.c + first) = pooled;
        *reinterpret_cast<cnn_vec<uint8_t, V> *>(index + window * b.c + first) = places;
    }
}

/* ---- Launches ---- */

struct forward {
    template <typename T, int V, int K>
    static cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                              const cnn_cuda_queue *queue)
    {
        const bn_pool b = bn_pool_of(desc, &desc->arg[CNN_ARG_DST]);
        const cut c = cut_of(pixels_of(b), b.c, V, PIXELS_EACH);
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
            error = CNN_LAUNCH((k_bn_pool<T, V, K>), loop_grid(windows_of(b), c), block, 0, queue->stream, b, x,
                               static_cast<const float *>(arg[CNN_ARG_GAMMA]),
                               static_cast<const float *>(arg[CNN_ARG_BETA]), mean, invstd,
                               static_cast<T *>(arg[CNN_ARG_DST]), static_cast<uint8_t *>(arg[CNN_ARG_INDEX]));
        return error;
    }
};

} // namespace

size_t cnn_cuda_bn_pool_workspace(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    return (size_t)cut_of(cnn_desc_pixels(x), x->c, vector_of(x), PIXELS_EACH).slices * (size_t)x->c * sizeof(moments);
}

cudaError_t cnn_cuda_bn_pool(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                             const cnn_cuda_queue *queue)
{
    return with_type<forward>(desc, arg, workspace, queue);
}
