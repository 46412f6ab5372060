/* .cnn files in memory: round trips, determinism, damage of every kind, values that no model may hold, sizes. */
#include "model_case.h"

#include "cnn/session.h"
#include "core/crc32c.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Files in memory ---- */

typedef struct file_bytes {
    uint8_t *data;
    size_t size, head_end; /* head_end: where the CRC of the head lies */
} file_bytes;

static file_bytes encode(const cnn_model *model, bool smallest)
{
    cnn_file_image image;
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){.pack = smallest ? CNN_PACK_SMALLEST : CNN_PACK_AUTO}, &image));
    file_bytes file = {.size = cnn_file_image_bytes(&image), .head_end = image.head.length - 4};
    file.data = calloc(file.size, 1);
    memcpy(file.data, image.head.data, image.head.length);
    uint8_t *area = file.data + (image.head.length + 63) / 64 * 64;
    for (int i = 0; i < image.section_count; i++)
        memcpy(area + image.sections[i].offset, image.sections[i].data, image.sections[i].bytes);
    cnn_file_image_free(&image);
    return file;
}

static cnn_status decode(const file_bytes *file, size_t size)
{
    /* An exact copy, so that the address sanitizer sees a read beyond the end. */
    uint8_t *copy = malloc(size ? size : 1);
    cnn_model *model = NULL;
    memcpy(copy, file->data, size);
    cnn_status status = cnn_file_decode(copy, size, "m.cnn", &model);
    ck_assert_int_eq(status == CNN_OK, model != NULL);
    cnn_model_free(model);
    free(copy);
    return status;
}

/* Makes the CRC of the head right again after a change in it. */
static void reseal(file_bytes *file)
{
    uint32_t crc = cnn_crc32c(0, file->data, file->head_end);
    for (int i = 0; i < 4; i++)
        file->data[file->head_end + (size_t)i] = (uint8_t)(crc >> (8 * i));
}

/* Replaces `old`, which must lie in the head exactly once, and reseals. */
static void patch_head(file_bytes *file, const void *old, const void *new, size_t length)
{
    int found = 0;
    for (size_t i = 0; i + length <= file->head_end; i++)
        if (memcmp(file->data + i, old, length) == 0) {
            memcpy(file->data + i, new, length);
            found++;
            i += length - 1;
        }
    ck_assert_int_eq(found, 1);
    reseal(file);
}

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

/* ---- Round trips ---- */

