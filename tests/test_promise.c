/* The bound of accuracy that is lost: known values, and how often it holds. */
#include "core/hash.h"
#include "optimize/promise.h"

#include <check.h>
#include <math.h>

START_TEST(known_values)
{
    const cnn_paired none = {5000, 0, 0}, some = {5000, 30, 10}, gain = {5000, 5, 60}, empty = {0, 0, 0};
    ck_assert_double_eq_tol(cnn_paired_drop(&some), 0.004, 1e-15);
    /* (20 + 1.28155 * sqrt(41 - 400/5002))/5002 */
    ck_assert_double_eq_tol(cnn_paired_bound(&some), (20 + 1.2815515655446004 * sqrt(41 - 400.0 / 5002)) / 5002, 1e-12);
    ck_assert_double_gt(cnn_paired_bound(&none), 0);
    ck_assert_double_lt(cnn_paired_bound(&none), 0.0003);
    ck_assert_double_lt(cnn_paired_bound(&gain), 0);
    ck_assert_double_eq(cnn_paired_bound(&empty), 1);
}
END_TEST

/* The share of drawn tables whose bound is below the true loss must be 10 % or less, but for chance. */
static double share_missed(uint64_t seed, int32_t images, double break_rate, double mend_rate)
{
    enum { TABLES = 2000 };
    int missed = 0;
    for (uint64_t table = 0; table < TABLES; table++) {
        cnn_paired paired = {images, 0, 0};
        for (int32_t i = 0; i < images; i++) {
            const double u = (double)(cnn_hash(seed, CNN_PURPOSE_SYNTH, table, (uint64_t)i) >> 11) * 0x1p-53;
            paired.broken += u < break_rate;
            paired.mended += u >= break_rate && u < break_rate + mend_rate;
        }
        missed += cnn_paired_bound(&paired) < break_rate - mend_rate;
    }
    return (double)missed / TABLES;
}

START_TEST(holds_as_often_as_it_says)
{
    static const struct {
        int32_t images;
        double broken, mended;
    } cases[] = {
        {400, 0.03, 0.01}, {1000, 0.008, 0.004}, {1000, 0.02, 0.02}, {5000, 0.002, 0.0005}, {2000, 0.01, 0.03}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const double missed = share_missed(i + 1, cases[i].images, cases[i].broken, cases[i].mended);
        ck_assert_msg(missed < 0.125, "case %zu: the loss is above its bound in %g of the tables", i, missed);
        ck_assert_msg(missed > 0.05, "case %zu: above in %g of the tables only: the bound is too cautious", i, missed);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("promise");
    TCase *tests = tcase_create("bound");
    tcase_add_test(tests, known_values);
    tcase_add_test(tests, holds_as_often_as_it_says);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
