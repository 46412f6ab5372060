/* cuDNN on the CPU: handles and the names of errors. Descriptors: descriptor.cpp. */
#include "tests/cudasim/descriptor.h"

struct cudnnContext {
    cudaStream_t stream = nullptr;
};

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    CUDASIM_LOCKED;
    if (cudasim_broken() != cudaSuccess)
        return CUDNN_STATUS_INTERNAL_ERROR;
    if (cudasim_refuse())
        return CUDNN_STATUS_ALLOC_FAILED;
    *handle = new cudnnContext;
    cudasim_add(CUDASIM_CUDNN_HANDLE, *handle, cudasim_device());
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    CUDASIM_LOCKED;
    cudasim_remove(CUDASIM_CUDNN_HANDLE, handle, "cudnnDestroy");
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    CUDASIM_LOCKED;
    cudasim_need(CUDASIM_CUDNN_HANDLE, handle, "cudnnSetStream");
    cudasim_need_stream(stream, "cudnnSetStream");
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
#define ROW(name) \
    case name:    \
        return #name
    switch (status) {
        ROW(CUDNN_STATUS_SUCCESS);
        ROW(CUDNN_STATUS_NOT_INITIALIZED);
        ROW(CUDNN_STATUS_BAD_PARAM);
        ROW(CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
        ROW(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
        ROW(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
        ROW(CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND);
        ROW(CUDNN_STATUS_BAD_PARAM_SIZE_INSUFFICIENT);
        ROW(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
        ROW(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
        ROW(CUDNN_STATUS_NOT_SUPPORTED);
        ROW(CUDNN_STATUS_INTERNAL_ERROR);
        ROW(CUDNN_STATUS_EXECUTION_FAILED);
        ROW(CUDNN_STATUS_ALLOC_FAILED);
    default:
        return "CUDNN_STATUS_UNKNOWN";
    }
#undef ROW
}

cudaStream_t cudasim_cudnn_stream(cudnnHandle_t handle)
{
    return handle->stream;
}
