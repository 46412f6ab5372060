/* What preparation does to drawings of a digit, and resizing. */
#include "cnn/picture.h"

#include "core/hash.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

typedef struct drawing {
    int32_t width, height;
    double x, y, size;       /* of the drawing's middle and its height, pixels */
    double paper[3], ink[3]; /* 0..1 */
    double paper_alpha;
} drawing;

static const drawing plain = {300, 260, 150, 130, 180, {1, 1, 1}, {0, 0, 0}, 1};

/* How far (x, y) is inside a stroke of a "4": strokes are segments in a square of side 1 around 0. */
static double ink_at(double x, double y, double half_width)
{
    static const double strokes[3][4] = {{0.1, -0.5, -0.35, 0.15}, {-0.35, 0.15, 0.35, 0.15}, {0.1, -0.5, 0.1, 0.5}};
    double nearest = 1e9;
    for (int i = 0; i < 3; i++) {
        const double *s = strokes[i];
        double dx = s[2] - s[0], dy = s[3] - s[1];
        double t = ((x - s[0]) * dx + (y - s[1]) * dy) / (dx * dx + dy * dy);
        t = t < 0 ? 0 : t > 1 ? 1 : t;
        double px = x - s[0] - t * dx, py = y - s[1] - t * dy, d2 = px * px + py * py;
        nearest = d2 < nearest ? d2 : nearest;
    }
    return nearest < half_width * half_width ? 1 : 0;
}

/* Draws the digit, 4x4 samples a pixel. */
static cnn_picture draw(const drawing *style)
{
    cnn_picture picture = {.width = style->width, .height = style->height};
    picture.rgba = calloc((size_t)style->width * (size_t)style->height * 4, sizeof *picture.rgba);
    for (int32_t y = 0; y < style->height; y++)
        for (int32_t x = 0; x < style->width; x++) {
            uint16_t *p = picture.rgba + ((size_t)y * (size_t)style->width + (size_t)x) * 4;
            double cover = 0;
            for (int i = 0; i < 16; i++)
                cover += ink_at((x + (i % 4 + 0.5) / 4 - style->x) / style->size,
                                (y + (i / 4 + 0.5) / 4 - style->y) / style->size, 0.06) /
                         16;
            double alpha = cover + style->paper_alpha * (1 - cover);
            for (int c = 0; c < 3; c++)
                p[c] =
                    (uint16_t)(65535 * (style->paper_alpha > 0 ? style->ink[c] * cover + style->paper[c] * (1 - cover)
                                                               : style->ink[c]) +
                               0.5);
            p[3] = (uint16_t)(65535 * alpha + 0.5);
        }
    return picture;
}

static void prepare(const drawing *style, uint8_t *pixels)
{
    cnn_picture picture = draw(style);
    ck_assert_msg(cnn_picture_prepare_digit(&picture, "a drawing", pixels) == CNN_OK, "%s", cnn_last_error());
    cnn_picture_free(&picture);
}

/* Ink, size and place are as MNIST has them. */
static void check_shape(const uint8_t *pixels)
{
    double mass = 0, x = 0, y = 0;
    int left = 28, right = -1, top = 28, bottom = -1, brightest = 0;
    for (int i = 0; i < 784; i++) {
        mass += pixels[i];
        x += pixels[i] * (i % 28);
        y += pixels[i] * (i / 28);
        brightest = pixels[i] > brightest ? pixels[i] : brightest;
        if (pixels[i] == 0)
            continue;
        left = i % 28 < left ? i % 28 : left;
        right = i % 28 > right ? i % 28 : right;
        top = i / 28 < top ? i / 28 : top;
        bottom = i / 28 > bottom ? i / 28 : bottom;
    }
    ck_assert_int_eq(brightest, 255);
    ck_assert_double_eq_tol(x / mass, 14, 0.5);
    ck_assert_double_eq_tol(y / mass, 14, 0.5);
    ck_assert_int_eq(bottom - top + 1, 20);
    ck_assert_int_le(right - left + 1, 20);
    ck_assert_int_ge(right - left + 1, 14); /* the 4 is 0.82 as wide as high */
}

static double mean_difference(const uint8_t *a, const uint8_t *b)
{
    double sum = 0;
    for (int i = 0; i < 784; i++)
        sum += abs(a[i] - b[i]);
    return sum / 784;
}

