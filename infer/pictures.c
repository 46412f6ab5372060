/* Pictures: read, prepare, run. */
#include "infer/pictures.h"

#include "cli/message.h"
#include "cli/sandbox.h"
#include "cnn/picture.h"
#include "core/backends.h"
#include "core/error.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What a task made of one picture: itself and its images, or the sentence that says why not. */
typedef struct picture_result {
    picture_batch batch; /* one picture */
    picture_entry entry; /* of it */
    bool failed;
    char *problem; /* NULL: there was no memory even for that */
} picture_result;

typedef struct picture_work {
    infer_run *run;
    cnn_image_form form;    /* of what the model reads */
    picture_result *result; /* [pictures] */

    /* One task more, if it is wanted: it opens the model, if that is not open yet, and makes the program for a picture
     * that shows one digit. */
    bool ahead;
    cnn_status (*open)(infer_run *run); /* NULL: it is open */
    cnn_status status;
    char *problem; /* why the model cannot be opened */
} picture_work;

static size_t image_bytes(const cnn_image_form *form)
{
    return (size_t)form->height * (size_t)form->width * (size_t)form->channels;
}

/* ---- One picture ---- */

/* Makes room for `more` images. */
static cnn_status reserve(const cnn_image_form *form, picture_batch *batch, int more)
{
    int capacity = batch->capacity ? batch->capacity : 16;
    while (capacity < batch->images + more)
        capacity *= 2;
    if (capacity == batch->capacity)
        return CNN_OK;
    uint8_t *pixels = cnn_realloc(batch->pixels, (size_t)capacity, image_bytes(form));
    if (!pixels)
        return CNN_ERR_MEMORY;
    batch->pixels = pixels;
    picture_place *place = cnn_realloc(batch->place, (size_t)capacity, sizeof *place);
    if (!place)
        return CNN_ERR_MEMORY;
    batch->place = place;
    batch->capacity = capacity;
    return CNN_OK;
}

static cnn_status add_digits(const cnn_image_form *form, const cnn_picture *picture, picture_entry *entry,
                             picture_batch *batch)
{
    cnn_digits digits;
    cnn_status status = cnn_picture_prepare_digits(picture, entry->file, &digits);
    if (status != CNN_OK)
        return status;
    status = reserve(form, batch, digits.count);
    for (int i = 0; status == CNN_OK && i < digits.count; i++) {
        const cnn_digit *digit = &digits.digit[i];
        int to = batch->images + i;
        memcpy(batch->pixels + (size_t)to * image_bytes(form), digit->pixels, image_bytes(form));
        batch->place[to] = (picture_place){digit->x, digit->y, digit->width, digit->height};
        entry->touching = entry->touching || digit->touching;
    }
    entry->count = digits.count;
    cnn_digits_free(&digits);
    return status;
}

static cnn_status add_image(const cnn_image_form *form, const cnn_picture *picture, picture_entry *entry,
                            picture_batch *batch)
{
    cnn_status status = reserve(form, batch, 1);
    if (status != CNN_OK)
        return status;
    entry->count = 1;
    batch->place[batch->images] = (picture_place){0, 0, picture->width, picture->height};
    return cnn_picture_prepare(picture, entry->file, form, batch->pixels + (size_t)batch->images * image_bytes(form));
}

/* Adds a picture and its images to the batch, or leaves both out. */
static cnn_status add_picture(const cnn_image_form *form, const char *path, picture_batch *batch)
{
    cnn_picture picture;
    picture_entry entry = {.file = path, .first = batch->images};
    cnn_status status = cnn_picture_read(path, &picture);
    if (status != CNN_OK)
        return status;
    status = form->preparation == CNN_PREPARE_DIGIT ? add_digits(form, &picture, &entry, batch)
                                                    : add_image(form, &picture, &entry, batch);
    cnn_picture_free(&picture);
    if (status != CNN_OK)
        return status;
    batch->entry[batch->count++] = entry;
    batch->images += entry.count;
    return CNN_OK;
}

/* ---- All pictures and the model, side by side ---- */

static void open_ahead(picture_work *work)
{
    if (work->open)
        work->status = work->open(work->run);
    if (work->status != CNN_OK)
        work->problem = cnn_strdup(cnn_last_error()); /* errors are kept for each thread */
    else
        (void)cnn_session_prepare(work->run->session, work->run->cli->operands.count); /* what fails will fail again */
}

/* The first picture comes first: it takes more time than the model does. */
static void do_task(void *context, int task, int worker)
{
    enum { MODEL = 1 };
    picture_work *work = context;
    (void)worker;
    if (work->ahead && task == MODEL) {
        open_ahead(work);
        return;
    }
    const int number = work->ahead && task > MODEL ? task - 1 : task;
    picture_result *result = &work->result[number];
    result->batch.entry = &result->entry;
    result->failed = add_picture(&work->form, work->run->cli->operands.list[number], &result->batch) != CNN_OK;
    if (result->failed)
        result->problem = cnn_strdup(cnn_last_error());
}

