/* PNG files of pictures with 8 bits a channel, in memory. */
#include "core/png_write.h"

#include "core/error.h"
#include "core/memory.h"

#include <png.h>
#include <stdlib.h>

cnn_status cnn_png_encode(const uint8_t *pixels, int32_t width, int32_t height, int32_t channels, uint8_t **png,
                          size_t *bytes)
{
    cnn_status status = CNN_OK;
    png_image image = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)width, .height = (png_uint_32)height};
    png_alloc_size_t size = 0;
    uint8_t *data = NULL;
    if (channels != 1 && channels != 3)
        return cnn_error(CNN_ERR_UNSUPPORTED, "a PNG picture has 1 or 3 channels here, not %d", (int)channels);
    image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
    if (!png_image_write_to_memory(&image, NULL, &size, 0, pixels, 0, NULL))
        CNN_FAIL(CNN_ERR_MEMORY, "a PNG picture of %dx%d pixels cannot be made: %s", (int)width, (int)height,
                 image.message);
    data = cnn_calloc(size, 1);
    if (!data)
        CNN_TRY(CNN_ERR_MEMORY);
    if (!png_image_write_to_memory(&image, data, &size, 0, pixels, 0, NULL))
        CNN_FAIL(CNN_ERR_MEMORY, "a PNG picture of %dx%d pixels cannot be made: %s", (int)width, (int)height,
                 image.message);
    *png = data;
    *bytes = size;
    data = NULL;
out:
    free(data);
    png_image_free(&image);
    return status;
}
