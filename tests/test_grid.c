/* Weights on a grid: the step by least squares, quantization-aware training, and whole numbers that come through
 * folding, INT8 and files as training left them. */
#include "tests/optimize_common.h"
#include "tests/train_case.h"

#include "core/round_scale.h"
#include "optimize/grid.h"

#include <math.h>
#include <unistd.h>

static const char *const layers[] = {"conv1", "fc1"};
enum { LAYERS = 2 };

static cnn_param *weight_of(cnn_model *model, const char *layer)
{
    return &model->nodes[cnn_model_find(model, layer)].param[CNN_PARAM_WEIGHT];
}

static float theta_of(cnn_model *model, const char *layer)
{
    return *param_data(model, layer, CNN_PARAM_STEP);
}

static cnn_train_options adam(double epochs)
{
    cnn_train_options options = case_options(NULL);
    options.optimizer = CNN_OPTIMIZER_ADAM;
    options.learning_rate = 0.004f;
    options.epochs = epochs;
    return options;
}

/* ---- The step ---- */

static double error_of(const float *values, int64_t count, double step, int32_t levels)
{
    double error = 0;
    for (int64_t i = 0; i < count; i++) {
        const double q = fmin(fmax(rint(values[i] / step), -levels), levels);
        error += (values[i] - q * step) * (values[i] - q * step);
    }
    return error;
}

START_TEST(test_the_step_has_the_least_squared_error)
{
    static const int32_t levels[] = {1, 2, 3, 7, 127};
    enum { COUNT = 400 };
    float values[COUNT];
    for (int i = 0; i < COUNT; i++) {
        const double x = (double)cnn_hash_uniform(cnn_hash(3, CNN_PURPOSE_SYNTH, (uint64_t)i, 0)) * 2 - 1;
        values[i] = (float)(x * x * x); /* many small ones */
    }
    const double found = error_of(values, COUNT, (double)cnn_grid_fit(values, COUNT, levels[_i]), levels[_i]);
    double least = INFINITY;
    for (double step = 1.2 / levels[_i]; step > 0.01 / levels[_i]; step *= 0.999)
        least = fmin(least, error_of(values, COUNT, step, levels[_i]));
    const double margin = levels[_i] > 7 ? 1.1 : 1.01; /* many levels have many minima */
    ck_assert_msg(found <= margin * least, "%d levels: error %g, %g is possible", levels[_i], found, least);
}
END_TEST

START_TEST(test_values_on_a_grid_find_it)
{
    const float on[] = {0.3f, -0.1f, 0, 0.2f, 0.1f, -0.3f}, zeros[] = {0, 0, -0.0f}, one[] = {-5e-30f};
    ck_assert_float_eq_tol(cnn_grid_fit(on, 6, 3), 0.1f, 1e-7f);
    ck_assert(cnn_grid_fit(zeros, 3, 7) == 1.0f);
    ck_assert_float_eq_tol(cnn_grid_fit(one, 1, 1) / 5e-30f, 1.0f, 1e-6f);
    ck_assert(isnormal(cnn_grid_fit((const float[]){1e-45f}, 1, 127)));
}
END_TEST

/* ---- Training ---- */

/* Sessions compute with the points alone, and the end of it changes no bit of what the model says. */
START_TEST(test_points_are_what_computes)
{
    cnn_model *model = case_model(), *before;
    CHECK_OK(cnn_model_clone(model, &before));
    CHECK_OK(cnn_qat_begin(model, 1));
    float *on_grid = run_logits(model, "cpu", &case_small, 20), *free_ones = run_logits(before, "cpu", &case_small, 20);
    ck_assert(relative_difference(on_grid, free_ones, 200) > 0.01);
    CHECK_OK(cnn_qat_end(model));
    float *ended = run_logits(model, "cpu", &case_small, 20);
    ck_assert_mem_eq(on_grid, ended, 200 * sizeof *ended);
    float *reference = run_logits(model, "ref", &case_small, 20);
    ck_assert(relative_difference(ended, reference, 200) < 1e-5);
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *weight = weight_of(model, layers[l]);
        const float *values = weight->data;
        for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
            ck_assert(values[i] == 0 || fabsf(values[i]) == weight->grid[0]);
        ck_assert_int_eq(weight->levels, 1);
    }
    free(on_grid);
    free(free_ones);
    free(ended);
    free(reference);
    cnn_model_free(before);
    cnn_model_free(model);
}
END_TEST

