/* Mixed precision: lists of widths, sharing bits among layers, widths by sensitivity, and that training and INT8 take
 * them. */
#include "tests/optimize_common.h"

#include "optimize/precision.h"

#include <math.h>

enum { SIDE = 12, CLASSES = 5 };

static const char net[] = "image = input(height=12, width=12, channels=1)\n"
                          "conv1 = conv(image, out=8, kernel=3, pad=1, bias=0)\n"
                          "bn1 = bn(conv1)\n"
                          "relu1 = relu(bn1)\n"
                          "pool1 = maxpool(relu1, kernel=2)\n"
                          "fc1 = linear(pool1, out=16)\n"
                          "relu2 = relu(fc1)\n"
                          "fc2 = linear(relu2, out=5)\n";
static const char *const names[] = {"conv1", "fc1", "fc2"};
enum { LAYERS = 3 };

static cnn_dataset data;
static cnn_model *model;

static void setup(void)
{
    data = make_data(200, SIDE, 1, CLASSES);
    model = make_model(net, 3);
}

static void teardown(void)
{
    cnn_model_free(model);
    free_data(&data);
}

static int32_t levels_of(const cnn_model *of, int layer)
{
    return of->nodes[cnn_model_find(of, names[layer])].levels;
}

static void check_levels(int32_t conv1, int32_t fc1, int32_t fc2)
{
    ck_assert_int_eq(levels_of(model, 0), conv1);
    ck_assert_int_eq(levels_of(model, 1), fc1);
    ck_assert_int_eq(levels_of(model, 2), fc2);
}

/* ---- Lists ---- */

