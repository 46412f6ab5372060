/* Files that are read in order, plain or gzip. */
#include "core/gz_file.h"

#include "core/error.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    READ_CHUNK = 1 << 20,
    SKIP_CHUNK = 1 << 12,
    DEFLATE_MAX_RATIO = 1032 /* deflate cannot expand a byte into more */
};

cnn_status cnn_gz_open(cnn_gz_file *file, const char *path)
{
    cnn_status status = CNN_OK;
    struct stat info;
    *file = (cnn_gz_file){.path = path};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        CNN_FAIL(CNN_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &info) != 0)
        CNN_FAIL(CNN_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        CNN_FAIL(CNN_ERR_IO, "%s: is not a regular file", path);
    file->disk_bytes = (uint64_t)info.st_size;
    file->gz = gzdopen(fd, "rb");
    if (!file->gz)
        CNN_FAIL(CNN_ERR_MEMORY, "%s: out of memory while opening it", path);
    fd = -1; /* gzclose closes it */
    gzbuffer(file->gz, 1 << 17);
out:
    if (fd >= 0)
        close(fd);
    return status;
}

void cnn_gz_close(cnn_gz_file *file)
{
    if (file->gz)
        gzclose(file->gz);
    *file = (cnn_gz_file){0};
}

bool cnn_gz_plain(cnn_gz_file *file)
{
    return gzdirect(file->gz) != 0;
}

uint64_t cnn_gz_most(cnn_gz_file *file)
{
    return cnn_gz_plain(file) ? file->disk_bytes : file->disk_bytes * DEFLATE_MAX_RATIO;
}

/* What zlib found wrong, or CNN_OK when the data just ended. */
static cnn_status problem(const cnn_gz_file *file)
{
    int code;
    const char *text = gzerror(file->gz, &code);
    unsigned long long at = file->offset;
    if (code == Z_ERRNO)
        return cnn_error(CNN_ERR_IO, "%s: cannot be read at byte %llu: %s", file->path, at, strerror(errno));
    if (code != Z_OK && code != Z_BUF_ERROR && code != Z_STREAM_END)
        return cnn_error(CNN_ERR_FORMAT, "%s: damaged gzip data at byte %llu (%s); get the file again", file->path, at,
                         text);
    return CNN_OK;
}

/* Why the last read gave less than was asked for. */
static cnn_status too_short(const cnn_gz_file *file, uint64_t total)
{
    unsigned long long at = file->offset;
    cnn_status status = problem(file);
    if (status != CNN_OK)
        return status;
    if (total == 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: ends at byte %llu, inside a header; get the file again", file->path, at);
    return cnn_error(CNN_ERR_FORMAT, "%s: ends at byte %llu of the %llu that its header promises; get the file again",
                     file->path, at, (unsigned long long)total);
}

/* Fewer than `bytes` when the file ends or something is wrong. */
static size_t read_some(cnn_gz_file *file, void *dst, size_t bytes)
{
    size_t done = 0;
    while (done < bytes) {
        unsigned want = bytes - done < READ_CHUNK ? (unsigned)(bytes - done) : READ_CHUNK;
        int got = gzread(file->gz, (uint8_t *)dst + done, want);
        done += got > 0 ? (size_t)got : 0;
        if (got < (int)want)
            break;
    }
    file->offset += done;
    return done;
}

cnn_status cnn_gz_read(cnn_gz_file *file, void *dst, uint64_t bytes, uint64_t total)
{
    uint8_t passed[SKIP_CHUNK];
    if (dst)
        return read_some(file, dst, (size_t)bytes) == bytes ? CNN_OK : too_short(file, total);
    for (uint64_t left = bytes; left > 0;) {
        size_t step = left < SKIP_CHUNK ? (size_t)left : SKIP_CHUNK;
        if (read_some(file, passed, step) < step)
            return too_short(file, total);
        left -= step;
    }
    return CNN_OK;
}

cnn_status cnn_gz_read_up_to(cnn_gz_file *file, void *dst, size_t bytes, size_t *got)
{
    int code;
    *got = read_some(file, dst, bytes);
    if (*got == bytes)
        return CNN_OK;
    cnn_status status = problem(file);
    gzerror(file->gz, &code);
    if (status == CNN_OK && code == Z_BUF_ERROR)
        status = cnn_error(CNN_ERR_FORMAT, "%s: ends at byte %llu, in the middle of its gzip data; get the file again",
                           file->path, (unsigned long long)file->offset);
    return status;
}

cnn_status cnn_gz_end(cnn_gz_file *file, uint64_t total)
{
    uint8_t byte;
    if (gzread(file->gz, &byte, 1) == 1)
        return cnn_error(CNN_ERR_FORMAT, "%s: more bytes follow at byte %llu, where its header says it ends",
                         file->path, (unsigned long long)total);
    int code;
    gzerror(file->gz, &code);
    return code == Z_OK || code == Z_STREAM_END ? CNN_OK : too_short(file, total);
}
