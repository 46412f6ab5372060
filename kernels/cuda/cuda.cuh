/* What every kernel includes: CUDA under nvcc, the same on the CPU under the host compiler (-DCNN_CUDASIM), launches,
 * 16-bit floats, vector loads, matrix products of a warp.
 *
 * A kernel is a __global__ function k_<op> in an unnamed namespace, with __launch_bounds__. It is compiled with
 * -fmad=false: a product and a sum are rounded one after the other unless it says fmaf. */
#ifndef CNN_CUDA_CUDA_CUH
#define CNN_CUDA_CUDA_CUH

#ifdef CNN_CUDASIM
#include "tests/cudasim/simt.h"
#else
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

#include "cnn/ops.h"

/* ---- Launches ---- */

/* CNN_LAUNCH(k_relu, grid, block, shared_bytes, stream, args...) enqueues a kernel and returns a cudaError_t; a
 * template goes in parentheses: CNN_LAUNCH((k_add<float, 4>), ...). Arguments are converted to the kernel's parameters.
 *
 * CNN_ALLOW_SHARED(kernel, bytes) goes before the launch of a kernel with more than 48 KiB of dynamic shared memory.
 * CNN_DYNAMIC_SHARED(type, name) declares that memory, 128-byte aligned, as an array of type. */
#ifdef CNN_CUDASIM

template <typename... Params, typename... Args>
static inline cudaError_t cnn_launch_kernel(const char *name, void (*kernel)(Params...), dim3 grid, dim3 block,
                                            size_t shared_bytes, cudaStream_t stream, Args... args)
{
    cudaError_t error = simt_check_launch(reinterpret_cast<const void *>(kernel), grid, block, shared_bytes);
    if (error != cudaSuccess)
        return cudasim_fail(error);
    return cudasim_enqueue(
        stream, [=] { simt_run(name, grid, block, shared_bytes, [=] { kernel(static_cast<Params>(args)...); }); });
}

#define CNN_LAUNCH(kernel, ...) cnn_launch_kernel(#kernel, kernel, __VA_ARGS__)
#define CNN_ALLOW_SHARED(kernel, bytes) simt_allow_shared(reinterpret_cast<const void *>(kernel), bytes)
#define CNN_DYNAMIC_SHARED(type, name) type *name = reinterpret_cast<type *>(simt_dynamic)

#else

template <typename... Params, typename... Args>
static inline cudaError_t cnn_launch_kernel(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes,
                                            cudaStream_t stream, Args... args)
{
    kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Params>(args)...);
    return cudaGetLastError();
}

#define CNN_LAUNCH(kernel, ...) cnn_launch_kernel(kernel, __VA_ARGS__)
#define CNN_ALLOW_SHARED(kernel, bytes) \
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes))
#define CNN_DYNAMIC_SHARED(type, name)                                   \
    extern __shared__ __align__(128) unsigned char cnn_dynamic_shared[]; \
    type *name = reinterpret_cast<type *>(cnn_dynamic_shared)

#endif

/* Blocks of `threads` for `items` of work in a grid-stride loop: enough to fill any GPU of today several times over
 * (132 to 170 SMs with up to 8 such blocks each), no more, so that large tensors do not pay for the start of blocks. */
static inline unsigned cnn_blocks(int64_t items, int threads)
{
    int64_t blocks = (items + threads - 1) / threads;
    return static_cast<unsigned>(blocks < 1 ? 1 : blocks > 2048 ? 2048 : blocks);
}

