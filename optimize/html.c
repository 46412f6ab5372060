/* Text and style of pages. Colours are those of Okabe and Ito, which people who do not see all colours can tell apart;
 * dark ones are lighter. Pages are printed in the light ones. */
#include "optimize/html.h"

#include "core/utf8.h"

#include <stdio.h>
#include <string.h>

static const char *const style[] = {
    /* colours and text */
    ":root{color-scheme:light;--page:#fff;--ink:#1b1f24;--muted:#59626d;--line:#d9dee4;--soft:#f4f6f8;"
    "--before:#98a1ab;--after:#0072b2;--second:#d98200;--third:#a3358b;--bad:#c24e00;--good:#007d5b;--shade:#0003}\n"
    "@media screen and (prefers-color-scheme:dark){:root{color-scheme:dark;--page:#15181c;--ink:#e4e8ec;"
    "--muted:#a0a9b4;--line:#323941;--soft:#1d2126;--before:#7c8691;--after:#56b4e9;--second:#f0ad2d;"
    "--third:#e18bcc;--bad:#ff8f52;--good:#39c99a;--shade:#000c}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:68rem;padding:1.5rem 1.25rem 3rem;background:var(--page);color:var(--ink);"
    "font:1rem/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;overflow-wrap:anywhere}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0 .6rem;text-wrap:balance}\n"
    "h2{font-size:1.2rem;margin:2.6rem 0 .3rem}\n"
    "h3{font-size:1rem;margin:1.4rem 0 .5rem}\n"
    "p{margin:.3rem 0 .8rem;max-width:46rem}\n"
    ".note,figcaption,caption{color:var(--muted);font-size:.875rem}\n"
    "code{font:.875rem/1.5 ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace}\n"
    ".command{background:var(--soft);border-radius:.4rem;padding:.5rem .75rem;max-width:none}\n",
    /* cards, tables */
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.75rem;margin:1.2rem 0}\n"
    ".card{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}\n"
    ".card span{display:block;color:var(--muted);font-size:.875rem}\n"
    ".card b{display:block;font-size:1.5rem;line-height:1.35;font-weight:600;font-variant-numeric:tabular-nums}\n"
    ".scroll{overflow-x:auto;margin:.6rem 0 1.2rem;background:" /* shaded where there is more to scroll to */
    "linear-gradient(90deg,var(--page) 40%,transparent) left/2.5rem 100% no-repeat local,"
    "linear-gradient(270deg,var(--page) 40%,transparent) right/2.5rem 100% no-repeat local,"
    "linear-gradient(90deg,var(--shade),transparent) left/.6rem 100% no-repeat scroll,"
    "linear-gradient(270deg,var(--shade),transparent) right/.6rem 100% no-repeat scroll}\n"
    "table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}\n"
    "th,td{padding:.3rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}\n"
    "th{font-weight:600;color:var(--muted);vertical-align:bottom}\n"
    "tbody th{color:var(--ink)}\n"
    "th:first-child,td:first-child{padding-left:0}\n"
    ".l{text-align:left}\n"
    "tr.last td,tr.last th{font-weight:600}\n"
    ".old{color:var(--muted)}\n",
    /* charts, pictures */
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.25rem 2rem;"
    "margin:.8rem 0}\n"
    ".charts>*{min-width:0}\n"
    ".small{display:grid;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr));gap:1rem 1.25rem;margin:.8rem 0}\n"
    "figure{margin:0}\n"
    "figcaption{margin-bottom:.3rem}\n"
    "figcaption b{color:var(--ink)}\n"
    "svg{display:block;width:100%;height:auto;max-width:29rem}\n"
    "svg text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;fill:var(--muted);"
    "font-variant-numeric:tabular-nums}\n"
    "svg .name{fill:var(--ink)}\n"
    "svg .tag{fill:var(--ink);stroke:var(--page);stroke-width:4px;paint-order:stroke}\n"
    "svg .grid{stroke:var(--line);stroke-width:1}\n"
    "svg .mark{stroke:var(--muted);stroke-width:1;stroke-dasharray:3 3;fill:none}\n"
    ".f-before{fill:var(--before)}.f-after{fill:var(--after)}.f-second{fill:var(--second)}"
    ".f-third{fill:var(--third)}.f-page{fill:var(--page);stroke:var(--after);stroke-width:1.5}\n"
    ".s-after{fill:none;stroke:var(--after);stroke-width:1.5}\n"
    ".f-shade{fill:var(--before);fill-opacity:.55}\n"
    ".key{display:inline-block;width:.9rem;height:.9rem;vertical-align:-.1rem;margin:0 .35rem 0 0}\n"
    ".item{display:inline-block;margin-right:1rem}\n"
    ".matrix td,.matrix th{padding:.15rem .05rem;min-width:1.85rem;text-align:center;border:0}\n"
    ".matrix tbody th{text-align:right;padding-right:.5rem}\n"
    ".matrix .right{color:var(--muted)}\n"
    ".matrix .wrong{font-weight:600}\n"
    ".pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(6.3rem,1fr));gap:1rem .75rem;margin:.6rem 0 "
    "1.2rem}\n"
    ".pictures img{display:block;width:84px;height:84px;object-fit:contain;image-rendering:pixelated;"
    "border:1px solid var(--line);background:#000;margin-bottom:.25rem}\n"
    ".pictures figcaption{line-height:1.35}\n"
    ".bad{color:var(--bad)}.good{color:var(--good)}\n"
    "footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:.8rem}\n"
    "@media print{body{max-width:none;padding:0;font-size:10pt}h2{break-after:avoid}"
    ".note{break-after:avoid}figure,tr,.card{break-inside:avoid}.scroll{overflow:visible}table{font-size:8pt}}\n"};

