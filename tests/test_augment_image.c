/* Augmentation of pixels: what each kind does to drawn signs. */
#include "tests/train_case.h"

#include "kernels/augment/apply.h"
#include "kernels/augment/serif.h"
#include "train/augment.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 28, PIXELS = SIDE * SIDE };

static const cnn_augment_shape digit_shape = {SIDE, SIDE, 1};
static const cnn_dataset mnist = {.id = CNN_DATASET_MNIST, .height = SIDE, .width = SIDE, .channels = 1, .classes = 10};
static const cnn_dataset photos = {
    .id = CNN_DATASET_PICTURES, .height = SIDE, .width = SIDE, .channels = 1, .classes = 2};
static const cnn_dataset colours = {.id = CNN_DATASET_CIFAR10, .height = 32, .width = 32, .channels = 3, .classes = 10};

static cnn_augment_recipe parse(const char *list, const cnn_dataset *data)
{
    cnn_augment_recipe recipe;
    case_check(cnn_augment_parse(list, 1, data, &recipe));
    return recipe;
}

/* The parameters that leave an image as it is. */
static cnn_augment_params still(void)
{
    return (cnn_augment_params){.augmented = true, .turn = {{1, 0}, {0, 1}}, .contrast = 1};
}

static void apply_to(const cnn_dataset *data, const cnn_augment_params *params, const uint8_t *src, uint8_t *dst)
{
    const cnn_augment_recipe recipe = parse("shift", data);
    float *scratch = malloc(cnn_augment_scratch(digit_shape) * sizeof *scratch);
    cnn_augment_apply(params, recipe.mirror, digit_shape, src, dst, scratch);
    free(scratch);
}

static void apply(const cnn_augment_params *params, const uint8_t *src, uint8_t *dst)
{
    apply_to(&mnist, params, src, dst);
}

static cnn_augment_params draw(const char *list, uint64_t seed, int32_t epoch, int32_t image)
{
    const cnn_augment_recipe recipe = parse(list, &mnist);
    cnn_augment_params params;
    memset(&params, 0x55, sizeof params);
    cnn_augment_draw(&recipe, seed, epoch, image, 1, &params);
    return params;
}

/* ---- Signs ---- */

/* A straight stroke with soft edges, the brighter value on top. */
static void stroke(uint8_t *image, double x0, double y0, double x1, double y1, double width)
{
    const double dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            const double t = fmin(fmax(((x - x0) * dx + (y - y0) * dy) / square, 0), 1);
            const double distance = hypot(x - x0 - t * dx, y - y0 - t * dy);
            const double ink = 255 * fmin(fmax(0.5 * width + 0.5 - distance, 0), 1);
            if (ink > image[y * SIDE + x])
                image[y * SIDE + x] = (uint8_t)lrint(ink);
        }
}

static void draw_one(uint8_t *image)
{
    memset(image, 0, PIXELS);
    stroke(image, 15, 5, 13, 23, 3);
}

static void draw_seven(uint8_t *image)
{
    memset(image, 0, PIXELS);
    stroke(image, 8, 6, 19, 6, 3);
    stroke(image, 19, 6, 13, 23, 3);
}

static void draw_eight(uint8_t *image)
{
    memset(image, 0, PIXELS);
    stroke(image, 9, 5, 18, 14, 2.5);
    stroke(image, 18, 14, 9, 22, 2.5);
    stroke(image, 9, 22, 18, 22, 2.5);
    stroke(image, 18, 22, 9, 14, 2.5);
    stroke(image, 9, 14, 18, 5, 2.5);
    stroke(image, 18, 5, 9, 5, 2.5);
}

/* ---- Measuring ---- */

typedef struct moments {
    double ink, x, y, xx, xy, yy; /* sum, centre, central second moments */
} moments;

