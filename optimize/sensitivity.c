/* Sensitivity: each layer changed alone in a copy of the model, and the logits of some held-out images beside those
 * of the model as it is. */
#include "optimize/sensitivity.h"

#include "core/error.h"
#include "core/hash.h"
#include "core/memory.h"
#include "core/model.h"
#include "optimize/precision.h"
#include "optimize/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Images ---- */

typedef struct ticket {
    uint64_t hash;
    int32_t image;
} ticket;

static int compare_tickets(const void *left, const void *right)
{
    const ticket *a = left, *b = right;
    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return (a->image > b->image) - (a->image < b->image);
}

static int compare_images(const void *left, const void *right)
{
    int32_t a = *(const int32_t *)left, b = *(const int32_t *)right;
    return (a > b) - (a < b);
}

cnn_status cnn_sensitivity_pick(const cnn_split *split, int32_t count, uint64_t seed, int32_t **index, int32_t *picked)
{
    const int32_t all = split->validation_count, taken = count < all ? count : all;
    ticket *tickets = cnn_calloc((size_t)all, sizeof *tickets);
    int32_t *list = cnn_calloc((size_t)taken, sizeof *list);
    if (!tickets || !list) {
        free(tickets);
        free(list);
        return CNN_ERR_MEMORY;
    }
    for (int32_t i = 0; i < all; i++) {
        int32_t image = split->validation[i];
        tickets[i] = (ticket){cnn_hash(seed, CNN_PURPOSE_SENSITIVITY, (uint64_t)image, 0), image};
    }
    qsort(tickets, (size_t)all, sizeof *tickets, compare_tickets);
    for (int32_t i = 0; i < taken; i++)
        list[i] = tickets[i].image;
    qsort(list, (size_t)taken, sizeof *list, compare_images);
    free(tickets);
    *index = list;
    *picked = taken;
    return CNN_OK;
}

/* ---- Changes ---- */

void cnn_weights_round(cnn_param *weight, int bits)
{
    const int64_t count = cnn_desc_elements(&weight->desc) / weight->desc.n;
    const int32_t levels = cnn_levels_of_bits(bits);
    for (int32_t k = 0; k < weight->desc.n; k++) {
        float *w = (float *)weight->data + (int64_t)k * count; /* [R,S,C] */
        const float step = cnn_weight_step(w, count, levels);
        for (int64_t i = 0; i < count; i++)
            w[i] = (float)cnn_weight_number(w[i], step, levels) * step;
    }
}

/* A copy of the model with the trial done on one node; NULL when that cannot be. */
static cnn_status change(const cnn_model *model, int node, const cnn_trial *trial, cnn_model **changed)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    cnn_prune_options options = trial->pruning;
    cnn_prune_result result = {0};
    *changed = NULL;
    CNN_TRY(cnn_model_clone(model, &copy));
    if (trial->bits > 0) {
        cnn_weights_round(&copy->nodes[node].param[CNN_PARAM_WEIGHT], trial->bits);
    } else {
        options.only = model->nodes[node].name;
        options.on_the_way = true;
        status = trial->prune(copy, &options, &result);
        if (status == CNN_ERR_UNSUPPORTED || (status == CNN_OK && result.removed == 0)) {
            status = CNN_OK;
            goto out;
        }
        CNN_TRY(status);
    }
    *changed = copy;
    copy = NULL;
out:
    cnn_model_free(copy);
    return status;
}

/* ---- Comparison ---- */

typedef struct scan {
    const cnn_image_list *images;
    const char *device;
    int32_t classes;
    float *exact, *seen; /* logits [count,classes] */
    cnn_measure_fn progress;
    void *context;
    int32_t done;
} scan;

static void pass_on(void *context, int32_t done)
{
    const scan *s = context;
    if (s->progress)
        s->progress(s->context, s->done + done);
}

static cnn_status run(scan *s, cnn_model *model, float *logits)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = s->device}, &session));
    CNN_TRY(cnn_answers_logits(session, s->images, s->classes, pass_on, s, logits));
    s->done += s->images->count;
out:
    cnn_session_close(session);
    return status;
}

static int answer(const scan *s, const float *logits, int32_t image)
{
    return cnn_answers_best(logits + (int64_t)image * s->classes, s->classes);
}

static int32_t count_right(const scan *s, const float *logits)
{
    int32_t right = 0;
    for (int32_t i = 0; i < s->images->count; i++)
        right += answer(s, logits, i) == s->images->data->labels[s->images->index[i]];
    return right;
}

static cnn_effect compare(const scan *s)
{
    cnn_effect effect = {.applies = true, .right = count_right(s, s->seen)};
    double error = 0, signal = 0;
    for (int32_t i = 0; i < s->images->count; i++)
        effect.changed += answer(s, s->seen, i) != answer(s, s->exact, i);
    for (int64_t i = 0; i < (int64_t)s->images->count * s->classes; i++) {
        double x = (double)s->exact[i], y = (double)s->seen[i];
        error += (y - x) * (y - x);
        signal += x * x;
    }
    effect.logit_error = error > 0 ? sqrt(error / signal) : 0;
    return effect;
}

static cnn_status try_on(scan *s, const cnn_model *model, int node, const cnn_trial *trial, cnn_effect *effect)
{
    cnn_status status = CNN_OK;
    cnn_model *changed = NULL;
    *effect = (cnn_effect){0};
    CNN_TRY(change(model, node, trial, &changed));
    if (!changed) {
        s->done += s->images->count;
        goto out;
    }
    CNN_TRY(run(s, changed, s->seen));
    *effect = compare(s);
out:
    cnn_model_free(changed);
    return status;
}

cnn_status cnn_sensitivity(const cnn_model *model, const cnn_image_list *images, const cnn_trial *trials,
                           int trial_count, const char *device, cnn_measure_fn progress, void *context,
                           cnn_effect *effects, int32_t *right)
{
    cnn_status status = CNN_OK;
    scan s = {.images = images, .device = device, .classes = cnn_model_output(model).c};
    size_t values = (size_t)images->count * (size_t)s.classes;
    cnn_model *copy = NULL;
    s.progress = progress;
    s.context = context;
    s.exact = cnn_calloc(values, sizeof *s.exact);
    s.seen = cnn_calloc(values, sizeof *s.seen);
    if (!s.exact || !s.seen)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_model_clone(model, &copy));
    CNN_TRY(run(&s, copy, s.exact));
    *right = count_right(&s, s.exact);
    for (int i = 0; i < model->node_count; i++)
        for (int t = 0; t < trial_count; t++) {
            cnn_effect *effect = &effects[i * trial_count + t];
            *effect = (cnn_effect){0};
            if (cnn_node_has_weights(&model->nodes[i]))
                CNN_TRY(try_on(&s, model, i, &trials[t], effect));
        }
out:
    cnn_model_free(copy);
    free(s.exact);
    free(s.seen);
    return status;
}
