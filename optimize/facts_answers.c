/* What the model answered before and what it answers now, on the validation images: confusion matrices, and the
 * pictures on which the answer is another. */
#include "optimize/facts.h"

#include "core/class_names.h"
#include "core/error.h"
#include "core/png_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order in which pictures are shown. */
enum { BROKEN, MENDED, OTHER, KINDS };

/* The name of a class, its number where it has none. */
static const char *name_of(const opt_job *job, int label, char number[12])
{
    const char *name = cnn_model_class_name(job->model, label);
    if (!name)
        name = cnn_dataset_label_name(job->data, label);
    snprintf(number, 12, "%d", label);
    return name ? name : number;
}

static cnn_status name_classes(const opt_job *job, opt_facts *facts)
{
    char number[12], *text;
    size_t bytes = 0;
    for (int i = 0; i < facts->classes; i++)
        bytes += strlen(name_of(job, i, number)) + 1;
    facts->class_names = cnn_class_names_alloc(facts->classes, bytes, &text);
    if (!facts->class_names)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < facts->classes; i++) {
        const char *name = name_of(job, i, number);
        facts->class_names[i] = memcpy(text, name, strlen(name) + 1);
        text += strlen(name) + 1;
    }
    return CNN_OK;
}

/* Logits of the validation images, and where they were computed. */
static cnn_status answer(opt_job *job, cnn_model *model, cnn_measure_fn progress, void *context, float *logits)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    opt_facts *facts = job->account->facts;
    const cnn_image_list images = {job->data, job->split.validation, job->split.validation_count};
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = job->cli->common.device}, &session));
    snprintf(facts->device, sizeof facts->device, "%s", cnn_session_device(session));
    CNN_TRY(cnn_answers_logits(session, &images, facts->classes, progress, context, logits));
out:
    cnn_session_close(session);
    return status;
}

/* ---- Pictures ---- */

typedef struct change {
    opt_picture picture;
    int kind;
} change;

static int compare_changes(const void *left, const void *right)
{
    const change *a = left, *b = right;
    if (a->kind != b->kind)
        return a->kind - b->kind;
    if (a->picture.p_after != b->picture.p_after)
        return a->picture.p_after > b->picture.p_after ? -1 : 1;
    return (a->picture.image > b->picture.image) - (a->picture.image < b->picture.image);
}

/* How many pictures of each kind are shown: a third at least of each, where there are as many; what one kind leaves
 * free goes to those before it first. */
static void share_out(const int32_t found[KINDS], int32_t shown[KINDS])
{
    int32_t left = OPT_MOST_PICTURES;
    for (int kind = 0; kind < KINDS; kind++) {
        shown[kind] = found[kind] < OPT_MOST_PICTURES / KINDS ? found[kind] : OPT_MOST_PICTURES / KINDS;
        left -= shown[kind];
    }
    for (int kind = 0; kind < KINDS; kind++) {
        int32_t more = found[kind] - shown[kind] < left ? found[kind] - shown[kind] : left;
        shown[kind] += more;
        left -= more;
    }
}

static cnn_status draw(const opt_job *job, opt_picture *picture)
{
    const cnn_dataset *data = job->data;
    const size_t bytes = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
    if (data->channels != 1 && data->channels != 3)
        return CNN_OK;
    return cnn_png_encode(data->images + (size_t)picture->image * bytes, data->width, data->height, data->channels,
                          &picture->png, &picture->png_bytes);
}

static cnn_status choose_pictures(const opt_job *job, opt_facts *facts, change *changes, int32_t count)
{
    cnn_status status = CNN_OK;
    const int32_t found[KINDS] = {facts->broken, facts->mended, facts->other};
    int32_t shown[KINDS], taken[KINDS] = {0};
    share_out(found, shown);
    qsort(changes, (size_t)count, sizeof *changes, compare_changes);
    for (int32_t i = 0; i < count; i++) {
        if (taken[changes[i].kind]++ >= shown[changes[i].kind])
            continue;
        opt_picture *picture = &facts->pictures[facts->picture_count++];
        *picture = changes[i].picture;
        CNN_TRY(draw(job, picture));
    }
out:
    return status;
}

/* ---- Both models ---- */

static int kind_of(const opt_picture *picture)
{
    return picture->before == picture->label ? BROKEN : picture->after == picture->label ? MENDED : OTHER;
}

/* Fills the matrices and lists what changed, up to [images]. */
static int32_t compare(const opt_job *job, opt_facts *facts, const float *before, const float *after, change *changes)
{
    const int classes = facts->classes;
    int32_t count = 0, *kinds[KINDS] = {&facts->broken, &facts->mended, &facts->other};
    for (int32_t i = 0; i < facts->images; i++) {
        const float *old = before + (int64_t)i * classes, *new = after + (int64_t)i *classes;
        opt_picture picture = {.image = job->split.validation[i]};
        picture.label = job->data->labels[picture.image];
        picture.before = cnn_answers_best(old, classes);
        picture.after = cnn_answers_best(new, classes);
        facts->confusion_before[picture.label * classes + picture.before]++;
        facts->confusion[picture.label * classes + picture.after]++;
        if (picture.before == picture.after)
            continue;
        picture.p_before = cnn_answers_probability(old, classes, picture.before);
        picture.p_after = cnn_answers_probability(new, classes, picture.after);
        changes[count] = (change){picture, kind_of(&picture)};
        ++*kinds[changes[count++].kind];
    }
    return count;
}

cnn_status opt_facts_answers(opt_job *job, cnn_measure_fn progress, void *context)
{
    cnn_status status = CNN_OK;
    opt_facts *facts = job->account->facts;
    facts->images = job->split.validation_count;
    facts->classes = cnn_model_output(job->model).c;
    facts->height = job->data->height;
    facts->width = job->data->width;
    const size_t cells = (size_t)facts->classes * (size_t)facts->classes;
    const size_t values = (size_t)facts->images * (size_t)facts->classes;
    float *before = cnn_calloc(values, sizeof *before), *after = cnn_calloc(values, sizeof *after);
    change *changes = cnn_calloc((size_t)facts->images, sizeof *changes);
    facts->confusion_before = cnn_calloc(cells, sizeof *facts->confusion_before);
    facts->confusion = cnn_calloc(cells, sizeof *facts->confusion);
    if (!before || !after || !changes || !facts->confusion_before || !facts->confusion)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(name_classes(job, facts));
    CNN_TRY(answer(job, job->given, progress, context, before));
    CNN_TRY(answer(job, job->model, progress, context, after));
    CNN_TRY(choose_pictures(job, facts, changes, compare(job, facts, before, after, changes)));
out:
    free(before);
    free(after);
    free(changes);
    return status;
}
