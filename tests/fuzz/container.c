/* .cnn files in parts, and together again. */
#include "container.h"

#include "core/crc32c.h"

#include <string.h>

/* ---- Apart ---- */

static uint64_t take(cnn_reader *r)
{
    return cnn_reader_varint(r, UINT64_MAX, "a number");
}

static fuzz_part take_part(cnn_reader *r, uint64_t bytes)
{
    const uint8_t *data = bytes <= r->end - r->at ? cnn_reader_take(r, (size_t)bytes, "bytes") : NULL;
    r->failed = r->failed || !data;
    return data ? fuzz_copy(data, (size_t)bytes) : (fuzz_part){0};
}

static void read_layer(cnn_reader *r, int number, fuzz_layer *layer)
{
    const uint64_t head = take(r);
    const cnn_layer_type *type = head >> 2 < 256 ? cnn_layer_by_id((unsigned)(head >> 2)) : NULL;
    layer->type = head >> 2;
    layer->has_inputs = head & CNN_NODE_INPUTS;
    layer->has_attrs = head & CNN_NODE_ATTRS;
    layer->input_count = number > 0;
    layer->input[0] = number - 1;
    if (layer->has_inputs) {
        layer->input_count = (int)cnn_reader_varint(r, CNN_MAX_INPUTS, "inputs");
        for (int i = 0; i < layer->input_count; i++)
            layer->input[i] = (int64_t)((uint64_t)number - take(r));
    }
    layer->mask = layer->has_attrs ? take(r) : 0;
    for (int i = 0; i < CNN_MAX_ATTRS && type; i++)
        if (layer->mask >> i & 1 && type->attr[i].name)
            layer->attr[i] = type->attr[i].type == CNN_ATTR_FLOAT ? cnn_reader_f64(r, "a float")
                                                                  : (double)cnn_reader_zigzag(r, "a number");
    r->failed = r->failed || !type;
}

static void read_graph(fuzz_container *c, cnn_reader *r)
{
    c->layer_count = (int)cnn_reader_varint(r, FUZZ_MOST_LAYERS / 2, "layers");
    for (int i = 0; i < c->layer_count && !r->failed; i++)
        read_layer(r, i, &c->layer[i]);
}

static void read_payload(cnn_reader *r, size_t size, size_t data_start, fuzz_payload *payload)
{
    const uint64_t head = take(r);
    payload->outside = head & 1;
    if (!payload->outside) {
        payload->part = take_part(r, head >> 1);
        return;
    }
    cnn_reader area = {.data = r->data, .at = data_start, .end = size, .path = r->path};
    const uint64_t offset = take(r);
    cnn_reader_u32(r, "a checksum");
    r->failed = r->failed || data_start > size || offset > size - data_start;
    if (r->failed)
        return;
    area.at += (size_t)offset;
    payload->part = take_part(&area, head >> 1);
    r->failed = area.failed;
}

static void read_tensor(cnn_reader *r, size_t size, size_t data_start, fuzz_tensor *t)
{
    t->layer = take(r);
    t->role = take(r);
    t->dtype = take(r);
    t->flags = take(r);
    t->structure = take(r);
    t->encoding = take(r);
    if (t->encoding != CNN_ENCODING_RAW)
        t->parameters = take_part(r, take(r));
    for (int i = 0; i < 4 && t->flags & CNN_TENSOR_DIMS; i++)
        t->dims[i] = take(r);
    read_payload(r, size, data_start, &t->values);
    if (t->flags & CNN_TENSOR_SCALES) {
        t->scale_encoding = take(r);
        read_payload(r, size, data_start, &t->scales);
    }
    if (t->flags & CNN_TENSOR_MASK_BITS)
        read_payload(r, size, data_start, &t->mask);
}

static void read_tensors(fuzz_container *c, cnn_reader *r, size_t size, size_t data_start)
{
    c->has_tensors = true;
    c->tensor_count = (int)cnn_reader_varint(r, FUZZ_MOST_TENSORS / 2, "tensors");
    for (int i = 0; i < c->tensor_count && !r->failed; i++)
        read_tensor(r, size, data_start, &c->tensor[i]);
}

/* Fields that come behind the graph, but are kept with its layers. */
static void read_of_layers(fuzz_container *c, cnn_reader *names, cnn_reader *scales)
{
    c->has_names = names->data;
    c->has_scales = scales->data;
    for (int i = 0; i < c->layer_count; i++) {
        if (c->has_names)
            c->layer[i].name = take_part(names, take(names));
        if (c->has_scales)
            c->layer[i].scale_code = take(scales);
        if (c->layer[i].scale_code == CNN_SCALE_F32)
            c->layer[i].scale = cnn_reader_f32(scales, "a scale");
    }
}

