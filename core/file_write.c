/* Writing .cnn files (docs/format.md). The same model gives the same bytes. */
#include "core/file.h"

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_encoding.h"
#include "core/file_books.h"
#include "core/file_stream.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/save.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t align_up(size_t bytes)
{
    return (bytes + CNN_FILE_ALIGN - 1) / CNN_FILE_ALIGN * CNN_FILE_ALIGN;
}

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

/* ---- Tensors ---- */

/* Appends a payload to the table, or to the data area with a reference in the table. Takes over `owned`. */
static void put_part(cnn_file_image *image, cnn_bytes *table, const cnn_file_options *options, const void *data,
                     size_t bytes, void *owned)
{
    size_t in_head = options->pack == CNN_PACK_SMALLEST ? CNN_FILE_SMALLEST_INLINE : CNN_FILE_INLINE_BYTES;
    if (bytes < in_head) {
        cnn_bytes_put_varint(table, (uint64_t)bytes << 1);
        cnn_bytes_put(table, data, bytes);
        free(owned);
        return;
    }
    cnn_file_section *sections = cnn_realloc(image->sections, (size_t)image->section_count + 1, sizeof *sections);
    if (!sections) {
        table->failed = true;
        free(owned);
        return;
    }
    image->sections = sections;
    cnn_file_section *section = &sections[image->section_count++];
    *section = (cnn_file_section){.data = data, .bytes = bytes, .offset = align_up(image->data_bytes), .owned = owned};
    image->data_bytes = section->offset + bytes;
    cnn_bytes_put_varint(table, (uint64_t)bytes << 1 | 1);
    cnn_bytes_put_varint(table, section->offset);
    cnn_bytes_put_u32(table, cnn_crc32c(0, data, bytes));
}

/* True when the mask says no more than the zeros do. */
static bool mask_is_nonzero(const cnn_param *param)
{
    int64_t count = cnn_desc_elements(&param->desc);
    for (int64_t i = 0; i < count; i++)
        if (cnn_param_is_zero(param, i) != (param->mask[i] == 0))
            return false;
    return true;
}

static void put_mask(cnn_file_image *image, cnn_bytes *table, const cnn_file_options *options, const cnn_param *param)
{
    int64_t count = cnn_desc_elements(&param->desc);
    size_t bytes = (size_t)(count + 7) / 8;
    uint8_t *bits = cnn_calloc(bytes, 1);
    if (!bits) {
        table->failed = true;
        return;
    }
    for (int64_t i = 0; i < count; i++)
        if (param->mask[i])
            bits[i / 8] |= (uint8_t)(1u << (i % 8));
    put_part(image, table, options, bits, bytes, bits);
}

/* A tensor's values in the form that goes into the file; raw ones stay where they are. */
typedef struct coded_tensor {
    cnn_encoding encoding;
    cnn_bytes parameters, data;
} coded_tensor;

static void free_coded(coded_tensor *coded)
{
    cnn_bytes_free(&coded->parameters);
    cnn_bytes_free(&coded->data);
}

/* Codes the values in one way and takes that instead of `best` when it has fewer than `bytes` bytes, or as many in a
 * form that kernels take. */
static cnn_status try_coding(const cnn_param *param, cnn_encoding encoding, coded_tensor *best, size_t *bytes)
{
    const cnn_tensor_coding *coding = &cnn_tensor_codings[encoding];
    if (coding->size && coding->size(&param->desc, param->data) >= *bytes)
        return CNN_OK;
    coded_tensor made = {.encoding = encoding};
    cnn_status status = coding->encode(&param->desc, param->data, &made.parameters, &made.data);
    size_t size = made.parameters.length + made.data.length;
    if (status == CNN_OK && (size < *bytes || (coding->ready && size == *bytes))) {
        coded_tensor worse = *best;
        *best = made;
        made = worse;
        *bytes = size;
    }
    free_coded(&made);
    return status == CNN_ERR_SHAPE ? CNN_OK : status;
}

