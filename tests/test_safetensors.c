/* safetensors: PyTorch's names and order, there and back, and files that are refused. */
#include "model_case.h"

#include "core/layers.h"
#include "core/safetensors.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char network[] = "image = input(height=4, width=4, channels=1)\n"
                              "conv1 = conv(image, out=2, kernel=3, pad=1, bias=0)\n"
                              "bn1 = bn(conv1)\n"
                              "relu1 = relu(bn1)\n"
                              "pool1 = maxpool(relu1, kernel=2)\n"
                              "fc1 = linear(pool1, out=3)\n";

static cnn_model *make_model(void)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse(network, "tiny", &model));
    return model;
}

/* A file: length and text of the header, then `bytes` bytes of values, 0, 1, 2, ... as floats. */
static uint8_t *make_file(const char *header, size_t bytes, size_t *size)
{
    const size_t length = strlen(header);
    *size = 8 + length + bytes;
    uint8_t *file = malloc(*size);
    ck_assert_ptr_nonnull(file);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((uint64_t)length >> (8 * i));
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < bytes / 4; i++) {
        const float value = (float)i;
        memcpy(file + 8 + length + 4 * i, &value, 4);
    }
    return file;
}

static cnn_status decode(const char *header, size_t bytes)
{
    size_t size;
    uint8_t *file = make_file(header, bytes, &size);
    cnn_model *model = make_model();
    const cnn_status status = cnn_safetensors_decode(file, size, "w.safetensors", model);
    cnn_model_free(model);
    free(file);
    return status;
}

/* ---- Good files ---- */

#define ENTRY(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
#define CONV(p) ENTRY(p ".weight", "F32", "[2,1,3,3]", "0", "72")
#define BN(p)                                                                                                        \
    ENTRY(p ".weight", "F32", "[2]", "72", "80")                                                                     \
    "," ENTRY(p ".bias", "F32", "[2]", "80", "88") "," ENTRY(p ".running_mean", "F32", "[2]", "88", "96") "," ENTRY( \
        p ".running_var", "F32", "[2]", "96", "104")
#define FC(p) ENTRY(p ".weight", "F32", "[3,8]", "104", "200") "," ENTRY(p ".bias", "F32", "[3]", "200", "212")
enum { BYTES = 212 };

static float at(const cnn_model *model, int node, cnn_param_role role, int64_t i)
{
    return ((const float *)model->nodes[node].param[role].data)[i];
}

static void check_values(const char *header)
{
    size_t size;
    uint8_t *file = make_file(header, BYTES, &size);
    cnn_model *model = make_model();
    CHECK_OK(cnn_safetensors_decode(file, size, "w.safetensors", model));
    ck_assert(at(model, 1, CNN_PARAM_WEIGHT, 10) == 10); /* one input channel: the order is the same */
    ck_assert(at(model, 2, CNN_PARAM_GAMMA, 1) == 19);
    ck_assert(at(model, 2, CNN_PARAM_BETA, 0) == 20);
    ck_assert(at(model, 2, CNN_PARAM_RUNNING_MEAN, 0) == 22);
    ck_assert(at(model, 2, CNN_PARAM_RUNNING_VAR, 1) == 25);
    for (int k = 0; k < 3; k++)
        for (int c = 0; c < 2; c++)
            for (int pixel = 0; pixel < 4; pixel++)
                ck_assert(at(model, 5, CNN_PARAM_WEIGHT, k * 8 + pixel * 2 + c) == (float)(26 + k * 8 + c * 4 + pixel));
    ck_assert(at(model, 5, CNN_PARAM_BIAS, 2) == 52);
    cnn_model_free(model);
    free(file);
}

START_TEST(test_names_and_order)
{
    check_values("{" CONV("conv1") "," BN("bn1") "," FC("fc1") "}");
    check_values("{" FC("fc1") ",\"__metadata__\":{\"format\":\"pt\"}," BN("bn1") "," CONV("conv1") "}  ");
    check_values("{" CONV("module.conv1") "," BN("module.bn1") "," FC("module.fc1") "}");
    check_values("{" CONV("conv1") "," BN("bn1") "," FC("fc1") "," //
                 ENTRY("bn1.num_batches_tracked", "I64", "[]", "0", "8") "}");
}
END_TEST

