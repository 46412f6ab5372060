/* Messages on standard error, one line each: "cnn-infer: sentence". */
#ifndef CNN_CLI_MESSAGE_H
#define CNN_CLI_MESSAGE_H

#include "cli/cli.h"

/* Always shown. After an error the tool may go on with what is left, but its exit code says that something failed. */
void cnn_message_error(cnn_cli *cli, const char *format, ...) CNN_PRINTF(2, 3);
void cnn_message_warning(cnn_cli *cli, const char *format, ...) CNN_PRINTF(2, 3); /* "cnn-infer: warning: ..." */

/* What a person wants to know, not with --quiet; without the tool's name. */
void cnn_message_notice(cnn_cli *cli, const char *format, ...) CNN_PRINTF(2, 3);

/* Only with --verbose. */
void cnn_message_detail(cnn_cli *cli, const char *format, ...) CNN_PRINTF(2, 3);

#endif
