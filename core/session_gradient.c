/* Sessions: the gradient of the loss with regard to pixels.
 *
 * Of a quantized model it is a straight-through one: its INT8 program runs, its values stand in a float program of the
 * same weights in the place of what that computed itself, and what goes back through that program takes every rounding
 * and clamping for the identity (Bengio et al., "Estimating or propagating gradients", 2013). */
#include "core/session.h"

#include "core/error.h"
#include "core/quantized.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Memory of a place that only gradients use, for a whole batch; made when first needed. */
static cnn_status place_ready(cnn_session *session, cnn_place place, size_t bytes)
{
    return session->memory[place] ? CNN_OK : cnn_session_alloc(session, place, bytes);
}

static cnn_status places_ready(cnn_session *session, const cnn_program *program)
{
    cnn_status status = CNN_OK;
    const size_t images = (size_t)session->batch,
                 image = cnn_desc_bytes(&program->buffers[program->value[0]].desc) / (size_t)program->batch;
    CNN_TRY(place_ready(session, CNN_PLACE_PIXELS, images * image));
    CNN_TRY(place_ready(session, CNN_PLACE_TARGETS, images));
    CNN_TRY(place_ready(session, CNN_PLACE_RESULT, 2 * sizeof(float)));
out:
    return status;
}

/* Brings [n,h,w,c] values without channel padding into a buffer, which may have some. */
static cnn_status put_values(cnn_session *session, const cnn_program *program, int number, const float *values)
{
    const cnn_tensor_desc *desc = &program->buffers[number].desc;
    void *to = cnn_session_pointer(session, program, number);
    if (desc->c == desc->c_pad)
        return cnn_session_upload(session, to, values, cnn_desc_bytes(desc));
    float *padded = cnn_calloc(cnn_desc_bytes(desc), 1);
    if (!padded)
        return CNN_ERR_MEMORY;
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        memcpy(padded + pixel * desc->c_pad, values + pixel * desc->c, (size_t)desc->c * sizeof *values);
    const cnn_status status = cnn_session_upload(session, to, padded, cnn_desc_bytes(desc));
    free(padded);
    return status;
}

/* The gradient of normalized values, and by the chain rule that of pixels in [0,1]: a channel's deviation divides it.
 */
static cnn_status take_gradient(cnn_session *session, const cnn_program *program, float *gradient)
{
    cnn_status status = CNN_OK;
    const cnn_tensor_desc *desc = &program->buffers[program->pixel_gradient].desc;
    const float *std = session->model->normalization.std;
    float *padded = cnn_calloc(cnn_desc_bytes(desc), 1);
    if (!padded)
        return CNN_ERR_MEMORY;
    CNN_TRY(cnn_session_download(session, padded, cnn_session_pointer(session, program, program->pixel_gradient),
                                 cnn_desc_bytes(desc)));
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            gradient[pixel * desc->c + c] = padded[pixel * desc->c_pad + c] / std[c];
out:
    free(padded);
    return status;
}

static cnn_status check_batch(const cnn_session *session, const uint8_t *labels, int count)
{
    const int32_t classes = cnn_session_classes(session);
    if (count < 1 || count > session->batch)
        return cnn_error(CNN_ERR_USAGE, "gradients of %d images in a session for at most %d", count, session->batch);
    for (int i = 0; i < count; i++)
        if (labels[i] >= classes)
            return cnn_error(CNN_ERR_USAGE, "label %d of a model with %d classes", labels[i], classes);
    return CNN_OK;
}

/* Runs the program for values that stand in PIXELS already or come with each node (`stand_in`). */
static cnn_status run_gradient(cnn_session *session, cnn_program *program, const uint8_t *labels, int count,
                               float *logits, float *gradient)
{
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_session_upload(session, session->memory[CNN_PLACE_TARGETS], labels, (size_t)count));
    CNN_TRY(cnn_session_run(session, program));
    if (!session->backend->host_memory)
        CNN_TRY(cnn_session_download(session, logits, session->logits,
                                     (size_t)count * (size_t)cnn_session_classes(session) * sizeof *logits));
    CNN_TRY(take_gradient(session, program, gradient));