/* Layers take numbered groups in natural order: 9 comes before 10. */
START_TEST(test_sequential)
{
    check_values("{" FC("10") "," BN("9") "," CONV("0") "}");
    check_values("{" CONV("features.2") "," BN("features.10") "," FC("head") "}");
}
END_TEST

START_TEST(test_types)
{
    static const char header[] = "{" ENTRY("conv1.weight", "F16", "[2,1,3,3]", "0", "36") "," ENTRY(
        "bn1.weight", "BF16", "[2]", "36",
        "40") "," ENTRY("bn1.bias", "F64", "[2]", "40", "56") "," ENTRY("bn1.running_mean", "F32", "[2]", "56",
                                                                        "64") "," ENTRY("bn1.running_var", "F32", "[2]",
                                                                                        "56", "64") "," FC("fc1") "}";
    size_t size;
    uint8_t *file = make_file(header, BYTES, &size), *data = file + size - BYTES;
    cnn_model *model = make_model();
    const uint16_t half = 0x3E00 /* 1.5 */, brain = 0x3FC0 /* 1.5 */;
    const double real = -2.25;
    memset(data, 0, 64);
    memcpy(data + 2, &half, 2);
    memcpy(data + 38, &brain, 2);
    memcpy(data + 48, &real, 8);
    CHECK_OK(cnn_safetensors_decode(file, size, "w.safetensors", model));
    ck_assert(at(model, 1, CNN_PARAM_WEIGHT, 1) == 1.5f && at(model, 1, CNN_PARAM_WEIGHT, 0) == 0.0f);
    ck_assert(at(model, 2, CNN_PARAM_GAMMA, 1) == 1.5f);
    ck_assert(at(model, 2, CNN_PARAM_BETA, 1) == -2.25f);
    cnn_model_free(model);
    free(file);
}
END_TEST

START_TEST(test_round_trip)
{
    char path[] = "test_safetensors_XXXXXX";
    const int fd = mkstemp(path);
    size_t bytes;
    uint8_t length[8];
    cnn_model *model = case_tiny(), *back = make_model();
    ck_assert_int_ge(fd, 0);
    CHECK_OK(cnn_safetensors_save(model, path, &bytes));
    CHECK_OK(cnn_safetensors_load(path, back));
    case_check_equal(model, back);
    FILE *file = fopen(path, "rb");
    ck_assert_uint_eq(fread(length, 1, 8, file), 8);
    ck_assert_int_eq(length[0] % 8, 0); /* values are aligned */
    fseek(file, 0, SEEK_END);
    ck_assert_int_eq(ftell(file), (long)bytes);
    fclose(file);
    close(fd);
    unlink(path);
    cnn_model_free(back);
    cnn_model_free(model);
    model = case_tiny_int8();
    CHECK_FAILS(cnn_safetensors_save(model, path, NULL), CNN_ERR_UNSUPPORTED, "INT8");
    cnn_model_free(model);
}
END_TEST

/* ---- Bad files ---- */

typedef struct bad_file {
    const char *header;
    cnn_status status;
    const char *texts[2];
} bad_file;

