/* Mixed precision: layers with weights of different widths, as a list says or by sensitivity.
 *
 * By sensitivity: each layer alone is rounded to each width, as cnn_quantize would, and the squared error of the logits
 * is measured. Errors of several layers are taken to add up, as they do while they are small. Sharing the bits is then
 * a knapsack with one choice a layer, minimize sum error[l][b_l] with sum weights[l] * b_l <= average * sum weights,
 * which dynamic programming solves over a budget counted in 4096 units. (Taking the steps that gain most for each bit,
 * as a Lagrangian does, wastes the budget where one layer holds most of the weights: its next bit no longer fits.) */
#include "optimize/precision.h"

#include "core/error.h"
#include "core/memory.h"
#include "optimize/channels.h"
#include "optimize/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- A list ---- */

static cnn_status refuse_name(const cnn_model *model, const char *name)
{
    cnn_status status = CNN_OK;
    cnn_text names = {0};
    for (int i = 0; i < model->node_count; i++)
        if (cnn_node_has_weights(&model->nodes[i]))
            cnn_text_append(&names, "%s%s", names.length > 0 ? ", " : "", model->nodes[i].name);
    if (names.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_FAIL(CNN_ERR_USAGE, "%s has no layer '%s' with weights; those that have are %s", model->name, name, names.data);
out:
    cnn_text_free(&names);
    return status;
}

/* The digit of "3"; -1: it is no width. */
static int read_width(const char *text, size_t length)
{
    const int bits = length == 1 ? text[0] - '0' : -1;
    return bits >= CNN_LEAST_BITS && bits <= CNN_MOST_BITS ? bits : -1;
}

/* Reads "4" as the width of all layers, or "conv1=8" as that of one. */
static cnn_status read_part(cnn_model *model, const char *part, size_t length, bool *named)
{
    cnn_status status = CNN_OK;
    char name[CNN_NAME_BYTES];
    const char *equals = memchr(part, '=', length);
    const size_t before = equals ? (size_t)(equals - part) : 0;
    const int bits = equals ? read_width(equals + 1, length - before - 1) : read_width(part, length);
    if (bits < 0 || before >= sizeof name || (equals && before == 0))
        CNN_FAIL(CNN_ERR_USAGE,
                 "'%.*s' is no number of bits for weights: write 2 to 8, LAYER=BITS, or both, as in 4,conv1=8",
                 (int)(length < CNN_NAME_BYTES ? length : CNN_NAME_BYTES), part);
    memcpy(name, part, before);
    name[before] = '\0';
    const int node = equals ? cnn_model_find(model, name) : -1;
    if (equals && (node < 0 || !cnn_node_has_weights(&model->nodes[node])))
        return refuse_name(model, name);
    if (equals && named[node])
        CNN_FAIL(CNN_ERR_USAGE, "%s has two numbers of bits; give one", name);
    if (equals)
        named[node] = true;
    for (int i = 0; i < model->node_count; i++)
        if (equals ? i == node : !named[i] && cnn_node_has_weights(&model->nodes[i]))
            model->nodes[i].levels = cnn_levels_of_bits(bits);
out:
    return status;
}

cnn_status cnn_set_bits(cnn_model *model, const char *bits)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    bool *named = cnn_calloc((size_t)model->node_count, sizeof *named);
    if (!named)
        return CNN_ERR_MEMORY;
    CNN_TRY(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count; i++)
        copy->nodes[i].levels = 0;
    for (const char *at = bits; at;) {
        const size_t length = strcspn(at, ",");
        CNN_TRY(read_part(copy, at, length, named));
        at = at[length] ? at + length + 1 : NULL;
    }
    for (int i = 0; i < copy->node_count; i++)
        model->nodes[i].levels = copy->nodes[i].levels;
out:
    cnn_model_free(copy);
    free(named);
    return status;
}

/* ---- Sharing the bits ---- */

