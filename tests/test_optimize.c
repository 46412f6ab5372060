/* Channel pruning and batch norm folding. */
#include "tests/optimize_common.h"

#include <math.h>

static const char chain[] = "image = input(height=12, width=12, channels=1)\n"
                            "conv1 = conv(image, out=8, kernel=3, pad=1)\n"
                            "bn1 = bn(conv1)\n"
                            "relu1 = relu(bn1)\n"
                            "pool1 = maxpool(relu1, kernel=2)\n"
                            "conv2 = conv(pool1, out=16, kernel=3, bias=0)\n"
                            "relu2 = relu(conv2)\n"
                            "fc1 = linear(relu2, out=32)\n"
                            "bn2 = bn(fc1)\n"
                            "relu3 = relu(bn2)\n"
                            "fc2 = linear(relu3, out=10)\n";

static const char residual[] = "image = input(height=8, width=8, channels=1)\n"
                               "conv1 = conv(image, out=8, kernel=3, pad=1)\n"
                               "relu1 = relu(conv1)\n"
                               "conv2 = conv(relu1, out=8, kernel=3, pad=1)\n"
                               "sum = add(relu1, conv2)\n"
                               "relu2 = relu(sum)\n"
                               "fc = linear(relu2, out=10)\n";

static cnn_status prune(cnn_model *model, double ratio, bool global)
{
    return cnn_prune_channels(model, &(cnn_prune_options){.ratio = ratio, .global = global}, NULL);
}

/* Multiplies the weights of output channel k, and its bias. */
static void scale_channel(cnn_model *model, const char *layer, int k, float factor)
{
    const cnn_tensor_desc *desc = param_desc(model, layer, CNN_PARAM_WEIGHT);
    int64_t count = cnn_desc_elements(desc) / desc->n;
    float *weights = param_data(model, layer, CNN_PARAM_WEIGHT), *bias = param_data(model, layer, CNN_PARAM_BIAS);
    for (int64_t i = 0; i < count; i++)
        weights[k * count + i] *= factor;
    if (bias)
        bias[k] *= factor;
}

static int32_t channels_of(const cnn_model *model, const char *layer)
{
    return param_desc(model, layer, CNN_PARAM_WEIGHT)->n;
}

START_TEST(test_removing_dead_channels_changes_nothing)
{
    cnn_model *model = make_model(chain, 1);
    static const char *const layers[] = {"conv1", "conv2", "fc1"};
    static const char *const norms[] = {"bn1", NULL, "bn2"};
    for (int l = 0; l < 3; l++)
        for (int k = l % 2; k < channels_of(model, layers[l]); k += 2) {
            scale_channel(model, layers[l], k, 0);
            for (int role = CNN_PARAM_BETA; norms[l] && role <= CNN_PARAM_RUNNING_MEAN; role++)
                param_data(model, norms[l], (cnn_param_role)role)[k] = 0;
        }
    cnn_dataset data = make_data(5, 12, 1, 10);
    float *before = run_logits(model, "ref", &data, 5);
    CHECK_OK(prune(model, 0.5, false));
    ck_assert_int_eq(channels_of(model, "conv1"), 4);
    ck_assert_int_eq(channels_of(model, "conv2"), 8);
    ck_assert_int_eq(channels_of(model, "fc1"), 16);
    float *after = run_logits(model, "ref", &data, 5);
    ck_assert_double_le(relative_difference(before, after, 50), 1e-6);
    free(before);
    free(after);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_smallest_l1_goes)
{
    cnn_model *model = make_model(chain, 2), *original;
    static const float factor[8] = {3, 9, 1, 7, 8, 2, 6, 4};
    static const int kept[4] = {1, 3, 4, 6};
    for (int k = 0; k < 8; k++)
        scale_channel(model, "conv1", k, 10 * factor[k]);
    CHECK_OK(cnn_model_clone(model, &original));
    CHECK_OK(prune(model, 0.5, false));
    for (int k = 0; k < 4; k++) {
        ck_assert_mem_eq(param_data(model, "conv1", CNN_PARAM_WEIGHT) + k * 9,
                         param_data(original, "conv1", CNN_PARAM_WEIGHT) + kept[k] * 9, 9 * sizeof(float));
        for (int role = CNN_PARAM_GAMMA; role <= CNN_PARAM_RUNNING_VAR; role++)
            ck_assert(param_data(model, "bn1", (cnn_param_role)role)[k] ==
                      param_data(original, "bn1", (cnn_param_role)role)[kept[k]]);
        ck_assert(param_data(model, "conv1", CNN_PARAM_BIAS)[k] ==
                  param_data(original, "conv1", CNN_PARAM_BIAS)[kept[k]]);
    }
    cnn_model_free(original);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_among_equals_the_first_stay)
{
    cnn_model *model = make_model(chain, 3);
    float *weights = param_data(model, "conv1", CNN_PARAM_WEIGHT), *bias = param_data(model, "conv1", CNN_PARAM_BIAS);
    for (int i = 0; i < 72; i++)
        weights[i] = i % 2 ? 0.25f : -0.25f;
    for (int k = 0; k < 8; k++)
        bias[k] = (float)k;
    CHECK_OK(prune(model, 0.5, false));
    for (int k = 0; k < 4; k++)
        ck_assert(param_data(model, "conv1", CNN_PARAM_BIAS)[k] == (float)k);
    cnn_model_free(model);
}
END_TEST

