/* Reading PNG files: every kind, damaged ones, ones that are too large. */
#include "cnn/picture.h"
#include "core/memory.h"

#include <check.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static char folder[64], path[128];

static void set_up(void)
{
    snprintf(folder, sizeof folder, "/tmp/cnn-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a.png", folder);
}

static void tear_down(void)
{
    unlink(path);
    rmdir(folder);
}

/* ---- Writing PNGs ---- */

/* A PNG to write: samples are 16 bit, [height,width,4], and are brought to the type and depth. */
typedef struct test_sheet {
    int32_t width, height;
    int type, depth, interlace;
    uint16_t *rgba;
} test_sheet;

static test_sheet sheet_new(int32_t width, int32_t height)
{
    test_sheet made = {width, height, PNG_COLOR_TYPE_RGB_ALPHA, 16, PNG_INTERLACE_NONE, NULL};
    made.rgba = calloc((size_t)width * (size_t)height * 4, sizeof *made.rgba);
    ck_assert_ptr_nonnull(made.rgba);
    return made;
}

/* Appends the `bits` highest bits of a sample to a packed row. */
static void pack(png_byte *row, size_t *bit, uint16_t sample, int bits)
{
    for (int i = 0; i < bits; i++, ++*bit)
        if (sample >> (15 - i) & 1)
            row[*bit / 8] = (png_byte)(row[*bit / 8] | 128 >> *bit % 8);
}

static void pack_row(const test_sheet *sheet, int32_t y, png_byte *row)
{
    size_t bit = 0;
    for (int32_t x = 0; x < sheet->width; x++) {
        const uint16_t *p = sheet->rgba + ((size_t)y * (size_t)sheet->width + (size_t)x) * 4;
        int colours = sheet->type & PNG_COLOR_MASK_COLOR && sheet->type != PNG_COLOR_TYPE_PALETTE ? 3 : 1;
        for (int c = 0; c < colours; c++)
            pack(row, &bit, p[c], sheet->depth);
        if (sheet->type & PNG_COLOR_MASK_ALPHA)
            pack(row, &bit, p[3], sheet->depth);
    }
}

