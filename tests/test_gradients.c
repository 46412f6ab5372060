/* Backward ops against central differences.
 *
 * The reference is compiled with doubles (CNN_REF_DOUBLE): f32 tensors hold doubles, so that a difference quotient with
 * h = 1e-5 is right to about 1e-9. For an op y = f(x, ...) and fixed random g, L = sum g*y has dL/dx = what the
 * backward op makes of dy = g. The same descriptors go to every backend, which kcheck compares with the reference. */
#include "cnn/backend.h"
#include "core/hash.h"
#include "core/pool.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

/* The double build of the reference, kernels/ref/double.h. */
extern const cnn_backend cnn_backend_ref64;

static const double step = 1e-5;
static const double accuracy = 1e-6;

/* ---- Helpers ---- */

/* count values in [-1,1), drawn from a stream. */
static double *random_values(int64_t count, uint64_t stream)
{
    double *values = malloc((size_t)count * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (int64_t i = 0; i < count; i++)
        values[i] = 2.0 * (double)cnn_hash_uniform(cnn_hash(7, CNN_PURPOSE_SYNTH, stream, (uint64_t)i)) - 1.0;
    return values;
}

static double *new_values(const cnn_tensor_desc *desc)
{
    double *values = calloc((size_t)cnn_desc_elements(desc), sizeof *values);
    ck_assert_ptr_nonnull(values);
    return values;
}

static void run(const cnn_op_desc *desc, void *const *args)
{
    const cnn_backend *ref = &cnn_backend_ref64;
    cnn_device *device = NULL;
    cnn_kernel *kernel = NULL;
    char why[CNN_REASON_BYTES] = "";
    ck_assert_int_eq(ref->open(cnn_host_get(), NULL, &device), CNN_OK);
    ck_assert_msg(ref->prepare(device, desc, &kernel, why) == CNN_OK, "%s", why);
    void *workspace = ref->alloc(device, kernel->workspace_bytes);
    ck_assert_ptr_nonnull(workspace);
    ck_assert_int_eq(kernel->run(kernel, args, workspace), CNN_OK);
    ref->free(device, workspace);
    kernel->destroy(kernel);
    ref->close(device);
}

/* L = sum g*DST after running. */
static double weighted_output(const cnn_op_desc *desc, void *const *args, const double *g)
{
    run(desc, args);
    double sum = 0;
    const double *dst = args[CNN_ARG_DST];
    for (int64_t i = 0; i < cnn_desc_elements(&desc->arg[CNN_ARG_DST]); i++)
        sum += g[i] * dst[i];
    return sum;
}

/* dL/d(each element of `role`) by central differences equals `gradient`. */
static void check_role(const char *what, const cnn_op_desc *desc, void *const *args, cnn_arg role, const double *g,
                       const double *gradient)
{
    int64_t count = cnn_desc_elements(&desc->arg[role]);
    double *x = args[role];
    double largest = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs(gradient[i]));
    for (int64_t i = 0; i < count; i++) {
        double kept = x[i];
        x[i] = kept + step;
        double above = weighted_output(desc, args, g);
        x[i] = kept - step;
        double below = weighted_output(desc, args, g);
        x[i] = kept;
        double numeric = (above - below) / (2 * step);
        ck_assert_msg(fabs(numeric - gradient[i]) <= accuracy * fmax(largest, 1e-3),
                      "%s, d/d%s[%lld]: backward gives %.12g, differences %.12g", what, cnn_arg_name(role),
                      (long long)i, gradient[i], numeric);
    }
}

static void free_args(void **args)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        free(args[role]);
}

/* ---- Convolution and linear ---- */

typedef struct conv_case {
    const char *what;
    cnn_op op;
    int32_t n, h, w, c, k, r, s, stride, pad, groups;
    int32_t window, step; /* of ReLU and max-pooling behind it; 0: none */
} conv_case;

