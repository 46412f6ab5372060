/* Damaged and unsuitable ONNX files: each is refused with one sentence that names the node and what is wrong. */
#include "model_case.h"

#include "core/file.h"
#include "onnx/export.h"
#include "onnx/import.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* A float model's file, as messages, that a case changes. */
static const char network[] = "image = input(height=8, width=8, channels=1)\n"
                              "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                              "bn1 = bn(conv1)\n"
                              "relu1 = relu(bn1)\n"
                              "conv2 = conv(relu1, out=4, kernel=3, pad=1)\n"
                              "sum = add(conv2, relu1)\n"
                              "pool1 = maxpool(sum, kernel=2)\n"
                              "fc1 = linear(pool1, out=3)\n";

/* A name for a message; it is freed with it. */
static char *name_of(const char *text)
{
    char *copy = malloc(strlen(text) + 1);
    ck_assert_ptr_nonnull(copy);
    return strcpy(copy, text);
}

static void rename_to(char **name, const char *text)
{
    if (*name != protobuf_c_empty_string) /* what stands for text that is left out */
        free(*name);
    *name = name_of(text);
}

static cnn_onnx_node *node_of(cnn_onnx_file *file, const char *name)
{
    for (size_t i = 0; i < file->graph->n_node; i++)
        if (strcmp(file->graph->node[i]->name, name) == 0)
            return file->graph->node[i];
    ck_abort_msg("there is no node %s", name);
    return NULL;
}

static cnn_onnx_tensor *constant_of(cnn_onnx_file *file, const char *name)
{
    for (size_t i = 0; i < file->graph->n_constant; i++)
        if (strcmp(file->graph->constant[i]->name, name) == 0)
            return file->graph->constant[i];
    ck_abort_msg("there is no constant %s", name);
    return NULL;
}

static cnn_onnx_attribute *attribute_of(cnn_onnx_file *file, const char *node, const char *name)
{
    cnn_onnx_node *found = node_of(file, node);
    for (size_t i = 0; i < found->n_attribute; i++)
        if (strcmp(found->attribute[i]->name, name) == 0)
            return found->attribute[i];
    ck_abort_msg("%s has no attribute %s", node, name);
    return NULL;
}

/* Gives the first attribute of a node another name and one whole number. */
static void set_int(cnn_onnx_file *file, const char *node, const char *name, int64_t value)
{
    cnn_onnx_attribute *attribute = node_of(file, node)->attribute[0];
    rename_to(&attribute->name, name);
    attribute->has_type = 1;
    attribute->type = CNN_ONNX_ATTRIBUTE_INT;
    attribute->has_whole = 1;
    attribute->whole = value;
}

/* ---- The cases ---- */

static void no_graph(cnn_onnx_file *file)
{
    for (size_t i = 0; i < file->graph->n_node; i++)
        cnn_onnx__node__free_unpacked(file->graph->node[i], NULL);
    file->graph->n_node = 0;
}

static void opset_22(cnn_onnx_file *file)
{
    file->operators[0]->version = 22;
}

static void opset_missing(cnn_onnx_file *file)
{
    rename_to(&file->operators[0]->domain, "com.example");
}

static void huge_dims(cnn_onnx_file *file)
{
    constant_of(file, "conv1.weight")->dims[0] = INT64_MAX;
}

static void dims_that_overflow(cnn_onnx_file *file)
{
    cnn_onnx_tensor *weight = constant_of(file, "conv1.weight");
    weight->dims[0] = weight->dims[1] = weight->dims[2] = weight->dims[3] = (int64_t)1 << 32;
}

static void negative_dim(cnn_onnx_file *file)
{
    constant_of(file, "conv1.weight")->dims[1] = -1;
}

static void too_many_dims(cnn_onnx_file *file)
{
    cnn_onnx_tensor *weight = constant_of(file, "conv1.weight");
    free(weight->dims);
    weight->dims = calloc(9, sizeof *weight->dims);
    weight->n_dims = 9;
}

static void short_data(cnn_onnx_file *file)
{
    constant_of(file, "fc1.weight")->raw.len -= 4;
}

