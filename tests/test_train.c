/* The training loop: order of images, schedules, batches, epochs, stops. On "synth", with a small network. */
#include "tests/train_case.h"

#include "core/memory.h"
#include "core/pool.h"
#include "train/order.h"
#include "train/schedule.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Order and schedule ---- */

static int compare_int32(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

START_TEST(order_is_a_permutation_of_each_epoch)
{
    enum { COUNT = 1000 };
    int32_t images[COUNT], reversed[COUNT], first[COUNT], again[COUNT], second[COUNT], other[COUNT];
    cnn_order_key keys[COUNT];
    for (int i = 0; i < COUNT; i++) {
        images[i] = 3 * i;
        reversed[COUNT - 1 - i] = 3 * i;
    }
    cnn_order_epoch(1, 1, images, COUNT, keys, first);
    cnn_order_epoch(1, 1, reversed, COUNT, keys, again);
    cnn_order_epoch(1, 2, images, COUNT, keys, second);
    cnn_order_epoch(2, 1, images, COUNT, keys, other);
    ck_assert_mem_eq(first, again, sizeof first);
    ck_assert_mem_ne(first, images, sizeof first);
    ck_assert_mem_ne(first, second, sizeof first);
    ck_assert_mem_ne(first, other, sizeof first);
    qsort(second, COUNT, sizeof *second, compare_int32);
    ck_assert_mem_eq(second, images, sizeof second);
}
END_TEST

enum { UPDATES = 1000, EPOCH = 100 };
static const double pi = 3.14159265358979323846;

/* Rates of a run of UPDATES updates at 0.25; returns how many. */
static int32_t fill_rates(cnn_schedule kind, double warmup, float *rates)
{
    cnn_train_options options;
    cnn_train_options_init(&options);
    options.schedule = kind;
    options.learning_rate = 0.25f;
    options.warmup = warmup;
    options.lr_step = 2.5;
    options.lr_gamma = 0.5f;
    const cnn_schedule_plan plan = cnn_schedule_plan_make(&options, UPDATES, EPOCH);
    cnn_schedule_fill(&plan, rates);
    return cnn_schedule_length(&plan);
}

static void check_rate(const float *rates, int32_t t, double expected)
{
    ck_assert_msg(fabs((double)rates[t] - expected) <= 1e-7 * expected, "update %d: %.9g, not %.9g", t,
                  (double)rates[t], expected);
}

START_TEST(constant_schedule)
{
    float rates[UPDATES];
    ck_assert_int_eq(fill_rates(CNN_SCHEDULE_CONSTANT, -1, rates), 1);
    ck_assert(rates[0] == 0.25f);
    ck_assert_int_eq(fill_rates(CNN_SCHEDULE_CONSTANT, 1.5, rates), 151);
    for (int32_t t = 0; t < 150; t++)
        check_rate(rates, t, 0.25 * (t + 1) / 151);
    ck_assert(rates[150] == 0.25f);
}
END_TEST

START_TEST(cosine_schedule)
{
    float rates[UPDATES];
    ck_assert_int_eq(fill_rates(CNN_SCHEDULE_COSINE, -1, rates), UPDATES);
    ck_assert(rates[0] == 0.25f);
    ck_assert(rates[UPDATES / 2] == 0.125f);
    for (int32_t t = 0; t < UPDATES; t++)
        check_rate(rates, t, 0.125 * (1 + cos(pi * t / UPDATES)));
    ck_assert_int_eq(fill_rates(CNN_SCHEDULE_COSINE, 2, rates), UPDATES);
    for (int32_t t = 0; t < UPDATES; t++)
        check_rate(rates, t, t < 200 ? 0.25 * (t + 1) / 201 : 0.125 * (1 + cos(pi * (t - 200) / (UPDATES - 200))));
}
END_TEST

START_TEST(step_schedule)
{
    float rates[UPDATES];
    ck_assert_int_eq(fill_rates(CNN_SCHEDULE_STEP, -1, rates), UPDATES);
    for (int32_t t = 0; t < UPDATES; t++)
        ck_assert_msg(rates[t] == ldexpf(0.25f, -(t / 250)), "update %d: %g", t, (double)rates[t]);
    fill_rates(CNN_SCHEDULE_STEP, 3, rates); /* the first drop lies within the warm-up */
    check_rate(rates, 249, 0.25 * 250 / 301);
    check_rate(rates, 299, 0.125 * 300 / 301);
    ck_assert(rates[300] == 0.125f && rates[UPDATES - 1] == 0.03125f);
}
END_TEST

START_TEST(one_cycle_schedule)
{
    float rates[UPDATES];
    ck_assert_int_eq(fill_rates(CNN_SCHEDULE_ONE_CYCLE, -1, rates), UPDATES);
    for (int32_t t = 0; t < 300; t++)
        check_rate(rates, t, 0.25 * (0.04 + 0.96 * t / 300));
    for (int32_t t = 300; t < UPDATES; t++)
        check_rate(rates, t, 0.25 * (1e-4 + (1 - 1e-4) * 0.5 * (1 + cos(pi * (t - 300) / (UPDATES - 301)))));
    ck_assert(rates[300] == 0.25f);
    check_rate(rates, UPDATES - 1, 0.25e-4);
    fill_rates(CNN_SCHEDULE_ONE_CYCLE, 1, rates);
    ck_assert(rates[100] == 0.25f);
    check_rate(rates, 99, 0.25 * (0.04 + 0.96 * 99 / 100));
    fill_rates(CNN_SCHEDULE_ONE_CYCLE, 0, rates);
    ck_assert(rates[0] == 0.25f);
}
END_TEST

/* Every schedule makes sense in a run of one update, and where the warm-up rounds to the whole run. */
START_TEST(shortest_schedules)
{
    for (int kind = 0; kind < CNN_SCHEDULE_COUNT; kind++) {
        float rates[2];
        cnn_train_options options;
        cnn_train_options_init(&options);
        options.schedule = (cnn_schedule)kind;
        options.learning_rate = 0.25f;
        for (int32_t updates = 1; updates <= 2; updates++) {
            options.warmup = 0.99;
            const cnn_schedule_plan plan = cnn_schedule_plan_make(&options, updates, 2);
            ck_assert_int_le(cnn_schedule_length(&plan), updates);
            cnn_schedule_fill(&plan, rates);
            ck_assert_msg(rates[updates - 1] == 0.25f, "%s, %d updates: %g", cnn_schedule_names[kind], updates,
                          (double)rates[updates - 1]);
        }
    }
    ck_assert_ptr_null(cnn_schedule_names[CNN_SCHEDULE_COUNT]);
}
END_TEST

/* ---- The loop ---- */

static void check_learning(cnn_dtype storage)
{
    record r;
    cnn_train_result result;
    cnn_model *model = case_model();
    cnn_train_options options = case_options(&r);
    options.epochs = 3;
    options.storage = storage;
    case_check(cnn_train(model, case_synth, &options, &result));
    ck_assert_int_eq(r.epochs, 3);
    ck_assert_msg(r.loss[0] > r.loss[1] && r.loss[1] > r.loss[2], "%s: losses %g, %g, %g", cnn_dtype_name(storage),
                  r.loss[0], r.loss[1], r.loss[2]);
    ck_assert_msg(result.val_accuracy >= 0.9, "%s: validation accuracy %g", cnn_dtype_name(storage),
                  result.val_accuracy);
    ck_assert(result.loss == r.loss[2]);
    ck_assert_int_eq(result.images, 3 * 3600);
    ck_assert_int_eq(result.skipped_steps, 0);
    ck_assert_int_eq(cnn_model_dataset(model), CNN_DATASET_SYNTH);
    cnn_model_free(model);
}

START_TEST(learns_in_f32)
{
    check_learning(CNN_F32);
}
END_TEST

START_TEST(learns_in_f16)
{
    check_learning(CNN_F16);
}
END_TEST

START_TEST(learns_in_bf16)
{
    check_learning(CNN_BF16);
}
END_TEST

static void check_threads(cnn_dtype storage)
{
    cnn_model *one = case_model(), *two = case_model();
    cnn_train_options options = case_options(NULL);
    options.epochs = 0.3;
    options.storage = storage;
    case_check(cnn_set_threads(1));
    case_check(cnn_train(one, case_synth, &options, NULL));
    case_check(cnn_set_threads(2));
    case_check(cnn_train(two, case_synth, &options, NULL));
    ck_assert(case_same(one, two));
    options.seed = 2;
    cnn_model_init(two, 1);
    case_check(cnn_train(two, case_synth, &options, NULL));
    ck_assert_msg(!case_same(one, two), "another seed gave the same parameters");
    cnn_model_free(one);
    cnn_model_free(two);
}

START_TEST(threads_do_not_change_f32)
{
    check_threads(CNN_F32);
}
END_TEST

START_TEST(threads_do_not_change_f16)
{
    check_threads(CNN_F16);
}
END_TEST

/* Two epochs by hand, every step of them: cnn_train must do the same. */
START_TEST(trains_each_batch_of_each_epoch)
{
    float rates[6];
    int32_t order[SMALL];
    cnn_order_key keys[SMALL];
    cnn_split split;
    record r;
    cnn_model *by_hand = case_model(), *by_loop = case_model();
    case_check(cnn_dataset_split(&case_small, by_hand->split_seed, &split));
    ck_assert_int_eq(split.train_count, SMALL_TRAIN);
    const cnn_schedule_plan plan = {.kind = CNN_SCHEDULE_COSINE, .rate = 0.02f, .updates = 6};
    cnn_schedule_fill(&plan, rates);
    const cnn_train_state state = case_state(1, 0);
    cnn_session *session = case_session(by_hand, CNN_F32, rates, 6, &state);
    for (int epoch = 1; epoch <= 2; epoch++) {
        float result[2];
        cnn_order_epoch(1, epoch, split.train, split.train_count, keys, order);
        case_check(cnn_session_step(session, order, 32, result));
        case_check(cnn_session_step(session, order + 32, 32, result));
        case_check(cnn_session_step(session, order + 64, 26, result));
    }
    case_check(cnn_session_pull(session));
    cnn_session_close(session);
    cnn_split_free(&split);
    cnn_train_options options = case_options(&r);
    options.epochs = 2;
    options.schedule = CNN_SCHEDULE_COSINE;
    case_check(cnn_train(by_loop, &case_small, &options, NULL));
    ck_assert(case_same(by_hand, by_loop));
    ck_assert_int_eq(r.last.step, 6);
    ck_assert_int_eq(r.last.steps, 6);
    ck_assert_int_eq(r.last.images, 2 * SMALL_TRAIN);
    ck_assert_int_eq(r.calls, 1 + 6 + 2);
    cnn_model_free(by_hand);
    cnn_model_free(by_loop);
}
END_TEST

START_TEST(all_images_are_those_held_out_as_well)
{
    record r;
    cnn_model *some = case_model(), *all = case_model();
    cnn_train_options options = case_options(&r);
    options.epochs = 2;
    case_check(cnn_train(some, &case_small, &options, NULL));
    options.all_images = true;
    case_check(cnn_train(all, &case_small, &options, NULL));
    ck_assert_int_eq(r.last.images, 2 * SMALL);
    ck_assert(!case_same(some, all));
    cnn_model_free(some);
    cnn_model_free(all);
}
END_TEST

START_TEST(epochs_may_be_fractions)
{
    const struct {
        double epochs;
        int images, steps, epoch_lines;
    } cases[] = {{0.5, 45, 2, 1}, {1.5, 135, 5, 2}, {1, 90, 3, 1}, {1e-9, 1, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        record r;
        cnn_train_result result;
        cnn_model *model = case_model();
        cnn_train_options options = case_options(&r);
        options.epochs = cases[i].epochs;
        case_check(cnn_train(model, &case_small, &options, &result));
        ck_assert_int_eq(result.images, cases[i].images);
        ck_assert_int_eq(r.last.images_in_all, cases[i].images);
        ck_assert_int_eq(r.last.step, cases[i].steps);
        ck_assert_int_eq(r.last.steps, cases[i].steps);
        ck_assert_int_eq(r.epochs, cases[i].epoch_lines);
        ck_assert(fabs(result.epochs - cases[i].images / 90.0) < 1e-12);
        cnn_model_free(model);
    }
}
END_TEST

START_TEST(stops_when_asked)
{
    record r;
    cnn_train_result result;
    cnn_model *model = case_model(), *fresh = case_model();
    cnn_train_options options = case_options(&r);
    r.stop_at = 2;
    ck_assert_int_eq(cnn_train(model, &case_small, &options, &result), CNN_ERR_CANCELLED);
    ck_assert_int_eq(result.images, 64);
    ck_assert_int_eq(r.calls, 3);
    ck_assert_msg(!case_same(model, fresh), "the model does not hold what was trained");
    cnn_model_free(model);
    cnn_model_free(fresh);
}
END_TEST

START_TEST(epoch_end_holds_the_parameters)
{
    record r;
    cnn_model *stopped = case_model(), *whole = case_model();
    cnn_train_options options = case_options(&r);
    case_check(cnn_train(whole, &case_small, &options, NULL));
    options.epochs = 5;
    r.stop_at = 3; /* both the third step and the end of the epoch have this number; the step comes first */
    ck_assert_int_eq(cnn_train(stopped, &case_small, &options, NULL), CNN_ERR_CANCELLED);
    ck_assert(case_same(stopped, whole));
    cnn_model_free(stopped);
    cnn_model_free(whole);
}
END_TEST

static void refuse(const cnn_train_options *options, cnn_status expected, const char *words)
{
    cnn_model *model = case_model(), *fresh = case_model();
    ck_assert_int_eq(cnn_train(model, &case_small, options, NULL), expected);
    ck_assert_msg(strstr(cnn_last_error(), words) != NULL, "'%s' lacks '%s'", cnn_last_error(), words);
    ck_assert(case_same(model, fresh));
    cnn_model_free(model);
    cnn_model_free(fresh);
}

START_TEST(refuses_bad_options)
{
    const cnn_train_options good = case_options(NULL);
    cnn_train_options bad = good;
    bad.batch = 0;
    refuse(&bad, CNN_ERR_USAGE, "batch 0");
    bad = good;
    bad.epochs = NAN;
    refuse(&bad, CNN_ERR_USAGE, "epochs");
    bad.epochs = 1e30;
    refuse(&bad, CNN_ERR_USAGE, "epochs");
    bad = good;
    bad.learning_rate = -0.1f;
    refuse(&bad, CNN_ERR_USAGE, "learning rate");
    bad = good;
    bad.momentum = 1;
    refuse(&bad, CNN_ERR_USAGE, "momentum");
    bad.momentum = 0;
    bad.nesterov = true;
    refuse(&bad, CNN_ERR_USAGE, "Nesterov");
    bad = good;
    bad.clip_norm = -1;
    refuse(&bad, CNN_ERR_USAGE, "norm of -1");
    bad = good;
    bad.label_smoothing = 1;
    refuse(&bad, CNN_ERR_USAGE, "label smoothing");
    bad = good;
    bad.ema_decay = 1;
    refuse(&bad, CNN_ERR_USAGE, "average");
    bad = good;
    bad.optimizer = CNN_OPTIMIZER_COUNT;
    refuse(&bad, CNN_ERR_USAGE, "optimizer");
    bad = good;
    bad.beta2 = 1;
    refuse(&bad, CNN_ERR_USAGE, "betas 0.9 and 1");
    bad = good;
    bad.eps = 0;
    refuse(&bad, CNN_ERR_USAGE, "eps 0");
    bad = good;
    bad.weight_decay = INFINITY;
    refuse(&bad, CNN_ERR_USAGE, "weight decay");
    bad = good;
    bad.schedule = CNN_SCHEDULE_COUNT;
    refuse(&bad, CNN_ERR_USAGE, "schedule");
    bad = good;
    bad.warmup = 1;
    refuse(&bad, CNN_ERR_USAGE, "warm-up of 1 epochs");
    bad = good;
    bad.schedule = CNN_SCHEDULE_STEP;
    bad.lr_step = 0;
    refuse(&bad, CNN_ERR_USAGE, "step of 0 epochs");
    bad.lr_step = 1;
    bad.lr_gamma = 1.5f;
    refuse(&bad, CNN_ERR_USAGE, "1.5");
    bad = good;
    bad.storage = CNN_I8;
    refuse(&bad, CNN_ERR_USAGE, "i8");
    bad = good;
    bad.storage = CNN_F16;
    bad.loss_scale = 0.5f;
    refuse(&bad, CNN_ERR_USAGE, "loss scale");
    bad = good;
    bad.device = "abacus";
    refuse(&bad, CNN_ERR_USAGE, "abacus");
}
END_TEST

START_TEST(refuses_data_that_does_not_fit)
{
    const cnn_train_options options = case_options(NULL);
    case_small.width = 27;
    refuse(&options, CNN_ERR_SHAPE, "28x27x1");
    case_small.width = 28;
    case_small.classes = 12;
    refuse(&options, CNN_ERR_SHAPE, "12");
}
END_TEST

/* Every allocation of a short run fails in turn: an error each time, the model as it was, nothing leaks (as the
 * sanitizer builds see). */
START_TEST(survives_failed_allocations)
{
    cnn_train_options options = case_options(NULL);
    cnn_model *fresh = case_model(), *model = case_model();
    cnn_status status = CNN_ERR_MEMORY;
    options.epochs = 1e-9;
    long n = 0;
    while (status == CNN_ERR_MEMORY && n < 5000) {
        ck_assert(case_same(model, fresh));
        cnn_memory_fail_at(++n);
        status = cnn_train(model, &case_small, &options, NULL);
        cnn_memory_fail_at(0);
    }
    case_check(status);
    ck_assert_int_gt(n, 10);
    cnn_model_free(model);
    cnn_model_free(fresh);
}
END_TEST

/* ---- Edits ---- */

typedef struct edits {
    int calls, last;
} edits;

static cnn_status note_edit(void *context, cnn_model *model, int edit)
{
    edits *e = context;
    cnn_param *weight = &model->nodes[1].param[CNN_PARAM_WEIGHT];
    size_t count = (size_t)cnn_desc_elements(&weight->desc);
    ck_assert_int_eq(edit, e->calls ? e->last + 1 : 0);
    /* Pruned before, held since. */
    for (int i = 0; i < edit; i++)
        ck_assert(((float *)weight->data)[i] == 0);
    ck_assert(((float *)weight->data)[edit] != 0);
    if (!weight->mask) {
        weight->mask = cnn_aligned_alloc(count);
        memset(weight->mask, 1, count);
    }
    weight->mask[edit] = 0;
    ((float *)weight->data)[edit] = 0;
    e->calls++;
    e->last = edit;
    return CNN_OK;
}

START_TEST(edits_change_the_model_on_the_way)
{
    cnn_model *model = case_model();
    edits e = {0};
    cnn_train_options options = case_options(NULL);
    options.edit = note_edit;
    options.edit_context = &e;
    options.epochs = 4;
    options.batch = 8;
    options.edits = 5;
    options.edit_span = 0.5;
    ck_assert_msg(cnn_train(model, &case_small, &options, NULL) == CNN_OK, "%s", cnn_last_error());
    ck_assert_int_eq(e.calls, 5);
    for (int i = 0; i < 8; i++)
        ck_assert((((float *)model->nodes[1].param[CNN_PARAM_WEIGHT].data)[i] == 0) == (i < 5));
    options.ema_decay = 0.9;
    ck_assert_int_eq(cnn_train(model, &case_small, &options, NULL), CNN_ERR_USAGE);
    options.ema_decay = 0;
    options.edits = 0;
    ck_assert_int_eq(cnn_train(model, &case_small, &options, NULL), CNN_ERR_USAGE);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train");
    TCase *parts = tcase_create("parts"), *loop = tcase_create("loop");
    tcase_add_test(parts, order_is_a_permutation_of_each_epoch);
    tcase_add_test(parts, constant_schedule);
    tcase_add_test(parts, cosine_schedule);
    tcase_add_test(parts, step_schedule);
    tcase_add_test(parts, one_cycle_schedule);
    tcase_add_test(parts, shortest_schedules);
    tcase_add_checked_fixture(loop, case_set_up, case_tear_down);
    tcase_set_timeout(loop, 60);
    tcase_add_test(loop, learns_in_f32);
    tcase_add_test(loop, learns_in_f16);
    tcase_add_test(loop, learns_in_bf16);
    tcase_add_test(loop, threads_do_not_change_f32);
    tcase_add_test(loop, threads_do_not_change_f16);
    tcase_add_test(loop, trains_each_batch_of_each_epoch);
    tcase_add_test(loop, all_images_are_those_held_out_as_well);
    tcase_add_test(loop, epochs_may_be_fractions);
    tcase_add_test(loop, stops_when_asked);
    tcase_add_test(loop, epoch_end_holds_the_parameters);
    tcase_add_test(loop, refuses_bad_options);
    tcase_add_test(loop, refuses_data_that_does_not_fit);
    tcase_add_test(loop, survives_failed_allocations);
    tcase_add_test(loop, edits_change_the_model_on_the_way);
    suite_add_tcase(suite, parts);
    suite_add_tcase(suite, loop);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
