/* Cases: making, filling, and what the reference says. */
#include "tests/kcheck/kcheck.h"

#include "core/error.h"
#include "core/pool.h"
#include "tests/kcheck/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Every op has a row, or this file does not compile. */
#define KC_OPS(ROW)                                                           \
    ROW(CONV, KC_CONV_FIXED, kc_make_conv, NULL)                              \
    ROW(CONV_DGRAD, KC_GRAD_FIXED, kc_make_conv_grad, NULL)                   \
    ROW(CONV_WGRAD, KC_GRAD_FIXED, kc_make_conv_grad, NULL)                   \
    ROW(GROUP_CONV, KC_GROUP_FIXED, kc_make_group_conv, NULL)                 \
    ROW(GROUP_CONV_DGRAD, KC_GROUP_GRAD_FIXED, kc_make_group_conv_grad, NULL) \
    ROW(GROUP_CONV_WGRAD, KC_GROUP_GRAD_FIXED, kc_make_group_conv_grad, NULL) \
    ROW(LINEAR, KC_LINEAR_FIXED, kc_make_linear, NULL)                        \
    ROW(LINEAR_DGRAD, KC_LINEAR_GRAD_FIXED, kc_make_linear_grad, NULL)        \
    ROW(LINEAR_WGRAD, KC_LINEAR_GRAD_FIXED, kc_make_linear_grad, NULL)        \
    ROW(BN_TRAIN, KC_BN_FIXED, kc_make_bn, kc_bound_bn_train)                 \
    ROW(BN_INFER, KC_BN_FIXED, kc_make_bn, kc_bound_bn_infer)                 \
    ROW(BN_GRAD, KC_BN_FIXED, kc_make_bn, kc_bound_bn_grad)                   \
    ROW(RELU, KC_ELEMENT_FIXED, kc_make_element, NULL)                        \
    ROW(RELU_GRAD, KC_ELEMENT_FIXED, kc_make_element, NULL)                   \
    ROW(CLIP, KC_ELEMENT_FIXED, kc_make_element, NULL)                        \
    ROW(CLIP_GRAD, KC_ELEMENT_FIXED, kc_make_element, NULL)                   \
    ROW(LEAKY_RELU, KC_ELEMENT_FIXED, kc_make_element, NULL)                  \
    ROW(LEAKY_RELU_GRAD, KC_ELEMENT_FIXED, kc_make_element, NULL)             \
    ROW(MAXPOOL, KC_POOL_FIXED, kc_make_pool, NULL)                           \
    ROW(MAXPOOL_GRAD, KC_POOL_FIXED, kc_make_pool, NULL)                      \
    ROW(ADD, KC_ELEMENT_FIXED, kc_make_element, NULL)                         \
    ROW(CONCAT, KC_CONCAT_FIXED, kc_make_concat, NULL)                        \
    ROW(CONCAT_GRAD, KC_CONCAT_FIXED, kc_make_concat, NULL)                   \
    ROW(DROPOUT, KC_DROPOUT_FIXED, kc_make_dropout, NULL)                     \
    ROW(INPUT, KC_INPUT_FIXED, kc_make_input, NULL)                           \
    ROW(LOSS, KC_LOSS_FIXED, kc_make_loss, kc_bound_loss)                     \
    ROW(REQUANTIZE, KC_REQUANTIZE_FIXED, kc_make_requantize, NULL)            \
    ROW(DEQUANTIZE, KC_REQUANTIZE_FIXED, kc_make_requantize, NULL)            \
    ROW(MASK, KC_MASK_FIXED, kc_make_mask, NULL)                              \
    ROW(GRAD_STATS, KC_STATS_FIXED, kc_make_stats, kc_bound_stats)            \
    ROW(SGD, KC_SGD_FIXED, kc_make_sgd, kc_bound_sgd)                         \
    ROW(ADAM, KC_SGD_FIXED, kc_make_adam, kc_bound_adam)                      \
    ROW(BN_UPDATE, KC_UPDATE_FIXED, kc_make_update, kc_bound_update)          \
    ROW(EMA, KC_UPDATE_FIXED, kc_make_update, kc_bound_update)                \
    ROW(LOSS_SCALE, KC_SCALER_FIXED, kc_make_scaler, NULL)                    \
    ROW(GRID, KC_GRID_FIXED, kc_make_grid, kc_bound_grid)                     \
    ROW(GRID_GRAD, KC_GRID_FIXED, kc_make_grid, kc_bound_grid_grad)           \
    ROW(AVGPOOL, KC_AVERAGE_FIXED, kc_make_average, NULL)                     \
    ROW(AVGPOOL_GRAD, KC_AVERAGE_FIXED, kc_make_average, NULL)

#define COUNT_ROW(op, fixed, make, bound) +1
_Static_assert((0 KC_OPS(COUNT_ROW)) == CNN_OP_COUNT - 1, "an op has no generator: add its row to KC_OPS");

#define TABLE_ROW(op, fixed, make, bound) [CNN_OP_##op] = {CNN_OP_##op, fixed, make, bound},
static const kc_op ops[CNN_OP_COUNT] = {KC_OPS(TABLE_ROW)};