static const bad_file cases[] = {
    {"", CNN_ERR_FORMAT, {"no JSON"}},
    {"{", CNN_ERR_FORMAT, {"no JSON"}},
    {"[]", CNN_ERR_FORMAT, {"no JSON object"}},
    {"{}", CNN_ERR_SHAPE, {"layer conv1", "there is no conv1.weight; the file holds nothing"}},
    {"{\"a\":1}", CNN_ERR_FORMAT, {"tensor 'a'", "lacks its dtype"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", CNN_ERR_FORMAT, {"tensor 'a'", "data_offsets"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", CNN_ERR_FORMAT, {"tensor 'a'", "shape"}},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", CNN_ERR_FORMAT, {"tensor 'a'", "shape"}},
    {"{" ENTRY("a", "F32", "[1]", "8", "4") "}", CNN_ERR_FORMAT, {"tensor 'a'", "bytes 8 to 4"}},
    {"{" ENTRY("a", "F32", "[1]", "212", "216") "}", CNN_ERR_FORMAT, {"tensor 'a'", "212 to 216 of 212"}},
    {"{" ENTRY("a", "F32", "[2]", "0", "4") "}", CNN_ERR_FORMAT, {"tensor 'a'", "has 4 bytes"}},
    {"{" ENTRY("a", "F32", "[4294967296,4294967296,4294967296]", "0", "4") "}",
     CNN_ERR_FORMAT,
     {"tensor 'a'", "4 bytes"}},
    {"{" ENTRY("a", "F32", "[9223372036854775808]", "0", "4") "}", CNN_ERR_FORMAT, {"no JSON"}},
    {"{" ENTRY("a\\u001b[31m", "F32", "[2]", "0", "4") "}", CNN_ERR_FORMAT, {"tensor 'a?[31m'"}},
    {"{" CONV("conv1") "," CONV("conv1") "}", CNN_ERR_FORMAT, {"no JSON"}}, /* one name twice */
    {"{" CONV("conv1") "," FC("fc1") "}",
     CNN_ERR_SHAPE,
     {"layer bn1", "there is no bn1.weight; the file holds conv1.weight"}},
    {"{" CONV("a.conv1") "," CONV("b.conv1") "}",
     CNN_ERR_SHAPE,
     {"layer conv1", "several tensors end in conv1.weight"}},
    {"{" CONV("conv1") "," BN("bn1") "," FC("fc1") "," ENTRY("fc9.bias", "F32", "[3]", "0", "12") "}",
     CNN_ERR_SHAPE,
     {"no layer of tiny takes fc9.bias", "bias=1"}},
    {"{" ENTRY("conv1.weight", "F32", "[2,3,3,1]", "0", "72") "}",
     CNN_ERR_SHAPE,
     {"layer conv1: weight must be [2,1,3,3]", "it is [2,3,3,1]"}},
    {"{" ENTRY("conv1.weight", "F32", "[18]", "0", "72") "}", CNN_ERR_SHAPE, {"weight must be [2,1,3,3]", "[18]"}},
    {"{" ENTRY("conv1.weight", "F32", "[1,1,2,1,3,3]", "0", "72") "}",
     CNN_ERR_SHAPE,
     {"must be [2,1,3,3]", "[1,1,2,1,...]"}},
    {"{" ENTRY("conv1.weight", "I8", "[2,1,3,3]", "0", "18") "}", CNN_ERR_UNSUPPORTED, {"layer conv1", "type I8"}},
    {"{" CONV("0") "," BN("1") "," FC("2") "," FC("3") "}", CNN_ERR_SHAPE, {"there is no conv1.weight"}},
};

START_TEST(test_bad_files)
{
    const bad_file *c = &cases[_i];
    const char *texts[4] = {"w.safetensors: ", c->texts[0], c->texts[1], NULL};
    case_check_error(decode(c->header, BYTES), c->status, c->header, texts);
    ck_assert_ptr_null(strchr(cnn_last_error(), '\n'));
}
END_TEST

START_TEST(test_cut_files)
{
    size_t size;
    uint8_t *file = make_file("{" CONV("conv1") "," BN("bn1") "," FC("fc1") "}", BYTES, &size);
    for (size_t cut = 0; cut < size; cut += 7) {
        cnn_model *model = make_model();
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, file, cut);
        ck_assert_int_eq(cnn_safetensors_decode(part, cut, "w.safetensors", model), CNN_ERR_FORMAT);
        free(part);
        cnn_model_free(model);
    }
    memset(file, 0xFF, 8);
    cnn_model *model = make_model();
    CHECK_FAILS(cnn_safetensors_decode(file, size, "w.safetensors", model), CNN_ERR_FORMAT, "is no safetensors file");
    cnn_model_free(model);
    free(file);
}
END_TEST

/* A value that no model may hold. */
START_TEST(test_nan)
{
    size_t size;
    uint8_t *file = make_file("{" CONV("conv1") "," BN("bn1") "," FC("fc1") "}", BYTES, &size);
    cnn_model *model = make_model();
    memset(file + size - 12, 0xFF, 4);
    CHECK_FAILS(cnn_safetensors_decode(file, size, "w.safetensors", model), CNN_ERR_NUMERIC, "fc1.bias", "nan");
    cnn_model_free(model);
    free(file);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("safetensors");
    tcase_add_test(tests, test_names_and_order);
    tcase_add_test(tests, test_sequential);
    tcase_add_test(tests, test_types);
    tcase_add_test(tests, test_round_trip);
    tcase_add_loop_test(tests, test_bad_files, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_test(tests, test_cut_files);
    tcase_add_test(tests, test_nan);
    Suite *suite = suite_create("safetensors");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
