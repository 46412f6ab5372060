/* Weight gradients of convolutions in f16 and bf16 on tensor cores, for few channels and many pixels above all: engines
 * of cuDNN that always give the same bits do not cut the pixels into slices, so that a block or a few walk over all of
 * them (impl_tensor.c).
 *
 * dw[k, tap, c] = sum over pixels of dy[pixel, k] * x[pixel + tap, c]: a GEMM with M output channels, N taps and input
 * channels, and the pixels as depth. Both operands have their channels side by side, not the pixels: ldmatrix turns
 * them. A row of such a matrix is a pixel of 8 channels at any address, so that all taps read the same image in shared
 * memory, each at its own offset. Of a block's warps, 4 take 16 pixels each in turn, and where there are 9 taps three
 * times 4, 3 taps each; the sums of the 4 are added in shared memory, those of the slices by k_conv_wgrad_finish.
 * Orders follow from the shape, and so do the bits. Pixels that are none (beyond an edge of a tile, an image or the
 * batch) have dy 0 and read zeros: an infinity beside them does not become NaN.
 *
 * Roofline of resnet20's first stage, x and dy [128,32,32,16] in f16: 604 MFLOP against 8.4 MB, 72 FLOP a byte: bound
 * by memory, 5.4 us on an A100 (1.555 TB/s), 2.5 us on an H100 (3.35 TB/s), less where L2 still holds them; measured on
 * an H200: 22 us and 4 for the slices. 256 slices write and read 2.4 MB of partial sums, which stay in L2. Shared
 * memory: 12 loads of 512 bytes for 16 pixels, 50 MB in all, 1.7 us at 128 bytes a clock on 132 SMs. */
#include "kernels/cuda/conv_wgrad.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/tensor_core.cuh"

namespace
{

enum {
    PIXELS = CNN_WGRAD_PIXELS,
    CHANNELS = CNN_WGRAD_CHANNELS,
    X_PITCH = CHANNELS + CNN_WGRAD_PAD,
    LANES = 32,
    WARPS = 4,      /* that share the pixels */
    HELD = 2,       /* vectors of the image that a thread has on their way */
    FINISH_ROWS = 8 /* that share the slices */
};

/* What a block of the variants does: ROWS * 16 output channels, GROUPS of warps with TAPS each. */
template <int ROWS_, int TAPS_, int GROUPS_> struct work {
    enum {
        ROWS = ROWS_,
        TAPS = TAPS_,
        GROUPS = GROUPS_,
        THREADS = GROUPS * WARPS * 32,
        Y_PITCH = ROWS * 16 + CNN_WGRAD_PAD,
        FRAGMENTS = GROUPS * TAPS * ROWS * 2
    };
};

typedef cnn_vec<uint16_t, 8> vector;
typedef cnn_vec<float, 4> fragment; /* a lane's share of 16 output x 8 input channels */

/* ---- Places in a tile: image, row and column in 10 bits each ---- */

struct place {
    int32_t n, i, j;
};

__device__ inline int32_t packed(int32_t n, int32_t i, int32_t j)
{
    return n << 20 | i << 10 | j;
}

__device__ inline place unpacked(int32_t bits)
{
    return place{bits >> 20, bits >> 10 & 1023, bits & 1023};
}

/* Number `number` of [..][rows][columns]. */
__device__ inline int32_t place_of(int32_t number, int32_t rows, int32_t columns)
{
    const int32_t row = number / columns;
    return packed(row / rows, row % rows, number % columns);
}

/* First image, output row and column of tile `number`. */
__device__ inline place tile_at(const cnn_wgrad_conv &f, int64_t number)
{
    const int32_t q = static_cast<int32_t>(number % f.tiles_q);
    const int64_t rest = number / f.tiles_q;
    return place{static_cast<int32_t>(rest / f.tiles_p) * f.tile_n, static_cast<int32_t>(rest % f.tiles_p) * f.tile_p,
                 q * f.tile_q};
}

/* ---- Loads: each is on its way while the tile before is multiplied ---- */

/* Channels first to first + 7 of a pixel, 0 where there are none. */
__device__ inline vector channels_of(const uint16_t *pixel, int32_t first, int32_t count, int32_t pitch)
{
    vector got = {};
    if (pitch % 8 == 0) {
        if (first < count)
            got = *reinterpret_cast<const vector *>(pixel + first);
        return got;
    }
#pragma unroll
    for (int c = 0; c < 8; c++)
        if (first + c < count)
            got.at[c] = pixel[first + c];
    return got;
}

/* dy of a tile, [PIXELS][ROWS * 16 + pad] in shared memory. */
template <typename W> struct grads_ahead {
    enum { VECTORS = W::ROWS * 2, ALL = PIXELS * VECTORS, EACH = (ALL + W::THREADS - 1) / W::THREADS };
    int32_t spot[EACH]; /* of the tile; < 0: beyond it */
    vector held[EACH];

    __device__ inline void begin(const cnn_wgrad_conv &f)
    {
        const int32_t pixels = f.tile_n * f.tile_p * f.tile_q;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int32_t pixel = (static_cast<int32_t>(threadIdx.x) + i * W::THREADS) / VECTORS;
            spot[i] = pixel < pixels ? place_of(pixel, f.tile_p, f.tile_q) : -1;
        }
    }

