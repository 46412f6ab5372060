/* Conversions and loops over rows of channels, in plain C that compilers vectorize. Included once by each
 * loops_<isa>.c, after loops_gemm.h. */
#include "kernels/cpu/gemm_i8.h"
#include "kernels/cpu/half.h"

#include <math.h>

/* ---- Conversions ---- */

static void f16_to_f32(const uint16_t *src, float *dst, int64_t count)
{
    int64_t i = 0;
    for (; i + VEC_LANES <= count; i += VEC_LANES)
        vec_store(dst + i, vec_load_f16(src + i));
    for (; i < count; i++)
        dst[i] = cnn_cpu_f16_to_f32(src[i]);
}

static void f16_from_f32(const float *src, uint16_t *dst, int64_t count)
{
    int64_t i = 0;
    for (; i + VEC_LANES <= count; i += VEC_LANES)
        vec_store_f16(dst + i, vec_load(src + i));
    for (; i < count; i++)
        dst[i] = cnn_cpu_f16_from_f32(src[i]);
}

static void bf16_from_f32(const float *src, uint16_t *dst, int64_t count)
{
    int64_t i = 0;
    for (; i + VEC_LANES <= count; i += VEC_LANES)
        vec_store_bf16(dst + i, vec_load(src + i));
    for (; i < count; i++)
        dst[i] = cnn_cpu_bf16_from_f32(src[i]);
}

/* Rows are short: most are copied before memcpy would have found out how. The last vector may overlap. */
VEC_INLINE void copy_f32(const float *src, float *dst, int64_t count)
{
    enum { SHORT = 512 };
    if (count < VEC_LANES || count > SHORT) {
        memcpy(dst, src, (size_t)count * sizeof *dst);
        return;
    }
    const vec last = vec_load(src + count - VEC_LANES);
    for (int64_t i = 0; i < count - VEC_LANES; i += VEC_LANES)
        vec_store(dst + i, vec_load(src + i));
    vec_store(dst + count - VEC_LANES, last);
}

static void to_f32(cnn_dtype dtype, const void *src, float *dst, int64_t count)
{
    const uint16_t *half = src;
    if (dtype == CNN_F16)
        f16_to_f32(half, dst, count);
    else if (dtype == CNN_BF16)
        for (int64_t i = 0; i < count; i++)
            dst[i] = cnn_cpu_bf16_to_f32(half[i]);
    else
        copy_f32(src, dst, count);
}

static void from_f32(cnn_dtype dtype, const float *src, void *dst, int64_t count)
{
    uint16_t *half = dst;
    if (dtype == CNN_F16)
        f16_from_f32(src, half, count);
    else if (dtype == CNN_BF16)
        bf16_from_f32(src, half, count);
    else
        copy_f32(src, dst, count);
}

/* The first `count` floats of x, at most a vector. */
VEC_INLINE void store_vector(const cnn_dtype dtype, void *dst, ptrdiff_t at, vec x, int count)
{
    uint16_t half[VEC_LANES], *to = dtype == CNN_F32 ? NULL : (uint16_t *)dst + at;
    const bool whole = count >= VEC_LANES;
    if (dtype == CNN_BF16)
        vec_store_bf16(whole ? to : half, x);
    else if (dtype == CNN_F16)
        vec_store_f16(whole ? to : half, x);
    else
        vec_store_some((float *)dst + at, x, vec_first(count));
    for (int i = 0; dtype != CNN_F32 && !whole && i < count; i++)
        to[i] = half[i];
}

VEC_INLINE void store_rows_of(const cnn_dtype dtype, const float *sums, ptrdiff_t sums_pitch, int rows, int columns,
                              const float *bias, bool relu, void *dst, ptrdiff_t dst_pitch)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j += VEC_LANES) {
            const vec_lanes lanes = vec_first(columns - j);
            vec x = vec_load_some(sums + i * sums_pitch + j, lanes);
            x = bias ? vec_add(x, vec_load_some(bias + j, lanes)) : x;
            store_vector(dtype, dst, i * dst_pitch + j, relu ? vec_relu(x) : x, columns - j);
        }
}

