/* The reference against answers worked out by hand. kcheck holds every kernel to the reference; this holds the
 * reference to cnn/ops.h: half-precision rounding, INT8 arithmetic, ties, NaN, the loss scaler, what is refused. */
#include "cnn/backend.h"
#include "cnn/quant.h"
#include "core/pool.h"
#include "kernels/ref/half.h"

#include <check.h>
#include <float.h>
#include <math.h>
#include <string.h>

static cnn_device *device;

static void setup(void)
{
    ck_assert_int_eq(cnn_backend_ref.open(cnn_host_get(), NULL, &device), CNN_OK);
}

static void teardown(void)
{
    cnn_backend_ref.close(device);
}

static void run(const cnn_op_desc *desc, void *const *args)
{
    cnn_kernel *kernel = NULL;
    char why[CNN_REASON_BYTES] = "";
    ck_assert_msg(cnn_backend_ref.prepare(device, desc, &kernel, why) == CNN_OK, "%s", why);
    void *workspace = cnn_backend_ref.alloc(device, kernel->workspace_bytes);
    ck_assert_ptr_nonnull(workspace);
    ck_assert_int_eq(kernel->run(kernel, args, workspace), CNN_OK);
    cnn_backend_ref.free(device, workspace);
    kernel->destroy(kernel);
}

static void check_floats(const float *got, const float *want, int count)
{
    for (int i = 0; i < count; i++)
        ck_assert_msg(got[i] == want[i] || (isnan(got[i]) && isnan(want[i])), "[%d] is %.9g, not %.9g", i,
                      (double)got[i], (double)want[i]);
}

/* ---- Half precision ---- */

START_TEST(test_half_round_trip)
{
    for (uint32_t code = 0; code < 65536; code++) {
        uint16_t half = (uint16_t)code;
        float f16 = cnn_ref_f16_to_f32(half), bf16 = cnn_ref_bf16_to_f32(half);
        if (isnan(f16))
            ck_assert(isnan(cnn_ref_f16_to_f32(cnn_ref_f16_from_f32(f16))));
        else
            ck_assert_uint_eq(cnn_ref_f16_from_f32(f16), half);
        if (isnan(bf16))
            ck_assert(isnan(cnn_ref_bf16_to_f32(cnn_ref_bf16_from_f32(bf16))));
        else
            ck_assert_uint_eq(cnn_ref_bf16_from_f32(bf16), half);
    }
}
END_TEST

/* Between neighbours: below the middle down, above it up, in it to the even one. */
START_TEST(test_half_rounding)
{
    for (uint32_t code = 0; code < 0x7BFF; code++) {
        float low = cnn_ref_f16_to_f32((uint16_t)code), high = cnn_ref_f16_to_f32((uint16_t)(code + 1));
        float middle = 0.5f * (low + high);
        uint16_t even = (uint16_t)(code % 2 ? code + 1 : code);
        ck_assert_uint_eq(cnn_ref_f16_from_f32(middle), even);
        ck_assert_uint_eq(cnn_ref_f16_from_f32(nextafterf(middle, 0)), code);
        ck_assert_uint_eq(cnn_ref_f16_from_f32(nextafterf(middle, INFINITY)), code + 1);
        ck_assert_uint_eq(cnn_ref_f16_from_f32(-middle), even | 0x8000u);
    }
    ck_assert_uint_eq(cnn_ref_f16_from_f32(65519.996f), 0x7BFF);
    ck_assert_uint_eq(cnn_ref_f16_from_f32(65520), 0x7C00);
    ck_assert_uint_eq(cnn_ref_f16_from_f32(-1e30f), 0xFC00);
    ck_assert_uint_eq(cnn_ref_f16_from_f32(0x1p-25f), 0);
    ck_assert_uint_eq(cnn_ref_f16_from_f32(0x1.000002p-25f), 1);
    ck_assert_uint_eq(cnn_ref_f16_from_f32(-0.0f), 0x8000);
    ck_assert_uint_eq(cnn_ref_bf16_from_f32(1.00390625f), 0x3F80);
    ck_assert_uint_eq(cnn_ref_bf16_from_f32(1.01171875f), 0x3F82);
    ck_assert_uint_eq(cnn_ref_bf16_from_f32(3.4e38f), 0x7F80);
    ck_assert_uint_eq(cnn_ref_bf16_from_f32(0x1p-133f), 1);
}
END_TEST

