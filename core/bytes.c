/* Little-endian bytes, varints, bounds. */
#include "core/bytes.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Writing ---- */

uint8_t *cnn_bytes_grow(cnn_bytes *bytes, size_t length)
{
    if (bytes->failed)
        return NULL;
    if (length > bytes->capacity - bytes->length) {
        size_t capacity = (bytes->length + length) * 2;
        uint8_t *grown = cnn_realloc(bytes->data, capacity, 1);
        if (!grown) {
            bytes->failed = true;
            return NULL;
        }
        bytes->data = grown;
        bytes->capacity = capacity;
    }
    bytes->length += length;
    return bytes->data + bytes->length - length;
}

void cnn_bytes_put(cnn_bytes *bytes, const void *data, size_t length)
{
    uint8_t *dst = length > 0 ? cnn_bytes_grow(bytes, length) : NULL;
    if (dst)
        memcpy(dst, data, length);
}

void cnn_bytes_put_u32(cnn_bytes *bytes, uint32_t value)
{
    uint8_t out[4];
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> (8 * i));
    cnn_bytes_put(bytes, out, sizeof out);
}

void cnn_bytes_put_f32(cnn_bytes *bytes, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    cnn_bytes_put_u32(bytes, bits);
}

void cnn_bytes_put_f64(cnn_bytes *bytes, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    cnn_bytes_put_u32(bytes, (uint32_t)bits);
    cnn_bytes_put_u32(bytes, (uint32_t)(bits >> 32));
}

void cnn_bytes_put_varint(cnn_bytes *bytes, uint64_t value)
{
    uint8_t out[10];
    size_t length = 0;
    do {
        out[length] = (uint8_t)(value & 0x7F);
        value >>= 7;
        if (value)
            out[length] |= 0x80;
        length++;
    } while (value);
    cnn_bytes_put(bytes, out, length);
}

void cnn_bytes_put_zigzag(cnn_bytes *bytes, int64_t value)
{
    cnn_bytes_put_varint(bytes, value < 0 ? ((uint64_t)(-(value + 1)) << 1) + 1 : (uint64_t)value << 1);
}

void cnn_bytes_free(cnn_bytes *bytes)
{
    free(bytes->data);
    *bytes = (cnn_bytes){0};
}

/* ---- Reading ---- */

void cnn_reader_fail(cnn_reader *reader, const char *format, ...)
{
    if (reader->failed)
        return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cnn_error(CNN_ERR_FORMAT, "%s: byte %zu: %s", reader->path, reader->at, text);
    reader->failed = true;
}

const uint8_t *cnn_reader_take(cnn_reader *reader, size_t length, const char *what)
{
    if (!reader->failed && length > reader->end - reader->at)
        cnn_reader_fail(reader, "%s needs %zu bytes, but %zu are left; the file is damaged", what, length,
                        reader->end - reader->at);
    if (reader->failed)
        return NULL;
    const uint8_t *data = reader->data + reader->at;
    reader->at += length;
    return data;
}

uint32_t cnn_reader_u32(cnn_reader *reader, const char *what)
{
    const uint8_t *data = cnn_reader_take(reader, 4, what);
    uint32_t value = 0;
    for (int i = 0; data && i < 4; i++)
        value |= (uint32_t)data[i] << (8 * i);
    return value;
}

float cnn_reader_f32(cnn_reader *reader, const char *what)
{
    uint32_t bits = cnn_reader_u32(reader, what);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

double cnn_reader_f64(cnn_reader *reader, const char *what)
{
    uint64_t bits = cnn_reader_u32(reader, what);
    bits |= (uint64_t)cnn_reader_u32(reader, what) << 32;
    double value;
    memcpy(&value, &bits, sizeof value);
    return reader->failed ? 0 : value;
}

uint64_t cnn_reader_varint(cnn_reader *reader, uint64_t max, const char *what)
{
    uint64_t value = 0;
    size_t start = reader->at;
    for (unsigned shift = 0;; shift += 7) {
        const uint8_t *byte = cnn_reader_take(reader, 1, what);
        if (!byte)
            return 0;
        uint64_t bits = *byte & 0x7F;
        bool last = !(*byte & 0x80);
        if (shift > 63 || (shift == 63 && bits > 1) || (last && shift > 0 && bits == 0)) {
            reader->at = start;
            cnn_reader_fail(reader, "%s is not a valid varint; the file is damaged", what);
            return 0;
        }
        value |= bits << shift;
        if (last)
            break;
    }
    if (value <= max)
        return value;
    reader->at = start;
    cnn_reader_fail(reader, "%s is %llu, but at most %llu is allowed", what, (unsigned long long)value,
                    (unsigned long long)max);
    return 0;
}

int64_t cnn_reader_zigzag(cnn_reader *reader, const char *what)
{
    uint64_t folded = cnn_reader_varint(reader, UINT64_MAX, what);
    int64_t half = (int64_t)(folded >> 1);
    return folded & 1 ? -half - 1 : half;
}

cnn_status cnn_reader_finish(cnn_reader *reader, const char *what)
{
    if (!reader->failed && reader->at != reader->end)
        cnn_reader_fail(reader, "%s is %zu bytes too long", what, reader->end - reader->at);
    return cnn_reader_status(reader);
}
