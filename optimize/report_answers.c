/* Confusion matrices and pictures. A matrix of many classes would be a wall of zeros: then the pairs that are confused
 * most are listed. */
#include "optimize/report_answers.h"

#include "cli/units.h"
#include "optimize/base64.h"
#include "optimize/html.h"

#include <math.h>

enum { MOST_CLASSES = 24, MOST_PAIRS = 20, LABEL_CHARACTERS = 8 };

/* ---- Matrices ---- */

static int32_t largest_mistake(const opt_facts *facts)
{
    int32_t most = 1;
    for (int32_t i = 0; i < facts->classes * facts->classes; i++) {
        if (i / facts->classes == i % facts->classes)
            continue;
        most = facts->confusion_before[i] > most ? facts->confusion_before[i] : most;
        most = facts->confusion[i] > most ? facts->confusion[i] : most;
    }
    return most;
}

static void write_cell(cnn_text *page, const opt_facts *facts, const int32_t *cells, int32_t row, int32_t column)
{
    const int32_t count = cells[row * facts->classes + column];
    if (row == column)
        cnn_text_append(page, "<td class=\"right\">%d</td>", (int)count);
    else if (count == 0)
        cnn_text_append(page, "<td></td>");
    else
        cnn_text_append(page, "<td class=\"wrong\" style=\"background:rgba(230,120,0,%.2f)\">%d</td>",
                        0.12 + 0.58 * sqrt((double)count / largest_mistake(facts)), (int)count);
}

static void write_matrix(cnn_text *page, const opt_facts *facts, const int32_t *cells, const char *caption)
{
    cnn_text_append(
        page, "<div class=\"scroll\"><table class=\"matrix\">\n<caption class=\"l\">%s</caption>\n<thead><tr><th></th>",
        caption);
    for (int32_t column = 0; column < facts->classes; column++) {
        cnn_text_append(page, "<th>");
        opt_html_short(page, facts->class_names[column], LABEL_CHARACTERS);
        cnn_text_append(page, "</th>");
    }
    cnn_text_append(page, "</tr></thead>\n<tbody>\n");
    for (int32_t row = 0; row < facts->classes; row++) {
        cnn_text_append(page, "<tr><th>");
        opt_html_text(page, facts->class_names[row]);
        cnn_text_append(page, "</th>");
        for (int32_t column = 0; column < facts->classes; column++)
            write_cell(page, facts, cells, row, column);
        cnn_text_append(page, "</tr>\n");
    }
    cnn_text_append(page, "</tbody></table></div>\n");
}

static void write_matrices(cnn_text *page, const opt_facts *facts)
{
    cnn_text_append(
        page, "<h2>What is taken for what</h2>\n<p class=\"note\">Rows: what the held-out images are. Columns: what "
              "was answered. The darker, the more mistakes.</p>\n<div class=\"charts\">\n");
    write_matrix(page, facts, facts->confusion_before, "before");
    write_matrix(page, facts, facts->confusion, "after");
    cnn_text_append(page, "</div>\n");
}

/* ---- Pairs ---- */

static int32_t mistakes(const opt_facts *facts, int32_t cell)
{
    return cell / facts->classes == cell % facts->classes ? 0 : facts->confusion_before[cell] + facts->confusion[cell];
}

/* True when cell `a` is listed before cell `b`. */
static bool goes_first(const opt_facts *facts, int32_t a, int32_t b)
{
    int32_t of_a = mistakes(facts, a), of_b = mistakes(facts, b);
    return of_a != of_b ? of_a > of_b : a < b;
}

/* The cell that is listed behind `last`, -1 at first; -1: none is left. */
static int32_t next_pair(const opt_facts *facts, int32_t last)
{
    int32_t best = -1;
    for (int32_t cell = 0; cell < facts->classes * facts->classes; cell++)
        if (mistakes(facts, cell) > 0 && (last < 0 || goes_first(facts, last, cell)) &&
            (best < 0 || goes_first(facts, cell, best)))
            best = cell;
    return best;
}

