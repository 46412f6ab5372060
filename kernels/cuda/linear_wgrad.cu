/* Weight and bias gradients of a linear layer with few outputs: the classes of a network.
 *
 *   dw[k,l] = sum_n dy[n,k] * x[n,l]        db[k] = sum_n dy[n,k]
 *
 * Bound by memory where the images are many: 32 additions and multiplications for 2 bytes of x in f16. convnet's last
 * layer, 512 -> 10, at batch 512: 0.5 MB, less than a launch takes. cuBLASLt has no tensor-core kernel where a row of
 * dy is 20 bytes, and takes 12 us at batch 64 and 52 us at batch 512 (H200).
 *
 * A block sums SLICE images for 32 * V columns of x: a thread takes V columns of every ROWS-th image and adds for all
 * outputs at once; dy lies in shared memory. Then its rows are added, and by the last block of some columns the slices.
 * Partitions and orders follow from the shape. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"

namespace
{

enum { LANES = 32, ROWS = 8, THREADS = LANES * ROWS, OUTPUTS = CNN_CUDA_FEW_OUTPUTS, HELD = 8, SLICE = ROWS * HELD };

struct linear {
    int32_t images, outputs;
    int64_t length;       /* of a row of x */
    int32_t slice_images; /* a multiple of SLICE */
    float *dw, *db;       /* db may be NULL */
    float *parts;         /* [slices][column blocks][OUTPUTS][LANES * V], then [slices][OUTPUTS] of db */
};

/* sums += dy x over images [begin, end), at most SLICE; gradients [SLICE][OUTPUTS] hold dy, 0 beyond. */
template <typename T, int V>
__device__ inline void add_images(const linear &s, const T *x, int64_t column, int32_t begin, int32_t end,
                                  const float (*gradients)[OUTPUTS], float (&sums)[OUTPUTS][V])
{
    typedef cnn_vec<T, V> vec;
    vec held[HELD] = {};
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const int32_t n = begin + i * ROWS + (int32_t)threadIdx.y;
        if (n < end && column < s.length)
            held[i] = *reinterpret_cast<const vec *>(x + n * s.length + column);
    }
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const float *gradient = gradients[i * ROWS + (int)threadIdx.y];
#pragma unroll
        for (int k = 0; k < OUTPUTS; k++)
#pragma unroll
            for (int v = 0; v < V; v++)
                sums[k][v] = fmaf(gradient[k], cnn_to_float(held[i].at[v]), sums[k][v]);
    }
}

/* Block (columns, slice). tickets: one a block of columns. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) k_linear_wgrad(linear s, const T *x, const T *dy, unsigned *tickets)
{
    enum { WIDTH = LANES * V, SUMS = OUTPUTS * WIDTH };
    __shared__ float gradients[SLICE][OUTPUTS];
    __shared__ float rows[ROWS][SUMS];
    const int thread = (int)(threadIdx.y * LANES + threadIdx.x), slices = (int)gridDim.y;
    const int64_t first = (int64_t)blockIdx.x * WIDTH, column = first + threadIdx.x * V;
    const int32_t from = (int32_t)blockIdx.y * s.slice_images;
    const int32_t to = from + s.slice_images < s.images ? from + s.slice_images : s.images;
    float *part = s.parts + ((int64_t)blockIdx.y * gridDim.x + blockIdx.x) * SUMS;
    float *biases = s.parts + (int64_t)slices * gridDim.x * SUMS;
    float sums[OUTPUTS][V] = {}, bias = 0;

    for (int32_t begin = from; begin < to; begin += SLICE) {
        const int32_t end = begin + SLICE < to ? begin + SLICE : to;
        __syncthreads(); /* gradients of before have been read */
#pragma unroll
        for (int i = 0; i < SLICE * OUTPUTS / THREADS; i++) {
            const int at = thread + i * THREADS, k = at % OUTPUTS;
            const int32_t n = begin + at / OUTPUTS;
            gradients[at / OUTPUTS][k] = n < end && k < s.outputs ? cnn_to_float(dy[(int64_t)n * s.outputs + k]) : 0;
        }
        __syncthreads();
        add_images<T, V>(s, x, column, begin, end, gradients, sums);
        if (thread < OUTPUTS)
            for (int i = 0; i < SLICE; i++)
                bias += gradients[i][thread];
    }
