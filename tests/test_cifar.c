/* CIFAR-10: its binary files and their archive, good and bad. */
#include "cnn/dataset.h"
#include "core/dataset.h"
#include "core/memory.h"
#include "core/model.h"
#include "tests/folder.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum {
    PLANE = 32 * 32,
    IMAGE = 3 * PLANE,
    RECORD = 1 + IMAGE,
    EACH = 2, /* records of a batch */
    BATCH_BYTES = EACH * RECORD,
    BATCHES = 5,
    TEST = BATCHES, /* number of the test batch */
    FILES = BATCHES + 1,
    BLOCK = 512,
    ARCHIVE_BYTES = 64 << 10
};

static const char meta[] = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
static const char *const names[FILES] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                         "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin"};

static uint8_t batch[FILES][BATCH_BYTES];
static uint8_t archive[ARCHIVE_BYTES];
static size_t archive_bytes;

/* ---- Files ---- */

static uint8_t label_of(int file, int record)
{
    return (uint8_t)((file * 3 + record * 7) % 10);
}

static uint8_t pixel_of(int file, int record, int channel, int at)
{
    return (uint8_t)(file * 41 + record * 17 + channel * 101 + at * 3 + at / 32);
}

static void set_up(void)
{
    make_folder();
    for (int f = 0; f < FILES; f++)
        for (int i = 0; i < EACH; i++) {
            uint8_t *record = batch[f] + i * RECORD;
            *record++ = label_of(f, i);
            for (int c = 0; c < 3; c++)
                for (int p = 0; p < PLANE; p++)
                    *record++ = pixel_of(f, i, c, p);
        }
    archive_bytes = 0;
    memset(archive, 0, sizeof archive);
}

/* Makes the checksum of a header right. */
static void seal(uint8_t *header)
{
    unsigned sum = 0;
    memset(header + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
}

static uint8_t *add_member(const char *name, char kind, const void *data, size_t bytes)
{
    uint8_t *header = archive + archive_bytes;
    ck_assert_uint_lt(archive_bytes + BLOCK + bytes + 3 * BLOCK, ARCHIVE_BYTES);
    snprintf((char *)header, 100, "%s", name);
    snprintf((char *)header + 124, 12, "%011o", (unsigned)bytes);
    header[156] = (uint8_t)kind;
    memcpy(header + 257, "ustar", 6);
    seal(header);
    memcpy(header + BLOCK, data, bytes);
    archive_bytes += BLOCK + (bytes + BLOCK - 1) / BLOCK * BLOCK;
    return header;
}

static void add_batch(int file)
{
    char name[64];
    snprintf(name, sizeof name, "cifar-10-batches-bin/%s", names[file]);
    add_member(name, '0', batch[file], BATCH_BYTES);
}

/* As it was published: a folder, batches in no order, other files between them. */
static void make_archive(void)
{
    static const int order[FILES] = {0, 3, TEST, 2, 4, 1};
    add_member("cifar-10-batches-bin/", '5', "", 0);
    add_member("cifar-10-batches-bin/readme.html", '0', "<html>", 6);
    for (int i = 0; i < FILES; i++) {
        add_batch(order[i]);
        if (i == 2)
            add_member("cifar-10-batches-bin/batches.meta.txt", '\0', meta, sizeof meta - 1);
    }
    archive_bytes += 2 * BLOCK;
}

static void put_files(const char *where)
{
    for (int f = 0; f < FILES; f++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", where, names[f]);
        put(name, batch[f], BATCH_BYTES);
    }
}

/* ---- What must come of them ---- */

static cnn_status load(cnn_subset subset, cnn_dataset **dataset)
{
    const cnn_dataset_options options = {.dir = folder};
    return cnn_dataset_load("cifar10", subset, &options, dataset);
}

static void check_images(const cnn_dataset *dataset, int first_file)
{
    for (int n = 0; n < dataset->count; n++) {
        const int file = first_file + n / EACH, record = n % EACH;
        ck_assert_int_eq(dataset->labels[n], label_of(file, record));
        for (int p = 0; p < PLANE; p++)
            for (int c = 0; c < 3; c++)
                ck_assert_int_eq(dataset->images[n * IMAGE + p * 3 + c], pixel_of(file, record, c, p));
    }
}

static void check_good(void)
{
    for (int subset = CNN_SUBSET_TRAIN; subset <= CNN_SUBSET_TEST; subset++) {
        const bool test = subset == CNN_SUBSET_TEST;
        cnn_dataset *dataset;
        ck_assert_msg(load((cnn_subset)subset, &dataset) == CNN_OK, "%s", cnn_last_error());
        ck_assert_int_eq(dataset->id, CNN_DATASET_CIFAR10);
        ck_assert_int_eq(dataset->count, test ? EACH : BATCHES * EACH);
        ck_assert_int_eq(dataset->height, 32);
        ck_assert_int_eq(dataset->width, 32);
        ck_assert_int_eq(dataset->channels, 3);
        ck_assert_int_eq(dataset->classes, 10);
        ck_assert_str_eq(cnn_dataset_label_name(dataset, 9), "truck");
        ck_assert_str_eq(dataset->note, test ? "2 test images, while CIFAR-10 has 10000"
                                             : "10 training images, while CIFAR-10 has 50000");
        check_images(dataset, test ? TEST : 0);
        cnn_dataset_free(dataset);
    }
}

static void check_bad(cnn_status expected, const char *first, const char *second)
{
    cnn_dataset *dataset = NULL;
    ck_assert_int_eq(load(CNN_SUBSET_TRAIN, &dataset), expected);
    ck_assert_ptr_null(dataset);
    ck_assert_msg(strstr(cnn_last_error(), first) && strstr(cnn_last_error(), second), "'%s' lacks '%s' or '%s'",
                  cnn_last_error(), first, second);
}

/* ---- Files in folders ---- */

START_TEST(reads_every_place)
{
    static const char *const places[] = {"", "cifar-10-batches-bin/", "cifar10/", "cifar10/cifar-10-batches-bin/"};
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(mkdir(in_folder("cifar10"), 0777), 0);
        ck_assert_int_eq(mkdir(in_folder("cifar-10-batches-bin"), 0777), 0);
        ck_assert_int_eq(mkdir(in_folder("cifar10/cifar-10-batches-bin"), 0777), 0);
        put_files(places[i]);
        check_good();
        tear_down();
        set_up();
    }
}
END_TEST

