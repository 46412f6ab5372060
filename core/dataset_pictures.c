/* Data sets of pictures in folders: "png:DIR".
 *
 * Pictures are read in chunks, those of a chunk in parallel; what is broken is left out and told in the order of the
 * list, so that images, labels and messages do not depend on threads. Memory beside the images: a decoded picture of
 * up to SMALL_PIXELS for each thread, and one larger picture at a time. */
#include "core/dataset.h"

#include "core/class_names.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"
#include "core/picture.h"
#include "core/picture_list.h"
#include "core/pool.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STANDARD_SIDE = 28,
    CHUNK_PICTURES = 64,
    SMALL_PIXELS = 4 << 20, /* 32 MiB as 16-bit RGBA */
    NAMED_PROBLEMS = 3      /* that are told one by one */
};

static const uint64_t max_images_bytes = (uint64_t)8 << 30;

typedef struct loading {
    const cnn_dataset_options *options;
    cnn_picture_list list;
    cnn_image_form form; /* RGB while it is not known whether all pictures are gray */
    size_t image_bytes;
    uint8_t *images; /* [list.count, image_bytes]: those kept so far, then those of the chunk */
    uint8_t *labels; /* [list.count] */
    int32_t first, kept, problems;
    cnn_status status[CHUNK_PICTURES]; /* of the chunk's pictures ... */
    char *sentence[CHUNK_PICTURES];    /* ... and why one could not be used; NULL when memory is out */
    pthread_mutex_t large;             /* held while a large picture is in memory */
} loading;

/* ---- Reading a picture ---- */

static cnn_status read_picture(const loading *load, const char *path, uint8_t *pixels)
{
    cnn_picture picture;
    cnn_status status = cnn_picture_read(path, &picture);
    if (status != CNN_OK)
        return status;
    status = cnn_picture_prepare(&picture, path, &load->form, pixels);
    cnn_picture_free(&picture);
    return status;
}

static void read_task(void *context, int task, int worker)
{
    loading *load = context;
    const char *path = load->list.files[load->first + task].path;
    bool large = cnn_picture_count_pixels(path) > SMALL_PIXELS;
    (void)worker;
    if (large)
        pthread_mutex_lock(&load->large);
    load->status[task] = read_picture(load, path, load->images + (size_t)(load->first + task) * load->image_bytes);
    if (large)
        pthread_mutex_unlock(&load->large);
    if (load->status[task] != CNN_OK && !(load->sentence[task] = cnn_strdup(cnn_last_error())))
        load->status[task] = CNN_ERR_MEMORY;
}

/* ---- What the user is told ---- */

CNN_PRINTF(2, 3)
static void warn(const loading *load, const char *format, ...)
{
    char sentence[512];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (load->options && load->options->warn)
        load->options->warn(load->options->context, sentence);
}

/* Moves the chunk's good images together; counts the others and names the first few. */
static cnn_status finish_chunk(loading *load, int count)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < count; i++) {
        int32_t from = load->first + i;
        const char *sentence = load->sentence[i] ? load->sentence[i] : "out of memory while reading pictures";
        if (load->status[i] == CNN_OK) {
            memmove(load->images + (size_t)load->kept * load->image_bytes,
                    load->images + (size_t)from * load->image_bytes, load->image_bytes);
            load->labels[load->kept++] = load->list.files[from].label;
        } else if (load->status[i] == CNN_ERR_MEMORY || load->status[i] == CNN_ERR_USAGE) {
            status = status == CNN_OK ? cnn_error(load->status[i], "%s", sentence) : status;
        } else if (load->problems++ < NAMED_PROBLEMS) {
            warn(load, "%s; it is left out", sentence);
        }
        free(load->sentence[i]);
        load->sentence[i] = NULL;
    }
    return status;
}

static cnn_status read_all(loading *load)
{
    cnn_status status = CNN_OK;
    for (load->first = 0; load->first < load->list.count && status == CNN_OK; load->first += CHUNK_PICTURES) {
        int32_t left = load->list.count - load->first;
        int count = left < CHUNK_PICTURES ? left : CHUNK_PICTURES;
        cnn_parallel(count, read_task, load);
        status = finish_chunk(load, count);
        if (status == CNN_OK && load->options && load->options->progress)
            load->options->progress(load->options->context, load->first + count, load->list.count);
    }
    if (load->problems > NAMED_PROBLEMS)
        warn(load, "%d more pictures cannot be used and are left out", load->problems - NAMED_PROBLEMS);
    return status;
}

/* ---- The whole ---- */

