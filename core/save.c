/* Writing a file by way of a temporary one: write, sync, rename, sync the folder. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "core/save.h"

#include "core/error.h"
#include "core/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SAVE_BUFFER_BYTES = 1 << 16, SAVE_NAME_TRIES = 100 };

/* What the user can do about a failed write. */
static const char *advice(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return "free some space or write to another disk";
    case EFBIG:
        return "the system limits how large a file may be: raise the limit (ulimit -f) or write elsewhere";
    case EACCES:
    case EPERM:
    case EROFS:
        return "choose a folder that you may write to";
    case ENOENT:
    case ENOTDIR:
        return "create the folder first or choose another";
    case ENAMETOOLONG:
        return "choose a shorter name";
    default:
        return "check the disk and the path, then try again";
    }
}

static cnn_status fail_errno(const cnn_save *save, const char *what, int error)
{
    return cnn_error(CNN_ERR_IO, "%s: cannot %s: %s; %s", save->path, what, strerror(error), advice(error));
}

/* The folder that holds `path`, in fresh memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return cnn_strdup(".");
    return slash == path ? cnn_strdup("/") : cnn_format("%.*s", (int)(slash - path), path);
}

/* Creates a file beside the target under a name that nobody has. */
static cnn_status open_temporary(cnn_save *save, mode_t mode)
{
    for (int i = 0; i < SAVE_NAME_TRIES; i++) {
        free(save->temporary);
        save->temporary = cnn_format("%s.tmp-%ld-%d", save->target, (long)getpid(), i);
        if (!save->temporary)
            return CNN_ERR_MEMORY;
        save->fd = open(save->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (save->fd >= 0 || errno != EEXIST)
            break;
    }
    if (save->fd >= 0)
        return CNN_OK;
    int error = errno;
    free(save->temporary);
    save->temporary = NULL;
    if (error == ENOENT || error == ENOTDIR) {
        char *folder = folder_of(save->target);
        if (!folder)
            return CNN_ERR_MEMORY;
        cnn_error(CNN_ERR_IO, "%s: there is no folder %s; %s", save->path, folder, advice(error));
        free(folder);
        return CNN_ERR_IO;
    }
    return fail_errno(save, "create a file in its folder", error);
}

/* Opens what the path names: a temporary file for a regular or new file, the thing itself for a device or a pipe. */
static cnn_status open_target(cnn_save *save)
{
    struct stat info;
    if (stat(save->target, &info) != 0) {
        if (errno != ENOENT)
            return fail_errno(save, "write there", errno);
        return open_temporary(save, 0666);
    }
    if (S_ISDIR(info.st_mode))
        return cnn_error(CNN_ERR_IO, "%s: is a folder; add a file name", save->path);
    if (!S_ISREG(info.st_mode)) {
        save->fd = open(save->target, O_WRONLY | O_CLOEXEC);
        return save->fd >= 0 ? CNN_OK : fail_errno(save, "open it for writing", errno);
    }
    if (faccessat(AT_FDCWD, save->target, W_OK, AT_EACCESS) != 0)
        return cnn_error(CNN_ERR_IO, "%s: cannot replace it: %s; make it writable or choose another name", save->path,
                         strerror(errno));
    cnn_status status = open_temporary(save, 0600);
    /* The new file takes the old one's permissions; where the system refuses, it stays readable by its owner only. */
    if (status == CNN_OK && fchmod(save->fd, info.st_mode & 07777) != 0 && errno != EPERM)
        return fail_errno(save, "set its permissions", errno);
    return status;
}

/* The file that a path means: a symbolic link is followed, so that the link stays and its target is replaced. A link
 * that leads nowhere has no real path; then the link itself is replaced. NULL and an error without memory. */
static char *follow_link(const char *path)
{
    struct stat info;
    char *real = NULL;
    if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode)) {
        real = realpath(path, NULL);
        if (!real && errno == ENOMEM) {
            cnn_error(CNN_ERR_MEMORY, "%s: out of memory while following the link", path);
            return NULL;
        }
    }
    char *target = cnn_strdup(real ? real : path);
    free(real);
    return target;
}

