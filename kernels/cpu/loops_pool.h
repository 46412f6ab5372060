/* Max-pooling and its gradient. Included once by each loops_<isa>.c, before loops_bn.h.
 *
 * Pixels of few channels are taken as whole vectors: what they hold beyond the channels belongs to the next pixel or to
 * nobody. It is stored too, before the pixel behind it, which overwrites it. */
#include "kernels/cpu/simd_pool.h"

/* ---- Runs of neighbouring windows ---- */

VEC_INLINE void pool_windows_of(const int kernel, const float *x, ptrdiff_t line, int stride, int windows, int channels,
                                const bool relu, float *y, uint8_t *index)
{
    for (int q = 0; q < windows; q++, x += stride * channels, y += channels, index += channels)
        for (int c = 0; c < channels; c += VEC_LANES) {
            vec max = vec_load(x + c);
            vec_at first = vec_at_zero();
            for (int r = 0; r < kernel; r++)
                for (int s = r == 0; s < kernel; s++)
                    vec_take_greater(&max, &first, vec_load(x + r * line + s * channels + c), r * kernel + s);
            vec_store(y + c, relu ? vec_relu(max) : max);
            vec_store_at(index + c, relu ? vec_where_positive(first, max, CNN_NO_INDEX) : first);
        }
}

static void pool_windows(const float *x, ptrdiff_t line, int kernel, int stride, int windows, int channels, bool relu,
                         float *y, uint8_t *index)
{
    if (kernel == 2 && relu)
        pool_windows_of(2, x, line, stride, windows, channels, true, y, index);
    else if (kernel == 2)
        pool_windows_of(2, x, line, stride, windows, channels, false, y, index);
    else
        pool_windows_of(kernel, x, line, stride, windows, channels, relu, y, index);
}

/* dy is added to 0, which makes 0 of -0. */
static void pool_grad_line(const float *dy, const uint8_t *index, int position, int kernel, int windows, int channels,
                           float *dx)
{
    for (int q = 0; q < windows; q++, dy += channels, index += channels)
        for (int s = 0; s < kernel; s++, dx += channels)
            for (int c = 0; c < channels; c += VEC_LANES) {
                const vec_at first = vec_load_at(index + c);
                const vec chosen = vec_choose(vec_zero(), vec_load(dy + c), first, position + s);
                vec_store(dx + c, vec_add(chosen, vec_zero()));
            }
}

/* ---- Gradients where they arrive, not where they are 0 ---- */

static void pooled_offsets(const float *dy, const uint8_t *index, int64_t count, int window, int line, int channels,
                           const int32_t *base, float *to, int32_t *offset)
{
    const int taps = window * window;
    for (int64_t i = 0; i < count; i++) {
        const float passed = dy[i];
        to[i] = index[i] < taps ? passed : 0.0f;
    }
    if (window == 2)
        for (int64_t i = 0; i < count; i++)
            offset[i] = base[i] + (index[i] >> 1 & 1) * line + (index[i] & 1) * channels;
    else
        for (int64_t i = 0; i < count; i++)
            offset[i] = base[i] + (index[i] < taps ? index[i] / window * line + index[i] % window * channels : 0);
}

