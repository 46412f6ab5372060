/* Convolutions in groups, in whole: a small network of depthwise ones and one of two groups. It trains, its INT8 is the
 * same bits everywhere, channels and dead units go through depthwise convolutions, and files hold it. */
#include "tests/network_case.h"

static const char net[] = "image = input(height=28, width=28, channels=1)\n"
                          "conv1 = conv(image, out=8, kernel=3, stride=2, pad=1, bias=0)\n"
                          "bn1 = bn(conv1)\n"
                          "relu1 = relu(bn1)\n"
                          "deep2 = conv(relu1, out=8, kernel=3, pad=1, bias=0, groups=8)\n"
                          "bn2 = bn(deep2)\n"
                          "relu2 = relu(bn2)\n"
                          "wide2 = conv(relu2, out=20, kernel=1, bias=0)\n"
                          "bnw2 = bn(wide2)\n"
                          "reluw2 = relu(bnw2)\n"
                          "deep3 = conv(reluw2, out=20, kernel=5, stride=2, pad=2, bias=0, groups=20)\n"
                          "bn3 = bn(deep3)\n"
                          "relu3 = relu(bn3)\n"
                          "wide3 = conv(relu3, out=16, kernel=1)\n"
                          "two = conv(wide3, out=12, kernel=3, groups=2)\n"
                          "relu4 = relu(two)\n"
                          "pool = globalavgpool(relu4)\n"
                          "fc = linear(pool, out=10)\n";

START_TEST(test_it_trains)
{
    cnn_model *model = make_model(net, 1);
    case_check_trains(model, _i, 0.8);
    cnn_model_free(model);
}
END_TEST

/* ---- INT8 ---- */

START_TEST(test_int8)
{
    cnn_model *model = make_model(net, 3), *int8 = case_int8(net, NULL);
    ck_assert_double_lt(case_difference(model, int8), 0.05);
    case_check_same_bits(int8);
    cnn_model_free(int8);
    cnn_model_free(model);
}
END_TEST

/* Each group is rounded to patches of its own. Those of another are worse than none. */
START_TEST(test_adaptive_rounding)
{
    cnn_quantize_options options = case_quantize_options();
    options.levels = 7;
    options.rounding = CNN_ROUNDING_NEAREST;
    cnn_model *model = make_model(net, 3), *nearest = case_int8(net, &options);
    options.rounding = CNN_ROUNDING_ADAPTIVE;
    cnn_model *adaptive = case_int8(net, &options);
    ck_assert_double_lt(case_difference(model, adaptive), 0.9 * case_difference(model, nearest));
    cnn_model_free(nearest);
    cnn_model_free(adaptive);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_equalizing_changes_no_answer)
{
    cnn_model *model = make_model(net, 5);
    CHECK_OK(cnn_fold_batchnorm(model));
    const float weight = param_data(model, "wide2", CNN_PARAM_WEIGHT)[3];
    case_check_equalize(model, 2); /* not what the two groups read and make */
    ck_assert(param_data(model, "wide2", CNN_PARAM_WEIGHT)[3] != weight);
    cnn_model_free(model);
}
END_TEST

/* ---- Pruning ---- */

START_TEST(test_depthwise_channels_follow_their_inputs)
{
    cnn_model *model = make_model(net, 5);
    const cnn_prune_result result =
        case_check_halving(model, (const char *const[]){"conv1", "deep2", "wide2", "deep3", NULL});
    ck_assert_int_eq(result.candidates, 28);
    ck_assert_int_eq(cnn_node_groups(&model->nodes[cnn_model_find(model, "deep3")]), 10);
    ck_assert_int_eq(param_desc(model, "deep3", CNN_PARAM_WEIGHT)->c, 1);
    ck_assert_int_eq(param_desc(model, "wide3", CNN_PARAM_WEIGHT)->n, 16); /* held by the groups that read it */
    ck_assert_int_eq(param_desc(model, "two", CNN_PARAM_WEIGHT)->n, 12);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_narrowing_counts_filters_once)
{
    cnn_model *model = make_model(net, 7);
    const cnn_prune_options options = {.criterion = CNN_CRITERION_L2, .seed = 1};
    const int64_t before = 8 * 9 + 8 * 9 + 160 + 20 * 25 + 320 + 12 * 9 * 8 + 120;
    cnn_prune_budget left;
    CHECK_OK(cnn_prune_to_budget(model, &(cnn_prune_budget){.weights = before - 1}, &options, &left));
    const int32_t thin = param_desc(model, "conv1", CNN_PARAM_WEIGHT)->n;
    const int32_t wide = param_desc(model, "wide2", CNN_PARAM_WEIGHT)->n;
    ck_assert_int_eq(left.weights, 2 * 9 * thin + thin * wide + 25 * wide + 16 * wide + 12 * 9 * 8 + 120);
    ck_assert_int_eq(param_desc(model, "deep3", CNN_PARAM_WEIGHT)->n, wide);
    cnn_model_free(model);
}
END_TEST

static const char chain[] = "image = input(height=28, width=28, channels=1)\n"
                            "conv1 = conv(image, out=6, kernel=3, stride=2)\n"
                            "relu1 = relu(conv1)\n"
                            "deep2 = conv(relu1, out=6, kernel=3, stride=2, groups=6)\n"
                            "relu2 = relu(deep2)\n"
                            "conv3 = conv(relu2, out=10, kernel=3)\n"
                            "pool = globalavgpool(conv3)\n"
                            "fc = linear(pool, out=10)\n";

