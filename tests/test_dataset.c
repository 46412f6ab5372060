/* Data sets: IDX files good and bad, finding and fetching them. */
#include "cnn/dataset.h"
#include "core/dataset.h"
#include "core/memory.h"
#include "tests/folder.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { IMAGE = 28 * 28, COUNT = 30, IMAGES_BYTES = 16 + COUNT * IMAGE, LABELS_BYTES = 8 + COUNT };

static uint8_t images[IMAGES_BYTES + 1]; /* a good file, then one byte too many */
static uint8_t labels[LABELS_BYTES + 1];

/* ---- Files ---- */

static void big_endian(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void set_up(void)
{
    make_folder();
    big_endian(images, 0x803);
    big_endian(images + 4, COUNT);
    big_endian(images + 8, 28);
    big_endian(images + 12, 28);
    for (int i = 16; i <= IMAGES_BYTES; i++)
        images[i] = (uint8_t)(i * 7);
    big_endian(labels, 0x801);
    big_endian(labels + 4, COUNT);
    for (int i = 8; i <= LABELS_BYTES; i++)
        labels[i] = (uint8_t)(i % 10);
}

static void put_good(void)
{
    put("train-images-idx3-ubyte", images, IMAGES_BYTES);
    put("train-labels-idx1-ubyte", labels, LABELS_BYTES);
}

static cnn_status load(const char *name, cnn_dataset **dataset)
{
    cnn_dataset_options options = {.dir = folder};
    return cnn_dataset_load(name, CNN_SUBSET_TRAIN, &options, dataset);
}

/* The load must succeed with the bytes that were written. */
static void check_good(void)
{
    cnn_dataset *dataset;
    ck_assert_msg(load("mnist", &dataset) == CNN_OK, "%s", cnn_last_error());
    ck_assert_int_eq(dataset->id, CNN_DATASET_MNIST);
    ck_assert_int_eq(dataset->count, COUNT);
    ck_assert_int_eq(dataset->height, 28);
    ck_assert_int_eq(dataset->width, 28);
    ck_assert_int_eq(dataset->channels, 1);
    ck_assert_int_eq(dataset->classes, 10);
    ck_assert_mem_eq(dataset->images, images + 16, COUNT * IMAGE);
    ck_assert_mem_eq(dataset->labels, labels + 8, COUNT);
    cnn_dataset_free(dataset);
}

/* The load must fail with a sentence that holds each of the words. */
static void check_bad(cnn_status expected, const char *first, const char *second)
{
    cnn_dataset *dataset = NULL;
    ck_assert_int_eq(load("mnist", &dataset), expected);
    ck_assert_ptr_null(dataset);
    ck_assert_msg(strstr(cnn_last_error(), first) && strstr(cnn_last_error(), second), "'%s' lacks '%s' or '%s'",
                  cnn_last_error(), first, second);
}

/* ---- Reading ---- */

START_TEST(reads_every_name_and_form)
{
    put_good();
    check_good();
    tear_down();
    set_up();
    put_gz("train-images-idx3-ubyte.gz", images, IMAGES_BYTES);
    put("train-labels.idx1-ubyte", labels, LABELS_BYTES);
    check_good();
    tear_down();
    set_up();
    put_gz("train-images.idx3-ubyte.gz", images, IMAGES_BYTES);
    put_gz("train-labels-idx1-ubyte.gz", labels, LABELS_BYTES);
    check_good();
}
END_TEST

START_TEST(own_folder_comes_first)
{
    uint8_t other = labels[8];
    labels[8] = 9;
    put_good();
    labels[8] = other;
    ck_assert_int_eq(mkdir(in_folder("mnist"), 0777), 0);
    put("mnist/train-images-idx3-ubyte", images, IMAGES_BYTES);
    cnn_dataset *dataset;
    ck_assert_int_eq(load("mnist", &dataset), CNN_OK); /* the pair in the folder itself: mnist/ lacks labels */
    ck_assert_int_eq(dataset->labels[0], 9);
    cnn_dataset_free(dataset);
    put("mnist/train-labels-idx1-ubyte", labels, LABELS_BYTES);
    check_good();
}
END_TEST

START_TEST(truncated_at_every_length)
{
    char at[32];
    put("train-images-idx3-ubyte", images, IMAGES_BYTES);
    for (size_t bytes = 0; bytes < LABELS_BYTES; bytes++) {
        put("train-labels-idx1-ubyte", labels, bytes);
        snprintf(at, sizeof at, "ends at byte %zu", bytes);
        check_bad(CNN_ERR_FORMAT, "train-labels-idx1-ubyte", at);
    }
    put("train-labels-idx1-ubyte", labels, LABELS_BYTES);
    for (size_t bytes = 0; bytes < IMAGES_BYTES; bytes += bytes < 40 ? 1 : 1021) {
        put("train-images-idx3-ubyte", images, bytes);
        snprintf(at, sizeof at, "ends at byte %zu", bytes);
        check_bad(CNN_ERR_FORMAT, "train-images-idx3-ubyte", at);
    }
}
END_TEST

START_TEST(truncated_gzip_at_every_length)
{
    uint8_t packed[4096];
    put("train-images-idx3-ubyte", images, IMAGES_BYTES);
    size_t bytes = put_gz("whole.gz", labels, LABELS_BYTES);
    FILE *file = fopen(in_folder("whole.gz"), "rb");
    ck_assert_uint_eq(fread(packed, 1, sizeof packed, file), bytes);
    fclose(file);
    for (size_t length = 0; length < bytes; length++) {
        put("train-labels-idx1-ubyte.gz", packed, length);
        check_bad(CNN_ERR_FORMAT, "train-labels-idx1-ubyte.gz", "byte");
    }
    for (size_t flipped = 0; flipped < bytes; flipped++) { /* what zlib lets pass must still be the same bytes */
        packed[flipped] ^= 16;
        put("train-labels-idx1-ubyte.gz", packed, bytes);
        cnn_dataset *dataset;
        if (load("mnist", &dataset) == CNN_OK) {
            ck_assert_mem_eq(dataset->labels, labels + 8, COUNT);
            cnn_dataset_free(dataset);
        }
        packed[flipped] ^= 16;
    }
    packed[bytes - 6] ^= 1; /* the checksum */
    put("train-labels-idx1-ubyte.gz", packed, bytes);
    check_bad(CNN_ERR_FORMAT, "train-labels-idx1-ubyte.gz", "damaged gzip");
}
END_TEST

/* So large that zlib has not yet met the checksum when the last pixel is read. */
START_TEST(wrong_checksum_of_a_large_file)
{
    enum { MANY = 1500, BYTES = 16 + MANY * IMAGE };
    uint8_t *data = calloc(BYTES, 1);
    memcpy(data, images, 16);
    big_endian(data + 4, MANY);
    size_t packed = put_gz("large.gz", data, BYTES);
    int32_t sizes[3];
    uint8_t *read = NULL;
    ck_assert_int_eq(cnn_idx_read(in_folder("large.gz"), 3, sizes, &read), CNN_OK);
    ck_assert_int_eq(sizes[0], MANY);
    free(read);
    free(data);
    FILE *file = fopen(in_folder("large.gz"), "r+b");
    ck_assert_int_eq(fseek(file, (long)packed - 6, SEEK_SET), 0);
    int byte = fgetc(file);
    ck_assert_int_eq(fseek(file, (long)packed - 6, SEEK_SET), 0);
    fputc(byte ^ 1, file);
    fclose(file);
    ck_assert_int_eq(cnn_idx_read(in_folder("large.gz"), 3, sizes, &read), CNN_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "damaged gzip"));
}
END_TEST

