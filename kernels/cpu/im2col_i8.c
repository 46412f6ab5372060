/* im2col of bytes: the inputs of each output pixel in a row (r, s, c), 0 where the filter lies outside of the image. */
#include "kernels/cpu/gemm_i8.h"

#include <string.h>

enum { WORD = 8 };

/* All images, and where in bytes the one begins that is looked at. */
typedef struct source {
    const int8_t *images;
    ptrdiff_t image, bytes;
} source;

/* Columns x .. x+s-1 of a line of the image, part of which may lie outside. */
static void copy_columns(const cnn_i8_conv *conv, const int8_t *line, int32_t x, int8_t *dst)
{
    const int32_t from = x < 0 ? -x : 0;
    const int32_t to = conv->w - x < conv->s ? conv->w - x : conv->s;
    const size_t channels = (size_t)conv->c;
    if (from >= to) {
        memset(dst, 0, (size_t)conv->s * channels);
        return;
    }
    memset(dst, 0, (size_t)from * channels);
    memcpy(dst + (size_t)from * channels, line + (ptrdiff_t)(x + from) * conv->c, (size_t)(to - from) * channels);
    memset(dst + (size_t)to * channels, 0, (size_t)(conv->s - to) * channels);
}

/* The row of the output pixel whose filter begins at line y, column x. */
static void copy_pixel(const cnn_i8_conv *conv, const source *src, int32_t y, int32_t x, int8_t *dst)
{
    const size_t length = (size_t)conv->s * (size_t)conv->c;
    for (int32_t r = 0; r < conv->r; r++, dst += length)
        if (y + r < 0 || y + r >= conv->h)
            memset(dst, 0, length);
        else
            copy_columns(conv, src->images + src->image + (ptrdiff_t)(y + r) * conv->w * conv->c, x, dst);
}

/* All ones in bytes from .. to-1 of a word. */
static uint64_t byte_mask(int32_t from, int32_t to)
{
    static const uint8_t edges[3 * WORD] = {[WORD] = 255, 255, 255, 255, 255, 255, 255, 255};
    uint64_t after, before;
    memcpy(&after, edges + WORD - from, WORD);
    memcpy(&before, edges + 2 * WORD - to, WORD);
    return after & before;
}

/* The same for lines of the filter of at most 8 bytes, as in first layers, where calls of memcpy would cost more than
 * the copying: a word at once, with what lies outside masked out. Each line overwrites what the one before wrote too
 * much.
 */
static void copy_small_pixel(const cnn_i8_conv *conv, const source *src, int32_t y, int32_t x, int8_t *dst)
{
    const uint64_t zero = 0;
    const int32_t length = conv->s * conv->c;
    const int32_t from = x < 0 ? -x : 0;
    const int32_t to = conv->w - x < conv->s ? conv->w - x : conv->s;
    const int32_t top = y < 0 ? -y : 0; /* lines top .. bottom-1 of the filter lie inside */
    const int32_t bottom = conv->h - y < conv->r ? conv->h - y : conv->r;
    const ptrdiff_t line_bytes = (ptrdiff_t)conv->w * conv->c;
    ptrdiff_t line = src->image + (y + top) * line_bytes + x * conv->c;
    const ptrdiff_t end = line + (bottom - top - 1) * line_bytes + WORD;
    if (from >= to || top >= bottom || line < 0 || end > src->bytes) {
        copy_pixel(conv, src, y, x, dst);
        return;
    }
    const uint64_t mask = byte_mask(from * conv->c, to * conv->c);
    for (int32_t r = 0; r < top; r++, dst += length)
        memcpy(dst, &zero, WORD);
    for (int32_t r = top; r < bottom; r++, line += line_bytes, dst += length) {
        uint64_t word;
        memcpy(&word, src->images + line, WORD);
        word &= mask;
        memcpy(dst, &word, WORD);
    }
    for (int32_t r = bottom; r < conv->r; r++, dst += length)
        memcpy(dst, &zero, WORD);
}

void cnn_cpu_im2col_i8(const cnn_i8_conv *conv, const int8_t *src, int64_t first, int32_t count, int8_t *rows,
                       size_t row_bytes)
{
    const int64_t windows = (int64_t)conv->out_h * conv->out_w;
    const int64_t image_bytes = (int64_t)conv->h * conv->w * conv->c;
    const bool small = conv->s * conv->c <= WORD;
    source from = {src, (ptrdiff_t)(first / windows * image_bytes), (ptrdiff_t)(conv->n * image_bytes)};
    int32_t out_y = (int32_t)(first % windows) / conv->out_w;
    int32_t out_x = (int32_t)(first % windows) % conv->out_w;
    for (int32_t window = 0; window < count; window++) {
        const int32_t p0 = out_y * conv->pool_stride;
        const int32_t q0 = out_x * conv->pool_stride;
        for (int32_t p = p0; p < p0 + conv->pool; p++)
            for (int32_t q = q0; q < q0 + conv->pool; q++, rows += row_bytes)
                (small ? copy_small_pixel : copy_pixel)(conv, &from, p * conv->stride - conv->pad,
                                                        q * conv->stride - conv->pad, rows);
        if (++out_x < conv->out_w)
            continue;
        out_x = 0;
        if (++out_y < conv->out_h)
            continue;
        out_y = 0;
        from.image += (ptrdiff_t)image_bytes;
    }
}
