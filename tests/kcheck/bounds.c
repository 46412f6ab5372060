/* Bounds of class ulp: ops with division, square root, exp, or sums that feed further arithmetic.
 *
 * u = 2^-24. Each bound lets every f32 operation of a straightforward kernel err by u relative to its operands, sums
 * of m terms by (m+2) u sum|term|, and adds half an ulp of the output's dtype. */
#include "tests/kcheck/kcheck.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double u = 0x1p-24;

/* Tolerances of a role, all 0; without memory the role stays exact, which only fails too early. */
static double *tolerances(kc_case *test, int role)
{
    test->tolerance[role] = calloc((size_t)cnn_desc_elements(&test->desc.arg[role]), sizeof(double));
    return test->tolerance[role];
}

static double half_ulp(const kc_case *test, int role, int64_t i, double error)
{
    return kc_half_ulp(test->desc.arg[role].dtype, fabs(test->want[role][i]) + error);
}

/* ---- Batch normalization ---- */

/* What is known of channel c. */
typedef struct channel {
    double mean, invstd, mean_error, invstd_error;
} channel;

/* Error of (x - mean)*invstd*gamma + beta, also when computed as x*a + b. */
static double normalized_error(const kc_case *test, int32_t c, const channel *ch, double x)
{
    double gamma = fabs(test->in[CNN_ARG_GAMMA][c]), beta = fabs(test->in[CNN_ARG_BETA][c]);
    double error = ch->mean_error * ch->invstd + (fabs(x - ch->mean) + ch->mean_error) * ch->invstd_error +
                   6 * u * (fabs(x) + fabs(ch->mean)) * ch->invstd;
    return gamma * error + 6 * u * beta;
}

static void bound_normalized(kc_case *test, int32_t c, const channel *ch, double *tolerance)
{
    int64_t channels = test->desc.arg[CNN_ARG_SRC].c, pixels = cnn_desc_pixels(&test->desc.arg[CNN_ARG_SRC]);
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
        int64_t i = pixel * channels + c;
        double error = normalized_error(test, c, ch, test->in[CNN_ARG_SRC][i]);
        tolerance[i] = error + half_ulp(test, CNN_ARG_DST, i, error);
    }
}

/* Element i of the pooled tensor, whose window begins at `corner` of x. A maximum is as wrong as its window's worst
 * value; INDEX is free where a kernel may find the maximum elsewhere, or on the other side of 0. */
static void bound_window(kc_case *test, int32_t c, const channel *ch, int64_t corner, int64_t i)
{
    const cnn_op_desc *desc = &test->desc;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const double gamma = test->in[CNN_ARG_GAMMA][c], beta = test->in[CNN_ARG_BETA][c];
    double worst = 0, largest = -INFINITY, second = -INFINITY;
    for (int32_t at = 0; at < desc->pool_kernel * desc->pool_kernel; at++) {
        int64_t pixel = corner + (int64_t)(at / desc->pool_kernel) * src->w + at % desc->pool_kernel;
        double x = test->in[CNN_ARG_SRC][pixel * src->c + c], y = (x - ch->mean) * ch->invstd * gamma + beta;
        worst = fmax(worst, normalized_error(test, c, ch, x));
        second = fmax(second, fmin(largest, y));
        largest = fmax(largest, y);
    }
    test->tolerance[CNN_ARG_DST][i] = worst + half_ulp(test, CNN_ARG_DST, i, worst);
    bool relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU), cut = relu && largest < -worst;
    bool doubtful = largest - second <= 2 * worst || (relu && fabs(largest) <= worst);
    if (test->tolerance[CNN_ARG_INDEX])
        test->tolerance[CNN_ARG_INDEX][i] = doubtful && !cut ? 255 : 0;
}

static void bound_pooled(kc_case *test, int32_t c, const channel *ch)
{
    const cnn_tensor_desc *src = &test->desc.arg[CNN_ARG_SRC], *dst = &test->desc.arg[CNN_ARG_DST];
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(dst); pixel++) {
        int64_t q = pixel % dst->w, p = pixel / dst->w % dst->h, n = pixel / dst->w / dst->h;
        bound_window(test, c, ch, (n * src->h + p * test->desc.pool_stride) * src->w + q * test->desc.pool_stride,
                     pixel * dst->c + c);
    }
}