#pragma unroll
    for (int k = 0; k < OUTPUTS; k++)
#pragma unroll
        for (int v = 0; v < V; v++)
            rows[threadIdx.y][k * WIDTH + (int)threadIdx.x * V + v] = sums[k][v];
    __syncthreads();
    for (int at = thread; at < SUMS; at += THREADS) {
        float sum = 0;
#pragma unroll
        for (int row = 0; row < ROWS; row++)
            sum += rows[row][at];
        part[at] = sum;
    }
    if (blockIdx.x == 0 && thread < OUTPUTS)
        biases[(int64_t)blockIdx.y * OUTPUTS + thread] = bias;

    if (!cnn_last_block(tickets + blockIdx.x, gridDim.y))
        return;
    for (int at = thread; at < SUMS; at += THREADS) {
        const int k = at / WIDTH;
        const int64_t l = first + at % WIDTH;
        float sum = 0;
#pragma unroll 8
        for (int slice = 0; slice < slices; slice++)
            sum += s.parts[((int64_t)slice * gridDim.x + blockIdx.x) * SUMS + at];
        if (k < s.outputs && l < s.length)
            s.dw[k * s.length + l] = sum;
    }
    if (blockIdx.x != 0 || thread >= s.outputs || !s.db)
        return;
    bias = 0;
    for (int slice = 0; slice < slices; slice++)
        bias += biases[(int64_t)slice * OUTPUTS + thread];
    s.db[thread] = bias;
}

/* How images are cut into slices. */
struct cut {
    int32_t images, slices;
};

cut cut_of(int32_t images)
{
    enum { MOST = 64 };
    cut c = {SLICE, 0};
    while ((images + c.images - 1) / c.images > MOST)
        c.images *= 2;
    c.slices = (images + c.images - 1) / c.images;
    return c;
}

int64_t length_of(const cnn_tensor_desc *x)
{
    return (int64_t)x->h * x->w * x->c;
}

int vector_of(const cnn_tensor_desc *x)
{
    return length_of(x) % 2 == 0 ? 2 : 1;
}

int64_t column_blocks(const cnn_tensor_desc *x)
{
    const int64_t width = LANES * vector_of(x);
    return (length_of(x) + width - 1) / width;
}

template <typename T, int V>
cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                   const cnn_cuda_queue *queue)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    const cut c = cut_of(x->n);
    const linear s = {x->n,
                      desc->arg[CNN_ARG_SRC2].c,
                      length_of(x),
                      c.images,
                      static_cast<float *>(arg[CNN_ARG_DST]),
                      static_cast<float *>(arg[CNN_ARG_DST2]),
                      static_cast<float *>(workspace)};
    return CNN_LAUNCH((k_linear_wgrad<T, V>),
                      dim3(static_cast<unsigned>(column_blocks(x)), static_cast<unsigned>(c.slices)), dim3(LANES, ROWS),
                      0, queue->stream, s, static_cast<const T *>(arg[CNN_ARG_SRC]),
                      static_cast<const T *>(arg[CNN_ARG_SRC2]), queue->tickets);
}

} // namespace

size_t cnn_cuda_linear_wgrad_few_workspace(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    const int64_t sums = column_blocks(x) * OUTPUTS * LANES * vector_of(x) + OUTPUTS;
    return (size_t)(cut_of(x->n).slices * sums) * sizeof(float);
}

cudaError_t cnn_cuda_linear_wgrad_few(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                      const cnn_cuda_queue *queue)
{
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_SRC];
    const bool vectors = vector_of(x) > 1;
    switch (x->dtype) {
    case CNN_F16:
        return (vectors ? launch<__half, 2> : launch<__half, 1>)(desc, arg, workspace, queue);
    case CNN_BF16:
        return (vectors ? launch<__nv_bfloat16, 2> : launch<__nv_bfloat16, 1>)(desc, arg, workspace, queue);
    default:
        return (vectors ? launch<float, 2> : launch<float, 1>)(desc, arg, workspace, queue);
    }
}
