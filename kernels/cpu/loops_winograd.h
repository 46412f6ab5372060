/* The transforms of Winograd's minimal filtering. Included by each loops_<isa>.c before loops_rows.h.
 *
 *   Y = A' [ (G g G') * (B' d B) ] A      d n x n inputs, g r x r filter, Y m x m outputs, n = m + r - 1, * element by
 *                                         element
 *
 * (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.) A form is a choice of points: pairs +-a,
 * infinity, and 0 where n is even. With Z(x) = prod (x^2 - a^2) over the pairs, in one dimension:
 *
 *   B' d   the row of a point holds the coefficients of the product of (x - q) over the other points q. With 0 among
 *          them:  0: Z(x)   infinity: x Z(x)   +-a: (x +- a) x Z(x) / (x^2 - a^2)
 *          else:            infinity: Z(x)       a: (x + a) Z(x) / (x^2 - a^2), -a: (a - x) Z(x) / (x^2 - a^2)
 *   G g    the filter's polynomial at the point, divided by N = prod (point - q), the same for a and -a
 *   A' m   output i: sum of point^i m; infinity counts for the last one alone
 *
 * Each function transforms rows, then columns, of one vector of channels at a time. Forms are constants that are
 * inlined. The points minimize the error of the products' rounding, which grows with the variance of what is summed at
 * a point and with the weight that the point has in the outputs, both over all outputs of a tile and in its last
 * corner, where it is largest. Relative rms of the error, sums of 256 uniform random products added 32 at a time:
 *
 *   F(4x4, 3x3)  0, +-5/8, +-3/2                0.6e-6
 *   F(6x6, 3x3)  0, +-1/2, +-1, +-2             2.5e-6
 *   F(4x4, 5x5)  0, +-1/2, +-1, +-2             2.4e-6
 *   F(5x5, 5x5)  +-1/4, +-11/16, +-9/8, +-33/16 5.1e-6 */
#include "kernels/cpu/half.h"

/* Without fused multiply-add single outputs of F(5x5, 5x5) err by more than 1e-4 of the rms. */
#ifdef CNN_SIMD_PORTABLE
#define WINO_EXACT_FORMS (CNN_WINO_FORMS - 1)
#else
#define WINO_EXACT_FORMS CNN_WINO_FORMS
#endif

enum { WINO_PAIRS = 4, WINO_POINTS = CNN_WINO_MAX_POINTS }; /* at most */

typedef struct wino_form {
    int taps, outputs, points, pairs;
    bool zero; /* 0 is a point, the first; then come the pairs, at last infinity */
    float pair[WINO_PAIRS];
    float all[WINO_PAIRS + 1];           /* coefficients of Z: x^0, x^2, ... */
    float other[WINO_PAIRS][WINO_PAIRS]; /* of Z / (x^2 - a^2) */
    float over_zero, over[WINO_PAIRS];   /* 1/N */
} wino_form;

/* Coefficients of products of (x - p) with 2, 3 or 4 factors, and their values. */
#define F(x) ((float)(x))
#define SQ(x) ((x) * (x))
#define PRODUCT2(p, q)                   \
    {                                    \
        F((p) * (q)), F(-((p) + (q))), 1 \
    }
#define PRODUCT3(p, q, r)                                                                   \
    {                                                                                       \
        F(-(p) * (q) * (r)), F((p) * (q) + (p) * (r) + (q) * (r)), F(-((p) + (q) + (r))), 1 \
    }
#define PRODUCT4(p, q, r, s)                                                                     \
    {                                                                                            \
        F((p) * (q) * (r) * (s)), F(-((p) * (q) * ((r) + (s)) + (r) * (s) * ((p) + (q)))),       \
            F((p) * (q) + (r) * (s) + ((p) + (q)) * ((r) + (s))), F(-((p) + (q) + (r) + (s))), 1 \
    }
#define BUT2(a, b) (SQ(a) - SQ(b))
#define BUT3(a, b, c) (BUT2(a, b) * BUT2(a, c))
#define BUT4(a, b, c, d) (BUT3(a, b, c) * BUT2(a, d))

#define A (5.0 / 8)
#define B (3.0 / 2)
static const wino_form wino_4x4_3x3 = {
    .taps = 3,
    .outputs = 4,
    .points = 6,
    .pairs = 2,
    .zero = true,
    .pair = {F(A), F(B)},
    .all = PRODUCT2(SQ(A), SQ(B)),
    .other = {{F(-SQ(B)), 1}, {F(-SQ(A)), 1}},
    .over_zero = F(1 / (SQ(A) * SQ(B))),
    .over = {F(1 / (2 * SQ(A) * BUT2(A, B))), F(1 / (2 * SQ(B) * BUT2(B, A)))},
};
#undef A
#undef B

