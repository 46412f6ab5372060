/* Lowering: a graph becomes ops over numbered buffers.
 *
 * Forward ops in the order of the nodes; for training then the loss, backward ops in reverse order, and the
 * optimizer: reduction over the gradients, update, BN statistics, loss scaler. */
#include "core/layers.h"

#include "core/error.h"
#include "core/optimizers.h"
#include "kernels/augment/params.h"

#include <stdlib.h>
#include <string.h>

static void fail(cnn_lowering *lowering, cnn_status status)
{
    if (lowering->status == CNN_OK)
        lowering->status = status;
}

/* ---- Buffers ---- */

static int add_buffer(cnn_lowering *lowering, cnn_tensor_desc desc, cnn_place place, int node, cnn_param_role role)
{
    cnn_program *program = lowering->program;
    if (program->buffer_count == program->buffer_capacity) {
        int capacity = program->buffer_capacity ? program->buffer_capacity * 2 : 64;
        cnn_buffer *grown = cnn_realloc(program->buffers, (size_t)capacity, sizeof *grown);
        if (!grown) {
            fail(lowering, CNN_ERR_MEMORY);
            return 0;
        }
        program->buffers = grown;
        program->buffer_capacity = capacity;
    }
    program->buffers[program->buffer_count] =
        (cnn_buffer){.desc = desc, .place = place, .node = node, .role = role, .first = -1, .last = -1};
    return program->buffer_count++;
}

/* The buffer of a place that is there once a program. */
static int shared_buffer(cnn_lowering *lowering, cnn_tensor_desc desc, cnn_place place, int node, cnn_param_role role)
{
    const cnn_program *program = lowering->program;
    for (int i = 0; i < program->buffer_count; i++)
        if (program->buffers[i].place == place && program->buffers[i].node == node && program->buffers[i].role == role)
            return i;
    return add_buffer(lowering, desc, place, node, role);
}

