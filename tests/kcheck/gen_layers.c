/* Cases of batch normalization, ReLU, addition, concatenation, pooling, input, requantizing and dequantizing. */
#include "kernels/augment/params.h"
#include "tests/kcheck/kcheck.h"

typedef struct shape {
    int32_t n, h, w, c;
} shape;

/* The last one has more pixels and channels than one block of a kernel. */
static const shape shapes[] = {
    {1, 1, 1, 1},   {1, 1, 1, 3},    {2, 3, 5, 17}, {1, 4, 4, 33}, {3, 2, 2, 64},   {1, 7, 1, 5},
    {40, 1, 1, 10}, {1, 14, 14, 16}, {2, 5, 5, 90}, {4, 6, 6, 8},  {3, 18, 22, 72},
};
static const cnn_dtype floats[] = {CNN_F32, CNN_F16, CNN_BF16};

#define LENGTH(array) ((int)(sizeof(array) / sizeof(array)[0]))

static shape random_shape(kc_random *random)
{
    shape s = {kc_int(random, 1, 5), kc_int(random, 1, 12), kc_int(random, 1, 12), 1};
    s.c = kc_int(random, 1, kc_int(random, 1, 140));
    return s;
}

/* The shape of a case: from the list, each `variants` times, then random ones. */
static shape pick_shape(int number, int variants, kc_random *random)
{
    return number < LENGTH(shapes) * variants ? shapes[number / variants] : random_shape(random);
}

static void set_padding(kc_case *test, const cnn_arg *roles, int count)
{
    static const int32_t multiples[] = {1, 1, 4, 16};
    for (int i = 0; i < count; i++)
        test->pad_to[roles[i]] = multiples[(test->number / 3 + test->number) % 4];
}

/* ---- Batch normalization ---- */

_Static_assert(LENGTH(shapes) * 8 == KC_BN_FIXED, "count the cases in kcheck.h");

static void set_vectors(kc_case *test, const cnn_arg *roles, int count, int32_t c)
{
    for (int i = 0; i < count; i++)
        test->desc.arg[roles[i]] = cnn_desc_vector(CNN_F32, c);
}

/* Puts [RELU] MAXPOOL behind y: BN_TRAIN and BN_INFER get the epilogue, BN_GRAD the gradient and the index of the
 * pooled tensor. */
static void pool_bn(kc_case *test, const shape *s)
{
    cnn_op_desc *desc = &test->desc;
    const int32_t side = s->h < s->w ? s->h : s->w;
    desc->pool_kernel = side > 3 ? 2 + test->number / 8 % 2 : side > 1 ? 2 : 1;
    desc->pool_stride = test->number % 5 == 0 ? desc->pool_kernel + 1 : test->number % 11 == 0 ? 1 : desc->pool_kernel;
    const cnn_tensor_desc pooled =
        cnn_desc(desc->arg[CNN_ARG_SRC].dtype, s->n, cnn_window_count(s->h, desc->pool_kernel, desc->pool_stride, 0),
                 cnn_window_count(s->w, desc->pool_kernel, desc->pool_stride, 0), s->c);
    if (desc->op != CNN_OP_BN_INFER) {
        desc->arg[CNN_ARG_INDEX] = pooled;
        desc->arg[CNN_ARG_INDEX].dtype = CNN_U8;
    }
    desc->arg[desc->op == CNN_OP_BN_GRAD ? CNN_ARG_SRC2 : CNN_ARG_DST] = pooled;
    test->fill[CNN_ARG_INDEX] = kc_ints(0, desc->pool_kernel * desc->pool_kernel); /* the last one names no pixel */
    if (desc->op == CNN_OP_BN_GRAD)
        return;
    if (test->number % 3 != 2)
        desc->epilogue[desc->epilogue_count++] = CNN_EPILOGUE_RELU;
    desc->epilogue[desc->epilogue_count++] = CNN_EPILOGUE_MAXPOOL;
}

