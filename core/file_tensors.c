/* Reading the tensor table of a .cnn file.
 *
 * A payload lies in the table or in the data area: there it begins at a multiple of 64, after the one before it, with
 * zeros between, and has a CRC of its own. So every byte of the file is either checked or must be zero. */
#include "core/crc32c.h"
#include "core/error.h"
#include "core/file.h"
#include "core/file_encoding.h"
#include "core/memory.h"

#include <stdio.h>
#include <string.h>

/* One pass over the table. */
typedef struct table_reader {
    cnn_reader *r;
    size_t size;       /* of the file */
    size_t data_start; /* of the data area, in the file */
    size_t next;       /* end of the last section, from data_start */
    bool any_section;
    bool in_place;                  /* raw values may stay in the data area */
    char name[CNN_NAME_BYTES + 32]; /* of the tensor being read, "conv1.weight" */
} table_reader;

/* Checks a section that the table refers to; NULL on failure. */
static const uint8_t *open_section(table_reader *t, size_t bytes)
{
    cnn_reader *r = t->r;
    uint64_t offset = cnn_reader_varint(r, CNN_FILE_MAX_BYTES, "the offset of a tensor");
    uint32_t crc = cnn_reader_u32(r, "the checksum of a tensor");
    if (r->failed)
        return NULL;
    if (offset % CNN_FILE_ALIGN != 0 || offset < t->next || offset - t->next >= CNN_FILE_ALIGN) {
        cnn_reader_fail(r, "%s lies at offset %llu, not at the first multiple of %d after the tensor before it",
                        t->name, (unsigned long long)offset, CNN_FILE_ALIGN);
        return NULL;
    }
    /* offset <= next + 63 and next <= size - data_start, so this cannot overflow. */
    size_t start = t->data_start + (size_t)offset;
    if (start > t->size || bytes > t->size - start) {
        cnn_error(CNN_ERR_FORMAT,
                  "%s: byte %zu: is truncated: the file ends here, but %s needs %zu bytes from byte %zu; copy "
                  "it again",
                  r->path, t->size, t->name, bytes, start);
        r->failed = true;
        return NULL;
    }
    for (size_t i = t->data_start + t->next; i < start; i++)
        if (r->data[i] != 0) {
            r->at = i;
            cnn_reader_fail(r, "is not the zero that must fill the gap before %s", t->name);
            return NULL;
        }
    if (cnn_crc32c(0, r->data + start, bytes) != crc) {
        r->at = start;
        cnn_reader_fail(r, "the checksum of %s does not match: the file is damaged; copy it again", t->name);
        return NULL;
    }
    t->next = (size_t)offset + bytes;
    t->any_section = true;
    return r->data + start;
}

/* A payload of *bytes bytes, which lie in [least, most]; NULL on failure. */
static const uint8_t *read_between(table_reader *t, size_t least, size_t most, size_t *bytes)
{
    cnn_reader *r = t->r;
    uint64_t head = cnn_reader_varint(r, UINT64_MAX, "the length of a tensor");
    if (!r->failed && least == most && head >> 1 != most)
        cnn_reader_fail(r, "%s takes %llu bytes in the file, but its shape needs %zu", t->name,
                        (unsigned long long)(head >> 1), most);
    if (!r->failed && (head >> 1 < least || head >> 1 > most))
        cnn_reader_fail(r, "%s takes %llu bytes in the file, but its shape needs %zu to %zu", t->name,
                        (unsigned long long)(head >> 1), least, most);
    if (r->failed)
        return NULL;
    *bytes = (size_t)(head >> 1);
    return head & 1 ? open_section(t, *bytes) : cnn_reader_take(r, *bytes, t->name);
}

/* A payload that must have `bytes` bytes; NULL on failure. */
static const uint8_t *read_part(table_reader *t, size_t bytes)
{
    return read_between(t, bytes, bytes, &bytes);
}

