/* ReLUs with an end and leaky ones, in whole: a small network trains, its INT8 is the same bits everywhere and what
 * cnn/quant.h says, constants go through, files hold it. */
#include "tests/optimize_common.h"
#include "tests/train_case.h"

#include "cnn/onnx.h"
#include "cnn/quant.h"
#include "core/backends.h"
#include "core/pool.h"
#include "core/program.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { SIDE = 28, IMAGES = 100, SHOWN = 21, CLASSES = 10 };

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
    static const cnn_dtype storage[] = {CNN_F32, CNN_F16, CNN_BF16};
    record r;
    cnn_model *model = make_model(net, 1);
    cnn_train_options options = case_options(&r);
    options.epochs = 2;
    options.storage = storage[_i];
    case_check(cnn_train(model, case_synth, &options, NULL));
    ck_assert_msg(r.loss[1] < 0.8 * r.loss[0], "losses %g and %g", r.loss[0], r.loss[1]);
    cnn_model_free(model);
}
END_TEST

/* ---- INT8 ---- */

static cnn_model *quantized(const cnn_dataset *data, bool compact)
{
    cnn_model *model = make_model(net, 3);
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.images = 64;
    options.compact = compact;
    CHECK_OK(cnn_fold_batchnorm(model));
    CHECK_OK(cnn_quantize(model, data, &options, NULL, NULL));
    return model;
}

/* A node and the leaky ReLU that reads it, as they come. */
typedef struct seen {
    const cnn_model *model;
    int leaky;
    float *before;
    int64_t values;
} seen;

static int q_of(const cnn_model *model, int node, float value)
{
    return (int)lrintf(value / model->nodes[node].out_scale);
}

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
            const int q = q_of(s->model, node, values[i]);
            ck_assert(q >= 0 && q <= (int)most);
        }
    if (node != s->leaky)
        return CNN_OK;
    const float slope = (float)cnn_node_attr(at, "slope"), s_in = s->model->nodes[at->input[0]].out_scale;
    for (int64_t i = 0; i < count; i++) {
        const int8_t x = (int8_t)q_of(s->model, at->input[0], s->before[i]);
        if (q_of(s->model, node, values[i]) != cnn_quant_leaky_relu(x, s_in, slope, at->out_scale, -127, 127))
            ck_abort_msg("value %d is wrong", (int)i);
        s->values += x < 0;
    }
    return CNN_OK;
}

static void check_formula(cnn_model *model, const cnn_dataset *data, const char *device)
{
    seen s = {.model = model, .leaky = cnn_model_find(model, "leaky4")};
    const cnn_tensor_desc *out = &model->nodes[s.leaky].out;
    s.before = malloc(16 * (size_t)cnn_desc_elements(out) * sizeof *s.before);
    cnn_session *session;
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = device, .batch = 16}, &session));
    CHECK_OK(cnn_session_observe(session, data, NULL, SHOWN, check_node, &s));
    cnn_session_close(session);
    ck_assert(s.values > 0);
    free(s.before);
}

START_TEST(test_int8)
{
    static const char *const devices[] = {"cpu:portable", "ref"};
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 3), *int8 = quantized(&data, _i);
    float *exact = run_logits(model, "cpu", &data, SHOWN), *cpu = run_logits(int8, "cpu", &data, SHOWN);
    ck_assert_double_lt(relative_difference(exact, cpu, SHOWN * CLASSES), 0.06);
    for (int i = 0; i < 2; i++) {
        float *other = run_logits(int8, devices[i], &data, SHOWN);
        ck_assert_mem_eq(cpu, other, SHOWN * CLASSES * sizeof *cpu);
        free(other);
        check_formula(int8, &data, devices[i]);
    }
    free(exact);
    free(cpu);
    cnn_model_free(int8);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* In the scale of a value whose ReLU ends at 2, what stands for 2 is the most: an end of a range that was set too wide.
 */
START_TEST(test_the_end_is_requantizations)
{
    const cnn_backend *backend = &cnn_backend_cpu;
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = quantized(&data, false);
    cnn_device *device;
    cnn_program *program;
    static const char *const relus[] = {"relu1", "relu2", "relu3", "relu5"};
    static const float hi[] = {60, 8, 20, 60};
    for (int i = 0; i < 4; i++) {
        const int relu = cnn_model_find(model, relus[i]);
        model->nodes[relu].out_scale = model->nodes[model->nodes[relu].input[0]].out_scale = 0.1f;
    }
    CHECK_OK(backend->open(cnn_host_get(), NULL, &device));
    const cnn_lower_options options = {.goal = CNN_GOAL_INFER, .batch = 2, .backend = backend, .device = device};
    CHECK_OK(cnn_program_lower(model, &options, &program));
    CHECK_OK(cnn_program_fuse(program, backend, device));
    int found = 0;
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_op_desc *desc = &program->instructions[i].desc;
        ck_assert(desc->op != CNN_OP_CLIP && desc->op != CNN_OP_RELU);
        for (int k = 0; k < 4; k++)
            if (program->instructions[i].node == cnn_model_find(model, relus[k])) {
                ck_assert(desc->lo == 0 && desc->hi == hi[k]);
                found++;
            }
    }
    ck_assert_int_eq(found, 4);
    cnn_program_free(program, backend, device);
    backend->close(device);
    float *cpu = run_logits(model, "cpu", &data, SHOWN), *ref = run_logits(model, "ref", &data, SHOWN);
    ck_assert_mem_eq(cpu, ref, SHOWN * CLASSES * sizeof *cpu);
    free(cpu);
    free(ref);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* In float inference a ReLU with an end moves into the convolution before it. */
