/* LINEAR in INT8 on a few images: dot products over weights in place, read once. Memory-bound, and nothing is packed: a
 * program that answers once would pack for longer than it computes.
 *
 *   sums[n][k] = sum over d of x[n][d] * w[k][d], exact in int32
 *
 * vpdpbusd takes unsigned by signed bytes. Weights then are read as w + 128, and 128 * sum over d of x[n][d] is taken
 * away at the end, which is one number for each image; it wraps as the sums do. */
#include "kernels/cpu/conv_i8.h"

#include <stdio.h>
#include <string.h>

enum {
    MOST_IMAGES = 4,
    ROWS = 4,     /* outputs that are summed together: each vector of x is used for all of them */
    AHEAD = 2048, /* bytes: rows are read in small pages of a file, at whose ends no CPU looks ahead by itself */
    LINE = 64
};

/* sums[n * CNN_I8_SUMS + i] for ROWS rows of weights and `images` images of `depth` bytes. */
typedef void dot_fn(const int8_t *const rows[ROWS], const int8_t *x, int32_t images, int64_t depth, int32_t *sums);

typedef struct gemv_i8 {
    cnn_cpu_kernel base;
    const cnn_cpu_gemm_i8 *gemm; /* for the formulas */
    dot_fn *dot;
    int32_t images, outputs, panels, lanes;
    int64_t depth;
} gemv_i8;

typedef struct gemv_job {
    const gemv_i8 *kernel;
    void *const *args;
} gemv_job;

/* ---- Dot products ---- */

static void dot_portable(const int8_t *const rows[ROWS], const int8_t *x, int32_t images, int64_t depth, int32_t *sums)
{
    for (int32_t n = 0; n < images; n++)
        for (int i = 0; i < ROWS; i++) {
            uint32_t sum = 0;
            for (int64_t d = 0; d < depth; d++)
                sum += (uint32_t)(x[n * depth + d] * rows[i][d]);
            sums[n * CNN_I8_SUMS + i] = (int32_t)sum;
        }
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define VNNI __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* What lies beyond whole vectors: added value by value. */
INLINE int32_t dot_rest(const int8_t *row, const int8_t *x, int64_t from, int64_t depth)
{
    int32_t sum = 0;
    for (int64_t d = from; d < depth; d++)
        sum += x[d] * row[d];
    return sum;
}

AVX2 INLINE int32_t sum_of_lanes_avx2(__m256i lanes)
{
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4E));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xB1));
    return _mm_cvtsi128_si32(sum);
}

/* One image: bytes are widened to int16, pairs of products are exact in int32. */
AVX2 INLINE void dot_image_avx2(const int8_t *const rows[ROWS], const int8_t *x, int64_t depth, int32_t *sums)
{
    enum { STEP = 16 };
    const int64_t whole = depth / STEP * STEP;
    __m256i sum[ROWS];
    UNROLL
    for (int i = 0; i < ROWS; i++)
        sum[i] = _mm256_setzero_si256();
    for (int64_t d = 0; d < whole; d += STEP) {
        for (int i = 0; i < ROWS && d % LINE == 0; i++)
            _mm_prefetch((const char *)rows[i] + d + AHEAD, _MM_HINT_T0);
        const __m256i values = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(x + d)));
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            const __m256i weights = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(rows[i] + d)));
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(values, weights));
        }
    }
    UNROLL
    for (int i = 0; i < ROWS; i++)
        sums[i] = sum_of_lanes_avx2(sum[i]) + dot_rest(rows[i], x, whole, depth);
}

AVX2 static void dot_avx2(const int8_t *const rows[ROWS], const int8_t *x, int32_t images, int64_t depth, int32_t *sums)
{
    for (int32_t n = 0; n < images; n++)
        dot_image_avx2(rows, x + n * depth, depth, sums + (size_t)n * CNN_I8_SUMS);
}

/* Bytes of x and of the rows from d on; those beyond the depth are 0, and so is x there. */
VNNI INLINE void step_vnni(const int8_t *const rows[ROWS], const int8_t *x, int64_t depth, int64_t d, __mmask64 inside,
                           int images, __m512i sum[ROWS][MOST_IMAGES], __m512i ones[MOST_IMAGES])
{
    const __m512i offset = _mm512_set1_epi8((char)0x80);
    __m512i values[MOST_IMAGES];
    UNROLL
    for (int n = 0; n < images; n++) {
        values[n] = _mm512_maskz_loadu_epi8(inside, x + n * depth + d);
        ones[n] = _mm512_dpbusd_epi32(ones[n], offset, values[n]);
    }
    UNROLL
    for (int i = 0; i < ROWS; i++) {
        _mm_prefetch((const char *)rows[i] + d + AHEAD, _MM_HINT_T0);
        const __m512i weights = _mm512_xor_si512(_mm512_maskz_loadu_epi8(inside, rows[i] + d), offset);
        UNROLL
        for (int n = 0; n < images; n++)
            sum[i][n] = _mm512_dpbusd_epi32(sum[i][n], weights, values[n]);
    }
}