/* The smallest form that these options allow. What is too small for a section of its own is not worth coding, unless
 * every byte counts. */
static cnn_status choose_coding(const cnn_file_options *options, const cnn_param *param, coded_tensor *best)
{
    const size_t raw = cnn_desc_bytes(&param->desc);
    const bool smallest = options->pack == CNN_PACK_SMALLEST;
    *best = (coded_tensor){.encoding = CNN_ENCODING_RAW};
    if (!smallest && raw < CNN_FILE_INLINE_BYTES)
        return CNN_OK;
    /* Coded tensors have one byte more in the table: the length of their parameters. */
    size_t bytes = smallest ? raw - 1 : (3 * raw + 3) / 4;
    for (int e = 0; e < CNN_ENCODING_COUNT; e++) {
        const cnn_tensor_coding *coding = &cnn_tensor_codings[e];
        const bool allowed = options->pack == CNN_PACK_RAW ? coding->ready : coding->fast || smallest;
        if (!coding->encode || !coding->suits(&param->desc) || !allowed)
            continue;
        cnn_status status = try_coding(param, (cnn_encoding)e, best, &bytes);
        if (status != CNN_OK) {
            free_coded(best);
            return status;
        }
    }
    return CNN_OK;
}

/* Takes over the bytes of `coded`. */
static void put_values(cnn_file_image *image, cnn_bytes *table, const cnn_file_options *options, const cnn_param *param,
                       coded_tensor *coded)
{
    if (coded->encoding == CNN_ENCODING_RAW)
        put_part(image, table, options, param->data, cnn_desc_bytes(&param->desc), NULL);
    else
        put_part(image, table, options, coded->data.data, coded->data.length, coded->data.data);
    coded->data = (cnn_bytes){0};
}

static void put_tensor(cnn_file_image *image, cnn_bytes *table, const cnn_file_options *options, int node, int role,
                       const cnn_param *param)
{
    const cnn_tensor_desc *desc = &param->desc;
    assert(desc->c_pad == desc->c);
    uint64_t flags = options->pack == CNN_PACK_SMALLEST ? 0 : CNN_TENSOR_DIMS;
    if (param->scale)
        flags |= CNN_TENSOR_SCALES;
    if (param->mask)
        flags |= mask_is_nonzero(param) ? CNN_TENSOR_MASK_NONZERO : CNN_TENSOR_MASK_BITS;
    cnn_bytes_put_varint(table, (uint64_t)node);
    cnn_bytes_put_varint(table, (uint64_t)role);
    cnn_bytes_put_varint(table, (uint64_t)desc->dtype);
    cnn_bytes_put_varint(table, flags);
    cnn_bytes_put_varint(table, (uint64_t)desc->structure);
    coded_tensor coded;
    table->failed |= choose_coding(options, param, &coded) != CNN_OK;
    cnn_bytes_put_varint(table, coded.encoding);
    if (coded.encoding != CNN_ENCODING_RAW) {
        cnn_bytes_put_varint(table, coded.parameters.length);
        cnn_bytes_put(table, coded.parameters.data, coded.parameters.length);
    }
    if (flags & CNN_TENSOR_DIMS) {
        cnn_bytes_put_varint(table, (uint64_t)desc->n);
        cnn_bytes_put_varint(table, (uint64_t)desc->h);
        cnn_bytes_put_varint(table, (uint64_t)desc->w);
        cnn_bytes_put_varint(table, (uint64_t)desc->c);
    }
    put_values(image, table, options, param, &coded);
    free_coded(&coded);
    if (flags & CNN_TENSOR_SCALES) {
        cnn_bytes_put_varint(table, CNN_ENCODING_RAW);
        put_part(image, table, options, param->scale, (size_t)desc->n * sizeof(float), NULL);
    }
    if (flags & CNN_TENSOR_MASK_BITS)
        put_mask(image, table, options, param);
}

