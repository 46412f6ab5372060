/* Messages on standard error. */
#include "cli/message.h"

#include "cli/style.h"

#include <stdarg.h>
#include <stdio.h>

enum { MESSAGE_BYTES = 2048 };

/* Prints one line. Control characters (a file name may hold some) become '?', so that a message stays one line and
 * cannot move the cursor. */
static void print_line(cnn_cli *cli, cnn_style style, const char *prefix, const char *kind, const char *format,
                       va_list args)
{
    char text[MESSAGE_BYTES];
    vsnprintf(text, sizeof text, format, args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    fflush(stdout); /* keeps the two streams in order where both go to one file */
    if (cli->bar)
        fputs("\r\033[K", stderr);
    cli->bar = false;
    fprintf(stderr, "%s%s%s%s%s%s\n", style != CNN_STYLE_PLAIN ? cnn_style_on(stderr, style) : "", prefix,
            *prefix ? ": " : "", kind, style != CNN_STYLE_PLAIN ? cnn_style_on(stderr, CNN_STYLE_PLAIN) : "", text);
}

void cnn_message_error(cnn_cli *cli, const char *format, ...)
{
    va_list args;
    cli->failed = true;
    va_start(args, format);
    print_line(cli, CNN_STYLE_ERROR, cli->tool->name, "", format, args);
    va_end(args);
}

void cnn_message_warning(cnn_cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(cli, CNN_STYLE_WARNING, cli->tool->name, "warning: ", format, args);
    va_end(args);
}

void cnn_message_notice(cnn_cli *cli, const char *format, ...)
{
    va_list args;
    if (cli->common.quiet)
        return;
    va_start(args, format);
    print_line(cli, CNN_STYLE_PLAIN, "", "", format, args);
    va_end(args);
}

void cnn_message_detail(cnn_cli *cli, const char *format, ...)
{
    va_list args;
    if (!cli->common.verbose)
        return;
    va_start(args, format);
    print_line(cli, CNN_STYLE_PLAIN, "", "", format, args);
    va_end(args);
}
