/* Sensitivity: one layer changes and no other, the figures are those of the logits, and what cannot be pruned says so.
 * Also the histograms of weights that stand beside them. */
#include "tests/optimize_common.h"

#include "optimize/grid.h"
#include "optimize/histogram.h"
#include "optimize/sensitivity.h"

#include <math.h>

enum { SIDE = 12, IMAGES = 60, CLASSES = 5, TRIALS = 4 };

static const char net[] = "image = input(height=12, width=12, channels=1)\n"
                          "conv1 = conv(image, out=16, kernel=3, pad=1, bias=0)\n"
                          "bn1 = bn(conv1)\n"
                          "relu1 = relu(bn1)\n"
                          "conv2 = conv(relu1, out=16, kernel=3, pad=1)\n"
                          "sum = add(conv2, relu1)\n"
                          "relu2 = relu(sum)\n"
                          "pool2 = maxpool(relu2, kernel=2)\n"
                          "fc1 = linear(pool2, out=32)\n"
                          "relu3 = relu(fc1)\n"
                          "fc2 = linear(relu3, out=5)\n";

static cnn_dataset data;
static cnn_model *model;
static int32_t index_of_images[IMAGES];

static void setup(void)
{
    data = make_data(100, SIDE, 1, CLASSES);
    model = make_model(net, 3);
    for (int32_t i = 0; i < IMAGES; i++)
        index_of_images[i] = 99 - i;
}

static void teardown(void)
{
    cnn_model_free(model);
    free_data(&data);
}

/* Logits of the images that are tried, by the public functions; free() them. */
static float *logits_of(cnn_model *of)
{
    cnn_session *session;
    float *logits = malloc(IMAGES * CLASSES * sizeof *logits);
    CHECK_OK(cnn_session_open(of, &(cnn_session_options){0}, &session));
    for (int i = 0; i < IMAGES; i++)
        CHECK_OK(cnn_session_infer(session, data.images + index_of_images[i] * SIDE * SIDE, 1, logits + i * CLASSES));
    cnn_session_close(session);
    return logits;
}

static int best_of(const float *logits)
{
    int best = 0;
    for (int k = 1; k < CLASSES; k++)
        best = logits[k] > logits[best] ? k : best;
    return best;
}

/* What an effect is to be when `changed` stands in the model's place. */
static cnn_effect expected(cnn_model *changed)
{
    float *x = logits_of(model), *y = logits_of(changed);
    cnn_effect effect = {.applies = true};
    double error = 0, signal = 0;
    for (int i = 0; i < IMAGES; i++) {
        const float *before = x + i * CLASSES, *after = y + i * CLASSES;
        effect.right += best_of(after) == data.labels[index_of_images[i]];
        effect.changed += best_of(after) != best_of(before);
        for (int k = 0; k < CLASSES; k++) {
            error += ((double)after[k] - before[k]) * ((double)after[k] - before[k]);
            signal += (double)before[k] * before[k];
        }
    }
    effect.logit_error = sqrt(error / signal);
    free(x);
    free(y);
    return effect;
}

static void check_effect(const cnn_effect *effect, cnn_model *changed)
{
    const cnn_effect right = expected(changed);
    ck_assert(effect->applies);
    ck_assert_int_eq(effect->right, right.right);
    ck_assert_int_eq(effect->changed, right.changed);
    ck_assert_double_eq_tol(effect->logit_error, right.logit_error, 1e-5);
    cnn_model_free(changed);
}

static cnn_model *copy_of_model(void)
{
    cnn_model *copy;
    CHECK_OK(cnn_model_clone(model, &copy));
    return copy;
}

static cnn_model *pruned(cnn_status (*prune)(cnn_model *, const cnn_prune_options *, cnn_prune_result *),
                         const char *only)
{
    cnn_model *copy = copy_of_model();
    CHECK_OK(prune(copy, &(cnn_prune_options){.ratio = 0.5, .only = only}, NULL));
    return copy;
}

static const cnn_trial trials[TRIALS] = {{.bits = 3},
                                         {.prune = cnn_prune_channels, .pruning = {.ratio = 0.5}},
                                         {.prune = cnn_prune_weights, .pruning = {.ratio = 0.5}},
                                         {.prune = cnn_prune_blocks, .pruning = {.ratio = 0.5}}};

