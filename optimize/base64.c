/* Base64: three bytes become four letters; the last group is filled up with '='. */
#include "optimize/base64.h"

void cnn_base64_append(cnn_text *text, const uint8_t *data, size_t bytes)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        size_t left = bytes - i;
        uint32_t group = (uint32_t)data[i] << 16;
        group |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
        group |= left > 2 ? data[i + 2] : 0;
        cnn_text_append(text, "%c%c%c%c", letters[group >> 18], letters[group >> 12 & 63],
                        left > 1 ? letters[group >> 6 & 63] : '=', left > 2 ? letters[group & 63] : '=');
    }
}
