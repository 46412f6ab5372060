/* Cases of what ends a training step: loss, gradient statistics, SGD, Adam, running statistics, the loss scaler. */
#include "tests/kcheck/kcheck.h"

#include <math.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof(array)[0]))

static cnn_tensor_desc state_desc(void)
{
    return cnn_desc_vector(CNN_U8, (int32_t)sizeof(cnn_train_state));
}

/* A state in the middle of a run. */
static cnn_train_state some_state(kc_random *random)
{
    cnn_train_state state = {.momentum = 0.9f, .weight_decay = 1e-4f, .growth = 2, .backoff = 0.5f, .floor = 1};
    state.ceiling = 0x1p24f;
    state.growth_interval = kc_int(random, 1, 4);
    state.dynamic = kc_int(random, 0, 3) > 0;
    state.step = kc_int(random, 0, 50);
    state.loss_scale = exp2f((float)kc_int(random, 0, 24));
    state.clean_steps = kc_int(random, 0, state.growth_interval - 1);
    state.overflows_in_row = kc_int(random, 0, 3);
    state.skipped = kc_int(random, 0, 9);
    state.first_overflow = kc_int(random, -1, 2);
    state.last_overflow = state.first_overflow;
    state.scale_min = 256;
    state.scale_max = 65536;
    state.grad_sumsq = 1.5;
    return state;
}

/* ---- Loss ---- */

_Static_assert(KC_LOSS_FIXED == 12 * 8, "twelve shapes, eight variants");

/* What of the optional tensors a case has. */
static void loss_options(kc_case *test, int number, int32_t images)
{
    static const cnn_dtype gradients[] = {CNN_F32, CNN_F32, CNN_F16, CNN_BF16, CNN_NONE, CNN_F32, CNN_F16, CNN_F32};
    cnn_op_desc *desc = &test->desc;
    cnn_dtype dtype = gradients[number % 8];
    bool gather = (number + number / 8) % 2;
    int32_t stored = images + (gather ? 5 : number % 3);
    desc->arg[CNN_ARG_LABELS] = cnn_desc_vector(CNN_U8, stored);
    /* What the state says is the end of the index, or part of a longer one. */
    test->state.cursor = number % 7;
    if (gather)
        desc->arg[CNN_ARG_INDEX] = cnn_desc_vector(CNN_I32, images + test->state.cursor + number % 3);
    test->fill[CNN_ARG_INDEX] = kc_ints(0, stored - 1);
    if (dtype != CNN_NONE) {
        desc->arg[CNN_ARG_DST] = desc->arg[CNN_ARG_SRC];
        desc->arg[CNN_ARG_DST].dtype = dtype;
    }
    if (number % 8 >= 5 || dtype == CNN_F16)
        desc->arg[CNN_ARG_STATE] = state_desc();
}

void kc_make_loss(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    static const int32_t shapes[][2] = {{1, 1},  {1, 2},   {1, 10}, {64, 10}, {7, 10}, {33, 3},
                                        {5, 17}, {2, 100}, {3, 33}, {17, 26}, {1, 64}, {70, 5}};
    int32_t n = number < KC_LOSS_FIXED ? shapes[number / 8][0] : kc_int(random, 1, 90);
    int32_t k = number < KC_LOSS_FIXED ? shapes[number / 8][1] : kc_int(random, 1, 120);
    cnn_op_desc *desc = &test->desc;
    desc->arg[CNN_ARG_SRC] = cnn_desc(CNN_F32, n, 1, 1, k);
    desc->arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, 2);
    test->state = some_state(random);
    loss_options(test, number, n);
    test->fill[CNN_ARG_LABELS] = kc_ints(0, k - 1);
    switch ((number / 2 + number) % 4) {
    case 0:
        test->fill[CNN_ARG_SRC] = kc_real(-3, 3);
        break;
    case 1: /* probabilities that underflow */
        test->fill[CNN_ARG_SRC] = kc_ints(-100, 100);
        break;
    case 2:
        test->fill[CNN_ARG_SRC] = kc_real(-20, 20);
        break;
    default:
        test->fill[CNN_ARG_SRC] = number % 8 == 5 ? (kc_fill){KC_ONE_BAD, -3, 3, 1} : kc_real(500, 520);
        break;
    }
    /* Equal maxima: only the first counts as the answer. */
    if (number % 8 == 3 || number % 8 == 4)
        test->fill[CNN_ARG_SRC] = kc_ints(0, 1);
    if (number % 5 == 4)
        desc->smoothing = number % 2 ? 0.1f : 0.5f;
    if (number % 3 == 1) { /* a teacher */
        static const float mixes[] = {0.5f, 1.0f, 0.125f}, temperatures[] = {1.0f, 4.0f, 0.5f, 20.0f};
        desc->arg[CNN_ARG_SRC2] = cnn_desc(CNN_F32, desc->arg[CNN_ARG_LABELS].c, 1, 1, k);
        test->fill[CNN_ARG_SRC2] = number % 2 ? kc_real(-20, 20) : kc_real(-3, 3);
        desc->mix = mixes[number / 3 % 3];
        desc->temperature = temperatures[number / 3 % 4];
    }
    test->agreement = KC_ULP;
    test->pad_to[CNN_ARG_SRC] = test->pad_to[CNN_ARG_DST] = number % 3 == 0 ? 16 : 1;
}

