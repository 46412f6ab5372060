/* Pruning criteria, and channels in several steps. */
#include "tests/network_case.h"

#include "core/session.h"
#include "optimize/score.h"

#include <math.h>

static const char chain[] = "image = input(height=12, width=12, channels=1)\n"
                            "conv1 = conv(image, out=8, kernel=3, pad=1)\n"
                            "relu1 = relu(conv1)\n"
                            "pool1 = maxpool(relu1, kernel=2)\n"
                            "conv2 = conv(pool1, out=8, kernel=3, bias=0)\n"
                            "bn2 = bn(conv2)\n"
                            "relu2 = relu(bn2)\n"
                            "fc1 = linear(relu2, out=8)\n"
                            "relu3 = relu(fc1)\n"
                            "fc2 = linear(relu3, out=10)\n";

static void score(cnn_model *model, cnn_score_unit unit, cnn_criterion criterion, const cnn_dataset *data,
                  uint64_t seed, cnn_scores *scores)
{
    const cnn_prune_options options = {.criterion = criterion, .seed = seed, .data = data, .device = "ref"};
    CHECK_OK(cnn_scores_make(model, unit, &options, scores));
}

static int64_t weight_count(const cnn_model *model, const char *layer)
{
    return cnn_desc_elements(param_desc(model, layer, CNN_PARAM_WEIGHT));
}

/* Row k of conv1 holds `values[k]` in its first `spread[k]` places and 0 behind. */
static void set_rows(cnn_model *model, const float values[8], const int spread[8])
{
    float *weights = param_data(model, "conv1", CNN_PARAM_WEIGHT);
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 9; i++)
            weights[k * 9 + i] = i < spread[k] ? (i % 2 ? -values[k] : values[k]) : 0;
}

START_TEST(test_l1_and_l2)
{
    /* Row 0 is one large weight, row 1 nine small ones: l1 prefers the many, l2 the large. */
    static const float values[8] = {3, 0.5f, 1, 2, 0, 4, 5, 6};
    static const int spread[8] = {1, 9, 4, 9, 9, 9, 9, 9};
    cnn_model *model = make_model(chain, 1);
    cnn_scores l1, l2, weights;
    set_rows(model, values, spread);
    score(model, CNN_SCORE_CHANNELS, CNN_CRITERION_L1, NULL, 1, &l1);
    score(model, CNN_SCORE_CHANNELS, CNN_CRITERION_L2, NULL, 1, &l2);
    score(model, CNN_SCORE_WEIGHTS, CNN_CRITERION_L2, NULL, 1, &weights);
    int node = cnn_model_find(model, "conv1");
    for (int k = 0; k < 8; k++) {
        ck_assert_double_eq(l1.of[node][k], (double)values[k] * spread[k]);
        ck_assert_double_eq_tol(l2.of[node][k], (double)values[k] * sqrt(spread[k]), 1e-12);
        ck_assert_double_eq(weights.of[node][k * 9], (double)values[k]);
    }
    ck_assert(l1.of[node][0] < l1.of[node][1] && l2.of[node][0] > l2.of[node][1]);
    ck_assert_ptr_null(l1.of[0]);
    cnn_scores_free(&l1);
    cnn_scores_free(&l2);
    cnn_scores_free(&weights);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_bn_reads_gamma_and_says_where_it_cannot)
{
    cnn_model *model = make_model(chain, 2), *original;
    static const float gamma[8] = {0.5f, -3, 0.25f, 2, -0.125f, 4, 1, -0.75f};
    static const int kept[4] = {1, 3, 5, 6};
    memcpy(param_data(model, "bn2", CNN_PARAM_GAMMA), gamma, sizeof gamma);
    CHECK_OK(cnn_model_clone(model, &original));
    cnn_prune_result result;
    const cnn_prune_options options = {.ratio = 0.5, .criterion = CNN_CRITERION_BN};
    CHECK_OK(cnn_prune_channels(model, &options, &result));
    for (int k = 0; k < 4; k++)
        ck_assert(param_data(model, "bn2", CNN_PARAM_GAMMA)[k] == gamma[kept[k]]);
    ck_assert_int_eq(result.fallbacks, 2);
    ck_assert_str_eq(result.fallback, "conv1");
    ck_assert_int_eq(result.candidates, 24);
    ck_assert_int_eq(result.removed, 12);

    cnn_scores bn, l2;
    score(original, CNN_SCORE_CHANNELS, CNN_CRITERION_BN, NULL, 1, &bn);
    score(original, CNN_SCORE_CHANNELS, CNN_CRITERION_L2, NULL, 1, &l2);
    int node = cnn_model_find(original, "fc1");
    ck_assert_mem_eq(bn.of[node], l2.of[node], 8 * sizeof(double));
    cnn_scores_free(&bn);
    cnn_scores_free(&l2);
    cnn_model_free(original);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_random_is_a_matter_of_the_seed)
{
    cnn_model *model = make_model(chain, 3);
    for (int unit = CNN_SCORE_CHANNELS; unit <= CNN_SCORE_WEIGHTS; unit++) {
        cnn_scores a, b, c;
        score(model, (cnn_score_unit)unit, CNN_CRITERION_RANDOM, NULL, 1, &a);
        score(model, (cnn_score_unit)unit, CNN_CRITERION_RANDOM, NULL, 1, &b);
        score(model, (cnn_score_unit)unit, CNN_CRITERION_RANDOM, NULL, 2, &c);
        int node = cnn_model_find(model, "conv2");
        ck_assert_mem_eq(a.of[node], b.of[node], 8 * sizeof(double));
        ck_assert_mem_ne(a.of[node], c.of[node], 8 * sizeof(double));
        cnn_scores_free(&a);
        cnn_scores_free(&b);
        cnn_scores_free(&c);
    }
    cnn_model_free(model);
}
END_TEST

