/* Depthwise convolutions in float: forward, data gradient, weight gradient.
 *
 * A task is some lines of an image. What they read is first made f32 where it is not; a line's sums are f32 and end as
 * the epilogue says. Weights are turned to [R*S][C] by every run, so that vectors run over channels: they are few.
 *
 * Weight gradients are summed by parts, images or ranges of their lines, which follow from the shape; the parts of each
 * weight are then added in order, in double. */
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/depthwise.h"

typedef struct depthwise_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_depthwise d;
    cnn_op_desc end; /* the epilogue behind the bias */
    int32_t lines;   /* of a task */
    int32_t parts;   /* of an image in a weight gradient */
    int32_t out_n;   /* images */
    bool bias;
    int slots;
    size_t weights_bytes, bias_bytes, sums_bytes, db_bytes; /* of the workspace, then the slots */
    size_t rows_bytes, line_bytes, slot_bytes;
} depthwise_kernel;

typedef struct depthwise_job {
    const depthwise_kernel *kernel;
    void *const *args;
    float *weights; /* [R*S][C] */
    float *bias;    /* [out_w][C], or NULL */
    float *sums;    /* [parts][R*S][C] of a weight gradient */
    double *db;     /* [parts][C] */
    char *slots;    /* a slot: rows as f32, a line as f32 */
} depthwise_job;

static const void *element(const cnn_tensor_desc *desc, const void *data, int64_t pixel)
{
    return (const char *)data + (size_t)(pixel * desc->c) * cnn_dtype_bytes(desc->dtype);
}

static float *slot_rows(const depthwise_job *job, int worker)
{
    return (float *)(void *)(job->slots + (size_t)worker * job->kernel->slot_bytes);
}

static float *slot_line(const depthwise_job *job, int worker)
{
    return (float *)(void *)(job->slots + (size_t)worker * job->kernel->slot_bytes + job->kernel->rows_bytes);
}

/* What lines [first, last) of image n read, as f32, from row *base on. */
static const float *read_rows(const depthwise_job *job, int32_t n, int32_t first, int32_t last, int worker,
                              int32_t *base)
{
    const cnn_depthwise *d = &job->kernel->d;
    const cnn_tensor_desc *src = &job->kernel->cpu.base.desc.arg[CNN_ARG_SRC];
    const int32_t count = cnn_depthwise_rows(d, first, last, base);
    const void *rows = element(src, job->args[CNN_ARG_SRC], ((int64_t)n * d->in_h + *base) * d->in_w);
    if (src->dtype == CNN_F32)
        return rows;
    float *wide = slot_rows(job, worker);
    job->kernel->loops->to_f32(src->dtype, rows, wide, (int64_t)count * d->in_w * d->channels);
    return wide;
}

/* ---- Forward and data gradient ---- */

typedef struct line_run {
    const cnn_cpu_loops *loops;
    const float *x, *w;
    float *y;
    int32_t channels;
} line_run;

static void run_piece(void *context, const cnn_depthwise_taps *taps, int32_t column)
{
    const line_run *run = context;
    run->loops->depthwise(taps, run->x, run->w, run->y + (ptrdiff_t)column * run->channels);
}

static void lines_task(void *context, int task, int worker)
{
    const depthwise_job *job = context;
    const depthwise_kernel *kernel = job->kernel;
    const cnn_depthwise *d = &kernel->d;
    const int32_t tasks = (d->out_h + kernel->lines - 1) / kernel->lines;
    const int32_t n = task / tasks, first = task % tasks * kernel->lines;
    const int32_t last = first + kernel->lines < d->out_h ? first + kernel->lines : d->out_h;
    const int32_t values = d->out_w * d->channels;
    int32_t base;
    line_run run = {kernel->loops, read_rows(job, n, first, last, worker, &base), job->weights, slot_line(job, worker),
                    d->channels};
    for (int32_t line = first; line < last; line++) {
        cnn_depthwise_line(d, line, base, run_piece, &run);
        if (job->bias)
            kernel->loops->add(run.y, job->bias, run.y, values);
        cnn_epilogue_store(kernel->loops, &kernel->end, job->args, run.y, ((int64_t)n * d->out_h + line) * d->out_w, 0,
                           values);
    }
}