static void check_round_trip(const cnn_model *model)
{
    cnn_model *again = NULL;
    file_bytes file = encode(model, false);
    CHECK_OK(cnn_file_decode(file.data, file.size, "m.cnn", &again));
    case_check_equal(model, again);
    file_bytes second = encode(again, false);
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
        file_bytes file = encode(model, false);
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
    file_bytes file = encode(model, true);
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
    file_bytes file = encode(model, true);
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
        file_bytes file = encode(model, i == 2);
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

/* ---- Damage ---- */

static file_bytes tiny_file(int which)
{
    cnn_model *model = which == 0 ? case_tiny() : case_tiny_int8();
    file_bytes file = encode(model, which == 2);
    cnn_model_free(model);
    return file;
}

START_TEST(test_every_truncation)
{
    file_bytes file = tiny_file(_i);
    CHECK_OK(decode(&file, file.size));
    for (size_t size = 0; size < file.size; size++) {
        ck_assert_msg(decode(&file, size) == CNN_ERR_FORMAT, "%zu of %zu bytes", size, file.size);
        const char *error = cnn_last_error();
        ck_assert_ptr_nonnull(strstr(error, "m.cnn"));
        if (size > 6) /* then the length of the head is there, and what is missing is known */
            ck_assert_msg(strstr(error, "truncated") != NULL, "%s", error);
    }
    free(file.data);
}
END_TEST

START_TEST(test_bytes_at_the_end)
{
    file_bytes file = tiny_file(_i);
    file.data = realloc(file.data, file.size + 100);
    memset(file.data + file.size, 0, 100);
    for (size_t more = 1; more <= 100; more++)
        CHECK_FAILS(decode(&file, file.size + more), CNN_ERR_FORMAT, "more bytes follow");
    free(file.data);
}
END_TEST

START_TEST(test_every_bit_flip)
{
    file_bytes file = tiny_file(_i);
    for (size_t bit = 0; bit < 8 * file.size; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_msg(decode(&file, file.size) == CNN_ERR_FORMAT, "bit %zu of byte %zu", bit % 8, bit / 8);
        file.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    CHECK_OK(decode(&file, file.size));
    free(file.data);
}
END_TEST

/* Flips behind a CRC that was made right again: whatever the head says then, it is refused or a sound model. */
START_TEST(test_every_bit_flip_resealed)
{
    file_bytes file = tiny_file(_i);
    int accepted = 0, refused = 0;
    for (size_t bit = 8 * 4; bit < 8 * file.head_end; bit++) {
        file.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        reseal(&file);
        cnn_status status = decode(&file, file.size);
        accepted += status == CNN_OK;
        refused += status != CNN_OK;
        ck_assert_int_ne(status, CNN_ERR_MEMORY);
        file.data[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    ck_assert_int_gt(refused, 100);
    ck_assert_int_gt(accepted, 10); /* values of weights in the head */
    free(file.data);
}
END_TEST

START_TEST(test_versions)
{
    file_bytes file = tiny_file(0);
    file.data[4] = 2;
    reseal(&file);
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "version 2", "version 1", "newer cnnkit");
    file.data[4] = 0;
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "version 0", "version 1");
    free(file.data);
}
END_TEST

START_TEST(test_other_files)
{
    static const struct {
        const char *data;
        size_t size;
        const char *says;
    } files[] = {{"", 0, "empty"},
                 {"\x89PNG\r\n\x1A\n....", 12, "PNG picture"},
                 {"PK\x03\x04....", 8, "PyTorch"},
                 {"\x1F\x8B\x08", 3, "gzip"},
                 {"image = input(", 14, ".cfg"},
                 {"\x01\x02\x03\x04\x05", 5, "something else"},
                 {"\x8F"
                  "CN",
                  3, "only 3 bytes"}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        file_bytes file = {.data = (uint8_t *)(uintptr_t)files[i].data, .size = files[i].size};
        CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "m.cnn", files[i].says);
    }
}
END_TEST

/* Puts a field before the first one with a greater tag. */
static void insert_field(file_bytes *file, uint8_t tag, const void *value, uint8_t length)
{
    /* Heads of tiny models take 128 bytes to 16383: their length is a varint of two bytes, at 5 and 6. */
    size_t head = (size_t)(file->data[5] & 0x7F) | (size_t)file->data[6] << 7, at = 7;
    while (at < 7 + head && file->data[at] < tag) {
        size_t field = file->data[at + 1] & 0x7F;
        size_t skip = 2;
        if (file->data[at + 1] & 0x80) {
            field |= (size_t)file->data[at + 2] << 7;
            skip = 3;
        }
        at += skip + field;
    }
    file_bytes wider = {.size = file->size + 2 + length + 64, .head_end = file->head_end + 2 + length};
    wider.data = calloc(wider.size, 1);
    memcpy(wider.data, file->data, at);
    wider.data[at] = tag;
    wider.data[at + 1] = length;
    memcpy(wider.data + at + 2, value, length);
    memcpy(wider.data + at + 2 + length, file->data + at, file->head_end - at);
    head += 2u + length;
    wider.data[5] = (uint8_t)(head & 0x7F) | 0x80;
    wider.data[6] = (uint8_t)(head >> 7);
    size_t old_area = (file->head_end + 4 + 63) / 64 * 64, area = (wider.head_end + 4 + 63) / 64 * 64;
    memcpy(wider.data + area, file->data + old_area, file->size - old_area);
    wider.size = area + file->size - old_area;
    reseal(&wider);
    free(file->data);
    *file = wider;
}

START_TEST(test_unknown_fields)
{
    file_bytes file = tiny_file(0);
    insert_field(&file, 40, "future", 6);
    CHECK_OK(decode(&file, file.size));
    insert_field(&file, 90, "must", 4);
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "field 90", "newer cnnkit");
    free(file.data);
    file = tiny_file(0);
    insert_field(&file, CNN_TAG_DATASET, "\x63", 1);
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "data set 99");
    free(file.data);
    file = tiny_file(0);
    insert_field(&file, CNN_TAG_NORMALIZATION, "\x09", 1);
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "normalization 9");
    free(file.data);
    file = tiny_file(0);
    insert_field(&file, CNN_TAG_NORMALIZATION, "\x01", 1); /* the id of 0.5, 0.5 */
    CHECK_OK(decode(&file, file.size));
    free(file.data);
    file = tiny_file(0);
    insert_field(&file, CNN_TAG_SOFTMAX, "\x02", 1);
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "ends in the way 2", "newer cnnkit");
    free(file.data);
    file = tiny_file(0);
    insert_field(&file, CNN_TAG_SOFTMAX, "\x01\x00", 2);
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "what ends the network is 1 bytes too long");
    free(file.data);
    file = tiny_file(0);
    insert_field(&file, CNN_TAG_TEXT, "a\x1B[2Jb", 6);
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "control character 0x1B");
    free(file.data);
}
END_TEST

