/* Images that the model of now gets wrong. */
#include "train/adversarial.h"

#include "core/ball.h"
#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The size of a step where none is given: one step overshoots a little, several reach two and a half times as far as
 * the ball is wide. */
static float standard_step(float eps, int steps)
{
    const float one = 1.25f, all = 2.5f;
    return eps * fminf(one, all / (float)steps);
}

cnn_status cnn_adversary_begin(cnn_adversary *adversary, cnn_session *session, const cnn_dataset *data,
                               const cnn_train_options *options, int batch)
{
    cnn_status status = CNN_OK;
    const size_t bytes = cnn_session_image_bytes(session), images = (size_t)data->count;
    const size_t values = (size_t)batch * bytes;
    *adversary = (cnn_adversary){.data = data,
                                 .changed = *data,
                                 .session = session,
                                 .seed = options->seed,
                                 .eps = (float)options->adversarial,
                                 .steps = options->adversarial_steps};
    adversary->step = options->adversarial_step > 0 ? (float)options->adversarial_step
                                                    : standard_step(adversary->eps, adversary->steps);
    adversary->changed.images = cnn_calloc(images, bytes);
    adversary->origin = cnn_calloc(values, sizeof(float));
    adversary->at = cnn_calloc(values, sizeof(float));
    adversary->gradient = cnn_calloc(values, sizeof(float));
    adversary->logits = cnn_calloc((size_t)batch * (size_t)cnn_session_classes(session), sizeof(float));
    adversary->labels = cnn_calloc((size_t)batch, 1);
    if (!adversary->changed.images || !adversary->origin || !adversary->at || !adversary->gradient ||
        !adversary->logits || !adversary->labels)
        status = CNN_ERR_MEMORY;
    else
        memcpy(adversary->changed.images, data->images, images * bytes);
    return status;
}

void cnn_adversary_free(cnn_adversary *adversary)
{
    free(adversary->changed.images);
    free(adversary->origin);
    free(adversary->at);
    free(adversary->gradient);
    free(adversary->logits);
    free(adversary->labels);
    *adversary = (cnn_adversary){0};
}

static void start(cnn_adversary *a, int32_t epoch, const int32_t *index, int count, size_t bytes)
{
    for (int n = 0; n < count; n++) {
        const uint64_t seed = cnn_hash(a->seed, CNN_PURPOSE_ADVERSARIAL, (uint64_t)epoch, (uint64_t)index[n]);
        a->labels[n] = a->data->labels[index[n]];
        cnn_ball_begin(a->data->images + (size_t)index[n] * bytes, bytes, a->eps, true, seed,
                       a->origin + (size_t)n * bytes, a->at + (size_t)n * bytes);
    }
}

cnn_status cnn_adversary_change(cnn_adversary *a, int32_t epoch, const int32_t *index, int count)
{
    cnn_status status = CNN_OK;
    const size_t bytes = cnn_session_image_bytes(a->session);
    start(a, epoch, index, count, bytes);
    for (int step = 0; step < a->steps; step++) {
        CNN_TRY(cnn_session_pixel_gradient(a->session, a->at, a->labels, count, a->logits, a->gradient));
        cnn_ball_move(a->gradient, a->origin, (size_t)count * bytes, a->eps, a->step, a->at);
    }
    for (int n = 0; n < count; n++) {
        uint8_t *image = a->changed.images + (size_t)index[n] * bytes;
        for (size_t i = 0; i < bytes; i++)
            image[i] = (uint8_t)lrintf(255.0f * a->at[(size_t)n * bytes + i]);
    }
    CNN_TRY(cnn_session_refresh(a->session, index, count));
out:
    return status;
}
