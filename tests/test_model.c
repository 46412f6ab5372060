/* Models in memory: the built-in networks, adding nodes, shapes, readers, initial weights, copies, counts, printing. */
#include "model_case.h"

#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check_builtin(const char *name, int64_t weights, int64_t macs)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_create(name, &model));
    cnn_tensor_desc in = cnn_model_input(model), out = cnn_model_output(model);
    const bool color = in.c == 3;
    ck_assert_int_eq(in.h, color ? 32 : 28);
    ck_assert_int_eq(in.w, in.h);
    ck_assert(color || in.c == 1);
    ck_assert_int_eq(out.c, 10);
    ck_assert_int_eq(cnn_model_weight_count(model), weights);
    ck_assert_int_eq(cnn_model_macs(model), macs);
    ck_assert(!cnn_model_is_quantized(model));
    ck_assert_int_eq(cnn_model_dataset(model), CNN_DATASET_NONE);
    ck_assert_str_eq(model->name, name);
    cnn_model_free(model);
}

/* n blocks a stage: all 3x3 convolutions but three take as many products, and two projections of 1x1 half of a ninth.
 */
static int64_t resnet_macs(int n)
{
    const int64_t whole = 1024 * 16 * 9 * 16;
    return 1024 * 27 * 16 + 2 * n * whole + 2 * (whole / 2 + (2 * n - 1) * whole + whole / 18) + 640;
}

START_TEST(test_builtin_sizes)
{
    /* Weights layer by layer: conv1, bn1, conv2, bn2, fc1 and its bias, fc2 and its bias. */
    check_builtin("convnet", 3200 + 512 + 819200 + 1024 + 12544 * 512 + 512 + 5120 + 10,
                  784 * 3200 + 196 * 819200 + 12544 * 512 + 5120);
    check_builtin("lenet5", 61706, 784 * 150 + 100 * 2400 + 400 * 120 + 120 * 84 + 840);
    check_builtin("lenet5-caffe", 431080, 576 * 500 + 64 * 25000 + 400000 + 5000);
    check_builtin("lenet300", 266610, 784 * 300 + 300 * 100 + 100 * 10);
    /* As PyTorch's models of these names have them: parameters, and running statistics beside them. */
    check_builtin("resnet20", 272474 + 1568, resnet_macs(3));
    check_builtin("resnet56", 855770 + 4256, resnet_macs(9));
    check_builtin("vgg16", 14728266 + 8448, 313196544 + 5120);
    /* First convolution, six blocks of a depthwise and a 1x1 convolution, linear layer; batch norms. */
    check_builtin("mobilenet-small", 864 + 10 * (1 + 512) + 7776 + 256000 + 4 * 2240, 18662400);
}
END_TEST

START_TEST(test_builtin_names)
{
    const char *const *names = cnn_model_builtin_names();
    ck_assert_str_eq(names[0], "convnet");
    int count = 0;
    while (names[count])
        count++;
    ck_assert_int_eq(count, 8);
}
END_TEST

START_TEST(test_caffe_has_no_relu_after_convolutions)
{
    cnn_model *model = NULL;
    int reader = -1;
    CHECK_OK(cnn_model_create("lenet5-caffe", &model));
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].type->id == CNN_LAYER_CONV) {
            ck_assert_int_eq(cnn_model_readers(model, i, &reader), 1);
            ck_assert_int_eq(model->nodes[reader].type->id, CNN_LAYER_MAXPOOL);
        }
    cnn_model_free(model);
}
END_TEST

