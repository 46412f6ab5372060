/* Channels side by side, in whole: a small network of branches trains, its INT8 is the same bits everywhere and what
 * cnn/quant.h says, pruning and dead units follow the pieces, files hold it. */
#include "tests/network_case.h"

#include "cnn/quant.h"

static const char net[] = "image = input(height=28, width=28, channels=1)\n"
                          "conv1 = conv(image, out=8, kernel=3, stride=2, pad=1)\n"
                          "relu1 = relu(conv1)\n"
                          "a = conv(relu1, out=8, kernel=3, pad=1)\n"
                          "b = conv(relu1, out=12, kernel=1)\n"
                          "relub = relu(b)\n"
                          "cat = concat(a, relub, relu1)\n"
                          "relu2 = relu(cat)\n"
                          "deep = conv(relu2, out=28, kernel=3, pad=1, groups=28)\n"
                          "c = conv(deep, out=10, kernel=1)\n"
                          "pool = maxpool(c, kernel=2)\n"
                          "d = conv(deep, out=6, kernel=2, stride=2)\n"
                          "cat2 = concat(pool, d)\n"
                          "gap = globalavgpool(cat2)\n"
                          "fc = linear(gap, out=10)\n";

/* The same with batch norms, one of them behind the concat. */
static const char normalized[] = "image = input(height=28, width=28, channels=1)\n"
                                 "conv1 = conv(image, out=8, kernel=3, stride=2, pad=1)\n"
                                 "bn1 = bn(conv1)\n"
                                 "relu1 = relu(bn1)\n"
                                 "a = conv(relu1, out=8, kernel=3, pad=1)\n"
                                 "b = conv(relu1, out=12, kernel=1)\n"
                                 "bnb = bn(b)\n"
                                 "relub = relu(bnb)\n"
                                 "cat = concat(a, relub, relu1)\n"
                                 "bn2 = bn(cat)\n"
                                 "relu2 = relu(bn2)\n"
                                 "deep = conv(relu2, out=28, kernel=3, pad=1, groups=28)\n"
                                 "c = conv(deep, out=10, kernel=1)\n"
                                 "pool = maxpool(c, kernel=2)\n"
                                 "d = conv(deep, out=6, kernel=2, stride=2)\n"
                                 "cat2 = concat(pool, d)\n"
                                 "bn3 = bn(cat2)\n"
                                 "relu3 = relu(bn3)\n"
                                 "fc = linear(relu3, out=10)\n";

START_TEST(test_it_trains)
{
    static const char *const layers[] = {"conv1", "a", "b", "deep", "c", "d"};
    cnn_model *model = make_model(normalized, 1), *before;
    CHECK_OK(cnn_model_clone(model, &before));
    case_check_trains(model, _i, 0.7);
    for (int i = 0; i < 6; i++) /* each gets its share of the gradient */
        ck_assert(memcmp(param_data(model, layers[i], CNN_PARAM_WEIGHT),
                         param_data(before, layers[i], CNN_PARAM_WEIGHT),
                         cnn_desc_bytes(param_desc(model, layers[i], CNN_PARAM_WEIGHT))) != 0);
    cnn_model_free(before);
    cnn_model_free(model);
}
END_TEST

/* ---- INT8 ---- */

/* The inputs of node `cat`, as they come. */
typedef struct seen {
    const cnn_model *model;
    int cat;
    float *value[CNN_MAX_INPUTS];
    int64_t checked;
} seen;

static cnn_status check_node(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    seen *s = context;
    const cnn_node *cat = &s->model->nodes[s->cat];
    for (int i = 0; i < cat->input_count; i++)
        if (node == cat->input[i])
            memcpy(s->value[i], values, (size_t)cnn_desc_elements(desc) * sizeof *values);
    for (int64_t pixel = 0; node == s->cat && pixel < cnn_desc_pixels(desc); pixel++)
        for (int i = 0, first = 0; i < cat->input_count; first += s->model->nodes[cat->input[i++]].out.c) {
            const cnn_node *input = &s->model->nodes[cat->input[i]];
            for (int32_t c = 0; c < input->out.c; c++, s->checked++) {
                const int8_t x = (int8_t)case_q(s->model, cat->input[i], s->value[i][pixel * input->out.c + c]);
                const int8_t y = (int8_t)case_q(s->model, node, values[pixel * desc->c + first + c]);
                ck_assert_int_eq(y, cnn_quant_rescale(x, input->out_scale, cat->out_scale, -127, 127));
            }
        }
    return CNN_OK;
}

