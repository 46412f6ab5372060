/* A residual network in whole: two stages, a projection where the shape changes, pools with a border and averages. It
 * trains, its INT8 is the same bits everywhere and what cnn/quant.h says, channels that an add joins are pruned
 * together, and a file holds it. */
#include "tests/optimize_common.h"
#include "tests/train_case.h"

#include "cnn/quant.h"
#include "core/backends.h"
#include "core/pool.h"
#include "core/program.h"
#include "core/session.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { SIDE = 28, IMAGES = 100, SHOWN = 21, CLASSES = 10 };

static const char net[] = "image = input(height=28, width=28, channels=1)\n"
                          "conv1 = conv(image, out=8, kernel=3, pad=1, bias=0)\n"
                          "bn1 = bn(conv1)\n"
                          "relu1 = relu(bn1)\n"
                          "pool1 = maxpool(relu1, kernel=3, stride=2, pad=1)\n"
                          "conv2 = conv(pool1, out=12, kernel=3, pad=1, bias=0)\n"
                          "bn2 = bn(conv2)\n"
                          "relu2 = relu(bn2)\n"
                          "conv3 = conv(relu2, out=8, kernel=3, pad=1, bias=0)\n"
                          "bn3 = bn(conv3)\n"
                          "add3 = add(bn3, pool1)\n"
                          "relu3 = relu(add3)\n"
                          "conv4 = conv(relu3, out=16, kernel=3, stride=2, pad=1, bias=0)\n"
                          "bn4 = bn(conv4)\n"
                          "relu4 = relu(bn4)\n"
                          "conv5 = conv(relu4, out=16, kernel=3, pad=1, bias=0)\n"
                          "bn5 = bn(conv5)\n"
                          "short = conv(relu3, out=16, kernel=1, stride=2, bias=0)\n"
                          "bns = bn(short)\n"
                          "add5 = add(bn5, bns)\n"
                          "relu5 = relu(add5)\n"
                          "pool6 = avgpool(relu5, kernel=3, stride=2)\n"
                          "pool7 = globalavgpool(pool6)\n"
                          "fc = linear(pool7, out=10)\n";

/* ---- Training ---- */

START_TEST(test_it_trains)
{
    static const cnn_dtype storage[] = {CNN_F32, CNN_F16, CNN_BF16};
    record r;
    cnn_model *model = make_model(net, 1);
    cnn_train_options options = case_options(&r);
    options.epochs = 2;
    options.storage = storage[_i];
    case_check(cnn_train(model, case_synth, &options, NULL));
    ck_assert_int_eq(r.epochs, 2);
    ck_assert_msg(r.loss[1] < 0.7 * r.loss[0], "losses %g and %g", r.loss[0], r.loss[1]);
    cnn_model_free(model);
}
END_TEST

/* ---- INT8 ---- */

static cnn_model *quantized(const cnn_dataset *data)
{
    cnn_model *model = make_model(net, 3);
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.images = 64;
    CHECK_OK(cnn_fold_batchnorm(model));
    CHECK_OK(cnn_quantize(model, data, &options, NULL, NULL));
    return model;
}

/* The values of two neighbouring nodes, as they come. */
typedef struct seen {
    int from, to;
    int64_t count[2];
    float *value[2];
} seen;

static cnn_status keep(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    seen *all = context;
    if (node != all->from && node != all->to)
        return CNN_OK;
    const int which = node == all->to;
    const int64_t count = cnn_desc_elements(desc);
    memcpy(all->value[which] + all->count[which], values, (size_t)count * sizeof *values);
    all->count[which] += count;
    return CNN_OK;
}

static int q_of(const cnn_model *model, int node, float value)
{
    return (int)lrintf(value / model->nodes[node].out_scale);
}

/* Each average is its window's sum of int8, times one multiplier. */
static void check_averages(const cnn_model *model, const seen *all, int32_t kernel, int32_t stride)
{
    const cnn_tensor_desc *big = &model->nodes[all->from].out, *small = &model->nodes[all->to].out;
    const float m = cnn_quant_average_multiplier(model->nodes[all->from].out_scale, model->nodes[all->to].out_scale,
                                                 kernel * kernel);
    for (int64_t i = 0; i < all->count[1]; i++) {
        const int64_t c = i % small->c, q = i / small->c % small->w, p = i / small->c / small->w % small->h;
        const int64_t n = i / cnn_desc_elements(small);
        int32_t sum = 0;
        for (int64_t r = 0; r < kernel; r++)
            for (int64_t s = 0; s < kernel; s++)
                sum += q_of(model, all->from,
                            all->value[0][((n * big->h + p * stride + r) * big->w + q * stride + s) * big->c + c]);
        if (q_of(model, all->to, all->value[1][i]) != cnn_quant_requantize(sum, m, -127, 127))
            ck_abort_msg("average %d is wrong", (int)i);
    }
}

