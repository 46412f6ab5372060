/* What training steps do beside plain SGD: averages of the weights, clipping, and how they meet the loss scale. */
#include "tests/train_case.h"

#include "core/session.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 3 };
static const float rate = 0.05f;

static void step(cnn_session *session, int number)
{
    int32_t index[SMALL_BATCH];
    float result[2];
    for (int i = 0; i < SMALL_BATCH; i++)
        index[i] = (number * SMALL_BATCH + i) % SMALL;
    case_check(cnn_session_step(session, index, SMALL_BATCH, result));
}

/* ---- Averages ---- */

/* Moves averages [count] towards values as cnn/ops.h says, in double. */
static void follow(double *averages, const float *values, size_t count, double decay, int updates)
{
    const double warm = (1.0 + updates) / (10.0 + updates), keep = decay < warm ? decay : warm;
    for (size_t i = 0; i < count; i++)
        averages[i] = keep * averages[i] + (1 - keep) * (double)values[i];
}

static double *as_doubles(const float *values, size_t count)
{
    double *copy = calloc(count, sizeof *copy);
    ck_assert_ptr_nonnull(copy);
    for (size_t i = 0; i < count; i++)
        copy[i] = (double)values[i];
    return copy;
}

static void check_averages(const double *want, const float *averages, const float *values, size_t count)
{
    double apart = 0;
    for (size_t i = 0; i < count; i++) {
        ck_assert_msg(fabs((double)averages[i] - want[i]) <= 1e-6 * (1 + fabs(want[i])), "average %zu: %.9g, not %.9g",
                      i, (double)averages[i], want[i]);
        apart += fabs((double)averages[i] - (double)values[i]);
    }
    ck_assert_msg(apart > 0, "the averages are the values themselves");
}

START_TEST(averages_follow_the_weights)
{
    cnn_train_state start = case_state(1, 0);
    const cnn_step_options options = {.ema = true};
    cnn_model *model = case_model();
    start.ema_decay = 0.15; /* the warm-up is below it in the first step only */
    cnn_session *session = case_session_step(model, CNN_F32, &options, &rate, 1, &start);
    const size_t elements = (size_t)cnn_model_segments(model).elements;
    const size_t statistics = (size_t)cnn_model_statistic(model, model->node_count, CNN_PARAM_WEIGHT);
    const float *param = session->memory[CNN_PLACE_PARAM], *running = session->memory[CNN_PLACE_RUNNING];
    const float *param_average = session->memory[CNN_PLACE_EMA];
    const float *running_average = session->memory[CNN_PLACE_EMA_RUNNING];
    double *want = as_doubles(param, elements), *want_running = as_doubles(running, statistics);
    for (int i = 0; i < STEPS; i++) {
        step(session, i);
        follow(want, param, elements, start.ema_decay, i);
        follow(want_running, running, statistics, start.ema_decay, i);
    }
    check_averages(want, param_average, param, elements);
    check_averages(want_running, running_average, running, statistics);
    free(want);
    free(want_running);
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

/* Parameters that a session trains, whatever it hands out. */
static float *trained(const cnn_session *session, size_t *bytes)
{
    *bytes = (size_t)cnn_model_segments(session->model).elements * sizeof(float);
    float *copy = malloc(*bytes);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, session->memory[CNN_PLACE_PARAM], *bytes);
    return copy;
}

START_TEST(averages_do_not_change_training)
{
    size_t bytes;
    float *params[2];
    for (int ema = 0; ema < 2; ema++) {
        cnn_train_state start = case_state(1, 0);
        const cnn_step_options options = {.ema = ema};
        cnn_model *model = case_model();
        int64_t correct;
        start.ema_decay = 0.9;
        cnn_session *session = case_session_step(model, CNN_F32, &options, &rate, 1, &start);
        for (int i = 0; i < STEPS; i++) {
            step(session, i);
            case_check(cnn_session_evaluate(session, &case_small, NULL, SMALL, &correct, NULL));
            case_check(cnn_session_pull(session));
        }
        params[ema] = trained(session, &bytes);
        cnn_session_close(session);
        cnn_model_free(model);
    }
    ck_assert_mem_eq(params[0], params[1], bytes);
    free(params[0]);
    free(params[1]);
}
END_TEST

