/* Reading what changes the form of a value and not its numbers: Flatten, Reshape, Squeeze, Unsqueeze; what does nothing
 * outside of training; the softmax at the end, which the model notes; constants. */
#include "core/channels_first.h"
#include "core/error.h"
#include "onnx/layers.h"

#include <string.h>

cnn_status cnn_onnx_read_same(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    const cnn_onnx_value *value = cnn_onnx_input_of(import, node, 0);
    if (!value)
        return cnn_error(CNN_ERR_FORMAT, "its input is left out");
    cnn_onnx_pass(import, node, value);
    return CNN_OK;
}

cnn_status cnn_onnx_read_dropout(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    const cnn_onnx_constant *training;
    if (cnn_onnx_input_of(import, node, 2)) { /* since opset 12 */
        cnn_status status = cnn_onnx_constant_of(import, node, 2, "training mode", &training);
        if (status != CNN_OK)
            return status;
        if (training->type != CNN_ONNX_BOOL || training->count != 1 || *training->data != 0)
            return cnn_error(CNN_ERR_UNSUPPORTED, "is in training mode; export the model for inference");
    }
    return cnn_onnx_read_same(import, node);
}

cnn_status cnn_onnx_read_softmax(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    int64_t axis;
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    CNN_TRY(cnn_onnx_get_int(node, "axis", import->opset < 13 ? 1 : -1, &axis));
    const cnn_tensor_desc *out = &import->model->nodes[value->node].out;
    const bool channels = axis == 1 || axis == (value->flat ? -1 : -3);
    if (out->h != 1 || out->w != 1 || !channels)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "is taken along axis %lld; only one over the classes, at the end, is supported",
                 (long long)axis);
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->finished = true;
    import->model->softmax = strcmp(node->operator_, "Softmax") == 0;
out:
    return status;
}

/* ---- Constants ---- */

/* One of the lists that a Constant may have instead of a tensor. */
static void listed(cnn_onnx_constant *constant, cnn_onnx_type type, const void *data, size_t count, bool scalar)
{
    *constant = (cnn_onnx_constant){.name = "", .type = type, .rank = scalar ? 0 : 1, .data = data};
    constant->count = (int64_t)count;
    constant->dims[0] = scalar ? 0 : (int64_t)count;
}

cnn_status cnn_onnx_read_constant(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_onnx_value *output = cnn_onnx_output_of(import, node);
    const cnn_onnx_attribute *attribute = node->n_attribute == 1 ? node->attribute[0] : NULL;
    const char *name = attribute && attribute->name ? attribute->name : "";
    cnn_status status = CNN_OK;
    if (strcmp(name, "value") == 0 && attribute->tensor)
        status = cnn_onnx_read_tensor(import, attribute->tensor, &output->constant);
    else if (strcmp(name, "value_float") == 0 && attribute->has_real)
        listed(&output->constant, CNN_ONNX_FLOAT, &attribute->real, 1, true);
    else if (strcmp(name, "value_int") == 0 && attribute->has_whole)
        listed(&output->constant, CNN_ONNX_INT64, &attribute->whole, 1, true);
    else if (strcmp(name, "value_floats") == 0 && attribute->n_reals <= INT32_MAX)
        listed(&output->constant, CNN_ONNX_FLOAT, attribute->reals, attribute->n_reals, false);
    else if (strcmp(name, "value_ints") == 0 && attribute->n_wholes <= INT32_MAX)
        listed(&output->constant, CNN_ONNX_INT64, attribute->wholes, attribute->n_wholes, false);
    else
        status = cnn_error(CNN_ERR_UNSUPPORTED, "holds no tensor and no list of numbers");
    output->kind = CNN_ONNX_CONSTANT;
    return status;
}