static void wrong_dims(cnn_onnx_file *file)
{
    cnn_onnx_tensor *weight = constant_of(file, "fc1.weight"); /* [3,64] */
    weight->dims[0] = 6;
    weight->dims[1] = 32;
}

static void string_weights(cnn_onnx_file *file)
{
    constant_of(file, "conv2.weight")->type = 8;
}

static void nan_weight(cnn_onnx_file *file)
{
    memset(constant_of(file, "conv2.weight")->raw.data + 8, 0xFF, 4);
}

static void external_elsewhere(cnn_onnx_file *file)
{
    cnn_onnx_tensor *weight = constant_of(file, "conv1.weight");
    weight->has_location = 1;
    weight->location = CNN_ONNX_LOCATION_EXTERNAL;
    weight->external = calloc(1, sizeof *weight->external);
    weight->external[0] = calloc(1, sizeof **weight->external);
    cnn_onnx__entry__init(weight->external[0]);
    weight->external[0]->key = name_of("location");
    weight->external[0]->value = name_of("../../etc/passwd");
    weight->n_external = 1;
}

static void external_missing(cnn_onnx_file *file)
{
    external_elsewhere(file);
    rename_to(&constant_of(file, "conv1.weight")->external[0]->value, "there-is-no-such-file");
}

static void missing_initializer(cnn_onnx_file *file)
{
    rename_to(&constant_of(file, "bn1.running_var")->name, "somebody.else");
}

static void circle(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "sum")->input[0], "pool1");
}

static void out_of_order(cnn_onnx_file *file)
{
    cnn_onnx_node *first = file->graph->node[2];
    file->graph->node[2] = file->graph->node[3];
    file->graph->node[3] = first;
}

static void two_values_of_one_name(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "conv2")->output[0], "relu1");
}

static void two_initializers_of_one_name(cnn_onnx_file *file)
{
    rename_to(&constant_of(file, "conv1.bias")->name, "conv2.bias");
    rename_to(&node_of(file, "conv1")->input[2], "conv2.bias");
}

static void unknown_operator(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "relu1")->operator_, "Sin");
}

static void open_clip(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "relu1")->operator_, "Clip");
}

static void elu(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "relu1")->operator_, "Elu");
}

static void local_normalization(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "pool1")->operator_, "LRN");
}

static void operator_with_escapes(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "relu1")->operator_, "\x1b[31mRelu");
}

static void other_domain(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "relu1")->domain, "com.microsoft");
}

static void concat_of_pixels(cnn_onnx_file *file)
{
    cnn_onnx_node *sum = node_of(file, "sum");
    rename_to(&sum->operator_, "Concat");
    sum->attribute = malloc(sizeof *sum->attribute);
    sum->attribute[0] = malloc(sizeof **sum->attribute);
    sum->n_attribute = 1;
    cnn_onnx__attribute__init(sum->attribute[0]);
    sum->attribute[0]->name = strdup("");
    set_int(file, "sum", "axis", 2);
}

static void too_few_inputs(cnn_onnx_file *file)
{
    free(node_of(file, "bn1")->input[4]);
    node_of(file, "bn1")->n_input = 4;
}

static void no_output(cnn_onnx_file *file)
{
    cnn_onnx_node *node = node_of(file, "bn1");
    char *name = node->output[0];
    free(node->output);
    node->output = calloc(2, sizeof *node->output);
    node->output[0] = name_of("");
    node->output[1] = name;
    node->n_output = 2;
}

static void output_that_nobody_gives(cnn_onnx_file *file)
{
    rename_to(&file->graph->output[0]->name, "elsewhere");
}

static void output_is_a_constant(cnn_onnx_file *file)
{
    rename_to(&file->graph->output[0]->name, "fc1.bias");
}

static void output_is_not_flat(cnn_onnx_file *file)
{
    rename_to(&file->graph->output[0]->name, "pool1");
}

static void input_without_height(cnn_onnx_file *file)
{
    file->graph->input[0]->type->tensor->shape->dim[2]->has_size = 0;
}

