/* Attacks: fgsm and pgd.
 *
 * Images take turns in the slots of a batch: each has its own start and its own number of steps, and where one is done
 * the next moves in, so that a batch is full to the end. What happens to an image depends on its neighbours no more
 * than on threads. */
#include "cnn/robust.h"

#include "core/ball.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STANDARD_BATCH = 64, MOST_STEPS = 1000000 };

/* A model that gives scores and gradients. */
typedef struct oracle {
    cnn_session *session; /* of the model ... */
    cnn_session *through; /* ... and where it is quantized of its float twin */
    cnn_model *twin;
} oracle;

typedef struct slot {
    int64_t image; /* place in the list; -1: empty */
    int step, restart;
} slot;

typedef struct attacker {
    const cnn_model *model;
    const cnn_attack_options *options;
    const cnn_dataset *data;
    const int32_t *index;
    int64_t count, next, done; /* next: the first image that had no slot yet */
    oracle target, source;     /* source: without a session where gradients are the target's own */
    int batch, steps, restarts;
    float eps, step;
    int radius;    /* eps in whole levels */
    size_t values; /* of an image */
    int32_t classes;
    slot *slots;        /* [batch] */
    float *origin, *at; /* [batch,values] in [0,1]: images, and what became of them */
    float *gradient;    /* [batch,values] */
    float *logits;      /* [batch,classes] */
    uint8_t *bytes;     /* [batch,values] `at`, rounded */
    uint8_t *sanitized; /* [batch,values] bytes as the model reads them; == bytes where it reads them as they are */
    float *seen;        /* [batch,values] the same in [0,1]; == at */
    uint8_t *labels;    /* [batch] */
    bool *right;        /* [count] answers to the images as they are */
    uint8_t *found;     /* [count,values], or NULL */
    cnn_attack_result result;
} attacker;

void cnn_attack_options_init(cnn_attack_options *options)
{
    *options = (cnn_attack_options){.device = "auto",
                                    .method = CNN_ATTACK_PGD,
                                    .eps = 0.1,
                                    .steps = 40,
                                    .step = 0.01,
                                    .restarts = 5,
                                    .random_start = true,
                                    .seed = 1};
}

static cnn_status check_options(const cnn_attack_options *o)
{
    if ((unsigned)o->method >= CNN_ATTACK_COUNT)
        return cnn_error(CNN_ERR_USAGE, "attack %d is not known", (int)o->method);
    if (!(o->eps > 0.0 && o->eps <= 1.0))
        return cnn_error(CNN_ERR_USAGE, "an attack's eps is %g; it must be above 0 and at most 1", o->eps);
    if (o->batch < 0)
        return cnn_error(CNN_ERR_USAGE, "batch %d: give a number of images from 1", o->batch);
    if (o->method == CNN_ATTACK_FGSM)
        return CNN_OK;
    if (!(o->step > 0.0 && o->step <= 1.0) || o->steps < 1 || o->steps > MOST_STEPS)
        return cnn_error(CNN_ERR_USAGE, "an attack of %d steps of %g; steps are from 1 to %d, above 0 and at most 1",
                         o->steps, o->step, MOST_STEPS);
    if (o->restarts < 1 || (o->restarts > 1 && !o->random_start))
        return cnn_error(CNN_ERR_USAGE, "%d restarts: from 1 on, and more than one only from random places",
                         o->restarts);
    return CNN_OK;
}

/* ---- Models ---- */

static cnn_status open_oracle(cnn_model *model, const attacker *a, oracle *opened)
{
    cnn_status status = CNN_OK;
    const cnn_session_options session = {.device = a->options->device, .batch = a->batch};
    CNN_TRY(cnn_session_open(model, &session, &opened->session));
    CNN_TRY(cnn_session_check_data(opened->session, a->data));
    if (cnn_model_is_quantized(model)) {
        CNN_TRY(cnn_model_dequantize(model, &opened->twin));
        CNN_TRY(cnn_session_open(opened->twin, &session, &opened->through));
    }
out:
    return status;
}

static void close_oracle(oracle *opened)
{
    cnn_session_close(opened->through);
    cnn_model_free(opened->twin);
    cnn_session_close(opened->session);
}

static cnn_status ask(const attacker *a, const oracle *asked)
{
    return asked->through
               ? cnn_session_straight_through(asked->session, asked->through, a->sanitized, a->labels, a->batch,
                                              a->logits, a->gradient)
               : cnn_session_pixel_gradient(asked->session, a->seen, a->labels, a->batch, a->logits, a->gradient);
}

