/* Regrowth: the schedule's count holds, what comes back went in an earlier step and has the largest gradients, begins
 * at 0 and trains. */
#include "tests/network_case.h"

#include "core/session.h"
#include "core/weight_blocks.h"

#include <math.h>

static const char chain[] = "image = input(height=10, width=10, channels=1)\n"
                            "conv1 = conv(image, out=16, kernel=3, pad=1)\n"
                            "bn1 = bn(conv1)\n"
                            "relu1 = relu(bn1)\n"
                            "pool1 = maxpool(relu1, kernel=2)\n"
                            "conv2 = conv(pool1, out=32, kernel=3)\n"
                            "relu2 = relu(conv2)\n"
                            "fc1 = linear(relu2, out=32)\n"
                            "relu3 = relu(fc1)\n"
                            "fc2 = linear(relu3, out=10)\n";
static const char *const layers[] = {"conv1", "conv2", "fc1", "fc2"};
enum { LAYERS = 4, IMAGES = 40 };

static cnn_param *weight_of(cnn_model *model, const char *layer)
{
    return &model->nodes[cnn_model_find(model, layer)].param[CNN_PARAM_WEIGHT];
}

static int64_t count_of(cnn_model *model, const char *layer)
{
    return cnn_desc_elements(&weight_of(model, layer)->desc);
}

static int64_t pruned_of(cnn_model *model, const char *layer)
{
    const cnn_param *weight = weight_of(model, layer);
    int64_t pruned = 0;
    for (int64_t i = 0; weight->mask && i < count_of(model, layer); i++) {
        ck_assert(weight->mask[i] || ((const float *)weight->data)[i] == 0);
        pruned += !weight->mask[i];
    }
    return pruned;
}

static cnn_prune_options options_with(double ratio, double regrow, const cnn_dataset *data)
{
    return (cnn_prune_options){.ratio = ratio, .regrow = regrow, .data = data, .device = "ref", .seed = 1};
}

/* Gradients of a layer's weights over all images, as if nothing were pruned. */
static float *gradients_of(const cnn_model *model, const char *layer, const cnn_dataset *data)
{
    cnn_model *copy;
    cnn_session *session;
    float result[2];
    int32_t index[IMAGES];
    const float rate = 0;
    const cnn_train_state state = {.loss_scale = 1, .first_overflow = -1, .last_overflow = -1};
    CHECK_OK(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count; i++) {
        cnn_aligned_free(copy->nodes[i].param[CNN_PARAM_WEIGHT].mask);
        copy->nodes[i].param[CNN_PARAM_WEIGHT].mask = NULL;
    }
    cnn_split split;
    CHECK_OK(cnn_dataset_split(data, model->split_seed, &split));
    for (int i = 0; i < split.train_count; i++)
        index[i] = split.train[i];
    float *gradient = malloc((size_t)count_of(copy, layer) * sizeof *gradient);
    CHECK_OK(cnn_session_open(copy, &(cnn_session_options){.device = "ref", .batch = IMAGES, .train = true}, &session));
    CHECK_OK(cnn_session_set_data(session, data));
    CHECK_OK(cnn_session_set_schedule(session, &rate, 1));
    CHECK_OK(cnn_session_set_state(session, &state));
    CHECK_OK(cnn_session_backward(session, index, split.train_count, result));
    CHECK_OK(cnn_session_gradient(session, cnn_model_find(copy, layer), CNN_PARAM_WEIGHT, gradient));
    cnn_session_close(session);
    cnn_split_free(&split);
    cnn_model_free(copy);
    return gradient;
}

/* ---- Counts and choice ---- */

START_TEST(test_the_largest_gradients_come_back)
{
    cnn_model *model = make_model(chain, 1), *before;
    const cnn_prune_options first = options_with(0.5, 0.4, &case_data), second = options_with(0.7, 0.4, &case_data);
    CHECK_OK(cnn_prune_weights(model, &first, NULL)); /* nothing went before: nothing comes back */
    CHECK_OK(cnn_model_clone(model, &before));
    cnn_prune_result result;
    CHECK_OK(cnn_prune_weights(model, &second, &result));
    int64_t removed = 0;
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *then = weight_of(before, layers[l]), *now = weight_of(model, layers[l]);
        const int64_t count = count_of(model, layers[l]);
        const int64_t half = (int64_t)floor((double)count * 0.5 + 0.5),
                      wanted = (int64_t)floor((double)count * 0.7 + 0.5);
        ck_assert_int_eq(pruned_of(before, layers[l]), half);
        ck_assert_int_eq(pruned_of(model, layers[l]), wanted);
        float *gradient = gradients_of(before, layers[l], &case_data), least_back = INFINITY, most_left = 0;
        int64_t back = 0;
        for (int64_t i = 0; i < count; i++) {
            if (then->mask[i])
                continue;
            back += now->mask[i];
            ck_assert(((const float *)now->data)[i] == 0);
            if (now->mask[i])
                least_back = fminf(least_back, fabsf(gradient[i]));
            else
                most_left = fmaxf(most_left, fabsf(gradient[i]));
        }
        ck_assert_int_eq(back, (int64_t)floor((double)(wanted - half) * 0.4 + 0.5));
        ck_assert_msg(least_back >= most_left * 0.9999f, "%s: %g came back, %g did not", layers[l], (double)least_back,
                      (double)most_left);
        free(gradient);
        removed += wanted;
    }
    ck_assert_int_eq(result.removed, removed);
    cnn_model_free(before);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_without_regrowth_nothing_changes)
{
    cnn_model *model = make_model(chain, 2), *plain;
    const cnn_prune_options first = options_with(0.5, 0, &case_data), second = options_with(0.7, 0, NULL);
    CHECK_OK(cnn_prune_weights(model, &first, NULL));
    CHECK_OK(cnn_model_clone(model, &plain));
    CHECK_OK(cnn_prune_weights(model, &second, NULL)); /* needs no images either */
    for (int l = 0; l < LAYERS; l++)
        for (int64_t i = 0; i < count_of(model, layers[l]); i++)
            ck_assert(weight_of(plain, layers[l])->mask[i] || !weight_of(model, layers[l])->mask[i]);
    cnn_model_free(plain);
    cnn_model_free(model);
}
END_TEST

