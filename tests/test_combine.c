/* Every structure x criterion x quantizer that goes together: what was pruned stays 0 in INT8, weights are the numbers
 * that the quantizer has, and ref and cpu give the same bits. */
#include "tests/optimize_common.h"

enum { SIDE = 8, CLASSES = 4, IMAGES = 120 };

static const char net[] = "image = input(height=8, width=8, channels=3)\n"
                          "conv1 = conv(image, out=8, kernel=3, stride=2, pad=1)\n"
                          "relu1 = relu(conv1)\n"
                          "conv2 = conv(relu1, out=16, kernel=3, pad=1, bias=0)\n"
                          "bn2 = bn(conv2)\n"
                          "relu2 = relu(bn2)\n"
                          "pool2 = maxpool(relu2, kernel=2)\n"
                          "fc1 = linear(pool2, out=16)\n"
                          "relu4 = relu(fc1)\n"
                          "fc2 = linear(relu4, out=4)\n";

typedef cnn_status (*prune_fn)(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);

static const struct {
    prune_fn prune;
    bool channels;
} structures[] = {
    {cnn_prune_channels, true}, {cnn_prune_blocks, false}, {cnn_prune_weights, false}, {cnn_prune_two_of_four, false}};

/* Numbers of a layer: at most so many, of at most this size. */
static const struct quantizer {
    const char *bits; /* of cnn_set_bits */
    double average;   /* of cnn_choose_bits; 0: not */
    int codebook;
    bool equalize, rough_bias;
    cnn_rounding rounding;
    int most, count; /* of conv2 */
} quantizers[] = {{.most = 127, .count = 255},
                  {.bits = "2", .most = 1, .count = 3},
                  {.bits = "3,conv1=6", .rough_bias = true, .most = 3, .count = 7},
                  {.average = 3.5, .most = 127, .count = 255},
                  {.bits = "3", .rounding = CNN_ROUNDING_ADAPTIVE, .most = 3, .count = 7},
                  {.codebook = 1, .most = 127, .count = 2},
                  {.codebook = 3, .rounding = CNN_ROUNDING_ADAPTIVE, .most = 127, .count = 8},
                  {.codebook = 2, .equalize = true, .most = 127, .count = 4},
                  {.bits = "4", .equalize = true, .most = 7, .count = 15}};

enum {
    STRUCTURES = sizeof structures / sizeof *structures,
    CRITERIA = CNN_CRITERION_LAMP + 1,
    QUANTIZERS = sizeof quantizers / sizeof *quantizers
};

static cnn_dataset data;

static void setup(void)
{
    data = make_data(IMAGES, SIDE, 3, CLASSES);
}

static void teardown(void)
{
    free_data(&data);
}

static bool go_together(int structure, int criterion)
{
    return structures[structure].channels ? criterion != CNN_CRITERION_LAMP : criterion != CNN_CRITERION_BN;
}

static cnn_model *quantized(const cnn_model *pruned, const struct quantizer *how)
{
    cnn_model *model;
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.observer = CNN_OBSERVER_MSE;
    options.images = 32;
    options.device = "cpu";
    options.codebook = how->codebook;
    options.rounding = how->rounding;
    options.bias_correction = !how->rough_bias;
    CHECK_OK(cnn_model_clone(pruned, &model));
    if (how->bits)
        CHECK_OK(cnn_set_bits(model, how->bits));
    if (how->average > 0)
        CHECK_OK(
            cnn_choose_bits(model, &data, &(cnn_bits_options){how->average, 16, 1, "cpu", NULL, NULL}, NULL, NULL));
    CHECK_OK(cnn_fold_batchnorm(model));
    if (how->equalize)
        CHECK_OK(cnn_equalize(model, &data, 1, "cpu", NULL));
    CHECK_OK(cnn_quantize(model, &data, &options, NULL, NULL));
    return model;
}

static void check_zeros(const cnn_model *pruned, const cnn_model *int8, bool channels)
{
    int masked = 0;
    for (int i = 0; i < pruned->node_count; i++) {
        const cnn_param *was = &pruned->nodes[i].param[CNN_PARAM_WEIGHT];
        if (!cnn_node_has_weights(&pruned->nodes[i]) || !was->mask)
            continue;
        const cnn_param *is = &int8->nodes[cnn_model_find(int8, pruned->nodes[i].name)].param[CNN_PARAM_WEIGHT];
        masked++;
        ck_assert_int_eq(is->desc.structure, was->desc.structure);
        for (int64_t w = 0; w < cnn_desc_elements(&was->desc); w++) {
            const bool zero = ((const int8_t *)is->data)[w] == 0;
            ck_assert(was->mask[w] || zero);
            ck_assert((is->mask[w] == 0) == zero);
        }
    }
    ck_assert(channels ? masked == 0 : masked >= 2);
}

static void check_numbers(const cnn_model *int8, const struct quantizer *how)
{
    const cnn_param *weight = &int8->nodes[cnn_model_find(int8, "conv2")].param[CNN_PARAM_WEIGHT];
    bool seen[256] = {false};
    int count = 0;
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++) {
        const int q = ((const int8_t *)weight->data)[i];
        ck_assert_int_le(abs(q), how->most);
        count += !seen[q + 128];
        seen[q + 128] = true;
    }
    ck_assert_int_le(count, how->count);
    ck_assert_int_ge(count, 2);
}

static void check_bits(cnn_model *int8)
{
    enum { RUN = 8 };
    float *cpu = run_logits(int8, "cpu", &data, RUN), *ref = run_logits(int8, "ref", &data, RUN);
    ck_assert_mem_eq(cpu, ref, RUN * CLASSES * sizeof *cpu);
    free(cpu);
    free(ref);
}

START_TEST(structure_and_criterion_with_every_quantizer)
{
    const int structure = _i / CRITERIA, criterion = _i % CRITERIA;
    const cnn_prune_options options = {
        .ratio = 0.5, .criterion = (cnn_criterion)criterion, .seed = 1, .data = &data, .device = "cpu"};
    cnn_model *pruned = make_model(net, 3);
    if (!go_together(structure, criterion)) {
        ck_assert_int_ne(structures[structure].prune(pruned, &options, NULL), CNN_OK);
        cnn_model_free(pruned);
        return;
    }
    CHECK_OK(structures[structure].prune(pruned, &options, NULL));
    for (int q = 0; q < QUANTIZERS; q++) {
        cnn_model *int8 = quantized(pruned, &quantizers[q]);
        check_zeros(pruned, int8, structures[structure].channels);
        check_numbers(int8, &quantizers[q]);
        check_bits(int8);
        cnn_model_free(int8);
    }
    cnn_model_free(pruned);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("combine");
    TCase *tests = tcase_create("combine");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, structure_and_criterion_with_every_quantizer, 0, STRUCTURES * CRITERIA);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
