/* Option tables: what is accepted, and the sentences for what is not. */
#include "cli/help.h"
#include "cli/options.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    bool fast, last;
    int batch, kind, amp;
    int64_t seed;
    double ratio, epochs, scale;
    const char *output, *device;
} settings;

static const char *const kinds[] = {"channel", "block", NULL};
static const char *const amps[] = {"off", "fp16", "bf16", NULL};
static const char *const devices[] = {"auto", "cpu", NULL};

static const cnn_option table[] = {
    {.group = "One",
     .letter = 'f',
     .name = "fast",
     .kind = CNN_OPTION_FLAG,
     .offset = offsetof(settings, fast),
     .help = "h"},
    {.letter = 'b',
     .name = "batch",
     .argument = "N",
     .kind = CNN_OPTION_INT,
     .int_min = 1,
     .int_max = 100,
     .offset = offsetof(settings, batch),
     .help = "h",
     .standard = "64"},
    {.name = "seed",
     .argument = "N",
     .kind = CNN_OPTION_INT64,
     .int_min = 0,
     .int_max = INT64_MAX,
     .offset = offsetof(settings, seed),
     .help = "h"},
    {.name = "prune",
     .argument = "R",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = 1,
     .open = CNN_OPEN_BOTH,
     .offset = offsetof(settings, ratio),
     .help = "h"},
    {.name = "epochs",
     .argument = "N",
     .kind = CNN_OPTION_DOUBLE,
     .min = 0,
     .max = HUGE_VAL,
     .offset = offsetof(settings, epochs),
     .help = "h"},
    {.name = "loss-scale",
     .argument = "N",
     .kind = CNN_OPTION_DOUBLE,
     .min = 1,
     .max = 1000,
     .word = "dynamic",
     .word_value = -1,
     .offset = offsetof(settings, scale),
     .help = "h"},
    {.group = "Two",
     .letter = 'o',
     .name = "output",
     .argument = "FILE",
     .kind = CNN_OPTION_STRING,
     .offset = offsetof(settings, output),
     .help = "h"},
    {.name = "device",
     .argument = "NAME",
     .kind = CNN_OPTION_STRING,
     .choices = devices,
     .offset = offsetof(settings, device),
     .help = "h"},
    {.name = "structure",
     .argument = "KIND",
     .kind = CNN_OPTION_CHOICE,
     .choices = kinds,
     .offset = offsetof(settings, kind),
     .help = "h"},
    {.name = "amp",
     .argument = "TYPE",
     .kind = CNN_OPTION_CHOICE,
     .choices = amps,
     .bare = "fp16",
     .offset = offsetof(settings, amp),
     .help = "h"},
    {.name = "stop", .kind = CNN_OPTION_FLAG, .stops = true, .offset = offsetof(settings, last), .help = "h"},
    {.name = NULL}};

static cnn_operands operands;

/* Parses the words of a line, split at spaces ("<>" stands for an empty word). */
static cnn_status parse(settings *values, const char *line)
{
    static char text[512], *argv[32];
    int argc = 0;
    snprintf(text, sizeof text, "tool %s", line);
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
        argv[argc++] = strcmp(word, "<>") == 0 ? word + 2 : word;
    argv[argc] = NULL;
    const cnn_option_table tables[] = {{table, values}};
    return cnn_options_parse(tables, 1, argc, argv, &operands);
}

START_TEST(accepts_every_kind)
{
    settings s = {.batch = 64};
    ck_assert_int_eq(parse(&s, "a.png -f -b7 --seed 9223372036854775807 --prune=.5 --epochs 1e-1 --loss-scale dynamic "
                               "-o out --device cpu --structure block --amp b.png"),
                     CNN_OK);
    ck_assert(s.fast && s.batch == 7 && s.seed == INT64_MAX && s.kind == 1 && s.amp == 1);
    ck_assert(s.ratio == 0.5 && s.epochs == 0.1 && s.scale == -1);
    ck_assert_str_eq(s.output, "out");
    ck_assert_str_eq(s.device, "cpu");
    ck_assert_int_eq(operands.count, 2);
    ck_assert_str_eq(operands.list[0], "a.png");
    ck_assert_str_eq(operands.list[1], "b.png");
}
END_TEST

START_TEST(takes_what_is_not_given_from_before)
{
    settings s = {.batch = 64, .ratio = 0.25};
    ck_assert_int_eq(parse(&s, "--amp=bf16 --loss-scale 8 -- -f"), CNN_OK);
    ck_assert(s.batch == 64 && s.ratio == 0.25 && s.amp == 2 && s.scale == 8 && !s.fast);
    ck_assert_int_eq(operands.count, 1);
}
END_TEST

START_TEST(stops_where_told)
{
    settings s = {0};
    ck_assert_int_eq(parse(&s, "--fast --stop --batch nonsense"), CNN_OK);
    ck_assert(s.last && s.fast);
}
END_TEST

