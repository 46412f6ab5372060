/* From the shipped models to distinct cuDNN graphs, on the path that a session takes: lower, fuse, choose. */
#include "core/program.h"

#include "cnn/optimize.h"
#include "core/error.h"
#include "core/hash.h"
#include "kernels/cuda/device.h"
#include "tests/cudnn_plans/plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern cnn_plugin_fn cnn_plugin;

static void add_graph(plan_graphs *graphs, const cnn_op_desc *desc, const char *user, bool slow)
{
    cnn_cudnn_op op;
    char text[CNN_CUDNN_TEXT_BYTES];
    int i = 0;
    cnn_cudnn_op_graph(desc, &op);
    cnn_cudnn_graph_print(&op.graph, text);
    while (i < graphs->count && strcmp(graphs->graph[i].text, text) != 0)
        i++;
    if (i == GRAPHS)
        return;
    plan_graph *graph = &graphs->graph[i];
    if (i == graphs->count) {
        graphs->count++;
        graph->desc = *desc;
        graph->slow = slow;
        memcpy(graph->text, text, sizeof text);
    }
    graph->slow &= slow;
    if (strstr(graph->used, user))
        return;
    size_t length = strlen(graph->used);
    snprintf(graph->used + length, sizeof graph->used - length, "%s%s", length ? ", " : "", user);
}

static cnn_status collect_program(const cnn_model *model, const cnn_lower_options *options, const char *purpose,
                                  plan_graphs *graphs)
{
    cnn_program *program = NULL;
    cnn_status status = cnn_program_lower(model, options, &program);
    if (status == CNN_OK)
        status = cnn_program_fuse(program, options->backend, options->device);
    for (int i = 0; status == CNN_OK && i < program->instruction_count; i++) {
        const cnn_instruction *instruction = &program->instructions[i];
        char why[CNN_REASON_BYTES] = "", user[160];
        const cnn_cuda_impl *impl = cnn_cuda_choose(options->device, &instruction->desc, NULL, why);
        if (!impl)
            status = cnn_error(CNN_ERR_UNSUPPORTED, "%s, %s: no implementation: %s", model->name, purpose, why);
        if (!impl || impl->make != cnn_cudnn_make)
            continue;
        snprintf(user, sizeof user, "%s %s %s", model->name,
                 instruction->node >= 0 ? model->nodes[instruction->node].name : "", purpose);
        add_graph(graphs, &instruction->desc, user, options->goal == CNN_GOAL_TRAIN && options->batch == 1);
    }
    cnn_program_free(program, options->backend, options->device);
    return status;
}

/* Training in f32, fp16 and bf16, inference in f32, each at batch 64 and 1. */
static cnn_status collect_float(const cnn_model *model, cnn_lower_options *options, plan_graphs *graphs)
{
    static const struct {
        cnn_goal goal;
        cnn_dtype storage;
        const char *purpose;
    } wanted[] = {{CNN_GOAL_TRAIN, CNN_F16, "fp16 train"},
                  {CNN_GOAL_TRAIN, CNN_BF16, "bf16 train"},
                  {CNN_GOAL_TRAIN, CNN_F32, "f32 train"},
                  {CNN_GOAL_INFER, CNN_F32, "f32 infer"}};
    cnn_status status = CNN_OK;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && status == CNN_OK; i++) {
        options->goal = wanted[i].goal;
        options->storage = wanted[i].storage;
        options->constant_weights = wanted[i].goal == CNN_GOAL_INFER;
        status = collect_program(model, options, wanted[i].purpose, graphs);
    }
    return status;
}

/* Random weights and random pictures do for the shapes of an INT8 program. */
static cnn_status quantize(cnn_model *model)
{
    enum { IMAGES = 64 };
    const cnn_tensor_desc input = cnn_model_input(model);
    const size_t bytes = (size_t)cnn_desc_elements(&input);
    cnn_dataset data = {.count = IMAGES, .height = input.h, .width = input.w, .channels = input.c, .classes = 10};
    cnn_quantize_options options;
    cnn_status status = CNN_ERR_MEMORY;
    data.images = malloc(bytes * IMAGES);
    data.labels = malloc(IMAGES);
    if (data.images && data.labels) {
        for (size_t i = 0; i < bytes * IMAGES; i++)
            data.images[i] = (uint8_t)(cnn_hash(1, CNN_PURPOSE_SYNTH, i, 0) >> 56);
        for (int i = 0; i < IMAGES; i++)
            data.labels[i] = (uint8_t)(i % 10);
        cnn_quantize_options_init(&options);
        options.observer = CNN_OBSERVER_MAX;
        options.images = 8;
        options.bias_correction = false;
        options.device = "cpu";
        status = cnn_fold_batchnorm(model);
        if (status == CNN_OK)
            status = cnn_quantize(model, &data, &options, NULL, NULL);
    }
    free(data.images);
    free(data.labels);
    return status;
}

static cnn_status collect_model(const char *name, cnn_lower_options *options, plan_graphs *graphs)
{
    static const int batches[] = {64, 1};
    cnn_model *model = NULL;
    cnn_status status = cnn_model_create(name, &model);
    if (status != CNN_OK)
        return status;
    cnn_model_init(model, 1);
    for (int i = 0; i < 2 && status == CNN_OK; i++) {
        options->batch = batches[i];
        status = collect_float(model, options, graphs);
    }
    if (status == CNN_OK)
        status = quantize(model);
    for (int i = 0; i < 2 && status == CNN_OK; i++) {
        options->batch = batches[i];
        options->goal = CNN_GOAL_INFER;
        options->constant_weights = true;
        status = collect_program(model, options, "int8 infer", graphs);
    }
    cnn_model_free(model);
    return status;
}

