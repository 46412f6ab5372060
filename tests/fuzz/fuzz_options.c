/* Fuzz target: command lines of the three tools, up to where work would begin. The first byte says which tool; the rest
 * is its words, one a line. What is accepted lies within what the option's row allows. Custom changes pick words that
 * the tables know. */
#include "mutate.h"

#include "cli/help.h"
#include "cli/hints.h"
#include "infer/infer.h"
#include "optimize/job.h"
#include "train/tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOOLS = 3, MOST_WORDS = 64, MOST_BYTES = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef union any_settings {
    infer_settings infer;
    opt_settings opt;
    train_settings train;
} any_settings;

static const cnn_tool *const tools[TOOLS] = {&infer_tool, &opt_tool, &train_tool};

static void init(int tool, any_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    if (tool == 0)
        infer_settings_init(&settings->infer);
    else if (tool == 1)
        opt_settings_init(&settings->opt);
    else
        train_settings_init(&settings->train);
}

static cnn_status check(int tool, const cnn_cli *cli, any_settings *settings)
{
    if (tool == 0)
        return infer_settings_check(cli, &settings->infer);
    return tool == 1 ? opt_settings_check(cli, &settings->opt) : train_settings_check(&settings->train);
}

/* A number is that of before, the row's word, or in the row's range. */
static bool allowed(const cnn_option *row, const void *before, const void *after)
{
    const char *const was = (const char *)before + row->offset, *const is = (const char *)after + row->offset;
    double number = 0;
    if (row->kind == CNN_OPTION_DOUBLE) {
        memcpy(&number, is, sizeof number);
        if (memcmp(was, is, sizeof number) == 0 || (row->word && number == row->word_value))
            return true;
        return number >= row->min && number <= row->max && !(row->open & CNN_OPEN_MIN && number == row->min) &&
               !(row->open & CNN_OPEN_MAX && number == row->max);
    }
    if (row->kind != CNN_OPTION_INT && row->kind != CNN_OPTION_INT64)
        return true;
    int64_t whole = 0;
    int narrow;
    memcpy(&narrow, is, sizeof narrow);
    if (row->kind == CNN_OPTION_INT)
        whole = narrow;
    else
        memcpy(&whole, is, sizeof whole);
    return memcmp(was, is, row->kind == CNN_OPTION_INT ? sizeof narrow : sizeof whole) == 0 ||
           (row->word && (double)whole == row->word_value) || (whole >= row->int_min && whole <= row->int_max);
}

static void check_ranges(const cnn_option *rows, const void *before, const void *after)
{
    for (const cnn_option *row = rows; row->name; row++)
        if (!allowed(row, before, after))
            abort();
}

