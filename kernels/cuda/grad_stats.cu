/* GRAD_STATS: which segments of the gradients hold an inf or NaN, and the sum of their squares.
 *
 * Two stages in one order. Blocks take chunks of the array, whose length follows from its length alone, and leave a
 * sum (in double: 3 operations for 4 bytes, which GPUs with few double units just keep up with) and whether all was
 * finite. One block adds the sums. Only in a step that overflowed does it look for the segments: a chunk inside one
 * segment names it, of others a warp reads the elements again. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256, VECTOR = 4, LEAST_CHUNK = THREADS * VECTOR * 4, MOST_CHUNKS = 1024 };
constexpr unsigned ALL_LANES = 0xffffffffu;

struct chunk_stats {
    double sum;
    int64_t nonfinite;
};

int64_t chunk_of(int32_t length)
{
    int64_t chunk = LEAST_CHUNK;
    while ((length + chunk - 1) / chunk > MOST_CHUNKS)
        chunk *= 2;
    return chunk;
}

int32_t chunks_of(int32_t length)
{
    return static_cast<int32_t>((length + chunk_of(length) - 1) / chunk_of(length));
}

__device__ inline bool is_finite(float x)
{
    return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u;
}

__device__ inline void take(float x, double *sum, bool *bad)
{
    const double wide = static_cast<double>(x);
    *sum += wide * wide;
    *bad |= !is_finite(x);
}

/* The sum of all threads' values, in thread 0; sums [THREADS]. */
__device__ inline double block_sum(double value, double *sums)
{
    const int thread = static_cast<int>(threadIdx.x);
    sums[thread] = value;
    for (int half = THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half)
            sums[thread] += sums[thread + half];
    }
    return sums[0];
}

/* ---- Stage 1: one block a chunk ---- */

__global__ void __launch_bounds__(THREADS)
    k_grad_stats(const float *src, int32_t length, int64_t chunk, chunk_stats *stats)
{
    __shared__ double sums[THREADS];
    typedef cnn_vec<float, VECTOR> vec;
    const int64_t begin = blockIdx.x * chunk, end = min(begin + chunk, static_cast<int64_t>(length));
    const int64_t whole = begin + (end - begin) / VECTOR * VECTOR;
    double sum = 0.0;
    bool bad = false;
    for (int64_t i = begin + threadIdx.x * VECTOR; i < whole; i += THREADS * VECTOR) {
        const vec x = *reinterpret_cast<const vec *>(src + i);
#pragma unroll
        for (int v = 0; v < VECTOR; v++)
            take(x.at[v], &sum, &bad);
    }
    for (int64_t i = whole + threadIdx.x; i < end; i += THREADS)
        take(src[i], &sum, &bad);
    const double total = block_sum(sum, sums);
    const int any = __syncthreads_or(bad);
    if (threadIdx.x == 0) {
        stats[blockIdx.x].sum = total;
        stats[blockIdx.x].nonfinite = any;
    }
}

/* ---- Stage 2: one block ---- */

/* The last segment that begins at or before i, of those that are not empty the one that holds it. */
__device__ inline int32_t segment_of(const int32_t *offset, int32_t segments, int64_t i)
{
    int32_t low = 0, high = segments - 1;
    while (low < high) {
        const int32_t middle = low + (high - low + 1) / 2;
        if (offset[middle] <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* A warp sets the flags of the segments in which elements [begin, end) are not finite; some are. */
__device__ inline void flag_segments(const float *src, int64_t begin, int64_t end, const int32_t *offset,
                                     int32_t segments, int32_t *flags)
{
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int32_t first = segment_of(offset, segments, begin), last = segment_of(offset, segments, end - 1);
    for (int32_t t = first; t <= last; t++) {
        const int64_t from = max(begin, static_cast<int64_t>(offset[t]));
        const int64_t to = min(end, static_cast<int64_t>(offset[t + 1]));
        bool bad = first == last;
        for (int64_t i = from; i < to && !bad; i += 32)
            bad = __any_sync(ALL_LANES, i + lane < to && !is_finite(src[i + lane]));
        if (bad && lane == 0)
            flags[t] = 1;
    }
}

__global__ void __launch_bounds__(THREADS)
    k_grad_stats_finish(const float *src, int32_t length, int64_t chunk, int32_t chunks, const chunk_stats *stats,
                        const int32_t *offset, int32_t segments, int32_t *flags, cnn_train_state *state)
{
    __shared__ double sums[THREADS];
    const int thread = static_cast<int>(threadIdx.x);
    double sum = 0.0;
    bool bad = false;
    for (int32_t c = thread; c < chunks; c += THREADS) {
        sum += stats[c].sum;
        bad |= stats[c].nonfinite != 0;
    }
    for (int32_t t = thread; t < segments; t += THREADS)
        flags[t] = 0;
    const double total = block_sum(sum, sums);
    const int any = __syncthreads_or(bad); /* the flags are cleared, too */
    if (any)
        for (int32_t c = thread / 32; c < chunks; c += THREADS / 32)
            if (stats[c].nonfinite)
                flag_segments(src, c * chunk, min((c + 1) * chunk, static_cast<int64_t>(length)), offset, segments,
                              flags);
    if (thread == 0) {
        state->found_nonfinite = any;
        state->grad_sumsq = total;
    }
}

} // namespace

size_t cnn_cuda_grad_stats_workspace(const cnn_op_desc *desc)
{
    return static_cast<size_t>(chunks_of(desc->arg[CNN_ARG_SRC].c)) * sizeof(chunk_stats);
}

cudaError_t cnn_cuda_grad_stats(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                cudaStream_t stream)
{
    const int32_t length = desc->arg[CNN_ARG_SRC].c, chunks = chunks_of(length);
    const float *src = static_cast<const float *>(arg[CNN_ARG_SRC]);
    chunk_stats *stats = static_cast<chunk_stats *>(workspace);
    const cudaError_t error = CNN_LAUNCH(k_grad_stats, static_cast<unsigned>(chunks), THREADS, 0, stream, src, length,
                                         chunk_of(length), stats);
    if (error != cudaSuccess)
        return error;
    return CNN_LAUNCH(k_grad_stats_finish, 1, THREADS, 0, stream, src, length, chunk_of(length), chunks, stats,
                      static_cast<const int32_t *>(arg[CNN_ARG_INDEX]), desc->arg[CNN_ARG_DST].c,
                      static_cast<int32_t *>(arg[CNN_ARG_DST]), static_cast<cnn_train_state *>(arg[CNN_ARG_STATE]));
}