/* Scores of the attacked model and gradients for what is in the slots. */
static cnn_status ask_all(attacker *a)
{
    cnn_status status = CNN_OK;
    const size_t all = (size_t)a->batch * a->values;
    float *gradient = a->gradient;
    if (!a->source.session)
        return ask(a, &a->target);
    if (a->target.through) {
        CNN_TRY(ask(a, &a->source));
        return cnn_session_infer(a->target.session, a->sanitized, a->batch, a->logits);
    }
    /* The program that gives scores of pixels gives their gradients too, which are not for this attacker to see. */
    a->gradient = cnn_calloc(all, sizeof *gradient);
    if (!a->gradient)
        status = CNN_ERR_MEMORY;
    if (status == CNN_OK)
        status = ask(a, &a->source);
    if (status == CNN_OK)
        memcpy(gradient, a->gradient, all * sizeof *gradient);
    if (status == CNN_OK)
        status = ask(a, &a->target);
    free(a->gradient);
    a->gradient = gradient;
out:
    return status;
}

/* ---- Slots ---- */

static int64_t number_of(const attacker *a, int64_t image)
{
    return a->index ? a->index[image] : image;
}

static const uint8_t *image_of(const attacker *a, int64_t image)
{
    return a->data->images + (size_t)number_of(a, image) * a->values;
}

/* Where an image begins: as it is, or at a random place of its ball. */
static void start(attacker *a, int s)
{
    const slot *in = &a->slots[s];
    const size_t first = (size_t)s * a->values;
    const uint64_t seed =
        cnn_hash(a->options->seed, CNN_PURPOSE_ATTACK, (uint64_t)number_of(a, in->image), (uint64_t)in->restart);
    const bool random = a->options->method == CNN_ATTACK_PGD && a->options->random_start;
    cnn_ball_begin(image_of(a, in->image), a->values, a->eps, random, seed, a->origin + first, a->at + first);
}

static void move(attacker *a, int s)
{
    const size_t first = (size_t)s * a->values;
    cnn_ball_move(a->gradient + first, a->origin + first, a->values, a->eps, a->step, a->at + first);
}

/* The bytes next to where the slots are, no further than eps from the image. */
static void round_slots(attacker *a)
{
    for (size_t i = 0; i < (size_t)a->batch * a->values; i++) {
        const int origin = (int)lrintf(255.0f * a->origin[i]), near = (int)lrintf(255.0f * a->at[i]);
        const int low = origin - a->radius, high = origin + a->radius;
        a->bytes[i] = (uint8_t)(near < low ? low : near > high ? high : near);
    }
}

/* What the model reads of the first `count` slots. */
static cnn_status look(attacker *a, int count)
{
    if (!a->options->sanitize)
        return CNN_OK;
    const cnn_tensor_desc shape = cnn_model_input(a->model);
    const cnn_status status = cnn_sanitize(a->options->sanitize, &shape, a->bytes, count, a->sanitized);
    for (size_t i = 0; status == CNN_OK && i < (size_t)count * a->values; i++)
        a->seen[i] = (float)a->sanitized[i] / 255.0f;
    return status;
}

/* Lets the next image that the model gets right into an empty slot; false when none is left. */
static bool fill(attacker *a, int s)
{
    while (a->next < a->count && !a->right[a->next]) {
        a->next++;
        a->done++;
    }
    if (a->next == a->count)
        return false;
    a->slots[s] = (slot){.image = a->next++};
    a->labels[s] = a->data->labels[number_of(a, a->slots[s].image)];
    start(a, s);
    return true;
}

static int fill_all(attacker *a)
{
    int used = 0;
    for (int s = 0; s < a->batch; s++)
        used += a->slots[s].image >= 0 || fill(a, s);
    return used;
}

static int best(const float *logits, int32_t classes)
{
    int found = 0;
    for (int k = 1; k < classes; k++)
        if (logits[k] > logits[found])
            found = k;
    return found;
}

/* What comes of a slot after its scores and gradients are there. */
static void advance(attacker *a, int s)
{
    slot *in = &a->slots[s];
    const bool fooled = best(a->logits + (size_t)s * (size_t)a->classes, a->classes) != a->labels[s];
    if (!fooled && in->step < a->steps) {
        move(a, s);
        in->step++;
        return;
    }
    if (!fooled && in->restart + 1 < a->restarts) {
        in->restart++;
        in->step = 0;
        start(a, s);
        return;
    }
    if (a->found)
        memcpy(a->found + (size_t)in->image * a->values, a->bytes + (size_t)s * a->values, a->values);
    a->result.attacked += !fooled;
    a->done++;
    in->image = -1;
}

/* ---- The attack ---- */

