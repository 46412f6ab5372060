/* Convolutions with 1 to 4 input channels on tensor cores: forward, float and INT8.
 *
 * Implicit GEMM: M output pixels, N output channels, depth R*S*C taps, padded with zero weights to a multiple of an
 * instruction's depth (16 halves or 32 bytes; convnet's 5 x 5 x 1: 25 -> 32). A library's kernel would pad each pixel
 * to 8 or 16 channels instead. A warp makes 32 pixels x 64 channels: fragments of A are gathered from the image tile by
 * a table of tap offsets, those of B are read from the weights as they lie; both are free of bank conflicts but for
 * what the image's pitch brings. Results go through shared memory, so that global stores are 16 bytes a thread and 64
 * channels (a line of 128 bytes in f16) a row.
 *
 * Roofline of convnet's conv1, [N,28,28,1] -> [N,28,28,128] in f16: 5.02 MFLOP and 0.20 MB an image, 25 FLOP a byte.
 *   batch 64     321 MFLOP (411 with padding), 12.9 MB    A100  8.3 us memory, 1.3 us math   H100  3.9 us, 0.4 us
 *   batch 512   2569 MFLOP (3288),            103.6 MB    A100 66.6 us memory, 10.5 us       H100 30.9 us, 3.3 us
 * (A100 1.555 TB/s and 312 TFLOP/s, H100 SXM 3.35 TB/s and 989 TFLOP/s.) The stores bound it. On the FP32 units the
 * same math would take 16.5 us on the A100 at batch 64: more than the memory does. In INT8 a pooled output is 1/8 of
 * these bytes. */
#include "kernels/cuda/conv_first.cuh"
#include "kernels/cuda/kernels.h"

namespace
{

enum { WARP_PIXELS = 32, M_TILES = 2, N_TILES = CHANNELS / 8 };
const int64_t most_tiles_a_block = 16, enough_blocks = 132 * 4; /* they fill an H100 once */

/* ---- Epilogues: an output of a sum; k counts from the block's first channel ---- */

template <typename T> struct float_output {
    typedef uint16_t out;
    bool relu;
    __device__ uint16_t operator()(float sum, const float *bias, const float *mult, int k) const
    {
        (void)mult;
        const float value = sum + bias[k];
        return T::round(relu && value <= 0 ? 0 : value); /* NaN stays */
    }
};

struct requantized {
    typedef int8_t out;
    float lo, hi;
    __device__ int8_t operator()(int32_t sum, const int32_t *bias, const float *mult, int k) const
    {
        const float scaled = (float)(sum + bias[k]) * mult[k];
        const float clamped = !(scaled > lo) ? lo : scaled < hi ? scaled : hi; /* NaN counts as lo */
        return (int8_t)rintf(clamped);
    }
};

struct dequantized {
    typedef float out;
    __device__ float operator()(int32_t sum, const int32_t *bias, const float *mult, int k) const
    {
        return (float)(sum + bias[k]) * mult[k];
    }
};

struct plain_sum {
    typedef int32_t out;
    __device__ int32_t operator()(int32_t sum, const int32_t *bias, const float *mult, int k) const
    {
        (void)bias, (void)mult, (void)k;
        return sum;
    }
};

/* ---- What a block holds ---- */

/* Offset of each tap in the image tile, -1 for those that only fill up the last step. */
__device__ inline void fill_offsets(const cnn_first_conv &f, int count, int16_t *offsets)
{
    const int line = f.s * f.c;
    for (int tap = (int)threadIdx.x; tap < count; tap += THREADS)
        offsets[tap] = (int16_t)(tap < f.taps ? tap / line * f.image_w * f.c + tap % line : -1);
}

__device__ inline void fill_pixels(const cnn_first_conv &f, int32_t *pixels)
{
    for (int i = (int)threadIdx.x; i < PIXELS; i += THREADS)
        pixels[i] = i / f.tile_q << 16 | i % f.tile_q;
}

/* Rows k of the weights [K,R,S,C] from channel `first` on; 0 beyond the last channel and tap. A thread asks for several
 * before it needs the first. */
template <typename T>
__device__ inline void fill_weights(const cnn_first_conv &f, const typename T::element *weight, int32_t first,
                                    int words, typename T::element *dst)
{
    enum { HELD = 8 };
    const int pitch = words * T::PER, count = CHANNELS * pitch;
    for (int from = (int)threadIdx.x; from < count; from += THREADS * HELD) {
        typename T::element held[HELD];
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            const int i = from + j * THREADS, k = i / pitch, tap = i % pitch;
            held[j] = i < count && first + k < f.k && tap < f.taps ? weight[(int64_t)(first + k) * f.taps + tap]
                                                                   : (typename T::element)0;
        }
#pragma unroll
        for (int j = 0; j < HELD; j++)
            if (from + j * THREADS < count)
                dst[from + j * THREADS] = held[j];
    }
}

