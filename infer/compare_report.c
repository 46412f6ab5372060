/* cnn-infer --compare: which images, and what is said about the two devices. */
#include "infer/compare.h"
#include "infer/infer.h"

#include "cli/json.h"
#include "cli/message.h"
#include "cli/table.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The images that both devices run, and a word on where they are from. */
typedef struct compare_images {
    uint8_t *pixels; /* [count,H,W,C] */
    int count;
    const char *source; /* "mnist" */
} compare_images;

/* Training images, chosen by the seed: only --test reads the others. */
static cnn_status choose_images(infer_run *run, const char *name, compare_images *images)
{
    cnn_status status = CNN_OK;
    cnn_dataset *data = NULL;
    size_t bytes = infer_image_bytes(run);
    CNN_TRY(cnn_cli_load_data(run->cli, name, CNN_SUBSET_TRAIN, &data));
    if (data->height != run->input.h || data->width != run->input.w || data->channels != run->input.c)
        CNN_FAIL(CNN_ERR_SHAPE,
                 "%s reads images of %dx%dx%d, but those of %s are %dx%dx%d: name another data set with --data",
                 run->path, run->input.h, run->input.w, run->input.c, name, data->height, data->width, data->channels);
    for (int i = 0; i < images->count; i++) {
        uint64_t random = cnn_hash((uint64_t)run->cli->common.seed, CNN_PURPOSE_ORDER, (uint64_t)i, 0);
        memcpy(images->pixels + (size_t)i * bytes, data->images + (random % (uint64_t)data->count) * bytes, bytes);
    }
    images->source = cnn_dataset_name(data->id);
out:
    cnn_dataset_free(data);
    return status;
}

static cnn_status find_images(infer_run *run, compare_images *images)
{
    const cnn_dataset_id made_for = cnn_model_dataset(run->model);
    const char *name = run->cli->common.data ? run->cli->common.data : made_for ? cnn_dataset_name(made_for) : NULL;
    size_t bytes = infer_image_bytes(run);
    images->count = run->settings->images ? run->settings->images : INFER_COMPARE_IMAGES;
    images->pixels = cnn_calloc((size_t)images->count, bytes);
    if (!images->pixels)
        return CNN_ERR_MEMORY;
    if (name)
        return choose_images(run, name, images);
    for (size_t i = 0; i < (size_t)images->count * bytes; i++)
        images->pixels[i] = (uint8_t)cnn_hash((uint64_t)run->cli->common.seed, CNN_PURPOSE_SYNTH, i, 0);
    images->source = "random bytes";
    return CNN_OK;
}

/* ---- What is said ---- */

static const char *verdict(const infer_difference *node)
{
    return node->unequal == 0 ? "same" : node->agrees ? "agrees" : "DIVERGES";
}

static double relative_largest(const infer_difference *node)
{
    return node->largest > 0 ? node->largest / node->largest_value : 0;
}

/* "0", "1.3e-07" */
static void add_ratio(cnn_table *table, double ratio)
{
    if (ratio > 0)
        cnn_table_cell(table, "%.1e", ratio);
    else
        cnn_table_cell(table, "0");
}

static cnn_status print_nodes(const infer_comparison *comparison)
{
    cnn_table table;
    char count[CNN_UNIT_BYTES];
    cnn_table_begin(&table,
                    "<layer|<to|<type|>values|>unequal|>largest difference|>of largest value|>relative rms|>allowed|<");
    for (int i = 0; i < comparison->node_count; i++) {
        const infer_difference *node = &comparison->nodes[i];
        if (node->dtype == CNN_NONE)
            continue;
        cnn_table_cell(&table, "%s", node->layer);
        cnn_table_cell(&table, "%s", node->ends_in == node->layer ? "" : node->ends_in);
        cnn_table_cell(&table, "%s", cnn_dtype_name(node->dtype));
        cnn_table_cell(&table, "%s", cnn_format_count(count, node->values));
        cnn_table_cell(&table, "%s", cnn_format_count(count, node->unequal));
        cnn_table_cell(&table, "%.3g", node->largest);
        add_ratio(&table, relative_largest(node));
        add_ratio(&table, node->relative_rms);
        add_ratio(&table, node->allowed);
        cnn_table_cell(&table, "%s", verdict(node));
    }
    return cnn_table_end(&table, stdout);
}

