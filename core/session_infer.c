/* Sessions: inference and evaluation. Observation is in session_observe.c. */
#include "core/session.h"

#include "core/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t cnn_session_image_bytes(const cnn_session *session)
{
    return (size_t)cnn_desc_elements(&session->model->nodes[0].out);
}

int32_t cnn_session_classes(const cnn_session *session)
{
    return session->model->nodes[session->model->node_count - 1].out.c;
}

/* Lets the next run read `count` images and, on devices with memory of their own, brings them there. */
static cnn_status bind_images(cnn_session *session, const uint8_t *images, int count)
{
    if (session->backend->host_memory) {
        session->images = images;
        return CNN_OK;
    }
    size_t bytes = cnn_session_image_bytes(session);
    if (!session->staging)
        session->staging = session->backend->alloc(session->device, (size_t)session->batch * bytes);
    if (!session->staging)
        return cnn_error(CNN_ERR_MEMORY, "out of memory on device %s for a batch of %d images", session->backend->name,
                         session->batch);
    session->images = session->staging;
    return cnn_session_upload(session, session->staging, images, (size_t)count * bytes);
}

static cnn_status bind_logits(cnn_session *session, float *logits)
{
    if (session->backend->host_memory) {
        session->logits = logits;
        return CNN_OK;
    }
    cnn_status status = CNN_OK;
    if (!session->memory[CNN_PLACE_LOGITS])
        status = cnn_session_alloc(session, CNN_PLACE_LOGITS,
                                   (size_t)session->batch * (size_t)cnn_session_classes(session) * sizeof(float));
    session->logits = session->memory[CNN_PLACE_LOGITS];
    return status;
}

cnn_status cnn_session_bind(cnn_session *session, const uint8_t *images, int count, float *logits)
{
    cnn_status status = bind_images(session, images, count);
    return status == CNN_OK ? bind_logits(session, logits) : status;
}

/* One batch: images to logits. */
static cnn_status infer_batch(cnn_session *session, const uint8_t *images, int count, float *logits)
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    CNN_TRY(cnn_session_program(session, CNN_GOAL_INFER, count, &program));
    CNN_TRY(cnn_session_bind(session, images, count, logits));
    CNN_TRY(cnn_session_run(session, program));
    if (!session->backend->host_memory)
        CNN_TRY(cnn_session_download(session, logits, session->logits,
                                     (size_t)count * (size_t)cnn_session_classes(session) * sizeof *logits));
out:
    return status;
}

int cnn_session_batch_at(const cnn_session *session, int64_t begin, int64_t count)
{
    return count - begin < session->batch ? (int)(count - begin) : session->batch;
}

cnn_status cnn_session_infer(cnn_session *session, const uint8_t *images, int64_t count, float *logits)
{
    cnn_status status = CNN_OK;
    for (int64_t begin = 0; begin < count && status == CNN_OK; begin += session->batch)
        status =
            infer_batch(session, images + (size_t)begin * cnn_session_image_bytes(session),
                        cnn_session_batch_at(session, begin, count), logits + begin * cnn_session_classes(session));
    return status;
}

/* ---- Data sets ---- */

cnn_status cnn_session_check_data(const cnn_session *session, const cnn_dataset *data)
{
    cnn_status status = cnn_model_check_data(session->model, data);
    return status == CNN_OK ? CNN_OK : cnn_error_prefix(status, "model %s", session->model->name);
}

static int64_t image_at(const int32_t *index, int64_t i)
{
    return index ? index[i] : i;
}

void cnn_session_gather(const cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t begin,
                        int count, uint8_t *images)
{
    size_t bytes = cnn_session_image_bytes(session);
    for (int i = 0; i < count; i++)
        memcpy(images + (size_t)i * bytes, data->images + (size_t)image_at(index, begin + i) * bytes, bytes);
}

/* -log softmax(logits)[label], and whether label is the first maximum. */
static double score(const float *logits, int32_t classes, int label, int64_t *correct)
{
    int best = 0;
    for (int k = 1; k < classes; k++)
        if (logits[k] > logits[best])
            best = k;
    *correct += best == label;
    double sum = 0;
    for (int k = 0; k < classes; k++)
        sum += exp((double)logits[k] - (double)logits[best]);
    return log(sum) + (double)logits[best] - (double)logits[label];
}

cnn_status cnn_session_evaluate(cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t count,
                                int64_t *correct, double *loss)
{
    cnn_status status = CNN_OK;
    int32_t classes = cnn_session_classes(session);
    uint8_t *images = cnn_calloc((size_t)session->batch, cnn_session_image_bytes(session));
    float *logits = cnn_calloc((size_t)session->batch * (size_t)classes, sizeof *logits);
    if (!images || !logits) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(cnn_session_check_data(session, data));
    int64_t right = 0;
    double sum = 0;
    for (int64_t begin = 0; begin < count; begin += session->batch) {
        int batch = cnn_session_batch_at(session, begin, count);
        cnn_session_gather(session, data, index, begin, batch, images);
        CNN_TRY(infer_batch(session, images, batch, logits));
        for (int i = 0; i < batch; i++)
            sum +=
                score(logits + (size_t)i * (size_t)classes, classes, data->labels[image_at(index, begin + i)], &right);
    }
    *correct = right;
    if (loss)
        *loss = count ? sum / (double)count : 0;
out:
    free(images);
    free(logits);
    return status;
}