static moments measure_rows(const uint8_t *image, int first, int last)
{
    moments m = {0};
    for (int y = first; y < last; y++)
        for (int x = 0; x < SIDE; x++) {
            m.ink += image[y * SIDE + x];
            m.x += image[y * SIDE + x] * (double)x;
            m.y += image[y * SIDE + x] * (double)y;
        }
    m.x /= m.ink;
    m.y /= m.ink;
    for (int y = first; y < last; y++)
        for (int x = 0; x < SIDE; x++) {
            const double value = image[y * SIDE + x] / m.ink;
            m.xx += value * (x - m.x) * (x - m.x);
            m.xy += value * (x - m.x) * (y - m.y);
            m.yy += value * (y - m.y) * (y - m.y);
        }
    return m;
}

static moments measure(const uint8_t *image)
{
    return measure_rows(image, 0, SIDE);
}

/* Of the main axis, in degrees from x towards y. */
static double axis(const moments *m)
{
    return 0.5 * atan2(2 * m->xy, m->xx - m->yy) * 180 / acos(-1.0);
}

static double stroke_width(const uint8_t *image)
{
    float pixels[(SIDE + 2) * (SIDE + 2)] = {0}, more[(SIDE + 2) * (SIDE + 2)], sums[CNN_AUGMENT_SUMS];
    const cnn_plane plane = {pixels, SIDE, SIDE, 1}, spare = {more, SIDE, SIDE, 1};
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            *cnn_plane_at(&plane, y, x) = image[y * SIDE + x];
    return (double)augment_stroke_width(&plane, &spare, sums);
}

static void check_near(double value, double expected, double tolerance, const char *what)
{
    ck_assert_msg(fabs(value - expected) <= tolerance, "%s: %g, not %g", what, value, expected);
}

/* ---- Geometry ---- */

START_TEST(strength_zero_is_identity)
{
    uint8_t image[PIXELS], result[PIXELS];
    const cnn_augment_params params = still();
    for (int i = 0; i < PIXELS; i++)
        image[i] = (uint8_t)(i * 37 % 256);
    apply(&params, image, result);
    ck_assert_mem_eq(image, result, PIXELS);
    const cnn_augment_params none = draw("shift=0,rotate=0,elastic=0,stroke=0,serif=0,blur=0,cutout=0", 1, 1, 1);
    ck_assert(none.augmented);
    apply(&none, image, result);
    ck_assert_mem_eq(image, result, PIXELS);
}
END_TEST

START_TEST(flip_and_crop_are_exact)
{
    uint8_t image[PIXELS], result[PIXELS];
    cnn_augment_params params = draw("flip=1", 1, 1, 1);
    for (int i = 0; i < PIXELS; i++)
        image[i] = (uint8_t)(i * 37 % 256);
    apply(&params, image, result);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            ck_assert_int_eq(result[y * SIDE + x], image[y * SIDE + SIDE - 1 - x]);
    params = still();
    params.move[0] = 3;
    params.move[1] = -2;
    draw_eight(image);
    apply(&params, image, result);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            ck_assert_int_eq(result[y * SIDE + x], x < 3 || y + 2 >= SIDE ? 0 : image[(y + 2) * SIDE + x - 3]);
}
END_TEST

START_TEST(shift_moves_the_centre_of_mass)
{
    uint8_t image[PIXELS], result[PIXELS];
    draw_eight(image);
    const moments before = measure(image);
    for (int i = 0; i < 50; i++) {
        const cnn_augment_params params = draw("shift=3", 1, 1, i);
        apply(&params, image, result);
        const moments after = measure(result);
        check_near(after.x - before.x, (double)params.move[0], 0.05, "shift in x");
        check_near(after.y - before.y, (double)params.move[1], 0.05, "shift in y");
    }
}
END_TEST

START_TEST(rotation_turns_by_its_angle)
{
    uint8_t image[PIXELS], result[PIXELS];
    draw_one(image);
    const moments before = measure(image);
    for (int i = 0; i < 50; i++) {
        const cnn_augment_params params = draw("rotate=40", 1, 1, i);
        const double angle = atan2((double)params.turn[0][1], (double)params.turn[0][0]) * 180 / acos(-1.0);
        apply(&params, image, result);
        const moments after = measure(result);
        check_near(remainder(axis(&after) - axis(&before), 180), angle, 0.5, "angle");
    }
}
END_TEST