void kc_make_bn(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_SRC2, CNN_ARG_DST};
    static const cnn_arg train[] = {CNN_ARG_GAMMA, CNN_ARG_BETA, CNN_ARG_MEAN, CNN_ARG_VAR, CNN_ARG_INVSTD};
    static const cnn_arg infer[] = {CNN_ARG_GAMMA, CNN_ARG_BETA, CNN_ARG_MEAN, CNN_ARG_VAR};
    static const cnn_arg gradient[] = {CNN_ARG_GAMMA, CNN_ARG_MEAN, CNN_ARG_INVSTD, CNN_ARG_DST2, CNN_ARG_DST3};
    shape s = pick_shape(number, 8, random);
    cnn_op_desc *desc = &test->desc;
    cnn_dtype dtype = floats[number % 3];

    desc->eps = 1e-5f;
    desc->arg[CNN_ARG_SRC] = cnn_desc(dtype, s.n, s.h, s.w, s.c);
    desc->arg[CNN_ARG_DST] = desc->arg[CNN_ARG_SRC];
    if (op == CNN_OP_BN_TRAIN)
        set_vectors(test, train, LENGTH(train), s.c);
    if (op == CNN_OP_BN_INFER)
        set_vectors(test, infer, LENGTH(infer), s.c);
    if (op == CNN_OP_BN_GRAD) {
        set_vectors(test, gradient, LENGTH(gradient), s.c);
        desc->arg[CNN_ARG_SRC2] = desc->arg[CNN_ARG_SRC];
    }
    if (number % 4 == 3)
        pool_bn(test, &s);
    else if (op == CNN_OP_BN_INFER && number % 4 == 1)
        desc->epilogue[desc->epilogue_count++] = CNN_EPILOGUE_RELU;
    /* Half of the cases lie far from 0: a variance taken as E[x^2] - E[x]^2 in f32 would fail there. */
    test->fill[CNN_ARG_SRC] = number % 6 < 3 ? kc_real(-1, 1) : kc_real(28, 30);
    test->fill[CNN_ARG_SRC2] = kc_real(-1, 1);
    test->fill[CNN_ARG_GAMMA] = kc_real(-2, 2);
    test->fill[CNN_ARG_BETA] = kc_real(-1, 1);
    test->fill[CNN_ARG_MEAN] = number % 6 < 3 ? kc_real(-0.1, 0.1) : kc_real(28.9, 29.1);
    test->fill[CNN_ARG_VAR] = number % 4 == 3 ? kc_real(0, 1e-5) : kc_real(0.1, 3);
    test->fill[CNN_ARG_INVSTD] = kc_real(0.5, 3);
    test->agreement = KC_ULP;
    set_padding(test, activations, LENGTH(activations));
}

/* ---- ReLU and its relatives, their gradients, addition ---- */

_Static_assert(LENGTH(shapes) * 6 == KC_ELEMENT_FIXED, "count the cases in kcheck.h");

/* A scale of a value, and scales of what goes into it, as multiples of it. `ties`: so that what is rounded lies on
 * ties, or with an odd scale as near to them as the rounding of products, sum and quotient leaves it. */
static void set_scales(kc_case *test, bool ties, float first, float second, kc_random *random)
{
    cnn_op_desc *desc = &test->desc;
    desc->out_scale = ties && test->number / 8 % 2 ? 0.125f : (float)kc_uniform(random, 0.01, 0.1);
    desc->scale[0] = desc->out_scale * (ties ? first : (float)kc_uniform(random, 0.1, 1.5));
    desc->scale[1] = desc->out_scale * (ties ? second : (float)kc_uniform(random, 0.1, 1.5));
}

/* i8 addition in place of every sixth case. */
static void make_add_i8(kc_case *test, kc_random *random)
{
    cnn_op_desc *desc = &test->desc;
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        if (desc->arg[role].dtype != CNN_NONE)
            desc->arg[role].dtype = CNN_I8;
    set_scales(test, test->number % 12 < 6, 0.5f, 0.25f, random);
    desc->lo = test->number % 2 ? 0 : -127;
    desc->hi = 127;
    test->fill[CNN_ARG_SRC] = test->fill[CNN_ARG_SRC2] = kc_ints(-127, 127);
}

