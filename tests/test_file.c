/* .cnn files: round trips, determinism, sizes; memory that is refused, checksums, opening in place. */
#include "file_case.h"
#include "model_case.h"

#include "cnn/session.h"
#include "core/crc32c.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Round trips ---- */

static void add_mask(cnn_param *param, bool nonzero)
{
    int64_t count = cnn_desc_elements(&param->desc);
    param->mask = cnn_aligned_alloc((size_t)count);
    param->desc.structure = CNN_SPARSE;
    for (int64_t i = 0; i < count; i++) {
        param->mask[i] = i % 3 != 0;
        if (!param->mask[i] && param->desc.dtype == CNN_I8)
            ((int8_t *)param->data)[i] = 0;
        else if (!param->mask[i])
            ((float *)param->data)[i] = 0;
        else if (nonzero && cnn_param_is_zero(param, i))
            ((int8_t *)param->data)[i] = 1;
    }
    if (!nonzero) /* a live zero: then the mask is more than the zeros say */
        memset((uint8_t *)param->data + cnn_dtype_bytes(param->desc.dtype), 0, cnn_dtype_bytes(param->desc.dtype));
}

static void check_round_trip(const cnn_model *model)
{
    cnn_model *again = NULL;
    file_bytes file = case_encode(model, false);
    CHECK_OK(cnn_file_decode(file.data, file.size, "m.cnn", &again));
    case_check_equal(model, again);
    file_bytes second = case_encode(again, false);
    ck_assert_uint_eq(file.size, second.size);
    ck_assert_mem_eq(file.data, second.data, file.size);
    free(file.data);
    free(second.data);
    cnn_model_free(again);
}

START_TEST(test_round_trip_builtins)
{
    for (const char *const *name = cnn_model_builtin_names(); *name; name++) {
        cnn_model *model = NULL;
        CHECK_OK(cnn_model_create(*name, &model));
        cnn_model_init(model, 3);
        model->dataset = CNN_DATASET_MNIST;
        check_round_trip(model);
        case_quantize(model);
        check_round_trip(model);
        cnn_model_free(model);
    }
}
END_TEST

START_TEST(test_round_trip_metadata)
{
    cnn_model *model = case_tiny();
    model->dataset = CNN_DATASET_FASHION_MNIST;
    model->split_seed = UINT64_MAX;
    model->text = cnn_strdup("trained 3 epochs,\n\tthen pruned");
    model->augment = 2.0 / 3;
    memcpy(model->augmentation, "shift=2,flip", 13);
    model->normalization =
        (cnn_normalization){{0.1307f, 0.1307f, 0.1307f, 0.1307f}, {0.3081f, 0.3081f, 0.3081f, 0.3081f}};
    check_round_trip(model);
    model->normalization = (cnn_normalization){{0.1f, 0.2f, 0.3f, 0.3f}, {1, 1, 1, 2}};
    check_round_trip(model);
    model->softmax = true;
    check_round_trip(model);
    memcpy(model->nodes[1].name, "stem/conv.a", 12);
    cnn_node_set_attr(&model->nodes[2], "eps", 1.0 / 3.0e5);
    check_round_trip(model);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_round_trip_residual)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse("image = input(height=6, width=6, channels=3)\na = conv(image, out=4, kernel=3, pad=1)\n"
                             "b = relu(a)\nc = conv(b, out=4, kernel=3, pad=1)\nd = add(c, a)\ne = linear(d, out=2)\n",
                             "residual", &model));
    cnn_model_init(model, 1);
    check_round_trip(model);
    case_quantize(model);
    check_round_trip(model);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_round_trip_masks)
{
    for (int nonzero = 0; nonzero < 2; nonzero++) {
        cnn_model *f32 = case_tiny(), *i8 = case_tiny_int8();
        add_mask(&f32->nodes[1].param[CNN_PARAM_WEIGHT], false);
        add_mask(&i8->nodes[1].param[CNN_PARAM_WEIGHT], nonzero);
        check_round_trip(f32);
        check_round_trip(i8);
        cnn_model_free(f32);
        cnn_model_free(i8);
    }
}
END_TEST

