/* Parsing of option tables with getopt_long, and the sentences about what is wrong. */
#include "cli/options.h"

#include "cli/hints.h"
#include "core/error.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_OPTIONS = 96,
    FIRST_VALUE = UCHAR_MAX + 1, /* getopt's val of option 0, above every letter */
    TEXT_BYTES = 256
};

/* All tables as getopt_long wants them. */
typedef struct option_parser {
    const cnn_option *option[MAX_OPTIONS];
    char *settings[MAX_OPTIONS]; /* of the option's table */
    int count;
    struct option long_options[MAX_OPTIONS + 1];
    char letters[2 * MAX_OPTIONS + 2];
} option_parser;

static bool takes_value(const cnn_option *option)
{
    return option->kind != CNN_OPTION_FLAG;
}

static void parser_build(option_parser *parser, const cnn_option_table *tables, int table_count)
{
    memset(parser, 0, sizeof *parser);
    char *letter = parser->letters;
    *letter++ = ':'; /* getopt reports a missing value as ':' */
    for (int t = 0; t < table_count; t++) {
        for (const cnn_option *option = tables[t].options; option->name; option++) {
            assert(parser->count < MAX_OPTIONS);
            int has_value = !takes_value(option) ? no_argument : option->bare ? optional_argument : required_argument;
            parser->long_options[parser->count] =
                (struct option){.name = option->name, .has_arg = has_value, .val = FIRST_VALUE + parser->count};
            parser->option[parser->count] = option;
            parser->settings[parser->count] = tables[t].settings;
            parser->count++;
            if (option->letter) {
                *letter++ = option->letter;
                if (has_value == required_argument)
                    *letter++ = ':';
            }
        }
    }
}

/* Number of the option that getopt calls `value`; -1: none. */
static int parser_find(const option_parser *parser, int value)
{
    if (value >= FIRST_VALUE)
        return value - FIRST_VALUE;
    for (int i = 0; i < parser->count; i++)
        if (parser->option[i]->letter && parser->option[i]->letter == value)
            return i;
    return -1;
}

/* Appends to text, which stays terminated. */
static void append(char text[TEXT_BYTES], const char *format, ...) CNN_PRINTF(2, 3);
static void append(char text[TEXT_BYTES], const char *format, ...)
{
    size_t length = strlen(text);
    va_list args;
    va_start(args, format);
    vsnprintf(text + length, TEXT_BYTES - length, format, args);
    va_end(args);
}

/* "a, b or c" */
static void append_words(char text[TEXT_BYTES], const char *prefix, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        append(text, "%s%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", prefix, words[i]);
}

static bool integer_range(const cnn_option *option)
{
    return option->int_min != 0 || option->int_max != 0;
}

static void append_integers(char text[TEXT_BYTES], const cnn_option *option)
{
    append(text, "a whole number");
    if (integer_range(option) && option->int_max == INT64_MAX)
        append(text, " of at least %lld", (long long)option->int_min);
    else if (integer_range(option))
        append(text, " from %lld to %lld", (long long)option->int_min, (long long)option->int_max);
}

static void append_doubles(char text[TEXT_BYTES], const cnn_option *option)
{
    bool open_min = option->open & CNN_OPEN_MIN, open_max = option->open & CNN_OPEN_MAX;
    append(text, "a number");
    if (isinf(option->max))
        append(text, open_min ? " above %g" : " of at least %g", option->min);
    else if (!open_min && !open_max)
        append(text, " from %g to %g", option->min, option->max);
    else
        append(text, open_min ? " above %g and %s %g" : " of at least %g and %s %g", option->min,
               open_max ? "below" : "at most", option->max);
}

/* What an option takes: "a number above 0 and below 1". */
static const char *allowed(const cnn_option *option, char text[TEXT_BYTES])
{
    text[0] = '\0';
    if (option->choices)
        append_words(text, "", option->choices);
    else if (option->kind == CNN_OPTION_INT || option->kind == CNN_OPTION_INT64)
        append_integers(text, option);
    else if (option->kind == CNN_OPTION_DOUBLE)
        append_doubles(text, option);
    else if (option->complete == CNN_COMPLETE_DEVICE)
        append(text, "a device, such as cpu or ref");
    else
        append(text, "%s", option->argument);
    if (option->word)
        append(text, " or '%s'", option->word);
    return text;
}

static cnn_status refuse(const cnn_option *option, const char *value)
{
    char text[TEXT_BYTES];
    if (!*value)
        return cnn_error(CNN_ERR_USAGE, "option --%s needs a value that is not empty: %s", option->name,
                         allowed(option, text));
    char hint[CNN_HINT_BYTES];
    return cnn_error(CNN_ERR_USAGE, "option --%s takes %s, not '%.100s'%s", option->name, allowed(option, text), value,
                     cnn_hint_value(option, value, hint));
}

/* A number starts with a digit, a sign or a point: strtod would also take spaces, "inf", "nan" and hexadecimals. */
static bool looks_numeric(const char *value)
{
    return value[strspn(value, "+-.0123456789eE")] == '\0' && value[0] != '\0';
}

static bool parse_integer(const cnn_option *option, const char *value, int64_t *result)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (!looks_numeric(value) || *end || errno)
        return false;
    *result = number;
    return !integer_range(option) || (number >= option->int_min && number <= option->int_max);
}

static bool parse_double(const cnn_option *option, const char *value, double *result)
{
    char *end;
    double number = strtod(value, &end);
    if (!looks_numeric(value) || *end || !isfinite(number))
        return false;
    *result = number;
    bool above = option->open & CNN_OPEN_MIN ? number > option->min : number >= option->min;
    bool below = option->open & CNN_OPEN_MAX ? number < option->max : number <= option->max;
    return above && below;
}

