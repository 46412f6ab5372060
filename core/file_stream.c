/* Coder and decoder are one walk: each function codes what the model says, or sets it when decoding. */
#include "core/file_stream.h"

#include "core/error.h"
#include "core/file.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/mix_coder.h"
#include "core/round_scale.h"
#include "core/weight_coder.h"

#include <stdlib.h>
#include <string.h>

enum { NUMBER_BITS = 33 };

/* Contexts of signed numbers below 2^32. */
typedef struct numbers {
    cnn_mix_counter zero, negative, more[NUMBER_BITS], second[NUMBER_BITS];
} numbers;

/* What adapts, by kind of decision. */
typedef struct contexts {
    cnn_mix_counter expected, unexpected, on_grid, same, has_mask, sparse, structure[2], shift[5];
    numbers out_scale, weight_scale, bias;
} contexts;

typedef struct stream {
    cnn_mix_coder *coder;
    cnn_mixer plain; /* of all decisions with one context */
    contexts seen;
    cnn_model *model;
    int last_out, last_weight; /* grid numbers coded last */
    const char *wrong;         /* decoding: what is wrong, or NULL */
} stream;

/* ---- Decisions and numbers ---- */

static int code_flag(stream *s, cnn_mix_counter *counter, int bit)
{
    cnn_mix_counter *const context[1] = {counter};
    return cnn_mix_code(s->coder, bit, &s->plain, context, 1);
}

/* `count` bits without a context of their own, the highest first. */
static uint32_t code_bits(stream *s, uint32_t value, int count)
{
    uint32_t made = 0;
    for (int i = count - 1; i >= 0; i--) {
        cnn_mix_counter even;
        cnn_mix_start_counters(&even, 1);
        made = made << 1 | (uint32_t)code_flag(s, &even, (int)(value >> i & 1));
    }
    return made;
}

static int64_t code_number(stream *s, numbers *m, int64_t value)
{
    const uint64_t magnitude = (uint64_t)(value < 0 ? -value : value);
    if (!code_flag(s, &m->zero, value != 0))
        return 0;
    const int negative = code_flag(s, &m->negative, value < 0);
    int size = 1;
    while (size < NUMBER_BITS - 1 && code_flag(s, &m->more[size], magnitude >> size != 0))
        size++;
    uint64_t made = 1;
    if (size > 1)
        made = 2 | (uint64_t)code_flag(s, &m->second[size], (int)(magnitude >> (size - 2) & 1));
    if (size > 2)
        made = made << (size - 2) | code_bits(s, (uint32_t)(magnitude & (((uint64_t)1 << (size - 2)) - 1)), size - 2);
    return negative ? -(int64_t)made : (int64_t)made;
}

/* ---- Scales ---- */

static float code_grid(stream *s, numbers *m, int *last, float scale)
{
    int number = 0;
    if (!s->coder->decoding)
        cnn_round_scale_find(scale, &number);
    const int64_t coded = *last + code_number(s, m, (int64_t)number - *last);
    if (coded < CNN_ROUND_LEAST || coded > CNN_ROUND_MOST) {
        s->wrong = "holds a scale beyond the grid";
        return 0;
    }
    *last = (int)coded;
    return cnn_round_scale(*last);
}

