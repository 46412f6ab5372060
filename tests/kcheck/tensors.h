/* Tensors in device memory between guards, and their values by logical index. */
#ifndef KCHECK_TENSORS_H
#define KCHECK_TENSORS_H

#include "cnn/backend.h"

/* Bytes before and after each tensor. All ones is NaN in every float format, so that a kernel that reads its
 * neighbours and uses what it read gives NaN, and one that writes there changes them. */
enum { KC_GUARD = 256, KC_GUARD_BYTE = 0xFF };

/* One tensor: memory of guard + bytes + guard. */
typedef struct kc_tensor {
    cnn_tensor_desc desc;
    size_t bytes;
    uint8_t *image;  /* host: what memory holds before a run, guards included */
    uint8_t *after;  /* host: read back after a run */
    uint8_t *memory; /* device */
} kc_tensor;

/* Host and device memory for `bytes` of tensor or workspace; image is all guard. */
cnn_status kc_tensor_open(kc_tensor *tensor, const cnn_tensor_desc *desc, size_t bytes, const cnn_backend *backend,
                          cnn_device *device);
void kc_tensor_close(kc_tensor *tensor, const cnn_backend *backend, cnn_device *device);

/* Sets image from values by logical index; padding channels become 0. */
void kc_tensor_set(kc_tensor *tensor, const double *values);

/* Values of `after`, allocated; NULL when there is no memory. */
double *kc_tensor_get(const kc_tensor *tensor);

/* image -> device, device -> after. */
cnn_status kc_tensor_upload(const kc_tensor *tensor, const cnn_backend *backend, cnn_device *device);
cnn_status kc_tensor_download(kc_tensor *tensor, const cnn_backend *backend, cnn_device *device);

/* The same of the guards alone: what a workspace holds afterwards is nobody's business. */
cnn_status kc_tensor_download_guards(kc_tensor *tensor, const cnn_backend *backend, cnn_device *device);

/* Fills the tensor in image (not the guards) with a byte. */
void kc_tensor_prefill(kc_tensor *tensor, uint8_t byte);

/* Offset of the first guard byte that changed, relative to the tensor: < 0 before it, >= bytes after it; false: none.
 */
bool kc_tensor_guard_hit(const kc_tensor *tensor, int64_t *offset);

/* Between these two, ASan builds report any access to the guards, reads included. Only where device memory is memory of
 * this process, and the kernel's work is done in between. */
void kc_tensor_lock(const kc_tensor *tensor);
void kc_tensor_unlock(const kc_tensor *tensor);

/* The bytes of the tensor itself, in image and after. */
static inline uint8_t *kc_image(const kc_tensor *tensor)
{
    return tensor->image + KC_GUARD;
}
static inline uint8_t *kc_after(const kc_tensor *tensor)
{
    return tensor->after + KC_GUARD;
}
static inline void *kc_pointer(const kc_tensor *tensor)
{
    return tensor->memory ? tensor->memory + KC_GUARD : NULL;
}

#endif
