/* The account of cnn-opt: the table of passes, the table of layers (--verbose), one sentence. JSON is in report_json.c.
 */
#include "optimize/facts.h"
#include "optimize/front.h"

#include "cli/help.h"
#include "cli/message.h"
#include "cli/table.h"
#include "cli/units.h"
#include "optimize/html.h"

#include <math.h>
#include <stdio.h>

static const cnn_measurement *first(const opt_account *account)
{
    return &account->stages[0].figures;
}

static const cnn_measurement *last(const opt_account *account)
{
    return &account->stages[account->stage_count - 1].figures;
}

static cnn_status print_passes(const opt_account *account)
{
    cnn_table table;
    char text[CNN_UNIT_BYTES];
    cnn_table_begin(&table, "<pass|>accuracy|>file|>weights|>MACs|>ms/image|>images/s");
    for (int i = 0; i < account->stage_count; i++) {
        const cnn_measurement *figures = &account->stages[i].figures;
        cnn_table_cell(&table, "%s", account->stages[i].name);
        if (isnan(figures->accuracy))
            cnn_table_cell(&table, "-");
        else
            cnn_table_cell(&table, "%.2f %%", 100 * figures->accuracy);
        cnn_table_cell(&table, "%s", cnn_format_bytes(text, figures->file_bytes));
        cnn_table_cell(&table, "%s", cnn_format_count(text, figures->weights));
        cnn_table_cell(&table, "%s", cnn_format_count(text, figures->macs));
        cnn_table_cell(&table, "%.3g", figures->ms_per_image);
        if (isnan(figures->images_per_s))
            cnn_table_cell(&table, "-");
        else
            cnn_table_cell(&table, "%.0f", figures->images_per_s);
    }
    return cnn_table_end(&table, stdout);
}

static void add_int8_cells(cnn_table *table, const cnn_quantize_row *row)
{
    cnn_table_cell(table, "%d", row->bits);
    cnn_table_cell(table, "%s", row->observer ? row->observer : "float");
    if (row->scale > 0)
        cnn_table_cell(table, "%.4g", (double)row->scale);
    else
        cnn_table_cell(table, "-");
    cnn_table_cell(table, "%.3f %%", 100 * row->clipped);
    if (row->dead)
        cnn_table_cell(table, "dead");
    else if (isinf(row->sqnr_db))
        cnn_table_cell(table, "exact");
    else
        cnn_table_cell(table, "%.1f dB", row->sqnr_db);
    if (isnan(row->cosine))
        cnn_table_cell(table, "-");
    else
        cnn_table_cell(table, "%.5f", row->cosine);
}

/* "block, 75 % zeros" */
static void add_structure_cell(cnn_table *table, const opt_layer *layer)
{
    if (layer->structure == CNN_DENSE)
        cnn_table_cell(table, "dense");
    else
        cnn_table_cell(table, "%s, %.0f %% zeros", cnn_structure_name(layer->structure),
                       100 * (1 - (double)layer->nonzeros / (double)layer->elements));
}

static cnn_status print_layers(const opt_settings *settings, const opt_account *account)
{
    cnn_table table;
    char text[CNN_UNIT_BYTES];
    cnn_table_begin(
        &table, settings->int8
                    ? "<layer|<type|>channels|>weights|<structure|>MACs|>bits|<observer|>scale|>clipped|>SQNR|>cosine"
                    : "<layer|<type|>channels|>weights|<structure|>MACs");
    for (int i = 0; i < account->layer_count; i++) {
        const opt_layer *layer = &account->layers[i];
        cnn_table_cell(&table, "%s", layer->name);
        cnn_table_cell(&table, "%s", layer->type);
        if (layer->channels == layer->channels_before)
            cnn_table_cell(&table, "%d", layer->channels);
        else
            cnn_table_cell(&table, "%d -> %d", layer->channels_before, layer->channels);
        cnn_table_cell(&table, "%s", cnn_format_count(text, layer->weights));
        add_structure_cell(&table, layer);
        cnn_table_cell(&table, "%s", cnn_format_count(text, layer->macs));
        if (settings->int8)
            add_int8_cells(&table, &layer->int8);
    }
    return cnn_table_end(&table, stdout);
}

/* Below this, noise is a tenth of the signal's amplitude and more. */
static const double fair_db = 20;

