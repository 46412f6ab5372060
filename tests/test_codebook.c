/* Codebooks: the best numbers for known distributions, and models whose layers have few of them. */
#include "tests/optimize_common.h"

#include "optimize/codebook.h"

#include <math.h>

enum { SIDE = 12, CLASSES = 5, ROWS = 6, COLUMNS = 200 };

static float uniform(uint64_t seed, int64_t i)
{
    return 2 * cnn_hash_uniform(cnn_hash(seed, CNN_PURPOSE_SYNTH, (uint64_t)i, 0)) - 1;
}

/* ---- Fitting ---- */

static float values[ROWS * COLUMNS];
static uint8_t mask[ROWS * COLUMNS];

static cnn_param weights_of(void)
{
    return (cnn_param){.desc = cnn_desc(CNN_F32, ROWS, 1, 1, COLUMNS), .data = values};
}

static double error_of(const cnn_param *weight, const cnn_codebook *book, const float *step)
{
    double error = 0;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        const bool pruned = weight->mask && !weight->mask[i];
        const float s = step[i / COLUMNS];
        const double off =
            (double)values[i] - (pruned ? 0 : (double)cnn_codebook_nearest(book, values[i], s) * (double)s);
        error += off * off;
    }
    return error;
}

/* Weights that have four values in each channel, of a size of its own, are found exactly. */
START_TEST(weights_of_a_book_find_it)
{
    static const float four[] = {-1, -0.25f, 0.125f, 0.75f};
    cnn_param weight = weights_of();
    cnn_codebook book;
    float step[ROWS];
    double signal = 0;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        values[i] =
            four[cnn_hash(4, CNN_PURPOSE_SYNTH, (uint64_t)i, 0) % 4] * (float)(1 + (i / COLUMNS) * (i / COLUMNS));
        signal += (double)values[i] * (double)values[i];
    }
    CHECK_OK(cnn_codebook_fit(&weight, 2, &book, step));
    ck_assert_int_eq(book.count, 4);
    ck_assert_msg(error_of(&weight, &book, step) < 1e-4 * signal, "error %g", error_of(&weight, &book, step) / signal);
    for (int i = 0; i + 1 < book.count; i++)
        ck_assert_int_lt(book.value[i], book.value[i + 1]);
    for (int k = 1; k < ROWS; k++)
        ck_assert_float_eq_tol(step[k] / step[0], (float)(1 + k * k), 0.05f * (float)(1 + k * k));
}
END_TEST

/* Of a bell-shaped distribution: more numbers, less error, about 6 dB a bit (Lloyd and Max), and less than that of a
 * uniform grid of as many points. */
START_TEST(errors_are_those_of_lloyd_and_max)
{
    static const double least[] = {0.3634, 0.1175, 0.03454, 0.009497}; /* of a normal distribution of variance 1 */
    cnn_param weight = weights_of();
    double signal = 0;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        values[i] = 0;
        for (int j = 0; j < 12; j++)
            values[i] += uniform(1, i * 12 + j) * (float)(1 + i / COLUMNS);
        signal += (double)values[i] * (double)values[i];
    }
    for (int bits = 1; bits <= 4; bits++) {
        cnn_codebook book;
        float step[ROWS];
        CHECK_OK(cnn_codebook_fit(&weight, bits, &book, step));
        ck_assert_int_eq(book.count, 1 << bits);
        const double error = error_of(&weight, &book, step) / signal;
        ck_assert_msg(error < 1.1 * least[bits - 1] && error > 0.7 * least[bits - 1], "%d bits: %g", bits, error);
    }
}
END_TEST

START_TEST(pruned_weights_need_a_zero)
{
    cnn_param weight = weights_of();
    weight.mask = mask;
    for (int i = 0; i < ROWS * COLUMNS; i++) {
        mask[i] = i % 3 == 0;
        values[i] = mask[i] ? 2 + 0.1f * uniform(2, i) : 0;
    }
    for (int bits = 1; bits <= 4; bits++) {
        cnn_codebook book;
        float step[ROWS];
        CHECK_OK(cnn_codebook_fit(&weight, bits, &book, step));
        bool zero = false;
        for (int i = 0; i < book.count; i++)
            zero = zero || book.value[i] == 0;
        ck_assert(zero && book.count <= 1 << bits && book.count >= 2);
    }
    for (int i = 0; i < ROWS * COLUMNS; i++)
        values[i] = 0;
    cnn_codebook book;
    float step[ROWS];
    weight.mask = NULL;
    CHECK_OK(cnn_codebook_fit(&weight, 3, &book, step));
    ck_assert(book.count == 1 && book.value[0] == 0 && step[0] == 1);
}
END_TEST

/* ---- Models ---- */

