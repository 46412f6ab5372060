/* Calibration and INT8 quantization. */
#include "tests/optimize_common.h"

#include "cnn/quant.h"
#include "core/pool.h"
#include "optimize/calibrate.h"

#include <math.h>

static const char net[] = "image = input(height=12, width=12, channels=1)\n"
                          "conv1 = conv(image, out=8, kernel=3, pad=1)\n"
                          "relu1 = relu(conv1)\n"
                          "pool1 = maxpool(relu1, kernel=2)\n"
                          "conv2 = conv(pool1, out=12, kernel=3, bias=0)\n"
                          "pool2 = maxpool(conv2, kernel=2)\n"
                          "fc1 = linear(pool2, out=24)\n"
                          "relu2 = relu(fc1)\n"
                          "fc2 = linear(relu2, out=10)\n";

enum { SIDE = 12, IMAGES = 200, CLASSES = 10 };

static cnn_quantize_options quick(void)
{
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.images = 64;
    options.device = "ref";
    return options;
}

static cnn_status quantize(cnn_model *model, const cnn_dataset *data)
{
    cnn_quantize_options options = quick();
    return cnn_quantize(model, data, &options, NULL, NULL);
}

/* ---- Calibration ---- */

START_TEST(test_calibration_images_are_training_images)
{
    cnn_model *model = make_model(net, 1);
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_split split;
    CHECK_OK(cnn_dataset_split(&data, model->split_seed, &split));
    int32_t *index, *other, count, other_count;
    CHECK_OK(cnn_calibration_pick(model, &data, 0, 64, 1, &index, &count));
    CHECK_OK(cnn_calibration_pick(model, &data, 0, 64, 2, &other, &other_count));
    ck_assert_int_eq(count, 64);
    int differ = 0;
    for (int i = 0; i < count; i++) {
        ck_assert(i == 0 || index[i] > index[i - 1]);
        for (int v = 0; v < split.validation_count; v++)
            ck_assert_int_ne(index[i], split.validation[v]);
        differ += index[i] != other[i];
    }
    ck_assert_int_gt(differ, 0);
    free(index);
    free(other);
    CHECK_OK(cnn_calibration_pick(model, &data, 0, 100000, 1, &index, &count));
    ck_assert_int_eq(count, split.train_count);
    free(index);
    cnn_split_free(&split);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

/* Gives the images of a list the whole range of bytes. */
static void brighten(cnn_dataset *data, const int32_t *index, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        for (int p = 0; p < SIDE * SIDE; p++)
            data->images[index[i] * SIDE * SIDE + p] = p % 2 ? 255 : 0;
}

/* What stands in the validation images has no influence; what stands in the training images has. */
START_TEST(test_validation_images_are_not_read)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    for (int p = 0; p < IMAGES * SIDE * SIDE; p++)
        data.images[p] = (uint8_t)(120 + data.images[p] % 16);
    cnn_model *model[3];
    for (int i = 0; i < 3; i++)
        model[i] = make_model(net, 1);
    cnn_split split;
    CHECK_OK(cnn_dataset_split(&data, model[0]->split_seed, &split));
    ck_assert_int_gt(split.validation_count, 0);
    CHECK_OK(quantize(model[0], &data));
    brighten(&data, split.validation, split.validation_count);
    CHECK_OK(quantize(model[1], &data));
    ck_assert_uint_eq(fingerprint(model[0]), fingerprint(model[1]));
    brighten(&data, split.train, split.train_count);
    CHECK_OK(quantize(model[2], &data));
    ck_assert_uint_ne(fingerprint(model[0]), fingerprint(model[2]));
    for (int i = 0; i < 3; i++)
        cnn_model_free(model[i]);
    cnn_split_free(&split);
    free_data(&data);
}
END_TEST