static const conv_case conv_cases[] = {
    {"conv 3x3 pad 1", CNN_OP_CONV, 2, 5, 4, 3, 4, 3, 3, 1, 1, 1, 0, 0},
    {"conv 5x5 pad 2 on 3x3", CNN_OP_CONV, 1, 3, 3, 2, 3, 5, 5, 1, 2, 1, 0, 0},
    {"conv 3x3 stride 2", CNN_OP_CONV, 2, 7, 6, 2, 3, 3, 3, 2, 1, 1, 0, 0},
    {"conv 1x1 stride 3", CNN_OP_CONV, 1, 7, 7, 2, 3, 1, 1, 3, 0, 1, 0, 0},
    {"conv 2x3", CNN_OP_CONV, 2, 4, 5, 3, 2, 2, 3, 1, 0, 1, 0, 0},
    {"conv 3x3 pooled", CNN_OP_CONV, 2, 5, 6, 3, 4, 3, 3, 1, 1, 1, 2, 2},
    {"conv 2x3 stride 2 pooled with gaps", CNN_OP_CONV, 1, 13, 12, 2, 3, 2, 3, 2, 1, 1, 2, 3},
    {"depthwise 3x3", CNN_OP_GROUP_CONV, 2, 5, 4, 6, 6, 3, 3, 1, 1, 6, 0, 0},
    {"depthwise 3x2 stride 2", CNN_OP_GROUP_CONV, 1, 6, 5, 5, 5, 3, 2, 2, 1, 5, 0, 0},
    {"two groups", CNN_OP_GROUP_CONV, 2, 4, 4, 4, 6, 3, 3, 1, 1, 2, 0, 0},
    {"linear", CNN_OP_LINEAR, 3, 2, 3, 4, 5, 2, 3, 1, 0, 1, 0, 0},
    {"linear of one value", CNN_OP_LINEAR, 2, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0},
};
enum { CONV_CASES = sizeof conv_cases / sizeof conv_cases[0] };

/* One of three ops on the same tensors: 0 forward, 1 data gradient, 2 weight gradient. */
static cnn_op_desc conv_desc(const conv_case *t, int which)
{
    cnn_op_desc desc = {.op = (cnn_op)((int)t->op + which), .stride = t->stride, .pad = t->pad};
    desc.pool_kernel = t->window;
    desc.pool_stride = t->step;
    return desc;
}

START_TEST(test_conv)
{
    const conv_case *t = &conv_cases[_i];
    int32_t p = cnn_window_count(t->h, t->r, t->stride, t->pad), q = cnn_window_count(t->w, t->s, t->stride, t->pad);
    p = t->window ? cnn_window_count(p, t->window, t->step, 0) : p;
    q = t->window ? cnn_window_count(q, t->window, t->step, 0) : q;
    cnn_tensor_desc x = cnn_desc(CNN_F32, t->n, t->h, t->w, t->c);
    cnn_tensor_desc w = cnn_desc(CNN_F32, t->k, t->r, t->s, t->c / t->groups);
    cnn_tensor_desc y = cnn_desc(CNN_F32, t->n, p, q, t->k), index = y, b = cnn_desc_vector(CNN_F32, t->k);
    double *g = random_values(cnn_desc_elements(&y), 3), *dx = new_values(&x), *dw = new_values(&w),
           *db = new_values(&b);

    cnn_op_desc forward = conv_desc(t, 0);
    void *args[CNN_ARG_COUNT] = {0};
    forward.arg[CNN_ARG_SRC] = x;
    forward.arg[CNN_ARG_WEIGHT] = w;
    forward.arg[CNN_ARG_BIAS] = b;
    forward.arg[CNN_ARG_DST] = y;
    forward.epilogue[forward.epilogue_count++] = CNN_EPILOGUE_BIAS;
    args[CNN_ARG_SRC] = random_values(cnn_desc_elements(&x), 1);
    args[CNN_ARG_WEIGHT] = random_values(cnn_desc_elements(&w), 2);
    args[CNN_ARG_BIAS] = random_values(t->k, 4);
    args[CNN_ARG_DST] = new_values(&y);
    index.dtype = t->window ? CNN_U8 : CNN_NONE;
    if (t->window) {
        forward.epilogue[forward.epilogue_count++] = CNN_EPILOGUE_RELU;
        forward.epilogue[forward.epilogue_count++] = CNN_EPILOGUE_MAXPOOL;
        forward.arg[CNN_ARG_INDEX] = index;
        args[CNN_ARG_INDEX] = new_values(&y);
        run(&forward, args);
    }

    cnn_op_desc dgrad = conv_desc(t, 1);
    dgrad.arg[CNN_ARG_SRC] = y;
    dgrad.arg[CNN_ARG_WEIGHT] = w;
    dgrad.arg[CNN_ARG_INDEX] = index;
    dgrad.arg[CNN_ARG_DST] = x;
    run(&dgrad, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = g,
                                        [CNN_ARG_WEIGHT] = args[CNN_ARG_WEIGHT],
                                        [CNN_ARG_INDEX] = args[CNN_ARG_INDEX],
                                        [CNN_ARG_DST] = dx});

    cnn_op_desc wgrad = conv_desc(t, 2);
    wgrad.arg[CNN_ARG_SRC] = x;
    wgrad.arg[CNN_ARG_SRC2] = y;
    wgrad.arg[CNN_ARG_INDEX] = index;
    wgrad.arg[CNN_ARG_DST] = w;
    wgrad.arg[CNN_ARG_DST2] = b;
    run(&wgrad, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = args[CNN_ARG_SRC],
                                        [CNN_ARG_SRC2] = g,
                                        [CNN_ARG_INDEX] = args[CNN_ARG_INDEX],
                                        [CNN_ARG_DST] = dw,
                                        [CNN_ARG_DST2] = db});

    check_role(t->what, &forward, args, CNN_ARG_SRC, g, dx);
    check_role(t->what, &forward, args, CNN_ARG_WEIGHT, g, dw);
    check_role(t->what, &forward, args, CNN_ARG_BIAS, g, db);
    free_args(args);
    free(g);
    free(dx);
    free(dw);
    free(db);
}
END_TEST

