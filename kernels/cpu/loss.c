/* Softmax and cross entropy: mean loss, count of right answers, gradient of the logits. All of it in double, with our
 * own exp and log. A task is one image; the images' losses are added in order. */
#include "kernels/cpu/exp_log.h"
#include "kernels/cpu/floats.h"

enum { PIECE = 256 /* classes rounded at a time */ };

typedef struct loss_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
} loss_kernel;

typedef struct image_loss {
    double loss;
    int32_t right;
} image_loss;

typedef struct loss_run {
    const loss_kernel *kernel;
    void *const *args;
    image_loss *images; /* [N] */
    double scale;
} loss_run;

/* The first maximum; NaN is none. */
static int32_t argmax(const float *z, int32_t classes)
{
    int32_t best = 0;
    for (int32_t k = 1; k < classes; k++)
        if (z[k] > z[best])
            best = k;
    return best;
}

/* sum_k t[k] z[k], t as cnn/ops.h says. */
static double target_score(const float *z, int32_t classes, int32_t label, double smoothing)
{
    if (smoothing == 0.0) /* 0 * inf would be NaN */
        return (double)z[label];
    double sum = 0;
    for (int32_t k = 0; k < classes; k++)
        sum += (double)z[k];
    return (1.0 - smoothing) * (double)z[label] + smoothing / classes * sum;
}

/* log sum_k exp(z[k]/temperature) */
static double log_sum_of(const float *z, int32_t classes, double temperature)
{
    const double max = (double)z[argmax(z, classes)] / temperature;
    double sum = 0;
    for (int32_t k = 0; k < classes; k++)
        sum += cnn_exp((double)z[k] / temperature - max);
    return max + cnn_log(sum);
}

/* Scores over the temperature: what a teacher says of an image, or what the network does. */
typedef struct soft_row {
    const float *z;
    double temperature, log_sum;
} soft_row;

static soft_row soften(const float *z, int32_t classes, double temperature)
{
    return (soft_row){z, temperature, log_sum_of(z, classes, temperature)};
}

static double log_probability(const soft_row *soft, int32_t k)
{
    return (double)soft->z[k] / soft->temperature - soft->log_sum;
}

/* sum_k p (log p - log q) */
static double divergence(const soft_row *p, const soft_row *q, int32_t classes)
{
    double sum = 0;
    for (int32_t k = 0; k < classes; k++) {
        const double log_p = log_probability(p, k);
        sum += cnn_exp(log_p) * (log_p - log_probability(q, k));
    }
    return sum;
}

/* dlogits of image n; p and q with a teacher, else NULL. */
static void store_gradient(const loss_run *run, int64_t n, const float *z, int32_t label, double log_sum,
                           const soft_row *p, const soft_row *q)
{
    const cnn_tensor_desc *dst = &run->kernel->cpu.base.desc.arg[CNN_ARG_DST];
    const double smoothing = (double)run->kernel->cpu.base.desc.smoothing;
    const double off = smoothing / dst->c, on = 1.0 - smoothing + off;
    const double mix = (double)run->kernel->cpu.base.desc.mix;
    float piece[PIECE];
    for (int32_t first = 0; first < dst->c; first += PIECE) {
        int32_t count = dst->c - first < PIECE ? dst->c - first : PIECE;
        for (int32_t k = 0; k < count; k++) {
            double gradient = cnn_exp((double)z[first + k] - log_sum) - (first + k == label ? on : off);
            if (p)
                gradient = (1.0 - mix) * gradient +
                           mix * p->temperature *
                               (cnn_exp(log_probability(q, first + k)) - cnn_exp(log_probability(p, first + k)));
            piece[k] = (float)(gradient * run->scale);
        }
        size_t offset = (size_t)(n * dst->c + first) * cnn_dtype_bytes(dst->dtype);
        run->kernel->loops->from_f32(dst->dtype, piece, (char *)run->args[CNN_ARG_DST] + offset, count);
    }
}

static void loss_task(void *context, int task, int worker)
{
    const loss_run *run = context;
    const cnn_op_desc *desc = &run->kernel->cpu.base.desc;
    const cnn_train_state *state = run->args[CNN_ARG_STATE];
    const int32_t *index = run->args[CNN_ARG_INDEX];
    if (index && state)
        index += state->cursor;
    int32_t classes = desc->arg[CNN_ARG_SRC].c;
    const int32_t image = index ? index[task] : task;
    int32_t label = ((const uint8_t *)run->args[CNN_ARG_LABELS])[image];
    const float *z = (const float *)run->args[CNN_ARG_SRC] + (int64_t)task * classes;
    (void)worker;
    const double log_sum = log_sum_of(z, classes, 1.0), mix = (double)desc->mix;
    image_loss *result = &run->images[task];
    result->loss = log_sum - target_score(z, classes, label, (double)desc->smoothing);
    result->right = argmax(z, classes) == label;
    soft_row p, q;
    const bool teacher = run->args[CNN_ARG_SRC2] != NULL;
    if (teacher) {
        const double temperature = (double)desc->temperature;
        p = soften((const float *)run->args[CNN_ARG_SRC2] + (int64_t)image * classes, classes, temperature);
        q = soften(z, classes, temperature);
        result->loss = (1.0 - mix) * result->loss + mix * temperature * temperature * divergence(&p, &q, classes);
    }
    if (desc->arg[CNN_ARG_DST].dtype != CNN_NONE)
        store_gradient(run, task, z, label, log_sum, teacher ? &p : NULL, teacher ? &q : NULL);
}

static cnn_status loss_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const loss_kernel *kernel = (const loss_kernel *)base;
    const cnn_train_state *state = args[CNN_ARG_STATE];
    int32_t images = base->desc.arg[CNN_ARG_SRC].n;
    double loss_scale = state ? (double)state->loss_scale : 1.0;
    loss_run run = {kernel, args, workspace, loss_scale / images};
    kernel->cpu.device->host->parallel(images, loss_task, &run);
    double loss = 0;
    int32_t right = 0;
    for (int32_t n = 0; n < images; n++) {
        loss += run.images[n].loss;
        right += run.images[n].right;
    }
    float *result = args[CNN_ARG_DST2];
    result[0] = (float)(loss / images);
    result[1] = (float)right;
    return CNN_OK;
}

bool cnn_cpu_loss_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    return cnn_unpadded(desc, why);
}

cnn_status cnn_cpu_loss_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    loss_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->cpu.base.workspace_bytes = (size_t)desc->arg[CNN_ARG_SRC].n * sizeof(image_loss);
    kernel->cpu.base.run = loss_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, "loss", CNN_F32);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
