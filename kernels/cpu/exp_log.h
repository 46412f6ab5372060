/* exp and log in double, our own, so that losses have the same bits whatever the C library.
 *
 * exp: x = k ln2 + r with |r| <= ln2/2, a Taylor polynomial of degree 13 for e^r (remainder below 2^-57), times 2^k.
 * log: x = 2^k m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m-1)/(m+1), |s| < 0.1716, a series in s^2 to
 * s^21 (remainder below 2^-59). Both are right within about one unit in the last place. C11 and CUDA C++. */
#ifndef CNN_CPU_EXP_LOG_H
#define CNN_CPU_EXP_LOG_H

#include "cnn/status.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ln 2 in two parts; products of the first with integers below 2^11 are exact. */
static const double cnn_ln2_high = 0x1.62e42fefa3800p-1;
static const double cnn_ln2_low = 0x1.ef35793c76730p-45;

/* 2^k for -1022 <= k <= 1023. */
CNN_HOST_DEVICE double cnn_power_of_two(int k)
{
    uint64_t bits = (uint64_t)(k + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

CNN_HOST_DEVICE double cnn_exp(double x)
{
    static const double factor[] = {1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
                                    1.0 / 362880.0,     1.0 / 40320.0,     1.0 / 5040.0,     1.0 / 720.0,
                                    1.0 / 120.0,        1.0 / 24.0,        1.0 / 6.0,        0.5};
    if (x != x)
        return x;
    if (x > 709.8)
        return INFINITY;
    if (x < -745.2)
        return 0.0;
    const double shift = 0x1.8p52; /* leaves no bits for fractions */
    const double k = (x * 0x1.71547652b82fep0 + shift) - shift;
    double r = (x - k * cnn_ln2_high) - k * cnn_ln2_low;
    double sum = factor[0];
    for (int i = 1; i < 12; i++)
        sum = sum * r + factor[i];
    double result = 1.0 + (r + r * r * sum);
    int half = (int)k / 2; /* in two steps: 2^k itself may not be normal */
    return result * cnn_power_of_two(half) * cnn_power_of_two((int)k - half);
}

CNN_HOST_DEVICE double cnn_log(double x)
{
    if (x != x || x == INFINITY)
        return x;
    if (x <= 0)
        return x < 0 ? NAN : -INFINITY;
    int k = 0;
    if (x < 0x1p-1022) { /* subnormal */
        x *= 0x1p54;
        k = -54;
    }
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    k += (int)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp0) {
        m *= 0.5;
        k++;
    }
    static const double factor[] = {1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                    1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
    double s = (m - 1.0) / (m + 1.0), s2 = s * s, series = 0.0;
    for (int i = 0; i < 10; i++)
        series = (series + factor[i]) * s2;
    return (double)k * cnn_ln2_high + (2.0 * s + (2.0 * s * series + (double)k * cnn_ln2_low));
}

#endif
