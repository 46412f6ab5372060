/* Codebooks in files: layers of few numbers come back, in fewer bytes, and what a reader refuses. */
#include "model_case.h"

#include "core/crc32c.h"
#include "core/file.h"
#include "core/file_books.h"
#include "core/file_stream.h"
#include "core/hash.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static cnn_model *lenet(void)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse("image = input(height=28, width=28, channels=1)\n"
                             "conv1 = conv(image, out=7, kernel=5)\npool1 = maxpool(conv1, kernel=2)\n"
                             "conv2 = conv(pool1, out=14, kernel=5)\npool2 = maxpool(conv2, kernel=2)\n"
                             "fc1 = linear(pool2, out=30)\nrelu1 = relu(fc1)\nfc2 = linear(relu1, out=10)\n",
                             "lenet", &model));
    cnn_model_init(model, 1);
    case_quantize(model);
    return model;
}

static cnn_param *weight_of(cnn_model *model, const char *layer)
{
    return &model->nodes[cnn_model_find(model, layer)].param[CNN_PARAM_WEIGHT];
}

/* Gives a layer these numbers, drawn evenly. */
static void draw(cnn_model *model, const char *layer, const int8_t *number, int count)
{
    cnn_param *weight = weight_of(model, layer);
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        ((int8_t *)weight->data)[i] = number[cnn_hash(3, 2, (uint64_t)i, 0) % (uint64_t)count];
}

static uint8_t *smallest(const cnn_model *model, size_t *size)
{
    uint8_t *data;
    CHECK_OK(cnn_file_to_memory(model, &(cnn_file_options){.pack = CNN_PACK_SMALLEST}, &data, size));
    return data;
}

/* The field is the last one: two numbers a layer here, which the field ends in. */
static bool has_books(const uint8_t *data, size_t size)
{
    static const uint8_t field[] = {CNN_TAG_BOOKS, 6, 2, (uint8_t)-107, 85, 2, (uint8_t)-107, 85};
    return size > sizeof field + 4 && memcmp(data + size - 4 - sizeof field, field, sizeof field) == 0;
}

static const int8_t four[] = {-90, -31, 12, 77}, five[] = {-127, -1, 0, 5, 64}, grid[] = {-2, -1, 0, 1, 2},
                    two[] = {-107, 85};

static size_t check_round_trip(const cnn_model *model)
{
    cnn_model *again = NULL;
    size_t size;
    uint8_t *data = smallest(model, &size);
    CHECK_OK(cnn_file_decode(data, size, "m.cnn", &again));
    for (int i = 0; i <= model->node_count; i++)
        memcpy(i ? again->nodes[i - 1].name : again->name, i ? model->nodes[i - 1].name : model->name, CNN_NAME_BYTES);
    case_check_equal(model, again);
    free(data);
    cnn_model_free(again);
    return size;
}

/* All layers have books; then only some have; 0 is one of a book's numbers or not; the largest book. */
START_TEST(models_come_back_smaller)
{
    cnn_model *model = lenet();
    cnn_bytes numbers = {0}, books = {0};
    cnn_model *ranked = NULL;
    static const char *const layers[] = {"conv1", "conv2", "fc1", "fc2"};
    for (int l = 0; l < 4; l++)
        draw(model, layers[l], four, 4);
    CHECK_OK(cnn_stream_encode(model, &numbers, NULL));
    const size_t size = check_round_trip(model);
    int64_t weights = 0;
    for (int l = 0; l < 4; l++)
        weights += cnn_desc_elements(&weight_of(model, layers[l])->desc);
    ck_assert_uint_lt(size, numbers.length * 3 / 4);
    ck_assert_uint_lt(size, (size_t)weights * 21 / 80 + 650); /* 2.1 bits, scales, biases */
    draw(model, "conv2", five, 5);
    check_round_trip(model);
    int8_t many[CNN_BOOK_MOST];
    for (int i = 0; i < CNN_BOOK_MOST; i++)
        many[i] = (int8_t)(i * 7 - 110);
    draw(model, "fc1", many, CNN_BOOK_MOST);
    draw(model, "fc2", grid, 5);
    check_round_trip(model);
    CHECK_OK(cnn_books_make(model, &books, &ranked));
    const uint8_t wanted[] = {4, (uint8_t)-90, (uint8_t)-31, 12, 77, 4, (uint8_t)-127, (uint8_t)-1,
                              5, 64,           CNN_BOOK_MOST};
    ck_assert_mem_eq(books.data, wanted, sizeof wanted);
    ck_assert_uint_eq(books.length, sizeof wanted + CNN_BOOK_MOST + 1);
    ck_assert_int_eq(books.data[books.length - 1], 0); /* a grid is its own ranks */
    cnn_bytes_free(&numbers);
    cnn_bytes_free(&books);
    cnn_model_free(ranked);
    cnn_model_free(model);
}
END_TEST

