/* Class names and the preparation of pictures in .cnn files: round trips, and what is neither written nor read. */
#include "model_case.h"

#include "core/class_names.h"
#include "core/crc32c.h"
#include "core/file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model of three classes with names of its own. */
static cnn_model *named(const char *first, const char *second, const char *third)
{
    cnn_model *model = case_tiny();
    char *names[] = {(char *)(uintptr_t)first, (char *)(uintptr_t)second, (char *)(uintptr_t)third};
    model->class_names = cnn_class_names_copy(names, 3);
    ck_assert_ptr_nonnull(model->class_names);
    return model;
}

/* The file of a model whose tensors all lie in the head, so that the head is all of it. */
static uint8_t *encode(const cnn_model *model, size_t *size)
{
    cnn_file_image image;
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){.pack = CNN_PACK_SMALLEST}, &image));
    ck_assert_int_eq(image.section_count, 0);
    *size = image.head.length;
    uint8_t *data = malloc(*size);
    memcpy(data, image.head.data, *size);
    cnn_file_image_free(&image);
    return data;
}

START_TEST(names_survive)
{
    char longest[CNN_CLASS_NAME_BYTES + 1] = "";
    memset(longest, 'x', CNN_CLASS_NAME_BYTES);
    cnn_model *model = named("L\xC3\xB6we", "a \"quoted\" name", longest), *copy = NULL, *again = NULL;
    model->preparation = CNN_PREPARE_RESIZE;
    size_t size;
    uint8_t *data = encode(model, &size);
    CHECK_OK(cnn_file_decode(data, size, "m.cnn", &again));
    CHECK_OK(cnn_model_clone(again, &copy));
    cnn_model_free(again);
    memcpy(copy->name, model->name, sizeof copy->name);
    for (int i = 0; i < model->node_count; i++)
        memcpy(copy->nodes[i].name, model->nodes[i].name, sizeof copy->nodes[i].name);
    case_check_equal(model, copy);
    ck_assert_str_eq(cnn_model_class_name(copy, 0), "L\xC3\xB6we");
    ck_assert_str_eq(cnn_model_class_name(copy, 2), longest);
    ck_assert_ptr_null(cnn_model_class_name(copy, 3));
    ck_assert_ptr_null(cnn_model_class_name(copy, -1));
    free(data);
    cnn_model_free(copy);
    cnn_model_free(model);
}
END_TEST

/* The model's own names come first, then those of its data set. */
START_TEST(who_is_asked)
{
    cnn_model *model = named("cat", "cow", "dog");
    model->dataset = CNN_DATASET_FASHION_MNIST;
    ck_assert_str_eq(cnn_model_class_name(model, 1), "cow");
    ck_assert_int_eq(cnn_model_form(model).preparation, CNN_PREPARE_RESIZE);
    free(model->class_names);
    model->class_names = NULL;
    ck_assert_str_eq(cnn_model_class_name(model, 1), "trouser");
    model->dataset = CNN_DATASET_MNIST; /* but the input is 4x4 */
    ck_assert_int_eq(cnn_model_form(model).preparation, CNN_PREPARE_RESIZE);
    cnn_model_free(model);
    CHECK_OK(cnn_model_create("lenet5", &model));
    ck_assert_int_eq(cnn_model_form(model).preparation, CNN_PREPARE_RESIZE);
    ck_assert_ptr_null(cnn_model_class_name(model, 1));
    model->dataset = CNN_DATASET_MNIST;
    ck_assert_int_eq(cnn_model_form(model).preparation, CNN_PREPARE_DIGIT);
    model->preparation = CNN_PREPARE_RESIZE;
    ck_assert_int_eq(cnn_model_form(model).preparation, CNN_PREPARE_RESIZE);
    cnn_model_free(model);
}
END_TEST

START_TEST(bad_names_are_not_written)
{
    static const struct {
        const char *name, *says;
    } cases[] = {{"", "class 1 is empty"},
                 {"a\nb", "control character"},
                 {"\x7F", "control character"},
                 {"\xC2\x9B 2J", "control character"}, /* CSI, as ESC [ */
                 {"caf\xE9", "is not UTF-8"},
                 {"\xED\xA0\x80", "is not UTF-8"},
                 {"cat", "0 and 1 are both called 'cat'"}};
    cnn_file_image image;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cnn_model *model = named("cat", cases[i].name, "dog");
        CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_FORMAT, cases[i].says);
        cnn_model_free(model);
    }
    cnn_model *model = named("cat", "cow", "dog");
    model->preparation = CNN_PREPARE_DIGIT; /* digits are 28x28, the input is 4x4 */
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_SHAPE, "28x28x1", "4x4x1");
    cnn_model_free(model);
}
END_TEST

/* Class names and preparation as they stand in the file. */
static const char fields[] = "\6\14\3cat\3cow\3dog\7\1\2";
enum { FIELDS_BYTES = sizeof fields - 1 };

