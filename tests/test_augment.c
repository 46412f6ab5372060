/* Augmentation: lists of kinds, draws from hashes, batches and training. */
#include "tests/train_case.h"

#include "core/memory.h"
#include "cnn/session.h"
#include "kernels/augment/apply.h"
#include "train/augment_kinds.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 28, PIXELS = SIDE * SIDE };

static const cnn_dataset mnist = {.id = CNN_DATASET_MNIST, .height = SIDE, .width = SIDE, .channels = 1, .classes = 10};
static const cnn_dataset fashion = {
    .id = CNN_DATASET_FASHION_MNIST, .height = SIDE, .width = SIDE, .channels = 1, .classes = 10};
static const cnn_dataset colours = {.id = CNN_DATASET_CIFAR10, .height = 32, .width = 32, .channels = 3, .classes = 10};

static cnn_augment_recipe parse(const char *list, const cnn_dataset *data)
{
    cnn_augment_recipe recipe;
    case_check(cnn_augment_parse(list, 1, data, &recipe));
    return recipe;
}

static void check_near(double value, double expected, double tolerance, const char *what)
{
    ck_assert_msg(fabs(value - expected) <= tolerance, "%s: %g, not %g", what, value, expected);
}

/* ---- Lists ---- */

START_TEST(lists_say_what_they_say)
{
    char text[256], again[256];
    cnn_augment_recipe recipe = parse("rotate=7.5,crop=3,serif", &mnist);
    ck_assert(recipe.strength[CNN_AUGMENT_ROTATE] == 7.5f && recipe.strength[CNN_AUGMENT_CROP] == 3.0f);
    ck_assert(recipe.strength[CNN_AUGMENT_SERIF] > 0.0f);
    ck_assert(recipe.strength[CNN_AUGMENT_SHIFT] == 0.0f);
    ck_assert(!recipe.mirror && recipe.one == 1 && recipe.seven == 7);
    recipe = parse(NULL, &mnist);
    for (int kind = 0; kind < CNN_AUGMENT_KINDS; kind++)
        recipe.strength[kind] = (float)cnn_augment_kind_info((cnn_augment_kind)kind)->standard;
    cnn_augment_print(&recipe, text, sizeof text);
    recipe = parse(text, &mnist);
    cnn_augment_print(&recipe, again, sizeof again);
    ck_assert_str_eq(text, again);
    ck_assert_uint_lt(strlen(text) + 30, sizeof text);
}
END_TEST

START_TEST(data_has_a_list_that_suits_it)
{
    cnn_augment_recipe recipe = parse(NULL, &mnist);
    ck_assert(recipe.strength[CNN_AUGMENT_SERIF] > 0.0f && recipe.strength[CNN_AUGMENT_STROKE] > 0.0f);
    ck_assert(recipe.strength[CNN_AUGMENT_FLIP] == 0.0f);
    recipe = parse(NULL, &fashion);
    ck_assert(recipe.strength[CNN_AUGMENT_FLIP] == 0.5f && recipe.strength[CNN_AUGMENT_SERIF] == 0.0f);
    ck_assert(!recipe.mirror);
    recipe = parse(NULL, &colours);
    ck_assert(recipe.strength[CNN_AUGMENT_FLIP] == 0.5f && recipe.strength[CNN_AUGMENT_CROP] == 4.0f);
    ck_assert(recipe.mirror && recipe.one == -1);

    /* Pictures of one's own: digits go by the names of the classes, if they were prepared as digits. */
    char names[3][2] = {"7", "x", "1"}, *list[] = {names[0], names[1], names[2]};
    cnn_dataset own = {.id = CNN_DATASET_PICTURES, .channels = 1, .classes = 3, .class_names = list};
    own.preparation = CNN_PREPARE_DIGIT;
    recipe = parse(NULL, &own);
    ck_assert(recipe.strength[CNN_AUGMENT_SERIF] > 0.0f && !recipe.mirror && recipe.one == 2 && recipe.seven == 0);
    own.preparation = CNN_PREPARE_RESIZE;
    recipe = parse(NULL, &own);
    ck_assert(recipe.strength[CNN_AUGMENT_SERIF] == 0.0f && recipe.strength[CNN_AUGMENT_SHIFT] > 0.0f && recipe.mirror);
}
END_TEST