    __device__ inline void load(const cnn_wgrad_conv &f, const place &tile, const uint16_t *dy)
    {
        const int32_t channel =
            (static_cast<int32_t>(blockIdx.y) * VECTORS + static_cast<int32_t>(threadIdx.x) % VECTORS) * 8;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const place at = unpacked(spot[i]);
            const int32_t n = tile.n + at.n, p = tile.i + at.i, q = tile.j + at.j;
            held[i] = vector{};
            if (spot[i] >= 0 && n < f.n && p < f.p && q < f.q)
                held[i] = channels_of(dy + ((static_cast<int64_t>(n) * f.p + p) * f.q + q) * f.y_pitch, channel, f.k,
                                      f.y_pitch);
        }
    }

    __device__ inline void store(uint16_t *grads) const
    {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int number = static_cast<int>(threadIdx.x) + i * W::THREADS;
            if (number < ALL)
                *reinterpret_cast<vector *>(grads + number / VECTORS * W::Y_PITCH + number % VECTORS * 8) = held[i];
        }
    }
};

/* x behind a tile, [tile_n][image_h][image_w][CHANNELS + pad] in shared memory. */
template <typename W> struct image_ahead {
    int32_t count, channel;
    int32_t spot[HELD];
    vector held[HELD];

    __device__ inline void begin(const cnn_wgrad_conv &f)
    {
        count = f.tile_n * f.image_h * f.image_w * 2;
        channel = static_cast<int32_t>(blockIdx.z) / f.blocks_t * CHANNELS + static_cast<int32_t>(threadIdx.x) % 2 * 8;
#pragma unroll
        for (int i = 0; i < HELD; i++)
            spot[i] = place_of((static_cast<int32_t>(threadIdx.x) + i * W::THREADS) / 2, f.image_h, f.image_w);
    }

    /* 0 outside the images. */
    __device__ inline vector pixel(const cnn_wgrad_conv &f, const place &tile, const uint16_t *x, int32_t bits) const
    {
        const place at = unpacked(bits);
        const int32_t n = tile.n + at.n, h = tile.i * f.stride - f.pad + at.i, w = tile.j * f.stride - f.pad + at.j;
        if (n >= f.n || h < 0 || h >= f.h || w < 0 || w >= f.w)
            return vector{};
        return channels_of(x + ((static_cast<int64_t>(n) * f.h + h) * f.w + w) * f.x_pitch, channel, f.c, f.x_pitch);
    }

    __device__ inline void load(const cnn_wgrad_conv &f, const place &tile, const uint16_t *x)
    {
#pragma unroll
        for (int i = 0; i < HELD; i++)
            if (static_cast<int32_t>(threadIdx.x) + i * W::THREADS < count)
                held[i] = pixel(f, tile, x, spot[i]);
    }

    /* And those that are not held. */
    __device__ inline void store(const cnn_wgrad_conv &f, const place &tile, const uint16_t *x, uint16_t *image) const
    {
#pragma unroll
        for (int i = 0; i < HELD; i++)
            put(image, static_cast<int32_t>(threadIdx.x) + i * W::THREADS, held[i]);
        for (int32_t i = static_cast<int32_t>(threadIdx.x) + HELD * W::THREADS; i < count; i += W::THREADS)
            put(image, i, pixel(f, tile, x, place_of(i / 2, f.image_h, f.image_w)));
    }

    __device__ inline void put(uint16_t *image, int32_t number, const vector &value) const
    {
        if (number < count)
            *reinterpret_cast<vector *>(image + number / 2 * X_PITCH + number % 2 * 8) = value;
    }
};

