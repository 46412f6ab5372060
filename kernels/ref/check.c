/* Which op descriptors are valid: the table in cnn/ops.h, row by row. */
#include "kernels/augment/params.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Records the reason; always false. */
static bool refuse(char *why, const char *format, ...) CNN_PRINTF(2, 3);

static bool refuse(char *why, const char *format, ...)
{
    if (why) {
        va_list args;
        va_start(args, format);
        vsnprintf(why, CNN_REASON_BYTES, format, args);
        va_end(args);
    }
    return false;
}

#define REQUIRE(condition, ...)              \
    do {                                     \
        if (!(condition))                    \
            return refuse(why, __VA_ARGS__); \
    } while (0)

static bool is_float(cnn_dtype dtype)
{
    return dtype == CNN_F32 || dtype == CNN_F16 || dtype == CNN_BF16;
}

static bool present(const cnn_op_desc *desc, cnn_arg role)
{
    return desc->arg[role].dtype != CNN_NONE;
}

/* ---- Pieces ---- */

/* Every tensor present has a sane shape and a use in this op; INDEX and so on may be absent. */
static bool check_tensors(const cnn_op_desc *desc, const uint8_t *use, char *why)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        const cnn_tensor_desc *t = &desc->arg[role];
        const char *name = cnn_arg_name((cnn_arg)role);
        if (t->dtype == CNN_NONE)
            continue;
        REQUIRE(use[role] != CNN_USE_NONE, "this op has no tensor %s", name);
        REQUIRE((unsigned)t->dtype < CNN_DTYPE_COUNT, "%s has an unknown element type", name);
        REQUIRE(t->n > 0 && t->h > 0 && t->w > 0 && t->c > 0, "%s has an empty dimension", name);
        REQUIRE(t->c_pad >= t->c, "%s has %d channels in memory for %d", name, t->c_pad, t->c);
        double bytes = (double)t->n * t->h * t->w * t->c_pad * 8;
        REQUIRE(bytes < 0x1p62, "%s is larger than memory", name);
    }
    return true;
}

static bool check_is(const cnn_op_desc *desc, cnn_arg role, cnn_dtype dtype, const int32_t shape[4], char *why)
{
    const cnn_tensor_desc *t = &desc->arg[role];
    const char *name = cnn_arg_name(role);
    REQUIRE(t->dtype != CNN_NONE, "tensor %s is missing", name);
    REQUIRE(t->dtype == dtype, "%s is %s and must be %s", name, cnn_dtype_name(t->dtype), cnn_dtype_name(dtype));
    REQUIRE(t->n == shape[0] && t->h == shape[1] && t->w == shape[2] && t->c == shape[3],
            "%s is [%d,%d,%d,%d] and must be [%d,%d,%d,%d]", name, t->n, t->h, t->w, t->c, shape[0], shape[1], shape[2],
            shape[3]);
    return true;
}

static bool check_vector(const cnn_op_desc *desc, cnn_arg role, cnn_dtype dtype, int32_t length, char *why)
{
    int32_t shape[4] = {1, 1, 1, length};
    return check_is(desc, role, dtype, shape, why);
}

static bool check_like(const cnn_op_desc *desc, cnn_arg role, cnn_dtype dtype, const cnn_tensor_desc *like, char *why)
{
    int32_t shape[4] = {like->n, like->h, like->w, like->c};
    return check_is(desc, role, dtype, shape, why);
}

/* SRC of a float op. */
static bool check_float_src(const cnn_op_desc *desc, char *why)
{
    REQUIRE(is_float(desc->arg[CNN_ARG_SRC].dtype), "src is %s and must be f32, f16 or bf16",
            cnn_dtype_name(desc->arg[CNN_ARG_SRC].dtype));
    return true;
}

/* DST with the shape of `like` and its dtype, or f32. */
static bool check_float_dst(const cnn_op_desc *desc, const int32_t shape[4], char *why)
{
    cnn_dtype dtype = desc->arg[CNN_ARG_DST].dtype == CNN_F32 ? CNN_F32 : desc->arg[CNN_ARG_SRC].dtype;
    return check_is(desc, CNN_ARG_DST, dtype, shape, why);
}

static bool check_range(const cnn_op_desc *desc, char *why)
{
    REQUIRE(desc->lo >= -127 && desc->lo <= desc->hi && desc->hi <= 127 && desc->lo == rintf(desc->lo) &&
                desc->hi == rintf(desc->hi),
            "the range [%g,%g] must be whole numbers within [-127,127]", (double)desc->lo, (double)desc->hi);
    return true;
}

static bool check_state(const cnn_op_desc *desc, char *why)
{
    REQUIRE(present(desc, CNN_ARG_STATE), "tensor state is missing");
    REQUIRE(cnn_desc_bytes(&desc->arg[CNN_ARG_STATE]) >= sizeof(cnn_train_state),
            "state has %zu bytes and a training state %zu", cnn_desc_bytes(&desc->arg[CNN_ARG_STATE]),
            sizeof(cnn_train_state));
    return true;
}

