/* Convolutions in groups, in whole: a small network of depthwise ones and one of two groups. It trains, its INT8 is the
 * same bits everywhere, channels and dead units go through depthwise convolutions, and files hold it. */
#include "tests/optimize_common.h"
#include "tests/train_case.h"

#include "cnn/onnx.h"
#include "cnn/safetensors.h"

#include <stdio.h>
#include <unistd.h>

enum { SIDE = 28, IMAGES = 100, SHOWN = 21, CLASSES = 10 };

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

/* ---- Training ---- */

START_TEST(test_it_trains)
{
    static const cnn_dtype storage[] = {CNN_F32, CNN_F16, CNN_BF16};
    record r;
    cnn_model *model = make_model(net, 1);
    cnn_train_options options = case_options(&r);
    options.epochs = 2;
    options.storage = storage[_i];
    case_check(cnn_train(model, case_synth, &options, NULL));
    ck_assert_int_eq(r.epochs, 2);
    ck_assert_msg(r.loss[1] < 0.8 * r.loss[0], "losses %g and %g", r.loss[0], r.loss[1]);
    cnn_model_free(model);
}
END_TEST

/* ---- INT8 ---- */

static cnn_model *quantized(const cnn_dataset *data, cnn_rounding rounding, int32_t levels)
{
    cnn_model *model = make_model(net, 3);
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.images = 64;
    options.rounding = rounding;
    options.levels = levels;
    CHECK_OK(cnn_fold_batchnorm(model));
    CHECK_OK(cnn_quantize(model, data, &options, NULL, NULL));
    return model;
}

static double error_of(cnn_model *int8, const float *exact, const cnn_dataset *data)
{
    float *rounded = run_logits(int8, "cpu", data, SHOWN);
    const double error = relative_difference(exact, rounded, SHOWN * CLASSES);
    free(rounded);
    return error;
}

START_TEST(test_int8)
{
    static const char *const devices[] = {"cpu:portable", "ref"};
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 3), *int8 = quantized(&data, CNN_ROUNDING_NEAREST, 127);
    float *exact = run_logits(model, "cpu", &data, SHOWN), *cpu = run_logits(int8, "cpu", &data, SHOWN);
    ck_assert_double_lt(error_of(int8, exact, &data), 0.05);
    for (int i = 0; i < 2; i++) {
        float *other = run_logits(int8, devices[i], &data, SHOWN);
        ck_assert_mem_eq(cpu, other, SHOWN * CLASSES * sizeof *cpu);
        free(other);
    }
    free(exact);
    free(cpu);
    cnn_model_free(int8);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* Each group is rounded to patches of its own. Those of another are worse than none. */
START_TEST(test_adaptive_rounding)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 3), *nearest = quantized(&data, CNN_ROUNDING_NEAREST, 7);
    cnn_model *adaptive = quantized(&data, CNN_ROUNDING_ADAPTIVE, 7);
    float *exact = run_logits(model, "cpu", &data, SHOWN);
    ck_assert_double_lt(error_of(adaptive, exact, &data), 0.9 * error_of(nearest, exact, &data));
    free(exact);
    cnn_model_free(nearest);
    cnn_model_free(adaptive);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

START_TEST(test_equalizing_changes_no_answer)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 5);
    int groups;
    CHECK_OK(cnn_fold_batchnorm(model));
    float *before = run_logits(model, "cpu", &data, SHOWN);
    const float weight = param_data(model, "wide2", CNN_PARAM_WEIGHT)[3];
    CHECK_OK(cnn_equalize(model, &data, 1, "cpu", &groups));
    ck_assert_int_eq(groups, 2); /* not what the two groups read and make */
    ck_assert(param_data(model, "wide2", CNN_PARAM_WEIGHT)[3] != weight);
    float *after = run_logits(model, "cpu", &data, SHOWN);
    ck_assert_double_lt(relative_difference(before, after, SHOWN * CLASSES), 1e-5);
    free(before);
    free(after);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* ---- Pruning ---- */

