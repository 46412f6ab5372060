/* Pruning to 2:4: the best two of every group and no others, by every criterion, and a promise that holds through
 * training, folding, INT8 and files. */
#include "tests/network_case.h"

#include <math.h>

static const char chain[] = "image = input(height=10, width=10, channels=1)\n"
                            "conv1 = conv(image, out=6, kernel=3, pad=1, bias=0)\n"
                            "bn1 = bn(conv1)\n"
                            "relu1 = relu(bn1)\n"
                            "pool1 = maxpool(relu1, kernel=2)\n"
                            "conv2 = conv(pool1, out=7, kernel=3)\n"
                            "relu2 = relu(conv2)\n"
                            "fc1 = linear(relu2, out=16)\n"
                            "relu3 = relu(fc1)\n"
                            "fc2 = linear(relu3, out=10)\n";

/* conv2 is [7,3,3,6]: groups of 4 and 2 channels. fc1 is [16,3,3,7] and counts as [16,1,1,63]: its groups do not end
 * where a position does, and the last has 3. */
static const struct {
    int from_end; /* its node, counted from the last: small files have no names */
    int rows, inputs;
} layers[] = {{5, 7 * 9, 6}, {3, 16, 63}, {1, 10, 16}};
enum { LAYERS = 3 };

static cnn_param *weight_of(cnn_model *model, int layer)
{
    return &model->nodes[model->node_count - layers[layer].from_end].param[CNN_PARAM_WEIGHT];
}

static int pruned_in_group(int wide)
{
    return wide > 2 ? wide - 2 : 0;
}

static int64_t pruned_in_layer(int layer)
{
    int64_t pruned = 0;
    for (int first = 0; first < layers[layer].inputs; first += 4)
        pruned += pruned_in_group(layers[layer].inputs - first < 4 ? layers[layer].inputs - first : 4);
    return pruned * layers[layer].rows;
}

/* Every group has its share of zeros, the structure says so, and what is pruned in `then` (or NULL) still is. */
static void check_groups(cnn_model *model, cnn_model *then)
{
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *weight = weight_of(model, l);
        ck_assert_int_eq(weight->desc.structure, CNN_SPARSE_2_4);
        ck_assert_ptr_nonnull(weight->mask);
        for (int row = 0; row < layers[l].rows; row++)
            for (int first = 0; first < layers[l].inputs; first += 4) {
                const int wide = layers[l].inputs - first < 4 ? layers[l].inputs - first : 4;
                int zeros = 0;
                for (int c = 0; c < wide; c++) {
                    const int64_t i = (int64_t)row * layers[l].inputs + first + c;
                    const bool zero = weight->desc.dtype == CNN_I8 ? ((const int8_t *)weight->data)[i] == 0
                                                                   : ((const float *)weight->data)[i] == 0;
                    ck_assert(weight->mask[i] || zero);
                    ck_assert(!then || weight_of(then, l)->mask[i] || !weight->mask[i]);
                    zeros += !weight->mask[i];
                }
                ck_assert_int_ge(zeros, pruned_in_group(wide));
                ck_assert(weight->desc.dtype == CNN_I8 || zeros == pruned_in_group(wide));
            }
    }
}

/* ---- Which go ---- */

