/* Observer auto, bias correction and the account of layers: what cnn_quantize decides from images. */
#include "tests/optimize_common.h"

#include "cnn/quant.h"
#include "core/session.h"
#include "optimize/calibrate.h"

#include <math.h>

enum { SIDE = 12, IMAGES = 400, CALIBRATION = 64, SEARCH = 100, CLASSES = 10 };

static const char net[] = "image = input(height=12, width=12, channels=1)\n"
                          "conv1 = conv(image, out=8, kernel=3, pad=1)\n"
                          "relu1 = relu(conv1)\n"
                          "conv2 = conv(relu1, out=12, kernel=3, bias=0)\n"
                          "pool2 = maxpool(conv2, kernel=2)\n"
                          "fc1 = linear(pool2, out=24)\n"
                          "relu2 = relu(fc1)\n"
                          "fc2 = linear(relu2, out=10)\n";

static cnn_quantize_options quick(cnn_observer observer, bool bias_correction)
{
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.observer = observer;
    options.bias_correction = bias_correction;
    options.images = CALIBRATION;
    options.search_images = SEARCH;
    options.device = "cpu";
    return options;
}

static cnn_model *quantized(const cnn_model *model, const cnn_dataset *data, const cnn_quantize_options *options)
{
    cnn_model *copy;
    CHECK_OK(cnn_model_clone(model, &copy));
    CHECK_OK(cnn_quantize(copy, data, options, NULL, NULL));
    return copy;
}

/* ---- Auto ---- */

/* Squared error of the logits on the images that auto searches with. */
static double search_error(cnn_model *exact, cnn_model *int8, const cnn_dataset *data)
{
    int32_t *index, count;
    CHECK_OK(cnn_calibration_pick(exact, data, CALIBRATION, SEARCH, 1, &index, &count));
    ck_assert_int_eq(count, SEARCH);
    double error = 0;
    for (int32_t i = 0; i < count; i++) {
        cnn_dataset one = *data;
        one.images += index[i] * SIDE * SIDE;
        float *x = run_logits(exact, "cpu", &one, 1), *y = run_logits(int8, "cpu", &one, 1);
        for (int k = 0; k < CLASSES; k++)
            error += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
        free(x);
        free(y);
    }
    free(index);
    return error;
}

/* Only relu1 is observed. Its second channel is large on a bright corner, which few images have; weight `heeds` is what
 * the scores make of it. */
static cnn_model *planted(float heeds)
{
    cnn_model *model = make_model("image = input(height=12, width=12, channels=1)\n"
                                  "fc1 = linear(image, out=9)\n"
                                  "relu1 = relu(fc1)\n"
                                  "fc2 = linear(relu1, out=10)\n",
                                  1);
    float *weights = param_data(model, "fc1", CNN_PARAM_WEIGHT);
    memset(weights + SIDE * SIDE, 0, SIDE * SIDE * sizeof(float));
    weights[SIDE * SIDE] = 40;
    param_data(model, "fc1", CNN_PARAM_BIAS)[1] = 0;
    for (int k = 0; k < CLASSES; k++)
        param_data(model, "fc2", CNN_PARAM_WEIGHT)[k * 9 + 1] = heeds;
    return model;
}

static cnn_dataset bright_corners(void)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    for (int i = 0; i < IMAGES; i++)
        data.images[i * SIDE * SIDE] = i % 16 ? 10 : 255;
    return data;
}

