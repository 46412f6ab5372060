/* Proves of one way to prune that its zeros stay zeros:
 *
 *     verify_pruned GIVEN.cnn FLOAT.cnn INT8.cnn STRUCTURE SHARE
 *
 * FLOAT is GIVEN pruned as `cnn-opt --structure STRUCTURE --prune SHARE` does it, fine-tuned and folded, and INT8 is
 * FLOAT quantized. Channels: FLOAT is narrower. Else its layers have the structure and no more nonzeros than the share
 * allows, and INT8 has zeros wherever FLOAT is pruned. On ref and cpu INT8 gives the same bits. FLOAT may be INT8 as
 * well: then its own zeros are looked at. Exits 1 when anything is otherwise. */
#include "cnn/session.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/model.h"
#include "core/weight_blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IMAGES = 24 };

typedef struct trio {
    cnn_model *given, *pruned, *int8;
    const char *structure;
    double share;
} trio;

static const cnn_param *weight_of(const cnn_model *model, int node)
{
    return &model->nodes[node].param[CNN_PARAM_WEIGHT];
}

/* Weights of a layer that pruning may leave, of those that it had. */
static int64_t most_left(const trio *t, const cnn_node *given)
{
    const cnn_tensor_desc *desc = &given->param[CNN_PARAM_WEIGHT].desc;
    const int64_t count = cnn_desc_elements(desc);
    if (strcmp(t->structure, "2:4") == 0) { /* 2 of each group, and all of those that are cut to 2 or 1 */
        const cnn_block_grid grid = cnn_block_grid_of(given, 1, CNN_GROUP_INPUTS);
        const int32_t tail = grid.inputs % CNN_GROUP_INPUTS;
        const int32_t row = grid.inputs / CNN_GROUP_INPUTS * CNN_GROUP_NONZEROS +
                            (tail < CNN_GROUP_NONZEROS ? tail : CNN_GROUP_NONZEROS);
        return (int64_t)row * grid.outputs * grid.taps;
    }
    const int32_t nearest = strcmp(t->structure, "block") == 0 ? CNN_BLOCK_OUTPUTS * CNN_BLOCK_INPUTS : 1;
    return count - (int64_t)((double)count * t->share) + nearest;
}

static cnn_status check_layer(const trio *t, int node, int *masked)
{
    cnn_status status = CNN_OK;
    const cnn_node *layer = &t->pruned->nodes[node];
    const cnn_param *weight = weight_of(t->pruned, node), *int8 = weight_of(t->int8, node);
    const int given = cnn_model_find(t->given, layer->name);
    const int64_t count = cnn_desc_elements(&weight->desc);
    int64_t left = 0;
    if (cnn_desc_elements(&int8->desc) != count || int8->desc.structure != weight->desc.structure)
        CNN_FAIL(CNN_ERR_SHAPE, "%s: INT8 has another shape or structure", layer->name);
    if (!weight->mask)
        return CNN_OK;
    ++*masked;
    if (strcmp(cnn_structure_name(weight->desc.structure),
               strcmp(t->structure, "weight") == 0 ? "sparse" : t->structure) != 0)
        CNN_FAIL(CNN_ERR_SHAPE, "%s: its structure is %s", layer->name, cnn_structure_name(weight->desc.structure));
    for (int64_t i = 0; i < count; i++) {
        left += !cnn_param_is_zero(weight, i);
        if (!weight->mask[i] && (!cnn_param_is_zero(weight, i) || !cnn_param_is_zero(int8, i) || int8->mask[i]))
            CNN_FAIL(CNN_ERR_NUMERIC, "%s: weight %lld was pruned and came back", layer->name, (long long)i);
    }
    if (given < 0 || left > most_left(t, &t->given->nodes[given]) || left == 0)
        CNN_FAIL(CNN_ERR_NUMERIC, "%s: %lld of %lld weights are left", layer->name, (long long)left, (long long)count);
out:
    return status;
}

static cnn_status check_layers(const trio *t)
{
    cnn_status status = CNN_OK;
    int masked = 0;
    const bool channels = strcmp(t->structure, "channel") == 0;
    if (t->pruned->node_count != t->int8->node_count)
        CNN_FAIL(CNN_ERR_SHAPE, "INT8 has %d layers, not %d", t->int8->node_count, t->pruned->node_count);
    for (int i = 0; i < t->pruned->node_count; i++)
        if (weight_of(t->pruned, i)->desc.dtype != CNN_NONE)
            CNN_TRY(check_layer(t, i, &masked));
    if (channels ? masked > 0 || cnn_model_weight_count(t->pruned) >= cnn_model_weight_count(t->given) : masked == 0)
        CNN_FAIL(CNN_ERR_SHAPE, "%d layers have masks, and %lld of %lld weights are left", masked,
                 (long long)cnn_model_weight_count(t->pruned), (long long)cnn_model_weight_count(t->given));
out:
    return status;
}

static cnn_status run(cnn_model *model, const char *device, const uint8_t *images, float *logits)
{
    cnn_session *session = NULL;
    cnn_status status = cnn_session_open(model, &(cnn_session_options){.device = device}, &session);
    if (status == CNN_OK)
        status = cnn_session_infer(session, images, IMAGES, logits);
    cnn_session_close(session);
    return status;
}

static cnn_status check_bits(cnn_model *model)
{
    cnn_status status = CNN_OK;
    const cnn_tensor_desc in = cnn_model_input(model);
    const size_t bytes = (size_t)IMAGES * (size_t)cnn_desc_elements(&in);
    const size_t outputs = (size_t)IMAGES * (size_t)cnn_model_output(model).c;
    uint8_t *images = cnn_calloc(bytes, 1);
    float *logits = cnn_calloc(2 * outputs, sizeof *logits);
    if (!images || !logits)
        CNN_TRY(CNN_ERR_MEMORY);
    for (size_t i = 0; i < bytes; i++)
        images[i] = (uint8_t)(cnn_hash(3, CNN_PURPOSE_SYNTH, i, 0) >> 56);
    CNN_TRY(run(model, "ref", images, logits));
    CNN_TRY(run(model, "cpu", images, logits + outputs));
    if (memcmp(logits, logits + outputs, outputs * sizeof *logits) != 0)
        CNN_FAIL(CNN_ERR_NUMERIC, "ref and cpu give different bits");
out:
    free(logits);
    free(images);
    return status;
}

int main(int argc, char **argv)
{
    cnn_status status = CNN_OK;
    trio t = {0};
    if (argc != 6) {
        fprintf(stderr, "usage: %s GIVEN.cnn FLOAT.cnn INT8.cnn STRUCTURE SHARE\n", argv[0]);
        return 2;
    }
    t.structure = argv[4];
    t.share = strtod(argv[5], NULL);
    CNN_TRY(cnn_model_load(argv[1], &t.given));
    CNN_TRY(cnn_model_load(argv[2], &t.pruned));
    CNN_TRY(cnn_model_load(argv[3], &t.int8));
    if (!cnn_model_is_quantized(t.int8))
        CNN_FAIL(CNN_ERR_USAGE, "%s is not INT8", argv[3]);
    CNN_TRY(check_layers(&t));
    CNN_TRY(check_bits(t.int8));
out:
    if (status != CNN_OK)
        fprintf(stderr, "verify_pruned: %s\n", cnn_last_error());
    cnn_model_free(t.given);
    cnn_model_free(t.pruned);
    cnn_model_free(t.int8);
    return status != CNN_OK;
}
