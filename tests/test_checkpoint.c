/* The checkpoint file: what is written comes back, and nothing else is accepted. */
#include "core/crc32c.h"
#include "core/memory.h"
#include "train/checkpoint.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const path = "test_checkpoint.ckpt";

static void check(cnn_status status)
{
    ck_assert_msg(status == CNN_OK, "%s: %s", cnn_status_name(status), cnn_last_error());
}

/* ---- A small one ---- */

static const uint8_t model[] = {1, 2, 3, 4, 5};
static const float parameters[] = {1.5f, -2.25f, 0.0f};

/* Every number differs from every other. */
static cnn_checkpoint small(void)
{
    cnn_checkpoint made = {
        .facts = {.fact = {{"--batch", "64"}, {"data", "mnist"}}, .count = 2},
        .point = {.epochs = 3,
                  .step = 1000,
                  .seconds = 12.25,
                  .loss_sum = 77.5,
                  .loss_images = 640,
                  .val_accuracy = 0.875,
                  .val_loss = NAN,
                  .watch = {.scale = 512, .skipped = 4, .stuck = 2},
                  .state = {.step = 996,
                            .loss_scale = 1024,
                            .found_nonfinite = 1,
                            .clean_steps = 17,
                            .overflows_in_row = 1,
                            .skipped = 5,
                            .first_overflow = -1,
                            .last_overflow = 6,
                            .scale_min = 256,
                            .scale_max = 65536,
                            .grad_sumsq = 1.0 / 3}},
        .model = model,
        .model_bytes = sizeof model,
        .memory = {{"parameters", parameters, sizeof parameters}, {"momentum", parameters, 4}},
        .memory_count = 2,
    };
    return made;
}

static cnn_status append(void *bytes, const void *data, size_t length)
{
    cnn_bytes_put(bytes, data, length);
    return CNN_OK;
}

static cnn_bytes encode(const cnn_checkpoint *checkpoint)
{
    cnn_bytes bytes = {0};
    check(cnn_checkpoint_encode(checkpoint, append, &bytes));
    ck_assert(!bytes.failed);
    return bytes;
}

/* Makes the checksum right. */
static void reseal(cnn_bytes *bytes)
{
    const uint32_t crc = cnn_crc32c(0, bytes->data, bytes->length - 4);
    for (size_t i = 0; i < 4; i++)
        bytes->data[bytes->length - 4 + i] = (uint8_t)(crc >> (8 * i));
}

/* Where the body begins, with the number of facts: after magic, version, and one or two bytes of length. */
static size_t body_at(const cnn_bytes *bytes)
{
    return bytes->data[5] & 0x80 ? 7 : 6;
}

/* Decodes a copy in a block of exactly its size, so that a sanitizer sees any read beyond it. */
static cnn_status decode(const cnn_bytes *bytes, size_t length)
{
    cnn_checkpoint again;
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, bytes->data, length);
    cnn_status status = cnn_checkpoint_decode(copy, length, "m.ckpt", &again);
    free(copy);
    return status;
}

static void refuses(const cnn_bytes *bytes, const char *says)
{
    ck_assert_int_eq(decode(bytes, bytes->length), CNN_ERR_FORMAT);
    ck_assert_msg(strstr(cnn_last_error(), says) && strncmp(cnn_last_error(), "m.ckpt: ", 8) == 0,
                  "'%s' does not say '%s'", cnn_last_error(), says);
}

/* ---- What comes back ---- */

START_TEST(all_of_it_comes_back)
{
    const cnn_checkpoint first = small();
    cnn_checkpoint again;
    cnn_input_file file = {0};
    check(cnn_checkpoint_save(&first, path));
    check(cnn_checkpoint_load(path, &file, &again));
    ck_assert_int_eq(again.facts.count, 2);
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(again.facts.fact[i].name, first.facts.fact[i].name);
        ck_assert_str_eq(again.facts.fact[i].value, first.facts.fact[i].value);
        ck_assert_str_eq(again.memory[i].name, first.memory[i].name);
        ck_assert_uint_eq(again.memory[i].bytes, first.memory[i].bytes);
        ck_assert_mem_eq(again.memory[i].data, first.memory[i].data, first.memory[i].bytes);
    }
    ck_assert_int_eq(again.memory_count, 2);
    ck_assert_uint_eq(again.model_bytes, sizeof model);
    ck_assert_mem_eq(again.model, model, sizeof model);
    const cnn_train_point *a = &first.point, *b = &again.point;
    ck_assert(a->epochs == b->epochs && a->step == b->step && a->seconds == b->seconds);
    ck_assert(a->loss_sum == b->loss_sum && a->loss_images == b->loss_images);
    ck_assert(a->val_accuracy == b->val_accuracy && isnan(b->val_loss));
    ck_assert(a->watch.scale == b->watch.scale && a->watch.skipped == b->watch.skipped);
    ck_assert_int_eq(a->watch.stuck, b->watch.stuck);
    ck_assert_mem_eq(&a->state, &b->state, sizeof a->state);
    cnn_input_close(&file);
    remove(path);
}
END_TEST