void kc_bound_bn_train(kc_case *test)
{
    const cnn_tensor_desc *src = &test->desc.arg[CNN_ARG_SRC];
    double m = (double)cnn_desc_pixels(src);
    double *dst = tolerances(test, CNN_ARG_DST), *mean = tolerances(test, CNN_ARG_MEAN);
    double *var = tolerances(test, CNN_ARG_VAR), *invstd = tolerances(test, CNN_ARG_INVSTD);
    bool pools = test->desc.arg[CNN_ARG_INDEX].dtype != CNN_NONE;
    if (!dst || !mean || !var || !invstd || (pools && !tolerances(test, CNN_ARG_INDEX)))
        return;
    for (int32_t c = 0; c < src->c; c++) {
        double magnitude = 0;
        for (int64_t pixel = 0; pixel < cnn_desc_pixels(src); pixel++)
            magnitude += fabs(test->in[CNN_ARG_SRC][pixel * src->c + c]) / m;
        channel ch = {.mean = test->want[CNN_ARG_MEAN][c], .invstd = test->want[CNN_ARG_INVSTD][c]};
        double variance = test->want[CNN_ARG_VAR][c];
        ch.mean_error = (m + 3) * u * magnitude;
        /* sum (x - mean')^2 = sum (x - mean)^2 + m (mean' - mean)^2 */
        double variance_error = 2 * (m + 8) * u * variance + 2 * ch.mean_error * ch.mean_error;
        ch.invstd_error = ch.invstd * (variance_error / (2 * (variance + (double)test->desc.eps)) + 6 * u);
        mean[c] = ch.mean_error;
        var[c] = variance_error + 0x1p-149;
        invstd[c] = ch.invstd_error;
        if (pools)
            bound_pooled(test, c, &ch);
        else
            bound_normalized(test, c, &ch, dst);
    }
}

void kc_bound_bn_infer(kc_case *test)
{
    double *dst = tolerances(test, CNN_ARG_DST);
    for (int32_t c = 0; dst && c < test->desc.arg[CNN_ARG_SRC].c; c++) {
        channel ch = {.mean = test->in[CNN_ARG_MEAN][c]};
        ch.invstd = 1 / sqrt(test->in[CNN_ARG_VAR][c] + (double)test->desc.eps);
        ch.invstd_error = 6 * u * ch.invstd;
        if (cnn_op_has_epilogue(&test->desc, CNN_EPILOGUE_MAXPOOL))
            bound_pooled(test, c, &ch);
        else
            bound_normalized(test, c, &ch, dst);
    }
}

/* dy of every pixel of x: SRC2, spread over the windows where there is an INDEX. NULL when there is no memory. */
static double *spread_gradient(const kc_case *test)
{
    const cnn_op_desc *desc = &test->desc;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *from = &desc->arg[CNN_ARG_SRC2];
    double *dy = calloc((size_t)cnn_desc_elements(src), sizeof *dy);
    const int32_t kernel = desc->pool_kernel;
    for (int64_t i = 0; dy && i < cnn_desc_elements(from); i++) {
        if (desc->arg[CNN_ARG_INDEX].dtype == CNN_NONE) {
            dy[i] = test->in[CNN_ARG_SRC2][i];
            continue;
        }
        int64_t pixel = i / from->c, at = (int64_t)test->in[CNN_ARG_INDEX][i];
        int64_t h = pixel / from->w % from->h * desc->pool_stride + (kernel ? at / kernel : 0);
        int64_t w = pixel % from->w * desc->pool_stride + (kernel ? at % kernel : 0), n = pixel / from->w / from->h;
        if (at < (int64_t)kernel * kernel)
            dy[((n * src->h + h) * src->w + w) * src->c + i % from->c] += test->in[CNN_ARG_SRC2][i];
    }
    return dy;
}

void kc_bound_bn_grad(kc_case *test)
{
    const cnn_tensor_desc *src = &test->desc.arg[CNN_ARG_SRC];
    const double *x = test->in[CNN_ARG_SRC];
    double *dy = spread_gradient(test);
    int64_t pixels = cnn_desc_pixels(src);
    double m = (double)pixels;
    double *dst = tolerances(test, CNN_ARG_DST), *dgamma = tolerances(test, CNN_ARG_DST2);
    double *dbeta = tolerances(test, CNN_ARG_DST3);
    for (int32_t c = 0; dst && dgamma && dbeta && dy && c < src->c; c++) {
        double mean = test->in[CNN_ARG_MEAN][c], invstd = test->in[CNN_ARG_INVSTD][c];
        double scale = fabs(test->in[CNN_ARG_GAMMA][c]) * invstd;
        double sum = 0, weighted = 0; /* of |dy| and |dy| (|x| + |mean|) invstd */
        for (int64_t i = c; i < pixels * src->c; i += src->c) {
            sum += fabs(dy[i]);
            weighted += fabs(dy[i]) * (fabs(x[i]) + fabs(mean)) * invstd;
        }
        dbeta[c] = (m + 3) * u * sum;
        dgamma[c] = (m + 8) * u * weighted;
        for (int64_t i = c; i < pixels * src->c; i += src->c) {
            double xhat = fabs(x[i] - mean) * invstd, coarse = (fabs(x[i]) + fabs(mean)) * invstd;
            double error =
                6 * u * fabs(dy[i]) + (dbeta[c] + 6 * u * sum) / m +
                ((xhat + 4 * u * coarse) * dgamma[c] + 8 * u * coarse * fabs(test->want[CNN_ARG_DST2][c])) / m;
            error = scale * error + 4 * u * fabs(test->want[CNN_ARG_DST][i]);
            dst[i] = error + half_ulp(test, CNN_ARG_DST, i, error);
        }
    }
    free(dy);
}