START_TEST(more_bytes_than_promised)
{
    put_good();
    put("train-labels-idx1-ubyte", labels, LABELS_BYTES + 1);
    check_bad(CNN_ERR_FORMAT, "train-labels-idx1-ubyte", "at byte 38");
    put("train-labels-idx1-ubyte", labels, LABELS_BYTES);
    put("train-images-idx3-ubyte", images, IMAGES_BYTES + 1);
    check_bad(CNN_ERR_FORMAT, "train-images-idx3-ubyte", "at byte 23536");
}
END_TEST

START_TEST(wrong_headers)
{
    put_good();
    put("train-images-idx3-ubyte", labels, LABELS_BYTES);
    check_bad(CNN_ERR_FORMAT, "train-images-idx3-ubyte", "0x00000801 at byte 0");
    put("train-images-idx3-ubyte", "\x89PNG and more", 12);
    check_bad(CNN_ERR_FORMAT, "train-images-idx3-ubyte", "0x89504e47 at byte 0");
    images[2] = 0x0D; /* floats */
    put("train-images-idx3-ubyte", images, IMAGES_BYTES);
    check_bad(CNN_ERR_FORMAT, "train-images-idx3-ubyte", "0x00000d03 at byte 0");
    images[2] = 8;
    big_endian(images + 8, 0);
    put("train-images-idx3-ubyte", images, IMAGES_BYTES);
    check_bad(CNN_ERR_FORMAT, "train-images-idx3-ubyte", "byte 8 is 0");
    big_endian(images + 8, 28);
    big_endian(images + 12, 14); /* twice as many images of half the width would be the same bytes */
    big_endian(images + 4, 2 * COUNT);
    put("train-images-idx3-ubyte", images, IMAGES_BYTES);
    check_bad(CNN_ERR_FORMAT, "train-labels-idx1-ubyte", "holds 60 images");
}
END_TEST

