/* Batch norms for layers that have none.
 *
 * A narrow network that was cut out of a wide one trains far better with them, and folding takes them away again; each
 * channel of weights on a grid has a step of its own through them. Networks without convolutions get none: they have
 * hundreds of units of few inputs, and a step for each takes more bytes than it is worth.
 *
 * The new ones change nothing at first: mean and variance are those of the layer's outputs on training images, gamma is
 * the deviation and beta the mean. */
#include "cnn/optimize.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "optimize/calibrate.h"
#include "optimize/channels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 512 };

/* Sums over the outputs of the layers that get a batch norm. */
typedef struct moments {
    double **sum, **squares; /* [node_count][channels]; NULL: gets none */
    int64_t *count;          /* [node_count] values of a channel */
    int node_count;
} moments;

static bool has_convolution(const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].type->id == CNN_LAYER_CONV)
            return true;
    return false;
}

/* A convolution or, if `linear`, a linear layer, that is not the last layer and whose value no batch norm reads. */
static bool needs_one(const cnn_model *model, bool linear, int index)
{
    const cnn_node *node = &model->nodes[index];
    if (!cnn_node_has_weights(node) || index == model->node_count - 1 ||
        (!linear && node->type->id == CNN_LAYER_LINEAR))
        return false;
    for (int i = index + 1; i < model->node_count; i++)
        for (int k = 0; k < model->nodes[i].input_count; k++)
            if (model->nodes[i].input[k] == index && model->nodes[i].type->id == CNN_LAYER_BN)
                return false;
    return true;
}

static void free_moments(moments *m)
{
    for (int i = 0; i < m->node_count; i++) {
        if (m->sum)
            free(m->sum[i]);
        if (m->squares)
            free(m->squares[i]);
    }
    free(m->sum);
    free(m->squares);
    free(m->count);
}

static cnn_status make_moments(const cnn_model *model, bool linear, moments *m, int *needed)
{
    const size_t nodes = (size_t)model->node_count;
    m->sum = cnn_calloc(nodes, sizeof *m->sum);
    m->squares = cnn_calloc(nodes, sizeof *m->squares);
    m->count = cnn_calloc(nodes, sizeof *m->count);
    if (!m->sum || !m->squares || !m->count)
        return CNN_ERR_MEMORY;
    m->node_count = model->node_count;
    *needed = 0;
    for (int i = 0; has_convolution(model) && i < model->node_count; i++) {
        if (!needs_one(model, linear, i))
            continue;
        ++*needed;
        m->sum[i] = cnn_calloc((size_t)model->nodes[i].out.c, sizeof **m->sum);
        m->squares[i] = cnn_calloc((size_t)model->nodes[i].out.c, sizeof **m->squares);
        if (!m->sum[i] || !m->squares[i])
            return CNN_ERR_MEMORY;
    }
    return CNN_OK;
}

static cnn_status observe(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    moments *m = context;
    if (!m->sum[node])
        return CNN_OK;
    const int64_t pixels = cnn_desc_pixels(desc);
    for (int64_t p = 0; p < pixels; p++, values += desc->c)
        for (int32_t c = 0; c < desc->c; c++) {
            m->sum[node][c] += (double)values[c];
            m->squares[node][c] += (double)values[c] * (double)values[c];
        }
    m->count[node] += pixels;
    return CNN_OK;
}

static cnn_status measure(cnn_model *model, const cnn_dataset *data, uint64_t seed, const char *device, moments *m)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    int32_t *index = NULL, count = 0;
    CNN_TRY(cnn_calibration_pick(model, data, 0, IMAGES, seed, &index, &count));
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = device}, &session));
    CNN_TRY(cnn_session_observe(session, data, index, count, observe, m));
out:
    cnn_session_close(session);
    free(index);
    return status;
}

/* ---- The new graph ---- */

