/* GRID, GRID_GRAD: weights on a grid whose step is learned.
 *
 * 4 bytes read and 4 or 2 written for each weight, and 8 read and at most 4 written for its gradient: bound by memory.
 * The step's exp is computed by one thread of a block. The gradient of the step is a sum over chunks whose length
 * follows from that of the array; the last block adds up to 1024 of them. */
#include "kernels/cpu/exp_log.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"

namespace
{

enum { THREADS = 256, VECTOR = 4, LEAST_CHUNK = THREADS * VECTOR * 4, MOST_CHUNKS = 1024 };

struct grid {
    const float *weights; /* [count] */
    const float *theta;   /* [1] */
    int64_t count;
    float step, levels;
};

grid grid_of(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT])
{
    grid g = {};
    g.weights = static_cast<const float *>(arg[CNN_ARG_SRC]);
    g.theta = static_cast<const float *>(arg[CNN_ARG_SRC2]);
    g.count = cnn_desc_elements(&desc->arg[CNN_ARG_SRC]);
    g.step = desc->step;
    g.levels = static_cast<float>(desc->levels);
    return g;
}

/* step*exp(theta), the same in all threads of a block. */
__device__ inline float step_now(const grid &g)
{
    __shared__ float step;
    if (threadIdx.x == 0)
        step = static_cast<float>(static_cast<double>(g.step) * cnn_exp(static_cast<double>(*g.theta)));
    __syncthreads();
    return step;
}

/* clamp(v, -levels, levels), rounded to even; NaN stays, -0 becomes 0. */
__device__ inline float point_of(float v, float levels)
{
    v = v > levels ? levels : v;
    v = v < -levels ? -levels : v;
    return rintf(v) + 0.0f;
}

/* ---- GRID ---- */

template <typename T> __global__ void __launch_bounds__(THREADS) k_grid(grid g, T *dst)
{
    typedef cnn_vec<float, VECTOR> floats;
    typedef cnn_vec<T, VECTOR> rounded;
    const float step = step_now(g);
    const int64_t vectors = g.count / VECTOR;
    for (int64_t i = cnn_first_item(); i < vectors; i += cnn_item_step()) {
        const floats w = reinterpret_cast<const floats *>(g.weights)[i];
        rounded y;
#pragma unroll
        for (int v = 0; v < VECTOR; v++)
            y.at[v] = cnn_from_float<T>(point_of(w.at[v] / step, g.levels) * step);
        reinterpret_cast<rounded *>(dst)[i] = y;
    }
    for (int64_t i = vectors * VECTOR + cnn_first_item(); i < g.count; i += cnn_item_step())
        dst[i] = cnn_from_float<T>(point_of(g.weights[i] / step, g.levels) * step);
}

template <typename T>
cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], const cnn_cuda_queue *queue)
{
    const grid g = grid_of(desc, arg);
    return CNN_LAUNCH(k_grid<T>, cnn_blocks(g.count / VECTOR, THREADS), THREADS, 0, queue->stream, g,
                      static_cast<T *>(arg[CNN_ARG_DST]));
}

/* ---- GRID_GRAD ---- */

int64_t chunk_of(int64_t count)
{
    int64_t chunk = LEAST_CHUNK;
    while ((count + chunk - 1) / chunk > MOST_CHUNKS)
        chunk *= 2;
    return chunk;
}

unsigned chunks_of(int64_t count)
{
    return static_cast<unsigned>((count + chunk_of(count) - 1) / chunk_of(count));
}

/* A weight's share of the step's gradient; its own stays where its point is no end of the grid. */
__device__ inline double take(float w, float *gradient, float step, float levels)
{
    const float v = w / step, point = point_of(v, levels) * step, g = *gradient;
    const bool inside = v <= levels && v >= -levels;
    if (!inside)
        *gradient = 0.0f;
    return static_cast<double>(g) * (static_cast<double>(point) - (inside ? static_cast<double>(w) : 0.0));
}

__device__ inline double take_chunk(const grid &g, float *gradient, float step, int64_t chunk)
{
    typedef cnn_vec<float, VECTOR> vec;
    const int64_t begin = blockIdx.x * chunk, end = min(begin + chunk, g.count);
    const int64_t whole = begin + (end - begin) / VECTOR * VECTOR;
    double sum = 0.0;
    for (int64_t i = begin + threadIdx.x * VECTOR; i < whole; i += THREADS * VECTOR) {
        const vec w = *reinterpret_cast<const vec *>(g.weights + i);
        vec dw = *reinterpret_cast<const vec *>(gradient + i);
#pragma unroll
        for (int v = 0; v < VECTOR; v++)
            sum += take(w.at[v], &dw.at[v], step, g.levels);
        *reinterpret_cast<vec *>(gradient + i) = dw;
    }
    for (int64_t i = whole + threadIdx.x; i < end; i += THREADS)
        sum += take(g.weights[i], gradient + i, step, g.levels);
    return sum;
}

__global__ void __launch_bounds__(THREADS)
    k_grid_grad(grid g, float *gradient, int64_t chunk, double *chunks, float *result, unsigned *ticket)
{
    __shared__ double sums[THREADS];
    const int thread = static_cast<int>(threadIdx.x);
    const double sum = cnn_add_rows<THREADS>(take_chunk(g, gradient, step_now(g), chunk), thread, 1, sums);
    if (thread == 0)
        chunks[blockIdx.x] = sum;
    if (!cnn_last_block(ticket, gridDim.x))
        return;
    double all = 0.0;
    for (unsigned c = threadIdx.x; c < gridDim.x; c += THREADS)
        all += chunks[c];
    all = cnn_add_rows<THREADS>(all, thread, 1, sums);
    if (thread == 0)
        *result = static_cast<float>(all);
}

} // namespace

cudaError_t cnn_cuda_grid(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    switch (desc->arg[CNN_ARG_DST].dtype) {
    case CNN_F16:
        return launch<__half>(desc, arg, queue);
    case CNN_BF16:
        return launch<__nv_bfloat16>(desc, arg, queue);
    default:
        return launch<float>(desc, arg, queue);
    }
}

size_t cnn_cuda_grid_grad_workspace(const cnn_op_desc *desc)
{
    return chunks_of(cnn_desc_elements(&desc->arg[CNN_ARG_SRC])) * sizeof(double);
}

cudaError_t cnn_cuda_grid_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                               const cnn_cuda_queue *queue)
{
    const grid g = grid_of(desc, arg);
    return CNN_LAUNCH(k_grid_grad, chunks_of(g.count), THREADS, 0, queue->stream, g,
                      static_cast<float *>(arg[CNN_ARG_DST]), chunk_of(g.count), static_cast<double *>(workspace),
                      static_cast<float *>(arg[CNN_ARG_DST2]), queue->tickets);
}