/* ---- Batch normalization ---- */

START_TEST(test_bn)
{
    /* One pixel a channel too: there everything but beta has gradient 0. */
    static const int32_t shapes[][4] = {{3, 2, 4, 5}, {1, 1, 1, 3}, {2, 1, 1, 4}};
    const int32_t *shape = shapes[_i];
    cnn_tensor_desc x = cnn_desc(CNN_F32, shape[0], shape[1], shape[2], shape[3]);
    cnn_tensor_desc vector = cnn_desc_vector(CNN_F32, shape[3]);
    int64_t count = cnn_desc_elements(&x);
    double *g = random_values(count, 3), *dx = new_values(&x), *dgamma = new_values(&vector),
           *dbeta = new_values(&vector);

    cnn_op_desc forward = {.op = CNN_OP_BN_TRAIN, .eps = 1e-5f};
    void *args[CNN_ARG_COUNT] = {0};
    static const cnn_arg vectors[] = {CNN_ARG_GAMMA, CNN_ARG_BETA, CNN_ARG_MEAN, CNN_ARG_VAR, CNN_ARG_INVSTD};
    for (int i = 0; i < 5; i++) {
        forward.arg[vectors[i]] = vector;
        args[vectors[i]] = random_values(shape[3], 10 + (uint64_t)i);
    }
    forward.arg[CNN_ARG_SRC] = forward.arg[CNN_ARG_DST] = x;
    args[CNN_ARG_SRC] = random_values(count, 1);
    args[CNN_ARG_DST] = new_values(&x);
    run(&forward, args);

    cnn_op_desc backward = {.op = CNN_OP_BN_GRAD};
    backward.arg[CNN_ARG_SRC] = backward.arg[CNN_ARG_SRC2] = backward.arg[CNN_ARG_DST] = x;
    backward.arg[CNN_ARG_GAMMA] = backward.arg[CNN_ARG_MEAN] = backward.arg[CNN_ARG_INVSTD] = vector;
    backward.arg[CNN_ARG_DST2] = backward.arg[CNN_ARG_DST3] = vector;
    run(&backward, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = args[CNN_ARG_SRC],
                                           [CNN_ARG_SRC2] = g,
                                           [CNN_ARG_GAMMA] = args[CNN_ARG_GAMMA],
                                           [CNN_ARG_MEAN] = args[CNN_ARG_MEAN],
                                           [CNN_ARG_INVSTD] = args[CNN_ARG_INVSTD],
                                           [CNN_ARG_DST] = dx,
                                           [CNN_ARG_DST2] = dgamma,
                                           [CNN_ARG_DST3] = dbeta});

    check_role("bn", &forward, args, CNN_ARG_SRC, g, dx);
    check_role("bn", &forward, args, CNN_ARG_GAMMA, g, dgamma);
    check_role("bn", &forward, args, CNN_ARG_BETA, g, dbeta);
    free_args(args);
    free(g);
    free(dx);
    free(dgamma);
    free(dbeta);
}
END_TEST

