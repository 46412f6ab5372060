/* Calibration: which values get a scale of their own, and from what range.
 *
 * As INT8 programs requantize (core/layers.c): the input has the range of its normalized bytes. A convolution, linear
 * layer or sum that only a ReLU reads is requantized straight to the ReLU's range. Max-pooling, and a ReLU behind
 * anything else, work on int8 and keep their input's scale. The output stays f32 and has none. */
#include "optimize/calibrate.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/quantized.h"
#include "core/round_scale.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Images ---- */

typedef struct ticket {
    uint64_t hash;
    int32_t image;
} ticket;

static int compare_tickets(const void *left, const void *right)
{
    const ticket *a = left, *b = right;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return (a->image > b->image) - (a->image < b->image);
}

static int compare_images(const void *left, const void *right)
{
    int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
    return (a > b) - (a < b);
}

cnn_status cnn_calibration_pick(const cnn_model *model, const cnn_dataset *data, int32_t first, int32_t count,
                                uint64_t seed, int32_t **index, int32_t *picked)
{
    cnn_status status = CNN_OK;
    cnn_split split = {0};
    ticket *tickets = NULL;
    CNN_TRY(cnn_dataset_split(data, model->split_seed, &split));
    int32_t left = split.train_count > first ? split.train_count - first : 0, taken = count < left ? count : left;
    tickets = cnn_calloc((size_t)split.train_count, sizeof *tickets);
    int32_t *list = cnn_calloc((size_t)taken, sizeof *list);
    if (!tickets || !list) {
        free(list);
        status = CNN_ERR_MEMORY;
        goto out;
    }
    for (int32_t i = 0; i < split.train_count; i++)
        tickets[i] = (ticket){cnn_hash(seed, CNN_PURPOSE_CALIBRATION, (uint64_t)split.train[i], 0), split.train[i]};
    qsort(tickets, (size_t)split.train_count, sizeof *tickets, compare_tickets);
    for (int32_t i = 0; i < taken; i++)
        list[i] = tickets[first + i].image;
    qsort(list, (size_t)taken, sizeof *list, compare_images);
    *index = list;
    *picked = taken;
out:
    free(tickets);
    cnn_split_free(&split);
    return status;
}

/* ---- Where a node's scale comes from ---- */

typedef enum source { SOURCE_NONE, SOURCE_TABLE, SOURCE_OBSERVED, SOURCE_INPUT, SOURCE_READER } source;

static source source_of(const cnn_model *model, int index)
{
    const cnn_node *node = &model->nodes[index];
    if (index == model->node_count - 1)
        return SOURCE_NONE;
    if (node->type->id == CNN_LAYER_INPUT)
        return SOURCE_TABLE;
    if (node->type->flags & CNN_LAYER_KEEPS_SCALE)
        return SOURCE_INPUT;
    if (node->type->id == CNN_LAYER_RELU)
        return cnn_int8_scale_reader(model, node->input[0]) == index ? SOURCE_OBSERVED : SOURCE_INPUT;
    return cnn_int8_scale_reader(model, index) >= 0 ? SOURCE_READER : SOURCE_OBSERVED;
}

static cnn_status scale_of_input(const cnn_model *model, float *scale)
{
    float max = 0;
    for (int c = 0; c < model->nodes[0].out.c; c++)
        for (int x = 0; x < 256; x++)
            max = fmaxf(max, fabsf(cnn_normalize_byte(&model->normalization, c, x)));
    *scale = max / 127.0f;
    if (!isnormal(*scale))
        return cnn_error(CNN_ERR_NUMERIC, "the normalization of the input spans a range of %g, which INT8 cannot hold",
                         (double)max);
    return CNN_OK;
}

int cnn_calibration_target(const cnn_model *model, int node)
{
    int relu = cnn_int8_scale_reader(model, node);
    return relu >= 0 ? relu : node;
}

/* ---- Observing ---- */

typedef struct observation {
    const cnn_model *model;
    cnn_calibration *calibration;
} observation;

static void add_sum(double *sum, const cnn_tensor_desc *desc, const float *values)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            sum[c] += (double)values[pixel * desc->c + c];
}

static cnn_status observe_node(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    const observation *seen = context;
    cnn_range *range = seen->calibration->range[node];
    if (seen->calibration->mean[node])
        add_sum(seen->calibration->mean[node], desc, values);
    if (!range)
        return CNN_OK;
    cnn_range_add(range, values, cnn_desc_elements(desc));
    if (range->not_finite > 0)
        return cnn_error(CNN_ERR_NUMERIC,
                         "layer '%s' gives infinities or NaN on calibration images; train the model again with a "
                         "smaller learning rate",
                         seen->model->nodes[node].name);
    return CNN_OK;
}

