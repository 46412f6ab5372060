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

/* ---- With ReLU and max-pooling ---- */

enum { POOL_PIECE = 256 /* channels */, POOL_WINDOWS = 16 /* that are summed in f32 */ };

/* The first maximum of the normalized taps of up to POOL_PIECE channels. */
static void bn_pool_piece(const float *x, const ptrdiff_t *tap, int taps, const float *mean, const float *invstd,
                          const float *gamma, const float *beta, int channels, bool relu, float *restrict y,
                          uint8_t *restrict index)
{
    float max[POOL_PIECE], value[POOL_PIECE];
    int32_t first[POOL_PIECE];
    bn_apply(x + tap[0], mean, invstd, gamma, beta, 1, channels, max);
    memset(first, 0, sizeof first);
    for (int t = 1; t < taps; t++) {
        bn_apply(x + tap[t], mean, invstd, gamma, beta, 1, channels, value);
        pool_step(value, t, max, first, channels);
    }
    const float lowest = relu ? 0.0f : -INFINITY;
    for (int c = 0; c < channels; c++) {
        float m = max[c];
        y[c] = m <= lowest ? lowest : m; /* NaN stays */
    }
    const int32_t all = relu ? CNN_NO_INDEX : 0;
    for (int c = 0; c < channels; c++) {
        int32_t cut = max[c] > 0.0f ? 0 : all;
        index[c] = (uint8_t)(first[c] | cut);
    }
}

static void bn_pool(const float *x, const ptrdiff_t *tap, int taps, const float *mean, const float *invstd,
                    const float *gamma, const float *beta, int channels, bool relu, float *y, uint8_t *index)
{
    for (int c = 0; c < channels; c += POOL_PIECE)
        bn_pool_piece(x + c, tap, taps, mean + c, invstd + c, gamma + c, beta + c,
                      channels - c < POOL_PIECE ? channels - c : POOL_PIECE, relu, y + c, index + c);
}

static void pool_max(const float *value, float *restrict max, int count)
{
    for (int i = 0; i < count; i++) {
        float v = value[i], m = max[i];
        int32_t takes = (v > m) | ((v != v) & (m == m));
        max[i] = takes ? v : m;
    }
}

static void bn_pool_infer(const float *x, const ptrdiff_t *tap, int taps, const float *mean, const float *invstd,
                          const float *gamma, const float *beta, int channels, bool relu, float *y)
{
    const float lowest = relu ? 0.0f : -INFINITY;
    float max[POOL_PIECE], value[POOL_PIECE];
    for (int c = 0; c < channels; c += POOL_PIECE) {
        const int count = channels - c < POOL_PIECE ? channels - c : POOL_PIECE;
        bn_apply(x + tap[0] + c, mean + c, invstd + c, gamma + c, beta + c, 1, count, max);
        for (int t = 1; t < taps; t++) {
            bn_apply(x + tap[t] + c, mean + c, invstd + c, gamma + c, beta + c, 1, count, value);
            pool_max(value, max, count);
        }
        for (int i = 0; i < count; i++)
            y[c + i] = max[i] <= lowest ? lowest : max[i]; /* NaN stays */
    }
}

/* sum += dy, dot += dy * xhat of up to POOL_WINDOWS windows. */
static void bn_pool_grad_some(const float *x, ptrdiff_t step, const ptrdiff_t *tap, int taps, int windows,
                              const float *dy, const uint8_t *index, const float *mean, const float *invstd,
                              int channels, float *restrict sum, float *restrict dot)
{
    const int whole = channels / VEC_LANES * VEC_LANES;
    for (int q = 0; q < windows; q++, x += step, dy += channels, index += channels) {
        for (int c = 0; c < whole; c += VEC_LANES) {
            const vec_at at = vec_load_at(index + c);
            const vec gradient = vec_below(vec_load(dy + c), at, taps);
            vec value = vec_load(x + tap[0] + c);
            for (int t = 1; t < taps; t++)
                value = vec_choose(value, vec_load(x + tap[t] + c), at, t);
            const vec xhat = vec_mul(vec_sub(value, vec_load(mean + c)), vec_load(invstd + c));
            vec_store(sum + c, vec_add(vec_load(sum + c), gradient));
            vec_store(dot + c, vec_add(vec_load(dot + c), vec_mul(gradient, xhat)));
        }
        for (int c = whole; c < channels; c++) {
            const float gradient = index[c] < taps ? dy[c] : 0.0f;
            const float value = x[tap[index[c] < taps ? index[c] : 0] + c];
            sum[c] += gradient;
            dot[c] += gradient * ((value - mean[c]) * invstd[c]);
        }
    }
}

static void bn_pool_grad_sums(const float *x, ptrdiff_t step, const ptrdiff_t *tap, int taps, int windows,
                              const float *dy, const uint8_t *index, const float *mean, const float *invstd,
                              int channels, float *some, double *restrict sum, double *restrict dot)
{
    for (int q = 0; q < windows; q += POOL_WINDOWS) {
        const int count = windows - q < POOL_WINDOWS ? windows - q : POOL_WINDOWS;
        const ptrdiff_t output = (ptrdiff_t)q * channels;
        memset(some, 0, 2 * (size_t)channels * sizeof *some);
        bn_pool_grad_some(x + q * step, step, tap, taps, count, dy + output, index + output, mean, invstd, channels,
                          some, some + channels);
        for (int c = 0; c < channels; c++) {
            sum[c] += (double)some[c];
            dot[c] += (double)some[channels + c];
        }
    }
}

static void bn_pool_grad_apply(const float *x, const ptrdiff_t *tap, int taps, const float *dy, const uint8_t *index,
                               const float *mean, const float *invstd, const float *scale, const float *mean_dy,
                               const float *mean_dot, int channels, float *dx)
{
    for (int t = 0; t < taps; t++) {
        const float *restrict from = x + tap[t];
        float *restrict to = dx + tap[t];
        for (int c = 0; c < channels; c++) {
            int32_t at = index[c];
            float passed = dy[c];
            float gradient = at == t ? passed : 0.0f;
            to[c] = scale[c] * (gradient - mean_dy[c] - (from[c] - mean[c]) * invstd[c] * mean_dot[c]);
        }
    }
}
