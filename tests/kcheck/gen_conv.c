/* Cases of convolutions, in groups or not, and linear layers: forward with every epilogue, data gradient, weight
 * gradient.
 *
 * Fixed cases are a list of shapes (edges first) times a list of variants (dtypes, fills, epilogues). */
#include "tests/kcheck/kcheck.h"

#include <math.h>

typedef struct shape {
    int32_t n, h, w, c, k, r, s, stride, pad, groups;
} shape;

/* {n, h, w, c, k, r, s, stride, pad, groups}. Some have more pixels, channels or terms than one block of a kernel, some
 * so few bytes in a line of the filter as first layers have, in places where pooling is 2x2; some are large
 * enough for Winograd kernels, one with more channels than a piece of depth; one has a filter so large that slices of
 * its weight gradient have several tiles, the last few channels and images of several pieces. */
static const shape conv_shapes[] = {
    {1, 5, 5, 1, 1, 3, 3, 1, 1, 1},     {2, 7, 5, 5, 17, 3, 3, 1, 0, 1},    {1, 8, 8, 17, 33, 3, 3, 1, 1, 1},
    {1, 5, 9, 33, 3, 3, 3, 2, 1, 1},    {3, 4, 4, 1, 1, 1, 1, 1, 0, 1},     {2, 5, 5, 64, 64, 1, 1, 1, 0, 1},
    {1, 7, 7, 16, 32, 1, 1, 2, 0, 1},   {1, 9, 9, 1, 16, 5, 5, 1, 2, 1},    {2, 10, 10, 8, 16, 5, 5, 1, 2, 1},
    {1, 6, 6, 4, 8, 5, 5, 2, 2, 1},     {1, 2, 2, 5, 7, 5, 5, 1, 2, 1},     {1, 1, 1, 3, 4, 3, 3, 1, 1, 1},
    {1, 1, 1, 16, 16, 1, 1, 1, 0, 1},   {1, 3, 3, 5, 9, 3, 3, 1, 0, 1},     {4, 7, 6, 6, 10, 3, 1, 1, 0, 1},
    {2, 11, 3, 2, 3, 2, 2, 2, 0, 1},    {1, 13, 13, 3, 31, 4, 4, 3, 1, 1},  {1, 6, 6, 90, 23, 3, 3, 1, 1, 1},
    {1, 4, 4, 128, 65, 3, 3, 1, 1, 1},  {4, 3, 3, 12, 48, 3, 3, 1, 2, 1},   {1, 20, 28, 1, 6, 5, 5, 1, 2, 1},
    {5, 1, 17, 7, 13, 1, 3, 1, 0, 1},   {1, 7, 7, 32, 16, 7, 7, 1, 3, 1},   {1, 10, 10, 16, 8, 3, 3, 3, 0, 1},
    {1, 9, 9, 3, 4, 1, 1, 3, 0, 1},     {1, 3, 37, 9, 17, 3, 3, 1, 1, 1},   {7, 2, 3, 15, 16, 2, 3, 1, 1, 1},
    {1, 14, 14, 20, 50, 5, 5, 1, 0, 1}, {20, 14, 14, 1, 16, 5, 5, 1, 2, 1}, {1, 20, 20, 3, 300, 3, 3, 1, 0, 1},
    {1, 16, 16, 70, 17, 3, 3, 1, 0, 1}, {1, 7, 21, 4, 5, 3, 2, 1, 1, 1},    {3, 12, 12, 40, 20, 5, 5, 1, 2, 1},
    {9, 8, 8, 33, 7, 1, 1, 1, 0, 1},    {1, 10, 70, 3, 66, 7, 5, 2, 3, 1},  {2, 9, 37, 2, 7, 5, 3, 1, 1, 1},
    {2, 14, 14, 6, 16, 5, 5, 1, 0, 1},  {1, 11, 40, 1, 4, 5, 3, 1, 0, 1},   {2, 6, 45, 2, 7, 3, 5, 1, 1, 1},
    {1, 12, 9, 7, 5, 5, 3, 1, 4, 1},    {1, 8, 8, 32, 32, 5, 5, 1, 2, 1},   {3, 7, 21, 1, 3, 3, 3, 1, 1, 1},
    {3, 6, 18, 1, 9, 3, 7, 1, 3, 1},    {2, 9, 11, 37, 35, 5, 5, 1, 1, 1},  {2, 12, 9, 270, 33, 5, 5, 1, 0, 1},
    {1, 3, 14, 9, 37, 5, 5, 1, 2, 1},   {1, 4, 28, 9, 17, 3, 3, 1, 1, 1},   {1, 2, 14, 12, 20, 7, 7, 1, 3, 1},
    {4, 26, 24, 8, 3, 13, 13, 1, 6, 1}, {2, 30, 30, 6, 18, 5, 5, 1, 1, 1},  {2, 14, 14, 11, 11, 5, 5, 1, 2, 1},
    {2, 42, 60, 1, 7, 3, 3, 1, 1, 1},
};
static const shape linear_shapes[] = {
    {1, 1, 1, 1, 1, 0, 0, 1, 0, 1},      {1, 1, 1, 17, 5, 0, 0, 1, 0, 1},    {3, 1, 1, 33, 10, 0, 0, 1, 0, 1},
    {2, 4, 4, 16, 32, 0, 0, 1, 0, 1},    {40, 1, 1, 12, 10, 0, 0, 1, 0, 1},  {7, 3, 3, 5, 33, 0, 0, 1, 0, 1},
    {1, 1, 1, 512, 10, 0, 0, 1, 0, 1},   {5, 2, 2, 90, 64, 0, 0, 1, 0, 1},   {1, 7, 7, 8, 120, 0, 0, 1, 0, 1},
    {33, 1, 1, 40, 17, 0, 0, 1, 0, 1},   {4, 1, 1, 129, 1, 0, 0, 1, 0, 1},   {2, 3, 5, 1, 7, 0, 0, 1, 0, 1},
    {1, 7, 7, 64, 65, 0, 0, 1, 0, 1},    {6, 1, 1, 1, 3, 0, 0, 1, 0, 1},     {16, 1, 1, 64, 48, 0, 0, 1, 0, 1},
    {150, 1, 1, 70, 20, 0, 0, 1, 0, 1},  {3, 1, 1, 40, 600, 0, 0, 1, 0, 1},  {1, 5, 5, 100, 300, 0, 0, 1, 0, 1},
    {130, 1, 1, 40, 270, 0, 0, 1, 0, 1}, {6, 1, 1, 1300, 10, 0, 0, 1, 0, 1},
};

