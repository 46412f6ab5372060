/* Reads tar archives in order, plain or gzip. Nothing is unpacked: whoever reads takes the bytes of the members that it
 * knows by name.
 *
 * A member is a header of 512 bytes and its data, filled up to a multiple of 512 bytes; blocks of zeros end the
 * archive. In a header: the name at byte 0 (100 bytes), the size at byte 124 (12, octal), the checksum at byte 148 (8,
 * octal: the sum of all bytes of the header, those of the checksum taken as spaces), the kind at byte 156 ('0' or 0 is
 * a file). */
#ifndef CNN_CORE_TAR_H
#define CNN_CORE_TAR_H

#include "core/gz_file.h"

enum { CNN_TAR_NAME_BYTES = 101 };

typedef struct cnn_tar {
    cnn_gz_file file;
    uint64_t next; /* byte at which the next header lies */
} cnn_tar;

typedef struct cnn_tar_member {
    char name[CNN_TAR_NAME_BYTES]; /* the last part of its path */
    uint64_t bytes;
    bool is_file; /* no folder, link, or header of an extension */
} cnn_tar_member;

/* On failure there is nothing to close. */
cnn_status cnn_tar_open(cnn_tar *tar, const char *path);
void cnn_tar_close(cnn_tar *tar);

/* Passes over what is left of the member before and reads the next header; *end is set at the end of the archive, up to
 * which everything has been checked then. A member that is larger than the file can be is an error. */
cnn_status cnn_tar_next(cnn_tar *tar, cnn_tar_member *member, bool *end);

#endif
