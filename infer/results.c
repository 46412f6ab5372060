/* Results for pictures: labels and probabilities as a table or as JSON.
 *
 * The label of several digits is the whole number; its probability is the product of the digits' probabilities, since
 * each is read for itself. */
#include "infer/pictures.h"

#include "cli/json.h"
#include "cli/message.h"
#include "cli/table.h"
#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { JSON_TOPK = 3, LABEL_BYTES = 16 };

static const double sure = 0.9;

/* A guess at what the first digits of a picture are. */
typedef struct guess {
    double probability;
    int label;  /* of the last of these digits */
    int before; /* index of the guess at the digits before that, in their list */
} guess;

/* The likeliest guesses at a picture. Digit i's list stands at guesses + i * most: guesses at digits 0..i, best first.
 */
typedef struct ranking {
    int digits, most;    /* most: guesses in a list */
    int *count;          /* [digits] in each list */
    guess *list;         /* [digits,most] */
    double *probability; /* [digits,classes] */
} ranking;

/* ---- Ranking ---- */

/* The class's name, or its number where the model has no names. */
static const char *label_name(const infer_run *run, int label, char number[LABEL_BYTES])
{
    const char *name = cnn_model_class_name(run->model, label);
    if (name)
        return name;
    snprintf(number, LABEL_BYTES, "%d", label);
    return number;
}

/* softmax(logits) in double. */
static cnn_status softmax(const infer_run *run, const char *file, const float *logits, double *probability)
{
    double highest = (double)logits[infer_best(logits, run->classes)], sum = 0;
    for (int k = 0; k < run->classes; k++)
        sum += probability[k] = exp((double)logits[k] - highest);
    if (!isfinite(sum) || !isfinite(highest))
        return cnn_error(CNN_ERR_NUMERIC, "%s: the scores that %s gives are not all finite: train it again", file,
                         run->path);
    for (int k = 0; k < run->classes; k++)
        probability[k] /= sum;
    return CNN_OK;
}

/* Puts a guess in its place; of equally likely ones the first that came stays first. */
static void insert(guess *list, int *count, int most, guess made)
{
    int at = *count;
    if (at == most && !(made.probability > list[most - 1].probability))
        return;
    at = at < most ? (*count)++ : most - 1;
    for (; at > 0 && list[at - 1].probability < made.probability; at--)
        list[at] = list[at - 1];
    list[at] = made;
}

/* Extends the guesses at the digits before `digit` by every label. The best `most` come from the best `most` before. */
static void extend(const infer_run *run, ranking *ranks, int digit)
{
    const guess none = {.probability = 1}, *before = &none;
    int before_count = 1;
    if (digit > 0) {
        before = ranks->list + (size_t)(digit - 1) * (size_t)ranks->most;
        before_count = ranks->count[digit - 1];
    }
    for (int b = 0; b < before_count; b++)
        for (int k = 0; k < run->classes; k++)
            insert(ranks->list + (size_t)digit * (size_t)ranks->most, &ranks->count[digit], ranks->most,
                   (guess){before[b].probability * ranks->probability[digit * run->classes + k], k, b});
}

static void ranking_free(ranking *ranks)
{
    free(ranks->count);
    free(ranks->list);
    free(ranks->probability);
}

static cnn_status rank(const infer_run *run, const picture_batch *batch, const picture_entry *entry, int most,
                       ranking *ranks)
{
    cnn_status status = CNN_OK;
    size_t digits = (size_t)entry->count, classes = (size_t)run->classes;
    *ranks = (ranking){.digits = entry->count,
                       .most = most,
                       .count = cnn_calloc(digits, sizeof(int)),
                       .list = cnn_calloc(digits * (size_t)most, sizeof(guess)),
                       .probability = cnn_calloc(digits * classes, sizeof(double))};
    if (!ranks->count || !ranks->list || !ranks->probability)
        status = CNN_ERR_MEMORY;
    for (int i = 0; status == CNN_OK && i < entry->count; i++) {
        status = softmax(run, entry->file, batch->logits + (size_t)(entry->first + i) * classes,
                         ranks->probability + (size_t)i * classes);
        if (status == CNN_OK)
            extend(run, ranks, i);
    }
    if (status != CNN_OK)
        ranking_free(ranks);
    return status;
}

