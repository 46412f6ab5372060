/* What batch norm with pooling shares, forward (bn_pool.cu) and backward (bn_pool_grad.cu): how tensors are cut, and
 * which kernels a descriptor takes. */
#ifndef CNN_CUDA_BN_POOL_CUH
#define CNN_CUDA_BN_POOL_CUH

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"

namespace
{

enum {
    THREADS = 256,
    BLOCKS_PER_SM = 3,
    HELD = 4, /* pixels that a thread has in registers */
    GROUP = CNN_CUDA_BN_POOL_GROUP,
    MOST_SLICES = CNN_CUDA_BN_POOL_MOST_SLICES,
    ENOUGH_BLOCKS = 132 * BLOCKS_PER_SM, /* they fill an H100 or H200 once, an A100 a little more */
    ROW_BYTES = 128,
    MOST_WIDTH = 64, /* channels of a block */
    NO_INDEX = 255
};

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

/* Slices of `per_thread` rows a thread, or twice as many and so on, until the blocks fill the GPU no more than once. */
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
    for (;; c.slice *= 2) {
        const int64_t slices = (length + c.slice - 1) / c.slice;
        c.slices = (int)slices;
        if (slices <= 1 || (slices <= MOST_SLICES && slices * c.tiles <= ENOUGH_BLOCKS))
            return c;
    }
}

/* Counters that the slices of a tile need. */
__device__ inline unsigned tickets_of(unsigned slices)
{
    return (slices + GROUP - 1) / GROUP + 1;
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
    const int32_t line = (int32_t)number / columns; /* suits() keeps pixels below 2^30 */
    at.q = (int32_t)number % columns;
    at.p = line % rows;
    at.n = line / rows;
    return at;
}

/* take(i, values) for the pixels of the window at `corner`, in row order; where its size K is known they are all on
 * their way before the first is needed. */
template <typename T, int V, int K, typename F>
__device__ inline void take_window(const bn_pool &b, const T *corner, const F &take)
{
    typedef cnn_vec<T, V> vec;
    if constexpr (K > 0) {
        vec values[K * K];
#pragma unroll
        for (int i = 0; i < K * K; i++)
            values[i] = *reinterpret_cast<const vec *>(corner + (int64_t)(i / K * b.w + i % K) * b.c);
#pragma unroll
        for (int i = 0; i < K * K; i++)
            take(i, values[i]);
    } else {
        for (int32_t i = 0; i < b.kernel * b.kernel; i++)
            take(i, *reinterpret_cast<const vec *>(corner + (int64_t)(i / b.kernel * b.w + i % b.kernel) * b.c));
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

/* Pixels and windows a thread at the least. */
enum { PIXELS_EACH = HELD, WINDOWS_EACH = 2 };

/* Blocks for `items` rows of work: WINDOWS_EACH a thread or more, and no more blocks than fill a GPU twice. */
dim3 loop_grid(int64_t items, const cut &c)
{
    const int64_t blocks = (items + c.rows * WINDOWS_EACH - 1) / (c.rows * WINDOWS_EACH);
    const int64_t most = 2 * ENOUGH_BLOCKS / c.tiles + 1;
    return dim3((unsigned)(blocks < most ? blocks : most), (unsigned)c.tiles);
}

/* 16 bytes at once where every pixel begins on 16 bytes. */
int vector_of(const cnn_tensor_desc *x)
{
    const int vector = (int)(16 / cnn_dtype_bytes(x->dtype));
    return x->c % vector == 0 ? vector : 1;
}

/* M::launch<element type, vector, window>(desc, arg, workspace, queue). 2 x 2 windows and vectors have kernels of their
 * own. */
template <typename M, typename T, int V>
cudaError_t with_window(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                        const cnn_cuda_queue *queue)
{
    if constexpr (V > 1)
        if (desc->pool_kernel == 2 && desc->pool_stride == 2)
            return M::template launch<T, V, 2>(desc, arg, workspace, queue);
    return M::template launch<T, V, 0>(desc, arg, workspace, queue);
}

template <typename M>
cudaError_t with_type(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                      const cnn_cuda_queue *queue)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    const bool vectors = vector_of(x) > 1;
    switch (x->dtype) {
    case CNN_F32:
        return (vectors ? with_window<M, float, 4> : with_window<M, float, 1>)(desc, arg, workspace, queue);
    case CNN_F16:
        return (vectors ? with_window<M, __half, 8> : with_window<M, __half, 1>)(desc, arg, workspace, queue);
    default:
        return (vectors ? with_window<M, __nv_bfloat16, 8> : with_window<M, __nv_bfloat16, 1>)(desc, arg, workspace,
                                                                                               queue);
    }
}

} // namespace

#endif