static int32_t round_up(int32_t value, int32_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

int cnn_lower_value(cnn_lowering *lowering, int node, cnn_dtype dtype)
{
    cnn_tensor_desc desc = lowering->model->nodes[node].out;
    desc.dtype = dtype;
    desc.n = lowering->batch;
    bool logits = node == lowering->model->node_count - 1 && dtype == CNN_F32;
    if (logits)
        return shared_buffer(lowering, desc, CNN_PLACE_LOGITS, -1, CNN_PARAM_COUNT);
    desc.c_pad = round_up(desc.c, lowering->backend->channel_align(lowering->device, dtype));
    return cnn_lower_temporary(lowering, desc, node);
}

int cnn_lower_channels(cnn_lowering *lowering, int node, cnn_dtype dtype, int32_t channels)
{
    cnn_tensor_desc desc = lowering->model->nodes[node].out;
    desc.dtype = dtype;
    desc.n = lowering->batch;
    desc.c = channels;
    desc.c_pad = round_up(channels, lowering->backend->channel_align(lowering->device, dtype));
    return cnn_lower_temporary(lowering, desc, node);
}

int cnn_lower_temporary(cnn_lowering *lowering, cnn_tensor_desc desc, int node)
{
    return add_buffer(lowering, desc, CNN_PLACE_ARENA, node, CNN_PARAM_COUNT);
}

int cnn_lower_param(cnn_lowering *lowering, int node, cnn_param_role role, cnn_place place)
{
    cnn_tensor_desc desc = lowering->model->nodes[node].param[role].desc;
    if (desc.dtype == CNN_NONE)
        return -1;
    if (place == CNN_PLACE_HALF)
        desc.dtype = lowering->storage;
    if (!lowering->constant_weights) /* gradients have no structure, and pruning goes on between steps */
        desc.structure = CNN_DENSE;
    return shared_buffer(lowering, desc, place, node, role);
}

int cnn_lower_images(cnn_lowering *lowering)
{
    cnn_tensor_desc desc = lowering->model->nodes[0].out;
    desc.dtype = CNN_U8;
    desc.n = lowering->goal == CNN_GOAL_TRAIN ? lowering->data_count : lowering->batch;
    return shared_buffer(lowering, desc, CNN_PLACE_IMAGES, -1, CNN_PARAM_COUNT);
}

int cnn_lower_pixels(cnn_lowering *lowering)
{
    cnn_tensor_desc desc = lowering->model->nodes[0].out;
    desc.dtype = CNN_F32;
    desc.n = lowering->batch;
    desc.c_pad = round_up(desc.c, lowering->backend->channel_align(lowering->device, desc.dtype));
    return shared_buffer(lowering, desc, CNN_PLACE_PIXELS, -1, CNN_PARAM_COUNT);
}

int cnn_lower_index(cnn_lowering *lowering)
{
    return shared_buffer(lowering, cnn_desc_vector(CNN_I32, lowering->index_count), CNN_PLACE_INDEX, -1,
                         CNN_PARAM_COUNT);
}

int cnn_lower_state(cnn_lowering *lowering)
{
    return shared_buffer(lowering, cnn_desc_vector(CNN_U8, sizeof(cnn_train_state)), CNN_PLACE_STATE, -1,
                         CNN_PARAM_COUNT);
}

int cnn_lower_augmentation(cnn_lowering *lowering)
{
    return shared_buffer(lowering, cnn_desc_vector(CNN_U8, lowering->batch * (int32_t)sizeof(cnn_augment_params)),
                         CNN_PLACE_AUGMENT, -1, CNN_PARAM_COUNT);
}

int cnn_lower_constant(cnn_lowering *lowering, cnn_tensor_desc desc, const void *bytes)
{
    cnn_program *program = lowering->program;
    size_t size = cnn_desc_bytes(&desc);
    size_t offset = (program->constant_bytes + CNN_ALIGN - 1) / CNN_ALIGN * CNN_ALIGN;
    if (offset + size > program->constant_capacity) {
        size_t capacity = (offset + size) * 2;
        uint8_t *grown = cnn_aligned_alloc(capacity);
        if (!grown) {
            fail(lowering, CNN_ERR_MEMORY);
            return 0;
        }
        memset(grown, 0, capacity);
        if (program->constant_bytes)
            memcpy(grown, program->constants, program->constant_bytes);
        cnn_aligned_free(program->constants);
        program->constants = grown;
        program->constant_capacity = capacity;
    }
    memcpy(program->constants + offset, bytes, size);
    program->constant_bytes = offset + size;
    int buffer = add_buffer(lowering, desc, CNN_PLACE_CONST, -1, CNN_PARAM_COUNT);
    if (lowering->status == CNN_OK)
        program->buffers[buffer].offset = offset;
    return buffer;
}

void cnn_lower_set_value(cnn_lowering *lowering, int node, int buffer)
{
    lowering->program->value[node] = buffer;
}

int cnn_lower_input(const cnn_lowering *lowering, int node, int i)
{
    return lowering->program->value[lowering->model->nodes[node].input[i]];
}

/* ---- Instructions ---- */

cnn_instruction *cnn_lower_op(cnn_lowering *lowering, cnn_op op, int node, const cnn_args *args)
{
    cnn_program *program = lowering->program;
    lowering->spare = (cnn_instruction){0};
    if (program->instruction_count == program->instruction_capacity) {
        int capacity = program->instruction_capacity ? program->instruction_capacity * 2 : 64;
        cnn_instruction *grown = cnn_realloc(program->instructions, (size_t)capacity, sizeof *grown);
        if (!grown)
            fail(lowering, CNN_ERR_MEMORY);
        else {
            program->instructions = grown;
            program->instruction_capacity = capacity;
        }
    }
    if (lowering->status != CNN_OK)
        return &lowering->spare;
    cnn_instruction *instruction = &program->instructions[program->instruction_count++];
    *instruction = (cnn_instruction){.desc = {.op = op}, .node = node};
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        instruction->arg[role] = args->buffer[role];
        if (args->buffer[role] >= 0)
            instruction->desc.arg[role] = program->buffers[args->buffer[role]].desc;
    }
    return instruction;
}

void cnn_lower_epilogue(cnn_instruction *instruction, cnn_epilogue_kind kind)
{
    if (instruction->desc.epilogue_count < CNN_MAX_EPILOGUE)
        instruction->desc.epilogue[instruction->desc.epilogue_count++] = kind;
}

int cnn_lower_forward_arg(const cnn_lowering *lowering, int node, cnn_op op, cnn_arg role)
{
    const cnn_program *program = lowering->program;
    for (int i = 0; i < program->instruction_count; i++)
        if (program->instructions[i].node == node && program->instructions[i].desc.op == op)
            return program->instructions[i].arg[role];
    return -1;
}

/* ---- Gradients of values ---- */

