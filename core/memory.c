/* Allocation with overflow checks and, for tests, a failure at the n-th call. */
#define _DEFAULT_SOURCE /* madvise */
#include "core/memory.h"

#include "cnn/backend.h"
#include "core/error.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

static atomic_long fail_at;
static atomic_long allocation_count;
static atomic_size_t most_bytes = SIZE_MAX;

void cnn_memory_fail_at(long n)
{
    atomic_store(&allocation_count, 0);
    atomic_store(&fail_at, n);
}

void cnn_memory_fail_above(size_t bytes)
{
    atomic_store(&most_bytes, bytes);
}

long cnn_memory_count(void)
{
    return atomic_load(&allocation_count);
}

static bool allocation_allowed(size_t bytes)
{
    long number = atomic_fetch_add(&allocation_count, 1) + 1;
    return number != atomic_load(&fail_at) && bytes <= atomic_load(&most_bytes);
}

static void report(size_t bytes)
{
    cnn_error(CNN_ERR_MEMORY, "out of memory: %zu bytes were asked for; close other programs or use a smaller --batch",
              bytes);
}

static bool product(size_t count, size_t size, size_t *bytes)
{
    if (size != 0 && count > SIZE_MAX / size) {
        cnn_error(CNN_ERR_MEMORY, "out of memory: %zu items of %zu bytes are more than can be addressed", count, size);
        return false;
    }
    *bytes = count * size;
    return true;
}

void *cnn_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!product(count, size, &bytes))
        return NULL;
    void *memory = allocation_allowed(bytes) ? calloc(bytes ? bytes : 1, 1) : NULL;
    if (!memory)
        report(bytes);
    return memory;
}

void *cnn_realloc(void *memory, size_t count, size_t size)
{
    size_t bytes;
    if (!product(count, size, &bytes))
        return NULL;
    void *moved = allocation_allowed(bytes) ? realloc(memory, bytes ? bytes : 1) : NULL;
    if (!moved)
        report(bytes);
    return moved;
}

char *cnn_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = cnn_calloc(bytes, 1);
    if (copy)
        memcpy(copy, text, bytes);
    return copy;
}

/* Large memory asks for huge pages: kernels walk through many distant places of it at once, more than a CPU's table of
 * small pages holds, and a first touch costs one fault instead of 512. The last one, which may be the only one, is
 * asked for when it is more than half full. Where the system has none it stays as it is. */
static bool fills_huge_pages(size_t bytes)
{
    return bytes > HUGE_PAGE / 2;
}

static void ask_for_huge_pages(void *memory, size_t bytes)
{
#if defined(MADV_HUGEPAGE)
    if (fills_huge_pages(bytes))
        (void)madvise(memory, (bytes + HUGE_PAGE / 2 - 1) / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)bytes;
#endif
}

void *cnn_aligned_alloc(size_t bytes)
{
    const size_t align = fills_huge_pages(bytes) ? HUGE_PAGE : CNN_ALIGN;
    if (bytes > SIZE_MAX - align) {
        report(bytes);
        return NULL;
    }
    size_t rounded = (bytes + align - 1) / align * align;
    void *memory = allocation_allowed(bytes) ? aligned_alloc(align, rounded ? rounded : align) : NULL;
    if (!memory)
        report(bytes);
    else
        ask_for_huge_pages(memory, bytes);
    return memory;
}

void cnn_aligned_free(void *memory)
{
    free(memory);
}

char *cnn_format(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = length < 0 ? NULL : cnn_calloc((size_t)length + 1, 1);
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

void cnn_text_append(cnn_text *text, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size_t needed = text->length + (size_t)(length > 0 ? length : 0) + 1;
    if (!text->failed && needed > text->capacity) {
        size_t capacity = needed * 2;
        char *data = cnn_realloc(text->data, capacity, 1);
        text->failed = !data;
        if (data) {
            text->data = data;
            text->capacity = capacity;
        }
    }
    if (!text->failed) {
        vsnprintf(text->data + text->length, text->capacity - text->length, format, again);
        text->length = needed - 1;
    }
    va_end(again);
}

void cnn_text_free(cnn_text *text)
{
    free(text->data);
    *text = (cnn_text){0};
}
