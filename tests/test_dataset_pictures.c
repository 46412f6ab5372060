/* Data sets of pictures in folders: which pictures are found, how they are split, what they become, what is left out
 * and what is refused. */
#include "cnn/dataset.h"
#include "cnn/session.h"
#include "core/hash.h"
#include "core/memory.h"

#include <check.h>
#include <dirent.h>
#include <png.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64]; /* of this test, removed after it */

/* ---- Files ---- */

/* "FOLDER/format", valid for four more calls. */
CNN_PRINTF(1, 2)
static const char *in_folder(const char *format, ...)
{
    static char path[4][512];
    static int turn;
    char rest[400];
    va_list args;
    va_start(args, format);
    vsnprintf(rest, sizeof rest, format, args);
    va_end(args);
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, rest);
    return path[turn];
}

static void set_up(void)
{
    snprintf(folder, sizeof folder, "/tmp/cnn-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char inner[1024];
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && unlink(inner) != 0)
            remove_folder(inner);
    }
    if (dir)
        closedir(dir);
    rmdir(path);
}

static void tear_down(void)
{
    remove_folder(folder);
}

static void make_folder(const char *path)
{
    ck_assert_int_eq(mkdir(path, 0777), 0);
}

static void put_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

/* A PNG of one colour. Type gray takes red; a palette has the colour as its entry 0. */
typedef struct sheet {
    int32_t width, height;
    int type, depth;
    uint8_t rgb[3];
} sheet;

