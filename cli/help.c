/* The option part of --help: groups, aligned options, wrapped text. */
#include "cli/options.h"

#include <string.h>

enum { WIDTH = 80, HELP_COLUMN = 29, MAX_GROUPS = 16 };

void cnn_help_wrap(FILE *out, const char *text, int indent, int at)
{
    int column = at;
    while (*text) {
        int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length >= WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        if (column < indent)
            column += fprintf(out, "%*s", indent - column, "");
        else if (column > indent)
            column += fprintf(out, " ");
        column += fprintf(out, "%.*s", length, text);
        text += length + (text[length] == ' ');
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const cnn_option *option)
{
    char help[1024];
    int column = option->letter ? fprintf(out, "  -%c, ", option->letter) : fprintf(out, "      ");
    column += fprintf(out, "--%s", option->name);
    if (option->argument)
        column += fprintf(out, option->bare ? "[=%s]" : "=%s", option->argument);
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    snprintf(help, sizeof help, option->standard ? "%s (default: %s)" : "%s", option->help, option->standard);
    cnn_help_wrap(out, help, HELP_COLUMN, column);
}

/* Prints the options whose group is `group`, of all tables. */
static void print_group(FILE *out, const cnn_option_table *tables, int table_count, const char *group)
{
    fprintf(out, "\n%s:\n", group);
    for (int t = 0; t < table_count; t++) {
        const char *current = "Options";
        for (const cnn_option *option = tables[t].options; option->name; option++) {
            current = option->group ? option->group : current;
            if (strcmp(current, group) == 0)
                print_option(out, option);
        }
    }
}

void cnn_options_help(FILE *out, const cnn_option_table *tables, int table_count)
{
    const char *groups[MAX_GROUPS]; /* in order of first appearance */
    int count = 0;
    for (int t = 0; t < table_count; t++) {
        const char *current = "Options";
        for (const cnn_option *option = tables[t].options; option->name; option++) {
            current = option->group ? option->group : current;
            int i = 0;
            while (i < count && strcmp(groups[i], current) != 0)
                i++;
            if (i == count && count < MAX_GROUPS)
                groups[count++] = current;
        }
    }
    for (int i = 0; i < count; i++)
        print_group(out, tables, table_count, groups[i]);
}
