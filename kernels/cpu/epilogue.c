/* The end of float convolutions and linear layers: bias, add, ReLU or clip, or a ReLU's gradient, rounding, store. */
#include "kernels/cpu/epilogue.h"

#include <string.h>

enum {
    JOIN_BLOCK = 256,
    SLACK = 16 /* a vector: what is read or written beyond rows that are pooled */
};

bool cnn_epilogue_suits(const cnn_op_desc *desc, char *why)
{
    if (desc->op == CNN_OP_LINEAR_DGRAD && desc->epilogue_count == 1 && desc->epilogue[0] == CNN_EPILOGUE_RELU_GRAD)
        return true;
    static const cnn_epilogue_kind chain[] = {CNN_EPILOGUE_BIAS, CNN_EPILOGUE_ADD, CNN_EPILOGUE_RELU};
    int next = 0;
    for (int32_t i = 0; i < desc->epilogue_count; i++) {
        const cnn_epilogue_kind kind = desc->epilogue[i] == CNN_EPILOGUE_CLIP ? CNN_EPILOGUE_RELU : desc->epilogue[i];
        while (next < 3 && chain[next] != kind)
            next++;
        if (next++ == 3)
            return cnn_refuse(why, "its epilogue is more than bias, add, relu or clip");
    }
    return true;
}

static const void *element_at(const cnn_tensor_desc *desc, const void *data, int64_t index)
{
    return (const char *)data + (size_t)index * cnn_dtype_bytes(desc->dtype);
}

/* sums += SRC2, or as `kind` has it: sums where SRC2 > 0, else 0. */
static void join_tensor(const cnn_cpu_loops *loops, cnn_epilogue_kind kind, const cnn_tensor_desc *desc,
                        const void *src2, int64_t index, float *sums, int32_t count)
{
    float other[JOIN_BLOCK];
    for (int32_t i = 0; i < count; i += JOIN_BLOCK) {
        int32_t length = count - i < JOIN_BLOCK ? count - i : JOIN_BLOCK;
        loops->to_f32(desc->dtype, element_at(desc, src2, index + i), other, length);
        if (kind == CNN_EPILOGUE_ADD)
            loops->add(sums + i, other, sums + i, length);
        else
            loops->relu_grad(other, sums + i, sums + i, length);
    }
}

void cnn_epilogue_store(const cnn_cpu_loops *loops, const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT],
                        float *sums, int64_t pixel, int32_t first, int32_t count)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    /* A linear data gradient's output is one row of h*w*c elements: `pixel` counts such rows. */
    bool linear_dgrad = desc->op == CNN_OP_LINEAR_DGRAD;
    int64_t row_length = linear_dgrad ? (int64_t)dst->h * dst->w * dst->c : dst->c;
    int64_t index = pixel * row_length + first;
    for (int32_t i = 0; i < desc->epilogue_count; i++) {
        if (desc->epilogue[i] == CNN_EPILOGUE_BIAS)
            loops->add(sums, (const float *)args[CNN_ARG_BIAS] + first, sums, count);
        else if (desc->epilogue[i] == CNN_EPILOGUE_ADD || desc->epilogue[i] == CNN_EPILOGUE_RELU_GRAD)
            join_tensor(loops, desc->epilogue[i], &desc->arg[CNN_ARG_SRC2], args[CNN_ARG_SRC2], index, sums, count);
        else if (desc->epilogue[i] == CNN_EPILOGUE_CLIP)
            loops->clip(sums, sums, count, desc->hi);
        else
            loops->relu(sums, sums, count);
    }
    loops->from_f32(dst->dtype, sums, (char *)args[CNN_ARG_DST] + (size_t)index * cnn_dtype_bytes(dst->dtype), count);
}

void cnn_epilogue_store_pixels(const cnn_cpu_loops *loops, const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT],
                               float *sums, ptrdiff_t sums_pitch, int64_t pixel, int32_t pixels, int32_t first,
                               int32_t count)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const float *bias = cnn_op_has_epilogue(desc, CNN_EPILOGUE_BIAS) ? args[CNN_ARG_BIAS] : NULL;
    const bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    const bool plain = desc->op != CNN_OP_LINEAR_DGRAD && desc->epilogue_count == (bias != NULL) + relu;
    if (plain) {
        const size_t at = (size_t)(pixel * dst->c + first) * cnn_dtype_bytes(dst->dtype);
        loops->store_rows(dst->dtype, sums, sums_pitch, pixels, count, bias ? bias + first : NULL, relu,
                          (char *)args[CNN_ARG_DST] + at, dst->c);
        return;
    }
    for (int32_t i = 0; i < pixels; i++)
        cnn_epilogue_store(loops, desc, args, sums + i * sums_pitch, pixel + i, first, count);
}

/* ---- Pooling ---- */

bool cnn_epilogue_unpool(const cnn_op_desc *desc, cnn_op_desc *plain)
{
    *plain = *desc;
    if (desc->arg[CNN_ARG_INDEX].dtype == CNN_NONE || !cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL))
        return false;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    cnn_tensor_desc *dst = &plain->arg[CNN_ARG_DST];
    dst->h = cnn_window_count(src->h, weight->h, desc->stride, desc->pad);
    dst->w = cnn_window_count(src->w, weight->w, desc->stride, desc->pad);
    plain->arg[CNN_ARG_INDEX].dtype = CNN_NONE;
    plain->epilogue_count--;
    return true;
}

bool cnn_epilogue_pool_suits(const cnn_op_desc *desc, char *why)
{
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_ADD))
        return cnn_refuse(why, "it does not pool sums with a second tensor");
    return desc->pool_stride >= desc->pool_kernel || cnn_refuse(why, "its windows overlap");
}

static size_t lines_bytes(const cnn_op_desc *desc, int64_t line)
{
    return cnn_cpu_aligned(((size_t)desc->pool_kernel * (size_t)line + SLACK) * sizeof(float));
}

static size_t row_bytes(const cnn_tensor_desc *dst)
{
    return cnn_cpu_aligned(((size_t)dst->w * (size_t)dst->c + SLACK) * sizeof(float));
}

size_t cnn_epilogue_pool_bytes(const cnn_op_desc *desc, int64_t line)
{
    return lines_bytes(desc, line) + 2 * row_bytes(&desc->arg[CNN_ARG_DST]);
}

void cnn_epilogue_store_pooled(const cnn_cpu_loops *loops, const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT],
                               float *scratch, int64_t line, int64_t row)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    char *memory = (char *)scratch + lines_bytes(desc, line);
    float *max = (float *)(void *)memory;
    uint8_t *index = (uint8_t *)memory + row_bytes(dst);
    loops->pool_windows(scratch, (ptrdiff_t)line, desc->pool_kernel, desc->pool_stride, dst->w, dst->c,
                        cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU), max, index);
    const int64_t count = (int64_t)dst->w * dst->c;
    loops->from_f32(dst->dtype, max, (char *)args[CNN_ARG_DST] + (size_t)(row * count) * cnn_dtype_bytes(dst->dtype),
                    count);
    memcpy((uint8_t *)args[CNN_ARG_INDEX] + row * count, index, (size_t)count);
}