/* i8 in place of every sixth case of what has one operand. */
static void make_one_i8(kc_case *test, kc_random *random)
{
    cnn_op_desc *desc = &test->desc;
    desc->arg[CNN_ARG_SRC].dtype = desc->arg[CNN_ARG_DST].dtype = CNN_I8;
    test->fill[CNN_ARG_SRC] = kc_ints(-127, 127);
    if (desc->op == CNN_OP_CLIP)
        desc->hi = (float)(test->number % 12 < 6 ? 127 : kc_int(random, 1, 126));
    if (desc->op != CNN_OP_LEAKY_RELU)
        return;
    const bool ties = test->number % 12 < 6;
    set_scales(test, ties, 0.5f, 0, random);
    desc->slope = ties ? 0.25f : (float)kc_uniform(random, 0, 0.5);
    desc->lo = -127;
    desc->hi = 127;
}

/* Where a CLIP ends and how steep a leak is. Gradients see outputs at the end as well as inside. */
static void set_activation(kc_case *test)
{
    cnn_op_desc *desc = &test->desc;
    if (desc->op == CNN_OP_CLIP || desc->op == CNN_OP_CLIP_GRAD)
        desc->hi = test->number % 4 < 2 ? 0.42f : 1.0f;
    if (desc->op == CNN_OP_LEAKY_RELU || desc->op == CNN_OP_LEAKY_RELU_GRAD)
        desc->slope = test->number % 4 == 0 ? 0.0f : test->number % 4 == 1 ? 0.01f : 0.2f;
}

void kc_make_element(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_SRC2, CNN_ARG_DST};
    shape s = pick_shape(number, 6, random);
    cnn_op_desc *desc = &test->desc;
    desc->arg[CNN_ARG_SRC] = cnn_desc(floats[number % 3], s.n, s.h, s.w, s.c);
    desc->arg[CNN_ARG_DST] = desc->arg[CNN_ARG_SRC];
    const bool one = op == CNN_OP_RELU || op == CNN_OP_CLIP || op == CNN_OP_LEAKY_RELU;
    set_activation(test);
    if (!one)
        desc->arg[CNN_ARG_SRC2] = desc->arg[CNN_ARG_SRC];
    kc_fill fill = {number % 6 < 3 ? KC_REAL : KC_SPECIAL, -1, 1, 1};
    /* In f16 these sums overflow now and then. */
    if (op == CNN_OP_ADD && number % 6 == 1)
        fill = kc_real(-50000, 50000);
    test->fill[CNN_ARG_SRC] = test->fill[CNN_ARG_SRC2] = fill;
    if (op != CNN_OP_ADD && !one && number % 2)
        test->fill[CNN_ARG_SRC] = kc_ints(-1, 1);
    if (op == CNN_OP_CLIP_GRAD && number % 4 == 1) /* 0.42 as the dtype has it, which is less */
        test->fill[CNN_ARG_SRC] = (kc_fill){KC_INTS, -1, 2, (double)desc->hi};
    test->agreement = KC_EXACT;
    if (op == CNN_OP_ADD && number % 6 >= 4)
        make_add_i8(test, random);
    if (one && number % 6 == 5)
        make_one_i8(test, random);
    set_padding(test, activations, LENGTH(activations));
}

/* ---- Channels side by side ---- */

_Static_assert(LENGTH(shapes) * 4 == KC_CONCAT_FIXED, "count the cases in kcheck.h");