/* Lines that are refused, and what the sentence holds. */
static const struct {
    const char *line, *sentence;
} refused[] = {
    {"--batch 0", "option --batch takes a whole number from 1 to 100, not '0'"},
    {"--batch 101", "not '101'"},
    {"--batch 1x", "not '1x'"},
    {"--batch 1.0", "not '1.0'"},
    {"--batch 0x10", "not '0x10'"},
    {"--batch 4294967297", "not '4294967297'"},
    {"--batch 99999999999999999999", "not '99999999999999999999'"},
    {"--batch=", "option --batch needs a value that is not empty: a whole number from 1 to 100"},
    {"-b", "option --batch needs a value: a whole number from 1 to 100"},
    {"--seed -1", "option --seed takes a whole number of at least 0, not '-1'"},
    {"--seed 9223372036854775808", "not '9223372036854775808'"},
    {"--prune 0", "option --prune takes a number above 0 and below 1, not '0'"},
    {"--prune 1", "not '1'"},
    {"--prune 1.5", "not '1.5'"},
    {"--prune nan", "not 'nan'"},
    {"--prune 0.5x", "not '0.5x'"},
    {"--prune 0.5.5", "not '0.5.5'"},
    {"--epochs inf", "option --epochs takes a number of at least 0, not 'inf'"},
    {"--epochs 1e999", "not '1e999'"},
    {"--epochs -1", "not '-1'"},
    {"--epochs 0x1p3", "not '0x1p3'"},
    {"--loss-scale static", "option --loss-scale takes a number from 1 to 1000 or 'dynamic', not 'static'"},
    {"--output <>", "option --output needs a value that is not empty: FILE"},
    {"--device gpu", "option --device takes auto or cpu, not 'gpu'"},
    {"--structure blok", "option --structure takes channel or block, not 'blok'"},
    {"--amp=int8", "option --amp takes off, fp16 or bf16, not 'int8'"},
    {"--fast=1", "option --fast stands alone: it takes no value"},
    {"--prun=0.5 --epoch", "option --epochs needs a value: a number of at least 0"},
    {"--s 1", "'--s' could be --seed, --structure or --stop: write more of it"},
    {"--bacth 5", "there is no option --bacth (did you mean --batch?)"},
    {"--zzzzzz", "there is no option --zzzzzz"},
    {"-x", "there is no option -x"},
    {"-fx", "there is no option -x"},
};

START_TEST(refuses_with_a_sentence)
{
    settings s = {0};
    ck_assert_int_eq(parse(&s, refused[_i].line), CNN_ERR_USAGE);
    ck_assert_msg(strstr(cnn_last_error(), refused[_i].sentence), "'%s' gave '%s'", refused[_i].line, cnn_last_error());
}
END_TEST

START_TEST(suggests_near_words)
{
    static const char *const words[] = {"batch", "epochs", "q", "json", NULL};
    ck_assert_str_eq(cnn_suggest("epoch", words), "epochs");
    ck_assert_str_eq(cnn_suggest("jsn", words), "json");
    ck_assert_str_eq(cnn_suggest("bacth", words), "batch");
    ck_assert_ptr_null(cnn_suggest("w", words));
    ck_assert_ptr_null(cnn_suggest("banana", words));
}
END_TEST

START_TEST(help_fits_80_columns)
{
    settings s = {0};
    const cnn_option_table tables[] = {{table, &s}};
    char *text;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);
    static const char *const usage[] = {"[OPTION]...", NULL};
    static const cnn_example examples[] = {{"tool --fast", "be fast"}, {NULL, NULL}};
    const cnn_tool tool = {.name = "tool", .usage = usage, .summary = "Do it.", .options = table, .examples = examples};
    ck_assert_int_eq(cnn_help_print(out, &tool, tables, 1, "all"), CNN_OK);
    ck_assert_int_eq(cnn_help_print(out, &tool, tables, 1, ""), CNN_OK);
    ck_assert_int_eq(cnn_help_print(out, &tool, tables, 1, "tw"), CNN_OK);
    ck_assert_int_eq(cnn_help_print(out, &tool, tables, 1, "--amp"), CNN_OK);
    ck_assert_int_eq(cnn_help_print(out, &tool, tables, 1, "three"), CNN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "'three'"));
    cnn_help_wrap(out, "a sentence of many words that goes on and on beyond the eightieth column to be wrapped there",
                  4, 0);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_ptr_nonnull(
        strstr(text, "\nOne:\n  -f, --fast                 h\n  -b, --batch=N              h (default: 64)\n"));
    ck_assert_ptr_nonnull(strstr(text, "\nTwo:\n  -o, --output=FILE "));
    ck_assert_ptr_nonnull(strstr(text, "      --amp[=TYPE]"));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        ck_assert_msg(strlen(line) < 80, "too long: %s", line);
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli options");
    TCase *tests = tcase_create("options");
    tcase_add_test(tests, accepts_every_kind);
    tcase_add_test(tests, takes_what_is_not_given_from_before);
    tcase_add_test(tests, stops_where_told);
    tcase_add_loop_test(tests, refuses_with_a_sentence, 0, (int)(sizeof refused / sizeof refused[0]));
    tcase_add_test(tests, suggests_near_words);
    tcase_add_test(tests, help_fits_80_columns);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