static cnn_effect *scan(int32_t *right)
{
    cnn_effect *effects = calloc((size_t)model->node_count * TRIALS, sizeof *effects);
    const cnn_image_list images = {&data, index_of_images, IMAGES};
    CHECK_OK(cnn_sensitivity(model, &images, trials, TRIALS, NULL, NULL, NULL, effects, right));
    return effects;
}

static const cnn_effect *effect_of(const cnn_effect *effects, const char *layer, int trial)
{
    return &effects[cnn_model_find(model, layer) * TRIALS + trial];
}

START_TEST(effects_are_those_of_the_changed_layer)
{
    const uint64_t before = fingerprint(model);
    int32_t right = -1;
    cnn_effect *effects = scan(&right);
    ck_assert_uint_eq(fingerprint(model), before);
    cnn_model *rounded = copy_of_model();
    ck_assert_int_eq(right, expected(rounded).right);
    cnn_weights_round(&rounded->nodes[cnn_model_find(model, "fc1")].param[CNN_PARAM_WEIGHT], 3);
    check_effect(effect_of(effects, "fc1", 0), rounded);
    check_effect(effect_of(effects, "fc1", 1), pruned(cnn_prune_channels, "fc1"));
    check_effect(effect_of(effects, "conv2", 2), pruned(cnn_prune_weights, "conv2"));
    check_effect(effect_of(effects, "fc2", 2), pruned(cnn_prune_weights, "fc2"));
    check_effect(effect_of(effects, "conv2", 3), pruned(cnn_prune_blocks, "conv2"));
    free(effects);
}
END_TEST

START_TEST(what_cannot_be_pruned_does_not_apply)
{
    int32_t right;
    cnn_effect *effects = scan(&right);
    ck_assert(!effect_of(effects, "fc2", 1)->applies);   /* its channels are the classes */
    ck_assert(!effect_of(effects, "conv1", 3)->applies); /* narrower than a block */
    ck_assert(!effect_of(effects, "relu1", 0)->applies);
    ck_assert(effect_of(effects, "conv1", 2)->applies);
    free(effects);
}
END_TEST

START_TEST(only_leaves_the_others_whole)
{
    cnn_model *channels = pruned(cnn_prune_channels, "fc1"), *tied = pruned(cnn_prune_channels, "conv1");
    ck_assert_int_eq(param_desc(channels, "fc1", CNN_PARAM_WEIGHT)->n, 16);
    ck_assert_int_eq(param_desc(channels, "conv1", CNN_PARAM_WEIGHT)->n, 16);
    ck_assert_int_eq(param_desc(channels, "fc2", CNN_PARAM_WEIGHT)->c, 16);
    ck_assert_int_eq(param_desc(tied, "conv1", CNN_PARAM_WEIGHT)->n, 8);
    ck_assert_int_eq(param_desc(tied, "conv2", CNN_PARAM_WEIGHT)->n, 8); /* they are added */
    ck_assert_int_eq(param_desc(tied, "fc1", CNN_PARAM_WEIGHT)->n, 32);
    cnn_model *weights = pruned(cnn_prune_weights, "fc1");
    for (int i = 0; i < model->node_count; i++)
        ck_assert((weights->nodes[i].param[CNN_PARAM_WEIGHT].mask != NULL) ==
                  (strcmp(model->nodes[i].name, "fc1") == 0));
    cnn_model_free(channels);
    cnn_model_free(tied);
    cnn_model_free(weights);
}
END_TEST

/* 8 bits keep the largest weight; fewer have the step of least squared error. */
START_TEST(rounding_is_that_of_quantization)
{
    const cnn_param *exact = &model->nodes[cnn_model_find(model, "fc1")].param[CNN_PARAM_WEIGHT];
    const int64_t count = cnn_desc_elements(&exact->desc) / exact->desc.n;
    for (int bits = 2; bits <= 8; bits += 3) {
        cnn_model *rounded = copy_of_model();
        cnn_param *weight = &rounded->nodes[cnn_model_find(model, "fc1")].param[CNN_PARAM_WEIGHT];
        const int levels = (1 << (bits - 1)) - 1;
        cnn_weights_round(weight, bits);
        for (int32_t k = 0; k < weight->desc.n; k++) {
            const float *w = (const float *)exact->data + k * count, *r = (const float *)weight->data + k * count;
            float largest = 0;
            for (int64_t i = 0; i < count; i++)
                largest = fmaxf(largest, fabsf(w[i]));
            const float step = bits == 8 ? largest / 127 : cnn_grid_fit(w, count, levels);
            for (int64_t i = 0; i < count; i++) {
                const float q = r[i] / step, wanted = fmaxf(fminf(rintf(w[i] / step), (float)levels), -(float)levels);
                ck_assert_float_eq_tol(q, wanted, 1e-4f);
            }
        }
        cnn_model_free(rounded);
    }
}
END_TEST

