/* What weights cost in a file: the chances are those that the coder goes by, and weights that cost most go first. */
#include "tests/network_case.h"

#include "core/bytes.h"
#include "core/file_encoding.h"
#include "core/hash.h"
#include "core/weight_coder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 32, COLUMNS = 96, VALUES = ROWS * COLUMNS };

/* Every second row is full to `many` 16ths, the others to `few`; the values are 1 or -1. */
static void fill(int8_t *values, unsigned many, unsigned few)
{
    for (int i = 0; i < VALUES; i++) {
        const uint64_t random = cnn_hash(9, 0, 0, (uint64_t)i);
        const unsigned share = i / COLUMNS % 2 ? few : many;
        values[i] = (int8_t)(random % 16 < share ? (random >> 32 & 1 ? 1 : -1) : 0);
    }
}

static double bytes_of(const cnn_tensor_desc *desc, const int8_t *values)
{
    cnn_bytes data = {0}, parameters = {0};
    ck_assert_int_eq(cnn_tensor_codings[CNN_ENCODING_RANGE].encode(desc, values, &parameters, &data), CNN_OK);
    const double bytes = (double)data.length;
    cnn_bytes_free(&data);
    return bytes;
}

START_TEST(test_chances_are_what_the_file_takes)
{
    const cnn_tensor_desc desc = cnn_desc(CNN_I8, ROWS, 1, 1, COLUMNS);
    int8_t values[VALUES];
    uint16_t chances[VALUES];
    size_t bytes;
    double bits = 0, nonzeros = 0, in_full = 0, in_sparse = 0;
    fill(values, 14, 2);
    CHECK_OK(cnn_weights_chances(&desc, values, chances, &bytes));
    for (int i = 0; i < VALUES; i++) {
        const double p = chances[i] / 65536.0;
        bits -= log2(values[i] ? p : 1 - p);
        nonzeros += values[i] != 0;
        *(i / COLUMNS % 2 ? &in_sparse : &in_full) += p / (VALUES / 2.0);
    }
    ck_assert_double_eq((double)bytes, bytes_of(&desc, values));
    /* Signs take a bit, and that magnitudes are 1 is soon learned. */
    ck_assert_double_eq_tol((bits + nonzeros) / 8, bytes_of(&desc, values), 0.03 * (bits + nonzeros) / 8);
    ck_assert_double_eq_tol(in_full, 14 / 16.0, 0.1);
    ck_assert_double_eq_tol(in_sparse, 2 / 16.0, 0.1);
}
END_TEST

START_TEST(test_dead_columns_have_no_chance)
{
    const cnn_tensor_desc desc = cnn_desc(CNN_I8, ROWS, 1, 1, COLUMNS);
    int8_t values[VALUES];
    uint16_t chances[VALUES];
    size_t bytes;
    fill(values, 14, 2);
    for (int i = 0; i < VALUES; i++)
        if (i % COLUMNS % 3 == 0)
            values[i] = 0;
    CHECK_OK(cnn_weights_chances(&desc, values, chances, &bytes));
    for (int i = 0; i < VALUES; i++)
        ck_assert_int_eq(chances[i] == 0, i % COLUMNS % 3 == 0);
}
END_TEST

static const char net[] = "image = input(height=8, width=12, channels=1)\n"
                          "fc1 = linear(image, out=32)\n"
                          "relu1 = relu(fc1)\n"
                          "fc2 = linear(relu1, out=10)\n";

/* All weights of fc1 that are there have one magnitude, and so have those of fc2. */
static cnn_model *make_net(void)
{
    int8_t values[VALUES];
    cnn_model *model = make_model(net, 1);
    float *weights = param_data(model, "fc1", CNN_PARAM_WEIGHT);
    fill(values, 2, 14);
    for (int i = 0; i < VALUES; i++)
        weights[i] = values[i];
    for (int i = 0; i < 320; i++)
        param_data(model, "fc2", CNN_PARAM_WEIGHT)[i] = i % 2 ? 1 : -1;
    return model;
}

/* Nonzeros in rows of fc1 that are nearly full, and in those that are nearly empty. */
static void count_rows(cnn_model *model, int *full, int *sparse)
{
    const float *weights = param_data(model, "fc1", CNN_PARAM_WEIGHT);
    *full = *sparse = 0;
    for (int i = 0; i < VALUES; i++)
        *(i / COLUMNS % 2 ? full : sparse) += weights[i] != 0;
}

START_TEST(test_lone_weights_go_first)
{
    int full, sparse, full_left, sparse_left;
    cnn_model *model = make_net(), *plain;
    CHECK_OK(cnn_qat_begin(model, 3));
    count_rows(model, &full, &sparse);
    const int zeros = VALUES - full - sparse;
    cnn_prune_options options = {
        .ratio = (zeros + 0.7 * sparse) / VALUES, .criterion = CNN_CRITERION_LAMP, .only = "fc1"};
    CHECK_OK(cnn_model_clone(model, &plain));
    CHECK_OK(cnn_prune_weights(plain, &options, NULL));
    count_rows(plain, &full_left, &sparse_left);
    ck_assert_int_lt(full_left, full - sparse / 4); /* LAMP alone sees no difference */
    options.per_bit = true;
    CHECK_OK(cnn_prune_weights(model, &options, NULL));
    count_rows(model, &full_left, &sparse_left);
    ck_assert_int_ge(full_left, full - sparse / 10); /* the first rows come before the coder has learned */
    ck_assert_int_le(sparse_left, sparse * 2 / 5);
    cnn_model_free(plain);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_weights_on_no_grid_are_refused)
{
    cnn_model *model = make_net();
    const uint64_t before = fingerprint(model);
    const cnn_prune_options options = {.ratio = 0.5, .criterion = CNN_CRITERION_LAMP, .per_bit = true};
    CHECK_REFUSED(cnn_prune_weights(model, &options, NULL), CNN_ERR_USAGE, "'fc1'");
    ck_assert_uint_eq(fingerprint(model), before);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_out_of_memory_changes_nothing)
{
    cnn_model *model = make_net();
    const cnn_prune_options options = {.ratio = 0.9, .criterion = CNN_CRITERION_LAMP, .per_bit = true};
    CHECK_OK(cnn_qat_begin(model, 3));
    case_check_out_of_memory(model, &options, cnn_prune_weights);
    cnn_model_free(model);
}
END_TEST

static Suite *price_suite(void)
{
    Suite *suite = suite_create("price");
    TCase *tests = tcase_create("tests");
    tcase_add_test(tests, test_chances_are_what_the_file_takes);
    tcase_add_test(tests, test_dead_columns_have_no_chance);
    tcase_add_test(tests, test_lone_weights_go_first);
    tcase_add_test(tests, test_weights_on_no_grid_are_refused);
    tcase_add_test(tests, test_out_of_memory_changes_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(price_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