static void input_of_bytes(cnn_onnx_file *file)
{
    file->graph->input[0]->type->tensor->element = CNN_ONNX_UINT8;
}

static void input_is_flat(cnn_onnx_file *file)
{
    CnnOnnx__Shape *shape = file->graph->input[0]->type->tensor->shape;
    for (size_t i = 2; i < shape->n_dim; i++)
        cnn_onnx__dimension__free_unpacked(shape->dim[i], NULL);
    shape->n_dim = 2;
}

static void huge_image(cnn_onnx_file *file)
{
    file->graph->input[0]->type->tensor->shape->dim[2]->size = INT64_MAX;
}

static void grouped(cnn_onnx_file *file)
{
    set_int(file, "conv2", "group", 4);
}

static void ungrouped(cnn_onnx_file *file)
{
    set_int(file, "conv2", "group", 0);
}

static void oblong_stride(cnn_onnx_file *file)
{
    attribute_of(file, "conv2", "strides")->wholes[1] = 2;
}

static void uneven_pads(cnn_onnx_file *file)
{
    attribute_of(file, "conv2", "pads")->wholes[3] = 0;
}

static void stride_of_zero(cnn_onnx_file *file)
{
    attribute_of(file, "conv2", "strides")->wholes[0] = attribute_of(file, "conv2", "strides")->wholes[1] = 0;
}

static void attribute_of_wrong_type(cnn_onnx_file *file)
{
    attribute_of(file, "conv2", "strides")->type = CNN_ONNX_ATTRIBUTE_STRING;
}

static void kernel_beyond_its_input(cnn_onnx_file *file)
{
    for (int i = 0; i < 2; i++)
        attribute_of(file, "pool1", "kernel_shape")->wholes[i] = 9;
}

static void training_mode(cnn_onnx_file *file)
{
    set_int(file, "bn1", "training_mode", 1);
}

static void weights_from_the_image(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "conv2")->input[1], "relu1");
}

static void constant_behind_relu(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "sum")->input[0], "fc1.bias");
}

static void flatten_that_mixes_images(cnn_onnx_file *file)
{
    set_int(file, "fc1.input1", "axis", 0);
}

static void turned_input(cnn_onnx_file *file)
{
    set_int(file, "fc1", "transA", 1);
}

static void unknown_data_set(cnn_onnx_file *file)
{
    rename_to(&file->note[0]->key, CNN_ONNX_NOTE_DATASET);
}

typedef struct bad_file {
    const char *name;
    void (*change)(cnn_onnx_file *file);
    cnn_status status;
    const char *texts[3];
} bad_file;

