/* Two devices in lockstep: equal ones agree, and a difference is found in the layer where it begins. */
#include "tests/optimize_common.h"

#include "infer/compare.h"

#include <math.h>
#include <stdio.h>

enum { SIDE = 16, IMAGES = 11, BATCH = 4, CLASSES = 5 };

static const char net[] = "image = input(height=16, width=16, channels=1)\n"
                          "conv1 = conv(image, out=6, kernel=3, pad=1, bias=0)\n"
                          "bn1 = bn(conv1)\n"
                          "relu1 = relu(bn1)\n"
                          "conv2 = conv(relu1, out=6, kernel=3, pad=1)\n"
                          "sum = add(conv2, relu1)\n"
                          "relu2 = relu(sum)\n"
                          "pool2 = maxpool(relu2, kernel=2)\n"
                          "fc1 = linear(pool2, out=9)\n"
                          "relu3 = relu(fc1)\n"
                          "fc2 = linear(relu3, out=5)\n";

static cnn_dataset data;

static void setup(void)
{
    data = make_data(64, SIDE, 1, CLASSES);
}

static void teardown(void)
{
    free_data(&data);
}

static cnn_model *quantized(void)
{
    cnn_model *model = make_model(net, 5);
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.images = 32;
    CHECK_OK(cnn_fold_batchnorm(model));
    CHECK_OK(cnn_quantize(model, &data, &options, NULL, NULL));
    return model;
}

/* `a` on one device beside `b` on another. */
static infer_comparison compare(cnn_model *a, const char *a_device, cnn_model *b, const char *b_device)
{
    cnn_session *left, *right;
    infer_comparison comparison;
    CHECK_OK(cnn_session_open(a, &(cnn_session_options){.device = a_device, .batch = BATCH}, &left));
    CHECK_OK(cnn_session_open(b, &(cnn_session_options){.device = b_device, .batch = BATCH}, &right));
    CHECK_OK(infer_compare_sessions(left, right, a, data.images, IMAGES, BATCH, &comparison));
    cnn_session_close(left);
    cnn_session_close(right);
    ck_assert_int_eq(comparison.nodes[comparison.node_count - 1].values, IMAGES * CLASSES);
    return comparison;
}

/* The name of the node that diverges first, "" when none does. Frees the comparison. */
static const char *first(infer_comparison comparison)
{
    static char name[64];
    snprintf(name, sizeof name, "%s", comparison.first < 0 ? "" : comparison.nodes[comparison.first].ends_in);
    infer_comparison_free(&comparison);
    return name;
}

START_TEST(devices_agree)
{
    cnn_model *model = make_model(net, 5), *int8 = quantized();
    infer_comparison comparison = compare(model, "cpu", model, "ref");
    ck_assert_int_ge(comparison.compared, 5);
    ck_assert_int_eq(comparison.nodes[0].unequal, 0);
    ck_assert_int_eq(comparison.nodes[0].values, IMAGES * SIDE * SIDE);
    ck_assert_int_eq(comparison.nodes[comparison.node_count - 1].depth, 5);
    ck_assert_str_eq(first(comparison), "");
    ck_assert_str_eq(first(compare(model, "cpu", model, "cpu:portable")), "");
    comparison = compare(int8, "cpu", int8, "ref");
    ck_assert_int_ge(comparison.compared, 4);
    for (int i = 0; i < comparison.node_count; i++)
        ck_assert_int_eq(comparison.nodes[i].unequal, 0);
    ck_assert_str_eq(first(comparison), "");
    cnn_model_free(model);
    cnn_model_free(int8);
}
END_TEST

/* A fused layer is named by the node that its instruction ends in. */
START_TEST(the_first_divergence_is_named)
{
    static const char *const layers[] = {"conv1", "conv2", "fc1", "fc2"};
    static const char *const ends[] = {"conv1", "pool2", "relu3", "fc2"};
    static const int changed[] = {3, 57, 3, 3}; /* a weight of a channel that is not cut off */
    for (int i = 0; i < 4; i++) {
        cnn_model *model = make_model(net, 5), *other = make_model(net, 5);
        float *weight = param_data(other, layers[i], CNN_PARAM_WEIGHT) + changed[i];
        *weight = nextafterf(*weight, 1);
        infer_comparison comparison = compare(model, "ref", other, "ref");
        ck_assert_str_eq(first(comparison), ""); /* one unit in the last place is rounding */
        *weight += 0.01f;
        ck_assert_str_eq(first(compare(model, "ref", other, "ref")), ends[i]);
        ck_assert_str_eq(first(compare(model, "cpu", other, "ref")), ends[i]);
        cnn_model_free(model);
        cnn_model_free(other);
    }
}
END_TEST

START_TEST(one_byte_is_too_much_for_int8)
{
    cnn_model *model = quantized(), *other = quantized();
    int node = cnn_model_find(other, "fc2");
    ((int8_t *)other->nodes[node].param[CNN_PARAM_WEIGHT].data)[0] ^= 1;
    infer_comparison comparison = compare(model, "cpu", other, "ref");
    ck_assert_int_ge(comparison.nodes[node].unequal, 1);
    ck_assert_str_eq(first(comparison), "fc2");
    node = cnn_model_find(other, "image");
    other->nodes[node].out_scale *= 1.01f;
    ck_assert_str_eq(first(compare(model, "cpu", other, "ref")), "image");
    cnn_model_free(model);
    cnn_model_free(other);
}
END_TEST

START_TEST(nan_only_agrees_with_nan)
{
    cnn_model *model = make_model(net, 5), *other = make_model(net, 5);
    param_data(other, "fc2", CNN_PARAM_BIAS)[1] = NAN;
    ck_assert_str_eq(first(compare(model, "cpu", other, "ref")), "fc2");
    ck_assert_str_eq(first(compare(other, "cpu", model, "ref")), "fc2");
    ck_assert_str_eq(first(compare(other, "cpu", other, "ref")), "");
    cnn_model_free(model);
    cnn_model_free(other);
}
END_TEST

START_TEST(every_allocation_may_fail)
{
    cnn_model *model = make_model(net, 5);
    cnn_session *a, *b;
    infer_comparison comparison;
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "cpu", .batch = BATCH}, &a));
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "ref", .batch = BATCH}, &b));
    long n = 0;
    cnn_status status;
    do {
        cnn_memory_fail_at(++n);
        status = infer_compare_sessions(a, b, model, data.images, IMAGES, BATCH, &comparison);
        ck_assert(status == CNN_OK || status == CNN_ERR_MEMORY);
    } while (status != CNN_OK);
    cnn_memory_fail_at(0);
    ck_assert_int_gt(n, 10);
    infer_comparison_free(&comparison);
    cnn_session_close(a);
    cnn_session_close(b);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("compare");
    TCase *tests = tcase_create("compare");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, devices_agree);
    tcase_add_test(tests, the_first_divergence_is_named);
    tcase_add_test(tests, one_byte_is_too_much_for_int8);
    tcase_add_test(tests, nan_only_agrees_with_nan);
    tcase_add_test(tests, every_allocation_may_fail);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