/* Guesses at the whole picture, best first. */
static const guess *whole(const ranking *ranks)
{
    return ranks->list + (size_t)(ranks->digits - 1) * (size_t)ranks->most;
}

static int whole_count(const ranking *ranks)
{
    return ranks->count[ranks->digits - 1];
}

/* The labels of all digits of the n-th guess, one after the other. labels: [digits] */
static void guess_labels(const ranking *ranks, int n, int *labels)
{
    for (int digit = ranks->digits - 1; digit >= 0; digit--) {
        const guess *made = ranks->list + (size_t)digit * (size_t)ranks->most + n;
        labels[digit] = made->label;
        n = made->before;
    }
}

/* Appends the n-th guess: "7", "sneaker", "1984", "one nine". */
static void append_guess(const infer_run *run, const ranking *ranks, int n, cnn_text *text)
{
    int labels[CNN_MOST_DIGITS];
    char number[LABEL_BYTES];
    guess_labels(ranks, n, labels);
    for (int i = 0; i < ranks->digits; i++) {
        const char *label = label_name(run, labels[i], number);
        cnn_text_append(text, "%s%s", i > 0 && label[0] && label[1] ? " " : "", label);
    }
}

static int shown_guesses(const infer_run *run, int standard)
{
    return run->settings->topk ? run->settings->topk : standard;
}

/* ---- JSON ---- */

static cnn_status write_guess(const infer_run *run, const ranking *ranks, int n, cnn_json *json)
{
    cnn_text label = {0};
    append_guess(run, ranks, n, &label);
    cnn_json_string(json, "label", label.data);
    cnn_json_number(json, "probability", whole(ranks)[n].probability);
    cnn_status status = label.failed ? CNN_ERR_MEMORY : CNN_OK;
    cnn_text_free(&label);
    return status;
}

/* Each digit of a number, with the place where it stands. */
static void write_digits(const infer_run *run, const picture_batch *batch, const picture_entry *entry,
                         const ranking *ranks, cnn_json *json)
{
    int labels[CNN_MOST_DIGITS];
    char number[LABEL_BYTES];
    guess_labels(ranks, 0, labels);
    cnn_json_array(json, "digits");
    for (int i = 0; i < entry->count; i++) {
        const picture_place *place = &batch->place[entry->first + i];
        const int32_t box[4] = {place->x, place->y, place->width, place->height};
        cnn_json_object(json, NULL);
        cnn_json_string(json, "label", label_name(run, labels[i], number));
        cnn_json_number(json, "probability", ranks->probability[i * run->classes + labels[i]]);
        cnn_json_array(json, "box");
        for (int k = 0; k < 4; k++)
            cnn_json_integer(json, NULL, box[k]);
        cnn_json_close(json);
        cnn_json_close(json);
    }
    cnn_json_close(json);
}

/* Writes the picture's object, whole also when it fails: a label that there is no memory for is null. */
static cnn_status write_json(const infer_run *run, const picture_batch *batch, const picture_entry *entry,
                             const ranking *ranks, cnn_json *json)
{
    cnn_json_object(json, NULL);
    cnn_json_string(json, "file", entry->file);
    cnn_status status = write_guess(run, ranks, 0, json);
    cnn_json_array(json, "topk");
    for (int n = 0; n < whole_count(ranks); n++) {
        cnn_json_object(json, NULL);
        cnn_status written = write_guess(run, ranks, n, json);
        status = status == CNN_OK ? written : status;
        cnn_json_close(json);
    }
    cnn_json_close(json);
    if (entry->count > 1)
        write_digits(run, batch, entry, ranks, json);
    if (entry->touching)
        cnn_json_bool(json, "touching", true);
    if (run->settings->sanitize)
        cnn_json_bool(json, "changed", entry->changed);
    cnn_json_close(json);
    return status;
}

/* ---- Table ---- */

