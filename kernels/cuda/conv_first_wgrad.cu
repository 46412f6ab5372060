/* Weight and bias gradients of convolutions with 1 to 4 input channels, on tensor cores.
 *
 * dw[k, tap] = sum over pixels of dy[pixel, k] * x[pixel + tap]: a GEMM with M output channels, N taps and the pixels
 * as depth. A block sums a slice of tiles for 64 channels and 32 taps: 4 warps of 32 channels x 16 taps. The bias
 * gradient is one tap more, where x is 1. Both operands have their depth, the pixels, in the wrong direction for a
 * fragment: dy is laid down in shared memory as pairs of pixels (a register of A is then one load), x as an image that
 * pairs are gathered from. Partial sums go to the workspace as the threads hold them, 8 KB a block. The last block of
 * 16 slices adds those, and the last of all the sums of 16: one block alone would read 1.8 MB, which takes an SM 20 us
 * at 64 bytes a clock; so it is 2 times 128 KB, 1.5 us each. Orders follow from the shape, and so do the bits.
 *
 * Roofline of convnet's conv1, dy [N,28,28,128] in f16: 321 MFLOP (411 with 32 taps) at batch 64 against 12.9 MB of dy
 * and x, 25 FLOP a byte: bound by memory, 8.3 us on an A100 (1.555 TB/s), 3.9 us on an H100 (3.35 TB/s); 224 slices
 * write and read 3.7 MB of partial sums, which stay in L2. At batch 512: 103.6 MB, 66.6 us and 30.9 us, and 256 slices
 * with 4.2 MB. */
#include "kernels/cuda/conv_first.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"

namespace
{

enum {
    TAPS = CNN_FIRST_TAPS,
    M_TILES = 2,                 /* of 16 channels, a warp */
    N_TILES = 2,                 /* of 8 taps, a warp */
    PAIRS = PIXELS / 2,          /* of neighbouring pixels of a tile */
    PAIR_PITCH = CHANNELS + 8,   /* words: rows of 4 pairs hit different banks */
    STEPS = PIXELS / 16,         /* of the depth */
    VECTORS = CHANNELS * 2 / 16, /* 16-byte loads of a pixel */
    GROUP = CNN_FIRST_GROUP,     /* slices that are added at once */
};

typedef cnn_vec<float, 4> fragment; /* a thread's share of 16 channels x 8 taps */
typedef fragment fragments[M_TILES][N_TILES];

/* This thread's part of dy of a tile, on its way while the tile before is multiplied: 8 channels of pairs of pixels, 0
 * outside the tensor. */
struct pairs_ahead {
    typedef cnn_vec<uint16_t, 8> vector;
    enum { EACH = PAIRS * VECTORS / THREADS };
    vector pixel[EACH][2];

    __device__ inline void load(const cnn_first_conv &f, const tile &t, const uint16_t *dy, int32_t first)
    {
        const bool whole = f.dst_pitch % 8 == 0;
        const int32_t k = first + (int32_t)threadIdx.x % VECTORS * 8;
#pragma unroll
        for (int i = 0; i < EACH * 2; i++) {
            const int32_t number = ((int32_t)threadIdx.x + i / 2 * THREADS) / VECTORS * 2 + i % 2;
            const int32_t row = number / f.tile_q, p = t.p + row, q = t.q + number % f.tile_q;
            const uint16_t *src = dy + (((int64_t)t.n * f.p + p) * f.q + q) * f.dst_pitch + k;
            vector &got = pixel[i / 2][i % 2];
            got = vector{};
            if (row >= f.tile_p || p >= f.p || q >= f.q || k >= f.k)
                continue;
            if (whole)
                got = *reinterpret_cast<const vector *>(src);
            else
#pragma unroll
                for (int c = 0; c < 8; c++)
                    got.at[c] = k + c < f.k ? src[c] : (uint16_t)0;
        }
    }

    /* As words [pair of pixels][channel], the even pixel in the lower half. */
    __device__ inline void store(uint32_t *pairs) const
    {
        typedef cnn_vec<uint32_t, 4> words;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int pair = ((int)threadIdx.x + i * THREADS) / VECTORS;
            words lower, upper;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                lower.at[c] = pixel[i][0].at[c] | (uint32_t)pixel[i][1].at[c] << 16;
                upper.at[c] = pixel[i][0].at[c + 4] | (uint32_t)pixel[i][1].at[c + 4] << 16;
            }
            words *to = reinterpret_cast<words *>(pairs + pair * PAIR_PITCH + threadIdx.x % VECTORS * 8);
            to[0] = lower;
            to[1] = upper;
        }
    }
};

/* Where the taps of this thread's columns of B lie in the image. */
struct columns {
    int offset[N_TILES];
    uint32_t instead[N_TILES]; /* where offset < 0: a pair of ones for the bias, of zeros beyond */
};

