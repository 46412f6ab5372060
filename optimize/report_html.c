/* A report as one page that stands alone: no script, nothing that is fetched. Whatever differs from run to run lies in
 * elements of class "timing". */
#include "optimize/facts.h"

#include "cli/units.h"
#include "optimize/charts.h"
#include "optimize/html.h"
#include "optimize/report_answers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct writer {
    cnn_text *page;
    const opt_settings *settings;
    const opt_account *account;
    const opt_facts *facts;
    const cnn_measurement *before, *after;
} writer;

static const char dash[] = "\xE2\x80\x93"; /* for a figure that there is not */
static const char arrow[] = " \xE2\x86\x92 ";

/* ---- Above everything ---- */

static void write_headline(const writer *w)
{
    char factor[OPT_FACTOR_BYTES], images[CNN_UNIT_BYTES];
    cnn_text *page = w->page;
    cnn_text_append(page, "<header>\n<p class=\"note\">What cnn-opt did to ");
    opt_html_text(page, w->settings->input);
    cnn_text_append(page, "</p>\n<h1>");
    opt_html_text(page, w->settings->output);
    cnn_text_append(
        page, " is %s",
        opt_format_factor(factor, (double)w->before->file_bytes, (double)w->after->file_bytes, "smaller", "larger"));
    cnn_text_append(page, "<span class=\"timing\"> and %s</span>",
                    opt_format_factor(factor, w->before->ms_per_image, w->after->ms_per_image, "faster", "slower"));
    if (w->facts->images > 0)
        cnn_text_append(page, ", and right in %.2f\xC2\xA0%% of %s held-out images: %+.2f points",
                        100 * w->after->accuracy, cnn_format_count(images, w->facts->images),
                        100 * (w->after->accuracy - w->before->accuracy));
    cnn_text_append(page, "</h1>\n</header>\n");
}

/* before: may be NULL. note: what it was before, and by what factor it changed. */
static void write_card(cnn_text *page, const char *what, const char *value, const char *note, bool timing)
{
    cnn_text_append(page, "<div class=\"card%s\"><span>%s</span><b>%s</b><span>%s</span></div>\n",
                    timing ? " timing" : "", what, value, note);
}

static void write_cards(const writer *w)
{
    char value[64], note[160], old[CNN_UNIT_BYTES], factor[OPT_FACTOR_BYTES];
    const cnn_measurement *before = w->before, *after = w->after;
    cnn_text_append(w->page, "<div class=\"cards\">\n");
    if (w->facts->images > 0) {
        snprintf(value, sizeof value, "%.2f %%", 100 * after->accuracy);
        snprintf(note, sizeof note, "was %.2f %%; %+.2f points", 100 * before->accuracy,
                 100 * (after->accuracy - before->accuracy));
        write_card(w->page, "Accuracy", value, note, false);
    }
    snprintf(note, sizeof note, "was %s; %s", cnn_format_bytes(old, before->file_bytes),
             opt_format_factor(factor, (double)before->file_bytes, (double)after->file_bytes, "smaller", "larger"));
    if (after->file_bytes == before->file_bytes)
        snprintf(note, sizeof note, "as before");
    write_card(w->page, "File", cnn_format_bytes(value, after->file_bytes), note, false);
    snprintf(note, sizeof note, "was %s; %s", cnn_format_count(old, before->macs),
             opt_format_factor(factor, (double)before->macs, (double)after->macs, "fewer", "more"));
    if (after->macs == before->macs)
        snprintf(note, sizeof note, "as before");
    write_card(w->page, "Multiply-accumulates", cnn_format_count(value, after->macs), note, false);
    snprintf(value, sizeof value, "%.3g ms", after->ms_per_image);
    snprintf(note, sizeof note, "was %.3g ms; %s", before->ms_per_image,
             opt_format_factor(factor, before->ms_per_image, after->ms_per_image, "faster", "slower"));
    write_card(w->page, "One image", value, note, true);
    cnn_text_append(w->page, "</div>\n");
}

static void write_words(const writer *w)
{
    cnn_text_append(w->page, "<p>");
    opt_html_text(w->page, w->facts->explanation.data);
    cnn_text_append(w->page, "</p>\n<p class=\"command\"><code>");
    opt_html_text(w->page, w->facts->command);
    cnn_text_append(w->page, "</code></p>\n");
}

/* ---- Passes ---- */

