/* The loss scaler in training: skipped steps, growing, backing off, giving up. */
#include "tests/train_case.h"

#include "core/session.h"
#include "train/scaler.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static cnn_param *find_param(cnn_model *model, const char *node, cnn_param_role role)
{
    return &model->nodes[cnn_model_find(model, node)].param[role];
}

static void scale_weights(cnn_model *model, const char *node, float factor)
{
    cnn_param *weight = find_param(model, node, CNN_PARAM_WEIGHT);
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        ((float *)weight->data)[i] *= factor;
}

static const int32_t batch_index[4][SMALL_BATCH] = {{0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
                                                    {10, 11, 12, 13, 14, 15, 16, 17, 18, 19},
                                                    {20, 21, 22, 23, 24, 25, 26, 27, 28, 29},
                                                    {30, 31, 32, 33, 34, 35, 36, 37, 38, 39}};

static void step(cnn_session *session, int batch)
{
    float result[2];
    case_check(cnn_session_step(session, batch_index[batch], SMALL_BATCH, result));
    ck_assert_msg(isfinite(result[0]), "loss %g", (double)result[0]);
}

static cnn_train_state get_state(cnn_session *session)
{
    cnn_train_state state;
    case_check(cnn_session_get_state(session, &state));
    return state;
}

/* What steps do beside plain SGD. */
static const struct recipe {
    cnn_step_options step;
    float clip_norm;
    int32_t nesterov;
    double ema_decay, beta;
} recipes[] = {
    {.clip_norm = 0},
    {.step = {.label_smoothing = 0.1f, .ema = true}, .clip_norm = 1, .nesterov = 1, .ema_decay = 0.9},
    {.step = {.optimizer = CNN_OPTIMIZER_ADAM}, .clip_norm = 1, .beta = 0.9},
    {.step = {.optimizer = CNN_OPTIMIZER_ADAMW, .ema = true}, .ema_decay = 0.9, .beta = 0.9},
};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

static cnn_session *recipe_session(cnn_model *model, const struct recipe *recipe)
{
    static const float rates[4] = {0.1f, 0.03f, 0.2f, 0.07f};
    cnn_train_state start = case_state(1024, 0);
    start.weight_decay = 1e-3f;
    start.clip_norm = recipe->clip_norm;
    start.nesterov = recipe->nesterov;
    start.ema_decay = recipe->ema_decay;
    start.beta1 = start.beta2 = recipe->beta;
    start.eps = 1e-8;
    return case_session_step(model, CNN_F16, &recipe->step, rates, 4, &start);
}

/* Three steps that overflow: nothing that outlives a step may change. */
static void overflow(cnn_session *session)
{
    cnn_session_memory kept[CNN_SESSION_MAX_KEPT];
    const int count = cnn_session_kept(session, kept);
    void *before[CNN_SESSION_MAX_KEPT];
    ck_assert_int_ge(count, 4);
    for (int i = 0; i < count; i++) {
        before[i] = malloc(kept[i].bytes);
        ck_assert_ptr_nonnull(before[i]);
        memcpy(before[i], kept[i].data, kept[i].bytes);
    }
    cnn_train_state state = get_state(session);
    state.loss_scale = 1e30f;
    case_check(cnn_session_set_state(session, &state));
    for (int i = 0; i < 3; i++)
        step(session, 2);
    for (int i = 0; i < count; i++) {
        ck_assert_msg(memcmp(before[i], kept[i].data, kept[i].bytes) == 0, "%s changed", kept[i].name);
        free(before[i]);
    }
    state = get_state(session);
    ck_assert_int_eq(state.skipped, 3);
    ck_assert_int_eq(state.overflows_in_row, 3);
    ck_assert_int_eq(state.step, 2);
    ck_assert(state.loss_scale == 1e30f);
    ck_assert_ptr_nonnull(cnn_session_segment_layer(session, state.first_overflow));
    state.loss_scale = 1024;
    case_check(cnn_session_set_state(session, &state));
}

/* Steps that overflow leave everything as it was, and training goes on as if they had never been. */
START_TEST(a_skipped_step_changes_nothing)
{
    cnn_model *model = case_model(), *calm = case_model();
    cnn_session *session = recipe_session(model, &recipes[_i]);
    step(session, 0);
    step(session, 1);
    overflow(session);
    step(session, 3);
    ck_assert_int_eq(get_state(session).overflows_in_row, 0);
    case_check(cnn_session_pull(session));
    cnn_session_close(session);

    session = recipe_session(calm, &recipes[_i]);
    step(session, 0);
    step(session, 1);
    step(session, 3);
    case_check(cnn_session_pull(session));
    cnn_session_close(session);
    ck_assert(case_same(model, calm));
    cnn_model_free(model);
    cnn_model_free(calm);
}
END_TEST

START_TEST(scale_grows_after_clean_steps)
{
    const float rate = 0.01f, expected[] = {4, 4, 8, 8, 8, 16, 16, 16, 16};
    cnn_train_state start = case_state(4, 1);
    cnn_model *model = case_model();
    start.growth_interval = 3;
    start.ceiling = 16;
    cnn_session *session = case_session(model, CNN_F16, &rate, 1, &start);
    for (int i = 0; i < 9; i++) {
        step(session, i % 4);
        ck_assert_msg(get_state(session).loss_scale == expected[i], "after step %d: %g", i + 1,
                      (double)get_state(session).loss_scale);
    }
    cnn_train_state state = get_state(session);
    ck_assert_int_eq(state.step, 9);
    ck_assert(state.scale_min == 4 && state.scale_max == 16);
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

START_TEST(scale_backs_off)
{
    record r;
    cnn_train_result result;
    cnn_model *model = case_model();
    cnn_train_options options = case_options(&r);
    options.storage = CNN_F16;
    options.loss_scale = 16777216;
    case_check(cnn_train(model, case_synth, &options, &result));
    ck_assert_int_gt(result.skipped_steps, 0);
    ck_assert_int_lt(result.skipped_steps, 24);
    ck_assert(result.loss_scale_max == 16777216);
    ck_assert(result.loss_scale_min == ldexpf(16777216, -result.skipped_steps));
    ck_assert(r.last.loss_scale == result.loss_scale_min);
    ck_assert_int_eq(r.last.skipped_steps, result.skipped_steps);
    ck_assert_msg(cnn_model_find(model, result.first_overflow) >= 0, "layer '%s'", result.first_overflow);
    ck_assert_msg(result.val_accuracy >= 0.7, "validation accuracy %g", result.val_accuracy);
    cnn_model_free(model);
}
END_TEST

/* Training must stop after `steps` steps with a sentence that names the layer and `words`. Frees the model. */
static void check_stop(cnn_model *model, cnn_train_options *options, const record *r, int steps, const char *layer,
                       const char *words)
{
    ck_assert_int_eq(cnn_train(model, case_synth, options, NULL), CNN_ERR_NUMERIC);
    ck_assert_msg(strstr(cnn_last_error(), layer) == cnn_last_error(), "'%s' does not name '%s'", cnn_last_error(),
                  layer);
    ck_assert_msg(strstr(cnn_last_error(), words) != NULL, "'%s' lacks '%s'", cnn_last_error(), words);
    ck_assert_int_eq(r->last.step, steps - 1); /* the last step is not reported any more */
    cnn_model_free(model);
}

START_TEST(only_overflows_in_a_row_count)
{
    cnn_train_state state = case_state(1, 1);
    cnn_scaler_watch watch = {.scale = 1};
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CNN_SCALER_PATIENCE - 1; i++) {
            state.skipped++;
            ck_assert(cnn_scaler_goes_on(&watch, &state, 2.3));
        }
        state.step++;
        ck_assert(cnn_scaler_goes_on(&watch, &state, 2.3));
    }
}
END_TEST