/* Few sums are made twice, of every other gradient, so that none waits for the one before. */
VEC_INLINE void pooled_sums_of(const int rows, const int vectors, const float *dy, const int32_t *offset,
                               ptrdiff_t pitch, int count, const float *x, ptrdiff_t line, int width, float *sums)
{
    enum { MOST_SUMS = VEC_LANES == 16 ? 20 : 10 };
    const int ways = 2 * rows * vectors <= MOST_SUMS ? 2 : 1;
    vec sum[2][5][4];
    VEC_UNROLL
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            sum[0][r][v] = sum[1][r][v] = vec_zero();
    int i = 0;
    for (; i + ways <= count; i += ways)
        for (int w = 0; w < ways; w++, dy += pitch, offset += pitch) {
            const vec gradient = vec_set(*dy);
            const float *from = x + *offset;
            VEC_BASE(from);
            VEC_UNROLL
            for (int r = 0; r < rows; r++)
                for (int v = 0; v < vectors; v++) {
                    sum[w][r][v] = vec_fma(gradient, vec_load(from + r * line + v * VEC_LANES), sum[w][r][v]);
                    VEC_KEEP(sum[w][r][v]);
                }
        }
    const vec last = i < count ? vec_set(*dy) : vec_zero();
    VEC_UNROLL
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            float *to = sums + r * width + v * VEC_LANES;
            vec total = ways == 2 ? vec_add(sum[0][r][v], sum[1][r][v]) : sum[0][r][v];
            if (ways == 2 && i < count)
                total = vec_fma(last, vec_load(x + *offset + r * line + v * VEC_LANES), total);
            vec_store(to, vec_add(vec_load(to), total));
        }
}

/* Calls OF for `some` rows, 5, 3 or 1 of them, and for as many of `vectors` vectors as registers then hold sums. */
enum { POOLED_VECTORS = VEC_LANES == 16 ? 4 : 2 };
#define POOLED_BY_VECTORS(OF, ROWS, ...)              \
    do {                                              \
        if (vectors == 1)                             \
            OF(ROWS, 1, __VA_ARGS__);                 \
        else if (vectors == 2 || POOLED_VECTORS == 2) \
            OF(ROWS, 2, __VA_ARGS__);                 \
        else if (vectors == 3)                        \
            OF(ROWS, 3, __VA_ARGS__);                 \
        else                                          \
            OF(ROWS, 4, __VA_ARGS__);                 \
    } while (0)
#define POOLED_BY_ROWS(OF, ...)                    \
    do {                                           \
        if (some == 5)                             \
            POOLED_BY_VECTORS(OF, 5, __VA_ARGS__); \
        else if (some == 3)                        \
            POOLED_BY_VECTORS(OF, 3, __VA_ARGS__); \
        else                                       \
            POOLED_BY_VECTORS(OF, 1, __VA_ARGS__); \
    } while (0)

static int pooled_rows(int left)
{
    return left == 5 || left == 3 ? left : 1;
}

static void pooled_sums(const float *dy, const int32_t *offset, ptrdiff_t pitch, int count, const float *x,
                        ptrdiff_t line, int rows, int width, float *sums)
{
    enum { STEP = POOLED_VECTORS * VEC_LANES };
    for (int j = 0; j < width; j += STEP, x += STEP, sums += STEP) {
        const int vectors = (width - j) / VEC_LANES;
        for (int r = 0, some; r < rows; r += some) {
            some = pooled_rows(rows - r);
            POOLED_BY_ROWS(pooled_sums_of, dy, offset, pitch, count, x + r * line, line, width, sums + r * width);
        }
    }
}

/* *p, or 0 where no bit is set; without a branch. */
VEC_INLINE float named_or_zero(const float *p, unsigned bits)
{
    uint32_t value;
    float result;
    memcpy(&value, p, sizeof value);
    value &= 0u - (uint32_t)(bits != 0);
    memcpy(&result, &value, sizeof result);
    return result;
}

/* Some rows and vectors of what one pixel of a window gets. How many channels have it for their maximum no CPU
 * foresees: so many are taken at a time that one turn is nearly always enough, those that are missing with a gradient
 * of 0. */