static void write_accuracy(cnn_text *page, double accuracy)
{
    if (isnan(accuracy))
        cnn_text_append(page, "<td>%s</td>", dash);
    else
        cnn_text_append(page, "<td>%.2f %%</td>", 100 * accuracy);
}

static void write_passes(const writer *w)
{
    char text[CNN_UNIT_BYTES];
    cnn_text *page = w->page;
    cnn_text_append(
        page,
        "<h2>Passes</h2>\n<p class=\"note\">The model after each pass%s. Accuracies are of %s images that "
        "training never saw; the test set was not read.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>#</th>"
        "<th class=\"l\">pass</th><th>accuracy</th><th>file</th><th>weights</th><th>MACs</th><th>ms/image</th>"
        "<th>images/s</th></tr></thead>\n<tbody>\n",
        w->account->front ? "" : ", under its number in the charts", cnn_format_count(text, w->facts->images));
    for (int i = 0; i < w->account->stage_count; i++) {
        const opt_stage *stage = &w->account->stages[i];
        cnn_text_append(page, "<tr%s><td>%d</td><th class=\"l\">",
                        i == w->account->stage_count - 1 ? " class=\"last\"" : "", i + 1);
        opt_html_text(page, stage->name);
        cnn_text_append(page, "</th>");
        write_accuracy(page, stage->figures.accuracy);
        cnn_text_append(page, "<td>%s</td>", cnn_format_bytes(text, stage->figures.file_bytes));
        cnn_text_append(page, "<td>%s</td>", cnn_format_count(text, stage->figures.weights));
        cnn_text_append(page, "<td>%s</td>", cnn_format_count(text, stage->figures.macs));
        cnn_text_append(page, "<td class=\"timing\">%.3g</td>", stage->figures.ms_per_image);
        if (isnan(stage->figures.images_per_s))
            cnn_text_append(page, "<td>%s</td></tr>\n", dash);
        else
            cnn_text_append(page, "<td class=\"timing\">%.0f</td></tr>\n", stage->figures.images_per_s);
    }
    cnn_text_append(page, "</tbody></table></div>\n");
}

static void write_fronts(const writer *w)
{
    const bool search = w->account->front != NULL;
    if (w->facts->images == 0)
        return;
    cnn_text_append(w->page,
                    "<div class=\"charts\">\n<figure><figcaption><b>Accuracy and size</b>: up and left is better"
                    "</figcaption>\n");
    opt_chart_front(w->page, w->facts, false, search);
    cnn_text_append(w->page,
                    "</figure>\n<figure class=\"timing\"><figcaption><b>Accuracy and speed</b>: up and left is "
                    "better</figcaption>\n");
    opt_chart_front(w->page, w->facts, true, search);
    cnn_text_append(w->page, "</figure>\n</div>\n");
}

/* ---- Search ---- */

static void write_point(cnn_text *page, const opt_point *point)
{
    char text[CNN_UNIT_BYTES];
    cnn_text_append(page, "<tr%s><th>%s</th>", point->chosen ? " class=\"last\"" : "", point->label);
    if (isnan(point->share))
        cnn_text_append(page, "<td>%s</td>", dash);
    else
        cnn_text_append(page, "<td>%.0f %%</td>", 100 * point->share);
    write_accuracy(page, point->accuracy);
    if (isnan(point->drop_at_most))
        cnn_text_append(page, "<td>%s</td>", dash);
    else
        cnn_text_append(page, "<td>%.2f</td>", 100 * point->drop_at_most);
    cnn_text_append(page, "<td>%s</td>", cnn_format_bytes(text, point->file_bytes));
    cnn_text_append(page, "<td>%s</td>", cnn_format_count(text, point->macs));
    cnn_text_append(page, "<td class=\"timing\">%.3g</td><td class=\"l\">%s</td></tr>\n", point->ms_per_image,
                    point->chosen ? "chosen" : "");
}

static void write_search(const writer *w)
{
    if (!w->account->front)
        return;
    cnn_text_append(
        w->page,
        "<h2>Search</h2>\n<p class=\"note\">The models that were tried. Lost at most: points of accuracy, in 90 "
        "of 100 cases, by the answers to the held-out images before and after. In the charts a line joins those "
        "that no other one beats.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th>point</th><th>removed</th>"
        "<th>accuracy</th><th>lost at most</th><th>file</th><th>MACs</th><th>ms/image</th><th></th></tr></thead>\n"
        "<tbody>\n");
    for (int i = 0; i < w->facts->point_count; i++)
        write_point(w->page, &w->facts->points[i]);
    cnn_text_append(w->page, "</tbody></table></div>\n");
    write_fronts(w);
}