static cnn_status copy_part(table_reader *t, size_t bytes, void **copy)
{
    const uint8_t *data = read_part(t, bytes);
    if (!data)
        return CNN_ERR_FORMAT;
    *copy = cnn_aligned_alloc(bytes);
    if (!*copy)
        return CNN_ERR_MEMORY;
    memcpy(*copy, data, bytes);
    return CNN_OK;
}

/* What a table entry says before its payloads. */
typedef struct tensor_head {
    uint64_t dtype, flags, structure;
    cnn_encoding encoding;
    const uint8_t *parameters; /* of the encoding */
    size_t parameter_bytes;
} tensor_head;

static cnn_status check_head(table_reader *t, const tensor_head *head, const cnn_param *param, cnn_param_role role)
{
    cnn_reader *r = t->r;
    if (param->desc.dtype == CNN_NONE)
        cnn_reader_fail(r, "holds %s, but the layer has no such parameter", t->name);
    else if (head->dtype != CNN_F32 && !(head->dtype == CNN_I8 && role == CNN_PARAM_WEIGHT) &&
             !(head->dtype == CNN_I32 && role == CNN_PARAM_BIAS))
        cnn_reader_fail(r, "%s has the element type %llu, which cnnkit %s does not take here", t->name,
                        (unsigned long long)head->dtype, cnn_version());
    else if (head->flags & ~(uint64_t)CNN_TENSOR_FLAGS)
        cnn_reader_fail(r, "%s has flags 0x%llX, of which cnnkit %s does not know all; install a newer cnnkit", t->name,
                        (unsigned long long)head->flags, cnn_version());
    else if ((head->dtype == CNN_I8) != ((head->flags & CNN_TENSOR_SCALES) != 0))
        cnn_reader_fail(r, "%s %s scales", t->name,
                        head->dtype == CNN_I8 ? "is i8 and lacks its" : "is not i8 but has");
    else if ((head->flags & CNN_TENSOR_MASK_BITS) && (head->flags & CNN_TENSOR_MASK_NONZERO))
        cnn_reader_fail(r, "%s has two masks", t->name);
    else if (head->structure >= CNN_STRUCTURE_COUNT)
        cnn_reader_fail(r, "%s has the structure %llu, which cnnkit %s does not know; install a newer cnnkit", t->name,
                        (unsigned long long)head->structure, cnn_version());
    return cnn_reader_status(r);
}

/* The way the values are coded, and its parameters. */
static void read_encoding(table_reader *t, tensor_head *head)
{
    cnn_reader *r = t->r;
    uint64_t encoding = cnn_reader_varint(r, UINT64_MAX, "the encoding of a tensor");
    bool known = encoding < CNN_ENCODING_COUNT && (encoding == CNN_ENCODING_RAW || cnn_tensor_codings[encoding].decode);
    if (!r->failed && !known)
        cnn_reader_fail(r,
                        "the values of %s are coded as %llu (%s), which cnnkit %s cannot read; install a newer cnnkit",
                        t->name, (unsigned long long)encoding,
                        encoding < CNN_ENCODING_COUNT ? cnn_tensor_codings[encoding].name : "unknown", cnn_version());
    if (r->failed || encoding == CNN_ENCODING_RAW)
        return;
    head->encoding = (cnn_encoding)encoding;
    head->parameter_bytes = (size_t)cnn_reader_varint(r, cnn_tensor_codings[encoding].most_parameters,
                                                      "the length of an encoding's parameters");
    head->parameters = cnn_reader_take(r, head->parameter_bytes, "an encoding's parameters");
}

/* Scales are raw. */
static void check_scale_encoding(table_reader *t)
{
    uint64_t encoding = cnn_reader_varint(t->r, UINT64_MAX, "the encoding of scales");
    if (!t->r->failed && encoding != CNN_ENCODING_RAW)
        cnn_reader_fail(t->r, "the scales of %s are coded as %llu, which cnnkit %s cannot read; install a newer cnnkit",
                        t->name, (unsigned long long)encoding, cnn_version());
}