START_TEST(test_init_bounds_and_formula)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_create("lenet5", &model));
    cnn_model_init(model, 42);
    uint64_t ordinal = 0;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_param *param = model->nodes[i].param;
        if (!param[CNN_PARAM_WEIGHT].data)
            continue;
        const cnn_tensor_desc *desc = &param[CNN_PARAM_WEIGHT].desc;
        float bound = (float)(1.0 / sqrt((double)(desc->h * desc->w * desc->c)));
        for (int role = CNN_PARAM_WEIGHT; role <= CNN_PARAM_BIAS; role++, ordinal++) {
            const float *values = param[role].data;
            float low = 0, high = 0;
            for (int64_t k = 0; k < cnn_desc_elements(&param[role].desc); k++) {
                float u = cnn_hash_uniform(cnn_hash(42, CNN_PURPOSE_INIT, ordinal, (uint64_t)k));
                ck_assert(values[k] == (2 * u - 1) * bound);
                low = fminf(low, values[k]);
                high = fmaxf(high, values[k]);
            }
            ck_assert(low >= -bound && high < bound);
            if (role == CNN_PARAM_WEIGHT)
                ck_assert(low < -0.9f * bound && high > 0.9f * bound);
        }
    }
    cnn_model_free(model);
}
END_TEST

START_TEST(test_init_bn)
{
    cnn_model *model = case_tiny();
    const cnn_node *bn = &model->nodes[cnn_model_find(model, "bn1")];
    for (int c = 0; c < 2; c++) {
        ck_assert(((float *)bn->param[CNN_PARAM_GAMMA].data)[c] == 1);
        ck_assert(((float *)bn->param[CNN_PARAM_BETA].data)[c] == 0);
        ck_assert(((float *)bn->param[CNN_PARAM_RUNNING_MEAN].data)[c] == 0);
        ck_assert(((float *)bn->param[CNN_PARAM_RUNNING_VAR].data)[c] == 1);
    }
    cnn_model_free(model);
}
END_TEST

START_TEST(test_clone_is_deep)
{
    cnn_model *model = case_tiny_int8(), *copy = NULL;
    cnn_param *weight = &model->nodes[1].param[CNN_PARAM_WEIGHT];
    weight->mask = cnn_aligned_alloc((size_t)cnn_desc_elements(&weight->desc));
    memset(weight->mask, 1, (size_t)cnn_desc_elements(&weight->desc));
    weight->desc.structure = CNN_SPARSE;
    model->text = cnn_strdup("made by a test");
    CHECK_OK(cnn_model_clone(model, &copy));
    case_check_equal(model, copy);
    ck_assert_ptr_ne(copy->nodes[1].param[CNN_PARAM_WEIGHT].data, weight->data);
    ck_assert_ptr_ne(copy->nodes[1].param[CNN_PARAM_WEIGHT].scale, weight->scale);
    ck_assert_ptr_ne(copy->nodes[1].param[CNN_PARAM_WEIGHT].mask, weight->mask);
    ck_assert_ptr_ne(copy->text, model->text);
    cnn_model_free(model);
    cnn_model_free(copy);
}
END_TEST

/* A network for other images and classes; when it cannot be, it stays as it was. */
START_TEST(test_adapt)
{
    cnn_model *model = NULL, *before = NULL;
    CHECK_OK(cnn_model_create("lenet5", &model));
    cnn_model_init(model, 1);
    CHECK_OK(cnn_model_clone(model, &before));
    CHECK_FAILS(cnn_model_adapt(model, &(cnn_image_form){.height = 8, .width = 8, .channels = 1}, 3), CNN_ERR_SHAPE,
                "lenet5", "conv2");
    CHECK_FAILS(cnn_model_adapt(model, &(cnn_image_form){.height = 28, .width = 28, .channels = 5}, 3), CNN_ERR_SHAPE,
                "channels of input is 5");
    case_check_equal(before, model);
    model->dataset = CNN_DATASET_MNIST;
    CHECK_OK(cnn_model_adapt(model, &(cnn_image_form){.height = 20, .width = 36, .channels = 3}, 7));
    ck_assert_int_eq(cnn_model_dataset(model), CNN_DATASET_NONE); /* whose names its outputs would have */
    cnn_tensor_desc in = cnn_model_input(model);
    ck_assert_int_eq(in.h * 10000 + in.w * 100 + in.c, 203603);
    ck_assert_int_eq(cnn_model_output(model).c, 7);
    ck_assert_int_eq(model->node_count, before->node_count);
    ck_assert_int_eq(model->nodes[1].param[CNN_PARAM_WEIGHT].desc.c, 3);
    ck_assert_str_eq(model->name, "lenet5");
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *param = &model->nodes[i].param[role];
            for (int64_t k = 0; param->data && k < cnn_desc_elements(&param->desc); k++)
                ck_assert(((const float *)param->data)[k] == 0);
        }
    cnn_model_free(before);
    cnn_model_free(model);
    CHECK_OK(cnn_model_parse("image = input(height=1, width=1, channels=2)\nr = relu(image)\n", "flat", &model));
    CHECK_FAILS(cnn_model_adapt(model, &(cnn_image_form){.height = 1, .width = 1, .channels = 1}, 2),
                CNN_ERR_UNSUPPORTED, "flat", "'r'");
    cnn_model_free(model);
}
END_TEST

