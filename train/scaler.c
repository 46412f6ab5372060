/* Start and end of the loss scaler; its steps run on the device. */
#include "train/scaler.h"

#include "core/error.h"
#include "core/model.h"

#include <float.h>
#include <math.h>

static const float scale_start = 65536.0f; /* 2^16 */
static const float scale_floor = 1.0f;
static const float f16_largest = 65504.0f;
static const float scale_ceiling = 16777216.0f; /* 2^24 */
enum { GROWTH_INTERVAL = 2000 };

cnn_status cnn_scaler_check(const cnn_train_options *options)
{
    const double scale = (double)options->loss_scale;
    if (options->storage != CNN_F16 || options->loss_scale == 0.0f)
        return CNN_OK;
    if (!isfinite(scale) || scale < 0.0)
        return cnn_error(CNN_ERR_USAGE, "loss scale %.8g: it must be a positive number", scale);
    if (!options->static_loss_scale && (options->loss_scale < scale_floor || options->loss_scale > scale_ceiling))
        return cnn_error(CNN_ERR_USAGE, "loss scale %.8g: a dynamic one starts from %.8g to %.8g", scale,
                         (double)scale_floor, (double)scale_ceiling);
    return CNN_OK;
}

void cnn_scaler_start(const cnn_train_options *options, cnn_train_state *state)
{
    const bool scaled = options->storage == CNN_F16;
    const float start = options->loss_scale > 0.0f ? options->loss_scale : scale_start;
    *state = (cnn_train_state){
        .momentum = options->momentum,
        .weight_decay = options->weight_decay,
        .clip_norm = options->clip_norm,
        .ema_decay = options->ema_decay,
        .beta1 = options->beta1,
        .beta2 = options->beta2,
        .eps = options->eps,
        .nesterov = options->nesterov,
        .growth = 2.0f,
        .backoff = 0.5f,
        .floor = scale_floor,
        .ceiling = scale_ceiling,
        .growth_interval = GROWTH_INTERVAL,
        .dynamic = scaled && !options->static_loss_scale,
        .loss_scale = scaled ? start : 1.0f,
        .first_overflow = -1,
        .last_overflow = -1,
    };
    state->scale_min = state->loss_scale;
    state->scale_max = state->loss_scale;
}

bool cnn_scaler_goes_on(cnn_scaler_watch *watch, const cnn_train_state *state, double loss)
{
    const bool lowest = !state->dynamic || watch->scale <= state->floor;
    const bool overflowed = state->skipped > watch->skipped;
    watch->stuck = overflowed && lowest ? watch->stuck + 1 : 0;
    watch->scale = state->loss_scale;
    watch->skipped = state->skipped;
    return watch->stuck < CNN_SCALER_PATIENCE && (state->dynamic || isfinite(loss));
}

/* ---- Why training stopped ---- */

/* A search for the first node with a value beyond `limit`. */
typedef struct range_search {
    float limit;
    int node; /* -1: none yet */
} range_search;

static cnn_status search_values(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    range_search *search = context;
    const size_t count = cnn_desc_bytes(desc) / sizeof *values;
    for (size_t i = 0; i < count && search->node < 0; i++)
        if (!(fabsf(values[i]) <= search->limit))
            search->node = node;
    return CNN_OK;
}

/* The first layer whose values leave the range of the storage type, else the one whose gradients did. */
static const char *find_layer(cnn_session *session, const cnn_model *model, const cnn_train_options *options,
                              const cnn_train_state *state, const cnn_scaler_batch *batch)
{
    range_search search = {.limit = options->storage == CNN_F16 ? f16_largest : FLT_MAX, .node = -1};
    if (!isfinite(batch->loss))
        (void)cnn_session_observe(session, batch->data, batch->index, batch->count, search_values, &search);
    if (search.node >= 0)
        return model->nodes[search.node].name;
    const char *layer = cnn_session_segment_layer(session, state->last_overflow);
    return layer ? layer : "unknown";
}

static cnn_status explain_f16(const char *layer, const cnn_train_state *state, double loss)
{
    if (!isfinite(loss))
        return cnn_error(
            CNN_ERR_NUMERIC,
            "layer %s: values beyond FP16's largest, %.0f, and no finite loss after %d updates; use a lower "
            "--lr, --amp=bf16, or no --amp",
            layer, (double)f16_largest, state->step);
    if (state->dynamic)
        return cnn_error(
            CNN_ERR_NUMERIC,
            "layer %s: gradients overflowed FP16 in %d steps in a row at the lowest loss scale, %.8g, after "
            "%d updates; use a lower --lr, --amp=bf16, or no --amp",
            layer, CNN_SCALER_PATIENCE, (double)state->floor, state->step);
    return cnn_error(CNN_ERR_NUMERIC,
                     "layer %s: gradients overflowed FP16 in %d steps in a row at the fixed loss scale %.8g, after %d "
                     "updates; use a lower --loss-scale, or --loss-scale dynamic",
                     layer, CNN_SCALER_PATIENCE, (double)state->loss_scale, state->step);
}

static cnn_status explain_unscaled(const char *layer, float learning_rate, const cnn_train_state *state, double loss)
{
    const double rate = (double)learning_rate;
    if (!isfinite(loss))
        return cnn_error(CNN_ERR_NUMERIC,
                         "layer %s: training diverged: no finite loss after %d updates; use a lower --lr than %g",
                         layer, state->step, rate);
    return cnn_error(
        CNN_ERR_NUMERIC,
        "layer %s: training diverged: infinite gradients in %d steps in a row, after %d updates; use a lower "
        "--lr than %g",
        layer, CNN_SCALER_PATIENCE, state->step, rate);
}

cnn_status cnn_scaler_explain(cnn_session *session, const cnn_model *model, const cnn_train_options *options,
                              const cnn_train_state *state, const cnn_scaler_batch *batch)
{
    const char *layer = find_layer(session, model, options, state, batch);
    return options->storage == CNN_F16 ? explain_f16(layer, state, batch->loss)
                                       : explain_unscaled(layer, options->learning_rate, state, batch->loss);
}
