/* Cases of weights on a grid, and their bounds: the step may be off by one place of f32, and a weight within that of
 * the middle between two points, or of the end of the grid, may fall on either side. */
#include "tests/kcheck/kcheck.h"

#include <math.h>
#include <stdlib.h>

enum { VARIANTS = 7, SHAPES = 8 };
_Static_assert(KC_GRID_FIXED == VARIANTS * SHAPES, "count the cases in kcheck.h");

static const double u = 0x1p-24;

/* Grids with whole numbers of half steps are exact, ties and ends among them. */
static const struct {
    int32_t levels;
    cnn_dtype dtype; /* of the points */
    kc_kind weights;
} variants[VARIANTS] = {{1, CNN_F32, KC_INTS},  {3, CNN_F32, KC_REAL},    {7, CNN_F32, KC_SPECIAL},
                        {15, CNN_F16, KC_REAL}, {127, CNN_BF16, KC_INTS}, {127, CNN_F32, KC_REAL},
                        {1, CNN_BF16, KC_REAL}};

void kc_make_grid(kc_case *test, cnn_op op, int number, kc_random *random)
{
    static const int32_t shapes[SHAPES][4] = {{1, 1, 1, 1},  {1, 1, 1, 3},   {3, 1, 1, 17},   {5, 3, 3, 7},
                                              {16, 5, 5, 1}, {20, 5, 5, 13}, {64, 1, 1, 257}, {33, 4, 4, 251}};
    const int variant = number % VARIANTS;
    const int32_t levels = variants[variant].levels;
    cnn_op_desc *desc = &test->desc;
    cnn_tensor_desc weight =
        cnn_desc(CNN_F32, kc_int(random, 1, 40), kc_int(random, 1, 5), kc_int(random, 1, 5), kc_int(random, 1, 90));
    if (number < KC_GRID_FIXED) {
        const int32_t *shape = shapes[number / VARIANTS];
        weight = cnn_desc(CNN_F32, shape[0], shape[1], shape[2], shape[3]);
    }
    desc->arg[CNN_ARG_SRC] = desc->arg[CNN_ARG_DST] = weight;
    desc->arg[CNN_ARG_SRC2] = cnn_desc_vector(CNN_F32, 1);
    desc->levels = levels;
    test->fill[CNN_ARG_DST] = kc_ints(-9, 9);
    if (op == CNN_OP_GRID)
        desc->arg[CNN_ARG_DST].dtype = variants[variant].dtype;
    else
        desc->arg[CNN_ARG_DST2] = desc->arg[CNN_ARG_SRC2];
    if (variants[variant].weights == KC_REAL) {
        desc->step = 0.01f;
        const double reach = 0.01 * (levels + 1.5);
        test->fill[CNN_ARG_SRC] = kc_real(-reach, reach);
        test->fill[CNN_ARG_SRC2] = kc_real(-0.5, 0.5);
        test->fill[CNN_ARG_DST] = kc_real(-2, 2);
        test->agreement = KC_ULP;
        return;
    }
    desc->step = 0.25f;
    test->fill[CNN_ARG_SRC] = (kc_fill){variants[variant].weights, -2 * levels - 3, 2 * levels + 3, 0.125};
    test->agreement = KC_EXACT;
}

/* What a kernel may make of one weight. */
typedef struct doubt {
    double step, v;
    bool middle, end; /* on either side of a tie, of the end of the grid */
} doubt;

static doubt doubt_of(const kc_case *test, double w)
{
    doubt d = {.step = (double)test->desc.step * exp(test->in[CNN_ARG_SRC2][0])};
    d.v = fabs(w) / d.step;
    d.middle = fabs(d.v - floor(d.v) - 0.5) <= 8 * u * d.v;
    d.end = fabs(d.v - test->desc.levels) <= 8 * u * d.v;
    return d;
}

static double *tolerances(kc_case *test, int role)
{
    test->tolerance[role] = calloc((size_t)cnn_desc_elements(&test->desc.arg[role]), sizeof(double));
    return test->tolerance[role];
}

void kc_bound_grid(kc_case *test)
{
    const cnn_tensor_desc *dst = &test->desc.arg[CNN_ARG_DST];
    double *tolerance = tolerances(test, CNN_ARG_DST);
    for (int64_t i = 0; tolerance && i < cnn_desc_elements(dst); i++) {
        const doubt d = doubt_of(test, test->in[CNN_ARG_SRC][i]);
        const double want = fabs(test->want[CNN_ARG_DST][i]), error = 4 * u * want + (d.middle ? d.step : 0);
        tolerance[i] = error + (dst->dtype == CNN_F32 ? 0 : kc_half_ulp(dst->dtype, want + error));
    }
}

void kc_bound_grid_grad(kc_case *test)
{
    const int64_t count = cnn_desc_elements(&test->desc.arg[CNN_ARG_DST]);
    double *own = tolerances(test, CNN_ARG_DST), *sum = tolerances(test, CNN_ARG_DST2);
    for (int64_t i = 0; own && sum && i < count; i++) {
        const double w = fabs(test->in[CNN_ARG_SRC][i]), g = fabs(test->in[CNN_ARG_DST][i]);
        const doubt d = doubt_of(test, w);
        own[i] = d.end ? g : 0;
        sum[0] += g * (6 * u * (w + d.step) + (d.middle ? d.step : 0) + (d.end ? w : 0));
    }
    if (own && sum)
        sum[0] += kc_half_ulp(CNN_F32, fabs(test->want[CNN_ARG_DST2][0]) + sum[0]);
}
