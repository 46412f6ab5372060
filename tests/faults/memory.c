/* The functions through which the tools ask for memory, each with a chance to fail: the linker (--wrap) sends calls of
 * f() to __wrap_f() and calls of __real_f() to f(). */
#define _XOPEN_SOURCE 700
#include "tests/faults/faults.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

static bool refused(const char *function)
{
    if (!fault_shared || atomic_fetch_add(&fault_shared->count, 1) + 1 != atomic_load(&fault_shared->fail_at))
        return false;
    fault_name(function, -1);
    errno = ENOMEM;
    return true;
}

int fault_run_tool(int argc, char **argv)
{
    return tool_main(argc, argv);
}

bool fault_is_tolerable(const char *call)
{
    static const char *const functions[] = {"pthread_create", "mmap64", "fopen64"};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (strcmp(call, functions[i]) == 0)
            return true;
    return false;
}

bool fault_is_silencing(const char *call)
{
    (void)call;
    return false;
}

#define WRAP(type, name, parameters, arguments)                 \
    type __real_##name parameters;                              \
    type __wrap_##name parameters;                              \
    type __wrap_##name parameters                               \
    {                                                           \
        return refused(#name) ? NULL : __real_##name arguments; \
    }

WRAP(void *, malloc, (size_t bytes), (bytes))
WRAP(void *, calloc, (size_t count, size_t size), (count, size))
WRAP(void *, realloc, (void *memory, size_t bytes), (memory, bytes))
WRAP(void *, aligned_alloc, (size_t align, size_t bytes), (align, bytes))
WRAP(char *, strdup, (const char *text), (text))
WRAP(char *, strndup, (const char *text, size_t length), (text, length))
WRAP(char *, realpath, (const char *path, char *resolved), (path, resolved))
WRAP(FILE *, fopen64, (const char *path, const char *mode), (path, mode))
WRAP(FILE *, fdopen, (int fd, const char *mode), (fd, mode))
WRAP(DIR *, opendir, (const char *path), (path))
WRAP(gzFile, gzdopen, (int fd, const char *mode), (fd, mode))
WRAP(FILE *, open_memstream, (char **text, size_t *bytes), (text, bytes))

void *__real_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return refused("mmap64") ? MAP_FAILED : __real_mmap64(at, bytes, protection, flags, fd, offset);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context)
{
    return refused("pthread_create") ? EAGAIN : __real_pthread_create(thread, attributes, run, context);
}
