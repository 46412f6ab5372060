/* The steps of picture preparation, one by one, on planes with known answers. */
#include "core/hash.h"
#include "core/picture.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* 0..1, the same on every run */
static float noise(int32_t i, uint64_t stream)
{
    return cnn_hash_uniform(cnn_hash(stream, CNN_PURPOSE_SYNTH, (uint64_t)i, 0));
}

START_TEST(statistics)
{
    enum { COUNT = 1001 };
    float values[COUNT];
    uint8_t mask[COUNT];
    for (int i = 0; i < COUNT; i++)
        values[i] = (float)(i * 8 % COUNT); /* 0..1000 in another order */
    ck_assert_float_eq_tol(cnn_median(values, COUNT), 500, 1);
    float low, high;
    cnn_extremes(values, COUNT, &low, &high);
    ck_assert_float_eq(high - low, 1000);
    ck_assert_float_eq_tol(cnn_quantile(values, COUNT, 1), 1000, 1e-3f);
    ck_assert_float_eq_tol(cnn_deviation(values, COUNT, NULL, 0), (float)(COUNT / sqrt(12)), 0.5f);
    for (int i = 0; i < COUNT; i++)
        values[i] = i < 900 ? 0.2f : 0.8f;
    float cut = cnn_otsu(values, COUNT);
    ck_assert_float_gt(cut, 0.45f);
    ck_assert_float_lt(cut, 0.55f);
    memset(mask, 0, sizeof mask);
    ck_assert_float_eq(cnn_median(values, 0), 0);
    ck_assert_float_eq(cnn_deviation(values, COUNT, mask, 1), 0);
    ck_assert_float_eq(cnn_otsu(values, 900), 0.2f);
}
END_TEST

/* Medians beside a cut, of values that hardly differ on one side, are those of the two sides alone, to the bit. */
START_TEST(medians_beside_a_cut)
{
    enum { MOST = 1001 };
    float values[MOST], sides[2][MOST], below, above;
    for (int count = 1; count <= MOST; count += count < 40 ? 1 : 137)
        for (int share = 0; share <= 10; share++) {
            size_t counts[2] = {0};
            const float cut = (float)share / 10;
            for (int i = 0; i < count; i++) {
                values[i] = noise(i, 5) < 0.4f ? noise(i, 6) : 0.3f + 1e-3f * noise(i, 7);
                values[i] = i % 7 == 0 ? cut : values[i]; /* at the cut is below it */
                const int side = values[i] > cut;
                sides[side][counts[side]++] = values[i];
            }
            const bool both = cnn_medians_beside(values, (size_t)count, cut, &below, &above);
            ck_assert_int_eq(both, counts[0] > 0 && counts[1] > 0);
            if (!both)
                continue;
            ck_assert_float_eq(below, cnn_median(sides[0], counts[0]));
            ck_assert_float_eq(above, cnn_median(sides[1], counts[1]));
        }
}
END_TEST

/* The median of values that are there several times is that of all of them. */
START_TEST(median_of_counts)
{
    enum { COLOURS = 256, MOST = 40 };
    static float values[COLOURS], all[COLOURS * MOST];
    static uint32_t times[COLOURS];
    for (uint64_t try = 0; try < 40; try++) {
        size_t count = 0;
        for (int i = 0; i < COLOURS; i++) {
            values[i] = (float)(int)(255 * noise(i, try)) / 255;
            times[i] = noise(i, try + 100) < 0.1f ? (uint32_t)(MOST * noise(i, try + 200)) : 0;
            for (uint32_t k = 0; k < times[i]; k++)
                all[count++] = values[i];
        }
        ck_assert_float_eq(cnn_median_of_counts(values, times, COLOURS), cnn_median(all, count));
    }
    memset(times, 0, sizeof times);
    ck_assert_float_eq(cnn_median_of_counts(values, times, COLOURS), 0);
}
END_TEST

