/* Observers: the streaming histogram, and each range against a plain search over the values themselves. */
#include "cnn/quant.h"
#include "core/hash.h"
#include "optimize/observe.h"
#include "tests/optimize_common.h"

#include <math.h>

enum { VALUES = 20000 };

/* ---- Observers ---- */

START_TEST(test_max_is_exact)
{
    cnn_range *range = calloc(1, sizeof *range);
    const float values[] = {0.1f, -3.7f, 0, 2.5f, 1e-30f};
    cnn_range_add(range, values, 5);
    float limit;
    CHECK_OK(cnn_observer_range(range, CNN_OBSERVER_MAX, 0, &limit));
    ck_assert(limit == 3.7f);
    ck_assert(cnn_range_clipped(range, limit) == 0);
    ck_assert_int_eq(range->count, 5);
    ck_assert_int_eq(range->zeros, 1);
    free(range);
}
END_TEST

/* 1..2048 are upper edges of bins, so percentiles are exact, in whatever order and portions they come. */
START_TEST(test_percentile_is_exact_on_a_grid)
{
    cnn_range *ascending = calloc(1, sizeof *ascending), *descending = calloc(1, sizeof *descending);
    float zeros[100] = {0};
    for (int i = 1; i <= 2048; i++) {
        cnn_range_add(ascending, &(float){(float)i}, 1);
        cnn_range_add(descending, &(float){-(float)(2049 - i)}, 1);
    }
    cnn_range_add(ascending, zeros, 100);
    cnn_range_add(descending, zeros, 100);
    static const double percentiles[] = {100, 99.9, 50, 25, 0.04};
    static const float expected[] = {2048, 2046, 1024, 512, 1};
    for (int i = 0; i < 5; i++) {
        ck_assert_float_eq(cnn_range_percentile(ascending, percentiles[i]), expected[i]);
        ck_assert_float_eq(cnn_range_percentile(descending, percentiles[i]), expected[i]);
    }
    ck_assert(cnn_range_clipped(ascending, 512) == 1536.0 / 2148);
    ck_assert_int_eq(ascending->exponent, -1);
    ck_assert_mem_eq(ascending, descending, sizeof *ascending);
    free(ascending);
    free(descending);
}
END_TEST

START_TEST(test_histogram_grows_by_many_powers)
{
    cnn_range *range = calloc(1, sizeof *range);
    const float values[] = {1e-38f, 1e-20f, 1, 3e38f, NAN, INFINITY};
    for (int i = 0; i < 6; i++)
        cnn_range_add(range, &values[i], 1);
    ck_assert_int_eq(range->not_finite, 2);
    ck_assert(range->max == 3e38f);
    ck_assert_int_eq(range->bin[0], 3);
    ck_assert(cnn_range_percentile(range, 100) == 3e38f);
    free(range);
}
END_TEST

/* ---- Known distributions ---- */

static double uniform(uint64_t stream, int i)
{
    return (double)cnn_hash_uniform(cnn_hash(5, CNN_PURPOSE_SYNTH, stream, (uint64_t)i));
}

static float flat(int i)
{
    return (float)(3 * uniform(0, i));
}

static float normal(int i)
{
    double sum = -6;
    for (uint64_t stream = 0; stream < 12; stream++)
        sum += uniform(stream, i);
    return (float)sum;
}

static float rectified(int i)
{
    return fmaxf(0, normal(i));
}

/* 1/sqrt(u): few values are a hundred times as large as most. */
static float heavy(int i)
{
    return (float)(1 / sqrt(uniform(1, i) + 1e-4)) * (i % 2 ? 1.0f : -1.0f);
}

/* Ten levels, and one value far away. */
static float steps(int i)
{
    return i == 777 ? 40.0f : (float)(i % 10);
}

static float (*const distributions[])(int) = {flat, normal, rectified, heavy, steps};
enum { DISTRIBUTIONS = sizeof distributions / sizeof distributions[0] };

/* Free both. */
static cnn_range *observe(float (*value)(int), float **values)
{
    cnn_range *range = calloc(1, sizeof *range);
    *values = malloc(VALUES * sizeof **values);
    for (int i = 0; i < VALUES; i++)
        (*values)[i] = value(i);
    cnn_range_add(range, *values, VALUES);
    return range;
}

static float pick(const cnn_range *range, cnn_observer observer)
{
    float limit;
    CHECK_OK(cnn_observer_range(range, observer, 99.9, &limit));
    return limit;
}

/* ---- Squared error ---- */

static double squared_error(const float *values, float limit)
{
    double sum = 0;
    float scale = limit / 127;
    for (int i = 0; i < VALUES; i++) {
        double error = (double)values[i] - cnn_quant_value(values[i], scale) * (double)scale;
        sum += error * error;
    }
    return sum;
}

START_TEST(test_mse_finds_the_smallest_squared_error)
{
    for (int d = 0; d < DISTRIBUTIONS; d++) {
        float *values;
        cnn_range *range = observe(distributions[d], &values);
        double least = INFINITY;
        for (int k = 1; k <= 1000; k++)
            least = fmin(least, squared_error(values, range->max * (float)k / 1000));
        /* The histogram does not know where in a bin a value lies: levels that meet all values exactly escape it. */
        double found = squared_error(values, pick(range, CNN_OBSERVER_MSE));
        if (distributions[d] != steps)
            ck_assert_msg(found <= 1.01 * least, "distribution %d: %g, the least is %g", d, found, least);
        ck_assert_double_le(found, squared_error(values, range->max) * 1.001);
        free(range);
        free(values);
    }
}
END_TEST

