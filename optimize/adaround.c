/* Adaptive rounding: the optimization of one output channel. Plain f32 loops in a fixed order, with a sigmoid of our
 * own, so that the bits depend on nothing but the numbers. */
#include "optimize/adaround.h"

#include "core/wide.h"
#include "kernels/cpu/exp_log.h"

#include <math.h>

enum { BATCH = CNN_ADAROUND_BATCH, LANES = 8, STEPS = 1000, QUIET_STEPS = 200 };
enum { FIRST_BETA = 20, LAST_BETA = 2 };
static const float rate = 0.1f, pull = 1.0f; /* of Adam; c of the formula */
static const float beta1 = 0.9f, beta2 = 0.999f, tiny = 1e-8f;
static const float stretch = 1.2f, overhang = 0.1f;

/* The state of a channel, [count] each. */
typedef struct state {
    float *base; /* the number below, or that of a weight that is not free */
    float *gap;  /* to the number above; 0: it is base */
    float *v, *first, *second;
    float *grad; /* of h, by the batch; before that the weights that it is computed with */
} state;

/* ---- Loops ---- */

/* y [BATCH] = sum over i of w[i] x[i], x [count][BATCH] */
CNN_WIDE_BODY void multiply_body(const float *x, const float *w, int64_t count, float *y)
{
    for (int b = 0; b < BATCH; b++)
        y[b] = 0;
    for (int64_t i = 0; i < count; i++)
        for (int b = 0; b < BATCH; b++)
            y[b] += w[i] * x[i * BATCH + b];
}
CNN_WIDE(static, multiply, multiply_body, (const float *x, const float *w, int64_t count, float *y), (x, w, count, y))

/* grad[i] = sum over b of e[b] x[i][b] */
CNN_WIDE_BODY void correlate_body(const float *x, const float *e, int64_t count, float *grad)
{
    for (int64_t i = 0; i < count; i++) {
        float lane[LANES] = {0}, sum = 0;
        for (int b = 0; b < BATCH; b += LANES)
            for (int l = 0; l < LANES; l++)
                lane[l] += e[b + l] * x[i * BATCH + b + l];
        for (int l = 0; l < LANES; l++)
            sum += lane[l];
        grad[i] = sum;
    }
}
CNN_WIDE(static, correlate, correlate_body, (const float *x, const float *e, int64_t count, float *grad),
         (x, e, count, grad))

/* 1 / (1 + exp(-v)): exp(-v) = 2^k 2^f with |f| <= 1/2, the second by a polynomial; within 1e-6. */
CNN_WIDE_BODY float sigmoid(float v)
{
    float z = v * -1.44269504f;
    z = z < -60 ? -60 : z;
    z = z > 60 ? 60 : z;
    const float k = (z + 0x1.8p23f) - 0x1.8p23f, f = z - k;
    const float p =
        1 + f * (0.693147181f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f + f * 0.00133335581f))));
    union {
        uint32_t bits;
        float value;
    } power = {.bits = (uint32_t)((int32_t)k + 127) << 23};
    return 1 / (1 + p * power.value);
}

CNN_WIDE_BODY float rectified(float s)
{
    const float h = stretch * s - overhang;
    const float low = h > 0 ? h : 0;
    return low < 1 ? low : 1;
}

/* w[i] = base + gap h(v) */
CNN_WIDE_BODY void relax_body(const float *base, const float *gap, const float *v, int64_t count, float *w)
{
    for (int64_t i = 0; i < count; i++)
        w[i] = base[i] + gap[i] * rectified(sigmoid(v[i]));
}
CNN_WIDE(static, relax, relax_body, (const float *base, const float *gap, const float *v, int64_t count, float *w),
         (base, gap, v, count, w))

/* A step of Adam. share: what the gradient of |2h-1|^beta is multiplied with; scale1, scale2: 1/(1-beta1^t), likewise.
 */
typedef struct adam {
    float share, scale1, scale2;
    int beta;
} adam;

CNN_WIDE_BODY void update_body(const state *s, int64_t count, adam a)
{
    for (int64_t begin = 0; begin < count; begin += LANES) {
        const int64_t lanes = count - begin < LANES ? count - begin : LANES;
        float away[LANES], power[LANES], slope[LANES];
        for (int64_t l = 0; l < lanes; l++) {
            const float g = sigmoid(s->v[begin + l]), h = stretch * g - overhang;
            away[l] = 2 * h - 1;
            slope[l] = h > 0 && h < 1 ? stretch * g * (1 - g) : 0;
            power[l] = away[l]; /* times |away|^(beta-2): beta is even, so that keeps the sign */
        }
        for (int e = 2; e < a.beta; e++)
            for (int64_t l = 0; l < lanes; l++)
                power[l] *= away[l];
        for (int64_t l = 0; l < lanes; l++) {
            const int64_t i = begin + l;
            const float grad = s->gap[i] * slope[l] * (s->grad[i] - a.share * power[l]);
            s->first[i] = beta1 * s->first[i] + (1 - beta1) * grad;
            s->second[i] = beta2 * s->second[i] + (1 - beta2) * grad * grad;
            s->v[i] -= rate * (s->first[i] * a.scale1) / (sqrtf(s->second[i] * a.scale2) + tiny);
        }
    }
}
CNN_WIDE(static, update, update_body, (const state *s, int64_t count, adam a), (s, count, a))

