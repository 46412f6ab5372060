/* What a run did, in plain words: what was removed, what came of it, what suffered most, what to try next. Every
 * sentence follows from measured facts by the rules below; times are left out, so that the same run gives the same
 * words.
 *
 * A change of accuracy counts as sure when more answers changed one way than the other by over two standard deviations
 * of a fair coin thrown for each answer that changed: |mended - broken| > 2 sqrt(mended + broken). */
#include "optimize/facts.h"

#include "cli/units.h"

#include <math.h>

static const double fair_db = 20;      /* of signal to noise: noise is a tenth of the signal's amplitude */
static const double clear_loss = 0.05; /* points that a step must cost to be named */
static const double much_more = 1.5;   /* times the median: a layer that stands out */
static const double much_clipped = 0.01;
static const double enough_pruned = 0.9;

typedef struct teller {
    const opt_settings *settings;
    const opt_account *account;
    const opt_facts *facts;
    cnn_text *text;
    const cnn_measurement *before, *after;
    double share;  /* pruned; 0: nothing */
    int structure; /* opt_structure, of what was removed */
    int advices;   /* given so far */
} teller;

/* ---- What was removed ---- */

static double per_cent(double part, double all)
{
    return all > 0 ? 100 * part / all : 0;
}

static void tell_removed_channels(const teller *t)
{
    char lost[CNN_UNIT_BYTES], had[CNN_UNIT_BYTES];
    const opt_layer *most = &t->account->layers[0];
    for (int i = 1; i < t->account->layer_count; i++) {
        const opt_layer *layer = &t->account->layers[i];
        if (layer->weights_before - layer->weights > most->weights_before - most->weights)
            most = layer;
    }
    cnn_text_append(t->text, "Pruning took %.0f %% of the weights and %.0f %% of the multiply-accumulates",
                    per_cent((double)(t->before->weights - t->after->weights), (double)t->before->weights),
                    per_cent((double)(t->before->macs - t->after->macs), (double)t->before->macs));
    if (t->account->layer_count > 1)
        cnn_text_append(t->text, "; %s lost most, %s of %s weights", most->name,
                        cnn_format_count(lost, most->weights_before - most->weights),
                        cnn_format_count(had, most->weights_before));
}

static void tell_removed_weights(const teller *t)
{
    int64_t elements = 0, nonzeros = 0;
    for (int i = 0; i < t->account->layer_count; i++) {
        elements += t->account->layers[i].elements;
        nonzeros += t->account->layers[i].nonzeros;
    }
    cnn_text_append(t->text, "Of the weights %.0f %% are 0 now%s",
                    per_cent((double)(elements - nonzeros), (double)elements),
                    t->structure == OPT_STRUCTURE_BLOCK ? ", most of them in whole blocks" : "");
}

/* "became 8-bit integers", "became integers of 2 to 5 bits, activations of 8" */
static void tell_bits(const teller *t)
{
    int least = 8, most = 1;
    for (int i = 0; i < t->account->layer_count; i++) {
        const int bits = t->account->layers[i].int8.bits;
        least = bits < least ? bits : least;
        most = bits > most ? bits : most;
    }
    const char *weights = t->share > 0 ? "; what is left became" : ": weights became";
    if (t->settings->codebook)
        cnn_text_append(t->text, "%s numbers of codebooks of %d, activations 8-bit integers", weights,
                        1 << t->settings->codebook);
    else if (least == 8)
        cnn_text_append(t->text, "%s 8-bit integers", t->share > 0 ? weights : ": weights and activations became");
    else if (least == most)
        cnn_text_append(t->text, "%s integers of %d bits, activations of 8", weights, most);
    else
        cnn_text_append(t->text, "%s integers of %d to %d bits, activations of 8", weights, least, most);
}

static void tell_removed(const teller *t)
{
    char from[CNN_UNIT_BYTES], to[CNN_UNIT_BYTES], part[CNN_UNIT_BYTES];
    if (t->share <= 0)
        cnn_text_append(t->text, "Nothing was removed");
    else
        (t->structure > OPT_STRUCTURE_CHANNEL ? tell_removed_weights : tell_removed_channels)(t);
    if (t->settings->int8)
        tell_bits(t);
    cnn_text_append(t->text, ". ");
    int largest = 0;
    for (int i = 1; i < t->account->layer_count; i++)
        if (t->facts->layers[i].bytes > t->facts->layers[largest].bytes)
            largest = i;
    cnn_text_append(t->text, "The file went from %s to %s", cnn_format_bytes(from, t->before->file_bytes),
                    cnn_format_bytes(to, t->after->file_bytes));
    if (t->account->layer_count > 1)
        cnn_text_append(t->text, ", of which %s takes %s", t->account->layers[largest].name,
                        cnn_format_bytes(part, t->facts->layers[largest].bytes));
    cnn_text_append(t->text, ". ");
}

