/* Op descriptors as cuDNN graphs.
 *
 *   CONV        y = conv(src, weight) [+ bias] [+ src2] [relu], sums and epilogue in f32, one rounding to dst
 *   CONV_DGRAD  dx = dgrad(dy, weight)
 *   CONV_WGRAD  dw = wgrad(x, dy) in f32; of f16 and bf16 cuDNN wants a conversion node behind it; db is our column sum
 *   CONV i8     i32 sums in the workspace, then our own epilogue: the specification of INT8 is not cuDNN's
 *   BN_TRAIN    running statistics with factor 1 are those of the batch
 *   BN_GRAD
 *
 * Max-pooling stays with our own kernels: what cuDNN's index tensor means, and which of equal maxima it names, is not
 * documented. */
#include "kernels/cuda/cudnn_ops.h"
#include "kernels/refuse.h"

#include <string.h>

/* ---- Graphs ---- */

static int add_arg(cnn_cudnn_op *op, const cnn_op_desc *desc, cnn_arg role)
{
    int number = cnn_cudnn_add_tensor(&op->graph, cnn_arg_name(role), &desc->arg[role]);
    op->place[number] = (int)role;
    return number;
}

static int add_virtual(cnn_cudnn_op *op, cudnnDataType_t dtype, int like)
{
    int number = cnn_cudnn_add_virtual(&op->graph, dtype, like);
    op->place[number] = CNN_CUDNN_BETWEEN;
    return number;
}

static int add_scalar(cnn_cudnn_op *op, const char *name, int place)
{
    int number = cnn_cudnn_add_scalar(&op->graph, name);
    op->place[number] = place;
    return number;
}

static void add_conv(cnn_cudnn_op *op, const cnn_op_desc *desc, cnn_cudnn_kind kind, cudnnDataType_t compute, int x,
                     int w, int y)
{
    cnn_cudnn_node *node = cnn_cudnn_add_node(&op->graph, kind, compute, 3, (int[]){x, w, y});
    node->pad = desc->pad;
    node->stride = desc->stride;
}

/* The steps behind a convolution: each takes the value so far, the last one writes dst. */
static void add_epilogue(cnn_cudnn_op *op, const cnn_op_desc *desc, int value, int dst)
{
    for (int i = 0; i < desc->epilogue_count; i++) {
        bool last = i + 1 == desc->epilogue_count;
        bool relu = desc->epilogue[i] == CNN_EPILOGUE_RELU;
        int other = desc->epilogue[i] == CNN_EPILOGUE_BIAS  ? add_arg(op, desc, CNN_ARG_BIAS)
                    : desc->epilogue[i] == CNN_EPILOGUE_ADD ? add_arg(op, desc, CNN_ARG_SRC2)
                                                            : -1;
        int result = last ? dst : add_virtual(op, CUDNN_DATA_FLOAT, dst);
        cnn_cudnn_add_node(&op->graph, relu ? CNN_CUDNN_RELU : CNN_CUDNN_ADD, CUDNN_DATA_FLOAT, 3,
                           (int[]){value, other, result});
        value = result;
    }
}

static void conv_graph(const cnn_op_desc *desc, cnn_cudnn_op *op)
{
    bool plain = desc->epilogue_count == 0;
    int src = add_arg(op, desc, CNN_ARG_SRC), weight = add_arg(op, desc, CNN_ARG_WEIGHT);
    int dst = add_arg(op, desc, CNN_ARG_DST);
    int sums = plain ? dst : add_virtual(op, CUDNN_DATA_FLOAT, dst);
    add_conv(op, desc, CNN_CUDNN_CONV, CUDNN_DATA_FLOAT, src, weight, sums);
    if (!plain)
        add_epilogue(op, desc, sums, dst);
}

static void dgrad_graph(const cnn_op_desc *desc, cnn_cudnn_op *op)
{
    int dx = add_arg(op, desc, CNN_ARG_DST), weight = add_arg(op, desc, CNN_ARG_WEIGHT);
    int dy = add_arg(op, desc, CNN_ARG_SRC);
    add_conv(op, desc, CNN_CUDNN_DGRAD, CUDNN_DATA_FLOAT, dx, weight, dy);
}

