/* Layers that training leaves as they are, whatever else the run does. On "synth", with small networks. */
#include "tests/train_case.h"

#include "core/session.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char deep[] = "image = input(height=28, width=28, channels=1)\n"
                           "conv1 = conv(image, out=4, kernel=5, stride=2)\n"
                           "bn1 = bn(conv1)\n"
                           "relu1 = relu(bn1)\n"
                           "conv2 = conv(relu1, out=6, kernel=3, pad=1, bias=0)\n"
                           "bn2 = bn(conv2)\n"
                           "conv3 = conv(relu1, out=6, kernel=1)\n"
                           "sum = add(bn2, conv3)\n"
                           "pool = maxpool(sum, kernel=2)\n"
                           "fc1 = linear(pool, out=12)\n"
                           "relu2 = relu(fc1)\n"
                           "fc2 = linear(relu2, out=10)\n";

static const float rate = 0.05f;

static cnn_model *parse(const char *text)
{
    cnn_model *model;
    case_check(cnn_model_parse(text, "deep.cfg", &model));
    cnn_model_init(model, 3);
    return model;
}

/* One short epoch old, so that statistics are of something. Of the bias in front of a batch norm, whose gradient is 0,
 * there is something that decay moves. */
static cnn_model *deep_model(void)
{
    cnn_model *model = parse(deep);
    const cnn_train_options options = case_options(NULL);
    case_check(cnn_train(model, &case_small, &options, NULL));
    for (int k = 0; k < 4; k++)
        ((float *)model->nodes[1].param[CNN_PARAM_BIAS].data)[k] = 0.5f;
    return model;
}

static cnn_model *copy(const cnn_model *model)
{
    cnn_model *clone;
    case_check(cnn_model_clone(model, &clone));
    return clone;
}

static bool is_in(const char *list, const char *name)
{
    char all[128], one[128];
    snprintf(all, sizeof all, ",%s,", list);
    snprintf(one, sizeof one, ",%s,", name);
    return strstr(all, one) != NULL;
}

/* Parameters and statistics of the layers in `frozen` have the same bytes in both, all others do not. */
static void check_change(const cnn_model *before, const cnn_model *after, const char *frozen, const char *what)
{
    for (int n = 0; n < before->node_count; n++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *x = &before->nodes[n].param[role], *y = &after->nodes[n].param[role];
            const char *name = before->nodes[n].name;
            if (x->desc.dtype == CNN_NONE)
                continue;
            const bool same = memcmp(x->data, y->data, cnn_desc_bytes(&x->desc)) == 0;
            ck_assert_msg(same == is_in(frozen, name), "%s: %s.%s %s", what, name,
                          cnn_param_role_name((cnn_param_role)role), same ? "did not change" : "changed");
        }
}

/* ---- Whole runs ---- */

static void sgd(cnn_train_options *options)
{
    options->weight_decay = 0.05f;
    options->nesterov = true;
    options->clip_norm = 1;
}

static void adam(cnn_train_options *options)
{
    options->optimizer = CNN_OPTIMIZER_ADAM;
    options->weight_decay = 0.05f;
}

static void adamw(cnn_train_options *options)
{
    adam(options);
    options->optimizer = CNN_OPTIMIZER_ADAMW;
    options->storage = CNN_BF16;
}

static void averaged(cnn_train_options *options)
{
    sgd(options);
    options->ema_decay = 0.9;
}

static void averaged_fp16(cnn_train_options *options)
{
    averaged(options);
    options->storage = CNN_F16;
}

static const struct {
    const char *name;
    void (*set)(cnn_train_options *options);
} recipes[] = {{"sgd", sgd}, {"adam", adam}, {"adamw bf16", adamw}, {"ema", averaged}, {"ema fp16", averaged_fp16}};
enum { RECIPES = sizeof recipes / sizeof *recipes };

static const char *const lists[] = {"conv1,bn1", "bn2,fc1", "conv1,bn1,conv2,bn2,conv3,fc1", "fc2,bn1"};

START_TEST(frozen_layers_keep_their_bytes)
{
    cnn_model *start = deep_model();
    float *mean = start->nodes[cnn_model_find(start, "bn1")].param[CNN_PARAM_RUNNING_MEAN].data;
    mean[0] = -0.0f; /* an average of it would become +0 */
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        cnn_model *model = copy(start);
        cnn_train_options options = case_options(NULL);
        recipes[_i].set(&options);
        options.freeze = lists[i];
        case_check(cnn_train(model, &case_small, &options, NULL));
        check_change(start, model, lists[i], recipes[_i].name);
        cnn_model_free(model);
    }
    cnn_model_free(start);
}
END_TEST