static void check_weight(const cnn_model *model, const char *layer, int32_t n, int32_t h, int32_t w, int32_t c)
{
    const cnn_tensor_desc *desc = param_desc(model, layer, CNN_PARAM_WEIGHT);
    ck_assert_int_eq(desc->n, n);
    ck_assert_int_eq(desc->h, h);
    ck_assert_int_eq(desc->w, w);
    ck_assert_int_eq(desc->c, c);
    const cnn_tensor_desc *bias = param_desc(model, layer, CNN_PARAM_BIAS);
    ck_assert_int_eq(bias->c, bias->dtype == CNN_NONE ? 0 : n);
}

START_TEST(test_shapes_of_the_shipped_models)
{
    cnn_model *model;
    CHECK_OK(cnn_model_create("convnet", &model));
    cnn_model_init(model, 1);
    CHECK_OK(prune(model, 0.5, false));
    check_weight(model, "conv1", 64, 5, 5, 1);
    check_weight(model, "conv2", 128, 5, 5, 64);
    check_weight(model, "fc1", 256, 7, 7, 128);
    check_weight(model, "fc2", 10, 1, 1, 256);
    for (int role = CNN_PARAM_GAMMA; role <= CNN_PARAM_RUNNING_VAR; role++) {
        ck_assert_int_eq(param_desc(model, "bn1", (cnn_param_role)role)->c, 64);
        ck_assert_int_eq(param_desc(model, "bn2", (cnn_param_role)role)->c, 128);
    }
    cnn_model_free(model);

    CHECK_OK(cnn_model_create("lenet5", &model));
    cnn_model_init(model, 1);
    CHECK_OK(prune(model, 0.5, false));
    check_weight(model, "conv1", 4, 5, 5, 1);
    check_weight(model, "conv2", 8, 5, 5, 4);
    check_weight(model, "fc1", 64, 5, 5, 8);
    check_weight(model, "fc2", 40, 1, 1, 64);
    check_weight(model, "fc3", 10, 1, 1, 40);
    cnn_model_free(model);
}
END_TEST

/* Ratio, channels of convnet's three layers that stay. */
static const struct {
    double ratio;
    int32_t kept[3];
} ratios[] = {
    {0.25, {96, 192, 384}}, {0.3, {88, 176, 360}}, {0.75, {32, 64, 128}}, {0.9, {16, 32, 64}}, {0.999, {16, 32, 64}},
};

START_TEST(test_counts_are_multiples_near_the_ratio)
{
    cnn_model *model;
    CHECK_OK(cnn_model_create("convnet", &model));
    cnn_model_init(model, 1);
    CHECK_OK(prune(model, ratios[_i].ratio, false));
    ck_assert_int_eq(channels_of(model, "conv1"), ratios[_i].kept[0]);
    ck_assert_int_eq(channels_of(model, "conv2"), ratios[_i].kept[1]);
    ck_assert_int_eq(channels_of(model, "fc1"), ratios[_i].kept[2]);
    ck_assert_int_eq(channels_of(model, "fc2"), 10);
    cnn_model_free(model);
}
END_TEST

