/* What ends a training step: SGD, Adam, running statistics, averages, the loss scaler.
 *
 * The decision to skip a step stays on the device: every kernel looks at STATE.found_nonfinite, which GRAD_STATS left,
 * and the host learns of it from the report. Updates are f32, rounded after each operation in the order that cnn/ops.h
 * writes it, so that they equal the reference bit for bit; what a step's constants need in double, one thread of each
 * block computes.
 *
 * Bound by memory. Per parameter SGD reads 12 bytes and writes 8, Adam reads 16 and writes 12, and 2 for the 16-bit
 * copy; a thread takes 4 parameters at a time. */
#include "kernels/cpu/loss_scaler.h"
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"

#include <string.h>

namespace
{

enum { THREADS = 256, VECTOR = 4 };
typedef cnn_vec<float, VECTOR> floats;

/* ---- A step's constants ---- */

__device__ inline float learning_rate(const cnn_train_state *state, const float *rates, int32_t steps)
{
    return rates[min(state->step, steps - 1)];
}

/* What gradients are divided by: unscales and clips. */
__device__ inline float gradient_divisor(const cnn_train_state *state)
{
    double scale = static_cast<double>(state->loss_scale);
    if (state->clip_norm > 0.0f) {
        const double norm = sqrt(state->grad_sumsq) / scale;
        scale *= fmax(1.0, (norm + 1e-6) / static_cast<double>(state->clip_norm));
    }
    return static_cast<float>(scale);
}

/* ---- SGD ---- */

struct sgd {
    float rate, divisor, decay, momentum;
    int32_t nesterov;

    __device__ void start(const cnn_train_state *state, const float *rates, int32_t steps, bool)
    {
        rate = learning_rate(state, rates, steps);
        divisor = gradient_divisor(state);
        decay = state->weight_decay;
        momentum = state->momentum;
        nesterov = state->nesterov;
    }
    /* m is the momentum. */
    __device__ void update(float g, float *w, float *m, float *) const
    {
        const float gradient = g / divisor + decay * *w;
        *m = momentum * *m + gradient;
        *w = *w - rate * (nesterov ? gradient + momentum * *m : *m);
    }
};

/* ---- Adam ---- */

struct adam {
    float rate, root, shrink, l2, divisor, eps, keep1, take1, keep2, take2;

    __device__ void start(const cnn_train_state *state, const float *rates, int32_t steps, bool decoupled)
    {
        const double lr = static_cast<double>(learning_rate(state, rates, steps));
        const double decay = static_cast<double>(state->weight_decay);
        rate = static_cast<float>(lr / (1.0 - cnn_power(state->beta1, state->step + 1)));
        root = static_cast<float>(sqrt(1.0 - cnn_power(state->beta2, state->step + 1)));
        shrink = decoupled ? static_cast<float>(1.0 - lr * decay) : 1.0f;
        l2 = decoupled ? 0.0f : state->weight_decay;
        divisor = gradient_divisor(state);
        eps = static_cast<float>(state->eps);
        keep1 = static_cast<float>(state->beta1);
        take1 = static_cast<float>(1.0 - state->beta1);
        keep2 = static_cast<float>(state->beta2);
        take2 = static_cast<float>(1.0 - state->beta2);
    }
    /* m and v are the means of gradients and of their squares. */
    __device__ void update(float g, float *w, float *m, float *v) const
    {
        const float gradient = g / divisor + l2 * *w;
        *m = keep1 * *m + take1 * gradient;
        *v = keep2 * *v + take2 * gradient * gradient;
        *w = shrink * *w - rate * *m / (sqrtf(*v) / root + eps);
    }
};

/* ---- The update ---- */

struct parameters {
    const float *gradients;
    float *values, *means, *squares; /* squares: Adam's */
    void *copy;                      /* [length] of COPY, or NULL */
    int64_t length;
};

/* Parameters i.. i+V of p; V = 1 for those behind the last vector. */
template <typename RULE, bool SQUARES, typename COPY, int V>
__device__ inline void update(const RULE &rule, const parameters &p, int64_t i)
{
    typedef cnn_vec<float, V> vec;
    const vec g = *reinterpret_cast<const vec *>(p.gradients + i);
    vec w = *reinterpret_cast<const vec *>(p.values + i), m = *reinterpret_cast<const vec *>(p.means + i);
    vec v = SQUARES ? *reinterpret_cast<const vec *>(p.squares + i) : g;
    cnn_vec<COPY, V> rounded;
#pragma unroll
    for (int at = 0; at < V; at++) {
        rule.update(g.at[at], &w.at[at], &m.at[at], &v.at[at]);
        rounded.at[at] = cnn_from_float<COPY>(w.at[at]);
    }
    *reinterpret_cast<vec *>(p.values + i) = w;
    *reinterpret_cast<vec *>(p.means + i) = m;
    if (SQUARES)
        *reinterpret_cast<vec *>(p.squares + i) = v;
    if (p.copy)
        *reinterpret_cast<cnn_vec<COPY, V> *>(static_cast<COPY *>(p.copy) + i) = rounded;
}

template <typename RULE, bool SQUARES, typename COPY>
__global__ void __launch_bounds__(THREADS)
    k_optimizer(parameters p, const cnn_train_state *state, const float *rates, int32_t steps, bool decoupled)
{
    __shared__ RULE shared;
    if (state->found_nonfinite)
        return;
    if (threadIdx.x == 0)
        shared.start(state, rates, steps, decoupled);
    __syncthreads();
    const RULE rule = shared;
    const int64_t vectors = p.length / VECTOR;
    for (int64_t i = cnn_first_item(); i < vectors; i += cnn_item_step())
        update<RULE, SQUARES, COPY, VECTOR>(rule, p, i * VECTOR);
    for (int64_t i = vectors * VECTOR + cnn_first_item(); i < p.length; i += cnn_item_step())
        update<RULE, SQUARES, COPY, 1>(rule, p, i);
}

template <typename RULE, bool SQUARES, typename COPY>
cudaError_t launch_copy(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    parameters p = {};
    p.gradients = static_cast<const float *>(arg[CNN_ARG_SRC]);
    p.values = static_cast<float *>(arg[CNN_ARG_DST]);
    p.means = static_cast<float *>(arg[CNN_ARG_DST2]);
    p.squares = static_cast<float *>(arg[CNN_ARG_VAR]);
    p.copy = arg[CNN_ARG_DST3];
    p.length = desc->arg[CNN_ARG_SRC].c;
    return CNN_LAUNCH((k_optimizer<RULE, SQUARES, COPY>), cnn_blocks(p.length / VECTOR, THREADS), THREADS, 0, stream, p,
                      static_cast<const cnn_train_state *>(arg[CNN_ARG_STATE]),
                      static_cast<const float *>(arg[CNN_ARG_TABLE]), desc->arg[CNN_ARG_TABLE].c,
                      desc->decoupled_decay);
}

template <typename RULE, bool SQUARES>
cudaError_t launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], cudaStream_t stream)
{
    if (desc->arg[CNN_ARG_DST3].dtype == CNN_BF16)
        return launch_copy<RULE, SQUARES, __nv_bfloat16>(desc, arg, stream);
    return launch_copy<RULE, SQUARES, __half>(desc, arg, stream);
}

