/* Mutators that know a format: a .cnn file that was taken apart is put together as the same bytes, and a good share of
 * what mutators make is a file that is read and differs from the one it was made of. */
#include "container.h"

#include "onnx/import.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 16, ROUNDS = 500 };

/* The mutators of two formats have one name; they are compiled for this test with names of their own. */
size_t mutate_cnn(uint8_t *data, size_t size, size_t max_size, unsigned int seed);
size_t mutate_onnx(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

static unsigned byte_number;
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
    (void)max_size;
    if (size)
        data[byte_number++ * 7919u % size] ^= 1;
    return size;
}

static bool read_cnn(const uint8_t *data, size_t size)
{
    cnn_model *model = NULL;
    const bool good = cnn_file_decode(data, size, "mutated", &model) == CNN_OK;
    cnn_model_free(model);
    return good;
}

static bool read_onnx(const uint8_t *data, size_t size)
{
    cnn_model *model = NULL;
    const bool good = cnn_onnx_decode(data, size, "mutated", NULL, &model) == CNN_OK;
    cnn_model_free(model);
    return good;
}

static size_t read_file(const char *folder, const char *name, uint8_t *data)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    const size_t size = fread(data, 1, MOST_BYTES, file);
    fclose(file);
    return size;
}

/* Files of the folder that are read after a change; calls `whole` for each file as it is. */
static double share_read(const char *folder, size_t (*mutate)(uint8_t *, size_t, size_t, unsigned int),
                         bool (*read)(const uint8_t *, size_t), void (*whole)(const uint8_t *, size_t, const char *))
{
    static uint8_t data[MOST_BYTES], copy[MOST_BYTES];
    int good = 0, all = 0;
    DIR *dir = opendir(folder);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        const size_t size = read_file(folder, entry->d_name, data);
        if (whole)
            whole(data, size, entry->d_name);
        for (unsigned round = 0; round < ROUNDS; round++, all++) {
            memcpy(copy, data, size);
            const size_t now = mutate(copy, size, MOST_BYTES, round);
            ck_assert_uint_le(now, MOST_BYTES);
            good += (now != size || memcmp(copy, data, size) != 0) && read(copy, now);
        }
    }
    closedir(dir);
    return (double)good / all;
}

static void apart_and_together(const uint8_t *data, size_t size, const char *name)
{
    static fuzz_container container;
    cnn_bytes again = {0};
    fuzz_forget();
    ck_assert_msg(fuzz_container_read(&container, data, size), "%s is not taken apart", name);
    fuzz_container_write(&container, &again);
    ck_assert_msg(again.length == size && memcmp(again.data, data, size) == 0, "%s is not put together again", name);
    cnn_bytes_free(&again);
}

START_TEST(mutated_models_are_read)
{
    const double share = share_read(CNN_SOURCE_DIR "/tests/fuzz/corpus/cnn", mutate_cnn, read_cnn, apart_and_together);
    ck_assert_msg(share > 0.1, "only %.3f of the changed .cnn files are read", share);
}
END_TEST

START_TEST(what_is_shorter_than_its_signature_is_no_container)
{
    static uint8_t data[MOST_BYTES];
    static fuzz_container container;
    const size_t size = read_file(CNN_SOURCE_DIR "/tests/fuzz/corpus/cnn", "tiny-signed.cnn", data);
    for (size_t rest = 1; rest < CNN_FILE_MAGIC_BYTES; rest++) {
        const size_t bytes = CNN_SIGNATURE_BYTES + rest;
        uint8_t *copy = malloc(bytes); /* sanitizers know its end */
        ck_assert(copy && bytes < size);
        memcpy(copy, data + size - bytes, bytes);
        fuzz_forget();
        ck_assert(!fuzz_container_read(&container, copy, bytes));
        free(copy);
    }
}
END_TEST

START_TEST(mutated_onnx_files_are_read)
{
    const double share = share_read(CNN_SOURCE_DIR "/tests/fuzz/corpus/onnx", mutate_onnx, read_onnx, NULL);
    ck_assert_msg(share > 0.1, "only %.3f of the changed ONNX files are read", share);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mutators");
    TCase *tcase = tcase_create("mutators");
    tcase_add_test(tcase, mutated_models_are_read);
    tcase_add_test(tcase, what_is_shorter_than_its_signature_is_no_container);
    tcase_add_test(tcase, mutated_onnx_files_are_read);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
