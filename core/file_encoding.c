#include "core/file_encoding.h"

#include "core/rans.h"
#include "core/weight_blocks.h"
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

/* ---- 2:4 ---- */

/* What compressed operands of sparse tensor cores hold: of each group of 4 inputs two values, and where they were. */

enum { PLACE_BITS = 2, PLACE_MASK = 3 };

/* Lines of inputs, groups side by side in a line, and all groups. */
typedef struct line_grid {
    int64_t lines, inputs, groups, all;
} line_grid;

/* A line is a filter position's channels, or with `flat` all that an output has. */
static line_grid lines_of(const cnn_tensor_desc *desc, bool flat)
{
    const int64_t taps = (int64_t)desc->h * desc->w;
    line_grid grid = {.lines = flat ? desc->n : desc->n * taps, .inputs = flat ? taps * desc->c : desc->c};
    grid.groups = (grid.inputs + CNN_GROUP_INPUTS - 1) / CNN_GROUP_INPUTS;
    grid.all = grid.lines * grid.groups;
    return grid;
}

static bool suits_two_of_four(const cnn_tensor_desc *desc)
{
    return desc->structure == CNN_SPARSE_2_4;
}

/* The places of a group's values, the first below the second: those of its nonzeros, then the first that are left.
 * `left`: inputs of the group. Returns -1 where more than two are not zero. */
static int find_places(const uint8_t *group, int64_t left, size_t element_bytes)
{
    int count = 0;
    bool taken[CNN_GROUP_INPUTS] = {false};
    for (int i = 0; i < CNN_GROUP_INPUTS && i < left; i++) {
        taken[i] = has_bits(group + (size_t)i * element_bytes, element_bytes);
        count += taken[i];
    }
    if (count > CNN_GROUP_NONZEROS)
        return -1;
    for (int i = 0; count < CNN_GROUP_NONZEROS; i++) {
        count += !taken[i];
        taken[i] = true;
    }
    const int first = taken[0] ? 0 : taken[1] ? 1 : 2;
    int second = first + 1;
    while (!taken[second])
        second++;
    return first | second << PLACE_BITS;
}

static int64_t inputs_left(const line_grid *grid, int64_t group)
{
    return grid->inputs - group % grid->groups * CNN_GROUP_INPUTS;
}

static size_t element_of(const line_grid *grid, int64_t group)
{
    return (size_t)(group / grid->groups * grid->inputs + group % grid->groups * CNN_GROUP_INPUTS);
}

static bool holds(const cnn_tensor_desc *desc, const void *values, bool flat)
{
    const line_grid grid = lines_of(desc, flat);
    const size_t element_bytes = cnn_dtype_bytes(desc->dtype);
    for (int64_t g = 0; g < grid.all; g++)
        if (find_places((const uint8_t *)values + element_of(&grid, g) * element_bytes, inputs_left(&grid, g),
                        element_bytes) < 0)
            return false;
    return true;
}

static size_t two_of_four_bytes(const line_grid *grid, size_t element_bytes)
{
    return (size_t)grid->all * CNN_GROUP_NONZEROS * element_bytes + (size_t)(grid->all + 1) / 2;
}