static void store_rows(cnn_dtype dtype, const float *sums, ptrdiff_t sums_pitch, int rows, int columns,
                       const float *bias, bool relu, void *dst, ptrdiff_t dst_pitch)
{
    if (dtype == CNN_BF16)
        store_rows_of(CNN_BF16, sums, sums_pitch, rows, columns, bias, relu, dst, dst_pitch);
    else if (dtype == CNN_F16)
        store_rows_of(CNN_F16, sums, sums_pitch, rows, columns, bias, relu, dst, dst_pitch);
    else
        store_rows_of(CNN_F32, sums, sums_pitch, rows, columns, bias, relu, dst, dst_pitch);
}

/* ---- Element-wise ---- */

static void relu(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = x[i] <= 0.0f ? 0.0f : x[i]; /* NaN stays */
}

static void relu_grad(const float *y, const float *dy, float *dx, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float gradient = dy[i]; /* read always, so that the loop has no branch */
        dx[i] = y[i] > 0.0f ? gradient : 0.0f;
    }
}

static void add(const float *a, const float *b, float *sum, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        sum[i] = a[i] + b[i];
}

static void add_i8(const int8_t *a, const int8_t *b, int8_t *restrict y, int64_t count, const float scale[2],
                   float s_out, float lo, float hi)
{
    const float s_a = scale[0], s_b = scale[1];
    for (int64_t i = 0; i < count; i++) {
        float sum = (float)a[i] * s_a + (float)b[i] * s_b, scaled = sum / s_out;
        scaled = scaled > lo ? scaled : lo;
        scaled = scaled < hi ? scaled : hi;
        y[i] = (int8_t)(int32_t)cnn_i8_nearest(scaled);
    }
}

static void divide(const float *x, float divisor, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = x[i] / divisor;
}

static void mask(const uint8_t *live, float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float value = x[i]; /* read always, so that the loop has no branch */
        x[i] = live[i] ? value : 0.0f;
    }
}

/* ---- Sums over pixels ----
 * Sums are double. Some pixels are taken at once, so that the running sums are loaded and stored less often. */

enum { FEW_COLUMNS = 16, COLUMN_DEPTH = 8 /* groups of as many pixels as lanes that are summed in f32 */ };

/* Some of the pixels of few channels, as many as are returned: vectors run over all channels of neighbouring pixels. */
static int64_t column_sums_few(const float *x, int64_t pixels, int channels, double *restrict sum)
{
    const ptrdiff_t width = (ptrdiff_t)channels * VEC_LANES;
    float some[FEW_COLUMNS * VEC_LANES];
    int64_t pixel = 0;
    for (; pixel + COLUMN_DEPTH * VEC_LANES <= pixels; pixel += COLUMN_DEPTH * VEC_LANES, x += COLUMN_DEPTH * width) {
        for (ptrdiff_t i = 0; i < width; i += VEC_LANES) {
            vec total = vec_load(x + i);
            for (int j = 1; j < COLUMN_DEPTH; j++)
                total = vec_add(total, vec_load(x + j * width + i));
            vec_store(some + i, total);
        }
        for (int half = VEC_LANES / 2; half > 0; half /= 2)
            for (int i = 0; i < half * channels; i++)
                some[i] += some[half * channels + i];
        for (int c = 0; c < channels; c++)
            sum[c] += (double)some[c];
    }
    return pixel;
}

static void column_sums(const float *x, int64_t pixels, int channels, double *restrict sum)
{
    int64_t pixel = channels <= FEW_COLUMNS ? column_sums_few(x, pixels, channels, sum) : 0;
    for (; pixel + 4 <= pixels; pixel += 4) {
        const float *x0 = x + pixel * channels, *x1 = x0 + channels, *x2 = x1 + channels, *x3 = x2 + channels;
        for (int c = 0; c < channels; c++)
            sum[c] += ((double)x0[c] + (double)x1[c]) + ((double)x2[c] + (double)x3[c]);
    }
    for (; pixel < pixels; pixel++)
        for (int c = 0; c < channels; c++)
            sum[c] += (double)x[pixel * channels + c];
}