/* ---- Gradient statistics ---- */

static const int32_t lengths[] = {1, 3, 17, 64, 1000, 4099};

_Static_assert(LENGTH(lengths) * 4 == KC_STATS_FIXED, "count the cases in kcheck.h");

void kc_make_stats(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    int32_t length = number < KC_STATS_FIXED ? lengths[number / 4] : kc_int(random, 1, 20000);
    int32_t segments = number % 4 == 0 ? 1 : kc_int(random, 1, 12);
    cnn_op_desc *desc = &test->desc;
    desc->arg[CNN_ARG_SRC] = cnn_desc_vector(CNN_F32, length);
    desc->arg[CNN_ARG_INDEX] = cnn_desc_vector(CNN_I32, segments + 1);
    desc->arg[CNN_ARG_DST] = cnn_desc_vector(CNN_I32, segments);
    desc->arg[CNN_ARG_STATE] = state_desc();
    test->state = some_state(random);
    test->state.found_nonfinite = number % 3 == 0;
    test->fill[CNN_ARG_SRC] = (kc_fill){KC_REAL, -1, 1, 1};
    if (number % 4 == 2)
        test->fill[CNN_ARG_SRC].kind = KC_ONE_BAD;
    if (number % 4 == 3)
        test->fill[CNN_ARG_SRC] = kc_real(-1e15, 1e15);
    test->fill[CNN_ARG_INDEX] = (kc_fill){KC_OFFSETS, 0, length, 1};
    test->agreement = KC_ULP;
    if (number % 5 < 2) { /* running statistics, with products that are exact */
        desc->arg[CNN_ARG_SRC2] = desc->arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, lengths[number % LENGTH(lengths)]);
        desc->momentum = 0.25f;
        test->fill[CNN_ARG_SRC2] = test->fill[CNN_ARG_DST2] = kc_ints(-100, 100);
    }
}

/* ---- Masks ---- */

_Static_assert(LENGTH(lengths) * 3 == KC_MASK_FIXED, "count the cases in kcheck.h");

void kc_make_mask(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    int32_t length = number < KC_MASK_FIXED ? lengths[number / 3] : kc_int(random, 1, 200000);
    test->desc.arg[CNN_ARG_SRC] = cnn_desc_vector(CNN_U8, length);
    test->desc.arg[CNN_ARG_DST] = cnn_desc_vector(CNN_F32, length);
    test->fill[CNN_ARG_SRC] = kc_ints(0, number % 3 == 2 ? 255 : 1);
    /* Infinities and NaN go as well. */
    test->fill[CNN_ARG_DST] = (kc_fill){number % 3 == 1 ? KC_SPECIAL : KC_REAL, -4, 4, 1};
    test->agreement = KC_EXACT;
}

/* ---- SGD ---- */

_Static_assert(LENGTH(lengths) * 6 == KC_SGD_FIXED, "count the cases in kcheck.h");

/* Settings and values that make every operation exact. */
static void exact_sgd(kc_case *test)
{
    test->agreement = KC_EXACT;
    test->state.momentum = 0.5f;
    test->state.weight_decay = 0.25f;
    test->fill[CNN_ARG_SRC] = (kc_fill){KC_INTS, -8, 8, (double)test->state.loss_scale};
    test->fill[CNN_ARG_DST] = kc_ints(-64, 64);
    test->fill[CNN_ARG_DST2] = kc_ints(-64, 64);
    test->fill[CNN_ARG_TABLE] = (kc_fill){KC_INTS, 1, 4, 0.125};
}

/* Tensors of an update, and a step of which some are clipped and some are skipped. */
static void make_update(kc_case *test, int number, kc_random *random)
{
    static const cnn_dtype copies[] = {CNN_NONE, CNN_F16, CNN_BF16};
    int32_t length = number < KC_SGD_FIXED ? lengths[number / 6] : kc_int(random, 1, 10000);
    cnn_op_desc *desc = &test->desc;
    cnn_tensor_desc vector = cnn_desc_vector(CNN_F32, length);
    desc->arg[CNN_ARG_SRC] = desc->arg[CNN_ARG_DST] = desc->arg[CNN_ARG_DST2] = vector;
    if (copies[number % 3] != CNN_NONE)
        desc->arg[CNN_ARG_DST3] = cnn_desc_vector(copies[number % 3], length);
    desc->arg[CNN_ARG_TABLE] = cnn_desc_vector(CNN_F32, kc_int(random, 1, 60));
    desc->arg[CNN_ARG_STATE] = state_desc();
    test->state = some_state(random);
    test->state.found_nonfinite = number % 6 == 4;
    test->fill[CNN_ARG_SRC] = kc_real(-0.5 * (double)test->state.loss_scale, 0.5 * (double)test->state.loss_scale);
    test->fill[CNN_ARG_DST] = kc_real(-1, 1);
    test->fill[CNN_ARG_DST2] = kc_real(-0.5, 0.5);
    test->fill[CNN_ARG_DST3] = kc_ints(-9, 9);
    test->fill[CNN_ARG_TABLE] = kc_real(0.001, 0.1);
    test->agreement = KC_ULP;
    if (number % 6 == 1 || number % 6 == 2) { /* one clips, the other lies within */
        double norm = number % 6 == 1 ? 8 : 0.125;
        test->state.clip_norm = 0.5f;
        test->state.grad_sumsq = pow(norm * (double)test->state.loss_scale, 2);
    }
}