const kc_op *kc_op_get(cnn_op op)
{
    return &ops[op];
}

static bool is_state(int role)
{
    return role == CNN_ARG_STATE;
}

static uint8_t use_of(const cnn_op_desc *desc, int role)
{
    return desc->arg[role].dtype == CNN_NONE ? 0 : cnn_op_info_get(desc->op)->use[role];
}

/* ---- The reference ---- */

static cnn_status reference_open(const cnn_op_desc *desc, double *const in[CNN_ARG_COUNT], const cnn_train_state *state,
                                 cnn_device *device, kc_tensor *tensors)
{
    cnn_status status = CNN_OK;
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        const cnn_tensor_desc *arg = &desc->arg[role];
        if (arg->dtype == CNN_NONE)
            continue;
        CNN_TRY(kc_tensor_open(&tensors[role], arg, cnn_desc_bytes(arg), &cnn_backend_ref, device));
        if (is_state(role))
            memcpy(kc_image(&tensors[role]), state, sizeof *state);
        else if (in[role])
            kc_tensor_set(&tensors[role], in[role]);
        CNN_TRY(kc_tensor_upload(&tensors[role], &cnn_backend_ref, device));
    }
out:
    return status;
}

/* Reads what was written. */
static cnn_status reference_read(const cnn_op_desc *desc, kc_tensor *tensors, cnn_device *device, double **out,
                                 cnn_train_state *state)
{
    cnn_status status = CNN_OK;
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        if (!(use_of(desc, role) & CNN_USE_WRITE))
            continue;
        CNN_TRY(kc_tensor_download(&tensors[role], &cnn_backend_ref, device));
        if (is_state(role)) {
            memcpy(state, kc_after(&tensors[role]), sizeof *state);
            continue;
        }
        out[role] = kc_tensor_get(&tensors[role]);
        if (!out[role])
            CNN_FAIL(CNN_ERR_MEMORY, "kcheck: out of memory");
    }
out:
    return status;
}

cnn_status kc_reference(const kc_case *test, const cnn_op_desc *desc, double *const in[CNN_ARG_COUNT],
                        double *out[CNN_ARG_COUNT], cnn_train_state *state)
{
    cnn_status status = CNN_OK;
    const cnn_backend *ref = &cnn_backend_ref;
    cnn_device *device = NULL;
    cnn_kernel *kernel = NULL;
    kc_tensor tensors[CNN_ARG_COUNT] = {0}, workspace = {0};
    void *args[CNN_ARG_COUNT];
    char why[CNN_REASON_BYTES] = "", text[512];
    cnn_tensor_desc none = {0};

    CNN_TRY(ref->open(cnn_host_get(), NULL, &device));
    if (ref->prepare(device, desc, &kernel, why) != CNN_OK)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "the reference refuses case %d, %s: %s", test->number,
                 cnn_op_desc_print(desc, text, sizeof text), why);
    CNN_TRY(reference_open(desc, in, &test->state, device, tensors));
    CNN_TRY(kc_tensor_open(&workspace, &none, kernel->workspace_bytes, ref, device));
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        args[role] = kc_pointer(&tensors[role]);
    CNN_TRY(kernel->run(kernel, args, kc_pointer(&workspace)));
    CNN_TRY(reference_read(desc, tensors, device, out, state));
out:
    if (kernel)
        kernel->destroy(kernel);
    if (device) {
        for (int role = 0; role < CNN_ARG_COUNT; role++)
            kc_tensor_close(&tensors[role], ref, device);
        kc_tensor_close(&workspace, ref, device);
        ref->close(device);
    }
    return status;
}

/* ---- The sum bound ---- */

double kc_half_ulp(cnn_dtype dtype, double magnitude)
{
    int bits = dtype == CNN_F16 ? 11 : dtype == CNN_BF16 ? 8 : 24;
    int lowest = dtype == CNN_F16 ? -14 : -126; /* exponent of the smallest normal number */
    int exponent = magnitude > 0 && isfinite(magnitude) ? ilogb(magnitude) : lowest;
    if (exponent < lowest)
        exponent = lowest;
    return ldexp(0.5, exponent - bits + 1);
}

/* |v| of every input. */
static cnn_status absolute_inputs(const kc_case *test, double *in[CNN_ARG_COUNT])
{
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        if (!test->in[role])
            continue;
        int64_t count = cnn_desc_elements(&test->desc.arg[role]);
        in[role] = malloc((size_t)count * sizeof **in);
        if (!in[role])
            return cnn_error(CNN_ERR_MEMORY, "kcheck: out of memory");
        for (int64_t i = 0; i < count; i++)
            in[role][i] = role == CNN_ARG_INDEX ? test->in[role][i] : fabs(test->in[role][i]);
    }
    return CNN_OK;
}

/* Gradients of pooling have no other form of DST than that of dy. */
static bool keeps_dtype(cnn_op op)
{
    return op == CNN_OP_MAXPOOL_GRAD || op == CNN_OP_AVGPOOL_GRAD;
}

