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

/* Lets the next run read the device's own memory for images. */
static cnn_status bind_staging(cnn_session *session)
{
    if (!session->staging)
        session->staging = cnn_session_device_alloc(session, (size_t)session->batch * cnn_session_image_bytes(session),
                                                    session->batch);
    if (!session->staging)
        return CNN_ERR_MEMORY;
    session->images = session->staging;
    return CNN_OK;
}

/* Lets the next run read `count` images and, on devices with memory of their own, brings them there. */
static cnn_status bind_images(cnn_session *session, const uint8_t *images, int count)
{
    if (session->backend->host_memory) {
        session->images = images;
        return CNN_OK;
    }
    cnn_status status = bind_staging(session);
    return status == CNN_OK
               ? cnn_session_upload(session, session->staging, images, (size_t)count * cnn_session_image_bytes(session))
               : status;
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

/* Images and logits in the device's own memory. */
static cnn_status bind_memory(cnn_session *session)
{
    cnn_status status = bind_staging(session);
    return status == CNN_OK ? bind_logits(session, NULL) : status;
}

cnn_status cnn_session_bind(cnn_session *session, const uint8_t *images, int count, float *logits)
{
    cnn_status status = bind_images(session, images, count);
    return status == CNN_OK ? bind_logits(session, logits) : status;
}

int cnn_session_batch_at(const cnn_session *session, int64_t begin, int64_t count)
{
    return count - begin < session->batch ? (int)(count - begin) : session->batch;
}

/* ---- Many batches ---- */

/* Images one after the other, or those of a data set that an index names, and who takes the logits of each batch. */
typedef struct stream {
    const uint8_t *images;
    const cnn_dataset *data;
    const int32_t *index;
    int64_t count;
    void (*take)(void *context, int64_t begin, int count, const float *logits);
    void *context;
} stream;

static void fill_batch(const cnn_session *session, const stream *from, int64_t begin, int count, uint8_t *images)
{
    size_t bytes = cnn_session_image_bytes(session);
    if (from->images)
        memcpy(images, from->images + (size_t)begin * bytes, (size_t)count * bytes);
    else
        cnn_session_gather(session, from->data, from->index, begin, count, images);
}

/* Where the device computes on host memory: one batch after the other. */
static cnn_status run_in_turn(cnn_session *session, const stream *from)
{
    cnn_status status = CNN_OK;
    float *logits = cnn_calloc((size_t)session->batch * (size_t)cnn_session_classes(session), sizeof *logits);
    uint8_t *images = from->images ? NULL : cnn_calloc((size_t)session->batch, cnn_session_image_bytes(session));
    if (!logits || (!from->images && !images)) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    for (int64_t begin = 0; begin < from->count; begin += session->batch) {
        int count = cnn_session_batch_at(session, begin, from->count);
        const uint8_t *batch = images;
        cnn_program *program;
        if (from->images)
            batch = from->images + (size_t)begin * cnn_session_image_bytes(session);
        else
            fill_batch(session, from, begin, count, images);
        CNN_TRY(cnn_session_program(session, CNN_GOAL_INFER, count, &program));
        CNN_TRY(cnn_session_bind(session, batch, count, logits));
        CNN_TRY(cnn_session_run(session, program));
        if (!session->backend->host_memory)
            CNN_TRY(cnn_session_download(session, logits, session->logits,
                                         (size_t)count * (size_t)cnn_session_classes(session) * sizeof *logits));
        from->take(from->context, begin, count, logits);
    }
out:
    free(images);
    free(logits);
    return status;
}

/* Where it lies in the slot of its batch. */
static size_t logits_offset(const cnn_session *session)
{
    return ((size_t)session->batch * cnn_session_image_bytes(session) + CNN_ALIGN - 1) / CNN_ALIGN * CNN_ALIGN;
}

static size_t logits_bytes(const cnn_session *session, int count)
{
    return (size_t)count * (size_t)cnn_session_classes(session) * sizeof(float);
}

/* Waits for batch number `number` and hands its logits on. */
static cnn_status take_batch(cnn_session *session, const stream *from, int64_t number)
{
    const int64_t begin = number * session->batch;
    const int slot_number = (int)(number % CNN_MARKS);
    uint8_t *slot;
    cnn_status status = session->backend->wait(session->device, slot_number);
    if (status == CNN_OK)
        status = cnn_session_post(session, slot_number, 0, &slot);
    if (status == CNN_OK)
        from->take(from->context, begin, cnn_session_batch_at(session, begin, from->count),
                   (const float *)(const void *)(slot + logits_offset(session)));
    return status;
}

/* Enqueues one batch: its images go to the device, its logits come back. */
static cnn_status post_batch(cnn_session *session, const stream *from, int64_t number)
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    uint8_t *slot;
    const int64_t begin = number * session->batch;
    const int count = cnn_session_batch_at(session, begin, from->count), slot_number = (int)(number % CNN_MARKS);
    CNN_TRY(cnn_session_program(session, CNN_GOAL_INFER, count, &program));
    CNN_TRY(
        cnn_session_post(session, slot_number, logits_offset(session) + logits_bytes(session, session->batch), &slot));
    fill_batch(session, from, begin, count, slot);
    CNN_TRY(bind_memory(session));
    CNN_TRY(session->backend->copy_async(session->device, session->staging, slot,
                                         (size_t)count * cnn_session_image_bytes(session), CNN_COPY_TO_DEVICE));
    CNN_TRY(cnn_session_run(session, program));
    CNN_TRY(session->backend->copy_async(session->device, slot + logits_offset(session), session->logits,
                                         logits_bytes(session, count), CNN_COPY_TO_HOST));
    CNN_TRY(session->backend->mark(session->device, slot_number));
out:
    return status;
}