VEC_INLINE void pooled_spread_of(const int rows, const int vectors, const float *dy, const uint8_t *index, int count,
                                 const float *weights, ptrdiff_t pitch, int width, int t, ptrdiff_t line, float *x)
{
    enum { TURN = VEC_LANES == 16 ? 4 : 2 };
    vec sum[5][4];
    VEC_UNROLL
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            sum[r][v] = vec_zero();
    for (int k = 0; k < count; k += VEC_LANES) {
        const vec_lanes lanes = vec_first(count - k);
        const unsigned last = 1u << ((count - k < VEC_LANES ? count - k : VEC_LANES) - 1);
        unsigned named = vec_equal(vec_load_at_some(index + k, lanes), t, lanes);
        do {
            VEC_UNROLL
            for (int i = 0; i < TURN; i++, named &= named - 1) {
                const int at = k + __builtin_ctz(named | last);
                const vec gradient = vec_set(named_or_zero(dy + at, named));
                const float *from = weights + at * pitch;
                VEC_BASE(from);
                VEC_UNROLL
                for (int r = 0; r < rows; r++)
                    for (int v = 0; v < vectors; v++) {
                        sum[r][v] = vec_fma(gradient, vec_load(from + r * width + v * VEC_LANES), sum[r][v]);
                        VEC_KEEP(sum[r][v]);
                    }
            }
        } while (named);
    }
    VEC_UNROLL
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) {
            float *to = x + r * line + v * VEC_LANES;
            vec_store(to, vec_add(vec_load(to), sum[r][v]));
        }
}

static void pooled_spread(const float *dy, const uint8_t *index, int count, const float *weights, int rows, int width,
                          const int32_t *tap, int taps, ptrdiff_t line, float *x)
{
    const ptrdiff_t pitch = (ptrdiff_t)rows * width;
    for (int t = 0; t < taps; t++)
        for (int j = 0; j < width; j += POOLED_VECTORS * VEC_LANES) {
            const int vectors = (width - j) / VEC_LANES;
            for (int r = 0, some; r < rows; r += some) {
                some = pooled_rows(rows - r);
                POOLED_BY_ROWS(pooled_spread_of, dy, index, count, weights + r * width + j, pitch, width, t, line,
                               x + tap[t] + r * line + j);
            }
        }
}

#if defined(CNN_SIMD_AVX512)
/* What a whole window of 2x2 gets, in registers: the pixels on the right have weights that begin one pixel further on,
 * so that all four add to the same sums, and x is read and written once. left, right: vectors of a row of theirs. */
VEC_INLINE void pooled_spread_2x2_of(const int rows, const int left, const int right, const float *dy,
                                     const uint8_t *index, int count, const float *weights, ptrdiff_t line, float *x)
{
    enum { TURN = 2, TAPS = 4 };
    const ptrdiff_t pitch = (ptrdiff_t)rows * (left + right) * VEC_LANES;
    vec sum[6][3];
    VEC_UNROLL
    for (int r = 0; r <= rows; r++)
        for (int v = 0; v < right; v++)
            sum[r][v] = vec_zero();
    for (int k = 0; k < count; k += VEC_LANES) {
        const vec_lanes lanes = vec_first(count - k);
        const unsigned last = 1u << ((count - k < VEC_LANES ? count - k : VEC_LANES) - 1);
        const vec_at at = vec_load_at_some(index + k, lanes);
        VEC_UNROLL
        for (int t = 0; t < TAPS; t++) {
            const int vectors = t % 2 == 0 ? left : right;
            unsigned named = vec_equal(at, t, lanes);
            do {
                VEC_UNROLL
                for (int i = 0; i < TURN; i++, named &= named - 1) {
                    const int channel = k + __builtin_ctz(named | last);
                    const vec gradient = vec_set(named_or_zero(dy + channel, named));
                    const float *from = weights + channel * pitch + t % 2 * rows * left * VEC_LANES;
                    VEC_BASE(from);
                    VEC_UNROLL
                    for (int r = 0; r < rows; r++)
                        for (int v = 0; v < vectors; v++) {
                            vec *to = &sum[r + t / 2][v];
                            *to = vec_fma(gradient, vec_load(from + (r * vectors + v) * VEC_LANES), *to);
                            VEC_KEEP(*to);
                        }
                }
            } while (named);
        }
    }
    VEC_UNROLL
    for (int r = 0; r <= rows; r++)
        for (int v = 0; v < right; v++) {
            float *to = x + r * line + v * VEC_LANES;
            vec_store(to, vec_add(vec_load(to), sum[r][v]));
        }
}