START_TEST(scale_and_shear_change_sizes)
{
    uint8_t image[PIXELS], result[PIXELS];
    draw_eight(image);
    const moments before = measure(image);
    double least = 9, most = 0;
    for (int i = 0; i < 50; i++) {
        const cnn_augment_params params = draw("scale=0.2", 1, 1, i);
        apply(&params, image, result);
        const moments after = measure(result);
        const double x = sqrt(after.xx / before.xx), y = sqrt(after.yy / before.yy);
        check_near(x * (double)params.turn[0][0], 1, 0.04, "width");
        check_near(y * (double)params.turn[1][1], 1, 0.04, "height");
        least = fmin(least, sqrt(x * y));
        most = fmax(most, sqrt(x * y));
    }
    ck_assert_msg(least < 0.85 && least > 0.78 && most > 1.15 && most < 1.22, "sizes from %g to %g", least, most);
    cnn_augment_params params = still();
    params.turn[0][1] = -0.3f; /* x grows by 0.3 a row */
    draw_one(image);
    apply(&params, image, result);
    const moments top = measure_rows(result, 8, 9), bottom = measure_rows(result, 18, 19);
    const moments top_before = measure_rows(image, 8, 9), bottom_before = measure_rows(image, 18, 19);
    check_near(bottom.x - top.x - (bottom_before.x - top_before.x), 3, 0.05, "shear over 10 rows");
}
END_TEST

/* A ramp of 9 a pixel shows where each pixel came from. */
START_TEST(elastic_has_its_strength_and_is_smooth)
{
    uint8_t image[PIXELS], result[PIXELS];
    double squares = 0, roughness = 0;
    int count = 0;
    for (int i = 0; i < PIXELS; i++)
        image[i] = (uint8_t)(i % SIDE * 9);
    for (int i = 0; i < 200; i++) {
        const cnn_augment_params params = draw("elastic=0.8", 1, 1, i);
        apply_to(&photos, &params, image, result);
        for (int y = 4; y < SIDE - 4; y++)
            for (int x = 4; x < SIDE - 5; x++) {
                const double here = result[y * SIDE + x] / 9.0 - x, next = result[y * SIDE + x + 1] / 9.0 - x - 1;
                squares += here * here;
                roughness += (next - here) * (next - here);
                count++;
            }
    }
    check_near(sqrt(squares / count), 0.8, 0.05, "root mean square");
    ck_assert_msg(sqrt(roughness / count) < 0.2, "neighbours differ by %g", sqrt(roughness / count));
}
END_TEST

START_TEST(borders_are_empty_or_mirrored)
{
    const cnn_augment_shape shape = {6, 5, 3};
    uint8_t image[90], result[90];
    float *scratch = malloc(cnn_augment_scratch(shape) * sizeof *scratch);
    cnn_augment_recipe recipe = parse("shift", &colours);
    cnn_augment_params params = still();
    params.move[0] = 2;
    params.move[1] = -1;
    for (int i = 0; i < 90; i++)
        image[i] = (uint8_t)(10 + i);
    cnn_augment_apply(&params, recipe.mirror, shape, image, result, scratch);
    for (int y = 0; y < 6; y++)
        for (int x = 0; x < 5; x++) {
            const int from_x = x >= 2 ? x - 2 : 2 - x, from_y = y < 5 ? y + 1 : 4;
            ck_assert_mem_eq(result + (y * 5 + x) * 3, image + (from_y * 5 + from_x) * 3, 3);
        }
    recipe.mirror = false;
    cnn_augment_apply(&params, recipe.mirror, shape, image, result, scratch);
    for (int i = 0; i < 90; i++)
        ck_assert_int_eq(result[i] == 0, i % 15 < 6 || i / 15 == 5);
    free(scratch);
}
END_TEST

