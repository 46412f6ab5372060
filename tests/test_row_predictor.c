/* Predicting rows from rows before: what repeats is found, what does not costs little, and all stays within bounds. */
#include "core/hash.h"
#include "core/row_predictor.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

enum { PLACES = 600 };

static int noise(int row, int place)
{
    return (int)(cnn_hash(4, 0, (uint64_t)row, (uint64_t)place) % 201) - 100;
}

/* Learns one row; returns the mean square of what was left of it beside that of the row. */
static double learn(cnn_row_predictor *predictor, const int *row)
{
    double left = 0, all = 1e-9;
    cnn_row_start(predictor);
    for (int place = 0; place < PLACES; place++) {
        const int32_t prediction = cnn_row_predict(predictor, place);
        left += pow(row[place] - (double)prediction / CNN_ROW_UNIT, 2);
        all += pow(row[place], 2);
        cnn_row_learn(predictor, place, prediction, row[place]);
    }
    cnn_row_end(predictor);
    return left / all;
}

START_TEST(mixtures_are_found)
{
    cnn_row_predictor predictor;
    int row[PLACES];
    double share[40];
    ck_assert_int_eq(cnn_row_predictor_open(&predictor, 40, PLACES), CNN_OK);
    for (int n = 0; n < 40; n++) {
        for (int place = 0; place < PLACES; place++)
            row[place] = n < 20 ? noise(n, place) : (noise(2, place) - noise(7, place)) / 2;
        share[n] = learn(&predictor, row);
    }
    for (int n = 0; n < 20; n++)
        ck_assert_double_lt(share[n], 1.2);
    ck_assert_double_lt(share[20], 0.7);
    ck_assert_double_lt(share[39], 0.1);
    cnn_row_predictor_close(&predictor);
}
END_TEST

START_TEST(the_first_row_is_predicted_as_zeros)
{
    cnn_row_predictor predictor;
    int row[PLACES];
    ck_assert_int_eq(cnn_row_predictor_open(&predictor, 1, PLACES), CNN_OK);
    for (int place = 0; place < PLACES; place++)
        row[place] = noise(0, place);
    ck_assert_double_eq_tol(learn(&predictor, row), 1, 1e-6);
    cnn_row_predictor_close(&predictor);
}
END_TEST

/* More rows than are kept, all alike, of extreme values that now and then turn round: taps stop at their bounds. */
START_TEST(extremes_stay_within_bounds)
{
    cnn_row_predictor predictor;
    ck_assert_int_eq(cnn_row_predictor_open(&predictor, 400, PLACES), CNN_OK);
    for (int n = 0; n < 400; n++) {
        int row[PLACES];
        for (int place = 0; place < PLACES; place++)
            row[place] = (noise(0, place) < 0 ? -127 : 127) * ((place / 50 + n) % 7 == 0 ? -1 : 1);
        learn(&predictor, row);
        for (int i = 0; i < CNN_ROWS_KEPT; i++) {
            ck_assert_int_le(abs(predictor.tap[i]), 16383);
            ck_assert_int_ge(predictor.fraction[i], 0);
            ck_assert_int_le(predictor.fraction[i], 255);
        }
    }
    ck_assert_int_eq(predictor.rows, CNN_ROWS_KEPT);
    ck_assert_int_eq(predictor.next, 400 - CNN_ROWS_KEPT);
    cnn_row_predictor_close(&predictor);
}
END_TEST

/* Rows of zeros teach nothing and break nothing. */
START_TEST(zeros)
{
    cnn_row_predictor predictor;
    int row[PLACES] = {0};
    ck_assert_int_eq(cnn_row_predictor_open(&predictor, 5, PLACES), CNN_OK);
    for (int n = 0; n < 5; n++) {
        learn(&predictor, row);
        ck_assert_int_eq(predictor.energy[0], 0);
    }
    cnn_row_predictor_close(&predictor);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("row predictor");
    TCase *tests = tcase_create("prediction");
    tcase_add_test(tests, mixtures_are_found);
    tcase_add_test(tests, the_first_row_is_predicted_as_zeros);
    tcase_add_test(tests, extremes_stay_within_bounds);
    tcase_add_test(tests, zeros);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