static void refuses(const char *list, double share, const cnn_dataset *data, const char *word)
{
    cnn_augment_recipe recipe;
    ck_assert_int_eq(cnn_augment_parse(list, share, data, &recipe), CNN_ERR_USAGE);
    ck_assert_msg(strstr(cnn_last_error(), word), "'%s' does not say '%s'", cnn_last_error(), word);
}

START_TEST(bad_lists_are_refused)
{
    refuses("rotat=3", 1, &mnist, "'rotat' is not known; there are flip, scale");
    refuses("rotate=181", 1, &mnist, "rotate=181: the strength is in degrees, a number from 0 to 180");
    refuses("rotate=-1", 1, &mnist, "0 to 180");
    refuses("rotate=nan", 1, &mnist, "0 to 180");
    refuses("rotate=", 1, &mnist, "0 to 180");
    refuses("rotate=3x,shift", 1, &mnist, "rotate=3x:");
    refuses("crop=1.5", 1, &mnist, "whole number");
    refuses("shift,rotate,shift=2", 1, &mnist, "shift is in the list twice");
    refuses("shift,", 1, &mnist, "missing");
    refuses("", 1, &mnist, "missing");
    refuses("serif", 1, &fashion, "1s and 7s");
    refuses("shift", 1.5, &mnist, "1.5");
    refuses("shift", (double)NAN, &mnist, "[0, 1]");
}
END_TEST

/* ---- Draws ---- */

START_TEST(the_share_of_images_is_augmented)
{
    enum { IMAGES = 20000 };
    const double shares[] = {0, 0.3, 1};
    for (int s = 0; s < 3; s++) {
        cnn_augment_recipe recipe;
        cnn_augment_params params;
        int augmented = 0, both = 0;
        case_check(cnn_augment_parse("shift", shares[s], &mnist, &recipe));
        for (int i = 0; i < IMAGES; i++) {
            cnn_augment_draw(&recipe, 5, 1, i, 0, &params);
            const bool first = params.augmented;
            cnn_augment_draw(&recipe, 5, 2, i, 0, &params);
            augmented += first;
            both += first && params.augmented;
        }
        check_near((double)augmented / IMAGES, shares[s], 0.015 * (s == 1), "share");
        check_near((double)both / IMAGES, shares[s] * shares[s], 0.015 * (s == 1), "share of two epochs");
    }
}
END_TEST

static cnn_augment_params draw(const char *list, uint64_t seed, int32_t epoch, int32_t image)
{
    const cnn_augment_recipe recipe = parse(list, &mnist);
    cnn_augment_params params;
    memset(&params, 0x55, sizeof params);
    cnn_augment_draw(&recipe, seed, epoch, image, 1, &params);
    return params;
}

/* An image's numbers depend on seed, epoch and image alone, and a kind's on no other kind. */
START_TEST(kinds_draw_numbers_of_their_own)
{
    const cnn_augment_params alone = draw("shift=3", 1, 2, 3), many = draw("rotate,shift=3,elastic,serif", 1, 2, 3);
    ck_assert_mem_eq(alone.move, many.move, sizeof alone.move);
    const cnn_augment_params others[] = {draw("shift=3", 2, 2, 3), draw("shift=3", 1, 3, 3), draw("shift=3", 1, 2, 4)};
    for (int i = 0; i < 3; i++)
        ck_assert_mem_ne(alone.move, others[i].move, sizeof alone.move);
    const cnn_augment_params both = draw("shift=1,stroke=1", 1, 2, 3);
    ck_assert(both.move[0] != both.stroke && both.move[0] != both.move[1]);
    ck_assert_mem_eq(alone.flow, draw("shift=3", 1, 2, 3).flow, sizeof alone.flow);
}
END_TEST

