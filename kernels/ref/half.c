/* IEEE binary16 (1 sign, 5 exponent, 10 fraction bits) and bfloat16 (the upper half of an f32) in plain C. */
#include "kernels/ref/half.h"

#include <math.h>
#include <string.h>

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float cnn_ref_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    int exponent = (half >> 10) & 0x1F;
    uint32_t fraction = half & 0x3FFu;
    if (exponent == 0x1F)
        return float_of(sign | 0x7F800000u | (fraction ? 0x400000u : 0) | fraction << 13);
    if (exponent == 0) {
        float magnitude = ldexpf((float)fraction, -24);
        return sign ? -magnitude : magnitude;
    }
    return float_of(sign | (uint32_t)(exponent - 15 + 127) << 23 | fraction << 13);
}

/* value / 2^shift to the nearest integer, ties to even; shift in 1..31. */
static uint32_t shift_round(uint32_t value, int shift)
{
    uint32_t quotient = value >> shift;
    uint32_t rest = value & ((1u << shift) - 1);
    uint32_t tie = 1u << (shift - 1);
    return quotient + (rest > tie || (rest == tie && (quotient & 1)));
}

uint16_t cnn_ref_f16_from_f32(float value)
{
    uint32_t bits = bits_of(value);
    uint32_t sign = bits >> 16 & 0x8000u;
    int exponent = (int)(bits >> 23 & 0xFF) - 127 + 15; /* as binary16 biases it */
    uint32_t fraction = bits & 0x7FFFFFu;
    uint32_t magnitude;

    if (isnan(value))
        magnitude = 0x7E00u | fraction >> 13;
    else if (exponent >= 0x1F)
        magnitude = 0x7C00u;
    else if (exponent > 0)
        /* A carry out of the fraction rightly enters the exponent, up to infinity. */
        magnitude = shift_round((uint32_t)exponent << 23 | fraction, 13);
    else if (exponent >= -10)
        /* Subnormal: the hidden bit becomes explicit and moves right by how far the exponent is below 1. */
        magnitude = shift_round(0x800000u | fraction, 14 - exponent);
    else
        magnitude = 0;
    return (uint16_t)(sign | magnitude);
}

float cnn_ref_bf16_to_f32(uint16_t half)
{
    return float_of((uint32_t)half << 16);
}

uint16_t cnn_ref_bf16_from_f32(float value)
{
    uint32_t bits = bits_of(value);
    if (isnan(value))
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)(shift_round(bits & 0x7FFFFFFFu, 16) | (bits >> 16 & 0x8000u));
}