/* ---- ReLU, addition, pooling ---- */

START_TEST(test_relu)
{
    cnn_tensor_desc x = cnn_desc(CNN_F32, 2, 3, 3, 4);
    int64_t count = cnn_desc_elements(&x);
    double *g = random_values(count, 3), *dx = new_values(&x);
    cnn_op_desc forward = {.op = CNN_OP_RELU}, backward = {.op = CNN_OP_RELU_GRAD};
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = random_values(count, 1), [CNN_ARG_DST] = new_values(&x)};
    forward.arg[CNN_ARG_SRC] = forward.arg[CNN_ARG_DST] = x;
    backward.arg[CNN_ARG_SRC] = backward.arg[CNN_ARG_SRC2] = backward.arg[CNN_ARG_DST] = x;
    for (int64_t i = 0; i < count; i++)
        ck_assert_msg(fabs(((double *)args[CNN_ARG_SRC])[i]) > step, "a value lies on the kink");

    run(&forward, args);
    run(&backward, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = args[CNN_ARG_DST], [CNN_ARG_SRC2] = g, [CNN_ARG_DST] = dx});
    check_role("relu", &forward, args, CNN_ARG_SRC, g, dx);
    free_args(args);
    free(g);
    free(dx);
}
END_TEST

/* Dropout is linear: its gradient is the same op. */
START_TEST(test_dropout)
{
    cnn_tensor_desc x = cnn_desc(CNN_F32, 2, 3, 3, 4);
    int64_t count = cnn_desc_elements(&x);
    double *g = random_values(count, 3), *dx = new_values(&x);
    cnn_train_state *state = calloc(1, sizeof *state);
    cnn_op_desc forward = {.op = CNN_OP_DROPOUT, .rate = 0.4f, .seed = 11};
    state->epoch = 3;
    void *args[CNN_ARG_COUNT] = {
        [CNN_ARG_SRC] = random_values(count, 1), [CNN_ARG_STATE] = state, [CNN_ARG_DST] = new_values(&x)};
    forward.arg[CNN_ARG_SRC] = forward.arg[CNN_ARG_DST] = x;
    forward.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof *state);
    run(&forward, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = g, [CNN_ARG_STATE] = state, [CNN_ARG_DST] = dx});
    check_role("dropout", &forward, args, CNN_ARG_SRC, g, dx);
    free_args(args);
    free(g);
    free(dx);
}
END_TEST

/* The gradient of each piece is its part of the whole's. */
START_TEST(test_concat)
{
    cnn_tensor_desc a = cnn_desc(CNN_F32, 2, 2, 3, 3), b = cnn_desc(CNN_F32, 2, 2, 3, 5);
    cnn_tensor_desc whole = cnn_desc(CNN_F32, 2, 2, 3, 8);
    double *g = random_values(cnn_desc_elements(&whole), 3), *da = new_values(&a), *db = new_values(&b);
    cnn_op_desc forward = {.op = CNN_OP_CONCAT}, backward = {.op = CNN_OP_CONCAT_GRAD};
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = random_values(cnn_desc_elements(&a), 1),
                                 [CNN_ARG_SRC2] = random_values(cnn_desc_elements(&b), 2),
                                 [CNN_ARG_DST] = new_values(&whole)};
    forward.arg[CNN_ARG_SRC] = backward.arg[CNN_ARG_DST] = a;
    forward.arg[CNN_ARG_SRC2] = backward.arg[CNN_ARG_DST2] = b;
    forward.arg[CNN_ARG_DST] = backward.arg[CNN_ARG_SRC] = whole;
    run(&backward, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = g, [CNN_ARG_DST] = da, [CNN_ARG_DST2] = db});
    check_role("concat", &forward, args, CNN_ARG_SRC, g, da);
    check_role("concat", &forward, args, CNN_ARG_SRC2, g, db);
    free_args(args);
    free(g);
    free(da);
    free(db);
}
END_TEST