START_TEST(names_are_checked)
{
    put_files("");
    put("batches.meta.txt", meta, sizeof meta - 1);
    check_good();
    put("batches.meta.txt", "airplane\r\nautomobile\r\ncat\r\n", 27);
    check_bad(CNN_ERR_FORMAT, "batches.meta.txt: class 2 is called 'cat'", "'bird'");
    put("batches.meta.txt", meta, 32);
    check_bad(CNN_ERR_FORMAT, "batches.meta.txt", "class 4 is called 'dee'");
    put("batches.meta.txt", meta, 29);
    check_bad(CNN_ERR_FORMAT, "batches.meta.txt", "names 4 classes");
    char more[sizeof meta + 5];
    snprintf(more, sizeof more, "%sboat", meta);
    put("batches.meta.txt", more, strlen(more));
    check_bad(CNN_ERR_FORMAT, "batches.meta.txt", "'boat' after 10 others");
    uint8_t large[5000] = {0};
    put("batches.meta.txt", large, sizeof large);
    check_bad(CNN_ERR_FORMAT, "batches.meta.txt", "5000 bytes");
}
END_TEST

START_TEST(wrong_sizes)
{
    static const size_t sizes[] = {0, 1, RECORD - 1, RECORD + 1, BATCH_BYTES - 1};
    put_files("");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char told[64];
        put("data_batch_3.bin", batch[2], sizes[i]);
        snprintf(told, sizeof told, "has %zu bytes", sizes[i]);
        check_bad(CNN_ERR_FORMAT, "data_batch_3.bin", told);
    }
    put("data_batch_3.bin", batch[2], BATCH_BYTES);
    check_good();
}
END_TEST

START_TEST(wrong_labels)
{
    batch[3][RECORD] = 10;
    put_files("");
    check_bad(CNN_ERR_FORMAT, "label 10 at byte 3073", "data_batch_4.bin");
    batch[3][RECORD] = 255;
    put_files("");
    check_bad(CNN_ERR_FORMAT, "label 255 at byte 3073", "0 to 9");
}
END_TEST

START_TEST(what_is_no_batch)
{
    put_files("");
    put_gz("data_batch_1.bin", batch[0], BATCH_BYTES);
    check_bad(CNN_ERR_FORMAT, "data_batch_1.bin", "gzip");
    ck_assert_int_eq(unlink(in_folder("data_batch_1.bin")), 0);
    ck_assert_int_eq(mkdir(in_folder("data_batch_1.bin"), 0777), 0);
    check_bad(CNN_ERR_IO, "data_batch_1.bin", "not a regular file");
}
END_TEST