static void put(const char *path, sheet of)
{
    FILE *file = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    ck_assert(file && info && !setjmp(png_jmpbuf(png)));
    png_init_io(png, file);
    png_set_compression_level(png, 1);
    png_set_IHDR(png, info, (png_uint_32)of.width, (png_uint_32)of.height, of.depth, of.type, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_color colour = {of.rgb[0], of.rgb[1], of.rgb[2]};
    if (of.type == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, &colour, 1);
    png_write_info(png, info);
    png_byte *row = calloc((size_t)of.width, 6);
    size_t bytes = of.depth == 16 ? 2 : 1, values = of.type == PNG_COLOR_TYPE_RGB ? 3 : 1;
    for (size_t i = 0; i < (size_t)of.width * values * bytes && of.type != PNG_COLOR_TYPE_PALETTE; i++)
        row[i] = of.rgb[i / bytes % values];
    for (int32_t y = 0; y < of.height; y++)
        png_write_row(png, row);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    free(row);
    ck_assert_int_eq(fclose(file), 0);
}

static sheet gray(uint8_t level)
{
    return (sheet){20, 20, PNG_COLOR_TYPE_GRAY, 8, {level, level, level}};
}

/* Classes a, b, ... of `count` gray pictures each, every one of a level of its own. */
static void put_classes(int classes, int count)
{
    for (int k = 0; k < classes; k++) {
        make_folder(in_folder("%c", 'a' + k));
        for (int i = 0; i < count; i++)
            put(in_folder("%c/%03d.png", 'a' + k, i), gray((uint8_t)(k * count + i)));
    }
}

/* ---- Loading ---- */

static char warnings[2048];

static void gather_warning(void *context, const char *sentence)
{
    size_t length = strlen(warnings);
    (void)context;
    snprintf(warnings + length, sizeof warnings - length, "%s\n", sentence);
}

static cnn_status load_as(const char *name, cnn_subset subset, const cnn_image_form *form, cnn_dataset **dataset)
{
    const cnn_dataset_options options = {.form = form ? *form : (cnn_image_form){0}, .warn = gather_warning};
    warnings[0] = '\0';
    *dataset = NULL;
    return cnn_dataset_load(name, subset, &options, dataset);
}

static cnn_dataset *load(cnn_subset subset, const cnn_image_form *form)
{
    char name[80];
    cnn_dataset *dataset;
    snprintf(name, sizeof name, "png:%s", folder);
    ck_assert_msg(load_as(name, subset, form, &dataset) == CNN_OK, "%s", cnn_last_error());
    return dataset;
}

/* The load must fail with a sentence that holds both words. */
static void check_refused(cnn_subset subset, cnn_status expected, const char *first, const char *second)
{
    char name[80];
    cnn_dataset *dataset;
    snprintf(name, sizeof name, "png:%s", folder);
    ck_assert_int_eq(load_as(name, subset, NULL, &dataset), expected);
    ck_assert_ptr_null(dataset);
    ck_assert_msg(strstr(cnn_last_error(), first) && strstr(cnn_last_error(), second), "'%s' lacks '%s' or '%s'",
                  cnn_last_error(), first, second);
}

static void check_pixel(const cnn_dataset *data, int image, uint8_t r, uint8_t g, uint8_t b)
{
    size_t bytes = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
    const uint8_t *p = data->images + (size_t)image * bytes;
    for (size_t i = 0; i < bytes; i++)
        ck_assert_int_eq(p[i], data->channels == 1 || i % 3 == 0 ? r : i % 3 == 1 ? g : b);
}

/* ---- What is found ---- */

START_TEST(every_kind_of_picture)
{
    static const sheet kinds[] = {{20, 20, PNG_COLOR_TYPE_GRAY, 8, {10, 10, 10}},
                                  {5, 3, PNG_COLOR_TYPE_GRAY, 16, {20, 20, 20}},
                                  {40, 9, PNG_COLOR_TYPE_RGB, 8, {30, 30, 30}},
                                  {1, 1, PNG_COLOR_TYPE_RGB, 16, {40, 40, 40}},
                                  {300, 200, PNG_COLOR_TYPE_PALETTE, 8, {50, 50, 50}}};
    make_folder(in_folder("train"));
    make_folder(in_folder("test"));
    for (int part = 0; part < 2; part++)
        for (int k = 0; k < 2; k++) { /* "Zebra" comes before "ape": bytes, not letters */
            make_folder(in_folder("%s/%s", part ? "test" : "train", k ? "ape" : "Zebra"));
            for (int i = 0; i < 5; i++)
                put(in_folder("%s/%s/%d.PnG", part ? "test" : "train", k ? "ape" : "Zebra", i), kinds[i]);
        }
    cnn_dataset *data = load(CNN_SUBSET_TRAIN, NULL);
    ck_assert_int_eq(data->id, CNN_DATASET_PICTURES);
    ck_assert_int_eq(data->count, 10);
    ck_assert_int_eq(data->classes, 2);
    ck_assert_str_eq(data->class_names[0], "Zebra");
    ck_assert_str_eq(data->class_names[1], "ape");
    ck_assert_str_eq(cnn_dataset_label_name(data, 1), "ape");
    ck_assert_ptr_null(cnn_dataset_label_name(data, 2));
    ck_assert_int_eq(data->preparation, CNN_PREPARE_RESIZE);
    ck_assert_int_eq(data->height * 1000 + data->width, 28028);
    ck_assert_int_eq(data->channels, 1); /* all of them are gray */
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(data->labels[i], i / 5);
        check_pixel(data, i, (uint8_t)(10 * (i % 5 + 1)), 0, 0);
    }
    ck_assert_str_eq(data->note, "");
    ck_assert_str_eq(warnings, "");
    cnn_dataset_free(data);
    put(in_folder("train/ape/5.png"), (sheet){20, 20, PNG_COLOR_TYPE_PALETTE, 8, {1, 2, 3}}); /* one has colour */
    data = load(CNN_SUBSET_TRAIN, NULL);
    ck_assert_int_eq(data->count, 11);
    ck_assert_int_eq(data->channels, 3);
    check_pixel(data, 1, 20, 20, 20);
    check_pixel(data, 10, 1, 2, 3);
    cnn_dataset_free(data);
    data = load(CNN_SUBSET_TEST, &(cnn_image_form){7, 5, 3, CNN_PREPARE_UNKNOWN});
    ck_assert_int_eq(data->count, 10);
    ck_assert_int_eq(data->height * 1000 + data->width * 10 + data->channels, 7053);
    check_pixel(data, 9, 50, 50, 50);
    cnn_dataset_free(data);
}
END_TEST