/* ---- The product ---- */

/* Where this thread's pixel begins in the image, and -1 where it is none. */
__device__ inline int32_t start_of(const cnn_wgrad_conv &f, const place &tile, int32_t spot)
{
    const place at = unpacked(spot);
    if (spot < 0 || tile.n + at.n >= f.n || tile.i + at.i >= f.p || tile.j + at.j >= f.q)
        return -1;
    return ((at.n * f.image_h + at.i * f.stride) * f.image_w + at.j * f.stride) * X_PITCH;
}

/* sums += dy x image over the pixels of a tile, 16 of them a step. offset: where a tap reads, behind a pixel's start.
 */
template <typename T, typename W>
__device__ inline void multiply(const uint16_t *grads, const uint16_t *image, const int32_t *starts, int32_t zeros,
                                int32_t steps, const int32_t (&offset)[W::TAPS], fragment (&sums)[W::TAPS][W::ROWS][2])
{
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = lane / 16 * 8 + lane % 8, half = lane / 8 % 2 * 8; /* of the matrices that ldmatrix reads */
    for (int step = static_cast<int>(threadIdx.x) / 32 % WARPS; step < steps; step += WARPS) {
        const int pixel = step * 16 + row;
        const int32_t start = starts[pixel], moves = start < 0 ? 0 : -1;
        const uint16_t *from = image + (start < 0 ? zeros : start) + half;
        uint32_t a[W::ROWS][4], b[4];
#pragma unroll
        for (int m = 0; m < W::ROWS; m++)
            cnn_load_transposed(a[m], grads + pixel * W::Y_PITCH + m * 16 + half);
#pragma unroll
        for (int tap = 0; tap < W::TAPS; tap++) {
            cnn_load_transposed(b, from + (offset[tap] & moves));
            const uint32_t lower[2] = {b[0], b[2]}, upper[2] = {b[1], b[3]};
#pragma unroll
            for (int m = 0; m < W::ROWS; m++) {
                T::mma(sums[tap][m][0].at, a[m], lower);
                T::mma(sums[tap][m][1].at, a[m], upper);
            }
        }
    }
}

/* all[group][tap][row][2][lane] = the sums of the warps that share pixels, in their order. */
template <typename W> __device__ inline void add_warps(const fragment (&sums)[W::TAPS][W::ROWS][2], fragment *all)
{
    const int warp = static_cast<int>(threadIdx.x) / 32;
    fragment *mine = all + warp / WARPS * (W::TAPS * W::ROWS * 2 * LANES) + threadIdx.x % 32;
    for (int turn = 0; turn < WARPS; turn++) {
        __syncthreads();
        if (warp % WARPS != turn)
            continue;
#pragma unroll
        for (int i = 0; i < W::TAPS * W::ROWS * 2; i++) {
            fragment sum = sums[i / 2 / W::ROWS][i / 2 % W::ROWS][i % 2];
            if (turn > 0)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sum.at[j] += mine[i * LANES].at[j];
            mine[i * LANES] = sum;
        }
    }
    __syncthreads();
}

/* Block (slice of tiles, output channels, input channels and taps). parts: [slices][gridDim.y][gridDim.z][fragments].
 */