#define A (1.0 / 2)
#define B 1.0
#define C 2.0
#define THREE_PAIRS                                                                                          \
    .points = 8, .pairs = 3, .zero = true, .pair = {F(A), F(B), F(C)}, .all = PRODUCT3(SQ(A), SQ(B), SQ(C)), \
    .other = {PRODUCT2(SQ(B), SQ(C)), PRODUCT2(SQ(A), SQ(C)), PRODUCT2(SQ(A), SQ(B))},                       \
    .over_zero = F(-1 / (SQ(A) * SQ(B) * SQ(C))),                                                            \
    .over = {F(1 / (2 * SQ(A) * BUT3(A, B, C))), F(1 / (2 * SQ(B) * BUT3(B, A, C))),                         \
             F(1 / (2 * SQ(C) * BUT3(C, A, B)))}
static const wino_form wino_6x6_3x3 = {.taps = 3, .outputs = 6, THREE_PAIRS};
static const wino_form wino_4x4_5x5 = {.taps = 5, .outputs = 4, THREE_PAIRS};
#undef A
#undef B
#undef C

#define A (1.0 / 4)
#define B (11.0 / 16)
#define C (9.0 / 8)
#define D (33.0 / 16)
static const wino_form wino_5x5_5x5 = {
    .taps = 5,
    .outputs = 5,
    .points = 9,
    .pairs = 4,
    .pair = {F(A), F(B), F(C), F(D)},
    .all = PRODUCT4(SQ(A), SQ(B), SQ(C), SQ(D)),
    .other = {PRODUCT3(SQ(B), SQ(C), SQ(D)), PRODUCT3(SQ(A), SQ(C), SQ(D)), PRODUCT3(SQ(A), SQ(B), SQ(D)),
              PRODUCT3(SQ(A), SQ(B), SQ(C))},
    .over = {F(1 / (2 * A * BUT4(A, B, C, D))), F(1 / (2 * B * BUT4(B, A, C, D))), F(1 / (2 * C * BUT4(C, A, B, D))),
             F(1 / (2 * D * BUT4(D, A, B, C)))},
};
#undef A
#undef B
#undef C
#undef D
#undef F

/* ---- One line ---- */

/* sum of coefficient[i] * x[2i], i < count; the last coefficient is 1. */
VEC_INLINE vec wino_dot(const float *coefficient, const vec *x, int count)
{
    vec sum = x[2 * (count - 1)];
    VEC_UNROLL
    for (int i = 0; i < count - 1; i++)
        sum = vec_fma(vec_set(coefficient[i]), x[2 * i], sum);
    return sum;
}

VEC_INLINE float wino_power(float point, int exponent)
{
    float power = 1.0f;
    VEC_UNROLL
    for (int i = 0; i < exponent; i++)
        power *= point;
    return power;
}

/* sum of point^i * x[i] over every second i from `first` on. */
VEC_INLINE vec wino_half(float point, const vec *x, int first, int count)
{
    vec sum = first == 0 ? x[0] : vec_mul(vec_set(point), x[1]);
    VEC_UNROLL
    for (int i = first + 2; i < count; i += 2)
        sum = vec_fma(vec_set(wino_power(point, i)), x[i], sum);
    return sum;
}

/* v = B' d */
VEC_INLINE void wino_input_line(const wino_form *form, const vec *d, vec *v)
{
    const int pairs = form->pairs, shift = form->zero;
    if (form->zero)
        v[0] = wino_dot(form->all, d, pairs + 1);
    VEC_UNROLL
    for (int k = 0; k < pairs; k++) {
        vec low = wino_dot(form->other[k], d + shift, pairs), high = wino_dot(form->other[k], d + shift + 1, pairs);
        vec a = vec_set(form->pair[k]);
        v[shift + 2 * k] = vec_fma(a, low, high);
        v[shift + 2 * k + 1] = form->zero ? vec_fma(vec_set(-form->pair[k]), low, high) : vec_fms(a, low, high);
    }
    v[form->points - 1] = wino_dot(form->all, d + shift, pairs + 1);
}