cnn_status cnn_onnx_read_transpose(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    const cnn_onnx_constant *from;
    int64_t order[2] = {1, 0};
    CNN_TRY(cnn_onnx_constant_of(import, node, 0, "input", &from));
    if (from->rank != 2 || from->dims[0] > INT32_MAX || from->dims[1] > INT32_MAX)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "turns a constant of %d dimensions; only matrices are supported", from->rank);
    if (cnn_onnx_attribute_of(node, "perm"))
        CNN_TRY(cnn_onnx_get_ints(node, "perm", 2, 0, order));
    const size_t bytes = cnn_onnx_type_bytes(from->type);
    cnn_onnx_value *output = cnn_onnx_output_of(import, node);
    cnn_onnx_constant *to = &output->constant;
    output->kind = CNN_ONNX_CONSTANT;
    *to = *from;
    if (order[0] == 0 && order[1] == 1)
        goto out;
    const cnn_tensor_desc matrix = cnn_desc(bytes == 1   ? CNN_I8
                                            : bytes == 2 ? CNN_F16
                                                         : CNN_F32,
                                            1, (int32_t)from->dims[0], 1, (int32_t)from->dims[1]);
    if (bytes == 8 || order[0] != 1 || order[1] != 0)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "turns %s values in the order %lld, %lld", cnn_onnx_type_name(from->type),
                 (long long)order[0], (long long)order[1]);
    uint8_t *data = cnn_onnx_block(import, (size_t)from->count, bytes);
    if (!data)
        CNN_TRY(CNN_ERR_MEMORY);
    cnn_channels_to_first(&matrix, from->data, data);
    to->data = data;
    to->dims[0] = from->dims[1];
    to->dims[1] = from->dims[0];
    to->axis = 1 - from->axis;
out:
    return status;
}

/* ---- Forms ---- */

cnn_status cnn_onnx_read_flatten(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    int64_t axis;
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    CNN_TRY(cnn_onnx_get_int(node, "axis", 1, &axis));
    if (axis != 1 && axis != (value->flat ? -1 : -3))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its axis is %lld; only 1, which keeps images apart, is supported",
                 (long long)axis);
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->flat = true;
out:
    return status;
}

/* Fills in the sizes of a Reshape that stand for others: 0 is that of the input, `dims`, -1 what is left of `count`. */
static cnn_status resolve(int64_t *sizes, int rank, const int64_t *dims, int dim_count, int64_t count)
{
    int open = -1;
    int64_t product = 1;
    for (int i = 0; i < rank; i++) {
        if (i < dim_count && sizes[i] == 0)
            sizes[i] = dims[i];
        if (sizes[i] == -1 && open < 0) {
            open = i;
            continue;
        }
        if (sizes[i] < 1 || product > count / sizes[i])
            return cnn_error(CNN_ERR_FORMAT, "its size %d is %lld, which does not suit an input of %lld values", i,
                             (long long)sizes[i], (long long)count);
        product *= sizes[i];
    }
    if (open >= 0)
        sizes[open] = count / product;
    if (product * (open >= 0 ? sizes[open] : 1) != count)
        return cnn_error(CNN_ERR_FORMAT, "its sizes give %lld values, but its input has %lld", (long long)product,
                         (long long)count);
    return CNN_OK;
}

/* [N,values] or, unchanged, [N,C,H,W]. */
static cnn_status reshape_layer(cnn_onnx_import *import, const cnn_onnx_node *node, int64_t *sizes, int count)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    int64_t zero_is_zero; /* since opset 14; 0 is never a size here */
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    CNN_TRY(cnn_onnx_get_int(node, "allowzero", 0, &zero_is_zero));
    const cnn_tensor_desc *out = &import->model->nodes[value->node].out;
    const int64_t values = cnn_desc_elements(out), flat[1] = {values}, pixels[3] = {out->c, out->h, out->w};
    const bool batch = count > 1 && (sizes[0] == CNN_ONNX_BATCH || (sizes[0] == 0 && !zero_is_zero) || sizes[0] == -1 ||
                                     (import->batch > 0 && sizes[0] == import->batch));
    if (!batch)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "changes the number of images; only what keeps the first dimension is supported");
    CNN_TRY(resolve(sizes + 1, count - 1, value->flat ? flat : pixels, zero_is_zero ? 0 : value->flat ? 1 : 3, values));
    const bool same = count == 4 && sizes[1] == pixels[0] && sizes[2] == pixels[1] && sizes[3] == pixels[2];
    if (count != 2 && !same)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "makes %d dimensions of an image of %dx%dx%d; only flattening it is supported",
                 count, out->h, out->w, out->c);
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->flat = count == 2;
out:
    return status;
}

