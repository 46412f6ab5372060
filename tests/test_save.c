/* Saving: what fails leaves the old file whole and no temporary one, and says what to do. */
#define _DEFAULT_SOURCE /* seteuid, symlinks */
#include "model_case.h"

#include "core/save.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Each test runs in an empty folder of its own. */
static char folder[] = "test_save_XXXXXX";

static void enter_folder(void)
{
    memcpy(folder, "test_save_XXXXXX", sizeof folder);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(chdir(folder), 0);
}

static int count_files(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void leave_folder(void)
{
    DIR *dir = opendir(".");
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (entry->d_name[0] != '.' && unlink(entry->d_name) != 0)
            rmdir(entry->d_name);
    closedir(dir);
    ck_assert_int_eq(chdir(".."), 0);
    rmdir(folder);
}

static void check_content(const char *path, const char *content)
{
    char data[256] = {0};
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    size_t length = fread(data, 1, sizeof data - 1, file);
    fclose(file);
    ck_assert_uint_eq(length, strlen(content));
    ck_assert_str_eq(data, content);
}

/* root may write everywhere. Tests of what others may not do, and of system devices, which a mistake here must not
 * be able to replace, play somebody else between these two. */
static void become_nobody(void)
{
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
}

static void become_myself(void)
{
    ck_assert_int_eq(seteuid(getuid()), 0);
}

START_TEST(test_writes_and_replaces)
{
    CHECK_OK(cnn_save_file("out", "first", 5));
    check_content("out", "first");
    ck_assert_int_eq(chmod("out", 0640), 0);
    CHECK_OK(cnn_save_file("out", "second one", 10));
    check_content("out", "second one");
    struct stat info;
    ck_assert_int_eq(stat("out", &info), 0);
    ck_assert_int_eq(info.st_mode & 07777, 0640);
    CHECK_OK(cnn_save_file("empty", "", 0));
    check_content("empty", "");
    ck_assert_int_eq(count_files("."), 2);
}
END_TEST

START_TEST(test_large_file_in_pieces)
{
    cnn_save save = {0};
    uint8_t piece[1000];
    CHECK_OK(cnn_save_begin(&save, "large"));
    for (int i = 0; i < 300; i++) {
        memset(piece, i, sizeof piece);
        CHECK_OK(cnn_save_write(&save, piece, sizeof piece));
    }
    CHECK_OK(cnn_save_commit(&save));
    FILE *file = fopen("large", "rb");
    for (int i = 0; i < 300; i++) {
        ck_assert_uint_eq(fread(piece, 1, sizeof piece, file), sizeof piece);
        for (size_t k = 0; k < sizeof piece; k++)
            ck_assert_uint_eq(piece[k], (uint8_t)i);
    }
    ck_assert_int_eq(fgetc(file), EOF);
    fclose(file);
}
END_TEST

START_TEST(test_abort_leaves_nothing)
{
    cnn_save save = {0};
    CHECK_OK(cnn_save_file("out", "old", 3));
    CHECK_OK(cnn_save_begin(&save, "out"));
    CHECK_OK(cnn_save_write(&save, "new", 3));
    cnn_save_abort(&save);
    check_content("out", "old");
    ck_assert_int_eq(count_files("."), 1);
}
END_TEST

START_TEST(test_disk_full)
{
    /* A limit on file sizes fails in the same place as a full disk. */
    static uint8_t data[300000];
    struct rlimit old, limit;
    CHECK_OK(cnn_save_file("out", "old", 3));
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = 100000;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cnn_status status = cnn_save_file("out", data, sizeof data);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    CHECK_FAILS(status, CNN_ERR_IO, "out: cannot write it", "File too large", "ulimit");
    check_content("out", "old");
    ck_assert_int_eq(count_files("."), 1);
    become_nobody();
    status = cnn_save_file("/dev/full", "data", 4);
    become_myself();
    CHECK_FAILS(status, CNN_ERR_IO, "/dev/full: cannot write it", strerror(ENOSPC), "free some space");
}
END_TEST

START_TEST(test_bad_places)
{
    ck_assert_int_eq(mkdir("sub", 0777), 0);
    CHECK_FAILS(cnn_save_file("", "x", 1), CNN_ERR_USAGE, "empty");
    CHECK_FAILS(cnn_save_file("none/out", "x", 1), CNN_ERR_IO, "none/out: there is no folder none");
    CHECK_FAILS(cnn_save_file("sub", "x", 1), CNN_ERR_IO, "sub: is a folder");
    CHECK_FAILS(cnn_save_file("sub/", "x", 1), CNN_ERR_IO, "sub/: is a folder");
    CHECK_OK(cnn_save_file("file", "x", 1));
    CHECK_FAILS(cnn_save_file("file/out", "x", 1), CNN_ERR_IO, "file/out: ");
    char name[400];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    CHECK_FAILS(cnn_save_file(name, "x", 1), CNN_ERR_IO, "shorter name");
    ck_assert_int_eq(count_files("sub"), 0);
    ck_assert_int_eq(count_files("."), 2);
}
END_TEST

START_TEST(test_read_only)
{
    ck_assert_int_eq(mkdir("locked", 0755), 0);
    CHECK_OK(cnn_save_file("locked/out", "old", 3));
    CHECK_OK(cnn_save_file("mine", "old", 3));
    ck_assert_int_eq(chmod("locked", 0555), 0);
    ck_assert_int_eq(chmod("mine", 0444), 0);
    ck_assert_int_eq(chmod(".", 0777), 0);
    become_nobody();
    cnn_status status = cnn_save_file("locked/new", "x", 1);
    CHECK_FAILS(status, CNN_ERR_IO, "locked/new: cannot create a file", strerror(EACCES),
                "a folder that you may write to");
    status = cnn_save_file("mine", "x", 1);
    CHECK_FAILS(status, CNN_ERR_IO, "mine: cannot replace it", "make it writable");
    become_myself();
    check_content("locked/out", "old");
    check_content("mine", "old");
    ck_assert_int_eq(count_files("locked"), 1);
    ck_assert_int_eq(count_files("."), 2);
    ck_assert_int_eq(chmod("locked", 0755), 0);
    unlink("locked/out");
}
END_TEST

START_TEST(test_links_and_pipes)
{
    char data[16] = {0};
    struct stat info;
    CHECK_OK(cnn_save_file("real", "old", 3));
    ck_assert_int_eq(symlink("real", "link"), 0);
    CHECK_OK(cnn_save_file("link", "new", 3));
    check_content("real", "new");
    ck_assert_int_eq(lstat("link", &info), 0);
    ck_assert(S_ISLNK(info.st_mode));

    /* A pipe, as any device, is written, not replaced. */
    ck_assert_int_eq(mkfifo("pipe", 0600), 0);
    int fd = open("pipe", O_RDONLY | O_NONBLOCK);
    ck_assert_int_ge(fd, 0);
    CHECK_OK(cnn_save_file("pipe", "through", 7));
    ck_assert_int_eq(read(fd, data, sizeof data), 7);
    ck_assert_str_eq(data, "through");
    close(fd);
    ck_assert_int_eq(stat("pipe", &info), 0);
    ck_assert(S_ISFIFO(info.st_mode));
    ck_assert_int_eq(count_files("."), 3);
}
END_TEST

START_TEST(test_models)
{
    cnn_model *model = case_tiny(), *again = NULL;
    size_t bytes = 0;
    CHECK_OK(cnn_model_save(model, "m.cnn", &bytes));
    struct stat info;
    ck_assert_int_eq(stat("m.cnn", &info), 0);
    ck_assert_uint_eq(bytes, (size_t)info.st_size);
    CHECK_OK(cnn_model_load("m.cnn", &again));
    case_check_equal(model, again);

    /* A model that must not be written leaves the one that is there. */
    ((float *)model->nodes[1].param[CNN_PARAM_WEIGHT].data)[0] = 1.0f / 0.0f;
    CHECK_FAILS(cnn_model_save(model, "m.cnn", NULL), CNN_ERR_NUMERIC, "m.cnn: not written", "conv1.weight holds inf");
    cnn_model_free(model);
    CHECK_OK(cnn_model_load("m.cnn", &model));
    case_check_equal(model, again);
    cnn_model_free(model);
    cnn_model_free(again);

    CHECK_FAILS(cnn_model_load("none.cnn", &model), CNN_ERR_IO, "none.cnn: there is no such file");
    CHECK_FAILS(cnn_model_load(".", &model), CNN_ERR_IO, ".: is a folder");
    CHECK_OK(cnn_save_file("empty.cnn", "", 0));
    CHECK_FAILS(cnn_model_load("empty.cnn", &model), CNN_ERR_FORMAT, "empty.cnn: is empty");
    CHECK_FAILS(cnn_model_load("/dev/null", &model), CNN_ERR_IO, "/dev/null: is a device");
    CHECK_FAILS(cnn_model_create("m.cnn", &model), CNN_ERR_FORMAT, "m.cnn: is a trained model");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("save");
    TCase *tests = tcase_create("save");
    tcase_add_checked_fixture(tests, enter_folder, leave_folder);
    tcase_add_test(tests, test_writes_and_replaces);
    tcase_add_test(tests, test_large_file_in_pieces);
    tcase_add_test(tests, test_abort_leaves_nothing);
    tcase_add_test(tests, test_disk_full);
    tcase_add_test(tests, test_bad_places);
    tcase_add_test(tests, test_read_only);
    tcase_add_test(tests, test_links_and_pipes);
    tcase_add_test(tests, test_models);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