/* A tenth of each class is the test set; together the parts are all pictures, and none is in both. */
START_TEST(a_tenth_is_held_out)
{
    bool seen[120] = {false};
    put_classes(3, 40);
    cnn_dataset *train = load(CNN_SUBSET_TRAIN, NULL), *test = load(CNN_SUBSET_TEST, NULL);
    ck_assert_int_eq(train->count, 108);
    ck_assert_int_eq(test->count, 12);
    for (int part = 0; part < 2; part++) {
        const cnn_dataset *data = part ? test : train;
        for (int i = 0; i < data->count; i++) {
            int level = data->images[(size_t)i * 784];
            ck_assert(!seen[level]);
            ck_assert_int_eq(data->labels[i], level / 40);
            seen[level] = true;
        }
    }
    for (int i = 0; i < 12; i++)
        ck_assert_int_eq(test->labels[i], i / 4);
    cnn_dataset_free(train);
    cnn_dataset_free(test);
}
END_TEST

static uint64_t digest(const cnn_dataset *data)
{
    uint64_t sum = 0;
    size_t bytes = (size_t)data->count * (size_t)data->height * (size_t)data->width * (size_t)data->channels;
    for (size_t i = 0; i < bytes; i++)
        sum = cnn_splitmix64(sum ^ data->images[i]);
    for (int32_t i = 0; i < data->count; i++)
        sum = cnn_splitmix64(sum ^ data->labels[i]);
    return sum;
}

/* Neither the order in which a file system lists files nor the number of threads changes anything. */
START_TEST(order_and_threads_do_not_matter)
{
    uint64_t sums[4];
    for (int run = 0; run < 4; run++) {
        ck_assert_int_eq(cnn_set_threads(run % 2 ? 4 : 1), CNN_OK);
        for (int k = 0; k < 2; k++)
            make_folder(in_folder("%c", run < 2 ? 'a' + k : 'b' - k));
        for (int n = 0; n < 200; n++) {
            int i = run < 2 ? n : (n * 77 + 5) % 200;
            if (i % 9 == 0)
                put_text(in_folder("%c/%03d.png", 'a' + i % 2, i), "broken");
            else
                put(in_folder("%c/%03d.png", 'a' + i % 2, i), gray((uint8_t)i));
        }
        cnn_dataset *data = load(CNN_SUBSET_TRAIN, NULL);
        sums[run] = digest(data) ^ cnn_splitmix64((uint64_t)strlen(warnings));
        cnn_dataset_free(data);
        tear_down();
        make_folder(folder);
    }
    for (int run = 1; run < 4; run++)
        ck_assert(sums[run] == sums[0]);
    ck_assert_int_eq(cnn_set_threads(0), CNN_OK);
}
END_TEST

START_TEST(links_are_followed)
{
    put_classes(2, 10);
    make_folder(in_folder(".elsewhere"));
    put(in_folder(".elsewhere/one.png"), gray(200));
    ck_assert_int_eq(rename(in_folder("b"), in_folder(".b")), 0);
    ck_assert_int_eq(symlink(".b", in_folder("b")), 0);
    ck_assert_int_eq(symlink("../.elsewhere/one.png", in_folder("a/link.png")), 0);
    ck_assert_int_eq(symlink("nowhere", in_folder("b/nowhere.png")), 0);
    ck_assert_int_eq(symlink(".", in_folder("a/loop.png")), 0);
    cnn_dataset *train = load(CNN_SUBSET_TRAIN, NULL);
    char first[sizeof warnings];
    memcpy(first, warnings, sizeof first);
    cnn_dataset *test = load(CNN_SUBSET_TEST, NULL);
    ck_assert_int_eq(train->count + test->count, 21);
    ck_assert_ptr_nonnull(strstr(*first ? first : warnings, "nowhere.png"));
    ck_assert_ptr_nonnull(strstr(train->note, "1 file is passed over")); /* the folder loop.png */
    cnn_dataset_free(train);
    cnn_dataset_free(test);
}
END_TEST

/* ---- What is left out ---- */

