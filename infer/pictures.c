/* Pictures: read, prepare, run. */
#include "infer/pictures.h"

#include "cli/message.h"
#include "cnn/picture.h"
#include "core/backends.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/pool.h"

#include <stdlib.h>
#include <string.h>

/* Makes room for `more` images. */
static cnn_status reserve(const infer_run *run, picture_batch *batch, int more)
{
    int capacity = batch->capacity ? batch->capacity : 16;
    while (capacity < batch->images + more)
        capacity *= 2;
    if (capacity == batch->capacity)
        return CNN_OK;
    uint8_t *pixels = cnn_realloc(batch->pixels, (size_t)capacity, infer_image_bytes(run));
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

static cnn_status add_digits(const infer_run *run, const cnn_picture *picture, picture_entry *entry,
                             picture_batch *batch)
{
    cnn_digits digits;
    cnn_status status = cnn_picture_prepare_digits(picture, entry->file, &digits);
    if (status != CNN_OK)
        return status;
    status = reserve(run, batch, digits.count);
    for (int i = 0; status == CNN_OK && i < digits.count; i++) {
        const cnn_digit *digit = &digits.digit[i];
        int to = batch->images + i;
        memcpy(batch->pixels + (size_t)to * infer_image_bytes(run), digit->pixels, infer_image_bytes(run));
        batch->place[to] = (picture_place){digit->x, digit->y, digit->width, digit->height};
        entry->touching = entry->touching || digit->touching;
    }
    entry->count = digits.count;
    cnn_digits_free(&digits);
    return status;
}

static cnn_status add_image(const infer_run *run, const cnn_picture *picture, const cnn_image_form *form,
                            picture_entry *entry, picture_batch *batch)
{
    cnn_status status = reserve(run, batch, 1);
    if (status != CNN_OK)
        return status;
    entry->count = 1;
    batch->place[batch->images] = (picture_place){0, 0, picture->width, picture->height};
    return cnn_picture_prepare(picture, entry->file, form,
                               batch->pixels + (size_t)batch->images * infer_image_bytes(run));
}

/* Adds picture number `number` and its images to the batch, or leaves both out. */
static cnn_status add_picture(infer_run *run, int number, picture_batch *batch)
{
    const char *path = run->cli->operands.list[number];
    cnn_picture picture = {0};
    picture_entry entry = {.file = path, .first = batch->images};
    if (number == 0) {
        picture = run->first;
        run->first = (cnn_picture){0};
    }
    cnn_status status = picture.rgba ? CNN_OK : cnn_picture_read(path, &picture);
    if (status != CNN_OK)
        return status;
    const cnn_image_form form = cnn_model_form(run->model);
    status = form.preparation == CNN_PREPARE_DIGIT ? add_digits(run, &picture, &entry, batch)
                                                   : add_image(run, &picture, &form, &entry, batch);
    cnn_picture_free(&picture);
    if (status != CNN_OK)
        return status;
    batch->entry[batch->count++] = entry;
    batch->images += entry.count;
    return CNN_OK;
}

/* ---- The model and the first picture, side by side ---- */

typedef struct opening {
    infer_run *run;
    cnn_status (*open)(infer_run *run);
    cnn_status status;
    char *problem; /* why the model cannot be opened: errors are kept for each thread */
} opening;

static void open_task(void *context, int task, int worker)
{
    opening *both = context;
    (void)worker;
    if (task > 0) {
        (void)cnn_picture_read(both->run->cli->operands.list[0], &both->run->first); /* what fails will fail again */
        return;
    }
    both->status = both->open(both->run);
    if (both->status != CNN_OK)
        both->problem = cnn_strdup(cnn_last_error());
}

/* Whether what one thread opens on this device another one may use. */
static bool may_open_elsewhere(const infer_run *run)
{
    const cnn_backend *backend;
    const char *variant;
    return cnn_backend_find(run->device[0], &backend, &variant) == CNN_OK && backend->host_memory;
}

cnn_status infer_open_beside_picture(infer_run *run, cnn_status (*open)(infer_run *run))
{
    opening both = {.run = run, .open = open};
    if (run->cli->operands.count == 0 || cnn_get_threads() < 2 || !may_open_elsewhere(run))
        return open(run);
    cnn_parallel(2, open_task, &both);
    if (both.problem)
        cnn_error(both.status, "%s", both.problem);
    free(both.problem);
    return both.status;
}

/* ---- All pictures, side by side ---- */

/* What a task made of one picture: itself and its images, or the sentence that says why not. */
typedef struct picture_result {
    picture_batch batch; /* one picture */
    picture_entry entry; /* of it */
    bool failed;
    char *problem; /* NULL: there was no memory even for that */
} picture_result;

typedef struct picture_work {
    infer_run *run;
    picture_result *result; /* [pictures] */
    bool ahead;             /* task 0 makes the program for the images while others prepare them */
} picture_work;

static void do_task(void *context, int task, int worker)
{
    const picture_work *work = context;
    const cnn_operands *operands = &work->run->cli->operands;
    (void)worker;
    if (work->ahead && task-- == 0) {
        (void)cnn_session_prepare(work->run->session, operands->count); /* what fails will fail again when it is used */
        return;
    }
    picture_result *result = &work->result[task];
    result->batch.entry = &result->entry;
    result->failed = add_picture(work->run, task, &result->batch) != CNN_OK;
    if (result->failed)
        result->problem = cnn_strdup(cnn_last_error()); /* errors are kept for each thread */
}

/* Appends one picture to those before it. */
static cnn_status append(const infer_run *run, const picture_result *result, picture_batch *batch)
{
    const picture_batch *one = &result->batch;
    cnn_status status = reserve(run, batch, one->images);
    if (status != CNN_OK)
        return status;
    memcpy(batch->pixels + (size_t)batch->images * infer_image_bytes(run), one->pixels,
           (size_t)one->images * infer_image_bytes(run));
    memcpy(batch->place + batch->images, one->place, (size_t)one->images * sizeof *one->place);
    batch->entry[batch->count] = result->entry;
    batch->entry[batch->count++].first = batch->images;
    batch->images += one->images;
    return CNN_OK;
}

/* Reads all pictures, reports those that cannot be read and collects the others. */
static cnn_status collect(infer_run *run, picture_batch *batch)
{
    const int count = run->cli->operands.count;
    picture_work work = {.run = run, .ahead = cnn_get_threads() > 1};
    cnn_status status = CNN_OK;
    work.result = cnn_calloc((size_t)count, sizeof *work.result);
    if (!work.result)
        return CNN_ERR_MEMORY;
    cnn_parallel(count + work.ahead, do_task, &work);
    for (int i = 0; i < count; i++) {
        picture_result *result = &work.result[i];
        if (result->failed)
            cnn_message_error(run->cli, "%s", result->problem ? result->problem : "out of memory");
        else if (status == CNN_OK)
            status = append(run, result, batch);
        free(result->problem);
        free(result->batch.pixels);
        free(result->batch.place);
    }
    free(work.result);
    return status;
}

cnn_status infer_pictures(infer_run *run)
{
    const cnn_operands *operands = &run->cli->operands;
    picture_batch batch = {.entry = cnn_calloc((size_t)operands->count, sizeof *batch.entry)};
    cnn_status status = batch.entry ? collect(run, &batch) : CNN_ERR_MEMORY;
    if (status == CNN_OK && batch.images > 0) {
        batch.logits = cnn_calloc((size_t)batch.images * (size_t)run->classes, sizeof *batch.logits);
        status =
            batch.logits ? cnn_session_infer(run->session, batch.pixels, batch.images, batch.logits) : CNN_ERR_MEMORY;
    }
    if (status == CNN_OK && (batch.count > 0 || run->cli->common.json))
        status = infer_print_results(run, &batch);
    free(batch.entry);
    free(batch.pixels);
    free(batch.place);
    free(batch.logits);
    return status;
}