/* INDEX i32 [L], L >= N, and STATE, when present. */
static bool check_gather(const cnn_op_desc *desc, int32_t images, char *why)
{
    int32_t length = desc->arg[CNN_ARG_INDEX].c;
    if (present(desc, CNN_ARG_STATE) && !check_state(desc, why))
        return false;
    if (!present(desc, CNN_ARG_INDEX))
        return true;
    REQUIRE(length >= images, "index names %d images and the batch has %d", length, images);
    return check_vector(desc, CNN_ARG_INDEX, CNN_I32, length, why);
}

/* ---- Convolutions ---- */

static bool is_linear(cnn_op op)
{
    return op == CNN_OP_LINEAR || op == CNN_OP_LINEAR_DGRAD || op == CNN_OP_LINEAR_WGRAD;
}

/* Filter, stride and padding fit the image; x and w as cnn_ref_shape has them. */
static bool check_window(const cnn_op_desc *desc, const cnn_tensor_desc *x, const cnn_tensor_desc *w, char *why)
{
    REQUIRE(x->dtype != CNN_NONE && w->dtype != CNN_NONE, "the image or the weights are missing");
    REQUIRE(w->c == x->c || (cnn_op_is_group_conv(desc->op) && x->c % w->c == 0 && w->n % (x->c / w->c) == 0),
            "the filters have %d channels and the image %d", w->c, x->c);
    if (is_linear(desc->op)) {
        REQUIRE(w->h == x->h && w->w == x->w,
                "a linear layer's weights are [K,H,W,C] of its input, %d x %d is not %d x %d", w->h, w->w, x->h, x->w);
        return true;
    }
    REQUIRE(desc->stride >= 1, "stride %d must be at least 1", desc->stride);
    REQUIRE(desc->pad >= 0 && desc->pad < 32768, "pad %d must be in [0,32767]", desc->pad);
    REQUIRE(cnn_window_count(x->h, w->h, desc->stride, desc->pad) > 0 &&
                cnn_window_count(x->w, w->w, desc->stride, desc->pad) > 0,
            "a %d x %d filter does not fit into the %d x %d image with pad %d", w->h, w->w, x->h, x->w, desc->pad);
    return true;
}

/* The epilogue's steps in the order that ops.h allows; `chain` lists that order. CLIP may stand in RELU's place where
 * `clips`. */
static bool check_chain(const cnn_op_desc *desc, const cnn_epilogue_kind *chain, int length, bool clips, char *why)
{
    REQUIRE(desc->epilogue_count >= 0 && desc->epilogue_count <= CNN_MAX_EPILOGUE, "%d epilogue steps are too many",
            desc->epilogue_count);
    int at = 0;
    for (int32_t i = 0; i < desc->epilogue_count; i++, at++) {
        const bool clip = clips && desc->epilogue[i] == CNN_EPILOGUE_CLIP;
        REQUIRE(!clip || desc->hi > 0, "the end %g of a clip must be positive", (double)desc->hi);
        while (at < length && chain[at] != (clip ? CNN_EPILOGUE_RELU : desc->epilogue[i]))
            at++;
        REQUIRE(at < length, "epilogue step %d is not allowed there", i + 1);
    }
    return true;
}

static bool check_float_conv(const cnn_op_desc *desc, const int32_t unpooled[4], char *why)
{
    static const cnn_epilogue_kind chain[] = {CNN_EPILOGUE_BIAS, CNN_EPILOGUE_ADD, CNN_EPILOGUE_RELU,
                                              CNN_EPILOGUE_MAXPOOL};
    cnn_dtype dtype = desc->arg[CNN_ARG_SRC].dtype;
    REQUIRE(is_float(dtype), "src is %s and must be a float or i8", cnn_dtype_name(dtype));
    REQUIRE(desc->arg[CNN_ARG_WEIGHT].dtype == dtype, "weights and src differ in element type");
    if (!check_chain(desc, chain, 4, true, why))
        return false;
    bool bias = cnn_op_has_epilogue(desc, CNN_EPILOGUE_BIAS);
    bool add = cnn_op_has_epilogue(desc, CNN_EPILOGUE_ADD);
    REQUIRE(bias == present(desc, CNN_ARG_BIAS), "a bias tensor and its epilogue step come together");
    REQUIRE(add == present(desc, CNN_ARG_SRC2), "a tensor to add and its epilogue step come together");
    REQUIRE(!present(desc, CNN_ARG_MULT), "a float convolution has no tensor mult");
    return (!bias || check_vector(desc, CNN_ARG_BIAS, CNN_F32, unpooled[3], why)) &&
           (!add || check_is(desc, CNN_ARG_SRC2, dtype, unpooled, why));
}