/* The option is of the run: the next one trains everything again. */
START_TEST(freezing_ends_with_the_run)
{
    cnn_model *start = deep_model(), *model = copy(start);
    cnn_train_options options = case_options(NULL);
    sgd(&options);
    options.freeze = "all";
    case_check(cnn_train(model, &case_small, &options, NULL));
    check_change(start, model, "conv1,bn1,conv2,bn2,conv3,fc1", "all");
    options.freeze = NULL;
    case_check(cnn_train(model, &case_small, &options, NULL));
    check_change(start, model, "", "none");
    cnn_model_free(model);
    cnn_model_free(start);
}
END_TEST

static void set_mask(cnn_model *model, const char *name)
{
    cnn_param *weight = &model->nodes[cnn_model_find(model, name)].param[CNN_PARAM_WEIGHT];
    const int64_t elements = cnn_desc_elements(&weight->desc);
    weight->mask = cnn_aligned_alloc((size_t)elements);
    ck_assert_ptr_nonnull(weight->mask);
    for (int64_t i = 0; i < elements; i++) {
        weight->mask[i] = i % 3 != 0;
        if (!weight->mask[i])
            ((float *)weight->data)[i] = 0;
    }
}

START_TEST(masks_hold_beside_frozen_layers)
{
    cnn_model *start = deep_model();
    set_mask(start, "conv2");
    set_mask(start, "fc1");
    cnn_model *model = copy(start);
    cnn_train_options options = case_options(NULL);
    recipes[_i].set(&options);
    options.freeze = "conv1,conv2,bn2";
    case_check(cnn_train(model, &case_small, &options, NULL));
    check_change(start, model, options.freeze, recipes[_i].name);
    const cnn_param *weight = &model->nodes[cnn_model_find(model, "fc1")].param[CNN_PARAM_WEIGHT];
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        ck_assert_msg(weight->mask[i] || ((const float *)weight->data)[i] == 0, "pruned weight %lld lives",
                      (long long)i);
    cnn_model_free(model);
    cnn_model_free(start);
}
END_TEST

/* ---- Gradients ---- */

static cnn_session *frozen_session(cnn_model *model, const char *freeze, cnn_dtype storage)
{
    const cnn_train_state state = case_state(1, 0);
    case_check(cnn_model_freeze(model, freeze));
    return case_session(model, storage, &rate, 1, &state);
}

/* The loss and gradients of the first batch. */
static double backward(cnn_session *session)
{
    int32_t index[SMALL_BATCH];
    float result[2];
    for (int i = 0; i < SMALL_BATCH; i++)
        index[i] = i;
    case_check(cnn_session_backward(session, index, SMALL_BATCH, result));
    return (double)result[0];
}

static float *gradient(cnn_session *session, int node, cnn_param_role role)
{
    float *values = calloc((size_t)cnn_desc_elements(&session->model->nodes[node].param[role].desc), sizeof *values);
    ck_assert_ptr_nonnull(values);
    case_check(cnn_session_gradient(session, node, role, values));
    return values;
}

/* Where batch norms normalize as ever, those of the layers that train are the bits of a run without frozen layers. */
START_TEST(gradients_are_those_of_a_whole_run)
{
    static const cnn_dtype storages[] = {CNN_F32, CNN_F16, CNN_BF16};
    static const char *const frozen[] = {"conv1,conv3", "conv2", "conv1,conv2,fc1", "fc2"};
    cnn_model *model = deep_model();
    for (size_t i = 0; i < sizeof frozen / sizeof *frozen; i++) {
        cnn_model *part = copy(model);
        cnn_session *whole = frozen_session(model, NULL, storages[_i]);
        cnn_session *held = frozen_session(part, frozen[i], storages[_i]);
        ck_assert(backward(whole) == backward(held));
        for (int n = 0; n < model->node_count; n++)
            for (int role = 0; role <= CNN_PARAM_BETA; role++) {
                const cnn_tensor_desc *desc = &model->nodes[n].param[role].desc;
                if (desc->dtype == CNN_NONE || part->nodes[n].frozen)
                    continue;
                float *a = gradient(whole, n, (cnn_param_role)role), *b = gradient(held, n, (cnn_param_role)role);
                ck_assert_msg(memcmp(a, b, cnn_desc_bytes(desc)) == 0, "%s frozen: gradient of %s.%s", frozen[i],
                              model->nodes[n].name, cnn_param_role_name((cnn_param_role)role));
                free(a);
                free(b);
            }
        cnn_session_close(held);
        cnn_session_close(whole);
        cnn_model_free(part);
    }
    cnn_model_free(model);
}
END_TEST

