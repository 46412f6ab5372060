/* A residual network in whole: two stages, a projection where the shape changes, pools with a border and averages. It
 * trains, its INT8 is the same bits everywhere and what cnn/quant.h says, channels that an add joins are pruned
 * together, and a file holds it. */
#include "tests/network_case.h"

#include "cnn/quant.h"

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

START_TEST(test_it_trains)
{
    cnn_model *model = make_model(net, 1);
    case_check_trains(model, _i, 0.7);
    cnn_model_free(model);
}
END_TEST

/* ---- INT8 ---- */

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
                sum += case_q(model, all->from,
                              all->value[0][((n * big->h + p * stride + r) * big->w + q * stride + s) * big->c + c]);
        if (case_q(model, all->to, all->value[1][i]) != cnn_quant_requantize(sum, m, -127, 127))
            ck_abort_msg("average %d is wrong", (int)i);
    }
}

static void check_pool(cnn_model *model, const char *device, const char *name, int32_t kernel, int32_t stride)
{
    const int to = cnn_model_find(model, name);
    seen all = {.from = model->nodes[to].input[0], .to = to};
    for (int i = 0; i < 2; i++)
        all.value[i] = calloc((size_t)(SHOWN * cnn_desc_elements(&model->nodes[i ? all.to : all.from].out)), 4);
    case_observe(model, device, keep, &all);
    ck_assert_int_eq(all.count[1], SHOWN * cnn_desc_elements(&model->nodes[to].out));
    check_averages(model, &all, kernel, stride);
    free(all.value[0]);
    free(all.value[1]);
}

START_TEST(test_int8_is_the_specification)
{
    cnn_model *model = case_int8(net, NULL);
    case_check_same_bits(model);
    check_pool(model, "cpu", "pool6", 3, 2);
    check_pool(model, "ref", "pool6", 3, 2);
    check_pool(model, "cpu", "pool7", 3, 1);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_int8_is_close_to_float)
{
    cnn_model *model = make_model(net, 3), *int8 = case_int8(net, NULL);
    ck_assert_double_lt(case_difference(model, int8), 0.05);
    cnn_model_free(int8);
    cnn_model_free(model);
}
END_TEST

/* An average far smaller than the values has a scale of its own that is. */
START_TEST(test_averages_have_their_own_scale)
{
    cnn_model *model = case_int8(net, NULL);
    const cnn_node *pool = &model->nodes[cnn_model_find(model, "pool7")];
    ck_assert(pool->out_scale > 0 && pool->out_scale < model->nodes[pool->input[0]].out_scale);
    cnn_model_free(model);
}
END_TEST

/* A ReLU alone reads the sum: the sum is rounded in the ReLU's scale, and inference does both at once. */
START_TEST(test_a_sum_takes_the_scale_of_its_relu)
{
    cnn_model *model = case_int8(net, NULL);
    int count, sums = 0;
    ck_assert(model->nodes[cnn_model_find(model, "add5")].out_scale ==
              model->nodes[cnn_model_find(model, "relu5")].out_scale);
    cnn_instruction *instructions = case_instructions(model, CNN_GOAL_INFER, &count);
    for (int i = 0; i < count; i++) {
        const cnn_op_desc *desc = &instructions[i].desc;
        ck_assert_int_ne(desc->op, CNN_OP_RELU);
        ck_assert(desc->op != CNN_OP_ADD || desc->lo == 0);
        sums += desc->op == CNN_OP_ADD;
    }
    ck_assert_int_eq(sums, 2);
    free(instructions);
    cnn_model_free(model);
}
END_TEST

/* ---- Pruning and files ---- */

START_TEST(test_channels_joined_by_an_add_go_together)
{
    cnn_model *model = make_model(net, 5);
    const int64_t macs = cnn_model_macs(model), weights = cnn_model_weight_count(model);
    case_check_halving(model, (const char *const[]){"conv1", "conv2", "conv3", "conv4", "conv5", "short", NULL});
    ck_assert_int_eq(model->nodes[cnn_model_find(model, "pool7")].out.c, 8);
    ck_assert_int_eq(param_desc(model, "fc", CNN_PARAM_WEIGHT)->c, 8);
    ck_assert(cnn_model_macs(model) * 3 < macs && cnn_model_weight_count(model) * 3 < weights);
    cnn_model_free(model);
}
END_TEST

/* ---- Where averages are the scores, and what is refused ---- */

START_TEST(test_averages_can_be_the_scores)
{
    cnn_model *model = make_model("image = input(height=28, width=28, channels=1)\n"
                                  "conv1 = conv(image, out=10, kernel=5, stride=3)\n"
                                  "pool1 = globalavgpool(conv1)\n",
                                  1);
    record r;
    cnn_train_options options = case_options(&r);
    options.storage = CNN_F16; /* the scores are f32 all the same */
    case_check(cnn_train(model, case_synth, &options, NULL));
    case_check_close_logits(model, case_logits(model, "ref"));
    const cnn_quantize_options quantize = case_quantize_options();
    CHECK_REFUSED(cnn_quantize(model, &case_data, &quantize, NULL, NULL), CNN_ERR_UNSUPPORTED, "is a globalavgpool");
    cnn_model_free(model);
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
    tcase_add_checked_fixture(tests, case_network_set_up, case_network_tear_down);
    tcase_add_loop_test(tests, test_it_trains, 0, STORAGES);
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
