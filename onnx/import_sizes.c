/* Reading what computes the sizes for a Reshape, as exporters write x.view(x.size(0), -1): Shape, Gather, Concat. */
#include "core/error.h"
#include "onnx/layers.h"

#include <string.h>

/* The output becomes a list of sizes, or one as a number. */
static void put_sizes(const cnn_onnx_import *import, const cnn_onnx_node *node, const int64_t *sizes, int count,
                      bool scalar)
{
    cnn_onnx_value *output = cnn_onnx_output_of(import, node);
    output->kind = CNN_ONNX_SIZES;
    output->size_count = count;
    output->scalar = scalar;
    memcpy(output->sizes, sizes, (size_t)count * sizeof *sizes);
}

cnn_status cnn_onnx_read_shape(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    int64_t first, end;
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    const cnn_tensor_desc *out = &import->model->nodes[value->node].out;
    const int rank = value->flat ? 2 : 4;
    const int64_t flat[2] = {CNN_ONNX_BATCH, cnn_desc_elements(out)};
    const int64_t pixels[4] = {CNN_ONNX_BATCH, out->c, out->h, out->w};
    CNN_TRY(cnn_onnx_get_int(node, "start", 0, &first)); /* since opset 15 */
    CNN_TRY(cnn_onnx_get_int(node, "end", rank, &end));
    first = first < 0 ? first + rank : first;
    end = end < 0 ? end + rank : end > rank ? rank : end;
    if (first < 0 || end < first)
        CNN_FAIL(CNN_ERR_FORMAT, "its start and end are no part of %d dimensions", rank);
    put_sizes(import, node, (value->flat ? flat : pixels) + first, (int)(end - first), false);
out:
    return status;
}

static cnn_status sizes_of(const cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, int64_t *sizes,
                           int *count)
{
    char shown[96];
    const cnn_onnx_value *value = cnn_onnx_input_of(import, node, i);
    if (value && value->kind == CNN_ONNX_CONSTANT)
        return cnn_onnx_wholes(&value->constant, sizes, count);
    if (!value || value->kind != CNN_ONNX_SIZES)
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "is supported only on sizes for a Reshape, not on '%s', which is computed "
                         "from the image",
                         cnn_onnx_shown(value ? value->name : "", shown));
    memcpy(sizes, value->sizes, sizeof value->sizes);
    *count = value->size_count;
    return CNN_OK;
}

cnn_status cnn_onnx_read_gather(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    const cnn_onnx_constant *places;
    int64_t sizes[CNN_ONNX_MAX_RANK], place[CNN_ONNX_MAX_RANK], taken[CNN_ONNX_MAX_RANK];
    int count, place_count;
    CNN_TRY(cnn_onnx_want_int(node, "axis", 0));
    CNN_TRY(sizes_of(import, node, 0, sizes, &count));
    CNN_TRY(cnn_onnx_constant_of(import, node, 1, "indices", &places));
    CNN_TRY(cnn_onnx_wholes(places, place, &place_count));
    for (int i = 0; i < place_count; i++) {
        if (place[i] < -count || place[i] >= count)
            CNN_FAIL(CNN_ERR_FORMAT, "takes number %lld of %d sizes", (long long)place[i], count);
        taken[i] = sizes[place[i] < 0 ? place[i] + count : place[i]];
    }
    put_sizes(import, node, taken, place_count, places->rank == 0);
out:
    return status;
}

/* Channels of layers. */
static cnn_status concat_layers(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *values[CNN_MAX_INPUTS];
    cnn_node draft = cnn_onnx_draft(CNN_LAYER_CONCAT);
    int64_t axis;
    int made;
    CNN_TRY(cnn_onnx_get_int(node, "axis", 1, &axis));
    if (node->n_input < 2 || node->n_input > CNN_MAX_INPUTS)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "puts %zu values together; 2 to %d are supported", node->n_input, CNN_MAX_INPUTS);
    for (size_t i = 0; i < node->n_input; i++) {
        CNN_TRY(cnn_onnx_layer_of(import, node, i, &values[i]));
        const cnn_tensor_desc *out = &import->model->nodes[values[i]->node].out;
        if (values[i]->flat != values[0]->flat || (values[i]->flat && (out->h > 1 || out->w > 1)))
            CNN_FAIL(CNN_ERR_UNSUPPORTED, "puts flattened values together; only channels of pixels can be");
    }
    if (axis != 1 && axis != (values[0]->flat ? -1 : -3))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its axis is %lld; only 1, that of the channels, is supported", (long long)axis);
    draft.input_count = (int)node->n_input;
    CNN_TRY(cnn_onnx_put_layer(import, node, &draft, values, NULL, &made));
out:
    return status;
}

cnn_status cnn_onnx_read_concat(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    int64_t all[CNN_ONNX_MAX_RANK], sizes[CNN_ONNX_MAX_RANK];
    int all_count = 0, count;
    const cnn_onnx_value *first = cnn_onnx_input_of(import, node, 0);
    if (first && first->kind == CNN_ONNX_LAYER)
        return concat_layers(import, node);
    for (size_t i = 0; i < node->n_input; i++) {
        CNN_TRY(sizes_of(import, node, i, sizes, &count));
        if (count > CNN_ONNX_MAX_RANK - all_count)
            CNN_FAIL(CNN_ERR_FORMAT, "makes a list of more than %d sizes", CNN_ONNX_MAX_RANK);
        memcpy(all + all_count, sizes, (size_t)count * sizeof *sizes);
        all_count += count;
    }
    put_sizes(import, node, all, all_count, false);
out:
    return status;
}
