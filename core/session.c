/* Sessions: opening, memory, programs, running. Inference is in session_infer.c, observation in
 * session_observe.c, training in session_train.c. */
#include "core/session.h"

#include "core/backends.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/pool.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STANDARD_BATCH = 64 };

/* ---- Memory ---- */

/* Says how much was asked for and how much there is, and for memory that grows with the batch which batch would fit.
 * held, wanted: other memory that grows with it, which the session has, and will ask for next. */
static void no_memory(cnn_session *session, size_t bytes, int batch, size_t held, size_t wanted)
{
    size_t left = 0, all = 0;
    if (session->backend->memory)
        session->backend->memory(session->device, &left, &all);
    const double spare = 0.95; /* what is asked for in small pieces later, and alignment */
    const double fits =
        spare * batch * (((double)left + (double)held) / ((double)bytes + (double)held + (double)wanted));
    char asked[32];
    snprintf(asked, sizeof asked, bytes < 100000 ? "%.0f bytes" : "%.1f MB",
             bytes < 100000 ? (double)bytes : (double)bytes / 1e6);
    if (all == 0)
        cnn_error(CNN_ERR_MEMORY, "out of memory on device %s: %s were asked for; use a smaller --batch",
                  session->backend->name, asked);
    else if (fits >= 1.0 && fits < batch)
        cnn_error(CNN_ERR_MEMORY,
                  "out of memory on device %s: %s were asked for at batch %d, %.1f of %.1f MB are free; --batch %d "
                  "would fit",
                  session->backend->name, asked, batch, (double)left / 1e6, (double)all / 1e6, (int)fits);
    else
        cnn_error(CNN_ERR_MEMORY,
                  "out of memory on device %s: %s were asked for, %.1f of %.1f MB are free; use a smaller --batch or "
                  "a smaller model",
                  session->backend->name, asked, (double)left / 1e6, (double)all / 1e6);
}

void *cnn_session_device_alloc(cnn_session *session, size_t bytes, int batch)
{
    void *memory = session->backend->alloc(session->device, bytes);
    if (!memory)
        no_memory(session, bytes, batch, 0, 0);
    return memory;
}

static void device_free(cnn_session *session, void *memory)
{
    if (memory)
        session->backend->free(session->device, memory);
}

bool cnn_session_in_host_memory(const cnn_session *session, cnn_place place)
{
    return place == CNN_PLACE_REPORTS && session->backend->alloc_host;
}

static void place_free(cnn_session *session, cnn_place place)
{
    if (cnn_session_in_host_memory(session, place))
        session->backend->free_host(session->device, session->memory[place]);
    else
        device_free(session, session->memory[place]);
    session->memory[place] = NULL;
}

cnn_status cnn_session_alloc(cnn_session *session, cnn_place place, size_t bytes)
{
    place_free(session, place);
    if (bytes)
        session->memory[place] = cnn_session_in_host_memory(session, place)
                                     ? session->backend->alloc_host(session->device, bytes)
                                     : cnn_session_device_alloc(session, bytes, 0);
    return bytes && !session->memory[place] ? CNN_ERR_MEMORY : CNN_OK;
}

cnn_status cnn_session_upload(cnn_session *session, void *dst, const void *src, size_t bytes)
{
    return bytes ? session->backend->copy(session->device, dst, src, bytes, CNN_COPY_TO_DEVICE) : CNN_OK;
}

cnn_status cnn_session_download(cnn_session *session, void *dst, const void *src, size_t bytes)
{
    return bytes ? session->backend->copy(session->device, dst, src, bytes, CNN_COPY_TO_HOST) : CNN_OK;
}

/* Recordings hold the pointers of when they were made. */
static void drop_recordings(cnn_session *session)
{
    for (int i = 0; i < session->program_count; i++) {
        cnn_program *program = session->programs[i];
        if (program->recording)
            session->backend->recording_free(session->device, program->recording);
        program->recording = NULL;
    }
}

/* More memory for what all programs share, once what is enqueued has no more use for the old. */
static cnn_status grow(cnn_session *session, void **memory, size_t *have, size_t need, int batch, size_t held,
                       size_t wanted)
{
    if (need <= *have)
        return CNN_OK;
    cnn_status status = session->backend->sync(session->device);
    if (status != CNN_OK)
        return status;
    drop_recordings(session);
    device_free(session, *memory);
    *have = 0;
    *memory = session->backend->alloc(session->device, need);
    if (!*memory) {
        no_memory(session, need, batch, held, wanted);
        return CNN_ERR_MEMORY;
    }
    *have = need;
    return CNN_OK;
}

