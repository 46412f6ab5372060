/* The device: one GPU, one stream, its events, memory, copies and recordings (CUDA graphs). */
#include "kernels/cuda/device.h"

#include "kernels/cuda/cudnn_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cnn_recording {
    cudaGraphExec_t graph;
};

/* ---- Opening ---- */

static cnn_status no_device(const cnn_host *host, cudaError_t error, int count)
{
    if (error == cudaErrorInsufficientDriver)
        return host->error(CNN_ERR_UNSUPPORTED,
                           "device " CNN_CUDA_NAME
                           ": the NVIDIA driver is missing or older than CUDA %d.%d needs; install "
                           "or update it, or use --device cpu",
                           CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (error != cudaSuccess && error != cudaErrorNoDevice)
        return host->error(CNN_ERR_DEVICE,
                           "device " CNN_CUDA_NAME ": cudaGetDeviceCount failed: %s (%s); use --device cpu",
                           cudaGetErrorString(error), cudaGetErrorName(error));
    (void)count;
    return host->error(CNN_ERR_UNSUPPORTED, "device " CNN_CUDA_NAME
                                            ": the driver sees no NVIDIA GPU; is one passed through to this machine or "
                                            "container (nvidia-smi)? use --device cpu");
}

static cnn_status choose_ordinal(const cnn_host *host, const char *variant, int *ordinal)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count < 1)
        return no_device(host, error, count);
    *ordinal = variant ? variant[0] - '0' : 0;
    if (*ordinal >= count)
        return host->error(CNN_ERR_USAGE, "device " CNN_CUDA_NAME ":%d: there %s; use %s", *ordinal,
                           count == 1 ? "is one GPU, number 0" : "are fewer GPUs", "a lower number");
    return CNN_OK;
}

static cnn_status describe(cnn_device *device)
{
    struct cudaDeviceProp prop;
    int driver = 0;
    cnn_status status =
        cnn_cuda_check(device, cudaGetDeviceProperties(&prop, device->ordinal), "cudaGetDeviceProperties");
    if (status == CNN_OK)
        status = cnn_cuda_check(device, cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    if (status != CNN_OK)
        return status;
    if (prop.major < 8)
        return device->host->error(CNN_ERR_UNSUPPORTED,
                                   "device " CNN_CUDA_NAME
                                   ": %s has compute capability %d.%d; 8.0 (A100, RTX 30) is the "
                                   "least; use --device cpu",
                                   prop.name, prop.major, prop.minor);
    snprintf(device->description, sizeof device->description, "%.60s, sm_%d%d, %.0f GB, CUDA %d.%d, driver for %d.%d",
             prop.name, prop.major, prop.minor, (double)prop.totalGlobalMem / 1e9, CUDART_VERSION / 1000,
             CUDART_VERSION % 1000 / 10, driver / 1000, driver % 1000 / 10);
    snprintf(device->level, sizeof device->level, "sm_%d%d cudnn %zu", prop.major, prop.minor, cudnnGetVersion());
    return CNN_OK;
}

static cnn_status make_events(cnn_device *device)
{
    cnn_status status = cnn_cuda_check(device, cudaStreamCreateWithFlags(&device->queue.stream, cudaStreamNonBlocking),
                                       "cudaStreamCreate");
    for (int i = 0; i < CNN_MARKS && status == CNN_OK; i++)
        status = cnn_cuda_check(device, cudaEventCreateWithFlags(&device->marks[i], cudaEventDisableTiming),
                                "cudaEventCreate");
    return status;
}

static cnn_status make_tickets(cnn_device *device)
{
    const size_t bytes = CNN_CUDA_TICKETS * sizeof *device->queue.tickets;
    cnn_status status = cnn_cuda_check(device, cudaMalloc((void **)&device->queue.tickets, bytes), "cudaMalloc");
    if (status == CNN_OK)
        status = cnn_cuda_check(device, cudaMemsetAsync(device->queue.tickets, 0, bytes, device->queue.stream),
                                "cudaMemsetAsync");
    return status;
}

cnn_status cnn_cuda_open(const cnn_host *host, const cnn_device_options *options, cnn_device **device)
{
    const char *own = getenv("CNN_CUDA_OWN");
    int ordinal = 0;
    if (host->version != CNN_BACKEND_VERSION)
        return host->error(CNN_ERR_UNSUPPORTED, "device " CNN_CUDA_NAME
                                                ": the plug-in is of another version of cnnkit; install both together");
    cnn_status status = choose_ordinal(host, options ? options->variant : NULL, &ordinal);
    if (status != CNN_OK)
        return status;
    cnn_device *opened = host->alloc(sizeof *opened);
    if (!opened)
        return host->error(CNN_ERR_MEMORY, "device " CNN_CUDA_NAME ": out of memory");
    memset(opened, 0, sizeof *opened);
    opened->host = host;
    opened->ordinal = ordinal;
    opened->tf32 = options && options->tf32;
    opened->autotune = options && options->autotune;
    opened->own = own && strcmp(own, "1") == 0;
    cnn_cudnn_cache_folder(opened->plan_cache, sizeof opened->plan_cache);
    status = cnn_cuda_check(opened, cudaSetDevice(ordinal), "cudaSetDevice");
    if (status == CNN_OK)
        status = describe(opened);
    if (status == CNN_OK)
        status = make_events(opened);
    if (status == CNN_OK)
        status = make_tickets(opened);
    if (status != CNN_OK) {
        cnn_cuda_close(opened);
        return status;
    }
    *device = opened;
    return CNN_OK;
}

cnn_status cnn_cuda_open_described(const cnn_host *host, const char *name, const char *json, cnn_device **device)
{
    cnn_device *opened = host->alloc(sizeof *opened);
    if (!opened)
        return host->error(CNN_ERR_MEMORY, "device " CNN_CUDA_NAME ": out of memory");
    memset(opened, 0, sizeof *opened);
    opened->host = host;
    snprintf(opened->description, sizeof opened->description, "%s (described)", name);
    snprintf(opened->level, sizeof opened->level, "%.16s", name);
    cudnnStatus_t made = cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &opened->described);
    if (made == CUDNN_STATUS_SUCCESS)
        made = cudnnBackendSetAttribute(opened->described, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                        (int64_t)strlen(json), json);
    if (made == CUDNN_STATUS_SUCCESS)
        made = cudnnBackendFinalize(opened->described);
    if (made == CUDNN_STATUS_SUCCESS) {
        *device = opened;
        return CNN_OK;
    }
    cnn_cuda_close(opened);
    return host->error(CNN_ERR_DEVICE, "device " CNN_CUDA_NAME ": cuDNN does not take the description of %s: %s", name,
                       cudnnGetErrorString(made));
}