/* "unsure, or 5 (0.310)"; with --topk the other guesses follow; then a number's digits; then what may be wrong. */
static void describe(const infer_run *run, const picture_entry *entry, const ranking *ranks, cnn_text *note)
{
    char number[LABEL_BYTES];
    int labels[CNN_MOST_DIGITS];
    bool unsure = whole(ranks)[0].probability < sure;
    int shown = shown_guesses(run, unsure ? 2 : 1);
    if (unsure)
        cnn_text_append(note, "unsure");
    for (int n = 1; n < shown && n < whole_count(ranks); n++) {
        cnn_text_append(note, "%s%s", note->length ? ", " : "", n == 1 ? "or " : "");
        append_guess(run, ranks, n, note);
        cnn_text_append(note, " (%.3f)", whole(ranks)[n].probability);
    }
    guess_labels(ranks, 0, labels);
    for (int i = 0; entry->count > 1 && i < entry->count; i++)
        cnn_text_append(note, "%s%s (%.3f)",
                        i > 0          ? ", "
                        : note->length ? "; digits "
                                       : "digits ",
                        label_name(run, labels[i], number), ranks->probability[i * run->classes + labels[i]]);
    if (entry->touching)
        cnn_text_append(note, "%sdigits may be touching: leave paper between them", note->length ? "; " : "");
    if (entry->changed)
        cnn_text_append(note, "%sanother answer than without --sanitize: somebody may have made the picture so",
                        note->length ? "; " : "");
}

static cnn_status write_row(const infer_run *run, const picture_entry *entry, const ranking *ranks, cnn_table *table)
{
    cnn_text label = {0}, note = {0};
    append_guess(run, ranks, 0, &label);
    describe(run, entry, ranks, &note);
    cnn_status status = label.failed || note.failed ? CNN_ERR_MEMORY : CNN_OK;
    if (status == CNN_OK) {
        cnn_table_cell(table, "%s", entry->file);
        cnn_table_cell(table, "%s", label.data ? label.data : "");
        cnn_table_cell(table, "%.3f", whole(ranks)[0].probability);
        cnn_table_cell(table, "%s", note.data ? note.data : "");
    }
    cnn_text_free(&label);
    cnn_text_free(&note);
    return status;
}

/* ---- Printing ---- */

static const char columns[] = "<file|<label|>probability|<";

/* Prints a picture's images above a table of its own. */
static cnn_status show_entry(const infer_run *run, const picture_batch *batch, const picture_entry *entry,
                             const ranking *ranks)
{
    cnn_table table;
    infer_show(run, batch->pixels + (size_t)entry->first * infer_image_bytes(run), entry->count);
    cnn_table_begin(&table, columns);
    cnn_status status = write_row(run, entry, ranks, &table), printed = cnn_table_end(&table, stdout);
    return status != CNN_OK ? status : printed;
}

/* Calls for each picture whose scores make sense: its row in the table, its object, or its images. */
static cnn_status print_entries(const infer_run *run, const picture_batch *batch, cnn_json *json, cnn_table *table)
{
    cnn_status status = CNN_OK;
    int most = shown_guesses(run, json ? JSON_TOPK : 2);
    if (most < 2)
        most = json ? 1 : 2; /* the second one is shown when the first is unsure */
    for (int i = 0; status == CNN_OK && i < batch->count; i++) {
        const picture_entry *entry = &batch->entry[i];
        ranking ranks;
        if (rank(run, batch, entry, most, &ranks) != CNN_OK) {
            cnn_message_error(run->cli, "%s", cnn_last_error());
            continue;
        }
        if (json)
            status = write_json(run, batch, entry, &ranks, json);
        else if (table)
            status = write_row(run, entry, &ranks, table);
        else
            status = show_entry(run, batch, entry, &ranks);
        ranking_free(&ranks);
    }
    return status;
}

cnn_status infer_print_results(const infer_run *run, const picture_batch *batch)
{
    if (run->cli->common.json) {
        cnn_json json;
        cnn_json_begin(&json, stdout);
        cnn_json_array(&json, "results");
        cnn_status status = print_entries(run, batch, &json, NULL);
        cnn_json_close(&json);
        cnn_json_end(&json);
        return status;
    }
    if (run->settings->show)
        return print_entries(run, batch, NULL, NULL);
    cnn_table table;
    cnn_table_begin(&table, columns);
    cnn_status status = print_entries(run, batch, NULL, &table);
    cnn_status printed = cnn_table_end(&table, stdout);
    return status != CNN_OK ? status : printed;
}