/* `count` sums of point^i * m over the points, and the last m at the last. `sum` and `difference` of the pairs. */
VEC_INLINE void wino_sums_line(const wino_form *form, const vec *sum, const vec *difference, vec zero, vec infinity,
                               int count, vec *y)
{
    VEC_UNROLL
    for (int i = 0; i < count; i++) {
        const vec *half = i % 2 ? difference : sum;
        vec value = i == 0 ? half[0] : vec_mul(vec_set(wino_power(form->pair[0], i)), half[0]);
        if (i == 0 && form->zero)
            value = vec_add(zero, value);
        VEC_UNROLL
        for (int k = 1; k < form->pairs; k++)
            value = i == 0 ? vec_add(value, half[k]) : vec_fma(vec_set(wino_power(form->pair[k], i)), half[k], value);
        y[i] = i == count - 1 ? vec_add(value, infinity) : value;
    }
}

/* y = A' m */
VEC_INLINE void wino_output_line(const wino_form *form, const vec *m, vec *y)
{
    vec sum[WINO_PAIRS], difference[WINO_PAIRS];
    VEC_UNROLL
    for (int k = 0; k < form->pairs; k++) {
        const vec plus = m[form->zero + 2 * k], minus = m[form->zero + 2 * k + 1];
        sum[k] = vec_add(plus, minus);
        difference[k] = vec_sub(plus, minus);
    }
    wino_sums_line(form, sum, difference, m[0], m[form->points - 1], form->outputs, y);
}

/* The values of the polynomial x of `count` coefficients at the points, at infinity its last. */
VEC_INLINE void wino_values_line(const wino_form *form, const vec *x, int count, vec *value)
{
    if (form->zero)
        value[0] = x[0];
    VEC_UNROLL
    for (int k = 0; k < form->pairs; k++) {
        const vec even = wino_half(form->pair[k], x, 0, count), odd = wino_half(form->pair[k], x, 1, count);
        value[form->zero + 2 * k] = vec_add(even, odd);
        value[form->zero + 2 * k + 1] = vec_sub(even, odd);
    }
    value[form->points - 1] = x[count - 1];
}

/* u = G g */
VEC_INLINE void wino_filter_line(const wino_form *form, const vec *g, vec *u)
{
    wino_values_line(form, g, form->taps, u);
    if (form->zero)
        u[0] = vec_mul(vec_set(form->over_zero), u[0]);
    VEC_UNROLL
    for (int k = 0; k < 2 * form->pairs; k++)
        u[form->zero + k] = vec_mul(vec_set(form->over[k / 2]), u[form->zero + k]);
}

/* g = G' u */
VEC_INLINE void wino_filter_grad_line(const wino_form *form, const vec *u, vec *g)
{
    vec sum[WINO_PAIRS], difference[WINO_PAIRS];
    VEC_UNROLL
    for (int k = 0; k < form->pairs; k++) {
        const vec over = vec_set(form->over[k]), plus = u[form->zero + 2 * k], minus = u[form->zero + 2 * k + 1];
        sum[k] = vec_mul(over, vec_add(plus, minus));
        difference[k] = vec_mul(over, vec_sub(plus, minus));
    }
    wino_sums_line(form, sum, difference, vec_mul(vec_set(form->over_zero), u[0]), u[form->points - 1], form->taps, g);
}

/* ---- Loads and stores of up to one vector of any float dtype ---- */

VEC_INLINE vec wino_load(cnn_dtype dtype, const void *pixel, int c, int count)
{
    const float *f32 = (const float *)pixel + c;
    const uint16_t *half = (const uint16_t *)pixel + c;
    if (count >= VEC_LANES)
        return dtype == CNN_F32 ? vec_load(f32) : dtype == CNN_F16 ? vec_load_f16(half) : vec_load_bf16(half);
    float lane[VEC_LANES] = {0};
    for (int i = 0; i < count; i++)
        lane[i] = dtype == CNN_F32   ? f32[i]
                  : dtype == CNN_F16 ? cnn_cpu_f16_to_f32(half[i])
                                     : cnn_cpu_bf16_to_f32(half[i]);
    return vec_load(lane);
}

