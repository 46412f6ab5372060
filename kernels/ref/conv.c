/* Convolutions, in groups or not, and linear layers: forward, data gradient, weight gradient.
 *
 * All three visit the same triples (input pixel, output pixel, filter tap) in the order n, p, q, r, s:
 *   forward  y[k] += sum_c x[c] w[k,c]      dgrad  x[c] += sum_k y[k] w[k,c]      wgrad  w[k,c] += y[k] x[c]
 * Operands are first read into plain arrays without padding: doubles, or int16 and int32 for int8 (so that int8
 * networks run on this backend in bearable time; integer sums are exact in any order). */
#include "kernels/ref/ref.h"

#include <string.h>

cnn_ref_shape cnn_ref_conv_shape(const cnn_op_desc *desc)
{
    bool dgrad = cnn_op_is_dgrad(desc->op), wgrad = cnn_op_is_wgrad(desc->op);
    bool linear = desc->op == CNN_OP_LINEAR || desc->op == CNN_OP_LINEAR_DGRAD || desc->op == CNN_OP_LINEAR_WGRAD;
    const cnn_tensor_desc *x = &desc->arg[dgrad ? CNN_ARG_DST : CNN_ARG_SRC];
    const cnn_tensor_desc *w = &desc->arg[wgrad ? CNN_ARG_DST : CNN_ARG_WEIGHT];
    cnn_ref_shape shape = {.n = x->n, .h = x->h, .w = x->w, .c = x->c, .k = w->n, .r = w->h, .s = w->w};
    shape.inputs = w->c;
    shape.group_outputs = w->n / (x->c / w->c);
    shape.stride = linear ? 1 : desc->stride;
    shape.pad = linear ? 0 : desc->pad;
    shape.p = cnn_window_count(x->h, w->h, shape.stride, shape.pad);
    shape.q = cnn_window_count(x->w, w->w, shape.stride, shape.pad);
    return shape;
}

static int64_t x_count(const cnn_ref_shape *shape)
{
    return (int64_t)shape->n * shape->h * shape->w * shape->c;
}

static int64_t w_count(const cnn_ref_shape *shape)
{
    return (int64_t)shape->k * shape->r * shape->s * shape->inputs;
}

static int64_t y_count(const cnn_ref_shape *shape)
{
    return (int64_t)shape->n * shape->p * shape->q * shape->k;
}

size_t cnn_ref_conv_workspace(const cnn_op_desc *desc)
{
    cnn_ref_shape shape = cnn_ref_conv_shape(desc);
    return (size_t)(x_count(&shape) + w_count(&shape) + y_count(&shape)) * sizeof(double);
}

/* ---- Operands ---- */

typedef struct operands {
    cnn_ref_shape shape;
    double *x, *w, *y;    /* [N,H,W,C], [K,R,S,C], [N,P,Q,K] */
    int16_t *x_i8, *w_i8; /* the same for int8 */
    int32_t *y_i32;
} operands;

/* Lays the three arrays out in the workspace; each has room for doubles. */
static operands operands_at(const cnn_op_desc *desc, void *workspace)
{
    operands o = {.shape = cnn_ref_conv_shape(desc)};
    o.x = workspace;
    o.w = o.x + x_count(&o.shape);
    o.y = o.w + w_count(&o.shape);
    o.x_i8 = (int16_t *)(void *)o.x;
    o.w_i8 = (int16_t *)(void *)o.w;
    o.y_i32 = (int32_t *)(void *)o.y;
    return o;
}

static void read_doubles(double *dst, const cnn_tensor_desc *desc, const void *src)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            *dst++ = cnn_ref_get(desc, src, pixel, c);
}

static void read_i8(int16_t *dst, const cnn_tensor_desc *desc, const int8_t *src)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            *dst++ = src[pixel * desc->c_pad + c];
}

static void store(const cnn_tensor_desc *desc, void *dst, const double *src)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            cnn_ref_put(desc, dst, pixel, c, *src++);
    cnn_ref_clear_padding(desc, dst);
}

static void fill_zero(double *dst, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        dst[i] = 0;
}

/* ---- The walk ---- */

