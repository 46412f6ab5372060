/* Writing safetensors files: the length of the header, the header as JSON, padded to 8 bytes, then all values.
 *
 * Names need no escapes: a layer's name has letters, digits and _ . / : - only. */
#include "cnn/safetensors.h"

#include "core/channels_first.h"
#include "core/error.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/save.h"
#include "core/torch_names.h"

#include <stdlib.h>

static bool is_stored(const cnn_node *node, int role)
{
    return node->param[role].desc.dtype != CNN_NONE;
}

static void put_entry(cnn_text *header, const cnn_node *node, cnn_param_role role, size_t begin, size_t end)
{
    int64_t dims[4];
    const int rank = cnn_torch_dims(node, role, dims);
    cnn_text_append(header, ",\"%s.%s\":{\"dtype\":\"F32\",\"shape\":[", node->name, cnn_torch_role_name(role));
    for (int i = 0; i < rank; i++)
        cnn_text_append(header, "%s%lld", i ? "," : "", (long long)dims[i]);
    cnn_text_append(header, "],\"data_offsets\":[%zu,%zu]}", begin, end);
}

static void put_header(cnn_text *header, const cnn_model *model)
{
    size_t at = 0;
    cnn_text_append(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++)
            if (is_stored(&model->nodes[i], role)) {
                const size_t bytes = cnn_desc_bytes(&model->nodes[i].param[role].desc);
                put_entry(header, &model->nodes[i], (cnn_param_role)role, at, at + bytes);
                at += bytes;
            }
    cnn_text_append(header, "}");
    while (!header->failed && header->length % 8 != 0)
        cnn_text_append(header, " ");
}

static cnn_status write_values(cnn_save *save, const cnn_param *param)
{
    const size_t bytes = cnn_desc_bytes(&param->desc);
    void *values = cnn_calloc(bytes, 1);
    if (!values)
        return CNN_ERR_MEMORY;
    cnn_channels_to_first(&param->desc, param->data, values);
    cnn_status status = cnn_save_write(save, values, bytes);
    free(values);
    return status;
}

static cnn_status write_file(cnn_save *save, const cnn_model *model, const cnn_text *header)
{
    cnn_status status = CNN_OK;
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)header->length >> (8 * i));
    CNN_TRY(cnn_save_write(save, length, sizeof length));
    CNN_TRY(cnn_save_write(save, header->data, header->length));
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++)
            if (is_stored(&model->nodes[i], role))
                CNN_TRY(write_values(save, &model->nodes[i].param[role]));
out:
    return status;
}

cnn_status cnn_safetensors_save(const cnn_model *model, const char *path, size_t *bytes)
{
    cnn_status status = CNN_OK;
    cnn_save save = {.fd = -1};
    cnn_text header = {0};
    if (cnn_model_is_quantized(model))
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "%s: not written: PyTorch has no names for INT8 weights; write the float model, or "
                 ".onnx",
                 path);
    status = cnn_model_check(model);
    if (status != CNN_OK)
        CNN_TRY(cnn_error_prefix(status, "%s: not written", path));
    put_header(&header, model);
    if (header.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_save_begin(&save, path));
    CNN_TRY(write_file(&save, model, &header));
    if (bytes)
        *bytes = save.bytes;
    CNN_TRY(cnn_save_commit(&save));
out:
    cnn_save_abort(&save);
    cnn_text_free(&header);
    return status;
}
