/* A file that is read from its start to its end, plain or gzip: zlib reads both. Offsets count uncompressed bytes. */
#ifndef CNN_CORE_GZ_FILE_H
#define CNN_CORE_GZ_FILE_H

#include "cnn/status.h"

typedef struct cnn_gz_file {
    const char *path;    /* the caller's */
    void *gz;            /* gzFile */
    uint64_t disk_bytes; /* size of the file as it lies there */
    uint64_t offset;     /* bytes read so far */
} cnn_gz_file;

/* Opens a regular file. On failure there is nothing to close. */
cnn_status cnn_gz_open(cnn_gz_file *file, const char *path);

/* Zero-initialized files are allowed. */
void cnn_gz_close(cnn_gz_file *file);

/* The most bytes that the file can hold: its own when it is plain, else those that a gzip file of its size could be
 * made to. A reader that checks promised sizes against it cannot be made to allocate much more than a file has. */
uint64_t cnn_gz_most(cnn_gz_file *file);

/* Whether it is a plain file. */
bool cnn_gz_plain(cnn_gz_file *file);

/* Reads exactly `bytes`, or with dst NULL passes over them. `total`: where the data that a header promises end, 0
 * inside of a header. A file that ends before is an error. */
cnn_status cnn_gz_read(cnn_gz_file *file, void *dst, uint64_t bytes, uint64_t total);

/* Reads up to `bytes`; *got is less at the end of the file alone, and there the checksum of a gzip file was right. */
cnn_status cnn_gz_read_up_to(cnn_gz_file *file, void *dst, size_t bytes, size_t *got);

/* Checks that the file ends where its header says, at `total`, and the checksum of a gzip file. */
cnn_status cnn_gz_end(cnn_gz_file *file, uint64_t total);

#endif