static cnn_status allocate(attacker *a)
{
    const size_t batch = (size_t)a->batch, all = batch * a->values;
    a->slots = cnn_calloc(batch, sizeof *a->slots);
    a->origin = cnn_calloc(all, sizeof *a->origin);
    a->at = cnn_calloc(all, sizeof *a->at);
    a->gradient = cnn_calloc(all, sizeof *a->gradient);
    a->logits = cnn_calloc(batch * (size_t)a->classes, sizeof *a->logits);
    a->bytes = cnn_calloc(all, 1);
    a->labels = cnn_calloc(batch, 1);
    a->right = cnn_calloc((size_t)a->count, sizeof *a->right);
    a->sanitized = a->options->sanitize ? cnn_calloc(all, 1) : a->bytes;
    a->seen = a->options->sanitize ? cnn_calloc(all, sizeof *a->seen) : a->at;
    const bool whole = a->sanitized && a->seen && a->slots && a->origin && a->at && a->gradient && a->logits &&
                       a->bytes && a->labels && a->right;
    for (int s = 0; whole && s < a->batch; s++)
        a->slots[s].image = -1;
    return whole ? CNN_OK : CNN_ERR_MEMORY;
}

/* Answers to the images as they are. */
static cnn_status answer_clean(attacker *a)
{
    cnn_status status = CNN_OK;
    for (int64_t first = 0; first < a->count; first += a->batch) {
        const int many = a->count - first < a->batch ? (int)(a->count - first) : a->batch;
        for (int i = 0; i < many; i++)
            memcpy(a->bytes + (size_t)i * a->values, image_of(a, first + i), a->values);
        CNN_TRY(look(a, many));
        CNN_TRY(cnn_session_infer(a->target.session, a->sanitized, many, a->logits));
        for (int i = 0; i < many; i++) {
            const int label = a->data->labels[number_of(a, first + i)];
            a->right[first + i] = best(a->logits + (size_t)i * (size_t)a->classes, a->classes) == label;
            a->result.clean += a->right[first + i];
        }
        if (a->found)
            memcpy(a->found + (size_t)first * a->values, a->bytes, (size_t)many * a->values);
    }
out:
    return status;
}

static cnn_status attack(attacker *a)
{
    cnn_status status = CNN_OK;
    for (int used; (used = fill_all(a)) > 0;) {
        round_slots(a);
        CNN_TRY(look(a, a->batch));
        CNN_TRY(ask_all(a));
        a->result.gradients += used;
        for (int s = 0; s < a->batch; s++)
            if (a->slots[s].image >= 0)
                advance(a, s);
        if (a->options->progress && !a->options->progress(a->options->context, a->done, a->count))
            CNN_FAIL(CNN_ERR_CANCELLED, "the attack was stopped after %lld of %lld images", (long long)a->done,
                     (long long)a->count);
    }
out:
    return status;
}

cnn_status cnn_attack(cnn_model *model, const cnn_dataset *data, const int32_t *index, int64_t count,
                      const cnn_attack_options *options, uint8_t *found, cnn_attack_result *result)
{
    cnn_status status = CNN_OK;
    const bool once = options->method == CNN_ATTACK_FGSM;
    const int batch = options->batch ? options->batch : STANDARD_BATCH;
    attacker a = {.model = model, .options = options, .data = data, .index = index, .count = count, .found = found};
    CNN_TRY(check_options(options));
    if (count < 1)
        CNN_FAIL(CNN_ERR_USAGE, "there is no image to attack with");
    a.batch = count < batch ? (int)count : batch;
    a.steps = once ? 1 : options->steps;
    a.restarts = once ? 1 : options->restarts;
    a.eps = (float)options->eps;
    a.step = (float)(once ? options->eps : options->step);
    a.radius = (int)(255.0 * options->eps + 1e-6);
    CNN_TRY(open_oracle(model, &a, &a.target));
    if (options->source && options->source != model)
        CNN_TRY(open_oracle(options->source, &a, &a.source));
    a.values = cnn_session_image_bytes(a.target.session);
    a.classes = cnn_session_classes(a.target.session);
    CNN_TRY(allocate(&a));
    a.result.images = count;
    CNN_TRY(answer_clean(&a));
    CNN_TRY(attack(&a));
    *result = a.result;
out:
    if (options->sanitize) {
        free(a.sanitized);
        free(a.seen);
    }
    free(a.slots);
    free(a.origin);
    free(a.at);
    free(a.gradient);
    free(a.logits);
    free(a.bytes);
    free(a.labels);
    free(a.right);
    close_oracle(&a.source);
    close_oracle(&a.target);
    return status;
}