cnn_status cnn_save_begin(cnn_save *save, const char *path)
{
    cnn_status status = CNN_OK;
    *save = (cnn_save){.fd = -1};
    if (!path || !*path)
        return cnn_error(CNN_ERR_USAGE, "the name of the file to write is empty; give one");
    if (path[strlen(path) - 1] == '/')
        return cnn_error(CNN_ERR_IO, "%s: is a folder; add a file name", path);
    save->path = cnn_strdup(path);
    save->target = follow_link(path);
    save->buffer = cnn_calloc(SAVE_BUFFER_BYTES, 1);
    status = save->path && save->target && save->buffer ? open_target(save) : CNN_ERR_MEMORY;
    save->open = save->fd >= 0;
    if (status != CNN_OK)
        cnn_save_abort(save);
    return status;
}

static cnn_status write_all(cnn_save *save, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t count = write(save->fd, data, bytes);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return fail_errno(save, "write it", count < 0 ? errno : EIO);
        data += count;
        bytes -= (size_t)count;
    }
    return CNN_OK;
}

static cnn_status flush(cnn_save *save)
{
    size_t used = save->used;
    save->used = 0;
    return write_all(save, save->buffer, used);
}

cnn_status cnn_save_write(cnn_save *save, const void *data, size_t bytes)
{
    cnn_status status = CNN_OK;
    save->bytes += bytes;
    if (bytes > SAVE_BUFFER_BYTES - save->used)
        status = flush(save);
    if (status == CNN_OK && bytes > SAVE_BUFFER_BYTES)
        return write_all(save, data, bytes);
    if (status == CNN_OK && bytes > 0) {
        memcpy(save->buffer + save->used, data, bytes);
        save->used += bytes;
    }
    return status;
}

/* Makes the rename durable. Some file systems cannot sync a folder and say EINVAL; that is as good as it gets. */
static cnn_status sync_folder(const cnn_save *save)
{
    char *folder = folder_of(save->target);
    if (!folder)
        return CNN_ERR_MEMORY;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return errno == EACCES ? CNN_OK : fail_errno(save, "open its folder", errno);
    int failed = fsync(fd) != 0 && errno != EINVAL && errno != EROFS ? errno : 0;
    close(fd);
    return failed ? fail_errno(save, "sync its folder", failed) : CNN_OK;
}

cnn_status cnn_save_commit(cnn_save *save)
{
    cnn_status status = CNN_OK;
    CNN_TRY(flush(save));
    if (save->temporary && fsync(save->fd) != 0 && errno != EINVAL)
        CNN_TRY(fail_errno(save, "write it to the disk", errno));
    save->open = false;
    if (close(save->fd) != 0)
        CNN_TRY(fail_errno(save, "finish writing it", errno));
    if (save->temporary) {
        if (rename(save->temporary, save->target) != 0)
            CNN_TRY(fail_errno(save, "put the new file in its place", errno));
        free(save->temporary);
        save->temporary = NULL;
        CNN_TRY(sync_folder(save));
    }
    cnn_save_abort(save);
out:
    return status;
}

void cnn_save_abort(cnn_save *save)
{
    if (save->open)
        close(save->fd);
    if (save->temporary)
        unlink(save->temporary);
    free(save->path);
    free(save->target);
    free(save->temporary);
    free(save->buffer);
    *save = (cnn_save){.fd = -1};
}

cnn_status cnn_save_remove(const char *path)
{
    struct stat info;
    cnn_status status = CNN_OK;
    cnn_save save = {.fd = -1};
    save.path = cnn_strdup(path);
    save.target = follow_link(path);
    if (!save.path || !save.target)
        CNN_TRY(CNN_ERR_MEMORY);
    if (stat(save.target, &info) != 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            CNN_TRY(fail_errno(&save, "look at it", errno));
        goto out;
    }
    if (!S_ISREG(info.st_mode))
        goto out;
    if (unlink(save.target) != 0)
        CNN_TRY(fail_errno(&save, "remove it", errno));
    CNN_TRY(sync_folder(&save));
out:
    cnn_save_abort(&save);
    return status;
}

cnn_status cnn_save_file(const char *path, const void *data, size_t bytes)
{
    cnn_save save = {0};
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_save_begin(&save, path));
    CNN_TRY(cnn_save_write(&save, data, bytes));
    CNN_TRY(cnn_save_commit(&save));
out:
    cnn_save_abort(&save);
    return status;
}
