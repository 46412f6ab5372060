/* Allocation for the library. Every allocation goes through here, so that tests can make the n-th one fail. */
#ifndef CNN_CORE_MEMORY_H
#define CNN_CORE_MEMORY_H

#include "cnn/status.h"

/* Cleared memory for count*size bytes, overflow checked; on failure records CNN_ERR_MEMORY and returns NULL.
 * Free with free(). count*size = 0 gives a valid pointer. */
void *cnn_calloc(size_t count, size_t size);

/* Grows to count*size bytes; on failure `memory` stays valid, the error is recorded and NULL returned. */
void *cnn_realloc(void *memory, size_t count, size_t size);

char *cnn_strdup(const char *text);

/* 64-byte aligned, not cleared. Free with cnn_aligned_free. */
void *cnn_aligned_alloc(size_t bytes);
void cnn_aligned_free(void *memory);

/* printf into fresh memory; NULL and a recorded error when there is none. */
char *cnn_format(const char *format, ...) CNN_PRINTF(1, 2);

/* Text that grows. Zero-initialize; after a failed allocation `failed` is set and appends do nothing. */
typedef struct cnn_text {
    char *data; /* NUL-terminated once anything was appended */
    size_t length, capacity;
    bool failed;
} cnn_text;
void cnn_text_append(cnn_text *text, const char *format, ...) CNN_PRINTF(2, 3);
void cnn_text_free(cnn_text *text);

/* Tests: the n-th allocation from now on fails (n from 1), and no other; 0: none does. */
void cnn_memory_fail_at(long n);
/* Tests: requests of more than so many bytes fail. */
void cnn_memory_fail_above(size_t bytes);
/* Allocations since the last cnn_memory_fail_at. */
long cnn_memory_count(void);

#endif