static void write_json(const infer_run *run, const cnn_session *other, const compare_images *images,
                       const infer_comparison *comparison)
{
    cnn_json json;
    cnn_json_begin(&json, stdout);
    cnn_json_bool(&json, "agrees", comparison->first < 0);
    cnn_json_string(&json, "diverges_in", comparison->first < 0 ? NULL : comparison->nodes[comparison->first].ends_in);
    cnn_json_string(&json, "model", run->path);
    cnn_json_string(&json, "device", cnn_session_device(run->session));
    cnn_json_string(&json, "other_device", cnn_session_device(other));
    cnn_json_integer(&json, "images", images->count);
    cnn_json_string(&json, "data", images->source);
    cnn_json_array(&json, "layers");
    for (int i = 0; i < comparison->node_count; i++) {
        const infer_difference *node = &comparison->nodes[i];
        if (node->dtype == CNN_NONE)
            continue;
        cnn_json_object(&json, NULL);
        cnn_json_string(&json, "layer", node->layer);
        cnn_json_string(&json, "ends_in", node->ends_in);
        cnn_json_string(&json, "type", cnn_dtype_name(node->dtype));
        cnn_json_integer(&json, "values", node->values);
        cnn_json_integer(&json, "unequal", node->unequal);
        cnn_json_number(&json, "largest_difference", node->largest);
        cnn_json_number(&json, "relative_difference", relative_largest(node));
        cnn_json_number(&json, "relative_rms", node->relative_rms);
        cnn_json_number(&json, "allowed_rms", node->allowed);
        cnn_json_bool(&json, "agrees", node->agrees);
        cnn_json_close(&json);
    }
    cnn_json_close(&json);
    cnn_json_end(&json);
}

/* Divergence is a failure: its sentence is an error message. */
static void print_verdict(const infer_run *run, const infer_comparison *comparison)
{
    const char *a = run->device[0], *b = run->settings->compare;
    if (comparison->first < 0) {
        if (!run->cli->common.json)
            printf("%s and %s agree in all %d layers compared\n", a, b, comparison->compared);
        return;
    }
    const infer_difference *node = &comparison->nodes[comparison->first];
    char unequal[CNN_UNIT_BYTES], values[CNN_UNIT_BYTES];
    cnn_format_count(unequal, node->unequal);
    cnn_format_count(values, node->values);
    if (node->allowed > 0)
        cnn_message_error(run->cli,
                          "%s and %s diverge first in layer %s: the rms of the difference is %.1e of the rms of the "
                          "values, and %.0e is allowed there",
                          a, b, node->ends_in, node->relative_rms, node->allowed);
    else
        cnn_message_error(run->cli, "%s and %s diverge first in layer %s: %s of %s values differ, and none may", a, b,
                          node->ends_in, unequal, values);
}

cnn_status infer_compare(infer_run *run)
{
    cnn_status status = CNN_OK;
    compare_images images = {.count = 0};
    infer_comparison comparison = {.first = -1};
    cnn_session *other = NULL;
    const cnn_session_options options = {.device = run->settings->compare, .batch = run->batch};
    CNN_TRY(cnn_session_open(run->model, &options, &other));
    CNN_TRY(find_images(run, &images));
    CNN_TRY(
        infer_compare_sessions(run->session, other, run->model, images.pixels, images.count, run->batch, &comparison));
    if (run->cli->common.json) {
        write_json(run, other, &images, &comparison);
    } else {
        printf("%s, %d images (%s)\n%s\n%s\n", run->path, images.count, images.source, cnn_session_device(run->session),
               cnn_session_device(other));
        CNN_TRY(print_nodes(&comparison));
    }
    print_verdict(run, &comparison);
out:
    infer_comparison_free(&comparison);
    free(images.pixels);
    cnn_session_close(other);
    return status;
}