/* A network of one convolution, with its outputs, and the outputs of the last layer. */
static cnn_model *two_layers(int out, const char *head, int classes, uint64_t seed)
{
    char text[256];
    cnn_model *model;
    snprintf(text, sizeof text,
             "image = input(height=8, width=8, channels=1)\nconv1 = conv(image, out=%d, kernel=3)\n"
             "bn1 = bn(conv1)\n%s = linear(bn1, out=%d)\n",
             out, head, classes);
    CHECK_OK(cnn_model_parse(text, "two.cfg", &model));
    cnn_model_init(model, seed);
    return model;
}

static bool same_values(const cnn_model *a, const cnn_model *b, int node)
{
    for (int role = 0; role < CNN_PARAM_COUNT; role++) {
        const cnn_param *x = &a->nodes[node].param[role], *y = &b->nodes[node].param[role];
        if (x->desc.dtype != CNN_NONE && memcmp(x->data, y->data, cnn_desc_bytes(&x->desc)) != 0)
            return false;
    }
    return true;
}

START_TEST(test_transfer)
{
    bool taken[4];
    cnn_model *from = two_layers(4, "fc", 10, 1), *same = two_layers(4, "fc", 10, 2);
    cnn_model *other_head = two_layers(4, "fc", 7, 2), *kept_head = two_layers(4, "fc", 7, 2);
    from->normalization.mean[0] = 0.25f;
    from->split_seed = 77;
    ((float *)from->nodes[2].param[CNN_PARAM_RUNNING_MEAN].data)[1] = 3;
    CHECK_OK(cnn_model_transfer(same, from, taken));
    ck_assert(!taken[0] && taken[1] && taken[2] && taken[3]);
    for (int node = 1; node < 4; node++)
        ck_assert(same_values(same, from, node));
    ck_assert(same->normalization.mean[0] == 0.25f && same->split_seed == 77);
    CHECK_OK(cnn_model_transfer(other_head, from, NULL)); /* who does not ask is not told */
    CHECK_OK(cnn_model_transfer(other_head, from, taken));
    ck_assert(taken[1] && taken[2] && !taken[3]);
    ck_assert(same_values(other_head, from, 1) && same_values(other_head, from, 2));
    ck_assert_msg(same_values(other_head, kept_head, 3), "the new head lost its values");
    cnn_model_free(from);
    cnn_model_free(same);
    cnn_model_free(other_head);
    cnn_model_free(kept_head);
}
END_TEST