cnn_status cnn_session_post(cnn_session *session, int number, size_t bytes, uint8_t **slot)
{
    bytes = (bytes + CNN_ALIGN - 1) / CNN_ALIGN * CNN_ALIGN;
    if (bytes > session->post_bytes) {
        cnn_status status = session->backend->sync(session->device);
        if (status != CNN_OK)
            return status;
        session->backend->free_host(session->device, session->posts);
        session->post_bytes = 0;
        session->posts = session->backend->alloc_host(session->device, CNN_MARKS * bytes);
        if (!session->posts)
            return CNN_ERR_MEMORY;
        session->post_bytes = bytes;
    }
    *slot = session->posts + (size_t)number * session->post_bytes;
    return CNN_OK;
}

/* Parameters of an inference session: the model's own memory where the device can read it, else copies. */
static cnn_status place_params(cnn_session *session)
{
    const cnn_model *model = session->model;
    session->param = cnn_calloc((size_t)model->node_count * CNN_PARAM_COUNT, sizeof *session->param);
    if (!session->param)
        return CNN_ERR_MEMORY;
    cnn_status status = CNN_OK;
    for (int i = 0; i < model->node_count * CNN_PARAM_COUNT && status == CNN_OK; i++) {
        const cnn_param *param = &model->nodes[i / CNN_PARAM_COUNT].param[i % CNN_PARAM_COUNT];
        if (param->desc.dtype == CNN_NONE)
            continue;
        if (session->backend->host_memory) {
            session->param[i] = param->data;
            continue;
        }
        session->param[i] = cnn_session_device_alloc(session, cnn_desc_bytes(&param->desc), 0);
        status = session->param[i]
                     ? cnn_session_upload(session, session->param[i], param->data, cnn_desc_bytes(&param->desc))
                     : CNN_ERR_MEMORY;
    }
    return status;
}

/* ---- Opening and closing ---- */

static cnn_status check_options(const cnn_model *model, const cnn_session_options *options)
{
    cnn_dtype storage = options->storage;
    if (options->batch < 0)
        return cnn_error(CNN_ERR_USAGE, "batch %d: give a number of images from 1", options->batch);
    if (storage != CNN_NONE && storage != CNN_F32 && storage != CNN_F16 && storage != CNN_BF16)
        return cnn_error(CNN_ERR_USAGE, "training stores f32, f16 or bf16, not %s", cnn_dtype_name(storage));
    if (options->train && model->file.data)
        return cnn_error(CNN_ERR_USAGE, "model %s was opened to be run; load it to train it", model->name);
    if (options->train && cnn_model_is_quantized(model))
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "model %s is quantized to INT8 and cannot be trained; take the model it was made from",
                         model->name);
    if (options->train && options->step.distill != 0 &&
        !(options->step.distill > 0 && options->step.distill <= 1 && options->step.temperature > 0))
        return cnn_error(CNN_ERR_USAGE,
                         "distillation takes a share in [0, 1] and a positive temperature, not %g and %g",
                         (double)options->step.distill, (double)options->step.temperature);
    for (int i = 0; options->train && i < model->node_count; i++)
        if (model->nodes[i].param[CNN_PARAM_WEIGHT].grid)
            return cnn_error(CNN_ERR_UNSUPPORTED,
                             "layer '%s': its weights lie on a grid of %d levels, which training would take them off; "
                             "begin quantization-aware training anew",
                             model->nodes[i].name, 2 * model->nodes[i].param[CNN_PARAM_WEIGHT].levels + 1);
    if (options->train && (unsigned)options->step.optimizer >= CNN_OPTIMIZER_COUNT)
        return cnn_error(CNN_ERR_USAGE, "optimizer %d is not known", (int)options->step.optimizer);
    return CNN_OK;
}

cnn_status cnn_session_open(cnn_model *model, const cnn_session_options *options, cnn_session **session)
{
    cnn_status status = CNN_OK;
    cnn_session *opened = NULL;
    cnn_device_options device = {.tf32 = options->tf32, .autotune = options->autotune};
    CNN_TRY(check_options(model, options));
    opened = cnn_calloc(1, sizeof *opened);
    if (!opened)
        return CNN_ERR_MEMORY;
    opened->model = model;
    opened->batch = options->batch ? options->batch : STANDARD_BATCH;
    opened->train = options->train;
    opened->storage = options->storage == CNN_NONE ? CNN_F32 : options->storage;
    opened->step = options->step;
    CNN_TRY(cnn_backend_find(options->device, &opened->backend, &device.variant));
    CNN_TRY(opened->backend->open(cnn_host_get(), &device, &opened->device));
    snprintf(opened->description, sizeof opened->description, "%s: %s", opened->backend->name,
             opened->backend->describe(opened->device));
    CNN_TRY(opened->train ? cnn_session_open_training(opened) : place_params(opened));
    *session = opened;
    opened = NULL;
out:
    cnn_session_close(opened);
    return status;
}

