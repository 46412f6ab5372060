/* Reads PNG files with libpng into 16-bit RGBA, or into bytes and a table of what they mean where a byte says all of a
 * pixel. Rows of samples of 8 bits come as they are stored and are widened here, which takes a fraction of libpng's
 * time for that.
 *
 * libpng reports errors by longjmp: decode() is the only function that calls setjmp, everything that must survive
 * lives in png_reader outside it, and no local variable is used after a jump. */
#include "core/picture.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/wide.h"

#include <errno.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { OPAQUE = 65535, WIDEN = OPAQUE / 255, COLOURS = 256 };
enum { SIGNATURE_BYTES = 8, MAX_SIDE = 1 << 16, MAX_FILE_BYTES = 64 << 20, MAX_PIXELS = 64 << 20 };

typedef struct png_reader {
    const char *path;
    FILE *file;
    png_structp png;
    png_infop info;
    int32_t width, height;
    uint16_t *rgba;        /* [height,width,4], or NULL: there is an index */
    uint8_t *index;        /* [height,width], or NULL */
    uint16_t (*colour)[4]; /* [256] what the index means: a palette or grays */
    png_bytep *rows;       /* [height], or NULL: one row at a time */
    png_bytep row;         /* 8-bit RGBA as libpng gives it */
    cnn_status status;
    char problem[128]; /* libpng's words */
} png_reader;

static void on_error(png_structp png, png_const_charp message)
{
    png_reader *reader = png_get_error_ptr(png);
    snprintf(reader->problem, sizeof reader->problem, "%s", message);
    png_longjmp(png, 1);
}

/* Warnings are about what does not matter to the pixels. */
static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* libpng's memory, and zlib's behind it, is allocated as all memory here; a failure is remembered, since libpng's words
 * for it would sound like a damaged file. */
static png_voidp on_alloc(png_structp png, png_alloc_size_t bytes)
{
    png_reader *reader = png_get_mem_ptr(png);
    void *memory = cnn_calloc(bytes, 1);
    if (!memory)
        reader->status = CNN_ERR_MEMORY;
    return memory;
}

static void on_free(png_structp png, png_voidp memory)
{
    (void)png;
    free(memory);
}

/* Says that the system could not read on. */
static cnn_status fail_reading(const char *path)
{
    return cnn_error(CNN_ERR_IO, "%s: cannot be read: %s; check the disk, then try again", path, strerror(errno));
}

static void on_read(png_structp png, png_bytep data, size_t bytes)
{
    png_reader *reader = png_get_io_ptr(png);
    if (fread(data, 1, bytes, reader->file) == bytes)
        return;
    if (ferror(reader->file))
        reader->status = fail_reading(reader->path);
    png_error(png, "the file ends too early");
}

/* Refuses a picture by its header, before anything is allocated for its pixels. */
static cnn_status check_size(png_reader *reader)
{
    png_uint_32 width = png_get_image_width(reader->png, reader->info);
    png_uint_32 height = png_get_image_height(reader->png, reader->info);
    if (width > MAX_SIDE || height > MAX_SIDE || (uint64_t)width * height > MAX_PIXELS)
        return cnn_error(CNN_ERR_FORMAT,
                         "%s: a picture of %lux%lu is too large; the limits are %d pixels a side and %d in all",
                         reader->path, (unsigned long)width, (unsigned long)height, MAX_SIDE, MAX_PIXELS);
    reader->width = (int32_t)width;
    reader->height = (int32_t)height;
    return CNN_OK;
}

static size_t pixels_of(const png_reader *reader)
{
    return (size_t)reader->height * (size_t)reader->width; /* at most MAX_PIXELS: no overflow */
}

static cnn_status alloc_rgba(png_reader *reader)
{
    reader->rgba = cnn_aligned_alloc(pixels_of(reader) * 4 * sizeof *reader->rgba);
    return reader->rgba ? CNN_OK : CNN_ERR_MEMORY;
}

/* Asks libpng to give every kind of PNG as 16-bit RGBA in the machine's byte order. */
static cnn_status request_rgba16(png_reader *reader)
{
    const uint16_t probe = 1;
    png_set_expand_16(reader->png); /* palette, few bits and tRNS too */
    png_set_gray_to_rgb(reader->png);
    png_set_add_alpha(reader->png, 0xffff, PNG_FILLER_AFTER);
    if (*(const unsigned char *)&probe == 1)
        png_set_swap(reader->png);
    png_set_interlace_handling(reader->png);
    png_read_update_info(reader->png, reader->info);
    reader->rows = cnn_calloc((size_t)reader->height, sizeof *reader->rows);
    if (!reader->rows || alloc_rgba(reader) != CNN_OK)
        return CNN_ERR_MEMORY;
    for (int32_t y = 0; y < reader->height; y++)
        reader->rows[y] = (png_bytep)(reader->rgba + (size_t)y * (size_t)reader->width * 4);
    return CNN_OK;
}

