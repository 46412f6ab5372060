/* Coded tensors in .cnn files: bitmap and nonzeros, when it is taken, and what a reader refuses. */
#include "model_case.h"

#include "core/crc32c.h"
#include "core/file.h"
#include "core/file_encoding.h"
#include "core/memory.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Bitmaps ---- */

START_TEST(bitmap_bytes)
{
    static const int8_t values[10] = {0, 5, 0, 0, -1, 0, 0, 0, 0, 127};
    static const uint8_t coded[5] = {0x12, 0x02, 5, 0xFF, 127};
    uint8_t bytes[5];
    int8_t again[10];
    ck_assert_uint_eq(cnn_bitmap_size(values, 10, 1), 5);
    cnn_bitmap_encode(values, 10, 1, bytes);
    ck_assert_mem_eq(bytes, coded, 5);
    ck_assert_ptr_null(cnn_bitmap_decode(bytes, 5, 10, 1, again));
    ck_assert_mem_eq(again, values, 10);
}
END_TEST

/* Every count of elements to 20, each element size, -0 and all. */
START_TEST(bitmap_round_trips)
{
    static const float values[20] = {0, 1, -0.0f, 0, 0, 2.5f, 0, 1e-40f, 0, 0, -3, 0, 0, 0, 0, 0, 7, 0, 0, -0.0f};
    for (int64_t count = 1; count <= 20; count++) {
        uint8_t *coded = malloc(cnn_bitmap_size(values, count, sizeof(float)));
        float again[20];
        cnn_bitmap_encode(values, count, sizeof(float), coded);
        const char *wrong =
            cnn_bitmap_decode(coded, cnn_bitmap_size(values, count, sizeof(float)), count, sizeof(float), again);
        ck_assert_msg(wrong == NULL, "%s", wrong);
        ck_assert_mem_eq(again, values, (size_t)count * sizeof(float));
        free(coded);
    }
}
END_TEST

START_TEST(bitmap_refusals)
{
    int8_t values[10];
    static const uint8_t tail[3] = {0x01, 0x04, 9}, more[3] = {0x03, 0x00, 9}, fewer[4] = {0x01, 0x00, 9, 9},
                         zero[3] = {0x01, 0x00, 0};
    ck_assert_str_eq(cnn_bitmap_decode(tail, 3, 10, 1, values), "has bits beyond its end");
    ck_assert_str_eq(cnn_bitmap_decode(more, 3, 10, 1, values), "asks for more values than follow it");
    ck_assert_str_eq(cnn_bitmap_decode(fewer, 4, 10, 1, values), "asks for fewer values than follow it");
    ck_assert_str_eq(cnn_bitmap_decode(zero, 3, 10, 1, values), "calls a value nonzero that is zero");
}
END_TEST

/* ---- Files ---- */

/* A network whose convolution keeps every `keep`-th weight. */
static cnn_model *sparse_model(int keep, bool int8)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse("image = input(height=4, width=4, channels=1)\n"
                             "conv1 = conv(image, out=9, kernel=3)\n"
                             "relu1 = relu(conv1)\n"
                             "fc1 = linear(relu1, out=3)\n",
                             "tiny", &model));
    cnn_model_init(model, 7);
    model->dataset = CNN_DATASET_SYNTH;
    if (int8)
        case_quantize(model);
    cnn_param *weight = &model->nodes[1].param[CNN_PARAM_WEIGHT];
    size_t count = (size_t)cnn_desc_elements(&weight->desc), element_bytes = cnn_dtype_bytes(weight->desc.dtype);
    weight->mask = cnn_aligned_alloc(count);
    weight->desc.structure = CNN_SPARSE;
    for (size_t i = 0; i < count; i++) {
        weight->mask[i] = i % (size_t)keep == 0;
        if (!weight->mask[i])
            memset((uint8_t *)weight->data + i * element_bytes, 0, element_bytes);
    }
    return model;
}