/* Depthwise ones first, with more and fewer channels than vectors and lines than taps; then groups of several channels,
 * one large enough for Winograd kernels. */
static const shape group_shapes[] = {
    {1, 5, 5, 1, 1, 3, 3, 1, 1, 1},     {2, 7, 6, 17, 17, 3, 3, 1, 1, 17},    {1, 8, 8, 64, 64, 3, 3, 1, 1, 64},
    {1, 9, 9, 33, 33, 3, 3, 2, 1, 33},  {2, 6, 6, 8, 8, 5, 5, 1, 2, 8},       {1, 10, 7, 40, 40, 5, 5, 2, 2, 40},
    {1, 2, 2, 5, 5, 5, 5, 1, 2, 5},     {1, 1, 1, 16, 16, 3, 3, 1, 1, 16},    {3, 4, 4, 24, 24, 1, 1, 1, 0, 24},
    {1, 7, 7, 10, 10, 7, 7, 1, 3, 10},  {1, 5, 40, 19, 19, 3, 3, 1, 0, 19},   {1, 13, 11, 6, 6, 3, 3, 3, 1, 6},
    {1, 12, 9, 48, 48, 5, 3, 1, 4, 48}, {20, 8, 8, 12, 12, 3, 3, 1, 1, 12},   {1, 40, 30, 90, 90, 3, 3, 1, 1, 90},
    {2, 9, 10, 16, 16, 2, 3, 4, 2, 16}, {1, 6, 6, 300, 300, 3, 3, 2, 0, 300}, {1, 6, 6, 5, 10, 3, 3, 1, 1, 5},
    {2, 5, 5, 8, 8, 3, 3, 1, 1, 2},     {1, 7, 5, 12, 24, 3, 3, 2, 1, 3},     {1, 12, 12, 64, 64, 3, 3, 1, 1, 2},
    {3, 4, 4, 20, 10, 1, 1, 1, 0, 5},   {1, 9, 9, 6, 2, 5, 5, 1, 2, 2},       {2, 6, 6, 36, 72, 3, 3, 1, 1, 4},
};