void kc_make_concat(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const cnn_dtype dtypes[] = {CNN_F32, CNN_F16, CNN_BF16, CNN_I8};
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_SRC2, CNN_ARG_DST, CNN_ARG_DST2};
    const bool grad = op == CNN_OP_CONCAT_GRAD;
    const shape s = pick_shape(number, 4, random);
    const cnn_dtype dtype = grad && number % 4 == 3 ? CNN_F32 : dtypes[number % 4];
    const int32_t more = 1 + (number * 11 + 3) % 40;
    cnn_op_desc *desc = &test->desc;
    desc->arg[grad ? CNN_ARG_DST : CNN_ARG_SRC] = cnn_desc(dtype, s.n, s.h, s.w, s.c);
    desc->arg[grad ? CNN_ARG_DST2 : CNN_ARG_SRC2] = cnn_desc(dtype, s.n, s.h, s.w, more);
    desc->arg[grad ? CNN_ARG_SRC : CNN_ARG_DST] = cnn_desc(dtype, s.n, s.h, s.w, s.c + more);
    test->fill[CNN_ARG_SRC] = test->fill[CNN_ARG_SRC2] = (kc_fill){KC_SPECIAL, -1, 1, 1};
    if (dtype == CNN_I8) {
        test->fill[CNN_ARG_SRC] = test->fill[CNN_ARG_SRC2] = kc_ints(-127, 127);
        set_scales(test, number % 8 < 4, 1, 0.5f, random);
        desc->lo = number % 5 == 0 ? -20 : -127;
        desc->hi = 127;
    }
    test->agreement = KC_EXACT;
    set_padding(test, activations, LENGTH(activations));
}

/* ---- Dropout ---- */

_Static_assert(LENGTH(shapes) * 4 == KC_DROPOUT_FIXED, "count the cases in kcheck.h");

void kc_make_dropout(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_DST};
    static const float rates[] = {0.5f, 0.1f, 0.0f, 0.9f};
    const shape s = pick_shape(number, 4, random);
    cnn_op_desc *desc = &test->desc;
    (void)op;
    desc->arg[CNN_ARG_SRC] = desc->arg[CNN_ARG_DST] = cnn_desc(floats[number % 3], s.n, s.h, s.w, s.c);
    desc->arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof(cnn_train_state));
    desc->rate = rates[number % 4];
    desc->seed = kc_next(random);
    test->state.epoch = kc_int(random, 1, 1000);
    test->state.cursor = number % 5;
    if (number % 3)
        desc->arg[CNN_ARG_INDEX] = cnn_desc_vector(CNN_I32, s.n + test->state.cursor + number % 2);
    test->fill[CNN_ARG_INDEX] = kc_ints(0, 1 << 20);
    test->fill[CNN_ARG_SRC] = (kc_fill){number % 2 ? KC_REAL : KC_SPECIAL, -1, 1, 1};
    test->agreement = KC_EXACT;
    set_padding(test, activations, LENGTH(activations));
}

/* ---- Max-pooling ---- */

typedef struct pool_shape {
    int32_t n, h, w, c, kernel, stride, pad;
} pool_shape;

static const pool_shape pool_shapes[] = {
    {1, 2, 2, 1, 2, 2, 0},    {2, 4, 6, 17, 2, 2, 0},  {1, 28, 28, 8, 2, 2, 0}, {1, 7, 5, 33, 2, 2, 0},
    {1, 5, 5, 3, 3, 2, 0},    {2, 6, 6, 64, 3, 3, 0},  {1, 6, 7, 5, 3, 1, 0},   {3, 1, 1, 10, 1, 1, 0},
    {1, 14, 14, 90, 2, 2, 0}, {1, 9, 9, 16, 4, 2, 0},  {1, 8, 3, 31, 3, 2, 0},  {4, 5, 5, 48, 2, 3, 0},
    {2, 4, 41, 40, 2, 2, 0},  {1, 6, 300, 2, 3, 3, 0}, {2, 7, 9, 24, 3, 2, 1},  {1, 6, 5, 17, 3, 2, 1},
    {1, 5, 5, 70, 5, 1, 2},   {2, 3, 8, 16, 2, 2, 1},
};

_Static_assert(LENGTH(pool_shapes) * 8 == KC_POOL_FIXED, "count the cases in kcheck.h");