int cnn_lower_gradient(cnn_lowering *lowering, int node)
{
    return lowering->gradient[node];
}

int cnn_lower_gradient_begin(cnn_lowering *lowering, int node)
{
    if (!lowering->needs[node])
        return -1;
    cnn_tensor_desc desc = lowering->model->nodes[node].out;
    desc.dtype = lowering->storage;
    desc.n = lowering->batch;
    desc.c_pad = round_up(desc.c, lowering->backend->channel_align(lowering->device, desc.dtype));
    return cnn_lower_temporary(lowering, desc, node);
}

void cnn_lower_gradient_done(cnn_lowering *lowering, int node, int buffer)
{
    if (lowering->gradient[node] < 0) {
        lowering->gradient[node] = buffer;
        return;
    }
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = lowering->gradient[node];
    args.buffer[CNN_ARG_SRC2] = buffer;
    args.buffer[CNN_ARG_DST] = cnn_lower_gradient_begin(lowering, node);
    cnn_lower_op(lowering, CNN_OP_ADD, node, &args);
    lowering->gradient[node] = args.buffer[CNN_ARG_DST];
}

/* ---- The whole program ---- */

static int whole(cnn_lowering *lowering, cnn_place place, cnn_dtype dtype, int64_t count)
{
    return shared_buffer(lowering, cnn_desc_vector(dtype, (int32_t)count), place, -1, CNN_PARAM_COUNT);
}

/* logits -> result and the gradient of the logits */
static void lower_loss(cnn_lowering *lowering)
{
    const int last = lowering->model->node_count - 1;
    const bool training = lowering->goal == CNN_GOAL_TRAIN;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = lowering->program->value[last];
    args.buffer[CNN_ARG_DST] = cnn_lower_gradient_begin(lowering, last);
    args.buffer[CNN_ARG_DST2] = whole(lowering, CNN_PLACE_RESULT, CNN_F32, 2);
    args.buffer[CNN_ARG_LABELS] = training ? whole(lowering, CNN_PLACE_LABELS, CNN_U8, lowering->data_count)
                                           : whole(lowering, CNN_PLACE_TARGETS, CNN_U8, lowering->batch);
    if (training) {
        args.buffer[CNN_ARG_INDEX] = cnn_lower_index(lowering);
        args.buffer[CNN_ARG_STATE] = cnn_lower_state(lowering);
    }
    if (training && lowering->step.distill > 0) {
        const cnn_tensor_desc answers =
            cnn_desc(CNN_F32, lowering->data_count, 1, 1, lowering->model->nodes[last].out.c);
        args.buffer[CNN_ARG_SRC2] = shared_buffer(lowering, answers, CNN_PLACE_TEACHER, -1, CNN_PARAM_COUNT);
    }
    cnn_instruction *loss = cnn_lower_op(lowering, CNN_OP_LOSS, last, &args);
    if (training) {
        loss->desc.smoothing = lowering->step.label_smoothing;
        loss->desc.mix = lowering->step.distill;
        loss->desc.temperature = lowering->step.temperature;
    }
    cnn_lower_gradient_done(lowering, last, args.buffer[CNN_ARG_DST]);
}

static void lower_bn_update(cnn_lowering *lowering, int node, int batch, int running, double momentum)
{
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = batch;
    args.buffer[CNN_ARG_DST] = running;
    args.buffer[CNN_ARG_STATE] = cnn_lower_state(lowering);
    cnn_lower_op(lowering, CNN_OP_BN_UPDATE, node, &args)->desc.momentum = (float)momentum;
}

/* Whether all batch norms train and have the same momentum, which is then set. */
static bool alike(const cnn_model *model, double *momentum)
{
    bool found = false;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        if (node->type->id != CNN_LAYER_BN)
            continue;
        if (node->frozen || (found && cnn_node_attr(node, "momentum") != *momentum))
            return false;
        *momentum = cnn_node_attr(node, "momentum");
        found = true;
    }
    return found;
}