template <typename T> __device__ inline columns columns_of(const cnn_first_conv &f, int32_t first)
{
    columns c;
    const int line = f.s * f.c;
#pragma unroll
    for (int n = 0; n < N_TILES; n++) {
        const int tap = first + n * 8 + (int)threadIdx.x % 32 / 4;
        c.offset[n] = tap < f.taps ? tap / line * f.image_w * f.c + tap % line : -1;
        c.instead[n] = tap == f.taps ? (uint32_t)T::ONE * 0x10001u : 0;
    }
    return c;
}

/* sums += dy x image over the pixels of a tile. places[pixel] is a pixel's offset in the image. */
template <typename T>
__device__ inline void multiply(const uint16_t *image, const int16_t *places, const uint32_t *pairs, const columns &c,
                                int channel, fragments &sums)
{
    const int group = (int)threadIdx.x % 32 / 4, quad = (int)threadIdx.x % 4;
    for (int step = 0; step < STEPS; step++) {
        const uint32_t *rows = pairs + (step * 8 + quad) * PAIR_PITCH + channel + group;
        const int16_t *at = places + step * 16 + quad * 2;
        uint32_t a[M_TILES][4], b[N_TILES][2];
#pragma unroll
        for (int m = 0; m < M_TILES; m++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[m][i] = rows[i / 2 * 4 * PAIR_PITCH + m * 16 + i % 2 * 8];
#pragma unroll
        for (int n = 0; n < N_TILES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                b[n][i] = c.offset[n] < 0
                              ? c.instead[n]
                              : image[at[i * 8] + c.offset[n]] | (uint32_t)image[at[i * 8 + 1] + c.offset[n]] << 16;
#pragma unroll
        for (int m = 0; m < M_TILES; m++)
#pragma unroll
            for (int n = 0; n < N_TILES; n++)
                T::mma(sums[m][n].at, a[m], b[n]);
    }
}

/* ---- The sum of the slices ---- */

/* A thread's fragments of a slice: neighbours in a warp lie side by side. */
__device__ inline fragment *part_of(fragment *parts, int slice)
{
    const int64_t block = ((int64_t)slice * gridDim.y + blockIdx.y) * gridDim.z + blockIdx.z;
    return parts + block * (M_TILES * N_TILES * THREADS) + threadIdx.x;
}

__device__ inline void leave(fragment *part, const fragments &sums)
{
#pragma unroll
    for (int i = 0; i < M_TILES * N_TILES; i++)
        part[i * THREADS] = sums[i / N_TILES][i % N_TILES];
}

/* sums = the parts of slices begin, begin + step, ... < end. */
__device__ inline void add_parts(fragment *parts, int begin, int end, int step, fragments &sums)
{
#pragma unroll
    for (int i = 0; i < M_TILES * N_TILES; i++)
        sums[i / N_TILES][i % N_TILES] = fragment{};
#pragma unroll 4
    for (int slice = begin; slice < end; slice += step) {
        const fragment *part = part_of(parts, slice);
#pragma unroll
        for (int i = 0; i < M_TILES * N_TILES; i++) {
            const fragment more = part[i * THREADS];
#pragma unroll
            for (int j = 0; j < 4; j++)
                sums[i / N_TILES][i % N_TILES].at[j] += more.at[j];
        }
    }
}

/* True in the block that holds the sums of all slices of its channels and taps. tickets: one a group of slices, and one
 * for the groups. */
__device__ inline bool add_slices(fragment *parts, unsigned *tickets, fragments &sums)
{
    const int slices = (int)gridDim.x, groups = (slices + GROUP - 1) / GROUP, group = (int)blockIdx.x / GROUP;
    const int begin = group * GROUP, end = begin + GROUP < slices ? begin + GROUP : slices;
    tickets += ((int64_t)blockIdx.y * gridDim.z + blockIdx.z) * (groups + 1);
    leave(part_of(parts, (int)blockIdx.x), sums);
    if (!cnn_last_block(tickets + group, (unsigned)(end - begin)))
        return false;
    add_parts(parts, begin, end, 1, sums);
    if (groups == 1)
        return true;
    leave(part_of(parts, begin), sums); /* each thread has read its own of them */
    if (!cnn_last_block(tickets + groups, (unsigned)groups))
        return false;
    add_parts(parts, 0, slices, GROUP, sums);
    return true;
}

/* ---- The kernel ---- */

/* Block (slice of tiles, 64 channels, 32 taps); of those channels and taps the last one writes dw[k][tap] and, where
 * asked, db[k]. */
template <typename T>
__global__ void __launch_bounds__(THREADS, 4)
    k_conv_first_wgrad(cnn_first_conv f, int64_t slice_tiles, int64_t tiles, const uint16_t *x, const uint16_t *dy,
                       float *dw, float *db, fragment *parts, unsigned *tickets)
{
    __shared__ cnn_vec<uint32_t, 4> pair_words[PAIRS * PAIR_PITCH / 4];
    __shared__ int16_t places[PIXELS];
    CNN_DYNAMIC_SHARED(uint16_t, image);
    uint32_t *pairs = pair_words[0].at;
    const int warp = (int)threadIdx.x / 32, group = (int)threadIdx.x % 32 / 4, quad = (int)threadIdx.x % 4;
    const int32_t first = (int32_t)blockIdx.y * CHANNELS, channel = warp / 2 * M_TILES * 16;
    const int32_t tap = (int32_t)blockIdx.z * TAPS + warp % 2 * N_TILES * 8;
    const columns c = columns_of<T>(f, tap);
    const int64_t begin = blockIdx.x * slice_tiles, end = begin + slice_tiles < tiles ? begin + slice_tiles : tiles;
    fragments sums = {};

    for (int pixel = (int)threadIdx.x; pixel < PIXELS; pixel += THREADS) {
        const int row = pixel / f.tile_q, column = pixel % f.tile_q;
        /* Pixels beyond the tile multiply 0 with any. */
        places[pixel] = (int16_t)(row < f.tile_p ? (row * f.image_w + column) * f.stride * f.c : 0);
    }
    image_ahead<T, 2> image_part;
    pairs_ahead pairs_part;
    image_part.load(f, tile_at(f, begin), x);
    pairs_part.load(f, tile_at(f, begin), dy, first);
    for (int64_t number = begin; number < end; number++) {
        __syncthreads(); /* the tile before has been multiplied */
        image_part.store(f, tile_at(f, number), x, image);
        pairs_part.store(pairs);
        __syncthreads();
        if (number + 1 < end) {
            image_part.load(f, tile_at(f, number + 1), x);
            pairs_part.load(f, tile_at(f, number + 1), dy, first);
        }
        multiply<T>(image, places, pairs, c, channel, sums);
    }
    if (!add_slices(parts, tickets, sums))
        return;
#pragma unroll
    for (int m = 0; m < M_TILES; m++)
#pragma unroll
        for (int n = 0; n < N_TILES; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int32_t k = first + channel + m * 16 + group + i / 2 * 8, column = tap + n * 8 + quad * 2 + i % 2;
                if (k < f.k && column < f.taps)
                    dw[(int64_t)k * f.taps + column] = sums[m][n].at[i];
                else if (k < f.k && column == f.taps && db)
                    db[k] = sums[m][n].at[i];
            }
}

/* Blocks of channels and of taps; with a bias the taps are one more. */
dim3 grid_of(const cnn_first_conv &f, bool bias)
{
    return dim3((unsigned)cnn_first_slices_of(&f).count, (unsigned)((f.k + CHANNELS - 1) / CHANNELS),
                (unsigned)((f.taps + (bias ? 1 : 0) + TAPS - 1) / TAPS));
}

} // namespace

size_t cnn_cuda_conv_first_wgrad_workspace(const cnn_op_desc *desc)
{
    const cnn_first_conv f = cnn_first_conv_of(desc, &desc->arg[CNN_ARG_DST], &desc->arg[CNN_ARG_SRC2]);
    const dim3 grid = grid_of(f, desc->arg[CNN_ARG_DST2].dtype != CNN_NONE);
    return (size_t)grid.x * grid.y * grid.z * sizeof(fragments) * THREADS;
}

cudaError_t cnn_cuda_conv_first_wgrad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                      const cnn_cuda_queue *queue)
{
    const cnn_first_conv f = cnn_first_conv_of(desc, &desc->arg[CNN_ARG_DST], &desc->arg[CNN_ARG_SRC2]);
    const cnn_first_slices s = cnn_first_slices_of(&f);
    const uint16_t *x = static_cast<const uint16_t *>(arg[CNN_ARG_SRC]);
    const uint16_t *dy = static_cast<const uint16_t *>(arg[CNN_ARG_SRC2]);
    float *dw = static_cast<float *>(arg[CNN_ARG_DST]), *db = static_cast<float *>(arg[CNN_ARG_DST2]);
    fragment *parts = static_cast<fragment *>(workspace);
    const dim3 grid = grid_of(f, db != nullptr);
    const size_t shared = (size_t)(f.image_h * f.image_w * f.c) * sizeof(uint16_t);
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_F16)
        return CNN_LAUNCH((k_conv_first_wgrad<half_type>), grid, dim3(THREADS), shared, queue->stream, f, s.tiles,
                          cnn_first_tiles(&f), x, dy, dw, db, parts, queue->tickets);
    return CNN_LAUNCH((k_conv_first_wgrad<bf16_type>), grid, dim3(THREADS), shared, queue->stream, f, s.tiles,
                      cnn_first_tiles(&f), x, dy, dw, db, parts, queue->tickets);
}