/* First item and step of a thread in a grid-stride loop. */
static __device__ __forceinline__ int64_t cnn_first_item()
{
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

static __device__ __forceinline__ int64_t cnn_item_step()
{
    return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

/* Blocks of lanes x rows threads over images: threadIdx.x goes over the vectors of a pixel's channels, so that a warp
 * reads neighbouring bytes, blockIdx.x and threadIdx.y over the pixels of an image, blockIdx.y over images. Kernels
 * divide 32-bit pixel numbers that way; 64-bit divisions are slow. */
struct cnn_tiles {
    dim3 grid, block;
};

static inline cnn_tiles cnn_image_tiles(int32_t images, int32_t pixels, int32_t vectors, int threads)
{
    unsigned lanes = 1;
    while (lanes < 32 && static_cast<int32_t>(lanes) < vectors)
        lanes *= 2;
    const unsigned rows = static_cast<unsigned>(threads) / lanes;
    cnn_tiles tiles;
    tiles.block = dim3(lanes, rows);
    tiles.grid =
        dim3((static_cast<unsigned>(pixels) + rows - 1) / rows, images < 65535 ? static_cast<unsigned>(images) : 65535);
    return tiles;
}

/* ---- 16-bit floats: computed in f32, rounded to nearest even when stored ---- */

static __device__ __forceinline__ float cnn_to_float(float x)
{
    return x;
}

static __device__ __forceinline__ float cnn_to_float(__half x)
{
    return __half2float(x);
}

static __device__ __forceinline__ float cnn_to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <typename T> static __device__ __forceinline__ T cnn_from_float(float x);

template <> __device__ __forceinline__ float cnn_from_float<float>(float x)
{
    return x;
}

template <> __device__ __forceinline__ __half cnn_from_float<__half>(float x)
{
    return __float2half_rn(x);
}

template <> __device__ __forceinline__ __nv_bfloat16 cnn_from_float<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* ---- Vectors: N elements that are loaded and stored at once (16 bytes: one LDG.128) ---- */

template <typename T, int N> struct alignas(sizeof(T) * N) cnn_vec {
    T at[N];
};

template <typename T> static inline bool cnn_aligned(const T *address, size_t bytes)
{
    return reinterpret_cast<uintptr_t>(address) % bytes == 0;
}

/* ---- Matrix products of a warp ---- */

/* D = A B + D with A 16x16, B 16x8, D 16x8 in the fragments of mma.sync.m16n8k16 (PTX ISA): with group = lane/4 and
 * pair = lane%4, each register of A or B holds two neighbours of k, the lower k in the lower half:
 *   a[0] A[group][2 pair ..]     a[1] A[group+8][2 pair ..]   a[2] A[group][2 pair+8 ..]   a[3] A[group+8][2 pair+8 ..]
 *   b[0] B[2 pair ..][group]     b[1] B[2 pair+8 ..][group]
 *   d[0], d[1] D[group][2 pair], [2 pair+1]      d[2], d[3] D[group+8][2 pair], [2 pair+1]
 * All 32 lanes take part. Products are exact; the GPU's sum of 16 of them is not rounded as f32 would be, and the
 * emulation's sum is exact and rounded once.
 *
 * m16n8k32 is the same for i8 and i32 sums: a register holds four neighbours of k, so that every "2 pair" is 4 pair and
 * every 8 of k is 16.
 *
 * cnn_load_transposed reads four matrices of 8x8 16-bit elements from shared memory (ldmatrix.x4.trans): lane l gives
 * the address of row l%8 of matrix l/8, 8 elements that begin at a multiple of 16 bytes; to[i] becomes rows 2 pair and
 * 2 pair+1 of matrix i in column group. So rows along k make a fragment. */
#ifdef CNN_CUDASIM

struct cnn_mma_operands {
    float *d;
    const uint32_t *a, *b;
};

struct cnn_mma_s8_operands {
    int32_t *d;
    const uint32_t *a, *b;
};

static inline float cnn_mma_element(uint32_t pair, int upper, const __half *)
{
    return __half2float(simt_bits<__half>(static_cast<uint16_t>(pair >> (16 * upper))));
}

static inline float cnn_mma_element(uint32_t pair, int upper, const __nv_bfloat16 *)
{
    return __bfloat162float(simt_bits<__nv_bfloat16>(static_cast<uint16_t>(pair >> (16 * upper))));
}

template <typename T> static inline void cnn_mma_warp(void *const operand[32], uint32_t)
{
    static const T *const type = nullptr;
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const auto *from = static_cast<const cnn_mma_operands *>(operand[lane]);
        const int group = lane / 4, pair = lane % 4;
        for (int i = 0; i < 8; i++)
            a[group + (i / 2 % 2) * 8][pair * 2 + i % 2 + i / 4 * 8] = cnn_mma_element(from->a[i / 2], i % 2, type);
        for (int i = 0; i < 4; i++)
            b[pair * 2 + i % 2 + i / 2 * 8][group] = cnn_mma_element(from->b[i / 2], i % 2, type);
    }
    for (int lane = 0; lane < 32; lane++) {
        const auto *to = static_cast<const cnn_mma_operands *>(operand[lane]);
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
            double sum = static_cast<double>(to->d[i]);
            for (int k = 0; k < 16; k++)
                sum += static_cast<double>(a[row][k]) * static_cast<double>(b[k][column]);
            to->d[i] = static_cast<float>(sum);
        }
    }
}