START_TEST(draws_fill_their_range)
{
    double least = 99, most = -99, turned = 0;
    int flips = 0, places[9] = {0};
    for (int i = 0; i < 3000; i++) {
        const cnn_augment_params p = draw("shift=2,rotate=90", 1, 1, i), q = draw("crop=4,flip=0.25", 1, 1, i);
        least = fmin(least, (double)p.move[0]);
        most = fmax(most, (double)p.move[0]);
        const double length = hypot((double)p.turn[0][0], (double)p.turn[0][1]);
        check_near(length, 1, 1e-6, "a rotation's row");
        check_near((double)p.turn[0][0] * (double)p.turn[1][1] - (double)p.turn[0][1] * (double)p.turn[1][0], 1, 1e-6,
                   "a rotation's determinant");
        ck_assert(p.turn[0][0] >= 0.0f);
        turned += fabs(atan2((double)p.turn[0][1], (double)p.turn[0][0]));
        flips += q.turn[0][0] == -1.0f;
        ck_assert(q.move[1] == floorf(q.move[1]) && fabsf(q.move[1]) <= 4.0f);
        places[(int)q.move[1] + 4]++;
    }
    ck_assert_msg(least >= -2 && least < -1.98 && most <= 2 && most > 1.98, "shifts from %g to %g", least, most);
    check_near(turned / 3000 * 180 / acos(-1.0), 45, 1.5, "mean angle in degrees");
    check_near(flips / 3000.0, 0.25, 0.03, "share of flips");
    for (int i = 0; i < 9; i++)
        ck_assert_msg(places[i] > 250 && places[i] < 420, "place %d: %d of 3000", i - 4, places[i]);
}
END_TEST

/* ---- Batches and training ---- */

static void augment(const cnn_augment_recipe *recipe, const cnn_augment_params *params, int32_t image, uint8_t *result)
{
    const cnn_augment_shape shape = {case_small.height, case_small.width, case_small.channels};
    float *scratch = malloc(cnn_augment_scratch(shape) * sizeof *scratch);
    cnn_augment_apply(params, recipe->mirror, shape, case_small.images + image * PIXELS, result, scratch);
    free(scratch);
}

/* An image is the same in any batch, at any place, with any number of threads, in any order. */
START_TEST(batches_do_not_change_images)
{
    enum { COUNT = 40 };
    static cnn_augment_params many[COUNT];
    cnn_augment_params one;
    cnn_augment_recipe recipe;
    int32_t images[COUNT];
    uint8_t alone[PIXELS], among[PIXELS];
    case_check(cnn_augment_parse(NULL, 0.7, &case_small, &recipe));
    for (int i = 0; i < COUNT; i++)
        images[i] = (i * 7 + 3) % SMALL;
    for (int threads = 1; threads <= 2; threads++) {
        int changed = 0;
        case_check(cnn_set_threads(threads));
        cnn_augment_draw_batch(&recipe, 9, 4, &case_small, images, COUNT, many);
        for (int i = COUNT - 1; i >= 0; i--) {
            cnn_augment_draw_batch(&recipe, 9, 4, &case_small, &images[i], 1, &one);
            augment(&recipe, &one, images[i], alone);
            augment(&recipe, &many[i], images[i], among);
            ck_assert_mem_eq(alone, among, PIXELS);
            changed += memcmp(alone, case_small.images + images[i] * PIXELS, PIXELS) != 0;
        }
        ck_assert_msg(changed > 15 && changed < COUNT, "%d of %d images were changed", changed, COUNT);
    }
}
END_TEST