START_TEST(test_the_smallest_go)
{
    cnn_model *model = make_model(chain, 1), *original;
    cnn_prune_result result;
    int64_t all = 0, pruned = 0;
    CHECK_OK(cnn_model_clone(model, &original));
    const cnn_prune_options options = {.criterion = _i ? CNN_CRITERION_L2 : CNN_CRITERION_L1}; /* whatever the share */
    CHECK_OK(cnn_prune_two_of_four(model, &options, &result));
    check_groups(model, NULL);
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *weight = weight_of(model, l);
        const float *before = weight_of(original, l)->data, *after = weight->data;
        for (int row = 0; row < layers[l].rows; row++)
            for (int i = 0; i < layers[l].inputs; i++)
                for (int j = i / 4 * 4; j < i / 4 * 4 + 4 && j < layers[l].inputs; j++) {
                    const int64_t a = (int64_t)row * layers[l].inputs + i, b = (int64_t)row * layers[l].inputs + j;
                    ck_assert(!weight->mask[a] || after[a] == before[a]);
                    ck_assert(!weight->mask[a] || weight->mask[b] || fabsf(before[a]) >= fabsf(before[b]));
                }
        all += cnn_desc_elements(&weight->desc);
        pruned += pruned_in_layer(l);
    }
    ck_assert_int_eq(result.candidates, all);
    ck_assert_int_eq(result.removed, pruned);
    ck_assert_int_eq(result.narrow, 1);
    ck_assert_str_eq(result.narrow_name, "conv1");
    ck_assert_ptr_null(model->nodes[1].param[CNN_PARAM_WEIGHT].mask);
    ck_assert_int_eq(model->nodes[1].param[CNN_PARAM_WEIGHT].desc.structure, CNN_DENSE);
    const uint64_t same = fingerprint(model);
    CHECK_OK(cnn_prune_two_of_four(model, &options, &result));
    ck_assert_uint_eq(fingerprint(model), same);
    cnn_model_free(original);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_among_equals_the_first_stay)
{
    cnn_model *model = make_model(chain, 2);
    float *weights = weight_of(model, 2)->data;
    for (int i = 0; i < 160; i++)
        weights[i] = i % 2 ? 0.25f : -0.25f;
    CHECK_OK(cnn_prune_two_of_four(model, &(cnn_prune_options){0}, NULL));
    for (int i = 0; i < 160; i++)
        ck_assert_int_eq(weight_of(model, 2)->mask[i], i % 4 < 2);
    cnn_model_free(model);
}
END_TEST

/* What was pruned before counts, and does not come back. */
START_TEST(test_pruned_weights_go_first)
{
    cnn_model *model = make_model(chain, 3), *before;
    CHECK_OK(cnn_prune_weights(model, &(cnn_prune_options){.ratio = 0.4, .criterion = CNN_CRITERION_RANDOM}, NULL));
    CHECK_OK(cnn_model_clone(model, &before));
    CHECK_OK(cnn_prune_two_of_four(model, &(cnn_prune_options){0}, NULL));
    for (int l = 0; l < LAYERS; l++)
        for (int64_t i = 0; i < cnn_desc_elements(&weight_of(model, l)->desc); i++)
            ck_assert(weight_of(before, l)->mask[i] || !weight_of(model, l)->mask[i]);
    for (int l = 0; l < LAYERS; l++)
        for (int row = 0; row < layers[l].rows; row++)
            for (int first = 0; first + 4 <= layers[l].inputs; first += 4) {
                const int64_t at = (int64_t)row * layers[l].inputs + first;
                int live = 0, had = 0;
                for (int c = 0; c < 4; c++) {
                    live += weight_of(model, l)->mask[at + c];
                    had += weight_of(before, l)->mask[at + c];
                }
                ck_assert_int_eq(live, had < 2 ? had : 2);
            }
    /* More zeros leave the promise as it is. */
    CHECK_OK(cnn_prune_weights(model, &(cnn_prune_options){.ratio = 0.8}, NULL));
    for (int l = 0; l < LAYERS; l++)
        ck_assert_int_eq(weight_of(model, l)->desc.structure, CNN_SPARSE_2_4);
    cnn_model_free(before);
    cnn_model_free(model);
}
END_TEST

/* Inputs that are always 0 have no influence, however large their weights. */
START_TEST(test_taylor_follows_gradients)
{
    cnn_model *model = make_model(chain, 4);
    float *gamma = param_data(model, "bn1", CNN_PARAM_GAMMA), *beta = param_data(model, "bn1", CNN_PARAM_BETA);
    for (int c = 1; c < 3; c++) { /* these channels are 0 behind the ReLU */
        gamma[c] = 0;
        beta[c] = -1;
    }
    for (int i = 0; i < 7 * 9 * 6; i++)
        param_data(model, "conv2", CNN_PARAM_WEIGHT)[i] *= i % 6 == 1 || i % 6 == 2 ? 8 : 1;
    const cnn_prune_options options = {
        .criterion = CNN_CRITERION_TAYLOR, .data = &case_data, .device = "cpu", .seed = 1, .only = "conv2"};
    CHECK_OK(cnn_prune_two_of_four(model, &options, NULL));
    for (int i = 0; i < 7 * 9 * 6; i++)
        ck_assert_int_eq(weight_of(model, 0)->mask[i], i % 6 != 1 && i % 6 != 2);
    ck_assert_ptr_null(weight_of(model, 1)->mask);
    cnn_model_free(model);
}
END_TEST

