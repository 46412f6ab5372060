/* Our own kernels, one an op: what is left when no library or faster kernel takes it. */
#include "kernels/cuda/kernels.h"
#include "kernels/refuse.h"

/* Image n of a tensor is addressed with 32-bit numbers. */
static bool images_fit(const cnn_op_desc *desc, char *why)
{
    for (int i = 0; i < CNN_ARG_COUNT; i++) {
        const cnn_tensor_desc *t = &desc->arg[i];
        if (t->dtype != CNN_NONE && (int64_t)t->h * t->w * t->c_pad > INT32_MAX)
            return cnn_refuse(why, "one image of %s has more than 2^31 elements", cnn_arg_name((cnn_arg)i));
    }
    return true;
}

/* Activations have the same channels in memory, so that they can be taken as flat arrays. */
static bool same_padding(const cnn_op_desc *desc, char *why)
{
    const int32_t c_pad = desc->arg[CNN_ARG_DST].c_pad;
    for (int i = 0; i < CNN_ARG_COUNT; i++)
        if (desc->arg[i].dtype != CNN_NONE && desc->arg[i].c_pad != c_pad)
            return cnn_refuse(why, "%s has %d channels in memory and dst %d", cnn_arg_name((cnn_arg)i),
                              (int)desc->arg[i].c_pad, (int)c_pad);
    return true;
}

/* Padding channels of flat arrays stay 0: f(0) = 0, and f(0, 0) = 0, when the range holds it. */
static bool flat_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_I8)
        return cnn_unpadded(desc, why);
    if (desc->op != CNN_OP_RELU && (desc->lo > 0 || desc->hi < 0) && !cnn_unpadded(desc, why))
        return false;
    return same_padding(desc, why);
}

static bool pool_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    cnn_tensor_desc t = desc->arg[CNN_ARG_DST];
    (void)device;
    return images_fit(desc, why) && (t.dtype == CNN_I8 ? same_padding(desc, why) : cnn_unpadded(desc, why));
}

/* Padding channels of i8 stay 0 as those of flat arrays do. */
static bool average_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    if (desc->arg[CNN_ARG_DST].dtype == CNN_I8 && (desc->lo > 0 || desc->hi < 0) && !cnn_unpadded(desc, why))
        return false;
    return pool_suits(desc, device, why);
}

/* Of dropout, too. */
static bool concat_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    return images_fit(desc, why);
}

static bool unpadded_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    return cnn_unpadded(desc, why);
}

static bool bn_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    if (desc->arg[CNN_ARG_DST].dtype != desc->arg[CNN_ARG_SRC].dtype)
        return cnn_refuse(why, "src and dst differ in element type");
    if (desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE || desc->epilogue_count > 0)
        return cnn_refuse(why, "it neither rectifies nor pools");
    return cnn_unpadded(desc, why);
}

static bool input_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    cnn_op_desc dense = *desc;
    (void)device;
    if (desc->arg[CNN_ARG_SRC2].dtype != CNN_NONE)
        return cnn_refuse(why, "it does not augment");
    if (desc->arg[CNN_ARG_DST].dtype == CNN_I8)
        dense.arg[CNN_ARG_DST].c_pad = desc->arg[CNN_ARG_DST].c;
    return images_fit(desc, why) && cnn_unpadded(&dense, why);
}

/* One block updates the running statistics: with more, a kernel of their own is faster. */
static bool grad_stats_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    enum { MOST = 4096 };
    (void)device;
    if (desc->arg[CNN_ARG_SRC2].c > MOST)
        return cnn_refuse(why, "%d running statistics are more than %d", (int)desc->arg[CNN_ARG_SRC2].c, MOST);
    return cnn_unpadded(desc, why);
}

/* Rows, columns and depths of the products are numbered with 32 bits, tiles of 64 columns with 16. */
static bool products_suit(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const int64_t most_columns = 65535 * (int64_t)64;
    (void)device;
    for (int i = 0; i < CNN_ARG_COUNT; i++) {
        const cnn_tensor_desc *t = &desc->arg[i];
        int64_t filter = (int64_t)t->h * t->w * t->c_pad;
        if (t->dtype != CNN_NONE && (cnn_desc_pixels(t) > INT32_MAX || filter > INT32_MAX))
            return cnn_refuse(why, "%s is too large", cnn_arg_name((cnn_arg)i));
    }
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU_GRAD))
        return cnn_refuse(why, "it does not go on through a ReLU");
    if ((cnn_op_is_wgrad(desc->op) ? (int64_t)dst->h * dst->w : 1) * dst->c_pad > most_columns)
        return cnn_refuse(why, "dst is too wide");
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_I8 && cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL))
        return cnn_refuse(why, "it does not pool");
    return true;
}

