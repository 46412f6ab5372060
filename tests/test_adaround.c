/* Adaptive rounding: of one channel beside the best that there is, and of whole models. */
#include "tests/optimize_common.h"

#include "optimize/adaround.h"

#include <math.h>

enum { SIDE = 12, CLASSES = 5, MOST = 64, BLOCKS = 4, SAMPLES = BLOCKS * CNN_ADAROUND_BATCH };

static float uniform(uint64_t seed, int64_t i)
{
    return 2 * cnn_hash_uniform(cnn_hash(seed, CNN_PURPOSE_SYNTH, (uint64_t)i, 0)) - 1;
}

/* ---- One channel ---- */

typedef struct case_of_one {
    float x[BLOCKS * MOST * CNN_ADAROUND_BATCH], wanted[SAMPLES], w[MOST], scratch[CNN_ADAROUND_ARRAYS * MOST];
    uint8_t mask[MOST];
    int8_t q[MOST];
    cnn_adaround channel;
} case_of_one;

static const int8_t numbers[] = {-3, -2, -1, 0, 1, 2, 3};

/* Inputs with a common part, as those of networks have, and weights up to 1.2 levels. */
static void make_case(case_of_one *c, int count, bool relu, uint64_t seed)
{
    c->channel = (cnn_adaround){.x = c->x,
                                .wanted = c->wanted,
                                .blocks = BLOCKS,
                                .count = count,
                                .w = c->w,
                                .mask = c->mask,
                                .step = 0.25f,
                                .bias = 0.1f,
                                .number = numbers,
                                .numbers = 7,
                                .relu = relu,
                                .q = c->q,
                                .scratch = c->scratch};
    for (int i = 0; i < count; i++) {
        c->w[i] = 0.9f * uniform(seed, i);
        c->mask[i] = 1;
        c->q[i] = (int8_t)fmaxf(fminf(rintf(c->w[i] / 0.25f), 3), -3);
    }
    for (int s = 0; s < SAMPLES; s++) {
        const float common = uniform(seed + 1, s);
        c->wanted[s] = 0.1f;
        for (int i = 0; i < count; i++) {
            const float x = common + 0.5f * uniform(seed + 2, s * MOST + i);
            c->x[(s / CNN_ADAROUND_BATCH * count + i) * CNN_ADAROUND_BATCH + s % CNN_ADAROUND_BATCH] = x;
            c->wanted[s] += c->w[i] * x;
        }
    }
}

static double error_of(const case_of_one *c, const int8_t *q)
{
    double error = 0;
    for (int s = 0; s < SAMPLES; s++) {
        double y = (double)c->channel.bias, wanted = (double)c->wanted[s];
        for (int i = 0; i < c->channel.count; i++)
            y +=
                (double)(q[i] * c->channel.step) *
                (double)
                    c->x[(s / CNN_ADAROUND_BATCH * c->channel.count + i) * CNN_ADAROUND_BATCH + s % CNN_ADAROUND_BATCH];
        if (c->channel.relu) {
            y = fmax(y, 0);
            wanted = fmax(wanted, 0);
        }
        error += (y - wanted) * (y - wanted);
    }
    return error;
}

/* The least error of all ways to round up or down. */
static double least_error(const case_of_one *c)
{
    double least = INFINITY;
    int8_t q[MOST];
    for (int choice = 0; choice < 1 << c->channel.count; choice++) {
        for (int i = 0; i < c->channel.count; i++) {
            const float u = c->w[i] / c->channel.step;
            q[i] = fabsf(u) >= 3 ? c->q[i] : (int8_t)(floorf(u) + (float)(choice >> i & 1));
        }
        least = fmin(least, error_of(c, q));
    }
    return least;
}

START_TEST(a_channel_is_near_the_best)
{
    enum { CASES = 20, COUNT = 10 };
    double found = 0, best = 0, rounded = 0;
    for (int i = 0; i < CASES; i++) {
        case_of_one c;
        make_case(&c, COUNT, i % 2, (uint64_t)i * 10);
        best += least_error(&c);
        const double nearest = error_of(&c, c.q);
        rounded += nearest;
        cnn_adaround_channel(&c.channel);
        ck_assert(error_of(&c, c.q) <= nearest * 1.0001);
        found += error_of(&c, c.q);
    }
    ck_assert_msg(found < 1.3 * best && found < 0.6 * rounded, "error %g found, %g nearest, %g possible", found,
                  rounded, best);
}
END_TEST