void kc_make_sgd(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    make_update(test, number, random);
    test->state.nesterov = number / 6 % 2;
    if (number % 6 >= 3)
        exact_sgd(test);
    if (number % 12 == 7)
        test->state.loss_scale = 1000;
}

/* ---- Adam ---- */

void kc_make_adam(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    make_update(test, number, random);
    test->desc.arg[CNN_ARG_VAR] = test->desc.arg[CNN_ARG_DST];
    test->desc.decoupled_decay = number / 3 % 2;
    test->state.beta1 = 0.9;
    test->state.beta2 = number % 2 ? 0.999 : 0.95;
    test->state.eps = 1e-8;
    test->state.weight_decay = 0.01f;
    test->fill[CNN_ARG_VAR] = kc_real(0.01, 0.5);
    if (number % 6 == 5) { /* the first step */
        test->state.step = 0;
        test->state.weight_decay = 0;
        test->fill[CNN_ARG_DST2] = test->fill[CNN_ARG_VAR] = (kc_fill){.kind = KC_ZERO};
    }
}

/* ---- Running statistics, averages ---- */

_Static_assert(KC_UPDATE_FIXED == 16, "four lengths, four variants");

void kc_make_update(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const double decays[] = {0.5, 0.0625, 0.999, 0.99};
    int32_t length = number < KC_UPDATE_FIXED ? lengths[number / 4] : kc_int(random, 1, 2000);
    test->desc.arg[CNN_ARG_SRC] = test->desc.arg[CNN_ARG_DST] = cnn_desc_vector(CNN_F32, length);
    test->desc.arg[CNN_ARG_STATE] = state_desc();
    test->state = some_state(random);
    test->state.found_nonfinite = number % 4 == 3;
    bool exact = number % 2;
    test->agreement = exact ? KC_EXACT : KC_ULP;
    if (op == CNN_OP_BN_UPDATE)
        test->desc.momentum = exact ? 0.25f : 0.1f;
    if (op == CNN_OP_EMA && exact) {
        test->state.step = 8; /* (1 + 8)/(10 + 8) = 1/2 */
        test->state.ema_decay = decays[number / 2 % 3];
    } else if (op == CNN_OP_EMA) {
        test->state.ema_decay = decays[number / 2 % 4];
    }
    test->fill[CNN_ARG_SRC] = test->fill[CNN_ARG_DST] = exact ? kc_ints(-100, 100) : kc_real(-2, 2);
}

/* ---- Loss scaler ---- */

_Static_assert(KC_SCALER_FIXED == 24, "states are drawn");

void kc_make_scaler(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    int32_t segments = number % 4 == 0 ? 1 : kc_int(random, 1, 20);
    test->desc.arg[CNN_ARG_SRC] = cnn_desc_vector(CNN_I32, segments);
    test->desc.arg[CNN_ARG_STATE] = state_desc();
    if (number % 3) { /* reports to the host: 1 to 5 of them */
        test->desc.arg[CNN_ARG_SRC2] = cnn_desc_vector(CNN_F32, 2);
        test->desc.arg[CNN_ARG_DST] = cnn_desc_vector(CNN_U8, kc_int(random, 1, 5) * (int32_t)sizeof(cnn_step_report));
        test->fill[CNN_ARG_SRC2] = kc_real(0, 9);
        test->fill[CNN_ARG_DST] = kc_ints(0, 255);
    }
    test->desc.advance = number % 3 == 2 ? kc_int(random, 1, 64) : 0;
    test->state = some_state(random);
    test->state.cursor = kc_int(random, 0, 99);
    test->state.found_nonfinite = number % 2;
    /* An overflow has at least one flag. */
    int32_t lowest = segments == 1 || number % 2 == 0 ? number % 2 : 0;
    test->fill[CNN_ARG_SRC] = kc_ints(lowest, number % 2);
    if (number % 6 == 5) { /* at the floor */
        test->state.loss_scale = 1;
        test->state.dynamic = 1;
    }
    if (number % 6 == 4) { /* grows, at the ceiling */
        test->state.loss_scale = number % 4 ? 0x1p24f : 0x1p20f;
        test->state.clean_steps = test->state.growth_interval - 1;
        test->state.dynamic = 1;
    }
    test->agreement = KC_EXACT;
}
