/* Loops over planes of pixels, compiled twice: for any CPU, and for those with AVX2, which take half the time. Both
 * give the same bits: AVX2 alone has no fused multiply-add, and no sum is reordered.
 *
 *   CNN_WIDE_BODY void double_body(float *values, size_t count) { ... }
 *   CNN_WIDE(static, double_all, double_body, (float *values, size_t count), (values, count))
 *
 * defines `static void double_all(float *values, size_t count)`, which chooses. What the body calls is CNN_WIDE_BODY,
 * too: only what is inlined is compiled along. */
#ifndef CNN_CORE_WIDE_H
#define CNN_CORE_WIDE_H

#define CNN_WIDE_BODY static inline __attribute__((always_inline))

#if defined(__x86_64__) && !defined(CNN_NARROW) /* a test is */
#define CNN_WIDE(SCOPE, NAME, BODY, PARAMETERS, ARGUMENTS)             \
    __attribute__((target("avx2"))) static void NAME##_avx2 PARAMETERS \
    {                                                                  \
        BODY ARGUMENTS;                                                \
    }                                                                  \
    SCOPE void NAME PARAMETERS                                         \
    {                                                                  \
        if (__builtin_cpu_supports("avx2"))                            \
            NAME##_avx2 ARGUMENTS;                                     \
        else                                                           \
            BODY ARGUMENTS;                                            \
    }
#else
#define CNN_WIDE(SCOPE, NAME, BODY, PARAMETERS, ARGUMENTS) \
    SCOPE void NAME PARAMETERS                             \
    {                                                      \
        BODY ARGUMENTS;                                    \
    }
#endif

#endif
