/* Pruning blocks of weights: shares to the nearest block, layers that are too narrow, and a promise that holds through
 * training, folding, INT8, files and programs. */
#include "tests/network_case.h"

#include <math.h>

static const char chain[] = "image = input(height=10, width=10, channels=1)\n"
                            "conv1 = conv(image, out=18, kernel=3, pad=1, bias=0)\n"
                            "bn1 = bn(conv1)\n"
                            "relu1 = relu(bn1)\n"
                            "pool1 = maxpool(relu1, kernel=2)\n"
                            "conv2 = conv(pool1, out=37, kernel=3)\n"
                            "relu2 = relu(conv2)\n"
                            "fc1 = linear(relu2, out=16)\n"
                            "relu3 = relu(fc1)\n"
                            "fc2 = linear(relu3, out=10)\n";

/* conv2 is [37,3,3,18], fc1 [16,3,3,37] and taken as [16,1,1,333]: the layers that have blocks. */
static const struct {
    int from_end; /* its node, counted from the last: small files have no names */
    int outputs, taps, inputs;
} layers[] = {{5, 37, 9, 18}, {3, 16, 1, 333}};
enum { LAYERS = 2, MOST_BLOCKS = 256 };

static cnn_status prune(cnn_model *model, double ratio, bool global, cnn_prune_result *result)
{
    const cnn_prune_options options = {.ratio = ratio, .global = global};
    return cnn_prune_blocks(model, &options, result);
}

static cnn_param *weight_of(cnn_model *model, int layer)
{
    return &model->nodes[model->node_count - layers[layer].from_end].param[CNN_PARAM_WEIGHT];
}

/* Number of the block that element i lies in. */
static int block_of(int layer, int i)
{
    const int inputs = layers[layer].inputs, taps = layers[layer].taps;
    const int k = i / (taps * inputs), tap = i / inputs % taps, c = i % inputs;
    return (k / 16 * taps + tap) * ((inputs + 3) / 4) + c / 4;
}

typedef struct block_counts {
    int blocks, zero; /* all, and those without a value */
    int64_t weights, pruned;
    double score[MOST_BLOCKS]; /* mean |w| */
    int size[MOST_BLOCKS];
    bool live[MOST_BLOCKS];
} block_counts;

/* Looks at a layer's values; where there is a mask, a block is live or not as a whole and a block that is not holds 0.
 */
static block_counts count_blocks(cnn_model *model, int layer)
{
    block_counts counts = {0};
    const cnn_param *weight = weight_of(model, layer);
    counts.weights = cnn_desc_elements(&weight->desc);
    ck_assert_int_eq(counts.weights, layers[layer].outputs * layers[layer].taps * layers[layer].inputs);
    for (int i = 0; i < counts.weights; i++) {
        const bool i8 = weight->desc.dtype == CNN_I8;
        const double value = i8 ? ((const int8_t *)weight->data)[i] : (double)((const float *)weight->data)[i];
        const int b = block_of(layer, i);
        ck_assert_int_lt(b, MOST_BLOCKS);
        counts.blocks = b >= counts.blocks ? b + 1 : counts.blocks;
        counts.size[b]++;
        counts.score[b] += fabs(value);
        if (weight->mask && !i8)
            ck_assert_msg(counts.size[b] == 1 || counts.live[b] == weight->mask[i], "a block is cut in two");
        ck_assert(!weight->mask || weight->mask[i] || value == 0);
        counts.live[b] = i8 ? counts.live[b] || value != 0 : !weight->mask || weight->mask[i];
    }
    for (int b = 0; b < counts.blocks; b++) {
        counts.pruned += counts.live[b] ? 0 : counts.size[b];
        counts.zero += counts.score[b] == 0;
        counts.score[b] /= counts.size[b];
    }
    return counts;
}

/* ---- Shares ---- */

static const double shares[] = {0.1, 0.25, 0.5, 0.75, 0.9, 0.99};