/* However it is drawn, it is the same digit. */
START_TEST(polarity_colour_place_and_alpha_do_not_matter)
{
    static const drawing styles[] = {
        {300, 260, 150, 130, 180, {0, 0, 0}, {1, 1, 1}, 1},                    /* bright on dark */
        {300, 260, 150, 130, 180, {0.9, 0.88, 0.8}, {0.2, 0.25, 0.5}, 1},      /* pen on paper */
        {300, 260, 150, 130, 180, {0.1, 0.2, 0.8}, {0.9, 0.15, 0.1}, 1},       /* red on blue of the same luma */
        {300, 260, 150, 130, 180, {0, 0, 0}, {0, 0, 0}, 0},                    /* black on nothing */
        {300, 260, 150, 130, 180, {1, 1, 1}, {1, 1, 1}, 0},                    /* white on nothing */
        {300, 260, 95, 100, 180, {1, 1, 1}, {0, 0, 0}, 1},                     /* in a corner */
        {900, 2200, 500, 900, 540, {1, 1, 1}, {0, 0, 0}, 1},                   /* large */
        {300, 260, 150, 130, 180, {0.52, 0.52, 0.52}, {0.48, 0.48, 0.48}, 1}}; /* faint */
    uint8_t expected[784], pixels[784];
    prepare(&plain, expected);
    check_shape(expected);
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++) {
        prepare(&styles[i], pixels);
        check_shape(pixels);
        double difference = mean_difference(expected, pixels);
        ck_assert_msg(difference < 6, "style %zu differs by %g", i, difference);
        if (i < 5)
            ck_assert_msg(difference < 1, "style %zu differs by %g", i, difference);
    }
}
END_TEST

START_TEST(opaque_picture_with_holes)
{
    uint8_t expected[784], pixels[784];
    prepare(&plain, expected);
    cnn_picture picture = draw(&plain);
    for (int32_t y = 0; y < 20; y++) /* a hole over the paper, black below it */
        for (int32_t x = 0; x < picture.width; x++)
            memset(picture.rgba + ((size_t)y * (size_t)picture.width + (size_t)x) * 4, 0, 8);
    ck_assert_int_eq(cnn_picture_prepare_digit(&picture, "holes", pixels), CNN_OK);
    ck_assert_mem_eq(pixels, expected, 784);
    cnn_picture_free(&picture);
}
END_TEST

START_TEST(specks_are_dropped)
{
    uint8_t expected[784], pixels[784];
    prepare(&plain, expected);
    cnn_picture picture = draw(&plain);
    for (int i = 0; i < 12; i++) { /* 5x5 pixels each, along two sides */
        int32_t left = i < 6 ? 3 : 290, top = 10 + i % 6 * 40;
        for (int k = 0; k < 25; k++)
            memset(picture.rgba + ((size_t)(top + k / 5) * 300 + (size_t)(left + k % 5)) * 4, 0, 6);
    }
    ck_assert_int_eq(cnn_picture_prepare_digit(&picture, "specks", pixels), CNN_OK);
    check_shape(pixels);
    ck_assert_double_lt(mean_difference(expected, pixels), 1);
    cnn_picture_free(&picture);
}
END_TEST

/* The paper is what surrounds the drawing, even where the drawing is most of the picture. */
START_TEST(bold_drawing)
{
    enum { SIDE = 100, MARGIN = 8 };
    cnn_picture picture = {.width = SIDE, .height = SIDE, .rgba = calloc(SIDE * SIDE * 4, sizeof(uint16_t))};
    uint8_t pixels[784];
    for (int i = 0; i < SIDE * SIDE; i++) {
        int x = i % SIDE, y = i / SIDE;
        bool ink = x >= MARGIN && x < SIDE - MARGIN && y >= MARGIN && y < SIDE - MARGIN;
        for (int c = 0; c < 4; c++)
            picture.rgba[4 * i + c] = c == 3 || ink ? 65535 : 0;
    }
    ck_assert_int_eq(cnn_picture_prepare_digit(&picture, "a block", pixels), CNN_OK);
    ck_assert_int_eq(pixels[0], 0);
    ck_assert_int_eq(pixels[14 * 28 + 14], 255);
    cnn_picture_free(&picture);
}
END_TEST

