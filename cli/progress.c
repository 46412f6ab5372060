/* The progress bar. */
#include "cli/progress.h"

#include "cli/units.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Seconds between two drawings, and before the first plain line, when a rate can be told. */
static const double terminal_every_s = 0.1, plain_every_s = 10, plain_first_s = 0.5;

enum { BAR_CELLS = 24, LINE_BYTES = 256, USUAL_COLUMNS = 80 };

static int terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : USUAL_COLUMNS;
}

/* "12,400 images/s", "8.1 images/s" */
static void format_rate(char *text, size_t bytes, double rate, const char *unit)
{
    char count[CNN_UNIT_BYTES];
    if (rate < 100)
        snprintf(text, bytes, "%.1f %s/s", rate, unit);
    else
        snprintf(text, bytes, "%s %s/s", cnn_format_count(count, (int64_t)(rate + 0.5)), unit);
}

static void draw_bar(cnn_progress *progress, double share, const char *rate, double left_s)
{
    char cells[BAR_CELLS + 1], line[LINE_BYTES], left[CNN_UNIT_BYTES];
    int full = (int)(share * BAR_CELLS);
    for (int i = 0; i < BAR_CELLS; i++)
        cells[i] = i < full ? '#' : '-';
    cells[BAR_CELLS] = '\0';
    snprintf(line, sizeof line, "%s  [%s] %3.0f %%  %s  %s left  %s", progress->label, cells, 100 * share, rate,
             cnn_format_time(left, left_s), progress->note);
    int room = terminal_columns() - 1; /* a full line would scroll */
    fprintf(stderr, "\r\033[K%.*s", room, line);
    fflush(stderr);
    progress->cli->bar = true;
}

static void print_plain(cnn_progress *progress, double share, const char *rate, double left_s)
{
    char left[CNN_UNIT_BYTES];
    cnn_format_time(left, left_s);
    if (progress->any)
        fprintf(stderr, "%s: %.0f %%, %s, %s left%s%s\n", progress->label, 100 * share, rate, left,
                *progress->note ? ", " : "", progress->note);
    else
        fprintf(stderr, "%s: about %s in all, %s\n", progress->label,
                cnn_format_time(left, left_s + cnn_clock() - progress->start_s), rate);
}

void cnn_progress_begin(cnn_progress *progress, cnn_cli *cli, const char *label, double total, const char *unit)
{
    *progress = (cnn_progress){.cli = cli, .unit = unit, .total = total, .start_s = cnn_clock()};
    progress->enabled = !cli->common.quiet && total > 0;
    progress->terminal = isatty(STDERR_FILENO);
    progress->shown_s = progress->start_s;
    cnn_progress_label(progress, label);
}

void cnn_progress_label(cnn_progress *progress, const char *label)
{
    snprintf(progress->label, sizeof progress->label, "%s", label);
}

void cnn_progress_update(cnn_progress *progress, double done, const char *note)
{
    if (!progress->enabled || done <= 0)
        return;
    double now = cnn_clock(), elapsed = now - progress->start_s;
    double pause = progress->terminal ? terminal_every_s : progress->any ? plain_every_s : plain_first_s;
    if (now - progress->shown_s < pause)
        return;
    char rate[64];
    double share = done < progress->total ? done / progress->total : 1;
    double left_s = elapsed * (1 - share) / share;
    snprintf(progress->note, sizeof progress->note, "%s", note ? note : "");
    format_rate(rate, sizeof rate, done / elapsed, progress->unit);
    progress->shown_s = now;
    if (progress->terminal)
        draw_bar(progress, share, rate, left_s);
    else
        print_plain(progress, share, rate, left_s);
    progress->any = true;
}

void cnn_progress_end(cnn_progress *progress)
{
    if (progress->cli->bar) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    progress->cli->bar = false;
}
