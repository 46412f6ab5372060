/* Work on [pixels][channels] tensors, chunk by chunk. See columns.h. */
#include "kernels/cpu/columns.h"

#include <string.h>

enum { BLOCK_FLOATS = 4096, CHUNK_FLOATS = 65536, MAX_CHUNKS = 128 };

cnn_columns cnn_columns_plan(cnn_device *device, cnn_dtype dtype, int64_t pixels, int32_t channels)
{
    cnn_columns columns = {.host = device->host, .dtype = dtype, .pixels = pixels, .channels = channels};
    int64_t chunks = pixels * channels / CHUNK_FLOATS;
    chunks = chunks < 1 ? 1 : chunks > MAX_CHUNKS ? MAX_CHUNKS : chunks;
    columns.loops = cnn_cpu_loops_get(device->isa);
    columns.chunks = (int)(chunks < pixels ? chunks : pixels);
    columns.slots = device->host->threads();
    columns.block_pixels = BLOCK_FLOATS / channels > 4 ? BLOCK_FLOATS / channels / 4 * 4 : 4;
    columns.sums_bytes = cnn_cpu_aligned((size_t)(columns.chunks + 1) * 2 * (size_t)channels * sizeof(double));
    columns.block_bytes = cnn_cpu_aligned((size_t)(columns.block_pixels * channels) * sizeof(float));
    columns.workspace_bytes = columns.sums_bytes + (size_t)columns.slots * CNN_COLUMN_BLOCKS * columns.block_bytes;
    return columns;
}

typedef struct column_run {
    const cnn_columns *columns;
    cnn_column_fn run;
    const void *context;
    double *sums; /* [chunks][2][channels], NULL in apply */
    char *blocks;
} column_run;

static void column_task(void *context, int task, int worker)
{
    const column_run *run = context;
    const cnn_columns *columns = run->columns;
    float *scratch[CNN_COLUMN_BLOCKS];
    for (int i = 0; i < CNN_COLUMN_BLOCKS; i++)
        scratch[i] = (float *)(void *)(run->blocks + (size_t)(worker * CNN_COLUMN_BLOCKS + i) * columns->block_bytes);
    double *sum = NULL, *sum2 = NULL;
    if (run->sums) {
        sum = run->sums + (int64_t)task * 2 * columns->channels;
        sum2 = sum + columns->channels;
        memset(sum, 0, 2 * (size_t)columns->channels * sizeof *sum);
    }
    int64_t last = columns->pixels * (task + 1) / columns->chunks;
    for (int64_t first = columns->pixels * task / columns->chunks; first < last; first += columns->block_pixels) {
        int64_t count = last - first < columns->block_pixels ? last - first : columns->block_pixels;
        run->run(columns, run->context, first, count, scratch, sum, sum2);
    }
}

static void run_tasks(const cnn_columns *columns, void *workspace, double *sums, cnn_column_fn run, const void *context)
{
    column_run all = {columns, run, context, sums, (char *)workspace + columns->sums_bytes};
    cnn_cpu_parallel(columns->host, columns->chunks, columns->slots, column_task, &all);
}

double *cnn_columns_reduce(const cnn_columns *columns, void *workspace, cnn_column_fn run, const void *context)
{
    double *sums = workspace;
    int64_t row = 2 * (int64_t)columns->channels;
    double *total = sums + columns->chunks * row;
    run_tasks(columns, workspace, sums, run, context);
    memcpy(total, sums, (size_t)row * sizeof *total);
    for (int chunk = 1; chunk < columns->chunks; chunk++)
        for (int64_t i = 0; i < row; i++)
            total[i] += sums[chunk * row + i];
    return total;
}

void cnn_columns_apply(const cnn_columns *columns, void *workspace, cnn_column_fn run, const void *context)
{
    run_tasks(columns, workspace, NULL, run, context);
}

const float *cnn_columns_read(const cnn_columns *columns, const void *data, int64_t first, int64_t count, float *block)
{
    const char *from = (const char *)data + (size_t)(first * columns->channels) * cnn_dtype_bytes(columns->dtype);
    if (columns->dtype == CNN_F32)
        return (const float *)(const void *)from;
    columns->loops->to_f32(columns->dtype, from, block, count * columns->channels);
    return block;
}

float *cnn_columns_write(const cnn_columns *columns, cnn_dtype dtype, void *data, int64_t first, float *block)
{
    return dtype == CNN_F32 ? (float *)data + first * columns->channels : block;
}

void cnn_columns_store(const cnn_columns *columns, cnn_dtype dtype, void *data, int64_t first, int64_t count,
                       const float *block)
{
    if (dtype == CNN_F32)
        return;
    char *to = (char *)data + (size_t)(first * columns->channels) * cnn_dtype_bytes(dtype);
    columns->loops->from_f32(dtype, block, to, count * columns->channels);
}

void cnn_columns_add(const cnn_columns *columns, const void *context, int64_t first, int64_t count,
                     float *const scratch[CNN_COLUMN_BLOCKS], double *sum, double *sum2)
{
    (void)sum2;
    const float *x = cnn_columns_read(columns, context, first, count, scratch[0]);
    columns->loops->column_sums(x, count, columns->channels, sum);
}

cnn_columns cnn_columns_plan_bias(cnn_cpu_kernel *kernel)
{
    const cnn_op_desc *desc = &kernel->base.desc;
    const cnn_tensor_desc *dy = &desc->arg[CNN_ARG_SRC2];
    if (desc->arg[CNN_ARG_DST2].dtype == CNN_NONE)
        return (cnn_columns){0};
    const cnn_columns plan = cnn_columns_plan(kernel->device, dy->dtype, (int64_t)dy->n * dy->h * dy->w, dy->c);
    if (plan.workspace_bytes > kernel->base.workspace_bytes)
        kernel->base.workspace_bytes = plan.workspace_bytes;
    return plan;
}

void cnn_columns_bias_grad(const cnn_columns *columns, void *workspace, const void *dy, float *db)
{
    const double *sum = cnn_columns_reduce(columns, workspace, cnn_columns_add, dy);
    for (int32_t k = 0; k < columns->channels; k++)
        db[k] = (float)sum[k];
}
