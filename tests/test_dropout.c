/* Dropout in whole: what is dropped follows from seed, epoch, image and layer; nothing is outside of training. */
#include "tests/network_case.h"

#include <math.h>

#define NET(first, second)                                                              \
    "image = input(height=28, width=28, channels=1)\n"                                  \
    "conv1 = conv(image, out=8, kernel=3, stride=2)\n"                                  \
    "bn1 = bn(conv1)\n"                                                                 \
    "relu1 = relu(bn1)\n" first "conv2 = conv(" second ", out=8, kernel=3, stride=2)\n" \
    "relu2 = relu(conv2)\n"

static const char net[] = NET("drop1 = dropout(relu1, rate=0.2)\n", "drop1") "drop2 = dropout(relu2, rate=0.5)\n"
                                                                             "fc = linear(drop2, out=10)\n";
static const char plain[] = NET("", "relu1") "fc = linear(relu2, out=10)\n";

/* ---- What is dropped ---- */

START_TEST(test_shares)
{
    static const float rates[] = {0.1f, 0.5f, 0.9f};
    enum { COUNT = 100000 };
    for (int r = 0; r < 3; r++) {
        const uint64_t key = cnn_dropout_key(7, 3, 12);
        int kept = 0, alike[3] = {0};
        const uint64_t others[3] = {cnn_dropout_key(8, 3, 12), cnn_dropout_key(7, 4, 12), cnn_dropout_key(7, 3, 13)};
        for (int i = 0; i < COUNT; i++) {
            const bool keeps = cnn_dropout_keeps(key, i, rates[r]);
            kept += keeps;
            for (int o = 0; o < 3; o++)
                alike[o] += keeps == cnn_dropout_keeps(others[o], i, rates[r]);
        }
        const double share = 1 - (double)rates[r], chance = share * share + (1 - share) * (1 - share);
        ck_assert_double_lt(fabs(kept - share * COUNT), 5 * sqrt(COUNT * share * (1 - share)));
        for (int o = 0; o < 3; o++) /* seed, epoch and image each make another pattern */
            ck_assert_double_lt(fabs(alike[o] - chance * COUNT), 5 * sqrt(COUNT * chance * (1 - chance)));
    }
}
END_TEST

/* Forward and backward drop the same of a layer, layers drop different values, other programs nothing. */
START_TEST(test_programs)
{
    cnn_model *model = make_model(net, 3);
    for (int goal = CNN_GOAL_INFER; goal <= CNN_GOAL_TRAIN; goal++) {
        uint64_t seed[8];
        int instruction_count, count = 0;
        cnn_instruction *instructions = case_instructions(model, (cnn_goal)goal, &instruction_count);
        for (int i = 0; i < instruction_count; i++)
            if (instructions[i].desc.op == CNN_OP_DROPOUT)
                seed[count++] = instructions[i].desc.seed;
        ck_assert_int_eq(count, goal == CNN_GOAL_TRAIN ? 4 : 0);
        ck_assert(count == 0 || (seed[0] == seed[3] && seed[1] == seed[2] && seed[0] != seed[1]));
        free(instructions);
    }
    cnn_model_free(model);
}
END_TEST

/* ---- Training ---- */

START_TEST(test_it_trains)
{
    cnn_model *model = make_model(net, 1), *same = make_model(net, 1), *without = make_model(plain, 1);
    const record r = case_check_trains(model, _i, 0.8);
    case_check_trains(same, _i, 0.8);
    ck_assert(case_same(model, same));
    ck_assert(case_check_trains(without, _i, 0.8).loss[0] != r.loss[0]); /* it does something */
    cnn_model_free(without);
    cnn_model_free(same);
    cnn_model_free(model);
}
END_TEST

/* With weights that stay, each image gives the same loss in both epochs, unless other values are dropped. */
START_TEST(test_training_numbers_epochs)
{
    static const char still[] = "image = input(height=28, width=28, channels=1)\n"
                                "fc1 = linear(image, out=32)\n"
                                "relu1 = relu(fc1)\n"
                                "drop1 = dropout(relu1, rate=0.5)\n"
                                "fc2 = linear(drop1, out=10)\n";
    record r;
    cnn_model *model = make_model(still, 1);
    cnn_train_options options = case_options(&r);
    options.epochs = 2;
    options.learning_rate = 1e-12f;
    case_check(cnn_train(model, case_synth, &options, NULL));
    ck_assert_double_gt(fabs(r.loss[0] - r.loss[1]), 1e-5 * r.loss[0]);
    ck_assert_double_lt(fabs(r.loss[0] - r.loss[1]), 0.1 * r.loss[0]);
    cnn_model_free(model);
}
END_TEST

/* Two epochs on the same order of images give other losses, and the first again gives the same. */
START_TEST(test_epochs_differ)
{
    const float rate = 0.0f;
    const cnn_step_options step = {.dropout = true, .seed = 9};
    const cnn_train_state state = case_state(1, 0);
    cnn_model *model = make_model(net, 2);
    cnn_session *session = case_session_step(model, CNN_F32, &step, &rate, 1, &state);
    int32_t order[SMALL_BATCH];
    float loss[3];
    for (int i = 0; i < SMALL_BATCH; i++)
        order[i] = i;
    for (int i = 0; i < 3; i++) {
        float result[2];
        case_check(cnn_session_set_epoch(session, i == 1 ? 2 : 1));
        case_check(cnn_session_step(session, order, SMALL_BATCH, result));
        loss[i] = result[0];
    }
    ck_assert(loss[0] != loss[1] && loss[0] == loss[2]);
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

/* ---- Elsewhere ---- */

START_TEST(test_inference)
{
    cnn_model *model = _i ? case_int8(net, NULL) : make_model(net, 1);
    CHECK_OK(cnn_fold_batchnorm(model));
    cnn_model *back = case_check_file(model, "onnx");
    ck_assert_int_lt(cnn_model_find(back, "drop2"), 0);
    if (_i)
        case_check_same_bits(model);
    else
        case_check_close_logits(model, case_logits(model, "ref"));
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_file)
{
    cnn_model *model = make_model(net, 1), *back = case_check_file(model, "cnn");
    ck_assert(cnn_node_attr(&back->nodes[cnn_model_find(back, "drop1")], "rate") == 0.2);
    ck_assert(case_same(model, back));
    cnn_model_free(back);
    cnn_model_free(model);
    CHECK_REFUSED(cnn_model_parse("image = input(height=1, width=1, channels=3)\n"
                                  "a = dropout(image, rate=0.5)\n",
                                  "bad.cfg", &model),
                  CNN_ERR_SHAPE, "a dropout goes before it");
    CHECK_REFUSED(cnn_model_parse("image = input(height=1, width=1, channels=3)\n"
                                  "a = dropout(image)\n",
                                  "bad.cfg", &model),
                  CNN_ERR_FORMAT, "needs rate");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dropout");
    TCase *tests = tcase_create("dropout");
    tcase_add_checked_fixture(tests, case_network_set_up, case_network_tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, test_shares);
    tcase_add_test(tests, test_programs);
    tcase_add_loop_test(tests, test_it_trains, 0, STORAGES);
    tcase_add_test(tests, test_training_numbers_epochs);
    tcase_add_test(tests, test_epochs_differ);
    tcase_add_loop_test(tests, test_inference, 0, 2);
    tcase_add_test(tests, test_file);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