/* ---- Strokes and brightness ---- */

START_TEST(strokes_get_wider_and_thinner)
{
    static void (*const signs[])(uint8_t *) = {draw_one, draw_seven, draw_eight};
    const float changes[] = {-1, -0.5f, 0.5f, 1, 1.6f};
    for (int s = 0; s < 3; s++)
        for (int c = 0; c < 5; c++) {
            uint8_t image[PIXELS], result[PIXELS];
            cnn_augment_params params = still();
            signs[s](image);
            params.stroke = changes[c];
            apply_to(&photos, &params, image, result); /* no ink is restored */
            const double width = stroke_width(image), ink = measure(image).ink;
            const double change = fmax((double)changes[c], 1.6 - width);
            check_near((measure(result).ink - ink) / (ink / width), change, 0.25 * fabs(change), "change of width");
            apply(&params, image, result);
            ck_assert(changes[c] > 0.0f ? measure(result).ink > measure(image).ink
                                        : measure(result).ink < measure(image).ink);
        }
}
END_TEST

START_TEST(thin_strokes_do_not_vanish)
{
    uint8_t image[PIXELS] = {0}, result[PIXELS];
    cnn_augment_params params = still();
    stroke(image, 6, 6, 20, 21, 1);
    params.stroke = -4;
    apply(&params, image, result);
    check_near(measure(result).ink / measure(image).ink, 1, 0.05, "ink");
}
END_TEST

START_TEST(ink_stays_bright)
{
    uint8_t image[PIXELS], result[PIXELS];
    draw_one(image);
    for (int i = 0; i < 40; i++) {
        const cnn_augment_params params = draw("shift,rotate,stroke=1.5", 1, 1, i);
        double sums[2][2] = {{0}};
        apply(&params, image, result);
        for (int k = 0; k < PIXELS; k++) {
            sums[0][0] += image[k];
            sums[0][1] += (double)image[k] * image[k];
            sums[1][0] += result[k];
            sums[1][1] += (double)result[k] * result[k];
        }
        ck_assert_msg(sums[1][1] / sums[1][0] > 0.85 * sums[0][1] / sums[0][0], "image %d is dim: %g after %g", i,
                      sums[1][1] / sums[1][0], sums[0][1] / sums[0][0]);
    }
}
END_TEST

START_TEST(blur_contrast_and_cutout)
{
    uint8_t image[PIXELS], result[PIXELS];
    draw_eight(image);
    cnn_augment_params params = still();
    params.blur = 1;
    apply(&params, image, result);
    check_near(measure(result).ink, measure(image).ink, 0.01 * measure(image).ink, "ink after blur");
    check_near(measure(result).xx, measure(image).xx + 0.5, 0.1, "spread by (1 2 1)/4");
    params.blur = -0.5f;
    apply(&params, image, result);
    ck_assert(stroke_width(result) < stroke_width(image) + 0.2);
    params = still();
    params.contrast = 0.5f;
    apply(&params, image, result);
    for (int i = 0; i < PIXELS; i++)
        ck_assert_int_eq(result[i], (image[i] + 1) / 2);
    params = still();
    params.cutout = 5;
    params.cutout_at[0] = 0.5f;
    params.cutout_at[1] = 0;
    memset(image, 200, PIXELS);
    apply(&params, image, result);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            ck_assert_int_eq(result[y * SIDE + x], y < 3 && x >= 12 && x < 17 ? 0 : 200);
}
END_TEST

/* ---- Serifs ---- */

static cnn_augment_params draw_for(const char *list, int label, int32_t image)
{
    const cnn_augment_recipe recipe = parse(list, &mnist);
    cnn_augment_params params;
    cnn_augment_draw(&recipe, 1, 1, image, label, &params);
    return params;
}

