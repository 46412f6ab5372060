/* The progress bar. */
#include "cli/progress.h"

#include "cli/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Seconds between two drawings, and before the first plain line, when a rate can be told. */
static const double terminal_every_s = 0.1, plain_every_s = 10, plain_first_s = 0.5;

/* Plain output stays silent about work that is about to end. */
static const double plain_worth_s = 1;

enum { BAR_CELLS = 24, FEWEST_CELLS = 4, LINE_BYTES = 256, RATE_BYTES = 64, USUAL_COLUMNS = 80 };

/* As the terminal says, else $COLUMNS. */
static int terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    const char *text = getenv("COLUMNS");
    long columns = text ? strtol(text, NULL, 10) : 0;
    return columns > 0 && columns < LINE_BYTES ? (int)columns : USUAL_COLUMNS;
}

/* "12,400 images/s", "8.1 images/s" and what separates it from the next; nothing without a unit. */
static void format_rate(const cnn_progress *progress, double done, const char *separator, char text[RATE_BYTES])
{
    char count[CNN_UNIT_BYTES];
    double rate = (done - progress->before) / (cnn_clock() - progress->before_s);
    *text = '\0';
    if (progress->unit && rate < 100)
        snprintf(text, RATE_BYTES, "%.1f %s/s%s", rate, progress->unit, separator);
    else if (progress->unit)
        snprintf(text, RATE_BYTES, "%s %s/s%s", cnn_format_count(count, (int64_t)(rate + 0.5)), progress->unit,
                 separator);
}

/* "[######------]  " in at most `room` columns; nothing where too few are left for a bar. */
static void format_cells(double share, int room, char text[LINE_BYTES])
{
    const int frame = 4; /* brackets and two spaces */
    int cells = room - frame < BAR_CELLS ? room - frame : BAR_CELLS;
    int full = (int)(share * cells);
    *text = '\0';
    if (cells < FEWEST_CELLS)
        return;
    memset(text + 1, '-', (size_t)cells);
    memset(text + 1, '#', (size_t)full);
    text[0] = '[';
    snprintf(text + cells + 1, LINE_BYTES - (size_t)cells - 1, "]  ");
}

/* On a narrow terminal the bar shrinks first, then the rate goes; what then does not fit is cut off at the end. */
static void draw_bar(cnn_progress *progress, double share, double left_s)
{
    char cells[LINE_BYTES], rest[LINE_BYTES], rate[RATE_BYTES], left[CNN_UNIT_BYTES];
    int room = terminal_columns() - 1; /* a full line would scroll */
    format_rate(progress, share * progress->total, "  ", rate);
    int length = snprintf(rest, sizeof rest, "%3.0f %%  %s%s left", 100 * share, rate, cnn_format_time(left, left_s));
    if (room < (int)strlen(progress->label) + 2 + length)
        length = snprintf(rest, sizeof rest, "%3.0f %%  %s left", 100 * share, left);
    format_cells(share, room - (int)strlen(progress->label) - 2 - length, cells);
    snprintf(rest + length, sizeof rest - (size_t)length, "%s%s", *progress->note ? "  " : "", progress->note);
    int label = (int)strlen(progress->label) < room ? (int)strlen(progress->label) : room;
    fprintf(stderr, "\r\033[K%.*s", label, progress->label);
    if (room - label > 2)
        fprintf(stderr, "  %s%.*s", cells, room - label - 2 - (int)strlen(cells), rest);
    fflush(stderr);
    progress->cli->bar = true;
}

static void print_plain(cnn_progress *progress, double share, double left_s)
{
    char rate[RATE_BYTES], time[CNN_UNIT_BYTES];
    if (progress->any) {
        format_rate(progress, share * progress->total, ", ", rate);
        fprintf(stderr, "%s: %.0f %%, %s%s left%s%s\n", progress->label, 100 * share, rate,
                cnn_format_time(time, left_s), *progress->note ? ", " : "", progress->note);
    } else {
        format_rate(progress, share * progress->total, "", rate);
        fprintf(stderr, "%s: about %s in all%s%s\n", progress->label,
                cnn_format_time(time, left_s + cnn_clock() - progress->start_s), *rate ? ", " : "", rate);
    }
}

void cnn_progress_begin(cnn_progress *progress, cnn_cli *cli, const char *label, double total, const char *unit)
{
    *progress = (cnn_progress){.cli = cli, .unit = unit, .total = total, .start_s = cnn_clock()};
    progress->before_s = progress->start_s;
    progress->enabled = !cli->common.quiet && total > 0;
    progress->terminal = isatty(STDERR_FILENO);
    progress->shown_s = progress->start_s;
    cnn_progress_label(progress, label);
}

void cnn_progress_skip(cnn_progress *progress, double before)
{
    progress->before = before;
}

void cnn_progress_label(cnn_progress *progress, const char *label)
{
    snprintf(progress->label, sizeof progress->label, "%s", label);
}

static void count_from(cnn_progress *progress, double done, double now)
{
    progress->before = done;
    progress->before_s = now;
    progress->under_way = true;
}

static void show(cnn_progress *progress, double done, double now, const char *note)
{
    const double share = done < progress->total ? done / progress->total : 1;
    const double left_s = (now - progress->before_s) * (1 - share) * progress->total / (done - progress->before);
    if (!progress->terminal && !progress->any && left_s < plain_worth_s)
        return;
    snprintf(progress->note, sizeof progress->note, "%s", note ? note : "");
    progress->shown_s = now;
    if (progress->terminal)
        draw_bar(progress, share, left_s);
    else
        print_plain(progress, share, left_s);
    progress->any = true;
}

void cnn_progress_update(cnn_progress *progress, double done, const char *note)
{
    if (!progress->enabled || done <= progress->before)
        return;
    const double now = cnn_clock();
    if (!progress->under_way && !progress->terminal) { /* no rate yet */
        count_from(progress, done, now);
        return;
    }
    double pause = progress->terminal ? terminal_every_s : progress->any ? plain_every_s : plain_first_s;
    if (now - progress->shown_s >= pause)
        show(progress, done, now, note);
    if (!progress->under_way)
        count_from(progress, done, now);
}

void cnn_progress_end(cnn_progress *progress)
{
    if (progress->cli->bar) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
    progress->cli->bar = false;
}
