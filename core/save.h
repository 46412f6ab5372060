/* Writing files so that a failure never harms what was there.
 *
 * The bytes go to a temporary file in the same folder, are synced and renamed over the old file. Whatever fails, the
 * temporary file is removed and the old file stays whole; the error names the path, the system's reason and what to
 * do. A path that is a device or a pipe (/dev/stdout) is written directly: there is no old file to protect. */
#ifndef CNN_CORE_SAVE_H
#define CNN_CORE_SAVE_H

#include "cnn/status.h"

/* A file being written. Zero-initialize; cnn_save_abort is always allowed and does nothing after a commit. */
typedef struct cnn_save {
    char *path;      /* for messages */
    char *target;    /* the file itself: `path` with a symbolic link followed */
    char *temporary; /* NULL when written directly */
    uint8_t *buffer; /* small writes gather here */
    size_t used;
    size_t bytes; /* written so far */
    int fd;
    bool open;
} cnn_save;

cnn_status cnn_save_begin(cnn_save *save, const char *path);
cnn_status cnn_save_write(cnn_save *save, const void *data, size_t bytes);
/* Syncs and renames. On failure the caller still calls cnn_save_abort. */
cnn_status cnn_save_commit(cnn_save *save);
/* Closes; removes the temporary file unless it was committed. Keeps the recorded error. */
void cnn_save_abort(cnn_save *save);

/* Removes a file that was saved, a symbolic link followed like then. What is missing or no regular file is left. */
cnn_status cnn_save_remove(const char *path);

/* All of it for bytes in memory. */
cnn_status cnn_save_file(const char *path, const void *data, size_t bytes);

#endif
