/* The header of a safetensors file: 8 bytes of its length, little-endian, then JSON:
 *
 *     {"__metadata__": {...}, "conv1.weight": {"dtype": "F32", "shape": [6,1,5,5], "data_offsets": [0,600]}, ...}
 *
 * Offsets count from the end of the header. JSON is read by jansson. */
#include "core/safetensors.h"

#include "core/error.h"
#include "core/memory.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    cnn_raw_type type;
} types[] = {{"F32", CNN_RAW_F32}, {"F64", CNN_RAW_F64}, {"F16", CNN_RAW_F16}, {"BF16", CNN_RAW_BF16}};

/* "12, 34": a list of at most `most` whole numbers >= 0; -1 when it is none. */
static int read_list(const json_t *list, int most, int64_t *numbers)
{
    if (!json_is_array(list))
        return -1;
    const size_t count = json_array_size(list);
    for (size_t i = 0; i < count; i++) {
        const json_t *number = json_array_get(list, i);
        if (!json_is_integer(number) || json_integer_value(number) < 0)
            return -1;
        if (i < (size_t)most)
            numbers[i] = (int64_t)json_integer_value(number);
    }
    return count > (size_t)most ? most + 1 : (int)count;
}

/* Bytes of the values; false when they are more than any file has. */
static bool count_bytes(const cnn_safetensor *tensor, uint64_t *bytes)
{
    *bytes = cnn_raw_bytes(tensor->type);
    for (int i = 0; i < tensor->rank; i++) {
        if (tensor->dims[i] > 0 && *bytes > (uint64_t)INT64_MAX / (uint64_t)tensor->dims[i])
            return false;
        *bytes *= (uint64_t)tensor->dims[i];
    }
    return true;
}

static cnn_status read_tensor(const json_t *entry, const uint8_t *data, size_t size, cnn_safetensor *tensor)
{
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    int64_t offsets[2] = {0, 0};
    uint64_t bytes;
    tensor->rank = read_list(json_object_get(entry, "shape"), CNN_SAFETENSORS_RANK, tensor->dims);
    if (!type || tensor->rank < 0 || read_list(json_object_get(entry, "data_offsets"), 2, offsets) != 2)
        return cnn_error(CNN_ERR_FORMAT, "lacks its dtype, shape or data_offsets; the file is damaged");
    tensor->type_name = type;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, type) == 0)
            tensor->type = types[i].type;
    if (offsets[0] > offsets[1] || (uint64_t)offsets[1] > size)
        return cnn_error(CNN_ERR_FORMAT, "lies at bytes %lld to %lld of %zu; the file is damaged or truncated",
                         (long long)offsets[0], (long long)offsets[1], size);
    tensor->data = data + offsets[0];
    if (tensor->type == CNN_RAW_NONE || tensor->rank > CNN_SAFETENSORS_RANK)
        return CNN_OK;
    if (!count_bytes(tensor, &bytes) || bytes != (uint64_t)(offsets[1] - offsets[0]))
        return cnn_error(CNN_ERR_FORMAT, "has %lld bytes, which its shape does not ask for; the file is damaged",
                         (long long)(offsets[1] - offsets[0]));
    return CNN_OK;
}

/* The JSON object of the header; *end is where the values begin. */
static cnn_status read_header(const uint8_t *data, size_t size, json_t **json, size_t *end)
{
    json_error_t problem;
    uint64_t length = 0;
    for (size_t i = 0; i < 8 && size >= 8; i++)
        length |= (uint64_t)data[i] << (8 * i);
    if (size < 8 || length > size - 8)
        return cnn_error(CNN_ERR_FORMAT, "is no safetensors file, or it is truncated: copy it again");
    if (length > CNN_SAFETENSORS_MAX_HEADER)
        return cnn_error(CNN_ERR_FORMAT, "has a header of %llu bytes; at most %d are read", (unsigned long long)length,
                         CNN_SAFETENSORS_MAX_HEADER);
    *json = json_loadb((const char *)data + 8, (size_t)length, JSON_REJECT_DUPLICATES, &problem);
    if (!*json && json_error_code(&problem) == json_error_out_of_memory)
        return cnn_error(CNN_ERR_MEMORY, "out of memory while reading the header");
    if (!*json)
        return cnn_error(CNN_ERR_FORMAT, "its header is no JSON: byte %d: is no safetensors file, or it is damaged",
                         problem.position + 8);
    if (!json_is_object(*json))
        return cnn_error(CNN_ERR_FORMAT, "its header is no JSON object; is no safetensors file");
    *end = 8 + (size_t)length;
    return CNN_OK;
}

/* A name as it may be shown. jansson gives valid UTF-8 without NUL. */
static const char *shown(const char *name, char text[96])
{
    size_t i = 0;
    for (; i < 80 && name[i]; i++)
        text[i] = name[i] >= 0x20 && name[i] < 0x7F ? name[i] : '?';
    text[i] = '\0';
    return text;
}

cnn_status cnn_safetensors_list(const uint8_t *data, size_t size, cnn_safetensors *list)
{
    cnn_status status = CNN_OK;
    json_t *json = NULL, *entry;
    size_t end = 0;
    const char *name;
    char text[96];
    cnn_safetensors made = {0};
    CNN_TRY(read_header(data, size, &json, &end));
    made.tensors = cnn_calloc(json_object_size(json) + 1, sizeof *made.tensors);
    if (!made.tensors)
        CNN_TRY(CNN_ERR_MEMORY);
    json_object_foreach(json, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        cnn_safetensor *tensor = &made.tensors[made.count++];
        tensor->name = name;
        status = read_tensor(entry, data + end, size - end, tensor);
        if (status != CNN_OK)
            CNN_TRY(cnn_error_prefix(status, "tensor '%s'", shown(name, text)));
    }
    made.json = json;
    *list = made;
    made = (cnn_safetensors){0};
    json = NULL;
out:
    free(made.tensors);
    json_decref(json);
    return status;
}

void cnn_safetensors_free(cnn_safetensors *list)
{
    free(list->tensors);
    json_decref(list->json);
    *list = (cnn_safetensors){0};
}