/* What pictures are made into, channels 0 while they are the pictures' to decide. */
static cnn_status choose_form(const cnn_dataset_options *options, cnn_image_form *form)
{
    *form = options ? options->form : (cnn_image_form){0};
    if (form->preparation == CNN_PREPARE_UNKNOWN)
        form->preparation = CNN_PREPARE_RESIZE;
    if (form->height == 0 && form->width == 0)
        form->height = form->width = STANDARD_SIDE;
    if (form->height < 1 || form->width < 1 || form->height > CNN_MAX_SIDE || form->width > CNN_MAX_SIDE)
        return cnn_error(CNN_ERR_USAGE, "images of %dx%d: each side is 1 to %d pixels", form->height, form->width,
                         CNN_MAX_SIDE);
    if (form->channels != 0 && form->channels != 1 && form->channels != 3)
        return cnn_error(CNN_ERR_USAGE, "pictures give 1 or 3 channels (gray or RGB), not %d", form->channels);
    if (form->preparation != CNN_PREPARE_DIGIT)
        return CNN_OK;
    if (form->height != CNN_DIGIT_SIDE || form->width != CNN_DIGIT_SIDE || form->channels == 3)
        return cnn_error(CNN_ERR_USAGE, "digits are prepared as gray images of %dx%d, and no others", CNN_DIGIT_SIDE,
                         CNN_DIGIT_SIDE);
    form->channels = 1;
    return CNN_OK;
}

static cnn_status allocate(loading *load, const char *folder)
{
    size_t count = (size_t)load->list.count;
    load->image_bytes = (size_t)load->form.height * (size_t)load->form.width * (size_t)load->form.channels;
    if (load->image_bytes > max_images_bytes / count)
        return cnn_error(CNN_ERR_SHAPE,
                         "%s: %d pictures as images of %dx%dx%d take more than 8 GiB; choose smaller images", folder,
                         load->list.count, load->form.height, load->form.width, load->form.channels);
    load->images = cnn_calloc(count, load->image_bytes);
    load->labels = cnn_calloc(count, 1);
    return load->images && load->labels ? CNN_OK : CNN_ERR_MEMORY;
}

/* RGB images that hold only grays become gray ones. */
static void drop_colour(loading *load)
{
    size_t pixels = (size_t)load->kept * (load->image_bytes / 3);
    for (size_t i = 0; i < pixels; i++)
        if (load->images[3 * i] != load->images[3 * i + 1] || load->images[3 * i] != load->images[3 * i + 2])
            return;
    for (size_t i = 0; i < pixels; i++)
        load->images[i] = load->images[3 * i];
    load->form.channels = 1;
}

/* Training needs usable pictures of every class, a test some. */
static cnn_status check_kept(const loading *load, const char *folder, cnn_subset subset)
{
    int32_t counts[CNN_MAX_CLASSES] = {0};
    for (int32_t i = 0; i < load->kept; i++)
        counts[load->labels[i]]++;
    for (int32_t k = 0; k < load->list.classes && subset == CNN_SUBSET_TRAIN; k++)
        if (counts[k] == 0)
            return cnn_error(CNN_ERR_FORMAT, "%s: none of the pictures of class '%s' can be used for training", folder,
                             load->list.class_names[k]);
    if (load->kept == 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: none of the %d test pictures can be used", folder, load->list.count);
    return CNN_OK;
}

static cnn_status hand_over(loading *load, cnn_dataset *dataset)
{
    /* What broken pictures and colour took is given back. */
    size_t image = (size_t)load->form.height * (size_t)load->form.width * (size_t)load->form.channels;
    uint8_t *shrunk = cnn_realloc(load->images, (size_t)load->kept, image);
    if (!shrunk)
        return CNN_ERR_MEMORY;
    load->images = shrunk;
    dataset->count = load->kept;
    dataset->height = load->form.height;
    dataset->width = load->form.width;
    dataset->channels = load->form.channels;
    dataset->preparation = load->form.preparation;
    dataset->classes = load->list.classes;
    dataset->class_names = load->list.class_names;
    dataset->images = load->images;
    dataset->labels = load->labels;
    load->list.class_names = NULL;
    load->images = load->labels = NULL;
    if (load->list.ignored)
        snprintf(dataset->note, sizeof dataset->note,
                 "%d file%s passed over: %s no PNG by name, or in no folder of a class", load->list.ignored,
                 load->list.ignored == 1 ? " is" : "s are", load->list.ignored == 1 ? "it is" : "they are");
    return CNN_OK;
}

cnn_status cnn_pictures_load(const char *folder, cnn_subset subset, const cnn_dataset_options *options,
                             cnn_dataset *dataset)
{
    cnn_status status = CNN_OK;
    loading load = {.options = options, .large = PTHREAD_MUTEX_INITIALIZER};
    CNN_TRY(choose_form(options, &load.form));
    bool any_colour = load.form.channels == 0;
    if (any_colour)
        load.form.channels = 3;
    CNN_TRY(cnn_picture_list_read(folder, subset, &load.list));
    CNN_TRY(allocate(&load, folder));
    CNN_TRY(read_all(&load));
    CNN_TRY(check_kept(&load, folder, subset));
    if (any_colour)
        drop_colour(&load);
    CNN_TRY(hand_over(&load, dataset));
out:
    cnn_picture_list_free(&load.list);
    free(load.images);
    free(load.labels);
    return status;
}
