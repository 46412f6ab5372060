/* Guesses at what was meant by a wrong word on the command line, for the sentence that refuses it. */
#ifndef CNN_CLI_HINTS_H
#define CNN_CLI_HINTS_H

#include "cli/options.h"

enum { CNN_HINT_BYTES = 160 };

/* About a value that is refused: " (for 50 % write 0.5)"; "" when there is nothing to say. Returns text. */
const char *cnn_hint_value(const cnn_option *option, const char *value, char text[CNN_HINT_BYTES]);

/* About a word that stands alone: "--amp=fp16", "--model lenet5", "--data mnist"; "" when it is no option's value.
 * Returns text. */
const char *cnn_hint_operand(const cnn_option_table *tables, int table_count, const char *word,
                             char text[CNN_HINT_BYTES]);

/* The first option whose description holds `name`, which is no option itself: --lr for "learning-rate"; NULL: none
 * does. */
const cnn_option *cnn_hint_option(const cnn_option *const *options, int count, const char *name);

#endif