cnn_status kc_bound_sum(kc_case *test)
{
    cnn_status status = CNN_OK;
    double *in[CNN_ARG_COUNT] = {0};
    cnn_train_state state;
    cnn_op_desc desc = test->desc;
    if (!keeps_dtype(desc.op))
        desc.arg[CNN_ARG_DST].dtype = CNN_F32;
    for (int32_t i = 0; i < desc.epilogue_count; i++) /* what is cut off has its error all the same */
        if (desc.epilogue[i] == CNN_EPILOGUE_CLIP)
            desc.epilogue[i] = CNN_EPILOGUE_RELU;
    CNN_TRY(absolute_inputs(test, in));
    CNN_TRY(kc_reference(test, &desc, in, test->tolerance, &state));
    for (int role = CNN_ARG_DST; role <= CNN_ARG_DST3; role++) {
        if (!test->tolerance[role])
            continue;
        const cnn_tensor_desc *arg = &test->desc.arg[role];
        /* A bias gradient sums one term a pixel: fewer than, or as many as, a weight gradient. */
        for (int64_t i = 0; i < cnn_desc_elements(arg); i++) {
            double sum = (double)(test->terms + 2) * 0x1p-24 * test->tolerance[role][i];
            test->tolerance[role][i] = sum + kc_half_ulp(arg->dtype, fabs(test->want[role][i]) + sum);
        }
    }
out:
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        free(in[role]);
    return status;
}

/* ---- The transform bound ---- */

cnn_status kc_bound_transform(kc_case *test)
{
    const double rms_share = 1e-5, largest_share = 1e-4;
    const cnn_tensor_desc *dst = &test->desc.arg[CNN_ARG_DST];
    const double *want = test->want[CNN_ARG_DST];
    const int64_t count = cnn_desc_elements(dst);
    double squares = 0, rounding = 0;
    cnn_status status = kc_bound_sum(test);
    if (status != CNN_OK)
        return status;
    for (int64_t i = 0; i < count; i++) {
        const double half = kc_half_ulp(dst->dtype, fabs(want[i]));
        squares += want[i] * want[i];
        rounding += half * half;
    }
    const double rms = sqrt(squares / (double)count);
    test->rms_tolerance = rms_share * rms + sqrt(rounding / (double)count);
    for (int64_t i = 0; i < count; i++)
        test->tolerance[CNN_ARG_DST][i] =
            largest_share * rms + kc_half_ulp(dst->dtype, fabs(want[i]) + largest_share * rms);
    return CNN_OK;
}

/* ---- Cases ---- */

static cnn_status fill_inputs(kc_case *test, kc_random *random)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        if (!(use_of(&test->desc, role) & CNN_USE_READ) || is_state(role))
            continue;
        test->in[role] = kc_fill_values(&test->fill[role], &test->desc.arg[role], random);
        if (!test->in[role])
            return cnn_error(CNN_ERR_MEMORY, "kcheck: out of memory");
    }
    return CNN_OK;
}

/* The descriptor of which the reference's result is wanted: where agreement is not exact, half-precision results are
 * compared with what they were before rounding. */
static cnn_op_desc wanted_desc(const kc_case *test)
{
    cnn_op_desc desc = test->desc;
    bool half = desc.arg[CNN_ARG_DST].dtype == CNN_F16 || desc.arg[CNN_ARG_DST].dtype == CNN_BF16;
    if (test->agreement != KC_EXACT && half && !keeps_dtype(desc.op))
        desc.arg[CNN_ARG_DST].dtype = CNN_F32;
    return desc;
}

/* The case without values. */
static kc_random draw(kc_case *test, cnn_op op, int number, uint64_t seed)
{
    kc_random random = {cnn_splitmix64(cnn_splitmix64(seed ^ (uint64_t)op << 32) ^ (uint64_t)number)};
    *test = (kc_case){.number = number, .seed = seed, .desc.op = op};
    ops[op].make(test, op, number, &random);
    return random;
}

cnn_dtype kc_case_src(cnn_op op, int number, uint64_t seed)
{
    kc_case test;
    draw(&test, op, number, seed);
    return test.desc.arg[CNN_ARG_SRC].dtype;
}

cnn_status kc_case_make(kc_case *test, cnn_op op, int number, uint64_t seed)
{
    cnn_status status = CNN_OK;
    kc_random random = draw(test, op, number, seed);
    cnn_op_desc desc = wanted_desc(test);
    CNN_TRY(fill_inputs(test, &random));
    CNN_TRY(kc_reference(test, &desc, test->in, test->want, &test->want_state));
    if (test->agreement == KC_SUM)
        CNN_TRY(kc_bound_sum(test));
    else if (test->agreement == KC_TRANSFORM)
        CNN_TRY(kc_bound_transform(test));
    else if (test->agreement == KC_ULP)
        ops[op].bound(test);
out:
    return status;
}

void kc_case_free(kc_case *test)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        free(test->in[role]);
        free(test->want[role]);
        free(test->tolerance[role]);
    }
    *test = (kc_case){0};
}