static const bad_file cases[] = {
    {"no graph", no_graph, CNN_ERR_FORMAT, {"holds no graph"}},
    {"opset 22", opset_22, CNN_ERR_UNSUPPORTED, {"opset 22", "7 to 21"}},
    {"no opset", opset_missing, CNN_ERR_UNSUPPORTED, {"opset 0"}},
    {"huge dims", huge_dims, CNN_ERR_FORMAT, {"initializer 'conv1.weight'", "2^31-1"}},
    {"overflow", dims_that_overflow, CNN_ERR_FORMAT, {"initializer 'conv1.weight'", "2^31-1"}},
    {"negative", negative_dim, CNN_ERR_FORMAT, {"initializer 'conv1.weight'", "negative dimension -1"}},
    {"9 dims", too_many_dims, CNN_ERR_FORMAT, {"initializer 'conv1.weight'", "9 dimensions"}},
    {"short data", short_data, CNN_ERR_FORMAT, {"initializer 'fc1.weight'", "764 bytes", "768"}},
    {"wrong dims", wrong_dims, CNN_ERR_SHAPE, {"node 'fc1' (Gemm)", "192 values", "384"}},
    {"strings", string_weights, CNN_ERR_UNSUPPORTED, {"initializer 'conv2.weight'", "type 8"}},
    {"nan", nan_weight, CNN_ERR_NUMERIC, {"conv2.weight", "nan"}},
    {"external elsewhere",
     external_elsewhere,
     CNN_ERR_UNSUPPORTED,
     {"initializer 'conv1.weight'", "'../../etc/passwd'"}},
    {"external missing", external_missing, CNN_ERR_IO, {"initializer 'conv1.weight'", "there is no such file"}},
    {"missing initializer", missing_initializer, CNN_ERR_FORMAT, {"node 'bn1'", "'bn1.running_var'", "no initializer"}},
    {"circle", circle, CNN_ERR_FORMAT, {"node 'sum' (Add)", "'pool1' before it is computed", "circle"}},
    {"order", out_of_order, CNN_ERR_FORMAT, {"node 'bn1'", "'conv1' before it is computed"}},
    {"one name twice", two_values_of_one_name, CNN_ERR_FORMAT, {"'relu1'", "names must differ"}},
    {"initializer twice", two_initializers_of_one_name, CNN_ERR_FORMAT, {"initializer 'conv2.bias'", "twice"}},
    {"unknown operator", unknown_operator, CNN_ERR_UNSUPPORTED, {"node 'relu1' (Sin)", "not support"}},
    {"Clip", open_clip, CNN_ERR_UNSUPPORTED, {"node 'relu1' (Clip)", "below -inf", "begins at 0"}},
    {"Elu", elu, CNN_ERR_UNSUPPORTED, {"node 'relu1' (Elu)", "not support"}},
    {"LRN", local_normalization, CNN_ERR_UNSUPPORTED, {"node 'pool1' (LRN)", "not support"}},
    {"escapes", operator_with_escapes, CNN_ERR_UNSUPPORTED, {"node 'relu1' (?[31mRelu)"}},
    {"domain", other_domain, CNN_ERR_UNSUPPORTED, {"node 'relu1' (Relu)", "'com.microsoft'"}},
    {"Concat", concat_of_pixels, CNN_ERR_UNSUPPORTED, {"node 'sum' (Concat)", "its axis is 2"}},
    {"few inputs", too_few_inputs, CNN_ERR_FORMAT, {"node 'bn1'", "has 4 inputs"}},
    {"no output", no_output, CNN_ERR_FORMAT, {"node 'bn1'", "no output"}},
    {"output of nobody", output_that_nobody_gives, CNN_ERR_FORMAT, {"no input that its output is computed from"}},
    {"constant output", output_is_a_constant, CNN_ERR_FORMAT, {"no input that its output is computed from"}},
    {"output with pixels", output_is_not_flat, CNN_ERR_SHAPE, {"the output must be [1,1,1,classes]"}},
    {"open height", input_without_height, CNN_ERR_UNSUPPORTED, {"its input 'image'", "no fixed height"}},
    {"bytes", input_of_bytes, CNN_ERR_UNSUPPORTED, {"its input 'image'", "UINT8"}},
    {"flat input", input_is_flat, CNN_ERR_UNSUPPORTED, {"its input 'image'", "2 dimensions"}},
    {"huge image", huge_image, CNN_ERR_SHAPE, {"its input 'image'", "height"}},
    {"group", grouped, CNN_ERR_SHAPE, {"node 'conv2' (Conv)", "in 4 groups"}},
    {"no group", ungrouped, CNN_ERR_UNSUPPORTED, {"node 'conv2' (Conv)", "group is 0"}},
    {"oblong", oblong_stride, CNN_ERR_UNSUPPORTED, {"node 'conv2' (Conv)", "1x2", "square"}},
    {"pads", uneven_pads, CNN_ERR_UNSUPPORTED, {"node 'conv2' (Conv)", "1, 1, 1, 0"}},
    {"stride 0", stride_of_zero, CNN_ERR_FORMAT, {"node 'conv2' (Conv)", "stride 0"}},
    {"wrong type", attribute_of_wrong_type, CNN_ERR_FORMAT, {"node 'conv2' (Conv)", "strides is not a list"}},
    {"window", kernel_beyond_its_input, CNN_ERR_SHAPE, {"node 'pool1' (MaxPool)", "does not fit"}},
    {"training", training_mode, CNN_ERR_UNSUPPORTED, {"node 'bn1'", "training_mode is 1"}},
    {"computed weights", weights_from_the_image, CNN_ERR_UNSUPPORTED, {"node 'conv2' (Conv)", "'relu1'", "constant"}},
    {"sum of constant", constant_behind_relu, CNN_ERR_UNSUPPORTED, {"node 'sum' (Add)", "adds a constant"}},
    {"flatten", flatten_that_mixes_images, CNN_ERR_UNSUPPORTED, {"(Flatten)", "axis is 0"}},
    {"transA", turned_input, CNN_ERR_UNSUPPORTED, {"node 'fc1' (Gemm)", "transA is 1"}},
    {"data set", unknown_data_set, CNN_ERR_FORMAT, {"cnnkit.dataset"}},
};

