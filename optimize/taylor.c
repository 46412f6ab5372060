/* First-order Taylor importance (Molchanov et al., "Importance estimation for neural network pruning", 2019).
 *
 * Scaling what a channel gives by a gate z changes the loss by (z - 1) dL/dz to first order; removing it is z = 0. The
 * score is (dL/dz)^2 at z = 1, averaged over batches of training images. The gate stands where the channel is whole:
 *
 *   behind a batch norm    dL/dz = gamma * dL/dgamma + beta * dL/dbeta
 *   else                   dL/dz = sum w * dL/dw + b * dL/db
 *
 * In front of a batch norm the second sum would be 0 for every channel, since the norm undoes any scaling. A block
 * of n weights scores (sum w * dL/dw)^2 / n, a single weight (w * dL/dw)^2. Gradients come from the backward pass of a
 * training session; nothing is updated.
 *
 * Pruned weights come back where the magnitude of the gradient itself is largest (Evci et al., "Rigging the lottery",
 * 2020), averaged over the same images. */
#include "optimize/score.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/session.h"
#include "optimize/calibrate.h"

#include <math.h>
#include <stdlib.h>

enum { TAYLOR_IMAGES = 1024, TAYLOR_BATCH = 64 };

typedef struct taylor taylor;

struct taylor {
    cnn_model *model;
    cnn_session *session;
    cnn_score_unit unit;
    double **score;
    cnn_status (*add)(taylor *t, int node); /* what the gradients of a batch say of a node's units */
    float *gradient[CNN_PARAM_COUNT];       /* [largest parameter] scratch for one parameter of each role */
};

static int64_t largest_param(const cnn_model *model)
{
    int64_t largest = 0;
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            int64_t count = cnn_desc_elements(&model->nodes[i].param[role].desc);
            largest = model->nodes[i].param[role].desc.dtype != CNN_NONE && count > largest ? count : largest;
        }
    return largest;
}

static cnn_status open(taylor *t, const cnn_prune_options *options)
{
    cnn_status status = CNN_OK;
    const cnn_session_options session = {.device = options->device, .batch = TAYLOR_BATCH, .train = true};
    const cnn_train_state state = {.loss_scale = 1, .first_overflow = -1, .last_overflow = -1};
    const float rate = 0;
    size_t largest = (size_t)largest_param(t->model);
    for (int role = 0; role <= CNN_PARAM_BETA; role++) {
        t->gradient[role] = cnn_calloc(largest, sizeof *t->gradient[role]);
        if (!t->gradient[role]) {
            status = CNN_ERR_MEMORY;
            goto out;
        }
    }
    CNN_TRY(cnn_session_open(t->model, &session, &t->session));
    CNN_TRY(cnn_session_set_data(t->session, options->data));
    CNN_TRY(cnn_session_set_schedule(t->session, &rate, 1));
    CNN_TRY(cnn_session_set_state(t->session, &state));
out:
    return status;
}

/* Brings the gradient of a parameter into t->gradient[role], if the node has that parameter. */
static cnn_status fetch(taylor *t, int node, cnn_param_role role)
{
    return t->model->nodes[node].param[role].desc.dtype == CNN_NONE
               ? CNN_OK
               : cnn_session_gradient(t->session, node, role, t->gradient[role]);
}

/* sum of value * gradient over elements [first, first + count) of a parameter; 0 where the node has none. */
static double dot(const taylor *t, int node, cnn_param_role role, int64_t first, int64_t count)
{
    const cnn_param *param = &t->model->nodes[node].param[role];
    double sum = 0;
    for (int64_t i = first; param->desc.dtype != CNN_NONE && i < first + count; i++)
        sum += (double)((const float *)param->data)[i] * (double)t->gradient[role][i];
    return sum;
}

static cnn_status add_channels(taylor *t, int node)
{
    cnn_status status = CNN_OK;
    int bn = cnn_batchnorm_behind(t->model, node), gate = bn < 0 ? node : bn;
    cnn_param_role factor = bn < 0 ? CNN_PARAM_WEIGHT : CNN_PARAM_GAMMA,
                   offset = bn < 0 ? CNN_PARAM_BIAS : CNN_PARAM_BETA;
    const cnn_tensor_desc *desc = &t->model->nodes[node].param[CNN_PARAM_WEIGHT].desc;
    int64_t row = bn < 0 ? cnn_desc_elements(desc) / desc->n : 1;
    CNN_TRY(fetch(t, gate, factor));
    CNN_TRY(fetch(t, gate, offset));
    for (int32_t k = 0; k < desc->n; k++) {
        double change = dot(t, gate, factor, k * row, row) + dot(t, gate, offset, k, 1);
        t->score[node][k] += change * change;
    }
out:
    return status;
}

