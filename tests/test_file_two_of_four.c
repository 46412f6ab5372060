/* 2:4 weights in the compressed form of sparse tensor cores: its bytes, which shapes it takes, what a reader refuses,
 * and when files have it. */
#include "model_case.h"

#include "core/file.h"
#include "core/file_encoding.h"
#include "core/hash.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const cnn_tensor_coding *form(void)
{
    return &cnn_tensor_codings[CNN_ENCODING_TWO_OF_FOUR];
}

static cnn_tensor_desc shape(cnn_dtype dtype, int32_t n, int32_t h, int32_t w, int32_t c)
{
    cnn_tensor_desc desc = cnn_desc(dtype, n, h, w, c);
    desc.structure = CNN_SPARSE_2_4;
    return desc;
}

static const char *decode(const cnn_tensor_desc *desc, int parameter, const uint8_t *data, size_t bytes, void *values)
{
    const uint8_t parameters[1] = {(uint8_t)parameter};
    const cnn_coded coded = {.parameters = parameters, .parameter_bytes = parameter > 0, .data = data, .bytes = bytes};
    const char *wrong = NULL;
    ck_assert_int_eq(form()->decode(desc, &coded, values, &wrong), CNN_OK);
    return wrong;
}

/* The example of docs/format.md. */
START_TEST(bytes_of_the_format)
{
    static const int8_t values[8] = {0, 5, 0, -1, 7, 0, 0, 0};
    static const uint8_t golden[5] = {0x05, 0xFF, 0x07, 0x00, 0x4D};
    const cnn_tensor_desc desc = shape(CNN_I8, 1, 1, 1, 8);
    cnn_bytes parameters = {0}, data = {0};
    ck_assert_int_eq(form()->encode(&desc, values, &parameters, &data), CNN_OK);
    ck_assert_uint_eq(parameters.length, 0);
    ck_assert_uint_eq(data.length, sizeof golden);
    ck_assert_mem_eq(data.data, golden, sizeof golden);
    cnn_bytes_free(&parameters);
    cnn_bytes_free(&data);
}
END_TEST

/* Two of every group of a line are other than 0, or fewer. */
static void fill(const cnn_tensor_desc *desc, int64_t line, uint64_t seed, uint8_t *values)
{
    const size_t bytes = cnn_dtype_bytes(desc->dtype);
    memset(values, 0, cnn_desc_bytes(desc));
    for (int64_t i = 0; i < cnn_desc_elements(desc); i += line)
        for (int64_t g = 0; g < line; g += 4)
            for (uint64_t k = 0; k < 2; k++) {
                const int64_t place = g + (int64_t)(cnn_hash(seed, 0, k, (uint64_t)(i + g)) % 5);
                if (place < line && place < g + 4)
                    values[(size_t)(i + place) * bytes + bytes - 1] = (uint8_t)(1 + place % 100);
            }
}

START_TEST(shapes_round_trip)
{
    static const int32_t shapes[][4] = {{1, 1, 1, 1}, {3, 1, 1, 4}, {5, 3, 3, 8},
                                        {2, 5, 5, 6}, {7, 4, 4, 3}, {1, 1, 1, 13}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int kind = 0; kind < 4; kind++) {
            const cnn_tensor_desc desc =
                shape(kind < 2 ? CNN_I8 : CNN_F32, shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3]);
            const int64_t row = (int64_t)desc.h * desc.w * desc.c;
            uint8_t *values = malloc(cnn_desc_bytes(&desc)), *again = malloc(cnn_desc_bytes(&desc));
            cnn_bytes parameters = {0}, data = {0};
            fill(&desc, kind % 2 ? row : desc.c, s, values);
            memset(again, 77, cnn_desc_bytes(&desc));
            ck_assert_int_eq(form()->encode(&desc, values, &parameters, &data), CNN_OK);
            ck_assert_ptr_null(decode(&desc, (int)parameters.length, data.data, data.length, again));
            ck_assert_mem_eq(again, values, cnn_desc_bytes(&desc));
            cnn_bytes_free(&parameters);
            cnn_bytes_free(&data);
            free(values);
            free(again);
        }
}
END_TEST

START_TEST(three_of_four_are_declined)
{
    static const int8_t values[8] = {1, 2, 0, 3, 0, 0, 0, 0};
    const cnn_tensor_desc desc = shape(CNN_I8, 2, 1, 1, 4);
    cnn_bytes parameters = {0}, data = {0};
    ck_assert_int_eq(form()->encode(&desc, values, &parameters, &data), CNN_ERR_SHAPE);
    ck_assert(!form()->suits(&(cnn_tensor_desc){.dtype = CNN_I8, .structure = CNN_SPARSE}));
    cnn_bytes_free(&parameters);
    cnn_bytes_free(&data);
}
END_TEST