static double accuracy_of(cnn_model *model)
{
    cnn_session *session;
    cnn_split split;
    int64_t correct;
    CHECK_OK(cnn_dataset_split(case_synth, model->split_seed, &split));
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "cpu"}, &session));
    CHECK_OK(cnn_session_evaluate(session, case_synth, split.validation, split.validation_count, &correct, NULL));
    const double accuracy = (double)correct / (double)split.validation_count;
    cnn_session_close(session);
    cnn_split_free(&split);
    return accuracy;
}

static const cnn_dtype storages[] = {CNN_F32, CNN_F16, CNN_BF16};

/* Ternary weights that trained on their grid are better than others that were rounded to one; the steps move; what is
 * validated is what comes out. */
START_TEST(test_training_on_a_grid_learns)
{
    cnn_model *model = case_model(), *rounded = case_model();
    record r;
    cnn_train_options options = case_options(&r);
    cnn_train_result result;
    options.epochs = 2;
    options.storage = storages[_i];
    CHECK_OK(cnn_train(rounded, case_synth, &options, &result));
    CHECK_OK(cnn_qat_begin(rounded, 1));
    CHECK_OK(cnn_qat_end(rounded));
    options = case_options(&r);
    options.epochs = 2;
    options.storage = storages[_i];
    options.ema_decay = _i == 2 ? 0.9 : 0;
    CHECK_OK(cnn_qat_begin(model, 1));
    CHECK_OK(cnn_train(model, case_synth, &options, &result));
    for (int l = 0; l < LAYERS; l++)
        ck_assert(fabsf(theta_of(model, layers[l])) > 1e-3f && fabsf(theta_of(model, layers[l])) < 2);
    ck_assert(r.loss[1] < 0.5 * r.loss[0]);
    CHECK_OK(cnn_qat_end(model));
    const double after = accuracy_of(rounded), during = accuracy_of(model);
    /* with averages in the third case, which are better to round */
    ck_assert_msg(during > after + 0.03, "accuracy %g trained, %g rounded", during, after);
    ck_assert(during == result.val_accuracy);
    cnn_model_free(rounded);
    cnn_model_free(model);
}
END_TEST

/* An interrupted run on a grid ends with the same bits; on another grid it is refused. */
START_TEST(test_training_on_a_grid_goes_on)
{
    static const char path[] = "grid.checkpoint";
    cnn_model *whole = case_model(), *model = case_model();
    record r;
    cnn_train_options options = case_options(&r);
    options.epochs = 0.1;
    CHECK_OK(cnn_qat_begin(whole, 3));
    CHECK_OK(cnn_train(whole, case_synth, &options, NULL));
    options.checkpoint = path;
    r.stop_at = 7;
    CHECK_OK(cnn_qat_begin(model, 3));
    ck_assert_int_eq(cnn_train(model, case_synth, &options, NULL), CNN_ERR_CANCELLED);
    options.resume = true;
    r.stop_at = 0;
    cnn_model_free(model);
    model = case_model();
    CHECK_OK(cnn_qat_begin(model, 7));
    CHECK_REFUSED(cnn_train(model, case_synth, &options, NULL), CNN_ERR_SHAPE, "on grids of up to 7 levels");
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_OK(cnn_train(model, case_synth, &options, NULL));
    ck_assert(case_same(model, whole));
    ck_assert(theta_of(model, "fc1") != 0);
    unlink(path);
    cnn_model_free(model);
    cnn_model_free(whole);
}
END_TEST

START_TEST(test_a_frozen_grid_stays)
{
    cnn_model *model = case_model();
    cnn_train_options options = case_options(NULL);
    options.freeze = "conv1";
    options.epochs = 0.1;
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_OK(cnn_train(model, case_synth, &options, NULL));
    ck_assert(theta_of(model, "conv1") == 0);
    ck_assert(theta_of(model, "fc1") != 0);
    cnn_model_free(model);
}
END_TEST

/* ---- Masks, folding, INT8, files ---- */