static bool check_i8_conv(const cnn_op_desc *desc, const int32_t unpooled[4], cnn_dtype *out, char *why)
{
    static const cnn_epilogue_kind requantize[] = {CNN_EPILOGUE_REQUANTIZE, CNN_EPILOGUE_MAXPOOL};
    static const cnn_epilogue_kind dequantize[] = {CNN_EPILOGUE_DEQUANTIZE};
    bool to_f32 = cnn_op_has_epilogue(desc, CNN_EPILOGUE_DEQUANTIZE);
    bool to_i8 = cnn_op_has_epilogue(desc, CNN_EPILOGUE_REQUANTIZE);
    *out = to_f32 ? CNN_F32 : to_i8 ? CNN_I8 : CNN_I32;
    REQUIRE(desc->arg[CNN_ARG_WEIGHT].dtype == CNN_I8, "weights must be i8 as src is");
    REQUIRE(!present(desc, CNN_ARG_SRC2), "an i8 convolution adds no second tensor");
    REQUIRE(to_i8 || !cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL), "i8 sums are pooled only after requantizing");
    if (!check_chain(desc, to_f32 ? dequantize : requantize, to_f32 ? 1 : 2, false, why))
        return false;
    if (!to_f32 && !to_i8) {
        REQUIRE(!present(desc, CNN_ARG_BIAS) && !present(desc, CNN_ARG_MULT), "bias and mult need an epilogue step");
        return true;
    }
    return check_vector(desc, CNN_ARG_BIAS, CNN_I32, unpooled[3], why) &&
           check_vector(desc, CNN_ARG_MULT, CNN_F32, unpooled[3], why) && (to_f32 || check_range(desc, why));
}

static bool check_conv(const cnn_op_desc *desc, char *why)
{
    if (!check_window(desc, &desc->arg[CNN_ARG_SRC], &desc->arg[CNN_ARG_WEIGHT], why))
        return false;
    cnn_ref_shape shape = cnn_ref_conv_shape(desc);
    int32_t out[4] = {shape.n, shape.p, shape.q, shape.k};
    cnn_dtype out_dtype = CNN_NONE;
    bool is_i8 = desc->arg[CNN_ARG_SRC].dtype == CNN_I8;
    if (!(is_i8 ? check_i8_conv(desc, out, &out_dtype, why) : check_float_conv(desc, out, why)))
        return false;
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL)) {
        REQUIRE(desc->pool_kernel >= 1 && desc->pool_stride >= 1, "the pooling window and stride must be at least 1");
        out[1] = cnn_window_count(shape.p, desc->pool_kernel, desc->pool_stride, 0);
        out[2] = cnn_window_count(shape.q, desc->pool_kernel, desc->pool_stride, 0);
        REQUIRE(out[1] > 0 && out[2] > 0, "a pooling window of %d does not fit into %d x %d", desc->pool_kernel,
                shape.p, shape.q);
    }
    return is_i8 ? check_is(desc, CNN_ARG_DST, out_dtype, out, why) : check_float_dst(desc, out, why);
}

static bool check_dgrad(const cnn_op_desc *desc, char *why)
{
    static const cnn_epilogue_kind chain[] = {CNN_EPILOGUE_RELU_GRAD};
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_DST];
    if (!check_float_src(desc, why) || !check_window(desc, x, &desc->arg[CNN_ARG_WEIGHT], why))
        return false;
    cnn_ref_shape shape = cnn_ref_conv_shape(desc);
    int32_t y[4] = {shape.n, shape.p, shape.q, shape.k};
    int32_t dx[4] = {x->n, x->h, x->w, x->c};
    const bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU_GRAD);
    if (!check_chain(desc, chain, is_linear(desc->op) ? 1 : 0, false, why))
        return false;
    REQUIRE(relu == present(desc, CNN_ARG_SRC2), "a ReLU's output and the epilogue step for it come together");
    REQUIRE(!present(desc, CNN_ARG_BIAS) && !present(desc, CNN_ARG_MULT), "a data gradient has no bias and mult");
    REQUIRE(desc->arg[CNN_ARG_WEIGHT].dtype == desc->arg[CNN_ARG_SRC].dtype, "weights and src differ in element type");
    return check_is(desc, CNN_ARG_SRC, desc->arg[CNN_ARG_SRC].dtype, y, why) && check_float_dst(desc, dx, why) &&
           (!relu || check_is(desc, CNN_ARG_SRC2, desc->arg[CNN_ARG_SRC].dtype, dx, why));
}

static bool check_wgrad(const cnn_op_desc *desc, char *why)
{
    if (!check_float_src(desc, why) || !check_window(desc, &desc->arg[CNN_ARG_SRC], &desc->arg[CNN_ARG_DST], why))
        return false;
    cnn_ref_shape shape = cnn_ref_conv_shape(desc);
    int32_t y[4] = {shape.n, shape.p, shape.q, shape.k};
    REQUIRE(desc->arg[CNN_ARG_DST].dtype == CNN_F32, "a weight gradient is f32");
    return check_is(desc, CNN_ARG_SRC2, desc->arg[CNN_ARG_SRC].dtype, y, why) &&
           (!present(desc, CNN_ARG_DST2) || check_vector(desc, CNN_ARG_DST2, CNN_F32, shape.k, why));
}

