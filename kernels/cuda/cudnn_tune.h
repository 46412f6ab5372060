/* Measuring plans, for --autotune. */
#ifndef CNN_CUDA_CUDNN_TUNE_H
#define CNN_CUDA_CUDNN_TUNE_H

#include "kernels/cuda/cudnn_plan.h"

/* Memory and events that the candidates of one graph are measured with. */
typedef struct cnn_cudnn_bench {
    cnn_device *device;
    void *pointers[CNN_CUDNN_TENSORS];
    void *memory; /* all tensors of the graph, zeros */
    float scalar; /* of tensors by value */
    cudaEvent_t begin, end;
} cnn_cudnn_bench;

/* On failure the error is recorded and nothing is kept; free it after success. */
cnn_status cnn_cudnn_bench_open(cnn_device *device, const cnn_cudnn_graph *graph, cnn_cudnn_bench *bench);
void cnn_cudnn_bench_close(cnn_cudnn_bench *bench);

/* The time of one run in milliseconds: the least mean of several rounds; FLT_MAX where one run shows that it comes
 * nowhere near best_ms. */
cnn_status cnn_cudnn_bench_run(cnn_cudnn_bench *bench, cnn_cudnn_plan *plan, float best_ms, float *ms);

#endif
