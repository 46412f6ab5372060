/* Which descriptors of convolutions, linear layers and batch norms are valid. */
#include "kernels/ref/check.h"

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

bool cnn_ref_check_conv(const cnn_op_desc *desc, char *why)
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
    if (present(desc, CNN_ARG_INDEX)) {
        REQUIRE(!is_i8 && cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL), "an index needs floats that are pooled");
        REQUIRE(!cnn_op_has_epilogue(desc, CNN_EPILOGUE_CLIP), "what is clipped has no index");
        REQUIRE(desc->pool_kernel <= 15, "a pooling window with an index is at most 15 wide");
        if (!check_is(desc, CNN_ARG_INDEX, CNN_U8, out, why))
            return false;
    }
    return is_i8 ? check_is(desc, CNN_ARG_DST, out_dtype, out, why) : check_float_dst(desc, out, why);
}

/* dy [N,P,Q,K], or with an INDEX that of what was pooled. */
static bool check_gradient(const cnn_op_desc *desc, cnn_arg role, const cnn_ref_shape *shape, char *why)
{
    int32_t y[4] = {shape->n, shape->p, shape->q, shape->k};
    if (present(desc, CNN_ARG_INDEX)) {
        REQUIRE(cnn_op_is_pooled_grad(desc), "only convolutions have gradients with an index");
        REQUIRE(desc->pool_kernel >= 1 && desc->pool_kernel <= 15 && desc->pool_stride >= desc->pool_kernel,
                "a pooling window with an index is 1 to 15 wide, and no wider than its stride");
        y[1] = cnn_window_count(shape->p, desc->pool_kernel, desc->pool_stride, 0);
        y[2] = cnn_window_count(shape->q, desc->pool_kernel, desc->pool_stride, 0);
        REQUIRE(y[1] > 0 && y[2] > 0, "a pooling window of %d does not fit into %d x %d", desc->pool_kernel, shape->p,
                shape->q);
        if (!check_is(desc, CNN_ARG_INDEX, CNN_U8, y, why))
            return false;
    }
    return check_is(desc, role, desc->arg[CNN_ARG_SRC].dtype, y, why);
}

bool cnn_ref_check_dgrad(const cnn_op_desc *desc, char *why)
{
    static const cnn_epilogue_kind chain[] = {CNN_EPILOGUE_RELU_GRAD};
    const cnn_tensor_desc *x = &desc->arg[CNN_ARG_DST];
    if (!check_float_src(desc, why) || !check_window(desc, x, &desc->arg[CNN_ARG_WEIGHT], why))
        return false;
    cnn_ref_shape shape = cnn_ref_conv_shape(desc);
    int32_t dx[4] = {x->n, x->h, x->w, x->c};
    const bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU_GRAD);
    if (!check_chain(desc, chain, is_linear(desc->op) ? 1 : 0, false, why))
        return false;
    REQUIRE(relu == present(desc, CNN_ARG_SRC2), "a ReLU's output and the epilogue step for it come together");
    REQUIRE(!present(desc, CNN_ARG_BIAS) && !present(desc, CNN_ARG_MULT), "a data gradient has no bias and mult");
    REQUIRE(desc->arg[CNN_ARG_WEIGHT].dtype == desc->arg[CNN_ARG_SRC].dtype, "weights and src differ in element type");
    return check_gradient(desc, CNN_ARG_SRC, &shape, why) && check_float_dst(desc, dx, why) &&
           (!relu || check_is(desc, CNN_ARG_SRC2, desc->arg[CNN_ARG_SRC].dtype, dx, why));
}

bool cnn_ref_check_wgrad(const cnn_op_desc *desc, char *why)
{
    if (!check_float_src(desc, why) || !check_window(desc, &desc->arg[CNN_ARG_SRC], &desc->arg[CNN_ARG_DST], why))
        return false;
    cnn_ref_shape shape = cnn_ref_conv_shape(desc);
    REQUIRE(desc->arg[CNN_ARG_DST].dtype == CNN_F32, "a weight gradient is f32");
    return check_gradient(desc, CNN_ARG_SRC2, &shape, why) &&
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

bool cnn_ref_check_bn_train(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_bn_infer(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_bn_grad(const cnn_op_desc *desc, char *why)
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
