#include "core/round_scale.h"

#include <stdint.h>
#include <string.h>

/* 2^23 (2^(j/16) - 1), rounded: the fraction of an f32. */
static const uint32_t fractions[CNN_ROUND_SCALES] = {0x000000, 0x05AAC3, 0x0B95C2, 0x11C3D3, 0x1837F0, 0x1EF532,
                                                     0x25FED7, 0x2D583F, 0x3504F3, 0x3D08A4, 0x45672A, 0x4E248C,
                                                     0x5744FD, 0x60CCDF, 0x6AC0C7, 0x75257D};

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float cnn_round_scale(int number)
{
    const uint32_t above = (uint32_t)(number - CNN_ROUND_LEAST);
    const uint32_t bits = (1 + above / CNN_ROUND_SCALES) << 23 | fractions[above % CNN_ROUND_SCALES];
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The number of the largest grid scale that is not above a normal, positive one. */
static int number_below(float scale)
{
    const uint32_t bits = bits_of(scale), exponent = bits >> 23, fraction = bits & 0x7FFFFF;
    int j = CNN_ROUND_SCALES - 1;
    while (fractions[j] > fraction)
        j--;
    return CNN_ROUND_LEAST + ((int)exponent - 1) * CNN_ROUND_SCALES + j;
}

static bool is_inside(float scale)
{
    const uint32_t bits = bits_of(scale);
    return bits >= 1u << 23 && bits < 255u << 23; /* positive, normal, finite */
}

bool cnn_round_scale_find(float scale, int *number)
{
    if (!is_inside(scale))
        return false;
    *number = number_below(scale);
    return bits_of(cnn_round_scale(*number)) == bits_of(scale);
}

float cnn_round_scale_above(float scale)
{
    if (!is_inside(scale))
        return scale;
    const int number = number_below(scale);
    if (bits_of(cnn_round_scale(number)) == bits_of(scale) || number == CNN_ROUND_MOST)
        return scale;
    return cnn_round_scale(number + 1);
}