static float code_float(stream *s, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = code_bits(s, bits, 32);
    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool on_grid(const float *scale, int32_t count)
{
    int number;
    for (int32_t i = 0; i < count; i++)
        if (!cnn_round_scale_find(scale[i], &number))
            return false;
    return true;
}

static bool all_same(const float *scale, int32_t count)
{
    for (int32_t i = 1; i < count; i++)
        if (memcmp(&scale[i], &scale[0], sizeof *scale) != 0)
            return false;
    return true;
}

static void code_scales(stream *s, numbers *m, int *last, float *scale, int32_t count)
{
    const bool coding = !s->coder->decoding;
    const bool grid = code_flag(s, &s->seen.on_grid, coding && on_grid(scale, count));
    const bool same = count > 1 && code_flag(s, &s->seen.same, coding && all_same(scale, count));
    for (int32_t i = 0; i < count && !s->wrong; i++) {
        const float one = same && i > 0 ? scale[0] : grid ? code_grid(s, m, last, scale[i]) : code_float(s, scale[i]);
        if (!coding)
            scale[i] = one;
    }
}

/* What the scale of a layer's output is without being told. */
static int expected_scale(const cnn_model *model, int node)
{
    if (node == model->node_count - 1)
        return CNN_SCALE_NONE;
    return node == 0 || model->nodes[node].param[CNN_PARAM_WEIGHT].desc.dtype != CNN_NONE ? CNN_SCALE_F32
                                                                                          : CNN_SCALE_AS_INPUT;
}

static int kind_of_scale(const cnn_model *model, int number)
{
    const cnn_node *node = &model->nodes[number];
    if (node->out_scale == 0.0f)
        return CNN_SCALE_NONE;
    if (node->input_count > 0 && node->out_scale == model->nodes[node->input[0]].out_scale)
        return CNN_SCALE_AS_INPUT;
    return CNN_SCALE_F32;
}

static void code_out_scale(stream *s, int number)
{
    cnn_node *node = &s->model->nodes[number];
    int kind = s->coder->decoding ? 0 : kind_of_scale(s->model, number);
    const int expected = expected_scale(s->model, number);
    if (code_flag(s, &s->seen.expected, kind != expected)) {
        const int first = (expected + 1) % 3, second = (expected + 2) % 3;
        kind = code_flag(s, &s->seen.unexpected, kind == second) ? second : first;
    } else {
        kind = expected;
    }
    if (kind == CNN_SCALE_F32)
        code_scales(s, &s->seen.out_scale, &s->last_out, &node->out_scale, 1);
    else if (kind == CNN_SCALE_AS_INPUT && node->input_count == 0)
        s->wrong = "gives the input the scale of its input";
    else if (s->coder->decoding)
        node->out_scale = kind == CNN_SCALE_NONE ? 0 : s->model->nodes[node->input[0]].out_scale;
}

/* ---- Weights and biases ---- */

static cnn_status make_weight(cnn_param *weight)
{
    cnn_status status = CNN_OK;
    cnn_tensor_desc desc = weight->desc;
    desc.dtype = CNN_I8;
    CNN_TRY(cnn_param_alloc(weight, desc));
    weight->scale = cnn_aligned_alloc((size_t)desc.n * sizeof *weight->scale);
    if (!weight->scale)
        status = CNN_ERR_MEMORY;
out:
    return status;
}

static cnn_status make_mask(cnn_param *weight)
{
    const int64_t count = cnn_desc_elements(&weight->desc);
    weight->mask = cnn_aligned_alloc((size_t)count);
    if (!weight->mask)
        return CNN_ERR_MEMORY;
    for (int64_t i = 0; i < count; i++)
        weight->mask[i] = !cnn_param_is_zero(weight, i);
    return CNN_OK;
}

static cnn_status code_weight(stream *s, cnn_param *weight)
{
    cnn_status status = CNN_OK;
    const bool decoding = s->coder->decoding;
    if (decoding)
        CNN_TRY(make_weight(weight));
    const int mask = code_flag(s, &s->seen.has_mask, weight->mask != NULL);
    /* 0 dense; then 3, the structure of most; then 1 or 2. */
    const int structure = (int)weight->desc.structure;
    int made = CNN_DENSE;
    if (code_flag(s, &s->seen.sparse, structure != CNN_DENSE)) {
        made = CNN_SPARSE;
        if (code_flag(s, &s->seen.structure[0], structure != CNN_SPARSE))
            made = code_flag(s, &s->seen.structure[1], structure == CNN_SPARSE_2_4) ? CNN_SPARSE_2_4 : CNN_BLOCK_16X4;
    }
    code_scales(s, &s->seen.weight_scale, &s->last_weight, weight->scale, weight->desc.n);
    if (s->wrong)
        goto out;
    CNN_TRY(cnn_weights_code(s->coder, &weight->desc, weight->data));
    if (decoding) {
        weight->desc.structure = (cnn_structure)made;
        if (mask)
            CNN_TRY(make_mask(weight));
    }
out:
    return status;
}

/* How many low bits are 0 in all of them. */
static uint32_t common_shift(const int32_t *bias, int32_t count)
{
    uint32_t all = 0, shift = 0;
    for (int32_t i = 0; i < count; i++)
        all |= (uint32_t)bias[i];
    while (shift < 31 && all && !(all >> shift & 1))
        shift++;
    return shift;
}

static cnn_status code_bias(stream *s, cnn_param *bias)
{
    cnn_status status = CNN_OK;
    if (s->coder->decoding) {
        cnn_tensor_desc desc = bias->desc;
        desc.dtype = CNN_I32;
        CNN_TRY(cnn_param_alloc(bias, desc));
    }
    const int32_t count = bias->desc.c;
    int32_t *value = bias->data;
    uint32_t shift = s->coder->decoding ? 0 : common_shift(value, count), made = 0;
    for (int i = 4; i >= 0; i--)
        made |= (uint32_t)code_flag(s, &s->seen.shift[i], (int)(shift >> i & 1)) << i;
    for (int32_t k = 0; k < count; k++) {
        const int64_t unit = (int64_t)1 << made, number = code_number(s, &s->seen.bias, value[k] / unit);
        if (number < INT32_MIN / unit || number > INT32_MAX / unit) {
            s->wrong = "holds a bias beyond 32 bits";
            goto out;
        }
        if (s->coder->decoding)
            value[k] = (int32_t)(number * unit);
    }
out:
    return status;
}

/* ---- The whole ---- */

static cnn_status code_model(stream *s, size_t *node_bytes)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < s->model->node_count && !s->wrong; i++)
        code_out_scale(s, i);
    for (int i = 0; i < s->model->node_count && !s->wrong; i++) {
        cnn_node *node = &s->model->nodes[i];
        const size_t before = s->coder->out.length;
        if (node->param[CNN_PARAM_WEIGHT].desc.dtype != CNN_NONE)
            CNN_TRY(code_weight(s, &node->param[CNN_PARAM_WEIGHT]));
        if (!s->wrong && node->param[CNN_PARAM_BIAS].desc.dtype != CNN_NONE)
            CNN_TRY(code_bias(s, &node->param[CNN_PARAM_BIAS]));
        if (node_bytes)
            node_bytes[i] = s->coder->out.length - before;
    }
