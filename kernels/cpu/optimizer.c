/* What ends a training step: gradient statistics, SGD and Adam, BN running statistics, averages, the loss scaler.
 */
#include "kernels/cpu/flat.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/loss_scaler.h"

#include <math.h>
#include <string.h>

enum { LEAST_TASKS = 4 }; /* of SGD and ADAM, if there are blocks enough */

typedef struct optimizer_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    int64_t count; /* elements of SRC */
} optimizer_kernel;

typedef struct optimizer_run optimizer_run;

struct optimizer_run {
    const optimizer_kernel *kernel;
    void *const *args;
    double *sums; /* one a task */
    int64_t first, last;
    void (*move)(const optimizer_run *run, int64_t first, int64_t count); /* SGD, ADAM */
    cnn_adam_step adam;
    float divisor; /* of gradients */
    float rate;    /* of learning; share that averages move */
};

/* ---- GRAD_STATS ---- */

/* Sum of squares of one task's part of [run->first, run->last). Squares of floats cannot overflow a double, so the
 * sum is finite exactly when all elements are. */
static void stats_task(void *context, int task, int worker)
{
    const optimizer_run *run = context;
    int64_t first, last = cnn_flat_range(task, run->last - run->first, &first);
    (void)worker;
    run->sums[task] =
        run->kernel->loops->sum_squares((const float *)run->args[CNN_ARG_SRC] + run->first + first, last - first);
}

static cnn_status grad_stats_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const optimizer_kernel *kernel = (const optimizer_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    const int32_t *offset = args[CNN_ARG_INDEX]; /* [T+1] */
    cnn_train_state *state = args[CNN_ARG_STATE];
    int32_t *flags = args[CNN_ARG_DST]; /* [T] */
    state->found_nonfinite = 0;
    state->grad_sumsq = 0;
    for (int32_t t = 0; t < base->desc.arg[CNN_ARG_DST].c; t++) {
        optimizer_run run = {
            .kernel = kernel, .args = args, .sums = workspace, .first = offset[t], .last = offset[t + 1]};
        int tasks = cnn_flat_tasks(run.last - run.first);
        host->parallel(tasks, stats_task, &run);
        double sum = 0;
        for (int i = 0; i < tasks; i++)
            sum += run.sums[i];
        flags[t] = !isfinite(sum);
        state->found_nonfinite |= flags[t];
        state->grad_sumsq += sum;
    }
    return CNN_OK;
}

/* ---- SGD, ADAM ---- */

/* What gradients are divided by: unscales and clips. */
static float gradient_divisor(const cnn_train_state *state)
{
    const double scale = (double)state->loss_scale;
    if (!(state->clip_norm > 0.0f))
        return state->loss_scale;
    const double over = (sqrt(state->grad_sumsq) / scale + 1e-6) / (double)state->clip_norm;
    return (float)(scale * fmax(1.0, over));
}

static void sgd_move(const optimizer_run *run, int64_t first, int64_t count)
{
    const cnn_cpu_loops *loops = run->kernel->loops;
    const cnn_train_state *state = run->args[CNN_ARG_STATE];
    (state->nesterov ? loops->sgd_nesterov : loops->sgd)(
        (const float *)run->args[CNN_ARG_SRC] + first, (float *)run->args[CNN_ARG_DST] + first,
        (float *)run->args[CNN_ARG_DST2] + first, count, run->divisor, state->weight_decay, state->momentum, run->rate);
}

static void adam_move(const optimizer_run *run, int64_t first, int64_t count)
{
    run->kernel->loops->adam((const float *)run->args[CNN_ARG_SRC] + first, (float *)run->args[CNN_ARG_DST] + first,
                             (float *)run->args[CNN_ARG_DST2] + first, (float *)run->args[CNN_ARG_VAR] + first, count,
                             &run->adam);
}

/* Elements of a task: small networks are moved by several threads too. */
static int64_t update_piece(int64_t count)
{
    const int64_t blocks = (count + CNN_FLAT_BLOCK - 1) / CNN_FLAT_BLOCK;
    const int64_t share = (blocks + LEAST_TASKS - 1) / LEAST_TASKS * CNN_FLAT_BLOCK;
    return share < CNN_FLAT_TASK ? share : CNN_FLAT_TASK;
}

/* Moves parameters block by block and rounds the copy of each while it is in cache. */
static void update_task(void *context, int task, int worker)
{
    const optimizer_run *run = context;
    const optimizer_kernel *kernel = run->kernel;
    cnn_dtype copy = kernel->cpu.base.desc.arg[CNN_ARG_DST3].dtype;
    const int64_t piece = update_piece(kernel->count), end = (task + 1) * piece;
    const int64_t last = end < kernel->count ? end : kernel->count;
    (void)worker;
    for (int64_t first = task * piece; first < last; first += CNN_FLAT_BLOCK) {
        int64_t count = last - first < CNN_FLAT_BLOCK ? last - first : CNN_FLAT_BLOCK;
        run->move(run, first, count);
        if (copy != CNN_NONE)
            kernel->loops->from_f32(copy, (const float *)run->args[CNN_ARG_DST] + first,
                                    (char *)run->args[CNN_ARG_DST3] + (size_t)first * cnn_dtype_bytes(copy), count);
    }
}

