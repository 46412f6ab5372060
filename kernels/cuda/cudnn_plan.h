/* Plans: a graph, the engine of cuDNN that runs it, and its workspace.
 *
 * cuDNN's heuristics list engines, best first. Those that the project's rules exclude are passed over (cudnn_plan.c),
 * and the first that can be finalized is taken; with --autotune the fastest of the first few. */
#ifndef CNN_CUDA_CUDNN_PLAN_H
#define CNN_CUDA_CUDNN_PLAN_H

#include "kernels/cuda/cudnn_graph.h"

enum { CNN_CUDNN_SUBJECT_BYTES = 320 };

typedef struct cnn_cudnn_plan {
    cnn_device *device;
    cudnnHandle_t handle; /* NULL for a described device */
    cnn_cudnn_graph graph;
    bool cached;                              /* it came from the plan cache */
    int64_t engine;                           /* cuDNN's number of it */
    uint32_t numerical_notes, behavior_notes; /* bit n: the engine has note n */
    size_t workspace_bytes;
    char subject[CNN_CUDNN_SUBJECT_BYTES]; /* begins error messages: the op and its shapes */
    cnn_cudnn_maker maker;                 /* owns all descriptors, which live as long as the plan */
    cudnnBackendDescriptor_t graph_descriptor, descriptor;
    cudnnBackendDescriptor_t pack;             /* pointers of the last run, or NULL */
    void *packed[CNN_CUDNN_TENSORS], *scratch; /* what they were */
} cnn_cudnn_plan;

/* Makes a plan for the device, which may be a described one: then it can be made, and never run. CNN_ERR_UNSUPPORTED:
 * cuDNN has no engine for the graph that may be used. */
cnn_status cnn_cudnn_plan_make(cnn_device *device, const cnn_cudnn_graph *graph, const char *subject,
                               cnn_cudnn_plan **plan);
/* NULL is allowed. */
void cnn_cudnn_plan_free(cnn_cudnn_plan *plan);

/* Enqueues it. pointers[i] is the memory of tensor i: of the device, or of the host where it is by value; ignored where
 * it is virtual. Allocates nothing when they are the same as in the last run. */
cnn_status cnn_cudnn_plan_run(cnn_cudnn_plan *plan, void *const *pointers, void *workspace);

#endif
