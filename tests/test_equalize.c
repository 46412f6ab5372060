/* Cross-layer equalization: what the float model gives stays, channels get even ranges, and INT8 of a network whose
 * channels differ wildly comes back from uselessness. */
#include "tests/optimize_common.h"

#include <math.h>

enum { SIDE = 12, CLASSES = 5, IMAGES = 100 };

/* An add ties conv1, conv2 and their readers; conv3 has pooling alone behind it. */
static const char net[] = "image = input(height=12, width=12, channels=2)\n"
                          "conv1 = conv(image, out=16, kernel=3, pad=1)\n"
                          "relu1 = relu(conv1)\n"
                          "conv2 = conv(relu1, out=16, kernel=3, pad=1, bias=0)\n"
                          "sum = add(conv2, relu1)\n"
                          "relu2 = relu(sum)\n"
                          "pool2 = maxpool(relu2, kernel=2)\n"
                          "conv3 = conv(pool2, out=12, kernel=3, pad=1)\n"
                          "pool3 = maxpool(conv3, kernel=2)\n"
                          "fc1 = linear(pool3, out=24)\n"
                          "relu3 = relu(fc1)\n"
                          "fc2 = linear(relu3, out=5)\n";

static cnn_dataset data;
static cnn_model *model;

static void setup(void)
{
    data = make_data(400, SIDE, 2, CLASSES);
    model = make_model(net, 3);
}

static void teardown(void)
{
    cnn_model_free(model);
    free_data(&data);
}

static cnn_model *copy_of(const cnn_model *of)
{
    cnn_model *copy;
    CHECK_OK(cnn_model_clone(of, &copy));
    return copy;
}

/* Powers of 2 from 1/32 to 32, so that the float model keeps its bits. */
static float wild(int32_t c)
{
    return ldexpf(1, (int)(cnn_hash(5, CNN_PURPOSE_SYNTH, (uint64_t)c, 0) % 11) - 5);
}

/* Multiplies what a layer gives and divides what another reads. */
static void disturb(const char *maker, const char *reader)
{
    const cnn_tensor_desc *made = param_desc(model, maker, CNN_PARAM_WEIGHT);
    const cnn_tensor_desc *read = param_desc(model, reader, CNN_PARAM_WEIGHT);
    const int64_t row = cnn_desc_elements(made) / made->n;
    for (int64_t i = 0; i < cnn_desc_elements(made); i++)
        param_data(model, maker, CNN_PARAM_WEIGHT)[i] *= wild((int32_t)(i / row));
    for (int32_t k = 0; k < made->n; k++)
        param_data(model, maker, CNN_PARAM_BIAS)[k] *= wild(k);
    for (int64_t i = 0; i < cnn_desc_elements(read); i++)
        param_data(model, reader, CNN_PARAM_WEIGHT)[i] /= wild((int32_t)(i % read->c));
}

static double difference(cnn_model *a, cnn_model *b)
{
    float *x = run_logits(a, "cpu", &data, IMAGES), *y = run_logits(b, "cpu", &data, IMAGES);
    const double most = relative_difference(x, y, IMAGES * CLASSES);
    free(x);
    free(y);
    return most;
}

/* Relative error of an INT8 model's logits. */
static double int8_error(const cnn_model *of, cnn_model *exact)
{
    cnn_model *int8 = copy_of(of);
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MAX;
    options.images = 128;
    options.device = "cpu";
    CHECK_OK(cnn_quantize(int8, &data, &options, NULL, NULL));
    const double error = difference(int8, exact);
    cnn_model_free(int8);
    return error;
}

START_TEST(the_float_model_stays_and_int8_gains)
{
    cnn_model *even = copy_of(model);
    disturb("conv3", "fc1");
    disturb("fc1", "fc2");
    cnn_model *given = copy_of(model);
    int groups = 0;
    ck_assert(difference(given, even) < 1e-6);
    CHECK_OK(cnn_equalize(model, &data, 1, "cpu", &groups));
    ck_assert_int_eq(groups, 3); /* conv1 with conv2, conv3, fc1 */
    ck_assert(difference(model, given) < 1e-5);
    ck_assert(fingerprint(model) != fingerprint(given));
    const double before = int8_error(given, given), after = int8_error(model, given), best = int8_error(even, even);
    ck_assert_msg(after < before / 4 && after < 2 * best, "error %g, %g equalized, %g undisturbed", before, after,
                  best);
    cnn_model_free(even);
    cnn_model_free(given);
}
END_TEST

