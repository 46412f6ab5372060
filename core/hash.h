/* Counter-based random numbers: a value depends on what it is for, not on how many were drawn before. */
#ifndef CNN_CORE_HASH_H
#define CNN_CORE_HASH_H

#include <stdint.h>

/* splitmix64's output function (Steele, Lea, Flood 2014) on the counter x. */
static inline uint64_t cnn_splitmix64(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* What a number is for; keeps streams apart. */
typedef enum cnn_purpose {
    CNN_PURPOSE_INIT = 1,
    CNN_PURPOSE_ORDER = 2,
    CNN_PURPOSE_SPLIT = 3,
    CNN_PURPOSE_CALIBRATION = 4,
    CNN_PURPOSE_SYNTH = 5,
    CNN_PURPOSE_AUGMENT = 6,
    CNN_PURPOSE_DROPOUT = 7,
    CNN_PURPOSE_PRUNE = 8,
    CNN_PURPOSE_SENSITIVITY = 9,
    CNN_PURPOSE_ATTACK = 10,
    CNN_PURPOSE_ADVERSARIAL = 11
} cnn_purpose;

/* hash(seed, purpose, a, b) */
static inline uint64_t cnn_hash(uint64_t seed, cnn_purpose purpose, uint64_t a, uint64_t b)
{
    uint64_t x = cnn_splitmix64(seed ^ ((uint64_t)purpose << 56));
    x = cnn_splitmix64(x ^ a);
    return cnn_splitmix64(x ^ b);
}

/* Uniform in [0,1) with 24 bits, exact in float. */
static inline float cnn_hash_uniform(uint64_t hash)
{
    return (float)(hash >> 40) * (1.0f / 16777216.0f);
}

#endif
