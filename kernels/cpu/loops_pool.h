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

/* ---- Windows of 2x2 in planes ---- */

/* Maxima and their numbers of the windows of one channel, whole vectors of them. */
VEC_INLINE void pool_plane(const float *top, const float *bottom, int windows, const bool relu, float *y, float *number)
{
    for (int q = 0; q < windows; q += VEC_LANES, top += 2 * VEC_LANES, bottom += 2 * VEC_LANES) {
        const vec a0 = vec_load(top), a1 = vec_load(top + VEC_LANES);
        const vec b0 = vec_load(bottom), b1 = vec_load(bottom + VEC_LANES);
        vec max = vec_even(a0, a1), first = vec_zero();
        vec_number_greater(&max, &first, vec_odd(a0, a1), 1.0f);
        vec_number_greater(&max, &first, vec_even(b0, b1), 2.0f);
        vec_number_greater(&max, &first, vec_odd(b0, b1), 3.0f);
        vec_store(y + q, relu ? vec_relu(max) : max);
        vec_store(number + q, relu ? vec_pick_positive(first, max, CNN_NO_INDEX) : first);
    }
}

/* Numbers are floats until they lie as pixels do, so that they get there as maxima do. */
static void pool_planes(const float *top, const float *bottom, ptrdiff_t pitch, int channels, int windows, bool relu,
                        float *scratch, float *y, uint8_t *index)
{
    float *max = scratch, *number = max + 8 * pitch;
    for (int c = 0; c < channels; c++)
        if (relu)
            pool_plane(top + c * pitch, bottom + c * pitch, windows, true, max + c * pitch, number + c * pitch);
        else
            pool_plane(top + c * pitch, bottom + c * pitch, windows, false, max + c * pitch, number + c * pitch);
    interleave(max, pitch, channels, windows, y);
    interleave(number, pitch, channels, windows, max); /* whose planes have been read */
    for (int i = 0; i < windows * channels; i++)
        index[i] = (uint8_t)(int32_t)max[i];
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