static void parse(int number, int argc, char **argv)
{
    static FILE *nowhere;
    const cnn_tool *tool = tools[number];
    any_settings before, settings;
    const cnn_common standard = {.seed = 1, .device = "auto", .completion = -1};
    cnn_cli cli = {.tool = tool, .argc = argc, .argv = argv, .common = standard};
    const cnn_option_table tables[] = {{tool->options, &settings}, {cnn_common_options, &cli.common}};
    char hint[CNN_HINT_BYTES];
    if (!nowhere)
        nowhere = fopen("/dev/null", "w");
    init(number, &before);
    init(number, &settings);
    if (cnn_options_parse(tables, 2, argc, argv, &cli.operands) != CNN_OK)
        return;
    check_ranges(tool->options, &before, &settings);
    check_ranges(cnn_common_options, &standard, &cli.common);
    for (int i = 0; i < cli.operands.count; i++)
        cnn_hint_operand(tables, 2, cli.operands.list[i], hint);
    if (cli.common.help && nowhere)
        (void)cnn_help_print(nowhere, tool, tables, 2, cli.common.help);
    (void)check(number, &cli, &settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *words = malloc(size + 1), *argv[MOST_WORDS + 2];
    int argc = 0;
    if (!words || size == 0 || size > MOST_BYTES) {
        free(words);
        return 0;
    }
    memcpy(words, data, size);
    words[size] = '\0';
    const int number = data[0] % TOOLS;
    argv[argc++] = (char *)(uintptr_t)tools[number]->name;
    for (char *word = strtok(words + 1, "\n"); word && argc <= MOST_WORDS; word = strtok(NULL, "\n"))
        argv[argc++] = word;
    argv[argc] = NULL;
    parse(number, argc, argv);
    free(words);
    return 0;
}

/* ---- Changes ---- */

static const cnn_option *any_row(const cnn_tool *tool, fuzz_random *random)
{
    const cnn_option *rows = fuzz_below(random, 8) ? tool->options : cnn_common_options;
    size_t count = 0;
    while (rows[count].name)
        count++;
    return &rows[fuzz_below(random, count)];
}

static void put_value(const cnn_option *row, fuzz_random *random, char *word, size_t room)
{
    static const char *const values[] = {
        "0",         "1",      "0.5",    "-1",      "1e308", "1e-320", "nan", "inf", "0x10",   "9999999999999999999",
        "model.cnn", "x.onnx", "r.html", "conv1=4", "cpu",   "all",    "",    "%s",  "bits=1", "median,centre"};
    size_t choices = 0;
    while (row->choices && row->choices[choices])
        choices++;
    if (choices && fuzz_below(random, 8))
        snprintf(word, room, "%s", row->choices[fuzz_below(random, choices)]);
    else if (row->word && fuzz_below(random, 4) == 0)
        snprintf(word, room, "%s", row->word);
    else if (fuzz_below(random, 2))
        snprintf(word, room, "%s", values[fuzz_below(random, sizeof values / sizeof *values)]);
    else if (row->kind == CNN_OPTION_DOUBLE)
        snprintf(word, room, "%.9g",
                 row->min + (double)fuzz_below(random, 1000) / 999 * (row->max < 1e9 ? row->max : 1));
    else
        snprintf(word, room, "%lld", (long long)fuzz_number(random, (uint64_t)row->int_max));
}

/* "--name=value", "--name", "-n value", some of the name. */
static void put_option(const cnn_tool *tool, fuzz_random *random, char *word, size_t room)
{
    const cnn_option *row = any_row(tool, random);
    char value[128] = "";
    const int cut = (int)(fuzz_below(random, 8) ? strlen(row->name) : fuzz_below(random, strlen(row->name) + 1));
    put_value(row, random, value, sizeof value);
    if (row->kind == CNN_OPTION_FLAG ? fuzz_below(random, 16) > 0 : row->bare && fuzz_below(random, 2))
        snprintf(word, room, "--%.*s\n", cut, row->name);
    else if (row->letter && fuzz_below(random, 2))
        snprintf(word, room, "-%c\n%s\n", row->letter, value);
    else
        snprintf(word, room, "--%.*s%c%s\n", cut, row->name, fuzz_below(random, 4) ? '=' : '\n', value);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    fuzz_random random = {.state = (uint64_t)seed << 20};
    char word[512] = "digit.png\n";
    if (size == 0 || fuzz_below(&random, 4) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    size_t at = size; /* the beginning of a line */
    for (uint64_t lines = fuzz_below(&random, 8); lines > 0 && at > 1; lines--)
        while (--at > 1 && data[at - 1] != '\n')
            ;
    size_t end = at;
    while (fuzz_below(&random, 2) && end < size && data[end++] != '\n') /* the line, or a part of it, goes */
        ;
    if (fuzz_below(&random, 8))
        put_option(tools[data[0] % TOOLS], &random, word, sizeof word);
    const size_t length = strlen(word);
    if (size - (end - at) + length > max_size || at < 1)
        return LLVMFuzzerMutate(data, size, max_size);
    memmove(data + at + length, data + end, size - end);
    memcpy(data + at, word, length);
    return size - (end - at) + length;
}