cnn_status cnn_onnx_read_reshape(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    const cnn_onnx_constant *constant;
    const cnn_onnx_value *sizes_from = cnn_onnx_input_of(import, node, 1), *value = cnn_onnx_input_of(import, node, 0);
    int64_t sizes[CNN_ONNX_MAX_RANK];
    int count;
    if (sizes_from && sizes_from->kind == CNN_ONNX_SIZES) {
        count = sizes_from->size_count;
        memcpy(sizes, sizes_from->sizes, sizeof sizes);
    } else {
        CNN_TRY(cnn_onnx_constant_of(import, node, 1, "shape", &constant));
        CNN_TRY(cnn_onnx_wholes(constant, sizes, &count));
    }
    if (!value || value->kind != CNN_ONNX_CONSTANT) {
        CNN_TRY(reshape_layer(import, node, sizes, count));
        goto out;
    }
    CNN_TRY(resolve(sizes, count, value->constant.dims, value->constant.rank, value->constant.count));
    if (value->constant.scale)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "changes the shape of weights that were quantized");
    cnn_onnx_pass(import, node, value);
    cnn_onnx_constant *made = &cnn_onnx_output_of(import, node)->constant;
    made->rank = count;
    memcpy(made->dims, sizes, sizeof sizes);
out:
    return status;
}

cnn_status cnn_onnx_read_axes(const cnn_onnx_import *import, const cnn_onnx_node *node, int64_t *axes, int *count)
{
    const cnn_onnx_constant *constant;
    const cnn_onnx_attribute *attribute = cnn_onnx_attribute_of(node, "axes");
    *count = 0;
    if (cnn_onnx_input_of(import, node, 1)) {
        cnn_status status = cnn_onnx_constant_of(import, node, 1, "axes", &constant);
        return status == CNN_OK ? cnn_onnx_wholes(constant, axes, count) : status;
    }
    if (attribute && attribute->n_wholes <= CNN_ONNX_MAX_RANK) {
        *count = (int)attribute->n_wholes;
        for (int i = 0; i < *count; i++)
            axes[i] = attribute->wholes[i];
    }
    return CNN_OK;
}

bool cnn_onnx_axes_of_pixels(const int64_t *axes, int count)
{
    return count == 2 && ((axes[0] == 2 && axes[1] == 3) || (axes[0] == -2 && axes[1] == -1) ||
                          (axes[0] == -1 && axes[1] == -2) || (axes[0] == 3 && axes[1] == 2));
}

/* Between [N,C,1,1] and [N,C]. */
static cnn_status turn_pixel(cnn_onnx_import *import, const cnn_onnx_node *node, const int64_t *axes, int count,
                             bool flat)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    CNN_TRY(cnn_onnx_layer_of(import, node, 0, &value));
    const cnn_tensor_desc *out = &import->model->nodes[value->node].out;
    if (value->flat == flat || out->h != 1 || out->w != 1 || !cnn_onnx_axes_of_pixels(axes, count))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "is supported only between [N,C,1,1] and [N,C], along axes 2 and 3");
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->flat = flat;
out:
    return status;
}

cnn_status cnn_onnx_read_squeeze(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    int64_t axes[CNN_ONNX_MAX_RANK] = {0};
    int count;
    const cnn_onnx_value *value = cnn_onnx_input_of(import, node, 0);
    cnn_status status = cnn_onnx_read_axes(import, node, axes, &count);
    if (status != CNN_OK)
        return status;
    if (!value || value->kind != CNN_ONNX_SIZES)
        return turn_pixel(import, node, axes, count, true);
    if (value->size_count != 1)
        return cnn_error(CNN_ERR_FORMAT, "makes a number of %d sizes", value->size_count);
    cnn_onnx_pass(import, node, value);
    cnn_onnx_output_of(import, node)->scalar = true;
    return CNN_OK;
}

cnn_status cnn_onnx_read_unsqueeze(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    int64_t axes[CNN_ONNX_MAX_RANK] = {0};
    int count;
    const cnn_onnx_value *value = cnn_onnx_input_of(import, node, 0);
    cnn_status status = cnn_onnx_read_axes(import, node, axes, &count);
    if (status != CNN_OK)
        return status;
    if (!value || value->kind == CNN_ONNX_LAYER)
        return turn_pixel(import, node, axes, count, false);
    const bool list_of_one = count == 1 && (axes[0] == 0 || axes[0] == -1);
    const bool number = value->kind == CNN_ONNX_SIZES ? value->scalar : value->constant.rank == 0;
    if (!list_of_one || !number)
        return cnn_error(CNN_ERR_UNSUPPORTED, "adds a dimension to a constant; only a list of one number is supported");
    cnn_onnx_pass(import, node, value);
    cnn_onnx_value *output = cnn_onnx_output_of(import, node);
    output->scalar = false;
    output->constant.rank = output->kind == CNN_ONNX_CONSTANT;
    output->constant.dims[0] = 1;
    return CNN_OK;
}
