/* Sessions: training memories, and moving parameters, data and state between host and device. Steps are in
 * session_step.c. */
#include "core/session.h"

#include "cnn/half.h"
#include "core/error.h"
#include "core/optimizers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static cnn_status upload_segments(cnn_session *session)
{
    cnn_segments segments = cnn_model_segments(session->model);
    int32_t *offsets = cnn_calloc((size_t)segments.count + 1, sizeof *offsets);
    if (!offsets)
        return CNN_ERR_MEMORY;
    for (int node = 0; node < session->model->node_count; node++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            int64_t offset;
            int number = cnn_model_segment(session->model, node, (cnn_param_role)role, &offset);
            if (number >= 0)
                offsets[number] = (int32_t)offset;
        }
    offsets[segments.count] = (int32_t)segments.elements;
    cnn_status status = cnn_session_upload(session, session->memory[CNN_PLACE_SEGMENTS], offsets,
                                           ((size_t)segments.count + 1) * sizeof *offsets);
    free(offsets);
    return status;
}

/* Fills device memory with zeros: padding between parameters must be finite. */
static cnn_status clear(cnn_session *session, cnn_place place, size_t bytes)
{
    void *zeros = cnn_calloc(bytes, 1);
    if (!zeros)
        return CNN_ERR_MEMORY;
    cnn_status status = cnn_session_upload(session, session->memory[place], zeros, bytes);
    free(zeros);
    return status;
}

typedef struct training_memory {
    cnn_place place;
    size_t bytes;
    const char *kept; /* its name when a step reads what an earlier one left in it; else NULL */
} training_memory;

enum { TRAINING_MEMORIES = 17 };

/* What a training session allocates. The rows with a name and the training state are all that a run needs to go on
 * bit for bit: a new memory that outlives a step needs a name here, and nothing else, to be part of checkpoints. One
 * with a value for each parameter that trains is to be cleared of pruned ones too: clear_memories, session_mask.c. */
static void list_memories(const cnn_session *session, training_memory list[TRAINING_MEMORIES])
{
    cnn_segments segments = cnn_model_segments(session->model);
    size_t elements = (size_t)segments.elements, all_params = (size_t)segments.all;
    size_t statistics = (size_t)cnn_model_statistic(session->model, session->model->node_count, CNN_PARAM_WEIGHT);
    size_t classes = (size_t)session->model->nodes[session->model->node_count - 1].out.c;
    size_t half = session->storage == CNN_F32 ? 0 : 2;
    size_t squares = cnn_optimizer_get(session->step.optimizer)->squares ? 4 : 0;
    size_t average = session->step.ema ? 4 : 0;
    const training_memory all[TRAINING_MEMORIES] = {
        {CNN_PLACE_PARAM, all_params * 4, "parameters"},
        {CNN_PLACE_GRAD, elements * 4, NULL},
        {CNN_PLACE_MOMENTUM, elements * 4, "momentum"},
        {CNN_PLACE_HALF, all_params * half, "working weights"},
        {CNN_PLACE_SQUARES, elements * squares, "squares of gradients"},
        {CNN_PLACE_EMA, elements * average, "averages"},
        {CNN_PLACE_RUNNING, statistics * 4, "running statistics"},
        {CNN_PLACE_EMA_RUNNING, statistics * average, "averages of running statistics"},
        {CNN_PLACE_BATCH, statistics * 4, NULL},
        {CNN_PLACE_INDEX, (size_t)session->batch * 4, NULL},
        {CNN_PLACE_STATE, sizeof(cnn_train_state), NULL}, /* has functions of its own: cnn_session_get_state */
        {CNN_PLACE_SEGMENTS, ((size_t)segments.count + 1) * 4, NULL},
        {CNN_PLACE_FLAGS, (size_t)segments.count * 4, NULL},
        {CNN_PLACE_LOGITS, (size_t)session->batch * classes * 4, NULL},
        {CNN_PLACE_RESULT, 2 * 4, NULL},
        {CNN_PLACE_REPORTS, CNN_MARKS * sizeof(cnn_step_report), NULL},
        {CNN_PLACE_AUGMENT, session->step.augment ? (size_t)session->batch * sizeof(cnn_augment_params) : 0, NULL},
    };
    memcpy(list, all, sizeof all);
}

int cnn_session_kept(const cnn_session *session, cnn_session_memory kept[CNN_SESSION_MAX_KEPT])
{
    training_memory list[TRAINING_MEMORIES];
    int count = 0;
    list_memories(session, list);
    for (int i = 0; i < TRAINING_MEMORIES; i++)
        if (list[i].kept && list[i].bytes)
            kept[count++] = (cnn_session_memory){list[i].kept, session->memory[list[i].place], list[i].bytes};
    return count;
}

