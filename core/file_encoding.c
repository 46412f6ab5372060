#include "core/file_encoding.h"

#include "core/rans.h"
#include "core/weight_coder.h"

#include <string.h>

static bool has_bits(const uint8_t *element, size_t element_bytes)
{
    uint8_t all = 0;
    for (size_t b = 0; b < element_bytes; b++)
        all |= element[b];
    return all != 0;
}

size_t cnn_bitmap_size(const void *values, int64_t count, size_t element_bytes)
{
    const uint8_t *element = values;
    size_t bytes = cnn_bitmap_bytes(count);
    for (int64_t i = 0; i < count; i++, element += element_bytes)
        bytes += has_bits(element, element_bytes) ? element_bytes : 0;
    return bytes;
}

void cnn_bitmap_encode(const void *values, int64_t count, size_t element_bytes, uint8_t *dst)
{
    const uint8_t *element = values;
    uint8_t *next = dst + cnn_bitmap_bytes(count);
    memset(dst, 0, cnn_bitmap_bytes(count));
    for (int64_t i = 0; i < count; i++, element += element_bytes) {
        if (!has_bits(element, element_bytes))
            continue;
        dst[i / 8] |= (uint8_t)(1u << (i % 8));
        memcpy(next, element, element_bytes);
        next += element_bytes;
    }
}

const char *cnn_bitmap_decode(const uint8_t *src, size_t bytes, int64_t count, size_t element_bytes, void *values)
{
    const uint8_t *next = src + cnn_bitmap_bytes(count), *end = src + bytes;
    uint8_t *element = values;
    if (count % 8 && src[count / 8] >> (count % 8) != 0)
        return "has bits beyond its end";
    for (int64_t i = 0; i < count; i++, element += element_bytes) {
        if (!(src[i / 8] >> (i % 8) & 1)) {
            memset(element, 0, element_bytes);
            continue;
        }
        if ((size_t)(end - next) < element_bytes)
            return "asks for more values than follow it";
        if (!has_bits(next, element_bytes))
            return "calls a value nonzero that is zero";
        memcpy(element, next, element_bytes);
        next += element_bytes;
    }
    return next == end ? NULL : "asks for fewer values than follow it";
}

/* ---- Bitmap and nonzeros ---- */

static bool suits_all(const cnn_tensor_desc *desc)
{
    (void)desc;
    return true;
}

static size_t bitmap_size(const cnn_tensor_desc *desc, const void *values)
{
    return cnn_bitmap_size(values, cnn_desc_elements(desc), cnn_dtype_bytes(desc->dtype));
}

static cnn_status encode_bitmap(const cnn_tensor_desc *desc, const void *values, cnn_bytes *parameters, cnn_bytes *data)
{
    const int64_t count = cnn_desc_elements(desc);
    const size_t element_bytes = cnn_dtype_bytes(desc->dtype);
    uint8_t *dst = cnn_bytes_grow(data, bitmap_size(desc, values));
    (void)parameters;
    if (!dst)
        return CNN_ERR_MEMORY;
    cnn_bitmap_encode(values, count, element_bytes, dst);
    return CNN_OK;
}

static cnn_status decode_bitmap(const cnn_tensor_desc *desc, const cnn_coded *coded, void *values, const char **wrong)
{
    const int64_t count = cnn_desc_elements(desc);
    if (coded->bytes < cnn_bitmap_bytes(count))
        *wrong = "ends within the bitmap";
    else
        *wrong = cnn_bitmap_decode(coded->data, coded->bytes, count, cnn_dtype_bytes(desc->dtype), values);
    return CNN_OK;
}

/* ---- Range-coded ---- */

/* Few bytes must not ask for gigabytes and minutes. */
enum { FREE_VALUES = 1 << 20, VALUES_A_BYTE = 1 << 16 };

static bool suits_i8(const cnn_tensor_desc *desc)
{
    return desc->dtype == CNN_I8;
}

bool cnn_coded_holds(int64_t count, size_t bytes)
{
    return (uint64_t)count <= FREE_VALUES + (uint64_t)bytes * VALUES_A_BYTE;
}

static cnn_status encode_range(const cnn_tensor_desc *desc, const void *values, cnn_bytes *parameters, cnn_bytes *data)
{
    cnn_mix_coder *coder = cnn_mix_encoder();
    cnn_status status = coder ? cnn_weights_code(coder, desc, (int8_t *)(uintptr_t)values) : CNN_ERR_MEMORY;
    (void)parameters;
    if (status == CNN_OK) {
        cnn_mix_finish(coder);
        cnn_bytes_put(data, coder->out.data, coder->out.length);
        status = coder->out.failed || data->failed                             ? CNN_ERR_MEMORY
                 : cnn_coded_holds(cnn_desc_elements(desc), coder->out.length) ? CNN_OK
                                                                               : CNN_ERR_SHAPE;
    }
    cnn_mix_free(coder);
    return status;
}

static cnn_status decode_range(const cnn_tensor_desc *desc, const cnn_coded *coded, void *values, const char **wrong)
{
    if (!cnn_coded_holds(cnn_desc_elements(desc), coded->bytes))
        *wrong = "has too few bytes for so many values";
    else if (coded->bytes > 0 && coded->data[coded->bytes - 1] == 0)
        *wrong = "ends in a zero byte";
    if (*wrong)
        return CNN_OK;
    cnn_mix_coder *coder = cnn_mix_decoder(coded->data, coded->bytes);
    cnn_status status = coder ? cnn_weights_code(coder, desc, values) : CNN_ERR_MEMORY;
    if (status == CNN_OK && !cnn_mix_ended(coder))
        *wrong = "does not end with its values";
    cnn_mix_free(coder);
    return status;
}

/* ---- rANS ---- */

static cnn_status encode_rans(const cnn_tensor_desc *desc, const void *values, cnn_bytes *parameters, cnn_bytes *data)
{
    cnn_rans_encode(values, cnn_desc_elements(desc), parameters, data);
    if (parameters->failed || data->failed)
        return CNN_ERR_MEMORY;
    return cnn_coded_holds(cnn_desc_elements(desc), data->length) ? CNN_OK : CNN_ERR_SHAPE;
}

static cnn_status decode_rans(const cnn_tensor_desc *desc, const cnn_coded *coded, void *values, const char **wrong)
{
    if (!cnn_coded_holds(cnn_desc_elements(desc), coded->bytes)) {
        *wrong = "has too few bytes for so many values";
        return CNN_OK;
    }
    return cnn_rans_decode(coded->parameters, coded->parameter_bytes, coded->data, coded->bytes,
                           cnn_desc_elements(desc), values, wrong);
}

const cnn_tensor_coding cnn_tensor_codings[CNN_ENCODING_COUNT] = {
    [CNN_ENCODING_RAW] = {.name = "raw", .fast = true},
    [CNN_ENCODING_BITMAP] = {"bitmap and nonzeros", true, 0, suits_all, bitmap_size, encode_bitmap, decode_bitmap},
    [CNN_ENCODING_RANGE] = {"range-coded", false, 0, suits_i8, NULL, encode_range, decode_range},
    [CNN_ENCODING_RANS] = {"rANS", true, CNN_RANS_MOST_PARAMETERS, suits_i8, NULL, encode_rans, decode_rans},
    [CNN_ENCODING_LOW_BIT] = {.name = "low-bit"},
    [CNN_ENCODING_CODEBOOK] = {.name = "codebook"},
    [CNN_ENCODING_VARINT] = {.name = "varint"},
};