void cnn_session_close(cnn_session *session)
{
    if (!session)
        return;
    if (session->device) {
        for (int i = 0; i < session->program_count; i++)
            cnn_program_free(session->programs[i], session->backend, session->device);
        for (int place = 0; place < CNN_PLACE_COUNT; place++)
            place_free(session, (cnn_place)place);
        if (session->param && !session->backend->host_memory)
            for (int i = 0; i < session->model->node_count * CNN_PARAM_COUNT; i++)
                device_free(session, session->param[i]);
        device_free(session, session->arena);
        device_free(session, session->workspace);
        device_free(session, session->staging);
        if (session->posts)
            session->backend->free_host(session->device, session->posts);
        cnn_aligned_free(session->traced);
        session->backend->close(session->device);
    }
    free(session->param);
    free(session->programs);
    free(session);
}

const char *cnn_session_device(const cnn_session *session)
{
    return session->description;
}

void cnn_session_level(const cnn_session *session, char text[CNN_SESSION_LEVEL_BYTES])
{
    snprintf(text, CNN_SESSION_LEVEL_BYTES, "%s %s", session->backend->name, session->backend->level(session->device));
}

/* ---- Programs ---- */

/* Whether the host reads these weights from the model's mapped file. */
static bool lie_in_file(const cnn_session *session, const void *weights)
{
    const cnn_input_file *file = &session->model->file;
    const uint8_t *at = weights;
    return file->mapped && at >= file->data && at < file->data + file->size;
}

static cnn_status pack_weights(cnn_session *session, const cnn_program *program)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_instruction *instruction = &program->instructions[i];
        cnn_kernel *kernel = instruction->kernel;
        if (!instruction->desc.constant_weights || !kernel->pack)
            continue;
        const void *weights = cnn_session_pointer(session, program, instruction->arg[CNN_ARG_WEIGHT]);
        kernel->spent = lie_in_file(session, weights) ? cnn_input_spent : NULL;
        status = kernel->pack(kernel, weights);
        if (status != CNN_OK)
            CNN_TRY(cnn_program_blame(session->model, instruction, status));
    }
out:
    return status;
}

static cnn_status make_program(cnn_session *session, cnn_goal goal, int batch, cnn_program **made)
{
    cnn_status status = CNN_OK;
    cnn_program *program = NULL;
    const cnn_lower_options options = {.goal = goal,
                                       .batch = batch,
                                       .storage = session->storage,
                                       .step = session->step,
                                       .constant_weights = !session->train,
                                       .data_count = session->data ? session->data->count : 0,
                                       .rate_count = session->rate_count,
                                       .index_count = session->index_count,
                                       .report_count = CNN_MARKS,
                                       .backend = session->backend,
                                       .device = session->device};
    CNN_TRY(cnn_program_lower(session->model, &options, &program));
    if (goal != CNN_GOAL_OBSERVE && goal != CNN_GOAL_GRADIENT)
        CNN_TRY(cnn_program_fuse(program, session->backend, session->device));
    CNN_TRY(cnn_program_plan(program));
    CNN_TRY(cnn_program_prepare(program, session->model, session->backend, session->device));
    CNN_TRY(grow(session, &session->arena, &session->arena_bytes, program->arena_bytes, batch, 0,
                 program->workspace_bytes));
    CNN_TRY(grow(session, &session->workspace, &session->workspace_bytes, program->workspace_bytes, batch,
                 program->arena_bytes, 0));
    CNN_TRY(pack_weights(session, program));
    *made = program;
    program = NULL;
out:
    cnn_program_free(program, session->backend, session->device);
    return status;
}

cnn_status cnn_session_program(cnn_session *session, cnn_goal goal, int batch, cnn_program **program)
{
    for (int i = 0; i < session->program_count; i++)
        if (session->programs[i]->goal == goal && session->programs[i]->batch == batch) {
            *program = session->programs[i];
            return CNN_OK;
        }
    cnn_program **grown =
        cnn_realloc(session->programs, (size_t)session->program_count + 1, sizeof(*session->programs));
    if (!grown)
        return CNN_ERR_MEMORY;
    session->programs = grown;
    cnn_status status = make_program(session, goal, batch, program);
    if (status == CNN_OK)
        session->programs[session->program_count++] = *program;
    return status;
}

void cnn_session_drop_programs(cnn_session *session, cnn_goal goal)
{
    int kept = 0;
    for (int i = 0; i < session->program_count; i++)
        if (session->programs[i]->goal == goal)
            cnn_program_free(session->programs[i], session->backend, session->device);
        else
            session->programs[kept++] = session->programs[i];
    session->program_count = kept;
}

static void *at(void *base, int64_t elements, size_t size)
{
    return (uint8_t *)base + (size_t)elements * size;
}