static cnn_adam_step adam_step(const cnn_op_desc *desc, const cnn_train_state *state, float divisor, float rate)
{
    const double lr = (double)rate, decay = (double)state->weight_decay;
    const int32_t t = state->step < INT32_MAX ? state->step + 1 : INT32_MAX;
    return (cnn_adam_step){
        .divisor = divisor,
        .l2 = desc->decoupled_decay ? 0.0f : state->weight_decay,
        .keep1 = (float)state->beta1,
        .take1 = (float)(1.0 - state->beta1),
        .keep2 = (float)state->beta2,
        .take2 = (float)(1.0 - state->beta2),
        .shrink = desc->decoupled_decay ? (float)(1.0 - lr * decay) : 1.0f,
        .rate = (float)(lr / (1.0 - cnn_power(state->beta1, t))),
        .root = (float)sqrt(1.0 - cnn_power(state->beta2, t)),
        .eps = (float)state->eps,
    };
}

static cnn_status update_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const optimizer_kernel *kernel = (const optimizer_kernel *)base;
    const cnn_train_state *state = args[CNN_ARG_STATE];
    const float *rates = args[CNN_ARG_TABLE];
    int32_t steps = base->desc.arg[CNN_ARG_TABLE].c;
    (void)workspace;
    if (state->found_nonfinite)
        return CNN_OK;
    optimizer_run run = {.kernel = kernel,
                         .args = args,
                         .move = base->desc.op == CNN_OP_ADAM ? adam_move : sgd_move,
                         .divisor = gradient_divisor(state),
                         .rate = rates[state->step < steps ? state->step : steps - 1]};
    if (base->desc.op == CNN_OP_ADAM)
        run.adam = adam_step(&base->desc, state, run.divisor, run.rate);
    const int64_t piece = update_piece(kernel->count);
    kernel->cpu.device->host->parallel((int)((kernel->count + piece - 1) / piece), update_task, &run);
    return CNN_OK;
}

/* ---- BN_UPDATE, EMA: averages that approach a value ---- */

static void approach_task(void *context, int task, int worker)
{
    const optimizer_run *run = context;
    int64_t first, last = cnn_flat_range(task, run->kernel->count, &first);
    (void)worker;
    run->kernel->loops->approach((const float *)run->args[CNN_ARG_SRC] + first, (float *)run->args[CNN_ARG_DST] + first,
                                 last - first, run->rate);
}

static cnn_status approach_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const optimizer_kernel *kernel = (const optimizer_kernel *)base;
    const cnn_train_state *state = args[CNN_ARG_STATE];
    const double step = state->step;
    optimizer_run run = {.kernel = kernel, .args = args, .rate = base->desc.momentum};
    (void)workspace;
    if (state->found_nonfinite)
        return CNN_OK;
    if (base->desc.op == CNN_OP_EMA)
        run.rate = (float)(1.0 - fmin(state->ema_decay, (1.0 + step) / (10.0 + step)));
    kernel->cpu.device->host->parallel(cnn_flat_tasks(kernel->count), approach_task, &run);
    return CNN_OK;
}

/* ---- LOSS_SCALE ---- */

static cnn_status loss_scale_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    cnn_train_state *state = args[CNN_ARG_STATE];
    cnn_step_report *reports = args[CNN_ARG_DST];
    const float *result = args[CNN_ARG_SRC2];
    const int32_t number = state->step + state->skipped;
    (void)workspace;
    cnn_loss_scaler_step(state, args[CNN_ARG_SRC], base->desc.arg[CNN_ARG_SRC].c);
    if (reports) {
        const int32_t count = base->desc.arg[CNN_ARG_DST].c / (int32_t)sizeof *reports;
        cnn_step_report *report = &reports[number % count];
        report->loss = result[0];
        report->correct = result[1];
        memcpy(&report->state, state, sizeof *state);
    }
    state->cursor += base->desc.advance;
    return CNN_OK;
}

/* ---- The kernels ---- */

typedef cnn_status (*kernel_run)(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace);

static kernel_run run_of(cnn_op op)
{
    switch (op) {
    case CNN_OP_GRAD_STATS:
        return grad_stats_run;
    case CNN_OP_SGD:
    case CNN_OP_ADAM:
        return update_run;
    case CNN_OP_LOSS_SCALE:
        return loss_scale_run;
    default:
        return approach_run;
    }
}

bool cnn_cpu_optimizer_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (desc->op == CNN_OP_GRAD_STATS && desc->arg[CNN_ARG_SRC2].dtype != CNN_NONE)
        return cnn_refuse(why, "it leaves running statistics to bn_update");
    return cnn_unpadded(desc, why);
}

cnn_status cnn_cpu_optimizer_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    optimizer_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    cnn_kernel *base = &kernel->cpu.base;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->count = cnn_desc_elements(&desc->arg[CNN_ARG_SRC]);
    base->run = run_of(desc->op);
    if (desc->op == CNN_OP_GRAD_STATS)
        base->workspace_bytes = (size_t)(cnn_flat_tasks(kernel->count) + 1) * sizeof(double);
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, desc->arg[CNN_ARG_SRC].dtype);
    *made = base;
    return CNN_OK;
}