/* Against the definition. */
START_TEST(distances)
{
    static const int32_t sizes[][2] = {{1, 1}, {1, 9}, {9, 1}, {17, 23}, {40, 31}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int32_t height = sizes[s][0], width = sizes[s][1], count = height * width;
        uint8_t *mask = calloc((size_t)count, 1);
        float *distance = calloc((size_t)count, sizeof *distance), *all = calloc((size_t)count, sizeof *all);
        for (int32_t i = 0; i < count; i++)
            mask[i] = noise(i, s) < 0.05f || i == count / 2;
        ck_assert_int_eq(cnn_distance_near(mask, 1, height, width, 3, distance), CNN_OK);
        ck_assert_int_eq(cnn_distance(mask, 1, height, width, all), CNN_OK);
        for (int32_t i = 0; i < count; i++)
            if (all[i] <= 3)
                ck_assert_float_eq(distance[i], all[i]);
            else
                ck_assert_float_gt(distance[i], 3);
        memcpy(distance, all, (size_t)count * sizeof *all);
        for (int32_t i = 0; i < count; i++) {
            double nearest = 1e9;
            for (int32_t k = 0; k < count; k++)
                if (mask[k])
                    nearest = fmin(nearest, hypot(i % width - k % width, i / width - k / width));
            ck_assert_double_eq_tol((double)distance[i], nearest, 1e-4);
        }
        memset(mask, 0, (size_t)count);
        ck_assert_int_eq(cnn_distance(mask, 1, height, width, distance), CNN_OK);
        ck_assert_float_gt(distance[0], 1e5f); /* there is none */
        free(mask);
        free(distance);
        free(all);
    }
}
END_TEST

/* A bright bar under light that falls off: only the bar is left. */
START_TEST(light_is_flattened)
{
    enum { HEIGHT = 150, WIDTH = 210 };
    static float ink[HEIGHT * WIDTH], even[HEIGHT * WIDTH];
    for (int32_t i = 0; i < HEIGHT * WIDTH; i++) {
        double x = i % WIDTH / (double)WIDTH, y = i / WIDTH / (double)HEIGHT;
        bool bar = i % WIDTH >= 90 && i % WIDTH < 110 && i / WIDTH >= 30 && i / WIDTH < 120;
        ink[i] = (float)(0.3 * x + 0.25 * y * y - 0.2 * x * y + (bar ? 0.3 : 0));
        even[i] = bar ? 0.3f : 0.0f;
    }
    ck_assert_int_eq(cnn_ink_flatten(ink, HEIGHT, WIDTH), CNN_OK);
    for (int32_t i = 0; i < HEIGHT * WIDTH; i++)
        ck_assert_float_eq_tol(ink[i], even[i], 0.01f);
    memcpy(ink, even, sizeof ink);
    ck_assert_int_eq(cnn_ink_flatten(ink, HEIGHT, WIDTH), CNN_OK);
    ck_assert_mem_eq(ink, even, sizeof ink); /* even light is left alone */
}
END_TEST

enum { SIDE = 120, PLANE = SIDE * SIDE };
static uint8_t mask[PLANE];
static int32_t label[PLANE];

/* Parts of a plane drawn with characters: '#' is ink, and the mask then. */
static cnn_parts find_parts(const char *const *rows, int32_t height)
{
    int32_t width = (int32_t)strlen(rows[0]);
    cnn_parts parts;
    ck_assert_int_le(height * width, PLANE);
    for (int32_t i = 0; i < height * width; i++)
        mask[i] = rows[i / width][i % width] == '#';
    ck_assert_int_eq(cnn_parts_find(mask, height, width, label, &parts), CNN_OK);
    return parts;
}

START_TEST(parts_are_8_connected)
{
    static const char *const rows[] = {"#...#..", ".#.#..#", "..#...#", ".......", "##.....", "##...#."};
    cnn_parts parts = find_parts(rows, 6);
    ck_assert_int_eq(parts.count, 4);
    ck_assert_int_eq(parts.part[0].size, 5);
    ck_assert_int_eq(parts.part[0].box.x1, 5);
    ck_assert_int_eq(parts.part[0].box.y1, 3);
    ck_assert_int_eq(parts.part[1].size, 2);
    ck_assert_int_eq(parts.part[2].size, 4);
    ck_assert_int_eq(parts.label[5 * 7 + 5], 4);
    ck_assert_int_eq(parts.label[3 * 7 + 5], 0);
    cnn_parts_free(&parts);
}
END_TEST

