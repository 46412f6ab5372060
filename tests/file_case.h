/* .cnn files in memory, for tests of reading and writing them. */
#ifndef TESTS_FILE_CASE_H
#define TESTS_FILE_CASE_H

#include "core/model.h"

typedef struct file_bytes {
    uint8_t *data;         /* from malloc */
    size_t size, head_end; /* head_end: where the CRC of the head lies */
} file_bytes;

/* The model as a file; smallest: with the pack of that name. */
file_bytes case_encode(const cnn_model *model, bool smallest);

/* Whether the first `size` bytes are read as a model; they are freed again. */
cnn_status case_decode(const file_bytes *file, size_t size);

/* Makes the CRC of the head right again after a change in it. */
void case_reseal(file_bytes *file);

/* Replaces `old`, which must lie in the head exactly once, and reseals. */
void case_patch_head(file_bytes *file, const void *old, const void *new, size_t length);

#endif
