/* Convolutions and linear layers of any shape and padding, forward, data gradient and weight gradient: what is left
 * when the libraries and the tensor-core kernels refuse. Correct and steady, not fast.
 *
 * All are matrix products whose factors are gathered, sum_d A[row][d] B[column][d]:
 *   forward          row = output pixel   column = output channel k     d = (r, s, c)
 *   data gradient    row = input pixel    column = input channel c      d = (r, s, k)
 *   weight gradient  row = k              column = (r, s, c)            d = output pixel
 * A block makes 64 x 64 sums in 16 steps of d at a time: both tiles go to shared memory in f32 (INT8: int32), each of
 * 256 threads adds 4 x 4 products a step from two 16-byte reads. Per step 65,536 multiply-adds for 2,048 loaded
 * values; neighbouring threads load what lies side by side. Weight gradients, with few sums of many terms, are cut
 * into slices of d by shape alone; their partial sums are added in order. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/values.cuh"

namespace
{

enum { THREADS = 256, TILE = 64, DEPTH = 16, PITCH = TILE + 4, EACH = 4, LOADS = TILE * DEPTH / THREADS };
enum { SLICE = 2048, FINISH_THREADS = 256 };

/* x [N,H,W,C], w [K,R,S,C], y [N,P,Q,K] and their channels in memory. */
struct conv_shape {
    int32_t n, h, w, c, k, r, s, p, q, stride, pad;
    int32_t x_pitch, w_pitch, y_pitch;
};

/* ---- Factors: at_line() and at_depth() are worked out once for a row or column and once for a d; offset() joins them,
 * < 0 where the factor is 0. ALONG_DEPTH: neighbours of d, not of the row, lie side by side. ---- */

struct place {
    int64_t base;
    int32_t i, j; /* pixel or tap */
};

/* x at the taps of an output pixel. */
struct taps_of_y {
    enum { ALONG_DEPTH = 1 };
    conv_shape s;
    int32_t lines, depths;
    __device__ place at_line(int32_t pixel) const
    {
        const int32_t q = pixel % s.q, rest = pixel / s.q, p = rest % s.p, n = rest / s.p;
        return place{static_cast<int64_t>(n) * s.h * s.w * s.x_pitch, p * s.stride - s.pad, q * s.stride - s.pad};
    }
    __device__ place at_depth(int32_t d) const
    {
        const int32_t tap = d / s.c;
        return place{d % s.c, tap / s.s, tap % s.s};
    }
    __device__ int64_t offset(const place &line, const place &depth) const
    {
        const int32_t h = line.i + depth.i, w = line.j + depth.j;
        if (h < 0 || h >= s.h || w < 0 || w >= s.w)
            return -1;
        return line.base + (static_cast<int64_t>(h) * s.w + w) * s.x_pitch + depth.base;
    }
};

/* w of an output channel. */
struct filter {
    enum { ALONG_DEPTH = 1 };
    conv_shape s;
    int32_t lines, depths;
    __device__ place at_line(int32_t k) const
    {
        return place{static_cast<int64_t>(k) * s.r * s.s * s.w_pitch, 0, 0};
    }
    __device__ place at_depth(int32_t d) const
    {
        return place{static_cast<int64_t>(d / s.c) * s.w_pitch + d % s.c, 0, 0};
    }
    __device__ int64_t offset(const place &line, const place &depth) const
    {
        return line.base + depth.base;
    }
};

/* dy of the output pixels that an input pixel is a tap of. */
struct taps_of_x {
    enum { ALONG_DEPTH = 1 };
    conv_shape s;
    int32_t lines, depths;
    __device__ place at_line(int32_t pixel) const
    {
        const int32_t w = pixel % s.w, rest = pixel / s.w, h = rest % s.h, n = rest / s.h;
        return place{static_cast<int64_t>(n) * s.p * s.q * s.y_pitch, h + s.pad, w + s.pad};
    }
    __device__ place at_depth(int32_t d) const
    {
        const int32_t tap = d / s.k;
        return place{d % s.k, tap / s.s, tap % s.s};
    }
    __device__ int64_t offset(const place &line, const place &depth) const
    {
        const int32_t h = line.i - depth.i, w = line.j - depth.j;
        const int32_t p = h / s.stride, q = w / s.stride;
        if (h < 0 || w < 0 || p * s.stride != h || q * s.stride != w || p >= s.p || q >= s.q)
            return -1;
        return line.base + (static_cast<int64_t>(p) * s.q + q) * s.y_pitch + depth.base;
    }
};

