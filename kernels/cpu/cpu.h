/* What the files of the CPU backend share: the device, the tables of implementations, kernels.
 *
 * An implementation is one row of a table: the op, the least ISA level, a function that says whether it suits a
 * descriptor, and one that makes the kernel. prepare() takes the first row that suits, so rows stand best first.
 * cnn_cpu_i8_impls comes before cnn_cpu_float_impls. */
#ifndef CNN_CPU_CPU_H
#define CNN_CPU_CPU_H

#include "cnn/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/refuse.h"

struct cnn_device {
    const cnn_host *host;
    cnn_cpu_isa isa;
    char description[96]; /* "AMD EPYC 9B14, avx512vnni, 2 threads" */
};

typedef struct cnn_cpu_impl {
    cnn_op op;        /* CNN_OP_NONE ends a table */
    const char *name; /* "cnn_cpu_conv_i8_avx512vnni", in refusals and as default name of the kernel */
    cnn_cpu_isa isa;  /* the least level that runs it */

    /* Whether the kernel can be made; if not, a few words in `why` ([CNN_REASON_BYTES], never NULL). NULL: always. */
    bool (*suits)(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why);

    /* Makes the kernel, with workspace_bytes, run and, where weights are packed, pack. Records its error. The caller
     * names it if it left base.name NULL. */
    cnn_status (*make)(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel);
} cnn_cpu_impl;

extern const cnn_cpu_impl cnn_cpu_i8_impls[];
extern const cnn_cpu_impl cnn_cpu_float_impls[];

/* Start of every kernel of this backend; make() may embed it first in a struct of its own. */
typedef struct cnn_cpu_kernel {
    cnn_kernel base;
    cnn_device *device;
    void *packed;  /* weights packed by pack(), or NULL; freed with the kernel */
    char name[64]; /* for base.name when it is put together at run time */
} cnn_cpu_kernel;

/* A cleared kernel of struct_bytes >= sizeof(cnn_cpu_kernel) with desc, device and destroy set. On failure the error
 * is recorded. */
cnn_status cnn_cpu_kernel_new(cnn_device *device, const cnn_op_desc *desc, size_t struct_bytes, void *kernel_out);

/* The default base.destroy: frees `packed` and the kernel. One that owns more frees that first, then calls this. */
void cnn_cpu_kernel_destroy(cnn_kernel *kernel);

/* Runs tasks 0..tasks-1 on at most `slots` workers: `worker` given to run() is < slots. Workspaces are sized when a
 * kernel is made, and the number of threads may have grown since. */
void cnn_cpu_parallel(const cnn_host *host, int tasks, int slots, cnn_task_fn run, void *context);

/* bytes rounded up so that what follows is aligned again. */
static inline size_t cnn_cpu_aligned(size_t bytes)
{
    return (bytes + CNN_ALIGN - 1) / CNN_ALIGN * CNN_ALIGN;
}

static inline bool cnn_cpu_is_float(cnn_dtype dtype)
{
    return dtype == CNN_F32 || dtype == CNN_F16 || dtype == CNN_BF16;
}

#endif
