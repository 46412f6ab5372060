/* Elements of the files of other tools, little-endian, as floats. */
#ifndef CNN_CORE_RAW_VALUES_H
#define CNN_CORE_RAW_VALUES_H

#include "cnn/status.h"

typedef enum cnn_raw_type {
    CNN_RAW_NONE, /* one that is not read */
    CNN_RAW_F32,
    CNN_RAW_F64,
    CNN_RAW_F16,
    CNN_RAW_BF16,
    CNN_RAW_I8,
    CNN_RAW_U8,
    CNN_RAW_I32,
    CNN_RAW_I64,
    CNN_RAW_BOOL
} cnn_raw_type;

size_t cnn_raw_bytes(cnn_raw_type type); /* of an element; 0 for CNN_RAW_NONE */

/* dst[i] = src[i], rounded to f32 once. src need not be aligned. */
void cnn_raw_to_f32(cnn_raw_type type, const void *src, int64_t count, float *dst);

#endif
