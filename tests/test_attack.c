/* Attacks and what is done against them: the gradient of pixels, the ball around an image, what sanitizing does. */
#include "cnn/optimize.h"
#include "cnn/robust.h"
#include "core/crc32c.h"
#include "core/session.h"
#include "tests/train_case.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 60, BATCH = 16, PIXELS = 28 * 28, CLASSES = 10 };

static const char every_layer[] = "image = input(height=28, width=28, channels=1)\n"
                                  "conv1 = conv(image, out=6, kernel=5, stride=2, bias=0)\n"
                                  "bn1 = bn(conv1)\n"
                                  "relu1 = relu(bn1, max=6)\n"
                                  "conv2 = conv(relu1, out=6, kernel=3, pad=1)\n"
                                  "sum = add(relu1, conv2)\n"
                                  "leaky = leaky_relu(sum)\n"
                                  "conv3 = conv(leaky, out=6, kernel=3, pad=1, groups=6)\n"
                                  "pool3 = maxpool(conv3, kernel=2)\n"
                                  "pool4 = avgpool(pool3, kernel=3)\n"
                                  "fc1 = linear(pool4, out=10)\n";

static cnn_session *open_session(cnn_model *model, const char *device)
{
    cnn_session *session;
    case_check(cnn_session_open(model, &(cnn_session_options){.device = device, .batch = BATCH}, &session));
    return session;
}

static void to_pixels(const uint8_t *bytes, size_t count, float *pixels)
{
    for (size_t i = 0; i < count; i++)
        pixels[i] = (float)bytes[i] / 255.0f;
}

/* The mean cross entropy of scores, in double. */
static double loss_of(const float *logits, const uint8_t *labels, int count)
{
    double loss = 0;
    for (int n = 0; n < count; n++) {
        double sum = 0;
        for (int k = 0; k < CLASSES; k++)
            sum += exp((double)logits[n * CLASSES + k]);
        loss += log(sum) - (double)logits[n * CLASSES + labels[n]];
    }
    return loss / count;
}

static cnn_model *trained(double epochs)
{
    cnn_model *model = case_model();
    cnn_train_options options = case_options(NULL);
    options.epochs = epochs;
    case_check(cnn_train(model, case_synth, &options, NULL));
    return model;
}

/* ---- Gradients ---- */

/* Uphill in a random half of the pixels the loss changes as the gradient says, 40 times. */
static void check_gradient(const char *device, bool in_training)
{
    enum { TRIALS = 40 };
    static float pixels[BATCH * PIXELS], moved[BATCH * PIXELS], gradient[BATCH * PIXELS], unused[BATCH * PIXELS];
    static float logits[BATCH * CLASSES];
    const double h = 1e-3;
    const float rate = 0.01f;
    cnn_train_state state = case_state(1.0f, 0);
    cnn_model *model;
    case_check(cnn_model_parse(every_layer, "every.cfg", &model));
    cnn_model_init(model, 5);
    for (int c = 0; c < 6; c++) { /* statistics that the batch does not have */
        ((float *)model->nodes[2].param[CNN_PARAM_RUNNING_MEAN].data)[c] = 0.1f * (float)c;
        ((float *)model->nodes[2].param[CNN_PARAM_RUNNING_VAR].data)[c] = 0.5f + 0.2f * (float)c;
    }
    cnn_session *session = in_training ? case_session(model, CNN_F16, &rate, 1, &state) : open_session(model, device);
    to_pixels(case_small.images, sizeof pixels / sizeof *pixels, pixels);
    case_check(cnn_session_pixel_gradient(session, pixels, case_small.labels, BATCH, logits, gradient));
    int close = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        double expected = 0, loss[2];
        for (int side = 0; side < 2; side++) {
            unsigned random = 7u * (unsigned)trial + 1u;
            expected = 0;
            for (int i = 0; i < BATCH * PIXELS; i++) {
                random = random * 1664525u + 1013904223u;
                const double way = random >> 31 ? 0.0 : copysign(1.0, (double)gradient[i]);
                moved[i] = (float)((double)pixels[i] + (side ? h : -h) * way);
                expected += way * (double)gradient[i];
            }
            case_check(cnn_session_pixel_gradient(session, moved, case_small.labels, BATCH, logits, unused));
            loss[side] = loss_of(logits, case_small.labels, BATCH);
        }
        close += fabs((loss[1] - loss[0]) / (2 * h) - expected) <= 0.02 * fabs(expected);
    }
    ck_assert_int_ge(close, TRIALS - 2); /* a kink of a ReLU or a maximum may lie in the way */
    cnn_session_close(session);
    cnn_model_free(model);
}

