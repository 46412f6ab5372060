/* Convolutions in groups, depthwise ones among them: forward, data gradient, weight gradient.
 *
 * A group has few products for each value, so these are bound by memory and need no tiles. Forward and data gradient: a
 * thread makes one channel of one pixel; threads of a warp go over the channels, so that a depthwise convolution reads
 * neighbouring bytes at each tap. The taps of a window come from L1: each value is read from memory once or twice.
 *
 * Weight gradient: a block makes one tap of up to 32 output channels over a slice of the output pixels. Its rows take
 * turns at the pixels and are added up in order; slices, cut by shape alone, are added by a second kernel. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/values.cuh"

#include <cmath>

namespace
{

enum { THREADS = 256, LANES = 32, ROWS = THREADS / LANES, SLICE = 2048, MOST_SLICES = 64 };

/* x [N,H,W,C], w [K,R,S,inputs], y [N,P,Q,K] and their channels in memory; group k/outputs of K reads `inputs` of C. */
struct group_shape {
    int32_t n, h, w, c, k, r, s, p, q, stride, pad, inputs, outputs;
    int32_t x_pitch, w_pitch, y_pitch;
};

/* ---- What is done with a sum ---- */

/* The epilogue's steps, each rounded to f32; channels from `channels` on are padding. */
template <typename T, typename OUT> struct store_float {
    const float *bias; /* [channels] or NULL */
    const T *add;      /* [pixels, add_pitch] or NULL */
    OUT *dst;          /* [pixels, pitch] */
    int32_t channels, pitch, add_pitch;
    bool relu;
    float hi; /* of the ReLU; infinity: none */
    __device__ void operator()(int64_t pixel, int32_t channel, float sum) const
    {
        if (channel < channels) {
            if (bias)
                sum += bias[channel];
            if (add)
                sum += cnn_to_float(add[pixel * add_pitch + channel]);
            if (relu)
                sum = sum <= 0.0f ? 0.0f : sum > hi ? hi : sum; /* NaN stays */
        }
        dst[pixel * pitch + channel] = cnn_from_float<OUT>(channel < channels ? sum : 0.0f);
    }
};

struct store_i32 {
    int32_t *dst; /* [pixels, pitch] */
    int32_t pitch;
    __device__ void operator()(int64_t pixel, int32_t channel, int32_t sum) const
    {
        dst[pixel * pitch + channel] = sum;
    }
};

/* ---- Forward and data gradient ---- */

/* One output channel of output pixel (n,p,q). */
template <typename T, typename ACC>
__device__ inline ACC output_sum(const group_shape &g, const T *x, const T *weight, int32_t n, int32_t pixel, int32_t k)
{
    const int32_t top = pixel / g.q * g.stride - g.pad, left = pixel % g.q * g.stride - g.pad;
    const T *filter = weight + static_cast<int64_t>(k) * g.r * g.s * g.w_pitch;
    const T *image = x + static_cast<int64_t>(n) * g.h * g.w * g.x_pitch + k / g.outputs * g.inputs;
    ACC sum = 0;
    for (int32_t r = max(0, -top); r < min(g.r, g.h - top); r++)
        for (int32_t s = max(0, -left); s < min(g.s, g.w - left); s++) {
            const T *from = image + (static_cast<int64_t>(top + r) * g.w + left + s) * g.x_pitch;
            const T *by = filter + (r * g.s + s) * g.w_pitch;
            for (int32_t c = 0; c < g.inputs; c++)
                sum = multiply_add(value_of(from[c], ACC()), value_of(by[c], ACC()), sum);
        }
    return sum;
}

/* One input channel of input pixel (n,h,w). */
template <typename T>
__device__ inline float input_sum(const group_shape &g, const T *dy, const T *weight, int32_t n, int32_t pixel,
                                  int32_t c)
{
    const int32_t down = pixel / g.w + g.pad, right = pixel % g.w + g.pad, first = c / g.inputs * g.outputs;
    const T *image = dy + static_cast<int64_t>(n) * g.p * g.q * g.y_pitch + first;
    const int32_t filter_pitch = g.r * g.s * g.w_pitch;
    const T *filters = weight + static_cast<int64_t>(first) * filter_pitch + c % g.inputs;
    float sum = 0.0f;
    for (int32_t r = 0; r < min(g.r, down + 1); r++) {
        const int32_t p = (down - r) / g.stride;
        if (p * g.stride != down - r || p >= g.p)
            continue;
        for (int32_t s = 0; s < min(g.s, right + 1); s++) {
            const int32_t q = (right - s) / g.stride;
            if (q * g.stride != right - s || q >= g.q)
                continue;
            const T *from = image + (static_cast<int64_t>(p) * g.q + q) * g.y_pitch;
            const T *by = filters + (r * g.s + s) * g.w_pitch;
            for (int32_t k = 0; k < g.outputs; k++)
                sum = fmaf(cnn_to_float(from[k]), cnn_to_float(by[static_cast<int64_t>(k) * filter_pitch]), sum);
        }
    }
    return sum;
}

