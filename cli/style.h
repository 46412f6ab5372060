/* Colour and weight of text, on terminals only: not with NO_COLOR set, not with TERM=dumb. */
#ifndef CNN_CLI_STYLE_H
#define CNN_CLI_STYLE_H

#include <stdio.h>

typedef enum cnn_style { CNN_STYLE_PLAIN, CNN_STYLE_BOLD, CNN_STYLE_ERROR, CNN_STYLE_WARNING } cnn_style;

/* What to print to switch the style on `out`; "" where it has none. CNN_STYLE_PLAIN ends the others. */
const char *cnn_style_on(FILE *out, cnn_style style);

#endif