/* ---- What came of it ---- */

static double points(const teller *t)
{
    return 100 * (t->after->accuracy - t->before->accuracy);
}

static bool is_sure(const opt_facts *facts)
{
    const double difference = fabs((double)facts->mended - facts->broken);
    return difference > 2 * sqrt((double)facts->mended + facts->broken);
}

static bool is_sure_loss(const teller *t)
{
    return points(t) < 0 && is_sure(t->facts);
}

static void tell_accuracy(const teller *t)
{
    const opt_facts *facts = t->facts;
    char images[CNN_UNIT_BYTES];
    if (facts->images == 0) {
        cnn_text_append(t->text, "No images were held out, so nothing is known of its accuracy. ");
        return;
    }
    cnn_text_append(t->text, "On %s validation images%s the accuracy went from %.2f to %.2f %% (%+.2f points): ",
                    cnn_format_count(images, facts->images),
                    t->settings->all_images ? ", which it was trained on," : "", 100 * t->before->accuracy,
                    100 * t->after->accuracy, points(t));
    if (facts->broken + facts->mended + facts->other == 0)
        cnn_text_append(t->text, "every answer is the same. ");
    else
        cnn_text_append(t->text, "%d answers became wrong and %d right%s. ", (int)facts->broken, (int)facts->mended,
                        is_sure(facts) ? "" : ", a difference that chance alone can make");
}

/* How a search came to this model, and what it can promise. */
static void tell_search(const teller *t)
{
    const opt_front *front = t->account->front;
    if (!front)
        return;
    cnn_text_append(t->text, "It is one of %d models that a search tried", front->count);
    const cnn_paired *paired = &front->visits[t->account->chosen].paired;
    const double lost = 100 * cnn_paired_bound(paired);
    if (paired->images > 0 && lost > 0)
        cnn_text_append(t->text, ": in 90 of 100 cases it loses at most %.2f points", lost);
    else if (paired->images > 0)
        cnn_text_append(t->text, ": in 90 of 100 cases it loses nothing");
    cnn_text_append(t->text, ". ");
}

/* ---- What suffered most ---- */

/* The pass that cost most accuracy; NULL: none cost enough to be named. */
static const opt_stage *costliest(const opt_account *account, double *cost)
{
    const opt_stage *worst = NULL;
    *cost = clear_loss;
    for (int i = 1; i < account->stage_count; i++) {
        double lost = 100 * (account->stages[i - 1].figures.accuracy - account->stages[i].figures.accuracy);
        if (lost > *cost) {
            *cost = lost;
            worst = &account->stages[i];
        }
    }
    return worst;
}

static const cnn_quantize_row *least_exact(const opt_account *account)
{
    const cnn_quantize_row *worst = NULL;
    for (int i = 0; i < account->layer_count; i++) {
        const cnn_quantize_row *row = &account->layers[i].int8;
        if (row->layer[0] && !row->dead && (!worst || row->sqnr_db < worst->sqnr_db))
            worst = row;
    }
    return worst;
}

/* The layer that a trial changes most; *over: how many times the median that is. -1: it applies to no two layers. */
static int most_sensitive(const teller *t, int trial, double *over)
{
    int worst = -1, count = 0;
    for (int i = 0; i < t->account->layer_count; i++) {
        const cnn_effect *effect = &t->facts->layers[i].effect[trial];
        if (effect->applies && !isfinite(effect->logit_error)) /* of a model without scores */
            return -1;
        count += effect->applies;
        if (effect->applies && (worst < 0 || effect->logit_error > t->facts->layers[worst].effect[trial].logit_error))
            worst = i;
    }
    if (count < 2)
        return -1;
    const double largest = t->facts->layers[worst].effect[trial].logit_error;
    double median = largest;
    for (int i = 0; i < t->account->layer_count; i++) {
        const cnn_effect *one = &t->facts->layers[i].effect[trial];
        int below = 0;
        for (int j = 0; one->applies && j < t->account->layer_count; j++)
            below += t->facts->layers[j].effect[trial].applies &&
                     t->facts->layers[j].effect[trial].logit_error < one->logit_error;
        if (one->applies && below == (count - 1) / 2)
            median = one->logit_error;
    }
    *over = median > 0 ? largest / median : 1;
    return worst;
}

