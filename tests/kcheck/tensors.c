/* Tensors in device memory between guards. */
#include "tests/kcheck/tensors.h"

#include "kernels/ref/ref.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define KC_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KC_ASAN 1
#endif
#endif
#ifdef KC_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

static size_t total_bytes(const kc_tensor *tensor)
{
    return tensor->bytes + 2 * KC_GUARD;
}

cnn_status kc_tensor_open(kc_tensor *tensor, const cnn_tensor_desc *desc, size_t bytes, const cnn_backend *backend,
                          cnn_device *device)
{
    *tensor = (kc_tensor){.desc = *desc, .bytes = bytes};
    tensor->image = malloc(total_bytes(tensor));
    tensor->after = malloc(total_bytes(tensor));
    tensor->memory = backend->alloc(device, total_bytes(tensor));
    if (!tensor->image || !tensor->after || !tensor->memory)
        return CNN_ERR_MEMORY;
    memset(tensor->image, KC_GUARD_BYTE, total_bytes(tensor));
    return CNN_OK;
}

void kc_tensor_close(kc_tensor *tensor, const cnn_backend *backend, cnn_device *device)
{
    free(tensor->image);
    free(tensor->after);
    if (tensor->memory)
        backend->free(device, tensor->memory);
    *tensor = (kc_tensor){0};
}

void kc_tensor_set(kc_tensor *tensor, const double *values)
{
    const cnn_tensor_desc *desc = &tensor->desc;
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            cnn_ref_put(desc, kc_image(tensor), pixel, c, *values++);
    cnn_ref_clear_padding(desc, kc_image(tensor));
}

double *kc_tensor_get(const kc_tensor *tensor)
{
    const cnn_tensor_desc *desc = &tensor->desc;
    double *values = malloc((size_t)cnn_desc_elements(desc) * sizeof *values);
    if (!values)
        return NULL;
    double *next = values;
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            *next++ = cnn_ref_get(desc, kc_after(tensor), pixel, c);
    return values;
}

cnn_status kc_tensor_upload(const kc_tensor *tensor, const cnn_backend *backend, cnn_device *device)
{
    return backend->copy(device, tensor->memory, tensor->image, total_bytes(tensor), CNN_COPY_TO_DEVICE);
}

cnn_status kc_tensor_download(kc_tensor *tensor, const cnn_backend *backend, cnn_device *device)
{
    return backend->copy(device, tensor->after, tensor->memory, total_bytes(tensor), CNN_COPY_TO_HOST);
}

cnn_status kc_tensor_download_guards(kc_tensor *tensor, const cnn_backend *backend, cnn_device *device)
{
    size_t behind = KC_GUARD + tensor->bytes;
    cnn_status status = backend->copy(device, tensor->after, tensor->memory, KC_GUARD, CNN_COPY_TO_HOST);
    if (status == CNN_OK)
        status = backend->copy(device, tensor->after + behind, tensor->memory + behind, KC_GUARD, CNN_COPY_TO_HOST);
    return status;
}

void kc_tensor_prefill(kc_tensor *tensor, uint8_t byte)
{
    memset(kc_image(tensor), byte, tensor->bytes);
}

void kc_tensor_lock(const kc_tensor *tensor)
{
    if (!tensor->memory)
        return;
    ASAN_POISON_MEMORY_REGION(tensor->memory, KC_GUARD);
    ASAN_POISON_MEMORY_REGION(tensor->memory + KC_GUARD + tensor->bytes, KC_GUARD);
}

void kc_tensor_unlock(const kc_tensor *tensor)
{
    if (tensor->memory)
        ASAN_UNPOISON_MEMORY_REGION(tensor->memory, total_bytes(tensor));
}

bool kc_tensor_guard_hit(const kc_tensor *tensor, int64_t *offset)
{
    for (int64_t i = 0; i < KC_GUARD; i++) {
        int64_t behind = (int64_t)tensor->bytes + i;
        if (kc_after(tensor)[behind] != KC_GUARD_BYTE) {
            *offset = behind;
            return true;
        }
        int64_t before = -1 - i;
        if (kc_after(tensor)[before] != KC_GUARD_BYTE) {
            *offset = before;
            return true;
        }
    }
    return false;
}