/* [C][R*S] to [R*S][C] in f32. */
static void turn_weights(const depthwise_job *job)
{
    const cnn_depthwise *d = &job->kernel->d;
    const cnn_tensor_desc *weight = &job->kernel->cpu.base.desc.arg[CNN_ARG_WEIGHT];
    const int32_t taps = d->r * d->s;
    float filter[CNN_DEPTHWISE_MOST_TAPS];
    for (int32_t c = 0; c < d->channels; c++) {
        job->kernel->loops->to_f32(weight->dtype, element(weight, job->args[CNN_ARG_WEIGHT], (int64_t)c * taps), filter,
                                   taps);
        for (int32_t t = 0; t < taps; t++)
            job->weights[(ptrdiff_t)t * d->channels + c] = filter[t];
    }
}

static cnn_status run_lines(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const depthwise_kernel *kernel = (const depthwise_kernel *)base;
    const cnn_depthwise *d = &kernel->d;
    char *memory = workspace;
    depthwise_job job = {.kernel = kernel, .args = args, .weights = (float *)(void *)memory};
    memory += kernel->weights_bytes;
    turn_weights(&job);
    if (kernel->bias) {
        job.bias = (float *)(void *)memory;
        for (int32_t i = 0; i < d->out_w; i++)
            memcpy(job.bias + (ptrdiff_t)i * d->channels, args[CNN_ARG_BIAS], (size_t)d->channels * sizeof *job.bias);
    }
    job.slots = memory + kernel->bias_bytes;
    const int32_t tasks = (d->out_h + kernel->lines - 1) / kernel->lines;
    cnn_cpu_parallel(kernel->cpu.device->host, kernel->out_n * tasks, kernel->slots, lines_task, &job);
    return CNN_OK;
}

/* ---- Weight gradient ---- */

typedef struct grad_run {
    const cnn_cpu_loops *loops;
    const float *x, *dy;
    float *sums;
    int32_t channels;
} grad_run;

static void grad_piece(void *context, const cnn_depthwise_taps *taps, int32_t column)
{
    const grad_run *run = context;
    run->loops->depthwise_grad(taps, run->x, run->dy + (ptrdiff_t)column * run->channels, run->sums);
}

static void part_task(void *context, int task, int worker)
{
    const depthwise_job *job = context;
    const depthwise_kernel *kernel = job->kernel;
    const cnn_depthwise *d = &kernel->d;
    const cnn_tensor_desc *dy = &kernel->cpu.base.desc.arg[CNN_ARG_SRC2];
    const int32_t n = task / kernel->parts, part = task % kernel->parts;
    const int32_t begin = (int32_t)((int64_t)d->out_h * part / kernel->parts);
    const int32_t end = (int32_t)((int64_t)d->out_h * (part + 1) / kernel->parts);
    const ptrdiff_t filters = (ptrdiff_t)d->r * d->s * d->channels;
    grad_run run = {.loops = kernel->loops, .sums = job->sums + task * filters, .channels = d->channels};
    double *db = job->db ? job->db + (ptrdiff_t)task * d->channels : NULL;
    memset(run.sums, 0, (size_t)filters * sizeof *run.sums);
    if (db)
        memset(db, 0, (size_t)d->channels * sizeof *db);
    for (int32_t first = begin; first < end; first += kernel->lines) {
        const int32_t last = first + kernel->lines < end ? first + kernel->lines : end;
        int32_t base;
        run.x = read_rows(job, n, first, last, worker, &base);
        for (int32_t line = first; line < last; line++) {
            run.dy = element(dy, job->args[CNN_ARG_SRC2], ((int64_t)n * d->out_h + line) * d->out_w);
            if (dy->dtype != CNN_F32) {
                float *wide = slot_line(job, worker);
                kernel->loops->to_f32(dy->dtype, run.dy, wide, (int64_t)d->out_w * d->channels);
                run.dy = wide;
            }
            cnn_depthwise_line(d, line, base, grad_piece, &run);
            if (db)
                kernel->loops->column_sums(run.dy, d->out_w, d->channels, db);
        }
    }
}

static void join_parts(const depthwise_job *job, int32_t parts)
{
    const cnn_depthwise *d = &job->kernel->d;
    const int32_t taps = d->r * d->s;
    float *dw = job->args[CNN_ARG_DST], *db = job->args[CNN_ARG_DST2];
    for (int32_t t = 0; t < taps; t++)
        for (int32_t c = 0; c < d->channels; c++) {
            double sum = 0;
            for (int32_t part = 0; part < parts; part++)
                sum += (double)job->sums[((ptrdiff_t)part * taps + t) * d->channels + c];
            dw[(ptrdiff_t)c * taps + t] = (float)sum;
        }
    for (int32_t c = 0; job->db && c < d->channels; c++) {
        double sum = 0;
        for (int32_t part = 0; part < parts; part++)
            sum += job->db[(ptrdiff_t)part * d->channels + c];
        db[c] = (float)sum;
    }
}