static cnn_status encode_two_of_four(const cnn_tensor_desc *desc, const void *values, cnn_bytes *parameters,
                                     cnn_bytes *data)
{
    const uint8_t flat = !holds(desc, values, false);
    const line_grid grid = lines_of(desc, flat);
    const size_t element_bytes = cnn_dtype_bytes(desc->dtype);
    if (flat && !holds(desc, values, true))
        return CNN_ERR_SHAPE;
    cnn_bytes_put(parameters, &flat, flat);
    uint8_t *next = cnn_bytes_grow(data, two_of_four_bytes(&grid, element_bytes));
    if (!next || parameters->failed)
        return CNN_ERR_MEMORY;
    uint8_t *places = next + (size_t)grid.all * CNN_GROUP_NONZEROS * element_bytes;
    memset(places, 0, (size_t)(grid.all + 1) / 2);
    for (int64_t g = 0; g < grid.all; g++) {
        const uint8_t *group = (const uint8_t *)values + element_of(&grid, g) * element_bytes;
        const int pair = find_places(group, inputs_left(&grid, g), element_bytes);
        places[g / 2] |= (uint8_t)(pair << (g % 2 * 4));
        for (int i = 0; i < CNN_GROUP_NONZEROS; i++, next += element_bytes) {
            const int place = pair >> (i * PLACE_BITS) & PLACE_MASK;
            if (place < inputs_left(&grid, g))
                memcpy(next, group + (size_t)place * element_bytes, element_bytes);
            else
                memset(next, 0, element_bytes);
        }
    }
    return CNN_OK;
}

/* Puts a group's two values where they belong; NULL, or what is wrong. */
static const char *place_values(int pair, const uint8_t *src, int64_t left, size_t element_bytes, uint8_t *group)
{
    if ((pair & PLACE_MASK) >= pair >> PLACE_BITS)
        return "has two places that do not ascend";
    memset(group, 0, (size_t)(left < CNN_GROUP_INPUTS ? left : CNN_GROUP_INPUTS) * element_bytes);
    for (int i = 0; i < CNN_GROUP_NONZEROS; i++, src += element_bytes) {
        const int place = pair >> (i * PLACE_BITS) & PLACE_MASK;
        if (place < left)
            memcpy(group + (size_t)place * element_bytes, src, element_bytes);
        else if (has_bits(src, element_bytes))
            return "has a value behind the end of its inputs";
    }
    return NULL;
}

static cnn_status decode_two_of_four(const cnn_tensor_desc *desc, const cnn_coded *coded, void *values,
                                     const char **wrong)
{
    const size_t element_bytes = cnn_dtype_bytes(desc->dtype);
    const bool flat = coded->parameter_bytes == 1;
    if (flat && coded->parameters[0] != 1) {
        *wrong = "has parameters that say nothing";
        return CNN_OK;
    }
    const line_grid grid = lines_of(desc, flat);
    if (coded->bytes != two_of_four_bytes(&grid, element_bytes)) {
        *wrong = "does not have two values and two places for every 4 inputs";
        return CNN_OK;
    }
    const uint8_t *places = coded->data + (size_t)grid.all * CNN_GROUP_NONZEROS * element_bytes;
    if (grid.all % 2 && places[grid.all / 2] >> 4 != 0)
        *wrong = "has bits beyond its end";
    for (int64_t g = 0; g < grid.all && !*wrong; g++)
        *wrong = place_values(places[g / 2] >> (g % 2 * 4) & 15,
                              coded->data + (size_t)g * CNN_GROUP_NONZEROS * element_bytes, inputs_left(&grid, g),
                              element_bytes, (uint8_t *)values + element_of(&grid, g) * element_bytes);
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
    [CNN_ENCODING_BITMAP] = {"bitmap and nonzeros", true, false, 0, suits_all, bitmap_size, encode_bitmap,
                             decode_bitmap},
    [CNN_ENCODING_RANGE] = {"range-coded", false, false, 0, suits_i8, NULL, encode_range, decode_range},
    [CNN_ENCODING_RANS] = {"rANS", true, false, CNN_RANS_MOST_PARAMETERS, suits_i8, NULL, encode_rans, decode_rans},
    [CNN_ENCODING_LOW_BIT] = {.name = "low-bit"},
    [CNN_ENCODING_CODEBOOK] = {.name = "codebook"},
    [CNN_ENCODING_VARINT] = {.name = "varint"},
    [CNN_ENCODING_TWO_OF_FOUR] = {"2:4", true, true, 1, suits_two_of_four, NULL, encode_two_of_four,
                                  decode_two_of_four},
};
