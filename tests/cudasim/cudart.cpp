/* The CPU's CUDA runtime: devices, errors, copies. Each device runs kernels under a schedule of its own (cudasim.h).
 *
 * Copies are work of a stream. Of pageable memory, a copy to the device takes the bytes when it is called; of pinned
 * memory, when the stream comes to it. A copy to the host overwrites its destination with GARBAGE when it is called, so
 * that a host which does not wait finds that. */
#include "tests/cudasim/runtime.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace
{

constexpr int GARBAGE = 0xDB;

struct error_row {
    cudaError_t error;
    const char *name, *text;
};

#define ERROR(name, text) \
    {                     \
        name, #name, text \
    }
const error_row errors[] = {
    ERROR(cudaSuccess, "no error"),
    ERROR(cudaErrorInvalidValue, "invalid argument"),
    ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"),
    ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR(cudaErrorNotReady, "device not ready"),
    ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR(cudaErrorLaunchOutOfResources, "too many resources requested for launch"),
    ERROR(cudaErrorNotSupported, "operation not supported"),
    ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    ERROR(cudaErrorUnknown, "unknown error"),
};
#undef ERROR

const error_row &row_of(cudaError_t error)
{
    for (const error_row &row : errors)
        if (row.error == error)
            return row;
    cudasim_report("error %d has no row in the table of cudart.cpp", static_cast<int>(error));
}

struct health {
    cudaError_t broken = cudaSuccess;
    int64_t works = 0, breaks_at = 0;
    health()
    {
        const char *text = getenv("CNN_CUDASIM_BREAK");
        breaks_at = text ? strtoll(text, nullptr, 10) : 0;
    }
};

health &device_health()
{
    static health *const made = new health;
    return *made;
}

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

const char *place_name(cudasim_place place)
{
    static const char *const names[] = {"pageable memory", "pinned memory", "device memory"};
    return names[place];
}

/* Reports a kind of copy that is not what the pointers are. */
void need_direction(const void *dst, const void *src, size_t bytes, cudaMemcpyKind kind)
{
    const char *call = "cudaMemcpyAsync";
    const cudasim_place to = cudasim_find(dst, bytes, call), from = cudasim_find(src, bytes, call);
    const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind != cudaMemcpyHostToDevice && kind != cudaMemcpyDeviceToHost && kind != cudaMemcpyDeviceToDevice)
        cudasim_report("cudaMemcpyAsync: kind %d is not modelled", static_cast<int>(kind));
    if (to_device != (to == CUDASIM_ON_DEVICE) || from_device != (from == CUDASIM_ON_DEVICE))
        cudasim_report("cudaMemcpyAsync: a copy from the %s to the %s, but the source is %s and the destination %s",
                       from_device ? "device" : "host", to_device ? "device" : "host", place_name(from),
                       place_name(to));
    const auto *d = static_cast<const unsigned char *>(dst), *s = static_cast<const unsigned char *>(src);
    if (d < s + bytes && s < d + bytes)
        cudasim_report("cudaMemcpyAsync: source and destination overlap");
}

} // namespace

/* ---- For the runtime ---- */

int cudasim_device()
{
    return current_device;
}

cudaError_t cudasim_fail(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

cudaError_t cudasim_broken()
{
    return device_health().broken;
}

void cudasim_count_work()
{
    if (++device_health().works == device_health().breaks_at)
        device_health().broken = cudaErrorIllegalAddress;
}

/* ---- Devices ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = SIMT_SCHEDULES;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= SIMT_SCHEDULES)
        return cudasim_fail(cudaErrorInvalidDevice);
    current_device = device;
    return cudasim_fail(cudasim_broken());
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device)
{
    static const char *const schedules[SIMT_SCHEDULES] = {"rounds", "reverse", "random", "greedy", "greedy reversed"};
    size_t left = 0;
    if (device < 0 || device >= SIMT_SCHEDULES)
        return cudasim_fail(cudaErrorInvalidDevice);
    memset(prop, 0, sizeof *prop);
    snprintf(prop->name, sizeof prop->name, "CPU, threads in order: %s", schedules[device]);
    prop->major = 8;
    prop->minor = 0;
    prop->multiProcessorCount = 108;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = 1024;
    prop->sharedMemPerBlock = 48 << 10;
    prop->sharedMemPerBlockOptin = 163 << 10;
    prop->sharedMemPerMultiprocessor = 164 << 10;
    prop->l2CacheSize = 40 << 20;
    prop->canMapHostMemory = 1;
    prop->unifiedAddressing = 1;
    return cudaMemGetInfo(&left, &prop->totalGlobalMem);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* ---- Errors ---- */

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudasim_broken();
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    return row_of(error).name;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return row_of(error).text;
}

/* ---- Copies ---- */

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaMemcpyAsync");
    need_direction(dst, src, bytes, kind);
    const bool pageable = kind == cudaMemcpyHostToDevice && cudasim_find(src, bytes, "") == CUDASIM_PAGEABLE;
    if (cudasim_captures(stream)) {
        if (pageable || (kind == cudaMemcpyDeviceToHost && cudasim_find(dst, bytes, "") == CUDASIM_PAGEABLE))
            cudasim_report(
                "cudaMemcpyAsync: a copy of pageable memory in a recording: it would be read at each replay");
    } else if (kind == cudaMemcpyDeviceToHost) {
        memset(dst, GARBAGE, bytes);
    }
    std::shared_ptr<std::vector<unsigned char>> staged;
    if (pageable) {
        const auto *from = static_cast<const unsigned char *>(src);
        staged = std::make_shared<std::vector<unsigned char>>(from, from + bytes);
    }
    return cudasim_enqueue(stream, [=] {
        need_direction(dst, staged ? staged->data() : src, bytes, kind);
        if (kind == cudaMemcpyDeviceToHost)
            cudasim_need_written(src, bytes, "cudaMemcpyAsync to the host");
        memcpy(dst, staged ? staged->data() : src, bytes);
    });
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream)
{
    CUDASIM_LOCKED;
    cudasim_need_stream(stream, "cudaMemsetAsync");
    cudasim_need_device(dst, bytes, "cudaMemsetAsync");
    return cudasim_enqueue(stream, [=] {
        cudasim_need_device(dst, bytes, "cudaMemsetAsync");
        memset(dst, value, bytes);
    });
}
