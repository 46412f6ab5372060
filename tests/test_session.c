/* Sessions: gradients end to end, batches, precision of storage, failures of every allocation. */
#include "cnn/cnn.h"
#include "core/memory.h"
#include "core/model.h"
#include "core/pool.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char residual_cfg[] = "image = input(height=8, width=8, channels=1)\n"
                                   "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                                   "relu1 = relu(conv1)\n"
                                   "conv2 = conv(relu1, out=4, kernel=3, pad=1, bias=0)\n"
                                   "bn2 = bn(conv2)\n"
                                   "sum = add(bn2, relu1)\n"
                                   "relu2 = relu(sum)\n"
                                   "pool = maxpool(relu2, kernel=2)\n"
                                   "fc1 = linear(pool, out=12)\n"
                                   "relu3 = relu(fc1)\n"
                                   "fc2 = linear(relu3, out=3)\n";

enum { IMAGES = 9, PIXELS = 64, CLASSES = 3 };

static uint8_t images[IMAGES * PIXELS];
static uint8_t labels[IMAGES];
static cnn_dataset data = {
    .count = IMAGES, .height = 8, .width = 8, .channels = 1, .classes = CLASSES, .images = images, .labels = labels};
static const int32_t everything[IMAGES] = {0, 1, 2, 3, 4, 5, 6, 7, 8};

static cnn_model *make_model(void)
{
    for (int i = 0; i < IMAGES * PIXELS; i++)
        images[i] = (uint8_t)((unsigned)i * 2654435761u >> 13);
    for (int i = 0; i < IMAGES; i++)
        labels[i] = (uint8_t)(i % CLASSES);
    cnn_model *model = NULL;
    ck_assert_msg(cnn_model_parse(residual_cfg, "test.cfg", &model) == CNN_OK, "%s", cnn_last_error());
    cnn_model_init(model, 7);
    return model;
}

static cnn_session *open_training(cnn_model *model, const char *device, cnn_dtype storage, float rate)
{
    const cnn_session_options options = {.device = device, .batch = IMAGES, .train = true, .storage = storage};
    const cnn_train_state state = {.loss_scale = 1,
                                   .growth = 2,
                                   .backoff = 0.5f,
                                   .floor = 1,
                                   .ceiling = 1,
                                   .first_overflow = -1,
                                   .last_overflow = -1};
    cnn_session *session = NULL;
    ck_assert_msg(cnn_session_open(model, &options, &session) == CNN_OK, "%s", cnn_last_error());
    ck_assert(cnn_session_set_data(session, &data) == CNN_OK);
    ck_assert(cnn_session_set_schedule(session, &rate, 1) == CNN_OK);
    ck_assert(cnn_session_set_state(session, &state) == CNN_OK);
    return session;
}

/* With momentum 0 a step of rate r changes the loss by -r*|g|^2 + O(r^2): every layer's gradient takes part, the two
 * that meet behind the residual add included. */
static void check_descent(const char *device, cnn_dtype storage, double tolerance)
{
    const float rate = 1e-4f;
    cnn_model *model = make_model();
    cnn_session *session = open_training(model, device, storage, rate);
    float before[2], after[2];
    ck_assert_msg(cnn_session_step(session, everything, IMAGES, before) == CNN_OK, "%s", cnn_last_error());
    cnn_train_state state;
    ck_assert(cnn_session_get_state(session, &state) == CNN_OK);
    double expected = (double)rate * state.grad_sumsq;
    ck_assert(expected > 1e-5);
    ck_assert(cnn_session_step(session, everything, IMAGES, after) == CNN_OK);
    double drop = (double)before[0] - (double)after[0];
    ck_assert_msg(fabs(drop - expected) <= tolerance * expected, "the loss fell by %g, the gradient says %g", drop,
                  expected);
    cnn_session_close(session);
    cnn_model_free(model);
}

START_TEST(loss_falls_as_the_gradient_says)
{
    check_descent("ref", CNN_F32, 0.02);
    check_descent("cpu", CNN_F32, 0.02);
}
END_TEST

START_TEST(inference_does_not_depend_on_batching)
{
    cnn_model *model = make_model();
    float whole[IMAGES * CLASSES], split[IMAGES * CLASSES];
    const cnn_session_options options[2] = {{.device = "cpu", .batch = IMAGES}, {.device = "cpu", .batch = 4}};
    for (int i = 0; i < 2; i++) {
        cnn_session *session = NULL;
        ck_assert_msg(cnn_session_open(model, &options[i], &session) == CNN_OK, "%s", cnn_last_error());
        ck_assert(cnn_session_infer(session, images, IMAGES, i ? split : whole) == CNN_OK);
        cnn_session_close(session);
    }
    for (int i = 0; i < IMAGES * CLASSES; i++)
        ck_assert_float_eq_tol(whole[i], split[i], 1e-5f);
    cnn_model_free(model);
}
END_TEST