START_TEST(bad_fields_are_not_read)
{
    static const struct {
        const char *fields, *says;
    } cases[] = {{"\6\14\3cat\3cow\3dog\7\1\2", NULL},
                 {"\6\14\0cat\3cow\3dog\7\1\2", "class 0 is empty"},
                 {"\6\14\3cat\3c\nw\3dog\7\1\2", "class 1 holds a control character"},
                 {"\6\14\3cat\3cow\3do\xE9\7\1\2", "class 2 is not UTF-8"},
                 {"\6\14\3cat\3c\0w\3dog\7\1\2", "class 1 holds a zero byte"},
                 {"\6\14\3cat\3cat\3dog\7\1\2", "0 and 1 are both called 'cat'"},
                 {"\6\14\3cat\3cow\4dog\7\1\2", "a class's name"},
                 {"\6\14\3cat\7cowxdog\7\1\2", "the length of a class's name"},
                 {"\6\14\3cat\3cow\1dog\7\1\2", "the field of class names is 2 bytes too long"},
                 {"\6\14\3cat\3cow\3dog\7\1\0", "in the way 0"},
                 {"\6\14\3cat\3cow\3dog\7\1\3", "in the way 3"},
                 {"\6\14\3cat\3cow\3dog\7\1\1", "28x28x1"}};
    cnn_model *model = named("cat", "cow", "dog");
    model->preparation = CNN_PREPARE_RESIZE;
    size_t size, at = 0;
    uint8_t *data = encode(model, &size);
    cnn_model_free(model);
    while (at + FIELDS_BYTES < size && memcmp(data + at, fields, FIELDS_BYTES) != 0)
        at++;
    ck_assert_uint_lt(at + FIELDS_BYTES, size);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cnn_model *read = NULL;
        memcpy(data + at, cases[i].fields, FIELDS_BYTES);
        uint32_t crc = cnn_crc32c(0, data, size - 4);
        for (size_t k = 0; k < 4; k++)
            data[size - 4 + k] = (uint8_t)(crc >> (8 * k));
        cnn_status status = cnn_file_decode(data, size, "m.cnn", &read);
        ck_assert_msg((status == CNN_OK) == !cases[i].says, "case %zu: %s", i, cnn_last_error());
        if (cases[i].says)
            ck_assert_msg(strstr(cnn_last_error(), cases[i].says) && strstr(cnn_last_error(), "m.cnn: "),
                          "case %zu: %s", i, cnn_last_error());
        cnn_model_free(read);
    }
    free(data);
}
END_TEST

/* A small model as cnn-train makes it of pictures in folders; its bytes do not change. */
START_TEST(golden_file)
{
    cnn_model *model = named("cat", "L\xC3\xB6we", "red disc");
    model->dataset = CNN_DATASET_PICTURES;
    model->preparation = CNN_PREPARE_RESIZE;
    size_t size;
    uint8_t *data = encode(model, &size), file[4096];
    static const char path[] = CNN_SOURCE_DIR "/tests/fuzz/corpus/cnn/tiny-names.cnn";
    if (getenv("CNN_WRITE_GOLDEN"))
        CHECK_OK(cnn_model_save_packed(model, path, CNN_PACK_SMALLEST, NULL));
    FILE *golden = fopen(path, "rb");
    ck_assert_ptr_nonnull(golden);
    ck_assert_uint_eq(fread(file, 1, sizeof file, golden), size);
    fclose(golden);
    ck_assert_mem_eq(file, data, size);
    free(data);
    cnn_model_free(model);
}
END_TEST

static cnn_dataset data_of(char **names, int32_t height, cnn_preparation preparation)
{
    return (cnn_dataset){.id = CNN_DATASET_PICTURES,
                         .height = height,
                         .width = 4,
                         .channels = 1,
                         .classes = 3,
                         .class_names = names,
                         .preparation = preparation};
}

START_TEST(data_that_does_not_suit)
{
    char *ours[] = {"cat", "cow", "dog"}, *others[] = {"cat", "emu", "dog"};
    cnn_model *model = case_tiny();
    cnn_dataset data = data_of(ours, 4, CNN_PREPARE_RESIZE);
    CHECK_OK(cnn_model_check_data(model, &data)); /* it knows no names yet */
    CHECK_OK(cnn_model_set_data(model, &data));
    CHECK_OK(cnn_model_set_data(model, &data)); /* not kept twice */
    CHECK_OK(cnn_model_check_data(model, &data));
    ck_assert_str_eq(cnn_model_class_name(model, 1), "cow");
    data = data_of(others, 4, CNN_PREPARE_RESIZE);
    CHECK_FAILS(cnn_model_check_data(model, &data), CNN_ERR_SHAPE, "class 1", "'cow'", "'emu'");
    data = data_of(ours, 5, CNN_PREPARE_RESIZE);
    CHECK_FAILS(cnn_model_check_data(model, &data), CNN_ERR_SHAPE, "4x4x1", "5x4x1");
    data = data_of(ours, 4, CNN_PREPARE_DIGIT);
    CHECK_FAILS(cnn_model_check_data(model, &data), CNN_ERR_SHAPE, "that were resized", "prepared as digits");
    data = data_of(ours, 4, CNN_PREPARE_RESIZE);
    data.classes = 2;
    CHECK_FAILS(cnn_model_check_data(model, &data), CNN_ERR_SHAPE, "3 classes", "has 2");
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_names");
    TCase *tests = tcase_create("file_names");
    tcase_add_test(tests, names_survive);
    tcase_add_test(tests, who_is_asked);
    tcase_add_test(tests, bad_names_are_not_written);
    tcase_add_test(tests, bad_fields_are_not_read);
    tcase_add_test(tests, golden_file);
    tcase_add_test(tests, data_that_does_not_suit);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