static void pooled_spread_2x2(const float *dy, const uint8_t *index, int count, const float *weights, int rows,
                              int left, int right, ptrdiff_t line, float *x)
{
#define CASE(ROWS, LEFT, RIGHT)                         \
    if (rows == ROWS && left == LEFT && right == RIGHT) \
    pooled_spread_2x2_of(ROWS, LEFT, RIGHT, dy, index, count, weights, line, x)
    CASE(3, 1, 1);
    CASE(3, 1, 2);
    CASE(3, 2, 2);
    CASE(3, 2, 3);
    CASE(3, 3, 3);
    CASE(5, 1, 1);
    CASE(5, 1, 2);
    CASE(5, 2, 2);
    CASE(5, 2, 3);
    CASE(5, 3, 3);
#undef CASE
}
#endif

/* ---- Windows of 2x2 in planes ---- */

/* Maxima, with a bias, and their numbers of the windows of one channel, whole vectors of them. */
VEC_INLINE void pool_plane(const float *top, const float *bottom, int windows, vec bias, const bool relu, float *y,
                           float *number)
{
    for (int q = 0; q < windows; q += VEC_LANES, top += 2 * VEC_LANES, bottom += 2 * VEC_LANES) {
        const vec a0 = vec_load(top), a1 = vec_load(top + VEC_LANES);
        const vec b0 = vec_load(bottom), b1 = vec_load(bottom + VEC_LANES);
        vec max = vec_even(a0, a1), first = vec_zero();
        vec_number_greater(&max, &first, vec_odd(a0, a1), 1.0f);
        vec_number_greater(&max, &first, vec_even(b0, b1), 2.0f);
        vec_number_greater(&max, &first, vec_odd(b0, b1), 3.0f);
        max = vec_add(max, bias);
        vec_store(y + q, relu ? vec_relu(max) : max);
        vec_store(number + q, relu ? vec_pick_positive(first, max, CNN_NO_INDEX) : first);
    }
}

/* Numbers are floats until they lie as pixels do, so that they get there as maxima do. */
static void pool_planes(const float *top, const float *bottom, ptrdiff_t pitch, int channels, int windows,
                        const float *bias, bool relu, float *scratch, float *y, float *number)
{
    float *max = scratch, *first = max + 8 * pitch;
    for (int c = 0; c < channels; c++) {
        const vec added = bias ? vec_set(bias[c]) : vec_zero();
        const ptrdiff_t plane = c * pitch;
        if (relu)
            pool_plane(top + plane, bottom + plane, windows, added, true, max + plane, first + plane);
        else
            pool_plane(top + plane, bottom + plane, windows, added, false, max + plane, first + plane);
    }
    interleave(max, pitch, channels, windows, y);
    interleave(first, pitch, channels, windows, number);
}

static void to_index(const float *number, int64_t count, uint8_t *index)
{
    for (int64_t i = 0; i < count; i++)
        index[i] = (uint8_t)(int32_t)number[i];
}

/* ---- The channels of one window ---- */

static void pool_step(const float *value, int position, float *restrict max, int32_t *restrict first, int count)
{
    for (int i = 0; i < count; i++) {
        float v = value[i], m = max[i];
        int32_t takes = (v > m) | ((v != v) & (m == m));
        max[i] = takes ? v : m;
        first[i] = takes ? position : first[i];
    }
}

static void pool_grad_step(const float *dy, const uint8_t *first, int position, float *restrict sum, int count)
{
    for (int i = 0; i < count; i++) {
        int32_t at = first[i];
        float gradient = dy[i];
        sum[i] += at == position ? gradient : 0.0f;
    }
}
