/* For fuzz targets of functions that read files by name. Include it first. */
#ifndef CNN_FUZZ_FILE_H
#define CNN_FUZZ_FILE_H

#define _GNU_SOURCE /* memfd_create */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Puts the bytes into a file in memory and returns a path to open it by (Linux). The same file serves every call of
 * the process. */
static const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        if (fd < 0)
            abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    return path;
}

/* Makes the compiler believe that a value is needed. */
static void fuzz_use(size_t value)
{
    static volatile size_t sink;
    sink = value;
    (void)sink;
}

#endif
