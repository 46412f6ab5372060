/* Names of element types, structures, ops and roles, and how ops print. */
#include "cnn/ops.h"

#include <stdarg.h>
#include <stdio.h>

const char *cnn_dtype_name(cnn_dtype dtype)
{
    static const char *const names[CNN_DTYPE_COUNT] = {"none", "f32", "f16", "bf16", "i8", "i32", "u8"};
    return (unsigned)dtype < CNN_DTYPE_COUNT ? names[dtype] : "?";
}

const char *cnn_structure_name(cnn_structure structure)
{
    static const char *const names[CNN_STRUCTURE_COUNT] = {"dense", "block", "2:4", "sparse"};
    return (unsigned)structure < CNN_STRUCTURE_COUNT ? names[structure] : "?";
}

const char *cnn_arg_name(cnn_arg arg)
{
    static const char *const names[CNN_ARG_COUNT] = {"src",    "src2",  "weight", "bias",   "mult",  "gamma",
                                                     "beta",   "mean",  "var",    "invstd", "index", "table",
                                                     "labels", "state", "dst",    "dst2",   "dst3"};
    return (unsigned)arg < CNN_ARG_COUNT ? names[arg] : "?";
}

enum { R = CNN_USE_READ, W = CNN_USE_WRITE, U = CNN_USE_UPDATE };

#define GEMM_USE                                                                                             \
    {                                                                                                        \
        [CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_WEIGHT] = R, [CNN_ARG_BIAS] = R, [CNN_ARG_MULT] = R, \
        [CNN_ARG_DST] = W                                                                                    \
    }
#define CONV_USE                                                                                             \
    {                                                                                                        \
        [CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_WEIGHT] = R, [CNN_ARG_BIAS] = R, [CNN_ARG_MULT] = R, \
        [CNN_ARG_INDEX] = W, [CNN_ARG_DST] = W                                                               \
    }
#define CONV_DGRAD_USE                                                                                       \
    {                                                                                                        \
        [CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_WEIGHT] = R, [CNN_ARG_BIAS] = R, [CNN_ARG_MULT] = R, \
        [CNN_ARG_INDEX] = R, [CNN_ARG_DST] = W                                                               \
    }
#define CONV_WGRAD_USE                                                                                    \
    {                                                                                                     \
        [CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_INDEX] = R, [CNN_ARG_DST] = W, [CNN_ARG_DST2] = W \
    }
