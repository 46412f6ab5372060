/* Opening a file to read: mmap for regular files, read for pipes and where mapping is refused. */
#define _DEFAULT_SOURCE /* madvise */
#include "core/input_file.h"

#include "core/error.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    READ_STEP_BYTES = 1 << 16,
    PIPE_MAX_BYTES = 1 << 30 /* a pipe may never end */
};

static cnn_status fail_open(const char *path, const char *what, int error)
{
    if (error == ENOENT || error == ENOTDIR)
        return cnn_error(CNN_ERR_IO, "%s: there is no such file; give the path of %s", path, what);
    return cnn_error(CNN_ERR_IO, "%s: cannot be opened: %s; check its permissions", path, strerror(error));
}

static cnn_status too_large(const char *path, const char *what, uint64_t limit)
{
    return cnn_error(CNN_ERR_FORMAT, "%s: is larger than %s may be (%llu bytes)", path, what,
                     (unsigned long long)limit);
}

static cnn_status read_all(cnn_input_file *file, int fd, const char *path, const char *what, uint64_t limit)
{
    cnn_status status = CNN_OK;
    uint8_t *data = NULL;
    size_t size = 0, capacity = 0;
    for (;;) {
        if (size == capacity) {
            size_t larger = capacity ? capacity * 2 : READ_STEP_BYTES;
            uint8_t *grown = cnn_realloc(data, larger, 1);
            if (!grown)
                CNN_TRY(CNN_ERR_MEMORY);
            data = grown;
            capacity = larger;
        }
        ssize_t count = read(fd, data + size, capacity - size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            CNN_FAIL(CNN_ERR_IO, "%s: byte %zu: cannot be read: %s; check the disk", path, size, strerror(errno));
        if (count == 0)
            break;
        size += (size_t)count;
        if (size > limit)
            CNN_TRY(too_large(path, what, limit));
    }
    *file = (cnn_input_file){.data = data, .size = size, .mapped = false};
    data = NULL;
out:
    free(data);
    return status;
}

cnn_status cnn_input_open(cnn_input_file *file, const char *path, const char *what, uint64_t limit)
{
    cnn_status status = CNN_OK;
    *file = (cnn_input_file){0};
    if (limit > SIZE_MAX / 4)
        limit = SIZE_MAX / 4;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_open(path, what, errno);
    struct stat info;
    if (fstat(fd, &info) != 0)
        CNN_TRY(fail_open(path, what, errno));
    if (S_ISDIR(info.st_mode))
        CNN_FAIL(CNN_ERR_IO, "%s: is a folder; give the path of %s", path, what);
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode))
        CNN_FAIL(CNN_ERR_IO, "%s: is a device; give the path of %s", path, what);
    if (!S_ISREG(info.st_mode) && limit > PIPE_MAX_BYTES)
        limit = PIPE_MAX_BYTES;
    if (S_ISREG(info.st_mode) && (uint64_t)info.st_size > limit)
        CNN_TRY(too_large(path, what, limit));
    if (S_ISREG(info.st_mode) && info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data != MAP_FAILED) {
            *file = (cnn_input_file){.data = data, .size = (size_t)info.st_size, .mapped = true};
            goto out;
        }
    }
    CNN_TRY(read_all(file, fd, path, what, limit));
out:
    close(fd);
    return status;
}

cnn_status cnn_input_own(cnn_input_file *file)
{
    if (!file->mapped)
        return CNN_OK;
    uint8_t *data = cnn_calloc(file->size, 1);
    if (!data)
        return CNN_ERR_MEMORY;
    memcpy(data, file->data, file->size);
    const cnn_input_file own = {.data = data, .size = file->size};
    cnn_input_close(file);
    *file = own;
    return CNN_OK;
}

void cnn_input_spent(const void *bytes, size_t count)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)bytes;
    const uintptr_t first = (start + page - 1) / page * page, end = (start + count) / page * page;
    if (first < end)
        madvise((void *)first, end - first, MADV_DONTNEED); /* a hint: nothing is lost when it is refused */
}

void cnn_input_close(cnn_input_file *file)
{
    if (file->mapped)
        munmap((void *)(uintptr_t)file->data, file->size);
    else
        free((void *)(uintptr_t)file->data);
    *file = (cnn_input_file){0};
}