/* What is validated is what the model holds: an inference session finds the same. */
START_TEST(averages_are_validated_and_handed_out)
{
    record r;
    cnn_split split;
    cnn_session *session;
    int64_t correct;
    double loss;
    cnn_model *averaged = case_model(), *plain = case_model();
    cnn_train_options options = case_options(&r);
    case_check(cnn_train(plain, &case_small, &options, NULL));
    options = case_options(&r);
    options.ema_decay = 0.9;
    case_check(cnn_train(averaged, &case_small, &options, NULL));
    ck_assert_msg(!case_same(averaged, plain), "the model holds no averages");
    const cnn_session_options inference = {.device = "cpu", .batch = SMALL_BATCH};
    case_check(cnn_session_open(averaged, &inference, &session));
    case_check(cnn_dataset_split(&case_small, averaged->split_seed, &split));
    case_check(cnn_session_evaluate(session, &case_small, split.validation, split.validation_count, &correct, &loss));
    ck_assert(loss == r.last.val_loss);
    ck_assert((double)correct == r.last.val_accuracy * split.validation_count);
    cnn_split_free(&split);
    cnn_session_close(session);
    cnn_model_free(averaged);
    cnn_model_free(plain);
}
END_TEST

/* ---- Clipping ---- */

static cnn_session *clipped_session(cnn_model *model, float scale, float clip_norm)
{
    cnn_train_state start = case_state(scale, 0);
    start.clip_norm = clip_norm;
    return case_session(model, CNN_F32, &rate, 1, &start);
}

/* The norm is that of the unscaled gradients: with scales that are powers of two the same bits come out. */
START_TEST(clipping_sees_unscaled_gradients)
{
    size_t bytes;
    float *params[3];
    const struct {
        float scale, clip_norm;
    } runs[] = {{1, 0.25f}, {1024, 0.25f}, {1, 0}};
    for (int run = 0; run < 3; run++) {
        cnn_model *model = case_model();
        cnn_session *session = clipped_session(model, runs[run].scale, runs[run].clip_norm);
        for (int i = 0; i < STEPS; i++)
            step(session, i);
        params[run] = trained(session, &bytes);
        cnn_session_close(session);
        cnn_model_free(model);
    }
    ck_assert_mem_eq(params[0], params[1], bytes);
    ck_assert_mem_ne(params[0], params[2], bytes);
    for (int run = 0; run < 3; run++)
        free(params[run]);
}
END_TEST

/* The first step, from momentum 0, moves the parameters by rate*clip_norm when the gradients are longer than that. */
START_TEST(clipped_steps_have_the_length)
{
    size_t bytes;
    double square = 0;
    cnn_model *model = case_model();
    cnn_session *session = clipped_session(model, 64, 0.125f);
    float *before = trained(session, &bytes);
    step(session, 0);
    float *after = trained(session, &bytes);
    for (size_t i = 0; i < bytes / sizeof *after; i++)
        square += pow((double)after[i] - (double)before[i], 2);
    ck_assert_double_eq_tol(sqrt(square), (double)rate * 0.125, 1e-6);
    free(before);
    free(after);
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recipe");
    TCase *recipe = tcase_create("recipe");
    tcase_add_checked_fixture(recipe, case_set_up, case_tear_down);
    tcase_set_timeout(recipe, 60);
    tcase_add_test(recipe, averages_follow_the_weights);
    tcase_add_test(recipe, averages_do_not_change_training);
    tcase_add_test(recipe, averages_are_validated_and_handed_out);
    tcase_add_test(recipe, clipping_sees_unscaled_gradients);
    tcase_add_test(recipe, clipped_steps_have_the_length);
    suite_add_tcase(suite, recipe);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