/* The serif alone: what follows it, apply, also brings the centre of mass back. */
static void add_serif(const cnn_augment_params *params, const uint8_t *src, uint8_t *dst)
{
    float pixels[(SIDE + 2) * (SIDE + 2)] = {0}, more[(SIDE + 2) * (SIDE + 2)], sums[CNN_AUGMENT_SUMS];
    const cnn_plane plane = {pixels, SIDE, SIDE, 1}, spare = {more, SIDE, SIDE, 1};
    for (int i = 0; i < PIXELS; i++)
        *cnn_plane_at(&plane, i / SIDE, i % SIDE) = src[i];
    augment_draw_serif(&params->serif, &plane, &spare, sums);
    for (int i = 0; i < PIXELS; i++)
        dst[i] = (uint8_t)lrintf(*cnn_plane_at(&plane, i / SIDE, i % SIDE));
}

/* Ink that came between rows and columns, in full pixels. */
static double gained(const uint8_t *image, const uint8_t *result, int first_row, int last_row, int first, int last)
{
    double ink = 0;
    for (int y = first_row; y < last_row; y++)
        for (int x = first; x < last; x++)
            ink += result[y * SIDE + x] - image[y * SIDE + x];
    return ink / 255;
}

START_TEST(a_one_gets_flag_and_foot)
{
    uint8_t image[PIXELS], result[PIXELS];
    int feet = 0;
    draw_one(image);
    for (int i = 0; i < 60; i++) {
        const cnn_augment_params params = draw_for("serif=1", 1, i);
        ck_assert(params.serif.flag && !params.serif.bar);
        feet += params.serif.foot;
        apply(&params, image, result);
        const moments before = measure(image), after = measure(result);
        check_near(after.x, before.x, 0.1, "centre in x");
        check_near(after.y, before.y, 0.1, "centre in y");
        add_serif(&params, image, result);
        ck_assert_msg(gained(image, result, 3, 16, 0, 14) > 4, "image %d has no flag", i);
        const double foot = gained(image, result, 17, 28, 0, 28);
        ck_assert_msg(params.serif.foot ? foot > 6 : foot == 0, "image %d: foot of %g", i, foot);
        ck_assert_msg(gained(image, result, 0, 16, 17, 28) < 1, "image %d: a flag to the right", i);
        ck_assert_msg(gained(image, result, 0, 4, 0, 28) < 0.5, "image %d: a flag that rises", i);
    }
    ck_assert_msg(feet > 30 && feet < 50, "%d of 60 have a foot", feet);
}
END_TEST

START_TEST(a_seven_gets_a_bar)
{
    uint8_t image[PIXELS], result[PIXELS];
    draw_seven(image);
    for (int i = 0; i < 30; i++) {
        const cnn_augment_params params = draw_for("serif=1", 7, i);
        ck_assert(params.serif.bar && !params.serif.flag && !params.serif.foot);
        add_serif(&params, image, result);
        const double bar = gained(image, result, 9, 20, 0, 28), all = gained(image, result, 0, 28, 0, 28);
        ck_assert_msg(bar > 6 && bar == all, "image %d: %g of %g in the middle", i, bar, all);
    }
}
END_TEST

START_TEST(other_digits_stay_as_they_are)
{
    uint8_t image[PIXELS], result[PIXELS] = {0};
    draw_eight(image);
    for (int label = 0; label < 10; label++) {
        const cnn_augment_params params = draw_for("serif=1", label, 3);
        if (label == 1 || label == 7)
            continue;
        apply(&params, image, result);
        ck_assert_mem_eq(image, result, PIXELS);
    }
    cnn_augment_params params = draw_for("serif=1", 1, 3); /* an image with no ink has no stem */
    memset(image, 0, PIXELS);
    apply(&params, image, result);
    ck_assert_mem_eq(image, result, PIXELS);
}
END_TEST

START_TEST(a_serif_is_not_drawn_twice)
{
    uint8_t image[PIXELS], result[PIXELS];
    draw_one(image);
    stroke(image, 15, 5, 8, 11, 3);
    stroke(image, 7, 23, 19, 23, 3);
    for (int i = 0; i < 10; i++) {
        const cnn_augment_params params = draw_for("serif=1", 1, i);
        apply(&params, image, result);
        ck_assert_mem_eq(image, result, PIXELS);
    }
}
END_TEST