/* Values in any form but raw. */
static cnn_status read_coded(table_reader *t, const tensor_head *head, const cnn_tensor_desc *desc, void **values)
{
    const cnn_tensor_coding *coding = &cnn_tensor_codings[head->encoding];
    cnn_coded coded = {.parameters = head->parameters, .parameter_bytes = head->parameter_bytes};
    const char *wrong = NULL;
    /* No way of coding needs more than this. */
    size_t most = cnn_desc_bytes(desc) + cnn_bitmap_bytes(cnn_desc_elements(desc));
    if (!coding->suits(desc)) {
        cnn_reader_fail(t->r, "the %s form is not for such values as those of %s", coding->name, t->name);
        return CNN_ERR_FORMAT;
    }
    coded.data = read_between(t, 0, most, &coded.bytes);
    if (!coded.data)
        return CNN_ERR_FORMAT;
    *values = cnn_aligned_alloc(cnn_desc_bytes(desc));
    cnn_status status = *values ? coding->decode(desc, &coded, *values, &wrong) : CNN_ERR_MEMORY;
    if (wrong)
        cnn_reader_fail(t->r, "the %s form of %s %s", coding->name, t->name, wrong);
    return wrong ? CNN_ERR_FORMAT : status;
}

static void read_dims(table_reader *t, const cnn_tensor_desc *want)
{
    int32_t dims[4];
    size_t start = t->r->at;
    for (int i = 0; i < 4; i++)
        dims[i] = (int32_t)cnn_reader_varint(t->r, INT32_MAX, "a dimension of a tensor");
    if (t->r->failed || (dims[0] == want->n && dims[1] == want->h && dims[2] == want->w && dims[3] == want->c))
        return;
    t->r->at = start;
    cnn_reader_fail(t->r, "%s is [%d,%d,%d,%d] in the file, but the layers before it ask for [%d,%d,%d,%d]", t->name,
                    dims[0], dims[1], dims[2], dims[3], want->n, want->h, want->w, want->c);
}

/* Sets param->mask from bits, or from the values. */
static cnn_status read_mask(table_reader *t, uint64_t flags, cnn_param *param)
{
    int64_t count = cnn_desc_elements(&param->desc);
    const uint8_t *bits = NULL;
    if (!(flags & (CNN_TENSOR_MASK_BITS | CNN_TENSOR_MASK_NONZERO)))
        return CNN_OK;
    if (flags & CNN_TENSOR_MASK_BITS) {
        bits = read_part(t, (size_t)(count + 7) / 8);
        if (!bits)
            return CNN_ERR_FORMAT;
        if (count % 8 && bits[count / 8] >> (count % 8) != 0) {
            cnn_reader_fail(t->r, "the mask of %s has bits beyond its end", t->name);
            return CNN_ERR_FORMAT;
        }
    }
    param->mask = cnn_aligned_alloc((size_t)count);
    if (!param->mask)
        return CNN_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++)
        param->mask[i] = bits ? bits[i / 8] >> (i % 8) & 1 : !cnn_param_is_zero(param, i);
    return CNN_OK;
}

enum { LEAST_IN_PLACE = 1 << 16 }; /* bytes: what is smaller shares its pages with the rest of the file */

/* Raw values: their place in the data area where that will do, else a copy. */
static cnn_status take_values(table_reader *t, const cnn_tensor_desc *desc, cnn_param *param)
{
    const size_t bytes = cnn_desc_bytes(desc);
    if (!t->in_place || bytes < LEAST_IN_PLACE)
        return copy_part(t, bytes, &param->data);
    const uint8_t *data = read_part(t, bytes);
    if (!data)
        return CNN_ERR_FORMAT;
    param->in_file = (uintptr_t)data % CNN_FILE_ALIGN == 0;
    if (param->in_file)
        param->data = (void *)(uintptr_t)data;
    else if ((param->data = cnn_aligned_alloc(bytes)) != NULL)
        memcpy(param->data, data, bytes);
    return param->data ? CNN_OK : CNN_ERR_MEMORY;
}