static void check_formula(cnn_model *model, const char *device)
{
    seen s = {.model = model, .cat = cnn_model_find(model, "cat")};
    for (int i = 0; i < 3; i++)
        s.value[i] = malloc(16 * 14 * 14 * 12 * sizeof(float));
    case_observe(model, device, check_node, &s);
    ck_assert_int_eq(s.checked, SHOWN * 14 * 14 * 28);
    for (int i = 0; i < 3; i++)
        free(s.value[i]);
}

START_TEST(test_int8)
{
    cnn_model *model = make_model(net, 3), *int8 = case_int8(net, NULL);
    ck_assert_double_lt(case_difference(model, int8), 0.05);
    case_check_same_bits(int8);
    check_formula(int8, "cpu:portable");
    check_formula(int8, "ref");
    cnn_model_free(int8);
    cnn_model_free(model);
}
END_TEST

/* ---- Pruning ---- */

/* Channels go from the branches and behind them. */
START_TEST(test_pruning_follows_the_pieces)
{
    cnn_model *model = make_model(net, 5);
    case_silence(model, "d", 4);
    case_silence(model, "d", 5);
    const cnn_prune_result result =
        case_check_halving(model, (const char *const[]){"conv1", "a", "b", "deep", "c", NULL});
    ck_assert_int_eq(result.candidates, 8 + 8 + 12 + 10 + 6);
    ck_assert_int_eq(result.removed, 4 + 4 + 6 + 5 + 2);
    ck_assert_int_eq(param_desc(model, "c", CNN_PARAM_WEIGHT)->c, 14);
    ck_assert_int_eq(param_desc(model, "fc", CNN_PARAM_WEIGHT)->c, 5 + 4);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_narrowing_counts_pieces)
{
    cnn_model *model = make_model(net, 7);
    const cnn_prune_options options = {.criterion = CNN_CRITERION_L2, .seed = 1};
    cnn_prune_budget left;
    CHECK_OK(cnn_prune_to_budget(model, &(cnn_prune_budget){.weights = 1500}, &options, &left));
    int64_t weights = 0;
    for (int i = 0; i < model->node_count; i++)
        if (cnn_node_has_weights(&model->nodes[i]))
            weights += cnn_desc_elements(&model->nodes[i].param[CNN_PARAM_WEIGHT].desc);
    ck_assert_int_eq(left.weights, weights);
    ck_assert_int_le(left.weights, 1500);
    cnn_model_free(model);
}
END_TEST

/* Where an add joins a concat with another layer, all of it stays whole. */
START_TEST(test_an_add_holds_the_pieces)
{
    cnn_model *model = make_model("image = input(height=28, width=28, channels=1)\n"
                                  "conv1 = conv(image, out=8, kernel=3, stride=2)\n"
                                  "a = conv(conv1, out=8, kernel=3, pad=1)\n"
                                  "cat = concat(a, conv1)\n"
                                  "e = conv(cat, out=16, kernel=3, pad=1)\n"
                                  "sum = add(cat, e)\n"
                                  "f = conv(sum, out=12, kernel=3)\n"
                                  "gap = globalavgpool(f)\n"
                                  "fc = linear(gap, out=10)\n",
                                  5);
    cnn_prune_result result;
    CHECK_OK(cnn_prune_channels(model, &(cnn_prune_options){.ratio = 0.5}, &result));
    ck_assert_int_eq(result.candidates, 12);
    ck_assert_int_eq(param_desc(model, "f", CNN_PARAM_WEIGHT)->n, 6);
    ck_assert_int_eq(param_desc(model, "f", CNN_PARAM_WEIGHT)->c, 16);
    ck_assert_int_eq(param_desc(model, "a", CNN_PARAM_WEIGHT)->n, 8);
    cnn_model_free(model);
}
END_TEST

