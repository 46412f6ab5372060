/* Softmax and cross entropy: mean loss, count of right answers, gradient of the logits.
 *
 * A warp takes one image: its lanes hold every 32nd class, sums go through shuffles in one order. All of it in double,
 * with the exp and log of the cpu backend, which is 2 exp a score and image: nothing beside a layer, even on GPUs with
 * few double units. The images' losses are left in the workspace, 16 bytes each, and the last block adds them. */
#include "kernels/cpu/exp_log.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/last_block.cuh"

namespace
{

enum { WARPS = 8, THREADS = WARPS * 32 };
constexpr unsigned ALL_LANES = 0xffffffffu;

struct batch {
    const float *scores; /* [images, classes] */
    const uint8_t *labels;
    const int32_t *index;
    const cnn_train_state *state;
    const float *teacher; /* [all images, classes] or NULL */
    int32_t images, classes;
    double smoothing, mix, temperature;
};

/* What one image leaves for the sum. */
struct image_loss {
    double loss;
    int64_t right;
};

__device__ inline double warp_sum(double value)
{
    for (int lanes = 16; lanes > 0; lanes /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, lanes);
    return value;
}

/* The first maximum, the same in all lanes; NaN is none, unless it comes first. */
__device__ inline int32_t warp_argmax(const float *z, int32_t classes, int lane)
{
    float max = -INFINITY;
    int32_t best = lane == 0 ? 0 : INT32_MAX;
    for (int32_t k = lane; k < classes; k += 32)
        if (z[k] > max) {
            max = z[k];
            best = k;
        }
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        const float other_max = __shfl_xor_sync(ALL_LANES, max, lanes);
        const int32_t other = __shfl_xor_sync(ALL_LANES, best, lanes);
        if (other_max > max || (other_max == max && other < best)) {
            max = other_max;
            best = other;
        }
    }
    return z[0] != z[0] ? 0 : best;
}

/* sum_k t[k] z[k] */
__device__ inline double target_score(const batch &b, const float *z, int32_t label, int lane)
{
    double sum = 0.0;
    if (b.smoothing == 0.0) /* 0 * inf would be NaN */
        return static_cast<double>(z[label]);
    for (int32_t k = lane; k < b.classes; k += 32)
        sum += static_cast<double>(z[k]);
    return (1.0 - b.smoothing) * static_cast<double>(z[label]) + b.smoothing / b.classes * warp_sum(sum);
}

/* log sum_k exp(z[k]/temperature), the same in all lanes. */
__device__ inline double log_sum_of(const float *z, int32_t classes, double temperature, int lane)
{
    const double max = static_cast<double>(z[warp_argmax(z, classes, lane)]) / temperature;
    double sum = 0.0;
    for (int32_t k = lane; k < classes; k += 32)
        sum += cnn_exp(static_cast<double>(z[k]) / temperature - max);
    return max + cnn_log(warp_sum(sum));
}

/* Scores over the temperature: what a teacher says of an image, or what the network does. */
struct soft_row {
    const float *z;
    double temperature, log_sum;

    __device__ double log_probability(int32_t k) const
    {
        return static_cast<double>(z[k]) / temperature - log_sum;
    }
};

__device__ inline soft_row soften(const batch &b, const float *z, int lane)
{
    const soft_row row = {z, b.temperature, log_sum_of(z, b.classes, b.temperature, lane)};
    return row;
}

/* sum_k p (log p - log q) */
__device__ inline double divergence(const soft_row &p, const soft_row &q, int32_t classes, int lane)
{
    double sum = 0.0;
    for (int32_t k = lane; k < classes; k += 32) {
        const double log_p = p.log_probability(k);
        sum += cnn_exp(log_p) * (log_p - q.log_probability(k));
    }
    return warp_sum(sum);
}

