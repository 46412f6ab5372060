/* rANS: values come back, the bytes are those of the format, their number is the entropy's, and what is refused. */
#include "core/hash.h"
#include "core/memory.h"
#include "core/rans.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *decoded(const cnn_bytes *parameters, const cnn_bytes *data, int64_t count, int8_t *values)
{
    const char *wrong = NULL;
    ck_assert_int_eq(
        cnn_rans_decode(parameters->data, parameters->length, data->data, data->length, count, values, &wrong), CNN_OK);
    return wrong;
}

static size_t round_trip(const int8_t *values, int64_t count)
{
    cnn_bytes parameters = {0}, data = {0};
    int8_t *again = malloc((size_t)count);
    cnn_rans_encode(values, count, &parameters, &data);
    const char *wrong = decoded(&parameters, &data, count, again);
    ck_assert_msg(wrong == NULL, "%s", wrong);
    ck_assert_mem_eq(again, values, (size_t)count);
    ck_assert_uint_le(parameters.length, CNN_RANS_MOST_PARAMETERS);
    const size_t bytes = data.length;
    free(again);
    cnn_bytes_free(&parameters);
    cnn_bytes_free(&data);
    return bytes;
}

/* Every count to 40, and few to all values. */
START_TEST(values_round_trip)
{
    static int8_t values[20000];
    for (int kinds = 1; kinds <= 255; kinds += kinds < 8 ? 1 : 13)
        for (int64_t count = 1; count <= 20000; count += count < 40 ? 1 : 6653) {
            for (int64_t i = 0; i < count; i++)
                values[i] = (int8_t)((int)(cnn_hash(1, 2, (uint64_t)kinds, (uint64_t)i) % (uint64_t)kinds) - 127);
            round_trip(values, count);
        }
}
END_TEST

/* One rare value among many of another: its frequency is rounded up. */
START_TEST(rare_values)
{
    int8_t *values = calloc(100000, 1);
    for (int s = 0; s < 254; s++)
        values[s * 300] = (int8_t)(s - 127);
    round_trip(values, 100000);
    free(values);
}
END_TEST

START_TEST(size_is_the_entropy)
{
    static int8_t values[40000];
    double entropy = 0;
    for (int i = 0; i < 40000; i++) {
        const uint64_t random = cnn_hash(5, 2, 1, (uint64_t)i);
        values[i] = (int8_t)(random % 4 ? 0 : random % 8 == 0 ? 3 : -90);
    }
    entropy = 40000 / 8.0 * (-0.75 * log2(0.75) - 0.25 * log2(0.125));
    const size_t bytes = round_trip(values, 40000);
    ck_assert_double_eq_tol((double)bytes / entropy, 1, 0.02);
}
END_TEST

START_TEST(golden_bytes)
{
    static const int8_t values[9] = {0, 0, 5, 0, -1, 0, 0, 5, 0};
    static const uint8_t frequencies[] = {127, 0xC7, 0x03, 1, 0xAB, 0x15, 5, 0x8E, 0x07};
    static const uint8_t golden[] = {0x17, 0x0C, 0x14, 0x00, 0xD0, 0x38, 0x02, 0x00,
                                     0x82, 0xBC, 0x06, 0x00, 0x7A, 0xD3, 0x06, 0x00};
    cnn_bytes parameters = {0}, data = {0};
    cnn_rans_encode(values, 9, &parameters, &data);
    ck_assert_uint_eq(parameters.length, sizeof frequencies);
    ck_assert_mem_eq(parameters.data, frequencies, sizeof frequencies);
    ck_assert_uint_eq(data.length, sizeof golden);
    ck_assert_mem_eq(data.data, golden, sizeof golden);
    cnn_bytes_free(&parameters);
    cnn_bytes_free(&data);
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        const char *parameters, *data; /* hexadecimal */
        const char *wrong;
    } cases[] = {
        {"", "", "has frequencies that do not add up to 4096"},
        {"01ff1f", "", "has frequencies that do not add up to 4096"},
        {"018020", "", "has a length that cannot be"},
        {"008020", "", "has frequencies that are not valid"},
        {"0180", "", "has frequencies that are not valid"},
        {"01801001", "", "has frequencies that are not valid"},
        {"018000", "", "has frequencies that are not valid"},
        {"018120", "", "has frequencies that are not valid"},
        {"ff01018020", "", "has frequencies that are not valid"},
        {"018020", "00000100000001000000010000000100ff", "has a length that cannot be"},
        {"018020", "00000100000001000000010000000000", "begins with a state that cannot be"},
        {"018020", "00000100000001000000010000000200", "does not end with its values"},
        {"018020", "000001000000010000000100000001001234", "has more bytes than its values need"},
        {"018010018010", "00000100000001000000010000000100", "asks for more bytes than follow"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cnn_bytes part[2] = {{0}, {0}};
        int8_t values[8];
        for (int p = 0; p < 2; p++) {
            const char *text = p ? cases[i].data : cases[i].parameters;
            for (; *text; text += 2) {
                const char digits[3] = {text[0], text[1], '\0'};
                const uint8_t byte = (uint8_t)strtol(digits, NULL, 16);
                cnn_bytes_put(&part[p], &byte, 1);
            }
        }
        const char *wrong = decoded(&part[0], &part[1], 8, values);
        ck_assert_msg(wrong != NULL && strcmp(wrong, cases[i].wrong) == 0, "case %zu: %s", i, wrong ? wrong : "taken");
        cnn_bytes_free(&part[0]);
        cnn_bytes_free(&part[1]);
    }
}
END_TEST

/* Any change of a byte is refused or decodes to something, within bounds. */
START_TEST(any_bytes_are_safe)
{
    int8_t values[300], again[300];
    cnn_bytes parameters = {0}, data = {0};
    int refused = 0;
    for (int i = 0; i < 300; i++)
        values[i] = (int8_t)(cnn_hash(8, 2, 1, (uint64_t)i) % 7);
    cnn_rans_encode(values, 300, &parameters, &data);
    for (size_t i = 0; i < data.length; i++)
        for (int bit = 0; bit < 8; bit++) {
            data.data[i] ^= (uint8_t)(1 << bit);
            refused += decoded(&parameters, &data, 300, again) != NULL;
            data.data[i] ^= (uint8_t)(1 << bit);
        }
    ck_assert_int_eq(refused, 8 * (int)data.length); /* the states at the end tell */
    cnn_bytes_free(&parameters);
    cnn_bytes_free(&data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rANS");
    TCase *tests = tcase_create("rans");
    tcase_add_test(tests, values_round_trip);
    tcase_add_test(tests, rare_values);
    tcase_add_test(tests, size_is_the_entropy);
    tcase_add_test(tests, golden_bytes);
    tcase_add_test(tests, refusals);
    tcase_add_test(tests, any_bytes_are_safe);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
