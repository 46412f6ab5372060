/* Two devices in lockstep: the first keeps what its instructions store, the second is held against it. */
#include "infer/compare.h"

#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double allowed_a_layer = 1e-5;

/* The value of a node on the first device, of one batch. */
typedef struct kept_value {
    void *bytes; /* room for the largest batch, which comes first */
    cnn_tensor_desc desc;
    bool fresh;
} kept_value;

typedef struct lockstep {
    const cnn_model *model;
    infer_comparison *comparison;
    kept_value *kept; /* [node_count] */
} lockstep;

static cnn_status keep(void *context, const cnn_trace *trace)
{
    lockstep *step = context;
    const cnn_tensor_desc *desc = &trace->desc->arg[CNN_ARG_DST];
    if (!trace->whole)
        return CNN_OK;
    kept_value *kept = &step->kept[trace->node];
    if (!kept->bytes)
        kept->bytes = cnn_calloc(cnn_desc_bytes(desc), 1);
    if (!kept->bytes)
        return CNN_ERR_MEMORY;
    memcpy(kept->bytes, trace->dst, cnn_desc_bytes(desc));
    kept->desc = *desc;
    kept->fresh = true;
    return CNN_OK;
}

static double value_at(cnn_dtype dtype, const void *bytes, int64_t i)
{
    switch (dtype) {
    case CNN_I8:
        return ((const int8_t *)bytes)[i];
    case CNN_I32:
        return ((const int32_t *)bytes)[i];
    default:
        return (double)((const float *)bytes)[i];
    }
}

static void add_value(infer_difference *node, double a, double b)
{
    bool same = a == b || (isnan(a) && isnan(b));
    double difference = same ? 0 : isfinite(a) && isfinite(b) ? fabs(a - b) : (double)INFINITY;
    node->values++;
    node->unequal += !same;
    node->difference_sq += difference * difference;
    if (difference > node->largest)
        node->largest = difference;
    if (!isfinite(b))
        return;
    node->value_sq += b * b;
    if (fabs(b) > node->largest_value)
        node->largest_value = fabs(b);
}

/* Channel padding, which may differ, is left out. */
static void add_values(infer_difference *node, const kept_value *a, const cnn_tensor_desc *b_desc, const void *b)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(b_desc); pixel++)
        for (int32_t c = 0; c < b_desc->c; c++)
            add_value(node, value_at(b_desc->dtype, a->bytes, pixel * a->desc.c_pad + c),
                      value_at(b_desc->dtype, b, pixel * b_desc->c_pad + c));
}

static cnn_status compare(void *context, const cnn_trace *trace)
{
    lockstep *step = context;
    if (!trace->whole || !step->kept[trace->node].fresh)
        return CNN_OK;
    kept_value *kept = &step->kept[trace->node];
    const cnn_tensor_desc *desc = &trace->desc->arg[CNN_ARG_DST];
    infer_difference *node = &step->comparison->nodes[trace->node];
    kept->fresh = false;
    if (kept->desc.dtype != desc->dtype)
        return CNN_OK;
    node->dtype = desc->dtype;
    node->layer = trace->layer;
    node->ends_in = trace->ends_in;
    add_values(node, kept, desc, trace->dst);
    return CNN_OK;
}

static bool has_weights(const cnn_node *node)
{
    for (int role = 0; role < CNN_PARAM_COUNT; role++)
        if (node->param[role].desc.dtype != CNN_NONE)
            return true;
    return false;
}

static void find_depths(const cnn_model *model, infer_comparison *comparison)
{
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        int depth = 0;
        for (int input = 0; input < node->input_count; input++)
            if (comparison->nodes[node->input[input]].depth > depth)
                depth = comparison->nodes[node->input[input]].depth;
        comparison->nodes[i].depth = depth + has_weights(node);
    }
}

static void judge(const cnn_model *model, infer_comparison *comparison)
{
    bool exact = cnn_model_is_quantized(model);
    comparison->first = -1;
    comparison->compared = 0;
    for (int i = 0; i < comparison->node_count; i++) {
        infer_difference *node = &comparison->nodes[i];
        if (node->dtype == CNN_NONE)
            continue;
        comparison->compared++;
        if (node->unequal > 0)
            node->relative_rms = sqrt(node->difference_sq / node->value_sq); /* infinite where all b are 0 */
        node->allowed = exact ? 0 : allowed_a_layer * node->depth;
        node->agrees = exact ? node->unequal == 0 : node->relative_rms <= node->allowed;
        if (!node->agrees && comparison->first < 0)
            comparison->first = i;
    }
}

static cnn_status run_batch(lockstep *step, cnn_session *a, cnn_session *b, const uint8_t *images, int count,
                            float *logits)
{
    cnn_status status = CNN_OK;
    cnn_session_trace(a, keep, step, true);
    cnn_session_trace(b, compare, step, true);
    CNN_TRY(cnn_session_infer(a, images, count, logits));
    CNN_TRY(cnn_session_infer(b, images, count, logits));
out:
    cnn_session_trace(a, NULL, NULL, false);
    cnn_session_trace(b, NULL, NULL, false);
    return status;
}

cnn_status infer_compare_sessions(cnn_session *a, cnn_session *b, const cnn_model *model, const uint8_t *images,
                                  int count, int batch, infer_comparison *comparison)
{
    cnn_status status = CNN_OK;
    const size_t nodes = (size_t)model->node_count, classes = (size_t)cnn_model_output(model).c;
    const cnn_tensor_desc input = cnn_model_input(model);
    lockstep step = {.model = model, .comparison = comparison};
    float *logits = cnn_calloc((size_t)batch * classes, sizeof *logits);
    *comparison = (infer_comparison){.node_count = model->node_count, .first = -1};
    step.kept = cnn_calloc(nodes, sizeof *step.kept);
    comparison->nodes = cnn_calloc(nodes, sizeof *comparison->nodes);
    if (!logits || !step.kept || !comparison->nodes)
        CNN_TRY(CNN_ERR_MEMORY);
    find_depths(model, comparison);
    for (int begin = 0; begin < count; begin += batch) {
        const uint8_t *first = images + (size_t)begin * (size_t)cnn_desc_elements(&input);
        CNN_TRY(run_batch(&step, a, b, first, count - begin < batch ? count - begin : batch, logits));
    }
    judge(model, comparison);
out:
    for (size_t i = 0; step.kept && i < nodes; i++)
        free(step.kept[i].bytes);
    free(step.kept);
    free(logits);
    if (status != CNN_OK)
        infer_comparison_free(comparison);
    return status;
}

void infer_comparison_free(infer_comparison *comparison)
{
    free(comparison->nodes);
    *comparison = (infer_comparison){.first = -1};
}