static const char wide[] = "image = input(height=6, width=6, channels=1)\n"
                           "conv1 = conv(image, out=64, kernel=3)\n"
                           "relu1 = relu(conv1)\n"
                           "conv2 = conv(relu1, out=64, kernel=3)\n"
                           "relu2 = relu(conv2)\n"
                           "fc = linear(relu2, out=10)\n";

START_TEST(test_global_keeps_floors_and_the_share)
{
    cnn_model *model = make_model(wide, 4);
    /* All but three channels of conv1 hardly count: it falls to its floor of 64/8, conv2 gives the rest. */
    for (int k = 3; k < 64; k++)
        scale_channel(model, "conv1", k, 1e-3f);
    CHECK_OK(prune(model, 0.5, true));
    ck_assert_int_eq(channels_of(model, "conv1"), 8);
    ck_assert_int_eq(channels_of(model, "conv2"), 56);
    ck_assert_int_eq(param_desc(model, "conv2", CNN_PARAM_WEIGHT)->c, 8);
    ck_assert_int_eq(param_desc(model, "fc", CNN_PARAM_WEIGHT)->c, 56);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_global_does_not_depend_on_a_layers_scale)
{
    cnn_model *a = make_model(wide, 5), *b = make_model(wide, 5);
    for (int k = 0; k < 64; k++)
        scale_channel(b, "conv1", k, 1024);
    CHECK_OK(prune(a, 0.5, true));
    CHECK_OK(prune(b, 0.5, true));
    ck_assert_int_eq(channels_of(a, "conv1"), channels_of(b, "conv1"));
    ck_assert_int_eq(channels_of(a, "conv2"), channels_of(b, "conv2"));
    cnn_model_free(a);
    cnn_model_free(b);
}
END_TEST

