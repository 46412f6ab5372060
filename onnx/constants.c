/* Constants of a graph: checked against the bytes that are there, then read as floats or whole numbers. */
#include "core/error.h"
#include "core/raw_values.h"
#include "onnx/import.h"

#include <string.h>

static const struct {
    cnn_onnx_type type;
    const char *name;
    cnn_raw_type raw;
} types[] = {{CNN_ONNX_FLOAT, "FLOAT", CNN_RAW_F32},       {CNN_ONNX_UINT8, "UINT8", CNN_RAW_U8},
             {CNN_ONNX_INT8, "INT8", CNN_RAW_I8},          {CNN_ONNX_INT32, "INT32", CNN_RAW_I32},
             {CNN_ONNX_INT64, "INT64", CNN_RAW_I64},       {CNN_ONNX_BOOL, "BOOL", CNN_RAW_BOOL},
             {CNN_ONNX_FLOAT16, "FLOAT16", CNN_RAW_F16},   {CNN_ONNX_DOUBLE, "DOUBLE", CNN_RAW_F64},
             {CNN_ONNX_BFLOAT16, "BFLOAT16", CNN_RAW_BF16}};

static cnn_raw_type raw_type(cnn_onnx_type type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].type == type)
            return types[i].raw;
    return CNN_RAW_NONE;
}

size_t cnn_onnx_type_bytes(cnn_onnx_type type)
{
    return cnn_raw_bytes(raw_type(type));
}

const char *cnn_onnx_type_name(cnn_onnx_type type)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].type == type)
            return types[i].name;
    return "of another type";
}

/* Dimensions, and their product, which int32 can hold. */
static cnn_status read_dims(const cnn_onnx_tensor *tensor, cnn_onnx_constant *constant)
{
    if (tensor->n_dims > CNN_ONNX_MAX_RANK)
        return cnn_error(CNN_ERR_FORMAT, "has %zu dimensions; at most %d are supported", tensor->n_dims,
                         CNN_ONNX_MAX_RANK);
    constant->rank = (int)tensor->n_dims;
    constant->count = 1;
    for (int i = 0; i < constant->rank; i++) {
        const int64_t size = tensor->dims[i];
        if (size < 0)
            return cnn_error(CNN_ERR_FORMAT, "has the negative dimension %lld; the file is damaged", (long long)size);
        if (size > 0 && constant->count > INT32_MAX / size)
            return cnn_error(CNN_ERR_FORMAT, "has more than 2^31-1 elements: dimension %d is %lld", i, (long long)size);
        constant->dims[i] = size;
        constant->count *= size;
    }
    return CNN_OK;
}

/* Elements that stand one by one in the message. Those of 8 and 16 bits are held in 32. */
static cnn_status read_listed(cnn_onnx_import *import, const cnn_onnx_tensor *tensor, cnn_onnx_constant *constant)
{
    const size_t count = (size_t)constant->count, bytes = cnn_onnx_type_bytes(constant->type);
    const void *list = NULL;
    size_t there = 0;
    switch (constant->type) {
    case CNN_ONNX_FLOAT:
        list = tensor->reals;
        there = tensor->n_reals;
        break;
    case CNN_ONNX_DOUBLE:
        list = tensor->reals64;
        there = tensor->n_reals64;
        break;
    case CNN_ONNX_INT64:
        list = tensor->wholes64;
        there = tensor->n_wholes64;
        break;
    default:
        list = tensor->wholes32;
        there = tensor->n_wholes32;
        break;
    }
    if (there != count)
        return cnn_error(CNN_ERR_FORMAT, "holds %zu elements, but its dimensions ask for %zu; the file is damaged",
                         there, count);
    if (bytes >= 4 || count == 0) {
        constant->data = list;
        return CNN_OK;
    }
    uint8_t *narrow = cnn_onnx_block(import, count, bytes);
    if (!narrow)
        return CNN_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        memcpy(narrow + i * bytes, &tensor->wholes32[i], bytes);
    constant->data = narrow;
    return CNN_OK;
}

cnn_status cnn_onnx_read_tensor(cnn_onnx_import *import, const cnn_onnx_tensor *tensor, cnn_onnx_constant *constant)
{
    cnn_status status = CNN_OK;
    *constant = (cnn_onnx_constant){.name = tensor->name ? tensor->name : "", .type = (cnn_onnx_type)tensor->type};
    const size_t size = cnn_onnx_type_bytes(constant->type);
    if (size == 0)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "has elements of type %d, which cnnkit does not read", tensor->type);
    CNN_TRY(read_dims(tensor, constant));
    const size_t bytes = (size_t)constant->count * size;
    if (tensor->location == CNN_ONNX_LOCATION_EXTERNAL) {
        CNN_TRY(cnn_onnx_external_data(import, tensor, bytes, &constant->data));
    } else if (tensor->has_raw) {
        if (tensor->raw.len != bytes)
            CNN_FAIL(CNN_ERR_FORMAT, "holds %zu bytes, but its dimensions ask for %zu; the file is damaged",
                     tensor->raw.len, bytes);
        constant->data = tensor->raw.data;
    } else {
        CNN_TRY(read_listed(import, tensor, constant));
    }
out:
    return status;
}

float cnn_onnx_scale_at(const cnn_onnx_constant *constant, int64_t i)
{
    const size_t place = constant->count == 1 ? 0 : (size_t)i;
    float value;
    cnn_raw_to_f32(raw_type(constant->type), constant->data + place * cnn_onnx_type_bytes(constant->type), 1, &value);
    return value;
}

cnn_status cnn_onnx_floats(cnn_onnx_import *import, const cnn_onnx_constant *constant, const float **values)
{
    float *made = cnn_onnx_block(import, (size_t)constant->count, sizeof *made);
    int64_t inner = 1; /* elements that share a scale, one after the other */
    if (!made)
        return CNN_ERR_MEMORY;
    *values = made;
    cnn_raw_to_f32(raw_type(constant->type), constant->data, constant->count, made);
    const cnn_onnx_constant *scale = constant->scale;
    for (int i = scale ? constant->axis + 1 : constant->rank; i < constant->rank; i++)
        inner *= constant->dims[i];
    for (int64_t i = 0; scale && i < constant->count; i++)
        made[i] *= cnn_onnx_scale_at(scale, scale->count > 1 ? i / inner % scale->count : 0);
    return CNN_OK;
}

cnn_status cnn_onnx_wholes(const cnn_onnx_constant *constant, int64_t *values, int *count)
{
    char shown[96];
    if (constant->type != CNN_ONNX_INT64 && constant->type != CNN_ONNX_INT32)
        return cnn_error(CNN_ERR_FORMAT, "the constant '%s' is %s, but sizes are INT64",
                         cnn_onnx_shown(constant->name, shown), cnn_onnx_type_name(constant->type));
    if (constant->rank > 1 || constant->count > CNN_ONNX_MAX_RANK)
        return cnn_error(CNN_ERR_FORMAT, "a list of sizes has %lld elements; at most %d are supported",
                         (long long)constant->count, CNN_ONNX_MAX_RANK);
    for (int64_t i = 0; i < constant->count; i++) {
        int32_t whole;
        if (constant->type == CNN_ONNX_INT64) {
            memcpy(&values[i], constant->data + 8 * (size_t)i, 8);
        } else {
            memcpy(&whole, constant->data + 4 * (size_t)i, 4);
            values[i] = whole;
        }
    }
    *count = (int)constant->count;
    return CNN_OK;
}