/* ---- Batch normalization ---- */

/* SRC and the vectors, one value a channel. */
static bool check_bn_inputs(const cnn_op_desc *desc, const cnn_arg *vectors, int count, char *why)
{
    if (!check_float_src(desc, why))
        return false;
    for (int i = 0; i < count; i++)
        if (!check_vector(desc, vectors[i], CNN_F32, desc->arg[CNN_ARG_SRC].c, why))
            return false;
    return true;
}

static bool check_bn(const cnn_op_desc *desc, const cnn_arg *vectors, int count, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    int32_t shape[4] = {src->n, src->h, src->w, src->c};
    return check_bn_inputs(desc, vectors, count, why) && check_float_dst(desc, shape, why);
}

/* The pooling behind a batch norm: its window, and the shape of the pooled tensor. */
static bool check_bn_window(const cnn_op_desc *desc, int32_t pooled[4], char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    REQUIRE(desc->pool_kernel >= 1 && desc->pool_kernel <= 15 && desc->pool_stride >= 1,
            "a pooling window behind a batch norm is 1 to 15 wide, and its stride at least 1");
    pooled[0] = src->n;
    pooled[1] = cnn_window_count(src->h, desc->pool_kernel, desc->pool_stride, 0);
    pooled[2] = cnn_window_count(src->w, desc->pool_kernel, desc->pool_stride, 0);
    pooled[3] = src->c;
    REQUIRE(pooled[1] > 0 && pooled[2] > 0, "a pooling window of %d does not fit into %d x %d", desc->pool_kernel,
            src->h, src->w);
    return true;
}

/* In training there is an INDEX. */
static bool check_bn_pool(const cnn_op_desc *desc, int32_t pooled[4], char *why)
{
    return check_bn_window(desc, pooled, why) && check_is(desc, CNN_ARG_INDEX, CNN_U8, pooled, why);
}

static const cnn_epilogue_kind bn_chain[] = {CNN_EPILOGUE_RELU, CNN_EPILOGUE_MAXPOOL};

static bool check_bn_train(const cnn_op_desc *desc, char *why)
{
    static const cnn_arg vectors[] = {CNN_ARG_GAMMA, CNN_ARG_BETA, CNN_ARG_MEAN, CNN_ARG_VAR, CNN_ARG_INVSTD};
    int32_t pooled[4];
    REQUIRE(desc->eps > 0, "eps must be positive");
    if (!check_chain(desc, bn_chain, 2, false, why))
        return false;
    if (desc->epilogue_count == 0) {
        REQUIRE(!present(desc, CNN_ARG_INDEX), "an index needs an epilogue that pools");
        return check_bn(desc, vectors, 5, why);
    }
    REQUIRE(cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL), "the epilogue of a batch norm ends in max-pooling");
    return check_bn_inputs(desc, vectors, 5, why) && check_bn_pool(desc, pooled, why) &&
           check_float_dst(desc, pooled, why);
}

static bool check_bn_infer(const cnn_op_desc *desc, char *why)
{
    static const cnn_arg vectors[] = {CNN_ARG_GAMMA, CNN_ARG_BETA, CNN_ARG_MEAN, CNN_ARG_VAR};
    int32_t pooled[4];
    REQUIRE(desc->eps > 0, "eps must be positive");
    if (!check_chain(desc, bn_chain, 2, false, why))
        return false;
    if (!cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL))
        return check_bn(desc, vectors, 4, why);
    return check_bn_inputs(desc, vectors, 4, why) && check_bn_window(desc, pooled, why) &&
           check_float_dst(desc, pooled, why);
}

static bool check_bn_grad(const cnn_op_desc *desc, char *why)
{
    static const cnn_arg vectors[] = {CNN_ARG_GAMMA, CNN_ARG_MEAN, CNN_ARG_INVSTD, CNN_ARG_DST2, CNN_ARG_DST3};
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    int32_t pooled[4];
    if (!check_bn(desc, vectors, 5, why))
        return false;
    if (!present(desc, CNN_ARG_INDEX))
        return check_like(desc, CNN_ARG_SRC2, src->dtype, src, why);
    return check_bn_pool(desc, pooled, why) && check_is(desc, CNN_ARG_SRC2, src->dtype, pooled, why);
}

/* ---- Elementwise and pooling ---- */

static bool check_relu(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    return (src->dtype == CNN_I8 || check_float_src(desc, why)) && check_like(desc, CNN_ARG_DST, src->dtype, src, why);
}

