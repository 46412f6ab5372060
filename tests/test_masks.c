/* Pruning single weights: exact shares, and masks that hold through training, folding, INT8 and files. */
#include "tests/network_case.h"

#include <math.h>

static const char chain[] = "image = input(height=12, width=12, channels=1)\n"
                            "conv1 = conv(image, out=8, kernel=3, pad=1)\n"
                            "bn1 = bn(conv1)\n"
                            "relu1 = relu(bn1)\n"
                            "pool1 = maxpool(relu1, kernel=2)\n"
                            "conv2 = conv(pool1, out=16, kernel=3, bias=0)\n"
                            "relu2 = relu(conv2)\n"
                            "fc1 = linear(relu2, out=33)\n"
                            "relu3 = relu(fc1)\n"
                            "fc2 = linear(relu3, out=10)\n";
static const char *const layers[] = {"conv1", "conv2", "fc1", "fc2"};
enum { LAYERS = 4 };

static cnn_status prune(cnn_model *model, double ratio, bool global, cnn_prune_result *result)
{
    const cnn_prune_options options = {.ratio = ratio, .global = global};
    return cnn_prune_weights(model, &options, result);
}

static cnn_param *weight_of(cnn_model *model, const char *layer)
{
    return &model->nodes[cnn_model_find(model, layer)].param[CNN_PARAM_WEIGHT];
}

static int64_t count_of(cnn_model *model, const char *layer)
{
    return cnn_desc_elements(&weight_of(model, layer)->desc);
}

static bool is_zero(const cnn_param *param, int64_t i)
{
    return param->desc.dtype == CNN_I8 ? ((const int8_t *)param->data)[i] == 0 : ((const float *)param->data)[i] == 0;
}

/* Pruned weights of a layer. Each of them is 0. */
static int64_t pruned_of(cnn_model *model, const char *layer)
{
    const cnn_param *weight = weight_of(model, layer);
    int64_t pruned = 0;
    ck_assert_ptr_nonnull(weight->mask);
    ck_assert_int_eq(weight->desc.structure, CNN_SPARSE);
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++) {
        ck_assert_uint_le(weight->mask[i], 1);
        ck_assert(weight->mask[i] || is_zero(weight, i));
        pruned += !weight->mask[i];
    }
    return pruned;
}

/* ---- Shares ---- */

static const double shares[] = {0.1, 0.3, 0.5, 0.75, 0.9, 0.99, 0.9999};