START_TEST(broken_pictures_are_left_out)
{
    put_classes(2, 30);
    for (int part = 0; part < 2; part++)
        make_folder(in_folder(part ? "train" : "test"));
    for (int part = 0; part < 2; part++)
        for (int k = 0; k < 2; k++) {
            make_folder(in_folder("%s/%c", part ? "train" : "test", 'a' + k));
            for (int i = 0; i < 30; i++)
                ck_assert_int_eq(link(in_folder("%c/%03d.png", 'a' + k, i),
                                      in_folder("%s/%c/%03d.png", part ? "train" : "test", 'a' + k, i)),
                                 0);
        }
    put_text(in_folder("train/a/0.png"), "");
    put_text(in_folder("train/a/1.png"), "hello, I am no picture");
    ck_assert_int_eq(truncate(in_folder("train/a/003.png"), 60), 0); /* also the one in a, which has the same bytes */
    put_text(in_folder("train/b/5.png"), "\x89PNG\r\n\x1a\n");
    put_text(in_folder("train/b/6.png"), "x");
    put_text(in_folder("train/b/notes.txt"), "x");
    put_text(in_folder("train/.hidden"), "x");
    put_text(in_folder("train/a/.hidden.png"), "x");
    put_text(in_folder("train/README"), "x");
    make_folder(in_folder("train/b/deeper"));
    ck_assert_int_eq(mkfifo(in_folder("train/b/pipe.png"), 0600), 0);
    cnn_dataset *data = load(CNN_SUBSET_TRAIN, NULL);
    ck_assert_int_eq(data->count, 59);
    ck_assert_int_eq(data->labels[28], 0);
    ck_assert_int_eq(data->labels[29], 1);
    check_pixel(data, 2, 2, 0, 0);
    check_pixel(data, 3, 4, 0, 0); /* what follows the one that is cut off */
    check_pixel(data, 58, 59, 0, 0);
    ck_assert_ptr_nonnull(strstr(warnings, "/train/a/0.png: not a PNG file"));
    ck_assert_ptr_nonnull(strstr(warnings, "/train/a/003.png: damaged PNG"));
    ck_assert_ptr_nonnull(strstr(warnings, "/train/a/1.png: not a PNG file"));
    ck_assert_ptr_null(strstr(warnings, "/train/b/"));
    ck_assert_ptr_nonnull(strstr(warnings, "\n2 more pictures cannot be used"));
    ck_assert_ptr_nonnull(strstr(data->note, "4 files are passed over"));
    cnn_dataset_free(data);
}
END_TEST

/* Large ones are decoded one at a time. */
START_TEST(large_pictures)
{
    put_classes(2, 10);
    for (int i = 0; i < 3; i++)
        put(in_folder("a/large%d.png", i), (sheet){2100, 2000, PNG_COLOR_TYPE_GRAY, 8, {77, 77, 77}});
    cnn_dataset *train = load(CNN_SUBSET_TRAIN, NULL), *test = load(CNN_SUBSET_TEST, NULL);
    int found = 0;
    for (int i = 0; i < train->count; i++)
        found += train->images[(size_t)i * 784 + 400] == 77;
    for (int i = 0; i < test->count; i++)
        found += test->images[(size_t)i * 784 + 400] == 77;
    ck_assert_int_eq(found, 3);
    cnn_dataset_free(train);
    cnn_dataset_free(test);
}
END_TEST

/* ---- What is refused ---- */

START_TEST(folders_that_are_refused)
{
    cnn_dataset *dataset;
    ck_assert_int_eq(load_as("png:", CNN_SUBSET_TRAIN, NULL, &dataset), CNN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "png:DIR"));
    ck_assert_int_eq(load_as("pictures", CNN_SUBSET_TRAIN, NULL, &dataset), CNN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "synth, png:DIR"));
    ck_assert_int_eq(load_as("png:/nowhere/at/all", CNN_SUBSET_TRAIN, NULL, &dataset), CNN_ERR_IO);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "/nowhere/at/all: is no folder"));
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, folder, "has no sub-folder");
    put(in_folder("loose.png"), gray(1));
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, folder, "has no sub-folder");
    put_classes(1, 20);
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, "only one sub-folder, 'a'", "two classes");
    make_folder(in_folder("empty"));
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, "/empty: there is no PNG picture", "remove the folder");
    put_text(in_folder("empty/a.jpg"), "x");
    check_refused(CNN_SUBSET_TEST, CNN_ERR_FORMAT, "/empty: there is no PNG picture", "remove the folder");
    put_text(in_folder("empty/a.png"), "x");
    put_text(in_folder("empty/b.png"), "x");
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, "class 'empty'", "can be used for training");
}
END_TEST