/* ---- Layers ---- */

/* "16x5x5x6", output channels first */
static void write_shape(cnn_text *page, const cnn_tensor_desc *desc)
{
    cnn_text_append(page, "%d\xC3\x97%d\xC3\x97%d\xC3\x97%d", (int)desc->n, (int)desc->h, (int)desc->w, (int)desc->c);
}

/* "1,200 -> 300", or "300" where nothing changed */
static void write_change(cnn_text *page, const char *before, const char *after, bool changed)
{
    if (changed)
        cnn_text_append(page, "<td><span class=\"old\">%s%s</span>%s</td>", before, arrow, after);
    else
        cnn_text_append(page, "<td>%s</td>", after);
}

static void write_layer(const writer *w, int i)
{
    char before[CNN_UNIT_BYTES], after[CNN_UNIT_BYTES];
    const opt_layer *layer = &w->account->layers[i];
    const opt_layer_facts *facts = &w->facts->layers[i];
    cnn_text *page = w->page;
    cnn_text_append(page, "<tr><th class=\"l\">");
    opt_html_text(page, layer->name);
    cnn_text_append(page, "</th><td class=\"l\">%s</td><td>", layer->type);
    if (facts->weight.n != facts->weight_before.n || facts->weight.c != facts->weight_before.c) {
        cnn_text_append(page, "<span class=\"old\">");
        write_shape(page, &facts->weight_before);
        cnn_text_append(page, "%s</span>", arrow);
    }
    write_shape(page, &facts->weight);
    if (layer->int8.bits > 0 && layer->int8.bits < 8)
        cnn_text_append(page, " %d bits</td>", layer->int8.bits);
    else
        cnn_text_append(page, " %s</td>", cnn_dtype_name(facts->weight.dtype));
    write_change(page, cnn_format_count(before, layer->weights_before), cnn_format_count(after, layer->weights),
                 layer->weights != layer->weights_before);
    cnn_text_append(page, "<td>%.0f %%",
                    layer->elements > 0 ? 100 * (double)layer->nonzeros / (double)layer->elements : 0);
    if (layer->structure != CNN_DENSE)
        cnn_text_append(page, ", %s", cnn_structure_name(layer->structure));
    cnn_text_append(page, "</td>");
    write_change(page, cnn_format_count(before, layer->macs_before), cnn_format_count(after, layer->macs),
                 layer->macs != layer->macs_before);
    write_change(page, cnn_format_bytes(before, facts->bytes_before), cnn_format_bytes(after, facts->bytes),
                 facts->bytes != facts->bytes_before);
    cnn_text_append(page, "</tr>\n");
}

static void write_layer_table(const writer *w)
{
    char before[CNN_UNIT_BYTES], after[CNN_UNIT_BYTES];
    cnn_text_append(w->page,
                    "<div class=\"scroll\"><table>\n<thead><tr><th class=\"l\">layer</th><th class=\"l\">type</th>"
                    "<th>shape, outputs first</th><th>weights</th><th>nonzero</th><th>MACs</th><th>in the "
                    "file</th></tr></thead>\n<tbody>\n");
    for (int i = 0; i < w->account->layer_count; i++)
        write_layer(w, i);
    cnn_text_append(w->page,
                    "<tr><th class=\"l\">all else</th><td class=\"l\" colspan=\"5\">graph, batch norms, names, "
                    "checksums, alignment</td>");
    write_change(w->page, cnn_format_bytes(before, w->facts->other_bytes_before),
                 cnn_format_bytes(after, w->facts->other_bytes), w->facts->other_bytes != w->facts->other_bytes_before);
    cnn_text_append(w->page, "</tr>\n</tbody></table></div>\n");
}

