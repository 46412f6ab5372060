/* The account and the facts of a run as JSON (docs/report.md). */
#include "optimize/facts.h"
#include "optimize/front.h"

#include "cli/json.h"
#include "optimize/base64.h"

#include <math.h>

static const opt_stage *last(const opt_account *account)
{
    return &account->stages[account->stage_count - 1];
}

static void write_times(cnn_json *json, const cnn_measurement *figures)
{
    cnn_json_number(json, "ms_per_image", figures->ms_per_image);
    cnn_json_number(json, "images_per_s", figures->images_per_s);
}

static void write_figures(cnn_json *json, const cnn_measurement *figures)
{
    cnn_json_number(json, "accuracy", figures->accuracy);
    cnn_json_integer(json, "file_bytes", figures->file_bytes);
    cnn_json_integer(json, "weights", figures->weights);
    cnn_json_integer(json, "macs", figures->macs);
}

/* A figure of every pass, or its times. */
typedef void (*write_fn)(cnn_json *json, const cnn_measurement *figures);

static void write_both(cnn_json *json, const cnn_measurement *figures)
{
    write_figures(json, figures);
    write_times(json, figures);
}

static void write_stages(cnn_json *json, const opt_account *account, write_fn write)
{
    cnn_json_object(json, "before");
    write(json, &account->stages[0].figures);
    cnn_json_close(json);
    cnn_json_object(json, "after");
    write(json, &last(account)->figures);
    cnn_json_close(json);
    cnn_json_array(json, "passes");
    for (int i = 0; i < account->stage_count; i++) {
        cnn_json_object(json, NULL);
        cnn_json_string(json, "name", account->stages[i].name);
        write(json, &account->stages[i].figures);
        cnn_json_close(json);
    }
    cnn_json_close(json);
}

static void write_layer(cnn_json *json, const opt_layer *layer, bool int8)
{
    cnn_json_string(json, "name", layer->name);
    cnn_json_string(json, "type", layer->type);
    cnn_json_integer(json, "channels_before", layer->channels_before);
    cnn_json_integer(json, "channels", layer->channels);
    cnn_json_integer(json, "weights_before", layer->weights_before);
    cnn_json_integer(json, "weights", layer->weights);
    cnn_json_integer(json, "nonzeros", layer->nonzeros);
    cnn_json_string(json, "structure", cnn_structure_name(layer->structure));
    cnn_json_integer(json, "bits", int8 ? layer->int8.bits : 32);
    cnn_json_integer(json, "macs_before", layer->macs_before);
    cnn_json_integer(json, "macs", layer->macs);
    if (int8) {
        cnn_json_string(json, "observer", layer->int8.observer);
        cnn_json_number(json, "scale", (double)layer->int8.scale);
        cnn_json_number(json, "clipped", layer->int8.clipped);
        cnn_json_number(json, "sqnr_db", layer->int8.sqnr_db);
        cnn_json_number(json, "cosine", layer->int8.cosine);
        cnn_json_bool(json, "dead", layer->int8.dead);
    }
}

void opt_account_json(const opt_settings *settings, const opt_account *account, FILE *out)
{
    cnn_json json;
    cnn_json_begin(&json, out);
    write_stages(&json, account, write_both);
    cnn_json_array(&json, "layers");
    for (int i = 0; i < account->layer_count; i++) {
        cnn_json_object(&json, NULL);
        write_layer(&json, &account->layers[i], settings->int8);
        cnn_json_close(&json);
    }
    cnn_json_close(&json);
    if (account->front)
        opt_front_json(account->front, account->chosen, &json);
    cnn_json_string(&json, "output", settings->output);
    cnn_json_integer(&json, "val_images", account->val_images);
    cnn_json_bool(&json, "trained_on_val", settings->all_images);
    cnn_json_number(&json, "seconds", account->seconds);
    if (settings->explain)
        cnn_json_string(&json, "explanation", account->facts->explanation.data);
    cnn_json_end(&json);
}

/* ---- The report ---- */

static void write_shape(cnn_json *json, const char *key, const cnn_tensor_desc *desc)
{
    const int32_t sizes[] = {desc->n, desc->h, desc->w, desc->c};
    cnn_json_array(json, key);
    for (int i = 0; i < 4; i++)
        cnn_json_integer(json, NULL, sizes[i]);
    cnn_json_close(json);
}

static double share(int32_t part, int32_t all)
{
    return all > 0 ? (double)part / all : NAN;
}

static void write_effects(cnn_json *json, const opt_facts *facts, const opt_layer_facts *layer)
{
    cnn_json_object(json, "sensitivity");
    for (int t = 0; t < facts->trial_count; t++) {
        const cnn_effect *effect = &layer->effect[t];
        if (!effect->applies) {
            cnn_json_string(json, facts->trials[t].key, NULL);
            continue;
        }
        cnn_json_object(json, facts->trials[t].key);
        cnn_json_number(json, "logit_error", effect->logit_error);
        cnn_json_number(json, "accuracy", share(effect->right, facts->trial_images));
        cnn_json_integer(json, "changed", effect->changed);
        cnn_json_close(json);
    }
    cnn_json_close(json);
}

static void write_bins(cnn_json *json, const char *key, const cnn_histogram *histogram)
{
    cnn_json_object(json, key);
    cnn_json_integer(json, "zeros", histogram->zeros);
    cnn_json_number(json, "largest", histogram->largest);
    cnn_json_array(json, "bins");
    for (int b = 0; b < CNN_HISTOGRAM_BINS; b++)
        cnn_json_integer(json, NULL, histogram->bin[b]);
    cnn_json_close(json);
    cnn_json_close(json);
}