static cnn_status add_blocks(taylor *t, int node)
{
    cnn_status status = CNN_OK;
    const cnn_block_grid grid = cnn_score_grid(&t->model->nodes[node], t->unit);
    const int64_t count = cnn_block_count(&grid);
    CNN_TRY(fetch(t, node, CNN_PARAM_WEIGHT));
    for (int64_t i = 0; i < count; i++) {
        const cnn_weight_block block = cnn_block_get(&grid, i);
        double change = 0;
        for (int32_t row = 0; row < block.rows; row++)
            change += dot(t, node, CNN_PARAM_WEIGHT, block.first + row * block.stride, block.columns);
        t->score[node][i] += change * change / (block.rows * block.columns);
    }
out:
    return status;
}

static cnn_status add_gradients(taylor *t, int node)
{
    cnn_status status = CNN_OK;
    const int64_t count = cnn_desc_elements(&t->model->nodes[node].param[CNN_PARAM_WEIGHT].desc);
    CNN_TRY(fetch(t, node, CNN_PARAM_WEIGHT));
    for (int64_t i = 0; i < count; i++)
        t->score[node][i] += (double)t->gradient[CNN_PARAM_WEIGHT][i];
out:
    return status;
}

/* Batch b of `batches` takes every `batches`-th image, so that data sorted by class is mixed. */
static cnn_status add_batch(taylor *t, const int32_t *index, int32_t count, int batch, int batches)
{
    cnn_status status = CNN_OK;
    int32_t images[TAYLOR_BATCH];
    int taken = 0;
    float result[2];
    for (int32_t i = batch; i < count; i += batches)
        images[taken++] = index[i];
    CNN_TRY(cnn_session_backward(t->session, images, taken, result));
    for (int node = 0; node < t->model->node_count; node++)
        if (t->score[node])
            CNN_TRY(t->add(t, node));
out:
    return status;
}

/* Adds up what all batches say. */
static cnn_status follow(taylor *t, const cnn_prune_options *options)
{
    cnn_status status = CNN_OK;
    int32_t *index = NULL, count = 0;
    CNN_TRY(open(t, options));
    CNN_TRY(cnn_calibration_pick(t->model, options->data, 0, TAYLOR_IMAGES, options->seed, &index, &count));
    int batches = (count + TAYLOR_BATCH - 1) / TAYLOR_BATCH;
    for (int batch = 0; batch < batches; batch++)
        CNN_TRY(add_batch(t, index, count, batch, batches));
out:
    for (int role = 0; role < CNN_PARAM_COUNT; role++)
        free(t->gradient[role]);
    free(index);
    cnn_session_close(t->session);
    return status;
}

cnn_status cnn_score_taylor(cnn_model *model, cnn_score_unit unit, const cnn_prune_options *options, double **score)
{
    taylor t = {.model = model, .unit = unit, .score = score};
    t.add = unit == CNN_SCORE_CHANNELS ? add_channels : add_blocks;
    if (!options->data)
        return cnn_error(CNN_ERR_USAGE, "criterion taylor needs training images: it follows their gradients");
    return follow(&t, options);
}

cnn_status cnn_score_gradient(cnn_model *model, const cnn_prune_options *options, double **score)
{
    cnn_status status = CNN_OK;
    taylor t = {.unit = CNN_SCORE_WEIGHTS, .score = score, .add = add_gradients};
    if (!options->data)
        CNN_FAIL(CNN_ERR_USAGE, "weights come back where gradients are largest: regrowth needs training images");
    CNN_TRY(cnn_model_clone(model, &t.model));
    for (int i = 0; i < t.model->node_count; i++) { /* masks would hold back what is asked for */
        cnn_param *weight = &t.model->nodes[i].param[CNN_PARAM_WEIGHT];
        cnn_aligned_free(weight->mask);
        weight->mask = NULL;
    }
    CNN_TRY(follow(&t, options));
    for (int i = 0; i < model->node_count; i++) {
        const int64_t count = score[i] ? cnn_desc_elements(&model->nodes[i].param[CNN_PARAM_WEIGHT].desc) : 0;
        for (int64_t j = 0; j < count; j++)
            score[i][j] = fabs(score[i][j]);
    }
out:
    cnn_model_free(t.model);
    return status;
}