/* A constant goes through a depthwise filter that does not pad; a filter of zeros makes one. */
START_TEST(test_dead_units_go_through)
{
    cnn_model *model = make_model(chain, 4);
    case_make_constant(model, "conv1", 1, 0.5f);
    param_data(model, "deep2", CNN_PARAM_BIAS)[1] = 1.25f;
    case_make_constant(model, "deep2", 4, 0.75f);
    case_check_dead(model, 2);
    ck_assert_int_eq(param_desc(model, "conv1", CNN_PARAM_WEIGHT)->n, 4);
    ck_assert_int_eq(param_desc(model, "deep2", CNN_PARAM_WEIGHT)->n, 4);
    ck_assert_int_eq(param_desc(model, "conv3", CNN_PARAM_WEIGHT)->c, 4);
    cnn_model_free(model);
}
END_TEST

/* Padding has no such constant: such a unit stays. Nor can one go whose constant is read before the filter, too. */
START_TEST(test_dead_units_that_stay)
{
    static const char *const read_twice = "image = input(height=28, width=28, channels=1)\n"
                                          "conv1 = conv(image, out=6, kernel=3, stride=2)\n"
                                          "relu1 = relu(conv1)\n"
                                          "conv3 = conv(relu1, out=10, kernel=3)\n"
                                          "conv4 = conv(conv1, out=10, kernel=3)\n"
                                          "sum = add(conv3, conv4)\n"
                                          "pool = globalavgpool(sum)\n"
                                          "fc = linear(pool, out=10)\n";
    cnn_model *model = make_model(net, 4);
    CHECK_OK(cnn_fold_batchnorm(model));
    case_make_constant(model, "wide2", 1, 0.5f);
    case_check_dead(model, 0);
    cnn_model_free(model);
    model = make_model(read_twice, 4);
    case_make_constant(model, "conv1", 1, -0.5f);
    case_check_dead(model, 0);
    cnn_model_free(model);
}
END_TEST

/* A filter that was pruned away takes with it what makes its input and what reads it. */
START_TEST(test_masks_go_through)
{
    cnn_model *model = make_model(net, 6);
    int64_t units;
    case_prune_filter(model, "deep3", 7);
    CHECK_OK(cnn_mask_dead(model, &units));
    ck_assert_int_eq(units, 1);
    const uint8_t *makes = model->nodes[cnn_model_find(model, "wide2")].param[CNN_PARAM_WEIGHT].mask;
    const uint8_t *reads = model->nodes[cnn_model_find(model, "wide3")].param[CNN_PARAM_WEIGHT].mask;
    for (int i = 0; i < 8; i++)
        ck_assert(!makes[7 * 8 + i] && makes[6 * 8 + i]);
    for (int k = 0; k < 16; k++)
        ck_assert(!reads[k * 20 + 7] && reads[k * 20 + 6]);
    cnn_model_free(model);
}
END_TEST

/* ---- Files, and what is refused ---- */

START_TEST(test_files_of_other_tools)
{
    cnn_model *model = _i == 1 ? case_int8(net, NULL) : make_model(net, 8);
    cnn_model *back = case_check_file(model, _i < 2 ? "onnx" : "safetensors");
    ck_assert_int_eq(cnn_node_groups(&back->nodes[cnn_model_find(back, "deep3")]), 20);
    ck_assert_int_eq(cnn_node_groups(&back->nodes[cnn_model_find(back, "two")]), 2);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_shapes)
{
    cnn_model *model = make_model(net, 1);
    const cnn_node *deep = &model->nodes[cnn_model_find(model, "deep3")];
    const cnn_node *two = &model->nodes[cnn_model_find(model, "two")];
    ck_assert(cnn_node_is_depthwise(deep) && !cnn_node_is_depthwise(two));
    ck_assert_int_eq(cnn_node_macs(model, cnn_model_find(model, "deep3")), 20 * 25 * 7 * 7);
    ck_assert_int_eq(param_desc(model, "two", CNN_PARAM_WEIGHT)->c, 8);
    cnn_model_free(model);
    CHECK_REFUSED(cnn_model_parse("image = input(height=8, width=4, channels=3)\n"
                                  "a = conv(image, out=4, kernel=3, groups=2)\n",
                                  "bad.cfg", &model),
                  CNN_ERR_SHAPE, "2 groups do not divide 3 input channels and 4 outputs");
    CHECK_REFUSED(cnn_model_parse("image = input(height=8, width=4, channels=2)\n"
                                  "a = conv(image, out=5, kernel=3, groups=2)\n",
                                  "bad.cfg", &model),
                  CNN_ERR_SHAPE, "5 outputs");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("groups");
    TCase *tests = tcase_create("groups");
    tcase_add_checked_fixture(tests, case_network_set_up, case_network_tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_it_trains, 0, STORAGES);
    tcase_add_test(tests, test_int8);
    tcase_add_test(tests, test_adaptive_rounding);
    tcase_add_test(tests, test_equalizing_changes_no_answer);
    tcase_add_test(tests, test_depthwise_channels_follow_their_inputs);
    tcase_add_test(tests, test_narrowing_counts_filters_once);
    tcase_add_test(tests, test_dead_units_go_through);
    tcase_add_test(tests, test_dead_units_that_stay);
    tcase_add_test(tests, test_masks_go_through);
    tcase_add_loop_test(tests, test_files_of_other_tools, 0, 3);
    tcase_add_test(tests, test_shapes);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