VNNI INLINE void dot_images_vnni(const int8_t *const rows[ROWS], const int8_t *x, int64_t depth, int images,
                                 int32_t *sums)
{
    enum { STEP = 64 };
    const int64_t whole = depth / STEP * STEP;
    __m512i sum[ROWS][MOST_IMAGES], ones[MOST_IMAGES]; /* ones: 128 times the sum of x */
    UNROLL
    for (int n = 0; n < images; n++) {
        ones[n] = _mm512_setzero_si512();
        UNROLL
        for (int i = 0; i < ROWS; i++)
            sum[i][n] = _mm512_setzero_si512();
    }
    for (int64_t d = 0; d < whole; d += STEP)
        step_vnni(rows, x, depth, d, ~(__mmask64)0, images, sum, ones);
    if (whole < depth)
        step_vnni(rows, x, depth, whole, ((__mmask64)1 << (depth - whole)) - 1, images, sum, ones);
    UNROLL
    for (int n = 0; n < images; n++)
        UNROLL
    for (int i = 0; i < ROWS; i++)
        sums[(size_t)n * CNN_I8_SUMS + (size_t)i] = _mm512_reduce_add_epi32(_mm512_sub_epi32(sum[i][n], ones[n]));
}

VNNI static void dot_vnni(const int8_t *const rows[ROWS], const int8_t *x, int32_t images, int64_t depth, int32_t *sums)
{
    switch (images) {
    case 1:
        dot_images_vnni(rows, x, depth, 1, sums);
        return;
    case 2:
        dot_images_vnni(rows, x, depth, 2, sums);
        return;
    case 3:
        dot_images_vnni(rows, x, depth, 3, sums);
        return;
    default:
        dot_images_vnni(rows, x, depth, MOST_IMAGES, sums);
    }
}
#endif

static dot_fn *dot_of(cnn_cpu_isa isa, const char **name)
{
    *name = "portable";
#if defined(__x86_64__)
    if (cnn_cpu_isa_holds(isa, CNN_CPU_AVX512VNNI)) {
        *name = "avx512vnni";
        return dot_vnni;
    }
    if (cnn_cpu_isa_holds(isa, CNN_CPU_AVX2)) {
        *name = "avx2";
        return dot_avx2;
    }
#endif
    (void)isa;
    return dot_portable;
}

/* ---- The kernel ---- */

static void run_panel(const gemv_job *job, int32_t panel)
{
    const gemv_i8 *kernel = job->kernel;
    const int8_t *weights = job->args[CNN_ARG_WEIGHT], *rows[ROWS];
    int32_t sums[MOST_IMAGES * CNN_I8_SUMS];
    for (int32_t i = 0; i < CNN_I8_PANEL; i += ROWS) {
        for (int32_t k = 0; k < ROWS; k++) { /* beyond the last output its row once more, whose sum nobody reads */
            const int32_t output = panel * CNN_I8_PANEL + i + k;
            rows[k] = weights + (output < kernel->outputs ? output : kernel->outputs - 1) * kernel->depth;
        }
        kernel->dot(rows, job->args[CNN_ARG_SRC], kernel->images, kernel->depth, sums + i);
    }
    cnn_cpu_finish_i8(kernel->gemm, &kernel->base.base.desc, job->args, sums, 1, 0, kernel->images,
                      panel * CNN_I8_PANEL);
}

/* Task: some of the panels. */
static void run_task(void *context, int task, int worker)
{
    const gemv_job *job = context;
    const gemv_i8 *kernel = job->kernel;
    const int32_t tasks = kernel->lanes > 1 ? kernel->panels : 1;
    (void)worker;
    for (int32_t panel = task; panel < kernel->panels; panel += tasks)
        run_panel(job, panel);
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const gemv_i8 *kernel = (const gemv_i8 *)base;
    gemv_job job = {kernel, args};
    (void)workspace;
    kernel->base.device->host->parallel(kernel->lanes > 1 ? kernel->panels : 1, run_task, &job);
    cnn_cpu_clear_padding_i8(&base->desc.arg[CNN_ARG_DST], args[CNN_ARG_DST], 0, kernel->images);
    return CNN_OK;
}

bool cnn_cpu_gemv_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    if (!cnn_cpu_conv_i8_suits(desc, isa, why))
        return false;
    if (src->n > MOST_IMAGES)
        return cnn_refuse(why, "more than %d images", (int)MOST_IMAGES);
    if (src->c != src->c_pad || weight->c != weight->c_pad)
        return cnn_refuse(why, "channels are padded");
    return true;
}

cnn_status cnn_cpu_gemv_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    gemv_i8 *kernel;
    const char *level;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    kernel->gemm = cnn_cpu_gemm_i8_get(device->isa);
    kernel->dot = dot_of(device->isa, &level);
    kernel->images = src->n;
    kernel->depth = (int64_t)src->h * src->w * src->c;
    kernel->outputs = desc->arg[CNN_ARG_WEIGHT].n;
    kernel->panels = (kernel->outputs + CNN_I8_PANEL - 1) / CNN_I8_PANEL;
    kernel->lanes = cnn_cpu_lanes_i8(device->host, kernel->images * kernel->depth * kernel->outputs);
    kernel->base.base.run = run;
    snprintf(kernel->base.name, sizeof kernel->base.name, "cnn_cpu_gemv_i8_%s", level);
    kernel->base.base.name = kernel->base.name;
    *made = &kernel->base.base;
    return CNN_OK;
}