/* Of a loss without kinks, through a batch norm that keeps its statistics. */
START_TEST(gradients_behind_a_frozen_bn_are_differences)
{
    enum { CHECKED = 24 };
    const float h = 1.0f / 64;
    cnn_model *model = parse("image = input(height=28, width=28, channels=1)\n"
                             "conv1 = conv(image, out=4, kernel=5, stride=2)\n"
                             "bn1 = bn(conv1)\n"
                             "fc1 = linear(bn1, out=10)\n");
    const cnn_train_options options = case_options(NULL);
    case_check(cnn_train(model, &case_small, &options, NULL));
    cnn_node *bn = &model->nodes[2], *conv = &model->nodes[1];
    for (int c = 0; c < 4; c++) { /* far from what the batch has */
        ((float *)bn->param[CNN_PARAM_RUNNING_VAR].data)[c] = 1.5f + (float)c;
        ((float *)bn->param[CNN_PARAM_GAMMA].data)[c] = c % 2 ? -1.25f : 0.75f;
    }
    cnn_session *session = frozen_session(model, "bn1", CNN_F32);
    backward(session);
    float *got = gradient(session, 1, CNN_PARAM_WEIGHT), *weight = conv->param[CNN_PARAM_WEIGHT].data;
    double largest = 0;
    for (int i = 0; i < CHECKED; i++)
        largest = fmax(largest, fabs((double)got[4 * i]));
    ck_assert(largest > 1e-3);
    for (int i = 0; i < CHECKED; i++) {
        const float kept = weight[4 * i];
        double loss[2];
        for (int side = 0; side < 2; side++) {
            weight[4 * i] = side ? kept + h : kept - h;
            case_check(cnn_session_push(session));
            loss[side] = backward(session);
        }
        weight[4 * i] = kept;
        const double numeric = (loss[1] - loss[0]) / (2 * (double)h);
        ck_assert_msg(fabs(numeric - (double)got[4 * i]) <= 0.01 * largest,
                      "weight %d: backward %.6g, differences %.6g", 4 * i, (double)got[4 * i], numeric);
    }
    free(got);
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

/* ---- Programs ---- */

static int count(const char *text, const char *word)
{
    int found = 0;
    for (; (text = strstr(text, word)); text += strlen(word))
        found++;
    return found;
}

/* No instruction is spent on gradients that lead to nothing that trains. */
START_TEST(no_work_in_front_of_what_trains)
{
    static const struct {
        const char *freeze;
        int conv_wgrad, conv_dgrad, linear_wgrad, linear_dgrad, bn_train, bn_grad, bn_infer, bn_update, relu_grad,
            pool_grad;
    } cases[] = {{NULL, 3, 2, 2, 2, 2, 2, 0, 1, 2, 1},        {"all", 0, 0, 1, 0, 0, 0, 2, 0, 0, 0},
                 {"conv1,bn1", 2, 0, 2, 2, 1, 1, 1, 2, 1, 1}, {"conv1,bn1,conv2,bn2", 1, 0, 2, 2, 0, 0, 2, 0, 1, 1},
                 {"conv2,bn2", 2, 2, 2, 2, 1, 1, 2, 2, 2, 1}, {"fc1,fc2", 3, 2, 0, 2, 2, 2, 0, 1, 2, 1}};
    cnn_model *model = deep_model();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text;
        cnn_session *session = frozen_session(model, cases[i].freeze, CNN_F32);
        case_check(cnn_session_dump(session, true, SMALL_BATCH, &text));
        ck_assert_int_eq(count(text, "\n      conv_wgrad"), cases[i].conv_wgrad);
        ck_assert_int_eq(count(text, "\n      conv_dgrad"), cases[i].conv_dgrad);
        ck_assert_int_eq(count(text, "\n      linear_wgrad"), cases[i].linear_wgrad);
        ck_assert_int_eq(count(text, "\n      linear_dgrad"), cases[i].linear_dgrad);
        ck_assert_int_eq(count(text, "\n      bn_train"), cases[i].bn_train);
        ck_assert_int_eq(count(text, "\n      bn_grad"), cases[i].bn_grad);
        ck_assert_int_eq(count(text, "\n      bn_infer"), cases[i].bn_infer);
        ck_assert_int_eq(count(text, "\n      bn_update"), cases[i].bn_update);
        ck_assert_int_eq(count(text, "\n      relu_grad") + count(text, "+relu_grad"), cases[i].relu_grad);
        ck_assert_int_eq(count(text, "\n      maxpool_grad"), cases[i].pool_grad);
        free(text);
        cnn_session_close(session);
    }
    cnn_model_free(model);
}
END_TEST

