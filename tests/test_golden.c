/* Golden losses: 50 training steps must give the losses that PyTorch gave, to 1e-4 relative.
 *
 * tests/golden/make_golden.py holds the formulas of weights, images and labels below and the recipes a second time and
 * wrote the losses into the .txt files beside it. */
#include "cnn/session.h"
#include "core/hash.h"
#include "core/model.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEPS = 50,
    REF_STEPS = 6,
    BATCH = 32,
    IMAGES = 512,
    CLASSES = 10,
    SIDE = 28,
    PIXELS = SIDE * SIDE,
    SEED = 2024
};

static const double tolerance = 1e-4; /* relative */

/* How a network is trained; the file of its losses has the recipe's name. */
typedef struct recipe {
    const char *name, *model;
    cnn_step_options step;
    cnn_train_state state; /* settings */
    float learning_rate;
} recipe;

static const recipe recipes[] = {
    {.name = "lenet5", .model = "lenet5", .state = {.momentum = 0.9f}, .learning_rate = 0.01f},
    {.name = "convnet-narrow", .model = "convnet-narrow", .state = {.momentum = 0.9f}, .learning_rate = 0.01f},
    {.name = "lenet5-sgd",
     .model = "lenet5",
     .step = {.label_smoothing = 0.1f},
     .state = {.momentum = 0.9f, .nesterov = 1, .weight_decay = 0.01f, .clip_norm = 0.75f},
     .learning_rate = 0.05f},
    {.name = "convnet-narrow-ema",
     .model = "convnet-narrow",
     .step = {.ema = true},
     .state = {.momentum = 0.9f, .ema_decay = 0.8},
     .learning_rate = 0.01f},
    {.name = "lenet5-adam",
     .model = "lenet5",
     .step = {.optimizer = CNN_OPTIMIZER_ADAM},
     .state = {.beta1 = 0.8, .beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.01f, .clip_norm = 0.5f},
     .learning_rate = 0.002f},
    {.name = "lenet5-adamw",
     .model = "lenet5",
     .step = {.optimizer = CNN_OPTIMIZER_ADAMW, .label_smoothing = 0.2f, .ema = true},
     .state = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.5f, .ema_decay = 0.9},
     .learning_rate = 0.001f},
};
enum { RECIPES = sizeof recipes / sizeof *recipes };

/* What a file in tests/golden holds. */
typedef struct golden {
    double loss[STEPS];        /* PyTorch in float32 ... */
    double loss_double[STEPS]; /* ... and in float64 */
    double test_loss, test_loss_double;
    int test_correct; /* of IMAGES, in inference mode after the last step */
} golden;

