/* How the values of a tensor are coded in .cnn files (docs/format.md, "Encodings"): one row per way. */
#ifndef CNN_CORE_FILE_ENCODING_H
#define CNN_CORE_FILE_ENCODING_H

#include "cnn/tensor.h"
#include "core/bytes.h"

/* Their numbers in files. Those without functions in the table are reserved, so that files which use them need no new
 * version. */
typedef enum cnn_encoding {
    CNN_ENCODING_RAW = 0,
    CNN_ENCODING_BITMAP = 1,
    CNN_ENCODING_RANGE = 2,
    CNN_ENCODING_RANS = 3,
    CNN_ENCODING_LOW_BIT = 4,
    CNN_ENCODING_CODEBOOK = 5,
    CNN_ENCODING_VARINT = 6,
    CNN_ENCODING_TWO_OF_FOUR = 7,
    CNN_ENCODING_COUNT
} cnn_encoding;

/* A coded tensor in memory. */
typedef struct cnn_coded {
    const uint8_t *parameters, *data;
    size_t parameter_bytes, bytes;
} cnn_coded;

typedef struct cnn_tensor_coding {
    const char *name;
    bool fast;              /* decodes about as fast as a file is read: for CNN_PACK_AUTO */
    bool ready;             /* some kernels take it as it is: for CNN_PACK_RAW too */
    size_t most_parameters; /* bytes */
    bool (*suits)(const cnn_tensor_desc *desc);
    size_t (*size)(const cnn_tensor_desc *desc, const void *values); /* quick and exact, or NULL */
    /* Appends to both. CNN_ERR_SHAPE, without a message: this way cannot hold such values. */
    cnn_status (*encode)(const cnn_tensor_desc *desc, const void *values, cnn_bytes *parameters, cnn_bytes *data);
    /* Sets all values, or fails for lack of memory. *wrong says what is wrong with what is coded, "asks for ...", and
     * stays NULL when all is well. */
    cnn_status (*decode)(const cnn_tensor_desc *desc, const cnn_coded *coded, void *values, const char **wrong);
} cnn_tensor_coding;

extern const cnn_tensor_coding cnn_tensor_codings[CNN_ENCODING_COUNT];

/* Whether so few bytes may stand for so many values of a form that takes next to nothing for a zero. */
bool cnn_coded_holds(int64_t count, size_t bytes);

/* Bitmap and nonzeros: a bit for each element, lowest bit first, 1 where any of the element's bits is set; bits beyond
 * the end are 0. Then those elements, in order. (A float of -0 has a bit set, so decoding gives the bits that were
 * coded.) */
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