static cnn_status make_room(const cnn_model *model, cnn_calibration *calibration)
{
    size_t nodes = (size_t)model->node_count;
    calibration->node_count = model->node_count;
    calibration->range = cnn_calloc(nodes, sizeof(*calibration->range));
    calibration->limit = cnn_calloc(nodes, sizeof(*calibration->limit));
    calibration->observer = cnn_calloc(nodes, sizeof(*calibration->observer));
    calibration->mean = cnn_calloc(nodes, sizeof(*calibration->mean));
    calibration->scale = cnn_calloc(nodes, sizeof(*calibration->scale));
    if (!calibration->range || !calibration->limit || !calibration->observer || !calibration->mean ||
        !calibration->scale)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        bool observed = source_of(model, i) == SOURCE_OBSERVED;
        bool weights = node->param[CNN_PARAM_WEIGHT].desc.dtype != CNN_NONE;
        if (observed)
            calibration->range[i] = cnn_calloc(1, sizeof(cnn_range));
        if (weights)
            calibration->mean[i] = cnn_calloc((size_t)node->out.c, sizeof(double));
        if ((observed && !calibration->range[i]) || (weights && !calibration->mean[i]))
            return CNN_ERR_MEMORY;
    }
    return CNN_OK;
}

static cnn_status run(cnn_model *model, const cnn_image_list *images, const char *device, cnn_calibration *calibration)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = device}, &session));
    CNN_TRY(cnn_session_observe(session, images->data, images->index, images->count, observe_node,
                                &(observation){model, calibration}));
out:
    cnn_session_close(session);
    return status;
}

cnn_status cnn_calibrate(cnn_model *model, const cnn_image_list *images, cnn_observer observer, double percentile,
                         const char *device, cnn_calibration *calibration)
{
    cnn_status status = CNN_OK;
    cnn_calibration made = {0};
    CNN_TRY(make_room(model, &made));
    CNN_TRY(run(model, images, device, &made));
    for (int i = 0; i < model->node_count; i++) {
        const cnn_tensor_desc *out = &model->nodes[i].out;
        for (int32_t c = 0; made.mean[i] && c < out->c; c++)
            made.mean[i][c] /= (double)images->count * out->h * out->w;
        for (int o = 0; made.range[i] && o < CNN_OBSERVER_AUTO; o++)
            if (observer == CNN_OBSERVER_AUTO || o == (int)observer)
                CNN_TRY(cnn_observer_range(made.range[i], (cnn_observer)o, percentile, &made.limit[i][o]));
    }
    *calibration = made;
    memset(&made, 0, sizeof made);
out:
    cnn_calibration_free(&made);
    return status;
}

void cnn_calibration_free(cnn_calibration *calibration)
{
    for (int i = 0; i < calibration->node_count; i++) {
        if (calibration->range)
            free(calibration->range[i]);
        if (calibration->mean)
            free(calibration->mean[i]);
    }
    free(calibration->range);
    free(calibration->limit);
    free(calibration->observer);
    free(calibration->mean);
    free(calibration->scale);
    memset(calibration, 0, sizeof *calibration);
}

/* ---- Scales ---- */

/* A value that was 0 on every image takes the scale of the nearest value before it: should other images wake it, it is
 * likely to be of that size. */
static float scale_before(const cnn_model *model, const cnn_calibration *calibration, int index)
{
    do
        index = model->nodes[index].input[0];
    while (calibration->scale[index] == 0);
    return calibration->scale[index];
}

static cnn_status scale_of_observed(const cnn_model *model, int index, cnn_calibration *calibration)
{
    float limit = calibration->limit[index][calibration->observer[index]];
    float scale = limit > 0 ? limit / 127.0f : scale_before(model, calibration, index);
    if (!isnormal(scale))
        return cnn_error(CNN_ERR_NUMERIC,
                         "layer '%s' spans a range of %g on the calibration images, which INT8 cannot hold",
                         model->nodes[index].name, (double)limit);
    calibration->scale[index] = scale;
    return CNN_OK;
}

cnn_status cnn_calibration_set_scales(const cnn_model *model, cnn_calibration *calibration)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < model->node_count; i++) {
        float *scale = &calibration->scale[i];
        switch (source_of(model, i)) {
        case SOURCE_NONE:
        case SOURCE_READER:
            *scale = 0;
            break;
        case SOURCE_TABLE:
            CNN_TRY(scale_of_input(model, scale));
            *scale = calibration->round ? cnn_round_scale_above(*scale) : *scale;
            break;
        case SOURCE_INPUT:
            *scale = calibration->scale[model->nodes[i].input[0]];
            break;
        case SOURCE_OBSERVED:
            CNN_TRY(scale_of_observed(model, i, calibration));
            *scale = calibration->round ? cnn_round_scale_above(*scale) : *scale;
            break;
        }
    }
    /* What its ReLU requantizes has the ReLU's scale. */
    for (int i = 0; i < model->node_count; i++)
        if (source_of(model, i) == SOURCE_READER)
            calibration->scale[i] = calibration->scale[cnn_int8_scale_reader(model, i)];
out:
    return status;
}