static int64_t zeros_of(const cnn_param *weight, bool *masked)
{
    int64_t zeros = 0;
    *masked = true;
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++) {
        const bool zero = weight->desc.dtype == CNN_I8 ? ((const int8_t *)weight->data)[i] == 0
                                                       : ((const float *)weight->data)[i] == 0;
        zeros += zero;
        *masked = *masked && (zero || weight->mask[i]);
    }
    return zeros;
}

/* Each pruned weight is 0; of others some may be rounded to it. */
static void check_zeros(cnn_model *model, const int64_t *pruned, bool exactly, const char *when)
{
    for (int l = 0; l < LAYERS; l++) {
        bool masked;
        const int64_t zeros = zeros_of(weight_of(model, layers[l]), &masked);
        ck_assert_msg(masked && (exactly ? zeros == pruned[l] : zeros >= pruned[l]), "%s: %s has %lld zeros, not %lld",
                      when, layers[l], (long long)zeros, (long long)pruned[l]);
    }
}

static cnn_status prune_more(void *context, cnn_model *model, int edit)
{
    const cnn_prune_options options = {.ratio = *(double *)context * (edit + 1) / 3};
    return cnn_prune_weights(model, &options, NULL);
}

/* Prunes while it trains on a grid; notes how many weights are 0. */
static cnn_model *pruned_on_grid(int levels, int64_t *pruned)
{
    cnn_model *model = case_model();
    double ratio = 0.75;
    cnn_train_options options = adam(1);
    bool masked;
    options.edit = prune_more;
    options.edit_context = &ratio;
    options.edits = 3;
    options.edit_span = 0.6;
    CHECK_OK(cnn_qat_begin(model, levels));
    CHECK_OK(cnn_train(model, case_synth, &options, NULL));
    for (int l = 0; l < LAYERS; l++) {
        const int64_t count = cnn_desc_elements(&weight_of(model, layers[l])->desc);
        pruned[l] = zeros_of(weight_of(model, layers[l]), &masked);
        ck_assert_int_eq(pruned[l], (int64_t)floor((double)count * ratio + 0.5));
    }
    return model;
}

/* Whole numbers of a weight on its grid. */
static int number_of(const cnn_param *weight, int64_t i)
{
    const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
    return (int)lrint((double)((const float *)weight->data)[i] / (double)weight->grid[i / row]);
}

START_TEST(test_zeros_and_numbers_come_through)
{
    static const int all_levels[] = {1, 3, 127};
    const int levels = all_levels[_i];
    int64_t pruned[LAYERS];
    cnn_model *model = pruned_on_grid(levels, pruned), *ended, *read;
    check_zeros(model, pruned, true, "training");
    CHECK_OK(cnn_qat_end(model));
    check_zeros(model, pruned, false, "the end of training");
    /* Folding turns signs where gamma is negative. */
    param_data(model, "bn1", CNN_PARAM_GAMMA)[0] *= -1;
    CHECK_OK(cnn_model_clone(model, &ended));
    CHECK_OK(cnn_fold_batchnorm(model));
    check_zeros(model, pruned, false, "folding");

    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MAX;
    options.images = 32;
    options.device = "cpu";
    CHECK_OK(cnn_quantize(model, case_synth, &options, NULL, NULL));
    check_zeros(model, pruned, false, "INT8");
    int most = 0;
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *was = weight_of(ended, layers[l]), *weight = weight_of(model, layers[l]);
        const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
        for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++) {
            const int q = ((const int8_t *)weight->data)[i], sign = l == 0 && i < row ? -1 : 1;
            ck_assert_int_eq(q, sign * number_of(was, i));
            most = abs(q) > most ? abs(q) : most;
        }
    }
    ck_assert_int_le(most, levels);
    ck_assert_int_gt(most, levels / 4);

    CHECK_OK(cnn_model_save(model, "grid.cnn", NULL));
    CHECK_OK(cnn_model_load("grid.cnn", &read));
    check_zeros(read, pruned, false, "reading");
    ck_assert_uint_eq(fingerprint(read), fingerprint(model));
    unlink("grid.cnn");
    cnn_model_free(read);
    cnn_model_free(ended);
    cnn_model_free(model);
}
END_TEST

static bool is_round(float scale)
{
    int number;
    return cnn_round_scale_find(scale, &number);
}