/* Errors of teardown are not reported: there is nobody to act on them. */
void cnn_cuda_close(cnn_device *device)
{
    if (!device)
        return;
    if (device->queue.stream)
        (void)cudaStreamSynchronize(device->queue.stream);
    if (device->cudnn)
        (void)cudnnDestroy(device->cudnn);
    if (device->described)
        (void)cudnnBackendDestroyDescriptor(device->described);
    if (device->blas)
        (void)cublasLtDestroy(device->blas);
    if (device->queue.tickets)
        (void)cudaFree(device->queue.tickets);
    for (int i = 0; i < CNN_MARKS; i++)
        if (device->marks[i])
            (void)cudaEventDestroy(device->marks[i]);
    if (device->queue.stream)
        (void)cudaStreamDestroy(device->queue.stream);
    device->host->free(device);
}

/* ---- Memory ---- */

void *cnn_cuda_alloc(cnn_device *device, size_t bytes)
{
    void *memory = NULL;
    (void)device;
    if (cudaMalloc(&memory, bytes) == cudaSuccess)
        return memory;
    (void)cudaGetLastError(); /* this one is not sticky: the next launch must not see it */
    return NULL;
}

void cnn_cuda_memory(cnn_device *device, size_t *free_bytes, size_t *all_bytes)
{
    (void)device;
    if (cudaMemGetInfo(free_bytes, all_bytes) != cudaSuccess)
        *free_bytes = *all_bytes = 0;
}

void cnn_cuda_free(cnn_device *device, void *memory)
{
    (void)device;
    (void)cudaFree(memory);
}

void *cnn_cuda_alloc_host(cnn_device *device, size_t bytes)
{
    void *memory = NULL;
    if (cudaHostAlloc(&memory, bytes, cudaHostAllocMapped) == cudaSuccess) {
        memset(memory, 0, bytes);
        return memory;
    }
    (void)cudaGetLastError();
    device->host->error(CNN_ERR_MEMORY,
                        "device " CNN_CUDA_NAME ": %zu bytes of pinned host memory could not be allocated", bytes);
    return NULL;
}