/* w of an input channel; d = (r, s, k). */
struct filter_of_x {
    enum { ALONG_DEPTH = 0 };
    conv_shape s;
    int32_t lines, depths;
    __device__ place at_line(int32_t c) const
    {
        return place{c, 0, 0};
    }
    __device__ place at_depth(int32_t d) const
    {
        const int32_t tap = d / s.k, k = d % s.k;
        return place{(static_cast<int64_t>(k) * s.r * s.s + tap) * s.w_pitch, 0, 0};
    }
    __device__ int64_t offset(const place &line, const place &depth) const
    {
        return line.base + depth.base;
    }
};

/* dy of an output channel; d = output pixel. */
struct channel_of_y {
    enum { ALONG_DEPTH = 0 };
    conv_shape s;
    int32_t lines, depths;
    __device__ place at_line(int32_t k) const
    {
        return place{k, 0, 0};
    }
    __device__ place at_depth(int32_t pixel) const
    {
        return place{static_cast<int64_t>(pixel) * s.y_pitch, 0, 0};
    }
    __device__ int64_t offset(const place &line, const place &depth) const
    {
        return line.base + depth.base;
    }
};

/* x at a tap and channel, (r, s, c in memory), of an output pixel. */
struct tap_of_y {
    enum { ALONG_DEPTH = 0 };
    conv_shape s;
    int32_t lines, depths;
    __device__ place at_line(int32_t column) const
    {
        const int32_t tap = column / s.w_pitch, c = column % s.w_pitch;
        return place{c < s.c ? c : -1, tap / s.s, tap % s.s};
    }
    __device__ place at_depth(int32_t pixel) const
    {
        const int32_t q = pixel % s.q, rest = pixel / s.q, p = rest % s.p, n = rest / s.p;
        return place{static_cast<int64_t>(n) * s.h * s.w * s.x_pitch, p * s.stride - s.pad, q * s.stride - s.pad};
    }
    __device__ int64_t offset(const place &line, const place &depth) const
    {
        const int32_t h = line.i + depth.i, w = line.j + depth.j;
        if (line.base < 0 || h < 0 || h >= s.h || w < 0 || w >= s.w)
            return -1;
        return depth.base + (static_cast<int64_t>(h) * s.w + w) * s.x_pitch + line.base;
    }
};

/* ---- What is done with a sum ---- */

/* The epilogue's steps, each rounded to f32; columns from channels on are padding. */
template <typename T, typename OUT> struct store_float {
    const float *bias; /* [channels] or NULL */
    const T *add;      /* [rows, add_pitch] or NULL */
    OUT *dst;          /* [rows, pitch] */
    int32_t channels, pitch, add_pitch;
    bool relu;
    __device__ void operator()(int32_t row, int32_t column, float sum) const
    {
        if (column < channels) {
            if (bias)
                sum += bias[column];
            if (add)
                sum += cnn_to_float(add[static_cast<int64_t>(row) * add_pitch + column]);
            if (relu)
                sum = sum <= 0.0f ? 0.0f : sum; /* NaN stays */
        }
        dst[static_cast<int64_t>(row) * pitch + column] = cnn_from_float<OUT>(column < channels ? sum : 0.0f);
    }
};

/* Slice z of the sums. */
template <typename ACC> struct store_part {
    ACC *dst; /* [slices, rows, columns] */
    int32_t rows, columns;
    __device__ void operator()(int32_t row, int32_t column, ACC sum) const
    {
        dst[(static_cast<int64_t>(blockIdx.z) * rows + row) * columns + column] = sum;
    }
};

/* ---- The product ---- */

