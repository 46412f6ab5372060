/* The float kernels of the CPU backend beyond what kcheck's small shapes reach: several depths, blocks, slices and
 * border groups at once; more threads than a kernel was made for; infinities and NaN; choosing a level; our own exp,
 * log and half floats.
 */
#include "core/backends.h"
#include "core/hash.h"
#include "core/memory.h"
#include "core/pool.h"
#include "kernels/cpu/exp_log.h"
#include "kernels/cpu/half.h"
#include "kernels/ref/half.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Convolution shapes; the linear layers are those with pad = -1. */
typedef struct shape {
    int32_t n, h, w, c, k, filter, stride, pad;
} shape;

static const shape shapes[] = {
    {9, 14, 14, 72, 70, 4, 1, 2}, /* border groups, two depths a tap row, three panels */
    {8, 9, 8, 20, 40, 5, 2, 3},   /* the same with a stride */
    {2, 23, 31, 9, 33, 3, 3, 1},  /* no border groups, residue classes of the gradient */
    {70, 12, 12, 1, 20, 5, 1, 2}, /* one channel: gathered columns, slices of pixels */
    {3, 2, 300, 16, 6, 2, 1, 1},  /* a row longer than a depth */
    {130, 3, 3, 90, 65, 0, 1, -1}, {64, 4, 5, 65, 300, 0, 1, -1},
    {3, 7, 7, 64, 130, 0, 1, -1},  {19, 14, 14, 72, 70, 5, 1, 2}, /* transformed, in chunks of images: not exact */
};
enum { SHAPES = sizeof shapes / sizeof shapes[0], EXACT_SHAPES = SHAPES - 1 };

static const char *const levels[] = {"portable", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"};

/* kind 0 forward, 1 data gradient, 2 weight gradient; outputs f32. */
static cnn_op_desc descriptor(const shape *s, int kind, cnn_dtype dtype)
{
    cnn_op_desc desc = {.op = (cnn_op)((s->pad < 0 ? CNN_OP_LINEAR : CNN_OP_CONV) + kind), .stride = s->stride};
    bool linear = s->pad < 0;
    desc.pad = linear ? 0 : s->pad;
    int32_t r = linear ? s->h : s->filter, q = linear ? s->w : s->filter;
    cnn_tensor_desc x = cnn_desc(dtype, s->n, s->h, s->w, s->c), w = cnn_desc(dtype, s->k, r, q, s->c);
    cnn_tensor_desc y = cnn_desc(dtype, s->n, cnn_window_count(s->h, r, s->stride, desc.pad),
                                 cnn_window_count(s->w, q, s->stride, desc.pad), s->k);
    desc.arg[CNN_ARG_SRC] = kind == 1 ? y : x;
    desc.arg[kind == 2 ? CNN_ARG_SRC2 : CNN_ARG_WEIGHT] = kind == 2 ? y : w;
    desc.arg[CNN_ARG_DST] = kind == 0 ? y : kind == 1 ? x : w;
    desc.arg[CNN_ARG_DST].dtype = CNN_F32;
    if (kind == 2)
        desc.arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, s->k);
    return desc;
}

/* Buffers for a descriptor: inputs small integers, so that sums are exact, or fractions; outputs NaN. */
static void make_args(const cnn_op_desc *desc, bool integers, void *args[CNN_ARG_COUNT])
{
    uint64_t counter = 0;
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        const cnn_tensor_desc *t = &desc->arg[role];
        args[role] = t->dtype == CNN_NONE ? NULL : cnn_aligned_alloc(cnn_desc_bytes(t));
        for (int64_t i = 0; args[role] && i < cnn_desc_elements(t); i++) {
            uint64_t random = cnn_splitmix64(counter++);
            float value = integers ? (float)((int)(random % 5) - 2) : cnn_hash_uniform(random) - 0.5f;
            value = role >= CNN_ARG_DST ? NAN : value;
            if (t->dtype == CNN_U8)
                ((uint8_t *)args[role])[i] = 0xee;
            else if (t->dtype == CNN_F32)
                ((float *)args[role])[i] = value;
            else
                ((uint16_t *)args[role])[i] =
                    t->dtype == CNN_F16 ? cnn_ref_f16_from_f32(value) : cnn_ref_bf16_from_f32(value);
        }
    }
}

