/* Measuring plans on the device's stream, with events, on zeros. */
#include "kernels/cuda/cudnn_tune.h"

#include <float.h>
#include <string.h>

enum { ROUNDS = 3, MOST_RUNS = 10, HOPELESS = 3, TENSOR_ALIGN = 256 };

static const float round_ms = 5; /* about what a round takes */

static size_t tensor_bytes(const cnn_cudnn_tensor *tensor)
{
    const size_t element = tensor->dtype == CUDNN_DATA_INT8                                           ? 1
                           : tensor->dtype == CUDNN_DATA_HALF || tensor->dtype == CUDNN_DATA_BFLOAT16 ? 2
                                                                                                      : 4;
    const size_t bytes = (size_t)(tensor->n * tensor->h * tensor->w * tensor->pitch) * element;
    return (bytes + TENSOR_ALIGN - 1) / TENSOR_ALIGN * TENSOR_ALIGN;
}

static bool in_memory(const cnn_cudnn_tensor *tensor)
{
    return !tensor->is_virtual && !tensor->by_value;
}

cnn_status cnn_cudnn_bench_open(cnn_device *device, const cnn_cudnn_graph *graph, cnn_cudnn_bench *bench)
{
    size_t bytes = 0;
    memset(bench, 0, sizeof *bench);
    bench->device = device;
    bench->scalar = 1;
    for (int i = 0; i < graph->tensor_count; i++)
        bytes += in_memory(&graph->tensors[i]) ? tensor_bytes(&graph->tensors[i]) : 0;
    cnn_status status = cnn_cuda_check(device, cudaMalloc(&bench->memory, bytes), "cudaMalloc");
    if (status == CNN_OK)
        status =
            cnn_cuda_check(device, cudaMemsetAsync(bench->memory, 0, bytes, device->queue.stream), "cudaMemsetAsync");
    if (status == CNN_OK)
        status = cnn_cuda_check(device, cudaEventCreate(&bench->begin), "cudaEventCreate");
    if (status == CNN_OK)
        status = cnn_cuda_check(device, cudaEventCreate(&bench->end), "cudaEventCreate");
    if (status != CNN_OK) {
        cnn_cudnn_bench_close(bench);
        return status;
    }
    char *next = bench->memory;
    for (int i = 0; i < graph->tensor_count; i++) {
        bench->pointers[i] = in_memory(&graph->tensors[i]) ? next : (void *)&bench->scalar;
        next += in_memory(&graph->tensors[i]) ? tensor_bytes(&graph->tensors[i]) : 0;
    }
    return CNN_OK;
}

void cnn_cudnn_bench_close(cnn_cudnn_bench *bench)
{
    (void)cudaStreamSynchronize(bench->device->queue.stream);
    if (bench->begin)
        (void)cudaEventDestroy(bench->begin);
    if (bench->end)
        (void)cudaEventDestroy(bench->end);
    (void)cudaFree(bench->memory);
}

/* The mean of some runs, one behind the other. */
static cnn_status run_round(cnn_cudnn_bench *bench, cnn_cudnn_plan *plan, void *workspace, int runs, float *ms)
{
    const cnn_device *device = bench->device;
    cnn_status status = cnn_cuda_check(device, cudaEventRecord(bench->begin, device->queue.stream), "cudaEventRecord");
    for (int i = 0; i < runs && status == CNN_OK; i++)
        status = cnn_cudnn_plan_run(plan, bench->pointers, workspace);
    if (status == CNN_OK)
        status = cnn_cuda_check(device, cudaEventRecord(bench->end, device->queue.stream), "cudaEventRecord");
    if (status == CNN_OK)
        status = cnn_cuda_check(device, cudaEventSynchronize(bench->end), "cudaEventSynchronize");
    if (status == CNN_OK)
        status = cnn_cuda_check(device, cudaEventElapsedTime(ms, bench->begin, bench->end), "cudaEventElapsedTime");
    *ms /= (float)runs;
    return status;
}

cnn_status cnn_cudnn_bench_run(cnn_cudnn_bench *bench, cnn_cudnn_plan *plan, float best_ms, float *ms)
{
    void *workspace = NULL;
    float once = 0;
    cnn_status status = CNN_OK;
    if (plan->workspace_bytes > 0)
        status = cnn_cuda_check(bench->device, cudaMalloc(&workspace, plan->workspace_bytes), "cudaMalloc");
    *ms = FLT_MAX;
    if (status == CNN_OK) /* warms up */
        status = run_round(bench, plan, workspace, 1, &once);
    if (status == CNN_OK)
        status = run_round(bench, plan, workspace, 1, &once);
    const int runs = once * MOST_RUNS < round_ms ? MOST_RUNS : once < round_ms ? (int)(round_ms / once) : 1;
    const int rounds = once / HOPELESS < best_ms ? ROUNDS : 0;
    for (int i = 0; i < rounds && status == CNN_OK; i++) {
        float round = 0;
        status = run_round(bench, plan, workspace, runs, &round);
        if (status == CNN_OK && round < *ms)
            *ms = round;
    }
    (void)cudaStreamSynchronize(bench->device->queue.stream);
    (void)cudaFree(workspace);
    return status;
}