START_TEST(test_bad_augmentation_is_not_read)
{
    static const struct {
        double share;
        const char *kinds, *says;
    } cases[] = {{0.5, "shift=2,flip", NULL},
                 {1, "", NULL},
                 {1.5, "", "a share of 1.5 of the images"},
                 {0.5, "shift\x1b[2J", "the control character 0x1B"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cnn_model *model = case_tiny(), *again = NULL;
        model->augment = cases[i].share;
        memcpy(model->augmentation, cases[i].kinds, strlen(cases[i].kinds) + 1);
        file_bytes file = case_encode(model, false);
        if (cases[i].says)
            CHECK_FAILS(cnn_file_decode(file.data, file.size, "m.cnn", &again), CNN_ERR_FORMAT, cases[i].says);
        else
            CHECK_OK(cnn_file_decode(file.data, file.size, "m.cnn", &again));
        free(file.data);
        cnn_model_free(model);
        cnn_model_free(again);
    }
}
END_TEST

START_TEST(test_smallest_drops_only_words)
{
    cnn_model *model = case_tiny_int8(), *again = NULL;
    memcpy(model->nodes[1].name, "stem", 5);
    model->text = cnn_strdup("words");
    model->augment = 0.5;
    model->softmax = true;
    model->dataset = CNN_DATASET_MNIST;
    file_bytes file = case_encode(model, true);
    CHECK_OK(cnn_file_decode(file.data, file.size, "m.cnn", &again));
    ck_assert_str_eq(again->nodes[0].name, "image");
    ck_assert_str_eq(again->nodes[1].name, "conv1");
    ck_assert_str_eq(again->nodes[4].name, "linear1");
    ck_assert_ptr_null(again->text);
    for (int i = 0; i < model->node_count; i++)
        memcpy(model->nodes[i].name, again->nodes[i].name, CNN_NAME_BYTES);
    memcpy(again->name, model->name, CNN_NAME_BYTES);
    free(model->text);
    model->text = NULL;
    model->augment = 0;
    case_check_equal(model, again);
    free(file.data);
    cnn_model_free(model);
    cnn_model_free(again);
}
END_TEST

/* All but weights, scales and biases of a small lenet5-caffe in its smallest form. */
START_TEST(test_overhead_of_lenet5_caffe)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse("image = input(height=28, width=28, channels=1)\n"
                             "conv1 = conv(image, out=7, kernel=5)\npool1 = maxpool(conv1, kernel=2)\n"
                             "conv2 = conv(pool1, out=14, kernel=5)\npool2 = maxpool(conv2, kernel=2)\n"
                             "fc1 = linear(pool2, out=30)\nrelu1 = relu(fc1)\nfc2 = linear(relu1, out=10)\n",
                             "lenet5-caffe", &model));
    cnn_model_init(model, 1);
    case_quantize(model);
    model->dataset = CNN_DATASET_MNIST;
    for (int i = 0; i < model->node_count; i++) { /* noise, which no coding makes much smaller */
        const cnn_param *weight = &model->nodes[i].param[CNN_PARAM_WEIGHT];
        for (int64_t k = 0; weight->data && k < cnn_desc_elements(&weight->desc); k++)
            ((int8_t *)weight->data)[k] = (int8_t)((int)(cnn_hash(1, 2, (uint64_t)i, (uint64_t)k) % 255) - 127);
    }
    file_bytes file = case_encode(model, true);
    size_t payload = 0;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            payload += cnn_desc_bytes(&node->param[role].desc);
            payload += node->param[role].scale ? (size_t)node->param[role].desc.n * sizeof(float) : 0;
        }
        if (node->out_scale != 0 && (i == 0 || node->out_scale != model->nodes[node->input[0]].out_scale))
            payload += sizeof(float);
    }
    ck_assert_msg(file.size <= payload + 160, "%zu bytes, where %zu hold values", file.size, payload);
    free(file.data);
    cnn_model_free(model);
}
END_TEST

