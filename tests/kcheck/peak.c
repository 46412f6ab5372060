/* Measured peaks: how many multiply-adds this machine does when nothing else limits it.
 *
 * Each loop keeps enough independent accumulators in registers to hide the latency of one instruction. They are twelve
 * variables and not an array, which compilers leave in memory. Bursts are short and the best of many counts, since
 * other programs may take the CPU at any time. */
#include "tests/kcheck/kcheck.h"

#include "kernels/cpu/isa.h"

#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>

enum { ACCUMULATORS = 12, ITERATIONS = 20000, BURSTS = 400 };

#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

/* Sums end here, so that no loop is removed. */
static volatile float float_sink;
static volatile int int_sink;

__attribute__((target("avx512f"))) static double fma_avx512(void)
{
#define INIT(j) __m512 s##j = _mm512_set1_ps((float)j);
#define STEP(j)                         \
    s##j = _mm512_fmadd_ps(s##j, a, b); \
    __asm__ volatile("" : "+v"(s##j));
#define SINK(j) float_sink = _mm512_cvtss_f32(s##j);
    __m512 a = _mm512_set1_ps(1.0f + 0x1p-20f), b = _mm512_set1_ps(0x1p-30f);
    EACH(INIT)
    for (int i = 0; i < ITERATIONS; i++) {
        EACH(STEP)
    }
    EACH(SINK)
    return 2.0 * 16 * ACCUMULATORS * ITERATIONS;
#undef INIT
#undef STEP
#undef SINK
}

__attribute__((target("avx2,fma"))) static double fma_avx2(void)
{
#define INIT(j) __m256 s##j = _mm256_set1_ps((float)j);
#define STEP(j)                         \
    s##j = _mm256_fmadd_ps(s##j, a, b); \
    __asm__ volatile("" : "+x"(s##j));
#define SINK(j) float_sink = _mm256_cvtss_f32(s##j);
    __m256 a = _mm256_set1_ps(1.0f + 0x1p-20f), b = _mm256_set1_ps(0x1p-30f);
    EACH(INIT)
    for (int i = 0; i < ITERATIONS; i++) {
        EACH(STEP)
    }
    EACH(SINK)
    return 2.0 * 8 * ACCUMULATORS * ITERATIONS;
#undef INIT
#undef STEP
#undef SINK
}

__attribute__((target("avx512f,avx512vnni"))) static double dot_avx512vnni(void)
{
#define INIT(j) __m512i s##j = _mm512_set1_epi32(j);
#define STEP(j)                             \
    s##j = _mm512_dpbusd_epi32(s##j, a, b); \
    __asm__ volatile("" : "+v"(s##j));
#define SINK(j) int_sink = _mm_cvtsi128_si32(_mm512_castsi512_si128(s##j));
    __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
    EACH(INIT)
    for (int i = 0; i < ITERATIONS; i++) {
        EACH(STEP)
    }
    EACH(SINK)
    return 2.0 * 64 * ACCUMULATORS * ITERATIONS;
#undef INIT
#undef STEP
#undef SINK
}

/* int8 values widened to int16, as machines without VNNI do it exactly. The empty asm on `a` keeps the product in the
 * loop. */
__attribute__((target("avx2"))) static double dot_avx2(void)
{
#define INIT(j) __m256i s##j = _mm256_set1_epi32(j);
#define STEP(j)                     \
    __asm__ volatile("" : "+x"(a)); \
    s##j = _mm256_add_epi32(s##j, _mm256_madd_epi16(a, b));
#define SINK(j) int_sink = _mm_cvtsi128_si32(_mm256_castsi256_si128(s##j));
    __m256i a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(-2);
    EACH(INIT)
    for (int i = 0; i < ITERATIONS; i++) {
        EACH(STEP)
    }
    EACH(SINK)
    return 2.0 * 16 * ACCUMULATORS * ITERATIONS;
#undef INIT
#undef STEP
#undef SINK
}

#if defined(CNN_CPU_AMX_BUILT)
/* Four tiles of sums are enough to hide the latency of one product. */
#define DEFINE_TILES(NAME, INSTRUCTION, OPERATIONS)                                \
    __attribute__((target("amx-tile,amx-int8,amx-bf16"))) static double NAME(void) \
    {                                                                              \
        struct {                                                                   \
            uint8_t palette, start, reserved[14];                                  \
            uint16_t row_bytes[16];                                                \
            uint8_t rows[16];                                                      \
        } config = {.palette = 1};                                                 \
        for (int i = 0; i < 8; i++) {                                              \
            config.row_bytes[i] = 64;                                              \
            config.rows[i] = 16;                                                   \
        }                                                                          \
        __asm__ volatile("" : : "r"(&config) : "memory");                          \
        _tile_loadconfig(&config);                                                 \
        for (int i = 0; i < ITERATIONS; i++) {                                     \
            INSTRUCTION(0, 4, 6);                                                  \
            INSTRUCTION(1, 4, 7);                                                  \
            INSTRUCTION(2, 5, 6);                                                  \
            INSTRUCTION(3, 5, 7);                                                  \
        }                                                                          \
        _tile_release();                                                           \
        return 2.0 * 16 * 16 * OPERATIONS * 4 * ITERATIONS;                        \
    }
DEFINE_TILES(tiles_i8, _tile_dpbssd, 64)
DEFINE_TILES(tiles_bf16, _tile_dpbf16ps, 32)
#endif

typedef double loop_fn(void);

static loop_fn *best_fma(void)
{
    if (__builtin_cpu_supports("avx512f"))
        return fma_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? fma_avx2 : NULL;
}

static loop_fn *best_dot(void)
{
    if (__builtin_cpu_supports("avx512vnni"))
        return dot_avx512vnni;
    return __builtin_cpu_supports("avx2") ? dot_avx2 : NULL;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Operations a second, in 1e9. */
static double measure(loop_fn *loop)
{
    double best = 0;
    for (int i = 0; loop && i < BURSTS; i++) {
        double start = seconds();
        double operations = loop();
        double rate = operations / (seconds() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    return best;
}

double kc_peak_f32(void)
{
    return measure(best_fma());
}

double kc_peak_i8(void)
{
    return measure(best_dot());
}

double kc_peak_amx(cnn_dtype dtype)
{
#if defined(CNN_CPU_AMX_BUILT)
    return measure(dtype == CNN_I8 ? tiles_i8 : tiles_bf16);
#else
    (void)dtype;
    return 0;
#endif
}

#else

double kc_peak_amx(cnn_dtype dtype)
{
    (void)dtype;
    return 0;
}

double kc_peak_f32(void)
{
    return 0;
}

double kc_peak_i8(void)
{
    return 0;
}

#endif