/* ---- INT8 arithmetic ---- */

START_TEST(test_quant)
{
    const float weights[] = {0.5f, -2.54f, 1};
    const float zeros[] = {0, 0};
    ck_assert_float_eq(cnn_quant_weight_scale(weights, 3, 0, 0.1f), 2.54f / 127.0f);
    ck_assert_float_eq(cnn_quant_weight_scale(zeros, 2, 0, 0.1f), 1);
    ck_assert_float_eq(cnn_quant_weight_scale(zeros, 2, -0x1p20f, 0.5f), 0x1p-9f);
    ck_assert_int_eq(cnn_quant_value(0.5f, 1), 0);
    ck_assert_int_eq(cnn_quant_value(1.5f, 1), 2);
    ck_assert_int_eq(cnn_quant_value(-2.5f, 1), -2);
    ck_assert_int_eq(cnn_quant_value(-500, 1), -127);
    ck_assert_int_eq(cnn_quant_bias(1.0f, 0.5f, 0.25f), 8);
    ck_assert_int_eq(cnn_quant_bias(-0x1p20f, 0.5f, 0x1p-9f), -(1 << 30));
    ck_assert_float_eq(cnn_quant_multiplier(0.5f, 0.25f, 2), 0.0625f);
    ck_assert_float_eq(cnn_quant_logit_multiplier(0.5f, 0.25f), 0.125f);
    ck_assert_float_eq(cnn_quant_average_multiplier(0.1f, 0.3f, 49), 0.1f / 0.3f / 49.0f);
    ck_assert_int_eq(cnn_quant_requantize(5, 0.5f, -127, 127), 2);
    ck_assert_int_eq(cnn_quant_requantize(7, 0.5f, -127, 127), 4);
    ck_assert_int_eq(cnn_quant_requantize(-7, 0.5f, 0, 127), 0);
    ck_assert_int_eq(cnn_quant_requantize(1 << 30, 1, -127, 127), 127);
    /* 2^24 + 1 is no f32: it becomes 2^24 before the product. */
    ck_assert_int_eq(cnn_quant_requantize((1 << 24) + 1, 0x1.8p-24f, -127, 127), 2);
    ck_assert_int_eq(cnn_quant_add(3, 4, 0.5f, 0.25f, 1, -127, 127), 2);
    ck_assert_int_eq(cnn_quant_add(-100, -100, 1, 1, 1, -127, 127), -127);
    ck_assert_int_eq(cnn_quant_add(-1, 1, FLT_MAX, FLT_MAX, 1, -127, 127), 0);
    ck_assert_int_eq(cnn_quant_add(-2, 2, FLT_MAX, FLT_MAX, 1, -127, 127), -127); /* inf - inf */
    /* -121.5 is a tie; rounded values, added and divided, are not there any more: DequantizeLinear, Add,
     * QuantizeLinear. */
    ck_assert_int_eq(cnn_quant_add(-127, -116, 0.05f, 0.05f, 0.1f, -127, 127), -121);
    ck_assert_int_eq(cnn_quant_rescale(127, 0.5f, 0.25f, -127, 127), 127);
    ck_assert_int_eq(cnn_quant_rescale(-3, 0.5f, 1, -127, 127), -2);
    ck_assert_int_eq(cnn_quant_leaky_relu(-10, 0.5f, 0.25f, 0.5f, -127, 127), -2);
    ck_assert_int_eq(cnn_quant_leaky_relu(10, 0.5f, 0.25f, 0.5f, -127, 127), 10);
    ck_assert(cnn_quant_fits(133144, 0));
    ck_assert(!cnn_quant_fits(133145, 0));
    ck_assert(!cnn_quant_fits(133144, 6071));
    ck_assert(!cnn_quant_fits(1, INT32_MIN));
    ck_assert(!cnn_quant_fits(INT64_MAX, 0));
}
END_TEST

/* ---- Ops ---- */