/* How values are drawn; each makes float sums exact but REAL. */
typedef enum values {
    SMALL,   /* whole numbers */
    INDEXED, /* as SMALL; where a convolution pools, it has an index, and its gradients come from there */
    BIG,     /* f16 and bf16: sums need rounding, f16 ones may overflow */
    TINY,    /* f16: sums are subnormal, with ties */
    REAL,
    I8,   /* whole range */
    TIES, /* i8: multipliers are powers of two, so that many products are halves */
    WORST /* i8: +-127 everywhere */
} values;

typedef struct variant {
    cnn_dtype dtype, out;
    values values;
    cnn_epilogue_kind epilogue[CNN_MAX_EPILOGUE];
} variant;

#define B CNN_EPILOGUE_BIAS
#define A CNN_EPILOGUE_ADD
#define R CNN_EPILOGUE_RELU
#define C CNN_EPILOGUE_CLIP
#define M CNN_EPILOGUE_MAXPOOL
#define Q CNN_EPILOGUE_REQUANTIZE
#define D CNN_EPILOGUE_DEQUANTIZE

static const variant forward_variants[] = {
    {CNN_F32, CNN_F32, SMALL, {0}},
    {CNN_F32, CNN_F32, REAL, {0}},
    {CNN_F32, CNN_F32, SMALL, {B, R}},
    {CNN_F32, CNN_F32, REAL, {B, R, M}},
    {CNN_F32, CNN_F32, REAL, {B, A, R, M}},
    {CNN_F32, CNN_F32, SMALL, {A}},
    {CNN_F32, CNN_F32, REAL, {B, A, R}},
    {CNN_F16, CNN_F16, SMALL, {B, A, R}},
    {CNN_F16, CNN_F16, REAL, {B, R}},
    {CNN_F16, CNN_F16, BIG, {B}},
    {CNN_F16, CNN_F16, TINY, {0}},
    {CNN_F16, CNN_F32, REAL, {B}},
    {CNN_F16, CNN_F16, SMALL, {B, A, R, M}},
    {CNN_BF16, CNN_BF16, BIG, {B, R}},
    {CNN_BF16, CNN_BF16, REAL, {B, A}},
    {CNN_I8, CNN_I32, WORST, {0}},
    {CNN_I8, CNN_I8, I8, {Q}},
    {CNN_I8, CNN_I8, TIES, {Q, M}},
    {CNN_I8, CNN_I8, WORST, {Q}},
    {CNN_I8, CNN_F32, I8, {D}},
    {CNN_F32, CNN_F32, REAL, {B, C}},
    {CNN_F16, CNN_F16, SMALL, {B, A, C}},
    {CNN_F32, CNN_F32, INDEXED, {B, R, M}},
    {CNN_F16, CNN_F16, INDEXED, {R, M}},
    {CNN_BF16, CNN_BF16, INDEXED, {B, M}},
};
/* Those of linear layers and groups are the first PLAIN_GRADS. */
static const variant grad_variants[] = {
    {CNN_F32, CNN_F32, SMALL, {0}},   {CNN_F32, CNN_F32, REAL, {0}},   {CNN_F16, CNN_F16, SMALL, {0}},
    {CNN_F16, CNN_F16, REAL, {0}},    {CNN_F16, CNN_F16, BIG, {0}},    {CNN_F16, CNN_F32, TINY, {0}},
    {CNN_BF16, CNN_BF16, BIG, {0}},   {CNN_BF16, CNN_BF16, REAL, {0}}, {CNN_F32, CNN_F32, INDEXED, {0}},
    {CNN_F16, CNN_F16, INDEXED, {0}},
};

#undef B
#undef A
#undef R
#undef C
#undef M
#undef Q
#undef D

enum { PLAIN_GRADS = 8 };

