/* ONNX files: what stands in them, and that models come back as they went out. */
#include "model_case.h"

#include "cnn/onnx.h"
#include "core/layers.h"
#include "onnx/export.h"
#include "onnx/import.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IMAGE "image = input(height=6, width=5, channels=2)\n"

/* Every kind of layer; a linear layer of pixels, a convolution of a linear layer's values, sums of both. */
static const char everything[] = IMAGE "conv1 = conv(image, out=4, kernel=3, pad=1, bias=0)\n"
                                       "bn1 = bn(conv1)\n"
                                       "relu1 = relu(bn1)\n"
                                       "conv2 = conv(relu1, out=4, kernel=3, pad=1)\n"
                                       "sum = add(conv2, relu1)\n"
                                       "pool1 = maxpool(sum, kernel=3, stride=2, pad=1)\n"
                                       "fc1 = linear(pool1, out=8, bias=0)\n"
                                       "bn2 = bn(fc1)\n"
                                       "a/b-1.x = conv(bn2, out=8, kernel=1)\n"
                                       "sum2 = add(bn2, a/b-1.x)\n"
                                       "fc2 = linear(sum2, out=3)\n"
                                       "fc3 = linear(fc2, out=3)\n"
                                       "sum3 = add(fc2, fc3)\n";

static cnn_model *parse(const char *text)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse(text, "net", &model));
    cnn_model_init(model, 3);
    /* Statistics other than 0 and 1, so that a mix-up shows. */
    for (int i = 0; i < model->node_count; i++)
        for (int role = CNN_PARAM_GAMMA; role <= CNN_PARAM_RUNNING_VAR; role++) {
            const cnn_param *param = &model->nodes[i].param[role];
            for (int32_t c = 0; param->data && c < param->desc.c; c++)
                ((float *)param->data)[c] = 0.25f * (float)role + 0.125f * (float)c;
        }
    return model;
}

static cnn_onnx_file *encode(const cnn_model *model)
{
    uint8_t *data;
    size_t size;
    CHECK_OK(cnn_onnx_encode(model, &data, &size));
    cnn_onnx_file *file = cnn_onnx__model__unpack(NULL, size, data);
    ck_assert_ptr_nonnull(file);
    free(data);
    return file;
}

static void free_file(cnn_onnx_file *file)
{
    cnn_onnx__model__free_unpacked(file, NULL);
}

/* The model as it comes back. */
static cnn_model *through_file(const cnn_model *model)
{
    uint8_t *data;
    size_t size;
    cnn_model *back = NULL;
    CHECK_OK(cnn_onnx_encode(model, &data, &size));
    CHECK_OK(cnn_onnx_decode(data, size, "some/net.onnx", NULL, &back));
    free(data);
    return back;
}

static const cnn_onnx_tensor *find_constant(const cnn_onnx_file *file, const char *name)
{
    for (size_t i = 0; i < file->graph->n_constant; i++)
        if (strcmp(file->graph->constant[i]->name, name) == 0)
            return file->graph->constant[i];
    ck_abort_msg("there is no constant %s", name);
    return NULL;
}

static const cnn_onnx_node *find_node(const cnn_onnx_file *file, const char *output)
{
    for (size_t i = 0; i < file->graph->n_node; i++)
        if (strcmp(file->graph->node[i]->output[0], output) == 0)
            return file->graph->node[i];
    ck_abort_msg("no node gives %s", output);
    return NULL;
}

static void check_operators(const cnn_onnx_file *file, const char *wanted)
{
    char text[1024] = "";
    for (size_t i = 0; i < file->graph->n_node; i++) {
        strcat(text, i ? " " : "");
        strcat(text, file->graph->node[i]->operator_);
    }
    ck_assert_str_eq(text, wanted);
}

/* ---- What is written ---- */

