/* Sums over the blocks of a grid in one kernel: each block leaves its part in memory and draws a ticket; the one that
 * draws the last adds up what all have left, in the order of the blocks, so that the bits do not depend on which one it
 * is. A second kernel would cost a launch, and the GPU would run empty before it; here a block goes on at once, while
 * those of other channels still work. What it has to read should be little: an SM takes some 64 bytes a clock from L2.
 */
#ifndef CNN_CUDA_LAST_BLOCK_CUH
#define CNN_CUDA_LAST_BLOCK_CUH

#include "kernels/cuda/cuda.cuh"

/* True in the last of `blocks` blocks that come here with the same counter; what the others wrote before, it may then
 * read. All threads of a block take part. The counter is 0 before the first and after the last.
 *
 * The barrier and the fence of one thread stand for all of the block, as in a barrier of a whole grid. */
static __device__ inline bool cnn_last_block(unsigned *ticket, unsigned blocks)
{
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0 && threadIdx.z == 0) {
        __threadfence();
        last = atomicInc(ticket, blocks - 1) == blocks - 1;
        __threadfence();
    }
    __syncthreads();
    return last;
}

/* Adds over the rows of a block whose threads are taken as [THREADS/width][width], width a power of two: the same sum
 * in all threads of a column. sums [THREADS]. */
template <int THREADS, typename T> static __device__ inline T cnn_add_rows(T value, int thread, int width, T *sums)
{
    __syncthreads(); /* sums of before have been read */
    sums[thread] = value;
    __syncthreads();
    for (int rest = THREADS / 2; rest >= width; rest /= 2) {
        if (thread < rest)
            sums[thread] += sums[thread + rest];
        __syncthreads();
    }
    return sums[thread % width];
}

#endif
