/* The error text of each thread, names of status codes, the version. */
#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>

enum { ERROR_BYTES = 1024 };

static _Thread_local char error_text[ERROR_BYTES];

const char *cnn_last_error(void)
{
    return error_text;
}

cnn_status(cnn_error)(cnn_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error_text, sizeof error_text, format, args);
    va_end(args);
    return status;
}

cnn_status(cnn_error_prefix)(cnn_status status, const char *format, ...)
{
    char tail[ERROR_BYTES - 2];
    snprintf(tail, sizeof tail, "%.*s", (int)sizeof tail - 1, error_text);
    va_list args;
    va_start(args, format);
    int length = vsnprintf(error_text, sizeof error_text, format, args);
    va_end(args);
    if (length >= 0 && (size_t)length + 2 < sizeof error_text) {
        int room = (int)sizeof error_text - length - 3;
        snprintf(error_text + length, (size_t)room + 3, ": %.*s", room, tail);
    }
    return status;
}

const char *cnn_status_name(cnn_status status)
{
    switch (status) {
    case CNN_OK:
        return "ok";
    case CNN_ERR_USAGE:
        return "bad argument";
    case CNN_ERR_IO:
        return "input/output error";
    case CNN_ERR_FORMAT:
        return "bad file format";
    case CNN_ERR_SHAPE:
        return "shapes do not fit";
    case CNN_ERR_MEMORY:
        return "out of memory";
    case CNN_ERR_UNSUPPORTED:
        return "not supported";
    case CNN_ERR_NUMERIC:
        return "numeric failure";
    case CNN_ERR_CANCELLED:
        return "cancelled";
    case CNN_ERR_DEVICE:
        return "device error";
    }
    return "unknown status";
}

const char *cnn_version(void)
{
    return CNN_VERSION;
}