/* Fills the table for grays of so many bits. */
static void tabulate_grays(png_reader *reader, unsigned depth)
{
    const unsigned most = (1u << depth) - 1;
    png_color_16p clear = NULL;
    if (png_get_valid(reader->png, reader->info, PNG_INFO_tRNS))
        png_get_tRNS(reader->png, reader->info, NULL, NULL, &clear);
    for (unsigned i = 0; i <= most; i++) {
        uint16_t *pixel = reader->colour[i];
        pixel[0] = pixel[1] = pixel[2] = (uint16_t)(i * (OPAQUE / most));
        pixel[3] = clear && (clear->gray & most) == i ? 0 : OPAQUE;
    }
}

/* The same for a palette; what lies beyond its end is black. */
static void tabulate_palette(png_reader *reader)
{
    png_colorp palette = NULL;
    png_bytep alpha = NULL;
    int colours = 0, alphas = 0;
    png_get_PLTE(reader->png, reader->info, &palette, &colours);
    if (png_get_valid(reader->png, reader->info, PNG_INFO_tRNS))
        png_get_tRNS(reader->png, reader->info, &alpha, &alphas, NULL);
    for (int i = 0; i < COLOURS; i++) {
        uint16_t *pixel = reader->colour[i];
        pixel[0] = (uint16_t)(i < colours ? palette[i].red * WIDEN : 0);
        pixel[1] = (uint16_t)(i < colours ? palette[i].green * WIDEN : 0);
        pixel[2] = (uint16_t)(i < colours ? palette[i].blue * WIDEN : 0);
        pixel[3] = (uint16_t)(i < alphas ? alpha[i] * WIDEN : OPAQUE);
    }
}

/* Asks for the bytes of a palette's colours or of grays, and says what they mean. */
static cnn_status request_index(png_reader *reader, png_byte type, unsigned depth)
{
    png_set_packing(reader->png);
    png_read_update_info(reader->png, reader->info);
    reader->colour = cnn_calloc(COLOURS, sizeof *reader->colour);
    reader->index = cnn_aligned_alloc(pixels_of(reader));
    if (!reader->colour || !reader->index)
        return CNN_ERR_MEMORY;
    if (type == PNG_COLOR_TYPE_GRAY)
        tabulate_grays(reader, depth);
    else
        tabulate_palette(reader);
    return CNN_OK;
}

/* Asks for rows of 8-bit RGBA. */
static cnn_status request_rgba8(png_reader *reader)
{
    png_set_expand(reader->png); /* tRNS */
    png_set_gray_to_rgb(reader->png);
    png_set_add_alpha(reader->png, 0xff, PNG_FILLER_AFTER);
    png_read_update_info(reader->png, reader->info);
    reader->row = cnn_calloc((size_t)reader->width, 4);
    return reader->row ? alloc_rgba(reader) : CNN_ERR_MEMORY;
}

static cnn_status request(png_reader *reader)
{
    const png_byte type = png_get_color_type(reader->png, reader->info);
    const png_byte depth = png_get_bit_depth(reader->png, reader->info);
    const bool whole = depth > 8 || png_get_interlace_type(reader->png, reader->info) != PNG_INTERLACE_NONE;
    const bool tabulated = type == PNG_COLOR_TYPE_PALETTE || type == PNG_COLOR_TYPE_GRAY;
    const cnn_status status = whole       ? request_rgba16(reader)
                              : tabulated ? request_index(reader, type, depth)
                                          : request_rgba8(reader);
    if (status != CNN_OK)
        return status;
    const size_t pixel_bytes = whole ? 4 * sizeof *reader->rgba : tabulated ? 1 : 4;
    const size_t row_bytes = (size_t)reader->width * pixel_bytes;
    if (png_get_rowbytes(reader->png, reader->info) != row_bytes)
        return cnn_error(CNN_ERR_UNSUPPORTED, "%s: libpng offers rows of %zu bytes where %zu are expected",
                         reader->path, (size_t)png_get_rowbytes(reader->png, reader->info), row_bytes);
    return CNN_OK;
}

CNN_WIDE_BODY void widen_body(const uint8_t *bytes, size_t count, uint16_t *samples)
{
    for (size_t i = 0; i < count; i++)
        samples[i] = (uint16_t)(bytes[i] * WIDEN);
}

CNN_WIDE(static, widen, widen_body, (const uint8_t *bytes, size_t count, uint16_t *samples), (bytes, count, samples))

static void read_row(png_reader *reader, int32_t y)
{
    const size_t first = (size_t)y * (size_t)reader->width;
    png_read_row(reader->png, reader->index ? reader->index + first : reader->row, NULL);
    if (!reader->index)
        widen(reader->row, 4 * (size_t)reader->width, reader->rgba + 4 * first);
}

/* Decodes the file into reader->rgba or reader->index. False after a libpng error (reader->problem) or an own one
 * (reader->status). */