START_TEST(missing_files_are_named)
{
    setenv("CNN_GET_DATA", "/nowhere/get-data", 1);
    put_files("");
    ck_assert_int_eq(unlink(in_folder("data_batch_5.bin")), 0);
    check_bad(CNN_ERR_IO, "data_batch_1.bin to data_batch_5.bin, or cifar-10-binary.tar.gz", folder);
    check_bad(CNN_ERR_IO, "cifar-10-batches-bin", "/nowhere/get-data cifar10 /tmp/cnn-test-");
}
END_TEST

/* ---- Archives ---- */

START_TEST(reads_the_archive)
{
    make_archive();
    put_gz("cifar-10-binary.tar.gz", archive, archive_bytes);
    check_good();
    tear_down();
    set_up();
    make_archive();
    put("cifar-10-binary.tar", archive, archive_bytes);
    check_good();
    put_files(""); /* files come first */
    put("cifar-10-binary.tar", "no archive", 10);
    check_good();
}
END_TEST

START_TEST(archives_that_lack_something)
{
    for (int left_out = 0; left_out < BATCHES; left_out++) {
        archive_bytes = 0;
        memset(archive, 0, sizeof archive);
        for (int i = 0; i < FILES; i++)
            if (i != left_out)
                add_batch(i);
        put_gz("cifar-10-binary.tar.gz", archive, archive_bytes + 2 * BLOCK);
        check_bad(CNN_ERR_FORMAT, "holds no", names[left_out]);
    }
    add_batch(BATCHES - 1);
    add_batch(0);
    put_gz("cifar-10-binary.tar.gz", archive, archive_bytes + 2 * BLOCK);
    check_bad(CNN_ERR_FORMAT, "data_batch_1.bin", "twice");
}
END_TEST

START_TEST(members_that_are_wrong)
{
    uint8_t *header = add_member("cifar-10-batches-bin/data_batch_1.bin", '0', batch[0], RECORD + 1);
    put("cifar-10-binary.tar", archive, archive_bytes + 2 * BLOCK);
    check_bad(CNN_ERR_FORMAT, "cifar-10-binary.tar: data_batch_1.bin", "has 3074 bytes");
    memcpy(header + 124, "77777777777", 12); /* 8 GiB */
    seal(header);
    put("cifar-10-binary.tar", archive, archive_bytes + 2 * BLOCK);
    check_bad(CNN_ERR_FORMAT, "header at byte 0", "8589934591 bytes");
    memcpy(header + 124, "0000x000000", 12);
    seal(header);
    put("cifar-10-binary.tar", archive, archive_bytes + 2 * BLOCK);
    check_bad(CNN_ERR_FORMAT, "header at byte 0", "octal");
    header[124] = 0x80; /* a binary size, of members beyond 8 GiB */
    seal(header);
    put("cifar-10-binary.tar", archive, archive_bytes + 2 * BLOCK);
    check_bad(CNN_ERR_FORMAT, "header at byte 0", "octal");
    put("cifar-10-binary.tar", batch[0], BATCH_BYTES);
    check_bad(CNN_ERR_FORMAT, "cifar-10-binary.tar", "no tar archive");
    archive_bytes = 0;
    memset(archive, 0, sizeof archive);
    batch[1][0] = 77;
    make_archive();
    put_gz("cifar-10-binary.tar.gz", archive, archive_bytes);
    check_bad(CNN_ERR_FORMAT, "cifar-10-binary.tar.gz: label 77 at byte 0 of data_batch_2.bin", "0 to 9");
}
END_TEST

/* A link is no file, whatever it is called. */
START_TEST(links_are_not_followed)
{
    add_member("cifar-10-batches-bin/data_batch_1.bin", '2', "", 0);
    for (int i = 1; i < FILES; i++)
        add_batch(i);
    put("cifar-10-binary.tar", archive, archive_bytes + 2 * BLOCK);
    check_bad(CNN_ERR_FORMAT, "holds no", "data_batch_1.bin");
}
END_TEST

