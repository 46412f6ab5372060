/* All parameters as one stream: what is written comes back, how little it takes, and what a reader refuses. */
#include "model_case.h"

#include "core/crc32c.h"
#include "core/file.h"
#include "core/file_stream.h"
#include "core/hash.h"
#include "core/round_scale.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Round scales ---- */

START_TEST(round_scales_are_powers)
{
    for (int i = CNN_ROUND_LEAST; i <= CNN_ROUND_MOST; i++) {
        int number = 0;
        const float scale = cnn_round_scale(i);
        ck_assert(isnormal(scale) && scale > 0);
        ck_assert_double_eq_tol((double)scale / exp2(i / 16.0), 1, 6e-8);
        ck_assert(cnn_round_scale_find(scale, &number) && number == i);
        ck_assert(cnn_round_scale_above(scale) == scale);
        ck_assert(!cnn_round_scale_find(nextafterf(scale, INFINITY), &number));
        if (i < CNN_ROUND_MOST)
            ck_assert(cnn_round_scale_above(nextafterf(scale, INFINITY)) == cnn_round_scale(i + 1));
    }
    static const float outside[] = {0, -1, INFINITY, NAN, 1e-40f};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        ck_assert(!cnn_round_scale_find(outside[i], &(int){0}));
    ck_assert(cnn_round_scale(0) == 1 && cnn_round_scale(-16) == 0.5f);
}
END_TEST

/* ---- Files ---- */

static cnn_model *lenet(void)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse("image = input(height=28, width=28, channels=1)\n"
                             "conv1 = conv(image, out=7, kernel=5)\npool1 = maxpool(conv1, kernel=2)\n"
                             "conv2 = conv(pool1, out=14, kernel=5)\npool2 = maxpool(conv2, kernel=2)\n"
                             "fc1 = linear(pool2, out=30)\nrelu1 = relu(fc1)\nfc2 = linear(relu1, out=10)\n",
                             "lenet5-caffe", &model));
    cnn_model_init(model, 1);
    case_quantize(model);
    model->dataset = CNN_DATASET_MNIST;
    return model;
}

/* Sparse weights of -3 to 3. rounded: scales of the grid, and biases of few bits. */
static void make_compact(cnn_model *model, bool rounded)
{
    for (int i = 0; i < model->node_count; i++) {
        cnn_param *weight = &model->nodes[i].param[CNN_PARAM_WEIGHT], *bias = &model->nodes[i].param[CNN_PARAM_BIAS];
        if (rounded)
            model->nodes[i].out_scale = cnn_round_scale_above(model->nodes[i].out_scale);
        for (int64_t k = 0; weight->data && k < cnn_desc_elements(&weight->desc); k++) {
            const uint64_t random = cnn_hash(1, 2, (uint64_t)i, (uint64_t)k);
            ((int8_t *)weight->data)[k] = (int8_t)(random % 5 ? 0 : (int)((random >> 20) % 7) - 3);
        }
        for (int32_t k = 0; weight->data && k < weight->desc.n; k++) {
            weight->scale[k] =
                rounded ? cnn_round_scale(-130 - (int)(cnn_hash(3, 2, 1, (uint64_t)k) % 8)) : weight->scale[k];
            ((int32_t *)bias->data)[k] = ((int32_t)(cnn_hash(4, 2, 1, (uint64_t)k) % 63) - 31) * 512;
        }
    }
}

static uint8_t *smallest(const cnn_model *model, size_t *size)
{
    uint8_t *data;
    CHECK_OK(cnn_file_to_memory(model, &(cnn_file_options){.pack = CNN_PACK_SMALLEST}, &data, size));
    return data;
}

static void check_equal(const cnn_model *model, cnn_model *again)
{
    for (int i = 0; i <= model->node_count; i++)
        memcpy(i ? again->nodes[i - 1].name : again->name, i ? model->nodes[i - 1].name : model->name, CNN_NAME_BYTES);
    case_check_equal(model, again);
}