/* Writes the sheet; palette entry i is the gray that i's bits stand for. With `transparent`, tRNS makes black clear. */
static void sheet_write(const test_sheet *sheet, bool transparent)
{
    FILE *file = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    ck_assert(file && info && !setjmp(png_jmpbuf(png)));
    png_init_io(png, file);
    png_set_IHDR(png, info, (png_uint_32)sheet->width, (png_uint_32)sheet->height, sheet->depth, sheet->type,
                 sheet->interlace, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (sheet->type == PNG_COLOR_TYPE_PALETTE) {
        png_color colours[256];
        int count = 1 << sheet->depth;
        for (int i = 0; i < count; i++)
            colours[i].red = colours[i].green = colours[i].blue = (png_byte)(i * 255 / (count - 1));
        png_set_PLTE(png, info, colours, count);
    }
    png_color_16 black = {0};
    png_byte alpha = 0;
    if (transparent)
        png_set_tRNS(png, info, &alpha, 1, &black);
    png_write_info(png, info);
    size_t row_bytes = (size_t)sheet->width * 8 + 8;
    png_byte *rows = calloc((size_t)sheet->height, row_bytes);
    png_bytep *pointers = calloc((size_t)sheet->height, sizeof *pointers);
    for (int32_t y = 0; y < sheet->height; y++) {
        pointers[y] = rows + (size_t)y * row_bytes;
        pack_row(sheet, y, pointers[y]);
    }
    png_write_image(png, pointers);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    free(pointers);
    free(rows);
    ck_assert_int_eq(fclose(file), 0);
}

/* ---- Reading ---- */

static uint16_t at_depth(uint16_t sample, int depth)
{
    uint32_t most = (1u << depth) - 1, value = sample >> (16 - depth);
    return (uint16_t)(value * 65535u / most);
}

/* Writes a pattern in a type and depth, reads it, and compares every sample. */
static void check_kind(int type, int depth, int interlace, bool transparent)
{
    test_sheet sheet = sheet_new(13, 11);
    sheet.type = type;
    sheet.depth = depth;
    sheet.interlace = interlace;
    bool colour = type & PNG_COLOR_MASK_COLOR && type != PNG_COLOR_TYPE_PALETTE;
    for (int i = 0; i < 13 * 11; i++)
        for (int c = 0; c < 4; c++)
            sheet.rgba[4 * i + c] = (uint16_t)((i + (colour || c == 3 ? 41 * c : 0)) * 2741);
    sheet_write(&sheet, transparent);
    cnn_picture picture;
    ck_assert_msg(cnn_picture_read(path, &picture) == CNN_OK, "type %d depth %d: %s", type, depth, cnn_last_error());
    ck_assert_int_eq(picture.width, 13);
    ck_assert_int_eq(picture.height, 11);
    const bool few = type == PNG_COLOR_TYPE_PALETTE || (type == PNG_COLOR_TYPE_GRAY && depth <= 8);
    ck_assert_int_eq(picture.index != NULL, few && interlace == PNG_INTERLACE_NONE);
    ck_assert_int_eq(cnn_picture_expand(&picture), CNN_OK);
    for (int i = 0; i < 13 * 11; i++) {
        const uint16_t *p = picture.rgba + 4 * i;
        bool black = true;
        for (int c = 0; c < 3; c++) {
            ck_assert_uint_eq(p[c], at_depth(sheet.rgba[4 * i + c], depth));
            black = black && p[c] == 0;
        }
        uint16_t alpha = type & PNG_COLOR_MASK_ALPHA ? at_depth(sheet.rgba[4 * i + 3], depth) : 65535;
        ck_assert_uint_eq(p[3], transparent && black ? 0 : alpha);
    }
    cnn_picture_free(&picture);
    ck_assert_ptr_null(picture.rgba);
    free(sheet.rgba);
}

START_TEST(reads_every_kind)
{
    static const int kinds[][2] = {
        {PNG_COLOR_TYPE_GRAY, 1},        {PNG_COLOR_TYPE_GRAY, 2},      {PNG_COLOR_TYPE_GRAY, 4},
        {PNG_COLOR_TYPE_GRAY, 8},        {PNG_COLOR_TYPE_GRAY, 16},     {PNG_COLOR_TYPE_RGB, 8},
        {PNG_COLOR_TYPE_RGB, 16},        {PNG_COLOR_TYPE_PALETTE, 1},   {PNG_COLOR_TYPE_PALETTE, 2},
        {PNG_COLOR_TYPE_PALETTE, 4},     {PNG_COLOR_TYPE_PALETTE, 8},   {PNG_COLOR_TYPE_GRAY_ALPHA, 8},
        {PNG_COLOR_TYPE_GRAY_ALPHA, 16}, {PNG_COLOR_TYPE_RGB_ALPHA, 8}, {PNG_COLOR_TYPE_RGB_ALPHA, 16}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int interlace = 0; interlace < 2; interlace++) {
            check_kind(kinds[i][0], kinds[i][1], interlace, false);
            if (!(kinds[i][0] & PNG_COLOR_MASK_ALPHA))
                check_kind(kinds[i][0], kinds[i][1], interlace, true);
        }
}
END_TEST

static void check_refused(cnn_status expected, const char *words)
{
    cnn_picture picture = {0};
    ck_assert_int_eq(cnn_picture_read(path, &picture), expected);
    ck_assert_ptr_null(picture.rgba);
    ck_assert_msg(strstr(cnn_last_error(), "a.png: ") && strstr(cnn_last_error(), words), "'%s' lacks '%s'",
                  cnn_last_error(), words);
    ck_assert_ptr_null(strchr(cnn_last_error(), '\n'));
}

static void put(const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, bytes, file), bytes);
    ck_assert_int_eq(fclose(file), 0);
}

static size_t get(uint8_t *data, size_t most)
{
    FILE *file = fopen(path, "rb");
    size_t bytes = fread(data, 1, most, file);
    fclose(file);
    return bytes;
}

START_TEST(not_a_picture)
{
    check_refused(CNN_ERR_IO, "cannot be opened");
    put("", 0);
    check_refused(CNN_ERR_FORMAT, "not a PNG");
    put("\x89PNG", 4);
    check_refused(CNN_ERR_FORMAT, "not a PNG");
    put("\xff\xd8\xff\xe0 a JPEG under a wrong name", 30);
    check_refused(CNN_ERR_FORMAT, "not a PNG");
    put("\x89PNG\r\n\x1a\nand no more", 19);
    check_refused(CNN_ERR_FORMAT, "damaged PNG");
    unlink(path);
    ck_assert_int_eq(mkdir(path, 0777), 0);
    check_refused(CNN_ERR_IO, "folder");
    rmdir(path);
}
END_TEST