/* Where nothing heeds the outliers the narrowest range is best, where the scores rest on them the widest. */
START_TEST(test_auto_picks_the_planted_best)
{
    cnn_dataset data = bright_corners();
    for (int heeds = 0; heeds < 2; heeds++) {
        cnn_model *model = planted(heeds ? 0.3f : 0);
        float scale[CNN_OBSERVER_AUTO + 1];
        double error[CNN_OBSERVER_AUTO + 1];
        int best = 0, narrowest = 0, widest = 0;
        for (int o = 0; o <= CNN_OBSERVER_AUTO; o++) {
            cnn_quantize_options options = quick((cnn_observer)o, false);
            options.percentile = 90;
            cnn_model *int8 = quantized(model, &data, &options);
            scale[o] = int8->nodes[2].out_scale;
            error[o] = search_error(model, int8, &data);
            cnn_model_free(int8);
            if (o == CNN_OBSERVER_AUTO)
                continue;
            best = error[o] < error[best] ? o : best;
            narrowest = scale[o] < scale[narrowest] ? o : narrowest;
            widest = scale[o] > scale[widest] ? o : widest;
        }
        ck_assert(scale[CNN_OBSERVER_AUTO] == scale[best]);
        ck_assert(error[CNN_OBSERVER_AUTO] == error[best]);
        ck_assert(scale[best] == scale[heeds ? widest : narrowest]);
        ck_assert_float_gt(scale[widest], 1.5f * scale[narrowest]);
        cnn_model_free(model);
    }
    free_data(&data);
}
END_TEST

/* Each choice can only lower the error that the search began with, and equal calls choose alike. */
START_TEST(test_auto_is_never_worse_than_where_it_begins)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_quantize_options options = quick(CNN_OBSERVER_AUTO, false), begin = quick(CNN_OBSERVER_MSE, false);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        cnn_model *model = make_model(net, seed);
        cnn_model *first = quantized(model, &data, &begin), *chosen = quantized(model, &data, &options);
        cnn_model *again = quantized(model, &data, &options);
        ck_assert_double_le(search_error(model, chosen, &data), search_error(model, first, &data));
        ck_assert_uint_eq(fingerprint(chosen), fingerprint(again));
        cnn_model_free(first);
        cnn_model_free(chosen);
        cnn_model_free(again);
        cnn_model_free(model);
    }
    free_data(&data);
}
END_TEST

/* Calibration and search share no image, whatever there are. */
START_TEST(test_search_images_are_others)
{
    cnn_model *model = make_model(net, 1);
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    int32_t *index[3], count[3];
    CHECK_OK(cnn_calibration_pick(model, &data, 0, CALIBRATION, 1, &index[0], &count[0]));
    CHECK_OK(cnn_calibration_pick(model, &data, CALIBRATION, SEARCH, 1, &index[1], &count[1]));
    CHECK_OK(cnn_calibration_pick(model, &data, 1000, SEARCH, 1, &index[2], &count[2]));
    ck_assert_int_eq(count[2], 0);
    for (int i = 0; i < count[0]; i++)
        for (int j = 0; j < count[1]; j++)
            ck_assert_int_ne(index[0][i], index[1][j]);
    for (int i = 0; i < 3; i++)
        free(index[i]);
    /* 18 training images serve both; one alone is left to calibration. */
    cnn_quantize_options options = quick(CNN_OBSERVER_AUTO, true);
    for (data.count = 20; data.count > 0; data.count -= 19)
        cnn_model_free(quantized(model, &data, &options));
    data.count = IMAGES;
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

/* ---- Bias correction ---- */

typedef struct sums {
    double *sum; /* [channels] */
    int64_t pixels;
} sums;

static cnn_status add_sums(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    sums *seen = context;
    (void)node;
    for (int64_t i = 0; i < cnn_desc_elements(desc); i++)
        seen->sum[i % desc->c] += (double)values[i];
    seen->pixels += cnn_desc_pixels(desc);
    return CNN_OK;
}

/* Mean of each channel of a layer over the calibration images; free() it. */
static double *means(cnn_model *model, int node, const cnn_dataset *data)
{
    int32_t *index, count, channels = model->nodes[node].out.c;
    sums seen = {calloc((size_t)channels, sizeof(double)), 0};
    cnn_session *session;
    CHECK_OK(cnn_calibration_pick(model, data, 0, CALIBRATION, 1, &index, &count));
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "cpu"}, &session));
    CHECK_OK(cnn_session_observe_sums(session, data, index, count, node, add_sums, &seen));
    cnn_session_close(session);
    free(index);
    for (int k = 0; k < channels; k++)
        seen.sum[k] /= (double)seen.pixels;
    return seen.sum;
}