/* Over all layers, and in blocks: counts hold there as well, and some of what went is back. */
START_TEST(test_global_and_blocks)
{
    cnn_model *model = make_model(chain, 3), *before;
    cnn_prune_options options = options_with(0.4, 0.5, &case_data);
    options.global = true;
    cnn_status (*const prune)(cnn_model *, const cnn_prune_options *, cnn_prune_result *) =
        _i ? cnn_prune_blocks : cnn_prune_weights;
    CHECK_OK(prune(model, &options, NULL));
    CHECK_OK(cnn_model_clone(model, &before));
    options.ratio = 0.7;
    cnn_prune_result result;
    CHECK_OK(prune(model, &options, &result));
    int64_t pruned = 0, back = 0;
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *then = weight_of(before, layers[l]), *now = weight_of(model, layers[l]);
        pruned += pruned_of(model, layers[l]);
        for (int64_t i = 0; then->mask && i < count_of(model, layers[l]); i++)
            back += !then->mask[i] && now->mask[i];
        if (_i && now->mask) {
            const cnn_node *node = &model->nodes[cnn_model_find(model, layers[l])];
            const cnn_block_grid grid = cnn_block_grid_of(node, CNN_BLOCK_OUTPUTS, CNN_BLOCK_INPUTS);
            for (int64_t b = 0; b < cnn_block_count(&grid); b++) {
                const cnn_weight_block block = cnn_block_get(&grid, b);
                for (int32_t row = 0; row < block.rows; row++)
                    for (int32_t c = 0; c < block.columns; c++)
                        ck_assert(now->mask[block.first + row * block.stride + c] == now->mask[block.first]);
            }
        }
    }
    ck_assert_int_eq(result.removed, pruned);
    ck_assert_double_le(fabs((double)pruned - (double)result.candidates * 0.7), _i ? 4 * 32 : 0.5);
    ck_assert_double_le(fabs((double)back - (double)result.candidates * 0.15), _i ? 4 * 64 : 4);
    cnn_model_free(before);
    cnn_model_free(model);
}
END_TEST

/* ---- Training ---- */

/* What comes back in the middle of a run begins at 0 and moves; the rest of what is pruned stays 0. */
START_TEST(test_regrown_weights_train)
{
    cnn_model *model = make_model(chain, 4), *before, *then;
    const cnn_prune_options first = options_with(0.5, 0, &case_data), second = options_with(0.7, 0.4, &case_data);
    CHECK_OK(cnn_prune_weights(model, &first, NULL));
    cnn_session *session = case_open_steps(model, "cpu", CNN_F32);
    case_run_steps(session, 3);
    CHECK_OK(cnn_model_clone(model, &before));
    CHECK_OK(cnn_prune_weights(model, &second, NULL));
    CHECK_OK(cnn_model_clone(model, &then));
    CHECK_OK(cnn_session_push(session));
    case_run_steps(session, 3);
    int64_t back = 0, moved = 0;
    for (int l = 0; l < LAYERS; l++) {
        ck_assert_int_eq(pruned_of(model, layers[l]), pruned_of(then, layers[l]));
        for (int64_t i = 0; i < count_of(model, layers[l]); i++)
            if (!weight_of(before, layers[l])->mask[i] && weight_of(then, layers[l])->mask[i]) {
                ck_assert(((const float *)weight_of(then, layers[l])->data)[i] == 0);
                moved += ((const float *)weight_of(model, layers[l])->data)[i] != 0;
                back++;
            }
    }
    ck_assert_int_gt(back, 100);
    ck_assert_int_ge(moved, back * 9 / 10);
    cnn_session_close(session);
    cnn_model_free(then);
    cnn_model_free(before);
    cnn_model_free(model);
}
END_TEST

/* ---- Refusals ---- */

START_TEST(test_refusals_change_nothing)
{
    static const double wrong[] = {-0.1, 1, 1.5, NAN, INFINITY};
    cnn_model *model = make_model(chain, 5);
    const cnn_prune_options first = options_with(0.5, 0, &case_data), blind = options_with(0.7, 0.4, NULL);
    CHECK_OK(cnn_prune_weights(model, &first, NULL));
    const uint64_t before = fingerprint(model);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const cnn_prune_options options = options_with(0.7, wrong[i], &case_data);
        CHECK_REFUSED(cnn_prune_weights(model, &options, NULL), CNN_ERR_USAGE, "come back");
    }
    CHECK_REFUSED(cnn_prune_weights(model, &blind, NULL), CNN_ERR_USAGE, "regrowth needs training images");
    ck_assert_uint_eq(fingerprint(model), before);
    cnn_model_free(model);
}
END_TEST

static void set_up(void)
{
    case_make_data(IMAGES, 10);
}

static Suite *regrow_suite(void)
{
    Suite *suite = suite_create("regrow");
    TCase *tests = tcase_create("regrow");
    tcase_add_checked_fixture(tests, set_up, case_free_data);
    tcase_add_test(tests, test_the_largest_gradients_come_back);
    tcase_add_test(tests, test_without_regrowth_nothing_changes);
    tcase_add_loop_test(tests, test_global_and_blocks, 0, 2);
    tcase_add_test(tests, test_regrown_weights_train);
    tcase_add_test(tests, test_refusals_change_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(regrow_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