out:
    return status;
}

cnn_status cnn_session_pixel_gradient(cnn_session *session, const float *pixels, const uint8_t *labels, int count,
                                      float *logits, float *gradient)
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    const int32_t channels = session->model->nodes[0].out.c;
    const size_t values = (size_t)count * cnn_session_image_bytes(session);
    const cnn_normalization *by = &session->model->normalization;
    float *normalized = NULL;
    CNN_TRY(check_batch(session, labels, count));
    normalized = cnn_calloc(values, sizeof *normalized);
    if (!normalized)
        return CNN_ERR_MEMORY;
    for (size_t i = 0; i < values; i++) {
        const size_t c = i % (size_t)channels;
        normalized[i] = (float)(((double)pixels[i] - (double)by->mean[c]) / (double)by->std[c]);
    }
    CNN_TRY(cnn_session_program(session, CNN_GOAL_GRADIENT, count, &program));
    CNN_TRY(places_ready(session, program));
    CNN_TRY(cnn_session_bind(session, NULL, 0, logits));
    CNN_TRY(put_values(session, program, program->value[0], normalized));
    CNN_TRY(run_gradient(session, program, labels, count, logits, gradient));
out:
    free(normalized);
    return status;
}

/* ---- Straight through ---- */

/* Values of every node of a batch, as the INT8 program has them. */
typedef struct stand_ins {
    float **values; /* [nodes] */
    cnn_session *session;
    const cnn_program *program;
    cnn_status status;
} stand_ins;

static cnn_status keep_values(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    stand_ins *with = context;
    const size_t bytes = cnn_desc_bytes(desc);
    with->values[node] = cnn_calloc(bytes, 1);
    if (!with->values[node])
        return CNN_ERR_MEMORY;
    memcpy(with->values[node], values, bytes);
    return CNN_OK;
}

/* After the instruction that makes a node's value. */
static cnn_status replace(void *context, const cnn_trace *trace)
{
    stand_ins *with = context;
    if (!trace->whole)
        return CNN_OK;
    return put_values(with->session, with->program, with->program->value[trace->node], with->values[trace->node]);
}

cnn_status cnn_session_straight_through(cnn_session *quantized, cnn_session *twin, const uint8_t *images,
                                        const uint8_t *labels, int count, float *logits, float *gradient)
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    const int nodes = twin->model->node_count;
    const cnn_tensor_desc *in = &twin->model->nodes[0].out;
    stand_ins with = {.session = twin};
    cnn_dataset batch = {.count = count,
                         .height = in->h,
                         .width = in->w,
                         .channels = in->c,
                         .classes = cnn_session_classes(twin),
                         .images = (uint8_t *)(uintptr_t)images,
                         .labels = (uint8_t *)(uintptr_t)labels};
    CNN_TRY(check_batch(twin, labels, count));
    with.values = cnn_calloc((size_t)nodes, sizeof *with.values);
    if (!with.values)
        return CNN_ERR_MEMORY;
    CNN_TRY(cnn_session_observe(quantized, &batch, NULL, count, keep_values, &with));
    CNN_TRY(cnn_session_program(twin, CNN_GOAL_GRADIENT, count, &program));
    CNN_TRY(places_ready(twin, program));
    CNN_TRY(cnn_session_bind(twin, NULL, 0, logits));
    with.program = program;
    CNN_TRY(put_values(twin, program, program->value[0], with.values[0]));
    cnn_session_trace(twin, replace, &with, false);
    status = run_gradient(twin, program, labels, count, logits, gradient);
    cnn_session_trace(twin, NULL, NULL, false);
out:
    for (int i = 0; with.values && i < nodes; i++)
        free(with.values[i]);
    free(with.values);
    return status;
}
