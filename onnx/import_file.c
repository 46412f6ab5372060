/* Weights that lie in a file beside the ONNX file, as torch.onnx writes them for large models. */
#include "core/error.h"
#include "core/input_file.h"
#include "core/memory.h"
#include "onnx/import.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_FILES = 64 };

struct cnn_onnx_external {
    cnn_input_file file[MOST_FILES];
    const char *location[MOST_FILES];
    int count;
};

/* "12345" */
static cnn_status read_number(const char *key, const char *text, uint64_t *number)
{
    char shown[96];
    *number = 0;
    for (const char *c = text; *c; c++) {
        if (*c < '0' || *c > '9' || *number > (UINT64_MAX >> 1) / 10)
            return cnn_error(CNN_ERR_FORMAT, "lies in another file at the %s '%s', which is no number", key,
                             cnn_onnx_shown(text, shown));
        *number = *number * 10 + (uint64_t)(*c - '0');
    }
    return CNN_OK;
}

/* A file name without any folder: nobody's model reads files elsewhere. */
static bool is_plain_name(const char *location)
{
    return *location && !strchr(location, '/') && !strchr(location, '\\') && strcmp(location, ".") != 0 &&
           strcmp(location, "..") != 0;
}

static cnn_status open_beside(cnn_onnx_import *import, const char *location, const cnn_input_file **file)
{
    char shown[96];
    if (!is_plain_name(location))
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "lies in the file '%s'; only a file in the folder of the ONNX file is read",
                         cnn_onnx_shown(location, shown));
    if (!import->external && !(import->external = cnn_calloc(1, sizeof *import->external)))
        return CNN_ERR_MEMORY;
    struct cnn_onnx_external *external = import->external;
    for (int i = 0; i < external->count; i++)
        if (strcmp(external->location[i], location) == 0) {
            *file = &external->file[i];
            return CNN_OK;
        }
    if (external->count == MOST_FILES)
        return cnn_error(CNN_ERR_FORMAT, "lies in one of more than %d files", MOST_FILES);
    const char *slash = strrchr(import->path, '/');
    char *path = cnn_format("%.*s%s", slash ? (int)(slash + 1 - import->path) : 0, import->path, location);
    if (!path)
        return CNN_ERR_MEMORY;
    cnn_status status = cnn_input_open(&external->file[external->count], path, "the weights of the ONNX file beside it",
                                       (uint64_t)1 << 34);
    free(path);
    if (status != CNN_OK)
        return status;
    *file = &external->file[external->count];
    external->location[external->count++] = location;
    return CNN_OK;
}

cnn_status cnn_onnx_external_data(cnn_onnx_import *import, const cnn_onnx_tensor *tensor, size_t bytes,
                                  const uint8_t **data)
{
    cnn_status status = CNN_OK;
    const char *location = "";
    const cnn_input_file *file = NULL;
    uint64_t offset = 0, length = bytes;
    for (size_t i = 0; i < tensor->n_external; i++) {
        const char *key = tensor->external[i]->key, *value = tensor->external[i]->value;
        if (!key || !value)
            continue;
        if (strcmp(key, "location") == 0)
            location = value;
        else if (strcmp(key, "offset") == 0)
            CNN_TRY(read_number(key, value, &offset));
        else if (strcmp(key, "length") == 0)
            CNN_TRY(read_number(key, value, &length));
    }
    CNN_TRY(open_beside(import, location, &file));
    if (length != bytes)
        CNN_FAIL(CNN_ERR_FORMAT, "has %llu bytes in another file, but its dimensions ask for %zu",
                 (unsigned long long)length, bytes);
    if (offset > file->size || bytes > file->size - offset)
        CNN_FAIL(CNN_ERR_FORMAT, "ends at byte %llu of another file, which has only %zu; copy it again",
                 (unsigned long long)(offset + length), file->size);
    *data = file->data + offset;
out:
    return status;
}

void cnn_onnx_external_close(cnn_onnx_import *import)
{
    for (int i = 0; import->external && i < import->external->count; i++)
        cnn_input_close(&import->external->file[i]);
    free(import->external);
    import->external = NULL;
}
