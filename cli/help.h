/* --help: a short text with the options that are used most, or more about a topic. */
#ifndef CNN_CLI_HELP_H
#define CNN_CLI_HELP_H

#include "cli/cli.h"

/* topic: "" for the short text; "all"; the beginning of a group's heading ("training"); or an option's name. Anything
 * else is CNN_ERR_USAGE with a sentence that lists the groups. */
cnn_status cnn_help_print(FILE *out, const cnn_tool *tool, const cnn_option_table *tables, int table_count,
                          const char *topic);

/* Prints text wrapped at 80 columns, each line indented by `indent` columns; the first one starts at column `at`. */
void cnn_help_wrap(FILE *out, const char *text, int indent, int at);

#endif
