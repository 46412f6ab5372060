/* NumPy arrays: read back, cut anywhere, headers that say something else. */
#include "cnn/status.h"
#include "core/npy.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER = 128, BYTES = 6 };

static char path[64];

static void set_up(void)
{
    snprintf(path, sizeof path, "/tmp/cnn-test-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
}

static void tear_down(void)
{
    unlink(path);
}

static void put(const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, bytes, file), bytes);
    ck_assert_int_eq(fclose(file), 0);
}

/* Writes a file of this version with this text as its header, filled up to HEADER bytes, and 6 bytes of values. */
static void put_array(int version, const char *text)
{
    uint8_t file[HEADER + BYTES];
    const size_t start = version == 1 ? 10 : 12;
    memset(file, ' ', HEADER);
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (uint8_t)version;
    file[7] = 0;
    memset(file + 8, 0, start - 8);
    file[8] = (uint8_t)(HEADER - start);
    memcpy(file + start, text, strlen(text));
    file[HEADER - 1] = '\n';
    memcpy(file + HEADER, "\1\2\3\4\5\6", BYTES);
    put(file, sizeof file);
}

static void check_good(int rank, int64_t first)
{
    cnn_npy array;
    ck_assert_msg(cnn_npy_read(&array, path) == CNN_OK, "%s", cnn_last_error());
    ck_assert_int_eq(array.dtype, CNN_U8);
    ck_assert_int_eq(array.rank, rank);
    ck_assert_int_eq(array.dims[0], first);
    ck_assert_int_eq(array.count, BYTES);
    ck_assert_mem_eq(array.data, "\1\2\3\4\5\6", BYTES);
    cnn_npy_close(&array);
}

static void check_bad(cnn_status expected, const char *word)
{
    cnn_npy array;
    ck_assert_int_eq(cnn_npy_read(&array, path), expected);
    ck_assert_msg(strstr(cnn_last_error(), path) && strstr(cnn_last_error(), word), "'%s' lacks '%s'", cnn_last_error(),
                  word);
}

START_TEST(reads_every_version_and_order)
{
    put_array(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }");
    check_good(2, 2);
    put_array(2, "{'descr': '|u1', 'fortran_order': False, 'shape': (6,), }");
    check_good(1, 6);
    put_array(3, "{'shape':(1,2,3,1),'descr':'|u1','fortran_order':False}");
    check_good(4, 1);
}
END_TEST

START_TEST(refuses_other_headers)
{
    static const char *const bad[] = {
        "",
        "{}",
        "{'descr': '|u1', 'fortran_order': False}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3)",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, -3), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3, }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 6, }",
        "{'descr': '|u1', 'fortran_order': 0, 'shape': (6,), }",
        "{'descr': |u1, 'fortran_order': False, 'shape': (6,), }",
        "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (6,), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (6,), 'more': 1}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (6,), } 1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_array(1, bad[i]);
        check_bad(CNN_ERR_FORMAT, "header");
    }
    put_array(1, "{'descr': '<f8', 'fortran_order': False, 'shape': (6,), }");
    check_bad(CNN_ERR_UNSUPPORTED, "'<f8'");
    put_array(1, "{'descr': '|u1', 'fortran_order': True, 'shape': (6,), }");
    check_bad(CNN_ERR_UNSUPPORTED, "Fortran");
    put_array(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1, 1, 6), }");
    check_bad(CNN_ERR_UNSUPPORTED, "more than 4 dimensions");
    put_array(4, "{'descr': '|u1', 'fortran_order': False, 'shape': (6,), }");
    check_bad(CNN_ERR_UNSUPPORTED, "format 4.0");
}
END_TEST

START_TEST(sizes_must_match)
{
    static const char *const shapes[] = {"(7,)", "(5,)", "(2, 2)", "(0,)", "(6, 0)", "()", "(2, 3, 2)"};
    char text[128];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        snprintf(text, sizeof text, "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }", shapes[i]);
        put_array(1, text);
        check_bad(CNN_ERR_FORMAT, "holds 6 bytes");
    }
    put_array(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"); /* and a half */
    check_bad(CNN_ERR_FORMAT, "asks for 4");
    put_array(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999999,), }");
    check_bad(CNN_ERR_FORMAT, "2^34");
    put_array(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (65536, 65536, 65536, 65542), }");
    check_bad(CNN_ERR_FORMAT, "2^34");
    put_array(1, "{'descr': '|u1', 'fortran_order': False, 'shape': (8589934592, 2147483648), }"); /* 2^64 */
    check_bad(CNN_ERR_FORMAT, "2^34");
}
END_TEST

START_TEST(cut_anywhere)
{
    uint8_t file[HEADER + BYTES];
    put_array(2, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }");
    FILE *whole = fopen(path, "rb");
    ck_assert_uint_eq(fread(file, 1, sizeof file, whole), sizeof file);
    fclose(whole);
    for (size_t bytes = 0; bytes < sizeof file; bytes++) {
        put(file, bytes);
        check_bad(CNN_ERR_FORMAT, "");
    }
    put(file, sizeof file);
    check_good(2, 2);
}
END_TEST

START_TEST(reads_what_it_writes)
{
    static const float values[6] = {1, -2, 0.5f, 3e38f, 0, -0.0f};
    cnn_npy array;
    ck_assert_int_eq(cnn_npy_write(path, 2, 3, values), CNN_OK);
    ck_assert_int_eq(cnn_npy_read(&array, path), CNN_OK);
    ck_assert_int_eq(array.dtype, CNN_F32);
    ck_assert_int_eq(array.rank, 2);
    ck_assert_int_eq(array.dims[0], 2);
    ck_assert_int_eq(array.dims[1], 3);
    ck_assert_uint_eq((size_t)(array.data - array.file.data) % 64, 0);
    ck_assert_mem_eq(array.data, values, sizeof values); /* on little-endian machines, where tests run */
    cnn_npy_close(&array);
    ck_assert_int_eq(cnn_npy_write("/nowhere/x.npy", 2, 3, values), CNN_ERR_IO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("npy");
    TCase *files = tcase_create("files");
    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_test(files, reads_every_version_and_order);
    tcase_add_test(files, refuses_other_headers);
    tcase_add_test(files, sizes_must_match);
    tcase_add_test(files, cut_anywhere);
    tcase_add_test(files, reads_what_it_writes);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