static pool_shape random_pool(kc_random *random)
{
    pool_shape s = {kc_int(random, 1, 4), kc_int(random, 1, 14), kc_int(random, 1, 14), 1, 1, kc_int(random, 1, 3), 0};
    s.c = kc_int(random, 1, kc_int(random, 1, 100));
    s.kernel = kc_int(random, 1, s.h < s.w ? (s.h < 5 ? s.h : 5) : (s.w < 5 ? s.w : 5));
    s.pad = kc_int(random, 0, 2) ? 0 : kc_int(random, 0, s.kernel - 1);
    return s;
}

/* Few different values, so that windows hold ties. */
static kc_fill pool_fill(const kc_case *test, cnn_dtype dtype)
{
    if (dtype == CNN_I8)
        return test->number % 2 ? kc_ints(-127, 127) : kc_ints(-2, 2);
    return test->number % 3 ? kc_ints(-3, 3) : (kc_fill){KC_SPECIAL, -1, 1, 1};
}

void kc_make_pool(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const cnn_dtype dtypes[] = {CNN_F32, CNN_F32, CNN_F16, CNN_F16, CNN_BF16, CNN_I8, CNN_I8, CNN_F32};
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_SRC2, CNN_ARG_DST};
    pool_shape s = number < KC_POOL_FIXED ? pool_shapes[number / 8] : random_pool(random);
    cnn_op_desc *desc = &test->desc;
    cnn_dtype dtype = dtypes[number % 8];
    bool forward = op == CNN_OP_MAXPOOL;
    if (!forward && dtype == CNN_I8)
        dtype = CNN_F16;
    int32_t p = cnn_window_count(s.h, s.kernel, s.stride, s.pad), q = cnn_window_count(s.w, s.kernel, s.stride, s.pad);
    cnn_tensor_desc image = cnn_desc(dtype, s.n, s.h, s.w, s.c), pooled = cnn_desc(dtype, s.n, p, q, s.c);

    desc->kernel = s.kernel;
    desc->stride = s.stride;
    desc->pad = s.pad;
    desc->arg[forward ? CNN_ARG_SRC : CNN_ARG_DST] = image;
    desc->arg[forward ? CNN_ARG_DST : CNN_ARG_SRC2] = pooled;
    if (!forward || number % 2)
        desc->arg[CNN_ARG_INDEX] = cnn_desc(CNN_U8, s.n, p, q, s.c);
    test->agreement = KC_EXACT;
    test->fill[CNN_ARG_SRC] = pool_fill(test, dtype);
    test->fill[CNN_ARG_SRC2] = kc_ints(-9, 9);
    test->fill[CNN_ARG_INDEX] = kc_ints(0, s.kernel * s.kernel - 1);
    if (!forward && number % 8 == 7) {
        test->agreement = KC_SUM;
        test->terms = (int64_t)s.kernel * s.kernel;
        test->fill[CNN_ARG_SRC2] = kc_real(-1, 1);
    }
    set_padding(test, activations, LENGTH(activations));
}

/* ---- Average pooling ---- */

/* kernel 0: the whole image. */
static const pool_shape average_shapes[] = {
    {1, 2, 2, 1, 2, 2, 0},    {2, 4, 6, 17, 2, 2, 0}, {2, 8, 8, 64, 0, 0, 0}, {1, 7, 5, 33, 0, 0, 0},
    {1, 5, 5, 3, 3, 2, 0},    {2, 6, 6, 64, 3, 3, 0}, {1, 6, 7, 5, 3, 1, 0},  {3, 1, 1, 10, 0, 0, 0},
    {1, 9, 9, 16, 4, 2, 0},   {1, 8, 3, 31, 3, 2, 0}, {4, 5, 5, 48, 2, 3, 0}, {1, 4, 4, 300, 2, 2, 0},
    {2, 20, 30, 8, 17, 5, 0}, {1, 3, 90, 7, 0, 0, 0}, {9, 8, 8, 40, 8, 8, 0},
};