static void put_tensors(cnn_file_image *image, cnn_bytes *head, const cnn_file_options *options, const cnn_model *model)
{
    cnn_bytes table = {0};
    uint64_t count = 0;
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++)
            count += model->nodes[i].param[role].desc.dtype != CNN_NONE;
    cnn_bytes_put_varint(&table, count);
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            if (model->nodes[i].param[role].desc.dtype == CNN_NONE)
                continue;
            size_t in_head = table.length, in_data = image->data_bytes;
            put_tensor(image, &table, options, i, role, &model->nodes[i].param[role]);
            image->node_bytes[i] += table.length - in_head;
            if (image->data_bytes > in_data)
                image->node_bytes[i] += image->data_bytes - align_up(in_data);
        }
    put_field(head, CNN_TAG_TENSORS, &table);
}

/* ---- All parameters as one stream ---- */

/* What the parameters take as they are, with their scales. */
static size_t raw_bytes(const cnn_model *model)
{
    size_t bytes = 0;
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *param = &model->nodes[i].param[role];
            if (param->desc.dtype != CNN_NONE)
                bytes += cnn_desc_bytes(&param->desc) + (param->scale ? (size_t)param->desc.n * sizeof(float) : 0);
        }
    return bytes;
}

enum { FIELD_BYTES = 3 }; /* of its tag and length */

/* The stream of ranks takes the place of that of numbers where it is smaller, with its books. */
static cnn_status try_books(const cnn_model *model, cnn_bytes *stream, cnn_bytes *books, size_t *node_bytes)
{
    cnn_status status = CNN_OK;
    cnn_model *ranked = NULL;
    cnn_bytes ranks = {0};
    const size_t nodes = (size_t)model->node_count * sizeof *node_bytes;
    size_t *bytes = cnn_calloc(nodes, 1);
    if (!bytes)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_books_make(model, books, &ranked));
    if (ranked)
        CNN_TRY(cnn_stream_encode(ranked, &ranks, bytes));
    if (ranked && ranks.length + books->length + FIELD_BYTES < stream->length) {
        const cnn_bytes numbers = *stream;
        *stream = ranks;
        ranks = numbers;
        memcpy(node_bytes, bytes, nodes);
    } else {
        cnn_bytes_free(books);
    }
out:
    cnn_bytes_free(&ranks);
    cnn_model_free(ranked);
    free(bytes);
    return status;
}

/* Where every byte counts, and the stream can hold the model and makes it smaller. */
static cnn_status make_stream(const cnn_file_options *options, const cnn_model *model, cnn_bytes *stream,
                              cnn_bytes *books, size_t *node_bytes)
{
    cnn_status status = CNN_ERR_SHAPE;
    if (options->pack == CNN_PACK_SMALLEST && cnn_stream_suits(model))
        status = cnn_stream_encode(model, stream, node_bytes);
    if (status == CNN_OK)
        status = try_books(model, stream, books, node_bytes);
    if (status == CNN_OK && (stream->length >= raw_bytes(model) || stream->length > CNN_FILE_MAX_STREAM))
        status = CNN_ERR_SHAPE;
    if (status == CNN_ERR_SHAPE) {
        cnn_bytes_free(stream);
        cnn_bytes_free(books);
        memset(node_bytes, 0, (size_t)model->node_count * sizeof *node_bytes);
    }
    return status;
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
    cnn_bytes stream = {0}, books = {0};
    const cnn_status streamed = make_stream(options, model, &stream, &books, image->node_bytes);
    if (streamed == CNN_ERR_MEMORY)
        head->failed = true;
    if (streamed != CNN_OK)
        put_tensors(image, head, options, model);
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
    return image->section_count ? align_up(image->head.length) + image->data_bytes : image->head.length;
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
        status = cnn_save_write(save, zeros, align_up(save->bytes) - save->bytes);
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