/* A parameter, its gradient, half copy or statistics in a training session's contiguous memories. Inference sees what
 * is handed out, the averages when there are any; observation sees what is trained. */
static void *training_pointer(const cnn_session *session, const cnn_buffer *buffer, cnn_goal goal)
{
    cnn_place place =
        goal == CNN_GOAL_INFER ? cnn_session_handed_out(session, buffer->place, buffer->node) : buffer->place;
    bool statistic = cnn_param_is_statistic(buffer->role);
    int64_t offset = statistic ? cnn_model_statistic(session->model, buffer->node, buffer->role)
                               : cnn_model_param(session->model, buffer->node, buffer->role);
    return at(session->memory[place], offset, place == CNN_PLACE_HALF ? 2 : 4);
}

void *cnn_session_pointer(const cnn_session *session, const cnn_program *program, int number)
{
    const cnn_buffer *buffer = &program->buffers[number];
    switch (buffer->place) {
    case CNN_PLACE_ARENA:
        return at(session->arena, (int64_t)buffer->offset, 1);
    case CNN_PLACE_CONST:
        return at(program->device_constants, (int64_t)buffer->offset, 1);
    case CNN_PLACE_IMAGES:
        return (void *)(uintptr_t)session->images;
    case CNN_PLACE_LABELS:
        return (void *)(uintptr_t)session->labels;
    case CNN_PLACE_LOGITS:
        return session->logits;
    default:
        break;
    }
    if (buffer->node < 0)
        return session->memory[buffer->place];
    if (session->train)
        return training_pointer(session, buffer, program->goal);
    return session->param[buffer->node * CNN_PARAM_COUNT + (int)buffer->role];
}

static cnn_status run_instruction(cnn_session *session, const cnn_program *program, int number)
{
    const cnn_instruction *instruction = &program->instructions[number];
    void *args[CNN_ARG_COUNT] = {0};
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        if (instruction->arg[role] >= 0)
            args[role] = cnn_session_pointer(session, program, instruction->arg[role]);
    cnn_status status = instruction->kernel->run(instruction->kernel, args, session->workspace);
    return status == CNN_OK ? status : cnn_program_blame(session->model, instruction, status);
}

/* Waits for each instruction, so that its time is its own. */
static cnn_status trace_instruction(cnn_session *session, const cnn_program *program, int number)
{
    double start = cnn_clock();
    cnn_status status = run_instruction(session, program, number);
    if (status == CNN_OK) {
        status = session->backend->sync(session->device);
        if (status != CNN_OK)
            status = cnn_program_blame(session->model, &program->instructions[number], status);
    }
    return status == CNN_OK ? cnn_session_show(session, program, number, cnn_clock() - start) : status;
}

/* The first run makes the libraries load what they need, which a recording could not hold. */
static cnn_status record(cnn_session *session, cnn_program *program)
{
    cnn_status status = session->backend->record_begin(session->device);
    if (status != CNN_OK)
        return status;
    status = cnn_session_run_to(session, program, program->instruction_count - 1);
    if (status == CNN_OK)
        return session->backend->record_end(session->device, &program->recording);
    char why[512]; /* of the instruction that failed, not of the recording that it cut off */
    cnn_recording *half = NULL;
    snprintf(why, sizeof why, "%s", cnn_last_error());
    if (session->backend->record_end(session->device, &half) == CNN_OK)
        session->backend->recording_free(session->device, half);
    return cnn_error(status, "%s", why);
}

cnn_status cnn_session_run(cnn_session *session, cnn_program *program)
{
    cnn_status status = CNN_OK;
    if (!session->backend->record_begin || session->trace || !program->ran) {
        program->ran = true;
        return cnn_session_run_to(session, program, program->instruction_count - 1);
    }
    if (!program->recording)
        status = record(session, program);
    return status == CNN_OK ? session->backend->replay(session->device, program->recording) : status;
}

cnn_status cnn_session_run_to(cnn_session *session, cnn_program *program, int last)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i <= last && status == CNN_OK; i++)
        status = session->trace ? trace_instruction(session, program, i) : run_instruction(session, program, i);
    return status;
}

cnn_status cnn_session_dump(cnn_session *session, bool training, int batch, char **text)
{
    cnn_program *program;
    cnn_status status = cnn_session_program(session, training ? CNN_GOAL_TRAIN : CNN_GOAL_INFER, batch, &program);
    if (status != CNN_OK)
        return status;
    cnn_text out = {0};
    cnn_text_append(&out, "device: %s\n", session->description);
    cnn_program_print(program, session->model, &out);
    if (out.failed) {
        cnn_text_free(&out);
        return CNN_ERR_MEMORY;
    }
    *text = out.data;
    return CNN_OK;
}
