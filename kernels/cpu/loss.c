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

/* dlogits = (softmax(z) - t) * scale of image n. */
static void store_gradient(const loss_run *run, int64_t n, const float *z, int32_t label, double log_sum)
{
    const cnn_tensor_desc *dst = &run->kernel->cpu.base.desc.arg[CNN_ARG_DST];
    const double smoothing = (double)run->kernel->cpu.base.desc.smoothing;
    const double off = smoothing / dst->c, on = 1.0 - smoothing + off;
    float piece[PIECE];
    for (int32_t first = 0; first < dst->c; first += PIECE) {
        int32_t count = dst->c - first < PIECE ? dst->c - first : PIECE;
        for (int32_t k = 0; k < count; k++) {
            double probability = cnn_exp((double)z[first + k] - log_sum);
            piece[k] = (float)((probability - (first + k == label ? on : off)) * run->scale);
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
    int32_t label = ((const uint8_t *)run->args[CNN_ARG_LABELS])[index ? index[task] : task];
    const float *z = (const float *)run->args[CNN_ARG_SRC] + (int64_t)task * classes;
    (void)worker;
    int32_t best = argmax(z, classes);
    double max = (double)z[best], sum = 0;
    for (int32_t k = 0; k < classes; k++)
        sum += cnn_exp((double)z[k] - max);
    double log_sum = max + cnn_log(sum);
    run->images[task].loss = log_sum - target_score(z, classes, label, (double)desc->smoothing);
    run->images[task].right = best == label;
    if (desc->arg[CNN_ARG_DST].dtype != CNN_NONE)
        store_gradient(run, task, z, label, log_sum);
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