/* A warp's image: its loss and, where asked, its gradient. */
template <typename T> __device__ inline void take_image(const batch &b, int32_t n, T *gradient, image_loss *losses)
{
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int32_t image = b.index ? b.index[(b.state ? b.state->cursor : 0) + n] : n;
    const int32_t label = b.labels[image];
    const float *z = b.scores + static_cast<int64_t>(n) * b.classes;

    const int32_t best = warp_argmax(z, b.classes, lane);
    const double log_sum = log_sum_of(z, b.classes, 1.0, lane);
    double loss = log_sum - target_score(b, z, label, lane);
    soft_row p = {}, q = {};
    if (b.teacher) {
        p = soften(b, b.teacher + static_cast<int64_t>(image) * b.classes, lane);
        q = soften(b, z, lane);
        const double squared = b.temperature * b.temperature;
        loss = (1.0 - b.mix) * loss + b.mix * squared * divergence(p, q, b.classes, lane);
    }
    if (lane == 0) {
        losses[n].loss = loss;
        losses[n].right = best == label;
    }
    if (!gradient)
        return;
    const double scale = (b.state ? static_cast<double>(b.state->loss_scale) : 1.0) / b.images;
    const double off = b.smoothing / b.classes, on = 1.0 - b.smoothing + off;
    for (int32_t k = lane; k < b.classes; k += 32) {
        double value = cnn_exp(static_cast<double>(z[k]) - log_sum) - (k == label ? on : off);
        if (b.teacher)
            value = (1.0 - b.mix) * value +
                    b.mix * b.temperature * (cnn_exp(q.log_probability(k)) - cnn_exp(p.log_probability(k)));
        gradient[static_cast<int64_t>(n) * b.classes + k] = cnn_from_float<T>(static_cast<float>(value * scale));
    }
}

/* One block; result = {mean loss, right answers}. */
__device__ inline void add_losses(const image_loss *losses, int32_t images, float *result)
{
    __shared__ double sums[THREADS];
    __shared__ int64_t counts[THREADS];
    const int thread = static_cast<int>(threadIdx.x);
    image_loss sum = {0.0, 0};
    for (int32_t n = thread; n < images; n += THREADS) {
        sum.loss += losses[n].loss;
        sum.right += losses[n].right;
    }
    sum.loss = cnn_add_rows<THREADS>(sum.loss, thread, 1, sums);
    sum.right = cnn_add_rows<THREADS>(sum.right, thread, 1, counts);
    if (thread == 0) {
        result[0] = static_cast<float>(sum.loss / images);
        result[1] = static_cast<float>(sum.right);
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    k_loss(batch b, T *gradient, image_loss *losses, float *result, unsigned *ticket)
{
    const int32_t n = static_cast<int32_t>(blockIdx.x * WARPS + threadIdx.x / 32);
    if (n < b.images)
        take_image(b, n, gradient, losses);
    if (cnn_last_block(ticket, gridDim.x))
        add_losses(losses, b.images, result);
}

template <typename T>
cudaError_t launch(const batch &b, void *const arg[CNN_ARG_COUNT], void *workspace, const cnn_cuda_queue *queue)
{
    const unsigned blocks = static_cast<unsigned>((b.images + WARPS - 1) / WARPS);
    return CNN_LAUNCH(k_loss<T>, blocks, THREADS, 0, queue->stream, b, static_cast<T *>(arg[CNN_ARG_DST]),
                      static_cast<image_loss *>(workspace), static_cast<float *>(arg[CNN_ARG_DST2]), queue->tickets);
}

} // namespace

size_t cnn_cuda_loss_workspace(const cnn_op_desc *desc)
{
    return static_cast<size_t>(desc->arg[CNN_ARG_SRC].n) * sizeof(image_loss);
}

cudaError_t cnn_cuda_loss(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                          const cnn_cuda_queue *queue)
{
    batch b = {};
    b.scores = static_cast<const float *>(arg[CNN_ARG_SRC]);
    b.labels = static_cast<const uint8_t *>(arg[CNN_ARG_LABELS]);
    b.index = static_cast<const int32_t *>(arg[CNN_ARG_INDEX]);
    b.state = static_cast<const cnn_train_state *>(arg[CNN_ARG_STATE]);
    b.images = desc->arg[CNN_ARG_SRC].n;
    b.classes = desc->arg[CNN_ARG_SRC].c;
    b.smoothing = static_cast<double>(desc->smoothing);
    b.teacher = static_cast<const float *>(arg[CNN_ARG_SRC2]);
    b.mix = static_cast<double>(desc->mix);
    b.temperature = static_cast<double>(desc->temperature);
    switch (desc->arg[CNN_ARG_DST].dtype) {
    case CNN_F16:
        return launch<__half>(b, arg, workspace, queue);
    case CNN_BF16:
        return launch<__nv_bfloat16>(b, arg, workspace, queue);
    default: /* f32, or no gradient */
        return launch<float>(b, arg, workspace, queue);
    }
}