#define LENGTH(array) ((int)(sizeof(array) / sizeof(array)[0]))
_Static_assert(LENGTH(conv_shapes) * LENGTH(forward_variants) == KC_CONV_FIXED, "count the cases in kcheck.h");
_Static_assert(LENGTH(group_shapes) * LENGTH(forward_variants) == KC_GROUP_FIXED, "count the cases in kcheck.h");
_Static_assert(LENGTH(group_shapes) * PLAIN_GRADS == KC_GROUP_GRAD_FIXED, "count the cases in kcheck.h");
_Static_assert(LENGTH(linear_shapes) * LENGTH(forward_variants) == KC_LINEAR_FIXED, "count the cases in kcheck.h");
_Static_assert(LENGTH(conv_shapes) * LENGTH(grad_variants) == KC_GRAD_FIXED, "count the cases in kcheck.h");
_Static_assert(LENGTH(linear_shapes) * PLAIN_GRADS == KC_LINEAR_GRAD_FIXED, "count the cases in kcheck.h");

/* ---- Shapes ---- */

static double work(const shape *s)
{
    double taps = (double)s->r * s->s * s->c / s->groups * s->k;
    return taps * s->n * cnn_window_count(s->h, s->r, s->stride, s->pad) *
           cnn_window_count(s->w, s->s, s->stride, s->pad);
}

/* A random shape of at most 400,000 products. */
static shape random_conv(kc_random *random)
{
    for (;;) {
        shape s = {.n = kc_int(random, 1, 4), .h = kc_int(random, 1, 16), .w = kc_int(random, 1, 16), .groups = 1};
        s.c = kc_int(random, 1, kc_int(random, 1, 100));
        s.k = kc_int(random, 1, kc_int(random, 1, 100));
        s.r = kc_int(random, 1, 6);
        s.s = kc_int(random, 0, 3) ? s.r : kc_int(random, 1, 6);
        s.stride = kc_int(random, 0, 2) ? 1 : kc_int(random, 2, 3);
        s.pad = kc_int(random, 0, 2);
        if (work(&s) > 0 && work(&s) <= 4e5)
            return s;
    }
}

/* Half of them depthwise. */
static shape random_groups(kc_random *random)
{
    for (;;) {
        shape s = random_conv(random);
        const bool depthwise = kc_int(random, 0, 1);
        s.groups = kc_int(random, 1, kc_int(random, 1, 100));
        s.c = s.groups * (depthwise ? 1 : kc_int(random, 1, 8));
        s.k = s.groups * (depthwise ? 1 : kc_int(random, 1, 8));
        if (work(&s) <= 4e5 && (double)s.n * s.h * s.w * (s.c + s.k) <= 4e5)
            return s;
    }
}

static shape random_linear(kc_random *random)
{
    for (;;) {
        shape s = {.n = kc_int(random, 1, 40), .c = kc_int(random, 1, 200), .k = kc_int(random, 1, 100), .groups = 1};
        s.h = kc_int(random, 0, 1) ? 1 : kc_int(random, 1, 5);
        s.w = kc_int(random, 0, 1) ? s.h : kc_int(random, 1, 5);
        if ((double)s.n * s.c * s.k * s.h * s.w <= 4e5)
            return s;
    }
}

/* Where a kernel may transform instead of summing: sums are then not exact, whatever they are made of. */
static bool may_transform(const shape *s, const variant *v)
{
    const int32_t p = cnn_window_count(s->h, s->r, s->stride, s->pad),
                  q = cnn_window_count(s->w, s->s, s->stride, s->pad);
    return v->dtype != CNN_I8 && s->r == s->s && (s->r == 3 || s->r == 5) && s->stride == 1 && s->c / s->groups >= 16 &&
           s->k / s->groups >= 16 && s->n * p * q >= 64;
}

static const variant *real_variant(const variant *v, variant *copy)
{
    *copy = *v;
    copy->values = REAL;
    return copy;
}

/* ---- Fills ---- */

/* Fills of the two factors, `terms` products in a sum. */
static void fill_factors(kc_case *test, cnn_arg a, cnn_arg b, const variant *v)
{
    double terms = (double)test->terms;
    /* Largest whole number whose products and sums stay below 2^24 and which 8 bits hold. */
    double big = fmin(255, floor(sqrt(0x1p24 / (terms + 2))));
    test->agreement = v->values == REAL ? KC_SUM : KC_EXACT;
    switch (v->values) {
    case SMALL:
    case INDEXED:
        test->fill[a] = kc_ints(-3, 3);
        test->fill[b] = kc_ints(-2, 2);
        break;
    case BIG:
        test->fill[a] = kc_ints(-big / 4, big);
        test->fill[b] = kc_ints(-big / 4, big);
        break;
    case TINY:
        test->fill[a] = (kc_fill){KC_INTS, -3, 3, 0x1p-12};
        test->fill[b] = (kc_fill){KC_INTS, -1, 1, 0x1p-13};
        break;
    case REAL:
        test->fill[a] = kc_real(-1, 1);
        test->fill[b] = kc_real(-0.5, 0.5);
        break;
    case WORST:
        test->fill[a] = test->fill[b] = (kc_fill){KC_ENDS, -127, 127, 1};
        break;
    default:
        test->fill[a] = test->fill[b] = kc_ints(-127, 127);
        break;
    }
}

