/* Logits of many images of a data set, and what they say. */
#include "optimize/answers.h"

#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_IMAGES = 256 }; /* that are copied side by side; whole batches */

cnn_status cnn_answers_logits(cnn_session *session, const cnn_image_list *images, int32_t classes,
                              cnn_measure_fn progress, void *context, float *logits)
{
    cnn_status status = CNN_OK;
    const cnn_dataset *data = images->data;
    const size_t bytes = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
    uint8_t *chunk = cnn_calloc(CHUNK_IMAGES, bytes);
    if (!chunk)
        return CNN_ERR_MEMORY;
    for (int32_t done = 0; done < images->count;) {
        int32_t count = images->count - done < CHUNK_IMAGES ? images->count - done : CHUNK_IMAGES;
        for (int32_t i = 0; i < count; i++)
            memcpy(chunk + (size_t)i * bytes, data->images + (size_t)images->index[done + i] * bytes, bytes);
        CNN_TRY(cnn_session_infer(session, chunk, count, logits + (int64_t)done * classes));
        done += count;
        if (progress)
            progress(context, done);
    }
out:
    free(chunk);
    return status;
}

int cnn_answers_best(const float *logits, int32_t classes)
{
    int best = 0;
    for (int32_t k = 1; k < classes; k++)
        if (logits[k] > logits[best])
            best = k;
    return best;
}

double cnn_answers_probability(const float *logits, int32_t classes, int label)
{
    const double largest = (double)logits[cnn_answers_best(logits, classes)];
    double sum = 0;
    for (int32_t k = 0; k < classes; k++)
        sum += exp((double)logits[k] - largest);
    return exp((double)logits[label] - largest) / sum;
}