/* A 1x1 convolution that multiplies by 2: its range is known from the bytes. */
START_TEST(test_ranges_of_a_known_network)
{
    cnn_model *model = make_model("image = input(height=4, width=4, channels=1)\n"
                                  "conv1 = conv(image, out=1, kernel=1)\n"
                                  "relu1 = relu(conv1)\n"
                                  "conv2 = conv(relu1, out=1, kernel=1)\n"
                                  "pool1 = maxpool(conv2, kernel=2)\n"
                                  "fc = linear(pool1, out=10)\n",
                                  2);
    param_data(model, "conv1", CNN_PARAM_WEIGHT)[0] = 2;
    param_data(model, "conv1", CNN_PARAM_BIAS)[0] = 0;
    param_data(model, "conv2", CNN_PARAM_WEIGHT)[0] = -3;
    param_data(model, "conv2", CNN_PARAM_BIAS)[0] = 0;
    cnn_dataset data = make_data(100, 4, 1, CLASSES);
    /* (204/255 - 0.5)/0.5 = 0.6, and one -1 in each window of the pooling, which therefore gives only zeros. */
    for (int p = 0; p < 1600; p++)
        data.images[p] = p % 2 == 0 && p / 4 % 2 == 0 ? 0 : 204;
    cnn_quantize_options options = quick();
    options.observer = CNN_OBSERVER_MAX;
    cnn_quantize_row *rows;
    int count;
    CHECK_OK(cnn_quantize(model, &data, &options, &rows, &count));
    ck_assert_float_eq_tol(model->nodes[0].out_scale, 1.0f / 127, 1e-8f);
    ck_assert_float_eq_tol(model->nodes[2].out_scale, 1.2f / 127, 1e-7f);
    ck_assert_float_eq_tol(model->nodes[3].out_scale, 3.6f / 127, 1e-7f);
    ck_assert(model->nodes[4].out_scale == model->nodes[3].out_scale);
    ck_assert(model->nodes[5].out_scale == 0);
    ck_assert_int_eq(count, 3);
    ck_assert_str_eq(rows[0].layer, "conv1");
    ck_assert(rows[0].scale == model->nodes[2].out_scale);
    ck_assert(rows[1].scale == model->nodes[3].out_scale);
    ck_assert(rows[2].scale == 0);
    free(rows);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

/* ---- Quantization ---- */

START_TEST(test_weights_survive_the_round_trip)
{
    cnn_model *model = make_model(net, 3), *original;
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    param_data(model, "fc1", CNN_PARAM_BIAS)[3] = 0;
    memset(param_data(model, "fc1", CNN_PARAM_WEIGHT) + 3 * 48, 0, 48 * sizeof(float));
    CHECK_OK(cnn_model_clone(model, &original));
    cnn_quantize_options options = quick();
    options.bias_correction = false;
    CHECK_OK(cnn_quantize(model, &data, &options, NULL, NULL));
    ck_assert(cnn_model_is_quantized(model));
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i], *before = &original->nodes[i];
        const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT], *bias = &node->param[CNN_PARAM_BIAS];
        if (weight->desc.dtype == CNN_NONE)
            continue;
        ck_assert_int_eq(weight->desc.dtype, CNN_I8);
        ck_assert_int_eq(bias->desc.dtype, CNN_I32);
        int64_t count = cnn_desc_elements(&weight->desc) / weight->desc.n;
        double s_in = model->nodes[node->input[0]].out_scale;
        const float *bias_before = before->param[CNN_PARAM_BIAS].data;
        for (int64_t j = 0; j < count * weight->desc.n; j++) {
            double scale = weight->scale[j / count], value = ((const int8_t *)weight->data)[j] * scale;
            ck_assert_double_le(fabs(value - ((const float *)before->param[0].data)[j]), scale * 0.5000001);
        }
        for (int k = 0; k < weight->desc.n; k++) {
            double step = s_in * weight->scale[k], value = ((const int32_t *)bias->data)[k] * step;
            ck_assert_double_le(fabs(value - (bias_before ? bias_before[k] : 0)), step * 0.5000001);
        }
    }
    ck_assert(model->nodes[cnn_model_find(model, "fc1")].param[CNN_PARAM_WEIGHT].scale[3] == 1);
    ck_assert_int_eq(cnn_node_int(&model->nodes[cnn_model_find(model, "conv2")], "bias"), 1);
    free_data(&data);
    cnn_model_free(original);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_logits_stay_close_to_float)
{
    cnn_model *model = make_model(net, 4);
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    float *before = run_logits(model, "ref", &data, 50);
    CHECK_OK(quantize(model, &data));
    float *after = run_logits(model, "ref", &data, 50);
    double signal = 0, noise = 0;
    for (int i = 0; i < 50 * CLASSES; i++) {
        signal += (double)before[i] * before[i];
        noise += ((double)after[i] - before[i]) * ((double)after[i] - before[i]);
    }
    /* Four tensors of 8 bits and weights of 8 bits: each adds noise of some -45 dB, together well under -30. */
    ck_assert_double_gt(10 * log10(signal / noise), 30);
    free(before);
    free(after);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_cpu_and_ref_agree_bit_for_bit)
{
    cnn_model *model = make_model(net, 5);
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    CHECK_OK(quantize(model, &data));
    float *ref = run_logits(model, "ref", &data, 70), *cpu = run_logits(model, "cpu", &data, 70);
    ck_assert_mem_eq(ref, cpu, 70 * CLASSES * sizeof(float));
    free(ref);
    free(cpu);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_quantizing_is_deterministic)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    uint64_t prints[2];
    for (int i = 0; i < 2; i++) {
        cnn_model *model = make_model(net, 6);
        cnn_quantize_options options = quick();
        options.device = "cpu";
        CHECK_OK(cnn_set_threads(i + 1));
        CHECK_OK(cnn_quantize(model, &data, &options, NULL, NULL));
        prints[i] = fingerprint(model);
        cnn_model_free(model);
    }
    ck_assert_uint_eq(prints[0], prints[1]);
    free_data(&data);
}
END_TEST