static void write_layers(cnn_json *json, const opt_settings *settings, const opt_account *account)
{
    const opt_facts *facts = account->facts;
    cnn_json_array(json, "layers");
    for (int i = 0; i < account->layer_count; i++) {
        const opt_layer_facts *layer = &facts->layers[i];
        cnn_json_object(json, NULL);
        write_layer(json, &account->layers[i], settings->int8);
        write_shape(json, "shape_before", &layer->weight_before);
        write_shape(json, "shape", &layer->weight);
        cnn_json_string(json, "dtype", cnn_dtype_name(layer->weight.dtype));
        cnn_json_integer(json, "bytes_before", layer->bytes_before);
        cnn_json_integer(json, "bytes", layer->bytes);
        write_effects(json, facts, layer);
        cnn_json_object(json, "histogram");
        cnn_json_number(json, "limit", layer->before.limit);
        write_bins(json, "before", &layer->before);
        write_bins(json, "after", &layer->after);
        cnn_json_close(json);
        cnn_json_close(json);
    }
    cnn_json_close(json);
    cnn_json_integer(json, "other_bytes_before", facts->other_bytes_before);
    cnn_json_integer(json, "other_bytes", facts->other_bytes);
}

static void write_points(cnn_json *json, const opt_facts *facts)
{
    cnn_json_array(json, "points");
    for (int i = 0; i < facts->point_count; i++) {
        const opt_point *point = &facts->points[i];
        cnn_json_object(json, NULL);
        cnn_json_string(json, "name", point->name);
        cnn_json_number(json, "accuracy", point->accuracy);
        cnn_json_integer(json, "file_bytes", point->file_bytes);
        cnn_json_integer(json, "macs", point->macs);
        cnn_json_bool(json, "chosen", point->chosen);
        cnn_json_number(json, "share", point->share);
        cnn_json_number(json, "drop_at_most", point->drop_at_most);
        cnn_json_close(json);
    }
    cnn_json_close(json);
}

static void write_trials(cnn_json *json, const opt_facts *facts)
{
    cnn_json_object(json, "sensitivity");
    cnn_json_integer(json, "images", facts->trial_images);
    cnn_json_number(json, "accuracy", share(facts->trial_right, facts->trial_images));
    cnn_json_object(json, "trials");
    for (int t = 0; t < facts->trial_count; t++)
        cnn_json_string(json, facts->trials[t].key, facts->trials[t].name);
    cnn_json_close(json);
    cnn_json_close(json);
}

static void write_matrix(cnn_json *json, const char *key, const int32_t *cells, int32_t classes)
{
    cnn_json_array(json, key);
    for (int32_t row = 0; row < classes; row++) {
        cnn_json_array(json, NULL);
        for (int32_t column = 0; column < classes; column++)
            cnn_json_integer(json, NULL, cells[row * classes + column]);
        cnn_json_close(json);
    }
    cnn_json_close(json);
}

static cnn_status write_pictures(cnn_json *json, const opt_facts *facts)
{
    cnn_status status = CNN_OK;
    cnn_json_array(json, "pictures");
    for (int i = 0; status == CNN_OK && i < facts->picture_count; i++) {
        const opt_picture *picture = &facts->pictures[i];
        cnn_text png = {0};
        if (picture->png)
            cnn_base64_append(&png, picture->png, picture->png_bytes);
        cnn_json_object(json, NULL);
        cnn_json_integer(json, "image", picture->image);
        cnn_json_integer(json, "label", picture->label);
        cnn_json_integer(json, "before", picture->before);
        cnn_json_number(json, "probability_before", picture->p_before);
        cnn_json_integer(json, "after", picture->after);
        cnn_json_number(json, "probability", picture->p_after);
        cnn_json_string(json, "png", png.data);
        cnn_json_close(json);
        status = png.failed ? CNN_ERR_MEMORY : CNN_OK;
        cnn_text_free(&png);
    }
    cnn_json_close(json);
    return status;
}

static cnn_status write_answers(cnn_json *json, const opt_facts *facts)
{
    cnn_json_array(json, "classes");
    for (int32_t i = 0; i < facts->classes; i++)
        cnn_json_string(json, NULL, facts->class_names[i]);
    cnn_json_close(json);
    write_matrix(json, "confusion_before", facts->confusion_before, facts->classes);
    write_matrix(json, "confusion", facts->confusion, facts->classes);
    cnn_json_object(json, "changed");
    cnn_json_integer(json, "broken", facts->broken);
    cnn_json_integer(json, "mended", facts->mended);
    cnn_json_integer(json, "other", facts->other);
    cnn_status status = write_pictures(json, facts);
    cnn_json_close(json);
    return status;
}

/* All that differs from one run of a command to the next. */
static void write_timing(cnn_json *json, const opt_account *account)
{
    cnn_json_object(json, "timing");
    cnn_json_string(json, "device", account->facts->device);
    write_stages(json, account, write_times);
    cnn_json_number(json, "seconds", account->seconds);
    cnn_json_close(json);
}

cnn_status opt_report_json(const opt_settings *settings, const opt_account *account, FILE *out)
{
    const opt_facts *facts = account->facts;
    cnn_json json;
    cnn_json_begin(&json, out);
    cnn_json_string(&json, "command", facts->command);
    cnn_json_string(&json, "model", facts->model);
    cnn_json_string(&json, "data", facts->data);
    cnn_json_integer(&json, "val_images", account->val_images);
    cnn_json_bool(&json, "trained_on_val", settings->all_images);
    cnn_json_string(&json, "output", settings->output);
    cnn_json_string(&json, "explanation", facts->explanation.data);
    write_stages(&json, account, write_figures);
    write_points(&json, facts);
    write_layers(&json, settings, account);
    write_trials(&json, facts);
    cnn_status status = write_answers(&json, facts);
    write_timing(&json, account);
    cnn_json_end(&json);
    return status;
}