START_TEST(test_mse_clips_what_is_rare)
{
    float *values;
    cnn_range *range = observe(flat, &values);
    ck_assert_float_gt(pick(range, CNN_OBSERVER_MSE), 0.98f * range->max);
    free(range);
    free(values);
    /* One value in 400,000 lies half as far out again. */
    range = observe(flat, &values);
    for (int copies = 1; copies < 20; copies++)
        cnn_range_add(range, values, VALUES);
    cnn_range_add(range, &(float){4.5f}, 1);
    float limit = pick(range, CNN_OBSERVER_MSE);
    ck_assert(range->max == 4.5f && limit > 2.95f && limit < 3.1f);
    free(range);
    free(values);
}
END_TEST

/* ---- Entropy ---- */

/* Migacz's definition word for word, P and Q as arrays. */
static double divergence(const cnn_range *range, int bins, int used)
{
    double *p = calloc((size_t)bins, sizeof *p), *q = calloc((size_t)bins, sizeof *q);
    double total = 0, kept = 0, sum = 0;
    for (int j = 0; j < bins; j++)
        p[j] = (double)range->bin[j];
    for (int level = 0; level < 128; level++) {
        double values = 0;
        int filled = 0;
        for (int j = 0; j < bins; j++)
            if (j * 128 / bins == level) {
                values += p[j];
                filled += p[j] > 0;
            }
        for (int j = 0; j < bins; j++)
            if (j * 128 / bins == level && p[j] > 0)
                q[j] = values / filled;
    }
    for (int j = bins; j < used; j++)
        p[bins - 1] += (double)range->bin[j];
    for (int j = 0; j < bins; j++) {
        total += p[j];
        kept += q[j];
    }
    for (int j = 0; j < bins; j++)
        if (p[j] > 0)
            sum += p[j] / total * log(p[j] / total / (q[j] / kept));
    free(p);
    free(q);
    return sum;
}

START_TEST(test_entropy_finds_the_least_divergence)
{
    for (int d = 0; d < DISTRIBUTIONS; d++) {
        float *values;
        cnn_range *range = observe(distributions[d], &values);
        double width = ldexp(1, range->exponent), least = INFINITY, found = INFINITY;
        int used = (int)ceil((double)range->max / width);
        int picked = (int)ceil((double)pick(range, CNN_OBSERVER_ENTROPY) / width);
        ck_assert(used > 2048 && used <= 4096 && picked >= 128 && picked <= used);
        found = divergence(range, picked, used);
        for (int bins = 128; bins <= used; bins += used < 2200 ? 1 : 7)
            least = fmin(least, divergence(range, bins, used));
        ck_assert_msg(found <= least + 1e-9, "distribution %d: %g, the least is %g", d, found, least);
        free(range);
        free(values);
    }
}
END_TEST

/* ---- What holds for all ---- */

/* Forwards in one piece, backwards one by one, and in a mixed order. */
START_TEST(test_the_order_of_values_does_not_matter)
{
    for (int d = 0; d < DISTRIBUTIONS; d++) {
        float *values;
        cnn_range *forwards = observe(distributions[d], &values);
        cnn_range *backwards = calloc(1, sizeof *backwards), *mixed = calloc(1, sizeof *mixed);
        for (int i = VALUES - 1; i >= 0; i--)
            cnn_range_add(backwards, &values[i], 1);
        for (int i = 0; i < VALUES; i++)
            cnn_range_add(mixed, &values[(i * 7919) % VALUES], 1);
        ck_assert_mem_eq(forwards, backwards, sizeof *forwards);
        ck_assert_mem_eq(forwards, mixed, sizeof *forwards);
        free(forwards);
        free(backwards);
        free(mixed);
        free(values);
    }
}
END_TEST

START_TEST(test_ranges_are_within_the_maximum)
{
    static const float factors[] = {1e-38f, 1e-20f, 1, 1e20f, 1e36f};
    cnn_range *range = calloc(1, sizeof *range);
    for (int o = 0; o < CNN_OBSERVER_AUTO; o++)
        ck_assert_float_eq(pick(range, (cnn_observer)o), 0);
    for (int f = 0; f < 5; f++) {
        memset(range, 0, sizeof *range);
        for (int i = 0; i < VALUES; i++)
            cnn_range_add(range, &(float){heavy(i) * factors[f]}, 1);
        for (int o = 0; o < CNN_OBSERVER_AUTO; o++) {
            float limit = pick(range, (cnn_observer)o);
            ck_assert(limit > 0 && limit <= range->max);
            ck_assert(cnn_range_clipped(range, limit) < 0.5);
        }
    }
    float limit;
    CHECK_REFUSED(cnn_observer_range(range, CNN_OBSERVER_AUTO, 99, &limit), CNN_ERR_USAGE, "observer");
    ck_assert_ptr_null(cnn_observer_name((cnn_observer)99));
    ck_assert_str_eq(cnn_observer_name(CNN_OBSERVER_ENTROPY), "entropy");
    free(range);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("observers");
    TCase *tests = tcase_create("ranges");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_max_is_exact);
    tcase_add_test(tests, test_percentile_is_exact_on_a_grid);
    tcase_add_test(tests, test_histogram_grows_by_many_powers);
    tcase_add_test(tests, test_mse_finds_the_smallest_squared_error);
    tcase_add_test(tests, test_mse_clips_what_is_rare);
    tcase_add_test(tests, test_entropy_finds_the_least_divergence);
    tcase_add_test(tests, test_the_order_of_values_does_not_matter);
    tcase_add_test(tests, test_ranges_are_within_the_maximum);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