START_TEST(few_pictures_are_refused)
{
    put_classes(2, 4);
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, "only 8 in all", "/train and ");
    check_refused(CNN_SUBSET_TEST, CNN_ERR_FORMAT, "only 8 in all", "/train and ");
}
END_TEST

START_TEST(parts_are_checked)
{
    make_folder(in_folder("test"));
    put_classes(2, 10);
    make_folder(in_folder("train")); /* with both, the classes are expected in them */
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, "/train: has no sub-folder", "class");
    for (int k = 0; k < 2; k++)
        ck_assert_int_eq(rename(in_folder("%c", 'a' + k), in_folder("train/%c", 'a' + k)), 0);
    cnn_dataset *data = load(CNN_SUBSET_TRAIN, NULL); /* all of them: nothing is split off */
    ck_assert_int_eq(data->count, 20);
    cnn_dataset_free(data);
    check_refused(CNN_SUBSET_TEST, CNN_ERR_FORMAT, "/test: there is no PNG picture", "classes");
    make_folder(in_folder("test/b"));
    put(in_folder("test/b/1.png"), gray(9));
    data = load(CNN_SUBSET_TEST, NULL); /* a class need not be tested */
    ck_assert_int_eq(data->count, 1);
    ck_assert_int_eq(data->labels[0], 1);
    ck_assert_int_eq(data->classes, 2);
    cnn_dataset_free(data);
    put_text(in_folder("test/b/1.png"), "broken");
    check_refused(CNN_SUBSET_TEST, CNN_ERR_FORMAT, "none of the 1 test pictures", folder);
    make_folder(in_folder("test/c"));
    check_refused(CNN_SUBSET_TEST, CNN_ERR_FORMAT, "/test/c: is no class", "training part");
}
END_TEST

START_TEST(class_names_are_checked)
{
    put_classes(2, 10);
    make_folder(in_folder("tab\there"));
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, "control character", "rename it");
    rmdir(in_folder("tab\there"));
    if (mkdir(in_folder("caf\xE9"), 0777) == 0) { /* some file systems take only UTF-8 */
        check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, "is not UTF-8", "rename it");
        rmdir(in_folder("caf\xE9"));
    }
    for (int i = 0; i < 255; i++) {
        make_folder(in_folder("c%03d", i));
        ck_assert_int_eq(link(in_folder("a/000.png"), in_folder("c%03d/x.png", i)), 0);
    }
    check_refused(CNN_SUBSET_TRAIN, CNN_ERR_FORMAT, "has 257 sub-folders", "256");
}
END_TEST

START_TEST(unreadable_folder)
{
    put_classes(2, 10);
    ck_assert_int_eq(chmod(in_folder("b"), 0), 0);
    if (access(in_folder("b"), R_OK) != 0) /* for root everything is readable */
        check_refused(CNN_SUBSET_TRAIN, CNN_ERR_IO, "/b: cannot be opened", "permissions");
    ck_assert_int_eq(chmod(in_folder("b"), 0777), 0);
}
END_TEST

START_TEST(forms)
{
    static const struct {
        cnn_image_form form;
        const char *says;
    } bad[] = {
        {{0, 5, 1, CNN_PREPARE_RESIZE}, "images of 0x5"},     {{-1, -1, 1, CNN_PREPARE_RESIZE}, "images of -1x-1"},
        {{28, 70000, 1, CNN_PREPARE_RESIZE}, "65536 pixels"}, {{28, 28, 2, CNN_PREPARE_RESIZE}, "not 2"},
        {{32, 32, 0, CNN_PREPARE_DIGIT}, "digits"},           {{28, 28, 3, CNN_PREPARE_DIGIT}, "digits"},
        {{60000, 60000, 3, CNN_PREPARE_RESIZE}, "8 GiB"}};
    char name[80];
    cnn_dataset *data;
    put_classes(2, 10);
    snprintf(name, sizeof name, "png:%s", folder);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_ne(load_as(name, CNN_SUBSET_TRAIN, &bad[i].form, &data), CNN_OK);
        ck_assert_msg(strstr(cnn_last_error(), bad[i].says), "'%s' lacks '%s'", cnn_last_error(), bad[i].says);
    }
    data = load(CNN_SUBSET_TRAIN, &(cnn_image_form){4, 6, 3, CNN_PREPARE_RESIZE});
    ck_assert_int_eq(data->height * 100 + data->width * 10 + data->channels, 463);
    cnn_dataset_free(data);
}
END_TEST