#define WGRAD_USE                                                                    \
    {                                                                                \
        [CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = W, [CNN_ARG_DST2] = W \
    }

static const cnn_op_info infos[CNN_OP_COUNT] = {
    [CNN_OP_NONE] = {CNN_OP_NONE, "none", {0}},
    [CNN_OP_CONV] = {CNN_OP_CONV, "conv", CONV_USE},
    [CNN_OP_CONV_DGRAD] = {CNN_OP_CONV_DGRAD, "conv_dgrad", CONV_DGRAD_USE},
    [CNN_OP_CONV_WGRAD] = {CNN_OP_CONV_WGRAD, "conv_wgrad", CONV_WGRAD_USE},
    [CNN_OP_GROUP_CONV] = {CNN_OP_GROUP_CONV, "group_conv", GEMM_USE},
    [CNN_OP_GROUP_CONV_DGRAD] = {CNN_OP_GROUP_CONV_DGRAD, "group_conv_dgrad", GEMM_USE},
    [CNN_OP_GROUP_CONV_WGRAD] = {CNN_OP_GROUP_CONV_WGRAD, "group_conv_wgrad", WGRAD_USE},
    [CNN_OP_LINEAR] = {CNN_OP_LINEAR, "linear", GEMM_USE},
    [CNN_OP_LINEAR_DGRAD] = {CNN_OP_LINEAR_DGRAD, "linear_dgrad", GEMM_USE},
    [CNN_OP_LINEAR_WGRAD] = {CNN_OP_LINEAR_WGRAD, "linear_wgrad", WGRAD_USE},
    [CNN_OP_BN_TRAIN] = {CNN_OP_BN_TRAIN,
                         "bn_train",
                         {[CNN_ARG_SRC] = R,
                          [CNN_ARG_GAMMA] = R,
                          [CNN_ARG_BETA] = R,
                          [CNN_ARG_MEAN] = W,
                          [CNN_ARG_VAR] = W,
                          [CNN_ARG_INVSTD] = W,
                          [CNN_ARG_INDEX] = W,
                          [CNN_ARG_DST] = W}},
    [CNN_OP_BN_INFER] = {CNN_OP_BN_INFER,
                         "bn_infer",
                         {[CNN_ARG_SRC] = R,
                          [CNN_ARG_GAMMA] = R,
                          [CNN_ARG_BETA] = R,
                          [CNN_ARG_MEAN] = R,
                          [CNN_ARG_VAR] = R,
                          [CNN_ARG_DST] = W}},
    [CNN_OP_BN_GRAD] = {CNN_OP_BN_GRAD,
                        "bn_grad",
                        {[CNN_ARG_SRC] = R,
                         [CNN_ARG_SRC2] = R,
                         [CNN_ARG_GAMMA] = R,
                         [CNN_ARG_MEAN] = R,
                         [CNN_ARG_INVSTD] = R,
                         [CNN_ARG_INDEX] = R,
                         [CNN_ARG_DST] = W,
                         [CNN_ARG_DST2] = W,
                         [CNN_ARG_DST3] = W}},
    [CNN_OP_RELU] = {CNN_OP_RELU, "relu", {[CNN_ARG_SRC] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_RELU_GRAD] = {CNN_OP_RELU_GRAD, "relu_grad", {[CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_CLIP] = {CNN_OP_CLIP, "clip", {[CNN_ARG_SRC] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_CLIP_GRAD] = {CNN_OP_CLIP_GRAD, "clip_grad", {[CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_LEAKY_RELU] = {CNN_OP_LEAKY_RELU, "leaky_relu", {[CNN_ARG_SRC] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_LEAKY_RELU_GRAD] = {CNN_OP_LEAKY_RELU_GRAD,
                                "leaky_relu_grad",
                                {[CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_MAXPOOL] = {CNN_OP_MAXPOOL, "maxpool", {[CNN_ARG_SRC] = R, [CNN_ARG_INDEX] = W, [CNN_ARG_DST] = W}},
    [CNN_OP_MAXPOOL_GRAD] = {CNN_OP_MAXPOOL_GRAD,
                             "maxpool_grad",
                             {[CNN_ARG_INDEX] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_AVGPOOL] = {CNN_OP_AVGPOOL, "avgpool", {[CNN_ARG_SRC] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_AVGPOOL_GRAD] = {CNN_OP_AVGPOOL_GRAD, "avgpool_grad", {[CNN_ARG_SRC] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_ADD] = {CNN_OP_ADD, "add", {[CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_CONCAT] = {CNN_OP_CONCAT, "concat", {[CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_CONCAT_GRAD] = {CNN_OP_CONCAT_GRAD,
                            "concat_grad",
                            {[CNN_ARG_SRC] = R, [CNN_ARG_DST] = W, [CNN_ARG_DST2] = W}},
    [CNN_OP_DROPOUT] = {CNN_OP_DROPOUT,
                        "dropout",
                        {[CNN_ARG_SRC] = R, [CNN_ARG_INDEX] = R, [CNN_ARG_STATE] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_INPUT] = {CNN_OP_INPUT,
                      "input",
                      {[CNN_ARG_SRC] = R,
                       [CNN_ARG_SRC2] = R,
                       [CNN_ARG_INDEX] = R,
                       [CNN_ARG_TABLE] = R,
                       [CNN_ARG_STATE] = R,
                       [CNN_ARG_DST] = W}},
    [CNN_OP_LOSS] = {CNN_OP_LOSS,
                     "loss",
                     {[CNN_ARG_SRC] = R,
                      [CNN_ARG_SRC2] = R,
                      [CNN_ARG_LABELS] = R,
                      [CNN_ARG_INDEX] = R,
                      [CNN_ARG_STATE] = R,
                      [CNN_ARG_DST] = W,
                      [CNN_ARG_DST2] = W}},
    [CNN_OP_REQUANTIZE] = {CNN_OP_REQUANTIZE,
                           "requantize",
                           {[CNN_ARG_SRC] = R, [CNN_ARG_BIAS] = R, [CNN_ARG_MULT] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_DEQUANTIZE] = {CNN_OP_DEQUANTIZE,
                           "dequantize",
                           {[CNN_ARG_SRC] = R, [CNN_ARG_BIAS] = R, [CNN_ARG_MULT] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_MASK] = {CNN_OP_MASK, "mask", {[CNN_ARG_SRC] = R, [CNN_ARG_DST] = U}},
    [CNN_OP_GRAD_STATS] = {CNN_OP_GRAD_STATS,
                           "grad_stats",
                           {[CNN_ARG_SRC] = R,
                            [CNN_ARG_SRC2] = R,
                            [CNN_ARG_INDEX] = R,
                            [CNN_ARG_STATE] = U,
                            [CNN_ARG_DST] = W,
                            [CNN_ARG_DST2] = U}},
    [CNN_OP_SGD] = {CNN_OP_SGD,
                    "sgd",
                    {[CNN_ARG_SRC] = R,
                     [CNN_ARG_STATE] = R,
                     [CNN_ARG_TABLE] = R,
                     [CNN_ARG_DST] = U,
                     [CNN_ARG_DST2] = U,
                     [CNN_ARG_DST3] = U}},
    [CNN_OP_ADAM] = {CNN_OP_ADAM,
                     "adam",
                     {[CNN_ARG_SRC] = R,
                      [CNN_ARG_STATE] = R,
                      [CNN_ARG_TABLE] = R,
                      [CNN_ARG_VAR] = U,
                      [CNN_ARG_DST] = U,
                      [CNN_ARG_DST2] = U,
                      [CNN_ARG_DST3] = U}},
    [CNN_OP_BN_UPDATE] = {CNN_OP_BN_UPDATE, "bn_update", {[CNN_ARG_SRC] = R, [CNN_ARG_STATE] = R, [CNN_ARG_DST] = U}},
    [CNN_OP_EMA] = {CNN_OP_EMA, "ema", {[CNN_ARG_SRC] = R, [CNN_ARG_STATE] = R, [CNN_ARG_DST] = U}},
    [CNN_OP_LOSS_SCALE] = {CNN_OP_LOSS_SCALE,
                           "loss_scale",
                           {[CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_STATE] = U, [CNN_ARG_DST] = U}},
    [CNN_OP_GRID] = {CNN_OP_GRID, "grid", {[CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = W}},
    [CNN_OP_GRID_GRAD] = {CNN_OP_GRID_GRAD,
                          "grid_grad",
                          {[CNN_ARG_SRC] = R, [CNN_ARG_SRC2] = R, [CNN_ARG_DST] = U, [CNN_ARG_DST2] = W}},
};

const cnn_op_info *cnn_op_info_get(cnn_op op)
{
    return (unsigned)op < CNN_OP_COUNT ? &infos[op] : &infos[CNN_OP_NONE];
}

/* Appends to text at *length; a full buffer truncates. */
static void append(char *text, size_t bytes, size_t *length, const char *format, ...) CNN_PRINTF(4, 5);

static void append(char *text, size_t bytes, size_t *length, const char *format, ...)
{
    if (*length + 1 >= bytes)
        return;
    va_list args;
    va_start(args, format);
    int written = vsnprintf(text + *length, bytes - *length, format, args);
    va_end(args);
    if (written > 0)
        *length += (size_t)written < bytes - *length ? (size_t)written : bytes - *length - 1;
}

static void append_desc(char *text, size_t bytes, size_t *length, const char *name, const cnn_tensor_desc *desc)
{
    append(text, bytes, length, " %s=%s[", name, cnn_dtype_name(desc->dtype));
    if (desc->n == 1 && desc->h == 1 && desc->w == 1)
        append(text, bytes, length, "%d", desc->c);
    else
        append(text, bytes, length, "%d,%d,%d,%d", desc->n, desc->h, desc->w, desc->c);
    if (desc->c_pad != desc->c)
        append(text, bytes, length, "/%d", desc->c_pad);
    append(text, bytes, length, "]");
    if (desc->structure != CNN_DENSE)
        append(text, bytes, length, ":%s", cnn_structure_name(desc->structure));
}

char *cnn_op_desc_print(const cnn_op_desc *desc, char *text, size_t text_bytes)
{
    static const char *const epilogues[] = {"none",       "bias",    "add",       "relu", "requantize",
                                            "dequantize", "maxpool", "relu_grad", "clip"};
    size_t length = 0;
    append(text, text_bytes, &length, "%s", cnn_op_info_get(desc->op)->name);
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        if (desc->arg[role].dtype != CNN_NONE)
            append_desc(text, text_bytes, &length, cnn_arg_name((cnn_arg)role), &desc->arg[role]);
    if (desc->stride)
        append(text, text_bytes, &length, " stride=%d", desc->stride);
    if (desc->pad)
        append(text, text_bytes, &length, " pad=%d", desc->pad);
    if (desc->kernel)
        append(text, text_bytes, &length, " kernel=%d", desc->kernel);
    for (int i = 0; i < desc->epilogue_count; i++)
        append(text, text_bytes, &length, " +%s", epilogues[desc->epilogue[i]]);
    if (desc->pool_kernel)
        append(text, text_bytes, &length, " pool=%d/%d", desc->pool_kernel, desc->pool_stride);
    if (desc->lo < desc->hi)
        append(text, text_bytes, &length, " range=[%g,%g]", (double)desc->lo, (double)desc->hi);
    if (desc->slope != 0)
        append(text, text_bytes, &length, " slope=%g", (double)desc->slope);
    if (desc->rate != 0)
        append(text, text_bytes, &length, " rate=%g seed=%llu", (double)desc->rate, (unsigned long long)desc->seed);
    if (desc->smoothing != 0)
        append(text, text_bytes, &length, " smoothing=%g", (double)desc->smoothing);
    if (desc->mirror)
        append(text, text_bytes, &length, " mirror");
    if (desc->mix != 0)
        append(text, text_bytes, &length, " mix=%g temperature=%g", (double)desc->mix, (double)desc->temperature);
    if (desc->levels)
        append(text, text_bytes, &length, " levels=%d step=%g", desc->levels, (double)desc->step);
    if (desc->advance)
        append(text, text_bytes, &length, " advance=%d", desc->advance);
    if (desc->decoupled_decay)
        append(text, text_bytes, &length, " decoupled");
    if (desc->constant_weights)
        append(text, text_bytes, &length, " constant");
    return text;
}