START_TEST(test_conv)
{
    /* 2x2 filter over a 2x3 image with pad 1, stride 2: two by two outputs. */
    float image[] = {1, 2, 3, 4, 5, 6}, filter[] = {1, 10, 100, 1000}, bias[] = {0.5f}, dst[4];
    cnn_op_desc desc = {.op = CNN_OP_CONV, .stride = 2, .pad = 1, .epilogue = {CNN_EPILOGUE_BIAS}, .epilogue_count = 1};
    desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_F32, 1, 2, 3, 1);
    desc.arg[CNN_ARG_WEIGHT] = cnn_desc(CNN_F32, 1, 2, 2, 1);
    desc.arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_F32, 1);
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 1, 2, 2, 1);
    run(&desc, (void *[CNN_ARG_COUNT]){
                   [CNN_ARG_SRC] = image, [CNN_ARG_WEIGHT] = filter, [CNN_ARG_BIAS] = bias, [CNN_ARG_DST] = dst});
    /* (0,0): only 1 under the last tap; (0,1): 2 and 3 under the lower row; the second row of windows sees image row 1
     * in its upper taps. */
    check_floats(dst, (const float[]){1000.5f, 3200.5f, 40.5f, 65.5f}, 4);
}
END_TEST

START_TEST(test_epilogue)
{
    /* A 1x1 filter of 2 over six values, + bias 1, + addend, ReLU, then windows of 2 in steps of 1. */
    float image[] = {-3, 1, -5, -2, 0, -4}, filter[] = {2}, bias[] = {1}, addend[] = {0, -1, 3, 1, -1, 2}, dst[2];
    cnn_op_desc desc = {.op = CNN_OP_CONV, .stride = 1, .pool_kernel = 2, .pool_stride = 1};
    desc.epilogue[desc.epilogue_count++] = CNN_EPILOGUE_BIAS;
    desc.epilogue[desc.epilogue_count++] = CNN_EPILOGUE_ADD;
    desc.epilogue[desc.epilogue_count++] = CNN_EPILOGUE_RELU;
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_SRC2] = desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 1, 2, 3, 1);
    desc.arg[CNN_ARG_WEIGHT] = cnn_desc(CNN_F32, 1, 1, 1, 1);
    desc.arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_F32, 1);
    float unpooled[6];
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = image,
                                 [CNN_ARG_SRC2] = addend,
                                 [CNN_ARG_WEIGHT] = filter,
                                 [CNN_ARG_BIAS] = bias,
                                 [CNN_ARG_DST] = unpooled};
    run(&desc, args);
    /* Before ReLU: -5 2 -6 / -2 0 -5. */
    check_floats(unpooled, (const float[]){0, 2, 0, 0, 0, 0}, 6);

    image[2] = 4; /* 4*2 + 1 + 3 = 12 */
    desc.epilogue[desc.epilogue_count++] = CNN_EPILOGUE_MAXPOOL;
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 1, 1, 2, 1);
    args[CNN_ARG_DST] = dst;
    run(&desc, args);
    check_floats(dst, (const float[]){2, 12}, 2);
}
END_TEST

START_TEST(test_linear_i8)
{
    int8_t src[] = {127, -127, 127, 9}, weights[] = {127, -127, 127, 9, 1, 1, 1, 9}, dst[4]; /* channel 3 is padding */
    int32_t bias[] = {-3, 1};
    float multiplier[] = {0x1p-9f, 0.5f};
    cnn_op_desc desc = {.op = CNN_OP_LINEAR, .lo = -127, .hi = 127};
    desc.epilogue[desc.epilogue_count++] = CNN_EPILOGUE_REQUANTIZE;
    desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_I8, 1, 1, 1, 3);
    desc.arg[CNN_ARG_WEIGHT] = cnn_desc(CNN_I8, 2, 1, 1, 3);
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_I8, 1, 1, 1, 2);
    desc.arg[CNN_ARG_SRC].c_pad = desc.arg[CNN_ARG_WEIGHT].c_pad = desc.arg[CNN_ARG_DST].c_pad = 4;
    desc.arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_I32, 2);
    desc.arg[CNN_ARG_MULT] = cnn_desc_vector(CNN_F32, 2);
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = src,
                                       [CNN_ARG_WEIGHT] = weights,
                                       [CNN_ARG_BIAS] = bias,
                                       [CNN_ARG_MULT] = multiplier,
                                       [CNN_ARG_DST] = dst});
    /* (48387 - 3)/512 = 94.5, to the even 94; (127 + 1)/2 = 64; padding is 0. */
    ck_assert_int_eq(dst[0], 94);
    ck_assert_int_eq(dst[1], 64);
    ck_assert_int_eq(dst[2], 0);
    ck_assert_int_eq(dst[3], 0);
}
END_TEST