/* An image as MNIST has it keeps its place and its ink. */
START_TEST(small_pictures)
{
    drawing small = {28, 28, 14, 14, 17.8, {0, 0, 0}, {1, 1, 1}, 1};
    uint8_t pixels[784];
    prepare(&small, pixels);
    check_shape(pixels);
    cnn_picture picture = draw(&small);
    double sum = 0;
    for (int i = 0; i < 784; i++)
        sum += picture.rgba[4 * i] / 257.0;
    cnn_picture_free(&picture);
    for (int i = 0; i < 784; i++)
        sum -= pixels[i];
    ck_assert_double_lt(sum < 0 ? -sum : sum, 0.25 * 784 * 40);
    uint16_t line[4 * 9] = {0}; /* 9x1: one bright pixel */
    for (int i = 0; i < 9; i++)
        line[4 * i + 3] = 65535;
    line[16] = line[17] = line[18] = 65535;
    picture = (cnn_picture){.width = 9, .height = 1, .rgba = line};
    ck_assert_int_eq(cnn_picture_prepare_digit(&picture, "a line", pixels), CNN_OK);
}
END_TEST

/* Whatever the size and the content: digits or a refusal, and each box inside the picture. */
START_TEST(odd_pictures)
{
    static const int32_t sizes[][2] = {{1, 1},   {1, 7},   {7, 1},     {2, 2},     {3, 900},   {900, 3},
                                       {28, 28}, {64, 48}, {300, 200}, {1, 65536}, {65536, 1}, {700, 900}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (int kind = 0; kind < 4; kind++) {
            cnn_picture picture = {.width = sizes[k][0], .height = sizes[k][1]};
            int32_t count = picture.width * picture.height;
            picture.rgba = calloc((size_t)count * 4, sizeof *picture.rgba);
            for (int32_t i = 0; i < 4 * count; i++) {
                uint16_t noise = (uint16_t)(cnn_splitmix64((uint64_t)i) >> 48);
                uint16_t speck = cnn_splitmix64((uint64_t)(i / 4)) % 50 == 0 ? 0 : 65535;
                picture.rgba[i] = kind == 0 ? noise : kind == 1 ? speck : kind == 2 ? (uint16_t)i : 40000;
                if (i % 4 == 3 && kind > 0)
                    picture.rgba[i] = 65535;
            }
            cnn_digits digits;
            cnn_status status = cnn_picture_prepare_digits(&picture, "odd.png", &digits);
            if (status == CNN_OK) {
                ck_assert_int_ge(digits.count, 1);
                ck_assert_int_le(digits.count, CNN_MOST_DIGITS);
                for (int32_t i = 0; i < digits.count; i++) {
                    const cnn_digit *digit = &digits.digit[i];
                    ck_assert(digit->x >= 0 && digit->width > 0 && digit->x + digit->width <= picture.width);
                    ck_assert(digit->y >= 0 && digit->height > 0 && digit->y + digit->height <= picture.height);
                }
                cnn_digits_free(&digits);
            } else {
                ck_assert_int_eq(status, CNN_ERR_FORMAT);
                ck_assert_ptr_nonnull(strstr(cnn_last_error(), "odd.png"));
            }
            ck_assert(status != CNN_OK || kind != 3); /* one colour is always refused */
            cnn_picture_free(&picture);
        }
}
END_TEST

/* Two digits: the same pixels as each alone, boxes where they stand. */
START_TEST(several_digits)
{
    uint8_t expected[784];
    prepare(&plain, expected);
    cnn_picture one = draw(&plain),
                picture = {.width = 600, .height = 260, .rgba = calloc(600 * 260 * 4, sizeof(uint16_t))};
    for (int32_t y = 0; y < 260; y++)
        for (int half = 0; half < 2; half++)
            memcpy(picture.rgba + ((size_t)y * 600 + (size_t)(half * 300)) * 4, one.rgba + (size_t)y * 1200,
                   1200 * sizeof(uint16_t));
    cnn_digits digits;
    ck_assert_int_eq(cnn_picture_prepare_digits(&picture, "two", &digits), CNN_OK);
    ck_assert_int_eq(digits.count, 2);
    for (int32_t i = 0; i < 2; i++) {
        ck_assert_double_lt(mean_difference(digits.digit[i].pixels, expected), 4);
        ck_assert_int_le(abs(digits.digit[i].x - (i * 300 + 76)), 3);
        ck_assert_int_le(abs(digits.digit[i].y - 29), 3);
        ck_assert_int_le(abs(digits.digit[i].height - 202), 4);
        ck_assert(!digits.digit[i].touching);
    }
    cnn_digits_free(&digits);
    uint8_t pixels[784]; /* known to be one digit: both halves belong to it */
    ck_assert_int_eq(cnn_picture_prepare_digit(&picture, "one", pixels), CNN_OK);
    ck_assert_double_gt(mean_difference(pixels, expected), 10);
    cnn_picture_free(&picture);
    cnn_picture_free(&one);
}
END_TEST

/* A small digit in a large picture is looked at closely: as sharp as if it filled the picture. */
START_TEST(small_digit_in_a_large_picture)
{
    drawing far = {2400, 2000, 1900, 300, 180, {1, 1, 1}, {0, 0, 0}, 1};
    uint8_t expected[784], pixels[784];
    prepare(&plain, expected);
    prepare(&far, pixels);
    ck_assert_double_lt(mean_difference(pixels, expected), 3);
}
END_TEST

/* The shadow of a straight edge across the drawing. */
START_TEST(hard_shadow)
{
    uint8_t expected[784], pixels[784];
    prepare(&plain, expected);
    for (int edge = 60; edge <= 240; edge += 60) {
        cnn_picture picture = draw(&plain);
        for (int32_t i = 0; i < picture.width * picture.height; i++)
            if (i % picture.width > edge)
                for (int c = 0; c < 3; c++)
                    picture.rgba[4 * i + c] = (uint16_t)(picture.rgba[4 * i + c] * 0.6);
        ck_assert_int_eq(cnn_picture_prepare_digit(&picture, "shadow", pixels), CNN_OK);
        ck_assert_msg(mean_difference(pixels, expected) < 16, "shadow from %d differs by %g", edge,
                      mean_difference(pixels, expected));
        cnn_picture_free(&picture);
    }
}
END_TEST

/* Ruled paper without a digit. */
START_TEST(lines_alone_are_refused)
{
    cnn_picture picture = {.width = 200, .height = 160, .rgba = calloc(200 * 160 * 4, sizeof(uint16_t))};
    cnn_digits digits;
    for (int32_t i = 0; i < 200 * 160 * 4; i++)
        picture.rgba[i] = i % 4 < 3 && i / 800 % 40 >= 38 ? 20000 : 65535;
    ck_assert_int_eq(cnn_picture_prepare_digits(&picture, "ruled.png", &digits), CNN_ERR_FORMAT);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "ruled.png: nothing is drawn in it"));
    cnn_picture_free(&picture);
}
END_TEST

