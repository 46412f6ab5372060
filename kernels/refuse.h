/* How backends say no: reasons in a text of CNN_REASON_BYTES. */
#ifndef CNN_KERNELS_REFUSE_H
#define CNN_KERNELS_REFUSE_H

#include "cnn/backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Writes a reason and returns false, for suits(). */
static inline bool cnn_refuse(char *why, const char *format, ...) CNN_PRINTF(2, 3);

static inline bool cnn_refuse(char *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, CNN_REASON_BYTES, format, args);
    va_end(args);
    return false;
}

/* True when no tensor of the op has padding channels; else refuses with the first one that has. */
static inline bool cnn_unpadded(const cnn_op_desc *desc, char *why)
{
    for (int i = 0; i < CNN_ARG_COUNT; i++)
        if (desc->arg[i].dtype != CNN_NONE && desc->arg[i].c_pad != desc->arg[i].c)
            return cnn_refuse(why, "%s has %d padding channels", cnn_arg_name((cnn_arg)i),
                              (int)(desc->arg[i].c_pad - desc->arg[i].c));
    return true;
}

/* Appends "name: reason" to the list of reasons, cut off where it is full. */
static inline void cnn_add_reason(char *why, const char *name, const char *reason)
{
    size_t length = strlen(why);
    snprintf(why + length, CNN_REASON_BYTES - length, "%s%s: %s", length ? "; " : "", name, reason);
}

#endif