/* ---- The product ---- */

/* PER elements of the image, taps offsets[0..PER) from `base` on, as a register of a fragment. */
template <typename T> __device__ inline uint32_t gather(const typename T::element *image, const int16_t *offsets)
{
    uint32_t packed = 0;
#pragma unroll
    for (int i = 0; i < T::PER; i++)
        if (offsets[i] >= 0)
            packed |= (uint32_t)image[offsets[i]] << (32 / T::PER * i);
    return packed;
}

/* sums += image taps x weights: 32 pixels, whose places in the image are base[M tile][rows g and g+8], x 64 channels.
 */
template <typename T>
__device__ inline void multiply(const cnn_first_conv &f, const typename T::element *image, const int16_t *offsets,
                                const uint32_t *weights, int words, const int (&base)[M_TILES][2],
                                typename T::sum (&sums)[M_TILES][N_TILES][4])
{
    const int group = (int)threadIdx.x % 32 / 4, quad = (int)threadIdx.x % 4;
    for (int step = 0; step < f.steps; step++) {
        const int16_t *taps = offsets + (step * 8 + quad) * T::PER; /* and 4 registers further on */
        uint32_t a[M_TILES][4], b[2];
#pragma unroll
        for (int m = 0; m < M_TILES; m++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[m][i] = gather<T>(image + base[m][i % 2], taps + i / 2 * 4 * T::PER);
#pragma unroll
        for (int n = 0; n < N_TILES; n++) {
            const uint32_t *row = weights + (n * 8 + group) * words + step * 8 + quad;
            b[0] = row[0];
            b[1] = row[4];
#pragma unroll
            for (int m = 0; m < M_TILES; m++)
                T::mma(sums[m][n], a[m], b);
        }
    }
}

/* ---- Outputs ---- */

/* Calls put(pixel of the tile, channel of the block, its output and the next one's) for the 64 pairs of outputs that
 * this thread's sums make. */
template <typename T, typename O, typename B, typename P>
__device__ inline void finish(const typename T::sum (&sums)[M_TILES][N_TILES][4], const O &make, const B *bias,
                              const float *mult, P put)
{
    const int warp = (int)threadIdx.x / 32, group = (int)threadIdx.x % 32 / 4, quad = (int)threadIdx.x % 4;
#pragma unroll
    for (int m = 0; m < M_TILES; m++)
#pragma unroll
        for (int n = 0; n < N_TILES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int channel = n * 8 + quad * 2;
                put(warp * WARP_PIXELS + m * 16 + group + i * 8, channel, make(sums[m][n][i * 2], bias, mult, channel),
                    make(sums[m][n][i * 2 + 1], bias, mult, channel + 1));
            }
}

/* Stores 16 bytes of outputs, or those of them that lie in the tensor one by one. */
template <typename O> __device__ inline void store(O *dst, int32_t pitch, int32_t k, const uint4 &bits)
{
    enum { VECTOR = 16 / sizeof(O) };
    union {
        uint4 bits;
        O out[VECTOR];
    } outputs;
    outputs.bits = bits;
    if (pitch % VECTOR == 0) {
        if (k < pitch)
            *reinterpret_cast<uint4 *>(dst + k) = bits;
        return;
    }
    for (int i = 0; i < VECTOR; i++)
        if (k + i < pitch)
            dst[k + i] = outputs.out[i];
}

/* Larger of each pair of signed bytes. */
__device__ inline uint32_t max_bytes(uint32_t a, uint32_t b)
{
    uint32_t larger = 0;
#pragma unroll
    for (int shift = 0; shift < 32; shift += 8) {
        const int8_t x = (int8_t)(a >> shift), y = (int8_t)(b >> shift);
        larger |= (uint32_t)(uint8_t)(x > y ? x : y) << shift;
    }
    return larger;
}

/* Staged outputs [pixel][64 channels] to dst [N,P/pool,Q/pool,K], pooled on the way. */
template <typename O, bool POOL>
__device__ inline void store_tile(const cnn_first_conv &f, const tile &t, const unsigned char *staged,
                                  const int32_t *pixels, int32_t first, O *dst)
{
    enum { PITCH = CHANNELS * sizeof(O) + CNN_FIRST_PIXEL_PAD, VECTOR = 16 / sizeof(O), VECTORS = CHANNELS / VECTOR };
    const int32_t pool = POOL ? f.pool : 1, rows = f.tile_p / pool, columns = f.tile_q / pool;
    const int32_t out_p = f.p / pool, out_q = f.q / pool;
    for (int i = (int)threadIdx.x; i < rows * columns * VECTORS; i += THREADS) {
        const int32_t number = i / VECTORS, vector = i % VECTORS;
        const int32_t row = POOL ? number / columns : pixels[number] >> 16;
        const int32_t column = POOL ? number % columns : pixels[number] & 0xFFFF;
        const int32_t p = t.p / pool + row, q = t.q / pool + column;
        if (p >= out_p || q >= out_q)
            continue;
        const unsigned char *corner = staged + (row * f.tile_q + column) * pool * PITCH + vector * 16;
        uint4 bits = *reinterpret_cast<const uint4 *>(corner);
        for (int32_t at = 1; POOL && at < pool * pool; at++) {
            const uint4 more = *reinterpret_cast<const uint4 *>(corner + (at / pool * f.tile_q + at % pool) * PITCH);
            bits.x = max_bytes(bits.x, more.x);
            bits.y = max_bytes(bits.y, more.y);
            bits.z = max_bytes(bits.z, more.z);
            bits.w = max_bytes(bits.w, more.w);
        }
        store<O>(dst + (((int64_t)t.n * out_p + p) * out_q + q) * f.dst_pitch, f.dst_pitch, first + vector * VECTOR,
                 bits);
    }
}

/* ---- The kernel ---- */

template <typename O, bool STAGED> struct sink;

/* Outputs of 1 or 2 bytes: by way of shared memory, where a warp's pairs hit different banks (or share words). */
template <typename O> struct sink<O, true> {
    unsigned char *staged;
    __device__ void operator()(int pixel, int channel, O value, O next) const
    {
        enum { PITCH = CHANNELS * sizeof(O) + CNN_FIRST_PIXEL_PAD };
        *reinterpret_cast<cnn_vec<O, 2> *>(staged + pixel * (int)PITCH + channel * (int)sizeof(O)) = {{value, next}};
    }
};

/* Outputs of 4 bytes: the 4 threads of a quad store 32 neighbouring bytes, a whole sector. */
template <typename O> struct sink<O, false> {
    cnn_first_conv f;
    tile t;
    const int32_t *pixels;
    int32_t first;
    O *dst;
    __device__ void operator()(int pixel, int channel, O value, O next) const
    {
        const int32_t p = t.p + (pixels[pixel] >> 16), q = t.q + (pixels[pixel] & 0xFFFF), k = first + channel;
        if (pixel >= f.tile_p * f.tile_q || p >= f.p || q >= f.q)
            return;
        O *to = dst + (((int64_t)t.n * f.p + p) * f.q + q) * f.dst_pitch + k;
        if (k < f.dst_pitch)
            to[0] = value;
        if (k + 1 < f.dst_pitch)
            to[1] = next;
    }
};

/* Block (tiles x, x + gridDim.x, ...; 64 output channels). B is the type of biases. */
template <typename T, typename O, typename B, bool POOL>
__global__ void __launch_bounds__(THREADS, sizeof(typename O::out) < 4 ? 4 : 3)
    k_conv_first(cnn_first_conv f, cnn_first_layout at, int64_t tiles, const typename T::element *src,
                 const typename T::element *weight, const B *bias, const float *mult, O make, typename O::out *dst)
{
    typedef typename O::out out;
    CNN_DYNAMIC_SHARED(unsigned char, shared);
    typename T::element *weights = reinterpret_cast<typename T::element *>(shared + at.weights);
    typename T::element *image = reinterpret_cast<typename T::element *>(shared + at.image);
    B *biases = reinterpret_cast<B *>(shared + at.bias);
    float *mults = reinterpret_cast<float *>(shared + at.mult);
    int16_t *offsets = reinterpret_cast<int16_t *>(shared + at.offsets);
    int32_t *pixels = reinterpret_cast<int32_t *>(shared + at.pixels);
    unsigned char *staged = shared + at.staged;
    const int32_t first = (int32_t)blockIdx.y * CHANNELS;
    const int thread = (int)threadIdx.x, warp = thread / 32, group = thread % 32 / 4;

    fill_weights<T>(f, weight, first, at.weight_words, weights);
    fill_offsets(f, f.steps * 8 * T::PER, offsets);
    fill_pixels(f, pixels);
    if (thread < CHANNELS) {
        biases[thread] = bias && first + thread < f.k ? bias[first + thread] : (B)0;
        mults[thread] = mult && first + thread < f.k ? mult[first + thread] : 0;
    }
    int base[M_TILES][2]; /* of this thread's pixels in the image; pixels beyond the tile read any */
#pragma unroll
    for (int i = 0; i < M_TILES * 2; i++) {
        const int pixel = warp * WARP_PIXELS + i / 2 * 16 + group + i % 2 * 8;
        const int row = pixel / f.tile_q, column = pixel % f.tile_q;
        base[i / 2][i % 2] = row < f.tile_p ? (row * f.image_w + column) * f.stride * f.c : 0;
    }

    image_ahead<T, 4> ahead;
    ahead.load(f, tile_at(f, blockIdx.x), src);
    for (int64_t number = blockIdx.x; number < tiles; number += gridDim.x) {
        const tile t = tile_at(f, number);
        __syncthreads(); /* the tile before has been multiplied and stored */
        ahead.store(f, t, src, image);
        __syncthreads();
        if (number + gridDim.x < tiles)
            ahead.load(f, tile_at(f, number + gridDim.x), src);
        if (warp * WARP_PIXELS < f.tile_p * f.tile_q) {
            typename T::sum sums[M_TILES][N_TILES][4] = {};
            multiply<T>(f, image, offsets, reinterpret_cast<const uint32_t *>(weights), at.weight_words, base, sums);
            if constexpr (sizeof(out) < 4)
                finish<T>(sums, make, biases, mults, sink<out, true>{staged});
            else
                finish<T>(sums, make, biases, mults, sink<out, false>{f, t, pixels, first, dst});
        }
        if constexpr (sizeof(out) < 4) {
            __syncthreads();
            store_tile<out, POOL>(f, t, staged, pixels, first, dst);
        }
    }
}

template <typename T, typename B, bool POOL, typename O>
cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], const O &make, cudaStream_t stream)
{
    const cnn_first_conv f = cnn_first_conv_of(desc, &desc->arg[CNN_ARG_WEIGHT], &desc->arg[CNN_ARG_DST]);
    const cnn_first_layout at = cnn_first_layout_of(&f, sizeof(typename T::element), sizeof(typename O::out));
    const int64_t tiles = cnn_first_tiles(&f);
    const unsigned chunks = (unsigned)((f.dst_pitch + CHANNELS - 1) / CHANNELS);
    /* Enough blocks to fill the GPU once; beyond that a block keeps its weights for up to 16 tiles. */
    int64_t a_block = (tiles * chunks + enough_blocks - 1) / enough_blocks;
    a_block = a_block > most_tiles_a_block ? most_tiles_a_block : a_block;
    const int64_t blocks = (tiles + a_block - 1) / a_block;
    const dim3 grid(blocks < INT32_MAX ? (unsigned)blocks : INT32_MAX, chunks);
    return CNN_LAUNCH((k_conv_first<T, O, B, POOL>), grid, dim3(THREADS), (size_t)at.bytes, stream, f, at, tiles,
                      static_cast<const typename T::element *>(arg[CNN_ARG_SRC]),
                      static_cast<const typename T::element *>(arg[CNN_ARG_WEIGHT]),
                      static_cast<const B *>(arg[CNN_ARG_BIAS]), static_cast<const float *>(arg[CNN_ARG_MULT]), make,
                      static_cast<typename O::out *>(arg[CNN_ARG_DST]));
}

} // namespace

cudaError_t cnn_cuda_conv_first(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                const cnn_cuda_queue *queue)
{
    (void)workspace;
    const bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    const requantized quantized = {desc->lo, desc->hi};
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_F16)
        return launch<half_type, float, false>(desc, arg, float_output<half_type>{relu}, queue->stream);
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_BF16)
        return launch<bf16_type, float, false>(desc, arg, float_output<bf16_type>{relu}, queue->stream);
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL))
        return launch<i8_type, int32_t, true>(desc, arg, quantized, queue->stream);
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_REQUANTIZE))
        return launch<i8_type, int32_t, false>(desc, arg, quantized, queue->stream);
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_DEQUANTIZE))
        return launch<i8_type, int32_t, false>(desc, arg, dequantized(), queue->stream);
    return launch<i8_type, int32_t, false>(desc, arg, plain_sum(), queue->stream);
}