/* What happens at one tap; x, y and w are offsets of channel 0 in the arrays (w of output 0). */
typedef void tap_fn(const operands *o, int64_t x, int64_t y, int64_t w);

/* Where the weights of an output begin at a tap, from those of output 0 on. */
static int64_t w_pitch(const cnn_ref_shape *shape)
{
    return (int64_t)shape->r * shape->s * shape->inputs;
}

/* The first input channel of output k's group. */
static int32_t first_input(const cnn_ref_shape *shape, int32_t k)
{
    return k / shape->group_outputs * shape->inputs;
}

static void tap_forward(const operands *o, int64_t x, int64_t y, int64_t w)
{
    for (int32_t k = 0; k < o->shape.k; k++) {
        const double *from = o->x + x + first_input(&o->shape, k), *weight = o->w + w + k * w_pitch(&o->shape);
        double sum = o->y[y + k];
        for (int32_t c = 0; c < o->shape.inputs; c++)
            sum += from[c] * weight[c];
        o->y[y + k] = sum;
    }
}

static void tap_forward_i8(const operands *o, int64_t x, int64_t y, int64_t w)
{
    for (int32_t k = 0; k < o->shape.k; k++) {
        const int16_t *from = o->x_i8 + x + first_input(&o->shape, k);
        const int16_t *weight = o->w_i8 + w + k * w_pitch(&o->shape);
        int32_t sum = o->y_i32[y + k];
        for (int32_t c = 0; c < o->shape.inputs; c++)
            sum += from[c] * weight[c];
        o->y_i32[y + k] = sum;
    }
}

static void tap_dgrad(const operands *o, int64_t x, int64_t y, int64_t w)
{
    for (int32_t k = 0; k < o->shape.k; k++) {
        double *to = o->x + x + first_input(&o->shape, k);
        const double *weight = o->w + w + k * w_pitch(&o->shape);
        for (int32_t c = 0; c < o->shape.inputs; c++)
            to[c] += o->y[y + k] * weight[c];
    }
}

static void tap_wgrad(const operands *o, int64_t x, int64_t y, int64_t w)
{
    for (int32_t k = 0; k < o->shape.k; k++) {
        const double *from = o->x + x + first_input(&o->shape, k);
        double *to = o->w + w + k * w_pitch(&o->shape);
        for (int32_t c = 0; c < o->shape.inputs; c++)
            to[c] += o->y[y + k] * from[c];
    }
}

/* The taps of output pixel (n,p,q) that lie inside the image. */
static void walk_pixel(const operands *o, int32_t n, int32_t p, int32_t q, tap_fn *tap)
{
    const cnn_ref_shape *shape = &o->shape;
    int64_t y = (((int64_t)n * shape->p + p) * shape->q + q) * shape->k;
    for (int32_t r = 0; r < shape->r; r++) {
        int32_t h = p * shape->stride + r - shape->pad;
        for (int32_t s = 0; s < shape->s; s++) {
            int32_t w = q * shape->stride + s - shape->pad;
            if (h >= 0 && h < shape->h && w >= 0 && w < shape->w)
                tap(o, (((int64_t)n * shape->h + h) * shape->w + w) * shape->c, y,
                    ((int64_t)r * shape->s + s) * shape->inputs);
        }
    }
}

static void walk(const operands *o, tap_fn *tap)
{
    for (int32_t n = 0; n < o->shape.n; n++)
        for (int32_t p = 0; p < o->shape.p; p++)
            for (int32_t q = 0; q < o->shape.q; q++)
                walk_pixel(o, n, p, q, tap);
}

/* ---- The ops ---- */

/* Leaves the int32 sums as doubles in y. */
static void forward_i8(const operands *o, const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT])
{
    int64_t count = y_count(&o->shape);
    read_i8(o->x_i8, &desc->arg[CNN_ARG_SRC], arg[CNN_ARG_SRC]);
    read_i8(o->w_i8, &desc->arg[CNN_ARG_WEIGHT], arg[CNN_ARG_WEIGHT]);
    memset(o->y_i32, 0, (size_t)count * sizeof *o->y_i32);
    walk(o, tap_forward_i8);
    /* In place and from the end: each double covers only sums that were read before. */
    for (int64_t i = count - 1; i >= 0; i--) {
        int32_t sum;
        memcpy(&sum, (const char *)o->y + (size_t)i * sizeof sum, sizeof sum);
        o->y[i] = sum;
    }
}