START_TEST(stops_at_the_floor)
{
    record r;
    cnn_model *model = case_model();
    cnn_train_options options = case_options(&r);
    options.storage = CNN_F16;
    options.loss_scale = 8; /* three steps down to 1, then 20 */
    scale_weights(model, "conv1", 1e5f);
    check_stop(model, &options, &r, 23, "layer conv1:", "--amp=bf16");
}
END_TEST

START_TEST(stops_at_a_fixed_scale)
{
    record r;
    cnn_train_options options = case_options(&r);
    options.storage = CNN_F16;
    options.static_loss_scale = true;
    options.loss_scale = 1e30f;
    check_stop(case_model(), &options, &r, 20, "layer ", "--loss-scale dynamic");
}
END_TEST

START_TEST(stops_when_it_diverges)
{
    record r;
    cnn_train_options options = case_options(&r);
    cnn_model *model = case_model();
    scale_weights(model, "fc1", 3e38f);
    scale_weights(model, "fc1", 3e38f);
    check_stop(model, &options, &r, 1, "layer fc1:", "lower --lr");
    model = case_model();
    options.storage = CNN_BF16;
    scale_weights(model, "fc1", 3e38f);
    scale_weights(model, "fc1", 3e38f);
    check_stop(model, &options, &r, 1, "layer fc1:", "lower --lr");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("scaler");
    TCase *scaler = tcase_create("scaler");
    tcase_add_checked_fixture(scaler, case_set_up, case_tear_down);
    tcase_set_timeout(scaler, 60);
    tcase_add_loop_test(scaler, a_skipped_step_changes_nothing, 0, RECIPES);
    tcase_add_test(scaler, scale_grows_after_clean_steps);
    tcase_add_test(scaler, scale_backs_off);
    tcase_add_test(scaler, only_overflows_in_a_row_count);
    tcase_add_test(scaler, stops_at_the_floor);
    tcase_add_test(scaler, stops_at_a_fixed_scale);
    tcase_add_test(scaler, stops_when_it_diverges);
    suite_add_tcase(suite, scaler);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