static cnn_onnx_file *make_file(const char *description, bool int8, uint8_t **data, size_t *size)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse(description, "net", &model));
    cnn_model_init(model, 1);
    if (int8)
        case_quantize(model);
    CHECK_OK(cnn_onnx_encode(model, data, size));
    cnn_model_free(model);
    cnn_onnx_file *file = cnn_onnx__model__unpack(NULL, *size, *data);
    ck_assert_ptr_nonnull(file);
    return file;
}

/* Packs the changed file and reads it. */
static void check_refused(cnn_onnx_file *file, const bad_file *c)
{
    cnn_model *model = NULL;
    const size_t size = cnn_onnx__model__get_packed_size(file);
    uint8_t *data = malloc(size);
    ck_assert_ptr_nonnull(data);
    cnn_onnx__model__pack(file, data);
    cnn_onnx__model__free_unpacked(file, NULL);
    const char *texts[5] = {"net.onnx: ", c->texts[0], c->texts[1], c->texts[1] ? c->texts[2] : NULL, NULL};
    case_check_error(cnn_onnx_decode(data, size, "net.onnx", NULL, &model), c->status, c->name, texts);
    ck_assert_ptr_null(model);
    ck_assert_ptr_null(strchr(cnn_last_error(), '\n'));
    free(data);
}

START_TEST(test_case)
{
    uint8_t *data;
    size_t size;
    cnn_onnx_file *file = make_file(network, false, &data, &size);
    free(data);
    cases[_i].change(file);
    check_refused(file, &cases[_i]);
}
END_TEST

/* ---- INT8 ---- */

static void unsigned_values(cnn_onnx_file *file)
{
    constant_of(file, "relu1.zero")->type = CNN_ONNX_UINT8;
}

static void zero_point(cnn_onnx_file *file)
{
    constant_of(file, "image.zero")->raw.data[0] = 3;
}

static void negative_scale(cnn_onnx_file *file)
{
    const float scale = -1.0f;
    memcpy(constant_of(file, "relu1.scale")->raw.data, &scale, sizeof scale);
}

static void pool_of_another_scale(cnn_onnx_file *file)
{
    const float scale = 1.0f;
    memcpy(constant_of(file, "pool1.scale")->raw.data, &scale, sizeof scale);
}

static void other_scale_back(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "relu1.dequantize")->input[1], "pool1.scale");
    pool_of_another_scale(file);
}

static void axis_of_inputs(cnn_onnx_file *file)
{
    attribute_of(file, "fc1.weight.dequantize", "axis")->whole = 1;
}

static void float_weights(cnn_onnx_file *file)
{
    rename_to(&node_of(file, "fc1")->input[1], "conv1.weight.float");
}

static void code_of_minus_128(cnn_onnx_file *file)
{
    constant_of(file, "fc1.weight")->raw.data[5] = 0x80;
}

