/* Small models for tests. */
#include "model_case.h"

#include "core/layers.h"
#include "core/memory.h"

#include <check.h>
#include <string.h>

void case_check_error(cnn_status got, cnn_status want, const char *call, const char *const *parts)
{
    ck_assert_msg(got == want, "%s gave %s (%s), not %s", call, cnn_status_name(got),
                  got ? cnn_last_error() : "no error", cnn_status_name(want));
    for (; *parts; parts++)
        ck_assert_msg(strstr(cnn_last_error(), *parts), "%s: the error \"%s\" does not say \"%s\"", call,
                      cnn_last_error(), *parts);
}

static cnn_model *parse(const char *text)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse(text, "tiny", &model));
    cnn_model_init(model, 7);
    return model;
}

cnn_model *case_tiny(void)
{
    return parse("image = input(height=4, width=4, channels=1)\n"
                 "conv1 = conv(image, out=2, kernel=3, pad=1, bias=0)\n"
                 "bn1 = bn(conv1)\n"
                 "relu1 = relu(bn1)\n"
                 "pool1 = maxpool(relu1, kernel=2)\n"
                 "fc1 = linear(pool1, out=3)\n");
}

cnn_model *case_tiny_int8(void)
{
    cnn_model *model = parse("image = input(height=4, width=4, channels=1)\n"
                             "conv1 = conv(image, out=2, kernel=3, pad=1)\n"
                             "relu1 = relu(conv1)\n"
                             "pool1 = maxpool(relu1, kernel=2)\n"
                             "fc1 = linear(pool1, out=3)\n");
    case_quantize(model);
    return model;
}

static void quantize_weight(cnn_node *node)
{
    cnn_param *weight = &node->param[CNN_PARAM_WEIGHT], *bias = &node->param[CNN_PARAM_BIAS];
    cnn_tensor_desc desc = weight->desc;
    int32_t out = desc.n;
    cnn_param_free(weight);
    desc.dtype = CNN_I8;
    CHECK_OK(cnn_param_alloc(weight, desc));
    weight->scale = cnn_aligned_alloc((size_t)out * sizeof(float));
    for (int32_t k = 0; k < out; k++)
        weight->scale[k] = 0.001f + 0.0001f * (float)k;
    for (int64_t i = 0; i < cnn_desc_elements(&desc); i++)
        ((int8_t *)weight->data)[i] = (int8_t)((i * 37 + 5) % 255 - 127);
    if (!bias->data)
        return;
    cnn_param_free(bias);
    CHECK_OK(cnn_param_alloc(bias, cnn_desc_vector(CNN_I32, out)));
    for (int32_t k = 0; k < out; k++)
        ((int32_t *)bias->data)[k] = 1000 * k - 1500;
}

void case_quantize(cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++) {
        cnn_node *node = &model->nodes[i];
        bool logits = i == model->node_count - 1;
        if (node->param[CNN_PARAM_WEIGHT].data)
            quantize_weight(node);
        if (!logits)
            node->out_scale = node->type->flags & CNN_LAYER_KEEPS_SCALE ? model->nodes[node->input[0]].out_scale
                                                                        : 0.01f * (float)(i + 1);
    }
}

static void check_param(const cnn_param *a, const cnn_param *b)
{
    ck_assert_int_eq(a->desc.structure, b->desc.structure);
    ck_assert_mem_eq(&a->desc, &b->desc, sizeof a->desc);
    ck_assert_int_eq(a->data != NULL, b->data != NULL);
    ck_assert_int_eq(a->scale != NULL, b->scale != NULL);
    ck_assert_int_eq(a->mask != NULL, b->mask != NULL);
    if (a->data)
        ck_assert_mem_eq(a->data, b->data, cnn_desc_bytes(&a->desc));
    if (a->scale)
        ck_assert_mem_eq(a->scale, b->scale, (size_t)a->desc.n * sizeof(float));
    if (a->mask)
        ck_assert_mem_eq(a->mask, b->mask, (size_t)cnn_desc_elements(&a->desc));
}

static void check_node(const cnn_node *a, const cnn_node *b)
{
    ck_assert_ptr_eq(a->type, b->type);
    ck_assert_str_eq(a->name, b->name);
    ck_assert_int_eq(a->input_count, b->input_count);
    for (int i = 0; i < a->input_count; i++)
        ck_assert_int_eq(a->input[i], b->input[i]);
    for (int i = 0; i < CNN_MAX_ATTRS && a->type->attr[i].name; i++)
        ck_assert(a->attr[i] == b->attr[i]);
    ck_assert(a->out_scale == b->out_scale);
    ck_assert_mem_eq(&a->out, &b->out, sizeof a->out);
    for (int role = 0; role < CNN_PARAM_COUNT; role++)
        check_param(&a->param[role], &b->param[role]);
}

void case_check_equal(const cnn_model *a, const cnn_model *b)
{
    ck_assert_str_eq(a->name, b->name);
    ck_assert_int_eq(a->node_count, b->node_count);
    ck_assert_int_eq(a->softmax, b->softmax);
    ck_assert_int_eq(a->dataset, b->dataset);
    ck_assert(a->split_seed == b->split_seed);
    ck_assert_mem_eq(&a->normalization, &b->normalization, sizeof a->normalization);
    ck_assert_int_eq(a->preparation, b->preparation);
    ck_assert(a->augment == b->augment);
    ck_assert_str_eq(a->augmentation, b->augmentation);
    ck_assert_int_eq(a->class_names != NULL, b->class_names != NULL);
    for (int i = 0; a->class_names && i < cnn_model_output(a).c; i++)
        ck_assert_str_eq(a->class_names[i], b->class_names[i]);
    ck_assert_str_eq(a->text ? a->text : "", b->text ? b->text : "");
    for (int i = 0; i < a->node_count; i++)
        check_node(&a->nodes[i], &b->nodes[i]);
}