static void copy_file(const char *from, const char *to)
{
    FILE *file = fopen(from, "rb"), *copy = fopen(to, "wb");
    ck_assert(file && copy);
    for (int c; (c = fgetc(file)) != EOF;)
        fputc(c, copy);
    fclose(file);
    ck_assert_int_eq(fclose(copy), 0);
}

/* Digits are gray, bright on black, in 28x28; a picture with nothing in it is left out. */
START_TEST(digits)
{
    for (int part = 0; part < 2; part++) {
        make_folder(in_folder(part ? "train" : "test"));
        for (int k = 0; k < 2; k++) {
            make_folder(in_folder("%s/%c", part ? "train" : "test", 'a' + k));
            copy_file(CNN_SOURCE_DIR "/examples/digit.png", in_folder("%s/%c/1.png", part ? "train" : "test", 'a' + k));
        }
    }
    put(in_folder("train/a/0.png"), gray(7));
    cnn_dataset *data = load(CNN_SUBSET_TRAIN, &(cnn_image_form){.preparation = CNN_PREPARE_DIGIT});
    ck_assert_ptr_nonnull(strstr(warnings, "a/0.png: nothing is drawn in it"));
    ck_assert_int_eq(data->count, 2);
    ck_assert_int_eq(data->height * 1000 + data->width * 10 + data->channels, 28281);
    ck_assert_int_eq(data->preparation, CNN_PREPARE_DIGIT);
    int brightest = 0;
    for (int i = 0; i < 784; i++)
        brightest = data->images[i] > brightest ? data->images[i] : brightest;
    ck_assert_int_eq(data->images[0], 0); /* examples/digit.png is dark on light */
    ck_assert_int_eq(brightest, 255);
    cnn_dataset_free(data);
}
END_TEST

START_TEST(allocations_may_fail)
{
    char name[80];
    cnn_dataset *data;
    put_classes(2, 10);
    put_text(in_folder("a/broken.png"), "x");
    snprintf(name, sizeof name, "png:%s", folder);
    ck_assert_int_eq(cnn_set_threads(1), CNN_OK);
    for (long n = 1;; n++) {
        cnn_memory_fail_at(n);
        cnn_status status = load_as(name, CNN_SUBSET_TRAIN, NULL, &data);
        bool reached = cnn_memory_count() >= n;
        cnn_memory_fail_at(0);
        if (!reached) {
            ck_assert_int_eq(status, CNN_OK);
            cnn_dataset_free(data);
            break;
        }
        ck_assert_int_eq(status, CNN_ERR_MEMORY);
    }
    ck_assert_int_eq(cnn_set_threads(0), CNN_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dataset_pictures");
    TCase *tests = tcase_create("dataset_pictures");
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, every_kind_of_picture);
    tcase_add_test(tests, a_tenth_is_held_out);
    tcase_add_test(tests, order_and_threads_do_not_matter);
    tcase_add_test(tests, links_are_followed);
    tcase_add_test(tests, broken_pictures_are_left_out);
    tcase_add_test(tests, large_pictures);
    tcase_add_test(tests, folders_that_are_refused);
    tcase_add_test(tests, few_pictures_are_refused);
    tcase_add_test(tests, parts_are_checked);
    tcase_add_test(tests, class_names_are_checked);
    tcase_add_test(tests, unreadable_folder);
    tcase_add_test(tests, forms);
    tcase_add_test(tests, digits);
    tcase_add_test(tests, allocations_may_fail);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