/* A name that no node has: "bn1", "bn2", ... */
static void name_it(const cnn_model *old, const cnn_model *model, char name[CNN_NAME_BYTES])
{
    for (int number = 1;; number++) {
        snprintf(name, CNN_NAME_BYTES, "bn%d", number);
        if (cnn_model_find(old, name) < 0 && cnn_model_find(model, name) < 0)
            return;
    }
}

static void set_parameters(cnn_node *bn, const moments *m, int from)
{
    const double eps = cnn_node_attr(bn, "eps");
    for (int32_t c = 0; c < bn->out.c; c++) {
        const double count = m->count[from] > 0 ? (double)m->count[from] : 1, mean = m->sum[from][c] / count;
        const double square = m->squares[from][c] / count - mean * mean, variance = square > 0 ? square : 0;
        ((float *)bn->param[CNN_PARAM_GAMMA].data)[c] = (float)sqrt(variance + eps);
        ((float *)bn->param[CNN_PARAM_BETA].data)[c] = (float)mean;
        ((float *)bn->param[CNN_PARAM_RUNNING_MEAN].data)[c] = (float)mean;
        ((float *)bn->param[CNN_PARAM_RUNNING_VAR].data)[c] = (float)variance;
    }
}

/* Copies the graph with the new nodes; place[i]: who gives what node i gave. */
static cnn_status build(const cnn_model *old, const moments *m, cnn_model *model, int *place)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < old->node_count; i++) {
        const cnn_node *node = &old->nodes[i];
        int input[CNN_MAX_INPUTS], number;
        for (int k = 0; k < node->input_count; k++)
            input[k] = place[node->input[k]];
        number = cnn_model_add(model, node->type, node->name, input, node->input_count, node->attr);
        if (number < 0)
            return (cnn_status)-number;
        place[i] = number;
        if (m->sum[i]) {
            char name[CNN_NAME_BYTES];
            name_it(old, model, name);
            number = cnn_model_add(model, cnn_layer_by_id(CNN_LAYER_BN), name, &place[i], 1, NULL);
            if (number < 0)
                return (cnn_status)-number;
            place[i] = number;
        }
    }
    CNN_TRY(cnn_model_finish(model, old->name));
out:
    return status;
}

/* Moves parameters and levels of `from` to their nodes in `model`, and fills the new ones. */
static void fill(cnn_model *from, cnn_model *model, const moments *m, const int *place)
{
    for (int i = 0; i < from->node_count; i++) {
        cnn_node *node = &model->nodes[cnn_model_find(model, from->nodes[i].name)];
        node->levels = from->nodes[i].levels;
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param keep = node->param[role];
            node->param[role] = from->nodes[i].param[role];
            from->nodes[i].param[role] = keep;
        }
        if (m->sum[i])
            set_parameters(&model->nodes[place[i]], m, i);
    }
}

cnn_status cnn_add_batchnorm(cnn_model *model, bool linear, const cnn_dataset *data, uint64_t seed, const char *device,
                             int *added)
{
    cnn_status status = CNN_OK;
    moments m = {0};
    cnn_model *made = NULL;
    int *place = NULL, needed = 0;
    CNN_TRY(make_moments(model, linear, &m, &needed));
    if (added)
        *added = needed;
    if (needed == 0)
        goto out;
    CNN_TRY(measure(model, data, seed, device, &m));
    made = cnn_model_new();
    place = cnn_calloc((size_t)model->node_count, sizeof *place);
    if (!made || !place)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(build(model, &m, made, place));
    fill(model, made, &m, place);
    cnn_node *nodes = model->nodes;
    const int count = model->node_count, capacity = model->node_capacity;
    model->nodes = made->nodes;
    model->node_count = made->node_count;
    model->node_capacity = made->node_capacity;
    made->nodes = nodes;
    made->node_count = count;
    made->node_capacity = capacity;
out:
    cnn_model_free(made);
    free(place);
    free_moments(&m);
    return status;
}
