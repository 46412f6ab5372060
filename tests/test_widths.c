/* Exact widths: as many channels as are asked for, the best of them, together where they are tied. */
#include "tests/optimize_common.h"

#include <math.h>

static const char net[] = "image = input(height=8, width=8, channels=1)\n"
                          "conv1 = conv(image, out=9, kernel=3, pad=1)\n"
                          "bn1 = bn(conv1)\n"
                          "relu1 = relu(bn1)\n"
                          "conv2 = conv(relu1, out=9, kernel=3, pad=1)\n"
                          "sum = add(conv2, relu1)\n"
                          "conv3 = conv(sum, out=12, kernel=3, stride=2)\n"
                          "relu3 = relu(conv3)\n"
                          "fc1 = linear(relu3, out=7)\n"
                          "relu4 = relu(fc1)\n"
                          "fc2 = linear(relu4, out=4)\n";

static cnn_status keep(cnn_model *model, const char *widths, cnn_prune_result *result)
{
    return cnn_prune_to_widths(model, widths, &(cnn_prune_options){0}, result);
}

static void check_width(const cnn_model *model, const char *layer, int32_t outputs, int32_t inputs)
{
    const cnn_tensor_desc *desc = param_desc(model, layer, CNN_PARAM_WEIGHT);
    ck_assert_msg(desc->n == outputs && desc->c == inputs, "%s is [%d,..,%d], not [%d,..,%d]", layer, (int)desc->n,
                  (int)desc->c, (int)outputs, (int)inputs);
}

START_TEST(test_numbers_are_exact)
{
    cnn_model *model = make_model(net, 1);
    cnn_dataset data = make_data(8, 8, 1, 4);
    cnn_prune_result result;
    CHECK_OK(keep(model, "conv1=7,conv3=1,fc1=5", &result));
    check_width(model, "conv1", 7, 1);
    check_width(model, "conv2", 7, 7); /* tied by the add */
    check_width(model, "conv3", 1, 7);
    check_width(model, "fc1", 5, 1);
    check_width(model, "fc2", 4, 5);
    ck_assert_int_eq(param_desc(model, "bn1", CNN_PARAM_GAMMA)->c, 7);
    ck_assert_int_eq(result.candidates, 9 + 12 + 7);
    ck_assert_int_eq(result.removed, 2 + 11 + 2);
    free(run_logits(model, "ref", &data, 8));
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_the_best_stay)
{
    cnn_model *model = make_model(net, 2), *original;
    static const float size[12] = {5, 1, 9, 2, 8, 3, 7, 4, 6, 10, 11, 12};
    static const int kept[5] = {2, 4, 9, 10, 11}; /* 9, 8, 10, 11, 12 */
    const int64_t row = 3 * 3 * 9;
    float *weights = param_data(model, "conv3", CNN_PARAM_WEIGHT);
    for (int64_t i = 0; i < 12 * row; i++)
        weights[i] = (i % 2 ? -size[i / row] : size[i / row]) + (float)(i % row) * 1e-4f;
    CHECK_OK(cnn_model_clone(model, &original));
    CHECK_OK(keep(model, "conv3=5", NULL));
    check_width(model, "conv1", 9, 1);
    check_width(model, "fc1", 7, 5);
    for (int k = 0; k < 5; k++)
        ck_assert_mem_eq(param_data(model, "conv3", CNN_PARAM_WEIGHT) + k * row,
                         param_data(original, "conv3", CNN_PARAM_WEIGHT) + kept[k] * row, (size_t)row * sizeof(float));
    cnn_model_free(original);
    cnn_model_free(model);
}
END_TEST

/* Tied layers may both be named; a layer may be named with all that it has, if another one loses some. */
START_TEST(test_names_of_tied_layers)
{
    cnn_model *model = make_model(net, 3);
    CHECK_OK(keep(model, "conv2=4,conv1=4,fc1=7", NULL));
    check_width(model, "conv1", 4, 1);
    check_width(model, "conv2", 4, 4);
    check_width(model, "fc1", 7, 12);
    cnn_model_free(model);
}
END_TEST

static const struct {
    const char *widths, *text;
} refusals[] = {
    {"conv4=3", "no layer 'conv4' that can lose channels; those that can are conv1, conv2, conv3, fc1"},
    {"relu1=3", "no layer 'relu1'"},
    {"fc2=3", "no layer 'fc2'"},
    {"image=1", "no layer 'image'"},
    {"conv1=10", "conv1 is to keep 10 channels, and has 9: it can keep 1 to 9"},
    {"conv1=0", "keep 0 channels"},
    {"conv1=3,conv2=4", "conv2 is to keep 4 channels and conv1 3, but they can only lose channels together"},
    {"fc1=3,fc1=4", "it is one layer"},
    {"conv1=9", "already"},
    {"", "'' is no width: write LAYER=N"},
    {"conv1", "'conv1' is no width"},
    {"conv1=", "'conv1=' is no width"},
    {"=3", "'=3' is no width"},
    {"conv1=-3", "'conv1=-3' is no width"},
    {"conv1=3x", "'conv1=3x' is no width"},
    {"conv1=99999999999", "is no width"},
    {"conv1=3,", "'' is no width"},
    {"conv1=3,,fc1=2", "'' is no width"}};

START_TEST(test_refusals_change_nothing)
{
    cnn_model *model = make_model(net, 4);
    const uint64_t before = fingerprint(model);
    CHECK_REFUSED(keep(model, refusals[_i].widths, NULL), CNN_ERR_USAGE, refusals[_i].text);
    ck_assert_uint_eq(fingerprint(model), before);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_other_refusals)
{
    cnn_model *model = make_model("i = input(height=2, width=2, channels=3)\nf = linear(i, out=10)\n", 5);
    CHECK_REFUSED(keep(model, "f=3", NULL), CNN_ERR_USAGE, "only its last layer has weights");
    cnn_model_free(model);
    model = make_model(net, 6);
    param_data(model, "fc1", CNN_PARAM_WEIGHT)[5] = NAN;
    CHECK_REFUSED(keep(model, "conv1=3", NULL), CNN_ERR_NUMERIC, "'fc1'");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_out_of_memory_changes_nothing)
{
    cnn_model *model = make_model(net, 7);
    const uint64_t before = fingerprint(model);
    cnn_status status = CNN_ERR_MEMORY;
    for (long n = 1; status != CNN_OK; n++) {
        cnn_memory_fail_at(n);
        status = keep(model, "conv1=4,fc1=2", NULL);
        cnn_memory_fail_at(0);
        ck_assert_int_lt(n, 1000);
        if (status == CNN_OK)
            break;
        ck_assert_int_eq(status, CNN_ERR_MEMORY);
        ck_assert_uint_eq(fingerprint(model), before);
    }
    ck_assert_uint_ne(fingerprint(model), before);
    cnn_model_free(model);
}
END_TEST

static Suite *widths_suite(void)
{
    Suite *suite = suite_create("widths");
    TCase *tests = tcase_create("widths");
    tcase_add_test(tests, test_numbers_are_exact);
    tcase_add_test(tests, test_the_best_stay);
    tcase_add_test(tests, test_names_of_tied_layers);
    tcase_add_loop_test(tests, test_refusals_change_nothing, 0, sizeof refusals / sizeof refusals[0]);
    tcase_add_test(tests, test_other_refusals);
    tcase_add_test(tests, test_out_of_memory_changes_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(widths_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
