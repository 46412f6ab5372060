/* Manual pages. Macros are those of man(7), which groff and mandoc both read; text is escaped so that each character
 * comes out as it stands, a hyphen of an option as one that can be copied. */
#include "cli/man.h"

#include "cli/help.h"

#include <ctype.h>
#include <string.h>

/* One character of roff. */
static void print_character(FILE *out, char c)
{
    static const struct {
        char c;
        const char *roff;
    } escapes[] = {{'\\', "\\e"},  {'-', "\\-"},   {'\'', "\\(aq"}, {'"', "\\(dq"},
                   {'`', "\\(ga"}, {'^', "\\(ha"}, {'~', "\\(ti"}};
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        if (escapes[i].c == c) {
            fputs(escapes[i].roff, out);
            return;
        }
    fputc(c, out);
}

static void print_text(FILE *out, const char *text)
{
    for (; *text; text++)
        print_character(out, *text);
}

/* A line of its own, which must not begin like a request (".", an apostrophe is escaped anyway). */
static void print_line(FILE *out, const char *text)
{
    if (*text == '.')
        fputs("\\&", out);
    print_text(out, text);
    fputc('\n', out);
}

/* In another font: 'B' or 'I'. */
static void print_in(FILE *out, char font, const char *text)
{
    fprintf(out, "\\f%c", font);
    print_text(out, text);
    fputs("\\fR", out);
}

/* "CNN-TRAIN" */
static void print_title(FILE *out, const cnn_tool *tool)
{
    fputs(".TH ", out);
    for (const char *c = tool->name; *c; c++)
        print_character(out, (char)toupper((unsigned char)*c));
    fprintf(out, " 1 \"\" \"cnnkit %s\" \"User Commands\"\n", cnn_version());
}

/* The summary as manual pages have it: "cnn-train \- train a convolutional network". */
static void print_name(FILE *out, const cnn_tool *tool)
{
    const size_t length = strlen(tool->summary);
    fputs(".SH NAME\n", out);
    print_text(out, tool->name);
    fputs(" \\- ", out);
    for (size_t i = 0; i < length; i++) {
        if (i + 1 == length && tool->summary[i] == '.')
            break;
        print_character(out, i == 0 ? (char)tolower((unsigned char)tool->summary[i]) : tool->summary[i]);
    }
    fputc('\n', out);
}

static void print_synopsis(FILE *out, const cnn_tool *tool)
{
    fputs(".SH SYNOPSIS\n", out);
    for (int i = 0; tool->usage[i]; i++) {
        if (i > 0)
            fputs(".br\n", out);
        print_in(out, 'B', tool->name);
        fputc(' ', out);
        print_line(out, tool->usage[i]);
    }
}

static void print_option(FILE *out, const cnn_option *option)
{
    const char letter[] = {'-', option->letter, '\0'};
    fputs(".TP\n", out);
    if (option->letter) {
        print_in(out, 'B', letter);
        fputs(", ", out);
    }
    fputs("\\fB\\-\\-", out);
    print_text(out, option->name);
    fputs("\\fR", out);
    if (option->argument) {
        fputs(option->bare ? "[=" : "=", out);
        print_in(out, 'I', option->argument);
        fputs(option->bare ? "]" : "", out);
    }
    fputc('\n', out);
    if (!option->standard) {
        print_line(out, option->help);
        return;
    }
    print_text(out, option->help);
    fputs(" (default: ", out);
    print_text(out, option->standard);
    fputs(")\n", out);
}

static void print_group(FILE *out, const char *name, const cnn_option_table *tables, int table_count)
{
    fputs(".SS ", out);
    print_line(out, name);
    for (int t = 0; t < table_count; t++) {
        const char *group = CNN_HELP_FIRST_GROUP;
        for (const cnn_option *option = tables[t].options; option->name; option++) {
            group = option->group ? option->group : group;
            if (strcmp(group, name) == 0)
                print_option(out, option);
        }
    }
}

static void print_variables(FILE *out)
{
    fputs(".SH ENVIRONMENT\n", out);
    for (const cnn_help_variable *variable = cnn_help_variables; variable->name; variable++) {
        fputs(".TP\n", out);
        print_in(out, 'B', variable->name);
        fputc('\n', out);
        print_line(out, variable->what);
    }
}

static void print_examples(FILE *out, const cnn_tool *tool)
{
    fputs(".SH EXAMPLES\n", out);
    for (const cnn_example *example = tool->examples; example->command; example++) {
        fputs(".TP\n", out);
        print_in(out, 'B', example->command);
        fputc('\n', out);
        print_line(out, example->what);
    }
}

static void print_see_also(FILE *out, const cnn_tool *tool)
{
    static const char *const tools[] = {"cnn-train", "cnn-opt", "cnn-infer"};
    const char *separator = "";
    fputs(".SH SEE ALSO\n", out);
    for (size_t i = 0; i < sizeof tools / sizeof *tools; i++)
        if (strcmp(tools[i], tool->name) != 0) {
            fputs(separator, out);
            print_in(out, 'B', tools[i]);
            fputs("(1)", out);
            separator = ",\n";
        }
    fputc('\n', out);
}

void cnn_man_print(FILE *out, const cnn_tool *tool, const cnn_option_table *tables, int table_count)
{
    const char *groups[CNN_HELP_GROUPS];
    const int group_count = cnn_help_groups(tables, table_count, groups);
    print_title(out, tool);
    print_name(out, tool);
    print_synopsis(out, tool);
    if (tool->description) {
        fputs(".SH DESCRIPTION\n", out);
        print_line(out, tool->description);
    }
    fputs(".SH OPTIONS\n", out);
    for (int i = 0; i < group_count; i++)
        print_group(out, groups[i], tables, table_count);
    print_variables(out);
    fputs(".SH EXIT STATUS\n", out);
    print_line(out, cnn_help_exit_status);
    print_examples(out, tool);
    print_see_also(out, tool);
}