/* Levels of a layer's biases: the largest as a multiple of the power of 2 that divides all. */
static int bias_levels(const cnn_node *node)
{
    const int32_t *bias = node->param[CNN_PARAM_BIAS].data;
    int32_t all = 0, most = 0;
    for (int32_t k = 0; k < node->param[CNN_PARAM_BIAS].desc.c; k++) {
        all |= abs(bias[k]);
        most = abs(bias[k]) > most ? abs(bias[k]) : most;
    }
    return all ? most / (all & -all) : 0;
}

/* Steps that folding made different become round ones nearby, whole numbers stay, and so does the step that a layer
 * has for all channels; compact INT8 has round scales and few levels of biases. */
START_TEST(test_round_steps_and_compact_int8)
{
    cnn_model *model = case_model(), *exact;
    cnn_quantize_options options;
    cnn_train_options training = adam(0.5);
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_OK(cnn_train(model, case_synth, &training, NULL));
    CHECK_OK(cnn_qat_end(model));
    CHECK_OK(cnn_fold_batchnorm(model));
    CHECK_OK(cnn_model_clone(model, &exact));
    CHECK_OK(cnn_qat_round(model));
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *was = weight_of(exact, layers[l]), *weight = weight_of(model, layers[l]);
        for (int32_t k = 0; k < weight->desc.n; k++) {
            ck_assert(l == 0 ? is_round(weight->grid[k]) : weight->grid[k] == was->grid[k]);
            ck_assert_float_eq_tol(weight->grid[k] / was->grid[k], 1, 0.023f); /* 2^(1/32) */
        }
        for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
            ck_assert_int_eq(number_of(weight, i), number_of(was, i));
    }
    cnn_quantize_options_init(&options);
    options.compact = true;
    options.device = "cpu";
    CHECK_OK(cnn_quantize(model, case_synth, &options, NULL, NULL));
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        ck_assert(node->out_scale == 0 || is_round(node->out_scale));
        if (node->param[CNN_PARAM_BIAS].data)
            ck_assert_int_le(bias_levels(node), 32); /* 31.5 rounds up */
    }
    cnn_model_free(exact);
    cnn_model_free(model);
}
END_TEST

/* Removing channels keeps the grid of a layer, and training goes on with it. */
START_TEST(test_channels_leave_a_grid)
{
    cnn_model *model = case_model();
    const cnn_prune_options prune = {.ratio = 0.5};
    cnn_train_options options = adam(0.1);
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_OK(cnn_train(model, case_synth, &options, NULL));
    const float theta = theta_of(model, "fc1"), step = weight_of(model, "fc1")->step;
    CHECK_OK(cnn_prune_channels(model, &prune, NULL));
    ck_assert(theta_of(model, "fc1") == theta && weight_of(model, "fc1")->step == step);
    ck_assert_int_eq(weight_of(model, "conv1")->levels, 3);
    CHECK_OK(cnn_train(model, case_synth, &options, NULL));
    CHECK_OK(cnn_qat_end(model));
    cnn_model_free(model);
}
END_TEST

/* ---- Without training ---- */

START_TEST(test_rounding_keeps_within_levels)
{
    cnn_model *model = case_model(), *eight;
    cnn_quantize_options options;
    CHECK_OK(cnn_fold_batchnorm(model));
    CHECK_OK(cnn_model_clone(model, &eight));
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MAX;
    options.images = 32;
    options.device = "cpu";
    CHECK_OK(cnn_quantize(eight, case_synth, &options, NULL, NULL));
    options.levels = 3;
    cnn_model *whole;
    CHECK_OK(cnn_model_clone(model, &whole));
    CHECK_OK(cnn_quantize(model, case_synth, &options, NULL, NULL));
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *weight = weight_of(model, layers[l]);
        const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
        int most = 0;
        for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
            most = abs(((const int8_t *)weight->data)[i]) > most ? abs(((const int8_t *)weight->data)[i]) : most;
        ck_assert_int_eq(most, 3);
        for (int32_t k = 0; k < weight->desc.n; k++) {
            const float *values = (const float *)weight_of(whole, layers[l])->data + k * row;
            ck_assert(weight->scale[k] == cnn_grid_fit(values, row, 3));
        }
    }
    ck_assert_uint_ne(fingerprint(eight), fingerprint(model));
    cnn_model_free(whole);
    cnn_model_free(eight);
    cnn_model_free(model);
}
END_TEST