enum { PRUNING_TRIAL = 2 };

static void tell_worst(const teller *t)
{
    double cost, over;
    const opt_stage *stage = costliest(t->account, &cost);
    const cnn_quantize_row *row = t->settings->int8 ? least_exact(t->account) : NULL;
    const int pruned = t->share > 0 ? most_sensitive(t, PRUNING_TRIAL, &over) : -1;
    if (stage && !t->account->front)
        cnn_text_append(t->text, "The pass that cost most was '%s', %.2f points%s. ", stage->name, cost,
                        points(t) > -clear_loss ? ", all won back since" : "");
    if (pruned >= 0)
        cnn_text_append(t->text, "Pruned alone, %s changes the scores most, by %.1f %%. ",
                        t->account->layers[pruned].name,
                        100 * t->facts->layers[pruned].effect[PRUNING_TRIAL].logit_error);
    if (row && isfinite(row->sqnr_db))
        cnn_text_append(t->text, "INT8 is least exact in %s, with %.1f dB of signal to noise%s. ", row->layer,
                        row->sqnr_db, row->sqnr_db < fair_db ? ", where 20 and more are fine" : ", which is fine");
    for (int i = 0; i < t->account->layer_count; i++)
        if (t->account->layers[i].int8.dead)
            cnn_text_append(t->text, "%s gives nothing but zeros and could as well be missing. ",
                            t->account->layers[i].name);
}

/* ---- What to try next ---- */

enum { MOST_ADVICES = 2 };

/* Begins an advice; false when there are enough. */
static bool advise(teller *t)
{
    if (t->advices >= MOST_ADVICES)
        return false;
    cnn_text_append(t->text, t->advices == 0 ? "Next, " : "; or ");
    t->advices++;
    return true;
}

/* Points that the last pass cost, when that was INT8. */
static double int8_cost(const teller *t)
{
    const int stages = t->account->stage_count;
    if (!t->settings->int8 || stages < 2)
        return 0;
    return 100 * (t->account->stages[stages - 2].figures.accuracy - t->after->accuracy);
}

static void repair_int8(teller *t)
{
    const opt_settings *settings = t->settings;
    const cnn_quantize_row *worst = least_exact(t->account);
    if (worst && opt_only_rounds(settings, worst) && settings->rounding != CNN_ROUNDING_ADAPTIVE) {
        if (advise(t))
            cnn_text_append(t->text, "take --round adaptive, which is for weights of few bits");
    } else if (settings->observer >= 0 && settings->observer != CNN_OBSERVER_AUTO) {
        if (advise(t))
            cnn_text_append(t->text, "let --observer auto find each layer's range");
    } else if (settings->bias_correction == 0) {
        if (advise(t))
            cnn_text_append(t->text, "leave --bias-correction on");
    } else if (worst && worst->sqnr_db < fair_db && worst->clipped > much_clipped) {
        if (advise(t))
            cnn_text_append(t->text,
                            "try --observer max: in %s it clips nothing, where %.1f %% of the values are clipped now",
                            worst->layer, 100 * worst->clipped);
    }
}

static void repair_pruning(teller *t)
{
    double over = 1;
    const opt_settings *settings = t->settings;
    const int sensitive = most_sensitive(t, PRUNING_TRIAL, &over);
    const double epochs = t->account->epochs;
    if (epochs < 1) {
        if (advise(t))
            cnn_text_append(t->text, "train after pruning with --finetune 1 or more");
    } else if (advise(t)) {
        cnn_text_append(t->text, "raise --finetune to %g", ceil(3 * epochs));
    }
    if (settings->keep) {
        if (advise(t))
            cnn_text_append(t->text, "keep more channels");
    } else if (t->structure == OPT_STRUCTURE_TWO_OF_FOUR) {
        if (advise(t))
            cnn_text_append(t->text, "take --prune 0.5 --structure weight --global, which chooses freely");
    } else if (!settings->global && sensitive >= 0 && over > much_more) {
        if (advise(t))
            cnn_text_append(t->text, "take --global, which prunes less where it hurts, as in %s",
                            t->account->layers[sensitive].name);
    } else if (settings->schedule <= OPT_SCHEDULE_ONE_SHOT && settings->prune > 0.5) {
        if (advise(t))
            cnn_text_append(t->text, "prune in steps with --prune-schedule iterative");
    } else if (advise(t)) {
        cnn_text_append(t->text, "lower --prune");
    }
}