START_TEST(test_maxpool_ties_and_nan)
{
    float src[] = {3, 3, NAN, 1, 3, 3, 9, NAN, 1, 2, 7, 7}, dst[2];
    uint8_t index[2];
    cnn_op_desc desc = {.op = CNN_OP_MAXPOOL, .kernel = 2, .stride = 2};
    desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_F32, 1, 3, 4, 1);
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 1, 1, 2, 1);
    desc.arg[CNN_ARG_INDEX] = cnn_desc(CNN_U8, 1, 1, 2, 1);
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = src, [CNN_ARG_DST] = dst, [CNN_ARG_INDEX] = index});
    check_floats(dst, (const float[]){3, NAN}, 2);
    ck_assert_uint_eq(index[0], 0);
    ck_assert_uint_eq(index[1], 0);
}
END_TEST

/* Two channels of a 2x3 image by windows of 2 in steps of 1, then all of it; int8 by a multiplier of its own. */
START_TEST(test_avgpool)
{
    float image[] = {1, -1, 2, -2, 4, 0, 3, 5, 6, 6, 8, 7}, dst[4], dy[] = {4, 8, -4, 12}, dx[12];
    cnn_op_desc desc = {.op = CNN_OP_AVGPOOL, .kernel = 2, .stride = 1, .scale = {0.25f, 0}, .lo = -127, .hi = 127};
    desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_F32, 1, 2, 3, 2);
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 1, 1, 2, 2);
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = image, [CNN_ARG_DST] = dst});
    check_floats(dst, (const float[]){3, 2, 5, 2.75f}, 4);

    cnn_op_desc gradient = {.op = CNN_OP_AVGPOOL_GRAD, .kernel = 2, .stride = 1};
    gradient.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST];
    gradient.arg[CNN_ARG_DST] = desc.arg[CNN_ARG_SRC];
    run(&gradient, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = dy, [CNN_ARG_DST] = dx});
    check_floats(dx, (const float[]){1, 2, 0, 5, -1, 3, 1, 2, 0, 5, -1, 3}, 12);

    int8_t q[] = {1, -1, 2, -2, 4, 0, 3, 5, 6, 6, 9, 7}, pooled[2]; /* sums 25 and 15 */
    desc.kernel = 0;
    desc.arg[CNN_ARG_SRC].dtype = desc.arg[CNN_ARG_DST].dtype = CNN_I8;
    desc.arg[CNN_ARG_DST].w = 1;
    desc.scale[0] = 0.5f;
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = q, [CNN_ARG_DST] = pooled});
    ck_assert_int_eq(pooled[0], 12); /* ties to even */
    ck_assert_int_eq(pooled[1], 8);
    desc.scale[0] = 10;
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = q, [CNN_ARG_DST] = pooled});
    ck_assert_int_eq(pooled[0], 127);
}
END_TEST

START_TEST(test_relu_nan)
{
    float src[] = {-1, 0, 2, NAN, -INFINITY, INFINITY}, dst[6];
    cnn_op_desc desc = {.op = CNN_OP_RELU};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = cnn_desc_vector(CNN_F32, 6);
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = src, [CNN_ARG_DST] = dst});
    check_floats(dst, (const float[]){0, 0, 2, NAN, 0, INFINITY}, 6);
}
END_TEST

START_TEST(test_loss)
{
    /* Two classes at equal scores: loss ln 2, the first maximum wins. */
    float logits[] = {4, 4, 1, 1}, gradient[4], result[2];
    uint8_t labels[] = {0, 1};
    cnn_train_state state = {.loss_scale = 8};
    cnn_op_desc desc = {.op = CNN_OP_LOSS};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 2, 1, 1, 2);
    desc.arg[CNN_ARG_LABELS] = cnn_desc_vector(CNN_U8, 2);
    desc.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof state);
    desc.arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, 2);
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = logits,
                                       [CNN_ARG_LABELS] = labels,
                                       [CNN_ARG_STATE] = &state,
                                       [CNN_ARG_DST] = gradient,
                                       [CNN_ARG_DST2] = result});
    check_floats(result, (const float[]){0.693147182f, 1}, 2);
    const float want[] = {-2, 2, 2, -2};
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq_tol(gradient[i], want[i], 1e-6f);
}
END_TEST

