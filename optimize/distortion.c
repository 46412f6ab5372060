/* What INT8 makes of each layer: the float model and the INT8 program side by side on the calibration images, a few
 * at a time, so that memory does not grow with their number. */
#include "optimize/quantize.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 16 };

typedef struct comparison {
    float **exact; /* [node_count][BATCH images] the float model's values; NULL where nothing is compared */
    cnn_distortion *distortion;
} comparison;

static cnn_status keep(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    comparison *c = context;
    if (c->exact[node])
        memcpy(c->exact[node], values, cnn_desc_bytes(desc));
    return CNN_OK;
}

static cnn_status compare(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    comparison *c = context;
    const float *exact = c->exact[node];
    cnn_distortion *sums = &c->distortion[node];
    for (int64_t i = 0; exact && i < cnn_desc_elements(desc); i++) {
        double x = (double)exact[i], y = (double)values[i];
        sums->signal += x * x;
        sums->other += y * y;
        sums->both += x * y;
        sums->noise += (x - y) * (x - y);
    }
    return CNN_OK;
}

static cnn_status make_room(const cnn_model *model, comparison *c)
{
    c->exact = cnn_calloc((size_t)model->node_count, sizeof *c->exact);
    if (!c->exact)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++) {
        if (!cnn_node_has_weights(&model->nodes[i]))
            continue;
        int node = cnn_calibration_target(model, i);
        c->exact[node] = cnn_calloc((size_t)(BATCH * cnn_desc_elements(&model->nodes[node].out)), sizeof(float));
        if (!c->exact[node])
            return CNN_ERR_MEMORY;
    }
    return CNN_OK;
}

cnn_status cnn_quantize_measure(cnn_quantize_job *job, cnn_distortion *distortion)
{
    cnn_status status = CNN_OK;
    const cnn_image_list *images = &job->images;
    const cnn_session_options options = {.device = job->options->device, .batch = BATCH};
    cnn_session *exact = NULL, *int8 = NULL;
    comparison c = {.distortion = distortion};
    CNN_TRY(make_room(job->model, &c));
    CNN_TRY(cnn_session_open(job->model, &options, &exact));
    CNN_TRY(cnn_session_open(job->int8, &options, &int8));
    for (int32_t begin = 0; begin < images->count; begin += BATCH) {
        int32_t count = images->count - begin < BATCH ? images->count - begin : BATCH;
        CNN_TRY(cnn_session_observe(exact, images->data, images->index + begin, count, keep, &c));
        CNN_TRY(cnn_session_observe(int8, images->data, images->index + begin, count, compare, &c));
        CNN_TRY(cnn_quantize_advance(job, 2 * count));
    }
out:
    cnn_session_close(exact);
    cnn_session_close(int8);
    for (int i = 0; c.exact && i < job->model->node_count; i++)
        free(c.exact[i]);
    free(c.exact);
    return status;
}