static bool check_relu_grad(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    return check_float_src(desc, why) && check_relu(desc, why) && check_like(desc, CNN_ARG_SRC2, src->dtype, src, why);
}

static bool check_clip(const cnn_op_desc *desc, char *why)
{
    const bool is_i8 = desc->arg[CNN_ARG_SRC].dtype == CNN_I8;
    REQUIRE(desc->hi > 0, "the end %g of a clip must be positive", (double)desc->hi);
    return check_relu(desc, why) && (!is_i8 || check_range(desc, why));
}

static bool check_clip_grad(const cnn_op_desc *desc, char *why)
{
    REQUIRE(desc->hi > 0, "the end %g of a clip must be positive", (double)desc->hi);
    return check_relu_grad(desc, why);
}

static bool check_leaky_relu(const cnn_op_desc *desc, char *why)
{
    const bool is_i8 = desc->arg[CNN_ARG_SRC].dtype == CNN_I8;
    REQUIRE(is_i8 || (desc->slope >= 0 && desc->slope <= 1), "a slope of %g must be in [0,1]", (double)desc->slope);
    return check_relu(desc, why) && (!is_i8 || check_range(desc, why));
}

static bool check_leaky_relu_grad(const cnn_op_desc *desc, char *why)
{
    REQUIRE(desc->slope >= 0 && desc->slope <= 1, "a slope of %g must be in [0,1]", (double)desc->slope);
    return check_relu_grad(desc, why);
}

static bool check_add(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    bool is_i8 = src->dtype == CNN_I8;
    if (!is_i8 && !check_float_src(desc, why))
        return false;
    return check_like(desc, CNN_ARG_SRC2, src->dtype, src, why) &&
           check_like(desc, CNN_ARG_DST, src->dtype, src, why) && (!is_i8 || check_range(desc, why));
}

/* The pieces have the whole's pixels, and its channels together. */
static bool check_pieces(const cnn_op_desc *desc, cnn_arg whole_role, cnn_arg a_role, cnn_arg b_role, char *why)
{
    const cnn_tensor_desc *whole = &desc->arg[whole_role], *a = &desc->arg[a_role], *b = &desc->arg[b_role];
    const int32_t first[4] = {whole->n, whole->h, whole->w, a->c}, second[4] = {whole->n, whole->h, whole->w, b->c};
    REQUIRE(is_float(whole->dtype) || (whole->dtype == CNN_I8 && desc->op == CNN_OP_CONCAT),
            "%s is %s and must be a float or i8", cnn_arg_name(whole_role), cnn_dtype_name(whole->dtype));
    REQUIRE((int64_t)a->c + b->c == whole->c, "%d channels and %d are not %d", a->c, b->c, whole->c);
    return check_is(desc, a_role, whole->dtype, first, why) && check_is(desc, b_role, whole->dtype, second, why);
}

static bool check_concat(const cnn_op_desc *desc, char *why)
{
    return check_pieces(desc, CNN_ARG_DST, CNN_ARG_SRC, CNN_ARG_SRC2, why) &&
           (desc->arg[CNN_ARG_DST].dtype != CNN_I8 || check_range(desc, why));
}

static bool check_concat_grad(const cnn_op_desc *desc, char *why)
{
    return check_pieces(desc, CNN_ARG_SRC, CNN_ARG_DST, CNN_ARG_DST2, why);
}

static bool check_dropout(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    REQUIRE(desc->rate >= 0 && desc->rate < 1, "a rate of %g must be in [0,1)", (double)desc->rate);
    REQUIRE(present(desc, CNN_ARG_STATE), "tensor state is missing");
    return check_float_src(desc, why) && check_like(desc, CNN_ARG_DST, src->dtype, src, why) &&
           check_gather(desc, src->n, why);
}

/* What a window of averages is: square, or with kernel 0 the whole image. */
static bool check_average(const cnn_op_desc *desc, cnn_arg big_role, cnn_arg small_role, char *why)
{
    const cnn_tensor_desc *big = &desc->arg[big_role], *small = &desc->arg[small_role];
    const int64_t pixels = desc->kernel ? (int64_t)desc->kernel * desc->kernel : (int64_t)big->h * big->w;
    REQUIRE(is_float(big->dtype) || (big->dtype == CNN_I8 && desc->op == CNN_OP_AVGPOOL),
            "%s is %s, which is not averaged", cnn_arg_name(big_role), cnn_dtype_name(big->dtype));
    REQUIRE(desc->kernel >= 0 && pixels <= 1 << 24 && (desc->kernel == 0 || desc->stride >= 1),
            "a window of averages has at most 2^24 pixels, and a stride of at least 1");
    REQUIRE(small->n == big->n && small->c == big->c &&
                small->h == (desc->kernel ? cnn_window_count(big->h, desc->kernel, desc->stride, 0) : 1) &&
                small->w == (desc->kernel ? cnn_window_count(big->w, desc->kernel, desc->stride, 0) : 1),
            "averages of %d x %d by %d (stride %d) are not %d x %d", big->h, big->w, desc->kernel, desc->stride,
            small->h, small->w);
    return true;
}

