/* Colour and weight of text. */
#include "cli/style.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_styles(FILE *out)
{
    const char *no_color = getenv("NO_COLOR"), *terminal = getenv("TERM");
    if (no_color && *no_color)
        return false;
    return terminal && *terminal && strcmp(terminal, "dumb") != 0 && isatty(fileno(out));
}

const char *cnn_style_on(FILE *out, cnn_style style)
{
    static const char *const codes[] = {[CNN_STYLE_PLAIN] = "\033[0m",
                                        [CNN_STYLE_BOLD] = "\033[1m",
                                        [CNN_STYLE_ERROR] = "\033[1;31m",
                                        [CNN_STYLE_WARNING] = "\033[1;33m"};
    return has_styles(out) ? codes[style] : "";
}