void cnn_cuda_free_host(cnn_device *device, void *memory)
{
    (void)device;
    (void)cudaFreeHost(memory);
}

cnn_status cnn_cuda_copy_async(cnn_device *device, void *dst, const void *src, size_t bytes, cnn_copy kind)
{
    static const enum cudaMemcpyKind kinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost,
                                                cudaMemcpyDeviceToDevice};
    if (bytes == 0)
        return CNN_OK;
    return cnn_cuda_check(device, cudaMemcpyAsync(dst, src, bytes, kinds[kind], device->queue.stream),
                          "cudaMemcpyAsync");
}

/* To the host it waits; to the device it returns when src may be overwritten: pageable memory is staged first. */
cnn_status cnn_cuda_copy(cnn_device *device, void *dst, const void *src, size_t bytes, cnn_copy kind)
{
    cnn_status status = cnn_cuda_copy_async(device, dst, src, bytes, kind);
    return status == CNN_OK && bytes && kind == CNN_COPY_TO_HOST ? cnn_cuda_sync(device) : status;
}

cnn_status cnn_cuda_sync(cnn_device *device)
{
    return cnn_cuda_check(device, cudaStreamSynchronize(device->queue.stream), "cudaStreamSynchronize");
}

cnn_status cnn_cuda_mark(cnn_device *device, int slot)
{
    return cnn_cuda_check(device, cudaEventRecord(device->marks[slot], device->queue.stream), "cudaEventRecord");
}

cnn_status cnn_cuda_wait(cnn_device *device, int slot)
{
    return cnn_cuda_check(device, cudaEventSynchronize(device->marks[slot]), "cudaEventSynchronize");
}

/* ---- Recordings ---- */

cnn_status cnn_cuda_record_begin(cnn_device *device)
{
    return cnn_cuda_check(device, cudaStreamBeginCapture(device->queue.stream, cudaStreamCaptureModeThreadLocal),
                          "cudaStreamBeginCapture");
}

cnn_status cnn_cuda_record_end(cnn_device *device, cnn_recording **recording)
{
    cudaGraph_t graph = NULL;
    cnn_recording *made = device->host->alloc(sizeof *made);
    cnn_status status =
        cnn_cuda_check(device, cudaStreamEndCapture(device->queue.stream, &graph), "cudaStreamEndCapture");
    if (status == CNN_OK && !made)
        status = device->host->error(CNN_ERR_MEMORY, "device " CNN_CUDA_NAME ": out of memory for a CUDA graph");
    if (status == CNN_OK)
        status = cnn_cuda_check(device, cudaGraphInstantiate(&made->graph, graph, 0), "cudaGraphInstantiate");
    if (graph)
        (void)cudaGraphDestroy(graph);
    if (status == CNN_OK)
        *recording = made;
    else
        device->host->free(made);
    return status;
}

cnn_status cnn_cuda_replay(cnn_device *device, cnn_recording *recording)
{
    return cnn_cuda_check(device, cudaGraphLaunch(recording->graph, device->queue.stream), "cudaGraphLaunch");
}

void cnn_cuda_recording_free(cnn_device *device, cnn_recording *recording)
{
    if (!recording)
        return;
    (void)cudaStreamSynchronize(device->queue.stream);
    (void)cudaGraphExecDestroy(recording->graph);
    device->host->free(recording);
}

/* ---- Libraries ---- */

cnn_status cnn_cuda_cudnn(cnn_device *device, cudnnHandle_t *handle)
{
    if (!device->cudnn) {
        cudnnStatus_t made = cudnnCreate(&device->cudnn);
        if (made == CUDNN_STATUS_SUCCESS)
            made = cudnnSetStream(device->cudnn, device->queue.stream);
        if (made != CUDNN_STATUS_SUCCESS)
            return device->host->error(CNN_ERR_DEVICE, "device " CNN_CUDA_NAME ": cudnnCreate failed: %s",
                                       cudnnGetErrorString(made));
    }
    *handle = device->cudnn;
    return CNN_OK;
}

cnn_status cnn_cuda_blas(cnn_device *device, cublasLtHandle_t *handle)
{
    if (!device->blas) {
        cublasStatus_t made = cublasLtCreate(&device->blas);
        if (made != CUBLAS_STATUS_SUCCESS)
            return device->host->error(CNN_ERR_DEVICE, "device " CNN_CUDA_NAME ": cublasLtCreate failed: %s",
                                       cublasLtGetStatusString(made));
    }
    *handle = device->blas;
    return CNN_OK;
}
