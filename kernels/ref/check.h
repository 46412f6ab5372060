/* What the checks of op descriptors (cnn/ops.h) share. Each says in `why` what is wrong, unless that is NULL. */
#ifndef CNN_REF_CHECK_H
#define CNN_REF_CHECK_H

#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* Records the reason. */
void cnn_ref_refuse(char *why, const char *format, ...) CNN_PRINTF(2, 3);

#define REQUIRE(condition, ...)               \
    do {                                      \
        if (!(condition)) {                   \
            cnn_ref_refuse(why, __VA_ARGS__); \
            return false;                     \
        }                                     \
    } while (0)

static inline bool is_float(cnn_dtype dtype)
{
    return dtype == CNN_F32 || dtype == CNN_F16 || dtype == CNN_BF16;
}

static inline bool present(const cnn_op_desc *desc, cnn_arg role)
{
    return desc->arg[role].dtype != CNN_NONE;
}

/* Every tensor present has a sane shape and a use in this op; INDEX and so on may be absent. */
static inline bool check_tensors(const cnn_op_desc *desc, const uint8_t *use, char *why)
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

static inline bool check_is(const cnn_op_desc *desc, cnn_arg role, cnn_dtype dtype, const int32_t shape[4], char *why)
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

static inline bool check_vector(const cnn_op_desc *desc, cnn_arg role, cnn_dtype dtype, int32_t length, char *why)
{
    int32_t shape[4] = {1, 1, 1, length};
    return check_is(desc, role, dtype, shape, why);
}

static inline bool check_like(const cnn_op_desc *desc, cnn_arg role, cnn_dtype dtype, const cnn_tensor_desc *like,
                              char *why)
{
    int32_t shape[4] = {like->n, like->h, like->w, like->c};
    return check_is(desc, role, dtype, shape, why);
}

/* SRC of a float op. */
static inline bool check_float_src(const cnn_op_desc *desc, char *why)
{
    REQUIRE(is_float(desc->arg[CNN_ARG_SRC].dtype), "src is %s and must be f32, f16 or bf16",
            cnn_dtype_name(desc->arg[CNN_ARG_SRC].dtype));
    return true;
}

/* DST with the shape of `like` and its dtype, or f32. */
static inline bool check_float_dst(const cnn_op_desc *desc, const int32_t shape[4], char *why)
{
    cnn_dtype dtype = desc->arg[CNN_ARG_DST].dtype == CNN_F32 ? CNN_F32 : desc->arg[CNN_ARG_SRC].dtype;
    return check_is(desc, CNN_ARG_DST, dtype, shape, why);
}

static inline bool check_range(const cnn_op_desc *desc, char *why)
{
    REQUIRE(desc->lo >= -127 && desc->lo <= desc->hi && desc->hi <= 127 && desc->lo == rintf(desc->lo) &&
                desc->hi == rintf(desc->hi),
            "the range [%g,%g] must be whole numbers within [-127,127]", (double)desc->lo, (double)desc->hi);
    return true;
}

static inline bool check_state(const cnn_op_desc *desc, char *why)
{
    REQUIRE(present(desc, CNN_ARG_STATE), "tensor state is missing");
    REQUIRE(cnn_desc_bytes(&desc->arg[CNN_ARG_STATE]) >= sizeof(cnn_train_state),
            "state has %zu bytes and a training state %zu", cnn_desc_bytes(&desc->arg[CNN_ARG_STATE]),
            sizeof(cnn_train_state));
    return true;
}

/* INDEX i32 [L], L >= N, and STATE, when present. */
static inline bool check_gather(const cnn_op_desc *desc, int32_t images, char *why)
{
    int32_t length = desc->arg[CNN_ARG_INDEX].c;
    if (present(desc, CNN_ARG_STATE) && !check_state(desc, why))
        return false;
    if (!present(desc, CNN_ARG_INDEX))
        return true;
    REQUIRE(length >= images, "index names %d images and the batch has %d", length, images);
    return check_vector(desc, CNN_ARG_INDEX, CNN_I32, length, why);
}

/* ---- check_conv.c ---- */

bool cnn_ref_check_conv(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_dgrad(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_wgrad(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_bn_train(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_bn_infer(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_bn_grad(const cnn_op_desc *desc, char *why);

/* ---- check_layers.c ---- */

bool cnn_ref_check_relu(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_relu_grad(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_clip(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_clip_grad(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_leaky_relu(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_leaky_relu_grad(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_maxpool(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_maxpool_grad(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_avgpool(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_avgpool_grad(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_add(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_concat(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_concat_grad(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_dropout(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_input(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_loss(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_requantize(const cnn_op_desc *desc, char *why);

/* ---- check_training.c ---- */

bool cnn_ref_check_mask(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_grad_stats(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_sgd(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_adam(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_update(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_loss_scale(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_grid(const cnn_op_desc *desc, char *why);
bool cnn_ref_check_grid_grad(const cnn_op_desc *desc, char *why);

#endif