/* Blocks as cnn_image_tiles has them, over the pixels and channels in memory of what is written. */
template <typename T, typename ACC, typename STORE, bool DGRAD>
__global__ void __launch_bounds__(THREADS)
    k_group_conv(group_shape g, const T *src, const T *weight, STORE store, int32_t channels_in_memory)
{
    const int32_t pixels = DGRAD ? g.h * g.w : g.p * g.q, channels = DGRAD ? g.c : g.k;
    for (int32_t n = static_cast<int32_t>(blockIdx.y); n < g.n; n += static_cast<int32_t>(gridDim.y))
        for (int32_t at = static_cast<int32_t>(blockIdx.x * blockDim.y + threadIdx.y); at < pixels;
             at += static_cast<int32_t>(gridDim.x * blockDim.y))
            for (int32_t c = static_cast<int32_t>(threadIdx.x); c < channels_in_memory;
                 c += static_cast<int32_t>(blockDim.x)) {
                ACC sum = 0;
                if (c < channels) {
                    if constexpr (DGRAD)
                        sum = input_sum<T>(g, src, weight, n, at, c);
                    else
                        sum = output_sum<T, ACC>(g, src, weight, n, at, c);
                }
                store(static_cast<int64_t>(n) * pixels + at, c, sum);
            }
}

/* ---- Weight gradient ---- */

/* Blocks: x over output channels, y over (r, s, c in memory), z over slices of the output pixels.
 * parts [slices][K][R][S][w_pitch] */
template <typename T>
__global__ void __launch_bounds__(THREADS)
    k_group_conv_wgrad(group_shape g, const T *x, const T *dy, float *parts, int32_t slice_pixels)
{
    __shared__ float sums[ROWS][LANES];
    const int32_t k = static_cast<int32_t>(blockIdx.x * LANES + threadIdx.x);
    const int32_t column = static_cast<int32_t>(blockIdx.y), c = column % g.w_pitch, tap = column / g.w_pitch;
    const int32_t r = tap / g.s - g.pad, s = tap % g.s - g.pad;
    const int32_t pixels = g.n * g.p * g.q, begin = static_cast<int32_t>(blockIdx.z) * slice_pixels;
    const int32_t end = min(pixels - begin, slice_pixels) + begin;
    float sum = 0.0f;
    if (k < g.k && c < g.inputs) {
        const int32_t channel = k / g.outputs * g.inputs + c;
        for (int32_t pixel = begin + static_cast<int32_t>(threadIdx.y); pixel < end; pixel += ROWS) {
            const int32_t q = pixel % g.q, rest = pixel / g.q, p = rest % g.p, n = rest / g.p;
            const int32_t h = p * g.stride + r, w = q * g.stride + s;
            if (h < 0 || h >= g.h || w < 0 || w >= g.w)
                continue;
            const int64_t from = (static_cast<int64_t>(n) * g.h + h) * g.w + w;
            sum = fmaf(cnn_to_float(x[from * g.x_pitch + channel]),
                       cnn_to_float(dy[static_cast<int64_t>(pixel) * g.y_pitch + k]), sum);
        }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || k >= g.k)
        return;
    for (int row = 1; row < ROWS; row++)
        sum += sums[row][threadIdx.x];
    const int64_t columns = static_cast<int64_t>(gridDim.y);
    parts[(static_cast<int64_t>(blockIdx.z) * g.k + k) * columns + column] = sum;
}