/* ---- Taylor ---- */

/* Mean loss of the images that taylor looks at, with batch statistics as in training. */
static double training_loss(cnn_model *model, const cnn_dataset *data)
{
    cnn_session *session;
    cnn_split split;
    float rate = 0, result[2];
    const cnn_session_options options = {.device = "ref", .train = true};
    CHECK_OK(cnn_dataset_split(data, model->split_seed, &split));
    CHECK_OK(cnn_session_open(model, &options, &session));
    CHECK_OK(cnn_session_set_data(session, data));
    CHECK_OK(cnn_session_set_schedule(session, &rate, 1));
    CHECK_OK(cnn_session_backward(session, split.train, split.train_count, result));
    cnn_session_close(session);
    cnn_split_free(&split);
    return (double)result[0];
}

/* dL/dz at z = 1, z being a factor of `count` values at `values` and of *offset (or NULL). */
static double gate_derivative(cnn_model *model, const cnn_dataset *data, float *values, int64_t count, float *offset)
{
    const float step = 0x1p-9f;
    double loss[2];
    float kept[128], kept_offset = offset ? *offset : 0;
    ck_assert_int_le(count, 128);
    memcpy(kept, values, (size_t)count * sizeof *kept);
    for (int side = 0; side < 2; side++) {
        float z = side ? 1 + step : 1 - step;
        for (int64_t i = 0; i < count; i++)
            values[i] = kept[i] * z;
        if (offset)
            *offset = kept_offset * z;
        loss[side] = training_loss(model, data);
    }
    memcpy(values, kept, (size_t)count * sizeof *kept);
    if (offset)
        *offset = kept_offset;
    return (loss[1] - loss[0]) / (2 * (double)step);
}

/* The square roots of scores are |dL/dz|: within 2 % of the largest. */
static void check_scores(const double *scores, const double *derivatives, int count)
{
    double largest = 0;
    for (int k = 0; k < count; k++)
        largest = fmax(largest, fabs(derivatives[k]));
    ck_assert_double_gt(largest, 1e-3);
    for (int k = 0; k < count; k++)
        ck_assert_msg(fabs(sqrt(scores[k]) - fabs(derivatives[k])) < 0.02 * largest, "%d: taylor %g, differences %g", k,
                      sqrt(scores[k]), fabs(derivatives[k]));
}

