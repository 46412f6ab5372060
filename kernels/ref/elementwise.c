/* Ops that treat each element by itself: ReLU and its relatives, their gradients, addition, requantizing and
 * dequantizing. */
#include "cnn/quant.h"
#include "kernels/ref/ref.h"

/* Element c of a tensor in a role. */
static double at(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cnn_arg role, int64_t pixel, int32_t c)
{
    return cnn_ref_get(&desc->arg[role], arg[role], pixel, c);
}

/* DST = value of each element. */
static void map(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT],
                double (*value)(const cnn_op_desc *, void *const *, int64_t pixel, int32_t c))
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(dst); pixel++)
        for (int32_t c = 0; c < dst->c; c++)
            cnn_ref_put(dst, arg[CNN_ARG_DST], pixel, c, value(desc, arg, pixel, c));
    cnn_ref_clear_padding(dst, arg[CNN_ARG_DST]);
}

static double relu_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    double x = at(desc, arg, CNN_ARG_SRC, pixel, c);
    return x <= 0 ? 0 : x;
}

void cnn_ref_relu(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, relu_value);
}

static double relu_grad_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    double y = at(desc, arg, CNN_ARG_SRC, pixel, c);
    return y > 0 ? at(desc, arg, CNN_ARG_SRC2, pixel, c) : 0;
}

void cnn_ref_relu_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, relu_grad_value);
}

static double clip_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    double x = at(desc, arg, CNN_ARG_SRC, pixel, c);
    return x <= 0 ? 0 : x > (double)desc->hi ? (double)desc->hi : x;
}

void cnn_ref_clip(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, clip_value);
}

static double clip_grad_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    const cnn_tensor_desc one = cnn_desc_vector(desc->arg[CNN_ARG_SRC].dtype, 1);
    double y = at(desc, arg, CNN_ARG_SRC, pixel, c), hi;
    cnn_ref_put(&one, &hi, 0, 0, (double)desc->hi);
    return y > 0 && y < cnn_ref_get(&one, &hi, 0, 0) ? at(desc, arg, CNN_ARG_SRC2, pixel, c) : 0;
}

void cnn_ref_clip_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, clip_grad_value);
}

static double leaky_relu_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    double x = at(desc, arg, CNN_ARG_SRC, pixel, c);
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        return cnn_quant_leaky_relu((int8_t)x, desc->scale[0], desc->slope, desc->out_scale, desc->lo, desc->hi);
    return x > 0 ? x : (double)desc->slope * x;
}

void cnn_ref_leaky_relu(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, leaky_relu_value);
}

static double leaky_relu_grad_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    double y = at(desc, arg, CNN_ARG_SRC, pixel, c), dy = at(desc, arg, CNN_ARG_SRC2, pixel, c);
    return y > 0 ? dy : (double)desc->slope * dy;
}

void cnn_ref_leaky_relu_grad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, leaky_relu_grad_value);
}

static double add_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    double a = at(desc, arg, CNN_ARG_SRC, pixel, c);
    double b = at(desc, arg, CNN_ARG_SRC2, pixel, c);
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
        return cnn_quant_add((int8_t)a, (int8_t)b, desc->scale[0], desc->scale[1], desc->out_scale, desc->lo, desc->hi);
    return a + b;
}

void cnn_ref_add(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, add_value);
}

/* acc + bias of one element. */
static int32_t biased(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    return (int32_t)(at(desc, arg, CNN_ARG_SRC, pixel, c) + at(desc, arg, CNN_ARG_BIAS, 0, c));
}

static double requantize_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    float multiplier = (float)at(desc, arg, CNN_ARG_MULT, 0, c);
    return cnn_quant_requantize(biased(desc, arg, pixel, c), multiplier, desc->lo, desc->hi);
}

void cnn_ref_requantize(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, requantize_value);
}

static double dequantize_value(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], int64_t pixel, int32_t c)
{
    float multiplier = (float)at(desc, arg, CNN_ARG_MULT, 0, c);
    return (double)((float)biased(desc, arg, pixel, c) * multiplier);
}

void cnn_ref_dequantize(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    map(desc, arg, dequantize_value);
}

void cnn_ref_mask(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    (void)workspace;
    const uint8_t *live = arg[CNN_ARG_SRC];
    cnn_real *x = arg[CNN_ARG_DST];
    for (int32_t i = 0; i < desc->arg[CNN_ARG_DST].c; i++)
        x[i] = live[i] ? x[i] : 0;
}