static bool has_stream(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i + 1 < size; i++) /* after the graph, whose last bytes are those of fc2 = linear(out=10) */
        if (i >= 3 && memcmp(data + i - 3, "\x0a\x01\x14", 3) == 0)
            return data[i] == CNN_TAG_STREAM;
    return false;
}

START_TEST(models_round_trip)
{
    for (int kind = 0; kind < 5; kind++) {
        cnn_model *model = lenet(), *again = NULL;
        size_t size;
        make_compact(model, kind >= 1);
        cnn_param *weight = &model->nodes[3].param[CNN_PARAM_WEIGHT];
        if (kind == 2) { /* a mask of the nonzeros, unstructured */
            weight->mask = cnn_aligned_alloc((size_t)cnn_desc_elements(&weight->desc));
            for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
                weight->mask[i] = ((int8_t *)weight->data)[i] != 0;
            weight->desc.structure = CNN_SPARSE;
        }
        if (kind == 3) { /* one scale, biases beyond rounding, a pooled layer with a scale of its own */
            for (int32_t k = 0; k < weight->desc.n; k++)
                weight->scale[k] = weight->scale[0];
            ((int32_t *)model->nodes[3].param[CNN_PARAM_BIAS].data)[0] = -2000000001;
            model->nodes[4].out_scale = 0.75f;
        }
        if (kind == 4) {
            memset(weight->data, 0, (size_t)cnn_desc_elements(&weight->desc));
            weight->desc.structure = CNN_BLOCK_16X4;
        }
        uint8_t *data = smallest(model, &size);
        ck_assert(has_stream(data, size));
        CHECK_OK(cnn_file_decode(data, size, "m.cnn", &again));
        check_equal(model, again);
        free(data);
        cnn_model_free(again);
        cnn_model_free(model);
    }
}
END_TEST

/* What the stream cannot hold, or would not make smaller, stays a table. */
START_TEST(others_are_tables)
{
    cnn_model *model = lenet(), *again = NULL;
    size_t size;
    make_compact(model, true);
    cnn_param *weight = &model->nodes[3].param[CNN_PARAM_WEIGHT];
    weight->mask = cnn_aligned_alloc((size_t)cnn_desc_elements(&weight->desc));
    memset(weight->mask, 1, (size_t)cnn_desc_elements(&weight->desc)); /* zeros that may grow again */
    weight->desc.structure = CNN_SPARSE;
    uint8_t *data = smallest(model, &size);
    ck_assert(!has_stream(data, size));
    CHECK_OK(cnn_file_decode(data, size, "m.cnn", &again));
    check_equal(model, again);
    free(data);
    cnn_model_free(again);
    cnn_model_free(model);
}
END_TEST

/* Without weights, scales and biases a file has at most 80 bytes, its checksum included; those of a rounded
 * model take about a byte each. */
START_TEST(overhead)
{
    cnn_model *model = lenet();
    size_t size, bytes[8] = {0}, payload = 0;
    cnn_bytes stream = {0};
    make_compact(model, true);
    uint8_t *data = smallest(model, &size);
    CHECK_OK(cnn_stream_encode(model, &stream, bytes));
    ck_assert_uint_le(size - stream.length, 80);
    for (int i = 0; i < model->node_count; i++)
        payload += bytes[i];
    ck_assert_uint_le(stream.length - payload, 16); /* scales of activations */
    for (int i = 0; i < model->node_count; i++) {
        cnn_param *weight = &model->nodes[i].param[CNN_PARAM_WEIGHT];
        if (weight->data)
            memset(weight->data, 0, (size_t)cnn_desc_elements(&weight->desc));
    }
    cnn_bytes_free(&stream);
    CHECK_OK(cnn_stream_encode(model, &stream, NULL));
    ck_assert_uint_le(stream.length, 16 + 10 + 2 * 61); /* 61 channels */
    cnn_bytes_free(&stream);
    free(data);
    cnn_model_free(model);
}
END_TEST

/* ---- Refusals ---- */

static void reseal(uint8_t *data, size_t size)
{
    const uint32_t crc = cnn_crc32c(0, data, size - 4);
    for (size_t b = 0; b < 4; b++)
        data[size - 4 + b] = (uint8_t)(crc >> (8 * b));
}