static inline void cnn_mma_m16n8k16_f16(float d[4], const uint32_t a[4], const uint32_t b[2], SIMT_HERE)
{
    SIMT_SITE("mma");
    cnn_mma_operands mine = {d, a, b};
    simt_collective(0xffffffffu, &mine, cnn_mma_warp<__half>, site);
}

static inline void cnn_mma_m16n8k16_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], SIMT_HERE)
{
    SIMT_SITE("mma");
    cnn_mma_operands mine = {d, a, b};
    simt_collective(0xffffffffu, &mine, cnn_mma_warp<__nv_bfloat16>, site);
}

struct cnn_load_operands {
    uint32_t *to;
    const uint16_t *row;
};

static inline void cnn_load_warp(void *const operand[32], uint32_t)
{
    for (int lane = 0; lane < 32; lane++) {
        const auto *mine = static_cast<const cnn_load_operands *>(operand[lane]);
        const int group = lane / 4, pair = lane % 4;
        for (int i = 0; i < 4; i++) {
            const uint16_t *lower = static_cast<const cnn_load_operands *>(operand[i * 8 + pair * 2])->row;
            const uint16_t *upper = static_cast<const cnn_load_operands *>(operand[i * 8 + pair * 2 + 1])->row;
            mine->to[i] = lower[group] | static_cast<uint32_t>(upper[group]) << 16;
        }
    }
}

static inline void cnn_load_transposed(uint32_t to[4], const uint16_t *row, SIMT_HERE)
{
    SIMT_SITE("ldmatrix");
    if (!cnn_aligned(row, 16))
        simt_fail("ldmatrix: a row is not 16-byte aligned");
    cnn_load_operands mine = {to, row};
    simt_collective(0xffffffffu, &mine, cnn_load_warp, site);
}

static inline void cnn_mma_warp_s8(void *const operand[32], uint32_t)
{
    int8_t a[16][32], b[32][8];
    for (int lane = 0; lane < 32; lane++) {
        const auto *from = static_cast<const cnn_mma_s8_operands *>(operand[lane]);
        const int group = lane / 4, pair = lane % 4;
        for (int i = 0; i < 16; i++)
            a[group + (i / 4 % 2) * 8][pair * 4 + i % 4 + i / 8 * 16] =
                static_cast<int8_t>(from->a[i / 4] >> (8 * (i % 4)));
        for (int i = 0; i < 8; i++)
            b[pair * 4 + i % 4 + i / 4 * 16][group] = static_cast<int8_t>(from->b[i / 4] >> (8 * (i % 4)));
    }
    for (int lane = 0; lane < 32; lane++) {
        const auto *to = static_cast<const cnn_mma_s8_operands *>(operand[lane]);
        for (int i = 0; i < 4; i++) {
            uint32_t sum = static_cast<uint32_t>(to->d[i]); /* wraps as the GPU's does */
            for (int k = 0; k < 32; k++)
                sum += static_cast<uint32_t>(a[lane / 4 + i / 2 * 8][k] * b[k][lane % 4 * 2 + i % 2]);
            to->d[i] = static_cast<int32_t>(sum);
        }
    }
}

static inline void cnn_mma_m16n8k32_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2], SIMT_HERE)
{
    SIMT_SITE("mma");
    cnn_mma_s8_operands mine = {d, a, b};
    simt_collective(0xffffffffu, &mine, cnn_mma_warp_s8, site);
}

#else

#define CNN_MMA(types)                                                    \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." types ".f32 "            \
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                  \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))

static __device__ __forceinline__ void cnn_mma_m16n8k16_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    CNN_MMA("f16.f16");
}

static __device__ __forceinline__ void cnn_mma_m16n8k16_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    CNN_MMA("bf16.bf16");
}

#undef CNN_MMA

static __device__ __forceinline__ void cnn_load_transposed(uint32_t to[4], const uint16_t *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
                 : "memory");
}

static __device__ __forceinline__ void cnn_mma_m16n8k32_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

#endif