/* dst[i] = sum over slices of parts[slice*count + i] */
__global__ void __launch_bounds__(THREADS)
    k_group_conv_finish(const float *parts, int32_t slices, int64_t count, float *dst)
{
    for (int64_t i = cnn_first_item(); i < count; i += cnn_item_step()) {
        float sum = 0.0f;
        for (int32_t slice = 0; slice < slices; slice++)
            sum += parts[slice * count + i];
        dst[i] = sum;
    }
}

/* ---- Launches ---- */

group_shape shape_of(const cnn_op_desc *desc)
{
    const bool dgrad = cnn_op_is_dgrad(desc->op), wgrad = cnn_op_is_wgrad(desc->op);
    const cnn_tensor_desc *x = &desc->arg[dgrad ? CNN_ARG_DST : CNN_ARG_SRC];
    const cnn_tensor_desc *w = &desc->arg[wgrad ? CNN_ARG_DST : CNN_ARG_WEIGHT];
    const cnn_tensor_desc *y = &desc->arg[dgrad ? CNN_ARG_SRC : wgrad ? CNN_ARG_SRC2 : CNN_ARG_DST];
    group_shape g = {};
    g.n = x->n;
    g.h = x->h;
    g.w = x->w;
    g.c = x->c;
    g.k = w->n;
    g.r = w->h;
    g.s = w->w;
    g.stride = desc->stride;
    g.pad = desc->pad;
    g.p = cnn_window_count(g.h, g.r, g.stride, g.pad);
    g.q = cnn_window_count(g.w, g.s, g.stride, g.pad);
    g.inputs = w->c;
    g.outputs = g.k / (g.c / w->c);
    g.x_pitch = x->c_pad;
    g.w_pitch = w->c_pad;
    g.y_pitch = y->c_pad;
    return g;
}

template <typename T, typename ACC, bool DGRAD, typename STORE>
cudaError_t launch(const group_shape &g, void *const arg[CNN_ARG_COUNT], STORE store, int32_t channels,
                   cudaStream_t stream)
{
    const cnn_tiles tiles = cnn_image_tiles(g.n, DGRAD ? g.h * g.w : g.p * g.q, channels, THREADS);
    return CNN_LAUNCH((k_group_conv<T, ACC, STORE, DGRAD>), tiles.grid, tiles.block, 0, stream, g,
                      static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<const T *>(arg[CNN_ARG_WEIGHT]), store,
                      channels);
}

template <typename T, typename OUT>
cudaError_t forward(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const group_shape g = shape_of(desc);
    store_float<T, OUT> store = {};
    store.bias = static_cast<const float *>(arg[CNN_ARG_BIAS]);
    store.add = static_cast<const T *>(arg[CNN_ARG_SRC2]);
    store.add_pitch = desc->arg[CNN_ARG_SRC2].c_pad;
    store.dst = static_cast<OUT *>(arg[CNN_ARG_DST]);
    store.channels = g.k;
    store.pitch = g.y_pitch;
    const bool clip = cnn_op_has_epilogue(desc, CNN_EPILOGUE_CLIP);
    store.relu = clip || cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    store.hi = clip ? desc->hi : INFINITY;
    return launch<T, float, false>(g, arg, store, g.y_pitch, stream);
}

template <typename T, typename OUT>
cudaError_t data_gradient(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const group_shape g = shape_of(desc);
    store_float<T, OUT> store = {};
    store.dst = static_cast<OUT *>(arg[CNN_ARG_DST]);
    store.channels = g.c;
    store.pitch = g.x_pitch;
    return launch<T, float, true>(g, arg, store, g.x_pitch, stream);
}

/* i32 sums, then what follows them. */
cudaError_t forward_i8(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t *sums, cudaStream_t stream)
{
    const group_shape g = shape_of(desc);
    const store_i32 store = {sums, g.k};
    const cudaError_t error = launch<int8_t, int32_t, false>(g, arg, store, g.k, stream);
    return error == cudaSuccess ? cnn_cuda_i32_epilogue(desc, arg, sums, g.k, stream) : error;
}

template <typename T>
cudaError_t by_output(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const bool gradient = desc->op == CNN_OP_GROUP_CONV_DGRAD;
    if (desc->arg[CNN_ARG_DST].dtype == CNN_F32)
        return gradient ? data_gradient<T, float>(desc, arg, stream) : forward<T, float>(desc, arg, stream);
    return gradient ? data_gradient<T, T>(desc, arg, stream) : forward<T, T>(desc, arg, stream);
}