START_TEST(one_colour_is_refused)
{
    for (int i = 0; i < 6; i++) {
        cnn_picture picture = {.width = i < 3 ? 64 : 1, .height = i < 3 ? 48 : 1};
        int32_t count = picture.width * picture.height * 4;
        uint8_t pixels[784];
        picture.rgba = calloc((size_t)count, sizeof *picture.rgba);
        for (int32_t k = 0; k < count; k++) /* white, clear, one opaque colour */
            picture.rgba[k] = i % 3 == 0 ? 65535 : i % 3 == 1 ? 0 : (uint16_t)(k % 4 == 3 ? 65535 : 20000 + k % 4 * 9);
        ck_assert_int_eq(cnn_picture_prepare_digit(&picture, "empty.png", pixels), CNN_ERR_FORMAT);
        ck_assert_ptr_nonnull(strstr(cnn_last_error(), "empty.png: nothing is drawn in it"));
        cnn_picture_free(&picture);
    }
}
END_TEST

START_TEST(resize)
{
    uint16_t rgba[4 * 8]; /* 4x2 */
    uint8_t gray[8], rgb[3 * 2], wide[6 * 12];
    for (int i = 0; i < 8; i++)
        for (int c = 0; c < 4; c++)
            rgba[4 * i + c] = (uint16_t)(c == 3 ? 65535 : 257 * (10 * i + c));
    cnn_picture picture = {.width = 4, .height = 2, .rgba = rgba};
    ck_assert_int_eq(cnn_picture_resize(&picture, 2, 4, 1, gray), CNN_OK); /* nothing to resample */
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(gray[i], (int)(10 * i + 0.587 + 2 * 0.114 + 0.5));
    ck_assert_int_eq(cnn_picture_resize(&picture, 1, 2, 3, rgb), CNN_OK); /* means of 2x2 */
    for (int i = 0; i < 2; i++)
        for (int c = 0; c < 3; c++)
            ck_assert_int_eq(rgb[3 * i + c], 25 + 20 * i + c);
    ck_assert_int_eq(cnn_picture_resize(&picture, 6, 12, 1, wide), CNN_OK); /* grows: never falling along a row */
    ck_assert_int_eq(wide[0], 0 + 1);
    ck_assert_int_eq(wide[2], 4); /* a third of the way from 0.8 to 10.8 */
    ck_assert_int_eq(wide[11], 30 + 1);
    ck_assert_int_eq(wide[12 * 5], 40 + 1);
    for (int i = 1; i < 12; i++)
        ck_assert_int_ge(wide[i], wide[i - 1]);
    ck_assert_int_eq(cnn_picture_resize(&picture, 1, 1, 2, wide), CNN_ERR_USAGE);
}
END_TEST