START_TEST(archives_cut_anywhere)
{
    make_archive();
    for (size_t bytes = 0; bytes < archive_bytes; bytes += bytes < 600 ? 7 : 509) {
        put("cifar-10-binary.tar", archive, bytes);
        cnn_dataset *dataset = NULL;
        const bool all = bytes >= archive_bytes - BLOCK; /* the first block of zeros ends it */
        ck_assert_int_eq(load(CNN_SUBSET_TRAIN, &dataset), all ? CNN_OK : CNN_ERR_FORMAT);
        ck_assert_msg(all || strstr(cnn_last_error(), "byte"), "%s", cnn_last_error());
        cnn_dataset_free(dataset);
    }
    tear_down();
    set_up();
    make_archive();
    size_t packed = put_gz("whole", archive, archive_bytes);
    uint8_t *data = malloc(packed);
    FILE *file = fopen(in_folder("whole"), "rb");
    ck_assert_uint_eq(fread(data, 1, packed, file), packed);
    fclose(file);
    for (size_t bytes = 1; bytes < packed; bytes += bytes + 40 < packed ? 37 : 1) {
        put("cifar-10-binary.tar.gz", data, bytes);
        check_bad(CNN_ERR_FORMAT, "cifar-10-binary.tar.gz", "");
    }
    data[packed - 6] ^= 1; /* the checksum */
    put("cifar-10-binary.tar.gz", data, packed);
    check_bad(CNN_ERR_FORMAT, "cifar-10-binary.tar.gz", "damaged gzip");
    free(data);
}
END_TEST

/* Every bit of a header is under its checksum, but those of the checksum itself. */
START_TEST(headers_with_one_bit_changed)
{
    make_archive();
    for (size_t i = 0; i < BLOCK; i += i == 147 ? 9 : 1) {
        archive[3 * BLOCK + i] ^= (uint8_t)(1 << i % 8); /* behind the folder and readme.html: the first batch */
        put("cifar-10-binary.tar", archive, archive_bytes);
        check_bad(CNN_ERR_FORMAT, "tar header at byte 1536", "damaged");
        archive[3 * BLOCK + i] ^= (uint8_t)(1 << i % 8);
    }
    archive[archive_bytes - 1] = 1;
    put("cifar-10-binary.tar", archive, archive_bytes);
    check_bad(CNN_ERR_FORMAT, "more bytes follow the end", "byte");
}
END_TEST

/* ---- Around them ---- */

START_TEST(models_normalize_each_channel)
{
    cnn_model *model;
    ck_assert_int_eq(cnn_model_parse("image = input(height=32, width=32, channels=3)\nfc = linear(image, out=10)\n",
                                     "small.cfg", &model),
                     CNN_OK);
    ck_assert(model->normalization.mean[1] == 0.5f && model->normalization.std[2] == 0.5f);
    cnn_model_normalize_for(model, CNN_DATASET_CIFAR10);
    ck_assert(model->normalization.mean[0] == 0.4914f && model->normalization.std[2] == 0.2616f);
    ck_assert_int_eq(cnn_model_save(model, in_folder("m.cnn"), NULL), CNN_OK);
    cnn_model *read;
    ck_assert_int_eq(cnn_model_load(in_folder("m.cnn"), &read), CNN_OK);
    ck_assert_mem_eq(&read->normalization, &model->normalization, sizeof model->normalization);
    cnn_model_free(read);
    cnn_model_normalize_for(model, CNN_DATASET_MNIST);
    ck_assert(model->normalization.mean[0] == 0.5f && model->normalization.std[0] == 0.5f);
    cnn_model_free(model);
}
END_TEST

/* Every allocation is made to fail in turn: an error each time, and nothing left behind (the leak checker sees to it).
 */
START_TEST(out_of_memory)
{
    for (int packed = 0; packed < 2; packed++) {
        tear_down();
        set_up();
        make_archive();
        if (packed)
            put_gz("cifar-10-binary.tar.gz", archive, archive_bytes);
        else
            put_files("");
        for (long n = 1;; n++) {
            cnn_dataset *dataset = NULL;
            cnn_memory_fail_at(n);
            cnn_status status = load(CNN_SUBSET_TRAIN, &dataset);
            bool all = cnn_memory_count() < n;
            cnn_memory_fail_at(0);
            ck_assert_int_eq(status, all ? CNN_OK : CNN_ERR_MEMORY);
            cnn_dataset_free(dataset);
            if (all)
                break;
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cifar");
    TCase *files = tcase_create("files");
    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_set_timeout(files, 60);
    tcase_add_test(files, reads_every_place);
    tcase_add_test(files, names_are_checked);
    tcase_add_test(files, wrong_sizes);
    tcase_add_test(files, wrong_labels);
    tcase_add_test(files, what_is_no_batch);
    tcase_add_test(files, missing_files_are_named);
    tcase_add_test(files, reads_the_archive);
    tcase_add_test(files, archives_that_lack_something);
    tcase_add_test(files, members_that_are_wrong);
    tcase_add_test(files, links_are_not_followed);
    tcase_add_test(files, archives_cut_anywhere);
    tcase_add_test(files, headers_with_one_bit_changed);
    tcase_add_test(files, models_normalize_each_channel);
    tcase_add_test(files, out_of_memory);
    suite_add_tcase(suite, files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