/* Largest difference of a layer's means from the float model's, in steps of the channel's sums. */
static double mean_error(cnn_model *exact, cnn_model *int8, int node, const cnn_dataset *data)
{
    double *x = means(exact, node, data), *y = means(int8, node, data), most = 0;
    for (int k = 0; k < exact->nodes[node].out.c; k++) {
        double step = (double)int8->nodes[int8->nodes[node].input[0]].out_scale *
                      (double)int8->nodes[node].param[CNN_PARAM_WEIGHT].scale[k];
        most = fmax(most, fabs(x[k] - y[k]) / step);
    }
    free(x);
    free(y);
    return most;
}

START_TEST(test_bias_correction_removes_the_mean_error)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 5);
    cnn_quantize_options off = quick(CNN_OBSERVER_PERCENTILE, false), on = quick(CNN_OBSERVER_PERCENTILE, true);
    off.percentile = on.percentile = 98;
    cnn_model *raw = quantized(model, &data, &off), *corrected = quantized(model, &data, &on);
    for (int i = 0; i < model->node_count; i++) {
        const cnn_param *weight = &corrected->nodes[i].param[CNN_PARAM_WEIGHT];
        if (weight->desc.dtype == CNN_NONE)
            continue;
        /* A bias is a whole number of steps, so half a step stays; f32 logits round a little more. */
        ck_assert_double_gt(mean_error(model, raw, i, &data), 1);
        ck_assert_double_le(mean_error(model, corrected, i, &data), 0.51);
        ck_assert_mem_eq(weight->data, raw->nodes[i].param[CNN_PARAM_WEIGHT].data, cnn_desc_bytes(&weight->desc));
    }
    cnn_model_free(raw);
    cnn_model_free(corrected);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* 66,564 products leave room for biases up to 1,073,872,891. The bias of 1 fills 2^30 steps, the weights are less than
 * half a step and round to 0, and what they add up to is more than the room. */
START_TEST(test_corrected_biases_never_overflow)
{
    cnn_model *model = make_model("image = input(height=258, width=258, channels=1)\n"
                                  "wide = linear(image, out=2)\n",
                                  1);
    cnn_dataset data = make_data(20, 258, 1, 2);
    memset(data.images, 200, 20 * 258 * 258);
    data.images[0] = data.images[258 * 258 - 1] = 0;
    for (int i = 0; i < 20; i++)
        data.images[i * 258 * 258] = 0;
    for (int i = 0; i < 2 * 258 * 258; i++)
        param_data(model, "wide", CNN_PARAM_WEIGHT)[i] = i < 258 * 258 ? 5e-8f : -5e-8f;
    param_data(model, "wide", CNN_PARAM_BIAS)[0] = 1;
    param_data(model, "wide", CNN_PARAM_BIAS)[1] = -1;
    cnn_quantize_options options = quick(CNN_OBSERVER_MAX, true);
    CHECK_OK(cnn_quantize(model, &data, &options, NULL, NULL));
    const int32_t *bias = model->nodes[1].param[CNN_PARAM_BIAS].data;
    ck_assert_int_eq(bias[0], 1073872891);
    ck_assert_int_eq(bias[1], -1073872891);
    ck_assert(cnn_quant_fits(258 * 258, bias[0]) && !cnn_quant_fits(258 * 258, bias[0] + 1));
    free_data(&data);
    cnn_model_free(model);
}
END_TEST

/* ---- The account ---- */

typedef struct kept {
    float *values;
    int node;
    int64_t count;
} kept;

static cnn_status keep(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    kept *seen = context;
    if (node != seen->node)
        return CNN_OK;
    memcpy(seen->values + seen->count, values, (size_t)cnn_desc_elements(desc) * sizeof *values);
    seen->count += cnn_desc_elements(desc);
    return CNN_OK;
}

