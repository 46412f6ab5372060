/* Recording and passing on errors inside the library. */
#ifndef CNN_CORE_ERROR_H
#define CNN_CORE_ERROR_H

#include "cnn/status.h"

/* Records the sentence in this thread and returns `status`. */
cnn_status cnn_error(cnn_status status, const char *format, ...) CNN_PRINTF(2, 3);

/* Puts "prefix: " before the recorded sentence; returns `status`. For a caller that knows where. */
cnn_status cnn_error_prefix(cnn_status status, const char *format, ...) CNN_PRINTF(2, 3);

static inline cnn_status cnn_error_status(cnn_status status)
{
    return status;
}

/* The functions above, called so that compilers and analyzers see what they return: an error is not CNN_OK. `status` is
 * evaluated twice. */
#define cnn_error(status, ...) ((void)cnn_error(status, __VA_ARGS__), cnn_error_status(status))
#define cnn_error_prefix(status, ...) ((void)cnn_error_prefix(status, __VA_ARGS__), cnn_error_status(status))

/* Both need `cnn_status status = CNN_OK;` and one `out:` label that cleans up and returns status. */
#define CNN_TRY(call)         \
    do {                      \
        status = (call);      \
        if (status != CNN_OK) \
            goto out;         \
    } while (0)

#define CNN_FAIL(code, ...)                    \
    do {                                       \
        status = cnn_error(code, __VA_ARGS__); \
        goto out;                              \
    } while (0)

#endif