START_TEST(test_gradient_of_pixels)
{
    check_gradient("cpu", false);
    check_gradient("ref", false);
    check_gradient("cpu", true);
}
END_TEST

/* The scores beside it are those of inference. */
START_TEST(test_scores_are_those_of_inference)
{
    static float pixels[BATCH * PIXELS], gradient[BATCH * PIXELS], logits[BATCH * CLASSES], wanted[BATCH * CLASSES];
    cnn_model *model = trained(0.05);
    cnn_session *session = open_session(model, "cpu");
    to_pixels(case_small.images, sizeof pixels / sizeof *pixels, pixels);
    case_check(cnn_session_pixel_gradient(session, pixels, case_small.labels, BATCH, logits, gradient));
    case_check(cnn_session_infer(session, case_small.images, BATCH, wanted));
    for (int i = 0; i < BATCH * CLASSES; i++)
        ck_assert_float_eq_tol(logits[i], wanted[i], 1e-4f * (1.0f + fabsf(wanted[i])));
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

static cnn_model *quantized(const cnn_model *model)
{
    cnn_model *copy;
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.images = 64;
    case_check(cnn_model_clone(model, &copy));
    case_check(cnn_fold_batchnorm(copy));
    case_check(cnn_quantize(copy, case_synth, &options, NULL, NULL));
    return copy;
}

/* The scores are the INT8 model's own, bit for bit, and the gradient points where the float model's does. */
START_TEST(test_straight_through)
{
    static float pixels[BATCH * PIXELS], gradient[BATCH * PIXELS], plain[BATCH * PIXELS];
    static float logits[BATCH * CLASSES], wanted[BATCH * CLASSES];
    cnn_model *model = trained(0.05), *int8 = quantized(model), *twin;
    case_check(cnn_model_dequantize(int8, &twin));
    ck_assert(!cnn_model_is_quantized(twin));
    cnn_session *session = open_session(int8, "cpu"), *through = open_session(twin, "cpu");
    case_check(
        cnn_session_straight_through(session, through, case_small.images, case_small.labels, BATCH, logits, gradient));
    case_check(cnn_session_infer(session, case_small.images, BATCH, wanted));
    ck_assert_mem_eq(logits, wanted, sizeof wanted);
    to_pixels(case_small.images, sizeof pixels / sizeof *pixels, pixels);
    case_check(cnn_session_pixel_gradient(through, pixels, case_small.labels, BATCH, logits, plain));
    double dot = 0, a = 0, b = 0;
    for (int i = 0; i < BATCH * PIXELS; i++) {
        dot += (double)gradient[i] * (double)plain[i];
        a += (double)gradient[i] * (double)gradient[i];
        b += (double)plain[i] * (double)plain[i];
    }
    ck_assert_double_ge(dot / sqrt(a * b), 0.7);
    ck_assert(memcmp(gradient, plain, sizeof plain) != 0); /* it stands on other values */
    cnn_session_close(through);
    cnn_session_close(session);
    cnn_model_free(twin);
    cnn_model_free(int8);
    cnn_model_free(model);
}
END_TEST

/* ---- Attacks ---- */

static cnn_attack_options small_attack(cnn_attack_method method)
{
    cnn_attack_options options;
    cnn_attack_options_init(&options);
    options.device = "cpu";
    options.batch = BATCH;
    options.method = method;
    options.eps = 0.15;
    options.steps = 10;
    options.step = 0.03;
    options.restarts = 2;
    return options;
}

static int64_t right(cnn_model *model, const uint8_t *images)
{
    cnn_session *session = open_session(model, "cpu");
    cnn_dataset data = case_small;
    int64_t correct;
    data.images = (uint8_t *)(uintptr_t)images;
    data.count = IMAGES;
    case_check(cnn_session_evaluate(session, &data, NULL, IMAGES, &correct, NULL));
    cnn_session_close(session);
    return correct;
}

static cnn_attack_result attack(cnn_model *model, const cnn_attack_options *options, uint8_t *found)
{
    cnn_attack_result result;
    case_check(cnn_attack(model, &case_small, NULL, IMAGES, options, found, &result));
    ck_assert_int_eq(result.images, IMAGES);
    ck_assert_int_eq(result.clean, right(model, case_small.images));
    ck_assert_int_le(result.attacked, result.clean);
    return result;
}

static void check_ball(const uint8_t *found, double eps)
{
    for (int i = 0; i < IMAGES * PIXELS; i++)
        ck_assert_int_le(abs(found[i] - case_small.images[i]), (int)(255 * eps + 1e-6));
}

START_TEST(test_attacks_lower_accuracy)
{
    static uint8_t found[IMAGES * PIXELS];
    cnn_model *model = trained(0.3), *int8 = quantized(model), *other = trained(0.2);
    cnn_attack_options fgsm = small_attack(CNN_ATTACK_FGSM), pgd = small_attack(CNN_ATTACK_PGD);
    const cnn_attack_result weak = attack(model, &fgsm, found);
    check_ball(found, fgsm.eps);
    const cnn_attack_result strong = attack(model, &pgd, found);
    check_ball(found, pgd.eps);
    ck_assert_int_ge(strong.clean, IMAGES * 8 / 10);
    ck_assert_int_lt(weak.attacked, weak.clean);
    ck_assert_int_le(strong.attacked, weak.attacked);
    ck_assert_int_le(strong.attacked, strong.clean / 2);
    ck_assert_int_le(right(model, found), strong.attacked + 3); /* rounded to bytes a few may be right again */

    /* INT8 is given bytes, so what is found fools it as it is. */
    const cnn_attack_result through = attack(int8, &pgd, found);
    check_ball(found, pgd.eps);
    ck_assert_int_le(through.attacked, through.clean / 2);
    ck_assert_int_eq(right(int8, found), through.attacked);
    pgd.source = model;
    const cnn_attack_result transfer = attack(int8, &pgd, found);
    ck_assert_int_lt(transfer.attacked, transfer.clean);
    ck_assert_int_eq(right(int8, found), transfer.attacked);
    pgd.source = other;
    const cnn_attack_result black = attack(model, &pgd, NULL);
    ck_assert_int_ge(black.attacked, strong.attacked);
    cnn_model_free(other);
    cnn_model_free(int8);
    cnn_model_free(model);
}
END_TEST

/* What happens to an image depends on its number, not on its neighbours or on threads. */
START_TEST(test_same_bits)
{
    static uint8_t one[IMAGES * PIXELS], two[IMAGES * PIXELS];
    static int32_t backwards[IMAGES];
    cnn_model *model = trained(0.1);
    cnn_attack_options options = small_attack(CNN_ATTACK_PGD);
    cnn_attack_result result;
    case_check(cnn_set_threads(1));
    const cnn_attack_result first = attack(model, &options, one);
    case_check(cnn_set_threads(2));
    const cnn_attack_result second = attack(model, &options, two);
    ck_assert_int_eq(first.attacked, second.attacked);
    ck_assert_mem_eq(one, two, sizeof one);
    for (int i = 0; i < IMAGES; i++)
        backwards[i] = IMAGES - 1 - i;
    case_check(cnn_attack(model, &case_small, backwards, IMAGES, &options, two, &result));
    ck_assert_int_eq(result.attacked, first.attacked);
    for (int i = 0; i < IMAGES; i++)
        ck_assert_mem_eq(one + (size_t)i * PIXELS, two + (size_t)(IMAGES - 1 - i) * PIXELS, PIXELS);
    cnn_model_free(model);
}
END_TEST

static bool stop_soon(void *context, int64_t done, int64_t all)
{
    (void)done, (void)all;
    return ++*(int *)context < 3;
}

START_TEST(test_bad_attacks)
{
    cnn_model *model = case_model();
    cnn_attack_result result;
    int calls = 0;
    const struct {
        double eps, step;
        int steps, restarts;
        bool random_start;
    } bad[] = {{0, 0.01, 40, 1, true},  {1.5, 0.01, 40, 1, true}, {NAN, 0.01, 40, 1, true}, {0.1, 0, 40, 1, true},
               {0.1, 0.01, 0, 1, true}, {0.1, 0.01, 40, 0, true}, {0.1, 0.01, 40, 2, false}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cnn_attack_options options = small_attack(CNN_ATTACK_PGD);
        options.eps = bad[i].eps;
        options.step = bad[i].step;
        options.steps = bad[i].steps;
        options.restarts = bad[i].restarts;
        options.random_start = bad[i].random_start;
        ck_assert_int_eq(cnn_attack(model, &case_small, NULL, IMAGES, &options, NULL, &result), CNN_ERR_USAGE);
    }
    cnn_attack_options options = small_attack(CNN_ATTACK_PGD);
    ck_assert_int_eq(cnn_attack(model, &case_small, NULL, 0, &options, NULL, &result), CNN_ERR_USAGE);
    options.progress = stop_soon;
    options.context = &calls;
    ck_assert_int_eq(cnn_attack(model, &case_small, NULL, IMAGES, &options, NULL, &result), CNN_ERR_CANCELLED);
    cnn_model_free(model);
}
END_TEST

/* ---- Training against attacks ---- */

static cnn_model *trained_against(double eps, int threads)
{
    cnn_model *model = case_model();
    cnn_train_options options = case_options(NULL);
    options.adversarial = eps;
    options.adversarial_steps = 2;
    options.epochs = 0.3;
    case_check(cnn_set_threads(threads));
    case_check(cnn_train(model, case_synth, &options, NULL));
    return model;
}

START_TEST(test_training_against_attacks)
{
    const uint32_t before = cnn_crc32c(0, case_synth->images, (size_t)case_synth->count * PIXELS);
    cnn_model *plain = trained(0.3), *one = trained_against(0.15, 1), *two = trained_against(0.15, 2);
    cnn_attack_options options = small_attack(CNN_ATTACK_PGD);
    ck_assert(case_same(one, two));
    ck_assert(!case_same(one, plain));
    const cnn_attack_result weak = attack(plain, &options, NULL), strong = attack(one, &options, NULL);
    ck_assert_int_gt(strong.attacked, weak.attacked + IMAGES / 10);
    ck_assert_uint_eq(cnn_crc32c(0, case_synth->images, (size_t)case_synth->count * PIXELS), before);
    cnn_model_free(two);
    cnn_model_free(one);
    cnn_model_free(plain);
}
END_TEST

START_TEST(test_bad_training)
{
    cnn_model *model = case_model();
    for (int i = 0; i < 5; i++) {
        cnn_train_options options = case_options(NULL);
        options.adversarial = i == 0 ? -0.1 : i == 1 ? 1.5 : i == 2 ? NAN : 0.1;
        options.adversarial_steps = i == 3 ? 0 : 1;
        options.augment = i == 4 ? 0.5 : 0.0;
        ck_assert_int_eq(cnn_train(model, case_synth, &options, NULL), CNN_ERR_USAGE);
    }
    cnn_model_free(model);
}
END_TEST

/* ---- Sanitizing ---- */

START_TEST(test_sanitize)
{
    enum { SIDE = 6 };
    const cnn_tensor_desc shape = cnn_desc(CNN_U8, 1, SIDE, SIDE, 1);
    uint8_t image[SIDE * SIDE] = {0}, clean[SIDE * SIDE];
    image[2 * SIDE + 2] = 200; /* a lone pixel, and nothing else */
    case_check(cnn_sanitize(&(cnn_sanitize_options){.median = true}, &shape, image, 1, clean));
    for (int i = 0; i < SIDE * SIDE; i++)
        ck_assert_int_eq(clean[i], 0);
    const uint8_t values[] = {0, 127, 128, 255, 60, 43, 42, 100};
    const uint8_t one_bit[] = {0, 0, 255, 255, 0, 0, 0, 0}, two_bits[] = {0, 85, 170, 255, 85, 85, 0, 85};
    memcpy(image, values, sizeof values);
    case_check(cnn_sanitize(&(cnn_sanitize_options){.bits = 1}, &shape, image, 1, clean));
    ck_assert_mem_eq(clean, one_bit, sizeof one_bit);
    case_check(cnn_sanitize(&(cnn_sanitize_options){.bits = 2}, &shape, image, 1, clean));
    ck_assert_mem_eq(clean, two_bits, sizeof two_bits);
    case_check(cnn_sanitize(&(cnn_sanitize_options){.bits = 8}, &shape, image, 1, clean));
    ck_assert_mem_eq(clean, image, sizeof image);
    ck_assert_int_eq(cnn_sanitize(&(cnn_sanitize_options){.bits = 9}, &shape, image, 1, clean), CNN_ERR_USAGE);
    memset(image, 0, sizeof image);
    image[0] = image[1] = image[SIDE] = image[SIDE + 1] = 90; /* a square in the corner */
    case_check(cnn_sanitize(&(cnn_sanitize_options){.centre = true}, &shape, image, 1, clean));
    for (int i = 0; i < SIDE * SIDE; i++)
        ck_assert_int_eq(clean[i], i / SIDE >= 2 && i / SIDE < 4 && i % SIDE >= 2 && i % SIDE < 4 ? 90 : 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attack");
    TCase *tests = tcase_create("attack");
    tcase_add_unchecked_fixture(tests, case_set_up, case_tear_down);
    tcase_add_test(tests, test_gradient_of_pixels);
    tcase_add_test(tests, test_scores_are_those_of_inference);
    tcase_add_test(tests, test_straight_through);
    tcase_add_test(tests, test_attacks_lower_accuracy);
    tcase_add_test(tests, test_same_bits);
    tcase_add_test(tests, test_bad_attacks);
    tcase_add_test(tests, test_training_against_attacks);
    tcase_add_test(tests, test_bad_training);
    tcase_add_test(tests, test_sanitize);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