/* ---- Damage ---- */

START_TEST(every_truncation_is_refused)
{
    const cnn_checkpoint checkpoint = small();
    cnn_bytes bytes = encode(&checkpoint);
    for (size_t length = 0; length < bytes.length; length++)
        ck_assert_msg(decode(&bytes, length) == CNN_ERR_FORMAT, "%zu bytes of %zu were accepted", length, bytes.length);
    cnn_bytes_put(&bytes, "", 1);
    refuses(&bytes, "damaged");
    cnn_bytes_free(&bytes);
}
END_TEST

START_TEST(every_flipped_bit_is_refused)
{
    const cnn_checkpoint checkpoint = small();
    cnn_bytes bytes = encode(&checkpoint);
    for (size_t bit = 0; bit < 8 * bytes.length; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_msg(decode(&bytes, bytes.length) == CNN_ERR_FORMAT, "bit %zu was flipped and nobody saw it", bit);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    check(decode(&bytes, bytes.length));
    cnn_bytes_free(&bytes);
}
END_TEST

/* A body cut anywhere and any flipped bit, with the checksum made right: what is behind it must hold as well. */
START_TEST(nothing_relies_on_the_checksum)
{
    const cnn_checkpoint checkpoint = small();
    cnn_bytes whole = encode(&checkpoint);
    const size_t body = body_at(&whole);
    for (size_t cut = 1; cut < whole.length - body - 4; cut++) {
        cnn_bytes bytes = {0};
        cnn_bytes_put(&bytes, whole.data, 5);
        cnn_bytes_put_varint(&bytes, whole.length - body - 4 - cut);
        cnn_bytes_put(&bytes, whole.data + body, whole.length - body - cut);
        reseal(&bytes);
        refuses(&bytes, "byte ");
        cnn_bytes_free(&bytes);
    }
    int accepted = 0;
    for (size_t bit = 8 * body; bit < 8 * (whole.length - 4); bit++) {
        whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        reseal(&whole);
        const cnn_status status = decode(&whole, whole.length);
        ck_assert(status == CNN_OK || status == CNN_ERR_FORMAT);
        accepted += status == CNN_OK;
        whole.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_gt(accepted, 8 * (int)(sizeof model + sizeof parameters)); /* values are as good as others */
    cnn_bytes_free(&whole);
}
END_TEST

/* ---- Values ---- */

/* A field of the point with a value that none may have. */
#define REFUSES(field, value, says)         \
    do {                                    \
        cnn_checkpoint bad = small();       \
        bad.point.field = value;            \
        cnn_bytes bad_bytes = encode(&bad); \
        refuses(&bad_bytes, says);          \
        cnn_bytes_free(&bad_bytes);         \
    } while (0)

START_TEST(numbers_have_ranges)
{
    REFUSES(epochs, -1, "the number of whole epochs is -1");
    REFUSES(step, -1, "the number of steps is -1");
    REFUSES(step, (int64_t)1 << 31, "the number of steps is");
    REFUSES(step, INT64_MIN, "the number of steps is");
    REFUSES(seconds, -1, "the seconds so far is -1");
    REFUSES(seconds, NAN, "the seconds so far is");
    REFUSES(loss_sum, INFINITY, "the sum of losses is inf");
    REFUSES(loss_images, -1, "the number of images with a loss is -1");
    REFUSES(val_accuracy, 1.5, "the validation accuracy is 1.5");
    REFUSES(watch.scale, 0, "the scale of the next step is 0");
    REFUSES(watch.skipped, -1, "the number of skipped steps is -1");
    REFUSES(watch.stuck, -1, "the number of overflows in a row is -1");
    REFUSES(state.step, -1, "the number of updates is -1");
    REFUSES(state.loss_scale, -1, "the loss scale is -1");
    REFUSES(state.loss_scale, INFINITY, "the loss scale is inf");
    REFUSES(state.loss_scale, NAN, "the loss scale is");
    REFUSES(state.found_nonfinite, 2, "the overflow flag is 2");
    REFUSES(state.clean_steps, -1, "the number of clean steps is -1");
    REFUSES(state.overflows_in_row, -1, "the number of overflows in a row is -1");
    REFUSES(state.skipped, -1, "the number of skipped steps is -1");
    REFUSES(state.first_overflow, -2, "the first overflow's place is -2");
    REFUSES(state.last_overflow, -2, "the last overflow's place is -2");
    REFUSES(state.scale_min, 0, "the lowest loss scale is 0");
    REFUSES(state.scale_max, 0, "the highest loss scale is 0");
    REFUSES(state.grad_sumsq, -1, "the gradients' sum of squares is -1");
}
END_TEST

START_TEST(texts_are_fit_for_a_terminal)
{
    cnn_checkpoint bad = small();
    strcpy(bad.facts.fact[0].value, "\033[2J");
    cnn_bytes bytes = encode(&bad);
    refuses(&bytes, "a fact holds the control character 0x1B");
    cnn_bytes_free(&bytes);
    bad = small();
    bad.facts.fact[1].name[0] = '\0';
    bytes = encode(&bad);
    refuses(&bytes, "the name of a fact is empty");
    cnn_bytes_free(&bytes);
    bad = small();
    strcpy(bad.memory[0].name, "a\nb");
    bytes = encode(&bad);
    refuses(&bytes, "the name of a memory holds the control character 0x0A");
    cnn_bytes_free(&bytes);
}
END_TEST

START_TEST(counts_have_limits)
{
    cnn_checkpoint checkpoint = small();
    cnn_bytes bytes = encode(&checkpoint);
    bytes.data[body_at(&bytes)] = CNN_CHECKPOINT_MAX_FACTS + 1;
    reseal(&bytes);
    refuses(&bytes, "the number of facts is 65, but at most 64");
    cnn_bytes_free(&bytes);
    checkpoint.facts.count = 0;
    bytes = encode(&checkpoint);
    bytes.data[body_at(&bytes) + 1]++; /* the number of numbers */
    reseal(&bytes);
    refuses(&bytes, "go on with the cnnkit that wrote it");
    cnn_bytes_free(&bytes);
}
END_TEST

/* ---- Other files ---- */

START_TEST(other_files_and_versions_are_refused)
{
    const cnn_checkpoint checkpoint = small();
    cnn_bytes bytes = encode(&checkpoint);
    bytes.data[4] = 2;
    reseal(&bytes);
    refuses(&bytes, "is in format version 2");
    memcpy(bytes.data,
           "\x8F"
           "CNN",
           4);
    reseal(&bytes);
    refuses(&bytes, "is not a checkpoint");
    ck_assert_int_eq(decode(&bytes, 0), CNN_ERR_FORMAT);
    cnn_bytes_free(&bytes);
}
END_TEST

START_TEST(a_file_is_looked_for)
{
    const cnn_checkpoint checkpoint = small();
    bool there = true;
    remove(path);
    check(cnn_checkpoint_find(path, &there));
    ck_assert(!there);
    check(cnn_checkpoint_find("missing/folder.ckpt", &there));
    ck_assert(!there);
    check(cnn_checkpoint_save(&checkpoint, path));
    check(cnn_checkpoint_find(path, &there));
    ck_assert(there);
    check(cnn_checkpoint_find("/dev/null", &there));
    FILE *file = fopen(path, "w");
    fputs("abc", file);
    fclose(file);
    ck_assert_int_eq(cnn_checkpoint_find(path, &there), CNN_ERR_FORMAT);
    remove(path);
}
END_TEST

START_TEST(allocations_may_fail)
{
    cnn_checkpoint first = small(), second = small(), again;
    second.point.step = 1001;
    check(cnn_checkpoint_save(&first, path));
    for (long n = 1;; n++) {
        cnn_input_file file = {0};
        cnn_memory_fail_at(n);
        const cnn_status status = cnn_checkpoint_save(&second, path);
        const bool reached = cnn_memory_count() >= n;
        cnn_memory_fail_at(0);
        ck_assert_int_eq(status, reached ? CNN_ERR_MEMORY : CNN_OK);
        check(cnn_checkpoint_load(path, &file, &again)); /* whole, and old unless the last of it all failed */
        ck_assert(again.point.step == 1001 || (reached && again.point.step == 1000));
        cnn_input_close(&file);
        if (!reached)
            break;
    }
    remove(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tests = tcase_create("checkpoint");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, all_of_it_comes_back);
    tcase_add_test(tests, every_truncation_is_refused);
    tcase_add_test(tests, every_flipped_bit_is_refused);
    tcase_add_test(tests, nothing_relies_on_the_checksum);
    tcase_add_test(tests, numbers_have_ranges);
    tcase_add_test(tests, texts_are_fit_for_a_terminal);
    tcase_add_test(tests, counts_have_limits);
    tcase_add_test(tests, other_files_and_versions_are_refused);
    tcase_add_test(tests, a_file_is_looked_for);
    tcase_add_test(tests, allocations_may_fail);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
