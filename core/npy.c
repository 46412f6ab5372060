/* NumPy's .npy files. */
#include "core/npy.h"

#include "core/error.h"
#include "core/save.h"

#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 64, MOST_HEADER_BYTES = 1 << 16, MAGIC_BYTES = 8 /* with the version */ };

static const char magic[] = "\x93NUMPY";
static const uint64_t most_bytes = (uint64_t)1 << 34;

/* ---- The header's text ---- */

/* What is left of it; a read that does not find what it wants clears `good`. */
typedef struct header_text {
    const char *at, *end;
    bool good;
} header_text;

static void skip_spaces(header_text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n'))
        text->at++;
}

/* Takes the word if it comes next. */
static bool take(header_text *text, const char *word)
{
    size_t length = strlen(word);
    skip_spaces(text);
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length) != 0)
        return false;
    text->at += length;
    return true;
}

static void expect(header_text *text, const char *word)
{
    text->good = text->good && take(text, word);
}

/* A number in decimal digits below 2^40, which no size in a file that is read reaches. */
static int64_t read_number(header_text *text)
{
    int64_t value = 0;
    skip_spaces(text);
    const char *first = text->at;
    for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++)
        value = value < (int64_t)1 << 36 ? 10 * value + (*text->at - '0') : value;
    text->good = text->good && text->at > first;
    return value;
}

/* (), (3,) or (3, 4); a rank of CNN_NPY_RANK + 1 stands for all that are larger. */
static void read_shape(header_text *text, cnn_npy *array)
{
    expect(text, "(");
    for (array->rank = 0; text->good && !take(text, ")");) {
        int64_t dim = read_number(text);
        if (array->rank < CNN_NPY_RANK)
            array->dims[array->rank] = dim;
        array->rank += array->rank <= CNN_NPY_RANK;
        if (!take(text, ",")) {
            expect(text, ")");
            break;
        }
    }
}

/* The type's name without quotes, and its end. */
static void read_type(header_text *text, const char **name, size_t *length)
{
    expect(text, "'");
    *name = text->at;
    while (text->at < text->end && *text->at != '\'')
        text->at++;
    *length = (size_t)(text->at - *name);
    expect(text, "'");
}

static cnn_dtype type_of(const char *name, size_t length)
{
    if (length == 3 && memcmp(name, "|u1", length) == 0)
        return CNN_U8;
    return length == 3 && memcmp(name, "<f4", length) == 0 ? CNN_F32 : CNN_NONE;
}

static cnn_status read_header(const char *path, header_text text, cnn_npy *array)
{
    const char *type = "";
    size_t length = 0;
    bool fortran = false, seen[3] = {false};
    expect(&text, "{");
    while (text.good && !take(&text, "}")) {
        int key = take(&text, "'descr'") ? 0 : take(&text, "'fortran_order'") ? 1 : take(&text, "'shape'") ? 2 : -1;
        text.good = key >= 0 && !seen[key];
        expect(&text, ":");
        if (!text.good)
            break;
        seen[key] = true;
        if (key == 0)
            read_type(&text, &type, &length);
        else if (key == 2)
            read_shape(&text, array);
        else if (!(fortran = take(&text, "True")))
            expect(&text, "False");
        if (!take(&text, ",")) {
            expect(&text, "}");
            break;
        }
    }
    skip_spaces(&text);
    if (!text.good || text.at != text.end || !seen[0] || !seen[1] || !seen[2])
        return cnn_error(CNN_ERR_FORMAT, "%s: its header is not one that NumPy writes for an array", path);
    array->dtype = type_of(type, length);
    if (array->dtype == CNN_NONE)
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "%s: holds values of type '%.*s'; '|u1' (uint8) and '<f4' (float32) are read", path,
                         length < 16 ? (int)length : 16, type);
    if (fortran)
        return cnn_error(CNN_ERR_UNSUPPORTED, "%s: is in Fortran order; save numpy.ascontiguousarray of it", path);
    if (array->rank > CNN_NPY_RANK)
        return cnn_error(CNN_ERR_UNSUPPORTED, "%s: has more than %d dimensions", path, CNN_NPY_RANK);
    return CNN_OK;
}

