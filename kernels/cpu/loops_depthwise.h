/* Loops of depthwise convolutions: vectors run over the channels of a pixel, and some neighbouring outputs share each
 * load of weights. Included once by each loops_<isa>.c, before loops_rows.h.
 *
 * INT8 takes two taps at a time: their values side by side in 16 bits times those of the weights, added in pairs. All
 * sums are exact in 32 bits. */
#include "kernels/cpu/depthwise.h"

enum { DEPTHWISE_PIXELS = 8, DEPTHWISE_I8_PIXELS = 4 };

/* ---- Forward and data gradient ---- */

/* `pixels` is a constant wherever this is called. */
VEC_INLINE void depthwise_vectors(const cnn_depthwise_taps *l, const float *x, const float *w, float *y, int pixels)
{
    vec sum[DEPTHWISE_PIXELS];
    VEC_UNROLL
    for (int i = 0; i < pixels; i++)
        sum[i] = vec_zero();
    for (int t = 0; t < l->taps; t++) {
        const vec weight = vec_load(w + l->weight[t]);
        const float *at = x + l->tap[t];
        VEC_UNROLL
        for (int i = 0; i < pixels; i++)
            sum[i] = vec_fma(vec_load(at + i * l->x_step), weight, sum[i]);
    }
    VEC_UNROLL
    for (int i = 0; i < pixels; i++)
        vec_store(y + i * l->y_step, sum[i]);
}

static void depthwise(const cnn_depthwise_taps *l, const float *x, const float *w, float *y)
{
    int c = 0;
    for (; c + VEC_LANES <= l->channels; c += VEC_LANES) {
        int j = 0;
        for (; j + DEPTHWISE_PIXELS <= l->pixels; j += DEPTHWISE_PIXELS)
            depthwise_vectors(l, x + j * l->x_step + c, w + c, y + j * l->y_step + c, DEPTHWISE_PIXELS);
        for (; j < l->pixels; j++)
            depthwise_vectors(l, x + j * l->x_step + c, w + c, y + j * l->y_step + c, 1);
    }
    for (; c < l->channels; c++)
        for (int j = 0; j < l->pixels; j++) {
            float sum = 0.0f;
            for (int t = 0; t < l->taps; t++)
                sum += x[j * l->x_step + l->tap[t] + c] * w[l->weight[t] + c];
            y[j * l->y_step + c] = sum;
        }
}

/* ---- Weight gradient ---- */

enum { DEPTHWISE_GRAD_TAPS = 9 };

/* `taps` is a constant wherever this is called. */
VEC_INLINE void depthwise_grad_vectors(const cnn_depthwise_taps *l, const ptrdiff_t *tap, const ptrdiff_t *weight,
                                       int taps, const float *x, const float *dy, float *sum)
{
    vec part[DEPTHWISE_GRAD_TAPS];
    VEC_UNROLL
    for (int t = 0; t < taps; t++)
        part[t] = vec_zero();
    for (int j = 0; j < l->pixels; j++) {
        const vec gradient = vec_load(dy + j * l->y_step);
        const float *at = x + j * l->x_step;
        VEC_UNROLL
        for (int t = 0; t < taps; t++)
            part[t] = vec_fma(vec_load(at + tap[t]), gradient, part[t]);
    }
    VEC_UNROLL
    for (int t = 0; t < taps; t++)
        vec_store(sum + weight[t], vec_add(vec_load(sum + weight[t]), part[t]));
}

/* sum[weight[t] + c] += sum over j of x[j*x_step + tap[t] + c] * dy[j*y_step + c] */
static void depthwise_grad(const cnn_depthwise_taps *l, const float *x, const float *dy, float *sum)
{
    int c = 0;
    for (; c + VEC_LANES <= l->channels; c += VEC_LANES) {
        int t = 0;
        for (; t + 9 <= l->taps; t += 9)
            depthwise_grad_vectors(l, l->tap + t, l->weight + t, 9, x + c, dy + c, sum + c);
        for (; t + 3 <= l->taps; t += 3)
            depthwise_grad_vectors(l, l->tap + t, l->weight + t, 3, x + c, dy + c, sum + c);
        for (; t < l->taps; t++)
            depthwise_grad_vectors(l, l->tap + t, l->weight + t, 1, x + c, dy + c, sum + c);
    }
    for (; c < l->channels; c++)
        for (int t = 0; t < l->taps; t++) {
            float part = 0.0f;
            for (int j = 0; j < l->pixels; j++)
                part += x[j * l->x_step + l->tap[t] + c] * dy[j * l->y_step + c];
            sum[l->weight[t] + c] += part;
        }
}

