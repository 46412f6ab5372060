/* Charts. Each is a drawing of WIDTH units across that takes the width it is given; text is 12 units high. Numbers are
 * written with one decimal, so that the same facts give the same bytes. */
#include "optimize/charts.h"

#include "cli/units.h"
#include "optimize/html.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

enum { WIDTH = 420, NAME_WIDTH = 104, NAME_CHARACTERS = 13 };

static void begin(cnn_text *page, int width, int height, const char *label)
{
    cnn_text_append(page, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width, height);
    opt_html_text(page, label);
    cnn_text_append(page, "\">\n");
}

static void end(cnn_text *page)
{
    cnn_text_append(page, "</svg>\n");
}

static void line(cnn_text *page, const char *class, double x1, double y1, double x2, double y2)
{
    cnn_text_append(page, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class, x1, y1, x2,
                    y2);
}

static void rectangle(cnn_text *page, const char *class, double x, double y, double width, double height)
{
    cnn_text_append(page, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", class, x, y,
                    width, height);
}

/* anchor: "start", "middle", "end" */
static void write(cnn_text *page, double x, double y, const char *anchor, const char *text)
{
    cnn_text_append(page, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    opt_html_text(page, text);
    cnn_text_append(page, "</text>\n");
}

/* The name of a layer, right-aligned before the plot, in full for who points at it. */
static void write_name(cnn_text *page, double y, const char *name)
{
    cnn_text_append(page, "<text class=\"name\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", NAME_WIDTH - 8, y);
    opt_html_short(page, name, NAME_CHARACTERS);
    cnn_text_append(page, "<title>");
    opt_html_text(page, name);
    cnn_text_append(page, "</title></text>\n");
}

/* ---- Axes ---- */

/* A stretch of numbers on a stretch of the drawing. */
typedef struct axis {
    double low, high; /* logarithms when log is set */
    double from, to;
    bool log;
} axis;

static double place(const axis *a, double value)
{
    double at = a->log ? log10(value) : value;
    return a->from + (at - a->low) / (a->high - a->low) * (a->to - a->from);
}

/* A step of 1, 2 or 5 times a power of ten with at most `most` of it in the range. */
static double nice_step(double range, int most)
{
    double power = pow(10, floor(log10(range / most))), share = range / most / power;
    return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

/* ---- Accuracy against cost ---- */

enum { FRONT_HEIGHT = 300, FRONT_LEFT = 64, FRONT_RIGHT = 26, FRONT_TOP = 18, FRONT_BOTTOM = 46 };

static double cost_of(const opt_point *point, bool time)
{
    return time ? point->ms_per_image : (double)point->file_bytes;
}

static axis cost_axis(const opt_facts *facts, bool time)
{
    axis x = {.from = FRONT_LEFT, .to = WIDTH - FRONT_RIGHT, .log = true, .low = HUGE_VAL, .high = -HUGE_VAL};
    for (int i = 0; i < facts->point_count; i++) {
        double at = log10(cost_of(&facts->points[i], time));
        x.low = fmin(x.low, at);
        x.high = fmax(x.high, at);
    }
    double margin = fmax(0.08 * (x.high - x.low), 0.05);
    x.low -= margin;
    x.high += margin;
    return x;
}

static axis accuracy_axis(const opt_facts *facts)
{
    axis y = {.from = FRONT_HEIGHT - FRONT_BOTTOM, .to = FRONT_TOP, .low = HUGE_VAL, .high = -HUGE_VAL};
    for (int i = 0; i < facts->point_count; i++) {
        y.low = fmin(y.low, 100 * facts->points[i].accuracy);
        y.high = fmax(y.high, 100 * facts->points[i].accuracy);
    }
    double margin = fmax(0.08 * (y.high - y.low), 0.1);
    y.low -= margin;
    y.high += margin;
    return y;
}

/* "50 kB" */
static void format_cost(char text[CNN_UNIT_BYTES], double value, bool time)
{
    static const char *const units[] = {"bytes", "kB", "MB", "GB"};
    int unit = value < 1e3 ? 0 : value < 1e6 ? 1 : value < 1e9 ? 2 : 3;
    if (time)
        snprintf(text, CNN_UNIT_BYTES, "%g", value);
    else
        snprintf(text, CNN_UNIT_BYTES, "%g %s", value / pow(1000, unit), units[unit]);
}

/* Powers of ten, and between them what there is room for. */
static void draw_cost_ticks(cnn_text *page, const axis *x, bool time)
{
    static const double heads[] = {1, 1.5, 2, 3, 5, 7};
    static const double most_decades[] = {99, 0.8, 1.8, 0.8, 1.8, 0.8}; /* with which a head has room */
    char text[CNN_UNIT_BYTES];
    const double decades = x->high - x->low;
    for (int power = (int)floor(x->low); power <= (int)ceil(x->high); power++)
        for (int h = 0; h < 6; h++) {
            const double value = heads[h] * pow(10, power);
            const bool third = h == 3 && decades > 1.8 && decades < 3.5;
            if (log10(value) < x->low || log10(value) > x->high || (decades > most_decades[h] && !third))
                continue;
            format_cost(text, value, time);
            line(page, "grid", place(x, value), FRONT_TOP, place(x, value), FRONT_HEIGHT - FRONT_BOTTOM);
            write(page, place(x, value), FRONT_HEIGHT - FRONT_BOTTOM + 17, "middle", text);
        }
}

static void draw_accuracy_ticks(cnn_text *page, const axis *y)
{
    char text[CNN_UNIT_BYTES];
    const double step = nice_step(y->high - y->low, 5);
    const int decimals = step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
    for (double value = ceil(y->low / step) * step; value <= y->high && value <= 100 + step / 2; value += step) {
        line(page, "grid", FRONT_LEFT, place(y, value), WIDTH - FRONT_RIGHT, place(y, value));
        snprintf(text, sizeof text, "%.*f %%", decimals, value);
        write(page, FRONT_LEFT - 8, place(y, value) + 4, "end", text);
    }
}

enum { MOST_NUMBERS = 64 };

/* How many points and numbers stand where a number would, at (x,y). */
static int count_near(double (*points)[2], int point_count, double (*numbers)[2], int number_count, double x, double y)
{
    enum { NEAR_X = 12, NEAR_Y = 11, MIDDLE = 4 /* of a number above its foot */ };
    int near = 0;
    for (int i = 0; i < point_count; i++)
        near += fabs(points[i][0] - x) < NEAR_X && fabs(points[i][1] - (y - MIDDLE)) < NEAR_Y - 1;
    for (int i = 0; i < number_count; i++)
        near += fabs(numbers[i][0] - x) < NEAR_X && fabs(numbers[i][1] - y) < NEAR_Y;
    return near;
}

/* A number stands above, below, left or right of its point, where least else is. */
static void draw_numbers(cnn_text *page, const opt_facts *facts, const axis *x, const axis *y, bool time)
{
    static const double sides[][2] = {{0, -9}, {0, 19}, {-13, 4}, {13, 4}};
    double points[MOST_NUMBERS][2], numbers[MOST_NUMBERS][2];
    const int count = facts->point_count < MOST_NUMBERS ? facts->point_count : MOST_NUMBERS;
    for (int i = 0; i < count; i++) {
        points[i][0] = place(x, cost_of(&facts->points[i], time));
        points[i][1] = place(y, 100 * facts->points[i].accuracy);
    }
    for (int i = 0; i < count; i++) {
        int least = INT_MAX;
        for (int side = 0; side < 4; side++) {
            const double at_x = points[i][0] + sides[side][0], at_y = points[i][1] + sides[side][1];
            const int near = count_near(points, count, numbers, i, at_x, at_y);
            if (near >= least)
                continue;
            least = near;
            numbers[i][0] = at_x;
            numbers[i][1] = at_y;
        }
        cnn_text_append(page, "<text class=\"tag\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                        numbers[i][0], numbers[i][1], facts->points[i].label);
    }
}

/* Whether no point costs as little and is as right, or better in one of them. */
static bool is_best(const opt_facts *facts, int number, bool time)
{
    const opt_point *point = &facts->points[number];
    for (int i = 0; i < facts->point_count; i++) {
        const opt_point *other = &facts->points[i];
        if (cost_of(other, time) <= cost_of(point, time) && other->accuracy >= point->accuracy &&
            (cost_of(other, time) < cost_of(point, time) || other->accuracy > point->accuracy))
            return false;
    }
    return true;
}

/* The best point that costs least of those that cost more than `last`; -1: none. */
static int next_best(const opt_facts *facts, double last, bool time)
{
    int next = -1;
    for (int i = 0; i < facts->point_count; i++) {
        const double cost = cost_of(&facts->points[i], time);
        if (cost > last && is_best(facts, i, time) && (next < 0 || cost < cost_of(&facts->points[next], time)))
            next = i;
    }
    return next;
}

static void draw_corner(cnn_text *page, const opt_point *point, const axis *x, const axis *y, bool time)
{
    cnn_text_append(page, " %.1f,%.1f", place(x, cost_of(point, time)), place(y, 100 * point->accuracy));
}

/* Through passes in their order; through the points of a search that no other one beats. */
static void draw_way(cnn_text *page, const opt_facts *facts, const axis *x, const axis *y, bool time, bool search)
{
    cnn_text_append(page, "<polyline class=\"mark\" points=\"");
    for (int i = 0; !search && i < facts->point_count; i++)
        draw_corner(page, &facts->points[i], x, y, time);
    for (int i = search ? next_best(facts, 0, time) : -1; i >= 0;
         i = next_best(facts, cost_of(&facts->points[i], time), time))
        draw_corner(page, &facts->points[i], x, y, time);
    cnn_text_append(page, "\"/>\n");
}

void opt_chart_front(cnn_text *page, const opt_facts *facts, bool time, bool search)
{
    const axis x = cost_axis(facts, time), y = accuracy_axis(facts);
    begin(page, WIDTH, FRONT_HEIGHT, time ? "accuracy against time of an image" : "accuracy against size of the file");
    draw_cost_ticks(page, &x, time);
    draw_accuracy_ticks(page, &y);
    write(page, (FRONT_LEFT + WIDTH - FRONT_RIGHT) / 2.0, FRONT_HEIGHT - 8, "middle",
          time ? "ms per image, alone (logarithmic)" : "size of the file (logarithmic)");
    draw_way(page, facts, &x, &y, time, search);
    for (int i = 0; i < facts->point_count; i++) {
        const opt_point *point = &facts->points[i];
        cnn_text_append(page, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"><title>",
                        point->chosen ? "f-after"
                        : i == 0      ? "f-before"
                                      : "f-page",
                        place(&x, cost_of(point, time)), place(&y, 100 * point->accuracy));
        opt_html_text(page, point->name);
        cnn_text_append(page, "</title></circle>\n");
    }
    draw_numbers(page, facts, &x, &y, time);
    end(page);
}

/* ---- Bars ---- */

static void format_bar(char text[CNN_UNIT_BYTES], double value, bool bytes)
{
    if (bytes)
        cnn_format_bytes(text, (int64_t)value);
    else
        cnn_format_count(text, (int64_t)value);
}

void opt_chart_bars(cnn_text *page, const opt_bar *bars, int count, const char *what, bool bytes)
{
    enum { ROW = 36, BAR = 12, LABEL = 84 };
    double largest = 1;
    char text[CNN_UNIT_BYTES];
    for (int i = 0; i < count; i++)
        largest = fmax(largest, fmax(bars[i].before, bars[i].after));
    const double scale = (WIDTH - NAME_WIDTH - LABEL) / largest;
    begin(page, WIDTH, count * ROW, what);
    for (int i = 0; i < count; i++) {
        const double top = i * ROW + 5.0, values[] = {bars[i].before, bars[i].after};
        write_name(page, top + BAR + 4, bars[i].name);
        for (int b = 0; b < 2; b++) {
            const double width = fmax(1, values[b] * scale), y = top + b * (BAR + 1);
            rectangle(page, b ? "f-after" : "f-before", NAME_WIDTH, y, width, BAR);
            format_bar(text, values[b], bytes);
            cnn_text_append(page, "<text%s x=\"%.1f\" y=\"%.1f\">%s</text>\n", b ? " class=\"name\"" : "",
                            NAME_WIDTH + width + 5, y + BAR - 2, text);
        }
    }
    end(page);
}

/* ---- Sensitivity ---- */

/* A circle, a square, a triangle: shapes that differ without colour. */
static void draw_mark(cnn_text *page, int trial, double x, double y)
{
    if (trial == 0)
        cnn_text_append(page, "<circle class=\"f-after\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>\n", x, y);
    else if (trial == 1)
        rectangle(page, "f-second", x - 4.5, y - 4.5, 9, 9);
    else
        cnn_text_append(page, "<polygon class=\"f-third\" points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f\"/>\n", x, y - 6,
                        x + 6, y + 5, x - 6, y + 5);
}

void opt_chart_key(cnn_text *page, int trial)
{
    cnn_text_append(page, "<svg class=\"key\" viewBox=\"0 0 14 14\" aria-hidden=\"true\">");
    draw_mark(page, trial, 7, 7);
    cnn_text_append(page, "</svg>");
}

static axis error_axis(const opt_account *account)
{
    axis x = {.from = NAME_WIDTH + 8, .to = WIDTH - 24, .log = true, .low = HUGE_VAL, .high = 0};
    for (int i = 0; i < account->layer_count; i++)
        for (int t = 0; t < account->facts->trial_count; t++) {
            const cnn_effect *effect = &account->facts->layers[i].effect[t];
            if (!effect->applies || !(effect->logit_error > 0) || !isfinite(effect->logit_error))
                continue;
            x.low = fmin(x.low, floor(log10(effect->logit_error)));
            x.high = fmax(x.high, ceil(log10(effect->logit_error)));
        }
    x.low = fmax(fmin(x.low, x.high - 1), -6);
    return x;
}

void opt_chart_sensitivity(cnn_text *page, const opt_account *account)
{
    enum { ROW = 26, TOP = 6, BOTTOM = 42 };
    const opt_facts *facts = account->facts;
    const axis x = error_axis(account);
    const double foot = TOP + account->layer_count * ROW;
    char text[CNN_UNIT_BYTES];
    begin(page, WIDTH, (int)foot + BOTTOM, "error of the scores when one layer is changed");
    for (int power = (int)x.low; power <= (int)x.high; power++) {
        double at = place(&x, pow(10, power));
        line(page, "grid", at, TOP, at, foot);
        snprintf(text, sizeof text, "%g %%", 100 * pow(10, power));
        write(page, at, foot + 17, "middle", text);
    }
    write(page, (x.from + x.to) / 2, foot + 36, "middle", "change of the scores (logarithmic)");
    for (int i = 0; i < account->layer_count; i++) {
        const double y = TOP + (i + 0.5) * ROW;
        write_name(page, y + 4, account->layers[i].name);
        line(page, "grid", x.from, y, x.to, y);
        for (int t = 0; t < facts->trial_count; t++) {
            const cnn_effect *effect = &facts->layers[i].effect[t];
            if (effect->applies && isfinite(effect->logit_error)) /* none at all stands at the left end */
                draw_mark(page, t, place(&x, fmax(effect->logit_error, pow(10, x.low))), y);
        }
    }
    end(page);
}

/* ---- Signal to noise ---- */

void opt_chart_sqnr(cnn_text *page, const opt_account *account)
{
    enum { ROW = 24, BAR = 12, TOP = 4, BOTTOM = 40, FAIR_DB = 20 };
    const double foot = TOP + account->layer_count * ROW;
    char text[CNN_UNIT_BYTES];
    axis x = {.from = NAME_WIDTH, .to = WIDTH - 60, .low = 0, .high = 30};
    for (int i = 0; i < account->layer_count; i++)
        if (isfinite(account->layers[i].int8.sqnr_db))
            x.high = fmax(x.high, 10 * ceil(account->layers[i].int8.sqnr_db / 10));
    begin(page, WIDTH, (int)foot + BOTTOM, "signal to noise of INT8 by layer");
    for (int db = 0; db <= (int)x.high; db += 10) {
        line(page, db == FAIR_DB ? "mark" : "grid", place(&x, db), TOP, place(&x, db), foot);
        snprintf(text, sizeof text, "%d", db);
        write(page, place(&x, db), foot + 16, "middle", text);
    }
    write(page, (x.from + x.to) / 2, foot + 34, "middle", "dB; below the dashed line INT8 is coarse");
    for (int i = 0; i < account->layer_count; i++) {
        const cnn_quantize_row *row = &account->layers[i].int8;
        const double y = TOP + i * ROW + (ROW - BAR) / 2.0;
        const double db = row->dead ? 0 : fmax(0, fmin(row->sqnr_db, x.high));
        write_name(page, y + BAR - 2, account->layers[i].name);
        rectangle(page, row->dead || row->sqnr_db < FAIR_DB ? "f-second" : "f-after", x.from, y,
                  fmax(1, place(&x, db) - x.from), BAR);
        snprintf(text, sizeof text, "%.1f", row->sqnr_db);
        write(page, fmax(x.from + 1, place(&x, db)) + 5, y + BAR - 2, "start",
              row->dead             ? "dead"
              : isinf(row->sqnr_db) ? "exact"
                                    : text);
    }
    end(page);
}

/* ---- Weights ---- */

enum { HISTOGRAM_WIDTH = 220, HISTOGRAM_HEIGHT = 92, HISTOGRAM_FOOT = 20 };

static double bin_share(const cnn_histogram *histogram, int b)
{
    int64_t all = 0;
    for (int i = 0; i < CNN_HISTOGRAM_BINS; i++)
        all += histogram->bin[i];
    return all > 0 ? (double)histogram->bin[b] / (double)all : 0;
}

static void draw_steps(cnn_text *page, const char *class, const cnn_histogram *histogram, double largest, bool closed)
{
    const double step = (double)HISTOGRAM_WIDTH / CNN_HISTOGRAM_BINS;
    cnn_text_append(page, "<path class=\"%s\" d=\"M0,%d", class, HISTOGRAM_HEIGHT);
    for (int b = 0; b < CNN_HISTOGRAM_BINS; b++)
        cnn_text_append(page, "V%.1fH%.1f",
                        HISTOGRAM_HEIGHT - bin_share(histogram, b) / largest * (HISTOGRAM_HEIGHT - 4), (b + 1) * step);
    cnn_text_append(page, "V%d%s\"/>\n", HISTOGRAM_HEIGHT, closed ? "Z" : "");
}

void opt_chart_histogram(cnn_text *page, const opt_layer_facts *layer, const char *name)
{
    double largest = 0;
    char text[CNN_UNIT_BYTES];
    for (int b = 0; b < CNN_HISTOGRAM_BINS; b++)
        largest = fmax(largest, fmax(bin_share(&layer->before, b), bin_share(&layer->after, b)));
    begin(page, HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT + HISTOGRAM_FOOT, name);
    if (largest > 0) {
        draw_steps(page, "f-shade", &layer->before, largest, true);
        draw_steps(page, "s-after", &layer->after, largest, false);
    }
    line(page, "grid", 0, HISTOGRAM_HEIGHT, HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT);
    snprintf(text, sizeof text, "\xE2\x88\x92%.2g", layer->before.limit);
    write(page, 0, HISTOGRAM_HEIGHT + 15, "start", text);
    write(page, HISTOGRAM_WIDTH / 2.0, HISTOGRAM_HEIGHT + 15, "middle", "0");
    write(page, HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT + 15, "end", text + 3);
    end(page);
}