/* The libraries are faster, and do not clip: that is a pass of its own. */
static bool conv_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_CLIP))
        return cnn_refuse(why, "it does not clip");
    return products_suit(desc, device, why);
}

/* Taps of a weight gradient are numbered with 16 bits. */
static bool group_conv_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    if (cnn_op_is_wgrad(desc->op) && (int64_t)dst->h * dst->w * dst->c_pad > 65535)
        return cnn_refuse(why, "a filter has more than 65535 values");
    return images_fit(desc, why) && products_suit(desc, device, why);
}

/* Sums as they are, without a window. */
static bool requantize_suits(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    cnn_op_desc dense = *desc;
    (void)device;
    dense.arg[CNN_ARG_SRC].c_pad = desc->arg[CNN_ARG_SRC].c;
    dense.arg[CNN_ARG_DST].c_pad = desc->arg[CNN_ARG_DST].c;
    return cnn_unpadded(&dense, why);
}

static cudaError_t requantize(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                              const cnn_cuda_queue *queue)
{
    (void)workspace;
    return cnn_cuda_i32_epilogue(desc, arg, arg[CNN_ARG_SRC], desc->arg[CNN_ARG_SRC].c_pad, queue->stream);
}

const cnn_cuda_impl cnn_cuda_kernel_impls[] = {
    {CNN_OP_CONV, "cnn_cuda_conv", conv_suits, cnn_cuda_conv_workspace, cnn_cuda_conv, NULL},
    {CNN_OP_CONV_DGRAD, "cnn_cuda_conv_dgrad", conv_suits, cnn_cuda_conv_workspace, cnn_cuda_conv, NULL},
    {CNN_OP_CONV_WGRAD, "cnn_cuda_conv_wgrad_mma", cnn_cuda_conv_wgrad_mma_suits, cnn_cuda_conv_wgrad_mma_workspace,
     cnn_cuda_conv_wgrad_mma, NULL},
    {CNN_OP_CONV_WGRAD, "cnn_cuda_conv_wgrad", conv_suits, cnn_cuda_conv_workspace, cnn_cuda_conv_wgrad, NULL},
    {CNN_OP_GROUP_CONV, "cnn_cuda_group_conv", group_conv_suits, cnn_cuda_group_conv_workspace, cnn_cuda_group_conv,
     NULL},
    {CNN_OP_GROUP_CONV_DGRAD, "cnn_cuda_group_conv_dgrad", group_conv_suits, NULL, cnn_cuda_group_conv, NULL},
    {CNN_OP_GROUP_CONV_WGRAD, "cnn_cuda_group_conv_wgrad", group_conv_suits, cnn_cuda_group_conv_workspace,
     cnn_cuda_group_conv_wgrad, NULL},
    {CNN_OP_LINEAR, "cnn_cuda_linear", conv_suits, cnn_cuda_conv_workspace, cnn_cuda_conv, NULL},
    {CNN_OP_LINEAR_DGRAD, "cnn_cuda_linear_dgrad", conv_suits, cnn_cuda_conv_workspace, cnn_cuda_conv, NULL},
    {CNN_OP_LINEAR_WGRAD, "cnn_cuda_linear_wgrad", conv_suits, cnn_cuda_conv_workspace, cnn_cuda_conv_wgrad, NULL},
    {CNN_OP_RELU, "cnn_cuda_relu", flat_suits, NULL, cnn_cuda_relu, NULL},
    {CNN_OP_RELU_GRAD, "cnn_cuda_relu_grad", flat_suits, NULL, cnn_cuda_relu_grad, NULL},
    {CNN_OP_CLIP, "cnn_cuda_clip", flat_suits, NULL, cnn_cuda_clip, NULL},
    {CNN_OP_CLIP_GRAD, "cnn_cuda_clip_grad", flat_suits, NULL, cnn_cuda_clip_grad, NULL},
    {CNN_OP_LEAKY_RELU, "cnn_cuda_leaky_relu", flat_suits, NULL, cnn_cuda_leaky_relu, NULL},
    {CNN_OP_LEAKY_RELU_GRAD, "cnn_cuda_leaky_relu_grad", flat_suits, NULL, cnn_cuda_leaky_relu_grad, NULL},
    {CNN_OP_ADD, "cnn_cuda_add", flat_suits, NULL, cnn_cuda_add, NULL},
    {CNN_OP_BN_TRAIN, "cnn_cuda_bn_train", bn_suits, cnn_cuda_bn_workspace, cnn_cuda_bn, NULL},
    {CNN_OP_BN_INFER, "cnn_cuda_bn_infer", bn_suits, NULL, cnn_cuda_bn, NULL},
    {CNN_OP_BN_GRAD, "cnn_cuda_bn_grad", bn_suits, cnn_cuda_bn_workspace, cnn_cuda_bn, NULL},
    {CNN_OP_MAXPOOL, "cnn_cuda_maxpool", pool_suits, NULL, cnn_cuda_maxpool, NULL},
    {CNN_OP_MAXPOOL_GRAD, "cnn_cuda_maxpool_grad", pool_suits, NULL, cnn_cuda_maxpool_grad, NULL},
    {CNN_OP_AVGPOOL, "cnn_cuda_avgpool", average_suits, NULL, cnn_cuda_avgpool, NULL},
    {CNN_OP_AVGPOOL_GRAD, "cnn_cuda_avgpool_grad", average_suits, NULL, cnn_cuda_avgpool_grad, NULL},
    {CNN_OP_CONCAT, "cnn_cuda_concat", concat_suits, NULL, cnn_cuda_concat, NULL},
    {CNN_OP_CONCAT_GRAD, "cnn_cuda_concat_grad", concat_suits, NULL, cnn_cuda_concat_grad, NULL},
    {CNN_OP_DROPOUT, "cnn_cuda_dropout", concat_suits, NULL, cnn_cuda_dropout, NULL},
    {CNN_OP_INPUT, "cnn_cuda_input", input_suits, NULL, cnn_cuda_input, NULL},
    {CNN_OP_LOSS, "cnn_cuda_loss", unpadded_suits, cnn_cuda_loss_workspace, cnn_cuda_loss, NULL},
    {CNN_OP_REQUANTIZE, "cnn_cuda_requantize", requantize_suits, NULL, requantize, NULL},
    {CNN_OP_DEQUANTIZE, "cnn_cuda_dequantize", requantize_suits, NULL, requantize, NULL},
    {CNN_OP_MASK, "cnn_cuda_mask", unpadded_suits, NULL, cnn_cuda_mask, NULL},
    {CNN_OP_GRAD_STATS, "cnn_cuda_grad_stats", grad_stats_suits, cnn_cuda_grad_stats_workspace, cnn_cuda_grad_stats,
     NULL},
    {CNN_OP_SGD, "cnn_cuda_sgd", unpadded_suits, NULL, cnn_cuda_sgd, NULL},
    {CNN_OP_ADAM, "cnn_cuda_adam", unpadded_suits, NULL, cnn_cuda_adam, NULL},
    {CNN_OP_BN_UPDATE, "cnn_cuda_bn_update", unpadded_suits, NULL, cnn_cuda_bn_update, NULL},
    {CNN_OP_EMA, "cnn_cuda_ema", unpadded_suits, NULL, cnn_cuda_ema, NULL},
    {CNN_OP_LOSS_SCALE, "cnn_cuda_loss_scale", unpadded_suits, NULL, cnn_cuda_loss_scale, NULL},
    {CNN_OP_GRID, "cnn_cuda_grid", unpadded_suits, NULL, cnn_cuda_grid, NULL},
    {CNN_OP_GRID_GRAD, "cnn_cuda_grid_grad", unpadded_suits, cnn_cuda_grid_grad_workspace, cnn_cuda_grid_grad, NULL},
    {CNN_OP_NONE, NULL, NULL, NULL, NULL, NULL},
};
