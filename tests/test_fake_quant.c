/* Fake quantization: observing a quantized model shows the numbers that its integers stand for, exactly, and ends in
 * the logits of the fused inference program. */
#include "tests/optimize_common.h"

#include "cnn/quant.h"
#include "core/session.h"

#include <math.h>

enum { SIDE = 28, IMAGES = 150, SHOWN = 37, BATCH = 16, CLASSES = 10 };

static const char bn_net[] = "image = input(height=28, width=28, channels=1)\n"
                             "conv1 = conv(image, out=5, kernel=5, stride=2, bias=0)\n"
                             "bn1 = bn(conv1)\n"
                             "relu1 = relu(bn1)\n"
                             "conv2 = conv(relu1, out=5, kernel=3, pad=1, bias=0)\n"
                             "bn2 = bn(conv2)\n"
                             "sum = add(relu1, bn2)\n"
                             "relu2 = relu(sum)\n"
                             "conv3 = conv(relu2, out=7, kernel=3)\n"
                             "pool3 = maxpool(conv3, kernel=2)\n"
                             "fc1 = linear(pool3, out=20)\n"
                             "relu3 = relu(fc1)\n"
                             "fc2 = linear(relu3, out=10)\n";

static cnn_model *quantized(const char *name, const cnn_dataset *data)
{
    cnn_model *model;
    if (name) {
        CHECK_OK(cnn_model_create(name, &model));
        cnn_model_init(model, 3);
    } else {
        model = make_model(bn_net, 3);
        CHECK_OK(cnn_fold_batchnorm(model));
    }
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.images = 64;
    CHECK_OK(cnn_quantize(model, data, &options, NULL, NULL));
    return model;
}

/* Everything that an observation shows, by node: [SHOWN] images in the order they came. */
typedef struct shown {
    const cnn_model *model;
    float **value;
    int64_t *count;
} shown;

static cnn_status keep(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    shown *all = context;
    int64_t elements = cnn_desc_elements(desc);
    ck_assert_int_eq(desc->dtype, CNN_F32);
    ck_assert_int_eq(desc->c, desc->c_pad);
    ck_assert_int_eq(elements / desc->n, cnn_desc_elements(&all->model->nodes[node].out));
    memcpy(all->value[node] + all->count[node], values, (size_t)elements * sizeof *values);
    all->count[node] += elements;
    return CNN_OK;
}

static shown observe(cnn_model *model, const char *device, const cnn_dataset *data)
{
    shown all = {model, calloc((size_t)model->node_count, sizeof *all.value),
                 calloc((size_t)model->node_count, sizeof *all.count)};
    for (int i = 0; i < model->node_count; i++)
        all.value[i] = malloc((size_t)(SHOWN * cnn_desc_elements(&model->nodes[i].out)) * sizeof(float));
    cnn_session *session;
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = device, .batch = BATCH}, &session));
    CHECK_OK(cnn_session_observe(session, data, NULL, SHOWN, keep, &all));
    cnn_session_close(session);
    for (int i = 0; i < model->node_count; i++)
        ck_assert_int_eq(all.count[i], SHOWN * cnn_desc_elements(&model->nodes[i].out));
    return all;
}

static void free_shown(shown *all)
{
    for (int i = 0; i < all->model->node_count; i++)
        free(all->value[i]);
    free(all->value);
    free(all->count);
}

/* ---- The network once more, from cnn/quant.h alone ---- */