START_TEST(test_graph)
{
    cnn_model *model = case_tiny();
    cnn_onnx_file *file = encode(model);
    check_operators(file, "Sub Div Conv BatchNormalization Relu MaxPool Flatten Gemm");
    ck_assert_int_eq(file->format, 8);
    ck_assert_int_eq(file->operators[0]->version, 17);
    const cnn_onnx_value_info *input = file->graph->input[0], *output = file->graph->output[0];
    ck_assert_str_eq(input->name, "image");
    ck_assert_str_eq(output->name, "logits");
    ck_assert_int_eq(input->type->tensor->element, CNN_ONNX_FLOAT);
    ck_assert_uint_eq(input->type->tensor->shape->n_dim, 4);
    ck_assert_str_eq(input->type->tensor->shape->dim[0]->symbol, "N");
    ck_assert_int_eq(input->type->tensor->shape->dim[1]->size, 1);
    ck_assert_int_eq(input->type->tensor->shape->dim[3]->size, 4);
    ck_assert_int_eq(output->type->tensor->shape->dim[1]->size, 3);
    /* A name of one value each, and every input is given before. */
    ck_assert_str_eq(find_node(file, "conv1")->input[0], "image.normalized");
    ck_assert_str_eq(find_node(file, "conv1")->input[1], "conv1.weight");
    ck_assert_uint_eq(find_node(file, "conv1")->n_input, 2);
    ck_assert_uint_eq(find_node(file, "logits")->n_input, 3);
    free_file(file);
    cnn_model_free(model);
}
END_TEST