static bool check_avgpool(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    if (!check_average(desc, CNN_ARG_SRC, CNN_ARG_DST, why))
        return false;
    if (src->dtype == CNN_I8)
        return check_like(desc, CNN_ARG_DST, CNN_I8, dst, why) && check_range(desc, why);
    REQUIRE(dst->dtype == src->dtype || dst->dtype == CNN_F32, "dst is %s and must be f32 or as src, %s",
            cnn_dtype_name(dst->dtype), cnn_dtype_name(src->dtype));
    return true;
}

static bool check_avgpool_grad(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *dx = &desc->arg[CNN_ARG_DST];
    return check_average(desc, CNN_ARG_DST, CNN_ARG_SRC, why) &&
           check_like(desc, CNN_ARG_SRC, dx->dtype, &desc->arg[CNN_ARG_SRC], why);
}

/* big is the image, small what the window slides to. */
static bool check_pool_window(const cnn_op_desc *desc, const cnn_tensor_desc *big, const cnn_tensor_desc *small,
                              char *why)
{
    REQUIRE(desc->kernel >= 1 && desc->kernel <= 16 && desc->stride >= 1,
            "a pooling window is 1 to 16 wide, and its stride at least 1");
    REQUIRE(desc->pad >= 0 && desc->pad < desc->kernel, "padding of %d leaves no pixel in a window of %d", desc->pad,
            desc->kernel);
    REQUIRE(small->n == big->n && small->c == big->c &&
                small->h == cnn_window_count(big->h, desc->kernel, desc->stride, desc->pad) &&
                small->w == cnn_window_count(big->w, desc->kernel, desc->stride, desc->pad),
            "pooling %d x %d by %d (stride %d, pad %d) does not give %d x %d", big->h, big->w, desc->kernel,
            desc->stride, desc->pad, small->h, small->w);
    return true;
}

static bool check_maxpool(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    REQUIRE(is_float(src->dtype) || src->dtype == CNN_I8, "src is %s and must be a float or i8",
            cnn_dtype_name(src->dtype));
    return check_pool_window(desc, src, dst, why) && check_like(desc, CNN_ARG_DST, src->dtype, dst, why) &&
           (!present(desc, CNN_ARG_INDEX) || check_like(desc, CNN_ARG_INDEX, CNN_U8, dst, why));
}

static bool check_maxpool_grad(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC2];
    const cnn_tensor_desc *dx = &desc->arg[CNN_ARG_DST];
    REQUIRE(is_float(dy->dtype), "src2 is %s and must be f32, f16 or bf16", cnn_dtype_name(dy->dtype));
    return check_pool_window(desc, dx, dy, why) && check_like(desc, CNN_ARG_DST, dy->dtype, dx, why) &&
           check_like(desc, CNN_ARG_INDEX, CNN_U8, dy, why);
}

/* ---- Ends of a network ---- */

static bool check_input(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const cnn_tensor_desc *table = &desc->arg[CNN_ARG_TABLE];
    REQUIRE(src->dtype == CNN_U8, "src is %s and must be u8", cnn_dtype_name(src->dtype));
    REQUIRE(is_float(dst->dtype) || dst->dtype == CNN_I8, "dst is %s and must be a float or i8",
            cnn_dtype_name(dst->dtype));
    REQUIRE(src->h == dst->h && src->w == dst->w && src->c == dst->c, "src and dst differ in shape");
    REQUIRE(present(desc, CNN_ARG_INDEX) || src->n >= dst->n, "src has %d images and dst %d", src->n, dst->n);
    REQUIRE(table->dtype == (dst->dtype == CNN_I8 ? CNN_I8 : CNN_F32), "the table is %s, which does not fit dst",
            cnn_dtype_name(table->dtype));
    REQUIRE(table->c == 256 && table->c_pad == 256 && cnn_desc_pixels(table) == src->c,
            "the table must hold 256 values for each of %d channels", src->c);
    if (present(desc, CNN_ARG_SRC2)) {
        REQUIRE(is_float(dst->dtype) && dst->c_pad == dst->c && src->c_pad == src->c,
                "augmented images must become floats, without padding channels");
        if (!check_vector(desc, CNN_ARG_SRC2, CNN_U8, dst->n * (int32_t)sizeof(cnn_augment_params), why))
            return false;
    }
    return check_gather(desc, dst->n, why);
}