/* ---- Files ---- */

/* Where the header's text lies. */
static cnn_status find_header(const char *path, const cnn_input_file *file, header_text *text)
{
    const uint8_t *data = file->data;
    if (file->size < MAGIC_BYTES + 4 || memcmp(data, magic, sizeof magic - 1) != 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: is no NumPy array: it does not begin with \\x93NUMPY", path);
    int version = data[6];
    if (version < 1 || version > 3 || data[7] != 0)
        return cnn_error(CNN_ERR_UNSUPPORTED, "%s: is a NumPy array of format %d.%d; 1.0 to 3.0 are read", path,
                         version, data[7]);
    size_t start = version == 1 ? MAGIC_BYTES + 2 : MAGIC_BYTES + 4;
    size_t length = data[8] | (size_t)data[9] << 8;
    if (version > 1)
        length |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    if (length > MOST_HEADER_BYTES || length > file->size - start)
        return cnn_error(CNN_ERR_FORMAT, "%s: its header has %zu bytes, and the file %zu", path, length, file->size);
    const char *first = (const char *)data + start;
    *text = (header_text){.at = first, .end = first + length, .good = true};
    return CNN_OK;
}

/* Compares the size that the header promises with that of the file. */
static cnn_status check_size(const char *path, cnn_npy *array, size_t start)
{
    const uint64_t there = (array->file.size - start) / cnn_dtype_bytes(array->dtype);
    uint64_t count = 1;
    for (int i = 0; i < array->rank; i++) {
        uint64_t dim = (uint64_t)array->dims[i];
        if (count > 0 && dim > most_bytes / count)
            return cnn_error(CNN_ERR_FORMAT, "%s: its shape says that there are more than 2^34 values", path);
        count *= dim;
    }
    if (count != there || (array->file.size - start) % cnn_dtype_bytes(array->dtype) != 0)
        return cnn_error(CNN_ERR_FORMAT,
                         "%s: holds %zu bytes of values, but its shape asks for %llu; get the file again", path,
                         array->file.size - start, (unsigned long long)(count * cnn_dtype_bytes(array->dtype)));
    array->count = (int64_t)count;
    array->data = array->file.data + start;
    return CNN_OK;
}

cnn_status cnn_npy_read(cnn_npy *array, const char *path)
{
    cnn_status status = CNN_OK;
    header_text text;
    *array = (cnn_npy){0};
    CNN_TRY(cnn_input_open(&array->file, path, "a NumPy array", most_bytes));
    CNN_TRY(find_header(path, &array->file, &text));
    CNN_TRY(read_header(path, text, array));
    CNN_TRY(check_size(path, array, (size_t)((const uint8_t *)text.end - array->file.data)));
out:
    if (status != CNN_OK)
        cnn_npy_close(array);
    return status;
}

void cnn_npy_close(cnn_npy *array)
{
    cnn_input_close(&array->file);
    *array = (cnn_npy){0};
}

cnn_status cnn_npy_write(const char *path, int64_t rows, int64_t columns, const void *data)
{
    cnn_status status = CNN_OK;
    cnn_save save = {0};
    char header[2 * ALIGNMENT];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00", MAGIC_BYTES);
    header[MAGIC_BYTES] = (char)(sizeof header - MAGIC_BYTES - 2);
    header[MAGIC_BYTES + 1] = 0;
    char *text = header + MAGIC_BYTES + 2;
    int length = snprintf(text, sizeof header - MAGIC_BYTES - 2,
                          "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }", (long long)rows,
                          (long long)columns);
    text[length] = ' ';
    header[sizeof header - 1] = '\n';
    CNN_TRY(cnn_save_begin(&save, path));
    CNN_TRY(cnn_save_write(&save, header, sizeof header));
    CNN_TRY(cnn_save_write(&save, data, (size_t)(rows * columns) * sizeof(float)));
    CNN_TRY(cnn_save_commit(&save));
out:
    cnn_save_abort(&save);
    return status;
}