/* Cut off at every length, and with every byte changed: refused, or for bytes that do not matter read as a picture. */
START_TEST(damaged)
{
    uint8_t data[4096];
    test_sheet sheet = sheet_new(13, 11);
    for (int i = 0; i < 13 * 11 * 4; i++)
        sheet.rgba[i] = (uint16_t)(i * 2741);
    sheet.depth = 8;
    sheet.interlace = PNG_INTERLACE_ADAM7;
    sheet_write(&sheet, false);
    free(sheet.rgba);
    size_t bytes = get(data, sizeof data);
    ck_assert_uint_lt(bytes, sizeof data);
    for (size_t length = 8; length < bytes; length++) {
        put(data, length);
        check_refused(CNN_ERR_FORMAT, "damaged PNG");
    }
    for (size_t i = 8; i < bytes; i++) {
        cnn_picture picture;
        data[i] ^= 4;
        put(data, bytes);
        if (cnn_picture_read(path, &picture) == CNN_OK)
            cnn_picture_free(&picture);
        data[i] ^= 4;
    }
    data[60] ^= 1; /* inside the compressed pixels */
    put(data, bytes);
    check_refused(CNN_ERR_FORMAT, "damaged PNG");
}
END_TEST

/* A PNG whose header says what it likes: signature, IHDR with its CRC, the start of IDAT. */
static void put_header(uint32_t width, uint32_t height)
{
    uint8_t data[45] = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";
    for (int i = 0; i < 4; i++) {
        data[16 + i] = (uint8_t)(width >> (24 - 8 * i));
        data[20 + i] = (uint8_t)(height >> (24 - 8 * i));
    }
    data[24] = 8;
    data[25] = PNG_COLOR_TYPE_RGB;
    uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), data + 12, 17);
    for (int i = 0; i < 4; i++)
        data[29 + i] = (uint8_t)(crc >> (24 - 8 * i));
    memcpy(data + 33, "\0\0\0\x10IDAT\0\0\0\0", 12);
    put(data, sizeof data);
}

START_TEST(too_large)
{
    cnn_memory_fail_at(0);
    put_header(100000, 100000);
    check_refused(CNN_ERR_FORMAT, "100000x100000 is too large");
    put_header(0x7fffffff, 0x7fffffff);
    check_refused(CNN_ERR_FORMAT, "too large");
    put_header(65537, 1);
    check_refused(CNN_ERR_FORMAT, "too large");
    put_header(8193, 8192);
    check_refused(CNN_ERR_FORMAT, "too large");
    ck_assert_int_le(cnn_memory_count(), 4 * 2); /* libpng's two structs a picture, and nothing for pixels */
    put_header(0, 5);
    check_refused(CNN_ERR_FORMAT, "damaged PNG");
    ck_assert_int_eq(truncate(path, (64 << 20) + 1), 0);
    check_refused(CNN_ERR_FORMAT, "too many for a picture");
}
END_TEST

/* Every allocation is made to fail in turn. */
START_TEST(out_of_memory)
{
    test_sheet sheet = sheet_new(90, 70);
    for (int y = 20; y < 50; y++)
        for (int x = 40; x < 50; x++)
            sheet.rgba[4 * (y * 90 + x)] = 65535; /* a red bar on black */
    sheet.type = PNG_COLOR_TYPE_RGB;
    sheet_write(&sheet, false);
    free(sheet.rgba);
    for (long n = 1;; n++) {
        cnn_picture picture = {0};
        uint8_t pixels[784];
        cnn_memory_fail_at(n);
        cnn_status status = cnn_picture_read(path, &picture);
        if (status == CNN_OK)
            status = cnn_picture_prepare_digit(&picture, path, pixels);
        bool all = cnn_memory_count() < n;
        cnn_memory_fail_at(0);
        ck_assert_int_eq(status, all ? CNN_OK : CNN_ERR_MEMORY);
        cnn_picture_free(&picture);
        if (all)
            break;
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("png");
    TCase *tests = tcase_create("files");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, reads_every_kind);
    tcase_add_test(tests, not_a_picture);
    tcase_add_test(tests, damaged);
    tcase_add_test(tests, too_large);
    tcase_add_test(tests, out_of_memory);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