/* Where the device goes on by itself: the host prepares batches and looks at results meanwhile. */
static cnn_status run_ahead(cnn_session *session, const stream *from)
{
    cnn_status status = CNN_OK;
    const int64_t batches = (from->count + session->batch - 1) / session->batch;
    for (int64_t number = 0; number < batches + CNN_MARKS; number++) {
        if (number >= CNN_MARKS && number - CNN_MARKS < batches)
            CNN_TRY(take_batch(session, from, number - CNN_MARKS));
        if (number < batches)
            CNN_TRY(post_batch(session, from, number));
    }
out:
    if (status != CNN_OK)
        (void)session->backend->sync(session->device); /* copies into slots that the next run uses */
    return status;
}

static cnn_status run_stream(cnn_session *session, const stream *from)
{
    return session->backend->copy_async && !session->trace ? run_ahead(session, from) : run_in_turn(session, from);
}

typedef struct copying {
    float *logits;
    size_t classes;
} copying;

static void copy_logits(void *context, int64_t begin, int count, const float *logits)
{
    const copying *to = context;
    memcpy(to->logits + (size_t)begin * to->classes, logits, (size_t)count * to->classes * sizeof *logits);
}

cnn_status cnn_session_prepare(cnn_session *session, int64_t count)
{
    cnn_program *program;
    if (!session->backend->host_memory || count < 1)
        return CNN_OK;
    return cnn_session_program(session, CNN_GOAL_INFER, cnn_session_batch_at(session, 0, count), &program);
}

cnn_status cnn_session_infer(cnn_session *session, const uint8_t *images, int64_t count, float *logits)
{
    copying to = {logits, (size_t)cnn_session_classes(session)};
    const stream from = {.images = images, .count = count, .take = copy_logits, .context = &to};
    return run_stream(session, &from);
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

/* What an evaluation has found so far. */
typedef struct tally {
    const cnn_dataset *data;
    const int32_t *index;
    int32_t classes;
    int64_t right;
    double loss;
} tally;

static void score_batch(void *context, int64_t begin, int count, const float *logits)
{
    tally *found = context;
    for (int i = 0; i < count; i++)
        found->loss += score(logits + (size_t)i * (size_t)found->classes, found->classes,
                             found->data->labels[image_at(found->index, begin + i)], &found->right);
}

cnn_status cnn_session_evaluate(cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t count,
                                int64_t *correct, double *loss)
{
    cnn_status status = CNN_OK;
    tally found = {.data = data, .index = index, .classes = cnn_session_classes(session)};
    const stream from = {.data = data, .index = index, .count = count, .take = score_batch, .context = &found};
    CNN_TRY(cnn_session_check_data(session, data));
    CNN_TRY(run_stream(session, &from));
    *correct = found.right;
    if (loss)
        *loss = count ? found.loss / (double)count : 0;
out:
    return status;
}