START_TEST(lines_and_dust_are_dropped)
{
    static const char *const rows[] = {
        "#.......................", "#.........#####.....#...", "#.........#...#.........", "#.........#...#.........",
        "#.........#####.........", "#.........#...#.........", "#.........#...#.........", "#.........#####.........",
        "#.......................", "#.######################", "#.......................",
    };
    cnn_parts parts = find_parts(rows, 11);
    ck_assert_int_eq(parts.count, 4); /* line down at the side, digit, dust, line across */
    cnn_parts_select(mask, &parts);
    ck_assert(!parts.part[0].kept);
    ck_assert(parts.part[1].kept);
    ck_assert(!parts.part[2].kept);
    ck_assert(!parts.part[3].kept);
    cnn_parts_free(&parts);
    static const char *const alone[] = {"........", "########", "........", "...##..."};
    parts = find_parts(alone, 4); /* nothing of a digit's size is left without the line */
    parts.part[0].size = 80;
    cnn_parts_select(mask, &parts);
    ck_assert(parts.part[0].kept);
    cnn_parts_free(&parts);
}
END_TEST

/* Two lines through a bar: the lines go, the bar and a short stroke stay; also when all is turned by 90 degrees. */
START_TEST(ruled_lines_are_erased)
{
    static float ink[SIDE * SIDE];
    for (int turned = 0; turned < 2; turned++)
        for (int lines = 1; lines <= 2; lines++) {
            int32_t left = 0;
            for (int32_t i = 0; i < SIDE * SIDE; i++) {
                int32_t x = turned ? i / SIDE : i % SIDE, y = turned ? i % SIDE : i / SIDE;
                bool bar = x >= 50 && x < 58 && y >= 10 && y < 110, stroke = y >= 80 && y < 82 && x >= 58 && x < 90;
                bool line =
                    (y - x / 40 >= 30 && y - x / 40 < 32) || (lines == 2 && y - x / 40 >= 60 && y - x / 40 < 62);
                mask[i] = bar || stroke || line;
                ink[i] = mask[i];
            }
            ck_assert_int_eq(cnn_lines_erase(ink, mask, SIDE, SIDE), CNN_OK);
            for (int32_t i = 0; i < SIDE * SIDE; i++) {
                ck_assert_int_eq(ink[i] > 0, mask[i]);
                left += mask[i];
            }
            int32_t drawing = 8 * 100 + 32 * 2;
            if (lines == 2)
                ck_assert_int_eq(left, drawing);
            else
                ck_assert_int_gt(left, drawing + 150); /* a single line may be a stroke */
        }
}
END_TEST

/* A hard shadow over half of the paper: only the stroke is left of it. */
START_TEST(tophat_leaves_strokes)
{
    enum { HEIGHT = 90, WIDTH = 140 };
    static float ink[HEIGHT * WIDTH], scratch[HEIGHT * WIDTH];
    for (int32_t i = 0; i < HEIGHT * WIDTH; i++) {
        int32_t x = i % WIDTH, y = i / WIDTH;
        bool stroke = x >= 20 && x < 120 && y >= 40 && y < 46;
        ink[i] = (x < 70 ? 0.0f : 0.4f) + (stroke ? 0.5f : 0.0f);
    }
    ck_assert_int_eq(cnn_ink_tophat(ink, HEIGHT, WIDTH, 30, scratch), CNN_OK);
    for (int32_t i = 0; i < HEIGHT * WIDTH; i++) {
        int32_t x = i % WIDTH, y = i / WIDTH;
        bool stroke = x >= 20 && x < 120 && y >= 40 && y < 46;
        ck_assert_float_eq_tol(ink[i], stroke ? 0.5f : 0.0f, 1e-6f);
    }
}
END_TEST

static double doubt_about(const char *const *rows, int32_t height)
{
    cnn_parts parts = find_parts(rows, height);
    size_t count = (size_t)parts.height * (size_t)parts.width;
    float *ink = calloc(count, sizeof *ink);
    double doubt;
    for (size_t i = 0; i < count; i++)
        ink[i] = mask[i];
    cnn_parts_select(mask, &parts);
    ck_assert_int_eq(cnn_parts_doubt(&parts, ink, mask, &doubt), CNN_OK);
    cnn_parts_free(&parts);
    free(ink);
    return doubt;
}