/* ---- The whole way ---- */

START_TEST(test_groups_survive_every_pass)
{
    cnn_model *model = make_model(chain, 5), *pruned;
    size_t sizes[3];
    CHECK_OK(cnn_prune_two_of_four(model, &(cnn_prune_options){0}, NULL));
    CHECK_OK(cnn_model_clone(model, &pruned));
    cnn_session *session = case_open_steps(model, "cpu", CNN_F32);
    case_run_steps(session, 4);
    cnn_session_close(session);
    check_groups(model, pruned);
    CHECK_OK(cnn_fold_batchnorm(model));
    check_groups(model, pruned);
    cnn_quantize_options options = case_quantize_options();
    options.device = "ref";
    CHECK_OK(cnn_quantize(model, &case_data, &options, NULL, NULL));
    check_groups(model, pruned);
    for (int pack = CNN_PACK_AUTO; pack <= CNN_PACK_SMALLEST; pack++) {
        cnn_model *read = case_packed(model, (cnn_pack)pack, &sizes[pack]);
        check_groups(read, pruned);
        ck_assert_uint_eq(fingerprint(read), fingerprint(model));
        cnn_model_free(read);
    }
    ck_assert_uint_le(sizes[CNN_PACK_AUTO], sizes[CNN_PACK_RAW]);
    case_check_same_bits(model);
    cnn_model_free(pruned);
    cnn_model_free(model);
}
END_TEST

/* Groups do not survive channels that go. */
START_TEST(test_channels_end_the_promise)
{
    cnn_model *model = make_model(chain, 6);
    CHECK_OK(cnn_prune_two_of_four(model, &(cnn_prune_options){0}, NULL));
    CHECK_OK(cnn_prune_channels(model, &(cnn_prune_options){.ratio = 0.3}, NULL));
    for (int l = 0; l < LAYERS; l++)
        ck_assert_int_eq(weight_of(model, l)->desc.structure, CNN_SPARSE);
    cnn_model_free(model);
}
END_TEST

/* ---- Refusals ---- */

START_TEST(test_refusals_change_nothing)
{
    cnn_model *model = make_model(chain, 7);
    const uint64_t before = fingerprint(model);
    const cnn_prune_options bn = {.criterion = CNN_CRITERION_BN}, global = {.global = true};
    CHECK_REFUSED(cnn_prune_two_of_four(model, &bn, NULL), CNN_ERR_USAGE, "bn");
    CHECK_REFUSED(cnn_prune_two_of_four(model, &global, NULL), CNN_ERR_USAGE, "no shares");
    ck_assert_uint_eq(fingerprint(model), before);
    cnn_model_free(model);
    model = make_model("i = input(height=1, width=1, channels=3)\nf = linear(i, out=10)\n", 8);
    CHECK_REFUSED(cnn_prune_two_of_four(model, &(cnn_prune_options){0}, NULL), CNN_ERR_UNSUPPORTED,
                  "no layer of 4 inputs");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_out_of_memory_changes_nothing)
{
    cnn_model *model = make_model(chain, 9);
    case_check_out_of_memory(model, &(cnn_prune_options){0}, cnn_prune_two_of_four);
    cnn_model_free(model);
}
END_TEST

static void set_up(void)
{
    case_make_data(60, 10);
}

static Suite *two_of_four_suite(void)
{
    Suite *suite = suite_create("two_of_four");
    TCase *tests = tcase_create("two_of_four");
    tcase_add_checked_fixture(tests, set_up, case_free_data);
    tcase_add_loop_test(tests, test_the_smallest_go, 0, 2);
    tcase_add_test(tests, test_among_equals_the_first_stay);
    tcase_add_test(tests, test_pruned_weights_go_first);
    tcase_add_test(tests, test_taylor_follows_gradients);
    tcase_add_test(tests, test_groups_survive_every_pass);
    tcase_add_test(tests, test_channels_end_the_promise);
    tcase_add_test(tests, test_refusals_change_nothing);
    tcase_add_test(tests, test_out_of_memory_changes_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(two_of_four_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