/* Headers that promise far more than the file holds must not make the reader allocate it. */
START_TEST(sizes_that_lie)
{
    static const uint32_t lies[][3] = {
        {60000, 28, 28},   {0x7fffffff, 1, 1}, {0xffffffff, 28, 28},        {1, 0x80000000, 1},
        {65536, 65536, 1}, {2, 2, 0xffffffff}, {0x10000, 0x10000, 0x10000}, {0xffffffff, 0xffffffff, 0xffffffff}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        for (int packed = 0; packed < 2; packed++) {
            for (int k = 0; k < 3; k++)
                big_endian(images + 4 + 4 * k, lies[i][k]);
            remove_folder(folder);
            ck_assert_int_eq(mkdir(folder, 0777), 0);
            put("train-labels-idx1-ubyte", labels, LABELS_BYTES);
            if (packed)
                put_gz("train-images-idx3-ubyte.gz", images, IMAGES_BYTES);
            else
                put("train-images-idx3-ubyte", images, IMAGES_BYTES);
            check_bad(CNN_ERR_FORMAT, "train-images-idx3-ubyte", "byte");
            int32_t sizes[3];
            uint8_t *data;
            const char *path = in_folder(packed ? "train-images-idx3-ubyte.gz" : "train-images-idx3-ubyte");
            cnn_memory_fail_at(0);
            ck_assert_int_eq(cnn_idx_read(path, 3, sizes, &data), CNN_ERR_FORMAT);
            ck_assert_int_eq(cnn_memory_count(), 0);
        }
}
END_TEST

START_TEST(images_and_labels_must_match)
{
    put_good();
    big_endian(labels + 4, COUNT - 1);
    put("train-labels-idx1-ubyte", labels, LABELS_BYTES - 1);
    check_bad(CNN_ERR_FORMAT, "29 labels (at byte 4)", "30 images");
    big_endian(labels + 4, COUNT);
    labels[8 + 17] = 10;
    put("train-labels-idx1-ubyte", labels, LABELS_BYTES);
    check_bad(CNN_ERR_FORMAT, "label 10 at byte 25", "0 to 9");
    labels[8 + 17] = 255;
    put("train-labels-idx1-ubyte", labels, LABELS_BYTES);
    check_bad(CNN_ERR_FORMAT, "label 255 at byte 25", "train-labels-idx1-ubyte");
}
END_TEST

START_TEST(images_must_be_28x28)
{
    big_endian(images + 8, 14);
    big_endian(images + 12, 56);
    put_good();
    check_bad(CNN_ERR_FORMAT, "train-images-idx3-ubyte", "14x56");
}
END_TEST

START_TEST(not_a_file)
{
    ck_assert_int_eq(mkdir(in_folder("train-images-idx3-ubyte"), 0777), 0);
    put("train-labels-idx1-ubyte", labels, LABELS_BYTES);
    check_bad(CNN_ERR_IO, "train-images-idx3-ubyte", "not a regular file");
}
END_TEST

START_TEST(notes_what_is_not_as_published)
{
    cnn_dataset *dataset;
    put_good();
    ck_assert_int_eq(load("mnist", &dataset), CNN_OK);
    ck_assert_str_eq(dataset->note, "30 training images, while MNIST has 60000");
    cnn_dataset_free(dataset);
    char line[400];
    memset(line, 'x', sizeof line);
    put("NOTE", line, sizeof line); /* longer than a note can be, without an end of line */
    ck_assert_int_eq(load("mnist", &dataset), CNN_OK);
    ck_assert_uint_eq(strlen(dataset->note), sizeof dataset->note - 1);
    cnn_dataset_free(dataset);
    put("NOTE", "thirty of them\nand more\n", 24);
    ck_assert_int_eq(load("mnist", &dataset), CNN_OK);
    ck_assert_str_eq(dataset->note, "thirty of them");
    cnn_dataset_free(dataset);
}
END_TEST

START_TEST(another_data_set_is_refused)
{
    const char *system = "/usr/share/datasets/fashion-mnist";
    cnn_dataset_options options = {.dir = system};
    cnn_dataset *dataset = NULL;
    if (access(system, F_OK) != 0)
        return; /* needs Debian's dataset-fashion-mnist */
    ck_assert_int_eq(cnn_dataset_load("mnist", CNN_SUBSET_TEST, &options, &dataset), CNN_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "test labels of Fashion-MNIST, not of MNIST"));
    ck_assert_int_eq(cnn_dataset_load("fashion-mnist", CNN_SUBSET_TEST, &options, &dataset), CNN_OK);
    ck_assert_int_eq(dataset->count, 10000);
    ck_assert_str_eq(dataset->note, "");
    cnn_dataset_free(dataset);
}
END_TEST