/* Both memories of statistics are laid out alike, so one op can do them all; padding is 0 in both and stays so. */
static void lower_bn_updates(cnn_lowering *lowering)
{
    const cnn_model *model = lowering->model;
    double momentum;
    if (alike(model, &momentum)) {
        int64_t elements = cnn_model_statistic(model, model->node_count, CNN_PARAM_WEIGHT);
        lower_bn_update(lowering, -1, whole(lowering, CNN_PLACE_BATCH, CNN_F32, elements),
                        whole(lowering, CNN_PLACE_RUNNING, CNN_F32, elements), momentum);
        return;
    }
    for (int i = 0; i < model->node_count; i++) {
        if (model->nodes[i].type->id != CNN_LAYER_BN || model->nodes[i].frozen)
            continue;
        for (int role = CNN_PARAM_RUNNING_MEAN; role <= CNN_PARAM_RUNNING_VAR; role++)
            lower_bn_update(lowering, i, cnn_lower_param(lowering, i, (cnn_param_role)role, CNN_PLACE_BATCH),
                            cnn_lower_param(lowering, i, (cnn_param_role)role, CNN_PLACE_RUNNING),
                            cnn_node_attr(&model->nodes[i], "momentum"));
    }
}

/* The averages of a memory follow it; nothing when it is empty. */
static void lower_average(cnn_lowering *lowering, cnn_place values, cnn_place averages, int64_t elements)
{
    if (elements == 0)
        return;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = whole(lowering, values, CNN_F32, elements);
    args.buffer[CNN_ARG_DST] = whole(lowering, averages, CNN_F32, elements);
    args.buffer[CNN_ARG_STATE] = cnn_lower_state(lowering);
    cnn_lower_op(lowering, CNN_OP_EMA, -1, &args);
}

static void lower_averages(cnn_lowering *lowering)
{
    const cnn_model *model = lowering->model;
    lower_average(lowering, CNN_PLACE_PARAM, CNN_PLACE_EMA, cnn_model_segments(model).elements);
    lower_average(lowering, CNN_PLACE_RUNNING, CNN_PLACE_EMA_RUNNING,
                  cnn_model_statistic(model, model->node_count, CNN_PARAM_WEIGHT));
}

static void lower_update(cnn_lowering *lowering, int gradients, int state)
{
    const cnn_optimizer_info *optimizer = cnn_optimizer_get(lowering->step.optimizer);
    const int64_t elements = cnn_model_segments(lowering->model).elements;
    cnn_args args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = gradients;
    args.buffer[CNN_ARG_STATE] = state;
    args.buffer[CNN_ARG_TABLE] = whole(lowering, CNN_PLACE_RATES, CNN_F32, lowering->rate_count);
    args.buffer[CNN_ARG_DST] = whole(lowering, CNN_PLACE_PARAM, CNN_F32, elements);
    args.buffer[CNN_ARG_DST2] = whole(lowering, CNN_PLACE_MOMENTUM, CNN_F32, elements);
    if (optimizer->squares)
        args.buffer[CNN_ARG_VAR] = whole(lowering, CNN_PLACE_SQUARES, CNN_F32, elements);
    if (lowering->storage != CNN_F32)
        args.buffer[CNN_ARG_DST3] = whole(lowering, CNN_PLACE_HALF, lowering->storage, elements);
    cnn_lower_op(lowering, optimizer->op, -1, &args)->desc.decoupled_decay = optimizer->decoupled_decay;
}

/* Reduction, update, running statistics, averages, loss scaler: over whole contiguous memories. */
static void lower_optimizer(cnn_lowering *lowering)
{
    cnn_segments segments = cnn_model_segments(lowering->model);
    if (segments.elements > INT32_MAX) {
        fail(lowering, cnn_error(CNN_ERR_UNSUPPORTED, "model %s has %lld trainable values; at most %d can be trained",
                                 lowering->model->name, (long long)segments.elements, INT32_MAX));
        return;
    }
    int state = cnn_lower_state(lowering);
    int gradients = whole(lowering, CNN_PLACE_GRAD, CNN_F32, segments.elements);
    int flags = whole(lowering, CNN_PLACE_FLAGS, CNN_I32, segments.count);

    cnn_args args;
    if (cnn_model_has_masks(lowering->model)) {
        args = cnn_args_none();
        args.buffer[CNN_ARG_SRC] = whole(lowering, CNN_PLACE_MASK, CNN_U8, segments.elements);
        args.buffer[CNN_ARG_DST] = gradients;
        cnn_lower_op(lowering, CNN_OP_MASK, -1, &args);
    }

    args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = gradients;
    args.buffer[CNN_ARG_INDEX] = whole(lowering, CNN_PLACE_SEGMENTS, CNN_I32, segments.count + 1);
    args.buffer[CNN_ARG_DST] = flags;
    args.buffer[CNN_ARG_STATE] = state;
    cnn_lower_op(lowering, CNN_OP_GRAD_STATS, -1, &args);

    lower_update(lowering, gradients, state);
    lower_bn_updates(lowering);
    if (lowering->step.ema)
        lower_averages(lowering);

    args = cnn_args_none();
    args.buffer[CNN_ARG_SRC] = flags;
    args.buffer[CNN_ARG_SRC2] = whole(lowering, CNN_PLACE_RESULT, CNN_F32, 2);
    args.buffer[CNN_ARG_STATE] = state;
    args.buffer[CNN_ARG_DST] =
        whole(lowering, CNN_PLACE_REPORTS, CNN_U8, lowering->report_count * (int64_t)sizeof(cnn_step_report));
    cnn_lower_op(lowering, CNN_OP_LOSS_SCALE, -1, &args)->desc.advance = lowering->batch;
}