out:
    return status;
}

static void start(stream *s)
{
    cnn_mix_start_mixer(&s->plain, 1);
    cnn_mix_start_counters((cnn_mix_counter *)&s->seen, sizeof s->seen / sizeof(cnn_mix_counter));
}

static bool mask_says_zeros(const cnn_param *param)
{
    for (int64_t i = 0; i < cnn_desc_elements(&param->desc); i++)
        if (cnn_param_is_zero(param, i) != (param->mask[i] == 0))
            return false;
    return true;
}

bool cnn_stream_suits(const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *param = &model->nodes[i].param[role];
            const cnn_dtype want = role == CNN_PARAM_WEIGHT ? CNN_I8 : role == CNN_PARAM_BIAS ? CNN_I32 : CNN_NONE;
            if (param->desc.dtype == CNN_NONE)
                continue;
            if (param->desc.dtype != want || (param->mask && (want != CNN_I8 || !mask_says_zeros(param))))
                return false;
        }
    return cnn_model_is_quantized(model);
}

/* All weights of a model; as many bytes must be there as one tensor of so many would need. */
static bool has_room(const cnn_model *model, size_t bytes)
{
    int64_t count = 0;
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].param[CNN_PARAM_WEIGHT].desc.dtype != CNN_NONE)
            count += cnn_desc_elements(&model->nodes[i].param[CNN_PARAM_WEIGHT].desc);
    return cnn_coded_holds(count, bytes);
}

cnn_status cnn_stream_encode(const cnn_model *model, cnn_bytes *out, size_t *node_bytes)
{
    cnn_status status = CNN_OK;
    stream s = {.coder = cnn_mix_encoder(), .model = (cnn_model *)(uintptr_t)model}; /* only decoding writes */
    if (!s.coder)
        return CNN_ERR_MEMORY;
    start(&s);
    CNN_TRY(code_model(&s, node_bytes));
    cnn_mix_finish(s.coder);
    cnn_bytes_put(out, s.coder->out.data, s.coder->out.length);
    if (s.coder->out.failed || out->failed)
        CNN_TRY(CNN_ERR_MEMORY);
    if (!has_room(model, s.coder->out.length))
        status = CNN_ERR_SHAPE;
out:
    cnn_mix_free(s.coder);
    return status;
}

/* Refuses graphs whose layers have other parameters. */
static cnn_status check_graph(cnn_reader *field, const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        for (int role = CNN_PARAM_BIAS + 1; role < CNN_PARAM_COUNT; role++)
            if (model->nodes[i].param[role].desc.dtype != CNN_NONE)
                cnn_reader_fail(field, "the stream of parameters cannot hold those of layer '%s'",
                                model->nodes[i].name);
    return cnn_reader_status(field);
}

cnn_status cnn_stream_decode(cnn_reader *field, cnn_model *model)
{
    cnn_status status = CNN_OK;
    stream s = {.model = model};
    const size_t start_at = field->at, bytes = field->end - field->at;
    const uint8_t *data = cnn_reader_take(field, bytes, "the stream of parameters");
    CNN_TRY(check_graph(field, model));
    if (!has_room(model, bytes))
        s.wrong = "has too few bytes for so many values";
    else if (bytes > 0 && data[bytes - 1] == 0)
        s.wrong = "ends in a zero byte";
    if (!s.wrong) {
        s.coder = cnn_mix_decoder(data, bytes);
        if (!s.coder)
            CNN_TRY(CNN_ERR_MEMORY);
        start(&s);
        CNN_TRY(code_model(&s, NULL));
        if (!s.wrong && !cnn_mix_ended(s.coder))
            s.wrong = "does not end with its values";
    }
    if (s.wrong) {
        field->at = start_at;
        cnn_reader_fail(field, "the stream of parameters %s", s.wrong);
    }
    status = cnn_reader_status(field);
out:
    cnn_mix_free(s.coder);
    return status;
}
