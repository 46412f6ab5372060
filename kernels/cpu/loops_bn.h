/* Batch normalization, alone and with ReLU and max-pooling. Included once by each loops_<isa>.c, after loops_pool.h and
 * before loops_rows.h. */
#include <math.h>

/* ---- Alone ---- */

/* Sums are double; two pixels are taken at once, so that they are loaded and stored less often. */
static void bn_grad_sums(const float *x, const float *dy, const float *mean, const float *invstd, int64_t pixels,
                         int channels, double *restrict sum, double *restrict dot_sum)
{
    int64_t pixel = 0;
    for (; pixel + 2 <= pixels; pixel += 2) {
        const float *x0 = x + pixel * channels, *x1 = x0 + channels;
        const float *dy0 = dy + pixel * channels, *dy1 = dy0 + channels;
        for (int c = 0; c < channels; c++) {
            double xhat0 = (double)((x0[c] - mean[c]) * invstd[c]);
            double xhat1 = (double)((x1[c] - mean[c]) * invstd[c]);
            sum[c] += (double)dy0[c] + (double)dy1[c];
            dot_sum[c] += (double)dy0[c] * xhat0 + (double)dy1[c] * xhat1;
        }
    }
    for (; pixel < pixels; pixel++)
        for (int c = 0; c < channels; c++) {
            double gradient = (double)dy[pixel * channels + c];
            sum[c] += gradient;
            dot_sum[c] += gradient * (double)((x[pixel * channels + c] - mean[c]) * invstd[c]);
        }
}

static void bn_apply(const float *x, const float *mean, const float *invstd, const float *gamma, const float *beta,
                     int64_t pixels, int channels, float *restrict y)
{
    for (int64_t pixel = 0; pixel < pixels; pixel++, x += channels, y += channels)
        for (int c = 0; c < channels; c++)
            y[c] = (x[c] - mean[c]) * invstd[c] * gamma[c] + beta[c];
}

static void bn_grad_apply(const float *x, const float *dy, const float *mean, const float *invstd, const float *scale,
                          const float *mean_dy, const float *mean_dot, int64_t pixels, int channels, float *restrict dx)
{
    for (int64_t pixel = 0; pixel < pixels; pixel++, x += channels, dy += channels, dx += channels)
        for (int c = 0; c < channels; c++)
            dx[c] = scale[c] * (dy[c] - mean_dy[c] - (x[c] - mean[c]) * invstd[c] * mean_dot[c]);
}

/* ---- With ReLU and max-pooling ----
 *
 * A vector holds channels of one pixel. Where one holds them all, what belongs to channels stays in registers from
 * window to window. */

enum { POOL_WINDOWS = 16 /* that are summed in f32 */ };

/* What normalizes a vector of channels. */
typedef struct bn_lanes {
    vec mean, invstd, gamma, beta;
    vec_lanes lanes;
} bn_lanes;

VEC_INLINE vec bn_normalized(const bn_lanes *n, const float *x)
{
    const vec xhat = vec_mul(vec_sub(vec_load_some(x, n->lanes), n->mean), n->invstd);
    return vec_add(vec_mul(xhat, n->gamma), n->beta);
}

VEC_INLINE void bn_pool_of(const int taps, const bool relu, const bool train, const float *x, ptrdiff_t step,
                           const ptrdiff_t *tap, int windows, const float *mean, const float *invstd,
                           const float *gamma, const float *beta, int channels, float *y, uint8_t *index)
{
    bn_lanes n = {0};
    for (int q = 0; q < windows; q++, x += step, y += channels, index += train ? channels : 0)
        for (int c = 0; c < channels; c += VEC_LANES) {
            if (q == 0 || channels > VEC_LANES) {
                n.lanes = vec_first(channels - c);
                n.mean = vec_load_some(mean + c, n.lanes);
                n.invstd = vec_load_some(invstd + c, n.lanes);
                n.gamma = vec_load_some(gamma + c, n.lanes);
                n.beta = vec_load_some(beta + c, n.lanes);
            }
            vec max = bn_normalized(&n, x + tap[0] + c);
            vec_at first = vec_at_zero();
            for (int t = 1; t < taps; t++)
                vec_take_greater(&max, &first, bn_normalized(&n, x + tap[t] + c), t);
            vec_store_some(y + c, relu ? vec_relu(max) : max, n.lanes);
            if (train)
                vec_store_at_some(index + c, relu ? vec_where_positive(first, max, CNN_NO_INDEX) : first, n.lanes);
        }
}

static void bn_pool(const float *x, ptrdiff_t step, const ptrdiff_t *tap, int taps, int windows, const float *mean,
                    const float *invstd, const float *gamma, const float *beta, int channels, bool relu, float *y,
                    uint8_t *index)
{
    if (taps == 4 && relu && index)
        bn_pool_of(4, true, true, x, step, tap, windows, mean, invstd, gamma, beta, channels, y, index);
    else if (taps == 4 && relu)
        bn_pool_of(4, true, false, x, step, tap, windows, mean, invstd, gamma, beta, channels, y, NULL);
    else
        bn_pool_of(taps, relu, index != NULL, x, step, tap, windows, mean, invstd, gamma, beta, channels, y, index);
}