START_TEST(images_are_drawn_from_those_held_out)
{
    cnn_split split = {0};
    int32_t *some, *again, *others, *all, count;
    CHECK_OK(cnn_dataset_split(&data, 1, &split));
    CHECK_OK(cnn_sensitivity_pick(&split, 4, 7, &some, &count));
    ck_assert_int_eq(count, 4);
    CHECK_OK(cnn_sensitivity_pick(&split, 4, 7, &again, &count));
    ck_assert_mem_eq(some, again, 4 * sizeof *some);
    CHECK_OK(cnn_sensitivity_pick(&split, 4, 8, &others, &count));
    ck_assert_mem_ne(some, others, 4 * sizeof *some);
    CHECK_OK(cnn_sensitivity_pick(&split, 1000, 7, &all, &count));
    ck_assert_int_eq(count, split.validation_count);
    ck_assert_mem_eq(all, split.validation, (size_t)count * sizeof *all);
    for (int i = 0; i < 4; i++) {
        bool held_out = false;
        for (int32_t j = 0; j < split.validation_count; j++)
            held_out |= split.validation[j] == some[i];
        ck_assert(held_out && (i == 0 || some[i - 1] < some[i]));
    }
    free(some);
    free(again);
    free(others);
    free(all);
    cnn_split_free(&split);
}
END_TEST

START_TEST(histograms_count_every_weight_once)
{
    float values[2 * 6] = {0, -1, 1, 0.5f, -0.26f, 9, 0, 0, 0.02f, -0.02f, 0.03f, -9};
    cnn_param weight = {.desc = cnn_desc(CNN_F32, 2, 1, 1, 6), .data = values};
    cnn_histogram histogram;
    cnn_histogram_make(&weight, 1, &histogram);
    int64_t sum = histogram.zeros;
    for (int b = 0; b < CNN_HISTOGRAM_BINS; b++)
        sum += histogram.bin[b];
    ck_assert_int_eq(sum, 12);
    ck_assert_int_eq(histogram.zeros, 3);
    ck_assert_int_eq(histogram.bin[0], 2); /* -1, and -9 from beyond */
    ck_assert_int_eq(histogram.bin[40], 2);
    ck_assert_int_eq(histogram.bin[30], 1);
    ck_assert_int_eq(histogram.bin[15], 1); /* -0.26 is nearest to -0.25 */
    ck_assert_int_eq(histogram.bin[20], 2);
    ck_assert_int_eq(histogram.bin[21], 1);
    ck_assert_double_eq(histogram.largest, 9);
}
END_TEST

START_TEST(histograms_of_int8_are_of_the_numbers_meant)
{
    int8_t q[2 * 2] = {127, -64, 127, 0};
    float scale[2] = {1.0f / 127, 2.0f / 127};
    cnn_param weight = {.desc = cnn_desc(CNN_I8, 2, 1, 1, 2), .data = q, .scale = scale};
    cnn_histogram histogram;
    cnn_histogram_make(&weight, 2, &histogram);
    ck_assert_int_eq(histogram.zeros, 1);
    ck_assert_int_eq(histogram.bin[40], 1); /* 127 * 2/127 */
    ck_assert_int_eq(histogram.bin[30], 1); /* 127 * 1/127 */
    ck_assert_int_eq(histogram.bin[15], 1); /* -64/127 */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sensitivity");
    TCase *tests = tcase_create("sensitivity");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, effects_are_those_of_the_changed_layer);
    tcase_add_test(tests, what_cannot_be_pruned_does_not_apply);
    tcase_add_test(tests, only_leaves_the_others_whole);
    tcase_add_test(tests, rounding_is_that_of_quantization);
    tcase_add_test(tests, images_are_drawn_from_those_held_out);
    tcase_add_test(tests, histograms_count_every_weight_once);
    tcase_add_test(tests, histograms_of_int8_are_of_the_numbers_meant);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