/* An entry of the tensor table of tiny-int8: node 1, weight, i8, dims and scales, dense, raw, [2,3,3,1], 18 bytes. */
static const uint8_t entry[] = {1, 0, CNN_I8, 3, 0, 0, 2, 3, 3, 1, 36};

START_TEST(test_table_entries)
{
    static const struct {
        size_t at;
        uint8_t value;
        const char *says;
    } cases[] = {
        {0, 9, "is 9, but at most 4"},
        {0, 0, "no such parameter"},
        {1, 2, "conv1.gamma"},
        {1, 1, "element type"},
        {1, 9, "role"},
        {2, CNN_F32, "is not i8 but has scales"},
        {2, CNN_F16, "element type 2"},
        {3, 1, "lacks its scales"},
        {3, 16 | 3, "flags 0x13"},
        {3, 4 | 8 | 3, "two masks"},
        {4, 7, "structure 7"},
        {5, 1, "parameters"},
        {5, 2, "parameters"},
        {5, 4, "low-bit"},
        {5, 77, "77 (unknown)"},
        {6, 3, "[3,3,3,1]"},
        {10, 34, "conv1.weight takes 17"},
        {10, 37, "conv1.weight lies at offset"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file_bytes file = tiny_file(1);
        uint8_t changed[sizeof entry];
        memcpy(changed, entry, sizeof entry);
        changed[cases[i].at] = cases[i].value;
        patch_head(&file, entry, changed, sizeof entry);
        CHECK_FAILS(decode(&file, file.size), CNN_ERR_FORMAT, "m.cnn: byte ", cases[i].says);
        free(file.data);
    }
}
END_TEST

/* ---- Values ---- */

static void check_bad_value(cnn_model *model, void *at, const void *bad, size_t length, const char *says)
{
    static const uint8_t unusual[4] = {0x5A, 0x17, 0xC3, 0x42}; /* found once in the head; 97.5 as float, not i8 */
    uint8_t good[4];
    memcpy(good, at, length);
    memcpy(at, unusual, length);
    file_bytes file = encode(model, true);
    patch_head(&file, unusual, bad, length);
    CHECK_FAILS(decode(&file, file.size), CNN_ERR_NUMERIC, "m.cnn: ", says);
    free(file.data);

    /* What cannot be read is not written either. */
    memcpy(at, bad, length);
    cnn_file_image image;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, says);
    memcpy(at, good, length);
}