/* A ReLU with an end, which some outputs reach, and leaky ones. */
START_TEST(test_activations)
{
    static const struct {
        const char *what;
        cnn_op op, grad;
        float hi, slope;
    } cases[] = {{"clip", CNN_OP_CLIP, CNN_OP_CLIP_GRAD, 0.4f, 0},
                 {"leaky relu", CNN_OP_LEAKY_RELU, CNN_OP_LEAKY_RELU_GRAD, 0, 0.25f},
                 {"leaky relu of slope 0", CNN_OP_LEAKY_RELU, CNN_OP_LEAKY_RELU_GRAD, 0, 0}};
    cnn_tensor_desc x = cnn_desc(CNN_F32, 2, 3, 3, 4);
    int64_t count = cnn_desc_elements(&x);
    double *g = random_values(count, 3), *dx = new_values(&x);
    cnn_op_desc forward = {.op = cases[_i].op, .hi = cases[_i].hi, .slope = cases[_i].slope}, backward = forward;
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = random_values(count, 1), [CNN_ARG_DST] = new_values(&x)};
    backward.op = cases[_i].grad;
    forward.arg[CNN_ARG_SRC] = forward.arg[CNN_ARG_DST] = x;
    backward.arg[CNN_ARG_SRC] = backward.arg[CNN_ARG_SRC2] = backward.arg[CNN_ARG_DST] = x;
    run(&forward, args);
    run(&backward, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = args[CNN_ARG_DST], [CNN_ARG_SRC2] = g, [CNN_ARG_DST] = dx});
    check_role(cases[_i].what, &forward, args, CNN_ARG_SRC, g, dx);
    free_args(args);
    free(g);
    free(dx);
}
END_TEST

/* The gradient of a sum goes to both summands unchanged. */
START_TEST(test_add)
{
    cnn_tensor_desc x = cnn_desc(CNN_F32, 2, 2, 3, 3);
    int64_t count = cnn_desc_elements(&x);
    double *g = random_values(count, 3);
    cnn_op_desc forward = {.op = CNN_OP_ADD};
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = random_values(count, 1),
                                 [CNN_ARG_SRC2] = random_values(count, 2),
                                 [CNN_ARG_DST] = new_values(&x)};
    forward.arg[CNN_ARG_SRC] = forward.arg[CNN_ARG_SRC2] = forward.arg[CNN_ARG_DST] = x;
    check_role("add", &forward, args, CNN_ARG_SRC, g, g);
    check_role("add", &forward, args, CNN_ARG_SRC2, g, g);
    free_args(args);
    free(g);
}
END_TEST

START_TEST(test_maxpool)
{
    /* kernel, stride, pad: apart, overlapping, with gaps and a border that no window reaches, beyond the border */
    static const int32_t windows[][3] = {{2, 2, 0}, {3, 2, 0}, {3, 1, 0}, {2, 3, 0}, {3, 2, 1}, {2, 2, 1}};
    int32_t kernel = windows[_i][0], stride = windows[_i][1], pad = windows[_i][2];
    int32_t p = cnn_window_count(6, kernel, stride, pad), q = cnn_window_count(7, kernel, stride, pad);
    cnn_tensor_desc x = cnn_desc(CNN_F32, 2, 6, 7, 3), y = cnn_desc(CNN_F32, 2, p, q, 3);
    double *g = random_values(cnn_desc_elements(&y), 3), *dx = new_values(&x);
    cnn_op_desc forward = {.op = CNN_OP_MAXPOOL, .kernel = kernel, .stride = stride, .pad = pad}, backward = forward;
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = random_values(cnn_desc_elements(&x), 1),
                                 [CNN_ARG_INDEX] = new_values(&y),
                                 [CNN_ARG_DST] = new_values(&y)};
    forward.arg[CNN_ARG_SRC] = x;
    forward.arg[CNN_ARG_DST] = y;
    forward.arg[CNN_ARG_INDEX] = y;
    forward.arg[CNN_ARG_INDEX].dtype = CNN_U8;
    backward.op = CNN_OP_MAXPOOL_GRAD;
    backward.arg[CNN_ARG_INDEX] = forward.arg[CNN_ARG_INDEX];
    backward.arg[CNN_ARG_SRC2] = y;
    backward.arg[CNN_ARG_DST] = x;

    run(&forward, args);
    run(&backward,
        (void *[CNN_ARG_COUNT]){[CNN_ARG_INDEX] = args[CNN_ARG_INDEX], [CNN_ARG_SRC2] = g, [CNN_ARG_DST] = dx});
    check_role("maxpool", &forward, args, CNN_ARG_SRC, g, dx);
    free_args(args);
    free(g);
    free(dx);
}
END_TEST