/* The sums of eight are f32, so that a quarter of the work is in double. */
static void column_moments(const float *x, const float *shift, int64_t pixels, int channels, double *restrict sum,
                           double *restrict sum_squares)
{
    int64_t pixel = 0;
    for (; pixel + 8 <= pixels; pixel += 8) {
        const float *at = x + pixel * channels;
        for (int c = 0; c < channels; c++, at++) {
            float v0 = at[0] - shift[c], v1 = at[channels] - shift[c];
            float v2 = at[2 * channels] - shift[c], v3 = at[3 * channels] - shift[c];
            float v4 = at[4 * channels] - shift[c], v5 = at[5 * channels] - shift[c];
            float v6 = at[6 * channels] - shift[c], v7 = at[7 * channels] - shift[c];
            sum[c] += (double)(((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)));
            sum_squares[c] +=
                (double)(((v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3)) + ((v4 * v4 + v5 * v5) + (v6 * v6 + v7 * v7)));
        }
    }
    for (; pixel < pixels; pixel++)
        for (int c = 0; c < channels; c++) {
            float v = x[pixel * channels + c] - shift[c];
            sum[c] += (double)v;
            sum_squares[c] += (double)v * (double)v;
        }
}

/* ---- Optimizer ---- */

static double sum_squares(const float *g, int64_t count)
{
    enum { WAYS = 16 }; /* partial sums, so that additions do not wait for each other */
    double way[WAYS] = {0};
    int64_t i = 0;
    for (; i + WAYS <= count; i += WAYS)
        for (int j = 0; j < WAYS; j++)
            way[j] += (double)g[i + j] * (double)g[i + j];
    double sum = 0;
    for (int j = 0; j < WAYS; j++)
        sum += way[j];
    for (; i < count; i++)
        sum += (double)g[i] * (double)g[i];
    return sum;
}

static void sgd(const float *restrict g, float *restrict w, float *restrict v, int64_t count, float divisor,
                float decay, float momentum, float rate)
{
    for (int64_t i = 0; i < count; i++) {
        float gradient = g[i] / divisor + decay * w[i];
        v[i] = momentum * v[i] + gradient;
        w[i] = w[i] - rate * v[i];
    }
}

static void sgd_nesterov(const float *restrict g, float *restrict w, float *restrict v, int64_t count, float divisor,
                         float decay, float momentum, float rate)
{
    for (int64_t i = 0; i < count; i++) {
        float gradient = g[i] / divisor + decay * w[i];
        v[i] = momentum * v[i] + gradient;
        w[i] = w[i] - rate * (gradient + momentum * v[i]);
    }
}

static void adam(const float *restrict g, float *restrict w, float *restrict m, float *restrict v, int64_t count,
                 const cnn_adam_step *step)
{
    const cnn_adam_step s = *step;
    for (int64_t i = 0; i < count; i++) {
        float gradient = g[i] / s.divisor + s.l2 * w[i];
        m[i] = s.keep1 * m[i] + s.take1 * gradient;
        v[i] = s.keep2 * v[i] + s.take2 * gradient * gradient;
        w[i] = s.shrink * w[i] - s.rate * m[i] / (sqrtf(v[i]) / s.root + s.eps);
    }
}

static void approach(const float *restrict value, float *restrict average, int64_t count, float share)
{
    for (int64_t i = 0; i < count; i++)
        average[i] = average[i] + share * (value[i] - average[i]);
}

/* ---- Weights on a grid ---- */

/* Adding and taking away 1.5*2^23 rounds numbers below 2^22 to whole ones, ties to even, and -0 to 0. */
static const float to_whole = 0x1.8p23f;

/* w/step rounded and clamped; NaN stays. */
VEC_INLINE float grid_point(float v, float levels)
{
    v = v > levels ? levels : v;
    v = v < -levels ? -levels : v;
    return (v + to_whole) - to_whole;
}

static void grid(const float *restrict w, float *restrict point, int64_t count, float step, float levels)
{
    for (int64_t i = 0; i < count; i++)
        point[i] = grid_point(w[i] / step, levels) * step;
}

