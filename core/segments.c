/* Where parameters lie in the contiguous memories of a session. */
#include "core/program.h"

/* What of a model is walked over: the three ranges that memories are made of. */
typedef enum range {
    TRAINED,   /* parameters that move along their gradients */
    HELD,      /* such parameters of frozen layers */
    STATISTICS /* running statistics of batch norms */
} range;

static range range_of(const cnn_node *node, cnn_param_role role)
{
    return cnn_param_is_statistic(role) ? STATISTICS : node->frozen ? HELD : TRAINED;
}

static int64_t padded(const cnn_tensor_desc *desc)
{
    int64_t elements = cnn_desc_elements(desc);
    return (elements + CNN_SEGMENT_ALIGN - 1) / CNN_SEGMENT_ALIGN * CNN_SEGMENT_ALIGN;
}

/* Walks over all parameters of one range, in order. */
typedef struct walk {
    int node, number;
    int64_t offset;
} walk;

/* Goes to parameter (node, role), or to number `number` when node < 0, or to the end. Returns true when found. */
static bool walk_to(const cnn_model *model, range which, int node, cnn_param_role role, int number, walk *at)
{
    *at = (walk){0};
    for (at->node = 0; at->node < model->node_count; at->node++)
        for (int r = 0; r < CNN_PARAM_COUNT; r++) {
            const cnn_node *here = &model->nodes[at->node];
            const cnn_tensor_desc *desc = &here->param[r].desc;
            if (desc->dtype == CNN_NONE || range_of(here, (cnn_param_role)r) != which)
                continue;
            if (node < 0 ? at->number == number : at->node == node && r == (int)role)
                return true;
            at->number++;
            at->offset += padded(desc);
        }
    return false;
}

static walk end_of(const cnn_model *model, range which)
{
    walk end;
    walk_to(model, which, model->node_count, CNN_PARAM_WEIGHT, 0, &end);
    return end;
}

cnn_segments cnn_model_segments(const cnn_model *model)
{
    const walk trained = end_of(model, TRAINED), held = end_of(model, HELD);
    return (cnn_segments){.count = trained.number, .elements = trained.offset, .all = trained.offset + held.offset};
}

int cnn_model_segment(const cnn_model *model, int node, cnn_param_role role, int64_t *offset)
{
    walk at;
    if (!walk_to(model, TRAINED, node, role, 0, &at))
        return -1;
    *offset = at.offset;
    return at.number;
}

int cnn_model_segment_node(const cnn_model *model, int segment)
{
    walk at;
    return segment >= 0 && walk_to(model, TRAINED, -1, CNN_PARAM_WEIGHT, segment, &at) ? at.node : -1;
}

int64_t cnn_model_param(const cnn_model *model, int node, cnn_param_role role)
{
    walk at;
    if (walk_to(model, TRAINED, node, role, 0, &at))
        return at.offset;
    return walk_to(model, HELD, node, role, 0, &at) ? end_of(model, TRAINED).offset + at.offset : -1;
}

int64_t cnn_model_statistic(const cnn_model *model, int node, cnn_param_role role)
{
    walk at;
    bool found = walk_to(model, STATISTICS, node, role, 0, &at);
    return found || node == model->node_count ? at.offset : -1;
}
