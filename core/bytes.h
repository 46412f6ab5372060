/* Little-endian bytes: appending to a buffer that grows, and reading within bounds.
 *
 * A varint is an unsigned number in groups of 7 bits, lowest first; every byte but the last has its top bit set
 * (LEB128). The shortest form is the only valid one. Signed numbers are folded to 0, -1, 1, -2, ... (zigzag). */
#ifndef CNN_CORE_BYTES_H
#define CNN_CORE_BYTES_H

#include "cnn/status.h"

/* Zero-initialize; after a failed allocation `failed` is set and puts do nothing. */
typedef struct cnn_bytes {
    uint8_t *data;
    size_t length, capacity;
    bool failed;
} cnn_bytes;

/* Makes room for `length` > 0 more bytes, not set; NULL when it failed. */
uint8_t *cnn_bytes_grow(cnn_bytes *bytes, size_t length);
void cnn_bytes_put(cnn_bytes *bytes, const void *data, size_t length);
void cnn_bytes_put_u32(cnn_bytes *bytes, uint32_t value);
void cnn_bytes_put_f32(cnn_bytes *bytes, float value);
void cnn_bytes_put_f64(cnn_bytes *bytes, double value);
void cnn_bytes_put_varint(cnn_bytes *bytes, uint64_t value);
void cnn_bytes_put_zigzag(cnn_bytes *bytes, int64_t value);
void cnn_bytes_free(cnn_bytes *bytes);

/* A range of a file being read. Every get checks bounds; one that fails records "path: byte N: ..." once, sets
 * `failed` and gives 0, and so do all gets after it. */
typedef struct cnn_reader {
    const uint8_t *data; /* start of the file */
    size_t at, end;      /* offsets in the file */
    const char *path;
    bool failed;
} cnn_reader;

const uint8_t *cnn_reader_take(cnn_reader *reader, size_t length, const char *what); /* NULL when out of bounds */
uint32_t cnn_reader_u32(cnn_reader *reader, const char *what);
float cnn_reader_f32(cnn_reader *reader, const char *what);
double cnn_reader_f64(cnn_reader *reader, const char *what);
/* A varint of at most `max`. */
uint64_t cnn_reader_varint(cnn_reader *reader, uint64_t max, const char *what);
int64_t cnn_reader_zigzag(cnn_reader *reader, const char *what);
/* Fails at the reader's position, with a format error. */
void cnn_reader_fail(cnn_reader *reader, const char *format, ...) CNN_PRINTF(2, 3);
static inline cnn_status cnn_reader_status(const cnn_reader *reader)
{
    return reader->failed ? CNN_ERR_FORMAT : CNN_OK;
}

/* Its end must have been reached; `what` names what was read in the error. Gives cnn_reader_status. */
cnn_status cnn_reader_finish(cnn_reader *reader, const char *what);

#endif
