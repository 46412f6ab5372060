/* What the kernels of first convolutions share: element types, tiles, the image behind a tile. */
#ifndef CNN_CUDA_CONV_FIRST_CUH
#define CNN_CUDA_CONV_FIRST_CUH

#include "kernels/cuda/conv_first.h"
#include "kernels/cuda/cuda.cuh"

namespace
{

enum { THREADS = CNN_FIRST_THREADS, CHANNELS = CNN_FIRST_CHANNELS, PIXELS = CNN_FIRST_PIXELS };

/* ---- Element types: PER elements fill a register of a fragment ---- */

struct half_type {
    typedef uint16_t element;
    typedef float sum;
    enum { PER = 2, ONE = 0x3C00 };
    static __device__ inline void mma(float *d, const uint32_t *a, const uint32_t *b)
    {
        cnn_mma_m16n8k16_f16(d, a, b);
    }
    static __device__ inline uint16_t round(float value)
    {
        return __half_as_ushort(__float2half_rn(value));
    }
};

struct bf16_type {
    typedef uint16_t element;
    typedef float sum;
    enum { PER = 2, ONE = 0x3F80 };
    static __device__ inline void mma(float *d, const uint32_t *a, const uint32_t *b)
    {
        cnn_mma_m16n8k16_bf16(d, a, b);
    }
    static __device__ inline uint16_t round(float value)
    {
        return __bfloat16_as_ushort(__float2bfloat16_rn(value));
    }
};

struct i8_type {
    typedef uint8_t element; /* only moved: the sign is the instruction's business */
    typedef int32_t sum;
    enum { PER = 4 };
    static __device__ inline void mma(int32_t *d, const uint32_t *a, const uint32_t *b)
    {
        cnn_mma_m16n8k32_s8(d, a, b);
    }
};

/* ---- Tiles ---- */

struct tile {
    int32_t n, p, q; /* image, first output row and column */
};

__device__ inline tile tile_at(const cnn_first_conv &f, int64_t number)
{
    tile t;
    const int64_t row = number / f.tiles_q;
    t.q = (int32_t)(number % f.tiles_q) * f.tile_q;
    t.p = (int32_t)(row % f.tiles_p) * f.tile_p;
    t.n = (int32_t)(row / f.tiles_p);
    return t;
}

/* The input pixels behind a tile, 0 outside the image. A warp takes a row. */
template <typename T>
__device__ inline void fill_image(const cnn_first_conv &f, const tile &t, const typename T::element *src,
                                  typename T::element *image)
{
    const int32_t top = t.p * f.stride - f.pad, left = t.q * f.stride - f.pad;
    for (int32_t row = (int32_t)threadIdx.x / 32; row < f.image_h; row += THREADS / 32) {
        const int32_t h = top + row;
        const int64_t line = ((int64_t)t.n * f.h + h) * f.w;
        for (int32_t column = (int32_t)threadIdx.x % 32; column < f.image_w; column += 32) {
            const int32_t w = left + column;
            const bool inside = h >= 0 && h < f.h && w >= 0 && w < f.w;
            for (int32_t c = 0; c < f.c; c++)
                image[(row * f.image_w + column) * f.c + c] =
                    inside ? src[(line + w) * f.src_pitch + c] : (typename T::element)0;
        }
    }
}

} // namespace

#endif
