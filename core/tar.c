/* Tar archives: headers. */
#include "core/tar.h"

#include "core/error.h"

#include <string.h>

enum {
    BLOCK = 512,
    NAME_BYTES = 100,
    SIZE_AT = 124,
    SIZE_BYTES = 12,
    CHECKSUM_AT = 148,
    CHECKSUM_BYTES = 8,
    KIND_AT = 156
};

cnn_status cnn_tar_open(cnn_tar *tar, const char *path)
{
    *tar = (cnn_tar){0};
    return cnn_gz_open(&tar->file, path);
}

void cnn_tar_close(cnn_tar *tar)
{
    cnn_gz_close(&tar->file);
}

/* An octal number with spaces before it, and a space or NUL behind it unless the field is full. */
static bool read_octal(const uint8_t *field, int bytes, uint64_t *value)
{
    int i = 0, first;
    while (i < bytes && field[i] == ' ')
        i++;
    first = i;
    for (*value = 0; i < bytes && field[i] >= '0' && field[i] <= '7'; i++)
        *value = *value << 3 | (uint64_t)(field[i] - '0');
    return i > first && (i == bytes || field[i] == ' ' || field[i] == '\0');
}

static bool checksum_is_right(const uint8_t *header)
{
    uint64_t sum = 0, told;
    for (int i = 0; i < BLOCK; i++)
        sum += i >= CHECKSUM_AT && i < CHECKSUM_AT + CHECKSUM_BYTES ? ' ' : header[i];
    return read_octal(header + CHECKSUM_AT, CHECKSUM_BYTES, &told) && told == sum;
}

static bool is_zero(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

/* Nothing but zeros may follow, and at the end zlib checks a gzip file's checksum. */
static cnn_status read_end(cnn_gz_file *file)
{
    uint8_t block[BLOCK];
    size_t got = BLOCK;
    while (got == BLOCK) {
        const uint64_t at = file->offset;
        cnn_status status = cnn_gz_read_up_to(file, block, BLOCK, &got);
        if (status != CNN_OK)
            return status;
        if (!is_zero(block, got))
            return cnn_error(CNN_ERR_FORMAT, "%s: more bytes follow the end of the archive, at byte %llu", file->path,
                             (unsigned long long)at);
    }
    return CNN_OK;
}

static cnn_status read_member(cnn_gz_file *file, const uint8_t *header, cnn_tar_member *member)
{
    const unsigned long long at = file->offset - BLOCK;
    char name[NAME_BYTES + 1] = "";
    if (!checksum_is_right(header))
        return at == 0 ? cnn_error(CNN_ERR_FORMAT, "%s: is no tar archive: its first header has no right checksum",
                                   file->path)
                       : cnn_error(CNN_ERR_FORMAT, "%s: the tar header at byte %llu is damaged; get the file again",
                                   file->path, at);
    if (!read_octal(header + SIZE_AT, SIZE_BYTES, &member->bytes))
        return cnn_error(CNN_ERR_FORMAT, "%s: the tar header at byte %llu gives no size in octal digits", file->path,
                         at);
    memcpy(name, header, NAME_BYTES);
    const char *slash = strrchr(name, '/');
    strcpy(member->name, slash ? slash + 1 : name);
    member->is_file = header[KIND_AT] == '0' || header[KIND_AT] == '\0';
    if (file->offset + member->bytes > cnn_gz_most(file))
        return cnn_error(CNN_ERR_FORMAT, "%s: the tar header at byte %llu promises %llu bytes, more than there are",
                         file->path, at, (unsigned long long)member->bytes);
    return CNN_OK;
}

cnn_status cnn_tar_next(cnn_tar *tar, cnn_tar_member *member, bool *end)
{
    uint8_t header[BLOCK];
    cnn_gz_file *file = &tar->file;
    *end = false;
    cnn_status status = cnn_gz_read(file, NULL, tar->next - file->offset, tar->next);
    if (status == CNN_OK)
        status = cnn_gz_read(file, header, BLOCK, 0);
    if (status != CNN_OK)
        return status;
    if (is_zero(header, BLOCK)) {
        *end = true;
        return read_end(file);
    }
    status = read_member(file, header, member);
    if (status == CNN_OK)
        tar->next = file->offset + (member->bytes + BLOCK - 1) / BLOCK * BLOCK;
    return status;
}