/* ---- INT8 ---- */

#if defined(CNN_SIMD_AVX2) || defined(CNN_SIMD_AVX512)
enum { DEPTHWISE_I8_CHANNELS = 16 };

VEC_INLINE __m256i depthwise_i8_load(const int8_t *x)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)x));
}

/* 16 channels of `pixels` outputs; the last of an odd number of taps is paired with zeros. */
VEC_INLINE void depthwise_i8_vectors(const cnn_depthwise_taps *l, const int8_t *x, const int16_t *w, int32_t *y,
                                     int pixels)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i low[DEPTHWISE_I8_PIXELS], high[DEPTHWISE_I8_PIXELS];
    VEC_UNROLL
    for (int i = 0; i < pixels; i++)
        low[i] = high[i] = zero;
    for (int t = 0; t < l->taps; t += 2) {
        const bool pair = t + 1 < l->taps;
        const __m256i w0 = _mm256_loadu_si256((const void *)(w + l->weight[t]));
        const __m256i w1 = pair ? _mm256_loadu_si256((const void *)(w + l->weight[t + 1])) : zero;
        const __m256i w_low = _mm256_unpacklo_epi16(w0, w1), w_high = _mm256_unpackhi_epi16(w0, w1);
        const int8_t *at0 = x + l->tap[t], *at1 = x + l->tap[pair ? t + 1 : t];
        VEC_UNROLL
        for (int i = 0; i < pixels; i++) {
            const __m256i x0 = depthwise_i8_load(at0 + i * l->x_step), x1 = depthwise_i8_load(at1 + i * l->x_step);
            low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), w_low));
            high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), w_high));
        }
    }
    VEC_UNROLL
    for (int i = 0; i < pixels; i++) { /* unpacking went by halves: channels 0-3, 8-11 and 4-7, 12-15 */
        int32_t *to = y + i * l->y_step;
        _mm256_storeu_si256((void *)to, _mm256_permute2x128_si256(low[i], high[i], 0x20));
        _mm256_storeu_si256((void *)(to + 8), _mm256_permute2x128_si256(low[i], high[i], 0x31));
    }
}
#else
enum { DEPTHWISE_I8_CHANNELS = 8 };

VEC_INLINE void depthwise_i8_vectors(const cnn_depthwise_taps *l, const int8_t *x, const int16_t *w, int32_t *y,
                                     int pixels)
{
    for (int i = 0; i < pixels; i++) {
        int32_t sum[DEPTHWISE_I8_CHANNELS] = {0};
        for (int t = 0; t < l->taps; t++)
            for (int c = 0; c < DEPTHWISE_I8_CHANNELS; c++)
                sum[c] += x[i * l->x_step + l->tap[t] + c] * w[l->weight[t] + c];
        memcpy(y + i * l->y_step, sum, sizeof sum);
    }
}
#endif

static void depthwise_i8(const cnn_depthwise_taps *l, const int8_t *x, const int16_t *w, int32_t *y)
{
    int c = 0;
    for (; c + DEPTHWISE_I8_CHANNELS <= l->channels; c += DEPTHWISE_I8_CHANNELS) {
        int j = 0;
        for (; j + DEPTHWISE_I8_PIXELS <= l->pixels; j += DEPTHWISE_I8_PIXELS)
            depthwise_i8_vectors(l, x + j * l->x_step + c, w + c, y + j * l->y_step + c, DEPTHWISE_I8_PIXELS);
        for (; j < l->pixels; j++)
            depthwise_i8_vectors(l, x + j * l->x_step + c, w + c, y + j * l->y_step + c, 1);
    }
    for (; c < l->channels; c++)
        for (int j = 0; j < l->pixels; j++) {
            int32_t sum = 0;
            for (int t = 0; t < l->taps; t++)
                sum += x[j * l->x_step + l->tap[t] + c] * w[l->weight[t] + c];
            y[j * l->y_step + c] = sum;
        }
}