START_TEST(test_loss_smoothed)
{
    /* p = 1/2, 1/4, 1/4, targets 1/8, 1/8, 3/4 at smoothing 3/8: loss ln 2 (1/8 + 2/8 + 6/4). An infinite score of
     * another class is no NaN without smoothing. */
    const float ln2 = 0.693147182f;
    float logits[] = {ln2, 0, 0}, gradient[3], result[2];
    uint8_t labels[] = {2};
    cnn_op_desc desc = {.op = CNN_OP_LOSS, .smoothing = 0.375f};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 1, 1, 1, 3);
    desc.arg[CNN_ARG_LABELS] = cnn_desc_vector(CNN_U8, 1);
    desc.arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, 2);
    void *args[CNN_ARG_COUNT] = {
        [CNN_ARG_SRC] = logits, [CNN_ARG_LABELS] = labels, [CNN_ARG_DST] = gradient, [CNN_ARG_DST2] = result};
    run(&desc, args);
    const float want[] = {0.375f, 0.125f, -0.5f};
    ck_assert_float_eq_tol(result[0], 1.875f * ln2, 1e-6f);
    for (int i = 0; i < 3; i++)
        ck_assert_float_eq_tol(gradient[i], want[i], 1e-6f);
    desc.smoothing = 0;
    logits[0] = -INFINITY;
    run(&desc, args);
    ck_assert_float_eq_tol(result[0], ln2, 1e-6f);
}
END_TEST

START_TEST(test_bn_train)
{
    float src[] = {1, 2, 3, 6}, gamma[] = {2}, beta[] = {1}, dst[4], mean[1], var[1], invstd[1];
    cnn_op_desc desc = {.op = CNN_OP_BN_TRAIN, .eps = 0.5f};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 2, 2, 1, 1);
    for (int role = CNN_ARG_GAMMA; role <= CNN_ARG_INVSTD; role++)
        desc.arg[role] = cnn_desc_vector(CNN_F32, 1);
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = src,
                                       [CNN_ARG_GAMMA] = gamma,
                                       [CNN_ARG_BETA] = beta,
                                       [CNN_ARG_MEAN] = mean,
                                       [CNN_ARG_VAR] = var,
                                       [CNN_ARG_INVSTD] = invstd,
                                       [CNN_ARG_DST] = dst});
    /* mean 3, squares 4+1+0+9 = 14: biased 3.5, unbiased 14/3, 1/sqrt(3.5 + 0.5) = 0.5 */
    check_floats((const float[]){mean[0], var[0], invstd[0]}, (const float[]){3, 14.0f / 3.0f, 0.5f}, 3);
    check_floats(dst, (const float[]){-1, 0, 1, 4}, 4);
}
END_TEST

/* ---- The end of a step ---- */

START_TEST(test_sgd)
{
    float grads[] = {8, -8}, params[] = {1, 2}, momentum[] = {0.5f, 0}, rates[] = {0.5f, 0.25f};
    uint16_t copy[2] = {0};
    cnn_train_state state = {.momentum = 0.5f, .weight_decay = 0.125f, .loss_scale = 4, .step = 7};
    cnn_op_desc desc = {.op = CNN_OP_SGD};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = desc.arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, 2);
    desc.arg[CNN_ARG_DST3] = cnn_desc_vector(CNN_F16, 2);
    desc.arg[CNN_ARG_TABLE] = cnn_desc_vector(CNN_F32, 2);
    desc.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof state);
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = grads,  [CNN_ARG_STATE] = &state,  [CNN_ARG_TABLE] = rates,
                                 [CNN_ARG_DST] = params, [CNN_ARG_DST2] = momentum, [CNN_ARG_DST3] = copy};
    run(&desc, args);
    /* g' = 2.125, -1.75; v = 2.375, -1.75; the last rate, 0.25, holds past the end of the table. */
    check_floats(momentum, (const float[]){2.375f, -1.75f}, 2);
    check_floats(params, (const float[]){0.40625f, 2.4375f}, 2);
    ck_assert_uint_eq(copy[0], cnn_ref_f16_from_f32(0.40625f));

    state.found_nonfinite = 1;
    copy[0] = 77;
    run(&desc, args);
    check_floats(momentum, (const float[]){2.375f, -1.75f}, 2);
    check_floats(params, (const float[]){0.40625f, 2.4375f}, 2);
    ck_assert_uint_eq(copy[0], 77);
}
END_TEST

