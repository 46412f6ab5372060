/* --help man: the manual page of a tool as roff, from the same tables as --help. What installs the tools writes the
 * pages with it, so --help does not name it. */
#ifndef CNN_CLI_MAN_H
#define CNN_CLI_MAN_H

#include "cli/cli.h"

void cnn_man_print(FILE *out, const cnn_tool *tool, const cnn_option_table *tables, int table_count);

#endif
