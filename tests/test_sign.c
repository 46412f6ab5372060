/* Signed models: what the key signed is read, and nothing else, whatever byte of it is another. */
#include "tests/model_case.h"

#include "cnn/sign.h"
#include "core/file.h"
#include "core/sign.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_BYTES = 4096, FOLDER_BYTES = 64 };

static char folder[FOLDER_BYTES];

static const char *in(const char *name)
{
    static char path[4][FOLDER_BYTES + 256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static size_t read_file(const char *name, uint8_t *data)
{
    FILE *file = fopen(in(name), "rb");
    ck_assert_ptr_nonnull(file);
    const size_t size = fread(data, 1, MOST_BYTES, file);
    fclose(file);
    return size;
}

static void write_file(const char *name, const void *data, size_t size)
{
    FILE *file = fopen(in(name), "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    fclose(file);
}

/* A model, two keys, and the model signed with the first. */
static void set_up(void)
{
    snprintf(folder, sizeof folder, "/tmp/cnn-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    cnn_model *model = case_tiny_int8();
    CHECK_OK(cnn_model_save(model, in("model.cnn"), NULL));
    cnn_model_free(model);
    CHECK_OK(cnn_key_create(in("me")));
    CHECK_OK(cnn_key_create(in("you")));
    CHECK_OK(cnn_model_sign(in("model.cnn"), in("me.key"), in("signed.cnn"), NULL));
}

static void tear_down(void)
{
    DIR *dir = opendir(folder);
    for (struct dirent *entry = dir ? readdir(dir) : NULL; entry; entry = readdir(dir))
        if (entry->d_name[0] != '.')
            unlink(in(entry->d_name));
    if (dir)
        closedir(dir);
    rmdir(folder);
}

START_TEST(signed_models_are_read)
{
    uint8_t plain[MOST_BYTES], with[MOST_BYTES];
    cnn_model *model, *same, *unasked;
    CHECK_OK(cnn_model_load(in("model.cnn"), &model));
    CHECK_OK(cnn_model_load_signed(in("signed.cnn"), in("me.pub"), &same));
    CHECK_OK(cnn_model_load(in("signed.cnn"), &unasked)); /* who does not ask reads it as it was */
    case_check_equal(model, same);
    case_check_equal(model, unasked);
    ck_assert(unasked->is_signed && !model->is_signed);
    cnn_model_free(model);
    cnn_model_free(same);
    cnn_model_free(unasked);

    const size_t size = read_file("model.cnn", plain);
    ck_assert_uint_eq(read_file("signed.cnn", with), size + CNN_SIGNATURE_BYTES);
    ck_assert_mem_eq(plain, with, size);
}
END_TEST

START_TEST(copies_keep_their_signature)
{
    uint8_t data[MOST_BYTES];
    cnn_model *model;
    write_file("copy.cnn", data, read_file("signed.cnn", data));
    CHECK_OK(cnn_model_load_signed(in("copy.cnn"), in("me.pub"), &model));
    CHECK_OK(cnn_model_save(model, in("again.cnn"), NULL)); /* a new file has none */
    cnn_model_free(model);
    CHECK_FAILS(cnn_model_load_signed(in("again.cnn"), in("me.pub"), &model), CNN_ERR_FORMAT, "not signed");
}
END_TEST

START_TEST(a_second_signature_replaces_the_first)
{
    uint8_t one[MOST_BYTES], two[MOST_BYTES];
    cnn_model *model;
    const size_t size = read_file("signed.cnn", one);
    CHECK_OK(cnn_model_sign(in("signed.cnn"), in("you.key"), in("signed.cnn"), NULL));
    ck_assert_uint_eq(read_file("signed.cnn", two), size);
    CHECK_OK(cnn_model_load_signed(in("signed.cnn"), in("you.pub"), &model));
    cnn_model_free(model);
    CHECK_FAILS(cnn_model_load_signed(in("signed.cnn"), in("me.pub"), &model), CNN_ERR_FORMAT, "another key than",
                "me.pub");
    CHECK_OK(cnn_model_sign(in("signed.cnn"), in("me.key"), in("signed.cnn"), NULL));
    read_file("signed.cnn", two);
    ck_assert_mem_eq(one, two, size); /* the same key and bytes give the same signature */
}
END_TEST

/* Whatever is refused is refused for its signature: nothing else was read. */
static void check_refused(const uint8_t *data, size_t size, const char *what, size_t at)
{
    cnn_model *model = NULL;
    write_file("other.cnn", data, size);
    const cnn_status status = cnn_model_load_signed(in("other.cnn"), in("me.pub"), &model);
    ck_assert_msg(status == CNN_ERR_FORMAT && !model && strstr(cnn_last_error(), "is refused: it"), "%s %zu: %s", what,
                  at, cnn_last_error());
}

START_TEST(any_other_byte_is_refused)
{
    uint8_t data[MOST_BYTES];
    const size_t size = read_file("signed.cnn", data);
    for (size_t i = 0; i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            data[i] ^= (uint8_t)(1 << bit);
            check_refused(data, size, "byte", i);
            data[i] ^= (uint8_t)(1 << bit);
        }
    for (size_t i = 1; i < size; i++) {
        check_refused(data, i, "cut at", i);
        check_refused(data + i, size - i, "begun at", i);
    }
    data[size] = 0;
    check_refused(data, size + 1, "longer by", 1);
}
END_TEST

START_TEST(keys_are_not_overwritten)
{
    struct stat info;
    ck_assert_int_eq(stat(in("me.key"), &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0600);
    CHECK_FAILS(cnn_key_create(in("me")), CNN_ERR_IO, "me.key", "not overwritten");
    ck_assert_int_eq(unlink(in("me.key")), 0);
    CHECK_FAILS(cnn_key_create(in("me")), CNN_ERR_IO, "me.pub", "not overwritten");
    ck_assert_int_ne(access(in("me.key"), F_OK), 0); /* half a key is none */
    CHECK_FAILS(cnn_key_create(in("no/folder")), CNN_ERR_IO, "cannot be made");
}
END_TEST

START_TEST(what_is_no_key_is_refused)
{
    uint8_t key[MOST_BYTES];
    cnn_model *model = NULL;
    const size_t size = read_file("me.pub", key);
    CHECK_FAILS(cnn_model_load_signed(in("signed.cnn"), in("me.key"), &model), CNN_ERR_FORMAT, "not a public key");
    CHECK_FAILS(cnn_model_sign(in("model.cnn"), in("me.pub"), in("x.cnn"), NULL), CNN_ERR_FORMAT, "not a secret key");
    CHECK_FAILS(cnn_model_load_signed(in("signed.cnn"), in("none.pub"), &model), CNN_ERR_IO, "no such file");
    for (size_t length = 0; length + 1 < size; length++) { /* the newline may be missing */
        write_file("cut.pub", key, length);
        CHECK_FAILS(cnn_model_load_signed(in("signed.cnn"), in("cut.pub"), &model), CNN_ERR_FORMAT, "not a public key");
    }
    key[30] = 'g';
    write_file("cut.pub", key, size);
    CHECK_FAILS(cnn_model_load_signed(in("signed.cnn"), in("cut.pub"), &model), CNN_ERR_FORMAT, "not a public key");
    write_file("text.cnn", "no model", 8);
    CHECK_FAILS(cnn_model_sign(in("text.cnn"), in("me.key"), in("x.cnn"), NULL), CNN_ERR_FORMAT, "text.cnn");
    ck_assert_int_ne(access(in("x.cnn"), F_OK), 0);
}
END_TEST

START_TEST(a_build_without_says_so)
{
    cnn_model *model = NULL;
    CHECK_FAILS(cnn_key_create("me"), CNN_ERR_UNSUPPORTED, "libsodium");
    CHECK_FAILS(cnn_model_sign("a", "b", "c", NULL), CNN_ERR_UNSUPPORTED, "libsodium");
    CHECK_FAILS(cnn_model_load_signed("a", "b", &model), CNN_ERR_UNSUPPORTED, "libsodium");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sign");
    TCase *tcase = tcase_create("sign");
    if (cnn_can_sign()) {
        tcase_add_checked_fixture(tcase, set_up, tear_down);
        tcase_add_test(tcase, signed_models_are_read);
        tcase_add_test(tcase, copies_keep_their_signature);
        tcase_add_test(tcase, a_second_signature_replaces_the_first);
        tcase_add_test(tcase, any_other_byte_is_refused);
        tcase_add_test(tcase, keys_are_not_overwritten);
        tcase_add_test(tcase, what_is_no_key_is_refused);
    } else {
        tcase_add_test(tcase, a_build_without_says_so);
    }
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