START_TEST(test_layers)
{
    cnn_model *model = case_tiny();
    int64_t weights = 0, macs = 0;
    ck_assert_int_eq(cnn_model_layer_count(model), model->node_count);
    ((float *)model->nodes[1].param[CNN_PARAM_WEIGHT].data)[5] = 0;
    for (int i = 0; i < cnn_model_layer_count(model); i++) {
        const cnn_layer_info layer = cnn_model_layer(model, i);
        ck_assert_str_eq(layer.name, model->nodes[i].name);
        ck_assert_int_eq(layer.dtype, cnn_node_has_weights(&model->nodes[i]) ? CNN_F32 : CNN_NONE);
        weights += layer.weights;
        macs += layer.macs;
    }
    ck_assert_int_eq(weights, cnn_model_weight_count(model));
    ck_assert_int_eq(macs, cnn_model_macs(model));
    const cnn_layer_info conv = cnn_model_layer(model, 1);
    ck_assert_str_eq(conv.type, "conv");
    ck_assert_int_eq(conv.output.c, 2);
    ck_assert_int_eq(conv.zeros, 1);
    cnn_model_free(model);
    model = case_tiny_int8();
    ck_assert_int_eq(cnn_model_layer(model, 1).dtype, CNN_I8);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_normalization)
{
    cnn_model *model = case_tiny(), *quantized = case_tiny_int8();
    const cnn_normalization given = {{0.1f, 0.2f, 0.3f, 0.4f}, {1, 2, 3, 4}};
    cnn_normalization wrong = given;
    CHECK_OK(cnn_model_set_normalization(model, &given));
    wrong.std[2] = 0;
    CHECK_FAILS(cnn_model_set_normalization(model, &wrong), CNN_ERR_NUMERIC, "channel 2");
    const cnn_normalization kept = cnn_model_normalization(model);
    ck_assert_mem_eq(&kept, &given, sizeof given);
    CHECK_FAILS(cnn_model_set_normalization(quantized, &given), CNN_ERR_UNSUPPORTED, "INT8");
    cnn_model_free(model);
    cnn_model_free(quantized);
}
END_TEST

START_TEST(test_transfer_refuses)
{
    bool taken[4];
    cnn_model *from = two_layers(4, "fc", 10, 1), *wide = two_layers(5, "fc", 10, 2);
    cnn_model *alien = two_layers(4, "fc", 10, 2), *fresh = two_layers(5, "fc", 10, 2);
    ck_assert_int_eq(cnn_model_transfer(wide, from, taken), CNN_ERR_SHAPE);
    ck_assert(strstr(cnn_last_error(), "conv1") && strstr(cnn_last_error(), "5x3x3x1"));
    for (int node = 1; node < 4; node++) {
        ck_assert(same_values(wide, fresh, node));
        snprintf(alien->nodes[node].name, CNN_NAME_BYTES, "other%d", node);
    }
    ck_assert_int_eq(cnn_model_transfer(alien, from, taken), CNN_ERR_SHAPE);
    ck_assert(strstr(cnn_last_error(), "nothing to start from"));
    cnn_model_free(from);
    cnn_model_free(wide);
    cnn_model_free(alien);
    cnn_model_free(fresh);
}
END_TEST

START_TEST(test_print_and_parse_again)
{
    const char *const *names = cnn_model_builtin_names();
    for (; *names; names++) {
        cnn_model *model = NULL, *again = NULL;
        char *text = NULL, *text2 = NULL;
        CHECK_OK(cnn_model_create(*names, &model));
        CHECK_OK(cnn_model_print(model, &text));
        CHECK_OK(cnn_model_parse(text, *names, &again));
        case_check_equal(model, again);
        CHECK_OK(cnn_model_print(again, &text2));
        ck_assert_str_eq(text, text2);
        free(text);
        free(text2);
        cnn_model_free(model);
        cnn_model_free(again);
    }
}
END_TEST

