/* --help: a short text with the options that are used most, or more about a topic. */
#ifndef CNN_CLI_HELP_H
#define CNN_CLI_HELP_H

#include "cli/cli.h"

enum { CNN_HELP_GROUPS = 16 /* of a tool's options, at most */ };

/* The heading of options before the first one that names a group. */
#define CNN_HELP_FIRST_GROUP "Options"

/* Headings of the tables in order of first appearance; returns how many. */
int cnn_help_groups(const cnn_option_table *tables, int table_count, const char *groups[CNN_HELP_GROUPS]);

/* What all tools read from the environment; name = NULL after the last. */
typedef struct cnn_help_variable {
    const char *name, *what;
} cnn_help_variable;

extern const cnn_help_variable cnn_help_variables[];
extern const char cnn_help_exit_status[];

/* topic: "" for the short text; "all"; "man", a manual page (cli/man.h); the beginning of a group's heading
 * ("training"); or an option's name. Anything else is CNN_ERR_USAGE with a sentence that lists the groups. */
cnn_status cnn_help_print(FILE *out, const cnn_tool *tool, const cnn_option_table *tables, int table_count,
                          const char *topic);

/* Prints text wrapped at 80 columns, each line indented by `indent` columns; the first one starts at column `at`. */
void cnn_help_wrap(FILE *out, const char *text, int indent, int at);

#endif