static cnn_status read_values(table_reader *t, const tensor_head *head, cnn_param *param)
{
    cnn_status status = CNN_OK;
    cnn_tensor_desc desc = param->desc;
    void *scale = NULL;
    desc.dtype = (cnn_dtype)head->dtype;
    desc.structure = (cnn_structure)head->structure;
    CNN_TRY(head->encoding == CNN_ENCODING_RAW ? take_values(t, &desc, param)
                                               : read_coded(t, head, &desc, &param->data));
    param->desc = desc;
    if (head->flags & CNN_TENSOR_SCALES) {
        check_scale_encoding(t);
        CNN_TRY(cnn_reader_status(t->r));
        CNN_TRY(copy_part(t, (size_t)desc.n * sizeof(float), &scale));
        param->scale = scale;
    }
    CNN_TRY(read_mask(t, head->flags, param));
out:
    return status;
}

/* One entry of the table. Entries ascend by (node, role): `last` holds the one before. */
static cnn_status read_tensor(table_reader *t, cnn_model *model, int *last)
{
    cnn_status status = CNN_OK;
    cnn_reader *r = t->r;
    int node = (int)cnn_reader_varint(r, (uint64_t)model->node_count - 1, "the layer of a tensor");
    int role = (int)cnn_reader_varint(r, CNN_PARAM_STORED - 1, "the role of a tensor");
    CNN_TRY(cnn_reader_status(r));
    cnn_param *param = &model->nodes[node].param[role];
    snprintf(t->name, sizeof t->name, "%s.%s", model->nodes[node].name, cnn_param_role_name((cnn_param_role)role));
    if (node * CNN_PARAM_STORED + role <= *last)
        cnn_reader_fail(r, "%s comes twice or out of order", t->name);
    *last = node * CNN_PARAM_STORED + role;
    tensor_head head = {0};
    head.dtype = cnn_reader_varint(r, UINT64_MAX, "the element type of a tensor");
    head.flags = cnn_reader_varint(r, UINT64_MAX, "the flags of a tensor");
    head.structure = cnn_reader_varint(r, UINT64_MAX, "the structure of a tensor");
    CNN_TRY(cnn_reader_status(r));
    CNN_TRY(check_head(t, &head, param, (cnn_param_role)role));
    read_encoding(t, &head);
    if (head.flags & CNN_TENSOR_DIMS)
        read_dims(t, &param->desc);
    CNN_TRY(cnn_reader_status(r));
    CNN_TRY(read_values(t, &head, param));
out:
    return status;
}

static cnn_status check_complete(cnn_reader *r, const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            const cnn_param *param = &model->nodes[i].param[role];
            if (param->desc.dtype != CNN_NONE && !param->data)
                cnn_reader_fail(r, "the file has no values for %s.%s", model->nodes[i].name,
                                cnn_param_role_name((cnn_param_role)role));
        }
    return cnn_reader_status(r);
}

cnn_status cnn_file_read_tensors(cnn_reader *table, size_t size, size_t data_start, bool in_place, cnn_model *model,
                                 size_t *file_end)
{
    cnn_status status = CNN_OK;
    table_reader t = {.r = table, .size = size, .data_start = data_start, .in_place = in_place};
    int last = -1;
    uint64_t count = cnn_reader_varint(table, (uint64_t)CNN_MAX_NODES * CNN_PARAM_STORED, "the number of tensors");
    CNN_TRY(cnn_reader_status(table));
    for (uint64_t i = 0; i < count; i++)
        CNN_TRY(read_tensor(&t, model, &last));
    CNN_TRY(cnn_reader_finish(table, "the table of tensors"));
    CNN_TRY(check_complete(table, model));
    *file_end = t.any_section ? data_start + t.next : 0;
out:
    return status;
}