/* Channel 2 of branch a is read by nobody; channel 5 of branch b comes to nothing, in a constant that stays. */
START_TEST(test_dead_units)
{
    cnn_model *model = make_model(net, 4);
    float *c = param_data(model, "c", CNN_PARAM_WEIGHT), *d = param_data(model, "d", CNN_PARAM_WEIGHT);
    for (int k = 0; k < 10; k++)
        c[k * 28 + 2] = 0;
    for (int k = 0; k < 6 * 4; k++)
        d[k * 28 + 2] = 0;
    case_make_constant(model, "b", 5, 0.5f);
    case_check_dead(model, 1);
    ck_assert_int_eq(param_desc(model, "a", CNN_PARAM_WEIGHT)->n, 7);
    ck_assert_int_eq(param_desc(model, "deep", CNN_PARAM_WEIGHT)->n, 27);
    cnn_model_free(model);
}
END_TEST

/* A filter of zeros behind the concat: what makes its channel falls, and what reads it. */
START_TEST(test_masks)
{
    cnn_model *model = make_model(net, 6);
    int64_t units;
    case_prune_filter(model, "deep", 2);
    CHECK_OK(cnn_mask_dead(model, &units));
    ck_assert_int_eq(units, 1);
    const uint8_t *makes = model->nodes[cnn_model_find(model, "a")].param[CNN_PARAM_WEIGHT].mask;
    const uint8_t *reads = model->nodes[cnn_model_find(model, "c")].param[CNN_PARAM_WEIGHT].mask;
    for (int i = 0; i < 72; i++)
        ck_assert(!makes[2 * 72 + i] && makes[3 * 72 + i]);
    for (int k = 0; k < 10; k++)
        ck_assert(!reads[k * 28 + 2] && reads[k * 28 + 3]);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_equalizing_leaves_pieces)
{
    cnn_model *model = make_model(net, 5);
    float *before = case_logits(model, "cpu");
    case_check_equalize(model, 0);
    case_check_same_logits(model, before);
    cnn_model_free(model);
}
END_TEST

/* ---- Files, and what is refused ---- */

START_TEST(test_files)
{
    cnn_model *model = _i % 2 ? case_int8(net, NULL) : make_model(net, 8);
    cnn_model *back = case_check_file(model, _i < 2 ? "onnx" : "cnn");
    ck_assert_int_eq(back->nodes[cnn_model_find(back, "cat")].input_count, 3);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_shapes)
{
    cnn_model *model;
    CHECK_REFUSED(cnn_model_parse("image = input(height=8, width=4, channels=3)\n"
                                  "a = maxpool(image, kernel=2)\n"
                                  "b = concat(a, image)\n",
                                  "bad.cfg", &model),
                  CNN_ERR_SHAPE, "4x2 and 8x4 pixels");
    CHECK_REFUSED(cnn_model_parse("image = input(height=8, width=4, channels=3)\n"
                                  "a = concat(image)\n",
                                  "bad.cfg", &model),
                  CNN_ERR_FORMAT, "concat takes 2 to 8 inputs, not 1");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("concat");
    TCase *tests = tcase_create("concat");
    tcase_add_checked_fixture(tests, case_network_set_up, case_network_tear_down);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, test_it_trains, 0, STORAGES);
    tcase_add_test(tests, test_int8);
    tcase_add_test(tests, test_pruning_follows_the_pieces);
    tcase_add_test(tests, test_narrowing_counts_pieces);
    tcase_add_test(tests, test_an_add_holds_the_pieces);
    tcase_add_test(tests, test_dead_units);
    tcase_add_test(tests, test_masks);
    tcase_add_test(tests, test_equalizing_leaves_pieces);
    tcase_add_loop_test(tests, test_files, 0, 4);
    tcase_add_test(tests, test_shapes);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