VEC_INLINE void wino_store(cnn_dtype dtype, vec x, void *pixel, int c, int count)
{
    float *f32 = (float *)pixel + c;
    uint16_t *half = (uint16_t *)pixel + c;
    if (count >= VEC_LANES && dtype == CNN_F32) {
        vec_store(f32, x);
    } else if (count >= VEC_LANES && dtype == CNN_F16) {
        vec_store_f16(half, x);
    } else {
        float lane[VEC_LANES];
        vec_store(lane, x);
        count = count < VEC_LANES ? count : VEC_LANES;
        for (int i = 0; i < count; i++)
            if (dtype == CNN_F32)
                f32[i] = lane[i];
            else
                half[i] = dtype == CNN_F16 ? cnn_cpu_f16_from_f32(lane[i]) : cnn_cpu_bf16_from_f32(lane[i]);
    }
}

/* ---- Tiles ---- */

typedef enum wino_line { WINO_INPUT, WINO_OUTPUT, WINO_OUTPUT_GRAD, WINO_FILTER, WINO_FILTER_GRAD } wino_line;

VEC_INLINE void wino_transform_line(const wino_form *form, wino_line line, const vec *in, vec *out)
{
    switch (line) {
    case WINO_INPUT:
        wino_input_line(form, in, out);
        break;
    case WINO_OUTPUT:
        wino_output_line(form, in, out);
        break;
    case WINO_OUTPUT_GRAD:
        wino_values_line(form, in, form->outputs, out);
        break;
    case WINO_FILTER:
        wino_filter_line(form, in, out);
        break;
    case WINO_FILTER_GRAD:
        wino_filter_grad_line(form, in, out);
        break;
    }
}

/* A square of vectors at one end of a transform, line by line: pixels of a dtype, or f32 vectors `pitch` apart. */
typedef struct wino_square {
    cnn_dtype dtype;
    void *const *pixel;
    float *first;
    ptrdiff_t pitch;
} wino_square;

/* Transforms a square of from_size x from_size into one of to_size x to_size, all channels. `pixels_in`, `pixels_out`:
 * which end is pixels. Those that are NULL at the end are not stored. Points lie so far apart that no CPU foresees
 * where the next channels' are: they are asked for. */
VEC_INLINE void wino_tile(const wino_form *form, wino_line line, int from_size, int to_size, int channels,
                          bool pixels_in, const wino_square *from, bool pixels_out, const wino_square *to,
                          const cnn_wino_end *end)
{
    for (int c = 0; c < channels; c += VEC_LANES) {
        const int count = channels - c;
        vec half[WINO_POINTS][WINO_POINTS], in[WINO_POINTS], out[WINO_POINTS];
        for (int i = 0; i < from_size; i++) {
            VEC_UNROLL
            for (int j = 0; j < from_size; j++) {
                in[j] = pixels_in ? wino_load(from->dtype, from->pixel[i * from_size + j], c, count)
                                  : vec_load(from->first + (i * from_size + j) * from->pitch + c);
                if (pixels_out)
                    __builtin_prefetch(from->first + (i * from_size + j) * from->pitch + c + VEC_LANES, 0, 3);
            }
            wino_transform_line(form, line, in, out);
            VEC_UNROLL
            for (int j = 0; j < to_size; j++)
                half[j][i] = out[j];
        }
        const vec bias = end && end->bias ? wino_load(CNN_F32, end->bias, c, count) : vec_zero();
        for (int j = 0; j < to_size; j++) {
            wino_transform_line(form, line, half[j], out);
            VEC_UNROLL
            for (int i = 0; i < to_size; i++) {
                if (!pixels_out) {
                    float *point = to->first + (i * to_size + j) * to->pitch + c;
                    vec_store(point, out[i]);
                    if (pixels_in)
                        __builtin_prefetch(point + VEC_LANES, 1, 3);
                } else if (to->pixel[i * to_size + j]) {
                    vec y = end->bias ? vec_add(out[i], bias) : out[i];
                    wino_store(to->dtype, end->relu ? vec_relu(y) : y, to->pixel[i * to_size + j], c, count);
                }
            }
        }
    }
}

/* Pixels of a tensor to points, of a form and line that are constants. */
VEC_INLINE void wino_from_pixels(const wino_form *form, wino_line line, int size, cnn_dtype dtype,
                                 const void *const *pixel, int channels, float *dst, ptrdiff_t point_pitch)
{
    const wino_square to = {.first = dst, .pitch = point_pitch};
    wino_square from = {.pixel = (void *const *)pixel};
    switch (dtype) {
    case CNN_F16:
        from.dtype = CNN_F16;
        wino_tile(form, line, size, form->points, channels, true, &from, false, &to, NULL);
        break;
    case CNN_BF16:
        from.dtype = CNN_BF16;
        wino_tile(form, line, size, form->points, channels, true, &from, false, &to, NULL);
        break;
    default:
        from.dtype = CNN_F32;
        wino_tile(form, line, size, form->points, channels, true, &from, false, &to, NULL);
        break;
    }
}