static cnn_model *train_with(double share, const char *list, int threads)
{
    cnn_model *model = case_model();
    cnn_train_options options = case_options(NULL);
    options.epochs = 0.3;
    options.augment = share;
    options.augmentation = list;
    case_check(cnn_set_threads(threads));
    case_check(cnn_train(model, case_synth, &options, NULL));
    return model;
}

START_TEST(training_uses_the_augmented_images)
{
    cnn_model *plain = train_with(0, NULL, 2), *unused = train_with(0, "shift", 2), *same = train_with(1, "shift=0", 2);
    cnn_model *one = train_with(0.5, NULL, 1), *two = train_with(0.5, NULL, 2), *all = train_with(1, NULL, 2);
    ck_assert(case_same(plain, unused));
    ck_assert_msg(case_same(plain, same), "staged images that are not changed train another network");
    ck_assert(case_same(one, two));
    ck_assert(!case_same(plain, one));
    ck_assert(!case_same(all, one));
    cnn_model *models[] = {plain, unused, same, one, two, all};
    for (int i = 0; i < 6; i++)
        cnn_model_free(models[i]);
}
END_TEST

/* Another epoch augments anew: two epochs on one batch of images that never change places. */
START_TEST(epochs_differ)
{
    cnn_augment_recipe recipe;
    cnn_augment_params params;
    uint8_t first[PIXELS], again[PIXELS];
    const int32_t image = 5;
    case_check(cnn_augment_parse("shift", 1, &case_small, &recipe));
    cnn_augment_draw_batch(&recipe, 1, 1, &case_small, &image, 1, &params);
    augment(&recipe, &params, image, first);
    cnn_augment_draw_batch(&recipe, 1, 2, &case_small, &image, 1, &params);
    augment(&recipe, &params, image, again);
    ck_assert_mem_ne(first, again, PIXELS);
    cnn_augment_draw_batch(&recipe, 1, 1, &case_small, &image, 1, &params);
    augment(&recipe, &params, image, again);
    ck_assert_mem_eq(first, again, PIXELS);
}
END_TEST

START_TEST(bad_options_leave_no_trace)
{
    cnn_model *model = case_model(), *fresh = case_model();
    cnn_train_options options = case_options(NULL);
    cnn_status status = CNN_ERR_MEMORY;
    options.augment = 1.5;
    ck_assert_int_eq(cnn_train(model, &case_small, &options, NULL), CNN_ERR_USAGE);
    options.augment = 0.5;
    options.augmentation = "sheer";
    ck_assert_int_eq(cnn_train(model, &case_small, &options, NULL), CNN_ERR_USAGE);
    options.augmentation = "shift";
    for (long n = 1; status == CNN_ERR_MEMORY; n++) {
        ck_assert(case_same(model, fresh));
        cnn_memory_fail_at(n);
        status = cnn_train(model, &case_small, &options, NULL);
        cnn_memory_fail_at(0);
    }
    case_check(status);
    cnn_model_free(model);
    cnn_model_free(fresh);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("augment");
    TCase *images = tcase_create("images"), *loop = tcase_create("loop");
    tcase_add_test(images, lists_say_what_they_say);
    tcase_add_test(images, data_has_a_list_that_suits_it);
    tcase_add_test(images, bad_lists_are_refused);
    tcase_add_test(images, the_share_of_images_is_augmented);
    tcase_add_test(images, kinds_draw_numbers_of_their_own);
    tcase_add_test(images, draws_fill_their_range);
    tcase_add_checked_fixture(loop, case_set_up, case_tear_down);
    tcase_set_timeout(loop, 60);
    tcase_add_test(loop, batches_do_not_change_images);
    tcase_add_test(loop, training_uses_the_augmented_images);
    tcase_add_test(loop, epochs_differ);
    tcase_add_test(loop, bad_options_leave_no_trace);
    suite_add_tcase(suite, images);
    suite_add_tcase(suite, loop);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