START_TEST(only_the_two_numbers_around_a_weight)
{
    case_of_one c;
    int8_t nearest[MOST];
    int moved = 0;
    make_case(&c, MOST, false, 77);
    for (int i = 0; i < MOST; i += 3)
        c.mask[i] = 0, c.w[i] = 0, c.q[i] = 0;
    c.w[1] = 0, c.q[1] = 0; /* one that is 0 and not pruned */
    c.w[2] = 5, c.q[2] = 3; /* and one beyond the levels */
    memcpy(nearest, c.q, sizeof nearest);
    cnn_adaround_channel(&c.channel);
    for (int i = 0; i < MOST; i++) {
        const float u = c.w[i] / c.channel.step;
        ck_assert_int_le(abs(c.q[i]), 3);
        ck_assert(c.w[i] != 0 || c.q[i] == 0);
        ck_assert(fabsf(u) >= 3 ? c.q[i] == nearest[i] : fabsf((float)c.q[i] - u) < 1);
        moved += c.q[i] != nearest[i];
    }
    ck_assert_int_gt(moved, 3);
}
END_TEST

START_TEST(what_is_exact_stays)
{
    case_of_one c;
    make_case(&c, 20, true, 5);
    for (int i = 0; i < 20; i++)
        c.w[i] = (float)c.q[i] * c.channel.step;
    for (int s = 0; s < SAMPLES; s++) {
        c.wanted[s] = c.channel.bias;
        for (int i = 0; i < 20; i++)
            c.wanted[s] +=
                c.w[i] * c.x[(s / CNN_ADAROUND_BATCH * 20 + i) * CNN_ADAROUND_BATCH + s % CNN_ADAROUND_BATCH];
    }
    int8_t nearest[MOST];
    memcpy(nearest, c.q, sizeof nearest);
    cnn_adaround_channel(&c.channel);
    ck_assert_mem_eq(c.q, nearest, 20);
}
END_TEST

/* ---- Models ---- */

static const char net[] = "image = input(height=12, width=12, channels=2)\n"
                          "conv1 = conv(image, out=8, kernel=3, pad=1, stride=2)\n"
                          "relu1 = relu(conv1)\n"
                          "conv2 = conv(relu1, out=8, kernel=3, pad=1, bias=0)\n"
                          "sum = add(conv2, relu1)\n"
                          "pool2 = maxpool(sum, kernel=2)\n"
                          "fc1 = linear(pool2, out=24)\n"
                          "relu3 = relu(fc1)\n"
                          "fc2 = linear(relu3, out=5)\n";
static const char *const layers[] = {"conv1", "conv2", "fc1", "fc2"};
enum { LAYERS = 4 };

static cnn_dataset data;
static cnn_model *model;

static void setup(void)
{
    data = make_data(300, SIDE, 2, CLASSES);
    /* Pixels of one image have something in common: else the nearest numbers are the best. */
    for (int i = 0; i < 300 * SIDE * SIDE * 2; i++)
        data.images[i] = (uint8_t)(data.images[i] / 4 +
                                   (cnn_hash(8, CNN_PURPOSE_SYNTH, (uint64_t)(i / (SIDE * SIDE * 2)), 0) % 192));
    model = make_model(net, 3);
}

static void teardown(void)
{
    cnn_set_threads(0);
    cnn_model_free(model);
    free_data(&data);
}

static cnn_model *quantized(const cnn_model *of, int levels, cnn_rounding rounding)
{
    cnn_model *int8;
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MAX;
    options.images = 64;
    options.device = "cpu";
    options.levels = levels;
    options.rounding = rounding;
    CHECK_OK(cnn_model_clone(of, &int8));
    CHECK_OK(cnn_quantize(int8, &data, &options, NULL, NULL));
    return int8;
}