START_TEST(lists_name_layers_and_the_rest)
{
    CHECK_OK(cnn_set_bits(model, "4"));
    check_levels(7, 7, 7);
    CHECK_OK(cnn_set_bits(model, "conv1=8,fc2=2"));
    check_levels(127, 0, 1);
    CHECK_OK(cnn_set_bits(model, "conv1=8,3"));
    check_levels(127, 3, 3);
    CHECK_OK(cnn_set_bits(model, "5,fc1=2"));
    check_levels(15, 1, 15);
    const char *const wrong[] = {"",  "1",      "9",      "10",      "fc1=",    "=3", "fc1=1",
                                 "x", "fc1=3,", ",fc1=3", "fc1=3=4", "fc1 = 3", "-3", "3.5"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_REFUSED(cnn_set_bits(model, wrong[i]), CNN_ERR_USAGE, "is no number of bits");
    CHECK_REFUSED(cnn_set_bits(model, "2,conv2=3"), CNN_ERR_USAGE, "those that have are conv1, fc1, fc2");
    CHECK_REFUSED(cnn_set_bits(model, "relu1=3"), CNN_ERR_USAGE, "no layer 'relu1' with weights");
    CHECK_REFUSED(cnn_set_bits(model, "fc1=3,fc1=3"), CNN_ERR_USAGE, "fc1 has two numbers of bits");
    check_levels(15, 1, 15);
}
END_TEST

/* ---- Sharing ---- */

static double spent(const cnn_bits_row *rows, int count)
{
    double bits = 0;
    for (int r = 0; r < count; r++)
        bits += (double)rows[r].weights * rows[r].bits;
    return bits;
}

static double error_sum(const cnn_bits_row *rows, int count)
{
    double error = 0;
    for (int r = 0; r < count; r++)
        error += rows[r].error[rows[r].bits - CNN_LEAST_BITS];
    return error;
}

/* Rows whose errors fall by about 4 a bit, not always. */
static void make_rows(cnn_bits_row *rows, int count, uint64_t seed)
{
    for (int r = 0; r < count; r++) {
        double error = 1 + 100.0 * (double)cnn_hash_uniform(cnn_hash(seed, CNN_PURPOSE_SYNTH, (uint64_t)r, 99));
        rows[r] = (cnn_bits_row){.weights = 1 + (int64_t)(cnn_hash(seed, CNN_PURPOSE_SYNTH, (uint64_t)r, 98) % 1000)};
        for (int t = 0; t < CNN_BITS_COUNT; t++) {
            rows[r].error[t] = error;
            error *= 0.02 + 0.5 * (double)cnn_hash_uniform(cnn_hash(seed, CNN_PURPOSE_SYNTH, (uint64_t)r, (uint64_t)t));
        }
    }
}

/* The least error that any choice within the budget has, by trying all. */
static double least_error(cnn_bits_row *rows, int count, double budget)
{
    double least = INFINITY;
    int choices = 1;
    for (int r = 0; r < count; r++)
        choices *= CNN_BITS_COUNT;
    for (int c = 0; c < choices; c++) {
        for (int r = 0, rest = c; r < count; r++, rest /= CNN_BITS_COUNT)
            rows[r].bits = CNN_LEAST_BITS + rest % CNN_BITS_COUNT;
        if (spent(rows, count) <= budget)
            least = fmin(least, error_sum(rows, count));
    }
    return least;
}

/* The budget holds, and no choice is better; where units are coarse, not by much. One row may hold most weights. */
START_TEST(shares_are_the_best)
{
    enum { COUNT = 4, CASES = 40 };
    for (int i = 0; i < CASES; i++) {
        cnn_bits_row rows[COUNT];
        const bool coarse = i % 2;
        const double average = 2.5 + 0.1 * i;
        double weights = 0;
        make_rows(rows, COUNT, (uint64_t)i);
        for (int r = 0; r < COUNT; r++) {
            rows[r].weights = coarse ? rows[r].weights * (r == 1 ? 5000 : 1000) : 1 + rows[r].weights / 4;
            weights += (double)rows[r].weights;
        }
        CHECK_OK(cnn_bits_allocate(rows, COUNT, average));
        const double budget = average * weights, error = error_sum(rows, COUNT);
        ck_assert(spent(rows, COUNT) <= budget + 1e-6);
        const double least = least_error(rows, COUNT, coarse ? budget * (1 - COUNT / 4096.0) : budget);
        ck_assert_msg(error <= least * (1 + 1e-12), "case %d: %g where %g is possible", i, error, least);
    }
}
END_TEST

START_TEST(edges_of_the_budget)
{
    enum { COUNT = 5 };
    cnn_bits_row rows[COUNT];
    make_rows(rows, COUNT, 7);
    CHECK_OK(cnn_bits_allocate(rows, COUNT, 2));
    for (int r = 0; r < COUNT; r++)
        ck_assert_int_eq(rows[r].bits, 2);
    CHECK_OK(cnn_bits_allocate(rows, COUNT, 8));
    for (int r = 0; r < COUNT; r++)
        ck_assert_int_eq(rows[r].bits, 8);
    make_rows(rows, COUNT, 7);
    for (int t = 0; t < CNN_BITS_COUNT; t++)
        rows[1].error[t] = 0; /* a layer that nothing hurts needs no more */
    rows[2].weights = 0;      /* and one without weights costs nothing */
    CHECK_OK(cnn_bits_allocate(rows, COUNT, 4));
    ck_assert_int_eq(rows[1].bits, 2);
    ck_assert_int_eq(rows[2].bits, 8);
}
END_TEST

/* ---- By sensitivity ---- */

static const cnn_bits_options standard = {.average = 4.5, .images = 64, .seed = 1, .device = "cpu"};

START_TEST(sensitive_layers_get_more_bits)
{
    cnn_bits_row *rows;
    int count;
    CHECK_OK(cnn_choose_bits(model, &data, &standard, &rows, &count));
    ck_assert_int_eq(count, LAYERS);
    double weights = 0;
    for (int r = 0; r < count; r++) {
        ck_assert_str_eq(rows[r].layer, names[r]);
        ck_assert_int_eq(levels_of(model, r), (1 << (rows[r].bits - 1)) - 1);
        ck_assert_int_eq(rows[r].weights, cnn_desc_elements(param_desc(model, names[r], CNN_PARAM_WEIGHT)));
        ck_assert(rows[r].error[0] > 10 * rows[r].error[3]); /* 2 and 5 bits */
        ck_assert(rows[r].error[3] > rows[r].error[6]);
        weights += (double)rows[r].weights;
    }
    ck_assert(spent(rows, count) <= 4.5 * weights);
    ck_assert_int_gt(rows[0].bits, rows[1].bits); /* 72 weights beside 4608 */
    ck_assert_int_gt(rows[2].bits, rows[1].bits);
    free(rows);
}
END_TEST

START_TEST(pruned_weights_do_not_count)
{
    cnn_bits_row *rows;
    int count;
    CHECK_OK(cnn_prune_weights(model, &(cnn_prune_options){.ratio = 0.75, .only = "fc1"}, NULL));
    CHECK_OK(cnn_choose_bits(model, &data, &standard, &rows, &count));
    ck_assert_int_eq(rows[1].weights, 1152);
    free(rows);
}
END_TEST

/* Widths come through folding into INT8, and training begins on them; its grid then holds. */
START_TEST(training_and_int8_take_the_widths)
{
    cnn_quantize_options options;
    cnn_quantize_row *rows;
    int count;
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MAX;
    options.images = 32;
    options.device = "cpu";
    options.levels = 7;
    CHECK_OK(cnn_set_bits(model, "conv1=5,fc1=2"));
    for (int trained = 0; trained < 2; trained++) {
        cnn_model *copy;
        CHECK_OK(cnn_model_clone(model, &copy));
        if (trained) {
            CHECK_OK(cnn_qat_begin(copy, 7));
            CHECK_OK(cnn_qat_end(copy));
        }
        CHECK_OK(cnn_fold_batchnorm(copy));
        CHECK_OK(cnn_quantize(copy, &data, &options, &rows, &count));
        static const int bits[LAYERS] = {5, 2, 4};
        for (int l = 0; l < LAYERS; l++) {
            const cnn_param *weight = &copy->nodes[cnn_model_find(copy, names[l])].param[CNN_PARAM_WEIGHT];
            int most = 0;
            for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
                most = abs(((const int8_t *)weight->data)[i]) > most ? abs(((const int8_t *)weight->data)[i]) : most;
            ck_assert_int_eq(most, (1 << (bits[l] - 1)) - 1);
            ck_assert_int_eq(rows[l].bits, bits[l]);
        }
        free(rows);
        cnn_model_free(copy);
    }
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
    cnn_bits_options options = standard;
    options.average = 1.9;
    CHECK_REFUSED(cnn_choose_bits(model, &data, &options, NULL, NULL), CNN_ERR_USAGE, "1.9 bits");
    options.average = NAN;
    CHECK_REFUSED(cnn_choose_bits(model, &data, &options, NULL, NULL), CNN_ERR_USAGE, "take 2 to 8");
    options = standard;
    options.images = 0;
    CHECK_REFUSED(cnn_choose_bits(model, &data, &options, NULL, NULL), CNN_ERR_USAGE, "0 images");
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_REFUSED(cnn_choose_bits(model, &data, &standard, NULL, NULL), CNN_ERR_UNSUPPORTED, "on a grid already");
    check_levels(0, 0, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("precision");
    TCase *tests = tcase_create("precision");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, lists_name_layers_and_the_rest);
    tcase_add_test(tests, shares_are_the_best);
    tcase_add_test(tests, edges_of_the_budget);
    tcase_add_test(tests, sensitive_layers_get_more_bits);
    tcase_add_test(tests, pruned_weights_do_not_count);
    tcase_add_test(tests, training_and_int8_take_the_widths);
    tcase_add_test(tests, what_cannot_be_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