static bool trains(const cnn_node *node)
{
    return !node->frozen && cnn_node_has_params(node);
}

/* Says which gradients lead to a parameter that trains; that of the logits is there in any case. */
static void find_needs(cnn_lowering *lowering)
{
    const cnn_model *model = lowering->model;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        lowering->needs[i] = trains(node) || i == model->node_count - 1 || lowering->goal == CNN_GOAL_GRADIENT;
        for (int input = 0; input < node->input_count; input++)
            lowering->needs[i] |= lowering->needs[node->input[input]];
    }
}

static cnn_status lower_nodes(cnn_lowering *lowering)
{
    const cnn_model *model = lowering->model;
    find_needs(lowering);
    for (int i = 0; i < model->node_count && lowering->status == CNN_OK; i++)
        fail(lowering, model->nodes[i].type->forward(lowering, i));
    const bool backward = lowering->goal == CNN_GOAL_TRAIN || lowering->goal == CNN_GOAL_GRADIENT;
    if (!backward || lowering->status != CNN_OK)
        return lowering->status;
    lower_loss(lowering);
    for (int i = model->node_count - 1; i > 0 && lowering->status == CNN_OK; i--)
        if (lowering->gradient[i] >= 0)
            fail(lowering, model->nodes[i].type->backward(lowering, i));
    if (lowering->goal == CNN_GOAL_TRAIN)
        lower_optimizer(lowering);
    else
        lowering->program->pixel_gradient = lowering->gradient[0];
    return lowering->status;
}

cnn_status cnn_program_lower(const cnn_model *model, const cnn_lower_options *options, cnn_program **program)
{
    cnn_status status = CNN_OK;
    bool quantized = cnn_model_is_quantized(model);
    cnn_lowering lowering = {.model = model,
                             .goal = options->goal,
                             .batch = options->batch,
                             .storage = options->goal == CNN_GOAL_TRAIN ? options->storage : CNN_F32,
                             .step = options->step,
                             .int8 = quantized,
                             .constant_weights = options->constant_weights,
                             .backend = options->backend,
                             .device = options->device,
                             .data_count = options->data_count,
                             .rate_count = options->rate_count,
                             .index_count = options->index_count,
                             .report_count = options->report_count};
    size_t nodes = (size_t)model->node_count;
    lowering.program = cnn_calloc(1, sizeof *lowering.program);
    lowering.gradient = cnn_calloc(nodes, sizeof *lowering.gradient);
    lowering.needs = cnn_calloc(nodes, sizeof *lowering.needs);
    int *value = cnn_calloc(nodes, sizeof *value);
    if (!lowering.program || !lowering.gradient || !lowering.needs || !value) {
        free(value);
        status = CNN_ERR_MEMORY;
        goto out;
    }
    lowering.program->goal = options->goal;
    lowering.program->batch = options->batch;
    lowering.program->value = value;
    lowering.program->node_count = model->node_count;
    lowering.program->pixel_gradient = -1;
    for (size_t i = 0; i < nodes; i++)
        value[i] = lowering.gradient[i] = -1;
    if (quantized && (options->goal == CNN_GOAL_TRAIN || options->goal == CNN_GOAL_GRADIENT))
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "model %s is quantized to INT8 and can only be run; take the model it was made from", model->name);
    CNN_TRY(lower_nodes(&lowering));
    *program = lowering.program;
    lowering.program = NULL;
out:
    free(lowering.gradient);
    free(lowering.needs);
    cnn_program_free(lowering.program, options->backend, options->device);
    return status;
}
