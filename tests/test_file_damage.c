/* .cnn files that are damaged: cut, longer, every bit flipped, with fields and tables that no writer makes. */
#include "file_case.h"
#include "model_case.h"

#include "core/file.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static file_bytes tiny_file(int which)
{
    cnn_model *model = which == 0 ? case_tiny() : case_tiny_int8();
    file_bytes file = case_encode(model, which == 2);
    cnn_model_free(model);
    return file;
}

START_TEST(test_every_truncation)
{
    file_bytes file = tiny_file(_i);
    CHECK_OK(case_decode(&file, file.size));
    for (size_t size = 0; size < file.size; size++) {
        ck_assert_msg(case_decode(&file, size) == CNN_ERR_FORMAT, "%zu of %zu bytes", size, file.size);
        const char *error = cnn_last_error();
        ck_assert_ptr_nonnull(strstr(error, "m.cnn"));
        if (size > 6) /* then the length of the head is there, and what is missing is known */
            ck_assert_msg(strstr(error, "truncated") != NULL, "%s", error);
    }
    free(file.data);
}
END_TEST

START_TEST(test_bytes_at_the_end)
{
    file_bytes file = tiny_file(_i);
    file.data = realloc(file.data, file.size + 100);
    memset(file.data + file.size, 0, 100);
    for (size_t more = 1; more <= 100; more++)
        CHECK_FAILS(case_decode(&file, file.size + more), CNN_ERR_FORMAT, "more bytes follow");
    free(file.data);
}
END_TEST

