/* Sessions: inference, evaluation, observation. */
#include "core/session.h"

#include "core/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static size_t image_bytes(const cnn_session *session)
{
    return (size_t)cnn_desc_elements(&session->model->nodes[0].out);
}

static int32_t class_count(const cnn_session *session)
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
    size_t bytes = image_bytes(session);
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
                                   (size_t)session->batch * (size_t)class_count(session) * sizeof(float));
    session->logits = session->memory[CNN_PLACE_LOGITS];
    return status;
}

/* One batch: images to logits. */
static cnn_status infer_batch(cnn_session *session, const uint8_t *images, int count, float *logits)
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    CNN_TRY(cnn_session_program(session, CNN_GOAL_INFER, count, &program));
    CNN_TRY(bind_images(session, images, count));
    CNN_TRY(bind_logits(session, logits));
    CNN_TRY(cnn_session_run(session, program));
    if (!session->backend->host_memory)
        CNN_TRY(cnn_session_download(session, logits, session->logits,
                                     (size_t)count * (size_t)class_count(session) * sizeof *logits));
out:
    return status;
}

static int batch_at(const cnn_session *session, int64_t begin, int64_t count)
{
    return count - begin < session->batch ? (int)(count - begin) : session->batch;
}

cnn_status cnn_session_infer(cnn_session *session, const uint8_t *images, int64_t count, float *logits)
{
    cnn_status status = CNN_OK;
    for (int64_t begin = 0; begin < count && status == CNN_OK; begin += session->batch)
        status = infer_batch(session, images + (size_t)begin * image_bytes(session), batch_at(session, begin, count),
                             logits + begin * class_count(session));
    return status;
}

/* ---- Data sets ---- */

cnn_status cnn_session_check_data(const cnn_session *session, const cnn_dataset *data)
{
    const cnn_tensor_desc *in = &session->model->nodes[0].out;
    if (data->height != in->h || data->width != in->w || data->channels != in->c)
        return cnn_error(CNN_ERR_SHAPE, "the data has images of %dx%dx%d, model %s takes %dx%dx%d", data->height,
                         data->width, data->channels, session->model->name, in->h, in->w, in->c);
    if (data->classes != class_count(session))
        return cnn_error(CNN_ERR_SHAPE, "the data has %d classes, model %s has %d", data->classes, session->model->name,
                         class_count(session));
    return CNN_OK;
}

static int64_t image_at(const int32_t *index, int64_t i)
{
    return index ? index[i] : i;
}

static void gather(const cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t begin, int count,
                   uint8_t *images)
{
    size_t bytes = image_bytes(session);
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
    int32_t classes = class_count(session);
    uint8_t *images = cnn_calloc((size_t)session->batch, image_bytes(session));
    float *logits = cnn_calloc((size_t)session->batch * (size_t)classes, sizeof *logits);
    if (!images || !logits) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(cnn_session_check_data(session, data));
    int64_t right = 0;
    double sum = 0;
    for (int64_t begin = 0; begin < count; begin += session->batch) {
        int batch = batch_at(session, begin, count);
        gather(session, data, index, begin, batch, images);
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

/* ---- Observation ---- */

/* Shows one node's value; channel padding is taken out. `values` has room for it on devices with own memory. */
static cnn_status show_node(cnn_session *session, cnn_program *program, int node, float *values, cnn_observe_fn observe,
                            void *context)
{
    int buffer = program->value[node];
    cnn_tensor_desc desc = program->buffers[buffer].desc;
    const float *source = cnn_session_pointer(session, program, buffer);
    if (session->backend->host_memory && desc.c_pad == desc.c)
        return observe(context, node, &desc, source);
    cnn_status status = cnn_session_download(session, values, source, cnn_desc_bytes(&desc));
    if (status != CNN_OK)
        return status;
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(&desc); pixel++)
        memmove(values + pixel * desc.c, values + pixel * desc.c_pad, (size_t)desc.c * sizeof *values);
    desc.c_pad = desc.c;
    return observe(context, node, &desc, values);
}

/* The largest value of any node in floats, padding included. */
static size_t largest_value(const cnn_session *session, const cnn_program *program)
{
    size_t largest = 0;
    for (int node = 0; node < session->model->node_count; node++) {
        size_t bytes = cnn_desc_bytes(&program->buffers[program->value[node]].desc);
        largest = bytes > largest ? bytes : largest;
    }
    return largest / sizeof(float);
}

static cnn_status observe_batch(cnn_session *session, const uint8_t *images, int count, float **values, float *logits,
                                cnn_observe_fn observe, void *context)
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    CNN_TRY(cnn_session_program(session, CNN_GOAL_OBSERVE, count, &program));
    if (!*values)
        *values = cnn_calloc(largest_value(session, program), sizeof **values);
    if (!*values)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(bind_images(session, images, count));
    CNN_TRY(bind_logits(session, logits));
    CNN_TRY(cnn_session_run(session, program));
    for (int node = 0; node < session->model->node_count; node++)
        CNN_TRY(show_node(session, program, node, *values, observe, context));
out:
    return status;
}

cnn_status cnn_session_observe(cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t count,
                               cnn_observe_fn observe, void *context)
{
    cnn_status status = CNN_OK;
    float *values = NULL;
    uint8_t *images = cnn_calloc((size_t)session->batch, image_bytes(session));
    float *logits = cnn_calloc((size_t)session->batch * (size_t)class_count(session), sizeof *logits);
    if (!images || !logits) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(cnn_session_check_data(session, data));
    for (int64_t begin = 0; begin < count; begin += session->batch) {
        int batch = batch_at(session, begin, count);
        gather(session, data, index, begin, batch, images);
        CNN_TRY(observe_batch(session, images, batch, &values, logits, observe, context));
    }
out:
    free(values);
    free(images);
    free(logits);
    return status;
}