static const char net[] = "image = input(height=12, width=12, channels=2)\n"
                          "conv1 = conv(image, out=8, kernel=3, pad=1, stride=2)\n"
                          "relu1 = relu(conv1)\n"
                          "fc1 = linear(relu1, out=24)\n"
                          "relu3 = relu(fc1)\n"
                          "fc2 = linear(relu3, out=5)\n";
static const char *const layers[] = {"conv1", "fc1", "fc2"};
enum { LAYERS = 3 };

static cnn_dataset data;
static cnn_model *model;

static void setup(void)
{
    data = make_data(300, SIDE, 2, CLASSES);
    for (int i = 0; i < 300 * SIDE * SIDE * 2; i++) /* pixels of one image have something in common */
        data.images[i] =
            (uint8_t)(data.images[i] / 4 + cnn_hash(8, CNN_PURPOSE_SYNTH, (uint64_t)(i / (SIDE * SIDE * 2)), 0) % 192);
    model = make_model(net, 3);
}

static void teardown(void)
{
    cnn_model_free(model);
    free_data(&data);
}

static cnn_quantize_options options_of(int codebook, cnn_rounding rounding)
{
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MAX;
    options.images = 64;
    options.device = "cpu";
    options.codebook = codebook;
    options.rounding = rounding;
    return options;
}

static double logit_error(int codebook, cnn_rounding rounding)
{
    const cnn_quantize_options options = options_of(codebook, rounding);
    cnn_model *int8;
    double error = 0, signal = 0;
    CHECK_OK(cnn_model_clone(model, &int8));
    CHECK_OK(cnn_quantize(int8, &data, &options, NULL, NULL));
    float *x = run_logits(model, "cpu", &data, 300), *y = run_logits(int8, "cpu", &data, 300);
    for (int i = 0; i < 300 * CLASSES; i++) {
        error += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        signal += (double)x[i] * (double)x[i];
    }
    free(x);
    free(y);
    cnn_model_free(int8);
    return sqrt(error / signal);
}

START_TEST(more_numbers_are_nearer_and_adaptive_ones_more_so)
{
    double last = INFINITY;
    for (int bits = 1; bits <= 4; bits++) {
        const double nearest = logit_error(bits, CNN_ROUNDING_NEAREST), best = logit_error(bits, CNN_ROUNDING_ADAPTIVE);
        ck_assert_msg(nearest < 0.8 * last && best < 0.8 * nearest, "%d bits: %g, %g adaptive", bits, nearest, best);
        last = nearest;
    }
}
END_TEST

START_TEST(layers_have_few_numbers_and_zeros_stay)
{
    CHECK_OK(cnn_prune_weights(model, &(cnn_prune_options){.ratio = 0.6}, NULL));
    for (int adaptive = 0; adaptive < 2; adaptive++)
        for (int bits = 1; bits <= 4; bits++) {
            const cnn_quantize_options options = options_of(bits, (cnn_rounding)adaptive);
            cnn_model *int8;
            cnn_quantize_row *rows;
            int row_count;
            CHECK_OK(cnn_model_clone(model, &int8));
            CHECK_OK(cnn_quantize(int8, &data, &options, &rows, &row_count));
            for (int l = 0; l < LAYERS; l++) {
                const int n = cnn_model_find(model, layers[l]);
                const cnn_param *a = &int8->nodes[n].param[CNN_PARAM_WEIGHT], *b = &model->nodes[n].param[0];
                bool seen[256] = {false};
                int count = 0;
                for (int64_t i = 0; i < cnn_desc_elements(&a->desc); i++) {
                    const int q = ((const int8_t *)a->data)[i];
                    count += !seen[q + 128];
                    seen[q + 128] = true;
                    ck_assert(b->mask[i] || q == 0);
                    ck_assert((a->mask[i] != 0) == (q != 0));
                }
                ck_assert_int_le(count, 1 << bits);
                ck_assert_int_ge(count, 2);
                ck_assert_int_eq(rows[l].bits, bits);
            }
            free(rows);
            cnn_model_free(int8);
        }
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    cnn_quantize_options options = options_of(5, CNN_ROUNDING_NEAREST);
    CHECK_REFUSED(cnn_quantize(model, &data, &options, NULL, NULL), CNN_ERR_USAGE, "a codebook of 5 bits");
    options.codebook = -1;
    CHECK_REFUSED(cnn_quantize(model, &data, &options, NULL, NULL), CNN_ERR_USAGE, "take 1 to 4");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codebook");
    TCase *tests = tcase_create("codebook");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, weights_of_a_book_find_it);
    tcase_add_test(tests, errors_are_those_of_lloyd_and_max);
    tcase_add_test(tests, pruned_weights_need_a_zero);
    tcase_add_test(tests, more_numbers_are_nearer_and_adaptive_ones_more_so);
    tcase_add_test(tests, layers_have_few_numbers_and_zeros_stay);
    tcase_add_test(tests, what_does_not_fit_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