cnn_status cnn_session_open_training(cnn_session *session)
{
    cnn_status status = CNN_OK;
    training_memory list[TRAINING_MEMORIES];
    list_memories(session, list);
    for (int i = 0; i < TRAINING_MEMORIES; i++) {
        CNN_TRY(cnn_session_alloc(session, list[i].place, list[i].bytes));
        if (list[i].bytes && !cnn_session_in_host_memory(session, list[i].place)) /* which is cleared already */
            CNN_TRY(clear(session, list[i].place, list[i].bytes));
    }
    session->index_count = session->batch;
    CNN_TRY(upload_segments(session));
    CNN_TRY(cnn_session_push(session));
out:
    return status;
}

/* ---- Parameters between model and device ---- */

/* Where a parameter is trained, or the average of it. */
static void *device_param(const cnn_session *session, int node, cnn_param_role role, bool handed_out)
{
    bool statistic = cnn_param_is_statistic(role);
    int64_t offset =
        statistic ? cnn_model_statistic(session->model, node, role) : cnn_model_param(session->model, node, role);
    cnn_place place = statistic ? CNN_PLACE_RUNNING : CNN_PLACE_PARAM;
    if (handed_out)
        place = cnn_session_handed_out(session, place, node);
    return (float *)session->memory[place] + offset;
}

typedef cnn_status (*param_copy)(cnn_session *session, void *device, void *host, size_t bytes);

static cnn_status to_host(cnn_session *session, void *device, void *host, size_t bytes)
{
    return cnn_session_download(session, host, device, bytes);
}

static cnn_status to_device(cnn_session *session, void *device, void *host, size_t bytes)
{
    return cnn_session_upload(session, device, host, bytes);
}

static cnn_status copy_params(cnn_session *session, param_copy copy, bool handed_out)
{
    cnn_status status = CNN_OK;
    for (int node = 0; node < session->model->node_count; node++)
        for (int role = 0; role < CNN_PARAM_COUNT && status == CNN_OK; role++) {
            cnn_param *param = &session->model->nodes[node].param[role];
            if (param->desc.dtype != CNN_NONE)
                status = copy(session, device_param(session, node, (cnn_param_role)role, handed_out), param->data,
                              cnn_desc_bytes(&param->desc));
        }
    return status;
}

/* Writes the f16 or bf16 copy of every parameter, frozen or not. */
static cnn_status push_half(cnn_session *session)
{
    cnn_status status = CNN_OK;
    size_t elements = (size_t)cnn_model_segments(session->model).all;
    uint16_t *half = cnn_calloc(elements, sizeof *half);
    if (!half)
        return CNN_ERR_MEMORY;
    for (int node = 0; node < session->model->node_count; node++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *param = &session->model->nodes[node].param[role];
            const float *values = param->data;
            int64_t offset = cnn_model_param(session->model, node, (cnn_param_role)role);
            if (offset < 0)
                continue;
            for (int64_t i = 0; i < cnn_desc_elements(&param->desc); i++)
                half[offset + i] =
                    session->storage == CNN_F16 ? cnn_ref_f16_from_f32(values[i]) : cnn_ref_bf16_from_f32(values[i]);
        }
    status = cnn_session_upload(session, session->memory[CNN_PLACE_HALF], half, elements * sizeof *half);
    free(half);
    return status;
}

cnn_status cnn_session_push(cnn_session *session)
{
    cnn_status status = copy_params(session, to_device, false);
    if (status == CNN_OK && session->step.ema)
        status = copy_params(session, to_device, true);
    if (status == CNN_OK)
        status = cnn_session_push_masks(session);
    return status == CNN_OK && session->storage != CNN_F32 ? push_half(session) : status;
}

cnn_status cnn_session_pull(cnn_session *session)
{
    return copy_params(session, to_host, true);
}

/* ---- Training ---- */

static cnn_status check_training(const cnn_session *session)
{
    return session->train ? CNN_OK : cnn_error(CNN_ERR_USAGE, "this session was not opened for training");
}

static cnn_status upload_data(cnn_session *session, const cnn_dataset *data, int32_t count)
{
    cnn_status status = CNN_OK;
    size_t image_bytes = (size_t)cnn_desc_elements(&session->model->nodes[0].out);
    if (session->backend->host_memory)
        return CNN_OK;
    CNN_TRY(cnn_session_upload(session, session->memory[CNN_PLACE_IMAGES], data->images, (size_t)count * image_bytes));
    CNN_TRY(cnn_session_upload(session, session->memory[CNN_PLACE_LABELS], data->labels, (size_t)count));
out:
    return status;
}