/* ---- One channel ---- */

static float activate(const cnn_adaround *c, float value)
{
    return c->relu && !(value > 0) ? 0 : value;
}

/* Mean squared error of the channel's values with weights w [count], in steps. */
static double error_of(const cnn_adaround *c, const float *w)
{
    double sum = 0;
    for (int32_t block = 0; block < c->blocks; block++) {
        float y[BATCH];
        multiply(c->x + (int64_t)block * c->count * BATCH, w, c->count, y);
        for (int b = 0; b < BATCH; b++) {
            const float wanted = activate(c, c->wanted[block * BATCH + b]);
            const double off = (double)(activate(c, c->step * y[b] + c->bias) - wanted);
            sum += off * off;
        }
    }
    return sum / ((double)c->blocks * BATCH);
}

/* The number of the first number above u; 0: all are; `numbers`: none is. */
static int first_above(const cnn_adaround *c, float u)
{
    int i = 0;
    while (i < c->numbers && (float)c->number[i] <= u)
        i++;
    return i;
}

static void begin(const cnn_adaround *c, const state *s)
{
    for (int64_t i = 0; i < c->count; i++) {
        const float u = c->w[i] / c->step;
        const int above = c->w[i] == 0 || (c->mask && !c->mask[i]) ? 0 : first_above(c, u);
        const bool open = above > 0 && above < c->numbers;
        s->base[i] = open ? (float)c->number[above - 1] : (float)c->q[i];
        s->gap[i] = open ? (float)c->number[above] - s->base[i] : 0;
        const double part = open ? (double)((u - s->base[i]) / s->gap[i]) : 0.5;
        s->v[i] = (float)cnn_log((part + (double)overhang) / (1 + (double)overhang - part));
        s->first[i] = s->second[i] = 0;
    }
}

/* The gradient of the error over that of nearest rounding with respect to each h, by one block. */
static void differentiate(const cnn_adaround *c, const state *s, int32_t block, double nearest)
{
    const float *x = c->x + (int64_t)block * c->count * BATCH;
    const float share = (float)(2 * (double)c->step / (BATCH * nearest));
    float y[BATCH], e[BATCH];
    relax(s->base, s->gap, s->v, c->count, s->grad);
    multiply(x, s->grad, c->count, y);
    for (int b = 0; b < BATCH; b++) {
        const float value = c->step * y[b] + c->bias, seen = activate(c, value);
        const float off = seen - activate(c, c->wanted[block * BATCH + b]);
        e[b] = c->relu && !(value > 0) ? 0 : share * off;
    }
    correlate(x, e, c->count, s->grad);
}

/* Even, so that |a|^beta is a^beta. */
static int beta_of(int step)
{
    const int fall = (FIRST_BETA - LAST_BETA) / 2 + 1;
    return FIRST_BETA - 2 * ((step - QUIET_STEPS) * fall / (STEPS - QUIET_STEPS));
}

void cnn_adaround_channel(const cnn_adaround *c)
{
    float *at = c->scratch;
    const int64_t count = c->count;
    const state s = {at, at + count, at + 2 * count, at + 3 * count, at + 4 * count, at + 5 * count};
    double power1 = 1, power2 = 1;
    for (int64_t i = 0; i < count; i++)
        s.grad[i] = (float)c->q[i];
    const double nearest = error_of(c, s.grad);
    if (!(nearest > 0))
        return;
    begin(c, &s);
    for (int step = 0; step < STEPS; step++) {
        adam a = {.beta = LAST_BETA};
        if (step >= QUIET_STEPS) {
            a.beta = beta_of(step);
            a.share = pull * 2 * (float)a.beta / (float)count;
        }
        power1 *= (double)beta1;
        power2 *= (double)beta2;
        a.scale1 = (float)(1 / (1 - power1));
        a.scale2 = (float)(1 / (1 - power2));
        differentiate(c, &s, step % c->blocks, nearest);
        update(&s, count, a);
    }
    relax(s.base, s.gap, s.v, count, s.grad);
    for (int64_t i = 0; i < count; i++)
        s.grad[i] = s.base[i] + (s.grad[i] - s.base[i] >= 0.5f * s.gap[i] ? s.gap[i] : 0);
    if (error_of(c, s.grad) < nearest)
        for (int64_t i = 0; i < count; i++)
            c->q[i] = (int8_t)s.grad[i];
}
