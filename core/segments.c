/* Where parameters lie in the contiguous memories of a session. */
#include "core/program.h"

static bool is_trainable(cnn_param_role role)
{
    return role <= CNN_PARAM_BETA;
}

static int64_t padded(const cnn_tensor_desc *desc)
{
    int64_t elements = cnn_desc_elements(desc);
    return (elements + CNN_SEGMENT_ALIGN - 1) / CNN_SEGMENT_ALIGN * CNN_SEGMENT_ALIGN;
}

/* Walks over all parameters of one kind, in order,. */
typedef struct walk {
    int node, number;
    int64_t offset;
} walk;

/* Goes to parameter (node, role), or to segment `number` when node < 0, or to the end. Returns true when found. */
static bool walk_to(const cnn_model *model, bool trainable, int node, cnn_param_role role, int number, walk *at)
{
    *at = (walk){0};
    for (at->node = 0; at->node < model->node_count; at->node++)
        for (int r = 0; r < CNN_PARAM_COUNT; r++) {
            const cnn_tensor_desc *desc = &model->nodes[at->node].param[r].desc;
            if (desc->dtype == CNN_NONE || is_trainable((cnn_param_role)r) != trainable)
                continue;
            if (node < 0 ? at->number == number : at->node == node && r == (int)role)
                return true;
            at->number++;
            at->offset += padded(desc);
        }
    return false;
}

cnn_segments cnn_model_segments(const cnn_model *model)
{
    walk end;
    walk_to(model, true, model->node_count, CNN_PARAM_WEIGHT, 0, &end);
    return (cnn_segments){.count = end.number, .elements = end.offset};
}

int cnn_model_segment(const cnn_model *model, int node, cnn_param_role role, int64_t *offset)
{
    walk at;
    if (!walk_to(model, true, node, role, 0, &at))
        return -1;
    *offset = at.offset;
    return at.number;
}

int cnn_model_segment_node(const cnn_model *model, int segment)
{
    walk at;
    return segment >= 0 && walk_to(model, true, -1, CNN_PARAM_WEIGHT, segment, &at) ? at.node : -1;
}

int64_t cnn_model_statistic(const cnn_model *model, int node, cnn_param_role role)
{
    walk at;
    bool found = walk_to(model, false, node, role, 0, &at);
    return found || node == model->node_count ? at.offset : -1;
}