START_TEST(test_values_of_floats)
{
    cnn_model *model = case_tiny();
    cnn_param *conv = model->nodes[1].param, *bn = model->nodes[2].param;
    const float bad[3] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        check_bad_value(model, (float *)conv[CNN_PARAM_WEIGHT].data + 5, &bad[i], 4, "conv1.weight holds");
        check_bad_value(model, (float *)bn[CNN_PARAM_BETA].data + 1, &bad[i], 4, "bn1.beta holds");
    }
    check_bad_value(model, bn[CNN_PARAM_RUNNING_VAR].data, &(float){-1}, 4, "bn1.running_var holds -1 at element 0");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_values_of_int8)
{
    cnn_model *model = case_tiny_int8();
    cnn_param *conv = model->nodes[1].param;
    const float bad[5] = {NAN, INFINITY, 0, -0.5f, 1e-40f};
    for (int i = 0; i < 5; i++) {
        check_bad_value(model, &conv[CNN_PARAM_WEIGHT].scale[1], &bad[i], 4, "conv1.weight has the scale");
        check_bad_value(model, &model->nodes[2].out_scale, &bad[i], 4, "layer 'relu1' has the output scale");
    }
    check_bad_value(model, (int32_t *)conv[CNN_PARAM_BIAS].data + 1, &(int32_t){INT32_MAX}, 4, "overflow");
    check_bad_value(model, (int32_t *)conv[CNN_PARAM_BIAS].data + 1, &(int32_t){INT32_MIN}, 4, "overflow");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_more_values)
{
    cnn_file_image image;
    cnn_model *model = case_tiny_int8();
    cnn_param *weight = &model->nodes[1].param[CNN_PARAM_WEIGHT];
    ((int8_t *)weight->data)[7] = -128;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC,
                "conv1.weight holds -128 at element 7");
    ((int8_t *)weight->data)[7] = 1;
    weight->desc.structure = CNN_SPARSE_2_4; /* with 1 input channel nothing can break the rule */
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){0}, &image));
    cnn_file_image_free(&image);
    cnn_param *linear = &model->nodes[4].param[CNN_PARAM_WEIGHT]; /* [3,2,2,2] */
    linear->desc.structure = CNN_SPARSE_2_4;                      /* groups go on over positions */
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, "fc1.weight is marked 2:4",
                "4 nonzeros in 4 inputs at element 0");
    linear->desc.structure = CNN_DENSE;
    linear->mask = cnn_aligned_alloc(24);
    memset(linear->mask, 1, 24);
    linear->mask[23] = 0;
    ((int8_t *)linear->data)[23] = 1;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, "fc1.weight", "element 23",
                "pruned");
    cnn_model_free(model);

    CHECK_OK(cnn_model_parse("i = input(height=1, width=1, channels=4)\nf = linear(i, out=2)\n", "s", &model));
    cnn_model_init(model, 1);
    model->nodes[1].param[CNN_PARAM_WEIGHT].desc.structure = CNN_SPARSE_2_4;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, "f.weight is marked 2:4");
    cnn_model_free(model);
}
END_TEST

/* Convolution weights [20,2,2,6] have 16 blocks, most of them cut short; of a linear layer [20,1,2,6] are 6, which do
 * not end where a position does. A quarter of them has to be zero: 4, and 2. */
static const struct {
    int node, values; /* an output */
    int zeros;        /* blocks of zeros that the promise asks for: */
    struct {
        int k, i, wide; /* its first output and value there, and how many values wide it is */
    } zero[4];
    const char *too_few;
} block_cases[] = {
    {2, 24, 4, {{0, 6, 4}, {0, 10, 2}, {16, 0, 4}, {16, 22, 2}}, "of its 16 blocks of 16 outputs x 4 inputs only 3"},
    {4, 12, 2, {{0, 4, 4}, {16, 8, 4}}, "of its 6 blocks of 16 outputs x 4 inputs only 1"},
};

