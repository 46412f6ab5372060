/* Memory that is asked for before it is needed. */
#ifndef CNN_CPU_ASK_H
#define CNN_CPU_ASK_H

#include <stddef.h>

/* Asks for `lines` pieces of `bytes` bytes, `pitch` bytes apart, to be brought into the nearest cache: for streams of
 * which the hardware does not see what comes next. Inlined by force: gcc drops calls that only prefetch. */
static inline __attribute__((always_inline)) void cnn_cpu_ask(const void *first, ptrdiff_t pitch, int lines,
                                                              ptrdiff_t bytes)
{
    enum { LINE_BYTES = 64 };
    const char *at = first;
    for (int i = 0; i < lines; i++, at += pitch)
        for (ptrdiff_t byte = 0; byte < bytes; byte += LINE_BYTES)
            __builtin_prefetch(at + byte);
}

#endif
