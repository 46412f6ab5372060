/* Programs: preparing kernels, freeing, printing. */
#include "core/program.h"

#include "core/error.h"

#include <stdlib.h>

static const char *node_name(const cnn_model *model, int node)
{
    return node >= 0 ? model->nodes[node].name : "-";
}

cnn_status cnn_program_blame(const cnn_model *model, const cnn_instruction *instruction, cnn_status status)
{
    char text[512];
    return cnn_error_prefix(status, "layer %s, %s", node_name(model, instruction->node),
                            cnn_op_desc_print(&instruction->desc, text, sizeof text));
}

static cnn_status prepare_instruction(cnn_instruction *instruction, const cnn_model *model, const cnn_backend *backend,
                                      cnn_device *device)
{
    char why[CNN_REASON_BYTES] = "", text[512];
    cnn_status status = backend->prepare(device, &instruction->desc, &instruction->kernel, why);
    if (status == CNN_ERR_UNSUPPORTED)
        return cnn_error(status, "layer %s: device %s cannot run %s: %s", node_name(model, instruction->node),
                         backend->name, cnn_op_desc_print(&instruction->desc, text, sizeof text), why);
    return status == CNN_OK ? status : cnn_program_blame(model, instruction, status);
}

static cnn_status place_constants(cnn_program *program, const cnn_backend *backend, cnn_device *device)
{
    if (backend->host_memory || program->constant_bytes == 0) {
        program->device_constants = program->constants;
        return CNN_OK;
    }
    program->device_constants = backend->alloc(device, program->constant_bytes);
    if (!program->device_constants)
        return cnn_error(CNN_ERR_MEMORY, "out of memory on device %s: %zu bytes were asked for, for constants",
                         backend->name, program->constant_bytes);
    return backend->copy(device, program->device_constants, program->constants, program->constant_bytes,
                         CNN_COPY_TO_DEVICE);
}

cnn_status cnn_program_prepare(cnn_program *program, const cnn_model *model, const cnn_backend *backend,
                               cnn_device *device)
{
    cnn_status status = place_constants(program, backend, device);
    program->workspace_bytes = 0;
    for (int i = 0; i < program->instruction_count && status == CNN_OK; i++) {
        cnn_instruction *instruction = &program->instructions[i];
        status = prepare_instruction(instruction, model, backend, device);
        if (status == CNN_OK && instruction->kernel->workspace_bytes > program->workspace_bytes)
            program->workspace_bytes = instruction->kernel->workspace_bytes;
    }
    return status;
}

void cnn_program_free(cnn_program *program, const cnn_backend *backend, cnn_device *device)
{
    if (!program)
        return;
    if (program->recording)
        backend->recording_free(device, program->recording);
    for (int i = 0; i < program->instruction_count; i++)
        if (program->instructions[i].kernel)
            program->instructions[i].kernel->destroy(program->instructions[i].kernel);
    if (program->device_constants && program->device_constants != program->constants)
        backend->free(device, program->device_constants);
    cnn_aligned_free(program->constants);
    free(program->instructions);
    free(program->buffers);
    free(program->value);
    free(program);
}

/* ---- Printing ---- */

static const char *place_name(cnn_place place)
{
    static const char *const names[CNN_PLACE_COUNT] = {
        [CNN_PLACE_ARENA] = "arena",         [CNN_PLACE_CONST] = "constant",    [CNN_PLACE_PARAM] = "parameter",
        [CNN_PLACE_HALF] = "half",           [CNN_PLACE_GRAD] = "gradient",     [CNN_PLACE_MOMENTUM] = "momentum",
        [CNN_PLACE_SQUARES] = "squares",     [CNN_PLACE_EMA] = "average",       [CNN_PLACE_RUNNING] = "running",
        [CNN_PLACE_EMA_RUNNING] = "average", [CNN_PLACE_BATCH] = "batch",       [CNN_PLACE_IMAGES] = "images",
        [CNN_PLACE_INDEX] = "index",         [CNN_PLACE_LABELS] = "labels",     [CNN_PLACE_STATE] = "state",
        [CNN_PLACE_RATES] = "rates",         [CNN_PLACE_SEGMENTS] = "segments", [CNN_PLACE_FLAGS] = "flags",
        [CNN_PLACE_LOGITS] = "logits",       [CNN_PLACE_RESULT] = "result",     [CNN_PLACE_REPORTS] = "reports",
        [CNN_PLACE_AUGMENT] = "augment",     [CNN_PLACE_MASK] = "mask",         [CNN_PLACE_TEACHER] = "teacher"};
    return names[place];
}

static void print_buffer(const cnn_program *program, const cnn_model *model, int number, cnn_text *text)
{
    const cnn_buffer *buffer = &program->buffers[number];
    const cnn_tensor_desc *desc = &buffer->desc;
    cnn_text_append(text, "  %%%-3d %-9s %-4s [%d,%d,%d,%d]", number, place_name(buffer->place),
                    cnn_dtype_name(desc->dtype), desc->n, desc->h, desc->w, desc->c);
    if (buffer->place == CNN_PLACE_ARENA)
        cnn_text_append(text, " %zu bytes at %zu, live %d-%d", cnn_desc_bytes(desc), buffer->offset, buffer->first,
                        buffer->last);
    if (buffer->node >= 0)
        cnn_text_append(text, " of %s%s%s", model->nodes[buffer->node].name, buffer->role < CNN_PARAM_COUNT ? "." : "",
                        buffer->role < CNN_PARAM_COUNT ? cnn_param_role_name(buffer->role) : "");
    cnn_text_append(text, "\n");
}

static void print_instruction(const cnn_program *program, const cnn_model *model, int number, cnn_text *text)
{
    const cnn_instruction *instruction = &program->instructions[number];
    char desc[512];
    cnn_text_append(text, "%3d %-10s", number, node_name(model, instruction->node));
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        if (instruction->arg[role] >= 0)
            cnn_text_append(text, " %s=%%%d", cnn_arg_name((cnn_arg)role), instruction->arg[role]);
    cnn_text_append(text, "\n      %s\n", cnn_op_desc_print(&instruction->desc, desc, sizeof desc));
    if (instruction->kernel)
        cnn_text_append(text, "      by %s, workspace %zu bytes\n", instruction->kernel->name,
                        instruction->kernel->workspace_bytes);
}

void cnn_program_print(const cnn_program *program, const cnn_model *model, cnn_text *text)
{
    static const char *const goals[] = {"inference", "observation", "training"};
    cnn_text_append(text, "program: %s of %s, batch %d: %d instructions, arena %zu bytes, workspace %zu bytes\n",
                    goals[program->goal], model->name, program->batch, program->instruction_count, program->arena_bytes,
                    program->workspace_bytes);
    for (int i = 0; i < program->instruction_count; i++)
        print_instruction(program, model, i, text);
    cnn_text_append(text, "buffers:\n");
    for (int i = 0; i < program->buffer_count; i++)
        if (program->buffers[i].first >= 0 || program->buffers[i].place == CNN_PLACE_CONST)
            print_buffer(program, model, i, text);
}