template <typename T, typename W>
__global__ void __launch_bounds__(W::THREADS)
    k_conv_wgrad(cnn_wgrad_conv f, const uint16_t *x, const uint16_t *dy, fragment *parts)
{
    __shared__ int32_t starts[PIXELS];
    CNN_DYNAMIC_SHARED(uint16_t, grads);
    uint16_t *image = grads + PIXELS * W::Y_PITCH;
    const int32_t zeros = f.tile_n * f.image_h * f.image_w * X_PITCH, pixels = f.tile_n * f.tile_p * f.tile_q;
    const int32_t thread = static_cast<int32_t>(threadIdx.x);
    const int32_t spot = thread < pixels ? place_of(thread, f.tile_p, f.tile_q) : -1;
    const int64_t begin = blockIdx.x * f.slice_tiles;
    const int64_t end = begin + f.slice_tiles < f.tiles ? begin + f.slice_tiles : f.tiles;
    int32_t offset[W::TAPS];
    fragment sums[W::TAPS][W::ROWS][2] = {};
    grads_ahead<W> grads_part;
    image_ahead<W> image_part;

#pragma unroll
    for (int i = 0; i < W::TAPS; i++) {
        const int32_t group = static_cast<int32_t>(blockIdx.z) % f.blocks_t * W::GROUPS + thread / (WARPS * 32);
        const int32_t tap = group * W::TAPS + i;
        offset[i] = tap < f.r * f.s ? (tap / f.s * f.image_w + tap % f.s) * X_PITCH : 0;
    }
    if (thread < CHANNELS)
        image[zeros + thread] = 0;
    grads_part.begin(f);
    image_part.begin(f);
    grads_part.load(f, tile_at(f, begin), dy);
    image_part.load(f, tile_at(f, begin), x);
    for (int64_t number = begin; number < end; number++) {
        const place tile = tile_at(f, number);
        __syncthreads(); /* the tile before has been multiplied */
        grads_part.store(grads);
        image_part.store(f, tile, x, image);
        if (thread < PIXELS)
            starts[thread] = start_of(f, tile, spot);
        __syncthreads();
        if (number + 1 < end) {
            const place next = tile_at(f, number + 1);
            grads_part.load(f, next, dy);
            image_part.load(f, next, x);
        }
        multiply<T, W>(grads, image, starts, zeros, (pixels + 15) / 16, offset, sums);
    }

    fragment *all = reinterpret_cast<fragment *>(grads);
    add_warps<W>(sums, all);
    parts +=
        ((static_cast<int64_t>(blockIdx.x) * gridDim.y + blockIdx.y) * gridDim.z + blockIdx.z) * (W::FRAGMENTS * LANES);
    for (int i = thread; i < W::FRAGMENTS * LANES; i += W::THREADS)
        parts[i] = all[i];
}

/* dw = the sum of the slices. Block (fragment, output channels, input channels and taps) of LANES x FINISH_ROWS
 * threads. */
__global__ void __launch_bounds__(LANES *FINISH_ROWS)
    k_conv_wgrad_finish(cnn_wgrad_conv f, const fragment *parts, float *dw)
{
    __shared__ fragment rows[FINISH_ROWS][LANES];
    const int32_t lane = static_cast<int32_t>(threadIdx.x);
    const int64_t step = static_cast<int64_t>(gridDim.y) * gridDim.z * gridDim.x * LANES;
    parts += ((static_cast<int64_t>(blockIdx.y) * gridDim.z + blockIdx.z) * gridDim.x + blockIdx.x) * LANES + lane;
    fragment sum = {};
#pragma unroll 4
    for (int32_t slice = static_cast<int32_t>(threadIdx.y); slice < f.slices; slice += FINISH_ROWS) {
        const fragment part = parts[slice * step];
#pragma unroll
        for (int j = 0; j < 4; j++)
            sum.at[j] += part.at[j];
    }
    rows[threadIdx.y][lane] = sum;
    __syncthreads();
    if (threadIdx.y > 0)
        return;
    for (int row = 1; row < FINISH_ROWS; row++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            sum.at[j] += rows[row][lane].at[j];

    const int32_t number = static_cast<int32_t>(blockIdx.x), block = static_cast<int32_t>(blockIdx.z);
    const int32_t tap = block % f.blocks_t * f.taps + number / (f.rows * 2);
    const int32_t k = (static_cast<int32_t>(blockIdx.y) * f.rows + number / 2 % f.rows) * 16 + lane / 4;
    const int32_t c = block / f.blocks_t * CHANNELS + number % 2 * 8 + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < 4; j++)
        if (tap < f.r * f.s && k + j / 2 * 8 < f.k && c + j % 2 < f.c)
            dw[(static_cast<int64_t>(k + j / 2 * 8) * f.r * f.s + tap) * f.c + c + j % 2] = sum.at[j];
}

