/* LAMP scores, and units that carry nothing: what falls with them, and that removing them changes no answer. */
#include "tests/optimize_common.h"

#include "core/session.h"
#include "optimize/score.h"

#include <math.h>

enum { SIDE = 12, IMAGES = 20, CLASSES = 5 };

static const char net[] = "image = input(height=12, width=12, channels=1)\n"
                          "conv1 = conv(image, out=6, kernel=3)\n"
                          "relu1 = relu(conv1)\n"
                          "pool1 = maxpool(relu1, kernel=2)\n"
                          "conv2 = conv(pool1, out=8, kernel=3, pad=1)\n"
                          "relu2 = relu(conv2)\n"
                          "fc1 = linear(relu2, out=16)\n"
                          "relu3 = relu(fc1)\n"
                          "fc2 = linear(relu3, out=5)\n";

static cnn_param *weight_of(cnn_model *model, const char *layer)
{
    return &model->nodes[cnn_model_find(model, layer)].param[CNN_PARAM_WEIGHT];
}

/* Gives every layer a mask of what is not 0. */
static void mask_all(cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++) {
        cnn_param *weight = &model->nodes[i].param[CNN_PARAM_WEIGHT];
        if (!weight->data)
            continue;
        const int64_t count = cnn_desc_elements(&weight->desc);
        weight->mask = cnn_aligned_alloc((size_t)count);
        weight->desc.structure = CNN_SPARSE;
        for (int64_t e = 0; e < count; e++)
            weight->mask[e] = ((const float *)weight->data)[e] != 0;
    }
}

/* No weight makes output k, or reads input c (-1: leave that). */
static void cut(cnn_model *model, const char *layer, int32_t k, int32_t c)
{
    const cnn_tensor_desc *desc = param_desc(model, layer, CNN_PARAM_WEIGHT);
    float *w = param_data(model, layer, CNN_PARAM_WEIGHT);
    const int64_t row = cnn_desc_elements(desc) / desc->n;
    for (int64_t i = 0; i < cnn_desc_elements(desc); i++)
        if (i / row == k || i % desc->c == c)
            w[i] = 0;
}

static void infer(cnn_model *model, const cnn_dataset *data, float *logits)
{
    cnn_session *session;
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "ref"}, &session));
    CHECK_OK(cnn_session_infer(session, data->images, IMAGES, logits));
    cnn_session_close(session);
}

static float largest_difference(const float *a, const float *b)
{
    float most = 0;
    for (int i = 0; i < IMAGES * CLASSES; i++)
        most = fmaxf(most, fabsf(a[i] - b[i]));
    return most;
}

START_TEST(lamp_is_a_share_of_what_is_not_smaller)
{
    cnn_model *model = make_model(net, 1);
    const cnn_prune_options options = {.criterion = CNN_CRITERION_LAMP};
    cnn_scores scores;
    float *w = param_data(model, "fc2", CNN_PARAM_WEIGHT);
    memset(w, 0, 80 * sizeof *w);
    w[3] = 1, w[10] = -2, w[11] = 2, w[40] = 0.5f;
    CHECK_OK(cnn_scores_make(model, CNN_SCORE_WEIGHTS, &options, &scores));
    const double *of = scores.of[cnn_model_find(model, "fc2")];
    ck_assert_double_eq(of[10], 1); /* the first of equal ones is the larger */
    ck_assert_double_eq(of[11], 4.0 / 8);
    ck_assert_double_eq(of[3], 1.0 / 9);
    ck_assert_double_eq(of[40], 0.25 / 9.25);
    ck_assert_double_eq(of[0], 0);
    cnn_scores_free(&scores);
    CHECK_REFUSED(cnn_scores_make(model, CNN_SCORE_CHANNELS, &options, &scores), CNN_ERR_USAGE, "lamp");
    cnn_model_free(model);
}
END_TEST

START_TEST(masks_fall_in_both_directions)
{
    cnn_model *model = make_model(net, 2);
    int64_t units;
    cut(model, "conv2", 3, -1);  /* nothing makes unit 3 of conv2 */
    for (int k = 0; k < 16; k++) /* all that reads unit 5 of conv2 */
        cut(model, "fc1", -1, 5);
    cut(model, "fc2", -1, 7);   /* nothing reads unit 7 of fc1 */
    cut(model, "conv1", 2, -1); /* nothing makes unit 2 of conv1 */
    mask_all(model);
    CHECK_OK(cnn_mask_dead(model, &units));
    ck_assert_int_eq(units, 4);
    const cnn_param *conv2 = weight_of(model, "conv2"), *fc1 = weight_of(model, "fc1");
    for (int64_t i = 0; i < cnn_desc_elements(&conv2->desc); i++) {
        const bool dead = i / 54 == 5 || i / 54 == 3 || i % 6 == 2;
        ck_assert_int_eq(conv2->mask[i], !dead);
        ck_assert(!dead || ((const float *)conv2->data)[i] == 0);
    }
    for (int64_t i = 0; i < cnn_desc_elements(&fc1->desc); i++)
        ck_assert_int_eq(fc1->mask[i], !(i / (fc1->desc.h * fc1->desc.w * 8) == 7 || i % 8 == 3 || i % 8 == 5));
    cnn_model_free(model);
}
END_TEST

