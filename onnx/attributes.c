/* Attributes of nodes. */
#include "core/error.h"
#include "onnx/import.h"

#include <string.h>

const cnn_onnx_attribute *cnn_onnx_attribute_of(const cnn_onnx_node *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++)
        if (node->attribute[i]->name && strcmp(node->attribute[i]->name, name) == 0)
            return node->attribute[i];
    return NULL;
}

static cnn_status wrong_type(const char *name, const char *type)
{
    return cnn_error(CNN_ERR_FORMAT, "its attribute %s is not %s; the file is damaged", name, type);
}

cnn_status cnn_onnx_get_int(const cnn_onnx_node *node, const char *name, int64_t standard, int64_t *value)
{
    const cnn_onnx_attribute *attribute = cnn_onnx_attribute_of(node, name);
    if (attribute && (!attribute->has_whole || (attribute->has_type && attribute->type != CNN_ONNX_ATTRIBUTE_INT)))
        return wrong_type(name, "a whole number");
    *value = attribute ? attribute->whole : standard;
    return CNN_OK;
}

cnn_status cnn_onnx_get_real(const cnn_onnx_node *node, const char *name, float standard, float *value)
{
    const cnn_onnx_attribute *attribute = cnn_onnx_attribute_of(node, name);
    if (attribute && (!attribute->has_real || (attribute->has_type && attribute->type != CNN_ONNX_ATTRIBUTE_FLOAT)))
        return wrong_type(name, "a number");
    *value = attribute ? attribute->real : standard;
    return CNN_OK;
}

cnn_status cnn_onnx_get_ints(const cnn_onnx_node *node, const char *name, size_t count, int64_t standard,
                             int64_t *values)
{
    const cnn_onnx_attribute *attribute = cnn_onnx_attribute_of(node, name);
    if (attribute && attribute->has_type && attribute->type != CNN_ONNX_ATTRIBUTE_INTS)
        return wrong_type(name, "a list of whole numbers");
    if (attribute && attribute->n_wholes != count)
        return cnn_error(CNN_ERR_UNSUPPORTED, "its %s has %zu numbers; images have 2 dimensions, so %zu are expected",
                         name, attribute->n_wholes, count);
    for (size_t i = 0; i < count; i++)
        values[i] = attribute ? attribute->wholes[i] : standard;
    return CNN_OK;
}

cnn_status cnn_onnx_want_int(const cnn_onnx_node *node, const char *name, int64_t wanted)
{
    int64_t value = wanted;
    cnn_status status = cnn_onnx_get_int(node, name, wanted, &value);
    if (status == CNN_OK && value != wanted)
        return cnn_error(CNN_ERR_UNSUPPORTED, "its %s is %lld; only %lld is supported", name, (long long)value,
                         (long long)wanted);
    return status;
}
