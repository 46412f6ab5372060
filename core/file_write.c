/* Writing .cnn files (docs/format.md). The same model gives the same bytes. */
#include "core/file_write.h"

#include "core/crc32c.h"
#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cnn_file_default_name(const cnn_model *model, const cnn_layer_type *type, int node, char name[CNN_NAME_BYTES])
{
    int number = 1;
    for (int i = 0; i < node; i++)
        number += model->nodes[i].type == type;
    if (type->id == CNN_LAYER_INPUT)
        snprintf(name, CNN_NAME_BYTES, "image");
    else
        snprintf(name, CNN_NAME_BYTES, "%.48s%d", type->name, number);
}

/* ---- Fields of the head ---- */

static void put_field(cnn_bytes *head, cnn_file_tag tag, cnn_bytes *value)
{
    cnn_bytes_put_varint(head, (uint64_t)tag);
    cnn_bytes_put_varint(head, value->length);
    cnn_bytes_put(head, value->data, value->length);
    head->failed |= value->failed;
    cnn_bytes_free(value);
}

static void put_text_field(cnn_bytes *head, cnn_file_tag tag, const char *text)
{
    cnn_bytes value = {0};
    cnn_bytes_put(&value, text, strlen(text));
    put_field(head, tag, &value);
}

static void put_varint_field(cnn_bytes *head, cnn_file_tag tag, uint64_t number)
{
    cnn_bytes value = {0};
    cnn_bytes_put_varint(&value, number);
    put_field(head, tag, &value);
}

static void put_augmentation(cnn_bytes *head, const cnn_model *model)
{
    cnn_bytes value = {0};
    cnn_bytes_put_f64(&value, model->augment);
    cnn_bytes_put(&value, model->augmentation, strlen(model->augmentation));
    put_field(head, CNN_TAG_AUGMENTATION, &value);
}

/* Names, 0 bytes for one that is the default; no field when all are. */
static void put_node_names(cnn_bytes *head, const cnn_model *model)
{
    cnn_bytes value = {0};
    bool any = false;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        char standard[CNN_NAME_BYTES];
        cnn_file_default_name(model, node->type, i, standard);
        size_t length = strcmp(node->name, standard) == 0 ? 0 : strlen(node->name);
        cnn_bytes_put_varint(&value, length);
        cnn_bytes_put(&value, node->name, length);
        any |= length > 0;
    }
    if (any)
        put_field(head, CNN_TAG_NODE_NAMES, &value);
    cnn_bytes_free(&value);
}

static void put_class_names(cnn_bytes *head, const cnn_model *model)
{
    cnn_bytes value = {0};
    for (int32_t i = 0; i < cnn_model_output(model).c; i++) {
        size_t length = strlen(model->class_names[i]);
        cnn_bytes_put_varint(&value, length);
        cnn_bytes_put(&value, model->class_names[i], length);
    }
    put_field(head, CNN_TAG_CLASS_NAMES, &value);
}

static void put_attrs(cnn_bytes *value, const cnn_node *node, uint64_t mask)
{
    cnn_bytes_put_varint(value, mask);
    for (int i = 0; i < CNN_MAX_ATTRS; i++) {
        if (!(mask >> i & 1))
            continue;
        if (node->type->attr[i].type == CNN_ATTR_FLOAT)
            cnn_bytes_put_f64(value, node->attr[i]);
        else
            cnn_bytes_put_zigzag(value, (int64_t)node->attr[i]);
    }
}

static void put_node(cnn_bytes *value, const cnn_node *node, int number)
{
    const cnn_attr_spec *spec = node->type->attr;
    uint64_t mask = 0, flags = 0;
    for (int i = 0; i < CNN_MAX_ATTRS && spec[i].name; i++)
        if (spec[i].required || node->attr[i] != spec[i].standard)
            mask |= (uint64_t)1 << i;
    if (number > 0 && (node->input_count != 1 || node->input[0] != number - 1))
        flags |= CNN_NODE_INPUTS;
    if (mask)
        flags |= CNN_NODE_ATTRS;
    cnn_bytes_put_varint(value, (uint64_t)node->type->id << CNN_NODE_FLAG_BITS | flags);
    if (flags & CNN_NODE_INPUTS) {
        cnn_bytes_put_varint(value, (uint64_t)node->input_count);
        for (int i = 0; i < node->input_count; i++)
            cnn_bytes_put_varint(value, (uint64_t)(number - node->input[i]));
    }
    if (flags & CNN_NODE_ATTRS)
        put_attrs(value, node, mask);
}

