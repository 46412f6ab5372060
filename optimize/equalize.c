/* Cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and bias correction",
 * ICCV 2019), for weights with a scale per output channel.
 *
 * What a channel's layers give can be divided by any s > 0 when all that read it multiply by s: ReLU without an
 * end, leaky ReLU, pooling, add and depthwise convolutions let the factor through. So each channel of a group that
 * shares its channels (channels.h) gets r[c]  its largest |value| on calibration images, over that of all channels of
 * the tensor, t[c]  the largest |weight| that reads it, over the largest of that output channel, of all output
 * channels, s[c] = sqrt(r[c] / t[c]), after which both are sqrt(r t): a channel has the same share of its tensor's INT8
 * range as of its readers' ranges. The paper has the range of the weights that make the channel in place of r, for it
 * knows one scale a tensor and no images. Here those weights have a scale of their own, and dividing them changes none
 * of their integers.
 *
 * Multiplying changes the largest weight of output channels, and so t: some rounds are made. A channel that is almost
 * silent on the calibration images, and may speak up on others, still gets no larger share than sqrt(r). */
#include "cnn/optimize.h"
#include "cnn/session.h"
#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "optimize/calibrate.h"
#include "optimize/channels.h"

#include <math.h>
#include <stdlib.h>

enum { IMAGES = 512, ROUNDS = 10 };

typedef struct equalizer {
    cnn_model *model; /* a copy */
    cnn_channel_map map;
    float **largest; /* [node][channels] of |value|, where INT8 requantizes to it; else NULL */
    float *r, *t;    /* [channels] of the group at hand */
    float *factor;   /* [channels] s, all rounds together */
} equalizer;

/* ---- Ranges of values ---- */

/* Whether INT8 requantizes to the values of a node: of a layer with weights, a sum, or the ReLU behind either, and of
 * averages. */
static bool is_requantized(const cnn_model *model, int index)
{
    const cnn_node *node = &model->nodes[index];
    const int maker = node->type->id == CNN_LAYER_RELU ? node->input[0] : index;
    switch (model->nodes[maker].type->id) {
    case CNN_LAYER_CONV:
    case CNN_LAYER_LINEAR:
    case CNN_LAYER_ADD:
    case CNN_LAYER_AVGPOOL:
    case CNN_LAYER_GLOBALAVGPOOL:
    case CNN_LAYER_LEAKY_RELU:
    case CNN_LAYER_CONCAT:
        return cnn_calibration_target(model, maker) == index;
    default:
        return false;
    }
}

static cnn_status observe(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    const equalizer *e = context;
    float *largest = e->largest[node];
    for (int64_t pixel = 0; largest && pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            largest[c] = fmaxf(largest[c], fabsf(values[pixel * desc->c + c]));
    return CNN_OK;
}

static cnn_status find_ranges(equalizer *e, const cnn_dataset *data, uint64_t seed, const char *device)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    int32_t *index = NULL, count;
    CNN_TRY(cnn_calibration_pick(e->model, data, 0, IMAGES, seed, &index, &count));
    CNN_TRY(cnn_session_open(e->model, &(cnn_session_options){.device = device}, &session));
    CNN_TRY(cnn_session_observe(session, data, index, count, observe, e));
out:
    cnn_session_close(session);
    free(index);
    return status;
}

/* Takes the ranges of a tensor, as the factors leave them, into r. */
static void add_values(equalizer *e, const float *largest, int32_t channels)
{
    float most = 0;
    for (int32_t c = 0; c < channels; c++)
        most = fmaxf(most, largest[c] / e->factor[c]);
    for (int32_t c = 0; most > 0 && c < channels; c++)
        e->r[c] = fmaxf(e->r[c], largest[c] / e->factor[c] / most);
}

/* Takes the weights of a layer that reads the channels into t. */
static void add_readers(equalizer *e, const cnn_param *weight)
{
    const int32_t channels = weight->desc.c;
    const int64_t taps = (int64_t)weight->desc.h * weight->desc.w;
    for (int32_t k = 0; k < weight->desc.n; k++) {
        const float *w = (const float *)weight->data + (int64_t)k * taps * channels; /* [R,S,C] */
        float most = 0;
        for (int64_t tap = 0; tap < taps; tap++)
            for (int32_t c = 0; c < channels; c++)
                most = fmaxf(most, fabsf(w[tap * channels + c]) * e->factor[c]);
        for (int64_t tap = 0; most > 0 && tap < taps; tap++)
            for (int32_t c = 0; c < channels; c++)
                e->t[c] = fmaxf(e->t[c], fabsf(w[tap * channels + c]) * e->factor[c] / most);
    }
}

/* ---- One group ---- */

static bool reads(const equalizer *e, int index, int group)
{
    const cnn_node *node = &e->model->nodes[index];
    return cnn_node_has_weights(node) && !cnn_node_is_depthwise(node) && e->map.group[node->input[0]] == group;
}

