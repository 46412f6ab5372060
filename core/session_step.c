/* Sessions: training steps.
 *
 * The device keeps the order of images and where the next batch begins (the state's cursor), so that a step is enqueued
 * without a word to it but "again". What a step found comes back in a ring of reports, which the device writes to host
 * memory; a mark behind each step says when. */
#include "core/session.h"

#include "core/error.h"

#include <stddef.h>
#include <string.h>

/* ---- The order of images ---- */

static cnn_status check_ready(const cnn_session *session)
{
    if (!session->train || !session->data || !session->rate_count)
        return cnn_error(CNN_ERR_USAGE, "a training step needs a training session with data and a schedule");
    if (session->step.distill > 0 && !session->memory[CNN_PLACE_TEACHER])
        return cnn_error(CNN_ERR_USAGE, "a step that distills needs a teacher");
    return CNN_OK;
}

static cnn_status check_order(const cnn_session *session, const int32_t *index, int32_t count, int32_t first)
{
    cnn_status status = check_ready(session);
    if (status != CNN_OK)
        return status;
    if (count < 1 || first < 0 || first > count)
        return cnn_error(CNN_ERR_USAGE, "an order of %d images, from number %d on", count, first);
    for (int32_t i = 0; i < count; i++)
        if (index[i] < 0 || index[i] >= session->data->count)
            return cnn_error(CNN_ERR_USAGE, "image %d of a data set of %d", index[i], session->data->count);
    return CNN_OK;
}

static cnn_status set_cursor(cnn_session *session, int32_t cursor)
{
    uint8_t *state = session->memory[CNN_PLACE_STATE];
    session->next = cursor;
    return cnn_session_upload(session, state + offsetof(cnn_train_state, cursor), &cursor, sizeof cursor);
}

cnn_status cnn_session_set_epoch(cnn_session *session, int32_t epoch)
{
    cnn_status status = check_ready(session);
    if (status != CNN_OK)
        return status;
    uint8_t *state = session->memory[CNN_PLACE_STATE];
    return cnn_session_upload(session, state + offsetof(cnn_train_state, epoch), &epoch, sizeof epoch);
}

cnn_status cnn_session_set_order(cnn_session *session, const int32_t *index, int32_t count, int32_t first)
{
    cnn_status status = CNN_OK;
    CNN_TRY(check_order(session, index, count, first));
    if (count > session->index_count) {
        CNN_TRY(cnn_session_drain(session));
        cnn_session_drop_programs(session, CNN_GOAL_TRAIN);
        session->index_count = 0;
        CNN_TRY(cnn_session_alloc(session, CNN_PLACE_INDEX, (size_t)count * sizeof *index));
        session->index_count = count;
    }
    CNN_TRY(cnn_session_upload(session, session->memory[CNN_PLACE_INDEX], index, (size_t)count * sizeof *index));
    session->order_count = count;
    CNN_TRY(set_cursor(session, first));
out:
    return status;
}

/* ---- Augmentation ---- */

/* A slot of the posts is free again before the step that uses it next: fewer steps are under way than there are slots.
 */
cnn_status cnn_session_augment(cnn_session *session, const cnn_augment_params *params, int count)
{
    cnn_status status = CNN_OK;
    const size_t bytes = (size_t)count * sizeof *params;
    void *memory = session->memory[CNN_PLACE_AUGMENT];
    uint8_t *slot;
    if (!memory || count < 1 || count > session->batch)
        return cnn_error(CNN_ERR_USAGE, "%d images to augment in a session that augments up to %d", count,
                         memory ? session->batch : 0);
    if (!session->backend->copy_async)
        return cnn_session_upload(session, memory, params, bytes);
    CNN_TRY(cnn_session_post(session, session->steps % CNN_MARKS, bytes, &slot));
    memcpy(slot, params, bytes);
    CNN_TRY(session->backend->copy_async(session->device, memory, slot, bytes, CNN_COPY_TO_DEVICE));
out:
    return status;
}

/* ---- Steps ---- */

static void bind_training(cnn_session *session)
{
    if (session->backend->host_memory) {
        session->images = session->data->images;
        session->labels = session->data->labels;
    } else {
        session->images = session->memory[CNN_PLACE_IMAGES];
        session->labels = session->memory[CNN_PLACE_LABELS];
    }
    session->logits = session->memory[CNN_PLACE_LOGITS];
}