START_TEST(test_each_layer_loses_its_share_in_blocks)
{
    cnn_model *model = make_model(chain, 1), *original;
    cnn_prune_result result;
    int64_t removed = 0, all = 0;
    CHECK_OK(cnn_model_clone(model, &original));
    CHECK_OK(prune(model, shares[_i], false, &result));
    for (int l = 0; l < LAYERS; l++) {
        const block_counts before = count_blocks(original, l), after = count_blocks(model, l);
        const cnn_param *weight = weight_of(model, l);
        double largest_gone = 0, smallest_left = INFINITY;
        ck_assert_double_le(fabs((double)after.pruned - (double)after.weights * shares[_i]), 32);
        for (int b = 0; b < after.blocks; b++) {
            largest_gone = after.live[b] ? largest_gone : fmax(largest_gone, before.score[b]);
            smallest_left = after.live[b] ? fmin(smallest_left, before.score[b]) : smallest_left;
            ck_assert(!after.live[b] || after.score[b] == before.score[b]);
        }
        ck_assert_double_le(largest_gone, smallest_left);
        ck_assert_int_eq(weight->desc.structure, 4 * after.zero >= after.blocks ? CNN_BLOCK_16X4 : CNN_SPARSE);
        removed += after.pruned;
        all += after.weights;
    }
    ck_assert_int_eq(result.removed, removed);
    ck_assert_int_eq(result.candidates, all);
    ck_assert_int_eq(result.narrow, 2);
    ck_assert_str_eq(result.narrow_name, "conv1");
    ck_assert_ptr_null(model->nodes[1].param[CNN_PARAM_WEIGHT].mask);
    ck_assert_ptr_null(model->nodes[model->node_count - 1].param[CNN_PARAM_WEIGHT].mask);
    cnn_model_free(original);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_a_larger_share_only_adds)
{
    cnn_model *model = make_model(chain, 2), *at_once;
    CHECK_OK(cnn_model_clone(model, &at_once));
    CHECK_OK(prune(model, 0.1, false, NULL));
    ck_assert_int_eq(weight_of(model, 0)->desc.structure, CNN_SPARSE);
    CHECK_OK(prune(model, 0.6, false, NULL));
    CHECK_OK(prune(at_once, 0.6, false, NULL));
    for (int l = 0; l < LAYERS; l++) {
        ck_assert_int_eq(weight_of(model, l)->desc.structure, CNN_BLOCK_16X4);
        ck_assert_mem_eq(weight_of(model, l)->mask, weight_of(at_once, l)->mask,
                         (size_t)count_blocks(model, l).weights);
    }
    const uint64_t same = fingerprint(model);
    CHECK_OK(prune(model, 0.2, false, NULL));
    ck_assert_uint_eq(fingerprint(model), same);
    /* More zeros anywhere leave the promise as it is. */
    CHECK_OK(cnn_prune_weights(model, &(cnn_prune_options){.ratio = 0.8}, NULL));
    ck_assert_int_eq(weight_of(model, 0)->desc.structure, CNN_BLOCK_16X4);
    cnn_model_free(at_once);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_global_takes_the_share_of_all)
{
    cnn_model *model = make_model(chain, 3);
    float *weights = param_data(model, "conv2", CNN_PARAM_WEIGHT);
    int64_t all = 0, pruned = 0;
    for (int i = 0; i < 37 * 9 * 18; i++) /* blocks that hardly count, but one that counts a lot */
        weights[i] *= block_of(0, i) == 0 ? 1e6f : 1e-3f;
    CHECK_OK(prune(model, 0.4, true, NULL));
    for (int l = 0; l < LAYERS; l++) {
        const block_counts counts = count_blocks(model, l);
        all += counts.weights;
        pruned += counts.pruned;
    }
    ck_assert_double_le(fabs((double)pruned - (double)all * 0.4), 32);
    const block_counts conv2 = count_blocks(model, 0);
    ck_assert_double_ge((double)(conv2.weights - conv2.pruned), (double)conv2.weights * 0.6 / 8);
    ck_assert_double_ge((double)conv2.pruned, (double)conv2.weights * 0.5);
    cnn_model_free(model);
}
END_TEST

