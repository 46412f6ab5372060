/* im2col of bytes: the inputs of each output pixel in a row (r, s, c), 0 where the filter lies outside of the image. */
#include "kernels/cpu/gemm_i8.h"

#include <string.h>

enum { WORD = 8, BAND_BYTES = 16 * 1024 };

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
static void copy_pixel(const cnn_i8_conv *conv, const int8_t *image, int32_t y, int32_t x, int8_t *dst)
{
    const size_t length = (size_t)conv->s * (size_t)conv->c;
    for (int32_t r = 0; r < conv->r; r++, dst += length)
        if (y + r < 0 || y + r >= conv->h)
            memset(dst, 0, length);
        else
            copy_columns(conv, image + (ptrdiff_t)(y + r) * conv->w * conv->c, x, dst);
}

/* The rows of a window, pixel by pixel. */
static void copy_window(const cnn_i8_conv *conv, const int8_t *image, int32_t out_y, int32_t out_x, int8_t *rows,
                        size_t row_bytes)
{
    const int32_t p0 = out_y * conv->pool_stride;
    const int32_t q0 = out_x * conv->pool_stride;
    for (int32_t p = p0; p < p0 + conv->pool; p++)
        for (int32_t q = q0; q < q0 + conv->pool; q++, rows += row_bytes)
            copy_pixel(conv, image, p * conv->stride - conv->pad, q * conv->stride - conv->pad, rows);
}

/* ---- Lines of the filter of at most a word, as in first layers ----
 *
 * Calls of memcpy would cost more than the copying, and so would asking at each pixel what lies outside. So the lines
 * of the image that a line of windows sees are first copied to a band with the padding around them, and from there each
 * line of the filter is one word. */

static int32_t band_lines(const cnn_i8_conv *conv)
{
    return (conv->pool - 1) * conv->stride + conv->r;
}

/* Of a line: the word that begins at the last column ends inside too. */
static size_t band_line_bytes(const cnn_i8_conv *conv)
{
    return ((size_t)conv->w + 2 * (size_t)conv->pad) * (size_t)conv->c + WORD;
}

static bool band_suits(const cnn_i8_conv *conv)
{
    return (int64_t)conv->s * conv->c <= WORD && (size_t)band_lines(conv) <= BAND_BYTES / band_line_bytes(conv);
}

static void band_fill(const cnn_i8_conv *conv, const int8_t *image, int32_t out_y, int8_t *band)
{
    const size_t line_bytes = band_line_bytes(conv);
    const size_t left = (size_t)conv->pad * (size_t)conv->c;
    const size_t image_line = (size_t)conv->w * (size_t)conv->c;
    int32_t y = out_y * conv->pool_stride * conv->stride - conv->pad;
    for (int32_t i = 0; i < band_lines(conv); i++, y++, band += line_bytes) {
        memset(band, 0, line_bytes);
        if (y >= 0 && y < conv->h)
            memcpy(band + left, image + (size_t)y * image_line, image_line);
    }
}

/* As copy_window. Each line of the filter overwrites what the one before wrote too much. */
static void copy_window_from_band(const cnn_i8_conv *conv, const int8_t *band, int32_t out_x, int8_t *rows,
                                  size_t row_bytes)
{
    const size_t line_bytes = band_line_bytes(conv);
    const size_t length = (size_t)conv->s * (size_t)conv->c;
    const size_t step = (size_t)conv->stride * (size_t)conv->c;
    const int32_t lines = conv->r;
    band += (size_t)out_x * (size_t)conv->pool_stride * step;
    for (int32_t p = 0; p < conv->pool; p++, band += (size_t)conv->stride * line_bytes)
        for (int32_t q = 0; q < conv->pool; q++, rows += row_bytes) {
            const int8_t *src = band + (size_t)q * step;
            int8_t *dst = rows;
            for (int32_t r = 0; r < lines; r++, src += line_bytes, dst += length)
                memcpy(dst, src, WORD);
        }
}

void cnn_cpu_im2col_i8(const cnn_i8_conv *conv, const int8_t *src, int64_t first, int32_t count, int8_t *rows,
                       size_t row_bytes)
{
    const int64_t windows = (int64_t)conv->out_h * conv->out_w;
    const size_t image_bytes = (size_t)conv->h * (size_t)conv->w * (size_t)conv->c;
    const size_t window_bytes = (size_t)conv->pool * (size_t)conv->pool * row_bytes;
    const bool banded = band_suits(conv);
    const int8_t *image = src + (size_t)(first / windows) * image_bytes;
    int32_t out_y = (int32_t)(first % windows) / conv->out_w;
    int32_t out_x = (int32_t)(first % windows) % conv->out_w;
    int8_t band[BAND_BYTES];
    if (banded)
        band_fill(conv, image, out_y, band);
    for (int32_t window = 0; window < count; window++, rows += window_bytes) {
        if (out_x == conv->out_w) {
            out_x = 0;
            if (++out_y == conv->out_h) {
                out_y = 0;
                image += image_bytes;
            }
            if (banded)
                band_fill(conv, image, out_y, band);
        }
        if (banded)
            copy_window_from_band(conv, band, out_x, rows, row_bytes);
        else
            copy_window(conv, image, out_y, out_x, rows, row_bytes);
        out_x++;
    }
}