/* Proportions are kept; what is left beside the picture takes the colour of its edge. */
START_TEST(fits_with_its_proportions)
{
    enum { SIDE = 10 };
    uint16_t rgba[4 * 40 * 20];
    uint8_t pixels[3 * SIDE * SIDE], gray[SIDE * SIDE], low[SIDE * 4];
    for (int i = 0; i < 40 * 20; i++) { /* 40x20: a green block in a red frame of 4 */
        int x = i % 40, y = i / 40;
        bool frame = x < 4 || x >= 36 || y < 4 || y >= 16;
        rgba[4 * i] = frame ? 65535 : 0;
        rgba[4 * i + 1] = frame ? 0 : 65535;
        rgba[4 * i + 2] = 0;
        rgba[4 * i + 3] = 65535;
    }
    cnn_picture picture = {.width = 40, .height = 20, .rgba = rgba};
    ck_assert_int_eq(cnn_picture_resize(&picture, SIDE, SIDE, 3, pixels), CNN_OK);
    for (int i = 0; i < SIDE * SIDE; i++) { /* 10x5 in rows 2 to 6; its frame is 1 wide */
        int x = i % SIDE, y = i / SIDE;
        bool block = x >= 1 && x < 9 && y >= 3 && y < 6;
        ck_assert_int_eq(pixels[3 * i], block ? 0 : 255);
        ck_assert_int_eq(pixels[3 * i + 1], block ? 255 : 0);
        ck_assert_int_eq(pixels[3 * i + 2], 0);
    }
    ck_assert_int_eq(cnn_picture_resize(&picture, SIDE, SIDE, 1, gray), CNN_OK);
    for (int i = 0; i < SIDE * SIDE; i++)
        ck_assert_int_eq(gray[i], pixels[3 * i] ? (77 * 255 + 128) / 256 : (150 * 255 + 128) / 256);
    picture = (cnn_picture){.width = 1, .height = 800, .rgba = rgba}; /* a line still has a column */
    ck_assert_int_eq(cnn_picture_resize(&picture, 4, SIDE, 1, low), CNN_OK);
}
END_TEST

/* The gray of a gray is itself, whether it is made from the picture or from RGB bytes. */
START_TEST(gray_of_grays)
{
    uint16_t rgba[4 * 64];
    uint8_t gray[25], rgb[75];
    for (int i = 0; i < 64; i++) {
        rgba[4 * i] = rgba[4 * i + 1] = rgba[4 * i + 2] = (uint16_t)(i * 1021);
        rgba[4 * i + 3] = (uint16_t)(65535 - i * 300);
    }
    cnn_picture picture = {.width = 8, .height = 8, .rgba = rgba};
    ck_assert_int_eq(cnn_picture_resize(&picture, 5, 5, 1, gray), CNN_OK);
    ck_assert_int_eq(cnn_picture_resize(&picture, 5, 5, 3, rgb), CNN_OK);
    for (int i = 0; i < 75; i++)
        ck_assert_int_eq(rgb[i], gray[i / 3]);
}
END_TEST