START_TEST(test_fusion)
{
    const cnn_backend *backend = &cnn_backend_cpu;
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 3);
    cnn_device *device;
    cnn_program *program;
    int clips = 0;
    CHECK_OK(cnn_fold_batchnorm(model));
    CHECK_OK(backend->open(cnn_host_get(), NULL, &device));
    const cnn_lower_options options = {.goal = CNN_GOAL_INFER, .batch = 2, .backend = backend, .device = device};
    CHECK_OK(cnn_program_lower(model, &options, &program));
    CHECK_OK(cnn_program_fuse(program, backend, device));
    for (int i = 0; i < program->instruction_count; i++)
        clips += program->instructions[i].desc.op == CNN_OP_CLIP;
    ck_assert_int_eq(clips, 1); /* behind the sum */
    cnn_program_free(program, backend, device);
    backend->close(device);
    float *cpu = run_logits(model, "cpu", &data, SHOWN), *ref = run_logits(model, "ref", &data, SHOWN);
    ck_assert_double_lt(relative_difference(cpu, ref, SHOWN * CLASSES), 1e-5);
    free(cpu);
    free(ref);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* Training follows the gradients of what it computed. */
START_TEST(test_gradients)
{
    const cnn_backend *backend = &cnn_backend_cpu;
    cnn_model *model = make_model(net, 3);
    cnn_device *device;
    cnn_program *program;
    int clips = 0, leaks = 0;
    CHECK_OK(backend->open(cnn_host_get(), NULL, &device));
    const cnn_lower_options options = {.goal = CNN_GOAL_TRAIN,
                                       .batch = 2,
                                       .storage = CNN_F32,
                                       .data_count = 10,
                                       .rate_count = 5,
                                       .index_count = 3,
                                       .report_count = 2,
                                       .backend = backend,
                                       .device = device};
    CHECK_OK(cnn_program_lower(model, &options, &program));
    CHECK_OK(cnn_program_fuse(program, backend, device));
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_op_desc *desc = &program->instructions[i].desc;
        const cnn_node *node = program->instructions[i].node < 0 ? NULL : &model->nodes[program->instructions[i].node];
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
    cnn_program_free(program, backend, device);
    backend->close(device);
    cnn_model_free(model);
}
END_TEST

/* ---- Passes ---- */

/* Equalization leaves what a ReLU with an end makes as it is, and gives the same answers. */
START_TEST(test_equalizing_changes_no_answer)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 5);
    int groups;
    CHECK_OK(cnn_fold_batchnorm(model));
    float *before = run_logits(model, "cpu", &data, SHOWN);
    CHECK_OK(cnn_equalize(model, &data, 1, "cpu", &groups));
    ck_assert_int_eq(groups, 2); /* conv4 and fc6 */
    float *after = run_logits(model, "cpu", &data, SHOWN);
    ck_assert_double_lt(relative_difference(before, after, SHOWN * CLASSES), 1e-5);
    free(before);
    free(after);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* Constants of dead units are cut off, or leak, on their way. */
START_TEST(test_dead_units)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 5);
    int64_t units;
    CHECK_OK(cnn_fold_batchnorm(model));
    memset(param_data(model, "fc5", CNN_PARAM_WEIGHT) + 3 * 108, 0, 108 * sizeof(float));
    param_data(model, "fc5", CNN_PARAM_BIAS)[3] = 9;
    memset(param_data(model, "fc6", CNN_PARAM_WEIGHT) + 2 * 24, 0, 24 * sizeof(float));
    param_data(model, "fc6", CNN_PARAM_BIAS)[2] = -50;
    float *before = run_logits(model, "cpu", &data, SHOWN);
    CHECK_OK(cnn_remove_dead(model, &units));
    ck_assert_int_eq(units, 2);
    float *after = run_logits(model, "cpu", &data, SHOWN);
    ck_assert_double_lt(relative_difference(before, after, SHOWN * CLASSES), 1e-5);
    free(before);
    free(after);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* ---- Files, and what is refused ---- */

START_TEST(test_files)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = _i % 2 ? quantized(&data, false) : make_model(net, 8), *back = NULL;
    char path[64];
    snprintf(path, sizeof path, "activations-%ld.%s", (long)getpid(), _i < 2 ? "onnx" : "cnn");
    if (_i < 2) {
        CHECK_OK(cnn_onnx_save(model, path, NULL));
        CHECK_OK(cnn_onnx_load(path, NULL, &back));
    } else {
        CHECK_OK(cnn_model_save(model, path, NULL));
        CHECK_OK(cnn_model_load(path, &back));
    }
    unlink(path);
    ck_assert(cnn_node_attr(&back->nodes[cnn_model_find(back, "relu2")], "max") == 0.75);
    ck_assert(cnn_node_attr(&back->nodes[cnn_model_find(back, "leaky6")], "slope") == 0.01);
    float *before = run_logits(model, "cpu", &data, SHOWN), *after = run_logits(back, "cpu", &data, SHOWN);
    ck_assert_mem_eq(before, after, SHOWN * CLASSES * sizeof *before);
    free(before);
    free(after);
    cnn_model_free(back);
    cnn_model_free(model);
    free_data(&data);
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
    tcase_add_checked_fixture(tests, case_set_up, case_tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_it_trains, 0, 3);
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