/* Number of `value` among words; -1: not there. */
static int find_word(const char *value, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(value, words[i]) == 0)
            return i;
    return -1;
}

/* Writes the option's value where `target` points; value is NULL for a flag. */
static cnn_status store(const cnn_option *option, const char *value, void *target)
{
    bool is_word = option->word && value && strcmp(value, option->word) == 0;
    int64_t integer = (int64_t)option->word_value;
    int choice;
    switch (option->kind) {
    case CNN_OPTION_FLAG:
        *(bool *)target = true;
        return CNN_OK;
    case CNN_OPTION_INT:
        if (!is_word && (!parse_integer(option, value, &integer) || integer < INT_MIN || integer > INT_MAX))
            return refuse(option, value);
        *(int *)target = (int)integer;
        return CNN_OK;
    case CNN_OPTION_INT64:
        if (!is_word && !parse_integer(option, value, &integer))
            return refuse(option, value);
        *(int64_t *)target = integer;
        return CNN_OK;
    case CNN_OPTION_DOUBLE:
        if (is_word)
            *(double *)target = option->word_value;
        else if (!parse_double(option, value, target))
            return refuse(option, value);
        return CNN_OK;
    case CNN_OPTION_STRING:
        if ((!*value && value != option->bare) || (option->choices && find_word(value, option->choices) < 0))
            return refuse(option, value);
        *(const char **)target = value;
        return CNN_OK;
    case CNN_OPTION_CHOICE:
        choice = find_word(value, option->choices);
        if (choice < 0)
            return refuse(option, value);
        *(int *)target = choice;
        return CNN_OK;
    }
    return CNN_OK;
}

/* getopt_long said '?' without an option: the word is unknown, or the beginning of several. */
static cnn_status refuse_unknown(const option_parser *parser, const char *word)
{
    size_t length = strcspn(word, "=");
    const char *names[MAX_OPTIONS + 1] = {NULL}, *starting[MAX_OPTIONS + 1] = {NULL};
    char name[64], text[TEXT_BYTES] = "";
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    int count = 0;
    for (int i = 0; i < parser->count; i++) {
        names[i] = parser->option[i]->name;
        if (strncmp(names[i], name, strlen(name)) == 0)
            starting[count++] = names[i];
    }
    if (count > 1 && *name) {
        append_words(text, "--", starting);
        return cnn_error(CNN_ERR_USAGE, "'--%s' could be %s: write more of it", name, text);
    }
    const char *near = cnn_suggest(name, names);
    if (near)
        return cnn_error(CNN_ERR_USAGE, "there is no option --%s (did you mean --%s?)", name, near);
    const cnn_option *related = cnn_hint_option(parser->option, parser->count, name);
    if (related)
        return cnn_error(CNN_ERR_USAGE, "there is no option --%s; perhaps you mean --%s", name, related->name);
    return cnn_error(CNN_ERR_USAGE, "there is no option --%s", name);
}

/* What getopt_long refused; `code` is its answer and `word` the word that it was reading. */
static cnn_status refuse_word(const option_parser *parser, int code, const char *word)
{
    char text[TEXT_BYTES];
    int number = optopt ? parser_find(parser, optopt) : -1;
    if (number < 0 && strncmp(word, "--", 2) == 0)
        return refuse_unknown(parser, word + 2);
    if (number < 0)
        return cnn_error(CNN_ERR_USAGE, "there is no option -%c", isprint(optopt) ? optopt : '?');
    const cnn_option *option = parser->option[number];
    if (code == ':')
        return cnn_error(CNN_ERR_USAGE, "option --%s needs a value: %s", option->name, allowed(option, text));
    return cnn_error(CNN_ERR_USAGE, "option --%s stands alone: it takes no value", option->name);
}

cnn_status cnn_options_parse(const cnn_option_table *tables, int table_count, int argc, char **argv,
                             cnn_operands *operands)
{
    option_parser parser;
    parser_build(&parser, tables, table_count);
    opterr = 0;
    optind = 0; /* starts getopt afresh */
    bool stopped = false;
    while (!stopped) {
        int code = getopt_long(argc, argv, parser.letters, parser.long_options, NULL);
        if (code == -1)
            break;
        if (code == '?' || code == ':')
            return refuse_word(&parser, code, argv[optind - 1]);
        int number = parser_find(&parser, code);
        const cnn_option *option = parser.option[number];
        const char *value = optarg ? optarg : option->bare;
        cnn_status status = store(option, value, parser.settings[number] + option->offset);
        if (status != CNN_OK)
            return status;
        stopped = option->stops;
    }
    operands->list = argv + optind;
    operands->count = argc - optind;
    return CNN_OK;
}

/* Edit distance (Levenshtein) of two short words; `limit` when it is more than that or a word is long. */
static int distance(const char *a, const char *b, int limit)
{
    enum { LONGEST = 40 };
    int n = (int)strlen(a), m = (int)strlen(b);
    int row[LONGEST + 1]; /* row[j]: distance of a's first i letters to b's first j */
    if (n > LONGEST || m > LONGEST)
        return limit;
    for (int j = 0; j <= m; j++)
        row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m] < limit ? row[m] : limit;
}

const char *cnn_suggest(const char *text, const char *const *words)
{
    int best = (int)strlen(text) <= 3 ? 2 : 4; /* more letters wrong than this is another word */
    const char *nearest = NULL;
    for (int i = 0; words[i]; i++) {
        int d = distance(text, words[i], best);
        if (d < best && d < (int)strlen(words[i])) {
            best = d;
            nearest = words[i];
        }
    }
    return nearest;
}