_Static_assert(LENGTH(average_shapes) * 8 == KC_AVERAGE_FIXED, "count the cases in kcheck.h");

static void make_average_i8(kc_case *test, int32_t pixels, kc_random *random)
{
    const bool ties = test->number % 2;
    test->desc.scale[0] = ties ? 0.5f : (float)(kc_uniform(random, 0.5, 4) / pixels);
    test->desc.lo = -127;
    test->desc.hi = 127;
    test->fill[CNN_ARG_SRC] = test->number % 4 < 2 ? kc_ints(-127, 127) : (kc_fill){KC_ENDS, -127, 127, 1};
}

void kc_make_average(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const cnn_dtype dtypes[] = {CNN_F32, CNN_F16, CNN_F32, CNN_F16, CNN_BF16, CNN_I8, CNN_I8, CNN_BF16};
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_DST};
    pool_shape s = number < KC_AVERAGE_FIXED ? average_shapes[number / 8] : random_pool(random);
    if (number >= KC_AVERAGE_FIXED && number % 3 == 0)
        s.kernel = s.stride = 0;
    cnn_op_desc *desc = &test->desc;
    cnn_dtype dtype = dtypes[number % 8];
    const bool forward = op == CNN_OP_AVGPOOL, real = number % 8 == 0 || (forward && number % 8 == 1);
    if (!forward && dtype == CNN_I8)
        dtype = CNN_F16;
    const int32_t pixels = s.kernel ? s.kernel * s.kernel : s.h * s.w;
    const int32_t p = s.kernel ? cnn_window_count(s.h, s.kernel, s.stride, 0) : 1;
    const int32_t q = s.kernel ? cnn_window_count(s.w, s.kernel, s.stride, 0) : 1;
    desc->kernel = s.kernel;
    desc->stride = s.stride;
    desc->arg[forward ? CNN_ARG_SRC : CNN_ARG_DST] = cnn_desc(dtype, s.n, s.h, s.w, s.c);
    desc->arg[forward ? CNN_ARG_DST : CNN_ARG_SRC] = cnn_desc(dtype, s.n, p, q, s.c);
    if (forward && dtype != CNN_I8 && number % 16 > 8)
        desc->arg[CNN_ARG_DST].dtype = CNN_F32;
    test->agreement = real ? KC_SUM : KC_EXACT;
    test->terms = pixels;
    test->fill[CNN_ARG_SRC] = real ? kc_real(-1, 1) : number % 3 ? kc_ints(-9, 9) : kc_ints(-50, 120);
    if (dtype == CNN_I8)
        make_average_i8(test, pixels, random);
    set_padding(test, activations, LENGTH(activations));
}

/* ---- Input ---- */

_Static_assert(KC_INPUT_FIXED == 32, "eight shapes, four dtypes");