/* sum += dy, dot += dy * xhat of some windows and a vector of channels. */
VEC_INLINE void bn_pool_grad_lanes(const float *x, ptrdiff_t step, const ptrdiff_t *tap, const int taps, int windows,
                                   const float *dy, const uint8_t *index, vec mean, vec invstd, int channels,
                                   vec_lanes lanes, float *sum, float *dot)
{
    vec sums = vec_load_some(sum, lanes), dots = vec_load_some(dot, lanes);
    for (int q = 0; q < windows; q++, x += step, dy += channels, index += channels) {
        const vec_at at = vec_load_at_some(index, lanes);
        const vec gradient = vec_below(vec_load_some(dy, lanes), at, taps);
        vec value = vec_load_some(x + tap[0], lanes);
        for (int t = 1; t < taps; t++)
            value = vec_choose(value, vec_load_some(x + tap[t], lanes), at, t);
        sums = vec_add(sums, gradient);
        dots = vec_add(dots, vec_mul(gradient, vec_mul(vec_sub(value, mean), invstd)));
    }
    vec_store_some(sum, sums, lanes);
    vec_store_some(dot, dots, lanes);
}

VEC_INLINE void bn_pool_grad_some(const float *x, ptrdiff_t step, const ptrdiff_t *tap, const int taps, int windows,
                                  const float *dy, const uint8_t *index, const float *mean, const float *invstd,
                                  int channels, float *some)
{
    const int run = channels > VEC_LANES ? 1 : windows;
    for (int q = 0; q < windows; q += run, x += step, dy += channels, index += channels)
        for (int c = 0; c < channels; c += VEC_LANES) {
            const vec_lanes lanes = vec_first(channels - c);
            bn_pool_grad_lanes(x + c, step, tap, taps, run, dy + c, index + c, vec_load_some(mean + c, lanes),
                               vec_load_some(invstd + c, lanes), channels, lanes, some + c, some + channels + c);
        }
}

static void bn_pool_grad_sums(const float *x, ptrdiff_t step, const ptrdiff_t *tap, int taps, int windows,
                              const float *dy, const uint8_t *index, const float *mean, const float *invstd,
                              int channels, float *some, double *restrict sum, double *restrict dot)
{
    for (int q = 0; q < windows; q += POOL_WINDOWS, x += POOL_WINDOWS * step) {
        const int count = windows - q < POOL_WINDOWS ? windows - q : POOL_WINDOWS;
        const ptrdiff_t output = (ptrdiff_t)q * channels;
        memset(some, 0, 2 * (size_t)channels * sizeof *some);
        if (taps == 4)
            bn_pool_grad_some(x, step, tap, 4, count, dy + output, index + output, mean, invstd, channels, some);
        else
            bn_pool_grad_some(x, step, tap, taps, count, dy + output, index + output, mean, invstd, channels, some);
        for (int c = 0; c < channels; c++) {
            sum[c] += (double)some[c];
            dot[c] += (double)some[channels + c];
        }
    }
}

/* What makes the gradient of a vector of channels. */
typedef struct bn_grad_lanes {
    vec mean, invstd, scale, mean_dy, mean_dot;
    vec_lanes lanes;
} bn_grad_lanes;

VEC_INLINE bn_grad_lanes bn_grad_lanes_at(const float *mean, const float *invstd, const float *scale,
                                          const float *mean_dy, const float *mean_dot, vec_lanes lanes)
{
    return (bn_grad_lanes){vec_load_some(mean, lanes),    vec_load_some(invstd, lanes),   vec_load_some(scale, lanes),
                           vec_load_some(mean_dy, lanes), vec_load_some(mean_dot, lanes), lanes};
}

VEC_INLINE void bn_pool_grad_taps(const bn_grad_lanes *n, const float *x, const ptrdiff_t *tap, const int taps,
                                  const float *dy, const uint8_t *index, float *dx)
{
    const vec passed = vec_load_some(dy, n->lanes);
    const vec_at at = vec_load_at_some(index, n->lanes);
    for (int t = 0; t < taps; t++) {
        const vec xhat = vec_mul(vec_sub(vec_load_some(x + tap[t], n->lanes), n->mean), n->invstd);
        const vec gradient = vec_sub(vec_choose(vec_zero(), passed, at, t), n->mean_dy);
        vec_store_some(dx + tap[t], vec_mul(n->scale, vec_sub(gradient, vec_mul(xhat, n->mean_dot))), n->lanes);
    }
}

VEC_INLINE void bn_pool_grad_apply_of(const int taps, const float *x, ptrdiff_t step, const ptrdiff_t *tap, int windows,
                                      const float *dy, const uint8_t *index, const float *mean, const float *invstd,
                                      const float *scale, const float *mean_dy, const float *mean_dot, int channels,
                                      float *dx)
{
    bn_grad_lanes n = bn_grad_lanes_at(mean, invstd, scale, mean_dy, mean_dot, vec_first(channels));
    for (int q = 0; q < windows; q++, x += step, dy += channels, index += channels, dx += step)
        for (int c = 0; c < channels; c += VEC_LANES) {
            if (channels > VEC_LANES)
                n = bn_grad_lanes_at(mean + c, invstd + c, scale + c, mean_dy + c, mean_dot + c,
                                     vec_first(channels - c));
            bn_pool_grad_taps(&n, x + c, tap, taps, dy + c, index + c, dx + c);
        }
}

static void bn_pool_grad_apply(const float *x, ptrdiff_t step, const ptrdiff_t *tap, int taps, int windows,
                               const float *dy, const uint8_t *index, const float *mean, const float *invstd,
                               const float *scale, const float *mean_dy, const float *mean_dot, int channels, float *dx)
{
    if (taps == 4)
        bn_pool_grad_apply_of(4, x, step, tap, windows, dy, index, mean, invstd, scale, mean_dy, mean_dot, channels,
                              dx);
    else
        bn_pool_grad_apply_of(taps, x, step, tap, windows, dy, index, mean, invstd, scale, mean_dy, mean_dot, channels,
                              dx);
}