static void write_pairs(cnn_text *page, const opt_facts *facts)
{
    int32_t cell = -1;
    cnn_text_append(
        page,
        "<h2>What is taken for what</h2>\n<p class=\"note\">The most frequent mistakes on the held-out images, "
        "up to %d of them.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th class=\"l\">is</th>"
        "<th class=\"l\">taken for</th><th>before</th><th>after</th></tr></thead>\n<tbody>\n",
        MOST_PAIRS);
    for (int i = 0; i < MOST_PAIRS && (cell = next_pair(facts, cell)) >= 0; i++) {
        cnn_text_append(page, "<tr><th class=\"l\">");
        opt_html_text(page, facts->class_names[cell / facts->classes]);
        cnn_text_append(page, "</th><td class=\"l\">");
        opt_html_text(page, facts->class_names[cell % facts->classes]);
        cnn_text_append(page, "</td><td>%d</td><td>%d</td></tr>\n", (int)facts->confusion_before[cell],
                        (int)facts->confusion[cell]);
    }
    cnn_text_append(page, "</tbody></table></div>\n");
}

/* ---- Pictures ---- */

static void write_picture(cnn_text *page, const opt_facts *facts, const opt_picture *picture)
{
    char *const *names = facts->class_names;
    cnn_text_append(page, "<figure>");
    if (picture->png) {
        cnn_text_append(page, "<img alt=\"training image %d\" src=\"data:image/png;base64,", (int)picture->image);
        cnn_base64_append(page, picture->png, picture->png_bytes);
        cnn_text_append(page, "\"/>");
    }
    cnn_text_append(page, "<figcaption>is <b>");
    opt_html_text(page, names[picture->label]);
    cnn_text_append(page, "</b><br/><span class=\"%s\">was ", picture->before == picture->label ? "good" : "bad");
    opt_html_text(page, names[picture->before]);
    cnn_text_append(page, " (%.3f)</span><br/><span class=\"%s\">now ", picture->p_before,
                    picture->after == picture->label ? "good" : "bad");
    opt_html_text(page, names[picture->after]);
    cnn_text_append(page, " (%.3f)</span></figcaption></figure>\n", picture->p_after);
}

/* Those of the pictures whose answers were and are right or not as told. */
static void write_kind(cnn_text *page, const opt_facts *facts, const char *heading, int32_t found, bool was, bool now)
{
    int shown = 0;
    for (int i = 0; i < facts->picture_count; i++)
        shown += (facts->pictures[i].before == facts->pictures[i].label) == was &&
                 (facts->pictures[i].after == facts->pictures[i].label) == now;
    if (found == 0)
        return;
    cnn_text_append(page, "<h3>%s: %d", heading, (int)found);
    if (shown < found)
        cnn_text_append(page, ", of which %d are shown", shown);
    cnn_text_append(page, "</h3>\n<div class=\"pictures\">\n");
    for (int i = 0; i < facts->picture_count; i++) {
        const opt_picture *picture = &facts->pictures[i];
        if ((picture->before == picture->label) == was && (picture->after == picture->label) == now)
            write_picture(page, facts, picture);
    }
    cnn_text_append(page, "</div>\n");
}

static void write_pictures(cnn_text *page, const opt_facts *facts)
{
    char images[CNN_UNIT_BYTES];
    cnn_text_append(page, "<h2>Pictures that are answered otherwise</h2>\n");
    if (facts->picture_count == 0) {
        cnn_text_append(page, "<p>None of the %s held-out images.</p>\n", cnn_format_count(images, facts->images));
        return;
    }
    cnn_text_append(
        page,
        "<p class=\"note\">Of %s held-out images, the surest new answers first. In brackets the probability "
        "that each model gives to its answer.</p>\n",
        cnn_format_count(images, facts->images));
    write_kind(page, facts, "Right before, wrong now", facts->broken, true, false);
    write_kind(page, facts, "Wrong before, right now", facts->mended, false, true);
    write_kind(page, facts, "Wrong before, and wrong otherwise now", facts->other, false, false);
}

void opt_report_answers(cnn_text *page, const opt_facts *facts)
{
    if (facts->images == 0)
        return;
    (facts->classes <= MOST_CLASSES ? write_matrices : write_pairs)(page, facts);
    write_pictures(page, facts);
}
