/* UTF-8: what is a valid sequence. */
#include "core/utf8.h"

int cnn_utf8_bytes(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    unsigned char a = c[0], low = 0x80, high = 0xBF; /* allowed range of the second byte */
    int bytes = a < 0x80 ? 1 : a >= 0xC2 && a <= 0xDF ? 2 : a >= 0xE0 && a <= 0xEF ? 3 : a >= 0xF0 && a <= 0xF4 ? 4 : 0;
    if (a == 0xE0)
        low = 0xA0; /* no overlong forms */
    if (a == 0xED)
        high = 0x9F; /* no surrogates */
    if (a == 0xF0)
        low = 0x90;
    if (a == 0xF4)
        high = 0x8F; /* nothing above U+10FFFF */
    for (int i = 1; i < bytes; i++) {
        if (c[i] < low || c[i] > high)
            return 0;
        low = 0x80;
        high = 0xBF;
    }
    return bytes;
}

bool cnn_utf8_is_control(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    return c[0] < 0x20 || c[0] == 0x7F || (c[0] == 0xC2 && c[1] < 0xA0);
}
