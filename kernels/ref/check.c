/* Which op descriptors are valid: the table in cnn/ops.h, row by row. */
#include "kernels/ref/check.h"

#include <stdarg.h>
#include <stdio.h>

void cnn_ref_refuse(char *why, const char *format, ...)
{
    if (why) {
        va_list args;
        va_start(args, format);
        vsnprintf(why, CNN_REASON_BYTES, format, args);
        va_end(args);
    }
}

bool cnn_ref_check(const cnn_op_desc *desc, char *why)
{
    static bool (*const checks[CNN_OP_COUNT])(const cnn_op_desc *, char *) = {
        [CNN_OP_CONV] = cnn_ref_check_conv,
        [CNN_OP_CONV_DGRAD] = cnn_ref_check_dgrad,
        [CNN_OP_CONV_WGRAD] = cnn_ref_check_wgrad,
        [CNN_OP_GROUP_CONV] = cnn_ref_check_conv,
        [CNN_OP_GROUP_CONV_DGRAD] = cnn_ref_check_dgrad,
        [CNN_OP_GROUP_CONV_WGRAD] = cnn_ref_check_wgrad,
        [CNN_OP_LINEAR] = cnn_ref_check_conv,
        [CNN_OP_LINEAR_DGRAD] = cnn_ref_check_dgrad,
        [CNN_OP_LINEAR_WGRAD] = cnn_ref_check_wgrad,
        [CNN_OP_BN_TRAIN] = cnn_ref_check_bn_train,
        [CNN_OP_BN_INFER] = cnn_ref_check_bn_infer,
        [CNN_OP_BN_GRAD] = cnn_ref_check_bn_grad,
        [CNN_OP_RELU] = cnn_ref_check_relu,
        [CNN_OP_RELU_GRAD] = cnn_ref_check_relu_grad,
        [CNN_OP_CLIP] = cnn_ref_check_clip,
        [CNN_OP_CLIP_GRAD] = cnn_ref_check_clip_grad,
        [CNN_OP_LEAKY_RELU] = cnn_ref_check_leaky_relu,
        [CNN_OP_LEAKY_RELU_GRAD] = cnn_ref_check_leaky_relu_grad,
        [CNN_OP_MAXPOOL] = cnn_ref_check_maxpool,
        [CNN_OP_MAXPOOL_GRAD] = cnn_ref_check_maxpool_grad,
        [CNN_OP_AVGPOOL] = cnn_ref_check_avgpool,
        [CNN_OP_AVGPOOL_GRAD] = cnn_ref_check_avgpool_grad,
        [CNN_OP_ADD] = cnn_ref_check_add,
        [CNN_OP_CONCAT] = cnn_ref_check_concat,
        [CNN_OP_CONCAT_GRAD] = cnn_ref_check_concat_grad,
        [CNN_OP_DROPOUT] = cnn_ref_check_dropout,
        [CNN_OP_INPUT] = cnn_ref_check_input,
        [CNN_OP_LOSS] = cnn_ref_check_loss,
        [CNN_OP_REQUANTIZE] = cnn_ref_check_requantize,
        [CNN_OP_DEQUANTIZE] = cnn_ref_check_requantize,
        [CNN_OP_MASK] = cnn_ref_check_mask,
        [CNN_OP_GRAD_STATS] = cnn_ref_check_grad_stats,
        [CNN_OP_SGD] = cnn_ref_check_sgd,
        [CNN_OP_ADAM] = cnn_ref_check_adam,
        [CNN_OP_BN_UPDATE] = cnn_ref_check_update,
        [CNN_OP_EMA] = cnn_ref_check_update,
        [CNN_OP_LOSS_SCALE] = cnn_ref_check_loss_scale,
        [CNN_OP_GRID] = cnn_ref_check_grid,
        [CNN_OP_GRID_GRAD] = cnn_ref_check_grid_grad,
    };
    REQUIRE((unsigned)desc->op < CNN_OP_COUNT && checks[desc->op], "op %d is not known", (int)desc->op);
    return check_tensors(desc, cnn_op_info_get(desc->op)->use, why) && checks[desc->op](desc, why);
}
