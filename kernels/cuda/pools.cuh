/* What the kernels of pools share. */
#ifndef CNN_CUDA_POOLS_CUH
#define CNN_CUDA_POOLS_CUH

#include "kernels/cuda/cuda.cuh"

/* The windows, `first` to `last`, that cover a position, counted from the padding's edge; last < first where none does.
 */
struct cnn_windows {
    int32_t first, last;
};

/* Windows p with 0 <= position - p*stride < kernel, of `count` in all. */
static __device__ inline cnn_windows cnn_windows_over(int32_t position, int32_t kernel, int32_t stride, int32_t count)
{
    cnn_windows w;
    w.first = position < kernel ? 0 : (position - kernel) / stride + 1;
    w.last = min(position / stride, count - 1);
    return w;
}

#endif
