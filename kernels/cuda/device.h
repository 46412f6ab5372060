/* The functions of the backend table that need no op: opening, memory, copies, events, recordings. */
#ifndef CNN_CUDA_DEVICE_H
#define CNN_CUDA_DEVICE_H

#include "kernels/cuda/cuda.h"

/* Name of the plug-in in messages: "cuda", or "cudasim" over the CPU. */
#ifndef CNN_CUDA_NAME
#define CNN_CUDA_NAME "cuda"
#endif

cnn_status cnn_cuda_open(const cnn_host *host, const cnn_device_options *options, cnn_device **device);
/* A device known by its description alone, as cuDNN writes it (DEVICEPROP's JSON): fusion can ask it, cuDNN plans can
 * be made for it, nothing can run. For machines without a GPU. */
cnn_status cnn_cuda_open_described(const cnn_host *host, const char *name, const char *json, cnn_device **device);
void cnn_cuda_close(cnn_device *device);
void *cnn_cuda_alloc(cnn_device *device, size_t bytes);
void cnn_cuda_free(cnn_device *device, void *memory);
void cnn_cuda_memory(cnn_device *device, size_t *free_bytes, size_t *all_bytes);
void *cnn_cuda_alloc_host(cnn_device *device, size_t bytes);
void cnn_cuda_free_host(cnn_device *device, void *memory);
cnn_status cnn_cuda_copy(cnn_device *device, void *dst, const void *src, size_t bytes, cnn_copy kind);
cnn_status cnn_cuda_copy_async(cnn_device *device, void *dst, const void *src, size_t bytes, cnn_copy kind);
cnn_status cnn_cuda_sync(cnn_device *device);
cnn_status cnn_cuda_mark(cnn_device *device, int slot);
cnn_status cnn_cuda_wait(cnn_device *device, int slot);
cnn_status cnn_cuda_record_begin(cnn_device *device);
cnn_status cnn_cuda_record_end(cnn_device *device, cnn_recording **recording);
cnn_status cnn_cuda_replay(cnn_device *device, cnn_recording *recording);
void cnn_cuda_recording_free(cnn_device *device, cnn_recording *recording);

#endif