static cnn_status write_layers(const writer *w)
{
    const int count = w->account->layer_count;
    opt_bar *bars = cnn_calloc((size_t)count, sizeof *bars);
    if (!bars)
        return CNN_ERR_MEMORY;
    cnn_text_append(w->page, "<h2>Layers</h2>\n");
    write_layer_table(w);
    cnn_text_append(w->page,
                    "<div class=\"charts\">\n<figure><figcaption><b>Bytes in the file</b>, before (gray) and after "
                    "(blue)</figcaption>\n");
    for (int i = 0; i < count; i++)
        bars[i] = (opt_bar){w->account->layers[i].name, (double)w->facts->layers[i].bytes_before,
                            (double)w->facts->layers[i].bytes};
    opt_chart_bars(w->page, bars, count, "bytes in the file by layer", true);
    cnn_text_append(w->page, "</figure>\n<figure><figcaption><b>Multiply-accumulates</b> for one image, likewise"
                             "</figcaption>\n");
    for (int i = 0; i < count; i++)
        bars[i] = (opt_bar){w->account->layers[i].name, (double)w->account->layers[i].macs_before,
                            (double)w->account->layers[i].macs};
    opt_chart_bars(w->page, bars, count, "multiply-accumulates by layer", false);
    cnn_text_append(w->page, "</figure>\n</div>\n");
    free(bars);
    return CNN_OK;
}

/* ---- Sensitivity ---- */

static void write_effects(const writer *w, int i)
{
    const opt_facts *facts = w->facts;
    cnn_text *page = w->page;
    cnn_text_append(page, "<tr><th class=\"l\">");
    opt_html_text(page, w->account->layers[i].name);
    cnn_text_append(page, "</th>");
    for (int t = 0; t < facts->trial_count; t++) {
        const cnn_effect *effect = &facts->layers[i].effect[t];
        const double error = effect->logit_error;
        const int decimals = error < 0.01 ? 3 : error < 0.1 ? 2 : 1;
        if (effect->applies && isfinite(error))
            cnn_text_append(page, "<td>%.*f %%</td>", decimals, 100 * error);
        else if (effect->applies)
            cnn_text_append(page, "<td>%s</td>", dash); /* of a model whose scores are all 0 */
        if (effect->applies)
            cnn_text_append(page, "<td>%.2f %%</td><td>%d</td>", 100.0 * effect->right / facts->trial_images,
                            (int)effect->changed);
        else
            cnn_text_append(page, "<td colspan=\"3\" class=\"old\">not possible</td>");
    }
    cnn_text_append(page, "</tr>\n");
}

static void write_sensitivity(const writer *w)
{
    const opt_facts *facts = w->facts;
    cnn_text *page = w->page;
    if (facts->trial_images == 0)
        return;
    cnn_text_append(page,
                    "<h2>What each layer bears</h2>\n<p class=\"note\">The given model with one layer changed and all "
                    "else as it was, on %d of the held-out images, of which it answers %.2f\xC2\xA0%% right. The "
                    "further right, the more the layer matters.</p>\n<figure><figcaption>",
                    (int)facts->trial_images, 100.0 * facts->trial_right / facts->trial_images);
    for (int t = 0; t < facts->trial_count; t++) {
        cnn_text_append(page, "<span class=\"item\">");
        opt_chart_key(page, t);
        cnn_text_append(page, "%s</span> ", facts->trials[t].name);
    }
    cnn_text_append(page, "</figcaption>\n");
    opt_chart_sensitivity(page, w->account);
    cnn_text_append(page, "</figure>\n<div class=\"scroll\"><table>\n<thead><tr><th></th>");
    for (int t = 0; t < facts->trial_count; t++)
        cnn_text_append(page, "<th colspan=\"3\">%s</th>", facts->trials[t].name);
    cnn_text_append(page, "</tr>\n<tr><th class=\"l\">layer</th>");
    for (int t = 0; t < facts->trial_count; t++)
        cnn_text_append(page, "<th>scores</th><th>right</th><th>changed</th>");
    cnn_text_append(page, "</tr></thead>\n<tbody>\n");
    for (int i = 0; i < w->account->layer_count; i++)
        write_effects(w, i);
    cnn_text_append(page,
                    "</tbody></table></div>\n<p class=\"note\">Scores: the root of the squared change of all logits "
                    "over that of their squares. Changed: images answered otherwise.</p>\n");
}

/* ---- INT8 ---- */

static void write_int8_row(cnn_text *page, const opt_layer *layer)
{
    const cnn_quantize_row *row = &layer->int8;
    cnn_text_append(page, "<tr><th class=\"l\">");
    opt_html_text(page, layer->name);
    cnn_text_append(page, "</th><td class=\"l\">%s</td>", row->observer ? row->observer : "float");
    if (row->scale > 0)
        cnn_text_append(page, "<td>%.4g</td>", (double)row->scale);
    else
        cnn_text_append(page, "<td>%s</td>", dash);
    cnn_text_append(page, "<td>%.3f %%</td>", 100 * row->clipped);
    if (row->dead)
        cnn_text_append(page, "<td>dead</td>");
    else if (isinf(row->sqnr_db))
        cnn_text_append(page, "<td>exact</td>");
    else
        cnn_text_append(page, "<td>%.1f dB</td>", row->sqnr_db);
    if (isnan(row->cosine))
        cnn_text_append(page, "<td>%s</td></tr>\n", dash);
    else
        cnn_text_append(page, "<td>%.5f</td></tr>\n", row->cosine);
}