/* The file that docs/format.md explains byte by byte: a change of the format shows here. */
START_TEST(test_golden_bytes)
{
    static const char *const names[] = {"tiny.cnn", "tiny-int8.cnn", "tiny-int8-smallest.cnn"};
    for (int i = 0; i < 3; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/tests/fuzz/corpus/cnn/%s", CNN_SOURCE_DIR, names[i]);
        cnn_model *model = i == 0 ? case_tiny() : case_tiny_int8();
        model->dataset = CNN_DATASET_SYNTH;
        if (getenv("CNN_WRITE_GOLDEN"))
            CHECK_OK(cnn_file_save(model, &(cnn_file_options){.pack = i == 2 ? CNN_PACK_SMALLEST : CNN_PACK_AUTO}, path,
                                   NULL));
        file_bytes file = case_encode(model, i == 2);
        FILE *golden = fopen(path, "rb");
        ck_assert_msg(golden != NULL, "%s is missing", path);
        uint8_t data[4096];
        ck_assert_uint_eq(fread(data, 1, sizeof data, golden), file.size);
        ck_assert_mem_eq(data, file.data, file.size);
        fclose(golden);
        free(file.data);
        cnn_model_free(model);
    }
}
END_TEST

/* ---- Memory, checksums ---- */

START_TEST(test_allocations_may_fail)
{
    cnn_model *model = case_tiny_int8();
    add_mask(&model->nodes[1].param[CNN_PARAM_WEIGHT], false);
    model->text = cnn_strdup("text");
    for (long n = 1;; n++) {
        cnn_file_image image = {0};
        cnn_model *again = NULL;
        cnn_memory_fail_at(n);
        cnn_status status = cnn_file_encode(model, &(cnn_file_options){0}, &image);
        cnn_file_image_free(&image);
        bool reached = cnn_memory_count() >= n;
        cnn_memory_fail_at(0);
        if (reached)
            ck_assert_int_eq(status, CNN_ERR_MEMORY);
        file_bytes file = case_encode(model, false);
        cnn_memory_fail_at(n);
        status = cnn_file_decode(file.data, file.size, "m.cnn", &again);
        bool reading = cnn_memory_count() >= n;
        cnn_memory_fail_at(0);
        ck_assert_int_eq(status, reading ? CNN_ERR_MEMORY : CNN_OK);
        cnn_model_free(again);
        free(file.data);
        if (!reached && !reading)
            break;
    }
    cnn_model_free(model);
}
END_TEST

START_TEST(test_crc32c)
{
    uint8_t data[300];
    ck_assert_uint_eq(cnn_crc32c(0, "123456789", 9), 0xE3069283u);
    ck_assert_uint_eq(cnn_crc32c_portable(0, "123456789", 9), 0xE3069283u);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 97 + i / 7);
    for (size_t from = 0; from < 9; from++)
        for (size_t length = 0; length < sizeof data - 9; length++) {
            uint32_t crc = cnn_crc32c(0, data + from, length);
            ck_assert_uint_eq(crc, cnn_crc32c_portable(0, data + from, length));
            ck_assert_uint_eq(
                crc, cnn_crc32c(cnn_crc32c(0, data + from, length / 3), data + from + length / 3, length - length / 3));
        }
}
END_TEST

/* Long data is summed in runs side by side. */
START_TEST(test_crc32c_of_long_data)
{
    enum { BYTES = 5 * 4096 * 3 };
    uint8_t *data = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        data[i] = (uint8_t)(i * 97 + i / 7 + i / 5003);
    for (size_t length = BYTES; length > 4096; length = length * 4 / 5)
        for (uint32_t crc = 0; crc < 0x30000000; crc += 0x12345678)
            ck_assert_uint_eq(cnn_crc32c(crc, data + length % 7, length - 7),
                              cnn_crc32c_portable(crc, data + length % 7, length - 7));
    free(data);
}
END_TEST