START_TEST(one_death_brings_the_next)
{
    cnn_model *model = make_model(net, 3);
    int64_t units;
    for (int c = 1; c < 8; c++) /* unit 0 of fc1 reads unit 0 of conv2 alone ... */
        for (int64_t spot = 0; spot < 25; spot++)
            param_data(model, "fc1", CNN_PARAM_WEIGHT)[spot * 8 + c] = 0;
    cut(model, "conv2", 0, -1); /* ... which nothing makes */
    mask_all(model);
    CHECK_OK(cnn_mask_dead(model, &units));
    ck_assert_int_eq(units, 2);
    for (int k = 0; k < CLASSES; k++)
        ck_assert_int_eq(weight_of(model, "fc2")->mask[k * 16], 0);
    cnn_model_free(model);
}
END_TEST

START_TEST(removing_changes_no_answer)
{
    static float before[IMAGES * CLASSES], after[IMAGES * CLASSES];
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 4);
    int64_t units;
    cut(model, "fc1", 3, -1); /* a constant for fc2, which takes it into its biases */
    param_data(model, "fc1", CNN_PARAM_BIAS)[3] = 0.75f;
    cut(model, "fc1", 4, -1); /* a ReLU makes 0 of it */
    param_data(model, "fc1", CNN_PARAM_BIAS)[4] = -0.75f;
    cut(model, "fc1", -1, 6);   /* nobody reads unit 6 of conv2 */
    cut(model, "conv1", 1, -1); /* conv2 pads: this constant cannot go */
    param_data(model, "conv1", CNN_PARAM_BIAS)[1] = 0.5f;
    infer(model, &data, before);
    CHECK_OK(cnn_remove_dead(model, &units));
    infer(model, &data, after);
    ck_assert_int_eq(units, 3);
    ck_assert_int_eq(param_desc(model, "fc1", CNN_PARAM_WEIGHT)->n, 14);
    ck_assert_int_eq(param_desc(model, "conv2", CNN_PARAM_WEIGHT)->n, 7);
    ck_assert_int_eq(param_desc(model, "conv1", CNN_PARAM_WEIGHT)->n, 6);
    ck_assert_float_lt(largest_difference(before, after), 1e-6f);
    CHECK_OK(cnn_remove_dead(model, &units));
    ck_assert_int_eq(units, 0);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* The average of a constant is the constant, so that it goes into the next biases too. */