/* ---- Finding and fetching ---- */

START_TEST(missing_files_are_named)
{
    setenv("CNN_GET_DATA", "/nowhere/get-data", 1);
    check_bad(CNN_ERR_IO, "looked for train-images-idx3-ubyte and train-labels-idx1-ubyte", folder);
    check_bad(CNN_ERR_IO, "/nowhere/get-data mnist /tmp/cnn-test-", "plain or .gz");
}
END_TEST

START_TEST(folder_from_the_environment)
{
    cnn_dataset *dataset;
    put_good();
    setenv("CNN_DATA", folder, 1);
    ck_assert_int_eq(cnn_dataset_load("mnist", CNN_SUBSET_TRAIN, NULL, &dataset), CNN_OK);
    cnn_dataset_free(dataset);
    unsetenv("CNN_DATA");
    setenv("XDG_CACHE_HOME", folder, 1);
    ck_assert_int_eq(cnn_dataset_load("mnist", CNN_SUBSET_TRAIN, NULL, &dataset), CNN_ERR_IO);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), in_folder("cnnkit/mnist")));
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", folder, 1);
    ck_assert_int_eq(cnn_dataset_load("mnist", CNN_SUBSET_TRAIN, NULL, &dataset), CNN_ERR_IO);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), in_folder(".cache/cnnkit/mnist")));
    unsetenv("HOME");
    ck_assert_int_eq(cnn_dataset_load("mnist", CNN_SUBSET_TRAIN, NULL, &dataset), CNN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "--data-dir"));
}
END_TEST

static void put_script(const char *text)
{
    put("fetch me", text, strlen(text)); /* a space: no shell may split it */
    ck_assert_int_eq(chmod(in_folder("fetch me"), 0755), 0);
    setenv("CNN_GET_DATA", in_folder("fetch me"), 1);
}

START_TEST(fetches_what_is_missing)
{
    char target[256], script[1024];
    snprintf(target, sizeof target, "%s/a folder", folder);
    cnn_dataset_options options = {.dir = target, .fetch = true};
    cnn_dataset *dataset;
    put("images", images, IMAGES_BYTES);
    put("labels", labels, LABELS_BYTES);
    snprintf(script, sizeof script,
             "#!/bin/sh\n[ $# = 2 ] && mkdir -p \"$2/$1\" && cp %s/images \"$2/$1/train-images-idx3-ubyte\" &&\n"
             "cp %s/labels \"$2/$1/train-labels-idx1-ubyte\" && echo fetched\n",
             folder, folder);
    put_script(script);
    ck_assert_msg(cnn_dataset_load("mnist", CNN_SUBSET_TRAIN, &options, &dataset) == CNN_OK, "%s", cnn_last_error());
    ck_assert_int_eq(dataset->count, COUNT);
    cnn_dataset_free(dataset);
}
END_TEST