/* One step from w = 1, v = 1/2 with scaled gradients 12 and 16 at loss scale 4: 3 and 4, of norm 5. */
static void step_sgd(cnn_train_state state, float *params, float *momentum)
{
    float grads[] = {12, 16}, rates[] = {0.5f};
    cnn_op_desc desc = {.op = CNN_OP_SGD};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = desc.arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, 2);
    desc.arg[CNN_ARG_TABLE] = cnn_desc_vector(CNN_F32, 1);
    desc.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof state);
    params[0] = params[1] = 1;
    momentum[0] = momentum[1] = 0.5f;
    state.loss_scale = 4;
    state.grad_sumsq = 12 * 12 + 16 * 16;
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = grads,
                                       [CNN_ARG_STATE] = &state,
                                       [CNN_ARG_TABLE] = rates,
                                       [CNN_ARG_DST] = params,
                                       [CNN_ARG_DST2] = momentum});
}

START_TEST(test_sgd_nesterov_and_clipping)
{
    float params[2], momentum[2];
    step_sgd((cnn_train_state){.momentum = 0.5f, .weight_decay = 1, .nesterov = 1}, params, momentum);
    /* g' = 4, 5; v = 4.25, 5.25; w = 1 - (g' + v/2)/2 */
    check_floats(momentum, (const float[]){4.25f, 5.25f}, 2);
    check_floats(params, (const float[]){-2.0625f, -2.8125f}, 2);
    step_sgd((cnn_train_state){.clip_norm = 6}, params, momentum);
    check_floats(params, (const float[]){-0.5f, -1}, 2);
    /* Clipped to norm 1, without the weight decay: 0.6 and 0.8 and a millionth less. */
    step_sgd((cnn_train_state){.clip_norm = 1, .weight_decay = 1}, params, momentum);
    ck_assert_float_eq_tol(params[0], 1 - 0.8f, 1e-6f);
    ck_assert_float_eq_tol(params[1], 1 - 0.9f, 1e-6f);
}
END_TEST

START_TEST(test_adam)
{
    /* The second step, t = 2, with beta1 = beta2 = 1/2: both corrections are 1 - 1/4. */
    float grads[] = {8}, rates[] = {0.75f}, params[1], means[1], squares[1];
    cnn_train_state state = {.beta1 = 0.5, .beta2 = 0.5, .eps = 1, .weight_decay = 0.5f, .loss_scale = 4, .step = 1};
    cnn_op_desc desc = {.op = CNN_OP_ADAM};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = desc.arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, 1);
    desc.arg[CNN_ARG_VAR] = desc.arg[CNN_ARG_TABLE] = cnn_desc_vector(CNN_F32, 1);
    desc.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof state);
    for (int decoupled = 0; decoupled < 2; decoupled++) {
        void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = grads,   [CNN_ARG_STATE] = &state, [CNN_ARG_TABLE] = rates,
                                     [CNN_ARG_VAR] = squares, [CNN_ARG_DST] = params,   [CNN_ARG_DST2] = means};
        params[0] = 4;
        means[0] = 1;
        squares[0] = 2;
        desc.decoupled_decay = decoupled;
        run(&desc, args);
        /* g' = 2 + 4/2, or 2 alone; m = 1/2 + g'/2, v = 1 + g'^2/2; w moves by 0.75/0.75 m/(sqrt(v/0.75) + 1). */
        const float mean = decoupled ? 1.5f : 2.5f, square = decoupled ? 3 : 9, kept = decoupled ? 4 * 0.625f : 4;
        check_floats(means, &mean, 1);
        check_floats(squares, &square, 1);
        ck_assert_float_eq_tol(params[0], kept - mean / (sqrtf(square / 0.75f) + 1), 1e-6f);
    }
    state.found_nonfinite = 1;
    params[0] = 7;
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = grads,
                                       [CNN_ARG_STATE] = &state,
                                       [CNN_ARG_TABLE] = rates,
                                       [CNN_ARG_VAR] = squares,
                                       [CNN_ARG_DST] = params,
                                       [CNN_ARG_DST2] = means});
    check_floats(params, (const float[]){7}, 1);
}
END_TEST

