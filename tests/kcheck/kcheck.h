/* kcheck: every kernel of every backend against the reference.
 *
 * A case is an op descriptor and how to fill its inputs; (op, number, seed) names it, so any case can be replayed.
 * Values are kept as doubles by logical index, which hold every dtype exactly, and are laid out for each device with
 * the channel padding that it wants. Classes of agreement:
 *
 *   exact  the bits of the reference (0 = -0, NaN = NaN). INT8; float sums filled with small integers, which are exact
 *          in any order, so f16 and bf16 results are one rounding of an exact sum; ops that only move or compare.
 *   sum    real data: |got - want| <= (K+2) u sum|a||b| + half an ulp of the output's dtype, u = 2^-24, K terms. The
 *          sum is what the same reference gives for absolute values; a half-precision DST is compared with an f32 one.
 *   transform  3x3 and 5x5 convolutions that Winograd kernels may take, on real data: the error's rms is at most 1e-5
 *          of the rms of DST, no error is more than 1e-4 of that, and half an ulp of the output's dtype on top.
 *   ulp    BN, LOSS, optimizer, GRID: the bounds written out in bounds.c and gen_grid.c, op by op.
 */
#ifndef KCHECK_H
#define KCHECK_H

#include "cnn/backend.h"
#include "core/hash.h"

#include <stdio.h>

/* ---- Random numbers ---- */

typedef struct kc_random {
    uint64_t state;
} kc_random;

static inline uint64_t kc_next(kc_random *random)
{
    random->state += 0x9E3779B97F4A7C15u;
    return cnn_splitmix64(random->state);
}

/* In [lo, hi]. */
static inline int32_t kc_int(kc_random *random, int32_t lo, int32_t hi)
{
    return lo + (int32_t)(kc_next(random) % (uint64_t)((int64_t)hi - lo + 1));
}

/* In [lo, hi). */
static inline double kc_uniform(kc_random *random, double lo, double hi)
{
    return lo + (hi - lo) * ((double)(kc_next(random) >> 11) * 0x1p-53);
}

/* ---- Cases ---- */

typedef enum kc_kind {
    KC_ZERO = 0, /* 0 */
    KC_INTS,     /* scale * whole numbers of [lo, hi] */
    KC_REAL,     /* [lo, hi), rounded to the dtype */
    KC_ENDS,     /* lo or hi, here and there another whole number between: worst cases of integer sums */
    KC_SPECIAL,  /* as KC_REAL, with NaN, infinities, zeros of both signs and subnormals among them */
    KC_ONE_BAD,  /* as KC_REAL, with one infinity or NaN */
    KC_OFFSETS,  /* 0 = first <= ... <= last = hi: segments */
    KC_AUGMENT /* cnn_augment_params of all kinds, with mirrored borders when lo is 1, serifs (for one channel) when hi
                  is 1 */
} kc_kind;

typedef struct kc_fill {
    kc_kind kind;
    double lo, hi, scale;
} kc_fill;

typedef enum kc_class { KC_EXACT, KC_SUM, KC_TRANSFORM, KC_ULP } kc_class;

typedef struct kc_case {
    cnn_op_desc desc; /* without channel padding */
    int number;
    uint64_t seed; /* of its values */
    kc_class agreement;
    int64_t terms;                 /* K of the sum bound, for DST */
    int32_t pad_to[CNN_ARG_COUNT]; /* channels in memory: a multiple of this and, for activations, of the device's; 0:
                                      none */
    kc_fill fill[CNN_ARG_COUNT];
    cnn_train_state state;

    double *in[CNN_ARG_COUNT];        /* tensors read or updated, logical order */
    double *want[CNN_ARG_COUNT];      /* tensors written or updated */
    double *tolerance[CNN_ARG_COUNT]; /* NULL: exact */
    cnn_train_state want_state;
    double sumsq_tolerance; /* relative, of state.grad_sumsq */
    double rms_tolerance;   /* of the error over DST; 0: not looked at */
} kc_case;

/* How cases of an op are made. */
typedef struct kc_op {
    cnn_op op;
    int fixed; /* how many edge cases there are */
    /* Sets desc, fills, agreement, terms, padding and state of case `number`; those >= fixed are random. */
    void (*make)(kc_case *test, cnn_op op, int number, kc_random *random);
    void (*bound)(kc_case *test); /* sets tolerances for class KC_ULP, after want; NULL where there is no such case */
} kc_op;

/* The row of an op. */
const kc_op *kc_op_get(cnn_op op);

/* The type of SRC in case `number`. */
cnn_dtype kc_case_src(cnn_op op, int number, uint64_t seed);

/* Makes case `number`, fills it, and has the reference compute what is wanted. kc_case_free in any case. */
cnn_status kc_case_make(kc_case *test, cnn_op op, int number, uint64_t seed);
void kc_case_free(kc_case *test);

/* One row of values of [lo, hi]... for use by generators. */
static inline kc_fill kc_ints(double lo, double hi)
{
    return (kc_fill){KC_INTS, lo, hi, 1};
}
static inline kc_fill kc_real(double lo, double hi)
{
    return (kc_fill){KC_REAL, lo, hi, 1};
}