/* 40 images: 36 to train on, one batch. */
START_TEST(test_taylor_is_what_differences_say)
{
    static const char *const layers[] = {"conv1", "conv2", "fc1"};
    cnn_model *model = make_model(chain, 4);
    cnn_dataset data = make_data(40, 12, 1, 10);
    uint64_t before = fingerprint(model);
    cnn_scores scores;
    score(model, CNN_SCORE_CHANNELS, CNN_CRITERION_TAYLOR, &data, 1, &scores);
    ck_assert_uint_eq(fingerprint(model), before);
    for (int l = 0; l < 3; l++) {
        double derivatives[8];
        int64_t row = weight_count(model, layers[l]) / 8;
        for (int k = 0; k < 8; k++) {
            /* conv2's gate is the batch norm behind it. */
            float *values = l == 1 ? param_data(model, "bn2", CNN_PARAM_GAMMA) + k
                                   : param_data(model, layers[l], CNN_PARAM_WEIGHT) + k * row;
            float *offset = param_data(model, l == 1 ? "bn2" : layers[l], l == 1 ? CNN_PARAM_BETA : CNN_PARAM_BIAS) + k;
            derivatives[k] = gate_derivative(model, &data, values, l == 1 ? 1 : row, offset);
        }
        check_scores(scores.of[cnn_model_find(model, layers[l])], derivatives, 8);
    }
    cnn_scores_free(&scores);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_taylor_of_weights)
{
    cnn_model *model = make_model(chain, 5);
    cnn_dataset data = make_data(40, 12, 1, 10);
    cnn_scores scores;
    double derivatives[20];
    score(model, CNN_SCORE_WEIGHTS, CNN_CRITERION_TAYLOR, &data, 1, &scores);
    for (int i = 0; i < 20; i++)
        derivatives[i] = gate_derivative(model, &data, param_data(model, "fc2", CNN_PARAM_WEIGHT) + i, 1, NULL);
    check_scores(scores.of[cnn_model_find(model, "fc2")], derivatives, 20);
    cnn_scores_free(&scores);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

/* ---- Steps ---- */

/* Several steps end at the widths that one step gives: shares and rounding are of the model before the first. */
START_TEST(test_steps_end_where_one_ends)
{
    static const char *const names[] = {"conv1", "conv2", "fc1", "fc2", "fc3"};
    for (int steps = 2; steps <= 5; steps++) {
        cnn_model *model, *original, *at_once;
        CHECK_OK(cnn_model_create("lenet5", &model));
        cnn_model_init(model, 1);
        CHECK_OK(cnn_model_clone(model, &original));
        CHECK_OK(cnn_model_clone(model, &at_once));
        CHECK_OK(cnn_prune_channels(at_once, &(cnn_prune_options){.ratio = 0.5}, NULL));
        for (int step = 1; step <= steps; step++) {
            const cnn_prune_options options = {
                .ratio = 0.5 * step / steps, .original = original, .on_the_way = step < steps};
            cnn_prune_result result;
            CHECK_OK(cnn_prune_channels(model, &options, &result));
            ck_assert_int_eq(result.candidates, 6 + 16 + 120 + 84);
        }
        for (int l = 0; l < 5; l++)
            ck_assert_int_eq(param_desc(model, names[l], CNN_PARAM_WEIGHT)->n,
                             param_desc(at_once, names[l], CNN_PARAM_WEIGHT)->n);
        cnn_model_free(at_once);
        cnn_model_free(original);
        cnn_model_free(model);
    }
}
END_TEST

START_TEST(test_only_the_last_step_must_remove)
{
    cnn_model *model = make_model(chain, 8);
    cnn_prune_options options = {.ratio = 0.01, .original = model, .on_the_way = true};
    uint64_t before = fingerprint(model);
    CHECK_OK(cnn_prune_channels(model, &options, NULL));
    ck_assert_uint_eq(fingerprint(model), before);
    options.on_the_way = false;
    CHECK_REFUSED(cnn_prune_channels(model, &options, NULL), CNN_ERR_USAGE, "larger share");
    cnn_model_free(model);
}
END_TEST

/* ---- Refusals ---- */

START_TEST(test_criteria_refuse)
{
    cnn_model *model = make_model(chain, 6);
    cnn_scores scores = {0};
    cnn_prune_options options = {.ratio = 0.5, .criterion = CNN_CRITERION_TAYLOR};
    uint64_t before = fingerprint(model);
    CHECK_REFUSED(cnn_prune_channels(model, &options, NULL), CNN_ERR_USAGE, "training images");
    options.criterion = CNN_CRITERION_BN;
    CHECK_REFUSED(cnn_scores_make(model, CNN_SCORE_WEIGHTS, &options, &scores), CNN_ERR_USAGE, "whole channels");
    ck_assert_uint_eq(fingerprint(model), before);
    for (int criterion = CNN_CRITERION_L1; criterion <= CNN_CRITERION_RANDOM; criterion++) {
        options.criterion = (cnn_criterion)criterion;
        param_data(model, "conv2", CNN_PARAM_WEIGHT)[5] = criterion % 2 ? INFINITY : NAN;
        CHECK_REFUSED(cnn_prune_channels(model, &options, NULL), CNN_ERR_NUMERIC, "'conv2'");
    }
    cnn_model_free(model);
}
END_TEST

/* Taylor takes the most allocations: each of them fails in turn. */
START_TEST(test_out_of_memory_changes_nothing)
{
    cnn_model *model = make_model(chain, 7);
    cnn_dataset data = make_data(20, 12, 1, 10);
    const cnn_prune_options options = {.ratio = 0.5, .criterion = CNN_CRITERION_TAYLOR, .data = &data, .device = "ref"};
    case_check_out_of_memory(model, &options, cnn_prune_channels);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

static Suite *prune_suite(void)
{
    Suite *suite = suite_create("prune");
    TCase *criteria = tcase_create("criteria");
    tcase_add_test(criteria, test_l1_and_l2);
    tcase_add_test(criteria, test_bn_reads_gamma_and_says_where_it_cannot);
    tcase_add_test(criteria, test_random_is_a_matter_of_the_seed);
    tcase_add_test(criteria, test_taylor_is_what_differences_say);
    tcase_add_test(criteria, test_taylor_of_weights);
    tcase_add_test(criteria, test_steps_end_where_one_ends);
    tcase_add_test(criteria, test_only_the_last_step_must_remove);
    tcase_add_test(criteria, test_criteria_refuse);
    tcase_add_test(criteria, test_out_of_memory_changes_nothing);
    suite_add_tcase(suite, criteria);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(prune_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
