/* Sessions: pruning masks in training.
 *
 * A weight that a mask calls pruned is 0 and stays exactly 0: its gradient is set to 0 in front of the optimizer, and
 * what the optimizer remembers of it is 0 as well. Every update of ours maps (weight, gradient, memory) = 0 to 0: SGD,
 * momentum, weight decay, and the averages of gradients or weights. */
#include "core/session.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

/* A byte for each value that trains, 0 where it is pruned; padding is live. */
static uint8_t *gather_masks(const cnn_model *model, size_t elements)
{
    uint8_t *masks = cnn_calloc(elements, 1);
    if (!masks)
        return NULL;
    memset(masks, 1, elements);
    for (int node = 0; node < model->node_count; node++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *param = &model->nodes[node].param[role];
            int64_t offset;
            if (param->mask && cnn_model_segment(model, node, (cnn_param_role)role, &offset) >= 0)
                memcpy(masks + offset, param->mask, (size_t)cnn_desc_elements(&param->desc));
        }
    return masks;
}

/* Sets pruned elements of one f32 memory to 0. */
static cnn_status clear_pruned(cnn_session *session, void *memory, const uint8_t *masks, float *values, size_t elements)
{
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_session_download(session, values, memory, elements * sizeof *values));
    for (size_t i = 0; i < elements; i++)
        values[i] = masks[i] ? values[i] : 0;
    CNN_TRY(cnn_session_upload(session, memory, values, elements * sizeof *values));
out:
    return status;
}

/* Parameters, momentum and whatever else an optimizer keeps for each trainable value. */
static cnn_status clear_memories(cnn_session *session, const uint8_t *masks, size_t elements)
{
    cnn_status status = CNN_OK;
    static const cnn_place places[] = {CNN_PLACE_PARAM, CNN_PLACE_MOMENTUM, CNN_PLACE_SQUARES, CNN_PLACE_EMA};
    float *values = cnn_calloc(elements, sizeof *values);
    if (!values)
        return CNN_ERR_MEMORY;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (session->memory[places[i]])
            CNN_TRY(clear_pruned(session, session->memory[places[i]], masks, values, elements));
out:
    free(values);
    return status;
}

cnn_status cnn_session_push_masks(cnn_session *session)
{
    cnn_status status = CNN_OK;
    size_t elements = (size_t)cnn_model_segments(session->model).elements;
    bool masked = cnn_model_has_masks(session->model), was = session->memory[CNN_PLACE_MASK] != NULL;
    uint8_t *masks = NULL;
    if (masked != was) {
        CNN_TRY(cnn_session_alloc(session, CNN_PLACE_MASK, masked ? elements : 0));
        cnn_session_drop_programs(session, CNN_GOAL_TRAIN);
    }
    if (!masked)
        return CNN_OK;
    masks = gather_masks(session->model, elements);
    if (!masks) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(cnn_session_upload(session, session->memory[CNN_PLACE_MASK], masks, elements));
    CNN_TRY(clear_memories(session, masks, elements));
out:
    free(masks);
    return status;
}