START_TEST(test_each_layer_loses_its_exact_share)
{
    cnn_model *model = make_model(chain, 1), *original;
    CHECK_OK(cnn_model_clone(model, &original));
    cnn_prune_result result;
    CHECK_OK(prune(model, shares[_i], false, &result));
    int64_t removed = 0, all = 0;
    for (int l = 0; l < LAYERS; l++) {
        int64_t count = count_of(model, layers[l]), want = (int64_t)floor((double)count * shares[_i] + 0.5);
        want = want < count ? want : count - 1;
        ck_assert_int_eq(pruned_of(model, layers[l]), want);
        /* What went is smaller than what stayed, and that is as it was. */
        const cnn_param *weight = weight_of(model, layers[l]);
        const float *before = weight_of(original, layers[l])->data, *after = weight->data;
        float largest_gone = 0, smallest_left = INFINITY;
        for (int64_t i = 0; i < count; i++) {
            if (!weight->mask[i]) {
                largest_gone = fmaxf(largest_gone, fabsf(before[i]));
                continue;
            }
            ck_assert(after[i] == before[i]);
            smallest_left = fminf(smallest_left, fabsf(before[i]));
        }
        ck_assert(largest_gone <= smallest_left);
        removed += want;
        all += count;
    }
    ck_assert_int_eq(result.removed, removed);
    ck_assert_int_eq(result.candidates, all);
    ck_assert_mem_eq(param_data(model, "fc1", CNN_PARAM_BIAS), param_data(original, "fc1", CNN_PARAM_BIAS),
                     33 * sizeof(float));
    ck_assert_mem_eq(param_data(model, "bn1", CNN_PARAM_GAMMA), param_data(original, "bn1", CNN_PARAM_GAMMA),
                     8 * sizeof(float));
    cnn_model_free(original);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_a_larger_share_only_adds)
{
    cnn_model *model = make_model(chain, 2), *before, *at_once;
    CHECK_OK(cnn_model_clone(model, &at_once));
    CHECK_OK(prune(model, 0.3, false, NULL));
    CHECK_OK(cnn_model_clone(model, &before));
    /* Pruned weights stay pruned even where a larger value would now go first. */
    CHECK_OK(prune(model, 0.6, false, NULL));
    CHECK_OK(prune(at_once, 0.6, false, NULL));
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *weight = weight_of(model, layers[l]), *old = weight_of(before, layers[l]);
        for (int64_t i = 0; i < count_of(model, layers[l]); i++)
            ck_assert(old->mask[i] || !weight->mask[i]);
        ck_assert_mem_eq(weight->mask, weight_of(at_once, layers[l])->mask, (size_t)count_of(model, layers[l]));
    }
    uint64_t same = fingerprint(model);
    CHECK_OK(prune(model, 0.2, false, NULL));
    ck_assert_uint_eq(fingerprint(model), same);
    cnn_model_free(at_once);
    cnn_model_free(before);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_among_equals_the_first_stay)
{
    cnn_model *model = make_model(chain, 3);
    float *weights = param_data(model, "conv2", CNN_PARAM_WEIGHT);
    int64_t count = count_of(model, "conv2");
    for (int64_t i = 0; i < count; i++)
        weights[i] = i % 2 ? 0.25f : -0.25f;
    CHECK_OK(prune(model, 0.25, false, NULL));
    for (int64_t i = 0; i < count; i++)
        ck_assert_int_eq(weight_of(model, "conv2")->mask[i], i < count * 3 / 4);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_global_takes_the_share_of_all)
{
    cnn_model *model = make_model(chain, 4), *scaled;
    int64_t all = 0, pruned = 0;
    float *weights = param_data(model, "conv2", CNN_PARAM_WEIGHT);
    /* Nearly all of conv2's weights hardly count, but it keeps an eighth of what an equal share would leave it. */
    for (int64_t i = 9; i < count_of(model, "conv2"); i++)
        weights[i] *= 1e-4f;
    CHECK_OK(cnn_model_clone(model, &scaled));
    for (int64_t i = 0; i < count_of(model, "fc1"); i++)
        param_data(scaled, "fc1", CNN_PARAM_WEIGHT)[i] *= 1024;
    CHECK_OK(prune(model, 0.5, true, NULL));
    CHECK_OK(prune(scaled, 0.5, true, NULL));
    for (int l = 0; l < LAYERS; l++) {
        all += count_of(model, layers[l]);
        pruned += pruned_of(model, layers[l]);
        /* A layer's scale does not matter. */
        ck_assert_int_eq(pruned_of(scaled, layers[l]), pruned_of(model, layers[l]));
    }
    ck_assert_int_eq(pruned, (int64_t)floor((double)all * 0.5 + 0.5));
    int64_t conv2 = count_of(model, "conv2");
    ck_assert_int_eq(pruned_of(model, "conv2"), conv2 - (conv2 / 16 + 1));
    cnn_model_free(scaled);
    cnn_model_free(model);
}
END_TEST

/* ---- Training ---- */

static const struct {
    const char *device;
    cnn_dtype storage;
} trainings[] = {{"ref", CNN_F32}, {"cpu", CNN_F32}, {"cpu", CNN_F16}, {"cpu", CNN_BF16}};

/* At a high rate with momentum and decay no pruned weight moves, and all others do. */
START_TEST(test_training_holds_masks)
{
    cnn_model *model = make_model(chain, 5), *before;
    CHECK_OK(prune(model, 0.5, false, NULL));
    CHECK_OK(cnn_model_clone(model, &before));
    cnn_session *session = case_open_steps(model, trainings[_i].device, trainings[_i].storage);
    case_run_steps(session, 6);
    for (int l = 0; l < LAYERS; l++) {
        const cnn_param *now = weight_of(model, layers[l]), *then = weight_of(before, layers[l]);
        int64_t count = count_of(model, layers[l]), moved = 0;
        ck_assert_mem_eq(now->mask, then->mask, (size_t)count);
        ck_assert_int_eq(pruned_of(model, layers[l]), pruned_of(before, layers[l]));
        for (int64_t i = 0; i < count; i++)
            moved += ((const float *)now->data)[i] != ((const float *)then->data)[i];
        ck_assert_int_eq(moved, count - pruned_of(model, layers[l]));
    }
    cnn_session_close(session);
    cnn_model_free(before);
    cnn_model_free(model);
}
END_TEST