VEC_INLINE void wino_to_pixels(const wino_form *form, const float *src, ptrdiff_t point_pitch, int channels,
                               cnn_dtype dtype, void *const *pixel, const cnn_wino_end *end)
{
    const wino_square from = {.first = (float *)src, .pitch = point_pitch};
    wino_square to = {.pixel = pixel};
    switch (dtype) {
    case CNN_F16:
        to.dtype = CNN_F16;
        wino_tile(form, WINO_OUTPUT, form->points, form->outputs, channels, false, &from, true, &to, end);
        break;
    case CNN_BF16:
        to.dtype = CNN_BF16;
        wino_tile(form, WINO_OUTPUT, form->points, form->outputs, channels, false, &from, true, &to, end);
        break;
    default:
        to.dtype = CNN_F32;
        wino_tile(form, WINO_OUTPUT, form->points, form->outputs, channels, false, &from, true, &to, end);
        break;
    }
}

/* Between f32 vectors: filters. */
VEC_INLINE void wino_filters(const wino_form *form, wino_line line, int from_size, int to_size, const float *src,
                             ptrdiff_t src_pitch, int channels, float *dst, ptrdiff_t dst_pitch)
{
    const wino_square from = {.first = (float *)src, .pitch = src_pitch};
    const wino_square to = {.first = dst, .pitch = dst_pitch};
    wino_tile(form, line, from_size, to_size, channels, false, &from, false, &to, NULL);
}

#define WINO_DEFINE(NAME, M, R)                                                                                       \
    static void NAME##_input(cnn_dtype dtype, const void *const *pixel, int channels, float *dst,                     \
                             ptrdiff_t point_pitch)                                                                   \
    {                                                                                                                 \
        wino_from_pixels(&NAME, WINO_INPUT, NAME.points, dtype, pixel, channels, dst, point_pitch);                   \
    }                                                                                                                 \
    static void NAME##_output(const float *src, ptrdiff_t point_pitch, int channels, cnn_dtype dtype,                 \
                              void *const *pixel, const cnn_wino_end *end)                                            \
    {                                                                                                                 \
        wino_to_pixels(&NAME, src, point_pitch, channels, dtype, pixel, end);                                         \
    }                                                                                                                 \
    static void NAME##_output_grad(cnn_dtype dtype, const void *const *pixel, int channels, float *dst,               \
                                   ptrdiff_t point_pitch)                                                             \
    {                                                                                                                 \
        wino_from_pixels(&NAME, WINO_OUTPUT_GRAD, NAME.outputs, dtype, pixel, channels, dst, point_pitch);            \
    }                                                                                                                 \
    static void NAME##_filter(const float *src, ptrdiff_t tap_pitch, int channels, float *dst, ptrdiff_t point_pitch) \
    {                                                                                                                 \
        wino_filters(&NAME, WINO_FILTER, NAME.taps, NAME.points, src, tap_pitch, channels, dst, point_pitch);         \
    }                                                                                                                 \
    static void NAME##_filter_grad(const float *src, ptrdiff_t point_pitch, int channels, float *dst,                 \
                                   ptrdiff_t tap_pitch)                                                               \
    {                                                                                                                 \
        wino_filters(&NAME, WINO_FILTER_GRAD, NAME.points, NAME.taps, src, point_pitch, channels, dst, tap_pitch);    \
    }                                                                                                                 \
    static const cnn_wino_form NAME##_form = {                                                                        \
        .taps = (R),                                                                                                  \
        .outputs = (M),                                                                                               \
        .points = (M) + (R)-1,                                                                                        \
        .input = NAME##_input,                                                                                        \
        .output = NAME##_output,                                                                                      \
        .output_grad = NAME##_output_grad,                                                                            \
        .filter = NAME##_filter,                                                                                      \
        .filter_grad = NAME##_filter_grad,                                                                            \
    }

WINO_DEFINE(wino_4x4_3x3, 4, 3);
WINO_DEFINE(wino_6x6_3x3, 6, 3);
WINO_DEFINE(wino_4x4_5x5, 4, 5);
WINO_DEFINE(wino_5x5_5x5, 5, 5);