/* Whether the model can be opened by another thread, and its form be known before: its file must be one that can be
 * read twice, and a device one that any thread may use. */
static bool may_open_beside(const infer_run *run)
{
    const cnn_backend *backend;
    const char *variant;
    struct stat info;
    return cnn_get_threads() > 1 && stat(run->path, &info) == 0 && S_ISREG(info.st_mode) &&
           cnn_backend_find(run->device[0], &backend, &variant) == CNN_OK && backend->host_memory;
}

/* Sets the form; opens the model unless a task will. */
static cnn_status begin(picture_work *work, cnn_status (*open)(infer_run *run))
{
    work->ahead = cnn_get_threads() > 1;
    if (may_open_beside(work->run) && cnn_file_form(work->run->path, &work->form) == CNN_OK) {
        work->open = open;
        return CNN_OK;
    }
    cnn_status status = open(work->run);
    if (status == CNN_OK)
        work->form = cnn_model_form(work->run->model);
    return status;
}

/* Appends one picture to those before it. */
static cnn_status append(const cnn_image_form *form, const picture_result *result, picture_batch *batch)
{
    const picture_batch *one = &result->batch;
    cnn_status status = reserve(form, batch, one->images);
    if (status != CNN_OK)
        return status;
    memcpy(batch->pixels + (size_t)batch->images * image_bytes(form), one->pixels,
           (size_t)one->images * image_bytes(form));
    memcpy(batch->place + batch->images, one->place, (size_t)one->images * sizeof *one->place);
    batch->entry[batch->count] = result->entry;
    batch->entry[batch->count++].first = batch->images;
    batch->images += one->images;
    return CNN_OK;
}

/* Opens the model and reads all pictures; reports those that cannot be read and collects the others. */
static cnn_status collect(infer_run *run, cnn_status (*open)(infer_run *run), picture_batch *batch)
{
    const int count = run->cli->operands.count;
    picture_work work = {.run = run};
    cnn_status status = begin(&work, open);
    if (status != CNN_OK)
        return status;
    work.result = cnn_calloc((size_t)count, sizeof *work.result);
    if (!work.result)
        return CNN_ERR_MEMORY;
    cnn_parallel(count + work.ahead, do_task, &work);
    status = work.status;
    if (work.problem)
        cnn_error(status, "%s", work.problem);
    for (int i = 0; i < count; i++) {
        picture_result *result = &work.result[i];
        if (result->failed && work.status == CNN_OK)
            cnn_message_error(run->cli, "%s", result->problem ? result->problem : "out of memory");
        else if (status == CNN_OK)
            status = append(&work.form, result, batch);
        free(result->problem);
        free(result->batch.pixels);
        free(result->batch.place);
    }
    free(work.problem);
    free(work.result);
    return status;
}

/* --sanitize: answers to changed images, and which pictures they make suspect. */
static cnn_status sanitize(infer_run *run, picture_batch *batch)
{
    if (!run->settings->sanitize || batch->images == 0)
        return CNN_OK;
    bool *changed = cnn_calloc((size_t)batch->images, sizeof *changed);
    cnn_status status =
        changed ? infer_sanitize(run, batch->pixels, batch->images, batch->logits, changed) : CNN_ERR_MEMORY;
    for (int i = 0; status == CNN_OK && i < batch->count; i++)
        for (int k = 0; k < batch->entry[i].count; k++)
            batch->entry[i].changed |= changed[batch->entry[i].first + k];
    free(changed);
    return status;
}

cnn_status infer_pictures(infer_run *run, cnn_status (*open)(infer_run *run))
{
    const cnn_operands *operands = &run->cli->operands;
    picture_batch batch = {.entry = cnn_calloc((size_t)operands->count, sizeof *batch.entry)};
    cnn_status status = batch.entry ? collect(run, open, &batch) : CNN_ERR_MEMORY;
    if (status == CNN_OK && run->settings->sandbox)
        status = cnn_sandbox_seal();
    if (status == CNN_OK && batch.images > 0) {
        batch.logits = cnn_calloc((size_t)batch.images * (size_t)run->classes, sizeof *batch.logits);
        status =
            batch.logits ? cnn_session_infer(run->session, batch.pixels, batch.images, batch.logits) : CNN_ERR_MEMORY;
    }
    if (status == CNN_OK)
        status = sanitize(run, &batch);
    if (status == CNN_OK && (batch.count > 0 || run->cli->common.json))
        status = infer_print_results(run, &batch);
    free(batch.entry);
    free(batch.pixels);
    free(batch.place);
    free(batch.logits);
    return status;
}