static void free_args(void *args[CNN_ARG_COUNT])
{
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        cnn_aligned_free(args[role]);
}

/* Makes a kernel with make_threads and runs it with run_threads. */
static void run_op(const char *backend_name, const cnn_op_desc *desc, void *args[CNN_ARG_COUNT], int make_threads,
                   int run_threads)
{
    const cnn_backend *backend;
    const char *variant;
    cnn_device *device;
    cnn_kernel *kernel;
    char why[CNN_REASON_BYTES];
    ck_assert_int_eq(cnn_backend_find(backend_name, &backend, &variant), CNN_OK);
    ck_assert_int_eq(backend->open(cnn_host_get(), NULL, &device), CNN_OK);
    ck_assert_int_eq(cnn_set_threads(make_threads), CNN_OK);
    ck_assert_msg(backend->prepare(device, desc, &kernel, why) == CNN_OK, "%s", why);
    void *workspace = cnn_aligned_alloc(kernel->workspace_bytes);
    memset(workspace, 0xff, kernel->workspace_bytes);
    ck_assert_int_eq(cnn_set_threads(run_threads), CNN_OK);
    ck_assert_int_eq(kernel->run(kernel, args, workspace), CNN_OK);
    cnn_aligned_free(workspace);
    kernel->destroy(kernel);
    backend->close(device);
}

/* Forces a level; false where this CPU lacks it. */
static bool use_level(const char *level)
{
    const cnn_backend *backend;
    const char *variant;
    cnn_device *device;
    setenv("CNN_CPU_ISA", level, 1);
    ck_assert_int_eq(cnn_backend_find("cpu", &backend, &variant), CNN_OK);
    if (backend->open(cnn_host_get(), NULL, &device) != CNN_OK)
        return false;
    backend->close(device);
    return true;
}

/* One ck_assert for all elements: each writes to a file. */
static void assert_same_outputs(const cnn_op_desc *desc, void *args[CNN_ARG_COUNT], void *expected[CNN_ARG_COUNT])
{
    char text[512];
    for (int role = CNN_ARG_DST; role < CNN_ARG_COUNT; role++) {
        const float *a = args[role], *b = expected[role];
        int64_t i = 0, count = a ? cnn_desc_elements(&desc->arg[role]) : 0;
        while (i < count && a[i] == b[i])
            i++;
        ck_assert_msg(i == count, "%s: %s[%lld] is %g, not %g", cnn_op_desc_print(desc, text, sizeof text),
                      cnn_arg_name((cnn_arg)role), (long long)i, (double)a[i], (double)b[i]);
    }
}

START_TEST(exact_sums_on_every_level)
{
    static const cnn_dtype dtypes[] = {CNN_F32, CNN_F16, CNN_BF16};
    for (int kind = 0; kind < 3; kind++) {
        cnn_op_desc desc = descriptor(&shapes[_i], kind, dtypes[(_i + kind) % 3]);
        void *args[CNN_ARG_COUNT], *expected[CNN_ARG_COUNT];
        make_args(&desc, true, expected);
        run_op("ref", &desc, expected, 1, 1);
        for (size_t level = 0; level < sizeof levels / sizeof levels[0]; level++) {
            if (!use_level(levels[level]))
                continue;
            make_args(&desc, true, args);
            run_op("cpu", &desc, args, 2, 2);
            assert_same_outputs(&desc, args, expected);
            free_args(args);
        }
        free_args(expected);
    }
}
END_TEST

