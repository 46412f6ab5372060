/* Sums over pixels, channel by channel: [pixels, channels] -> f32 [channels]. The bias gradient of a layer.
 *
 * Bound by memory: it reads each element once, 2 (4) bytes for one addition. Two kernels. The first cuts the pixels
 * into slices, one block each: a thread adds up V neighbouring channels (16 bytes a load, neighbours in a row of a
 * warp) of every n-th pixel, and the block adds its threads in a tree. The second adds the slices. Slices and orders
 * follow from the shape, so the bits do not depend on the GPU. The gradient behind convnet's first convolution at batch
 * 64, [50176,128] f16, is 12.8 MB: 8.3 us at the A100's 1.56 TB/s, 3.8 us at the H100's 3.35 TB/s; 392 slices leave 0.2
 * MB of partial sums to the second kernel. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { THREADS = 256, PASSES = 8, MOST_SLICES = 1024, FINISH_LANES = 32, FINISH_ROWS = 8 };

/* How an array is cut: lanes * vector channels a block, rows * passes pixels a slice. */
struct cut {
    int vector, lanes, rows;
    int64_t slice_pixels;
    int slices;
};

int vector_of(cnn_dtype dtype, int32_t pitch)
{
    int vector = (int)(16 / cnn_dtype_bytes(dtype));
    return pitch % vector == 0 ? vector : 1;
}

cut cut_of(int64_t pixels, int32_t channels, int vector)
{
    cut c;
    c.vector = vector;
    c.lanes = 1;
    while (c.lanes < 32 && c.lanes * vector < channels)
        c.lanes *= 2;
    c.rows = THREADS / c.lanes;
    c.slice_pixels = (int64_t)c.rows * PASSES;
    while ((pixels + c.slice_pixels - 1) / c.slice_pixels > MOST_SLICES)
        c.slice_pixels *= 2;
    c.slices = (int)((pixels + c.slice_pixels - 1) / c.slice_pixels);
    return c;
}

/* Adds V neighbouring channels of a pixel. */
template <typename T, int V> __device__ inline void add_pixel(float *sum, const T *src)
{
    const cnn_vec<T, V> loaded = *reinterpret_cast<const cnn_vec<T, V> *>(src);
#pragma unroll
    for (int v = 0; v < V; v++)
        sum[v] += cnn_to_float(loaded.at[v]);
}

/* Block (column tile, slice) of lanes x rows threads writes dst[slice*channels + k]. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS)
    k_column_sum(const T *src, int64_t pixels, int32_t channels, int32_t pitch, int64_t slice_pixels, float *dst)
{
    __shared__ float part[THREADS * V]; /* [rows][V][lanes] */
    const int lanes = (int)blockDim.x, rows = (int)blockDim.y, lane = (int)threadIdx.x, row = (int)threadIdx.y;
    const int32_t first = ((int32_t)blockIdx.x * lanes + lane) * V;
    const int64_t begin = (int64_t)blockIdx.y * slice_pixels;
    const int64_t end = begin + slice_pixels < pixels ? begin + slice_pixels : pixels;
    float sum[V] = {};

    if (first < channels)
        for (int64_t pixel = begin + row; pixel < end; pixel += rows)
            add_pixel<T, V>(sum, src + pixel * pitch + first);
#pragma unroll
    for (int v = 0; v < V; v++)
        part[(row * V + v) * lanes + lane] = sum[v];
    for (int half = rows / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half)
#pragma unroll
            for (int v = 0; v < V; v++)
                part[(row * V + v) * lanes + lane] += part[((row + half) * V + v) * lanes + lane];
    }
    if (row == 0)
#pragma unroll
        for (int v = 0; v < V; v++)
            if (first + v < channels)
                dst[(int64_t)blockIdx.y * channels + first + v] = part[v * lanes + lane];
}

/* dst[k] = sum over slices of part[slice*channels + k]. */
__global__ void __launch_bounds__(FINISH_LANES *FINISH_ROWS)
    k_column_sum_finish(const float *part, int slices, int32_t channels, float *dst)
{
    __shared__ float sums[FINISH_ROWS][FINISH_LANES];
    const int lane = (int)threadIdx.x, row = (int)threadIdx.y;
    const int32_t k = (int32_t)blockIdx.x * FINISH_LANES + lane;
    float sum = 0;
    if (k < channels)
        for (int slice = row; slice < slices; slice += FINISH_ROWS)
            sum += part[(int64_t)slice * channels + k];
    sums[row][lane] = sum;
    for (int half = FINISH_ROWS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half)
            sums[row][lane] += sums[row + half][lane];
    }
    if (row == 0 && k < channels)
        dst[k] = sums[0][lane];
}

template <typename T, int V>
cudaError_t launch(const void *src, int64_t pixels, int32_t channels, int32_t pitch, float *dst, float *part,
                   cudaStream_t stream)
{
    const cut c = cut_of(pixels, channels, V);
    const dim3 grid((unsigned)((channels + c.lanes * V - 1) / (c.lanes * V)), (unsigned)c.slices);
    cudaError_t error =
        CNN_LAUNCH((k_column_sum<T, V>), grid, dim3((unsigned)c.lanes, (unsigned)c.rows), 0, stream,
                   static_cast<const T *>(src), pixels, channels, pitch, c.slice_pixels, c.slices == 1 ? dst : part);
    if (error == cudaSuccess && c.slices > 1)
        error = CNN_LAUNCH(k_column_sum_finish, dim3((unsigned)((channels + FINISH_LANES - 1) / FINISH_LANES)),
                           dim3(FINISH_LANES, FINISH_ROWS), 0, stream, part, c.slices, channels, dst);
    return error;
}

} // namespace

/* Enough for any pitch: loads of single channels make the most slices. */
size_t cnn_cuda_column_sum_workspace(int64_t pixels, int32_t channels)
{
    int slices = 0;
    for (int vector = 1; vector <= 8; vector *= 2) {
        const int more = cut_of(pixels, channels, vector).slices;
        slices = more > slices ? more : slices;
    }
    return slices == 1 ? 0 : (size_t)slices * (size_t)channels * sizeof(float);
}

cudaError_t cnn_cuda_column_sum(const void *src, cnn_dtype dtype, int64_t pixels, int32_t channels, int32_t pitch,
                                float *dst, void *workspace, cudaStream_t stream)
{
    const bool vectors = vector_of(dtype, pitch) > 1;
    float *part = static_cast<float *>(workspace);
    switch (dtype) {
    case CNN_F32:
        return vectors ? launch<float, 4>(src, pixels, channels, pitch, dst, part, stream)
                       : launch<float, 1>(src, pixels, channels, pitch, dst, part, stream);
    case CNN_F16:
        return vectors ? launch<__half, 8>(src, pixels, channels, pitch, dst, part, stream)
                       : launch<__half, 1>(src, pixels, channels, pitch, dst, part, stream);
    case CNN_BF16:
        return vectors ? launch<__nv_bfloat16, 8>(src, pixels, channels, pitch, dst, part, stream)
                       : launch<__nv_bfloat16, 1>(src, pixels, channels, pitch, dst, part, stream);
    default:
        return cudaErrorInvalidValue;
    }
}