static void check_pool(cnn_model *model, const cnn_dataset *data, const char *device, const char *name, int32_t kernel,
                       int32_t stride)
{
    const int to = cnn_model_find(model, name);
    seen all = {.from = model->nodes[to].input[0], .to = to};
    for (int i = 0; i < 2; i++)
        all.value[i] = calloc((size_t)(SHOWN * cnn_desc_elements(&model->nodes[i ? all.to : all.from].out)), 4);
    cnn_session *session;
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = device, .batch = 16}, &session));
    CHECK_OK(cnn_session_observe(session, data, NULL, SHOWN, keep, &all));
    cnn_session_close(session);
    ck_assert_int_eq(all.count[1], SHOWN * cnn_desc_elements(&model->nodes[to].out));
    check_averages(model, &all, kernel, stride);
    free(all.value[0]);
    free(all.value[1]);
}

START_TEST(test_int8_is_the_specification)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = quantized(&data);
    float *cpu = run_logits(model, "cpu", &data, SHOWN), *ref = run_logits(model, "ref", &data, SHOWN);
    ck_assert_mem_eq(cpu, ref, SHOWN * CLASSES * sizeof *cpu);
    check_pool(model, &data, "cpu", "pool6", 3, 2);
    check_pool(model, &data, "ref", "pool6", 3, 2);
    check_pool(model, &data, "cpu", "pool7", 3, 1);
    free(cpu);
    free(ref);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

START_TEST(test_int8_is_close_to_float)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 3), *int8 = quantized(&data);
    float *exact = run_logits(model, "cpu", &data, SHOWN), *rounded = run_logits(int8, "cpu", &data, SHOWN);
    ck_assert_double_lt(relative_difference(exact, rounded, SHOWN * CLASSES), 0.05);
    free(exact);
    free(rounded);
    cnn_model_free(int8);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* An average far smaller than the values has a scale of its own that is. */
START_TEST(test_averages_have_their_own_scale)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = quantized(&data);
    const cnn_node *pool = &model->nodes[cnn_model_find(model, "pool7")];
    ck_assert(pool->out_scale > 0 && pool->out_scale < model->nodes[pool->input[0]].out_scale);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* A ReLU alone reads the sum: the sum is rounded in the ReLU's scale, and inference does both at once. */
START_TEST(test_a_sum_takes_the_scale_of_its_relu)
{
    const cnn_backend *backend = &cnn_backend_cpu;
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = quantized(&data);
    cnn_device *device;
    cnn_program *program;
    int sums = 0;
    ck_assert(model->nodes[cnn_model_find(model, "add5")].out_scale ==
              model->nodes[cnn_model_find(model, "relu5")].out_scale);
    CHECK_OK(backend->open(cnn_host_get(), NULL, &device));
    const cnn_lower_options options = {.goal = CNN_GOAL_INFER, .batch = 2, .backend = backend, .device = device};
    CHECK_OK(cnn_program_lower(model, &options, &program));
    CHECK_OK(cnn_program_fuse(program, backend, device));
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_op_desc *desc = &program->instructions[i].desc;
        ck_assert_int_ne(desc->op, CNN_OP_RELU);
        ck_assert(desc->op != CNN_OP_ADD || desc->lo == 0);
        sums += desc->op == CNN_OP_ADD;
    }
    ck_assert_int_eq(sums, 2);
    cnn_program_free(program, backend, device);
    backend->close(device);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* ---- Pruning and files ---- */

/* Sets to 0 the filter, gamma and beta of channel c of a conv and its batch norm: it adds nothing. */
static void silence(cnn_model *model, const char *conv, const char *bn, int32_t c)
{
    const cnn_tensor_desc *desc = param_desc(model, conv, CNN_PARAM_WEIGHT);
    const int64_t filter = cnn_desc_elements(desc) / desc->n;
    memset(param_data(model, conv, CNN_PARAM_WEIGHT) + c * filter, 0, (size_t)filter * sizeof(float));
    param_data(model, bn, CNN_PARAM_GAMMA)[c] = param_data(model, bn, CNN_PARAM_BETA)[c] = 0;
    param_data(model, bn, CNN_PARAM_RUNNING_MEAN)[c] = 0;
}