/* Sets to 0 the filter, gamma and beta of channel c of a conv and its batch norm: it adds nothing. */
static void silence(cnn_model *model, const char *conv, const char *bn, int32_t c)
{
    const cnn_tensor_desc *desc = param_desc(model, conv, CNN_PARAM_WEIGHT);
    const int64_t filter = cnn_desc_elements(desc) / desc->n;
    memset(param_data(model, conv, CNN_PARAM_WEIGHT) + c * filter, 0, (size_t)filter * sizeof(float));
    if (!bn)
        return;
    param_data(model, bn, CNN_PARAM_GAMMA)[c] = param_data(model, bn, CNN_PARAM_BETA)[c] = 0;
    param_data(model, bn, CNN_PARAM_RUNNING_MEAN)[c] = 0;
}

/* Every second channel is silent, in the depthwise convolutions as well, so pruning half removes these. */
START_TEST(test_depthwise_channels_follow_their_inputs)
{
    static const char *const layers[][2] = {{"conv1", "bn1"}, {"deep2", "bn2"}, {"wide2", "bnw2"}, {"deep3", "bn3"}};
    static const int32_t left[] = {4, 4, 10, 10};
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 5), *loaded;
    for (int i = 0; i < 4; i++)
        for (int32_t c = 1; c < 2 * left[i]; c += 2)
            silence(model, layers[i][0], layers[i][1], c);
    float *before = run_logits(model, "cpu", &data, SHOWN);
    cnn_prune_result result;
    CHECK_OK(cnn_prune_channels(model, &(cnn_prune_options){.ratio = 0.5}, &result));
    ck_assert_int_eq(result.candidates, 28);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(param_desc(model, layers[i][0], CNN_PARAM_WEIGHT)->n, left[i]);
        ck_assert_int_eq(param_desc(model, layers[i][1], CNN_PARAM_GAMMA)->c, left[i]);
    }
    ck_assert_int_eq(cnn_node_groups(&model->nodes[cnn_model_find(model, "deep3")]), 10);
    ck_assert_int_eq(param_desc(model, "deep3", CNN_PARAM_WEIGHT)->c, 1);
    ck_assert_int_eq(param_desc(model, "wide3", CNN_PARAM_WEIGHT)->n, 16); /* held by the groups that read it */
    ck_assert_int_eq(param_desc(model, "two", CNN_PARAM_WEIGHT)->n, 12);
    float *after = run_logits(model, "cpu", &data, SHOWN);
    ck_assert_double_lt(relative_difference(before, after, SHOWN * CLASSES), 1e-5);

    char path[64];
    snprintf(path, sizeof path, "groups-%ld.cnn", (long)getpid());
    CHECK_OK(cnn_model_save(model, path, NULL));
    CHECK_OK(cnn_model_load(path, &loaded));
    unlink(path);
    float *again = run_logits(loaded, "cpu", &data, SHOWN);
    ck_assert_mem_eq(after, again, SHOWN * CLASSES * sizeof *after);
    free(before);
    free(after);
    free(again);
    cnn_model_free(model);
    cnn_model_free(loaded);
    free_data(&data);
}
END_TEST

