/* ReLUs with an end and leaky ones, in whole: a small network trains, its INT8 is the same bits everywhere and what
 * cnn/quant.h says, constants go through, files hold it. */
#include "tests/network_case.h"

#include "cnn/quant.h"

static const char net[] = "image = input(height=28, width=28, channels=1)\n"
                          "conv1 = conv(image, out=8, kernel=3, stride=2, pad=1, bias=0)\n"
                          "bn1 = bn(conv1)\n"
                          "relu1 = relu(bn1, max=6)\n"
                          "deep2 = conv(relu1, out=8, kernel=3, pad=1, bias=0, groups=8)\n"
                          "bn2 = bn(deep2)\n"
                          "relu2 = relu(bn2, max=0.75)\n"
                          "conv3 = conv(relu2, out=8, kernel=3, pad=1, bias=0)\n"
                          "bn3 = bn(conv3)\n"
                          "sum3 = add(bn3, relu1)\n"
                          "relu3 = relu(sum3, max=2)\n"
                          "conv4 = conv(relu3, out=12, kernel=3, stride=2)\n"
                          "leaky4 = leaky_relu(conv4, slope=0.25)\n"
                          "pool4 = maxpool(leaky4, kernel=2)\n"
                          "fc5 = linear(pool4, out=24)\n"
                          "relu5 = relu(fc5, max=6)\n"
                          "fc6 = linear(relu5, out=16)\n"
                          "leaky6 = leaky_relu(fc6)\n"
                          "fc = linear(leaky6, out=10)\n";

START_TEST(test_it_trains)
{
    cnn_model *model = make_model(net, 1);
    case_check_trains(model, _i, 0.8);
    cnn_model_free(model);
}
END_TEST

/* ---- INT8 ---- */

/* A node and the leaky ReLU that reads it, as they come. */
typedef struct seen {
    const cnn_model *model;
    int leaky;
    float *before;
    int64_t values;
} seen;

static cnn_status check_node(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    seen *s = context;
    const cnn_node *at = &s->model->nodes[s->leaky];
    const int64_t count = cnn_desc_elements(desc);
    if (node == at->input[0])
        memcpy(s->before, values, (size_t)count * sizeof *values);
    if (node != s->leaky && cnn_node_relu_max(&s->model->nodes[node]) > 0)
        for (int64_t i = 0; i < count; i++) {
            const float most =
                cnn_quant_cap(cnn_node_relu_max(&s->model->nodes[node]), s->model->nodes[node].out_scale);
            const int q = case_q(s->model, node, values[i]);
            ck_assert(q >= 0 && q <= (int)most);
        }
    if (node != s->leaky)
        return CNN_OK;
    const float slope = (float)cnn_node_attr(at, "slope"), s_in = s->model->nodes[at->input[0]].out_scale;
    for (int64_t i = 0; i < count; i++) {
        const int8_t x = (int8_t)case_q(s->model, at->input[0], s->before[i]);
        if (case_q(s->model, node, values[i]) != cnn_quant_leaky_relu(x, s_in, slope, at->out_scale, -127, 127))
            ck_abort_msg("value %d is wrong", (int)i);
        s->values += x < 0;
    }
    return CNN_OK;
}

static void check_formula(cnn_model *model, const char *device)
{
    seen s = {.model = model, .leaky = cnn_model_find(model, "leaky4")};
    const cnn_tensor_desc *out = &model->nodes[s.leaky].out;
    s.before = malloc(16 * (size_t)cnn_desc_elements(out) * sizeof *s.before);
    case_observe(model, device, check_node, &s);
    ck_assert(s.values > 0);
    free(s.before);
}

START_TEST(test_int8)
{
    cnn_quantize_options options = case_quantize_options();
    options.compact = _i;
    cnn_model *model = make_model(net, 3), *int8 = case_int8(net, &options);
    ck_assert_double_lt(case_difference(model, int8), 0.06);
    case_check_same_bits(int8);
    check_formula(int8, "cpu:portable");
    check_formula(int8, "ref");
    cnn_model_free(int8);
    cnn_model_free(model);
}
END_TEST

/* In the scale of a value whose ReLU ends at 2, what stands for 2 is the most: an end of a range that was set too wide.
 */
START_TEST(test_the_end_is_requantizations)
{
    static const char *const relus[] = {"relu1", "relu2", "relu3", "relu5"};
    static const float hi[] = {60, 8, 20, 60};
    cnn_model *model = case_int8(net, NULL);
    int count, found = 0;
    for (int i = 0; i < 4; i++) {
        const int relu = cnn_model_find(model, relus[i]);
        model->nodes[relu].out_scale = model->nodes[model->nodes[relu].input[0]].out_scale = 0.1f;
    }
    cnn_instruction *instructions = case_instructions(model, CNN_GOAL_INFER, &count);
    for (int i = 0; i < count; i++) {
        const cnn_op_desc *desc = &instructions[i].desc;
        ck_assert(desc->op != CNN_OP_CLIP && desc->op != CNN_OP_RELU);
        for (int k = 0; k < 4; k++)
            if (instructions[i].node == cnn_model_find(model, relus[k])) {
                ck_assert(desc->lo == 0 && desc->hi == hi[k]);
                found++;
            }
    }
    ck_assert_int_eq(found, 4);
    case_check_same_bits(model);
    free(instructions);
    cnn_model_free(model);
}
END_TEST