/* ck_assert for millions of values: it is silent where all is well. */
#define MUST_EQUAL(seen, expected)                                                                    \
    do {                                                                                              \
        if ((seen) != (expected))                                                                     \
            ck_abort_msg("%s is %g, %s is %g", #seen, (double)(seen), #expected, (double)(expected)); \
    } while (0)

/* The int8 value of element `i` of a node, which must be shown as exactly scale * q. */
static int q_of(const shown *all, int node, int64_t i)
{
    float scale = all->model->nodes[node].out_scale, value = all->value[node][i];
    int q = (int)lrintf(value / scale);
    if (q > 127 || q < -127 || scale * (float)q != value)
        ck_abort_msg("%s[%d] = %g is no int8 multiple of %g", all->model->nodes[node].name, (int)i, (double)value,
                     (double)scale);
    return q;
}

/* Sum of products and bias of output channel k at (p, q) of an image. */
static int32_t sum_at(const shown *all, int index, int64_t image, int p, int q, int k)
{
    const cnn_node *node = &all->model->nodes[index];
    const cnn_tensor_desc *in = &all->model->nodes[node->input[0]].out, *w = &node->param[CNN_PARAM_WEIGHT].desc;
    bool conv = node->type->id == CNN_LAYER_CONV;
    int stride = conv ? cnn_node_int(node, "stride") : 1, pad = conv ? cnn_node_int(node, "pad") : 0;
    const int8_t *weights = node->param[CNN_PARAM_WEIGHT].data;
    int32_t sum = ((const int32_t *)node->param[CNN_PARAM_BIAS].data)[k];
    for (int r = 0; r < w->h; r++)
        for (int s = 0; s < w->w; s++) {
            int y = p * stride + r - pad, x = q * stride + s - pad;
            for (int c = 0; c < w->c && y >= 0 && y < in->h && x >= 0 && x < in->w; c++)
                sum += q_of(all, node->input[0], ((image * in->h + y) * in->w + x) * in->c + c) *
                       weights[((k * w->h + r) * w->w + s) * w->c + c];
        }
    return sum;
}

/* A layer with weights: shown as its int8 value, or as its sum where its ReLU requantizes, or as a logit. */
static void check_gemm(const shown *all, int index, int64_t image)
{
    const cnn_model *model = all->model;
    const cnn_node *node = &model->nodes[index];
    int relu = -1;
    if (index + 1 < model->node_count && model->nodes[index + 1].type->id == CNN_LAYER_RELU &&
        model->nodes[index + 1].input[0] == index)
        relu = index + 1;
    float s_in = model->nodes[node->input[0]].out_scale;
    int64_t at = image * cnn_desc_elements(&node->out);
    for (int p = 0; p < node->out.h; p++)
        for (int q = 0; q < node->out.w; q++)
            for (int k = 0; k < node->out.c; k++, at++) {
                int32_t sum = sum_at(all, index, image, p, q, k);
                float s_w = node->param[CNN_PARAM_WEIGHT].scale[k], value = all->value[index][at];
                if (relu >= 0 || index == model->node_count - 1)
                    MUST_EQUAL(value, (float)sum * cnn_quant_logit_multiplier(s_in, s_w));
                if (index == model->node_count - 1)
                    continue;
                int end = relu >= 0 ? relu : index;
                float m = cnn_quant_multiplier(s_in, s_w, model->nodes[end].out_scale);
                MUST_EQUAL(q_of(all, end, at), cnn_quant_requantize(sum, m, relu >= 0 ? 0 : -127, 127));
            }
}

static void check_add(const shown *all, int index, int64_t image)
{
    const cnn_node *node = &all->model->nodes[index];
    const float s_a = all->model->nodes[node->input[0]].out_scale, s_b = all->model->nodes[node->input[1]].out_scale;
    int64_t count = cnn_desc_elements(&node->out);
    for (int64_t i = image * count; i < (image + 1) * count; i++) {
        int8_t a = (int8_t)q_of(all, node->input[0], i), b = (int8_t)q_of(all, node->input[1], i);
        MUST_EQUAL(q_of(all, index, i), cnn_quant_add(a, b, s_a, s_b, node->out_scale, -127, 127));
    }
}

static void check_nodes(const shown *all, const cnn_dataset *data, int64_t image)
{
    const cnn_model *model = all->model;
    for (int64_t i = image * SIDE * SIDE; i < (image + 1) * SIDE * SIDE; i++) {
        float value = (float)((data->images[i] / 255.0 - 0.5) / 0.5);
        MUST_EQUAL(q_of(all, 0, i), cnn_quant_value(value, model->nodes[0].out_scale));
    }
    for (int index = 1; index < model->node_count; index++) {
        const cnn_node *node = &model->nodes[index];
        if (node->type->id == CNN_LAYER_CONV || node->type->id == CNN_LAYER_LINEAR)
            check_gemm(all, index, image);
        if (node->type->id == CNN_LAYER_ADD)
            check_add(all, index, image);
        for (int64_t i = 0; i < cnn_desc_elements(&node->out) && node->out_scale > 0; i++)
            if (node->type->id != CNN_LAYER_CONV && node->type->id != CNN_LAYER_LINEAR)
                q_of(all, index, image * cnn_desc_elements(&node->out) + i);
    }
}

static void check_network(const char *name)
{
    static const char *const devices[] = {"cpu", "ref"};
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = quantized(name, &data);
    for (int d = 0; d < 2; d++) {
        shown all = observe(model, devices[d], &data);
        float *logits = run_logits(model, devices[d], &data, SHOWN);
        ck_assert_mem_eq(logits, all.value[model->node_count - 1], SHOWN * CLASSES * sizeof *logits);
        check_nodes(&all, &data, 0);
        check_nodes(&all, &data, SHOWN - 1); /* of the last, smaller batch */
        free(logits);
        free_shown(&all);
    }
    cnn_model_free(model);
    free_data(&data);
}

START_TEST(test_lenet5_is_exact)
{
    check_network("lenet5");
}
END_TEST

START_TEST(test_a_residual_network_with_batch_norms_is_exact)
{
    check_network(NULL);
}
END_TEST

/* ---- Sums of one layer ---- */

typedef struct sums {
    int node;
    int64_t count;
    float *values;
} sums;

static cnn_status keep_sums(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    sums *seen = context;
    ck_assert_int_eq(node, seen->node);
    memcpy(seen->values + seen->count, values, (size_t)cnn_desc_elements(desc) * sizeof *values);
    seen->count += cnn_desc_elements(desc);
    return CNN_OK;
}

/* Without its ReLU a layer is shown as int8; its sums come before that: rounded, they are the int8 value. */
START_TEST(test_sums_before_requantization)
{
    cnn_dataset data = make_data(IMAGES, SIDE, 1, CLASSES);
    cnn_model *model = quantized(NULL, &data);
    shown all = observe(model, "cpu", &data);
    int node = cnn_model_find(model, "conv3");
    int64_t elements = SHOWN * cnn_desc_elements(&model->nodes[node].out);
    float scale = model->nodes[node].out_scale;
    sums seen = {node, 0, malloc((size_t)elements * sizeof(float))};
    cnn_session *session;
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = "cpu", .batch = BATCH}, &session));
    CHECK_OK(cnn_session_observe_sums(session, &data, NULL, SHOWN, node, keep_sums, &seen));
    cnn_session_close(session);
    ck_assert_int_eq(seen.count, elements);
    int fractions = 0;
    for (int64_t i = 0; i < elements; i++) {
        double exact = fmax(-127, fmin(127, (double)seen.values[i] / (double)scale));
        if (fabs(exact - q_of(&all, node, i)) > 0.5001)
            ck_abort_msg("%g is rounded to %d", exact, q_of(&all, node, i));
        fractions += fabs(exact - q_of(&all, node, i)) > 0.1;
    }
    ck_assert_int_gt(fractions, (int)elements / 2);
    free(seen.values);
    free_shown(&all);
    cnn_model_free(model);
    free_data(&data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fake quantization");
    TCase *tests = tcase_create("exact");
    tcase_add_test(tests, test_lenet5_is_exact);
    tcase_add_test(tests, test_a_residual_network_with_batch_norms_is_exact);
    tcase_add_test(tests, test_sums_before_requantization);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
