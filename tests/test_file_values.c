/* Values that no .cnn file may hold: neither read nor written. */
#include "file_case.h"
#include "model_case.h"

#include "core/file.h"
#include "core/memory.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void check_bad_value(cnn_model *model, void *at, const void *bad, size_t length, const char *says)
{
    static const uint8_t unusual[4] = {0x5A, 0x17, 0xC3, 0x42}; /* found once in the head; 97.5 as float, not i8 */
    uint8_t good[4];
    memcpy(good, at, length);
    memcpy(at, unusual, length);
    file_bytes file = case_encode(model, true);
    case_patch_head(&file, unusual, bad, length);
    CHECK_FAILS(case_decode(&file, file.size), CNN_ERR_NUMERIC, "m.cnn: ", says);
    free(file.data);

    /* What cannot be read is not written either. */
    memcpy(at, bad, length);
    cnn_file_image image;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, says);
    memcpy(at, good, length);
}

START_TEST(test_values_of_floats)
{
    cnn_model *model = case_tiny();
    cnn_param *conv = model->nodes[1].param, *bn = model->nodes[2].param;
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        check_bad_value(model, (float *)conv[CNN_PARAM_WEIGHT].data + 5, &bad[i], 4, "conv1.weight holds");
        check_bad_value(model, (float *)bn[CNN_PARAM_BETA].data + 1, &bad[i], 4, "bn1.beta holds");
    }
    check_bad_value(model, bn[CNN_PARAM_RUNNING_VAR].data, &(float){-1}, 4, "bn1.running_var holds -1 at element 0");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_values_of_int8)
{
    cnn_model *model = case_tiny_int8();
    cnn_param *conv = model->nodes[1].param;
    const float bad[5] = {NAN, INFINITY, 0, -0.5f, 1e-40f};
    for (int i = 0; i < 5; i++) {
        check_bad_value(model, &conv[CNN_PARAM_WEIGHT].scale[1], &bad[i], 4, "conv1.weight has the scale");
        check_bad_value(model, &model->nodes[2].out_scale, &bad[i], 4, "layer 'relu1' has the output scale");
    }
    check_bad_value(model, (int32_t *)conv[CNN_PARAM_BIAS].data + 1, &(int32_t){INT32_MAX}, 4, "overflow");
    check_bad_value(model, (int32_t *)conv[CNN_PARAM_BIAS].data + 1, &(int32_t){INT32_MIN}, 4, "overflow");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_more_values)
{
    cnn_file_image image;
    cnn_model *model = case_tiny_int8();
    cnn_param *weight = &model->nodes[1].param[CNN_PARAM_WEIGHT];
    ((int8_t *)weight->data)[7] = -128;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC,
                "conv1.weight holds -128 at element 7");
    ((int8_t *)weight->data)[7] = 1;
    weight->desc.structure = CNN_SPARSE_2_4; /* with 1 input channel nothing can break the rule */
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){0}, &image));
    cnn_file_image_free(&image);
    cnn_param *linear = &model->nodes[4].param[CNN_PARAM_WEIGHT]; /* [3,2,2,2] */
    linear->desc.structure = CNN_SPARSE_2_4;                      /* groups go on over positions */
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, "fc1.weight is marked 2:4",
                "4 nonzeros in 4 inputs at element 0");
    linear->desc.structure = CNN_DENSE;
    linear->mask = cnn_aligned_alloc(24);
    memset(linear->mask, 1, 24);
    linear->mask[23] = 0;
    ((int8_t *)linear->data)[23] = 1;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, "fc1.weight", "element 23",
                "pruned");
    cnn_model_free(model);

    CHECK_OK(cnn_model_parse("i = input(height=1, width=1, channels=4)\nf = linear(i, out=2)\n", "s", &model));
    cnn_model_init(model, 1);
    model->nodes[1].param[CNN_PARAM_WEIGHT].desc.structure = CNN_SPARSE_2_4;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, "f.weight is marked 2:4");
    cnn_model_free(model);
}
END_TEST