/* One weight's share of the step's gradient; its own stays where its point is no end of the grid. */
VEC_INLINE double grid_share(float w, float *gradient, float step, float levels)
{
    const float v = w / step, point = grid_point(v, levels) * step, g = *gradient;
    const bool inside = (v <= levels) & (v >= -levels);
    *gradient = inside ? g : 0.0f;
    return (double)g * ((double)point - (inside ? (double)w : 0.0));
}

static double grid_grad(const float *restrict w, float *restrict gradient, int64_t count, float step, float levels)
{
    enum { WAYS = 16 }; /* partial sums, so that additions do not wait for each other */
    double way[WAYS] = {0};
    int64_t i = 0;
    for (; i + WAYS <= count; i += WAYS)
        for (int j = 0; j < WAYS; j++)
            way[j] += grid_share(w[i + j], &gradient[i + j], step, levels);
    double sum = 0;
    for (int j = 0; j < WAYS; j++)
        sum += way[j];
    for (; i < count; i++)
        sum += grid_share(w[i], &gradient[i], step, levels);
    return sum;
}

/* ---- The table ---- */

#define LOOPS_NAME_(isa) cnn_cpu_loops_##isa
#define LOOPS_NAME(isa) LOOPS_NAME_(isa)

const cnn_cpu_loops LOOPS_NAME(VEC_ISA) = {
    .lanes = VEC_LANES,
    .tile_rows = VEC_TILE_ROWS,
    .tile_by_rows = {TILE_LIST(by_rows, 1), TILE_LIST(by_rows, 2)},
    .tile_by_stream = {TILE_LIST(by_stream, 1), TILE_LIST(by_stream, 2)},
    .tile_by_steps = {TILE_LIST(by_steps, 1), TILE_LIST(by_steps, 2)},
    .pooled_offsets = pooled_offsets,
    .pooled_sums = pooled_sums,
    .pooled_spread = pooled_spread,
#if defined(CNN_SIMD_AVX512)
    .pooled_spread_2x2 = pooled_spread_2x2,
#endif
    .tile_by_taps = {TILE_LIST(by_taps, 1), TILE_LIST(by_taps, 2)},
    .tile_by_lines = {TILE_LIST(by_lines, 1), TILE_LIST(by_lines, 2)},
    .pool_lines = POOL_LINES_LIST,
    .transpose = transpose,
    .interleave = interleave,
    .deinterleave = deinterleave,
    .deal = deal,
    .fold = fold,
    .depthwise = depthwise,
    .depthwise_grad = depthwise_grad,
    .depthwise_i8 = depthwise_i8,
    .dot = dot,
    .wino = {&wino_4x4_3x3_form, &wino_6x6_3x3_form, &wino_4x4_5x5_form, &wino_5x5_5x5_form},
    .wino_forms = WINO_EXACT_FORMS,
    .to_f32 = to_f32,
    .from_f32 = from_f32,
    .store_rows = store_rows,
    .relu = relu,
    .relu_grad = relu_grad,
    .clip = clip,
    .clip_grad = clip_grad,
    .leaky_relu = leaky_relu,
    .leaky_relu_grad = leaky_relu_grad,
    .leaky_relu_i8 = leaky_relu_i8,
    .dropout = dropout,
    .add = add,
    .add_i8 = add_i8,
    .divide = divide,
    .mask = mask,
    .grid = grid,
    .grid_grad = grid_grad,
    .column_sums = column_sums,
    .column_moments = column_moments,
    .bn_grad_sums = bn_grad_sums,
    .bn_apply = bn_apply,
    .bn_grad_apply = bn_grad_apply,
    .bn_pool = bn_pool,
    .bn_pool_grad_sums = bn_pool_grad_sums,
    .bn_pool_grad_apply = bn_pool_grad_apply,
    .pool_windows = pool_windows,
    .pool_planes = pool_planes,
    .to_index = to_index,
    .pool_grad_line = pool_grad_line,
    .pool_step = pool_step,
    .pool_grad_step = pool_grad_step,
    .sum_squares = sum_squares,
    .sgd = sgd,
    .sgd_nesterov = sgd_nesterov,
    .adam = adam,
    .approach = approach,
};