void cnn_ref_conv(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    operands o = operands_at(desc, workspace);
    if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8) {
        forward_i8(&o, desc, arg);
    } else {
        read_doubles(o.x, &desc->arg[CNN_ARG_SRC], arg[CNN_ARG_SRC]);
        read_doubles(o.w, &desc->arg[CNN_ARG_WEIGHT], arg[CNN_ARG_WEIGHT]);
        fill_zero(o.y, y_count(&o.shape));
        walk(&o, tap_forward);
    }
    cnn_ref_epilogue(desc, arg, o.y);
}

/* dx = y > 0 ? dx : 0 */
static void relu_gradient(double *dx, const cnn_tensor_desc *desc, const void *y)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++, dx++)
            if (!(cnn_ref_get(desc, y, pixel, c) > 0))
                *dx = 0;
}

/* dy into y: as it is, or from the pixels of what was pooled to those that INDEX names. */
static void read_gradient(const operands *o, const cnn_op_desc *desc, cnn_arg role, void *const arg[CNN_ARG_COUNT])
{
    const cnn_tensor_desc *dy = &desc->arg[role], *index = &desc->arg[CNN_ARG_INDEX];
    if (index->dtype == CNN_NONE) {
        read_doubles(o->y, dy, arg[role]);
        return;
    }
    fill_zero(o->y, y_count(&o->shape));
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(dy); pixel++) {
        const int64_t n = pixel / dy->w / dy->h, p = pixel / dy->w % dy->h, q = pixel % dy->w;
        for (int32_t k = 0; k < dy->c; k++) {
            const int32_t at = (int32_t)cnn_ref_get(index, arg[CNN_ARG_INDEX], pixel, k);
            const int64_t row = p * desc->pool_stride + at / desc->pool_kernel;
            const int64_t column = q * desc->pool_stride + at % desc->pool_kernel;
            if (at < desc->pool_kernel * desc->pool_kernel)
                o->y[((n * o->shape.p + row) * o->shape.q + column) * o->shape.k + k] =
                    cnn_ref_get(dy, arg[role], pixel, k);
        }
    }
}

void cnn_ref_conv_dgrad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    operands o = operands_at(desc, workspace);
    read_gradient(&o, desc, CNN_ARG_SRC, arg);
    read_doubles(o.w, &desc->arg[CNN_ARG_WEIGHT], arg[CNN_ARG_WEIGHT]);
    fill_zero(o.x, x_count(&o.shape));
    walk(&o, tap_dgrad);
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU_GRAD))
        relu_gradient(o.x, &desc->arg[CNN_ARG_SRC2], arg[CNN_ARG_SRC2]);
    store(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST], o.x);
}

/* db[k] = sum_npq dy */
static void bias_gradient(const operands *o, const cnn_tensor_desc *desc, void *dst)
{
    for (int32_t k = 0; k < o->shape.k; k++) {
        double sum = 0;
        for (int64_t i = k; i < y_count(&o->shape); i += o->shape.k)
            sum += o->y[i];
        cnn_ref_put(desc, dst, 0, k, sum);
    }
    cnn_ref_clear_padding(desc, dst);
}

void cnn_ref_conv_wgrad(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace)
{
    operands o = operands_at(desc, workspace);
    read_doubles(o.x, &desc->arg[CNN_ARG_SRC], arg[CNN_ARG_SRC]);
    read_gradient(&o, desc, CNN_ARG_SRC2, arg);
    fill_zero(o.w, w_count(&o.shape));
    walk(&o, tap_wgrad);
    store(&desc->arg[CNN_ARG_DST], arg[CNN_ARG_DST], o.w);
    if (desc->arg[CNN_ARG_DST2].dtype != CNN_NONE)
        bias_gradient(&o, &desc->arg[CNN_ARG_DST2], arg[CNN_ARG_DST2]);
}
