/* Reading elements of other tools' types. */
#include "core/raw_values.h"

#include "cnn/half.h"

#include <string.h>

size_t cnn_raw_bytes(cnn_raw_type type)
{
    static const size_t bytes[] = {0, 4, 8, 2, 2, 1, 1, 4, 8, 1}; /* in the order of cnn_raw_type */
    return bytes[type];
}

static float element(cnn_raw_type type, const uint8_t *at)
{
    float real;
    double real64;
    uint16_t half;
    int32_t whole;
    int64_t whole64;
    switch (type) {
    case CNN_RAW_F32:
        memcpy(&real, at, sizeof real);
        return real;
    case CNN_RAW_F64:
        memcpy(&real64, at, sizeof real64);
        return (float)real64;
    case CNN_RAW_F16:
    case CNN_RAW_BF16:
        memcpy(&half, at, sizeof half);
        return type == CNN_RAW_F16 ? cnn_ref_f16_to_f32(half) : cnn_ref_bf16_to_f32(half);
    case CNN_RAW_I32:
        memcpy(&whole, at, sizeof whole);
        return (float)whole;
    case CNN_RAW_I64:
        memcpy(&whole64, at, sizeof whole64);
        return (float)whole64;
    case CNN_RAW_I8:
        return (float)(int8_t)*at;
    default:
        return (float)*at;
    }
}

void cnn_raw_to_f32(cnn_raw_type type, const void *src, int64_t count, float *dst)
{
    const uint8_t *from = src;
    const size_t bytes = cnn_raw_bytes(type);
    if (type == CNN_RAW_F32 && count > 0)
        memcpy(dst, src, (size_t)count * bytes);
    for (int64_t i = 0; type != CNN_RAW_F32 && i < count; i++)
        dst[i] = element(type, from + (size_t)i * bytes);
}