static cnn_status run_grad(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const depthwise_kernel *kernel = (const depthwise_kernel *)base;
    const int32_t parts = kernel->out_n * kernel->parts;
    char *memory = workspace;
    depthwise_job job = {.kernel = kernel, .args = args, .sums = (float *)(void *)memory};
    if (args[CNN_ARG_DST2])
        job.db = (double *)(void *)(memory + kernel->sums_bytes);
    job.slots = memory + kernel->sums_bytes + kernel->db_bytes;
    cnn_cpu_parallel(kernel->cpu.device->host, parts, kernel->slots, part_task, &job);
    join_parts(&job, parts);
    return CNN_OK;
}

/* ---- The kernel ---- */

bool cnn_cpu_depthwise_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype))
        return cnn_refuse(why, "src must be float");
    return cnn_unpadded(desc, why) && cnn_epilogue_suits(desc, why) && cnn_depthwise_suits(desc, why);
}

/* Ends of lines go through the epilogue as a whole; the bias, which differs by channel, before. */
static void split_bias(depthwise_kernel *kernel, const cnn_op_desc *desc)
{
    kernel->end = *desc;
    kernel->bias = desc->epilogue_count > 0 && desc->epilogue[0] == CNN_EPILOGUE_BIAS;
    for (int32_t i = 1; kernel->bias && i < desc->epilogue_count; i++)
        kernel->end.epilogue[i - 1] = desc->epilogue[i];
    kernel->end.epilogue_count -= kernel->bias;
}

static void choose_memory(depthwise_kernel *kernel, const cnn_op_desc *desc)
{
    enum { LEAST_PARTS = 16 }; /* of a weight gradient, so that threads have something to share */
    const cnn_depthwise *d = &kernel->d;
    const bool wgrad = desc->op == CNN_OP_GROUP_CONV_WGRAD;
    const size_t channels = (size_t)d->channels, filters = (size_t)(d->r * d->s) * channels;
    kernel->parts = kernel->out_n < LEAST_PARTS ? (LEAST_PARTS + kernel->out_n - 1) / kernel->out_n : 1;
    if (kernel->parts > d->out_h)
        kernel->parts = d->out_h;
    kernel->slots = kernel->cpu.device->host->threads();
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_F32)
        kernel->rows_bytes = cnn_cpu_aligned((size_t)cnn_depthwise_most_rows(d, kernel->lines) * (size_t)d->in_w *
                                             channels * sizeof(float));
    kernel->line_bytes = cnn_cpu_aligned((size_t)d->out_w * channels * sizeof(float));
    kernel->slot_bytes = kernel->rows_bytes + kernel->line_bytes;
    if (wgrad) {
        const size_t parts = (size_t)kernel->out_n * (size_t)kernel->parts;
        kernel->sums_bytes = cnn_cpu_aligned(parts * filters * sizeof(float));
        kernel->db_bytes = cnn_cpu_aligned(parts * channels * sizeof(double));
    } else {
        kernel->weights_bytes = cnn_cpu_aligned(filters * sizeof(float));
        kernel->bias_bytes = kernel->bias ? kernel->line_bytes : 0;
    }
    kernel->cpu.base.workspace_bytes = kernel->weights_bytes + kernel->bias_bytes + kernel->sums_bytes +
                                       kernel->db_bytes + (size_t)kernel->slots * kernel->slot_bytes;
}

cnn_status cnn_cpu_depthwise_float_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    depthwise_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    static const char *const names[] = {"depthwise", "depthwise_dgrad", "depthwise_wgrad"};
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->d = cnn_depthwise_of(desc);
    kernel->lines = cnn_depthwise_task_lines(&kernel->d);
    kernel->out_n = desc->arg[CNN_ARG_SRC].n;
    split_bias(kernel, desc);
    choose_memory(kernel, desc);
    kernel->cpu.base.run = desc->op == CNN_OP_GROUP_CONV_WGRAD ? run_grad : run_lines;
    cnn_cpu_kernel_name_float(&kernel->cpu, names[desc->op - CNN_OP_GROUP_CONV], desc->arg[CNN_ARG_SRC].dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
