/* Calibration: which values get a scale of their own, and from what range.
 *
 * As INT8 programs requantize (core/layers.c): the input has the range of its normalized bytes. A convolution or
 * linear layer that only a ReLU reads is requantized straight to the ReLU's range. Max-pooling, and a ReLU behind
 * anything else, work on int8 and keep their input's scale. The output stays f32 and has none. */
#include "optimize/calibrate.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/quantized.h"
#include "optimize/observe.h"

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

cnn_status cnn_calibration_pick(const cnn_model *model, const cnn_dataset *data, int images, uint64_t seed,
                                int32_t **index, int32_t *count)
{
    cnn_status status = CNN_OK;
    cnn_split split = {0};
    ticket *tickets = NULL;
    CNN_TRY(cnn_dataset_split(data, model->split_seed, &split));
    int32_t picked = images < split.train_count ? images : split.train_count;
    tickets = cnn_calloc((size_t)split.train_count, sizeof *tickets);
    int32_t *list = cnn_calloc((size_t)picked, sizeof *list);
    if (!tickets || !list) {
        free(list);
        status = CNN_ERR_MEMORY;
        goto out;
    }
    for (int32_t i = 0; i < split.train_count; i++)
        tickets[i] = (ticket){cnn_hash(seed, CNN_PURPOSE_CALIBRATION, (uint64_t)split.train[i], 0), split.train[i]};
    qsort(tickets, (size_t)split.train_count, sizeof *tickets, compare_tickets);
    for (int32_t i = 0; i < picked; i++)
        list[i] = tickets[i].image;
    qsort(list, (size_t)picked, sizeof *list, compare_images);
    *index = list;
    *count = picked;
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
        return cnn_int8_relu(model, node->input[0]) == index ? SOURCE_OBSERVED : SOURCE_INPUT;
    return cnn_int8_relu(model, index) >= 0 ? SOURCE_READER : SOURCE_OBSERVED;
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

/* ---- Observing ---- */

typedef struct observation {
    const cnn_model *model;
    cnn_range **range; /* [node_count], NULL where nothing is observed */
} observation;

static cnn_status observe_node(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    const observation *seen = context;
    cnn_range *range = seen->range[node];
    if (!range)
        return CNN_OK;
    if (desc->c == desc->c_pad) {
        cnn_range_add(range, values, cnn_desc_elements(desc));
    } else {
        for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
            cnn_range_add(range, values + pixel * desc->c_pad, desc->c);
    }
    if (range->not_finite > 0)
        return cnn_error(CNN_ERR_NUMERIC,
                         "layer '%s' gives infinities or NaN on calibration images; train the model again with a "
                         "smaller learning rate",
                         seen->model->nodes[node].name);
    return CNN_OK;
}

static cnn_status observe_all(cnn_model *model, const cnn_dataset *data, const cnn_quantize_options *options,
                              observation *seen)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    int32_t *index = NULL, count = 0;
    for (int i = 0; i < model->node_count; i++) {
        if (source_of(model, i) != SOURCE_OBSERVED)
            continue;
        seen->range[i] = cnn_calloc(1, sizeof *seen->range[i]);
        if (!seen->range[i]) {
            status = CNN_ERR_MEMORY;
            goto out;
        }
    }
    CNN_TRY(cnn_calibration_pick(model, data, options->images, options->seed, &index, &count));
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = options->device}, &session));
    CNN_TRY(cnn_session_observe(session, data, index, count, observe_node, seen));
out:
    cnn_session_close(session);
    free(index);
    return status;
}

/* ---- Scales ---- */

static cnn_status scale_of_observed(const cnn_node *node, const cnn_range *range, const cnn_quantize_options *options,
                                    float *scale, double *clipped)
{
    cnn_status status = CNN_OK;
    float limit;
    CNN_TRY(cnn_observer_range(range, options, &limit));
    if (range->max == 0)
        CNN_FAIL(CNN_ERR_NUMERIC,
                 "layer '%s' gave nothing but zeros on the calibration images, so INT8 has no range for it: the "
                 "images may all be blank (check the data), or the layer is dead (train the model again)",
                 node->name);
    *scale = limit / 127.0f;
    if (!isnormal(*scale))
        CNN_FAIL(CNN_ERR_NUMERIC, "layer '%s' spans a range of %g on the calibration images, which INT8 cannot hold",
                 node->name, (double)limit);
    *clipped = cnn_range_clipped(range, limit);
out:
    return status;
}

static cnn_status set_scales(const cnn_model *model, const observation *seen, const cnn_quantize_options *options,
                             cnn_calibration *calibration)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < model->node_count; i++) {
        float *scale = &calibration->scale[i];
        switch (source_of(model, i)) {
        case SOURCE_NONE:
        case SOURCE_READER:
            break;
        case SOURCE_TABLE:
            CNN_TRY(scale_of_input(model, scale));
            break;
        case SOURCE_INPUT:
            *scale = calibration->scale[model->nodes[i].input[0]];
            break;
        case SOURCE_OBSERVED:
            CNN_TRY(scale_of_observed(&model->nodes[i], seen->range[i], options, scale, &calibration->clipped[i]));
            break;
        }
    }
    /* A layer that its ReLU requantizes shows the ReLU's figures. */
    for (int i = 0; i < model->node_count; i++) {
        if (source_of(model, i) != SOURCE_READER)
            continue;
        int relu = cnn_int8_relu(model, i);
        calibration->scale[i] = calibration->scale[relu];
        calibration->clipped[i] = calibration->clipped[relu];
    }
out:
    return status;
}

cnn_status cnn_calibrate(cnn_model *model, const cnn_dataset *data, const cnn_quantize_options *options,
                         cnn_calibration *calibration)
{
    cnn_status status = CNN_OK;
    size_t nodes = (size_t)model->node_count;
    cnn_calibration made = {cnn_calloc(nodes, sizeof *made.scale), cnn_calloc(nodes, sizeof *made.clipped)};
    observation seen = {model, cnn_calloc(nodes, sizeof *seen.range)};
    if (!made.scale || !made.clipped || !seen.range) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(observe_all(model, data, options, &seen));
    CNN_TRY(set_scales(model, &seen, options, &made));
    *calibration = made;
    memset(&made, 0, sizeof made);
out:
    for (size_t i = 0; seen.range && i < nodes; i++)
        free(seen.range[i]);
    free(seen.range);
    cnn_calibration_free(&made);
    return status;
}

void cnn_calibration_free(cnn_calibration *calibration)
{
    free(calibration->scale);
    free(calibration->clipped);
    memset(calibration, 0, sizeof *calibration);
}