static cnn_status bind_data(cnn_session *session, const cnn_dataset *data)
{
    cnn_status status = CNN_OK;
    size_t image_bytes = (size_t)cnn_desc_elements(&session->model->nodes[0].out);
    if (session->backend->host_memory) {
        session->images = data->images;
        session->labels = data->labels;
        return CNN_OK;
    }
    CNN_TRY(cnn_session_alloc(session, CNN_PLACE_IMAGES, (size_t)data->count * image_bytes));
    CNN_TRY(cnn_session_alloc(session, CNN_PLACE_LABELS, (size_t)data->count));
    CNN_TRY(upload_data(session, data, data->count));
out:
    return status;
}

cnn_status cnn_session_set_data(cnn_session *session, const cnn_dataset *data)
{
    cnn_status status = CNN_OK;
    CNN_TRY(check_training(session));
    CNN_TRY(cnn_session_check_data(session, data));
    CNN_TRY(bind_data(session, data));
    session->data = data;
    cnn_session_drop_programs(session, CNN_GOAL_TRAIN);
out:
    return status;
}

cnn_status cnn_session_refresh(cnn_session *session, const int32_t *index, int count)
{
    cnn_status status = CNN_OK;
    const size_t bytes = cnn_session_image_bytes(session);
    if (session->backend->host_memory)
        return CNN_OK;
    for (int i = 0; i < count; i++)
        CNN_TRY(cnn_session_upload(session, (uint8_t *)session->memory[CNN_PLACE_IMAGES] + (size_t)index[i] * bytes,
                                   session->data->images + (size_t)index[i] * bytes, bytes));
out:
    return status;
}

cnn_status cnn_session_set_teacher(cnn_session *session, const float *logits)
{
    cnn_status status = CNN_OK;
    CNN_TRY(check_training(session));
    if (!session->data || !(session->step.distill > 0))
        CNN_FAIL(CNN_ERR_USAGE, "a teacher is for sessions with data whose steps distill");
    const size_t bytes = (size_t)session->data->count * (size_t)cnn_session_classes(session) * sizeof *logits;
    CNN_TRY(cnn_session_alloc(session, CNN_PLACE_TEACHER, bytes));
    if (logits)
        CNN_TRY(cnn_session_upload(session, session->memory[CNN_PLACE_TEACHER], logits, bytes));
out:
    return status;
}

cnn_status cnn_session_tell(cnn_session *session, const int32_t *index, int count, const float *logits)
{
    cnn_status status = CNN_OK;
    const size_t classes = (size_t)cnn_session_classes(session);
    float *answers = session->memory[CNN_PLACE_TEACHER];
    for (int i = 0; i < count; i++)
        CNN_TRY(cnn_session_upload(session, answers + (size_t)index[i] * classes, logits + (size_t)i * classes,
                                   classes * sizeof *logits));
out:
    return status;
}

cnn_status cnn_session_set_schedule(cnn_session *session, const float *learning_rate, int32_t steps)
{
    cnn_status status = CNN_OK;
    CNN_TRY(check_training(session));
    if (steps < 1)
        CNN_FAIL(CNN_ERR_USAGE, "a schedule needs at least one learning rate");
    CNN_TRY(cnn_session_alloc(session, CNN_PLACE_RATES, (size_t)steps * sizeof *learning_rate));
    CNN_TRY(cnn_session_upload(session, session->memory[CNN_PLACE_RATES], learning_rate,
                               (size_t)steps * sizeof *learning_rate));
    session->rate_count = steps;
    cnn_session_drop_programs(session, CNN_GOAL_TRAIN);
out:
    return status;
}

cnn_status cnn_session_set_state(cnn_session *session, const cnn_train_state *state)
{
    cnn_status status = CNN_OK;
    CNN_TRY(check_training(session));
    CNN_TRY(cnn_session_drain(session));
    session->steps = state->step + state->skipped;
    CNN_TRY(cnn_session_upload(session, session->memory[CNN_PLACE_STATE], state, sizeof *state));
out:
    return status;
}

cnn_status cnn_session_get_state(cnn_session *session, cnn_train_state *state)
{
    cnn_status status = check_training(session);
    return status == CNN_OK ? cnn_session_download(session, state, session->memory[CNN_PLACE_STATE], sizeof *state)
                            : status;
}