static void repair(teller *t)
{
    if (t->settings->int8 && int8_cost(t) > -points(t) / 2)
        repair_int8(t);
    if (opt_prunes(t->settings))
        repair_pruning(t);
    else if (t->account->epochs == 0 && advise(t))
        cnn_text_append(t->text, "train a little before quantizing, with --finetune 1");
}

/* Nothing was lost for sure: how to go further. */
static void go_on(teller *t)
{
    const opt_settings *settings = t->settings;
    if (!settings->int8 && advise(t))
        cnn_text_append(t->text, "add --int8, which makes a byte of each weight and the CPU faster");
    if (settings->keep && advise(t))
        cnn_text_append(t->text, "keep fewer channels");
    else if (!opt_prunes(settings) && advise(t))
        cnn_text_append(t->text, "add --prune 0.5, which takes half of the channels");
    else if (t->structure == OPT_STRUCTURE_TWO_OF_FOUR && advise(t))
        cnn_text_append(t->text, "remove more than 2:4 does, with --prune 0.75 --structure weight");
    else if (settings->prune > 0 && settings->prune < enough_pruned && advise(t))
        cnn_text_append(t->text, "prune more, with --prune %.2g", settings->prune + (1 - settings->prune) / 2);
}

/* A search found out how much can go: what would let it find more. */
static void search_on(teller *t)
{
    const opt_settings *settings = t->settings;
    if (!settings->int8 && advise(t))
        cnn_text_append(t->text, "add --int8, which makes a byte of each weight and the CPU faster");
    if ((settings->max_drop >= 0 || is_sure_loss(t)) && advise(t))
        cnn_text_append(t->text, "raise --finetune to %g, so that smaller models keep the accuracy",
                        settings->finetune > 0 ? ceil(3 * settings->finetune) : 3);
    else if (settings->max_drop < 0 && settings->pick < 0 && advise(t))
        cnn_text_append(t->text, "ask for less: the search goes on where it ended");
}

static void tell_next(teller *t)
{
    const opt_settings *settings = t->settings;
    if (t->account->front)
        search_on(t);
    else if (t->facts->images > 0 && is_sure_loss(t))
        repair(t);
    else if (t->facts->images > 0)
        go_on(t);
    if (t->share > 0 && t->structure >= OPT_STRUCTURE_WEIGHT && advise(t))
        cnn_text_append(t->text,
                        "for speed take --structure block or channel: single zeros are computed like other numbers");
    if (t->share > 0 && t->structure > OPT_STRUCTURE_CHANNEL && settings->pack != CNN_PACK_SMALLEST && advise(t))
        cnn_text_append(t->text, "for the smallest file add --pack smallest");
    if (t->advices > 0)
        cnn_text_append(t->text, ".");
}

/* What the settings name; of a search that took channels and weights by turns, weights if any went. */
static int structure_of(const opt_settings *settings, const opt_account *account)
{
    if (settings->structure >= 0 || !account->front)
        return settings->structure;
    const opt_visit *visits = account->front->visits;
    for (int i = account->chosen; i > 0; i = visits[i].from < i ? visits[i].from : 0)
        if (visits[i].structure == OPT_STRUCTURE_WEIGHT)
            return OPT_STRUCTURE_WEIGHT;
    return OPT_STRUCTURE_CHANNEL;
}

void opt_explain(const opt_settings *settings, const opt_account *account, const opt_facts *facts, cnn_text *text)
{
    teller t = {.settings = settings, .account = account, .facts = facts, .text = text};
    t.share = opt_pruned_share(settings, account);
    t.structure = structure_of(settings, account);
    t.before = &account->stages[0].figures;
    t.after = &account->stages[account->stage_count - 1].figures;
    tell_removed(&t);
    tell_accuracy(&t);
    tell_search(&t);
    tell_worst(&t);
    tell_next(&t);
    if (!text->failed && text->length > 0 && text->data[text->length - 1] == ' ')
        text->data[--text->length] = '\0';
}
