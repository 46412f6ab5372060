/* Completion of command lines in a shell, from the option tables. */
#ifndef CNN_CLI_COMPLETION_H
#define CNN_CLI_COMPLETION_H

#include "cli/cli.h"

/* Writes the script for bash: `source <(cnn-train --completion bash)`, or a file in share/bash-completion/completions.
 * It completes options, choices, files by their endings, built-in networks, data sets, devices and topics of --help. */
void cnn_completion_print(FILE *out, const cnn_tool *tool, const cnn_option_table *tables, int table_count);

#endif