START_TEST(test_narrowing_counts_filters_once)
{
    cnn_model *model = make_model(net, 7);
    const cnn_prune_options options = {.criterion = CNN_CRITERION_L2, .seed = 1};
    const int64_t before = 8 * 9 + 8 * 9 + 160 + 20 * 25 + 320 + 12 * 9 * 8 + 120;
    int64_t left;
    CHECK_OK(cnn_prune_to_weights(model, before - 1, &options, &left));
    const int32_t thin = param_desc(model, "conv1", CNN_PARAM_WEIGHT)->n;
    const int32_t wide = param_desc(model, "wide2", CNN_PARAM_WEIGHT)->n;
    ck_assert_int_eq(left, 2 * 9 * thin + thin * wide + 25 * wide + 16 * wide + 12 * 9 * 8 + 120);
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
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(chain, 4);
    int64_t units;
    silence(model, "conv1", NULL, 1);
    param_data(model, "conv1", CNN_PARAM_BIAS)[1] = 0.5f;
    param_data(model, "deep2", CNN_PARAM_BIAS)[1] = 1.25f;
    silence(model, "deep2", NULL, 4);
    param_data(model, "deep2", CNN_PARAM_BIAS)[4] = 0.75f;
    float *before = run_logits(model, "cpu", &data, SHOWN);
    CHECK_OK(cnn_remove_dead(model, &units));
    ck_assert_int_eq(units, 2);
    ck_assert_int_eq(param_desc(model, "conv1", CNN_PARAM_WEIGHT)->n, 4);
    ck_assert_int_eq(param_desc(model, "deep2", CNN_PARAM_WEIGHT)->n, 4);
    ck_assert_int_eq(param_desc(model, "conv3", CNN_PARAM_WEIGHT)->c, 4);
    float *after = run_logits(model, "cpu", &data, SHOWN);
    ck_assert_double_lt(relative_difference(before, after, SHOWN * CLASSES), 1e-5);
    free(before);
    free(after);
    cnn_model_free(model);
    free_data(&data);
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
    int64_t units;
    CHECK_OK(cnn_fold_batchnorm(model));
    silence(model, "wide2", NULL, 1);
    param_data(model, "wide2", CNN_PARAM_BIAS)[1] = 0.5f;
    CHECK_OK(cnn_remove_dead(model, &units));
    ck_assert_int_eq(units, 0);
    cnn_model_free(model);
    model = make_model(read_twice, 4);
    silence(model, "conv1", NULL, 1);
    param_data(model, "conv1", CNN_PARAM_BIAS)[1] = -0.5f;
    CHECK_OK(cnn_remove_dead(model, &units));
    ck_assert_int_eq(units, 0);
    cnn_model_free(model);
}
END_TEST

/* A filter that was pruned away takes with it what makes its input and what reads it. */
START_TEST(test_masks_go_through)
{
    cnn_model *model = make_model(net, 6);
    int64_t units;
    for (int i = 0; i < model->node_count; i++) {
        cnn_param *weight = &model->nodes[i].param[CNN_PARAM_WEIGHT];
        if (!cnn_node_has_weights(&model->nodes[i]))
            continue;
        weight->mask = cnn_aligned_alloc((size_t)cnn_desc_elements(&weight->desc));
        memset(weight->mask, 1, (size_t)cnn_desc_elements(&weight->desc));
    }
    silence(model, "deep3", NULL, 7);
    memset(model->nodes[cnn_model_find(model, "deep3")].param[CNN_PARAM_WEIGHT].mask + 7 * 25, 0, 25);
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

/* ONNX in float and INT8, safetensors into a network of other weights. */
START_TEST(test_files_of_other_tools)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = _i == 1 ? quantized(&data, CNN_ROUNDING_NEAREST, 127) : make_model(net, 8), *back = NULL;
    char path[64];
    snprintf(path, sizeof path, "groups-%ld.%s", (long)getpid(), _i < 2 ? "onnx" : "safetensors");
    if (_i < 2) {
        CHECK_OK(cnn_onnx_save(model, path, NULL));
        CHECK_OK(cnn_onnx_load(path, NULL, &back));
    } else {
        back = make_model(net, 9);
        CHECK_OK(cnn_safetensors_save(model, path, NULL));
        CHECK_OK(cnn_safetensors_load(path, back));
    }
    unlink(path);
    ck_assert_int_eq(cnn_node_groups(&back->nodes[cnn_model_find(back, "deep3")]), 20);
    ck_assert_int_eq(cnn_node_groups(&back->nodes[cnn_model_find(back, "two")]), 2);
    float *before = run_logits(model, "cpu", &data, SHOWN), *after = run_logits(back, "cpu", &data, SHOWN);
    ck_assert_mem_eq(before, after, SHOWN * CLASSES * sizeof *before);
    free(before);
    free(after);
    cnn_model_free(back);
    cnn_model_free(model);
    free_data(&data);
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
    tcase_add_checked_fixture(tests, case_set_up, case_tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_it_trains, 0, 3);
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
