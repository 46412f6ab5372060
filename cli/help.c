/* --help from the option tables: groups, aligned options, wrapped text. */
#include "cli/help.h"

#include "cli/man.h"
#include "cli/style.h"
#include "core/error.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { WIDTH = 80, HELP_COLUMN = 29, INDENT = 2, TEXT_BYTES = 1024 };

const cnn_help_variable cnn_help_variables[] = {{"CNN_DATA", "folder of the data sets, as --data-dir"},
                                                {"CNN_CPU_ISA", "instruction set, as --device=cpu:LEVEL"},
                                                {"CNN_PLUGIN_DIR", "folder of the plug-in libcnn-cuda.so"},
                                                {"NO_COLOR", "no colour on terminals"},
                                                {NULL, NULL}};

const char cnn_help_exit_status[] = "0 done, 1 failed, 2 wrong usage, 130 interrupted (Ctrl-C).";

/* All tables of a tool, and the headings in order of first appearance. */
typedef struct help {
    FILE *out;
    const cnn_tool *tool;
    const cnn_option_table *tables;
    int table_count;
    const char *groups[CNN_HELP_GROUPS];
    int group_count;
} help;

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

static void print_heading(const help *h, const char *text)
{
    fprintf(h->out, "\n%s%s:%s\n", cnn_style_on(h->out, CNN_STYLE_BOLD), text, cnn_style_on(h->out, CNN_STYLE_PLAIN));
}

static void print_option(const help *h, const cnn_option *option)
{
    char text[TEXT_BYTES];
    int column = option->letter ? fprintf(h->out, "  -%c, ", option->letter) : fprintf(h->out, "      ");
    column += fprintf(h->out, "--%s", option->name);
    if (option->argument)
        column += fprintf(h->out, option->bare ? "[=%s]" : "=%s", option->argument);
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', h->out);
        column = 0;
    }
    snprintf(text, sizeof text, option->standard ? "%s (default: %s)" : "%s", option->help, option->standard);
    cnn_help_wrap(h->out, text, HELP_COLUMN, column);
}

/* Shown an option and its group; true ends the visit. */
typedef bool option_visitor(help *h, const cnn_option *option, const char *group, const char *word);

static bool visit_options(help *h, option_visitor *visit, const char *word)
{
    for (int t = 0; t < h->table_count; t++) {
        const char *group = CNN_HELP_FIRST_GROUP;
        for (const cnn_option *option = h->tables[t].options; option->name; option++) {
            group = option->group ? option->group : group;
            if (visit(h, option, group, word))
                return true;
        }
    }
    return false;
}

static bool note_group(help *h, const cnn_option *option, const char *group, const char *word)
{
    (void)option;
    (void)word;
    for (int i = 0; i < h->group_count; i++)
        if (strcmp(h->groups[i], group) == 0)
            return false;
    if (h->group_count < CNN_HELP_GROUPS)
        h->groups[h->group_count++] = group;
    return false;
}

int cnn_help_groups(const cnn_option_table *tables, int table_count, const char *groups[CNN_HELP_GROUPS])
{
    help h = {.tables = tables, .table_count = table_count};
    visit_options(&h, note_group, NULL);
    memcpy(groups, h.groups, sizeof h.groups);
    return h.group_count;
}

static bool print_if_in_group(help *h, const cnn_option *option, const char *group, const char *word)
{
    if (strcmp(group, word) == 0)
        print_option(h, option);
    return false;
}

static bool print_if_basic(help *h, const cnn_option *option, const char *group, const char *word)
{
    (void)group;
    (void)word;
    if (option->basic)
        print_option(h, option);
    return false;
}

static bool print_if_named(help *h, const cnn_option *option, const char *group, const char *word)
{
    (void)group;
    if (strcmp(option->name, word) != 0)
        return false;
    print_option(h, option);
    return true;
}