/* Bias, second summand, multipliers. */
static void fill_epilogue(kc_case *test, const variant *v)
{
    double typical = sqrt((double)test->terms) * 73 * 73; /* of a sum of products of [-127,127] values */
    bool tiny = v->values == TINY, real = v->values == REAL;
    test->fill[CNN_ARG_BIAS] = real ? kc_real(-1, 1) : (kc_fill){KC_INTS, -9, 9, tiny ? 0x1p-25 : 1};
    test->fill[CNN_ARG_SRC2] = real ? kc_real(-1, 1) : kc_ints(-9, 9);
    test->fill[CNN_ARG_MULT] = kc_real(20 / typical, 90 / typical);
    if (v->dtype != CNN_I8) {
        if (cnn_op_has_epilogue(&test->desc, CNN_EPILOGUE_CLIP)) /* some of the values lie beyond */
            test->desc.hi = real ? (float)(0.25 * sqrt((double)test->terms)) : 6.0f;
        return;
    }
    test->fill[CNN_ARG_BIAS] = kc_ints(-typical, typical);
    if (v->values == TIES) {
        double power = exp2(floor(log2(60 / typical)));
        test->fill[CNN_ARG_MULT] = (kc_fill){KC_INTS, 1, 1, power};
    }
    if (v->values == WORST) {
        test->fill[CNN_ARG_BIAS] = (kc_fill){KC_ENDS, -1e6, 1e6, 1};
        test->fill[CNN_ARG_MULT] = kc_real(1e-4, 1e-2);
    }
    test->desc.lo = test->number / LENGTH(forward_variants) % 2 ? 0 : -127;
    test->desc.hi = 127;
}

/* ---- Descriptors ---- */

/* Padded channels: every fourth case pads to 4 or 16 even where the device would not. */
static void set_padding(kc_case *test, const cnn_arg *roles, int count)
{
    static const int32_t multiples[] = {1, 1, 4, 16};
    for (int i = 0; i < count; i++)
        test->pad_to[roles[i]] = multiples[(test->number / 3 + test->number) % 4];
    if (test->number % 7 == 3)
        test->pad_to[CNN_ARG_WEIGHT] = 16;
}

static void set_epilogue(kc_case *test, const variant *v, int32_t p, int32_t q)
{
    cnn_op_desc *desc = &test->desc;
    cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    int mixed = test->number + test->number / LENGTH(forward_variants); /* differs from shape to shape of a variant */
    for (int i = 0; i < CNN_MAX_EPILOGUE && v->epilogue[i] != CNN_EPILOGUE_NONE; i++) {
        desc->epilogue[desc->epilogue_count++] = v->epilogue[i];
        switch (v->epilogue[i]) {
        case CNN_EPILOGUE_BIAS:
            desc->arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_F32, dst->c);
            break;
        case CNN_EPILOGUE_ADD:
            desc->arg[CNN_ARG_SRC2] = cnn_desc(v->dtype, dst->n, p, q, dst->c);
            break;
        case CNN_EPILOGUE_REQUANTIZE:
        case CNN_EPILOGUE_DEQUANTIZE:
            desc->arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_I32, dst->c);
            desc->arg[CNN_ARG_MULT] = cnn_desc_vector(CNN_F32, dst->c);
            break;
        case CNN_EPILOGUE_MAXPOOL:
            desc->pool_kernel = p < q ? p : q;
            desc->pool_kernel = mixed % 7 == 3          ? 1
                                : desc->pool_kernel > 3 ? 2 + mixed % 2
                                : desc->pool_kernel > 1 ? 2
                                                        : 1;
            desc->pool_stride = mixed % 5 == 0 ? 1 : 2;
            dst->h = cnn_window_count(p, desc->pool_kernel, desc->pool_stride, 0);
            dst->w = cnn_window_count(q, desc->pool_kernel, desc->pool_stride, 0);
            if (v->values == INDEXED && desc->op == CNN_OP_CONV)
                desc->arg[CNN_ARG_INDEX] = cnn_desc(CNN_U8, dst->n, dst->h, dst->w, dst->c);
            break;
        default:
            break;
        }
    }
}