/* In float inference a ReLU with an end moves into the convolution before it. */
START_TEST(test_fusion)
{
    cnn_model *model = make_model(net, 3);
    int count, clips = 0;
    CHECK_OK(cnn_fold_batchnorm(model));
    cnn_instruction *instructions = case_instructions(model, CNN_GOAL_INFER, &count);
    for (int i = 0; i < count; i++)
        clips += instructions[i].desc.op == CNN_OP_CLIP;
    ck_assert_int_eq(clips, 1); /* behind the sum */
    case_check_close_logits(model, case_logits(model, "ref"));
    free(instructions);
    cnn_model_free(model);
}
END_TEST

/* Training follows the gradients of what it computed. */
START_TEST(test_gradients)
{
    cnn_model *model = make_model(net, 3);
    int count, clips = 0, leaks = 0;
    cnn_instruction *instructions = case_instructions(model, CNN_GOAL_TRAIN, &count);
    for (int i = 0; i < count; i++) {
        const cnn_op_desc *desc = &instructions[i].desc;
        const cnn_node *node = instructions[i].node < 0 ? NULL : &model->nodes[instructions[i].node];
        ck_assert(desc->op != CNN_OP_RELU_GRAD);
        if (desc->op == CNN_OP_CLIP_GRAD) {
            ck_assert(desc->hi == cnn_node_relu_max(node));
            clips++;
        }
        if (desc->op == CNN_OP_LEAKY_RELU_GRAD) {
            ck_assert(desc->slope == (float)cnn_node_attr(node, "slope"));
            leaks++;
        }
    }
    ck_assert(clips == 4 && leaks == 2);
    free(instructions);
    cnn_model_free(model);
}
END_TEST

/* ---- Passes ---- */

/* Equalization leaves what a ReLU with an end makes as it is, and gives the same answers. */
START_TEST(test_equalizing_changes_no_answer)
{
    cnn_model *model = make_model(net, 5);
    CHECK_OK(cnn_fold_batchnorm(model));
    case_check_equalize(model, 2); /* conv4 and fc6 */
    cnn_model_free(model);
}
END_TEST

/* Constants of dead units are cut off, or leak, on their way. */
START_TEST(test_dead_units)
{
    cnn_model *model = make_model(net, 5);
    CHECK_OK(cnn_fold_batchnorm(model));
    case_make_constant(model, "fc5", 3, 9);
    case_make_constant(model, "fc6", 2, -50);
    case_check_dead(model, 2);
    cnn_model_free(model);
}
END_TEST

/* ---- Files, and what is refused ---- */

START_TEST(test_files)
{
    cnn_model *model = _i % 2 ? case_int8(net, NULL) : make_model(net, 8);
    cnn_model *back = case_check_file(model, _i < 2 ? "onnx" : "cnn");
    ck_assert(cnn_node_attr(&back->nodes[cnn_model_find(back, "relu2")], "max") == 0.75);
    ck_assert(cnn_node_attr(&back->nodes[cnn_model_find(back, "leaky6")], "slope") == 0.01);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_ranges)
{
    cnn_model *model;
    CHECK_REFUSED(cnn_model_parse("image = input(height=8, width=4, channels=3)\n"
                                  "a = relu(image, max=-1)\n",
                                  "bad.cfg", &model),
                  CNN_ERR_FORMAT, "max");
    CHECK_REFUSED(cnn_model_parse("image = input(height=8, width=4, channels=3)\n"
                                  "a = leaky_relu(image, slope=1.5)\n",
                                  "bad.cfg", &model),
                  CNN_ERR_FORMAT, "slope");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("activations");
    TCase *tests = tcase_create("activations");
    tcase_add_checked_fixture(tests, case_network_set_up, case_network_tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_it_trains, 0, STORAGES);
    tcase_add_loop_test(tests, test_int8, 0, 2);
    tcase_add_test(tests, test_the_end_is_requantizations);
    tcase_add_test(tests, test_fusion);
    tcase_add_test(tests, test_gradients);
    tcase_add_test(tests, test_equalizing_changes_no_answer);
    tcase_add_test(tests, test_dead_units);
    tcase_add_loop_test(tests, test_files, 0, 4);
    tcase_add_test(tests, test_ranges);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