static void put_graph(cnn_bytes *head, const cnn_model *model)
{
    cnn_bytes value = {0};
    cnn_bytes_put_varint(&value, (uint64_t)model->node_count);
    for (int i = 0; i < model->node_count; i++)
        put_node(&value, &model->nodes[i], i);
    put_field(head, CNN_TAG_GRAPH, &value);
}

static void put_out_scales(cnn_bytes *head, const cnn_model *model)
{
    cnn_bytes value = {0};
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        if (node->out_scale == 0.0f) {
            cnn_bytes_put_varint(&value, CNN_SCALE_NONE);
        } else if (node->input_count > 0 && node->out_scale == model->nodes[node->input[0]].out_scale) {
            cnn_bytes_put_varint(&value, CNN_SCALE_AS_INPUT);
        } else {
            cnn_bytes_put_varint(&value, CNN_SCALE_F32);
            cnn_bytes_put_f32(&value, node->out_scale);
        }
    }
    put_field(head, CNN_TAG_OUT_SCALES, &value);
}

/* Values of as many channels as differ from the one before; the last goes for the rest. */
static void put_normalization(cnn_bytes *head, const cnn_normalization *normalization)
{
    const float *mean = normalization->mean, *std = normalization->std;
    int count = 4;
    while (count > 1 && mean[count - 1] == mean[count - 2] && std[count - 1] == std[count - 2])
        count--;
    if (count == 1 && mean[0] == 0.5f && std[0] == 0.5f)
        return;
    cnn_bytes value = {0};
    cnn_bytes_put_varint(&value, CNN_NORMALIZATION_CUSTOM);
    cnn_bytes_put_varint(&value, (uint64_t)count);
    for (int c = 0; c < count; c++) {
        cnn_bytes_put_f32(&value, mean[c]);
        cnn_bytes_put_f32(&value, std[c]);
    }
    put_field(head, CNN_TAG_NORMALIZATION, &value);
}

/* ---- The file ---- */

static void put_fields(cnn_file_image *image, cnn_bytes *head, const cnn_file_options *options, const cnn_model *model)
{
    if (model->name[0] && options->pack != CNN_PACK_SMALLEST)
        put_text_field(head, CNN_TAG_NAME, model->name);
    if (model->dataset != CNN_DATASET_NONE)
        put_varint_field(head, CNN_TAG_DATASET, model->dataset);
    if (model->split_seed != CNN_SPLIT_SEED)
        put_varint_field(head, CNN_TAG_SPLIT_SEED, model->split_seed);
    if (model->text && options->pack != CNN_PACK_SMALLEST)
        put_text_field(head, CNN_TAG_TEXT, model->text);
    if (options->pack != CNN_PACK_SMALLEST)
        put_node_names(head, model);
    if (model->class_names)
        put_class_names(head, model);
    if (model->preparation != CNN_PREPARE_UNKNOWN)
        put_varint_field(head, CNN_TAG_PREPARATION, model->preparation);
    if (model->augment > 0 && options->pack != CNN_PACK_SMALLEST)
        put_augmentation(head, model);
    if (model->softmax)
        put_varint_field(head, CNN_TAG_SOFTMAX, 1);
    put_graph(head, model);
    cnn_bytes stream = {0}, books = {0}, tensors = {0};
    const cnn_status streamed = cnn_file_make_stream(options, model, &stream, &books, image->node_bytes);
    if (streamed == CNN_ERR_MEMORY)
        head->failed = true;
    if (streamed != CNN_OK) {
        cnn_file_put_tensors(image, &tensors, options, model);
        put_field(head, CNN_TAG_TENSORS, &tensors);
    }
    if (streamed != CNN_OK && cnn_model_is_quantized(model))
        put_out_scales(head, model);
    put_normalization(head, &model->normalization);
    if (streamed == CNN_OK)
        put_field(head, CNN_TAG_STREAM, &stream);
    if (streamed == CNN_OK && books.length > 0)
        put_field(head, CNN_TAG_BOOKS, &books);
    cnn_bytes_free(&stream);
    cnn_bytes_free(&books);
}