static golden read_golden(const char *name)
{
    golden g;
    char path[512], line[256];
    int step = 0;
    snprintf(path, sizeof path, "%s/tests/golden/%s.txt", CNN_SOURCE_DIR, name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s cannot be opened", path);
    while (fgets(line, sizeof line, file)) {
        int number;
        if (line[0] == '#')
            continue;
        if (step < STEPS) {
            ck_assert_int_eq(sscanf(line, "%d %lf %lf", &number, &g.loss[step], &g.loss_double[step]), 3);
            ck_assert_int_eq(number, step);
        } else {
            ck_assert_int_eq(sscanf(line, "%lf %lf %d", &g.test_loss, &g.test_loss_double, &g.test_correct), 3);
        }
        step++;
    }
    fclose(file);
    ck_assert_int_eq(step, STEPS + 1);
    return g;
}

/* center + (2u - 1)*width with u = value i of parameter `number`; rounded after each operation. */
static float parameter_value(int number, int64_t i, float center, float width)
{
    const float u = cnn_hash_uniform(cnn_hash(SEED, CNN_PURPOSE_INIT, (uint64_t)number, (uint64_t)i));
    return center + (2.0f * u - 1.0f) * width;
}

static void fill_parameter(cnn_param *param, int number, float center, float width)
{
    const int64_t count = cnn_desc_elements(&param->desc);
    float *values = param->data;
    ck_assert_int_eq(param->desc.dtype, CNN_F32);
    for (int64_t i = 0; i < count; i++)
        values[i] = parameter_value(number, i, center, width);
}

/* Parameters are numbered in node order, weight before bias, gamma before beta. */
static void fill_model(cnn_model *model)
{
    int number = 0;
    for (int n = 0; n < model->node_count; n++) {
        cnn_param *param = model->nodes[n].param;
        const cnn_tensor_desc *weight = &param[CNN_PARAM_WEIGHT].desc;
        if (weight->dtype != CNN_NONE) {
            const float bound = (float)(1.0 / sqrt((double)weight->h * weight->w * weight->c));
            fill_parameter(&param[CNN_PARAM_WEIGHT], number++, 0.0f, bound);
            fill_parameter(&param[CNN_PARAM_BIAS], number++, 0.0f, bound);
        }
        if (param[CNN_PARAM_GAMMA].desc.dtype != CNN_NONE) {
            fill_parameter(&param[CNN_PARAM_GAMMA], number++, 1.0f, 0.5f);
            fill_parameter(&param[CNN_PARAM_BETA], number++, 0.0f, 0.25f);
            fill_parameter(&param[CNN_PARAM_RUNNING_MEAN], 0, 0.0f, 0.0f);
            fill_parameter(&param[CNN_PARAM_RUNNING_VAR], 0, 1.0f, 0.0f);
        }
    }
}

/* 3/4 a pattern of the class, in blocks of 4x4, and 1/4 noise; one image in eight shows another class than its label.
 */
static cnn_dataset make_data(void)
{
    cnn_dataset data = {
        .id = CNN_DATASET_SYNTH, .count = IMAGES, .height = SIDE, .width = SIDE, .channels = 1, .classes = CLASSES};
    data.images = malloc(IMAGES * PIXELS);
    data.labels = malloc(IMAGES);
    ck_assert(data.images && data.labels);
    for (int image = 0; image < IMAGES; image++) {
        const int label = (int)(cnn_hash(SEED, CNN_PURPOSE_SYNTH, (uint64_t)image, PIXELS) % CLASSES);
        const int shown = image % 8 == 7 ? (label + image) % CLASSES : label;
        data.labels[image] = (uint8_t)label;
        for (int pixel = 0; pixel < PIXELS; pixel++) {
            const int block = pixel / SIDE / 4 * (SIDE / 4) + pixel % SIDE / 4;
            const uint64_t noise = cnn_hash(SEED, CNN_PURPOSE_SYNTH, (uint64_t)image, (uint64_t)pixel) >> 56;
            const uint64_t pattern = cnn_hash(SEED + 1, CNN_PURPOSE_SYNTH, (uint64_t)shown, (uint64_t)block) >> 56;
            data.images[image * PIXELS + pixel] = (uint8_t)((noise + 3 * pattern) >> 2);
        }
    }
    return data;
}

static void check_status(cnn_status status)
{
    ck_assert_msg(status == CNN_OK, "%s: %s", cnn_status_name(status), cnn_last_error());
}

static cnn_session *open_session(cnn_model *model, const cnn_dataset *data, const recipe *how, const char *device)
{
    const cnn_session_options options = {
        .device = device, .batch = BATCH, .train = true, .storage = CNN_F32, .step = how->step};
    cnn_train_state state = how->state;
    cnn_session *session;
    state.growth = 2;
    state.backoff = 0.5f;
    state.floor = state.ceiling = state.loss_scale = state.scale_min = state.scale_max = 1;
    state.growth_interval = 2000;
    state.first_overflow = state.last_overflow = -1;
    check_status(cnn_session_open(model, &options, &session));
    check_status(cnn_session_set_data(session, data));
    check_status(cnn_session_set_schedule(session, &how->learning_rate, 1));
    check_status(cnn_session_set_state(session, &state));
    return session;
}

static double relative(double value, double expected)
{
    return fabs(value - expected) / fabs(expected);
}

/* Trains `steps` steps on a device and compares each loss. After all 50, running statistics are checked by the loss in
 * inference mode. Prints the largest relative differences. */
static void check_losses(const recipe *how, cnn_model *model, const char *device, int steps)
{
    const char *name = how->name;
    const golden g = read_golden(name);
    cnn_dataset data = make_data();
    double apart = 0, apart_double = 0, rounding = 0;
    fill_model(model);
    cnn_session *session = open_session(model, &data, how, device);
    for (int step = 0; step < steps; step++) {
        int32_t index[BATCH];
        float result[2];
        for (int i = 0; i < BATCH; i++)
            index[i] = 7 * (step * BATCH + i) % IMAGES;
        check_status(cnn_session_step(session, index, BATCH, result));
        const double loss = (double)result[0], difference = relative(loss, g.loss[step]);
        ck_assert_msg(difference <= tolerance, "%s on %s, step %d: loss %.9g, PyTorch %.9g: %.2e apart", name, device,
                      step, loss, g.loss[step], difference);
        apart = fmax(apart, difference);
        apart_double = fmax(apart_double, relative(loss, g.loss_double[step]));
        rounding = fmax(rounding, relative(g.loss[step], g.loss_double[step]));
    }
    printf("%s on %s, %d steps: %.2e from PyTorch in float32, %.2e from float64; PyTorch from itself %.2e\n", name,
           device, steps, apart, apart_double, rounding);
    if (steps == STEPS) {
        int64_t correct;
        double loss;
        check_status(cnn_session_evaluate(session, &data, NULL, IMAGES, &correct, &loss));
        ck_assert_msg(relative(loss, g.test_loss) <= tolerance, "%s on %s, inference: loss %.9g, PyTorch %.9g", name,
                      device, loss, g.test_loss);
        ck_assert_int_eq(correct, g.test_correct);
    }
    cnn_session_close(session);
    free(data.images);
    free(data.labels);
}

static void check_recipe(const recipe *how, const char *device, int steps)
{
    cnn_model *model;
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s.cfg", CNN_SOURCE_DIR, how->model);
    check_status(cnn_model_create(strcmp(how->model, "lenet5") == 0 ? how->model : path, &model));
    check_losses(how, model, device, steps);
    cnn_model_free(model);
}

START_TEST(recipe_on_cpu)
{
    check_recipe(&recipes[_i], "cpu", STEPS);
}
END_TEST

START_TEST(recipe_on_ref)
{
    check_recipe(&recipes[_i], "ref", REF_STEPS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("golden");
    TCase *losses = tcase_create("losses");
    tcase_set_timeout(losses, 120);
    tcase_add_loop_test(losses, recipe_on_cpu, 0, RECIPES);
    tcase_add_loop_test(losses, recipe_on_ref, 0, RECIPES);
    suite_add_tcase(suite, losses);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