START_TEST(test_residual_network)
{
    cnn_model *model = make_model("image = input(height=12, width=12, channels=1)\n"
                                  "conv1 = conv(image, out=8, kernel=3, pad=1)\n"
                                  "relu1 = relu(conv1)\n"
                                  "conv2 = conv(relu1, out=8, kernel=3, pad=1)\n"
                                  "sum = add(relu1, conv2)\n"
                                  "relu2 = relu(sum)\n"
                                  "conv3 = conv(relu2, out=8, kernel=3)\n"
                                  "pool3 = maxpool(conv3, kernel=2)\n"
                                  "relu3 = relu(pool3)\n"
                                  "fc = linear(relu3, out=10)\n",
                                  7);
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    float *before = run_logits(model, "ref", &data, 20);
    CHECK_OK(quantize(model, &data));
    float *after = run_logits(model, "ref", &data, 20), *cpu = run_logits(model, "cpu", &data, 20);
    ck_assert_double_le(relative_difference(before, after, 200), 0.05);
    ck_assert_mem_eq(after, cpu, 200 * sizeof(float));
    free(before);
    free(after);
    free(cpu);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

/* ---- Refusals ---- */

START_TEST(test_weights_that_int8_cannot_hold)
{
    static const struct {
        float weight;
        const char *text;
    } cases[] = {{NAN, "not a finite number"}, {INFINITY, "not a finite number"}, {1e-44f, "too large or too small"}};
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    for (int i = 0; i < 3; i++) {
        cnn_model *model = make_model(net, 8);
        float *weights = param_data(model, "conv2", CNN_PARAM_WEIGHT);
        for (int j = 0; j < 72; j++)
            weights[5 * 72 + j] = cases[i].weight;
        uint64_t before = fingerprint(model);
        CHECK_REFUSED(quantize(model, &data), CNN_ERR_NUMERIC, cases[i].text);
        ck_assert_ptr_nonnull(strstr(cnn_last_error(), "'conv2'"));
        ck_assert_uint_eq(fingerprint(model), before);
        cnn_model_free(model);
    }
    free_data(&data);
}
END_TEST

START_TEST(test_sums_that_do_not_fit)
{
    /* 366*366 products of 127*127 are more than 2^31. */
    cnn_model *model = make_model("image = input(height=366, width=366, channels=1)\n"
                                  "wide = linear(image, out=2)\n",
                                  9);
    cnn_dataset data = make_data(20, 366, 1, 2);
    CHECK_REFUSED(quantize(model, &data), CNN_ERR_NUMERIC, "'wide'");
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "32 bits"));
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_blank_calibration_images)
{
    cnn_model *model = make_model(net, 10);
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    uint64_t before = fingerprint(model);
    for (int i = 0; i < IMAGES; i++)
        memset(data.images + i * SIDE * SIDE, i % 3, SIDE * SIDE);
    CHECK_REFUSED(quantize(model, &data), CNN_ERR_NUMERIC, "blank");
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "check the data"));
    ck_assert_uint_eq(fingerprint(model), before);
    /* One image that is not is enough. */
    int32_t *index, count;
    CHECK_OK(cnn_calibration_pick(model, &data, 0, 1, 1, &index, &count));
    data.images[index[0] * SIDE * SIDE + SIDE * SIDE - 1] = 200;
    CHECK_OK(quantize(model, &data));
    free(index);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

