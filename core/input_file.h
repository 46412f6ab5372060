/* A whole file as bytes to read: mapped where that works, else read into memory. */
#ifndef CNN_CORE_INPUT_FILE_H
#define CNN_CORE_INPUT_FILE_H

#include "cnn/status.h"

typedef struct cnn_input_file {
    const uint8_t *data; /* [size]; never NULL while open */
    size_t size;
    bool mapped;
} cnn_input_file;

/* Opens `path`; `what` says in errors what it should be ("a model"). A missing file, a folder, a device, and
 * more than `limit` bytes are errors. Pipes are read to their end, up to 1 GiB. */
cnn_status cnn_input_open(cnn_input_file *file, const char *path, const char *what, uint64_t limit);
/* Copies a mapped file to memory that nobody else can change. */
cnn_status cnn_input_own(cnn_input_file *file);
/* Gives back the memory of whole pages among these bytes of a mapped file; whoever reads them again gets them from the
 * file again. */
void cnn_input_spent(const void *bytes, size_t count);
/* Zero-initialized files are allowed. */
void cnn_input_close(cnn_input_file *file);

#endif