static void make_forward(kc_case *test, const shape *s, const variant *v)
{
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_SRC2, CNN_ARG_DST};
    cnn_op_desc *desc = &test->desc;
    variant real;
    int32_t p = cnn_window_count(s->h, s->r, s->stride, s->pad), q = cnn_window_count(s->w, s->s, s->stride, s->pad);
    const bool transform = may_transform(s, v);
    if (transform)
        v = real_variant(v, &real);
    desc->stride = s->stride;
    desc->pad = s->pad;
    desc->constant_weights = test->number % 3 != 0;
    desc->arg[CNN_ARG_SRC] = cnn_desc(v->dtype, s->n, s->h, s->w, s->c);
    desc->arg[CNN_ARG_WEIGHT] = cnn_desc(v->dtype, s->k, s->r, s->s, s->c / s->groups);
    if (desc->constant_weights && (v->dtype == CNN_I8 || test->number % 8 == 1) && test->number % 2)
        desc->arg[CNN_ARG_WEIGHT].structure = CNN_BLOCK_16X4;
    desc->arg[CNN_ARG_DST] = cnn_desc(v->out, s->n, p, q, s->k);
    test->terms = (int64_t)s->r * s->s * s->c / s->groups + 2;
    set_epilogue(test, v, p, q);
    fill_factors(test, CNN_ARG_SRC, CNN_ARG_WEIGHT, v);
    fill_epilogue(test, v);
    if (transform)
        test->agreement = KC_TRANSFORM;
    set_padding(test, activations, 3);
}

/* The gradient goes on through the ReLU that made the layer's input, 0 in half of the places. */
static void add_relu_grad(kc_case *test, cnn_dtype dtype)
{
    cnn_op_desc *desc = &test->desc;
    desc->epilogue[desc->epilogue_count++] = CNN_EPILOGUE_RELU_GRAD;
    desc->arg[CNN_ARG_SRC2] = desc->arg[CNN_ARG_DST];
    desc->arg[CNN_ARG_SRC2].dtype = dtype;
    test->fill[CNN_ARG_SRC2] = kc_ints(-3, 3);
    test->pad_to[CNN_ARG_SRC2] = test->pad_to[CNN_ARG_DST];
}

/* Whether a window of 3 fits behind a convolution. */
static bool may_pool(const shape *s)
{
    return cnn_window_count(s->h, s->r, s->stride, s->pad) >= 3 && cnn_window_count(s->w, s->s, s->stride, s->pad) >= 3;
}

/* dy becomes that of what was pooled behind the convolution; the last value of the index names no pixel. */
static void pool_gradient(kc_case *test, cnn_tensor_desc *dy)
{
    cnn_op_desc *desc = &test->desc;
    desc->pool_kernel = test->number % 3 == 2 ? 3 : 2;
    desc->pool_stride = desc->pool_kernel + (test->number % 5 == 4);
    dy->h = cnn_window_count(dy->h, desc->pool_kernel, desc->pool_stride, 0);
    dy->w = cnn_window_count(dy->w, desc->pool_kernel, desc->pool_stride, 0);
    desc->arg[CNN_ARG_INDEX] = *dy;
    desc->arg[CNN_ARG_INDEX].dtype = CNN_U8;
    test->fill[CNN_ARG_INDEX] = kc_ints(0, desc->pool_kernel * desc->pool_kernel);
}