static cnn_status check_step(const cnn_session *session, int count)
{
    if (count < 1 || count > session->batch)
        return cnn_error(CNN_ERR_USAGE, "a step of %d images in a session for at most %d", count, session->batch);
    if (count > session->order_count - session->next)
        return cnn_error(CNN_ERR_USAGE, "a step of %d images and %d are left of the order", count,
                         session->order_count - session->next);
    return CNN_OK;
}

int cnn_session_depth(const cnn_session *session)
{
    return session->backend->mark ? CNN_MARKS / 2 : 1;
}

cnn_status cnn_session_submit(cnn_session *session, int count)
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    CNN_TRY(check_ready(session));
    CNN_TRY(check_step(session, count));
    if (session->pending == cnn_session_depth(session))
        CNN_FAIL(CNN_ERR_USAGE, "%d steps are under way: ask for their reports first", session->pending);
    CNN_TRY(cnn_session_program(session, CNN_GOAL_TRAIN, count, &program));
    bind_training(session);
    CNN_TRY(cnn_session_run(session, program));
    if (session->backend->mark)
        CNN_TRY(session->backend->mark(session->device, session->steps % CNN_MARKS));
    session->next += count;
    session->steps++;
    session->pending++;
out:
    return status;
}

cnn_status cnn_session_report(cnn_session *session, cnn_step_report *report)
{
    cnn_status status = CNN_OK;
    if (!session->train || session->pending == 0)
        return cnn_error(CNN_ERR_USAGE, "no training step is under way");
    const int slot = (session->steps - session->pending) % CNN_MARKS;
    session->pending--;
    if (session->backend->wait)
        CNN_TRY(session->backend->wait(session->device, slot));
    memcpy(report, (const cnn_step_report *)session->memory[CNN_PLACE_REPORTS] + slot, sizeof *report);
out:
    return status;
}

cnn_status cnn_session_drain(cnn_session *session)
{
    cnn_status status = CNN_OK;
    cnn_step_report report;
    while (session->pending > 0)
        CNN_TRY(cnn_session_report(session, &report));
out:
    return status;
}

cnn_status cnn_session_step(cnn_session *session, const int32_t *index, int count, float result[2])
{
    cnn_status status = CNN_OK;
    cnn_step_report report;
    CNN_TRY(cnn_session_set_order(session, index, count, 0));
    CNN_TRY(cnn_session_submit(session, count));
    CNN_TRY(cnn_session_report(session, &report));
    result[0] = report.loss;
    result[1] = report.correct;
out:
    return status;
}

/* ---- Gradients ---- */

/* The last instruction before those that use up the gradients. */
static int backward_end(const cnn_program *program)
{
    int end = 0;
    while (end < program->instruction_count && program->instructions[end].desc.op != CNN_OP_GRAD_STATS)
        end++;
    return end - 1;
}

cnn_status cnn_session_backward(cnn_session *session, const int32_t *index, int count, float result[2])
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    CNN_TRY(cnn_session_set_order(session, index, count, 0));
    CNN_TRY(check_step(session, count));
    CNN_TRY(cnn_session_program(session, CNN_GOAL_TRAIN, count, &program));
    bind_training(session);
    CNN_TRY(cnn_session_run_to(session, program, backward_end(program)));
    CNN_TRY(cnn_session_download(session, result, session->memory[CNN_PLACE_RESULT], 2 * sizeof *result));
out:
    return status;
}

cnn_status cnn_session_gradient(cnn_session *session, int node, cnn_param_role role, float *gradient)
{
    int64_t offset;
    if (cnn_model_segment(session->model, node, role, &offset) < 0)
        return cnn_error(CNN_ERR_USAGE, "layer '%s' has no %s that trains", session->model->nodes[node].name,
                         cnn_param_role_name(role));
    return cnn_session_download(session, gradient, (const float *)session->memory[CNN_PLACE_GRAD] + offset,
                                cnn_desc_bytes(&session->model->nodes[node].param[role].desc));
}

const char *cnn_session_segment_layer(const cnn_session *session, int segment)
{
    int node = cnn_model_segment_node(session->model, segment);
    return node < 0 ? NULL : session->model->nodes[node].name;
}