/* Fractions, whose sums depend on their order. The third run has more threads than its kernel was made for. */
START_TEST(bits_do_not_depend_on_threads)
{
    unsetenv("CNN_CPU_ISA");
    for (int kind = 0; kind < 3; kind++) {
        cnn_op_desc desc = descriptor(&shapes[_i], kind, CNN_F32);
        void *args[CNN_ARG_COUNT], *expected[CNN_ARG_COUNT];
        make_args(&desc, false, expected);
        run_op("cpu", &desc, expected, 1, 1);
        for (int threads = 2; threads <= 4; threads++) {
            make_args(&desc, false, args);
            run_op("cpu", &desc, args, threads < 4 ? threads : 2, threads);
            assert_same_outputs(&desc, args, expected);
            free_args(args);
        }
        free_args(expected);
    }
}
END_TEST

/* Tiles of AMX read a run in steps: none may reach into the next pixel, whose infinity a weight of 0 would not take
 * out. A line of the filter has 54 values here, which two steps of whole pairs do not fill. */
START_TEST(an_infinity_stays_where_it_is)
{
    enum { SIDE = 9, AT = 5 };
    const shape wide = {.n = 1, .h = SIDE, .w = SIDE, .c = 18, .k = 20, .filter = 3, .stride = 1, .pad = 1};
    const cnn_op_desc desc = descriptor(&wide, 0, CNN_BF16);
    void *args[CNN_ARG_COUNT];
    if (!use_level("amx"))
        return;
    make_args(&desc, false, args);
    ((uint16_t *)args[CNN_ARG_SRC])[(AT * SIDE + AT) * 18] = cnn_ref_bf16_from_f32(INFINITY);
    run_op("cpu", &desc, args, 1, 1);
    for (int i = 0; i < SIDE * SIDE * 20; i++) {
        const int y = i / 20 / SIDE, x = i / 20 % SIDE;
        const bool seen = abs(y - AT) <= 1 && abs(x - AT) <= 1;
        ck_assert_msg(isfinite(((float *)args[CNN_ARG_DST])[i]) == !seen, "row %d, column %d", y, x);
    }
    free_args(args);
}
END_TEST

/* A convolution that pools in training, with infinities and NaN among its inputs: what wins a window, and what its
 * index says behind a ReLU. Two kernels: fewer than 8 outputs, and more. */
START_TEST(infinities_and_nan_are_pooled)
{
    enum { H = 12, W = 38 };
    const shape few = {.n = 3, .h = H, .w = W, .c = 1, .k = _i ? 16 : 6, .filter = 5, .stride = 1, .pad = 2};
    cnn_op_desc desc = descriptor(&few, 0, CNN_F32);
    void *args[CNN_ARG_COUNT], *expected[CNN_ARG_COUNT];
    desc.epilogue[0] = CNN_EPILOGUE_RELU;
    desc.epilogue[1] = CNN_EPILOGUE_MAXPOOL;
    desc.epilogue_count = 2;
    desc.pool_kernel = desc.pool_stride = 2;
    desc.arg[CNN_ARG_DST].h = H / 2;
    desc.arg[CNN_ARG_DST].w = W / 2;
    desc.arg[CNN_ARG_INDEX] = desc.arg[CNN_ARG_DST];
    desc.arg[CNN_ARG_INDEX].dtype = CNN_U8;
    const int64_t count = cnn_desc_elements(&desc.arg[CNN_ARG_DST]);
    for (int level = -1; level < (int)(sizeof levels / sizeof levels[0]); level++) {
        void **to = level < 0 ? expected : args;
        if (level >= 0 && !use_level(levels[level]))
            continue;
        make_args(&desc, true, to);
        float *x = to[CNN_ARG_SRC];
        x[5 * W + 3] = NAN;
        x[9 * W + 20] = INFINITY;
        x[2 * W + 30] = x[H * W + W - 1] = -INFINITY;
        run_op(level < 0 ? "ref" : "cpu", &desc, to, 1, 1);
        const float *y = to[CNN_ARG_DST], *want = expected[CNN_ARG_DST];
        int64_t i = 0;
        while (i < count && (isnan(want[i]) ? isnan(y[i]) : y[i] == want[i]))
            i++;
        ck_assert_msg(i == count, "level %d: y[%lld] is %g, not %g", level, (long long)i, (double)y[i],
                      (double)want[i]);
        ck_assert_int_eq(memcmp(to[CNN_ARG_INDEX], expected[CNN_ARG_INDEX], (size_t)count), 0);
        if (level >= 0)
            free_args(args);
    }
    free_args(expected);
}
END_TEST