/* Any bit of the head may change: with its checksum made right the file is read or refused, never misread. */
START_TEST(damage_is_refused)
{
    cnn_model *model = case_tiny_int8();
    size_t size;
    int refused = 0;
    model->nodes[0].out_scale = 0.5f;
    memset(model->nodes[1].param[CNN_PARAM_WEIGHT].data, 0, 18);
    memset(model->nodes[4].param[CNN_PARAM_WEIGHT].data, 0, 20);
    uint8_t *data = smallest(model, &size);
    for (size_t bit = 8 * 5; bit < 8 * (size - 4); bit++) {
        cnn_model *read = NULL;
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        reseal(data, size);
        const cnn_status status = cnn_file_decode(data, size, "m.cnn", &read);
        ck_assert(status == CNN_OK || status == CNN_ERR_FORMAT || status == CNN_ERR_NUMERIC || status == CNN_ERR_SHAPE);
        refused += status != CNN_OK;
        cnn_model_free(read);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_gt(refused, 100);
    free(data);
    cnn_model_free(model);
}
END_TEST

/* A file of `fields` behind magic and version. */
static cnn_status decode_fields(const uint8_t *fields, size_t length)
{
    cnn_bytes file = {0};
    cnn_model *model = NULL;
    cnn_bytes_put(&file,
                  "\x8f"
                  "CNN\x01",
                  5);
    cnn_bytes_put_varint(&file, length);
    cnn_bytes_put(&file, fields, length);
    cnn_bytes_put_u32(&file, cnn_crc32c(0, file.data, file.length));
    const cnn_status status = cnn_file_decode(file.data, file.length, "m.cnn", &model);
    cnn_model_free(model);
    cnn_bytes_free(&file);
    return status;
}

/* image = input(1,1,1), bn1 = bn, linear1 = linear(out=1) or without the bn; then a stream. */
START_TEST(refusals)
{
    static const uint8_t bn[] = {64, 10, 3, 2, 7, 2, 2, 2, 12, 10, 1, 2, 68, 1, 1};
    static const uint8_t zero[] = {64, 9, 2, 2, 7, 2, 2, 2, 10, 1, 2, 68, 2, 1, 0};
    static const uint8_t both[] = {64, 9, 2, 2, 7, 2, 2, 2, 10, 1, 2, 65, 1, 0, 68, 1, 1};
    static const uint8_t wide[] = {64, 12, 2, 2, 7, 2, 2, 2, 10, 1, 0x80, 0x80, 0x80, 2, 68, 1, 1};
    CHECK_FAILS(decode_fields(bn, sizeof bn), CNN_ERR_FORMAT, "cannot hold those of layer 'bn1'");
    CHECK_FAILS(decode_fields(zero, sizeof zero), CNN_ERR_FORMAT, "ends in a zero byte");
    CHECK_FAILS(decode_fields(both, sizeof both), CNN_ERR_FORMAT, "tensors or scales beside it");
    CHECK_FAILS(decode_fields(wide, sizeof wide), CNN_ERR_FORMAT, "too few bytes");
}
END_TEST

/* The file of the corpus stays readable. */
START_TEST(corpus_file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/cnn/tiny-stream.cnn", CNN_SOURCE_DIR);
    cnn_model *model = case_tiny_int8(), *again = NULL;
    make_compact(model, true);
    if (getenv("CNN_WRITE_GOLDEN"))
        CHECK_OK(cnn_model_save_packed(model, path, CNN_PACK_SMALLEST, NULL));
    CHECK_OK(cnn_model_load(path, &again));
    check_equal(model, again);
    cnn_model_free(again);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file stream");
    TCase *tests = tcase_create("stream");
    tcase_add_test(tests, round_scales_are_powers);
    tcase_add_test(tests, models_round_trip);
    tcase_add_test(tests, others_are_tables);
    tcase_add_test(tests, overhead);
    tcase_add_test(tests, damage_is_refused);
    tcase_add_test(tests, refusals);
    tcase_add_test(tests, corpus_file);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
