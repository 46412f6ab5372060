/* The interface between the library and the code that computes: ref, cpu, and plug-ins such as cuda.
 *
 * A backend opens a device; the device prepares kernels for op descriptors. Preparing may allocate and choose;
 * running allocates nothing. The library gives each backend a host table, so that no kernel reaches into core.
 * Contract of every kernel: same descriptor, inputs, device and ISA level give the same bits, whatever the
 * number of threads; only tensors with CNN_USE_WRITE are written, wholly, and nothing beyond their bytes. */
#ifndef CNN_BACKEND_H
#define CNN_BACKEND_H

#include "cnn/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CNN_BACKEND_VERSION = 4, CNN_ALIGN = 64, CNN_REASON_BYTES = 256, CNN_MARKS = 8 };

/* Work that a parallel region splits: called once for each task in [0, tasks), on any thread. `worker` is in
 * [0, threads) and unique among calls that run at the same time: it names scratch space, never results. */
typedef void (*cnn_task_fn)(void *context, int task, int worker);

/* What the library offers to backends. */
typedef struct cnn_host {
    uint32_t version;
    int (*threads)(void);                                        /* most workers a parallel region may use */
    void (*parallel)(int tasks, cnn_task_fn run, void *context); /* returns when all tasks are done */
    void *(*alloc)(size_t bytes);                                /* 64-byte aligned, not cleared; NULL: none left */
    void (*free)(void *memory);                                  /* NULL is allowed */
    cnn_status (*error)(cnn_status status, const char *format, ...) CNN_PRINTF(2, 3); /* records, returns status */
} cnn_host;

typedef struct cnn_device cnn_device; /* defined by each backend */
typedef struct cnn_kernel cnn_kernel;

/* A prepared op. Backends embed it first in a struct of their own. */
struct cnn_kernel {
    cnn_op_desc desc;
    const char *name;       /* of the implementation, "cnn_cpu_conv_i8_avx512vnni" */
    size_t workspace_bytes; /* scratch that run() needs, 64-byte aligned; kernels of a program share it */

    /* Set by the session before it packs, or NULL: pack() may tell, from any thread, which weights it has done with, so
     * that their memory need not be held beside what is packed. */
    void (*spent)(const void *weights, size_t bytes);

    /* Packs constant weights once, before the first run; afterwards args[CNN_ARG_WEIGHT] is not read. NULL when
     * the kernel reads weights in place. Called only when desc.constant_weights. */
    cnn_status (*pack)(cnn_kernel *kernel, const void *weights);

    /* Runs (or enqueues, on a device with streams). args[role] points to the tensor, NULL where absent. */
    cnn_status (*run)(cnn_kernel *kernel, void *const args[CNN_ARG_COUNT], void *workspace);

    void (*destroy)(cnn_kernel *kernel); /* frees the kernel and what it packed */
};

/* What a device is opened with; NULL stands for all of it zero. */
typedef struct cnn_device_options {
    const char *variant; /* one of the backend's `variants`; NULL: the device decides */
    bool tf32;           /* products of f32 tensors may be rounded to TF32 (10 bits of mantissa) */
    bool autotune;       /* measure implementations instead of choosing by rules: results may differ from run to run */
} cnn_device_options;

typedef struct cnn_recording cnn_recording; /* a sequence of runs that can be replayed; defined by each backend */

typedef enum cnn_copy { CNN_COPY_TO_DEVICE, CNN_COPY_TO_HOST, CNN_COPY_ON_DEVICE } cnn_copy;

typedef struct cnn_backend {
    uint32_t version; /* CNN_BACKEND_VERSION */
    const char *name; /* "cpu" */
    const char *summary;
    bool host_memory; /* device pointers are host pointers: no copies are needed */

    /* What may stand behind the name and a colon, as in "cpu:avx2", and narrows down what the device uses; NULL after
     * the last, or NULL when there is nothing to choose. */
    const char *const *variants;

    cnn_status (*open)(const cnn_host *host, const cnn_device_options *options, cnn_device **device);
    void (*close)(cnn_device *device);
    const char *(*describe)(cnn_device *device); /* "AMD EPYC 9B14, avx512vnni, 2 threads" */
    const char *(*level)(cnn_device *device);    /* "avx512vnni": all of the machine that the bits depend on */

    void *(*alloc)(cnn_device *device, size_t bytes); /* 64-byte aligned; NULL when there is none left */
    void (*free)(cnn_device *device, void *memory);
    void (*memory)(cnn_device *device, size_t *free_bytes, size_t *all_bytes); /* NULL: not known */
    cnn_status (*copy)(cnn_device *device, void *dst, const void *src, size_t bytes, cnn_copy kind);
    cnn_status (*sync)(cnn_device *device);

    /* Optional (NULL where run() returns when the work is done). mark() notes a place in the device's work, in one of
     * CNN_MARKS slots; wait() returns when all that was enqueued before the last mark() of that slot is done. */
    cnn_status (*mark)(cnn_device *device, int slot);
    cnn_status (*wait)(cnn_device *device, int slot);

    /* With marks: host memory that kernels may write, cleared; a host pointer that is also a device pointer. Copies
     * between it and the device are enqueued with copy_async(): a mark behind one says when it is done. */
    void *(*alloc_host)(cnn_device *device, size_t bytes);
    void (*free_host)(cnn_device *device, void *memory);
    cnn_status (*copy_async)(cnn_device *device, void *dst, const void *src, size_t bytes, cnn_copy kind);

    /* Optional: between record_begin() and record_end() runs are noted instead of done; replay() enqueues them all at
     * once, with the pointers of then. */
    cnn_status (*record_begin)(cnn_device *device);
    cnn_status (*record_end)(cnn_device *device, cnn_recording **recording);
    cnn_status (*replay)(cnn_device *device, cnn_recording *recording);
    void (*recording_free)(cnn_device *device, cnn_recording *recording); /* NULL is allowed */

    /* Channels of activations are padded to a multiple of this. */
    int (*channel_align)(cnn_device *device, cnn_dtype dtype);

    /* Makes a kernel, or returns CNN_ERR_UNSUPPORTED and says why in `why` (CNN_REASON_BYTES, may be NULL).
     * With kernel = NULL it only answers whether it could: that is how fusion asks. */
    cnn_status (*prepare)(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel, char *why);
} cnn_backend;

/* What a plug-in exports under the name CNN_PLUGIN_SYMBOL: its backend, whose `version` the library checks. */
typedef const cnn_backend *cnn_plugin_fn(void);
#define CNN_PLUGIN_SYMBOL "cnn_plugin"

/* The backends inside libcnn. */
extern const cnn_backend cnn_backend_ref;
extern const cnn_backend cnn_backend_cpu;

#ifdef __cplusplus
}
#endif
#endif