static bool decode(png_reader *reader)
{
    if (setjmp(png_jmpbuf(reader->png)))
        return false;
    png_set_read_fn(reader->png, reader, on_read);
    png_set_user_limits(reader->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* check_size says it better */
    png_read_info(reader->png, reader->info);
    reader->status = check_size(reader);
    if (reader->status != CNN_OK)
        return false;
    reader->status = request(reader);
    if (reader->status != CNN_OK)
        return false;
    if (reader->rows)
        png_read_image(reader->png, reader->rows);
    else
        for (int32_t y = 0; y < reader->height; y++)
            read_row(reader, y);
    png_read_end(reader->png, NULL);
    return true;
}

/* Checks what can be checked without decoding; leaves the file at its start. */
static cnn_status check_file(const char *path, FILE *file)
{
    struct stat info;
    unsigned char start[SIGNATURE_BYTES];
    if (fstat(fileno(file), &info) != 0)
        return cnn_error(CNN_ERR_IO, "%s: %s", path, strerror(errno));
    if (S_ISDIR(info.st_mode))
        return cnn_error(CNN_ERR_IO, "%s: is a folder; name the pictures in it, such as %s/*.png", path, path);
    if (info.st_size > MAX_FILE_BYTES)
        return cnn_error(CNN_ERR_FORMAT, "%s: %lld bytes are too many for a picture; the limit is %d", path,
                         (long long)info.st_size, MAX_FILE_BYTES);
    const bool whole = fread(start, 1, sizeof start, file) == sizeof start;
    if (!whole && ferror(file))
        return fail_reading(path);
    if (!whole || png_sig_cmp(start, 0, sizeof start) != 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: not a PNG file (byte 0 is not the start of one); save the picture as PNG",
                         path);
    return fseek(file, 0, SEEK_SET) == 0 ? CNN_OK : fail_reading(path);
}

static void reader_close(png_reader *reader)
{
    png_destroy_read_struct(&reader->png, &reader->info, NULL);
    cnn_aligned_free(reader->rgba);
    cnn_aligned_free(reader->index);
    free(reader->colour);
    free(reader->rows);
    free(reader->row);
    if (reader->file)
        fclose(reader->file);
}

cnn_status cnn_picture_read(const char *path, cnn_picture *picture)
{
    cnn_status status = CNN_OK;
    png_reader reader = {.path = path, .file = fopen(path, "rb")};
    if (!reader.file && errno == ENOMEM)
        CNN_FAIL(CNN_ERR_MEMORY, "%s: out of memory while opening it", path);
    if (!reader.file)
        CNN_FAIL(CNN_ERR_IO, "%s: cannot be opened: %s; check its name", path, strerror(errno));
    CNN_TRY(check_file(path, reader.file));
    reader.png =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning, &reader, on_alloc, on_free);
    reader.info = reader.png ? png_create_info_struct(reader.png) : NULL;
    if (!reader.info)
        CNN_TRY(CNN_ERR_MEMORY);
    if (!decode(&reader)) {
        CNN_TRY(reader.status);
        CNN_FAIL(CNN_ERR_FORMAT, "%s: damaged PNG before byte %ld (%s); save the picture again", path,
                 ftell(reader.file), reader.problem);
    }
    *picture = (cnn_picture){reader.width, reader.height, reader.rgba, reader.index, reader.colour};
    reader.rgba = NULL;
    reader.index = NULL;
    reader.colour = NULL;
out:
    reader_close(&reader);
    return status;
}

/* Width and height are the first two numbers of the first chunk, IHDR. */
int64_t cnn_picture_count_pixels(const char *path)
{
    enum { SIZE_AT = SIGNATURE_BYTES + 8, HEADER_BYTES = SIZE_AT + 8 };
    unsigned char start[HEADER_BYTES];
    FILE *file = fopen(path, "rb");
    bool whole = file && fread(start, 1, sizeof start, file) == sizeof start;
    if (file)
        fclose(file);
    if (!whole || png_sig_cmp(start, 0, SIGNATURE_BYTES) != 0)
        return 0;
    return (int64_t)png_get_uint_32(start + SIZE_AT) * (int64_t)png_get_uint_32(start + SIZE_AT + 4);
}

cnn_status cnn_picture_expand(cnn_picture *picture)
{
    const size_t pixels = (size_t)picture->width * (size_t)picture->height;
    if (picture->rgba)
        return CNN_OK;
    uint16_t *rgba = cnn_aligned_alloc(pixels * 4 * sizeof *rgba);
    if (!rgba)
        return CNN_ERR_MEMORY;
    for (size_t i = 0; i < pixels; i++)
        memcpy(rgba + 4 * i, picture->colour[picture->index[i]], 4 * sizeof *rgba);
    cnn_aligned_free(picture->index);
    free(picture->colour);
    *picture = (cnn_picture){.width = picture->width, .height = picture->height, .rgba = rgba};
    return CNN_OK;
}

void cnn_picture_free(cnn_picture *picture)
{
    cnn_aligned_free(picture->rgba);
    cnn_aligned_free(picture->index);
    free(picture->colour);
    *picture = (cnn_picture){0};
}
