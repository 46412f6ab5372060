/* Answers of a teacher, to all images or batch by batch. */
#include "train/teacher.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"
#include "core/pool.h"
#include "kernels/augment/apply.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_TASKS = 16 };

cnn_status cnn_teacher_check(const cnn_dataset *data, const cnn_train_options *options)
{
    if (!options->teacher)
        return CNN_OK;
    if (!(options->distill > 0 && options->distill <= 1))
        return cnn_error(CNN_ERR_USAGE, "the share of distillation is %g; it must be above 0 and at most 1",
                         (double)options->distill);
    if (!(options->temperature > 0) || !isfinite(options->temperature))
        return cnn_error(CNN_ERR_USAGE, "the temperature is %g; it must be positive", (double)options->temperature);
    cnn_status status = cnn_model_check_data(options->teacher, data);
    return status == CNN_OK ? CNN_OK : cnn_error_prefix(status, "teacher %s", options->teacher->name);
}

static cnn_status open_teacher(cnn_teacher *t, const cnn_train_options *options)
{
    return cnn_session_open(options->teacher, &(cnn_session_options){.device = options->device}, &t->session);
}

/* ---- All images ---- */

/* Unless an earlier run kept what it said; then nobody is asked. */
static cnn_status answer_all(cnn_teacher *t, const cnn_train_options *options)
{
    cnn_status status = CNN_OK;
    float *logits = NULL, **kept = options->answers;
    if (kept && *kept)
        return cnn_session_set_teacher(t->student, *kept);
    CNN_TRY(open_teacher(t, options));
    logits = cnn_calloc((size_t)t->data->count * (size_t)cnn_session_classes(t->student), sizeof *logits);
    if (!logits)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_session_infer(t->session, t->data->images, t->data->count, logits));
    CNN_TRY(cnn_session_set_teacher(t->student, logits));
    if (kept) {
        *kept = logits;
        logits = NULL;
    }
out:
    cnn_session_close(t->session);
    t->session = NULL;
    free(logits);
    return status;
}

/* ---- Batch by batch ---- */

static cnn_augment_shape shape_of(const cnn_dataset *data)
{
    return (cnn_augment_shape){data->height, data->width, data->channels};
}

static cnn_status make_room(cnn_teacher *t, const cnn_train_options *options, int batch)
{
    cnn_status status = CNN_OK;
    const size_t classes = (size_t)cnn_session_classes(t->student), images = (size_t)batch;
    CNN_TRY(open_teacher(t, options));
    t->images = cnn_calloc(images, cnn_session_image_bytes(t->student));
    t->logits = cnn_calloc(images * classes, sizeof *t->logits);
    t->scratch = cnn_calloc(MOST_TASKS * cnn_augment_scratch(shape_of(t->data)), sizeof *t->scratch);
    if (!t->images || !t->logits || !t->scratch)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_session_set_teacher(t->student, NULL));
out:
    return status;
}

typedef struct change {
    const cnn_teacher *teacher;
    const cnn_augment_params *draws;
    const int32_t *index;
    int count, tasks;
} change;

static void change_task(void *context, int task, int worker)
{
    const change *c = context;
    const cnn_teacher *t = c->teacher;
    const cnn_augment_shape shape = shape_of(t->data);
    const size_t bytes = cnn_session_image_bytes(t->student);
    float *scratch = t->scratch + (size_t)task * cnn_augment_scratch(shape);
    (void)worker;
    for (int i = task; i < c->count; i += c->tasks)
        cnn_augment_apply(&c->draws[i], t->recipe->mirror, shape, t->data->images + (size_t)c->index[i] * bytes,
                          t->images + (size_t)i * bytes, scratch);
}

cnn_status cnn_teacher_answer(cnn_teacher *t, const cnn_augment_params *draws, const int32_t *index, int count)
{
    cnn_status status = CNN_OK;
    change c = {t, draws, index, count, count < MOST_TASKS ? count : MOST_TASKS};
    if (!t->recipe)
        return CNN_OK;
    cnn_parallel(c.tasks, change_task, &c);
    CNN_TRY(cnn_session_infer(t->session, t->images, count, t->logits));
    CNN_TRY(cnn_session_tell(t->student, index, count, t->logits));
out:
    return status;
}

/* ---- Beginning and end ---- */

cnn_status cnn_teacher_begin(cnn_teacher *t, cnn_session *student, const cnn_dataset *data,
                             const cnn_train_options *options, const cnn_augment_recipe *recipe, int batch)
{
    *t = (cnn_teacher){.data = data, .recipe = recipe, .student = student};
    return recipe ? make_room(t, options, batch) : answer_all(t, options);
}

void cnn_teacher_free(cnn_teacher *t)
{
    cnn_session_close(t->session);
    free(t->images);
    free(t->logits);
    free(t->scratch);
    *t = (cnn_teacher){0};
}