/* A mask that comes in the middle of training: the momentum of its weights is forgotten. */
START_TEST(test_masks_can_come_while_training)
{
    cnn_model *model = make_model(chain, 6);
    cnn_session *session = case_open_steps(model, trainings[_i].device, trainings[_i].storage);
    case_run_steps(session, 3);
    static const double growing[] = {0.25, 0.5, 0.9};
    for (int step = 0; step < 3; step++) {
        CHECK_OK(prune(model, growing[step], false, NULL));
        CHECK_OK(cnn_session_push(session));
        case_run_steps(session, 3);
        for (int l = 0; l < LAYERS; l++)
            ck_assert_int_eq(pruned_of(model, layers[l]),
                             (int64_t)floor((double)count_of(model, layers[l]) * growing[step] + 0.5));
    }
    /* And go again. */
    for (int l = 0; l < LAYERS; l++) {
        cnn_aligned_free(weight_of(model, layers[l])->mask);
        weight_of(model, layers[l])->mask = NULL;
    }
    CHECK_OK(cnn_session_push(session));
    case_run_steps(session, 1);
    int64_t zeros = 0;
    for (int64_t i = 0; i < count_of(model, "fc2"); i++)
        zeros += param_data(model, "fc2", CNN_PARAM_WEIGHT)[i] == 0;
    ck_assert_int_lt(zeros, count_of(model, "fc2") / 2); /* inputs that are 0 give no gradient */
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

/* ---- The whole way ---- */

START_TEST(test_masks_survive_every_pass)
{
    cnn_model *model = make_model(chain, 7);
    int64_t pruned[LAYERS];
    CHECK_OK(prune(model, 0.6, false, NULL));
    /* A negative factor must not make -0 of a pruned weight: files would keep that as a value. */
    param_data(model, "bn1", CNN_PARAM_GAMMA)[0] = -1;
    for (int l = 0; l < LAYERS; l++)
        pruned[l] = pruned_of(model, layers[l]);
    cnn_session *session = case_open_steps(model, "cpu", CNN_F32);
    case_run_steps(session, 4);
    cnn_session_close(session);
    CHECK_OK(cnn_fold_batchnorm(model));
    for (int l = 0; l < LAYERS; l++) {
        ck_assert_int_eq(pruned_of(model, layers[l]), pruned[l]);
        for (int64_t i = 0; i < count_of(model, layers[l]); i++)
            ck_assert(!signbit(param_data(model, layers[l], CNN_PARAM_WEIGHT)[i]) ||
                      param_data(model, layers[l], CNN_PARAM_WEIGHT)[i] != 0);
    }
    cnn_quantize_options options = case_quantize_options();
    options.device = "ref";
    CHECK_OK(cnn_quantize(model, &case_data, &options, NULL, NULL));
    size_t sizes[3];
    for (int pack = CNN_PACK_AUTO; pack <= CNN_PACK_SMALLEST; pack++) {
        cnn_model *read = case_packed(model, (cnn_pack)pack, &sizes[pack]);
        for (int l = 0; l < LAYERS; l++) {
            int node = cnn_model_find(model, layers[l]);
            cnn_param *now = &read->nodes[node].param[CNN_PARAM_WEIGHT], *then = weight_of(model, layers[l]);
            size_t count = (size_t)count_of(model, layers[l]);
            ck_assert_mem_eq(now->data, then->data, count);
            ck_assert_mem_eq(now->mask, then->mask, count);
            ck_assert_int_ge(pruned_of(model, layers[l]), pruned[l]);
        }
        cnn_model_free(read);
    }
    ck_assert_uint_lt(sizes[CNN_PACK_AUTO], sizes[CNN_PACK_RAW]);
    ck_assert_uint_lt(sizes[CNN_PACK_SMALLEST], sizes[CNN_PACK_AUTO]);
    cnn_model_free(model);
}
END_TEST

/* An output channel without weights quantizes, and can be removed as a channel. */
START_TEST(test_empty_channels)
{
    cnn_model *model = make_model(chain, 8), *copy;
    float *weights = param_data(model, "conv2", CNN_PARAM_WEIGHT);
    for (int k = 0; k < 16; k += 2)
        for (int i = 0; i < 72; i++)
            weights[k * 72 + i] *= 1e-6f;
    CHECK_OK(prune(model, 0.5, false, NULL));
    CHECK_OK(cnn_model_clone(model, &copy));
    for (int k = 0; k < 16; k++)
        for (int i = 0; i < 72; i++)
            ck_assert((param_data(model, "conv2", CNN_PARAM_WEIGHT)[k * 72 + i] == 0) == (k % 2 == 0));
    float *before = run_logits(model, "ref", &case_data, 5);
    const cnn_prune_options channels = {.ratio = 0.5};
    CHECK_OK(cnn_prune_channels(model, &channels, NULL));
    ck_assert_int_eq(weight_of(model, "conv2")->desc.n, 8);
    for (int64_t i = 0; i < count_of(model, "conv2"); i++)
        ck_assert_int_eq(weight_of(model, "conv2")->mask[i], 1);
    cnn_quantize_options options = case_quantize_options();
    options.device = "ref";
    CHECK_OK(cnn_fold_batchnorm(copy));
    CHECK_OK(cnn_quantize(copy, &case_data, &options, NULL, NULL));
    ck_assert(weight_of(copy, "conv2")->scale[0] == 1);
    float *after = run_logits(copy, "ref", &case_data, 5);
    ck_assert_double_le(relative_difference(before, after, 50), 0.1);
    free(before);
    free(after);
    cnn_model_free(copy);
    cnn_model_free(model);
}
END_TEST

/* ---- Refusals ---- */

START_TEST(test_refusals_change_nothing)
{
    cnn_model *model = make_model(chain, 9);
    uint64_t before = fingerprint(model);
    static const double wrong[] = {0, 1, 1.5, -0.5, NAN, INFINITY};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_REFUSED(prune(model, wrong[i], false, NULL), CNN_ERR_USAGE, "share of weights");
    CHECK_REFUSED(prune(model, 1e-6, false, NULL), CNN_ERR_USAGE, "removes no weight");
    ck_assert_uint_eq(fingerprint(model), before);
    param_data(model, "fc2", CNN_PARAM_WEIGHT)[5] = NAN;
    CHECK_REFUSED(prune(model, 0.5, false, NULL), CNN_ERR_NUMERIC, "'fc2'");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_out_of_memory_changes_nothing)
{
    cnn_model *model = make_model(chain, 10);
    case_check_out_of_memory(model, &(cnn_prune_options){.ratio = 0.5, .global = true}, cnn_prune_weights);
    cnn_model_free(model);
}
END_TEST

static void set_up(void)
{
    case_make_data(60, 12);
}

static Suite *masks_suite(void)
{
    enum { TRAININGS = sizeof trainings / sizeof trainings[0] };
    Suite *suite = suite_create("masks");
    TCase *tests = tcase_create("masks");
    tcase_add_checked_fixture(tests, set_up, case_free_data);
    tcase_add_loop_test(tests, test_each_layer_loses_its_exact_share, 0, sizeof shares / sizeof shares[0]);
    tcase_add_test(tests, test_a_larger_share_only_adds);
    tcase_add_test(tests, test_among_equals_the_first_stay);
    tcase_add_test(tests, test_global_takes_the_share_of_all);
    tcase_add_loop_test(tests, test_training_holds_masks, 0, TRAININGS);
    tcase_add_loop_test(tests, test_masks_can_come_while_training, 0, TRAININGS);
    tcase_add_test(tests, test_masks_survive_every_pass);
    tcase_add_test(tests, test_empty_channels);
    tcase_add_test(tests, test_refusals_change_nothing);
    tcase_add_test(tests, test_out_of_memory_changes_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(masks_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