void kc_make_input(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    static const shape images[] = {{1, 28, 28, 1}, {3, 5, 7, 1},  {2, 4, 4, 3}, {1, 1, 1, 1},
                                   {2, 9, 3, 4},   {5, 2, 33, 1}, {1, 8, 8, 3}, {4, 3, 3, 17}};
    static const cnn_dtype dtypes[] = {CNN_F32, CNN_F16, CNN_BF16, CNN_I8};
    static const cnn_arg activations[] = {CNN_ARG_DST};
    shape s = number < KC_INPUT_FIXED ? images[number / 4] : random_shape(random);
    cnn_op_desc *desc = &test->desc;
    cnn_dtype dtype = dtypes[number % 4];
    bool gather = (number / 4 + number) % 2;
    int32_t stored = s.n + (gather ? 3 : number % 3);

    desc->arg[CNN_ARG_SRC] = cnn_desc(CNN_U8, stored, s.h, s.w, s.c);
    desc->arg[CNN_ARG_TABLE] = cnn_desc(dtype == CNN_I8 ? CNN_I8 : CNN_F32, 1, 1, s.c, 256);
    desc->arg[CNN_ARG_DST] = cnn_desc(dtype, s.n, s.h, s.w, s.c);
    if (number % 3 == 1) {
        desc->arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof(cnn_train_state));
        test->state.cursor = number % 5;
    }
    if (gather)
        desc->arg[CNN_ARG_INDEX] = cnn_desc_vector(CNN_I32, s.n + test->state.cursor + number % 2);
    if (dtype != CNN_I8 && number % 8 >= 4) { /* augmented: images of one to four channels, with either border */
        s.c = s.c > 4 ? 4 : s.c;
        desc->arg[CNN_ARG_SRC].c = desc->arg[CNN_ARG_SRC].c_pad = s.c;
        desc->arg[CNN_ARG_DST].c = desc->arg[CNN_ARG_DST].c_pad = s.c;
        desc->arg[CNN_ARG_TABLE].w = s.c;
        desc->arg[CNN_ARG_SRC2] = cnn_desc_vector(CNN_U8, s.n * (int32_t)sizeof(cnn_augment_params));
        desc->mirror = number % 3 == 0;
        test->fill[CNN_ARG_SRC2] = (kc_fill){KC_AUGMENT, desc->mirror, s.c == 1, 1};
    }
    test->fill[CNN_ARG_SRC] = kc_ints(0, 255);
    test->fill[CNN_ARG_TABLE] = dtype == CNN_I8 ? kc_ints(-127, 127) : kc_real(-3, 3);
    test->fill[CNN_ARG_INDEX] = kc_ints(0, stored - 1);
    test->agreement = KC_EXACT;
    if (desc->arg[CNN_ARG_SRC2].dtype == CNN_NONE)
        set_padding(test, activations, LENGTH(activations));
}

/* ---- Requantizing ---- */

_Static_assert(LENGTH(shapes) * 4 == KC_REQUANTIZE_FIXED, "count the cases in kcheck.h");

void kc_make_requantize(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_DST};
    shape s = pick_shape(number, 4, random);
    cnn_op_desc *desc = &test->desc;
    desc->arg[CNN_ARG_SRC] = cnn_desc(CNN_I32, s.n, s.h, s.w, s.c);
    desc->arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_I32, s.c);
    desc->arg[CNN_ARG_MULT] = cnn_desc_vector(CNN_F32, s.c);
    desc->arg[CNN_ARG_DST] = cnn_desc(op == CNN_OP_REQUANTIZE ? CNN_I8 : CNN_F32, s.n, s.h, s.w, s.c);
    desc->lo = number % 2 ? 0 : -127;
    desc->hi = 127;
    switch (number % 4) {
    case 0: /* sums that f32 cannot hold */
        test->fill[CNN_ARG_SRC] = kc_ints(-1073741824, 1073741823);
        test->fill[CNN_ARG_BIAS] = kc_ints(-1073741824, 1073741823);
        test->fill[CNN_ARG_MULT] = kc_real(1e-8, 2e-7);
        break;
    case 1: /* halves: ties to even */
        test->fill[CNN_ARG_SRC] = kc_ints(-200, 300);
        test->fill[CNN_ARG_BIAS] = kc_ints(-9, 9);
        test->fill[CNN_ARG_MULT] = (kc_fill){KC_INTS, 1, 1, 0.5};
        break;
    case 2:
        test->fill[CNN_ARG_SRC] = kc_ints(-100000, 100000);
        test->fill[CNN_ARG_BIAS] = kc_ints(-1000, 1000);
        test->fill[CNN_ARG_MULT] = kc_real(5e-4, 2e-3);
        break;
    default: /* all clamped */
        test->fill[CNN_ARG_SRC] = (kc_fill){KC_ENDS, -1073741824, 1073741823, 1};
        test->fill[CNN_ARG_BIAS] = kc_ints(-9, 9);
        test->fill[CNN_ARG_MULT] = kc_real(1, 2);
        break;
    }
    test->agreement = KC_EXACT;
    set_padding(test, activations, LENGTH(activations));
}