cnn_status cnn_file_encode(const cnn_model *model, const cnn_file_options *options, cnn_file_image *image)
{
    cnn_status status = CNN_OK;
    cnn_bytes fields = {0};
    *image = (cnn_file_image){0};
    CNN_TRY(cnn_model_check(model));
    image->node_bytes = cnn_calloc((size_t)model->node_count, sizeof *image->node_bytes);
    if (!image->node_bytes)
        CNN_TRY(CNN_ERR_MEMORY);
    if (model->text && strlen(model->text) > CNN_FILE_MAX_TEXT)
        CNN_FAIL(CNN_ERR_SHAPE, "the model's free text is longer than %d bytes", CNN_FILE_MAX_TEXT);
    put_fields(image, &fields, options, model);
    if (!fields.failed && fields.length > CNN_FILE_MAX_HEAD)
        CNN_FAIL(CNN_ERR_SHAPE, "the head of the file would take %zu bytes; at most %d are allowed", fields.length,
                 CNN_FILE_MAX_HEAD);
    cnn_bytes_put(&image->head, CNN_FILE_MAGIC, CNN_FILE_MAGIC_BYTES);
    cnn_bytes_put_varint(&image->head, CNN_FILE_VERSION);
    cnn_bytes_put_varint(&image->head, fields.length);
    cnn_bytes_put(&image->head, fields.data, fields.length);
    if (fields.failed || image->head.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    cnn_bytes_put_u32(&image->head, cnn_crc32c(0, image->head.data, image->head.length));
    if (image->head.failed)
        CNN_TRY(CNN_ERR_MEMORY);
out:
    cnn_bytes_free(&fields);
    if (status != CNN_OK)
        cnn_file_image_free(image);
    return status;
}

size_t cnn_file_image_bytes(const cnn_file_image *image)
{
    return image->section_count ? cnn_file_align_up(image->head.length) + image->data_bytes : image->head.length;
}

void cnn_file_image_free(cnn_file_image *image)
{
    for (int i = 0; i < image->section_count; i++)
        free(image->sections[i].owned);
    free(image->sections);
    free(image->node_bytes);
    cnn_bytes_free(&image->head);
    *image = (cnn_file_image){0};
}

static cnn_status write_image(cnn_save *save, const cnn_file_image *image)
{
    static const uint8_t zeros[CNN_FILE_ALIGN];
    cnn_status status = cnn_save_write(save, image->head.data, image->head.length);
    for (int i = 0; status == CNN_OK && i < image->section_count; i++) {
        const cnn_file_section *section = &image->sections[i];
        status = cnn_save_write(save, zeros, cnn_file_align_up(save->bytes) - save->bytes);
        if (status == CNN_OK)
            status = cnn_save_write(save, section->data, section->bytes);
    }
    return status;
}

cnn_status cnn_file_to_memory(const cnn_model *model, const cnn_file_options *options, uint8_t **data, size_t *size)
{
    cnn_file_image image;
    cnn_status status = cnn_file_encode(model, options, &image);
    if (status != CNN_OK)
        return status;
    const size_t bytes = cnn_file_image_bytes(&image);
    uint8_t *made = cnn_calloc(bytes, 1);
    if (made) {
        memcpy(made, image.head.data, image.head.length);
        for (int i = 0; i < image.section_count; i++)
            memcpy(made + (bytes - image.data_bytes) + image.sections[i].offset, image.sections[i].data,
                   image.sections[i].bytes);
        *data = made;
        *size = bytes;
    }
    cnn_file_image_free(&image);
    return made ? CNN_OK : CNN_ERR_MEMORY;
}

cnn_status cnn_file_save(const cnn_model *model, const cnn_file_options *options, const char *path, size_t *bytes)
{
    cnn_status status = CNN_OK;
    cnn_save save = {.fd = -1};
    cnn_file_image image = {0};
    status = cnn_file_encode(model, options, &image);
    if (status != CNN_OK)
        return cnn_error_prefix(status, "%s: not written", path);
    CNN_TRY(cnn_save_begin(&save, path));
    CNN_TRY(write_image(&save, &image));
    CNN_TRY(cnn_save_commit(&save));
    if (bytes)
        *bytes = cnn_file_image_bytes(&image);
out:
    cnn_save_abort(&save);
    cnn_file_image_free(&image);
    return status;
}

cnn_status cnn_model_save_packed(const cnn_model *model, const char *path, cnn_pack pack, size_t *bytes)
{
    return cnn_file_save(model, &(cnn_file_options){.pack = pack}, path, bytes);
}

cnn_status cnn_model_save(const cnn_model *model, const char *path, size_t *bytes)
{
    return cnn_model_save_packed(model, path, CNN_PACK_AUTO, bytes);
}