/* A digit in 256 colours: 16 shares of ink in 16 lights, the ink more or less transparent. */
static cnn_picture draw_in_colours(int32_t width, int32_t height, bool transparent)
{
    enum { SHARES = 16, LIGHTS = 16 };
    const size_t count = (size_t)width * (size_t)height;
    cnn_picture picture = {.width = width, .height = height};
    picture.index = aligned_alloc(64, (count + 63) / 64 * 64);
    picture.colour = calloc(SHARES * LIGHTS, sizeof *picture.colour);
    for (int i = 0; i < SHARES * LIGHTS; i++) {
        const double ink = i / LIGHTS / (SHARES - 1.0), light = 1 - 0.4 * (i % LIGHTS) / (LIGHTS - 1.0);
        for (int c = 0; c < 3; c++)
            picture.colour[i][c] = (uint16_t)(65535 * light * (1 - 0.3 * c * ink - 0.3 * ink));
        picture.colour[i][3] = (uint16_t)(transparent ? 65535 * (0.1 + 0.9 * ink) : 65535);
    }
    for (int32_t y = 0; y < height; y++)
        for (int32_t x = 0; x < width; x++) {
            const int32_t side = width < height ? width : height;
            const double cover =
                ink_at(((double)x - (width - side) / 2) / side, ((double)y - (height - side) / 2) / side, 0.05);
            const int light = (int)(LIGHTS * (int64_t)x / width);
            picture.index[(size_t)y * (size_t)width + (size_t)x] =
                (uint8_t)((int)(cover * (SHARES - 1)) * LIGHTS + light);
        }
    return picture;
}

/* With an index a picture is what it is with the same colours as RGBA: looked at as it is, shrunk, and fitted. */
START_TEST(an_index_changes_nothing)
{
    static const int32_t sizes[][2] = {{300, 260}, {900, 700}, {60, 61}, {20, 20}, {2000, 300}};
    for (int k = 0; k < 10; k++) {
        cnn_picture index = draw_in_colours(sizes[k / 2][0], sizes[k / 2][1], k % 2);
        cnn_picture rgba = draw_in_colours(sizes[k / 2][0], sizes[k / 2][1], k % 2);
        cnn_digits few, many;
        uint8_t fitted[2][20 * 30 * 3];
        ck_assert_int_eq(cnn_picture_expand(&rgba), CNN_OK);
        ck_assert(rgba.rgba && !rgba.index && !rgba.colour);
        ck_assert_int_eq(cnn_picture_prepare_digits(&index, "an index", &few), CNN_OK);
        ck_assert_int_eq(cnn_picture_prepare_digits(&rgba, "rgba", &many), CNN_OK);
        ck_assert_int_eq(few.count, many.count);
        for (int i = 0; i < few.count; i++) {
            ck_assert_mem_eq(few.digit[i].pixels, many.digit[i].pixels, sizeof few.digit[i].pixels);
            ck_assert_int_eq(few.digit[i].x, many.digit[i].x);
            ck_assert_int_eq(few.digit[i].height, many.digit[i].height);
        }
        ck_assert_int_eq(cnn_picture_resize(&index, 20, 30, 3, fitted[0]), CNN_OK);
        ck_assert_int_eq(cnn_picture_resize(&rgba, 20, 30, 3, fitted[1]), CNN_OK);
        ck_assert_mem_eq(fitted[0], fitted[1], sizeof fitted[0]);
        cnn_digits_free(&few);
        cnn_digits_free(&many);
        cnn_picture_free(&index);
        cnn_picture_free(&rgba);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("picture");
    TCase *tests = tcase_create("preparation");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, polarity_colour_place_and_alpha_do_not_matter);
    tcase_add_test(tests, opaque_picture_with_holes);
    tcase_add_test(tests, specks_are_dropped);
    tcase_add_test(tests, bold_drawing);
    tcase_add_test(tests, small_pictures);
    tcase_add_test(tests, odd_pictures);
    tcase_add_test(tests, several_digits);
    tcase_add_test(tests, small_digit_in_a_large_picture);
    tcase_add_test(tests, hard_shadow);
    tcase_add_test(tests, lines_alone_are_refused);
    tcase_add_test(tests, one_colour_is_refused);
    tcase_add_test(tests, resize);
    tcase_add_test(tests, fits_with_its_proportions);
    tcase_add_test(tests, gray_of_grays);
    tcase_add_test(tests, an_index_changes_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