/* What to try when a layer suffers: the first thing that was not tried yet. */
static const char *advice(const opt_settings *settings, const cnn_quantize_row *row)
{
    if (opt_only_rounds(settings, row) && settings->codebook && settings->rounding == CNN_ROUNDING_ADAPTIVE)
        return "try a larger --codebook, or --bits with --finetune 1";
    if (opt_only_rounds(settings, row))
        return settings->rounding == CNN_ROUNDING_ADAPTIVE ? "give it more bits, or train with --finetune 1"
                                                           : "try --round adaptive, or train with --finetune 1";
    if (settings->observer >= 0 && settings->observer != CNN_OBSERVER_AUTO)
        return "try --observer auto";
    if (settings->bias_correction == 0)
        return "try --bias-correction on";
    if (row->clipped > 0.01)
        return "try --observer max, which clips nothing";
    return opt_prunes(settings) ? "prune less, or fine-tune longer with --finetune"
                                : "its channels may differ too much in range: train it again, with weight decay";
}

/* Which layers INT8 changes most, in plain words. */
static void print_int8(const opt_settings *settings, const opt_account *account)
{
    const cnn_quantize_row *worst = NULL;
    for (int i = 0; i < account->layer_count; i++) {
        const cnn_quantize_row *row = &account->layers[i].int8;
        if (row->dead)
            printf("Layer %s gave nothing but zeros on the calibration images, so INT8 cannot harm it; a network with "
                   "dead layers should be trained again.\n",
                   row->layer);
        else if (row->layer[0] && (!worst || row->sqnr_db < worst->sqnr_db))
            worst = row;
    }
    if (worst && worst->sqnr_db < fair_db)
        printf("%s too coarse for layer %s: %.1f dB of signal to noise, where %.0f and more are fine; %s.\n",
               opt_only_rounds(settings, worst) ? "Weights of few bits are" : "INT8 is", worst->layer, worst->sqnr_db,
               fair_db, advice(settings, worst));
    else if (worst && isfinite(worst->sqnr_db))
        printf("INT8 suits all layers; the least exact is %s with %.1f dB of signal to noise.\n", worst->layer,
               worst->sqnr_db);
    else if (worst)
        printf("INT8 changes nothing in any layer.\n");
}

static void print_sentence(const opt_settings *settings, const opt_account *account)
{
    const cnn_measurement *before = first(account), *after = last(account);
    char size[OPT_FACTOR_BYTES], speed[OPT_FACTOR_BYTES];
    opt_format_factor(size, (double)before->file_bytes, (double)after->file_bytes, "smaller", "larger");
    opt_format_factor(speed, before->ms_per_image, after->ms_per_image, "faster", "slower");
    printf("\n%s is %s and %s than %s", settings->output, size, speed, settings->input);
    if (isnan(before->accuracy)) {
        printf("; no images were held out to tell its accuracy.\n");
        return;
    }
    double points = 100 * (after->accuracy - before->accuracy);
    printf("; on %d validation images%s it is right in %.2f %%, %+.2f points.\n", account->val_images,
           settings->all_images ? ", which it was trained on," : "", 100 * after->accuracy, points);
    if (settings->explain)
        return; /* the explanation has better advice */
    if (points < -1 && settings->prune > 0)
        printf("That is a lot to lose: train longer with --finetune, or remove less with --prune.\n");
    else if (points < -1 && settings->keep)
        printf("That is a lot to lose: train longer with --finetune, or keep more channels.\n");
    else if (points < -1)
        printf("That is a lot to lose: try %s.\n",
               settings->observer < 0 || settings->observer == CNN_OBSERVER_AUTO ? "--finetune 1" : "--observer auto");
}

/* How much of the loss the validation images leave room for. */
static void print_promise(const opt_account *account)
{
    const cnn_paired *paired = &account->front->visits[account->chosen].paired;
    const double lost = 100 * cnn_paired_bound(paired);
    if (paired->images == 0)
        return;
    printf("Of %d validation images it answers %d worse and %d better than the given model: ", (int)paired->images,
           (int)paired->broken, (int)paired->mended);
    if (lost > 0)
        printf("at most %.2f points are lost, in 90 of 100 cases.\n", lost);
    else
        printf("nothing is lost, in 90 of 100 cases.\n");
}

static void print_explanation(const opt_account *account)
{
    putchar('\n');
    cnn_help_wrap(stdout, account->facts->explanation.data, 0, 0);
}

cnn_status opt_report(const cnn_cli *cli, const opt_settings *settings, const opt_account *account)
{
    if (cli->common.json) {
        opt_account_json(settings, account, stdout);
        return CNN_OK;
    }
    cnn_status status = CNN_OK;
    if (cli->common.verbose) {
        status = print_layers(settings, account);
        putchar('\n');
    }
    if (status == CNN_OK && account->front) {
        status = opt_front_print(account->front, account->chosen);
        putchar('\n');
    }
    if (status == CNN_OK)
        status = print_passes(account);
    if (status == CNN_OK)
        print_sentence(settings, account);
    if (status == CNN_OK && account->front)
        print_promise(account);
    if (status == CNN_OK && settings->explain)
        print_explanation(account);
    else if (status == CNN_OK && settings->int8)
        print_int8(settings, account);
    return status;
}
