/* Fuzz target: a PNG file with these bytes, read and prepared. */
#include "fuzz_file.h"

#include "cnn/picture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST_PIXELS = 1 << 20 }; /* larger ones only take longer */
    uint8_t pixels[28 * 28], resized[3 * 7 * 9];
    cnn_picture picture;
    cnn_digits digits;
    const char *path = fuzz_file(data, size);
    if (cnn_picture_read(path, &picture) != CNN_OK)
        return 0;
    if ((int64_t)picture.width * picture.height <= MOST_PIXELS) {
        if (cnn_picture_prepare_digit(&picture, path, pixels) == CNN_OK)
            fuzz_use(pixels[28 * 28 - 1]);
        if (cnn_picture_prepare_digits(&picture, path, &digits) == CNN_OK) {
            for (int32_t i = 0; i < digits.count; i++)
                fuzz_use(digits.digit[i].pixels[28 * 28 - 1] + (size_t)digits.digit[i].x);
            cnn_digits_free(&digits);
        }
        if (cnn_picture_resize(&picture, 7, 9, 3, resized) == CNN_OK)
            fuzz_use(resized[3 * 7 * 9 - 1]);
    }
    cnn_picture_free(&picture);
    return 0;
}