void opt_html_begin(cnn_text *page, const char *title)
{
    cnn_text_append(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                          "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
    opt_html_text(page, title);
    cnn_text_append(page, "</title>\n<style>\n");
    for (size_t i = 0; i < sizeof style / sizeof style[0]; i++)
        cnn_text_append(page, "%s", style[i]);
    cnn_text_append(page, "</style>\n</head>\n<body>\n");
}

void opt_html_end(cnn_text *page)
{
    cnn_text_append(page, "</body>\n</html>\n");
}

/* Bytes of a character, 1 for a byte that begins none. */
static int step(const char *c)
{
    int bytes = cnn_utf8_bytes(c);
    return bytes > 0 ? bytes : 1;
}

static void put_character(cnn_text *page, const char *c)
{
    int bytes = cnn_utf8_bytes(c);
    if (bytes == 0 || cnn_utf8_is_control(c) || strncmp(c, "\xEF\xBF\xBE", 3) == 0 ||
        strncmp(c, "\xEF\xBF\xBF", 3) == 0) /* U+FFFE and U+FFFF are no characters in XML */
        cnn_text_append(page, "\xEF\xBF\xBD");
    else if (*c == '&')
        cnn_text_append(page, "&amp;");
    else if (*c == '<')
        cnn_text_append(page, "&lt;");
    else if (*c == '>')
        cnn_text_append(page, "&gt;");
    else if (*c == '"')
        cnn_text_append(page, "&quot;");
    else
        cnn_text_append(page, "%.*s", bytes, c);
}

void opt_html_text(cnn_text *page, const char *text)
{
    for (; *text; text += step(text))
        put_character(page, text);
}

void opt_html_short(cnn_text *page, const char *text, int most)
{
    int characters = 0, number = 0;
    for (const char *c = text; *c; c += step(c))
        characters++;
    const int front = most / 2 + 1, back = characters - (most - 1 - front); /* ends differ less */
    for (; *text; number++) {
        if (characters > most && number == front)
            cnn_text_append(page, "\xE2\x80\xA6");
        if (characters <= most || number < front || number >= back)
            put_character(page, text);
        text += step(text);
    }
}

char *opt_format_factor(char text[OPT_FACTOR_BYTES], double before, double after, const char *less, const char *more)
{
    double factor = before / after;
    if (factor >= 1)
        snprintf(text, OPT_FACTOR_BYTES, "%.*f times %s", factor < 10 ? 1 : 0, factor, less);
    else
        snprintf(text, OPT_FACTOR_BYTES, "%.1f times %s", 1 / factor, more);
    return text;
}