/* ---- Launches ---- */

template <typename T, typename W>
cudaError_t start(const cnn_wgrad_conv &f, dim3 grid, const uint16_t *x, const uint16_t *dy, fragment *parts,
                  cudaStream_t stream)
{
    return CNN_LAUNCH((k_conv_wgrad<T, W>), grid, dim3(W::THREADS), static_cast<size_t>(f.shared_bytes), stream, f, x,
                      dy, parts);
}

template <typename T>
cudaError_t launch(const cnn_wgrad_conv &f, dim3 grid, const uint16_t *x, const uint16_t *dy, fragment *parts,
                   cudaStream_t stream)
{
    if (f.taps == 1)
        return f.rows == 1 ? start<T, work<1, 1, 1>>(f, grid, x, dy, parts, stream)
                           : start<T, work<2, 1, 1>>(f, grid, x, dy, parts, stream);
    return f.rows == 1 ? start<T, work<1, 3, 3>>(f, grid, x, dy, parts, stream)
                       : start<T, work<2, 3, 3>>(f, grid, x, dy, parts, stream);
}

dim3 grid_of(const cnn_wgrad_conv &f)
{
    return dim3(static_cast<unsigned>(f.slices), static_cast<unsigned>(f.blocks_k),
                static_cast<unsigned>(f.blocks_c * f.blocks_t));
}

size_t parts_bytes(const cnn_wgrad_conv &f)
{
    const dim3 grid = grid_of(f);
    return size_t{grid.x} * grid.y * grid.z * static_cast<size_t>(cnn_wgrad_fragments(&f)) * sizeof(fragment);
}

} // namespace

size_t cnn_cuda_conv_wgrad_mma_workspace(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC2];
    return parts_bytes(cnn_wgrad_conv_of(desc)) + cnn_cuda_column_sum_workspace(cnn_desc_pixels(dy), dy->c);
}

cudaError_t cnn_cuda_conv_wgrad_mma(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                    const cnn_cuda_queue *queue)
{
    const cnn_wgrad_conv f = cnn_wgrad_conv_of(desc);
    const uint16_t *x = static_cast<const uint16_t *>(arg[CNN_ARG_SRC]);
    const uint16_t *dy = static_cast<const uint16_t *>(arg[CNN_ARG_SRC2]);
    fragment *parts = static_cast<fragment *>(workspace);
    const dim3 grid = grid_of(f);
    cudaError_t error = desc->arg[CNN_ARG_SRC].dtype == CNN_F16
                            ? launch<half_type>(f, grid, x, dy, parts, queue->stream)
                            : launch<bf16_type>(f, grid, x, dy, parts, queue->stream);
    if (error == cudaSuccess)
        error =
            CNN_LAUNCH(k_conv_wgrad_finish, dim3(static_cast<unsigned>(f.taps * f.rows * 2), grid.y, grid.z),
                       dim3(LANES, FINISH_ROWS), 0, queue->stream, f, parts, static_cast<float *>(arg[CNN_ARG_DST]));
    if (error == cudaSuccess && arg[CNN_ARG_DST2])
        error = cnn_cuda_column_sum(dy, desc->arg[CNN_ARG_SRC2].dtype, cnn_desc_pixels(&desc->arg[CNN_ARG_SRC2]), f.k,
                                    f.y_pitch, static_cast<float *>(arg[CNN_ARG_DST2]),
                                    static_cast<char *>(workspace) + parts_bytes(f), queue);
    return error;
}
