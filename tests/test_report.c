/* Pages of made-up runs that the command line hardly meets: every element is closed, no number is missing, and names
 * stay text. Also what pages are made with: base64, PNG, escaping. */
#include "optimize/base64.h"
#include "optimize/charts.h"
#include "optimize/facts.h"
#include "optimize/html.h"

#include "cnn/picture.h"
#include "core/png_write.h"
#include "core/save.h"

#include <check.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYERS = 3, CLASSES = 30, POINTS = 5 };

static opt_settings settings;
static opt_layer layers[LAYERS];
static opt_layer_facts layer_facts[LAYERS];
static opt_account account;
static opt_facts facts;
static opt_point points[POINTS];
static char *names[CLASSES];
static char name_text[CLASSES][16];
static int32_t matrices[2][CLASSES * CLASSES];
static cnn_text page;

static void setup(void)
{
    settings = (opt_settings){.prune = 0.5, .int8 = true, .input = "in.cnn", .output = "out.cnn"};
    account = (opt_account){.layers = layers, .layer_count = LAYERS, .stage_count = 2, .facts = &facts};
    facts = (opt_facts){.layers = layer_facts, .points = points, .point_count = 2, .images = 40, .classes = CLASSES};
    facts.class_names = names;
    facts.confusion_before = matrices[0];
    facts.confusion = matrices[1];
    facts.trial_count = OPT_MOST_TRIALS;
    facts.trial_images = 20;
    static char command[] = "cnn-opt", words[] = "Nothing.";
    facts.command = command;
    facts.explanation.data = words;
    for (int s = 0; s < 2; s++) {
        cnn_measurement *figures = &account.stages[s].figures;
        *figures = (cnn_measurement){.accuracy = 0.5, .file_bytes = 1000 - 500 * s, .weights = 10, .macs = 100};
        figures->ms_per_image = 1;
        figures->images_per_s = 900;
        points[s] = (opt_point){.accuracy = 0.5, .file_bytes = 1000 - 500 * s, .macs = 100, .ms_per_image = 1};
    }
    for (int i = 0; i < CLASSES; i++) {
        snprintf(name_text[i], sizeof name_text[i], "class%d", i);
        names[i] = name_text[i];
    }
    memset(matrices, 0, sizeof matrices);
    for (int i = 0; i < LAYERS; i++) {
        layers[i] = (opt_layer){.type = "conv", .elements = 4, .nonzeros = 4, .int8 = {.sqnr_db = 30, .cosine = 1}};
        snprintf(layers[i].name, sizeof layers[i].name, "conv%d", i);
        layer_facts[i] = (opt_layer_facts){.weight = cnn_desc(CNN_I8, 4, 1, 1, 1)};
        layer_facts[i].weight_before = cnn_desc(CNN_F32, 4, 1, 1, 1);
        layer_facts[i].after.bin[3] = 4;
    }
}

static void teardown(void)
{
    cnn_text_free(&page);
}

/* Fails unless every element is closed where it must be. */
static void check_closed(const char *text)
{
    char open[64][16];
    int depth = 0;
    for (const char *c = strchr(text, '<'); c; c = strchr(c + 1, '<')) {
        const char *end = strchr(c, '>');
        ck_assert_ptr_nonnull(end);
        const bool closes = c[1] == '/', empty = end[-1] == '/';
        char name[16] = "";
        for (size_t i = 0; i < sizeof name - 1 && isalnum((unsigned char)c[1 + closes + i]); i++)
            name[i] = c[1 + closes + i];
        if (c[1] == '!' || empty)
            continue;
        if (closes) {
            ck_assert_int_gt(depth, 0);
            ck_assert_str_eq(open[--depth], name);
        } else {
            ck_assert_int_lt(depth, 64);
            memcpy(open[depth++], name, sizeof name);
        }
    }
    ck_assert_int_eq(depth, 0);
}

static void make_page(void)
{
    cnn_text_free(&page);
    ck_assert_int_eq(opt_report_html(&settings, &account, &page), CNN_OK);
    check_closed(page.data);
    ck_assert_msg(!strstr(page.data, "nan"), "a number is missing");
    ck_assert_msg(!strstr(page.data, "inf ") && !strstr(page.data, "\"inf"), "a number is infinite");
}

static const char *find(const char *text)
{
    const char *at = strstr(page.data, text);
    ck_assert_msg(at, "the page does not hold '%s'", text);
    return at;
}

