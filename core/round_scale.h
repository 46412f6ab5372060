/* Scales that a file holds in a byte or less: powers of 2^(1/16), rounded to f32 (docs/format.md, "Parameters as one
 * stream"). Number i stands for 2^(i/16). */
#ifndef CNN_CORE_ROUND_SCALE_H
#define CNN_CORE_ROUND_SCALE_H

#include <stdbool.h>

enum { CNN_ROUND_SCALES = 16, CNN_ROUND_LEAST = -126 * CNN_ROUND_SCALES, CNN_ROUND_MOST = 128 * CNN_ROUND_SCALES - 1 };

/* 2^(i/16), the mantissa rounded to 24 bits; i from CNN_ROUND_LEAST to CNN_ROUND_MOST. */
float cnn_round_scale(int number);

/* Whether the grid has exactly this scale, and where. */
bool cnn_round_scale_find(float scale, int *number);

/* The smallest scale of the grid that is not below this normal, positive one: by less than 4.5 % more. What is beyond
 * the grid comes back as it was. */
float cnn_round_scale_above(float scale);

#endif