START_TEST(test_every_bit_flip)
{
    file_bytes file = tiny_file(_i);
    for (size_t bit = 0; bit < 8 * file.size; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_msg(case_decode(&file, file.size) == CNN_ERR_FORMAT, "bit %zu of byte %zu", bit % 8, bit / 8);
        file.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    CHECK_OK(case_decode(&file, file.size));
    free(file.data);
}
END_TEST

/* Flips behind a CRC that was made right again: whatever the head says then, it is refused or a sound model. */
START_TEST(test_every_bit_flip_resealed)
{
    file_bytes file = tiny_file(_i);
    int accepted = 0, refused = 0;
    for (size_t bit = 8 * 4; bit < 8 * file.head_end; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        case_reseal(&file);
        cnn_status status = case_decode(&file, file.size);
        accepted += status == CNN_OK;
        refused += status != CNN_OK;
        ck_assert_int_ne(status, CNN_ERR_MEMORY);
        file.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    ck_assert_int_gt(refused, 100);
    ck_assert_int_gt(accepted, 10); /* values of weights in the head */
    free(file.data);
}
END_TEST

START_TEST(test_versions)
{
    file_bytes file = tiny_file(0);
    file.data[4] = 2;
    case_reseal(&file);
    CHECK_FAILS(case_decode(&file, file.size), CNN_ERR_FORMAT, "version 2", "version 1", "newer cnnkit");
    file.data[4] = 0;
    CHECK_FAILS(case_decode(&file, file.size), CNN_ERR_FORMAT, "version 0", "version 1");
    free(file.data);
}
END_TEST

START_TEST(test_other_files)
{
    static const struct {
        const char *data;
        size_t size;
        const char *says;
    } files[] = {{"", 0, "empty"},
                 {"\x89PNG\r\n\x1A\n....", 12, "PNG picture"},
                 {"PK\x03\x04....", 8, "PyTorch"},
                 {"\x1F\x8B\x08", 3, "gzip"},
                 {"image = input(", 14, ".cfg"},
                 {"\x01\x02\x03\x04\x05", 5, "something else"},
                 {"\x8F"
                  "CN",
                  3, "only 3 bytes"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        file_bytes file = {.data = (uint8_t *)(uintptr_t)files[i].data, .size = files[i].size};
        CHECK_FAILS(case_decode(&file, file.size), CNN_ERR_FORMAT, "m.cnn", files[i].says);
    }
}
END_TEST

/* Puts a field before the first one with a greater tag. */
static void insert_field(file_bytes *file, uint8_t tag, const void *value, uint8_t length)
{
    /* Heads of tiny models take 128 bytes to 16383: their length is a varint of two bytes, at 5 and 6. */
    size_t head = (size_t)(file->data[5] & 0x7F) | (size_t)file->data[6] << 7, at = 7;
    while (at < 7 + head && file->data[at] < tag) {
        size_t field = file->data[at + 1] & 0x7F;
        size_t skip = 2;
        if (file->data[at + 1] & 0x80) {
            field |= (size_t)file->data[at + 2] << 7;
            skip = 3;
        }
        at += skip + field;
    }
    file_bytes wider = {.size = file->size + 2 + length + 64, .head_end = file->head_end + 2 + length};
    wider.data = calloc(wider.size, 1);
    memcpy(wider.data, file->data, at);
    wider.data[at] = tag;
    wider.data[at + 1] = length;
    memcpy(wider.data + at + 2, value, length);
    memcpy(wider.data + at + 2 + length, file->data + at, file->head_end - at);
    head += 2u + length;
    wider.data[5] = (uint8_t)(head & 0x7F) | 0x80;
    wider.data[6] = (uint8_t)(head >> 7);
    size_t old_area = (file->head_end + 4 + 63) / 64 * 64, area = (wider.head_end + 4 + 63) / 64 * 64;
    memcpy(wider.data + area, file->data + old_area, file->size - old_area);
    wider.size = area + file->size - old_area;
    case_reseal(&wider);
    free(file->data);
    *file = wider;
}

START_TEST(test_unknown_fields)
{
    static const struct {
        uint8_t tag, length;
        const char *value, *says[2]; /* no words: it is read */
    } fields[] = {
        {40, 6, "future", {NULL}},
        {90, 4, "must", {"field 90", "newer cnnkit"}},
        {CNN_TAG_DATASET, 1, "\x63", {"data set 99"}},
        {CNN_TAG_NORMALIZATION, 1, "\x09", {"normalization 9"}},
        {CNN_TAG_NORMALIZATION, 1, "\x01", {NULL}}, /* the id of 0.5, 0.5 */
        {CNN_TAG_SOFTMAX, 1, "\x02", {"ends in the way 2", "newer cnnkit"}},
        {CNN_TAG_SOFTMAX, 2, "\x01\x00", {"what ends the network is 1 bytes too long"}},
        {CNN_TAG_TEXT, 6, "a\x1B[2Jb", {"control character 0x1B"}},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        file_bytes file = tiny_file(0);
        insert_field(&file, fields[i].tag, fields[i].value, fields[i].length);
        if (fields[i].says[0])
            CHECK_FAILS(case_decode(&file, file.size), CNN_ERR_FORMAT, fields[i].says[0], fields[i].says[1]);
        else
            CHECK_OK(case_decode(&file, file.size));
        free(file.data);
    }
}
END_TEST

/* An entry of the tensor table of tiny-int8: node 1, weight, i8, dims and scales, dense, raw, [2,3,3,1], 18 bytes. */
static const uint8_t entry[] = {1, 0, CNN_I8, 3, 0, 0, 2, 3, 3, 1, 36};

START_TEST(test_table_entries)
{
    static const struct {
        size_t at;
        uint8_t value;
        const char *says;
    } cases[] = {
        {0, 9, "is 9, but at most 4"},
        {0, 0, "no such parameter"},
        {1, 2, "conv1.gamma"},
        {1, 1, "element type"},
        {1, 9, "role"},
        {2, CNN_F32, "is not i8 but has scales"},
        {2, CNN_F16, "element type 2"},
        {3, 1, "lacks its scales"},
        {3, 16 | 3, "flags 0x13"},
        {3, 4 | 8 | 3, "two masks"},
        {4, 7, "structure 7"},
        {5, 1, "parameters"},
        {5, 2, "parameters"},
        {5, 4, "low-bit"},
        {5, 77, "77 (unknown)"},
        {6, 3, "[3,3,3,1]"},
        {10, 34, "conv1.weight takes 17"},
        {10, 37, "conv1.weight lies at offset"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file_bytes file = tiny_file(1);
        uint8_t changed[sizeof entry];
        memcpy(changed, entry, sizeof entry);
        changed[cases[i].at] = cases[i].value;
        case_patch_head(&file, entry, changed, sizeof entry);
        CHECK_FAILS(case_decode(&file, file.size), CNN_ERR_FORMAT, "m.cnn: byte ", cases[i].says);
        free(file.data);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_damage");
    TCase *tests = tcase_create("file_damage");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, test_every_truncation, 0, 3);
    tcase_add_loop_test(tests, test_bytes_at_the_end, 0, 3);
    tcase_add_loop_test(tests, test_every_bit_flip, 0, 3);
    tcase_add_loop_test(tests, test_every_bit_flip_resealed, 0, 3);
    tcase_add_test(tests, test_versions);
    tcase_add_test(tests, test_other_files);
    tcase_add_test(tests, test_unknown_fields);
    tcase_add_test(tests, test_table_entries);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