/* Every second channel of each layer is silent, so pruning half removes these and no answer changes. */
START_TEST(test_channels_joined_by_an_add_go_together)
{
    static const char *const layers[][2] = {{"conv1", "bn1"}, {"conv2", "bn2"}, {"conv3", "bn3"},
                                            {"conv4", "bn4"}, {"conv5", "bn5"}, {"short", "bns"}};
    static const int32_t left[] = {4, 6, 4, 8, 8, 8};
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 5), *loaded;
    for (int i = 0; i < 6; i++)
        for (int32_t c = 1; c < 2 * left[i]; c += 2)
            silence(model, layers[i][0], layers[i][1], c);
    float *before = run_logits(model, "cpu", &data, SHOWN);
    const int64_t macs = cnn_model_macs(model), weights = cnn_model_weight_count(model);
    cnn_prune_result result;
    CHECK_OK(cnn_prune_channels(model, &(cnn_prune_options){.ratio = 0.5}, &result));
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(param_desc(model, layers[i][0], CNN_PARAM_WEIGHT)->n, left[i]);
        ck_assert_int_eq(param_desc(model, layers[i][1], CNN_PARAM_GAMMA)->c, left[i]);
    }
    ck_assert_int_eq(model->nodes[cnn_model_find(model, "pool7")].out.c, 8);
    ck_assert_int_eq(param_desc(model, "fc", CNN_PARAM_WEIGHT)->c, 8);
    ck_assert(cnn_model_macs(model) * 3 < macs && cnn_model_weight_count(model) * 3 < weights);
    float *after = run_logits(model, "cpu", &data, SHOWN);
    ck_assert_double_lt(relative_difference(before, after, SHOWN * CLASSES), 1e-5);

    char path[64];
    snprintf(path, sizeof path, "residual-%ld.cnn", (long)getpid());
    CHECK_OK(cnn_model_save(model, path, NULL));
    CHECK_OK(cnn_model_load(path, &loaded));
    unlink(path);
    float *again = run_logits(loaded, "cpu", &data, SHOWN);
    ck_assert_mem_eq(after, again, SHOWN * CLASSES * sizeof *after);
    free(before);
    free(after);
    free(again);
    cnn_model_free(model);
    cnn_model_free(loaded);
    free_data(&data);
}
END_TEST

/* ---- Where averages are the scores, and what is refused ---- */

START_TEST(test_averages_can_be_the_scores)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model("image = input(height=28, width=28, channels=1)\n"
                                  "conv1 = conv(image, out=10, kernel=5, stride=3)\n"
                                  "pool1 = globalavgpool(conv1)\n",
                                  1);
    record r;
    cnn_train_options options = case_options(&r);
    options.storage = CNN_F16; /* the scores are f32 all the same */
    case_check(cnn_train(model, case_synth, &options, NULL));
    float *cpu = run_logits(model, "cpu", &data, SHOWN), *ref = run_logits(model, "ref", &data, SHOWN);
    ck_assert_double_lt(relative_difference(cpu, ref, SHOWN * CLASSES), 1e-5);
    cnn_quantize_options quantize;
    cnn_quantize_options_init(&quantize);
    CHECK_REFUSED(cnn_quantize(model, &data, &quantize, NULL, NULL), CNN_ERR_UNSUPPORTED, "is a globalavgpool");
    free(cpu);
    free(ref);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

START_TEST(test_what_cannot_be_pooled)
{
    cnn_model *model = NULL;
    CHECK_REFUSED(cnn_model_parse("image = input(height=8, width=4, channels=1)\na = avgpool(image, kernel=5)\n"
                                  "b = linear(a, out=2)\n",
                                  "a.cfg", &model),
                  CNN_ERR_SHAPE, "a 5x5 window does not fit its input of 8x4");
    CHECK_REFUSED(cnn_model_parse("image = input(height=8192, width=4096, channels=1)\na = globalavgpool(image)\n"
                                  "b = linear(a, out=2)\n",
                                  "a.cfg", &model),
                  CNN_ERR_SHAPE, "more than 16777216 pixels");
    CHECK_REFUSED(cnn_model_parse("image = input(height=8, width=8, channels=1)\na = maxpool(image, kernel=3, pad=3)\n"
                                  "b = linear(a, out=2)\n",
                                  "a.cfg", &model),
                  CNN_ERR_SHAPE, "its pad of 3 leaves no pixel in a window of 3");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("residual");
    TCase *tests = tcase_create("residual networks");
    tcase_add_checked_fixture(tests, case_set_up, case_tear_down);
    tcase_add_loop_test(tests, test_it_trains, 0, 3);
    tcase_add_test(tests, test_int8_is_the_specification);
    tcase_add_test(tests, test_int8_is_close_to_float);
    tcase_add_test(tests, test_averages_have_their_own_scale);
    tcase_add_test(tests, test_a_sum_takes_the_scale_of_its_relu);
    tcase_add_test(tests, test_channels_joined_by_an_add_go_together);
    tcase_add_test(tests, test_averages_can_be_the_scores);
    tcase_add_test(tests, test_what_cannot_be_pooled);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