/* A bias that a learned step cannot hold makes the step larger, as the specification has it. */
START_TEST(test_a_large_bias_wins)
{
    cnn_model *model = case_model();
    cnn_quantize_options options;
    CHECK_OK(cnn_qat_begin(model, 7));
    CHECK_OK(cnn_qat_end(model));
    CHECK_OK(cnn_fold_batchnorm(model));
    const int64_t row = cnn_desc_elements(&weight_of(model, "conv1")->desc) / weight_of(model, "conv1")->desc.n;
    for (int64_t i = 0; i < row; i++)
        ((float *)weight_of(model, "conv1")->data)[i] *= 0x1p-40f;
    weight_of(model, "conv1")->grid[0] *= 0x1p-40f;
    param_data(model, "conv1", CNN_PARAM_BIAS)[0] = 0.5f;
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MAX;
    options.bias_correction = false;
    options.device = "cpu";
    CHECK_OK(cnn_quantize(model, case_synth, &options, NULL, NULL));
    const float s_in = model->nodes[0].out_scale;
    ck_assert(weight_of(model, "conv1")->scale[0] == 0.5f / (s_in * 0x1p30f));
    const int32_t bias = ((int32_t *)model->nodes[cnn_model_find(model, "conv1")].param[CNN_PARAM_BIAS].data)[0];
    ck_assert_int_le(abs(bias - (1 << 30)), 128); /* but for rounding */
    cnn_model_free(model);
}
END_TEST

/* ---- What is refused ---- */

START_TEST(test_what_does_not_fit_is_refused)
{
    cnn_model *model = case_model();
    cnn_train_options train = case_options(NULL);
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    CHECK_REFUSED(cnn_qat_begin(model, 0), CNN_ERR_USAGE, "0 levels");
    CHECK_REFUSED(cnn_qat_begin(model, 128), CNN_ERR_USAGE, "128 levels");
    options.levels = 128;
    CHECK_REFUSED(cnn_quantize(model, case_synth, &options, NULL, NULL), CNN_ERR_USAGE, "128 levels");
    options.levels = 127;
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_REFUSED(cnn_fold_batchnorm(model), CNN_ERR_UNSUPPORTED, "train on a grid");
    CHECK_OK(cnn_qat_end(model));
    CHECK_REFUSED(cnn_train(model, case_synth, &train, NULL), CNN_ERR_UNSUPPORTED, "a grid of 7 levels");
    CHECK_OK(cnn_fold_batchnorm(model));
    ((float *)weight_of(model, "fc1")->data)[5] += 0.3f * weight_of(model, "fc1")->grid[0];
    CHECK_REFUSED(cnn_quantize(model, case_synth, &options, NULL, NULL), CNN_ERR_NUMERIC, "have left the grid");
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_REFUSED(cnn_quantize(model, case_synth, &options, NULL, NULL), CNN_ERR_UNSUPPORTED, "train on a grid");
    *param_data(model, "fc1", CNN_PARAM_STEP) = 1000;
    CHECK_REFUSED(cnn_qat_end(model), CNN_ERR_NUMERIC, "the step of its weights");
    ((float *)weight_of(model, "fc1")->data)[5] = NAN;
    CHECK_REFUSED(cnn_qat_begin(model, 3), CNN_ERR_NUMERIC, "value 5 of its weight is not a finite number");
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("grid");
    TCase *tests = tcase_create("grid");
    tcase_add_unchecked_fixture(tests, case_set_up, case_tear_down);
    tcase_add_loop_test(tests, test_the_step_has_the_least_squared_error, 0, 5);
    tcase_add_test(tests, test_values_on_a_grid_find_it);
    tcase_add_test(tests, test_points_are_what_computes);
    tcase_add_loop_test(tests, test_training_on_a_grid_learns, 0, 3);
    tcase_add_test(tests, test_training_on_a_grid_goes_on);
    tcase_add_test(tests, test_a_frozen_grid_stays);
    tcase_add_loop_test(tests, test_zeros_and_numbers_come_through, 0, 3);
    tcase_add_test(tests, test_round_steps_and_compact_int8);
    tcase_add_test(tests, test_channels_leave_a_grid);
    tcase_add_test(tests, test_rounding_keeps_within_levels);
    tcase_add_test(tests, test_a_large_bias_wins);
    tcase_add_test(tests, test_what_does_not_fit_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