static void make_gradient(kc_case *test, const shape *s, const variant *v)
{
    static const cnn_arg activations[] = {CNN_ARG_SRC, CNN_ARG_SRC2};
    static const cnn_arg data_activations[] = {CNN_ARG_SRC, CNN_ARG_DST};
    variant real;
    cnn_op_desc *desc = &test->desc;
    const bool indexed = v->values == INDEXED && may_pool(s), transform = !indexed && may_transform(s, v);
    if (transform)
        v = real_variant(v, &real);
    int32_t p = cnn_window_count(s->h, s->r, s->stride, s->pad), q = cnn_window_count(s->w, s->s, s->stride, s->pad);
    bool data = cnn_op_is_dgrad(desc->op);
    cnn_tensor_desc x = cnn_desc(v->dtype, s->n, s->h, s->w, s->c);
    cnn_tensor_desc w = cnn_desc(v->dtype, s->k, s->r, s->s, s->c / s->groups);
    cnn_tensor_desc y = cnn_desc(v->dtype, s->n, p, q, s->k);
    desc->stride = s->stride;
    desc->pad = s->pad;
    if (indexed)
        pool_gradient(test, &y);
    if (data) {
        test->terms = (int64_t)s->r * s->s * s->k / s->groups;
        x.dtype = v->out;
        desc->arg[CNN_ARG_SRC] = y;
        desc->arg[CNN_ARG_WEIGHT] = w;
        desc->arg[CNN_ARG_DST] = x;
        desc->constant_weights = test->number % 5 == 4;
        fill_factors(test, CNN_ARG_SRC, CNN_ARG_WEIGHT, v);
        set_padding(test, data_activations, 2);
        if (desc->op == CNN_OP_LINEAR_DGRAD && test->number % 3 != 0)
            add_relu_grad(test, v->dtype);
    } else {
        test->terms = (int64_t)s->n * p * q;
        w.dtype = CNN_F32;
        desc->arg[CNN_ARG_SRC] = x;
        desc->arg[CNN_ARG_SRC2] = y;
        desc->arg[CNN_ARG_DST] = w;
        if (test->number % 3 != 2)
            desc->arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, s->k);
        fill_factors(test, CNN_ARG_SRC, CNN_ARG_SRC2, v);
        set_padding(test, activations, 2);
        test->pad_to[CNN_ARG_WEIGHT] = 0;
    }
    if (transform)
        test->agreement = KC_TRANSFORM;
}

/* Shape and variant of case `number`. A linear layer's filter is its image. */
static shape pick_shape(bool linear, int number, int variants, kc_random *random)
{
    int count = linear ? LENGTH(linear_shapes) : LENGTH(conv_shapes);
    shape s;
    if (number < count * variants)
        s = linear ? linear_shapes[number / variants] : conv_shapes[number / variants];
    else
        s = linear ? random_linear(random) : random_conv(random);
    if (linear) {
        s.r = s.h;
        s.s = s.w;
        s.stride = 1;
    }
    return s;
}

static const variant *pick_variant(const variant *list, int count, bool fixed, int number, kc_random *random)
{
    return &list[fixed ? number % count : kc_int(random, 0, count - 1)];
}

void kc_make_conv(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    shape s = pick_shape(false, number, LENGTH(forward_variants), random);
    make_forward(test, &s,
                 pick_variant(forward_variants, LENGTH(forward_variants), number < KC_CONV_FIXED, number, random));
}

void kc_make_group_conv(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    const bool fixed = number < KC_GROUP_FIXED;
    shape s = fixed ? group_shapes[number / LENGTH(forward_variants)] : random_groups(random);
    make_forward(test, &s, pick_variant(forward_variants, LENGTH(forward_variants), fixed, number, random));
}

void kc_make_linear(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    shape s = pick_shape(true, number, LENGTH(forward_variants), random);
    make_forward(test, &s,
                 pick_variant(forward_variants, LENGTH(forward_variants), number < KC_LINEAR_FIXED, number, random));
}

void kc_make_conv_grad(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    shape s = pick_shape(false, number, LENGTH(grad_variants), random);
    make_gradient(test, &s, pick_variant(grad_variants, LENGTH(grad_variants), number < KC_GRAD_FIXED, number, random));
}

void kc_make_linear_grad(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    shape s = pick_shape(true, number, PLAIN_GRADS, random);
    make_gradient(test, &s, pick_variant(grad_variants, PLAIN_GRADS, number < KC_LINEAR_GRAD_FIXED, number, random));
}

void kc_make_group_conv_grad(kc_case *test, cnn_op op, int number, kc_random *random)
{
    (void)op;
    const bool fixed = number < KC_GROUP_GRAD_FIXED;
    shape s = fixed ? group_shapes[number / PLAIN_GRADS] : random_groups(random);
    make_gradient(test, &s, pick_variant(grad_variants, PLAIN_GRADS, fixed, number, random));
}
