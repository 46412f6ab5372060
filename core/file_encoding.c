#include "core/file_encoding.h"

#include <string.h>

static bool has_bits(const uint8_t *element, size_t element_bytes)
{
    uint8_t all = 0;
    for (size_t b = 0; b < element_bytes; b++)
        all |= element[b];
    return all != 0;
}

size_t cnn_bitmap_size(const void *values, int64_t count, size_t element_bytes)
{
    const uint8_t *element = values;
    size_t bytes = cnn_bitmap_bytes(count);
    for (int64_t i = 0; i < count; i++, element += element_bytes)
        bytes += has_bits(element, element_bytes) ? element_bytes : 0;
    return bytes;
}

void cnn_bitmap_encode(const void *values, int64_t count, size_t element_bytes, uint8_t *dst)
{
    const uint8_t *element = values;
    uint8_t *next = dst + cnn_bitmap_bytes(count);
    memset(dst, 0, cnn_bitmap_bytes(count));
    for (int64_t i = 0; i < count; i++, element += element_bytes) {
        if (!has_bits(element, element_bytes))
            continue;
        dst[i / 8] |= (uint8_t)(1u << (i % 8));
        memcpy(next, element, element_bytes);
        next += element_bytes;
    }
}

const char *cnn_bitmap_decode(const uint8_t *src, size_t bytes, int64_t count, size_t element_bytes, void *values)
{
    const uint8_t *next = src + cnn_bitmap_bytes(count), *end = src + bytes;
    uint8_t *element = values;
    if (count % 8 && src[count / 8] >> (count % 8) != 0)
        return "has bits beyond its end";
    for (int64_t i = 0; i < count; i++, element += element_bytes) {
        if (!(src[i / 8] >> (i % 8) & 1)) {
            memset(element, 0, element_bytes);
            continue;
        }
        if ((size_t)(end - next) < element_bytes)
            return "asks for more values than follow it";
        if (!has_bits(next, element_bytes))
            return "calls a value nonzero that is zero";
        memcpy(element, next, element_bytes);
        next += element_bytes;
    }
    return next == end ? NULL : "asks for fewer values than follow it";
}