START_TEST(test_avgpool)
{
    /* kernel, stride: as above, and the whole image */
    static const int32_t windows[][2] = {{2, 2}, {3, 2}, {3, 1}, {2, 3}, {0, 0}};
    int32_t kernel = windows[_i][0], stride = windows[_i][1];
    int32_t p = kernel ? cnn_window_count(6, kernel, stride, 0) : 1;
    int32_t q = kernel ? cnn_window_count(7, kernel, stride, 0) : 1;
    cnn_tensor_desc x = cnn_desc(CNN_F32, 2, 6, 7, 3), y = cnn_desc(CNN_F32, 2, p, q, 3);
    double *g = random_values(cnn_desc_elements(&y), 3), *dx = new_values(&x);
    cnn_op_desc forward = {.op = CNN_OP_AVGPOOL, .kernel = kernel, .stride = stride}, backward = forward;
    void *args[CNN_ARG_COUNT] = {
        [CNN_ARG_SRC] = random_values(cnn_desc_elements(&x), 1), [CNN_ARG_DST] = new_values(&y)};
    forward.arg[CNN_ARG_SRC] = x;
    forward.arg[CNN_ARG_DST] = y;
    backward.op = CNN_OP_AVGPOOL_GRAD;
    backward.arg[CNN_ARG_SRC] = y;
    backward.arg[CNN_ARG_DST] = x;

    run(&forward, args);
    run(&backward, (void *[CNN_ARG_COUNT]){[CNN_ARG_SRC] = g, [CNN_ARG_DST] = dx});
    check_role("avgpool", &forward, args, CNN_ARG_SRC, g, dx);
    free_args(args);
    free(g);
    free(dx);
}
END_TEST

/* ---- Weights on a grid ---- */

/* Differences see points that move with the step, and rounding that holds still. The straight-through estimate takes
 * rounding for the identity, so that of a weight within the grid -w comes to it; at the ends both agree. */
START_TEST(test_grid)
{
    cnn_tensor_desc w = cnn_desc(CNN_F32, 3, 2, 2, 5), one = cnn_desc_vector(CNN_F32, 1);
    int64_t count = cnn_desc_elements(&w);
    const bool ends = _i;
    double *weights = random_values(count, 1), *g = random_values(count, 2), *dw = random_values(count, 2);
    double theta = 0.3, dtheta, expected = 0;
    cnn_op_desc forward = {.op = CNN_OP_GRID, .levels = 3, .step = ends ? 0.01f : 0.4f}, backward = forward;
    for (int64_t i = 0; i < count && ends; i++)
        weights[i] += weights[i] < 0 ? -0.1 : 0.1;
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = weights, [CNN_ARG_SRC2] = &theta, [CNN_ARG_DST] = new_values(&w)};
    forward.arg[CNN_ARG_SRC] = forward.arg[CNN_ARG_DST] = w;
    forward.arg[CNN_ARG_SRC2] = one;
    backward.op = CNN_OP_GRID_GRAD;
    backward.arg[CNN_ARG_SRC] = backward.arg[CNN_ARG_DST] = w;
    backward.arg[CNN_ARG_SRC2] = backward.arg[CNN_ARG_DST2] = one;
    run(&backward, (void *[CNN_ARG_COUNT]){
                       [CNN_ARG_SRC] = weights, [CNN_ARG_SRC2] = &theta, [CNN_ARG_DST] = dw, [CNN_ARG_DST2] = &dtheta});
    expected = dtheta;
    for (int64_t i = 0; i < count; i++) {
        ck_assert(dw[i] == (ends ? 0 : g[i]));
        expected += ends ? 0 : g[i] * weights[i];
    }
    check_role("grid", &forward, args, CNN_ARG_SRC2, g, &expected);
    free(args[CNN_ARG_DST]);
    free(weights);
    free(g);
    free(dw);
}
END_TEST