/* Convolution weights [20,2,2,6] have 16 blocks, most of them cut short; of a linear layer [20,1,2,6] are 6, which do
 * not end where a position does. A quarter of them has to be zero: 4, and 2. */
static const struct {
    int node, values; /* an output */
    int zeros;        /* blocks of zeros that the promise asks for: */
    struct {
        int k, i, wide; /* its first output and value there, and how many values wide it is */
    } zero[4];
    const char *too_few;
} block_cases[] = {
    {2, 24, 4, {{0, 6, 4}, {0, 10, 2}, {16, 0, 4}, {16, 22, 2}}, "of its 16 blocks of 16 outputs x 4 inputs only 3"},
    {4, 12, 2, {{0, 4, 4}, {16, 8, 4}}, "of its 6 blocks of 16 outputs x 4 inputs only 1"},
};

START_TEST(test_block_structure)
{
    cnn_file_image image;
    cnn_model *model;
    CHECK_OK(
        cnn_model_parse("i = input(height=2, width=3, channels=4)\nc0 = conv(i, out=6, kernel=1)\n"
                        "c1 = conv(c0, out=20, kernel=2)\nc2 = conv(c1, out=6, kernel=1)\nf = linear(c2, out=20)\n",
                        "s", &model));
    cnn_model_init(model, 1);
    cnn_param *weight = &model->nodes[block_cases[_i].node].param[CNN_PARAM_WEIGHT];
    float *values = weight->data;
    const int64_t all = cnn_desc_elements(&weight->desc);
    ck_assert_int_eq(all, 20 * block_cases[_i].values);
    for (int64_t i = 0; i < all; i++)
        values[i] = 1;
    weight->desc.structure = CNN_BLOCK_16X4;
    for (int b = 0; b < block_cases[_i].zeros; b++) {
        const int first = block_cases[_i].zero[b].k;
        for (int k = first; k < 20 && k < first + 16; k++)
            for (int i = 0; i < block_cases[_i].zero[b].wide; i++)
                values[k * block_cases[_i].values + block_cases[_i].zero[b].i + i] = 0;
        if (b == block_cases[_i].zeros - 2)
            CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC,
                        block_cases[_i].too_few);
    }
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){0}, &image));
    cnn_file_image_free(&image);
    values[all - 1] = 0; /* alone it is no block */
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){0}, &image));
    cnn_file_image_free(&image);
    values[block_cases[_i].zero[0].i] = -1;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, block_cases[_i].too_few);
    model->nodes[4].param[CNN_PARAM_BIAS].desc.structure = CNN_BLOCK_16X4;
    weight->desc.structure = CNN_DENSE;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_FORMAT, "f.bias", "only weights");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_accumulator_depth)
{
    /* 2^31 / 127^2 = 133,144.2: that many products still fit, one more does not. */
    for (int width = 133144; width <= 133145; width++) {
        cnn_model *model = NULL;
        cnn_file_image image;
        CHECK_OK(cnn_model_parse(
            "i = input(height=1, width=1, channels=1)\na = linear(i, out=133144)\nb = linear(a, out=2, bias=0)\n",
            "deep", &model));
        if (width == 133145) {
            cnn_model_free(model);
            CHECK_OK(cnn_model_parse(
                "i = input(height=1, width=1, channels=1)\na = linear(i, out=133145)\nb = linear(a, out=2, bias=0)\n",
                "deep", &model));
        }
        case_quantize(model);
        memset(model->nodes[1].param[CNN_PARAM_BIAS].data, 0, (size_t)width * 4);
        cnn_status status = cnn_file_encode(model, &(cnn_file_options){0}, &image);
        ck_assert_int_eq(status, width == 133144 ? CNN_OK : CNN_ERR_NUMERIC);
        if (status == CNN_OK)
            cnn_file_image_free(&image);
        cnn_model_free(model);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_values");
    TCase *tests = tcase_create("file_values");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_values_of_floats);
    tcase_add_test(tests, test_values_of_int8);
    tcase_add_test(tests, test_more_values);
    tcase_add_loop_test(tests, test_block_structure, 0, sizeof block_cases / sizeof *block_cases);
    tcase_add_test(tests, test_accumulator_depth);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
