/* Observer auto: tensor by tensor in topological order, the observer with the smallest squared error of the network's
 * logits against the float model's, on images that calibration did not see. Tensors before have the observer chosen for
 * them, tensors behind a first guess. Equal ranges are tried once; of equal errors the earlier observer wins. */
#include "optimize/quantize.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

/* Where the search begins: what every tensor has until its turn comes. */
static const cnn_observer first_guess = CNN_OBSERVER_MSE;

typedef struct search {
    cnn_quantize_job *job;
    uint8_t *images;     /* [count,H,W,C] */
    float *exact, *seen; /* logits [count,classes] */
    int64_t values;      /* of the logits */
} search;

static cnn_status run(search *s, cnn_model *model, float *logits)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = s->job->options->device}, &session));
    CNN_TRY(cnn_session_infer(session, s->images, s->job->search.count, logits));
    CNN_TRY(cnn_quantize_advance(s->job, s->job->search.count));
out:
    cnn_session_close(session);
    return status;
}

static cnn_status begin(search *s)
{
    const cnn_image_list *list = &s->job->search;
    const cnn_tensor_desc *in = &s->job->model->nodes[0].out;
    size_t bytes = (size_t)cnn_desc_elements(in);
    s->values = (int64_t)list->count * cnn_model_output(s->job->model).c;
    s->images = cnn_calloc((size_t)list->count, bytes);
    s->exact = cnn_calloc((size_t)s->values, sizeof *s->exact);
    s->seen = cnn_calloc((size_t)s->values, sizeof *s->seen);
    if (!s->images || !s->exact || !s->seen)
        return CNN_ERR_MEMORY;
    for (int32_t i = 0; i < list->count; i++)
        memcpy(s->images + (size_t)i * bytes, list->data->images + (size_t)list->index[i] * bytes, bytes);
    return run(s, s->job->model, s->exact);
}

/* Squared error of the logits with the observers as they are now. */
static cnn_status error_now(search *s, double *error)
{
    cnn_status status = CNN_OK;
    cnn_quantize_job *job = s->job;
    cnn_model *int8 = NULL;
    CNN_TRY(cnn_calibration_set_scales(job->model, &job->calibration));
    CNN_TRY(cnn_quantize_make(job->model, &job->calibration, job->options, &int8));
    CNN_TRY(run(s, int8, s->seen));
    *error = 0;
    for (int64_t i = 0; i < s->values; i++) {
        double difference = (double)s->seen[i] - (double)s->exact[i];
        *error += difference * difference;
    }
out:
    cnn_model_free(int8);
    return status;
}

/* An earlier observer with the same range, else `observer` itself. */
static cnn_observer first_alike(const float *limit, cnn_observer observer)
{
    for (int o = 0; o < (int)observer; o++)
        if (limit[o] == limit[observer])
            return (cnn_observer)o;
    return observer;
}

/* Chooses for one node. `error` is that of the first guess, which is in place, and becomes that of the choice. */
static cnn_status choose(search *s, int node, double *error)
{
    cnn_status status = CNN_OK;
    cnn_observer *observer = &s->job->calibration.observer[node];
    const float *limit = s->job->calibration.limit[node];
    const cnn_observer guess = first_alike(limit, *observer);
    cnn_observer best = guess;
    double least = *error;
    for (int o = 0; o < CNN_OBSERVER_AUTO; o++) {
        double now;
        if ((int)guess == o)
            continue;
        if (first_alike(limit, (cnn_observer)o) != (cnn_observer)o) {
            CNN_TRY(cnn_quantize_advance(s->job, s->job->search.count));
            continue;
        }
        *observer = (cnn_observer)o;
        CNN_TRY(error_now(s, &now));
        if (now < least || (now == least && (cnn_observer)o < best)) {
            least = now;
            best = (cnn_observer)o;
        }
    }
    *observer = best;
    *error = least;
out:
    return status;
}

cnn_status cnn_quantize_search(cnn_quantize_job *job)
{
    cnn_status status = CNN_OK;
    search s = {.job = job};
    double error;
    for (int i = 0; i < job->model->node_count; i++)
        job->calibration.observer[i] = first_guess;
    if (job->search.count == 0)
        return CNN_OK;
    CNN_TRY(begin(&s));
    CNN_TRY(error_now(&s, &error));
    for (int i = 0; i < job->model->node_count; i++)
        if (job->calibration.range[i])
            CNN_TRY(choose(&s, i, &error));
out:
    free(s.images);
    free(s.exact);
    free(s.seen);
    return status;
}
