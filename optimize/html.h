/* Pieces of a page that stands alone: text, numbers, style. What is written is well-formed XML as well. */
#ifndef CNN_OPTIMIZE_HTML_H
#define CNN_OPTIMIZE_HTML_H

#include "core/memory.h"

/* The page up to <body>: title (escaped here), style, no script. */
void opt_html_begin(cnn_text *page, const char *title);
void opt_html_end(cnn_text *page);

/* Text from anywhere, inside an element or an attribute in double quotes. What XML cannot hold, bytes that are not
 * UTF-8 and control characters, becomes U+FFFD. */
void opt_html_text(cnn_text *page, const char *text);

/* The same in at most `most` characters, with an ellipsis in the middle in place of what is left out. */
void opt_html_short(cnn_text *page, const char *text, int most);

/* "4.7 times smaller", or "1.2 times larger" when after is the larger one. */
enum { OPT_FACTOR_BYTES = 48 };
char *opt_format_factor(char text[OPT_FACTOR_BYTES], double before, double after, const char *less, const char *more);

#endif
