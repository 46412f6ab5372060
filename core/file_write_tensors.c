/* Parameters in .cnn files (docs/format.md): each tensor in the smallest form that the options allow, or all as one
 * stream. */
#include "core/file_write.h"

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_books.h"
#include "core/file_encoding.h"
#include "core/file_stream.h"
#include "core/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

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
    *section = (cnn_file_section){
        .data = data, .bytes = bytes, .offset = cnn_file_align_up(image->data_bytes), .owned = owned};
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

void cnn_file_put_tensors(cnn_file_image *image, cnn_bytes *table, const cnn_file_options *options,
                          const cnn_model *model)
{
    uint64_t count = 0;
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++)
            count += model->nodes[i].param[role].desc.dtype != CNN_NONE;
    cnn_bytes_put_varint(table, count);
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            if (model->nodes[i].param[role].desc.dtype == CNN_NONE)
                continue;
            size_t in_head = table->length, in_data = image->data_bytes;
            put_tensor(image, table, options, i, role, &model->nodes[i].param[role]);
            image->node_bytes[i] += table->length - in_head;
            if (image->data_bytes > in_data)
                image->node_bytes[i] += image->data_bytes - cnn_file_align_up(in_data);
        }
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

cnn_status cnn_file_make_stream(const cnn_file_options *options, const cnn_model *model, cnn_bytes *stream,
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