static bool check_loss(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *labels = &desc->arg[CNN_ARG_LABELS];
    REQUIRE(src->dtype == CNN_F32 && src->h == 1 && src->w == 1, "src must be f32 logits [N,1,1,K]");
    REQUIRE(labels->dtype == CNN_U8 && labels->n == 1 && labels->h == 1 && labels->w == 1, "labels must be u8 [M]");
    REQUIRE(desc->smoothing >= 0 && desc->smoothing < 1, "label smoothing %g must be in [0,1)",
            (double)desc->smoothing);
    REQUIRE(present(desc, CNN_ARG_INDEX) || labels->c >= src->n, "there are %d labels for %d images", labels->c,
            src->n);
    if (present(desc, CNN_ARG_SRC2)) {
        const int32_t answers[4] = {labels->c, 1, 1, src->c};
        REQUIRE(desc->mix > 0 && desc->mix <= 1 && desc->temperature > 0 && isfinite(desc->temperature),
                "mix %g must be in (0,1], and temperature %g positive", (double)desc->mix, (double)desc->temperature);
        if (!check_is(desc, CNN_ARG_SRC2, CNN_F32, answers, why))
            return false;
    }
    if (present(desc, CNN_ARG_DST)) {
        REQUIRE(is_float(desc->arg[CNN_ARG_DST].dtype), "dst must be f32, f16 or bf16");
        if (!check_like(desc, CNN_ARG_DST, desc->arg[CNN_ARG_DST].dtype, src, why))
            return false;
    }
    return check_vector(desc, CNN_ARG_DST2, CNN_F32, 2, why) && check_gather(desc, src->n, why);
}

static bool check_requantize(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    bool to_i8 = desc->op == CNN_OP_REQUANTIZE;
    return check_like(desc, CNN_ARG_SRC, CNN_I32, src, why) && check_vector(desc, CNN_ARG_BIAS, CNN_I32, src->c, why) &&
           check_vector(desc, CNN_ARG_MULT, CNN_F32, src->c, why) &&
           check_like(desc, CNN_ARG_DST, to_i8 ? CNN_I8 : CNN_F32, src, why) && (!to_i8 || check_range(desc, why));
}

/* ---- Optimizer ---- */

static bool check_mask(const cnn_op_desc *desc, char *why)
{
    int32_t length = desc->arg[CNN_ARG_DST].c;
    return check_vector(desc, CNN_ARG_SRC, CNN_U8, length, why) &&
           check_vector(desc, CNN_ARG_DST, CNN_F32, length, why);
}

static bool check_grad_stats(const cnn_op_desc *desc, char *why)
{
    int32_t segments = desc->arg[CNN_ARG_DST].c;
    const int32_t statistics = desc->arg[CNN_ARG_SRC2].c;
    REQUIRE(present(desc, CNN_ARG_DST) && segments < INT32_MAX, "tensor dst is missing or too long");
    REQUIRE(present(desc, CNN_ARG_SRC2) == present(desc, CNN_ARG_DST2),
            "batch statistics and running ones come together");
    if (present(desc, CNN_ARG_SRC2) && (!check_vector(desc, CNN_ARG_SRC2, CNN_F32, statistics, why) ||
                                        !check_vector(desc, CNN_ARG_DST2, CNN_F32, statistics, why)))
        return false;
    return check_vector(desc, CNN_ARG_SRC, CNN_F32, desc->arg[CNN_ARG_SRC].c, why) &&
           check_vector(desc, CNN_ARG_DST, CNN_I32, segments, why) &&
           check_vector(desc, CNN_ARG_INDEX, CNN_I32, segments + 1, why) && check_state(desc, why);
}

static bool check_sgd(const cnn_op_desc *desc, char *why)
{
    int32_t length = desc->arg[CNN_ARG_SRC].c;
    cnn_dtype copy = desc->arg[CNN_ARG_DST3].dtype;
    REQUIRE(copy == CNN_NONE || copy == CNN_F16 || copy == CNN_BF16, "dst3 is %s and must be f16 or bf16",
            cnn_dtype_name(copy));
    return check_vector(desc, CNN_ARG_SRC, CNN_F32, length, why) &&
           check_vector(desc, CNN_ARG_DST, CNN_F32, length, why) &&
           check_vector(desc, CNN_ARG_DST2, CNN_F32, length, why) &&
           check_vector(desc, CNN_ARG_TABLE, CNN_F32, desc->arg[CNN_ARG_TABLE].c, why) &&
           (copy == CNN_NONE || check_vector(desc, CNN_ARG_DST3, copy, length, why)) && check_state(desc, why);
}

static bool check_adam(const cnn_op_desc *desc, char *why)
{
    return check_sgd(desc, why) && check_vector(desc, CNN_ARG_VAR, CNN_F32, desc->arg[CNN_ARG_SRC].c, why);
}

static bool check_update(const cnn_op_desc *desc, char *why)
{
    int32_t length = desc->arg[CNN_ARG_SRC].c;
    return check_vector(desc, CNN_ARG_SRC, CNN_F32, length, why) &&
           check_vector(desc, CNN_ARG_DST, CNN_F32, length, why) && check_state(desc, why);
}