/* A score is that of the whole block: by l2 a few large weights outweigh many of middle size, by l1 they do not. */
START_TEST(test_criteria_score_blocks)
{
    static const cnn_criterion criteria[] = {CNN_CRITERION_L1, CNN_CRITERION_L2};
    for (int c = 0; c < 2; c++) {
        cnn_model *model = make_model(chain, 4);
        float *weights = param_data(model, "conv2", CNN_PARAM_WEIGHT);
        for (int i = 0; i < 37 * 9 * 18; i++) {
            const int block = block_of(0, i);
            weights[i] = block == 0 ? (i % 4 == 0 ? 2.0f : 0.0f) : block == 1 ? 0.6f : 3.0f;
        }
        const cnn_prune_options options = {.ratio = 0.01, .criterion = criteria[c]}; /* one block */
        CHECK_OK(cnn_prune_blocks(model, &options, NULL));
        const block_counts counts = count_blocks(model, 0);
        ck_assert_int_eq(counts.pruned, 64);
        ck_assert_int_eq(counts.live[0], criteria[c] == CNN_CRITERION_L2);
        ck_assert_int_eq(counts.live[1], criteria[c] == CNN_CRITERION_L1);
        cnn_model_free(model);
    }
}
END_TEST

/* ---- The whole way ---- */

/* The blocks that were zero in `then` still are, and the structure says so. */
static void check_zeros_stay(cnn_model *model, const block_counts *then)
{
    for (int l = 0; l < LAYERS; l++) {
        const block_counts now = count_blocks(model, l);
        ck_assert_int_eq(weight_of(model, l)->desc.structure, CNN_BLOCK_16X4);
        ck_assert_int_eq(now.blocks, then[l].blocks);
        for (int b = 0; b < now.blocks; b++)
            ck_assert(then[l].score[b] != 0 || now.score[b] == 0);
    }
}

/* Whether programs for this purpose tell kernels of blocks, at the layers that have them and nowhere else. */
static void check_programs(cnn_model *model, bool training, bool told)
{
    cnn_session *session;
    char *text;
    int count = 0;
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "cpu", .train = training}, &session));
    CHECK_OK(cnn_session_dump(session, training, 8, &text));
    for (const char *at = text; (at = strstr(at, "]:block")) != NULL; at++)
        count++;
    ck_assert_msg(count == (told ? LAYERS : 0), "%d weights are in blocks:\n%s", count, text);
    free(text);
    cnn_session_close(session);
}

START_TEST(test_blocks_survive_every_pass)
{
    cnn_model *model = make_model(chain, 5);
    block_counts then[LAYERS];
    size_t sizes[3];
    CHECK_OK(prune(model, 0.75, false, NULL));
    for (int l = 0; l < LAYERS; l++)
        then[l] = count_blocks(model, l);
    check_programs(model, true, false);
    cnn_session *session = case_open_steps(model, "cpu", CNN_F32);
    case_run_steps(session, 4);
    cnn_session_close(session);
    check_zeros_stay(model, then);
    CHECK_OK(cnn_fold_batchnorm(model));
    check_zeros_stay(model, then);
    check_programs(model, false, true);
    cnn_quantize_options options = case_quantize_options();
    options.device = "ref";
    CHECK_OK(cnn_quantize(model, &case_data, &options, NULL, NULL));
    check_zeros_stay(model, then);
    check_programs(model, false, true);
    for (int pack = CNN_PACK_AUTO; pack <= CNN_PACK_SMALLEST; pack++) {
        cnn_model *read = case_packed(model, (cnn_pack)pack, &sizes[pack]);
        check_zeros_stay(read, then);
        ck_assert_uint_eq(fingerprint(read), fingerprint(model));
        cnn_model_free(read);
    }
    ck_assert_uint_lt(sizes[CNN_PACK_AUTO], sizes[CNN_PACK_RAW]);
    case_check_same_bits(model);
    cnn_model_free(model);
}
END_TEST