START_TEST(fetching_that_fails)
{
    static const char *const scripts[] = {"#!/bin/sh\nexit 3\n", "#!/bin/sh\nkill -9 $$\n", "#!/nowhere/sh\n",
                                          "#!/bin/sh\nexit 0\n"};
    static const char *const words[] = {"exit status 3", "signal 9", "could not be started", "get them with"};
    cnn_dataset_options options = {.dir = folder, .fetch = true};
    for (int i = 0; i < 4; i++) {
        cnn_dataset *dataset = NULL;
        put_script(scripts[i]);
        ck_assert_int_eq(cnn_dataset_load("mnist", CNN_SUBSET_TRAIN, &options, &dataset), CNN_ERR_IO);
        ck_assert_msg(strstr(cnn_last_error(), words[i]) && strstr(cnn_last_error(), "get them with"), "%s",
                      cnn_last_error());
    }
}
END_TEST

START_TEST(names)
{
    cnn_dataset *dataset = NULL;
    ck_assert_int_eq(load("minst", &dataset), CNN_ERR_USAGE);
    ck_assert_ptr_nonnull(
        strstr(cnn_last_error(), "'minst' is not known; there are mnist, fashion-mnist, cifar10, synth"));
    ck_assert_str_eq(cnn_dataset_name(CNN_DATASET_FASHION_MNIST), "fashion-mnist");
    ck_assert_ptr_null(cnn_dataset_name(CNN_DATASET_NONE));
    ck_assert_str_eq(cnn_dataset_class_name(CNN_DATASET_MNIST, 7), "7");
    ck_assert_str_eq(cnn_dataset_class_name(CNN_DATASET_FASHION_MNIST, 7), "sneaker");
    ck_assert_ptr_null(cnn_dataset_class_name(CNN_DATASET_MNIST, 10));
    ck_assert_ptr_null(cnn_dataset_class_name(CNN_DATASET_MNIST, -1));
    ck_assert_ptr_null(cnn_dataset_class_name((cnn_dataset_id)99, 0));
}
END_TEST

/* Every allocation is made to fail in turn: an error each time, and nothing left behind (the leak checker sees to it).
 */
START_TEST(out_of_memory)
{
    put_good();
    put("NOTE", "a note\n", 7);
    for (long n = 1;; n++) {
        cnn_dataset *dataset = NULL;
        cnn_memory_fail_at(n);
        cnn_status status = load("mnist", &dataset);
        bool all = cnn_memory_count() < n;
        cnn_memory_fail_at(0);
        ck_assert_int_eq(status, all ? CNN_OK : CNN_ERR_MEMORY);
        cnn_dataset_free(dataset);
        if (all)
            break;
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dataset");
    TCase *files = tcase_create("files");
    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_set_timeout(files, 60);
    tcase_add_test(files, reads_every_name_and_form);
    tcase_add_test(files, own_folder_comes_first);
    tcase_add_test(files, truncated_at_every_length);
    tcase_add_test(files, truncated_gzip_at_every_length);
    tcase_add_test(files, wrong_checksum_of_a_large_file);
    tcase_add_test(files, more_bytes_than_promised);
    tcase_add_test(files, wrong_headers);
    tcase_add_test(files, sizes_that_lie);
    tcase_add_test(files, images_and_labels_must_match);
    tcase_add_test(files, images_must_be_28x28);
    tcase_add_test(files, not_a_file);
    tcase_add_test(files, notes_what_is_not_as_published);
    tcase_add_test(files, another_data_set_is_refused);
    tcase_add_test(files, missing_files_are_named);
    tcase_add_test(files, folder_from_the_environment);
    tcase_add_test(files, fetches_what_is_missing);
    tcase_add_test(files, fetching_that_fails);
    tcase_add_test(files, names);
    tcase_add_test(files, out_of_memory);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