START_TEST(test_add_ties_its_sides)
{
    cnn_model *model = make_model(residual, 6), *original;
    float *first = param_data(model, "conv1", CNN_PARAM_WEIGHT), *second = param_data(model, "conv2", CNN_PARAM_WEIGHT);
    /* Alone conv1 would keep 2, 3, 6, 7 and conv2 2, 3, 4, 5; the sums of their L1 norms say 0, 1, 2, 3. */
    static const float l1[2][8] = {{5, 5, 6, 6, 0, 0, 7, 7}, {5, 5, 6, 6, 7, 7, 0, 0}};
    for (int k = 0; k < 8; k++) {
        for (int i = 0; i < 9; i++)
            first[k * 9 + i] = l1[0][k] / 9;
        for (int i = 0; i < 72; i++)
            second[k * 72 + i] = l1[1][k] / 72;
    }
    CHECK_OK(cnn_model_clone(model, &original));
    CHECK_OK(prune(model, 0.5, false));
    check_weight(model, "conv1", 4, 3, 3, 1);
    check_weight(model, "conv2", 4, 3, 3, 4);
    check_weight(model, "fc", 10, 8, 8, 4);
    for (int k = 0; k < 4; k++) {
        ck_assert(param_data(model, "conv1", CNN_PARAM_WEIGHT)[k * 9] == l1[0][k] / 9);
        ck_assert(param_data(model, "conv2", CNN_PARAM_WEIGHT)[k * 36] == l1[1][k] / 72);
    }
    /* The linear layer reads [H,W,C]: of each pixel the first four channels stay. */
    const float *fc = param_data(model, "fc", CNN_PARAM_WEIGHT),
                *fc_before = param_data(original, "fc", CNN_PARAM_WEIGHT);
    for (int pixel = 0; pixel < 640; pixel++)
        ck_assert_mem_eq(fc + pixel * 4, fc_before + pixel * 8, 4 * sizeof(float));
    cnn_model_free(original);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_a_channel_of_the_input_ties_everything)
{
    cnn_model *model = make_model("image = input(height=4, width=4, channels=4)\n"
                                  "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                                  "sum = add(image, conv1)\n"
                                  "fc = linear(sum, out=10)\n",
                                  7);
    CHECK_REFUSED(prune(model, 0.5, false), CNN_ERR_UNSUPPORTED, "no layer that can lose channels");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_prune_refusals_change_nothing)
{
    cnn_model *model = make_model(chain, 8);
    uint64_t before = fingerprint(model);
    static const double wrong[] = {0, 1, 1.5, -0.5, NAN, INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_REFUSED(prune(model, wrong[i], false), CNN_ERR_USAGE, "between 0 and 1");
    CHECK_REFUSED(prune(model, 0.01, false), CNN_ERR_USAGE, "give a larger share");
    CHECK_REFUSED(cnn_prune_channels(model, &(cnn_prune_options){.ratio = 0.5, .criterion = (cnn_criterion)99}, NULL),
                  CNN_ERR_USAGE, "criterion");
    ck_assert_uint_eq(fingerprint(model), before);
    param_data(model, "conv2", CNN_PARAM_WEIGHT)[5] = NAN;
    CHECK_REFUSED(prune(model, 0.5, false), CNN_ERR_NUMERIC, "'conv2'");
    cnn_model_free(model);

    model = make_model("image = input(height=4, width=4, channels=1)\nfc = linear(image, out=10)\n", 1);
    CHECK_REFUSED(prune(model, 0.5, false), CNN_ERR_UNSUPPORTED, "no layer");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_masks_are_pruned_along)
{
    cnn_model *model = make_model(chain, 9);
    cnn_param *weight = &model->nodes[cnn_model_find(model, "conv2")].param[CNN_PARAM_WEIGHT];
    int64_t count = cnn_desc_elements(&weight->desc);
    weight->mask = cnn_aligned_alloc((size_t)count);
    weight->desc.structure = CNN_BLOCK_16X4;
    for (int64_t i = 0; i < count; i++) {
        weight->mask[i] = i % 3 != 0;
        if (!weight->mask[i])
            ((float *)weight->data)[i] = 0;
    }
    CHECK_OK(prune(model, 0.5, false));
    weight = &model->nodes[cnn_model_find(model, "conv2")].param[CNN_PARAM_WEIGHT];
    ck_assert_int_eq(weight->desc.structure, CNN_SPARSE);
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        ck_assert_int_eq(weight->mask[i], ((float *)weight->data)[i] != 0);
    cnn_model_free(model);
}
END_TEST

/* 1 to 10 epochs by the cost of the network, and where images are few as many as make 400 updates. */
START_TEST(test_fine_tuning_takes_enough_updates)
{
    static const struct {
        const char *model;
        int images;
        double epochs;
    } cases[] = {
        {"convnet", 60000, 1}, {"lenet5", 60000, 10}, {"convnet", 450, 58}, {"lenet300", 450, 58}, {"convnet", 5, 100}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cnn_model *model = NULL;
        const cnn_dataset data = {.count = cases[i].images};
        CHECK_OK(cnn_model_create(cases[i].model, &model));
        ck_assert_double_eq(cnn_finetune_epochs(model, &data), cases[i].epochs);
        cnn_model_free(model);
    }
}
END_TEST

START_TEST(test_folding_keeps_outputs)
{
    cnn_model *model = make_model(chain, 10);
    cnn_dataset data = make_data(5, 12, 1, 10);
    float *before = run_logits(model, "ref", &data, 5);
    int nodes = model->node_count;
    CHECK_OK(cnn_fold_batchnorm(model));
    ck_assert_int_eq(model->node_count, nodes - 2);
    ck_assert_int_eq(cnn_model_find(model, "bn1"), -1);
    ck_assert_str_eq(model->nodes[model->nodes[cnn_model_find(model, "relu1")].input[0]].name, "conv1");
    ck_assert_str_eq(model->nodes[model->nodes[cnn_model_find(model, "relu3")].input[0]].name, "fc1");
    float *after = run_logits(model, "ref", &data, 5);
    ck_assert_double_le(relative_difference(before, after, 50), 1e-5);
    free(before);
    free(after);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_folding_gives_a_bias)
{
    cnn_model *model = make_model("image = input(height=4, width=4, channels=1)\n"
                                  "conv1 = conv(image, out=4, kernel=3, bias=0)\n"
                                  "bn1 = bn(conv1, eps=0.5)\n"
                                  "fc = linear(bn1, out=10)\n",
                                  11);
    float gamma = param_data(model, "bn1", CNN_PARAM_GAMMA)[2], beta = param_data(model, "bn1", CNN_PARAM_BETA)[2];
    float mean = param_data(model, "bn1", CNN_PARAM_RUNNING_MEAN)[2], w = param_data(model, "conv1", 0)[2 * 9 + 4];
    double gain = gamma / sqrt(param_data(model, "bn1", CNN_PARAM_RUNNING_VAR)[2] + 0.5);
    CHECK_OK(cnn_fold_batchnorm(model));
    ck_assert_int_eq(cnn_node_int(&model->nodes[1], "bias"), 1);
    ck_assert(param_data(model, "conv1", CNN_PARAM_BIAS)[2] == (float)(beta - mean * gain));
    ck_assert(param_data(model, "conv1", CNN_PARAM_WEIGHT)[2 * 9 + 4] == (float)(w * gain));
    cnn_model_free(model);
}
END_TEST

START_TEST(test_folding_refusals_change_nothing)
{
    cnn_model *model = make_model("image = input(height=4, width=4, channels=1)\n"
                                  "conv1 = conv(image, out=4, kernel=3)\n"
                                  "bn1 = bn(conv1)\n"
                                  "relu1 = relu(bn1)\n"
                                  "late = bn(relu1)\n"
                                  "fc = linear(late, out=10)\n",
                                  12);
    uint64_t before = fingerprint(model);
    CHECK_REFUSED(cnn_fold_batchnorm(model), CNN_ERR_UNSUPPORTED, "'late'");
    ck_assert_uint_eq(fingerprint(model), before);
    cnn_model_free(model);

    model = make_model("image = input(height=4, width=4, channels=1)\n"
                       "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                       "bn1 = bn(conv1)\n"
                       "sum = add(conv1, bn1)\n"
                       "fc = linear(sum, out=10)\n",
                       13);
    CHECK_REFUSED(cnn_fold_batchnorm(model), CNN_ERR_UNSUPPORTED, "'bn1'");
    cnn_model_free(model);

    model = make_model(chain, 14);
    param_data(model, "bn2", CNN_PARAM_RUNNING_VAR)[1] = NAN;
    CHECK_REFUSED(cnn_fold_batchnorm(model), CNN_ERR_NUMERIC, "'bn2'");
    cnn_model_free(model);
}
END_TEST

/* Every allocation fails in turn: the pass reports it and the model stays as it was. */
START_TEST(test_out_of_memory_changes_nothing)
{
    cnn_model *model = make_model(chain, 15);
    uint64_t before = fingerprint(model);
    for (int pass = 0; pass < 2; pass++) {
        cnn_status status = CNN_ERR_MEMORY;
        for (long n = 1; status != CNN_OK; n++) {
            cnn_memory_fail_at(n);
            status = pass == 0 ? prune(model, 0.5, false) : cnn_fold_batchnorm(model);
            cnn_memory_fail_at(0);
            if (status != CNN_OK) {
                ck_assert_int_eq(status, CNN_ERR_MEMORY);
                ck_assert_uint_eq(fingerprint(model), before);
            }
            ck_assert_int_lt(n, 1000);
        }
        ck_assert_uint_ne(fingerprint(model), before);
        before = fingerprint(model);
    }
    cnn_model_free(model);
}
END_TEST

static Suite *optimize_suite(void)
{
    Suite *suite = suite_create("optimize");
    TCase *pruning = tcase_create("pruning");
    tcase_add_test(pruning, test_removing_dead_channels_changes_nothing);
    tcase_add_test(pruning, test_smallest_l1_goes);
    tcase_add_test(pruning, test_among_equals_the_first_stay);
    tcase_add_test(pruning, test_shapes_of_the_shipped_models);
    tcase_add_loop_test(pruning, test_counts_are_multiples_near_the_ratio, 0, sizeof ratios / sizeof ratios[0]);
    tcase_add_test(pruning, test_global_keeps_floors_and_the_share);
    tcase_add_test(pruning, test_global_does_not_depend_on_a_layers_scale);
    tcase_add_test(pruning, test_add_ties_its_sides);
    tcase_add_test(pruning, test_a_channel_of_the_input_ties_everything);
    tcase_add_test(pruning, test_prune_refusals_change_nothing);
    tcase_add_test(pruning, test_masks_are_pruned_along);
    tcase_add_test(pruning, test_fine_tuning_takes_enough_updates);
    suite_add_tcase(suite, pruning);
    TCase *folding = tcase_create("folding");
    tcase_add_test(folding, test_folding_keeps_outputs);
    tcase_add_test(folding, test_folding_gives_a_bias);
    tcase_add_test(folding, test_folding_refusals_change_nothing);
    tcase_add_test(folding, test_out_of_memory_changes_nothing);
    suite_add_tcase(suite, folding);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(optimize_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
