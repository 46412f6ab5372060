/* Pictures: read, prepare, run, print label and probability. */
#include "infer/infer.h"

#include "cli/json.h"
#include "cli/message.h"
#include "cli/table.h"
#include "cnn/picture.h"
#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { JSON_TOPK = 3, LABEL_BYTES = 32, NOTE_BYTES = 200 };

static const double sure = 0.9;

/* The pictures that could be read, in order. */
typedef struct picture_batch {
    uint8_t *pixels;     /* [count,H,W,C] */
    const char **files;  /* [count] */
    float *logits;       /* [count,classes] */
    double *probability; /* [classes] of the picture that is being printed */
    int *order;          /* [classes] most likely first */
    int count;
} picture_batch;

static cnn_status prepare_picture(const infer_run *run, const char *path, uint8_t *pixels)
{
    cnn_picture picture;
    cnn_status status = cnn_picture_read(path, &picture);
    if (status != CNN_OK)
        return status;
    const cnn_image_form form = cnn_model_form(run->model);
    status = cnn_picture_prepare(&picture, path, &form, pixels);
    cnn_picture_free(&picture);
    return status;
}

static void prepare_all(const infer_run *run, picture_batch *batch)
{
    const cnn_operands *operands = &run->cli->operands;
    for (int i = 0; i < operands->count; i++) {
        uint8_t *pixels = batch->pixels + (size_t)batch->count * infer_image_bytes(run);
        if (prepare_picture(run, operands->list[i], pixels) == CNN_OK)
            batch->files[batch->count++] = operands->list[i];
        else
            cnn_message_error(run->cli, "%s", cnn_last_error());
    }
}

/* softmax(logits) in double, and the order of the classes by it: equal ones by number. */
static cnn_status rank(const infer_run *run, picture_batch *batch, int image)
{
    const float *logits = batch->logits + (size_t)image * (size_t)run->classes;
    double highest = logits[infer_best(logits, run->classes)], sum = 0;
    for (int k = 0; k < run->classes; k++)
        sum += batch->probability[k] = exp(logits[k] - highest);
    if (!isfinite(sum) || !isfinite(highest))
        return cnn_error(CNN_ERR_NUMERIC, "%s: the scores that %s gives are not all finite: train it again",
                         batch->files[image], run->path);
    for (int k = 0; k < run->classes; k++) {
        batch->probability[k] /= sum;
        int at = k;
        for (; at > 0 && batch->probability[batch->order[at - 1]] < batch->probability[k]; at--)
            batch->order[at] = batch->order[at - 1];
        batch->order[at] = k;
    }
    return CNN_OK;
}

/* The class's name, or its number where the model has no names. */
static const char *label_name(const infer_run *run, int label, char text[LABEL_BYTES])
{
    const char *name = cnn_model_class_name(run->model, label);
    if (name)
        return name;
    snprintf(text, LABEL_BYTES, "%d", label);
    return text;
}

static int shown_labels(const infer_run *run, int standard)
{
    int topk = run->settings->topk ? run->settings->topk : standard;
    return topk < run->classes ? topk : run->classes;
}

static void write_json(const infer_run *run, const picture_batch *batch, int image, cnn_json *json)
{
    char text[LABEL_BYTES];
    cnn_json_object(json, NULL);
    cnn_json_string(json, "file", batch->files[image]);
    cnn_json_string(json, "label", label_name(run, batch->order[0], text));
    cnn_json_number(json, "probability", batch->probability[batch->order[0]]);
    cnn_json_array(json, "topk");
    for (int i = 0; i < shown_labels(run, JSON_TOPK); i++) {
        cnn_json_object(json, NULL);
        cnn_json_string(json, "label", label_name(run, batch->order[i], text));
        cnn_json_number(json, "probability", batch->probability[batch->order[i]]);
        cnn_json_close(json);
    }
    cnn_json_close(json);
    cnn_json_close(json);
}

/* "unsure, or 5 (0.310)"; with --topk the other labels follow. */
static void describe(const infer_run *run, const picture_batch *batch, char note[NOTE_BYTES])
{
    char text[LABEL_BYTES];
    bool unsure = batch->probability[batch->order[0]] < sure;
    int shown = shown_labels(run, unsure ? 2 : 1);
    int length = snprintf(note, NOTE_BYTES, "%s", unsure ? "unsure" : "");
    for (int i = 1; i < shown && length < NOTE_BYTES; i++)
        length += snprintf(note + length, (size_t)(NOTE_BYTES - length), "%s%s (%.3f)",
                           length == 0 ? "or "
                           : i == 1    ? ", or "
                                       : ", ",
                           label_name(run, batch->order[i], text), batch->probability[batch->order[i]]);
}

static void write_row(const infer_run *run, const picture_batch *batch, int image, cnn_table *table)
{
    char text[LABEL_BYTES], note[NOTE_BYTES];
    describe(run, batch, note);
    cnn_table_cell(table, "%s", batch->files[image]);
    cnn_table_cell(table, "%s", label_name(run, batch->order[0], text));
    cnn_table_cell(table, "%.3f", batch->probability[batch->order[0]]);
    cnn_table_cell(table, "%s", note);
}

static cnn_status print_results(const infer_run *run, picture_batch *batch)
{
    cnn_json json;
    cnn_table table;
    bool as_json = run->cli->common.json;
    if (as_json) {
        cnn_json_begin(&json, stdout);
        cnn_json_array(&json, "results");
    } else {
        cnn_table_begin(&table, "<file|<label|>probability|<");
    }
    for (int i = 0; i < batch->count; i++) {
        if (rank(run, batch, i) != CNN_OK)
            cnn_message_error(run->cli, "%s", cnn_last_error());
        else if (as_json)
            write_json(run, batch, i, &json);
        else
            write_row(run, batch, i, &table);
    }
    if (!as_json)
        return cnn_table_end(&table, stdout);
    cnn_json_close(&json);
    cnn_json_end(&json);
    return CNN_OK;
}

cnn_status infer_pictures(infer_run *run)
{
    size_t most = (size_t)run->cli->operands.count, classes = (size_t)run->classes;
    picture_batch batch = {.count = 0};
    cnn_status status = CNN_ERR_MEMORY;
    if ((batch.pixels = cnn_calloc(most, infer_image_bytes(run))) == NULL ||
        (batch.files = cnn_calloc(most, sizeof *batch.files)) == NULL ||
        (batch.logits = cnn_calloc(most * classes, sizeof *batch.logits)) == NULL ||
        (batch.probability = cnn_calloc(classes, sizeof *batch.probability)) == NULL ||
        (batch.order = cnn_calloc(classes, sizeof *batch.order)) == NULL)
        goto out;
    prepare_all(run, &batch);
    status = CNN_OK;
    if (batch.count > 0)
        CNN_TRY(cnn_session_infer(run->session, batch.pixels, batch.count, batch.logits));
    if (batch.count > 0 || run->cli->common.json)
        CNN_TRY(print_results(run, &batch));
out:
    free(batch.pixels);
    free(batch.files);
    free(batch.logits);
    free(batch.probability);
    free(batch.order);
    return status;
}