enum { UNITS = 4096 }; /* that the budget is counted in */

/* A knapsack: by row and units spent beyond the least widths. */
typedef struct knapsack {
    double unit;     /* bits */
    double *error;   /* [row_count+1][UNITS+1] the least sum of the errors of the rows before with so many units */
    uint8_t *choice; /* [row_count][UNITS+1] the width of that row for it */
} knapsack;

/* Costs are rounded up, so the budget holds. */
static int units_of(const knapsack *sack, const cnn_bits_row *row, int bits)
{
    const double units = ceil((double)row->weights * (bits - CNN_LEAST_BITS) / sack->unit);
    return units > UNITS ? UNITS + 1 : (int)units;
}

static void add_row(knapsack *sack, const cnn_bits_row *rows, int r)
{
    const double *before = sack->error + (size_t)r * (UNITS + 1);
    double *error = sack->error + (size_t)(r + 1) * (UNITS + 1);
    uint8_t *choice = sack->choice + (size_t)r * (UNITS + 1);
    for (int u = 0; u <= UNITS; u++)
        error[u] = INFINITY;
    for (int bits = CNN_LEAST_BITS; bits <= CNN_MOST_BITS; bits++) {
        const int cost = units_of(sack, &rows[r], bits);
        for (int u = cost; u <= UNITS; u++) {
            const double sum = before[u - cost] + rows[r].error[bits - CNN_LEAST_BITS];
            if (sum < error[u] || bits == CNN_LEAST_BITS) {
                error[u] = sum;
                choice[u] = (uint8_t)bits;
            }
        }
    }
}

/* What rounding up has left over: one width more after the other, where the error falls most, while it is there. */
static void spend_rest(cnn_bits_row *rows, int row_count, double left)
{
    for (;;) {
        cnn_bits_row *best = NULL;
        double most = 0;
        for (int r = 0; r < row_count; r++) {
            const double *error = rows[r].error + rows[r].bits - CNN_LEAST_BITS;
            const bool can = rows[r].bits < CNN_MOST_BITS && (double)rows[r].weights <= left;
            if (can && error[0] - error[1] > most) {
                most = error[0] - error[1];
                best = &rows[r];
            }
        }
        if (!best)
            return;
        left -= (double)best->weights;
        best->bits++;
    }
}

cnn_status cnn_bits_allocate(cnn_bits_row *rows, int row_count, double average)
{
    double left = 0;
    for (int r = 0; r < row_count; r++)
        left += (average - CNN_LEAST_BITS) * (double)rows[r].weights;
    knapsack sack = {.unit = left > UNITS ? left / UNITS : 1};
    sack.error = cnn_calloc((size_t)(row_count + 1) * (UNITS + 1), sizeof *sack.error);
    sack.choice = cnn_calloc((size_t)row_count * (UNITS + 1), sizeof *sack.choice);
    if (sack.error && sack.choice) {
        for (int r = 0; r < row_count; r++)
            add_row(&sack, rows, r);
        for (int r = row_count - 1, u = (int)fmin(left / sack.unit, UNITS); r >= 0; r--) {
            rows[r].bits = sack.choice[(size_t)r * (UNITS + 1) + (size_t)u];
            u -= units_of(&sack, &rows[r], rows[r].bits);
            left -= (double)rows[r].weights * (rows[r].bits - CNN_LEAST_BITS);
        }
        spend_rest(rows, row_count, left);
    }
    const bool done = sack.error && sack.choice;
    free(sack.error);
    free(sack.choice);
    return done ? CNN_OK : CNN_ERR_MEMORY;
}

/* ---- By sensitivity ---- */

typedef struct watch {
    const cnn_bits_options *options;
    int64_t all;
} watch;

static void pass_on(void *context, int32_t done)
{
    const watch *w = context;
    if (w->options->progress)
        w->options->progress(w->options->progress_context, done, w->all);
}