static void wgrad_graph(const cnn_op_desc *desc, cnn_cudnn_op *op)
{
    bool plain = desc->arg[CNN_ARG_SRC].dtype == CNN_F32;
    int x = add_arg(op, desc, CNN_ARG_SRC), dw = add_arg(op, desc, CNN_ARG_DST);
    int dy = add_arg(op, desc, CNN_ARG_SRC2);
    int sums = plain ? dw : add_virtual(op, CUDNN_DATA_FLOAT, dw);
    add_conv(op, desc, CNN_CUDNN_WGRAD, CUDNN_DATA_FLOAT, x, sums, dy);
    if (!plain)
        cnn_cudnn_add_node(&op->graph, CNN_CUDNN_IDENTITY, CUDNN_DATA_FLOAT, 3, (int[]){sums, -1, dw});
}

/* Output channels are padded to a multiple of 16 like those of activations, input channels as src has them. */
static int32_t padded(int32_t channels)
{
    return (channels + 15) / 16 * 16;
}

static void conv_i8_graph(const cnn_op_desc *desc, cnn_cudnn_op *op)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    const cnn_tensor_desc packed = cnn_desc(CNN_I8, padded(weight->n), weight->h, weight->w, src->c_pad);
    const cnn_tensor_desc sums = cnn_desc(CNN_I32, src->n, cnn_window_count(src->h, weight->h, desc->stride, desc->pad),
                                          cnn_window_count(src->w, weight->w, desc->stride, desc->pad), packed.n);
    int x = add_arg(op, desc, CNN_ARG_SRC);
    int w = cnn_cudnn_add_tensor(&op->graph, "weight", &packed);
    int y = cnn_cudnn_add_tensor(&op->graph, "sums", &sums);
    op->place[w] = CNN_ARG_WEIGHT;
    op->place[y] = CNN_CUDNN_SUMS;
    add_conv(op, desc, CNN_CUDNN_CONV, CUDNN_DATA_INT32, x, w, y);
}

/* With factor 1 the running statistics become those of the batch, the variance unbiased. What they were before counts
 * nothing; gamma stands in for it, being finite and of the shape. */
static void bn_train_graph(const cnn_op_desc *desc, cnn_cudnn_op *op)
{
    int x = add_arg(op, desc, CNN_ARG_SRC), gamma = add_arg(op, desc, CNN_ARG_GAMMA);
    int beta = add_arg(op, desc, CNN_ARG_BETA);
    int eps = add_scalar(op, "eps", CNN_CUDNN_EPS), factor = add_scalar(op, "factor", CNN_CUDNN_FACTOR);
    int old_mean = add_arg(op, desc, CNN_ARG_GAMMA), old_var = add_arg(op, desc, CNN_ARG_GAMMA);
    int new_mean = cnn_cudnn_add_tensor(&op->graph, "unused", &desc->arg[CNN_ARG_MEAN]);
    int new_var = add_arg(op, desc, CNN_ARG_VAR), mean = add_arg(op, desc, CNN_ARG_MEAN);
    int invstd = add_arg(op, desc, CNN_ARG_INVSTD), dst = add_arg(op, desc, CNN_ARG_DST);
    op->place[new_mean] = CNN_CUDNN_UNUSED;
    cnn_cudnn_add_node(&op->graph, CNN_CUDNN_BN_TRAIN, CUDNN_DATA_FLOAT, 12,
                       (int[]){x, gamma, beta, eps, factor, old_mean, old_var, new_mean, new_var, mean, invstd, dst});
}

static void bn_grad_graph(const cnn_op_desc *desc, cnn_cudnn_op *op)
{
    int x = add_arg(op, desc, CNN_ARG_SRC), dy = add_arg(op, desc, CNN_ARG_SRC2);
    int gamma = add_arg(op, desc, CNN_ARG_GAMMA), mean = add_arg(op, desc, CNN_ARG_MEAN);
    int invstd = add_arg(op, desc, CNN_ARG_INVSTD), dgamma = add_arg(op, desc, CNN_ARG_DST2);
    int dbeta = add_arg(op, desc, CNN_ARG_DST3), dx = add_arg(op, desc, CNN_ARG_DST);
    cnn_cudnn_add_node(&op->graph, CNN_CUDNN_BN_GRAD, CUDNN_DATA_FLOAT, 8,
                       (int[]){x, dy, gamma, mean, invstd, dgamma, dbeta, dx});
}