START_TEST(test_print_keeps_odd_numbers)
{
    cnn_model *model = NULL;
    char *text = NULL;
    CHECK_OK(cnn_model_parse("i = input(height=1, width=1, channels=1)\nb = bn(i, eps=0.00012345678, momentum=0.3)\n",
                             "odd.cfg", &model));
    CHECK_OK(cnn_model_print(model, &text));
    ck_assert_str_eq(text,
                     "# odd\ni = input(height=1, width=1, channels=1)\nb = bn(i, eps=0.00012345678, momentum=0.3)\n");
    free(text);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_add_checks)
{
    cnn_model *model = cnn_model_new();
    const cnn_layer_type *relu = cnn_layer_find("relu"), *input = cnn_layer_find("input"), *add = cnn_layer_find("add");
    const double image[CNN_MAX_ATTRS] = {8, 8, 3};
    const int zero[2] = {0, 0}, later[1] = {1};
    ck_assert_int_eq(cnn_model_add(model, relu, "r", zero, 1, NULL), -(int)CNN_ERR_SHAPE);
    ck_assert_int_eq(cnn_model_add(model, input, "image", NULL, 0, NULL), -(int)CNN_ERR_SHAPE); /* needs attributes */
    ck_assert_int_eq(cnn_model_add(model, input, "image", NULL, 0, image), 0);
    ck_assert_int_eq(cnn_model_add(model, input, "second", NULL, 0, image), -(int)CNN_ERR_SHAPE);
    ck_assert_int_eq(cnn_model_add(model, relu, "image", zero, 1, NULL), -(int)CNN_ERR_SHAPE);
    ck_assert_int_eq(cnn_model_add(model, relu, "r", later, 1, NULL), -(int)CNN_ERR_SHAPE);
    ck_assert_int_eq(cnn_model_add(model, relu, "r", zero, 2, NULL), -(int)CNN_ERR_SHAPE);
    ck_assert_int_eq(cnn_model_add(model, relu, "", zero, 1, NULL), -(int)CNN_ERR_SHAPE);
    ck_assert_int_eq(cnn_model_add(model, relu, "a b", zero, 1, NULL), -(int)CNN_ERR_SHAPE);
    ck_assert_int_eq(cnn_model_add(model, relu, "r", zero, 1, NULL), 1);
    ck_assert_int_eq(cnn_model_add(model, add, "sum", (const int[]){0, 1}, 2, NULL), 2);
    ck_assert_int_eq(model->node_count, 3);
    ck_assert_int_eq(cnn_model_readers(model, 0, NULL), 2);
    ck_assert_int_eq(cnn_model_find(model, "sum"), 2);
    ck_assert_int_eq(cnn_model_find(model, "none"), -1);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_parameters_must_fit_the_graph)
{
    cnn_model *model = case_tiny();
    cnn_node_set_attr(&model->nodes[1], "out", 4);
    CHECK_FAILS(cnn_model_infer_shapes(model, "tiny"), CNN_ERR_SHAPE, "conv1", "weight", "[2,3,3,1]", "[4,3,3,1]");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_shapes_keep_quantized_dtypes)
{
    cnn_model *model = case_tiny_int8();
    CHECK_OK(cnn_model_finish(model, "tiny"));
    ck_assert_int_eq(model->nodes[1].param[CNN_PARAM_WEIGHT].desc.dtype, CNN_I8);
    ck_assert_int_eq(model->nodes[1].param[CNN_PARAM_BIAS].desc.dtype, CNN_I32);
    ck_assert(cnn_model_is_quantized(model));
    cnn_model_free(model);
}
END_TEST

START_TEST(test_allocations_may_fail)
{
    for (long n = 1;; n++) {
        cnn_model *model = NULL, *copy = NULL;
        cnn_memory_fail_at(n);
        cnn_status status = cnn_model_create("lenet300", &model);
        if (status == CNN_OK)
            status = cnn_model_clone(model, &copy);
        bool reached = cnn_memory_count() >= n;
        cnn_memory_fail_at(0);
        cnn_model_free(model);
        cnn_model_free(copy);
        if (!reached) {
            ck_assert_int_eq(status, CNN_OK);
            ck_assert_int_gt(n, 10);
            break;
        }
        ck_assert_msg(status == CNN_ERR_MEMORY, "allocation %ld: %s", n, cnn_status_name(status));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *tests = tcase_create("model");
    tcase_add_test(tests, test_builtin_sizes);
    tcase_add_test(tests, test_builtin_names);
    tcase_add_test(tests, test_caffe_has_no_relu_after_convolutions);
    tcase_add_test(tests, test_init_bounds_and_formula);
    tcase_add_test(tests, test_init_bn);
    tcase_add_test(tests, test_clone_is_deep);
    tcase_add_test(tests, test_adapt);
    tcase_add_test(tests, test_transfer);
    tcase_add_test(tests, test_layers);
    tcase_add_test(tests, test_normalization);
    tcase_add_test(tests, test_transfer_refuses);
    tcase_add_test(tests, test_print_and_parse_again);
    tcase_add_test(tests, test_print_keeps_odd_numbers);
    tcase_add_test(tests, test_add_checks);
    tcase_add_test(tests, test_parameters_must_fit_the_graph);
    tcase_add_test(tests, test_shapes_keep_quantized_dtypes);
    tcase_add_test(tests, test_allocations_may_fail);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