/* ---- Loss ---- */

START_TEST(test_loss)
{
    enum { N = 5, K = 7 };
    cnn_train_state state = {.loss_scale = 128};
    uint8_t labels[N + 2] = {3, 0, 6, 1, 1, 5, 2};
    int32_t index[N] = {4, 0, 6, 2, 2};
    double result[2], dlogits[N * K];
    double *logits = random_values((int64_t)N * K, 1);
    double *teacher = random_values((int64_t)(N + 2) * K, 2);
    cnn_op_desc desc = {.op = CNN_OP_LOSS, .smoothing = _i % 2 ? 0.1f : 0};
    desc.arg[CNN_ARG_SRC] = desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, N, 1, 1, K);
    desc.arg[CNN_ARG_LABELS] = cnn_desc_vector(CNN_U8, N + 2);
    desc.arg[CNN_ARG_INDEX] = cnn_desc_vector(CNN_I32, N);
    desc.arg[CNN_ARG_STATE] = cnn_desc_vector(CNN_U8, (int32_t)sizeof state);
    desc.arg[CNN_ARG_DST2] = cnn_desc_vector(CNN_F32, 2);
    void *args[CNN_ARG_COUNT] = {[CNN_ARG_SRC] = logits,   [CNN_ARG_LABELS] = labels, [CNN_ARG_INDEX] = index,
                                 [CNN_ARG_STATE] = &state, [CNN_ARG_DST] = dlogits,   [CNN_ARG_DST2] = result};
    if (_i >= 2) {
        desc.arg[CNN_ARG_SRC2] = cnn_desc(CNN_F32, N + 2, 1, 1, K);
        args[CNN_ARG_SRC2] = teacher;
        desc.mix = _i == 2 ? 0.25f : 1.0f;
        desc.temperature = _i == 2 ? 0.5f : 3.0f;
    }
    run(&desc, args);
    double gradient[N * K];
    for (int i = 0; i < N * K; i++)
        gradient[i] = dlogits[i] / (double)state.loss_scale;
    for (int i = 0; i < N * K; i++) {
        double kept = logits[i];
        logits[i] = kept + step;
        run(&desc, args);
        double above = result[0];
        logits[i] = kept - step;
        run(&desc, args);
        logits[i] = kept;
        double numeric = (above - result[0]) / (2 * step);
        ck_assert_msg(fabs(numeric - gradient[i]) <= accuracy, "d/dlogits[%d]: %.12g and %.12g", i, gradient[i],
                      numeric);
    }
    free(teacher);
    free(logits);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gradients");
    TCase *differences = tcase_create("central differences");
    tcase_set_timeout(differences, 60);
    tcase_add_loop_test(differences, test_conv, 0, CONV_CASES);
    tcase_add_loop_test(differences, test_bn, 0, 3);
    tcase_add_test(differences, test_relu);
    tcase_add_test(differences, test_add);
    tcase_add_loop_test(differences, test_maxpool, 0, 6);
    tcase_add_test(differences, test_concat);
    tcase_add_test(differences, test_dropout);
    tcase_add_loop_test(differences, test_activations, 0, 3);
    tcase_add_loop_test(differences, test_avgpool, 0, 5);
    tcase_add_loop_test(differences, test_grid, 0, 2);
    tcase_add_loop_test(differences, test_loss, 0, 4);
    suite_add_tcase(suite, differences);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
