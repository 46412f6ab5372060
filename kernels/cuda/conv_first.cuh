/* What the kernels of first convolutions share: tiles, the image behind a tile. */
#ifndef CNN_CUDA_CONV_FIRST_CUH
#define CNN_CUDA_CONV_FIRST_CUH

#include "kernels/cuda/conv_first.h"
#include "kernels/cuda/tensor_core.cuh"

namespace
{

enum { THREADS = CNN_FIRST_THREADS, CHANNELS = CNN_FIRST_CHANNELS, PIXELS = CNN_FIRST_PIXELS };

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

/* Element i of the input behind a tile, [image_h][image_w][c], 0 outside the image. */
template <typename T>
__device__ inline typename T::element image_element(const cnn_first_conv &f, const tile &t,
                                                    const typename T::element *src, int i)
{
    const int32_t pixel = i / f.c, c = i % f.c, h = t.p * f.stride - f.pad + pixel / f.image_w;
    const int32_t w = t.q * f.stride - f.pad + pixel % f.image_w;
    const bool inside = h >= 0 && h < f.h && w >= 0 && w < f.w;
    return inside ? src[(((int64_t)t.n * f.h + h) * f.w + w) * f.src_pitch + c] : (typename T::element)0;
}

/* The first elements of the input behind a tile, COUNT a thread, on their way while the tile before is worked on. */
template <typename T, int COUNT> struct image_ahead {
    typename T::element held[COUNT];

    __device__ inline void load(const cnn_first_conv &f, const tile &t, const typename T::element *src)
    {
        const int count = f.image_h * f.image_w * f.c;
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            const int i = (int)threadIdx.x + j * THREADS;
            held[j] = i < count ? image_element<T>(f, t, src, i) : (typename T::element)0;
        }
    }

    /* Lays them down, and those that did not fit. */
    __device__ inline void store(const cnn_first_conv &f, const tile &t, const typename T::element *src,
                                 typename T::element *image) const
    {
        const int count = f.image_h * f.image_w * f.c;
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            const int i = (int)threadIdx.x + j * THREADS;
            if (i < count)
                image[i] = held[j];
        }
#pragma unroll 4
        for (int i = (int)threadIdx.x + COUNT * THREADS; i < count; i += THREADS)
            image[i] = image_element<T>(f, t, src, i);
    }
};

} // namespace

#endif