/* The parameters that train come first, and nothing overlaps. */
START_TEST(frozen_parameters_lie_behind)
{
    cnn_model *model = deep_model();
    case_check(cnn_model_freeze(model, "conv1,bn2,fc1"));
    const cnn_segments segments = cnn_model_segments(model);
    int64_t end[2] = {0, segments.elements}, segment;
    for (int n = 0; n < model->node_count; n++)
        for (int role = 0; role <= CNN_PARAM_BETA; role++) {
            const cnn_tensor_desc *desc = &model->nodes[n].param[role].desc;
            const int64_t at = cnn_model_param(model, n, (cnn_param_role)role);
            const bool frozen = model->nodes[n].frozen;
            ck_assert_int_eq(at < 0, desc->dtype == CNN_NONE);
            if (at < 0)
                continue;
            ck_assert_int_eq(at, end[frozen]);
            ck_assert_int_eq(cnn_model_segment(model, n, (cnn_param_role)role, &segment) < 0, frozen);
            end[frozen] += (cnn_desc_elements(desc) + CNN_SEGMENT_ALIGN - 1) / CNN_SEGMENT_ALIGN * CNN_SEGMENT_ALIGN;
        }
    ck_assert_int_eq(end[0], segments.elements);
    ck_assert_int_eq(end[1], segments.all);
    cnn_model_free(model);
}
END_TEST

/* ---- Going on ---- */

static const char *const path = "test_freeze.ckpt";

START_TEST(a_frozen_run_goes_on)
{
    record r;
    cnn_model *start = deep_model(), *whole = copy(start), *part = copy(start);
    cnn_train_options options = case_options(&r);
    recipes[_i].set(&options);
    options.epochs = 2;
    options.freeze = "conv1,bn1";
    case_check(cnn_train(whole, &case_small, &options, NULL));
    remove(path);
    options.checkpoint = path;
    r.stop_at = 4;
    ck_assert_int_eq(cnn_train(part, &case_small, &options, NULL), CNN_ERR_CANCELLED);
    cnn_model_free(part);
    part = copy(start);
    r.stop_at = 0;
    options.resume = true;
    options.freeze = "conv1";
    ck_assert_int_eq(cnn_train(part, &case_small, &options, NULL), CNN_ERR_SHAPE);
    ck_assert_msg(strstr(cnn_last_error(), "--freeze conv1, bn1") && case_same(part, start), "%s", cnn_last_error());
    options.freeze = "bn1,conv1,bn1"; /* the same layers */
    case_check(cnn_train(part, &case_small, &options, NULL));
    ck_assert(case_same(whole, part));
    check_change(start, part, "conv1,bn1", recipes[_i].name);
    remove(path);
    cnn_model_free(start);
    cnn_model_free(whole);
    cnn_model_free(part);
}
END_TEST

/* ---- Lists that make no sense ---- */

START_TEST(lists_are_checked)
{
    static const struct {
        const char *list, *say;
    } wrong[] = {{"conv9", "'conv9'"},
                 {"conv1,", "''"},
                 {"", "''"},
                 {"conv", "conv1, bn1, conv2, bn2, conv3, fc1, fc2"},
                 {"relu1", "'relu1'"},
                 {"conv1 ,bn1", "'conv1 '"},
                 {"all,fc2", "nothing"},
                 {"conv1,bn1,conv2,bn2,conv3,fc1,fc2", "nothing"}};
    cnn_model *model = deep_model();
    case_check(cnn_model_freeze(model, "conv3"));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char *names;
        ck_assert_int_eq(cnn_model_freeze(model, wrong[i].list), CNN_ERR_USAGE);
        ck_assert_msg(strstr(cnn_last_error(), wrong[i].say) != NULL, "%s: %s", wrong[i].list, cnn_last_error());
        case_check(cnn_model_frozen(model, &names));
        ck_assert_str_eq(names, "conv3");
        free(names);
    }
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("freeze");
    TCase *freeze = tcase_create("freeze");
    tcase_add_checked_fixture(freeze, case_set_up, case_tear_down);
    tcase_set_timeout(freeze, 60);
    tcase_add_loop_test(freeze, frozen_layers_keep_their_bytes, 0, RECIPES);
    tcase_add_test(freeze, freezing_ends_with_the_run);
    tcase_add_loop_test(freeze, masks_hold_beside_frozen_layers, 0, RECIPES);
    tcase_add_loop_test(freeze, gradients_are_those_of_a_whole_run, 0, 3);
    tcase_add_test(freeze, gradients_behind_a_frozen_bn_are_differences);
    tcase_add_test(freeze, no_work_in_front_of_what_trains);
    tcase_add_test(freeze, frozen_parameters_lie_behind);
    tcase_add_loop_test(freeze, a_frozen_run_goes_on, 0, RECIPES);
    tcase_add_test(freeze, lists_are_checked);
    suite_add_tcase(suite, freeze);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