/* Loads the LOADS values of a tile that are this thread's, tile[depth][line]. */
template <typename T, typename ACC, typename F>
__device__ inline void load_tile(const F &factor, const T *data, int32_t first_line, int32_t first_depth,
                                 int32_t end_depth, ACC (*tile)[PITCH])
{
    const int32_t thread = static_cast<int32_t>(threadIdx.x);
    constexpr bool ALONG = F::ALONG_DEPTH;
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const int32_t line = ALONG ? thread / DEPTH + i * (THREADS / DEPTH) : thread % TILE;
        const int32_t depth = ALONG ? thread % DEPTH : thread / TILE + i * (THREADS / TILE);
        ACC value = 0;
        if (first_line + line < factor.lines && first_depth + depth < end_depth) {
            const int64_t at = factor.offset(factor.at_line(first_line + line), factor.at_depth(first_depth + depth));
            if (at >= 0)
                value = value_of(data[at], ACC());
        }
        tile[depth][line] = value;
    }
}

/* Blocks: x over rows, y over columns, z over slices of d. b has b.lines columns; those up to `columns` are padding. */
template <typename T, typename ACC, typename A, typename B, typename STORE>
__global__ void __launch_bounds__(THREADS)
    k_conv(A a, const T *a_data, B b, const T *b_data, STORE store, int32_t columns, int32_t slice_depth)
{
    __shared__ __align__(16) ACC a_tile[DEPTH][PITCH];
    __shared__ __align__(16) ACC b_tile[DEPTH][PITCH];
    typedef cnn_vec<ACC, EACH> vec;
    const int32_t first_row = static_cast<int32_t>(blockIdx.x) * TILE;
    const int32_t first_column = static_cast<int32_t>(blockIdx.y) * TILE;
    const int32_t begin = static_cast<int32_t>(blockIdx.z) * slice_depth;
    const int32_t end = min(a.depths - begin, slice_depth) + begin;
    const int32_t row = static_cast<int32_t>(threadIdx.x) / (TILE / EACH) * EACH;
    const int32_t column = static_cast<int32_t>(threadIdx.x) % (TILE / EACH) * EACH;
    const bool mine = first_row + row < a.lines && first_column + column < columns;
    ACC sum[EACH][EACH] = {};
    for (int32_t d = begin; d < end; d += DEPTH) {
        load_tile(a, a_data, first_row, d, end, a_tile);
        load_tile(b, b_data, first_column, d, end, b_tile);
        __syncthreads();
#pragma unroll
        for (int depth = 0; mine && depth < DEPTH; depth++) {
            const vec left = *reinterpret_cast<const vec *>(&a_tile[depth][row]);
            const vec right = *reinterpret_cast<const vec *>(&b_tile[depth][column]);
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int j = 0; j < EACH; j++)
                    sum[i][j] = multiply_add(left.at[i], right.at[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++)
            if (first_row + row + i < a.lines && first_column + column + j < columns)
                store(first_row + row + i, first_column + column + j, sum[i][j]);
}

/* dst[i] = sum over slices of parts[slice*count + i] */
__global__ void __launch_bounds__(FINISH_THREADS)
    k_conv_finish(const float *parts, int32_t slices, int64_t count, float *dst)
{
    for (int64_t i = cnn_first_item(); i < count; i += cnn_item_step()) {
        float sum = 0.0f;
        for (int32_t slice = 0; slice < slices; slice++)
            sum += parts[slice * count + i];
        dst[i] = sum;
    }
}

/* ---- Launches ---- */

conv_shape shape_of(const cnn_op_desc *desc)
{
    const bool linear = desc->op == CNN_OP_LINEAR || desc->op == CNN_OP_LINEAR_DGRAD || desc->op == CNN_OP_LINEAR_WGRAD;
    const bool dgrad = desc->op == CNN_OP_CONV_DGRAD || desc->op == CNN_OP_LINEAR_DGRAD;
    const bool wgrad = desc->op == CNN_OP_CONV_WGRAD || desc->op == CNN_OP_LINEAR_WGRAD;
    const cnn_tensor_desc *x = &desc->arg[dgrad ? CNN_ARG_DST : CNN_ARG_SRC];
    const cnn_tensor_desc *w = &desc->arg[wgrad ? CNN_ARG_DST : CNN_ARG_WEIGHT];
    const cnn_tensor_desc *y = &desc->arg[dgrad ? CNN_ARG_SRC : wgrad ? CNN_ARG_SRC2 : CNN_ARG_DST];
    conv_shape s = {};
    s.n = x->n;
    s.h = x->h;
    s.w = x->w;
    s.c = x->c;
    s.k = w->n;
    s.r = w->h;
    s.s = w->w;
    s.stride = linear ? 1 : desc->stride;
    s.pad = linear ? 0 : desc->pad;
    s.p = cnn_window_count(s.h, s.r, s.stride, s.pad);
    s.q = cnn_window_count(s.w, s.s, s.stride, s.pad);
    s.x_pitch = x->c_pad;
    s.w_pitch = w->c_pad;
    s.y_pitch = y->c_pad;
    return s;
}

unsigned tiles_of(int32_t lines)
{
    return (static_cast<unsigned>(lines) + TILE - 1) / TILE;
}

/* Columns are those of dst in memory, so that padding channels are written too; `columns` of them have a factor. */
template <typename T, typename ACC, typename A, typename B, typename STORE>
cudaError_t product(A a, const void *a_data, B b, const void *b_data, STORE store, int32_t columns, int32_t slice_depth,
                    cudaStream_t stream)
{
    const unsigned slices = (static_cast<unsigned>(a.depths) - 1) / static_cast<unsigned>(slice_depth) + 1;
    const dim3 grid(tiles_of(a.lines), tiles_of(columns), slices);
    return CNN_LAUNCH((k_conv<T, ACC, A, B, STORE>), grid, THREADS, 0, stream, a, static_cast<const T *>(a_data), b,
                      static_cast<const T *>(b_data), store, columns, slice_depth);
}

template <typename T, typename OUT>
cudaError_t forward(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const conv_shape s = shape_of(desc);
    const taps_of_y a = {s, s.n * s.p * s.q, s.r * s.s * s.c};
    const filter b = {s, s.k, a.depths};
    store_float<T, OUT> store = {};
    store.bias = static_cast<const float *>(arg[CNN_ARG_BIAS]);
    store.add = static_cast<const T *>(arg[CNN_ARG_SRC2]);
    store.add_pitch = desc->arg[CNN_ARG_SRC2].c_pad;
    store.dst = static_cast<OUT *>(arg[CNN_ARG_DST]);
    store.channels = s.k;
    store.pitch = s.y_pitch;
    store.relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    return product<T, float>(a, arg[CNN_ARG_SRC], b, arg[CNN_ARG_WEIGHT], store, s.y_pitch, a.depths, stream);
}

template <typename T, typename OUT>
cudaError_t data_gradient(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    const conv_shape s = shape_of(desc);
    const taps_of_x a = {s, s.n * s.h * s.w, s.r * s.s * s.k};
    const filter_of_x b = {s, s.c, a.depths};
    store_float<T, OUT> store = {};
    store.dst = static_cast<OUT *>(arg[CNN_ARG_DST]);
    store.channels = s.c;
    store.pitch = s.x_pitch;
    return product<T, float>(a, arg[CNN_ARG_SRC], b, arg[CNN_ARG_WEIGHT], store, s.x_pitch, a.depths, stream);
}

/* i32 sums, then what follows them. */
cudaError_t forward_i8(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int32_t *sums, cudaStream_t stream)
{
    const conv_shape s = shape_of(desc);
    const taps_of_y a = {s, s.n * s.p * s.q, s.r * s.s * s.c};
    const filter b = {s, s.k, a.depths};
    const store_part<int32_t> store = {sums, a.lines, s.k};
    const cudaError_t error =
        product<int8_t, int32_t>(a, arg[CNN_ARG_SRC], b, arg[CNN_ARG_WEIGHT], store, s.k, a.depths, stream);
    return error == cudaSuccess ? cnn_cuda_i32_epilogue(desc, arg, sums, s.k, stream) : error;
}

/* How the pixels of a weight gradient are cut: partial sums stay below 64 MB. */
struct wgrad_cut {
    int32_t slice_depth, slices;
    size_t parts_bytes; /* 0: one slice, no parts */
};

wgrad_cut cut_of(const conv_shape &s)
{
    const int64_t pixels = static_cast<int64_t>(s.n) * s.p * s.q;
    const size_t bytes =
        static_cast<size_t>(s.k) * static_cast<size_t>(s.r * s.s) * static_cast<size_t>(s.w_pitch) * sizeof(float);
    int64_t slice = SLICE;
    while (slice<pixels &&static_cast<size_t>((pixels + slice - 1) / slice) * bytes>(size_t{64} << 20))
        slice *= 2;
    wgrad_cut cut;
    cut.slice_depth = static_cast<int32_t>(slice);
    cut.slices = static_cast<int32_t>((pixels + slice - 1) / slice);
    cut.parts_bytes = cut.slices > 1 ? static_cast<size_t>(cut.slices) * bytes : 0;
    return cut;
}

template <typename T>
cudaError_t weight_gradient(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                            const cnn_cuda_queue *queue)
{
    const conv_shape s = shape_of(desc);
    const wgrad_cut cut = cut_of(s);
    const int32_t pixels = s.n * s.p * s.q, columns = s.r * s.s * s.w_pitch;
    const channel_of_y a = {s, s.k, pixels};
    const tap_of_y b = {s, columns, pixels};
    float *dst = static_cast<float *>(arg[CNN_ARG_DST]),
          *parts = cut.slices > 1 ? static_cast<float *>(workspace) : dst;
    const store_part<float> store = {parts, s.k, columns};
    cudaError_t error =
        product<T, float>(a, arg[CNN_ARG_SRC2], b, arg[CNN_ARG_SRC], store, columns, cut.slice_depth, queue->stream);
    if (error == cudaSuccess && cut.slices > 1) {
        const int64_t count = static_cast<int64_t>(s.k) * columns;
        error = CNN_LAUNCH(k_conv_finish, cnn_blocks(count, FINISH_THREADS), FINISH_THREADS, 0, queue->stream, parts,
                           cut.slices, count, dst);
    }
    if (error == cudaSuccess && arg[CNN_ARG_DST2])
        error = cnn_cuda_column_sum(arg[CNN_ARG_SRC2], desc->arg[CNN_ARG_SRC2].dtype, pixels, s.k, s.y_pitch,
                                    static_cast<float *>(arg[CNN_ARG_DST2]),
                                    static_cast<char *>(workspace) + cut.parts_bytes, queue);
    return error;
}

template <typename T>
cudaError_t by_output(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], bool gradient, cudaStream_t stream)
{
    if (desc->arg[CNN_ARG_DST].dtype == CNN_F32)
        return gradient ? data_gradient<T, float>(desc, arg, stream) : forward<T, float>(desc, arg, stream);
    return gradient ? data_gradient<T, T>(desc, arg, stream) : forward<T, T>(desc, arg, stream);
}

} // namespace