START_TEST(many_classes_are_listed_by_mistakes)
{
    matrices[0][1 * CLASSES + 2] = 5;
    matrices[1][7 * CLASSES + 3] = 9;
    matrices[0][4 * CLASSES + 4] = matrices[1][4 * CLASSES + 4] = 100; /* right */
    matrices[1][8 * CLASSES + 9] = 5;
    make_page();
    const char *first = find("class7</th><td class=\"l\">class3</td><td>0</td><td>9</td>");
    const char *second = find("class1</th><td class=\"l\">class2</td><td>5</td><td>0</td>");
    const char *third = find("class8</th><td class=\"l\">class9</td><td>0</td><td>5</td>");
    ck_assert(first < second && second < third);
    ck_assert_ptr_null(strstr(page.data, "class4"));
}
END_TEST

START_TEST(few_classes_are_a_matrix)
{
    facts.classes = 3;
    matrices[0][0 * 3 + 1] = 17;
    matrices[1][2 * 3 + 2] = 23;
    make_page();
    find(">17</td>");
    find("<td class=\"right\">23</td>");
}
END_TEST

START_TEST(nothing_is_known_without_images)
{
    facts.images = facts.trial_images = 0;
    for (int s = 0; s < 2; s++) {
        account.stages[s].figures.accuracy = account.stages[s].figures.images_per_s = (double)NAN;
        points[s].accuracy = (double)NAN;
    }
    make_page();
    ck_assert_ptr_null(strstr(page.data, "What each layer bears"));
    ck_assert_ptr_null(strstr(page.data, "Accuracy"));
    find("in the file");
}
END_TEST

START_TEST(odd_layers)
{
    layers[0].int8 = (cnn_quantize_row){.dead = true, .sqnr_db = (double)NAN, .cosine = (double)NAN};
    layers[1].int8.sqnr_db = HUGE_VAL;
    layers[2].int8.sqnr_db = -3;
    layer_facts[0].effect[0] = (cnn_effect){.applies = true, .logit_error = HUGE_VAL};
    layer_facts[1].effect[0] = (cnn_effect){.applies = true, .logit_error = 0};
    layer_facts[2].effect[0] = (cnn_effect){.applies = true, .logit_error = 1e-9};
    memset(layer_facts[0].after.bin, 0, sizeof layer_facts[0].after.bin); /* all weights are 0 */
    layer_facts[0].after.zeros = 4;
    make_page();
    find("<td>dead</td>");
    find("<td>exact</td>");
    find("not possible");
    find("100.0 % are 0");
}
END_TEST

START_TEST(points_in_one_place)
{
    for (int i = 0; i < POINTS; i++) {
        points[i] = (opt_point){.accuracy = 0.98, .file_bytes = 500, .ms_per_image = 0.02};
        snprintf(points[i].name, sizeof points[i].name, "point%d", i);
    }
    facts.point_count = POINTS;
    make_page();
    for (int i = 0; i < POINTS; i++)
        find(points[i].name);
}
END_TEST

/* The line of the chart of sizes goes through the points that no other one beats, from the smallest file on. */
START_TEST(a_search_shows_its_front)
{
    static opt_front front;
    static const double accuracy[POINTS] = {0.98, 0.97, 0.99, 0.95, 0.96};
    static const int64_t bytes[POINTS] = {4000, 3000, 2000, 1500, 1000};
    account.front = &front;
    for (int i = 0; i < POINTS; i++) {
        points[i] = (opt_point){.accuracy = accuracy[i], .file_bytes = bytes[i], .ms_per_image = i + 1.0};
        points[i].share = points[i].drop_at_most = 0.1;
        snprintf(points[i].label, sizeof points[i].label, "%d", i);
        points[i].chosen = i == 4;
    }
    facts.point_count = POINTS;
    make_page();
    find("<tr class=\"last\"><th>4</th><td>10 %</td><td>96.00 %</td><td>10.00</td>");
    double at[2][2];
    int read = 0;
    const char *line = strstr(find("accuracy against size"), "points=\"");
    ck_assert_int_eq(sscanf(line, "points=\" %lf,%lf %lf,%lf\"%n", &at[0][0], &at[0][1], &at[1][0], &at[1][1], &read),
                     4);
    ck_assert_int_gt(read, 0);               /* two corners, points 4 and 2 */
    ck_assert_double_lt(at[0][0], at[1][0]); /* the larger file is to the right */
    ck_assert_double_gt(at[0][1], at[1][1]); /* and more accurate: higher */
    account.front = NULL;
}
END_TEST