static bool check_loss_scale(const cnn_op_desc *desc, char *why)
{
    int32_t bytes = desc->arg[CNN_ARG_DST].c;
    REQUIRE(desc->advance >= 0, "advance is %d and must not be negative", desc->advance);
    if (present(desc, CNN_ARG_DST)) {
        REQUIRE(bytes > 0 && (size_t)bytes % sizeof(cnn_step_report) == 0, "dst has %d bytes, and a report %zu", bytes,
                sizeof(cnn_step_report));
        if (!check_vector(desc, CNN_ARG_DST, CNN_U8, bytes, why) || !check_vector(desc, CNN_ARG_SRC2, CNN_F32, 2, why))
            return false;
    }
    return check_vector(desc, CNN_ARG_SRC, CNN_I32, desc->arg[CNN_ARG_SRC].c, why) && check_state(desc, why);
}

/* ---- Weights on a grid ---- */

static bool check_grid(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_dtype dst = desc->arg[CNN_ARG_DST].dtype;
    REQUIRE(desc->levels >= 1 && desc->levels <= 127, "levels is %d and must be in [1,127]", desc->levels);
    REQUIRE(isnormal(desc->step) && desc->step > 0, "step is %g and must be normal and positive", (double)desc->step);
    REQUIRE(is_float(dst), "dst is %s and must be f32, f16 or bf16", cnn_dtype_name(dst));
    return check_like(desc, CNN_ARG_SRC, CNN_F32, src, why) && check_vector(desc, CNN_ARG_SRC2, CNN_F32, 1, why) &&
           check_like(desc, CNN_ARG_DST, dst, src, why);
}

static bool check_grid_grad(const cnn_op_desc *desc, char *why)
{
    return check_grid(desc, why) && check_like(desc, CNN_ARG_DST, CNN_F32, &desc->arg[CNN_ARG_SRC], why) &&
           check_vector(desc, CNN_ARG_DST2, CNN_F32, 1, why);
}

bool cnn_ref_check(const cnn_op_desc *desc, char *why)
{
    static bool (*const checks[CNN_OP_COUNT])(const cnn_op_desc *, char *) = {
        [CNN_OP_CONV] = check_conv,
        [CNN_OP_CONV_DGRAD] = check_dgrad,
        [CNN_OP_CONV_WGRAD] = check_wgrad,
        [CNN_OP_GROUP_CONV] = check_conv,
        [CNN_OP_GROUP_CONV_DGRAD] = check_dgrad,
        [CNN_OP_GROUP_CONV_WGRAD] = check_wgrad,
        [CNN_OP_LINEAR] = check_conv,
        [CNN_OP_LINEAR_DGRAD] = check_dgrad,
        [CNN_OP_LINEAR_WGRAD] = check_wgrad,
        [CNN_OP_BN_TRAIN] = check_bn_train,
        [CNN_OP_BN_INFER] = check_bn_infer,
        [CNN_OP_BN_GRAD] = check_bn_grad,
        [CNN_OP_RELU] = check_relu,
        [CNN_OP_RELU_GRAD] = check_relu_grad,
        [CNN_OP_CLIP] = check_clip,
        [CNN_OP_CLIP_GRAD] = check_clip_grad,
        [CNN_OP_LEAKY_RELU] = check_leaky_relu,
        [CNN_OP_LEAKY_RELU_GRAD] = check_leaky_relu_grad,
        [CNN_OP_MAXPOOL] = check_maxpool,
        [CNN_OP_MAXPOOL_GRAD] = check_maxpool_grad,
        [CNN_OP_AVGPOOL] = check_avgpool,
        [CNN_OP_AVGPOOL_GRAD] = check_avgpool_grad,
        [CNN_OP_ADD] = check_add,
        [CNN_OP_CONCAT] = check_concat,
        [CNN_OP_CONCAT_GRAD] = check_concat_grad,
        [CNN_OP_DROPOUT] = check_dropout,
        [CNN_OP_INPUT] = check_input,
        [CNN_OP_LOSS] = check_loss,
        [CNN_OP_REQUANTIZE] = check_requantize,
        [CNN_OP_DEQUANTIZE] = check_requantize,
        [CNN_OP_MASK] = check_mask,
        [CNN_OP_GRAD_STATS] = check_grad_stats,
        [CNN_OP_SGD] = check_sgd,
        [CNN_OP_ADAM] = check_adam,
        [CNN_OP_BN_UPDATE] = check_update,
        [CNN_OP_EMA] = check_update,
        [CNN_OP_LOSS_SCALE] = check_loss_scale,
        [CNN_OP_GRID] = check_grid,
        [CNN_OP_GRID_GRAD] = check_grid_grad,
    };
    REQUIRE((unsigned)desc->op < CNN_OP_COUNT && checks[desc->op], "op %d is not known", (int)desc->op);
    return check_tensors(desc, cnn_op_info_get(desc->op)->use, why) && checks[desc->op](desc, why);
}
