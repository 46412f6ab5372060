/* Which descriptors of optimizers and of weights on a grid are valid. */
#include "kernels/ref/check.h"

bool cnn_ref_check_mask(const cnn_op_desc *desc, char *why)
{
    int32_t length = desc->arg[CNN_ARG_DST].c;
    return check_vector(desc, CNN_ARG_SRC, CNN_U8, length, why) &&
           check_vector(desc, CNN_ARG_DST, CNN_F32, length, why);
}

bool cnn_ref_check_grad_stats(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_sgd(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_adam(const cnn_op_desc *desc, char *why)
{
    return cnn_ref_check_sgd(desc, why) && check_vector(desc, CNN_ARG_VAR, CNN_F32, desc->arg[CNN_ARG_SRC].c, why);
}

bool cnn_ref_check_update(const cnn_op_desc *desc, char *why)
{
    int32_t length = desc->arg[CNN_ARG_SRC].c;
    return check_vector(desc, CNN_ARG_SRC, CNN_F32, length, why) &&
           check_vector(desc, CNN_ARG_DST, CNN_F32, length, why) && check_state(desc, why);
}

bool cnn_ref_check_loss_scale(const cnn_op_desc *desc, char *why)
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

bool cnn_ref_check_grid(const cnn_op_desc *desc, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_dtype dst = desc->arg[CNN_ARG_DST].dtype;
    REQUIRE(desc->levels >= 1 && desc->levels <= 127, "levels is %d and must be in [1,127]", desc->levels);
    REQUIRE(isnormal(desc->step) && desc->step > 0, "step is %g and must be normal and positive", (double)desc->step);
    REQUIRE(is_float(dst), "dst is %s and must be f32, f16 or bf16", cnn_dtype_name(dst));
    return check_like(desc, CNN_ARG_SRC, CNN_F32, src, why) && check_vector(desc, CNN_ARG_SRC2, CNN_F32, 1, why) &&
           check_like(desc, CNN_ARG_DST, dst, src, why);
}

bool cnn_ref_check_grid_grad(const cnn_op_desc *desc, char *why)
{
    return cnn_ref_check_grid(desc, why) && check_like(desc, CNN_ARG_DST, CNN_F32, &desc->arg[CNN_ARG_SRC], why) &&
           check_vector(desc, CNN_ARG_DST2, CNN_F32, 1, why);
}