START_TEST(a_constant_goes_through_averages)
{
    static float before[IMAGES * CLASSES], after[IMAGES * CLASSES];
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model("image = input(height=12, width=12, channels=1)\n"
                                  "conv1 = conv(image, out=6, kernel=3)\n"
                                  "relu1 = relu(conv1)\n"
                                  "pool1 = avgpool(relu1, kernel=2)\n"
                                  "conv2 = conv(pool1, out=8, kernel=3)\n"
                                  "pool2 = globalavgpool(conv2)\n"
                                  "fc = linear(pool2, out=5)\n",
                                  8);
    int64_t units;
    cut(model, "conv1", 1, -1);
    param_data(model, "conv1", CNN_PARAM_BIAS)[1] = 0.5f;
    cut(model, "conv2", 3, -1);
    param_data(model, "conv2", CNN_PARAM_BIAS)[3] = -0.5f;
    infer(model, &data, before);
    CHECK_OK(cnn_remove_dead(model, &units));
    infer(model, &data, after);
    ck_assert_int_eq(units, 2);
    ck_assert_int_eq(param_desc(model, "fc", CNN_PARAM_WEIGHT)->c, 7);
    ck_assert_int_eq(param_desc(model, "conv2", CNN_PARAM_WEIGHT)->c, 5);
    ck_assert_float_lt(largest_difference(before, after), 1e-6f);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

START_TEST(a_layer_keeps_a_unit)
{
    static float before[IMAGES * CLASSES], after[IMAGES * CLASSES];
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 5);
    int64_t units;
    memset(param_data(model, "fc1", CNN_PARAM_WEIGHT), 0, 16 * 200 * sizeof(float));
    infer(model, &data, before);
    CHECK_OK(cnn_remove_dead(model, &units));
    infer(model, &data, after);
    ck_assert_int_ge(param_desc(model, "fc1", CNN_PARAM_WEIGHT)->n, 1);
    ck_assert_int_ge(param_desc(model, "conv2", CNN_PARAM_WEIGHT)->n, 1);
    ck_assert_int_gt(units, 15);
    ck_assert_float_lt(largest_difference(before, after), 1e-6f);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* No layer of `net`, narrowed to `most` weights, could have `step` channels more. */
static void check_full(const cnn_model *model, int64_t most, int32_t step)
{
    const int64_t conv1 = param_desc(model, "conv1", CNN_PARAM_WEIGHT)->n,
                  conv2 = param_desc(model, "conv2", CNN_PARAM_WEIGHT)->n,
                  fc1 = param_desc(model, "fc1", CNN_PARAM_WEIGHT)->n;
    const int64_t now = 9 * conv1 + 9 * conv1 * conv2 + 25 * conv2 * fc1 + CLASSES * fc1;
    ck_assert_int_le(now, most);
    ck_assert(conv1 == 6 || now + step * (9 + 9 * conv2) > most);
    ck_assert(conv2 == 8 || now + step * (9 * conv1 + 25 * fc1) > most);
    ck_assert(fc1 == 16 || now + step * (25 * conv2 + CLASSES) > most);
}

START_TEST(narrowing_keeps_to_its_budget_and_takes_the_dear_channels)
{
    cnn_model *model = make_model(net, 7), *same, *fours;
    const cnn_prune_options options = {.criterion = CNN_CRITERION_RANDOM, .seed = 1};
    cnn_prune_budget left;
    /* 54 + 432 + 16*25*8 + 80 weights: fc1's are most of them */
    CHECK_OK(cnn_model_clone(model, &same));
    CHECK_OK(cnn_prune_to_budget(model, &(cnn_prune_budget){.weights = 1500}, &options, &left));
    const cnn_tensor_desc *fc1 = param_desc(model, "fc1", CNN_PARAM_WEIGHT);
    ck_assert_int_le(left.weights, 1500);
    ck_assert_int_gt(left.weights, 1500 - 500);
    ck_assert_int_eq(left.macs, cnn_model_macs(model));
    ck_assert_int_le(cnn_desc_elements(fc1), 1400);
    check_full(model, 1500, 1);
    ck_assert_int_eq(param_desc(model, "fc2", CNN_PARAM_WEIGHT)->n, CLASSES);
    ck_assert_int_eq(cnn_model_output(model).c, CLASSES);
    cnn_prune_options even = options;
    even.multiple = 4;
    CHECK_OK(cnn_model_clone(same, &fours));
    CHECK_OK(cnn_prune_to_budget(fours, &(cnn_prune_budget){.weights = 1500}, &even, &left));
    ck_assert_int_le(left.weights, 1500);
    ck_assert_int_eq(param_desc(fours, "fc1", CNN_PARAM_WEIGHT)->n % 4, 0);
    ck_assert_int_lt(param_desc(fours, "fc1", CNN_PARAM_WEIGHT)->n, param_desc(same, "fc1", CNN_PARAM_WEIGHT)->n);
    check_full(fours, 1500, 4);
    cnn_model_free(fours);
    CHECK_OK(cnn_prune_to_budget(same, &(cnn_prune_budget){1 << 20, 1 << 20}, &options, &left)); /* nothing to do */
    ck_assert_int_eq(left.weights, 54 + 432 + 3200 + 80);
    CHECK_OK(cnn_prune_to_budget(same, &(cnn_prune_budget){.weights = 1}, &options, &left)); /* as narrow as it gets */
    ck_assert_int_eq(param_desc(same, "conv1", CNN_PARAM_WEIGHT)->n, 4);
    ck_assert_int_eq(param_desc(same, "fc1", CNN_PARAM_WEIGHT)->n, 4);
    cnn_model_free(same);
    cnn_model_free(model);
}
END_TEST

START_TEST(narrowing_spends_its_budget)
{
    for (int64_t most = 700; most <= 3000; most += 115)
        for (int step = 1; step <= 4; step += 3) {
            const cnn_prune_options options = {
                .criterion = CNN_CRITERION_RANDOM, .seed = (uint64_t)most, .multiple = step};
            cnn_model *model = make_model(net, 7);
            CHECK_OK(cnn_prune_to_budget(model, &(cnn_prune_budget){.weights = most}, &options, NULL));
            check_full(model, most, step);
            cnn_model_free(model);
        }
}
END_TEST

/* fc1 has most weights, conv2 most multiplications: each budget takes of its own, both together of both. */
START_TEST(narrowing_for_macs_takes_channels_of_large_images)
{
    const cnn_prune_options options = {.criterion = CNN_CRITERION_RANDOM, .seed = 1};
    cnn_model *weights = make_model(net, 7), *macs, *both;
    cnn_prune_budget most = {2500, cnn_model_macs(weights) / 2}, left;
    CHECK_OK(cnn_model_clone(weights, &macs));
    CHECK_OK(cnn_model_clone(weights, &both));
    CHECK_OK(cnn_prune_to_budget(weights, &(cnn_prune_budget){.weights = most.weights}, &options, &left));
    ck_assert_int_gt(left.macs, most.macs);
    CHECK_OK(cnn_prune_to_budget(macs, &(cnn_prune_budget){.macs = most.macs}, &options, &left));
    ck_assert_int_le(left.macs, most.macs);
    ck_assert_int_eq(left.macs, cnn_model_macs(macs));
    CHECK_OK(cnn_prune_to_budget(both, &most, &options, &left));
    ck_assert_int_le(left.weights, most.weights);
    ck_assert_int_le(left.macs, most.macs);
    const int32_t narrow =
                      param_desc(macs, "conv1", CNN_PARAM_WEIGHT)->n + param_desc(macs, "conv2", CNN_PARAM_WEIGHT)->n,
                  wide = param_desc(weights, "conv1", CNN_PARAM_WEIGHT)->n +
                         param_desc(weights, "conv2", CNN_PARAM_WEIGHT)->n;
    ck_assert_int_lt(narrow, wide);
    cnn_model_free(both);
    cnn_model_free(macs);
    cnn_model_free(weights);
}
END_TEST

START_TEST(new_batch_norms_change_nothing_and_fold_away)
{
    static float before[IMAGES * CLASSES], with[IMAGES * CLASSES], after[IMAGES * CLASSES];
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 6);
    int added;
    infer(model, &data, before);
    CHECK_OK(cnn_set_bits(model, "4,fc1=2"));
    CHECK_OK(cnn_add_batchnorm(model, false, &data, 1, "ref", &added));
    ck_assert_int_eq(added, 2);
    ck_assert_int_lt(cnn_model_find(model, "bn3"), 0);
    CHECK_OK(cnn_add_batchnorm(model, true, &data, 1, "ref", &added));
    ck_assert_int_eq(added, 1); /* the last layer gets none */
    ck_assert_int_eq(model->nodes[cnn_model_find(model, "fc1")].levels, 1);
    ck_assert_int_eq(model->nodes[cnn_model_find(model, "conv1")].levels, 7);
    ck_assert_int_eq(model->nodes[cnn_model_find(model, "relu1")].input[0], cnn_model_find(model, "bn1"));
    const cnn_node *behind = &model->nodes[model->nodes[cnn_model_find(model, "relu3")].input[0]];
    ck_assert_int_eq(behind->type->id, CNN_LAYER_BN);
    ck_assert_int_eq(behind->input[0], cnn_model_find(model, "fc1"));
    infer(model, &data, with);
    ck_assert_float_lt(largest_difference(before, with), 1e-5f);
    CHECK_OK(cnn_add_batchnorm(model, true, &data, 1, "ref", &added));
    ck_assert_int_eq(added, 0);
    CHECK_OK(cnn_fold_batchnorm(model));
    ck_assert_int_lt(cnn_model_find(model, "bn1"), 0);
    infer(model, &data, after);
    ck_assert_float_lt(largest_difference(before, after), 1e-5f);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

START_TEST(networks_without_convolutions_get_no_batch_norms)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model("image = input(height=12, width=12, channels=1)\n"
                                  "fc1 = linear(image, out=16)\n"
                                  "relu1 = relu(fc1)\n"
                                  "fc2 = linear(relu1, out=5)\n",
                                  6);
    int added = 1;
    CHECK_OK(cnn_add_batchnorm(model, true, &data, 1, "ref", &added));
    ck_assert_int_eq(added, 0);
    ck_assert_int_eq(model->node_count, 4);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dead units");
    TCase *tests = tcase_create("units");
    tcase_add_test(tests, lamp_is_a_share_of_what_is_not_smaller);
    tcase_add_test(tests, masks_fall_in_both_directions);
    tcase_add_test(tests, one_death_brings_the_next);
    tcase_add_test(tests, removing_changes_no_answer);
    tcase_add_test(tests, a_constant_goes_through_averages);
    tcase_add_test(tests, a_layer_keeps_a_unit);
    tcase_add_test(tests, narrowing_keeps_to_its_budget_and_takes_the_dear_channels);
    tcase_add_test(tests, narrowing_spends_its_budget);
    tcase_add_test(tests, narrowing_for_macs_takes_channels_of_large_images);
    tcase_add_test(tests, new_batch_norms_change_nothing_and_fold_away);
    tcase_add_test(tests, networks_without_convolutions_get_no_batch_norms);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