START_TEST(refusals)
{
    const cnn_tensor_desc desc = shape(CNN_I8, 1, 1, 1, 7), single = shape(CNN_I8, 1, 1, 1, 4);
    int8_t values[8];
    static const uint8_t good[5] = {1, 2, 3, 4, 0x44};
    ck_assert_ptr_null(decode(&desc, 0, good, 5, values));
    ck_assert_ptr_null(decode(&desc, 1, good, 5, values));
    ck_assert_str_eq(decode(&desc, 2, good, 5, values), "has parameters that say nothing");
    ck_assert_str_eq(decode(&desc, 0, good, 4, values), "does not have two values and two places for every 4 inputs");
    for (int pair = 0; pair < 16; pair++) {
        const uint8_t data[3] = {1, 2, (uint8_t)pair};
        const char *wrong = decode(&single, 0, data, 3, values);
        if ((pair & 3) < pair >> 2)
            ck_assert_ptr_null(wrong);
        else
            ck_assert_str_eq(wrong, "has two places that do not ascend");
    }
    static const uint8_t behind[5] = {1, 2, 3, 4, 0xC4}, zero_behind[5] = {1, 2, 3, 0, 0xC4}, tail[3] = {1, 2, 0x44};
    ck_assert_str_eq(decode(&desc, 0, behind, 5, values), "has a value behind the end of its inputs");
    ck_assert_ptr_null(decode(&desc, 0, zero_behind, 5, values));
    ck_assert_str_eq(decode(&single, 0, tail, 3, values), "has bits beyond its end");
}
END_TEST

/* ---- Files ---- */

static cnn_model *make_model(bool int8)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse("image = input(height=8, width=8, channels=1)\n"
                             "conv1 = conv(image, out=8, kernel=3)\n"
                             "conv2 = conv(conv1, out=8, kernel=3)\n"
                             "fc1 = linear(conv2, out=3)\n",
                             "tiny", &model));
    cnn_model_init(model, 7);
    model->dataset = CNN_DATASET_SYNTH;
    if (int8)
        case_quantize(model);
    cnn_param *weight = &model->nodes[2].param[CNN_PARAM_WEIGHT];
    const size_t bytes = cnn_dtype_bytes(weight->desc.dtype);
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        if (i % 4 == 1 || i % 4 == 2)
            memset((uint8_t *)weight->data + (size_t)i * bytes, 0, bytes);
    weight->desc.structure = CNN_SPARSE_2_4;
    return model;
}

static uint8_t *write_file(const cnn_model *model, cnn_pack pack, size_t *size)
{
    cnn_file_image image;
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){.pack = pack}, &image));
    *size = cnn_file_image_bytes(&image);
    uint8_t *data = calloc(*size, 1);
    memcpy(data, image.head.data, image.head.length);
    for (int i = 0; i < image.section_count; i++)
        memcpy(data + *size - image.data_bytes + image.sections[i].offset, image.sections[i].data,
               image.sections[i].bytes);
    cnn_file_image_free(&image);
    return data;
}

/* Where the table has the entry of conv2.weight: layer 2, role 0, a dtype, flags, structure 2, then the encoding. */
static int encoding_of_conv2(const uint8_t *data, size_t size, int dtype)
{
    for (size_t i = 0; i + 6 < size; i++)
        if (data[i] == 2 && data[i + 1] == 0 && data[i + 2] == dtype && data[i + 4] == CNN_SPARSE_2_4)
            return data[i + 5];
    return -1;
}

START_TEST(files_have_it_where_it_is_smallest)
{
    for (int int8 = 0; int8 < 2; int8++)
        for (int pack = CNN_PACK_AUTO; pack <= CNN_PACK_RAW; pack++) {
            cnn_model *model = make_model(int8), *again = NULL;
            size_t size;
            uint8_t *data = write_file(model, (cnn_pack)pack, &size);
            const int encoding = encoding_of_conv2(data, size, int8 ? CNN_I8 : CNN_F32);
            if (pack == CNN_PACK_RAW || !int8)
                ck_assert_int_eq(encoding, CNN_ENCODING_TWO_OF_FOUR);
            CHECK_OK(cnn_file_decode(data, size, "m.cnn", &again));
            case_check_equal(model, again);
            free(data);
            cnn_model_free(again);
            cnn_model_free(model);
        }
}
END_TEST

/* The file of the corpus stays readable. */
START_TEST(corpus_file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/cnn/tiny-2of4.cnn", CNN_SOURCE_DIR);
    cnn_model *model = make_model(true), *again = NULL;
    if (getenv("CNN_WRITE_GOLDEN"))
        CHECK_OK(cnn_model_save_packed(model, path, CNN_PACK_RAW, NULL));
    CHECK_OK(cnn_model_load(path, &again));
    case_check_equal(model, again);
    cnn_model_free(again);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("2:4 in files");
    TCase *tests = tcase_create("2:4");
    tcase_add_test(tests, bytes_of_the_format);
    tcase_add_test(tests, shapes_round_trip);
    tcase_add_test(tests, three_of_four_are_declined);
    tcase_add_test(tests, refusals);
    tcase_add_test(tests, files_have_it_where_it_is_smallest);
    tcase_add_test(tests, corpus_file);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
