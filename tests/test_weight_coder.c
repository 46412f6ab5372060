/* The mixing coder and range-coded weights: what is coded comes back, the bytes are those of the format, and they are
 * few. */
#include "core/file_encoding.h"
#include "core/hash.h"
#include "core/weight_coder.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static cnn_tensor_desc shape(int32_t n, int32_t h, int32_t w, int32_t c)
{
    return cnn_desc(CNN_I8, n, h, w, c);
}

static uint64_t draw(uint64_t seed, int64_t i)
{
    return cnn_hash(seed, 0, 0, (uint64_t)i);
}

static cnn_bytes coded(const cnn_tensor_desc *desc, const int8_t *values)
{
    cnn_bytes data = {0}, parameters = {0};
    ck_assert_int_eq(cnn_tensor_codings[CNN_ENCODING_RANGE].encode(desc, values, &parameters, &data), CNN_OK);
    ck_assert_uint_eq(parameters.length, 0);
    return data;
}

static const char *decoded(const cnn_tensor_desc *desc, const uint8_t *data, size_t bytes, int8_t *values)
{
    const char *wrong = NULL;
    cnn_coded from = {.data = data, .bytes = bytes};
    ck_assert_int_eq(cnn_tensor_codings[CNN_ENCODING_RANGE].decode(desc, &from, values, &wrong), CNN_OK);
    return wrong;
}

/* Codes and decodes; returns the number of bytes. */
static size_t round_trip(const cnn_tensor_desc *desc, const int8_t *values)
{
    const size_t count = (size_t)cnn_desc_elements(desc);
    cnn_bytes data = coded(desc, values);
    int8_t *again = malloc(count);
    memset(again, 55, count);
    const char *wrong = decoded(desc, data.data, data.length, again);
    ck_assert_msg(wrong == NULL, "%s", wrong);
    ck_assert_mem_eq(again, values, count);
    const size_t bytes = data.length;
    free(again);
    cnn_bytes_free(&data);
    return bytes;
}

/* ---- Tables ---- */

START_TEST(tables_are_logistic)
{
    cnn_mix_coder *coder = cnn_mix_encoder();
    for (int x = -CNN_MIX_REACH; x <= CNN_MIX_REACH; x++)
        ck_assert_double_eq_tol(coder->squash[x + CNN_MIX_REACH], 65536 / (1 + exp(-x / 256.0)), 1.01);
    for (int i = 0; i < 4096; i++) {
        const double p = (i + 0.5) / 4096;
        ck_assert_double_eq_tol(coder->stretch[i], 256 * log(p / (1 - p)), 2 + 300 / (65536 * p * (1 - p)));
    }
    ck_assert_int_eq(coder->squash[CNN_MIX_REACH], 32768);
    ck_assert_int_eq(coder->squash[0], 2);
    ck_assert_int_eq(coder->squash[2 * CNN_MIX_REACH], 65534);
    ck_assert_int_eq(coder->stretch[0], -2340);
    cnn_mix_free(coder);
}
END_TEST

/* ---- Values ---- */

typedef int (*maker)(uint64_t random, int64_t i);

static int dense(uint64_t random, int64_t i)
{
    (void)i;
    return (int)(random % 255) - 127;
}

static int extremes(uint64_t random, int64_t i)
{
    (void)i;
    return random & 1 ? 127 : -127;
}

static int zeros(uint64_t random, int64_t i)
{
    (void)random;
    (void)i;
    return 0;
}

static int sparse(uint64_t random, int64_t i)
{
    const int magnitude = 1 + (int)((random >> 40) % 3);
    (void)i;
    return random % 10 ? 0 : random >> 32 & 1 ? magnitude : -magnitude;
}

/* Two columns in three are dead. */
static int dead_columns(uint64_t random, int64_t i)
{
    return i % 3 ? 0 : sparse(random, i);
}

START_TEST(every_shape_round_trips)
{
    static const maker makers[] = {dense, extremes, zeros, sparse, dead_columns};
    static const int32_t shapes[][4] = {{1, 1, 1, 1}, {1, 1, 1, 7},   {7, 1, 1, 1},  {3, 5, 5, 2},
                                        {2, 1, 9, 3}, {2, 9, 1, 3},   {9, 3, 3, 4},  {4, 28, 28, 1},
                                        {5, 4, 4, 6}, {30, 1, 1, 60}, {1, 70, 70, 1}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (size_t m = 0; m < sizeof makers / sizeof *makers; m++) {
            cnn_tensor_desc desc = shape(shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3]);
            const int64_t count = cnn_desc_elements(&desc);
            int8_t *values = malloc((size_t)count);
            for (int64_t i = 0; i < count; i++)
                values[i] = (int8_t)makers[m](draw(s, i), i);
            round_trip(&desc, values);
            free(values);
        }
}
END_TEST

/* Independent values cannot take fewer bytes than their entropy; learning it costs little more. */
START_TEST(random_values_cost_their_entropy)
{
    cnn_tensor_desc desc = shape(40, 1, 1, 500);
    int8_t *values = malloc(20000);
    for (int64_t i = 0; i < 20000; i++)
        values[i] = (int8_t)sparse(draw(3, i), i);
    const double entropy = 20000 / 8.0 * (-0.9 * log2(0.9) - 0.1 * log2(0.1) + 0.1 * (1 + log2(3)));
    const size_t bytes = round_trip(&desc, values);
    ck_assert_double_gt((double)bytes, 0.97 * entropy);
    ck_assert_double_lt((double)bytes, 1.05 * entropy);
    free(values);
}
END_TEST

