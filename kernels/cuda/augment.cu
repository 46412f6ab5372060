/* Gathers, augments and normalizes a batch of images in one pass over device memory.
 *
 * A block makes an image, in shared memory: two planes of floats, 7 KB for 28 x 28 x 1, 28 KB for 32 x 32 x 3; larger
 * ones than 48 KB in device memory. The
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
#define CNN_STEP_TOGETHER 1
#define CNN_STEP_ALONE false
#define CNN_STEP_SUM (threadIdx.x == 0 ? (int32_t)threadIdx.y : (int32_t)CNN_AUGMENT_SUMS)
#define CNN_STEP_SUMS ((int32_t)blockDim.y)
#define CNN_STEP_SYNC() __syncthreads()
#include "kernels/augment/image.h"

namespace
{

enum { LANES = 32, ROWS = 8, SHARED_BYTES = 48 << 10 };
static_assert((int)ROWS == (int)CNN_AUGMENT_SUMS, "a warp a sum");

/* Of both planes of an image, with their borders. */
size_t planes_bytes(const cnn_augment_shape &shape)
{
    return 2 * ((size_t)shape.height + 2) * ((size_t)shape.width + 2) * (size_t)shape.channels * sizeof(float);
}

/* Value i of dst is what becomes of a byte of channel c. The type is looked up here: four kernels that differ in
 * nothing else would take four times as long to compile. */
__device__ inline void store(const cnn_cuda_augmentation &a, int64_t i, uint8_t byte, int32_t c)
{
    if (a.dtype == CNN_U8) {
        static_cast<uint8_t *>(a.dst)[i] = byte;
        return;
    }
    const float value = a.table[c * 256 + byte];
    if (a.dtype == CNN_F32)
        static_cast<float *>(a.dst)[i] = value;
    else if (a.dtype == CNN_F16)
        static_cast<__half *>(a.dst)[i] = cnn_from_float<__half>(value);
    else
        static_cast<__nv_bfloat16 *>(a.dst)[i] = cnn_from_float<__nv_bfloat16>(value);
}

/* Block n makes image n. */
__global__ void __launch_bounds__(LANES *ROWS, 1) k_augment(cnn_cuda_augmentation a)
{
    __shared__ float sums[CNN_AUGMENT_SUMS];
    CNN_DYNAMIC_SHARED(float, shared);
    const int32_t height = a.shape.height, channels = a.shape.channels, values = a.shape.width * channels;
    const int64_t image =
        a.index ? a.index[(a.state ? a.state->cursor : 0) + (int64_t)blockIdx.x] : (int64_t)blockIdx.x;
    const cnn_augment_params *params = a.params + blockIdx.x;
    const int64_t plane_floats = (int64_t)(height + 2) * (a.shape.width + 2) * channels;
    float *planes = a.planes ? a.planes + 2 * plane_floats * blockIdx.x : shared;
    const uint8_t *src = a.images + image * height * values;
    cnn_plane plane = {planes, height, a.shape.width, channels}, spare = plane;
    spare.pixels = planes + plane_floats;
    if (params->augmented)
        augment_image(params, a.mirror, src, &plane, &spare, sums);
    for (int32_t y = CNN_STEP_ROW; y < height; y += CNN_STEP_ROWS) {
        const float *row = cnn_plane_at(&plane, y, 0);
        for (int32_t i = CNN_STEP_COLUMN; i < values; i += CNN_STEP_COLUMNS) {
            const uint8_t byte = params->augmented ? augment_byte(row[i]) : src[y * values + i];
            store(a, ((int64_t)blockIdx.x * height + y) * values + i, byte, i % channels);
        }
    }
}

} // namespace

size_t cnn_cuda_augment_workspace(cnn_augment_shape shape, int32_t count)
{
    const size_t bytes = planes_bytes(shape);
    return bytes <= SHARED_BYTES ? 0 : bytes * (size_t)count;
}

cudaError_t cnn_cuda_augment(const cnn_cuda_augmentation *augmentation, cudaStream_t stream)
{
    cnn_cuda_augmentation a = *augmentation;
    const bool is_large = cnn_cuda_augment_workspace(a.shape, a.count) > 0;
    if (a.dtype != CNN_U8 && !cnn_cuda_is_float(a.dtype))
        return cudaErrorInvalidValue;
    if (!is_large)
        a.planes = nullptr;
    return CNN_LAUNCH(k_augment, dim3((unsigned)a.count), dim3(LANES, ROWS), is_large ? 0 : planes_bytes(a.shape),
                      stream, a);
}

cudaError_t cnn_cuda_input_augmented(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                     const cnn_cuda_queue *queue)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    cnn_cuda_augmentation a = {};
    a.shape = {dst->h, dst->w, dst->c};
    a.mirror = desc->mirror;
    a.images = static_cast<const uint8_t *>(arg[CNN_ARG_SRC]);
    a.index = static_cast<const int32_t *>(arg[CNN_ARG_INDEX]);
    a.params = static_cast<const cnn_augment_params *>(arg[CNN_ARG_SRC2]);
    a.state = static_cast<const cnn_train_state *>(arg[CNN_ARG_STATE]);
    a.count = dst->n;
    a.table = static_cast<const float *>(arg[CNN_ARG_TABLE]);
    a.dtype = dst->dtype;
    a.dst = arg[CNN_ARG_DST];
    a.planes = static_cast<float *>(workspace);
    return cnn_cuda_augment(&a, queue->stream);
}