START_TEST(test_ema)
{
    float values[] = {1, -3}, averages[] = {0, 1};
    cnn_train_state state = {.ema_decay = 0.75, .step = 0};
    cnn_op_desc desc = {.op = CNN_OP_EMA};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = cnn_desc_vector(CNN_F32, 2);
    desc.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof state);
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = values, [CNN_ARG_STATE] = &state, [CNN_ARG_DST] = averages};
    run(&desc, args); /* 1/10 is kept */
    check_floats(averages, (const float[]){0.9f, 1 - 3.6f}, 2);
    averages[0] = 0;
    averages[1] = 1;
    state.step = 1000; /* 3/4 are kept */
    run(&desc, args);
    check_floats(averages, (const float[]){0.25f, 0}, 2);
    state.found_nonfinite = 1;
    run(&desc, args);
    check_floats(averages, (const float[]){0.25f, 0}, 2);
}
END_TEST

START_TEST(test_grad_stats)
{
    float grads[] = {1, 2, INFINITY, 3, 4};
    int32_t offsets[] = {0, 2, 2, 4, 5}, flags[4];
    cnn_train_state state = {0};
    cnn_op_desc desc = {.op = CNN_OP_GRAD_STATS};
    desc.arg[CNN_ARG_SRC] = cnn_desc_vector(CNN_F32, 5);
    desc.arg[CNN_ARG_INDEX] = cnn_desc_vector(CNN_I32, 5);
    desc.arg[CNN_ARG_DST] = cnn_desc_vector(CNN_I32, 4);
    desc.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof state);
    void *args[CNN_ARG_COUNT] = {
        [CNN_ARG_SRC] = grads, [CNN_ARG_INDEX] = offsets, [CNN_ARG_STATE] = &state, [CNN_ARG_DST] = flags};
    run(&desc, args);
    const int32_t want[] = {0, 0, 1, 0};
    ck_assert_mem_eq(flags, want, sizeof want);
    ck_assert_int_eq(state.found_nonfinite, 1);

    grads[2] = -2;
    run(&desc, args);
    ck_assert_int_eq(flags[2], 0);
    ck_assert_int_eq(state.found_nonfinite, 0);
    ck_assert_double_eq(state.grad_sumsq, 34);
}
END_TEST

static void scaler_step(cnn_train_state *state, int32_t nonfinite, int32_t *flags)
{
    cnn_op_desc desc = {.op = CNN_OP_LOSS_SCALE};
    desc.arg[CNN_ARG_SRC] = cnn_desc_vector(CNN_I32, 3);
    desc.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof *state);
    state->found_nonfinite = nonfinite;
    run(&desc, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = flags, [CNN_ARG_STATE] = state});
    ck_assert_int_eq(state->found_nonfinite, 0);
}

START_TEST(test_loss_scale)
{
    cnn_train_state state = {
        .growth = 2, .backoff = 0.5f, .floor = 1, .ceiling = 8, .growth_interval = 2, .dynamic = 1};
    state.loss_scale = state.scale_min = state.scale_max = 4;
    state.first_overflow = state.last_overflow = -1;
    /* The last segment flagged is where the overflow began. */
    int32_t second[] = {1, 1, 0}, third[] = {0, 1, 1}, clean[] = {0, 0, 0};
    scaler_step(&state, 1, second);
    ck_assert_float_eq(state.loss_scale, 2);
    scaler_step(&state, 1, third);
    scaler_step(&state, 1, third);
    ck_assert_float_eq(state.loss_scale, 1); /* the floor */
    ck_assert_int_eq(state.first_overflow, 1);
    ck_assert_int_eq(state.last_overflow, 2);
    ck_assert_int_eq(state.skipped, 3);
    ck_assert_int_eq(state.overflows_in_row, 3);
    ck_assert_int_eq(state.step, 0);
    for (int i = 0; i < 9; i++)
        scaler_step(&state, 0, clean);
    ck_assert_float_eq(state.loss_scale, 8); /* the ceiling */
    ck_assert_int_eq(state.step, 9);
    ck_assert_int_eq(state.clean_steps, 1);
    ck_assert_int_eq(state.overflows_in_row, 0);
    ck_assert_float_eq(state.scale_min, 1);
    ck_assert_float_eq(state.scale_max, 8);
    state.dynamic = 0;
    scaler_step(&state, 1, clean);
    ck_assert_float_eq(state.loss_scale, 8);
    ck_assert_int_eq(state.first_overflow, 1);
    ck_assert_int_eq(state.last_overflow, -1); /* nothing flagged */
}
END_TEST

