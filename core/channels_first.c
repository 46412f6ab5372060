/* Reordering values between channels last and channels first. */
#include "core/channels_first.h"

#include <string.h>

/* dst[n][c][r] = src[n][r][c] for matrices of rows x columns values of `size` bytes. */
static void transpose(int32_t count, int64_t rows, int64_t columns, size_t size, const uint8_t *src, uint8_t *dst)
{
    for (int32_t n = 0; n < count; n++) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < columns; c++)
                memcpy(dst + (size_t)(c * rows + r) * size, src + (size_t)(r * columns + c) * size, size);
        src += (size_t)(rows * columns) * size;
        dst += (size_t)(rows * columns) * size;
    }
}

void cnn_channels_to_first(const cnn_tensor_desc *desc, const void *src, void *dst)
{
    transpose(desc->n, (int64_t)desc->h * desc->w, desc->c, cnn_dtype_bytes(desc->dtype), src, dst);
}

void cnn_channels_from_first(const cnn_tensor_desc *desc, const void *src, void *dst)
{
    transpose(desc->n, desc->c, (int64_t)desc->h * desc->w, cnn_dtype_bytes(desc->dtype), src, dst);
}
