/* Status codes, the error text, and what every header here needs.
 *
 * Every function that can fail returns a cnn_status. The sentence behind it, fit for a user, stays in
 * cnn_last_error() of the same thread until the next failure: what was wrong, where (file, line, layer, byte
 * offset) and what to do. A function that fails leaves its outputs unset and what existed before unchanged,
 * unless its comment says otherwise. The library never prints and never exits. */
#ifndef CNN_STATUS_H
#define CNN_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CNN_API __attribute__((visibility("default")))
#define CNN_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define CNN_API
#define CNN_PRINTF(fmt, args)
#endif

/* Small functions that CUDA kernels call as well. */
#ifdef __CUDACC__
#define CNN_HOST_DEVICE static __host__ __device__ inline
#else
#define CNN_HOST_DEVICE static inline
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cnn_status {
    CNN_OK = 0,
    CNN_ERR_USAGE,       /* an argument outside what is documented: the tools exit 2 */
    CNN_ERR_IO,          /* a file could not be opened, read or written */
    CNN_ERR_FORMAT,      /* a file's content is not what its format says */
    CNN_ERR_SHAPE,       /* shapes, layers or data that do not fit together */
    CNN_ERR_MEMORY,      /* an allocation failed */
    CNN_ERR_UNSUPPORTED, /* this build, CPU, backend or kernel cannot do it */
    CNN_ERR_NUMERIC,     /* infinities, NaN, a range that INT8 cannot hold */
    CNN_ERR_CANCELLED,   /* a progress callback asked to stop */
    CNN_ERR_DEVICE       /* a call of a device's driver or library failed */
} cnn_status;

/* The last failure of this thread, one sentence without a newline; "" when nothing failed yet. */
CNN_API const char *cnn_last_error(void);

/* A short name such as "bad file format". */
CNN_API const char *cnn_status_name(cnn_status status);

/* "0.1.0" */
CNN_API const char *cnn_version(void);

#ifdef __cplusplus
}
#endif
#endif