size_t cnn_cuda_conv_workspace(const cnn_op_desc *desc)
{
    const conv_shape s = shape_of(desc);
    const size_t pixels = static_cast<size_t>(s.n) * static_cast<size_t>(s.p) * static_cast<size_t>(s.q);
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        return pixels * static_cast<size_t>(s.k) * sizeof(int32_t);
    if (desc->op != CNN_OP_CONV_WGRAD && desc->op != CNN_OP_LINEAR_WGRAD)
        return 0;
    return cut_of(s).parts_bytes + cnn_cuda_column_sum_workspace(static_cast<int64_t>(pixels), s.k);
}

cudaError_t cnn_cuda_conv(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                          const cnn_cuda_queue *queue)
{
    const bool gradient = desc->op == CNN_OP_CONV_DGRAD || desc->op == CNN_OP_LINEAR_DGRAD;
    switch (desc->arg[CNN_ARG_SRC].dtype) {
    case CNN_F32:
        return gradient ? data_gradient<float, float>(desc, arg, queue->stream)
                        : forward<float, float>(desc, arg, queue->stream);
    case CNN_F16:
        return by_output<__half>(desc, arg, gradient, queue->stream);
    case CNN_BF16:
        return by_output<__nv_bfloat16>(desc, arg, gradient, queue->stream);
    case CNN_I8:
        return forward_i8(desc, arg, static_cast<int32_t *>(workspace), queue->stream);
    default:
        return cudaErrorInvalidValue;
    }
}

cudaError_t cnn_cuda_conv_wgrad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
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