static cnn_status remember(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    float(*last)[CLASSES] = context;
    if (node == 10)
        memcpy(last, values, (size_t)cnn_desc_elements(desc) * sizeof *values);
    return CNN_OK;
}

START_TEST(observation_shows_what_inference_computes)
{
    cnn_model *model = make_model();
    float logits[IMAGES * CLASSES], seen[IMAGES][CLASSES];
    const cnn_session_options options = {.device = "cpu", .batch = IMAGES};
    cnn_session *session = NULL;
    ck_assert(cnn_session_open(model, &options, &session) == CNN_OK);
    ck_assert(cnn_session_infer(session, images, IMAGES, logits) == CNN_OK);
    ck_assert_msg(cnn_session_observe(session, &data, everything, IMAGES, remember, seen) == CNN_OK, "%s",
                  cnn_last_error());
    for (int i = 0; i < IMAGES * CLASSES; i++)
        ck_assert_float_eq_tol(logits[i], seen[i / CLASSES][i % CLASSES], 1e-5f);
    int64_t correct = -1;
    double loss = 0;
    ck_assert(cnn_session_evaluate(session, &data, NULL, IMAGES, &correct, &loss) == CNN_OK);
    ck_assert(correct >= 0 && correct <= IMAGES && loss > 0);
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

START_TEST(parameters_travel_both_ways)
{
    cnn_model *model = make_model();
    cnn_session *session = open_training(model, "cpu", CNN_F16, 0.01f);
    float result[2];
    cnn_param *weight = &model->nodes[1].param[CNN_PARAM_WEIGHT];
    float before[4 * 9];
    memcpy(before, weight->data, sizeof before);
    ck_assert(cnn_session_step(session, everything, IMAGES, result) == CNN_OK);
    ck_assert_mem_eq(before, weight->data, sizeof before);
    ck_assert(cnn_session_pull(session) == CNN_OK);
    ck_assert_mem_ne(before, weight->data, sizeof before);
    memcpy(weight->data, before, sizeof before);
    ck_assert(cnn_session_push(session) == CNN_OK);
    ck_assert(cnn_session_pull(session) == CNN_OK);
    ck_assert_mem_eq(before, weight->data, sizeof before);
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

START_TEST(wrong_use_is_refused)
{
    cnn_model *model = make_model();
    cnn_session *session = NULL;
    cnn_session_options options = {.device = "abacus"};
    ck_assert(cnn_session_open(model, &options, &session) == CNN_ERR_USAGE);
    ck_assert(strstr(cnn_last_error(), "abacus"));
    options.device = "cpu";
    options.batch = -1;
    ck_assert(cnn_session_open(model, &options, &session) == CNN_ERR_USAGE);
    options.batch = 1;
    ck_assert(cnn_session_open(model, &options, &session) == CNN_OK);
    float result[2];
    ck_assert(cnn_session_step(session, everything, 1, result) == CNN_ERR_USAGE);
    cnn_dataset other = data;
    other.height = 9;
    int64_t correct;
    ck_assert(cnn_session_evaluate(session, &other, NULL, 1, &correct, NULL) == CNN_ERR_SHAPE);
    other = data;
    other.classes = 4;
    ck_assert(cnn_session_evaluate(session, &other, NULL, 1, &correct, NULL) == CNN_ERR_SHAPE);
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

/* What the instructions of one run added up to. */
typedef struct trace_sums {
    int calls, instructions, stop_at;
    int64_t macs;
    float logits[IMAGES * CLASSES]; /* value of the last node */
    bool shown;
} trace_sums;

static cnn_status sum_traces(void *context, const cnn_trace *trace)
{
    trace_sums *sums = context;
    ck_assert_int_eq(trace->instruction, sums->calls++);
    ck_assert(trace->seconds >= 0 && trace->kernel && *trace->layer && *trace->ends_in);
    sums->instructions = trace->instructions;
    sums->macs += trace->macs;
    if (strcmp(trace->ends_in, "fc2") == 0) {
        ck_assert(trace->whole);
        sums->shown = trace->dst != NULL;
        if (trace->dst)
            memcpy(sums->logits, trace->dst, sizeof sums->logits);
    }
    return sums->calls == sums->stop_at ? CNN_ERR_CANCELLED : CNN_OK;
}

START_TEST(a_trace_shows_every_instruction)
{
    static const char *const devices[] = {"ref", "cpu", "cpu:portable"};
    cnn_model *model = make_model();
    for (int d = 0; d < 3; d++) {
        cnn_session *session;
        trace_sums sums = {0};
        float logits[IMAGES * CLASSES];
        ck_assert(cnn_session_open(model, &(cnn_session_options){.device = devices[d]}, &session) == CNN_OK);
        cnn_session_trace(session, sum_traces, &sums, true);
        ck_assert(cnn_session_infer(session, images, IMAGES, logits) == CNN_OK);
        ck_assert_int_eq(sums.calls, sums.instructions);
        ck_assert_int_gt(sums.calls, 5);
        ck_assert_int_eq(sums.macs, IMAGES * cnn_model_macs(model));
        ck_assert(sums.shown && memcmp(sums.logits, logits, sizeof logits) == 0);
        sums = (trace_sums){.stop_at = 3};
        cnn_session_trace(session, sum_traces, &sums, false);
        ck_assert(cnn_session_infer(session, images, IMAGES, logits) == CNN_ERR_CANCELLED);
        ck_assert_int_eq(sums.calls, 3);
        cnn_session_trace(session, NULL, NULL, false);
        ck_assert(cnn_session_infer(session, images, IMAGES, logits) == CNN_OK);
        ck_assert_int_eq(sums.calls, 3);
        cnn_session_close(session);
    }
    cnn_model_free(model);
}
END_TEST

START_TEST(devices_have_variants)
{
    static const char *const wrong[] = {"gpu", "cpu:", "cpu:avx3", "cp", "ref:avx2", "cpux"};
    cnn_model *model = make_model();
    cnn_session *session;
    ck_assert(cnn_session_open(model, &(cnn_session_options){.device = "cpu:portable"}, &session) == CNN_OK);
    ck_assert_ptr_nonnull(strstr(cnn_session_device(session), "portable"));
    cnn_session_close(session);
    for (int i = 0; i < 6; i++)
        ck_assert(cnn_session_open(model, &(cnn_session_options){.device = wrong[i]}, &session) == CNN_ERR_USAGE);
    cnn_model_free(model);
}
END_TEST

/* A training session that took `orders` orders of six images, batches of 4 and 2, and a model with what came of it. */
static void train_in_order(cnn_model *model, int orders, bool stepwise, cnn_step_report *last)
{
    static const int32_t order[] = {5, 0, 3, 3, 1, 2};
    const cnn_session_options options = {.device = "cpu", .batch = 4, .train = true};
    const cnn_train_state state = {.momentum = 0.9f, .loss_scale = 1, .floor = 1, .ceiling = 1};
    const float rate = 0.05f;
    cnn_session *session;
    float result[2];
    ck_assert(cnn_session_open(model, &options, &session) == CNN_OK);
    ck_assert(cnn_session_set_data(session, &data) == CNN_OK);
    ck_assert(cnn_session_set_schedule(session, &rate, 1) == CNN_OK);
    ck_assert(cnn_session_set_state(session, &state) == CNN_OK);
    for (int i = 0; i < orders && stepwise; i++) {
        ck_assert(cnn_session_step(session, order, 4, result) == CNN_OK);
        ck_assert(cnn_session_step(session, order + 4, 2, result) == CNN_OK);
        last->loss = result[0];
        last->correct = result[1];
    }
    for (int i = 0; i < orders && !stepwise; i++) {
        ck_assert(cnn_session_set_order(session, order, 6, 0) == CNN_OK);
        for (int step = 0; step < 2; step++) {
            ck_assert(cnn_session_submit(session, step == 0 ? 4 : 2) == CNN_OK);
            ck_assert(cnn_session_report(session, last) == CNN_OK);
            ck_assert_int_eq(last->state.step, 2 * i + step + 1);
            ck_assert_int_eq(last->state.cursor, 4 * step);
        }
    }
    ck_assert(cnn_session_get_state(session, &last->state) == CNN_OK);
    ck_assert(cnn_session_pull(session) == CNN_OK);
    cnn_session_close(session);
}

/* More steps than there are places for reports; an order is longer than a batch. */
START_TEST(an_order_trains_as_its_batches_do)
{
    cnn_model *stepwise = make_model(), *ordered = make_model();
    cnn_step_report one, other;
    train_in_order(stepwise, 9, true, &one);
    train_in_order(ordered, 9, false, &other);
    ck_assert(memcmp(&one.loss, &other.loss, sizeof one.loss) == 0 && one.correct == other.correct);
    ck_assert_int_eq(one.state.step, 18);
    ck_assert_int_eq(other.state.cursor, 6);
    for (int i = 0; i < ordered->node_count; i++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *a = &stepwise->nodes[i].param[role], *b = &ordered->nodes[i].param[role];
            ck_assert(a->desc.dtype == CNN_NONE || memcmp(a->data, b->data, cnn_desc_bytes(&a->desc)) == 0);
        }
    cnn_model_free(stepwise);
    cnn_model_free(ordered);
}
END_TEST

START_TEST(wrong_orders_are_refused)
{
    static const int32_t order[] = {5, 0, 3}, beyond[] = {0, IMAGES};
    const cnn_session_options options = {.device = "cpu", .batch = 2, .train = true};
    const cnn_train_state state = {.loss_scale = 1, .floor = 1, .ceiling = 1};
    const float rate = 0.05f;
    cnn_model *model = make_model();
    cnn_session *session;
    cnn_step_report report;
    ck_assert(cnn_session_open(model, &options, &session) == CNN_OK);
    ck_assert(cnn_session_set_order(session, order, 3, 0) == CNN_ERR_USAGE); /* no data yet */
    ck_assert(cnn_session_set_data(session, &data) == CNN_OK);
    ck_assert(cnn_session_set_schedule(session, &rate, 1) == CNN_OK);
    ck_assert(cnn_session_set_state(session, &state) == CNN_OK);
    ck_assert(cnn_session_set_order(session, beyond, 2, 0) == CNN_ERR_USAGE);
    ck_assert(cnn_session_set_order(session, order, 3, 4) == CNN_ERR_USAGE);
    ck_assert(cnn_session_report(session, &report) == CNN_ERR_USAGE);
    ck_assert(cnn_session_set_order(session, order, 3, 1) == CNN_OK);
    ck_assert(cnn_session_submit(session, 3) == CNN_ERR_USAGE); /* the batch is 2 */
    for (int i = 0; i < cnn_session_depth(session); i++)
        ck_assert(cnn_session_submit(session, 1) == CNN_OK);
    ck_assert(cnn_session_submit(session, 1) == CNN_ERR_USAGE); /* one too many under way */
    ck_assert(cnn_session_report(session, &report) == CNN_OK);
    ck_assert(cnn_session_submit(session, 2) == CNN_ERR_USAGE); /* one is left */
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

static cnn_status train_and_infer(cnn_model *model)
{
    const cnn_session_options options = {.device = "cpu", .batch = 4, .train = true, .storage = CNN_F16};
    const cnn_train_state state = {.loss_scale = 1, .floor = 1, .ceiling = 1};
    const float rate = 0.01f;
    cnn_session *session = NULL;
    float result[2], logits[IMAGES * CLASSES];
    cnn_status status = cnn_session_open(model, &options, &session);
    if (status == CNN_OK)
        status = cnn_session_set_data(session, &data);
    if (status == CNN_OK)
        status = cnn_session_set_schedule(session, &rate, 1);
    if (status == CNN_OK)
        status = cnn_session_set_state(session, &state);
    if (status == CNN_OK)
        status = cnn_session_step(session, everything, 4, result);
    if (status == CNN_OK)
        status = cnn_session_infer(session, images, IMAGES, logits);
    cnn_session_close(session);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    cnn_model *model = make_model();
    ck_assert(train_and_infer(model) == CNN_OK);
    cnn_memory_fail_at(0);
    ck_assert(train_and_infer(model) == CNN_OK);
    long count = cnn_memory_count();
    ck_assert(count > 20);
    for (long n = 1; n <= count; n++) {
        cnn_memory_fail_at(n);
        ck_assert_msg(train_and_infer(model) == CNN_ERR_MEMORY, "allocation %ld of %ld", n, count);
    }
    cnn_memory_fail_at(0);
    ck_assert(train_and_infer(model) == CNN_OK);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("session");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, loss_falls_as_the_gradient_says);
    tcase_add_test(tcase, inference_does_not_depend_on_batching);
    tcase_add_test(tcase, observation_shows_what_inference_computes);
    tcase_add_test(tcase, parameters_travel_both_ways);
    tcase_add_test(tcase, wrong_use_is_refused);
    tcase_add_test(tcase, a_trace_shows_every_instruction);
    tcase_add_test(tcase, devices_have_variants);
    tcase_add_test(tcase, an_order_trains_as_its_batches_do);
    tcase_add_test(tcase, wrong_orders_are_refused);
    tcase_add_test(tcase, every_allocation_may_fail);
    Suite *suite = suite_create("session");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