static void print_group(help *h, const char *group)
{
    print_heading(h, group);
    visit_options(h, print_if_in_group, group);
}

/* ---- The text ---- */

static void print_usage(const help *h)
{
    for (int i = 0; h->tool->usage[i]; i++)
        fprintf(h->out, "%s%s%s %s %s\n", cnn_style_on(h->out, CNN_STYLE_BOLD),
                i == 0 ? "Usage:" : "  or: ", cnn_style_on(h->out, CNN_STYLE_PLAIN), h->tool->name, h->tool->usage[i]);
    fputc('\n', h->out);
    cnn_help_wrap(h->out, h->tool->summary, 0, 0);
}

static void print_examples(const help *h)
{
    print_heading(h, "Examples");
    for (const cnn_example *example = h->tool->examples; example->command; example++) {
        fprintf(h->out, "  %s\n", example->command);
        cnn_help_wrap(h->out, example->what, 3 * INDENT, 0);
    }
}

/* Without what stands in brackets. */
static int heading_length(const char *group)
{
    int length = (int)strcspn(group, "(");
    while (length > 0 && group[length - 1] == ' ')
        length--;
    return length;
}

/* "model, training, mixed precision" */
static void list_groups(const help *h, char text[TEXT_BYTES])
{
    size_t length = 0;
    text[0] = '\0';
    for (int i = 0; i < h->group_count && length < TEXT_BYTES; i++)
        length += (size_t)snprintf(text + length, TEXT_BYTES - length, "%s%.*s", i == 0 ? "" : ", ",
                                   heading_length(h->groups[i]), h->groups[i]);
    for (char *c = text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
}

static void print_short(help *h)
{
    char groups[TEXT_BYTES], more[2 * TEXT_BYTES];
    print_usage(h);
    print_heading(h, "Most used options");
    visit_options(h, print_if_basic, NULL);
    print_examples(h);
    list_groups(h, groups);
    snprintf(more, sizeof more, "%s --help all shows every option, --help GROUP those of one group: %s.", h->tool->name,
             groups);
    fputc('\n', h->out);
    cnn_help_wrap(h->out, more, 0, 0);
}

static void print_all(help *h)
{
    print_usage(h);
    if (h->tool->description) {
        fputc('\n', h->out);
        cnn_help_wrap(h->out, h->tool->description, 0, 0);
    }
    for (int i = 0; i < h->group_count; i++)
        print_group(h, h->groups[i]);
    print_heading(h, "Environment");
    for (const cnn_help_variable *variable = cnn_help_variables; variable->name; variable++)
        fprintf(h->out, "  %-25s  %s\n", variable->name, variable->what);
    print_examples(h);
    fprintf(h->out, "\nExit status: %s\n", cnn_help_exit_status);
}

cnn_status cnn_help_print(FILE *out, const cnn_tool *tool, const cnn_option_table *tables, int table_count,
                          const char *topic)
{
    help h = {.out = out, .tool = tool, .tables = tables, .table_count = table_count};
    char groups[TEXT_BYTES];
    visit_options(&h, note_group, NULL);
    if (!*topic) {
        print_short(&h);
        return CNN_OK;
    }
    if (strcasecmp(topic, "all") == 0) {
        print_all(&h);
        return CNN_OK;
    }
    if (strcasecmp(topic, "man") == 0) {
        cnn_man_print(out, tool, tables, table_count);
        return CNN_OK;
    }
    for (int i = 0; i < h.group_count; i++)
        if (strncasecmp(topic, h.groups[i], strlen(topic)) == 0) {
            print_group(&h, h.groups[i]);
            return CNN_OK;
        }
    const char *option = topic + strspn(topic, "-");
    if (visit_options(&h, print_if_named, option))
        return CNN_OK;
    list_groups(&h, groups);
    return cnn_error(CNN_ERR_USAGE, "there is no help on '%.100s': name an option, 'all' or a group (%s)", topic,
                     groups);
}
