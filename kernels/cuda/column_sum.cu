/* Sums over pixels, channel by channel: [pixels, channels] -> f32 [channels]. The bias gradient of a layer.
 *
 * Bound by memory: it reads each element once, 2 (4) bytes for one addition. The pixels are cut into slices, a block
 * each for up to 128 bytes of channels: a thread adds up V neighbouring channels (16 bytes a load, neighbours in a row)
 * of every n-th pixel, the block adds its threads in a tree, and the last block of some channels adds their slices.
 * Slices and orders follow from the shape, so the bits do not depend on the GPU. The gradient behind convnet's first
 * convolution at batch 64, [50176,128] f16, is 12.8 MB: 8.3 us at the A100's 1.56 TB/s, 3.8 us at the H100's 3.35 TB/s;
 * each of its two last blocks reads 196 slices of 64 channels, 50 KB from L2. */
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"

namespace
{

enum { THREADS = 256, PASSES = 8, MOST_SLICES = 256, ROW_BYTES = 128 };

/* How an array is cut: lanes * vector channels a block, rows * passes pixels a slice. */
struct cut {
    int vector, lanes, rows;
    int64_t slice_pixels;
    int slices;
};

/* The array, or some columns of it. */
struct columns {
    int64_t pixels, slice_pixels;
    int32_t channels, pitch;
    float *part; /* [slices, channels] */
    float *dst;
};

int vector_of(cnn_dtype dtype, int32_t pitch)
{
    int vector = (int)(16 / cnn_dtype_bytes(dtype));
    return pitch % vector == 0 ? vector : 1;
}

cut cut_of(int64_t pixels, int32_t channels, int vector)
{
    const int most = vector > 1 ? ROW_BYTES / 16 : 32;
    cut c;
    c.vector = vector;
    c.lanes = 1;
    while (c.lanes < most && c.lanes * vector < channels)
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

/* dst[k] = sum over slices of part[slice*channels + k], for the `width` channels of this block's tile. */
__device__ inline void add_slices(const columns &c, int slices, int thread, int width, float *sums)
{
    const int32_t k = (int32_t)blockIdx.x * width + thread % width;
    float sum = 0;
    if (k < c.channels)
#pragma unroll 8
        for (int slice = thread / width; slice < slices; slice += THREADS / width)
            sum += c.part[(int64_t)slice * c.channels + k];
    sum = cnn_add_rows<THREADS>(sum, thread, width, sums);
    if (thread < width && k < c.channels)
        c.dst[k] = sum;
}

/* Block (column tile, slice) of lanes x rows threads; tickets: one a tile. */
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) k_column_sum(const T *src, columns c, unsigned *tickets)
{
    __shared__ float sums[V * THREADS]; /* [V][rows][lanes] */
    const int lanes = (int)blockDim.x, rows = (int)blockDim.y, lane = (int)threadIdx.x, row = (int)threadIdx.y;
    const int slices = (int)gridDim.y, thread = row * lanes + lane;
    const int32_t first = ((int32_t)blockIdx.x * lanes + lane) * V;
    const int64_t begin = (int64_t)blockIdx.y * c.slice_pixels;
    const int64_t end = begin + c.slice_pixels < c.pixels ? begin + c.slice_pixels : c.pixels;
    float *part = slices == 1 ? c.dst : c.part + (int64_t)blockIdx.y * c.channels;
    float sum[V] = {};

    if (first < c.channels)
        for (int64_t pixel = begin + row; pixel < end; pixel += rows)
            add_pixel<T, V>(sum, src + pixel * c.pitch + first);
#pragma unroll
    for (int v = 0; v < V; v++)
        sums[v * THREADS + thread] = sum[v];
    for (int half = rows / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row < half)
#pragma unroll
            for (int v = 0; v < V; v++)
                sums[v * THREADS + thread] += sums[v * THREADS + thread + half * lanes];
    }
    if (row == 0)
#pragma unroll
        for (int v = 0; v < V; v++)
            if (first + v < c.channels)
                part[first + v] = sums[v * THREADS + lane];
    if (slices > 1 && cnn_last_block(tickets + blockIdx.x, (unsigned)slices))
        add_slices(c, slices, thread, lanes * V, sums);
}

/* As many channels at once as there are tickets. */
template <typename T, int V>
cudaError_t launch(const void *src, int64_t pixels, int32_t channels, int32_t pitch, float *dst, float *part,
                   const cnn_cuda_queue *queue)
{
    const cut cut = cut_of(pixels, channels, V);
    const int32_t width = cut.lanes * V, most = width * CNN_CUDA_TICKETS;
    cudaError_t error = cudaSuccess;
    for (int64_t first = 0; first < channels && error == cudaSuccess; first += most) {
        const int32_t some = channels - first < most ? (int32_t)(channels - first) : most;
        const columns c = {pixels, cut.slice_pixels, some, pitch, part, dst + first};
        const dim3 grid((unsigned)((some + width - 1) / width), (unsigned)cut.slices);
        error = CNN_LAUNCH((k_column_sum<T, V>), grid, dim3((unsigned)cut.lanes, (unsigned)cut.rows), 0, queue->stream,
                           static_cast<const T *>(src) + first, c, queue->tickets);
    }
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
                                float *dst, void *workspace, const cnn_cuda_queue *queue)
{
    const bool vectors = vector_of(dtype, pitch) > 1;
    float *part = static_cast<float *>(workspace);
    switch (dtype) {
    case CNN_F32:
        return vectors ? launch<float, 4>(src, pixels, channels, pitch, dst, part, queue)
                       : launch<float, 1>(src, pixels, channels, pitch, dst, part, queue);
    case CNN_F16:
        return vectors ? launch<__half, 8>(src, pixels, channels, pitch, dst, part, queue)
                       : launch<__half, 1>(src, pixels, channels, pitch, dst, part, queue);
    case CNN_BF16:
        return vectors ? launch<__nv_bfloat16, 8>(src, pixels, channels, pitch, dst, part, queue)
                       : launch<__nv_bfloat16, 1>(src, pixels, channels, pitch, dst, part, queue);
    default:
        return cudaErrorInvalidValue;
    }
}
