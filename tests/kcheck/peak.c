/* Measured peaks: how many multiply-adds this machine does when nothing else limits it.
 *
 * Each loop keeps enough independent accumulators in registers to hide the latency of one instruction. */
#include "tests/kcheck/kcheck.h"

#include "core/pool.h"

#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>

enum { ACCUMULATORS = 12, ITERATIONS = 4000000 };

/* Sums end here, so that no loop is removed. */
static volatile float float_sink;
static volatile int int_sink;

__attribute__((target("avx512f"))) static double fma_avx512(void)
{
    __m512 sum[ACCUMULATORS], a = _mm512_set1_ps(1.0f + 0x1p-20f), b = _mm512_set1_ps(0x1p-30f);
    for (int j = 0; j < ACCUMULATORS; j++)
        sum[j] = _mm512_set1_ps((float)j);
    for (int i = 0; i < ITERATIONS; i++)
        for (int j = 0; j < ACCUMULATORS; j++) {
            sum[j] = _mm512_fmadd_ps(sum[j], a, b);
            __asm__ volatile("" : "+v"(sum[j]));
        }
    for (int j = 1; j < ACCUMULATORS; j++)
        sum[0] = _mm512_add_ps(sum[0], sum[j]);
    float_sink = _mm512_reduce_add_ps(sum[0]);
    return 2.0 * 16 * ACCUMULATORS * ITERATIONS;
}

__attribute__((target("avx2,fma"))) static double fma_avx2(void)
{
    __m256 sum[ACCUMULATORS], a = _mm256_set1_ps(1.0f + 0x1p-20f), b = _mm256_set1_ps(0x1p-30f);
    for (int j = 0; j < ACCUMULATORS; j++)
        sum[j] = _mm256_set1_ps((float)j);
    for (int i = 0; i < ITERATIONS; i++)
        for (int j = 0; j < ACCUMULATORS; j++) {
            sum[j] = _mm256_fmadd_ps(sum[j], a, b);
            __asm__ volatile("" : "+x"(sum[j]));
        }
    for (int j = 1; j < ACCUMULATORS; j++)
        sum[0] = _mm256_add_ps(sum[0], sum[j]);
    float_sink = _mm_cvtss_f32(_mm256_castps256_ps128(sum[0]));
    return 2.0 * 8 * ACCUMULATORS * ITERATIONS;
}

__attribute__((target("avx512f,avx512vnni"))) static double dot_avx512vnni(void)
{
    __m512i sum[ACCUMULATORS], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
    for (int j = 0; j < ACCUMULATORS; j++)
        sum[j] = _mm512_set1_epi32(j);
    for (int i = 0; i < ITERATIONS; i++)
        for (int j = 0; j < ACCUMULATORS; j++) {
            sum[j] = _mm512_dpbusd_epi32(sum[j], a, b);
            __asm__ volatile("" : "+v"(sum[j]));
        }
    for (int j = 1; j < ACCUMULATORS; j++)
        sum[0] = _mm512_add_epi32(sum[0], sum[j]);
    int_sink = _mm512_reduce_add_epi32(sum[0]);
    return 2.0 * 64 * ACCUMULATORS * ITERATIONS;
}

/* int8 values widened to int16, as machines without VNNI do it exactly. */
__attribute__((target("avx2"))) static double dot_avx2(void)
{
    __m256i sum[ACCUMULATORS], a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(-2);
    for (int j = 0; j < ACCUMULATORS; j++)
        sum[j] = _mm256_set1_epi32(j);
    for (int i = 0; i < ITERATIONS; i++)
        for (int j = 0; j < ACCUMULATORS; j++) {
            __asm__ volatile("" : "+x"(a));
            sum[j] = _mm256_add_epi32(sum[j], _mm256_madd_epi16(a, b));
        }
    for (int j = 1; j < ACCUMULATORS; j++)
        sum[0] = _mm256_add_epi32(sum[0], sum[j]);
    int_sink = _mm_cvtsi128_si32(_mm256_castsi256_si128(sum[0]));
    return 2.0 * 16 * ACCUMULATORS * ITERATIONS;
}

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

static void run_task(void *context, int task, int worker)
{
    (void)task;
    (void)worker;
    loop_fn *const *loop = context;
    (*loop)();
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Operations a second, in 1e9; the best of five. */
static double measure(loop_fn *loop, int threads)
{
    double best = 0;
    if (!loop)
        return 0;
    double operations = loop() * threads;
    for (int i = 0; i < 5; i++) {
        double start = seconds();
        cnn_parallel(threads, run_task, &loop);
        double rate = operations / (seconds() - start) * 1e-9;
        best = rate > best ? rate : best;
    }
    return best;
}

double kc_peak_f32(int threads)
{
    return measure(best_fma(), threads);
}

double kc_peak_i8(int threads)
{
    return measure(best_dot(), threads);
}

#else

double kc_peak_f32(int threads)
{
    (void)threads;
    return 0;
}

double kc_peak_i8(int threads)
{
    (void)threads;
    return 0;
}

#endif