static void write_int8(const writer *w)
{
    cnn_text *page = w->page;
    if (!w->settings->int8)
        return;
    cnn_text_append(page,
                    "<h2>How exact INT8 is</h2>\n<p class=\"note\">The values of each layer in the INT8 program beside "
                    "those of the float model, on the calibration images; errors of earlier layers are in them.</p>\n"
                    "<div class=\"charts\">\n<figure>\n");
    opt_chart_sqnr(page, w->account);
    cnn_text_append(page, "</figure>\n<div class=\"scroll\"><table>\n<thead><tr><th class=\"l\">layer</th>"
                          "<th class=\"l\">observer</th><th>scale</th><th>clipped</th><th>SQNR</th><th>cosine</th></tr>"
                          "</thead>\n<tbody>\n");
    for (int i = 0; i < w->account->layer_count; i++)
        write_int8_row(page, &w->account->layers[i]);
    cnn_text_append(page, "</tbody></table></div>\n</div>\n");
}

/* ---- Weights ---- */

enum { MOST_HISTOGRAMS = 60 };

static void write_weights(const writer *w)
{
    cnn_text *page = w->page;
    const int shown = w->account->layer_count < MOST_HISTOGRAMS ? w->account->layer_count : MOST_HISTOGRAMS;
    cnn_text_append(
        page,
        "<h2>Weights</h2>\n<p class=\"note\">How the weights other than 0 are distributed, before (gray) and "
        "after (blue line), batch norms folded in; heights are shares of them.%s</p>\n"
        "<div class=\"small\">\n",
        shown < w->account->layer_count ? " The first 60 layers." : "");
    for (int i = 0; i < shown; i++) {
        const opt_layer_facts *layer = &w->facts->layers[i];
        cnn_text_append(page, "<figure><figcaption><b>");
        opt_html_text(page, w->account->layers[i].name);
        cnn_text_append(page, "</b><br/>%.1f %% are 0</figcaption>\n",
                        100 * (double)layer->after.zeros / (double)cnn_desc_elements(&layer->weight));
        opt_chart_histogram(page, layer, w->account->layers[i].name);
        cnn_text_append(page, "</figure>\n");
    }
    cnn_text_append(page, "</div>\n");
}

/* ---- The page ---- */

static void write_foot(const writer *w)
{
    char time[CNN_UNIT_BYTES];
    cnn_text_append(w->page, "<footer class=\"note\">\n<p>Model ");
    opt_html_text(w->page, w->facts->model);
    cnn_text_append(w->page, ", data ");
    opt_html_text(w->page, w->facts->data);
    cnn_text_append(w->page,
                    ". The same command gives the same page, but for what is measured in time. ms/image is the median "
                    "time of one image alone, images/s the rate in batches of 64. MACs are multiply-accumulates for "
                    "one image; zeros count like other weights.</p>\n<p class=\"timing\">Measured on ");
    opt_html_text(w->page, w->facts->device);
    cnn_text_append(w->page, "; all of it took %s. cnnkit %s</p>\n</footer>\n",
                    cnn_format_time(time, w->account->seconds), CNN_VERSION);
}

cnn_status opt_report_html(const opt_settings *settings, const opt_account *account, cnn_text *text)
{
    cnn_status status = CNN_OK;
    writer w = {.page = text, .settings = settings, .account = account, .facts = account->facts};
    w.before = &account->stages[0].figures;
    w.after = &account->stages[account->stage_count - 1].figures;
    opt_html_begin(text, settings->output);
    write_headline(&w);
    write_cards(&w);
    write_words(&w);
    write_search(&w);
    write_passes(&w);
    if (!account->front)
        write_fronts(&w);
    status = write_layers(&w);
    write_sensitivity(&w);
    write_int8(&w);
    write_weights(&w);
    opt_report_answers(text, w.facts);
    write_foot(&w);
    opt_html_end(text);
    return status == CNN_OK && text->failed ? CNN_ERR_MEMORY : status;
}