void cnn_cudnn_op_graph(const cnn_op_desc *desc, cnn_cudnn_op *op)
{
    memset(op, 0, sizeof *op);
    switch (desc->op) {
    case CNN_OP_CONV_DGRAD:
        dgrad_graph(desc, op);
        break;
    case CNN_OP_CONV_WGRAD:
        wgrad_graph(desc, op);
        break;
    case CNN_OP_BN_TRAIN:
        bn_train_graph(desc, op);
        break;
    case CNN_OP_BN_GRAD:
        bn_grad_graph(desc, op);
        break;
    default:
        if (desc->arg[CNN_ARG_SRC].dtype == CNN_I8)
            conv_i8_graph(desc, op);
        else
            conv_graph(desc, op);
    }
}

/* ---- What suits ---- */

static bool is_half(cnn_dtype dtype)
{
    return dtype == CNN_F16 || dtype == CNN_BF16;
}

/* Bias, a second source and ReLU, in the order that cnn/ops.h gives them. */
static bool suits_epilogue(const cnn_op_desc *desc, char *why)
{
    for (int i = 0; i < desc->epilogue_count; i++)
        if (desc->epilogue[i] != CNN_EPILOGUE_BIAS && desc->epilogue[i] != CNN_EPILOGUE_ADD &&
            desc->epilogue[i] != CNN_EPILOGUE_RELU)
            return cnn_refuse(why, "only bias, add and relu can follow a float convolution");
    return true;
}

bool cnn_cudnn_suits_conv(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const cnn_dtype dtype = desc->arg[CNN_ARG_SRC].dtype;
    (void)device;
    if (!cnn_cuda_is_float(dtype))
        return cnn_refuse(why, "%s activations", cnn_dtype_name(dtype));
    return cnn_unpadded(desc, why) && suits_epilogue(desc, why);
}

bool cnn_cudnn_suits_conv_grad(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *dw = &desc->arg[CNN_ARG_DST];
    (void)device;
    /* Engines that compile at run time take even numbers and, measured with cuDNN 9.19 on an H200, give wrong sums for
     * some that are no multiples of 8 (12 -> 48 channels, 40 -> 20). */
    if (desc->op == CNN_OP_CONV_WGRAD && is_half(src->dtype) && (dw->n % 8 || dw->c % 8))
        return cnn_refuse(why, "cuDNN's %s weight gradients can be trusted for multiples of 8 channels only",
                          cnn_dtype_name(src->dtype));
    return cnn_unpadded(desc, why);
}

bool cnn_cudnn_packs(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *weight = &desc->arg[CNN_ARG_WEIGHT];
    return weight->dtype == CNN_I8 && (weight->n % 16 || weight->c_pad != desc->arg[CNN_ARG_SRC].c_pad);
}

bool cnn_cudnn_suits_conv_i8(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    (void)device;
    if (src->dtype != CNN_I8)
        return cnn_refuse(why, "%s activations", cnn_dtype_name(src->dtype));
    if (src->c_pad % 16)
        return cnn_refuse(why, "src has %d channels in memory, no multiple of 16", (int)src->c_pad);
    if (cnn_cudnn_packs(desc) && !desc->constant_weights)
        return cnn_refuse(why, "weights that change cannot be padded once to multiples of 16 channels");
    return true;
}

bool cnn_cudnn_suits_bn(const cnn_op_desc *desc, const cnn_device *device, char *why)
{
    (void)device;
    if (desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE)
        return cnn_refuse(why, "pooling is not part of its batch norm");
    if (desc->op == CNN_OP_BN_TRAIN && cnn_desc_pixels(&desc->arg[CNN_ARG_SRC]) < 2)
        return cnn_refuse(why, "the unbiased variance of one value");
    if (desc->arg[CNN_ARG_SRC].c % 8)
        return cnn_refuse(why, "%d channels are no multiple of 8", (int)desc->arg[CNN_ARG_SRC].c);
    return cnn_unpadded(desc, why);
}