static uint8_t *encode(const cnn_model *model, cnn_pack pack, size_t *size, size_t *head_end)
{
    cnn_file_image image;
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){.pack = pack}, &image));
    *size = cnn_file_image_bytes(&image);
    *head_end = image.head.length - 4;
    uint8_t *data = calloc(*size, 1);
    memcpy(data, image.head.data, image.head.length);
    for (int i = 0; i < image.section_count; i++)
        memcpy(data + *size - image.data_bytes + image.sections[i].offset, image.sections[i].data,
               image.sections[i].bytes);
    cnn_file_image_free(&image);
    return data;
}

START_TEST(files_round_trip)
{
    for (int int8 = 0; int8 < 2; int8++)
        for (int pack = CNN_PACK_AUTO; pack <= CNN_PACK_SMALLEST; pack++) {
            cnn_model *model = sparse_model(5, int8), *again = NULL;
            size_t size, head_end;
            uint8_t *data = encode(model, (cnn_pack)pack, &size, &head_end);
            CHECK_OK(cnn_file_decode(data, size, "m.cnn", &again));
            if (pack == CNN_PACK_SMALLEST)
                for (int i = 0; i <= model->node_count; i++)
                    memcpy(i ? again->nodes[i - 1].name : again->name, i ? model->nodes[i - 1].name : model->name,
                           CNN_NAME_BYTES);
            case_check_equal(model, again);
            free(data);
            cnn_model_free(again);
            cnn_model_free(model);
        }
}
END_TEST

static size_t file_size(const cnn_model *model, cnn_pack pack)
{
    size_t size, head_end;
    free(encode(model, pack, &size, &head_end));
    return size;
}

/* 81 int8 weights, 11 bytes of bitmap: auto codes them with up to 49 nonzeros, as 60 bytes are less than three quarters
 * of 81 and 61 are not. */
START_TEST(auto_codes_below_three_quarters)
{
    cnn_model *model = sparse_model(1, true), *raw;
    int8_t *weights = model->nodes[1].param[CNN_PARAM_WEIGHT].data;
    uint8_t *mask = model->nodes[1].param[CNN_PARAM_WEIGHT].mask;
    for (int i = 0; i < 81; i++) {
        weights[i] = (int8_t)(i < 51 ? i + 1 : 0); /* all different: nothing for rANS */
        mask[i] = i < 51;
    }
    size_t dense = file_size(model, CNN_PACK_RAW);
    ck_assert_uint_eq(file_size(model, CNN_PACK_AUTO), dense);
    ck_assert_uint_lt(file_size(model, CNN_PACK_SMALLEST), dense);
    weights[50] = 0;
    mask[50] = 0;
    ck_assert_uint_eq(file_size(model, CNN_PACK_AUTO), dense);
    weights[49] = 0;
    mask[49] = 0;
    ck_assert_uint_lt(file_size(model, CNN_PACK_AUTO), dense);
    CHECK_OK(cnn_model_clone(model, &raw));
    ck_assert_uint_eq(file_size(raw, CNN_PACK_RAW), dense);
    cnn_model_free(raw);
    cnn_model_free(model);
}
END_TEST

/* The file that docs/format.md quotes. */
START_TEST(golden_bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/cnn/tiny-sparse.cnn", CNN_SOURCE_DIR);
    cnn_model *model = sparse_model(9, false);
    if (getenv("CNN_WRITE_GOLDEN"))
        CHECK_OK(cnn_model_save(model, path, NULL));
    size_t size, head_end;
    uint8_t *data = encode(model, CNN_PACK_AUTO, &size, &head_end), bytes[4096];
    FILE *golden = fopen(path, "rb");
    ck_assert_msg(golden != NULL, "%s is missing", path);
    ck_assert_uint_eq(fread(bytes, 1, sizeof bytes, golden), size);
    ck_assert_mem_eq(bytes, data, size);
    fclose(golden);
    free(data);
    cnn_model_free(model);
}
END_TEST