/* count values of a role, each one that dtype holds. NULL when there is no memory. */
double *kc_fill_values(const kc_fill *fill, const cnn_tensor_desc *desc, kc_random *random);

/* Runs the reference on values in[] (of test->in's shape); outputs by role go to out[], allocated here. */
cnn_status kc_reference(const kc_case *test, const cnn_op_desc *desc, double *const in[CNN_ARG_COUNT],
                        double *out[CNN_ARG_COUNT], cnn_train_state *state);

/* Half the distance of neighbours of dtype at this magnitude. */
double kc_half_ulp(cnn_dtype dtype, double magnitude);

/* Fills tolerances of class KC_SUM, and of KC_TRANSFORM: there all but DST keep the bounds of a sum. */
cnn_status kc_bound_sum(kc_case *test);
cnn_status kc_bound_transform(kc_case *test);

/* Generators and bounds, one a family of ops. */
enum { KC_CONV_FIXED = 1300, KC_LINEAR_FIXED = 500, KC_GRAD_FIXED = 520, KC_LINEAR_GRAD_FIXED = 160 };
enum { KC_GROUP_FIXED = 600, KC_GROUP_GRAD_FIXED = 192 };
enum { KC_BN_FIXED = 88, KC_ELEMENT_FIXED = 66, KC_POOL_FIXED = 144, KC_INPUT_FIXED = 32, KC_REQUANTIZE_FIXED = 44 };
enum { KC_LOSS_FIXED = 96, KC_STATS_FIXED = 24, KC_SGD_FIXED = 36, KC_UPDATE_FIXED = 16, KC_SCALER_FIXED = 24 };
enum { KC_MASK_FIXED = 18, KC_GRID_FIXED = 56, KC_AVERAGE_FIXED = 120, KC_CONCAT_FIXED = 44, KC_DROPOUT_FIXED = 44 };
typedef void kc_make(kc_case *test, cnn_op op, int number, kc_random *random);
kc_make kc_make_conv, kc_make_linear, kc_make_conv_grad, kc_make_linear_grad;
kc_make kc_make_group_conv, kc_make_group_conv_grad;
kc_make kc_make_bn, kc_make_element, kc_make_pool, kc_make_input, kc_make_requantize;
kc_make kc_make_loss, kc_make_stats, kc_make_sgd, kc_make_adam, kc_make_update, kc_make_scaler, kc_make_mask;
kc_make kc_make_concat, kc_make_dropout;
kc_make kc_make_grid, kc_make_average;
void kc_bound_grid(kc_case *test);
void kc_bound_grid_grad(kc_case *test);
void kc_bound_bn_train(kc_case *test);
void kc_bound_bn_infer(kc_case *test);
void kc_bound_bn_grad(kc_case *test);
void kc_bound_loss(kc_case *test);
void kc_bound_stats(kc_case *test);
void kc_bound_sgd(kc_case *test);
void kc_bound_adam(kc_case *test);
void kc_bound_update(kc_case *test);

/* ---- Devices ---- */

enum { KC_LABEL_BYTES = 64 };

typedef struct kc_device {
    const cnn_backend *backend;
    cnn_device *device;
    char label[KC_LABEL_BYTES]; /* "cpu/avx2" */
    char isa[KC_LABEL_BYTES];   /* for the replay line; "" where levels mean nothing */
    int ran[CNN_OP_COUNT], refused[CNN_OP_COUNT];
    char reason[CNN_OP_COUNT][CNN_REASON_BYTES]; /* of the first refusal */
} kc_device;

typedef enum kc_verdict { KC_PASSED, KC_FAILED, KC_REFUSED } kc_verdict;

/* Runs the case on the device and checks everything; a failure is described in `text`. Where the device refuses padding
 * that the case adds, it gets the case without (and the refusal is counted). */
kc_verdict kc_check(const kc_case *test, kc_device *device, char *text, size_t text_bytes);

/* The case's descriptor with the channel padding that this device gets: what the case asks for, or, with
 * natural = true, only what the device itself wants. */
cnn_op_desc kc_device_desc(const kc_case *test, const kc_device *device, bool natural);

/* ---- Planted bugs ---- */

/* Names, ending in NULL. */
extern const char *const kc_plants[];

/* Makes the backend that wraps ref and does what the name says; NULL when it is unknown. */
const cnn_backend *kc_plant(const char *name);

/* ---- Benchmark ---- */

/* Times the convnet's shapes on each device; returns how many cases failed their check. */
int kc_bench(kc_device *devices, int device_count, uint64_t seed);

/* Measured peaks of one thread, in GFLOP/s and GOP/s; 0 where there is no such instruction. That of AVX-VNNI is not
 * measured: kernels of this level may be beyond a peak. */
double kc_peak_f32(void);
double kc_peak_i8(void);
/* Of AMX's tiles of i8 or bf16. Only where the cpu backend has opened its level amx. */
double kc_peak_amx(cnn_dtype dtype);

#endif