typedef struct ranges {
    int node;
    float largest[32];
} ranges;

static cnn_status observe(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    ranges *r = context;
    for (int64_t i = 0; node == r->node && i < cnn_desc_elements(desc); i++)
        r->largest[i % desc->c] = fmaxf(r->largest[i % desc->c], fabsf(values[i]));
    return CNN_OK;
}

/* The share that a channel has of its tensor's range is that of what reads it, but for channels at the bound. */
START_TEST(ranges_are_shared_evenly)
{
    disturb("fc1", "fc2");
    cnn_session *session;
    ranges value = {.node = cnn_model_find(model, "relu3")};
    CHECK_OK(cnn_equalize(model, &data, 1, "cpu", NULL));
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "cpu"}, &session));
    CHECK_OK(cnn_session_observe(session, &data, NULL, data.count, observe, &value));
    cnn_session_close(session);
    const float *w = param_data(model, "fc2", CNN_PARAM_WEIGHT);
    float most_value = 0, read[24] = {0};
    for (int c = 0; c < 24; c++)
        most_value = fmaxf(most_value, value.largest[c]);
    for (int k = 0; k < CLASSES; k++) {
        float most = 0;
        for (int c = 0; c < 24; c++)
            most = fmaxf(most, fabsf(w[k * 24 + c]));
        for (int c = 0; c < 24; c++)
            read[c] = fmaxf(read[c], fabsf(w[k * 24 + c]) / most);
    }
    int even = 0, alive = 0;
    for (int c = 0; c < 24; c++) {
        const float ratio = value.largest[c] / most_value / read[c];
        alive += value.largest[c] > 0;
        even += ratio > 0.7f && ratio < 1.4f; /* calibration saw fewer images */
    }
    ck_assert_msg(alive > 12 && even >= alive - 2, "%d of %d channels are even", even, alive);
}
END_TEST

/* The integers of the layer that makes the channels do not change, nor do pruned weights. */
START_TEST(makers_keep_their_integers_and_zeros_stay)
{
    CHECK_OK(cnn_prune_weights(model, &(cnn_prune_options){.ratio = 0.5}, NULL));
    cnn_model *given = copy_of(model);
    CHECK_OK(cnn_equalize(model, &data, 1, "cpu", NULL));
    for (int i = 0; i < model->node_count; i++) {
        const cnn_param *weight = &model->nodes[i].param[CNN_PARAM_WEIGHT];
        for (int64_t w = 0; weight->mask && w < cnn_desc_elements(&weight->desc); w++)
            ck_assert(weight->mask[w] || ((const float *)weight->data)[w] == 0);
    }
    const float *was = param_data(given, "conv1", CNN_PARAM_WEIGHT), *is = param_data(model, "conv1", CNN_PARAM_WEIGHT);
    for (int k = 0; k < 16; k++) {
        float most_was = 0, most_is = 0;
        for (int i = 0; i < 18; i++) {
            most_was = fmaxf(most_was, fabsf(was[k * 18 + i]));
            most_is = fmaxf(most_is, fabsf(is[k * 18 + i]));
        }
        for (int i = 0; i < 18 && most_was > 0; i++)
            ck_assert_float_eq_tol(is[k * 18 + i] / most_is, was[k * 18 + i] / most_was, 1e-5f);
    }
    cnn_model_free(given);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    cnn_model *norm = make_model("image = input(height=12, width=12, channels=2)\n"
                                 "conv1 = conv(image, out=4, kernel=3)\n"
                                 "bn1 = bn(conv1)\n"
                                 "fc1 = linear(bn1, out=5)\n",
                                 1);
    CHECK_REFUSED(cnn_equalize(norm, &data, 1, "cpu", NULL), CNN_ERR_UNSUPPORTED, "'bn1' is a batch norm");
    cnn_model_free(norm);
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_REFUSED(cnn_equalize(model, &data, 1, "cpu", NULL), CNN_ERR_UNSUPPORTED, "lie on a grid");
    CHECK_OK(cnn_qat_end(model));
    CHECK_REFUSED(cnn_equalize(model, &data, 1, "cpu", NULL), CNN_ERR_UNSUPPORTED, "lie on a grid");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("equalize");
    TCase *tests = tcase_create("equalize");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_float_model_stays_and_int8_gains);
    tcase_add_test(tests, ranges_are_shared_evenly);
    tcase_add_test(tests, makers_keep_their_integers_and_zeros_stay);
    tcase_add_test(tests, what_does_not_fit_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
