/* Access to elements of any dtype, and padding channels. */
#include "kernels/ref/half.h"
#include "kernels/ref/ref.h"

#include <string.h>

double cnn_ref_get(const cnn_tensor_desc *desc, const void *data, int64_t pixel, int32_t c)
{
    int64_t i = pixel * desc->c_pad + c;
    switch (desc->dtype) {
    case CNN_F32:
        return (double)((const cnn_real *)data)[i];
    case CNN_F16:
        return (double)cnn_ref_f16_to_f32(((const uint16_t *)data)[i]);
    case CNN_BF16:
        return (double)cnn_ref_bf16_to_f32(((const uint16_t *)data)[i]);
    case CNN_I8:
        return ((const int8_t *)data)[i];
    case CNN_I32:
        return ((const int32_t *)data)[i];
    case CNN_U8:
        return ((const uint8_t *)data)[i];
    default:
        return 0;
    }
}

void cnn_ref_put(const cnn_tensor_desc *desc, void *data, int64_t pixel, int32_t c, double value)
{
    int64_t i = pixel * desc->c_pad + c;
    switch (desc->dtype) {
    case CNN_F32:
        ((cnn_real *)data)[i] = (cnn_real)value;
        break;
    case CNN_F16:
        ((uint16_t *)data)[i] = cnn_ref_f16_from_f32((float)value);
        break;
    case CNN_BF16:
        ((uint16_t *)data)[i] = cnn_ref_bf16_from_f32((float)value);
        break;
    case CNN_I8:
        ((int8_t *)data)[i] = (int8_t)value;
        break;
    case CNN_I32:
        ((int32_t *)data)[i] = (int32_t)value;
        break;
    case CNN_U8:
        ((uint8_t *)data)[i] = (uint8_t)value;
        break;
    default:
        break;
    }
}

void cnn_ref_clear_padding(const cnn_tensor_desc *desc, void *data)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = desc->c; c < desc->c_pad; c++)
            cnn_ref_put(desc, data, pixel, c, 0);
}