bool fuzz_container_read(fuzz_container *c, const uint8_t *data, size_t size)
{
    cnn_reader head = {.data = data, .at = CNN_FILE_MAGIC_BYTES, .end = size, .path = "mutated"};
    cnn_reader field[CNN_TAG_COUNT] = {{0}};
    memset(c, 0, sizeof *c);
    if (cnn_signature_here(data, size)) {
        size -= CNN_SIGNATURE_BYTES;
        c->signature = fuzz_copy(data + size, CNN_SIGNATURE_BYTES);
        head.end = size;
    }
    if (size < CNN_FILE_MAGIC_BYTES)
        return false;
    c->version = take(&head);
    const uint64_t bytes = cnn_reader_varint(&head, CNN_FILE_MAX_HEAD, "length");
    if (head.failed || bytes + 4 > size - head.at)
        return false;
    head.end = head.at + (size_t)bytes;
    const size_t data_start = (head.end + 4 + CNN_FILE_ALIGN - 1) / CNN_FILE_ALIGN * CNN_FILE_ALIGN;
    while (head.at < head.end && !head.failed && c->field_count < FUZZ_MOST_FIELDS / 2) {
        const uint64_t tag = cnn_reader_varint(&head, CNN_TAG_COUNT - 1, "tag");
        const uint64_t length = take(&head);
        const size_t start = head.at;
        fuzz_part value = take_part(&head, length);
        if (!head.failed)
            field[tag] = (cnn_reader){.data = data, .at = start, .end = head.at, .path = "mutated"};
        if (tag != CNN_TAG_GRAPH && tag != CNN_TAG_TENSORS && tag != CNN_TAG_NODE_NAMES && tag != CNN_TAG_OUT_SCALES)
            c->field[c->field_count++] = (fuzz_field){tag, value};
    }
    cnn_reader *graph = &field[CNN_TAG_GRAPH], *tensors = &field[CNN_TAG_TENSORS];
    cnn_reader *names = &field[CNN_TAG_NODE_NAMES], *scales = &field[CNN_TAG_OUT_SCALES];
    if (head.failed || head.at != head.end || !graph->data)
        return false;
    read_graph(c, graph);
    if (tensors->data)
        read_tensors(c, tensors, size, data_start);
    read_of_layers(c, names, scales);
    return c->layer_count > 0 && !graph->failed && !tensors->failed && !names->failed && !scales->failed;
}

/* ---- Together ---- */

static void write_layer(cnn_bytes *out, int number, const fuzz_layer *layer)
{
    const cnn_layer_type *type = layer->type < 256 ? cnn_layer_by_id((unsigned)layer->type) : NULL;
    cnn_bytes_put_varint(out, layer->type << 2 | (layer->has_attrs ? CNN_NODE_ATTRS : 0) |
                                  (layer->has_inputs ? CNN_NODE_INPUTS : 0));
    if (layer->has_inputs) {
        cnn_bytes_put_varint(out, (uint64_t)layer->input_count);
        for (int i = 0; i < layer->input_count; i++)
            cnn_bytes_put_varint(out, (uint64_t)number - (uint64_t)layer->input[i]);
    }
    if (!layer->has_attrs)
        return;
    cnn_bytes_put_varint(out, layer->mask);
    for (int i = 0; i < CNN_MAX_ATTRS; i++) {
        if (!(layer->mask >> i & 1))
            continue;
        if (type && type->attr[i].name && type->attr[i].type == CNN_ATTR_FLOAT)
            cnn_bytes_put_f64(out, layer->attr[i]);
        else
            cnn_bytes_put_zigzag(out, layer->attr[i] > -9e18 && layer->attr[i] < 9e18 ? (int64_t)layer->attr[i] : 0);
    }
}

static void write_payload(cnn_bytes *out, const fuzz_payload *payload, cnn_bytes *area)
{
    const fuzz_part *part = &payload->part;
    cnn_bytes_put_varint(out, (uint64_t)part->bytes << 1 | payload->outside);
    if (!payload->outside) {
        cnn_bytes_put(out, part->data, part->bytes);
        return;
    }
    while (area->length % CNN_FILE_ALIGN)
        cnn_bytes_put(area, "", 1);
    cnn_bytes_put_varint(out, area->length);
    cnn_bytes_put_u32(out, cnn_crc32c(0, part->data, part->bytes));
    cnn_bytes_put(area, part->data, part->bytes);
}