/* How the pixels of a weight gradient are cut. */
struct wgrad_cut {
    int32_t slice_pixels, slices;
    size_t parts_bytes; /* 0: one slice, no parts */
};

wgrad_cut cut_of(const group_shape &g)
{
    const int64_t pixels = static_cast<int64_t>(g.n) * g.p * g.q;
    const int64_t least = (pixels + MOST_SLICES - 1) / MOST_SLICES, slice = least < SLICE ? int64_t{SLICE} : least;
    const size_t filters = static_cast<size_t>(g.k) * static_cast<size_t>(g.r * g.s * g.w_pitch);
    wgrad_cut cut;
    cut.slice_pixels = static_cast<int32_t>(slice);
    cut.slices = static_cast<int32_t>((pixels + slice - 1) / slice);
    cut.parts_bytes = cut.slices > 1 ? static_cast<size_t>(cut.slices) * filters * sizeof(float) : 0;
    return cut;
}

template <typename T>
cudaError_t weight_gradient(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                            const cnn_cuda_queue *queue)
{
    const group_shape g = shape_of(desc);
    const wgrad_cut cut = cut_of(g);
    float *dst = static_cast<float *>(arg[CNN_ARG_DST]);
    float *parts = cut.slices > 1 ? static_cast<float *>(workspace) : dst;
    const dim3 grid((static_cast<unsigned>(g.k) + LANES - 1) / LANES, static_cast<unsigned>(g.r * g.s * g.w_pitch),
                    static_cast<unsigned>(cut.slices));
    cudaError_t error = CNN_LAUNCH((k_group_conv_wgrad<T>), grid, dim3(LANES, ROWS), 0, queue->stream, g,
                                   static_cast<const T *>(arg[CNN_ARG_SRC]), static_cast<const T *>(arg[CNN_ARG_SRC2]),
                                   parts, cut.slice_pixels);
    if (error == cudaSuccess && cut.slices > 1) {
        const int64_t count = static_cast<int64_t>(g.k) * g.r * g.s * g.w_pitch;
        error = CNN_LAUNCH(k_group_conv_finish, cnn_blocks(count, THREADS), THREADS, 0, queue->stream, parts,
                           cut.slices, count, dst);
    }
    if (error == cudaSuccess && arg[CNN_ARG_DST2])
        error = cnn_cuda_column_sum(
            arg[CNN_ARG_SRC2], desc->arg[CNN_ARG_SRC2].dtype, static_cast<int64_t>(g.n) * g.p * g.q, g.k, g.y_pitch,
            static_cast<float *>(arg[CNN_ARG_DST2]), static_cast<char *>(workspace) + cut.parts_bytes, queue);
    return error;
}

} // namespace

size_t cnn_cuda_group_conv_workspace(const cnn_op_desc *desc)
{
    const group_shape g = shape_of(desc);
    const size_t pixels = static_cast<size_t>(g.n) * static_cast<size_t>(g.p) * static_cast<size_t>(g.q);
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        return pixels * static_cast<size_t>(g.k) * sizeof(int32_t);
    if (desc->op != CNN_OP_GROUP_CONV_WGRAD)
        return 0;
    return cut_of(g).parts_bytes + cnn_cuda_column_sum_workspace(static_cast<int64_t>(pixels), g.k);
}

cudaError_t cnn_cuda_group_conv(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                const cnn_cuda_queue *queue)
{
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return desc->op == CNN_OP_GROUP_CONV_DGRAD ? data_gradient<float, float>(desc, arg, queue->stream)
                                                   : forward<float, float>(desc, arg, queue->stream);
    case CNN_F16:
        return by_output<__half>(desc, arg, queue->stream);
    case CNN_BF16:
        return by_output<__nv_bfloat16>(desc, arg, queue->stream);
    case CNN_I8:
        return forward_i8(desc, arg, static_cast<int32_t *>(workspace), queue->stream);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t cnn_cuda_group_conv_wgrad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                      const cnn_cuda_queue *queue)
{
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return weight_gradient<float>(desc, arg, workspace, queue);
    case CNN_F16:
        return weight_gradient<__half>(desc, arg, workspace, queue);
    case CNN_BF16:
        return weight_gradient<__nv_bfloat16>(desc, arg, workspace, queue);
    default:
        return cudaErrorInvalidValue;
    }
}