/* Channels first, in convolutions and in linear layers that read pixels. */
START_TEST(test_order_of_weights)
{
    cnn_model *model = parse(IMAGE "c = conv(image, out=3, kernel=2)\nf = linear(c, out=7)\n");
    cnn_onnx_file *file = encode(model);
    const char *names[2] = {"c.weight", "f.weight"};
    const int64_t dims[2][4] = {{3, 2, 2, 2}, {7, 3, 5, 4}};
    for (int layer = 0; layer < 2; layer++) {
        const cnn_onnx_tensor *tensor = find_constant(file, names[layer]);
        const float *ours = model->nodes[layer + 1].param[CNN_PARAM_WEIGHT].data;
        const int64_t *d = dims[layer];
        ck_assert_uint_eq(tensor->n_dims, layer == 0 ? 4 : 2);
        ck_assert_int_eq(tensor->dims[0], d[0]);
        ck_assert_int_eq(tensor->dims[1], layer == 0 ? d[1] : d[1] * d[2] * d[3]);
        for (int64_t n = 0, i = 0; n < d[0]; n++)
            for (int64_t c = 0; c < d[1]; c++)
                for (int64_t h = 0; h < d[2]; h++)
                    for (int64_t w = 0; w < d[3]; w++, i++)
                        ck_assert_mem_eq(tensor->raw.data + 4 * i, &ours[((n * d[2] + h) * d[3] + w) * d[1] + c], 4);
    }
    free_file(file);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_quantized_graph)
{
    cnn_model *model = case_tiny_int8();
    cnn_onnx_file *file = encode(model);
    check_operators(file, "Sub Div QuantizeLinear DequantizeLinear DequantizeLinear DequantizeLinear Conv Relu "
                          "QuantizeLinear DequantizeLinear MaxPool QuantizeLinear DequantizeLinear Flatten "
                          "DequantizeLinear DequantizeLinear Gemm");
    const cnn_onnx_tensor *weight = find_constant(file, "fc1.weight"), *bias = find_constant(file, "fc1.bias");
    const cnn_onnx_tensor *scale = find_constant(file, "fc1.bias.scale"),
                          *zero = find_constant(file, "fc1.weight.zero");
    ck_assert_int_eq(weight->type, CNN_ONNX_INT8);
    ck_assert_int_eq(bias->type, CNN_ONNX_INT32);
    ck_assert_int_eq(zero->type, CNN_ONNX_INT8);
    ck_assert_uint_eq(zero->raw.len, 3);
    for (int k = 0; k < 3; k++) {
        const float wanted = model->nodes[3].out_scale * model->nodes[4].param[CNN_PARAM_WEIGHT].scale[k];
        ck_assert_mem_eq(scale->raw.data + 4 * k, &wanted, 4);
        ck_assert_int_eq(zero->raw.data[k], 0);
    }
    /* The scores are not quantized, and the pool keeps its input's scale. */
    ck_assert_str_eq(find_node(file, "logits")->operator_, "Gemm");
    ck_assert_mem_eq(find_constant(file, "pool1.scale")->raw.data, find_constant(file, "relu1.scale")->raw.data, 4);
    free_file(file);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_output_of_a_convolution_is_flattened)
{
    cnn_model *model = parse("image = input(height=3, width=3, channels=1)\nc = conv(image, out=5, kernel=3)\n");
    cnn_onnx_file *file = encode(model);
    check_operators(file, "Sub Div Conv Flatten");
    ck_assert_str_eq(find_node(file, "logits")->operator_, "Flatten");
    free_file(file);
    cnn_model *back = through_file(model);
    case_check_equal(model, back);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_names_that_collide)
{
    cnn_model *model =
        parse(IMAGE "c = conv(image, out=3, kernel=2)\nc.weight = relu(c)\nf = linear(c.weight, out=3)\n");
    uint8_t *data;
    size_t size;
    CHECK_FAILS(cnn_onnx_encode(model, &data, &size), CNN_ERR_SHAPE, "'c.weight'", "rename the layer");
    cnn_model_free(model);
    model = parse(IMAGE "logits = linear(image, out=3)\n");
    cnn_model *back = through_file(model);
    case_check_equal(model, back);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

static void rename_text(char **text, const char *name)
{
    free(*text);
    *text = strdup(name);
}

/* Gives a node and its constant weights the names that torch.onnx does: of modules, one folder each. */
static void rename_node(cnn_onnx_file *file, const char *layer, const char *node_name, const char *weight_name)
{
    cnn_onnx_node *node = (cnn_onnx_node *)(uintptr_t)find_node(file, layer);
    if (weight_name) {
        rename_text((char **)(uintptr_t)&find_constant(file, node->input[1])->name, weight_name);
        rename_text(&node->input[1], weight_name);
    }
    rename_text(&node->name, node_name);
}

START_TEST(test_names_of_modules)
{
    static const char *const names[] = {"layer1.0.conv1", "layer1.0.relu", "layer2.0.downsample.0", "head"};
    cnn_model *model = parse(IMAGE "a = conv(image, out=3, kernel=2)\nb = relu(a)\nc = conv(b, out=3, kernel=2)\n"
                                   "d = linear(c, out=3)\n"),
              *back = NULL;
    cnn_onnx_file *file = encode(model);
    rename_text(&file->producer, "pytorch");
    rename_node(file, "a", "/layer1/layer1.0/conv1/Conv", "onnx::Conv_7");
    rename_node(file, "b", "/layer1/layer1.0/relu/Relu_1", NULL);
    rename_node(file, "c", "/layer2/layer2.0/downsample/downsample.0/Conv", "onnx::Conv_8");
    rename_node(file, "logits", "/head/Gemm", "onnx::Gemm_9");
    const size_t size = cnn_onnx__model__get_packed_size(file);
    uint8_t *data = malloc(size);
    cnn_onnx__model__pack(file, data);
    free_file(file);
    CHECK_OK(cnn_onnx_decode(data, size, "net.onnx", NULL, &back));
    ck_assert_int_eq(back->node_count, 5);
    for (int i = 0; i < 4; i++)
        ck_assert_str_eq(back->nodes[i + 1].name, names[i]);
    free(data);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

/* ---- There and back ---- */

START_TEST(test_round_trip)
{
    cnn_model *model = parse(everything);
    cnn_model *back = through_file(model);
    case_check_equal(model, back);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

START_TEST(test_round_trip_of_what_is_known_of_the_data)
{
    cnn_model *model = case_tiny();
    char *names[3] = {"zero", "one and a half", "\xC3\xA4"};
    cnn_dataset data = {
        .id = CNN_DATASET_PICTURES, .classes = 3, .class_names = names, .preparation = CNN_PREPARE_RESIZE};
    CHECK_OK(cnn_model_set_data(model, &data));
    model->split_seed = UINT64_MAX;
    model->augment = 0.3;
    strcpy(model->augmentation, "shift,rotate=5");
    for (int c = 0; c < 4; c++) {
        model->normalization.mean[c] = 0.1307f;
        model->normalization.std[c] = 0.3081f;
    }
    cnn_model *back = through_file(model);
    case_check_equal(model, back);
    cnn_model_free(back);
    cnn_model_free(model);

    model = parse("image = input(height=28, width=28, channels=1)\nf = linear(image, out=10)\n");
    model->dataset = CNN_DATASET_MNIST;
    cnn_onnx_file *file = encode(model);
    ck_assert_uint_eq(file->n_note, 3); /* the input, the data set, the names of its classes for others */
    free_file(file);
    back = through_file(model);
    case_check_equal(model, back);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

/* Values inside a convolution with its ReLU are never kept, so no file says their scale. */
static void forget_fused_scales(cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++) {
        int reader;
        if (cnn_node_has_weights(&model->nodes[i]) && cnn_model_readers(model, i, &reader) == 1 &&
            model->nodes[reader].type->id == CNN_LAYER_RELU)
            model->nodes[i].out_scale = model->nodes[reader].out_scale;
    }
}

START_TEST(test_round_trip_of_int8)
{
    cnn_model *model = parse(IMAGE "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                                   "relu1 = relu(conv1)\n"
                                   "conv2 = conv(relu1, out=4, kernel=3, pad=1, bias=0)\n"
                                   "sum = add(conv2, relu1)\n"
                                   "relu2 = relu(sum)\n"
                                   "pool1 = maxpool(relu2, kernel=2)\n"
                                   "fc1 = linear(pool1, out=8)\n"
                                   "fc2 = linear(fc1, out=3)\n");
    case_quantize(model);
    cnn_model *back = through_file(model);
    forget_fused_scales(model);
    case_check_equal(model, back);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

/* A value below its range is -127 here and -128 in other tools: sums take it as -127. What a ReLU made has none. */
START_TEST(test_sums_of_int8_begin_at_127)
{
    cnn_model *model = parse(IMAGE "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                                   "relu1 = relu(conv1)\n"
                                   "pool1 = maxpool(relu1, kernel=1)\n"
                                   "conv2 = conv(pool1, out=4, kernel=3, pad=1)\n"
                                   "sum = add(pool1, conv2)\n"
                                   "fc1 = linear(sum, out=3)\n"),
              *back = NULL;
    case_quantize(model);
    cnn_onnx_file *file = encode(model);
    const cnn_onnx_node *sum = find_node(file, "sum"), *clip = find_node(file, sum->input[1]);
    const float least = -127.0f * model->nodes[4].out_scale;
    ck_assert_str_eq(find_node(file, sum->input[0])->operator_, "DequantizeLinear");
    ck_assert_str_eq(clip->operator_, "Clip");
    ck_assert_str_eq(find_node(file, clip->input[0])->operator_, "DequantizeLinear");
    ck_assert_uint_eq(clip->n_input, 2);
    const cnn_onnx_tensor *end = find_constant(file, clip->input[1]);
    ck_assert_mem_eq(end->raw.data, &least, sizeof least);
    /* One that cuts off what INT8 has is not nothing. */
    const float higher = 0.75f * least;
    memcpy(end->raw.data, &higher, sizeof higher);
    const size_t size = cnn_onnx__model__get_packed_size(file);
    uint8_t *data = malloc(size);
    cnn_onnx__model__pack(file, data);
    CHECK_FAILS(cnn_onnx_decode(data, size, "net.onnx", NULL, &back), CNN_ERR_UNSUPPORTED, "Clip", "begins at 0");
    free(data);
    free_file(file);
    cnn_model_free(model);
}
END_TEST

static const char averages[] = IMAGE "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                                     "relu1 = relu(conv1)\n"
                                     "pool1 = avgpool(relu1, kernel=2, stride=1)\n"
                                     "pool2 = avgpool(pool1, kernel=2)\n"
                                     "pool3 = globalavgpool(pool2)\n"
                                     "fc1 = linear(pool3, out=3)\n";

START_TEST(test_round_trip_of_averages)
{
    cnn_model *model = parse(averages);
    cnn_onnx_file *file = encode(model);
    check_operators(file, "Sub Div Conv Relu AveragePool AveragePool GlobalAveragePool Flatten Gemm");
    free_file(file);
    for (int int8 = 0; int8 < 2; int8++) {
        cnn_model *back = through_file(model);
        case_check_equal(model, back);
        cnn_model_free(back);
        case_quantize(model);
        forget_fused_scales(model);
    }
    cnn_model_free(model);
}
END_TEST

static cnn_onnx_attribute *add_attribute(cnn_onnx_node *node, const char *name, cnn_onnx_attribute_type type)
{
    cnn_onnx_attribute *made = malloc(sizeof *made);
    cnn_onnx__attribute__init(made);
    made->name = strdup(name);
    made->has_type = 1;
    made->type = (int32_t)type;
    node->attribute = realloc(node->attribute, (node->n_attribute + 1) * sizeof(cnn_onnx_attribute *));
    node->attribute[node->n_attribute++] = made;
    return made;
}

/* PyTorch writes an adaptive pooling to 1x1 as a mean over height and width. */
START_TEST(test_means_of_pixels)
{
    static const int64_t axes[][2] = {{2, 3}, {-1, -2}, {2, 3}, {1, 2}};
    cnn_model *model = parse(averages), *back = NULL;
    for (int i = 0; i < 4; i++) {
        cnn_onnx_file *file = encode(model);
        cnn_onnx_node *node = (cnn_onnx_node *)(uintptr_t)find_node(file, "pool3");
        free(node->operator_);
        node->operator_ = strdup("ReduceMean");
        cnn_onnx_attribute *list = add_attribute(node, "axes", CNN_ONNX_ATTRIBUTE_INTS);
        list->n_wholes = 2;
        list->wholes = malloc(sizeof axes[i]);
        memcpy(list->wholes, axes[i], sizeof axes[i]);
        cnn_onnx_attribute *keeps = add_attribute(node, "keepdims", CNN_ONNX_ATTRIBUTE_INT);
        keeps->has_whole = 1;
        keeps->whole = i == 2 ? 0 : 1;
        const size_t size = cnn_onnx__model__get_packed_size(file);
        uint8_t *data = malloc(size);
        cnn_onnx__model__pack(file, data);
        free_file(file);
        if (i == 3)
            CHECK_FAILS(cnn_onnx_decode(data, size, "net.onnx", NULL, &back), CNN_ERR_UNSUPPORTED, "(ReduceMean)",
                        "height and width");
        else {
            CHECK_OK(cnn_onnx_decode(data, size, "some/net.onnx", NULL, &back));
            case_check_equal(model, back);
            cnn_model_free(back);
            back = NULL;
        }
        free(data);
    }
    cnn_model_free(model);
}
END_TEST

START_TEST(test_same_model_same_bytes)
{
    cnn_model *model = case_tiny_int8(), *back = NULL;
    uint8_t *a, *b;
    size_t a_size, b_size;
    CHECK_OK(cnn_onnx_encode(model, &a, &a_size));
    CHECK_OK(cnn_onnx_decode(a, a_size, "net.onnx", NULL, &back));
    CHECK_OK(cnn_onnx_encode(back, &b, &b_size));
    ck_assert_uint_eq(a_size, b_size);
    ck_assert_mem_eq(a, b, a_size);
    free(a);
    free(b);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

/* ---- Files of other tools ---- */

/* Reads a file of the corpus, which other tools wrote. */
static cnn_model *load_corpus(const char *name, const cnn_normalization *input)
{
    char path[512];
    cnn_model *model = NULL;
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/onnx/%s", CNN_SOURCE_DIR, name);
    CHECK_OK(cnn_onnx_load(path, input, &model));
    return model;
}

static void check_layers(const cnn_model *model, const char *wanted)
{
    char text[1024] = "";
    for (int i = 0; i < model->node_count; i++) {
        strcat(text, i ? " " : "");
        strcat(text, model->nodes[i].type->name);
    }
    ck_assert_str_eq(text, wanted);
}

/* One at the end of the network is the output, in float and in INT8. Its logarithm is not noted. */
START_TEST(test_softmax)
{
    static const char *const nets[3] = {
        IMAGE "fc = linear(image, out=3)\np = softmax(fc)\n",
        IMAGE "probabilities = relu(image)\nfc = linear(probabilities, out=3)\np = softmax(fc)\n",
        IMAGE "c = conv(image, out=3, kernel=5)\ng = globalavgpool(c)\np = softmax(g)\n"};
    static const char *const outputs[3] = {"probabilities", "logits.probabilities", "probabilities"};
    static const char *const operators[3] = {"Sub Div Flatten Gemm Softmax", "Sub Div Relu Flatten Gemm Softmax",
                                             "Sub Div Conv GlobalAveragePool Flatten Softmax"};
    for (int i = 0; i < 3; i++) {
        cnn_model *model = parse(nets[i]);
        cnn_onnx_file *file = encode(model);
        check_operators(file, operators[i]);
        ck_assert_str_eq(file->graph->output[0]->name, outputs[i]);
        ck_assert_str_eq(find_node(file, outputs[i])->input[0], "logits");
        cnn_model *back = through_file(model);
        ck_assert(back->softmax);
        case_check_equal(model, back);
        cnn_model_free(back);
        back = NULL;
        rename_text((char **)(uintptr_t)&find_node(file, outputs[i])->operator_, "LogSoftmax");
        const size_t size = cnn_onnx__model__get_packed_size(file);
        uint8_t *data = malloc(size);
        cnn_onnx__model__pack(file, data);
        CHECK_OK(cnn_onnx_decode(data, size, "net.onnx", NULL, &back));
        ck_assert(!back->softmax);
        cnn_model_free(back);
        free(data);
        free_file(file);
        if (i != 2)
            case_quantize(model);
        back = through_file(model);
        case_check_equal(model, back);
        cnn_model_free(back);
        cnn_model_free(model);
    }
}
END_TEST

START_TEST(test_softmax_in_the_middle)
{
    cnn_model *model = parse(IMAGE "fc1 = linear(image, out=3)\nr = relu(fc1)\nfc2 = linear(r, out=3)\n"), *back = NULL;
    cnn_onnx_file *file = encode(model);
    rename_text((char **)(uintptr_t)&find_node(file, "r")->operator_, "Softmax");
    const size_t size = cnn_onnx__model__get_packed_size(file);
    uint8_t *data = malloc(size);
    cnn_onnx__model__pack(file, data);
    CHECK_FAILS(cnn_onnx_decode(data, size, "net.onnx", NULL, &back), CNN_ERR_UNSUPPORTED, "node 'fc2' (Gemm)",
                "'r' is a softmax, which may only stand at the end");
    free(data);
    free_file(file);
    cnn_model_free(model);
}
END_TEST

/* torch.onnx of x.view(x.size(0), -1), a residual add, log_softmax; both of its exporters. */
START_TEST(test_files_of_torch)
{
    static const char *const files[2] = {"torch-script-11.onnx", "torch-dynamo-20.onnx"};
    for (int i = 0; i < 2; i++) {
        cnn_model *model = load_corpus(files[i], NULL);
        check_layers(model, "input conv relu conv add maxpool linear");
        ck_assert_str_eq(model->nodes[1].name, "conv1");
        ck_assert_str_eq(model->nodes[model->node_count - 1].name, "fc");
        ck_assert(model->normalization.mean[0] == 0.0f && model->normalization.std[0] == 1.0f);
        cnn_model_free(model);
    }
    const cnn_normalization input = {{0.5f, 0.5f, 0.5f, 0.5f}, {0.25f, 0.25f, 0.25f, 0.25f}};
    cnn_model *model = load_corpus(files[0], &input);
    ck_assert(model->normalization.mean[0] == 0.5f && model->normalization.std[0] == 0.25f);
    cnn_model_free(model);
}
END_TEST

/* What the graph does to pixels comes after what was done outside. */
START_TEST(test_normalization_adds_up)
{
    cnn_model *model = case_tiny();
    uint8_t *data;
    size_t size;
    cnn_model *back = NULL;
    const cnn_normalization input = {{0.25f, 0.25f, 0.25f, 0.25f}, {2, 2, 2, 2}};
    CHECK_OK(cnn_onnx_encode(model, &data, &size));
    CHECK_OK(cnn_onnx_decode(data, size, "net.onnx", &input, &back));
    /* ((x - 0.25)/2 - 0.5)/0.5 = (x - 1.25)/1 */
    ck_assert(back->normalization.mean[0] == 1.25f && back->normalization.std[0] == 1.0f);
    free(data);
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

/* ---- Files ---- */

START_TEST(test_save_and_load)
{
    char path[] = "test_onnx_XXXXXX";
    const int fd = mkstemp(path);
    size_t bytes;
    cnn_model *model = case_tiny(), *back = NULL;
    ck_assert_int_ge(fd, 0);
    CHECK_OK(cnn_onnx_save(model, path, &bytes));
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), 0); /* the name is of a new file now */
    CHECK_OK(cnn_onnx_load(path, NULL, &back));
    case_check_equal(model, back);
    close(fd);
    unlink(path);
    CHECK_FAILS(cnn_onnx_load(path, NULL, &back), CNN_ERR_IO, "there is no such file");
    CHECK_FAILS(cnn_onnx_save(model, "missing/folder/x.onnx", NULL), CNN_ERR_IO, "missing/folder");
    cnn_model_free(back);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("onnx");
    tcase_add_test(tests, test_graph);
    tcase_add_test(tests, test_order_of_weights);
    tcase_add_test(tests, test_quantized_graph);
    tcase_add_test(tests, test_output_of_a_convolution_is_flattened);
    tcase_add_test(tests, test_names_that_collide);
    tcase_add_test(tests, test_names_of_modules);
    tcase_add_test(tests, test_round_trip);
    tcase_add_test(tests, test_round_trip_of_what_is_known_of_the_data);
    tcase_add_test(tests, test_round_trip_of_int8);
    tcase_add_test(tests, test_sums_of_int8_begin_at_127);
    tcase_add_test(tests, test_round_trip_of_averages);
    tcase_add_test(tests, test_means_of_pixels);
    tcase_add_test(tests, test_same_model_same_bytes);
    tcase_add_test(tests, test_softmax);
    tcase_add_test(tests, test_softmax_in_the_middle);
    tcase_add_test(tests, test_files_of_torch);
    tcase_add_test(tests, test_normalization_adds_up);
    tcase_add_test(tests, test_save_and_load);
    Suite *suite = suite_create("onnx");
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
