/* How the values of a tensor are coded in .cnn files (docs/format.md, "Encodings").
 *
 * Bitmap and nonzeros: a bit for each element, lowest bit first, 1 where any of the element's bits is set; bits beyond
 * the end are 0. Then those elements, in order. (A float of -0 has a bit set, so decoding gives the bits that were
 * coded.) */
#ifndef CNN_CORE_FILE_ENCODING_H
#define CNN_CORE_FILE_ENCODING_H

#include "cnn/status.h"

static inline size_t cnn_bitmap_bytes(int64_t count)
{
    return (size_t)(count + 7) / 8;
}

/* Bytes that `count` values of element_bytes take when coded. */
size_t cnn_bitmap_size(const void *values, int64_t count, size_t element_bytes);

/* Codes them into dst, which has cnn_bitmap_size bytes. */
void cnn_bitmap_encode(const void *values, int64_t count, size_t element_bytes, uint8_t *dst);

/* Decodes `bytes` bytes, at least cnn_bitmap_bytes(count) of them, into `values`. Returns NULL, or what is wrong: "has
 * bits beyond its end". */
const char *cnn_bitmap_decode(const uint8_t *src, size_t bytes, int64_t count, size_t element_bytes, void *values);

#endif