/* A layer that gives nothing but zeros does no harm and is reported; so do channels without weights. */
START_TEST(test_dead_layers)
{
    cnn_model *model = make_model(net, 10);
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    for (int k = 0; k < 24; k++)
        param_data(model, "fc1", CNN_PARAM_BIAS)[k] = -1000;
    memset(param_data(model, "conv1", CNN_PARAM_WEIGHT), 0, 9 * sizeof(float));
    float *before = run_logits(model, "ref", &data, 20);
    cnn_quantize_options options = quick();
    cnn_quantize_row *rows;
    int count;
    CHECK_OK(cnn_quantize(model, &data, &options, &rows, &count));
    ck_assert_int_eq(count, 4);
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(rows[i].dead, i == 2);
    ck_assert(rows[2].scale == rows[1].scale);
    ck_assert(isnan(rows[2].sqnr_db) && isnan(rows[2].cosine));
    float *after = run_logits(model, "ref", &data, 20), *cpu = run_logits(model, "cpu", &data, 20);
    ck_assert_double_le(relative_difference(before, after, 20 * CLASSES), 1e-4);
    ck_assert_mem_eq(after, cpu, 20 * CLASSES * sizeof *cpu);
    free(before);
    free(after);
    free(cpu);
    free(rows);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_models_that_do_not_fit)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES), small = make_data(IMAGES, 8, 1, CLASSES);
    cnn_model *model = make_model(net, 11);
    CHECK_REFUSED(quantize(model, &small), CNN_ERR_SHAPE, "8x8x1");
    cnn_quantize_options options = quick();
    options.percentile = NAN;
    CHECK_REFUSED(cnn_quantize(model, &data, &options, NULL, NULL), CNN_ERR_USAGE, "percentile");
    options = quick();
    options.images = 0;
    CHECK_REFUSED(cnn_quantize(model, &data, &options, NULL, NULL), CNN_ERR_USAGE, "at least 1");
    CHECK_OK(quantize(model, &data));
    CHECK_REFUSED(quantize(model, &data), CNN_ERR_UNSUPPORTED, "already INT8");
    CHECK_REFUSED(cnn_prune_channels(model, &(cnn_prune_options){.ratio = 0.5}, NULL), CNN_ERR_UNSUPPORTED,
                  "already INT8");
    cnn_model_free(model);

    model = make_model("image = input(height=12, width=12, channels=1)\n"
                       "fc1 = linear(image, out=10)\n"
                       "norm = bn(fc1)\n"
                       "fc2 = linear(norm, out=10)\n",
                       12);
    CHECK_REFUSED(quantize(model, &data), CNN_ERR_UNSUPPORTED, "'norm' is a batch norm");
    cnn_model_free(model);

    model = make_model("image = input(height=12, width=12, channels=1)\n"
                       "fc1 = linear(image, out=10)\n"
                       "end = relu(fc1)\n",
                       13);
    CHECK_REFUSED(quantize(model, &data), CNN_ERR_UNSUPPORTED, "'end'");
    cnn_model_free(model);
    free_data(&data);
    free_data(&small);
}
END_TEST

START_TEST(test_out_of_memory_changes_nothing)
{
    cnn_model *model = make_model("image = input(height=4, width=4, channels=1)\n"
                                  "fc1 = linear(image, out=8)\n"
                                  "relu1 = relu(fc1)\n"
                                  "fc2 = linear(relu1, out=10)\n",
                                  14);
    cnn_dataset data = make_data(40, 4, 1, CLASSES);
    uint64_t before = fingerprint(model);
    cnn_quantize_options options = quick();
    options.images = 8;
    cnn_quantize_row *rows = NULL;
    int count;
    cnn_status status = CNN_ERR_MEMORY;
    for (long n = 1; status != CNN_OK; n++) {
        cnn_memory_fail_at(n);
        status = cnn_quantize(model, &data, &options, &rows, &count);
        cnn_memory_fail_at(0);
        if (status != CNN_OK)
            ck_assert_uint_eq(fingerprint(model), before);
        ck_assert_int_lt(n, 2000);
    }
    ck_assert_int_eq(count, 2);
    free(rows);
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

static Suite *quantize_suite(void)
{
    Suite *suite = suite_create("quantize");
    TCase *observing = tcase_create("observing");
    tcase_add_test(observing, test_calibration_images_are_training_images);
    tcase_add_test(observing, test_validation_images_are_not_read);
    tcase_add_test(observing, test_ranges_of_a_known_network);
    suite_add_tcase(suite, observing);
    TCase *quantizing = tcase_create("quantizing");
    tcase_set_timeout(quantizing, 60);
    tcase_add_test(quantizing, test_weights_survive_the_round_trip);
    tcase_add_test(quantizing, test_logits_stay_close_to_float);
    tcase_add_test(quantizing, test_cpu_and_ref_agree_bit_for_bit);
    tcase_add_test(quantizing, test_quantizing_is_deterministic);
    tcase_add_test(quantizing, test_residual_network);
    tcase_add_test(quantizing, test_weights_that_int8_cannot_hold);
    tcase_add_test(quantizing, test_sums_that_do_not_fit);
    tcase_add_test(quantizing, test_blank_calibration_images);
    tcase_add_test(quantizing, test_dead_layers);
    tcase_add_test(quantizing, test_models_that_do_not_fit);
    tcase_add_test(quantizing, test_out_of_memory_changes_nothing);
    suite_add_tcase(suite, quantizing);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(quantize_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
