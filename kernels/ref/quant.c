/* The INT8 arithmetic of cnn/quant.h. f32 throughout: each product, quotient and sum is rounded once. */
#include "cnn/quant.h"

#include <math.h>

/* Not fminf/fmaxf: the result for NaN must be the same everywhere. NaN (inf*0) counts as lo. */
static float clamp(float value, float lo, float hi)
{
    if (!(value > lo))
        return lo;
    return value < hi ? value : hi;
}

float cnn_quant_weight_scale(const float *weights, int64_t count, float bias, float s_in)
{
    float largest = 0;
    for (int64_t i = 0; i < count; i++) {
        float magnitude = fabsf(weights[i]);
        if (magnitude > largest)
            largest = magnitude;
    }
    if (largest == 0 && bias == 0)
        return 1;
    float from_weights = largest / 127.0f;
    float from_bias = fabsf(bias) / (s_in * 0x1p30f);
    return from_weights > from_bias ? from_weights : from_bias;
}

int8_t cnn_quant_value(float value, float scale)
{
    return (int8_t)clamp(rintf(value / scale), -127, 127);
}

int32_t cnn_quant_bias(float bias, float s_in, float s_w)
{
    return (int32_t)rint((double)bias / ((double)s_in * (double)s_w));
}

float cnn_quant_multiplier(float s_in, float s_w, float s_out)
{
    float product = s_in * s_w;
    return product / s_out;
}

float cnn_quant_logit_multiplier(float s_in, float s_w)
{
    return s_in * s_w;
}

int8_t cnn_quant_requantize(int32_t acc, float multiplier, float lo, float hi)
{
    float scaled = (float)acc * multiplier;
    return (int8_t)rintf(clamp(scaled, lo, hi));
}

int8_t cnn_quant_add(int8_t a, int8_t b, float s_a, float s_b, float s_out, float lo, float hi)
{
    float value_a = (float)a * s_a;
    float value_b = (float)b * s_b;
    float sum = value_a + value_b;
    return (int8_t)rintf(clamp(sum / s_out, lo, hi));
}

float cnn_quant_cap(float max, float scale)
{
    return clamp(rintf(max / scale), 1, 127);
}

int8_t cnn_quant_leaky_relu(int8_t x, float s_in, float slope, float s_out, float lo, float hi)
{
    float value = (float)x * s_in;
    float leaked = value * slope;
    return (int8_t)rintf(clamp((x > 0 ? value : leaked) / s_out, lo, hi));
}

int8_t cnn_quant_rescale(int8_t x, float s_in, float s_out, float lo, float hi)
{
    float value = (float)x * s_in;
    return (int8_t)rintf(clamp(value / s_out, lo, hi));
}

float cnn_quant_average_multiplier(float s_in, float s_out, int32_t count)
{
    float ratio = s_in / s_out;
    return ratio / (float)count;
}

bool cnn_quant_fits(int64_t k, int32_t bias)
{
    int64_t magnitude = bias < 0 ? -(int64_t)bias : bias;
    int64_t limit = INT64_C(1) << 31;
    return k <= limit / (127 * 127) && k * (127 * 127) + magnitude < limit;
}
