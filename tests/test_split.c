/* Data sets without files: the split into training and validation images, "synth". */
#include "core/dataset.h"

#include <check.h>
#include <stdlib.h>

enum { IMAGE = 28 * 28 };

/* ---- Split ---- */

static cnn_dataset *labelled(int32_t count, int classes)
{
    cnn_dataset *dataset = calloc(1, sizeof *dataset);
    dataset->count = count;
    dataset->classes = classes;
    dataset->labels = malloc((size_t)count);
    for (int32_t i = 0; i < count; i++)
        dataset->labels[i] = (uint8_t)((int64_t)i * i % classes); /* classes of unequal size */
    return dataset;
}

static void check_split(int32_t count, int classes, int32_t held_out)
{
    cnn_dataset *dataset = labelled(count, classes);
    cnn_split split, again;
    int32_t size[256] = {0}, held[256] = {0};
    uint8_t *seen = calloc((size_t)count, 1);
    ck_assert_int_eq(cnn_dataset_split(dataset, 5, &split), CNN_OK);
    ck_assert_int_eq(split.validation_count, held_out);
    ck_assert_int_eq(split.train_count, count - held_out);
    for (int32_t i = 0; i < count; i++)
        size[dataset->labels[i]]++;
    for (int32_t i = 0; i < split.train_count; i++) {
        ck_assert(i == 0 || split.train[i] > split.train[i - 1]);
        seen[split.train[i]]++;
    }
    for (int32_t i = 0; i < split.validation_count; i++) {
        ck_assert(i == 0 || split.validation[i] > split.validation[i - 1]);
        seen[split.validation[i]]++;
        held[dataset->labels[split.validation[i]]]++;
    }
    for (int32_t i = 0; i < count; i++)
        ck_assert_int_eq(seen[i], 1);
    for (int c = 0; c < classes; c++) { /* each class's share, rounded one way or the other */
        int64_t exact = (int64_t)held_out * size[c];
        ck_assert_int_ge(held[c], exact / count);
        ck_assert_int_le(held[c], exact / count + 1);
    }
    ck_assert_int_eq(cnn_dataset_split(dataset, 5, &again), CNN_OK);
    ck_assert_mem_eq(split.train, again.train, (size_t)split.train_count * sizeof(int32_t));
    cnn_split_free(&again);
    if (held_out > 20) {
        ck_assert_int_eq(cnn_dataset_split(dataset, 6, &again), CNN_OK);
        ck_assert_mem_ne(split.validation, again.validation, (size_t)split.validation_count * sizeof(int32_t));
        cnn_split_free(&again);
    }
    const int32_t first_held = split.validation_count > 0 ? split.validation[0] : -1;
    ck_assert_int_eq(cnn_split_train_on_all(&split), CNN_OK);
    ck_assert_int_eq(split.train_count, count);
    ck_assert_int_eq(split.validation_count, held_out);
    ck_assert(held_out == 0 || split.validation[0] == first_held);
    for (int32_t i = 0; i < count; i++)
        ck_assert_int_eq(split.train[i], i);
    cnn_split_free(&split);
    ck_assert_ptr_null(split.train);
    free(seen);
    cnn_dataset_free(dataset);
}

START_TEST(split_is_stratified)
{
    check_split(60000, 10, 5000);
    check_split(4000, 10, 400);
    check_split(997, 7, 99);
    check_split(1000, 256, 100);
    check_split(10, 10, 1);
    check_split(9, 3, 0);
    check_split(1, 1, 0);
}
END_TEST

/* One image of three classes with equal claims: the lowest class gives it. */
START_TEST(split_breaks_ties)
{
    cnn_dataset *dataset = labelled(15, 3);
    cnn_split split;
    for (int i = 0; i < 15; i++)
        dataset->labels[i] = (uint8_t)(2 - i % 3);
    ck_assert_int_eq(cnn_dataset_split(dataset, 5, &split), CNN_OK);
    ck_assert_int_eq(split.validation_count, 1);
    ck_assert_int_eq(dataset->labels[split.validation[0]], 0);
    cnn_split_free(&split);
    cnn_dataset_free(dataset);
}
END_TEST

/* The seed is stored in models: the images that it holds out must never change. */
START_TEST(split_is_for_ever)
{
    cnn_dataset *dataset = labelled(100, 10);
    cnn_split split;
    static const int32_t expected[10] = {7, 11, 24, 26, 38, 59, 70, 78, 85, 93};
    ck_assert_int_eq(cnn_dataset_split(dataset, 20260, &split), CNN_OK);
    ck_assert_mem_eq(split.validation, expected, sizeof expected);
    cnn_split_free(&split);
    cnn_dataset_free(dataset);
}
END_TEST

/* ---- Synth ---- */

static uint64_t fnv1a(const uint8_t *bytes, size_t count)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

START_TEST(synth_is_the_same_everywhere)
{
    static const int32_t counts[2] = {4000, 1000};
    static const uint64_t hashes[2] = {0xed6f8645f9541507, 0xcb2410ace4a1bcbf};
    for (int subset = 0; subset < 2; subset++) {
        cnn_dataset *dataset;
        int32_t size[10] = {0};
        ck_assert_int_eq(cnn_dataset_load("synth", subset ? CNN_SUBSET_TEST : CNN_SUBSET_TRAIN, NULL, &dataset),
                         CNN_OK);
        ck_assert_int_eq(dataset->count, counts[subset]);
        ck_assert_int_eq(dataset->id, CNN_DATASET_SYNTH);
        ck_assert_str_eq(dataset->note, "");
        uint64_t hash = fnv1a(dataset->images, (size_t)dataset->count * IMAGE);
        ck_assert_msg(hash == hashes[subset], "subset %d: 0x%016llx", subset, (unsigned long long)hash);
        for (int32_t i = 0; i < dataset->count; i++)
            size[dataset->labels[i]]++;
        for (int c = 0; c < 10; c++) {
            ck_assert_int_eq(size[c], counts[subset] / 10);
            ck_assert_ptr_nonnull(cnn_dataset_class_name(CNN_DATASET_SYNTH, c));
        }
        cnn_dataset_free(dataset);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("split");
    TCase *memory = tcase_create("memory");
    tcase_add_test(memory, split_is_stratified);
    tcase_add_test(memory, split_breaks_ties);
    tcase_add_test(memory, split_is_for_ever);
    tcase_add_test(memory, synth_is_the_same_everywhere);
    suite_add_tcase(suite, memory);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
