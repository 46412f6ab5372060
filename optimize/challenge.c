/* Observer auto, its last word: what the search chose against every single observer, on the validation images.
 *
 * The search looks at errors of the logits; what a user looks at is the accuracy. So each observer alone quantizes the
 * model as well, biases corrected as they will be, and answers the validation images. When one is right on more of them
 * than the choice by over MARGIN, it takes the choice's place; less than that is chance. Auto is then never further
 * below a single observer than the margin, on the images that cnn-opt decides by. */
#include "optimize/quantize.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

static const double margin = 0.0005; /* of the validation images */

/* Images that the INT8 model is right on with the observers as they are now. */
static cnn_status count_right(cnn_quantize_job *job, int64_t *right)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    const cnn_image_list *images = &job->validation;
    CNN_TRY(cnn_quantize_build(job, CNN_ROUNDING_NEAREST)); /* whatever the options say, which takes long */
    CNN_TRY(cnn_session_open(job->int8, &(cnn_session_options){.device = job->options->device}, &session));
    CNN_TRY(cnn_session_evaluate(session, images->data, images->index, images->count, right, NULL));
    CNN_TRY(cnn_quantize_advance(job, images->count));
out:
    cnn_session_close(session);
    return status;
}

static void use_everywhere(cnn_quantize_job *job, cnn_observer observer)
{
    for (int i = 0; i < job->model->node_count; i++)
        job->calibration.observer[i] = observer;
}

cnn_status cnn_quantize_challenge(cnn_quantize_job *job)
{
    cnn_status status = CNN_OK;
    const size_t bytes = (size_t)job->model->node_count * sizeof *job->calibration.observer;
    cnn_observer *chosen = NULL;
    int64_t most, right;
    int best = CNN_OBSERVER_AUTO;
    if (job->validation.count == 0)
        return CNN_OK;
    chosen = cnn_calloc(bytes, 1);
    if (!chosen)
        return CNN_ERR_MEMORY;
    memcpy(chosen, job->calibration.observer, bytes);
    CNN_TRY(count_right(job, &most));
    most += (int64_t)(margin * job->validation.count);
    for (int o = 0; o < CNN_OBSERVER_AUTO; o++) {
        use_everywhere(job, (cnn_observer)o);
        CNN_TRY(count_right(job, &right));
        if (right > most) {
            most = right;
            best = o;
        }
    }
    memcpy(job->calibration.observer, chosen, bytes);
    if (best != CNN_OBSERVER_AUTO)
        use_everywhere(job, (cnn_observer)best);
out:
    free(chosen);
    return status;
}