/* Blocks whose input is always 0 have no influence, however large their weights, and go first. */
START_TEST(test_taylor_follows_gradients)
{
    cnn_model *model = make_model(chain, 6);
    float *gamma = param_data(model, "bn1", CNN_PARAM_GAMMA), *beta = param_data(model, "bn1", CNN_PARAM_BETA);
    for (int c = 4; c < 8; c++) { /* these channels are 0 behind the ReLU */
        gamma[c] = 0;
        beta[c] = -1;
    }
    for (int i = 0; i < 37 * 9 * 18; i++)
        param_data(model, "conv2", CNN_PARAM_WEIGHT)[i] *= i % 18 / 4 == 1 ? 8 : 1;
    const cnn_prune_options options = {
        .ratio = 0.23, .criterion = CNN_CRITERION_TAYLOR, .data = &case_data, .device = "cpu", .seed = 1};
    CHECK_OK(cnn_prune_blocks(model, &options, NULL));
    const block_counts counts = count_blocks(model, 0);
    for (int b = 0; b < counts.blocks; b++) /* 5 blocks at each position; the second has channels 4 to 7 */
        ck_assert_msg(b % 5 != 1 || !counts.live[b], "block %d has no influence and stays", b);
    cnn_model_free(model);
}
END_TEST

/* ---- Refusals ---- */

START_TEST(test_refusals_change_nothing)
{
    cnn_model *model = make_model(chain, 7);
    const uint64_t before = fingerprint(model);
    CHECK_REFUSED(prune(model, 1, false, NULL), CNN_ERR_USAGE, "share of weights");
    CHECK_REFUSED(prune(model, 1e-6, false, NULL), CNN_ERR_USAGE, "removes no block");
    const cnn_prune_options bn = {.ratio = 0.5, .criterion = CNN_CRITERION_BN};
    CHECK_REFUSED(cnn_prune_blocks(model, &bn, NULL), CNN_ERR_USAGE, "bn");
    ck_assert_uint_eq(fingerprint(model), before);
    cnn_model_free(model);
    model = make_model("i = input(height=4, width=4, channels=3)\nc = conv(i, out=32, kernel=1)\n"
                       "f = linear(c, out=10)\n",
                       8);
    CHECK_REFUSED(prune(model, 0.5, false, NULL), CNN_ERR_UNSUPPORTED, "no layer of 16 outputs and 4 inputs");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_out_of_memory_changes_nothing)
{
    cnn_model *model = make_model(chain, 9);
    case_check_out_of_memory(model, &(cnn_prune_options){.ratio = 0.5, .global = true}, cnn_prune_blocks);
    cnn_model_free(model);
}
END_TEST

static void set_up(void)
{
    case_make_data(60, 10);
}

static Suite *blocks_suite(void)
{
    Suite *suite = suite_create("blocks");
    TCase *tests = tcase_create("blocks");
    tcase_add_checked_fixture(tests, set_up, case_free_data);
    tcase_add_loop_test(tests, test_each_layer_loses_its_share_in_blocks, 0, sizeof shares / sizeof shares[0]);
    tcase_add_test(tests, test_a_larger_share_only_adds);
    tcase_add_test(tests, test_global_takes_the_share_of_all);
    tcase_add_test(tests, test_criteria_score_blocks);
    tcase_add_test(tests, test_blocks_survive_every_pass);
    tcase_add_test(tests, test_taylor_follows_gradients);
    tcase_add_test(tests, test_refusals_change_nothing);
    tcase_add_test(tests, test_out_of_memory_changes_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(blocks_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