/* Files of the corpus whose weights are coded in one way or the other stay readable, and say what they always said. */
START_TEST(coded_files_stay_readable)
{
    static const char *const names[] = {"tiny-range.cnn", "tiny-rans.cnn"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/tests/fuzz/corpus/cnn/%s", CNN_SOURCE_DIR, names[i]);
        const bool rans = i == 1;
        cnn_model *model = sparse_model(rans ? 2 : 5, true), *again = NULL;
        int8_t *weights = model->nodes[1].param[CNN_PARAM_WEIGHT].data;
        for (int k = 0; k < 81 && rans; k++)
            weights[k] = (int8_t)(weights[k] ? 1 : 0);
        if (rans && getenv("CNN_WRITE_GOLDEN"))
            CHECK_OK(cnn_model_save_packed(model, path, CNN_PACK_AUTO, NULL));
        CHECK_OK(cnn_model_load(path, &again));
        for (int n = 0; n <= model->node_count; n++)
            memcpy(n ? again->nodes[n - 1].name : again->name, n ? model->nodes[n - 1].name : model->name,
                   CNN_NAME_BYTES);
        case_check_equal(model, again);
        cnn_model_free(again);
        cnn_model_free(model);
    }
}
END_TEST

/* Any byte of the head may change: with its checksum made right the file is read or refused, never misread. */
START_TEST(damage_is_refused)
{
    cnn_model *model = sparse_model(9, true);
    size_t size, head_end;
    uint8_t *data = encode(model, CNN_PACK_AUTO, &size, &head_end);
    int refused = 0, bitmaps = 0;
    for (size_t i = 5; i < head_end; i++)
        for (int change = 1; change < 256; change *= 2) {
            cnn_model *read = NULL;
            data[i] ^= (uint8_t)change;
            uint32_t crc = cnn_crc32c(0, data, head_end);
            for (size_t b = 0; b < 4; b++)
                data[head_end + b] = (uint8_t)(crc >> (8 * b));
            if (cnn_file_decode(data, size, "m.cnn", &read) != CNN_OK) {
                refused++;
                bitmaps += strstr(cnn_last_error(), "the bitmap and nonzeros form of conv1.weight") != NULL;
            }
            cnn_model_free(read);
            data[i] ^= (uint8_t)change;
        }
    ck_assert_int_gt(refused, 100);
    ck_assert_int_ge(bitmaps, 88); /* each bit of the bitmap */
    free(data);
    cnn_model_free(model);
}
END_TEST

START_TEST(unknown_encodings_are_named)
{
    cnn_model *model = sparse_model(9, true), *read = NULL;
    size_t size, head_end;
    uint8_t *data = encode(model, CNN_PACK_AUTO, &size, &head_end);
    /* conv1.weight: layer 1, role 0, i8, scales and a "not zero" mask, sparse, bitmap without parameters. */
    static const uint8_t entry[7] = {1, 0, 4, 1 + 2 + 8, 3, 1, 0};
    size_t at = 0;
    while (at + 7 < head_end && memcmp(data + at, entry, 7) != 0)
        at++;
    ck_assert_uint_lt(at + 7, head_end);
    for (int parameters = 0; parameters < 2; parameters++) {
        data[at + 5] = parameters ? 1 : 4;
        data[at + 6] = (uint8_t)parameters;
        uint32_t crc = cnn_crc32c(0, data, head_end);
        for (size_t b = 0; b < 4; b++)
            data[head_end + b] = (uint8_t)(crc >> (8 * b));
        ck_assert_int_eq(cnn_file_decode(data, size, "m.cnn", &read), CNN_ERR_FORMAT);
        ck_assert_ptr_nonnull(strstr(cnn_last_error(), parameters ? "parameters" : "low-bit"));
    }
    free(data);
    cnn_model_free(model);
}
END_TEST

static Suite *encoding_suite(void)
{
    Suite *suite = suite_create("file encodings");
    TCase *tests = tcase_create("encodings");
    tcase_add_test(tests, bitmap_bytes);
    tcase_add_test(tests, bitmap_round_trips);
    tcase_add_test(tests, bitmap_refusals);
    tcase_add_test(tests, files_round_trip);
    tcase_add_test(tests, auto_codes_below_three_quarters);
    tcase_add_test(tests, golden_bytes);
    tcase_add_test(tests, coded_files_stay_readable);
    tcase_add_test(tests, damage_is_refused);
    tcase_add_test(tests, unknown_encodings_are_named);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    SRunner *runner = srunner_create(encoding_suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