/* ---- Running statistics and averages: dst = dst + share*(src - dst) ---- */

__global__ void __launch_bounds__(THREADS)
    k_average(const float *src, float *dst, int64_t length, const cnn_train_state *state, float momentum, bool ema)
{
    if (state->found_nonfinite)
        return;
    float share = momentum;
    if (ema) {
        const double step = static_cast<double>(state->step);
        share = static_cast<float>(1.0 - fmin(state->ema_decay, (1.0 + step) / (10.0 + step)));
    }
    const int64_t vectors = length / VECTOR;
    for (int64_t i = cnn_first_item(); i < vectors; i += cnn_item_step()) {
        const floats x = reinterpret_cast<const floats *>(src)[i];
        floats average = reinterpret_cast<const floats *>(dst)[i];
#pragma unroll
        for (int v = 0; v < VECTOR; v++)
            average.at[v] = average.at[v] + share * (x.at[v] - average.at[v]);
        reinterpret_cast<floats *>(dst)[i] = average;
    }
    for (int64_t i = vectors * VECTOR + cnn_first_item(); i < length; i += cnn_item_step())
        dst[i] = dst[i] + share * (src[i] - dst[i]);
}

cudaError_t launch_average(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], bool ema, cudaStream_t stream)
{
    const int64_t length = desc->arg[CNN_ARG_SRC].c;
    return CNN_LAUNCH(k_average, cnn_blocks(length / VECTOR, THREADS), THREADS, 0, stream,
                      static_cast<const float *>(arg[CNN_ARG_SRC]), static_cast<float *>(arg[CNN_ARG_DST]), length,
                      static_cast<const cnn_train_state *>(arg[CNN_ARG_STATE]), desc->momentum, ema);
}

/* ---- The loss scaler: one thread ---- */

/* reports may be host memory. */
__global__ void __launch_bounds__(32)
    k_loss_scale(const int32_t *flags, int32_t segments, const float *result, cnn_train_state *state,
                 cnn_step_report *reports, int32_t count, int32_t advance)
{
    if (threadIdx.x != 0)
        return;
    cnn_step_report report;
    memcpy(&report.state, state, sizeof report.state);
    const int32_t number = report.state.step + report.state.skipped;
    cnn_loss_scaler_step(&report.state, flags, segments);
    if (reports) {
        report.loss = result[0];
        report.correct = result[1];
        memcpy(&reports[number % count], &report, sizeof report);
    }
    report.state.cursor += advance;
    memcpy(state, &report.state, sizeof report.state);
}

} // namespace

cudaError_t cnn_cuda_sgd(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    return launch<sgd, false>(desc, arg, queue->stream);
}

cudaError_t cnn_cuda_adam(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    return launch<adam, true>(desc, arg, queue->stream);
}

cudaError_t cnn_cuda_bn_update(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                               const cnn_cuda_queue *queue)
{
    return launch_average(desc, arg, false, queue->stream);
}

cudaError_t cnn_cuda_ema(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *, const cnn_cuda_queue *queue)
{
    return launch_average(desc, arg, true, queue->stream);
}

cudaError_t cnn_cuda_loss_scale(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *,
                                const cnn_cuda_queue *queue)
{
    const int32_t count = desc->arg[CNN_ARG_DST].dtype == CNN_NONE
                              ? 1
                              : desc->arg[CNN_ARG_DST].c / static_cast<int32_t>(sizeof(cnn_step_report));
    return CNN_LAUNCH(k_loss_scale, 1, 32, 0, queue->stream, static_cast<const int32_t *>(arg[CNN_ARG_SRC]),
                      desc->arg[CNN_ARG_SRC].c, static_cast<const float *>(arg[CNN_ARG_SRC2]),
                      static_cast<cnn_train_state *>(arg[CNN_ARG_STATE]),
                      static_cast<cnn_step_report *>(arg[CNN_ARG_DST]), count, desc->advance);
}