static void write_tensor(cnn_bytes *out, const fuzz_tensor *t, cnn_bytes *area)
{
    const uint64_t head[] = {t->layer, t->role, t->dtype, t->flags, t->structure, t->encoding};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        cnn_bytes_put_varint(out, head[i]);
    if (t->encoding != CNN_ENCODING_RAW) {
        cnn_bytes_put_varint(out, t->parameters.bytes);
        cnn_bytes_put(out, t->parameters.data, t->parameters.bytes);
    }
    for (int i = 0; i < 4 && t->flags & CNN_TENSOR_DIMS; i++)
        cnn_bytes_put_varint(out, t->dims[i]);
    write_payload(out, &t->values, area);
    if (t->flags & CNN_TENSOR_SCALES) {
        cnn_bytes_put_varint(out, t->scale_encoding);
        write_payload(out, &t->scales, area);
    }
    if (t->flags & CNN_TENSOR_MASK_BITS)
        write_payload(out, &t->mask, area);
}

static void write_own(const fuzz_container *c, cnn_file_tag tag, cnn_bytes *out, cnn_bytes *area)
{
    const uint64_t count = (uint64_t)(tag == CNN_TAG_GRAPH ? c->layer_count : c->tensor_count);
    if (tag == CNN_TAG_GRAPH || tag == CNN_TAG_TENSORS)
        cnn_bytes_put_varint(out, count);
    for (int i = 0; i < c->tensor_count && tag == CNN_TAG_TENSORS; i++)
        write_tensor(out, &c->tensor[i], area);
    for (int i = 0; i < c->layer_count && tag != CNN_TAG_TENSORS; i++) {
        const fuzz_layer *layer = &c->layer[i];
        if (tag == CNN_TAG_GRAPH)
            write_layer(out, i, layer);
        else if (tag == CNN_TAG_OUT_SCALES)
            cnn_bytes_put_varint(out, layer->scale_code);
        else
            cnn_bytes_put_varint(out, layer->name.bytes);
        if (tag == CNN_TAG_OUT_SCALES && layer->scale_code == CNN_SCALE_F32)
            cnn_bytes_put_f32(out, layer->scale);
        if (tag == CNN_TAG_NODE_NAMES)
            cnn_bytes_put(out, layer->name.data, layer->name.bytes);
    }
}

static void write_field(cnn_bytes *fields, uint64_t tag, const uint8_t *data, size_t bytes)
{
    cnn_bytes_put_varint(fields, tag);
    cnn_bytes_put_varint(fields, bytes);
    cnn_bytes_put(fields, data, bytes);
}

/* All fields in the order of their tags; those of one tag as they are. */
static void write_fields(const fuzz_container *c, cnn_bytes *fields, cnn_bytes *area)
{
    for (uint64_t tag = 0; tag < 2 * CNN_TAG_COUNT; tag++) {
        const bool own = tag == CNN_TAG_GRAPH || (tag == CNN_TAG_TENSORS && c->has_tensors) ||
                         (tag == CNN_TAG_NODE_NAMES && c->has_names) || (tag == CNN_TAG_OUT_SCALES && c->has_scales);
        cnn_bytes value = {0};
        if (own) {
            write_own(c, (cnn_file_tag)tag, &value, area);
            write_field(fields, tag, value.data, value.length);
        }
        for (int i = 0; i < c->field_count; i++)
            if (c->field[i].tag == tag)
                write_field(fields, tag, c->field[i].value.data, c->field[i].value.bytes);
        cnn_bytes_free(&value);
    }
}

void fuzz_container_write(const fuzz_container *c, cnn_bytes *file)
{
    cnn_bytes fields = {0}, area = {0};
    write_fields(c, &fields, &area);
    cnn_bytes_put(file, CNN_FILE_MAGIC, CNN_FILE_MAGIC_BYTES);
    cnn_bytes_put_varint(file, c->version);
    cnn_bytes_put_varint(file, fields.length);
    cnn_bytes_put(file, fields.data, fields.length);
    cnn_bytes_put_u32(file, cnn_crc32c(0, file->data, file->length));
    while (area.length && file->length % CNN_FILE_ALIGN)
        cnn_bytes_put(file, "", 1);
    cnn_bytes_put(file, area.data, area.length);
    cnn_bytes_put(file, c->signature.data, c->signature.bytes);
    cnn_bytes_free(&fields);
    cnn_bytes_free(&area);
}
