/* GRAD_STATS: which segments of the gradients hold an inf or NaN, and the sum of their squares; running statistics.
 *
 * Blocks take chunks of the array, whose length follows from its length alone, and leave a sum (in double: 3 operations
 * for 4 bytes, which GPUs with few double units just keep up with) and whether all was finite: up to 1024 times 16
 * bytes. The last block adds the sums. Only in a step that overflowed does it look for the segments: a chunk inside one
 * segment names it, of others a warp reads the elements again. In any other it updates the running statistics of batch
 * norms: convnet's 768 are 3 a thread. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"

namespace
{

enum { THREADS = 256, VECTOR = 4, LEAST_CHUNK = THREADS * VECTOR * 4, MOST_CHUNKS = 1024 };
constexpr unsigned ALL_LANES = 0xffffffffu;

/* The op. */
struct gradients {
    const float *src; /* [length] */
    int32_t length, chunks, segments;
    int64_t chunk;         /* elements */
    const int32_t *offset; /* [segments + 1] */
    int32_t *flags;        /* [segments] */
    cnn_train_state *state;
    const float *batch; /* [statistics] */
    float *running;     /* [statistics] */
    int32_t statistics; /* 0: none */
    float momentum;
};

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

/* ---- One block a chunk ---- */

__device__ inline void take_chunk(const gradients &g, double *sums, chunk_stats *stats)
{
    typedef cnn_vec<float, VECTOR> vec;
    const float *src = g.src;
    const int64_t begin = blockIdx.x * g.chunk, end = min(begin + g.chunk, static_cast<int64_t>(g.length));
    const int64_t whole = begin + (end - begin) / VECTOR * VECTOR;
    double sum = 0.0;
    bool bad = false;
#pragma unroll 4
    for (int64_t i = begin + threadIdx.x * VECTOR; i < whole; i += THREADS * VECTOR) {
        const vec x = *reinterpret_cast<const vec *>(src + i);
#pragma unroll
        for (int v = 0; v < VECTOR; v++)
            take(x.at[v], &sum, &bad);
    }
    for (int64_t i = whole + threadIdx.x; i < end; i += THREADS)
        take(src[i], &sum, &bad);
    const double total = cnn_add_rows<THREADS>(sum, static_cast<int>(threadIdx.x), 1, sums);
    const int any = __syncthreads_or(bad);
    if (threadIdx.x == 0) {
        stats[blockIdx.x].sum = total;
        stats[blockIdx.x].nonfinite = any;
    }
}

/* ---- The last block ---- */

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
__device__ inline void flag_segments(const gradients &g, int64_t begin, int64_t end)
{
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int32_t first = segment_of(g.offset, g.segments, begin), last = segment_of(g.offset, g.segments, end - 1);
    for (int32_t t = first; t <= last; t++) {
        const int64_t from = max(begin, static_cast<int64_t>(g.offset[t]));
        const int64_t to = min(end, static_cast<int64_t>(g.offset[t + 1]));
        bool bad = first == last;
        for (int64_t i = from; i < to && !bad; i += 32)
            bad = __any_sync(ALL_LANES, i + lane < to && !is_finite(g.src[i + lane]));
        if (bad && lane == 0)
            g.flags[t] = 1;
    }
}

__device__ inline void add_chunks(const gradients &g, double *sums, const chunk_stats *stats)
{
    const int thread = static_cast<int>(threadIdx.x);
    double sum = 0.0;
    bool bad = false;
    for (int32_t c = thread; c < g.chunks; c += THREADS) {
        sum += stats[c].sum;
        bad |= stats[c].nonfinite != 0;
    }
    for (int32_t t = thread; t < g.segments; t += THREADS)
        g.flags[t] = 0;
    const double total = cnn_add_rows<THREADS>(sum, thread, 1, sums);
    const int any = __syncthreads_or(bad); /* the flags are cleared, too */
    for (int32_t i = thread; i < g.statistics && !any; i += THREADS)
        g.running[i] = g.running[i] + g.momentum * (g.batch[i] - g.running[i]);
    if (any)
        for (int32_t c = thread / 32; c < g.chunks; c += THREADS / 32)
            if (stats[c].nonfinite)
                flag_segments(g, c * g.chunk, min((c + 1) * g.chunk, static_cast<int64_t>(g.length)));
    if (thread == 0) {
        g.state->found_nonfinite = any;
        g.state->grad_sumsq = total;
    }
}

__global__ void __launch_bounds__(THREADS, 4) k_grad_stats(gradients g, chunk_stats *stats, unsigned *ticket)
{
    __shared__ double sums[THREADS];
    take_chunk(g, sums, stats);
    if (cnn_last_block(ticket, gridDim.x))
        add_chunks(g, sums, stats);
}

} // namespace

size_t cnn_cuda_grad_stats_workspace(const cnn_op_desc *desc)
{
    return static_cast<size_t>(chunks_of(desc->arg[CNN_ARG_SRC].c)) * sizeof(chunk_stats);
}

cudaError_t cnn_cuda_grad_stats(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                const cnn_cuda_queue *queue)
{
    gradients g = {};
    g.src = static_cast<const float *>(arg[CNN_ARG_SRC]);
    g.length = desc->arg[CNN_ARG_SRC].c;
    g.chunk = chunk_of(g.length);
    g.chunks = chunks_of(g.length);
    g.offset = static_cast<const int32_t *>(arg[CNN_ARG_INDEX]);
    g.segments = desc->arg[CNN_ARG_DST].c;
    g.flags = static_cast<int32_t *>(arg[CNN_ARG_DST]);
    g.state = static_cast<cnn_train_state *>(arg[CNN_ARG_STATE]);
    g.batch = static_cast<const float *>(arg[CNN_ARG_SRC2]);
    g.running = static_cast<float *>(arg[CNN_ARG_DST2]);
    g.statistics = desc->arg[CNN_ARG_SRC2].c;
    g.momentum = desc->momentum;
    return CNN_LAUNCH(k_grad_stats, static_cast<unsigned>(g.chunks), THREADS, 0, queue->stream, g,
                      static_cast<chunk_stats *>(workspace), queue->tickets);
}