static cnn_status measure(const cnn_model *model, const cnn_dataset *data, const cnn_bits_options *options,
                          cnn_bits_row *rows, int row_count)
{
    cnn_status status = CNN_OK;
    cnn_trial trials[CNN_BITS_COUNT] = {{0}};
    cnn_effect *effects = cnn_calloc((size_t)model->node_count * CNN_BITS_COUNT, sizeof *effects);
    int32_t *index = NULL, count, right;
    if (!effects)
        return CNN_ERR_MEMORY;
    for (int t = 0; t < CNN_BITS_COUNT; t++)
        trials[t].bits = CNN_LEAST_BITS + t;
    CNN_TRY(cnn_calibration_pick(model, data, 0, options->images, options->seed, &index, &count));
    const cnn_image_list images = {data, index, count};
    watch w = {options, (int64_t)count * (1 + (int64_t)CNN_BITS_COUNT * row_count)};
    CNN_TRY(cnn_sensitivity(model, &images, trials, CNN_BITS_COUNT, options->device, pass_on, &w, effects, &right));
    for (int i = 0, r = 0; i < model->node_count; i++) {
        if (!cnn_node_has_weights(&model->nodes[i]))
            continue;
        for (int t = 0; t < CNN_BITS_COUNT; t++) {
            const double error = effects[i * CNN_BITS_COUNT + t].logit_error;
            rows[r].error[t] = error * error;
        }
        r++;
    }
out:
    free(index);
    free(effects);
    return status;
}

int64_t cnn_weights_unpruned(const cnn_param *weight)
{
    int64_t count = 0;
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        count += !weight->mask || weight->mask[i];
    return count;
}

/* A row for each layer with weights. */
static int list_layers(const cnn_model *model, cnn_bits_row *rows)
{
    int count = 0;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        if (!cnn_node_has_weights(node))
            continue;
        memcpy(rows[count].layer, node->name, sizeof rows[count].layer);
        rows[count++].weights = cnn_weights_unpruned(&node->param[CNN_PARAM_WEIGHT]);
    }
    return count;
}

static cnn_status check(const cnn_model *model, const cnn_bits_options *options)
{
    cnn_status status = CNN_OK;
    if (!(options->average >= CNN_LEAST_BITS && options->average <= CNN_MOST_BITS))
        CNN_FAIL(CNN_ERR_USAGE, "weights of %g bits on average were asked for; take %d to %d", options->average,
                 CNN_LEAST_BITS, CNN_MOST_BITS);
    if (options->images < 1)
        CNN_FAIL(CNN_ERR_USAGE, "%d images to measure errors on were asked for; take at least 1", options->images);
    if (cnn_model_is_quantized(model))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "model '%s' is already INT8; start from the float model that it was made from",
                 model->name);
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].param[CNN_PARAM_STEP].desc.dtype != CNN_NONE ||
            model->nodes[i].param[CNN_PARAM_WEIGHT].grid)
            CNN_FAIL(CNN_ERR_UNSUPPORTED, "layer '%s': its weights lie on a grid already", model->nodes[i].name);
out:
    return status;
}

cnn_status cnn_choose_bits(cnn_model *model, const cnn_dataset *data, const cnn_bits_options *options,
                           cnn_bits_row **rows, int *row_count)
{
    cnn_status status = CNN_OK;
    cnn_bits_row *list = cnn_calloc((size_t)model->node_count, sizeof *list);
    if (!list)
        return CNN_ERR_MEMORY;
    CNN_TRY(check(model, options));
    const int count = list_layers(model, list);
    CNN_TRY(measure(model, data, options, list, count));
    CNN_TRY(cnn_bits_allocate(list, count, options->average));
    for (int r = 0; r < count; r++)
        model->nodes[cnn_model_find(model, list[r].layer)].levels = cnn_levels_of_bits(list[r].bits);
    if (rows) {
        *rows = list;
        *row_count = count;
        list = NULL;
    }
out:
    free(list);
    return status;
}
