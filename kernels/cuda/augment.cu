/* Gathers, augments and normalizes a batch of images in one pass over device memory.
 *
 * A block makes an image, in shared memory: two planes of floats, 7 KB for 28 x 28 x 1, 28 KB for 32 x 32 x 3. The
 * steps are those of the CPU (kernels/augment), with a warp a row; sums of the whole image are made by one thread each,
 * in the CPU's order, side by side in the block's 8 warps. So a batch has the same bytes as on the CPU, whatever they
 * become here: f32 is IEEE on both sides, and -fmad=false keeps products and sums apart.
 *
 * 64 images of 28 x 28 read 50 KB and write 100 KB in f16: nothing beside 3.1 TB/s. What takes time is the sums, 784
 * dependent additions of 4 cycles, 2 us each: 2 of them an image, some 12 one after the other for a digit with a serif.
 * The images of a batch run at the same time on as many SMs. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

#define CNN_STEP static __device__ inline
#define CNN_STEP_ROW ((int32_t)threadIdx.y)
#define CNN_STEP_ROWS ((int32_t)blockDim.y)
#define CNN_STEP_COLUMN ((int32_t)threadIdx.x)
#define CNN_STEP_COLUMNS ((int32_t)blockDim.x)
#define CNN_STEP_SUM (threadIdx.x == 0 ? (int32_t)threadIdx.y : (int32_t)CNN_AUGMENT_SUMS)
#define CNN_STEP_SUMS ((int32_t)blockDim.y)
#define CNN_STEP_SYNC() __syncthreads()
#include "kernels/augment/image.h"

namespace
{

enum { LANES = 32, ROWS = 8 };
static_assert((int)ROWS == (int)CNN_AUGMENT_SUMS, "a warp a sum");

size_t plane_floats(const cnn_augment_shape &shape)
{
    return ((size_t)shape.height + 2) * ((size_t)shape.width + 2) * (size_t)shape.channels;
}

/* What becomes of a byte of channel c. */
template <typename T> __device__ inline T finished(uint8_t byte, const float *table, int32_t c)
{
    return cnn_from_float<T>(table[c * 256 + byte]);
}

template <> __device__ inline uint8_t finished<uint8_t>(uint8_t byte, const float *table, int32_t c)
{
    (void)table, (void)c;
    return byte;
}

/* Block n makes image n. */
template <typename T> __global__ void __launch_bounds__(LANES *ROWS, 1) k_augment(cnn_cuda_augmentation a, T *dst)
{
    __shared__ float sums[CNN_AUGMENT_SUMS];
    CNN_DYNAMIC_SHARED(float, planes);
    const int32_t height = a.shape.height, channels = a.shape.channels, values = a.shape.width * channels;
    const int64_t at = (a.state ? a.state->cursor : 0) + (int64_t)blockIdx.x, image = a.index ? a.index[at] : at;
    const cnn_augment_params *params = a.params + at;
    const uint8_t *src = a.images + image * height * values;
    cnn_plane plane = {planes, height, a.shape.width, channels}, spare = plane;
    spare.pixels = planes + (height + 2) * (a.shape.width + 2) * channels;
    if (params->augmented)
        augment_image(params, a.mirror, src, &plane, &spare, sums);
    for (int32_t y = CNN_STEP_ROW; y < height; y += CNN_STEP_ROWS) {
        const float *row = cnn_plane_at(&plane, y, 0);
        for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS) {
            const uint8_t byte = params->augmented ? augment_byte(row[i]) : src[y * values + i];
            dst[((int64_t)blockIdx.x * height + y) * values + i] = finished<T>(byte, a.table, i % channels);
        }
    }
}

template <typename T> cudaError_t launch(const cnn_cuda_augmentation *a, cudaStream_t stream)
{
    const size_t shared = cnn_cuda_augment_shared(a->shape);
    cudaError_t error = cudaSuccess;
    if (shared > (48u << 10))
        error = CNN_ALLOW_SHARED(k_augment<T>, shared);
    return error != cudaSuccess ? error
                                : CNN_LAUNCH(k_augment<T>, dim3((unsigned)a->count), dim3(LANES, ROWS), shared, stream,
                                             *a, static_cast<T *>(a->dst));
}

} // namespace

size_t cnn_cuda_augment_shared(cnn_augment_shape shape)
{
    return 2 * plane_floats(shape) * sizeof(float);
}

cudaError_t cnn_cuda_augment(const cnn_cuda_augmentation *augmentation, cudaStream_t stream)
{
    switch (augmentation->dtype) {
    case CNN_U8:
        return launch<uint8_t>(augmentation, stream);
    case CNN_F32:
        return launch<float>(augmentation, stream);
    case CNN_F16:
        return launch<__half>(augmentation, stream);
    case CNN_BF16:
        return launch<__nv_bfloat16>(augmentation, stream);
    default:
        return cudaErrorInvalidValue;
    }
}