START_TEST(names_stay_text)
{
    settings.output = "<script>alert(1)</script>";
    snprintf(layers[0].name, sizeof layers[0].name, "a\"><b onload='x'>&amp;\x01\xff");
    names[2] = (char[]){"]]></style>"};
    matrices[0][2 * CLASSES + 2 + 1] = 1;
    make_page();
    find("&lt;script&gt;alert(1)&lt;/script&gt;");
    find("a&quot;&gt;&lt;b onload='x'&gt;&amp;amp;\xEF\xBF\xBD\xEF\xBF\xBD");
    find("]]&gt;&lt;/style&gt;");
    ck_assert_ptr_null(strstr(page.data, "<script"));
}
END_TEST

START_TEST(long_names_keep_both_ends)
{
    static const struct {
        const char *name, *shown;
    } cases[] = {{"conv1", "conv1"},
                 {"0123456789", "0123456789"},
                 {"0123456789a", "012345\xE2\x80\xA6"
                                 "89a"},
                 {"block12_convolution_a", "block1\xE2\x80\xA6"
                                           "n_a"},
                 {"\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9",
                  "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9"},
                 {"", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cnn_text text = {0};
        cnn_text_append(&text, "%s", "");
        opt_html_short(&text, cases[i].name, 10);
        ck_assert_str_eq(text.data, cases[i].shown);
        cnn_text_free(&text);
    }
}
END_TEST

START_TEST(base64_as_in_the_rfc)
{
    static const char *const cases[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cnn_text text = {0};
        cnn_text_append(&text, "%s", "");
        cnn_base64_append(&text, (const uint8_t *)cases[i][0], strlen(cases[i][0]));
        ck_assert_str_eq(text.data, cases[i][1]);
        cnn_text_free(&text);
    }
    const uint8_t high[] = {0xfb, 0xff, 0xbf};
    cnn_text text = {0};
    cnn_base64_append(&text, high, sizeof high);
    ck_assert_str_eq(text.data, "+/+/");
    cnn_text_free(&text);
}
END_TEST

START_TEST(png_reads_back)
{
    enum { WIDTH = 5, HEIGHT = 3 };
    static const int channels[] = {1, 3};
    uint8_t pixels[WIDTH * HEIGHT * 3], *png;
    size_t bytes;
    char path[] = "/tmp/cnn-png-XXXXXX";
    int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    close(file);
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(i * 37 % 256);
    for (int c = 0; c < 2; c++) {
        cnn_picture picture;
        ck_assert_int_eq(cnn_png_encode(pixels, WIDTH, HEIGHT, channels[c], &png, &bytes), CNN_OK);
        ck_assert_int_eq(cnn_save_file(path, png, bytes), CNN_OK);
        ck_assert_int_eq(cnn_picture_read(path, &picture), CNN_OK);
        ck_assert_int_eq(cnn_picture_expand(&picture), CNN_OK);
        ck_assert(picture.width == WIDTH && picture.height == HEIGHT);
        for (int i = 0; i < WIDTH * HEIGHT; i++)
            for (int rgb = 0; rgb < 3; rgb++)
                ck_assert_int_eq(picture.rgba[4 * i + rgb] / 257,
                                 pixels[channels[c] * i + (channels[c] == 3 ? rgb : 0)]);
        cnn_picture_free(&picture);
        free(png);
    }
    ck_assert_int_eq(cnn_png_encode(pixels, WIDTH, HEIGHT, 2, &png, &bytes), CNN_ERR_UNSUPPORTED);
    unlink(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("report");
    TCase *tests = tcase_create("report");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, many_classes_are_listed_by_mistakes);
    tcase_add_test(tests, few_classes_are_a_matrix);
    tcase_add_test(tests, nothing_is_known_without_images);
    tcase_add_test(tests, odd_layers);
    tcase_add_test(tests, points_in_one_place);
    tcase_add_test(tests, a_search_shows_its_front);
    tcase_add_test(tests, names_stay_text);
    tcase_add_test(tests, long_names_keep_both_ends);
    tcase_add_test(tests, base64_as_in_the_rfc);
    tcase_add_test(tests, png_reads_back);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