START_TEST(grids_and_large_books_have_none)
{
    cnn_model *model = lenet(), *ranked = NULL;
    cnn_bytes books = {0};
    static const char *const layers[] = {"conv1", "conv2", "fc1", "fc2"};
    int8_t many[CNN_BOOK_MOST + 1];
    for (int i = 0; i <= CNN_BOOK_MOST; i++)
        many[i] = (int8_t)(i * 3 + 1);
    for (int l = 0; l < 4; l++)
        draw(model, layers[l], grid, 5);
    draw(model, "fc1", many, CNN_BOOK_MOST + 1);
    CHECK_OK(cnn_books_make(model, &books, &ranked));
    ck_assert(!ranked && books.length == 0);
    check_round_trip(model);
    cnn_model_free(model);
}
END_TEST

/* ---- Refusals ---- */

static cnn_status read_books(cnn_model *model, const uint8_t *data, size_t size)
{
    cnn_reader field = {.data = data, .end = size, .path = "m.cnn"};
    return cnn_books_read(&field, model);
}

START_TEST(books_that_cannot_be)
{
    cnn_model *model = lenet();
    static const char *const layers[] = {"conv1", "conv2", "fc1", "fc2"};
    for (int l = 0; l < 4; l++)
        draw(model, layers[l], grid, 5); /* ranks -2 to 2 */
    static const uint8_t many[] = {33}, ascend[] = {3, 1, 1, 2}, zero[] = {2, 0, 1}, low[] = {1, 0x80},
                         few[] = {2, 1, 2};
    static const uint8_t cut[] = {4, (uint8_t)-9, (uint8_t)-7, 3}, none[] = {0};
    CHECK_FAILS(read_books(model, many, sizeof many), CNN_ERR_FORMAT, "the count of a codebook");
    CHECK_FAILS(read_books(model, ascend, sizeof ascend), CNN_ERR_FORMAT, "holds 1 where numbers");
    CHECK_FAILS(read_books(model, zero, sizeof zero), CNN_ERR_FORMAT, "holds 0 where numbers");
    CHECK_FAILS(read_books(model, low, sizeof low), CNN_ERR_FORMAT, "holds -128 where numbers");
    CHECK_FAILS(read_books(model, few, sizeof few), CNN_ERR_FORMAT, "layer 'conv1' has no number of rank -");
    CHECK_FAILS(read_books(model, cut, sizeof cut), CNN_ERR_FORMAT, "a codebook");
    CHECK_FAILS(read_books(model, none, sizeof none), CNN_ERR_FORMAT, "the count of a codebook");
    cnn_model_free(model);
}
END_TEST

/* Any bit may change: with its checksum made right the file is read or refused, never misread. */
START_TEST(damage_is_refused)
{
    cnn_model *model = case_tiny_int8();
    size_t size;
    int refused = 0;
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].param[CNN_PARAM_WEIGHT].data)
            draw(model, model->nodes[i].name, two, 2);
    uint8_t *data = smallest(model, &size);
    ck_assert(has_books(data, size));
    for (size_t bit = 8 * 5; bit < 8 * (size - 4); bit++) {
        cnn_model *read = NULL;
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const uint32_t crc = cnn_crc32c(0, data, size - 4);
        for (size_t b = 0; b < 4; b++)
            data[size - 4 + b] = (uint8_t)(crc >> (8 * b));
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

/* The file of the corpus has codebooks, and stays readable. */
START_TEST(corpus_file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/cnn/tiny-books.cnn", CNN_SOURCE_DIR);
    cnn_model *model = case_tiny_int8(), *again = NULL;
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].param[CNN_PARAM_WEIGHT].data)
            draw(model, model->nodes[i].name, two, 2);
    if (getenv("CNN_WRITE_GOLDEN"))
        CHECK_OK(cnn_model_save_packed(model, path, CNN_PACK_SMALLEST, NULL));
    size_t size;
    uint8_t *data = smallest(model, &size);
    ck_assert(has_books(data, size));
    free(data);
    CHECK_OK(cnn_model_load(path, &again));
    for (int i = 0; i <= model->node_count; i++)
        memcpy(i ? again->nodes[i - 1].name : again->name, i ? model->nodes[i - 1].name : model->name, CNN_NAME_BYTES);
    case_check_equal(model, again);
    cnn_model_free(again);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file books");
    TCase *tests = tcase_create("books");
    tcase_add_test(tests, models_come_back_smaller);
    tcase_add_test(tests, grids_and_large_books_have_none);
    tcase_add_test(tests, books_that_cannot_be);
    tcase_add_test(tests, damage_is_refused);
    tcase_add_test(tests, corpus_file);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