static void find_factors(equalizer *e, int group)
{
    const int32_t channels = e->map.groups[group].channels;
    for (int32_t c = 0; c < channels; c++)
        e->factor[c] = 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (int32_t c = 0; c < channels; c++)
            e->r[c] = e->t[c] = 0;
        for (int i = 0; i < e->model->node_count; i++) {
            if (e->map.group[i] == group && e->largest[i])
                add_values(e, e->largest[i], channels);
            if (reads(e, i, group))
                add_readers(e, &e->model->nodes[i].param[CNN_PARAM_WEIGHT]);
        }
        for (int32_t c = 0; c < channels; c++)
            if (e->r[c] > 0 && e->t[c] > 0)
                e->factor[c] *= sqrtf(e->r[c] / e->t[c]);
    }
}

static void divide_outputs(cnn_node *node, const float *factor)
{
    cnn_param *weight = &node->param[CNN_PARAM_WEIGHT], *bias = &node->param[CNN_PARAM_BIAS];
    const bool scaled = cnn_node_is_depthwise(node); /* what it reads is divided already */
    const int64_t count = scaled ? 0 : cnn_desc_elements(&weight->desc) / weight->desc.n;
    for (int32_t k = 0; k < weight->desc.n; k++) {
        float *w = (float *)weight->data + (int64_t)k * count;
        for (int64_t i = 0; i < count; i++)
            w[i] /= factor[k];
        if (bias->desc.dtype != CNN_NONE)
            ((float *)bias->data)[k] /= factor[k];
    }
}

static void multiply_inputs(cnn_node *node, const float *factor)
{
    cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    float *w = weight->data;
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        w[i] *= factor[i % weight->desc.c];
}

/* Whether a factor goes through all of a group's layers: not through a ReLU with an end, nor into a concat. */
static bool lets_through(const equalizer *e, int group)
{
    for (int i = 0; i < e->model->node_count; i++)
        if (e->map.group[i] == group && cnn_node_relu_max(&e->model->nodes[i]) > 0)
            return false;
    return !cnn_channel_is_piece(e->model, &e->map, group);
}

static void equalize_group(equalizer *e, int group)
{
    find_factors(e, group);
    for (int i = 0; i < e->model->node_count; i++) {
        cnn_node *node = &e->model->nodes[i];
        if (cnn_node_has_weights(node) && e->map.group[i] == group)
            divide_outputs(node, e->factor);
        if (reads(e, i, group))
            multiply_inputs(node, e->factor);
    }
}

/* ---- The pass ---- */

static cnn_status check(const cnn_model *model)
{
    cnn_status status = CNN_OK;
    if (cnn_model_is_quantized(model))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "model '%s' is already INT8; equalize the float model that it was made from",
                 model->name);
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        if (node->type->id == CNN_LAYER_BN)
            CNN_FAIL(CNN_ERR_UNSUPPORTED, "layer '%s' is a batch norm; fold it into the layer before it first",
                     node->name);
        if (node->param[CNN_PARAM_WEIGHT].grid || node->param[CNN_PARAM_STEP].data)
            CNN_FAIL(CNN_ERR_UNSUPPORTED,
                     "layer '%s': its weights lie on a grid, which equalization would take them off", node->name);
    }
out:
    return status;
}

static cnn_status make_room(equalizer *e)
{
    const cnn_model *model = e->model;
    int32_t most = 0;
    e->largest = cnn_calloc((size_t)model->node_count, sizeof *e->largest);
    if (!e->largest)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++) {
        const int32_t channels = model->nodes[i].out.c;
        most = channels > most ? channels : most;
        if (is_requantized(model, i) && !(e->largest[i] = cnn_calloc((size_t)channels, sizeof **e->largest)))
            return CNN_ERR_MEMORY;
    }
    e->r = cnn_calloc((size_t)most, sizeof *e->r);
    e->t = cnn_calloc((size_t)most, sizeof *e->t);
    e->factor = cnn_calloc((size_t)most, sizeof *e->factor);
    return e->r && e->t && e->factor ? CNN_OK : CNN_ERR_MEMORY;
}

static void free_room(equalizer *e)
{
    for (int i = 0; e->largest && i < e->model->node_count; i++)
        free(e->largest[i]);
    free(e->largest);
    free(e->r);
    free(e->t);
    free(e->factor);
}

cnn_status cnn_equalize(cnn_model *model, const cnn_dataset *data, uint64_t seed, const char *device, int *groups)
{
    cnn_status status = CNN_OK;
    equalizer e = {0};
    int done = 0;
    CNN_TRY(check(model));
    CNN_TRY(cnn_model_clone(model, &e.model));
    CNN_TRY(cnn_channel_map_make(e.model, &e.map));
    CNN_TRY(make_room(&e));
    CNN_TRY(find_ranges(&e, data, seed, device));
    for (int g = 0; g < e.map.group_count; g++)
        if (!e.map.groups[g].fixed && e.map.groups[g].layers > 0 && lets_through(&e, g)) {
            equalize_group(&e, g);
            done++;
        }
    cnn_model_swap(model, e.model);
    if (groups)
        *groups = done;
out:
    if (e.model)
        free_room(&e);
    cnn_channel_map_free(&e.map);
    cnn_model_free(e.model);
    return status;
}