START_TEST(levels_are_refused_with_a_reason)
{
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        char said[64];
        snprintf(said, sizeof said, "CNN_CPU_ISA=%s: th", levels[i]);
        ck_assert_msg(use_level(levels[i]) || strstr(cnn_last_error(), said), "%s", cnn_last_error());
    }
    ck_assert(!use_level("sse9"));
    ck_assert_msg(strstr(cnn_last_error(), "CNN_CPU_ISA=sse9 is not known"), "%s", cnn_last_error());
    ck_assert(use_level("portable"));
    ck_assert(use_level(""));
}
END_TEST

START_TEST(exp_and_log_are_right)
{
    for (double x = -745; x < 709; x += 0.37) {
        double expected = exp(x);
        ck_assert_double_le(fabs(cnn_exp(x) - expected), 4e-16 * expected + 0x1p-1074);
    }
    for (double x = 1e-320; x < 1e308; x *= 1.37) {
        double expected = log(x);
        ck_assert_double_le(fabs(cnn_log(x) - expected), 4e-16 * fabs(expected) + 1e-17);
    }
    ck_assert(cnn_exp(0) == 1 && cnn_log(1) == 0);
    ck_assert(cnn_exp(-INFINITY) == 0 && cnn_exp(INFINITY) == INFINITY && isnan(cnn_exp(NAN)));
    ck_assert(cnn_log(0) == -INFINITY && cnn_log(INFINITY) == INFINITY && isnan(cnn_log(NAN)) && isnan(cnn_log(-1)));
}
END_TEST

static bool rounds_alike(float value)
{
    return cnn_cpu_f16_from_f32(value) == cnn_ref_f16_from_f32(value) &&
           cnn_cpu_bf16_from_f32(value) == cnn_ref_bf16_from_f32(value);
}

/* All halves, and every f32 that lies on, just below and just above a half or the middle of two. */
START_TEST(halves_agree_with_the_reference)
{
    uint32_t wrong = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        float f16 = cnn_cpu_f16_to_f32((uint16_t)h), bf16 = cnn_cpu_bf16_to_f32((uint16_t)h);
        wrong += cnn_cpu_bits(f16) != cnn_cpu_bits(cnn_ref_f16_to_f32((uint16_t)h));
        wrong += cnn_cpu_bits(bf16) != cnn_cpu_bits(cnn_ref_bf16_to_f32((uint16_t)h));
        for (uint32_t i = 0; i < 6; i++) {
            uint32_t half_way = i < 3 ? 0 : 1, near = i % 3;
            wrong += !rounds_alike(cnn_cpu_from_bits(cnn_cpu_bits(f16) + half_way * 0x1000u + near - 1u));
            wrong += !rounds_alike(cnn_cpu_from_bits(cnn_cpu_bits(bf16) + half_way * 0x8000u + near - 1u));
        }
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpu_float");
    TCase *tests = tcase_create("cpu_float");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, exact_sums_on_every_level, 0, EXACT_SHAPES);
    tcase_add_loop_test(tests, bits_do_not_depend_on_threads, 0, SHAPES);
    tcase_add_test(tests, an_infinity_stays_where_it_is);
    tcase_add_loop_test(tests, infinities_and_nan_are_pooled, 0, 2);
    tcase_add_test(tests, levels_are_refused_with_a_reason);
    tcase_add_test(tests, exp_and_log_are_right);
    tcase_add_test(tests, halves_agree_with_the_reference);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