START_TEST(doubts)
{
    static const char *const digit[] = {"............", "...######...", "......##....", ".....##.....",
                                        "....##......", "....##......", "....##......", "............"};
    static const char *const solid[] = {"............", "..#######...", "..########..", "..########..",
                                        "..########..", "..########..", "..#######...", "............"};
    static const char *const shadow[] = {"........####", ".......#####", ".......#####", "......######",
                                         "......######", ".....#######", ".....#######", "....########"};
    static const char *const hole[] = {"........####", "...#.#######", "..#..#######", ".##.########",
                                       ".##.########", ".##..#######", "..#..#######", "........####"};
    ck_assert_double_eq(doubt_about(digit, 8), 0);
    ck_assert_double_ge(doubt_about(solid, 8), 1);
    ck_assert_double_ge(doubt_about(shadow, 8), 1);
    ck_assert_double_eq(doubt_about(hole, 8), 0); /* beside the wide part, not in its box */
}
END_TEST

/* A sheet is found when something is drawn on it. */
START_TEST(sheet)
{
    enum { HEIGHT = 100, WIDTH = 120 };
    static float rgb[3 * HEIGHT * WIDTH];
    for (int drawn = 0; drawn < 2; drawn++) {
        for (int32_t i = 0; i < HEIGHT * WIDTH; i++) {
            int32_t x = i % WIDTH, y = i / WIDTH;
            bool inside = x >= 10 && x < 100 && y >= 12 && y < 92;
            bool ink = drawn && x >= 50 && x < 56 && y >= 30 && y < 70;
            mask[i] = inside && !ink;
            rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = inside && !ink ? 0.9f : 0.2f;
        }
        cnn_parts parts;
        cnn_box box;
        ck_assert_int_eq(cnn_parts_find(mask, HEIGHT, WIDTH, label, &parts), CNN_OK);
        ck_assert(cnn_sheet_find(&parts, &box));
        ck_assert(box.x0 == 12 && box.y0 == 14 && box.x1 == 98 && box.y1 == 90);
        ck_assert_int_eq(cnn_sheet_is_drawn_on(rgb, WIDTH, box), drawn);
        cnn_parts_free(&parts);
    }
}
END_TEST

/* Makes digits from parts with these boxes. */
static int32_t group(const cnn_box *boxes, int32_t count, cnn_part *part, cnn_box *digits)
{
    cnn_parts parts = {.height = 100, .width = 300, .part = part, .count = count};
    for (int32_t i = 0; i < count; i++)
        part[i] = (cnn_part){.box = boxes[i], .size = 100, .bridge = i, .kept = true};
    return cnn_digits_group(&parts, false, digits);
}

START_TEST(digits_from_parts)
{
    cnn_part part[80];
    cnn_box digits[CNN_MOST_DIGITS];
    static const cnn_box number[] = {{150, 12, 170, 60}, {20, 10, 50, 60}, {80, 11, 110, 58}};
    ck_assert_int_eq(group(number, 3, part, digits), 3);
    ck_assert_int_eq(part[0].digit, 2); /* from left to right */
    ck_assert_int_eq(part[1].digit, 0);
    ck_assert_int_eq(digits[1].x0, 80);
    static const cnn_box five[] = {{20, 20, 50, 70}, {30, 10, 65, 16}, {80, 8, 110, 70}};
    ck_assert_int_eq(group(five, 3, part, digits), 2); /* its bar hangs out to the right */
    ck_assert_int_eq(part[1].digit, 0);
    ck_assert_int_eq(digits[0].x1, 65);
    ck_assert_int_eq(digits[0].y0, 10);
    static const cnn_box crumbs[] = {{20, 10, 50, 60}, {56, 10, 70, 16}, {150, 30, 160, 45}};
    ck_assert_int_eq(group(crumbs, 3, part, digits), 1); /* one beside the digit, one far from it */
    ck_assert_int_eq(part[1].digit, 0);
    ck_assert_int_eq(part[2].digit, CNN_NO_DIGIT);
    ck_assert_int_eq(digits[0].x1, 70);
    static const cnn_box rows[] = {{20, 60, 50, 108}, {60, 62, 80, 107}, {15, 0, 40, 26}, {70, 5, 80, 10}};
    ck_assert_int_eq(group(rows, 4, part, digits), 2); /* what stands above is not part of the number */
    ck_assert_int_eq(part[2].digit, CNN_NO_DIGIT);
    ck_assert_int_eq(digits[0].y0, 60);
    cnn_box many[80];
    for (int32_t i = 0; i < 80; i++)
        many[i] = (cnn_box){3 * i, 10, 3 * i + 2, 30};
    ck_assert_int_eq(group(many, 80, part, digits), 1); /* too many for a number */
    ck_assert_int_eq(part[79].digit, 0);
    ck_assert_int_eq(digits[0].x1, 239);
    ck_assert(cnn_digit_touches(&(cnn_box){0, 0, 90, 50}));
    ck_assert(!cnn_digit_touches(&(cnn_box){0, 0, 50, 50}));
}
END_TEST