/* ---- What is refused ---- */

/* prepare must refuse and name `word` in its reason; asking without a kernel says the same. */
static void check_refused(const cnn_op_desc *desc, const char *word)
{
    char why[CNN_REASON_BYTES] = "";
    cnn_kernel *kernel = NULL;
    ck_assert_int_eq(cnn_backend_ref.prepare(device, desc, &kernel, why), CNN_ERR_UNSUPPORTED);
    ck_assert_ptr_null(kernel);
    ck_assert_msg(strstr(why, word) != NULL, "'%s' does not mention '%s'", why, word);
    ck_assert_int_eq(cnn_backend_ref.prepare(device, desc, NULL, NULL), CNN_ERR_UNSUPPORTED);
}

START_TEST(test_refusals)
{
    cnn_op_desc good = {.op = CNN_OP_CONV, .stride = 1, .pad = 1}, bad;
    good.arg[CNN_ARG_SRC] = cnn_desc(CNN_F32, 1, 5, 5, 3);
    good.arg[CNN_ARG_WEIGHT] = cnn_desc(CNN_F32, 4, 3, 3, 3);
    good.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, 1, 5, 5, 4);
    ck_assert_int_eq(cnn_backend_ref.prepare(device, &good, NULL, NULL), CNN_OK);

    bad = good;
    bad.op = CNN_OP_COUNT;
    check_refused(&bad, "not known");
    bad = good;
    bad.arg[CNN_ARG_WEIGHT].c = bad.arg[CNN_ARG_WEIGHT].c_pad = 2;
    check_refused(&bad, "channels");
    bad = good;
    bad.arg[CNN_ARG_DST].h = 4;
    check_refused(&bad, "dst");
    bad = good;
    bad.arg[CNN_ARG_SRC].c_pad = 2;
    check_refused(&bad, "channels in memory");
    bad = good;
    bad.stride = 0;
    check_refused(&bad, "stride");
    bad = good;
    bad.arg[CNN_ARG_WEIGHT].dtype = CNN_F16;
    check_refused(&bad, "element type");
    bad = good;
    bad.arg[CNN_ARG_GAMMA] = cnn_desc_vector(CNN_F32, 4);
    check_refused(&bad, "gamma");
    bad = good;
    bad.arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_F32, 4);
    check_refused(&bad, "epilogue");
    bad = good;
    bad.epilogue_count = 2;
    bad.epilogue[0] = CNN_EPILOGUE_RELU;
    bad.epilogue[1] = CNN_EPILOGUE_BIAS;
    bad.arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_F32, 4);
    check_refused(&bad, "epilogue step 2");
    bad = good;
    bad.arg[CNN_ARG_SRC].n = 0;
    check_refused(&bad, "empty");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reference");
    TCase *tests = tcase_create("by hand");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_half_round_trip);
    tcase_add_test(tests, test_half_rounding);
    tcase_add_test(tests, test_quant);
    tcase_add_test(tests, test_conv);
    tcase_add_test(tests, test_epilogue);
    tcase_add_test(tests, test_linear_i8);
    tcase_add_test(tests, test_maxpool_ties_and_nan);
    tcase_add_test(tests, test_avgpool);
    tcase_add_test(tests, test_relu_nan);
    tcase_add_test(tests, test_loss);
    tcase_add_test(tests, test_loss_smoothed);
    tcase_add_test(tests, test_bn_train);
    tcase_add_test(tests, test_sgd);
    tcase_add_test(tests, test_sgd_nesterov_and_clipping);
    tcase_add_test(tests, test_adam);
    tcase_add_test(tests, test_ema);
    tcase_add_test(tests, test_grad_stats);
    tcase_add_test(tests, test_loss_scale);
    tcase_add_test(tests, test_refusals);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