START_TEST(test_block_structure)
{
    cnn_file_image image;
    cnn_model *model;
    CHECK_OK(
        cnn_model_parse("i = input(height=2, width=3, channels=4)\nc0 = conv(i, out=6, kernel=1)\n"
                        "c1 = conv(c0, out=20, kernel=2)\nc2 = conv(c1, out=6, kernel=1)\nf = linear(c2, out=20)\n",
                        "s", &model));
    cnn_model_init(model, 1);
    cnn_param *weight = &model->nodes[block_cases[_i].node].param[CNN_PARAM_WEIGHT];
    float *values = weight->data;
    const int64_t all = cnn_desc_elements(&weight->desc);
    ck_assert_int_eq(all, 20 * block_cases[_i].values);
    for (int64_t i = 0; i < all; i++)
        values[i] = 1;
    weight->desc.structure = CNN_BLOCK_16X4;
    for (int b = 0; b < block_cases[_i].zeros; b++) {
        const int first = block_cases[_i].zero[b].k;
        for (int k = first; k < 20 && k < first + 16; k++)
            for (int i = 0; i < block_cases[_i].zero[b].wide; i++)
                values[k * block_cases[_i].values + block_cases[_i].zero[b].i + i] = 0;
        if (b == block_cases[_i].zeros - 2)
            CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC,
                        block_cases[_i].too_few);
    }
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){0}, &image));
    cnn_file_image_free(&image);
    values[all - 1] = 0; /* alone it is no block */
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){0}, &image));
    cnn_file_image_free(&image);
    values[block_cases[_i].zero[0].i] = -1;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_NUMERIC, block_cases[_i].too_few);
    model->nodes[4].param[CNN_PARAM_BIAS].desc.structure = CNN_BLOCK_16X4;
    weight->desc.structure = CNN_DENSE;
    CHECK_FAILS(cnn_file_encode(model, &(cnn_file_options){0}, &image), CNN_ERR_FORMAT, "f.bias", "only weights");
    cnn_model_free(model);
}
END_TEST

START_TEST(test_accumulator_depth)
{
    /* 2^31 / 127^2 = 133,144.2: that many products still fit, one more does not. */
    for (int width = 133144; width <= 133145; width++) {
        cnn_model *model = NULL;
        cnn_file_image image;
        CHECK_OK(cnn_model_parse(
            "i = input(height=1, width=1, channels=1)\na = linear(i, out=133144)\nb = linear(a, out=2, bias=0)\n",
            "deep", &model));
        if (width == 133145) {
            cnn_model_free(model);
            CHECK_OK(cnn_model_parse(
                "i = input(height=1, width=1, channels=1)\na = linear(i, out=133145)\nb = linear(a, out=2, bias=0)\n",
                "deep", &model));
        }
        case_quantize(model);
        memset(model->nodes[1].param[CNN_PARAM_BIAS].data, 0, (size_t)width * 4);
        cnn_status status = cnn_file_encode(model, &(cnn_file_options){0}, &image);
        ck_assert_int_eq(status, width == 133144 ? CNN_OK : CNN_ERR_NUMERIC);
        if (status == CNN_OK)
            cnn_file_image_free(&image);
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
        file_bytes file = encode(model, false);
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
    tcase_add_loop_test(tests, test_every_truncation, 0, 3);
    tcase_add_loop_test(tests, test_bytes_at_the_end, 0, 3);
    tcase_add_loop_test(tests, test_every_bit_flip, 0, 3);
    tcase_add_loop_test(tests, test_every_bit_flip_resealed, 0, 3);
    tcase_add_test(tests, test_versions);
    tcase_add_test(tests, test_other_files);
    tcase_add_test(tests, test_unknown_fields);
    tcase_add_test(tests, test_table_entries);
    tcase_add_test(tests, test_values_of_floats);
    tcase_add_test(tests, test_values_of_int8);
    tcase_add_test(tests, test_more_values);
    tcase_add_loop_test(tests, test_block_structure, 0, sizeof block_cases / sizeof *block_cases);
    tcase_add_test(tests, test_accumulator_depth);
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
