/* Loops of what stands in a ReLU's place, cut off at both ends or leaky, and of dropout. Included once by each
 * loops_<isa>.c, before loops_rows.h. */
#include "kernels/cpu/gemm_i8.h"

static void clip(const float *x, float *y, int64_t count, float hi)
{
    for (int64_t i = 0; i < count; i++) {
        const float above = x[i] > hi ? hi : x[i];
        y[i] = above <= 0.0f ? 0.0f : above; /* NaN stays */
    }
}

static void clip_grad(const float *y, const float *dy, float *dx, int64_t count, float hi)
{
    for (int64_t i = 0; i < count; i++) {
        float gradient = dy[i]; /* read always, so that the loop has no branch */
        dx[i] = ((y[i] > 0.0f) & (y[i] < hi)) ? gradient : 0.0f;
    }
}

static void leaky_relu(const float *x, float *y, int64_t count, float slope)
{
    for (int64_t i = 0; i < count; i++) {
        float below = x[i] * slope;
        y[i] = x[i] > 0.0f ? x[i] : below;
    }
}

static void leaky_relu_grad(const float *y, const float *dy, float *dx, int64_t count, float slope)
{
    for (int64_t i = 0; i < count; i++) {
        float gradient = dy[i], below = gradient * slope;
        dx[i] = y[i] > 0.0f ? gradient : below;
    }
}

static void leaky_relu_i8(const int8_t *x, int8_t *restrict y, int64_t count, float s_in, float slope, float s_out,
                          float lo, float hi)
{
    for (int64_t i = 0; i < count; i++) {
        float value = (float)x[i] * s_in, leaked = value * slope;
        float scaled = (value > 0.0f ? value : leaked) / s_out;
        scaled = scaled > lo ? scaled : lo;
        scaled = scaled < hi ? scaled : hi;
        y[i] = (int8_t)(int32_t)cnn_i8_nearest(scaled);
    }
}

static void dropout(const float *x, float *y, int64_t count, uint64_t key, float rate, float scale)
{
    for (int64_t i = 0; i < count; i++) {
        float kept = x[i] * scale;
        y[i] = cnn_dropout_keeps(key, i, rate) ? kept : 0.0f;
    }
}