/* What contexts are for: nonzeros in clusters, in some columns only, in some rows only; one sign in a row of places. */
START_TEST(structure_pays)
{
    int8_t values[20 * 5 * 5 * 8];
    cnn_tensor_desc desc = shape(20, 5, 5, 8);
    size_t bytes[4];
    for (int kind = 0; kind < 4; kind++) {
        for (int i = 0; i < 4000; i++) {
            const uint64_t random = draw(9, i);
            const int n = i / 200, x = i / 8 % 5, y = i / 40 % 5, c = i % 8;
            const bool inside = kind == 0   ? random % 8 == 0
                                : kind == 1 ? draw(10, n * 8 + c) % 4 == 0 && x / 2 == y / 2
                                : kind == 2 ? draw(11, i % 200) % 4 == 0 && random % 2 == 0
                                            : n % 4 == 0 && random % 2 == 0;
            values[i] = (int8_t)(inside ? (random >> 32 & 1 ? 1 : -1) : 0);
        }
        bytes[kind] = round_trip(&desc, values);
    }
    for (int kind = 1; kind < 4; kind++)
        ck_assert_uint_lt(bytes[kind] * 10, bytes[0] * 9);
}
END_TEST

/* Rows that are sums of other rows, and rows that have nothing in common. */
START_TEST(rows_alike_pay)
{
    cnn_tensor_desc desc = shape(40, 1, 1, 500);
    int8_t *values = malloc(20000);
    size_t bytes[2];
    for (int alike = 0; alike < 2; alike++) {
        for (int64_t i = 0; i < 20000; i++) {
            const int64_t n = i / 500, place = i % 500;
            const int a = dense(draw(5, place + 500 * (n % 3)), i), b = dense(draw(5, place + 500 * (3 + n % 2)), i);
            values[i] = (int8_t)(alike ? (a - b) / 2 : dense(draw(6, i), i) / 2);
        }
        bytes[alike] = round_trip(&desc, values);
    }
    ck_assert_uint_lt(bytes[1] * 10, bytes[0] * 9);
    free(values);
}
END_TEST

/* Nothing but integers: these bytes are the same everywhere, and a change of the model shows here. */
START_TEST(golden_bytes)
{
    static const uint8_t golden[] = {0x55, 0xF7, 0xE3, 0xA6, 0xEB, 0x2C, 0x80, 0xA1, 0xA1, 0x9B, 0xEA,
                                     0x27, 0x20, 0x74, 0xEA, 0xE5, 0xB7, 0x39, 0x7F, 0x03, 0xA1, 0x10,
                                     0xE7, 0x44, 0xD4, 0xE6, 0xDB, 0xA9, 0x4C, 0x22, 0x05};
    int8_t values[54];
    cnn_tensor_desc desc = shape(3, 3, 3, 2);
    for (int i = 0; i < 54; i++)
        values[i] = (int8_t)(i % 3 == 1 ? (i * 29) % 255 - 127 : i % 2);
    cnn_bytes data = coded(&desc, values);
    ck_assert_uint_eq(data.length, sizeof golden);
    ck_assert_mem_eq(data.data, golden, sizeof golden);
    cnn_bytes_free(&data);
}
END_TEST

/* ---- Refusals ---- */

START_TEST(refusals)
{
    int8_t values[54] = {0, 0, 1, 0, 0, -3};
    cnn_tensor_desc desc = shape(3, 3, 3, 2), huge = shape(1 << 14, 1, 1, 1 << 10);
    cnn_bytes data = coded(&desc, values);
    cnn_bytes_put(&data, "\x01", 1);
    ck_assert_str_eq(decoded(&desc, data.data, data.length, values), "does not end with its values");
    data.data[data.length - 1] = 0;
    ck_assert_str_eq(decoded(&desc, data.data, data.length, values), "ends in a zero byte");
    ck_assert_str_eq(decoded(&huge, data.data, 3, NULL), "has too few bytes for so many values");
    cnn_bytes_free(&data);
}
END_TEST

/* Zeros without end are for other forms. */
START_TEST(too_many_zeros_are_declined)
{
    cnn_tensor_desc desc = shape(2, 1, 1, 1 << 20);
    int8_t *values = calloc(2 << 20, 1);
    cnn_bytes data = {0}, parameters = {0};
    ck_assert_int_eq(cnn_tensor_codings[CNN_ENCODING_RANGE].encode(&desc, values, &parameters, &data), CNN_ERR_SHAPE);
    cnn_bytes_free(&data);
    free(values);
}
END_TEST

/* Any bytes are refused, or decode to values in the range of weights. */
START_TEST(any_bytes_are_safe)
{
    uint8_t bytes[40];
    int8_t values[200];
    int accepted = 0;
    cnn_tensor_desc desc = shape(2, 5, 5, 4);
    for (uint64_t seed = 0; seed < 500; seed++) {
        const size_t length = (size_t)(seed % 41);
        for (size_t i = 0; i < length; i++)
            bytes[i] = (uint8_t)(seed < 100 ? 0 : seed < 200 ? 255 : draw(seed, (int64_t)i));
        if (decoded(&desc, bytes, length, values))
            continue;
        accepted++;
        for (int i = 0; i < 200; i++)
            ck_assert_int_ge(values[i], -127);
    }
    ck_assert_int_gt(accepted, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weight coder");
    TCase *tests = tcase_create("range-coded");
    tcase_add_test(tests, tables_are_logistic);
    tcase_add_test(tests, every_shape_round_trips);
    tcase_add_test(tests, random_values_cost_their_entropy);
    tcase_add_test(tests, structure_pays);
    tcase_add_test(tests, rows_alike_pay);
    tcase_add_test(tests, golden_bytes);
    tcase_add_test(tests, refusals);
    tcase_add_test(tests, too_many_zeros_are_declined);
    tcase_add_test(tests, any_bytes_are_safe);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