static kept observe(cnn_model *model, int node, const cnn_dataset *data)
{
    int32_t *index, count;
    kept seen = {malloc((size_t)(CALIBRATION * cnn_desc_elements(&model->nodes[node].out)) * sizeof(float)), node, 0};
    cnn_session *session;
    CHECK_OK(cnn_calibration_pick(model, data, 0, CALIBRATION, 1, &index, &count));
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "cpu"}, &session));
    CHECK_OK(cnn_session_observe(session, data, index, count, keep, &seen));
    cnn_session_close(session);
    free(index);
    return seen;
}

/* The rows hold what their header says, computed here from observed values. */
START_TEST(test_rows_are_what_they_say)
{
    static const int shown[] = {2, 3, 6, 7}; /* conv1's and fc1's ReLU, conv2 and fc2 themselves */
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 9), *int8;
    cnn_quantize_options options = quick(CNN_OBSERVER_PERCENTILE, true);
    options.percentile = 99;
    cnn_quantize_row *rows;
    int count;
    CHECK_OK(cnn_model_clone(model, &int8));
    CHECK_OK(cnn_quantize(int8, &data, &options, &rows, &count));
    ck_assert_int_eq(count, 4);
    for (int r = 0; r < count; r++) {
        kept x = observe(model, shown[r], &data), y = observe(int8, shown[r], &data);
        double signal = 0, noise = 0, both = 0, other = 0;
        int64_t beyond = 0;
        for (int64_t i = 0; i < x.count; i++) {
            double a = (double)x.values[i], b = (double)y.values[i];
            signal += a * a;
            other += b * b;
            both += a * b;
            noise += (a - b) * (a - b);
            beyond += rows[r].scale > 0 && fabs(a) > 127.0001 * (double)rows[r].scale;
        }
        ck_assert_double_eq_tol(rows[r].sqnr_db, 10 * log10(signal / noise), 1e-6);
        ck_assert_double_eq_tol(rows[r].cosine, both / sqrt(signal * other), 1e-9);
        ck_assert_double_eq_tol(rows[r].clipped, (double)beyond / (double)x.count, 1e-9);
        ck_assert(rows[r].scale == int8->nodes[shown[r]].out_scale && !rows[r].dead);
        if (r < 3)
            ck_assert_str_eq(rows[r].observer, "percentile");
        free(x.values);
        free(y.values);
    }
    ck_assert_ptr_null(rows[3].observer);
    ck_assert_double_gt(rows[0].clipped, 0.0005);
    free(rows);
    cnn_model_free(int8);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

/* ---- Progress ---- */

typedef struct watch {
    int64_t done, all;
    int calls, stop_at;
} watch;

static bool note(void *context, int64_t done, int64_t all)
{
    watch *seen = context;
    ck_assert(done > seen->done && done <= all && (seen->calls == 0 || all == seen->all));
    seen->done = done;
    seen->all = all;
    return ++seen->calls != seen->stop_at;
}

START_TEST(test_progress_arrives_and_can_stop)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = make_model(net, 2);
    uint64_t before = fingerprint(model);
    cnn_quantize_row *rows = NULL;
    int count;
    watch seen = {.stop_at = 5};
    cnn_quantize_options options = quick(CNN_OBSERVER_AUTO, true);
    options.progress = note;
    options.progress_context = &seen;
    CHECK_REFUSED(cnn_quantize(model, &data, &options, &rows, &count), CNN_ERR_CANCELLED, "stopped");
    ck_assert_ptr_null(rows);
    ck_assert_uint_eq(fingerprint(model), before);
    seen = (watch){0};
    CHECK_OK(cnn_quantize(model, &data, &options, &rows, &count));
    ck_assert_int_eq(seen.done, seen.all);
    free(rows);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantize auto");
    TCase *tests = tcase_create("decisions");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_auto_picks_the_planted_best);
    tcase_add_test(tests, test_auto_is_never_worse_than_where_it_begins);
    tcase_add_test(tests, test_search_images_are_others);
    tcase_add_test(tests, test_bias_correction_removes_the_mean_error);
    tcase_add_test(tests, test_corrected_biases_never_overflow);
    tcase_add_test(tests, test_rows_are_what_they_say);
    tcase_add_test(tests, test_progress_arrives_and_can_stop);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