/* ---- Loss ---- */

/* The largest magnitude of a row's scores. */
static double largest_score(const kc_case *test, cnn_arg role, int64_t row)
{
    const int64_t k = test->desc.arg[CNN_ARG_SRC].c;
    double largest = 0;
    for (int64_t j = 0; j < k; j++)
        largest = fmax(largest, fabs(test->in[role][row * k + j]));
    return largest;
}

/* What a teacher's part adds: probabilities off by `relative`, their logarithms by that, and both weighted. */
static double teacher_error(const kc_case *test, int64_t n, double *gradient)
{
    const cnn_op_desc *desc = &test->desc;
    if (desc->arg[CNN_ARG_SRC2].dtype == CNN_NONE)
        return *gradient = 0;
    const int32_t first = desc->arg[CNN_ARG_STATE].dtype != CNN_NONE ? test->state.cursor : 0;
    const bool gather = desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE;
    const int64_t image = gather ? (int64_t)test->in[CNN_ARG_INDEX][first + n] : n;
    const double t = (double)desc->temperature, mix = (double)desc->mix, k = (double)desc->arg[CNN_ARG_SRC].c;
    const double scores = (largest_score(test, CNN_ARG_SRC, n) + largest_score(test, CNN_ARG_SRC2, image)) / t;
    const double relative = (k + 20 + 6 * scores) * u;
    *gradient = 2 * mix * t * relative;
    return mix * t * t * (4 + 2 * scores + 2 * log(k + 1)) * relative;
}

/* Error of row n's loss; adds the errors of its gradient. */
static double bound_row(kc_case *test, int64_t n, double scale, double *dst)
{
    int64_t k = test->desc.arg[CNN_ARG_SRC].c;
    const double *z = test->in[CNN_ARG_SRC] + n * k;
    double smoothing = (double)test->desc.smoothing, largest = 0, soft_gradient;
    const double soft = teacher_error(test, n, &soft_gradient);
    const bool teacher = soft > 0;
    for (int64_t j = 0; j < k; j++)
        largest = fmax(largest, fabs(z[j]));
    for (int64_t j = 0; dst && j < k; j++) {
        int64_t i = n * k + j;
        double gradient = fabs(test->want[CNN_ARG_DST][i]);
        /* An exponent that is off by d gives a probability that is off by d relative; p - t loses its low bits, and a
         * probability below the normal numbers may be flushed. */
        double relative = ((double)k + 20 + 6 * largest) * u;
        bool cancels = teacher || smoothing > 0 || test->want[CNN_ARG_DST][i] < 0;
        double error = gradient * relative + (cancels ? scale * relative : 0) + scale * (soft_gradient + 0x1p-125);
        dst[i] = error + half_ulp(test, CNN_ARG_DST, i, error);
    }
    return (4 * largest + (double)k + 12 + 4 * log((double)k + 1) + smoothing * ((double)k + 4) * largest) * u + soft;
}

void kc_bound_loss(kc_case *test)
{
    const cnn_op_desc *desc = &test->desc;
    int64_t rows = desc->arg[CNN_ARG_SRC].n;
    double scale = desc->arg[CNN_ARG_STATE].dtype != CNN_NONE ? (double)test->state.loss_scale : 1;
    bool gradient = desc->arg[CNN_ARG_DST].dtype != CNN_NONE;
    double *dst = gradient ? tolerances(test, CNN_ARG_DST) : NULL;
    double *result = tolerances(test, CNN_ARG_DST2);
    double error = 0;
    for (int64_t n = 0; n < rows; n++)
        error += bound_row(test, n, scale / (double)rows, dst) / (double)rows;
    if (!result)
        return;
    result[0] = error + ((double)rows + 3) * u * fabs(test->want[CNN_ARG_DST2][0]);
    /* Which score is the largest is not defined among NaN: one row at most, see KC_ONE_BAD. */
    result[1] = isfinite(test->want[CNN_ARG_DST2][0]) ? 0 : 1;
}

/* ---- The end of a step ---- */

void kc_bound_stats(kc_case *test)
{
    /* Squares and partial sums may be f32. */
    test->sumsq_tolerance = 1e-6;
}

/* What gradients are divided by, as cnn/ops.h says. */
static double gradient_divisor(const cnn_train_state *state)
{
    double scale = (double)state->loss_scale, clip = (double)state->clip_norm;
    return clip > 0 ? scale * fmax(1, (sqrt(state->grad_sumsq) / scale + 1e-6) / clip) : scale;
}