/* Weights that a session has packed are given back to the file: what is read later is still the same. */
static void check_runs(cnn_model *loaded, cnn_model *opened)
{
    cnn_model *models[] = {loaded, opened};
    float logits[2][3 * 10];
    uint8_t images[3 * 2 * 2 * 2];
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (uint8_t)(i * 37);
    for (int i = 0; i < 2; i++) {
        cnn_session *session;
        CHECK_OK(cnn_session_open(models[i], &(cnn_session_options){.device = "cpu"}, &session));
        CHECK_OK(cnn_session_prepare(session, 3));
        CHECK_OK(cnn_session_infer(session, images, 3, logits[i]));
        CHECK_OK(cnn_session_infer(session, images, 1, logits[i])); /* another program packs them again */
        cnn_session_close(session);
    }
    ck_assert_mem_eq(logits[0], logits[1], sizeof logits[0]);
    case_check_equal(loaded, opened);
}

/* A model that stays in its file: the same values, large ones in place; it runs, and cannot be trained. */
START_TEST(test_open_in_place)
{
    cnn_model *model, *loaded, *opened, *copy;
    CHECK_OK(cnn_model_parse("i = input(height=2, width=2, channels=2)\nc = conv(i, out=4, kernel=1)\n"
                             "f = linear(c, out=8192)\nf2 = linear(f, out=10)\n",
                             "s", &model));
    cnn_model_init(model, 1);
    if (_i == 1)
        case_quantize(model);
    model->nodes[2].param[CNN_PARAM_WEIGHT].mask = cnn_aligned_alloc(4 * 2 * 2 * 8192);
    memset(model->nodes[2].param[CNN_PARAM_WEIGHT].mask, 1, 4 * 2 * 2 * 8192);
    char path[64];
    snprintf(path, sizeof path, "test_open_%ld.cnn", (long)getpid());
    CHECK_OK(cnn_model_save(model, path, NULL));
    CHECK_OK(cnn_model_load(path, &loaded));
    CHECK_OK(cnn_model_open(path, &opened));
    case_check_equal(loaded, opened);
    check_runs(loaded, opened);
    for (int i = 1; i < 4; i++) {
        const cnn_param *weight = &opened->nodes[i].param[CNN_PARAM_WEIGHT];
        ck_assert_int_eq(weight->in_file, cnn_desc_bytes(&weight->desc) >= 1 << 16);
        ck_assert(!loaded->nodes[i].param[CNN_PARAM_WEIGHT].in_file);
    }
    cnn_session *session;
    CHECK_FAILS(cnn_session_open(opened, &(cnn_session_options){.device = "cpu", .train = true}, &session),
                CNN_ERR_USAGE, "opened to be run");
    CHECK_OK(cnn_model_clone(opened, &copy));
    cnn_model_free(opened);
    unlink(path);
    case_check_equal(loaded, copy);
    memset(copy->nodes[2].param[CNN_PARAM_WEIGHT].data, 1, 4); /* a copy has memory of its own */
    cnn_model_free(copy);
    cnn_model_free(loaded);
    cnn_model_free(model);
    ck_assert_int_ne(cnn_model_open(path, &opened), CNN_OK);
}
END_TEST
int main(void)
{
    Suite *suite = suite_create("file");
    TCase *tests = tcase_create("file");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_round_trip_builtins);
    tcase_add_test(tests, test_round_trip_metadata);
    tcase_add_test(tests, test_round_trip_residual);
    tcase_add_test(tests, test_round_trip_masks);
    tcase_add_test(tests, test_bad_augmentation_is_not_read);
    tcase_add_test(tests, test_smallest_drops_only_words);
    tcase_add_test(tests, test_overhead_of_lenet5_caffe);
    tcase_add_test(tests, test_golden_bytes);
    tcase_add_test(tests, test_allocations_may_fail);
    tcase_add_test(tests, test_crc32c);
    tcase_add_test(tests, test_crc32c_of_long_data);
    tcase_add_loop_test(tests, test_open_in_place, 0, 2); /* f32, INT8 */
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