static const bad_file int8_cases[] = {
    {"unsigned",
     unsigned_values,
     CNN_ERR_UNSUPPORTED,
     {"node 'relu1.quantize' (QuantizeLinear)", "UINT8", "symmetric"}},
    {"zero point", zero_point, CNN_ERR_UNSUPPORTED, {"node 'image.quantize' (QuantizeLinear)", "not 0"}},
    {"scale", negative_scale, CNN_ERR_NUMERIC, {"node 'relu1.quantize'", "-1"}},
    {"pool", pool_of_another_scale, CNN_ERR_UNSUPPORTED, {"'pool1'", "another scale"}},
    {"back", other_scale_back, CNN_ERR_UNSUPPORTED, {"node 'relu1.dequantize'", "its scale is 1"}},
    {"axis", axis_of_inputs, CNN_ERR_SHAPE, {"node 'fc1.weight.dequantize'", "axis 1"}},
    {"rank", float_weights, CNN_ERR_UNSUPPORTED, {"node 'fc1' (Gemm)", "4 dimensions"}},
    {"-128", code_of_minus_128, CNN_ERR_NUMERIC, {"fc1.weight", "-128"}},
};

START_TEST(test_int8_case)
{
    uint8_t *data;
    size_t size;
    cnn_onnx_file *file = make_file("image = input(height=4, width=4, channels=1)\n"
                                    "conv1 = conv(image, out=2, kernel=3, pad=1)\n"
                                    "relu1 = relu(conv1)\n"
                                    "pool1 = maxpool(relu1, kernel=2)\n"
                                    "fc1 = linear(pool1, out=3)\n",
                                    true, &data, &size);
    free(data);
    int8_cases[_i].change(file);
    check_refused(file, &int8_cases[_i]);
}
END_TEST

/* ---- Bytes ---- */

/* A file cut anywhere is refused: what it has lost is missed. */
START_TEST(test_cut_files)
{
    uint8_t *data;
    size_t size;
    cnn_onnx__model__free_unpacked(make_file(network, false, &data, &size), NULL);
    for (size_t cut = 0; cut < size; cut += cut < 64 ? 1 : 37) {
        cnn_model *model = NULL;
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, data, cut);
        const cnn_status status = cnn_onnx_decode(part, cut, "net.onnx", NULL, &model);
        ck_assert_msg(status == CNN_ERR_FORMAT || status == CNN_ERR_UNSUPPORTED, "cut at %zu: %s", cut,
                      cnn_last_error());
        free(part);
    }
    free(data);
}
END_TEST

START_TEST(test_other_files)
{
    static const char *const texts[] = {CNN_FILE_MAGIC "\x01", "hello, this is text", "PK\x03\x04",
                                        "\x89PNG\r\n\x1a\n"};
    static const char *const says[] = {"is a cnnkit model", "is no ONNX file", "is no ONNX file", "is no ONNX file"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        cnn_model *model = NULL;
        CHECK_FAILS(cnn_onnx_decode((const uint8_t *)texts[i], strlen(texts[i]), "f.onnx", NULL, &model),
                    CNN_ERR_FORMAT, says[i]);
    }
}
END_TEST

/* Many empty messages take far more in memory than in the file. */
START_TEST(test_memory_has_a_bound)
{
    enum { NODES = 4 << 20 };
    const size_t size = 5 + 2 * (size_t)NODES;
    uint8_t *data = malloc(size);
    cnn_model *model = NULL;
    ck_assert_ptr_nonnull(data);
    data[0] = 0x3A; /* field 7, the graph, of 2*NODES bytes */
    data[1] = 0x80;
    data[2] = 0x80;
    data[3] = 0x80;
    data[4] = 0x04;
    for (size_t i = 5; i < size; i += 2) {
        data[i] = 0x0A; /* field 1, an empty node */
        data[i + 1] = 0;
    }
    CHECK_FAILS(cnn_onnx_decode(data, size, "net.onnx", NULL, &model), CNN_ERR_FORMAT, "more memory than it has bytes");
    free(data);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("bad");
    tcase_add_loop_test(tests, test_case, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_loop_test(tests, test_int8_case, 0, (int)(sizeof int8_cases / sizeof *int8_cases));
    tcase_add_test(tests, test_cut_files);
    tcase_add_test(tests, test_other_files);
    tcase_add_test(tests, test_memory_has_a_bound);
    Suite *suite = suite_create("onnx_bad");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