static double logit_error(cnn_model *a)
{
    float *x = run_logits(model, "cpu", &data, 300), *y = run_logits(a, "cpu", &data, 300);
    double error = 0, signal = 0;
    for (int i = 0; i < 300 * CLASSES; i++) {
        error += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        signal += (double)x[i] * (double)x[i];
    }
    free(x);
    free(y);
    return sqrt(error / signal);
}

START_TEST(adaptive_models_are_nearer)
{
    for (int levels = 1; levels <= 7; levels = 2 * levels + 1) { /* 2, 3 and 4 bits */
        cnn_model *nearest = quantized(model, levels, CNN_ROUNDING_NEAREST);
        cnn_model *adaptive = quantized(model, levels, CNN_ROUNDING_ADAPTIVE);
        const double before = logit_error(nearest), after = logit_error(adaptive);
        ck_assert_msg(after < 0.75 * before, "%d levels: error %g nearest, %g adaptive", levels, before, after);
        for (int l = 0; l < LAYERS; l++) {
            const int n = cnn_model_find(model, layers[l]);
            const cnn_param *a = &adaptive->nodes[n].param[CNN_PARAM_WEIGHT], *b = &nearest->nodes[n].param[0];
            ck_assert_mem_eq(a->scale, b->scale, (size_t)a->desc.n * sizeof(float));
            for (int64_t i = 0; i < cnn_desc_elements(&a->desc); i++) {
                const int q = ((const int8_t *)a->data)[i];
                ck_assert_int_le(abs(q), levels);
                ck_assert_int_le(abs(q - ((const int8_t *)b->data)[i]), 1);
            }
        }
        cnn_model_free(nearest);
        cnn_model_free(adaptive);
    }
}
END_TEST

START_TEST(threads_do_not_matter_and_zeros_stay)
{
    CHECK_OK(cnn_prune_weights(model, &(cnn_prune_options){.ratio = 0.6}, NULL));
    uint64_t print[2];
    for (int threads = 1; threads <= 2; threads++) {
        CHECK_OK(cnn_set_threads(threads));
        cnn_model *adaptive = quantized(model, 3, CNN_ROUNDING_ADAPTIVE);
        print[threads - 1] = fingerprint(adaptive);
        for (int l = 0; l < LAYERS; l++) {
            const int n = cnn_model_find(model, layers[l]);
            const cnn_param *a = &adaptive->nodes[n].param[CNN_PARAM_WEIGHT], *b = &model->nodes[n].param[0];
            for (int64_t i = 0; i < cnn_desc_elements(&a->desc); i++) {
                ck_assert(b->mask[i] || ((const int8_t *)a->data)[i] == 0);
                ck_assert((a->mask[i] != 0) == (((const int8_t *)a->data)[i] != 0));
            }
        }
        cnn_model_free(adaptive);
    }
    ck_assert_uint_eq(print[0], print[1]);
}
END_TEST

START_TEST(a_grid_is_kept)
{
    CHECK_OK(cnn_qat_begin(model, 3));
    CHECK_OK(cnn_qat_end(model));
    cnn_model *nearest = quantized(model, 3, CNN_ROUNDING_NEAREST),
              *adaptive = quantized(model, 3, CNN_ROUNDING_ADAPTIVE);
    ck_assert_uint_eq(fingerprint(adaptive), fingerprint(nearest));
    cnn_model_free(nearest);
    cnn_model_free(adaptive);
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.rounding = (cnn_rounding)2;
    CHECK_REFUSED(cnn_quantize(model, &data, &options, NULL, NULL), CNN_ERR_USAGE, "no way to round number 2");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adaround");
    TCase *tests = tcase_create("adaround");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_channel_is_near_the_best);
    tcase_add_test(tests, only_the_two_numbers_around_a_weight);
    tcase_add_test(tests, what_is_exact_stays);
    tcase_add_test(tests, adaptive_models_are_nearer);
    tcase_add_test(tests, threads_do_not_matter_and_zeros_stay);
    tcase_add_test(tests, a_grid_is_kept);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
