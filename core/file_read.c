/* Reading .cnn files (docs/format.md): the head, the graph and what is known about the data.
 *
 * Order: magic, version, length and CRC of the head; then the fields, the graph first; then shapes; then tensors
 * (core/file_tensors.c), each checked against its CRC before it is copied; then the values themselves. */
#include "core/file_read.h"

#include "core/crc32c.h"
#include "core/error.h"
#include "core/file_books.h"
#include "core/file_stream.h"
#include "core/input_file.h"
#include "core/layers.h"
#include "core/sign.h"

#include <string.h>

/* ---- Before the fields ---- */

/* Files that people mistake for models, by their first bytes. */
static const char *kind_of_file(const uint8_t *data, size_t size)
{
    static const struct {
        const char *magic;
        size_t bytes;
        const char *kind;
    } kinds[] = {
        {"\x89PNG", 4, "a PNG picture"},
        {"\xFF\xD8\xFF", 3, "a JPEG picture"},
        {"\x1F\x8B", 2, "a gzip file"},
        {"\xFD"
         "7zXZ",
         5, "an xz file"},
        {"PK\x03\x04", 4, "a ZIP archive (PyTorch saves such files)"},
        {"\x7F"
         "ELF",
         4, "a program"},
        {"\x93NUMPY", 6, "a NumPy array"},
        {"\x89HDF", 4, "an HDF5 file"},
        {"\x00\x00\x08", 3, "an IDX data file"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (size >= kinds[i].bytes && memcmp(data, kinds[i].magic, kinds[i].bytes) == 0)
            return kinds[i].kind;
    for (size_t i = 0; i < size && i < 64; i++)
        if (data[i] != '\n' && data[i] != '\r' && data[i] != '\t' && (data[i] < 0x20 || data[i] > 0x7E))
            return "something else";
    return "text (a .cfg description goes to cnn-train --model)";
}

static cnn_status check_magic(const uint8_t *data, size_t size, const char *path)
{
    if (size == 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: is empty; train a model anew or copy it again", path);
    size_t known = size < CNN_FILE_MAGIC_BYTES ? size : CNN_FILE_MAGIC_BYTES;
    if (memcmp(data, CNN_FILE_MAGIC, known) != 0)
        return cnn_error(CNN_ERR_FORMAT,
                         "%s: byte 0: is not a cnnkit model but %s; give a file that cnn-train or cnn-opt "
                         "wrote",
                         path, kind_of_file(data, size));
    if (known < CNN_FILE_MAGIC_BYTES)
        return cnn_error(CNN_ERR_FORMAT, "%s: is truncated: it has only %zu bytes; copy it again", path, size);
    return CNN_OK;
}

/* Sets the reader to the fields of the head, which are whole then. */
static cnn_status open_head(cnn_reader *reader, const uint8_t *data, size_t size, const char *path)
{
    cnn_status status = CNN_OK;
    *reader = (cnn_reader){.data = data, .at = CNN_FILE_MAGIC_BYTES, .end = size, .path = path};
    CNN_TRY(check_magic(data, size, path));
    uint64_t version = cnn_reader_varint(reader, UINT64_MAX, "the format version");
    CNN_TRY(cnn_reader_status(reader));
    if (version != CNN_FILE_VERSION)
        CNN_FAIL(CNN_ERR_FORMAT, "%s: byte %d: is in format version %llu, but this cnnkit %s reads version %d; %s",
                 path, CNN_FILE_MAGIC_BYTES, (unsigned long long)version, cnn_version(), CNN_FILE_VERSION,
                 version > CNN_FILE_VERSION ? "install a newer cnnkit" : "the file is damaged, copy it again");
    uint64_t bytes = cnn_reader_varint(reader, CNN_FILE_MAX_HEAD, "the length of the head");
    CNN_TRY(cnn_reader_status(reader));
    size_t left = size - reader->at;
    if (left < bytes + 4)
        CNN_FAIL(CNN_ERR_FORMAT,
                 "%s: byte %zu: is truncated: the file ends here, but its head goes on to byte %zu; copy it "
                 "again",
                 path, size, reader->at + (size_t)bytes + 4);
    reader->end = reader->at + (size_t)bytes;
    cnn_reader sum = {.data = data, .at = reader->end, .end = reader->end + 4, .path = path};
    if (cnn_reader_u32(&sum, "the checksum") != cnn_crc32c(0, data, reader->end))
        CNN_FAIL(CNN_ERR_FORMAT,
                 "%s: byte %zu: the checksum of the head does not match: the file is damaged; copy it again", path,
                 reader->end);
out:
    return status;
}

/* Where each field lies. */
static cnn_status find_fields(cnn_reader *head, cnn_reader field[CNN_TAG_COUNT])
{
    uint64_t last = 0;
    while (head->at < head->end && !head->failed) {
        uint64_t tag = cnn_reader_varint(head, CNN_TAG_COUNT - 1, "a field's tag");
        uint64_t bytes = cnn_reader_varint(head, CNN_FILE_MAX_HEAD, "a field's length");
        size_t start = head->at;
        if (!head->failed && tag <= last)
            cnn_reader_fail(head, "field %llu follows field %llu; fields must ascend", (unsigned long long)tag,
                            (unsigned long long)last);
        if (!head->failed && tag > CNN_TAG_LAST)
            cnn_reader_fail(head,
                            "holds a field %llu that must be understood and is not known to cnnkit %s; install a newer "
                            "cnnkit",
                            (unsigned long long)tag, cnn_version());
        if (!cnn_reader_take(head, (size_t)bytes, "a field"))
            break;
        field[tag] = (cnn_reader){.data = head->data, .at = start, .end = head->at, .path = head->path};
        last = tag;
    }
    const bool stream = field[CNN_TAG_STREAM].data;
    if (!head->failed && (!field[CNN_TAG_GRAPH].data || !(field[CNN_TAG_TENSORS].data || stream)))
        cnn_reader_fail(head, "the file has no %s", field[CNN_TAG_GRAPH].data ? "table of tensors" : "graph");
    if (!head->failed && stream && (field[CNN_TAG_TENSORS].data || field[CNN_TAG_OUT_SCALES].data))
        cnn_reader_fail(head, "the file has a stream of parameters, and tensors or scales beside it");
    if (!head->failed && !stream && field[CNN_TAG_BOOKS].data)
        cnn_reader_fail(head, "the file has codebooks and no stream of parameters");
    return cnn_reader_status(head);
}

/* ---- The graph ---- */

static void read_attrs(cnn_reader *r, const cnn_layer_type *type, double attr[CNN_MAX_ATTRS])
{
    int known = 0;
    while (known < CNN_MAX_ATTRS && type->attr[known].name)
        known++;
    size_t start = r->at;
    uint64_t mask = cnn_reader_varint(r, UINT64_MAX, "the attributes that follow");
    if (!r->failed && mask >> known != 0) {
        r->at = start;
        cnn_reader_fail(r, "a layer of type %s has attributes that cnnkit %s does not know; install a newer cnnkit",
                        type->name, cnn_version());
    }
    for (int i = 0; i < known && !r->failed; i++) {
        if (!(mask >> i & 1)) {
            if (type->attr[i].required)
                cnn_reader_fail(r, "a layer of type %s lacks its attribute %s", type->name, type->attr[i].name);
            continue;
        }
        if (type->attr[i].type == CNN_ATTR_FLOAT)
            attr[i] = cnn_reader_f64(r, "an attribute");
        else
            attr[i] = (double)cnn_reader_zigzag(r, "an attribute");
    }
}

/* The node's name: from the field of names if there is one and it has one, else the default. */
static void read_name(cnn_reader *names, const cnn_model *model, const cnn_layer_type *type, char name[CNN_NAME_BYTES])
{
    cnn_file_default_name(model, type, model->node_count, name);
    if (!names->data)
        return;
    size_t length = (size_t)cnn_reader_varint(names, CNN_NAME_BYTES - 1, "the length of a layer's name");
    const uint8_t *text = cnn_reader_take(names, length, "a layer's name");
    if (text && length > 0) {
        memcpy(name, text, length);
        name[length] = '\0';
    }
    if (text && strlen(name) < length)
        cnn_reader_fail(names, "a layer's name holds a zero byte");
}

static cnn_status read_node(cnn_reader *r, cnn_reader *names, cnn_model *model)
{
    size_t start = r->at;
    uint64_t head = cnn_reader_varint(r, UINT64_MAX, "a layer");
    const cnn_layer_type *type =
        head >> CNN_NODE_FLAG_BITS <= 255 ? cnn_layer_by_id((unsigned)(head >> CNN_NODE_FLAG_BITS)) : NULL;
    if (!r->failed && !type) {
        r->at = start;
        cnn_reader_fail(r, "layer %d is of type %llu, which cnnkit %s does not know; install a newer cnnkit",
                        model->node_count, (unsigned long long)(head >> CNN_NODE_FLAG_BITS), cnn_version());
    }
    if (r->failed)
        return CNN_ERR_FORMAT;
    int input[CNN_MAX_INPUTS] = {model->node_count - 1}, count = model->node_count > 0;
    double attr[CNN_MAX_ATTRS] = {0};
    for (int i = 0; i < CNN_MAX_ATTRS && type->attr[i].name; i++)
        attr[i] = type->attr[i].standard;
    if (head & CNN_NODE_INPUTS) {
        count = (int)cnn_reader_varint(r, CNN_MAX_INPUTS, "the number of a layer's inputs");
        for (int i = 0; i < count; i++)
            input[i] = model->node_count - (int)cnn_reader_varint(r, CNN_MAX_NODES, "a layer's input");
    }
    if (head & CNN_NODE_ATTRS)
        read_attrs(r, type, attr);
    else
        for (int i = 0; i < CNN_MAX_ATTRS && type->attr[i].name; i++)
            if (type->attr[i].required)
                cnn_reader_fail(r, "a layer of type %s lacks its attributes", type->name);
    char name[CNN_NAME_BYTES];
    read_name(names, model, type, name);
    if (r->failed || names->failed)
        return CNN_ERR_FORMAT;
    int node = cnn_model_add(model, type, name, input, count, attr);
    if (node == -(int)CNN_ERR_MEMORY)
        return CNN_ERR_MEMORY;
    return node >= 0 ? CNN_OK : cnn_error_prefix(CNN_ERR_FORMAT, "%s: byte %zu: layer '%s'", r->path, start, name);
}

static cnn_status read_graph(cnn_reader *r, cnn_reader *names, cnn_model *model)
{
    cnn_status status = CNN_OK;
    int count = (int)cnn_reader_varint(r, CNN_MAX_NODES, "the number of layers");
    CNN_TRY(cnn_reader_status(r));
    for (int i = 0; i < count; i++)
        CNN_TRY(read_node(r, names, model));
    CNN_TRY(cnn_reader_finish(r, "the graph"));
    CNN_TRY(cnn_reader_finish(names, "the field of names"));
    CNN_TRY(cnn_model_infer_shapes(model, r->path));
out:
    return status;
}

/* ---- The whole ---- */

static cnn_status check_end(size_t size, size_t file_end, const char *path)
{
    if (size == file_end)
        return CNN_OK;
    return cnn_error(CNN_ERR_FORMAT,
                     "%s: byte %zu: the model ends here, but %zu more bytes follow; the file is damaged", path,
                     file_end, size - file_end);
}

/* A model without values, from the head, which ends at *head_end. */
static cnn_status read_head(const uint8_t *data, size_t size, const char *path, cnn_reader field[CNN_TAG_COUNT],
                            size_t *head_end, cnn_model **model)
{
    cnn_status status = CNN_OK;
    cnn_reader head;
    cnn_model *made = NULL;
    CNN_TRY(open_head(&head, data, size, path));
    *head_end = head.end + 4;
    CNN_TRY(find_fields(&head, field));
    made = cnn_model_new();
    if (!made)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(read_graph(&field[CNN_TAG_GRAPH], &field[CNN_TAG_NODE_NAMES], made));
    CNN_TRY(cnn_file_read_facts(field, made));
    *model = made;
    made = NULL;
out:
    cnn_model_free(made);
    return status;
}

static cnn_status decode(const uint8_t *data, size_t size, const char *path, bool in_place, cnn_model **model)
{
    cnn_status status = CNN_OK;
    cnn_reader field[CNN_TAG_COUNT] = {{0}};
    size_t head_end, file_end = 0;
    cnn_model *made = NULL;
    const bool is_signed = cnn_signature_here(data, size);
    size -= is_signed ? CNN_SIGNATURE_BYTES : 0;
    CNN_TRY(read_head(data, size, path, field, &head_end, &made));
    made->is_signed = is_signed;
    size_t data_start = (head_end + CNN_FILE_ALIGN - 1) / CNN_FILE_ALIGN * CNN_FILE_ALIGN;
    for (size_t i = head_end; i < data_start && i < size; i++)
        if (data[i] != 0)
            CNN_FAIL(CNN_ERR_FORMAT, "%s: byte %zu: is not the zero that must fill the gap after the head", path, i);
    if (field[CNN_TAG_STREAM].data)
        CNN_TRY(cnn_stream_decode(&field[CNN_TAG_STREAM], made));
    else
        CNN_TRY(cnn_file_read_tensors(&field[CNN_TAG_TENSORS], size, data_start, in_place, made, &file_end));
    if (field[CNN_TAG_BOOKS].data) {
        CNN_TRY(cnn_books_read(&field[CNN_TAG_BOOKS], made));
        CNN_TRY(cnn_reader_finish(&field[CNN_TAG_BOOKS], "the field of codebooks"));
    }
    CNN_TRY(check_end(size, file_end ? file_end : head_end, path));
    status = cnn_model_check(made);
    if (status != CNN_OK)
        CNN_TRY(cnn_error_prefix(status, "%s", path));
    *model = made;
    made = NULL;
out:
    cnn_model_free(made);
    return status;
}

cnn_status cnn_file_decode(const uint8_t *data, size_t size, const char *path, cnn_model **model)
{
    return decode(data, size, path, false, model);
}

static cnn_status open_file(cnn_input_file *file, const char *path)
{
    return cnn_input_open(file, path, "a model that cnn-train or cnn-opt wrote", CNN_FILE_MAX_BYTES);
}

cnn_status cnn_model_load(const char *path, cnn_model **model)
{
    cnn_input_file file = {0};
    cnn_status status = open_file(&file, path);
    if (status == CNN_OK)
        status = decode(file.data, file.size, path, false, model);
    cnn_input_close(&file);
    return status;
}

cnn_status cnn_model_open(const char *path, cnn_model **model)
{
    cnn_input_file file = {0};
    cnn_status status = open_file(&file, path);
    if (status == CNN_OK)
        status = decode(file.data, file.size, path, true, model);
    if (status != CNN_OK) {
        cnn_input_close(&file);
        return status;
    }
    (*model)->file = file;
    return status;
}

cnn_status cnn_file_form(const char *path, cnn_image_form *form)
{
    cnn_input_file file = {0};
    cnn_reader field[CNN_TAG_COUNT] = {{0}};
    cnn_model *model = NULL;
    size_t head_end;
    cnn_status status = open_file(&file, path);
    if (status == CNN_OK)
        status = read_head(file.data, file.size, path, field, &head_end, &model);
    if (status == CNN_OK)
        *form = cnn_model_form(model);
    cnn_model_free(model);
    cnn_input_close(&file);
    return status;
}