/* ---- Bounds ---- */

/* Applies in scratch space of the exact size, which holds zeros, then no numbers: the result may not know. */
static void check_memory(const cnn_augment_recipe *recipe, const cnn_augment_params *params, cnn_augment_shape shape,
                         const uint8_t *image, size_t bytes)
{
    const size_t floats = cnn_augment_scratch(shape);
    float *scratch = malloc(floats * sizeof *scratch);
    uint8_t *results[2];
    for (int run = 0; run < 2; run++) {
        results[run] = malloc(bytes + 8);
        memset(results[run], 0xA5, bytes + 8);
        for (size_t i = 0; i < floats; i++)
            scratch[i] = run ? NAN : 0.0f;
        cnn_augment_apply(params, recipe->mirror, shape, image, results[run], scratch);
        for (size_t i = 0; i < 8; i++)
            ck_assert_int_eq(results[run][bytes + i], 0xA5);
    }
    ck_assert_mem_eq(results[0], results[1], bytes);
    free(results[0]);
    free(results[1]);
    free(scratch);
}

/* Everything at its strongest, on small and odd shapes. */
START_TEST(no_shape_leaves_its_memory)
{
    static const cnn_augment_shape shapes[] = {{1, 1, 1}, {1, 9, 1},   {9, 1, 3},  {2, 2, 1},
                                               {3, 2, 4}, {28, 28, 1}, {32, 31, 3}};
    const char *everything = "shift=64,rotate=180,scale=0.5,shear=1,elastic=8,stroke=4,blur=1,contrast=0.9,crop=64,"
                             "flip=1,cutout=256";
    cnn_augment_recipe recipe = parse(everything, &mnist);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int i = 0; i < 100; i++) {
            const cnn_augment_shape shape = shapes[s];
            const size_t bytes = (size_t)shape.height * (size_t)shape.width * (size_t)shape.channels;
            uint8_t *image = malloc(bytes);
            cnn_augment_params params;
            for (size_t k = 0; k < bytes; k++)
                image[k] = (uint8_t)(k * 91 + (size_t)i);
            recipe.mirror = i % 2 == 1;
            cnn_augment_draw(&recipe, 1, 1, i, 1, &params);
            params.cutout = i % 4 < 2 ? 0 : params.cutout;
            params.serif.flag = params.serif.foot = params.serif.bar = shape.channels == 1 && !recipe.mirror;
            params.serif.flag_length = 1;
            params.serif.foot_length[0] = params.serif.bar_length = 1;
            params.serif.bar_height = (float)i / 100.0f;
            check_memory(&recipe, &params, shape, image, bytes);
            free(image);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("augment_image");
    TCase *images = tcase_create("images");
    tcase_add_test(images, strength_zero_is_identity);
    tcase_add_test(images, flip_and_crop_are_exact);
    tcase_add_test(images, shift_moves_the_centre_of_mass);
    tcase_add_test(images, rotation_turns_by_its_angle);
    tcase_add_test(images, scale_and_shear_change_sizes);
    tcase_add_test(images, elastic_has_its_strength_and_is_smooth);
    tcase_add_test(images, borders_are_empty_or_mirrored);
    tcase_add_test(images, strokes_get_wider_and_thinner);
    tcase_add_test(images, thin_strokes_do_not_vanish);
    tcase_add_test(images, ink_stays_bright);
    tcase_add_test(images, blur_contrast_and_cutout);
    tcase_add_test(images, a_one_gets_flag_and_foot);
    tcase_add_test(images, a_seven_gets_a_bar);
    tcase_add_test(images, other_digits_stay_as_they_are);
    tcase_add_test(images, a_serif_is_not_drawn_twice);
    tcase_add_test(images, no_shape_leaves_its_memory);
    suite_add_tcase(suite, images);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
