/* Which descriptors of activations, sums, pools, and of what begins and ends a network are valid. */
#include "kernels/ref/check.h"

#include "kernels/augment/params.h"

/* ---- Elementwise and pooling ---- */

bool cnn_ref_check_relu(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    return (src->dtype == CNN_I8 || check_float_src(desc, why)) && check_like(desc, CNN_ARG_DST, src->dtype, src, why);
}

bool cnn_ref_check_relu_grad(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    return check_float_src(desc, why) && cnn_ref_check_relu(desc, why) &&
           check_like(desc, CNN_ARG_SRC2, src->dtype, src, why);
}

bool cnn_ref_check_clip(const cnn_op_desc *desc, char *why)
{
    const bool is_i8 = desc->arg[CNN_ARG_SRC].dtype == CNN_I8;
    REQUIRE(desc->hi > 0, "the end %g of a clip must be positive", (double)desc->hi);
    return cnn_ref_check_relu(desc, why) && (!is_i8 || check_range(desc, why));
}

bool cnn_ref_check_clip_grad(const cnn_op_desc *desc, char *why)
{
    REQUIRE(desc->hi > 0, "the end %g of a clip must be positive", (double)desc->hi);
    return cnn_ref_check_relu_grad(desc, why);
}

bool cnn_ref_check_leaky_relu(const cnn_op_desc *desc, char *why)
{
    const bool is_i8 = desc->arg[CNN_ARG_SRC].dtype == CNN_I8;
    REQUIRE(is_i8 || (desc->slope >= 0 && desc->slope <= 1), "a slope of %g must be in [0,1]", (double)desc->slope);
    return cnn_ref_check_relu(desc, why) && (!is_i8 || check_range(desc, why));
}

bool cnn_ref_check_leaky_relu_grad(const cnn_op_desc *desc, char *why)
{
    REQUIRE(desc->slope >= 0 && desc->slope <= 1, "a slope of %g must be in [0,1]", (double)desc->slope);
    return cnn_ref_check_relu_grad(desc, why);
}

bool cnn_ref_check_add(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_concat(const cnn_op_desc *desc, char *why)
{
    return check_pieces(desc, CNN_ARG_DST, CNN_ARG_SRC, CNN_ARG_SRC2, why) &&
           (desc->arg[CNN_ARG_DST].dtype != CNN_I8 || check_range(desc, why));
}

bool cnn_ref_check_concat_grad(const cnn_op_desc *desc, char *why)
{
    return check_pieces(desc, CNN_ARG_SRC, CNN_ARG_DST, CNN_ARG_DST2, why);
}

bool cnn_ref_check_dropout(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_avgpool(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_avgpool_grad(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_maxpool(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    REQUIRE(is_float(src->dtype) || src->dtype == CNN_I8, "src is %s and must be a float or i8",
            cnn_dtype_name(src->dtype));
    return check_pool_window(desc, src, dst, why) && check_like(desc, CNN_ARG_DST, src->dtype, dst, why) &&
           (!present(desc, CNN_ARG_INDEX) || check_like(desc, CNN_ARG_INDEX, CNN_U8, dst, why));
}

bool cnn_ref_check_maxpool_grad(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC2];
    const cnn_tensor_desc *dx = &desc->arg[CNN_ARG_DST];
    REQUIRE(is_float(dy->dtype), "src2 is %s and must be f32, f16 or bf16", cnn_dtype_name(dy->dtype));
    return check_pool_window(desc, dx, dy, why) && check_like(desc, CNN_ARG_DST, dy->dtype, dx, why) &&
           check_like(desc, CNN_ARG_INDEX, CNN_U8, dy, why);
}

/* ---- Ends of a network ---- */

bool cnn_ref_check_input(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_loss(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_requantize(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    bool to_i8 = desc->op == CNN_OP_REQUANTIZE;
    return check_like(desc, CNN_ARG_SRC, CNN_I32, src, why) && check_vector(desc, CNN_ARG_BIAS, CNN_I32, src->c, why) &&
           check_vector(desc, CNN_ARG_MULT, CNN_F32, src->c, why) &&
           check_like(desc, CNN_ARG_DST, to_i8 ? CNN_I8 : CNN_F32, src, why) && (!to_i8 || check_range(desc, why));
}
