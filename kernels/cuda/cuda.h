/* What the files of the CUDA backend share: the device, the tables of implementations, kernels.
 *
 * The backend is a plug-in that dlopen loads. It touches no symbol of libcnn: what it needs comes through the host
 * table. The same sources also make a second plug-in, cudasim, over a CUDA runtime that runs on the CPU
 * (tests/cudasim).
 *
 * All work goes to the one stream of the device, in the order of the calls; nothing here waits for it but copy() to the
 * host, sync() and wait(). An implementation is one row of a table: the op, whether it suits a descriptor, and either a
 * launch function (our own kernels, .cu) or one that makes a kernel with state of its own (cuDNN plans, cuBLASLt).
 * prepare() takes the first row that suits from the tables in the order of cnn_cuda_tables. */
#ifndef CNN_CUDA_CUDA_H
#define CNN_CUDA_CUDA_H

#include "cnn/backend.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CNN_CUDA_BLAS_WORKSPACE_BYTES ((size_t)32 << 20)

/* Where kernels are launched. Blocks of a kernel that add up in the end draw tickets: who draws the last one does it
 * (last_block.cuh). The counters are of the device and all 0 between kernels, so kernels of one stream share them. */
enum { CNN_CUDA_TICKETS = 4096 };

typedef struct cnn_cuda_queue {
    cudaStream_t stream;
    unsigned *tickets; /* [CNN_CUDA_TICKETS] in device memory */
} cnn_cuda_queue;

struct cnn_device {
    const cnn_host *host;
    int ordinal;
    bool tf32;     /* f32 products may be rounded to TF32 */
    bool autotune; /* cuDNN plans are timed; else its heuristics choose */
    bool own;      /* CNN_CUDA_OWN=1: no cuDNN, no cuBLASLt; for checks of the kernels behind them */
    cnn_cuda_queue queue;
    cudaEvent_t marks[CNN_MARKS];
    cudnnHandle_t cudnn;                /* NULL until the first op that needs it */
    cudnnBackendDescriptor_t described; /* instead of a GPU, its description: plans can be made for it, nothing runs */
    cublasLtHandle_t blas;
    char description[160]; /* "NVIDIA A100-SXM4-40GB, sm_80, 40 GB, driver 580.82, CUDA 13.0, cuDNN 9.19" */
    char plan_cache[256];  /* folder of cuDNN plans on disk; empty: none */
    char level[32];        /* "sm_80 cudnn 91900" */
};

/* Enqueues an op on the stream. arg[] and workspace are device pointers. Returns cudaGetLastError() of its launches. */
typedef cudaError_t cnn_cuda_launch(const cnn_op_desc *desc, void *const arg[CNN_ARG_COUNT], void *workspace,
                                    const cnn_cuda_queue *queue);

typedef struct cnn_cuda_impl {
    cnn_op op;        /* CNN_OP_NONE ends a table */
    const char *name; /* "cnn_cuda_relu", in refusals and as name of the kernel */
    /* Whether it can run the descriptor; if not, a few words in `why` ([CNN_REASON_BYTES], never NULL). NULL: always.
     */
    bool (*suits)(const cnn_op_desc *desc, const cnn_device *device, char *why);
    size_t (*workspace)(const cnn_op_desc *desc); /* bytes that launch needs; NULL: none */
    cnn_cuda_launch *launch;
    /* Instead of launch: makes the kernel, with workspace_bytes, run and, where weights are packed, pack. */
    cnn_status (*make)(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);
} cnn_cuda_impl;

/* NULL-terminated, best first. */
extern const cnn_cuda_impl *const cnn_cuda_tables[];
extern const cnn_cuda_impl cnn_cuda_tensor_impls[]; /* own tensor-core and fused kernels */
extern const cnn_cuda_impl cnn_cuda_cudnn_impls[];
extern const cnn_cuda_impl cnn_cuda_blas_impls[];
extern const cnn_cuda_impl cnn_cuda_kernel_impls[]; /* own kernels, one an op */

/* The first row behind `after` (NULL: of all) that suits, or NULL; the reasons of those that do not are added to `why`
 * ([CNN_REASON_BYTES]). */
const cnn_cuda_impl *cnn_cuda_choose(const cnn_device *device, const cnn_op_desc *desc, const cnn_cuda_impl *after,
                                     char *why);

/* Start of every kernel of this backend; make() may embed it first in a struct of its own. */
typedef struct cnn_cuda_kernel {
    cnn_kernel base;
    cnn_device *device;
    const cnn_cuda_impl *impl;
    void *packed; /* device memory that pack() filled, or NULL; freed with the kernel */
} cnn_cuda_kernel;

/* A cleared kernel of struct_bytes >= sizeof(cnn_cuda_kernel) with desc, device and destroy set. On failure the error
 * is recorded. */
cnn_status cnn_cuda_kernel_new(cnn_device *device, const cnn_op_desc *desc, size_t struct_bytes, void *kernel_out);
/* The default base.destroy. One that owns more frees that first, then calls this. */
void cnn_cuda_kernel_destroy(cnn_kernel *kernel);

/* CNN_OK, or records "cudaMemcpyAsync failed: an illegal memory access was encountered (cudaErrorIllegalAddress)". */
cnn_status cnn_cuda_check(const cnn_device *device, cudaError_t error, const char *call);

/* The handles, made when first asked for; CNN_OK or the error is recorded. */
cnn_status cnn_cuda_cudnn(cnn_device *device, cudnnHandle_t *handle);
cnn_status cnn_cuda_blas(cnn_device *device, cublasLtHandle_t *handle);

static inline bool cnn_cuda_is_float(cnn_dtype dtype)
{
    return dtype == CNN_F32 || dtype == CNN_F16 || dtype == CNN_BF16;
}

#ifdef __cplusplus
}
#endif
#endif