static double rate_now(const kc_case *test)
{
    int32_t steps = test->desc.arg[CNN_ARG_TABLE].c;
    return test->in[CNN_ARG_TABLE][test->state.step < steps ? test->state.step : steps - 1];
}

/* Element i of the half-precision copy, whose parameter may be off by `error`. */
static void bound_copy(kc_case *test, int64_t i, double error, double *copy)
{
    if (!copy)
        return;
    test->want[CNN_ARG_DST3][i] = test->want[CNN_ARG_DST][i];
    copy[i] = error + half_ulp(test, CNN_ARG_DST3, i, error);
}

void kc_bound_sgd(kc_case *test)
{
    const cnn_op_desc *desc = &test->desc;
    const double *g = test->in[CNN_ARG_SRC], *w = test->in[CNN_ARG_DST], *v = test->in[CNN_ARG_DST2];
    double *params = tolerances(test, CNN_ARG_DST), *momentum = tolerances(test, CNN_ARG_DST2);
    bool copies = desc->arg[CNN_ARG_DST3].dtype != CNN_NONE;
    double *copy = copies ? tolerances(test, CNN_ARG_DST3) : NULL;
    double rate = rate_now(test), divisor = gradient_divisor(&test->state);
    double keep = (double)test->state.momentum, decay = (double)test->state.weight_decay;
    if (!params || !momentum || test->state.found_nonfinite)
        return;
    for (int32_t i = 0; i < desc->arg[CNN_ARG_SRC].c; i++) {
        double gradient = fabs(g[i] / divisor) + fabs(decay * w[i]);
        double terms = fabs(keep * v[i]) + gradient;
        double update = test->state.nesterov ? gradient + keep * terms : terms;
        momentum[i] = 5 * u * terms;
        double error = test->state.nesterov ? 4 * u * gradient + keep * momentum[i] : momentum[i];
        params[i] = rate * (error + 2 * u * update) + 2 * u * (fabs(w[i]) + rate * update);
        bound_copy(test, i, params[i], copy);
    }
}

void kc_bound_adam(kc_case *test)
{
    const cnn_train_state *state = &test->state;
    const double *g = test->in[CNN_ARG_SRC], *w = test->in[CNN_ARG_DST];
    const double *m = test->want[CNN_ARG_DST2], *v = test->want[CNN_ARG_VAR];
    double *params = tolerances(test, CNN_ARG_DST), *means = tolerances(test, CNN_ARG_DST2);
    double *squares = tolerances(test, CNN_ARG_VAR);
    double *copy = test->desc.arg[CNN_ARG_DST3].dtype != CNN_NONE ? tolerances(test, CNN_ARG_DST3) : NULL;
    double rate = rate_now(test) / (1 - pow(state->beta1, state->step + 1));
    double root = sqrt(1 - pow(state->beta2, state->step + 1)), divisor = gradient_divisor(state);
    double l2 = test->desc.decoupled_decay ? 0 : (double)state->weight_decay;
    if (!params || !means || !squares || state->found_nonfinite)
        return;
    for (int32_t i = 0; i < test->desc.arg[CNN_ARG_SRC].c; i++) {
        double gradient = fabs(g[i] / divisor) + fabs(l2 * w[i]), error = 4 * u * gradient;
        double mean = fabs(state->beta1 * test->in[CNN_ARG_DST2][i]) + (1 - state->beta1) * gradient;
        means[i] = (1 - state->beta1) * error + 4 * u * mean;
        squares[i] = 2 * (1 - state->beta2) * gradient * error + 6 * u * v[i] + 0x1p-148;
        double deviation = sqrt(v[i]), below = deviation / root + state->eps;
        double below_error = fmin(squares[i] / fmax(deviation, 0x1p-149), sqrt(squares[i])) / root + 4 * u * below;
        /* The quotient of a numerator and a denominator that are off; hopeless where the latter is all error. */
        double least = below - below_error;
        double apart = least > 0 ? (means[i] + fabs(m[i]) * below_error / below) / least : INFINITY;
        params[i] =
            rate * (apart + 5 * u * fabs(m[i]) / below) + 3 * u * (fabs(w[i]) + fabs(test->want[CNN_ARG_DST][i]));
        bound_copy(test, i, params[i], copy);
    }
}

void kc_bound_update(kc_case *test)
{
    double *dst = tolerances(test, CNN_ARG_DST);
    if (!dst || test->state.found_nonfinite)
        return;
    for (int32_t i = 0; i < test->desc.arg[CNN_ARG_SRC].c; i++)
        dst[i] = 4 * u * (fabs(test->in[CNN_ARG_SRC][i]) + fabs(test->in[CNN_ARG_DST][i]));
}