cnn_status collect_shipped(cnn_device *device, plan_graphs *graphs)
{
    static const char *const names[] = {"convnet", "lenet5", "lenet5-caffe"};
    cnn_lower_options options = {.data_count = 1000, .rate_count = 1, .backend = cnn_plugin(), .device = device};
    cnn_status status = CNN_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == CNN_OK; i++)
        status = collect_model(names[i], &options, graphs);
    return status;
}

/* ---- Other networks ---- */

static cnn_op_desc conv(cnn_dtype dtype, int32_t size, int32_t in, int32_t out, int32_t kernel, int32_t stride)
{
    const int32_t pad = kernel / 2, result = cnn_window_count(size, kernel, stride, pad);
    cnn_op_desc desc = {.op = CNN_OP_CONV, .stride = stride, .pad = pad};
    desc.arg[CNN_ARG_SRC] = cnn_desc(dtype, 64, size, size, in);
    desc.arg[CNN_ARG_WEIGHT] = cnn_desc(dtype, out, kernel, kernel, in);
    desc.arg[CNN_ARG_DST] = cnn_desc(dtype, 64, result, result, out);
    return desc;
}

static cnn_op_desc dgrad(cnn_op_desc desc)
{
    const cnn_tensor_desc dx = desc.arg[CNN_ARG_SRC];
    desc.op = CNN_OP_CONV_DGRAD;
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST];
    desc.arg[CNN_ARG_DST] = dx;
    return desc;
}

static cnn_op_desc wgrad(cnn_op_desc desc)
{
    desc.op = CNN_OP_CONV_WGRAD;
    desc.arg[CNN_ARG_SRC2] = desc.arg[CNN_ARG_DST];
    desc.arg[CNN_ARG_DST] = desc.arg[CNN_ARG_WEIGHT];
    desc.arg[CNN_ARG_DST].dtype = CNN_F32;
    desc.arg[CNN_ARG_WEIGHT] = (cnn_tensor_desc){0};
    return desc;
}

static cnn_op_desc batch_norm(cnn_op op, cnn_dtype dtype, int32_t channels)
{
    cnn_op_desc desc = {.op = op, .eps = 1e-5f};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = desc.arg[CNN_ARG_SRC2] = cnn_desc(dtype, 64, 14, 14, channels);
    for (int role = CNN_ARG_GAMMA; role <= CNN_ARG_INVSTD; role++)
        desc.arg[role] = cnn_desc_vector(CNN_F32, channels);
    desc.arg[CNN_ARG_DST2] = desc.arg[CNN_ARG_DST3] = cnn_desc_vector(CNN_F32, channels);
    return desc;
}

void collect_others(plan_graphs *graphs)
{
    cnn_op_desc residual = conv(CNN_F16, 32, 16, 16, 3, 1);
    residual.arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_F32, 16);
    residual.arg[CNN_ARG_SRC2] = residual.arg[CNN_ARG_DST];
    residual.epilogue[0] = CNN_EPILOGUE_BIAS;
    residual.epilogue[1] = CNN_EPILOGUE_ADD;
    residual.epilogue[2] = CNN_EPILOGUE_RELU;
    residual.epilogue_count = 3;
    cnn_op_desc logits = conv(CNN_F16, 8, 64, 10, 1, 1);
    logits.arg[CNN_ARG_DST].dtype = CNN_F32;
    const struct {
        cnn_op_desc desc;
        const char *user;
    } others[] = {
        {residual, "residual block"},
        {logits, "f32 logits of fp16"},
        {conv(CNN_BF16, 32, 16, 32, 3, 2), "stride 2"},
        {dgrad(conv(CNN_BF16, 32, 16, 32, 3, 2)), "stride 2"},
        {wgrad(conv(CNN_F32, 32, 16, 32, 3, 2)), "stride 2"},
        {conv(CNN_F16, 14, 91, 223, 5, 1), "odd widths"},
        {dgrad(conv(CNN_F16, 14, 91, 223, 5, 1)), "odd widths"},
        {wgrad(conv(CNN_F16, 14, 88, 224, 5, 1)), "pruned widths"},
        {conv(CNN_F16, 8, 64, 64, 3, 1), "resnet20's third stage"},
        {dgrad(conv(CNN_F16, 8, 64, 64, 3, 1)), "resnet20's third stage"},
        {wgrad(conv(CNN_F16, 8, 64, 64, 3, 1)), "resnet20's third stage"},
        {conv(CNN_F16, 32, 16, 32, 1, 2), "resnet20's projection"},
        {dgrad(conv(CNN_F16, 32, 16, 32, 1, 2)), "resnet20's projection"},
        {conv(CNN_F16, 2, 512, 512, 3, 1), "vgg16's last stage"},
        {dgrad(conv(CNN_F16, 2, 512, 512, 3, 1)), "vgg16's last stage"},
        {wgrad(conv(CNN_F16, 2, 512, 512, 3, 1)), "vgg16's last stage"},
        {conv(CNN_F16, 8, 256, 256, 1, 1), "mobilenet-small's fifth block"},
        {dgrad(conv(CNN_F16, 8, 256, 256, 1, 1)), "mobilenet-small's fifth block"},
        {wgrad(conv(CNN_F16, 8, 256, 256, 1, 1)), "mobilenet-small's fifth block"},
        {batch_norm(CNN_OP_BN_TRAIN, CNN_F16, 256), "batch norm"},
        {batch_norm(CNN_OP_BN_GRAD, CNN_F16, 256), "batch norm"},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        add_graph(graphs, &others[i].desc, others[i].user, false);
}