/* A vertical bar `width` x `height` as a glyph. */
static cnn_glyph bar(int32_t height, int32_t width)
{
    cnn_glyph glyph = {height, width, calloc((size_t)(height * width), sizeof(float)),
                       calloc((size_t)(height * width), 1)};
    for (int32_t i = 0; i < height * width; i++) {
        glyph.ink[i] = 1;
        glyph.mask[i] = 1;
    }
    return glyph;
}

/* Width of the ink in the middle row, when the glyph is 20 pixels high. */
static double middle_width(const cnn_glyph *glyph)
{
    double sum = 0;
    for (int32_t x = 0; x < glyph->width; x++)
        sum += (double)glyph->ink[glyph->height / 2 * glyph->width + x];
    return sum * 20 / glyph->height;
}

START_TEST(strokes_get_the_width_of_mnist)
{
    static const struct {
        int32_t height, width;
        double expected;
    } cases[] = {{200, 8, 2.4}, {200, 3, 2.4}, {200, 30, 3}, {200, 60, 3.4}, {400, 100, 3.4}, {90, 2, 2.4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cnn_glyph glyph = bar(cases[i].height, cases[i].width);
        ck_assert_int_eq(cnn_glyph_resize(&glyph), CNN_OK);
        ck_assert_int_eq(cnn_glyph_set_stroke(&glyph), CNN_OK);
        ck_assert_double_eq_tol(middle_width(&glyph), cases[i].expected, 0.55); /* square ends */
        cnn_glyph_free(&glyph);
    }
}
END_TEST

/* A thick bar with a thin one below: the thin one is not lost. */
START_TEST(thinning_breaks_nothing)
{
    cnn_glyph glyph = bar(200, 60);
    for (int32_t y = 120; y < 200; y++)
        for (int32_t x = 0; x < 60; x++)
            if (x < 26 || x >= 34) {
                glyph.ink[y * 60 + x] = 0;
                glyph.mask[y * 60 + x] = 0;
            }
    ck_assert_int_eq(cnn_glyph_set_stroke(&glyph), CNN_OK);
    ck_assert_int_gt(glyph.height, 170);
    cnn_glyph_free(&glyph);
}
END_TEST

START_TEST(glyphs_are_resized)
{
    cnn_glyph glyph = bar(1, 1);
    ck_assert_int_eq(cnn_glyph_resize(&glyph), CNN_OK);
    ck_assert_int_ge(glyph.height, 80);
    cnn_glyph_free(&glyph);
    glyph = bar(2000, 40);
    ck_assert_int_eq(cnn_glyph_resize(&glyph), CNN_OK);
    ck_assert_int_eq(glyph.height, 512);
    ck_assert_int_eq(glyph.width, 10);
    cnn_glyph_free(&glyph);
    glyph = bar(1, 5000);
    ck_assert_int_eq(cnn_glyph_resize(&glyph), CNN_OK);
    ck_assert_int_eq(glyph.width, 512);
    cnn_glyph_free(&glyph);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("picture steps");
    TCase *tests = tcase_create("steps");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, statistics);
    tcase_add_test(tests, medians_beside_a_cut);
    tcase_add_test(tests, median_of_counts);
    tcase_add_test(tests, distances);
    tcase_add_test(tests, light_is_flattened);
    tcase_add_test(tests, parts_are_8_connected);
    tcase_add_test(tests, lines_and_dust_are_dropped);
    tcase_add_test(tests, ruled_lines_are_erased);
    tcase_add_test(tests, tophat_leaves_strokes);
    tcase_add_test(tests, doubts);
    tcase_add_test(tests, sheet);
    tcase_add_test(tests, digits_from_parts);
    tcase_add_test(tests, strokes_get_the_width_of_mnist);
    tcase_add_test(tests, thinning_breaks_nothing);
    tcase_add_test(tests, glyphs_are_resized);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
