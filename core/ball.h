/* The ball around an image that an attack stays in: every pixel in [0,1] and within eps of its own. */
#ifndef CNN_CORE_BALL_H
#define CNN_CORE_BALL_H

#include "core/hash.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

static inline float cnn_ball_clip(float x, float origin, float eps)
{
    x = fminf(fmaxf(x, origin - eps), origin + eps);
    return fminf(fmaxf(x, 0.0f), 1.0f);
}

/* Bytes of an image as pixels, and a place to begin from: the image itself, or a random one of its ball that follows
 * from `seed`. */
static inline void cnn_ball_begin(const uint8_t *image, size_t values, float eps, bool random, uint64_t seed,
                                  float *origin, float *at)
{
    for (size_t i = 0; i < values; i++) {
        const float away = random ? 2.0f * cnn_hash_uniform(cnn_splitmix64(seed + i)) - 1.0f : 0.0f;
        origin[i] = (float)image[i] / 255.0f;
        at[i] = cnn_ball_clip(origin[i] + eps * away, origin[i], eps);
    }
}

/* One step up the loss by the gradient's signs. */
static inline void cnn_ball_move(const float *gradient, const float *origin, size_t values, float eps, float step,
                                 float *at)
{
    for (size_t i = 0; i < values; i++) {
        const float way = gradient[i] > 0.0f ? step : gradient[i] < 0.0f ? -step : 0.0f;
        at[i] = cnn_ball_clip(at[i] + way, origin[i], eps);
    }
}

#endif
